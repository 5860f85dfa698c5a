//! Lines of a connection log, in either of its forms.

use std::net::IpAddr;

use sensor_core::time::Timestamp;
use sensor_ebpf::packet::proto;
use serde_json::Value;

use super::Connection;

/// The columns that are looked at, in both forms by the same names.
const NAMES: [&str; 15] = [
    "ts",
    "id.orig_h",
    "id.orig_p",
    "id.resp_h",
    "id.resp_p",
    "proto",
    "duration",
    "orig_bytes",
    "resp_bytes",
    "conn_state",
    "history",
    "orig_pkts",
    "orig_ip_bytes",
    "resp_pkts",
    "resp_ip_bytes",
];
/// How many of them, from the first, no log can be without.
const NEEDED: usize = 6;

/// What the header says about the lines that follow it.
#[derive(Debug)]
pub(super) struct Columns {
    separator: String,
    unset: String,
    empty: String,
    /// Where each of [`NAMES`] is.
    places: Option<[Option<usize>; NAMES.len()]>,
}

impl Default for Columns {
    fn default() -> Self {
        Self { separator: "\t".to_owned(), unset: "-".to_owned(), empty: "(empty)".to_owned(), places: None }
    }
}

impl Columns {
    /// Whether there was a `#fields` line.
    pub fn are_known(&self) -> bool {
        self.places.is_some()
    }

    /// Takes in a line that begins with `#`, without it. What is not known is passed over.
    pub fn directive(&mut self, text: &str) -> Result<(), String> {
        if let Some(separator) = text.strip_prefix("separator ") {
            self.separator = unescaped(separator.trim())
                .filter(|separator| !separator.is_empty())
                .ok_or_else(|| format!("the separator {separator:?} is not understood; Zeek writes \\x09"))?;
            return Ok(());
        }
        let (name, rest) = text.split_once(self.separator.as_str()).unwrap_or((text, ""));
        match name {
            "unset_field" => rest.clone_into(&mut self.unset),
            "empty_field" => rest.clone_into(&mut self.empty),
            "path" if rest != "conn" => {
                return Err(format!("this is Zeek's log of {rest:?}; give conn.log, its log of connections"));
            }
            "fields" => self.places = Some(places(rest, &self.separator)?),
            _ => {}
        }
        Ok(())
    }

    /// The connection in a line.
    pub fn connection(&self, text: &str) -> Result<Connection, String> {
        let places = self.places.as_ref().ok_or("there is no #fields line before it")?;
        let values: Vec<&str> = text.split(self.separator.as_str()).collect();
        let last = places.iter().flatten().max().copied().unwrap_or(0);
        if values.len() <= last {
            return Err(format!("it has {} columns, but the header names at least {}", values.len(), last + 1));
        }
        build(|column| {
            let place = places.get(column).copied().flatten()?;
            let value = values.get(place)?.trim();
            (value != self.unset && value != self.empty && !value.is_empty()).then(|| value.to_owned())
        })
    }
}

fn places(fields: &str, separator: &str) -> Result<[Option<usize>; NAMES.len()], String> {
    let fields: Vec<&str> = fields.split(separator).map(str::trim).collect();
    let places = NAMES.map(|name| fields.iter().position(|field| *field == name));
    match places.iter().take(NEEDED).position(Option::is_none) {
        None => Ok(places),
        Some(missing) => Err(format!(
            "the header has no column {}; give conn.log, Zeek's log of connections",
            NAMES.get(missing).unwrap_or(&"")
        )),
    }
}

/// The connection in a line that is an object.
pub(super) fn json(text: &str) -> Result<Connection, String> {
    let object: Value = serde_json::from_str(text).map_err(|error| format!("it is no JSON object: {error}"))?;
    build(|column| {
        let name = NAMES.get(column)?;
        let nested = || name.split('.').try_fold(&object, |object, part| object.get(part));
        match object.get(name).or_else(nested)? {
            Value::String(text) => Some(text.clone()).filter(|text| !text.is_empty()),
            Value::Number(number) => Some(number.to_string()),
            Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
        }
    })
}

/// A connection from its columns, which `value` gives by their place in [`NAMES`].
fn build(value: impl Fn(usize) -> Option<String>) -> Result<Connection, String> {
    let name = |column: usize| NAMES.get(column).copied().unwrap_or_default();
    let needed = |column: usize| value(column).ok_or_else(|| format!("it has no {}", name(column)));
    let wrong = |column: usize, text: &str| format!("{} is {text:?}, which is not understood", name(column));
    let addr = |column: usize| {
        let text = needed(column)?;
        text.parse::<IpAddr>().map_err(|_| wrong(column, &text))
    };
    let port = |column: usize| {
        let text = needed(column)?;
        text.parse::<u16>().map_err(|_| wrong(column, &text))
    };
    let count = |column: usize| match value(column) {
        None => Ok(None),
        Some(text) => text.parse::<u64>().map(Some).map_err(|_| wrong(column, &text)),
    };
    let text = needed(0)?;
    let began = nanos(&text).ok_or_else(|| format!("{}; times are seconds since the epoch", wrong(0, &text)))?;
    let lasted = match value(6) {
        None => 0,
        Some(text) => nanos(&text).ok_or_else(|| wrong(6, &text))?,
    };
    let addrs = [addr(1)?, addr(3)?];
    let protocol = needed(5)?;
    let proto = number(&protocol, addrs[0]).ok_or_else(|| wrong(5, &protocol))?;
    Ok(Connection {
        began: Timestamp::from_nanos(began),
        ended: Timestamp::from_nanos(began.saturating_add(lasted)),
        addrs,
        ports: [port(2)?, port(4)?],
        proto,
        payload: [count(7)?, count(8)?],
        packets: [count(11)?, count(13)?],
        octets: [count(12)?, count(14)?],
        state: value(9).unwrap_or_default(),
        history: value(10).unwrap_or_default(),
    })
}

/// Nanoseconds of a decimal number of seconds, of which every digit counts; also in the form 1.5e-05.
fn nanos(text: &str) -> Option<u64> {
    const SECOND: u64 = 1_000_000_000;
    let (whole, digits) = text.split_once('.').unwrap_or((text, ""));
    let is_plain =
        !whole.is_empty() && whole.len() < 11 && (whole.to_owned() + digits).bytes().all(|b| b.is_ascii_digit());
    if is_plain {
        let digits: String = digits.chars().chain("000000000".chars()).take(9).collect();
        return Some(whole.parse::<u64>().ok()? * SECOND + digits.parse::<u64>().ok()?);
    }
    let seconds = text.parse::<f64>().ok().filter(|seconds| (0.0..1e10).contains(seconds))?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "in range, and not negative")]
    let nanos = (seconds * SECOND as f64) as u64;
    Some(nanos)
}

/// IANA protocol number of Zeek's name for it.
fn number(name: &str, addr: IpAddr) -> Option<u8> {
    match name {
        "tcp" => Some(proto::TCP),
        "udp" => Some(proto::UDP),
        "icmp" if addr.is_ipv4() => Some(proto::ICMP),
        "icmp" => Some(proto::ICMPV6),
        // Of any other transport; 255 is reserved (RFC 3692).
        "unknown_transport" => Some(255),
        other => other.parse().ok(),
    }
}

/// The octets that `\x09` and the like stand for.
fn unescaped(text: &str) -> Option<String> {
    let Some(codes) = text.strip_prefix("\\x") else {
        return Some(text.to_owned());
    };
    let octets: Option<Vec<u8>> = codes.split("\\x").map(|code| u8::from_str_radix(code, 16).ok()).collect();
    String::from_utf8(octets?).ok()
}
