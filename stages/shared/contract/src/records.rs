//! What artifacts hold, one struct a line of a JSON Lines file.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// A question of a task; `questions.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Question {
    /// Unique within its task and split.
    pub id: String,
    /// The task's name, which decides prompt, extraction and scoring: see the `tasks` crate.
    pub task: String,
    /// The question's text.
    pub question: String,
    /// The gold answer: a number, a LaTeX expression, a choice letter, `yes` or `no`.
    pub answer: String,
    /// The choices of a multiple-choice question; the first is letter A.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<String>,
    /// What a task keeps with a question: the facts a built-in one was generated from, which its symbolic solver
    /// reads; the order of shuffled choices; the prompt and answer type of a task declared in a recipe.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub facts: Option<serde_json::Value>,
}

/// One rationale of one question.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rationale {
    /// The perspective it is written from, kebab-case; for single-path teachers the teacher's name.
    pub perspective: String,
    /// Which attempt of this perspective, from 0.
    pub attempt: u32,
    /// The text, without the prompt.
    pub text: String,
    /// Whether generation stopped at its length limit.
    #[serde(default)]
    pub truncated: bool,
}

/// A question with its rationales; `completions.jsonl` and `rationales.jsonl`.
///
/// In a `rationales` artifact every text is right, ends in the answer suffix, and each perspective occurs at most once.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct QuestionRationales {
    /// The question.
    pub question: Question,
    /// Its rationales, in the order of the artifact's `perspectives.json`.
    pub rationales: Vec<Rationale>,
}

/// What a model answered; `predictions.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Prediction {
    /// The question's id.
    pub id: String,
    /// The generated text.
    pub text: String,
    /// The answer found in it.
    pub extracted: Option<String>,
    /// Whether it equals the gold answer.
    pub correct: bool,
    /// Whether generation stopped at its length limit.
    pub truncated: bool,
    /// Whether the scoring profile could not decide; it then counts as wrong.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub undecided: bool,
    /// Generated tokens.
    pub tokens: usize,
}

/// One of several sampled answers to a question; `samples.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Which one of its question, from 0.
    pub sample: usize,
    /// What was answered.
    pub prediction: Prediction,
}

/// What the sampled answers to one question say; `sampled.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sampled {
    /// The question's id.
    pub id: String,
    /// `pass@k` and `maj@n`; the values of [`Scores`] are their means.
    pub values: BTreeMap<String, f64>,
}

/// Totals over predictions; `scores.json`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scores {
    /// The task's name.
    pub task: String,
    /// The scoring profile.
    pub profile: String,
    /// Questions asked; the denominator of every rate.
    pub questions: usize,
    /// Rates in 0..=1 by name: `accuracy`, `unparsed`, `truncated`, `undecided`; and `tokens`, the mean generated. Where
    /// answers were sampled also `pass@k` and `maj@n`.
    pub values: BTreeMap<String, f64>,
}

/// One number of a training log; `metrics.jsonl`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Metric {
    /// Optimizer step, from 1.
    pub step: usize,
    /// Values by name, snake_case; one per perspective as `alpha/planning`.
    pub values: BTreeMap<String, f64>,
}

/// File names inside artifacts.
pub mod files {
    /// Of a `questions` artifact.
    pub const QUESTIONS: &str = "questions.jsonl";
    /// Of a `completions` artifact.
    pub const COMPLETIONS: &str = "completions.jsonl";
    /// Of a `rationales` artifact.
    pub const RATIONALES: &str = "rationales.jsonl";
    /// The perspectives in order, a JSON array of names; of `completions` and `rationales`.
    pub const PERSPECTIVES: &str = "perspectives.json";
    /// Of a `scores` artifact.
    pub const PREDICTIONS: &str = "predictions.jsonl";
    /// Of a `scores` artifact, where answers were sampled.
    pub const SAMPLES: &str = "samples.jsonl";
    /// Of a `scores` artifact, where answers were sampled.
    pub const SAMPLED: &str = "sampled.jsonl";
    /// Of a `scores` artifact.
    pub const SCORES: &str = "scores.json";
    /// Of a `metrics` artifact.
    pub const METRICS: &str = "metrics.jsonl";
}
