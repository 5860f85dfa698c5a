//! What it costs to keep flows, and how soon they are found again.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use leuko::store::flows::{self, Filter, FlowRow, Hosts, Retention, Upkeep};
use rusqlite::Connection;
use sensor_core::flow::{EndReason, FlowRecord};
use sensor_core::time::Timestamp;
use sensor_ebpf::abi::{Addr, FlowKey, FlowSlot, Half};

use crate::report::Report;
use crate::turns::{Sample, time};

const ROWS: u32 = 3_000_000;
const HOSTS: u32 = 10_000;
/// Flows of one transaction.
const BATCH: u32 = 4096;
/// What is promised, in flows a second.
const PROMISED: f64 = 50_000.0;
/// Flows that end in a second of event time.
const RATE: u32 = 1000;
const START: u64 = 1_750_000_000;
const TURNS: usize = 5;

const RETENTION: Retention = Retention {
    keep: Duration::from_secs(7 * 86_400),
    keep_summaries: Duration::from_secs(90 * 86_400),
    max_octets: u64::MAX,
};

/// Adds the lines of the history.
pub fn measure(report: &mut Report) -> Result<()> {
    let dir = tempfile::tempdir().context("make a folder for the history")?;
    let path = dir.path().join("leuko.db");
    let mut conn = Connection::open(&path)?;
    conn.execute_batch("PRAGMA journal_mode = wal; PRAGMA synchronous = normal; PRAGMA cache_size = -16384;")?;
    conn.execute_batch(flows::SCHEMA)?;
    write(&mut conn, report)?;
    let octets = std::fs::metadata(&path)?.len();
    report.add("store: a flow on the disk, with its indexes", octets as f64 / f64::from(ROWS), "octets");
    ask(&path, report)?;
    roll_up(&mut conn, report)
}

/// Batches as the sensor writes them, each followed by the upkeep that is due.
fn write(conn: &mut Connection, report: &mut Report) -> Result<()> {
    let mut random = Random(0x5eed);
    let (mut spent, mut longest_batch, mut longest_step) = (Duration::ZERO, Duration::ZERO, Duration::ZERO);
    let mut sealed = 0;
    for batch in 0..ROWS.div_ceil(BATCH) {
        let rows: Vec<FlowRow> =
            (batch * BATCH..ROWS.min((batch + 1) * BATCH)).map(|n| FlowRow::of(&record(n, &mut random))).collect();
        let mut result = Ok(());
        let took = time(|| result = flows::append(conn, &rows));
        result?;
        longest_batch = longest_batch.max(took);
        let step = keep_up(conn, seen(batch * BATCH), &mut sealed)?;
        longest_step = longest_step.max(step);
        spent += took + step;
    }
    // Some time later, the last partition is closed, too.
    loop {
        let before = sealed;
        spent += keep_up(conn, seen(ROWS + 3601 * RATE), &mut sealed)?;
        if sealed > before {
            break;
        }
    }
    ensure!(sealed == u64::from(ROWS), "{sealed} of {ROWS} flows have indexes");
    let rate = f64::from(ROWS) / spent.as_secs_f64();
    report.add("store: 3 M flows of 10,000 hosts, written and sealed", rate / 1e3, "k/s");
    report.add("store: a flow of these", 1e6 / rate, "us").relative(1e6 / PROMISED, "what is promised").limit(1.0);
    report.add("store: the longest batch of 4,096 of it", longest_batch.as_secs_f64() * 1e3, "ms");
    report.add("store: the longest step of upkeep of it", longest_step.as_secs_f64() * 1e3, "ms");
    Ok(())
}

/// Does a step of upkeep. Counts the flows of partitions that are sealed now.
fn keep_up(conn: &mut Connection, now: Timestamp, sealed: &mut u64) -> Result<Duration> {
    let mut done = Ok(Upkeep::Idle);
    let took = time(|| done = flows::upkeep(conn, now, &RETENTION));
    if let Upkeep::Sealed(flows) = done? {
        *sealed += flows;
    }
    Ok(took)
}

/// Questions, in turns with the same read of every flow, without indexes.
fn ask(path: &Path, report: &mut Report) -> Result<()> {
    let mut conn = Connection::open(path)?;
    let one = || vec![Hosts::from(host(77))];
    let minute =
        |filter: Filter| Filter { since: Some(seen(ROWS / 2)), until: Some(seen(ROWS / 2 + 60 * RATE)), ..filter };
    let questions = [
        ("store: all flows of a host", Filter { hosts: one(), ..Filter::default() }),
        ("store: all flows to a rare port", Filter { port: Some(6379..=6379), ..Filter::default() }),
        ("store: flows of a host in a certain minute", minute(Filter { hosts: one(), ..Filter::default() })),
        ("store: the latest 1,000 flows", Filter { limit: Some(1000), ..Filter::default() }),
    ];
    for (what, filter) in questions {
        let (mut with, mut without) = (Sample::default(), Sample::default());
        let mut flows = 0;
        for _ in 0..TURNS {
            let mut found = Ok(flows::Found::default());
            with.push(1e3 * time(|| found = flows::query(&mut conn, &filter, None, |_| Ok(()))).as_secs_f64());
            flows = found?.flows;
            let mut scanned = Ok(0);
            without.push(1e3 * time(|| scanned = scan(&conn)).as_secs_f64());
            ensure!(scanned? == u64::from(ROWS), "not every flow was read");
        }
        ensure!(flows > 0, "{what}: there are none");
        report.add_sample(format!("{what} ({flows})"), &with, "ms").relative(without.median(), "a scan").limit(1.0);
    }
    Ok(())
}

/// Compares a column of every flow, as a table without indexes would have to.
fn scan(conn: &Connection) -> rusqlite::Result<u64> {
    let ids: Vec<i64> =
        conn.prepare("SELECT id FROM flow_partition")?.query_map([], |row| row.get(0))?.collect::<Result<_, _>>()?;
    let mut rows = 0;
    for id in ids {
        let sql = format!("SELECT count(*) FROM flow_{id} NOT INDEXED WHERE src <> x'00' AND dst <> x'00'");
        rows += conn.query_row(&sql, [], |row| row.get::<_, u64>(0))?;
    }
    Ok(rows)
}

fn roll_up(conn: &mut Connection, report: &mut Report) -> Result<()> {
    let mut steps = Sample::default();
    let much_later = seen(0) + RETENTION.keep + Duration::from_secs(86_400);
    loop {
        let mut done = Ok(Upkeep::Idle);
        let took = time(|| done = flows::upkeep(conn, much_later, &RETENTION));
        if done? == Upkeep::Idle {
            break;
        }
        steps.push(took.as_secs_f64() * 1e3);
    }
    report.add_sample("store: 16,384 flows become sums", &steps, "ms");
    Ok(())
}

fn host(n: u32) -> Addr {
    Addr::from_v4(0x0a00_0000 + n)
}

fn seen(n: u32) -> Timestamp {
    Timestamp::from_secs(START) + Duration::from_secs(1) / RATE * n
}

/// Any host asks any other; every thousandth asks at a rare port.
fn record(n: u32, random: &mut Random) -> FlowRecord {
    let (src, dst) = (host(random.below(HOSTS)), host(random.below(HOSTS)));
    let port = if random.below(1000) == 0 { 6379 } else { [443, 80, 53, 22, 25][random.below(5) as usize] };
    let client_port = 1024 + u16::try_from(random.below(60_000)).expect("below 2^16");
    let (key, way) = FlowKey::canonical(src, client_port, dst, port, 6);
    let mut half = || {
        let packets = u64::from(1 + random.below(40));
        let first_ns = 1 + u64::from(random.below(1000));
        let octets = packets * (40 + u64::from(random.below(1400)));
        Half { packets, octets, first_ns, last_ns: first_ns + 1_000_000_000, len_sq: octets * 900, ..Half::default() }
    };
    let slot = FlowSlot { key, initiator: way as u8, ttl: [64, 57], half: [half(), half()], ..FlowSlot::default() };
    FlowRecord { slot, first_seen: seen(n), last_seen: seen(n) + Duration::from_secs(1), end_reason: EndReason::TcpFin }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u32) -> u32 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        let drawn = (((mixed ^ (mixed >> 31)) >> 32) * u64::from(limit)) >> 32;
        u32::try_from(drawn).expect("less than the limit")
    }
}
