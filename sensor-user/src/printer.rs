//! Where findings go on standard output: lines for people, or the JSON contract.

use std::io::{self, Stdout};

use sensor_core::contract::{BeaconLine, FlowLine, IncidentLine, Line, SummaryLine};
use sensor_core::incident::IncidentEvent;

use crate::terminal::{JsonLines, Reader, Status, Terminal};

/// Standard output.
pub enum Printer {
    /// For people.
    Text(Terminal<Stdout>),
    /// For programs.
    Json(JsonLines<Stdout>),
}

impl Printer {
    /// Text, or JSON lines; without a status line when `quiet`.
    #[must_use]
    pub fn stdout(json: bool, quiet: bool) -> Self {
        if json {
            Self::Json(JsonLines::new(io::stdout()))
        } else if quiet {
            Self::Text(Terminal::stdout().with_status_line(false))
        } else {
            Self::Text(Terminal::stdout())
        }
    }

    /// What happened to an incident.
    ///
    /// # Errors
    /// When standard output fails, other than by a closed pipe.
    pub fn incident(&mut self, event: &IncidentEvent) -> io::Result<Reader> {
        match self {
            Self::Text(terminal) => terminal.incident(event),
            Self::Json(lines) => match IncidentLine::of(event) {
                Some(line) => lines.line(&Line::Incident(line)),
                None => Ok(Reader::Listening),
            },
        }
    }

    /// A flow that ended.
    ///
    /// # Errors
    /// As [`Self::incident`].
    pub fn flow(&mut self, flow: FlowLine) -> io::Result<Reader> {
        match self {
            Self::Text(terminal) => terminal.flow(&flow),
            Self::Json(lines) => lines.line(&Line::Flow(flow)),
        }
    }

    /// A service that is called more or less regularly.
    ///
    /// # Errors
    /// As [`Self::incident`].
    pub fn beacon(&mut self, beacon: BeaconLine) -> io::Result<Reader> {
        match self {
            Self::Text(terminal) => terminal.beacon(&beacon),
            Self::Json(lines) => lines.line(&Line::Beacon(beacon)),
        }
    }

    /// The last line.
    ///
    /// # Errors
    /// As [`Self::incident`].
    pub fn summary(&mut self, summary: SummaryLine) -> io::Result<Reader> {
        match self {
            Self::Text(terminal) => {
                let _ = terminal.finish()?;
                terminal.summary(&summary)
            }
            Self::Json(lines) => lines.line(&Line::Summary(summary)),
        }
    }

    /// One moment of the sensor; only a terminal shows it.
    ///
    /// # Errors
    /// As [`Self::incident`].
    pub fn status(&mut self, status: &Status) -> io::Result<Reader> {
        match self {
            Self::Text(terminal) => terminal.status(status),
            Self::Json(_) => Ok(Reader::Listening),
        }
    }
}
