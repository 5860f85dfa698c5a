//! Addresses, and gateways of routes (`linux/if_addr.h`, `linux/rtnetlink.h`).

use std::iter;
use std::net::IpAddr;

use super::{attributes, nested, u16_at, u32_at};

/// `struct ifaddrmsg`.
pub(super) const ADDRESS_HEADER: usize = 8;
/// `struct rtmsg`.
pub(super) const ROUTE_HEADER: usize = 12;

const IFA_ADDRESS: u16 = 1;
const IFA_LOCAL: u16 = 2;
const RTA_GATEWAY: u16 = 5;
const RTA_MULTIPATH: u16 = 9;
const RTA_VIA: u16 = 18;
const RTM_F_CLONED: u32 = 0x200;
/// `struct rtnexthop`.
const NEXT_HOP_HEADER: usize = 8;

/// The address of this end. Where the other end has one, too, it is `IFA_ADDRESS`.
pub(super) fn address(body: &[u8]) -> Option<IpAddr> {
    let attributes = body.get(ADDRESS_HEADER..)?;
    ip(nested(attributes, IFA_LOCAL).or_else(|| nested(attributes, IFA_ADDRESS))?)
}

/// The gateways of a route, unless it is what others have told of a path (ICMP redirects).
pub(super) fn gateways(body: &[u8]) -> impl Iterator<Item = IpAddr> {
    let is_told = u32_at(body, 8).is_none_or(|flags| flags & RTM_F_CLONED != 0);
    let route = body.get(ROUTE_HEADER..).filter(|_| !is_told).unwrap_or_default();
    iter::once(route).chain(next_hops(route)).flat_map(attributes).filter_map(|(name, value)| match name {
        RTA_GATEWAY => ip(value),
        // A gateway of the other family, after the number of that family.
        RTA_VIA => ip(value.get(2..)?),
        _ => None,
    })
}

/// The attributes of each next hop of a route that has several.
fn next_hops(route: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = nested(route, RTA_MULTIPATH).unwrap_or_default();
    iter::from_fn(move || {
        let length = usize::from(u16_at(rest, 0)?);
        let attributes = rest.get(NEXT_HOP_HEADER..length)?;
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(attributes)
    })
}

fn ip(octets: &[u8]) -> Option<IpAddr> {
    let v4 = || Some(IpAddr::from(<[u8; 4]>::try_from(octets).ok()?));
    v4().or_else(|| Some(IpAddr::from(<[u8; 16]>::try_from(octets).ok()?)))
}

#[cfg(test)]
mod tests {
    use super::super::tests::attribute;
    use super::*;

    const ONE: [u8; 4] = [192, 0, 2, 1];
    const TWO: [u8; 4] = [192, 0, 2, 2];

    fn six() -> [u8; 16] {
        "fe80::1".parse::<std::net::Ipv6Addr>().unwrap().octets()
    }

    fn body(header: usize, attributes: &[Vec<u8>]) -> Vec<u8> {
        [vec![0; header], attributes.concat()].concat()
    }

    fn next_hop(attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut hop = body(NEXT_HOP_HEADER, attributes);
        let length = u16::try_from(hop.len()).unwrap();
        hop[..2].copy_from_slice(&length.to_ne_bytes());
        hop
    }

    #[test]
    fn an_address_is_that_of_this_end() {
        for (attributes, expected) in [
            (vec![attribute(IFA_ADDRESS, &ONE), attribute(IFA_LOCAL, &TWO)], Some("192.0.2.2")),
            (vec![attribute(IFA_ADDRESS, &six())], Some("fe80::1")),
            (vec![attribute(IFA_LOCAL, &ONE[..3])], None),
            (vec![vec![200, 0, 2, 0, 192]], None),
            (vec![], None),
        ] {
            let read = address(&body(ADDRESS_HEADER, &attributes));
            assert_eq!(read.map(|addr| addr.to_string()).as_deref(), expected, "{attributes:?}");
        }
        assert_eq!(address(&[0; ADDRESS_HEADER - 1]), None);
    }

    #[test]
    fn every_gateway_of_a_route_is_read() {
        let two = [next_hop(&[attribute(RTA_GATEWAY, &ONE)]), next_hop(&[attribute(RTA_GATEWAY, &six())])].concat();
        let via = [&[10, 0], &six()[..]].concat();
        let lies = |length: u16| [&length.to_ne_bytes()[..], &[0; 6], &attribute(RTA_GATEWAY, &ONE)].concat();
        for (attributes, expected) in [
            (vec![attribute(15, &[254, 0, 0, 0]), attribute(RTA_GATEWAY, &ONE)], &["192.0.2.1"][..]),
            (vec![attribute(RTA_GATEWAY, &six())], &["fe80::1"]),
            (vec![attribute(RTA_VIA, &via)], &["fe80::1"]),
            (vec![attribute(RTA_VIA, &[10])], &[]),
            (vec![attribute(RTA_MULTIPATH, &two)], &["192.0.2.1", "fe80::1"]),
            (vec![attribute(RTA_MULTIPATH, &lies(0))], &[]),
            (vec![attribute(RTA_MULTIPATH, &lies(7))], &[]),
            (vec![attribute(RTA_MULTIPATH, &lies(500))], &[]),
            (vec![attribute(RTA_MULTIPATH, &next_hop(&[]))], &[]),
            (vec![attribute(RTA_GATEWAY, &[1])], &[]),
        ] {
            let read: Vec<String> = gateways(&body(ROUTE_HEADER, &attributes)).map(|addr| addr.to_string()).collect();
            assert_eq!(read, expected, "{attributes:?}");
        }
        let mut told = body(ROUTE_HEADER, &[attribute(RTA_GATEWAY, &ONE)]);
        told[8..12].copy_from_slice(&RTM_F_CLONED.to_ne_bytes());
        assert_eq!(gateways(&told).count(), 0);
        assert_eq!(gateways(&[0; 7]).count(), 0);
    }
}
