//! The result as Markdown.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::beacons::{BeaconReport, Place, Uncontrolled};
use super::captures::{AttackReport, BenignReport};
use super::mixed::MixedReport;
use super::robustness::Change;
use super::truth::Named;
use super::{Measured, Summary};

/// The card. Every figure is of event time and repeats to the digit.
#[must_use]
pub fn markdown(measured: &Measured) -> String {
    let mut card = INTRODUCTION.to_owned();
    write_summary(&mut card, &measured.summary, &measured.mixed);
    let (counted, apart): (Vec<_>, Vec<_>) = measured.attacks.iter().partition(|attack| attack.counts);
    card.push_str("\n## Attacks\n");
    write_attacks(&mut card, &counted);
    card.push_str(APART);
    write_attacks(&mut card, &apart);
    write_benign(&mut card, &measured.benign);
    write_mixed(&mut card, &measured.mixed);
    write_beacons(&mut card, &measured.beacons);
    card
}

const INTRODUCTION: &str = "# Detection card

Written by `cargo xtask eval captures`; do not edit. The same captures give the same digits: times are event time.

Each labelled capture is replayed as `leuko replay` does without a configuration. An attack is **found** by an incident of
a class by which it may be called and with a labelled host among its attackers or victims, detected after the first
malicious frame. That is the first packet of the earliest flow or ARP conversation all of whose frames are malicious; of
the earliest with any malicious frame where no flow is wholly so. *After* is the time from it to the tick that found the
attack. *Attacker*, *victim*: a labelled one is named as such; where the label tells in words that there are many (forged
sources, reflectors), nobody or only ends of malicious flows; who attacks, the host that beacons or the one it calls, is a
matter of view. *Besides*: more incidents like the one that found it (duplicate), about its hosts by another name
(misnamed), about other hosts although the rest of the capture is benign (false) or of unknown nature (unknown).

The captures are short, from laboratories, and known to the developers: these figures tell of regressions, not of what
another network would give.
";

const APART: &str = "
Apart, because their flows are a few ordinary connections whose content is the attack, and counters of flows cannot
honestly show it:
";

fn write_summary(card: &mut String, summary: &Summary, mixed: &MixedReport) {
    card.push_str("\n| figure | measured | aim | |\n|---|--:|--:|---|\n");
    let seconds = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.2} s"));
    let met = |met: bool| if met { "reached" } else { "missed" };
    let of = |part: usize, all: usize| format!("{part}/{all}");
    let quick = summary.median_s_loud.is_some_and(|median| median < 2.0);
    let rate = per_hour(summary.mixed_false, mixed.hours);
    for (figure, value, aim, verdict) in [
        ("attack captures found", of(summary.detected, summary.attacks), "26/28", met(summary.detected >= 26)),
        ("with the right attacker", of(summary.attacker_right, summary.attacks), "", ""),
        ("with the right victim", of(summary.victim_right, summary.attacks), "", ""),
        ("incidents besides: duplicate, misnamed, false", summary.besides.to_string(), "", ""),
        ("attack captures found, of those apart", of(summary.apart_detected, summary.apart), "", ""),
        (
            "median time to find a loud attack (scan, flood, brute force)",
            seconds(summary.median_s_loud),
            "< 2 s",
            met(quick),
        ),
        ("median time to find any attack", seconds(summary.median_s), "", ""),
        (
            "false incidents in benign captures",
            format!("{} in {}, {:.1} h", summary.benign_false, summary.benign, summary.benign_hours),
            "<= 2",
            met(summary.benign_false <= 2),
        ),
        (
            "events of the mixed capture found",
            of(summary.events_detected, summary.events),
            "11/12",
            met(summary.events_detected >= 11),
        ),
        (
            "false incidents in the mixed capture",
            format!("{} in {:.1} h: {rate}", summary.mixed_false, mixed.hours),
            "<= 2",
            met(summary.mixed_false <= 2),
        ),
    ] {
        let _ = writeln!(card, "| {figure} | {value} | {aim} | {verdict} |");
    }
}

fn write_attacks(card: &mut String, attacks: &[&AttackReport]) {
    card.push_str(
        "\n| capture | label | found as | after | attacker | victim | besides |\n|---|---|---|--:|---|---|---|\n",
    );
    for attack in attacks {
        let AttackReport { label, accepted, found, duplicates, misnamed, false_incidents, unknown_incidents, .. } =
            attack;
        let duplicates = (*duplicates > 0).then(|| format!("{duplicates} duplicate")).into_iter();
        let kinds = [("misnamed", misnamed), ("false", false_incidents), ("unknown", unknown_incidents)];
        let besides = kinds.iter().filter(|(_, classes)| !classes.is_empty());
        let besides: Vec<String> =
            duplicates.chain(besides.map(|(kind, classes)| format!("{kind}: {}", by_class(classes)))).collect();
        let outcome = match found {
            Some(found) => format!("{} | {:.2} s | {}", found.class, found.seconds, named(Some(found.named))),
            None => format!("**missed** ({}) | | | ", accepted.join(", ")),
        };
        let _ = writeln!(card, "| {} | {label} | {outcome} | {} |", short(&attack.file), besides.join("; "));
    }
}

fn write_benign(card: &mut String, benign: &[BenignReport]) {
    card.push_str("\n## Benign captures\n\n");
    let noisy: Vec<&BenignReport> = benign.iter().filter(|capture| !capture.incidents.is_empty()).collect();
    let hours = benign.iter().map(|capture| capture.seconds).sum::<f64>() / 3600.0;
    let quiet = benign.len() - noisy.len();
    let _ = writeln!(card, "{quiet} of {} captures, {hours:.2} hours in all, are without an incident.", benign.len());
    if !noisy.is_empty() {
        card.push_str("\n| capture | seconds | false incidents |\n|---|--:|---|\n");
    }
    for capture in noisy {
        let BenignReport { file, seconds, incidents } = capture;
        let _ = writeln!(card, "| {} | {seconds:.0} | {} |", short(file), by_class(incidents));
    }
}

fn write_mixed(card: &mut String, mixed: &MixedReport) {
    card.push_str("\n## Mixed capture\n\nAn incident belongs to an event if class and hosts are right, as above, and it is within a minute of it.\n\n");
    card.push_str("| event | found as | after | attacker | victim | duplicates |\n|---|---|--:|---|---|--:|\n");
    for event in &mixed.events {
        let class = event.class.as_deref().unwrap_or("**missed**");
        let after = event.seconds.map_or(String::new(), |seconds| format!("{seconds:.2} s"));
        let _ =
            writeln!(card, "| {} | {class} | {after} | {} | {} |", event.label, named(event.named), event.duplicates);
    }
    let share = 100.0 * mixed.flagged_windows as f64 / mixed.benign_windows.max(1) as f64;
    let _ = writeln!(
        card,
        "\n{} false incidents in {:.2} hours ({}), {} duplicates. Of {} host windows (an address and a minute in which it \
         sent or received) with benign traffic only, {} ({share:.2} %) are named by an incident that is open then.",
        mixed.false_incidents.len(),
        mixed.hours,
        per_hour(mixed.false_incidents.len(), mixed.hours),
        mixed.duplicates(),
        mixed.benign_windows,
        mixed.flagged_windows,
    );
    if !mixed.false_incidents.is_empty() {
        card.push_str("\n| false incident | at | attackers | victims |\n|---|--:|---|---|\n");
    }
    for seen in &mixed.false_incidents {
        let list = |hosts: &[std::net::IpAddr]| hosts.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        let (attackers, victims) = (list(&seen.attackers), list(&seen.victims));
        let _ = writeln!(card, "| {} | {:.0} s | {attackers} | {victims} |", seen.class, seen.seconds);
    }
}

const BEACONS: &str = "
## Beacons

Candidates are services that a host calls more or less regularly, in order of their score. *Overall*: the rank among all
candidates of the benign captures and of two days of hosts that are attacked but controlled by nobody.

| file | true beacon | rank | overall | score | interval | jitter | reported |
|---|---|--:|--:|--:|--:|--:|---|
";

fn write_beacons(card: &mut String, beacons: &BeaconReport) {
    card.push_str(BEACONS);
    let yes = |yes: bool| if yes { "yes" } else { "no" };
    for truth in &beacons.controlled {
        let place = truth.found.as_ref().map_or("**none** | | | | | ".to_owned(), |place| {
            let Place { rank, overall_rank, score, interval_s, jitter, reported } = place;
            let reported = yes(*reported);
            let of = truth.candidates;
            format!("{rank} of {of} | {overall_rank} | {score:.2} | {interval_s:.1} s | {jitter:.2} | {reported}")
        });
        let _ = writeln!(card, "| {} | {} | {place} |", name(&truth.file), truth.about);
    }
    card.push_str("\nThe ten files with the best candidates where nobody is controlled:\n\n");
    card.push_str("| file | candidates | best score | reported |\n|---|--:|--:|--:|\n");
    for other in beacons.uncontrolled.iter().take(10) {
        let Uncontrolled { file, candidates, best_score, reported } = other;
        let _ = writeln!(card, "| {} | {candidates} | {best_score:.2} | {reported} |", name(file));
    }
}

/// A capture by its file, a log by its folder.
fn name(file: &str) -> &str {
    let is_folder = |part: &&str| !part.contains("conn.log") && *part != "data";
    if file.contains("conn.log") { file.rsplit('/').find(is_folder).unwrap_or(file) } else { short(file) }
}

/// The card of what other values of parameters change.
#[must_use]
pub fn robustness(changes: &[Change]) -> String {
    let same = changes.iter().filter(|change| change.is_none()).count();
    let mut card = format!(
        "# Robustness card\n\n\
         Written by `cargo xtask eval captures --robustness`; do not edit.\n\n\
         Each parameter is halved and doubled, the others as usual. {same} of {} changes make no difference to which attacks of\n\
         the [detection card](DETECTION.md) are found, nor to benign captures.\n\n\
         | parameter | times | found | benign false | mixed found | mixed false | lost | gained | benign captures |\n\
         |---|--:|--:|--:|--:|--:|---|---|---|\n",
        changes.len()
    );
    for change in changes {
        let Summary { detected, benign_false, events_detected, mixed_false, .. } = change.summary;
        let list = |names: &[String]| names.iter().map(|name| short(name)).collect::<Vec<_>>().join(", ");
        let benign = change.benign.iter().map(|(file, more)| format!("{} {more:+}", short(file)));
        let _ = writeln!(
            card,
            "| {} | {} | {detected} | {benign_false} | {events_detected} | {mixed_false} | {} | {} | {} |",
            change.parameter,
            change.factor,
            list(&change.lost),
            list(&change.gained),
            benign.collect::<Vec<_>>().join(", ")
        );
    }
    card
}

fn by_class(incidents: &BTreeMap<String, usize>) -> String {
    let each = incidents.iter().map(|(class, count)| format!("{count} {class}"));
    each.collect::<Vec<_>>().join(", ")
}

fn named(named: Option<Named>) -> String {
    let word = |right| if right { "right" } else { "wrong" };
    named.map_or(" | ".to_owned(), |named| format!("{} | {}", word(named.attacker), word(named.victim)))
}

fn per_hour(count: usize, hours: f64) -> String {
    if hours > 0.0 { format!("{:.1} an hour", count as f64 / hours) } else { "-".to_owned() }
}

/// The file without its folders and ending.
fn short(file: &str) -> &str {
    let name = file.rsplit('/').next().unwrap_or(file);
    [".pcapng", ".pcap", ".cap"].iter().find_map(|ending| name.strip_suffix(ending)).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::super::testing::{attack, seen};
    use super::super::truth::Labelled;
    use super::super::{Material, mixed, observe::Observed};
    use super::*;

    #[test]
    fn every_table_has_rows_as_wide_as_its_head_and_says_what_was_missed() {
        let capture = |(file, label): (&str, &str)| Labelled {
            file: file.to_owned(),
            label: label.to_owned(),
            attack: (label != "benign").then(|| attack(label, "10.0.0.1", "10.0.0.2", (100, 110))),
            rest_is_benign: true,
        };
        let files = ["a/found.pcap", "a/lost.pcapng", "a/apart.pcap", "b/noisy.pcap"];
        let labels = ["scan_udp", "icmp_tunnel", "web_sqli", "benign"];
        let material = Material {
            data: "/none".into(),
            captures: files.into_iter().zip(labels).map(capture).collect(),
            events: vec![attack("scan_udp", "10.0.0.1", "10.0.0.2", (9000, 9010))],
            windows: mixed::HostWindows::default(),
        };
        let scan = || seen("port_scan", &["10.0.0.1"], &["10.0.0.2"], 101);
        let observed = Observed { incidents: vec![scan(), scan()], seconds: 1800.0, beacons: vec![] };
        let all = files.into_iter().chain([mixed::CAPTURE]).map(|file| (file, observed.clone())).collect();
        let card = markdown(&material.judge(&all).unwrap());
        for expected in [
            "| attack captures found | 1/2 | 26/28 | missed |",
            "| found | scan_udp | port_scan | 1.00 s | right | right | 1 duplicate |",
            "| lost | icmp_tunnel | **missed** (icmp_tunnel) | | |  | misnamed: 2 port_scan |",
            "| apart | web_sqli | **missed** (anomaly) | | |  | misnamed: 2 port_scan |",
            "| noisy | 1800 | 2 port_scan |",
            "| scan_udp | **missed** |  |  |  | 0 |",
        ] {
            assert!(card.contains(expected), "{expected} in\n{card}");
        }
        let mut width = None;
        for line in card.lines() {
            let cells = line.starts_with('|').then(|| line.matches('|').count());
            assert!(cells.is_none() || width.is_none() || cells == width, "{line}");
            width = cells;
        }
    }
}
