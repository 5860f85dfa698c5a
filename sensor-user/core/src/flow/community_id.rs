//! Community ID: one name for a flow in every tool (version 1 of the open specification by Corelight, seed 0).

use std::net::IpAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sensor_ebpf::abi::{Addr, Direction, FlowKey};
use sensor_ebpf::packet::proto;
use sha1::{Digest as _, Sha1};

/// The identifier of a flow: `1:` and the base64 of SHA-1 over addresses, protocol and ports, the lower endpoint first.
/// An ICMP flow is told apart by the type and the code that are sent one way; nothing for ICMP without them.
#[must_use]
pub fn community_id(key: &FlowKey, icmp: Option<(Direction, u16, u16)>) -> Option<String> {
    let ports = match key.proto {
        proto::ICMP => Some(icmp_ports(icmp?, ECHOES)),
        proto::ICMPV6 => Some(icmp_ports(icmp?, ECHOES_V6)),
        proto::TCP | proto::UDP | proto::SCTP => Some([key.lo_port, key.hi_port]),
        _ => None,
    };
    let mut hash = Sha1::new();
    hash.update([0; 2]);
    hash.update(octets(key.lo_addr));
    hash.update(octets(key.hi_addr));
    hash.update([key.proto, 0]);
    ports.into_iter().flatten().for_each(|port| hash.update(port.to_be_bytes()));
    Some(format!("1:{}", STANDARD.encode(hash.finalize())))
}

/// Types that are answered by another, request and reply.
const ECHOES: [u16; 2] = [8, 0];
const ECHOES_V6: [u16; 2] = [128, 129];

/// Of echoes the type of each side stands for its port; of other messages type and code do.
fn icmp_ports((way, kind, code): (Direction, u16, u16), [request, reply]: [u16; 2]) -> [u16; 2] {
    let counterpart = match kind {
        kind if kind == request => reply,
        kind if kind == reply => request,
        _ => code,
    };
    match way {
        Direction::LoToHi => [kind, counterpart],
        Direction::HiToLo => [counterpart, kind],
    }
}

fn octets(addr: Addr) -> Vec<u8> {
    match IpAddr::from(addr) {
        IpAddr::V4(v4) => v4.octets().to_vec(),
        IpAddr::V6(v6) => v6.octets().to_vec(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(src: &str, src_port: u16, dst: &str, dst_port: u16, proto: u8, icmp: u16) -> String {
        let [src, dst] = [src, dst].map(|addr| Addr::from(addr.parse::<IpAddr>().unwrap()));
        let (key, way) = FlowKey::canonical(src, src_port, dst, dst_port, proto);
        community_id(&key, Some((way, icmp, 0))).unwrap()
    }

    /// The reference values of the specification's baseline.
    #[test]
    fn equals_the_reference() {
        let tcp = "1:LQU9qZlK+B5F3KDmev6m5PMibrg=";
        assert_eq!(id("128.232.110.120", 34_855, "66.35.250.204", 80, proto::TCP, 0), tcp);
        assert_eq!(id("66.35.250.204", 80, "128.232.110.120", 34_855, proto::TCP, 0), tcp);
        let udp = "1:d/FP5EW3wiY1vCndhwleRRKHowQ=";
        assert_eq!(id("192.168.1.52", 54_585, "8.8.8.8", 53, proto::UDP, 0), udp);
        let ping = "1:X0snYXpgwiv9TZtqg64sgzUn6Dk=";
        assert_eq!(id("192.168.0.89", 0, "192.168.0.1", 0, proto::ICMP, 8), ping);
        assert_eq!(id("192.168.0.1", 0, "192.168.0.89", 0, proto::ICMP, 0), ping);
    }
}
