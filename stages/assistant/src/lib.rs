//! Kind `assistant`: trains the teaching assistant of MIND, which scores the perspectives of each question.
//!
//! First the frozen encoder reads every rationale once and the base student's loss on it is measured. Then the assistant
//! warms up alone against those losses (arXiv 2601.03717, the first part of its optimisation inertia). The `student` kind trains
//! it further, beside the student; what this kind leaves is where that starts.

mod features;
mod warm_up;

#[cfg(test)]
mod tests;

use contract::{
    ArtifactType, Context, FilePath, Port, PortFlow, Stage, StageError, jsonl,
    records::{QuestionRationales, files},
};
use lm::{LanguageModel, assistant::MetaKl, encoder::SentenceEncoder, paths::Paths};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::features::Reader;

/// The kind `assistant`.
pub struct Assistant;

/// What an assistant stage is told. Defaults without a source are ours.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AssistantParams {
    /// What turns a question with a rationale into a feature vector. Default: `student`.
    #[serde(default)]
    pub encoder: Encoder,
    /// Width d to which features are aligned. Default: 128.
    #[serde(default = "default_hidden_size")]
    pub hidden_size: usize,
    /// Attention heads over the perspectives; divides `hidden_size`. Default: 4.
    #[serde(default = "default_heads")]
    pub heads: usize,
    /// Hidden width of each perspective's scoring head. Default: 64.
    #[serde(default = "default_head_hidden_size")]
    pub head_hidden_size: usize,
    /// Whether the perspectives of a question see one another; false is the ablation `no-attention`, with the
    /// same parameters. Default: true.
    #[serde(default = "default_attention")]
    pub attention: bool,
    /// Temperature of both distributions in the meta loss. Default: 1.
    #[serde(default = "default_tau")]
    pub tau: f64,
    /// Direction of the divergence in the meta loss. Default: `predicted_target`.
    #[serde(default)]
    pub meta_kl: MetaKl,
    /// Passes over the questions; 0 leaves the assistant as it was drawn. Default: 2.
    #[serde(default = "default_warmup_epochs")]
    pub warmup_epochs: usize,
    /// Learning rate of AdamW, constant. Default: 1e-4.
    #[serde(default = "default_learning_rate")]
    pub learning_rate: f64,
    /// Questions an optimizer step. Default: 8.
    #[serde(default = "default_batch_size")]
    pub batch_size: usize,
    /// Tokens encoded side by side, padding included. Default: 1024.
    #[serde(default = "default_tokens_at_once")]
    pub tokens_at_once: usize,
    /// Optimizer steps from one checkpoint to the next; a killed warm-up goes on from the last. Default: 100.
    #[serde(default = "default_checkpoint_every")]
    pub checkpoint_every: usize,
    /// Longest prompt with rationale, in tokens; longer ones count as missing. Default: the student's own limit.
    #[serde(default)]
    pub max_tokens: Option<usize>,
}

/// What turns a question with a rationale into a feature vector.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Encoder {
    /// The base student's last hidden states, averaged over the tokens of question and rationale.
    #[default]
    Student,
    /// A frozen BERT that reads question and rationale as a pair (arXiv 2601.03717).
    Bert(BertFolder),
}

/// A BERT or Sentence-BERT checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BertFolder {
    /// A Hugging Face folder with `config.json`, `tokenizer.json` and `model.safetensors`. Vectors are pooled as its
    /// `modules.json` says, or, without one, by the mean over tokens.
    pub path: FilePath,
}

/// There is nothing the assistant could be trained on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no rationale to learn from")]
pub struct NoRationale;

fn default_hidden_size() -> usize {
    128
}

fn default_heads() -> usize {
    4
}

fn default_head_hidden_size() -> usize {
    64
}

fn default_attention() -> bool {
    true
}

fn default_tau() -> f64 {
    1.0
}

fn default_warmup_epochs() -> usize {
    2
}

fn default_learning_rate() -> f64 {
    1e-4
}

fn default_batch_size() -> usize {
    8
}

fn default_tokens_at_once() -> usize {
    1024
}

fn default_checkpoint_every() -> usize {
    100
}

impl Stage for Assistant {
    type Params = AssistantParams;

    const NAME: &'static str = "assistant";
    const VERSION: u32 = 5;
    const ABOUT: &'static str = "trains the teaching assistant that scores the perspectives of each question";
    const SEEDED: bool = true;
    const COMPUTES: bool = true;
    const INPUTS: &'static [Port] = &[
        Port::input(
            "rationales",
            ArtifactType::Rationales,
            PortFlow::Trains,
            "what it learns to choose from",
        ),
        Port::input(
            "student",
            ArtifactType::Model,
            PortFlow::Trains,
            "the base student, whose losses it learns to predict",
        ),
    ];
    const OUTPUTS: &'static [Port] = &[
        Port::output(
            "assistant",
            ArtifactType::Assistant,
            "the network, the features it reads, the base losses",
        ),
        Port::output("metrics", ArtifactType::Metrics, "the warm-up, one line an optimizer step"),
    ];

    fn check(params: &AssistantParams) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, field: &str, problem: &str| {
            if !holds {
                problems.push((field.to_owned(), problem.to_owned()));
            }
        };
        require(params.hidden_size > 0, "/hidden_size", "must be at least 1");
        require(
            params.heads > 0 && params.hidden_size.is_multiple_of(params.heads),
            "/heads",
            "must divide `hidden_size`",
        );
        require(params.head_hidden_size > 0, "/head_hidden_size", "must be at least 1");
        require(params.tau > 0.0, "/tau", "must be above 0");
        require(params.learning_rate > 0.0, "/learning_rate", "must be above 0");
        require(params.batch_size > 0, "/batch_size", "must be at least 1");
        require(params.tokens_at_once > 0, "/tokens_at_once", "must be at least 1");
        require(params.checkpoint_every > 0, "/checkpoint_every", "must be at least 1");
        require(params.max_tokens != Some(0), "/max_tokens", "must be at least 1");
        problems
    }

    fn run(params: AssistantParams, context: &Context) -> Result<(), StageError> {
        let device = lm::device::open(context.backend())?;
        let student = LanguageModel::load(&context.input("student").path, &device)?;
        let rationales = context.input("rationales");
        let perspectives: Vec<String> = jsonl::read_json(&rationales.file(files::PERSPECTIVES))?;
        let records: Vec<QuestionRationales> = jsonl::read(&rationales.file(files::RATIONALES))?;
        let max_tokens = params.max_tokens.unwrap_or(student.config.max_position_embeddings);
        let paths = Paths::encode(&student.tokenizer, perspectives, &records, max_tokens)?;
        if paths.questions.is_empty() {
            return Err(
                StageError::failed(NoRationale).with_help("look at what the judge kept, and at `max_tokens`")
            );
        }
        if paths.too_long > 0 {
            context.note(format!("{} rationales are longer than {max_tokens} tokens", paths.too_long));
        }

        let reader = match &params.encoder {
            Encoder::Student => Reader::Student,
            Encoder::Bert(folder) => {
                Reader::Encoder(Box::new(SentenceEncoder::load(folder.path.as_ref(), &device)?))
            }
        };
        let features = features::read(&reader, &student, &paths, &records, params.tokens_at_once, context)?;
        let (assistant, metrics) = warm_up::warm_up(&params, paths.perspectives, features, &device, context)?;
        assistant.save(context.output("assistant"))?;
        jsonl::write(&context.output("metrics").join(files::METRICS), &metrics)
    }
}
