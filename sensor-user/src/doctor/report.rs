//! What was found, as a table for people or one JSON object.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::json;

use crate::notify::text::plain;
use crate::terminal::paint::{Painter, Tone};

/// How a check went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// As it should be.
    Ok,
    /// Not checked, because something else is missing first.
    Skip,
    /// The sensor runs, though not at its best.
    Warn,
    /// The sensor does not run, or nobody would hear of what it finds.
    Fail,
}

impl Verdict {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skip => "skip",
            Self::Warn => "warn",
            Self::Fail => "FAIL",
        }
    }

    const fn tone(self) -> Tone {
        match self {
            Self::Ok => Tone::Good,
            Self::Skip => Tone::Faint,
            Self::Warn => Tone::Notice,
            Self::Fail => Tone::Bad,
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Check {
    /// `kernel`, `network`, `host`, `hardening` or `receivers`.
    pub area: &'static str,
    /// What was looked at.
    pub name: String,
    /// How it went.
    pub verdict: Verdict,
    /// What was found.
    pub found: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

impl Check {
    pub(super) fn ok(area: &'static str, name: impl Into<String>, found: impl Into<String>) -> Self {
        Self { area, name: name.into(), verdict: Verdict::Ok, found: plain(&found.into()), advice: None }
    }

    pub(super) fn skip(self, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Skip, advice: Some(plain(&advice.into())), ..self }
    }

    pub(super) fn warn(self, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Warn, advice: Some(plain(&advice.into())), ..self }
    }

    pub(super) fn fail(self, advice: impl Into<String>) -> Self {
        Self { verdict: Verdict::Fail, advice: Some(plain(&advice.into())), ..self }
    }
}

/// Everything that was looked at.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// In the order in which it matters.
    pub checks: Vec<Check>,
}

impl Report {
    /// How many checks went like this.
    #[must_use]
    pub fn count(&self, verdict: Verdict) -> usize {
        self.checks.iter().filter(|check| check.verdict == verdict).count()
    }

    /// 1 when a check has failed, else 0.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        u8::from(self.count(Verdict::Fail) > 0)
    }

    /// Prints a table, area by area.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn write_table(&self, writer: &mut impl Write, colour: bool) -> io::Result<()> {
        let painter = Painter::new(colour);
        let width = self.checks.iter().map(|check| check.name.chars().count()).max().unwrap_or_default();
        let mut area = "";
        for check in &self.checks {
            if check.area != area {
                area = check.area;
                writeln!(writer, "{}", painter.paint(Tone::Strong, area))?;
            }
            let verdict = painter.paint(check.verdict.tone(), &format!("{:<4}", check.verdict.as_str()));
            writeln!(writer, "  {verdict}  {:<width$}  {}", check.name, check.found)?;
            if let Some(advice) = &check.advice {
                writeln!(
                    writer,
                    "  {:4}  {:<width$}  {}",
                    "",
                    "",
                    painter.paint(Tone::Strong, &format!("-> {advice}"))
                )?;
            }
        }
        let counts =
            [(Verdict::Ok, "ok"), (Verdict::Warn, "warnings"), (Verdict::Fail, "failed"), (Verdict::Skip, "skipped")];
        let counts = counts.map(|(verdict, words)| format!("{} {words}", self.count(verdict)));
        writeln!(writer, "{}", counts.join(", "))
    }

    /// Prints one JSON object on a line.
    ///
    /// # Errors
    /// When the writer fails.
    pub fn write_json(&self, writer: &mut impl Write) -> io::Result<()> {
        let object = json!({
            "ok": self.exit_code() == 0,
            "failed": self.count(Verdict::Fail),
            "warnings": self.count(Verdict::Warn),
            "skipped": self.count(Verdict::Skip),
            "checks": self.checks,
        });
        writeln!(writer, "{object}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report {
            checks: vec![
                Check::ok("kernel", "version", "6.8.0"),
                Check::ok("kernel", "type information", "none\x1b[31m").warn("install it"),
                Check::ok("host", "clock", "1970").fail("set it"),
            ],
        }
    }

    #[test]
    fn the_table_is_aligned_and_says_what_to_do() {
        let mut bytes = Vec::new();
        report().write_table(&mut bytes, false).unwrap();
        assert_eq!(
            String::from_utf8(bytes).unwrap(),
            "kernel
  ok    version           6.8.0
  warn  type information  none [31m
                          -> install it
host
  FAIL  clock             1970
                          -> set it
1 ok, 1 warnings, 1 failed, 0 skipped
"
        );
    }

    #[test]
    fn json_is_one_object() {
        let mut bytes = Vec::new();
        report().write_json(&mut bytes).unwrap();
        let object: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(object["ok"], false);
        assert_eq!(object["checks"][1]["verdict"], "warn");
        assert_eq!(object["checks"][0].get("advice"), None);
        assert_eq!(report().exit_code(), 1);
        assert_eq!(Report::default().exit_code(), 0);
    }
}
