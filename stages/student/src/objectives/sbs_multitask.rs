//! Distilling step-by-step as multi-task training: one model that predicts a label and, asked otherwise, explains it
//! (Hsieh et al. 2023, arXiv 2305.02301).
//!
//! The two tasks are told apart by a word before the question. At test time only `predict: ` is asked, which answers without
//! a rationale: the stage that evaluates such a student needs `prefix: "predict: "`.

use burn::tensor::Tensor;
use contract::{
    StageError,
    records::{Question, QuestionRationales},
};
use lm::{
    LmError,
    batch::{Sequence, encode_example},
    paths::{Paths, QuestionPaths},
    prompt::Prompter,
    tokenizer::Tokenizer,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Forward, Objective, Pass, Rationales, chosen, first, passes, presence, weighted_loss};
use crate::{forward::Needs, log::StepLog};

/// The two tasks, in the order of the paths.
const HEADS: [&str; 2] = ["predict", "explain"];

/// How the two tasks are weighted, and which rationale explains.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(inline)]
pub struct SbsMultitaskParams {
    /// Weight of the label's loss; the rationale's is 1 - alpha. Default: 0.5.
    #[serde(default = "default_alpha")]
    pub alpha: f64,
    /// The rationale that explains, as in `std-cot`. Default: `first`.
    #[serde(default = "first")]
    pub perspective: String,
}

fn default_alpha() -> f64 {
    0.5
}

impl SbsMultitaskParams {
    pub(super) fn problems(&self) -> Vec<(&'static str, String)> {
        let inside = self.alpha > 0.0 && self.alpha < 1.0;
        if inside { Vec::new() } else { vec![("alpha", "must be above 0 and below 1".into())] }
    }
}

/// Two paths a question: its label, and its rationale without the label.
pub(super) fn paths(
    params: &SbsMultitaskParams,
    tokenizer: &Tokenizer,
    rationales: &Rationales,
    max_tokens: usize,
) -> Result<Paths, StageError> {
    let place = chosen(&params.perspective, &rationales.perspectives)?;
    let prompter = Prompter::new(tokenizer)?;
    let (mut questions, mut too_long) = (Vec::new(), 0);
    for QuestionRationales { question, rationales: told } in &rationales.right {
        let rationale = match place {
            None => told.first(),
            Some(place) => told.iter().find(|told| told.perspective == rationales.perspectives[place]),
        };
        let Some(rationale) = rationale else { continue };
        let label = tasks::answer_suffix(question);
        let body = rationale.text.strip_suffix(&label).unwrap_or(&rationale.text).trim_end();
        let asked =
            |head: &str| Question { question: format!("{head}: {}", question.question), ..question.clone() };
        let encode = |head: &str, text: &str, suffix: &str| -> Result<Sequence, LmError> {
            encode_example(tokenizer, &prompter.question(&asked(head))?, text, suffix)
        };
        let paths = [encode(HEADS[0], &label, &label)?, encode(HEADS[1], body, "")?];
        if paths.iter().any(|path| path.tokens.len() > max_tokens) {
            too_long += 1;
        } else {
            questions.push(QuestionPaths { id: question.id.clone(), paths: paths.map(Some).into() });
        }
    }
    Ok(Paths { perspectives: HEADS.map(String::from).into(), questions, too_long })
}

/// Both tasks of every question.
pub(super) struct SbsMultitask {
    alpha: f64,
    present: Vec<Vec<bool>>,
    questions: usize,
}

impl SbsMultitask {
    pub(super) fn new(params: &SbsMultitaskParams, paths: &Paths) -> Self {
        Self { alpha: params.alpha, present: presence(paths), questions: 0 }
    }

    fn weights(&self) -> Vec<Vec<f64>> {
        vec![vec![self.alpha, 1.0 - self.alpha]; self.questions]
    }
}

impl Objective for SbsMultitask {
    fn learns_from(&self, question: usize) -> bool {
        self.present[question].iter().all(|present| *present)
    }

    fn needs(&self, _: usize) -> Needs {
        Needs::default()
    }

    fn plan(&mut self, questions: &[usize], _: usize) -> Result<Vec<Vec<Pass>>, StageError> {
        self.questions = questions.len();
        Ok(passes(&self.weights()))
    }

    fn loss(&mut self, forward: &Forward, log: &mut StepLog) -> Tensor<1> {
        weighted_loss(forward, &self.weights(), 0.0, log)
    }
}
