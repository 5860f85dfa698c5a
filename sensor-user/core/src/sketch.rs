//! Counting distinct things in bounded memory.

/// How many distinct values were seen: exact up to [`Distinct::EXACT`], then a HyperLogLog estimate (Flajolet et al.
/// 2007) with 4,096 registers, whose standard error is 1.6 %.
#[derive(Clone, Debug, PartialEq)]
pub enum Distinct {
    /// The hashes themselves, sorted.
    Exact(Vec<u64>),
    /// Largest rank seen by each register.
    Estimate(Box<[u8; REGISTERS]>),
}

const PRECISION: u32 = 12;
const REGISTERS: usize = 1 << PRECISION;

impl Default for Distinct {
    fn default() -> Self {
        Self::Exact(Vec::new())
    }
}

impl Distinct {
    /// Up to this many values the count is exact.
    pub const EXACT: usize = 256;

    /// Takes in a value that fits two words.
    pub fn insert(&mut self, high: u64, low: u64) {
        self.insert_hash(mix(mix(high) ^ low));
    }

    /// Takes in whatever another one has taken in.
    pub fn merge(&mut self, other: &Self) {
        match other {
            Self::Exact(hashes) => hashes.iter().for_each(|&hash| self.insert_hash(hash)),
            Self::Estimate(theirs) => match self {
                Self::Exact(hashes) => {
                    let mut registers = theirs.clone();
                    hashes.iter().for_each(|&hash| register(&mut registers, hash));
                    *self = Self::Estimate(registers);
                }
                Self::Estimate(mine) => {
                    mine.iter_mut().zip(theirs.iter()).for_each(|(mine, theirs)| *mine = (*mine).max(*theirs));
                }
            },
        }
    }

    /// Forgets everything, and keeps its memory.
    pub fn clear(&mut self) {
        match self {
            Self::Exact(hashes) => hashes.clear(),
            Self::Estimate(_) => *self = Self::default(),
        }
    }

    /// How many distinct values were taken in.
    #[must_use]
    pub fn count(&self) -> u64 {
        match self {
            Self::Exact(hashes) => hashes.len() as u64,
            Self::Estimate(registers) => estimate(registers),
        }
    }

    fn insert_hash(&mut self, hash: u64) {
        match self {
            Self::Exact(hashes) => {
                let Err(place) = hashes.binary_search(&hash) else {
                    return;
                };
                hashes.insert(place, hash);
                if hashes.len() > Self::EXACT {
                    let mut registers = Box::new([0; REGISTERS]);
                    hashes.iter().for_each(|&hash| register(&mut registers, hash));
                    *self = Self::Estimate(registers);
                }
            }
            Self::Estimate(registers) => register(registers, hash),
        }
    }
}

fn register(registers: &mut [u8; REGISTERS], hash: u64) {
    let index = usize::try_from(hash >> (64 - PRECISION)).expect("twelve bits");
    let rank = u8::try_from(((hash << PRECISION) | 1 << (PRECISION - 1)).leading_zeros() + 1).expect("at most 53");
    registers[index] = registers[index].max(rank);
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count estimate, never negative")]
fn estimate(registers: &[u8; REGISTERS]) -> u64 {
    let m = REGISTERS as f64;
    let alpha = 0.7213 / (1.0 + 1.079 / m);
    let sum: f64 = registers.iter().map(|&rank| (-f64::from(rank)).exp2()).sum();
    let raw = alpha * m * m / sum;
    let zeros = registers.iter().filter(|&&rank| rank == 0).count();
    let estimate = if raw <= 2.5 * m && zeros > 0 { m * (m / zeros as f64).ln() } else { raw };
    estimate.round() as u64
}

/// The finaliser of SplitMix64 (Steele, Lea, Flood 2014): every input bit moves every output bit.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counted(n: u64) -> u64 {
        let mut distinct = Distinct::default();
        for _ in 0..2 {
            (0..n).for_each(|value| distinct.insert(value, value ^ 7));
        }
        distinct.count()
    }

    #[test]
    fn small_counts_are_exact() {
        for n in [0, 1, 2, 255, 256] {
            assert_eq!(counted(n), n);
        }
    }

    #[test]
    fn merging_is_as_good_as_taking_in() {
        let of = |values: std::ops::Range<u64>| {
            let mut distinct = Distinct::default();
            values.for_each(|value| distinct.insert(0, value));
            distinct
        };
        for (left, right, all) in [
            (0..5, 3..9, 0..9),
            (0..200, 100..256, 0..256),
            (0..200, 100..300, 0..300),
            (0..200, 100..900, 0..900),
            (0..900, 5..10, 0..900),
            (0..900, 500..2000, 0..2000),
        ] {
            let mut merged = of(left);
            merged.merge(&of(right));
            assert_eq!(merged, of(all));
        }
        let mut cleared = of(0..900);
        cleared.clear();
        assert_eq!(cleared.count(), 0);
    }

    #[test]
    fn large_counts_are_within_five_percent() {
        for n in [257_u64, 1_000, 10_000, 37_623, 1_000_000] {
            let error = counted(n).abs_diff(n) as f64 / n as f64;
            assert!(error < 0.05, "{n}: {error}");
        }
    }
}
