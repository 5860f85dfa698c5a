//! What is watched in a namespace, and what to do about it when its links have changed. Decides only.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::choice::{Skip, choose};
use crate::config::interface::NamePattern;
use crate::source::kernel::rtnetlink::Link;

/// The links of one namespace that are watched, skipped, or refused.
#[derive(Debug, Default)]
pub struct Roster {
    /// By index.
    watched: BTreeMap<u32, Watched>,
    skipped: BTreeMap<u32, Skip>,
    refused: BTreeMap<u32, Refusal>,
}

#[derive(Debug)]
struct Watched {
    /// At the last listing.
    name: String,
    /// As it was before it was attached to.
    before: Link,
    /// Whether it was given an XDP program.
    by_xdp: bool,
}

impl Watched {
    /// A link that lacks the program which was attached is another that was given the same index. Without one, it is known by
    /// its hardware address; and when another's XDP program comes or goes, it is attached to anew.
    fn is(&self, link: &Link) -> bool {
        if self.by_xdp { link.xdp != 0 } else { (&link.mac, link.xdp) == (&self.before.mac, self.before.xdp) }
    }
}

/// A link that could not be attached to.
#[derive(Debug)]
struct Refusal {
    /// As it was then.
    link: Link,
    retry_at: Duration,
    wait: Duration,
}

/// The first time between two tries; it doubles up to [`LONGEST_WAIT`].
const FIRST_WAIT: Duration = Duration::from_secs(2);
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// Something to do, in this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It is gone, or was made anew: drop its links.
    Forget {
        /// What it was.
        index: u32,
        /// What it was called.
        name: String,
    },
    /// It has another name; its links follow it.
    Rename {
        /// What it was called.
        from: String,
        /// What it is called.
        to: String,
    },
    /// It is not watched, or no longer; say why.
    Skip {
        /// What is skipped.
        link: Link,
        /// Why.
        why: Skip,
        /// Whether it was asked for by its name.
        by_name: bool,
        /// Whether its links are to be dropped.
        detach: bool,
    },
    /// Attach, and say how it went: [`Roster::attached`] or [`Roster::refused`].
    Attach {
        /// To what.
        link: Link,
        /// Whether it was asked for by its name.
        by_name: bool,
    },
}

impl Roster {
    /// Compares a listing with what is watched; `at` is the time since any fixed point.
    pub fn update(&mut self, links: &[Link], patterns: &[NamePattern], at: Duration) -> Vec<Step> {
        let listed: BTreeMap<u32, &Link> = links.iter().map(|link| (link.index, link)).collect();
        let mut steps = Vec::new();
        let is_there = |index: &u32, watched: &Watched| listed.get(index).is_some_and(|link| watched.is(link));
        for (index, watched) in self.watched.extract_if(.., |index, watched| !is_there(index, watched)) {
            steps.push(Step::Forget { index, name: watched.name });
        }
        for (index, watched) in &mut self.watched {
            let to = &listed[index].name;
            if watched.name != *to {
                let from = std::mem::replace(&mut watched.name, to.clone());
                steps.push(Step::Rename { from, to: to.clone() });
            }
        }
        let choices = choose(links, patterns, &self.indices());
        self.skipped.retain(|index, _| choices.get(index).is_some_and(|choice| choice.skip.is_some()));
        self.refused.retain(|index, _| choices.get(index).is_some_and(|choice| choice.skip.is_none()));
        let mut attach = Vec::new();
        for (index, choice) in choices {
            let (link, by_name) = (listed[&index].clone(), choice.by_name);
            match choice.skip {
                Some(why) => {
                    let detach = self.watched.remove(&index).is_some();
                    let is_news = self.skipped.insert(index, why.clone()).as_ref() != Some(&why);
                    if is_news || detach {
                        steps.push(Step::Skip { link, why, by_name, detach });
                    }
                }
                None if self.watched.contains_key(&index) || self.must_wait(&link, at) => {}
                None => attach.push(Step::Attach { link, by_name }),
            }
        }
        steps.extend(attach);
        steps
    }

    /// A link was attached to, by XDP or without.
    pub fn attached(&mut self, link: &Link, by_xdp: bool) {
        self.refused.remove(&link.index);
        self.watched.insert(link.index, Watched { name: link.name.clone(), before: link.clone(), by_xdp });
    }

    /// A link could not be attached to. True when that is news: the first time, or after the link has changed.
    pub fn refused(&mut self, link: &Link, at: Duration) -> bool {
        let before = self.refused.get(&link.index).filter(|before| before.link == *link);
        let wait = before.map_or(FIRST_WAIT, |before| (before.wait * 2).min(LONGEST_WAIT));
        let is_news = before.is_none();
        self.refused.insert(link.index, Refusal { link: link.clone(), retry_at: at + wait, wait });
        is_news
    }

    /// Everything is gone.
    pub fn clear(&mut self) -> Vec<Step> {
        let watched = std::mem::take(self).watched;
        watched.into_iter().map(|(index, watched)| Step::Forget { index, name: watched.name }).collect()
    }

    /// Indices of the links that are watched.
    #[must_use]
    pub fn indices(&self) -> BTreeSet<u32> {
        self.watched.keys().copied().collect()
    }

    fn must_wait(&self, link: &Link, at: Duration) -> bool {
        self.refused.get(&link.index).is_some_and(|refusal| refusal.link == *link && at < refusal.retry_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Scene {
        roster: Roster,
        patterns: Vec<NamePattern>,
        at: Duration,
    }

    impl Scene {
        fn new(patterns: &[&str]) -> Self {
            let patterns = patterns.iter().map(|text| NamePattern::new(text).unwrap()).collect();
            Self { roster: Roster::default(), patterns, at: Duration::ZERO }
        }

        /// Updates after a second, attaches what is asked for, and tells the steps.
        #[track_caller]
        fn check(&mut self, links: &mut [Link], expected: &[&str]) {
            self.at += Duration::from_secs(1);
            let steps = self.roster.update(links, &self.patterns, self.at);
            for step in &steps {
                match step {
                    Step::Attach { link, .. } if link.name.starts_with("bad") => {
                        self.roster.refused(link, self.at);
                    }
                    Step::Attach { link, .. } => {
                        let by_xdp = link.name != "behind";
                        self.roster.attached(link, by_xdp);
                        let attached = links.iter_mut().filter(|other| by_xdp && other.index == link.index);
                        attached.for_each(|link| link.xdp = 1);
                    }
                    Step::Skip { link, .. } => {
                        links.iter_mut().filter(|other| other.index == link.index).for_each(|link| link.xdp = 0);
                    }
                    Step::Forget { .. } | Step::Rename { .. } => {}
                }
            }
            assert_eq!(steps.iter().map(told).collect::<Vec<_>>(), expected);
        }
    }

    fn told(step: &Step) -> String {
        match step {
            Step::Forget { index, name } => format!("forget {index} {name}"),
            Step::Rename { from, to } => format!("rename {from} {to}"),
            Step::Skip { link, detach, .. } => format!("skip {}{}", link.name, if *detach { ", detach" } else { "" }),
            Step::Attach { link, .. } => format!("attach {} {}", link.index, link.name),
        }
    }

    fn link(index: u32, name: &str) -> Link {
        Link { index, name: name.to_owned(), hardware: 1, up: true, ..Link::default() }
    }

    #[test]
    fn links_that_come_and_go_are_attached_and_forgotten() {
        let mut scene = Scene::new(&["eth*"]);
        scene.check(&mut [], &[]);
        let mut links = [link(2, "eth0"), link(3, "wlan0")];
        scene.check(&mut links, &["attach 2 eth0"]);
        scene.check(&mut links, &[]);
        scene.check(&mut [links[1].clone()], &["forget 2 eth0"]);
        scene.check(&mut [link(4, "eth0")], &["attach 4 eth0"]);
        assert_eq!(scene.roster.indices(), BTreeSet::from([4]));
        assert_eq!(scene.roster.clear().iter().map(told).collect::<Vec<_>>(), ["forget 4 eth0"]);
        assert!(scene.roster.indices().is_empty());
    }

    #[test]
    fn a_link_that_was_made_anew_between_two_listings_is_attached_anew() {
        let mut scene = Scene::new(&["eth0"]);
        scene.check(&mut [link(2, "eth0")], &["attach 2 eth0"]);
        scene.check(&mut [link(5, "eth0")], &["forget 2 eth0", "attach 5 eth0"]);
        // By chance or by request, it may even have the same index.
        scene.check(&mut [link(5, "eth0")], &["forget 5 eth0", "attach 5 eth0"]);
    }

    #[test]
    fn a_link_without_a_program_of_ours_is_known_by_its_address() {
        let mut scene = Scene::new(&["behind"]);
        let mut links = [Link { mac: vec![2, 1], xdp: 7, ..link(2, "behind") }];
        scene.check(&mut links, &["attach 2 behind"]);
        scene.check(&mut links, &[]);
        links[0].xdp = 0;
        scene.check(&mut links, &["forget 2 behind", "attach 2 behind"]);
        scene.check(&mut links, &[]);
        links[0].mac = vec![2, 2];
        scene.check(&mut links, &["forget 2 behind", "attach 2 behind"]);
    }

    #[test]
    fn a_renamed_link_stays_watched_and_its_name_is_free_for_another() {
        let mut scene = Scene::new(&["eth0"]);
        let mut links = [link(2, "eth0"), link(3, "eth1")];
        scene.check(&mut links, &["attach 2 eth0"]);
        links[0].name = "wan".to_owned();
        scene.check(&mut links, &["rename eth0 wan"]);
        scene.check(&mut links, &[]);
        links[1].name = "eth0".to_owned();
        scene.check(&mut links, &["attach 3 eth0"]);
        scene.check(&mut links[1..], &["forget 2 wan"]);
    }

    #[test]
    fn a_bridge_is_let_go_when_its_port_is_watched_and_taken_back_after() {
        let mut scene = Scene::new(&["*"]);
        let mut links = [link(2, "br0"), link(3, "eth0")];
        scene.check(&mut links, &["attach 2 br0", "attach 3 eth0"]);
        links[1].master = Some(2);
        scene.check(&mut links, &["skip br0, detach"]);
        scene.check(&mut links, &[]);
        links[1].master = None;
        scene.check(&mut links, &["attach 2 br0"]);
    }

    #[test]
    fn a_refused_link_is_tried_again_when_it_changes_and_ever_more_seldom() {
        let mut scene = Scene::new(&["bad*"]);
        let mut links = [link(2, "bad0")];
        let mut tries = Vec::new();
        for second in 1..=20 {
            let before = scene.at;
            let steps = scene.roster.update(&links, &scene.patterns, before + Duration::from_secs(1));
            scene.at = before + Duration::from_secs(1);
            if let [Step::Attach { link, .. }] = &steps[..] {
                let is_news = scene.roster.refused(link, scene.at);
                tries.push((second, is_news));
            }
        }
        assert_eq!(tries, [(1, true), (3, false), (7, false), (15, false)]);
        links[0].xdp = 1;
        scene.check(&mut links, &["attach 2 bad0"]);
        scene.check(&mut [], &[]);
        scene.check(&mut links, &["attach 2 bad0"]);
    }

    #[test]
    fn a_wait_has_an_end() {
        let mut roster = Roster::default();
        for _ in 0..100 {
            roster.refused(&link(2, "eth0"), Duration::ZERO);
        }
        assert!(roster.must_wait(&link(2, "eth0"), LONGEST_WAIT - Duration::from_secs(1)));
        assert!(!roster.must_wait(&link(2, "eth0"), LONGEST_WAIT));
    }
}
