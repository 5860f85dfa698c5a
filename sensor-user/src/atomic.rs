//! Files that are there as a whole or not at all: written beside their place, then renamed into it.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

/// Replaces the file at `path` with `bytes`; its folder has to exist.
///
/// # Errors
/// When it cannot be written; what was at `path` is then still there.
pub fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    let mut new = NewFile::create(path)?;
    new.file.write_all(bytes).with_context(|| format!("write {}", new.at.display()))?;
    new.commit()
}

/// Checks that a file can be made at `path`, before work is put into what it will hold.
///
/// # Errors
/// There is no such folder, or `path` is a folder.
pub fn check_place(path: &Path) -> Result<()> {
    let folder = folder_of(path);
    if !folder.is_dir() {
        bail!("there is no folder {}: make it, or choose another place", folder.display());
    }
    if path.is_dir() || path.file_name().is_none() {
        bail!("{} is a folder: name a file in it", path.display());
    }
    Ok(())
}

/// `path` with `suffix` at its end.
#[must_use]
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    PathBuf::from(name)
}

/// A file that takes its place when it is committed, and is removed when it is not.
#[derive(Debug)]
pub struct NewFile {
    /// What is written so far.
    pub file: File,
    at: PathBuf,
    path: PathBuf,
}

impl NewFile {
    /// Begins a file for `path`.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn create(path: &Path) -> Result<Self> {
        let at = with_suffix(path, ".new");
        let file = File::create(&at).with_context(|| format!("create {}", at.display()))?;
        Ok(Self { file, at, path: path.to_owned() })
    }

    /// Puts the file in its place.
    ///
    /// # Errors
    /// When it cannot be written to the disk or renamed.
    pub fn commit(self) -> Result<()> {
        self.file.sync_all().with_context(|| format!("write {}", self.at.display()))?;
        fs::rename(&self.at, &self.path).with_context(|| format!("replace {}", self.path.display()))
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        remove(&self.at);
    }
}

/// Removes a file of ours; one that is no longer there was renamed.
pub fn remove(path: &Path) {
    match fs::remove_file(path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => tracing::warn!(%error, path = %path.display(), "cannot remove a file that is no longer needed"),
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        Some(_) | None => Path::new("."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write(&path, b"one").unwrap();
        write(&path, b"two").unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"two");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_not_committed_leaves_nothing_and_takes_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("file");
        write(&path, b"one").unwrap();
        let mut new = NewFile::create(&path).unwrap();
        new.file.write_all(b"half").unwrap();
        drop(new);
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_place_that_cannot_be_is_refused_with_what_to_do() {
        let dir = tempfile::tempdir().unwrap();
        check_place(&dir.path().join("file")).unwrap();
        check_place(Path::new("file")).unwrap();
        for (path, words) in [(dir.path().join("no/file"), "make it"), (dir.path().to_owned(), "name a file")] {
            let error = check_place(&path).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
    }
}
