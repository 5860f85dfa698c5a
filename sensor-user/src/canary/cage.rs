//! Where canaries fly: a network namespace with nothing but a loopback.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::RangeInclusive;
use std::os::fd::AsRawFd as _;
use std::sync::mpsc::{Receiver, sync_channel};
use std::thread;
use std::time::Duration;

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, SockaddrIn, bind, connect, socket};

use crate::source::kernel::KernelSource;
use crate::source::kernel::attach::{EgressChoice, XdpChoice};
use crate::source::kernel::interface::Interface;
use crate::source::kernel::namespace::Namespace;
use crate::source::kernel::rtnetlink::Lister;

/// A namespace whose loopback is watched.
#[derive(Clone, Debug)]
pub struct Cage {
    lo: Interface,
    client: Ipv4Addr,
    server: Ipv4Addr,
}

/// When packets were sent, by the stopwatch.
#[derive(Clone, Copy, Debug)]
pub struct Flown {
    /// Before the first.
    pub began: Duration,
    /// After the last.
    pub ended: Duration,
}

impl Cage {
    /// The first port that may be scanned. Nothing listens in the cage.
    pub(super) const FIRST_PORT: u16 = 20_000;

    /// Makes one, and has it watched. `seed` chooses the marked addresses: who knows it could hide behind them.
    ///
    /// # Errors
    /// Without the rights to make a network namespace, or when the programs cannot be attached.
    pub fn make(source: &mut KernelSource, seed: u64) -> Result<Self> {
        let namespace = Namespace::create()?;
        let lo = namespace.inside(|| {
            let lo = Interface::find("lo")?;
            Lister::open_here()
                .and_then(|mut lister| lister.bring_up(lo.link.index))
                .context("bring up its loopback")?;
            anyhow::Ok(lo)
        })??;
        // What leaves by a loopback comes in by it: seen once is enough.
        source.attach(&lo, XdpChoice::Off, EgressChoice::Off).context("watch the canary's loopback")?;
        let [client, server] = marks(seed);
        Ok(Self { lo, client, server })
    }

    /// Watches it no longer.
    pub fn leave(&self, source: &mut KernelSource) {
        source.detach_from(self.lo.id());
    }

    /// Who scans, and who is scanned.
    #[must_use]
    pub const fn marks(&self) -> (Ipv4Addr, Ipv4Addr) {
        (self.client, self.server)
    }

    /// Asks these ports for a connection, on a thread of its own, after a delay. None of them is open.
    pub(super) fn scan(
        &self,
        ports: RangeInclusive<u16>,
        delay: Duration,
        stopwatch: fn() -> Duration,
    ) -> Result<Receiver<Result<Flown>>> {
        let (tell, told) = sync_channel(1);
        let cage = self.clone();
        let flight = move || {
            thread::sleep(delay);
            let flown = cage.lo.namespace.inside(|| {
                let began = stopwatch();
                for port in ports {
                    cage.probe(port).context("ask for a connection")?;
                }
                Ok(Flown { began, ended: stopwatch() })
            });
            // Nobody listens when the sensor has stopped.
            let _ = tell.send(flown.and_then(|flown| flown).context("send the packets of the canary"));
        };
        thread::Builder::new().name("canary".to_owned()).spawn(flight).context("start a thread for the canary")?;
        Ok(told)
    }

    fn probe(&self, port: u16) -> nix::Result<()> {
        let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
        let socket = socket(AddressFamily::Inet, SockType::Stream, flags, None)?;
        bind(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(self.client, 0)))?;
        match connect(socket.as_raw_fd(), &SockaddrIn::from(SocketAddrV4::new(self.server, port))) {
            Ok(()) | Err(Errno::EINPROGRESS | Errno::ECONNREFUSED) => Ok(()),
            Err(errno) => Err(errno),
        }
    }
}

/// Two addresses of 127.0.0.0/8, neither of which is anybody's usual one.
fn marks(seed: u64) -> [Ipv4Addr; 2] {
    let [a, b, c, d, e, f, ..] = seed.to_le_bytes();
    [Ipv4Addr::new(127, a | 0x80, b, c | 1), Ipv4Addr::new(127, d & 0x7f | 0x40, e, f | 1)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_marks_are_two_addresses_of_the_loopback() {
        for seed in [0, u64::MAX, 0x0123_4567_89ab_cdef] {
            let [client, server] = marks(seed);
            assert!(client.is_loopback() && server.is_loopback());
            assert_ne!(client, server);
            assert_ne!(server, Ipv4Addr::LOCALHOST);
        }
    }
}
