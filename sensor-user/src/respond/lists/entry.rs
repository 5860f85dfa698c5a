//! One entry of a list: an address, a network in CIDR notation, or a range.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, IpSubnets, Ipv4Net, Ipv4Subnets, Ipv6Net, Ipv6Subnets};

/// No wider IPv4 network is taken: a slip in a list must not cut off a part of the Internet.
const WIDEST_V4: u8 = 8;
/// No wider IPv6 network is.
const WIDEST_V6: u8 = 16;
/// `::ffff:0:0/96`, where IPv4 is.
const MAPPED: Ipv6Addr = Ipv4Addr::UNSPECIFIED.to_ipv6_mapped();

/// Why an entry is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// It is none.
    Bad,
    /// It is wider than any network of this size should be.
    TooWide,
}

/// The networks of an entry, to which `take` is called.
///
/// # Errors
/// The [`Flaw`]; then nothing was taken.
pub fn read(text: &str, mut take: impl FnMut(IpNet)) -> Result<(), Flaw> {
    if let Some((first, last)) = text.split_once('-') {
        let parts = range(first.trim_end(), last.trim_start()).ok_or(Flaw::Bad)?;
        for part in parts {
            narrow(part)?;
        }
        for part in parts {
            take(narrow(part)?);
        }
        return Ok(());
    }
    let net = match text.parse::<IpAddr>() {
        Ok(addr) => IpNet::from(addr),
        Err(_) => text.parse::<IpNet>().map_err(|_| Flaw::Bad)?.trunc(),
    };
    take(narrow(net)?);
    Ok(())
}

fn range(first: &str, last: &str) -> Option<IpSubnets> {
    match (first.parse().ok()?, last.parse().ok()?) {
        (IpAddr::V4(first), IpAddr::V4(last)) if first <= last => Some(IpSubnets::V4(Ipv4Subnets::new(first, last, 0))),
        (IpAddr::V6(first), IpAddr::V6(last)) if first <= last => Some(IpSubnets::V6(Ipv6Subnets::new(first, last, 0))),
        (IpAddr::V4(_) | IpAddr::V6(_), IpAddr::V4(_) | IpAddr::V6(_)) => None,
    }
}

/// The network, if it is not too wide; what is mapped into IPv6 is IPv4.
fn narrow(net: IpNet) -> Result<IpNet, Flaw> {
    match net {
        IpNet::V4(net) if net.prefix_len() >= WIDEST_V4 => Ok(IpNet::V4(net)),
        IpNet::V4(_) => Err(Flaw::TooWide),
        IpNet::V6(net) => match unmapped(net) {
            Some(net) => narrow(IpNet::V4(net)),
            None if net.prefix_len() >= WIDEST_V6 && !net.contains(&MAPPED) => Ok(IpNet::V6(net)),
            None => Err(Flaw::TooWide),
        },
    }
}

fn unmapped(net: Ipv6Net) -> Option<Ipv4Net> {
    let prefix = net.prefix_len().checked_sub(96)?;
    Ipv4Net::new(net.network().to_ipv4_mapped()?, prefix).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nets(text: &str) -> Result<String, Flaw> {
        let mut nets = Vec::new();
        read(text, |net| nets.push(net.to_string()))?;
        Ok(nets.join(" "))
    }

    #[test]
    fn entries_are_networks() {
        for (text, expected) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.0/24", "192.0.2.0/24"),
            ("192.0.2.7/24", "192.0.2.0/24"),
            ("10.0.0.0/8", "10.0.0.0/8"),
            ("2001:db8::1", "2001:db8::1/128"),
            ("2001:db8::/32", "2001:db8::/32"),
            ("::ffff:192.0.2.7", "192.0.2.7/32"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
            ("192.0.2.1-192.0.2.6", "192.0.2.1/32 192.0.2.2/31 192.0.2.4/31 192.0.2.6/32"),
            ("192.0.2.0 - 192.0.2.255", "192.0.2.0/24"),
            ("192.0.2.7-192.0.2.7", "192.0.2.7/32"),
            ("2001:db8:: - 2001:db8::1:ffff", "2001:db8::/111"),
            ("255.255.255.254-255.255.255.255", "255.255.255.254/31"),
        ] {
            assert_eq!(nets(text).as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_entry_or_too_much_is_left_out_as_a_whole() {
        for text in [
            "",
            "example.org",
            "192.0.2",
            "192.0.2.256",
            "192.0.2.0/33",
            "192.0.2.007",
            "127.0.0.1 localhost",
            "192.0.2.9-192.0.2.1",
            "192.0.2.1-2001:db8::1",
            "192.0.2.1-",
            "-",
            "192.0.2.0/255.255.255.0",
            "fe80::1%eth0",
        ] {
            assert_eq!(nets(text), Err(Flaw::Bad), "{text}");
        }
        for text in [
            "0.0.0.0/0",
            "128.0.0.0/7",
            "::/0",
            "2000::/15",
            "::/16",
            "::ffff:0:0/96",
            "::ffff:0:0/95",
            "::fffe:0:0/95",
            "::ffff:64.0.0.0/98",
            "0.0.0.0-255.255.255.255",
            "192.0.2.1-255.0.0.0",
            "::ffff:0.0.0.1-::ffff:200.0.0.0",
            "::-::1:0:0:0",
        ] {
            assert_eq!(nets(text), Err(Flaw::TooWide), "{text}");
        }
    }

    proptest! {
        #[test]
        fn a_range_is_its_networks_and_no_more(first in any::<u32>(), length in 0_u32..100_000) {
            let (first, last) = (Ipv4Addr::from(first), Ipv4Addr::from(first.saturating_add(length)));
            let mut expected = u32::from(first);
            let mut over = false;
            read(&format!("{first}-{last}"), |net| {
                let IpNet::V4(net) = net else { panic!("{net}") };
                assert!(!over && u32::from(net.network()) == expected);
                (expected, over) = u32::from(net.broadcast()).overflowing_add(1);
            }).unwrap();
            prop_assert_eq!(expected.wrapping_sub(1), u32::from(last));
        }

        #[test]
        fn no_text_is_a_wide_network(text in "([0-9a-f:.]{0,20}[-/ ]{0,1}){0,2}[0-9]{0,3}") {
            let _ = read(&text, |net| {
                let wide = match net {
                    IpNet::V4(net) => net.prefix_len() < 8,
                    IpNet::V6(net) => net.prefix_len() < 16 || net.contains(&MAPPED),
                };
                assert!(!wide, "{net}");
            });
        }
    }
}
