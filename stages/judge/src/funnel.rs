//! How many completions of each perspective get how far.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::{Judged, Outcome, SecondOpinions};

/// From what was asked to what is kept; `funnel.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Funnel {
    /// Whole questions.
    pub questions: QuestionFunnel,
    /// Each perspective, in the artifact's order.
    pub perspectives: Vec<PerspectiveFunnel>,
    /// What a model said, where one was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opinions: Option<SecondOpinions>,
}

/// What became of whole questions.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QuestionFunnel {
    /// Questions in the input.
    pub asked: usize,
    /// Questions in the output.
    pub kept: usize,
    /// Dropped, by reason: `too-few`, `easy`, `over-limit`.
    pub dropped: BTreeMap<Outcome, usize>,
    /// Rationales in the output.
    pub rationales: usize,
}

/// What became of one perspective: questions that got so far, each count among those of the one before it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PerspectiveFunnel {
    /// The perspective.
    pub perspective: String,
    /// Questions in the input.
    pub asked: usize,
    /// With a completion.
    pub answered: usize,
    /// With a complete, right completion.
    pub right: usize,
    /// With one that is no duplicate, empty or too long either.
    pub deduplicated: usize,
    /// Of a question with enough perspectives: `keep.min_correct`.
    pub sufficient: usize,
    /// Left after the down-sampling of easy questions.
    pub down_sampled: usize,
    /// In the output: left after `max_questions`.
    pub kept: usize,
    /// Right at the first attempt.
    pub right_at_first: usize,
    /// Completions by what became of them.
    pub outcomes: BTreeMap<Outcome, usize>,
}

impl Funnel {
    pub(crate) fn of(judged: &[Judged], perspectives: &[String]) -> Self {
        let mut questions = QuestionFunnel { asked: judged.len(), ..QuestionFunnel::default() };
        for judged in judged {
            match judged.dropped {
                Some(why) => *questions.dropped.entry(why).or_default() += 1,
                None => {
                    questions.kept += 1;
                    questions.rationales += judged.rationales.len();
                }
            }
        }
        let perspectives = perspectives.iter().map(|name| PerspectiveFunnel::of(judged, name)).collect();
        Self { questions, perspectives, opinions: None }
    }

    /// The funnel in sentences, questions first.
    pub(crate) fn notes(&self) -> Vec<String> {
        let QuestionFunnel { asked, kept, dropped, rationales } = &self.questions;
        let dropped = list(dropped.iter().map(|(why, count)| (*why, *count)));
        let mut notes =
            vec![format!("kept {kept} of {asked} questions with {rationales} rationales{dropped}")];
        for funnel in &self.perspectives {
            let PerspectiveFunnel {
                perspective, asked, answered, right, deduplicated, kept, outcomes, ..
            } = funnel;
            let outcomes = outcomes.iter().filter(|(outcome, _)| **outcome != Outcome::Kept);
            let lost = list(outcomes.map(|(why, count)| (*why, *count)));
            notes.push(format!(
                "{perspective}: {answered} of {asked} answered, {right} right, {deduplicated} distinct, {kept} kept{lost}"
            ));
        }
        if let Some(SecondOpinions { asked, accepted, unreadable, .. }) = self.opinions {
            notes.push(format!("second opinions: {accepted} of {asked} accepted, {unreadable} unreadable"));
        }
        notes
    }

    /// The funnel as tables: how far each perspective's questions got, and what became of its completions.
    pub(crate) fn markdown(&self) -> String {
        let QuestionFunnel { asked, kept, dropped, rationales } = &self.questions;
        let dropped = list(dropped.iter().map(|(why, count)| (*why, *count)));
        let mut text =
            format!("{kept} of {asked} questions are kept, with {rationales} rationales{dropped}.\n");
        let heads = [
            "perspective",
            "asked",
            "answered",
            "right",
            "deduplicated",
            "sufficient",
            "down-sampled",
            "kept",
            "right at first",
        ];
        let row = |funnel: &PerspectiveFunnel| {
            [
                funnel.asked,
                funnel.answered,
                funnel.right,
                funnel.deduplicated,
                funnel.sufficient,
                funnel.down_sampled,
                funnel.kept,
                funnel.right_at_first,
            ]
        };
        let rows = self.perspectives.iter().map(|funnel| (funnel.perspective.as_str(), row(funnel).to_vec()));
        text.push_str("\nQuestions that got so far:\n\n");
        text.push_str(&table(&heads, rows.collect()));

        let met: BTreeSet<Outcome> =
            self.perspectives.iter().flat_map(|funnel| funnel.outcomes.keys().copied()).collect();
        let heads: Vec<&str> = ["perspective", "completions"]
            .into_iter()
            .chain(met.iter().map(|outcome| name(*outcome)))
            .collect();
        let row = |funnel: &PerspectiveFunnel| {
            let count = |outcome: &Outcome| funnel.outcomes.get(outcome).copied().unwrap_or(0);
            [funnel.outcomes.values().sum()].into_iter().chain(met.iter().map(count)).collect()
        };
        let rows = self.perspectives.iter().map(|funnel| (funnel.perspective.as_str(), row(funnel)));
        text.push_str("\nCompletions by what became of them:\n\n");
        text.push_str(&table(&heads, rows.collect()));
        text
    }
}

/// A Markdown table with aligned columns, and the sums of all rows below.
fn table(heads: &[&str], mut rows: Vec<(&str, Vec<usize>)>) -> String {
    let sum = |column: usize| rows.iter().map(|(_, counts)| counts[column]).sum();
    let sums = (0..heads.len() - 1).map(sum).collect();
    rows.push(("all", sums));
    let first = rows.iter().map(|(name, _)| name.chars().count()).chain([heads[0].len()]).max().unwrap_or(0);
    let mut text = format!("| {:first$} |", heads[0]);
    for head in &heads[1..] {
        text.push_str(&format!(" {head} |"));
    }
    text.push_str(&format!("\n| {} |", "-".repeat(first)));
    for head in &heads[1..] {
        text.push_str(&format!(" {}: |", "-".repeat(head.len() - 1)));
    }
    for (name, counts) in rows {
        text.push_str(&format!("\n| {name:first$} |"));
        for (head, count) in heads[1..].iter().zip(counts) {
            text.push_str(&format!(" {count:>width$} |", width = head.len()));
        }
    }
    text.push('\n');
    text
}

impl PerspectiveFunnel {
    fn of(judged: &[Judged], perspective: &str) -> Self {
        let mut funnel = Self {
            perspective: perspective.to_owned(),
            asked: judged.len(),
            answered: 0,
            right: 0,
            deduplicated: 0,
            sufficient: 0,
            down_sampled: 0,
            kept: 0,
            right_at_first: 0,
            outcomes: BTreeMap::new(),
        };
        for judged in judged {
            let of = || judged.judgements.iter().filter(|judgement| judgement.perspective == perspective);
            for judgement in of() {
                *funnel.outcomes.entry(judgement.outcome).or_default() += 1;
            }
            funnel.answered += usize::from(of().next().is_some());
            funnel.right += usize::from(of().any(crate::Judgement::right));
            let distinct = judged.rationales.iter().any(|rationale| rationale.perspective == perspective);
            funnel.deduplicated += usize::from(distinct);
            let dropped = |reasons: &[Outcome]| judged.dropped.is_some_and(|why| reasons.contains(&why));
            funnel.sufficient += usize::from(distinct && !dropped(&[Outcome::TooFew]));
            funnel.down_sampled += usize::from(distinct && !dropped(&[Outcome::TooFew, Outcome::Easy]));
            funnel.kept += usize::from(distinct && judged.dropped.is_none());
            funnel.right_at_first += usize::from(of().any(|first| first.attempt == 0 && first.right()));
        }
        funnel
    }
}

/// ` (wrong 3, duplicate 1)`, or nothing.
fn list(counts: impl Iterator<Item = (Outcome, usize)>) -> String {
    let counts: Vec<String> = counts.map(|(outcome, count)| format!("{} {count}", name(outcome))).collect();
    if counts.is_empty() { String::new() } else { format!(" ({})", counts.join(", ")) }
}

fn name(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Kept => "kept",
        Outcome::Truncated => "truncated",
        Outcome::Unparsed => "unparsed",
        Outcome::Wrong => "wrong",
        Outcome::Bare => "bare",
        Outcome::TooLong => "too long",
        Outcome::Surplus => "surplus",
        Outcome::Duplicate => "duplicate",
        Outcome::TooFew => "too few right",
        Outcome::Easy => "easy",
        Outcome::OverLimit => "over the limit",
    }
}
