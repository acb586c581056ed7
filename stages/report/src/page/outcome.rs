//! The recipe's tables with their claims, as the page shows them.

use contract::{ArtifactType, StageError};
use serde::Serialize;

use super::{Facts, State};
use crate::{
    Cell, Mark, TableData, Verdict,
    render::{MISSING, Shown, tokens},
};

/// What the tables say.
pub(super) struct Outcome {
    pub(super) tables: Vec<Table>,
    axes: Axes,
}

/// What stands in rows and columns of the recipe's first table, and so wherever the page compares.
#[derive(Clone, Debug)]
pub(super) struct Axes {
    pub(super) rows: String,
    pub(super) columns: String,
    pub(super) over: String,
    pub(super) baseline: Option<String>,
    /// Row names in the order of the table.
    pub(super) order: Vec<String>,
}

impl Axes {
    /// Where a row stands; unknown ones come last.
    pub(super) fn place(&self, row: &str) -> usize {
        self.order.iter().position(|known| known == row).unwrap_or(self.order.len())
    }
}

/// A table, every number as text.
#[derive(Serialize)]
pub(super) struct Table {
    name: String,
    title: Option<String>,
    caption: String,
    outdated: bool,
    rows_axis: String,
    heads: Vec<String>,
    rows: Vec<Row>,
    questions: Vec<String>,
    notes: Vec<String>,
    claims: Vec<Claim>,
}

#[derive(Serialize)]
struct Row {
    name: String,
    cells: Vec<Shape>,
}

/// What stands in one place of a table.
#[derive(Default, Serialize)]
struct Shape {
    value: String,
    interval: Option<String>,
    difference: Option<String>,
    /// `best`, `tied`, or nothing.
    mark: Option<&'static str>,
    /// Its runs, for whoever looks closer.
    runs: Option<String>,
}

#[derive(Serialize)]
struct Claim {
    name: String,
    verdict: String,
    /// A class, and a sign that needs no color.
    class: &'static str,
    sign: &'static str,
    evidence: String,
}

pub(super) fn read(facts: &Facts) -> Result<Outcome, StageError> {
    let mut outcome = Outcome {
        tables: Vec::new(),
        axes: Axes {
            rows: "method".to_owned(),
            columns: "task".to_owned(),
            over: "seed".to_owned(),
            baseline: None,
            order: Vec::new(),
        },
    };
    for (_, cell, folder) in facts.artifacts(ArtifactType::Table) {
        let table = TableData::read(folder)?;
        if outcome.tables.is_empty() {
            outcome.axes = Axes {
                rows: table.rows_axis.clone(),
                columns: table.columns_axis.clone(),
                over: table.over.clone(),
                baseline: table.relative_to.clone(),
                order: table.rows.iter().map(|row| row.name.clone()).collect(),
            };
        }
        outcome.tables.push(Table::of(&table, &cell.name, cell.state == State::Outdated));
    }
    Ok(outcome)
}

impl Outcome {
    pub(super) fn axes(&self) -> &Axes {
        &self.axes
    }
}

impl Table {
    fn of(table: &TableData, name: &str, outdated: bool) -> Self {
        let layout = table.layout();
        let row = |row: &crate::Row| Row {
            name: row.name.clone(),
            cells: layout
                .iter()
                .map(|shown| match *shown {
                    Shown::Results(place) => Shape::of(table, row.cells[place].as_ref()),
                    Shown::Published(place) => {
                        Shape { value: table.published(row, place), ..Shape::default() }
                    }
                    Shown::Tokens => Shape { value: tokens(row), ..Shape::default() },
                })
                .collect(),
        };
        let claim = |claim: &crate::ClaimResult| {
            let (class, sign) = match claim.verdict {
                Verdict::Reproduced => ("yes", "✓"),
                Verdict::NotReproduced => ("no", "✗"),
                Verdict::Undecided => ("open", "?"),
            };
            let (name, verdict) = (claim.name.clone(), claim.verdict.to_string());
            Claim { name, verdict, class, sign, evidence: table.evidence(claim) }
        };
        Self {
            name: name.to_owned(),
            title: table.title.clone(),
            caption: table.caption(),
            outdated,
            rows_axis: table.rows_axis.clone(),
            heads: layout.iter().map(|shown| table.heading(*shown)).collect(),
            rows: table.rows.iter().map(row).collect(),
            questions: layout.iter().map(|shown| table.questions(*shown)).collect(),
            // Marks are words here, so the notes need not explain signs.
            notes: table
                .notes
                .iter()
                .map(|note| note.replacen("* best:", "best:", 1).replacen("= tied:", "tied:", 1))
                .collect(),
            claims: table.claims.iter().map(claim).collect(),
        }
    }
}

impl Shape {
    fn of(table: &TableData, cell: Option<&Cell>) -> Self {
        let Some(cell) = cell else { return Self { value: MISSING.to_owned(), ..Self::default() } };
        let run = |run: &crate::Run| {
            let value = table.number(run.value);
            run.over.as_ref().map_or_else(|| value.clone(), |over| format!("{} {over}: {value}", table.over))
        };
        Self {
            value: table.mean(cell),
            interval: Some(table.range(cell.interval)),
            difference: cell.difference.as_ref().map(|difference| table.signed(difference.value)),
            mark: match cell.mark {
                Mark::None => None,
                Mark::Best => Some("best"),
                Mark::Tied => Some("tied"),
            },
            runs: Some(cell.runs.iter().map(run).collect::<Vec<_>>().join(", ")),
        }
    }
}
