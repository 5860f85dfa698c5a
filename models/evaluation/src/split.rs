//! Which rows fit, which calibrate and which are measured: a fixed rule on the content of a row, without a seed.
//!
//! Rows with the same values in the *identity* columns, which are the columns of the smallest set, form a group. The
//! identity columns are in every other set, too, so rows that are equal in any set are in one group. The group's hash
//! decides for all of its rows:
//!
//! | hash mod 10 | part | used for |
//! |---|---|---|
//! | 0 to 3 | fit | normal rows: one-class models; normal rows and attacks: classifiers |
//! | 4 | calibration | normal rows: thresholds; attacks: nothing |
//! | 5 to 9 | validation | measured, used for nothing else |
//!
//! So no row that is measured, nor a copy of it, was seen in fitting or calibration. The hash is 64-bit FNV-1a over the
//! bits of the `f32` values, finished as in SplitMix64 (Steele, Lea, Flood 2014).

use crate::datasets::Dataset;

/// What a row is used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Models are fitted to it.
    Fit,
    /// Thresholds are chosen on it.
    Calibration,
    /// Measures are taken on it.
    Validation,
}

/// The part and the group of each row.
#[derive(Clone, Debug)]
pub struct Split {
    /// Part of each row.
    pub part: Vec<Part>,
    /// Hash that rows of one group share.
    pub group: Vec<u64>,
}

impl Split {
    /// The split of `data`.
    #[must_use]
    pub fn of(data: &Dataset) -> Self {
        let identity: Vec<&[f32]> = data.source.identity.iter().map(|name| data.number(name)).collect();
        let group: Vec<u64> = (0..data.len()).map(|row| hash(identity.iter().map(|column| column[row]))).collect();
        Self { part: group.iter().map(|group| Part::of(*group)).collect(), group }
    }

    /// The rows of `part` that `wanted` accepts, in order.
    #[must_use]
    pub fn rows(&self, part: Part, wanted: impl Fn(usize) -> bool) -> Vec<usize> {
        (0..self.part.len()).filter(|row| self.part[*row] == part && wanted(*row)).collect()
    }
}

impl Part {
    fn of(group: u64) -> Self {
        match group % 10 {
            0..=3 => Self::Fit,
            4 => Self::Calibration,
            _ => Self::Validation,
        }
    }
}

/// Of the values of a row. Zero has one hash, whatever its sign.
fn hash(values: impl Iterator<Item = f32>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in values.flat_map(|value| (value + 0.0).to_bits().to_le_bytes()) {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    hash ^ (hash >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datasets::SOURCES;

    #[test]
    fn a_row_stays_where_it_is_for_ever() {
        assert_eq!(hash([].into_iter()), 0xf52a_15e9_a9b5_e89b);
        assert_eq!(hash([0.0].into_iter()), hash([-0.0].into_iter()));
        assert_ne!(hash([0.0, 1.0].into_iter()), hash([1.0, 0.0].into_iter()));
    }

    #[test]
    fn copies_are_never_on_two_sides() {
        let mut data = Dataset::empty(&SOURCES[0]);
        for copy in 0..3 {
            for value in 0..500_u16 {
                data.push_test_row(&["tcp"], f32::from(value), copy % 2);
            }
        }
        let split = Split::of(&data);
        assert_eq!(split.part[..500], split.part[500..1000]);
        assert_eq!(split.part[..500], split.part[1000..]);
        for (part, about) in [(Part::Fit, 600), (Part::Calibration, 150), (Part::Validation, 750)] {
            let rows = split.rows(part, |_| true).len();
            assert!(rows.abs_diff(about) < 100, "{rows} rows in {part:?}");
        }
    }

    #[test]
    fn rows_that_are_equal_in_any_set_are_in_one_group() {
        for source in SOURCES {
            for set in source.sets {
                let inside = |name: &&str| set.number_names().any(|other| other == *name);
                assert!(source.identity.iter().all(inside), "{}, {}", source.name, set.name);
            }
        }
    }
}
