//! Whether a text answers a question: extraction, then comparison, under one profile for every model.

use std::borrow::Cow;

use contract::records::Question;

use crate::{AnswerType, DeclaredTask, Task, compare, extract, gpqa, math};

/// What a text answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// The answer found in the text; a number in lowest terms, a letter, `yes` or `no` where it is one.
    pub extracted: Option<String>,
    /// Whether it equals the gold answer.
    pub correct: bool,
    /// The rule that found it. Under the default profile: `box`, `anchor`, `last-number`, `letter-line`, `choice-text`, `last-line`;
    /// `none` where no rule did, `open-think` where the text ends inside a thought.
    pub rule: &'static str,
    /// Whether an invented next question was cut off before the search.
    pub cut: bool,
    /// Whether the profile needs something that is not here to tell; it then counts as wrong.
    pub undecided: bool,
}

/// What kind of answer a question wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Number,
    Expression,
    Letter,
    YesNo,
}

impl Answer {
    /// By the task or its declaration, and for a task unknown here by the gold answer.
    pub(crate) fn of(question: &Question) -> Self {
        if let Some(task) = DeclaredTask::of(question) {
            return match task.answer {
                AnswerType::Number => Self::Number,
                AnswerType::Expression => Self::Expression,
                AnswerType::Letter => Self::Letter,
                AnswerType::YesNo => Self::YesNo,
            };
        }
        if !question.choices.is_empty() {
            return Self::Letter;
        }
        match question.task.parse() {
            Ok(Task::Arithmetic | Task::Comparison | Task::Calendar | Task::Gsm8k | Task::Svamp) => {
                Self::Number
            }
            Ok(Task::Math500 | Task::Csqa | Task::GpqaDiamond) => Self::Expression,
            Ok(Task::Strategyqa) => Self::YesNo,
            Err(_) if ["yes", "no"].contains(&question.answer.as_str()) => Self::YesNo,
            Err(_) if compare::number(&question.answer).is_some() => Self::Number,
            Err(_) => Self::Expression,
        }
    }
}

/// Scores one text under [`crate::Profile::Mind`]. Never panics, whatever the text; takes time linear in it.
pub fn score(question: &Question, text: &str) -> Verdict {
    let Some(visible) = extract::visible(text) else {
        return Verdict { extracted: None, correct: false, rule: "open-think", cut: false, undecided: false };
    };
    let (found, gold) = (&*visible.text, question.answer.trim());
    let answer = Answer::of(question);
    let found = match answer {
        Answer::Number => number(found),
        Answer::Expression => expression(found),
        Answer::Letter => letter(found, &choices(question)),
        Answer::YesNo => yes_no(found),
    };
    let (extracted, rule) = found.map_or((None, "none"), |(found, rule)| (Some(found), rule));
    let correct = extracted.as_deref().is_some_and(|extracted| match answer {
        Answer::Number => match compare::number(gold) {
            Some(gold) => compare::number(extracted) == Some(gold),
            None => math::equal(gold, extracted),
        },
        Answer::Expression => math::equal(gold, extracted),
        Answer::Letter | Answer::YesNo => extracted.eq_ignore_ascii_case(gold),
    });
    Verdict { extracted, correct, rule, cut: visible.cut, undecided: false }
}

/// The choices as they are shown.
pub(crate) fn choices(question: &Question) -> Cow<'_, [String]> {
    if question.choices.iter().any(|choice| gpqa::sealed(choice)) {
        return question.choices.iter().map(|choice| gpqa::unsealed(choice).into_owned()).collect();
    }
    Cow::Borrowed(&question.choices)
}

type Found = Option<(String, &'static str)>;

fn number(text: &str) -> Found {
    let value = |piece: &str| {
        compare::number(piece).map_or_else(|| compare::unwrap(piece).to_owned(), |value| value.to_string())
    };
    if let Some(content) = extract::last_box(text) {
        return Some((value(content), "box"));
    }
    if let Some(stated) = extract::anchored(text).find_map(extract::stated_number) {
        return Some((value(stated), "anchor"));
    }
    extract::last_number(text).map(|last| (value(last), "last-number"))
}

fn expression(text: &str) -> Found {
    if let Some(content) = extract::last_box(text) {
        return Some((compare::unwrap(content).to_owned(), "box"));
    }
    let stated = extract::anchored(text).map(|statement| compare::unwrap(extract::expression(statement)));
    stated.filter(|stated| !stated.is_empty()).map(|stated| (stated.to_owned(), "anchor")).next()
}

fn letter(text: &str, choices: &[String]) -> Found {
    let content = extract::last_box(text).map(compare::unwrap);
    let line = extract::last_line(text);
    let (letter, rule) = content
        .and_then(|content| extract::boxed_letter(content, choices.len()))
        .map(|letter| (letter, "box"))
        .or_else(|| extract::announced_letter(text, choices.len()).map(|letter| (letter, "anchor")))
        .or_else(|| extract::line_letter(line, choices).map(|letter| (letter, "letter-line")))
        .or_else(|| {
            let named = content.and_then(|content| extract::choice_letter(content, choices));
            named.or_else(|| extract::choice_letter(line, choices)).map(|letter| (letter, "choice-text"))
        })?;
    Some((letter.to_string(), rule))
}

fn yes_no(text: &str) -> Found {
    let boxed = extract::last_box(text).and_then(extract::yes_or_no).map(|answer| (answer, "box"));
    let (answer, rule) = boxed
        .or_else(|| extract::anchored(text).find_map(extract::yes_or_no).map(|answer| (answer, "anchor")))
        .or_else(|| extract::yes_or_no(extract::last_line(text)).map(|answer| (answer, "last-line")))?;
    Some((answer.to_owned(), rule))
}

#[cfg(test)]
mod data;
#[cfg(test)]
mod tests;
