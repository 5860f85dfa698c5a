//! `leuko block`, `leuko unblock` and `leuko blocks`.

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use sensor_core::net::Network;
use sensor_ebpf::packet::proto;

/// `leuko block`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  sudo leuko block 203.0.113.7                             for an hour
  sudo leuko block 203.0.113.0/24 --for 2d --reason scanners
  sudo leuko block 2001:db8:7::/64 --proto udp --for 30m
  sudo leuko block 203.0.113.7 --port 22                   its TCP to our port 22 only
  sudo leuko block 203.0.113.7 --limit 100                 so many packets a second may pass
  sudo leuko block 192.0.2.1 --requests --port 443 --limit 500

The running sensor does it at once, and the kernel ends it in time whatever becomes of the sensor. Own addresses,
gateway, resolvers, whom respond.never names, and where people are logged in from are never blocked. --requests
limits new connections of strangers to a port of this host, for a flood that has no single source.")]
pub struct BlockArgs {
    /// Address or network (CIDR), at most a /24 of IPv4 or a /64 of IPv6
    #[arg(value_name = "ADDR")]
    pub network: Network,
    /// How long, such as 30m, 1h30m or 7d, at most 30d [default: 1h, or as long as it is blocked already]
    #[arg(long = "for", value_name = "TIME", value_parser = span)]
    pub span: Option<Duration>,
    /// Only packets to this port of ours
    #[arg(long)]
    pub port: Option<u16>,
    /// Only packets of this protocol: tcp, udp, icmp or a number [default with --port: tcp]
    #[arg(long, value_parser = protocol)]
    pub proto: Option<u8>,
    /// Let so many packets a second pass
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub limit: Option<u32>,
    /// Limit what strangers ask of --port of this host of ours
    #[arg(long, requires_all = ["port", "limit"], conflicts_with = "proto")]
    pub requests: bool,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// Print the block as a JSON object
    #[arg(long)]
    pub json: bool,
    /// State directory of the sensor [default: /var/lib/leuko]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

impl BlockArgs {
    /// The host, where requests to it are meant.
    #[must_use]
    pub fn host(&self) -> Option<IpAddr> {
        self.requests.then(|| self.network.addr())
    }

    /// The protocol: a port without one is TCP's.
    #[must_use]
    pub fn protocol(&self) -> Option<u8> {
        if self.requests { None } else { self.proto.or(self.port.map(|_| proto::TCP)) }
    }
}

/// `leuko unblock`.
#[derive(Args, Clone, Debug)]
#[command(after_help = "Examples:
  sudo leuko unblock 203.0.113.7
  sudo leuko unblock 203.0.113.0/24 --reason mistaken      every block inside it

The sensor leaves alone for an hour whom people unblock. With a host of ours, limits on requests to it end.")]
pub struct UnblockArgs {
    /// Address or network (CIDR)
    #[arg(value_name = "ADDR")]
    pub network: Network,
    /// Why, for the audit trail
    #[arg(long, value_name = "TEXT", default_value = "")]
    pub reason: String,
    /// Print the blocks that were lifted as JSON objects, one a line
    #[arg(long)]
    pub json: bool,
    /// State directory of the sensor [default: /var/lib/leuko]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

/// `leuko blocks`.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = "Examples:
  sudo leuko blocks
  sudo leuko blocks --json
  sudo leuko blocks --nft > leuko.nft                      for `nft -f`
  sudo leuko blocks --plain                                networks, one a line")]
pub struct BlocksArgs {
    /// Print one JSON object a line in place of a table
    #[arg(long, group = "form")]
    pub json: bool,
    /// Print what is enforced as a ruleset for nftables, without imported lists: the kernel program alone enforces them
    #[arg(long, group = "form")]
    pub nft: bool,
    /// Print what is dropped as networks, one a line, without imported lists likewise
    #[arg(long, group = "form")]
    pub plain: bool,
    /// State directory of the sensor [default: /var/lib/leuko]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

fn span(text: &str) -> Result<Duration, String> {
    super::moment::span(text.trim()).ok_or_else(|| "write for instance 30m, 1h30m or 7d".to_owned())
}

fn protocol(text: &str) -> Result<u8, String> {
    match text.to_ascii_lowercase().as_str() {
        "tcp" => Ok(proto::TCP),
        "udp" => Ok(proto::UDP),
        "icmp" => Ok(proto::ICMP),
        "icmpv6" => Ok(proto::ICMPV6),
        "sctp" => Ok(proto::SCTP),
        number => number
            .parse()
            .ok()
            .filter(|number| *number != 0)
            .ok_or_else(|| "write tcp, udp, icmp, icmpv6, sctp or the number of an IP protocol".to_owned()),
    }
}
