//! What people write to the bot.

use crate::notify::text::{clip, plain};

/// Longest reason of a mute, in characters.
const REASON_LIMIT: usize = 150;
/// Shortest and longest mute, in seconds.
const SPANS: std::ops::RangeInclusive<u64> = 60..=52 * 7 * 86_400;
/// Incidents that are listed when nobody says how many.
const SOME: u32 = 10;
/// Incidents that are listed at most.
const MANY: u32 = 50;

/// A command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// What can be asked.
    Help,
    /// How the sensor fares.
    Status,
    /// Who attacks and who is attacked.
    Top,
    /// The latest so many incidents.
    Incidents(u32),
    /// One incident.
    Incident(String),
    /// Report it no longer.
    Mute {
        /// The incident.
        id: String,
        /// For so many seconds.
        seconds: u64,
        /// Why; may be empty.
        reason: String,
    },
    /// What is muted.
    Mutes,
    /// Report it again.
    Unmute(String),
    /// Something that this bot cannot do yet.
    Response,
    /// A command of ours, used wrongly.
    Misused(Usage),
    /// None of ours.
    Unknown,
}

/// Commands that need words after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    Incident,
    Mute,
    Unmute,
}

impl Command {
    /// What a text asks, if it is a command and not for another bot than `me`. `alone` is whether nobody else can be meant.
    pub fn parse(text: &str, me: Option<&str>, alone: bool) -> Option<Self> {
        let mut words = text.split_whitespace();
        let head = words.next()?.strip_prefix('/')?;
        let (name, bot) = head.split_once('@').map_or((head, None), |(name, bot)| (name, Some(bot)));
        if bot.is_some_and(|bot| me.is_none_or(|me| !me.eq_ignore_ascii_case(bot))) {
            return None;
        }
        let mut word = || words.next().map(str::to_owned);
        let command = match name.to_ascii_lowercase().as_str() {
            "start" | "help" => Self::Help,
            "status" => Self::Status,
            "top" => Self::Top,
            "incidents" => Self::Incidents(word().and_then(|count| count.parse().ok()).unwrap_or(SOME).clamp(1, MANY)),
            "incident" => word().map_or(Self::Misused(Usage::Incident), Self::Incident),
            "mutes" => Self::Mutes,
            "unmute" => word().map_or(Self::Misused(Usage::Unmute), Self::Unmute),
            "mute" => match (word(), word().as_deref().and_then(seconds)) {
                (Some(id), Some(seconds)) => {
                    let reason = clip(plain(&words.collect::<Vec<_>>().join(" ")).trim(), REASON_LIMIT);
                    Self::Mute { id, seconds, reason }
                }
                _ => Self::Misused(Usage::Mute),
            },
            "block" | "unblock" | "blocks" => Self::Response,
            _ => Self::Unknown,
        };
        // In a group, what is nobody's may be another bot's.
        (command != Self::Unknown || alone || bot.is_some()).then_some(command)
    }
}

/// `30m`, `12h`, `1d`, `2w`.
fn seconds(text: &str) -> Option<u64> {
    let (number, unit) = text.split_at(text.len().checked_sub(1).filter(|at| text.is_char_boundary(*at))?);
    let unit = match unit {
        "m" => 60,
        "h" => 3600,
        "d" => 86_400,
        "w" => 7 * 86_400,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit).filter(|seconds| SPANS.contains(seconds))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mute(id: &str, seconds: u64, reason: &str) -> Command {
        Command::Mute { id: id.to_owned(), seconds, reason: reason.to_owned() }
    }

    #[test]
    fn commands_are_what_they_say() {
        for (text, command) in [
            ("/start", Some(Command::Help)),
            ("/HELP@Leuko_bot now", Some(Command::Help)),
            ("/help@other_bot", None),
            ("/status", Some(Command::Status)),
            ("/incidents", Some(Command::Incidents(10))),
            ("/incidents 3", Some(Command::Incidents(3))),
            ("/incidents 0", Some(Command::Incidents(1))),
            ("/incidents 99999999999", Some(Command::Incidents(10))),
            ("/incidents 4000", Some(Command::Incidents(50))),
            ("/incident", Some(Command::Misused(Usage::Incident))),
            ("/incident ab", Some(Command::Incident("ab".to_owned()))),
            ("/mute ab 1h", Some(mute("ab", 3600, ""))),
            ("/mute  ab\n2w our  own\u{202e} scanner", Some(mute("ab", 1_209_600, "our own scanner"))),
            ("/mute ab", Some(Command::Misused(Usage::Mute))),
            ("/mute ab soon", Some(Command::Misused(Usage::Mute))),
            ("/mute ab 0m", Some(Command::Misused(Usage::Mute))),
            ("/mute ab 53w", Some(Command::Misused(Usage::Mute))),
            ("/mute ab 99999999999999999999w", Some(Command::Misused(Usage::Mute))),
            ("/mute ab 5é", Some(Command::Misused(Usage::Mute))),
            ("/unmute x", Some(Command::Unmute("x".to_owned()))),
            ("/block 192.0.2.1", Some(Command::Response)),
            ("/weather", None),
            ("/weather@leuko_bot", Some(Command::Unknown)),
            ("hello /help", None),
            ("", None),
        ] {
            assert_eq!(Command::parse(text, Some("leuko_bot"), false), command, "{text}");
        }
        assert_eq!(Command::parse("/weather", None, true), Some(Command::Unknown));
        assert_eq!(Command::parse("/help@leuko_bot", None, true), None, "nobody has said yet who we are");
    }

    proptest! {
        #[test]
        fn any_text_is_harmless(text in "/?(mute|incident)?.{0,60}") {
            if let Some(Command::Mute { seconds, reason, .. }) = Command::parse(&text, None, true) {
                prop_assert!(SPANS.contains(&seconds) && reason.chars().count() <= REASON_LIMIT);
            }
        }
    }
}
