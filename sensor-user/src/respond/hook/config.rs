//! `[respond.webhook]`: who is told of blocks.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::notify::value::WebhookUrl;
use crate::secret::{Secret, SecretSource};

/// `[respond.webhook]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "RawConfig", into = "RawConfig")]
pub struct HookConfig {
    /// The address: `url` or `url_file`.
    pub url: SecretSource,
    /// What requests are signed with: `secret` or `secret_file`.
    pub secret: Option<SecretSource>,
    /// Certificates in PEM that sign that of the server, besides those of the system.
    pub ca_file: Option<PathBuf>,
}

#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct RawConfig {
    #[serde(skip_serializing_if = "Option::is_none")]
    url: Option<Secret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    url_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<Secret>,
    #[serde(skip_serializing_if = "Option::is_none")]
    secret_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ca_file: Option<PathBuf>,
}

impl TryFrom<RawConfig> for HookConfig {
    type Error = String;

    fn try_from(raw: RawConfig) -> Result<Self, String> {
        let url = WebhookUrl::source(raw.url, raw.url_file)?;
        let secret = SecretSource::of(raw.secret, raw.secret_file).map_err(|error| format!("secret: {error}"))?;
        Ok(Self { url, secret, ca_file: raw.ca_file })
    }
}

impl From<HookConfig> for RawConfig {
    fn from(config: HookConfig) -> Self {
        let (url, url_file) = config.url.into_settings();
        let (secret, secret_file) = config.secret.map(SecretSource::into_settings).unwrap_or_default();
        Self { url, url_file, secret, secret_file, ca_file: config.ca_file }
    }
}
