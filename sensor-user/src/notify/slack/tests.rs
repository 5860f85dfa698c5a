//! What is posted, to the letter.

use sensor_core::incident::Change;
use serde_json::{Value, json};

use crate::notify::testing::{Answer, Fake, Rig, incident};

async fn told(more: &str, change: Change) -> Value {
    let slack = Fake::start(|_, _| Answer::Json(200, json!("ok"))).await;
    let top = "dashboard = \"https://leuko.example\"";
    let rig = Rig::start(&format!("{top}\n[[slack]]\nurl = \"{}/services/T/B/x\"\n{more}\n", slack.url));
    rig.send(change, &incident("a"));
    let post = slack.wait_for(1).await.remove(0);
    assert_eq!(post.path, "/services/T/B/x");
    post.body
}

#[tokio::test]
async fn an_event_is_a_message_of_blocks() {
    let section = "203.0.113.5 probed 812 ports of 192.0.2.10 &lt;tcp\u{200b}&gt; &amp; more\n\n\
        *From* `203.0.113.5`\n*To* `192.0.2.10`\n*Ports* 22, 80, 443\n*Since* 2025-06-15 15:06:40 UTC\n*Score* 0.93\n\
        <https://leuko.example/incidents/a|More>\n\nfailed\u{200b}_ratio: 0.988\nports: 812";
    assert_eq!(
        told("", Change::Opened).await,
        json!({
            "text": "🟡 Port scan · medium · web-1: 203.0.113.5 probed 812 ports of 192.0.2.10 &lt;tcp\u{200b}&gt; &amp; more",
            "parse": "none", "link_names": false, "unfurl_links": false, "unfurl_media": false,
            "blocks": [
                {"type": "header", "text": {"type": "plain_text", "text": "🟡 Port scan · medium · web-1", "emoji": false}},
                {"type": "section", "text": {"type": "mrkdwn", "text": section, "verbatim": true}},
                {"type": "context", "elements": [{"type": "mrkdwn", "text": "web-1 · a.1", "verbatim": true}]},
            ],
        })
    );
}

#[tokio::test]
async fn others_are_told_in_plain_text() {
    let body = told("plain = true", Change::Closed).await;
    let text = body["text"].as_str().unwrap();
    assert!(text.starts_with("*🟢 Port scan · medium · web-1*\n203.0.113.5 probed"), "{text}");
    assert!(text.contains("*Over* after 42 s") && text.ends_with("\n`a.1`"), "{text}");
    assert!(body.get("blocks").is_none());
}
