//! Reads `scores` artifacts and sorts them into the cells of a table.

use std::collections::{BTreeMap, BTreeSet, btree_map::Entry};

use contract::{
    Context, Digest, Input, StageError, jsonl,
    records::{self, Metric, Prediction, Sampled, Scores},
};

use crate::{
    ReportParams, Value,
    names::{self, NameError},
};

/// Results by (row, column), with rows and columns in the order of the table.
pub(crate) struct Results {
    pub(crate) rows: Vec<String>,
    pub(crate) columns: Vec<String>,
    pub(crate) cells: BTreeMap<(usize, usize), Vec<Outcome>>,
    pub(crate) profiles: Vec<String>,
    /// Target tokens of each training behind a row.
    pub(crate) training_tokens: BTreeMap<usize, Vec<f64>>,
}

/// One run.
pub(crate) struct Outcome {
    /// Its label on the axis averaged over.
    pub(crate) over: Option<String>,
    pub(crate) scores: Scores,
    /// The value shown, of the run as a whole.
    pub(crate) value: f64,
    /// The value shown, of each question, in the order of ids.
    pub(crate) answers: Vec<f64>,
    /// Which questions were asked.
    pub(crate) questions: Digest,
}

/// Why results do not make a table.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ResultsError {
    #[error("a result of stage `{stage}` has no value on axis `{axis}`")]
    NoLabel { stage: String, axis: String },
    #[error("two results share row `{row}`, column `{column}` and {over}")]
    Twice { row: String, column: String, over: String },
    #[error("a result of stage `{stage}` has no value `{value}`")]
    NoValue { stage: String, value: Value },
    #[error("a result of stage `{stage}` counts {questions} questions but holds {predictions} predictions")]
    Count { stage: String, questions: usize, predictions: usize },
    #[error("a result of stage `{stage}` holds no questions")]
    Empty { stage: String },
    #[error("a result of stage `{stage}` holds one question, too few for an interval of `{value}`")]
    OneQuestion { stage: String, value: Value },
    #[error("metrics of stage `{stage}` do not count `tokens`")]
    NoTokens { stage: String },
}

/// Reads every input.
pub(crate) fn read(params: &ReportParams, context: &Context) -> Result<Results, StageError> {
    let inputs = context.inputs("scores");
    let mut results = Results {
        rows: Vec::new(),
        columns: Vec::new(),
        cells: BTreeMap::new(),
        profiles: Vec::new(),
        training_tokens: BTreeMap::new(),
    };
    let mut labels: BTreeMap<(usize, usize, Option<String>), &Input> = BTreeMap::new();
    results.rows.extend(params.relative_to.clone());
    let mut names = (BTreeSet::new(), BTreeSet::new());
    for input in inputs {
        let scores: Scores = jsonl::read_json(&input.file(records::files::SCORES))?;
        names.0.insert(label(input, &params.rows, &scores)?);
        names.1.insert(label(input, &params.columns, &scores)?);
    }
    for name in &params.order {
        for (there, places) in [(&names.0, &mut results.rows), (&names.1, &mut results.columns)] {
            if there.contains(name) {
                place(places, name.clone());
            }
        }
    }
    for (done, input) in inputs.iter().enumerate() {
        context.check_cancelled()?;
        context.progress(done, inputs.len(), "results");
        let scores: Scores = jsonl::read_json(&input.file(records::files::SCORES))?;
        let row = label(input, &params.rows, &scores)?;
        let row = place(&mut results.rows, row);
        let column = label(input, &params.columns, &scores)?;
        let column = place(&mut results.columns, column);
        let over = input.labels.get(&params.over).cloned();
        match labels.entry((row, column, over.clone())) {
            Entry::Vacant(free) => {
                free.insert(input);
            }
            Entry::Occupied(first) => {
                let over = over.map_or_else(
                    || format!("have no `{}`", params.over),
                    |value| format!("`{}` {value}", params.over),
                );
                let (row, column) = (results.rows[row].clone(), results.columns[column].clone());
                let error = StageError::failed(ResultsError::Twice { row, column, over });
                return Err(error.with_help(how_they_differ(first.get(), input)));
            }
        }
        if !results.profiles.contains(&scores.profile) {
            results.profiles.push(scores.profile.clone());
        }
        let outcome = outcome(params, input, scores, over)?;
        results.cells.entry((row, column)).or_default().push(outcome);
    }
    context.progress(inputs.len(), inputs.len(), "results");
    // The row compared with stands first, whether it is there or not.
    let missing = params.relative_to.is_some() && !results.cells.keys().any(|(row, _)| *row == 0);
    let rows = &results.rows[usize::from(missing)..];
    if let Some((_, error)) = names::check(params, Some(rows), Some(&results.columns)).into_iter().next() {
        return Err(StageError::failed(error));
    }
    for input in context.inputs("metrics") {
        let row = names::row_of_metrics(params, &input.stage, &input.labels);
        let Some(place) = results.rows.iter().position(|name| name == row) else {
            let error = NameError::NoRow { stage: input.stage.clone(), row: row.to_owned() };
            return Err(StageError::failed(error));
        };
        results.training_tokens.entry(place).or_default().push(tokens(input)?);
    }
    Ok(results)
}

/// The target tokens of a training; none where nothing was trained.
fn tokens(input: &Input) -> Result<f64, StageError> {
    let steps: Vec<Metric> = jsonl::read(&input.file(records::files::METRICS))?;
    let tokens: Option<Vec<f64>> = steps.iter().map(|step| step.values.get("tokens").copied()).collect();
    let tokens = tokens.ok_or_else(|| ResultsError::NoTokens { stage: input.stage.clone() });
    // An empty sum is -0.
    Ok(tokens.map_err(StageError::failed)?.iter().fold(0.0, |sum, tokens| sum + tokens))
}

fn place(names: &mut Vec<String>, name: String) -> usize {
    names.iter().position(|known| *known == name).unwrap_or_else(|| {
        names.push(name);
        names.len() - 1
    })
}

/// The value of a result on an axis. Without one, the task measured on stands for `task`, and the stage for others.
fn label(input: &Input, axis: &str, scores: &Scores) -> Result<String, StageError> {
    let task = (axis == "task").then_some(&scores.task);
    input.labels.get(axis).or(task).or(input.labels.get("stage")).cloned().ok_or_else(|| {
        let axes: Vec<&str> = input.labels.keys().map(String::as_str).collect();
        let error = ResultsError::NoLabel { stage: input.stage.clone(), axis: axis.to_owned() };
        StageError::failed(error).with_help(format!("it has values on: {}", axes.join(", ")))
    })
}

fn how_they_differ(a: &Input, b: &Input) -> String {
    let differs = |axis: &&String| a.labels.get(*axis) != b.labels.get(*axis);
    let mut axes: Vec<&str> =
        a.labels.keys().chain(b.labels.keys()).filter(differs).map(String::as_str).collect();
    axes.sort_unstable();
    axes.dedup();
    if axes.is_empty() {
        return format!(
            "they are results of stages `{}` and `{}`; name one of them in `from`",
            a.stage, b.stage
        );
    }
    format!("they differ on `{}`; make it the rows, the columns or `over`", axes.join("`, `"))
}

fn outcome(
    params: &ReportParams,
    input: &Input,
    scores: Scores,
    over: Option<String>,
) -> Result<Outcome, StageError> {
    let path = input.file(records::files::PREDICTIONS);
    let mut predictions: Vec<Prediction> = jsonl::read(&path)?;
    if predictions.len() != scores.questions {
        let (stage, questions) = (input.stage.clone(), scores.questions);
        let error = ResultsError::Count { stage, questions, predictions: predictions.len() };
        return Err(StageError::failed(error));
    }
    if predictions.is_empty() {
        return Err(StageError::failed(ResultsError::Empty { stage: input.stage.clone() }));
    }
    if predictions.len() == 1 && !params.value.is_rate() {
        let error = ResultsError::OneQuestion { stage: input.stage.clone(), value: params.value };
        return Err(StageError::failed(error).with_help("test on two questions or more"));
    }
    let Some(&value) = scores.values.get(&params.value.to_string()) else {
        let known: Vec<&str> = scores.values.keys().map(String::as_str).collect();
        let error = ResultsError::NoValue { stage: input.stage.clone(), value: params.value };
        return Err(StageError::failed(error).with_help(format!("it has: {}", known.join(", "))));
    };
    predictions.sort_by(|a, b| a.id.cmp(&b.id));
    let ids: Vec<&str> = predictions.iter().map(|prediction| prediction.id.as_str()).collect();
    let questions = Digest::of_json(&(&scores.task, ids));
    let of_answers = |of: &dyn Fn(&Prediction) -> f64| Ok(predictions.iter().map(of).collect());
    let answers = match params.value {
        Value::Accuracy => of_answers(&|answer| f64::from(answer.correct)),
        Value::Unparsed => of_answers(&|answer| f64::from(answer.extracted.is_none())),
        Value::Truncated => of_answers(&|answer| f64::from(answer.truncated)),
        Value::Undecided => of_answers(&|answer| f64::from(answer.undecided)),
        Value::Tokens => of_answers(&|answer| answer.tokens as f64),
        Value::PassAt(_) | Value::MajorityOf(_) => sampled(params.value, input, predictions.len()),
    }?;
    Ok(Outcome { over, scores, value, answers, questions })
}

/// A value of sampled answers, of each question, in the order of ids.
fn sampled(value: Value, input: &Input, questions: usize) -> Result<Vec<f64>, StageError> {
    let mut sampled: Vec<Sampled> = jsonl::read(&input.file(records::files::SAMPLED))?;
    if sampled.len() != questions {
        let (stage, predictions) = (input.stage.clone(), sampled.len());
        return Err(StageError::failed(ResultsError::Count { stage, questions, predictions }));
    }
    sampled.sort_by(|a, b| a.id.cmp(&b.id));
    let name = value.to_string();
    let of_question = |question: &Sampled| question.values.get(&name).copied();
    sampled
        .iter()
        .map(of_question)
        .collect::<Option<_>>()
        .ok_or_else(|| StageError::failed(ResultsError::NoValue { stage: input.stage.clone(), value }))
}
