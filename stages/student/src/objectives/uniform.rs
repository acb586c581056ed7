//! Plain multi-path distillation: every right rationale of a question, with equal weights.

use burn::tensor::Tensor;
use contract::StageError;
use lm::paths::Paths;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Forward, Objective, Pass, passes, presence, weighted_loss};
use crate::{forward::Needs, log::StepLog};

/// What is added to the plain mean.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct UniformParams {
    /// Weight of the consistency term; 0.5 makes this the ablation `no-fusion` of MIND. Default: 0.
    #[serde(default)]
    pub lambda: f64,
}

impl UniformParams {
    pub(super) fn problems(&self) -> Vec<(&'static str, String)> {
        if self.lambda >= 0.0 { Vec::new() } else { vec![("lambda", "must not be negative".into())] }
    }
}

/// All paths, equally.
pub(super) struct Uniform {
    lambda: f64,
    present: Vec<Vec<bool>>,
    weights: Vec<Vec<f64>>,
}

impl Uniform {
    pub(super) fn new(params: &UniformParams, paths: &Paths) -> Self {
        Self { lambda: params.lambda, present: presence(paths), weights: Vec::new() }
    }
}

impl Objective for Uniform {
    fn learns_from(&self, question: usize) -> bool {
        self.present[question].contains(&true)
    }

    fn needs(&self, _: usize) -> Needs {
        Needs { answers: self.lambda > 0.0, ..Needs::default() }
    }

    fn plan(&mut self, questions: &[usize], _: usize) -> Result<Vec<Vec<Pass>>, StageError> {
        let weights = |question: &usize| {
            let present = &self.present[*question];
            let share = 1.0 / present.iter().filter(|present| **present).count() as f64;
            present.iter().map(|present| if *present { share } else { 0.0 }).collect()
        };
        self.weights = questions.iter().map(weights).collect();
        Ok(passes(&self.weights))
    }

    fn loss(&mut self, forward: &Forward, log: &mut StepLog) -> Tensor<1> {
        weighted_loss(forward, &self.weights, self.lambda, log)
    }
}
