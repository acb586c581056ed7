//! A finished table: every number and every word that any format shows.
//!
//! Rates are fractions of 1 here and percentages in every text format but CSV.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::Value;

/// A finished table; `table.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TableData {
    /// The heading.
    pub title: Option<String>,
    /// What the numbers are.
    pub value: Value,
    /// The axis of the rows.
    pub rows_axis: String,
    /// The axis of the columns.
    pub columns_axis: String,
    /// The axis averaged over.
    pub over: String,
    /// Scoring profiles of the results; more than one makes a table doubtful, and a note says so.
    pub profiles: Vec<String>,
    /// The row the differences are taken from.
    pub relative_to: Option<String>,
    /// The columns, groups last.
    pub columns: Vec<Column>,
    /// The rows.
    pub rows: Vec<Row>,
    /// The claims, by name.
    pub claims: Vec<ClaimResult>,
    /// How to read the table and what to beware of, one sentence each.
    pub notes: Vec<String>,
}

/// A column.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name.
    pub name: String,
    /// The columns it is the mean of; empty for a column of results.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mean_of: Vec<String>,
    /// Most questions any of its cells was measured on.
    pub questions: usize,
}

/// A row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Its name.
    pub name: String,
    /// Its cells, one a column; `None` is missing.
    pub cells: Vec<Option<Cell>>,
    /// Target tokens its students were trained on, the mean over trainings; `None` where no metrics were given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training_tokens: Option<f64>,
    /// Values published elsewhere, by column, in the unit of the cells.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub published: BTreeMap<String, f64>,
}

/// The results of one row in one column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cell {
    /// Mean over the runs.
    pub mean: f64,
    /// Sample standard deviation over the runs; `None` for one run.
    pub standard_deviation: Option<f64>,
    /// 95 % interval of the mean.
    pub interval: (f64, f64),
    /// The runs, in the order of the inputs.
    pub runs: Vec<Run>,
    /// Questions a run was measured on.
    pub questions: usize,
    /// Mean share of answers in which no answer was found.
    pub unparsed: Option<f64>,
    /// Mean share of answers that stopped at the length limit.
    pub truncated: Option<f64>,
    /// Mean share of answers that the scoring profile cannot decide.
    #[serde(default)]
    pub undecided: Option<f64>,
    /// Against the row of `relative_to`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<Difference>,
    /// How it stands in its column.
    pub mark: Mark,
}

/// One run of a cell.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// Its value on the axis averaged over, if it has one.
    pub over: Option<String>,
    /// Its result.
    pub value: f64,
}

/// The difference of two cells.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Difference {
    /// Of the means.
    pub value: f64,
    /// Its 95 % interval.
    pub interval: (f64, f64),
}

/// How a cell stands in its column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mark {
    /// Nothing to say.
    None,
    /// Better than every other row, beyond chance.
    Best,
    /// The best, or not told apart from it.
    Tied,
}

/// A claim, checked.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ClaimResult {
    /// What is claimed.
    pub name: String,
    /// The cell said to be higher.
    pub left: Side,
    /// The cell it is compared with.
    pub right: Side,
    /// The smallest difference claimed, a fraction of 1 for rates.
    pub at_least: f64,
    /// What was found; `None` where a side is missing or the sides answered different questions.
    pub difference: Option<Difference>,
    /// Whether it holds.
    pub verdict: Verdict,
    /// Why there is no difference.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}

/// One side of a claim.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// As the recipe writes it.
    pub expression: String,
    /// The row meant.
    pub row: String,
    /// The column meant.
    pub column: String,
    /// The mean there.
    pub mean: Option<f64>,
}

/// Whether a claim holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// The whole interval of the difference is above the threshold.
    Reproduced,
    /// The whole interval is below the threshold.
    NotReproduced,
    /// The interval contains the threshold, or there is none.
    Undecided,
}

impl fmt::Display for Verdict {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Reproduced => "reproduced",
            Self::NotReproduced => "not reproduced",
            Self::Undecided => "undecided",
        })
    }
}
