//! Blocks as a table of nftables, for interfaces without XDP.
//!
//! Each entry has a timeout in the kernel, so that a sensor that dies leaves nobody blocked. What nftables cannot do is to tell
//! strangers from those who have completed a connection: a limit of requests is that of everybody's.

mod ruleset;

use std::process::{Output, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use sensor_core::respond::Block;
use sensor_core::time::Timestamp;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::time::timeout;

pub use self::ruleset::{TABLE, remove, ruleset};
use super::reconcile::{Blocks, Enforce, Enforcer};
use crate::notify::{Clock, text};

/// How long `nft` may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// Time between two looks at whether the table is as it was loaded: whoever loads a firewall anew takes all tables away, and
/// a set can be emptied by itself.
const LOOK: Duration = Duration::from_secs(10);
/// Characters of what `nft` says that are shown.
const SHOWN: usize = 300;

/// Keeps the table up to date, and removes it at the end. Needs `CAP_NET_ADMIN`.
#[must_use]
pub fn start(blocks: Blocks, clock: Clock) -> Enforcer {
    Enforcer::start(Nftables { loaded: None }, blocks, clock)
}

struct Nftables {
    /// The table as `nft` lists it right after it was loaded. An entry that ends by itself ends for the sensor, too, which
    /// then loads another.
    loaded: Option<Vec<String>>,
}

impl Enforce for Nftables {
    const NAME: &str = "nftables";
    const LOOK: Option<Duration> = Some(LOOK);

    async fn apply(&mut self, blocks: &[Block], now: Timestamp) -> Result<()> {
        let (text, present) = ruleset(blocks, now);
        load(&text).await?;
        self.loaded = if present { list().await.ok() } else { None };
        Ok(())
    }

    async fn is_gone(&mut self) -> bool {
        let Some(loaded) = &self.loaded else { return false };
        // Where `nft` cannot be asked it cannot be told either.
        list().await.is_ok_and(|listed| listed != *loaded)
    }

    async fn clear(&mut self) -> Result<()> {
        load(&remove()).await
    }
}

async fn load(text: &str) -> Result<()> {
    let output = nft(&["--file", "-"], text).await?;
    if !output.status.success() {
        let said = text::plain(&String::from_utf8_lossy(&output.stderr));
        bail!("nft refuses the ruleset: {}", text::clip(said.trim(), SHOWN));
    }
    Ok(())
}

/// The table without what time changes: nothing if there is none.
async fn list() -> Result<Vec<String>> {
    let listed = nft(&["--stateless", "list", "table", "inet", TABLE], "").await?;
    Ok(words(&String::from_utf8_lossy(&listed.stdout)))
}

/// In order: the kernel may list the entries of a set in another one each time.
fn words(listed: &str) -> Vec<String> {
    let separate = |c: char| c.is_whitespace() || c == ',';
    let mut words: Vec<String> = listed.split(separate).filter(|word| !word.is_empty()).map(str::to_owned).collect();
    words.sort_unstable();
    words
}

async fn nft(args: &[&str], input: &str) -> Result<Output> {
    let mut command = Command::new("nft");
    command.args(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().context("run nft (install the package nftables)")?;
    let mut stdin = child.stdin.take().context("talk to nft")?;
    let feed = async move {
        // It says itself why it stops to read.
        let _ = stdin.write_all(input.as_bytes()).await;
    };
    let run = async { tokio::join!(feed, child.wait_with_output()).1 };
    let output =
        timeout(TIMEOUT, run).await.with_context(|| format!("nft takes longer than {} s", TIMEOUT.as_secs()))?;
    output.context("wait for nft")
}

#[cfg(test)]
mod tests {
    use super::words;

    #[test]
    fn a_table_is_the_same_in_any_order_and_another_without_an_entry() {
        let set = |elements: &str| words(&format!("set r4 {{\n\tflags timeout\n\telements = {{ {elements} }}\n}}"));
        let whole = set("192.0.2.9 . 80 timeout 1m,\n\t192.0.2.1 . 81 timeout 1m");
        assert_eq!(set("192.0.2.1 . 81 timeout 1m, 192.0.2.9 . 80 timeout 1m"), whole);
        for damaged in ["", "192.0.2.9 . 80 timeout 1m", "192.0.2.9 . 80 timeout 1m, 192.0.2.1 . 82 timeout 1m"] {
            assert_ne!(set(damaged), whole, "{damaged}");
        }
    }
}
