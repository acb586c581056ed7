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

/// What a file in `disagreements/` lists: whether this crate finds the key's text right, by key.
///
/// A line in brackets, `[right]` or `[wrong]` and the reason, heads the keys below it.
fn listed(file: &str, several_keys_a_line: bool) -> BTreeMap<String, bool> {
    let mut found = BTreeMap::new();
    let mut ours = None;
    for line in file.lines().filter(|line| !line.trim().is_empty() && !line.starts_with('#')) {
        if let Some(reason) = line.strip_prefix("[right] ").or_else(|| line.strip_prefix("[wrong] ")) {
            assert!(!reason.is_empty());
            ours = Some(line.starts_with("[right]"));
            continue;
        }
        let ours = ours.unwrap();
        let keys = if several_keys_a_line { line.split(' ').collect() } else { vec![line] };
        for key in keys {
            assert_eq!(found.insert(key.to_owned(), ours), None, "{key} is listed twice");
        }
    }
    found
}

/// Fails unless the disagreements found are those listed.
fn compare_with_list(found: &BTreeMap<String, bool>, listed: &BTreeMap<String, bool>) {
    let unlisted: Vec<_> = found.iter().filter(|(key, ours)| listed.get(*key) != Some(ours)).collect();
    let gone: Vec<_> = listed.iter().filter(|(key, ours)| found.get(*key) != Some(ours)).collect();
    assert!(
        unlisted.is_empty() && gone.is_empty(),
        "not listed: {unlisted:#?}\nlisted, but agreed: {gone:#?}"
    );
}

#[test]
fn a_real_teachers_eight_perspectives_are_judged_as_math_verify_judges_them() {
    let Some(data) = shared_data() else { return };
    let mut sets = BTreeMap::<&str, Agreement>::new();
    let mut found = BTreeMap::new();
    for row in rows(data.join("perspectives/rationales.jsonl")) {
        let set = SETS.into_iter().find(|set| set.starts_with(row["set"].as_str().unwrap())).unwrap();
        for rationale in row["rationales"].as_array().unwrap() {
            if rationale["truncated"] == false {
                let verdict = score(&question(set, &row), rationale["text"].as_str().unwrap());
                let label = rationale["math_verify"] == true;
                sets.entry(set).or_default().count(verdict.correct, label);
                sets.entry("all").or_default().count(verdict.correct, label);
                if label != verdict.correct {
                    let key = format!(
                        "{} {} {}",
                        text_of(&row, "id"),
                        text_of(rationale, "perspective"),
                        rationale["attempt"]
                    );
                    found.insert(key, verdict.correct);
                }
            }
        }
    }
    for (set, agreement) in &sets {
        assert!(agreement.share(set) >= if *set == "math500" { 0.95 } else { 0.99 }, "{set}");
    }
    compare_with_list(&found, &listed(include_str!("../../disagreements/perspectives.txt"), false));
}

#[test]
fn rewritten_gold_answers_are_judged_as_math_verify_judges_them() {
    let Some(data) = shared_data() else { return };
    let (mut all, mut against_label, mut against_truth) =
        (Agreement::default(), Agreement::default(), Agreement::default());
    let mut found = BTreeMap::new();
    for (index, row) in rows(data.join("graded/math_equal_pairs.jsonl")).iter().enumerate() {
        let text = format!("So the final answer is $\\boxed{{{}}}$.", text_of(row, "prediction"));
        let correct = score(&question("math500", row), &text).correct;
        if let Some(truth) = row["truth"].as_bool() {
            against_truth.count(correct, truth);
        }
        if row["math_verify"] != correct {
            found.insert((index + 1).to_string(), correct);
        }
        all.count(correct, row["math_verify"] == true);
        // math-verify does not know what dollars are; we do, and the list names each such pair.
        if row["change"] != "bare word unit" {
            against_label.count(correct, row["math_verify"] == true);
        }
    }
    all.share("all pairs, against math-verify");
    assert!(against_label.share("pairs without dollars, against math-verify") >= 0.995);
    against_truth.share("pairs with a known truth");
    assert_eq!(against_truth.lenient, 0, "a pair that is wrong was accepted");
    compare_with_list(&found, &listed(include_str!("../../disagreements/math_equal_pairs.txt"), true));
}

#[test]
fn answers_to_math500_are_judged_nearly_as_by_the_grader_of_prm800k() {
    let Some(data) = shared_data() else { return };
    let mut models = BTreeMap::<String, Agreement>::new();
    let mut found = BTreeMap::new();
    for (index, row) in rows(data.join("graded/math500_answers.jsonl")).iter().enumerate() {
        let verdict = score(&question("math500", row), &text_of(row, "prediction"));
        let label = row["prm800k_grader"] == true;
        models.entry(text_of(row, "model")).or_default().count(verdict.correct, label);
        if verdict.correct != label {
            found.insert((index + 1).to_string(), verdict.correct);
            println!(
                "{} prm800k {label}, ours {} by {}: gold {} answer {}",
                index + 1,
                verdict.correct,
                verdict.rule,
                row["answer"],
                row["prediction"]
            );
        }
    }
    for (model, agreement) in &models {
        assert!(agreement.share(model) > 0.9, "{model}");
    }
    compare_with_list(&found, &listed(include_str!("../../disagreements/math500_answers.txt"), true));
}

#[test]
fn every_labelled_test_rationale_is_scored() {
    let Some(data) = shared_data() else { return };
    for set in ["gsm8k", "svamp", "csqa", "strategyqa"] {
        let mut teachers = BTreeMap::<String, Agreement>::new();
        let mut unparsed = BTreeMap::<String, usize>::new();
        for row in rows(data.join(format!("rationales/{set}_test.jsonl"))) {
            for rationale in row["rationales"].as_array().unwrap() {
                let verdict = score(&question(set, &row), rationale["text"].as_str().unwrap());
                let (teacher, label) = (text_of(rationale, "teacher"), rationale["correct"] == true);
                *unparsed.entry(teacher.clone()).or_default() += usize::from(verdict.extracted.is_none());
                teachers.entry(teacher.clone()).or_default().count(verdict.correct, label);
                if label != verdict.correct && std::env::var_os("RETORT_SHOW").is_some() {
                    let text = rationale["text"].as_str().unwrap();
                    let at = text.floor_char_boundary(text.len().saturating_sub(220));
                    println!(
                        "DIFF {set} {} {teacher} label {label} ours {} {:?} by {} gold {} choices {:?} ..{:?}",
                        text_of(&row, "id"),
                        verdict.correct,
                        verdict.extracted,
                        verdict.rule,
                        row["answer"],
                        row["choices"],
                        &text[at..]
                    );
                }
            }
        }
        for (teacher, agreement) in &teachers {
            agreement.share(&format!("{set}, {teacher}, {} unparsed", unparsed[teacher]));
        }
        assert!(!teachers.is_empty(), "{set}");
    }
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

/// What OpenCompass's version 2 accepted of each kind of rewriting.
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
