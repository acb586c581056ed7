//! Single-path distillation: cross-entropy on one right rationale of each question.

use burn::tensor::Tensor;
use contract::StageError;
use lm::paths::Paths;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Forward, Objective, Pass, chosen, first, passes, presence, weighted_loss};
use crate::{StudentError, forward::Needs, log::StepLog};

/// Which of the rationales.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct StdCotParams {
    /// `first` for the first right one in the order of the perspectives, or a perspective's name; questions without
    /// a rationale from it are left out. Default: `first`.
    #[serde(default = "first")]
    pub perspective: String,
}

impl StdCotParams {
    pub(super) fn problems(&self) -> Vec<(&'static str, String)> {
        if self.perspective.is_empty() {
            vec![("perspective", "must not be empty".into())]
        } else {
            Vec::new()
        }
    }
}

/// One path a question.
pub(super) struct StdCot {
    /// The path learned from, by question.
    chosen: Vec<Option<usize>>,
    count: usize,
    weights: Vec<Vec<f64>>,
}

impl StdCot {
    pub(super) fn new(params: &StdCotParams, paths: &Paths) -> Result<Self, StudentError> {
        let path = chosen(&params.perspective, &paths.perspectives)?;
        let choose = |present: Vec<bool>| match path {
            Some(path) => present[path].then_some(path),
            None => present.iter().position(|present| *present),
        };
        let chosen = presence(paths).into_iter().map(choose).collect();
        Ok(Self { chosen, count: paths.perspectives.len(), weights: Vec::new() })
    }
}

impl Objective for StdCot {
    fn learns_from(&self, question: usize) -> bool {
        self.chosen[question].is_some()
    }

    fn needs(&self, _: usize) -> Needs {
        Needs::default()
    }

    fn plan(&mut self, questions: &[usize], _: usize) -> Result<Vec<Vec<Pass>>, StageError> {
        let weight = |question: usize, path| f64::from(u8::from(self.chosen[question] == Some(path)));
        self.weights = questions
            .iter()
            .map(|question| (0..self.count).map(|path| weight(*question, path)).collect())
            .collect();
        Ok(passes(&self.weights))
    }

    fn loss(&mut self, forward: &Forward, log: &mut StepLog) -> Tensor<1> {
        weighted_loss(forward, &self.weights, 0.0, log)
    }
}
