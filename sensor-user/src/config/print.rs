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
    write_suppress(&mut text, &tree);
    text
}

/// The rules, or what one would look like. They are whole: neither variables nor flags can give one.
fn write_suppress(text: &mut String, tree: &Table) {
    text.push_str("\n# What is not reported, why and until when. The rules of `leuko mute` are not shown here.\n");
    match at(tree, "detect.suppress") {
        Some(Value::Array(rules)) if !rules.is_empty() => {
            for rule in rules.iter().filter_map(Value::as_table) {
                // Writing to a String cannot fail.
                let _ = write!(text, "[[detect.suppress]]\n{rule}\n");
            }
        }
        _ => text.push_str(SUPPRESS),
    }
}

const SUPPRESS: &str = r#"# [[detect.suppress]]
# name = "nightly-scan"
# reason = "our own scanner"
# expires = "2027-06-30"
# class = ["port_scan", "host_scan"]
# from = ["10.0.0.5"]
# to = ["10.0.0.0/24"]
# port = [22, "8000-8100", "https"]
# days = ["sat", "sun"]
# hours = "22:00-06:00"
"#;

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
