//! A LaTeX `table` that needs `booktabs`: bold is best, a raised `=` is tied.

use super::{MISSING, Shown, tokens};
use crate::{Cell, Mark, TableData};

pub(super) fn render(table: &TableData) -> String {
    let layout = table.layout();
    let title = table.title.as_ref().map(|title| format!("{}: ", escaped(title))).unwrap_or_default();
    let mut lines = vec![
        "% needs \\usepackage{booktabs}".to_owned(),
        "\\begin{table}".to_owned(),
        "\\centering".to_owned(),
        format!("\\caption{{{title}{}}}", escaped(&table.caption())),
        format!("\\begin{{tabular}}{{l{}}}", "r".repeat(layout.len())),
        "\\toprule".to_owned(),
        row(&table.rows_axis, layout.iter().map(|shown| escaped(&table.heading(*shown)))),
        "\\midrule".to_owned(),
    ];
    for own in &table.rows {
        let cell = |shown: &Shown| match *shown {
            Shown::Results(place) => show(table, own.cells[place].as_ref()),
            Shown::Published(place) => escaped(&table.published(own, place)),
            Shown::Tokens => escaped(&tokens(own)),
        };
        lines.push(row(&own.name, layout.iter().map(cell)));
        let interval = |shown: &Shown| match *shown {
            Shown::Results(place) => own.cells[place].as_ref().map_or_else(String::new, |cell| {
                format!("{{\\scriptsize {}}}", table.range(cell.interval).replace('-', "$-$"))
            }),
            Shown::Published(_) | Shown::Tokens => String::new(),
        };
        let intervals = layout.iter().map(interval);
        lines.push(row("", intervals));
    }
    lines.push("\\midrule".to_owned());
    lines.push(row("questions", layout.iter().map(|shown| table.questions(*shown))));
    lines.extend(
        ["\\bottomrule", "\\end{tabular}", "", "\\smallskip", "\\raggedright\\footnotesize"]
            .map(str::to_owned),
    );
    for note in &table.notes {
        let note = escaped(&note.replacen("* best:", "bold:", 1));
        lines.push(format!("{note}.\\\\"));
    }
    for claim in &table.claims {
        let evidence = escaped(&table.evidence(claim));
        lines.push(format!("{}: {} ({evidence}).\\\\", escaped(&claim.name), claim.verdict));
    }
    lines.push("\\end{table}".to_owned());
    lines.join("\n") + "\n"
}

fn row(name: &str, cells: impl Iterator<Item = String>) -> String {
    format!("{} & {} \\\\", escaped(name), cells.collect::<Vec<_>>().join(" & "))
}

fn show(table: &TableData, cell: Option<&Cell>) -> String {
    let Some(cell) = cell else { return escaped(MISSING) };
    let mean = match cell.mark {
        Mark::None => escaped(&table.mean(cell)),
        Mark::Best => format!("\\textbf{{{}}}", escaped(&table.mean(cell))),
        Mark::Tied => format!("{}$^{{=}}$", escaped(&table.mean(cell))),
    };
    match &cell.difference {
        Some(difference) => {
            let difference = table.signed(difference.value);
            format!("{mean} {{\\scriptsize (${difference}$)}}")
        }
        None => mean,
    }
}

fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' | '%' | '$' | '#' | '_' | '{' | '}' => {
                escaped.push('\\');
                escaped.push(c);
            }
            '~' => escaped.push_str("\\textasciitilde{}"),
            '^' => escaped.push_str("\\textasciicircum{}"),
            '\\' => escaped.push_str("\\textbackslash{}"),
            '±' => escaped.push_str("$\\pm$"),
            '–' => escaped.push_str("--"),
            '`' => escaped.push('\''),
            c => escaped.push(c),
        }
    }
    escaped
}
