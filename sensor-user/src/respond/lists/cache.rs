//! The copy of a list from a server that a start without a network uses.
//!
//! The first line says where the rest is from, and by which marks the server tells whether it has changed. The time of the
//! file is when the server was last asked with success.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context as _, Result};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::config::ListUrl;
use crate::atomic::{self, NewFile};

/// The folder of copies in a state directory.
pub const FOLDER: &str = "lists";
/// Longest first line, in octets.
const MARK_LIMIT: u64 = 8192;
/// Begins the first line.
const BEGIN: &str = "# leuko ";

/// The copy of one list.
pub struct Cache {
    path: PathBuf,
    /// Of its address, which may hold secrets.
    digest: String,
}

/// What the first line says.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mark {
    /// A digest of the address.
    url: String,
    /// `ETag` of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub etag: Option<String>,
    /// `Last-Modified` of the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub modified: Option<String>,
}

/// A copy that is there.
pub struct Copy {
    /// Its first line.
    pub mark: Mark,
    /// The rest.
    pub list: BufReader<File>,
    /// When the server was last asked.
    pub asked: SystemTime,
}

impl Cache {
    /// The copy at `path` of the list at `url`.
    #[must_use]
    pub fn new(path: PathBuf, url: &ListUrl) -> Self {
        let digest = STANDARD.encode(digest(&SHA256, url.url().as_str().as_bytes()));
        Self { path, digest }
    }

    /// The copy; nothing if there is none, or one of another address.
    #[must_use]
    pub fn open(&self) -> Option<Copy> {
        let file = File::open(&self.path).ok()?;
        let asked = file.metadata().and_then(|data| data.modified()).ok()?;
        let mut list = BufReader::new(file);
        let mut line = String::new();
        (&mut list).take(MARK_LIMIT).read_line(&mut line).ok()?;
        let mark: Mark = serde_json::from_str(line.strip_prefix(BEGIN)?).ok()?;
        (mark.url == self.digest).then_some(Copy { mark, list, asked })
    }

    /// Begins a new copy.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn begin(&self, etag: Option<String>, modified: Option<String>) -> Result<Draft> {
        let mark = Mark { url: self.digest.clone(), etag, modified };
        let mut new = NewFile::create(&self.path)?;
        let line = serde_json::to_string(&mark).context("describe a list")?;
        writeln!(new.file, "{BEGIN}{line}").with_context(|| format!("write {}", self.path.display()))?;
        Ok(Draft { new, path: self.path.clone() })
    }

    /// Notes that the server was asked.
    ///
    /// # Errors
    /// There is no copy.
    pub fn touch(&self, now: SystemTime) -> Result<()> {
        let file = File::options().append(true).open(&self.path);
        file.and_then(|file| file.set_modified(now)).with_context(|| format!("touch {}", self.path.display()))
    }
}

/// A copy that is being written.
pub struct Draft {
    new: NewFile,
    path: PathBuf,
}

impl Draft {
    /// Appends a part of the list.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn write(&mut self, part: &[u8]) -> Result<()> {
        self.new.file.write_all(part).with_context(|| format!("write {}", self.path.display()))
    }

    /// What was written, to be read.
    ///
    /// # Errors
    /// It cannot be opened.
    pub fn read(&self) -> Result<BufReader<File>> {
        let path = atomic::with_suffix(&self.path, ".new");
        let file = File::open(&path).with_context(|| format!("open {}", path.display()))?;
        let mut list = BufReader::new(file);
        list.skip_until(b'\n').with_context(|| format!("read {}", path.display()))?;
        Ok(list)
    }

    /// Makes it the copy.
    ///
    /// # Errors
    /// It cannot take its place.
    pub fn keep(self, now: SystemTime) -> Result<()> {
        self.new.file.set_modified(now).with_context(|| format!("touch {}", self.path.display()))?;
        self.new.commit()
    }
}

/// Makes the folder of the copies.
///
/// # Errors
/// It cannot be made.
pub fn folder(state_dir: &Path) -> Result<PathBuf> {
    let folder = state_dir.join(FOLDER);
    fs::create_dir_all(&folder).with_context(|| format!("create the folder {}", folder.display()))?;
    Ok(folder)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    #[test]
    fn a_copy_is_of_one_address_and_remembers_when_it_was_asked_for() {
        let dir = tempfile::tempdir().unwrap();
        let path = folder(dir.path()).unwrap().join("drop");
        let cache = |url: &str| Cache::new(path.clone(), &ListUrl::try_from(url.to_owned()).unwrap());
        let here = cache("http://h/list?key=hunter2");
        assert!(here.open().is_none() && here.touch(UNIX_EPOCH).is_err());
        let at = |secs| UNIX_EPOCH + Duration::from_secs(secs);

        let mut draft = here.begin(Some("\"v1\"".to_owned()), None).unwrap();
        draft.write(b"192.0.2.1\n").unwrap();
        let lines = |list: BufReader<File>| list.lines().map(Result::unwrap).collect::<Vec<_>>();
        assert_eq!(lines(draft.read().unwrap()), ["192.0.2.1"]);
        assert!(here.open().is_none(), "not kept yet");
        draft.keep(at(1000)).unwrap();
        let copy = here.open().unwrap();
        assert_eq!((copy.mark.etag.as_deref(), copy.mark.modified, copy.asked), (Some("\"v1\""), None, at(1000)));
        assert_eq!(lines(copy.list), ["192.0.2.1"]);
        here.touch(at(2000)).unwrap();
        assert_eq!(here.open().unwrap().asked, at(2000));

        drop(here.begin(None, None).unwrap());
        assert_eq!(here.open().unwrap().asked, at(2000), "what is not kept changes nothing");
        assert!(cache("http://h/list?key=hunter3").open().is_none());
        assert!(!fs::read_to_string(&path).unwrap().contains("hunter2"));
        for text in ["", "# leuko \n", "# leuko {}\n", "192.0.2.1\n", "\u{fffd}"] {
            fs::write(&path, text).unwrap();
            assert!(here.open().is_none(), "{text}");
        }
    }
}
