//! Who is never blocked, as this host knows it: read anew every few seconds.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

use sensor_core::net::Network;
use sensor_core::respond::Protection;

use crate::source::kernel::interface::own_addresses;

/// Where those who keep sessions write down who works from where.
const SESSIONS: &str = "/run/systemd/sessions";
const UTMP: [&str; 2] = ["/run/utmp", "/var/run/utmp"];
/// Where it is said who is asked for names.
const RESOLVERS: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];

/// What does not change while the sensor runs.
#[derive(Clone, Debug, Default)]
pub struct Guards {
    /// Networks of the configuration.
    pub configured: Vec<Network>,
    /// What `SSH_CONNECTION` says: who has started this sensor from elsewhere.
    pub starter: Option<IpAddr>,
}

impl Guards {
    /// What `SSH_CONNECTION` says of: client address, client port, server address, server port.
    #[must_use]
    pub fn ssh_client(connection: &str) -> Option<IpAddr> {
        address(connection.split_whitespace().next()?)
    }

    /// Everybody, by reason. What cannot be read protects nobody.
    #[must_use]
    pub fn read(&self, receivers: impl Iterator<Item = IpAddr>) -> Vec<(Protection, Vec<Network>)> {
        let single = |addrs: BTreeSet<IpAddr>| -> Vec<Network> {
            let usable = addrs.into_iter().filter(|addr| !addr.is_unspecified());
            usable.map(|addr| Network::new(addr.to_canonical(), u8::MAX)).collect()
        };
        let text = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let mut gateways = gateways_v4(&text("/proc/net/route"));
        gateways.extend(gateways_v6(&text("/proc/net/ipv6_route")));
        let resolvers = RESOLVERS.iter().flat_map(|path| nameservers(&text(path))).collect();
        let mut sessions: BTreeSet<IpAddr> = sessions(Path::new(SESSIONS));
        sessions.extend(UTMP.iter().flat_map(|path| utmp(&fs::read(path).unwrap_or_default())));
        sessions.extend(self.starter);
        vec![
            (Protection::Own, single(own_addresses().unwrap_or_default().into_iter().collect())),
            (Protection::Gateway, single(gateways.into_iter().collect())),
            (Protection::Resolver, single(resolvers)),
            (Protection::Session, single(sessions)),
            (Protection::Receiver, single(receivers.collect())),
            (Protection::Configured, self.configured.clone()),
        ]
    }
}

fn address(text: &str) -> Option<IpAddr> {
    // An address of a link may name it: fe80::1%eth0.
    text.split('%').next()?.parse().ok()
}

/// `/proc/net/route`: Iface Destination Gateway ..., the latter in the order of this processor.
fn gateways_v4(table: &str) -> Vec<IpAddr> {
    let gateway = |line: &str| u32::from_str_radix(line.split_whitespace().nth(2)?, 16).ok();
    let found = table.lines().skip(1).filter_map(gateway).filter(|gateway| *gateway != 0);
    found.map(|gateway| IpAddr::V4(Ipv4Addr::from(gateway.to_ne_bytes()))).collect()
}

/// `/proc/net/ipv6_route`: destination, its length, source, its length, next hop, ...
fn gateways_v6(table: &str) -> Vec<IpAddr> {
    let gateway = |line: &str| u128::from_str_radix(line.split_whitespace().nth(4)?, 16).ok();
    let found = table.lines().filter_map(gateway).filter(|gateway| *gateway != 0);
    found.map(|gateway| IpAddr::V6(Ipv6Addr::from_bits(gateway))).collect()
}

fn nameservers(text: &str) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then_some(())?;
        address(words.next()?)
    };
    text.lines().filter_map(server).collect()
}

/// The files of systemd-logind: `REMOTE_HOST=192.0.2.7`.
fn sessions(dir: &Path) -> BTreeSet<IpAddr> {
    let files = fs::read_dir(dir).into_iter().flatten().filter_map(|entry| fs::read_to_string(entry.ok()?.path()).ok());
    files.filter_map(|text| address(text.lines().find_map(|line| line.strip_prefix("REMOTE_HOST="))?)).collect()
}

/// Records of utmp(5): those of user processes with the address of a remote host.
fn utmp(octets: &[u8]) -> Vec<IpAddr> {
    const RECORD: usize = 384;
    const USER_PROCESS: [u8; 2] = 7_u16.to_ne_bytes();
    const ADDRESS: usize = 348;
    let records = octets.chunks_exact(RECORD).filter(|record| record[..2] == USER_PROCESS);
    let found = records.filter_map(|record| {
        let addr: [u8; 16] = record[ADDRESS..ADDRESS + 16].try_into().ok()?;
        let [a, b, c, d, rest @ ..] = addr;
        let v4 = rest.iter().all(|octet| *octet == 0);
        let addr = if v4 { IpAddr::from([a, b, c, d]) } else { IpAddr::from(addr).to_canonical() };
        (!addr.is_unspecified()).then_some(addr)
    });
    found.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addrs(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    #[test]
    fn files_of_the_system_say_who_is_needed() {
        let routes =
            "Iface\tDestination\tGateway \tFlags\neth0\t00000000\t010200C0\t0003\neth0\t000200C0\t00000000\t0001\n";
        let expected = if cfg!(target_endian = "little") { "192.0.2.1" } else { "1.2.0.192" };
        assert_eq!(gateways_v4(routes), addrs(&[expected]));
        let zero = "0".repeat(32);
        let routes = format!(
            "{zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 1 0 00000003 eth0\n{zero} 00 {zero} 00 {zero} 0 1 0 0 lo\n"
        );
        assert_eq!(gateways_v6(&routes), addrs(&["fe80::1"]));
        let resolv = "# comment\nnameserver 9.9.9.9\nnameserver fe80::1%eth0\nsearch example.org\nnameserver x\n";
        assert_eq!(nameservers(resolv), addrs(&["9.9.9.9", "fe80::1"]));
        assert_eq!(Guards::ssh_client("192.0.2.7 51234 192.0.2.1 22"), Some("192.0.2.7".parse().unwrap()));
        assert_eq!(Guards::ssh_client(""), None);
    }

    #[test]
    fn sessions_from_elsewhere_are_known() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("1"), "UID=0\nREMOTE=1\nREMOTE_HOST=192.0.2.7\nACTIVE=1\n").unwrap();
        fs::write(dir.path().join("2"), "UID=0\nREMOTE=0\n").unwrap();
        assert_eq!(sessions(dir.path()).into_iter().collect::<Vec<_>>(), addrs(&["192.0.2.7"]));
        let record = |kind: u16, addr: &[u8]| {
            let mut record = [0; 384];
            record[..2].copy_from_slice(&kind.to_ne_bytes());
            record[348..][..addr.len()].copy_from_slice(addr);
            record
        };
        let v6: Ipv6Addr = "2001:db8::7".parse().unwrap();
        let file = [record(7, &[192, 0, 2, 8]), record(8, &[192, 0, 2, 9]), record(7, &v6.octets()), record(7, &[])];
        assert_eq!(utmp(&file.concat()), addrs(&["192.0.2.8", "2001:db8::7"]));
        assert!(utmp(b"short").is_empty());
    }

    #[test]
    fn this_host_protects_itself() {
        let guards = Guards { configured: vec!["10.0.0.0/8".parse().unwrap()], starter: "192.0.2.7".parse().ok() };
        let read = guards.read(addrs(&["198.51.100.1"]).into_iter());
        let of = |kind| &read.iter().find(|(one, _)| *one == kind).unwrap().1;
        assert!(of(Protection::Own).contains(&"127.0.0.1".parse().unwrap()));
        assert!(of(Protection::Session).contains(&"192.0.2.7".parse().unwrap()));
        assert_eq!(of(Protection::Receiver), &["198.51.100.1".parse().unwrap()]);
        assert_eq!(of(Protection::Configured), &["10.0.0.0/8".parse().unwrap()]);
    }
}
