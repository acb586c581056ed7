//! MIND without its assistant: rationales weighted by the student's own losses of the moment, the ablation `loss-only`.

use burn::tensor::Tensor;
use contract::StageError;
use lm::paths::Paths;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Forward, Objective, Pass, passes, presence, weighted_loss};
use crate::{forward::Needs, log::StepLog};

/// How the losses become weights.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct LossOnlyParams {
    /// Temperature of the weights, softmax(-L / tau) over all paths of a question. Default: 1, as in the meta loss of `mind`.
    #[serde(default = "default_tau")]
    pub tau: f64,
    /// Weight of the consistency term. Default: 0.5, as in `mind`.
    #[serde(default = "default_lambda")]
    pub lambda: f64,
}

fn default_tau() -> f64 {
    1.0
}

fn default_lambda() -> f64 {
    0.5
}

impl LossOnlyParams {
    pub(super) fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        if self.tau.is_nan() || self.tau <= 0.0 {
            problems.push(("tau", "must be above 0".into()));
        }
        if self.lambda.is_nan() || self.lambda < 0.0 {
            problems.push(("lambda", "must not be negative".into()));
        }
        problems
    }
}

/// All paths, weighted by their losses.
pub(super) struct LossOnly {
    params: LossOnlyParams,
    present: Vec<Vec<bool>>,
}

impl LossOnly {
    pub(super) fn new(params: &LossOnlyParams, paths: &Paths) -> Self {
        Self { params: params.clone(), present: presence(paths) }
    }
}

impl Objective for LossOnly {
    fn learns_from(&self, question: usize) -> bool {
        self.present[question].contains(&true)
    }

    fn needs(&self, _: usize) -> Needs {
        Needs { answers: self.params.lambda > 0.0, ..Needs::default() }
    }

    fn plan(&mut self, questions: &[usize], _: usize) -> Result<Vec<Vec<Pass>>, StageError> {
        let weights =
            |question: &usize| self.present[*question].iter().map(|p| f64::from(u8::from(*p))).collect();
        Ok(passes(&questions.iter().map(weights).collect::<Vec<_>>()))
    }

    fn loss(&mut self, forward: &Forward, log: &mut StepLog) -> Tensor<1> {
        let weights: Vec<Vec<f64>> =
            forward.values.iter().map(|losses| weights(losses, self.params.tau)).collect();
        weighted_loss(forward, &weights, self.params.lambda, log)
    }
}

/// softmax(-L / tau) over the paths that have a loss; numbers, so nothing but the student gets a gradient.
fn weights(losses: &[Option<f64>], tau: f64) -> Vec<f64> {
    let lowest = losses.iter().flatten().copied().fold(f64::INFINITY, f64::min);
    let weight = |loss: &Option<f64>| loss.map_or(0.0, |loss| ((lowest - loss) / tau).exp());
    let weights: Vec<f64> = losses.iter().map(weight).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_worked_out_by_hand() {
        let found = weights(&[Some(1.0), None, Some(1.0 + std::f64::consts::LN_2)], 1.0);
        for (found, expected) in found.iter().zip([2.0 / 3.0, 0.0, 1.0 / 3.0]) {
            assert!((found - expected).abs() < 1e-12, "{found}");
        }
        assert_eq!(weights(&[Some(1e9), Some(1e9)], 1e-3), [0.5, 0.5], "large losses do not overflow");
    }
}
