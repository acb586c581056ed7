//! Means, intervals and the bootstrap.

/// Bootstrap resamples of everything.
pub(crate) const RESAMPLES: usize = 10_000;

/// The 0.975 quantile of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// The mean; 0 of nothing.
pub(crate) fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// The sample standard deviation, with `n - 1`; `None` below two values.
pub(crate) fn standard_deviation(values: &[f64]) -> Option<f64> {
    let center = mean(values);
    let squares: f64 = values.iter().map(|value| (value - center).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt())
}

/// Wilson's 95 % score interval of a rate over `n` questions.
pub(crate) fn wilson(rate: f64, n: usize) -> (f64, f64) {
    let n = n as f64;
    let z2 = Z * Z;
    let center = (rate + z2 / (2.0 * n)) / (1.0 + z2 / n);
    let half = Z / (1.0 + z2 / n) * (rate * (1.0 - rate) / n + z2 / (4.0 * n * n)).sqrt();
    ((center - half).max(0.0), (center + half).min(1.0))
}

/// The interval of a mean of independent estimates, given each with its interval (MOVER, Zou & Donner 2008).
pub(crate) fn interval_of_mean(parts: &[(f64, (f64, f64))]) -> (f64, f64) {
    let n = parts.len() as f64;
    let center = parts.iter().map(|(value, _)| value).sum::<f64>() / n;
    let below: f64 = parts.iter().map(|(value, (low, _))| (value - low).powi(2)).sum();
    let above: f64 = parts.iter().map(|(value, (_, high))| (high - value).powi(2)).sum();
    (center - below.sqrt() / n, center + above.sqrt() / n)
}

/// The smallest interval that holds both.
pub(crate) fn hull(a: (f64, f64), b: (f64, f64)) -> (f64, f64) {
    (a.0.min(b.0), a.1.max(b.1))
}

/// The middle 95 % of resampled values.
pub(crate) fn percentiles(values: &[f64]) -> (f64, f64) {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let at = |share: f64| {
        let place = share * (sorted.len() - 1) as f64;
        let (low, part) = (place.floor() as usize, place.fract());
        let high = (low + 1).min(sorted.len() - 1);
        sorted[low] + part * (sorted[high] - sorted[low])
    };
    (at(0.025), at(0.975))
}

/// The means of every run over resampled questions: `[resample][run]`.
///
/// Equal seeds draw equal questions, so runs over the same questions stay paired, in one call or in several.
pub(crate) fn resample_questions(runs: &[&[f64]], seed: u64) -> Vec<Vec<f64>> {
    let questions = runs.first().map_or(0, |run| run.len());
    // By question, so that one draw adds one contiguous stretch.
    let by_question: Vec<f64> = (0..questions).flat_map(|at| runs.iter().map(move |run| run[at])).collect();
    let mut draws = Draws(seed);
    let resample = |_| {
        let mut sums = vec![0.0; runs.len()];
        for _ in 0..questions {
            let at = draws.below(questions) * runs.len();
            for (sum, value) in sums.iter_mut().zip(&by_question[at..at + runs.len()]) {
                *sum += value;
            }
        }
        sums.iter_mut().for_each(|sum| *sum /= questions as f64);
        sums
    };
    (0..RESAMPLES).map(resample).collect()
}

/// Which runs a row's resamples take, as numbers in 0..1: `[resample][place]`. One row's columns share them, because
/// the same students answered in each.
pub(crate) fn resample_runs(runs: usize, row: usize) -> Vec<Vec<f64>> {
    let mut draws = Draws(row as u64);
    (0..RESAMPLES).map(|_| (0..runs).map(|_| draws.share()).collect()).collect()
}

/// The mean over resampled runs.
pub(crate) fn mean_of_drawn(values: &[f64], draws: &[f64]) -> f64 {
    let n = values.len();
    let drawn: f64 = draws[..n].iter().map(|draw| values[(draw * n as f64) as usize]).sum();
    drawn / n as f64
}

/// SplitMix64 (Steele, Lea and Flood 2014): the same draws on every machine and with every version of every crate.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number in `0..n`, for `n` far below 2^32.
    fn below(&mut self, n: usize) -> usize {
        (((self.next() >> 32) * n as u64) >> 32) as usize
    }

    /// A number in 0..1.
    fn share(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(a: (f64, f64), b: (f64, f64), by: f64) {
        assert!((a.0 - b.0).abs() < by && (a.1 - b.1).abs() < by, "{a:?} is not {b:?}");
    }

    #[test]
    fn small_statistics_are_worked_out_by_hand() {
        assert_eq!(mean(&[1.0, 2.0, 6.0]), 3.0);
        assert_eq!(standard_deviation(&[1.0, 2.0, 6.0]), Some(7.0_f64.sqrt()));
        assert_eq!(standard_deviation(&[1.0]), None);
        close(percentiles(&(0..=40).map(f64::from).collect::<Vec<_>>()), (1.0, 39.0), 1e-9);
        assert_eq!(percentiles(&[2.0]), (2.0, 2.0));
    }

    #[test]
    fn wilson_agrees_with_published_values() {
        // Newcombe 1998, table I, method 3: 81/263, 15/148, 0/20, 1/29.
        close(wilson(81.0 / 263.0, 263), (0.2553, 0.3662), 5e-5);
        close(wilson(15.0 / 148.0, 148), (0.0624, 0.1605), 5e-5);
        close(wilson(0.0, 20), (0.0, 0.1611), 5e-5);
        close(wilson(1.0 / 29.0, 29), (0.0061, 0.1718), 5e-5);
    }

    #[test]
    fn intervals_combine() {
        close(
            interval_of_mean(&[(0.5, (0.2, 0.6)), (0.7, (0.3, 1.0))]),
            (0.35, 0.6 + 0.1_f64.sqrt() / 2.0),
            1e-9,
        );
        assert_eq!(interval_of_mean(&[(0.5, (0.25, 0.75))]), (0.25, 0.75));
        assert_eq!(hull((0.1, 0.4), (0.2, 0.5)), (0.1, 0.5));
    }

    #[test]
    fn the_bootstrap_finds_the_standard_error_and_keeps_pairs() {
        let run: Vec<f64> = (0..400).map(|n| f64::from(n % 4 == 0)).collect();
        let shifted: Vec<f64> = run.iter().map(|value| value + 1.0).collect();
        let drawn = resample_questions(&[&run, &shifted], 1);
        let first: Vec<f64> = drawn.iter().map(|means| means[0]).collect();
        // sqrt(0.25 * 0.75 / 400) = 0.02165.
        assert!((standard_deviation(&first).unwrap_or_default() - 0.02165).abs() < 5e-4);
        assert!(drawn.iter().all(|means| (means[1] - means[0] - 1.0).abs() < 1e-9));
        let again = resample_questions(&[&shifted], 1);
        assert!(again.iter().zip(&drawn).all(|(again, drawn)| again[0] == drawn[1]));
    }

    #[test]
    fn draws_are_those_of_the_paper() {
        // The reference implementation's first numbers from seed 1234567.
        let mut draws = Draws(1_234_567);
        let numbers: Vec<u64> = (0..3).map(|_| draws.next()).collect();
        assert_eq!(
            numbers,
            [6_457_827_717_110_365_317, 3_203_168_211_198_807_973, 9_817_491_932_198_370_423]
        );
        assert!((0..1000).all(|_| draws.below(7) < 7));
    }

    #[test]
    fn drawn_runs_are_runs() {
        assert_eq!(mean_of_drawn(&[1.0, 2.0, 6.0], &[0.0, 0.34, 0.99]), 3.0);
        assert_eq!(mean_of_drawn(&[1.0, 2.0, 6.0], &[0.7, 0.7, 0.7, 0.1]), 6.0);
        let draws = resample_runs(3, 0);
        assert!(draws.iter().flatten().all(|draw| (0.0..1.0).contains(draw)));
        assert_ne!(draws, resample_runs(3, 1));
    }
}
