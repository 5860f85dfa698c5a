//! What people can have the sensor block, and how they are asked first.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use sensor_core::incident::{Change as Happened, Incident, IncidentEvent};
use sensor_core::net::Network;
use sensor_core::respond::{
    Block, Change, Decider, Guard, Ladder, Measure, Mode, Policy, Protection, Refusal, Scope, Selection, Target, Wish,
};
use sensor_core::time::Timestamp;
use sensor_ebpf::abi::BlockEntry;
use serde_json::{Value, json};

use super::fake::{Call, Telegram};
use crate::notify::testing::{Rig, incident, now, until};
use crate::respond::{Act, Listed};
use crate::store::event_time;

const ID: &str = "0123456789abcdef";
/// What is never blocked.
const GATEWAY: &str = "192.0.2.1";

/// A ladder without a kernel.
struct Sensor(Mutex<Ladder>);

impl Sensor {
    fn start(rig: &Rig, policy: Policy) -> Arc<Self> {
        let mut guard = Guard::default();
        guard.set(Protection::Gateway, vec![network(GATEWAY)]);
        let sensor = Arc::new(Self(Mutex::new(Ladder::new(policy, guard, Timestamp::EPOCH))));
        rig.acting.send_replace(Some(Arc::clone(&sensor) as Arc<dyn Act>));
        sensor
    }

    fn with<R>(&self, act: impl FnOnce(&mut Ladder, Timestamp) -> R) -> R {
        act(&mut self.0.lock().unwrap(), event_time(now()))
    }

    fn held(&self) -> Vec<Block> {
        self.with(|ladder, _| ladder.blocks().cloned().collect())
    }

    /// An incident makes the sensor block by itself.
    fn finds(&self, incident: &Incident) {
        let event = IncidentEvent { change: Happened::Opened, at: event_time(now()), incident: incident.clone() };
        let changes = self.with(|ladder, now| ladder.incident(&event, &|_| true, now));
        assert_eq!(changes.len(), 1, "{changes:?}");
    }
}

impl Act for Sensor {
    fn block(&self, wish: Wish) -> Result<Listed, Refusal> {
        let changes = self.with(|ladder, now| ladder.block(wish, now))?;
        Ok(listed(&changes).remove(0))
    }

    fn unblock(&self, selection: Selection, actor: &str, reason: &str) -> Vec<Listed> {
        listed(&self.with(|ladder, now| ladder.unblock(selection, actor, reason, now)))
    }

    fn blocks(&self) -> Vec<Listed> {
        listed(&self.held().into_iter().map(Change::Put).collect::<Vec<_>>())
    }

    fn covering(&self, network: Network) -> Vec<Block> {
        self.with(|ladder, _| ladder.covering(network).cloned().collect())
    }

    fn mode(&self) -> (Mode, Duration) {
        self.with(|ladder, _| (ladder.policy().mode, Duration::from_secs(7200)))
    }
}

fn listed(changes: &[Change]) -> Vec<Listed> {
    let hits = BlockEntry { packets: 812, ..BlockEntry::default() };
    let blocks = changes.iter().map(|change| match change {
        Change::Put(block) | Change::Lift(block, _) => block.clone(),
    });
    blocks.map(|block| Listed { block, hits, last_seen: None }).collect()
}

fn network(text: &str) -> Network {
    text.parse().unwrap()
}

fn targets(blocks: &[Block]) -> Vec<String> {
    blocks.iter().map(|block| block.target.to_string()).collect()
}

fn buttons(codes: &[&str]) -> Vec<String> {
    codes.iter().map(|code| format!("{code}:{ID}")).collect()
}

/// Ana writes a command; gives the answer to it, which is the `count`th message.
async fn asked(telegram: &Telegram, count: usize, text: &str) -> Call {
    telegram.write(1, text);
    telegram.wait_for("sendMessage", count).await
}

/// Ana presses a button; gives what the message says then, as the `count`th edit.
async fn pressed(telegram: &Telegram, count: usize, message: i64, data: &str) -> Call {
    telegram.press(1, message, data);
    telegram.wait_for("editMessageText", count).await
}

#[tokio::test]
async fn an_order_is_carried_out_once_and_after_asking() {
    let telegram = Telegram::start().await;
    let rig = telegram.rig("[1]", "");
    let sensor = Sensor::start(&rig, Policy::default());
    let question = asked(&telegram, 1, "/block 203.0.113.7 2h our <b> test").await;
    assert_eq!(question.text(), "Block <code>203.0.113.7</code> for 2 h?\nour &lt;b&gt; test");
    assert_eq!(question.buttons(), ["q:y", "q:n"]);
    telegram.press(1, 99, "q:y");
    telegram.all_taken().await;
    assert!(sensor.held().is_empty(), "another message has not asked");

    let done = pressed(&telegram, 1, 100, "q:y").await;
    assert!(
        done.text().starts_with("🚫 <code>203.0.113.7</code> is blocked for 2 h, by Ana &lt;b&gt;López."),
        "{done:?}"
    );
    assert_eq!((done.buttons().len(), &done.body["message_id"]), (0, &json!(100)));
    let block = sensor.held().remove(0);
    assert_eq!((block.span(), block.measure, block.enforced), (Duration::from_secs(7200), Measure::Drop, true));
    assert_eq!(block.target, Target::Peer { network: network("203.0.113.7"), scope: Scope::All });
    assert_eq!(block.by, Decider::Person("telegram:42 (Ana <b>López)".to_owned()));
    assert_eq!(block.reason, "our <b> test");
    telegram.press(1, 100, "q:y");
    telegram.all_taken().await;
    let answers: Vec<_> = telegram.of("answerCallbackQuery").iter().map(|call| call.text().to_owned()).collect();
    let over = "This question is over: write the command again.";
    assert_eq!(answers, [over, "Blocked.", over]);
    assert_eq!(sensor.held(), [block]);

    asked(&telegram, 2, "/block 203.0.113.8").await;
    let left = pressed(&telegram, 2, 101, "q:n").await;
    assert_eq!((left.text(), sensor.held().len()), ("Left as it was.", 1));
    asked(&telegram, 3, "/block 192.0.2.0/24 1d").await;
    let refused = pressed(&telegram, 3, 102, "q:y").await;
    let why = "<code>192.0.2.0/24</code> is not blocked: 192.0.2.0/24 is or holds a gateway, which is never blocked";
    assert!(refused.text().starts_with(why), "{refused:?}");
    assert_eq!(telegram.of("answerCallbackQuery").last().unwrap().body["show_alert"], true);

    let question = asked(&telegram, 4, "/unblock 203.0.113.0/24 a mistake").await;
    assert_eq!(question.text(), "Unblock <code>203.0.113.0/24</code>?\na mistake");
    assert_eq!(sensor.held().len(), 1);
    let done = pressed(&telegram, 4, 103, "q:y").await;
    assert_eq!(done.text(), "🔓 <code>203.0.113.0/24</code>: blocks lifted by Ana &lt;b&gt;López: 1.");
    assert!(sensor.held().is_empty());
    asked(&telegram, 5, "/unblock 203.0.113.9").await;
    let nothing = pressed(&telegram, 5, 104, "q:y").await;
    assert!(nothing.text().starts_with("Nothing of <code>203.0.113.9</code> was blocked."), "{nothing:?}");

    let target = Target::Peer { network: network("203.0.113.0/24"), scope: Scope::Protocol(17) };
    let (actor, reason) = ("local:alice".to_owned(), String::new());
    sensor.block(Wish { target, measure: Measure::Drop, span: None, actor, reason }).unwrap();
    asked(&telegram, 6, "/unblock 203.0.113.9").await;
    let wider = pressed(&telegram, 6, 105, "q:y").await;
    assert!(wider.text().ends_with(" Still blocked by: 203.0.113.0/24 udp."), "{wider:?}");
}

#[tokio::test]
async fn only_those_who_may_act_can_confirm() {
    let telegram = Telegram::start().await;
    let rig = telegram.rig("[-200]", "allowed_users = [7]");
    let sensor = Sensor::start(&rig, Policy::default());
    let bea = json!({"id": 7, "first_name": "Bea"});
    telegram.write_as(&bea, -200, "/block 203.0.113.7");
    telegram.wait_for("sendMessage", 1).await;
    telegram.press(-200, 100, "q:y");
    let answer = telegram.wait_for("answerCallbackQuery", 1).await;
    assert_eq!((answer.text(), sensor.held().len()), ("You may not do this here.", 0));
    telegram.press_as(&bea, (-200, 100), "q:y");
    telegram.wait_for("editMessageText", 1).await;
    assert_eq!(sensor.held()[0].by, Decider::Person("telegram:7 (Bea)".to_owned()));
}

#[tokio::test]
async fn what_is_blocked_is_told_apart_from_what_would_be() {
    let telegram = Telegram::start().await;
    let rig = telegram.rig("[1]", "");
    let sensor = Sensor::start(&rig, Policy::default());
    let nothing = asked(&telegram, 1, "/blocks").await;
    assert_eq!(nothing.text(), "Nothing is blocked\n\nBy itself the sensor only counts what it would block (observe).");
    sensor.finds(&incident(ID));
    let wish = Wish {
        target: Target::Peer { network: network("198.51.100.0/24"), scope: Scope::Port { proto: 6, port: 22 } },
        measure: Measure::Limit(100),
        span: Some(Duration::from_secs(86_400)),
        actor: "local:alice".to_owned(),
        reason: "<i>noisy".to_owned(),
    };
    sensor.block(wish).unwrap();
    let listed = asked(&telegram, 2, "/blocks").await;
    let (blocked, counted) = listed.text().split_once("\n\n<b>What would be blocked").unwrap();
    assert!(blocked.starts_with(
        "<b>What is blocked</b> (1)\n\n🚫 <code>198.51.100.0&#x2f;24 tcp port 22</code> limited to 100 packets&#x2f;s, for another "
    ), "{blocked}");
    assert!(blocked.ends_with("Packets: 812 · local:alice\n&lt;i&gt;noisy"), "{blocked}");
    assert!(counted.contains("👁 <code>203.0.113.5</code>"), "{counted}");
    assert!(counted.contains("Packets: 812 · the sensor (0123456789abcdef)"), "{counted}");
}

#[tokio::test]
async fn a_press_blocks_the_attackers_of_an_incident_and_says_who_was_left() {
    let telegram = Telegram::start().await;
    let rig = telegram.rig("[1]", "");
    let mut attack = incident(ID);
    attack.attackers.push(GATEWAY.parse().unwrap());
    rig.send(Happened::Opened, &attack);
    assert_eq!(telegram.wait_for("sendMessage", 1).await.buttons(), buttons(&["d", "m", "b", "f", "c"]));
    telegram.press(1, 100, &format!("by:{ID}"));
    let answer = telegram.wait_for("answerCallbackQuery", 1).await;
    assert!(answer.text().starts_with("The sensor cannot act yet"), "{answer:?}");

    let sensor = Sensor::start(&rig, Policy::default());
    telegram.press(1, 100, &format!("b:{ID}"));
    let sure = telegram.wait_for("editMessageReplyMarkup", 1).await;
    assert_eq!(sure.buttons(), buttons(&["by", "x"]));
    assert_eq!(sure.body["reply_markup"]["inline_keyboard"][0][0]["text"], "Yes, block 2 for 1 h");
    assert!(sensor.held().is_empty(), "nothing is done before it is confirmed");

    let drawn = pressed(&telegram, 1, 100, &format!("by:{ID}")).await;
    assert!(drawn.text().contains("\n🚫 203.0.113.5: blocked until 20"), "{drawn:?}");
    assert!(drawn.text().ends_with(" UTC by telegram:42 (Ana &lt;b&gt;López)"), "{drawn:?}");
    assert_eq!(drawn.buttons(), buttons(&["d", "m", "b", "u", "f", "c"]));
    let block = sensor.held().remove(0);
    assert_eq!((block.span(), block.reason.as_str()), (Duration::from_secs(3600), "incident 0123456789abcdef"));
    let reply = telegram.wait_for("sendMessage", 2).await;
    assert!(
        reply.text().starts_with("Blocked for 1 h: 1 of 2. Refused: 1.\n<code>192.0.2.1</code> is not"),
        "{reply:?}"
    );
    assert_eq!(reply.body["reply_parameters"]["message_id"], 100);

    pressed(&telegram, 2, 100, &format!("by:{ID}")).await;
    telegram.all_taken().await;
    let told = telegram.of("answerCallbackQuery").pop().unwrap();
    assert_eq!(told.text(), "Blocked for 1 h: 0 of 2. Blocked already: 1. Refused: 1.");
    assert_eq!(sensor.held(), [block]);

    telegram.press(1, 100, &format!("u:{ID}"));
    let sure = telegram.wait_for("editMessageReplyMarkup", 2).await;
    assert_eq!((sure.buttons(), sensor.held().len()), (buttons(&["uy", "x"]), 1));
    let drawn = pressed(&telegram, 3, 100, &format!("uy:{ID}")).await;
    assert_eq!(drawn.buttons(), buttons(&["d", "m", "b", "f", "c"]));
    assert!(!drawn.text().contains('🚫') && sensor.held().is_empty());
    telegram.all_taken().await;
    assert_eq!(telegram.of("answerCallbackQuery").last().unwrap().text(), "Blocks lifted: 1.");
}

#[tokio::test]
async fn what_the_sensor_blocks_is_shown_and_taken_back_by_command() {
    let telegram = Telegram::start().await;
    let rig = telegram.rig("[1]", "");
    let day = Duration::from_secs(86_400);
    let policy = Policy { mode: Mode::Drop, first: day, observe_first: Duration::ZERO, ..Policy::default() };
    let sensor = Sensor::start(&rig, policy);
    sensor.finds(&incident(ID));
    rig.send(Happened::Opened, &incident(ID));
    let told = telegram.wait_for("sendMessage", 1).await;
    assert!(told.text().contains("🚫 203.0.113.5: blocked until 20"), "{told:?}");
    assert!(told.text().ends_with(" UTC by the sensor (0123456789abcdef)"), "{told:?}");
    assert_eq!(told.buttons(), buttons(&["d", "m", "u", "f", "c"]));
    // A button of an older drawing makes no block shorter.
    telegram.press(1, 100, &format!("by:{ID}"));
    telegram.wait_for("editMessageText", 1).await;
    assert_eq!(sensor.held()[0].span(), day);

    asked(&telegram, 2, "/unblock 203.0.113.5").await;
    telegram.press(1, 101, "q:y");
    until(|| telegram.of("editMessageText").len() == 3).await;
    let edits = telegram.of("editMessageText");
    assert_eq!((&edits[1].body["message_id"], &edits[2].body["message_id"]), (&json!(100), &json!(101)));
    assert_eq!(edits[1].buttons(), buttons(&["d", "m", "b", "f", "c"]));
    assert!(sensor.held().is_empty());
}

#[tokio::test]
async fn of_many_attackers_the_first_are_blocked_and_forged_ones_never() {
    let telegram = Telegram::start().await;
    let rig = telegram.rig("[1]", "");
    let sensor = Sensor::start(&rig, Policy::default());
    let mut attack = incident(ID);
    attack.attackers = (10..30_u8).map(|host| [203, 0, 113, host].into()).collect();
    attack.evidence.insert("attackers_total".to_owned(), json!(500));
    rig.send(Happened::Opened, &attack);
    telegram.wait_for("sendMessage", 1).await;
    pressed(&telegram, 1, 100, &format!("by:{ID}")).await;
    assert_eq!(telegram.of("answerCallbackQuery")[0].text(), "Blocked for 1 h: 8 of 500.");
    assert_eq!(targets(&sensor.held()), (10..18).map(|host| format!("203.0.113.{host}")).collect::<Vec<_>>());

    for (id, attackers, spoofed) in [("a", vec![], Value::Null), ("b", attack.attackers.clone(), json!(true))] {
        let mut forged = Incident { attackers, ..incident(id) };
        forged.evidence.insert("spoofed".to_owned(), spoofed);
        rig.send(Happened::Opened, &forged);
    }
    for count in [2, 3] {
        let told = telegram.wait_for("sendMessage", count).await;
        assert!(!told.buttons().iter().any(|data| data.starts_with('b')), "{told:?}");
    }
    for (count, data) in [(2, "b:b"), (3, "by:b"), (4, "by:a"), (5, "u:a")] {
        telegram.press(1, 101, data);
        let answer = telegram.wait_for("answerCallbackQuery", count).await;
        assert!(answer.text().starts_with("Nobody can be blocked"), "{data} {answer:?}");
    }
    assert_eq!(sensor.held().len(), 8);
}
