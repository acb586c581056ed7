//! Aligned plain text: two lines a row, and as many blocks of columns as the width asks for.

use super::{MISSING, Shown, sign, tokens};
use crate::{Cell, TableData};

/// Widest line of a table, in characters.
const WIDTH: usize = 96;
/// Between two columns.
const GAP: usize = 2;

pub(super) fn render(table: &TableData) -> String {
    let mut text = String::new();
    let mut line = |words: &str| {
        text.push_str(words.trim_end());
        text.push('\n');
    };
    line(table.title.as_deref().unwrap_or_default());
    line(&table.caption());
    for block in blocks(table) {
        line("");
        for words in block {
            line(&words);
        }
    }
    line("");
    for note in &table.notes {
        wrapped(note, "", &mut line);
    }
    if !table.claims.is_empty() {
        line("");
        line("claims");
    }
    for claim in &table.claims {
        wrapped(&format!("{}: {}", claim.name, claim.verdict), "  ", &mut line);
        wrapped(&table.evidence(claim), "    ", &mut line);
    }
    text.trim_start_matches('\n').to_owned()
}

/// The table's lines, one block for as many columns as fit beside the row names.
fn blocks(table: &TableData) -> Vec<Vec<String>> {
    let mut names = vec![table.rows_axis.clone(), String::new()];
    for row in &table.rows {
        names.extend([row.name.clone(), String::new()]);
    }
    names.push("questions".to_owned());
    let names = padded(names);
    let columns: Vec<Vec<String>> = table.layout().into_iter().map(|shown| column(table, shown)).collect();

    let mut blocks: Vec<Vec<String>> = Vec::new();
    for column in columns {
        let width = GAP + column[0].chars().count();
        let fits = blocks.last().is_some_and(|block| block[0].chars().count() + width <= WIDTH);
        if !fits {
            blocks.push(names.clone());
        }
        let block = blocks.last_mut().expect("one was just pushed if there was none");
        for (line, words) in block.iter_mut().zip(&column) {
            line.push_str(&" ".repeat(GAP));
            line.push_str(words);
        }
    }
    for block in &mut blocks {
        block[1] = "-".repeat(block[0].chars().count());
    }
    blocks
}

/// One column's lines, padded to one width.
fn column(table: &TableData, shown: Shown) -> Vec<String> {
    let mut lines = vec![table.heading(shown), String::new()];
    for row in &table.rows {
        lines.extend(match shown {
            Shown::Results(place) => row.cells[place].as_ref().map_or_else(
                || [MISSING.to_owned(), String::new()],
                |cell| [first(table, cell), table.range(cell.interval)],
            ),
            Shown::Published(place) => [table.published(row, place), String::new()],
            Shown::Tokens => [tokens(row), String::new()],
        });
    }
    lines.push(table.questions(shown));
    padded(lines)
}

/// `62.1 ± 1.2 (+3.3) *`.
fn first(table: &TableData, cell: &Cell) -> String {
    let mut words = table.mean(cell);
    if let Some(difference) = &cell.difference {
        words.push_str(&format!(" ({})", table.signed(difference.value)));
    }
    if !sign(cell.mark).is_empty() {
        words.push(' ');
        words.push_str(sign(cell.mark));
    }
    words
}

fn padded(lines: Vec<String>) -> Vec<String> {
    let width = lines.iter().map(|line| line.chars().count()).max().unwrap_or_default();
    lines.into_iter().map(|line| format!("{line:width$}")).collect()
}

/// Breaks a sentence between words; lines after the first are indented two more.
fn wrapped(sentence: &str, indent: &str, line: &mut impl FnMut(&str)) {
    let mut current = indent.to_owned();
    for word in sentence.split(' ') {
        let fresh = current.trim_start().is_empty();
        if !fresh && current.chars().count() + 1 + word.chars().count() > WIDTH {
            line(&current);
            current = format!("{indent}  {word}");
        } else {
            if !fresh {
                current.push(' ');
            }
            current.push_str(word);
        }
    }
    line(&current);
}
