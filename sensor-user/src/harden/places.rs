//! Files and folders: whose they are, and whether somebody may use them.

use std::fs::{self, DirBuilder};
use std::io;
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
    let mut given = Vec::new();
    let mut give_all = || {
        own.iter().try_for_each(|dir| {
            give(dir, user, &mut given).map_err(|error| format!("{} is not given away: {error}", dir.display()))
        })?;
        may(&own.iter().flat_map(|dir| of_folder(dir)).collect::<Vec<_>>())
    };
    let result = give_all();
    if result.is_err() {
        for (path, uid, gid) in given {
            // It was theirs a moment ago, so it can be again.
            let _ = lchown(path, Some(uid), Some(gid));
        }
    }
    result
}

/// Gives away a folder of root's with the files in it. Only where nobody else can have put anything, and where it holds
/// nothing but plain files: a folder of the system, named by mistake, has others.
pub fn give(dir: &Path, user: &User, given: &mut Vec<(PathBuf, u32, u32)>) -> io::Result<()> {
    let dir = match dir.canonicalize() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        other => other?,
    };
    let folder = fs::symlink_metadata(&dir)?;
    if folder.uid() != 0 {
        return Ok(());
    }
    if folder.mode() & 0o022 != 0 {
        return Err(io::Error::other("others may write to it"));
    }
    let mut all = Vec::new();
    for entry in fs::read_dir(&dir)? {
        let path = entry?.path();
        let file = fs::symlink_metadata(&path)?;
        if !file.is_file() || file.nlink() > 1 {
            return Err(io::Error::other(format!("{} is no plain file", path.display())));
        }
        all.push((path, file.uid(), file.gid()));
    }
    all.retain(|(_, uid, _)| *uid == 0);
    all.push((dir, folder.uid(), folder.gid()));
    for (path, uid, gid) in all {
        lchown(&path, Some(user.uid.as_raw()), Some(user.gid.as_raw()))?;
        given.push((path, uid, gid));
    }
    Ok(())
}
