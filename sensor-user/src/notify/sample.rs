//! A sample incident, to find out whether a sink works.

use std::sync::Arc;
use std::time::Duration;

use sensor_core::incident::{Change, Class, Incident, IncidentEvent, Language, Severity};
use sensor_core::time::Timestamp;
use serde_json::json;
use tokio::time::{sleep, timeout};

use super::{Notifier, Sinks, Wiring};

/// How long a sink may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// Sends a sample incident, opened and closed, to sinks that were chosen by [`Sinks::only`].
///
/// # Errors
/// Why a sink has not taken it.
pub async fn send(sinks: Sinks, wiring: &Wiring, now: Timestamp) -> Result<(), String> {
    let keeper = wiring.keeper.clone();
    keeper.begin(sinks.names());
    let notifier = Notifier::start(sinks, &keeper, wiring);
    let incident = incident(wiring.author.language, now);
    let events = [Change::Opened, Change::Closed]
        .map(|change| Arc::new(IncidentEvent { change, at: now, incident: incident.clone() }));
    keeper.record(&events);
    let settled = timeout(PATIENCE, async {
        loop {
            let look = |desk: &mut crate::store::keeper::Desk| {
                let store = desk.store().ok()?;
                Some((store.undelivered(None, 1).ok()?, store.queues().ok()?.iter().all(|queue| queue.pending == 0)))
            };
            match keeper.call(look).await.flatten() {
                Some((dead, _)) if !dead.is_empty() => return Err(dead[0].why.clone()),
                Some((_, true)) => return Ok(()),
                Some(_) | None => sleep(Duration::from_millis(20)).await,
            }
        }
    });
    let outcome = settled.await.unwrap_or_else(|_| Err(format!("no answer within {} s", PATIENCE.as_secs())));
    notifier.shutdown(Duration::ZERO).await;
    outcome
}

/// Between addresses that are reserved for documentation (RFC 5737).
fn incident(language: Language, now: Timestamp) -> Incident {
    Incident {
        id: format!("test{:012x}", (now.nanos() / 1_000_000) & 0xffff_ffff_ffff),
        class: Class::PortScan,
        severity: Severity::Critical,
        attackers: vec!["203.0.113.5".parse().expect("an address")],
        victims: vec!["192.0.2.10".parse().expect("an address")],
        ports: vec![22, 80, 443],
        first_seen: now - Duration::from_secs(3),
        detected_at: now,
        last_seen: now,
        score: 0.99,
        summary: match language {
            Language::En => "This is a test: nothing has happened".to_owned(),
            Language::Es => "Esto es una prueba: no ha pasado nada".to_owned(),
        },
        evidence: [("test".to_owned(), json!(true)), ("ports".to_owned(), json!(3))].into(),
    }
}
