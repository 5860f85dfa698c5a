//! Network namespaces: the one of this thread, those that `ip netns` knows, and how to act inside another.

use std::fmt;
use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::panic::resume_unwind;
use std::path::Path;
use std::sync::Arc;
use std::thread;

use anyhow::{Context as _, Result, anyhow, bail};
use nix::errno::Errno;
use nix::sched::{CloneFlags, setns, unshare};

use crate::config::interface::NamespaceName;

/// A network namespace. It lives as long as this value does, even when its name is removed.
#[derive(Clone, Debug)]
pub struct Namespace(Arc<Open>);

#[derive(Debug)]
struct Open {
    /// None for the one in which the sensor was started.
    name: Option<NamespaceName>,
    file: File,
    id: NamespaceId,
}

/// Device and inode of a namespace's file: unlike its name, never those of two namespaces that live.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NamespaceId(u64, u64);

impl fmt::Display for NamespaceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}_{}", self.0, self.1)
    }
}

impl Namespace {
    /// The one that this thread is in.
    ///
    /// # Errors
    /// When there is no procfs.
    pub fn current() -> Result<Self> {
        Self::open_file(Path::new(OWN), None).context("open the network namespace of this process")
    }

    /// The one that `ip netns` knows by this name.
    ///
    /// # Errors
    /// When there is none; the message lists those that exist.
    pub fn named(name: &NamespaceName) -> Result<Self> {
        let path = Path::new(FOLDER).join(name.as_str());
        match Self::open_file(&path, Some(name.clone())) {
            Ok(namespace) => Ok(namespace),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                bail!("there is no network namespace {:?}; there are: {}", name.as_str(), existing())
            }
            Err(error) => Err(error).with_context(|| format!("open the network namespace {}", path.display())),
        }
    }

    /// A new one without a name, which is gone with this value and what is inside.
    ///
    /// # Errors
    /// Without the right to make one.
    pub fn create() -> Result<Self> {
        thread::scope(|scope| {
            let inside = thread::Builder::new().spawn_scoped(scope, || {
                unshare(CloneFlags::CLONE_NEWNET).map_err(|errno| {
                    let error = anyhow!(errno).context("make a network namespace");
                    if errno == Errno::EPERM { error.context("run as root, or grant CAP_SYS_ADMIN") } else { error }
                })?;
                Self::current()
            });
            let inside = inside.context("start a thread for another network namespace")?;
            inside.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    /// As [`Namespace::current`] or [`Namespace::named`].
    ///
    /// # Errors
    /// As they.
    pub fn open(name: Option<&NamespaceName>) -> Result<Self> {
        name.map_or_else(Self::current, Self::named)
    }

    /// Its name, unless it is the one in which the sensor was started.
    #[must_use]
    pub fn name(&self) -> Option<&NamespaceName> {
        self.0.name.as_ref()
    }

    /// What tells it from others.
    #[must_use]
    pub fn id(&self) -> NamespaceId {
        self.0.id
    }

    /// Whether its name, if it has one, still stands for it.
    #[must_use]
    pub fn is_still_named(&self) -> bool {
        let Some(name) = &self.0.name else { return true };
        id_of(&Path::new(FOLDER).join(name.as_str())).is_some_and(|id| id == self.0.id)
    }

    /// Calls a function inside: on a thread of its own, unless this one is inside already. Links and sockets that it
    /// makes stay inside.
    ///
    /// # Errors
    /// When the namespace may not be entered.
    ///
    /// # Panics
    /// When the function does.
    pub fn inside<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T> {
        if id_of(Path::new(OWN)) == Some(self.0.id) {
            return Ok(act());
        }
        thread::scope(|scope| {
            let inside = thread::Builder::new().spawn_scoped(scope, || {
                setns(&self.0.file, CloneFlags::CLONE_NEWNET).map_err(|errno| self.refused(errno))?;
                Ok(act())
            });
            let inside = inside.context("start a thread for another network namespace")?;
            inside.join().unwrap_or_else(|panic| resume_unwind(panic))
        })
    }

    fn refused(&self, errno: Errno) -> anyhow::Error {
        let name = self.0.name.as_ref().map_or("of its start", NamespaceName::as_str);
        let error = anyhow!(errno).context(format!("enter the network namespace {name}"));
        if errno == Errno::EPERM {
            return error.context("run as root, or grant CAP_SYS_ADMIN: other network namespaces need it");
        }
        error
    }

    fn open_file(path: &Path, name: Option<NamespaceName>) -> io::Result<Self> {
        let file = File::open(path)?;
        let metadata = file.metadata()?;
        let id = NamespaceId(metadata.dev(), metadata.ino());
        Ok(Self(Arc::new(Open { name, file, id })))
    }
}

/// Where iproute2 keeps them.
const FOLDER: &str = "/run/netns";

const OWN: &str = "/proc/thread-self/ns/net";

fn id_of(path: &Path) -> Option<NamespaceId> {
    let metadata = fs::metadata(path).ok()?;
    Some(NamespaceId(metadata.dev(), metadata.ino()))
}

fn existing() -> String {
    let entries = fs::read_dir(FOLDER).into_iter().flatten().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.sort_unstable();
    if names.is_empty() { format!("none in {FOLDER}") } else { names.join(", ") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_namespace_is_told_with_those_that_exist() {
        let name = NamespaceName::new("no-such-namespace").unwrap();
        let error = Namespace::named(&name).unwrap_err().to_string();
        assert!(error.contains("no-such-namespace") && error.contains("there are:"), "{error}");
    }

    #[test]
    fn nothing_is_entered_by_who_is_inside() {
        let own = Namespace::current().unwrap();
        let thread = thread::current().id();
        assert_eq!(own.inside(|| thread::current().id()).unwrap(), thread);
        assert!(own.is_still_named());
        assert_eq!(own.id(), Namespace::open(None).unwrap().id());
    }
}
