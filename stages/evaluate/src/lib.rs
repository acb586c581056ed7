//! Kind `evaluate`: answers questions with a model and scores the answers.
//!
//! Greedy decoding always; where `sampling` says so, several sampled answers to each question besides. A prediction depends on
//! the model, the question, the length limit and the sampling alone, and is journalled under exactly these: a question
//! answered once by a model is never answered again, whatever the recipe, and more samples cost only those missing.

mod samples;

use std::collections::{BTreeMap, BTreeSet};

use contract::{
    ArtifactType, Context, Digest, Port, PortFlow, Stage, StageError, jsonl,
    records::{Prediction, Question, Sample, Sampled, Scores, files},
};
use lm::{
    LanguageModel, device,
    generate::{Generation, Options, Request, generate},
    prompt::Prompter,
    sample,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasks::{Profile, Verdict, gpqa};

/// The kind `evaluate`.
pub struct Evaluate;

/// What an evaluation is told. Defaults without a source are ours.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EvaluateParams {
    /// Where an answer is cut, in tokens. Default: 256.
    #[serde(default = "max_new_tokens")]
    pub max_new_tokens: usize,
    /// Questions answered side by side. Default: 64.
    #[serde(default = "batch_size")]
    pub batch_size: usize,
    /// How answers are found and compared: `mind`, or what a published harness does, to set numbers beside its own:
    /// `lm_eval`, `opencompass`, `qwen`, `simple_evals`, `hendrycks`. Another profile costs no new answers.
    /// Default: `mind`.
    #[serde(default)]
    pub profile: Profile,
    /// Stands before every question, as a student of objective `sbs-multitask` needs it: `"predict: "`. Default: nothing.
    #[serde(default)]
    pub prefix: String,
    /// Sampled answers besides the greedy one, for `pass@k` and `maj@n`. Default: none.
    #[serde(default)]
    pub sampling: Option<Sampling>,
}

/// How answers are sampled.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sampling {
    /// Answers to each question, n of `maj@n`.
    pub samples: usize,
    /// Values of k for `pass@k`, each at most `samples`. Default: 1 and `samples`.
    #[serde(default)]
    pub pass_at: Option<Vec<usize>>,
    /// What logits are divided by. Default: 0.8, as in Codex (arXiv 2107.03374).
    #[serde(default = "temperature")]
    pub temperature: f64,
    /// Only so many of the likeliest tokens. Default: all.
    #[serde(default)]
    pub top_k: Option<usize>,
    /// Only the likeliest tokens that hold this share of the probability together, 0 to 1. Default: 0.95, as in Codex.
    #[serde(default = "top_p")]
    pub top_p: f64,
    /// Decides every draw, with the question's id and the sample's number. Default: 0.
    #[serde(default)]
    pub seed: u64,
}

impl Sampling {
    fn pass_at(&self) -> Vec<usize> {
        self.pass_at.clone().unwrap_or_else(|| vec![1, self.samples])
    }

    fn draws(&self) -> sample::Sampling {
        let Self { temperature, top_k, top_p, seed, .. } = *self;
        sample::Sampling { temperature, top_k, top_p, seed }
    }
}

fn max_new_tokens() -> usize {
    256
}

fn batch_size() -> usize {
    64
}

fn temperature() -> f64 {
    0.8
}

fn top_p() -> f64 {
    0.95
}

/// Raised when the journalled form of a generation changes, or how it is made.
const GENERATION_VERSION: u32 = 3;

/// What a generation depends on beside its question; each has a journal of its own.
#[derive(Serialize)]
struct Namespace<'a> {
    version: u32,
    model: &'a Digest,
    backend: &'a contract::Backend,
    max_new_tokens: usize,
    /// Temperature, top k, top p and seed.
    sampling: Option<(f64, Option<usize>, f64, u64)>,
}

/// One answer that is wanted.
#[derive(Clone, Copy)]
struct Ask<'a> {
    question: &'a Question,
    /// Which sample of it; `None` for the greedy answer.
    sample: Option<usize>,
}

impl Ask<'_> {
    /// What the answer depends on, the model and its settings aside. Equal questions have one greedy answer.
    fn key(&self) -> String {
        let asked = (tasks::prompt(self.question), tasks::message(self.question));
        match self.sample {
            None => Digest::of_json(&asked),
            Some(sample) => Digest::of_json(&(asked, &self.question.id, sample)),
        }
        .to_string()
    }
}

/// One journalled generation.
#[derive(Clone, Serialize, Deserialize)]
struct Answer {
    text: String,
    tokens: usize,
    truncated: bool,
}

impl From<&Generation> for Answer {
    fn from(generation: &Generation) -> Self {
        let Generation { text, tokens, truncated } = generation.clone();
        Self { text, tokens, truncated }
    }
}

#[derive(Debug, thiserror::Error)]
enum EvaluateError {
    #[error("there is nothing to ask: no question on port `questions`")]
    NoQuestions,
    #[error("`prefix` cannot stand before question `{id}`, which is sealed")]
    Sealed { id: String },
}

impl Stage for Evaluate {
    type Params = EvaluateParams;

    const NAME: &'static str = "evaluate";
    const VERSION: u32 = 6;
    const ABOUT: &'static str = "answers questions with a model and scores the answers";
    const SEEDED: bool = false;
    const COMPUTES: bool = true;
    const INPUTS: &'static [Port] = &[
        Port::input("model", ArtifactType::Model, PortFlow::Measures, "the model that answers"),
        Port::input("questions", ArtifactType::Questions, PortFlow::Measures, "what it is asked"),
    ];
    const OUTPUTS: &'static [Port] =
        &[Port::output("scores", ArtifactType::Scores, "the totals, and each answer as it was given")];

    fn check(params: &EvaluateParams) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, field: &str, problem: &str| {
            if !holds {
                problems.push((field.to_owned(), problem.to_owned()));
            }
        };
        require(params.max_new_tokens > 0, "/max_new_tokens", "must be at least 1");
        require(params.batch_size > 0, "/batch_size", "must be at least 1");
        if let Some(sampling) = &params.sampling {
            require(sampling.samples > 0, "/sampling/samples", "must be at least 1");
            let in_range = sampling.pass_at().iter().all(|k| (1..=sampling.samples).contains(k));
            require(in_range, "/sampling/pass_at", "must be from 1 to `samples`");
            require(sampling.temperature > 0.0, "/sampling/temperature", "must be above 0");
            require(sampling.top_k != Some(0), "/sampling/top_k", "must be at least 1");
            let share = sampling.top_p > 0.0 && sampling.top_p <= 1.0;
            require(share, "/sampling/top_p", "must be above 0 and at most 1");
        }
        problems
    }

    fn run(params: EvaluateParams, context: &Context) -> Result<(), StageError> {
        let mut questions: Vec<Question> = jsonl::read(&context.input("questions").file(files::QUESTIONS))?;
        if !params.prefix.is_empty() {
            if let Some(sealed) = questions.iter().find(|question| is_sealed(question)) {
                return Err(StageError::failed(EvaluateError::Sealed { id: sealed.id.clone() }));
            }
            for question in &mut questions {
                question.question.insert_str(0, &params.prefix);
            }
        }
        if questions.is_empty() {
            return Err(StageError::failed(EvaluateError::NoQuestions));
        }
        let mut model = None;
        let greedy: Vec<Ask> = questions.iter().map(|question| Ask { question, sample: None }).collect();
        let answers = answer(&greedy, None, &params, &mut model, context)?;
        let predictions = mark(&greedy, answers, params.profile);
        let undecided = predictions.iter().filter(|prediction| prediction.undecided).count();
        if undecided > 0 {
            context.note(format!(
                "profile `{}` cannot decide {undecided} of {} answers, which count as wrong",
                params.profile,
                questions.len()
            ));
        }
        let mut scores = scores(&questions, &predictions, params.profile);
        let folder = context.output("scores");
        jsonl::write(&folder.join(files::PREDICTIONS), &predictions)?;
        if let Some(sampling) = &params.sampling {
            let asks: Vec<Ask> = questions
                .iter()
                .flat_map(|question| (0..sampling.samples).map(move |n| Ask { question, sample: Some(n) }))
                .collect();
            let answers = answer(&asks, Some(sampling), &params, &mut model, context)?;
            let predictions = mark(&asks, answers, params.profile);
            let sampled: Vec<Sampled> =
                predictions.chunks(sampling.samples).map(|samples| sampled(sampling, samples)).collect();
            jsonl::write(&folder.join(files::SAMPLED), &sampled)?;
            scores.values.extend(means(&sampled));
            let samples: Vec<Sample> = predictions
                .into_iter()
                .enumerate()
                .map(|(place, prediction)| Sample { sample: place % sampling.samples, prediction })
                .collect();
            jsonl::write(&folder.join(files::SAMPLES), &samples)?;
        }
        jsonl::write_json(&folder.join(files::SCORES), &scores)
    }
}

/// The answer to everything asked, from the journal where it is there; else from the model, loaded once.
fn answer(
    asks: &[Ask],
    sampling: Option<&Sampling>,
    params: &EvaluateParams,
    model: &mut Option<LanguageModel>,
    context: &Context,
) -> Result<Vec<Answer>, StageError> {
    let input = context.input("model");
    let namespace = Namespace {
        version: GENERATION_VERSION,
        model: &input.digest,
        backend: context.backend(),
        max_new_tokens: params.max_new_tokens,
        sampling: sampling.map(|s| (s.temperature, s.top_k, s.top_p, s.seed)),
    };
    let mut journal = context.journal(Evaluate::NAME, &namespace)?;
    let unit = if sampling.is_some() { "samples" } else { "questions" };
    let keys: Vec<String> = asks.iter().map(Ask::key).collect();
    let missing: BTreeMap<&str, &Ask> = keys
        .iter()
        .zip(asks)
        .filter(|(key, _)| journal.get::<Answer>(key).is_none())
        .map(|(key, ask)| (key.as_str(), ask))
        .collect();
    let mut done = asks.len().saturating_sub(missing.len());
    context.progress(done, asks.len(), unit);
    if !missing.is_empty() {
        if model.is_none() {
            *model = Some(LanguageModel::load(&input.path, &device::open(context.backend())?)?);
        }
        let model = model.as_ref().expect("loaded just now");
        let prompter = Prompter::new(&model.tokenizer)?;
        let request = |ask: &&Ask| -> Result<Request, StageError> {
            let Ask { question, sample } = **ask;
            let (prompt, item) = (prompter.question(question)?, question.id.clone());
            Ok(Request { prompt, item, sample: sample.unwrap_or_default() })
        };
        let requests = missing.values().map(request).collect::<Result<Vec<Request>, StageError>>()?;
        let missing: Vec<(&str, &Ask)> = missing.into_iter().collect();
        let options = Options {
            max_new_tokens: params.max_new_tokens,
            batch_size: params.batch_size,
            sampling: sampling.map(Sampling::draws),
        };
        let go_on = || context.check_cancelled();
        generate(model, &requests, &options, &go_on, &mut |indices, generations| {
            let items: Vec<(String, Answer)> = indices
                .iter()
                .zip(generations)
                .map(|(index, generation)| {
                    let ((key, ask), mut answer) = (missing[*index], Answer::from(generation));
                    if is_sealed(ask.question) {
                        answer.text = gpqa::seal(&answer.text);
                    }
                    (key.to_owned(), answer)
                })
                .collect();
            journal.put(&items)?;
            done += items.len();
            context.progress(done, asks.len(), unit);
            Ok(())
        })?;
    }
    let answer = |key: &String| journal.get(key).expect("every missing answer was generated and recorded");
    Ok(keys.iter().map(answer).collect())
}

/// The answers, each with the profile's verdict.
fn mark(asks: &[Ask], answers: Vec<Answer>, profile: Profile) -> Vec<Prediction> {
    let predict = |(ask, answer): (&Ask, Answer)| {
        let sealed = is_sealed(ask.question);
        let text = if sealed { gpqa::unsealed(&answer.text) } else { answer.text.as_str().into() };
        let mut verdict = profile.score(ask.question, &text);
        // Some profiles take whole sentences for the answer; those may quote the question or a choice.
        let quote =
            verdict.extracted.as_mut().filter(|found| sealed && found.chars().count() > LONGEST_LETTER);
        if let Some(found) = quote {
            *found = gpqa::seal(found);
        }
        predict(ask.question, answer, verdict)
    };
    asks.iter().zip(answers).map(predict).collect()
}

/// Characters of a letter as profiles find it, `(A)`.
const LONGEST_LETTER: usize = 3;

/// Whether a question is to be kept out of plain text, and so an answer that may quote it.
fn is_sealed(question: &Question) -> bool {
    gpqa::sealed(&question.question)
}

/// `pass@k` and `maj@n` of one question, from its samples.
fn sampled(sampling: &Sampling, samples: &[Prediction]) -> Sampled {
    let n = sampling.samples;
    let right = samples.iter().filter(|sample| sample.correct).count();
    let majority = f64::from(samples::majority_is_right(samples));
    let mut values = BTreeMap::from([(format!("maj@{n}"), majority)]);
    for k in sampling.pass_at() {
        values.insert(format!("pass@{k}"), samples::pass_at(n, right, k));
    }
    Sampled { id: samples[0].id.clone(), values }
}

/// The mean of each value over questions, which all have the same ones.
fn means(sampled: &[Sampled]) -> BTreeMap<String, f64> {
    let mut sums = BTreeMap::new();
    for (name, value) in sampled.iter().flat_map(|question| &question.values) {
        *sums.entry(name.clone()).or_insert(0.0) += value;
    }
    sums.values_mut().for_each(|sum| *sum /= sampled.len() as f64);
    sums
}

fn predict(question: &Question, answer: Answer, verdict: Verdict) -> Prediction {
    Prediction {
        id: question.id.clone(),
        extracted: verdict.extracted,
        correct: verdict.correct,
        truncated: answer.truncated,
        undecided: verdict.undecided,
        tokens: answer.tokens,
        text: answer.text,
    }
}

fn scores(questions: &[Question], predictions: &[Prediction], profile: Profile) -> Scores {
    let total = predictions.len() as f64;
    let rate = |holds: &dyn Fn(&Prediction) -> bool| {
        predictions.iter().filter(|prediction| holds(prediction)).count() as f64 / total
    };
    let tokens: usize = predictions.iter().map(|prediction| prediction.tokens).sum();
    let values = BTreeMap::from([
        ("accuracy".to_owned(), rate(&|prediction| prediction.correct)),
        ("unparsed".to_owned(), rate(&|prediction| prediction.extracted.is_none())),
        ("truncated".to_owned(), rate(&|prediction| prediction.truncated)),
        ("undecided".to_owned(), rate(&|prediction| prediction.undecided)),
        ("tokens".to_owned(), tokens as f64 / total),
    ]);
    let tasks: BTreeSet<&str> = questions.iter().map(|question| question.task.as_str()).collect();
    Scores {
        task: tasks.into_iter().collect::<Vec<_>>().join("+"),
        profile: profile.name().to_owned(),
        questions: predictions.len(),
        values,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
