//! What one station said.

use std::net::Ipv4Addr;

use sensor_ebpf::abi::MacAddr;

use crate::time::Timestamp;

/// Addresses remembered of one station.
const CLAIMS: usize = 16;
/// Hosts remembered that were told one lie.
const TOLD: usize = 16;

/// What one station said.
#[derive(Debug, Default)]
pub(super) struct Station {
    claims: Vec<Claim>,
    pub(super) last_seen: Timestamp,
}

/// That it has an address.
#[derive(Debug)]
pub(super) struct Claim {
    pub(super) ip: Ipv4Addr,
    pub(super) first_seen: Timestamp,
    pub(super) last_seen: Timestamp,
    /// Said in questions for others.
    pub(super) questions: u32,
    /// Said when asked.
    pub(super) answers: u32,
    /// Said to someone who had not asked.
    pub(super) unasked: u32,
    /// Said to everyone.
    pub(super) announced: u32,
    /// To whom it was said unasked.
    pub(super) told: Vec<Ipv4Addr>,
    /// Whether the station asked who has it, under another name, after it had said so unasked.
    pub(super) asked_itself: bool,
    /// Changes of owner before the first unasked claim, and at the latest.
    changes: Option<(u64, u64)>,
    /// Whether it is found to be a lie.
    pub(super) lie: bool,
    /// Who else claims it.
    pub(super) owner: Option<MacAddr>,
}

impl Station {
    pub(super) fn claims(&self) -> impl Iterator<Item = &Claim> {
        self.claims.iter()
    }

    pub(super) fn said(&self, ip: Ipv4Addr) -> Option<&Claim> {
        self.claims.iter().find(|claim| claim.ip == ip)
    }

    pub(super) fn said_mut(&mut self, ip: Ipv4Addr) -> Option<&mut Claim> {
        self.claims.iter_mut().find(|claim| claim.ip == ip)
    }

    /// The claim of an address, made now. Of too many claims the one made longest ago gives way.
    pub(super) fn claim(&mut self, ip: Ipv4Addr, at: Timestamp) -> &mut Claim {
        let index = self.claims.iter().position(|claim| claim.ip == ip).unwrap_or_else(|| {
            let fresh = Claim::new(ip, at);
            let oldest = self.claims.iter().enumerate().min_by_key(|(_, claim)| claim.last_seen);
            match oldest.map(|(index, _)| index) {
                Some(index) if self.claims.len() >= CLAIMS => {
                    self.claims[index] = fresh;
                    index
                }
                _ => {
                    self.claims.push(fresh);
                    self.claims.len() - 1
                }
            }
        });
        let claim = &mut self.claims[index];
        claim.last_seen = claim.last_seen.max(at);
        claim
    }

    /// Lets go of the tells of claims first made before `oldest`: what is still said will be told again.
    pub(super) fn forget(&mut self, oldest: Timestamp) {
        self.claims.retain(|claim| claim.last_seen >= oldest);
        for claim in self.claims.iter_mut().filter(|claim| claim.first_seen < oldest) {
            let (questions, answers) = (claim.questions, claim.answers);
            *claim = Claim { questions, answers, ..Claim::new(claim.ip, claim.last_seen) };
        }
    }

    /// Takes in a question of the station.
    pub(super) fn wonder(&mut self, target: Ipv4Addr, at: Timestamp) {
        if let Some(claim) = self.said_mut(target)
            && claim.unasked + claim.announced > 0
        {
            claim.asked_itself = true;
            claim.last_seen = claim.last_seen.max(at);
        }
    }

    /// The address that it has, as far as can be told: the one it said most in earnest.
    pub(super) fn own(&self) -> Option<Ipv4Addr> {
        let honest = self.claims.iter().filter(|claim| !claim.lie && claim.unasked == 0);
        let honest = honest.filter(|claim| claim.questions + claim.answers > 0);
        honest.max_by_key(|claim| (claim.questions + claim.answers, claim.ip)).map(|claim| claim.ip)
    }

    /// Whether one that was told a claim is itself claimed towards the claimed.
    pub(super) fn is_between(&self, claim: &Claim) -> bool {
        let told = claim.told.iter().filter_map(|&ip| self.said(ip));
        told.into_iter().any(|other| other.unasked > 0 && other.told.contains(&claim.ip))
    }
}

impl Claim {
    const fn new(ip: Ipv4Addr, at: Timestamp) -> Self {
        Self {
            ip,
            first_seen: at,
            last_seen: at,
            questions: 0,
            answers: 0,
            unasked: 0,
            announced: 0,
            told: Vec::new(),
            asked_itself: false,
            changes: None,
            lie: false,
            owner: None,
        }
    }

    /// Said unasked to `whom`, when the address had changed its owner so often.
    pub(super) fn unasked(&mut self, whom: Ipv4Addr, changes: u64) {
        self.unasked = self.unasked.saturating_add(1);
        self.note_changes(changes);
        if self.told.len() < TOLD && !self.told.contains(&whom) {
            self.told.push(whom);
        }
    }

    /// Said to everyone.
    pub(super) fn announced(&mut self, changes: u64) {
        self.announced = self.announced.saturating_add(1);
        self.note_changes(changes);
    }

    /// How often the address has changed its owner while the station claimed it unasked.
    pub(super) const fn changes(&self) -> u64 {
        match self.changes {
            Some((first, latest)) => latest.saturating_sub(first),
            None => 0,
        }
    }

    fn note_changes(&mut self, changes: u64) {
        let first = self.changes.map_or(changes, |(first, _)| first);
        self.changes = Some((first, changes));
    }
}
