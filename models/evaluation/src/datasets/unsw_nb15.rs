//! UNSW-NB15: flows of a testbed in 2015, nine families of attacks.
//!
//! Source: Moustafa, Slay, "UNSW-NB15: a comprehensive data set for network intrusion detection systems", MilCIS 2015;
//! the official file of 82,332 rows, of which this is the development half.

use leuko::train::Schema;

use super::{Family, Source};
use crate::columns::ColumnSet;

/// The data set.
pub const SOURCE: Source = Source {
    key: "unsw_nb15",
    name: "UNSW-NB15",
    about: "Flows of a testbed, 2015. Many attacks are copies of a few vectors, some equal to normal rows.",
    file: "flows/unsw_nb15/unsw_nb15_82332_dev.csv.zst",
    label: "attack_cat",
    families: &[
        Family { name: "Generic", labels: &["Generic"] },
        Family { name: "Exploits", labels: &["Exploits"] },
        Family { name: "Fuzzers", labels: &["Fuzzers"] },
        Family { name: "DoS", labels: &["DoS"] },
        Family { name: "Reconnaissance", labels: &["Reconnaissance"] },
        Family { name: "Analysis", labels: &["Analysis"] },
        Family { name: "Backdoor", labels: &["Backdoor"] },
        Family { name: "Shellcode", labels: &["Shellcode"] },
        Family { name: "Worms", labels: &["Worms"] },
    ],
    normal: "Normal",
    identity: COUNTERS,
    sets: &[
        ColumnSet { name: "all + protocol", numbers: &[COUNTERS, MORE], words: PROTOCOL, leaks: false },
        ColumnSet { name: "all", numbers: &[COUNTERS, MORE], words: &[], leaks: false },
        ColumnSet { name: "counters", numbers: &[COUNTERS], words: &[], leaks: false },
        ColumnSet { name: "all + TTL", numbers: &[COUNTERS, MORE, TTL], words: &[], leaks: true },
    ],
    prevalence: None,
};

/// What `leuko train` takes of these tables: the counters first, then the rest.
const COLUMNS: (&[&str], &[&str]) = Schema::UnswNb15.columns().split_at(17);

/// Packets, octets, rates, inter-arrival times, jitter and handshake times of one flow.
const COUNTERS: &[&str] = COLUMNS.0;

/// Losses, windows, application fields, and counts over the last 100 flows.
const MORE: &[&str] = COLUMNS.1;

const PROTOCOL: &[&str] = &["proto", "service", "state"];

const TTL: &[&str] = &["sttl", "dttl", "ct_state_ttl"];
