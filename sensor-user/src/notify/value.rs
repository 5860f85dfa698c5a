//! Settings that are checked while the configuration is read, so that its errors point at the line.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use reqwest::Url;
use serde::{Deserialize, Serialize};

use crate::secret::{Secret, SecretSource};

/// An `http` or `https` address without credentials, query or fragment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HttpUrl(Url);

impl HttpUrl {
    /// This address with `path` (which begins with a slash) appended.
    #[must_use]
    pub fn join(&self, path: &str) -> String {
        format!("{}{path}", self.0.as_str().trim_end_matches('/'))
    }

    /// The host and port that requests go to.
    #[must_use]
    pub fn endpoint(&self) -> (String, u16) {
        let host = self.0.host_str().unwrap_or_default().trim_matches(['[', ']']);
        (host.to_owned(), self.0.port_or_known_default().unwrap_or(443))
    }

    /// Whether it says more than a server.
    #[must_use]
    pub fn has_path(&self) -> bool {
        self.0.path() != "/"
    }

    /// Whether requests are encrypted, and the server's certificate is therefore needed.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.0.scheme() == "https"
    }
}

impl TryFrom<String> for HttpUrl {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let url = Url::parse(&text).map_err(|error| format!("not a URL: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err("not a URL of the form http://host:port or https://host".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err("a URL is printed in logs, so it must not hold a user name or password".to_owned());
        }
        if url.query().is_some() || url.fragment().is_some() {
            return Err("a base URL has no query and no fragment".to_owned());
        }
        Ok(Self(url))
    }
}

impl From<HttpUrl> for String {
    fn from(url: HttpUrl) -> Self {
        url.to_string()
    }
}

impl fmt::Display for HttpUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

/// An `http` or `https` address that is a secret: whoever knows it may post there. It may have a query.
#[derive(Clone, PartialEq, Eq)]
pub struct WebhookUrl(Url);

impl WebhookUrl {
    /// What the settings `url` and `url_file` of a table say.
    ///
    /// # Errors
    /// Both are set, or none.
    pub fn source(url: Option<Secret>, url_file: Option<PathBuf>) -> Result<SecretSource, String> {
        let source = SecretSource::of(url, url_file).map_err(|error| format!("url: {error}"))?;
        source.ok_or_else(|| "a url or a url_file is needed".to_owned())
    }

    /// Reads the address.
    ///
    /// # Errors
    /// It cannot be read, or is none; which does not print it.
    pub fn load(source: &SecretSource) -> Result<Self> {
        let secret = source.load().context("read the url")?;
        Self::of(&secret).map_err(anyhow::Error::msg).context("the url cannot be used")
    }

    fn of(secret: &Secret) -> Result<Self, String> {
        let url = Url::parse(secret.expose()).map_err(|error| format!("not a URL: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() {
            return Err("not a URL of the form https://host/path".to_owned());
        }
        if !url.username().is_empty() || url.password().is_some() || url.fragment().is_some() {
            return Err("a URL to post to has no user name, no password and no fragment".to_owned());
        }
        Ok(Self(url))
    }

    /// The server, which is no secret.
    #[must_use]
    pub fn server(&self) -> HttpUrl {
        HttpUrl::try_from(self.0.origin().ascii_serialization()).expect("the origin of an HTTP URL is one")
    }

    /// The address itself, to post to.
    #[must_use]
    pub const fn url(&self) -> &Url {
        &self.0
    }

    /// This address with segments appended to its path, and a setting to its query.
    #[must_use]
    pub fn with(&self, segments: &[&str], setting: Option<(&str, &str)>) -> Url {
        let mut url = self.0.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(segments);
        }
        if let Some((name, value)) = setting {
            url.query_pairs_mut().append_pair(name, value);
        }
        url
    }

    /// What must not be printed: the address, its path, and what in it is long enough to be a token.
    #[must_use]
    pub fn secrets(&self) -> Vec<Secret> {
        const TOKEN: usize = 12;
        let segments = self.0.path_segments().into_iter().flatten().map(ToOwned::to_owned);
        let settings = self.0.query_pairs().map(|(_, value)| value.into_owned());
        let tokens = segments.chain(settings).filter(|part| part.len() >= TOKEN);
        let whole = [self.0.as_str(), self.0.path(), self.0.query().unwrap_or_default()].map(ToOwned::to_owned);
        let parts = whole.into_iter().filter(|part| part != "/").chain(tokens);
        parts.filter_map(|part| Secret::try_from(part).ok()).collect()
    }
}

impl fmt::Debug for WebhookUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/***", self.server())
    }
}

/// A time span from a millisecond to a day: `"500ms"`, `"60s"`, `"5m"`, `"1h"` or a number of seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "Raw", into = "String")]
pub struct Period(Duration);

#[derive(Deserialize)]
#[serde(untagged, expecting = "a time span such as \"60s\", \"500ms\", \"5m\", \"1h30m\", or a number of seconds")]
enum Raw {
    Seconds(f64),
    Text(String),
}

impl Period {
    /// A span of whole seconds, at least one and at most a day.
    #[must_use]
    pub const fn from_secs(secs: u32) -> Self {
        let secs = match secs {
            0 => 1,
            1..=86_400 => secs,
            _ => 86_400,
        };
        Self(Duration::from_secs(secs as u64))
    }

    /// The span.
    #[must_use]
    pub const fn get(self) -> Duration {
        self.0
    }
}

impl TryFrom<Raw> for Period {
    type Error = String;

    fn try_from(raw: Raw) -> Result<Self, String> {
        let secs = match raw {
            Raw::Seconds(secs) => Some(secs),
            Raw::Text(text) => seconds(text.trim()),
        };
        let secs = secs.ok_or("not a time span: write for instance \"60s\", \"500ms\", \"5m\" or \"1h30m\"")?;
        Duration::try_from_secs_f64(secs).ok().and_then(|span| Self::try_from(span).ok()).ok_or_else(out_of_range)
    }
}

impl TryFrom<Duration> for Period {
    type Error = String;

    fn try_from(span: Duration) -> Result<Self, String> {
        let allowed = Duration::from_millis(1)..=Duration::from_secs(86_400);
        allowed.contains(&span).then_some(Self(span)).ok_or_else(out_of_range)
    }
}

fn out_of_range() -> String {
    "a time span is between 1ms and 24h".to_owned()
}

impl From<Period> for String {
    fn from(period: Period) -> Self {
        let millis = period.0.as_millis();
        if millis.is_multiple_of(1000) { format!("{}s", millis / 1000) } else { format!("{millis}ms") }
    }
}

/// `90s`, `1.5h`, `1h30m`: units from the largest to the smallest, each once.
pub(crate) fn seconds(text: &str) -> Option<f64> {
    let (sign, mut rest) = text.strip_prefix('-').map_or((1.0, text), |rest| (-1.0, rest));
    let (mut total, mut last) = (0.0, f64::INFINITY);
    loop {
        let (number, from_unit) = rest.split_at(rest.find(|c: char| c.is_ascii_alphabetic())?);
        let unit_ends = from_unit.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(from_unit.len());
        let (unit, after) = from_unit.split_at(unit_ends);
        let factor = match unit {
            "ms" => 1e-3,
            "s" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            "w" => 604_800.0,
            _ => return None,
        };
        let number: f64 = number.trim().parse().ok()?;
        if factor >= last || number.is_sign_negative() {
            return None;
        }
        total += number * factor;
        if after.is_empty() {
            return Some(sign * total).filter(|secs: &f64| secs.is_finite());
        }
        (last, rest) = (factor, after);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_gives_the_endpoint_it_talks_to() {
        for (text, host, port) in [
            ("http://127.0.0.1:9093", "127.0.0.1", 9093),
            ("https://api.telegram.org/", "api.telegram.org", 443),
            ("http://[::1]:9093/am/", "::1", 9093),
            ("http://am", "am", 80),
        ] {
            let url = HttpUrl::try_from(text.to_owned()).unwrap();
            assert_eq!(url.endpoint(), (host.to_owned(), port));
        }
        let url = HttpUrl::try_from("http://[::1]:9093/am/".to_owned()).unwrap();
        assert_eq!(url.join("/api/v2/alerts"), "http://[::1]:9093/am/api/v2/alerts");
    }

    #[test]
    fn url_is_refused_when_it_cannot_be_a_base() {
        for text in ["", "am:9093", "ftp://am", "http://", "http://u:hunter2@am", "http://am?x=1", "http://am#x"] {
            let error = HttpUrl::try_from(text.to_owned()).unwrap_err();
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn webhook_url_keeps_its_query_and_its_secret() {
        let of = |text: &str| WebhookUrl::of(&Secret::try_from(text.to_owned()).unwrap());
        let url = of("https://hooks.example:8443/api/webhooks/1/hunter2hunter2?thread_id=7").unwrap();
        assert_eq!(
            url.with(&["messages", "5"], Some(("wait", "true"))).as_str(),
            "https://hooks.example:8443/api/webhooks/1/hunter2hunter2/messages/5?thread_id=7&wait=true"
        );
        assert_eq!(url.server().endpoint(), ("hooks.example".to_owned(), 8443));
        assert!(!format!("{url:?}").contains("hunter2"));
        let echo = "no /api/webhooks/1/hunter2hunter2 (hunter2hunter2)";
        assert!(!url.secrets().iter().fold(echo.to_owned(), |text, one| one.redact(&text)).contains("hunter2"));
        for text in ["hunter2", "ftp://am/hunter2", "http://u:hunter2@am", "http://am/hunter2#x"] {
            assert!(!of(text).unwrap_err().contains("hunter2"));
        }
    }

    #[test]
    fn spans_may_have_several_units_from_the_largest_on() {
        for (text, secs) in [
            ("90s", Some(90.0)),
            ("500ms", Some(0.5)),
            ("1.5h", Some(5400.0)),
            ("1h30m", Some(5400.0)),
            ("1d12h", Some(129_600.0)),
            ("1w 2d 3h 4min 5s 6ms", Some(788_645.006)),
            ("-1h30m", Some(-5400.0)),
            ("30m1h", None),
            ("1h1h", None),
            ("1h-30m", None),
            ("1h30", None),
            ("1h30x", None),
            ("h", None),
            ("", None),
        ] {
            assert_eq!(seconds(text), secs, "{text}");
        }
        assert_eq!(seconds(&format!("{}d1h", "9".repeat(400))), None, "more than a double holds");
    }

    #[test]
    fn period_is_read_with_its_unit() {
        #[derive(Deserialize, Serialize)]
        struct Doc {
            p: Period,
        }
        for (text, millis) in
            [("\"60s\"", 60_000), ("60", 60_000), ("0.5", 500), ("\"250ms\"", 250), ("\"1h\"", 3_600_000)]
        {
            let doc: Doc = toml::from_str(&format!("p = {text}")).unwrap();
            assert_eq!(doc.p.get(), Duration::from_millis(millis));
            let again: Doc = toml::from_str(&toml::to_string(&doc).unwrap()).unwrap();
            assert_eq!(again.p, doc.p);
        }
        for text in ["\"\"", "\"60\"", "\"5 parsecs\"", "0", "-1", "\"25h\"", "true", "nan", "inf"] {
            assert!(toml::from_str::<Doc>(&format!("p = {text}")).is_err(), "{text}");
        }
    }
}
