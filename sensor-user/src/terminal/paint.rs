//! Colours by meaning, and only where they are welcome.

use std::io::IsTerminal;

use sensor_core::incident::Severity;

/// What a piece of text means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tone {
    /// Nothing in particular.
    Plain,
    /// Bold.
    Strong,
    /// What may be skipped.
    Faint,
    /// All is well.
    Good,
    /// Worth a look.
    Notice,
    /// Bad.
    Bad,
    /// As bad as it gets.
    Alarm,
}

impl Tone {
    /// How a severity looks.
    #[must_use]
    pub const fn of(severity: Severity) -> Self {
        match severity {
            Severity::Low => Self::Plain,
            Severity::Medium => Self::Notice,
            Severity::High => Self::Bad,
            Severity::Critical => Self::Alarm,
        }
    }

    const fn code(self) -> &'static str {
        match self {
            Self::Plain => "",
            Self::Strong => "1",
            Self::Faint => "2",
            Self::Good => "32",
            Self::Notice => "33",
            Self::Bad => "1;31",
            Self::Alarm => "1;37;41",
        }
    }
}

/// Paints, or leaves text as it is.
#[derive(Clone, Copy, Debug)]
pub struct Painter {
    colour: bool,
}

impl Painter {
    /// With or without colour.
    #[must_use]
    pub const fn new(colour: bool) -> Self {
        Self { colour }
    }

    /// `text`, which must be free of control characters, in the colour of its meaning.
    #[must_use]
    pub fn paint(self, tone: Tone, text: &str) -> String {
        if !self.colour || tone == Tone::Plain {
            return text.to_owned();
        }
        format!("\x1b[{}m{text}\x1b[0m", tone.code())
    }
}

/// Whether `stream` is a terminal whose user wants colour (<https://no-color.org>).
#[must_use]
pub fn wants_colour(stream: &impl IsTerminal) -> bool {
    let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    stream.is_terminal() && !refused && !is_dumb()
}

/// Whether the terminal has no escape sequences.
#[must_use]
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}
