//! Captures made byte by byte: what a test sends is what Leuko reads.

use std::net::Ipv4Addr;

pub const SYN: u8 = 0x02;
pub const ACK: u8 = 0x10;
pub const RST: u8 = 0x04;
pub const FIN: u8 = 0x01;

pub type Endpoint = (Ipv4Addr, u16);

/// An Ethernet frame and its time in microseconds since the epoch.
#[derive(Clone, Debug)]
pub struct Packet {
    pub at: u64,
    frame: Vec<u8>,
}

impl Packet {
    pub fn tcp(at: u64, src: Endpoint, dst: Endpoint, (flags, payload): (u8, usize)) -> Self {
        let mut segment = [src.1.to_be_bytes(), dst.1.to_be_bytes()].concat();
        segment.extend([0, 0, 0, 1, 0, 0, 0, 1, 5 << 4, flags, 0x20, 0, 0, 0, 0, 0]);
        segment.resize(segment.len() + payload, b'x');
        Self { at, frame: ipv4(6, src.0, dst.0, &segment) }
    }

    pub fn udp(at: u64, src: Endpoint, dst: Endpoint, payload: usize) -> Self {
        let length = u16::try_from(8 + payload).unwrap();
        let mut datagram = [src.1.to_be_bytes(), dst.1.to_be_bytes(), length.to_be_bytes(), [0, 0]].concat();
        datagram.resize(datagram.len() + payload, b'x');
        Self { at, frame: ipv4(17, src.0, dst.0, &datagram) }
    }

    /// IP total length.
    pub fn ip_octets(&self) -> u64 {
        self.frame.len() as u64 - 14
    }
}

/// A connection that is opened, used by both sides and closed: 10 packets in 10 ms.
pub fn conversation(at: u64, client: Endpoint, server: Endpoint) -> Vec<Packet> {
    let (there, back) = ((client, server), (server, client));
    let segments = [
        (there, SYN, 0),
        (back, SYN | ACK, 0),
        (there, ACK, 0),
        (there, ACK, 300),
        (back, ACK, 1200),
        (back, ACK, 700),
        (there, ACK, 0),
        (there, FIN | ACK, 0),
        (back, FIN | ACK, 0),
        (there, ACK, 0),
    ];
    let packet = |(ms, ((src, dst), flags, payload))| Packet::tcp(at + ms * 1000, src, dst, (flags, payload));
    (0_u64..).zip(segments).map(packet).collect()
}

/// A probe of each port and its refusal, 2 ms a port.
pub fn scan(at: u64, attacker: Ipv4Addr, victim: Ipv4Addr, ports: u16) -> Vec<Packet> {
    let probe = |port: u16| {
        let (at, from, to) = (at + u64::from(port) * 2000, (attacker, 40_000), (victim, port));
        [Packet::tcp(at, from, to, (SYN, 0)), Packet::tcp(at + 100, to, from, (RST | ACK, 0))]
    };
    (1..=ports).flat_map(probe).collect()
}

/// A pcap file with microseconds, of Ethernet frames, in the order given.
pub fn pcap(packets: &[Packet]) -> Vec<u8> {
    let mut file: Vec<u8> = [0xa1b2_c3d4_u32, 0x0004_0002, 0, 0, 65_535, 1].map(u32::to_le_bytes).concat();
    for packet in packets {
        let [secs, micros] = [packet.at / 1_000_000, packet.at % 1_000_000].map(|part| u32::try_from(part).unwrap());
        let length = u32::try_from(packet.frame.len()).unwrap();
        file.extend([secs, micros, length, length].map(u32::to_le_bytes).concat());
        file.extend(&packet.frame);
    }
    file
}

fn ipv4(proto: u8, src: Ipv4Addr, dst: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0];
    let length = u16::try_from(20 + payload.len()).unwrap().to_be_bytes();
    frame.extend([0x45, 0, length[0], length[1], 0, 1, 0x40, 0, 64, proto, 0, 0]);
    frame.extend(src.octets());
    frame.extend(dst.octets());
    frame.extend(payload);
    frame
}
