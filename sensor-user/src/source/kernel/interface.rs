//! Network interfaces: which one to watch, and what is known of it.

use std::collections::BTreeSet;
use std::fmt;
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

use anyhow::{Context as _, Result, bail};

use super::namespace::{Namespace, NamespaceId};
use super::rtnetlink::{Link, Lister};

/// An interface that exists, or did when it was listed.
#[derive(Clone, Debug)]
pub struct Interface {
    /// Where it is.
    pub namespace: Namespace,
    /// What was listed.
    pub link: Link,
}

/// What tells an interface from all others, whatever it is called.
pub type InterfaceId = (NamespaceId, u32);

const ARPHRD_ETHER: u16 = 1;
const ARPHRD_LOOPBACK: u16 = 772;

impl Interface {
    /// Looks an interface of this thread's namespace up by name.
    ///
    /// # Errors
    /// When there is none; the message lists those that exist.
    pub fn find(name: &str) -> Result<Self> {
        let links = links()?;
        match links.iter().find(|link| link.name == name) {
            Some(link) => Ok(Self { namespace: Namespace::current()?, link: link.clone() }),
            None => bail!("there is no interface {name:?}; there are: {}", names(&links)),
        }
    }

    /// The interface of the default route, IPv4 before IPv6, lowest metric first.
    ///
    /// # Errors
    /// When there is no default route.
    pub fn of_default_route() -> Result<Self> {
        let v4 = fs::read_to_string("/proc/net/route").unwrap_or_default();
        let v6 = fs::read_to_string("/proc/net/ipv6_route").unwrap_or_default();
        match default_route_v4(&v4).or_else(|| default_route_v6(&v6)) {
            Some(name) => Self::find(&name),
            None => bail!(
                "there is no default route to tell which interface to watch; choose with --interface one of: {}",
                names(&links()?)
            ),
        }
    }

    /// What tells it from all others.
    #[must_use]
    pub fn id(&self) -> InterfaceId {
        (self.namespace.id(), self.link.index)
    }

    /// Refuses interfaces without an Ethernet header (tun, wireguard, ppp).
    ///
    /// # Errors
    /// When frames of this interface do not begin with an Ethernet header.
    pub fn require_ethernet(&self) -> Result<()> {
        if self.link.is_ethernet() {
            return Ok(());
        }
        bail!(
            "{self} carries no Ethernet frames (type {}); watch the physical interface below it instead",
            self.link.hardware
        )
    }

    /// The driver, where sysfs tells: it shows the namespace of the sensor only.
    #[must_use]
    pub fn driver(&self) -> Option<String> {
        if self.namespace.name().is_some() {
            return None;
        }
        let link = fs::read_link(Path::new("/sys/class/net").join(&self.link.name).join("device/driver")).ok()?;
        Some(link.file_name()?.to_string_lossy().into_owned())
    }

    /// The beginning of an `ip` command in its namespace.
    #[must_use]
    pub fn ip(&self) -> String {
        self.namespace.name().map_or_else(|| "ip".to_owned(), |namespace| format!("ip -n {namespace}"))
    }
}

/// As it is written in the configuration.
impl fmt::Display for Interface {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(namespace) = self.namespace.name() {
            write!(f, "{namespace}:")?;
        }
        f.write_str(&self.link.name)
    }
}

impl Link {
    /// Whether its frames begin with an Ethernet header.
    #[must_use]
    pub const fn is_ethernet(&self) -> bool {
        matches!(self.hardware, ARPHRD_ETHER | ARPHRD_LOOPBACK)
    }

    /// Whether it is `lo`.
    #[must_use]
    pub const fn is_loopback(&self) -> bool {
        self.hardware == ARPHRD_LOOPBACK
    }
}

/// Names of links, for people to choose from.
#[must_use]
pub fn names(links: &[Link]) -> String {
    let mut names: Vec<&str> = links.iter().map(|link| link.name.as_str()).collect();
    names.sort_unstable();
    names.join(", ")
}

/// Addresses of this host, on all interfaces.
///
/// # Errors
/// When the kernel does not list them.
pub fn own_addresses() -> io::Result<BTreeSet<IpAddr>> {
    Ok(Lister::open_here()?.addresses()?.0)
}

fn links() -> Result<Vec<Link>> {
    Lister::open_here().and_then(|mut lister| lister.list()).context("list network interfaces")
}

/// `/proc/net/route`: Iface Destination Gateway Flags RefCnt Use Metric Mask ...
fn default_route_v4(table: &str) -> Option<String> {
    table
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (&name, &destination, &metric, &mask) =
                (fields.first()?, fields.get(1)?, fields.get(6)?, fields.get(7)?);
            (destination == "00000000" && mask == "00000000").then_some((metric.parse::<u32>().ok()?, name))
        })
        .min_by_key(|&(metric, _)| metric)
        .map(|(_, name)| name.to_owned())
}

/// `/proc/net/ipv6_route`: destination prefix-length source prefix-length next-hop metric refcnt use flags name
fn default_route_v6(table: &str) -> Option<String> {
    table
        .lines()
        .filter_map(|line| {
            let fields: Vec<&str> = line.split_whitespace().collect();
            let (&prefix, &metric, &name) = (fields.get(1)?, fields.get(5)?, fields.get(9)?);
            let all_zero = fields.first()?.bytes().all(|digit| digit == b'0');
            let metric = u32::from_str_radix(metric, 16).ok()?;
            (all_zero && prefix == "00" && name != "lo").then_some((metric, name))
        })
        .min_by_key(|&(metric, _)| metric)
        .map(|(_, name)| name.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn default_route_has_the_lowest_metric() {
        let table = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\n\
                     wlan0\t00000000\t0102A8C0\t0003\t0\t0\t600\t00000000\n\
                     eth0\t00000000\t0102A8C0\t0003\t0\t0\t100\t00000000\n\
                     eth0\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\n";
        assert_eq!(default_route_v4(table).as_deref(), Some("eth0"));
        assert_eq!(default_route_v4("Iface\n"), None);
    }

    #[test]
    fn ipv6_default_route_is_not_the_loopback_reject() {
        let zero = "0".repeat(32);
        let table = format!(
            "{zero} 00 {zero} 00 {zero} ffffffff 00000001 00000000 00200200       lo\n\
             {zero} 00 {zero} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     eth1\n"
        );
        assert_eq!(default_route_v6(&table).as_deref(), Some("eth1"));
    }

    #[test]
    fn a_missing_interface_is_named_with_those_that_exist() {
        let error = Interface::find("nosuch0").unwrap_err().to_string();
        assert!(error.contains("nosuch0") && error.contains("lo"), "{error}");
    }
}
