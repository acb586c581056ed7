//! Question files: reading them and checking every row.

use std::{collections::HashMap, fs, path::Path};

use contract::{Item, StageError, records::Question};
use serde::Deserialize;
use serde_json::Value;
use tasks::{
    AnswerType, DeclaredTask, Task,
    gpqa::{self, Shuffle},
};

use crate::identity::identity;

/// Whose questions a file holds.
#[derive(Clone, Copy)]
pub(crate) enum Source<'p> {
    Known(Task),
    Declared(&'p DeclaredTask),
}

/// What a question file is written in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    JsonLines,
    Csv,
}

impl Format {
    /// By the file's extension.
    pub(crate) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "jsonl" => Some(Self::JsonLines),
            "csv" => Some(Self::Csv),
            _ => None,
        }
    }
}

/// A file without a single row.
#[derive(Debug, thiserror::Error)]
#[error("`{}` holds no questions", .0.display())]
struct Empty(std::path::PathBuf);

/// One row as written; nothing is required yet, so that messages can name what is missing.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Row {
    id: String,
    question: String,
    answer: Value,
    choices: Vec<String>,
    facts: Option<Value>,
}

/// Reads and checks every question of a file.
pub(crate) fn read(path: &Path, source: Source, shuffle: Shuffle) -> Result<Vec<Question>, StageError> {
    let refuse = |line: usize, problem: String| StageError::Record { path: path.to_owned(), line, problem };
    let rows = rows(path, source, shuffle)?;
    let mut lines = HashMap::new();
    let mut questions = Vec::with_capacity(rows.len());
    for (line, row) in rows {
        let question = question(row, source).map_err(|problem| refuse(line, problem))?;
        if let Some(first) = lines.insert(question.id.clone(), line) {
            return Err(refuse(line, format!("id `{}` already stands in line {first}", question.id)));
        }
        questions.push(question);
    }
    if questions.is_empty() {
        return Err(StageError::failed(Empty(path.to_owned())));
    }
    Ok(questions)
}

/// Every question of a file as it is known again elsewhere; whether it can be asked and scored is not checked.
pub(crate) fn items(path: &Path, source: Source, shuffle: Shuffle) -> Result<Vec<Item>, StageError> {
    let rows = rows(path, source, shuffle)?.into_iter();
    let item = |(line, row): (usize, Row)| Item {
        line,
        identity: identity(&row.question, &row.choices),
        id: row.id,
    };
    Ok(rows.filter(|(_, row)| !row.question.trim().is_empty()).map(item).collect())
}

fn rows(path: &Path, source: Source, shuffle: Shuffle) -> Result<Vec<(usize, Row)>, StageError> {
    let text = fs::read_to_string(path).map_err(StageError::io(path))?;
    let rows = match Format::of(path) {
        Some(Format::Csv) if matches!(source, Source::Known(Task::GpqaDiamond)) => gpqa_rows(&text, shuffle),
        Some(Format::Csv) => csv_rows(&text),
        Some(Format::JsonLines) | None => json_rows(&text),
    };
    rows.map_err(|(line, problem)| StageError::Record { path: path.to_owned(), line, problem })
}

type Rows = Result<Vec<(usize, Row)>, (usize, String)>;

fn json_rows(text: &str) -> Rows {
    text.lines()
        .zip(1..)
        .filter(|(line, _)| !line.trim().is_empty())
        .map(|(text, line)| match serde_json::from_str(text) {
            Ok(row) => Ok((line, row)),
            Err(error) => Err((line, error.to_string())),
        })
        .collect()
}

fn csv_rows(text: &str) -> Rows {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    let refuse = |error: csv::Error| {
        let line = error.position().map_or(1, |position| position.line() as usize);
        (line, error.to_string())
    };
    let header = reader.headers().map_err(refuse)?.clone();
    let column = |name: &str| header.iter().position(|column| column.trim() == name);
    let required = |name: &str| column(name).ok_or((1, format!("the header has no column `{name}`")));
    let (id, question, answer) = (required("id")?, required("question")?, required("answer")?);
    let choices = column("choices");
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(refuse)?;
        let line = record.position().map_or(0, |position| position.line() as usize);
        let cell = |index: usize| record.get(index).unwrap_or_default().to_owned();
        let choices = choices.map(cell).filter(|choices| !choices.is_empty());
        rows.push((
            line,
            Row {
                id: cell(id),
                question: cell(question),
                answer: Value::String(cell(answer)),
                choices: choices
                    .map(|choices| choices.split('|').map(str::to_owned).collect())
                    .unwrap_or_default(),
                facts: None,
            },
        ));
    }
    Ok(rows)
}

/// The file of GPQA's authors: the right choice first, to be shuffled.
fn gpqa_rows(text: &str, shuffle: Shuffle) -> Rows {
    let mut reader = csv::Reader::from_reader(text.as_bytes());
    // A message of this library may quote the record, which must not reach a log.
    let refuse = |error: csv::Error| {
        let line = error.position().map_or(1, |position| position.line() as usize);
        (line, "the row is not valid CSV, or has too few or too many columns".to_owned())
    };
    let header = reader.headers().map_err(refuse)?.clone();
    let column = |name: &str| {
        let found = header.iter().position(|column| column.trim() == name);
        found.ok_or_else(|| (1, format!("the header has no column `{name}`")))
    };
    let asked = column("Question")?;
    let mut choices = vec![column("Correct Answer")?];
    for place in 1..=3 {
        choices.push(column(&format!("Incorrect Answer {place}"))?);
    }
    let records = reader.records().collect::<Result<Vec<_>, _>>().map_err(refuse)?;
    let orders = gpqa::permutations(shuffle, records.len());
    let row = |(index, (record, order)): (usize, (csv::StringRecord, [usize; 4]))| {
        let cell = |column: usize| record.get(column).unwrap_or_default().trim().to_owned();
        let right = order.iter().zip('A'..).find(|(choice, _)| **choice == 0);
        let row = Row {
            id: format!("{}-{index:03}", Task::GpqaDiamond),
            question: cell(asked),
            answer: right.map(|(_, letter)| letter.to_string()).into(),
            choices: order.iter().map(|choice| cell(choices[*choice])).collect(),
            facts: Some(serde_json::json!({ "permutation": order })),
        };
        (record.position().map_or(0, |position| position.line() as usize), row)
    };
    Ok(records.into_iter().zip(orders).enumerate().map(row).collect())
}

/// A row that can be asked and scored, or what is wrong with it.
fn question(row: Row, source: Source) -> Result<Question, String> {
    let Row { id, question, answer, choices, facts } = row;
    let answer = match answer {
        Value::String(text) => text.trim().to_owned(),
        Value::Number(number) => number.to_string(),
        Value::Null => String::new(),
        Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
            return Err("`answer` is neither text nor a number".into());
        }
    };
    if id.trim().is_empty() {
        return Err("`id` is missing".into());
    }
    if question.trim().is_empty() {
        return Err("`question` is empty".into());
    }
    if answer.is_empty() {
        return Err("`answer` is missing".into());
    }
    let (lettered, yes_no) = match source {
        Source::Known(task) => {
            (matches!(task, Task::Csqa | Task::GpqaDiamond), matches!(task, Task::Strategyqa))
        }
        Source::Declared(task) => (task.answer == AnswerType::Letter, task.answer == AnswerType::YesNo),
    };
    if lettered && choices.is_empty() {
        return Err("`choices` is missing".into());
    }
    if yes_no && answer != "yes" && answer != "no" {
        return Err(format!("answer `{answer}` is neither `yes` nor `no`"));
    }
    let mut letters = ('A'..='Z').zip(&choices);
    if let Some((letter, _)) = letters.clone().find(|(_, choice)| choice.trim().is_empty()) {
        return Err(format!("choice {letter} is empty"));
    }
    if let Some((last, _)) = letters.clone().last()
        && !letters.any(|(letter, _)| answer == letter.to_string())
    {
        return Err(format!("answer `{answer}` is no letter from A to {last}"));
    }
    let mut question = Question { id, task: String::new(), question, answer, choices, facts };
    match source {
        Source::Declared(task) => task.mark(&mut question),
        Source::Known(task) => task.name().clone_into(&mut question.task),
    }
    if matches!(source, Source::Known(Task::GpqaDiamond)) {
        question.question = gpqa::seal(&question.question);
        question.choices = question.choices.iter().map(|choice| gpqa::seal(choice)).collect();
    }
    Ok(question)
}
