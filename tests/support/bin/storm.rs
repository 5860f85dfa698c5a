//! A sensor without a kernel: incidents at a hundred a second into the store and out to its sinks, until it is killed; with
//! `drain`, none, until everything is delivered.
//!
//! `storm CONFIG STATE_DIR SEED [drain]`
#![expect(clippy::disallowed_methods, reason = "it stands for app.rs")]

use std::net::Ipv4Addr;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Result, bail};
use leuko::export::prometheus::{Metrics, Vocabulary};
use leuko::notify::retry::Retry;
use leuko::notify::view::Author;
use leuko::notify::{Notifier, NotifyConfig, Sinks, Wiring};
use leuko::store::event_time;
use leuko::store::keeper::{Desk, Keep, Keeper};
use prometheus::Registry;
use sensor_core::incident::{Change, Class, Incident, IncidentEvent, Language, Severity};
use sensor_core::time::Timestamp;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

/// Time between two incidents.
const PACE: Duration = Duration::from_millis(10);
/// How long what is left may take.
const PATIENCE: Duration = Duration::from_secs(180);

#[tokio::main]
async fn main() -> Result<()> {
    tracing_subscriber::fmt().with_max_level(tracing::Level::ERROR).with_writer(std::io::stderr).init();
    let args: Vec<String> = std::env::args().collect();
    let [_, config, state_dir, seed, mode @ ..] = args.as_slice() else { bail!("storm CONFIG STATE_DIR SEED [drain]") };
    let config: NotifyConfig = toml::from_str(&std::fs::read_to_string(config)?)?;
    let metrics = Arc::new(Metrics::new(&Registry::new(), &Vocabulary::default())?);
    let clock = Arc::new(SystemTime::now);
    let store = Keeper::start(Path::new(state_dir), Keep::default(), Arc::clone(&metrics), clock.clone())?;
    let keeper = store.keeper();
    let wiring = Wiring {
        author: Author { sensor: "storm".to_owned(), language: Language::En, dashboard: None },
        metrics,
        clock,
        retry: Retry { first: Duration::from_millis(5), longest: Duration::from_millis(100) },
        keeper: keeper.clone(),
        status: watch::channel(None).1,
        response: watch::channel(None).1,
    };
    let sinks = Sinks::build(&config, &wiring)?;
    keeper.begin(sinks.names());
    let notifier = Notifier::start(sinks, &keeper, &wiring);
    if mode.is_empty() {
        storm(&keeper, seed).await
    } else {
        if timeout(PATIENCE, drain(&keeper)).await.is_err() {
            let queues = keeper.call(|desk| anyhow::Ok(desk.store()?.queues()?)).await;
            bail!("not everything was delivered in time: {queues:?}");
        }
        notifier.shutdown(Duration::from_secs(1)).await;
        store.stop();
        Ok(())
    }
}

async fn storm(keeper: &Keeper, seed: &str) -> Result<()> {
    let mut pace = interval(PACE);
    pace.set_missed_tick_behavior(MissedTickBehavior::Burst);
    for n in 0_u32.. {
        pace.tick().await;
        let now = event_time(SystemTime::now());
        let mut events = vec![event(Change::Opened, incident(seed, n, Severity::Medium, now), now)];
        if let Some(earlier) = n.checked_sub(5).filter(|earlier| earlier.is_multiple_of(2)) {
            events.push(event(Change::Updated, incident(seed, earlier, Severity::High, now), now));
        }
        if let Some(earlier) = n.checked_sub(10) {
            let severity = if earlier.is_multiple_of(2) { Severity::High } else { Severity::Medium };
            events.push(event(Change::Closed, incident(seed, earlier, severity, now), now));
        }
        keeper.record(&events);
    }
    Ok(())
}

async fn drain(keeper: &Keeper) {
    let left = |desk: &mut Desk| {
        let queues = desk.store().ok()?.queues().ok()?;
        Some(queues.iter().map(|queue| queue.pending).sum::<u64>())
    };
    while keeper.call(left).await.flatten() != Some(0) {
        sleep(Duration::from_millis(50)).await;
    }
}

fn event(change: Change, incident: Incident, at: Timestamp) -> Arc<IncidentEvent> {
    Arc::new(IncidentEvent { change, at, incident })
}

fn incident(seed: &str, n: u32, severity: Severity, now: Timestamp) -> Incident {
    Incident {
        id: format!("{seed}{n:08x}"),
        class: Class::ALL[n as usize % Class::ALL.len()],
        severity,
        attackers: vec![Ipv4Addr::from_bits(0x0a00_0000 + n).into()],
        victims: vec![Ipv4Addr::new(192, 0, 2, 10).into()],
        ports: vec![22],
        first_seen: now,
        detected_at: now,
        last_seen: now,
        score: 0.9,
        summary: "one of many".to_owned(),
        evidence: [("packets".to_owned(), json!(n))].into(),
    }
}
