//! `cargo xtask eval`: measures models and detection on public labelled data and writes the cards.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Result, bail};

use crate::{python, sh};

#[derive(clap::Args)]
#[command(after_help = "Examples:
  cargo xtask eval                        models and detection; writes models/QUALITY.md, models/DETECTION.md and .json
  cargo xtask eval captures               detection on labelled captures only, a minute or two
  cargo xtask eval captures --check       compares with models/DETECTION.md instead of writing it
  cargo xtask eval captures --robustness  also with each parameter halved and doubled; models/ROBUSTNESS.md
  cargo xtask eval models                 the models only
  cargo xtask eval models --quick         UNSW-NB15 only, a minute; writes nothing
  cargo xtask eval --json > eval.json
  cargo xtask eval --data /srv/data       where the labelled data is

Detection: attack captures found, by which name, how soon, whose; false incidents in benign captures; attacks amid benign
traffic. It repeats to the digit, so a change of models/DETECTION.md is a change of behaviour to be reviewed.

Models: scikit-learn is measured on the same rows, in a Python environment made in the target folder. Without Python, or
without a way to install scikit-learn, the card says that it was not measured.")]
pub struct Args {
    /// What is measured; default: both
    #[arg(value_name = "PART")]
    part: Option<Part>,
    /// Folder of the labelled data; default: shared/data beside the repository
    #[arg(long, env = "LEUKO_DATA", value_name = "DIR")]
    data: Option<PathBuf>,
    /// Models: UNSW-NB15 only, fewer resamples, no family left out; writes nothing
    #[arg(long)]
    quick: bool,
    /// Captures: also with every parameter halved and doubled
    #[arg(long)]
    robustness: bool,
    /// Captures: compare with the card that is there, and fail if it is stale
    #[arg(long)]
    check: bool,
    /// JSON instead of Markdown on standard output
    #[arg(long)]
    json: bool,
    /// Folder the cards go to; default: models
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// The models, beside scikit-learn
    Models,
    /// Detection on labelled captures
    Captures,
}

pub fn run(args: &Args) -> Result<()> {
    args.fit_together()?;
    sh::run(&mut sh::cargo(&["build", "--release", "--locked", "-p", "sensor-evaluation", "--bin", "eval"]))?;
    let python = (args.part != Some(Part::Captures)).then(python::with_scikit_learn);
    sh::exec(eval_command(args, &sh::target_dir()?.join("release/eval"), python))
}

impl Args {
    /// Options of one part are for that part alone: the other would take long and do as ever.
    fn fit_together(&self) -> Result<()> {
        let of_captures = [(self.check, "--check"), (self.robustness, "--robustness")];
        let of_models = [(self.quick, "--quick")];
        let chosen = |flags: &[(bool, &'static str)]| flags.iter().find(|(chosen, _)| *chosen).map(|(_, flag)| *flag);
        match (chosen(&of_captures), chosen(&of_models)) {
            (Some(flag), _) if self.part != Some(Part::Captures) => bail!("write: cargo xtask eval captures {flag}"),
            (_, Some(flag)) if self.part != Some(Part::Models) => bail!("write: cargo xtask eval models {flag}"),
            _ => Ok(()),
        }
    }
}

/// The program behind the task. `python` is an interpreter with scikit-learn, or why there is none, if one is needed.
fn eval_command(args: &Args, program: &Path, python: Option<Result<PathBuf>>) -> Command {
    let mut command = Command::new(program);
    command.args(args.part.map(|part| match part {
        Part::Models => "models",
        Part::Captures => "captures",
    }));
    let data = args.data.clone().unwrap_or_else(|| sh::workspace().join("../shared/data"));
    command.arg("--data").arg(data);
    command.arg("--out").arg(args.out.clone().unwrap_or_else(|| sh::workspace().join("models")));
    let flags =
        [(args.quick, "--quick"), (args.robustness, "--robustness"), (args.check, "--check"), (args.json, "--json")];
    command.args(flags.iter().filter(|(chosen, _)| *chosen).map(|(_, flag)| flag));
    match python {
        Some(Ok(python)) => command.arg("--python").arg(python),
        Some(Err(error)) => command.arg("--no-python").arg(error.to_string()),
        None => &mut command,
    };
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(args: &Args, python: Option<Result<PathBuf>>) -> String {
        sh::display(&eval_command(args, Path::new("eval"), python))
    }

    fn args(part: Option<Part>) -> Args {
        let (quick, robustness, check, json) = (false, false, false, false);
        Args { part, data: Some("/d".into()), quick, robustness, check, json, out: None }
    }

    #[test]
    fn a_full_run_writes_the_cards() {
        let shown = shown(&args(None), Some(Ok("/py".into())));
        assert!(shown.starts_with("eval --data /d --out ") && shown.ends_with("models --python /py"), "{shown}");
    }

    #[test]
    fn one_part_runs_alone_and_says_what_is_missing() {
        let args = Args { quick: true, json: true, out: Some("/o".into()), ..args(Some(Part::Models)) };
        let shown = shown(&args, Some(Err(anyhow::anyhow!("no Python"))));
        assert_eq!(shown, "eval models --data /d --out /o --quick --json --no-python 'no Python'");
    }

    #[test]
    fn captures_need_no_python() {
        let args = Args { check: true, robustness: true, out: Some("/o".into()), ..args(Some(Part::Captures)) };
        assert_eq!(shown(&args, None), "eval captures --data /d --out /o --robustness --check");
    }

    #[test]
    fn options_of_one_part_are_refused_without_it() {
        let refused = |args: Args| args.fit_together().map_err(|error| error.to_string());
        let check = Args { check: true, ..args(None) };
        assert_eq!(refused(check), Err("write: cargo xtask eval captures --check".to_owned()));
        let quick = Args { quick: true, ..args(Some(Part::Captures)) };
        assert_eq!(refused(quick), Err("write: cargo xtask eval models --quick".to_owned()));
        assert_eq!(refused(Args { check: true, ..args(Some(Part::Captures)) }), Ok(()));
        assert_eq!(refused(args(None)), Ok(()));
    }
}
