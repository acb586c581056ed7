//! Kind `forgetting`: accuracy of a student over the steps of its training, on what it is taught and on what it is not.
//!
//! It reads the scores of snapshots, and of nothing else. Every step is compared with step 0, the undistilled student, on the
//! same questions. Backward transfer (Lopez-Paz and Ranzato, arXiv 1706.08840) is the mean change of the tasks that are not
//! taught; what is forgotten is negative.
//!
//! Intervals are percentiles of a bootstrap that draws runs and questions; a run stands for all its tasks and steps, and a
//! question for all runs and steps. That of an accuracy also holds Wilson's, which knows chance where every run agrees. Runs
//! that start from one base student do not say how another would have come out.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    fs,
};

use contract::{
    ArtifactType, Context, Input, Port, PortFlow, Stage, StageError, jsonl,
    records::{Prediction, Scores, files},
};
use rand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    lines::{Lines, Panel},
    picture::{mean, rounded},
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

/// Bootstrap resamples.
const RESAMPLES: usize = 2000;

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
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "draws accuracy over training steps, in and out of distribution";
    const SEEDED: bool = true;
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
            .map(|(labels, tasks)| Student::new(labels, tasks, &params, context))
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

/// By step: 1 for right and 0 for wrong, by run and question.
type Right = Vec<(usize, Vec<Vec<f64>>)>;

/// A change of accuracy, and what resampling makes of it.
type Change = (f64, Vec<f64>);

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
struct Estimate {
    value: f64,
    interval: [f64; 2],
}

impl Estimate {
    /// `resampled` is sorted by this.
    fn new(value: f64, mut resampled: Vec<f64>) -> Self {
        resampled.sort_by(f64::total_cmp);
        let cut = RESAMPLES * 25 / 1000;
        let ends = [resampled[cut], resampled[RESAMPLES - 1 - cut]];
        Self { value: rounded(value), interval: ends.map(rounded) }
    }

    /// Also what chance does to a rate over so many questions.
    fn of_rate(self, questions: usize) -> Self {
        let chance = wilson(self.value, questions).map(rounded);
        let interval = [self.interval[0].min(chance[0]), self.interval[1].max(chance[1])];
        Self { interval, ..self }
    }
}

/// Wilson's 95 % score interval of a rate over `n` questions.
fn wilson(rate: f64, n: usize) -> [f64; 2] {
    const Z: f64 = 1.959_963_984_540_054;
    let n = n as f64;
    let center = (rate + Z * Z / (2.0 * n)) / (1.0 + Z * Z / n);
    let half = Z / (1.0 + Z * Z / n) * (rate * (1.0 - rate) / n + Z * Z / (4.0 * n * n)).sqrt();
    [(center - half).max(0.0), (center + half).min(1.0)]
}

/// A student at a step, on one task.
#[derive(Debug, Serialize)]
struct Point {
    step: usize,
    /// From 0 to 1.
    accuracy: Estimate,
    /// Accuracy less that at step 0.
    change: Estimate,
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
    change: Estimate,
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
        context: &Context,
    ) -> Result<Self, StageError> {
        // The same draws for all students: those of one task stay paired.
        let mut rng = context.rng("runs");
        let draws: Vec<u32> = (0..RESAMPLES * most_runs(&tasks)).map(|_| rng.random()).collect();
        let mut curves = Vec::new();
        let mut elsewhere: Vec<BTreeMap<usize, Change>> = Vec::new();
        for (task, answers) in tasks {
            context.check_cancelled()?;
            let taught = params.taught.contains(&task);
            let right = aligned(&answers, || named(&labels, &task))?;
            let (runs, questions) = (right[0].1.len(), right[0].1[0].len());
            let resampled = resample(&right, &draws, &mut context.rng(&format!("questions/{task}")));
            let accuracy = |runs: &[Vec<f64>]| mean(&runs.iter().map(|run| mean(run)).collect::<Vec<_>>());
            let start = (accuracy(&right[0].1), &resampled[0]);
            let mut points = Vec::new();
            let mut changes = BTreeMap::new();
            for ((step, answered), drawn) in right.iter().zip(&resampled) {
                let value = accuracy(answered);
                let change: Vec<f64> = drawn.iter().zip(start.1).map(|(own, first)| own - first).collect();
                points.push(Point {
                    step: *step,
                    accuracy: Estimate::new(value, drawn.clone()).of_rate(questions),
                    change: Estimate::new(value - start.0, change.clone()),
                });
                changes.insert(*step, (value - start.0, change));
            }
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

fn most_runs(tasks: &BTreeMap<String, Answers>) -> usize {
    tasks.values().flat_map(|answers| answers.values()).map(BTreeMap::len).max().unwrap_or(1)
}

/// Every step has to have the runs and questions of step 0.
fn aligned(answers: &Answers, curve: impl Fn() -> String) -> Result<Right, ForgettingError> {
    let first = answers.get(&0).ok_or_else(|| ForgettingError::NoStart { curve: curve() })?;
    let same = |runs: &BTreeMap<String, BTreeMap<String, bool>>| {
        let questions = first.values().next().map(|answers| answers.keys().collect::<Vec<_>>());
        runs.keys().eq(first.keys())
            && runs.values().all(|answers| Some(answers.keys().collect()) == questions)
    };
    let mut aligned = Vec::new();
    for (step, runs) in answers {
        if !same(runs) {
            return Err(ForgettingError::Uneven { curve: curve(), step: *step });
        }
        let right =
            |answers: &BTreeMap<String, bool>| answers.values().map(|right| f64::from(*right)).collect();
        aligned.push((*step, runs.values().map(right).collect()));
    }
    Ok(aligned)
}

/// Resampled accuracies, by step.
fn resample(right: &[(usize, Vec<Vec<f64>>)], draws: &[u32], rng: &mut impl Rng) -> Vec<Vec<f64>> {
    let (runs, questions) = (right[0].1.len(), right[0].1[0].len());
    let mut resampled = vec![Vec::with_capacity(RESAMPLES); right.len()];
    let per_resample = draws.len() / RESAMPLES;
    for draws in draws.chunks(per_resample) {
        let asked: Vec<usize> = (0..questions).map(|_| rng.random_range(0..questions)).collect();
        for ((_, answered), resampled) in right.iter().zip(&mut resampled) {
            let of_run = |draw: &u32| {
                let run = &answered[((u64::from(*draw) * runs as u64) >> 32) as usize];
                asked.iter().map(|question| run[*question]).sum::<f64>()
            };
            let total: f64 = draws[..runs].iter().map(of_run).sum();
            resampled.push(total / (runs * questions) as f64);
        }
    }
    resampled
}

/// The mean change over tasks, at the steps that all of them have.
fn transfers(tasks: &[BTreeMap<usize, Change>]) -> Vec<Transfer> {
    let Some(first) = tasks.first() else { return Vec::new() };
    let shared = first.keys().filter(|step| tasks.iter().all(|task| task.contains_key(step)));
    shared
        .map(|step| {
            let of = |value: &dyn Fn(&Change) -> f64| {
                mean(&tasks.iter().map(|task| value(&task[step])).collect::<Vec<_>>())
            };
            let resampled = (0..RESAMPLES).map(|at| of(&|change| change.1[at])).collect();
            Transfer { step: *step, change: Estimate::new(of(&|change| change.0), resampled) }
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
        let panel = |title: String, of: &dyn Fn(&Student) -> Vec<(usize, Estimate)>| {
            let known: Vec<BTreeMap<usize, Estimate>> =
                self.students.iter().map(|student| of(student).into_iter().collect()).collect();
            let percent = |value: f64| 100.0 * value;
            let values = known
                .iter()
                .map(|known| steps.iter().map(|step| known.get(step).map(|e| percent(e.value))).collect());
            // A band goes over all steps or is not drawn.
            let bands = known.iter().map(|known| match known.len() == steps.len() {
                true => known.values().map(|estimate| estimate.interval.map(percent)).collect(),
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
        let subtitle = format!(
            "By training step, evenly spaced; step 0 is the undistilled student. {questions} questions a task, \
             runs: {runs}. Bands: 95 %."
        );
        let models: Vec<String> = self.students.iter().map(|student| student.label.clone()).collect();
        let places: Vec<String> = steps.iter().map(usize::to_string).collect();
        let title = "Forgetting";
        Lines { title, subtitle: &subtitle, models: &models, places: &places, panels: &panels }.svg()
    }

    /// `summary.md`.
    fn markdown(&self) -> String {
        let points = |estimate: Estimate| {
            let [low, high] = estimate.interval.map(|end| 100.0 * end);
            format!("{:+.1} [{low:+.1}, {high:+.1}]", 100.0 * estimate.value)
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
        text.push_str(
            "\nChange: accuracy less that of step 0, the undistilled student, on the same questions. Backward transfer: the \
             mean change at the last step over the tasks that are not taught. Intervals: 95 %, a bootstrap of runs and \
             questions; where runs share one base student, they do not say how another would come out.\n",
        );
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
        let ends = |curve: usize| {
            let ends = last(curve)["change"]["interval"].as_array().unwrap();
            (ends[0].as_f64().unwrap(), ends[1].as_f64().unwrap())
        };
        // Half of the questions changed: a standard error of 0.5 / sqrt(40) to either side, times 1.96, within a tenth.
        let (low, high) = ends(1);
        assert!((low + 0.5 + 0.155).abs() < 0.03 && (high + 0.5 - 0.155).abs() < 0.03, "{low} {high}");
        assert_eq!(ends(2), (0.0, 0.0), "every answer stayed as it was");
        // The accuracy of `names` never moves, and chance still does something to it.
        assert_eq!(last(2)["accuracy"]["value"], 0.2);
        assert!(last(2)["accuracy"]["interval"][1].as_f64().unwrap() > 0.34);
        let transfer = &student["out_of_distribution"][1]["change"];
        assert_eq!(transfer["value"], -0.25, "the mean of -0.5 and 0");
        assert!(transfer["interval"][1].as_f64().unwrap() < 0.0);
        let tags = tags(&file("forgetting.svg"));
        // Four panels, each with a band, a line and two markers; one legend entry.
        assert_eq!(tags.iter().filter(|tag| *tag == "path").count(), 4 * 4 + 1);
        assert!(file("summary.md").contains("| mind | dates | 75.0 | 10 | 25.0 | -50.0 ["));
        assert!(file("summary.md").contains("| mind | -25.0 ["));
    }

    #[test]
    fn equal_inputs_give_equal_bytes() {
        let folder = tempfile::tempdir().unwrap();
        let bench = bench(folder.path(), &RESULTS);
        let run = || {
            bench.run(&Forgetting, &json!({"taught": ["sums"]})).unwrap();
            fs::read(bench.output("figures").join("forgetting.json")).unwrap()
        };
        assert_eq!(run(), run());
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
