//! What is published, to the letter.

use sensor_core::incident::{Change, Severity};
use serde_json::json;

use crate::notify::testing::{Answer, Fake, Rig, incident};

#[tokio::test]
async fn an_event_is_a_notification_as_urgent_as_it_is_bad() {
    let ntfy = Fake::start(|_, _| Answer::Json(200, json!({"id": "x"}))).await;
    let top = "dashboard = \"https://leuko.example\"";
    let rig = Rig::start(&format!("{top}\n[[ntfy]]\nurl = \"{}\"\ntopic = \"soc\"\ntoken = \"tk_1\"\n", ntfy.url));
    let mut a = incident("a");
    a.severity = Severity::Critical;
    rig.send(Change::Opened, &a);
    rig.send(Change::Closed, &a);
    let posts = ntfy.wait_for(2).await;
    assert_eq!((posts[0].path.as_str(), &posts[0].headers["authorization"]), ("/", &"Bearer tk_1".parse().unwrap()));
    assert_eq!(
        posts[0].body,
        json!({
            "topic": "soc",
            "title": "Port scan · critical · web-1",
            "message": "203.0.113.5 probed 812 ports of 192.0.2.10 <tcp> & more\n\n\
                From: 203.0.113.5\nTo: 192.0.2.10\nPorts: 22, 80, 443\nSince: 2025-06-15 15:06:40 UTC\nScore: 0.93\nID: a\n\n\
                failed_ratio: 0.988\nports: 812",
            "priority": 5,
            "tags": ["red_circle", "port_scan", "opened"],
            "click": "https://leuko.example/incidents/a",
        })
    );
    assert_eq!((&posts[1].body["priority"], &posts[1].body["tags"][0]), (&json!(2), &json!("green_circle")));
}
