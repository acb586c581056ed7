//! Kind `judge`: keeps right, distinct rationales and says why each other one was dropped.
//!
//! Of every perspective the first attempt is kept that is complete, right, short enough and no near-duplicate of
//! one already kept for the same question. Then whole questions are dropped: those with too few kept, a share of
//! the easy ones, and those over the limit. Which questions go is decided by hashes of their ids, so growing a
//! limit keeps what was there.
//!
//! What is right is decided by comparing answers (`tasks`); with `llm`, a model is asked for a second opinion on whole
//! completions that the comparison does not accept, and can only accept more.
//!
//! Every kept text ends with a line break and the answer suffix of `tasks`, byte for byte the same for all
//! rationales of a question. It does not change anything before that, and never trusts a verdict it reads.

mod duplicate;
mod funnel;
mod llm;
mod suffix;

use std::collections::HashSet;

use chat::Endpoint;
use contract::{
    ArtifactType, Context, Digest, Estimate, Outlook, Port, PortFlow, Setting, Stage, StageError, jsonl,
    records::{Question, QuestionRationales, Rationale, files},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasks::Verdict;

pub use funnel::{Funnel, PerspectiveFunnel, QuestionFunnel};
pub use llm::SecondOpinions;

/// The kind `judge`.
pub struct Judge;

/// File names inside a `judgements` artifact.
pub mod judgement_files {
    /// One [`super::Judgement`] a line.
    pub const JUDGEMENTS: &str = "judgements.jsonl";
    /// A [`super::Funnel`].
    pub const FUNNEL: &str = "funnel.json";
    /// The funnel as tables for people.
    pub const ACCEPTANCE: &str = "acceptance.md";
}

/// What a judge stage is told.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JudgeParams {
    /// Which questions are worth keeping.
    #[serde(default)]
    pub keep: Keep,
    /// Similarity, 0 to 1, from which a rationale is a duplicate of another of the same question: the Jaccard
    /// index of their word 3-grams. 1 drops only texts with the same words. Default: 0.9.
    #[serde(default = "default_dedup")]
    pub dedup: f64,
    /// The share of easy questions to keep, 0 to 1; easy means that every perspective was right on its first
    /// attempt. Default: 1.
    #[serde(default = "default_easy")]
    pub easy: f64,
    /// At most so many questions. Default: all.
    #[serde(default)]
    pub max_questions: Option<usize>,
    /// Longest rationale, in characters. Default: any length.
    #[serde(default)]
    pub max_chars: Option<usize>,
    /// A model behind a chat endpoint that is asked about whole completions whose answer the comparison does not
    /// accept. Default: none is asked.
    #[serde(default)]
    pub llm: Option<Box<Endpoint>>,
}

/// Which questions are worth keeping.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Keep {
    /// Fewest perspectives with a right, distinct rationale. Default: 1.
    #[serde(default = "default_min_correct")]
    pub min_correct: usize,
}

impl Default for Keep {
    fn default() -> Self {
        Self { min_correct: default_min_correct() }
    }
}

fn default_min_correct() -> usize {
    1
}

fn default_dedup() -> f64 {
    0.9
}

fn default_easy() -> f64 {
    1.0
}

/// What became of a completion, in the order in which the reasons are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// In the rationales.
    Kept,
    /// Generation stopped at its length limit.
    Truncated,
    /// No answer was found in it.
    Unparsed,
    /// Its answer is wrong.
    Wrong,
    /// It is right, but says nothing beside the answer.
    Bare,
    /// It is right, but longer than `max_chars`.
    TooLong,
    /// It is right, but an earlier attempt of its perspective was kept.
    Surplus,
    /// It is right, but nearly equals the rationale of another perspective.
    Duplicate,
    /// It would be kept, but its question has fewer than `keep.min_correct`.
    TooFew,
    /// It would be kept, but its question is one of the easy ones left out.
    Easy,
    /// It would be kept, but its question is over `max_questions`.
    OverLimit,
}

/// The judgement on one completion; `judgements.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Judgement {
    /// The question's id.
    pub id: String,
    /// The perspective.
    pub perspective: String,
    /// The attempt, from 0.
    pub attempt: u32,
    /// What became of it.
    pub outcome: Outcome,
    /// Whether the answer found equals the gold answer, or a model says so; for truncated texts as well.
    pub correct: bool,
    /// The answer found.
    pub extracted: Option<String>,
    /// The extraction rule that found it.
    pub rule: String,
    /// What a model said of it, where one was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub opinion: Option<bool>,
    /// The perspective whose rationale it nearly equals.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duplicate_of: Option<String>,
}

impl Stage for Judge {
    type Params = JudgeParams;

    const NAME: &'static str = "judge";
    const VERSION: u32 = 3;
    const ABOUT: &'static str = "keeps right, distinct rationales and says why each other one was dropped";
    const SEEDED: bool = false;
    const COMPUTES: bool = false;
    const INPUTS: &'static [Port] = &[Port::input(
        "completions",
        ArtifactType::Completions,
        PortFlow::Carries,
        "the rationales as the teacher wrote them; questions of several inputs are judged together",
    )
    .many()];
    const OUTPUTS: &'static [Port] = &[
        Port::output("rationales", ArtifactType::Rationales, "at most one right rationale a perspective"),
        Port::output(
            "mistakes",
            ArtifactType::Mistakes,
            "at most one wrong rationale a perspective, of the questions kept; each ends in its own wrong answer",
        ),
        Port::output(
            "judgements",
            ArtifactType::Other("judgements"),
            "the verdict on every completion, and the funnel of each perspective",
        ),
    ];

    fn check(params: &JudgeParams) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        for (field, share) in [("/dedup", params.dedup), ("/easy", params.easy)] {
            if !(0.0..=1.0).contains(&share) {
                problems.push((field.to_owned(), format!("{share} is not between 0 and 1")));
            }
        }
        let counts = [
            ("/keep/min_correct", Some(params.keep.min_correct)),
            ("/max_questions", params.max_questions),
            ("/max_chars", params.max_chars),
        ];
        for (field, count) in counts {
            if count == Some(0) {
                problems.push((field.to_owned(), "must be at least 1".to_owned()));
            }
        }
        problems.extend(params.llm.iter().flat_map(|endpoint| endpoint.check("/llm")));
        problems
    }

    fn check_setting(params: &JudgeParams, setting: &Setting<'_>) -> Vec<(String, String)> {
        let most = setting.perspectives("completions").map_or(usize::MAX, |known| known.len());
        let wanted = params.keep.min_correct;
        let text = || format!("{wanted} is more than the {most} perspectives: no question could be kept");
        (wanted > most).then(|| ("/keep/min_correct".to_owned(), text())).into_iter().collect()
    }

    fn perspectives(_: &JudgeParams, setting: &Setting<'_>) -> Option<Vec<String>> {
        setting.perspectives("completions")
    }

    fn settle(mut params: JudgeParams) -> JudgeParams {
        if let Some(endpoint) = &mut params.llm {
            endpoint.settle(0.0, 256);
        }
        params
    }

    fn immaterial() -> &'static [&'static str] {
        &[
            "/llm/base_url",
            "/llm/api_key_env",
            "/llm/concurrency",
            "/llm/limits",
            "/llm/timeout",
            "/llm/retry",
            "/llm/budget",
            // Usage is told in tokens only.
            "/llm/prices",
            "/llm/currency",
        ]
    }

    fn secrets(params: &JudgeParams) -> Vec<String> {
        params.llm.iter().flat_map(|endpoint| endpoint.secrets()).collect()
    }

    fn estimate(params: &JudgeParams, outlook: &Outlook) -> Estimate {
        let inputs = outlook.inputs("completions");
        let read = |path: &std::path::PathBuf| jsonl::read(&path.join(files::COMPLETIONS)).ok();
        let all: Option<Vec<Vec<QuestionRationales>>> =
            inputs.iter().map(|input| input.path.as_ref().and_then(read)).collect();
        let calls = params.llm.as_ref().zip(all).map(|(endpoint, all)| {
            let completions: Vec<QuestionRationales> = all.into_iter().flatten().collect();
            llm::estimate(endpoint, &completions, outlook)
        });
        Estimate { records: None, calls }
    }

    fn run(params: JudgeParams, context: &Context) -> Result<(), StageError> {
        let mut perspectives: Vec<String> = Vec::new();
        let mut completions: Vec<QuestionRationales> = Vec::new();
        for input in context.inputs("completions") {
            let more: Vec<String> = jsonl::read_json(&input.file(files::PERSPECTIVES))?;
            let new = more.into_iter().filter(|name| !perspectives.contains(name)).collect::<Vec<_>>();
            perspectives.extend(new);
            completions.extend(jsonl::read(&input.file(files::COMPLETIONS))?);
        }
        let mut seen = HashSet::new();
        let all = completions.len();
        completions.retain(|completion: &QuestionRationales| seen.insert(completion.question.id.clone()));
        if completions.len() < all {
            context.note(format!("{} questions came twice; the first counts", all - completions.len()));
        }
        let total = completions.len();
        let mut checked = Vec::with_capacity(total);
        for (done, completion) in completions.iter_mut().enumerate() {
            context.check_cancelled()?;
            context.progress(done, total, "questions");
            let QuestionRationales { question, rationales } = completion;
            rationales.sort_by_key(|rationale| {
                let place = perspectives.iter().position(|name| *name == rationale.perspective);
                (place.unwrap_or(perspectives.len()), rationale.attempt)
            });
            let check = |rationale: &Rationale| Checked::new(question, &rationale.text);
            checked.push(rationales.iter().map(check).collect::<Vec<_>>());
        }
        context.progress(total, total, "questions");
        let opinions = match &params.llm {
            Some(endpoint) => Some(llm::ask(endpoint, &completions, &mut checked, context)?),
            None => None,
        };
        let mut judged: Vec<Judged> = completions
            .into_iter()
            .zip(checked)
            .map(|(completion, checked)| Judged::new(completion, checked, &perspectives, &params))
            .collect();
        choose_questions(&mut judged, &params);

        let funnel = Funnel { opinions, ..Funnel::of(&judged, &perspectives) };
        for note in funnel.notes() {
            context.note(note);
        }
        if funnel.questions.kept == 0 {
            return Err(StageError::failed(NothingKept { questions: total, why: funnel.notes().join("; ") }));
        }
        let judgements = context.output("judgements");
        let every = judged.iter().flat_map(|judged| &judged.judgements);
        jsonl::write(&judgements.join(judgement_files::JUDGEMENTS), every)?;
        jsonl::write_json(&judgements.join(judgement_files::FUNNEL), &funnel)?;
        let acceptance = judgements.join(judgement_files::ACCEPTANCE);
        std::fs::write(&acceptance, funnel.markdown()).map_err(StageError::io(&acceptance))?;
        let (kept, mistakes): (Vec<QuestionRationales>, Vec<QuestionRationales>) =
            judged.into_iter().filter_map(Judged::into_kept).unzip();
        for (port, records) in [("rationales", kept), ("mistakes", mistakes)] {
            let folder = context.output(port);
            let told = records.iter().filter(|record| !record.rationales.is_empty());
            jsonl::write(&folder.join(files::RATIONALES), told)?;
            jsonl::write_json(&folder.join(files::PERSPECTIVES), &perspectives)?;
        }
        Ok(())
    }
}

/// No question has enough right rationales.
#[derive(Debug, thiserror::Error)]
#[error("none of the {questions} questions is kept: {why}")]
struct NothingKept {
    questions: usize,
    why: String,
}

/// What is known of a completion's answer.
struct Checked {
    verdict: Verdict,
    /// What a model said, where one was asked.
    opinion: Option<bool>,
}

impl Checked {
    fn new(question: &Question, text: &str) -> Self {
        Self { verdict: tasks::score(question, text), opinion: None }
    }

    fn right(&self) -> bool {
        self.verdict.correct || self.opinion == Some(true)
    }
}

/// A question with its judgements and what it would keep.
struct Judged {
    question: Question,
    judgements: Vec<Judgement>,
    rationales: Vec<Rationale>,
    mistakes: Vec<Rationale>,
    easy: bool,
    /// Why the whole question is dropped, if it is.
    dropped: Option<Outcome>,
}

impl Judged {
    /// Judges the completions of one question, which stand perspective by perspective in the artifact's order.
    fn new(
        completion: QuestionRationales,
        checked: Vec<Checked>,
        perspectives: &[String],
        params: &JudgeParams,
    ) -> Self {
        let QuestionRationales { question, rationales } = completion;
        let mut judgements = Vec::with_capacity(rationales.len());
        let mut kept: Vec<(Rationale, HashSet<String>)> = Vec::new();
        let mut mistakes: Vec<Rationale> = Vec::new();
        for (rationale, checked) in rationales.into_iter().zip(checked) {
            let body = suffix::without_answer(&question, &rationale.text);
            let mut duplicate_of = None;
            let outcome = match early(&rationale, &checked, body, params) {
                Some(outcome) => outcome,
                None if kept.last().is_some_and(|(last, _)| last.perspective == rationale.perspective) => {
                    Outcome::Surplus
                }
                None => {
                    let grams = duplicate::three_grams(body);
                    let twin =
                        kept.iter().find(|(_, other)| duplicate::jaccard(&grams, other) >= params.dedup);
                    if let Some((twin, _)) = twin {
                        duplicate_of = Some(twin.perspective.clone());
                        Outcome::Duplicate
                    } else {
                        let text = suffix::with_answer(&question, body);
                        kept.push((Rationale { text, ..rationale.clone() }, grams));
                        Outcome::Kept
                    }
                }
            };
            let first = mistakes.last().is_none_or(|last| last.perspective != rationale.perspective);
            if outcome == Outcome::Wrong && first {
                mistakes.extend(mistake(&question, &rationale, &checked));
            }
            judgements.push(Judgement {
                id: question.id.clone(),
                perspective: rationale.perspective,
                attempt: rationale.attempt,
                outcome,
                correct: checked.right(),
                extracted: checked.verdict.extracted,
                rule: checked.verdict.rule.to_owned(),
                opinion: checked.opinion,
                duplicate_of,
            });
        }
        let right_at_once = |name: &String| {
            let of = |judgement: &&Judgement| judgement.perspective == *name;
            judgements.iter().find(of).is_some_and(|first| first.attempt == 0 && first.right())
        };
        let easy = perspectives.iter().all(right_at_once);
        let rationales = kept.into_iter().map(|(rationale, _)| rationale).collect();
        Self { question, judgements, rationales, mistakes, easy, dropped: None }
    }

    fn drop_question(&mut self, why: Outcome) {
        self.dropped = Some(why);
        for judgement in &mut self.judgements {
            if judgement.outcome == Outcome::Kept {
                judgement.outcome = why;
            }
        }
    }

    /// The question with its right and with its wrong rationales.
    fn into_kept(self) -> Option<(QuestionRationales, QuestionRationales)> {
        let Self { question, rationales, mistakes, dropped, .. } = self;
        let wrong = QuestionRationales { question: question.clone(), rationales: mistakes };
        dropped.is_none().then_some((QuestionRationales { question, rationales }, wrong))
    }
}

impl Judgement {
    /// Whether it is complete and right, kept or not.
    fn right(&self) -> bool {
        self.correct && self.outcome != Outcome::Truncated
    }
}

/// A wrong rationale, ending in its own answer as a right one ends in the right one.
///
/// None where that answer, once stated so, is not found again: then nobody could tell what was wrong.
fn mistake(question: &Question, rationale: &Rationale, checked: &Checked) -> Option<Rationale> {
    let answer = checked.verdict.extracted.clone()?;
    let stated = Question { answer, ..question.clone() };
    let body = suffix::without_answer(&stated, &rationale.text);
    let text = suffix::with_answer(&stated, body);
    let found = tasks::score(question, &text);
    let same = !body.is_empty() && !found.correct && found.extracted.as_ref() == Some(&stated.answer);
    same.then(|| Rationale { text, ..rationale.clone() })
}

/// Why a completion is dropped whatever the others are.
fn early(rationale: &Rationale, checked: &Checked, body: &str, params: &JudgeParams) -> Option<Outcome> {
    if rationale.truncated {
        Some(Outcome::Truncated)
    } else if !checked.right() {
        let found = checked.verdict.extracted.is_some();
        Some(if found { Outcome::Wrong } else { Outcome::Unparsed })
    } else if body.is_empty() {
        Some(Outcome::Bare)
    } else if params.max_chars.is_some_and(|limit| body.chars().count() > limit) {
        Some(Outcome::TooLong)
    } else {
        None
    }
}

/// Drops whole questions: too few rationales, then easy ones, then those over the limit.
fn choose_questions(judged: &mut [Judged], params: &JudgeParams) {
    for judged in judged.iter_mut() {
        if judged.rationales.len() < params.keep.min_correct {
            judged.drop_question(Outcome::TooFew);
        } else if judged.easy && share_of("easy", &judged.question.id) >= params.easy {
            judged.drop_question(Outcome::Easy);
        }
    }
    let Some(limit) = params.max_questions else { return };
    let mut left: Vec<&mut Judged> = judged.iter_mut().filter(|judged| judged.dropped.is_none()).collect();
    left.sort_by_cached_key(|judged| Digest::of_json(&("limit", &judged.question.id)));
    for judged in left.into_iter().skip(limit) {
        judged.drop_question(Outcome::OverLimit);
    }
}

/// A number in 0..1 that depends on the purpose and the id only.
fn share_of(purpose: &str, id: &str) -> f64 {
    let digest = Digest::of_json(&(purpose, id));
    let head = u32::from_str_radix(&digest.as_str()[..8], 16).expect("a digest is hexadecimal");
    f64::from(head) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests;
