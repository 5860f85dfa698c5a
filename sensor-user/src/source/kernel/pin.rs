//! What outlives the process: maps and links in a folder of a BPF filesystem.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use aya::maps::{Array, Map, MapData};
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use sensor_ebpf::abi::{ABI_VERSION, TableState};

use super::interface::InterfaceId;

/// Maps that a later process goes on with. The others hold nothing for longer than a packet, or nothing that does not follow from
/// these.
pub const MAPS: [&str; 15] = [
    "FLOW_TAGS",
    "FLOW_SLOTS",
    "AGGREGATE_TAGS",
    "AGGREGATES",
    "STATE",
    "COUNTERS",
    "WATCHED",
    "HANDSHAKES",
    "FRAGMENTS",
    "ARP",
    "BLOCKS",
    "FILTER_V4",
    "FILTER_V6",
    "ALLOWED",
    "PROVEN",
];

/// A folder of pins, in use by this process alone.
#[derive(Debug)]
pub struct Pins {
    dir: PathBuf,
    /// Locked.
    _folder: File,
}

impl Pins {
    /// Opens the folder, or makes it.
    ///
    /// # Errors
    /// When it is not in a BPF filesystem, cannot be made, or another sensor uses it.
    pub fn open(dir: &Path) -> Result<Self> {
        let is_new = match fs::DirBuilder::new().mode(0o700).create(dir) {
            Ok(()) => true,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(error).with_context(|| format!("make {}: {MOUNT}", dir.display())),
        };
        let filesystem = statfs(dir).with_context(|| format!("look at {}", dir.display()))?;
        if filesystem.filesystem_type() != BPF_FS_MAGIC {
            if is_new {
                // Of no use, and empty; if it cannot be removed, it does no harm.
                let _ = fs::remove_dir(dir);
            }
            bail!("{} is not in a BPF filesystem: {MOUNT}", dir.display());
        }
        let folder = File::open(dir).with_context(|| format!("open {}", dir.display()))?;
        match folder.try_lock() {
            Ok(()) => Ok(Self { dir: dir.to_owned(), _folder: folder }),
            Err(TryLockError::WouldBlock) => bail!("another sensor uses {}; stop it, or pin elsewhere", dir.display()),
            Err(TryLockError::Error(error)) => Err(error).with_context(|| format!("lock {}", dir.display())),
        }
    }

    /// The state of the tables that an earlier process has left, if it has.
    ///
    /// # Errors
    /// When they are of another version, or damaged.
    pub fn state(&self) -> Result<Option<TableState>> {
        let path = self.map("STATE");
        if !path.exists() {
            return Ok(None);
        }
        let read = || -> Result<TableState> {
            let data = MapData::from_pin(&path)?;
            Ok(Array::<_, TableState>::try_from(Map::Array(data))?.get(&0, 0)?)
        };
        let state = read().with_context(|| format!("read {}: {}", path.display(), self.advice()))?;
        if state.abi_version != ABI_VERSION {
            bail!(
                "the maps in {} have layout version {}, this program has {ABI_VERSION}: {}",
                self.dir.display(),
                state.abi_version,
                self.advice()
            );
        }
        Ok(Some(state))
    }

    /// Where a map is pinned.
    pub fn map(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    /// Where the link of a program to an interface is pinned.
    pub fn link(&self, hook: &str, (namespace, ifindex): InterfaceId) -> PathBuf {
        self.dir.join(format!("{LINK}{hook}_{namespace}_{ifindex}"))
    }

    /// Every link that is pinned.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn links(&self) -> io::Result<Vec<PathBuf>> {
        Ok(list(&self.dir)?.into_iter().filter(|path| is_link(path)).collect())
    }

    /// What to do about pins that are of no use.
    pub fn advice(&self) -> String {
        format!("remove them with `leuko unpin {}` (their counts are lost)", self.dir.display())
    }
}

/// How names of pinned links begin.
const LINK: &str = "link_";

fn is_link(path: &Path) -> bool {
    path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(LINK))
}

fn list(dir: &Path) -> io::Result<Vec<PathBuf>> {
    fs::read_dir(dir)?.map(|entry| Ok(entry?.path())).collect()
}

const MOUNT: &str = "mount one with `mount -t bpf bpf /sys/fs/bpf`, or pin elsewhere";

/// Removes a folder of pins: programs are detached and maps freed when nobody uses them any more. Says how many pins
/// there were.
///
/// # Errors
/// When a sensor uses the folder, or something in it is no pin of a sensor.
pub fn unpin(dir: &Path) -> Result<usize> {
    if !dir.exists() {
        return Ok(0);
    }
    let pins = Pins::open(dir)?;
    let paths = list(dir).with_context(|| format!("list {}", dir.display()))?;
    let is_map = |path: &Path| MAPS.iter().any(|map| path.ends_with(map));
    if let Some(foreign) = paths.iter().find(|path| !is_map(path) && !is_link(path)) {
        bail!("{} was not pinned by leuko; nothing is removed", foreign.display());
    }
    // Links first: what is still attached needs its maps.
    let (links, maps): (Vec<_>, Vec<_>) = paths.into_iter().partition(|path| is_link(path));
    for path in links.iter().chain(&maps) {
        fs::remove_file(path).with_context(|| format!("remove {}", path.display()))?;
    }
    drop(pins);
    fs::remove_dir(dir).with_context(|| format!("remove {}", dir.display()))?;
    Ok(links.len() + maps.len())
}
