//! A network namespace in which something is watched.

use std::collections::BTreeSet;
use std::io;
use std::mem;
use std::net::IpAddr;

use anyhow::{Context as _, Result, bail};
use sensor_core::respond::Guard;
use tracing::warn;

use super::choice::{Choice, choose};
use super::roster::Roster;
use crate::config::interface::{InterfaceSpec, NamePattern, NamespaceName};
use crate::source::kernel::interface::{Interface, names};
use crate::source::kernel::namespace::Namespace;
use crate::source::kernel::rtnetlink::{Link, Lister};

/// A namespace, what to watch there, and what is.
#[derive(Debug)]
pub struct Place {
    /// Its name; none for that of the sensor.
    pub name: Option<NamespaceName>,
    /// What to watch.
    pub patterns: Vec<NamePattern>,
    /// Whether it was told that the namespace or its listing is missing.
    pub told_missing: bool,
    /// What is watched.
    pub roster: Roster,
    /// The links of the last listing.
    pub links: Vec<Link>,
    open: Option<(Namespace, Lister)>,
    host: Host,
    /// Whether it was told that not all of the host can be read.
    told_unread: bool,
}

/// A namespace as the host that it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Host {
    /// Its name; none for that of the sensor.
    pub namespace: Option<NamespaceName>,
    /// Its addresses, on all interfaces.
    pub addresses: BTreeSet<IpAddr>,
    /// The gateways of its routes.
    pub gateways: BTreeSet<IpAddr>,
}

impl Place {
    /// The places that specs name, in the order in which they first do.
    #[must_use]
    pub fn of(specs: &[InterfaceSpec]) -> Vec<Self> {
        let mut places: Vec<Self> = Vec::new();
        for InterfaceSpec { namespace, pattern } in specs {
            match places.iter_mut().find(|place| place.name == *namespace) {
                Some(place) => place.patterns.push(pattern.clone()),
                None => places.push(Self::new(namespace.clone(), vec![pattern.clone()])),
            }
        }
        places
    }

    /// The namespace of the sensor, where nothing is watched.
    #[must_use]
    pub fn home() -> Self {
        Self::new(None, Vec::new())
    }

    fn new(name: Option<NamespaceName>, patterns: Vec<NamePattern>) -> Self {
        Self {
            host: Host { namespace: name.clone(), ..Host::default() },
            name,
            patterns,
            told_missing: false,
            roster: Roster::default(),
            links: Vec::new(),
            open: None,
            told_unread: false,
        }
    }

    /// The namespace, once it was opened.
    #[must_use]
    pub fn namespace(&self) -> Option<&Namespace> {
        self.open.as_ref().map(|(namespace, _)| namespace)
    }

    /// Opens the namespace, unless it is open.
    ///
    /// # Errors
    /// When there is none of this name, or it may not be entered.
    pub fn open(&mut self) -> Result<()> {
        if self.open.is_none() {
            let namespace = Namespace::open(self.name.as_ref())?;
            let lister = Lister::open(&namespace)?;
            self.open = Some((namespace, lister));
        }
        Ok(())
    }

    /// Lets go of the namespace, which the kernel keeps while it is open.
    pub fn close(&mut self) {
        self.open = None;
        self.links.clear();
        self.host = Host { namespace: self.name.clone(), ..Host::default() };
    }

    /// Lists the links anew.
    ///
    /// # Errors
    /// When the namespace is not open, or the kernel does not answer.
    pub fn list(&mut self) -> io::Result<()> {
        self.links = self.ask(Lister::list)?;
        Ok(())
    }

    /// Reads anew who is here and who is routed to, as long as the namespace is open. What cannot be read stays as it was.
    pub fn host(&mut self) -> Option<Host> {
        self.namespace()?;
        let addresses = self.ask(Lister::addresses).map(|read| renew(&mut self.host.addresses, read));
        let gateways = self.ask(Lister::gateways).map(|read| renew(&mut self.host.gateways, read));
        let failed = addresses.and(gateways).err();
        let was_told = mem::replace(&mut self.told_unread, failed.is_some());
        if let Some(error) = failed.filter(|_| !was_told) {
            let namespace = self.name.as_ref().map(NamespaceName::as_str);
            warn!(namespace, %error, "cannot list addresses or gateways; those known before are still never blocked");
        }
        Some(self.host.clone())
    }

    fn ask<T>(&mut self, question: impl FnOnce(&mut Lister) -> io::Result<T>) -> io::Result<T> {
        let (namespace, lister) = self.open.as_mut().ok_or(io::ErrorKind::NotConnected)?;
        question(lister).inspect_err(|_| {
            // What is left of the answer must not be taken for the next one.
            if let Ok(fresh) = Lister::open(namespace) {
                *lister = fresh;
            }
        })
    }

    /// A listed link as an interface; none when the namespace is not open.
    #[must_use]
    pub fn interface(&self, link: &Link) -> Option<Interface> {
        Some(Interface { namespace: self.namespace()?.clone(), link: link.clone() })
    }

    /// Opens and lists, and says for each spec what it means at present.
    ///
    /// # Errors
    /// When the namespace cannot be opened or listed.
    pub fn survey(&mut self) -> Result<Vec<(NamePattern, Finding)>> {
        self.open()?;
        self.list().context("list network interfaces")?;
        let choices = choose(&self.links, &self.patterns, &BTreeSet::new());
        let mut told = BTreeSet::new();
        let mut findings = Vec::new();
        for pattern in &self.patterns {
            let meant = |link: &&Link| choices.contains_key(&link.index) && pattern.matches(&link.name);
            let meant: Vec<&Link> = self.links.iter().filter(meant).collect();
            if meant.is_empty() {
                let finding = match pattern.name() {
                    Some(name) => Finding::Missing(self.missing(name)),
                    None => Finding::Nothing,
                };
                findings.push((pattern.clone(), finding));
            }
            for link in meant.into_iter().filter(|link| told.insert(link.index)) {
                let interface = self.interface(link).context("the namespace is open")?;
                findings.push((pattern.clone(), Finding::Found(interface, choices[&link.index].clone())));
            }
        }
        Ok(findings)
    }

    /// Refuses names of interfaces that do not exist or cannot be watched. Patterns without a match are left to wait.
    ///
    /// # Errors
    /// The first of them.
    pub fn require(findings: &[(NamePattern, Finding)]) -> Result<()> {
        for (_, finding) in findings {
            match finding {
                Finding::Missing(message) => bail!("{message}"),
                Finding::Found(interface, choice) if choice.by_name => interface.require_ethernet()?,
                Finding::Found(..) | Finding::Nothing => {}
            }
        }
        Ok(())
    }

    fn missing(&self, name: &str) -> String {
        let place = self.name.as_ref().map(|name| format!(" in the network namespace {name}")).unwrap_or_default();
        format!("there is no interface {name:?}{place}; there are: {}", names(&self.links))
    }
}

/// Takes in a listing, which lacks some if it is not whole.
fn renew(known: &mut BTreeSet<IpAddr>, (mut read, is_whole): (BTreeSet<IpAddr>, bool)) {
    if !is_whole {
        read.extend(known.iter().take(Guard::KEPT));
    }
    *known = read;
}

/// What a spec means at present.
#[derive(Debug)]
pub enum Finding {
    /// This interface, to be watched or not; one that several specs mean is told of the first.
    Found(Interface, Choice),
    /// A pattern that matches nothing yet.
    Nothing,
    /// A name that nothing has; with what exists.
    Missing(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(specs: &[&str]) -> Place {
        let specs: Vec<InterfaceSpec> = specs.iter().map(|text| (*text).to_owned().try_into().unwrap()).collect();
        let mut places = Place::of(&specs);
        assert_eq!(places.len(), 1);
        places.remove(0)
    }

    #[test]
    fn specs_are_gathered_by_namespace() {
        let specs = ["eth0", "blue:eth0", "wlan*", "red:*", "blue:veth?"];
        let specs = specs.map(|text| InterfaceSpec::try_from(text.to_owned()).unwrap());
        let places = Place::of(&specs);
        let names: Vec<_> = places.iter().map(|place| place.name.as_ref().map_or("", NamespaceName::as_str)).collect();
        assert_eq!(names, ["", "blue", "red"]);
        assert_eq!(places[1].patterns.iter().map(NamePattern::as_str).collect::<Vec<_>>(), ["eth0", "veth?"]);
    }

    #[test]
    fn names_that_do_not_exist_are_refused_and_patterns_wait() {
        let findings = place(&["lo", "nosuch*", "l*"]).survey().unwrap();
        assert!(matches!(&findings[0].1, Finding::Found(lo, choice) if lo.link.name == "lo" && choice.skip.is_none()));
        assert!(matches!(&findings[1].1, Finding::Nothing));
        Place::require(&findings).unwrap();
        let findings = place(&["nosuch0"]).survey().unwrap();
        let error = Place::require(&findings).unwrap_err().to_string();
        assert!(error.contains("nosuch0") && error.contains("lo"), "{error}");
    }

    #[test]
    fn who_is_here_stays_known_when_the_kernel_does_not_answer() {
        let mut place = Place::home();
        assert_eq!(place.host(), None, "not open");
        place.open().unwrap();
        let own = place.host().unwrap().addresses;
        assert!(own.contains(&"127.0.0.1".parse().unwrap()), "{own:?}");
        let former = "192.0.2.1".parse().unwrap();
        place.host.addresses.insert(former);
        place.open.as_mut().unwrap().1 = Lister::deaf();
        assert!(place.host().unwrap().addresses.contains(&former));
        assert!(!place.host().unwrap().addresses.contains(&former), "asked by another socket");
        place.close();
        assert_eq!(place.host(), None);
    }

    #[test]
    fn a_listing_that_is_not_whole_forgets_nobody() {
        let set = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<BTreeSet<IpAddr>>();
        let mut known = set(&["192.0.2.1"]);
        renew(&mut known, (set(&["192.0.2.2"]), false));
        assert_eq!(known, set(&["192.0.2.1", "192.0.2.2"]));
        renew(&mut known, (set(&["192.0.2.2"]), true));
        assert_eq!(known, set(&["192.0.2.2"]));
    }

    #[test]
    fn a_namespace_that_does_not_exist_is_named() {
        let error = place(&["no-such-namespace:eth0"]).survey().unwrap_err().to_string();
        assert!(error.contains("no-such-namespace"), "{error}");
    }
}
