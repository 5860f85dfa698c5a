//! The data sets as they are: sizes, and that the split keeps its promises.

#![expect(clippy::print_stderr, reason = "a skipped test says why")]

use std::collections::HashMap;
use std::path::PathBuf;

use sensor_evaluation::Prepared;
use sensor_evaluation::datasets::{Dataset, SOURCES};
use sensor_evaluation::measures::ROWS_FOR_PER_MILLE;

/// The folder of labelled data, or nothing (with the reason printed) where it is not at hand.
fn data() -> Option<PathBuf> {
    let default = || PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../../../shared/data"));
    let data = std::env::var_os("LEUKO_DATA").map_or_else(default, PathBuf::from);
    if data.join(SOURCES[0].file).is_file() {
        return Some(data);
    }
    assert!(std::env::var_os("CI").is_none(), "no labelled data in {}; set LEUKO_DATA", data.display());
    eprintln!("skipped: no labelled data in {}; set LEUKO_DATA", data.display());
    None
}

#[test]
fn every_data_set_is_read_and_split_about_evenly() {
    let Some(folder) = data() else { return };
    for (source, rows) in SOURCES.iter().zip([48_796, 30_394, 25_192]) {
        let prepared = Prepared::new(Dataset::read(source, &folder).unwrap());
        assert_eq!(prepared.data.len(), rows, "{}", source.name);
        let normal = prepared.validation.iter().filter(|row| prepared.data.family[**row] == 0).count();
        let all = prepared.data.family.iter().filter(|family| **family == 0).count();
        assert!((normal as f64 / all as f64 - 0.5).abs() < 0.05, "{}: {normal} of {all}", source.name);
        assert!(source.key != "unsw_nb15" || normal >= ROWS_FOR_PER_MILLE);
    }
}

#[test]
fn no_row_is_fitted_to_and_measured_in_any_column_set() {
    let Some(folder) = data() else { return };
    for source in SOURCES {
        let prepared = Prepared::new(Dataset::read(&source, &folder).unwrap());
        for set in &prepared.sets {
            let mut parts = HashMap::new();
            for (row, part) in set.rows.rows().into_iter().zip(&prepared.split.part) {
                let row: Vec<u32> = row.iter().map(|value| (value + 0.0).to_bits()).collect();
                let first = *parts.entry(row).or_insert(*part);
                assert_eq!(first, *part, "{}, {}", source.name, set.set.name);
            }
        }
    }
}
