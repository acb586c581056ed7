//! Means, variances and intervals.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// The 0.975 quantile of the normal distribution.
const Z: f64 = 1.959_963_984_540_054;

/// The mean; 0 of nothing.
pub fn mean(values: &[f64]) -> f64 {
    if values.is_empty() { 0.0 } else { values.iter().sum::<f64>() / values.len() as f64 }
}

/// The sample standard deviation, with `n - 1`; `None` below two values.
pub fn standard_deviation(values: &[f64]) -> Option<f64> {
    let center = mean(values);
    let squares: f64 = values.iter().map(|value| (value - center).powi(2)).sum();
    (values.len() > 1).then(|| (squares / (values.len() - 1) as f64).sqrt())
}

/// Wilson's 95 % score interval of a rate over `n` questions.
pub fn wilson(rate: f64, n: usize) -> (f64, f64) {
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

/// The variance of an estimate with its degrees of freedom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Variance {
    pub(crate) value: f64,
    pub(crate) degrees: f64,
}

/// The mean of what questions contribute, and its variance over questions as drawn from more of their kind.
///
/// With `pseudo`, two questions that were not asked are added and the variance has the divisor `n + 2`, as Bonett and Price
/// (2012) do for paired differences of answers (-1 and 1) and Agresti and Caffo (2000) for one sample (0 and 1). Without,
/// it is the sample variance over `n`, which takes two values or more.
pub(crate) fn over_questions(values: &[f64], pseudo: Option<(f64, f64)>) -> (f64, Variance) {
    let mut all = values.to_vec();
    all.extend(pseudo.into_iter().flat_map(|(low, high)| [low, high]));
    let center = mean(&all);
    let squares: f64 = all.iter().map(|value| (value - center).powi(2)).sum();
    let degrees = values.len().saturating_sub(1).max(1) as f64;
    let divisor = if pseudo.is_some() { all.len() as f64 } else { degrees };
    (center, Variance { value: squares / divisor / all.len() as f64, degrees })
}

/// The variance of the mean of runs; `None` below two.
pub(crate) fn over_runs(values: &[f64]) -> Option<Variance> {
    let n = values.len() as f64;
    standard_deviation(values).map(|deviation| Variance { value: deviation.powi(2) / n, degrees: n - 1.0 })
}

/// Half the width of the 95 % interval of an estimate whose variance is a sum of independent ones (Welch 1947, with the degrees
/// of freedom of Satterthwaite 1946).
pub(crate) fn half_width(variances: &[Variance]) -> f64 {
    let sum: f64 = variances.iter().map(|part| part.value).sum();
    let squares: f64 = variances.iter().map(|part| part.value.powi(2) / part.degrees).sum();
    if squares > 0.0 { student_quantile(sum.powi(2) / squares) * sum.sqrt() } else { 0.0 }
}

/// The 0.975 quantile of Student's t distribution with at least one degree of freedom.
fn student_quantile(degrees: f64) -> f64 {
    // With more, it is the normal distribution's to 3e-4, and the crate's continued fraction ends too early.
    let student = StudentsT::new(0.0, 1.0, degrees.min(1e4)).expect("degrees of freedom are positive");
    student.inverse_cdf(0.975)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
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
    fn quantiles_of_student_are_those_of_the_tables() {
        // Fisher and Yates, Statistical Tables, table III, P = 0.05.
        let published = [
            (1.0, 12.706),
            (2.0, 4.303),
            (3.0, 3.182),
            (4.0, 2.776),
            (5.0, 2.571),
            (10.0, 2.228),
            (30.0, 2.042),
            (120.0, 1.980),
        ];
        for (degrees, quantile) in published {
            assert!((student_quantile(degrees) - quantile).abs() < 5e-4, "{degrees}");
        }
        for (degrees, quantile) in reference().quantiles {
            assert!((student_quantile(degrees) / quantile - 1.0).abs() < 1e-8, "{degrees}");
        }
    }

    #[test]
    fn a_quantile_is_where_the_distribution_says_so() {
        // From 1 to ten thousand degrees of freedom, in steps of 1 %.
        for degrees in (0..=925).map(|step| 1.01_f64.powi(step)) {
            let cumulated = StudentsT::new(0.0, 1.0, degrees).unwrap().cdf(student_quantile(degrees));
            assert!((cumulated - 0.975).abs() < 1e-9, "{degrees}: {cumulated}");
        }
        assert!((student_quantile(1e12) - Z).abs() < 3e-4);
    }

    #[test]
    fn runs_are_compared_as_welch_does() {
        for case in reference().welch {
            let variances = [over_runs(&case.left).unwrap(), over_runs(&case.right).unwrap()];
            let (center, half) = (mean(&case.left) - mean(&case.right), half_width(&variances));
            close((center - half, center + half), case.interval, 1e-8);
        }
    }

    #[test]
    fn paired_answers_are_compared_as_bonett_and_price_do() {
        for case in reference().paired {
            let (better, worse) = (case.better, case.worse);
            let differences: Vec<f64> = (0..case.questions)
                .map(|at| f64::from(at < better) - f64::from(at >= better && at < better + worse))
                .collect();
            let (center, variance) = over_questions(&differences, Some((-1.0, 1.0)));
            let half = Z * variance.value.sqrt();
            close((center - half, center + half), case.interval, 1e-9);
            assert_eq!(variance.degrees, f64::from(case.questions - 1));
        }
        // 1 against 7 of 21, by hand: -6/23 ± 1.96 * sqrt((10/23 - (6/23)^2) / 23).
        let example = reference().paired.into_iter().find(|case| case.questions == 21).unwrap();
        close(example.interval, (-0.5084, -0.0134), 5e-5);
    }

    #[test]
    fn discordant_answers_tell_rows_apart_where_the_exact_test_does() {
        // McNemar's exact p of k:0 is 2^(1 - k): 0.0625 of 5:0, 0.03125 of 6:0.
        for questions in [6, 7, 8, 10, 20, 60, 100, 500, 5000] {
            let apart = |better: usize| {
                let differences: Vec<f64> = (0..questions).map(|at| f64::from(at < better)).collect();
                let (center, variance) = over_questions(&differences, Some((-1.0, 1.0)));
                center > half_width(&[variance])
            };
            assert_eq!([3, 4, 5, 6].map(apart), [false, false, false, true], "of {questions}");
        }
    }

    /// What `tests/intervals.py` wrote.
    #[derive(serde::Deserialize)]
    struct Reference {
        quantiles: Vec<(f64, f64)>,
        welch: Vec<Welch>,
        paired: Vec<Paired>,
    }

    #[derive(serde::Deserialize)]
    struct Welch {
        left: Vec<f64>,
        right: Vec<f64>,
        interval: (f64, f64),
    }

    #[derive(serde::Deserialize)]
    struct Paired {
        questions: u32,
        better: u32,
        worse: u32,
        interval: (f64, f64),
    }

    fn reference() -> Reference {
        serde_json::from_str(include_str!("../tests/intervals.json")).unwrap()
    }
}
