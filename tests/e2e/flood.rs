//! A flood of two million forged sources against the whole sensor: named at once, one incident, nothing uncounted.
#![expect(clippy::print_stderr, reason = "a long test says what it has measured")]

use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use serde_json::Value;
use support::{Lab, Leuko, Need, Pair, Pattern, Traffic, require, stress_factor, tcp_frame, until};

const SOON: Duration = Duration::from_secs(30);
const METRICS: &str = "127.0.0.1:9101";
const SYN: u8 = 0x02;

#[test]
fn a_flood_of_two_million_sources_is_one_incident_at_once() -> Result<()> {
    if !require(&[Need::Root, Need::Leuko, Need::Tool("ip"), Need::Tool("curl")]) {
        return Ok(());
    }
    let pair = Lab::new()?.pair()?;
    pair.server.ip(&format!("route add default via {}", Pair::CLIENT))?;
    let state = tempfile::tempdir()?;
    let state = state.path().to_str().context("a path")?;
    let args = ["run", "--json", "--interface=eth0", "--metrics-listen", METRICS, "--state-dir", state];
    let mut sensor = Leuko::start(&pair.server, &args)?;
    until("watching", SOON, || sensor.stderr().contains("watching").then_some(())).with_context(|| sensor.stderr())?;
    let traffic = Traffic::at(&pair.client)?;
    let syn = tcp_frame(pair.server.mac_octets("eth0")?, ([11, 0, 0, 1], 1), ([10, 77, 0, 2], 443), SYN, 0);
    for _ in 0..100 * stress_factor() {
        traffic.send(Pattern::RandomSources, &syn, 20_000, 0)?;
        sleep(Duration::from_millis(20));
    }
    let opened = sensor.wait_for("the flood", SOON, |line| line.json["state"] == "open")?.json;
    let [first_seen, detected_at] = ["first_seen", "detected_at"].map(|time| opened[time].as_f64().unwrap_or(0.0));
    eprintln!("named {:.3} s after its first packet: {}", detected_at - first_seen, opened["summary"]);
    assert_eq!((&opened["class"], &opened["victims"][0]), (&Value::from("syn_flood"), &Value::from(Pair::SERVER)));
    assert_eq!((&opened["attackers"], &opened["ports"][0]), (&Value::from([""; 0]), &Value::from(443)));
    assert!(detected_at - first_seen <= 2.0, "two intervals: {opened}");
    // Everything is counted once the flood is over and two polls have passed.
    let metric = |name: &str| -> Option<f64> {
        let text = pair.server.http_get(&format!("http://{METRICS}/metrics")).ok()?;
        text.lines().find(|line| line.starts_with(name))?.rsplit(' ').next()?.parse().ok()
    };
    sleep(Duration::from_secs(2));
    until("every packet to be in a counter", SOON, || {
        (metric("leuko_conservation_gap_packets")? == 0.0).then_some(())
    })?;
    let packets = metric("leuko_packets_total{direction=\"ingress\"}").context("packets")?;
    let overflowed = metric("leuko_overflow_packets_total{direction=\"ingress\"}").context("overflow")?;
    assert!(packets > 1_000_000.0, "{packets} packets arrived");
    assert!(overflowed > packets / 2.0, "{overflowed} of {packets}");
    assert_eq!(metric("leuko_coverage_ratio"), Some(1.0));
    let ended = sensor.terminate(Signal::SIGTERM, SOON)?;
    ensure!(ended.success(), "{}", sensor.stderr());
    let lines = sensor.lines();
    let closed =
        lines.iter().map(|line| &line.json).filter(|json| json["type"] == "incident" && json["state"] == "closed");
    let closed: Vec<&Value> = closed.collect();
    let [incident] = closed[..] else { anyhow::bail!("one incident, not {closed:?}") };
    let evidence = &incident["evidence"];
    let sources = evidence["distinct_sources"].as_f64().context("sources")?;
    eprintln!("{packets} packets, {overflowed} in aggregates, {sources} sources: {evidence}");
    assert!((0.75..1.25).contains(&(sources / packets)), "{sources} sources of {packets} packets");
    assert_eq!((&evidence["spoofed"], &evidence["coverage"]), (&Value::from(true), &Value::from(1.0)));
    Ok(())
}
