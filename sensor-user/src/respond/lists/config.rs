//! `[[respond.lists]]`: where a list comes from, how it is written, and what it is for.

use std::fmt;
use std::path::PathBuf;

use reqwest::Url;
use serde::{Deserialize, Serialize, Serializer};

use crate::config::value::{Count, Span};

/// Time between two looks at a list on a server.
pub type Refresh = Span<{ 5 * MINUTE_MS }, { 30 * 24 * 60 * MINUTE_MS }>;

const MINUTE_MS: u64 = 60_000;

/// `[[respond.lists]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawConfig", into = "RawConfig")]
pub struct ListConfig {
    /// By which evidence and blocks call it.
    pub name: ListName,
    /// Where it is.
    pub source: Source,
    /// How it is written.
    pub format: Format,
    /// What it is for.
    pub action: Action,
    /// How often a server is asked for it. A file is read again whenever it changes.
    pub refresh: Refresh,
    /// A list with more entries is refused.
    pub max_entries: MaxEntries,
}

impl ListConfig {
    /// The remote host and port that it comes from, so that the sensor recognises its own traffic.
    #[must_use]
    pub fn endpoint(&self) -> Option<(String, u16)> {
        match &self.source {
            Source::File(_) => None,
            Source::Url(url) => Some(url.endpoint()),
        }
    }
}

/// Where a list is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// On this machine.
    File(PathBuf),
    /// On a server.
    Url(ListUrl),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Url(url) => url.fmt(f),
        }
    }
}

/// How a list is written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// As [`Self::Plain`]; where that does not fit, as [`Self::Csv`] with the first column that has an address.
    #[default]
    Auto,
    /// An address, a network or a range on each line.
    Plain,
    /// One in this column of each line.
    Csv(Column),
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, expecting = "the number of a column, from 1, or its name in the header")]
pub enum Column {
    /// Counted from 1.
    Number(u16),
    /// As the header calls it, which is the first line or a comment before it.
    Name(String),
}

/// What a list is for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Evidence names it.
    #[default]
    Mark,
    /// What is on it is blocked.
    Block,
}

#[derive(Clone, Copy, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum FormatName {
    #[default]
    Auto,
    Plain,
    Csv,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct RawConfig {
    name: ListName,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<ListUrl>,
    #[serde(default)]
    format: FormatName,
    #[serde(skip_serializing_if = "Option::is_none")]
    column: Option<Column>,
    #[serde(default)]
    action: Action,
    #[serde(default = "daily")]
    refresh: Refresh,
    #[serde(default = "a_million")]
    max_entries: MaxEntries,
}

const fn daily() -> Refresh {
    Refresh::from_millis(24 * 60 * MINUTE_MS)
}

impl TryFrom<RawConfig> for ListConfig {
    type Error = String;

    fn try_from(raw: RawConfig) -> Result<Self, String> {
        let source = match (raw.file, raw.url) {
            (Some(file), None) => Source::File(file),
            (None, Some(url)) => Source::Url(url),
            (Some(_), Some(_)) => return Err("file and url exclude each other".to_owned()),
            (None, None) => return Err("a file or a url is needed".to_owned()),
        };
        let format = match (raw.format, raw.column) {
            (FormatName::Auto, None) => Format::Auto,
            (FormatName::Plain, None) => Format::Plain,
            (FormatName::Csv, Some(Column::Number(0))) => return Err("columns are counted from 1".to_owned()),
            (FormatName::Csv, Some(column)) => Format::Csv(column),
            (FormatName::Csv, None) => return Err("format = \"csv\" needs a column: its number or its name".to_owned()),
            (FormatName::Auto | FormatName::Plain, Some(_)) => {
                return Err("a column is for format = \"csv\"".to_owned());
            }
        };
        let (name, action, refresh, max_entries) = (raw.name, raw.action, raw.refresh, raw.max_entries);
        Ok(Self { name, source, format, action, refresh, max_entries })
    }
}

impl From<ListConfig> for RawConfig {
    fn from(config: ListConfig) -> Self {
        let (file, url) = match config.source {
            Source::File(file) => (Some(file), None),
            Source::Url(url) => (None, Some(url)),
        };
        let (format, column) = match config.format {
            Format::Auto => (FormatName::Auto, None),
            Format::Plain => (FormatName::Plain, None),
            Format::Csv(column) => (FormatName::Csv, Some(column)),
        };
        let ListConfig { name, action, refresh, max_entries, .. } = config;
        Self { name, file, url, format, column, action, refresh, max_entries }
    }
}

/// Calls a list, and its file in the folder of the state: letters, digits, `-` and `_`, at most 64.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ListName(String);

impl ListName {
    /// As it is written.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ListName {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let allowed = |octet: u8| octet.is_ascii_alphanumeric() || b"-_".contains(&octet);
        if text.is_empty() || text.len() > 64 || !text.bytes().all(allowed) {
            return Err("a name has letters, digits, - and _, at most 64");
        }
        Ok(Self(text))
    }
}

impl From<ListName> for String {
    fn from(name: ListName) -> Self {
        name.0
    }
}

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Mark => "mark",
            Self::Block => "block",
        })
    }
}

impl fmt::Display for ListName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Entries of a list.
pub type MaxEntries = Count<1, 4_000_000>;

const fn a_million() -> MaxEntries {
    MaxEntries::new(1_000_000)
}

/// An `http` or `https` address. Its user, password and query may be secrets, and are not printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct ListUrl(Url);

impl ListUrl {
    /// The address, to ask.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.0
    }

    /// Whether the server's certificate is needed.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }

    fn endpoint(&self) -> (String, u16) {
        let host = self.0.host_str().unwrap_or_default().trim_matches(['[', ']']);
        (host.to_owned(), self.0.port_or_known_default().unwrap_or(443))
    }
}

impl TryFrom<String> for ListUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let url = Url::parse(&text).map_err(|error| format!("not a URL: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err("not a URL of the form https://host/path".to_owned());
        }
        Ok(Self(url))
    }
}

impl fmt::Display for ListUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = if self.0.query().is_some() { "?***" } else { "" };
        write!(f, "{}{}{hidden}", self.0.origin().ascii_serialization(), self.0.path())
    }
}

impl fmt::Debug for ListUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ListUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn read(toml: &str) -> Result<ListConfig, String> {
        toml::from_str(&format!("name = \"drop\"\n{toml}")).map_err(|error: toml::de::Error| error.message().to_owned())
    }

    #[test]
    fn a_list_needs_a_name_and_a_place_and_has_defaults() {
        let config = read("url = \"https://lists.example/drop.txt\"").unwrap();
        assert_eq!((config.format.clone(), config.action), (Format::Auto, Action::Mark));
        assert_eq!((config.refresh.get(), config.max_entries.get()), (Duration::from_secs(86_400), 1_000_000));
        assert_eq!(config.endpoint(), Some(("lists.example".to_owned(), 443)));
        let written =
            "file = \"/etc/bad\"\nformat = \"csv\"\ncolumn = 2\naction = \"block\"\nrefresh = \"5m\"\nmax_entries = 9";
        let config = read(written).unwrap();
        assert_eq!(config.source, Source::File("/etc/bad".into()));
        assert_eq!((config.format.clone(), config.action), (Format::Csv(Column::Number(2)), Action::Block));
        let again: ListConfig = toml::from_str(&toml::to_string(&config).unwrap()).unwrap();
        assert_eq!(again, config);
        let named = read("file = \"f\"\nformat = \"csv\"\ncolumn = \"dst_ip\"").unwrap();
        assert_eq!(named.format, Format::Csv(Column::Name("dst_ip".to_owned())));
    }

    #[test]
    fn what_contradicts_itself_is_refused() {
        for (toml, words) in [
            ("", "a file or a url is needed"),
            ("file = \"f\"\nurl = \"http://h/\"", "exclude each other"),
            ("url = \"ftp://hunter2@h/\"", "not a URL of the form"),
            ("file = \"f\"\nformat = \"csv\"", "needs a column"),
            ("file = \"f\"\ncolumn = 1", "format = \"csv\""),
            ("file = \"f\"\nformat = \"csv\"\ncolumn = 0", "counted from 1"),
            ("file = \"f\"\nformat = \"csv\"\ncolumn = 1.5", "the number of a column"),
            ("file = \"f\"\nrefresh = \"4m\"", "from 300s to 30d"),
            ("file = \"f\"\nrefresh = \"31d\"", "to 30d"),
            ("file = \"f\"\nmax_entries = 0", "from 1 to"),
            ("file = \"f\"\naction = \"drop\"", "unknown variant"),
            ("file = \"f\"\npath = \"f\"", "unknown field"),
        ] {
            let error = read(toml).unwrap_err();
            assert!(error.contains(words) && !error.contains("hunter2"), "{toml}: {error}");
        }
        for name in ["", "a b", "a.b", "../x", "a/b"] {
            assert!(ListName::try_from(name.to_owned()).is_err(), "{name}");
        }
    }

    #[test]
    fn secrets_of_an_address_are_not_printed() {
        let url = ListUrl::try_from("https://me:hunter2@h:8443/a.txt?key=hunter3".to_owned()).unwrap();
        assert_eq!(format!("{url} {url:?}"), "https://h:8443/a.txt?*** https://h:8443/a.txt?***");
        assert_eq!(serde_json::to_string(&url).unwrap(), "\"https://h:8443/a.txt?***\"");
    }
}
