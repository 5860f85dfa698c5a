//! Prometheus itself.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tempfile::TempDir;

use super::answers;
use crate::netns::Namespace;
use crate::process::Guard;

/// A Prometheus.
#[derive(Debug)]
pub struct Prometheus {
    server: Guard,
    _folder: TempDir,
    url: String,
}

impl Prometheus {
    /// Serves at an address of a namespace, `127.0.0.1:9090`, with a configuration in YAML.
    ///
    /// # Errors
    /// Without Prometheus, when it refuses the configuration, or when the port is taken.
    pub fn start(namespace: &Namespace, listen: &str, config: &str) -> Result<Self> {
        let folder = TempDir::with_prefix("leuko-prometheus-").context("make a folder")?;
        let file = folder.path().join("prometheus.yml");
        fs::write(&file, config)?;
        let server = namespace.spawn(
            "prometheus",
            &[
                &format!("--config.file={}", file.display()),
                &format!("--storage.tsdb.path={}", folder.path().join("data").display()),
                &format!("--web.listen-address={listen}"),
            ],
        )?;
        let url = format!("http://{listen}");
        answers(&server, namespace, &format!("{url}/-/ready"))?;
        Ok(Self { server, _folder: folder, url })
    }

    /// A configuration that scrapes one target each second.
    pub fn scraping(target: &str) -> String {
        format!(
            "global:\n  scrape_interval: 1s\nscrape_configs:\n  - job_name: leuko\n    static_configs:\n      - targets: ['{target}']\n"
        )
    }

    /// The result of a PromQL expression without characters that a URL reserves.
    ///
    /// # Errors
    /// When it does not answer, or refuses the expression.
    pub fn query(&self, from: &Namespace, expression: &str) -> Result<Vec<Value>> {
        let answer = from.http_get(&format!("{}/api/v1/query?query={expression}", self.url))?;
        let mut answer: Value = serde_json::from_str(&answer).with_context(|| format!("read {answer}"))?;
        ensure!(answer["status"] == "success", "{expression}: {answer}");
        serde_json::from_value(answer["data"]["result"].take()).context("a list of series")
    }

    /// The process.
    pub fn process(&mut self) -> &mut Guard {
        &mut self.server
    }
}
