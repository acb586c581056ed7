//! Writes a finished table in the formats people use. Nothing is computed here.

mod csv;
mod latex;
mod markdown;
mod terminal;

use crate::{Cell, ClaimResult, Difference, Mark, Row, TableData};

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
pub(crate) const MISSING: &str = "–";

/// A column as printed.
#[derive(Clone, Copy)]
pub(crate) enum Shown {
    /// Our results.
    Results(usize),
    /// What was published of the same column.
    Published(usize),
    /// What each row was trained on.
    Tokens,
}

impl TableData {
    /// The columns as printed: published values right of ours, tokens last, neither where no row has any.
    pub(crate) fn layout(&self) -> Vec<Shown> {
        let published = |name: &String| self.rows.iter().any(|row| row.published.contains_key(name));
        let mut layout = Vec::new();
        for (place, column) in self.columns.iter().enumerate() {
            layout.push(Shown::Results(place));
            layout.extend(published(&column.name).then_some(Shown::Published(place)));
        }
        layout.extend(self.rows.iter().any(|row| row.training_tokens.is_some()).then_some(Shown::Tokens));
        layout
    }

    /// A column's heading; groups are said to be means.
    pub(crate) fn heading(&self, shown: Shown) -> String {
        match shown {
            Shown::Results(place) if self.columns[place].mean_of.is_empty() => {
                self.columns[place].name.clone()
            }
            Shown::Results(place) => format!("{} (mean)", self.columns[place].name),
            Shown::Published(place) => format!("{} published", self.columns[place].name),
            Shown::Tokens => "training tokens".to_owned(),
        }
    }

    /// The questions below a column.
    pub(crate) fn questions(&self, shown: Shown) -> String {
        match shown {
            Shown::Results(place) => self.columns[place].questions.to_string(),
            Shown::Published(_) | Shown::Tokens => String::new(),
        }
    }

    /// What was published of a row in a column.
    pub(crate) fn published(&self, row: &Row, place: usize) -> String {
        let value = row.published.get(&self.columns[place].name);
        value.map_or_else(|| MISSING.to_owned(), |value| self.number(*value))
    }

    /// A value as shown, with one decimal.
    pub(crate) fn number(&self, value: f64) -> String {
        let shown = format!("{:.1}", value * self.value.scale());
        // Rounding errors have a sign.
        if shown == "-0.0" { "0.0".to_owned() } else { shown }
    }

    /// A difference as shown, with its sign.
    pub(crate) fn signed(&self, value: f64) -> String {
        format!("{:+.1}", value * self.value.scale())
    }

    pub(crate) fn range(&self, (low, high): (f64, f64)) -> String {
        format!("[{}, {}]", self.number(low), self.number(high))
    }

    /// `62.1 ± 1.2`.
    pub(crate) fn mean(&self, cell: &Cell) -> String {
        match cell.standard_deviation {
            Some(deviation) => format!("{} ± {}", self.number(cell.mean), self.number(deviation)),
            None => self.number(cell.mean),
        }
    }

    /// What the numbers are: `accuracy in %, scoring profile mind`.
    pub(crate) fn caption(&self) -> String {
        let unit = if self.value.scale() == 1.0 { "" } else { " in %" };
        format!("{}{unit}, scoring profile {}", self.value, self.profiles.join(", "))
    }

    /// `mind.id 62.1 - mcc-kd.id 55.0 = +7.1 [+3.9, +10.2], claimed at least +3.3`.
    pub(crate) fn evidence(&self, claim: &ClaimResult) -> String {
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

/// `345 k`.
pub(crate) fn tokens(row: &Row) -> String {
    match row.training_tokens {
        None => MISSING.to_owned(),
        Some(tokens) if tokens < 1e4 => format!("{tokens:.0}"),
        Some(tokens) if tokens < 1e6 => format!("{:.0} k", tokens / 1e3),
        Some(tokens) if tokens < 1e9 => format!("{:.1} M", tokens / 1e6),
        Some(tokens) => format!("{:.1} G", tokens / 1e9),
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
