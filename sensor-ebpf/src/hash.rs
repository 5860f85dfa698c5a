//! The seeded hash of every table: multiply and fold, word by word.

/// The golden ratio as a fraction of 2^64.
pub const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;

/// A hash in the making.
#[derive(Clone, Copy, Debug)]
pub struct Hash(u64);

impl Hash {
    /// Begins with a secret, so that nobody can aim at a bucket.
    #[inline(always)]
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// Takes in a word.
    #[inline(always)]
    #[must_use]
    pub const fn word(self, word: u64) -> Self {
        let hash = (self.0 ^ word).wrapping_mul(MULTIPLIER);
        Self(hash ^ hash >> 32)
    }

    /// The hash.
    #[inline(always)]
    #[must_use]
    pub const fn finish(self) -> u64 {
        self.0
    }
}
