//! `cargo xtask train`: trains the classifier that is shipped on labelled captures, and writes its card.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::{setup, sh};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask train                    replays the labelled captures; writes models/trained
  cargo xtask train --data /srv/data   where the labelled data is
  cargo xtask train --out /tmp/try     elsewhere, to compare

The same captures give the same bytes.")]
pub struct Args {
    /// Folder of the labelled data; default: shared/data beside the repository
    #[arg(long, env = "LEUKO_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Where the model and its card go; default: models/trained
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<()> {
    setup::toolchain()?;
    sh::run(&mut sh::cargo(&["build", "--release", "--locked", "-p", "sensor-evaluation", "--bin", "train"]))?;
    sh::exec(train_command(args, &sh::target_dir()?.join("release/train")))
}

/// The program behind the task.
fn train_command(args: &Args, program: &Path) -> Command {
    let mut command = Command::new(program);
    command.arg("--data").arg(args.data.clone().unwrap_or_else(|| sh::workspace().join("../shared/data")));
    command.arg("--out").arg(args.out.clone().unwrap_or_else(|| sh::workspace().join("models/trained")));
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_model_goes_where_it_is_shipped_from() {
        let shown = sh::display(&train_command(&Args { data: Some("/d".into()), out: None }, Path::new("train")));
        assert!(shown.starts_with("train --data /d --out ") && shown.ends_with("models/trained"), "{shown}");
    }
}
