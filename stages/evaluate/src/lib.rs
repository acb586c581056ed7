//! Kind `evaluate`: answers questions with a model and scores the answers.
//!
//! Decoding is greedy, so a prediction depends on the model, the prompt and the length limit alone. Predictions are
//! journalled under exactly these: a question answered once by a model is never answered again, whatever the recipe.

use std::collections::{BTreeMap, BTreeSet};

use contract::{
    ArtifactType, Context, Digest, Port, PortFlow, Stage, StageError, jsonl,
    records::{Prediction, Question, Scores, files},
};
use lm::{
    LanguageModel, device,
    generate::{Generation, Options, generate},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasks::{Profile, Verdict, gpqa};

/// The kind `evaluate`.
pub struct Evaluate;

/// What an evaluation is told.
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
}

fn max_new_tokens() -> usize {
    256
}

fn batch_size() -> usize {
    64
}

/// Raised when the journalled form of a generation changes, or how it is made.
const GENERATION_VERSION: u32 = 1;

/// What a generation depends on beside its prompt; each has a journal of its own.
#[derive(Serialize)]
struct Namespace<'a> {
    version: u32,
    model: &'a Digest,
    backend: &'a contract::Backend,
    max_new_tokens: usize,
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
}

impl Stage for Evaluate {
    type Params = EvaluateParams;

    const NAME: &'static str = "evaluate";
    const VERSION: u32 = 2;
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
        let fields = [("/max_new_tokens", params.max_new_tokens), ("/batch_size", params.batch_size)];
        let zero = fields.into_iter().filter(|(_, value)| *value == 0);
        zero.map(|(field, _)| (field.to_owned(), "must be at least 1".to_owned())).collect()
    }

    fn run(params: EvaluateParams, context: &Context) -> Result<(), StageError> {
        let questions: Vec<Question> = jsonl::read(&context.input("questions").file(files::QUESTIONS))?;
        if questions.is_empty() {
            return Err(StageError::failed(EvaluateError::NoQuestions));
        }
        let answers = answer(&questions, &params, context)?;
        let mut undecided = 0;
        let predictions: Vec<Prediction> = questions
            .iter()
            .zip(answers)
            .map(|(question, answer)| {
                let text = if is_sealed(question) {
                    gpqa::unsealed(&answer.text)
                } else {
                    answer.text.as_str().into()
                };
                let verdict = params.profile.score(question, &text);
                undecided += usize::from(verdict.undecided);
                predict(question, answer, verdict)
            })
            .collect();
        if undecided > 0 {
            context.note(format!(
                "profile `{}` cannot decide {undecided} of {} answers, which count as wrong",
                params.profile,
                questions.len()
            ));
        }
        let folder = context.output("scores");
        jsonl::write(&folder.join(files::PREDICTIONS), &predictions)?;
        jsonl::write_json(
            &folder.join(files::SCORES),
            &scores(&questions, &predictions, undecided, params.profile),
        )
    }
}

/// The answer to every question, from the journal where it is there.
fn answer(
    questions: &[Question],
    params: &EvaluateParams,
    context: &Context,
) -> Result<Vec<Answer>, StageError> {
    let model = context.input("model");
    let namespace = Namespace {
        version: GENERATION_VERSION,
        model: &model.digest,
        backend: context.backend(),
        max_new_tokens: params.max_new_tokens,
    };
    let mut journal = context.journal(Evaluate::NAME, &namespace)?;
    let prompts: Vec<String> = questions.iter().map(tasks::prompt).collect();
    let keys: Vec<String> =
        prompts.iter().map(|prompt| Digest::of_bytes(prompt.as_bytes()).to_string()).collect();
    let sealed: BTreeSet<&str> = keys
        .iter()
        .zip(questions)
        .filter(|(_, asked)| is_sealed(asked))
        .map(|(key, _)| key.as_str())
        .collect();

    let missing: BTreeMap<&str, &str> = keys
        .iter()
        .zip(&prompts)
        .filter(|(key, _)| journal.get::<Answer>(key).is_none())
        .map(|(key, prompt)| (key.as_str(), prompt.as_str()))
        .collect();
    let (missing, asked): (Vec<&str>, Vec<String>) =
        missing.into_iter().map(|(key, prompt)| (key, prompt.to_owned())).unzip();
    let mut done = questions.len().saturating_sub(asked.len());
    context.progress(done, questions.len(), "questions");
    if !asked.is_empty() {
        let model = LanguageModel::load(&model.path, &device::open(context.backend())?)?;
        let options = Options { max_new_tokens: params.max_new_tokens, batch_size: params.batch_size };
        let go_on = || context.check_cancelled();
        generate(&model, &asked, &options, &go_on, &mut |indices, generations| {
            let items: Vec<(String, Answer)> = indices
                .iter()
                .zip(generations)
                .map(|(index, generation)| {
                    let (key, mut answer) = (missing[*index], Answer::from(generation));
                    if sealed.contains(key) {
                        answer.text = gpqa::seal(&answer.text);
                    }
                    (key.to_owned(), answer)
                })
                .collect();
            journal.put(&items)?;
            done += items.len();
            context.progress(done, questions.len(), "questions");
            Ok(())
        })?;
    }
    let answer = |key: &String| journal.get(key).expect("every missing answer was generated and recorded");
    Ok(keys.iter().map(answer).collect())
}

/// Whether a question is to be kept out of plain text, and so an answer that may quote it.
fn is_sealed(question: &Question) -> bool {
    gpqa::sealed(&question.question)
}

fn predict(question: &Question, answer: Answer, verdict: Verdict) -> Prediction {
    Prediction {
        id: question.id.clone(),
        extracted: verdict.extracted,
        correct: verdict.correct,
        truncated: answer.truncated,
        tokens: answer.tokens,
        text: answer.text,
    }
}

fn scores(questions: &[Question], predictions: &[Prediction], undecided: usize, profile: Profile) -> Scores {
    let total = predictions.len() as f64;
    let rate = |holds: &dyn Fn(&Prediction) -> bool| {
        predictions.iter().filter(|prediction| holds(prediction)).count() as f64 / total
    };
    let tokens: usize = predictions.iter().map(|prediction| prediction.tokens).sum();
    let values = BTreeMap::from([
        ("accuracy".to_owned(), rate(&|prediction| prediction.correct)),
        ("unparsed".to_owned(), rate(&|prediction| prediction.extracted.is_none())),
        ("truncated".to_owned(), rate(&|prediction| prediction.truncated)),
        ("undecided".to_owned(), undecided as f64 / total),
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
