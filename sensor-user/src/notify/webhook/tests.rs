//! Against a server that records.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use sensor_core::contract::{IncidentLine, Line};
use sensor_core::incident::{Change, Severity};
use serde_json::{Value, json};

use crate::notify::Outcome;
use crate::notify::testing::{Answer, Fake, Rig, event, incident, until};

async fn receiver() -> Fake {
    Fake::start(|_, _| Answer::Json(204, Value::Null)).await
}

async fn delivered(rig: &Rig, events: u64) {
    until(|| rig.count("webhook", Outcome::Delivered) == events).await;
}

#[tokio::test]
async fn the_incident_is_sent_as_the_contract_has_it() {
    let receiver = receiver().await;
    let table = format!(
        "dashboard = \"https://leuko.example\"\n[[webhook]]\nurl = \"{}/in?a=1\"\nheaders = {{ X-Team = \"blue\" }}\n\
         basic_auth = {{ username = \"u\", password = \"p\" }}",
        receiver.url
    );
    let rig = Rig::start(&table);
    let mut a = incident("a");
    a.summary = "\"<script>\" \\ \u{1b} & ñ".to_owned();
    a.evidence.insert("host_label".to_owned(), json!({"x\"y": [1, null, 0.1, u64::MAX]}));
    rig.send(Change::Opened, &a);
    a.severity = Severity::High;
    rig.send(Change::Updated, &a);
    rig.send(Change::Closed, &a);
    delivered(&rig, 3).await;

    let posts = receiver.posts();
    assert_eq!((posts[0].path.as_str(), posts[0].query.as_str()), ("/in", "a=1"));
    assert_eq!(
        (&posts[0].headers["x-team"], &posts[0].headers["authorization"]),
        (&"blue".parse().unwrap(), &"Basic dTpw".parse().unwrap())
    );
    let line = Line::Incident(IncidentLine::of(&event(Change::Closed, &a)).unwrap());
    let mut line = serde_json::to_value(line).unwrap();
    line.as_object_mut().unwrap().remove("type");
    assert_eq!(
        posts[2].body,
        json!({
            "key": "a.3", "change": "closed", "at": 1_750_000_042.0, "sensor": "web-1",
            "link": "https://leuko.example/incidents/a", "incident": line,
        })
    );
    assert_eq!((&posts[1].body["change"], &posts[1].body["incident"]["state"]), (&json!("updated"), &json!("open")));
}

#[tokio::test]
async fn requests_are_signed_over_what_is_sent() {
    let receiver = receiver().await;
    let secret = format!("whsec_{}", STANDARD.encode("hunter2"));
    let rig = Rig::start(&format!("[[webhook]]\nurl = \"{}\"\nsecret = \"{secret}\"", receiver.url));
    rig.send(Change::Opened, &incident("a"));
    delivered(&rig, 1).await;
    let post = &receiver.posts()[0];
    let header = |name: &str| post.headers[name].to_str().unwrap();
    assert_eq!(header("webhook-id"), "a.1");
    let signed = format!("a.1.{}.{}", header("webhook-timestamp"), post.text);
    let signature = STANDARD.decode(header("webhook-signature").strip_prefix("v1,").unwrap()).unwrap();
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, b"hunter2"), signed.as_bytes(), &signature).unwrap();
}

#[tokio::test]
async fn templates_of_the_user_are_sent_if_they_give_json() {
    let receiver = receiver().await;
    let folder = tempfile::tempdir().unwrap();
    let template = folder.path().join("webhook.event.json");
    let start = |text: &str| {
        std::fs::write(&template, text).unwrap();
        let table =
            format!("templates = {:?}\n[[webhook]]\nurl = \"{}\"\n", folder.path().to_str().unwrap(), receiver.url);
        Rig::try_start(&table, Arc::new(tempfile::tempdir().unwrap())).unwrap()
    };
    let rig = start("[{{ incident.severity }}, {{ summary }}, {{ incident.evidence.ports + 1 }}]");
    rig.send(Change::Opened, &incident("a"));
    delivered(&rig, 1).await;
    let summary = "203.0.113.5 probed 812 ports of 192.0.2.10 <tcp> & more";
    assert_eq!(receiver.posts()[0].body, json!(["medium", summary, 813]));

    let rig = start("{\"summary\": \"{{ summary }}\"}");
    rig.send(Change::Opened, &incident("a"));
    until(|| rig.count("webhook", Outcome::Dead) == 1).await;
    let dead = rig.keeper.call(|desk| desk.store().unwrap().undelivered(None, 9).unwrap()).await.unwrap();
    assert!(dead[0].why.contains("webhook.event.json does not give JSON"), "{}", dead[0].why);
    assert!(dead[0].why.contains("line 1 column"), "{}", dead[0].why);
    assert_eq!(receiver.posts().len(), 1);
}
