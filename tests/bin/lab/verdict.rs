//! What Leuko made of a scenario.

use std::fmt::Write as _;

use serde_json::{Value, json};

use crate::scenario::{Attackers, Scenario};

/// What Leuko made of a scenario.
pub struct Verdict {
    scenario: Scenario,
    /// When the tool was started, in seconds since the epoch.
    began: f64,
    /// The first incident of the expected class.
    found: Option<Value>,
    /// Every other incident.
    others: Vec<Value>,
}

impl Verdict {
    pub const HEAD: &str = "scenario           found          seconds  first_seen  attacker  victim  others";

    pub fn of(scenario: Scenario, incidents: Vec<Value>, began: f64) -> Self {
        let mut others = incidents;
        let expected = scenario.expected().map(|expected| expected.class);
        let place = others.iter().position(|incident| incident["class"].as_str() == expected);
        Self { scenario, began, found: place.map(|place| others.remove(place)), others }
    }

    pub fn is_right(&self) -> bool {
        let complete = self.scenario.expected().is_none() || self.attacker_right() && self.victim_right();
        complete && self.others.is_empty()
    }

    fn attacker_right(&self) -> bool {
        let (Some(found), Some(expected)) = (&self.found, self.scenario.expected()) else { return false };
        let attackers = addresses(&found["attackers"]);
        match expected.attackers {
            Attackers::These(these) => attackers == these,
            Attackers::Many(prefix) => {
                attackers.len() > 1 && attackers.iter().all(|attacker| attacker.starts_with(prefix))
            }
        }
    }

    fn victim_right(&self) -> bool {
        let (Some(found), Some(expected)) = (&self.found, self.scenario.expected()) else { return false };
        let victims = addresses(&found["victims"]);
        let is_one = |victim: &&str| {
            expected.victims.iter().any(|known| victim == known || known.ends_with('.') && victim.starts_with(known))
        };
        !victims.is_empty() && victims.iter().all(is_one)
    }

    /// Event time from the first packet of the attack to the incident; from the start of the tool when the incident
    /// counts earlier packets in.
    fn seconds(&self) -> Option<f64> {
        let found = self.found.as_ref()?;
        Some(found["detected_at"].as_f64()? - found["first_seen"].as_f64()?.max(self.began))
    }

    /// From the start of the tool to what the incident takes for its first packet: negative when that is too early.
    fn first_seen(&self) -> Option<f64> {
        Some(self.found.as_ref()?["first_seen"].as_f64()? - self.began)
    }

    pub fn row(&self) -> String {
        let found = self.found.as_ref().and_then(|found| found["class"].as_str()).unwrap_or("-");
        let answer = |right: bool| match (self.scenario.expected(), right) {
            (None, _) => "-",
            (Some(_), true) => "right",
            (Some(_), false) => "WRONG",
        };
        let seconds = |time: Option<f64>| time.map_or_else(|| "-".to_owned(), |seconds| format!("{seconds:.3}"));
        let mut row = format!(
            "{:<18} {found:<14} {:>7}  {:>10}  {:<8}  {:<6}  {}",
            self.scenario.name(),
            seconds(self.seconds()),
            seconds(self.first_seen()),
            answer(self.attacker_right()),
            answer(self.victim_right()),
            self.others.len(),
        );
        if !self.is_right() {
            for incident in self.found.iter().chain(&self.others) {
                // Writing to a string cannot fail.
                let _ = write!(row, "\n    {incident}");
            }
        }
        row
    }

    pub fn json(&self) -> Value {
        json!({
            "scenario": self.scenario.name(),
            "expected": self.scenario.expected().map(|expected| expected.class),
            "right": self.is_right(),
            "seconds": self.seconds(),
            "first_seen_after_start": self.first_seen(),
            "attacker_right": self.attacker_right(),
            "victim_right": self.victim_right(),
            "found": self.found,
            "others": self.others,
        })
    }
}

fn addresses(list: &Value) -> Vec<&str> {
    list.as_array().map(|list| list.iter().filter_map(Value::as_str).collect()).unwrap_or_default()
}
