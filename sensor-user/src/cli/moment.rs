//! Moments as people give them: so long ago, a day, or a time.

use std::time::Duration;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use sensor_core::time::Timestamp;

use crate::notify::value::seconds;

/// A moment, or so long ago.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// Before now.
    Ago(Duration),
    /// Then.
    At(Timestamp),
}

impl Moment {
    /// The moment, if it is `now`.
    #[must_use]
    pub fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::Ago(span) => now - span,
            Self::At(at) => at,
        }
    }
}

/// A moment from which on something is meant: a date alone is its beginning (UTC).
///
/// # Errors
/// What may be written.
pub fn since(text: &str) -> Result<Moment, String> {
    moment(text, Date::to_zoned)
}

/// A moment until which something is meant: of a date alone, that day included (UTC).
///
/// # Errors
/// What may be written.
pub fn until(text: &str) -> Result<Moment, String> {
    moment(text, |day, zone| day.tomorrow()?.to_zoned(zone)?.checked_sub(Duration::from_micros(1)))
}

/// `90m`, `12h`, `30d`.
#[must_use]
pub fn span(text: &str) -> Option<Duration> {
    let seconds = seconds(text.trim()).filter(|seconds| *seconds > 0.0);
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

/// `of_day` is what a date alone stands for.
fn moment(text: &str, of_day: fn(Date, TimeZone) -> Result<jiff::Zoned, jiff::Error>) -> Result<Moment, String> {
    let text = text.trim();
    if let Some(span) = span(text) {
        return Ok(Moment::Ago(span));
    }
    // A date is read from a date with a time, too.
    let in_utc = || {
        let at = match text.contains(':') {
            true => text.parse::<DateTime>()?.to_zoned(TimeZone::UTC)?,
            false => of_day(text.parse()?, TimeZone::UTC)?,
        };
        Ok::<_, jiff::Error>(at.timestamp())
    };
    let moment = text.parse::<jiff::Timestamp>().or_else(|_| in_utc());
    let nanos = moment.ok().and_then(|moment| u64::try_from(moment.as_nanosecond()).ok());
    let nanos = nanos.ok_or_else(|| {
        "write how long ago, such as 90m, 12h or 30d, or a date such as 2027-06-30 or 2027-06-30T18:00:00Z".to_owned()
    })?;
    Ok(Moment::At(Timestamp::from_nanos(nanos)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_people_write_them() {
        let now = Timestamp::from_secs(1_750_000_000);
        for (text, seconds) in [
            ("90m", 1_750_000_000 - 5400),
            ("7d", 1_750_000_000 - 7 * 86_400),
            ("2025-06-15", 1_749_945_600),
            ("2025-06-15T15:06:40Z", 1_750_000_000),
            ("2025-06-15T17:06:40+02:00", 1_750_000_000),
            ("2025-06-15T15:06:40", 1_750_000_000),
        ] {
            assert_eq!(since(text).map(|moment| moment.at(now)), Ok(Timestamp::from_secs(seconds)), "{text}");
        }
        let end_of_day = Timestamp::from_nanos(1_750_031_999_999_999_000);
        assert_eq!(until("2025-06-15"), Ok(Moment::At(end_of_day)));
        for text in ["", "yesterday", "-1h", "0s", "2025-13-01", "1960-01-01", "1e400d"] {
            assert!(since(text).is_err(), "{text}");
        }
    }
}
