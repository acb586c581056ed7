//! Intervals worked out by hand, and how often they hold the truth.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;

/// Runs with the answers to one set of questions, named by their place.
fn row(questions: &str, runs: &[Vec<f64>]) -> Estimate {
    let labels: Vec<String> = (0..runs.len()).map(|place| place.to_string()).collect();
    let answered: Vec<RunAnswers<'_>> = labels
        .iter()
        .zip(runs)
        .map(|(label, answers)| RunAnswers {
            label: Some(label),
            value: intervals::mean(answers),
            questions,
            answers,
        })
        .collect();
    Estimate::mean_of_runs(&answered)
}

fn right(right: usize, questions: usize) -> Vec<f64> {
    (0..questions).map(|at| f64::from(at < right)).collect()
}

fn close(a: (f64, f64), b: (f64, f64)) {
    assert!((a.0 - b.0).abs() < 1e-3 && (a.1 - b.1).abs() < 1e-3, "{a:?} is not {b:?}");
}

#[test]
fn questions_and_runs_add_up() {
    // Differences 1 and 3: variance of their mean 1. Runs 2 and 4: variance of their mean 1. Two degrees of freedom.
    let difference = row("x", &[vec![1.0, 3.0], vec![3.0, 5.0]]).minus(&row("x", &[vec![1.0, 1.0]]));
    assert_eq!(difference.value, 2.0);
    let half = 4.3027 * 2.0_f64.sqrt();
    close(difference.interval(false), (2.0 - half, 2.0 + half));
    // Of other questions: variances of means 1 (runs), 1 and 0 (questions).
    let difference = row("x", &[vec![1.0, 3.0], vec![3.0, 5.0]]).minus(&row("y", &[vec![1.0, 1.0]]));
    close(difference.interval(false), (2.0 - half, 2.0 + half));
    // Answers that differ less between rows than within them are paired.
    let (a, b) = (row("x", &[vec![0.0, 8.0, 4.0]]), row("x", &[vec![1.0, 9.0, 5.0]]));
    close(b.minus(&a).interval(false), (1.0, 1.0));
    assert!(row("y", &[vec![1.0, 9.0, 5.0]]).minus(&a).interval(false).0 < -7.0);
}

#[test]
fn a_mean_of_columns_takes_its_runs_as_one() {
    let (x, y) = (row("x", &[vec![1.0; 3], vec![3.0; 3]]), row("y", &[vec![3.0; 3], vec![1.0; 3]]));
    let mean = Estimate::within_row(&[(0.5, &x), (0.5, &y)]);
    assert_eq!(mean.runs.iter().map(|run| run.value).collect::<Vec<_>>(), [2.0, 2.0]);
    close(mean.interval(false), (2.0, 2.0));
    // The same in the other column: each run keeps its difference.
    let same = Estimate::within_row(&[(0.5, &x), (0.5, &row("y", &[vec![1.0; 3], vec![3.0; 3]]))]);
    let between_runs = |estimate: &Estimate| estimate.between_runs.iter().map(|part| part.value).sum::<f64>();
    assert!((between_runs(&same) - 1.0).abs() < 1e-9);
    // One column lacks a run: as much as there could be, (0.5 * sqrt(1) + 0.5 * 0)^2.
    let lacks = Estimate::within_row(&[(0.5, &x), (0.5, &row("y", &[vec![3.0; 3]]))]);
    assert!((between_runs(&lacks) - 0.25).abs() < 1e-9);
    assert_eq!(lacks.runs.len(), 1);
    // Both lack another: (0.5 * sqrt(1) + 0.5 * sqrt(1))^2.
    let mut other = row("y", &[vec![1.0; 3], vec![3.0; 3]]);
    other.runs[1].label = Some("2".to_owned());
    let lacks = Estimate::within_row(&[(0.5, &x), (0.5, &other)]);
    assert!((between_runs(&lacks) - 1.0).abs() < 1e-9);
}

#[test]
fn agreement_leaves_the_chance_of_questions() {
    let same = row("x", &[right(40, 100)]).minus(&row("x", &[right(40, 100)]));
    let (low, high) = same.interval(true);
    assert!(same.value == 0.0 && low < -0.01 && high == -low, "{low} {high}");
    let runs = row("x", &[right(40, 100), right(40, 100), right(40, 100)]);
    let (low, high) = runs.interval(true);
    assert!(low < 0.32 && high > 0.48, "{low} {high}");
    let (low, high) = row("x", &[vec![1.0], vec![1.0]]).minus(&row("x", &[vec![0.0]])).interval(true);
    assert!(low < 0.0 && high == 1.0, "{low} {high}");
}

#[test]
fn the_interval_of_a_rate_is_wilsons_or_holds_it() {
    let wilson = intervals::wilson(0.4, 100);
    assert_eq!(row("x", &[right(40, 100)]).interval_of_rate(&[(0.4, 100)]), wilson);
    let agree = row("x", &[right(40, 100), right(40, 100)]).interval_of_rate(&[(0.4, 100)]);
    assert!(agree.0 <= wilson.0 && agree.1 >= wilson.1, "{agree:?} is inside {wilson:?}");
    // Runs of 0.2 and 0.6: one degree of freedom and a standard error of 0.2 leave nothing out.
    let apart = row("x", &[right(20, 100), right(60, 100)]).interval_of_rate(&[(0.4, 100)]);
    assert_eq!(apart, (0.0, 1.0));
}

#[test]
fn an_interval_of_rates_holds_its_value_and_nothing_impossible() {
    let estimates: Vec<Estimate> = (1..=12)
        .flat_map(|questions| (0..=questions).map(move |count| row("x", &[right(count, questions)])))
        .collect();
    let mut checked = 0;
    for (a, b) in estimates.iter().flat_map(|a| estimates.iter().map(move |b| (a, b))) {
        let same_length =
            a.asked.values().next().unwrap().sums.len() == b.asked.values().next().unwrap().sums.len();
        if same_length {
            let difference = a.minus(b);
            let (low, high) = difference.interval(true);
            assert!(-1.0 <= low && low <= difference.value && difference.value <= high && high <= 1.0);
            assert!(low < high);
            checked += 1;
        }
    }
    assert!(checked > 500);
    // The mean of many columns that agree is pulled to the middle by more than its interval is wide.
    let columns: Vec<Estimate> = (0..8)
        .map(|at| row(&at.to_string(), &[right(500, 500)]).minus(&row(&at.to_string(), &[right(0, 500)])))
        .collect();
    let members: Vec<(f64, &Estimate)> = columns.iter().map(|column| (0.125, column)).collect();
    let mean = Estimate::within_row(&members);
    assert_eq!((mean.value, mean.interval(true).1), (1.0, 1.0));
}

/// A task whose questions are drawn anew: some are harder, and each run has a level of its own on all of them.
struct World {
    rng: ChaCha8Rng,
    questions: usize,
}

impl World {
    fn new(questions: usize) -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(7), questions }
    }

    /// Chances of a right answer, between 0.3 and 0.6.
    fn chances(&mut self) -> Vec<f64> {
        (0..self.questions).map(|_| 0.3 + 0.3 * self.rng.random::<f64>()).collect()
    }

    /// Levels of runs, of this standard deviation.
    fn levels(&mut self, runs: usize, deviation: f64) -> Vec<f64> {
        // Twelve uniform draws have variance 1. Chances stay between 0 and 1 up to 3.5 deviations of 0.08, so nearly always.
        let normal = |rng: &mut ChaCha8Rng| (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0;
        (0..runs).map(|_| deviation * normal(&mut self.rng)).collect()
    }

    fn answers(&mut self, chances: &[f64], level: f64) -> Vec<f64> {
        chances.iter().map(|chance| f64::from(self.rng.random::<f64>() < chance + level)).collect()
    }

    fn row(&mut self, questions: &str, chances: &[f64], levels: &[f64]) -> Estimate {
        let runs: Vec<Vec<f64>> = levels.iter().map(|level| self.answers(chances, *level)).collect();
        row(questions, &runs)
    }
}

/// How often the interval of a difference of two rows, of so many runs with so much noise between them, holds the truth.
fn coverage(runs: [usize; 2], deviations: [f64; 2], columns: usize) -> f64 {
    const TRIALS: usize = 1000;
    const TRUTH: f64 = 0.05;
    let mut world = World::new(100);
    let mut held = 0;
    for _ in 0..TRIALS {
        let levels = [0, 1].map(|row| world.levels(runs[row], deviations[row]));
        let better: Vec<f64> = levels[0].iter().map(|level| level + TRUTH).collect();
        let mut rows = [Vec::new(), Vec::new()];
        for column in 0..columns {
            let chances = world.chances();
            rows[0].push(world.row(&column.to_string(), &chances, &better));
            rows[1].push(world.row(&column.to_string(), &chances, &levels[1]));
        }
        let mean = |row: &[Estimate]| {
            Estimate::within_row(&row.iter().map(|column| (1.0 / columns as f64, column)).collect::<Vec<_>>())
        };
        let (low, high) = mean(&rows[0]).minus(&mean(&rows[1])).interval(true);
        held += usize::from(low <= TRUTH && TRUTH <= high);
    }
    held as f64 / TRIALS as f64
}

#[test]
fn intervals_of_few_runs_hold_the_truth() {
    for (runs, deviations, columns) in [
        ([3, 3], [0.08, 0.08], 1),
        ([3, 3], [0.08, 0.02], 1),
        ([5, 5], [0.08, 0.08], 1),
        ([5, 5], [0.08, 0.02], 1),
        ([3, 5], [0.08, 0.04], 1),
        ([3, 3], [0.0, 0.0], 1),
        ([3, 3], [0.08, 0.08], 3),
    ] {
        let held = coverage(runs, deviations, columns);
        assert!(held >= 0.93, "{runs:?} runs, {deviations:?}, {columns} columns: {held}");
    }
}

#[test]
fn of_two_equal_rows_with_one_run_few_are_told_apart() {
    const TRIALS: usize = 4000;
    for questions in [8, 20, 60, 200] {
        let mut world = World::new(questions);
        let told_apart = (0..TRIALS).filter(|_| {
            let chances = world.chances();
            let (low, high) =
                world.row("x", &chances, &[0.0]).minus(&world.row("x", &chances, &[0.0])).interval(true);
            low > 0.0 || high < 0.0
        });
        let share = told_apart.count() as f64 / TRIALS as f64;
        // 5 %, and three standard errors of so many trials.
        assert!(share <= 0.05 + 3.0 * (0.05 * 0.95 / TRIALS as f64).sqrt(), "{questions} questions: {share}");
    }
}
