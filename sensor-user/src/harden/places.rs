//! Files and folders: whose they are, and whether somebody may use them.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, lchown};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::sys::statfs::{BPF_FS_MAGIC, statfs};
use nix::unistd::{AccessFlags, User, eaccess};

use super::rights;

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
    let written = written.iter().flat_map(|file| {
        [(folder_of(file).to_owned(), AccessFlags::W_OK | AccessFlags::X_OK), (file.clone(), AccessFlags::W_OK)]
    });
    read.chain(written).collect()
}

/// What is needed of a folder of the sensor's own, and of what is in it.
pub fn of_folder(dir: &Path) -> Vec<Need> {
    let inside = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let files = inside.filter(|path| path.is_file()).map(|path| (path, AccessFlags::R_OK | AccessFlags::W_OK));
    let whole = AccessFlags::R_OK | AccessFlags::W_OK | AccessFlags::X_OK;
    std::iter::once((dir.to_owned(), whole)).chain(files).collect()
}

fn reading(path: &Path) -> AccessFlags {
    if path.is_dir() { AccessFlags::R_OK | AccessFlags::X_OK } else { AccessFlags::R_OK }
}

/// The first path that this process may not use as it needs to. What is not there is for others to complain about.
pub fn refused(needs: &[Need]) -> Option<PathBuf> {
    needs.iter().find(|(path, how)| eaccess(path, *how) == Err(Errno::EACCES)).map(|(path, _)| path.clone())
}

/// Gives folders of root's to a user, if that user can then use all of them, and all that others have made.
///
/// # Errors
/// What the user could not use, in words; nothing has changed then.
pub fn hand_over(user: &User, own: &[PathBuf], others: &[Need]) -> Result<(), String> {
    let may = |needs: &[Need]| match rights::as_user(user, || refused(needs)) {
        Ok(None) => Ok(()),
        Ok(Some(path)) => Err(format!("{} may not use {}", user.name, path.display())),
        Err(error) => Err(format!("the change to {} fails: {error}", user.name)),
    };
    may(others)?;
    let mut given = Given::default();
    let result = own
        .iter()
        .try_for_each(|dir| {
            given.give(dir, user).map_err(|error| format!("{} is not given away: {error}", dir.display()))
        })
        .and_then(|()| may(&own.iter().flat_map(|dir| of_folder(dir)).collect::<Vec<_>>()));
    if result.is_err() {
        given.take_back();
    }
    result
}

/// What was given away, and whose it was.
#[derive(Debug, Default)]
pub struct Given {
    /// Held open, so that paths by way of their descriptors mean them, whatever becomes of their names.
    folders: Vec<File>,
    paths: Vec<(PathBuf, u32, u32)>,
}

impl Given {
    /// Gives away a folder of root's with the files in it. Only where nobody else can have put anything, and where it
    /// holds nothing but plain files: a folder of the system, named by mistake, has others.
    pub fn give(&mut self, dir: &Path, user: &User) -> io::Result<()> {
        let folder = match File::open(dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            other => other?,
        };
        let found = folder.metadata()?;
        if found.uid() != 0 {
            return Ok(());
        }
        if found.mode() & 0o022 != 0 {
            return Err(io::Error::other("others may write to it"));
        }
        let inside = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string());
        let mut all = vec![(inside.join("."), found.uid(), found.gid())];
        for entry in fs::read_dir(&inside)? {
            let path = entry?.path();
            let file = fs::symlink_metadata(&path)?;
            if !file.is_file() || file.nlink() > 1 {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                return Err(io::Error::other(format!("{name} in it is no plain file")));
            }
            if file.uid() == 0 {
                all.push((path, file.uid(), file.gid()));
            }
        }
        self.folders.push(folder);
        for one in all {
            lchown(&one.0, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
            self.paths.push(one);
        }
        Ok(())
    }

    /// How many files and folders.
    #[cfg(test)]
    pub const fn len(&self) -> usize {
        self.paths.len()
    }

    fn take_back(self) {
        for (path, uid, gid) in self.paths {
            // It was theirs a moment ago, so it can be again.
            let _ = lchown(path, Some(uid), Some(gid));
        }
    }
}
