//! The kind on results worked out by hand.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};

use contract::{
    Kind,
    bench::Bench,
    records::{self, Metric, Prediction, Sampled, Scores},
};
use serde_json::{Value as Json, json};
use tempfile::TempDir;

use super::*;

/// Results in a temporary folder, and the kind run on them.
struct Results {
    folder: TempDir,
    bench: Bench,
    count: usize,
}

impl Results {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let bench = Bench::new(folder.path());
        Self { folder, bench, count: 0 }
    }

    /// Adds a result: `right` of `questions` answers are right, the first ones.
    fn add(self, task: &str, labels: &[(&str, &str)], right: usize, questions: usize) -> Self {
        let answers: Vec<bool> = (0..questions).map(|at| at < right).collect();
        self.answers(task, labels, &answers)
    }

    fn answers(mut self, task: &str, labels: &[(&str, &str)], answers: &[bool]) -> Self {
        let path = self.folder.path().join(format!("result{}", self.count));
        write_scores(&path, task, answers);
        self.count += 1;
        self.bench = self.bench.input("scores", &path, labels);
        self
    }

    /// The training of some students: one line a step, each of so many tokens.
    fn training(mut self, labels: &[(&str, &str)], tokens: &[f64]) -> Self {
        let path = self.folder.path().join(format!("training{}", self.count));
        self.count += 1;
        fs::create_dir(&path).unwrap();
        let line = |(step, tokens): (usize, &f64)| Metric {
            step: step + 1,
            values: BTreeMap::from([("tokens".to_owned(), *tokens)]),
        };
        let lines: Vec<Metric> = tokens.iter().enumerate().map(line).collect();
        jsonl::write(&path.join(records::files::METRICS), &lines).unwrap();
        self.bench = self.bench.input("metrics", &path, labels);
        self
    }

    fn table(&self, params: &Json) -> Result<TableData, StageError> {
        self.bench.run(&Report, params)?;
        TableData::read(&self.bench.output("table"))
    }

    fn error(&self, params: &Json) -> (String, String) {
        let error = self.table(params).unwrap_err();
        (error.to_string(), error.help().unwrap_or_default().to_owned())
    }
}

fn write_scores(path: &Path, task: &str, answers: &[bool]) {
    fs::create_dir(path).unwrap();
    let prediction = |(at, correct): (usize, &bool)| Prediction {
        id: format!("{task}-{at}"),
        text: String::new(),
        // Every tenth answer is not found.
        extracted: (at % 10 != 9).then(|| "1".to_owned()),
        correct: *correct,
        truncated: false,
        undecided: false,
        tokens: 20 + at,
    };
    let predictions: Vec<Prediction> = answers.iter().enumerate().map(prediction).collect();
    jsonl::write(&path.join(records::files::PREDICTIONS), &predictions).unwrap();
    let n = predictions.len().max(1) as f64;
    let rate = |of: &dyn Fn(&Prediction) -> bool| predictions.iter().filter(|p| of(p)).count() as f64 / n;
    let scores = Scores {
        task: task.into(),
        profile: "mind".into(),
        questions: predictions.len(),
        values: BTreeMap::from([
            ("accuracy".into(), rate(&|p| p.correct)),
            ("unparsed".into(), rate(&|p| p.extracted.is_none())),
            ("truncated".into(), rate(&|p| p.truncated)),
            ("tokens".into(), predictions.iter().map(|p| p.tokens as f64).sum::<f64>() / n),
        ]),
    };
    jsonl::write_json(&path.join(records::files::SCORES), &scores).unwrap();
}

#[test]
fn runs_that_start_from_one_base_student_are_said_to() {
    let note = "every `seed` starts from one base student: no interval says how another would come out";
    let mut params = params();
    assert!(!methods().table(&params).unwrap().notes.iter().any(|own| own == note));
    params["one_base"] = true.into();
    assert!(methods().table(&params).unwrap().notes.iter().any(|own| own == note));
    // Without a second run nothing is said of runs at all.
    let one = Results::new().add("gsm8k", &[("method", "sft"), ("seed", "1")], 44, 100);
    let one = one.table(&json!({"rows": "method", "columns": "task", "one_base": true})).unwrap();
    assert!(!one.notes.iter().any(|own| own == note));
}

/// Two methods with two seeds and the undistilled student, on two tasks; `mind` lacks seed 2 on `svamp`.
fn methods() -> Results {
    let student = |method, seed| [("method", method), ("seed", seed)];
    let undistilled = [("stage", "undistilled")];
    Results::new()
        .add("gsm8k", &student("sft", "1"), 44, 100)
        .add("gsm8k", &student("sft", "2"), 46, 100)
        .add("svamp", &student("sft", "1"), 20, 40)
        .add("svamp", &student("sft", "2"), 24, 40)
        .add("gsm8k", &student("mind", "1"), 80, 100)
        .add("gsm8k", &student("mind", "2"), 70, 100)
        .add("svamp", &student("mind", "1"), 23, 40)
        .add("gsm8k", &undistilled, 30, 100)
        .add("svamp", &undistilled, 10, 40)
}

fn params() -> Json {
    json!({
        "title": "Main results",
        "rows": "method",
        "columns": "task",
        "relative_to": "undistilled",
        "groups": {"id": ["gsm8k", "svamp"]},
        "baselines": ["undistilled", "sft"],
        "claims": {
            "mind beats the best baseline": {"left": "mind.gsm8k", "right": "best(baselines).gsm8k", "at_least": 3.27},
            "sft hurts": {"left": "undistilled.svamp", "right": "sft.svamp", "at_least": 0},
            "mind is best on svamp": {"left": "mind.svamp", "right": "best(baselines).svamp", "at_least": 1},
        },
    })
}

#[test]
fn cells_are_worked_out_by_hand() {
    let table = methods().table(&params()).unwrap();
    let rows: Vec<&str> = table.rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(rows, ["undistilled", "sft", "mind"]);
    let columns: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(columns, ["gsm8k", "svamp", "id"]);
    let cell = |row: usize, column: usize| table.rows[row].cells[column].as_ref().unwrap();
    let near = |a: f64, b: f64| assert!((a - b).abs() < 1e-9, "{a} is not {b}");

    near(cell(0, 0).mean, 0.3);
    assert_eq!(cell(0, 0).standard_deviation, None);
    assert_eq!(cell(0, 0).difference, None);
    // Wilson: 30 of 100.
    near((cell(0, 0).interval.0 * 1e4).round(), 2189.0);
    near((cell(0, 0).interval.1 * 1e4).round(), 3958.0);

    near(cell(2, 0).mean, 0.75);
    near(cell(2, 0).standard_deviation.unwrap(), 0.05 * 2.0_f64.sqrt());
    near(cell(2, 0).difference.as_ref().unwrap().value, 0.45);
    near(cell(2, 0).unparsed.unwrap(), 0.1);
    let runs: Vec<(Option<&str>, f64)> =
        cell(2, 0).runs.iter().map(|run| (run.over.as_deref(), run.value)).collect();
    assert_eq!(runs, [(Some("1"), 0.8), (Some("2"), 0.7)]);

    // The mean of columns, run by run: seed 1 (0.44 + 0.5) / 2, seed 2 (0.46 + 0.6) / 2.
    near(cell(1, 2).mean, 0.5);
    near(cell(1, 2).standard_deviation.unwrap(), 0.03 * 2.0_f64.sqrt());
    assert_eq!(cell(1, 2).questions, 140);
    near(cell(2, 2).mean, (0.75 + 0.575) / 2.0);
    assert_eq!(cell(2, 2).runs.len(), 1);
}

#[test]
fn only_what_is_beyond_chance_is_best() {
    let table = methods().table(&params()).unwrap();
    let marks: Vec<Mark> = table.rows.iter().map(|row| row.cells[0].as_ref().unwrap().mark).collect();
    assert_eq!(marks, [Mark::None, Mark::None, Mark::Best]);
    let marks: Vec<Mark> = table.rows.iter().map(|row| row.cells[1].as_ref().unwrap().mark).collect();
    assert_eq!(marks, [Mark::None, Mark::Tied, Mark::Tied]);
}

#[test]
fn answers_to_the_same_questions_are_paired() {
    // 50 and 58 of 100: paired, eight answers differ and all for the better; unpaired this would be chance.
    let labels = |method| [("method", method)];
    let results = Results::new().add("gsm8k", &labels("a"), 50, 100).add("gsm8k", &labels("b"), 58, 100);
    let table = results.table(&json!({"rows": "method", "columns": "task"})).unwrap();
    assert_eq!(table.rows[1].cells[0].as_ref().unwrap().mark, Mark::Best);

    let shifted: Vec<bool> = (0..100).map(|at| at >= 42).collect();
    let results = Results::new().add("gsm8k", &labels("a"), 50, 100).answers("gsm8k", &labels("b"), &shifted);
    let table = results.table(&json!({"rows": "method", "columns": "task"})).unwrap();
    assert_eq!(table.rows[1].cells[0].as_ref().unwrap().mark, Mark::Tied);
}

#[test]
fn few_discordant_answers_tell_no_rows_apart() {
    // McNemar's exact p: 0.25 of 3:0, 0.125 of 4:0, 0.0625 of 5:0, 0.031 of 6:0.
    let labels = |method| [("method", method)];
    for (more, mark) in [(0, Mark::Tied), (3, Mark::Tied), (4, Mark::Tied), (5, Mark::Tied), (6, Mark::Best)]
    {
        let results =
            Results::new().add("gsm8k", &labels("a"), 20, 60).add("gsm8k", &labels("b"), 20 + more, 60);
        let table = results
            .table(&json!({
                "rows": "method", "columns": "task",
                "claims": {"b beats a": {"left": "b.gsm8k", "right": "a.gsm8k", "at_least": 0}},
            }))
            .unwrap();
        assert_eq!(table.rows[1].cells[0].as_ref().unwrap().mark, mark);
        let reproduced = if mark == Mark::Best { Verdict::Reproduced } else { Verdict::Undecided };
        assert_eq!(table.claims[0].verdict, reproduced, "{more} more");
    }
}

#[test]
fn equal_rows_reproduce_no_claim() {
    let labels = |method, seed| [("method", method), ("seed", seed)];
    let results = ["1", "2", "3"].iter().fold(Results::new(), |results, seed| {
        results.add("gsm8k", &labels("a", seed), 60, 60).add("gsm8k", &labels("b", seed), 60, 60)
    });
    let table = results
        .table(&json!({
            "rows": "method", "columns": "task",
            "claims": {"b beats a": {"left": "b.gsm8k", "right": "a.gsm8k", "at_least": 0}},
        }))
        .unwrap();
    let claim = &table.claims[0];
    let difference = claim.difference.as_ref().unwrap();
    assert_eq!((difference.value, claim.verdict), (0.0, Verdict::Undecided));
    assert!(difference.interval.0 < -0.01 && difference.interval.1 > 0.01, "{difference:?}");
}

#[test]
fn cells_of_other_columns_are_compared_with_the_chance_of_both() {
    // One row: the same runs, 0.1 apart in both, so no chance of runs; other questions, so that of both.
    let labels = |seed| [("method", "a"), ("seed", seed)];
    let results = Results::new()
        .add("gsm8k", &labels("1"), 60, 100)
        .add("gsm8k", &labels("2"), 80, 100)
        .add("svamp", &labels("1"), 50, 100)
        .add("svamp", &labels("2"), 70, 100);
    let table = results
        .table(&json!({
            "rows": "method", "columns": "task",
            "claims": {"gsm8k is easier": {"left": "a.gsm8k", "right": "a.svamp", "at_least": 0}},
        }))
        .unwrap();
    let difference = table.claims[0].difference.as_ref().unwrap();
    // Pseudo-questions 0 and 1 on both sides, by hand: center 71/102 - 61/102, sums of squares 60 + 20 / 4 + 1 and 50 + 20 / 4 + 1,
    // so variances of the means 0.001593 and 0.001876, and 197 degrees of freedom.
    assert!((difference.value - 0.1).abs() < 1e-9);
    let (low, high) = difference.interval;
    assert!((low + 0.0181).abs() < 1e-4 && (high - 0.2142).abs() < 1e-4, "{difference:?}");
}

#[test]
fn seeds_that_disagree_make_a_difference_less_sure() {
    let labels = |method, seed| [("method", method), ("seed", seed)];
    let mark = |rights: [usize; 2]| {
        let results = Results::new()
            .add("gsm8k", &labels("a", "1"), 50, 100)
            .add("gsm8k", &labels("a", "2"), 50, 100)
            .add("gsm8k", &labels("b", "1"), rights[0], 100)
            .add("gsm8k", &labels("b", "2"), rights[1], 100);
        let table = results.table(&json!({"rows": "method", "columns": "task"})).unwrap();
        table.rows[1].cells[0].as_ref().unwrap().mark
    };
    assert_eq!(mark([60, 60]), Mark::Best);
    assert_eq!(mark([45, 75]), Mark::Tied);
}

#[test]
fn claims_are_reproduced_not_reproduced_or_undecided() {
    let table = methods().table(&params()).unwrap();
    let found: Vec<(&str, &str, Verdict)> = table
        .claims
        .iter()
        .map(|claim| (claim.name.as_str(), claim.right.row.as_str(), claim.verdict))
        .collect();
    assert_eq!(
        found,
        [
            ("mind beats the best baseline", "sft", Verdict::Reproduced),
            ("mind is best on svamp", "sft", Verdict::Undecided),
            ("sft hurts", "sft", Verdict::NotReproduced),
        ]
    );
    let difference = table.claims[0].difference.as_ref().unwrap();
    assert!((difference.value - 0.3).abs() < 1e-9);
    assert!((table.claims[0].at_least - 0.0327).abs() < 1e-9);
}

#[test]
fn missing_cells_are_missing_everywhere() {
    let labels = |method, task| [("method", method), ("task", task)];
    let results = Results::new()
        .add("gsm8k", &labels("a", "gsm8k"), 5, 10)
        .add("svamp", &labels("a", "svamp"), 5, 10)
        .add("gsm8k", &labels("b", "gsm8k"), 6, 10);
    let table = results
        .table(&json!({
            "rows": "method", "columns": "task", "groups": {"id": ["gsm8k", "svamp"]},
            "claims": {"b is good": {"left": "b.id", "right": "a.id", "at_least": 0}},
        }))
        .unwrap();
    assert!(table.rows[1].cells[1].is_none() && table.rows[1].cells[2].is_none());
    assert!(table.notes.contains(&"– missing: b in svamp; b in id".to_owned()), "{:?}", table.notes);
    assert_eq!(table.claims[0].verdict, Verdict::Undecided);
    assert_eq!(table.claims[0].problem.as_deref(), Some("`b` in `id` is missing"));
    assert!(
        render(&table, Format::Terminal).contains("b.id – - a.id 50.0 = unknown (`b` in `id` is missing)")
    );
    assert!(render(&table, Format::Csv).contains("\nb,svamp,,,,,,,,,,,,,,,\n"));
}

#[test]
fn nothing_right_is_zero_without_a_sign() {
    // Wilson's lower limit of 0 of 24 is zero but for rounding.
    let labels = |task| [("method", "a"), ("task", task)];
    let results = Results::new().add("gsm8k", &labels("gsm8k"), 0, 24).add("svamp", &labels("svamp"), 0, 24);
    let table = results
        .table(&json!({"rows": "method", "columns": "task", "groups": {"id": ["gsm8k", "svamp"]}}))
        .unwrap();
    let shown = render(&table, Format::Terminal);
    assert!(shown.contains("[0.0, 9.8]") && !shown.contains("-0.0"), "{shown}");
}

#[test]
fn rows_with_other_questions_are_not_compared() {
    let labels = |method| [("method", method)];
    let results = Results::new().add("gsm8k", &labels("a"), 5, 10).add("gsm8k", &labels("b"), 18, 20);
    let table = results
        .table(&json!({
            "rows": "method", "columns": "task", "relative_to": "a",
            "claims": {"b is better": {"left": "b.gsm8k", "right": "a.gsm8k", "at_least": 0}},
        }))
        .unwrap();
    assert!(table.rows.iter().all(|row| row.cells[0].as_ref().unwrap().mark == Mark::None));
    assert!(table.rows.iter().all(|row| row.cells[0].as_ref().unwrap().difference.is_none()));
    assert!(
        table.notes.iter().any(|note| note.starts_with("`gsm8k`: the rows answered different questions"))
    );
    assert_eq!(table.claims[0].verdict, Verdict::Undecided);
}

#[test]
fn a_table_of_tokens_prefers_fewer() {
    let table = methods().table(&json!({"rows": "method", "columns": "task", "value": "tokens"})).unwrap();
    assert_eq!(table.rows[0].cells[0].as_ref().unwrap().mean, 69.5);
    let text = render(&table, Format::Terminal);
    assert!(text.starts_with("tokens, scoring profile mind\n"), "{text}");
    assert!(text.contains("69.5 ± 0.0"), "{text}");
    let one = Results::new().add("gsm8k", &[("method", "a")], 1, 1);
    let (error, help) = one.error(&json!({"rows": "method", "columns": "task", "value": "tokens"}));
    assert_eq!(error, "a result of stage `scores` holds one question, too few for an interval of `tokens`");
    assert_eq!(help, "test on two questions or more");
}

#[test]
fn nothing_right_of_few_is_no_certainty() {
    let results = Results::new().add("gsm8k", &[("method", "a")], 0, 4);
    let table = results.table(&json!({"rows": "method", "columns": "task"})).unwrap();
    // Wilson: 0 of 4 is 0 to 49.0 %.
    let note = "few questions: 95 % interval of one run, ± points: gsm8k 24.5";
    assert!(table.notes.iter().any(|own| own == note), "{:?}", table.notes);
}

#[test]
fn a_table_of_sampled_answers_and_one_of_undecided_ones() {
    let labels = |method| [("method", method)];
    let results = Results::new().add("gsm8k", &labels("a"), 5, 10).add("gsm8k", &labels("b"), 6, 10);
    for (result, chance) in [(0, 0.25), (1, 0.75)] {
        let folder = results.folder.path().join(format!("result{result}"));
        let mut predictions: Vec<Prediction> =
            jsonl::read(&folder.join(records::files::PREDICTIONS)).unwrap();
        let sampled = |prediction: &Prediction| Sampled {
            id: prediction.id.clone(),
            values: BTreeMap::from([("pass@2".to_owned(), chance), ("maj@4".to_owned(), 1.0)]),
        };
        // In another order than the predictions.
        let lines: Vec<Sampled> = predictions.iter().rev().map(sampled).collect();
        jsonl::write(&folder.join(records::files::SAMPLED), &lines).unwrap();
        predictions[0].undecided = true;
        jsonl::write(&folder.join(records::files::PREDICTIONS), &predictions).unwrap();
        let mut scores: Scores = jsonl::read_json(&folder.join(records::files::SCORES)).unwrap();
        let values = [("pass@2", chance), ("maj@4", 1.0), ("undecided", 0.1)];
        scores.values.extend(values.map(|(name, value)| (name.to_owned(), value)));
        jsonl::write_json(&folder.join(records::files::SCORES), &scores).unwrap();
    }
    let table = |value: &str| results.table(&json!({"rows": "method", "columns": "task", "value": value}));
    let pass = table("pass@2").unwrap();
    let cells: Vec<&Cell> = pass.rows.iter().map(|row| row.cells[0].as_ref().unwrap()).collect();
    assert_eq!((cells[0].mean, cells[1].mean), (0.25, 0.75));
    assert_eq!((cells[0].mark, cells[1].mark), (Mark::None, Mark::Best));
    let text = render(&pass, Format::Terminal);
    assert!(text.starts_with("pass@2 in %, scoring profile mind\n"), "{text}");
    assert!(text.contains("undecided answers, %: a 10.0, b 10.0\n"), "{text}");
    assert!(render(&table("maj@4").unwrap(), Format::Terminal).contains("100.0"));
    let undecided = table("undecided").unwrap();
    assert_eq!(undecided.rows[1].cells[0].as_ref().unwrap().mean, 0.1);
    assert!(render(&undecided, Format::Csv).contains("undecided"));

    let error = table("pass@3").unwrap_err();
    assert_eq!(error.to_string(), "a result of stage `scores` has no value `pass@3`");
    let has = "it has: accuracy, maj@4, pass@2, tokens, truncated, undecided, unparsed";
    assert_eq!(error.help(), Some(has));
}

#[test]
fn results_that_make_no_table_are_refused() {
    let base = json!({"rows": "method", "columns": "task"});
    let with = |key: &str, value: Json| {
        let mut params = base.clone();
        params[key] = value;
        params
    };
    let (error, help) = methods().error(&json!({"rows": "method", "columns": "task", "over": "epoch"}));
    assert_eq!(error, "two results share row `sft`, column `gsm8k` and have no `epoch`");
    assert_eq!(help, "they differ on `seed`; make it the rows, the columns or `over`");

    let (error, help) = Results::new()
        .add("gsm8k", &[("method", "a")], 1, 2)
        .error(&json!({"rows": "methd", "columns": "task"}));
    assert_eq!(error, "a result of stage `scores` has no value on axis `methd`");
    assert_eq!(help, "it has values on: method");

    let error = |params: &Json| methods().error(params).0;
    let known = "there are `sft`, `mind`, `undistilled`";
    assert_eq!(
        error(&with("relative_to", "base".into())),
        format!("no row of the table is called `base`; {known}")
    );
    assert_eq!(
        error(&with("baselines", json!(["x"]))),
        format!("no row of the table is called `x`; {known}")
    );
    assert_eq!(
        error(&with("groups", json!({"id": ["gsm9k"]}))),
        "no column of the table is called `gsm9k`; did you mean `gsm8k`?"
    );
    assert_eq!(error(&with("groups", json!({"svamp": ["gsm8k"]}))), "group `svamp` has the name of a column");
    assert_eq!(
        error(&with("claims", json!({"c": {"left": "mid.gsm8k", "right": "sft.gsm8k", "at_least": 0}}))),
        "no row of the table is called `mid`; did you mean `mind`?"
    );
    assert_eq!(
        Results::new().add("gsm8k", &[("method", "a")], 0, 0).error(&base).0,
        "a result of stage `scores` holds no questions"
    );

    let results = methods();
    let path: PathBuf = results.folder.path().join("result0").join(records::files::PREDICTIONS);
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, text.split_once('\n').unwrap().1).unwrap();
    assert_eq!(
        results.error(&base).0,
        "a result of stage `scores` counts 100 questions but holds 99 predictions"
    );
}

#[test]
fn params_are_checked_before_anything_runs() {
    let problems = Report
        .resolve(&json!({
            "rows": "task", "columns": "task", "over": "task", "groups": {"id": []},
            "claims": {"c": {"left": "mind", "right": "best(baselines).id", "at_least": 1}},
        }))
        .unwrap_err();
    let fields: Vec<&str> = problems.iter().map(|(field, _)| field.as_str()).collect();
    assert_eq!(fields, ["/columns", "/over", "/groups/id", "/claims/c/left", "/claims/c/right"]);
    let unknown = Report.resolve(&json!({"rows": "a", "columns": "b", "value": "acuracy"})).unwrap_err();
    assert!(unknown[0].1.contains("acuracy"), "{unknown:?}");
}

#[test]
fn every_format_is_written_and_equal_inputs_give_equal_bytes() {
    let results = methods();
    let table = results.table(&params()).unwrap();
    let read = |name: &str| fs::read_to_string(results.bench.output("table").join(name)).unwrap();
    let first: Vec<String> = [files::JSON, files::MARKDOWN, files::CSV, files::LATEX].map(read).to_vec();
    assert_eq!(first[0], render(&table, Format::Json));
    assert_eq!(first[1], render(&table, Format::Markdown));
    assert_eq!(first[2].lines().count(), 10);
    assert!(first[3].contains("\\toprule"));
    results.table(&params()).unwrap();
    assert_eq!(first, [files::JSON, files::MARKDOWN, files::CSV, files::LATEX].map(read));
}

#[test]
fn a_table_reads_like_this() {
    let text = render(&methods().table(&params()).unwrap(), Format::Terminal);
    // Intervals of one run are Wilson's; that of `mind` in `id` has the chance of its runs in `gsm8k`, as `svamp` has but one.
    assert_eq!(
        text,
        "\
Main results
accuracy in %, scoring profile mind

method       gsm8k                 svamp                 id (mean)
---------------------------------------------------------------------------
undistilled  30.0                  25.0                  27.5
             [21.9, 39.6]          [14.2, 40.2]          [20.7, 36.5]
sft          45.0 ± 1.4 (+15.0)    55.0 ± 7.1 (+30.0) =  50.0 ± 4.2 (+22.5)
             [35.2, 55.0]          [34.7, 74.9]          [38.0, 61.9]
mind         75.0 ± 7.1 (+45.0) *  57.5 (+32.5) =        66.2 (+38.8) *
             [52.8, 96.3]          [42.2, 71.5]          [55.1, 76.5]
questions    100                   40                    140

± sample standard deviation over `seed`, n = 2 (undistilled 1)
[ ] 95 % interval: Wilson's over questions, widened where there are several runs to hold
  Student's over questions and runs
( ) difference to undistilled
* best: higher than every other row beyond chance
= tied: the best row and those not told apart from it
beyond chance: the 95 % interval of the difference excludes 0; it samples questions, paired, and
  the runs of each row independently, of a row with one run the questions alone
marks and claims are not corrected for the number of comparisons
fewer runs: mind in svamp (1 of 2); mind in id (1 of 2)
few questions: 95 % interval of one run, ± points: gsm8k 9.6, svamp 14.8
unparsed answers, %: undistilled 10.0, sft 10.0, mind 10.0
truncated answers, %: none

claims
  mind beats the best baseline: reproduced
    mind.gsm8k 75.0 - sft.gsm8k 45.0 = +30.0 [+8.9, +49.9], claimed at least +3.3
  mind is best on svamp: undecided
    mind.svamp 57.5 - sft.svamp 55.0 = +2.5 [-19.2, +24.0], claimed at least +1.0
  sft hurts: not reproduced
    undistilled.svamp 25.0 - sft.svamp 55.0 = -30.0 [-48.7, -8.4], claimed at least +0.0
"
    );
}

#[test]
fn tokens_and_published_values_stand_beside_results_in_every_format() {
    let student = |method, seed| [("method", method), ("seed", seed)];
    let results = || {
        methods()
            .training(&student("sft", "1"), &[5e5, 7e5])
            .training(&student("sft", "2"), &[1e6])
            .training(&student("mind", "1"), &[4321.0])
            .training(&[("method", "undistilled")], &[])
    };
    let mut params = params();
    params["published"] = json!({"mind": {"gsm8k": 71.25, "id": 60}, "sft": {"gsm8k": 99}});
    let table = results().table(&params).unwrap();
    let tokens: Vec<Option<f64>> = table.rows.iter().map(|row| row.training_tokens).collect();
    assert_eq!(tokens, [Some(0.0), Some(1.1e6), Some(4321.0)]);
    // A published 99 % marks nothing and changes nothing.
    let cells = |table: &TableData| table.rows.iter().map(|row| row.cells.clone()).collect::<Vec<_>>();
    assert_eq!(cells(&table), cells(&methods().table(&self::params()).unwrap()));

    let terminal = render(&table, Format::Terminal);
    for words in ["gsm8k published", "training tokens", "1.1 M", "4321", "71.2", "99.0", "id published"] {
        assert!(terminal.contains(words), "no `{words}`:\n{terminal}");
    }
    assert!(!terminal.contains("svamp published") && !terminal.contains("-0\n"), "{terminal}");
    let markdown = render(&table, Format::Markdown);
    assert!(
        markdown.contains("| gsm8k | gsm8k published | svamp | id (mean) | id published | training tokens |")
    );
    assert!(markdown.contains("| 99.0 | 55.0 ± 7.1"), "{markdown}");
    let latex = render(&table, Format::Latex);
    assert!(latex.contains("\\begin{tabular}{lrrrrrr}") && latex.contains(" & 1.1 M \\\\"), "{latex}");
    let csv = render(&table, Format::Csv);
    assert!(csv.contains(",mark,published,training_tokens\n"), "{csv}");
    assert!(csv.lines().any(|line| line.starts_with("mind,gsm8k,0.75,") && line.ends_with(",0.7125,4321")));
    let json: Json = serde_json::from_str(&render(&table, Format::Json)).unwrap();
    assert_eq!(json["rows"][1]["training_tokens"], 1.1e6);
    assert_eq!(json["rows"][1]["published"]["gsm8k"], 0.99);

    params["published"] = json!({"mnd": {"gsm8k": 1}});
    assert!(results().error(&params).0.starts_with("no row of the table is called `mnd`"));
    params["published"] = json!({"mind": {"gsm9k": 1}});
    assert!(results().error(&params).0.starts_with("no column of the table is called `gsm9k`"));
    params["published"] = json!({});
    let (error, _) = methods().training(&student("mnd", "1"), &[1.0]).error(&params);
    assert_eq!(
        error,
        "metrics of stage `metrics` belong to row `mnd`, which the table does not have; leave the stage out of `from`"
    );
}

#[test]
fn two_tables_are_compared_value_by_value() {
    let folder = tempfile::tempdir().unwrap();
    let save = |name: &str, results: &Results, params: &Json| {
        let table = results.table(params).unwrap();
        let path = folder.path().join(name);
        fs::create_dir(&path).unwrap();
        jsonl::write_json(&path.join(files::JSON), &table).unwrap();
        path
    };
    let labels = |method| [("method", method)];
    let claim = json!({"b wins": {"left": "b.gsm8k", "right": "a.gsm8k", "at_least": 0}});
    let params = json!({"rows": "method", "columns": "task", "claims": claim});
    let before = Results::new().add("gsm8k", &labels("a"), 40, 100).add("gsm8k", &labels("b"), 90, 100);
    let before = save("before", &before.add("gsm8k", &labels("c"), 1, 100), &params);
    let after = Results::new().add("gsm8k", &labels("a"), 40, 100).add("gsm8k", &labels("b"), 20, 100);
    let after = save("after", &after.add("gsm8k", &labels("d"), 1, 100), &params);
    assert_eq!(compare(&before, &before).unwrap(), Vec::<String>::new());
    assert_eq!(
        compare(&before, &after).unwrap(),
        [
            "b.gsm8k: 90.0 -> 20.0 (-70.0)",
            "d.gsm8k: new, 1.0",
            "row c: gone",
            "claim b wins: reproduced -> not reproduced",
        ]
    );
    let tokens = json!({"rows": "method", "columns": "task", "value": "tokens"});
    let tokens = save("tokens", &Results::new().add("gsm8k", &labels("a"), 40, 100), &tokens);
    assert_eq!(compare(&before, &tokens).unwrap(), ["shows tokens instead of accuracy"]);
}

#[test]
fn a_wide_table_is_cut_into_blocks() {
    let tasks = [
        "arithmetic",
        "comparison",
        "calendar",
        "commonsense",
        "strategy",
        "geography",
        "history",
        "physics",
    ];
    let results = tasks.iter().fold(Results::new(), |results, task| {
        let student = |method| [("method", method), ("task", *task)];
        results.add(task, &student("a_b"), 5, 10).add(task, &student("c"), 6, 10)
    });
    let table = results.table(&json!({"rows": "method", "columns": "task", "relative_to": "c"})).unwrap();
    let text = render(&table, Format::Terminal);
    assert!(text.lines().all(|line| line.chars().count() <= 96), "{text}");
    let names: Vec<&str> = text.lines().filter(|line| line.starts_with("a_b ")).collect();
    assert_eq!(names.len(), 2, "{text}");
    let headings: Vec<&str> = text.lines().filter(|line| line.starts_with("method")).collect();
    assert_eq!(headings.join(" ").split_whitespace().filter(|word| *word != "method").count(), 8);
    assert!(render(&table, Format::Markdown).contains("| a\\_b | 50.0 = (-10.0)<br>"));
    assert!(render(&table, Format::Latex).contains("\na\\_b & 50.0$^{=}$ {\\scriptsize ($-10.0$)} & "));
}
