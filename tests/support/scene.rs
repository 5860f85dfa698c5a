//! A server with services, a client that uses them, and Leuko on the server's interface.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;
use tempfile::TempDir;

use crate::leuko::{Leuko, Line};
use crate::netns::{Lab, Namespace, Pair};
use crate::servers::{Dns, Http, Iperf, Sshd};
use crate::wait::until;

/// A server with services and a client beside it.
#[derive(Debug)]
pub struct Scene {
    /// The two of them.
    pub pair: Pair,
    /// The server's SSH.
    pub sshd: Sshd,
    iperf: Iperf,
    _dns: Dns,
    web: Http,
    lab: Lab,
}

impl Scene {
    /// Programs that a scene runs.
    pub const TOOLS: [&str; 6] = ["ip", "curl", "nmap", "ssh", "sshd", "iperf3"];

    /// Generous: machines that run tests are slow at times. What matters is event time, which is compared exactly.
    pub const LONG: Duration = Duration::from_secs(60);

    /// Makes the namespaces and starts the services.
    ///
    /// # Errors
    /// Without root, or when a program is not installed or does not start.
    pub fn start() -> Result<Self> {
        let lab = Lab::new()?;
        let pair = lab.pair()?;
        let web = Http::start(&pair.server, 80)?;
        let dns = Dns::start(&pair.server)?;
        let sshd = Sshd::start(&pair.server, 22)?;
        let iperf = Iperf::start(&pair.server, 5201)?;
        Ok(Self { pair, sshd, iperf, _dns: dns, web, lab })
    }

    /// The folder of the server's web pages.
    pub fn web_root(&self) -> PathBuf {
        self.web.root()
    }

    /// [`Pair::neighbour`].
    ///
    /// # Errors
    /// As there.
    pub fn neighbour(&self, name: &str, address: &str) -> Result<Namespace> {
        self.pair.neighbour(&self.lab, name, address)
    }

    /// Starts `leuko run --json` on the server and waits until it watches; `settings` are those of the configuration
    /// file beyond the interface and the state directory.
    ///
    /// # Errors
    /// When Leuko does not start; the error shows its log.
    pub fn watch(&self, settings: &str) -> Result<Sensor> {
        let folder = TempDir::with_prefix("leuko-scene-").context("make a folder")?;
        let config = folder.path().join("leuko.toml");
        let state = folder.path().join("state");
        let text = format!("interfaces = [\"eth0\"]\nstate_dir = \"{}\"\n{settings}", state.display());
        fs::write(&config, text).context("write the configuration")?;
        let leuko = Leuko::start(&self.pair.server, &["run", "--json", "--config", &config.to_string_lossy()])?;
        let sensor = Sensor { leuko, _folder: folder };
        sensor.wait_for_log("watching")?;
        Ok(sensor)
    }

    /// Web pages only.
    ///
    /// # Errors
    /// When they cannot be asked for in time.
    pub fn web_pages(&self, rounds: u32) -> Result<()> {
        let script = format!(
            "for i in $(seq {rounds}); do curl -s -o /dev/null http://10.77.0.2/; curl -s -o /dev/null \
             http://[fd77::2]/nothing; done"
        );
        self.pair.client.run("sh", &["-c", &script], Self::LONG).map(drop)
    }

    /// What a server sees on an ordinary day: web pages, names, a log-in, transfers.
    ///
    /// # Errors
    /// When one of them does not succeed.
    pub fn ordinary_traffic(&self, rounds: u32) -> Result<()> {
        self.web_pages(rounds)?;
        let names = ["-n", "-Pn", "-sU", "-p53", "--script", "dns-recursion", Pair::SERVER];
        self.pair.client.run("nmap", &names, Self::LONG)?;
        self.sshd.login(&self.pair.client, Pair::SERVER, "true")?.success()?;
        self.iperf.send(&self.pair.client, Pair::SERVER, 2, &["-b", "200M"])?;
        self.iperf.send(&self.pair.client, Pair::SERVER, 2, &["-u", "-b", "20M"])?;
        Ok(())
    }
}

/// Leuko on the server of a scene.
#[derive(Debug)]
pub struct Sensor {
    /// The process.
    pub leuko: Leuko,
    _folder: TempDir,
}

impl Sensor {
    /// Waits until standard error says so.
    ///
    /// # Errors
    /// When it does not in time; the error shows what it says.
    pub fn wait_for_log(&self, words: &str) -> Result<()> {
        until(words, Scene::LONG, || self.leuko.stderr().contains(words).then_some(()))
            .with_context(|| self.leuko.stderr())
    }

    /// The first incident of a class that opens.
    ///
    /// # Errors
    /// When there is none in time.
    pub fn opened(&self, class: &str, timeout: Duration) -> Result<Line> {
        self.leuko.wait_for(class, timeout, |line| is_opened(&line.json) && line.json["class"] == class)
    }

    /// Every incident that opened so far.
    pub fn incidents(&self) -> Vec<Value> {
        self.leuko.lines().into_iter().map(|line| line.json).filter(is_opened).collect()
    }
}

fn is_opened(line: &Value) -> bool {
    line["type"] == "incident" && line["state"] == "open"
}
