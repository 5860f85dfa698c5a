//! What `leuko run` gives up before its first thread: another user, few capabilities, few files, fewer system calls.
//!
//! Whoever takes over the sensor by what it reads from the network gets no more than this. Each step is taken by itself:
//! what a kernel or a container does not allow is told ([`Report::gaps`]), and keeps nobody from watching. All of it is
//! inherited by threads and programs that are started later, and none of it can be undone by them.

mod calls;
mod files;
mod places;
mod rights;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::thread;

pub use caps::Capability;
use nix::unistd::{Uid, User};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tracing::{info, warn};

use self::places::Gift;
pub use self::places::Refusal;
use crate::config::Config;
use crate::respond::lists::Source;

/// `[harden]`: what the sensor gives up when it starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HardenConfig {
    /// Whether it gives up anything.
    pub enabled: bool,
    /// Who it becomes when root has started it; empty or `root` to stay.
    pub user: String,
}

/// Who the sensor becomes if there is such a user, and nothing else is configured.
pub const DEFAULT_USER: &str = "leuko";

impl Default for HardenConfig {
    fn default() -> Self {
        Self { enabled: true, user: DEFAULT_USER.to_owned() }
    }
}

/// What is kept; everything else is given up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Who to become when root has started this process; none to stay.
    pub user: Option<String>,
    /// Capabilities by their numbers, ascending.
    pub capabilities: Vec<Capability>,
    /// Folders of the sensor's own: made when they are missing, given to the user, written to.
    pub own: Vec<PathBuf>,
    /// As `own`, in a BPF filesystem.
    pub pins: Option<PathBuf>,
    /// Files in folders of others that are written, renamed and replaced there.
    pub written: Vec<PathBuf>,
    /// Files and folders that are read, besides those of the system.
    pub read: Vec<PathBuf>,
    /// Whether network namespaces are made and entered.
    pub namespaces: bool,
    /// Whether other programs are started, with the right to change the network: `nft`.
    pub programs: bool,
}

/// What `leuko run` needs with this configuration. `programs` is for enforcers that are programs of their own.
#[must_use]
pub fn plan(config: &Config, programs: bool) -> Plan {
    let user = Some(config.harden.user.trim()).filter(|user| !matches!(*user, "" | "root")).map(str::to_owned);
    let namespaces =
        !config.canary.every.get().is_zero() || config.interfaces.iter().any(|spec| spec.namespace.is_some());
    let is_low_port = config.metrics.listen.address().is_some_and(|address| (1..1024).contains(&address.port()));
    let wanted = [
        (Capability::CAP_NET_BIND_SERVICE, is_low_port),
        (Capability::CAP_NET_ADMIN, true),
        (Capability::CAP_SYS_ADMIN, namespaces),
        (Capability::CAP_PERFMON, true),
        (Capability::CAP_BPF, true),
    ];
    let mut read = Vec::new();
    // Sinks say where their secrets and certificates are by keys that end alike.
    files_named(&serde_json::to_value(&config.notify).unwrap_or_default(), &mut read);
    files_named(&serde_json::to_value(&config.respond.webhook).unwrap_or_default(), &mut read);
    for list in &config.respond.lists {
        if let Source::File(path) = &list.source {
            read.push(path.clone());
        }
    }
    let eve = config.notify.eve.iter().map(|eve| eve.file.clone());
    Plan {
        user,
        capabilities: wanted.into_iter().filter(|(_, is_wanted)| *is_wanted).map(|(one, _)| one).collect(),
        own: vec![config.state_dir.clone()],
        pins: config.kernel.pin.clone(),
        written: eve.chain(config.respond.file.clone()).chain(config.respond.socket.clone()).collect(),
        read: read.into_iter().chain(config.notify.templates.clone()).collect(),
        namespaces,
        programs,
    }
}

fn files_named(value: &Value, found: &mut Vec<PathBuf>) {
    if let Some(table) = value.as_object() {
        for (key, value) in table {
            match value.as_str() {
                Some(path) if key.ends_with("_file") => found.push(path.into()),
                Some(_) | None => files_named(value, found),
            }
        }
    }
    value.as_array().into_iter().flatten().for_each(|item| files_named(item, found));
}

/// What has taken effect.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Who this process runs as.
    pub user: String,
    /// What it has kept.
    pub capabilities: Vec<Capability>,
    /// The version of Landlock by which files are kept from it, if they are.
    pub landlock: Option<String>,
    /// Whether system calls are.
    pub seccomp: bool,
    /// What has not taken effect, and why.
    pub gaps: Vec<String>,
}

impl Plan {
    /// Gives up everything else, for good. To be called before there are threads: those that run already keep all.
    #[must_use]
    pub fn apply(&self) -> Report {
        let mut report = Report::default();
        self.make_folders();
        let user = self.successor(&mut report);
        let held = rights::held();
        let mut kept = rights::kept(&self.capabilities, &held);
        if user.is_none() && Uid::effective().is_root() {
            kept.extend(self.override_for_root(&mut report).filter(|one| held.contains(one)));
        }
        // Not of a process without CAP_SETPCAP: what started it has seen to that, or root would have to.
        if held.contains(&Capability::CAP_SETPCAP) {
            report.note("capabilities of later programs", rights::bound(&kept));
        }
        if let Some(user) = user {
            report.note(&format!("change to the user {}", user.name), rights::become_user(&user));
        }
        report.note("drop capabilities", rights::keep(&kept, self.programs));
        report.note("no_new_privs", nix::sys::prctl::set_no_new_privs());
        match files::restrict(self, files::spill()) {
            Ok(version) => report.landlock = Some(version),
            Err(error) => report.gaps.push(format!("landlock: {error}")),
        }
        report.seccomp = report.note("seccomp", calls::refuse(self.namespaces, self.programs));
        report.user = user_name();
        report.capabilities = sorted(rights::held());
        report
    }

    /// Tries on a thread of its own, which is restricted and ends, what the kernel can do: the version of Landlock, and
    /// seccomp.
    pub fn probe(&self) -> [Result<String, String>; 2] {
        thread::scope(|scope| {
            let files = scope.spawn(|| files::restrict(self, None)).join();
            let calls = scope.spawn(|| calls::refuse(self.namespaces, self.programs)).join();
            let panicked = || "the trial has failed".to_owned();
            let calls = calls.map_err(|_| panicked()).and_then(|calls| calls.map_err(|error| error.to_string()));
            [files.unwrap_or_else(|_| Err(panicked())), calls.map(|()| "a filter".to_owned())]
        })
    }

    /// Which of these capabilities are not needed.
    #[must_use]
    pub fn spare(&self, held: &[Capability]) -> Vec<Capability> {
        let kept = rights::kept(&self.capabilities, &held.iter().copied().collect());
        held.iter().copied().filter(|one| !kept.contains(one)).collect()
    }

    /// What cannot be made is for those to tell who use it.
    fn make_folders(&self) {
        self.own.iter().for_each(|own| _ = std::fs::create_dir_all(own));
        self.pins.iter().for_each(|pins| _ = places::make_pins(pins));
    }

    fn own_folders(&self) -> Vec<PathBuf> {
        self.own.iter().chain(&self.pins).cloned().collect()
    }

    /// The user of the plan, if there is one.
    #[must_use]
    pub fn known_user(&self) -> Option<User> {
        let user = User::from_name(self.user.as_deref()?).ok().flatten();
        user.filter(|user| !user.uid.is_root())
    }

    /// Whether root would become this user at the start; asked by root.
    ///
    /// # Errors
    /// Why it would stay root.
    pub fn may_become(&self, user: &User) -> Result<(), Refusal> {
        self.gift(user).map(drop)
    }

    fn gift(&self, user: &User) -> Result<Gift, Refusal> {
        places::gift(user, &self.own_folders(), &places::of_others(&self.read, &self.written))
    }

    /// Who to become: the user of the plan, if that works with every file.
    fn successor(&self, report: &mut Report) -> Option<User> {
        let name = self.user.as_deref().filter(|_| Uid::effective().is_root())?;
        let Some(user) = self.known_user() else {
            if name != DEFAULT_USER {
                report.gaps.push(format!("stays root: there is no user {name}; see harden.user"));
            }
            return None;
        };
        let given = self.gift(&user).map_err(|Refusal { why, advice }| format!("{why}; {advice}"));
        let given =
            given.and_then(|gift| gift.give(&user).map_err(|error| format!("files are not given away: {error}")));
        given.map_err(|why| report.gaps.push(format!("stays root: {why}"))).ok().map(|()| user)
    }

    /// Whether root needs the right to pass over permissions: when what it uses belongs to others.
    fn override_for_root(&self, report: &mut Report) -> Option<Capability> {
        let mut needs = places::of_others(&self.read, &self.written);
        needs.extend(self.own_folders().iter().flat_map(|dir| places::of_folder(dir)));
        let refused = rights::without_override(|| places::refused(&needs))?;
        report.gaps.push(format!("keeps CAP_DAC_OVERRIDE: {} belongs to another user", refused.display()));
        Some(Capability::CAP_DAC_OVERRIDE)
    }
}

impl Report {
    /// Whether it went well.
    fn note<E: fmt::Display>(&mut self, step: &str, result: Result<(), E>) -> bool {
        result.map_err(|error| self.gaps.push(format!("{step}: {error}"))).is_ok()
    }

    /// Says it.
    pub fn log(&self) {
        for gap in &self.gaps {
            warn!(gap, "not all is given up that could be; `leuko doctor` says more, harden.enabled = false ends it");
        }
        info!(
            user = self.user,
            capabilities = names(&self.capabilities),
            landlock = self.landlock.as_deref().unwrap_or("no"),
            seccomp = self.seccomp,
            "restricted"
        );
    }
}

/// Capabilities as people read them.
#[must_use]
pub fn names(capabilities: &[Capability]) -> String {
    let names: Vec<String> = capabilities.iter().map(ToString::to_string).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(" ") }
}

/// Capabilities by their numbers, ascending.
#[must_use]
pub fn sorted(capabilities: impl IntoIterator<Item = Capability>) -> Vec<Capability> {
    let mut sorted: Vec<Capability> = capabilities.into_iter().collect();
    sorted.sort_unstable_by_key(Capability::index);
    sorted
}

fn user_name() -> String {
    let uid = Uid::effective();
    User::from_uid(uid).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}
