//! What can be played, and what Leuko should say of it.

use clap::ValueEnum;
use support::Pair;

use crate::stage::{GATEWAY, OUTSIDE, RESOLVER, SWEPT_PREFIX, THIEF};

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "snake_case")]
pub enum Scenario {
    /// Every scenario, one after the other
    All,
    /// Web pages, names, log-ins and transfers: nothing may be found
    Normal,
    /// nmap -sS, 1,000 ports
    PortScan,
    /// nmap -sT, 1,000 ports
    ConnectScan,
    /// nmap -sU, 150 ports
    UdpScan,
    /// nmap -sS, a port every 1.5 seconds
    SlowScan,
    /// nmap -sn -PS22 of 256 addresses behind the server
    HostScan,
    /// nmap -sn -PR, ARP for 254 addresses of the segment
    ArpSweep,
    /// hping3 -S, 6,000 packets of one source
    SynFlood,
    /// hping3 -S --rand-source, 6,000 packets
    SpoofedSynFlood,
    /// 16,000 connections of one client, completed and closed
    ConnectionFlood,
    /// Web pages asked for by one client for ten seconds, 3,000 a second and each by a connection of its own
    PageFlood,
    /// hping3 --udp, 20,000 packets of one source
    UdpFlood,
    /// hping3 --icmp, 30,000 packets of one source
    IcmpFlood,
    /// Long answers from port 53 of 20 addresses outside that nobody asked for, 20,000 packets
    Amplification,
    /// hydra, 15 passwords for one account of sshd
    BruteForce,
    /// slowhttptest -H, 200 requests that do not end
    SlowHeaders,
    /// slowhttptest -X, 200 answers that are not taken
    SlowRead,
    /// A call outside every 2 s, give or take a fifth, for 70 s
    Beacon,
    /// iodine, 15 s of upload in names
    DnsTunnel,
    /// 5 names of 200 random characters a second for 30 s, each of another socket
    DnsExfiltration,
    /// ptunnel, 10 s of download in echo replies
    IcmpTunnel,
    /// ptunnel, 10 s of upload in echo requests, which the kernel of the proxy answers, too
    IcmpUpload,
    /// iperf3, 200 MB to an address outside in 8 s, after two minutes of small uploads; web pages only beside it
    Exfiltration,
    /// As exfiltration, while the server is sent 55 MB by somebody else
    ExfiltrationBusy,
    /// arpspoof, between the server and its gateway
    ArpSpoof,
    /// As arp_spoof, just after the server has asked for its gateway
    ArpSpoofAsked,
}

/// The incident that there should be.
#[derive(Clone, Copy, Debug)]
pub struct Expected {
    pub class: &'static str,
    pub attackers: Attackers,
    /// What the addresses of the victims begin with.
    pub victims: &'static [&'static str],
}

#[derive(Clone, Copy, Debug)]
pub enum Attackers {
    These(&'static [&'static str]),
    /// All with this prefix, and more than one.
    Many(&'static str),
}

impl Scenario {
    pub fn name(self) -> String {
        self.to_possible_value().map(|value| value.get_name().to_owned()).unwrap_or_default()
    }

    /// Programs that it runs, beyond those of ordinary traffic.
    pub const fn tools(self) -> &'static [&'static str] {
        match self {
            Self::SynFlood | Self::SpoofedSynFlood | Self::UdpFlood | Self::IcmpFlood => &["hping3"],
            Self::BruteForce => &["hydra"],
            Self::SlowHeaders | Self::SlowRead => &["slowhttptest", "nginx"],
            Self::DnsTunnel => &["iodine", "iodined"],
            Self::IcmpTunnel | Self::IcmpUpload => &["ptunnel"],
            Self::ArpSpoof | Self::ArpSpoofAsked => &["arpspoof"],
            Self::All
            | Self::Normal
            | Self::PortScan
            | Self::ConnectScan
            | Self::UdpScan
            | Self::SlowScan
            | Self::HostScan
            | Self::ArpSweep
            | Self::ConnectionFlood
            | Self::PageFlood
            | Self::Amplification
            | Self::Beacon
            | Self::DnsExfiltration
            | Self::Exfiltration
            | Self::ExfiltrationBusy => &[],
        }
    }

    /// Whether something large is sent outside.
    pub const fn has_bulk(self) -> bool {
        matches!(
            self,
            Self::Exfiltration | Self::ExfiltrationBusy | Self::DnsTunnel | Self::IcmpTunnel | Self::IcmpUpload
        )
    }

    pub fn expected(self) -> Option<Expected> {
        let inward = |class| Expected { class, attackers: BY_CLIENT, victims: &[Pair::SERVER] };
        let outward = |class, victims| Expected { class, attackers: Attackers::These(&[Pair::SERVER]), victims };
        Some(match self {
            Self::All | Self::Normal => return None,
            Self::PortScan | Self::ConnectScan | Self::UdpScan | Self::SlowScan => inward("port_scan"),
            Self::HostScan => Expected { victims: &[SWEPT_PREFIX], ..inward("host_scan") },
            Self::ArpSweep => Expected { victims: &["10.77.0."], ..inward("host_scan") },
            Self::SynFlood => inward("syn_flood"),
            Self::SpoofedSynFlood => Expected { attackers: Attackers::These(&[]), ..inward("syn_flood") },
            Self::ConnectionFlood | Self::PageFlood => inward("connection_flood"),
            Self::UdpFlood => inward("udp_flood"),
            Self::IcmpFlood => inward("icmp_flood"),
            Self::Amplification => Expected { attackers: Attackers::Many("198.51.100."), ..inward("amplification") },
            Self::BruteForce => inward("brute_force"),
            Self::SlowHeaders | Self::SlowRead => inward("slow_dos"),
            Self::Beacon => outward("beacon", &[OUTSIDE]),
            Self::DnsTunnel | Self::DnsExfiltration => outward("dns_tunnel", &[RESOLVER]),
            Self::IcmpTunnel | Self::IcmpUpload => outward("icmp_tunnel", &[Pair::CLIENT]),
            Self::Exfiltration | Self::ExfiltrationBusy => outward("exfiltration", &[OUTSIDE]),
            Self::ArpSpoof | Self::ArpSpoofAsked => Expected {
                class: "arp_spoof",
                attackers: Attackers::These(&[THIEF]),
                victims: &[Pair::SERVER, GATEWAY],
            },
        })
    }
}

const BY_CLIENT: Attackers = Attackers::These(&[Pair::CLIENT]);
