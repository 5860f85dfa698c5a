//! Lists of addresses from elsewhere.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use support::until;

use super::{ATTACKER, CUSTOMER, SOON, Street, possible, reaches, service};

#[test]
fn an_imported_list_blocks_and_is_lifted_when_it_changes() -> Result<()> {
    if !possible() {
        return Ok(());
    }
    let street = Street::new()?;
    let folder = tempfile::tempdir()?;
    let list = folder.path().join("list.txt");
    let lines = |lines: &[&str]| fs::write(&list, lines.join("\n")).context("write the list");
    lines(&[ATTACKER, CUSTOMER, "198.51.100.7"])?;
    let settings = format!(
        "[respond]\nnever = [\"{CUSTOMER}\"]\n[[respond.lists]]\nname = \"bad\"\nfile = \"{}\"\naction = \"block\"\n",
        list.display()
    );
    let sensor = street.watch(folder.path(), &settings, &[])?;
    let served = |wanted: bool| move |is: bool| (is == wanted).then_some(());
    let attacker = |wanted: bool| reaches(&street.attacker, service(), SOON).ok().and_then(served(wanted));
    until("the list to be blocked", Duration::from_secs(10), || attacker(false))
        .with_context(|| sensor.leuko.stderr())?;
    assert!(reaches(&street.customer, service(), SOON)?, "who is protected");
    assert_eq!(sensor.metric("leuko_block_entries")?, 2.0);
    // They are no decision about one of them.
    assert_eq!(sensor.blocks()?, Vec::<Value>::new());

    lines(&["198.51.100.7"])?;
    until("the list to be changed", Duration::from_secs(15), || attacker(true))
        .with_context(|| sensor.leuko.stderr())?;
    until("the metric", SOON * 4, || (sensor.metric("leuko_block_entries").ok()? == 1.0).then_some(()))?;
    Ok(())
}
