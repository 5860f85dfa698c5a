//! What `leuko run` does about attackers, put together: the responder, its socket, lists, and others who enforce.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context as _, Result};
use sensor_core::incident::{Incident, IncidentEvent};
use sensor_core::net::Network;
use sensor_core::respond::{Guard, Ladder};
use serde_json::{Value, json};
use tracing::warn;

use super::live::{SystemClocks, stopwatch};
use super::wall_clock;
use crate::config::Config;
use crate::control::Control;
use crate::export::prometheus::Metrics;
use crate::live::{Clocks as _, OwnTraffic, Tick};
use crate::respond::hook::Hook;
use crate::respond::lists::Lists;
use crate::respond::{Enforcer, Guards, Importer, Instant, Memory, Responder, Response, nftables, plain};
use crate::source::kernel::KernelSource;
use crate::store::keeper::Keeper;

/// How often it is looked who is never to be blocked.
const LOOK: Duration = Duration::from_secs(5);
/// Evidence: lists on which attackers are, by address.
const LISTED: &str = "listed";

/// Everything about responding.
pub struct Responding {
    response: Response,
    guards: Guards,
    own: OwnTraffic,
    looked: Mutex<Duration>,
    lists: Option<Arc<Lists>>,
    _importer: Option<Importer>,
    _control: Option<Control>,
    enforcers: Vec<Enforcer>,
    metrics: Arc<Metrics>,
    _hook: Option<Hook>,
}

impl Responding {
    /// Goes on with what an earlier process has left, and takes orders.
    pub async fn start(
        config: &Config,
        source: &KernelSource,
        own: &OwnTraffic,
        keeper: &Keeper,
        metrics: &Arc<Metrics>,
    ) -> Result<Self> {
        let at = instant();
        let kept = keeper.call(move |desk| {
            let store = desk.store()?;
            let memory = Memory { blocks: store.blocks()?, offences: store.offences()? };
            anyhow::Ok((memory, store.armed_since(at.now)?))
        });
        let (memory, armed_since) = kept.await.context("the store has stopped").flatten().unwrap_or_else(|error| {
            warn!(error = format!("{error:#}"), "what was blocked before is not known");
            (Memory::default(), at.now)
        });
        let guards = Guards {
            configured: config.respond.never.iter().chain(&config.detect.allow).map(network).collect(),
            starter: std::env::var("SSH_CONNECTION").ok().as_deref().and_then(Guards::ssh_client),
        };
        let mut guard = Guard::default();
        guard.set_local(config.detect.local.iter().map(network).collect());
        for (kind, networks) in guards.read(receivers(own)) {
            guard.set(kind, networks);
        }
        let ladder = Ladder::new(config.respond.policy(), guard, armed_since);
        let responder = Responder::new(ladder, source.blocklist(), keeper.clone(), Arc::clone(metrics), memory, at);
        let enforced = responder.enforced();
        let response = Response::new(responder, Arc::new(instant));
        let mut enforcers = Vec::new();
        if config.respond.nftables {
            enforcers.push(nftables::start(enforced.clone(), Arc::new(wall_clock)));
        }
        if let Some(path) = &config.respond.file {
            enforcers.push(plain::start(path.clone(), enforced.clone(), Arc::new(wall_clock))?);
        }
        let hook = config.respond.webhook.as_ref().map(|hook| Hook::start(hook, enforced, Arc::new(wall_clock)));
        let lists = if config.respond.lists.is_empty() {
            None
        } else {
            let lists = Lists::start(config.respond.lists.clone(), &config.state_dir, Arc::new(wall_clock));
            Some(Arc::new(lists.context("read the lists of respond.lists")?))
        };
        let control = control(&config.respond.socket(&config.state_dir), &response, lists.clone());
        let importer =
            lists.as_ref().map(|lists| Importer::start(Arc::clone(lists), response.clone(), source.blocklist()));
        if importer.is_none() {
            Importer::lift_all(&source.blocklist());
        }
        Ok(Self {
            response,
            guards,
            own: own.clone(),
            looked: Mutex::new(stopwatch()),
            lists,
            _importer: importer,
            _control: control,
            enforcers,
            metrics: Arc::clone(metrics),
            _hook: hook.transpose().context("prepare respond.webhook")?,
        })
    }

    /// A way to the responder.
    #[must_use]
    pub const fn response(&self) -> &Response {
        &self.response
    }

    /// Does what a tick asks for. Gives what happened to incidents, with the lists that attackers are on.
    pub fn tick(&self, tick: &Tick) -> Vec<Arc<IncidentEvent>> {
        let events: Vec<Arc<IncidentEvent>> = tick.events.iter().map(|event| self.marked(event)).collect();
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let now = stopwatch();
        let looks = now.saturating_sub(*looked) >= LOOK;
        if looks {
            *looked = now;
        }
        self.response.with(|responder, at| {
            if looks {
                responder.protect(self.guards.read(receivers(&self.own)), at);
            }
            responder.tick(&events, &tick.attempts, &tick.proven, at);
        });
        if looks && let Some(lists) = &self.lists {
            self.metrics.respond().lists(&lists.status(), tick.now);
        }
        events
    }

    fn marked(&self, event: &Arc<IncidentEvent>) -> Arc<IncidentEvent> {
        let Some(lists) = &self.lists else { return Arc::clone(event) };
        let listed = listed(&event.incident, lists);
        if listed.is_empty() {
            return Arc::clone(event);
        }
        let mut event = IncidentEvent::clone(event);
        event.incident.evidence.insert(LISTED.to_owned(), Value::Object(listed));
        Arc::new(event)
    }

    /// Others who enforce lift what is blocked, unless the kernel goes on with it.
    pub async fn stop(self, stays: bool) {
        for enforcer in self.enforcers.into_iter().filter(|_| !stays) {
            enforcer.stop().await;
        }
    }
}

fn listed(incident: &Incident, lists: &Lists) -> serde_json::Map<String, Value> {
    let named = incident.attackers.iter().map(|&addr| (addr, lists.find(addr.into()).collect::<Vec<_>>()));
    named.filter(|(_, names)| !names.is_empty()).map(|(addr, names)| (addr.to_string(), json!(names))).collect()
}

/// A sensor that cannot take orders watches all the same.
fn control(path: &Path, response: &Response, lists: Option<Arc<Lists>>) -> Option<Control> {
    match Control::serve(path, response.clone(), lists) {
        Ok(control) => Some(control),
        Err(error) => {
            warn!(error = format!("{error:#}"), "no orders are taken: `leuko block` will not work");
            None
        }
    }
}

fn receivers(own: &OwnTraffic) -> impl Iterator<Item = IpAddr> {
    own.current().into_iter().map(|(addr, _)| addr).collect::<BTreeSet<_>>().into_iter()
}

fn network(network: &crate::config::network::Network) -> Network {
    Network::new(network.addr(), network.prefix_len())
}

fn instant() -> Instant {
    let monotonic_ns = u64::try_from(stopwatch().as_nanos()).unwrap_or(u64::MAX);
    Instant { now: SystemClocks.now().epoch, monotonic_ns }
}
