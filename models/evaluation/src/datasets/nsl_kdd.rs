//! NSL-KDD: connections of 1998, a sanity check and no more.
//!
//! Source: Tavallaee, Bagheri, Lu, Ghorbani, "A detailed analysis of the KDD CUP 99 data set", CISDA 2009; the 20 % training
//! file. Families as in its Table 1: denial of service, probing, remote to local, user to root.

use super::{Family, Source};
use crate::columns::ColumnSet;

/// The data set.
pub const SOURCE: Source = Source {
    key: "nsl_kdd",
    name: "NSL-KDD (20 %)",
    about: "Connections of 1998: whoever fails here has a bug, whoever shines here has shown nothing.",
    file: "flows/nslkdd/KDDTrainplus_20Percent.csv.zst",
    label: "label",
    families: &[
        Family {
            name: "dos",
            labels: &[
                "neptune",
                "smurf",
                "back",
                "teardrop",
                "pod",
                "land",
                "apache2",
                "udpstorm",
                "processtable",
                "mailbomb",
            ],
        },
        Family { name: "probe", labels: &["ipsweep", "satan", "portsweep", "nmap", "mscan", "saint"] },
        Family {
            name: "r2l",
            labels: &[
                "warezclient",
                "guess_passwd",
                "warezmaster",
                "imap",
                "multihop",
                "phf",
                "ftp_write",
                "spy",
                "snmpgetattack",
                "snmpguess",
                "httptunnel",
                "named",
                "sendmail",
                "xlock",
                "xsnoop",
                "worm",
            ],
        },
        Family {
            name: "u2r",
            labels: &["buffer_overflow", "rootkit", "loadmodule", "perl", "ps", "xterm", "sqlattack"],
        },
    ],
    normal: "normal",
    identity: COUNTERS,
    sets: &[
        ColumnSet { name: "all + protocol", numbers: &[COUNTERS, MORE], words: PROTOCOL, leaks: false },
        ColumnSet { name: "all", numbers: &[COUNTERS, MORE], words: &[], leaks: false },
        ColumnSet { name: "counters", numbers: &[COUNTERS], words: &[], leaks: false },
    ],
    prevalence: None,
};

/// Duration, octets, and what windows over flows give: the last two seconds, the last 100 connections to the host.
const COUNTERS: &[&str] = &[
    "duration",
    "src_bytes",
    "dst_bytes",
    "count",
    "srv_count",
    "serror_rate",
    "srv_serror_rate",
    "rerror_rate",
    "srv_rerror_rate",
    "same_srv_rate",
    "diff_srv_rate",
    "srv_diff_host_rate",
    "dst_host_count",
    "dst_host_srv_count",
    "dst_host_same_srv_rate",
    "dst_host_diff_srv_rate",
    "dst_host_same_src_port_rate",
    "dst_host_srv_diff_host_rate",
    "dst_host_serror_rate",
    "dst_host_srv_serror_rate",
    "dst_host_rerror_rate",
    "dst_host_srv_rerror_rate",
];

/// What only the payload or the host's log files tell.
const MORE: &[&str] = &[
    "wrong_fragment",
    "urgent",
    "hot",
    "num_failed_logins",
    "logged_in",
    "num_compromised",
    "root_shell",
    "su_attempted",
    "num_root",
    "num_file_creations",
    "num_shells",
    "num_access_files",
    "num_outbound_cmds",
    "is_host_login",
    "is_guest_login",
];

const PROTOCOL: &[&str] = &["protocol_type", "service", "flag"];
