//! Kind `student`: distils rationales into a model under an objective.
//!
//! There is one training loop ([`mod@train`]) and one way to batch, schedule, log and resume; the objectives
//! ([`objectives`]) differ only in which rationales of a question they learn from, with which weights. So two rows of a
//! table differ in the method and in nothing else.

mod objectives;

mod setting;

mod train;

mod forward;

mod divergence;

mod inertia;

mod similarity;

mod log;

mod snapshots;

mod error;
pub use error::StudentError;

#[cfg(test)]
mod tests;

use std::{fs, io::Write};

use contract::{
    ArtifactType, Context, Port, PortFlow, Setting, Stage, StageError, jsonl,
    records::{QuestionRationales, files},
};
use lm::{
    LanguageModel,
    lora::{self, LoraConfig},
    paths::Paths,
    precision::Precision,
};
use objectives::Rationales;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use snapshots::SNAPSHOTS;

pub use objectives::{
    EditParams, LossOnlyParams, MccKdParams, MindParams, ObjectiveParams, SbsMultitaskParams, StdCotParams,
    UniformParams,
};

/// Where a model artifact holds the adapter that is merged into it.
const ADAPTER: &str = "adapter";

/// The kind `student`.
pub struct Student;

/// What a student stage is told. Defaults without a source are ours.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StudentParams {
    /// What is trained: `undistilled`, `std-cot`, `uniform`, `sbs-multitask`, `mcc-kd`, `edit`, `loss-only` or `mind`, each
    /// with its own fields.
    pub objective: ObjectiveParams,
    /// Which weights are trained: `full`, all of them, or `lora`, a low-rank adapter with fields of its own. Default: `full`.
    #[serde(default)]
    pub adapt: Adapt,
    /// Passes over the questions. Default: 3.
    #[serde(default = "default_epochs")]
    pub epochs: usize,
    /// Optimizer steps, instead of `epochs`: equal steps make objectives comparable. Default: as `epochs` says.
    #[serde(default)]
    pub steps: Option<usize>,
    /// Questions of one backward pass, with all their rationales. Default: 4.
    #[serde(default = "default_batch_size")]
    pub batch_size: usize,
    /// Backward passes to an optimizer step; 8 questions x 1 is the same step as 1 x 8, which needs less memory.
    /// Default: 1.
    #[serde(default = "default_accumulate")]
    pub accumulate: usize,
    /// Tokens computed side by side; more fill a GPU, fewer need less memory, and the rationales of a
    /// question share its prompt where they fit in. Default: 2048.
    #[serde(default = "default_tokens_at_once")]
    pub tokens_at_once: usize,
    /// Computes the forward pass twice, and the second time with the backward pass of `tokens_at_once` tokens after the
    /// other: the activations of a whole batch never exist together. Slower by about a third. Default: false.
    #[serde(default)]
    pub gradient_checkpointing: bool,
    /// Number format of forward and backward passes: `f32`, or `bf16` on a backend that computes in it. Weights, their
    /// gradients and the optimizer's state are 32-bit floats either way. Default: `f32`.
    #[serde(default, skip_serializing_if = "Precision::is_default")]
    pub dtype: Precision,
    /// Peak learning rate of AdamW, on a cosine to 0. Default: 2e-5.
    #[serde(default = "default_learning_rate")]
    pub learning_rate: f64,
    /// Decoupled weight decay of matrices. Default: 0.01.
    #[serde(default = "default_weight_decay")]
    pub weight_decay: f64,
    /// The fraction of all steps in which the learning rate rises from 0. Default: 0.03.
    #[serde(default = "default_warmup")]
    pub warmup: f64,
    /// Gradients longer than this are shortened to it. Default: 1.
    #[serde(default = "default_clip")]
    pub clip: f64,
    /// Longest prompt with rationale, in tokens; longer ones count as missing. Default: the model's own limit.
    #[serde(default)]
    pub max_tokens: Option<usize>,
    /// Optimizer steps from one checkpoint to the next; a killed training goes on from the last. Default: 100.
    #[serde(default = "default_checkpoint_every")]
    pub checkpoint_every: usize,
    /// Optimizer steps after which the student is kept as it then is, ascending, 0 for the student before: the output port
    /// `snapshots`, from which kind `model` takes one. Each takes as much disk as the model. Default: none, and no such port.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub snapshots: Vec<usize>,
}

/// Which weights are trained.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Adapt {
    /// All of them.
    #[default]
    Full,
    /// A low-rank adapter (LoRA, arXiv 2106.09685); the rest is frozen. The model that comes out has it merged, and holds it
    /// alone in its subfolder `adapter`, as PEFT writes it. It wants a higher learning rate than `full`, about 2e-4.
    Lora(LoraConfig),
}

fn default_epochs() -> usize {
    3
}

fn default_batch_size() -> usize {
    4
}

fn default_accumulate() -> usize {
    1
}

fn default_tokens_at_once() -> usize {
    2048
}

fn default_learning_rate() -> f64 {
    2e-5
}

fn default_weight_decay() -> f64 {
    0.01
}

fn default_warmup() -> f64 {
    0.03
}

fn default_clip() -> f64 {
    1.0
}

fn default_checkpoint_every() -> usize {
    100
}

impl Stage for Student {
    type Params = StudentParams;

    const NAME: &'static str = "student";
    const VERSION: u32 = 7;
    const ABOUT: &'static str = "distils rationales into a model under an objective";
    const SEEDED: bool = true;
    const COMPUTES: bool = true;
    const INPUTS: &'static [Port] = &[
        Port::input("model", ArtifactType::Model, PortFlow::Trains, "the student before"),
        Port::input("rationales", ArtifactType::Rationales, PortFlow::Trains, "what it learns from"),
        Port::input(
            "assistant",
            ArtifactType::Assistant,
            PortFlow::Trains,
            "the warmed-up teaching assistant; only for objective `mind`",
        )
        .optional(),
        Port::input(
            "mistakes",
            ArtifactType::Mistakes,
            PortFlow::Trains,
            "wrong rationales; only for objective `edit`",
        )
        .optional(),
    ];
    const OUTPUTS: &'static [Port] = &[
        Port::output("model", ArtifactType::Model, "the student after"),
        Port::output("metrics", ArtifactType::Metrics, "the training log, one line an optimizer step"),
        Port::output(
            SNAPSHOTS,
            ArtifactType::Snapshots,
            "the student after the steps that `snapshots` names; only where it names some",
        ),
    ];

    fn check(params: &StudentParams) -> Vec<(String, String)> {
        let mut problems = params.objective.problems();
        if let Adapt::Lora(config) = &params.adapt {
            let at = |(field, problem)| (format!("/adapt/lora/{field}"), problem);
            problems.extend(config.problems().into_iter().map(at));
        }
        let mut require = |holds: bool, field: &str, problem: &str| {
            if !holds {
                problems.push((field.to_owned(), problem.to_owned()));
            }
        };
        let counts = [
            (params.epochs, "/epochs"),
            (params.steps.unwrap_or(1), "/steps"),
            (params.batch_size, "/batch_size"),
            (params.accumulate, "/accumulate"),
            (params.tokens_at_once, "/tokens_at_once"),
            (params.max_tokens.unwrap_or(1), "/max_tokens"),
            (params.checkpoint_every, "/checkpoint_every"),
        ];
        for (count, field) in counts {
            require(count > 0, field, "must be at least 1");
        }
        require(params.learning_rate > 0.0, "/learning_rate", "must be above 0");
        require(params.weight_decay >= 0.0, "/weight_decay", "must not be negative");
        require((0.0..=1.0).contains(&params.warmup), "/warmup", "is a fraction, from 0 to 1");
        require(params.clip > 0.0, "/clip", "must be above 0");
        let ascending = params.snapshots.is_sorted_by(|a, b| a < b);
        require(ascending, "/snapshots", "must be steps in ascending order, each once");
        let last = params.snapshots.last();
        let reached = params.steps.is_none_or(|steps| last.is_none_or(|last| *last <= steps));
        require(reached, "/snapshots", "must not be beyond the last of `steps`");
        problems
    }

    fn check_setting(params: &StudentParams, setting: &Setting<'_>) -> Vec<(String, String)> {
        setting::problems(params, setting)
    }

    fn reads(params: &StudentParams, port: &str) -> bool {
        match (port, &params.objective) {
            ("rationales", objective) => !matches!(objective, ObjectiveParams::Undistilled),
            ("assistant", objective) => matches!(objective, ObjectiveParams::Mind(_)),
            ("mistakes", objective) => matches!(objective, ObjectiveParams::Edit(_)),
            (_, _) => true,
        }
    }

    fn makes(params: &StudentParams, port: &str) -> bool {
        port != SNAPSHOTS || !params.snapshots.is_empty()
    }

    fn run(params: StudentParams, context: &Context) -> Result<(), StageError> {
        let metrics = context.output("metrics").join(files::METRICS);
        let base = context.input("model");
        if matches!(params.objective, ObjectiveParams::Undistilled) {
            context.pass_through(base, "model")?;
            for step in &params.snapshots {
                context.take_over(&base.path, SNAPSHOTS, &step.to_string())?;
            }
            return fs::write(&metrics, "").map_err(StageError::io(&metrics));
        }
        let device = lm::device::open(context.backend())?;
        params.dtype.check(context.backend(), &device)?;
        let base = LanguageModel::load(&base.path, &device)?;
        let paths = read_paths(&params, &base, context)?;
        let objective = objectives::open(&params.objective, &paths, &device, context)?;
        let (student, lines) = train::train(&params, base, &paths, objective, context)?;
        student.save(context.output("model"))?;
        snapshots::hand_over(&params.snapshots, context)?;
        if let Adapt::Lora(config) = &params.adapt {
            lora::save(&student.model, config, &context.output("model").join(ADAPTER))?;
        }
        let mut file = fs::File::create(&metrics).map_err(StageError::io(&metrics))?;
        file.write_all(lines.as_bytes()).map_err(StageError::io(&metrics))
    }
}

fn read_paths(params: &StudentParams, base: &LanguageModel, context: &Context) -> Result<Paths, StageError> {
    let rationales = context.input("rationales");
    let perspectives: Vec<String> = jsonl::read_json(&rationales.file(files::PERSPECTIVES))?;
    let records: Vec<QuestionRationales> = jsonl::read(&rationales.file(files::RATIONALES))?;
    let wrong = match context.optional("mistakes") {
        Some(mistakes) => jsonl::read(&mistakes.file(files::RATIONALES))?,
        None => Vec::new(),
    };
    let max_tokens = params.max_tokens.unwrap_or(base.config.max_position_embeddings);
    let rationales = Rationales { perspectives, right: records, wrong };
    let paths = objectives::paths(&params.objective, &base.tokenizer, rationales, max_tokens)?;
    if paths.too_long > 0 {
        context.note(format!("{} rationales are longer than {max_tokens} tokens", paths.too_long));
    }
    Ok(paths)
}
