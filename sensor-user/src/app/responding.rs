//! What `leuko run` does about attackers, put together: the responder, its socket, lists, and others who enforce.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

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
use crate::live::{Clocks as _, Live, OwnTraffic, Tick};
use crate::respond::hook::Hook;
use crate::respond::lists::Lists;
use crate::respond::{Enforcer, Guards, Importer, Instant, Memory, Responder, Response, nftables, plain};
use crate::store::keeper::Keeper;

/// Evidence: lists on which attackers are, by address.
const LISTED: &str = "listed";

/// Everything about responding.
pub struct Responding {
    response: Response,
    guards: Mutex<Guards>,
    own: OwnTraffic,
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
        live: &mut Live<SystemClocks>,
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
        let mut guards = Guards::new(
            config.respond.never.iter().chain(&config.detect.allow).map(network).collect(),
            std::env::var("SSH_CONNECTION").ok().as_deref().and_then(Guards::ssh_client),
        );
        let (source, own) = (&live.source, &live.own);
        let mut guard = Guard::default();
        guard.set_local(config.detect.local.iter().map(network).collect());
        for (kind, networks) in guards.read(&live.watch.hosts(), receivers(own)) {
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
            guards: Mutex::new(guards),
            own: own.clone(),
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
        let guards = tick.hosts.as_ref().map(|hosts| {
            let mut guards = self.guards.lock().unwrap_or_else(PoisonError::into_inner);
            guards.read(hosts, receivers(&self.own))
        });
        let looked = guards.is_some();
        self.response.with(|responder, at| {
            if let Some(guards) = guards {
                responder.protect(guards, at);
            }
            responder.tick(&events, &tick.attempts, &tick.proven, at);
        });
        if looked && let Some(lists) = &self.lists {
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
