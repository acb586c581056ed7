//! GitHub Markdown: bold is best, `=` is tied.

use super::{MISSING, Shown, tokens};
use crate::{Cell, Mark, TableData};

pub(super) fn render(table: &TableData) -> String {
    let mut text = String::new();
    if let Some(title) = &table.title {
        text.push_str(&format!("**{}**\n\n", escaped(title)));
    }
    text.push_str(&format!("{}\n\n", escaped(&table.caption())));
    let mut line = |cells: Vec<String>| text.push_str(&format!("| {} |\n", cells.join(" | ")));
    let layout = table.layout();
    let first = |name: &str| vec![escaped(name)];
    let headings = layout.iter().map(|shown| escaped(&table.heading(*shown))).collect();
    line([first(&table.rows_axis), headings].concat());
    line([vec!["---".to_owned()], vec!["---:".to_owned(); layout.len()]].concat());
    for row in &table.rows {
        let cell = |shown: &Shown| match *shown {
            Shown::Results(place) => show(table, row.cells[place].as_ref()),
            Shown::Published(place) => table.published(row, place),
            Shown::Tokens => tokens(row),
        };
        let cells = layout.iter().map(cell).collect();
        line([first(&row.name), cells].concat());
    }
    let questions = layout.iter().map(|shown| table.questions(*shown)).collect();
    line([first("questions"), questions].concat());
    text.push('\n');
    for note in &table.notes {
        // Here the best is bold, and only the tied have a sign.
        text.push_str(&format!("- {}\n", escaped(&note.replacen("* best:", "bold:", 1))));
    }
    if !table.claims.is_empty() {
        text.push_str("\n| claim | | evidence |\n| --- | --- | --- |\n");
    }
    for claim in &table.claims {
        let evidence = escaped(&table.evidence(claim));
        text.push_str(&format!("| {} | {} | {evidence} |\n", escaped(&claim.name), claim.verdict));
    }
    text
}

fn show(table: &TableData, cell: Option<&Cell>) -> String {
    let Some(cell) = cell else { return MISSING.to_owned() };
    let mean = match cell.mark {
        Mark::None => table.mean(cell),
        Mark::Best => format!("**{}**", table.mean(cell)),
        Mark::Tied => format!("{} =", table.mean(cell)),
    };
    let difference =
        cell.difference.as_ref().map(|difference| format!(" ({})", table.signed(difference.value)));
    format!("{mean}{}<br>{}", difference.unwrap_or_default(), table.range(cell.interval))
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '|' | '*' | '_' | '<' | '>' | '\\' | '[' | ']') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
