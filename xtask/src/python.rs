//! The Python that scikit-learn is measured with: an environment in the target folder, never the system's packages.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::sh;

/// An interpreter with the pinned packages; the environment is made again when the pins change.
pub fn with_scikit_learn() -> Result<PathBuf> {
    let environment = sh::target_dir()?.join("eval-python");
    let pins = sh::workspace().join("models/evaluation/python/requirements.txt");
    let wanted = fs::read_to_string(&pins).context("the list of Python packages cannot be read")?;
    let done = environment.join("installed.txt");
    let interpreter = environment.join("bin/python");
    if fs::read_to_string(&done).is_ok_and(|installed| installed == wanted) {
        return Ok(interpreter);
    }
    sh::run(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment))
        .context("no Python environment could be made")?;
    let mut install = Command::new(&interpreter);
    // What pip says must not get into the report on standard output.
    install.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--only-binary", ":all:"]);
    sh::run(install.arg("--requirement").arg(&pins).stdout(std::io::stderr()))
        .context("scikit-learn could not be installed")?;
    fs::write(&done, wanted).context("the Python environment cannot be written")?;
    Ok(interpreter)
}
