//! A sliding window over a reader that knows its byte offset and holds no more than one record needs.

use std::io::{self, ErrorKind, Read};
use std::ops::Range;

const INITIAL: usize = 256 << 10;

/// The octets from the current position on, as far as they were asked for.
pub(super) struct Window {
    reader: Box<dyn Read + Send>,
    buffer: Vec<u8>,
    /// The octets read and not consumed.
    ahead: Range<usize>,
    /// Where what was consumed last begins in the buffer.
    consumed: usize,
    offset: u64,
}

impl Window {
    pub(super) fn new(reader: Box<dyn Read + Send>) -> Self {
        Self { reader, buffer: vec![0; INITIAL], ahead: 0..0, consumed: 0, offset: 0 }
    }

    /// Offset of the current position in the input.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// All that is read from the current position on: at least `wanted` octets, fewer only at the end of the input.
    ///
    /// The buffer at most doubles each time it is full, so memory follows what arrives and not what was announced.
    pub(super) fn fill(&mut self, wanted: usize) -> io::Result<&[u8]> {
        if self.ahead.len() < wanted {
            self.read_until(wanted)?;
        }
        Ok(self.buffer.get(self.ahead.clone()).unwrap_or_default())
    }

    /// Moves the position by `octets`, which must have been filled.
    pub(super) fn consume(&mut self, octets: usize) {
        debug_assert!(octets <= self.ahead.len(), "consumed more than was filled");
        self.consumed = self.ahead.start;
        self.ahead.start += octets.min(self.ahead.len());
        self.offset += octets as u64;
    }

    /// What was consumed last; valid until the next `fill`.
    pub(super) fn consumed(&self) -> &[u8] {
        self.buffer.get(self.consumed..self.ahead.start).unwrap_or_default()
    }

    #[cold]
    fn read_until(&mut self, wanted: usize) -> io::Result<()> {
        self.buffer.copy_within(self.ahead.clone(), 0);
        self.ahead = 0..self.ahead.len();
        self.consumed = 0;
        while self.ahead.end < wanted {
            if self.ahead.end == self.buffer.len() {
                self.buffer.resize(self.buffer.len() * 2, 0);
            }
            let free = self.buffer.get_mut(self.ahead.end..).unwrap_or_default();
            match self.reader.read(free) {
                Ok(0) => break,
                Ok(read) => self.ahead.end += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Gives one octet at a time, and fails now and then as an interrupted system call does.
    struct Trickle(u8);

    impl Read for Trickle {
        fn read(&mut self, buf: &mut [u8]) -> io::Result<usize> {
            self.0 += 1;
            match self.0 {
                n if n % 3 == 0 => Err(ErrorKind::Interrupted.into()),
                n if n > 30 => Ok(0),
                n => {
                    buf[0] = n;
                    Ok(1)
                }
            }
        }
    }

    #[test]
    fn fills_what_was_asked_for_and_no_more() {
        let mut window = Window::new(Box::new(Trickle(0)));
        assert_eq!(window.fill(4).unwrap(), [1, 2, 4, 5]);
        window.consume(3);
        assert_eq!((window.offset(), window.consumed()), (3, &[1, 2, 4][..]));
        assert_eq!(window.fill(2).unwrap(), [5, 7]);
        assert_eq!(window.fill(100).unwrap().len(), 17, "the input has 20 octets");
    }

    #[test]
    fn memory_follows_what_arrived() {
        let mut window = Window::new(Box::new(io::repeat(7).take(300 << 10)));
        assert_eq!(window.fill(usize::MAX / 4).unwrap().len(), 300 << 10);
        assert_eq!(window.buffer.len(), 512 << 10);
    }
}
