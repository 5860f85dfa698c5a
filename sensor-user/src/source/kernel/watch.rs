//! Which interfaces are watched, as they come, go and are renamed.

pub mod choice;
mod place;
pub mod roster;

use std::collections::BTreeSet;
use std::time::Duration;

use anyhow::{Result, anyhow, bail};
use tracing::{info, warn};

pub use self::place::{Finding, Host, Place};
use super::KernelSource;
use super::attach::{Attached, EgressChoice, XdpChoice};
use super::interface::Interface;
use super::rtnetlink::Link;
use crate::config::interface::{InterfaceSpec, NamePattern, NamespaceName};
use choice::{Skip, counted, unambiguous};
use roster::Step;

/// The interfaces of this sensor. Which programs are attached is up to the [`KernelSource`]; this says to which.
#[derive(Debug)]
pub struct Watch {
    home: Place,
    places: Vec<Place>,
    xdp: XdpChoice,
    egress: EgressChoice,
    /// What the kernel program was told.
    told: BTreeSet<u32>,
}

/// What became of an interface, which is named as in the configuration.
#[derive(Debug)]
pub enum Change {
    /// It is watched.
    Attached(Attached),
    /// It is gone.
    Gone {
        /// What it was called.
        interface: String,
    },
    /// It is still watched, by another name.
    Renamed {
        /// What it was called.
        from: String,
        /// What it is called.
        to: String,
    },
    /// It was asked for and is not watched.
    Skipped {
        /// Its name.
        interface: String,
        /// Why.
        why: Skip,
        /// Whether it was asked for by its name, and not by a pattern.
        by_name: bool,
    },
    /// It cannot be watched; it is tried again, and not told again until it changes.
    Refused {
        /// Its name.
        interface: String,
        /// Whether it was asked for by its name, and not by a pattern.
        by_name: bool,
        /// Why.
        error: anyhow::Error,
    },
    /// A namespace cannot be looked into; told once.
    Lost {
        /// Its name; none for that of the sensor.
        namespace: Option<NamespaceName>,
        /// Why.
        error: anyhow::Error,
    },
}

impl Watch {
    /// Attaches to all that `specs` mean at present.
    ///
    /// # Errors
    /// When a namespace or an interface that is named does not exist, an interface that is named cannot be attached to,
    /// or none can.
    pub fn start(
        specs: &[InterfaceSpec],
        (xdp, egress): (XdpChoice, EgressChoice),
        source: &mut KernelSource,
        at: Duration,
    ) -> Result<Self> {
        let mut places = Place::of(specs);
        for place in &mut places {
            let findings = place.survey()?;
            Place::require(&findings)?;
            for (pattern, finding) in &findings {
                if matches!(finding, Finding::Nothing) {
                    let pattern = full_name(place.name.as_ref(), pattern.as_str());
                    warn!(pattern, "no interface matches yet; it is watched when it appears");
                }
            }
        }
        refuse_twins(&places)?;
        let mut home = Place::home();
        home.open()?;
        let mut watch = Self { home, places, xdp, egress, told: BTreeSet::new() };
        let mut refused = None;
        for change in watch.apply(source, at) {
            if let Change::Refused { by_name: true, error, .. } = change {
                return Err(error);
            }
            change.log();
            if let Change::Refused { error, .. } = change {
                refused = refused.or(Some(error));
            }
        }
        match refused {
            Some(error) if watch.is_idle() => Err(error),
            Some(_) | None => Ok(watch),
        }
    }

    /// Lists the interfaces anew and follows what has changed; `at` is the time since any fixed point.
    pub fn reconcile(&mut self, source: &mut KernelSource, at: Duration) -> Vec<Change> {
        let changes = self.apply(source, at);
        changes.iter().for_each(Change::log);
        changes
    }

    /// The sensor's own host, and those of the other namespaces that are watched, read anew.
    pub fn hosts(&mut self) -> Vec<Host> {
        let others = self.places.iter_mut().filter(|place| place.name.is_some());
        std::iter::once(&mut self.home).chain(others).filter_map(Place::host).collect()
    }

    /// Whether no interface is watched.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.places.iter().all(|place| place.roster.indices().is_empty())
    }

    fn apply(&mut self, source: &mut KernelSource, at: Duration) -> Vec<Change> {
        let mut changes = Vec::new();
        for index in 0..self.places.len() {
            let steps = self.steps(index, at, &mut changes);
            for step in steps {
                changes.extend(self.take(index, step, source, at));
            }
            // After the links were dropped, whose namespace it is.
            let place = &mut self.places[index];
            if place.namespace().is_some_and(|namespace| !namespace.is_still_named()) {
                place.close();
            }
        }
        self.tell(source);
        changes
    }

    /// What has to be done in one place. A namespace that is gone has no links, and may come back.
    fn steps(&mut self, index: usize, at: Duration, changes: &mut Vec<Change>) -> Vec<Step> {
        let taken: Vec<_> = self.places.iter().filter_map(|place| Some(place.namespace()?.id())).collect();
        let place = &mut self.places[index];
        let was_open = place.namespace().is_some();
        if place.namespace().is_some_and(|namespace| !namespace.is_still_named()) {
            return place.roster.clear();
        }
        let listed = place.open().and_then(|()| Ok(place.list()?));
        let is_twin = !was_open && place.namespace().is_some_and(|namespace| taken.contains(&namespace.id()));
        let listed = if is_twin { Err(anyhow!("it is another name of a namespace that is watched")) } else { listed };
        match listed {
            Ok(()) => {
                place.told_missing = false;
                place.roster.update(&place.links, &place.patterns, at)
            }
            Err(error) => {
                if is_twin {
                    place.close();
                }
                if !std::mem::replace(&mut place.told_missing, true) {
                    changes.push(Change::Lost { namespace: place.name.clone(), error });
                }
                Vec::new()
            }
        }
    }

    fn take(&mut self, index: usize, step: Step, source: &mut KernelSource, at: Duration) -> Option<Change> {
        let place = &mut self.places[index];
        let full = |name: &str| full_name(place.name.as_ref(), name);
        let namespace = place.namespace()?.id();
        match step {
            Step::Forget { index, name } => {
                source.detach_from((namespace, index));
                Some(Change::Gone { interface: full(&name) })
            }
            Step::Rename { from, to } => Some(Change::Renamed { from: full(&from), to: full(&to) }),
            Step::Skip { link, why, by_name, detach } => {
                if detach {
                    source.detach_from((namespace, link.index));
                }
                Some(Change::Skipped { interface: full(&link.name), why, by_name })
            }
            Step::Attach { link, by_name } => self.attach(index, &link, by_name, source, at),
        }
    }

    fn attach(
        &mut self,
        index: usize,
        link: &Link,
        by_name: bool,
        source: &mut KernelSource,
        at: Duration,
    ) -> Option<Change> {
        let place = &mut self.places[index];
        let interface = place.interface(link)?;
        match source.attach(&interface, self.xdp, self.egress) {
            Ok(attached) => {
                place.roster.attached(link, attached.is_native());
                Some(Change::Attached(attached))
            }
            Err(error) => {
                let is_news = place.roster.refused(link, at);
                // Interfaces of containers may be gone as soon as they were listed.
                let is_listed = |place: &Place| place.links.iter().any(|other| other.index == link.index);
                let is_gone = !by_name && place.list().is_ok() && !is_listed(place);
                let refused = Change::Refused { interface: interface.to_string(), by_name, error };
                (is_news && !is_gone).then_some(refused)
            }
        }
    }

    fn tell(&mut self, source: &mut KernelSource) {
        let indices = |links: &[Link]| links.iter().map(|link| link.index).collect();
        let both = |place: &Place| (indices(&place.links), counted(&place.links, &place.roster.indices()));
        let namespaces: Vec<_> = self.places.iter().map(both).collect();
        let watched = unambiguous(&namespaces);
        if watched == self.told {
            return;
        }
        match source.set_watched(&watched) {
            Ok(()) => self.told = watched,
            Err(error) => warn!(error = format!("{error:#}"), "forwarded packets may be counted twice"),
        }
    }
}

impl Change {
    fn log(&self) {
        match self {
            // Told by who attached.
            Self::Attached(_) => {}
            Self::Gone { interface } => info!(interface, "gone, no longer watched"),
            Self::Renamed { from, to } => info!(from, to, "renamed, still watched"),
            Self::Skipped { interface, why, by_name: true } => {
                warn!(interface, why = why.to_string(), "not watched");
            }
            Self::Skipped { interface, why, by_name: false } => {
                info!(interface, why = why.to_string(), "not watched");
            }
            Self::Refused { interface, error, .. } => {
                warn!(interface, error = format!("{error:#}"), "cannot watch an interface; it is tried again");
            }
            Self::Lost { namespace, error } => {
                let namespace = namespace.as_ref().map(NamespaceName::as_str);
                warn!(namespace, error = format!("{error:#}"), "cannot list interfaces; it is tried again");
            }
        }
    }
}

/// The specs, or the interface of the default route when there are none.
///
/// # Errors
/// When there are none, and no default route either.
pub fn or_default_route(specs: &[InterfaceSpec]) -> Result<Vec<InterfaceSpec>> {
    if !specs.is_empty() {
        return Ok(specs.to_vec());
    }
    let Interface { link, .. } = Interface::of_default_route()?;
    match NamePattern::new(&link.name) {
        Some(pattern) => Ok(vec![InterfaceSpec { namespace: None, pattern }]),
        None => bail!("the default route is by {:?}, whose name cannot be configured", link.name),
    }
}

/// As it is written in the configuration.
fn full_name(namespace: Option<&NamespaceName>, name: &str) -> String {
    namespace.map_or_else(|| name.to_owned(), |namespace| format!("{namespace}:{name}"))
}

/// A namespace may have several names, and may be that of the sensor; its interfaces are attached to once.
fn refuse_twins(places: &[Place]) -> Result<()> {
    for (index, place) in places.iter().enumerate() {
        let id = |place: &Place| place.namespace().map(super::namespace::Namespace::id);
        if let Some(twin) = places[..index].iter().find(|other| id(other) == id(place)) {
            let name = |place: &Place| match &place.name {
                Some(name) => format!("{:?}", name.as_str()),
                None => "that of the sensor".to_owned(),
            };
            bail!("the network namespaces {} and {} are the same: keep to one name", name(twin), name(place));
        }
    }
    Ok(())
}
