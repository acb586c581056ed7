//! What was written: answers of students side by side, and the teacher's rationales with what the judge made of them.
//!
//! Only some questions are shown, those where distillation changed the answer first, and of each row one run; the
//! counts are over all questions of that run.

use std::{
    collections::{BTreeMap, HashMap},
    path::PathBuf,
};

use contract::{
    ArtifactType, StageError, jsonl,
    records::{self, Prediction, Question, QuestionRationales, Scores},
};
use serde::{Deserialize, Serialize};

use super::{CellFacts, Facts, outcome::Axes, text::short};

/// Questions shown of each column.
const QUESTIONS: usize = 24;
/// Questions whose rationales are shown.
const RATIONALES: usize = 16;
/// The predictions' share of the page, bytes.
const BUDGET: usize = 700_000;
/// The name of the artifact in which a judge says what became of each completion.
pub(super) const JUDGEMENTS: &str = "judgements";

/// The answers to the questions of one column.
#[derive(Serialize)]
pub(super) struct Column {
    name: String,
    /// The row the others are compared with.
    baseline: Option<String>,
    /// The run shown, as `seed 1`.
    over: Option<String>,
    rows: Vec<Counts>,
    questions: Vec<Shown>,
    left_out: usize,
}

/// What became of the questions of one row, against the baseline.
#[derive(Default, Serialize)]
struct Counts {
    row: String,
    right: usize,
    wrong: usize,
    /// Wrong before, right now.
    gained: usize,
    /// Right before, wrong now.
    lost: usize,
}

/// A question with every row's answer.
#[derive(Serialize)]
struct Shown {
    id: String,
    question: Option<String>,
    gold: Option<String>,
    /// `gained`, `lost`, `right`, `wrong`, or `mixed`.
    change: &'static str,
    answers: Vec<Answer>,
}

#[derive(Serialize)]
struct Answer {
    row: String,
    text: String,
    extracted: Option<String>,
    correct: bool,
    truncated: bool,
    baseline: bool,
}

/// The answers of one row to the questions of one column.
struct Answers {
    row: String,
    cell: usize,
    by_id: BTreeMap<String, Prediction>,
}

/// Scores of one column by row: cell, folder and label on the axis averaged over.
type ByRow<'f> = BTreeMap<String, Vec<(Option<&'f String>, usize, &'f PathBuf)>>;

pub(super) fn predictions(facts: &Facts, axes: &Axes) -> Result<Vec<Column>, StageError> {
    let mut columns: Vec<(String, ByRow<'_>)> = Vec::new();
    for (place, cell, folder) in facts.artifacts(ArtifactType::Scores) {
        let scores: Scores = jsonl::read_json(&folder.join(records::files::SCORES))?;
        let column = cell.axes.get(&axes.columns).unwrap_or(&scores.task).clone();
        let row = cell.axes.get(&axes.rows).unwrap_or(&cell.stage).clone();
        let at = columns.iter().position(|(name, _)| *name == column).unwrap_or_else(|| {
            columns.push((column, ByRow::new()));
            columns.len() - 1
        });
        columns[at].1.entry(row).or_default().push((cell.axes.get(&axes.over), place, folder));
    }
    let budget = BUDGET / columns.len().max(1);
    columns.into_iter().map(|(name, rows)| column(facts, axes, name, &rows, budget)).collect()
}

fn column(
    facts: &Facts,
    axes: &Axes,
    name: String,
    rows: &ByRow<'_>,
    budget: usize,
) -> Result<Column, StageError> {
    // The first run that there is; a row without it shows its own first.
    let over = rows.values().flatten().find_map(|(over, _, _)| *over);
    let mut all = Vec::new();
    for (row, runs) in rows {
        let Some((_, cell, folder)) = runs.iter().find(|(own, _, _)| *own == over).or(runs.first()) else {
            continue;
        };
        let predictions: Vec<Prediction> = jsonl::read(&folder.join(records::files::PREDICTIONS))?;
        let by_id = predictions.into_iter().map(|prediction| (prediction.id.clone(), prediction)).collect();
        all.push(Answers { row: row.clone(), cell: *cell, by_id });
    }
    all.sort_by_key(|answers| axes.place(&answers.row));
    let base = axes.baseline.as_ref().and_then(|name| all.iter().find(|answers| answers.row == *name));
    let questions = questions(facts, &all)?;
    let ids: Vec<&String> = {
        let mut ids: Vec<&String> = all.iter().flat_map(|answers| answers.by_id.keys()).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    };
    let mut by_change: BTreeMap<&'static str, Vec<&String>> = BTreeMap::new();
    for id in &ids {
        by_change.entry(change(&all, base, id)).or_default().push(id);
    }
    // In turn from each sort of change, so that every sort is there.
    let longest = by_change.values().map(Vec::len).max().unwrap_or_default();
    let chosen =
        (0..longest).flat_map(|at| by_change.iter().filter_map(move |(c, ids)| Some((*c, *ids.get(at)?))));
    let (mut shown, mut size) = (Vec::new(), 0);
    for (change, id) in chosen.take(QUESTIONS) {
        let question = questions.get(id);
        let answer = |answers: &Answers| {
            let prediction = answers.by_id.get(id)?;
            Some(Answer {
                row: answers.row.clone(),
                text: short(&prediction.text),
                extracted: prediction.extracted.as_deref().map(short),
                correct: prediction.correct,
                truncated: prediction.truncated,
                baseline: base.is_some_and(|base| base.row == answers.row),
            })
        };
        let next = Shown {
            id: id.clone(),
            question: question.map(asked),
            gold: question.map(|question| short(&question.answer)),
            change,
            answers: all.iter().filter_map(answer).collect(),
        };
        size += next.answers.iter().map(|answer| answer.text.len() + 300).sum::<usize>();
        if size > budget {
            break;
        }
        shown.push(next);
    }
    let order = ["gained", "lost", "mixed", "right", "wrong"];
    shown.sort_by_key(|question| order.iter().position(|change| *change == question.change));
    Ok(Column {
        name,
        baseline: base.map(|base| base.row.clone()),
        over: over.map(|over| format!("{} {over}", axes.over)),
        rows: all.iter().map(|answers| Counts::of(answers, base)).collect(),
        left_out: ids.len() - shown.len(),
        questions: shown,
    })
}

fn change(all: &[Answers], base: Option<&Answers>, id: &str) -> &'static str {
    let right = |answers: &Answers| answers.by_id.get(id).map(|prediction| prediction.correct);
    let known: Vec<bool> = all.iter().filter_map(right).collect();
    let mixed = known.contains(&true) && known.contains(&false);
    match base.and_then(right) {
        Some(false) if mixed => "gained",
        Some(true) if mixed => "lost",
        None if mixed => "mixed",
        Some(_) | None if known.contains(&true) => "right",
        Some(_) | None => "wrong",
    }
}

impl Counts {
    fn of(answers: &Answers, base: Option<&Answers>) -> Self {
        let mut counts = Self { row: answers.row.clone(), ..Self::default() };
        for (id, prediction) in &answers.by_id {
            let before = base.and_then(|base| base.by_id.get(id)).map(|prediction| prediction.correct);
            counts.right += usize::from(prediction.correct);
            counts.wrong += usize::from(!prediction.correct);
            counts.gained += usize::from(prediction.correct && before == Some(false));
            counts.lost += usize::from(!prediction.correct && before == Some(true));
        }
        counts
    }
}

/// The questions that cells with these answers were asked, by id.
fn questions(facts: &Facts, all: &[Answers]) -> Result<HashMap<String, Question>, StageError> {
    let mut questions = HashMap::new();
    for answers in all {
        for upstream in &facts.cells[answers.cell].upstream {
            for folder in of_type(&facts.cells[*upstream], ArtifactType::Questions) {
                for question in jsonl::read::<Question>(&folder.join(records::files::QUESTIONS))? {
                    questions.entry(question.id.clone()).or_insert(question);
                }
            }
        }
    }
    Ok(questions)
}

fn of_type(cell: &CellFacts, wanted: ArtifactType) -> impl Iterator<Item = &PathBuf> {
    let artifacts = cell.artifacts.iter();
    artifacts.filter(move |artifact| artifact.artifact == wanted).map(|artifact| &artifact.folder)
}

/// A question with its choices.
fn asked(question: &Question) -> String {
    let letters = ('A'..='Z').zip(&question.choices);
    let choices: Vec<String> =
        letters.map(|(letter, choice)| format!("\n({letter}) {}", short(choice))).collect();
    short(&question.question) + &choices.concat()
}

/// Rationales, question by question.
#[derive(Serialize)]
pub(super) struct Rationales {
    questions: Vec<Explained>,
    perspectives: Vec<String>,
    outcomes: Vec<String>,
    left_out: usize,
}

#[derive(Serialize)]
struct Explained {
    id: String,
    question: String,
    gold: String,
    rationales: Vec<Rationale>,
}

#[derive(Serialize)]
struct Rationale {
    perspective: String,
    text: String,
    outcome: String,
    extracted: Option<String>,
}

/// What a judge wrote of one completion, as far as it is shown.
#[derive(Deserialize)]
struct Judgement {
    id: String,
    perspective: String,
    #[serde(default)]
    attempt: u32,
    outcome: String,
    #[serde(default)]
    extracted: Option<String>,
}

/// Completions with what became of them; where there are none, the rationales that were kept.
pub(super) fn rationales(facts: &Facts) -> Result<Option<Rationales>, StageError> {
    let mut judged: HashMap<(String, String, u32), Judgement> = HashMap::new();
    for (_, _, folder) in facts.artifacts(ArtifactType::Other(JUDGEMENTS)) {
        for judgement in jsonl::read::<Judgement>(&folder.join("judgements.jsonl"))? {
            let key = (judgement.id.clone(), judgement.perspective.clone(), judgement.attempt);
            judged.insert(key, judgement);
        }
    }
    let mut all: Vec<QuestionRationales> = Vec::new();
    let sources = [
        (ArtifactType::Completions, records::files::COMPLETIONS),
        (ArtifactType::Rationales, records::files::RATIONALES),
    ];
    for (artifact, file) in sources {
        for (_, _, folder) in facts.artifacts(artifact) {
            if all.is_empty() || artifact == ArtifactType::Completions {
                all.extend(jsonl::read::<QuestionRationales>(&folder.join(file))?);
            }
        }
    }
    if all.is_empty() {
        return Ok(None);
    }
    let every = all.len().div_ceil(RATIONALES);
    let explained = |question: &QuestionRationales| Explained {
        id: question.question.id.clone(),
        question: asked(&question.question),
        gold: short(&question.question.answer),
        rationales: question
            .rationales
            .iter()
            .map(|rationale| {
                let key = (question.question.id.clone(), rationale.perspective.clone(), rationale.attempt);
                let judgement = judged.get(&key);
                Rationale {
                    perspective: rationale.perspective.clone(),
                    text: short(&rationale.text),
                    outcome: judgement.map_or("not judged", |judgement| &judgement.outcome).to_owned(),
                    extracted: judgement.and_then(|judgement| judgement.extracted.as_deref()).map(short),
                }
            })
            .collect(),
    };
    let questions: Vec<Explained> = all.iter().step_by(every).map(explained).collect();
    let distinct = |of: fn(&Rationale) -> &String| {
        let mut names: Vec<String> = Vec::new();
        for name in questions.iter().flat_map(|question| &question.rationales).map(of) {
            if !names.contains(name) {
                names.push(name.clone());
            }
        }
        names
    };
    Ok(Some(Rationales {
        perspectives: distinct(|rationale| &rationale.perspective),
        outcomes: distinct(|rationale| &rationale.outcome),
        left_out: all.len() - questions.len(),
        questions,
    }))
}

/// How many questions of each perspective got how far.
#[derive(Serialize)]
pub(super) struct Funnel {
    cell: String,
    kept: usize,
    asked: usize,
    rationales: usize,
    steps: Vec<&'static str>,
    rows: Vec<FunnelRow>,
    outcomes: Vec<String>,
}

#[derive(Serialize)]
struct FunnelRow {
    perspective: String,
    /// Count, and percent of those asked.
    counts: Vec<(u64, f64)>,
    outcomes: Vec<u64>,
}

/// `funnel.json`, as far as it is shown.
#[derive(Deserialize)]
struct FunnelFile {
    questions: QuestionCounts,
    perspectives: Vec<BTreeMap<String, serde_json::Value>>,
}

#[derive(Deserialize)]
struct QuestionCounts {
    asked: usize,
    kept: usize,
    rationales: usize,
}

const STEPS: [&str; 7] = ["asked", "answered", "right", "deduplicated", "sufficient", "down_sampled", "kept"];

/// Reads what judges kept.
pub(super) fn funnels(facts: &Facts) -> Result<Vec<Funnel>, StageError> {
    let mut funnels = Vec::new();
    for (_, cell, folder) in facts.artifacts(ArtifactType::Other(JUDGEMENTS)) {
        let path = folder.join("funnel.json");
        if !path.is_file() {
            continue;
        }
        let file: FunnelFile = jsonl::read_json(&path)?;
        let mut outcomes: Vec<String> = Vec::new();
        for row in &file.perspectives {
            for outcome in row.get("outcomes").and_then(|value| value.as_object()).into_iter().flatten() {
                if !outcomes.contains(outcome.0) {
                    outcomes.push(outcome.0.clone());
                }
            }
        }
        let row = |row: &BTreeMap<String, serde_json::Value>| {
            let count = |name: &str| row.get(name).and_then(serde_json::Value::as_u64).unwrap_or_default();
            let asked = count("asked").max(1) as f64;
            let share = |name: &&str| (count(name), (1000.0 * count(name) as f64 / asked).round() / 10.0);
            let outcome = |name: &String| {
                row.get("outcomes").and_then(|value| value[name].as_u64()).unwrap_or_default()
            };
            FunnelRow {
                perspective: row.get("perspective").and_then(|name| name.as_str()).unwrap_or("?").to_owned(),
                counts: STEPS.iter().map(share).collect(),
                outcomes: outcomes.iter().map(outcome).collect(),
            }
        };
        let rows = file.perspectives.iter().map(row).collect();
        let QuestionCounts { asked, kept, rationales } = file.questions;
        funnels.push(Funnel {
            cell: cell.name.clone(),
            kept,
            asked,
            rationales,
            steps: STEPS.to_vec(),
            rows,
            outcomes,
        });
    }
    Ok(funnels)
}
