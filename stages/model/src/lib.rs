//! Kind `model`: a base student, loaded from a checkpoint on disk or on the Hugging Face hub, or made from scratch.
//!
//! A model made from scratch gets a vocabulary learnt from the texts it is given and, where `pretrain` says so, learns to
//! answer the corpus questions directly, without reasoning, and lines of elementary facts. Rationales enter its weights only on
//! request: what a base student already knows about reasoning is the baseline of everything after it.
//!
//! It also takes one model out of a student's snapshots, so that whatever takes a model takes a student in training.

mod hub;
mod pretrain;

use std::{collections::BTreeMap, fs};

use contract::{
    ArtifactType, Context, FilePath, Input, Port, PortFlow, Stage, StageError, jsonl,
    records::{Metric, Question, QuestionRationales, files},
};
use lm::{
    LanguageModel, device,
    llama::{Llama, LlamaConfig, LlamaSize},
    tokenizer::Tokenizer,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasks::Task;

use hub::Hub;
pub use hub::HubModel;

/// The kind `model`.
pub struct Model;

/// The environment variable that opens repositories which are not public.
const TOKEN: &str = "HF_TOKEN";

/// The input port with a student's snapshots.
const SNAPSHOTS: &str = "snapshots";

/// Largest width and vocabulary of a fresh model.
const LARGEST_SIZE: usize = 1 << 20;

/// Most blocks of a fresh model.
const MOST_LAYERS: usize = 1024;

/// What a model stage is told.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ModelParams {
    /// Where the model comes from.
    pub source: Source,
}

/// Where a model comes from.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// A checkpoint on disk; no input port is read.
    Folder(Folder),
    /// A checkpoint on the Hugging Face hub, `owner/name@revision`; no input port is read. It is downloaded when the
    /// cell runs, unless the hub's cache has it; the environment variable HF_TOKEN opens what is not public. A commit
    /// always means the same model; a branch such as `main` (the default) can move, and a result made from it stays.
    Hf(HubModel),
    /// A fresh model; needs `corpus`.
    Scratch(Scratch),
    /// A student as it was after a step of its training; needs `snapshots`.
    Snapshot(Snapshot),
}

/// A student as it was after a step.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Snapshot {
    /// The step: one that the student's `snapshots` names.
    pub step: usize,
}

/// A checkpoint on disk: Llama or Qwen2.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Folder {
    /// A folder with `config.json`, `tokenizer.json` and safetensors (one file, or several with an index); or a `.gguf`
    /// file; or a folder with one `.gguf` file and no `config.json`.
    pub path: FilePath,
}

/// A fresh Llama; sizes are named as in its `config.json`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scratch {
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward blocks. Default: 8/3 of `hidden_size`, up to a multiple of 32.
    #[serde(default)]
    pub intermediate_size: Option<usize>,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Query heads; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// Key and value heads; divides `num_attention_heads`. Default: as many as query heads.
    #[serde(default)]
    pub num_key_value_heads: Option<usize>,
    /// Tokens of the vocabulary, at most; at least 258, the bytes and two special tokens.
    pub vocab_size: usize,
    /// Standard deviation of the first weights. Default: 0.02, as in Llama's `config.json`, which suits widths near
    /// 1000; narrow models may want more, about 1 / sqrt(`hidden_size`).
    #[serde(default = "initializer_range")]
    pub initializer_range: f64,
    /// Base of the rotary frequencies. Default: 10000, as in Llama's `config.json`; texts of a hundred tokens and narrow heads
    /// are better told apart by a smaller one, such as 100.
    #[serde(default = "rope_theta")]
    pub rope_theta: f64,
    /// Default: none, the weights stay random.
    #[serde(default)]
    pub pretrain: Option<Pretrain>,
}

/// What a fresh model learns before any distillation.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Pretrain {
    /// Optimizer steps.
    pub steps: usize,
    /// Sequences a step. Default: 32.
    #[serde(default = "batch_size")]
    pub batch_size: usize,
    /// Peak learning rate of AdamW; cosine, 3 % warm-up. Default: 0.001.
    #[serde(default = "learning_rate")]
    pub learning_rate: f64,
    /// Lines of elementary facts to learn beside the questions. Default: 0.
    #[serde(default)]
    pub primer: usize,
    /// By built-in task, the share of its questions answered with the bare steps of their solution first, 0 to 1; all
    /// others are answered with the answer alone. Default: none.
    #[serde(default)]
    pub worked: BTreeMap<Task, f64>,
    /// Whether to learn the rationales on `text` too, as plain text. Default: false, they only shape the vocabulary.
    #[serde(default)]
    pub rationales: bool,
}

fn initializer_range() -> f64 {
    0.02
}

fn rope_theta() -> f64 {
    10_000.0
}

fn batch_size() -> usize {
    32
}

fn learning_rate() -> f64 {
    1e-3
}

impl Scratch {
    /// Sizes beyond what any machine could hold, as (JSON pointer, problem) pairs.
    fn oversized(&self) -> Vec<(String, String)> {
        let sizes = [
            ("hidden_size", Some(self.hidden_size), LARGEST_SIZE),
            ("intermediate_size", self.intermediate_size, LARGEST_SIZE),
            ("num_hidden_layers", Some(self.num_hidden_layers), MOST_LAYERS),
            ("num_attention_heads", Some(self.num_attention_heads), LARGEST_SIZE),
            ("num_key_value_heads", self.num_key_value_heads, LARGEST_SIZE),
            ("vocab_size", Some(self.vocab_size), LARGEST_SIZE),
        ];
        let over = sizes.into_iter().filter(|(_, size, most)| size.is_some_and(|size| size > *most));
        over.map(|(field, _, most)| (format!("/source/scratch/{field}"), format!("must be at most {most}")))
            .collect()
    }

    fn size(&self) -> LlamaSize {
        LlamaSize {
            hidden_size: self.hidden_size,
            intermediate_size: self
                .intermediate_size
                .unwrap_or_else(|| self.hidden_size.saturating_mul(8).div_ceil(3).next_multiple_of(32)),
            num_hidden_layers: self.num_hidden_layers,
            num_attention_heads: self.num_attention_heads,
            num_key_value_heads: self.num_key_value_heads.unwrap_or(self.num_attention_heads),
            vocab_size: self.vocab_size,
        }
    }
}

/// Why a fresh model cannot be made.
#[derive(Debug, thiserror::Error)]
enum ModelError {
    #[error("there is nothing to learn from: no question on port `corpus`")]
    NoCorpus,
    #[error("there is no snapshot of step {step}; there are those of {known}")]
    NoSnapshot { step: usize, known: String },
}

impl Stage for Model {
    type Params = ModelParams;

    const NAME: &'static str = "model";
    const VERSION: u32 = 5;
    const ABOUT: &'static str =
        "a base student, loaded from disk or the Hugging Face hub, or made from scratch";
    const SEEDED: bool = true;
    const COMPUTES: bool = true;
    const INPUTS: &'static [Port] = &[
        Port::input(
            "corpus",
            ArtifactType::Questions,
            PortFlow::Trains,
            "questions a fresh model learns from",
        )
        .many(),
        Port::input("text", ArtifactType::Rationales, PortFlow::Trains, "rationales its vocabulary fits")
            .optional(),
        Port::input(SNAPSHOTS, ArtifactType::Snapshots, PortFlow::Trains, "a student while it was trained"),
    ];
    const OUTPUTS: &'static [Port] = &[
        Port::output("model", ArtifactType::Model, "the model with its tokenizer, a Hugging Face folder"),
        Port::output("metrics", ArtifactType::Metrics, "loss, learning rate and gradient norm by step"),
    ];

    fn check(params: &ModelParams) -> Vec<(String, String)> {
        let Source::Scratch(scratch) = &params.source else { return Vec::new() };
        // Before anything is multiplied.
        let oversized = scratch.oversized();
        if !oversized.is_empty() {
            return oversized;
        }
        let mut problems: Vec<(String, String)> = LlamaConfig::new(scratch.size(), 1, 0)
            .problems()
            .into_iter()
            .map(|(field, problem)| (format!("/source/scratch/{field}"), problem))
            .collect();
        let mut require = |holds: bool, field: &str, problem: &str| {
            if !holds {
                problems.push((format!("/source/scratch/{field}"), problem.to_owned()));
            }
        };
        require(scratch.vocab_size >= 258, "vocab_size", "must be at least 258");
        require(scratch.initializer_range > 0.0, "initializer_range", "must be above 0");
        require(scratch.rope_theta > 1.0, "rope_theta", "must be above 1");
        if let Some(pretrain) = &scratch.pretrain {
            require(pretrain.steps > 0, "pretrain/steps", "must be at least 1");
            require(pretrain.batch_size > 0, "pretrain/batch_size", "must be at least 1");
            require(pretrain.learning_rate > 0.0, "pretrain/learning_rate", "must be above 0");
            for (task, share) in &pretrain.worked {
                let field = format!("pretrain/worked/{task}");
                require((0.0..=1.0).contains(share), &field, "must be between 0 and 1");
                require(
                    task.is_builtin(),
                    &field,
                    "is no built-in task: nobody knows the steps of its answers",
                );
            }
        }
        problems
    }

    fn computes(params: &ModelParams) -> bool {
        !matches!(params.source, Source::Snapshot(_))
    }

    fn reads(params: &ModelParams, port: &str) -> bool {
        match params.source {
            Source::Folder(_) | Source::Hf(_) => false,
            Source::Scratch(_) => port != SNAPSHOTS,
            Source::Snapshot(_) => port == SNAPSHOTS,
        }
    }

    fn optional_secrets(params: &ModelParams) -> Vec<String> {
        match params.source {
            Source::Hf(_) => vec![TOKEN.to_owned()],
            Source::Folder(_) | Source::Scratch(_) | Source::Snapshot(_) => Vec::new(),
        }
    }

    fn run(params: ModelParams, context: &Context) -> Result<(), StageError> {
        let device = || device::open(context.backend());
        let (model, metrics) = match params.source {
            Source::Snapshot(Snapshot { step }) => {
                take_out(step, context)?;
                return write_metrics(context, &[]);
            }
            Source::Folder(folder) => (LanguageModel::load(folder.path.as_ref(), &device()?)?, Vec::new()),
            Source::Hf(model) => {
                let token = context.optional_secret(TOKEN).map(|token| token.expose().to_owned());
                let folder = Hub::new(token).folder(&model, context)?;
                (LanguageModel::load(&folder, &device()?)?, Vec::new())
            }
            Source::Scratch(scratch) => fresh(&scratch, &device()?, context)?,
        };
        model.save(context.output("model"))?;
        write_metrics(context, &metrics)
    }
}

fn write_metrics(context: &Context, metrics: &[Metric]) -> Result<(), StageError> {
    jsonl::write(&context.output("metrics").join(files::METRICS), metrics)
}

/// Passes on a student as it was after a step.
fn take_out(step: usize, context: &Context) -> Result<(), StageError> {
    let snapshots = context.input(SNAPSHOTS);
    let snapshot = Input { path: snapshots.file(&step.to_string()), ..snapshots.clone() };
    if snapshot.path.is_dir() {
        return context.pass_through(&snapshot, "model");
    }
    let entries = fs::read_dir(&snapshots.path).map_err(StageError::io(&snapshots.path))?.flatten();
    let mut known: Vec<usize> =
        entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    known.sort_unstable();
    let known = known.iter().map(usize::to_string).collect::<Vec<_>>().join(", ");
    Err(StageError::failed(ModelError::NoSnapshot { step, known })
        .with_help("name it in `snapshots` of the stage that trains the student"))
}

fn fresh(
    scratch: &Scratch,
    device: &device::Device,
    context: &Context,
) -> Result<(LanguageModel, Vec<Metric>), StageError> {
    let mut corpus: Vec<Question> = Vec::new();
    for input in context.inputs("corpus") {
        corpus.extend(jsonl::read::<Question>(&input.file(files::QUESTIONS))?);
    }
    if corpus.is_empty() {
        return Err(StageError::failed(ModelError::NoCorpus));
    }
    let rationales: Vec<QuestionRationales> = match context.optional("text") {
        Some(text) => jsonl::read(&text.file(files::RATIONALES))?,
        None => Vec::new(),
    };
    let primer = scratch.pretrain.as_ref().map_or(0, |pretrain| pretrain.primer);
    let primer = tasks::builtin::primer(context.seed(), primer);

    let asked = corpus.iter().map(|question| tasks::prompt(question) + &tasks::answer_suffix(question));
    let told =
        rationales.iter().flat_map(|question| question.rationales.iter().map(|told| told.text.clone()));
    let texts = asked.chain(told).chain(primer.iter().cloned());
    let tokenizer = Tokenizer::train(texts, scratch.vocab_size)?;
    let size = LlamaSize { vocab_size: tokenizer.vocab_size(), ..scratch.size() };
    let mut config = LlamaConfig::new(size, tokenizer.eos(), tokenizer.pad());
    config.initializer_range = scratch.initializer_range;
    config.rope_theta = scratch.rope_theta;
    let model = Llama::init(&config, context.seed(), device);
    let mut model = LanguageModel { model, config, tokenizer };
    let mut metrics = Vec::new();
    if let Some(pretrain) = &scratch.pretrain {
        let rationales = if pretrain.rationales { rationales } else { Vec::new() };
        let sequences =
            pretrain::sequences(&model.tokenizer, &corpus, &pretrain.worked, &primer, &rationales)?;
        (model.model, metrics) = pretrain::train(model.model, &sequences, pretrain, context)?;
    }
    Ok((model, metrics))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
