//! Fits of new baselines beside the sensor: scoring goes on with the one there is.

use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use sensor_core::engine::Engine;
use sensor_core::learn::Fitted;
use tracing::{info, warn};

use crate::memory;

/// A thread for each fit; the engine asks for one at a time.
#[derive(Debug)]
pub struct Fitting {
    done: Receiver<Fitted>,
    sender: Sender<Fitted>,
}

impl Default for Fitting {
    fn default() -> Self {
        let (sender, done) = channel();
        Self { done, sender }
    }
}

impl Fitting {
    /// Takes in a fit that is done, and begins one that is due.
    pub fn tick(&self, engine: &mut Engine) {
        for fitted in self.done.try_iter() {
            if let Some(decision) = fitted.decision() {
                let (old, new) = (decision.champion.false_alarms, decision.challenger.false_alarms);
                let takes_over = decision.reason.promotes();
                info!(reason = ?decision.reason, takes_over, rows = decision.rows, old, new, "compared baselines");
            }
            engine.install(fitted);
            memory::return_what_is_free();
        }
        let Some(job) = engine.take_fit() else { return };
        let sender = self.sender.clone();
        // A receiver that is gone means that the sensor has stopped.
        let fit = move || drop(sender.send(job.run()));
        if let Err(error) = thread::Builder::new().name("leuko-fit".to_owned()).spawn(fit) {
            warn!(%error, "cannot fit a new baseline beside the sensor");
        }
    }
}
