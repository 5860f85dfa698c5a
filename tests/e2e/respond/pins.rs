//! The sensor dies: blocks go on until they expire where they are pinned, and are gone where they are not.

use std::net::IpAddr;
use std::time::Duration;

use anyhow::Result;
use aya::maps::{HashMap, Map, MapData};
use nix::sys::signal::Signal;
use sensor_ebpf::abi::{Addr, BlockKey};
use serde_json::Value;
use support::{BpfFolder, Deadline, Pair};

use super::{ATTACKER, LONG, SOON, Street, dropped, possible, reached, reaches, service};

#[test]
fn blocks_outlive_a_killed_sensor_until_they_expire() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let street = Street::new()?;
    let bpf = BpfFolder::mount()?;
    let pin = format!("--pin={}", bpf.pins().display());
    let [one, other] = [tempfile::tempdir()?, tempfile::tempdir()?];
    let mut sensor = street.watch(one.path(), "", &[&pin])?;
    assert!(reaches(&street.attacker, service(), LONG)?);
    sensor.granted(&format!("block {ATTACKER} --for 8s"))?;
    let end = Deadline::after(Duration::from_secs(8));
    assert!(never_dropped(&bpf, Pair::CLIENT)?, "the gateway");
    assert!(!never_dropped(&bpf, ATTACKER)?);
    dropped(&street.attacker)?;
    sensor.leuko.terminate(Signal::SIGKILL, LONG)?;
    dropped(&street.attacker)?;
    assert!(reaches(&street.customer, service(), SOON)?);
    reached(&street.attacker, LONG)?;
    assert!(end.left() < Duration::from_secs(1), "{:?} too soon", end.left());

    let mut sensor = street.watch(one.path(), "", &[&pin])?;
    assert_eq!(sensor.blocks()?, Vec::<Value>::new(), "its time was over while nobody watched");
    sensor.granted(&format!("block {ATTACKER} --for 1h"))?;
    dropped(&street.attacker)?;
    sensor.leuko.terminate(Signal::SIGKILL, LONG)?;
    let mut sensor = street.watch(one.path(), "", &[&pin])?;
    let kept = sensor.blocked(ATTACKER, |_| true)?;
    assert_eq!((&kept["by"], &kept["enforced"]), (&Value::from("local:alice"), &Value::from(true)));
    assert!(kept["packets"].as_u64() > Some(0), "the kernel goes on counting: {kept}");
    dropped(&street.attacker)?;
    sensor.leuko.terminate(Signal::SIGKILL, LONG)?;

    // A store that does not know it, as after a loss.
    let mut sensor = street.watch(other.path(), "", &[&pin])?;
    sensor.told("the store does not know")?;
    assert_eq!(sensor.blocks()?, Vec::<Value>::new());
    reached(&street.attacker, SOON)?;
    assert!(sensor.leuko.terminate(Signal::SIGTERM, LONG)?.success(), "{}", sensor.leuko.stderr());
    Ok(())
}

#[test]
fn without_pins_the_death_of_the_sensor_passes_everything() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let street = Street::new()?;
    let folder = tempfile::tempdir()?;
    let mut sensor = street.watch(folder.path(), "", &[])?;
    sensor.granted(&format!("block {ATTACKER} --for 1h"))?;
    dropped(&street.attacker)?;
    sensor.leuko.terminate(Signal::SIGKILL, LONG)?;
    reached(&street.attacker, Duration::from_secs(2))?;
    // What the store knows is enforced again by the next one.
    let mut sensor = street.watch(folder.path(), "", &[])?;
    sensor.blocked(ATTACKER, |block| block["enforced"] == true)?;
    dropped(&street.attacker)?;
    assert!(sensor.leuko.terminate(Signal::SIGTERM, LONG)?.success(), "{}", sensor.leuko.stderr());
    reached(&street.attacker, Duration::from_secs(2))
}

/// Whether the kernel lets an address pass whatever its list says.
fn never_dropped(bpf: &BpfFolder, addr: &str) -> Result<bool> {
    let map: HashMap<_, BlockKey, u32> =
        HashMap::try_from(Map::HashMap(MapData::from_pin(bpf.pins().join("ALLOWED"))?))?;
    let key = BlockKey::network(Addr::from(addr.parse::<IpAddr>()?), 128);
    Ok(map.keys().flatten().any(|allowed| allowed == key))
}
