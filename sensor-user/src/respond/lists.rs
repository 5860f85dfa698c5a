//! Lists of addresses from elsewhere, to name them in evidence or to block them: read from files and servers, kept fresh.
//!
//! A list that cannot be read, or is none, leaves the one before it in place.

mod cache;
mod config;
mod entry;
mod fetch;
mod lines;
mod parse;
mod refresh;
mod set;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Result, bail};
use sensor_core::net::Network;
use sensor_core::respond::Guard;
use sensor_core::time::Timestamp;
use sensor_ebpf::abi::Addr;
use tokio::sync::watch;
use tokio::task::JoinSet;

pub use self::cache::FOLDER;
pub use self::config::{Action, Column, Format, ListConfig, ListName, ListUrl, MaxEntries, Refresh, Source};
pub use self::parse::{ParseError, Parsed, Report, parse};
use self::refresh::{Pace, Publisher, Task};
pub use self::set::ListSet;
use crate::notify::Clock;

/// The lists of a configuration. Dropping it ends their refreshing.
pub struct Lists {
    lists: Vec<List>,
    changes: watch::Receiver<u64>,
    /// Ends with this.
    _tasks: JoinSet<()>,
}

struct List {
    name: ListName,
    action: Action,
    source: String,
    state: watch::Receiver<State>,
    blocked: watch::Sender<Option<usize>>,
}

/// What is known of a list.
#[derive(Clone, Default)]
struct State {
    set: Option<Arc<ListSet>>,
    report: Report,
    confirmed: Option<Timestamp>,
    error: Option<String>,
}

/// How a list fares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListStatus {
    /// What it is called.
    pub name: ListName,
    /// What it is for.
    pub action: Action,
    /// Where it is from, without secrets.
    pub source: String,
    /// Networks in it; nothing before it was read for the first time.
    pub entries: Option<usize>,
    /// Those of them that are blocked; nothing where none are to be, or it was not tried yet.
    pub blocked: Option<usize>,
    /// How its lines were.
    pub report: Report,
    /// When it was last known to be what its source has.
    pub confirmed: Option<Timestamp>,
    /// Why it is not known to be that now.
    pub error: Option<String>,
}

impl ListStatus {
    /// How long ago it was last known to be what its source has.
    #[must_use]
    pub fn age(&self, now: Timestamp) -> Option<Duration> {
        self.confirmed.map(|confirmed| now.since(confirmed))
    }
}

impl Lists {
    /// Begins to read the lists, and to read them again and again. Needs a tokio runtime.
    ///
    /// # Errors
    /// Two are called alike, or the folder of their copies cannot be made.
    pub fn start(configs: Vec<ListConfig>, state_dir: &Path, clock: Clock) -> Result<Self> {
        Self::start_at(configs, state_dir, clock, Pace::default())
    }

    fn start_at(configs: Vec<ListConfig>, state_dir: &Path, clock: Clock, pace: Pace) -> Result<Self> {
        let mut names = BTreeSet::new();
        if let Some(twice) = configs.iter().find(|config| !names.insert(config.name.as_str())) {
            bail!("two lists are called {}: give one of them another name", twice.name);
        }
        let remote = configs.iter().any(|config| matches!(config.source, Source::Url(_)));
        let folder = if remote { cache::folder(state_dir)? } else { state_dir.to_owned() };
        let (changed, changes) = watch::channel(0);
        let mut tasks = JoinSet::new();
        let mut lists = Vec::new();
        for config in configs {
            let (sender, state) = watch::channel(State::default());
            let (name, action, source) = (config.name.clone(), config.action, config.source.to_string());
            lists.push(List { name, action, source, state, blocked: watch::Sender::new(None) });
            let publisher = Publisher::new(config.name.clone(), sender, changed.clone(), Arc::clone(&clock));
            tasks.spawn(Task { config, folder: folder.clone(), publisher, clock: Arc::clone(&clock), pace }.run());
        }
        Ok(Self { lists, changes, _tasks: tasks })
    }

    /// A number that grows whenever a list is another than before.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }

    /// The lists as they are. One that was never read is not among them: what is blocked because of it is still meant.
    #[must_use]
    pub fn snapshot(&self) -> Vec<(ListName, Action, Arc<ListSet>)> {
        let read = self.lists.iter().filter_map(|list| Some((list, list.state.borrow().set.clone()?)));
        read.map(|(list, set)| (list.name.clone(), list.action, set)).collect()
    }

    /// The names of the lists that an address is on, in the order of the configuration.
    pub fn find(&self, addr: Addr) -> impl Iterator<Item = &str> {
        let listed = move |list: &&List| list.state.borrow().set.as_ref().is_some_and(|set| set.find(addr).is_some());
        self.lists.iter().filter(listed).map(|list| list.name.as_str())
    }

    /// The lists that block some of a network, each with the first two that it names of it and that are not protected.
    #[must_use]
    pub fn blocking(&self, network: Network, guard: &Guard) -> Vec<(ListName, Vec<Network>)> {
        let sets = self.snapshot().into_iter().filter(|(_, action, _)| *action == Action::Block);
        let blocked = |set: &ListSet| -> Vec<Network> {
            set.overlapping(network).filter(|named| guard.protects(named).is_none()).take(2).collect()
        };
        sets.map(|(name, _, set)| (name, blocked(&set))).filter(|(_, named)| !named.is_empty()).collect()
    }

    /// Says how many networks of a list are blocked.
    pub fn note_blocked(&self, name: &ListName, networks: usize) {
        if let Some(list) = self.lists.iter().find(|list| list.name == *name) {
            list.blocked.send_replace(Some(networks));
        }
    }

    /// How each fares.
    #[must_use]
    pub fn status(&self) -> Vec<ListStatus> {
        self.lists.iter().map(List::status).collect()
    }
}

impl List {
    fn status(&self) -> ListStatus {
        let State { set, report, confirmed, error } = self.state.borrow().clone();
        ListStatus {
            name: self.name.clone(),
            action: self.action,
            source: self.source.clone(),
            entries: set.map(|set| set.len()),
            blocked: *self.blocked.borrow(),
            report,
            confirmed,
            error,
        }
    }
}
