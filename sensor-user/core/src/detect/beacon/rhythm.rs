//! How regular a series of calls is.
//!
//! A program that sleeps between calls leaves gaps of bounded spread about the median `m`: frameworks draw the sleep from
//! `[T (1 - j), T (1 + j)]` with a jitter `j` of at most a half. People and pages leave gaps without bound. Two measures
//! tell them apart, both of which chance is known for. Of exponential gaps (calls at random, a Poisson process, whose
//! median is `ln 2` of the mean) the share within `m / 2` of the median is `2^-1/2 - 2^-3/2 = 0.354`; of sleeps it is 1,
//! whatever `j` is. And the median absolute deviation over the median is 0.694 for them, but `j / 2` for sleeps. Bursts,
//! as of people, fall short of 0.354 and go beyond 0.694. With `q` the lower bound (Wilson 1927, two standard errors) of
//! the share, and `d` the deviation,
//!
//! `regularity = sqrt((q - 0.354) / (1 - 0.354) * (1 - d / 0.694))`, and 0 where either factor is below 0.
//!
//! The bound on `q` makes few calls count for less. Of a steady rhythm (`d` below 0.1) gaps near multiples of the median
//! are calls that were missed, and count neither way. Connections that belong to one call, a page with its pictures or a
//! request made again, are taken together: those begun within `w` of one another, for each `w` of a few, as long as `w`
//! is a twentieth of the gaps at most, so that the joining itself makes nothing regular.
//!
//! The measures are those of RITA and of Flare (median absolute deviation of gaps and of sizes, number and span), freed
//! of their fixed scales.

use super::pairs::Call;

/// Of exponential gaps: the share within half of the median.
const CHANCE_SHARE: f64 = 0.353_553;
/// Of exponential gaps: the median absolute deviation over the median.
const CHANCE_DEVIATION: f64 = 0.694_242;
/// Connections begun so many milliseconds after the last are of the same call.
const JOINED_MS: [u64; 4] = [0, 100, 1000, 10_000];
/// How many times longer than that gaps have to be.
const APART: u64 = 20;
/// Standard errors of the lower bound of the share, squared.
const ERRORS_SQUARED: f64 = 4.0;
/// Deviation below which a rhythm is steady enough to tell a missed call.
const STEADY: f64 = 0.1;

/// What is regular about a series of calls.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Rhythm {
    /// Calls, those of one burst taken together.
    pub calls: usize,
    /// Median time between calls, in seconds.
    pub interval_s: f64,
    /// Half the width of the sleeps over their middle, if they are uniform: twice the deviation.
    pub jitter: f64,
    /// In [0, 1].
    pub regularity: f64,
    /// In [0, 1]: one less the median absolute deviation of sizes over their median.
    pub size_regularity: f64,
    /// Time a connection lasts over the time between calls.
    pub held: f64,
    /// From the first call to the last, in seconds.
    pub span_s: f64,
    /// IP octets of a call to the server.
    pub mean_sent: u64,
    /// IP octets of a call from the server.
    pub mean_received: u64,
}

impl Rhythm {
    /// The most regular reading of `calls`; nothing of fewer than three.
    pub fn of(calls: &[Call]) -> Option<Self> {
        let mut best: Option<Self> = None;
        for joined in JOINED_MS {
            let read = Self::joined(calls, joined);
            best = match (best, read) {
                (Some(best), Some(read)) if read.regularity <= best.regularity => Some(best),
                (best, None) => best,
                (_, read) => read,
            };
        }
        best
    }

    fn joined(calls: &[Call], joined_ms: u64) -> Option<Self> {
        let joined = join(calls, joined_ms);
        let mut gaps: Vec<u64> = joined.iter().skip(1).map(|call| call.gap_ms).collect();
        let median_ms = median(&mut gaps)?;
        if gaps.len() < 2 || (joined_ms > 0 && median_ms < APART * joined_ms) {
            return None;
        }
        let span_ms: u64 = gaps.iter().sum();
        let middle = median_ms.max(1) as f64;
        let deviation = deviation(&gaps, median_ms);
        let (mut within, mut counted) = (0_u32, 0_u32);
        for &gap in &gaps {
            let periods = gap as f64 / middle;
            if (0.5..=1.5).contains(&periods) {
                within += 1;
            } else if deviation <= STEADY && is_multiple(periods, deviation) {
                continue;
            }
            counted += 1;
        }
        let share = lower_bound(f64::from(within), f64::from(counted));
        let share = (share - CHANCE_SHARE) / (1.0 - CHANCE_SHARE);
        let calm = 1.0 - deviation / CHANCE_DEVIATION;
        let (sent, received) =
            (alike(joined.iter().map(|call| call.sent)), alike(joined.iter().map(|call| call.received)));
        let mut lasted: Vec<u64> = joined.iter().map(|call| call.lasted_ms).collect();
        Some(Self {
            calls: joined.len(),
            interval_s: middle / 1e3,
            jitter: 2.0 * deviation,
            regularity: (share.max(0.0) * calm.max(0.0)).sqrt(),
            size_regularity: f64::midpoint(sent.0, received.0),
            held: median(&mut lasted).unwrap_or(0) as f64 / middle,
            span_s: span_ms as f64 / 1e3,
            mean_sent: sent.1,
            mean_received: received.1,
        })
    }
}

/// Calls after those of a burst were taken together.
struct Joined {
    gap_ms: u64,
    sent: u64,
    received: u64,
    lasted_ms: u64,
}

fn join(calls: &[Call], joined_ms: u64) -> Vec<Joined> {
    let mut all: Vec<Joined> = Vec::with_capacity(calls.len());
    let mut since = 0;
    for call in calls {
        let gap_ms = u64::from(call.gap_ms);
        since += gap_ms;
        match all.last_mut() {
            Some(last) if gap_ms <= joined_ms => {
                last.sent += u64::from(call.sent);
                last.received += u64::from(call.received);
                last.lasted_ms = last.lasted_ms.max(u64::from(call.lasted_ms));
            }
            _ => {
                all.push(Joined {
                    gap_ms: since,
                    sent: u64::from(call.sent),
                    received: u64::from(call.received),
                    lasted_ms: u64::from(call.lasted_ms),
                });
                since = 0;
            }
        }
    }
    all
}

/// Whether a gap is that of some missed calls, whose spreads add up.
fn is_multiple(periods: f64, deviation: f64) -> bool {
    const MISSED: f64 = 16.0;
    let whole = periods.round();
    let spread = (3.0 * deviation).max(0.02) * whole.sqrt();
    (2.0..=MISSED).contains(&whole) && (periods - whole).abs() <= spread.min(0.25)
}

/// The upper median; nothing of nothing.
fn median(values: &mut [u64]) -> Option<u64> {
    if values.is_empty() {
        return None;
    }
    let middle = values.len() / 2;
    Some(*values.select_nth_unstable(middle).1)
}

/// The median absolute deviation over the median; 0 of zeros.
fn deviation(values: &[u64], middle: u64) -> f64 {
    let mut apart: Vec<u64> = values.iter().map(|value| value.abs_diff(middle)).collect();
    median(&mut apart).unwrap_or(0) as f64 / middle.max(1) as f64
}

/// How alike sizes are, and their mean.
fn alike(sizes: impl Iterator<Item = u64>) -> (f64, u64) {
    let mut sizes: Vec<u64> = sizes.collect();
    let Some(middle) = median(&mut sizes) else {
        return (0.0, 0);
    };
    let mean = sizes.iter().sum::<u64>() / sizes.len().max(1) as u64;
    ((1.0 - deviation(&sizes, middle)).max(0.0), mean)
}

/// Lower bound of a share of which `within` of `counted` were seen (Wilson 1927).
fn lower_bound(within: f64, counted: f64) -> f64 {
    if counted < 1.0 {
        return 0.0;
    }
    let share = within / counted;
    let root = (ERRORS_SQUARED * (share * (1.0 - share) / counted + ERRORS_SQUARED / (4.0 * counted * counted))).sqrt();
    (share + ERRORS_SQUARED / (2.0 * counted) - root) / (1.0 + ERRORS_SQUARED / counted)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers in [0, 1) that are nobody's pattern.
    fn draws() -> impl Iterator<Item = f64> {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        std::iter::repeat_with(move || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 11) as f64 / (1_u64 << 53) as f64
        })
    }

    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "made-up gaps are small and positive")]
    fn calls(gaps_s: impl Iterator<Item = f64>) -> Vec<Call> {
        let gaps = gaps_s.map(|gap| (gap * 1e3) as u32);
        gaps.map(|gap_ms| Call { gap_ms, sent: 500, received: 900, lasted_ms: 80 }).collect()
    }

    fn sleeps(jitter: f64, count: usize) -> Vec<Call> {
        calls(draws().map(move |draw| 60.0 * (1.0 + jitter * (2.0 * draw - 1.0))).take(count))
    }

    #[test]
    fn sleeps_are_regular_whatever_their_jitter() {
        for (jitter, least) in [(0.0, 0.95), (0.1, 0.9), (0.3, 0.8), (0.5, 0.7)] {
            let rhythm = Rhythm::of(&sleeps(jitter, 100)).unwrap();
            assert!(rhythm.regularity > least, "{jitter}: {rhythm:?}");
            assert!((rhythm.jitter - jitter).abs() < 0.12, "{jitter}: {rhythm:?}");
        }
    }

    #[test]
    fn calls_at_random_and_in_bursts_are_not() {
        let random = calls(draws().map(|draw| -60.0 * (1.0 - draw).ln()).take(200));
        assert!(Rhythm::of(&random).unwrap().regularity < 0.2, "{:?}", Rhythm::of(&random));
        let heavy = calls(draws().map(|draw| 2.0 * (1.0 - draw).powf(-1.2)).take(200));
        assert!(Rhythm::of(&heavy).unwrap().regularity < 0.4, "{:?}", Rhythm::of(&heavy));
        let fast = calls(draws().map(|draw| -0.5 * (1.0 - draw).ln()).take(250));
        assert!(Rhythm::of(&fast).unwrap().regularity < 0.2, "{:?}", Rhythm::of(&fast));
    }

    #[test]
    fn missed_calls_and_connections_of_one_call_do_not_matter() {
        let missed = calls(draws().map(|draw| if draw < 0.3 { 120.0 } else { 60.0 + draw }).take(60));
        assert!(Rhythm::of(&missed).unwrap().regularity > 0.9);
        let bursts = calls((0..120).map(|n| if n % 3 == 0 { 58.0 } else { 0.3 }));
        let rhythm = Rhythm::of(&bursts).unwrap();
        assert!(rhythm.regularity > 0.9 && rhythm.calls == 40, "{rhythm:?}");
    }

    #[test]
    fn few_calls_say_less() {
        let [few, some, many] = [5, 20, 100].map(|count| Rhythm::of(&sleeps(0.2, count)).unwrap().regularity);
        assert!(few < 0.6 && few < some && some < many, "{few} {some} {many}");
        assert_eq!(Rhythm::of(&sleeps(0.0, 2)), None);
    }
}
