//! The configuration as TOML with a comment at every setting, to read or to begin a file of one's own.

use std::fmt::Write as _;

use toml::{Table, Value};

use super::Config;
use super::setting::{SETTINGS, Setting};

/// Every setting with its meaning; settings without a value as comments. Secrets are `***`.
pub fn toml(config: &Config) -> String {
    let tree = Table::try_from(config).expect("every setting has a form in TOML");
    let mut text = String::from("# Configuration of leuko. Environment variables and flags go before it.\n");
    for (section, settings) in sections() {
        if section.is_empty() {
            write_settings(&mut text, &tree, &settings);
            continue;
        }
        let tables: Vec<&Table> = match at(&tree, section) {
            Some(Value::Table(table)) => vec![table],
            Some(Value::Array(items)) => items.iter().filter_map(Value::as_table).collect(),
            Some(_) | None => Vec::new(),
        };
        let header = if section == "notify.alertmanager" { format!("[[{section}]]") } else { format!("[{section}]") };
        if tables.is_empty() {
            let _ = write!(text, "\n# {header}\n");
            write_settings(&mut text, &Table::new(), &settings);
        }
        for table in tables {
            let _ = write!(text, "\n{header}\n");
            write_settings(&mut text, table, &settings);
        }
    }
    WHOLE.iter().for_each(|(path, about, example)| write_whole(&mut text, &tree, (path, about, example)));
    text
}

/// Tables that are whole: neither variables nor flags can give one. Where, what they are, and what one looks like.
const WHOLE: [(&str, &str, &str); 13] = [
    ("notify.discord", "A webhook of a Discord channel.", "url_file = \"/etc/leuko/discord.url\"\n"),
    (
        "notify.email",
        "Letters. tls is \"starttls\", \"tls\" or \"none\".",
        "host = \"mail.example.org\"\ntls = \"starttls\"\nusername = \"leuko\"\n\
         password_file = \"/etc/leuko/mail.password\"\nfrom = \"Leuko <leuko@example.org>\"\n\
         to = [\"ops@example.org\"]\nrate_limit = \"20/1h\"\ncool_down = \"5m\"\n",
    ),
    (
        "notify.eve",
        "A file of JSON lines as Suricata writes them.",
        "file = \"/var/log/leuko/eve.json\"\nflows = false\nstats = true\nstats_every = \"10s\"\n\
         rotate_size = \"100MB\"\nkeep = 5\n",
    ),
    ("notify.mattermost", "A webhook of a Mattermost channel.", "url_file = \"/etc/leuko/mattermost.url\"\n"),
    (
        "notify.ntfy",
        "A topic of an ntfy server.",
        "url = \"https://ntfy.example.org\"\ntopic = \"leuko\"\ntoken_file = \"/etc/leuko/ntfy.token\"\n",
    ),
    (
        "notify.otlp",
        "Log records for an OpenTelemetry collector.",
        "url = \"http://127.0.0.1:4318/v1/logs\"\nheaders = { \"X-Team\" = \"blue\" }\n",
    ),
    (
        "notify.slack",
        "An incoming webhook of Slack; plain = true for those that only look like it.",
        "url_file = \"/etc/leuko/slack.url\"\nplain = false\n",
    ),
    (
        "notify.syslog",
        "RFC 5424 to udp://, tcp://, tls:// or unix:///dev/log.",
        "address = \"tls://log.example.org:6514\"\nfacility = \"local0\"\napp_name = \"leuko\"\n",
    ),
    (
        "notify.webhook",
        "JSON to any address, signed (Standard Webhooks) if there is a secret.",
        "url_file = \"/etc/leuko/hook.url\"\nsecret_file = \"/etc/leuko/hook.secret\"\nheaders = { \"X-Team\" = \"blue\" }\n",
    ),
    (
        "respond.classes",
        "What is done about which attacks, where that is not the usual.",
        "port_scan = { mode = \"observe\" }\nbrute_force = { mode = \"drop\", severity = \"high\" }\n",
    ),
    (
        "respond.webhook",
        "Who is told of blocks, by signed JSON (Standard Webhooks).",
        "url_file = \"/etc/leuko/blocks.url\"\nsecret_file = \"/etc/leuko/blocks.secret\"\n",
    ),
    (
        "respond.lists",
        "Lists of addresses from elsewhere, to mark or to block.",
        "name = \"drop\"\nurl = \"https://lists.example.org/drop.txt\"\naction = \"block\"\nrefresh = \"24h\"\n",
    ),
    (
        "detect.suppress",
        "What is not reported, why and until when. The rules of `leuko mute` are not shown here.",
        "name = \"nightly-scan\"\nreason = \"our own scanner\"\nexpires = \"2027-06-30\"\n\
         class = [\"port_scan\", \"host_scan\"]\nfrom = [\"10.0.0.5\"]\nto = [\"10.0.0.0/24\"]\n\
         port = [22, \"8000-8100\", \"https\"]\ndays = [\"sat\", \"sun\"]\nhours = \"22:00-06:00\"\n",
    ),
];

/// Those of them of which there is one.
const SINGLE: [&str; 2] = ["respond.classes", "respond.webhook"];

fn write_whole(text: &mut String, tree: &Table, (path, about, example): (&str, &str, &str)) {
    // Writing to a String cannot fail.
    let _ = writeln!(text, "\n# {about}");
    match at(tree, path) {
        Some(Value::Array(tables)) if !tables.is_empty() => {
            for table in tables.iter().filter_map(Value::as_table) {
                let _ = write!(text, "[[{path}]]\n{table}\n");
            }
        }
        Some(Value::Table(table)) => _ = write!(text, "[{path}]\n{table}\n"),
        _ => {
            let header = if SINGLE.contains(&path) { format!("[{path}]") } else { format!("[[{path}]]") };
            let _ = writeln!(text, "# {header}");
            example.lines().for_each(|line| _ = writeln!(text, "# {line}"));
        }
    }
}

/// Settings by the table that holds them, with their paths in it.
fn sections() -> Vec<(&'static str, Vec<(&'static str, &'static Setting)>)> {
    let mut sections: Vec<(&str, Vec<_>)> = Vec::new();
    for setting in &SETTINGS {
        let depth = if setting.path.starts_with("notify.") { 2 } else { 1 };
        let cut = setting.path.match_indices('.').map(|(at, _)| at).take(depth).last();
        let (section, key) = cut.map_or(("", setting.path), |at| (&setting.path[..at], &setting.path[at + 1..]));
        // `notify.alertmanager.basic_auth.username` is below its section by two keys.
        match sections.last_mut().filter(|(last, _)| *last == section) {
            Some((_, settings)) => settings.push((key, setting)),
            None => sections.push((section, vec![(key, setting)])),
        }
    }
    sections
}

fn write_settings(text: &mut String, table: &Table, settings: &[(&str, &Setting)]) {
    for (key, setting) in settings {
        // Writing to a String cannot fail.
        let _ = match at(table, key) {
            Some(value) => write!(text, "# {}\n{key} = {value}\n", setting.about),
            None => write!(text, "# {}\n# {key} = {}\n", setting.about, setting.example),
        };
    }
}

fn at<'t>(table: &'t Table, path: &str) -> Option<&'t Value> {
    let (first, rest) = path.split_once('.').map_or((path, None), |(first, rest)| (first, Some(rest)));
    let value = table.get(first)?;
    match (rest, value) {
        (None, value) => Some(value),
        (Some(rest), Value::Table(table)) => at(table, rest),
        (Some(_), _) => None,
    }
}
