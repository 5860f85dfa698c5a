//! Who the sensor is to an HTTP server: a user name and a password, a token, and headers that the user adds.

use std::collections::BTreeMap;
use std::path::PathBuf;

use reqwest::RequestBuilder;
use reqwest::header::{HeaderMap, HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};

use crate::secret::{Secret, SecretError, SecretSource};

/// HTTP authentication.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AuthConfig {
    /// `basic_auth = { username = "...", password_file = "..." }`.
    Basic {
        /// Sent in the clear to whoever asks, so not a secret.
        username: String,
        /// The password.
        password: SecretSource,
    },
    /// `bearer_token` or `bearer_token_file`.
    Bearer(SecretSource),
}

/// `basic_auth` as it is written.
#[derive(Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RawBasic {
    username: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    password: Option<Secret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    password_file: Option<PathBuf>,
}

impl AuthConfig {
    /// What the settings `basic_auth`, `bearer_token` and `bearer_token_file` of a table say.
    ///
    /// # Errors
    /// They contradict each other, or something is missing.
    pub fn of(
        basic: Option<RawBasic>,
        token: Option<Secret>,
        token_file: Option<PathBuf>,
    ) -> Result<Option<Self>, String> {
        let named = |name: &str, error: SecretError| format!("{name}: {error}");
        let bearer = SecretSource::of(token, token_file).map_err(|error| named("bearer_token", error))?;
        match (basic, bearer) {
            (Some(_), Some(_)) => Err("basic_auth and bearer_token exclude each other".to_owned()),
            (None, bearer) => Ok(bearer.map(Self::Bearer)),
            (Some(basic), None) => {
                let password = SecretSource::of(basic.password, basic.password_file)
                    .map_err(|error| named("basic_auth.password", error))?
                    .ok_or("basic_auth needs a password or a password_file")?;
                Ok(Some(Self::Basic { username: basic.username, password }))
            }
        }
    }

    /// The inverse of [`Self::of`].
    #[must_use]
    pub fn into_settings(auth: Option<Self>) -> (Option<RawBasic>, Option<Secret>, Option<PathBuf>) {
        match auth {
            None => (None, None, None),
            Some(Self::Basic { username, password }) => {
                let (password, password_file) = password.into_settings();
                (Some(RawBasic { username, password, password_file }), None, None)
            }
            Some(Self::Bearer(token)) => {
                let (token, token_file) = token.into_settings();
                (None, token, token_file)
            }
        }
    }
}

/// [`AuthConfig`] with its secret at hand.
pub enum Auth {
    /// Nobody in particular.
    Anonymous,
    /// A user name and a password.
    Basic(String, Secret),
    /// A token.
    Bearer(Secret),
}

impl Auth {
    /// Reads the secret.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn load(config: Option<&AuthConfig>) -> Result<Self, SecretError> {
        Ok(match config {
            None => Self::Anonymous,
            Some(AuthConfig::Basic { username, password }) => Self::Basic(username.clone(), password.load()?),
            Some(AuthConfig::Bearer(token)) => Self::Bearer(token.load()?),
        })
    }

    /// The request of somebody.
    pub fn sign(&self, request: RequestBuilder) -> RequestBuilder {
        match self {
            Self::Anonymous => request,
            Self::Basic(username, password) => request.basic_auth(username, Some(password.expose())),
            Self::Bearer(token) => request.bearer_auth(token.expose()),
        }
    }

    /// What must not be printed.
    #[must_use]
    pub fn secret(&self) -> Option<Secret> {
        match self {
            Self::Anonymous => None,
            Self::Basic(_, secret) | Self::Bearer(secret) => Some(secret.clone()),
        }
    }
}

/// `headers = { "X-Scope-OrgID" = "..." }`: headers of every request. Their values may be secrets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "BTreeMap<String, Secret>", into = "BTreeMap<String, Secret>")]
pub struct Headers(BTreeMap<String, Secret>);

/// Those that the request has anyway.
const OURS: [&str; 9] = [
    "connection",
    "content-length",
    "content-type",
    "host",
    "idempotency-key",
    "transfer-encoding",
    "webhook-id",
    "webhook-signature",
    "webhook-timestamp",
];

impl Headers {
    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether they say who we are, in place of `basic_auth` and `bearer_token`.
    #[must_use]
    pub fn authorize(&self) -> bool {
        self.0.keys().any(|name| name.eq_ignore_ascii_case("authorization"))
    }

    /// As they are sent.
    #[must_use]
    pub fn map(&self) -> HeaderMap {
        self.0.iter().filter_map(|(name, value)| header(name, value).ok()).collect()
    }

    /// What must not be printed.
    pub fn secrets(&self) -> impl Iterator<Item = Secret> {
        self.0.values().cloned()
    }
}

impl TryFrom<BTreeMap<String, Secret>> for Headers {
    type Error = String;

    fn try_from(headers: BTreeMap<String, Secret>) -> Result<Self, String> {
        for (name, value) in &headers {
            header(name, value)?;
            if OURS.contains(&name.to_ascii_lowercase().as_str()) {
                return Err(format!("the header {name} is set by the sensor"));
            }
        }
        Ok(Self(headers))
    }
}

impl From<Headers> for BTreeMap<String, Secret> {
    fn from(headers: Headers) -> Self {
        headers.0
    }
}

fn header(name: &str, value: &Secret) -> Result<(HeaderName, HeaderValue), String> {
    let parsed = name.parse().map_err(|_| format!("{name:?} is not the name of a header"))?;
    let mut value =
        HeaderValue::from_str(value.expose()).map_err(|_| format!("the header {name} cannot have this value"))?;
    value.set_sensitive(true);
    Ok((parsed, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_that_cannot_be_sent_are_refused_without_their_value() {
        #[derive(Debug, Deserialize)]
        struct Table {
            headers: Headers,
        }
        let read = |toml: &str| toml::from_str::<Table>(toml);
        let table = read("headers = { X-Team = \"hunter2\", Authorization = \"Token hunter3\" }").unwrap();
        assert!(table.headers.authorize() && table.headers.map()["x-team"] == "hunter2");
        assert!(!format!("{table:?} {:?}", table.headers.map()).contains("hunter"));
        for (toml, words) in [
            ("headers = { \"X Team\" = \"hunter2\" }", "not the name of a header"),
            ("headers = { Content-Length = \"12\" }", "set by the sensor"),
            ("headers = { webhook-id = \"12\" }", "set by the sensor"),
        ] {
            let error = read(toml).unwrap_err().message().to_owned();
            assert!(error.contains(words) && !error.contains("hunter2"), "{error}");
        }
    }
}
