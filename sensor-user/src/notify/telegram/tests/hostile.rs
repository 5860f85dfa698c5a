//! Attackers choose names and evidence, strangers their own names: none of it is more than text.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use proptest::prelude::*;
use sensor_core::incident::{Change, Language};
use sensor_core::net::Network;
use sensor_core::respond::{Block, Decider, Measure, Mode, Refusal, Scope, Target};
use sensor_core::time::Timestamp;
use sensor_ebpf::abi::BlockEntry;
use serde_json::json;

use crate::config::suppress::{RawSuppress, Suppress};
use crate::notify::telegram::command::Command;
use crate::notify::telegram::html::{LIMIT, units};
use crate::notify::telegram::page::{self, Details};
use crate::notify::telegram::room::{compose, event_of};
use crate::notify::telegram::standing::Standing;
use crate::notify::telegram::update::User;
use crate::notify::telegram::words::Words;
use crate::notify::template::Templates;
use crate::notify::testing::incident;
use crate::notify::view::{Author, DigestView, View};
use crate::respond::Listed;
use crate::store::{Kept, Queue};

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
                let named = [("&amp;", '&'), ("&lt;", '<'), ("&gt;", '>'), ("&quot;", '"')];
                let numbered = [("&#x27;", '\''), ("&#x2f;", '/')];
                let entity = named.into_iter().chain(numbered).find(|(entity, _)| rest.starts_with(entity));
                let (entity, c) = entity.expect("an entity");
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

#[track_caller]
fn check(html: &str) {
    let text = parsed(html);
    assert_eq!(units(html), text.encode_utf16().count());
    assert!(units(html) <= LIMIT, "{}", units(html));
    assert!(!text.trim().is_empty() && !text.contains(['\r', '\u{1b}', '\u{202e}']), "{text:?}");
}

#[test]
fn what_an_attacker_wrote_stays_text() {
    let mut evil = incident("<b>");
    evil.summary = "</b><a href=\"tg://x\">click</a>\n\u{202e}&amp;'".to_owned();
    let author = author(Language::En, "<code>");
    let templates = Templates::load(None, Language::En).unwrap();
    let kept = Kept { incident: evil, closed_at: None, events: 1, judgement: None, muted_by: None };
    let standing = Standing { lines: vec!["by </b><i>".to_owned()], ..Standing::default() };
    let html = compose(&templates, &View::of(&event_of(&kept), &author), &standing).unwrap();
    let text = parsed(&html);
    assert!(text.contains("</b><a href=\"tg://x\">click</a> &amp;'") && text.ends_with("\n\nby </b><i>"), "{text}");
}

#[track_caller]
fn blocks_are_only_text(
    words: Words,
    templates: &Templates,
    (actor, who, reason): (&str, &str, &str),
    addresses: &[std::net::Ipv6Addr],
) {
    let hour = Duration::from_secs(3600);
    let listed = |(addr, by): (&std::net::Ipv6Addr, Decider)| {
        let block = Block {
            target: Target::Peer { network: Network::of(IpAddr::from(*addr).into()), scope: Scope::All },
            measure: Measure::Drop,
            enforced: addr.octets()[15] % 2 == 0,
            since: Timestamp::EPOCH,
            until: Timestamp::EPOCH + hour,
            by,
            reason: reason.to_owned(),
        };
        Listed { block, hits: BlockEntry::default(), last_seen: None }
    };
    let by = [Decider::Person, Decider::Incident, Decider::List].map(|by| by(actor.to_owned()));
    let listed: Vec<Listed> = addresses.iter().zip(by.into_iter().cycle()).map(listed).collect();
    for mode in Mode::ALL {
        check(&page::render(templates, words, "telegram.blocks.html", |n| {
            page::Blocks::of(&listed, (mode, hour), (words, Timestamp::EPOCH), n)
        }));
    }
    if let [first, ..] = listed.as_slice() {
        let network = first.block.target.network().unwrap();
        for text in [format!("/block {network} 1m {reason}"), format!("/unblock {network} {reason}")] {
            let Some(Command::Order(order)) = Command::parse(&text, None, true) else { panic!("{text}") };
            check(&words.question(&order));
        }
        check(&words.blocked(&first.block, who));
        check(&words.unblocked(network, 1, &[first.block.target], who));
        check(&words.refused(network, &Refusal::NoTime).1);
    }
}

fn author(language: Language, sensor: &str) -> Author {
    Author { sensor: sensor.to_owned(), language, dashboard: None }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_message_is_well_formed_and_fits(
        spanish in any::<bool>(),
        closed in any::<bool>(),
        summary in ".{0,3000}",
        sensor in ".{0,100}",
        id in ".{0,200}",
        names in (".{0,200}", ".{0,200}"),
        evidence in prop::collection::btree_map(".{0,100}", ".{0,500}", 0..60),
        addresses in prop::collection::vec(any::<std::net::Ipv6Addr>(), 0..64),
    ) {
        let language = if spanish { Language::Es } else { Language::En };
        let (words, author) = (Words(language), author(language, &sensor));
        let templates = Arc::new(Templates::load(None, language).unwrap());
        let user: User = serde_json::from_value(json!({"id": 1, "first_name": names.0, "last_name": names.1})).unwrap();
        let who = user.person();
        prop_assert!(!who.actor.chars().any(char::is_control));
        let lines = vec![words.muted("2025-06-15T15:06:40Z", &who.name), words.found_false(&who.name)];
        let standing = Standing { lines, muted: true, judged: true, ..Standing::default() };

        let mut any = incident(&id);
        any.summary = summary;
        any.attackers = addresses.iter().copied().map(Into::into).collect();
        any.victims.clone_from(&any.attackers);
        let text = names.0.clone();
        any.evidence = evidence.into_iter().map(|(name, value)| (name, json!(value))).collect();
        any.evidence.insert("roles".to_owned(), json!({text.clone(): [text.clone(), 5]}));
        let flow = json!({"src_addr": "192.0.2.1", "dst_addr": "::1", "community_id": text});
        any.evidence.insert("sample_flows".to_owned(), json!([flow, 7]));
        let moment = json!({"at": 1.0, "severity": "low"});
        any.evidence.insert("timeline".to_owned(), json!(vec![moment; 200]));
        let closed_at = closed.then_some(any.last_seen);
        let kept = Kept { incident: any, closed_at, events: 3, judgement: None, muted_by: None };
        let mut event = event_of(&kept);
        let view = View::of(&event, &author);

        check(&compose(&templates, &view, &standing).unwrap());
        event.told = false;
        check(&compose(&templates, &View::of(&event, &author), &Standing::default()).unwrap());
        for short in ["telegram.over.html", "telegram.rise.html"] {
            check(&templates.render(short, &view).unwrap());
        }
        event.change = Change::Opened;
        check(&templates.render("telegram.digest.html", DigestView::of(&[event.clone(), event], &author)).unwrap());

        let all = vec![kept.clone(); 50];
        check(&page::render(&templates, words, "telegram.details.html", |n| Details::of(&kept, &standing, &author, n)));
        check(&page::render(&templates, words, "telegram.incidents.html", |n| page::List::of(&author, &all, n)));
        check(&page::render(&templates, words, "telegram.top.html", |n| page::Top::of(&sensor, &all, n)));
        check(&page::render(&templates, words, "telegram.help.html", |_| page::Help::of(&sensor, words)));
        for queues in [
            Ok(vec![Queue { sink: names.1.clone(), pending: 5, dead: 2, ..Queue::default() }; 9]),
            Err(anyhow::anyhow!("{}", names.1)),
        ] {
            let status = |_| page::StatusPage::of(&author, Some(crate::terminal::Status::default()), &queues);
            check(&page::render(&templates, words, "telegram.status.html", status));
        }
        let raw = RawSuppress { name: "r".to_owned(), reason: "r".to_owned(), class: [kept.incident.class].into(), ..RawSuppress::default() };
        let reason: String = names.0.chars().filter(|c| !c.is_control()).take(40).collect();
        let reason = if reason.trim().is_empty() { raw.reason.clone() } else { reason };
        let rules = vec![Suppress::try_from(RawSuppress { reason, ..raw }).unwrap(); 100];
        check(&page::render(&templates, words, "telegram.mutes.html", |n| page::Mutes::of(&rules, words, n)));
        blocks_are_only_text(words, &templates, (&names.0, &who.name, &names.1), &addresses);
        check(&words.rule_added(&who.name, "2025", &page::what(&rules[0], words)));
        let told = words.failed(&anyhow::Error::msg(names.0)).chars().count();
        prop_assert!(told <= 200, "{told}");
    }
}
