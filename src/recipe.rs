//! The recipe language: YAML files to a [`Recipe`], as written.
//!
//! This module reads a recipe with the files it includes and the `--set` arguments, checks its shape, and
//! keeps the place of every value. It does not know which kinds exist: what `uses`, ports, axes of a stage
//! and selectors mean is for the graph to say, which calls back into [`interpolate`] and [`schema`].
//!
//! | step | module | in → out |
//! |---|---|---|
//! | parse | `parse` | text → [`Node`] tree; typed scalars, bounded depth and size |
//! | assemble | `document` | `include` and `--set` → one tree |
//! | declare | `declare` | tree → [`Recipe`] |
//! | interpolate | `interpolate` | `${..}` in a tree → the tree of one cell |
//! | check | `schema` | tree and JSON Schema → params and the files they name |
//!
//! # The language
//!
//! ```yaml
//! recipe: mind-small            # the name
//! about: One line.
//! include: common.yaml          # or a list: read first, this file is merged over
//! backend: flex
//! dtype: f32
//! vars: {data: null}            # `${data}`; null means it must come from `--set vars.data=..`
//! seeds: [1, 2, 3]              # the axis `seed`
//! matrix:
//!   task: [chain, ledger]       # an axis: `${task}`
//!   method:                     # an axis whose values have fields: `${method}`, `${method.objective}`
//!     std-cot: {objective: std-cot}
//!     mind: {objective: {mind: {beta: 0.8}}}
//!   exclude: [{task: ledger, method: mind}]
//! stages:
//!   questions:
//!     uses: dataset
//!     with: {task: "${task}", path: "${data}/train.jsonl"}
//!     matrix: [task]            # or {axes: [..], include: [{..}], exclude: [{..}]}
//!   student:
//!     uses: student
//!     needs: {questions: questions, model: [base, other.model]}
//!     resources: {cpu: 2, memory: 2GiB, devices: 1, priority: 5, pools: {api: 1}}   # a pool of 1 is a mutex
//!     retries: 2
//!     executor: {slurm: {partition: gpu, gres: "gpu:1"}}   # over the recipe's, key by key; or `local`
//! tables:
//!   main: {from: scores, rows: method}
//! claims:
//!   - mind beats std-cot: {left: mind, right: std-cot, at_least: 1.0, table: main}
//! resources:
//!   pools: {api: 4}
//! executor: {slurm: {partition: cpu, time: "04:00:00"}}   # `local` by default; tables are made where `run` is
//! remote: s3://bucket/prefix    # or {url: .., access: read-write | read | write}: see `docs/remote-cache.md`
//! ```
//!
//! - `include`: mappings merge key by key, everything else is replaced; so `objective: mind` replaces an included
//!   `objective: {std-cot: ..}`, and `objective: {mind: ..}` does not. Paths start from the file they are written in.
//! - `--set a.b=VALUE`: VALUE is YAML; a number in the path is an index; the parent must exist.
//! - `${name}` alone keeps the type of what it names; inside a text it becomes text; `$${` is a plain `${`.
//! - Anchors and aliases work; merge keys, tags other than `!!str` and several documents do not.
//!
//! # Invariants
//!
//! - Every mistake that can be found is found in one go, with its place.
//! - Any input ends in a recipe or in [`Diagnostics`], quickly: file size, nesting, alias expansion, includes
//!   and interpolation are all bounded.

mod declare;
mod diagnostic;
mod document;
mod interpolate;
mod node;
mod parse;
pub mod schema;
mod source;

use std::collections::BTreeMap;
use std::path::Path;

use crate::remote::Access;
pub use declare::time_limit;
pub use diagnostic::{Diagnostic, Diagnostics, suggest};
pub use interpolate::{Scope, interpolate};
pub use node::{Node, NodeValue};
pub use source::{SourceId, SourceMap, Span, Spanned};

/// A recipe as written: its shape is right, what it names is not looked up yet.
#[derive(Clone, Debug)]
pub struct Recipe {
    /// Its name.
    pub name: String,
    /// What it is about.
    pub about: Option<String>,
    /// What to compute on.
    pub backend: Option<Spanned<String>>,
    /// The number type to compute in.
    pub dtype: Option<Spanned<String>>,
    /// Values that `${name}` stands for; null where the value must be given with `--set`.
    pub vars: BTreeMap<String, Node>,
    /// The axes in the order written; `seeds` is the last, named `seed`.
    pub axes: Vec<Axis>,
    /// Combinations that no stage has.
    pub exclude: Vec<Selector>,
    /// The stages in the order written.
    pub stages: Vec<StageDecl>,
    /// The tables in the order written.
    pub tables: Vec<TableDecl>,
    /// Shared capacities by name, such as concurrent requests to a teacher.
    pub pools: BTreeMap<String, usize>,
    /// Where results are shared with other stores; nothing of it can change a result.
    pub remote: Option<RemoteDecl>,
    /// The texts all places refer to.
    pub sources: SourceMap,
}

/// A remote cache as written; checked to be one.
#[derive(Clone, Debug)]
pub struct RemoteDecl {
    /// A URL without credentials, or a folder, relative to the file it is written in.
    pub url: Spanned<String>,
    /// What a run does with it.
    pub access: Option<Access>,
}

/// A dimension of the matrix.
#[derive(Clone, Debug)]
pub struct Axis {
    /// Its name.
    pub name: Spanned<String>,
    /// Its values in the order written; at least one, names unique.
    pub values: Vec<AxisValue>,
}

/// One value of an axis.
#[derive(Clone, Debug)]
pub struct AxisValue {
    /// The name that cells and selectors use.
    pub name: String,
    /// The scalar, or the mapping of fields.
    pub node: Node,
    /// Where its name was written.
    pub span: Span,
}

/// A stage as written.
#[derive(Clone, Debug)]
pub struct StageDecl {
    /// Its name.
    pub name: Spanned<String>,
    /// The name of its kind.
    pub uses: Spanned<String>,
    /// Its params, not yet interpolated; an empty mapping if absent.
    pub with: Node,
    /// Where its inputs come from.
    pub needs: Vec<Need>,
    /// The axes it has a cell for each combination of.
    pub axes: Vec<Spanned<String>>,
    /// Combinations it has; all if there are none here.
    pub include: Vec<Selector>,
    /// Combinations it does not have.
    pub exclude: Vec<Selector>,
    /// What a cell occupies, where the kind's own answer is overridden.
    pub resources: ResourcesDecl,
    /// How often a failed cell is tried again.
    pub retries: u32,
    /// Where its cells are computed.
    pub executor: ExecutorDecl,
}

/// Where cells are computed.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum ExecutorDecl {
    /// In this process.
    #[default]
    Local,
    /// In jobs of a Slurm cluster that shares the store's file system.
    Slurm(Box<SlurmDecl>),
}

/// What a stage asks of Slurm; nothing of it can change a result, so nothing of it is in a fingerprint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SlurmDecl {
    /// `--partition`.
    pub partition: Option<String>,
    /// `--account`.
    pub account: Option<String>,
    /// `--qos`.
    pub qos: Option<String>,
    /// `--time`: checked to be one.
    pub time: Option<String>,
    /// `--gres`.
    pub gres: Option<String>,
    /// `--cpus-per-task`; what the cell needs at least, by default.
    pub cpus: Option<usize>,
    /// `--mem`, bytes; what the cell says it needs, by default.
    pub mem: Option<u64>,
    /// `--constraint`.
    pub constraint: Option<String>,
    /// Shell lines that run before a cell, such as `module load cuda`.
    pub prologue: Vec<String>,
    /// Further options of `sbatch`.
    pub options: Vec<String>,
    /// How many jobs run at once.
    pub at_once: Option<AtOnce>,
    /// How long before its time limit a job is told to stop at a checkpoint, seconds; by default 120, and a fifth of
    /// `time` where that is less.
    pub warn: Option<u64>,
    /// How often the scheduler is asked, seconds.
    pub poll: u64,
    /// How often a cell that was stopped by a time limit or a failing node is submitted again.
    pub resubmit: u32,
}

/// A limit on jobs that run at once. Stages that have it from one place share it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct AtOnce {
    /// How many.
    pub most: usize,
    /// Where it is written: in the recipe's executor or in a stage's.
    pub written: String,
}

impl Default for SlurmDecl {
    fn default() -> Self {
        Self {
            partition: None,
            account: None,
            qos: None,
            time: None,
            gres: None,
            cpus: None,
            mem: None,
            constraint: None,
            prologue: Vec::new(),
            options: Vec::new(),
            at_once: None,
            warn: None,
            poll: 10,
            resubmit: 10,
        }
    }
}

/// Where an input port gets its artifacts.
#[derive(Clone, Debug)]
pub struct Need {
    /// The port.
    pub port: Spanned<String>,
    /// `stage` or `stage.port`, at least one.
    pub from: Vec<Spanned<String>>,
}

/// What a stage says its cells occupy; what is absent, the kind decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourcesDecl {
    /// CPU threads.
    pub cpu: Option<usize>,
    /// Memory, bytes.
    pub memory: Option<u64>,
    /// Device slots.
    pub devices: Option<usize>,
    /// Its cells start before those of a lower one; 0 by default.
    pub priority: i32,
    /// Units taken from pools; every pool named here is declared and large enough.
    pub pools: BTreeMap<String, usize>,
}

/// A table as written.
#[derive(Clone, Debug)]
pub struct TableDecl {
    /// Its name.
    pub name: Spanned<String>,
    /// The stages whose scores it shows.
    pub from: Option<Vec<Spanned<String>>>,
    /// Its params without `from`; `claims` maps each claim to its comparison.
    pub with: Node,
}

/// A combination of axis values, possibly partial.
#[derive(Clone, Debug)]
pub struct Selector {
    /// Axis and value name, each axis once.
    pub pairs: Vec<(Spanned<String>, Spanned<String>)>,
    /// Where it was written.
    pub span: Span,
}

impl Recipe {
    /// Reads a recipe file with its includes and `--set` arguments; all mistakes at once.
    pub fn load(path: &Path, sets: &[String]) -> Result<Self, Diagnostics> {
        match Self::read(path, sets)? {
            (recipe, mistakes) if mistakes.is_empty() => Ok(recipe),
            (recipe, mistakes) => Err(Diagnostics::new(mistakes, recipe.sources)),
        }
    }

    /// Like [`Recipe::load`], but a recipe whose mistakes lead to no others comes with them, so that
    /// whoever checks further can report everything together. Do not run it.
    pub fn read(path: &Path, sets: &[String]) -> Result<(Self, Vec<Diagnostic>), Diagnostics> {
        let mut sources = SourceMap::default();
        let mut out = Vec::new();
        let document = document::assemble(path, sets, &mut sources, &mut out);
        let recipe = document
            .and_then(|(document, complete)| declare::recipe(&document, &mut out).filter(|_| complete));
        match recipe {
            Some(recipe) => Ok((Self { sources, ..recipe }, out)),
            None => Err(Diagnostics::new(out, sources)),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
