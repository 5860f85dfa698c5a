//! The self-test: a marked scan in a network namespace of the sensor's own, and how long it takes to become an incident.
//!
//! The packets go over the loopback of that namespace, from one random address of 127.0.0.0/8 to another, so they reach
//! nobody. They pass the same tables, are read at the same ticks, and meet the same test as any scan; the programs are
//! those for TC, since a loopback has no XDP. The engine keeps the packets from learning and from receivers
//! (see [`sensor_core::canary`]). Every probe is refused at once, so the time is that of the sensor alone, without the
//! second after which silence counts as an answer.

mod cage;
mod report;
#[cfg(test)]
mod tests;

use std::sync::mpsc::{Receiver, TryRecvError};
use std::time::Duration;

use anyhow::{Result, anyhow};
use sensor_core::canary::Canary;
use sensor_core::engine::Engine;
use sensor_core::time::Timestamp;

pub use cage::{Cage, Flown};
pub use report::{Outcome, Report, Stages};

/// Probes of a canary where every packet is looked at; a scan is found after half of them.
const PROBES: u16 = 32;
/// With sampling there are more, up to so many.
const MOST_PROBES: u16 = 4096;

/// Canaries, one after the other.
#[derive(Debug)]
pub struct Canaries {
    cage: Cage,
    probes: u16,
    /// When a canary is given up.
    patience: Duration,
    /// The first port of the next. A port comes back only long after its last flow has ended, so every probe is a new
    /// flow whatever port it leaves from.
    port: u16,
    /// CLOCK_MONOTONIC, which is also what the kernel's programs read.
    stopwatch: fn() -> Duration,
    flight: Option<Flight>,
}

/// A canary that is on its way.
#[derive(Debug)]
struct Flight {
    let_go: Duration,
    told: Receiver<Result<Flown>>,
    flown: Option<Flown>,
    read: Option<Duration>,
    incident: Option<Duration>,
}

impl Canaries {
    /// Makes `engine` know the marks of a cage that is watched already.
    #[must_use]
    pub fn new(
        cage: Cage,
        sampling: u32,
        patience: Duration,
        stopwatch: fn() -> Duration,
        engine: &mut Engine,
    ) -> Self {
        let (client, server) = cage.marks();
        engine.set_canary(Canary::new(client.into(), server.into()));
        let sampling = u16::try_from(sampling.max(1)).unwrap_or(u16::MAX);
        let probes = PROBES.saturating_mul(sampling).min(MOST_PROBES);
        Self { cage, probes, patience, port: Cage::FIRST_PORT, stopwatch, flight: None }
    }

    /// Where they fly.
    #[must_use]
    pub const fn cage(&self) -> &Cage {
        &self.cage
    }

    /// Whether one is on its way.
    #[must_use]
    pub const fn is_flying(&self) -> bool {
        self.flight.is_some()
    }

    /// Lets one go after a delay, which has to be random for the result not to depend on when ticks are.
    ///
    /// # Errors
    /// When there is no thread to do it.
    pub fn let_go(&mut self, delay: Duration, now: Timestamp, engine: &mut Engine) -> Result<()> {
        if let Some(canary) = engine.canary_mut() {
            canary.begin(now);
        }
        let ports = self.port..=self.port + (self.probes - 1);
        self.port = ports.end().checked_add(self.probes).map_or(Cage::FIRST_PORT, |_| ports.end() + 1);
        let told = self.cage.scan(ports, delay, self.stopwatch)?;
        let let_go = (self.stopwatch)();
        self.flight = Some(Flight { let_go, told, flown: None, read: None, incident: None });
        Ok(())
    }

    /// Looks after each tick of the engine what became of it; `epoch_ns` is what to add to the stopwatch to get event
    /// time. Tells once.
    pub fn look(&mut self, engine: &mut Engine, epoch_ns: u64) -> Option<Report> {
        let now = (self.stopwatch)();
        let flight = self.flight.as_mut()?;
        // Packets that left before the last look have all been read by now.
        let mut read_all = flight.flown.is_some();
        match flight.told.try_recv() {
            Ok(Ok(flown)) => flight.flown = Some(flown),
            Ok(Err(error)) => return self.ended(Report::failed(&error)),
            Err(TryRecvError::Disconnected) if flight.flown.is_none() => {
                return self.ended(Report::failed(&anyhow!("the thread that sends the packets has died")));
            }
            Err(TryRecvError::Disconnected | TryRecvError::Empty) => {}
        }
        let seen = engine.canary_mut().map(|canary| canary.seen().clone()).unwrap_or_default();
        if seen.flows > 0 && flight.read.is_none() {
            flight.read = Some(now);
        }
        if seen.incident.is_some() && flight.incident.is_none() {
            flight.incident = Some(now);
        }
        read_all |= flight.flown.is_some() && seen.flows >= u64::from(self.probes);
        let late = now.saturating_sub(flight.let_go) >= self.patience;
        if !(late || flight.incident.is_some() && read_all) {
            return None;
        }
        let Some(flown) = flight.flown else {
            return self.ended(Report::failed(&anyhow!("the packets could not be sent in time")));
        };
        let kernel = seen.first_packet.map(|at| Duration::from_nanos(at.nanos().saturating_sub(epoch_ns)));
        let stages = Stages {
            sent: flown.ended.saturating_sub(flown.began),
            kernel: kernel.map(|at| at.saturating_sub(flown.began)),
            read: flight.read.map(|at| at.saturating_sub(flown.began)),
            incident: flight.incident.map(|at| at.saturating_sub(flown.began)),
        };
        let report = Report::of(stages, u32::from(self.probes), &seen);
        self.ended(report)
    }

    fn ended(&mut self, report: Report) -> Option<Report> {
        self.flight = None;
        Some(report)
    }
}

/// Canaries at fixed intervals, for a sensor that runs.
#[derive(Debug)]
pub struct Schedule {
    /// The canaries.
    pub canaries: Canaries,
    every: Duration,
    /// Of the delays; any number.
    state: u64,
    due: Duration,
}

impl Schedule {
    /// The first canary is let go at once.
    #[must_use]
    pub const fn new(canaries: Canaries, every: Duration, seed: u64) -> Self {
        Self { canaries, every, state: seed, due: Duration::ZERO }
    }

    /// Lets one go when it is due, at a random time within `interval`. Says what went wrong, if anything did.
    pub fn before_tick(&mut self, interval: Duration, now: Timestamp, engine: &mut Engine) -> Option<Report> {
        let at = (self.canaries.stopwatch)();
        if self.canaries.is_flying() || at < self.due {
            return None;
        }
        self.due = at + self.every;
        let delay = random_part(&mut self.state, interval);
        self.canaries.let_go(delay, now, engine).err().map(|error| Report::failed(&error))
    }
}

/// A random part of a time.
pub fn random_part(state: &mut u64, of: Duration) -> Duration {
    // SplitMix64 (Steele, Lea, Flood 2014).
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    of.mul_f64((mixed >> 11) as f64 / (1_u64 << 53) as f64)
}
