//! `leuko flows`.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::{ArgGroup, Args};
use ipnet::IpNet;
use sensor_core::incident::Class;
use sensor_core::time::Timestamp;

use super::moment::{Moment, since, until};
use super::mute::class;
use crate::config::suppress::Ports;
use crate::store::flows::{Filter, Hosts};

/// Flows that are printed for people, unless they say how many.
const DEFAULT_LIMIT: u64 = 1000;

/// `leuko flows`.
#[derive(Args, Clone, Debug, Default)]
#[command(group(ArgGroup::new("form").args(["json", "csv", "parquet"])))]
#[command(after_help = "Examples:
  leuko flows                                            the latest 1000
  leuko flows --host 10.0.0.5 --port ssh --since 1h
  leuko flows --incident 5d1f0c9a22b34e87 --json
  leuko flows --class port_scan --since 2027-06-30 --until 2027-06-30
  leuko flows --since 7d --csv > week.csv                a table that `leuko train` reads
  leuko flows --parquet flows.parquet                    columns of UNSW-NB15, for data frames
  leuko flows --summaries --host 10.0.0.5                hours of flows that are no longer kept one by one

Flows are there when they have ended, and are kept for the time that the configuration says, then their sums by the hour.
A flow is shown if any of it lies in the time asked for. Dates without a zone are UTC.")]
pub struct FlowsArgs {
    /// One end is this address or in this network; repeat it or use commas for several
    #[arg(long, value_name = "NET", value_delimiter = ',', value_parser = hosts)]
    pub host: Vec<Hosts>,
    /// The sender of the first packet
    #[arg(long, value_name = "NET", value_parser = hosts)]
    pub src: Option<Hosts>,
    /// The receiver of the first packet
    #[arg(long, value_name = "NET", value_parser = hosts)]
    pub dst: Option<Hosts>,
    /// Its port: 22, 8000-8100 or ssh
    #[arg(long, value_name = "PORT", value_parser = ports)]
    pub port: Option<RangeInclusive<u16>>,
    /// tcp, udp, icmp, icmpv6, sctp, gre, esp or an IANA number
    #[arg(long, value_name = "PROTO", value_parser = proto)]
    pub proto: Option<u8>,
    /// From when on: 90m, 12h or 30d ago, or a date such as 2027-06-30 or 2027-06-30T18:00:00Z
    #[arg(long, value_name = "TIME", value_parser = since)]
    pub since: Option<Moment>,
    /// Until when; of a date alone, that day included
    #[arg(long, value_name = "TIME", value_parser = until)]
    pub until: Option<Moment>,
    /// Flows of incidents of this class
    #[arg(long, value_name = "CLASS", value_parser = class)]
    pub class: Option<Class>,
    /// Flows of this incident
    #[arg(long, value_name = "ID")]
    pub incident: Option<String>,
    /// The latest so many only [default: 1000 for people, else all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Print one JSON object a line in place of text, as `leuko replay --json --flows`
    #[arg(long)]
    pub json: bool,
    /// Print a table that `leuko train` reads, as `leuko replay --export`
    #[arg(long)]
    pub csv: bool,
    /// Write a Parquet file with the columns of UNSW-NB15
    #[arg(long, value_name = "FILE")]
    pub parquet: Option<PathBuf>,
    /// Sums by the hour of flows that are no longer kept one by one
    #[arg(long, conflicts_with_all = ["parquet", "class", "incident"])]
    pub summaries: bool,
    /// Where the history is kept [default: /var/lib/leuko]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,
}

impl FlowsArgs {
    /// What is asked for, whatever the incidents.
    #[must_use]
    pub fn filter(&self, now: Timestamp) -> Filter {
        let for_people = !self.json && !self.csv && self.parquet.is_none();
        Filter {
            since: self.since.map(|when| when.at(now)),
            until: self.until.map(|when| when.at(now)),
            hosts: self.host.clone(),
            src: self.src,
            dst: self.dst,
            port: self.port.clone(),
            proto: self.proto,
            limit: self.limit.or(for_people.then_some(DEFAULT_LIMIT)),
        }
    }
}

fn hosts(text: &str) -> Result<Hosts, String> {
    let text = text.trim();
    let net = text.parse::<IpAddr>().map(|addr| IpNet::from(addr.to_canonical())).or_else(|_| text.parse::<IpNet>());
    net.map(Hosts::from).map_err(|_| "write an address such as 192.0.2.7 or a network such as 10.0.0.0/8".to_owned())
}

fn ports(text: &str) -> Result<RangeInclusive<u16>, String> {
    text.parse::<Ports>().map(|ports| ports.range().clone())
}

fn proto(text: &str) -> Result<u8, String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "icmp" => Ok(1),
        "tcp" => Ok(6),
        "udp" => Ok(17),
        "gre" => Ok(47),
        "esp" => Ok(50),
        "icmpv6" | "ipv6-icmp" => Ok(58),
        "sctp" => Ok(132),
        number => number.parse().map_err(|_| "write tcp, udp, icmp, icmpv6, sctp, gre, esp or a number".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::{Cli, Command};
    use clap::Parser as _;

    fn args(line: &str) -> Result<FlowsArgs, String> {
        let cli = Cli::try_parse_from(["leuko", "flows"].into_iter().chain(line.split_whitespace()));
        let command = cli.map_err(|error| error.to_string())?.command;
        let Command::Flows(args) = command else { panic!("{command:?}") };
        Ok(args)
    }

    #[test]
    fn words_become_a_filter() {
        let now = Timestamp::from_secs(1_750_000_000);
        let line = "--host 10.0.0.0/8,::1 --src 192.0.2.7 --port ssh --proto udp --since 1d --until 2025-06-15";
        let filter = args(line).unwrap().filter(now);
        let net = |text: &str| Hosts::from(text.parse::<IpNet>().unwrap());
        let expected = Filter {
            since: Some(Timestamp::from_secs(1_749_913_600)),
            until: Some(Timestamp::from_nanos(1_750_031_999_999_999_000)),
            hosts: vec![net("10.0.0.0/8"), net("::1/128")],
            src: Some(net("192.0.2.7/32")),
            dst: None,
            port: Some(22..=22),
            proto: Some(17),
            limit: Some(1000),
        };
        assert_eq!(filter, expected);
        for (line, limit) in
            [("--json", None), ("--csv --limit 5", Some(5)), ("--parquet x", None), ("--limit 7", Some(7))]
        {
            assert_eq!(args(line).unwrap().filter(now).limit, limit, "{line}");
        }
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_what_does() {
        for (line, words) in [
            ("--host web-1", "write an address such as"),
            ("--port 70000", "is no port"),
            ("--proto tpc", "write tcp, udp"),
            ("--since soon", "write how long ago"),
            ("--until 1960-01-01", "write how long ago"),
            ("--class scan", "there are port_scan"),
            ("--json --csv", "cannot be used with"),
            ("--summaries --class port_scan", "cannot be used with"),
            ("--limit 0", "0 is not in 1.."),
        ] {
            let error = args(line).unwrap_err();
            assert!(error.contains(words), "{line}: {error}");
        }
    }
}
