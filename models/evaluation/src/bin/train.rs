//! `train`: fits the classifier that is shipped and writes it with its card. `cargo xtask train` runs it.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "its report is what this program is for")]

use std::path::PathBuf;

use anyhow::{Context as _, Result};
use clap::Parser as _;
use sensor_evaluation::attack_classes::{self, MOST_FLOWS, card};
use sensor_evaluation::captures::Flows;

/// Fits the classifier of attacks to the labelled captures, measures it on captures it has not seen, and writes both
#[derive(clap::Parser)]
struct Args {
    /// Folder of the labelled data
    #[arg(long, env = "LEUKO_DATA", value_name = "DIR", default_value = "../shared/data")]
    data: PathBuf,
    /// Folder of the model and its card
    #[arg(long, value_name = "DIR", default_value = "models/trained")]
    out: PathBuf,
}

fn main() -> Result<()> {
    let args = Args::parse();
    eprintln!("replaying the captures in {}", args.data.display());
    let flows = Flows::read(&args.data, MOST_FLOWS)?;
    eprintln!("fitting to {} flows, in folds and as a whole", flows.rows.len());
    let trained = attack_classes::train(flows)?;
    let card = card::markdown(&trained);
    std::fs::create_dir_all(&args.out).with_context(|| format!("create {}", args.out.display()))?;
    let files = [("attack_classes.leuko", trained.classifier.to_bytes()), ("MODEL_CARD.md", card.clone().into_bytes())];
    for (name, bytes) in files {
        let path = args.out.join(name);
        leuko::atomic::write(&path, &bytes)?;
        eprintln!("wrote {}, {} bytes", path.display(), bytes.len());
    }
    print!("{card}");
    Ok(())
}
