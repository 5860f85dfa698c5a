//! CIC-IDS2017 with corrected flows and labels.
//!
//! Source: Sharafaldin, Lashkari, Ghorbani, "Toward generating a new intrusion detection dataset", ICISSP 2018; corrected
//! by Liu, Engelen, Lynar, Essam, Joosen, "Error prevalence in NIDS datasets", CNS 2022. A sample by label: precision and
//! the mix of attacks mean something only when rows are weighted back to the full data set.

use super::{Family, Source};
use crate::columns::ColumnSet;

/// The data set.
pub const SOURCE: Source = Source {
    key: "cicids2017",
    name: "CIC-IDS2017 (corrected)",
    about: "Flows of a testbed, 2017, sampled by label: a normal row stands for 301 flows, a SYN scan for 31, others for fewer.",
    file: "flows/cicids2017_improved/cicids2017_improved_sample_dev.csv.zst",
    label: "Label",
    families: &[
        Family { name: "DDoS", labels: &["DDoS"] },
        Family { name: "Portscan", labels: &["Portscan"] },
        Family { name: "DoS Hulk", labels: &["DoS Hulk"] },
        Family { name: "DoS GoldenEye", labels: &["DoS GoldenEye"] },
        Family { name: "FTP-Patator", labels: &["FTP-Patator"] },
        Family { name: "DoS Slowloris", labels: &["DoS Slowloris"] },
        Family {
            name: "Web attack",
            labels: &["Web Attack - Brute Force", "Web Attack - XSS", "Web Attack - SQL Injection"],
        },
    ],
    normal: "BENIGN",
    identity: COUNTERS,
    sets: &[
        ColumnSet { name: "all + protocol", numbers: &[COUNTERS, MORE], words: PROTOCOL, leaks: false },
        ColumnSet { name: "all", numbers: &[COUNTERS, MORE], words: &[], leaks: false },
        ColumnSet { name: "counters", numbers: &[COUNTERS], words: &[], leaks: false },
    ],
    prevalence: Some("flows/cicids2017_improved/prevalence_weights.csv"),
};

/// Packets, octets, lengths, inter-arrival times and TCP flags of one flow and of its directions.
const COUNTERS: &[&str] = &[
    "Flow Duration",
    "Total Fwd Packet",
    "Total Bwd packets",
    "Total Length of Fwd Packet",
    "Total Length of Bwd Packet",
    "Fwd Packet Length Max",
    "Fwd Packet Length Min",
    "Fwd Packet Length Mean",
    "Fwd Packet Length Std",
    "Bwd Packet Length Max",
    "Bwd Packet Length Min",
    "Bwd Packet Length Mean",
    "Bwd Packet Length Std",
    "Flow Bytes/s",
    "Flow Packets/s",
    "Fwd Packets/s",
    "Bwd Packets/s",
    "Fwd IAT Mean",
    "Fwd IAT Std",
    "Bwd IAT Mean",
    "Bwd IAT Std",
    "FIN Flag Count",
    "SYN Flag Count",
    "RST Flag Count",
    "PSH Flag Count",
    "ACK Flag Count",
    "Down/Up Ratio",
];

/// Further statistics of lengths and times, header lengths, windows, bulks, subflows, active and idle times.
const MORE: &[&str] = &[
    "Flow IAT Mean",
    "Flow IAT Std",
    "Flow IAT Max",
    "Flow IAT Min",
    "Fwd IAT Total",
    "Fwd IAT Max",
    "Fwd IAT Min",
    "Bwd IAT Total",
    "Bwd IAT Max",
    "Bwd IAT Min",
    "Fwd PSH Flags",
    "Bwd PSH Flags",
    "Fwd URG Flags",
    "Bwd URG Flags",
    "Fwd RST Flags",
    "Bwd RST Flags",
    "Fwd Header Length",
    "Bwd Header Length",
    "Packet Length Min",
    "Packet Length Max",
    "Packet Length Mean",
    "Packet Length Std",
    "Packet Length Variance",
    "URG Flag Count",
    "CWR Flag Count",
    "ECE Flag Count",
    "Average Packet Size",
    "Fwd Segment Size Avg",
    "Bwd Segment Size Avg",
    "Fwd Bytes/Bulk Avg",
    "Fwd Packet/Bulk Avg",
    "Fwd Bulk Rate Avg",
    "Bwd Bytes/Bulk Avg",
    "Bwd Packet/Bulk Avg",
    "Bwd Bulk Rate Avg",
    "Subflow Fwd Packets",
    "Subflow Fwd Bytes",
    "Subflow Bwd Packets",
    "Subflow Bwd Bytes",
    "FWD Init Win Bytes",
    "Bwd Init Win Bytes",
    "Fwd Act Data Pkts",
    "Fwd Seg Size Min",
    "Active Mean",
    "Active Std",
    "Active Max",
    "Active Min",
    "Idle Mean",
    "Idle Std",
    "Idle Max",
    "Idle Min",
    "Total TCP Flow Time",
];

const PROTOCOL: &[&str] = &["Protocol", "ICMP Type", "ICMP Code"];
