//! Where the labelled data is.

use std::path::PathBuf;

/// The folder of labelled data, or nothing (with the reason printed) where it is not at hand.
pub fn data() -> Option<PathBuf> {
    let default = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/data"));
    let data = std::env::var_os("LEUKO_DATA").map_or_else(default, PathBuf::from);
    if data.join("labels/flow_labels.csv.gz").is_file() {
        return Some(data);
    }
    assert!(std::env::var_os("CI").is_none(), "no labelled data in {}; set LEUKO_DATA", data.display());
    eprintln!("skipped: no labelled data in {}; set LEUKO_DATA", data.display());
    None
}
