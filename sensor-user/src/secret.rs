//! A secret from the configuration: usable, and never printed.

use std::fmt;
use std::io;
use std::path::PathBuf;

use serde::{Deserialize, Serialize, Serializer};
use thiserror::Error;

/// What stands where a secret would have been printed.
const HIDDEN: &str = "***";

/// A password or token. Debug, Display and Serialize print `***`; [`Secret::expose`] is the one way to the text.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Secret(String);

impl Secret {
    /// The text itself, for the request that needs it and nothing else.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// `text` with every occurrence of the secret hidden: a peer may repeat in an answer what it was sent.
    #[must_use]
    pub fn redact(&self, text: &str) -> String {
        text.replace(&self.0, HIDDEN)
    }
}

impl TryFrom<String> for Secret {
    type Error = SecretError;

    /// Surrounding white space is not part of a secret; what remains is one line of printable text.
    fn try_from(text: String) -> Result<Self, SecretError> {
        let text = text.trim();
        if text.is_empty() {
            return Err(SecretError::Empty);
        }
        if text.chars().any(char::is_control) {
            return Err(SecretError::NotOneLine);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(HIDDEN)
    }
}

/// Where a secret is: in the configuration itself, or in a file of its own (`password` or `password_file`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SecretSource {
    /// The configuration holds it.
    Value(Secret),
    /// The file holds it, and nothing else.
    File(PathBuf),
}

impl SecretSource {
    /// The source that the two settings of a secret describe, or nothing when neither is set.
    ///
    /// # Errors
    /// [`SecretError::Twice`] when both are set.
    pub fn of(value: Option<Secret>, file: Option<PathBuf>) -> Result<Option<Self>, SecretError> {
        match (value, file) {
            (Some(_), Some(_)) => Err(SecretError::Twice),
            (Some(value), None) => Ok(Some(Self::Value(value))),
            (None, file) => Ok(file.map(Self::File)),
        }
    }

    /// The inverse of [`Self::of`].
    #[must_use]
    pub fn into_settings(self) -> (Option<Secret>, Option<PathBuf>) {
        match self {
            Self::Value(value) => (Some(value), None),
            Self::File(path) => (None, Some(path)),
        }
    }

    /// The secret, read from its file when it has one.
    ///
    /// # Errors
    /// When the file cannot be read, is empty or holds more than one line.
    pub fn load(&self) -> Result<Secret, SecretError> {
        let path = match self {
            Self::Value(secret) => return Ok(secret.clone()),
            Self::File(path) => path,
        };
        let in_file = |problem: SecretError| SecretError::File { path: path.clone(), problem: Box::new(problem) };
        let text = std::fs::read_to_string(path).map_err(|source| in_file(SecretError::Unreadable(source)))?;
        Secret::try_from(text).map_err(in_file)
    }
}

/// Why there is no usable secret. Never holds any of its text.
#[derive(Debug, Error)]
pub enum SecretError {
    /// Nothing but white space.
    #[error("the secret is empty")]
    Empty,
    /// Control characters, for instance several lines.
    #[error("the secret is not one line of printable text")]
    NotOneLine,
    /// Given as value and as file.
    #[error("the secret is given twice, as a value and as a file: remove one of the two")]
    Twice,
    /// The file is missing, or may not be read.
    #[error("{0}")]
    Unreadable(io::Error),
    /// A problem with the file at `path`.
    #[error("secret file {}: {problem}", path.display())]
    File {
        /// As configured.
        path: PathBuf,
        /// What is wrong with it.
        problem: Box<Self>,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_never_printed() {
        let secret = Secret::try_from("hunter2".to_owned()).unwrap();
        let source = SecretSource::Value(secret.clone());
        let printed = format!("{secret} {secret:?} {source:?} {}", serde_json::to_string(&secret).unwrap());
        assert!(!printed.contains("hunter2"), "{printed}");
        assert_eq!(secret.redact("bad token hunter2"), "bad token ***");
    }

    #[test]
    fn file_is_trimmed_and_its_problems_name_it() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("token");
        let source = SecretSource::File(path.clone());
        let error = || source.load().unwrap_err().to_string();

        assert!(error().contains("token: No such file"), "{}", error());
        std::fs::write(&path, " \n").unwrap();
        assert!(error().ends_with("token: the secret is empty"), "{}", error());
        std::fs::write(&path, "hunter2\nhunter3\n").unwrap();
        assert!(error().ends_with("not one line of printable text"), "{}", error());
        std::fs::write(&path, "hunter2\n").unwrap();
        assert_eq!(source.load().unwrap().expose(), "hunter2");
    }

    #[test]
    fn value_and_file_together_are_refused() {
        let secret = Secret::try_from("hunter2".to_owned()).unwrap();
        assert!(matches!(SecretSource::of(Some(secret), Some("f".into())), Err(SecretError::Twice)));
        assert!(SecretSource::of(None, None).unwrap().is_none());
    }
}
