//! A list as text: what its lines say, and whether it can be a list at all.

#[cfg(test)]
mod tests;

use std::io::{self, BufRead};

use thiserror::Error;

use super::config::{Column, Format, MaxEntries};
use super::entry::{self, Flaw};
use super::lines::{Lines, TOTAL_LIMIT};
use super::set::{Gathered, ListSet};
use crate::notify::text;

/// Bad lines that are quoted.
const QUOTED: usize = 3;
/// Characters of a line that are.
const QUOTE: usize = 60;

/// A list that was read.
#[derive(Debug)]
pub struct Parsed {
    /// Its networks.
    pub set: ListSet,
    /// What was not taken.
    pub report: Report,
}

/// How the lines of a list were.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Those with an entry.
    pub good: u64,
    /// Those with something else.
    pub bad: u64,
    /// Those with a network that is too wide to be meant: shorter than /8, or /16 in IPv6.
    pub too_wide: u64,
    /// The first of the bad ones.
    pub examples: Vec<String>,
}

/// Why a text is not taken as a list.
#[derive(Debug, Error)]
pub enum ParseError {
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(io::Error),
    /// It is more than what is read at most.
    #[error("it is larger than {} MB", TOTAL_LIMIT / 1_000_000)]
    TooLarge,
    /// It has more entries than it may.
    #[error("it has more than {0} entries: raise max_entries if it should")]
    TooMany(u32),
    /// Its header has no such column.
    #[error("it has no column called {0:?}")]
    NoColumn(String),
    /// It has no entry.
    #[error("it has no address and no network{}", quoted(.0))]
    Empty(Report),
    /// It has more bad lines than others.
    #[error("{} of its lines are bad, and only {} good{}", .0.bad, .0.good, quoted(.0))]
    MostlyBad(Report),
}

fn quoted(report: &Report) -> String {
    if report.examples.is_empty() { String::new() } else { format!(": {}", report.examples.join(", ")) }
}

/// Reads a list.
///
/// # Errors
/// It is none, or too much of one.
pub fn parse(input: impl BufRead, format: &Format, most: MaxEntries) -> Result<Parsed, ParseError> {
    let mut parser = Parser { layout: Layout::of(format), gathered: Gathered::default(), report: Report::default() };
    let mut lines = Lines::new(input);
    while let Some(line) = lines.next().map_err(of_io)? {
        let read = if line.too_long { Err(Flaw::Bad) } else { parser.line(&String::from_utf8_lossy(line.text)) };
        match read {
            Ok(()) => {}
            Err(Flaw::TooWide) => parser.report.too_wide += 1,
            Err(Flaw::Bad) => parser.report.quote(line.number, line.text),
        }
        if parser.gathered.len() > most.get() as usize {
            return Err(ParseError::TooMany(most.get()));
        }
    }
    let Parser { layout, gathered, report } = parser;
    if let Layout::Header(name) = layout {
        return Err(ParseError::NoColumn(name));
    }
    if report.good == 0 {
        return Err(ParseError::Empty(report));
    }
    if report.bad > report.good + report.too_wide {
        return Err(ParseError::MostlyBad(report));
    }
    Ok(Parsed { set: gathered.sorted(), report })
}

fn of_io(error: io::Error) -> ParseError {
    if error.kind() == io::ErrorKind::FileTooLarge { ParseError::TooLarge } else { ParseError::Io(error) }
}

impl Report {
    fn quote(&mut self, number: u64, line: &[u8]) {
        self.bad += 1;
        if self.examples.len() < QUOTED {
            let line = String::from_utf8_lossy(&line[..line.len().min(4 * QUOTE)]);
            self.examples.push(format!("line {number} \"{}\"", text::clip(&text::plain(&line), QUOTE)));
        }
    }
}

struct Parser {
    layout: Layout,
    gathered: Gathered,
    report: Report,
}

/// Where on a line an entry is.
enum Layout {
    /// Alone.
    Plain,
    /// Not known yet: alone or in a column.
    Unknown,
    /// In the column with this index.
    Column {
        index: usize,
        /// Whether the line of the header may be still to come.
        header: bool,
    },
    /// In the column that the header, which is still to come, calls so.
    Header(String),
}

impl Layout {
    fn of(format: &Format) -> Self {
        match format {
            Format::Auto => Self::Unknown,
            Format::Plain => Self::Plain,
            Format::Csv(Column::Number(number)) => {
                Self::Column { index: usize::from(*number).saturating_sub(1), header: true }
            }
            Format::Csv(Column::Name(name)) => Self::Header(name.clone()),
        }
    }
}

impl Parser {
    fn line(&mut self, line: &str) -> Result<(), Flaw> {
        let line = line.trim_start_matches('\u{feff}').trim();
        if let Some(comment) = comment(line) {
            // Some lists have their header in a comment.
            if let Layout::Header(name) = &self.layout
                && let Some(index) = column_called(name, comment)
            {
                self.layout = Layout::Column { index, header: false };
            }
            return Ok(());
        }
        if line.is_empty() {
            return Ok(());
        }
        match &mut self.layout {
            Layout::Plain => self.take(before_comment(line)),
            Layout::Unknown => self.guess(line),
            Layout::Column { index, header } => {
                let (index, may_be_header) = (*index, std::mem::take(header));
                let taken = field(line, index).ok_or(Flaw::Bad).and_then(|entry| self.take(entry));
                if taken == Err(Flaw::Bad) && may_be_header { Ok(()) } else { taken }
            }
            Layout::Header(name) => {
                // Without a header there is nothing to be read.
                let index = column_called(name, line).ok_or(Flaw::Bad)?;
                self.layout = Layout::Column { index, header: false };
                Ok(())
            }
        }
    }

    fn guess(&mut self, line: &str) -> Result<(), Flaw> {
        let alone = self.take(before_comment(line));
        if alone != Err(Flaw::Bad) {
            self.layout = Layout::Plain;
            return alone;
        }
        for (index, entry) in fields(line).enumerate() {
            let taken = self.take(entry);
            if taken != Err(Flaw::Bad) {
                self.layout = Layout::Column { index, header: false };
                return taken;
            }
        }
        Err(Flaw::Bad)
    }

    fn take(&mut self, entry: &str) -> Result<(), Flaw> {
        entry::read(entry, |net| self.gathered.push(net))?;
        self.report.good += 1;
        Ok(())
    }
}

/// What a line says if it says nothing.
fn comment(line: &str) -> Option<&str> {
    ["#", ";", "//"].iter().find_map(|mark| line.strip_prefix(mark)).map(str::trim)
}

fn before_comment(line: &str) -> &str {
    let end = line.find(['#', ';']).into_iter().chain(line.find("//")).min();
    line[..end.unwrap_or(line.len())].trim_end()
}

fn column_called(name: &str, header: &str) -> Option<usize> {
    fields(header).position(|field| field.eq_ignore_ascii_case(name))
}

/// The fields of a line of CSV. No address needs a quotation mark, so that doubled ones are left as they are.
fn fields(line: &str) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    let parts = line.split(move |c: char| {
        quoted ^= c == '"';
        c == ',' && !quoted
    });
    parts.map(|part| {
        let part = part.trim();
        let inner = part.strip_prefix('"').and_then(|part| part.strip_suffix('"'));
        inner.unwrap_or(part).trim()
    })
}

fn field(line: &str, index: usize) -> Option<&str> {
    fields(line).nth(index)
}
