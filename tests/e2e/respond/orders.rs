//! What people order by the socket.

use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::PermissionsExt as _;

use anyhow::{Context as _, Result};
use nix::sys::signal::Signal;
use serde_json::Value;
use support::{Need, Pair, require, until};

use super::{ATTACKER, CUSTOMER, LONG, PORT, SOON, Sensor, Street, at, dropped, possible, reached, reaches, service};

/// Another service of the server: a web server answers there, too.
const OTHER_PORT: u16 = 8081;

#[test]
fn people_block_limit_and_unblock_by_the_socket() -> Result<()> {
    if !possible() || !require(&[Need::Tool("nft")]) {
        return Ok(());
    }
    let street = Street::new()?;
    let _other = support::Http::start(&street.pair.server, OTHER_PORT)?;
    let folder = tempfile::tempdir()?;
    let mut sensor = street.watch(folder.path(), "", &[])?;
    let mode = fs::metadata(sensor.state.join("leuko.sock"))?.permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    assert_eq!(
        sensor.granted("blocks")?,
        "mode observe; new here: what it does by itself is only counted for 23h 59m\nnothing is blocked\n"
    );

    let told = sensor.granted(&format!("block {ATTACKER} --for 30m --reason scanner"))?;
    assert!(told.starts_with(&format!("blocked: {ATTACKER} (drop), until ")), "{told}");
    dropped(&street.attacker)?;
    let [block] = &sensor.blocks()?[..] else { anyhow::bail!("one block") };
    assert_eq!((&block["by"], &block["reason"]), (&Value::from("local:alice"), &Value::from("scanner")));
    assert!(block["packets"].as_u64() > Some(0) && block["last_seen"].is_number(), "{block}");
    assert!(sensor.granted("blocks")?.contains("29m"));
    firewalls_take_it(&street, &sensor)?;
    let told = sensor.granted(&format!("unblock {ATTACKER} --reason mistaken"))?;
    assert!(told.starts_with(&format!("no longer blocked: {ATTACKER}")), "{told}");
    reached(&street.attacker, SOON)?;
    audited(&sensor, &["scanner", "mistaken"])?;

    sensor.granted(&format!("block {ATTACKER} --port {PORT}"))?;
    dropped(&street.attacker)?;
    assert!(reaches(&street.attacker, at(OTHER_PORT), SOON)?, "another port");
    assert_eq!(sensor.granted("blocks --plain")?.lines().filter(|line| line.contains(ATTACKER)).count(), 0);
    sensor.granted(&format!("unblock {ATTACKER}"))?;
    limited(&street, &sensor)?;

    sensor.granted(&format!("block {} --requests --port {PORT} --limit 5", Pair::SERVER))?;
    let [block] = &sensor.blocks()?[..] else { anyhow::bail!("one block") };
    assert_eq!((&block["host"], &block["port"], &block["limit"]), (&Pair::SERVER.into(), &PORT.into(), &5.into()));
    sensor.granted(&format!("unblock {}", Pair::SERVER))?;
    assert_eq!(sensor.blocks()?, Vec::<Value>::new());

    said(&sensor)?;
    refused(&sensor)?;
    assert!(sensor.leuko.terminate(Signal::SIGTERM, LONG)?.success(), "{}", sensor.leuko.stderr());
    assert!(!sensor.state.join("leuko.sock").exists());
    let nobody = sensor.order("blocks")?;
    assert_eq!(nobody.status.code(), Some(1));
    assert!(nobody.stderr.contains("is `leuko run` running"), "{}", nobody.stderr);
    Ok(())
}

fn firewalls_take_it(street: &Street, sensor: &Sensor<'_>) -> Result<()> {
    assert!(sensor.granted("blocks --plain")?.lines().any(|line| line == format!("{ATTACKER}/32")));
    let ruleset = sensor.state.join("leuko.nft");
    fs::write(&ruleset, sensor.granted("blocks --nft")?)?;
    let server = &street.pair.server;
    server.run("nft", &["-c", "-f", &ruleset.to_string_lossy()], LONG)?;
    server.run("nft", &["-f", &ruleset.to_string_lossy()], LONG)?;
    let rules = server.run("nft", &["list", "ruleset"], LONG)?.stdout;
    assert!(rules.contains(ATTACKER), "{rules}");
    server.run("nft", &["flush", "ruleset"], LONG).map(drop)
}

/// Packets of a limit pass, and the others do not.
fn limited(street: &Street, sensor: &Sensor<'_>) -> Result<()> {
    const SENT: u64 = 400;
    sensor.granted(&format!("block {ATTACKER} --limit 100 --proto udp"))?;
    let socket = street.attacker.inside(|| UdpSocket::bind((ATTACKER, 0)))??;
    socket.connect((Pair::SERVER, 9))?;
    for _ in 0..SENT {
        // Nobody listens, of which the kernel tells the next call.
        let _ = socket.send(b"one of many");
    }
    let block = sensor.blocked(ATTACKER, |block| block["packets"].as_u64() > Some(0))?;
    let packets = block["packets"].as_u64().context("packets")?;
    // A quarter of a second is saved up, and sending takes a moment.
    assert!((SENT / 2..SENT - 20).contains(&packets), "{block}");
    assert!(reaches(&street.attacker, service(), SOON)?, "TCP");
    sensor.granted(&format!("unblock {ATTACKER}")).map(drop)
}

fn audited(sensor: &Sensor<'_>, reasons: &[&str]) -> Result<()> {
    let trail = || -> Option<Vec<Value>> {
        let lines = sensor.granted("audit --json").ok()?;
        lines.lines().map(|line| serde_json::from_str(line).ok()).collect()
    };
    let gives = |line: &Value, reason| line["reason"].as_str().is_some_and(|text| text.ends_with(reason));
    let all = |lines: &[Value]| reasons.iter().all(|reason| lines.iter().any(|line| gives(line, *reason)));
    let lines = until("the audit trail", SOON * 4, || trail().filter(|lines| all(lines)));
    let lines = lines.with_context(|| format!("{:?}", sensor.order("audit --json")))?;
    assert!(lines.iter().all(|line| line["actor"] == "local:alice"), "{lines:?}");
    Ok(())
}

/// What is blocked all the same, and what a block has replaced.
fn said(sensor: &Sensor<'_>) -> Result<()> {
    sensor.granted("block 203.0.113.0/24 --for 1h30m")?;
    let told = sensor.granted("block 203.0.113.0/24")?;
    assert!(told.contains("; it was until "), "{told}");
    let output = sensor.order("unblock 203.0.113.7")?;
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(output.stderr.contains("`leuko unblock 203.0.113.0/24` lifts that"), "{}", output.stderr);
    sensor.granted("unblock 203.0.113.0/24").map(drop)
}

fn refused(sensor: &Sensor<'_>) -> Result<()> {
    let ssh = format!("{CUSTOMER} 40000 {} 22", Pair::SERVER);
    for (connection, words, why) in [
        ("", format!("block {}", Pair::SERVER), "is or holds"),
        ("", format!("block {}", Pair::CLIENT), "is or holds"),
        ("", "block 10.77.0.0/24".to_owned(), "is or holds"),
        ("", "block 127.0.0.1".to_owned(), "is or holds"),
        ("", "block 198.51.0.0/16".to_owned(), "is too wide"),
        ("", "block 198.51.100.7 --for 31d".to_owned(), "is too long"),
        ("", "block 198.51.100.7 --proto icmp --port 22".to_owned(), "has no ports"),
        ("", format!("block 198.51.100.7 --reason {}", "x".repeat(20_000)), "longer than the 16384 octets"),
        ("", "block 198.51.100.7 --requests --port 80 --limit 5".to_owned(), "is no host of this network"),
        ("", "unblock 198.51.100.7".to_owned(), "is blocked"),
        (&*ssh, format!("block {CUSTOMER}"), "is or holds"),
    ] {
        let output = sensor.order_from(connection, &words)?;
        assert_eq!(output.status.code(), Some(1), "{words}: {output:?}");
        assert!(output.stderr.contains(why), "{words}: {}", output.stderr);
    }
    assert_eq!(sensor.blocks()?, Vec::<Value>::new());
    Ok(())
}
