//! Blocks in nftables: the kernel drops what is meant, for as long as is meant, and nothing else.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::thread::sleep;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result, ensure};
use leuko::respond::{Enforcer, nftables};
use leuko::store::event_time;
use sensor_core::net::Network;
use sensor_core::respond::{Block, Decider, Measure, Scope, Target};
use sensor_core::time::Timestamp;
use support::{Lab, Namespace, Need, Pair, require, until};
use tokio::runtime::Runtime;
use tokio::sync::watch;

const SOON: Duration = Duration::from_secs(15);
const MINUTE: Duration = Duration::from_secs(60);
const UDP: u8 = 17;

#[test]
fn blocks_are_enforced_replaced_and_removed() -> Result<()> {
    if !require(&[Need::Root, Need::Tool("ip"), Need::Tool("nft")]) {
        return Ok(());
    }
    let pair = Lab::new()?.pair()?;
    let mut rig = Rig::start(&pair.server)?;
    let one = Path::new(&pair, Pair::CLIENT, Pair::SERVER, 1001)?;
    let two = Path::new(&pair, Pair::CLIENT, Pair::SERVER, 1002)?;
    let six = Path::new(&pair, Pair::CLIENT_V6, Pair::SERVER_V6, 1001)?;
    rig.enforce(vec![])?;
    for path in [&one, &two, &six] {
        until("a first packet passes", SOON, || path.passes().ok()?.then_some(()))?;
    }
    assert!(one.answers()?);
    assert_eq!(tables(&pair.server)?, "");

    rig.enforce(vec![peer("10.77.0.0", 24, Scope::All, MINUTE)])?;
    assert!(!one.passes()? && !two.passes()? && six.passes()? && !one.answers()?);
    assert_eq!(tables(&pair.server)?, "table inet leuko");

    let port = Scope::Port { proto: UDP, port: 1001 };
    rig.enforce(vec![peer(Pair::CLIENT, 32, port, MINUTE), peer("fd77::", 64, Scope::Protocol(UDP), MINUTE)])?;
    assert!(!one.passes()? && two.passes()? && !six.passes()? && !one.answers()? && two.answers()?);

    // Nobody but the kernel ends this.
    rig.enforce(vec![peer(Pair::CLIENT, 32, Scope::All, Duration::from_secs(3))])?;
    assert!(!one.passes()?);
    sleep(Duration::from_secs(3));
    assert!(one.passes()?);

    rig.enforce(vec![Block { measure: Measure::Limit(10), ..peer(Pair::CLIENT, 32, Scope::All, MINUTE) }])?;
    let passed = one.burst(200)?;
    assert!((10..=30).contains(&passed), "{passed} of 200 packets passed a limit of 10 a second");
    assert!(six.passes()?);

    // Whoever loads a firewall anew takes the table away.
    rig.enforce(vec![peer(Pair::CLIENT, 32, Scope::All, MINUTE)])?;
    pair.server.run("nft", &["flush", "ruleset"], SOON)?;
    until("the table is back", SOON, || (!tables(&pair.server).ok()?.is_empty()).then_some(()))?;
    assert!(!one.passes()?);

    // Somebody takes away what is in it.
    for damage in [&["flush", "set", "inet", "leuko", "blocked4"] as &[_], &["flush", "table", "inet", "leuko"]] {
        pair.server.run("nft", damage, SOON)?;
        assert!(one.passes()?);
        until("the table is whole again", SOON, || (!one.passes().ok()?).then_some(()))?;
    }

    rig.stop();
    assert_eq!(tables(&pair.server)?, "");
    assert!(one.passes()?);
    Ok(())
}

#[test]
fn requests_to_a_service_are_limited_and_connections_stay() -> Result<()> {
    if !require(&[Need::Root, Need::Tool("ip"), Need::Tool("nft")]) {
        return Ok(());
    }
    let pair = Lab::new()?.pair()?;
    let mut rig = Rig::start(&pair.server)?;
    let host: IpAddr = Pair::SERVER.parse()?;
    let address = SocketAddr::new(host, 8080);
    let listener = pair.server.inside(|| TcpListener::bind(address))??;
    let connect = || pair.client.inside(|| TcpStream::connect_timeout(&address, Duration::from_millis(50)));
    let mut before = connect()??;
    let (mut there, _) = listener.accept()?;

    let block = peer(Pair::CLIENT, 32, Scope::All, MINUTE);
    rig.enforce(vec![Block { target: Target::Requests { host, port: 8080 }, measure: Measure::Limit(3), ..block }])?;
    let mut connected = 0;
    for _ in 0..30 {
        connected += usize::from(connect()?.is_ok());
    }
    assert!((3..=20).contains(&connected), "{connected} of 30 requests passed a limit of 3 a second");
    std::io::Write::write_all(&mut before, b"on")?;
    std::io::Read::read_exact(&mut there, &mut [0; 2])?;
    rig.stop();
    assert!(connect()?.is_ok());
    Ok(())
}

/// Prints how long a set of many takes.
#[test]
#[expect(clippy::print_stderr, reason = "it shows what it measured")]
fn every_set_of_blocks_is_taken() -> Result<()> {
    if !require(&[Need::Root, Need::Tool("ip"), Need::Tool("nft")]) {
        return Ok(());
    }
    let lab = Lab::new()?;
    let namespace = lab.namespace("server")?;
    let mut rig = Rig::start(&namespace)?;
    // Close together, so that they overlap in all ways.
    let mut dice = Dice(1);
    for _ in 0..20 {
        rig.enforce((0..200).map(|_| dice.block()).collect())?;
    }
    let many = (0..20_000_u32)
        .map(|n| peer(&std::net::Ipv4Addr::from(0x0a00_0000 + 2 * n).to_string(), 32, Scope::All, MINUTE));
    let many: Vec<Block> = many.collect();
    let begun = now();
    rig.enforce(many)?;
    eprintln!("20,000 blocks are loaded in {:?}", now().duration_since(begun)?);
    rig.stop();
    Ok(())
}

/// What keeps the table of a namespace.
struct Rig {
    runtime: Runtime,
    blocks: watch::Sender<Arc<Vec<Block>>>,
    enforcer: Option<Enforcer>,
}

impl Rig {
    fn start(namespace: &Namespace) -> Result<Self> {
        // Threads and processes are in the namespace of who starts them.
        let runtime = namespace.inside(|| {
            let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
            runtime.block_on(async { tokio::spawn(async {}).await })?;
            anyhow::Ok(runtime)
        })??;
        let (blocks, receiver) = watch::channel(Arc::new(Vec::new()));
        let enforcer = {
            let _entered = runtime.enter();
            nftables::start(receiver, Arc::new(now))
        };
        Ok(Self { runtime, blocks, enforcer: Some(enforcer) })
    }

    fn enforce(&mut self, blocks: Vec<Block>) -> Result<()> {
        let enforcer = self.enforcer.as_ref().context("it has been stopped")?;
        let before = until("the first state", SOON, || enforcer.health().applied)?;
        let count = blocks.len();
        self.blocks.send_replace(Arc::new(blocks));
        let done = || (enforcer.health().applied > Some(before) || enforcer.health().error.is_some()).then_some(());
        until("a new state", SOON, done)?;
        let health = enforcer.health();
        ensure!(health.error.is_none() && health.blocks == count, "{health:?}");
        Ok(())
    }

    fn stop(&mut self) {
        if let Some(enforcer) = self.enforcer.take() {
            self.runtime.block_on(enforcer.stop());
        }
    }
}

/// Packets from a port of the client to one of the server, and back.
struct Path {
    client: UdpSocket,
    server: UdpSocket,
}

impl Path {
    fn new(pair: &Pair, from: &str, to: &str, port: u16) -> Result<Self> {
        let bind = |namespace: &Namespace, addr: &str, port: u16| -> Result<UdpSocket> {
            let addr = SocketAddr::new(addr.parse()?, port);
            let socket = namespace.inside(|| UdpSocket::bind(addr))??;
            socket.set_read_timeout(Some(Duration::from_millis(150)))?;
            Ok(socket)
        };
        let (client, server) = (bind(&pair.client, from, 0)?, bind(&pair.server, to, port)?);
        client.connect(server.local_addr()?)?;
        server.connect(client.local_addr()?)?;
        Ok(Self { client, server })
    }

    fn passes(&self) -> Result<bool> {
        Ok(self.burst(1)? == 1)
    }

    /// How many packets arrive.
    fn burst(&self, packets: usize) -> Result<usize> {
        for _ in 0..packets {
            self.client.send(b"x")?;
        }
        arrived(&self.server)
    }

    /// Whether the client hears of the server.
    fn answers(&self) -> Result<bool> {
        match self.server.send(b"x") {
            Ok(_) => Ok(arrived(&self.client)? == 1),
            // What the hook of outgoing packets drops.
            Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

fn arrived(socket: &UdpSocket) -> Result<usize> {
    let mut packets = 0;
    loop {
        match socket.recv(&mut [0; 8]) {
            Ok(_) => packets += 1,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Ok(packets),
            Err(error) => return Err(error.into()),
        }
    }
}

fn tables(namespace: &Namespace) -> Result<String> {
    Ok(namespace.run("nft", &["list", "tables"], SOON)?.stdout.trim().to_owned())
}

fn peer(addr: &str, prefix: u8, scope: Scope, span: Duration) -> Block {
    let since = event_time(now());
    Block {
        target: Target::Peer { network: Network::new(addr.parse().expect("an address"), prefix), scope },
        measure: Measure::Drop,
        enforced: true,
        since,
        until: since + span,
        by: Decider::Person("local:test".to_owned()),
        reason: String::new(),
    }
}

#[expect(clippy::disallowed_methods, reason = "the kernel goes by the real time")]
fn now() -> SystemTime {
    SystemTime::now()
}

/// A multiplicative congruential generator, so that a failure happens again.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u32) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        u32::try_from((self.0 >> 33) % u64::from(bound)).expect("less than the bound")
    }

    fn byte(&mut self, bound: u32) -> u8 {
        u8::try_from(self.below(bound)).expect("less than the bound")
    }

    fn block(&mut self) -> Block {
        let (c, d) = (self.below(4), self.below(256));
        let (addr, prefix) = match self.below(2) {
            0 => (format!("192.0.{c}.{d}"), 20 + self.byte(13)),
            _ => (format!("2001:db8::{c}:{d}"), 100 + self.byte(29)),
        };
        let port = u16::from(self.byte(4));
        let scope = match self.below(3) {
            0 => Scope::All,
            1 => Scope::Protocol(self.byte(255)),
            _ => Scope::Port { proto: self.byte(3), port },
        };
        let block = peer(&addr, prefix, scope, Duration::from_millis(u64::from(self.below(100_000))));
        let host = addr.parse().expect("an address");
        let target = if self.below(5) == 0 { Target::Requests { host, port } } else { block.target };
        let measure = if self.below(2) == 0 { Measure::Drop } else { Measure::Limit(self.below(2_000_000_000)) };
        Block { target, measure, since: Timestamp::EPOCH, ..block }
    }
}
