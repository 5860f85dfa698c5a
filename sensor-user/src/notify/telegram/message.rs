//! Incidents as Telegram messages: HTML that is always well-formed, within the length that Telegram takes.

use sensor_core::incident::{Incident, IncidentEvent, Severity};

use crate::notify::text;

/// Longest message, in UTF-16 code units of the text without its tags.
pub const LIMIT: usize = 4096;
/// Addresses and ports that a message lists.
const LISTED: usize = 10;
/// Characters of the sentence. It and the lines after it leave room in any message.
const SUMMARY_LIMIT: usize = 1000;
const NAME_LIMIT: usize = 64;
const MORE: &str = "\n…";

/// A new incident.
pub fn alert(incident: &Incident, sensor: &str) -> String {
    let mut html = Html::default();
    let heading = format!(" · {} · {}", incident.severity, text::clip(&text::plain(sensor), NAME_LIMIT));
    html.plain(emoji(incident.severity)).plain(" ").bold(text::title(incident.class)).plain(&heading);
    html.plain("\n").plain(&text::clip(&text::plain(&incident.summary), SUMMARY_LIMIT)).plain("\n");
    facts(&mut html, incident);
    html.plain("\n").code(&text::clip(&text::plain(&incident.id), NAME_LIMIT));
    evidence(&mut html, incident);
    html.finish()
}

/// An incident of which the chat knows has grown.
pub fn update(event: &IncidentEvent, sensor: &str) -> String {
    let mut html = Html::default();
    html.bold("Update").plain("\n").join(&alert(&event.incident, sensor));
    html.finish()
}

/// An incident of which the chat knows is over.
pub fn over(event: &IncidentEvent) -> String {
    let mut html = Html::default();
    html.plain("🟢 ").bold(text::title(event.incident.class)).plain(&format!(" is over after {}", lasted(event)));
    html.finish()
}

/// An incident of which the chat does not know is over.
pub fn missed(event: &IncidentEvent, sensor: &str) -> String {
    let mut html = Html::default();
    html.plain("🟢 ").plain(&format!("Over after {}; it could not be told before:\n", lasted(event)));
    html.join(&alert(&event.incident, sensor));
    html.finish()
}

/// From the first packet of the behaviour to its last: what comes after is waiting for it to stay quiet.
fn lasted(event: &IncidentEvent) -> String {
    text::span(event.incident.last_seen.since(event.incident.first_seen))
}

fn facts(html: &mut Html, incident: &Incident) {
    let since = incident.first_seen.to_string();
    let since = format!("{} UTC", since.split('.').next().unwrap_or(&since).replace('T', " "));
    for (name, value) in [
        ("From", text::attackers(incident, LISTED)),
        ("To", text::list(&incident.victims, LISTED)),
        ("Ports", text::list(&incident.ports, LISTED)),
        ("Since", since),
        ("Score", format!("{:.2}", incident.score)),
    ] {
        if !value.is_empty() {
            html.plain("\n").bold(name).plain(" ").plain(&value);
        }
    }
}

/// As many lines of evidence as fit.
fn evidence(html: &mut Html, incident: &Incident) {
    for (at, (name, value)) in text::evidence(incident).enumerate() {
        let line = format!("{}{}: {value}", if at == 0 { "\n\n" } else { "\n" }, text::clip(&name, NAME_LIMIT));
        if html.units + units(&line) + RESERVE > LIMIT {
            html.plain(MORE);
            return;
        }
        html.plain(&line);
    }
}

/// Room for the ellipsis, and for what [`update`] and [`missed`] put in front of a message.
const RESERVE: usize = 128;

fn emoji(severity: Severity) -> &'static str {
    match severity {
        Severity::Low => "🔵",
        Severity::Medium => "🟡",
        Severity::High => "🟠",
        Severity::Critical => "🔴",
    }
}

fn units(text: &str) -> usize {
    text.encode_utf16().count()
}

/// Text with tags, and its length as Telegram counts it.
#[derive(Default)]
struct Html {
    html: String,
    units: usize,
}

impl Html {
    fn plain(&mut self, text: &str) -> &mut Self {
        for c in text.chars() {
            match c {
                '&' => self.html.push_str("&amp;"),
                '<' => self.html.push_str("&lt;"),
                '>' => self.html.push_str("&gt;"),
                _ => self.html.push(c),
            }
        }
        self.units += units(text);
        self
    }

    fn bold(&mut self, text: &str) -> &mut Self {
        self.tagged("b", text)
    }

    fn code(&mut self, text: &str) -> &mut Self {
        self.tagged("code", text)
    }

    fn tagged(&mut self, tag: &str, text: &str) -> &mut Self {
        self.html.push_str(&format!("<{tag}>"));
        self.plain(text);
        self.html.push_str(&format!("</{tag}>"));
        self
    }

    /// Appends what is HTML already.
    fn join(&mut self, html: &str) -> &mut Self {
        self.html.push_str(html);
        self
    }

    fn finish(self) -> String {
        self.html
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sensor_core::incident::Change;
    use serde_json::json;

    use super::*;
    use crate::notify::testing::{event, incident};

    /// The text as Telegram counts it; panics where Telegram would say "can't parse entities".
    fn parsed(html: &str) -> String {
        let (mut text, mut open, mut rest) = (String::new(), Vec::new(), html);
        while let Some(c) = rest.chars().next() {
            let mut taken = c.len_utf8();
            match c {
                '<' => {
                    taken = rest.find('>').expect("a tag ends") + 1;
                    match &rest[..taken] {
                        tag @ ("<b>" | "<code>") => open.push(tag.replace('<', "</")),
                        tag => assert_eq!(open.pop().as_deref(), Some(tag)),
                    }
                }
                '&' => {
                    let entities = [("&amp;", '&'), ("&lt;", '<'), ("&gt;", '>')];
                    let (entity, c) = entities.into_iter().find(|(e, _)| rest.starts_with(e)).expect("an entity");
                    taken = entity.len();
                    text.push(c);
                }
                c => text.push(c),
            }
            rest = &rest[taken..];
        }
        assert!(open.is_empty());
        text
    }

    #[test]
    fn evidence_is_cut_first_and_the_cut_is_visible() {
        let mut long = incident("a");
        long.evidence = (0..200).map(|n| (format!("feature_{n:03}"), json!("𝄞<&>".repeat(30)))).collect();
        let text = parsed(&alert(&long, "web-1"));
        assert!(text.ends_with("\n…") && text.contains("Score 0.93") && text.contains("feature_000"), "{text}");
        assert!((3800..=LIMIT).contains(&units(&text)), "{}", units(&text));
    }

    #[test]
    fn what_an_attacker_wrote_stays_text() {
        let mut evil = incident("<b>");
        evil.summary = "</b><a href=\"tg://x\">click</a>\n\u{202e}&amp;".to_owned();
        let text = parsed(&alert(&evil, "<code>"));
        assert!(text.contains("</b><a href=\"tg://x\">click</a> &amp;"), "{text}");
    }

    proptest! {
        #[test]
        fn every_message_is_well_formed_and_fits(
            summary in ".{0,3000}",
            id in ".{0,200}",
            evidence in prop::collection::btree_map(".{0,100}", ".{0,500}", 0..60),
            addresses in prop::collection::vec(any::<std::net::Ipv6Addr>(), 0..64),
        ) {
            let mut any = incident(&id);
            any.summary = summary;
            any.attackers = addresses.iter().copied().map(Into::into).collect();
            any.victims.clone_from(&any.attackers);
            any.evidence = evidence.into_iter().map(|(name, value)| (name, json!(value))).collect();
            let event = event(Change::Closed, &any);
            for html in [alert(&any, "web-1"), update(&event, "web-1"), over(&event), missed(&event, "web-1")] {
                prop_assert!(units(&parsed(&html)) <= LIMIT);
            }
        }
    }
}
