//! Prometheus' Alertmanager itself.

use std::fs;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tempfile::TempDir;

use super::answers;
use crate::netns::Namespace;
use crate::process::{Guard, tool};

/// An Alertmanager.
#[derive(Debug)]
pub struct Alertmanager {
    server: Guard,
    _folder: TempDir,
    url: String,
}

impl Alertmanager {
    /// A configuration that receives and tells nobody.
    pub const SILENT: &str = "route:\n  receiver: nobody\nreceivers:\n  - name: nobody\n";

    /// Serves at an address of a namespace, `127.0.0.1:9093`, with a configuration in YAML.
    ///
    /// # Errors
    /// Without Alertmanager, when it refuses the configuration, or when the port is taken.
    pub fn start(namespace: &Namespace, listen: &str, config: &str) -> Result<Self> {
        let folder = TempDir::with_prefix("leuko-alertmanager-").context("make a folder")?;
        let file = folder.path().join("alertmanager.yml");
        fs::write(&file, config)?;
        // Debian's name, and upstream's.
        let names = ["prometheus-alertmanager", "alertmanager"];
        let program = names.into_iter().find(|name| tool(name).is_ok()).unwrap_or(names[0]);
        let server = namespace.spawn(
            program,
            &[
                &format!("--config.file={}", file.display()),
                &format!("--storage.path={}", folder.path().join("data").display()),
                &format!("--web.listen-address={listen}"),
                "--cluster.listen-address=",
            ],
        )?;
        let url = format!("http://{listen}");
        answers(&server, namespace, &format!("{url}/-/ready"))?;
        Ok(Self { server, _folder: folder, url })
    }

    /// `http://` and the address.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The alerts it holds, as `GET /api/v2/alerts` answers.
    ///
    /// # Errors
    /// When it does not answer.
    pub fn alerts(&self, from: &Namespace) -> Result<Vec<Value>> {
        let answer = from.http_get(&format!("{}/api/v2/alerts", self.url))?;
        serde_json::from_str(&answer).with_context(|| format!("read the alerts: {answer}"))
    }

    /// The process.
    pub fn process(&mut self) -> &mut Guard {
        &mut self.server
    }
}
