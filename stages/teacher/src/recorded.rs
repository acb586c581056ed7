//! The teacher whose rationales were written before, read from a file.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
};

use contract::{
    Context, StageError,
    records::{Question, Rationale},
};
use serde::Deserialize;

use crate::ByQuestion;

/// Nothing in the file belongs to any question.
#[derive(Debug, thiserror::Error)]
#[error("`{}` holds no rationale for any of the {questions} questions", path.display())]
struct NoneMatch {
    path: PathBuf,
    questions: usize,
}

/// A line of the file; verdicts and other keys in it are not read.
#[derive(Deserialize)]
struct Row {
    id: String,
    question: Option<String>,
    rationales: Vec<RowRationale>,
}

#[derive(Deserialize)]
struct RowRationale {
    perspective: Option<String>,
    teacher: Option<String>,
    attempt: Option<u32>,
    text: String,
    #[serde(default)]
    truncated: bool,
}

/// Joins the file's rationales to the questions by id; returns the perspectives too.
///
/// Without `wanted`, the perspectives are those of the rationales joined: the well-known ones in their usual
/// order, then the others as first met.
pub(crate) fn join(
    path: &Path,
    wanted: Option<&[String]>,
    attempts: u32,
    questions: &[Question],
    context: &Context,
) -> Result<(Vec<String>, ByQuestion), StageError> {
    let refuse = |line: usize, problem: String| StageError::Record { path: path.to_owned(), line, problem };
    let text = fs::read_to_string(path).map_err(StageError::io(path))?;
    let places: HashMap<&str, usize> =
        questions.iter().enumerate().map(|(place, question)| (question.id.as_str(), place)).collect();
    let mut names: Vec<String> = tasks::PERSPECTIVES.iter().map(|name| (*name).to_owned()).collect();
    let mut joined: Vec<BTreeMap<(usize, u32), Rationale>> = vec![BTreeMap::new(); questions.len()];
    let lines = text.lines().count();
    for (line, text) in (1..).zip(text.lines()).filter(|(_, text)| !text.trim().is_empty()) {
        context.check_cancelled()?;
        context.progress(line, lines, "lines");
        let row: Row = serde_json::from_str(text).map_err(|error| refuse(line, error.to_string()))?;
        let Some(&place) = places.get(row.id.as_str()) else { continue };
        if row.question.is_some_and(|text| text != questions[place].question) {
            let problem = format!("the question of `{}` is not the one asked", row.id);
            return Err(refuse(line, problem));
        }
        for rationale in row.rationales {
            let Some(name) = rationale.perspective.as_deref().or(rationale.teacher.as_deref()).map(slug)
            else {
                return Err(refuse(line, "a rationale names neither `perspective` nor `teacher`".into()));
            };
            let rank = names.iter().position(|known| *known == name).unwrap_or_else(|| {
                names.push(name.clone());
                names.len() - 1
            });
            let of_question = &mut joined[place];
            let attempt = rationale.attempt.unwrap_or_else(|| {
                let attempts = of_question.range((rank, 0)..=(rank, u32::MAX));
                attempts.last().map_or(0, |((_, attempt), _)| attempt + 1)
            });
            let record = Rationale {
                perspective: name,
                attempt,
                text: rationale.text,
                truncated: rationale.truncated,
            };
            if let Some(twice) = of_question.insert((rank, attempt), record) {
                let problem = format!("`{}` has attempt {attempt} of `{}` twice", row.id, twice.perspective);
                return Err(refuse(line, problem));
            }
        }
    }

    if joined.iter().all(BTreeMap::is_empty) {
        let error = NoneMatch { path: path.to_owned(), questions: questions.len() };
        return Err(StageError::failed(error).with_help("ids must equal those of the questions"));
    }
    let met: BTreeSet<usize> = joined.iter().flat_map(|of| of.keys().map(|(rank, _)| *rank)).collect();
    let perspectives: Vec<String> = match wanted {
        Some(wanted) => wanted.iter().map(|name| slug(name)).collect(),
        None => met.iter().map(|rank| names[*rank].clone()).collect(),
    };
    let rationales: ByQuestion = joined
        .into_iter()
        .map(|mut of| {
            of.retain(|(_, attempt), _| *attempt < attempts);
            let mut rationales: Vec<Rationale> = of.into_values().collect();
            let rank = |rationale: &Rationale| perspectives.iter().position(|n| *n == rationale.perspective);
            rationales.retain(|rationale| rank(rationale).is_some());
            rationales.sort_by_key(rank);
            rationales
        })
        .collect();
    for name in perspectives.iter().filter(|name| !met.iter().any(|rank| names[*rank] == **name)) {
        context.note(format!("the file has no rationale of perspective `{name}`"));
    }
    let without = rationales.iter().filter(|rationales| rationales.is_empty()).count();
    if without > 0 {
        context.note(format!("{without} of {} questions have no rationale in the file", questions.len()));
    }
    Ok((perspectives, rationales))
}

/// A name in kebab-case: `formal_symbolic` and `GPT-4 (zhou-01)` become `formal-symbolic` and `gpt-4-zhou-01`.
pub(crate) fn slug(name: &str) -> String {
    let words = name.split(|c: char| !c.is_alphanumeric()).filter(|word| !word.is_empty());
    words.map(str::to_lowercase).collect::<Vec<_>>().join("-")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use contract::{
        bench::Bench,
        jsonl,
        records::{QuestionRationales, files},
    };
    use serde_json::{Value, json};

    use super::*;
    use crate::Teacher;

    struct Recorded {
        completions: Vec<QuestionRationales>,
        perspectives: Vec<String>,
        notes: Vec<String>,
    }

    /// Joins `rows` to the questions `a`, `b`, `c`.
    fn recorded(rows: &str, more: Value) -> Result<Recorded, String> {
        let folder = tempfile::tempdir().unwrap();
        let question =
            |id: &str| json!({"id": id, "task": "gsm8k", "question": format!("{id}?"), "answer": "2"});
        let questions = [question("a"), question("b"), question("c")];
        jsonl::write(&folder.path().join(files::QUESTIONS), &questions).unwrap();
        let path = folder.path().join("recorded.jsonl");
        fs::write(&path, rows).unwrap();
        let mut params = json!({"provider": {"recorded": {"path": path}}});
        params.as_object_mut().unwrap().append(more.clone().as_object_mut().unwrap());
        let bench = Bench::new(folder.path()).input("questions", folder.path(), &[]);
        let notes = bench
            .run(&Teacher, &params)
            .map_err(|error| error.to_string().replace(&format!("{}/", folder.path().display()), ""))?;
        let output = bench.output("completions");
        Ok(Recorded {
            completions: jsonl::read(&output.join(files::COMPLETIONS)).unwrap(),
            perspectives: jsonl::read_json(&output.join(files::PERSPECTIVES)).unwrap(),
            notes,
        })
    }

    fn shape(completion: &QuestionRationales) -> Vec<(&str, u32, &str)> {
        let of = completion.rationales.iter();
        of.map(|r| (r.perspective.as_str(), r.attempt, r.text.as_str())).collect()
    }

    const PERSPECTIVES: &str = concat!(
        r#"{"id":"b","set":"gsm8k","question":"b?","answer":"2","rationales":["#,
        r#"{"perspective":"planning","attempt":1,"text":"p1","tokens":9,"truncated":true,"final":"2","correct":true},"#,
        r#"{"perspective":"formal_symbolic","attempt":0,"text":"f0","tokens":9,"truncated":false,"correct":false},"#,
        r#"{"perspective":"planning","attempt":0,"text":"p0","truncated":false,"final":null,"correct":false}]}"#,
        "\n",
        r#"{"id":"elsewhere","question":"z?","rationales":[{"perspective":"odd","text":"z"}]}"#,
        "\n"
    );

    #[test]
    fn perspectives_are_joined_by_id_and_put_in_order() {
        let recorded = recorded(PERSPECTIVES, json!({})).unwrap();
        assert_eq!(recorded.perspectives, ["formal-symbolic", "planning"]);
        assert_eq!(
            shape(&recorded.completions[1]),
            [("formal-symbolic", 0, "f0"), ("planning", 0, "p0"), ("planning", 1, "p1")]
        );
        assert!(recorded.completions[1].rationales[2].truncated);
        assert!(recorded.completions[0].rationales.is_empty());
        assert_eq!(recorded.notes, ["2 of 3 questions have no rationale in the file"]);
    }

    #[test]
    fn perspectives_and_attempts_can_be_chosen() {
        let some = recorded(
            PERSPECTIVES,
            json!({"perspectives": ["socratic", "planning", "formal-symbolic"], "attempts": 1}),
        )
        .unwrap();
        assert_eq!(some.perspectives, ["socratic", "planning", "formal-symbolic"]);
        assert_eq!(shape(&some.completions[1]), [("planning", 0, "p0"), ("formal-symbolic", 0, "f0")]);
        assert_eq!(some.notes[0], "the file has no rationale of perspective `socratic`");
    }

    #[test]
    fn teachers_stand_as_perspectives_with_running_attempts() {
        let rows = concat!(
            r#"{"id":"a","question":"a?","answer":"2","rationales":["#,
            r#"{"text":"one","teacher":"gpt-3.5-turbo (zhou-01)","correct":true},"#,
            r#"{"text":"two","teacher":"human","correct":true},"#,
            r#"{"text":"three","teacher":"gpt-3.5-turbo (zhou-01)","correct":false}]}"#
        );
        let recorded = recorded(rows, json!({})).unwrap();
        assert_eq!(recorded.perspectives, ["gpt-3-5-turbo-zhou-01", "human"]);
        assert_eq!(
            shape(&recorded.completions[0]),
            [("gpt-3-5-turbo-zhou-01", 0, "one"), ("gpt-3-5-turbo-zhou-01", 1, "three"), ("human", 0, "two")]
        );
    }

    #[test]
    fn a_bad_row_is_named_by_file_and_line() {
        let problem = |rows: &str| recorded(rows, json!({})).map(|_| ()).unwrap_err();
        let good = r#"{"id":"a","rationales":[{"perspective":"planning","attempt":0,"text":"x"}]}"#;
        assert_eq!(
            problem(&format!("{good}\n{good}")),
            "`recorded.jsonl` line 2: `a` has attempt 0 of `planning` twice"
        );
        assert_eq!(
            problem(r#"{"id":"a","question":"other?","rationales":[]}"#),
            "`recorded.jsonl` line 1: the question of `a` is not the one asked"
        );
        assert_eq!(
            problem(r#"{"id":"a","rationales":[{"text":"x"}]}"#),
            "`recorded.jsonl` line 1: a rationale names neither `perspective` nor `teacher`"
        );
        assert!(problem("\n{\"id\":3}").starts_with("`recorded.jsonl` line 2: invalid type"));
        let other = r#"{"id":"z","rationales":[{"perspective":"planning","text":"x"}]}"#;
        assert_eq!(problem(other), "`recorded.jsonl` holds no rationale for any of the 3 questions");
    }
}
