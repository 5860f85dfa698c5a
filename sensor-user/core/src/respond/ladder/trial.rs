//! The trial of a block: does healthy traffic fare worse with it than without?
//!
//! Healthy traffic is what sources that are not blocked, and had completed a connection before the tick, ask of established
//! services, of each five attempts a tick at most: an attacker is not let in for what it asks from forged addresses, and
//! what another of its hosts asks is little among many. The automatic blocks of one tick are on trial from the fifth to the
//! thirtieth second after it. What has happened since, but for the tick in which they were
//! put, is compared with the minute before: either the share of attempts that were served has fallen by more than ten
//! percentage points, or the median of the ticks' median round-trip times has more than doubled and risen by more than 20
//! ms. Twenty attempts are needed on both sides, and of round-trip times three ticks. Where 5 % of the attempts fail at any
//! time, chance alone takes back 4 to 7 of a hundred harmless ticks of blocks at one to five attempts a second; where 1 %
//! fail, at most 3 of a thousand (simulated). The price of that error is an attacker let in for an hour.
//!
//! An attack harms healthy traffic before anything is done about it, and a block that does not end it at once is not to
//! blame. So it must be worse too than in the last ten seconds before, unless there were fewer than twenty attempts in them.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Timestamp;

const BEFORE: Duration = Duration::from_secs(60);
const LATELY: Duration = Duration::from_secs(10);
const JUDGED_FROM: Duration = Duration::from_secs(5);
const JUDGED_UNTIL: Duration = Duration::from_secs(30);
/// Attempts that say something about the share of those served.
const ATTEMPTS: u64 = 20;
/// Ticks with a round-trip time that say something about it.
const TICKS: usize = 3;
/// The fall of the share served, in percentage points.
const FALL: u128 = 10;
/// The rise of the round-trip time, besides its doubling.
const RISE: Duration = Duration::from_millis(20);
/// Ticks remembered, however often they come.
const PAST: usize = 128;
/// Trials at once; what is put when there are as many shares the latest.
const TRIALS: usize = 64;

/// How established services fared since the last tick, for sources that were known before it and are not blocked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Health {
    /// Connections that were attempted.
    pub attempts: u64,
    /// Those of them that were served.
    pub served: u64,
    /// The median round-trip time of their handshakes, where there was one.
    pub rtt: Option<Duration>,
}

#[derive(Debug, Default)]
pub(super) struct Trials {
    past: VecDeque<(Timestamp, Health)>,
    running: VecDeque<Trial>,
}

#[derive(Debug)]
struct Trial {
    /// The first of the blocks.
    serial: u64,
    began: Timestamp,
    /// Whether a tick has ended since.
    ticked: bool,
    minute: Sum,
    lately: Sum,
    after: Sum,
}

#[derive(Clone, Debug, Default)]
struct Sum {
    attempts: u64,
    served: u64,
    rtts: Vec<Duration>,
}

impl Trials {
    /// Puts a block on trial, together with those put since the last tick.
    pub(super) fn begin(&mut self, serial: u64, now: Timestamp) {
        let full = self.running.len() >= TRIALS;
        if self.running.back().is_some_and(|trial| !trial.ticked || full) {
            return;
        }
        let (minute, lately) = (self.past_of(BEFORE, now), self.past_of(LATELY, now));
        self.running.push_back(Trial { serial, began: now, ticked: false, minute, lately, after: Sum::default() });
    }

    /// Takes in a tick. The blocks from the one returned on have done harm.
    pub(super) fn judge(&mut self, health: Health, now: Timestamp) -> Option<u64> {
        for trial in &mut self.running {
            // The tick in which the blocks were put is part before, part after.
            if std::mem::replace(&mut trial.ticked, true) && trial.after.rtts.len() < PAST {
                trial.after.add(&health);
            }
        }
        self.past.push_back((now, health));
        while self.past.len() > PAST || self.past.front().is_some_and(|(at, _)| now.since(*at) > BEFORE) {
            self.past.pop_front();
        }
        let harmful = self.running.iter().position(|trial| trial.is_harmful(now));
        let serial = harmful.map(|first| self.running.drain(first..).map(|trial| trial.serial).next());
        self.running.retain(|trial| now.since(trial.began) < JUDGED_UNTIL);
        serial.flatten()
    }

    pub(super) fn move_back(&mut self, by: Duration) {
        self.past.iter_mut().for_each(|(at, _)| *at = *at - by);
        self.running.iter_mut().for_each(|trial| trial.began = trial.began - by);
    }

    fn past_of(&self, span: Duration, now: Timestamp) -> Sum {
        let mut sum = Sum::default();
        let recent = self.past.iter().filter(|(at, _)| now.since(*at) <= span);
        recent.for_each(|(_, health)| sum.add(health));
        sum
    }
}

impl Trial {
    fn is_harmful(&self, now: Timestamp) -> bool {
        let worse = |before: &Sum| self.after.is_worse_than(before);
        now.since(self.began) >= JUDGED_FROM
            && worse(&self.minute)
            && (self.lately.attempts < ATTEMPTS || worse(&self.lately))
    }
}

impl Sum {
    fn add(&mut self, health: &Health) {
        self.attempts = self.attempts.saturating_add(health.attempts);
        self.served = self.served.saturating_add(health.served.min(health.attempts));
        self.rtts.extend(health.rtt);
    }

    fn is_worse_than(&self, before: &Self) -> bool {
        if self.attempts < ATTEMPTS || before.attempts < ATTEMPTS {
            return false;
        }
        let slower = match (before.median(), self.median()) {
            (Some(before), Some(after)) => after > before.saturating_mul(2) && after > before.saturating_add(RISE),
            _ => false,
        };
        let [served, attempts, served_before, attempts_before] =
            [self.served, self.attempts, before.served, before.attempts].map(u128::from);
        // The shares by both numbers of attempts, to compare whole numbers.
        let fall = (served_before * attempts).saturating_sub(served * attempts_before);
        slower || 100 * fall > FALL * attempts * attempts_before
    }

    fn median(&self) -> Option<Duration> {
        let mut rtts = self.rtts.clone();
        rtts.sort_unstable();
        rtts.get(rtts.len() / 2).copied().filter(|_| rtts.len() >= TICKS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn health(attempts: u64, served: u64, rtt_ms: u64) -> Health {
        Health { attempts, served, rtt: (rtt_ms > 0).then(|| Duration::from_millis(rtt_ms)) }
    }

    /// In which second after a block it is taken back: a tick a second, as it was before, lately, and is after.
    fn taken_back(before: Health, lately: Health, after: Health) -> Option<u64> {
        let mut trials = Trials::default();
        let at = |second: u64| Timestamp::from_secs(1_000_000 + second);
        for second in 0..120 {
            assert_eq!(trials.judge(if second < 110 { before } else { lately }, at(second)), None);
        }
        trials.begin(7, at(119));
        trials.begin(8, at(119));
        let found = (1..60).find_map(|second| trials.judge(after, at(119 + second)).map(|serial| (serial, second)));
        assert!(found.is_none_or(|(serial, _)| serial == 7), "all of the tick");
        found.map(|(_, second)| second)
    }

    #[test]
    fn a_block_is_taken_back_where_healthy_traffic_fares_worse() {
        let fine = health(10, 10, 8);
        for (name, before, lately, after, expected) in [
            ("nothing changes", fine, fine, fine, None),
            ("fewer are served", fine, fine, health(10, 8, 8), Some(5)),
            ("a tenth fewer", fine, fine, health(10, 9, 8), None),
            ("far slower", fine, fine, health(10, 10, 29), Some(5)),
            ("twice as slow, of little", fine, fine, health(10, 10, 28), None),
            ("slower by much, of more", health(10, 10, 50), health(10, 10, 50), health(10, 10, 100), None),
            ("few attempts", fine, fine, health(1, 0, 8), Some(21)),
            ("hardly any attempts", health(10, 10, 8), fine, health(0, 0, 80), None),
            ("nothing known of before", health(0, 0, 0), health(0, 0, 0), health(10, 0, 90), None),
            ("an attack did it", fine, health(10, 2, 80), health(10, 2, 80), None),
            ("an attack, and worse", fine, health(10, 8, 8), health(10, 5, 8), Some(5)),
            ("served later than asked", health(10, 14, 8), fine, health(10, 14, 8), None),
        ] {
            assert_eq!(taken_back(before, lately, after), expected, "{name}");
        }
    }

    #[test]
    fn what_comes_later_is_not_blamed() {
        let mut trials = Trials::default();
        let at = |second: u64| Timestamp::from_secs(1_000_000 + second);
        (0..60).for_each(|second| assert_eq!(trials.judge(health(10, 10, 8), at(second)), None));
        trials.begin(1, at(59));
        (60..91).for_each(|second| assert_eq!(trials.judge(health(10, 10, 8), at(second)), None));
        assert!((91..200).all(|second| trials.judge(health(10, 0, 8), at(second)).is_none()));
    }

    #[test]
    fn trials_stay_within_their_bounds() {
        let mut trials = Trials::default();
        for n in 0..10_000 {
            trials.begin(n, Timestamp::from_nanos(n));
            trials.judge(health(10, 10, 8), Timestamp::from_nanos(n));
        }
        assert_eq!((trials.running.len(), trials.past.len()), (TRIALS, PAST));
        assert!(trials.running.iter().all(|trial| trial.after.rtts.len() <= PAST));
    }
}
