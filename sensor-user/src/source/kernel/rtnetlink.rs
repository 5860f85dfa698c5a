//! What links, addresses and gateways a network namespace has, asked of the kernel by rtnetlink (RFC 3549,
//! `linux/rtnetlink.h`).

mod host;

use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd as _, OwnedFd};

use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recv, sendto, setsockopt, socket, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike as _};
use sensor_core::respond::Guard;

use super::namespace::Namespace;

/// A network interface, as its namespace lists it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Link {
    /// Unique in its namespace, and kept when the link is renamed.
    pub index: u32,
    /// Its name at present.
    pub name: String,
    /// `ARPHRD_*`.
    pub hardware: u16,
    /// Whether it is administratively up.
    pub up: bool,
    /// The bridge, bond or other device that it is a port of.
    pub master: Option<u32>,
    /// The device in the same namespace whose frames it takes a part of: what a VLAN or a macvlan is on.
    pub base: Option<u32>,
    /// Hardware address; none of a device that takes that of one of its ports.
    pub mac: Vec<u8>,
    /// Id of the XDP program that is attached, 0 for none.
    pub xdp: u32,
}

/// A socket that lists what is in the namespace it was made in, whoever asks.
#[derive(Debug)]
pub struct Lister {
    socket: OwnedFd,
    buffer: Vec<u8>,
    sequence: u32,
}

impl Lister {
    /// Opens the socket inside a namespace.
    ///
    /// # Errors
    /// When the namespace may not be entered, or has no sockets to give.
    pub fn open(namespace: &Namespace) -> anyhow::Result<Self> {
        Ok(namespace.inside(Self::open_here)??)
    }

    /// Opens the socket in the namespace of this thread.
    ///
    /// # Errors
    /// When the kernel has no socket to give.
    pub fn open_here() -> io::Result<Self> {
        let socket = socket(AddressFamily::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?;
        // The kernel answers at once; a sensor that waited for ever would watch nothing.
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(1))?;
        Ok(Self { socket, buffer: vec![0; BUFFER], sequence: 0 })
    }

    /// Every link, by index.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn list(&mut self) -> io::Result<Vec<Link>> {
        let mut header = vec![0; LINK_HEADER];
        header.extend([8, IFLA_EXT_MASK].map(u16::to_ne_bytes).concat());
        header.extend(RTEXT_FILTER_SKIP_STATS.to_ne_bytes());
        let take = |links: &mut Vec<Link>, body: &[u8]| links.extend(link(body));
        let (mut links, _) = self.dump(RTM_NEWLINK, &header, take)?;
        links.sort_unstable_by_key(|link| link.index);
        Ok(links)
    }

    /// The addresses of all links, and whether these are all: not when some came or went meanwhile.
    ///
    /// # Errors
    /// When the kernel does not answer.
    pub fn addresses(&mut self) -> io::Result<(BTreeSet<IpAddr>, bool)> {
        self.dump(RTM_NEWADDR, &[0; host::ADDRESS_HEADER], |found, body| gather(found, host::address(body)))
    }

    /// The gateways of all routes, and whether these are all.
    ///
    /// # Errors
    /// When the kernel does not answer, or with more routes than can be read every few seconds.
    pub fn gateways(&mut self) -> io::Result<(BTreeSet<IpAddr>, bool)> {
        self.dump(RTM_NEWROUTE, &[0; host::ROUTE_HEADER], |found, body| gather(found, host::gateways(body)))
    }

    /// Brings a link up.
    ///
    /// # Errors
    /// When the kernel does not: there is no such link, or it may not be changed.
    pub fn bring_up(&mut self, index: u32) -> io::Result<()> {
        self.sequence = self.sequence.wrapping_add(1);
        let fd = self.socket.as_raw_fd();
        sendto(fd, &bring_up_request(self.sequence, index), &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let length = recv(fd, &mut self.buffer, MsgFlags::empty())?;
        Reply::default().take(self.buffer.get(..length).unwrap_or_default(), self.sequence, |_, _| {})
    }

    /// One that never gets an answer.
    #[cfg(test)]
    pub fn deaf() -> Self {
        Self { socket: std::fs::File::open("/dev/null").unwrap().into(), buffer: Vec::new(), sequence: 0 }
    }

    /// What `take` makes of every answer of a kind (`RTM_NEW*`), and whether nothing came or went meanwhile.
    fn dump<C: Default>(&mut self, kind: u16, header: &[u8], take: impl Fn(&mut C, &[u8])) -> io::Result<(C, bool)> {
        // A listing during which something came or went may lack others; the last try is taken as it is.
        for _ in 0..TRIES {
            let (found, complete) = self.try_dump(kind, header, &take)?;
            if complete {
                return Ok((found, true));
            }
        }
        self.try_dump(kind, header, &take)
    }

    fn try_dump<C: Default>(
        &mut self,
        kind: u16,
        header: &[u8],
        take: &impl Fn(&mut C, &[u8]),
    ) -> io::Result<(C, bool)> {
        self.sequence = self.sequence.wrapping_add(1);
        let fd = self.socket.as_raw_fd();
        sendto(fd, &dump_request(self.sequence, kind, header), &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        let (mut found, mut octets) = (C::default(), 0);
        let mut reply = Reply { complete: true, ..Reply::default() };
        while !reply.done {
            let length = recv(fd, &mut self.buffer, MsgFlags::empty())?;
            octets += length;
            if octets > LONGEST {
                return Err(io::Error::other(format!("the kernel lists more than {} MiB", LONGEST >> 20)));
            }
            reply.take(self.buffer.get(..length).unwrap_or_default(), self.sequence, |of, body| {
                if of == kind {
                    take(&mut found, body);
                }
            })?;
        }
        Ok((found, reply.complete))
    }
}

fn gather(found: &mut BTreeSet<IpAddr>, more: impl IntoIterator<Item = IpAddr>) {
    found.extend(more.into_iter().take(MOST.saturating_sub(found.len())));
}

/// The kernel fills at most 32 KiB of a reader's buffer at a time.
const BUFFER: usize = 1 << 16;
const TRIES: usize = 3;
/// Octets of an answer: of more than a million routes. Whoever rules a namespace must not hold the sensor up.
const LONGEST: usize = 1 << 27;
/// Addresses of a kind in a namespace; the guard has no place for more.
const MOST: usize = Guard::KEPT;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const RTM_NEWLINK: u16 = 16;
const RTM_NEWADDR: u16 = 20;
const RTM_NEWROUTE: u16 = 24;
/// From an `RTM_NEW*` to its `RTM_GET*`.
const GET: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLM_F_DUMP: u16 = 0x300;
const IFLA_IFNAME: u16 = 3;
const IFLA_LINK: u16 = 5;
const IFLA_MASTER: u16 = 10;
const IFLA_LINKINFO: u16 = 18;
const IFLA_INFO_KIND: u16 = 1;
const IFLA_EXT_MASK: u16 = 29;
const IFLA_LINK_NETNSID: u16 = 37;
const IFLA_XDP: u16 = 43;
/// Of whatever mode, of the driver's, of generic XDP, of the card's.
const IFLA_XDP_PROG_IDS: [u16; 4] = [4, 5, 6, 7];
const IFLA_ADDRESS: u16 = 1;
const RTEXT_FILTER_SKIP_STATS: u32 = 8;
const IFF_UP: u32 = 1;

const MESSAGE_HEADER: usize = 16;
const LINK_HEADER: usize = 16;

/// Kinds whose `IFLA_LINK` is the device that carries the same frames. That of a veth is its peer, that of a tunnel
/// what carries it, in packets of another flow.
const ON_A_BASE: [&[u8]; 5] = [b"vlan", b"macvlan", b"macvtap", b"ipvlan", b"ipvtap"];

/// Kinds whose address is that of one of their ports, and changes with these.
const OF_A_PORT: [&[u8]; 3] = [b"bridge", b"bond", b"team"];

fn dump_request(sequence: u32, kind: u16, header: &[u8]) -> Vec<u8> {
    let length = u32::try_from(MESSAGE_HEADER + header.len()).unwrap_or(u32::MAX);
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend([kind + GET, NLM_F_REQUEST | NLM_F_DUMP].map(u16::to_ne_bytes).concat());
    bytes.extend([sequence, 0].map(u32::to_ne_bytes).concat());
    bytes.extend(header);
    bytes
}

/// `struct ifinfomsg` with the flag that is set, and the mask of those that change.
fn bring_up_request(sequence: u32, index: u32) -> Vec<u8> {
    let length: u32 = 32;
    let mut bytes = length.to_ne_bytes().to_vec();
    bytes.extend([RTM_NEWLINK, NLM_F_REQUEST | NLM_F_ACK].map(u16::to_ne_bytes).concat());
    bytes.extend([sequence, 0, 0, index, IFF_UP, IFF_UP].map(u32::to_ne_bytes).concat());
    bytes
}

#[derive(Debug, Default)]
struct Reply {
    done: bool,
    complete: bool,
}

impl Reply {
    /// Takes in a datagram, with its messages by type; those that answer another request are passed over.
    fn take(&mut self, datagram: &[u8], sequence: u32, mut each: impl FnMut(u16, &[u8])) -> io::Result<()> {
        let mut rest = datagram;
        while let Some(length) = u32_at(rest, 0).and_then(|length| usize::try_from(length).ok()) {
            let Some(message) = rest.get(..length).filter(|message| message.len() >= MESSAGE_HEADER) else { break };
            rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            if u32_at(message, 8) != Some(sequence) {
                continue;
            }
            self.complete &= u16_at(message, 6).is_some_and(|flags| flags & NLM_F_DUMP_INTR == 0);
            let body = &message[MESSAGE_HEADER..];
            match u16_at(message, 4) {
                Some(NLMSG_DONE) => self.done = true,
                Some(NLMSG_ERROR) => {
                    let errno = u32_at(body, 0).unwrap_or_default().wrapping_neg();
                    if errno == 0 {
                        self.done = true;
                        continue;
                    }
                    return Err(io::Error::from_raw_os_error(i32::try_from(errno).unwrap_or(libc::EIO)));
                }
                Some(kind) => each(kind, body),
                None => {}
            }
        }
        Ok(())
    }
}

/// `struct ifinfomsg` and its attributes.
fn link(body: &[u8]) -> Option<Link> {
    let mut link = Link {
        hardware: u16_at(body, 2)?,
        index: u32_at(body, 4)?,
        up: u32_at(body, 8)? & IFF_UP != 0,
        ..Link::default()
    };
    let (mut lower, mut elsewhere, mut kind) = (None, false, &[][..]);
    for (name, value) in attributes(body.get(LINK_HEADER..)?) {
        match name {
            IFLA_IFNAME => link.name = String::from_utf8_lossy(text(value)).into_owned(),
            IFLA_LINK => lower = u32_at(value, 0),
            IFLA_LINK_NETNSID => elsewhere = true,
            IFLA_MASTER => link.master = u32_at(value, 0).filter(|&master| master != 0),
            IFLA_LINKINFO => kind = nested(value, IFLA_INFO_KIND).map_or(kind, text),
            IFLA_ADDRESS => link.mac = value.to_vec(),
            IFLA_XDP => {
                let ids = IFLA_XDP_PROG_IDS.iter().filter_map(|&id| u32_at(nested(value, id)?, 0));
                link.xdp = ids.max().unwrap_or(0);
            }
            _ => {}
        }
    }
    if OF_A_PORT.contains(&kind) {
        link.mac.clear();
    }
    link.base = lower.filter(|&lower| lower != link.index && !elsewhere && ON_A_BASE.contains(&kind));
    (!link.name.is_empty()).then_some(link)
}

fn nested(attribute: &[u8], name: u16) -> Option<&[u8]> {
    attributes(attribute).find(|(found, _)| *found == name).map(|(_, value)| value)
}

/// `struct rtattr`: length, type, value, padded to four octets. The upper two bits of the type are flags.
fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let (length, name) = (usize::from(u16_at(bytes, 0)?), u16_at(bytes, 2)? & 0x3fff);
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((name, value))
    })
}

/// A string without its terminator.
fn text(bytes: &[u8]) -> &[u8] {
    bytes.split(|&byte| byte == 0).next().unwrap_or_default()
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    pub(super) fn attribute(name: u16, value: &[u8]) -> Vec<u8> {
        let length = u16::try_from(4 + value.len()).unwrap();
        let mut bytes = [length, name].map(u16::to_ne_bytes).concat();
        bytes.extend(value);
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        bytes
    }

    fn message(kind: u16, flags: u16, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(MESSAGE_HEADER + body.len()).unwrap();
        let mut bytes = length.to_ne_bytes().to_vec();
        bytes.extend([kind, flags].map(u16::to_ne_bytes).concat());
        bytes.extend([7u32, 0].map(u32::to_ne_bytes).concat());
        bytes.extend(body);
        bytes
    }

    fn new_link(index: u32, attributes: &[Vec<u8>]) -> Vec<u8> {
        let mut body = [0u16, 1].map(u16::to_ne_bytes).concat();
        body.extend([index, 0x1043, 0].map(u32::to_ne_bytes).concat());
        body.extend(attributes.concat());
        message(RTM_NEWLINK, 2, &body)
    }

    fn kind(kind: &[u8]) -> Vec<u8> {
        attribute(IFLA_LINKINFO | 0x8000, &attribute(IFLA_INFO_KIND, kind))
    }

    #[test]
    fn links_are_read_with_what_they_stand_on() {
        let lower = attribute(IFLA_LINK, &2u32.to_ne_bytes());
        let datagram = [
            new_link(
                2,
                &[
                    attribute(IFLA_IFNAME, b"eth0\0"),
                    attribute(IFLA_MASTER, &9u32.to_ne_bytes()),
                    attribute(IFLA_ADDRESS, &[2, 0, 0, 0, 0, 1]),
                    attribute(IFLA_XDP, &attribute(IFLA_XDP_PROG_IDS[0], &77u32.to_ne_bytes())),
                ],
            ),
            new_link(3, &[attribute(IFLA_IFNAME, b"eth0.5\0"), lower.clone(), kind(b"vlan\0")]),
            new_link(4, &[attribute(IFLA_IFNAME, b"veth0\0"), lower.clone(), kind(b"veth\0")]),
            new_link(
                5,
                &[
                    attribute(IFLA_IFNAME, b"mac0\0"),
                    lower,
                    attribute(IFLA_LINK_NETNSID, &0u32.to_ne_bytes()),
                    kind(b"macvlan\0"),
                ],
            ),
        ]
        .concat();
        let (mut reply, mut links) = (Reply { complete: true, ..Reply::default() }, Vec::new());
        reply.take(&datagram, 7, |_, body| links.extend(link(body))).unwrap();
        assert!(!reply.done);
        reply.take(&message(NLMSG_DONE, 2, &[0; 4]), 7, |_, _| {}).unwrap();
        assert!(reply.done && reply.complete);
        let link = |index, name: &str| Link { index, name: name.to_owned(), hardware: 1, up: true, ..Link::default() };
        assert_eq!(
            links,
            [
                Link { master: Some(9), mac: vec![2, 0, 0, 0, 0, 1], xdp: 77, ..link(2, "eth0") },
                Link { base: Some(2), ..link(3, "eth0.5") },
                link(4, "veth0"),
                link(5, "mac0"),
            ]
        );
    }

    #[test]
    fn interrupted_and_refused_listings_are_told() {
        let mut reply = Reply { complete: true, ..Reply::default() };
        reply.take(&message(NLMSG_DONE, NLM_F_DUMP_INTR, &[0; 4]), 7, |_, _| {}).unwrap();
        assert!(!reply.complete);
        let refused = message(NLMSG_ERROR, 0, &(-libc::EPERM).to_ne_bytes());
        assert_eq!(reply.take(&refused, 7, |_, _| {}).unwrap_err().raw_os_error(), Some(libc::EPERM));
        let other = message(NLMSG_ERROR, 0, &(-libc::EPERM).to_ne_bytes());
        assert!(reply.take(&other, 8, |_, _| {}).is_ok(), "the answer to an earlier question");
    }

    #[test]
    fn the_kernel_lists_the_loopback() {
        let mut lister = Lister::open(&Namespace::current().unwrap()).unwrap();
        for _ in 0..2 {
            let links = lister.list().unwrap();
            assert!(links.iter().any(|link| link.name == "lo" && link.hardware == 772), "{links:?}");
        }
    }

    #[test]
    fn the_kernel_lists_addresses_and_gateways() {
        let mut lister = Lister::open_here().unwrap();
        let (own, is_whole) = lister.addresses().unwrap();
        assert!(!is_whole || own.contains(&"127.0.0.1".parse().unwrap()), "{own:?}");
        // Of a namespace that may have none.
        lister.gateways().unwrap();
        assert_eq!(lister.list().unwrap()[0].name, "lo", "one answer after another");
    }

    #[test]
    fn no_more_is_gathered_than_there_is_place_for() {
        let mut found = BTreeSet::new();
        for from in [0, 40_000_u32] {
            gather(&mut found, (from..from + 40_000).map(|one| IpAddr::from(one.to_be_bytes())));
        }
        assert_eq!(found.len(), MOST);
    }

    proptest! {
        #[test]
        fn any_datagram_is_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200), cut in 0..200usize) {
            let mut reply = Reply::default();
            let read = |_, body: &[u8]| _ = (link(body), host::address(body), host::gateways(body).count());
            let _ = reply.take(&bytes, 7, read);
            let mut whole = new_link(2, &[attribute(IFLA_IFNAME, b"eth0\0"), bytes]);
            whole.truncate(cut);
            let _ = reply.take(&whole, 7, read);
        }
    }
}
