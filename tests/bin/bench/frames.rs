//! The frames that are measured.

/// An IP packet in Ethernet, behind so many VLAN tags.
pub fn ethernet(tags: usize, packet: &[u8]) -> Vec<u8> {
    let mut frame = vec![2; 12];
    for _ in 0..tags {
        frame.extend([0x81, 0x00, 0, 5]);
    }
    frame.extend(if packet[0] >> 4 == 4 { [0x08, 0x00] } else { [0x86, 0xdd] });
    frame.extend(packet);
    frame
}

/// A packet of 50 octets from a host of 10.0.0.0/8 to 192.0.2.1:443; for TCP an ACK.
pub fn ipv4(proto: u8, host: u32, port: u16) -> Vec<u8> {
    let [_, a, b, c] = host.to_be_bytes();
    let mut packet = vec![0x45, 0, 0, 50, 0, 0, 0x40, 0, 64, proto, 0, 0, 10, a, b, c, 192, 0, 2, 1];
    packet.extend(transport(port));
    packet
}

/// The same in IPv6, of 70 octets, from 2001:db8::1 to 2001:db8::2.
pub fn ipv6(proto: u8, port: u16) -> Vec<u8> {
    let mut packet = vec![0x60, 0, 0, 0, 0, 30, proto, 64];
    for host in [1, 2] {
        packet.extend([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, host]);
    }
    packet.extend(transport(port));
    packet
}

/// Ports, and what TCP takes for a bare ACK.
fn transport(port: u16) -> Vec<u8> {
    let [port_1, port_0] = port.to_be_bytes();
    let mut header = vec![port_1, port_0, 0x01, 0xbb, 0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0x10, 1, 0];
    header.resize(30, 0);
    header
}
