//! Moments as people give them: so long ago, a day, or a time.

use std::str::FromStr;
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use sensor_core::time::Timestamp;

use crate::notify::value::seconds;

/// A moment that may depend on when it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moment {
    /// So long ago.
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

impl FromStr for Moment {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some(span) = span(text) {
            return Ok(Self::Ago(span));
        }
        let midnight = |day: Date| day.to_zoned(TimeZone::UTC).map(|start| start.timestamp());
        let moment = text.parse::<jiff::Timestamp>().or_else(|_| text.parse::<Date>().and_then(midnight));
        let moment = moment.ok().and_then(|moment| u64::try_from(moment.as_second()).ok());
        moment.map(|secs| Self::At(Timestamp::from_secs(secs))).ok_or_else(|| {
            format!("{text:?} is no moment: write 90m, 24h or 7d (ago), 2026-11-20 or 2026-11-20T18:00:00Z (UTC)")
        })
    }
}

/// `90m`, `12h`, `30d`.
#[must_use]
pub fn span(text: &str) -> Option<Duration> {
    let days = text.strip_suffix('d').and_then(|days| days.trim().parse::<f64>().ok()).map(|days| days * 86_400.0);
    let seconds = days.or_else(|| seconds(text)).filter(|seconds| *seconds > 0.0);
    seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_read_as_people_write_them() {
        let now = Timestamp::from_secs(1_750_000_000);
        for (text, secs) in [
            ("90m", 1_750_000_000 - 5400),
            ("7d", 1_750_000_000 - 7 * 86_400),
            ("2025-06-15", 1_749_945_600),
            ("2025-06-15T01:00:00+01:00", 1_749_945_600),
        ] {
            assert_eq!(text.parse::<Moment>().unwrap().at(now), Timestamp::from_secs(secs), "{text}");
        }
        for text in ["", "yesterday", "-1h", "0s", "2025-13-01", "1e400d"] {
            assert!(text.parse::<Moment>().is_err(), "{text}");
        }
    }
}
