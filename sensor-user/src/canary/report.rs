//! What became of a canary.

use std::time::Duration;

use sensor_core::canary::Sighting;
use serde_json::{Value, json};

/// What became of a canary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It became an incident.
    Found,
    /// It was sent, and did not become an incident in time.
    Missed,
    /// It could not be sent.
    Failed,
}

impl Outcome {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Found, Self::Missed, Self::Failed];

    /// Its name in metrics and JSON.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Missed => "missed",
            Self::Failed => "failed",
        }
    }
}

/// Times since just before the first packet was sent.
#[derive(Clone, Copy, Debug, Default)]
pub struct Stages {
    /// The last packet was sent.
    pub sent: Duration,
    /// The program in the kernel saw the first packet.
    pub kernel: Option<Duration>,
    /// The sensor had read the first flow.
    pub read: Option<Duration>,
    /// There was an incident.
    pub incident: Option<Duration>,
}

/// What became of a canary, and when.
#[derive(Clone, Debug)]
pub struct Report {
    /// What became of it.
    pub outcome: Outcome,
    /// When; zeros when it could not be sent.
    pub stages: Stages,
    /// Probes that were sent.
    pub probes: u32,
    /// Flows of the canary that the sensor has read.
    pub flows: u64,
    /// Why it could not be sent, else the sentence of the incident.
    pub about: String,
}

impl Report {
    pub(super) fn of(stages: Stages, probes: u32, seen: &Sighting) -> Self {
        let outcome = if seen.incident.is_some() { Outcome::Found } else { Outcome::Missed };
        let about = seen.incident.as_ref().map_or_else(String::new, |incident| incident.summary.clone());
        Self { outcome, stages, probes, flows: seen.flows, about }
    }

    pub(super) fn failed(error: &anyhow::Error) -> Self {
        let about = format!("{error:#}");
        Self { outcome: Outcome::Failed, stages: Stages::default(), probes: 0, flows: 0, about }
    }

    /// As JSON, times in seconds.
    #[must_use]
    pub fn json(&self) -> Value {
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        json!({
            "type": "canary",
            "result": self.outcome.as_str(),
            "probes": self.probes,
            "flows": self.flows,
            "sent_s": self.stages.sent.as_secs_f64(),
            "kernel_s": seconds(self.stages.kernel),
            "read_s": seconds(self.stages.read),
            "incident_s": seconds(self.stages.incident),
            "about": self.about,
        })
    }

    /// One line for people.
    #[must_use]
    pub fn line(&self) -> String {
        let time = |time: Option<Duration>| time.map_or_else(|| "never".to_owned(), |time| format!("after {time:.1?}"));
        match self.outcome {
            Outcome::Failed => format!("failed: {}", self.about),
            Outcome::Found | Outcome::Missed => format!(
                "{}: {} probes sent in {:.1?}, first seen in the kernel {}, read {} ({} flows), incident {}",
                self.outcome.as_str(),
                self.probes,
                self.stages.sent,
                time(self.stages.kernel),
                time(self.stages.read),
                self.flows,
                time(self.stages.incident),
            ),
        }
    }
}
