//! Traffic for which there is no tool to be had: calls in a rhythm, answers that nobody asked for, long names.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::thread::{scope, sleep};
use std::time::Duration;

use anyhow::{Context as _, Result};
use support::{Load, Namespace, Pace};

const QUICK: Duration = Duration::from_secs(5);

/// The times between calls.
#[derive(Clone, Copy)]
pub enum Gaps {
    /// They differ by up to a fifth from this.
    Steady(Duration),
    /// Calls come at any time, this one apart on average.
    AnyTime(Duration),
}

impl Gaps {
    fn draw(self, random: &mut Random) -> Duration {
        match self {
            Self::Steady(interval) => interval.mul_f64(0.8 + 0.4 * random.unit()),
            Self::AnyTime(mean) => mean.mul_f64((-(1.0 - random.unit()).ln()).min(4.0)),
        }
    }
}

/// Connections from one namespace to a service in the other: `octets` there, 300 back.
pub fn calls(
    from: &Namespace,
    to: &Namespace,
    service: (&str, u16),
    count: u32,
    gaps: Gaps,
    octets: usize,
) -> Result<()> {
    let listener = to.inside(|| TcpListener::bind(service)).flatten_io().context("listen for calls")?;
    scope(|threads| {
        threads.spawn(move || {
            for stream in listener.incoming().take(count as usize) {
                // A caller that is gone is noticed by the caller.
                let _ = stream.and_then(answer);
            }
        });
        let mut random = Random(1);
        let called = from.inside(|| -> std::io::Result<()> {
            for _ in 0..count {
                let mut stream = TcpStream::connect(service)?;
                stream.set_read_timeout(Some(QUICK))?;
                stream.write_all(&vec![b'u'; octets])?;
                stream.shutdown(Shutdown::Write)?;
                stream.read_to_end(&mut Vec::new())?;
                sleep(gaps.draw(&mut random));
            }
            Ok(())
        });
        called.flatten_io().context("call")
    })
}

/// Thousands of connections a second to a web server, for so many seconds.
pub fn connections(from: &Namespace, (host, port): (&str, u16), asks: bool, seconds: u64) -> Result<()> {
    let per_second = if asks { 3000 } else { 4000 };
    let pace = Pace { per_second, threads: 32, patience: Duration::from_millis(500), asks };
    // They must not use up the ports of the client.
    from.sysctl("net/ipv4/tcp_max_tw_buckets", "0")?;
    from.sysctl("net/ipv4/ip_local_port_range", "1024 65000")?;
    let load = Load::start(from, SocketAddr::new(host.parse()?, port), pace)?;
    sleep(Duration::from_secs(seconds));
    let counts = load.stop();
    eprintln!("{} connections, {} in vain", counts.served, counts.failed);
    Ok(())
}

fn answer(mut stream: TcpStream) -> std::io::Result<()> {
    stream.set_read_timeout(Some(QUICK))?;
    stream.read_to_end(&mut Vec::new())?;
    stream.write_all(&[b'd'; 300])
}

/// Who gives the answers of [`answers`].
pub fn reflectors() -> impl Iterator<Item = Ipv4Addr> {
    (101..=120).map(|last| Ipv4Addr::new(198, 51, 100, last))
}

/// Long datagrams from port 53 of many addresses, about 5,000 a second.
pub fn answers(from: &Namespace, to: &str, count: u32) -> Result<()> {
    let sent = from.inside(|| -> std::io::Result<()> {
        let sockets: Vec<UdpSocket> =
            reflectors().map(|address| UdpSocket::bind((address, 53))).collect::<std::io::Result<_>>()?;
        for (number, socket) in (0..count).zip(sockets.iter().cycle()) {
            // An ICMP error about an earlier one is no reason to stop.
            let _ = socket.send_to(&[0x81; 1200], (to, 40_000));
            if number % 50 == 49 {
                sleep(Duration::from_millis(10));
            }
        }
        Ok(())
    });
    sent.flatten_io().context("send answers")
}

/// Questions for names of 200 random characters, each from a port of its own.
pub fn long_names(from: &Namespace, resolver: &str, count: u32, interval: Duration) -> Result<()> {
    let mut random = Random(2);
    let asked = from.inside(|| -> std::io::Result<()> {
        for number in 0..count {
            let socket = UdpSocket::bind(("0.0.0.0", 0))?;
            socket.set_read_timeout(Some(QUICK))?;
            socket.send_to(&question(number, &mut random), (resolver, 53))?;
            socket.recv(&mut [0; 1500])?;
            sleep(interval);
        }
        Ok(())
    });
    asked.flatten_io().context("ask for names")
}

/// A query for an A record (RFC 1035) of four labels of 50 characters below `t.example.org`.
fn question(number: u32, random: &mut Random) -> Vec<u8> {
    let [.., high, low] = number.to_be_bytes();
    let mut query = vec![high, low, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for _ in 0..4 {
        query.push(50);
        query.extend((0..50).map(|_| b"abcdefghijklmnopqrstuvwxyz234567"[(random.next() >> 59) as usize]));
    }
    for label in ["t", "example", "org", ""] {
        query.push(u8::try_from(label.len()).unwrap_or_default());
        query.extend(label.bytes());
    }
    query.extend([0, 1, 0, 1]);
    query
}

/// SplitMix64: the same numbers at each run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// From 0 to 1.
    fn unit(&mut self) -> f64 {
        f64::from(u32::try_from(self.next() >> 32).unwrap_or_default()) / f64::from(u32::MAX)
    }
}

/// What happened inside a namespace, whether it is the entering or the acting that failed.
trait FlattenIo<T> {
    fn flatten_io(self) -> Result<T>;
}

impl<T> FlattenIo<T> for Result<std::io::Result<T>> {
    fn flatten_io(self) -> Result<T> {
        Ok(self??)
    }
}
