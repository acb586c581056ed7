//! Kind `mixture`: merges low-rank experts into one model, factor by factor (MoDE-CoTD, Li et al. 2024).
//!
//! Each expert is a student that was trained on the rationales of one perspective with `adapt: {lora: ..}`. Their factors are
//! added, `A = sum w_i A_i` and `B = sum w_i B_i`, with weights found without gradients: those with the smallest mean
//! cross-entropy on a few held-out training examples, plus a penalty on large weights. The search is a (1+1) evolution strategy
//! with the one-fifth success rule (Rechenberg 1973), which stands in for the NGOpt of the paper (ours).

mod search;

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
};

use contract::{
    ArtifactType, Context, Input, Port, PortFlow, Stage, StageError, jsonl,
    records::{Metric, QuestionRationales, files},
};
use lm::{
    LanguageModel,
    batch::{Sequence, collate},
    llama::Llama,
    lora::{self, Experts},
    paths::{Paths, flat_groups},
};
use rand::seq::index;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a model artifact holds the adapter that is merged into it.
const ADAPTER: &str = "adapter";

/// Tokens computed side by side.
const TOKENS_AT_ONCE: usize = 1024;

/// The kind `mixture`.
pub struct Mixture;

/// How the weights of the experts are found.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MixtureParams {
    /// How often the loss is evaluated. Default: 40, as in MoDE-CoTD.
    #[serde(default = "default_evaluations")]
    pub evaluations: usize,
    /// Questions the loss is measured on, drawn from port `examples`, each with its first rationale. Default: 5, as in MoDE-CoTD.
    #[serde(default = "default_examples")]
    pub examples: usize,
    /// What the mean of |w| is multiplied with before it is added to the loss. Default: 0.05, as in MoDE-CoTD.
    #[serde(default = "default_penalty")]
    pub penalty: f64,
    /// Weights stay within this distance of 0. Default: 3, as in MoDE-CoTD.
    #[serde(default = "default_bound")]
    pub bound: f64,
    /// Standard deviation of the first steps of the search. Default: 0.5.
    #[serde(default = "default_step")]
    pub step: f64,
}

fn default_evaluations() -> usize {
    40
}

fn default_examples() -> usize {
    5
}

fn default_penalty() -> f64 {
    0.05
}

fn default_bound() -> f64 {
    3.0
}

fn default_step() -> f64 {
    0.5
}

/// Why experts cannot be mixed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum MixtureError {
    #[error("the expert of stage `{stage}` has no adapter")]
    NoAdapter { stage: String },
    #[error("there is no rationale to measure a mixture on")]
    NoExamples,
    #[error("{seen} of {all} examples are questions the experts were taught, `{}` the first", first)]
    Taught { seen: usize, all: usize, first: String },
}

impl From<MixtureError> for StageError {
    fn from(error: MixtureError) -> Self {
        let help = match error {
            MixtureError::NoAdapter { .. } => "train it with `adapt: {lora: {}}`",
            MixtureError::NoExamples => "look at what the judge kept for port `examples`",
            MixtureError::Taught { .. } => {
                "`skip` of kind `dataset` draws questions that another stage with the same `seed` did not"
            }
        };
        Self::failed(error).with_help(help)
    }
}

impl Stage for Mixture {
    type Params = MixtureParams;

    const NAME: &'static str = "mixture";
    const VERSION: u32 = 3;
    const ABOUT: &'static str = "merges low-rank experts into one model";
    const SEEDED: bool = true;
    const COMPUTES: bool = true;
    const INPUTS: &'static [Port] = &[
        Port::input("model", ArtifactType::Model, PortFlow::Trains, "the model the experts were trained on"),
        Port::input("experts", ArtifactType::Model, PortFlow::Trains, "students trained with an adapter")
            .many(),
        Port::input(
            "examples",
            ArtifactType::Rationales,
            PortFlow::Trains,
            "right rationales of training questions that no expert has seen",
        ),
        Port::input(
            "taught",
            ArtifactType::Rationales,
            PortFlow::Measures,
            "what the experts were taught; only looked at, to refuse examples that are among it",
        )
        .any(),
    ];
    const OUTPUTS: &'static [Port] = &[
        Port::output("model", ArtifactType::Model, "the mixture"),
        Port::output("metrics", ArtifactType::Metrics, "the search, one line an evaluation"),
    ];

    fn check(params: &MixtureParams) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, field: &str, problem: &str| {
            if !holds {
                problems.push((field.to_owned(), problem.to_owned()));
            }
        };
        require(params.evaluations > 0, "/evaluations", "must be at least 1");
        require(params.examples > 0, "/examples", "must be at least 1");
        require(params.penalty >= 0.0, "/penalty", "must not be negative");
        require(params.bound > 0.0, "/bound", "must be above 0");
        require(params.step > 0.0, "/step", "must be above 0");
        problems
    }

    fn run(params: MixtureParams, context: &Context) -> Result<(), StageError> {
        let examples = context.input("examples");
        let records: Vec<QuestionRationales> = jsonl::read(&examples.file(files::RATIONALES))?;
        refuse_taught(&records, context)?;
        let device = lm::device::open(context.backend())?;
        let LanguageModel { model, config, tokenizer } =
            LanguageModel::load(&context.input("model").path, &device)?;
        let inputs = context.inputs("experts");
        let folders = inputs.iter().map(adapter).collect::<Result<Vec<PathBuf>, _>>()?;
        let experts = Experts::load(model, &folders)?;
        let names = names(inputs);

        let perspectives: Vec<String> = jsonl::read_json(&examples.file(files::PERSPECTIVES))?;
        let paths = Paths::encode(&tokenizer, perspectives, &records, config.max_position_embeddings)?;
        let all: Vec<&Sequence> =
            paths.questions.iter().filter_map(|question| question.paths.iter().flatten().next()).collect();
        if all.is_empty() {
            return Err(MixtureError::NoExamples.into());
        }
        let count = params.examples.min(all.len());
        let drawn = index::sample(&mut context.rng("mixture/examples"), all.len(), count);
        let drawn: Vec<&Sequence> = drawn.into_iter().map(|at| all[at]).collect();

        let mut metrics = Vec::new();
        let mut measure = |weights: &[f64]| -> Result<f64, StageError> {
            context.check_cancelled()?;
            context.progress(metrics.len(), params.evaluations, "evaluations");
            let loss = mean_loss(&experts.mixed(weights), &drawn)?;
            let size = weights.iter().map(|weight| weight.abs()).sum::<f64>() / weights.len() as f64;
            let objective = loss + params.penalty * size;
            let mut values = BTreeMap::from([("loss".to_owned(), loss), ("objective".to_owned(), objective)]);
            values.extend(names.iter().zip(weights).map(|(name, weight)| (format!("w/{name}"), *weight)));
            metrics.push(Metric { step: metrics.len() + 1, values });
            Ok(objective)
        };
        let best = search::search(&params, names.len(), &mut context.rng("mixture/search"), &mut measure)?;
        context.progress(params.evaluations, params.evaluations, "evaluations");
        jsonl::write(&context.output("metrics").join(files::METRICS), &metrics)?;

        let model = experts.mixed(&best);
        lora::save(&model, experts.config(), &context.output("model").join(ADAPTER))?;
        Ok(LanguageModel { model, config, tokenizer }.save(context.output("model"))?)
    }
}

/// Refuses examples that stand among what the experts were taught, where that is joined.
fn refuse_taught(examples: &[QuestionRationales], context: &Context) -> Result<(), StageError> {
    let mut taught = HashSet::new();
    for input in context.inputs("taught") {
        let records: Vec<QuestionRationales> = jsonl::read(&input.file(files::RATIONALES))?;
        taught.extend(records.into_iter().map(|record| record.question.question));
    }
    let seen: Vec<&QuestionRationales> =
        examples.iter().filter(|example| taught.contains(&example.question.question)).collect();
    match seen.first() {
        Some(first) => {
            let first = first.question.id.clone();
            Err(MixtureError::Taught { seen: seen.len(), all: examples.len(), first }.into())
        }
        None => Ok(()),
    }
}

fn adapter(input: &Input) -> Result<PathBuf, MixtureError> {
    let folder = input.path.join(ADAPTER);
    if folder.is_dir() { Ok(folder) } else { Err(MixtureError::NoAdapter { stage: input.stage.clone() }) }
}

/// What tells the experts apart: the labels in which they differ, else their stages.
fn names(inputs: &[Input]) -> Vec<String> {
    let differs =
        |axis: &String| inputs.iter().any(|input| input.labels.get(axis) != inputs[0].labels.get(axis));
    let name = |input: &Input| {
        let labels: Vec<&str> =
            input.labels.iter().filter(|(axis, _)| differs(axis)).map(|(_, label)| label.as_str()).collect();
        if labels.is_empty() { input.stage.clone() } else { labels.join(",") }
    };
    inputs.iter().map(name).collect()
}

/// The mean over sequences of the mean cross-entropy of their targets, in nats.
fn mean_loss(model: &Llama, sequences: &[&Sequence]) -> Result<f64, StageError> {
    let count = sequences.len();
    let mut sum = 0.0;
    for group in flat_groups(sequences, TOKENS_AT_ONCE, |sequence| sequence.tokens.len()) {
        let batch = collate(group, &model.device());
        let losses: Vec<f32> =
            batch.token_losses(model, batch.hidden(model)).try_into_vec_as().map_err(StageError::failed)?;
        sum += losses.into_iter().map(f64::from).sum::<f64>();
    }
    Ok(sum / count as f64)
}
