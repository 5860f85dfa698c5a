//! Floods: who is blocked, who is not, and who is served meanwhile.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use serde_json::Value;
use support::{Http, Load, Need, Pace, Pair, require, until};

use super::lists::{List, blocked};
use super::{ATTACKER, CUSTOMER, DROPPED, LONG, PORT, SOON, Sensor, Street, at, number, possible, reaches, service};

/// Connections that are completed and never used, by the thousand.
const FLOOD: Pace = Pace { per_second: 4000, threads: 32, patience: Duration::from_millis(500), asks: false };
const CUSTOMS: Pace = Pace { per_second: 20, threads: 4, patience: Duration::from_secs(10), asks: true };
const AT_ONCE: &str = "observe_first = \"0s\"\nfirst = \"60s\"\n";
const LIMITED: &str = "leuko_unaccounted_packets_total{reason=\"limited\"}";
const STRANGERS: u8 = 4;
/// Another service of the server.
const OTHER_PORT: u16 = 8081;

#[test]
fn a_connection_flood_is_dropped_and_a_client_is_served_meanwhile() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let street = Street::new()?;
    let folder = tempfile::tempdir()?;
    let sensor = street.watch(folder.path(), &format!("[respond]\n{AT_ONCE}"), &["--respond", "drop"])?;
    let customs = Load::start(&street.customer, service(), CUSTOMS)?;
    let flood = flood(&street, service())?;
    let incident = named(&sensor, ATTACKER)?;
    let block = sensor.blocked(ATTACKER, |block| number(block, "packets").is_ok_and(|packets| packets > 100.0))?;
    let dropped = sensor.counted(DROPPED)?;
    let before = flood.counts();
    // Some more of it, which none gets through.
    until("more of it", LONG, || (flood.counts().failed > before.failed + 100).then_some(()))?;
    let (flood, customs) = (flood.stop(), customs.stop());
    let by = format!("incident:{}", incident["id"].as_str().context("an id")?);
    let first_seen = number(&incident, "first_seen")?;
    eprintln!(
        "{}: detected {:.2} s after its first packet, blocked after {:.2} s; first connection refused {:.2?} after the \
         first; {} connections before, {} packets dropped; client: {customs:?}",
        incident["class"],
        number(&incident, "detected_at")? - first_seen,
        number(&block, "since")? - first_seen,
        flood.first_failure.unwrap_or_default(),
        flood.served,
        block["packets"],
    );
    assert_eq!((&block["by"], &block["enforced"]), (&Value::from(by), &Value::from(true)));
    assert!(dropped > 0.0);
    assert_eq!(flood.served, before.served, "the attacker is served");
    assert!(flood.served > 1000, "{flood:?}");
    assert_eq!(customs.failed, 0, "{customs:?}");
    assert!(customs.served > 40, "{customs:?}");
    assert!(sensor.blocks()?.iter().all(|block| block["network"] != CUSTOMER));
    Ok(())
}

#[test]
fn a_connection_flood_over_ipv6_is_dropped() -> Result<()> {
    // In the /64 of the server.
    const ATTACKER: &str = "fd77::66";
    const CUSTOMER: &str = "fd77::67";
    if !possible() {
        return Ok(());
    }
    let street = Street::new()?;
    for (host, addr) in [(&street.attacker, ATTACKER), (&street.customer, CUSTOMER)] {
        host.ip(&format!("address add {addr}/64 dev eth0 nodad"))?;
    }
    let folder = tempfile::tempdir()?;
    let sensor = street.watch(folder.path(), &format!("[respond]\n{AT_ONCE}"), &["--respond", "drop"])?;
    let web = SocketAddr::new(Pair::SERVER_V6.parse()?, PORT);
    let customs = Load::start(&street.customer, web, CUSTOMS)?;
    let flood = flood(&street, web)?;
    let incident = named(&sensor, ATTACKER)?;
    assert_eq!(incident["class"], "connection_flood", "{incident}");
    let block = sensor.blocked(ATTACKER, |block| number(block, "packets").is_ok_and(|packets| packets > 100.0))?;
    let before = flood.counts();
    until("more of it", LONG, || (flood.counts().failed > before.failed + 100).then_some(()))?;
    let (flood, customs) = (flood.stop(), customs.stop());
    assert_eq!(block["enforced"], true);
    assert_eq!(flood.served, before.served, "the attacker is served");
    assert_eq!(customs.failed, 0, "{customs:?}");
    assert!(sensor.blocks()?.iter().all(|block| block["network"] == ATTACKER));
    Ok(())
}

#[test]
fn a_block_with_which_clients_fare_worse_is_taken_back() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let street = Street::new()?;
    let mut other = Http::start(&street.pair.server, OTHER_PORT)?;
    let folder = tempfile::tempdir()?;
    let sensor = street.watch(folder.path(), &format!("[respond]\n{AT_ONCE}"), &["--respond", "drop"])?;
    let customs = Load::start(&street.customer, at(OTHER_PORT), CUSTOMS)?;
    until("custom", LONG, || (customs.counts().served > 160).then_some(()))?;
    let flood = flood(&street, service())?;
    sensor.blocked(ATTACKER, |block| block["enforced"] == true)?;
    drop(flood);
    // The sensor cannot know that it was not the block that did it.
    other.process().signal(Signal::SIGKILL)?;
    sensor.told("healthy traffic fared worse with it")?;
    assert_eq!(sensor.blocks()?, Vec::<Value>::new());
    assert!(sensor.counted("leuko_unblocked_total{why=\"rolled_back\"}")? >= 1.0);
    let audit = sensor.granted("audit --json")?;
    assert!(audit.contains("healthy traffic fared worse"), "{audit}");
    Ok(())
}

#[test]
fn observe_counts_and_drops_nothing() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let street = Street::new()?;
    let list = List::new()?;
    let sensor = street.watch(list.folder.path(), &list.settings(AT_ONCE), &[])?;
    let flood = flood(&street, service())?;
    named(&sensor, ATTACKER)?;
    let block = sensor.blocked(ATTACKER, |block| number(block, "packets").is_ok_and(|packets| packets > 100.0))?;
    let before = flood.counts();
    until("more of it", LONG, || (flood.counts().served > before.served + 500).then_some(()))?;
    drop(flood);
    assert_eq!(block["enforced"], false);
    assert!(sensor.counted("leuko_would_drop_packets_total{hook=\"ingress\"}")? > 100.0);
    assert_eq!(sensor.metric(DROPPED)?, 0.0);
    assert_eq!(sensor.metric("leuko_blocks{state=\"observed\"}")?, 1.0);
    assert!(reaches(&street.attacker, service(), LONG)?);
    // What the sensor only counts does not keep a list from being blocked.
    list.write(&[ATTACKER])?;
    blocked(&street, &sensor)?;
    assert_eq!(sensor.blocked(ATTACKER, |_| true)?["enforced"], false);
    Ok(())
}

#[test]
fn an_allowlisted_attacker_is_only_reported() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let street = Street::new()?;
    let folder = tempfile::tempdir()?;
    let settings = format!("[respond]\n{AT_ONCE}never = [\"{ATTACKER}\"]\n");
    let sensor = street.watch(folder.path(), &settings, &["--respond", "drop"])?;
    let flood = flood(&street, service())?;
    named(&sensor, ATTACKER)?;
    assert!(sensor.counted("leuko_not_blocked_total{why=\"protected\"}")? >= 1.0);
    let before = flood.counts().served;
    until("more of it", LONG, || (flood.counts().served > before + 500).then_some(()))?;
    assert_eq!(sensor.blocks()?, Vec::<Value>::new());
    assert_eq!(sensor.metric(DROPPED)?, 0.0);
    Ok(())
}

#[test]
fn a_spoofed_syn_flood_blocks_nobody_and_clients_get_through() -> Result<()> {
    if !possible() || !require(&[Need::Tool("hping3")]) {
        return Ok(());
    }
    let street = Street::new()?;
    let folder = tempfile::tempdir()?;
    let sensor = street.watch(folder.path(), &format!("[respond]\n{AT_ONCE}"), &["--respond", "drop"])?;
    // Known from a connection before.
    assert!(reaches(&street.customer, service(), LONG)?);
    // Evenly, unlike bursts: in a pause, what strangers may ask for would be saved up.
    let flood = format!("-q -S --rand-source -p {PORT} -i u100 -c 600000 {}", Pair::SERVER);
    let flood = street.pair.client.spawn("hping3", &flood.split(' ').collect::<Vec<_>>())?;
    let opened = sensor.leuko.wait_for("the flood", LONG, |line| line.json["state"] == "open")?.json;
    assert_eq!(opened["class"], "syn_flood", "{opened}");
    sensor.counted(LIMITED)?;
    let blocks = sensor.blocks()?;
    let [block] = &blocks[..] else { anyhow::bail!("one block, not {blocks:?}") };
    assert_eq!((&block["host"], &block["port"]), (&Value::from(Pair::SERVER), &Value::from(PORT)));
    assert!(block.get("network").is_none() && number(block, "limit")? > 0.0, "{block}");

    let known = Load::start(&street.customer, service(), Pace { patience: SOON, ..CUSTOMS })?;
    let strangers = (100..100 + STRANGERS).map(|host| stranger(&street, host)).collect::<Result<Vec<_>>>()?;
    until("answers", LONG, || (known.counts().served + known.counts().failed > 40).then_some(()))?;
    let known = known.stop();
    let limited = sensor.metric(LIMITED)?;
    drop(flood);
    eprintln!("{limited} requests dropped; a known client: {known:?}; new ones are served after {strangers:.2?}");
    assert_eq!(known.failed, 0, "{known:?}");
    assert!(strangers.iter().all(|took| *took < Duration::from_secs(5)), "{strangers:?}");
    assert!(strangers.iter().any(|took| *took > SOON), "nothing is limited: {strangers:?}");
    assert!(sensor.blocks()?.iter().all(|block| block.get("network").is_none()));
    Ok(())
}

/// How long it takes somebody who was never here to be served.
fn stranger(street: &Street, host: u8) -> Result<Duration> {
    street.attacker.ip(&format!("address add 10.77.0.{host}/24 dev eth0"))?;
    street.attacker.ip(&format!("route change 10.77.0.0/24 dev eth0 src 10.77.0.{host}"))?;
    let once = Load::start(&street.attacker, service(), Pace { per_second: 1, threads: 1, ..CUSTOMS })?;
    until("an answer", LONG, || (once.counts().served > 0).then(|| once.counts().slowest))
}

fn flood(street: &Street, service: SocketAddr) -> Result<Load> {
    // Connections by the thousand must not use up the ports of the attacker.
    street.attacker.sysctl("net/ipv4/tcp_max_tw_buckets", "0")?;
    street.attacker.sysctl("net/ipv4/ip_local_port_range", "1024 65000")?;
    Load::start(&street.attacker, service, FLOOD)
}

/// The first incident that names the attacker.
fn named(sensor: &Sensor<'_>, attacker: &str) -> Result<Value> {
    let names = |json: &Value| json["type"] == "incident" && json["attackers"][0] == attacker;
    Ok(sensor.leuko.wait_for("an incident of the attacker", LONG, |line| names(&line.json))?.json)
}
