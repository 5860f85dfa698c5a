//! What a score costs, beside scikit-learn on the same rows.

use std::path::PathBuf;

use anyhow::Result;
use sensor_evaluation::speed;

use crate::report::Report;

/// Of scikit-learn's cost, what a score in a batch may cost.
const LIMIT: f64 = 0.2;

/// scikit-learn is run by the interpreter in LEUKO_BENCH_PYTHON.
pub fn measure(report: &mut Report) -> Result<()> {
    let python = std::env::var_os("LEUKO_BENCH_PYTHON").map(PathBuf::from);
    let (ours, theirs) = speed::isolation_forests(python.as_deref())?;
    let single = "score, 100 trees, one vector";
    let batch = "score, 100 trees, a vector of a batch of 10,000";
    let Some(theirs) = theirs else {
        let why = std::env::var("LEUKO_BENCH_NO_PYTHON").unwrap_or_else(|_| "LEUKO_BENCH_PYTHON is not set".to_owned());
        for (what, us) in [(single, ours.single_us), (batch, ours.batch_us)] {
            report.add(what, us * 1e3, "ns");
            report.add_missing(of_scikit_learn(what), "ns").because(&why);
        }
        return Ok(());
    };
    for (what, us, floor_us) in [(single, ours.single_us, theirs.single_us), (batch, ours.batch_us, theirs.batch_us)] {
        report.add(what, us * 1e3, "ns").relative(floor_us * 1e3, "scikit-learn").limit(LIMIT);
        report.add(of_scikit_learn(what), floor_us * 1e3, "ns").relative(us * 1e3, "ours");
    }
    Ok(())
}

fn of_scikit_learn(what: &str) -> String {
    format!("{what}, scikit-learn")
}
