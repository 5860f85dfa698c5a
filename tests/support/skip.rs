//! Says why a test is skipped; in CI nothing is.

use std::env;
use std::path::{Path, PathBuf};

use crate::leuko::Leuko;
use crate::process::{is_root, tool};

/// What a test needs of the machine.
#[derive(Debug, Clone, Copy)]
pub enum Need<'a> {
    /// To be root.
    Root,
    /// A program on the PATH.
    Tool(&'a str),
    /// The `leuko` binary, see [`Leuko::binary`].
    Leuko,
    /// A file or a folder.
    File(&'a Path),
}

/// Whether the machine has all that a test needs.
///
/// If not it prints why, and the test returns: `if !require(&[Need::Root]) { return Ok(()); }`.
///
/// # Panics
/// With `CI=true` in the environment, instead of returning `false`.
#[track_caller]
pub fn require(needs: &[Need<'_>]) -> bool {
    verdict(needs, env::var("CI").is_ok_and(|ci| ci == "true"))
}

#[track_caller]
#[expect(clippy::print_stderr, reason = "a skipped test prints why")]
fn verdict(needs: &[Need<'_>], ci: bool) -> bool {
    let missing: Vec<_> = needs.iter().filter_map(missing).collect();
    if missing.is_empty() {
        return true;
    }
    let caller = std::panic::Location::caller();
    let why = format!("{}:{}: {}", caller.file(), caller.line(), missing.join("; "));
    assert!(!ci, "may not be skipped in CI: {why}");
    eprintln!("skipped: {why}");
    false
}

fn missing(need: &Need<'_>) -> Option<String> {
    match *need {
        Need::Root => (!is_root()).then(|| "needs root".to_owned()),
        Need::Tool(name) => tool(name).err().map(|error| error.to_string()),
        Need::Leuko => Leuko::binary().err().map(|error| error.to_string()),
        Need::File(path) => (!path.exists()).then(|| format!("needs {}", PathBuf::from(path).display())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_not_skipped() {
        assert!(verdict(&[Need::Tool("sh"), Need::File(Path::new("/"))], true));
    }

    #[test]
    fn what_is_missing_is_skipped_outside_ci() {
        assert!(!verdict(&[Need::Tool("no-such-program")], false));
    }

    #[test]
    #[should_panic(expected = "may not be skipped in CI")]
    fn what_is_missing_fails_in_ci() {
        verdict(&[Need::File(Path::new("/nowhere"))], true);
    }
}
