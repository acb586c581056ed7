//! openai/simple-evals: the first line `Answer: ..`. Its judge of MATH is a language model and not repeated here.

use std::sync::LazyLock;

use regex::Regex;

use super::{Found, Outcome};
use crate::score::Answer;

static LETTER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)Answer[ \t]*:[ \t]*\$?([A-E])\$?").expect("the pattern is a valid regular expression")
});
static ANSWER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)Answer\s*:\s*([^\n]+)").expect("the pattern is a valid regular expression")
});

pub(super) fn judge(wanted: Answer, gold: &str, text: &str) -> Found {
    let first = |pattern: &Regex| {
        pattern.captures(text).and_then(|found| found.get(1)).map(|found| found.as_str().trim().to_owned())
    };
    match wanted {
        Answer::Letter => {
            let found = first(&LETTER).map(|letter| letter.to_uppercase());
            Found::new(found, "answer-line", |found| found == gold)
        }
        Answer::Number | Answer::Expression | Answer::YesNo => {
            let extracted = first(&ANSWER).filter(|found| !found.is_empty());
            let same = extracted.as_deref().is_some_and(|found| found.eq_ignore_ascii_case(gold));
            let outcome = if same { Outcome::Right } else { Outcome::Undecided };
            Found { extracted, rule: "answer-line", outcome }
        }
    }
}
