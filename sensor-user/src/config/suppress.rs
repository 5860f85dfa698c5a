//! `[[detect.suppress]]`: what nobody wants to be told of, why, and until when. The rules that `leuko mute` keeps in the
//! state directory look alike.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::RangeInclusive;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use sensor_core::incident::Class;
use sensor_core::incident::suppress::{Rule, Schedule};
use sensor_core::net;
use sensor_core::time::Timestamp;
use serde::{Deserialize, Serialize};

use super::network::Network;

/// One rule. What is left out does not matter; what is there must hold for everything in a finding.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawSuppress", into = "RawSuppress")]
pub struct Suppress(RawSuppress);

/// As it is written.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawSuppress {
    /// Letters, digits, `-` and `_`; names the rule in metrics.
    pub name: String,
    /// Why.
    pub reason: String,
    /// Until when.
    pub expires: Expiry,
    /// Classes of incidents.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub class: BTreeSet<Class>,
    /// Who attacks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub from: Vec<Network>,
    /// Who is attacked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub to: Vec<Network>,
    /// Ports of who is attacked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub port: Vec<Ports>,
    /// Days of the week.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub days: BTreeSet<Day>,
    /// Hours of the day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hours: Option<Hours>,
}

impl Suppress {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// As it is written.
    #[must_use]
    pub const fn raw(&self) -> &RawSuppress {
        &self.0
    }

    /// What the engine does.
    #[must_use]
    pub fn rule(&self) -> Rule {
        let RawSuppress { name, reason, expires, class, from, to, port, days, hours } = &self.0;
        let networks = |of: &[Network]| of.iter().map(|one| net::Network::new(one.addr(), one.prefix_len())).collect();
        let at_times = !days.is_empty() || hours.is_some();
        let hours = hours.map_or((0, 0), |hours| (hours.from, hours.until));
        let every_day = if days.is_empty() { Schedule::EVERY_DAY } else { 0 };
        Rule {
            name: name.clone(),
            reason: reason.clone(),
            expires: expires.at(),
            classes: class.clone(),
            attackers: networks(from),
            victims: networks(to),
            ports: port.iter().map(|ports| ports.0.clone()).collect(),
            schedule: at_times.then_some(Schedule {
                days: days.iter().fold(every_day, |days, &day| days | 1 << day as u8),
                from: hours.0,
                until: hours.1,
            }),
        }
    }
}

impl TryFrom<RawSuppress> for Suppress {
    type Error = String;

    fn try_from(raw: RawSuppress) -> Result<Self, String> {
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if raw.name.is_empty() || raw.name.len() > 64 || !raw.name.chars().all(plain) {
            return Err(format!("name {:?}: write one to 64 letters, digits, - and _", raw.name));
        }
        let reason = raw.reason.trim();
        if reason.is_empty() || reason.len() > 200 || reason.chars().any(char::is_control) {
            return Err(format!("reason of {}: say in one line of at most 200 characters why", raw.name));
        }
        if raw.class.is_empty() && raw.from.is_empty() && raw.to.is_empty() && raw.port.is_empty() {
            return Err(format!("{} would suppress everything: add class, from, to or port", raw.name));
        }
        Ok(Self(raw))
    }
}

impl From<Suppress> for RawSuppress {
    fn from(suppress: Suppress) -> Self {
        suppress.0
    }
}

/// The end of a day (UTC), a moment, or never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Expiry {
    /// The rule holds for ever.
    #[default]
    Never,
    /// It holds until then, seconds since the epoch.
    At(i64),
}

impl Expiry {
    /// The moment, if there is one. What is before the epoch has passed.
    #[must_use]
    pub fn at(self) -> Option<Timestamp> {
        match self {
            Self::Never => None,
            Self::At(seconds) => Some(Timestamp::from_secs(u64::try_from(seconds).unwrap_or(0))),
        }
    }
}

impl TryFrom<String> for Expiry {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let text = text.trim();
        if text == "never" {
            return Ok(Self::Never);
        }
        let end_of =
            |day: Date| day.tomorrow().and_then(|next| next.to_zoned(TimeZone::UTC)).map(|end| end.timestamp());
        // A date is read from a date with a time, too.
        let in_utc = || match text.contains(':') {
            true => text.parse::<DateTime>()?.to_zoned(TimeZone::UTC).map(|moment| moment.timestamp()),
            false => text.parse::<Date>().and_then(end_of),
        };
        let moment = text.parse::<jiff::Timestamp>().or_else(|_| in_utc());
        let moment = moment
            .map_err(|_| format!("{text:?} is no date: write \"2027-06-30\", \"2027-06-30T18:00:00Z\" or \"never\""))?;
        Ok(Self::At(moment.as_second()))
    }
}

impl From<Expiry> for String {
    fn from(expiry: Expiry) -> Self {
        expiry.to_string()
    }
}

impl fmt::Display for Expiry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("never"),
            Self::At(seconds) => match jiff::Timestamp::from_second(*seconds) {
                Ok(moment) => moment.fmt(f),
                Err(_) => seconds.fmt(f),
            },
        }
    }
}

/// `22`, `"8000-8100"` or the name of a service, `"ssh"`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawPorts", into = "String")]
pub struct Ports(RangeInclusive<u16>);

impl Ports {
    /// The first and the last of them.
    #[must_use]
    pub const fn range(&self) -> &RangeInclusive<u16> {
        &self.0
    }
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "a port such as 22, \"8000-8100\" or \"ssh\"")]
enum RawPorts {
    Number(i64),
    Text(String),
}

/// Services that people know by name (IANA).
const SERVICES: [(&str, u16); 33] = [
    ("ftp", 21),
    ("ssh", 22),
    ("telnet", 23),
    ("smtp", 25),
    ("dns", 53),
    ("domain", 53),
    ("http", 80),
    ("kerberos", 88),
    ("pop3", 110),
    ("ntp", 123),
    ("epmap", 135),
    ("imap", 143),
    ("snmp", 161),
    ("ldap", 389),
    ("https", 443),
    ("smb", 445),
    ("microsoft-ds", 445),
    ("submission", 587),
    ("ldaps", 636),
    ("imaps", 993),
    ("pop3s", 995),
    ("mssql", 1433),
    ("mqtt", 1883),
    ("nfs", 2049),
    ("mysql", 3306),
    ("rdp", 3389),
    ("sip", 5060),
    ("postgresql", 5432),
    ("vnc", 5900),
    ("winrm", 5985),
    ("redis", 6379),
    ("prometheus", 9090),
    ("mongodb", 27017),
];

impl TryFrom<RawPorts> for Ports {
    type Error = String;

    fn try_from(raw: RawPorts) -> Result<Self, String> {
        match raw {
            RawPorts::Number(port) => u16::try_from(port).map(|port| Self(port..=port)).map_err(|_| no_port(&port)),
            RawPorts::Text(text) => text.parse(),
        }
    }
}

impl std::str::FromStr for Ports {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let text = text.trim();
        if let Some((_, port)) = SERVICES.into_iter().find(|(name, _)| name.eq_ignore_ascii_case(text)) {
            return Ok(Self(port..=port));
        }
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        match (first.trim().parse(), last.trim().parse()) {
            (Ok(first), Ok(last)) if first <= last => Ok(Self(first..=last)),
            _ => Err(no_port(&text)),
        }
    }
}

fn no_port(what: &dyn fmt::Debug) -> String {
    format!("{what:?} is no port: write 22, \"8000-8100\", or a name such as \"ssh\"")
}

impl From<Ports> for String {
    fn from(ports: Ports) -> Self {
        ports.to_string()
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = (self.0.start(), self.0.end());
        if first == last { first.fmt(f) } else { write!(f, "{first}-{last}") }
    }
}

/// A day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "days need no explanation")]
pub enum Day {
    Mon,
    Tue,
    Wed,
    Thu,
    Fri,
    Sat,
    Sun,
}

/// `"22:00-06:00"`, in UTC; past midnight if the end is not later than the beginning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Hours {
    /// Minute of the day.
    from: u16,
    /// Minute of the day.
    until: u16,
}

impl std::str::FromStr for Hours {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let minute = |text: &str| {
            let (hour, minute) = text.trim().split_once(':')?;
            let (hour, minute): (u16, u16) = (hour.parse().ok()?, minute.parse().ok()?);
            (hour < 24 && minute < 60).then_some(hour * 60 + minute)
        };
        let both = text.split_once('-').and_then(|(from, until)| Some((minute(from)?, minute(until)?)));
        let (from, until) = both.ok_or_else(|| format!("{text:?} are no hours: write \"22:00-06:00\", in UTC"))?;
        Ok(Self { from, until })
    }
}

impl TryFrom<String> for Hours {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Hours> for String {
    fn from(hours: Hours) -> Self {
        hours.to_string()
    }
}

impl fmt::Display for Hours {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { from, until } = self;
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, until / 60, until % 60)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Suppress, String> {
        toml::from_str(text).map_err(|error| error.message().to_owned())
    }

    const HEAD: &str = "name = \"scanner\"\nreason = \"ours\"\nexpires = \"2027-06-30\"\n";

    #[test]
    fn a_rule_is_what_was_written() {
        let text = format!(
            "{HEAD}class = [\"port_scan\"]\nfrom = [\"10.0.0.5\"]\nto = [\"10.0.0.0/24\"]\nport = [22, \"8000-8100\", \
             \"https\"]\ndays = [\"sat\", \"sun\"]\nhours = \"22:00-06:00\"\n"
        );
        let suppress = read(&text).unwrap();
        let rule = suppress.rule();
        assert_eq!((rule.ports[1].clone(), rule.ports[2].clone()), (8000..=8100, 443..=443));
        assert_eq!(rule.schedule, Some(Schedule { days: 0b110_0000, from: 22 * 60, until: 6 * 60 }));
        // The day is over when the next one begins.
        assert_eq!(rule.expires, Some(Timestamp::from_secs(1_814_400_000)));
        assert_eq!(read(&toml::to_string(&suppress).unwrap()).unwrap(), suppress);
        let hours = read(&format!("{HEAD}port = [22]\nhours = \"9:30-17:00\"")).unwrap().rule();
        assert_eq!(hours.schedule, Some(Schedule { days: 0x7f, from: 570, until: 1020 }));
        let never = read(&format!("{HEAD}port = [22]").replace("2027-06-30", "never")).unwrap().rule();
        assert_eq!((never.expires, never.schedule), (None, None));
        let moment = read(&format!("{HEAD}port = [22]").replace("06-30", "06-30T18:00:00+02:00")).unwrap().rule();
        assert_eq!(moment.expires, Some(Timestamp::from_secs(1_814_400_000 - 8 * 3600)));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, words) in [
            (HEAD.to_owned(), "would suppress everything"),
            (format!("{HEAD}port = [70000]"), "70000 is no port"),
            (format!("{HEAD}port = [\"9-3\"]"), "is no port"),
            (format!("{HEAD}hours = \"25:00-3:00\"\nport = [1]"), "are no hours"),
            (format!("{HEAD}class = [\"scan\"]"), "unknown variant"),
            (format!("{HEAD}colour = 1"), "unknown field `colour`"),
            (format!("{HEAD}port = [22]").replace("2027-06-30", "soon"), "\"soon\" is no date"),
            (format!("{HEAD}port = [22]").replace("scanner", "a b"), "write one to 64 letters"),
            (format!("{HEAD}port = [22]").replace("ours", " "), "say in one line"),
            ("name = \"x\"\nreason = \"y\"\nport = [1]".to_owned(), "missing field `expires`"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(words), "{text}: {error}");
        }
    }
}
