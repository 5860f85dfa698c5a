//! Where blocks are enforced: at TC where another program has XDP, and by others that are told of them.

use std::fs;
use std::net::SocketAddr;

use anyhow::{Context as _, Result};
use aya::programs::XdpMode;
use nix::sys::signal::Signal;
use serde_json::Value;
use support::{Need, Traffic, Webhook, require, until};

use super::{ATTACKER, DROPPED, LONG, SOON, Street, dropped, possible, reached, reaches, service};

#[test]
fn attackers_are_dropped_at_tc_where_another_program_has_xdp() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    // Generic XDP copies frames; their link layer is gone at TC, where this source reads like a type.
    for (mode, attacker) in [(XdpMode::Driver, ATTACKER), (XdpMode::Skb, "8.0.1.7")] {
        let street = Street::new()?;
        street.attacker.ip("address replace 8.0.1.7/24 dev eth0")?;
        street.attacker.ip(&format!("route replace 10.77.0.0/24 dev eth0 src {attacker}"))?;
        street.pair.server.ip("route replace 8.0.1.0/24 dev eth0")?;
        let other = Traffic::in_mode(&street.pair.server, mode)?;
        let folder = tempfile::tempdir()?;
        let sensor = street.watch(folder.path(), "", &[])?;
        assert!(sensor.leuko.stderr().contains("eth0 already has another XDP program"), "{}", sensor.leuko.stderr());
        sensor.told("xdp=\"taken\"")?;
        reached(&street.attacker, LONG)?;
        sensor.granted(&format!("block {attacker}"))?;
        dropped(&street.attacker)?;
        assert!(reaches(&street.customer, service(), LONG)?);
        assert!(sensor.counted(DROPPED)? > 0.0);
        drop(other);
        sensor.told("xdp=\"native\"").context("the other program is gone")?;
        dropped(&street.attacker)?;
        sensor.granted(&format!("unblock {attacker}"))?;
        reached(&street.attacker, SOON)?;
    }
    Ok(())
}

#[test]
fn files_firewalls_and_webhooks_follow_what_is_blocked() -> Result<()> {
    if !possible() || !require(&[Need::Tool("nft")]) {
        return Ok(());
    }
    let street = Street::new()?;
    let server = &street.pair.server;
    let listen: SocketAddr = "127.0.0.1:8083".parse()?;
    let webhook = Webhook::start(server, &listen.to_string())?;
    let folder = tempfile::tempdir()?;
    let file = folder.path().join("blocked.txt");
    let url = webhook.url();
    let settings = format!(
        "[respond]\nfile = \"{}\"\nnftables = true\n[respond.webhook]\nurl = \"{url}/blocks\"\n",
        file.display()
    );
    let mut sensor = street.watch(folder.path(), &settings, &[])?;
    let listed = || fs::read_to_string(&file).is_ok_and(|text| text.contains(&format!("{ATTACKER}/32")));
    let filtered = || server.run("nft", &["list", "ruleset"], LONG).is_ok_and(|run| run.stdout.contains(ATTACKER));
    let told = |action: &str| {
        let fits = |body: &Value| body["action"] == action && body["block"]["network"] == ATTACKER;
        webhook.wait_for(action, LONG, fits).with_context(|| sensor.leuko.stderr())
    };
    sensor.granted(&format!("block {ATTACKER} --reason scanner"))?;
    assert_eq!(told("block")?["block"]["reason"], "scanner");
    until("the file", LONG, || listed().then_some(())).with_context(|| sensor.leuko.stderr())?;
    until("nftables", LONG, || filtered().then_some(())).with_context(|| sensor.leuko.stderr())?;
    sensor.granted(&format!("unblock {ATTACKER}"))?;
    told("unblock")?;
    until("the file without it", LONG, || (!listed()).then_some(()))?;
    until("nftables without it", LONG, || (!filtered()).then_some(()))?;
    sensor.granted(&format!("block {ATTACKER}"))?;
    until("nftables again", LONG, || filtered().then_some(()))?;
    assert!(sensor.leuko.terminate(Signal::SIGTERM, LONG)?.success(), "{}", sensor.leuko.stderr());
    // Without pins nobody enforces it any more.
    assert!(!filtered() && !listed(), "{}", sensor.leuko.stderr());
    Ok(())
}
