//! What people can ask the bot, and tell it.

use sensor_core::incident::{Change, Severity};
use sensor_core::time::Timestamp;
use serde_json::json;

use super::fake::Telegram;
use crate::notify::Outcome;
use crate::notify::testing::{Rig, incident, until};
use crate::store::{Audited, Verdict};

const ID: &str = "0123456789abcdef";

async fn opened(telegram: &Telegram, chats: &str, more: &str) -> Rig {
    let rig = telegram.rig(chats, more);
    rig.send(Change::Opened, &incident(ID));
    let chats = chats.split(',').count();
    telegram.wait_for("sendMessage", chats).await;
    until(|| rig.count("telegram:", Outcome::Delivered) == chats as u64).await;
    rig
}

async fn audit(rig: &Rig) -> Vec<Audited> {
    rig.keeper.call(|desk| desk.store().unwrap().audit(Timestamp::EPOCH, 100).unwrap()).await.unwrap()
}

async fn verdict(rig: &Rig) -> Option<Verdict> {
    let kept = rig.keeper.call(|desk| desk.store().unwrap().incident(ID).unwrap()).await.unwrap().unwrap();
    kept.judgement.map(|judgement| judgement.verdict)
}

#[tokio::test]
async fn a_press_mutes_after_asking_for_how_long_and_says_who_did() {
    let telegram = Telegram::start().await;
    let rig = opened(&telegram, "[1, -200]", "").await;
    // Which chat is told first is open.
    let first = telegram.of("sendMessage")[0].body["chat_id"] == 1;
    let (ours, theirs) = if first { (100, 101) } else { (101, 100) };

    telegram.press(1, ours, &format!("m:{ID}"));
    let menu = telegram.wait_for("editMessageReplyMarkup", 1).await;
    assert_eq!(menu.buttons(), [format!("mh:{ID}"), format!("md:{ID}"), format!("mw:{ID}"), format!("x:{ID}")]);
    assert_eq!((&menu.body["chat_id"], &menu.body["message_id"]), (&json!(1), &json!(ours)));
    assert!(audit(&rig).await.is_empty(), "nothing is done before it is confirmed");

    telegram.press(1, ours, &format!("md:{ID}"));
    telegram.wait_for("editMessageText", 2).await;
    telegram.all_taken().await;
    let rules = rig.keeper.call(|desk| (desk.store().unwrap().mutes().unwrap(), desk.now())).await.unwrap();
    let raw = rules.0[0].raw();
    assert_eq!((rules.0.len(), raw.name.as_str()), (1, "telegram-0123456789abcdef"));
    assert_eq!(raw.from.iter().map(ToString::to_string).collect::<Vec<_>>(), ["203.0.113.5"]);
    assert!(raw.to.is_empty() && raw.class.len() == 1);
    let left = raw.expires.at().unwrap().since(rules.1).as_secs();
    assert!((86_300..=86_400).contains(&left), "{left}");
    let done = audit(&rig).await;
    assert_eq!((done[0].action.as_str(), done[0].actor.as_str()), ("mute", "telegram:42 (Ana <b>López)"));

    // Both chats see it: their messages, and no button that does it again.
    let edits = telegram.of("editMessageText");
    for edit in &edits {
        assert!(
            edit.text().contains("🔇 Muted until 20") && edit.text().ends_with("by Ana &lt;b&gt;López"),
            "{edit:?}"
        );
        assert_eq!(edit.buttons(), ["d", "b", "f", "c"].map(|code| format!("{code}:{ID}")));
    }
    assert_eq!(edits.iter().map(|edit| edit.body["chat_id"].as_i64().unwrap()).collect::<Vec<_>>(), [1, -200]);
    let answers = telegram.of("answerCallbackQuery");
    assert_eq!(answers.len(), 2);
    assert_eq!(answers[1].text(), "Muted.");

    // Pressed again, from a message that was not drawn anew: nothing more is done.
    telegram.press(-200, theirs, &format!("mw:{ID}"));
    let answer = telegram.wait_for("answerCallbackQuery", 3).await;
    assert!(answer.text().starts_with("It is muted already, until 20"), "{answer:?}");
    assert_eq!(audit(&rig).await.len(), 1);

    // What happens to the incident later keeps it.
    rig.send(Change::Updated, &incident(ID));
    until(|| telegram.of("editMessageText").iter().filter(|edit| edit.text().contains("🔇")).count() >= 6).await;

    telegram.write(1, "/unmute telegram-0123456789abcdef");
    until(|| telegram.of("editMessageText").last().unwrap().buttons().contains(&format!("m:{ID}"))).await;
    assert_eq!(audit(&rig).await.last().unwrap().action, "unmute");
}

#[tokio::test]
async fn a_false_positive_is_kept_after_asking_and_only_once() {
    let telegram = Telegram::start().await;
    let rig = opened(&telegram, "[1]", "").await;
    telegram.press(1, 100, &format!("f:{ID}"));
    let sure = telegram.wait_for("editMessageReplyMarkup", 1).await;
    assert_eq!(sure.buttons(), [format!("fy:{ID}"), format!("x:{ID}")]);
    telegram.press(1, 100, &format!("x:{ID}"));
    let back = telegram.wait_for("editMessageReplyMarkup", 2).await;
    assert_eq!(back.buttons().len(), 5);
    assert_eq!(verdict(&rig).await, None);

    telegram.press(1, 100, &format!("fy:{ID}"));
    telegram.press(1, 100, &format!("fy:{ID}"));
    telegram.wait_for("answerCallbackQuery", 4).await;
    telegram.all_taken().await;
    assert_eq!(verdict(&rig).await, Some(Verdict::FalsePositive));
    let done = audit(&rig).await;
    assert_eq!(done.len(), 1, "{done:?}");
    assert_eq!((done[0].action.as_str(), done[0].target.as_str()), ("false_positive", ID));
    let edit = telegram.of("editMessageText").pop().unwrap();
    assert!(edit.text().ends_with("❌ False positive, says Ana &lt;b&gt;López"), "{edit:?}");
    assert_eq!(edit.buttons(), ["d", "m", "b"].map(|code| format!("{code}:{ID}")));
}

#[tokio::test]
async fn confirmed_and_details_answer_at_once() {
    let telegram = Telegram::start().await;
    let mut high = incident(ID);
    high.evidence.insert("roles".to_owned(), json!({"192.0.2.10": ["server"]}));
    let flow = json!({
        "src_addr": "203.0.113.5", "src_port": 4000, "dst_addr": "192.0.2.10", "dst_port": 22, "proto": 6,
        "sent_packets": 1, "received_packets": 2, "sent_octets": 60, "received_octets": 80, "community_id": "1:xyz=",
    });
    high.evidence.insert("sample_flows".to_owned(), json!([flow]));
    let moment = json!({"at": 1_750_000_003.5, "severity": "high", "attackers": 1, "victims": 2, "ports": 812});
    high.evidence.insert("timeline".to_owned(), json!([moment]));
    let rig = telegram.rig("[1]", "");
    rig.send(Change::Opened, &high);
    telegram.wait_for("sendMessage", 1).await;
    telegram.press(1, 100, &format!("d:{ID}"));
    let details = telegram.wait_for("sendMessage", 2).await;
    for part in [
        "Open; events so far: 1",
        "🟠 2025-06-15 15:06:43: attackers 1, victims 2, ports 812",
        "<code>203.0.113.5:4000</code> → <code>192.0.2.10:22</code> tcp, 1+2 packets, 60+80 octets, <code>1:xyz=</code>",
        "<b>Known for</b>\n<code>192.0.2.10</code> server",
        "failed_ratio: 0.988",
    ] {
        assert!(details.text().contains(part), "{part}\n{}", details.text());
    }
    assert_eq!(details.body["reply_parameters"]["message_id"], 100);
    telegram.press(1, 100, &format!("c:{ID}"));
    let edit = telegram.wait_for("editMessageText", 1).await;
    assert!(edit.text().contains("✅ Confirmed by Ana"));
    assert_eq!(verdict(&rig).await, Some(Verdict::Confirmed));
    telegram.press(1, 100, &format!("d:{ID}"));
    let details = telegram.wait_for("sendMessage", 3).await;
    assert!(details.text().contains("<b>Verdict</b> confirmed"), "{details:?}");
}

#[tokio::test]
async fn every_press_is_answered_and_none_that_is_made_up_does_anything() {
    let telegram = Telegram::start().await;
    let rig = opened(&telegram, "[1]", "").await;
    let made_up = [
        "",
        "q:y",
        "by:0123456789abcde",
        "x",
        "d:",
        "d:../../etc",
        "mh:unknown0000",
        "fy:0123456789abcde",
        "mm:0123456789abcdef",
    ];
    for data in made_up {
        telegram.press(1, 100, data);
    }
    telegram.wait_for("answerCallbackQuery", made_up.len()).await;
    telegram.all_taken().await;
    let answers = telegram.of("answerCallbackQuery");
    assert!(answers.iter().all(|answer| !answer.text().is_empty()), "{answers:?}");
    assert!(audit(&rig).await.is_empty());
    assert!(telegram.of("editMessageText").is_empty() && telegram.of("sendMessage").len() == 1);
}

#[tokio::test]
async fn strangers_are_ignored_and_those_who_may_not_act_are_told() {
    let telegram = Telegram::start().await;
    let rig = opened(&telegram, "[1, -200]", "allowed_users = [7]").await;
    telegram.write(666, "/status");
    telegram.press(666, 100, &format!("fy:{ID}"));
    telegram.write(-200, "/status");
    telegram.press(-200, 101, &format!("fy:{ID}"));
    telegram.update(json!({"message": {"message_id": "no number"}}));
    telegram.update(json!({"poll": {}}));
    telegram.all_taken().await;
    assert_eq!(telegram.of("sendMessage").len(), 2, "the two openings");
    let answers = telegram.of("answerCallbackQuery");
    assert_eq!((answers.len(), answers[0].text()), (1, "You may not do this here."));
    assert_eq!(verdict(&rig).await, None);
    let metrics = rig.metrics.render();
    for line in [r#"{result="stranger"} 3"#, r#"{result="handled"} 1"#, r#"{result="unreadable"} 2"#] {
        assert!(metrics.contains(&format!("leuko_telegram_updates_total{line}")), "{line}");
    }
    // The chat with one person is theirs.
    telegram.write(1, "/help");
    telegram.wait_for("sendMessage", 3).await;
}

#[tokio::test]
async fn commands_are_answered() {
    let telegram = Telegram::start().await;
    let rig = telegram.rig("[1, -200]", "min_severity = \"critical\"");
    let mut second = incident("fedcba9876543210");
    second.severity = Severity::High;
    rig.send(Change::Opened, &incident(ID));
    rig.send(Change::Opened, &second);
    rig.send(Change::Closed, &second);
    let mut sent = 0;
    for (chat, text, parts) in [
        (1, "/start", &["incidents that the sensor <b>web-1</b> finds", "/mute – "] as &[&str]),
        (1, "/status", &["<b>web-1</b>\nThe sensor has just begun"]),
        (
            1,
            "/incidents",
            &["🟡 <b>Port scan</b> · open\n203.0.113.5 → 192.0.2.10\n2025-06-15 15:06:43 UTC <code>0123"],
        ),
        (1, "/incidents 1", &["🟢 <b>Port scan</b>\n"]),
        (1, "/incident 01234", &["Open; events so far: 1", "<code>0123456789abcdef</code>"]),
        (1, "/incident nothing", &["There is no such incident."]),
        (1, "/incident", &["Write <code>/incident ID</code>"]),
        (1, "/top", &["<b>The last 24 hours</b> · incidents: 0"]),
        (1, "/mutes", &["Nothing is muted"]),
        (1, "/mute 01234 30m our <own> scanner", &["🔇 Muted until 20", "Port scan from 203.0.113.5"]),
        (
            -200,
            "/mutes@Leuko_Bot",
            &["<b>What is not reported</b> (1)", "telegram-0123456789abcdef", "our &lt;own&gt; scanner"],
        ),
        (1, "/unmute telegram-0123456789abcdef", &["is reported again"]),
        (1, "/unmute <b>", &["There is no rule <code>&lt;b&gt;</code>"]),
        (1, "/block 192.0.2.1", &["The sensor cannot act yet"]),
        (1, "/unblock", &["Write <code>/unblock ADDRESS"]),
        (1, "/blocks", &["The sensor cannot act yet"]),
        (1, "/dance", &["/help lists them"]),
    ] {
        telegram.write(chat, text);
        sent += 1;
        let answer = telegram.wait_for("sendMessage", sent).await;
        for part in parts {
            assert!(answer.text().contains(part), "{text}: {part}\n{}", answer.text());
        }
        assert_eq!(
            (&answer.body["chat_id"], &answer.body["reply_parameters"]["message_id"]),
            (&json!(chat), &json!(7))
        );
    }
    for text in ["/dance", "hello", "/help@other_bot"] {
        telegram.write(-200, text);
    }
    telegram.all_taken().await;
    assert_eq!(telegram.of("sendMessage").len(), sent, "what is not for us is not answered");
    let done: Vec<_> = audit(&rig).await.into_iter().map(|one| (one.action, one.reason)).collect();
    assert_eq!(done[0], ("mute".to_owned(), "our <own> scanner".to_owned()));
    let listed = &telegram.of("setMyCommands")[0].body["commands"];
    assert_eq!(listed[0]["command"], "status");
}

#[tokio::test]
async fn a_store_that_cannot_be_written_is_told() {
    let telegram = Telegram::start().await;
    let rig = opened(&telegram, "[1]", "").await;
    let path = rig.dir.path().join("leuko.db");
    let other = rusqlite::Connection::open(path).unwrap();
    other.execute_batch("DROP TABLE mute; DROP TABLE audit").unwrap();
    telegram.press(1, 100, &format!("mh:{ID}"));
    let answer = telegram.wait_for("answerCallbackQuery", 1).await;
    assert!(answer.text().starts_with("This could not be done: "), "{answer:?}");
    assert_eq!(answer.body["show_alert"], true);
    telegram.write(1, "/mutes");
    let answer = telegram.wait_for("sendMessage", 2).await;
    assert!(answer.text().starts_with("This could not be done: "), "{answer:?}");
}
