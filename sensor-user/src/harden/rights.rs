//! Who this process is, and which capabilities it has.

use std::ffi::CString;

use anyhow::{Context as _, Result};
use caps::errors::CapsError;
use caps::securebits::set_keepcaps;
use caps::{CapSet, Capability, CapsHashSet};
use nix::unistd::{Gid, Uid, User, getgroups, initgroups, setegid, seteuid, setgroups, setresgid, setresuid};

/// What this thread may have in effect.
pub fn held() -> CapsHashSet {
    caps::read(None, CapSet::Permitted).unwrap_or_default()
}

/// What there is of what is wanted. Container runtimes that do not know the newer two give CAP_SYS_ADMIN for them.
pub fn kept(wanted: &[Capability], held: &CapsHashSet) -> Vec<Capability> {
    let newer = [Capability::CAP_PERFMON, Capability::CAP_BPF];
    let is_old = newer.iter().any(|one| wanted.contains(one) && !held.contains(one));
    let is_wanted = |one: &Capability| wanted.contains(one) || is_old && *one == Capability::CAP_SYS_ADMIN;
    super::sorted(held.iter().copied().filter(is_wanted))
}

/// Keeps all others from programs that are started later, whoever they belong to.
pub fn bound(kept: &[Capability]) -> Result<(), CapsError> {
    let others = caps::read(None, CapSet::Bounding)?;
    others.iter().filter(|one| !kept.contains(one)).try_for_each(|one| caps::drop(None, CapSet::Bounding, *one))
}

/// Gives up all others. `CAP_NET_ADMIN` is handed on to programs, if there are any.
pub fn keep(kept: &[Capability], programs: bool) -> Result<(), CapsError> {
    let all: CapsHashSet = kept.iter().copied().collect();
    let handed_on = CapsHashSet::from_iter([Capability::CAP_NET_ADMIN]);
    let handed_on = if programs { &all & &handed_on } else { CapsHashSet::new() };
    // In this order each set is within the next.
    caps::clear(None, CapSet::Ambient)?;
    caps::set(None, CapSet::Effective, &all)?;
    caps::set(None, CapSet::Inheritable, &handed_on)?;
    caps::set(None, CapSet::Permitted, &all)?;
    handed_on.iter().try_for_each(|one| caps::raise(None, CapSet::Ambient, *one))
}

/// Changes to a user for good, with its groups. Capabilities are still permitted then, though not in effect.
pub fn become_user(user: &User) -> Result<()> {
    set_keepcaps(true).context("keep capabilities")?;
    initgroups(&c_name(user)?, user.gid).context("take its groups")?;
    setresgid(user.gid, user.gid, user.gid).context("take its group")?;
    setresuid(user.uid, user.uid, user.uid).context("take its number")?;
    set_keepcaps(false).context("keep capabilities no longer")
}

/// Calls a function as a user without capabilities, and is root again.
pub fn as_user<T>(user: &User, act: impl FnOnce() -> T) -> Result<T> {
    let (gid, groups) = (Gid::effective(), getgroups().context("list the groups")?);
    initgroups(&c_name(user)?, user.gid).context("take its groups")?;
    let done = setegid(user.gid).and_then(|()| seteuid(user.uid)).map(|()| act());
    // The kernel puts capabilities in effect again with the number of root.
    seteuid(Uid::from_raw(0)).and_then(|()| setegid(gid)).and_then(|()| setgroups(&groups)).context("be root again")?;
    done.context("take its number")
}

/// Calls a function without the rights to pass over permissions.
pub fn without_override<T>(act: impl FnOnce() -> T) -> T {
    let held = held();
    let passing = [Capability::CAP_DAC_OVERRIDE, Capability::CAP_DAC_READ_SEARCH];
    let passing = passing.into_iter().filter(|one| held.contains(one));
    // What fails leaves the right in effect, which finds fewer faults.
    passing.clone().for_each(|one| _ = caps::drop(None, CapSet::Effective, one));
    let done = act();
    passing.for_each(|one| _ = caps::raise(None, CapSet::Effective, one));
    done
}

fn c_name(user: &User) -> Result<CString> {
    CString::new(user.name.as_bytes()).context("its name has a zero")
}
