//! MCC-KD: two rationales of a question a step, whose answers must agree (Chen et al. 2023, arXiv 2310.14747).
//!
//! A pool of a question's most diverse rationales is fixed; each visit draws two of it.

use std::collections::HashSet;

use burn::tensor::Tensor;
use contract::StageError;
use lm::paths::Paths;
use rand::{SeedableRng, rngs::SmallRng, seq::index};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Forward, Objective, Pass, passes, terms};
use crate::{
    divergence::jeffreys,
    forward::Needs,
    log::StepLog,
    similarity::{jaccard, three_grams},
};

/// How strongly the answers must agree, and among which rationales.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct MccKdParams {
    /// Weight of the consistency term, the mean of KL(q || p) and KL(p || q) over the answer. Default: 0.1.
    #[serde(default = "default_alpha")]
    pub alpha: f64,
    /// Rationales of a question that are drawn from, the most different by the Jaccard index of their 3-grams. Default: 5.
    #[serde(default = "default_pool")]
    pub pool: usize,
}

fn default_alpha() -> f64 {
    0.1
}

fn default_pool() -> usize {
    5
}

impl MccKdParams {
    pub(super) fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if self.alpha.is_nan() || self.alpha < 0.0 {
            problems.push(("alpha", "must not be negative".into()));
        }
        if self.pool < 2 {
            problems.push(("pool", "must be at least 2".into()));
        }
        problems
    }
}

/// Pairs of paths.
pub(super) struct MccKd {
    alpha: f64,
    seed: u64,
    count: usize,
    /// The paths drawn from, by question.
    pools: Vec<Vec<usize>>,
    weights: Vec<Vec<f64>>,
}

impl MccKd {
    pub(super) fn new(params: &MccKdParams, paths: &Paths, seed: u64) -> Self {
        let pool = |question: &lm::paths::QuestionPaths| {
            let grams: Vec<Option<HashSet<[u32; 3]>>> = question
                .paths
                .iter()
                .map(|path| path.as_ref().map(|path| three_grams(path.continuation())))
                .collect();
            diverse(&grams, params.pool)
        };
        let pools = paths.questions.iter().map(pool).collect();
        Self { alpha: params.alpha, seed, count: paths.perspectives.len(), pools, weights: Vec::new() }
    }

    /// Two paths of the pool, or the only one; drawn anew in each step, whatever was drawn before.
    fn draw(&self, question: usize, step: usize) -> Vec<usize> {
        let pool = &self.pools[question];
        let place = (step as u64) << 32 | question as u64;
        let mut rng = SmallRng::seed_from_u64(self.seed ^ place.wrapping_mul(0x9E37_79B9_7F4A_7C15));
        index::sample(&mut rng, pool.len(), pool.len().min(2)).into_iter().map(|at| pool[at]).collect()
    }
}

impl Objective for MccKd {
    fn learns_from(&self, question: usize) -> bool {
        !self.pools[question].is_empty()
    }

    fn needs(&self, _: usize) -> Needs {
        Needs { answers: self.alpha > 0.0, ..Needs::default() }
    }

    fn plan(&mut self, questions: &[usize], step: usize) -> Result<Vec<Vec<Pass>>, StageError> {
        let weights = |question: &usize| {
            let drawn = self.draw(*question, step);
            let share = |path| if drawn.contains(&path) { 1.0 / drawn.len() as f64 } else { 0.0 };
            (0..self.count).map(share).collect()
        };
        self.weights = questions.iter().map(weights).collect();
        Ok(passes(&self.weights))
    }

    fn loss(&mut self, forward: &Forward, log: &mut StepLog) -> Tensor<1> {
        let sft = super::weighted_loss(forward, &self.weights, 0.0, log);
        let Some(answers) = &forward.answers else { return sft };
        let ones = vec![vec![1.0; self.count]; self.weights.len()];
        let consistency =
            jeffreys(answers.log_probs.clone(), &terms(forward, answers, &ones)).div_scalar(2.0);
        log.mean_over("l_cons", consistency.to_data().iter::<f64>().sum(), self.weights.len());
        sft + consistency.mul_scalar(self.alpha)
    }
}

/// So many of the paths that are there, each least like those taken before; the first of them starts.
fn diverse(grams: &[Option<HashSet<[u32; 3]>>], most: usize) -> Vec<usize> {
    let mut left: Vec<(usize, &HashSet<[u32; 3]>)> =
        grams.iter().enumerate().filter_map(|(path, grams)| Some((path, grams.as_ref()?))).collect();
    // The largest likeness to anything taken.
    let mut likeness = vec![0.0; left.len()];
    let mut taken = Vec::new();
    while taken.len() < most && !left.is_empty() {
        let least = (0..left.len())
            .min_by(|a, b| f64::total_cmp(&likeness[*a], &likeness[*b]))
            .expect("some are left");
        let (path, grams) = left.remove(least);
        likeness.remove(least);
        for ((_, other), likeness) in left.iter().zip(&mut likeness) {
            *likeness = likeness.max(jaccard(grams, other));
        }
        taken.push(path);
    }
    taken.sort_unstable();
    taken
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grams(tokens: &[u32]) -> Option<HashSet<[u32; 3]>> {
        Some(three_grams(tokens))
    }

    #[test]
    fn a_pool_holds_the_most_different_paths() {
        let paths = [grams(&[1, 2, 3, 4, 5]), grams(&[1, 2, 3, 4, 6]), None, grams(&[7, 8, 9])];
        assert_eq!(diverse(&paths, 2), [0, 3]);
        assert_eq!(diverse(&paths, 9), [0, 1, 3]);
        assert_eq!(diverse(&[None], 2), [0; 0]);
    }

    #[test]
    fn pairs_change_from_step_to_step_and_come_again_after_a_kill() {
        let objective = |seed| MccKd {
            alpha: 0.1,
            seed,
            count: 8,
            pools: vec![vec![0, 2, 5, 6, 7], vec![3]],
            weights: Vec::new(),
        };
        let drawn: Vec<Vec<usize>> = (0..40).map(|step| objective(1).draw(0, step)).collect();
        assert!(drawn.iter().all(|pair| pair.len() == 2 && pair[0] != pair[1]));
        let pairs: HashSet<Vec<usize>> = drawn
            .iter()
            .map(|pair| pair.iter().copied().collect::<std::collections::BTreeSet<_>>())
            .map(|pair| pair.into_iter().collect())
            .collect();
        assert!(pairs.len() > 7, "{pairs:?}");
        assert_eq!(objective(1).draw(0, 3), drawn[3]);
        assert!((0..40).any(|step| objective(2).draw(0, step) != drawn[step]));
        assert_eq!(objective(1).draw(1, 0), [3]);
    }
}
