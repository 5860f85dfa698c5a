//! `leuko block`, `leuko unblock` and `leuko blocks`.

use std::fmt::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use sensor_core::respond::Block;
use sensor_core::time::Timestamp;

use super::{actor, now, print, runtime};
use crate::cli::block::{BlockArgs, BlocksArgs, UnblockArgs};
use crate::config::Config;
use crate::control::{Answer, Client, Request};
use crate::respond::line::{BlockLine, timestamp};
use crate::respond::lists::Action;
use crate::respond::{Guards, nftables, plain};

/// Has the running sensor block somebody.
///
/// # Errors
/// No sensor runs, or it refuses.
pub fn block(config: &Config, args: &BlockArgs) -> Result<ExitCode> {
    if args.requests && !args.network.is_single() {
        bail!("--requests is about one host of this network, not about {}", args.network);
    }
    let host = args.host();
    let request = Request {
        network: if host.is_none() { Some(args.network) } else { None },
        host,
        protocol: args.protocol(),
        port: args.port,
        limit: args.limit.unwrap_or(0),
        seconds: args.span.map(|span| span.as_secs()),
        reason: args.reason.clone(),
        ..who()
    };
    let answer = ask(config, async |client| client.block(&request).await)?;
    print(told(BLOCKED, &answer, args.json)?.as_bytes())
}

/// Has the running sensor lift blocks.
///
/// # Errors
/// No sensor runs, or nothing is blocked there.
pub fn unblock(config: &Config, args: &UnblockArgs) -> Result<ExitCode> {
    let request = Request { network: Some(args.network), reason: args.reason.clone(), ..who() };
    let answer = ask(config, async |client| client.unblock(&request).await)?;
    if answer.blocks.is_empty() {
        bail!("nothing of {} is blocked; `leuko blocks` shows what is", args.network);
    }
    print(told(UNBLOCKED, &answer, args.json)?.as_bytes())
}

/// Shows what is blocked.
///
/// # Errors
/// No sensor runs.
pub fn blocks(config: &Config, args: &BlocksArgs) -> Result<ExitCode> {
    let answer = ask(config, async |client| client.blocks().await)?;
    let enforced =
        || -> Vec<Block> { answer.blocks.iter().filter(|line| line.enforced).filter_map(BlockLine::block).collect() };
    let text = if args.json {
        lines(&answer.blocks)?
    } else if args.nft {
        nftables::ruleset(&enforced(), now()).0
    } else if args.plain {
        plain::list(&enforced(), now())
    } else {
        table(&answer, now())
    };
    print(text.as_bytes())
}

/// Who asks, and from where.
fn who() -> Request {
    let connection = std::env::var("SSH_CONNECTION").unwrap_or_default();
    Request { actor: Some(actor()), session: Guards::ssh_client(&connection), ..Request::default() }
}

fn ask(config: &Config, question: impl AsyncFnOnce(&Client) -> Result<Answer>) -> Result<Answer> {
    let client = Client::connect(&config.respond.socket(&config.state_dir))?;
    runtime()?.block_on(question(&client))
}

fn lines(blocks: &[BlockLine]) -> Result<String> {
    let mut text = String::new();
    for line in blocks {
        text += &(serde_json::to_string(line).context("print a block as JSON")? + "\n");
    }
    Ok(text)
}

/// What has become of a block, and what that means for its end.
const BLOCKED: [&str; 2] = ["blocked", "until"];
const UNBLOCKED: [&str; 2] = ["no longer blocked", "which was to last until"];

fn told([what, end]: [&str; 2], answer: &Answer, json: bool) -> Result<String> {
    if json {
        return lines(&answer.blocks);
    }
    let mut text = String::new();
    let before = answer.was_until.map(|until| format!("; it was until {}", timestamp(until))).unwrap_or_default();
    for block in answer.blocks.iter().filter_map(BlockLine::block) {
        // Writing to a String cannot fail.
        let _ = writeln!(text, "{what}: {} ({}), {end} {}{before}", block.target, block.measure, block.until);
    }
    for sentence in &answer.still {
        let _ = writeln!(text, "but {sentence}");
    }
    Ok(text)
}

fn table(answer: &Answer, now: Timestamp) -> String {
    let mut text = format!("mode {}", answer.mode);
    if answer.unarmed_s > 0 {
        let left = Duration::from_secs(answer.unarmed_s);
        let _ = write!(text, "; new here: what it does by itself is only counted for {}", short(left));
    }
    text.push('\n');
    for list in &answer.lists {
        let entries = list.entries.map_or_else(|| "not read yet".to_owned(), |entries| format!("{entries} networks"));
        let blocked = list.blocked.map_or_else(String::new, |blocked| format!(", {blocked} of them blocked"));
        let age = list.age_s.map_or_else(String::new, |age| format!(", {} old", short(Duration::from_secs(age))));
        let error = list.error.as_deref().map_or_else(String::new, |error| format!(": {error}"));
        let _ = writeln!(text, "list {} ({}): {entries}{blocked}{age}{error}", list.name, list.action);
    }
    if answer.blocks.is_empty() {
        let by_lists = answer.lists.iter().any(|list| list.action == Action::Block.to_string());
        text += if by_lists { "nothing else is blocked\n" } else { "nothing is blocked\n" };
        return text;
    }
    let _ = writeln!(
        text,
        "{:<32} {:<12} {:>8} {:>12} {:>8}  {:<24} WHY",
        "TARGET", "ACTION", "LEFT", "PACKETS", "LAST", "BY"
    );
    for line in &answer.blocks {
        let Some(block) = line.block() else { continue };
        let measure = if block.enforced { block.measure.to_string() } else { format!("would {}", block.measure) };
        let seen = line.last_seen.map_or_else(|| "-".to_owned(), |at| short(since(now, at)));
        let _ = writeln!(
            text,
            "{:<32} {measure:<12} {:>8} {:>12} {seen:>8}  {:<24} {}",
            block.target.to_string(),
            short(block.left(now)),
            line.packets.unwrap_or(0),
            block.by.to_string(),
            block.reason,
        );
    }
    text
}

fn since(now: Timestamp, secs: f64) -> Duration {
    Duration::try_from_secs_f64(now.epoch_seconds() - secs).unwrap_or_default()
}

/// The two largest units: `2d 3h`, `59m 30s`.
fn short(span: Duration) -> String {
    let secs = span.as_secs();
    let (days, hours, minutes) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{secs}s"),
        (0, 0, _) => format!("{minutes}m {}s", secs % 60),
        (0, ..) => format!("{hours}h {minutes}m"),
        _ => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::ListLine;

    fn line(network: &str, enforced: bool, packets: u64) -> BlockLine {
        BlockLine {
            network: network.parse().ok(),
            host: None,
            protocol: None,
            port: None,
            limit: 0,
            enforced,
            since: 1000.0,
            until: 4600.0,
            by: "incident:09ff71591213e016".to_owned(),
            reason: "brute_force, high".to_owned(),
            packets: Some(packets),
            octets: Some(packets * 60),
            last_seen: (packets > 0).then_some(1065.0),
        }
    }

    #[test]
    fn what_stays_blocked_is_told() {
        let still = vec!["203.0.113.7 on the list drop stays blocked".to_owned()];
        let answer = Answer { blocks: vec![line("203.0.113.7", true, 0)], still, ..Answer::default() };
        let text = told(UNBLOCKED, &answer, false).unwrap();
        assert!(text.ends_with("\nbut 203.0.113.7 on the list drop stays blocked\n"), "{text}");
        assert_eq!(told(UNBLOCKED, &answer, true).unwrap().lines().count(), 1);
    }

    #[test]
    fn a_changed_end_is_told() {
        let answer =
            Answer { blocks: vec![line("203.0.113.7", true, 0)], was_until: Some(8200.0), ..Answer::default() };
        assert_eq!(
            told(BLOCKED, &answer, false).unwrap(),
            "blocked: 203.0.113.7 (drop), until 1970-01-01T01:16:40.000Z; it was until 1970-01-01T02:16:40.000Z\n"
        );
    }

    #[test]
    fn the_table_says_what_is_blocked_and_what_only_would_be() {
        let answer = Answer {
            blocks: vec![line("203.0.113.7", true, 12), line("203.0.113.8", false, 0)],
            mode: "drop".to_owned(),
            unarmed_s: 5400,
            ..Answer::default()
        };
        let text = table(&answer, Timestamp::from_secs(1070));
        let rows: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        assert_eq!(text.lines().next(), Some("mode drop; new here: what it does by itself is only counted for 1h 30m"));
        assert_eq!(rows[2][..6], ["203.0.113.7", "drop", "58m", "50s", "12", "5s"]);
        assert_eq!(rows[3][..6], ["203.0.113.8", "would", "drop", "58m", "50s", "0"]);
        let list = ListLine {
            name: "drop".to_owned(),
            action: "block".to_owned(),
            source: "/etc/drop.txt".to_owned(),
            entries: Some(70_000),
            blocked: Some(63_488),
            age_s: Some(90),
            error: None,
        };
        let listed = Answer { mode: "observe".to_owned(), lists: vec![list], ..Answer::default() };
        let expected = "mode observe\nlist drop (block): 70000 networks, 63488 of them blocked, 1m 30s old\n\
                        nothing else is blocked\n";
        assert_eq!(table(&listed, Timestamp::EPOCH), expected);
        let nothing = Answer { mode: "observe".to_owned(), ..Answer::default() };
        assert_eq!(table(&nothing, Timestamp::EPOCH), "mode observe\nnothing is blocked\n");
    }
}
