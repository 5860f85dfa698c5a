//! Against a collector that records.

use sensor_core::incident::{Change, Severity};
use serde_json::{Value, json};

use crate::notify::Outcome;
use crate::notify::testing::{Answer, Fake, Rig, incident, logs, until};

fn records(body: &Value) -> &[Value] {
    body["resourceLogs"][0]["scopeLogs"][0]["logRecords"].as_array().unwrap()
}

fn rig(url: &str) -> Rig {
    Rig::start(&format!("[[otlp]]\nurl = \"{url}\"\nbearer_token = \"hunter2\"\n"))
}

#[tokio::test]
async fn an_event_is_a_log_record() {
    let collector = Fake::start(|_, _| Answer::Json(200, json!({}))).await;
    let rig = rig(&collector.url);
    let mut a = incident("a");
    a.severity = Severity::High;
    rig.send(Change::Closed, &a);
    let post = collector.wait_for(1).await.remove(0);
    assert_eq!((post.path.as_str(), &post.headers["authorization"]), ("/v1/logs", &"Bearer hunter2".parse().unwrap()));
    let resource = &post.body["resourceLogs"][0]["resource"]["attributes"];
    assert_eq!(resource[0], json!({"key": "service.name", "value": {"stringValue": "leuko"}}));
    assert_eq!(resource[2], json!({"key": "host.name", "value": {"stringValue": "web-1"}}));
    let record = &records(&post.body)[0];
    assert_eq!(record["timeUnixNano"], "1750000042000000000");
    assert_eq!((&record["severityNumber"], &record["severityText"]), (&json!(17), &json!("high")));
    assert_eq!(record["eventName"], "leuko.incident.closed");
    assert_eq!(record["body"]["stringValue"], a.summary.as_str());
    let attribute = |name: &str| {
        let attributes = record["attributes"].as_array().unwrap();
        attributes.iter().find(|one| one["key"] == name).unwrap_or_else(|| panic!("{name}"))["value"].clone()
    };
    assert_eq!(attribute("log.record.uid"), json!({"stringValue": "a.1"}));
    assert_eq!(attribute("incident.class"), json!({"stringValue": "port_scan"}));
    assert_eq!(attribute("incident.score"), json!({"doubleValue": 0.934}));
    assert_eq!(attribute("incident.attackers"), json!({"arrayValue": {"values": [{"stringValue": "203.0.113.5"}]}}));
    assert_eq!(attribute("incident.ports")["arrayValue"]["values"][2], json!({"intValue": "443"}));
    assert_eq!(
        attribute("incident.evidence")["kvlistValue"]["values"][1],
        json!({"key": "ports", "value": {"intValue": "812"}})
    );
}

#[tokio::test]
async fn what_waits_goes_in_requests_of_at_most_64() {
    let collector = Fake::start(|number, _| match number {
        0 => Answer::Json(503, json!({})),
        _ => Answer::Json(200, json!({})),
    })
    .await;
    let rig = rig(&collector.url);
    for n in 0..200 {
        rig.send(Change::Opened, &incident(&format!("i{n}")));
    }
    until(|| rig.count("otlp", Outcome::Delivered) == 200).await;
    let posts = collector.posts();
    assert!(posts.len() <= 8 && posts.iter().all(|post| records(&post.body).len() <= 64), "{}", posts.len());
}

#[tokio::test]
async fn records_that_a_collector_does_not_take_are_found() {
    let collector = Fake::start(|_, post| {
        let rejected = records(&post.body).iter().filter(|one| one.to_string().contains("poison")).count();
        match rejected {
            0 => Answer::Json(200, json!({"partialSuccess": {"errorMessage": "the clock is off"}})),
            _ => {
                let partial = json!({"rejectedLogRecords": rejected.to_string(), "errorMessage": "too odd"});
                Answer::Json(200, json!({"partialSuccess": partial}))
            }
        }
    })
    .await;
    let (_guard, log) = logs();
    let rig = rig(&collector.url);
    for n in 0..20 {
        rig.send(Change::Opened, &incident(&format!("{}{n}", if n == 7 { "poison" } else { "i" })));
    }
    until(|| rig.count("otlp", Outcome::Delivered) == 19 && rig.count("otlp", Outcome::Dead) == 1).await;
    let dead = rig.keeper.call(|desk| desk.store().unwrap().undelivered(None, 9).unwrap()).await.unwrap();
    assert_eq!(
        (dead[0].event.key().as_str(), dead[0].why.as_str()),
        ("poison7.1", "1 of 1 log records are not taken: too odd")
    );
    let log = String::from_utf8(log.lock().unwrap().clone()).unwrap();
    assert!(log.contains("the clock is off"), "{log}");
}
