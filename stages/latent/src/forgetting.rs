//! Kind `forgetting`: accuracy of a student over the steps of its training, on what it is taught and on what it is not.
//!
//! It reads the scores of snapshots, and of nothing else. Every step is compared with step 0, the undistilled student, on the
//! same questions. Backward transfer (Lopez-Paz and Ranzato, arXiv 1706.08840) is the mean change of the tasks that are not
//! taught; what is forgotten is negative.
//!
//! Intervals are those of the tables ([`statistics::Estimate`]): they sample questions and runs. A run is the same student at
//! every step and on every task, so changes are paired in both. Runs that start from one base student do not say how another
//! would have come out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
};

use contract::{
    ArtifactType, Context, Input, Port, PortFlow, Stage, StageError, jsonl,
    records::{Prediction, Scores, files},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use statistics::{Estimate, RunAnswers};

use crate::{
    lines::{Lines, Panel},
    picture::rounded,
    results::{SUMMARY, cell},
    subject::label,
};

/// The kind `forgetting`.
pub struct Forgetting;

/// What curves are drawn of.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ForgettingParams {
    /// The tasks that are taught, in distribution; all others are out of distribution.
    pub taught: BTreeSet<String>,
    /// The axis of the scores whose values are training steps. Default: `step`.
    #[serde(default = "default_step")]
    pub step: String,
    /// The axis whose values are runs of one curve. Default: `seed`.
    #[serde(default = "default_over")]
    pub over: String,
}

fn default_step() -> String {
    "step".to_owned()
}

fn default_over() -> String {
    "seed".to_owned()
}

/// The axis that tells tasks apart; where scores have none, it is the task measured.
const TASK: &str = "task";

/// The figure and its numbers, as files without ending.
const FIGURE: &str = "forgetting";

/// Why there are no curves.
#[derive(Debug, thiserror::Error)]
enum ForgettingError {
    #[error("a result of stage `{stage}` has no step on axis `{axis}`")]
    NoStep { stage: String, axis: String },
    #[error("two results are of {curve} at step {step} and {over}")]
    Twice { curve: String, step: usize, over: String },
    #[error("{curve} has no result at step 0, the undistilled student")]
    NoStart { curve: String },
    #[error("{curve}: step {step} has other runs or questions than step 0")]
    Uneven { curve: String, step: usize },
    #[error("no result is of a task called `{task}`; there are `{known}`")]
    NoTask { task: String, known: String },
}

impl From<ForgettingError> for StageError {
    fn from(error: ForgettingError) -> Self {
        let help = match &error {
            ForgettingError::NoStep { .. } => "let `step` name the axis of the snapshots",
            ForgettingError::Twice { .. } => "let `over` name the axis on which they differ",
            ForgettingError::NoStart { .. } => "add 0 to `snapshots` and to the axis of the steps",
            ForgettingError::Uneven { .. } => "evaluate every step with the same seeds and questions",
            ForgettingError::NoTask { .. } => "name in `taught` the tasks that the student is taught",
        };
        Self::failed(error).with_help(help)
    }
}

impl Stage for Forgetting {
    type Params = ForgettingParams;

    const NAME: &'static str = "forgetting";
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "draws accuracy over training steps, in and out of distribution";
    const SEEDED: bool = false;
    const COMPUTES: bool = false;
    const INPUTS: &'static [Port] = &[Port::input(
        "scores",
        ArtifactType::Scores,
        PortFlow::Measures,
        "of a student's snapshots, step 0 among them",
    )
    .many()];
    const OUTPUTS: &'static [Port] =
        &[Port::output("figures", ArtifactType::Figures, "the curves with their numbers, and a summary")];

    fn check(params: &ForgettingParams) -> Vec<(String, String)> {
        let axes = [TASK, params.step.as_str(), params.over.as_str()];
        let apart = axes.iter().collect::<BTreeSet<_>>().len() == axes.len();
        let problem = || ("/over".to_owned(), format!("`step`, `over` and `{TASK}` are three axes"));
        if apart { Vec::new() } else { vec![problem()] }
    }

    fn run(params: ForgettingParams, context: &Context) -> Result<(), StageError> {
        let students = read(&params, context.inputs("scores"))?;
        let known: BTreeSet<&str> =
            students.values().flat_map(|student| student.keys()).map(String::as_str).collect();
        if let Some(task) = params.taught.iter().find(|task| !known.contains(task.as_str())) {
            let known = known.into_iter().collect::<Vec<_>>().join("`, `");
            return Err(ForgettingError::NoTask { task: task.clone(), known }.into());
        }
        let students: Vec<Student> = students
            .into_iter()
            .map(|(labels, tasks)| Student::new(labels, tasks, &params))
            .collect::<Result<_, _>>()?;
        let folder = context.output("figures");
        let found = Found { params: &params, students };
        jsonl::write_json(&folder.join(format!("{FIGURE}.json")), &found)?;
        for (name, text) in
            [(format!("{FIGURE}.svg"), found.svg()), (format!("{SUMMARY}.md"), found.markdown())]
        {
            let path = folder.join(name);
            fs::write(&path, text).map_err(StageError::io(&path))?;
        }
        Ok(())
    }
}

type Labels = BTreeMap<String, String>;

/// Whether each question was answered right, by step, run and question.
type Answers = BTreeMap<usize, BTreeMap<String, BTreeMap<String, bool>>>;

/// The answers of each student, by its labels and by task.
fn read(
    params: &ForgettingParams,
    inputs: &[Input],
) -> Result<BTreeMap<Labels, BTreeMap<String, Answers>>, StageError> {
    let mut students: BTreeMap<Labels, BTreeMap<String, Answers>> = BTreeMap::new();
    for input in inputs {
        let scores: Scores = jsonl::read_json(&input.file(files::SCORES))?;
        let predictions: Vec<Prediction> = jsonl::read(&input.file(files::PREDICTIONS))?;
        let mut labels = input.labels.clone();
        let step = labels.remove(&params.step).and_then(|step| step.parse().ok());
        let step: usize = step.ok_or_else(|| ForgettingError::NoStep {
            stage: input.stage.clone(),
            axis: params.step.clone(),
        })?;
        let run = labels.remove(&params.over).unwrap_or_default();
        let task = labels.remove(TASK).unwrap_or(scores.task);
        let curve = named(&labels, &task);
        let answers = predictions.into_iter().map(|answer| (answer.id, answer.correct)).collect();
        let runs = students.entry(labels).or_default().entry(task).or_default().entry(step).or_default();
        if runs.insert(run.clone(), answers).is_some() {
            let over = format!("`{}` {run}", params.over);
            return Err(ForgettingError::Twice { curve, step, over }.into());
        }
    }
    Ok(students)
}

/// A curve's name in messages.
fn named(labels: &Labels, task: &str) -> String {
    if labels.is_empty() { format!("`{task}`") } else { format!("`{}` on `{task}`", label(labels)) }
}

/// A number with its 95 % interval.
#[derive(Clone, Copy, Debug, Serialize)]
struct Number {
    value: f64,
    interval: [f64; 2],
}

impl Number {
    fn new(value: f64, (low, high): (f64, f64)) -> Self {
        Self { value: rounded(value), interval: [low, high].map(rounded) }
    }

    /// An accuracy over so many questions.
    fn accuracy(estimate: &Estimate, questions: usize) -> Self {
        Self::new(estimate.value(), estimate.interval_of_rate(&[(estimate.value(), questions)]))
    }

    /// A change from step 0 to a step: at step 0 none, whatever is sampled.
    fn change(step: usize, estimate: &Estimate) -> Self {
        let interval = if step == 0 { (0.0, 0.0) } else { estimate.interval(true) };
        Self::new(estimate.value(), interval)
    }
}

/// A student at a step, on one task.
#[derive(Debug, Serialize)]
struct Point {
    step: usize,
    /// From 0 to 1.
    accuracy: Number,
    /// Accuracy less that at step 0.
    change: Number,
}

/// A student on one task.
#[derive(Debug, Serialize)]
struct Curve {
    task: String,
    /// Whether it is taught.
    taught: bool,
    questions: usize,
    runs: usize,
    points: Vec<Point>,
}

/// The mean change of the tasks that are not taught, at a step.
#[derive(Debug, Serialize)]
struct Transfer {
    step: usize,
    change: Number,
}

/// A student, its runs together.
#[derive(Debug, Serialize)]
struct Student {
    label: String,
    labels: Labels,
    /// Tasks that are taught first.
    curves: Vec<Curve>,
    /// At the steps that all its tasks share; the last is its backward transfer.
    out_of_distribution: Vec<Transfer>,
}

impl Student {
    fn new(
        labels: Labels,
        tasks: BTreeMap<String, Answers>,
        params: &ForgettingParams,
    ) -> Result<Self, StageError> {
        let mut curves = Vec::new();
        let mut elsewhere: Vec<BTreeMap<usize, Estimate>> = Vec::new();
        for (task, answers) in tasks {
            let taught = params.taught.contains(&task);
            let accuracies = accuracies(&task, &answers, || named(&labels, &task))?;
            let first = &accuracies[&0];
            let changes: BTreeMap<usize, Estimate> = accuracies
                .iter()
                .map(|(step, own)| (*step, Estimate::within_row(&[(1.0, own), (-1.0, first)])))
                .collect();
            let (questions, runs) = (first_answers(&answers).len(), first.runs().len());
            let point = |(step, accuracy): (&usize, &Estimate)| Point {
                step: *step,
                accuracy: Number::accuracy(accuracy, questions),
                change: Number::change(*step, &changes[step]),
            };
            let points = accuracies.iter().map(point).collect();
            if !taught {
                elsewhere.push(changes);
            }
            curves.push(Curve { task, taught, questions, runs, points });
        }
        curves.sort_by_key(|curve| !curve.taught);
        let name = match labels.len() {
            0 => "student".to_owned(),
            1 => labels.values().cloned().collect(),
            _ => label(&labels),
        };
        Ok(Self { label: name, labels, curves, out_of_distribution: transfers(&elsewhere) })
    }
}

/// The answers of a first run at a first step.
fn first_answers(answers: &Answers) -> &BTreeMap<String, bool> {
    let run = answers.values().next().and_then(|runs| runs.values().next());
    run.expect("a task is known from a result of it")
}

/// Accuracies by step, each the mean of its runs; every step has to have the runs and questions of step 0.
fn accuracies(
    task: &str,
    answers: &Answers,
    curve: impl Fn() -> String,
) -> Result<BTreeMap<usize, Estimate>, ForgettingError> {
    let first = answers.get(&0).ok_or_else(|| ForgettingError::NoStart { curve: curve() })?;
    let questions: Vec<&String> = first_answers(answers).keys().collect();
    let same = |runs: &BTreeMap<String, BTreeMap<String, bool>>| {
        runs.keys().eq(first.keys())
            && runs.values().all(|answers| answers.keys().eq(questions.iter().copied()))
    };
    if let Some((step, _)) = answers.iter().find(|(_, runs)| !same(runs)) {
        return Err(ForgettingError::Uneven { curve: curve(), step: *step });
    }
    Ok(answers.iter().map(|(step, runs)| (*step, accuracy(task, runs))).collect())
}

/// The mean of runs over the questions of a task.
fn accuracy(task: &str, runs: &BTreeMap<String, BTreeMap<String, bool>>) -> Estimate {
    let right: Vec<Vec<f64>> =
        runs.values().map(|answers| answers.values().map(|right| f64::from(*right)).collect()).collect();
    let answered: Vec<RunAnswers<'_>> = runs
        .keys()
        .zip(&right)
        .map(|(run, answers)| RunAnswers {
            label: Some(run),
            value: statistics::mean(answers),
            questions: task,
            answers,
        })
        .collect();
    Estimate::mean_of_runs(&answered)
}

/// The mean change over tasks, at the steps that all of them have.
fn transfers(tasks: &[BTreeMap<usize, Estimate>]) -> Vec<Transfer> {
    let Some(first) = tasks.first() else { return Vec::new() };
    let shared = first.keys().filter(|step| tasks.iter().all(|task| task.contains_key(step)));
    let weight = 1.0 / tasks.len() as f64;
    shared
        .map(|step| {
            let changes: Vec<(f64, &Estimate)> = tasks.iter().map(|task| (weight, &task[step])).collect();
            Transfer { step: *step, change: Number::change(*step, &Estimate::within_row(&changes)) }
        })
        .collect()
}

/// `forgetting.json`.
#[derive(Serialize)]
struct Found<'a> {
    params: &'a ForgettingParams,
    students: Vec<Student>,
}

impl Found<'_> {
    /// Every task once, taught ones first.
    fn tasks(&self) -> Vec<(&str, bool)> {
        let mut tasks = Vec::new();
        for curve in self.students.iter().flat_map(|student| &student.curves) {
            if !tasks.contains(&(curve.task.as_str(), curve.taught)) {
                tasks.push((curve.task.as_str(), curve.taught));
            }
        }
        tasks.sort_by_key(|(_, taught)| !taught);
        tasks
    }

    fn svg(&self) -> String {
        let steps: BTreeSet<usize> = self
            .students
            .iter()
            .flat_map(|student| &student.curves)
            .flat_map(|curve| curve.points.iter().map(|point| point.step))
            .collect();
        let panel = |title: String, of: &dyn Fn(&Student) -> Vec<(usize, Number)>| {
            let known: Vec<BTreeMap<usize, Number>> =
                self.students.iter().map(|student| of(student).into_iter().collect()).collect();
            let percent = |value: f64| 100.0 * value;
            let values = known.iter().map(|known| {
                steps.iter().map(|step| known.get(step).map(|number| percent(number.value))).collect()
            });
            // A band goes over all steps or is not drawn.
            let bands = known.iter().map(|known| match known.len() == steps.len() {
                true => known.values().map(|number| number.interval.map(percent)).collect(),
                false => Vec::new(),
            });
            Panel { title, values: values.collect(), bands: bands.collect() }
        };
        let mut panels = Vec::new();
        for (task, taught) in self.tasks() {
            let title = format!("{task}, {}: accuracy, %", if taught { "taught" } else { "not taught" });
            panels.push(panel(title, &|student| {
                let points = student.curves.iter().filter(|curve| curve.task == task).flat_map(|c| &c.points);
                points.map(|point| (point.step, point.accuracy)).collect()
            }));
        }
        if self.students.iter().any(|student| !student.out_of_distribution.is_empty()) {
            panels.push(panel("Change of what is not taught, mean, points".to_owned(), &|student| {
                student.out_of_distribution.iter().map(|at| (at.step, at.change)).collect()
            }));
        }
        let first = self.students.first().and_then(|student| student.curves.first());
        let (questions, runs) = first.map_or((0, 0), |curve| (curve.questions, curve.runs));
        let sampled = match self.runs() {
            (_, 1) => "questions",
            (1, _) => "questions and, if several, runs",
            _ => "questions and runs",
        };
        let subtitle = format!(
            "By step, evenly spaced; 0: undistilled. {questions} questions a task, runs: {runs}. Bands: 95 %, over {sampled}."
        );
        let models: Vec<String> = self.students.iter().map(|student| student.label.clone()).collect();
        let places: Vec<String> = steps.iter().map(usize::to_string).collect();
        let title = "Forgetting";
        Lines { title, subtitle: &subtitle, models: &models, places: &places, panels: &panels }.svg()
    }

    /// The fewest and the most runs of a curve.
    fn runs(&self) -> (usize, usize) {
        let runs = || self.students.iter().flat_map(|student| &student.curves).map(|curve| curve.runs);
        (runs().min().unwrap_or_default(), runs().max().unwrap_or_default())
    }

    /// What the summary's intervals sample.
    fn sampled(&self) -> String {
        let over = &self.params.over;
        let runs = match self.runs() {
            (_, 1) => {
                return format!(
                    "questions, paired, and no runs: nothing here says how another `{over}` would come out"
                );
            }
            (1, _) => "the runs of each student, of one with one run the questions alone",
            _ => "the runs of each student",
        };
        format!(
            "questions, paired, and {runs}; where every `{over}` starts from one base student, no interval says how another would \
             come out"
        )
    }

    /// `summary.md`.
    fn markdown(&self) -> String {
        let points = |number: Number| {
            let [low, high] = number.interval.map(|end| 100.0 * end);
            format!("{:+.1} [{low:+.1}, {high:+.1}]", 100.0 * number.value)
        };
        let mut text = "# Forgetting\n\n| student | task | undistilled, % | last step | accuracy, % | change, points | worst change, points | at step |\n|---|---|---:|---:|---:|---:|---:|---:|\n".to_owned();
        for student in &self.students {
            for curve in &student.curves {
                let (first, last) = (&curve.points[0], &curve.points[curve.points.len() - 1]);
                let worst = curve.points.iter().min_by(|a, b| a.change.value.total_cmp(&b.change.value));
                let worst = worst.expect("a curve has the point of step 0");
                writeln!(
                    text,
                    "| {} | {}{} | {:.1} | {} | {:.1} | {} | {} | {} |",
                    cell(&student.label),
                    cell(&curve.task),
                    if curve.taught { ", taught" } else { "" },
                    100.0 * first.accuracy.value,
                    last.step,
                    100.0 * last.accuracy.value,
                    points(last.change),
                    points(worst.change),
                    worst.step
                )
                .expect("writing to a string cannot fail");
            }
        }
        text.push_str("\n| student | backward transfer, points |\n|---|---:|\n");
        for student in &self.students {
            let last = student.out_of_distribution.last();
            let last = last.map_or_else(|| "–".to_owned(), |last| points(last.change));
            writeln!(text, "| {} | {last} |", cell(&student.label)).expect("writing to a string cannot fail");
        }
        writeln!(
            text,
            "\nChange: accuracy less that of step 0, the undistilled student. Backward transfer: the mean change at the last step over \
             the tasks that are not taught. [ ] 95 % interval: Student's; it samples {}.",
            self.sampled()
        )
        .expect("writing to a string cannot fail");
        text
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::path::Path;

    use contract::bench::Bench;
    use serde_json::{Value, json};

    use super::*;
    use crate::figure::tests::tags;

    /// Scores of 40 questions of which the first `right` are answered right.
    fn scores(folder: &Path, task: &str, right: usize) -> std::path::PathBuf {
        let folder = folder.join(format!("{task}-{right}"));
        fs::create_dir_all(&folder).unwrap();
        let predictions: Vec<Prediction> = (0..40)
            .map(|i| Prediction {
                id: format!("q{i:02}"),
                text: String::new(),
                extracted: None,
                correct: i < right,
                truncated: false,
                undecided: false,
                tokens: 1,
            })
            .collect();
        jsonl::write(&folder.join(files::PREDICTIONS), &predictions).unwrap();
        let values = BTreeMap::from([("accuracy".to_owned(), right as f64 / 40.0)]);
        let scores = Scores { task: task.into(), profile: "mind".into(), questions: 40, values };
        jsonl::write_json(&folder.join(files::SCORES), &scores).unwrap();
        folder
    }

    /// Each is (method, seed, step, task, questions answered right).
    fn bench(folder: &Path, results: &[(&str, &str, &str, &str, usize)]) -> Bench {
        let mut bench = Bench::new(&folder.join("cell"));
        for (method, seed, step, task, right) in results {
            let labels = [("method", *method), ("seed", *seed), ("step", *step), ("task", *task)];
            bench = bench.input("scores", &scores(folder, task, *right), &labels);
        }
        bench
    }

    const RESULTS: [(&str, &str, &str, &str, usize); 12] = [
        ("mind", "1", "0", "sums", 4),
        ("mind", "2", "0", "sums", 4),
        ("mind", "1", "10", "sums", 20),
        ("mind", "2", "10", "sums", 24),
        ("mind", "1", "0", "dates", 30),
        ("mind", "2", "0", "dates", 30),
        ("mind", "1", "10", "dates", 10),
        ("mind", "2", "10", "dates", 10),
        ("mind", "1", "0", "names", 8),
        ("mind", "2", "0", "names", 8),
        ("mind", "1", "10", "names", 8),
        ("mind", "2", "10", "names", 8),
    ];

    #[test]
    fn curves_compare_every_step_with_the_undistilled_student() {
        let folder = tempfile::tempdir().unwrap();
        let bench = bench(folder.path(), &RESULTS);
        bench.run(&Forgetting, &json!({"taught": ["sums"]})).unwrap();
        let file = |name: &str| fs::read_to_string(bench.output("figures").join(name)).unwrap();
        let found: Value = serde_json::from_str(&file("forgetting.json")).unwrap();
        let student = &found["students"][0];
        assert_eq!(student["label"], "mind");
        let tasks: Vec<&Value> = student["curves"].as_array().unwrap().iter().map(|c| &c["task"]).collect();
        assert_eq!(tasks, ["sums", "dates", "names"], "what is taught comes first");
        // (20 + 24) / 80 less 4 / 40; 10 / 40 less 30 / 40; nothing.
        let last = |curve: usize| &student["curves"][curve]["points"][1];
        assert_eq!(last(0)["accuracy"]["value"], 0.55);
        assert_eq!(last(0)["change"]["value"], 0.45);
        assert_eq!(last(1)["change"]["value"], -0.5);
        let ends = |number: &Value, low: f64, high: f64| {
            let found = [0, 1].map(|end| number["interval"][end].as_f64().unwrap());
            assert!((found[0] - low).abs() < 1e-4 && (found[1] - high).abs() < 1e-4, "{found:?}");
        };
        // 16 questions changed by 1, 4 by 1/2, 20 not; with -1 and 1 their mean is 3/7 and its variance (19 - 42 * (3/7)^2) / 42^2.
        // Runs of 0.4 and 0.5 add 0.05^2. Student's quantile of 10.846 degrees of freedom is 2.2048: 3/7 ± 2.2048 * 0.09433.
        ends(&last(0)["change"], 0.2206, 0.6365);
        // Half of the questions changed, alike in both runs: -20/42 ± 2.0227 * sqrt(22 - 42 * (20/42)^2) / 42.
        ends(&last(1)["change"], -0.6463, -0.3061);
        // Every answer stayed as it was, and others of their kind might not have: 2.0227 * sqrt(2) / 42.
        ends(&last(2)["change"], -0.0681, 0.0681);
        // Step 0 is compared with itself.
        ends(&student["curves"][2]["points"][0]["change"], 0.0, 0.0);
        // The lower end is Student's over questions, 9/42 - 2.0227 * sqrt(9 - 42 * (9/42)^2) / 42, the upper Wilson's of 8 in 40.
        assert_eq!(last(2)["accuracy"]["value"], 0.2);
        ends(&last(2)["accuracy"], 0.0862, 0.3476);
        let transfer = &student["out_of_distribution"][1]["change"];
        assert_eq!(transfer["value"], -0.25, "the mean of -0.5 and 0");
        // -10/42 ± 2.0075 * 0.04529, with 51.2 degrees of freedom.
        ends(transfer, -0.3290, -0.1472);
        let tags = tags(&file("forgetting.svg"));
        // Four panels, each with a band, a line and two markers; one legend entry.
        assert_eq!(tags.iter().filter(|tag| *tag == "path").count(), 4 * 4 + 1);
        assert!(file("summary.md").contains("| mind | dates | 75.0 | 10 | 25.0 | -50.0 ["));
        assert!(file("summary.md").contains("| mind | -25.0 [-32.9, -14.7] |"));
        assert!(file("summary.md").contains("it samples questions, paired, and the runs of each student;"));
        assert!(file("forgetting.svg").contains("runs: 2. Bands: 95 %, over questions and runs.<"));
    }

    #[test]
    fn one_run_says_nothing_of_others() {
        let folder = tempfile::tempdir().unwrap();
        let one: Vec<_> = RESULTS.into_iter().filter(|(_, seed, ..)| *seed == "1").collect();
        let bench = bench(folder.path(), &one);
        bench.run(&Forgetting, &json!({"taught": ["sums"]})).unwrap();
        let file = |name: &str| fs::read_to_string(bench.output("figures").join(name)).unwrap();
        assert!(
            file("summary.md").contains("and no runs: nothing here says how another `seed` would come out.")
        );
        assert!(file("forgetting.svg").contains("runs: 1. Bands: 95 %, over questions.<"));
    }

    #[test]
    fn the_order_of_inputs_changes_nothing() {
        let drawn = |results: &[(&str, &str, &str, &str, usize)]| {
            let folder = tempfile::tempdir().unwrap();
            let bench = bench(folder.path(), results);
            bench.run(&Forgetting, &json!({"taught": ["sums"]})).unwrap();
            fs::read_to_string(bench.output("figures").join("forgetting.json")).unwrap()
        };
        let mut reversed = RESULTS;
        reversed.reverse();
        assert_eq!(drawn(&RESULTS), drawn(&reversed));
    }

    #[test]
    fn what_cannot_be_compared_is_refused() {
        let refused = |results: &[(&str, &str, &str, &str, usize)], params: Value| {
            let folder = tempfile::tempdir().unwrap();
            bench(folder.path(), results).run(&Forgetting, &params).unwrap_err().to_string()
        };
        let taught = || json!({"taught": ["sums"]});
        assert_eq!(
            refused(&RESULTS[2..4], taught()),
            "`method=mind` on `sums` has no result at step 0, the undistilled student"
        );
        assert_eq!(
            refused(&RESULTS[..3], taught()),
            "`method=mind` on `sums`: step 10 has other runs or questions than step 0"
        );
        assert_eq!(
            refused(&RESULTS[..4], json!({"taught": ["sum"]})),
            "no result is of a task called `sum`; there are `sums`"
        );
        assert_eq!(
            refused(&RESULTS[..4], json!({"taught": ["sums"], "step": "depth"})),
            "a result of stage `scores` has no step on axis `depth`"
        );
        assert_eq!(
            refused(&RESULTS[..4], json!({"taught": ["sums"], "step": "seed"})),
            "/over: `step`, `over` and `task` are three axes"
        );
        let twice = [RESULTS[0], ("mind", "1", "0", "sums", 9)];
        assert_eq!(
            refused(&twice, taught()),
            "two results are of `method=mind` on `sums` at step 0 and `seed` 1"
        );
    }
}
