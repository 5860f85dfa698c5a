//! Against a server that records, and against Alertmanager itself.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use reqwest::Client;
use sensor_core::incident::{Change, Severity};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use crate::notify::Outcome;
use crate::notify::http::{Trust, client};
use crate::notify::testing::{Answer, Fake, Post, Rig, incident, until};

fn rig(url: &str, more: &str) -> Rig {
    Rig::start(&format!("[[alertmanager]]\nurl = \"{url}\"\n{more}\n"))
}

fn count(rig: &Rig, outcome: Outcome) -> u64 {
    rig.count("alertmanager", outcome)
}

async fn delivered(rig: &Rig, notifications: u64) {
    until(|| count(rig, Outcome::Delivered) == notifications).await;
}

fn alerts(post: &Post) -> Vec<Value> {
    post.body.as_array().unwrap().clone()
}

/// Whether the alert's end is past: `Z` times of the same form compare as text.
fn is_over(alert: &Value, clock: &Value) -> bool {
    alert["endsAt"].as_str() <= clock.as_str()
}

#[tokio::test]
async fn labels_are_the_same_from_firing_to_resolved() {
    let receiver = Fake::ok().await;
    let rig = rig(&receiver.url, "resend = \"40ms\"\nbearer_token = \"hunter2\"");
    let mut a = incident("a");
    rig.send(Change::Opened, &a);
    delivered(&rig, 1).await;
    a.score = 0.99;
    a.ports.push(8080);
    rig.send(Change::Updated, &a);
    let grown = || receiver.posts().iter().position(|post| post.body[0]["annotations"]["ports"] == "22, 80, 443, 8080");
    until(|| grown().is_some()).await;
    rig.send(Change::Closed, &a);
    delivered(&rig, 3).await;

    let posts = receiver.posts();
    let (first, refresh) = (&alerts(&posts[0])[0], &alerts(&posts[grown().unwrap()])[0]);
    let last = &alerts(posts.last().unwrap())[0];
    assert_eq!(posts[0].path, "/api/v2/alerts");
    assert_eq!(posts[0].headers["authorization"], "Bearer hunter2");
    let labels = json!({
        "alertname": "LeukoIncident", "incident_id": "a", "class": "port_scan", "severity": "medium", "sensor": "web-1"
    });
    for alert in [first, refresh, last] {
        assert_eq!(alert["labels"], labels);
        assert_eq!(alert["startsAt"], "2025-06-15T15:06:43.000Z");
    }
    assert_eq!(
        first["annotations"],
        json!({
            "summary": "203.0.113.5 probed 812 ports of 192.0.2.10 <tcp> & more",
            "attackers": "203.0.113.5", "victims": "192.0.2.10", "ports": "22, 80, 443", "score": "0.93",
            "evidence": "failed_ratio=0.988; ports=812", "severity_now": "medium", "severity_at_opening": "medium",
            "first_seen": "2025-06-15T15:06:40.000Z", "last_seen": "2025-06-15T15:07:22.000Z"
        })
    );
    assert!(refresh["endsAt"].as_str() > first["endsAt"].as_str());
    assert!(is_over(last, &refresh["endsAt"]));
}

#[tokio::test]
async fn an_alert_links_to_the_dashboard() {
    let receiver = Fake::ok().await;
    let config = format!("dashboard = \"https://d.example/\"\n[[alertmanager]]\nurl = \"{}\"\n", receiver.url);
    let rig = Rig::start(&config);
    rig.send(Change::Opened, &incident("a"));
    let posts = receiver.wait_for(1).await;
    assert_eq!(alerts(&posts[0])[0]["generatorURL"], "https://d.example/incidents/a");
}

#[tokio::test]
async fn one_refresh_carries_every_firing_alert() {
    let receiver = Fake::ok().await;
    let rig = rig(&receiver.url, "resend = \"50ms\"\nbasic_auth = { username = \"u\", password = \"p\" }");
    for id in ["a", "b", "c"] {
        rig.send(Change::Opened, &incident(id));
    }
    delivered(&rig, 3).await;
    let so_far = receiver.posts().len();
    let posts = receiver.wait_for(so_far + 2).await;
    assert_eq!(posts[0].headers["authorization"], "Basic dTpw");
    assert!(posts[so_far..].iter().all(|post| alerts(post).len() == 3));
    assert!(posts[so_far + 1].at - posts[so_far].at >= Duration::from_millis(20));
    assert_eq!(count(&rig, Outcome::Delivered), 3);
}

#[tokio::test]
async fn a_rise_in_severity_is_a_new_alert_in_place_of_the_old() {
    let receiver = Fake::ok().await;
    let rig = rig(&receiver.url, "");
    let mut a = incident("a");
    rig.send(Change::Opened, &a);
    delivered(&rig, 1).await;
    a.severity = Severity::Critical;
    rig.send(Change::Updated, &a);
    delivered(&rig, 2).await;
    let batch = alerts(receiver.posts().last().unwrap());
    let ends: BTreeMap<_, _> =
        batch.iter().map(|alert| (alert["labels"]["severity"].as_str().unwrap(), alert)).collect();
    assert!(
        is_over(ends["medium"], &json!("2099"))
            && ends["medium"]["endsAt"].as_str() < ends["critical"]["endsAt"].as_str()
    );
    assert_eq!(ends["critical"]["annotations"]["severity_at_opening"], "medium");

    rig.send(Change::Closed, &a);
    delivered(&rig, 3).await;
    let last = alerts(receiver.posts().last().unwrap());
    let now_over = last.iter().find(|alert| alert["labels"]["severity"] == "critical").unwrap();
    assert!(now_over["endsAt"].as_str() < ends["critical"]["endsAt"].as_str());
}

#[tokio::test]
async fn what_began_and_ended_in_an_outage_is_seen_to_fire() {
    let receiver = Fake::start(|number, _| Answer::Json(if number < 3 { 503 } else { 200 }, json!({}))).await;
    let rig = rig(&receiver.url, "");
    rig.send(Change::Opened, &incident("a"));
    receiver.wait_for(1).await;
    rig.send(Change::Closed, &incident("a"));
    delivered(&rig, 2).await;
    let posts = receiver.posts();
    assert_eq!((posts.len(), count(&rig, Outcome::Retried), count(&rig, Outcome::Dead)), (4, 3, 0));
    let (first, last) = (&alerts(&posts[0])[0], &alerts(&posts[3])[0]);
    // Three refreshes ahead while it was open, one ahead afterwards.
    assert!(last["endsAt"].as_str() < first["endsAt"].as_str());
    assert!(last["endsAt"].as_str() > Some("2026"));
}

#[tokio::test]
async fn what_is_refused_or_too_old_is_given_up() {
    let receiver = Fake::start(|_, _| Answer::Json(400, json!("bad label"))).await;
    let refusing = rig(&receiver.url, "");
    refusing.send(Change::Opened, &incident("a"));
    until(|| count(&refusing, Outcome::Dead) == 1).await;
    assert_eq!((receiver.posts().len(), count(&refusing, Outcome::Retried)), (1, 0));

    let gone = rig("http://127.0.0.1:1", "give_up_after = \"30ms\"");
    gone.send(Change::Opened, &incident("a"));
    until(|| count(&gone, Outcome::Dead) == 1).await;
    assert!(count(&gone, Outcome::Retried) > 1);
}

#[tokio::test]
async fn closing_can_be_kept_quiet() {
    let receiver = Fake::ok().await;
    let rig = rig(&receiver.url, "send_resolved = false\nresend = \"30ms\"");
    rig.send(Change::Opened, &incident("a"));
    delivered(&rig, 1).await;
    rig.send(Change::Closed, &incident("a"));
    let so_far = receiver.posts().len();
    sleep(Duration::from_millis(100)).await;
    assert!(receiver.posts().len() <= so_far + 1);
    assert_eq!(count(&rig, Outcome::Delivered), 2, "it is known, if not told");
}

/// Ended when dropped.
struct Alertmanager {
    child: Child,
    url: String,
    http: Client,
    _dir: tempfile::TempDir,
}

const BINARY: &str = "/usr/bin/prometheus-alertmanager";

impl Alertmanager {
    /// Nothing, with a word why, where Alertmanager is not installed.
    #[expect(clippy::print_stderr, reason = "a skipped test says why")]
    async fn start(config: &str) -> Option<Self> {
        if !Path::new(BINARY).exists() {
            assert!(std::env::var("CI").is_err(), "{BINARY} is missing");
            eprintln!("skipped: {BINARY} is missing (apt-get install prometheus-alertmanager)");
            return None;
        }
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("am.yml");
        std::fs::write(&file, config).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let child = Command::new(BINARY)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.path={}", dir.path().join("data").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .arg("--cluster.listen-address=")
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let http = client(Trust::Nobody).unwrap();
        let this = Self { child, url: format!("http://127.0.0.1:{port}"), http, _dir: dir };
        let begun = Instant::now();
        while this.http.get(format!("{}/-/ready", this.url)).send().await.is_err() {
            assert!(begun.elapsed() < Duration::from_secs(20), "alertmanager does not start");
            sleep(Duration::from_millis(20)).await;
        }
        Some(this)
    }

    async fn alerts(&self) -> Vec<Value> {
        let answer = self.http.get(format!("{}/api/v2/alerts", self.url)).send().await.unwrap();
        serde_json::from_slice(&answer.bytes().await.unwrap()).unwrap()
    }

    async fn wait_for(&self, severities: &[&str]) -> Vec<Value> {
        let begun = Instant::now();
        loop {
            let alerts = self.alerts().await;
            if alerts.iter().map(|alert| alert["labels"]["severity"].as_str().unwrap()).eq(severities.iter().copied()) {
                return alerts;
            }
            assert!(begun.elapsed() < Duration::from_secs(5), "{severities:?} wanted, {alerts:#?}");
            sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Alertmanager {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[tokio::test]
async fn the_real_alertmanager_shows_an_incident_until_it_closes() {
    let Some(alertmanager) = Alertmanager::start("route: {receiver: x}\nreceivers: [{name: x}]\n").await else {
        return;
    };
    let rig = rig(&alertmanager.url, "");
    let mut a = incident("a");
    rig.send(Change::Opened, &a);
    let shown = alertmanager.wait_for(&["medium"]).await;
    assert_eq!(shown[0]["labels"]["class"], "port_scan");
    assert_eq!(shown[0]["annotations"]["attackers"], "203.0.113.5");
    assert_eq!(shown[0]["startsAt"], "2025-06-15T15:06:43.000Z");
    assert_eq!(shown[0]["status"]["state"].as_str().map(|state| state == "suppressed"), Some(false));

    a.severity = Severity::High;
    rig.send(Change::Updated, &a);
    alertmanager.wait_for(&["high"]).await;
    rig.send(Change::Closed, &a);
    alertmanager.wait_for(&[]).await;
    assert_eq!(count(&rig, Outcome::Dead) + count(&rig, Outcome::Retried), 0);
}
