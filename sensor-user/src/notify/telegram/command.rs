//! What people write to the bot.

use std::str::SplitWhitespace;
use std::time::Duration;

use sensor_core::net::Network;

use crate::notify::text::{clip, plain};
use crate::notify::value;

/// Longest reason, in characters.
const REASON_LIMIT: usize = 150;
/// Shortest and longest time, in seconds.
const SPANS: std::ops::RangeInclusive<u64> = 60..=52 * 7 * 86_400;
/// Time of a block when nobody says for how long, in seconds.
pub const HOUR: u64 = 3600;
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
    /// Something that is done once it is confirmed.
    Order(Order),
    /// What is blocked.
    Blocks,
    /// A command of ours, used wrongly.
    Misused(Usage),
    /// None of ours.
    Unknown,
}

/// What somebody wants done about addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Order {
    /// Let none of their packets pass.
    Block {
        /// The addresses.
        network: Network,
        /// For so many seconds, if that was said.
        seconds: Option<u64>,
        /// Why; may be empty.
        reason: String,
    },
    /// Let them pass again.
    Unblock {
        /// The addresses.
        network: Network,
        /// Why; may be empty.
        reason: String,
    },
}

/// Commands that need words after them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    Incident,
    Mute,
    Unmute,
    Block,
    Unblock,
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
                (Some(id), Some(seconds)) => Self::Mute { id, seconds, reason: reason(words) },
                _ => Self::Misused(Usage::Mute),
            },
            "block" => block(words).map_or(Self::Misused(Usage::Block), Self::Order),
            "unblock" => match word().and_then(|word| word.parse().ok()) {
                Some(network) => Self::Order(Order::Unblock { network, reason: reason(words) }),
                None => Self::Misused(Usage::Unblock),
            },
            "blocks" => Self::Blocks,
            _ => Self::Unknown,
        };
        // In a group, what is nobody's may be another bot's.
        (command != Self::Unknown || alone || bot.is_some()).then_some(command)
    }
}

/// An address or a network, perhaps a time, perhaps a reason.
fn block(mut words: SplitWhitespace<'_>) -> Option<Order> {
    let network = words.next()?.parse().ok()?;
    let mut rest = words.clone();
    // What looks like a time is one: a slip must not become a reason.
    let seconds = match rest.next().filter(|word| is_span(word)) {
        Some(word) => {
            words = rest;
            Some(seconds(word)?)
        }
        None => None,
    };
    Some(Order::Block { network, seconds, reason: reason(words) })
}

fn is_span(word: &str) -> bool {
    if value::seconds(word).is_some() {
        return true;
    }
    let number = word.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    word.len() <= number.len() + 1 && !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit())
}

fn reason(words: SplitWhitespace<'_>) -> String {
    clip(plain(&words.collect::<Vec<_>>().join(" ")).trim(), REASON_LIMIT)
}

/// `30m`, `1h30m`, `1d`, `2w`.
fn seconds(text: &str) -> Option<u64> {
    let span = Duration::try_from_secs_f64(value::seconds(text)?).ok()?;
    Some(span.as_secs()).filter(|seconds| SPANS.contains(seconds))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn mute(id: &str, seconds: u64, reason: &str) -> Command {
        Command::Mute { id: id.to_owned(), seconds, reason: reason.to_owned() }
    }

    fn block(network: &str, seconds: u64, reason: &str) -> Command {
        let seconds = (seconds > 0).then_some(seconds);
        Command::Order(Order::Block { network: network.parse().unwrap(), seconds, reason: reason.to_owned() })
    }

    fn unblock(network: &str, reason: &str) -> Command {
        Command::Order(Order::Unblock { network: network.parse().unwrap(), reason: reason.to_owned() })
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
            ("/block 192.0.2.1", Some(block("192.0.2.1", 0, ""))),
            ("/block 192.0.2.0/24 2d  a <b>\n\u{202e}", Some(block("192.0.2.0/24", 172_800, "a <b>"))),
            ("/Block@leuko_bot 2001:db8::/64 3rd time", Some(block("2001:db8::/64", 0, "3rd time"))),
            ("/block 192.0.2.1 1h30m x", Some(block("192.0.2.1", 5400, "x"))),
            ("/block 192.0.2.1 10min", Some(block("192.0.2.1", 600, ""))),
            ("/block 192.0.2.1 10 min", Some(Command::Misused(Usage::Block))),
            ("/block 192.0.2.1 0h", Some(Command::Misused(Usage::Block))),
            ("/block 192.0.2.1 5x", Some(Command::Misused(Usage::Block))),
            ("/block 192.0.2.1/24", Some(Command::Misused(Usage::Block))),
            ("/block example.org 1h", Some(Command::Misused(Usage::Block))),
            ("/block", Some(Command::Misused(Usage::Block))),
            ("/unblock 192.0.2.1 ours now", Some(unblock("192.0.2.1", "ours now"))),
            ("/unblock x", Some(Command::Misused(Usage::Unblock))),
            ("/blocks", Some(Command::Blocks)),
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
        fn any_text_is_harmless(text in "/?(mute|incident|(un)?block ::1)?.{0,60}") {
            let command = Command::parse(&text, None, true);
            let seconds = match &command {
                Some(Command::Mute { seconds, .. }) => Some(seconds),
                Some(Command::Order(Order::Block { seconds, .. })) => seconds.as_ref(),
                _ => None,
            };
            prop_assert!(seconds.is_none_or(|seconds| SPANS.contains(seconds)));
            if let Some(
                Command::Mute { reason, .. }
                | Command::Order(Order::Block { reason, .. } | Order::Unblock { reason, .. }),
            ) = &command
            {
                prop_assert!(reason.chars().count() <= REASON_LIMIT && !reason.chars().any(char::is_control));
            }
        }
    }
}
