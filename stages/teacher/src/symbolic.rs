//! The teacher that solves built-in questions exactly and slips on purpose.

use contract::{
    Context, Digest, Stage, StageError,
    records::{Question, Rationale},
};
use rand::{Rng, seq::SliceRandom};
use tasks::builtin;

use crate::{ByQuestion, Symbolic, Teacher};

/// Items between two durable writes of the journal.
const BATCH: usize = 256;

/// The question's task has no solver.
#[derive(Debug, thiserror::Error)]
#[error("question `{id}` of task `{task}` cannot be solved symbolically")]
struct NotSolvable {
    id: String,
    task: String,
}

/// Writes every question up from every perspective, again where the attempt before was wrong.
pub(crate) fn write(
    symbolic: &Symbolic,
    perspectives: &[String],
    attempts: u32,
    questions: &[Question],
    context: &Context,
) -> Result<ByQuestion, StageError> {
    let mut journal = context.journal(Teacher::NAME, &(Teacher::VERSION, "symbolic", symbolic))?;
    let mut finished: Vec<(String, String)> = Vec::new();
    let mut written = Vec::with_capacity(questions.len());
    for (done, question) in questions.iter().enumerate() {
        context.check_cancelled()?;
        context.progress(done, questions.len(), "questions");
        let digest = Digest::of_json(question);
        let mut rationales = Vec::with_capacity(perspectives.len());
        for perspective in perspectives {
            for attempt in 0..attempts {
                let key = format!("{digest}/{perspective}/{attempt}/{}", context.seed());
                let text = match journal.get(&key) {
                    Some(text) => text,
                    None => {
                        let rate = symbolic.rate(perspective);
                        let mut rng = context.rng(&key);
                        let mut text = one(question, perspective, rate, &mut rng)?;
                        if symbolic.scrambled.contains(perspective) {
                            text = scramble(&text, &mut rng);
                        }
                        finished.push((key, text.clone()));
                        text
                    }
                };
                let correct = tasks::score(question, &text).correct;
                let perspective = perspective.clone();
                rationales.push(Rationale { perspective, attempt, text, truncated: false });
                if correct {
                    break;
                }
            }
        }
        if finished.len() >= BATCH {
            journal.put(&finished)?;
            finished.clear();
        }
        written.push(rationales);
    }
    journal.put(&finished)?;
    context.progress(questions.len(), questions.len(), "questions");
    Ok(written)
}

fn one(question: &Question, perspective: &str, rate: f64, rng: &mut impl Rng) -> Result<String, StageError> {
    let unsolvable = || {
        StageError::failed(NotSolvable { id: question.id.clone(), task: question.task.clone() })
            .with_help("the symbolic teacher knows the built-in tasks only; use `recorded` for others")
    };
    let right = builtin::solve(question).ok_or_else(unsolvable)?;
    let solution = if rng.random::<f64>() < rate { builtin::corrupt(&right, rng) } else { right };
    builtin::write(perspective, question, &solution).ok_or_else(unsolvable)
}

/// The words before the last sentence, which states the answer, in another order.
fn scramble(text: &str, rng: &mut impl Rng) -> String {
    let (body, answer) = text.rsplit_once(". ").unwrap_or(("", text));
    let mut words: Vec<&str> = body.split_whitespace().collect();
    words.shuffle(rng);
    format!("{}. {answer}", words.join(" "))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::{fs, path::Path};

    use contract::{
        bench::Bench,
        jsonl,
        records::{QuestionRationales, files},
    };
    use serde_json::{Value, json};
    use tasks::{Task, builtin::Split};

    use super::*;

    fn completions(folder: &Path, count: usize, seed: u64, params: &Value) -> Vec<QuestionRationales> {
        let questions = folder.join("questions");
        fs::create_dir_all(&questions).unwrap();
        let asked = builtin::generate(Task::Arithmetic, Split::Train, 0, count).unwrap();
        jsonl::write(&questions.join(files::QUESTIONS), &asked).unwrap();
        let bench = Bench::new(folder).input("questions", &questions, &[]).seed(seed);
        bench.run(&Teacher, params).unwrap();
        let names: Vec<String> =
            jsonl::read_json(&bench.output("completions").join(files::PERSPECTIVES)).unwrap();
        assert!(!names.is_empty());
        jsonl::read(&bench.output("completions").join(files::COMPLETIONS)).unwrap()
    }

    fn right(completion: &QuestionRationales, rationale: &Rationale) -> bool {
        tasks::score(&completion.question, &rationale.text).correct
    }

    #[test]
    fn without_slips_every_perspective_answers_once_and_right() {
        let folder = tempfile::tempdir().unwrap();
        let all = completions(folder.path(), 6, 0, &json!({"provider": {"symbolic": {}}, "attempts": 3}));
        assert_eq!(all.len(), 6);
        for completion in &all {
            let names: Vec<&str> = completion.rationales.iter().map(|r| r.perspective.as_str()).collect();
            assert_eq!(names, tasks::PERSPECTIVES);
            for rationale in &completion.rationales {
                assert_eq!(rationale.attempt, 0);
                assert!(right(completion, rationale), "{rationale:?}");
            }
        }
    }

    #[test]
    fn slips_come_at_their_rate_and_are_answered_again() {
        let folder = tempfile::tempdir().unwrap();
        let params = json!({
            "provider": {"symbolic": {"error_rate": 0.3, "error_rates": {"analogy": 1.0}}},
            "perspectives": ["planning", "analogy"],
            "attempts": 2,
        });
        let all = completions(folder.path(), 200, 3, &params);
        let (mut planning, mut slipped) = (0, 0);
        for completion in &all {
            let of = |name: &str| -> Vec<bool> {
                let of = completion.rationales.iter().filter(|rationale| rationale.perspective == name);
                of.map(|rationale| right(completion, rationale)).collect()
            };
            assert_eq!(of("analogy"), [false, false]);
            match of("planning")[..] {
                [true] => planning += 1,
                [false, _] => slipped += 1,
                ref other => panic!("a right attempt is followed by another: {other:?}"),
            }
        }
        assert_eq!(planning + slipped, 200);
        assert!((40..=80).contains(&slipped), "{slipped} slips of 200 at a rate of 0.3");
    }

    #[test]
    fn finished_items_come_from_the_journal() {
        let folder = tempfile::tempdir().unwrap();
        let params = json!({"provider": {"symbolic": {"error_rate": 0.5}}});
        let few = completions(folder.path(), 4, 0, &params);
        let journals = folder.path().join("journals/teacher");
        let journal = fs::read_dir(&journals).unwrap().next().unwrap().unwrap().path();
        // A mark that only a reader of the journal can bring back.
        let text = fs::read_to_string(&journal).unwrap().replace("\"item\":\"", "\"item\":\"Kept. ");
        fs::write(&journal, text).unwrap();

        let more = completions(folder.path(), 6, 0, &params);
        for (old, new) in few.iter().zip(&more) {
            assert_eq!(old.question, new.question);
            for (old, new) in old.rationales.iter().zip(&new.rationales) {
                assert_eq!(new.text, format!("Kept. {}", old.text));
            }
        }
        assert!(more[4..].iter().flat_map(|item| &item.rationales).all(|r| !r.text.starts_with("Kept. ")));
        let other_seed = completions(folder.path(), 4, 1, &params);
        assert_ne!(few, other_seed);
        assert!(other_seed.iter().flat_map(|item| &item.rationales).all(|r| !r.text.starts_with("Kept. ")));
    }

    #[test]
    fn scrambled_reasoning_ends_in_the_right_answer() {
        let folder = tempfile::tempdir().unwrap();
        let written = |name: &str, symbolic: Value| {
            let params = json!({"provider": {"symbolic": symbolic}, "perspectives": ["planning", "analogy"]});
            completions(&folder.path().join(name), 5, 0, &params)
        };
        let (plain, mixed) =
            (written("plain", json!({})), written("mixed", json!({"scrambled": ["analogy"]})));
        for (plain, mixed) in plain.iter().zip(&mixed) {
            assert_eq!(plain.rationales[0], mixed.rationales[0]);
            let (plain, mixed) = (&plain.rationales[1], &mixed.rationales[1]);
            let words = |text: &str| {
                let word = |word: &str| word.trim_end_matches('.').to_owned();
                let mut words: Vec<String> = text.split_whitespace().map(word).collect();
                words.sort();
                words
            };
            let moved =
                plain.text.split(' ').zip(mixed.text.split(' ')).filter(|(plain, mixed)| plain != mixed);
            assert!(moved.count() > 5, "{}", mixed.text);
            assert_eq!(words(&plain.text), words(&mixed.text));
            assert_eq!(plain.text.split(". ").last(), mixed.text.split(". ").last());
        }
        assert!(mixed.iter().all(|item| right(item, &item.rationales[1])));
    }

    #[test]
    fn a_question_without_facts_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let question = json!({"id": "x1", "task": "gsm8k", "question": "1+1?", "answer": "2"});
        jsonl::write(&folder.path().join(files::QUESTIONS), [&question]).unwrap();
        let bench = Bench::new(folder.path()).input("questions", folder.path(), &[]);
        let error = bench.run(&Teacher, &json!({"provider": {"symbolic": {}}})).unwrap_err();
        assert_eq!(error.to_string(), "question `x1` of task `gsm8k` cannot be solved symbolically");
        assert!(error.help().unwrap().contains("`recorded`"));
    }
}
