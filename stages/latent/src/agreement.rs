//! How well two ways to group the same texts agree, and how sure a mean over questions is.
//!
//! The expected values in the tests come from `tests/reference.py`.

use std::collections::BTreeMap;

use rand::Rng;

/// Resamples of [`interval`].
const RESAMPLES: usize = 2000;

/// The adjusted Rand index: 1 for the same grouping, about 0 for unrelated ones.
///
/// # Panics
///
/// If the two do not group the same number of texts.
pub(crate) fn adjusted_rand(left: &[usize], right: &[usize]) -> f64 {
    let table = Contingency::new(left, right);
    // Ordered pairs of texts that are together on both sides, on one, and anywhere.
    let pairs =
        |counts: &mut dyn Iterator<Item = f64>| counts.map(|count| count * (count - 1.0)).sum::<f64>();
    let both = pairs(&mut table.cells.values().copied());
    let (in_left, in_right) =
        (pairs(&mut table.left.values().copied()), pairs(&mut table.right.values().copied()));
    let all = table.total * (table.total - 1.0);
    let (only_left, only_right) = (in_left - both, in_right - both);
    if only_left == 0.0 && only_right == 0.0 {
        return 1.0;
    }
    let neither = all - both - only_left - only_right;
    2.0 * (both * neither - only_left * only_right)
        / (in_left * (only_left + neither) + in_right * (only_right + neither))
}

/// Mutual information over the arithmetic mean of the two entropies: 1 for the same grouping, 0 for unrelated ones.
///
/// # Panics
///
/// If the two do not group the same number of texts.
pub(crate) fn normalized_mutual_information(left: &[usize], right: &[usize]) -> f64 {
    let table = Contingency::new(left, right);
    if table.left.len() <= 1 && table.right.len() <= 1 {
        return 1.0;
    }
    let share = |count: f64| count / table.total;
    let entropy = |counts: &BTreeMap<usize, f64>| -> f64 {
        counts.values().map(|count| -share(*count) * share(*count).ln()).sum()
    };
    let information: f64 = table
        .cells
        .iter()
        .map(|((l, r), count)| {
            share(*count) * (share(*count) / (share(table.left[l]) * share(table.right[r]))).ln()
        })
        .sum();
    let mean = f64::midpoint(entropy(&table.left), entropy(&table.right));
    (information / mean).clamp(0.0, 1.0)
}

/// How many texts are in each pair of groups, and in each group.
struct Contingency {
    cells: BTreeMap<(usize, usize), f64>,
    left: BTreeMap<usize, f64>,
    right: BTreeMap<usize, f64>,
    total: f64,
}

impl Contingency {
    fn new(left: &[usize], right: &[usize]) -> Self {
        assert_eq!(left.len(), right.len(), "both group the same texts");
        let mut table = Self {
            cells: BTreeMap::new(),
            left: BTreeMap::new(),
            right: BTreeMap::new(),
            total: left.len() as f64,
        };
        for pair in left.iter().copied().zip(right.iter().copied()) {
            *table.cells.entry(pair).or_default() += 1.0;
            *table.left.entry(pair.0).or_default() += 1.0;
            *table.right.entry(pair.1).or_default() += 1.0;
        }
        table
    }
}

/// A 95 % percentile interval of the mean, by drawing whole questions with replacement: texts of one question are no
/// independent observations.
///
/// # Panics
///
/// If there is no value, or not one question a value.
pub(crate) fn interval(values: &[f64], questions: &[&str], rng: &mut impl Rng) -> [f64; 2] {
    assert!(!values.is_empty() && values.len() == questions.len());
    let mut by_question: BTreeMap<&str, (f64, f64)> = BTreeMap::new();
    for (value, question) in values.iter().zip(questions) {
        let (sum, count) = by_question.entry(question).or_default();
        *sum += value;
        *count += 1.0;
    }
    let totals: Vec<(f64, f64)> = by_question.into_values().collect();
    let mut means: Vec<f64> = (0..RESAMPLES)
        .map(|_| {
            let (sum, count) = (0..totals.len())
                .map(|_| totals[rng.random_range(0..totals.len())])
                .fold((0.0, 0.0), |(sum, count), drawn| (sum + drawn.0, count + drawn.1));
            sum / count
        })
        .collect();
    means.sort_by(f64::total_cmp);
    let cut = RESAMPLES * 25 / 1000;
    [means[cut], means[RESAMPLES - 1 - cut]]
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::measures::tests::{close, reference};

    #[test]
    fn agreement_is_that_of_scikit_learn() {
        let reference = reference();
        for case in &reference.agreements {
            close(adjusted_rand(&case.left, &case.right), case.adjusted_rand);
            close(normalized_mutual_information(&case.left, &case.right), case.normalized_mutual_information);
        }
        assert!(reference.agreements.len() >= 4);
    }

    #[test]
    fn an_interval_counts_questions_and_not_texts() {
        let rng = || ChaCha8Rng::seed_from_u64(1);
        let values: Vec<f64> = (0..40).map(|i| f64::from(i % 2)).collect();
        let of = |question: &dyn Fn(usize) -> String| {
            let names: Vec<String> = (0..40).map(question).collect();
            let names: Vec<&str> = names.iter().map(String::as_str).collect();
            interval(&values, &names, &mut rng())
        };
        let width = |[low, high]: [f64; 2]| high - low;
        let (apart, paired) = (of(&|i| i.to_string()), of(&|i| (i % 2).to_string()));
        assert!(apart[0] < 0.5 && apart[1] > 0.5);
        // 1.96 standard errors of 40 coin throws to either side, within a tenth.
        assert!((width(apart) - 2.0 * 1.96 * (0.25_f64 / 40.0).sqrt()).abs() < 0.05, "{apart:?}");
        assert_eq!(paired, [0.0, 1.0], "two questions, each all of one value");
        assert_eq!(interval(&[0.25; 3], &["a", "b", "c"], &mut rng()), [0.25, 0.25]);
    }
}
