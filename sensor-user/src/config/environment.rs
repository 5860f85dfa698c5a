//! The environment as settings: `LEUKO_` and the path in the TOML tree, in capitals.

use super::ConfigError;
use super::layers::Override;
use super::setting::{SETTINGS, Setting};
use super::words;

/// Variables that belong to Leuko and are no settings: which file to read, and what builds and tests use.
const OTHERS: [&str; 5] = ["LEUKO_CONFIG", "LEUKO_DATA", "LEUKO_BIN", "LEUKO_BPF_OBJECT", "LEUKO_STRESS"];

/// The settings in `variables`, in the order of [`SETTINGS`]. A variable that is empty counts as not set.
///
/// # Errors
/// When a variable begins with `LEUKO_` and is no setting, or one setting is given by both of its names.
pub fn overrides<'a>(variables: impl Iterator<Item = (&'a str, &'a str)>) -> Result<Vec<Override>, ConfigError> {
    let mut found: Vec<(usize, Override)> = Vec::new();
    for (name, value) in variables {
        if !name.starts_with("LEUKO_") || OTHERS.contains(&name) || value.trim().is_empty() || is_link(name, value) {
            continue;
        }
        let is_named =
            |setting: &Setting| setting.variable() == name || setting.short_variable().as_deref() == Some(name);
        let Some(index) = SETTINGS.iter().position(is_named) else {
            return Err(unknown(name));
        };
        if let Some((_, other)) = found.iter().find(|(other, _)| *other == index) {
            return Err(ConfigError::Twice { name: name.to_owned(), other: other.origin.clone() });
        }
        let given = Override { origin: name.to_owned(), setting: &SETTINGS[index], text: value.trim().to_owned() };
        found.push((index, given));
    }
    found.sort_by_key(|(index, _)| *index);
    Ok(found.into_iter().map(|(_, given)| given).collect())
}

fn unknown(name: &str) -> ConfigError {
    let names: Vec<String> =
        SETTINGS.iter().flat_map(|setting| [Some(setting.variable()), setting.short_variable()]).flatten().collect();
    // The common beginning would make any two of them look alike.
    let bare = |name: &str| name.trim_start_matches("LEUKO_").to_owned();
    let bare_names: Vec<String> = names.iter().map(|name| bare(name)).collect();
    let near = words::near(&bare(name), bare_names.iter().map(String::as_str));
    let near = near.into_iter().map(|name| format!("LEUKO_{name}")).collect();
    ConfigError::UnknownVariable { name: name.to_owned(), near }
}

/// Kubernetes describes a service called `leuko` to the containers beside it by variables such as `LEUKO_SERVICE_HOST`
/// and `LEUKO_PORT=tcp://10.0.0.1:9101`.
fn is_link(name: &str, value: &str) -> bool {
    let port = name.split("_PORT_").nth(1).is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    let scheme = ["tcp://", "udp://", "sctp://"].iter().any(|scheme| value.starts_with(scheme));
    name.ends_with("_SERVICE_HOST") || name.contains("_SERVICE_PORT") || port || (name.ends_with("_PORT") && scheme)
}
