//! One line a cell, for spreadsheets and scripts; numbers unrounded, rates as fractions of 1, missing cells empty.

use crate::{Mark, TableData};

pub(super) fn render(table: &TableData) -> String {
    let mut writer = csv::Writer::from_writer(Vec::new());
    let value = table.value.to_string();
    let header = [
        table.rows_axis.as_str(),
        table.columns_axis.as_str(),
        value.as_str(),
        "standard_deviation",
        "low",
        "high",
        "n",
        "questions",
        "unparsed",
        "truncated",
        "undecided",
        "difference",
        "difference_low",
        "difference_high",
        "mark",
    ];
    let mut write = |record: &[String]| writer.write_record(record).expect("a vector takes every record");
    write(&header.map(str::to_owned));
    for row in &table.rows {
        for (column, cell) in table.columns.iter().zip(&row.cells) {
            let mut record = vec![row.name.clone(), column.name.clone()];
            if let Some(cell) = cell {
                let number = |value: Option<f64>| value.map(|value| value.to_string()).unwrap_or_default();
                let difference = cell.difference.as_ref();
                let interval = difference.map(|difference| difference.interval);
                record.extend([
                    cell.mean.to_string(),
                    number(cell.standard_deviation),
                    cell.interval.0.to_string(),
                    cell.interval.1.to_string(),
                    cell.runs.len().to_string(),
                    cell.questions.to_string(),
                    number(cell.unparsed),
                    number(cell.truncated),
                    number(cell.undecided),
                    number(difference.map(|difference| difference.value)),
                    number(interval.map(|(low, _)| low)),
                    number(interval.map(|(_, high)| high)),
                    match cell.mark {
                        Mark::None => String::new(),
                        Mark::Best => "best".to_owned(),
                        Mark::Tied => "tied".to_owned(),
                    },
                ]);
            }
            record.resize(header.len(), String::new());
            write(&record);
        }
    }
    let bytes = writer.into_inner().expect("a vector takes every record");
    String::from_utf8(bytes).expect("made from text")
}
