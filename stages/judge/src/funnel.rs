//! How many completions of each perspective get how far.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Judged, Outcome};

/// From what was asked to what is kept; `funnel.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Funnel {
    /// Whole questions.
    pub questions: QuestionFunnel,
    /// Each perspective, in the artifact's order.
    pub perspectives: Vec<PerspectiveFunnel>,
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

/// What became of one perspective. But for `outcomes`, it counts questions.
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
    /// In the output.
    pub kept: usize,
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
        Self { questions, perspectives }
    }

    /// The funnel in sentences, questions first.
    pub(crate) fn notes(&self) -> Vec<String> {
        let QuestionFunnel { asked, kept, dropped, rationales } = &self.questions;
        let dropped = list(dropped.iter().map(|(why, count)| (*why, *count)));
        let mut notes =
            vec![format!("kept {kept} of {asked} questions with {rationales} rationales{dropped}")];
        for funnel in &self.perspectives {
            let PerspectiveFunnel { perspective, asked, answered, right, deduplicated, kept, outcomes } =
                funnel;
            let outcomes = outcomes.iter().filter(|(outcome, _)| **outcome != Outcome::Kept);
            let lost = list(outcomes.map(|(why, count)| (*why, *count)));
            notes.push(format!(
                "{perspective}: {answered} of {asked} answered, {right} right, {deduplicated} distinct, {kept} kept{lost}"
            ));
        }
        notes
    }
}

impl PerspectiveFunnel {
    fn of(judged: &[Judged], perspective: &str) -> Self {
        let mut funnel = Self {
            perspective: perspective.to_owned(),
            asked: judged.len(),
            answered: 0,
            right: 0,
            deduplicated: 0,
            kept: 0,
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
            funnel.kept += usize::from(distinct && judged.dropped.is_none());
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
