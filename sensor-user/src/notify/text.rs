//! Incidents in words: lists that stay short, evidence as pairs, spans of time, and nothing that plays with terminals.

use std::fmt::Display;
use std::time::Duration;

use sensor_core::incident::{Class, Incident, Language, Severity};
pub use sensor_core::text::plain;
use serde_json::Value;

/// Longest rendering of one piece of evidence, in characters.
const VALUE_LIMIT: usize = 160;

/// The class as people say it.
#[must_use]
pub const fn title(class: Class, language: Language) -> &'static str {
    let (en, es) = match class {
        Class::PortScan => ("Port scan", "Escaneo de puertos"),
        Class::HostScan => ("Host scan", "Escaneo de equipos"),
        Class::SynFlood => ("SYN flood", "Inundación SYN"),
        Class::ConnectionFlood => ("Connection flood", "Inundación de conexiones"),
        Class::UdpFlood => ("UDP flood", "Inundación UDP"),
        Class::IcmpFlood => ("ICMP flood", "Inundación ICMP"),
        Class::Amplification => ("Amplification attack", "Ataque de amplificación"),
        Class::BruteForce => ("Brute force", "Fuerza bruta"),
        Class::SlowDos => ("Slow denial of service", "Denegación de servicio lenta"),
        Class::Beacon => ("Beacon", "Baliza"),
        Class::DnsTunnel => ("DNS tunnel", "Túnel DNS"),
        Class::IcmpTunnel => ("ICMP tunnel", "Túnel ICMP"),
        Class::Exfiltration => ("Exfiltration", "Exfiltración"),
        Class::LateralMovement => ("Lateral movement", "Movimiento lateral"),
        Class::ArpSpoof => ("ARP spoofing", "Suplantación ARP"),
        Class::Anomaly => ("Anomaly", "Anomalía"),
    };
    match language {
        Language::En => en,
        Language::Es => es,
    }
}

/// The severity as people say it.
#[must_use]
pub const fn severity(severity: Severity, language: Language) -> &'static str {
    let (en, es) = match severity {
        Severity::Low => ("low", "baja"),
        Severity::Medium => ("medium", "media"),
        Severity::High => ("high", "alta"),
        Severity::Critical => ("critical", "crítica"),
    };
    match language {
        Language::En => en,
        Language::Es => es,
    }
}

/// The first `limit` of `items`, and how many are not listed.
#[must_use]
pub fn list<T: Display>(items: &[T], limit: usize, language: Language) -> String {
    let mut text = items.iter().take(limit).map(ToString::to_string).collect::<Vec<_>>().join(", ");
    if let more @ 1.. = items.len().saturating_sub(limit) {
        text.push_str(&match language {
            Language::En => format!(" and {more} more"),
            Language::Es => format!(" y {more} más"),
        });
    }
    text
}

/// Who attacks, also when nobody can tell.
#[must_use]
pub fn attackers(incident: &Incident, limit: usize, language: Language) -> String {
    if incident.attackers.is_empty() {
        return match language {
            Language::En => "spoofed or unknown".to_owned(),
            Language::Es => "falsificado o desconocido".to_owned(),
        };
    }
    list(&incident.attackers, limit, language)
}

/// The evidence as `(name, value)`, in the order of the names, without what only programs can read at length.
pub fn evidence(incident: &Incident) -> impl Iterator<Item = (String, String)> {
    let for_people = |name: &str| name != "timeline" && name != "sample_flows" && !name.starts_with("host_");
    let evidence = incident.evidence.iter().filter(move |(name, _)| for_people(name));
    evidence.map(|(name, value)| (plain(name), clip(&plain(&render(value)), VALUE_LIMIT)))
}

/// `text` cut to `limit` characters, with an ellipsis where something is missing.
#[must_use]
pub fn clip(text: &str, limit: usize) -> String {
    match text.char_indices().nth(limit) {
        None => text.to_owned(),
        Some(_) => text.chars().take(limit.saturating_sub(1)).chain(['…']).collect(),
    }
}

/// `42 s`, `3 min 5 s`, `2 h 10 min`, `3 d 4 h`.
#[must_use]
pub fn span(duration: Duration) -> String {
    let secs = duration.as_secs();
    let two = |big: u64, big_unit: &str, small: u64, small_unit: &str| match small {
        0 => format!("{big} {big_unit}"),
        _ => format!("{big} {big_unit} {small} {small_unit}"),
    };
    match secs {
        0 => format!("{} ms", duration.as_millis()),
        1..60 => format!("{secs} s"),
        60..3600 => two(secs / 60, "min", secs % 60, "s"),
        3600..86_400 => two(secs / 3600, "h", secs / 60 % 60, "min"),
        _ => two(secs / 86_400, "d", secs / 3600 % 24, "h"),
    }
}

fn render(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => match number.as_f64() {
            Some(float) if number.is_f64() => short(float),
            Some(_) | None => number.to_string(),
        },
        Value::Array(items) => items.iter().map(render).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => {
            fields.iter().map(|(name, value)| format!("{name} {}", render(value))).collect::<Vec<_>>().join(", ")
        }
        Value::Null | Value::Bool(_) => value.to_string(),
    }
}

/// At most three decimals; very small numbers as powers of ten.
fn short(float: f64) -> String {
    if float != 0.0 && float.abs() < 1e-3 {
        return format!("{float:.1e}");
    }
    format!("{float:.3}").trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    proptest! {
        /// What people are shown can neither move a cursor nor turn a line around.
        #[test]
        fn nothing_plays_with_terminals(text in any::<String>(), escape in "[\\x00-\\x1f\\x7f-\\x9f\u{202a}-\u{202e}]{0,4}") {
            let shown = plain(&format!("{escape}{text}{escape}"));
            let harmless = |c: char| !c.is_control() && !('\u{202a}'..='\u{202e}').contains(&c);
            prop_assert!(shown.chars().all(harmless));
            let mut odd = crate::notify::testing::incident("a");
            odd.evidence.insert(text.clone(), json!([text, { "label": escape }]));
            prop_assert!(evidence(&odd).all(|(name, value)| (name + &value).chars().all(harmless)));
        }
    }

    #[test]
    fn long_lists_say_how_much_is_missing() {
        for (items, limit, language, text) in [
            (&[1_u16, 2, 3] as &[u16], 3, Language::En, "1, 2, 3"),
            (&[1, 2, 3], 2, Language::En, "1, 2 and 1 more"),
            (&[1, 2, 3], 1, Language::Es, "1 y 2 más"),
            (&[], 2, Language::En, ""),
        ] {
            assert_eq!(list(items, limit, language), text);
        }
    }

    #[test]
    fn spans_are_said_in_two_units() {
        for (secs, text) in [(42, "42 s"), (60, "1 min"), (185, "3 min 5 s"), (7800, "2 h 10 min"), (86_400, "1 d")] {
            assert_eq!(span(Duration::from_secs(secs)), text);
        }
        assert_eq!(span(Duration::from_millis(250)), "250 ms");
    }

    #[test]
    fn values_are_short_and_harmless() {
        for (value, text) in [
            (json!(12.0), "12"),
            (json!(0.123_456), "0.123"),
            (json!(0.000_012_3), "1.2e-5"),
            (json!(18_446_744_073_709_551_615_u64), "18446744073709551615"),
            (json!([1, "a"]), "1, a"),
            (json!({"now": 9.5, "normal": 1}), "normal 1, now 9.5"),
            (json!(null), "null"),
        ] {
            assert_eq!(render(&value), text);
        }
        assert_eq!(clip("abcd", 3), "ab…");
        assert_eq!(clip("abc", 3), "abc");
    }
}
