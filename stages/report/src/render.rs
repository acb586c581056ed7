//! Writes a finished table in the formats people use. Nothing is computed here.

mod csv;
mod latex;
mod markdown;
mod terminal;

use crate::{Cell, ClaimResult, Difference, Mark, TableData};

/// How a table is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Aligned text of at most 96 columns, readable without color.
    Terminal,
    /// GitHub Markdown.
    Markdown,
    /// A `table` for LaTeX with `booktabs`.
    Latex,
    /// One line a cell, rates as fractions of 1.
    Csv,
    /// The [`TableData`] itself.
    Json,
}

/// Writes a table; the text ends with a line break.
pub fn render(table: &TableData, format: Format) -> String {
    match format {
        Format::Terminal => terminal::render(table),
        Format::Markdown => markdown::render(table),
        Format::Latex => latex::render(table),
        Format::Csv => csv::render(table),
        Format::Json => {
            serde_json::to_string_pretty(table).expect("a table is plain data with text keys") + "\n"
        }
    }
}

/// What stands in a cell without results.
const MISSING: &str = "–";

impl TableData {
    /// A value as shown, with one decimal.
    fn number(&self, value: f64) -> String {
        format!("{:.1}", value * self.value.scale())
    }

    /// A difference as shown, with its sign.
    fn signed(&self, value: f64) -> String {
        format!("{:+.1}", value * self.value.scale())
    }

    fn range(&self, (low, high): (f64, f64)) -> String {
        format!("[{}, {}]", self.number(low), self.number(high))
    }

    /// `62.1 ± 1.2`.
    fn mean(&self, cell: &Cell) -> String {
        match cell.standard_deviation {
            Some(deviation) => format!("{} ± {}", self.number(cell.mean), self.number(deviation)),
            None => self.number(cell.mean),
        }
    }

    /// What the numbers are: `accuracy in %, scoring profile mind`.
    fn caption(&self) -> String {
        let unit = if self.value.scale() == 1.0 { "" } else { " in %" };
        format!("{}{unit}, scoring profile {}", self.value, self.profiles.join(", "))
    }

    /// Column headings, groups said to be means.
    fn headings(&self) -> Vec<String> {
        let heading = |column: &crate::Column| {
            let name = column.name.clone();
            if column.mean_of.is_empty() { name } else { format!("{name} (mean)") }
        };
        self.columns.iter().map(heading).collect()
    }

    /// `mind.id 62.1 - mcc-kd.id 55.0 = +7.1 [+3.9, +10.2], claimed at least +3.3`.
    fn evidence(&self, claim: &ClaimResult) -> String {
        let side = |side: &crate::Side| {
            let mean = side.mean.map_or_else(|| MISSING.to_owned(), |mean| self.number(mean));
            format!("{}.{} {mean}", side.row, side.column)
        };
        let found = match (&claim.difference, &claim.problem) {
            (Some(Difference { value, interval: (low, high) }), _) => {
                format!("{} [{}, {}]", self.signed(*value), self.signed(*low), self.signed(*high))
            }
            (None, Some(problem)) => format!("unknown ({problem})"),
            (None, None) => "unknown".to_owned(),
        };
        let (left, right) = (side(&claim.left), side(&claim.right));
        format!("{left} - {right} = {found}, claimed at least {}", self.signed(claim.at_least))
    }
}

/// The sign that stands for a mark in text.
fn sign(mark: Mark) -> &'static str {
    match mark {
        Mark::None => "",
        Mark::Best => "*",
        Mark::Tied => "=",
    }
}
