//! What the labels of public data sets and of labelled captures are called here: one table to the classes of incidents.
//!
//! A label without a class of its own is [`ANOMALY`]: an attack of no known class. So is a label nobody has heard of,
//! because data sets name what they think is an attack.
//!
//! ```
//! use sensor_models::labels::{class_of, NORMAL};
//!
//! assert_eq!(class_of("FTP-Patator"), "brute_force");
//! assert_eq!(class_of(" Normal. "), NORMAL);
//! assert_eq!(class_of("Shellcode"), "anomaly");
//! ```

/// What is no attack.
pub const NORMAL: &str = "normal";
/// An attack of no known class.
pub const ANOMALY: &str = "anomaly";

/// Every class a label can stand for, normal first, then the identifiers of incidents.
pub const CLASSES: [&str; 18] = [
    NORMAL,
    "port_scan",
    "host_scan",
    "brute_force",
    "syn_flood",
    "connection_flood",
    "udp_flood",
    "icmp_flood",
    "amplification",
    "slow_dos",
    "beacon",
    "dns_tunnel",
    "icmp_tunnel",
    "exfiltration",
    "arp_spoof",
    "lateral_movement",
    "web_attack",
    ANOMALY,
];

/// The class of a label. Case, and what is neither a letter nor a digit, do not matter; a class is its own label.
#[must_use]
pub fn class_of(label: &str) -> &'static str {
    let label = plain(label);
    let label = label.strip_suffix("attempted").unwrap_or(&label);
    if let Some(class) = CLASSES.into_iter().find(|class| plain(class) == label) {
        return class;
    }
    LABELS.iter().find(|(_, labels)| labels.contains(&label)).map_or(ANOMALY, |(class, _)| class)
}

fn plain(label: &str) -> String {
    label.chars().filter(char::is_ascii_alphanumeric).map(|char| char.to_ascii_lowercase()).collect()
}

/// Labels as [`plain`] leaves them, by class. First those of captures (by folder), then CIC-IDS2017, NSL-KDD, UNSW-NB15.
const LABELS: [(&str, &[&str]); 18] = [
    (NORMAL, &["", "benign", "benignndpi", "benigndns", "background", "0"]),
    (
        "port_scan",
        &[
            "scantcpsyn",
            "scantcpconnect",
            "scantcpstealth",
            "scanudp",
            // CIC-IDS2017
            "portscan",
            "infiltrationportscan",
            // NSL-KDD
            "portsweep",
            "nmap",
            "satan",
            "saint",
            // UNSW-NB15
            "reconnaissance",
        ],
    ),
    ("host_scan", &["scanhosttcp", "scanhosticmp", "scanhostarp", "ipsweep", "mscan"]),
    (
        "brute_force",
        &[
            "bruteforcessh",
            "bruteforceftp",
            "bruteforcetelnet",
            "bruteforcerdp",
            "bruteforcesmb",
            "ftppatator",
            "sshpatator",
            "guesspasswd",
            "snmpguess",
        ],
    ),
    ("syn_flood", &["dossynflood", "ddossynflood", "neptune"]),
    ("connection_flood", &[]),
    ("udp_flood", &["dosudpflood", "ddosudpflood", "udpstorm"]),
    ("icmp_flood", &["dosicmpflood", "ddosicmpflood", "smurf"]),
    (
        "amplification",
        &["ddosampdns", "ddosampsnmp", "ddosampntp", "ddosampssdp", "ddosampmemcached", "ddosampcldap", "ddosamp"],
    ),
    ("slow_dos", &["slowhttp", "dosslowloris", "dosslowhttptest", "dosgoldeneye", "processtable"]),
    ("beacon", &["c2beacon", "c2rat", "malwarec2", "bot", "botnet"]),
    ("dns_tunnel", &["dnsexfiltration"]),
    ("icmp_tunnel", &[]),
    ("exfiltration", &["dataexfiltration"]),
    ("arp_spoof", &["mitmarp", "arpspoofing"]),
    ("lateral_movement", &["lateralc2", "infiltration", "worm", "worms"]),
    (
        "web_attack",
        &["websqli", "webxss", "webattackbruteforce", "webattackxss", "webattacksqlinjection", "sqlattack", "phf"],
    ),
    // Named so that a reader sees they were thought of; what is in no line is of this class, too.
    (
        ANOMALY,
        &[
            "exploitzerologon",
            "cryptomining",
            // CIC-IDS2017: floods of HTTP requests, and a leak of memory.
            "doshulk",
            "ddos",
            "heartbleed",
            // NSL-KDD
            "back",
            "land",
            "pod",
            "teardrop",
            "apache2",
            "mailbomb",
            "warezclient",
            "warezmaster",
            // UNSW-NB15
            "generic",
            "exploits",
            "fuzzers",
            "dos",
            "analysis",
            "backdoor",
            "backdoors",
            "shellcode",
        ],
    ),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn labels_of_every_source_have_their_class() {
        for (label, class) in [
            ("scan_tcp_connect", "port_scan"),
            ("scan_host_icmp", "host_scan"),
            ("dos_syn_flood", "syn_flood"),
            ("c2_beacon", "beacon"),
            ("bruteforce_ssh", "brute_force"),
            ("exploit_zerologon", "anomaly"),
            ("exploit_of_tomorrow", "anomaly"),
            ("mitm_arp", "arp_spoof"),
            ("BENIGN", "normal"),
            ("Portscan", "port_scan"),
            ("DoS Slowloris - Attempted", "slow_dos"),
            ("Web Attack - SQL Injection", "web_attack"),
            ("Web Attack \u{2013} Brute Force", "web_attack"),
            ("neptune", "syn_flood"),
            ("guess_passwd", "brute_force"),
            ("smurf.", "icmp_flood"),
            ("Normal", "normal"),
            (" Reconnaissance ", "port_scan"),
            ("Backdoors", "anomaly"),
            ("", "normal"),
        ] {
            assert_eq!(class_of(label), class, "{label:?}");
        }
    }

    #[test]
    fn case_spaces_and_dashes_do_not_matter() {
        for label in ["SSH-Patator", "ssh patator", " SSH_PATATOR\t"] {
            assert_eq!(class_of(label), "brute_force");
        }
    }

    #[test]
    fn a_class_is_its_own_label() {
        for class in CLASSES {
            assert_eq!(class_of(class), class);
        }
    }

    #[test]
    fn each_label_is_in_the_table_once_as_it_is_looked_up() {
        let mut seen = HashSet::new();
        for (class, labels) in LABELS {
            assert!(CLASSES.contains(&class), "{class}");
            for label in labels {
                assert_eq!(plain(label), *label);
                assert!(seen.insert(*label), "{label} twice");
            }
        }
        assert_eq!(LABELS.map(|(class, _)| class), CLASSES, "in one order");
    }
}
