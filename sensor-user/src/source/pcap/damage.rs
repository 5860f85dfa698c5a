//! What is wrong with a capture, and at which byte.

use std::fmt;

use super::MAX_RECORD;

/// The place at which a capture stops being readable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Damage {
    /// Offset of the first octet of the damaged record or block, from the start of the capture.
    pub offset: u64,
    /// What is wrong with it.
    pub fault: Fault,
}

/// What can be wrong with a record, a block or the reading of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The capture ends inside `part`.
    Truncated {
        /// What was being read.
        part: &'static str,
        /// Its octets as announced.
        announced: u64,
        /// Its octets that are there.
        left: u64,
    },
    /// `part` announces more than [`MAX_RECORD`] octets.
    TooLong {
        /// What was being read.
        part: &'static str,
        /// Its octets as announced.
        announced: u64,
    },
    /// A block announces fewer octets than one like it must have.
    TooShort {
        /// Its octets as announced.
        announced: u64,
    },
    /// The length at the end of a block is not the one at its beginning.
    Trailer {
        /// The length at the beginning.
        first: u32,
        /// The length at the end.
        last: u32,
    },
    /// A block announces more packet octets than it has room for.
    Overrun {
        /// Packet octets as announced.
        announced: u32,
        /// Octets of the block that can hold them.
        room: u32,
    },
    /// A packet names an interface that was not described in its section.
    Interface {
        /// The number of the interface.
        id: u32,
    },
    /// A section describes more interfaces than any host has.
    Interfaces,
    /// A section header without the byte-order magic, or of another major version.
    Section,
    /// The file became shorter, or another, between its two readings.
    Changed,
    /// The system failed to read on.
    Read(String),
}

impl fmt::Display for Damage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = self.offset;
        match &self.fault {
            Fault::Truncated { part, announced, left } => {
                write!(f, "truncated {part} at byte {at}: {announced} octets announced, {left} left")
            }
            Fault::TooLong { part, announced } => {
                write!(f, "oversized {part} at byte {at}: {announced} octets announced, {MAX_RECORD} allowed")
            }
            Fault::TooShort { announced } => {
                write!(f, "impossible block at byte {at}: {announced} octets announced, fewer than its fixed part")
            }
            Fault::Trailer { first, last } => {
                write!(
                    f,
                    "inconsistent block at byte {at}: {first} octets announced at its beginning, {last} at its end"
                )
            }
            Fault::Overrun { announced, room } => {
                write!(f, "inconsistent packet block at byte {at}: {announced} octets announced, room for {room}")
            }
            Fault::Interface { id } => write!(f, "packet block at byte {at} names the undescribed interface {id}"),
            Fault::Interfaces => write!(f, "too many interfaces described at byte {at}"),
            Fault::Section => write!(f, "section header at byte {at} has an unknown byte order or version"),
            Fault::Changed => write!(f, "the capture changed at byte {at} while it was read"),
            Fault::Read(error) => write!(f, "cannot read on at byte {at}: {error}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_missing_and_where() {
        let damage =
            Damage { offset: 12345, fault: Fault::Truncated { part: "packet record", announced: 74, left: 20 } };
        assert_eq!(damage.to_string(), "truncated packet record at byte 12345: 74 octets announced, 20 left");
    }
}
