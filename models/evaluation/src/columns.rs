//! Which columns a model sees, and which none may ever see.

use ndarray::Array2;

use crate::datasets::Dataset;

/// Columns that models are fitted to, as groups of names, so that sets share them.
#[derive(Clone, Copy, Debug)]
pub struct ColumnSet {
    /// Name in the card.
    pub name: &'static str,
    /// Numbers, taken as they are.
    pub numbers: &'static [&'static [&'static str]],
    /// Words, each turned into one 0/1 column for every value that occurs in the rows models are fitted to.
    pub words: &'static [&'static str],
    /// Shown for what it leaks, never to be used.
    pub leaks: bool,
}

/// What says where and when a row was recorded instead of what happened: addresses, ports, identifiers (TCP sequence
/// numbers begin at random), times of day, TTL (in UNSW-NB15 attackers and clients sit behind different numbers of
/// hops), whether addresses and ports are equal, the difficulty NSL-KDD notes, and labels.
pub const FORBIDDEN: [&str; 26] = [
    "id",
    "srcip",
    "sport",
    "dstip",
    "dsport",
    "stime",
    "ltime",
    "stcpb",
    "dtcpb",
    "sttl",
    "dttl",
    "ct_state_ttl",
    "is_sm_ips_ports",
    "attack_cat",
    "label",
    "Flow ID",
    "Src IP",
    "Src Port",
    "Dst IP",
    "Dst Port",
    "Timestamp",
    "Label",
    "Attempted Category",
    "land",
    "difficulty",
    "weak_label_from_attacker_net",
];

impl ColumnSet {
    /// Names of the number columns, in order.
    pub fn number_names(&self) -> impl Iterator<Item = &'static str> {
        self.numbers.iter().flat_map(|group| group.iter().copied())
    }

    /// Rows of this set, one for each row of `data`, and what their columns are called. `fitted` says which rows models
    /// are fitted to: only their words become columns, in alphabetical order.
    ///
    /// # Panics
    /// If `data` does not have a column of the set: sets belong to their data.
    #[must_use]
    pub fn rows(&self, data: &Dataset, fitted: &[bool]) -> (Array2<f32>, Vec<String>) {
        let mut names: Vec<String> = self.number_names().map(ToOwned::to_owned).collect();
        let mut columns: Vec<Vec<f32>> = self.number_names().map(|name| data.number(name).to_vec()).collect();
        for word in self.words {
            let values = data.word(word);
            let mut known: Vec<&String> = values.iter().zip(fitted).filter(|(_, fit)| **fit).map(|(v, _)| v).collect();
            known.sort_unstable();
            known.dedup();
            for value in known {
                names.push(format!("{word}={value}"));
                columns.push(values.iter().map(|other| if other == value { 1.0 } else { 0.0 }).collect());
            }
        }
        (Array2::from_shape_fn((data.len(), columns.len()), |(row, column)| columns[column][row]), names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datasets::{self, Source};

    #[test]
    fn no_set_but_the_one_that_shows_the_leak_has_a_forbidden_column() {
        for Source { name, sets, .. } in datasets::SOURCES {
            for set in sets.iter().filter(|set| !set.leaks) {
                let bad = set.number_names().chain(set.words.iter().copied()).find(|name| FORBIDDEN.contains(name));
                assert_eq!(bad, None, "{name}, {}", set.name);
            }
        }
    }

    #[test]
    fn the_leak_is_a_leak() {
        let leaking: Vec<_> = datasets::SOURCES.iter().flat_map(|source| source.sets).filter(|set| set.leaks).collect();
        assert!(!leaking.is_empty());
        for set in leaking {
            assert!(set.number_names().any(|name| FORBIDDEN.contains(&name)), "{}", set.name);
        }
    }

    #[test]
    fn no_column_is_in_a_set_twice() {
        for set in datasets::SOURCES.iter().flat_map(|source| source.sets) {
            let mut names: Vec<_> = set.number_names().chain(set.words.iter().copied()).collect();
            names.sort_unstable();
            let before = names.len();
            names.dedup();
            assert_eq!(names.len(), before, "{}", set.name);
        }
    }

    #[test]
    fn words_become_columns_only_when_models_can_learn_them() {
        let mut data = Dataset::empty(&datasets::SOURCES[0]);
        data.push_test_row(&["tcp"], 1.0, 0);
        data.push_test_row(&["udp"], 2.0, 0);
        data.push_test_row(&["icmp"], 3.0, 0);
        let set = ColumnSet { name: "test", numbers: &[&["dur"]], words: &["proto"], leaks: false };
        let (rows, names) = set.rows(&data, &[true, false, true]);
        assert_eq!(names, ["dur", "proto=icmp", "proto=tcp"]);
        assert_eq!(rows, ndarray::array![[1.0, 0.0, 1.0], [2.0, 0.0, 0.0], [3.0, 1.0, 0.0]]);
    }
}
