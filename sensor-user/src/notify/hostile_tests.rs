//! An attacker chooses names, labels and what a program says of itself: none of it becomes more than text, and no message
//! becomes longer than its service takes.

use std::sync::Arc;

use proptest::prelude::*;
use sensor_core::incident::{Change, Class, Incident, Language, Severity};
use serde_json::{Value, json};

use super::template::Templates;
use super::template::fit::units;
use super::testing::{incident, kept};
use super::view::Author;
use super::{discord, mattermost, ntfy, otlp, slack, webhook};
use crate::store::Event;

/// Pieces of text that mean something to somebody, between others.
fn text() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("@everyone "),
        Just("<@1>"),
        Just("<!channel>"),
        Just("[a](http://evil.example)"),
        Just("https://evil.example/"),
        Just("WWW.evil.example"),
        Just("```\n"),
        Just("`a`"),
        Just("**a**"),
        Just("_a_"),
        Just("||a||"),
        Just("~a~"),
        Just("> a"),
        Just("# a"),
        Just("- a"),
        Just("&lt;"),
        Just("\",\"x\":\""),
        Just("\\"),
        Just("{{ 7 }}"),
        Just("{% if %}"),
        Just("\r\nX-A: b"),
        Just("\u{1b}[31m\u{0}"),
        Just("\u{202e}\u{2028}"),
        Just("𝕊𝕊𝕊𝕊"),
    ];
    prop::collection::vec(prop_oneof![piece.prop_map(str::to_owned), any::<String>()], 0..40)
        .prop_map(|all| all.concat())
}

fn hostile() -> impl Strategy<Value = Incident> {
    let evidence = prop::collection::btree_map(text(), text(), 0..60);
    (text(), evidence, 0..200_u16, 0..Class::ALL.len(), 0..Severity::ALL.len()).prop_map(
        |(summary, evidence, addresses, class, severity)| Incident {
            class: Class::ALL[class],
            severity: Severity::ALL[severity],
            attackers: (0..addresses)
                .map(|n| std::net::Ipv6Addr::new(0x2001, 0xdb8, 100, n, n, n, n, n).into())
                .collect(),
            summary,
            evidence: evidence.into_iter().map(|(name, value)| (name, json!(value))).collect(),
            ..incident("a_b-1")
        },
    )
}

fn world(sensor: &str, language: Language) -> (Arc<Templates>, Author) {
    let dashboard = Some("https://leuko.example/a_b".to_owned());
    let author = Author { sensor: sensor.to_owned(), language, dashboard };
    (Arc::new(Templates::load(None, language).unwrap()), author)
}

/// The characters by which Markdown is more than text, as they stand: not escaped, not code, not held apart.
fn marks(text: &str) -> String {
    let mut marks = String::new();
    let mut chars = text.chars().peekable();
    let mut code = false;
    while let Some(c) = chars.next() {
        match c {
            '`' => {
                code = !code;
                marks.push(c);
            }
            _ if code => {}
            '\\' => drop(chars.next()),
            '*' | '_' | '~' | '|' | '>' | '#' | '[' | ']' | '(' | ')' | '!' => marks.push(c),
            '@' | '<' | '&' if chars.peek() != Some(&'\u{200b}') => marks.push(c),
            ':' if chars.peek() == Some(&'/') => marks.push_str("://"),
            _ => {}
        }
    }
    marks
}

/// The same of Slack's: what is not an entity, and not held apart.
fn slack_marks(text: &str) -> String {
    let mut marks = String::new();
    let (mut before, mut code) = (' ', false);
    for c in text.chars() {
        match c {
            '`' if before != '\u{200b}' => {
                code = !code;
                marks.push(c);
            }
            '<' | '>' => marks.push(c),
            '*' | '_' | '~' if !code && before != '\u{200b}' => marks.push(c),
            _ => {}
        }
        before = c;
    }
    marks
}

/// No text in `value` has control characters, but for the ends of lines that a template writes.
fn assert_calm(value: &Value) {
    match value {
        Value::String(text) => {
            let harmful = |c: char| c.is_control() && c != '\n' || matches!(c, '\u{202a}'..='\u{202e}');
            assert!(!text.contains(harmful), "{text:?}");
        }
        Value::Array(items) => items.iter().for_each(assert_calm),
        Value::Object(fields) => fields.values().for_each(assert_calm),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn text_of<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_else(|| panic!("{pointer} of {value}"))
}

fn languages() -> impl Strategy<Value = Language> {
    prop_oneof![Just(Language::En), Just(Language::Es)]
}

fn changes() -> impl Strategy<Value = Change> {
    prop_oneof![Just(Change::Opened), Just(Change::Updated), Just(Change::Closed)]
}

/// The same incident with nothing but words in it.
fn harmless(event: &Event) -> Event {
    let calm = Incident { summary: "words".to_owned(), evidence: [].into(), ..event.incident.clone() };
    Event { incident: calm, ..event.clone() }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn discord_shows_text_within_its_limits(
        incident in hostile(),
        sensor in text(),
        language in languages(),
        change in changes(),
    ) {
        let (templates, author) = world(&sensor, language);
        let event = kept(change, 1, incident);
        let message = discord::embed::of(&event, &author, &templates).unwrap();
        assert_calm(&message);
        assert_eq!(message["allowed_mentions"], json!({"parse": []}));
        assert!(message.get("content").is_none());
        let embed = &message["embeds"][0];
        let plain = discord::embed::of(&harmless(&event), &author, &templates).unwrap();
        assert_eq!(marks(text_of(embed, "/description")), marks(text_of(&plain, "/embeds/0/description")));
        assert_eq!(marks(text_of(embed, "/title")), "");
        let fields = embed["fields"].as_array().unwrap();
        let mut total: usize = ["/title", "/description", "/footer/text"].map(|at| units(text_of(embed, at))).iter().sum();
        for field in fields {
            let (name, value) = (text_of(field, "/name"), text_of(field, "/value"));
            assert_eq!((marks(name), marks(value)), (String::new(), String::new()));
            assert!((1..=256).contains(&units(name)) && (1..=1024).contains(&units(value)));
            total += units(name) + units(value);
        }
        assert!(fields.len() <= 25 && total <= 6000, "{} fields, {total}", fields.len());
        assert!(units(text_of(embed, "/title")) <= 256 && units(text_of(embed, "/description")) <= 4096);
        assert!(units(text_of(embed, "/footer/text")) <= 2048);
    }

    #[test]
    fn mattermost_shows_text_within_its_limits(
        incident in hostile(),
        sensor in text(),
        language in languages(),
        change in changes(),
    ) {
        let (templates, author) = world(&sensor, language);
        let words = mattermost::Words { templates, author, channel: Some("soc".to_owned()), username: None };
        let event = kept(change, 1, incident);
        let message = words.message(&event).unwrap();
        assert_calm(&message);
        assert_eq!(message["channel"], "soc");
        let attachment = &message["attachments"][0];
        let plain = words.message(&harmless(&event)).unwrap();
        assert_eq!(marks(text_of(attachment, "/text")), marks(text_of(&plain, "/attachments/0/text")));
        let mut total = 0;
        for field in attachment["fields"].as_array().unwrap() {
            let (name, value) = (text_of(field, "/title"), text_of(field, "/value"));
            assert_eq!((marks(name), marks(value)), (String::new(), String::new()));
            total += units(name) + units(value);
        }
        assert!(units(text_of(attachment, "/text")) <= 4000 && total <= 6000);
        assert_eq!(marks(text_of(attachment, "/title")) + &marks(text_of(attachment, "/fallback")), "");
        assert_eq!(marks(text_of(attachment, "/footer")), "");
    }

    #[test]
    fn slack_shows_text_within_its_limits(
        incident in hostile(),
        sensor in text(),
        language in languages(),
        change in changes(),
        plain in any::<bool>(),
    ) {
        let (templates, author) = world(&sensor, language);
        let words = slack::Words { templates, author, plain };
        let event = kept(change, 1, Incident { evidence: [].into(), ..incident.clone() });
        let (message, calm) = (words.message(&event).unwrap(), words.message(&harmless(&event)).unwrap());
        for message in [&message, &words.message(&kept(change, 1, incident)).unwrap()] {
            assert_calm(message);
            assert_eq!((&message["parse"], &message["link_names"]), (&json!("none"), &json!(false)));
            assert!(units(text_of(message, "/text")) <= 4000);
            if !plain {
                assert!(text_of(message, "/blocks/0/text/text").chars().count() <= 150);
                assert!(units(text_of(message, "/blocks/1/text/text")) <= 3000);
                assert_eq!(message["blocks"][1]["text"]["verbatim"], true);
                assert_eq!(slack_marks(text_of(message, "/blocks/2/elements/0/text")), "");
            }
        }
        assert_eq!(slack_marks(text_of(&message, "/text")), slack_marks(text_of(&calm, "/text")));
        if !plain {
            let section = "/blocks/1/text/text";
            assert_eq!(slack_marks(text_of(&message, section)), slack_marks(text_of(&calm, section)));
        }
    }

    #[test]
    fn ntfy_shows_text_within_its_limits(
        incident in hostile(),
        sensor in text(),
        language in languages(),
        change in changes(),
    ) {
        let (templates, author) = world(&sensor, language);
        let words = ntfy::Words { templates, author, topic: "leuko".to_owned() };
        let message = words.message(&kept(change, 1, incident)).unwrap();
        assert_calm(&message);
        assert_eq!((&message["topic"], message["tags"].as_array().unwrap().len()), (&json!("leuko"), 3));
        assert!(text_of(&message, "/message").len() <= 4096);
        assert!(!text_of(&message, "/title").contains('\n') && text_of(&message, "/title").chars().count() <= 200);
        assert!((1..=5).contains(&message["priority"].as_u64().unwrap()));
    }

    #[test]
    fn webhook_sends_one_object_of_six_members(
        incident in hostile(),
        sensor in text(),
        language in languages(),
        change in changes(),
    ) {
        let (templates, author) = world(&sensor, language);
        let words = webhook::Words { templates, author };
        let event = kept(change, 1, incident);
        let sent: Value = serde_json::from_str(&words.event(&event).unwrap()).unwrap();
        let members: Vec<_> = sent.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(members, ["at", "change", "incident", "key", "link", "sensor"]);
        assert_eq!(sent["incident"]["summary"], event.incident.summary.as_str());
        assert_eq!(sent["incident"]["evidence"], json!(event.incident.evidence));
        let digest: Value = serde_json::from_str(&words.digest(&[event.clone(), event]).unwrap()).unwrap();
        assert_eq!((&digest["count"], &digest["events"][1]["incident"]), (&json!(2), &sent["incident"]));
    }

    #[test]
    fn otlp_keeps_its_shape(incident in hostile(), sensor in text(), change in changes()) {
        let (_, author) = world(&sensor, Language::En);
        let event = kept(change, 1, incident);
        let request = otlp::wire::request(&[event.clone(), event.clone()], &author);
        let records = request["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array().unwrap();
        assert_eq!(records.len(), 2);
        let mut attributes = records[0]["attributes"].as_array().unwrap().iter();
        let evidence = attributes.find(|one| one["key"] == "incident.evidence");
        let values = evidence.unwrap()["value"]["kvlistValue"]["values"].as_array().unwrap().len();
        assert_eq!(values, event.incident.evidence.len());
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 12, ..ProptestConfig::default() })]

    #[test]
    fn digests_list_what_they_count_within_the_limits(
        summaries in prop::collection::vec(text(), 1..90),
        sensor in text(),
        language in languages(),
    ) {
        let (templates, author) = world(&sensor, language);
        let told = |(summary, n)| kept(Change::Opened, n, Incident { summary, ..incident("a_b-1") });
        let events: Vec<Event> = summaries.into_iter().zip(1..).map(told).collect();
        let (t, a) = (|| Arc::clone(&templates), || author.clone());
        let chat = mattermost::Words { templates: t(), author: a(), channel: None, username: None };
        let blocks = slack::Words { templates: t(), author: a(), plain: false };
        let phone = ntfy::Words { templates: t(), author: a(), topic: "leuko".to_owned() };
        for ((message, listed), at, limit) in [
            (discord::embed::of_several(&events, &author, &templates).unwrap(), "/embeds/0/description", 4096),
            (chat.digest(&events).unwrap(), "/attachments/0/text", 4000),
            (blocks.digest(&events).unwrap(), "/blocks/0/text/text", 3000),
            (phone.digest(&events).unwrap(), "/message", 4096),
        ] {
            assert_calm(&message);
            let text = text_of(&message, at);
            assert!(units(text) <= limit);
            assert!(listed >= 1 && events[..listed].iter().all(|event| text.contains(&event.key())), "{listed}: {text}");
            assert_eq!(text.matches("a_b-1.").count(), listed);
        }
    }
}
