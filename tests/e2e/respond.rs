//! What is done about attackers, in real namespaces: who is dropped, who is not, and who is served meanwhile.
#![expect(clippy::print_stderr, reason = "how long things took is worth reading")]

#[path = "respond/enforcers.rs"]
mod enforcers;
#[path = "respond/floods.rs"]
mod floods;
#[path = "respond/lists.rs"]
mod lists;
#[path = "respond/orders.rs"]
mod orders;
#[path = "respond/pins.rs"]
mod pins;

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use support::{Http, Lab, Leuko, Namespace, Need, Output, Pair, Scene, require, run_timeout, until};

const LONG: Duration = Scene::LONG;
/// A service of the server.
const PORT: u16 = 8080;
/// Neighbours of the client, on the same wire.
const ATTACKER: &str = "10.77.0.66";
const CUSTOMER: &str = "10.77.0.67";
/// Time between two questions that cost a process each.
const PAUSE: Duration = Duration::from_millis(100);
/// How soon an answer comes that nobody holds up: sooner than a request comes again (RFC 6298).
const SOON: Duration = Duration::from_millis(900);

fn possible() -> bool {
    let tools = ["ip", "curl", "nginx"].map(Need::Tool);
    require(&[&[Need::Root, Need::Leuko], &tools[..]].concat())
}

/// A server with a service, and who is on the wire to it.
struct Street {
    pair: Pair,
    attacker: Namespace,
    customer: Namespace,
    _web: Http,
}

impl Street {
    fn new() -> Result<Self> {
        let lab = Lab::new()?;
        let pair = lab.pair()?;
        pair.server.ip(&format!("route add default via {}", Pair::CLIENT))?;
        let attacker = pair.neighbour(&lab, "attacker", ATTACKER)?;
        let customer = pair.neighbour(&lab, "customer", CUSTOMER)?;
        let web = Http::start(&pair.server, PORT)?;
        Ok(Self { pair, attacker, customer, _web: web })
    }

    /// Starts `leuko run` on the server, with its files in `folder`, and waits until it watches and takes orders.
    fn watch(&self, folder: &Path, settings: &str, args: &[&str]) -> Result<Sensor<'_>> {
        let (config, state) = (folder.join("leuko.toml"), folder.join("state"));
        let text = format!("interfaces = [\"eth0\"]\nstate_dir = \"{}\"\n{settings}", state.display());
        fs::write(&config, text).context("write the configuration")?;
        let config = config.to_string_lossy();
        let args = [&["run", "--json", "--config", &config], args].concat();
        let sensor = Sensor { leuko: Leuko::start(&self.pair.server, &args)?, server: &self.pair.server, state };
        for words in ["taking orders", "watching"] {
            sensor.told(words)?;
        }
        Ok(sensor)
    }
}

/// A sensor on the server.
struct Sensor<'a> {
    leuko: Leuko,
    server: &'a Namespace,
    state: PathBuf,
}

impl Sensor<'_> {
    fn told(&self, words: &str) -> Result<()> {
        until(words, LONG, || self.leuko.stderr().contains(words).then_some(())).with_context(|| self.leuko.stderr())
    }

    /// Runs `leuko WORDS --state-dir DIR` on behalf of alice, whatever comes of it.
    fn order(&self, words: &str) -> Result<Output> {
        self.order_from("", words)
    }

    /// As [`Self::order`], of somebody who works on the server from elsewhere.
    fn order_from(&self, connection: &str, words: &str) -> Result<Output> {
        let mut command = self.server.command(&Leuko::binary()?.to_string_lossy());
        command.args(words.split(' ')).arg("--state-dir").arg(&self.state);
        command.env("SUDO_USER", "alice").env("SSH_CONNECTION", connection);
        run_timeout(command, LONG)
    }

    fn granted(&self, words: &str) -> Result<String> {
        Ok(self.order(words)?.success().with_context(|| format!("leuko {words}\n{}", self.leuko.stderr()))?.stdout)
    }

    fn blocks(&self) -> Result<Vec<Value>> {
        self.granted("blocks --json")?.lines().map(|line| Ok(serde_json::from_str(line)?)).collect()
    }

    /// The block of an address as soon as it fits.
    fn blocked(&self, addr: &str, fits: impl Fn(&Value) -> bool) -> Result<Value> {
        let found = until(&format!("a block of {addr}"), LONG, || {
            let found = self.blocks().ok()?.into_iter().find(|block| block["network"] == addr && fits(block));
            found.or_else(|| {
                sleep(PAUSE);
                None
            })
        });
        found.with_context(|| format!("{:?}\n{}", self.blocks(), self.leuko.stderr()))
    }

    /// A metric by its name and labels.
    fn metric(&self, name: &str) -> Result<f64> {
        let text = self.server.http_get("http://127.0.0.1:9101/metrics")?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok());
        value.with_context(|| format!("{name} in {text}"))
    }

    /// Waits for a metric that is fed at ticks.
    fn counted(&self, name: &str) -> Result<f64> {
        let counted = until(name, LONG, || {
            let value = self.metric(name).ok().filter(|value| *value > 0.0);
            value.or_else(|| {
                sleep(PAUSE);
                None
            })
        });
        counted.with_context(|| self.leuko.stderr())
    }
}

const DROPPED: &str = "leuko_unaccounted_packets_total{reason=\"blocked\"}";

fn service() -> SocketAddr {
    at(PORT)
}

fn at(port: u16) -> SocketAddr {
    SocketAddr::new(Pair::SERVER.parse().expect("an address"), port)
}

/// Whether a service answers in time.
fn reaches(from: &Namespace, server: SocketAddr, patience: Duration) -> Result<bool> {
    from.inside(|| TcpStream::connect_timeout(&server, patience).is_ok())
}

/// Waits until it does, and says how long that took.
fn reached(from: &Namespace, within: Duration) -> Result<()> {
    until("an answer", within, || reaches(from, service(), SOON).ok()?.then_some(()))
}

fn number(json: &Value, name: &str) -> Result<f64> {
    json[name].as_f64().with_context(|| format!("{name} in {json}"))
}

fn dropped(from: &Namespace) -> Result<()> {
    ensure!(!reaches(from, service(), SOON)?, "{} is served", from.name());
    Ok(())
}
