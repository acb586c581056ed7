//! From results to a table: cells, marks, claims and notes.
//!
//! Chance is judged by one bootstrap of the whole table: questions are resampled together for all runs that
//! answered the same ones, and runs are resampled together for all columns of a row. Every difference is then a
//! difference of resampled cells, paired wherever the questions are the same.

use std::collections::BTreeMap;

use contract::{Context, Digest, StageError};

use crate::{
    Cell, ClaimResult, Column, Difference, Mark, ReportParams, Row, Run, Side, TableData, Value, Verdict,
    expression::{self, Rows},
    notes,
    results::{self, Outcome, Results},
    statistics::{self, RESAMPLES},
};

/// A cell with its resampled means.
struct Sampled {
    cell: Cell,
    means: Vec<f64>,
    /// Which questions it was measured on, one digest a member; cells with others are not compared with it.
    questions: Vec<Digest>,
}

impl Sampled {
    fn minus(&self, other: &Self) -> Difference {
        let means: Vec<f64> = self.means.iter().zip(&other.means).map(|(a, b)| a - b).collect();
        Difference { value: self.cell.mean - other.cell.mean, interval: statistics::percentiles(&means) }
    }
}

/// Cells by (row, column).
type Grid = BTreeMap<(usize, usize), Sampled>;

/// Computes everything a table shows.
pub(crate) fn table(
    params: &ReportParams,
    results: Results,
    context: &Context,
) -> Result<TableData, StageError> {
    let Results { rows, columns: names, cells, profiles, training_tokens } = results;
    let mut grid = sample(params, &cells, context)?;
    let mut columns: Vec<Column> =
        names.iter().map(|name| Column { name: name.clone(), mean_of: Vec::new(), questions: 0 }).collect();
    for (group, members) in &params.groups {
        let places: Vec<usize> =
            members.iter().filter_map(|member| names.iter().position(|name| name == member)).collect();
        for row in 0..rows.len() {
            if let Some(cell) = mean_cell(&grid, row, &places) {
                grid.insert((row, columns.len()), cell);
            }
        }
        columns.push(Column { name: group.clone(), mean_of: members.clone(), questions: 0 });
    }
    for ((_, column), sampled) in &grid {
        columns[*column].questions = columns[*column].questions.max(sampled.cell.questions);
    }

    let mut compare = Vec::new();
    for (place, column) in columns.iter().enumerate() {
        if !mark(&mut grid, place, params.value) {
            compare.push(format!(
                "`{}`: the rows answered different questions, so none is marked best",
                column.name
            ));
        }
    }
    if params.relative_to.is_some() {
        for (row, column) in (1..rows.len()).flat_map(|row| (0..columns.len()).map(move |c| (row, c))) {
            let difference = match (grid.get(&(row, column)), grid.get(&(0, column))) {
                (Some(own), Some(first)) if own.questions == first.questions => Some(own.minus(first)),
                _ => None,
            };
            if let Some(own) = grid.get_mut(&(row, column)) {
                own.cell.difference = difference;
            }
        }
    }
    let column_names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
    results::check_published(params, &rows, &column_names)?;
    let claims = params
        .claims
        .iter()
        .map(|(name, claim)| check_claim(name, claim, params, &rows, &column_names, &grid))
        .collect::<Result<_, _>>()?;

    let width = columns.len();
    let take = |(row, name): (usize, String)| {
        let cells =
            (0..width).map(|column| grid.remove(&(row, column)).map(|sampled| sampled.cell)).collect();
        let published = params.published.get(&name).into_iter().flatten();
        let published =
            published.map(|(column, value)| (column.clone(), value / params.value.scale())).collect();
        let tokens = training_tokens.get(&row).map(|tokens| statistics::mean(tokens));
        Row { name, cells, training_tokens: tokens, published }
    };
    let rows = rows.into_iter().enumerate().map(take).collect();
    let mut table = TableData {
        title: params.title.clone(),
        value: params.value,
        rows_axis: params.rows.clone(),
        columns_axis: params.columns.clone(),
        over: params.over.clone(),
        profiles,
        relative_to: params.relative_to.clone(),
        columns,
        rows,
        claims,
        notes: Vec::new(),
    };
    table.notes = notes::explain(&table, params.one_base)
        .into_iter()
        .chain(compare)
        .chain(notes::beware(&table))
        .collect();
    round(&mut table);
    Ok(table)
}

/// The cells of the results, each with its resampled means.
fn sample(
    params: &ReportParams,
    cells: &BTreeMap<(usize, usize), Vec<Outcome>>,
    context: &Context,
) -> Result<Grid, StageError> {
    // Every run that answered the same questions, resampled at once.
    let mut by_questions: BTreeMap<&Digest, Vec<(usize, usize, usize)>> = BTreeMap::new();
    for ((row, column), outcomes) in cells {
        for (run, outcome) in outcomes.iter().enumerate() {
            by_questions.entry(&outcome.questions).or_default().push((*row, *column, run));
        }
    }
    let mut means: BTreeMap<(usize, usize, usize), Vec<f64>> = BTreeMap::new();
    for (questions, runs) in by_questions {
        context.check_cancelled()?;
        let answers: Vec<&[f64]> =
            runs.iter().map(|(row, column, run)| cells[&(*row, *column)][*run].answers.as_slice()).collect();
        let seed = u64::from_str_radix(&questions.as_str()[..16], 16).expect("a digest is hexadecimal");
        let drawn = statistics::resample_questions(&answers, seed);
        for (place, run) in runs.into_iter().enumerate() {
            means.insert(run, drawn.iter().map(|means| means[place]).collect());
        }
    }
    let mut most_runs: BTreeMap<usize, usize> = BTreeMap::new();
    for ((row, _), outcomes) in cells {
        let most = most_runs.entry(*row).or_default();
        *most = outcomes.len().max(*most);
    }
    let draws: BTreeMap<usize, Vec<Vec<f64>>> =
        most_runs.into_iter().map(|(row, runs)| (row, statistics::resample_runs(runs, row))).collect();

    let mut grid = Grid::new();
    for ((row, column), outcomes) in cells {
        context.check_cancelled()?;
        let runs: Vec<&Vec<f64>> = (0..outcomes.len()).map(|run| &means[&(*row, *column, run)]).collect();
        let mean_at = |at: usize| {
            let values: Vec<f64> = runs.iter().map(|run| run[at]).collect();
            statistics::mean_of_drawn(&values, &draws[row][at])
        };
        let means: Vec<f64> = (0..RESAMPLES).map(mean_at).collect();
        let mut questions: Vec<Digest> = outcomes.iter().map(|outcome| outcome.questions.clone()).collect();
        questions.dedup();
        let cell = cell(params, outcomes, &means);
        grid.insert((*row, *column), Sampled { cell, means, questions });
    }
    Ok(grid)
}

fn cell(params: &ReportParams, outcomes: &[Outcome], means: &[f64]) -> Cell {
    let values: Vec<f64> = outcomes.iter().map(|outcome| outcome.value).collect();
    let mean = statistics::mean(&values);
    let questions = outcomes.iter().map(|outcome| outcome.scores.questions).min().unwrap_or_default();
    let drawn = statistics::percentiles(means);
    let interval = if params.value.is_rate() {
        // Where every run agrees the bootstrap sees no chance at all; Wilson's interval still does.
        let over_questions = statistics::wilson(mean, questions);
        if outcomes.len() == 1 { over_questions } else { statistics::hull(over_questions, drawn) }
    } else {
        drawn
    };
    let rate = |name: &str| {
        let values: Option<Vec<f64>> =
            outcomes.iter().map(|outcome| outcome.scores.values.get(name).copied()).collect();
        values.map(|values| statistics::mean(&values))
    };
    Cell {
        mean,
        standard_deviation: statistics::standard_deviation(&values),
        interval,
        runs: outcomes
            .iter()
            .map(|outcome| Run { over: outcome.over.clone(), value: outcome.value })
            .collect(),
        questions,
        unparsed: rate("unparsed"),
        truncated: rate("truncated"),
        undecided: rate("undecided"),
        difference: None,
        mark: Mark::None,
    }
}

/// The mean of some columns in one row; nothing if one of them is missing.
fn mean_cell(grid: &Grid, row: usize, columns: &[usize]) -> Option<Sampled> {
    let members: Vec<&Sampled> =
        columns.iter().map(|column| grid.get(&(row, *column))).collect::<Option<_>>()?;
    let mean_of = |of: &dyn Fn(&Sampled) -> f64| {
        statistics::mean(&members.iter().map(|member| of(member)).collect::<Vec<_>>())
    };
    let rate = |of: &dyn Fn(&Cell) -> Option<f64>| {
        let values: Option<Vec<f64>> = members.iter().map(|member| of(&member.cell)).collect();
        values.map(|values| statistics::mean(&values))
    };
    let runs: Vec<Run> = members[0]
        .cell
        .runs
        .iter()
        .filter_map(|run| {
            let same = |member: &&Sampled| {
                member.cell.runs.iter().find(|other| other.over == run.over).map(|other| other.value)
            };
            let values: Vec<f64> = members.iter().map(same).collect::<Option<_>>()?;
            Some(Run { over: run.over.clone(), value: statistics::mean(&values) })
        })
        .collect();
    let means: Vec<f64> = (0..RESAMPLES).map(|at| mean_of(&|member| member.means[at])).collect();
    let drawn = statistics::percentiles(&means);
    let parts: Vec<(f64, (f64, f64))> =
        members.iter().map(|member| (member.cell.mean, member.cell.interval)).collect();
    let combined = statistics::interval_of_mean(&parts);
    let values: Vec<f64> = runs.iter().map(|run| run.value).collect();
    let cell = Cell {
        mean: mean_of(&|member| member.cell.mean),
        standard_deviation: statistics::standard_deviation(&values),
        interval: if runs.len() == 1 { combined } else { statistics::hull(combined, drawn) },
        runs,
        questions: members.iter().map(|member| member.cell.questions).sum(),
        unparsed: rate(&|cell| cell.unparsed),
        truncated: rate(&|cell| cell.truncated),
        undecided: rate(&|cell| cell.undecided),
        difference: None,
        mark: Mark::None,
    };
    let questions = members.iter().flat_map(|member| member.questions.clone()).collect();
    Some(Sampled { cell, means, questions })
}

/// Marks the best of a column, or those that tie for it. `false` where the rows answered different questions.
fn mark(grid: &mut Grid, column: usize, shown: Value) -> bool {
    let present: Vec<usize> = grid.keys().filter(|(_, c)| *c == column).map(|(row, _)| *row).collect();
    if present.len() < 2 {
        return true;
    }
    let of = |row: usize| &grid[&(row, column)];
    if present.iter().any(|row| of(*row).questions != of(present[0]).questions) {
        return false;
    }
    let best = best_row(grid, &present, column, shown).expect("at least two rows are there");
    let tied: Vec<usize> = present
        .iter()
        .copied()
        .filter(|row| {
            let (low, high) = of(best).minus(of(*row)).interval;
            *row == best || (low <= 0.0 && high >= 0.0)
        })
        .collect();
    let mark = if tied.len() == 1 { Mark::Best } else { Mark::Tied };
    for row in tied {
        if let Some(sampled) = grid.get_mut(&(row, column)) {
            sampled.cell.mark = mark;
        }
    }
    true
}

/// The row with the best mean among some; the first of equals.
fn best_row(grid: &Grid, rows: &[usize], column: usize, shown: Value) -> Option<usize> {
    let sign = if shown.higher_is_better() { 1.0 } else { -1.0 };
    let value = |row: usize| grid.get(&(row, column)).map(|sampled| sign * sampled.cell.mean);
    let present = rows.iter().filter_map(|row| Some((*row, value(*row)?)));
    present.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(row, _)| row)
}

fn check_claim(
    name: &str,
    claim: &crate::Claim,
    params: &ReportParams,
    rows: &[String],
    columns: &[String],
    grid: &Grid,
) -> Result<ClaimResult, StageError> {
    let side = |text: &str| -> Result<((usize, usize), Side), StageError> {
        let (which, column) = expression::parse(text, rows, columns).map_err(|(what, name)| match what {
            "row" => results::unknown("row", &name, rows),
            _ => results::unknown("column", &name, columns),
        })?;
        let among: Vec<usize> = match which {
            Rows::One(row) => vec![row],
            Rows::All => (0..rows.len()).collect(),
            Rows::Baselines => {
                let baselines = params.baselines.iter().flatten();
                baselines.filter_map(|name| rows.iter().position(|row| row == name)).collect()
            }
        };
        let row = best_row(grid, &among, column, params.value).unwrap_or(among[0]);
        let mean = grid.get(&(row, column)).map(|sampled| sampled.cell.mean);
        let side = Side {
            expression: text.to_owned(),
            row: rows[row].clone(),
            column: columns[column].clone(),
            mean,
        };
        Ok(((row, column), side))
    };
    let (left_place, left) = side(&claim.left)?;
    let (right_place, right) = side(&claim.right)?;
    let at_least = claim.at_least / params.value.scale();
    let missing = |side: &Side| format!("`{}` in `{}` is missing", side.row, side.column);
    let compared = match (grid.get(&left_place), grid.get(&right_place)) {
        (None, _) => Err(missing(&left)),
        (_, None) => Err(missing(&right)),
        (Some(a), Some(b)) if left_place.1 == right_place.1 && a.questions != b.questions => {
            Err("the two answered different questions".to_owned())
        }
        (Some(a), Some(b)) => Ok(a.minus(b)),
    };
    let verdict = match &compared {
        Ok(difference) if difference.interval.0 >= at_least => Verdict::Reproduced,
        Ok(difference) if difference.interval.1 < at_least => Verdict::NotReproduced,
        Ok(_) | Err(_) => Verdict::Undecided,
    };
    let (difference, problem) = match compared {
        Ok(difference) => (Some(difference), None),
        Err(problem) => (None, Some(problem)),
    };
    Ok(ClaimResult { name: name.to_owned(), left, right, at_least, difference, verdict, problem })
}

/// Rounds every number to nine decimals: what is left of chance in the last bits of a sum is not worth keeping.
fn round(table: &mut TableData) {
    let round = |number: &mut f64| *number = (*number * 1e9).round() / 1e9;
    let pair = |interval: &mut (f64, f64)| {
        round(&mut interval.0);
        round(&mut interval.1);
    };
    for cell in table.rows.iter_mut().flat_map(|row| row.cells.iter_mut().flatten()) {
        round(&mut cell.mean);
        pair(&mut cell.interval);
        let rates = cell.unparsed.iter_mut().chain(&mut cell.truncated).chain(&mut cell.undecided);
        rates.chain(&mut cell.standard_deviation).for_each(round);
        cell.runs.iter_mut().for_each(|run| round(&mut run.value));
        if let Some(difference) = &mut cell.difference {
            round(&mut difference.value);
            pair(&mut difference.interval);
        }
    }
    for row in &mut table.rows {
        row.published.values_mut().chain(&mut row.training_tokens).for_each(round);
    }
    for claim in &mut table.claims {
        let means = claim.left.mean.iter_mut().chain(&mut claim.right.mean);
        means.chain([&mut claim.at_least]).for_each(round);
        if let Some(difference) = &mut claim.difference {
            round(&mut difference.value);
            pair(&mut difference.interval);
        }
    }
}
