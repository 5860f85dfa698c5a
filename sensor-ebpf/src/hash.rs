//! The seeded hash of every table: multiply and fold, word by word.

/// The golden ratio as a fraction of 2^64.
pub const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// A hash in the making.
#[derive(Clone, Copy, Debug)]
pub struct Hash(u64);

impl Hash {
    /// Begins with a secret, so that nobody can tell where a key goes.
    #[inline(always)]
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Takes in a word. It is folded before it is multiplied: the highest bits of a product depend on no secret, and
    /// what two keys differ in there could be cancelled by their next words, whatever the seed.
    #[inline(always)]
    #[must_use]
    pub const fn word(self, word: u64) -> Self {
        let mixed = self.0 ^ word;
        Self((mixed ^ mixed >> 32).wrapping_mul(MULTIPLIER))
    }

    /// The hash.
    #[inline(always)]
    #[must_use]
    pub const fn finish(self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn hash(seed: u64, words: &[u64]) -> u64 {
        words.iter().fold(Hash::new(seed), |hash, &word| hash.word(word)).finish()
    }

    #[test]
    fn differences_in_the_highest_bits_do_not_cancel() {
        // Pairs that a fold after the product made equal for every seed.
        for seed in [1, 0x5eed, 0xdead_beef_cafe_f00d, u64::MAX / 3] {
            let mut hashes = BTreeSet::new();
            let flips = |bits: u64| (bits & 1) << 63 | (bits & 2) << 61 | (bits & 4) << 59;
            for bits in 0..4096_u64 {
                let words =
                    [flips(bits), flips(bits) >> 32 ^ flips(bits >> 3), flips(bits >> 6), flips(bits >> 9), bits];
                hashes.insert(hash(seed, &words) >> 32);
            }
            // Birthdays among 4,096 of 2^32: one in five hundred seeds has one.
            assert!(hashes.len() >= 4094, "{seed:x}: {}", hashes.len());
        }
    }
}
