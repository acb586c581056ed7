//! Scoring profiles: how answers are found and compared, each a pure function of question and text.
//!
//! [`Profile::Mind`] is for results; the others repeat what published harnesses do, faults included, so that
//! numbers can be set beside theirs. They are programs over strings, but for two steps that nobody can repeat
//! without them: the language model that `simple_evals` asks whether two answers to MATH are the same, and the
//! computer algebra that `qwen` falls back on. Such items are [`Verdict::undecided`], and count as wrong.

use std::{fmt, str::FromStr};

use contract::records::Question;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::score::{self, Answer, Verdict};

mod hendrycks;
mod lm_eval;
mod opencompass;
mod qwen;
mod simple_evals;

/// How answers are found in texts and compared with the gold ones.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Profile {
    /// This project's own: lenient towards form, strict towards value.
    #[default]
    Mind,
    /// lm-eval 0.4.13: flexible extraction for numbers, `hendrycks_math500`, `gpqa_diamond_cot_zeroshot`.
    LmEval,
    /// OpenCompass, August 2026: `gsm8k_gen`, MATH with version 2 of its string equality, CoT configurations.
    Opencompass,
    /// Qwen2.5-Math `evaluation/` without its computer algebra.
    Qwen,
    /// openai/simple-evals: the line `Answer: ..`.
    SimpleEvals,
    /// The last box under `is_equiv` of Hendrycks et al. (2021).
    Hendrycks,
}

impl Profile {
    /// Every profile.
    pub const ALL: [Self; 6] =
        [Self::Mind, Self::LmEval, Self::Opencompass, Self::Qwen, Self::SimpleEvals, Self::Hendrycks];

    /// The name in recipes and records.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mind => "mind",
            Self::LmEval => "lm_eval",
            Self::Opencompass => "opencompass",
            Self::Qwen => "qwen",
            Self::SimpleEvals => "simple_evals",
            Self::Hendrycks => "hendrycks",
        }
    }

    /// Scores one text. Never panics, whatever the text; takes time linear in it.
    pub fn score(self, question: &Question, text: &str) -> Verdict {
        let gold = question.answer.trim();
        let wanted = Answer::of(question);
        let found = match self {
            Self::Mind => return score::score(question, text),
            Self::LmEval => lm_eval::judge(wanted, gold, &score::choices(question), text),
            Self::Opencompass => opencompass::judge(wanted, gold, &question.task, text),
            Self::Qwen => qwen::judge(wanted, gold, text),
            Self::SimpleEvals => simple_evals::judge(wanted, gold, text),
            Self::Hendrycks => hendrycks::judge(gold, text),
        };
        let Found { extracted, rule, outcome } = found;
        Verdict {
            correct: extracted.is_some() && outcome == Outcome::Right,
            undecided: extracted.is_some() && outcome == Outcome::Undecided,
            rule: if extracted.is_some() { rule } else { "none" },
            extracted,
            cut: false,
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(self.name())
    }
}

/// No profile has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no scoring profile is named `{0}`")]
pub struct UnknownProfile(pub String);

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(name: &str) -> Result<Self, UnknownProfile> {
        let found = Self::ALL.into_iter().find(|profile| profile.name() == name);
        found.ok_or_else(|| UnknownProfile(name.to_owned()))
    }
}

/// What a comparison came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outcome {
    Right,
    Wrong,
    Undecided,
}

impl Outcome {
    fn of(right: bool) -> Self {
        if right { Self::Right } else { Self::Wrong }
    }
}

/// What a profile made of a text.
struct Found {
    extracted: Option<String>,
    rule: &'static str,
    outcome: Outcome,
}

impl Found {
    /// An extraction and whether it is right.
    fn new(extracted: Option<String>, rule: &'static str, right: impl FnOnce(&str) -> bool) -> Self {
        let outcome = Outcome::of(extracted.as_deref().is_some_and(right));
        Self { extracted, rule, outcome }
    }
}

/// The content of the last `\boxed{}`, of `\fbox{}` where there is none; `None` where it never closes.
///
/// As the harnesses do it: braces are counted whether escaped or not.
fn last_boxed(text: &str) -> Option<&str> {
    let start = text.rfind("\\boxed").or_else(|| text.rfind("\\fbox"))?;
    let mut depth = 0_usize;
    for (index, byte) in text[start..].bytes().enumerate() {
        match byte {
            b'{' => depth += 1,
            b'}' => {
                depth = depth.checked_sub(1)?;
                if depth == 0 {
                    return text[start..start + index].strip_prefix("\\boxed{");
                }
            }
            _ => {}
        }
    }
    None
}

/// `\frac12` as `\frac{1}{2}`; `None` where the harnesses raise an error.
fn fix_fractions(text: &str) -> Option<String> {
    let mut parts = text.split("\\frac");
    let mut fixed = parts.next()?.to_owned();
    for part in parts {
        fixed.push_str("\\frac");
        let mut letters = part.chars();
        let first = letters.next()?;
        if first == '{' {
            fixed.push_str(part);
            continue;
        }
        let Some(second) = letters.next() else { return Some(text.to_owned()) };
        let rest = letters.as_str();
        if second == '{' {
            fixed.push_str(&format!("{{{first}}}{{{rest}"));
        } else {
            fixed.push_str(&format!("{{{first}}}{{{second}}}{rest}"));
        }
    }
    Some(fixed)
}

/// `a/b` as `\frac{a}{b}` for integers as they print; `None` where the harnesses raise an error.
fn fix_slash(text: &str) -> Option<String> {
    let Some((a, b)) = text.split_once('/').filter(|(_, b)| !b.contains('/')) else {
        return Some(text.to_owned());
    };
    let printed = |digits: &str| {
        let bare = digits.strip_prefix('-').unwrap_or(digits);
        bare == "0" && digits == bare || !bare.starts_with('0')
    };
    if !is_python_integer(a) || !is_python_integer(b) {
        return None;
    }
    let plain = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-');
    let canonical = plain(a) && plain(b) && printed(a) && printed(b);
    Some(if canonical { format!("\\frac{{{a}}}{{{b}}}") } else { text.to_owned() })
}

/// Whether Python's `int` reads it.
fn is_python_integer(text: &str) -> bool {
    let digits = text.trim().strip_prefix(['-', '+']).unwrap_or(text.trim());
    !digits.is_empty()
        && digits.split('_').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests;
