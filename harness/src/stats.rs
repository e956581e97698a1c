//! Numbers from numbers: medians and their intervals, ratios paired by block, percentiles, and when
//! a difference is one. Nothing here assumes a distribution.

/// A median with an interval that holds it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    pub(crate) low: f64,
    pub(crate) median: f64,
    pub(crate) high: f64,
    /// How many values there were.
    pub(crate) count: usize,
    /// The probability that the interval holds the true median, whatever the distribution.
    pub(crate) coverage: f64,
}

/// The coverage that an interval has where there are values enough for it.
const COVERAGE: f64 = 0.95;
/// Up to so many values the coverage is summed term by term.
const COUNTED_MAX: usize = 500;
/// With fewer pairs than this a difference can be chance, however large.
const PAIRS_MIN: usize = 3;
/// Inside more noise than this, two things are not the same but unknown.
const SAME_NOISE_MAX: f64 = 0.25;
/// With fewer values than this there are no quarters, and so no fences.
const FENCED_MIN: usize = 4;

/// What a paired comparison may say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    Faster,
    Slower,
    /// The whole interval lies inside a narrow noise.
    Same,
    /// The interval lies partly inside the noise, or there is too little to go by.
    Unclear,
}

impl Verdict {
    /// The word in a table.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Verdict::Faster => "faster",
            Verdict::Slower => "slower",
            Verdict::Same => "same",
            Verdict::Unclear => "unclear",
        }
    }
}

/// The interval that holds the true share with 95 %, of which so many of so many were counted:
/// Wilson's, which is right for few counts and for none or all as well.
pub(crate) fn proportion(counted: u32, of: u32) -> Option<(f64, f64)> {
    /// Standard deviations around the middle of a normal distribution that hold 95 % of it.
    const DEVIATIONS: f64 = 1.959_964;
    let (n, z2) = (f64::from(of), DEVIATIONS * DEVIATIONS);
    let share = f64::from(counted) / n;
    let middle = (share + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let spread = share * (1.0 - share) / n + z2 / (4.0 * n * n);
    let half = DEVIATIONS / (1.0 + z2 / n) * spread.sqrt();
    (of > 0).then(|| ((middle - half).max(0.0), (middle + half).min(1.0)))
}

/// The median; the mean of the middle two if there is no middle one.
pub(crate) fn median(values: &[f64]) -> Option<f64> {
    middle(&sorted(values))
}

/// The median and the narrowest interval between two order statistics, equally far from the ends,
/// that holds the true median with 95 %: the whole range for 6 to 8 values, without one value at
/// each end for 9 to 11. Fewer than 6 cannot reach 95 %, so that they give their whole range.
pub(crate) fn spread(values: &[f64]) -> Option<Spread> {
    let (sorted, median) = (sorted(values), median(values)?);
    let count = sorted.len();
    let (cut, coverage) = trim(count);
    Some(Spread { low: sorted[cut], median, high: sorted[count - 1 - cut], count, coverage })
}

/// How many values to leave out at each end, and the coverage of what is left. With n values, each
/// of which lies below the true median with probability one half, the k-th smallest lies above it
/// when fewer than k do.
fn trim(count: usize) -> (usize, f64) {
    if count > COUNTED_MAX {
        // The binomial distribution is as good as normal here, and its terms are too small for f64.
        let reach = 1.96 * (count as f64).sqrt();
        return (((count as f64 - reach) / 2.0) as usize - 1, COVERAGE);
    }
    let each = 0.5_f64.powi(i32::try_from(count).expect("COUNTED_MAX is small"));
    let (mut ways, mut fewer) = (1.0, each);
    let mut best = (0, 1.0 - 2.0 * fewer);
    for cut in 1..count.div_ceil(2) {
        ways *= (count - cut + 1) as f64 / cut as f64;
        fewer += ways * each;
        let coverage = 1.0 - 2.0 * fewer;
        if coverage < COVERAGE {
            break;
        }
        best = (cut, coverage);
    }
    best
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

/// By how much the median ratio of two runs of the same thing may differ from one, either way: the
/// far end of its interval. Unknown without twins.
pub(crate) fn noise_floor(twin_ratios: &[f64]) -> Option<f64> {
    let Spread { low, high, .. } = spread(twin_ratios)?;
    Some(high.max(1.0 / low).max(1.0) - 1.0)
}

/// Whether ratios of speeds are a difference: their interval is beyond the noise, on one side.
pub(crate) fn verdict(ratio: Spread, noise: Option<f64>) -> Verdict {
    let Some(noise) = noise.filter(|_| ratio.count >= PAIRS_MIN) else {
        return Verdict::Unclear;
    };
    let (below, above) = (1.0 / (1.0 + noise), 1.0 + noise);
    if ratio.low > above {
        Verdict::Faster
    } else if ratio.high < below {
        Verdict::Slower
    } else if ratio.low >= below && ratio.high <= above && noise <= SAME_NOISE_MAX {
        Verdict::Same
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

/// The same counts in at most 62 steps, for keeping: every second percentile, from the 98th on
/// every fifth of one, and those that tables show are what they were; what lies between moves up
/// to the next.
pub(crate) fn thinned(counts: &[(u64, u64)]) -> Vec<(u64, u64)> {
    let steps = (1..=49).map(|step| 2.0 * f64::from(step));
    let fine = (1..=9).map(|step| 98.0 + f64::from(step) / 5.0);
    let mut kept = steps.chain(fine).chain([99.9, 99.95, 99.99, 100.0]).peekable();
    let mut sorted = counts.to_vec();
    sorted.sort_unstable();
    let total: u64 = sorted.iter().map(|&(_, count)| count).sum();
    let (mut seen, mut since, mut thin) = (0, 0, Vec::new());
    for (value, count) in sorted {
        (seen, since) = (seen + count, since + count);
        let is_passed = |percent: &f64| seen as f64 >= total as f64 * percent / 100.0;
        if kept.next_if(is_passed).is_some() {
            while kept.next_if(is_passed).is_some() {}
            thin.push((value, since));
            since = 0;
        }
    }
    thin
}

/// A percentile of which at least one value lies beyond; of fewer values it would be a guess.
pub(crate) fn tail(counts: &[(u64, u64)], percent: f64) -> Option<u64> {
    let total: u64 = counts.iter().map(|&(_, count)| count).sum();
    let beyond = total as f64 * (100.0 - percent) / 100.0;
    // A thousandth of a thousand is one, however the product is rounded.
    (beyond > 0.999_999).then(|| percentile(counts, percent))?
}

/// How many values lie beyond Tukey's fences, one and a half times the distance between the
/// quarters outside of them. The quarters are the medians of the halves, the middle value in both.
pub(crate) fn outliers(values: &[f64]) -> usize {
    let sorted = sorted(values);
    if sorted.len() < FENCED_MIN {
        return 0;
    }
    let half = sorted.len().div_ceil(2);
    let lower = middle(&sorted[..half]).unwrap_or_default();
    let upper = middle(&sorted[sorted.len() - half..]).unwrap_or_default();
    let reach = 1.5 * (upper - lower);
    let is_far = |&&value: &&f64| value < lower - reach || value > upper + reach;
    sorted.iter().filter(is_far).count()
}

/// Jain's index of fairness: 1 if all have the same, 1/n if one of n has everything.
pub(crate) fn fairness(shares: &[u64]) -> Option<f64> {
    let sum: f64 = shares.iter().map(|&share| share as f64).sum();
    let squares: f64 = shares.iter().map(|&share| share as f64 * share as f64).sum();
    (shares.len() > 1 && squares > 0.0).then(|| sum * sum / (shares.len() as f64 * squares))
}

fn sorted(values: &[f64]) -> Vec<f64> {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted
}

fn middle(sorted: &[f64]) -> Option<f64> {
    let middle = sorted.len() / 2;
    match sorted.len() {
        0 => None,
        len if len % 2 == 1 => Some(sorted[middle]),
        _ => Some(f64::midpoint(sorted[middle - 1], sorted[middle])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interval_of_a_share_is_the_one_in_the_book() {
        // Newcombe 1998, table I, the score method: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
        let table = [
            (81, 263, 0.2553, 0.3662),
            (15, 148, 0.0624, 0.1605),
            (0, 20, 0.0, 0.1611),
            (1, 29, 0.0061, 0.1718),
        ];
        for (counted, of, low, high) in table {
            let (found_low, found_high) = proportion(counted, of).expect("some were counted");
            assert!((found_low - low).abs() < 5e-5, "{counted} of {of}: {found_low}");
            assert!((found_high - high).abs() < 5e-5, "{counted} of {of}: {found_high}");
        }
        assert_eq!(proportion(0, 0), None);
    }

    #[test]
    fn medians_by_hand() {
        assert_eq!(median(&[]), None);
        assert_eq!(median(&[5.0]), Some(5.0));
        assert_eq!(median(&[9.0, 1.0, 4.0]), Some(4.0));
        assert_eq!(median(&[9.0, 1.0, 4.0, 2.0]), Some(3.0));
    }

    #[test]
    fn a_few_values_give_their_range_and_say_what_it_is_worth() {
        let of_three = Spread { low: 1.0, median: 2.0, high: 3.0, count: 3, coverage: 0.75 };
        assert_eq!(spread(&[3.0, 1.0, 2.0]), Some(of_three));
        let of_one = Spread { low: 7.0, median: 7.0, high: 7.0, count: 1, coverage: 0.0 };
        assert_eq!(spread(&[7.0]), Some(of_one));
        assert_eq!(spread(&[]), None);
    }

    #[test]
    fn intervals_of_the_median_are_those_of_the_binomial_table() {
        // By hand, from the rows of Pascal's triangle: 1 - 2 (1 + n + ...) / 2^n.
        for (count, cut, coverage) in [
            (2, 0, 0.5),
            (5, 0, 1.0 - 2.0 / 32.0),
            (6, 0, 1.0 - 2.0 / 64.0),
            (8, 0, 1.0 - 2.0 / 256.0),
            (9, 1, 1.0 - 2.0 * 10.0 / 512.0),
            (12, 2, 1.0 - 2.0 * 79.0 / 4096.0),
            (20, 5, 1.0 - 2.0 * 21_700.0 / 1_048_576.0),
        ] {
            assert_eq!(trim(count), (cut, coverage), "{count} values");
        }
        // A table's ranks for n = 100 are 40 and 61; the approximation must join on smoothly.
        assert_eq!(trim(100).0, 39);
        assert!(trim(COUNTED_MAX + 1).0.abs_diff(trim(COUNTED_MAX).0) <= 1);
    }

    #[test]
    fn an_interval_leaves_out_as_much_at_both_ends() {
        let values: Vec<f64> = (1..=9).rev().map(f64::from).collect();
        let spread = spread(&values).expect("nine values");
        assert_eq!((spread.low, spread.median, spread.high), (2.0, 5.0, 8.0));
    }

    #[test]
    fn ratios_pair_by_block_and_not_by_place() {
        let of = [(0, 10.0), (1, 30.0), (2, 50.0)];
        let to = [(2, 10.0), (0, 5.0), (3, 1.0)];
        assert_eq!(paired_ratios(&of, &to), [2.0, 5.0]);
        assert!(paired_ratios(&of, &[(0, 0.0)]).is_empty());
    }

    #[test]
    fn the_noise_is_the_far_end_of_the_twins_interval() {
        assert_eq!(noise_floor(&[]), None);
        assert_eq!(noise_floor(&[1.1, 0.8, 1.0]), Some(0.25));
        assert_eq!(noise_floor(&[1.5, 0.8]), Some(0.5));
        assert_eq!(noise_floor(&[1.0, 1.0, 1.0]), Some(0.0));
        // One wild twin of nine is outside the interval.
        let nine = [9.0, 1.125, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0];
        assert_eq!(noise_floor(&nine), Some(0.125));
    }

    #[test]
    fn a_difference_must_clear_the_noise() {
        let ratio = |low, high| Spread { low, median: low, high, count: 3, coverage: 0.75 };
        assert_eq!(verdict(ratio(1.3, 9.0), Some(0.25)), Verdict::Faster);
        assert_eq!(verdict(ratio(1.2, 9.0), Some(0.25)), Verdict::Unclear);
        assert_eq!(verdict(ratio(0.5, 0.79), Some(0.25)), Verdict::Slower);
        assert_eq!(verdict(ratio(0.5, 0.81), Some(0.25)), Verdict::Unclear);
        assert_eq!(verdict(ratio(0.81, 1.24), Some(0.25)), Verdict::Same);
        assert_eq!(verdict(ratio(0.81, 1.24), Some(0.26)), Verdict::Unclear);
        assert_eq!(verdict(ratio(9.0, 9.0), None), Verdict::Unclear);
        let two = Spread { count: 2, ..ratio(9.0, 9.0) };
        assert_eq!(verdict(two, Some(0.25)), Verdict::Unclear);
    }

    #[test]
    fn thinned_counts_keep_what_tables_show() {
        let counts: Vec<(u64, u64)> =
            (1..3_000).map(|value| (value * value, 1 + value % 7)).collect();
        let thin = thinned(&counts);
        assert!(thin.len() <= 62, "{}", thin.len());
        for percent in [2.0, 50.0, 90.0, 99.0, 99.8, 99.9, 99.99, 100.0] {
            assert_eq!(percentile(&thin, percent), percentile(&counts, percent), "{percent}");
        }
        let sum = |counts: &[(u64, u64)]| counts.iter().map(|&(_, count)| count).sum::<u64>();
        assert_eq!(sum(&thin), sum(&counts));
        assert_eq!(thinned(&thin), thin, "once is enough");
        assert_eq!(thinned(&[(7, 3)]), [(7, 3)]);
        assert!(thinned(&[]).is_empty());
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

    #[test]
    fn a_tail_needs_a_value_beyond_it() {
        assert_eq!(tail(&[(10, 99), (90, 1)], 99.0), Some(10));
        assert_eq!(tail(&[(10, 98), (90, 1)], 99.0), None);
        assert_eq!(tail(&[(10, 999), (90, 1)], 99.9), Some(10));
        assert_eq!(tail(&[], 99.0), None);
    }

    #[test]
    fn far_values_are_those_beyond_tukeys_fences() {
        // Quarters of 1..9 are 3 and 7, so the fences stand at -3 and 13.
        let mut values: Vec<f64> = (1..=8).map(f64::from).collect();
        values.push(13.0);
        assert_eq!(outliers(&values), 0);
        values[8] = 13.1;
        assert_eq!(outliers(&values), 1);
        values[0] = -4.0;
        assert_eq!(outliers(&values), 2);
        assert_eq!(outliers(&[1.0, 1.0, 99.0]), 0, "three values have no quarters");
    }

    #[test]
    fn jains_index_by_hand() {
        assert_eq!(fairness(&[5, 5, 5, 5]), Some(1.0));
        assert_eq!(fairness(&[8, 0, 0, 0]), Some(0.25));
        // (1 + 3)^2 / (2 * (1 + 9))
        assert_eq!(fairness(&[1, 3]), Some(0.8));
        assert_eq!(fairness(&[7]), None);
        assert_eq!(fairness(&[0, 0]), None);
    }
}
