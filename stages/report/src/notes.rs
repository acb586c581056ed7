//! The sentences under a table: how its numbers are made, and what a reader should know before believing them.

use crate::{Cell, Mark, Row, TableData};

/// How the numbers are made; `one_base` as in [`crate::ReportParams`].
pub(crate) fn explain(table: &TableData, one_base: bool) -> Vec<String> {
    let cells = || table.rows.iter().flat_map(|row| row.cells.iter().flatten());
    let n = |row: &Row| row.cells.iter().flatten().map(|cell| cell.runs.len()).max();
    let most = table.rows.iter().filter_map(n).max().unwrap_or_default();
    let mut fewer: Vec<String> = Vec::new();
    for row in &table.rows {
        if let Some(n) = n(row).filter(|n| *n < most) {
            fewer.push(format!("{} {n}", row.name));
        }
    }
    let fewer = if fewer.is_empty() { String::new() } else { format!(" ({})", fewer.join(", ")) };
    let over = &table.over;
    let interval = match (table.value.is_rate(), most > 1) {
        (true, false) => "Wilson's over questions",
        (true, true) => {
            "Wilson's over questions, widened where there are several runs to hold Student's over questions and runs"
        }
        (false, false) => "Student's over questions",
        (false, true) => "Student's over questions and, where there are several, runs",
    };
    let mut notes = vec![format!("[ ] 95 % interval: {interval}")];
    if most > 1 {
        notes.insert(0, format!("± sample standard deviation over `{over}`, n = {most}{fewer}"));
    } else {
        notes.push(format!("one run a cell: nothing here says how another `{over}` would come out"));
    }
    if one_base && most > 1 {
        notes.push(format!(
            "every `{over}` starts from one base student: no interval says how another would come out"
        ));
    }
    if table.rows.iter().any(|row| !row.published.is_empty()) {
        notes.push(
            "published: given in the recipe, measured elsewhere; compared with nothing here".to_owned(),
        );
    }
    if table.rows.iter().any(|row| row.training_tokens.is_some()) {
        notes.push("training tokens: target tokens a student was trained on, mean over trainings".to_owned());
    }
    if let Some(row) = &table.relative_to {
        notes.push(format!("( ) difference to {row}"));
    }
    let better = if table.value.higher_is_better() { "higher" } else { "lower" };
    let marked = |mark: Mark| cells().any(|cell| cell.mark == mark);
    if marked(Mark::Best) {
        notes.push(format!("* best: {better} than every other row beyond chance"));
    }
    if marked(Mark::Tied) {
        notes.push("= tied: the best row and those not told apart from it".to_owned());
    }
    if marked(Mark::Best) || marked(Mark::Tied) || !table.claims.is_empty() {
        let single = table.rows.iter().filter_map(n).any(|runs| runs == 1);
        notes.push(sampled(most, single).to_owned());
        notes.push("marks and claims are not corrected for the number of comparisons".to_owned());
    }
    notes
}

/// What intervals of differences sample, where a row has `most` runs and some have a `single` one.
fn sampled(most: usize, single: bool) -> &'static str {
    match (most > 1, single) {
        (false, _) => {
            "beyond chance: the 95 % interval of the difference excludes 0; it samples questions, paired, and no runs"
        }
        (true, false) => {
            "beyond chance: the 95 % interval of the difference excludes 0; it samples questions, paired, and the runs of each row \
             independently"
        }
        (true, true) => {
            "beyond chance: the 95 % interval of the difference excludes 0; it samples questions, paired, and the runs of each row \
             independently, of a row with one run the questions alone"
        }
    }
}

/// What a reader should know before believing the table.
pub(crate) fn beware(table: &TableData) -> Vec<String> {
    let mut notes = Vec::new();
    if table.profiles.len() > 1 {
        notes.push(format!("beware: scored under different profiles: {}", table.profiles.join(", ")));
    }
    let (mut missing, mut fewer) = (Vec::new(), Vec::new());
    for row in &table.rows {
        let most = row.cells.iter().flatten().map(|cell| cell.runs.len()).max().unwrap_or_default();
        for (column, cell) in table.columns.iter().zip(&row.cells) {
            match cell {
                None => missing.push(format!("{} in {}", row.name, column.name)),
                Some(cell) if cell.runs.len() < most => {
                    fewer.push(format!("{} in {} ({} of {most})", row.name, column.name, cell.runs.len()));
                }
                Some(_) => {}
            }
        }
    }
    for (what, cells) in [("– missing", missing), ("fewer runs", fewer)] {
        if !cells.is_empty() {
            notes.push(format!("{what}: {}", cells.join("; ")));
        }
    }
    let mut widths = Vec::new();
    for (place, column) in table.columns.iter().enumerate() {
        let cells = table.rows.iter().filter_map(|row| row.cells[place].as_ref());
        let means: Vec<f64> = cells.map(|cell| cell.mean).collect();
        if table.value.is_rate() && column.mean_of.is_empty() && (1..500).contains(&column.questions) {
            let (low, high) = statistics::wilson(statistics::mean(&means), column.questions);
            widths.push(format!("{} {:.1}", column.name, 50.0 * (high - low)));
        }
    }
    if !widths.is_empty() {
        notes.push(format!("few questions: 95 % interval of one run, ± points: {}", widths.join(", ")));
    }
    let rates = |name: &str, of: fn(&Cell) -> Option<f64>| {
        let mut rows = Vec::new();
        for row in &table.rows {
            let cells = row.cells.iter().zip(&table.columns).filter(|(_, column)| column.mean_of.is_empty());
            let rates: Vec<f64> = cells.filter_map(|(cell, _)| of(cell.as_ref()?)).collect();
            if statistics::mean(&rates) > 0.0 {
                rows.push(format!("{} {:.1}", row.name, 100.0 * statistics::mean(&rates)));
            }
        }
        let rows = if rows.is_empty() { "none".to_owned() } else { rows.join(", ") };
        format!("{name} answers, %: {rows}")
    };
    notes.push(rates("unparsed", |cell| cell.unparsed));
    notes.push(rates("truncated", |cell| cell.truncated));
    // Few profiles leave any answer undecided.
    if table.rows.iter().flat_map(|row| row.cells.iter().flatten()).any(|cell| cell.undecided > Some(0.0)) {
        notes.push(rates("undecided", |cell| cell.undecided));
    }
    notes
}
