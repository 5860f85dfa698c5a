//! Who is never blocked, as this host knows it: read anew every few seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use sensor_core::net::Network;
use sensor_core::respond::Protection;
use tracing::warn;

use crate::config::interface::NamespaceName;
use crate::source::kernel::watch::Host;

/// Where those who keep sessions write down who works from where.
const SESSIONS: &str = "/run/systemd/sessions";
const UTMP: [&str; 2] = ["/run/utmp", "/var/run/utmp"];
/// Where it is said who is asked for names.
const RESOLVERS: [&str; 2] = ["/etc/resolv.conf", "/run/systemd/resolve/resolv.conf"];
/// Where iproute2 has what programs in a namespace of its own find in `/etc` (`ip-netns(8)`).
const OF_NAMESPACES: &str = "/etc/netns";

/// Reads who is never blocked, and remembers it for when it cannot be read.
#[derive(Debug, Default)]
pub struct Guards {
    configured: Vec<Network>,
    starter: Option<IpAddr>,
    /// What was read last, and whether it could not be read since.
    known: BTreeMap<PathBuf, (BTreeSet<IpAddr>, bool)>,
}

impl Guards {
    /// With the networks of the configuration, and who has started this sensor from elsewhere.
    #[must_use]
    pub fn new(configured: Vec<Network>, starter: Option<IpAddr>) -> Self {
        Self { configured, starter, known: BTreeMap::new() }
    }

    /// What `SSH_CONNECTION` says of: client address, client port, server address, server port.
    #[must_use]
    pub fn ssh_client(connection: &str) -> Option<IpAddr> {
        address(connection.split_whitespace().next()?)
    }

    /// Everybody, by reason. What is not there protects nobody; what cannot be read protects whom it did before.
    pub fn read(&mut self, hosts: &[Host], receivers: impl Iterator<Item = IpAddr>) -> Vec<(Protection, Vec<Network>)> {
        let single = |addrs: BTreeSet<IpAddr>| -> Vec<Network> {
            let usable = addrs.into_iter().filter(|addr| !addr.is_unspecified());
            usable.map(|addr| Network::new(addr.to_canonical(), u8::MAX)).collect()
        };
        let of_hosts = |kind: fn(&Host) -> &BTreeSet<IpAddr>| single(hosts.iter().flat_map(kind).copied().collect());
        let named = hosts.iter().filter_map(|host| host.namespace.as_ref());
        let resolvers = RESOLVERS.into_iter().map(PathBuf::from).chain(named.map(resolvers_of));
        let resolvers = resolvers.flat_map(|path| self.file(path, nameservers)).collect();
        let mut sessions = self.remember(SESSIONS.into(), sessions(Path::new(SESSIONS)));
        sessions.extend(UTMP.into_iter().flat_map(|path| self.file(path.into(), utmp)));
        sessions.extend(self.starter);
        vec![
            (Protection::Own, of_hosts(|host| &host.addresses)),
            (Protection::Gateway, of_hosts(|host| &host.gateways)),
            (Protection::Resolver, single(resolvers)),
            (Protection::Session, single(sessions)),
            (Protection::Receiver, single(receivers.collect())),
            (Protection::Configured, self.configured.clone()),
        ]
    }

    fn file(&mut self, path: PathBuf, parse: fn(&[u8]) -> Vec<IpAddr>) -> BTreeSet<IpAddr> {
        let read = fs::read(&path).map(|octets| parse(&octets).into_iter().collect());
        self.remember(path, read)
    }

    fn remember(&mut self, path: PathBuf, read: io::Result<BTreeSet<IpAddr>>) -> BTreeSet<IpAddr> {
        let name = path.display().to_string();
        let (known, failed) = self.known.entry(path).or_default();
        match read {
            Ok(found) => (*known, *failed) = (found, false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => (*known, *failed) = (BTreeSet::new(), false),
            Err(error) => {
                if !std::mem::replace(failed, true) {
                    warn!(path = name, %error, "cannot read who is never blocked; those known before still are not");
                }
            }
        }
        known.clone()
    }
}

fn resolvers_of(namespace: &NamespaceName) -> PathBuf {
    Path::new(OF_NAMESPACES).join(namespace.as_str()).join("resolv.conf")
}

fn address(text: &str) -> Option<IpAddr> {
    // An address of a link may name it: fe80::1%eth0.
    text.split('%').next()?.parse().ok()
}

fn nameservers(octets: &[u8]) -> Vec<IpAddr> {
    let server = |line: &str| {
        let mut words = line.split_whitespace();
        (words.next()? == "nameserver").then_some(())?;
        address(words.next()?)
    };
    String::from_utf8_lossy(octets).lines().filter_map(server).collect()
}

/// The files of systemd-logind: `REMOTE_HOST=192.0.2.7`.
fn sessions(dir: &Path) -> io::Result<BTreeSet<IpAddr>> {
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(dir)? {
        match fs::read_to_string(entry?.path()) {
            Ok(text) => found.extend(text.lines().find_map(|line| address(line.strip_prefix("REMOTE_HOST=")?))),
            // A session that has ended meanwhile, or that is not told of.
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(found)
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
        let resolv = b"# comment\nnameserver 9.9.9.9\nnameserver fe80::1%eth0\nsearch example.org\nnameserver x\n";
        assert_eq!(nameservers(resolv), addrs(&["9.9.9.9", "fe80::1"]));
        let blue = NamespaceName::new("blue").unwrap();
        assert_eq!(resolvers_of(&blue), Path::new("/etc/netns/blue/resolv.conf"));
        assert_eq!(Guards::ssh_client("192.0.2.7 51234 192.0.2.1 22"), Some("192.0.2.7".parse().unwrap()));
        assert_eq!(Guards::ssh_client(""), None);
    }

    #[test]
    fn sessions_from_elsewhere_are_known() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("1"), "UID=0\nREMOTE=1\nREMOTE_HOST=192.0.2.7\nACTIVE=1\n").unwrap();
        fs::write(dir.path().join("2"), "UID=0\nREMOTE=0\n").unwrap();
        assert_eq!(sessions(dir.path()).unwrap().into_iter().collect::<Vec<_>>(), addrs(&["192.0.2.7"]));
        let record = |kind: u16, addr: &[u8]| {
            let mut record = [0; 384];
            record[..2].copy_from_slice(&kind.to_ne_bytes());
            record[348..][..addr.len()].copy_from_slice(addr);
            record
        };
        let v6: std::net::Ipv6Addr = "2001:db8::7".parse().unwrap();
        let file = [record(7, &[192, 0, 2, 8]), record(8, &[192, 0, 2, 9]), record(7, &v6.octets()), record(7, &[])];
        assert_eq!(utmp(&file.concat()), addrs(&["192.0.2.8", "2001:db8::7"]));
        assert!(utmp(b"short").is_empty());
    }

    #[test]
    fn what_cannot_be_read_protects_whom_it_did_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("resolv.conf");
        let mut guards = Guards::default();
        let mut read = || guards.file(path.clone(), nameservers).into_iter().collect::<Vec<_>>();
        assert_eq!(read(), addrs(&[]));
        fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
        assert_eq!(read(), addrs(&["192.0.2.1"]));
        // A folder in its place is there, and cannot be read.
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert_eq!(read(), addrs(&["192.0.2.1"]));
        fs::remove_dir(&path).unwrap();
        fs::write(&path, "nameserver 192.0.2.2\n").unwrap();
        assert_eq!(read(), addrs(&["192.0.2.2"]));
        fs::remove_file(&path).unwrap();
        assert_eq!(read(), addrs(&[]), "it is not there");

        let path = dir.path().join("sessions");
        let mut read = || guards.remember(path.clone(), sessions(&path)).into_iter().collect::<Vec<_>>();
        fs::create_dir(&path).unwrap();
        fs::write(path.join("1"), "REMOTE_HOST=192.0.2.7\n").unwrap();
        assert_eq!(read(), addrs(&["192.0.2.7"]));
        fs::create_dir(path.join("2")).unwrap();
        assert_eq!(read(), addrs(&["192.0.2.7"]));
        fs::remove_file(path.join("1")).unwrap();
        fs::remove_dir(path.join("2")).unwrap();
        assert_eq!(read(), addrs(&[]));
    }

    #[test]
    fn hosts_protect_themselves_and_their_gateways() {
        let host = |namespace: Option<&str>, own: &[&str], gateways: &[&str]| Host {
            namespace: namespace.and_then(NamespaceName::new),
            addresses: addrs(own).into_iter().collect(),
            gateways: addrs(gateways).into_iter().collect(),
        };
        let hosts = [
            host(None, &["127.0.0.1", "203.0.113.1"], &["203.0.113.254", "0.0.0.0"]),
            host(Some("blue"), &["127.0.0.1", "10.0.0.2"], &["::ffff:10.0.0.1"]),
        ];
        let mut guards = Guards::new(vec!["10.0.0.0/8".parse().unwrap()], "192.0.2.7".parse().ok());
        let read = guards.read(&hosts, addrs(&["198.51.100.1"]).into_iter());
        let of = |kind| &read.iter().find(|(one, _)| *one == kind).unwrap().1;
        let networks = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<Network>>();
        assert_eq!(of(Protection::Own), &networks(&["10.0.0.2", "127.0.0.1", "203.0.113.1"]));
        assert_eq!(of(Protection::Gateway), &networks(&["203.0.113.254", "10.0.0.1"]));
        assert!(of(Protection::Session).contains(&"192.0.2.7".parse().unwrap()));
        assert_eq!(of(Protection::Receiver), &networks(&["198.51.100.1"]));
        assert_eq!(of(Protection::Configured), &networks(&["10.0.0.0/8"]));
    }
}
