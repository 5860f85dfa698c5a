//! The lines of a text from somebody else: none is longer than is looked at, and they end.

use std::io::{self, BufRead, Read as _};

/// Longest line that is read, in octets.
pub const LINE_LIMIT: usize = 4096;
/// Octets of a list.
pub const TOTAL_LIMIT: u64 = 128_000_000;

/// Reads lines.
pub struct Lines<R> {
    input: R,
    line: Vec<u8>,
    read: u64,
    number: u64,
}

/// A line.
#[derive(Debug, PartialEq, Eq)]
pub struct Line<'a> {
    /// Counted from 1.
    pub number: u64,
    /// Without its end; only the beginning of one that is too long.
    pub text: &'a [u8],
    /// Whether it is longer than [`LINE_LIMIT`].
    pub too_long: bool,
}

impl<R: BufRead> Lines<R> {
    /// The lines of `input`.
    pub const fn new(input: R) -> Self {
        Self { input, line: Vec::new(), read: 0, number: 0 }
    }

    /// The next line; nothing at the end.
    ///
    /// # Errors
    /// The input cannot be read, or is longer than [`TOTAL_LIMIT`] ([`io::ErrorKind::FileTooLarge`]).
    pub fn next(&mut self) -> io::Result<Option<Line<'_>>> {
        self.line.clear();
        let limit = LINE_LIMIT as u64 + 1;
        let mut read = (&mut self.input).take(limit).read_until(b'\n', &mut self.line)? as u64;
        if read == 0 {
            return Ok(None);
        }
        let too_long = read == limit && self.line.last() != Some(&b'\n');
        if too_long {
            read += self.skip()?;
        }
        self.read += read;
        if self.read > TOTAL_LIMIT {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        self.number += 1;
        Ok(Some(Line { number: self.number, text: self.line.trim_ascii(), too_long }))
    }

    /// To the end of the line.
    fn skip(&mut self) -> io::Result<u64> {
        let mut skipped = 0;
        loop {
            let buffer = self.input.fill_buf()?;
            let end = buffer.iter().position(|octet| *octet == b'\n');
            let taken = end.map_or(buffer.len(), |at| at + 1);
            self.input.consume(taken);
            skipped += taken as u64;
            if end.is_some() || taken == 0 || skipped > TOTAL_LIMIT {
                return Ok(skipped);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    #[test]
    fn lines_come_one_by_one_and_long_ones_are_cut() {
        let long = "x".repeat(LINE_LIMIT);
        let text = format!("one\r\n\n{long}\n{long}y\n{long}{long}\nlast");
        for capacity in [1, 7, 100_000] {
            let mut lines = Lines::new(BufReader::with_capacity(capacity, text.as_bytes()));
            let mut seen = Vec::new();
            while let Some(line) = lines.next().unwrap() {
                seen.push((line.number, line.text.len(), line.too_long));
            }
            let expected =
                [(1, 3, false), (2, 0, false), (3, LINE_LIMIT, false), (4, 4097, true), (5, 4097, true), (6, 4, false)];
            assert_eq!(seen, expected);
        }
    }

    #[test]
    fn a_text_without_an_end_is_an_error() {
        for line in ["x".repeat(LINE_LIMIT), "x".repeat(LINE_LIMIT - 1) + "\n"] {
            let endless = Endless(line.into_bytes().repeat(64));
            let mut lines = Lines::new(endless);
            let error = loop {
                match lines.next() {
                    Ok(line) => assert!(line.is_some()),
                    Err(error) => break error,
                }
            };
            assert_eq!(error.kind(), io::ErrorKind::FileTooLarge);
        }
    }

    struct Endless(Vec<u8>);

    impl io::Read for Endless {
        fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
            let length = into.len().min(self.0.len());
            into[..length].copy_from_slice(&self.0[..length]);
            Ok(length)
        }
    }

    impl BufRead for Endless {
        fn fill_buf(&mut self) -> io::Result<&[u8]> {
            Ok(&self.0)
        }

        fn consume(&mut self, _: usize) {}
    }
}
