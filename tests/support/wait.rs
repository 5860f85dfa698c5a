//! Waits for real processes, always with an end.

use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// A time that will have passed.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// So much time from now.
    pub fn after(time: Duration) -> Self {
        Self(now() + time)
    }

    /// What is left, zero when it has passed.
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(now())
    }

    /// Whether it has passed.
    pub fn passed(self) -> bool {
        self.left().is_zero()
    }
}

/// Asks again and again until there is an answer.
///
/// # Errors
/// When there is none in time; `what` is named in the error.
pub fn until<T>(what: &str, timeout: Duration, mut ask: impl FnMut() -> Option<T>) -> Result<T> {
    let deadline = Deadline::after(timeout);
    loop {
        if let Some(answer) = ask() {
            return Ok(answer);
        }
        if deadline.passed() {
            bail!("waited {timeout:?} in vain for {what}");
        }
        sleep(PAUSE);
    }
}

/// The time between two questions.
pub const PAUSE: Duration = Duration::from_millis(5);

#[expect(clippy::disallowed_methods, reason = "the lab waits for real processes")]
pub fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_ends_the_wait() {
        let mut left = 3;
        let answer = until("zero", Duration::from_secs(5), || {
            left -= 1;
            (left == 0).then_some("zero")
        });
        assert_eq!(answer.unwrap(), "zero");
    }

    #[test]
    fn a_wait_in_vain_names_what_was_waited_for() {
        let error = until("rain", Duration::from_millis(10), || None::<()>).unwrap_err();
        assert!(error.to_string().contains("rain"));
    }
}
