//! What trainings measured: curves by row, and heat maps of whatever is measured perspective by perspective.
//!
//! Values without a slash in their name are curves, one line a row. `alpha/planning` is a row of the heat map `alpha`,
//! `m/planning/induction` a field of the matrix `m`. Steps are gathered in stretches, and runs (seeds) averaged.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet},
};

use contract::{
    ArtifactType, StageError, jsonl,
    records::{self, Metric},
};
use serde::Serialize;

use super::{
    Facts,
    chart::{Chart, Curve, Heat},
    outcome::Axes,
    text::number,
};

/// Stretches of steps in a curve.
const CURVE: usize = 100;
/// Stretches of steps in a heat map.
const HEAT: usize = 40;

/// Names that deserve an explanation, in the order of importance.
const KNOWN: [(&str, &str); 15] = [
    ("loss", "loss: everything that is minimized"),
    ("l_sft", "L_SFT: cross-entropy of the rationales learned from"),
    ("l_cons", "L_cons: consistency of the answers after different rationales"),
    ("l_meta", "L_meta: the assistant's loss"),
    ("i_dyn", "|I_dyn|: paths selected for a question"),
    ("alpha_entropy", "entropy of alpha, nats"),
    ("alpha", "alpha: weight of each perspective in the student's loss"),
    ("alpha_by_difficulty", "alpha by the base student's loss on a question, mean of the last quarter"),
    ("alpha_entropy_by_difficulty", "entropy of alpha, nats, by the base student's loss on a question"),
    ("i_dyn_by_difficulty", "|I_dyn| by the base student's loss on a question"),
    ("s", "s: the assistant's score of each perspective"),
    ("l_real", "L_real: the student's loss on each perspective"),
    ("l_real_average", "L_real averaged with inertia: what the assistant learns to rank"),
    ("m", "score matrix (row scored by column), mean of the last quarter"),
    ("gradient_norm", "gradient norm"),
];

/// How a stage trained.
#[derive(Serialize)]
pub(super) struct Training {
    stage: String,
    rows: Vec<Legend>,
    /// The losses.
    charts: Vec<Chart>,
    /// Everything else that was measured.
    more: Vec<Chart>,
    /// Rows that measure perspectives.
    stories: Vec<Story>,
}

#[derive(Serialize)]
struct Legend {
    name: String,
    color: usize,
    runs: usize,
    steps: usize,
    /// First and last mean of the loss.
    from: Option<String>,
    to: Option<String>,
}

/// What one row measured perspective by perspective.
#[derive(Serialize)]
struct Story {
    name: String,
    /// Whether anything weighs perspectives here, so that it is worth seeing first.
    weighs: bool,
    maps: Vec<Heat>,
    charts: Vec<Chart>,
}

/// The runs of one row.
struct Group {
    label: String,
    runs: Vec<Vec<Metric>>,
}

pub(super) fn read(facts: &Facts, axes: &Axes) -> Result<Vec<Training>, StageError> {
    let mut stages: Vec<(String, Vec<Group>)> = Vec::new();
    for (_, cell, folder) in facts.artifacts(ArtifactType::Metrics) {
        let lines: Vec<Metric> = jsonl::read(&folder.join(records::files::METRICS))?;
        if lines.is_empty() {
            continue;
        }
        let place = stages.iter().position(|(stage, _)| *stage == cell.stage).unwrap_or_else(|| {
            stages.push((cell.stage.clone(), Vec::new()));
            stages.len() - 1
        });
        let (groups, label) = (&mut stages[place].1, cell.label(&axes.over));
        match groups.iter_mut().find(|group| group.label == label) {
            Some(group) => group.runs.push(lines),
            None => groups.push(Group { label, runs: vec![lines] }),
        }
    }
    for (_, groups) in &mut stages {
        groups.sort_by_key(|group| axes.place(&group.label));
    }
    // First what the table's rows trained, then what comes last in the recipe.
    stages.reverse();
    let in_table = |group: &&Group| axes.place(&group.label) < axes.order.len();
    stages.sort_by_key(|(_, groups)| Reverse(groups.iter().filter(in_table).count()));
    Ok(stages.into_iter().map(|(stage, groups)| training(stage, &groups)).collect())
}

fn training(stage: String, groups: &[Group]) -> Training {
    let names: BTreeSet<&String> = groups
        .iter()
        .flat_map(|group| group.runs.iter().flatten())
        .flat_map(|metric| metric.values.keys())
        .filter(|name| !name.contains('/'))
        .collect();
    let mut names: Vec<&String> = names.into_iter().collect();
    names.sort_by_key(|name| (rank(name), (*name).clone()));
    let curve = |(color, group): (usize, &Group), name: &str| Curve {
        name: group.label.clone(),
        color,
        points: group.curve(name, CURVE),
    };
    let (mut charts, mut more) = (Vec::new(), Vec::new());
    for name in names {
        let curves: Vec<Curve> = groups.iter().enumerate().map(|group| curve(group, name)).collect();
        let is_loss = name == "loss" || name.starts_with("l_");
        if let Some(chart) = Chart::of(title(name), &curves) {
            if is_loss { charts.push(chart) } else { more.push(chart) }
        }
    }
    let legend = |(color, group): (usize, &Group)| {
        let loss = group.curve("loss", CURVE);
        Legend {
            name: group.label.clone(),
            color,
            runs: group.runs.len(),
            steps: group.steps(),
            from: loss.first().map(|point| number(point.1)),
            to: loss.last().map(|point| number(point.1)),
        }
    };
    let mut stories: Vec<Story> = groups.iter().enumerate().filter_map(Story::of).collect();
    stories.sort_by_key(|story| !story.weighs);
    Training { stage, rows: groups.iter().enumerate().map(legend).collect(), charts, more, stories }
}

fn rank(name: &str) -> usize {
    KNOWN.iter().position(|(known, _)| *known == name).unwrap_or(KNOWN.len())
}

fn title(name: &str) -> &str {
    KNOWN.iter().find(|(known, _)| *known == name).map_or(name, |(_, title)| *title)
}

impl Group {
    /// The last step of any run.
    fn steps(&self) -> usize {
        self.runs.iter().flatten().map(|metric| metric.step).max().unwrap_or_default()
    }

    /// One run's means over so many stretches of steps; `None` where it measured nothing.
    fn stretches(&self, run: &[Metric], name: &str, count: usize) -> Vec<Option<f64>> {
        let steps = self.steps().max(1);
        let count = count.min(steps);
        let mut sums = vec![(0.0, 0_usize); count];
        for metric in run {
            if let Some(value) = metric.values.get(name).filter(|value| value.is_finite()) {
                let place = (metric.step.saturating_sub(1) * count / steps).min(count - 1);
                sums[place].0 += value;
                sums[place].1 += 1;
            }
        }
        sums.into_iter().map(|(sum, count)| (count > 0).then(|| sum / count as f64)).collect()
    }

    /// The step in the middle of a stretch.
    fn middle(&self, stretch: usize, count: usize) -> f64 {
        let steps = self.steps().max(1);
        let count = count.min(steps) as f64;
        (1.0 + (stretch as f64 + 0.5) * steps as f64 / count - 0.5).round().min(steps as f64)
    }

    fn curve(&self, name: &str, count: usize) -> Vec<(f64, f64, f64, f64)> {
        let runs: Vec<Vec<Option<f64>>> =
            self.runs.iter().map(|run| self.stretches(run, name, count)).collect();
        let mut points = Vec::new();
        for stretch in 0..runs.first().map_or(0, Vec::len) {
            let values: Vec<f64> = runs.iter().filter_map(|run| run[stretch]).collect();
            if values.is_empty() {
                continue;
            }
            let mean = values.iter().sum::<f64>() / values.len() as f64;
            let least = values.iter().copied().fold(f64::INFINITY, f64::min);
            let most = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            points.push((self.middle(stretch, count), mean, least, most));
        }
        points
    }

    /// Means over runs, a stretch a place.
    fn row(&self, name: &str, count: usize) -> Vec<Option<f64>> {
        let mut row = vec![None; count.min(self.steps().max(1))];
        let middles: Vec<f64> = (0..row.len()).map(|stretch| self.middle(stretch, count)).collect();
        for (step, mean, _, _) in self.curve(name, count) {
            if let Some(place) = middles.iter().position(|middle| *middle == step) {
                row[place] = Some(mean);
            }
        }
        row
    }
}

impl Story {
    fn of((color, group): (usize, &Group)) -> Option<Self> {
        let names: BTreeSet<&String> =
            group.runs.iter().flatten().flat_map(|metric| metric.values.keys()).collect();
        // By what is measured: the perspectives, and whether they are pairs.
        let mut measured: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for name in &names {
            if let Some((what, of)) = name.split_once('/') {
                measured.entry(what).or_default().insert(of);
            }
        }
        if measured.is_empty() {
            return None;
        }
        let mut order: Vec<&str> = measured.keys().copied().collect();
        order.sort_by_key(|name| (rank(name), *name));
        let mut maps = Vec::new();
        for what in order {
            let pairs = measured[what].iter().all(|of| of.contains('/'));
            let map =
                if pairs { group.matrix(what, &measured[what]) } else { group.map(what, &measured[what]) };
            maps.extend(map);
        }
        let charts = ["i_dyn", "alpha_entropy"].into_iter().filter_map(|name| {
            let points = group.curve(name, CURVE);
            Chart::of(title(name), &[Curve { name: group.label.clone(), color, points }])
        });
        let weighs = measured.contains_key("alpha") || measured.contains_key("s");
        Some(Self { name: group.label.clone(), weighs, maps, charts: charts.collect() })
    }
}

impl Group {
    /// Steps to the right, perspectives downwards.
    fn map(&self, what: &str, perspectives: &BTreeSet<&str>) -> Option<Heat> {
        let row = |name: &&str| ((*name).to_owned(), self.row(&format!("{what}/{name}"), HEAT));
        let rows: Vec<(String, Vec<Option<f64>>)> = perspectives.iter().map(row).collect();
        let columns = rows.first().map_or(0, |(_, values)| values.len());
        let labels: Vec<String> = (0..columns).map(|stretch| number(self.middle(stretch, HEAT))).collect();
        let last = columns.saturating_sub(1);
        let mut picked = vec![0, last / 4, last / 2, last * 3 / 4, last];
        picked.dedup();
        Heat::of(title(what), &rows, &labels, &picked)
    }

    /// `row/column` pairs, at the end of training.
    fn matrix(&self, what: &str, pairs: &BTreeSet<&str>) -> Option<Heat> {
        let split: Vec<(&str, &str)> = pairs.iter().filter_map(|pair| pair.split_once('/')).collect();
        let columns: BTreeSet<&str> = split.iter().map(|pair| pair.1).collect();
        let names: BTreeSet<&str> = split.iter().map(|pair| pair.0).collect();
        let value = |name: &str, column: &str| {
            self.row(&format!("{what}/{name}/{column}"), 4).last().copied().flatten()
        };
        let row = |name: &&str| {
            ((*name).to_owned(), columns.iter().map(|column| value(name, column)).collect::<Vec<_>>())
        };
        let rows: Vec<(String, Vec<Option<f64>>)> = names.iter().map(row).collect();
        let labels: Vec<String> = columns.iter().map(|column| (*column).to_owned()).collect();
        let picked: Vec<usize> = (0..labels.len()).collect();
        Heat::of(title(what), &rows, &labels, &picked)
    }
}
