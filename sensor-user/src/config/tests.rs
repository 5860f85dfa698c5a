//! Every rejected value, precedence of the layers, redaction.

use std::time::Duration;

use super::*;

/// A configuration from the text of a file, variables and flags (`("--interval", "interval", "2s")`).
fn load(text: &str, env: &[(&str, &str)], flags: &[(&str, &str, &str)]) -> Result<Config, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("leuko.toml");
    fs::write(&path, text).unwrap();
    let sources = ConfigSources {
        file: Some(path),
        env: env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        overrides: flags.iter().map(|(flag, path, text)| Override::new(flag, path, *text).unwrap()).collect(),
    };
    Config::load(&sources).map_err(|error| {
        assert!(!format!("{error:?} {error}").contains("hunter2"), "{error:?}");
        error.to_string().replace(&format!("{}/", dir.path().display()), "")
    })
}

#[test]
fn nothing_configured_is_the_default() {
    let config = Config::load(&ConfigSources::default()).unwrap();
    assert_eq!(config, Config::default());
    assert_eq!(config.interval.get(), Duration::from_secs(1));
    assert_eq!(Timeouts::from(config.timeouts), Timeouts::default());
    assert_eq!(config.metrics.listen.address().unwrap().port(), 9101);
}

#[test]
fn everything_can_be_configured() {
    let config = load(
        r#"
        interfaces = ["eth0", "veth*", "blue:eth?"]
        interval = "500ms"
        warmup = 0
        state_dir = "/tmp/leuko"
        log_file = "/tmp/leuko.log"
        log_level = "info,leuko::source=debug"
        sensor = "web-1"
        [kernel]
        xdp_mode = "generic"
        egress = "off"
        flows = 1024
        [timeouts]
        active = "1h"
        [metrics]
        listen = "off"
        [detect]
        disable = ["anomaly", "udp_flood"]
        allow = ["192.0.2.7", "10.0.0.0/8"]
        [[notify.alertmanager]]
        url = "http://127.0.0.1:9093"
        [notify.telegram]
        token = "1:hunter2"
        chat_ids = [1]
        "#,
        &[],
        &[],
    )
    .unwrap();
    assert_eq!(config.interval.get(), Duration::from_millis(500));
    assert_eq!(config.kernel.xdp_mode, XdpChoice::Off);
    assert_eq!(config.detect.disable, [Class::Anomaly, Class::UdpFlood]);
    assert!(config.detect.is_allowed("10.1.2.3".parse().unwrap()));
    assert!(!config.detect.is_allowed("192.0.2.8".parse().unwrap()));
    assert_eq!(config.sensor_name(), "web-1");
    assert_eq!(config.metrics.listen, Listen::Off);
    assert_eq!(config.notify.alertmanager.len(), 1);
}

#[test]
fn a_mistake_is_named_with_line_key_and_what_is_allowed() {
    for (text, error) in [
        ("interval = \"50ms\"", "leuko.toml:1: interval: must be from 100ms to 60s"),
        ("\n\ninterval = 61", "leuko.toml:3: interval: must be from 100ms to 60s"),
        ("interval = -1", "leuko.toml:1: interval: must be from 100ms to 60s"),
        ("interval = nan", "leuko.toml:1: interval: must be from 100ms to 60s"),
        ("interval = \"fast\"", "leuko.toml:1: interval: not a time span: write for instance \"60s\""),
        ("interval = true", "leuko.toml:1: interval: a time span such as \"60s\""),
        ("warmup = \"25h\"", "leuko.toml:1: warmup: must be from 0s to 24h"),
        ("warmup = \"500ms\"", "leuko.toml:1: warmup: a warm-up of 500ms is shorter than the interval of 1s"),
        ("interval = \"60s\"\nwarmup = \"30s\"", "leuko.toml:2: warmup: a warm-up of 30s is shorter"),
        ("state_dir = \"\"", "leuko.toml:1: state_dir: is empty: give a path"),
        ("state_dir = 5", "leuko.toml:1: state_dir: invalid type: integer `5`, expected text in quotes"),
        ("log_file = \"\"", "leuko.toml:1: log_file: is empty: give a path"),
        ("log_level = \"warning\"", "leuko.toml:1: log_level: must be one of error, warn, info, debug, trace, off"),
        ("log_level = \"info,a=b=c\"", "leuko.toml:1: log_level: must be one of error"),
        ("sensor = \" \"", "leuko.toml:1: sensor: not a name: 1 to 255 printable characters"),
        (
            "interfaces = \"eth0\"",
            "leuko.toml:1: interfaces: invalid type: string \"eth0\", expected a list in brackets",
        ),
        ("interfaces = [\n\"eth0\",\n\"a/b\"]", "leuko.toml:1: interfaces: \"a/b\" is not the name of an interface"),
        ("interfaces = [\"blue:\"]", "leuko.toml:1: interfaces: \"blue:\" is not the name of an interface"),
        ("interfaces = [\"eth0\", \"eth0\"]", "leuko.toml:1: interfaces: lists eth0 twice"),
        (
            "\n[kernel]\nxdp_mode = \"nativ\"",
            "leuko.toml:3: kernel.xdp_mode: unknown variant `nativ`, expected one of `auto`, `native`, `generic`, `off`; did you \
             mean `native`?",
        ),
        ("[kernel]\negress = 1", "leuko.toml:2: kernel.egress: expected text in quotes"),
        (
            "[kernel]\negress = \"tc\"",
            "leuko.toml:2: kernel.egress: unknown variant `tc`, expected one of `auto`, `tcx`",
        ),
        ("kernel.flows = 1023", "leuko.toml:1: kernel.flows: must be from 1024 to 16777216"),
        ("kernel.flows = 16_777_217", "leuko.toml:1: kernel.flows: must be from 1024 to 16777216"),
        (
            "kernel.flows = \"many\"",
            "leuko.toml:1: kernel.flows: invalid type: string \"many\", expected a whole number",
        ),
        ("kernel.sampling = 0", "leuko.toml:1: kernel.sampling: must be from 1 (every packet) to 65536"),
        ("kernel.tunnels = [\"vxlan\", \"l2tp\"]", "leuko.toml:1: kernel.tunnels: unknown variant `l2tp`"),
        ("kernel = 5", "leuko.toml:1: kernel: is a section: write [kernel]"),
        ("[timeouts]\ntcp_idle = 0", "leuko.toml:2: timeouts.tcp_idle: must be from 1ms to 24h"),
        ("[timeouts]\ntcp_idel = 1", "leuko.toml:2: timeouts.tcp_idel: unknown field `tcp_idel`"),
        ("metrics.listen = \"9101\"", "leuko.toml:1: metrics.listen: must be an address with a port such as"),
        ("metrics.listen = \"localhost:9101\"", "leuko.toml:1: metrics.listen: must be an address with a port"),
        (
            "[detect]\ndisable = [\"scan\"]",
            "leuko.toml:2: detect.disable: unknown variant `scan`, expected one of `port_scan`",
        ),
        (
            "[detect]\nallow = [\n  \"10.0.0.1/8\",\n]",
            "leuko.toml:2: detect.allow: \"10.0.0.1/8\" has bits set after the prefix",
        ),
        ("[detect]\nalerts_per_day = 0", "leuko.toml:2: detect.alerts_per_day: must be more than 0 and at most 100000"),
        (
            "[detect]\nalerts_per_day = 5\ncontamination = 0.01",
            "leuko.toml:3: detect.contamination: belongs to `leuko train`",
        ),
        ("[detect]\nallow = [\"::/0\"]", "leuko.toml:2: detect.allow: \"::/0\" is the whole Internet"),
        ("intervall = 1", "leuko.toml:1: intervall: unknown field `intervall`, expected one of"),
        ("interval = 1\ninterval = 2", "leuko.toml:2: duplicate key `interval`"),
        ("interval = ", "leuko.toml:1"),
        ("[[notify.alertmanager]]\nurl = \"am:9093\"", "leuko.toml:2: notify.alertmanager.url: not a URL"),
        ("[notify.telegram]\nchat_ids = [1]", "leuko.toml:1: notify.telegram: telegram needs a token or a token_file"),
        ("kernel = [\"native\"]", "leuko.toml:1: kernel: is a section"),
        ("[notify.alertmanager]\nurl = \"http://a\"", "leuko.toml:1: notify.alertmanager: there may be several"),
        ("[[notify.telegram]]\nchat_ids = [1]", "leuko.toml:1: notify.telegram: there is one"),
        ("[notify.pigeon]", "leuko.toml:1: notify.pigeon: unknown field `pigeon`"),
    ] {
        let found = load(text, &[], &[]).unwrap_err();
        assert!(found.starts_with(error), "{text}\n{found}\n{error}");
    }
}

#[test]
fn a_missing_file_is_an_error_when_it_was_asked_for() {
    let sources = ConfigSources { file: Some(PathBuf::from("/nonexistent/leuko.toml")), ..ConfigSources::default() };
    let error = Config::load(&sources).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/leuko.toml: No such file"), "{error}");
}

#[test]
fn flags_go_before_the_environment_and_that_before_the_file() {
    let file = "interval = \"2s\"\nwarmup = \"20s\"\nsensor = \"file\"";
    let env = [("LEUKO_INTERVAL", "3s"), ("LEUKO_WARMUP", "30"), ("PATH", "/bin"), ("LEUKO_SENSOR", "")];
    let config = load(file, &env, &[("--interval", "interval", "4s")]).unwrap();
    assert_eq!(config.interval.get(), Duration::from_secs(4));
    assert_eq!(config.warmup.get(), Duration::from_secs(30));
    assert_eq!(config.sensor_name(), "file");
}

#[test]
fn variables_reach_every_kind_of_setting() {
    let env = [
        ("LEUKO_INTERFACES", "eth0, eth1"),
        ("LEUKO_KERNEL_XDP_MODE", "native"),
        ("LEUKO_KERNEL_FLOWS", "4096"),
        ("LEUKO_METRICS_LISTEN", "off"),
        ("LEUKO_DETECT_DISABLE", "anomaly"),
        ("LEUKO_TELEGRAM_TOKEN", "1:hunter2"),
        ("LEUKO_NOTIFY_TELEGRAM_CHAT_IDS", "1,-2,@leuko"),
        ("LEUKO_TELEGRAM_SEND_UPDATES", "true"),
        ("LEUKO_TELEGRAM_API_BASE", "http://127.0.0.1:1"),
        ("LEUKO_ALERTMANAGER_URL", "http://a:9093,http://b:9093"),
        ("LEUKO_ALERTMANAGER_RESEND", "30s"),
        ("LEUKO_CONFIG", "/x"),
        ("LEUKO_PORT", "tcp://10.0.0.1:9101"),
        ("LEUKO_PORT_9101_TCP_PORT", "9101"),
        ("LEUKO_SERVICE_HOST", "10.0.0.1"),
    ];
    let config = load("", &env, &[]).unwrap();
    assert_eq!(config.interfaces.len(), 2);
    assert_eq!(config.kernel.flows.get(), 4096);
    let urls: Vec<_> = config.notify.alertmanager.iter().map(|one| one.url.to_string()).collect();
    assert_eq!(urls, ["http://a:9093", "http://b:9093"]);
    assert!(config.notify.alertmanager.iter().all(|one| one.resend.get() == Duration::from_secs(30)));
    let telegram = config.notify.telegram.unwrap();
    assert!(telegram.terms.send_updates);
    assert_eq!(telegram.chat_ids.len(), 3);
}

#[test]
fn the_file_and_the_environment_complete_each_other() {
    let file = "[notify.telegram]\nchat_ids = [1]\ntoken_file = \"/nonexistent\"\n[[notify.alertmanager]]\n\
                url = \"http://a\"\nbearer_token = \"hunter2\"";
    let env = [("LEUKO_TELEGRAM_TOKEN", "1:hunter2"), ("LEUKO_ALERTMANAGER_BEARER_TOKEN_FILE", "/run/am")];
    let config = load(file, &env, &[]).unwrap();
    assert_eq!(config.notify.telegram.as_ref().unwrap().token.load().unwrap().expose(), "1:hunter2");
    assert!(config.effective_toml_line("bearer_token_file").contains("/run/am"));

    let error = load("[notify.telegram]\nchat_ids = [1]", &[("LEUKO_TELEGRAM_TIMEOUT", "1s")], &[]).unwrap_err();
    assert!(error.contains("needs a token"), "{error}");
}

#[test]
fn a_mistake_of_the_environment_or_a_flag_is_named_by_it() {
    let telegram = ("LEUKO_TELEGRAM_CHAT_IDS", "1");
    for (env, error) in [
        (&[("LEUKO_INTERVAL", "5")] as &[(&str, &str)], ""),
        (&[("LEUKO_INTERVAL", "0")], "LEUKO_INTERVAL: must be from 100ms to 60s"),
        (&[("LEUKO_KERNEL_XDP_MODE", "nativ")], "LEUKO_KERNEL_XDP_MODE: unknown variant `nativ`"),
        (&[("LEUKO_INTERFACES", "eth0,a/b")], "LEUKO_INTERFACES: \"a/b\" is not the name of an interface"),
        (&[("LEUKO_INTERFACES", "eth0,eth0")], "LEUKO_INTERFACES: lists eth0 twice"),
        (&[("LEUKO_ALERTMANAGER_URL", "http://a,b")], "LEUKO_ALERTMANAGER_URL: not a URL"),
        (&[("LEUKO_ALERTMANAGER_RESEND", "9s")], "LEUKO_ALERTMANAGER_RESEND: missing field `url`"),
        (&[telegram], "LEUKO_TELEGRAM_CHAT_IDS: telegram needs a token"),
        (&[telegram, ("LEUKO_TELEGRAM_TOKEN", "a\nhunter2")], "LEUKO_TELEGRAM_TOKEN: the secret is not one line"),
        (&[telegram, ("LEUKO_TELEGRAM_TOKEN", "***")], "LEUKO_TELEGRAM_TOKEN: \"***\" stands for a secret"),
        (&[telegram, ("LEUKO_TELEGRAM_TOKEN", "a"), ("LEUKO_TELEGRAM_TOKEN_FILE", "b")], "LEUKO_TELEGRAM_"),
        (
            &[("LEUKO_TELEGRAM_TOKEN", "1:hunter2"), ("LEUKO_NOTIFY_TELEGRAM_TOKEN", "1:hunter2")],
            "LEUKO_NOTIFY_TELEGRAM_TOKEN: the same setting is given by LEUKO_TELEGRAM_TOKEN",
        ),
        (
            &[("LEUKO_XDP_MODE", "native")],
            "LEUKO_XDP_MODE: there is no such setting; did you mean LEUKO_KERNEL_XDP_MODE?",
        ),
        (&[("LEUKO_INTERVALL", "1s")], "LEUKO_INTERVALL: there is no such setting; did you mean LEUKO_INTERVAL"),
        (
            &[("LEUKO_TELEGRAM_TOKN", "hunter2")],
            "LEUKO_TELEGRAM_TOKN: there is no such setting; did you mean LEUKO_TELEGRAM_TOKEN",
        ),
        (&[("LEUKO_QQQQQQQQQQ", "1s")], "LEUKO_QQQQQQQQQQ: there is no such setting (`leuko config` lists them"),
    ] {
        let found = load("", env, &[]).err().unwrap_or_default();
        assert!(found.starts_with(error) && (found.is_empty() == error.is_empty()), "{env:?}\n{found}\n{error}");
    }
    let error = load("", &[], &[("--warmup", "warmup", "25h")]).unwrap_err();
    assert_eq!(error, "--warmup: must be from 0s to 24h");
    let error = load("warmup = \"2s\"", &[], &[("--interval", "interval", "5s")]).unwrap_err();
    assert!(error.starts_with("leuko.toml:1: warmup: a warm-up of 2s"), "{error}");
    let error = load("", &[("LEUKO_INTERVAL", "2s")], &[("--warmup", "warmup", "1s")]).unwrap_err();
    assert!(error.starts_with("--warmup: a warm-up of 1s"), "{error}");
}

#[test]
fn a_mistake_in_the_file_is_told_though_a_flag_goes_before_it() {
    let error = load("interval = 0", &[], &[("--interval", "interval", "5s")]).unwrap_err();
    assert!(error.starts_with("leuko.toml:1: interval"), "{error}");
}

#[test]
fn no_secret_is_ever_printed() {
    for text in [
        "[notify.telegram]\ntoken = [\"hunter2\"]\nchat_ids = [1]",
        "[notify]\ntelegram = \"hunter2\"",
        "notify = \"hunter2\"",
        "[[notify.alertmanager]]\nurl = \"http://a\"\nbasic_auth = \"leuko:hunter2\"",
        "[[notify.alertmanager]]\nurl = \"http://u:hunter2@a\"",
        "[[notify.alertmanager]]\nurl = \"http://a\"\nbearer_token = \"hunter2",
        "[[notify.alertmanager]]\nurl = \"http://a\"\nbearer_token = hunter2",
    ] {
        load(text, &[], &[]).unwrap_err();
    }
    let error = load("[notify.telegram]\ntoken = 12345678\nchat_ids = [1]", &[], &[]).unwrap_err();
    assert!(!error.contains("12345678") && error.contains("expected text in quotes"), "{error}");
}

#[test]
fn what_is_printed_can_be_read_again_but_for_secrets() {
    let text = "log_file = \"/x\"\nsensor = \"s\"\ninterfaces = [\"eth0\", \"blue:veth*\"]\nwarmup = 0\n[detect]\nallow = [\"10.0.0.0/8\"]\n\
                [[notify.alertmanager]]\nurl = \"http://a\"\n\
                basic_auth = { username = \"u\", password_file = \"/p\" }\n\
                [[notify.alertmanager]]\nurl = \"http://b\"\nbearer_token_file = \"/t\"\n\
                [notify.telegram]\nchat_ids = [1, \"@leuko\"]\ntoken_file = \"/t\"";
    let config = load(text, &[], &[]).unwrap();
    let printed = config.effective_toml();
    assert_eq!(load(&printed, &[], &[]).unwrap(), config, "{printed}");
    assert_eq!(load(&Config::default().effective_toml(), &[], &[]).unwrap(), Config::default());

    let secret = text.replace("password_file = \"/p\"", "password = \"hunter2\"");
    let config = load(&secret, &[], &[]).unwrap();
    let printed = config.effective_toml();
    assert!(!printed.contains("hunter2") && !format!("{config:?}").contains("hunter2"), "{printed}");
    let error = load(&printed, &[], &[]).unwrap_err();
    assert!(error.contains("basic_auth.password: \"***\" stands for a secret"), "{error}");
    assert!(error.contains("password_file"), "{error}");
}

#[test]
fn every_setting_is_listed_with_its_meaning() {
    let all = load(
        "log_file = \"/x\"\nsensor = \"s\"\nkernel.pin = \"/x\"\nrespond.socket = \"/x\"\nrespond.file = \"/x\"\n\
         [[notify.alertmanager]]\nurl = \"http://a\"\nbearer_token = \"t\"\nname = \"n\"\nca_file = \"/x\"\n\
         cool_down = \"1s\"\nrate_limit = \"1/1s\"\n\
         [[notify.alertmanager]]\nurl = \"http://a\"\nbearer_token_file = \"t\"\n\
         [[notify.alertmanager]]\nurl = \"http://a\"\nbasic_auth = { username = \"u\", password = \"p\" }\n\
         [[notify.alertmanager]]\nurl = \"http://a\"\nbasic_auth = { username = \"u\", password_file = \"p\" }\n\
         [notify]\ndashboard = \"http://d\"\ntemplates = \"/x\"\n\
         [notify.telegram]\ntoken = \"t\"\nchat_ids = [1]\nname = \"n\"\ncool_down = \"1s\"\n\
         commands = false\npictures = true\nallowed_users = [1]",
        &[],
        &[],
    );
    let tree = toml::Value::try_from(all.unwrap()).unwrap();
    let mut leaves = BTreeSet::from(["notify.telegram.token_file".to_owned()]);
    collect(&tree, String::new(), &mut leaves);
    let listed: BTreeSet<_> = setting::SETTINGS.iter().map(|one| one.path.to_owned()).collect();
    // Rules are whole: they are printed apart from the settings.
    assert!(leaves.remove("detect.suppress"));
    assert_eq!(leaves, listed);
    assert!(setting::SETTINGS.iter().all(|one| one.about.len() <= 110 && one.about.len() > 10));
}

#[test]
fn what_is_printed_in_comments_can_be_used() {
    let printed = Config::default().effective_toml();
    let is_alternative =
        |line: &str| ["# token =", "# basic_auth", "# bearer_token ="].iter().any(|prefix| line.starts_with(prefix));
    let is_setting = |line: &str| line.starts_with("# [") || line.split(' ').nth(2) == Some("=");
    let used = printed.lines().filter(|line| !is_alternative(line));
    let used: Vec<_> = used.map(|line| if is_setting(line) { line.trim_start_matches("# ") } else { line }).collect();
    let config = load(&used.join("\n"), &[], &[]).unwrap();
    assert!(config.log_file.is_some() && config.sensor.is_some());
    assert_eq!(config.notify.alertmanager.len(), 1);
    assert_eq!(config.notify.telegram.unwrap().chat_ids.len(), 2);
}

#[test]
fn a_section_of_the_wrong_shape_is_not_hidden_by_a_variable() {
    let env = [("LEUKO_KERNEL_FLOWS", "2048"), ("LEUKO_ALERTMANAGER_RESEND", "9s")];
    for (text, key) in
        [("[[kernel]]\nflows = 1024", "kernel"), ("[[notify]]", "notify"), ("notify.alertmanager = 5", "notify")]
    {
        let error = load(text, &env, &[]).unwrap_err();
        assert!(error.starts_with(&format!("leuko.toml:1: {key}")), "{error}");
    }
    let file = "[[notify.alertmanager]]\nurl = \"http://a\"\nbasic_auth = { username = \"u\" }";
    load(file, &[("LEUKO_ALERTMANAGER_BASIC_AUTH_PASSWORD", "hunter2")], &[]).unwrap();
    load(file, &[], &[]).unwrap_err();
}

#[test]
fn who_misspells_a_class_is_told_all_of_them() {
    let error = load("detect.disable = [\"portscan\"]", &[], &[]).unwrap_err();
    assert!(Class::ALL.iter().all(|class| error.contains(class.as_str())), "{error}");
    assert!(error.contains("did you mean `port_scan`?"), "{error}");
}

#[test]
fn rules_say_why_and_until_when() {
    let rule = |rest: &str| {
        load(&format!("[[detect.suppress]]\nname = \"a\"\nreason = \"b\"\nexpires = \"never\"\n{rest}"), &[], &[])
    };
    let config = rule("port = [\"ssh\"]").unwrap();
    assert_eq!(config.detect.suppress[0].rule().ports, [22..=22]);
    assert!(config.effective_toml().contains("[[detect.suppress]]\nexpires = \"never\""));
    for (rest, words) in [
        ("", "leuko.toml:1: detect.suppress"),
        ("port = [0.5]", "leuko.toml:5: detect.suppress.port"),
        (
            "port = [1]\n[[detect.suppress]]\nname = \"a\"\nreason = \"b\"\nexpires = \"never\"\nport = [1]",
            "two rules called a",
        ),
    ] {
        let error = rule(rest).unwrap_err();
        assert!(error.contains(words), "{error}");
    }
    let error = load("[detect.suppress]\nname = \"a\"", &[], &[]).unwrap_err();
    assert!(error.contains("with two brackets"), "{error}");
}

fn collect(value: &toml::Value, path: String, leaves: &mut BTreeSet<String>) {
    if let Some(table) = value.as_table() {
        for (name, value) in table {
            let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
            collect(value, path, leaves);
        }
        return;
    }
    let tables: Vec<_> = value.as_array().into_iter().flatten().filter(|item| item.is_table()).collect();
    tables.iter().for_each(|table| collect(table, path.clone(), leaves));
    if tables.is_empty() {
        leaves.insert(path);
    }
}

impl Config {
    fn effective_toml_line(&self, key: &str) -> String {
        let toml = self.effective_toml();
        toml.lines().find(|line| line.starts_with(key)).unwrap_or_default().to_owned()
    }
}
