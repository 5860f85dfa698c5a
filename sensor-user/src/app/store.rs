//! `leuko store`.

use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use serde_json::json;

use super::print;
use crate::atomic;
use crate::cli::store::StoreAction;
use crate::store::{NAME, Store, StoreError, damage};

/// Checks, compacts or copies the store.
///
/// # Errors
/// There is no store, or it cannot be read or written.
pub fn run(state_dir: &Path, action: &StoreAction) -> Result<ExitCode> {
    match action {
        StoreAction::Check { json } => check(state_dir, *json),
        StoreAction::Compact => {
            let mut store = Store::open_existing(state_dir)?;
            let before = store.holdings()?;
            store.compact().context("write the store anew: stop what uses it, or make room for a second copy")?;
            let after = store.holdings()?;
            let freed = (before.used_bytes + before.free_bytes).saturating_sub(after.used_bytes + after.free_bytes);
            print(format!("{} of {} bytes given back\n", freed, before.used_bytes + before.free_bytes).as_bytes())
        }
        StoreAction::Backup { file } => {
            atomic::check_place(file)?;
            if file.exists() {
                bail!("{} is there already: choose another name, or remove it", file.display());
            }
            let store = Store::open_existing(state_dir)?;
            let part = atomic::with_suffix(file, ".part");
            atomic::remove(&part);
            store.copy_to(&part).with_context(|| format!("copy the store to {}", part.display()))?;
            std::fs::rename(&part, file).with_context(|| format!("name the copy {}", file.display()))?;
            print(format!("the store is copied to {}\n", file.display()).as_bytes())
        }
    }
}

fn check(state_dir: &Path, json: bool) -> Result<ExitCode> {
    let path = state_dir.join(NAME);
    let holdings = match Store::open_existing(state_dir).and_then(|store| Ok(store.holdings()?)) {
        Ok(holdings) => holdings,
        Err(StoreError::Damaged { .. } | StoreError::Sqlite(_)) => {
            let found = damage(&path).unwrap_or_else(|error| vec![error.to_string()]);
            let report = json!({ "damage": found });
            let text = if json { format!("{report}\n") } else { format!("damaged:\n  {}\n", found.join("\n  ")) };
            print(text.as_bytes())?;
            return Ok(ExitCode::FAILURE);
        }
        Err(error) => return Err(error.into()),
    };
    let sound = holdings.damage.is_empty();
    let text = if json {
        serde_json::to_string(&holdings).context("print what the store holds")? + "\n"
    } else {
        let state = if sound { "sound".to_owned() } else { format!("damaged:\n  {}", holdings.damage.join("\n  ")) };
        format!(
            "{}: {state}\n  {:>12} bytes used, {} free\n  {:>12} incidents, {} open\n  {:>12} events\n  {:>12} deliveries \
             wait, {} were given up\n  {:>12} rules\n  {:>12} entries of the audit trail\n",
            path.display(),
            holdings.used_bytes,
            holdings.free_bytes,
            holdings.incidents,
            holdings.open_incidents,
            holdings.events,
            holdings.pending,
            holdings.dead,
            holdings.mutes,
            holdings.audit
        )
    };
    print(text.as_bytes())?;
    Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}
