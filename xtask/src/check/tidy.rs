//! House rules that no linter knows: sizes, module files, first lines, commands that the README names.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::CommandFactory as _;

use crate::{Cli, sh};

/// Files over the limit, each with the reason why it is not two.
const LONG_FILES: [(&str, &str); 0] = [];

/// A file with more lines than this asks to become two.
const LINES_MAX: usize = 500;

pub fn check() -> Result<()> {
    let root = sh::workspace();
    let mut complaints = Vec::new();
    let mut sizes = Vec::new();
    for path in rust_files(root)? {
        let name = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().into_owned();
        let text = fs::read_to_string(&path).with_context(|| format!("read {name}"))?;
        complaints.extend(complaints_about(&name, &text));
        sizes.push((name, text.lines().count()));
    }
    for (name, reason) in LONG_FILES {
        if !sizes.iter().any(|(other, lines)| other == name && *lines > LINES_MAX) {
            complaints.push(format!("{name}: no longer long, take it off LONG_FILES ({reason})"));
        }
    }
    if let Ok(readme) = fs::read_to_string(root.join("README.md")) {
        complaints.extend(unknown_tasks(&readme).map(|task| format!("README.md: there is no `cargo xtask {task}`")));
    }
    if !complaints.is_empty() {
        bail!("{}", complaints.join("\n"));
    }
    Ok(())
}

fn complaints_about(name: &str, text: &str) -> Vec<String> {
    let mut complaints = Vec::new();
    let lines = text.lines().count();
    if lines > LINES_MAX && !LONG_FILES.iter().any(|(long, _)| *long == name) {
        complaints.push(format!("{name}: {lines} lines, more than {LINES_MAX}; make it two, or argue in LONG_FILES"));
    }
    if name.ends_with("/mod.rs") {
        complaints.push(format!("{name}: modules are `foo.rs` beside `foo/`"));
    }
    if !text.starts_with("//! ") {
        complaints.push(format!("{name}: the first line must say in `//!` what the file is for"));
    }
    complaints
}

/// Tasks that a text calls by `cargo xtask` and that do not exist.
fn unknown_tasks(text: &str) -> impl Iterator<Item = &str> {
    let cli = Cli::command();
    let calls = text.match_indices("cargo xtask ").filter_map(|(at, call)| {
        let rest = &text[at + call.len()..];
        let end = rest.find(|c: char| !c.is_ascii_lowercase() && c != '-').unwrap_or(rest.len());
        Some(&rest[..end]).filter(|task| task.starts_with(|c: char| c.is_ascii_lowercase()))
    });
    calls.filter(move |task| cli.find_subcommand(task).is_none())
}

/// Every Rust file of the workspace, outside hidden folders and build folders.
fn rust_files(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if path.is_dir() && !path.is_symlink() && !name.starts_with('.') && name != "target" {
            files.extend(rust_files(&path)?);
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, text: &str, expected: &[&str]) {
        let complaints = complaints_about(name, text);
        assert_eq!(complaints.len(), expected.len(), "{complaints:?}");
        for (complaint, expected) in complaints.iter().zip(expected) {
            assert!(complaint.contains(expected), "{complaint}");
        }
    }

    #[test]
    fn house_rules_are_held() {
        check("src/good.rs", "//! What it is for.\n", &[]);
        check("src/a/mod.rs", "//! What it is for.\n", &["beside"]);
        check("src/bad.rs", "use std::fs;\n", &["first line"]);
        check("src/long.rs", &format!("//! Long.\n{}", "\n".repeat(500)), &["501 lines"]);
    }

    #[test]
    fn the_readme_may_only_name_tasks_that_exist() {
        let text = "Run `cargo xtask run`, then `cargo xtask test --quick`.\ncargo xtask fly\n`cargo xtask <TASK>`";
        assert_eq!(unknown_tasks(text).collect::<Vec<_>>(), ["fly"]);
    }

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
