//! The trait a kind implements and what it declares about itself.

use std::path::{Path, PathBuf};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Context, Digest, Estimate, Outlook, Setting, StageError};

/// What an artifact holds; an output joins an input of the same type.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArtifactType {
    /// `questions.jsonl` of [`crate::records::Question`].
    Questions,
    /// `completions.jsonl` of [`crate::records::QuestionRationales`], as the teacher wrote them.
    Completions,
    /// `rationales.jsonl` of [`crate::records::QuestionRationales`], judged and kept.
    Rationales,
    /// `rationales.jsonl` of [`crate::records::QuestionRationales`], judged and found wrong.
    Mistakes,
    /// A Hugging Face folder: `config.json`, `tokenizer.json`, `model.safetensors`.
    Model,
    /// A student while it was trained: a [`ArtifactType::Model`] folder a step, named by the step.
    Snapshots,
    /// A trained teaching assistant with the features it reads.
    Assistant,
    /// `scores.json` of [`crate::records::Scores`] and `predictions.jsonl` of [`crate::records::Prediction`].
    Scores,
    /// Metrics over training steps: `metrics.jsonl` of [`crate::records::Metric`].
    Metrics,
    /// Figures as SVG, each with its numbers beside it as JSON.
    Figures,
    /// A results table: `table.json`, `table.md`, `table.csv`, `table.tex`.
    Table,
    /// Anything else, for kinds outside this repository; joined by this name.
    Other(&'static str),
}

impl Arity {
    /// Whether a port takes more than one artifact, each with its axis labels.
    pub fn takes_many(self) -> bool {
        match self {
            Self::Many | Self::Any => true,
            Self::One | Self::Optional => false,
        }
    }

    /// Whether a port may stay empty.
    pub fn may_be_empty(self) -> bool {
        match self {
            Self::Optional | Self::Any => true,
            Self::One | Self::Many => false,
        }
    }
}

impl ArtifactType {
    /// The name shown to people, in kebab-case.
    pub fn name(self) -> &'static str {
        match self {
            Self::Questions => "questions",
            Self::Completions => "completions",
            Self::Rationales => "rationales",
            Self::Mistakes => "mistakes",
            Self::Model => "model",
            Self::Snapshots => "snapshots",
            Self::Assistant => "assistant",
            Self::Scores => "scores",
            Self::Metrics => "metrics",
            Self::Figures => "figures",
            Self::Table => "table",
            Self::Other(name) => name,
        }
    }
}

/// How many artifacts an input port takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Arity {
    /// Exactly one.
    One,
    /// None or one.
    Optional,
    /// One or more: every cell of the stages named in `needs`, each with its axis labels.
    Many,
    /// As [`Arity::Many`], or none.
    Any,
}

/// What an input port does with held-out questions (a test split).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PortFlow {
    /// What enters here can shape a model: the plan refuses held-out questions.
    Trains,
    /// What enters here is only looked at, and held-out questions stay held out in the outputs.
    Carries,
    /// What enters here is only measured; the outputs hold no questions.
    Measures,
    /// What enters here is left out: no output holds any of its questions.
    Excludes,
}

/// A named, typed input or output of a kind.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Port {
    /// The name used in `needs` and in `stage.port`.
    pub name: &'static str,
    /// What the artifact holds.
    #[serde(rename = "type")]
    pub artifact: ArtifactType,
    /// How many artifacts an input takes; outputs are always [`Arity::One`].
    pub arity: Arity,
    /// What an input does with held-out questions; unused for outputs.
    pub flow: PortFlow,
    /// One line for `retort kinds`.
    pub about: &'static str,
}

impl Port {
    /// An output port.
    pub const fn output(name: &'static str, artifact: ArtifactType, about: &'static str) -> Self {
        Self { name, artifact, arity: Arity::One, flow: PortFlow::Carries, about }
    }

    /// An input port that takes exactly one artifact.
    pub const fn input(
        name: &'static str,
        artifact: ArtifactType,
        flow: PortFlow,
        about: &'static str,
    ) -> Self {
        Self { name, artifact, arity: Arity::One, flow, about }
    }

    /// The same port, optional.
    pub const fn optional(self) -> Self {
        Self { arity: Arity::Optional, ..self }
    }

    /// The same port, taking any number of artifacts, at least one.
    pub const fn many(self) -> Self {
        Self { arity: Arity::Many, ..self }
    }

    /// The same port, taking any number of artifacts, or none.
    pub const fn any(self) -> Self {
        Self { arity: Arity::Any, ..self }
    }
}

/// How many CPU threads a cell can use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CpuRange {
    /// It does not start with fewer.
    pub least: usize,
    /// It does not gain from more; `None` means it scales to the machine.
    pub most: Option<usize>,
}

/// What a cell occupies while it runs. The scheduler keeps the sum within the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Resources {
    /// CPU threads.
    pub cpu: CpuRange,
    /// Memory, bytes; 0 where it does not matter.
    pub memory: u64,
    /// Device slots, used only when the backend is an accelerator.
    pub devices: usize,
}

impl Resources {
    /// One thread, little memory, no device.
    pub const LIGHT: Self = Self { cpu: CpuRange { least: 1, most: Some(1) }, memory: 0, devices: 0 };
    /// As many threads as are free, one device slot: tensor work.
    pub const COMPUTE: Self = Self { cpu: CpuRange { least: 1, most: None }, memory: 0, devices: 1 };
}

/// A path in a kind's params: a file or folder outside the store.
///
/// The engine resolves it (relative to the file it is written in), replaces it by its content digest in the
/// fingerprint, and hands the kind an absolute path. Its JSON Schema carries `"format": "path"`,
/// which is how the engine finds it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FilePath(pub PathBuf);

impl AsRef<Path> for FilePath {
    fn as_ref(&self) -> &Path {
        &self.0
    }
}

impl JsonSchema for FilePath {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "FilePath".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({ "type": "string", "format": "path" })
    }
}

/// A question of an external file, as [`Stage::items`] tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Item {
    /// Its id.
    pub id: String,
    /// The line it stands in, from 1.
    pub line: usize,
    /// Equal for questions that read the same.
    pub identity: Digest,
}

/// A kind of stage. Implement this; the engine sees it through [`Kind`].
pub trait Stage: Sync + Send + 'static {
    /// The `with` block. Use `#[serde(deny_unknown_fields)]` and a doc comment per field.
    type Params: Serialize + DeserializeOwned + JsonSchema;

    /// The name after `uses`, kebab-case.
    const NAME: &'static str;
    /// Raised whenever the same inputs would give other outputs; part of every fingerprint.
    const VERSION: u32;
    /// One line for `retort kinds`.
    const ABOUT: &'static str;
    /// Whether results depend on the seed. Where false, the seed stays out of the fingerprint.
    const SEEDED: bool;
    /// Whether results depend on the backend and dtype (it computes tensors); see also [`Stage::computes`].
    const COMPUTES: bool;
    /// Input ports.
    const INPUTS: &'static [Port];
    /// Output ports.
    const OUTPUTS: &'static [Port];

    /// Whether a cell with these params computes tensors, where not every cell of the kind does.
    fn computes(_params: &Self::Params) -> bool {
        Self::COMPUTES
    }

    /// Checks what the types cannot say; returns (JSON pointer of the field, problem) pairs.
    fn check(_params: &Self::Params) -> Vec<(String, String)> {
        Vec::new()
    }

    /// Checks params against what a cell with them will compute on and read; returns pairs as [`Stage::check`] does.
    fn check_setting(_params: &Self::Params, _setting: &Setting<'_>) -> Vec<(String, String)> {
        Vec::new()
    }

    /// The perspectives of the completions or rationales that a cell will make, where they can be told before it runs.
    fn perspectives(_params: &Self::Params, _setting: &Setting<'_>) -> Option<Vec<String>> {
        None
    }

    /// Fills in defaults that depend on other params; what it returns is what the fingerprint holds and `run` gets.
    fn settle(params: Self::Params) -> Self::Params {
        params
    }

    /// Whether a cell with these params reads this input port at all. An input that is not read is left
    /// out of the cell, so that a change there does not touch it.
    fn reads(_params: &Self::Params, _port: &str) -> bool {
        true
    }

    /// Whether a cell with these params makes this output port at all. The plan refuses a recipe that needs one that is not
    /// made.
    fn makes(_params: &Self::Params, _port: &str) -> bool {
        true
    }

    /// Whether the questions these params produce are held out from training (a test split).
    fn held_out(_params: &Self::Params) -> bool {
        false
    }

    /// Every question of the external file these params name, whatever part of it they take, so that held-out ones are found
    /// again in other files. Called whenever a recipe is checked: `None` where there is no such file, or reading it takes long.
    fn items(_params: &Self::Params) -> Option<Vec<Item>> {
        None
    }

    /// What a cell occupies while it runs.
    fn resources(params: &Self::Params) -> Resources {
        if Self::computes(params) { Resources::COMPUTE } else { Resources::LIGHT }
    }

    /// JSON pointers of params that cannot change a result: how fast, how patient, at what expense. They stay out
    /// of the fingerprint.
    fn immaterial() -> &'static [&'static str] {
        &[]
    }

    /// The environment variables that hold secrets a cell with these params needs. The engine reads them, refuses
    /// to run where one is not set, and hands them over in [`Context::secret`].
    fn secrets(_params: &Self::Params) -> Vec<String> {
        Vec::new()
    }

    /// Those that a cell with these params uses where they are set: [`Context::optional_secret`].
    fn optional_secrets(_params: &Self::Params) -> Vec<String> {
        Vec::new()
    }

    /// What a cell would make and cost. Reads what the outlook offers, and nothing else.
    fn estimate(_params: &Self::Params, _outlook: &Outlook) -> Estimate {
        Estimate::default()
    }

    /// Computes the outputs. The folder of every output port that is made exists and is empty on entry.
    fn run(params: Self::Params, context: &Context) -> Result<(), StageError>;
}

/// A [`Stage`] as the engine sees it. Every [`Stage`] is one; do not implement it by hand.
pub trait Kind: Sync + Send {
    /// See [`Stage::NAME`].
    fn name(&self) -> &'static str;
    /// See [`Stage::VERSION`].
    fn version(&self) -> u32;
    /// See [`Stage::ABOUT`].
    fn about(&self) -> &'static str;
    /// See [`Stage::SEEDED`].
    fn seeded(&self) -> bool;
    /// See [`Stage::COMPUTES`].
    fn computes(&self) -> bool;
    /// See [`Stage::computes`]; `params` are resolved.
    fn computes_with(&self, params: &serde_json::Value) -> bool;
    /// See [`Stage::INPUTS`].
    fn inputs(&self) -> &'static [Port];
    /// See [`Stage::OUTPUTS`].
    fn outputs(&self) -> &'static [Port];
    /// JSON Schema of the params.
    fn schema(&self) -> serde_json::Value;
    /// Fills in defaults: params as written to params as resolved, or (JSON pointer, problem) pairs.
    fn resolve(&self, params: &serde_json::Value) -> Result<serde_json::Value, Vec<(String, String)>>;
    /// See [`Stage::check_setting`]; `params` are resolved.
    fn check_setting(&self, params: &serde_json::Value, setting: &Setting<'_>) -> Vec<(String, String)>;
    /// See [`Stage::perspectives`]; `params` are resolved.
    fn perspectives(&self, params: &serde_json::Value, setting: &Setting<'_>) -> Option<Vec<String>>;
    /// See [`Stage::reads`]; `params` are resolved.
    fn reads(&self, params: &serde_json::Value, port: &str) -> bool;
    /// See [`Stage::makes`]; `params` are resolved.
    fn makes(&self, params: &serde_json::Value, port: &str) -> bool;
    /// See [`Stage::held_out`]; `params` are resolved.
    fn held_out(&self, params: &serde_json::Value) -> bool;
    /// See [`Stage::items`]; `params` are resolved.
    fn items(&self, params: &serde_json::Value) -> Option<Vec<Item>>;
    /// See [`Stage::resources`]; `params` are resolved.
    fn resources(&self, params: &serde_json::Value) -> Resources;
    /// See [`Stage::immaterial`].
    fn immaterial(&self) -> &'static [&'static str];
    /// See [`Stage::secrets`]; `params` are resolved.
    fn secrets(&self, params: &serde_json::Value) -> Vec<String>;
    /// See [`Stage::optional_secrets`]; `params` are resolved.
    fn optional_secrets(&self, params: &serde_json::Value) -> Vec<String>;
    /// See [`Stage::estimate`]; `params` are resolved.
    fn estimate(&self, params: &serde_json::Value, outlook: &Outlook) -> Estimate;
    /// See [`Stage::run`]; `params` are resolved.
    fn run(&self, params: &serde_json::Value, context: &Context) -> Result<(), StageError>;
}

fn typed<S: Stage>(params: &serde_json::Value) -> Result<S::Params, serde_json::Error> {
    S::Params::deserialize(params)
}

fn resolved<S: Stage>(params: &serde_json::Value) -> S::Params {
    typed::<S>(params).expect("resolved params were made by serializing this very type")
}

impl<S: Stage> Kind for S {
    fn name(&self) -> &'static str {
        S::NAME
    }

    fn version(&self) -> u32 {
        S::VERSION
    }

    fn about(&self) -> &'static str {
        S::ABOUT
    }

    fn seeded(&self) -> bool {
        S::SEEDED
    }

    fn computes(&self) -> bool {
        S::COMPUTES
    }

    fn computes_with(&self, params: &serde_json::Value) -> bool {
        S::computes(&resolved::<S>(params))
    }

    fn inputs(&self) -> &'static [Port] {
        S::INPUTS
    }

    fn outputs(&self) -> &'static [Port] {
        S::OUTPUTS
    }

    fn schema(&self) -> serde_json::Value {
        SchemaGenerator::default().into_root_schema_for::<S::Params>().to_value()
    }

    fn resolve(&self, params: &serde_json::Value) -> Result<serde_json::Value, Vec<(String, String)>> {
        let params = typed::<S>(params).map_err(|error| vec![(String::new(), error.to_string())])?;
        let problems = S::check(&params);
        if !problems.is_empty() {
            return Err(problems);
        }
        Ok(serde_json::to_value(S::settle(params)).expect("params are plain data and serialize"))
    }

    fn check_setting(&self, params: &serde_json::Value, setting: &Setting<'_>) -> Vec<(String, String)> {
        S::check_setting(&resolved::<S>(params), setting)
    }

    fn perspectives(&self, params: &serde_json::Value, setting: &Setting<'_>) -> Option<Vec<String>> {
        S::perspectives(&resolved::<S>(params), setting)
    }

    fn reads(&self, params: &serde_json::Value, port: &str) -> bool {
        S::reads(&resolved::<S>(params), port)
    }

    fn makes(&self, params: &serde_json::Value, port: &str) -> bool {
        S::makes(&resolved::<S>(params), port)
    }

    fn held_out(&self, params: &serde_json::Value) -> bool {
        S::held_out(&resolved::<S>(params))
    }

    fn items(&self, params: &serde_json::Value) -> Option<Vec<Item>> {
        S::items(&resolved::<S>(params))
    }

    fn resources(&self, params: &serde_json::Value) -> Resources {
        S::resources(&resolved::<S>(params))
    }

    fn immaterial(&self) -> &'static [&'static str] {
        S::immaterial()
    }

    fn secrets(&self, params: &serde_json::Value) -> Vec<String> {
        S::secrets(&resolved::<S>(params))
    }

    fn optional_secrets(&self, params: &serde_json::Value) -> Vec<String> {
        S::optional_secrets(&resolved::<S>(params))
    }

    fn estimate(&self, params: &serde_json::Value, outlook: &Outlook) -> Estimate {
        S::estimate(&resolved::<S>(params), outlook)
    }

    fn run(&self, params: &serde_json::Value, context: &Context) -> Result<(), StageError> {
        S::run(resolved::<S>(params), context)
    }
}
