//! Kind `report`: results tables, and claims about them.
//!
//! A table compares rows (methods, say) column by column (tasks). A cell is the mean over runs (seeds) with their
//! standard deviation and a 95 % interval; a mark says which row is best, and only where the difference is more
//! than chance of questions and runs. A claim compares two cells with a threshold and is reproduced, not reproduced or undecided.
//!
//! Everything is computed once and kept in `table.json` as a [`TableData`]; [`render`] only formats it. Nothing is
//! guessed: a cell without results is missing, and rows that answered different questions are not compared.

mod table;
pub use table::{Cell, ClaimResult, Column, Difference, Mark, Row, Run, Side, TableData, Verdict};

mod value;
pub use value::{UnknownValue, Value};

pub mod page;

mod build;
mod compare;
mod expression;
mod names;
mod notes;
mod render;
mod results;

use std::{collections::BTreeMap, fs, path::Path};

use contract::{ArtifactType, Context, Port, PortFlow, Setting, Stage, StageError, jsonl};
use names::pointer;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use compare::compare;
pub use render::{Format, render};

/// The kind `report`.
pub struct Report;

/// File names inside a `table` artifact.
pub mod files {
    /// The [`super::TableData`].
    pub const JSON: &str = "table.json";
    /// As GitHub Markdown.
    pub const MARKDOWN: &str = "table.md";
    /// One line a cell.
    pub const CSV: &str = "table.csv";
    /// As a LaTeX `table` that needs the `booktabs` package.
    pub const LATEX: &str = "table.tex";
}

/// What a table shows.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReportParams {
    /// The axis whose values are the rows. A result without this axis stands in a row named after its stage.
    pub rows: String,
    /// The axis whose values are the columns; `task` without such an axis means the task measured on.
    pub columns: String,
    /// The axis a cell averages over. Default: `seed`.
    #[serde(default = "default_over")]
    pub over: String,
    /// The value shown: `accuracy`, `unparsed`, `truncated`, `undecided`, `tokens`, or, where answers were sampled, `pass@k`
    /// and `maj@n` with the k and n of `evaluate`. Default: `accuracy`.
    #[serde(default)]
    pub value: Value,
    /// The row every other row is compared with; it stands first. Default: none.
    #[serde(default)]
    pub relative_to: Option<String>,
    /// Rows and columns that stand first, in this order; the others follow by name. Default: all by name.
    #[serde(default)]
    pub order: Vec<String>,
    /// Columns to average, by the name of the mean: `{id: [gsm8k, svamp]}`. Default: none.
    #[serde(default)]
    pub groups: BTreeMap<String, Vec<String>>,
    /// The rows `best(baselines)` chooses from. Default: none.
    #[serde(default)]
    pub baselines: Option<Vec<String>>,
    /// The table's heading. Default: none.
    #[serde(default)]
    pub title: Option<String>,
    /// Values published elsewhere, by row and column, in percent (in tokens for `value: tokens`): shown beside ours,
    /// compared with nothing. Default: none.
    #[serde(default)]
    pub published: BTreeMap<String, BTreeMap<String, f64>>,
    /// Comparisons to check, by name. Default: none.
    #[serde(default)]
    pub claims: BTreeMap<String, Claim>,
    /// Whether runs of a row start from one base student, which a note then says. Found out from the recipe; not for writing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub one_base: bool,
}

/// That one cell exceeds another by more than so much.
///
/// It is reproduced where the whole 95 % interval of the difference is above `at_least`, and not reproduced where all of it is
/// below; equal cells reproduce no claim.
///
/// A side is `row.column`, where the column may be a group, or `best(baselines).column` or `best(all).column`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Claim {
    /// The cell said to be higher.
    pub left: String,
    /// The cell it is compared with.
    pub right: String,
    /// What the difference exceeds, in percentage points (in tokens for `value: tokens`): 0 says that `left` is higher, a negative
    /// number that it is no more than so much lower.
    pub at_least: f64,
}

fn default_over() -> String {
    "seed".to_owned()
}

impl Stage for Report {
    type Params = ReportParams;

    const NAME: &'static str = "report";
    const VERSION: u32 = 4;
    const ABOUT: &'static str =
        "a results table with intervals and significance, and claims checked against it";
    const SEEDED: bool = false;
    const COMPUTES: bool = false;
    const INPUTS: &'static [Port] = &[
        Port::input("scores", ArtifactType::Scores, PortFlow::Measures, "every result of the table").many(),
        Port::input(
            "metrics",
            ArtifactType::Metrics,
            PortFlow::Measures,
            "the training behind each row: its tokens",
        )
        .any(),
    ];
    const OUTPUTS: &'static [Port] =
        &[Port::output("table", ArtifactType::Table, "the table as JSON, Markdown, CSV and LaTeX")];

    fn check(params: &ReportParams) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut problem = |field: String, text: String| problems.push((field, text));
        if params.rows == params.columns {
            problem("/columns".into(), format!("`{}` is the axis of the rows already", params.columns));
        }
        if params.over == params.rows || params.over == params.columns {
            problem("/over".into(), format!("`{}` is an axis of the table already", params.over));
        }
        for (group, columns) in &params.groups {
            if columns.is_empty() {
                problem(pointer(&["groups", group]), "must name at least one column".into());
            }
        }
        for (row, values) in &params.published {
            for (column, _) in values.iter().filter(|(_, value)| !value.is_finite()) {
                problem(pointer(&["published", row, column]), "must be a number".into());
            }
        }
        for (name, claim) in &params.claims {
            for (side, text) in [("left", &claim.left), ("right", &claim.right)] {
                if let Err(text) = expression::check(text, params.baselines.as_deref()) {
                    problem(pointer(&["claims", name, side]), text);
                }
            }
        }
        problems
    }

    fn check_setting(params: &ReportParams, setting: &Setting<'_>) -> Vec<(String, String)> {
        let mistakes = names::check_joined(params, setting).into_iter();
        mistakes.map(|(field, error)| (field, error.to_string())).collect()
    }

    fn run(params: ReportParams, context: &Context) -> Result<(), StageError> {
        let results = results::read(&params, context)?;
        let table = build::table(&params, results);
        for claim in &table.claims {
            context.note(format!("{}: {}", claim.name, claim.verdict));
        }
        let output = context.output("table");
        let files = [
            (files::JSON, Format::Json),
            (files::MARKDOWN, Format::Markdown),
            (files::CSV, Format::Csv),
            (files::LATEX, Format::Latex),
        ];
        for (name, format) in files {
            let path = output.join(name);
            fs::write(&path, render(&table, format)).map_err(StageError::io(&path))?;
        }
        Ok(())
    }
}

impl TableData {
    /// Reads the table out of a `table` artifact.
    pub fn read(artifact: &Path) -> Result<Self, StageError> {
        jsonl::read_json(&artifact.join(files::JSON))
    }
}

#[cfg(test)]
mod tests;
