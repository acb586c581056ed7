//! Scoring against real data, where the environment says that some is at hand.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]
#![expect(clippy::print_stdout, reason = "figures for people, and a word where data is missing")]

use std::{collections::BTreeMap, fs, path::PathBuf};

use serde_json::Value;

use super::*;
use crate::{Profile, answer_suffix};

const SETS: [&str; 5] = ["gsm8k", "svamp", "math500", "csqa", "strategyqa"];

fn shared_data() -> Option<PathBuf> {
    let found = std::env::var_os("RETORT_SHARED_DATA").map(PathBuf::from);
    if found.is_none() {
        println!("skipped: RETORT_SHARED_DATA does not name a folder of benchmark data");
    }
    found
}

fn rows(path: PathBuf) -> Vec<Value> {
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn text_of(row: &Value, key: &str) -> String {
    row[key].as_str().unwrap_or_default().to_owned()
}

fn question(task: &str, row: &Value) -> Question {
    let choices = row["choices"].as_array().cloned().unwrap_or_default();
    Question {
        id: text_of(row, "id"),
        task: task.to_owned(),
        question: text_of(row, "question"),
        answer: text_of(row, "answer"),
        choices: choices.iter().map(|choice| choice.as_str().unwrap().to_owned()).collect(),
        facts: None,
    }
}

#[test]
fn every_gold_answer_is_right() {
    let Some(data) = shared_data() else { return };
    for set in SETS {
        for split in ["train", "test"] {
            let rows = rows(data.join(set).join(format!("{split}.jsonl")));
            for row in &rows {
                let question = question(set, row);
                for text in [answer_suffix(&question), format!("So it is.\n{}.\n", answer_suffix(&question))]
                {
                    let verdict = score(&question, &text);
                    assert!(verdict.correct && verdict.rule == "box", "{set} {}: {verdict:?}", question.id);
                }
            }
            println!("{set} {split}: {} gold answers", rows.len());
        }
    }
}

/// Verdicts against labels.
#[derive(Default)]
struct Agreement {
    agreed: usize,
    missed: usize,
    lenient: usize,
}

impl Agreement {
    fn count(&mut self, correct: bool, label: bool) {
        match (correct, label) {
            (true, true) | (false, false) => self.agreed += 1,
            (false, true) => self.missed += 1,
            (true, false) => self.lenient += 1,
        }
    }

    /// Prints the figures and returns the share agreed.
    fn share(&self, name: &str) -> f64 {
        let Self { agreed, missed, lenient } = self;
        println!("{name}: {agreed} agreed, {missed} missed, {lenient} lenient");
        *agreed as f64 / (agreed + missed + lenient) as f64
    }
}

#[test]
fn a_real_teachers_eight_perspectives_are_judged_as_math_verify_judges_them() {
    let Some(data) = shared_data() else { return };
    let mut sets = BTreeMap::<&str, Agreement>::new();
    for row in rows(data.join("perspectives/rationales.jsonl")) {
        let set = SETS.into_iter().find(|set| set.starts_with(row["set"].as_str().unwrap())).unwrap();
        for rationale in row["rationales"].as_array().unwrap() {
            if rationale["truncated"] == false {
                let verdict = score(&question(set, &row), rationale["text"].as_str().unwrap());
                let label = rationale["math_verify"] == true;
                if label != verdict.correct {
                    let text = rationale["text"].as_str().unwrap();
                    let at = text.floor_char_boundary(text.len().saturating_sub(160));
                    println!(
                        "{} {} {} mv={label} ours={} rule {} found {:?} gold {:?} text ..{:?}",
                        text_of(&row, "id"),
                        rationale["perspective"],
                        rationale["attempt"],
                        verdict.correct,
                        verdict.rule,
                        verdict.extracted,
                        text_of(&row, "answer"),
                        &text[at..]
                    );
                }
                sets.entry(set).or_default().count(verdict.correct, label);
            }
        }
    }
    let least = BTreeMap::from([("gsm8k", 0.995), ("math500", 0.94), ("svamp", 0.99)]);
    for (set, agreement) in &sets {
        assert!(agreement.share(set) > least[set], "{set}");
    }
    assert_eq!(sets.len(), least.len());
}

#[test]
fn rewritten_gold_answers_are_judged_as_math_verify_judges_them() {
    let Some(data) = shared_data() else { return };
    let (mut agreed, mut total) = (0, 0);
    for (line, row) in rows(data.join("graded/math_equal_pairs.jsonl")).iter().enumerate() {
        let text = format!("So the final answer is $\\boxed{{{}}}$.", text_of(row, "prediction"));
        let correct = score(&question("math500", row), &text).correct;
        total += 1;
        if row["math_verify"] == correct {
            agreed += 1;
        } else {
            println!(
                "{} {} {} truth={} mv={} ours={} gold {:?} answer {:?}",
                line + 1,
                row["id"],
                row["change"],
                row["truth"],
                row["math_verify"],
                correct,
                row["answer"],
                row["prediction"]
            );
        }
    }
    println!("{agreed} of {total}");
}

#[test]
fn the_hendrycks_profile_is_is_equiv() {
    let Some(data) = shared_data() else { return };
    let rows = rows(data.join("graded/math_equal_pairs.jsonl"));
    for row in &rows {
        let text = format!("So the final answer is $\\boxed{{{}}}$.", text_of(row, "prediction"));
        let verdict = Profile::Hendrycks.score(&question("math500", row), &text);
        assert_eq!(row["hendrycks"], verdict.correct, "{row} {verdict:?}");
    }
    println!("hendrycks: {} pairs agree", rows.len());
}

/// What OpenCompass's version 2 accepted of each kind of rewriting: the column oc2 of EVALUATION section 4.1.
#[test]
fn the_opencompass_profile_accepts_what_version_2_accepts() {
    let Some(data) = shared_data() else { return };
    let mut accepted = BTreeMap::<String, usize>::new();
    for row in rows(data.join("graded/math_equal_pairs.jsonl")) {
        let text = format!("So the final answer is $\\boxed{{{}}}$.", text_of(&row, "prediction"));
        let verdict = Profile::Opencompass.score(&question("math500", &row), &text);
        *accepted.entry(text_of(&row, "change")).or_default() += usize::from(verdict.correct);
    }
    println!("{accepted:?}");
    let mut wrong = Vec::new();
    for (change, count) in [
        ("identical", 500),
        ("int+dot0", 311),
        ("int+dot00", 311),
        ("frac n/1", 0),
        ("sum unsimplified", 0),
        ("bare word unit", 311),
        ("\\text{n}", 311),
        ("approx", 0),
        ("bold", 0),
        ("percent", 311),
        ("thousands comma", 20),
        ("thousands {,}", 20),
        ("thousands ,\\!", 20),
        ("int off by one", 0),
        ("close float 1e-5", 0),
        ("unsimplified", 0),
        ("mixed number", 35),
        ("decimal full", 0),
        ("decimal 2dp", 0),
        ("open->closed", 0),
        ("list reordered", 0),
        ("bmatrix", 0),
        ("base dropped", 0),
    ] {
        if accepted[change] != count {
            wrong.push((change, accepted[change], count));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}
