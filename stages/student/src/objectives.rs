//! Training losses. Each is one file that knows no other; the loop knows only the trait [`Objective`].
//!
//! An objective says, before the forward pass, what to do with each path of each question, and after it what the loss
//! is. What several share stands here: the weighted sum over paths with its consistency term.

mod edit;
mod loss_only;
mod mcc_kd;
mod mind;
mod sbs_multitask;
mod std_cot;
mod uniform;

#[cfg(test)]
mod reference;

use burn::tensor::{Device, Tensor};
use contract::{Context, StageError, records::QuestionRationales};
use lm::{paths::Paths, tokenizer::Tokenizer, train::Checkpoint};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::{
    edit::EditParams, loss_only::LossOnlyParams, mcc_kd::MccKdParams, mind::MindParams,
    sbs_multitask::SbsMultitaskParams, std_cot::StdCotParams, uniform::UniformParams,
};
use crate::{
    StudentError,
    divergence::{Term, divergence},
    forward::{Answers, Needs, Tokens},
    log::StepLog,
};

/// Which loss, with its own fields.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum ObjectiveParams {
    /// No training: the model as it came, for the row that stands in every table.
    Undistilled,
    /// One right rationale a question.
    StdCot(StdCotParams),
    /// All rationales of a question, equally weighted.
    Uniform(UniformParams),
    /// A label head and a rationale head of one model (Distilling step-by-step, arXiv 2305.02301).
    SbsMultitask(SbsMultitaskParams),
    /// Two rationales of a question whose answers must agree (MCC-KD, arXiv 2310.14747).
    MccKd(MccKdParams),
    /// All rationales, then the tokens in which right and wrong ones differ (EDIT, ACL 2025).
    Edit(EditParams),
    /// Rationales weighted by their own losses, without an assistant; an ablation of MIND.
    LossOnly(LossOnlyParams),
    /// Rationales weighted by the teaching assistant (MIND, arXiv 2601.03717).
    Mind(MindParams),
}

impl ObjectiveParams {
    /// What the types cannot say, as (JSON pointer, problem).
    pub(crate) fn problems(&self) -> Vec<(String, String)> {
        let (name, problems) = match self {
            Self::Undistilled => return Vec::new(),
            Self::StdCot(params) => ("std-cot", params.problems()),
            Self::Uniform(params) => ("uniform", params.problems()),
            Self::SbsMultitask(params) => ("sbs-multitask", params.problems()),
            Self::MccKd(params) => ("mcc-kd", params.problems()),
            Self::Edit(params) => ("edit", params.problems()),
            Self::LossOnly(params) => ("loss-only", params.problems()),
            Self::Mind(params) => ("mind", params.problems()),
        };
        let at = |(field, problem)| (format!("/objective/{name}/{field}"), problem);
        problems.into_iter().map(at).collect()
    }
}

/// What happens to one path in a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Nothing.
    Skip,
    /// Its loss is measured, without gradient.
    Observe,
    /// It is trained on.
    Learn,
}

/// A few questions after the forward pass.
#[derive(Debug)]
pub(crate) struct Forward {
    /// Questions of the whole optimizer step, of which these are a part.
    pub(crate) questions_in_step: usize,
    /// Losses measured, by question and path: those learned from and those observed.
    pub(crate) values: Vec<Vec<Option<f64>>>,
    /// (question, path) of each row of `losses`; questions count from the first of this batch.
    pub(crate) rows: Vec<(usize, usize)>,
    /// Mean cross-entropy of the paths learned from, differentiable; `[rows]`.
    pub(crate) losses: Tensor<1>,
    /// Next-token log-probabilities over their answer spans, where the objective asked for them.
    pub(crate) answers: Option<Answers>,
    /// The loss of each target token, where the objective asked for them.
    pub(crate) tokens: Option<Tokens>,
}

/// A training loss over the paths of questions.
pub(crate) trait Objective {
    /// Whether a question (an index into [`Paths::questions`]) has anything to learn from.
    fn learns_from(&self, question: usize) -> bool;

    /// Hears how many optimizer steps the training has, before the first.
    fn starts(&mut self, _steps: usize) {}

    /// What the loss needs of the forward pass in a step, from 0, beside the mean loss of each path.
    fn needs(&self, step: usize) -> Needs;

    /// What to do with each path of some questions in a step, from 0; only questions it learns from are planned.
    fn plan(&mut self, questions: &[usize], step: usize) -> Result<Vec<Vec<Pass>>, StageError>;

    /// The loss summed over the questions planned last; the loop divides by the questions of the step.
    fn loss(&mut self, forward: &Forward, log: &mut StepLog) -> Tensor<1>;

    /// Called after each optimizer step of the student.
    fn stepped(&mut self) -> Result<(), StageError> {
        Ok(())
    }

    /// Whether a checkpoint may be taken now.
    fn at_rest(&self) -> bool {
        true
    }

    /// What a checkpoint keeps beside trainers.
    fn state(&self) -> serde_json::Value {
        serde_json::Value::Null
    }

    /// Adds own trainers to a checkpoint.
    fn add_to(&self, _checkpoint: &mut Checkpoint) {}

    /// Goes on from a checkpoint.
    fn restore(&mut self, _checkpoint: &Checkpoint, _state: serde_json::Value) -> Result<(), StageError> {
        Ok(())
    }
}

/// The paths an objective trains on: those of the rationales, unless it looks at them in its own way.
pub(crate) fn paths(
    params: &ObjectiveParams,
    tokenizer: &Tokenizer,
    rationales: Rationales,
    max_tokens: usize,
) -> Result<Paths, StageError> {
    match params {
        ObjectiveParams::SbsMultitask(params) => {
            sbs_multitask::paths(params, tokenizer, &rationales, max_tokens)
        }
        ObjectiveParams::Edit(_) => edit::paths(tokenizer, &rationales, max_tokens),
        ObjectiveParams::Undistilled
        | ObjectiveParams::StdCot(_)
        | ObjectiveParams::Uniform(_)
        | ObjectiveParams::MccKd(_)
        | ObjectiveParams::LossOnly(_)
        | ObjectiveParams::Mind(_) => {
            Ok(Paths::encode(tokenizer, rationales.perspectives, &rationales.right, max_tokens)?)
        }
    }
}

/// What a student learns from, as its ports hold it.
pub(crate) struct Rationales {
    /// The perspectives, in order.
    pub(crate) perspectives: Vec<String>,
    /// Right rationales.
    pub(crate) right: Vec<QuestionRationales>,
    /// Wrong rationales, where the port is joined.
    pub(crate) wrong: Vec<QuestionRationales>,
}

/// Which rationale of a question stands for all: `first`, or a perspective's place.
pub(crate) fn chosen(name: &str, perspectives: &[String]) -> Result<Option<usize>, StudentError> {
    match name {
        FIRST => Ok(None),
        name => match perspectives.iter().position(|known| known == name) {
            Some(place) => Ok(Some(place)),
            None => {
                Err(StudentError::UnknownPerspective { name: name.to_owned(), known: perspectives.to_vec() })
            }
        },
    }
}

/// The first right rationale in the order of the perspectives.
const FIRST: &str = "first";

fn first() -> String {
    FIRST.into()
}

/// Makes the objective a stage asks for; `paths` are those it will train on.
///
/// # Panics
///
/// For [`ObjectiveParams::Undistilled`], which trains nothing.
pub(crate) fn open(
    params: &ObjectiveParams,
    paths: &Paths,
    device: &Device,
    context: &Context,
) -> Result<Box<dyn Objective>, StageError> {
    Ok(match params {
        ObjectiveParams::Undistilled => unreachable!("an undistilled student is not trained"),
        ObjectiveParams::StdCot(params) => Box::new(std_cot::StdCot::new(params, paths)?),
        ObjectiveParams::Uniform(params) => Box::new(uniform::Uniform::new(params, paths)),
        ObjectiveParams::SbsMultitask(params) => Box::new(sbs_multitask::SbsMultitask::new(params, paths)),
        ObjectiveParams::MccKd(params) => Box::new(mcc_kd::MccKd::new(params, paths, context.seed())),
        ObjectiveParams::Edit(params) => Box::new(edit::Edit::new(params, paths)?),
        ObjectiveParams::LossOnly(params) => Box::new(loss_only::LossOnly::new(params, paths)),
        ObjectiveParams::Mind(params) => Box::new(mind::Mind::open(params, paths, device, context)?),
    })
}

/// Learns from the paths that weigh something.
fn passes(weights: &[Vec<f64>]) -> Vec<Vec<Pass>> {
    let pass = |weight: &f64| if *weight > 0.0 { Pass::Learn } else { Pass::Skip };
    weights.iter().map(|weights| weights.iter().map(pass).collect()).collect()
}

/// Which paths of each question are there.
fn presence(paths: &Paths) -> Vec<Vec<bool>> {
    paths.questions.iter().map(|question| question.paths.iter().map(Option::is_some).collect()).collect()
}

/// `L_SFT + lambda L_cons`, summed over questions, for given weights of the paths learned from.
///
/// `weights` are numbers by (question, path), so nothing but the student gets a gradient. They sum to 1 over a question.
fn weighted_loss(forward: &Forward, weights: &[Vec<f64>], lambda: f64, log: &mut StepLog) -> Tensor<1> {
    let of = |(question, path): (usize, usize)| weights[question][path];
    let alphas: Vec<f32> = forward.rows.iter().map(|row| of(*row) as f32).collect();
    let alphas = Tensor::<1>::from_data(alphas.as_slice(), &forward.losses.device());
    let l_sft = (forward.losses.clone() * alphas).sum();

    let questions = forward.values.len();
    let sft: f64 = forward.rows.iter().map(|row| of(*row) * forward.value(*row)).sum();
    let mut loss = l_sft;
    let mut value = sft;
    if let Some(answers) = forward.answers.as_ref().filter(|_| lambda > 0.0) {
        let l_cons = divergence(answers.log_probs.clone(), &terms(forward, answers, weights));
        let cons: f64 = l_cons.to_data().iter::<f64>().sum();
        loss = loss + l_cons.mul_scalar(lambda);
        value += lambda * cons;
        log.mean_over("l_cons", cons, questions);
    }
    log.mean_over("l_sft", sft, questions);
    log.mean_over("loss", value, questions);
    loss
}

/// `alpha_i alpha_j JSD(P_i || P_j)` for i < j of one question, averaged over the positions of the span.
fn terms(forward: &Forward, answers: &Answers, weights: &[Vec<f64>]) -> Vec<Term> {
    let mut terms = Vec::new();
    for (at, left) in forward.rows.iter().enumerate() {
        for (other, right) in forward.rows.iter().enumerate().skip(at + 1) {
            if right.0 != left.0 {
                continue;
            }
            let (here, there) = (&answers.spans[at], &answers.spans[other]);
            assert_eq!(here.len(), there.len(), "the suffix has the same tokens in every path of a question");
            let weight = weights[left.0][left.1] * weights[right.0][right.1] / here.len() as f64;
            let pairs = here.clone().zip(there.clone());
            terms.extend(pairs.map(|(left, right)| Term { left, right, weight }));
        }
    }
    terms
}

impl Forward {
    /// The measured loss of a row.
    fn value(&self, (question, path): (usize, usize)) -> f64 {
        self.values[question][path].expect("the loss of a path learned from is measured")
    }
}
