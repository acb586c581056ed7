//! What a plan's cells would make and cost, each kind's estimate carried on to the cells below it.

use std::collections::BTreeMap;

use contract::{Estimate, Foreseen, Outlook};

use crate::{
    graph::Graph,
    history::History,
    plan::{Decision, Plan},
    store::Store,
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

/// How long the cells of a stage took before.
pub struct StageTime {
    /// Index into [`Graph::stages`].
    pub stage: usize,
    /// How many of its cells would or may run.
    pub cells: usize,
    /// What one takes, seconds: the median of the earlier results.
    pub seconds: f64,
    /// How many earlier results say so.
    pub earlier: usize,
}

/// The wall time of every stage that has work, as far as the last results of its cells tell it.
pub fn times(graph: &Graph, plan: &Plan, store: &Store, history: &History) -> Vec<StageTime> {
    let mut waiting: BTreeMap<usize, usize> = BTreeMap::new();
    for (cell, decision) in &plan.decisions {
        if !matches!(decision, Decision::Reuse { .. } | Decision::Fetch { .. }) {
            *waiting.entry(graph.cells[*cell].stage).or_default() += 1;
        }
    }
    let time = |(stage, cells): (usize, usize)| {
        let latest = graph.stages[stage]
            .cells
            .iter()
            .filter_map(|cell| store.record(history.latest(&graph.cells[*cell].name.0)?));
        let mut seconds: Vec<f64> = latest.map(|record| record.seconds).collect();
        seconds.sort_by(f64::total_cmp);
        let median = *seconds.get(seconds.len() / 2)?;
        Some(StageTime { stage, cells, seconds: median, earlier: seconds.len() })
    };
    waiting.into_iter().filter_map(time).collect()
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
mod tests {
    use contract::CallEstimate;

    use super::*;

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
