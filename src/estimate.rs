//! What a plan's cells would make and cost, each kind's estimate carried on to the cells below it.

use std::collections::BTreeMap;

use contract::{
    ArtifactType, Estimate, Foreseen, Outlook, Port, jsonl,
    records::{Metric, Prediction, Sample, files},
    seconds,
};
use serde::Serialize;
use serde_json::Value;

use crate::{
    graph::{Cell, Graph},
    history::History,
    plan::{Decision, Plan},
    reporter::counted,
    store::{CellRecord, Store},
};

/// The estimates of every cell of a plan that is not reused. Nothing is run and nothing outside the store is asked.
pub fn estimates(graph: &Graph, plan: &Plan, store: &Store) -> BTreeMap<usize, Estimate> {
    let mut estimates: BTreeMap<usize, Estimate> = BTreeMap::new();
    let journals = store.root().join("journals");
    for (&index, decision) in &plan.decisions {
        if matches!(decision, Decision::Reuse { .. } | Decision::Fetch { .. }) {
            continue;
        }
        let cell = &graph.cells[index];
        let foreseen = |source: &crate::graph::Source| match plan.decisions.get(&source.cell) {
            Some(Decision::Reuse { outputs, .. }) => {
                Foreseen { path: outputs.get(source.port).map(|digest| store.object(digest)), records: None }
            }
            Some(Decision::Fetch { .. } | Decision::Run { .. } | Decision::Undecided { .. }) | None => {
                let records = estimates.get(&source.cell).and_then(|estimate| estimate.records);
                Foreseen { path: None, records }
            }
        };
        let inputs = cell
            .inputs
            .iter()
            .map(|(port, sources)| ((*port).to_owned(), sources.iter().map(foreseen).collect()))
            .collect();
        let estimate = cell.kind.estimate(&cell.params, &Outlook::new(inputs, &journals, cell.seed));
        estimates.insert(index, estimate);
    }
    estimates
}

/// What a stage that has work would take, if each of its cells takes what the earlier ones took.
#[derive(Debug, Serialize)]
pub struct StageCost {
    /// The stage's name.
    pub stage: String,
    /// How many of its cells would or may run.
    pub cells: usize,
    /// What one takes, seconds: the median of the earlier results.
    pub seconds: f64,
    /// How many earlier results say so: the latest of each cell, where it was computed on the same backend.
    pub earlier: usize,
    /// What all of them take of devices, minutes times devices; 0 where the backend is the CPU.
    pub device_minutes: f64,
    /// Tokens that all of them are trained on: targets of the loss.
    pub trained_tokens: u64,
    /// Tokens that all of them generate.
    pub generated_tokens: u64,
}

/// What a plan would take, as far as earlier results tell it.
#[derive(Debug, Default)]
pub struct Costs {
    /// Stages that have work and earlier results.
    pub known: Vec<StageCost>,
    /// Names of those that have work and none.
    pub unknown: Vec<String>,
}

/// What every stage that has work would take. Tokens are those of the result whose time is the median.
pub fn costs(graph: &Graph, plan: &Plan, store: &Store, history: &History) -> Costs {
    let mut waiting: BTreeMap<usize, Vec<&Cell>> = BTreeMap::new();
    for (cell, decision) in &plan.decisions {
        if !matches!(decision, Decision::Reuse { .. } | Decision::Fetch { .. }) {
            let cell = &graph.cells[*cell];
            waiting.entry(cell.stage).or_default().push(cell);
        }
    }
    let mut costs = Costs::default();
    for (stage, cells) in waiting {
        let node = &graph.stages[stage];
        let here =
            |record: &CellRecord| record.cell.backend.as_ref().is_none_or(|made| *made == graph.backend);
        let latest = node
            .cells
            .iter()
            .filter_map(|cell| store.record(history.latest(&graph.cells[*cell].name.0)?).filter(here));
        let mut latest: Vec<CellRecord> = latest.collect();
        latest.sort_by(|a, b| a.seconds.total_cmp(&b.seconds));
        let Some(median) = latest.get(latest.len() / 2) else {
            costs.unknown.push(node.name.clone());
            continue;
        };
        let (trained, generated) = tokens(node.kind.outputs(), median, store);
        let devices: usize = cells.iter().map(|cell| graph.devices_of(cell)).sum();
        costs.known.push(StageCost {
            stage: node.name.clone(),
            cells: cells.len(),
            seconds: median.seconds,
            earlier: latest.len(),
            device_minutes: devices as f64 * median.seconds / 60.0,
            trained_tokens: trained * cells.len() as u64,
            generated_tokens: generated * cells.len() as u64,
        });
    }
    costs
}

/// The tokens that a result was trained on and those it took to generate, by what artifacts of its types say; an artifact
/// that says nothing counts for none.
fn tokens(ports: &[Port], record: &CellRecord, store: &Store) -> (u64, u64) {
    let (mut trained, mut generated) = (0, 0);
    for port in ports {
        let Some(folder) = record.outputs.get(port.name).map(|digest| store.object(digest)) else { continue };
        match port.artifact {
            ArtifactType::Metrics => {
                let steps: Vec<Metric> = jsonl::read(&folder.join(files::METRICS)).unwrap_or_default();
                let steps = steps.iter().filter_map(|step| step.values.get("tokens"));
                trained += steps.sum::<f64>() as u64;
            }
            ArtifactType::Scores => {
                let answers: Vec<Prediction> =
                    jsonl::read(&folder.join(files::PREDICTIONS)).unwrap_or_default();
                let samples: Vec<Sample> = jsonl::read(&folder.join(files::SAMPLES)).unwrap_or_default();
                let answers = answers.iter().chain(samples.iter().map(|sample| &sample.prediction));
                generated += answers.map(|answer| answer.tokens as u64).sum::<u64>();
            }
            ArtifactType::Other("usage") => {
                let usage: Value = jsonl::read_json(&folder.join("usage.json")).unwrap_or_default();
                generated += usage["total"]["usage"]["completion_tokens"].as_u64().unwrap_or_default();
            }
            ArtifactType::Questions
            | ArtifactType::Completions
            | ArtifactType::Rationales
            | ArtifactType::Mistakes
            | ArtifactType::Model
            | ArtifactType::Snapshots
            | ArtifactType::Assistant
            | ArtifactType::Figures
            | ArtifactType::Table
            | ArtifactType::Other(_) => {}
        }
    }
    (trained, generated)
}

impl Costs {
    /// A line a stage, and one for all where there are several: `student: 9 cells, about 12 s each, from 9 earlier results;
    /// 1,200 tokens trained on`.
    pub fn lines(&self) -> Vec<String> {
        let stage = |cost: &StageCost| {
            let (cells, each) = (counted(cost.cells, "cell"), seconds(cost.seconds));
            let earlier = counted(cost.earlier, "earlier result");
            format!("{}: {cells}, about {each} each, from {earlier}{}", cost.stage, cost.more())
        };
        let mut lines: Vec<String> = self.known.iter().map(stage).collect();
        if lines.len() > 1 {
            let sum = |part: fn(&StageCost) -> f64| self.known.iter().map(part).sum::<f64>();
            let all = StageCost {
                stage: String::new(),
                cells: 0,
                seconds: sum(|cost| cost.seconds * cost.cells as f64),
                earlier: 0,
                device_minutes: sum(|cost| cost.device_minutes),
                trained_tokens: self.known.iter().map(|cost| cost.trained_tokens).sum(),
                generated_tokens: self.known.iter().map(|cost| cost.generated_tokens).sum(),
            };
            let without = match self.unknown.is_empty() {
                true => String::new(),
                false => {
                    format!("; without {}, of which there is no earlier result", self.unknown.join(", "))
                }
            };
            lines.push(format!(
                "in all about {}, one after another{}{without}",
                seconds(all.seconds),
                all.more()
            ));
        }
        lines
    }
}

impl StageCost {
    /// What it takes besides time.
    fn more(&self) -> String {
        let mut more = String::new();
        if self.device_minutes > 0.0 {
            more.push_str(&format!("; {:.1} device-minutes", self.device_minutes));
        }
        for (tokens, what) in [(self.trained_tokens, "trained on"), (self.generated_tokens, "generated")] {
            if tokens > 0 {
                more.push_str(&format!("; {} tokens {what}", thousands(tokens)));
            }
        }
        more
    }
}

/// An estimate's calls in one line: `800 calls, about 90,400 + 151,200 tokens, 0.10 USD (...)`.
pub fn line(estimate: &Estimate) -> Option<String> {
    let calls = estimate.calls.as_ref().filter(|calls| calls.calls + calls.journalled > 0)?;
    let cost = calls.cost.map(|cost| format!(", {cost:.2} {}", calls.currency)).unwrap_or_default();
    let there = match calls.journalled {
        0 => String::new(),
        1 => "; 1 more is in the journal".to_owned(),
        there => format!("; {} more are in the journal", thousands(there)),
    };
    let noun = if calls.calls == 1 { "call" } else { "calls" };
    let (count, prompt, completion) =
        (thousands(calls.calls), thousands(calls.prompt_tokens), thousands(calls.completion_tokens));
    Some(format!("{count} {noun}, about {prompt} + {completion} tokens{cost} ({}{there})", calls.basis))
}

/// `1234567` as `1,234,567`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::fs;

    use contract::{CallEstimate, Digest};

    use super::*;
    use crate::store::Use;

    #[test]
    fn costs_are_those_of_all_cells_together() {
        let student = StageCost {
            stage: "student".to_owned(),
            cells: 9,
            seconds: 120.0,
            earlier: 4,
            device_minutes: 18.0,
            trained_tokens: 1_200_000,
            generated_tokens: 0,
        };
        let scores = StageCost {
            stage: "scores".to_owned(),
            cells: 1,
            seconds: 6.0,
            device_minutes: 0.1,
            trained_tokens: 0,
            generated_tokens: 5_000,
            ..student
        };
        let costs = Costs { known: vec![student, scores], unknown: vec!["base".to_owned()] };
        assert_eq!(
            costs.lines(),
            [
                "student: 9 cells, about 2 min 00 s each, from 4 earlier results; 18.0 device-minutes; 1,200,000 \
                 tokens trained on",
                "scores: 1 cell, about 6.0 s each, from 4 earlier results; 0.1 device-minutes; 5,000 tokens generated",
                "in all about 18 min 06 s, one after another; 18.1 device-minutes; 1,200,000 tokens trained on; 5,000 \
                 tokens generated; without base, of which there is no earlier result",
            ]
        );
    }

    #[test]
    fn tokens_are_read_from_what_was_made() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(folder.path(), Use::Shared).unwrap();
        let answer = r#"{"id": "1", "text": "x", "extracted": null, "correct": false, "truncated": false, "tokens": 5}"#;
        let made = [
            (
                ArtifactType::Metrics,
                "metrics",
                files::METRICS,
                r#"{"step": 1, "values": {"tokens": 7, "loss": 2.5}}"#,
            ),
            (ArtifactType::Scores, "scores", files::PREDICTIONS, answer),
            (
                ArtifactType::Other("usage"),
                "usage",
                "usage.json",
                r#"{"total": {"usage": {"completion_tokens": 30}}}"#,
            ),
            (ArtifactType::Model, "model", files::METRICS, r#"{"step": 1, "values": {"tokens": 900}}"#),
            (ArtifactType::Metrics, "silent", files::METRICS, r#"{"step": 1, "values": {"loss": 2.5}}"#),
        ];
        let (mut outputs, mut ports) = (BTreeMap::new(), Vec::new());
        for (artifact, port, file, text) in made {
            let digest = Digest::of_bytes(port.as_bytes());
            fs::create_dir_all(store.object(&digest)).unwrap();
            fs::write(store.object(&digest).join(file), format!("{text}\n")).unwrap();
            outputs.insert(port.to_owned(), digest);
            ports.push(Port::output(port, artifact, ""));
        }
        let record = serde_json::json!({
            "cell": {"format": 1, "kind": "k", "version": 1, "params": {}, "inputs": {}},
            "outputs": outputs, "run": "r", "seconds": 1.0, "bytes": 1,
        });
        let record: CellRecord = serde_json::from_value(record).unwrap();
        assert_eq!(tokens(&ports, &record, &store), (7, 35));
    }

    #[test]
    fn estimates_read_as_a_line() {
        let calls = CallEstimate {
            calls: 1200,
            journalled: 40,
            prompt_tokens: 90_400,
            completion_tokens: 151_200,
            cost: Some(0.1043),
            currency: "USD".to_owned(),
            basis: "from 40 earlier calls".to_owned(),
        };
        let one = CallEstimate { calls: 1, journalled: 1, cost: None, ..calls.clone() };
        let one = line(&Estimate { records: None, calls: Some(one) });
        assert_eq!(
            one.as_deref(),
            Some("1 call, about 90,400 + 151,200 tokens (from 40 earlier calls; 1 more is in the journal)")
        );
        let estimate = Estimate { records: None, calls: Some(calls) };
        assert_eq!(
            line(&estimate).as_deref(),
            Some(
                "1,200 calls, about 90,400 + 151,200 tokens, 0.10 USD (from 40 earlier calls; 40 more are in the journal)"
            )
        );
        assert_eq!(line(&Estimate::default()), None);
        assert_eq!([0, 12, 999, 1000, 1_234_567].map(thousands), ["0", "12", "999", "1,000", "1,234,567"]);
    }
}
