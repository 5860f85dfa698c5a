//! `cargo xtask eval`: measures the models on public labelled data and writes the quality card.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Result;

use crate::{python, sh};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask eval                    every data set; prints and writes models/QUALITY.md
  cargo xtask eval --quick            UNSW-NB15 only, a minute; writes nothing
  cargo xtask eval --json > eval.json
  cargo xtask eval --data /srv/data   where the labelled data is

scikit-learn is measured on the same rows, in a Python environment made in the target folder. Without Python, or without
a way to install scikit-learn, the card says that it was not measured.")]
pub struct Args {
    /// Folder of the labelled data; default: shared/data beside the repository
    #[arg(long, env = "LEUKO_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// UNSW-NB15 only, fewer resamples, no family left out
    #[arg(long)]
    quick: bool,
    /// JSON instead of Markdown on standard output
    #[arg(long)]
    json: bool,
    /// Where the card goes; default: models/QUALITY.md, nowhere with --quick
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

pub fn run(args: &Args) -> Result<()> {
    sh::run(&mut sh::cargo(&["build", "--release", "--locked", "-p", "sensor-evaluation", "--bin", "eval"]))?;
    sh::exec(eval_command(args, &sh::target_dir()?.join("release/eval"), python::with_scikit_learn()))
}

/// The program behind the task. `python` is an interpreter with scikit-learn, or why there is none.
fn eval_command(args: &Args, program: &Path, python: Result<PathBuf>) -> Command {
    let mut command = Command::new(program);
    let data = args.data.clone().unwrap_or_else(|| sh::workspace().join("../shared/data"));
    command.arg("--data").arg(data);
    let card = || (!args.quick).then(|| sh::workspace().join("models/QUALITY.md"));
    if let Some(out) = args.out.clone().or_else(card) {
        command.arg("--out").arg(out);
    }
    for (chosen, flag) in [(args.quick, "--quick"), (args.json, "--json")] {
        if chosen {
            command.arg(flag);
        }
    }
    match python {
        Ok(python) => command.arg("--python").arg(python),
        Err(error) => command.arg("--no-python").arg(error.to_string()),
    };
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(args: &Args, python: Result<PathBuf>) -> String {
        sh::display(&eval_command(args, Path::new("eval"), python))
    }

    fn args(quick: bool) -> Args {
        Args { data: Some("/d".into()), quick, json: quick, out: None }
    }

    #[test]
    fn a_full_run_writes_the_card() {
        let shown = shown(&args(false), Ok("/py".into()));
        assert!(
            shown.starts_with("eval --data /d --out ") && shown.ends_with("models/QUALITY.md --python /py"),
            "{shown}"
        );
    }

    #[test]
    fn a_quick_run_leaves_the_card_alone_and_says_what_is_missing() {
        let shown = shown(&args(true), Err(anyhow::anyhow!("no Python")));
        assert_eq!(shown, "eval --data /d --quick --json --no-python 'no Python'");
    }
}
