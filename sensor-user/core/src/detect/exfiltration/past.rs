//! The volumes of a host's earlier windows, as a log-normal distribution.

/// Smallest standard deviation of the logarithm: a factor of two.
const LEAST_DEVIATION: f64 = std::f64::consts::LN_2;
/// Windows after which older ones count for less.
const MEMORY: u32 = 1000;

/// Mean and spread of the logarithm of volumes (Welford 1962, with a memory that fades).
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Past {
    windows: u32,
    mean: f64,
    variance: f64,
}

impl Past {
    pub(super) const fn windows(&self) -> u32 {
        self.windows
    }

    /// The median.
    pub(super) fn usual(&self) -> f64 {
        self.mean.exp()
    }

    pub(super) fn add(&mut self, octets: u64) {
        let value = ln(octets);
        self.windows = self.windows.saturating_add(1);
        let share = 1.0 / f64::from(self.windows.min(MEMORY));
        let difference = value - self.mean;
        self.mean += share * difference;
        self.variance = (1.0 - share) * (self.variance + share * difference * difference);
    }

    /// Natural logarithm of the probability of so much, where `usual` is usual for any host.
    pub(super) fn log_p(&self, octets: u64, usual: f64) -> f64 {
        let deviation = self.variance.sqrt().max(LEAST_DEVIATION);
        log_normal_tail((ln(octets) - self.mean.max(usual.max(1.0).ln())) / deviation)
    }
}

fn ln(octets: u64) -> f64 {
    (octets.max(1) as f64).ln()
}

/// A bound on the logarithm of P(Z >= z): exp(-z^2/2) / 2 for z >= 0 (Chernoff; Chang, Cosman, Milstein 2011).
fn log_normal_tail(z: f64) -> f64 {
    -(z.max(0.0).powi(2) / 2.0) - std::f64::consts::LN_2
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_before_is_usual_and_a_hundred_times_more_is_not() {
        let mut past = Past::default();
        (0..100).for_each(|n| past.add(100_000 + n * 2000));
        assert!((past.usual() / 190_000.0 - 1.0).abs() < 0.1, "{}", past.usual());
        assert!(past.log_p(300_000, 1.0) > -2.0);
        assert!(past.log_p(20_000_000, 1.0) < -20.0);
        assert!(past.log_p(20_000_000, 10_000_000.0) > -2.0, "usual for any host");
    }

    #[test]
    fn a_host_that_varies_is_allowed_more() {
        let mut past = Past::default();
        (0..100).for_each(|n| past.add(10_u64.pow(3 + n % 5)));
        assert!(past.log_p(50_000_000, 1.0) > -6.0);
    }
}
