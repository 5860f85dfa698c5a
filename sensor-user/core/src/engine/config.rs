//! What the user decides about detection.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use sensor_models::{AlertBudget, Baseline, Classifier};

use crate::detect::DetectorParams;
use crate::flow::Timeouts;
use crate::incident::suppress::Rule;
use crate::incident::{Class, Language};
use crate::net::Network;

/// What the user decides.
#[derive(Clone, Debug)]
pub struct EngineConfig {
    /// Event time of learning before `anomaly` speaks.
    pub warmup: Duration,
    /// When flows end; `None` for not before the input does.
    pub timeouts: Option<Timeouts>,
    /// Classes that are not reported.
    pub disabled: BTreeSet<Class>,
    /// What is not reported, why and until when.
    pub suppressed: Vec<Rule>,
    /// Networks that are ours, besides private ones: what their hosts do is compared with what they did before.
    pub local: Vec<Network>,
    /// Endpoints of the sensor itself and of its receivers: served connections to them are its own traffic.
    pub own_endpoints: BTreeSet<(IpAddr, u16)>,
    /// Parameters of the detectors; the defaults need no tuning.
    pub detectors: DetectorParams,
    /// What was learned of flows at an earlier run.
    pub baseline: Option<Baseline>,
    /// What was learned of hosts at an earlier run.
    pub host_baseline: Option<Baseline>,
    /// Names what is not normal.
    pub classifier: Option<Arc<Classifier>>,
    /// Alerts a day that are acceptable, of those that are a matter of chance.
    pub budget: AlertBudget,
    /// Of the sentences.
    pub language: Language,
    /// Whether ended flows are kept for [`Engine::take_records`](crate::engine::Engine::take_records).
    pub keep_records: bool,
}

impl Default for EngineConfig {
    fn default() -> Self {
        Self {
            warmup: Duration::from_secs(60),
            timeouts: Some(Timeouts::default()),
            disabled: BTreeSet::new(),
            suppressed: Vec::new(),
            local: Vec::new(),
            own_endpoints: BTreeSet::new(),
            detectors: DetectorParams::default(),
            baseline: None,
            host_baseline: None,
            classifier: None,
            budget: AlertBudget::new(10.0).expect("ten is in range"),
            language: Language::default(),
            keep_records: false,
        }
    }
}
