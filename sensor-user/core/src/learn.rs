//! The life of the baseline: what is learned, when a new one is fitted, and whether it takes over.
//!
//! Rows wait before they are learned: what belongs to an incident that opens meanwhile never is. Then one in eight is an
//! examination row, to which nothing is ever fitted, and the others are a sample in which recent traffic counts more, in
//! two speeds: the habits of days and the last minutes. A baseline is fitted at fixed points of event time, and sooner
//! when the p-values have drifted. It serves from then on only if the examination rows speak for it
//! ([`sensor_models::challenge`]).
//!
//! Fitting takes a second or more, so it is a [`FitJob`] that the driver runs where it likes, on another thread or at once.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use ndarray::{Array2, ArrayView2, Axis, concatenate};
use sensor_ebpf::abi::Addr;
use sensor_models::challenge::Decision;
use sensor_models::{
    Baseline, BaselineParams, ChallengeParams, Contender, Drift, DriftParams, Evidence, FeedbackParams, FeedbackSet,
    Mark, Reservoir, ReservoirParams,
};

use crate::time::Timestamp;

/// When and from what a baseline is fitted.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LearnParams {
    /// Event time of learning before the first baseline; also the step of the retries while rows are few. Zero: nothing
    /// is learned, and only a saved baseline speaks.
    pub warmup: Duration,
    /// Event time between fits.
    pub refit: Duration,
    /// Event time between a drift and the fit that it causes: what is new must have waited and been learned first.
    pub settle: Duration,
    /// How long a row waits for an incident to open; not before the first baseline.
    pub quarantine: Duration,
    /// Rows that wait at most; later ones are not learned.
    pub waiting: usize,
    /// Rows needed for a first baseline.
    pub min_rows: u64,
    /// Rows of the habits of days, and of the last minutes; a quarter as many examine.
    pub rows: [usize; 2],
    /// Event time in which the weight of a row halves, of each.
    pub half_lives: [Duration; 2],
    /// P-value at which baselines are compared.
    pub alert_level: f64,
    /// The only source of randomness.
    pub seed: u64,
}

impl Default for LearnParams {
    fn default() -> Self {
        Self {
            warmup: Duration::from_secs(60),
            refit: Duration::from_secs(600),
            settle: Duration::from_secs(180),
            quarantine: Duration::from_secs(60),
            waiting: 16_384,
            min_rows: 500,
            rows: [6144, 2048],
            half_lives: [Duration::from_secs(86_400), Duration::from_secs(600)],
            alert_level: 0.01,
            seed: 1,
        }
    }
}

/// Of every so many rows one examines, and two are of the last minutes.
const ROUND: u64 = 8;

/// Keeps the baseline and everything the next one is made of.
#[derive(Debug)]
pub struct Learner {
    schema: Schema,
    params: LearnParams,
    baseline: Option<Arc<Baseline>>,
    waiting: VecDeque<Waiting>,
    days: Reservoir,
    minutes: Reservoir,
    examination: Reservoir,
    learned: u64,
    lost: u64,
    drift: Drift,
    drifts: u64,
    feedback: FeedbackSet,
    next_fit: Option<Timestamp>,
    job: Option<FitJob>,
    /// A job was taken and has not come back.
    running: bool,
    latest: Option<Decision>,
}

/// Names of the columns of a row: what is learned.
pub type Schema = &'static [&'static str];

#[derive(Clone, Debug)]
struct Waiting {
    at: Timestamp,
    ends: [Addr; 2],
    row: Box<[f32]>,
}

/// A baseline to be fitted: needs nothing but processor time.
#[derive(Debug)]
pub struct FitJob {
    rows: Array2<f32>,
    examination: Array2<f32>,
    feedback: FeedbackSet,
    champion: Option<Arc<Baseline>>,
    at: Timestamp,
    schema: Schema,
    params: LearnParams,
}

/// What became of a [`FitJob`].
#[derive(Debug)]
pub struct Fitted {
    schema: Schema,
    /// The new baseline, if it is to serve.
    serves: Option<Arc<Baseline>>,
    decision: Option<Decision>,
}

impl Learner {
    /// Learns rows of a schema from now on; `baseline` is what was learned at an earlier run.
    #[must_use]
    pub fn new(schema: Schema, params: LearnParams, baseline: Option<Baseline>) -> Self {
        let examination = params.rows.iter().sum::<usize>() / 4;
        let [days, minutes] = [0, 1].map(|which| (params.rows[which], params.half_lives[which], params.seed));
        Self {
            schema,
            params,
            baseline: baseline.map(Arc::new),
            waiting: VecDeque::new(),
            days: reservoir(schema, days),
            minutes: reservoir(schema, minutes),
            examination: reservoir(schema, (examination, params.half_lives[1], params.seed)),
            learned: 0,
            lost: 0,
            drift: DriftParams::new().check().expect("the usual values are in range"),
            drifts: 0,
            feedback: FeedbackSet::new(FeedbackParams::new().check().expect("the usual values are in range")),
            next_fit: None,
            job: None,
            running: false,
            latest: None,
        }
    }

    /// What is learned.
    #[must_use]
    pub const fn schema(&self) -> Schema {
        self.schema
    }

    /// What is normal, once it is known.
    #[must_use]
    pub fn baseline(&self) -> Option<&Baseline> {
        self.baseline.as_deref()
    }

    /// Time until the first baseline can be there; nothing once there is one.
    #[must_use]
    pub fn warmup_left(&self, now: Timestamp) -> Option<Duration> {
        match (&self.baseline, self.next_fit) {
            (Some(_), _) => None,
            (None, _) if self.params.warmup.is_zero() => None,
            (None, Some(at)) => Some(at.since(now)),
            (None, None) => Some(self.params.warmup),
        }
    }

    /// P-value of a row, or what the user said of rows like it: a false positive is ordinary, a confirmed attack is as rare
    /// as can be. Nothing while nothing is known.
    #[must_use]
    pub fn p_value(&self, row: &[f32], score: f64) -> Option<f64> {
        let baseline = self.baseline()?;
        let calibration = baseline.calibration();
        Some(match self.feedback.width().and_then(|_| self.feedback.known(baseline.scaler(), row)) {
            None => calibration.p_value(score),
            Some(Mark::Normal) => 1.0,
            Some(Mark::Attack) => calibration.p_value(f64::INFINITY),
        })
    }

    /// Takes in a row of traffic that belongs to no incident, between `ends`, with its p-value if there is a baseline.
    pub fn observe(&mut self, row: &[f32], ends: [Addr; 2], at: Timestamp, p_value: Option<f64>) {
        if self.params.warmup.is_zero() {
            return;
        }
        if p_value.is_some_and(|p_value| self.drift.observe(p_value)) {
            self.drifts += 1;
            let soon = at + self.params.settle;
            self.next_fit = self.next_fit.map(|due| due.min(soon));
        }
        if self.waiting.len() < self.params.waiting {
            self.waiting.push_back(Waiting { at, ends, row: row.into() });
        } else {
            self.lost += 1;
        }
    }

    /// Takes in the user's word about a row: it counts at once, and in the next fit.
    ///
    /// # Errors
    /// A row with a value that is not finite.
    pub fn mark(&mut self, mark: Mark, row: &[f32]) -> Result<(), sensor_models::FeedbackError> {
        self.feedback.mark(mark, row)
    }

    /// Learns what has waited long enough, but not what belongs to an incident, and prepares a fit when one is due.
    pub fn tick(&mut self, now: Timestamp, involved: impl Fn(Addr) -> bool) {
        if self.params.warmup.is_zero() {
            return;
        }
        let wait = if self.baseline.is_some() { self.params.quarantine } else { Duration::ZERO };
        while let Some(row) = self.waiting.pop_front_if(|row| now.since(row.at) >= wait) {
            if !row.ends.into_iter().any(&involved) {
                self.learn(&row);
            }
        }
        self.fit_when_due(now);
    }

    /// The fit that is due, to be [run](FitJob::run) and [installed](Self::install).
    pub fn take_job(&mut self) -> Option<FitJob> {
        let job = self.job.take();
        self.running |= job.is_some();
        job
    }

    /// Takes in what became of a job. The decision, if there was a baseline to compare with.
    pub fn install(&mut self, fitted: Fitted) {
        self.running = false;
        self.latest = fitted.decision;
        if fitted.serves.is_some() {
            self.baseline = fitted.serves;
            self.drift = DriftParams::new().check().expect("the usual values are in range");
        }
    }

    /// Why the latest fit took over or did not; nothing while there was only one.
    #[must_use]
    pub const fn latest_decision(&self) -> Option<&Decision> {
        self.latest.as_ref()
    }

    /// Rows that were not learned because too many were waiting.
    #[must_use]
    pub const fn lost(&self) -> u64 {
        self.lost
    }

    /// Times so far that the p-values had drifted.
    #[must_use]
    pub const fn drifts(&self) -> u64 {
        self.drifts
    }

    fn learn(&mut self, waited: &Waiting) {
        let at = waited.at.epoch_seconds();
        let sample = match self.learned % ROUND {
            0 => &mut self.examination,
            1 | 2 => &mut self.minutes,
            _ => &mut self.days,
        };
        sample.offer(&waited.row, at);
        self.learned += 1;
    }

    fn fit_when_due(&mut self, now: Timestamp) {
        let due = *self.next_fit.get_or_insert(now + self.params.warmup);
        if now < due || self.running {
            return;
        }
        if self.learned >= self.params.min_rows {
            self.job = Some(self.prepare(now));
        }
        let step = if self.baseline.is_some() || self.job.is_some() { self.params.refit } else { self.params.warmup };
        let mut next = due;
        while next <= now {
            next = next + step;
        }
        self.next_fit = Some(next);
    }

    fn prepare(&self, at: Timestamp) -> FitJob {
        let rows = concatenate(Axis(0), &[self.days.rows(), self.minutes.rows()]);
        FitJob {
            rows: rows.expect("both samples have the same columns"),
            examination: self.examination.rows().to_owned(),
            feedback: self.feedback.clone(),
            champion: self.baseline.clone(),
            at,
            schema: self.schema,
            params: self.params,
        }
    }
}

impl FitJob {
    /// Fits a baseline and decides whether it is to serve. Rows that cannot be fitted leave the one there is in place.
    #[must_use]
    pub fn run(&self) -> Fitted {
        let params = BaselineParams::new().seed(self.params.seed).check().expect("the usual values are in range");
        let Ok(new) = params.fit_marked(self.schema, self.rows.view(), self.at.secs(), &self.feedback) else {
            return Fitted { schema: self.schema, serves: None, decision: None };
        };
        let decision = self.champion.as_deref().and_then(|champion| self.decide(champion, &new));
        let serves = decision.is_none_or(|decision| decision.reason.promotes());
        Fitted { schema: self.schema, serves: serves.then(|| Arc::new(new)), decision }
    }

    fn decide(&self, champion: &Baseline, challenger: &Baseline) -> Option<Decision> {
        let attacks: Vec<f32> = self.feedback.rows(Mark::Attack).flatten().copied().collect();
        let evidence = Evidence {
            normal: self.examination.view(),
            attacks: ArrayView2::from_shape((attacks.len() / self.schema.len(), self.schema.len()), &attacks).ok()?,
        };
        let (old, new) = (|row: &[f32]| champion.p_value(row), |row: &[f32]| challenger.p_value(row));
        let old = Contender { p_value: &old, calibration: champion.calibration().len() };
        let new = Contender { p_value: &new, calibration: challenger.calibration().len() };
        let params = ChallengeParams::new().alert_level(self.params.alert_level).check();
        Some(params.expect("the alert level is a small p-value").decide(old, new, &evidence))
    }
}

impl Fitted {
    /// What was learned.
    #[must_use]
    pub const fn schema(&self) -> Schema {
        self.schema
    }

    /// Why it is to serve, or not; nothing if there was no baseline before.
    #[must_use]
    pub const fn decision(&self) -> Option<&Decision> {
        self.decision.as_ref()
    }
}

fn reservoir(schema: Schema, (rows, half_life, seed): (usize, Duration, u64)) -> Reservoir {
    let params = ReservoirParams::new(schema.len()).capacity(rows).half_life(half_life.as_secs_f64()).seed(seed);
    Reservoir::new(params.check().expect("the sizes of a learner are in range"))
}

#[cfg(test)]
mod tests;
