//! A name server for made-up names.

use anyhow::Result;

use super::{Transport, own_program, ready};
use crate::netns::Namespace;
use crate::process::Guard;

/// A name server: every name has the address 192.0.2.1, except those under `nx.`, which do not exist.
#[derive(Debug)]
pub struct Dns {
    _server: Guard,
}

impl Dns {
    /// Serves on port 53 of all IPv4 addresses of a namespace.
    ///
    /// # Errors
    /// When the port is taken.
    pub fn start(namespace: &Namespace) -> Result<Self> {
        Self::start_at(namespace, "0.0.0.0")
    }

    /// As [`Dns::start`], on one address: where there are several, answers come from it only.
    ///
    /// # Errors
    /// As [`Dns::start`].
    pub fn start_at(namespace: &Namespace, address: &str) -> Result<Self> {
        let program = own_program("fake_dns")?;
        let mut server = namespace.spawn(&program.to_string_lossy(), &[&format!("{address}:53")])?;
        ready(&mut server, namespace, Transport::Udp, 53)?;
        Ok(Self { _server: server })
    }
}
