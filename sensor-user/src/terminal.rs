//! What `run` and `replay` print: incidents in words with a status line below them, or JSON lines.

mod figures;
pub mod paint;
#[cfg(test)]
mod tests;

use std::io::{self, IsTerminal as _, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use sensor_core::contract::{BeaconLine, FlowLine, Line, SummaryLine};
use sensor_core::incident::{Change, Incident, IncidentEvent, Language};
use sensor_core::time::Timestamp;

use self::figures::{count, rate, share};
use self::paint::{Painter, Tone};
use crate::notify::text;

/// Addresses and ports that are printed of each list; the JSON lines have more.
const LISTED: usize = 10;
/// Clears the line the cursor is in. Auto-wrap is off while a status is drawn: a narrow window cuts it.
const CLEAR: &str = "\r\x1b[2K";
const WRAP_OFF: &str = "\x1b[?7l";
const WRAP_ON: &str = "\x1b[?7h";

/// Whether the cursor of the terminal is in a status line, which whoever writes next has to clear.
static STATUS_SHOWN: AtomicBool = AtomicBool::new(false);

/// What clears the status line, if there is one: for those who write to the same terminal, such as the log.
#[must_use]
pub fn take_status_line() -> &'static str {
    if STATUS_SHOWN.swap(false, Ordering::Relaxed) { CLEAR } else { "" }
}

/// Whether somebody still reads what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Reader {
    /// Yes.
    Listening,
    /// The pipe was closed, as by `| head`: time to end, without a word.
    Gone,
}

impl Reader {
    /// A broken pipe is no error.
    ///
    /// # Errors
    /// Any other error.
    pub fn of(result: io::Result<()>) -> io::Result<Self> {
        match result {
            Ok(()) => Ok(Self::Listening),
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Self::Gone),
            Err(error) => Err(error),
        }
    }
}

/// Writes to standard output at once: what `doctor`, `config` and `completions` print.
///
/// # Errors
/// When it fails, unless its reader has gone.
pub fn print(bytes: &[u8]) -> io::Result<Reader> {
    let mut stdout = io::stdout().lock();
    Reader::of(stdout.write_all(bytes).and_then(|()| stdout.flush()))
}

/// One moment of the sensor.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Status {
    /// Live flows.
    pub flows: u64,
    /// Packets per second over the last interval.
    pub packets_per_s: f64,
    /// Bits per second over the last interval.
    pub bits_per_s: f64,
    /// Part of the flow table that is in use, in [0, 1].
    pub table_fill: f64,
    /// Part of the last interval's packets that was accounted, in [0, 1].
    pub coverage: f64,
    /// Incidents that are going on.
    pub open_incidents: u64,
    /// Learning for this long still; zero once there is a baseline.
    pub warmup_left: Duration,
    /// Packets that were summed up for lack of room in the flow table, so far.
    pub overflow: u64,
    /// Packets that should have been accounted and were not, so far.
    pub lost: u64,
}

/// Incidents for people, and a status line where the writer is a terminal.
#[derive(Debug)]
pub struct Terminal<W> {
    writer: W,
    painter: Painter,
    live: bool,
}

impl Terminal<io::Stdout> {
    /// Standard output, with colour and a status line where it is a terminal that can.
    #[must_use]
    pub fn stdout() -> Self {
        let stdout = io::stdout();
        let live = stdout.is_terminal() && !paint::is_dumb();
        let colour = paint::wants_colour(&stdout);
        Self { writer: stdout, painter: Painter::new(colour), live }
    }
}

impl<W: Write> Terminal<W> {
    /// A writer that is no terminal: no status line.
    #[must_use]
    pub const fn new(writer: W, colour: bool) -> Self {
        Self { writer, painter: Painter::new(colour), live: false }
    }

    /// Whether the status line is drawn.
    #[must_use]
    pub fn with_status_line(self, live: bool) -> Self {
        Self { live, ..self }
    }

    /// Prints what has happened to an incident.
    ///
    /// # Errors
    /// When the writer fails, unless its reader has gone.
    pub fn incident(&mut self, event: &IncidentEvent) -> io::Result<Reader> {
        let text = match event.change {
            Change::Opened => self.opened(event),
            Change::Updated => self.updated(event),
            Change::Closed => self.closed(event),
        };
        self.print(&text)
    }

    /// Prints a flow that has ended.
    ///
    /// # Errors
    /// As [`Terminal::incident`].
    pub fn flow(&mut self, flow: &FlowLine) -> io::Result<Reader> {
        let end = |addr: std::net::IpAddr, port: u16| match (port, addr.is_ipv6()) {
            (0, _) => addr.to_string(),
            (_, true) => format!("[{addr}]:{port}"),
            (_, false) => format!("{addr}:{port}"),
        };
        let text = format!(
            "flow  {} > {}  proto {}  {}+{} packets  {}+{} octets  {:.3} s  {}\n",
            end(flow.src_addr, flow.src_port),
            end(flow.dst_addr, flow.dst_port),
            flow.proto,
            flow.fwd_packets,
            flow.rev_packets,
            flow.fwd_ip_octets,
            flow.rev_ip_octets,
            flow.last_seen - flow.first_seen,
            flow.end_reason,
        );
        self.print(&self.painter.paint(Tone::Faint, &text))
    }

    /// Prints who calls a service how regularly; a heading before the first.
    ///
    /// # Errors
    /// As [`Terminal::incident`].
    pub fn beacon(&mut self, beacon: &BeaconLine) -> io::Result<Reader> {
        let mut text = String::new();
        if beacon.rank == 1 {
            let heading = "beacon  score  every [s]  jitter  calls  reported  who calls whom\n";
            text.push_str(&self.painter.paint(Tone::Strong, heading));
        }
        text.push_str(&format!(
            "{:>6}  {:>5.3}  {:>9.1}  {:>6.2}  {:>5}  {:>8}  {} > {} port {} proto {}\n",
            beacon.rank,
            beacon.score,
            beacon.interval_s,
            beacon.jitter,
            beacon.connections,
            if beacon.reported { "yes" } else { "no" },
            beacon.src_addr,
            beacon.dst_addr,
            beacon.dst_port,
            beacon.proto,
        ));
        self.print(&text)
    }

    /// Prints what has been seen in all.
    ///
    /// # Errors
    /// As [`Terminal::incident`].
    pub fn summary(&mut self, summary: &SummaryLine) -> io::Result<Reader> {
        let lost: u64 = summary.lost.values().sum();
        let seen = Duration::try_from_secs_f64(summary.duration_s).unwrap_or_default();
        let mut text = format!(
            "{}  {} packets in {} flows over {}\n",
            self.painter.paint(Tone::Strong, &incidents(summary.incidents)),
            count(summary.packets),
            count(summary.flows),
            text::span(seen),
        );
        if lost > 0 {
            let reasons = summary.lost.iter().filter(|(_, packets)| **packets > 0);
            let reasons: Vec<_> = reasons.map(|(reason, packets)| format!("{reason} {}", count(*packets))).collect();
            let reasons = text::plain(&reasons.join(", "));
            text.push_str(&format!("not accounted to a flow: {} packets ({reasons})\n", count(lost)));
        }
        self.print(&text)
    }

    /// Draws the status line anew; nothing where there is none.
    ///
    /// # Errors
    /// As [`Terminal::incident`].
    pub fn status(&mut self, status: &Status) -> io::Result<Reader> {
        if !self.live {
            return Ok(Reader::Listening);
        }
        let line = format!("{CLEAR}{WRAP_OFF}{}{WRAP_ON}", self.status_text(status));
        STATUS_SHOWN.store(true, Ordering::Relaxed);
        Reader::of(self.writer.write_all(line.as_bytes()).and_then(|()| self.writer.flush()))
    }

    /// Removes the status line, so that the shell finds a clean one.
    ///
    /// # Errors
    /// As [`Terminal::incident`].
    pub fn finish(&mut self) -> io::Result<Reader> {
        self.print("")
    }

    fn print(&mut self, text: &str) -> io::Result<Reader> {
        let clear = if self.live { take_status_line() } else { "" };
        let result = self.writer.write_all(format!("{clear}{text}").as_bytes());
        Reader::of(result.and_then(|()| self.writer.flush()))
    }

    fn opened(&self, event: &IncidentEvent) -> String {
        let incident = &event.incident;
        let mut text = format!("{}{}\n", self.head(event.at, incident), self.sentence(&incident.summary));
        let mut row = |name: &str, value: &str| {
            if !value.is_empty() {
                text.push_str(&format!("    {} {value}\n", self.painter.paint(Tone::Faint, &format!("{name:<9}"))));
            }
        };
        row("from", &text::attackers(incident, LISTED, Language::En));
        row("to", &text::list(&incident.victims, LISTED, Language::En));
        row("ports", &text::list(&incident.ports, LISTED, Language::En));
        let before = event.at.since(incident.first_seen);
        row("since", &format!("{}, {} before it was found", clock(incident.first_seen), text::span(before)));
        row("score", &format!("{:.2}", incident.score));
        let evidence: Vec<_> = text::evidence(incident).collect();
        let width = evidence.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default().min(28);
        for (index, (name, value)) in evidence.iter().enumerate() {
            row(if index == 0 { "evidence" } else { "" }, &format!("{name:<width$}  {value}"));
        }
        row("id", &text::plain(&incident.id));
        text
    }

    fn updated(&self, event: &IncidentEvent) -> String {
        let incident = &event.incident;
        let note = self.painter.paint(Tone::Faint, &format!("(more of {})", text::plain(&incident.id)));
        format!("{}{} {note}\n", self.head(event.at, incident), self.sentence(&incident.summary))
    }

    fn closed(&self, event: &IncidentEvent) -> String {
        let incident = &event.incident;
        let from = text::attackers(incident, 3, Language::En);
        let to = text::list(&incident.victims, 3, Language::En);
        let lasted = text::span(incident.last_seen.since(incident.first_seen));
        let over = self.painter.paint(Tone::Good, &format!("{:<8}", "over"));
        let id = self.painter.paint(Tone::Faint, &format!("({})", text::plain(&incident.id)));
        format!("{}  {over}  {:<11}  {from} > {to}, lasted {lasted} {id}\n", clock(event.at), incident.class)
    }

    fn head(&self, at: Timestamp, incident: &Incident) -> String {
        let severity = self.painter.paint(Tone::of(incident.severity), &format!("{:<8}", incident.severity));
        format!("{}  {severity}  {:<11}  ", clock(at), incident.class)
    }

    fn sentence(&self, summary: &str) -> String {
        self.painter.paint(Tone::Strong, &text::plain(summary))
    }

    fn status_text(&self, status: &Status) -> String {
        let mut parts = Vec::new();
        if !status.warmup_left.is_zero() {
            let left = format!("learning, {} left", text::span(status.warmup_left));
            parts.push(self.painter.paint(Tone::Notice, &left));
        }
        parts.push(format!("{} flows", count(status.flows)));
        parts.push(format!("{}pkt/s", rate(status.packets_per_s)));
        parts.push(format!("{}bit/s", rate(status.bits_per_s)));
        let table = format!("table {}", share(status.table_fill));
        parts.push(self.painter.paint(if status.table_fill >= 0.9 { Tone::Bad } else { Tone::Plain }, &table));
        let coverage = format!("coverage {}", share(status.coverage));
        parts.push(self.painter.paint(if status.coverage < 0.999 { Tone::Notice } else { Tone::Plain }, &coverage));
        if status.overflow > 0 {
            parts.push(self.painter.paint(Tone::Notice, &format!("{} overflow", count(status.overflow))));
        }
        if status.lost > 0 {
            parts.push(self.painter.paint(Tone::Notice, &format!("{} lost", count(status.lost))));
        }
        let open = format!("{} open", incidents(status.open_incidents));
        parts.push(self.painter.paint(if status.open_incidents > 0 { Tone::Bad } else { Tone::Good }, &open));
        parts.join("  ")
    }
}

/// One JSON object a line, each written at once: whoever reads has it as soon as it is known.
#[derive(Debug)]
pub struct JsonLines<W> {
    writer: W,
    buffer: Vec<u8>,
}

impl<W: Write> JsonLines<W> {
    /// Lines for this writer.
    #[must_use]
    pub const fn new(writer: W) -> Self {
        Self { writer, buffer: Vec::new() }
    }

    /// Writes a line.
    ///
    /// # Errors
    /// As [`Terminal::incident`].
    pub fn line(&mut self, line: &Line) -> io::Result<Reader> {
        self.buffer.clear();
        serde_json::to_writer(&mut self.buffer, line)?;
        self.buffer.push(b'\n');
        Reader::of(self.writer.write_all(&self.buffer).and_then(|()| self.writer.flush()))
    }
}

/// `2025-06-15 15:06:40Z`.
fn clock(at: Timestamp) -> String {
    let text = at.to_string();
    format!("{}Z", text.get(..19).unwrap_or(&text).replace('T', " "))
}

fn incidents(number: u64) -> String {
    if number == 1 { "1 incident".to_owned() } else { format!("{} incidents", count(number)) }
}
