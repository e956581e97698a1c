//! Numbers from numbers: medians, ratios paired by block, and when a difference is one.

use serde::Serialize;

/// A median with the range it was taken from.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
    /// How many values there were.
    pub(crate) count: usize,
}

/// With fewer pairs than this a difference can be chance, however large.
const PAIRS_MIN: usize = 3;

/// What a paired comparison may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Verdict {
    Faster,
    Slower,
    /// The interval does not clear the noise.
    Unclear,
}

impl Verdict {
    /// The word in a table.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Verdict::Faster => "faster",
            Verdict::Slower => "slower",
            Verdict::Unclear => "unclear",
        }
    }
}

/// The median; the mean of the middle two if there is no middle one.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        len if len % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

/// Median and range. With n values the range holds the true median with probability 1 - 2^(1-n),
/// whatever their distribution: 75 % for 3, 94 % for 5.
pub(crate) fn spread(values: &[f64]) -> Option<Spread> {
    Some(Spread {
        low: values.iter().copied().min_by(f64::total_cmp)?,
        median: median(values)?,
        high: values.iter().copied().max_by(f64::total_cmp)?,
        count: values.len(),
    })
}

/// `of` divided by `to`, block by block; blocks that lack one of them do not count.
pub(crate) fn paired_ratios(of: &[(u32, f64)], to: &[(u32, f64)]) -> Vec<f64> {
    of.iter()
        .filter_map(|&(block, value)| {
            let &(_, base) = to.iter().find(|&&(other, _)| other == block)?;
            (base > 0.0).then(|| value / base)
        })
        .collect()
}

/// The largest factor by which two runs of the same thing differed, less one. Unknown without
/// twins.
pub(crate) fn noise_floor(twin_ratios: &[f64]) -> Option<f64> {
    let factor = |&ratio: &f64| if ratio > 1.0 { ratio } else { 1.0 / ratio };
    twin_ratios.iter().map(factor).max_by(f64::total_cmp).map(|factor| factor - 1.0)
}

/// Whether ratios of speeds are a difference: all of them beyond the noise, on one side.
pub(crate) fn verdict(ratio: Spread, noise: Option<f64>) -> Verdict {
    let Some(noise) = noise.filter(|_| ratio.count >= PAIRS_MIN) else {
        return Verdict::Unclear;
    };
    if ratio.low > 1.0 + noise {
        Verdict::Faster
    } else if ratio.high < 1.0 / (1.0 + noise) {
        Verdict::Slower
    } else {
        Verdict::Unclear
    }
}

/// The value at or below which `percent` of all values lie, from (value, how often).
pub(crate) fn percentile(counts: &[(u64, u64)], percent: f64) -> Option<u64> {
    let mut sorted = counts.to_vec();
    sorted.sort_unstable();
    let total: u64 = sorted.iter().map(|&(_, count)| count).sum();
    let mut seen = 0;
    let mut found = None;
    for (value, count) in sorted {
        seen += count;
        found = Some(value);
        if seen as f64 >= total as f64 * percent / 100.0 {
            break;
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn medians_by_hand() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[5.0]), Some(5.0));
        assert_eq!(median(&[9.0, 1.0, 4.0]), Some(4.0));
        assert_eq!(median(&[9.0, 1.0, 4.0, 2.0]), Some(3.0));
    }

    #[test]
    fn a_spread_by_hand() {
        let spread = spread(&[3.0, 1.0, 2.0]);
        assert_eq!(spread, Some(Spread { low: 1.0, median: 2.0, high: 3.0, count: 3 }));
    }

    #[test]
    fn ratios_pair_by_block_and_not_by_place() {
        let of = [(0, 10.0), (1, 30.0), (2, 50.0)];
        let to = [(2, 10.0), (0, 5.0), (3, 1.0)];
        assert_eq!(paired_ratios(&of, &to), [2.0, 5.0]);
        assert!(paired_ratios(&of, &[(0, 0.0)]).is_empty());
    }

    #[test]
    fn the_noise_is_the_worst_twin_either_way() {
        assert_eq!(noise_floor(&[]), None);
        assert_eq!(noise_floor(&[1.1, 0.8, 1.0]), Some(0.25));
        assert_eq!(noise_floor(&[1.5, 0.8]), Some(0.5));
    }

    #[test]
    fn a_difference_must_clear_the_noise_in_every_block() {
        let ratio = |low, high| Spread { low, median: low, high, count: 3 };
        assert_eq!(verdict(ratio(1.3, 9.0), Some(0.25)), Verdict::Faster);
        assert_eq!(verdict(ratio(1.2, 9.0), Some(0.25)), Verdict::Unclear);
        assert_eq!(verdict(ratio(0.5, 0.79), Some(0.25)), Verdict::Slower);
        assert_eq!(verdict(ratio(0.5, 0.81), Some(0.25)), Verdict::Unclear);
        assert_eq!(verdict(ratio(9.0, 9.0), None), Verdict::Unclear);
        let two = Spread { count: 2, ..ratio(9.0, 9.0) };
        assert_eq!(verdict(two, Some(0.25)), Verdict::Unclear);
    }

    #[test]
    fn percentiles_of_merged_counts_by_hand() {
        let counts = [(30, 1), (10, 50), (20, 49)];
        assert_eq!(percentile(&counts, 50.0), Some(10));
        assert_eq!(percentile(&counts, 51.0), Some(20));
        assert_eq!(percentile(&counts, 99.0), Some(20));
        assert_eq!(percentile(&counts, 99.5), Some(30));
        assert_eq!(percentile(&[], 50.0), None);
    }
}
