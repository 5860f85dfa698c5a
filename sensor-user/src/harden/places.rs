//! Files and folders: whose they are, and whether somebody may use them.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _, lchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use nix::unistd::{AccessFlags, User, eaccess};

use super::rights;
use crate::config::respond::SOCKET;
use crate::respond::lists;

/// A path, and what is done with it.
pub type Need = (PathBuf, AccessFlags);

/// The folder in which a file is.
pub fn folder_of(file: &Path) -> &Path {
    file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Makes the folder of pins, if its place is in a BPF filesystem: elsewhere the sensor says what is wrong.
pub fn make_pins(dir: &Path) -> io::Result<()> {
    if dir.exists() || !statfs(folder_of(dir)).is_ok_and(|found| found.filesystem_type() == BPF_FS_MAGIC) {
        return Ok(());
    }
    DirBuilder::new().mode(0o700).create(dir)
}

/// What is needed of files that others have made.
pub fn of_others(read: &[PathBuf], written: &[PathBuf]) -> Vec<Need> {
    let read = read.iter().map(|path| (path.clone(), reading(path)));
    let folders = written.iter().map(|file| (folder_of(file).to_owned(), AccessFlags::W_OK | AccessFlags::X_OK));
    // A socket that a killed sensor has left is replaced.
    let files = written.iter().filter(|file| !is_socket(file)).map(|file| (file.clone(), AccessFlags::W_OK));
    read.chain(folders).chain(files).collect()
}

fn is_socket(path: &Path) -> bool {
    fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket())
}

/// What is needed of a folder of the sensor's own, and of what is in it.
pub fn of_folder(dir: &Path) -> Vec<Need> {
    let whole = AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK;
    let folders = [dir.to_owned(), dir.join(lists::FOLDER)];
    let needs = folders.into_iter().flat_map(|folder| {
        let inside = fs::read_dir(&folder).into_iter().flatten().flatten().map(|entry| entry.path());
        let files = inside.filter(|path| path.is_file()).map(|path| (path, AccessFlags::R_OK | AccessFlags::W_OK));
        std::iter::once((folder, whole)).chain(files)
    });
    needs.collect()
}

fn reading(path: &Path) -> AccessFlags {
    if path.is_dir() { AccessFlags::R_OK | AccessFlags::X_OK } else { AccessFlags::R_OK }
}

/// The first path that this process may not use as it needs to. What is not there is for others to complain about.
pub fn refused(needs: &[Need]) -> Option<PathBuf> {
    needs.iter().find(|(path, how)| eaccess(path, *how) == Err(Errno::EACCES)).map(|(path, _)| path.clone())
}

/// Why a user cannot do the sensor's work.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What stands against it.
    pub why: String,
    /// What to do.
    pub advice: String,
}

/// What root would have to give to a user, who could then use all of the sensor's own folders, and all that others have
/// made. Changes nothing.
///
/// # Errors
/// What the user could not use even then.
pub fn gift(user: &User, own: &[PathBuf], others: &[Need]) -> Result<Gift, Refusal> {
    let mut gift = Gift::default();
    let mut needs = others.to_vec();
    for dir in own {
        match gift.add(dir, user) {
            // All that is left to ask is whether there is a way to it.
            Ok(true) => needs.push((dir.clone(), AccessFlags::F_OK)),
            Ok(false) => needs.extend(of_folder(dir)),
            Err(error) => {
                return Err(Refusal {
                    why: format!("{} is not given away: {error}", dir.display()),
                    advice: "keep nothing in it but what the sensor has made, or choose another folder".to_owned(),
                });
            }
        }
    }
    let found = rights::as_user(user, || refused(&needs).map(|path| (closed_above(&path), path)));
    let Some((closed, path)) = found.map_err(|error| Refusal {
        why: format!("the change to {} fails: {error:#}", user.name),
        advice: "start it with CAP_SETUID and CAP_SETGID".to_owned(),
    })?
    else {
        return Ok(gift);
    };
    let advice = match (closed, own.iter().find(|dir| path.starts_with(dir))) {
        (Some(folder), _) => format!("`chmod o+x {}` lets it through", folder.display()),
        (None, Some(dir)) => format!("`chown -R {}: {}` gives all of it away", user.name, dir.display()),
        (None, None) => "let it by group or mode, or choose another place".to_owned(),
    };
    Err(Refusal { why: format!("{} may not use {}", user.name, path.display()), advice })
}

/// The first folder on the way to a path that this process may not pass.
fn closed_above(path: &Path) -> Option<PathBuf> {
    let closed = path.ancestors().skip(1).filter(|folder| eaccess(*folder, AccessFlags::X_OK) == Err(Errno::EACCES));
    closed.last().map(Path::to_owned)
}

/// What is root's and is to be a user's.
#[derive(Debug, Default)]
pub struct Gift {
    /// Held open, so that paths by way of their descriptors mean them, whatever becomes of their names.
    folders: Vec<File>,
    /// With their groups. What is in a folder goes before it, while nobody else can change it.
    paths: Vec<(PathBuf, u32)>,
}

impl Gift {
    /// Adds a folder with the files in it, if it is root's; says whether it is. Only where nobody else can have put
    /// anything, and where it holds nothing but plain files and what the sensor makes besides: a folder of the system,
    /// named by mistake, has others.
    fn add(&mut self, dir: &Path, user: &User) -> io::Result<bool> {
        match File::open(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            folder => self.add_folder(folder?, user, Some(lists::FOLDER)),
        }
    }

    /// `below` is the one folder that may be in it.
    fn add_folder(&mut self, folder: File, user: &User, below: Option<&str>) -> io::Result<bool> {
        let found = folder.metadata()?;
        if found.uid() != 0 {
            return Ok(false);
        }
        if found.mode() & 0o022 != 0 {
            return Err(io::Error::other("others may write to it"));
        }
        if found.mode() & 0o700 != 0o700 {
            return Err(io::Error::other("its owner may not use it"));
        }
        let inside = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string());
        for entry in fs::read_dir(&inside)? {
            let entry = entry?;
            let (path, name) = (entry.path(), entry.file_name());
            let file = fs::symlink_metadata(&path)?;
            let refuse = |why: &str| Err(io::Error::other(format!("{} in it {why}", name.to_string_lossy())));
            if file.file_type().is_socket() && name == SOCKET {
                // The next sensor makes its own.
                continue;
            }
            if ![0, user.uid.as_raw()].contains(&file.uid()) {
                return refuse("belongs to another user");
            }
            if file.is_dir() && below.is_some_and(|below| name == below) {
                let flags = libc::O_DIRECTORY | libc::O_NOFOLLOW;
                let folder = File::options().read(true).custom_flags(flags).open(&path)?;
                if let Err(error) = self.add_folder(folder, user, None) {
                    return refuse(&format!("cannot be: {error}"));
                }
                continue;
            }
            if !file.is_file() || file.nlink() > 1 {
                return refuse("is no plain file");
            }
            if file.mode() & 0o600 != 0o600 {
                return refuse("is not for its owner to read and write");
            }
            if file.uid() == 0 {
                self.paths.push((path, file.gid()));
            }
        }
        self.paths.push((inside.join("."), found.gid()));
        self.folders.push(folder);
        Ok(true)
    }

    /// Gives it away; all of it or nothing.
    pub fn give(self, user: &User) -> io::Result<()> {
        let mut given = Vec::new();
        let result = self.paths.iter().try_for_each(|(path, gid)| {
            lchown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
            given.push((path, *gid));
            Ok(())
        });
        if result.is_err() {
            for (path, gid) in given.into_iter().rev() {
                // It was root's a moment ago, so it can be again.
                let _ = lchown(path, Some(0), Some(gid));
            }
        }
        result
    }

    /// How many files and folders.
    #[cfg(test)]
    pub const fn len(&self) -> usize {
        self.paths.len()
    }
}
