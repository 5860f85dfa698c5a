//! Rules that the user adds and removes while the sensor runs: a file in the state directory, read again when it changes.

use std::collections::BTreeSet;
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use sensor_core::incident::suppress::Rule;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use crate::atomic;
use crate::config::suppress::Suppress;

/// Name of the file in the state directory.
pub const NAME: &str = "mutes.toml";

/// What the file holds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Mutes {
    /// One table each.
    pub suppress: Vec<Suppress>,
}

impl Mutes {
    /// The rules in a state directory; none when there is no file.
    ///
    /// # Errors
    /// The file cannot be read, or is not what `leuko mute` writes.
    pub fn read(state_dir: &Path) -> Result<Self> {
        let path = state_dir.join(NAME);
        let text = match fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        let mutes: Self =
            toml::from_str(&text).with_context(|| format!("read {}: mend it, or remove it", path.display()))?;
        let mut names = BTreeSet::new();
        if let Some(twice) = mutes.suppress.iter().find(|one| !names.insert(one.name())) {
            bail!("{} has two rules called {}: rename one", path.display(), twice.name());
        }
        Ok(mutes)
    }

    /// Keeps the rules in a state directory, which is made if it is not there.
    ///
    /// # Errors
    /// The file cannot be written; the old one is then still there.
    pub fn write(&self, state_dir: &Path) -> Result<()> {
        fs::create_dir_all(state_dir).with_context(|| format!("create {}", state_dir.display()))?;
        let text = toml::to_string(self).context("print the rules as TOML")?;
        let head = "# Rules of `leuko mute`. A running sensor reads them again when they change.\n\n";
        atomic::write(&state_dir.join(NAME), (head.to_owned() + &text).as_bytes())
    }

    /// Adds a rule, in place of one of the same name.
    pub fn add(&mut self, rule: Suppress) {
        self.remove(rule.name());
        self.suppress.push(rule);
    }

    /// Removes a rule; says whether there was one.
    pub fn remove(&mut self, name: &str) -> bool {
        let before = self.suppress.len();
        self.suppress.retain(|rule| rule.name() != name);
        self.suppress.len() < before
    }
}

/// Tells when the rules have changed.
#[derive(Debug)]
pub struct Follower {
    state_dir: PathBuf,
    /// What the configuration says, always.
    fixed: Vec<Rule>,
    /// Inode, size and time of the file as it was last read.
    stamp: Option<(u64, u64, i64, i64)>,
}

impl Follower {
    /// Follows the rules of a state directory.
    #[must_use]
    pub const fn new(state_dir: PathBuf, fixed: Vec<Rule>) -> Self {
        Self { state_dir, fixed, stamp: None }
    }

    /// All the rules, if they have changed since the last call. A file that cannot be used is told once, and the rules stay
    /// as they are.
    pub fn changed(&mut self) -> Option<Vec<Rule>> {
        let stamp = fs::metadata(self.state_dir.join(NAME)).ok();
        let stamp = stamp.map(|data| (data.ino(), data.len(), data.mtime(), data.mtime_nsec()));
        if std::mem::replace(&mut self.stamp, stamp) == stamp {
            return None;
        }
        match Mutes::read(&self.state_dir) {
            Ok(mutes) => {
                info!(rules = mutes.suppress.len(), "read what is muted");
                Some(self.fixed.iter().cloned().chain(mutes.suppress.iter().map(Suppress::rule)).collect())
            }
            Err(error) => {
                warn!(error = format!("{error:#}"), "what is muted stays as it was");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(name: &str) -> Suppress {
        let text = format!("name = \"{name}\"\nreason = \"r\"\nexpires = \"never\"\nport = [\"ssh\"]");
        toml::from_str(&text).unwrap()
    }

    #[test]
    fn a_change_is_seen_once_and_damage_changes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let fixed = vec![rule("fixed").rule()];
        let mut follower = Follower::new(dir.path().to_owned(), fixed);
        assert_eq!(follower.changed(), None, "there is no file yet");
        let mut mutes = Mutes::default();
        mutes.add(rule("one"));
        mutes.add(rule("two"));
        mutes.add(rule("one"));
        mutes.write(dir.path()).unwrap();
        let names = |rules: Vec<Rule>| rules.into_iter().map(|rule| rule.name).collect::<Vec<_>>();
        assert_eq!(follower.changed().map(names).unwrap(), ["fixed", "two", "one"]);
        assert_eq!(follower.changed(), None);
        fs::write(dir.path().join(NAME), "suppress = 5").unwrap();
        assert_eq!(follower.changed(), None);
        assert!(format!("{:#}", Mutes::read(dir.path()).unwrap_err()).contains("mend it, or remove it"));
        assert!(mutes.remove("two") && !mutes.remove("three"));
        mutes.write(dir.path()).unwrap();
        assert_eq!(follower.changed().map(names).unwrap(), ["fixed", "one"]);
        fs::remove_file(dir.path().join(NAME)).unwrap();
        assert_eq!(follower.changed().map(names).unwrap(), ["fixed"]);
    }
}
