//! Linear probes: whether a label can be read off vectors by a linear map, for questions it has not seen.
//!
//! Multinomial logistic regression on standardised vectors with an L2 penalty, scikit-learn's `LogisticRegression` with its
//! default C = 1; two labels are treated as any other number of them. Texts of one question are always in one fold: else a
//! probe could recognise the question. The expected values in the tests come from `tests/probe.py`.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use faer::Mat;
use rand::{Rng, seq::SliceRandom};
use serde::Serialize;

use crate::picture::rounded;

/// Folds, where there are so many questions.
const FOLDS: usize = 5;

/// A fit ends when no derivative is larger, or after so many steps.
const TOLERANCE: f64 = 1e-5;
const STEPS: usize = 1000;

/// Steps that the curvature is estimated from.
const MEMORY: usize = 10;

/// What a probe can read, over all folds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(crate) struct Probe {
    /// Texts, each labelled once by a probe that has not seen its question.
    pub(crate) texts: usize,
    /// Folds of whole questions.
    pub(crate) folds: usize,
    /// Different labels.
    pub(crate) labels: usize,
    /// The share of texts labelled right.
    pub(crate) accuracy: f64,
    /// The accuracy of always naming the label that is commonest in the other folds.
    pub(crate) chance: f64,
    /// The mean over labels of the share of their texts labelled right; 1 / `labels` by chance.
    pub(crate) balanced_accuracy: f64,
}

impl Probe {
    /// With as many decimals as results show.
    pub(crate) fn rounded(self) -> Self {
        Self {
            accuracy: rounded(self.accuracy),
            chance: rounded(self.chance),
            balanced_accuracy: rounded(self.balanced_accuracy),
            ..self
        }
    }
}

/// Probes vectors for labels, with whole questions in each fold.
///
/// `None` for fewer than two labels or two questions: there is nothing to tell apart, or nothing unseen.
pub(crate) fn probe(
    vectors: &Mat<f64>,
    labels: &[usize],
    questions: &[&str],
    rng: &mut impl Rng,
) -> Option<Probe> {
    let fold_of = folds(questions, rng);
    let folds = fold_of.iter().max()? + 1;
    if folds < 2 || labels.iter().collect::<BTreeSet<_>>().len() < 2 {
        return None;
    }
    let (mut right, mut common) = (BTreeMap::<usize, (usize, usize)>::new(), 0);
    for fold in 0..folds {
        let told = told(vectors, labels, &fold_of, fold);
        let commonest =
            commonest(labels.iter().zip(&fold_of).filter(|(_, of)| **of != fold).map(|(label, _)| *label));
        for (text, label) in told {
            let (hits, all) = right.entry(labels[text]).or_default();
            *hits += usize::from(label == labels[text]);
            *all += 1;
            common += usize::from(commonest == labels[text]);
        }
    }
    let texts = labels.len() as f64;
    let hits: usize = right.values().map(|(hits, _)| hits).sum();
    let shares: f64 = right.values().map(|(hits, all)| *hits as f64 / *all as f64).sum();
    Some(Probe {
        texts: labels.len(),
        folds,
        labels: right.len(),
        accuracy: hits as f64 / texts,
        chance: common as f64 / texts,
        balanced_accuracy: shares / right.len() as f64,
    })
}

/// The fold of each text: questions in random order, dealt out like cards.
fn folds(questions: &[&str], rng: &mut impl Rng) -> Vec<usize> {
    let distinct: BTreeSet<&str> = questions.iter().copied().collect();
    let mut order: Vec<&str> = distinct.into_iter().collect();
    order.shuffle(rng);
    let count = FOLDS.min(order.len()).max(1);
    let fold_of: BTreeMap<&str, usize> =
        order.into_iter().enumerate().map(|(place, question)| (question, place % count)).collect();
    questions.iter().map(|question| fold_of[question]).collect()
}

/// The texts of a fold, with what a probe trained on all other folds says of each.
fn told(vectors: &Mat<f64>, labels: &[usize], fold_of: &[usize], fold: usize) -> Vec<(usize, usize)> {
    let (test, train): (Vec<usize>, Vec<usize>) = (0..labels.len()).partition(|text| fold_of[*text] == fold);
    let known: Vec<usize> =
        train.iter().map(|text| labels[*text]).collect::<BTreeSet<_>>().into_iter().collect();
    let class =
        |text: &usize| known.binary_search(&labels[*text]).expect("every label of these texts is known");
    let scale = Scale::new(vectors, &train);
    let classes: Vec<usize> = train.iter().map(class).collect();
    let weights = fit(&scale.apply(vectors, &train), &classes, known.len());
    let scores = scale.apply(vectors, &test) * &weights;
    let best = |row: usize| {
        (0..known.len()).fold(0, |best, k| if scores[(row, k)] > scores[(row, best)] { k } else { best })
    };
    test.iter().enumerate().map(|(row, text)| (*text, known[best(row)])).collect()
}

/// The commonest label; the smallest of equally common ones.
fn commonest(labels: impl Iterator<Item = usize>) -> usize {
    let mut counts = BTreeMap::<usize, usize>::new();
    for label in labels {
        *counts.entry(label).or_default() += 1;
    }
    counts
        .into_iter()
        .fold((0, 0), |best, (label, count)| if count > best.1 { (label, count) } else { best })
        .0
}

/// Mean and deviation of each dimension over the texts a probe is trained on.
struct Scale {
    mean: Vec<f64>,
    deviation: Vec<f64>,
}

impl Scale {
    fn new(vectors: &Mat<f64>, texts: &[usize]) -> Self {
        let count = texts.len() as f64;
        let over = |j: usize, value: &dyn Fn(f64) -> f64| {
            texts.iter().map(|text| value(vectors[(*text, j)])).sum::<f64>() / count
        };
        let mean: Vec<f64> = (0..vectors.ncols()).map(|j| over(j, &|value| value)).collect();
        let deviation = (0..vectors.ncols())
            .map(|j| over(j, &|value| (value - mean[j]).powi(2)).sqrt())
            // A dimension that does not vary stays as it is.
            .map(|deviation| if deviation > 0.0 { deviation } else { 1.0 })
            .collect();
        Self { mean, deviation }
    }

    /// The texts' standardised vectors, and a last column of ones for the intercept.
    fn apply(&self, vectors: &Mat<f64>, texts: &[usize]) -> Mat<f64> {
        let width = vectors.ncols();
        Mat::from_fn(texts.len(), width + 1, |i, j| {
            if j == width { 1.0 } else { (vectors[(texts[i], j)] - self.mean[j]) / self.deviation[j] }
        })
    }
}

/// The weights that minimise cross-entropy, summed over texts, plus half their squares; the intercepts, in the last row, are
/// free. One class a column.
///
/// L-BFGS: Nocedal and Wright, Numerical Optimization, algorithm 7.4, with backtracking. The loss is convex, so where it
/// starts does not matter.
fn fit(vectors: &Mat<f64>, classes: &[usize], count: usize) -> Mat<f64> {
    let mut weights = Mat::<f64>::zeros(vectors.ncols(), count);
    let (mut loss, mut gradient) = loss(vectors, classes, &weights);
    let mut memory: VecDeque<(Mat<f64>, Mat<f64>)> = VecDeque::new();
    for step in 0..STEPS {
        if gradient.norm_max() <= TOLERANCE {
            break;
        }
        let direction = direction(&gradient, &memory);
        let slope = product(&gradient, &direction);
        // Without curvature the first step is a short one.
        let mut length = if step == 0 { 1.0 / gradient.norm_l2() } else { 1.0 };
        let (next, next_loss, next_gradient) = loop {
            let next = &weights + length * &direction;
            let (next_loss, next_gradient) = self::loss(vectors, classes, &next);
            if next_loss <= loss + 1e-4 * length * slope {
                break (next, next_loss, next_gradient);
            }
            length /= 2.0;
            if length < 1e-12 {
                // Rounding hides any further descent.
                return weights;
            }
        };
        let (moved, turned) = (&next - &weights, &next_gradient - &gradient);
        if product(&moved, &turned) > 0.0 {
            memory.push_back((moved, turned));
            if memory.len() > MEMORY {
                memory.pop_front();
            }
        }
        (weights, loss, gradient) = (next, next_loss, next_gradient);
    }
    weights
}

/// The loss and its derivative.
fn loss(vectors: &Mat<f64>, classes: &[usize], weights: &Mat<f64>) -> (f64, Mat<f64>) {
    let mut errors = vectors * weights;
    let mut loss = 0.0;
    for (text, class) in classes.iter().enumerate() {
        let most = errors.row(text).iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = errors.row(text).iter().map(|score| (score - most).exp()).sum();
        loss += most + sum.ln() - errors[(text, *class)];
        for k in 0..errors.ncols() {
            let probability = (errors[(text, k)] - most).exp() / sum;
            errors[(text, k)] = probability - f64::from(u8::from(k == *class));
        }
    }
    let mut gradient = vectors.transpose() * &errors;
    for j in 0..weights.nrows() - 1 {
        for k in 0..weights.ncols() {
            loss += 0.5 * weights[(j, k)].powi(2);
            gradient[(j, k)] += weights[(j, k)];
        }
    }
    (loss, gradient)
}

/// Downhill, by the curvature that the last steps met.
fn direction(gradient: &Mat<f64>, memory: &VecDeque<(Mat<f64>, Mat<f64>)>) -> Mat<f64> {
    let mut direction = gradient * -1.0;
    let mut shares = Vec::new();
    for (moved, turned) in memory.iter().rev() {
        let share = product(moved, &direction) / product(moved, turned);
        direction -= share * turned;
        shares.push(share);
    }
    if let Some((moved, turned)) = memory.back() {
        direction *= product(moved, turned) / product(turned, turned);
    }
    for ((moved, turned), share) in memory.iter().zip(shares.into_iter().rev()) {
        let other = product(turned, &direction) / product(moved, turned);
        direction += (share - other) * moved;
    }
    direction
}

fn product(left: &Mat<f64>, right: &Mat<f64>) -> f64 {
    (0..left.ncols())
        .map(|k| left.col(k).iter().zip(right.col(k).iter()).map(|(a, b)| a * b).sum::<f64>())
        .sum()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;
    use serde::Deserialize;

    use super::*;
    use crate::measures::tests::matrix;

    /// What `tests/probe.py` wrote.
    #[derive(Deserialize)]
    struct Reference {
        vectors: Vec<Vec<f64>>,
        labels: Vec<usize>,
        folds: Vec<usize>,
        /// Of the texts of fold 0, from a fit to the others.
        probabilities: Vec<Vec<f64>>,
        /// By fold.
        told: Vec<Vec<usize>>,
    }

    fn reference() -> Reference {
        serde_json::from_str(include_str!("../tests/probe.json")).unwrap()
    }

    #[test]
    fn probes_say_what_those_of_scikit_learn_say() {
        let reference = reference();
        let vectors = matrix(&reference.vectors);
        for (fold, expected) in reference.told.iter().enumerate() {
            let found = told(&vectors, &reference.labels, &reference.folds, fold);
            assert_eq!(found.iter().map(|(_, label)| *label).collect::<Vec<_>>(), *expected);
        }
        let (test, train): (Vec<usize>, Vec<usize>) =
            (0..reference.labels.len()).partition(|text| reference.folds[*text] == 0);
        let scale = Scale::new(&vectors, &train);
        let classes: Vec<usize> = train.iter().map(|text| reference.labels[*text]).collect();
        let scores = scale.apply(&vectors, &test) * fit(&scale.apply(&vectors, &train), &classes, 3);
        for (row, expected) in reference.probabilities.iter().enumerate() {
            let sum: f64 = scores.row(row).iter().map(|score| score.exp()).sum();
            for (k, expected) in expected.iter().enumerate() {
                let found = scores[(row, k)].exp() / sum;
                // Both stop a little short of the minimum.
                assert!((found - expected).abs() < 1e-5, "{found} is not {expected}");
            }
        }
    }

    #[test]
    fn folds_hold_whole_questions() {
        let questions: Vec<String> = (0..60).map(|i| (i / 5).to_string()).collect();
        let questions: Vec<&str> = questions.iter().map(String::as_str).collect();
        let found = folds(&questions, &mut ChaCha8Rng::seed_from_u64(1));
        assert!(found.chunks(5).all(|question| question.iter().all(|fold| *fold == question[0])));
        let sizes: Vec<usize> =
            (0..FOLDS).map(|fold| found.iter().filter(|of| **of == fold).count()).collect();
        assert!(sizes.iter().all(|size| (10..=15).contains(size)), "{sizes:?}");
    }

    /// Vectors that give away their question entirely and their label only as far as it goes with the question.
    #[test]
    fn a_probe_cannot_learn_questions_by_heart() {
        let mut rng = ChaCha8Rng::seed_from_u64(5);
        let names: Vec<String> = (0..80).map(|i| (i / 4).to_string()).collect();
        let questions: Vec<&str> = names.iter().map(String::as_str).collect();
        let places: Vec<Vec<f64>> =
            (0..20).map(|_| (0..8).map(|_| rng.random_range(-1.0..1.0)).collect()).collect();
        let vectors = Mat::from_fn(80, 8, |i, j| places[i / 4][j] + 1e-3 * rng.random_range(-1.0..1.0));
        let labels: Vec<usize> = (0..80).map(|i| (i / 4) % 2).collect();
        let grouped = probe(&vectors, &labels, &questions, &mut rng).unwrap();
        let alone: Vec<String> = (0..80).map(|i| i.to_string()).collect();
        let alone: Vec<&str> = alone.iter().map(String::as_str).collect();
        let split = probe(&vectors, &labels, &alone, &mut rng).unwrap();
        assert!(grouped.accuracy < 0.7, "{grouped:?}");
        assert!(split.accuracy > grouped.accuracy + 0.15, "{split:?} against {grouped:?}");
        assert_eq!((grouped.folds, grouped.labels, grouped.texts), (5, 2, 80));
    }

    #[test]
    fn chance_is_the_commonest_label() {
        let vectors = Mat::from_fn(30, 1, |i, _| if i % 3 == 0 { 1.0 } else { -1.0 });
        let labels: Vec<usize> = (0..30).map(|i| usize::from(i % 3 == 0)).collect();
        let names: Vec<String> = (0..30).map(|i| (i / 3).to_string()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut rng = ChaCha8Rng::seed_from_u64(2);
        let found = probe(&vectors, &labels, &names, &mut rng).unwrap();
        assert_eq!((found.accuracy, found.balanced_accuracy), (1.0, 1.0));
        assert!((found.chance - 2.0 / 3.0).abs() < 1e-12);
        assert_eq!(probe(&vectors, &[1; 30], &names, &mut rng), None);
        assert_eq!(probe(&vectors, &labels, &["q"; 30], &mut rng), None);
    }
}
