//! Answers DNS questions over UDP: `fake_dns LISTEN`.

use std::net::UdpSocket;

use anyhow::{Context as _, Result};

fn main() -> Result<()> {
    let listen = std::env::args().nth(1).context("usage: fake_dns LISTEN")?;
    let socket = UdpSocket::bind(&listen).with_context(|| format!("listen on {listen}"))?;
    let mut buffer = [0; 4096];
    loop {
        let (length, peer) = socket.recv_from(&mut buffer)?;
        if let Some(answer) = answer(&buffer[..length]) {
            // A peer that is gone does not end the service.
            let _ = socket.send_to(&answer, peer);
        }
    }
}

/// Length of the header (RFC 1035, 4.1.1).
const HEADER: usize = 12;

const TYPE_A: u16 = 1;

/// An A record for the name of the question, 60 s, 192.0.2.1.
const RECORD: [u8; 16] = [0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 60, 0, 4, 192, 0, 2, 1];

/// The answer to a query with one question; nothing for what is no query.
fn answer(query: &[u8]) -> Option<Vec<u8>> {
    let is_query = query.get(2)? & 0x80 == 0;
    let one_question = query.get(4..6)? == [0, 1];
    if !is_query || !one_question {
        return None;
    }
    let (end, exists) = question(query)?;
    let kind = u16::from_be_bytes([*query.get(end - 4)?, *query.get(end - 3)?]);
    let records = u8::from(exists && kind == TYPE_A);
    let mut answer = query[..end].to_vec();
    // Response and recursion desired, as asked; recursion available; NXDOMAIN is 3.
    answer[2] = 0x80 | (query[2] & 0x01);
    answer[3] = 0x80 | if exists { 0 } else { 3 };
    answer[6..HEADER].copy_from_slice(&[0, records, 0, 0, 0, 0]);
    if records == 1 {
        answer.extend(RECORD);
    }
    Some(answer)
}

/// Where the question ends, and whether its name exists.
fn question(query: &[u8]) -> Option<(usize, bool)> {
    let mut at = HEADER;
    let mut exists = true;
    loop {
        let length = usize::from(*query.get(at)?);
        let label = query.get(at + 1..at + 1 + length)?;
        at += 1 + length;
        if label.is_empty() {
            break;
        }
        exists &= label != b"nx";
    }
    let end = at + 4;
    (end <= query.len()).then_some((end, exists))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(labels: &[&str], kind: u8) -> Vec<u8> {
        let mut query = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
        for label in labels {
            query.push(label.len().try_into().unwrap());
            query.extend(label.bytes());
        }
        query.extend([0, 0, kind, 0, 1]);
        query
    }

    #[test]
    fn a_name_has_an_address() {
        let answer = answer(&query(&["www", "example"], 1)).unwrap();
        assert_eq!(answer[..8], [0x12, 0x34, 0x81, 0x80, 0, 1, 0, 1]);
        assert!(answer.ends_with(&[192, 0, 2, 1]));
    }

    #[test]
    fn other_types_have_no_record() {
        let answer = answer(&query(&["www", "example"], 16)).unwrap();
        assert_eq!(answer[3..8], [0x80, 0, 1, 0, 0]);
    }

    #[test]
    fn names_under_nx_do_not_exist() {
        assert_eq!(answer(&query(&["a", "nx"], 1)).unwrap()[3], 0x83);
    }

    #[test]
    fn what_is_cut_short_has_no_answer() {
        let query = query(&["www", "example"], 1);
        for length in 0..query.len() {
            assert_eq!(answer(&query[..length]), None);
        }
    }
}
