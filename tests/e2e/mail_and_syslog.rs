//! Letters to a real mail server (aiosmtpd), lines to a real syslog daemon (rsyslog), and a file on a disk that is full.

use std::collections::BTreeMap;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use leuko::export::prometheus::{Metrics, Vocabulary};
use leuko::notify::retry::Retry;
use leuko::notify::view::Author;
use leuko::notify::{Notifier, NotifyConfig, Sinks, Wiring};
use leuko::store::keeper::{Keep, Keeper, Running};
use sensor_core::incident::{Change, Class, Incident, IncidentEvent, Language, Severity};
use sensor_core::time::Timestamp;
use serde_json::{Value, json};
use support::{Guard, Need, require, run_timeout, until};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::watch;

const SOON: Duration = Duration::from_secs(20);
const PYTHON: &str = "/usr/bin/python3";
const SUMMARY: &str = "203.0.113.5 probó 812 puertos <b>&\" de \u{202e}192.0.2.10\r\nBcc: all@example.org";

/// The sinks of a configuration, without the rest of a sensor.
struct Teller {
    runtime: Runtime,
    notifier: Notifier,
    store: Running,
    _state: TempDir,
}

impl Teller {
    fn start(config: Value) -> Result<Self> {
        let config: NotifyConfig = serde_json::from_value(config)?;
        let state = TempDir::with_prefix("leuko-state-")?;
        let metrics = Arc::new(Metrics::new(&prometheus::Registry::new(), &Vocabulary::default())?);
        let store = Keeper::start(state.path(), Keep::default(), Arc::clone(&metrics), Arc::new(now))?;
        let keeper = store.keeper();
        let author = Author { sensor: "cortafuegos ñ".to_owned(), language: Language::Es, dashboard: None };
        let retry = Retry { first: Duration::from_millis(50), longest: Duration::from_millis(200) };
        let (status, clock) = (watch::channel(None).1, Arc::new(now));
        let wiring =
            Wiring { author, metrics, clock, retry, keeper: keeper.clone(), status, response: watch::channel(None).1 };
        let runtime = Runtime::new()?;
        let _inside = runtime.enter();
        let sinks = Sinks::build(&config, &wiring)?;
        keeper.begin(sinks.names());
        let notifier = Notifier::start(sinks, &keeper, &wiring);
        drop(_inside);
        Ok(Self { runtime, notifier, store, _state: state })
    }

    fn tell(&self, change: Change, id: &str) {
        let incident = incident(id);
        let event = IncidentEvent { change, at: incident.last_seen, incident };
        self.store.keeper().record(&[Arc::new(event)]);
    }

    fn stop(self) {
        self.runtime.block_on(self.notifier.shutdown(Duration::from_secs(1)));
        self.store.stop();
    }
}

#[expect(clippy::disallowed_methods, reason = "real servers go by the real time")]
fn now() -> SystemTime {
    SystemTime::now()
}

fn incident(id: &str) -> Incident {
    let at = |nanos: u64| Timestamp::from_nanos(1_750_000_000_123_456_789 + nanos);
    Incident {
        id: id.to_owned(),
        class: Class::PortScan,
        severity: Severity::High,
        attackers: vec![[203, 0, 113, 5].into()],
        victims: vec![[192, 0, 2, 10].into()],
        ports: vec![22, 80],
        first_seen: at(0),
        detected_at: at(1),
        last_seen: at(2),
        score: 0.9,
        summary: SUMMARY.to_owned(),
        evidence: BTreeMap::from([("puertos\"]".to_owned(), json!("<script>"))]),
    }
}

/// A mail server, and the folder of its certificate.
struct Mail {
    server: Guard,
    folder: TempDir,
    port: u16,
}

impl Mail {
    fn start(mode: &str) -> Result<Self> {
        let folder = TempDir::with_prefix("leuko-mail-")?;
        certificate(folder.path())?;
        let port = free_port()?;
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/support/smtp_server.py");
        let [cert, key] = ["cert.pem", "key.pem"].map(|name| folder.path().join(name));
        let mut command = Command::new(PYTHON);
        let server = Guard::spawn(command.arg(script).args([&port.to_string(), mode]).args([cert, key]))?;
        until("the mail server", SOON, || server.log().contains("ready").then_some(()))
            .with_context(|| server.log())?;
        Ok(Self { server, folder, port })
    }

    fn table(&self, more: Value) -> Value {
        let mut table = json!({"host": "127.0.0.1", "port": self.port, "from": "Leuko <leuko@example.org>",
            "to": ["ops@example.org"], "cool_down": "1ms"});
        let more = more.as_object().cloned().unwrap_or_default();
        table.as_object_mut().expect("it is an object").extend(more);
        json!({ "email": [table] })
    }

    fn letters(&self, count: usize) -> Result<Vec<Value>> {
        until("letters", SOON, || {
            let log = self.server.log();
            let letters: Vec<Value> = log.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
            (letters.len() >= count).then_some(letters)
        })
        .with_context(|| self.server.log())
    }
}

fn mail_is_here() -> bool {
    require(&[Need::Tool("aiosmtpd"), Need::Tool("openssl"), Need::File(Path::new(PYTHON))])
}

fn certificate(folder: &Path) -> Result<()> {
    let args = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout key.pem -out cert.pem -days 2 \
                -subj /CN=localhost -addext subjectAltName=IP:127.0.0.1 -addext basicConstraints=critical,CA:FALSE";
    run_timeout(Command::new("openssl").current_dir(folder).args(args.split_whitespace()), SOON)?.success()?;
    Ok(())
}

fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

#[test]
fn letters_are_read_as_they_were_meant() -> Result<()> {
    if !mail_is_here() {
        return Ok(());
    }
    let mail = Mail::start("plain")?;
    let teller = Teller::start(mail.table(json!({"tls": "none", "to": ["gone@example.org", "ops@example.org"]})))?;
    teller.tell(Change::Opened, "a");
    mail.letters(1)?;
    teller.tell(Change::Closed, "a");
    let letters = mail.letters(2)?;
    teller.stop();
    for letter in &letters {
        assert_eq!((&letter["defects"], &letter["to"]), (&json!([]), &json!(["ops@example.org"])), "{letter}");
        assert_eq!(letter["peer"], letters[0]["peer"], "one connection");
        let headers = letter["headers"].as_object().context("headers")?;
        let names: Vec<&str> = headers.keys().map(String::as_str).filter(|name| !name.contains("To")).collect();
        let own = ["Auto-Submitted", "Content-Type", "Date", "From", "MIME-Version", "Message-ID"];
        assert!(own.iter().all(|name| names.contains(name)) && !headers.contains_key("Bcc"), "{names:?}");
        let words = "203.0.113.5 probó 812 puertos <b>&\" de 192.0.2.10  Bcc: all@example.org";
        assert!(letter["text"].as_str().is_some_and(|text| text.contains(words)), "{letter}");
        let html = letter["html"].as_str().context("html")?;
        assert!(html.contains("&lt;script&gt;") && !html.contains("<script") && !html.contains("<b>&"), "{html}");
    }
    let [first, second] = [&letters[0]["headers"], &letters[1]["headers"]];
    assert_eq!(first["Message-ID"], "<a.1@cortafuegos>");
    assert_eq!((&second["References"], &second["In-Reply-To"]), (&first["Message-ID"], &first["Message-ID"]));
    assert_eq!(first["Subject"], "Escaneo de puertos (gravedad alta) · cortafuegos ñ");
    Ok(())
}

#[test]
fn passwords_are_taken_and_connections_encrypted() -> Result<()> {
    if !mail_is_here() {
        return Ok(());
    }
    for (mode, tls) in [("auth", "none"), ("starttls", "starttls"), ("tls", "tls")] {
        let mail = Mail::start(mode)?;
        let mut more = json!({"tls": tls, "username": "leuko", "password": "hunter2"});
        if tls != "none" {
            more["ca_file"] = mail.folder.path().join("cert.pem").to_string_lossy().into();
        }
        let teller = Teller::start(mail.table(more))?;
        teller.tell(Change::Opened, "a");
        let letters = mail.letters(1).with_context(|| mode.to_owned())?;
        teller.stop();
        assert_eq!(letters[0]["authenticated"], true, "{mode}");
        assert_eq!(letters[0]["encrypted"], tls == "starttls" || tls == "tls", "{mode}");
    }
    Ok(())
}

#[test]
fn a_stranger_s_certificate_and_a_wrong_password_get_no_letter() -> Result<()> {
    if !mail_is_here() {
        return Ok(());
    }
    let mail = Mail::start("starttls")?;
    let ca = mail.folder.path().join("cert.pem");
    for more in [
        json!({"username": "leuko", "password": "hunter2"}),
        json!({"username": "leuko", "password": "wrong", "ca_file": ca}),
    ] {
        let teller = Teller::start(mail.table(more))?;
        teller.tell(Change::Opened, "a");
        std::thread::sleep(Duration::from_secs(1));
        teller.stop();
    }
    assert_eq!(mail.letters(0)?.len(), 0, "{}", mail.server.log());
    Ok(())
}

#[test]
fn rsyslog_reads_every_line_and_every_field() -> Result<()> {
    if !require(&[Need::Tool("rsyslogd")]) {
        return Ok(());
    }
    let folder = TempDir::with_prefix("leuko-rsyslog-")?;
    let (udp, tcp) = (free_port()?, free_port()?);
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (out, socket, config) = (at("out"), at("log"), at("rsyslog.conf"));
    let fields = "%inputname%|%syslogfacility-text%.%syslogseverity-text%|%timereported:::date-rfc3339%|%hostname%|\
                  %app-name%|%msgid%|%structured-data%|%msg%\\n";
    fs::write(
        &config,
        format!(
            "global(workDirectory=\"{folder}\")\nmodule(load=\"imudp\")\nmodule(load=\"imtcp\")\n\
             module(load=\"imuxsock\" SysSock.Use=\"off\")\n\
             input(type=\"imudp\" address=\"127.0.0.1\" port=\"{udp}\")\n\
             input(type=\"imtcp\" address=\"127.0.0.1\" port=\"{tcp}\")\n\
             input(type=\"imuxsock\" Socket=\"{socket}\")\n\
             template(name=\"fields\" type=\"string\" string=\"{fields}\")\n\
             action(type=\"omfile\" file=\"{out}\" template=\"fields\")\n",
            folder = folder.path().display(),
        ),
    )?;
    let pid = at("pid");
    let daemon = Guard::spawn(Command::new(support::tool("rsyslogd")?).args(["-n", "-f", &config, "-i", &pid]))?;
    until("rsyslog", SOON, || Path::new(&socket).exists().then_some(())).with_context(|| daemon.log())?;
    let addresses = [format!("udp://127.0.0.1:{udp}"), format!("tcp://127.0.0.1:{tcp}"), format!("unix://{socket}")];
    let tables: Vec<Value> = addresses.iter().map(|address| json!({"address": address})).collect();
    let teller = Teller::start(json!({ "syslog": tables }))?;
    for n in 0..50 {
        teller.tell(Change::Opened, &format!("i{n}"));
    }
    let lines = until("150 lines", SOON, || {
        let text = fs::read_to_string(&out).ok()?;
        (text.lines().count() >= 150).then_some(text)
    });
    let lines = lines.with_context(|| format!("{}{}", daemon.log(), fs::read_to_string(&out).unwrap_or_default()))?;
    teller.stop();
    for (input, count) in [("imudp", 50), ("imtcp", 50), ("imuxsock", 50)] {
        let of: Vec<&str> = lines.lines().filter(|line| line.starts_with(&format!("{input}|"))).collect();
        assert_eq!(of.len(), count, "{input}: {lines}");
        for (n, line) in of.iter().enumerate() {
            let fields: Vec<&str> = line.splitn(8, '|').collect();
            assert_eq!((fields[1], fields[4]), ("local0.err", "leuko"), "{line}");
            assert!(line.contains(&format!("key=\"i{n}.1\"")) && line.contains("probó 812 puertos"), "{line}");
            if input != "imuxsock" {
                assert_eq!(&fields[2..4], ["2025-06-15T15:06:40.123456Z", "cortafuegos"], "{line}");
                assert_eq!(fields[5], "port_scan");
                assert!(
                    fields[6].starts_with("[leuko@32473 key=") && fields[6].ends_with("ports=\"22,80\"]"),
                    "{line}"
                );
            }
        }
    }
    Ok(())
}

/// A small disk, gone when this is dropped.
struct Disk(TempDir);

impl Disk {
    fn mount(options: &str) -> Result<Self> {
        let this = Self(TempDir::with_prefix("leuko-disk-")?);
        this.tool("mount", &["-t", "tmpfs", "-o", options, "leuko-test"])?;
        Ok(this)
    }

    fn tool(&self, program: &str, args: &[&str]) -> Result<()> {
        run_timeout(Command::new(program).args(args).arg(self.0.path()), SOON)?.success()?;
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // A drop has nobody to tell.
        let _ = self.tool("umount", &[]);
    }
}

#[test]
fn a_full_disk_cuts_no_line_and_loses_none() -> Result<()> {
    if !require(&[Need::Root, Need::Tool("mount"), Need::Tool("umount")]) {
        return Ok(());
    }
    let disk = Disk::mount("size=16k")?;
    let file = disk.0.path().join("eve.json");
    let teller = Teller::start(json!({"eve": [{"file": file}]}))?;
    for n in 0..100 {
        teller.tell(Change::Opened, &format!("i{n}"));
    }
    std::thread::sleep(Duration::from_secs(1));
    let read = || -> Result<Vec<Value>> {
        let text = fs::read_to_string(&file)?;
        text.lines().map(|line| serde_json::from_str(line).with_context(|| line.to_owned())).collect()
    };
    assert!(read()?.len() < 100, "the disk is full");
    disk.tool("mount", &["-o", "remount,size=1m"])?;
    let lines = until("every line", SOON, || read().ok().filter(|lines| lines.len() >= 100));
    teller.stop();
    let keys: Vec<String> = lines?.iter().map(|line| line["leuko"]["key"].to_string()).collect();
    assert_eq!(keys, (0..100).map(|n| format!("\"i{n}.1\"")).collect::<Vec<_>>());
    Ok(())
}
