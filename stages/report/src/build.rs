//! From results to a table: cells, marks, claims and notes.
//!
//! Chance is judged by [`Estimate`], of cells and of their differences alike.

use std::collections::BTreeMap;

use statistics::{Estimate, RunAnswers};

use crate::{
    Cell, Claim, ClaimResult, Column, Difference, Mark, ReportParams, Row, Run, Side, TableData, Value,
    Verdict,
    expression::{self, Rows},
    notes,
    results::{Outcome, Results},
};

/// A cell with what it is estimated from.
struct Estimated {
    cell: Cell,
    estimate: Estimate,
}

/// Cells by (row, column).
type Grid = BTreeMap<(usize, usize), Estimated>;

/// The difference of two cells.
fn difference(grid: &Grid, left: (usize, usize), right: (usize, usize), shown: Value) -> Difference {
    let (a, b) = (&grid[&left].estimate, &grid[&right].estimate);
    let difference =
        if left.0 == right.0 { Estimate::within_row(&[(1.0, a), (-1.0, b)]) } else { a.minus(b) };
    Difference { value: difference.value(), interval: difference.interval(shown.is_rate()) }
}

/// Computes everything a table shows.
pub(crate) fn table(params: &ReportParams, results: Results) -> TableData {
    let Results { rows, columns: names, cells, profiles, training_tokens } = results;
    let mut grid: Grid =
        cells.iter().map(|(place, outcomes)| (*place, cell(outcomes, params.value))).collect();
    let mut columns: Vec<Column> =
        names.iter().map(|name| Column { name: name.clone(), mean_of: Vec::new(), questions: 0 }).collect();
    for (group, members) in &params.groups {
        let places: Vec<usize> =
            members.iter().filter_map(|member| names.iter().position(|name| name == member)).collect();
        for row in 0..rows.len() {
            if let Some(cell) = mean_cell(&grid, row, &places, params.value) {
                grid.insert((row, columns.len()), cell);
            }
        }
        columns.push(Column { name: group.clone(), mean_of: members.clone(), questions: 0 });
    }
    for ((_, column), estimated) in &grid {
        columns[*column].questions = columns[*column].questions.max(estimated.cell.questions);
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
            let difference = comparable(&grid, (row, column), (0, column))
                .then(|| difference(&grid, (row, column), (0, column), params.value));
            if let Some(own) = grid.get_mut(&(row, column)) {
                own.cell.difference = difference;
            }
        }
    }
    let column_names: Vec<String> = columns.iter().map(|column| column.name.clone()).collect();
    let claims = params
        .claims
        .iter()
        .map(|(name, claim)| check_claim(name, claim, params, &rows, &column_names, &grid))
        .collect();

    let width = columns.len();
    let take = |(row, name): (usize, String)| {
        let cells =
            (0..width).map(|column| grid.remove(&(row, column)).map(|estimated| estimated.cell)).collect();
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
    table
}

fn run_answers(outcome: &Outcome) -> RunAnswers<'_> {
    RunAnswers {
        label: outcome.over.as_deref(),
        value: outcome.value,
        questions: outcome.questions.as_str(),
        answers: &outcome.answers,
    }
}

/// The cell of some runs.
fn cell(outcomes: &[Outcome], shown: Value) -> Estimated {
    let estimate = Estimate::mean_of_runs(&outcomes.iter().map(run_answers).collect::<Vec<_>>());
    let questions = outcomes.iter().map(|outcome| outcome.scores.questions).min().unwrap_or_default();
    let rate = |name: &str| {
        let values: Option<Vec<f64>> =
            outcomes.iter().map(|outcome| outcome.scores.values.get(name).copied()).collect();
        values.map(|values| statistics::mean(&values))
    };
    let interval = interval(&estimate, &[(estimate.value(), questions)], shown);
    let rates = [rate("unparsed"), rate("truncated"), rate("undecided")];
    Estimated { cell: finished(&estimate, interval, questions, rates), estimate }
}

/// The mean of some columns in one row; nothing if one of them is missing.
fn mean_cell(grid: &Grid, row: usize, columns: &[usize], shown: Value) -> Option<Estimated> {
    let members: Vec<&Estimated> =
        columns.iter().map(|column| grid.get(&(row, *column))).collect::<Option<_>>()?;
    let weight = 1.0 / members.len() as f64;
    let weighted: Vec<(f64, &Estimate)> = members.iter().map(|member| (weight, &member.estimate)).collect();
    let estimate = Estimate::within_row(&weighted);
    let rate = |of: &dyn Fn(&Cell) -> Option<f64>| {
        let values: Option<Vec<f64>> = members.iter().map(|member| of(&member.cell)).collect();
        values.map(|values| statistics::mean(&values))
    };
    let rates = [rate(&|cell| cell.unparsed), rate(&|cell| cell.truncated), rate(&|cell| cell.undecided)];
    let parts: Vec<(f64, usize)> =
        members.iter().map(|member| (member.cell.mean, member.cell.questions)).collect();
    let interval = interval(&estimate, &parts, shown);
    let questions = parts.iter().map(|(_, questions)| questions).sum();
    Some(Estimated { cell: finished(&estimate, interval, questions, rates), estimate })
}

/// The interval of a cell that is the mean of some columns, each with its mean and its questions.
fn interval(estimate: &Estimate, columns: &[(f64, usize)], shown: Value) -> (f64, f64) {
    if shown.is_rate() { estimate.interval_of_rate(columns) } else { estimate.interval(false) }
}

fn finished(
    estimate: &Estimate,
    interval: (f64, f64),
    questions: usize,
    [unparsed, truncated, undecided]: [Option<f64>; 3],
) -> Cell {
    let run = |run: &statistics::Run| Run { over: run.label.clone(), value: run.value };
    let values: Vec<f64> = estimate.runs().iter().map(|run| run.value).collect();
    Cell {
        mean: estimate.value(),
        standard_deviation: statistics::standard_deviation(&values),
        interval,
        runs: estimate.runs().iter().map(run).collect(),
        questions,
        unparsed,
        truncated,
        undecided,
        difference: None,
        mark: Mark::None,
    }
}

/// Whether two cells are there and were measured on the same questions.
fn comparable(grid: &Grid, left: (usize, usize), right: (usize, usize)) -> bool {
    match (grid.get(&left), grid.get(&right)) {
        (Some(a), Some(b)) => a.estimate.asked_as(&b.estimate),
        (None, _) | (_, None) => false,
    }
}

/// Marks the best of a column, or those that tie for it. `false` where the rows answered different questions.
fn mark(grid: &mut Grid, column: usize, shown: Value) -> bool {
    let present: Vec<usize> = grid.keys().filter(|(_, c)| *c == column).map(|(row, _)| *row).collect();
    if present.len() < 2 {
        return true;
    }
    if !present.iter().all(|row| comparable(grid, (*row, column), (present[0], column))) {
        return false;
    }
    let best = best_row(grid, &present, column, shown).expect("at least two rows are there");
    let told_apart = |row: usize| {
        let (low, high) = difference(grid, (best, column), (row, column), shown).interval;
        low > 0.0 || high < 0.0
    };
    let tied: Vec<usize> = present.into_iter().filter(|row| *row == best || !told_apart(*row)).collect();
    let mark = if tied.len() == 1 { Mark::Best } else { Mark::Tied };
    for row in tied {
        if let Some(estimated) = grid.get_mut(&(row, column)) {
            estimated.cell.mark = mark;
        }
    }
    true
}

/// The row with the best mean among some; the first of equals.
fn best_row(grid: &Grid, rows: &[usize], column: usize, shown: Value) -> Option<usize> {
    let sign = if shown.higher_is_better() { 1.0 } else { -1.0 };
    let value = |row: usize| grid.get(&(row, column)).map(|estimated| sign * estimated.cell.mean);
    let present = rows.iter().filter_map(|row| Some((*row, value(*row)?)));
    present.reduce(|best, next| if next.1 > best.1 { next } else { best }).map(|(row, _)| row)
}

fn check_claim(
    name: &str,
    claim: &Claim,
    params: &ReportParams,
    rows: &[String],
    columns: &[String],
    grid: &Grid,
) -> ClaimResult {
    let side = |text: &str| -> ((usize, usize), Side) {
        let (which, column) =
            expression::parse(text, rows, Some(columns)).expect("names are checked when results are read");
        let among: Vec<usize> = match which {
            Rows::One(row) => vec![row],
            Rows::All => (0..rows.len()).collect(),
            Rows::Baselines => {
                let baselines = params.baselines.iter().flatten();
                baselines.filter_map(|name| rows.iter().position(|row| row == name)).collect()
            }
        };
        let row = best_row(grid, &among, column, params.value).unwrap_or(among[0]);
        let mean = grid.get(&(row, column)).map(|estimated| estimated.cell.mean);
        let side = Side {
            expression: text.to_owned(),
            row: rows[row].clone(),
            column: columns[column].clone(),
            mean,
        };
        ((row, column), side)
    };
    let (left_place, left) = side(&claim.left);
    let (right_place, right) = side(&claim.right);
    let at_least = claim.at_least / params.value.scale();
    let missing = |side: &Side| format!("`{}` in `{}` is missing", side.row, side.column);
    let compared = match (grid.get(&left_place), grid.get(&right_place)) {
        (None, _) => Err(missing(&left)),
        (_, None) => Err(missing(&right)),
        (Some(_), Some(_)) if left_place.1 == right_place.1 && !comparable(grid, left_place, right_place) => {
            Err("the two answered different questions".to_owned())
        }
        (Some(_), Some(_)) => Ok(difference(grid, left_place, right_place, params.value)),
    };
    let verdict = match &compared {
        Ok(difference) if difference.interval.0 > at_least => Verdict::Reproduced,
        Ok(difference) if difference.interval.1 < at_least => Verdict::NotReproduced,
        Ok(_) | Err(_) => Verdict::Undecided,
    };
    let (difference, problem) = match compared {
        Ok(difference) => (Some(difference), None),
        Err(problem) => (None, Some(problem)),
    };
    ClaimResult { name: name.to_owned(), left, right, at_least, difference, verdict, problem }
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
