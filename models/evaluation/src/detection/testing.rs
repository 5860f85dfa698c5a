//! Attacks and incidents made up for tests.

use std::net::IpAddr;

use sensor_core::time::Timestamp;

use super::observe::Seen;
use super::truth::{Attack, Hosts};

pub fn at(seconds: u64) -> Timestamp {
    Timestamp::from_secs(seconds)
}

pub fn addrs(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

pub fn attack(label: &str, attackers: &str, victims: &str, (first, last): (u64, u64)) -> Attack {
    Attack {
        label: label.to_owned(),
        attackers: Hosts::parse(attackers).unwrap(),
        victims: Hosts::parse(victims).unwrap(),
        first: at(first),
        last: Some(at(last)),
        ends: addrs(&["10.0.0.1", "10.0.0.2"]).into_iter().collect(),
        arp_senders: addrs(&["10.0.0.5"]).into_iter().collect(),
    }
}

/// A behaviour of one second, found when it was over.
pub fn seen(class: &str, attackers: &[&str], victims: &[&str], detected_at: u64) -> Seen {
    Seen {
        class: class.to_owned(),
        attackers: addrs(attackers),
        victims: addrs(victims),
        first_seen: at(detected_at - 1),
        detected_at: at(detected_at),
        last_seen: at(detected_at),
        closed_at: at(detected_at + 60),
        evidence: String::new(),
    }
}
