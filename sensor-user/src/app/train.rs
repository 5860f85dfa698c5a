//! `leuko train`.

use std::fmt::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result, bail};
use sensor_models::ensemble::USUAL;

use super::{complain, engine_config, print};
use crate::atomic;
use crate::cli::TrainArgs;
use crate::config::Config;
use crate::config::datapath::Tunnel;
use crate::replay::ReplayOptions;
use crate::train::{Progress, TrainOptions, Written, train};

/// Trains, writes, and says what was written. Damage to a capture is told last.
///
/// # Errors
/// What is wrong with the inputs, the options or the place of the output; nothing is written then.
pub fn run(config: &Config, args: &TrainArgs, quiet: bool) -> Result<ExitCode> {
    atomic::check_place(&args.output).context("--output")?;
    if let Some(input) = args.inputs.iter().find(|input| is_same(input, &args.output)) {
        bail!("--output {} is an input: choose another place", input.display());
    }
    let replay = ReplayOptions {
        engine: engine_config(config),
        interval: config.interval.get(),
        tunnels: Tunnel::bits(&config.kernel.tunnels),
        beacons: 0,
    };
    let options = TrainOptions {
        contamination: args.contamination,
        seed: args.seed,
        recipe: if args.models.is_empty() { USUAL.to_vec() } else { args.models.clone() },
        classes: args.classes,
        prior: args.prior,
        replay,
    };
    let trained = train(&args.inputs, &options, &Progress::on_stderr(quiet))?;
    let written = trained.write(&args.output, &options)?;
    let text = if args.json {
        serde_json::to_string(&written).context("print what was trained as JSON")? + "\n"
    } else {
        described(&written)
    };
    let code = print(text.as_bytes())?;
    match trained.complain_of_damage() {
        Ok(()) => Ok(code),
        Err(damage) => Ok(complain(&damage)),
    }
}

fn is_same(input: &std::path::Path, output: &std::path::Path) -> bool {
    let real = |path: &std::path::Path| path.canonicalize().ok();
    real(input).is_some() && real(input) == real(output)
}

fn described(written: &Written) -> String {
    let mut text = String::new();
    let Written { normal_rows, attack_rows, left_out_rows, .. } = written;
    // Writing to a string does not fail.
    let _ = writeln!(text, "{normal_rows} rows of normal traffic, {attack_rows} of attacks, {left_out_rows} left out");
    for (name, value) in written.metrics.iter().chain(&written.classifier_metrics) {
        let shown = if name.contains("rows") { format!("{value}") } else { format!("{value:.4}") };
        let _ = writeln!(text, "  {name:<28} {shown}");
    }
    let _ = writeln!(text, "wrote {}", written.model.display());
    if let Some(classifier) = &written.classifier {
        let _ = writeln!(text, "wrote {}", classifier.display());
    }
    let _ = writeln!(text, "wrote {}, which says what it is worth", written.card.display());
    if !written.usable_by_run {
        text += "`leuko run` cannot use it: the sensor does not measure these columns. It is a benchmark.\n";
    }
    text
}
