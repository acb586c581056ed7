//! Whether two mathematical answers are equal, without a computer algebra system.
//!
//! Notation becomes tokens, tokens an [`parse::Answer`], and answers are compared by kind: numbers exactly,
//! rational functions in a prime field, everything else at 77 digits, containers element by element. Verdicts
//! follow math-verify 0.9.0 but for these differences:
//!
//! - plain words for currency and units, and any words behind a number, are dropped (`18 dollars` is 18);
//! - `[-\infty` is no interval, so it does not equal `(-\infty`;
//! - `-50%` is -50 as `50%` is 50; `1 1/2` is a mixed number; `76°` is 76; an odd root of a negative number is real;
//! - bases that are given must be equal, variables keep their case, and small numbers are told apart relatively.
//!
//! Every step is bounded: answers are at most [`MAX_LENGTH`] bytes, nesting, digits, exponents and factorials
//! are capped, and evaluation draws on a budget. What exceeds a bound is compared as text.

mod compare;
mod exact;
mod expression;
mod field;
mod numeric;
mod parse;
mod token;
mod units;

use parse::fold;
use token::{Commas, Kind, Token};
pub(crate) use units::is_unit;

/// Longer answers are compared as text.
const MAX_LENGTH: usize = 1500;

/// Words that change a number's value, so that a number with one of them is not that number.
const MULTIPLIERS: [&str; 17] = [
    "hundred", "thousand", "million", "billion", "trillion", "dozen", "half", "halves", "third", "thirds",
    "quarter", "quarters", "squared", "cubed", "times", "over", "if",
];

/// Whether an answer equals the gold one.
pub(crate) fn equal(gold: &str, answer: &str) -> bool {
    let (gold, answer) = (gold.trim(), answer.trim());
    if gold.is_empty() || answer.is_empty() {
        return false;
    }
    if tight(gold) == tight(answer) {
        return true;
    }
    if gold.len() > MAX_LENGTH || answer.len() > MAX_LENGTH {
        return false;
    }
    let brackets = gold.contains(['(', '[', '{']);
    let budget = numeric::Budget::new();
    equal_reading(gold, answer, Commas::Group, &budget)
        || brackets && equal_reading(gold, answer, Commas::Separate, &budget)
}

fn equal_reading(gold: &str, answer: &str, commas: Commas, budget: &numeric::Budget) -> bool {
    let Some((gold_tokens, answer_tokens)) = token::tokens(gold, commas).zip(token::tokens(answer, commas))
    else {
        return false;
    };
    if words(&gold_tokens).is_some_and(|gold| words(&answer_tokens) == Some(gold)) {
        return true;
    }
    let Some(gold) = parse::parse(&gold_tokens) else { return false };
    if parse::parse(&answer_tokens).is_some_and(|answer| compare::same(&gold, &answer, budget)) {
        return true;
    }
    compare::number(&gold).is_some_and(|_| {
        let bare = without_words(&answer_tokens).and_then(parse::parse);
        bare.is_some_and(|answer| compare::same(&gold, &answer, budget))
    })
}

/// A number without the words behind it, whatever they are.
fn without_words(tokens: &[Token]) -> Option<&[Token]> {
    let worded = |token: &&Token| matches!(token.kind, Kind::Word(_) | Kind::Unit(_) | Kind::Text(_));
    let words = tokens.iter().rev().take_while(worded).count();
    let (number, words) = tokens.split_at(tokens.len() - words);
    let multiplies = words.iter().any(|token| match &token.kind {
        Kind::Word(word) | Kind::Text(word) => {
            word.split_whitespace().any(|word| MULTIPLIERS.contains(&word.to_lowercase().as_str()))
        }
        _ => false,
    });
    (words.first()?.spaced && !multiplies).then_some(number)
}

/// The letters of an answer that consists of words alone, folded.
fn words(tokens: &[Token]) -> Option<String> {
    let mut text = String::new();
    for token in tokens {
        match &token.kind {
            Kind::Word(word) | Kind::Unit(word) | Kind::Text(word) => text.push_str(&fold(word)),
            Kind::Letter(letter) => text.push(*letter),
            Kind::Mark('(' | ')' | '{' | '}' | '.' | ',') => {}
            Kind::Number(_) | Kind::Command(_) | Kind::Mark(_) => return None,
        }
    }
    let letters = text.chars().count();
    let has_word =
        tokens.iter().any(|token| matches!(token.kind, Kind::Word(_) | Kind::Unit(_) | Kind::Text(_)));
    // A choice letter in parentheses has no case; a variable has.
    let choice = letters == 1 && tokens.iter().any(|token| token.kind == Kind::Mark('('));
    (letters > 1 && has_word || letters == 1).then(|| {
        if letters > 1 {
            text.to_lowercase()
        } else if choice {
            text.to_uppercase()
        } else {
            text
        }
    })
}

fn tight(text: &str) -> String {
    text.chars().filter(|letter| !letter.is_whitespace()).collect()
}

#[cfg(test)]
mod tests;
