//! Qwen2.5-Math `evaluation/`: its extraction, its stripping, and the steps of `math_equal` before sympy.
//!
//! Its list of units is not repeated: units are those of this crate and single letters that stand alone. Where
//! strings and numbers do not settle it, the original asks sympy; such items are undecided.

use std::sync::LazyLock;

use regex::Regex;

use super::{Found, Outcome, fix_fractions, fix_slash};
use crate::{math, score::Answer};

fn pattern(source: &str) -> Regex {
    Regex::new(source).expect("the pattern is a valid regular expression")
}

static LETTER: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b[A-E]\b"));
static NUMBER: LazyLock<Regex> = LazyLock::new(|| pattern(r"-?\d*\.?\d+"));
static NEW_LINE: LazyLock<Regex> = LazyLock::new(|| pattern(r"\n\s*"));
static WORD: LazyLock<Regex> = LazyLock::new(|| pattern(r"\b[A-Za-z]+\b"));

pub(super) fn judge(wanted: Answer, gold: &str, text: &str) -> Found {
    if wanted == Answer::Letter {
        let found = letter(text);
        return Found::new((!found.is_empty()).then_some(found), "choice", |found| found == gold);
    }
    let (found, rule) = extract(text);
    let extracted = (!found.is_empty()).then_some(found);
    let outcome = extracted.as_deref().map_or(Outcome::Wrong, |found| compare(&strip(gold), found));
    Found { extracted, rule, outcome }
}

/// `choice_answer_clean`: the first letter after the last trigger, else the last letter.
fn letter(text: &str) -> String {
    let triggers = ["choice is", "answer is"];
    let mut text = text.trim_matches('\n');
    if triggers.iter().any(|trigger| text.matches(trigger).count() > 1) {
        text = text.split("\n\n").next().unwrap_or_default();
    }
    let after = triggers.iter().filter_map(|trigger| text.rfind(trigger).map(|at| at + trigger.len())).max();
    let piece = &text[after.unwrap_or_default()..];
    let upper = piece.to_uppercase();
    let mut letters = LETTER.find_iter(&upper).map(|found| found.as_str().to_owned());
    let found = if after.is_some() { letters.next() } else { letters.last() };
    found.unwrap_or_else(|| piece.trim().trim_matches('.').to_owned())
}

/// The first rule that applies.
fn extract(text: &str) -> (String, &'static str) {
    let (found, rule) = if let Some((_, after)) =
        text.split_once("final answer is $").filter(|_| text.contains("$. I hope"))
    {
        (after.split("$. I hope").next().unwrap_or_default().trim().to_owned(), "minerva")
    } else if let Some((_, after)) = text.rsplit_once("boxed") {
        (boxed(after), "box")
    } else if let Some((_, after)) = text.rsplit_once("he answer is") {
        (after.trim().to_owned(), "answer-is")
    } else if let Some((_, after)) = text.rsplit_once("final answer is") {
        (after.trim().to_owned(), "answer-is")
    } else {
        let text = text.replace(',', "");
        let last = NUMBER.find_iter(&text).last().map(|found| found.as_str().to_owned());
        (last.unwrap_or_default(), "last-number")
    };
    let found = NEW_LINE.replace_all(&found, "");
    let found = found.strip_prefix(':').unwrap_or(&found);
    let found = found.strip_suffix('.').unwrap_or(found);
    (strip(found.strip_suffix('/').unwrap_or(found)), rule)
}

/// What follows `boxed`: in braces, an unclosed one takes the rest; without braces up to a dollar sign.
fn boxed(after: &str) -> String {
    let Some(inner) = after.strip_prefix('{') else {
        return after.split('$').next().unwrap_or_default().trim().to_owned();
    };
    let mut depth = 1;
    let end = inner.bytes().position(|byte| {
        depth += i64::from(byte == b'{') - i64::from(byte == b'}');
        depth == 0
    });
    inner[..end.unwrap_or(inner.len())].to_owned()
}

static REWRITES: LazyLock<[(Regex, &str); 6]> = LazyLock::new(|| {
    [
        (pattern(r"\\begin\{array\}\{.*?\}"), r"\begin{pmatrix}"),
        (pattern(r"\\end\{array\}"), r"\end{pmatrix}"),
        (pattern(r"\\text\{(.*?)\}"), "$1"),
        (pattern(r"\\mbox\{.*?\}"), ""),
        (pattern(r"(\d+)\.0*([^\d])"), "$1$2"),
        (pattern(r"(\d+)\.0*$"), "$1"),
    ]
});
static LAST_TEXT: LazyLock<Regex> = LazyLock::new(|| pattern(r"\\text\{.*?\}$"));
static ROOT: LazyLock<Regex> = LazyLock::new(|| pattern(r"\\sqrt(\w+)"));

fn replaced(text: &str, pairs: &[(&str, &str)]) -> String {
    pairs.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

fn rewritten(text: &str, range: std::ops::Range<usize>) -> String {
    REWRITES[range]
        .iter()
        .fold(text.to_owned(), |text, (pattern, with)| pattern.replace_all(&text, *with).into_owned())
}

/// `strip_string`.
fn strip(text: &str) -> String {
    let text = text.trim().replace('\n', "");
    let mut text = rewritten(&text.trim_end_matches('.').replace("\\!", ""), 0..2);
    text = replaced(
        &text,
        &[
            ("bmatrix", "pmatrix"),
            ("tfrac", "frac"),
            ("dfrac", "frac"),
            ("\\neq", "\\ne"),
            ("\\leq", "\\le"),
            ("\\geq", "\\ge"),
            ("\\left", ""),
            ("\\right", ""),
            ("\\{", "{"),
            ("\\}", "}"),
        ],
    );
    let without = LAST_TEXT.replace(&text, "").trim().to_owned();
    if !without.is_empty() {
        text = without;
    }
    let without = without_units(&text);
    if !without.is_empty() {
        text = without;
    }
    text = replaced(
        &text,
        &[("^{\\circ}", ""), ("^\\circ", ""), ("\\$", ""), ("$", ""), ("\\(", ""), ("\\)", "")],
    );
    text = rewritten(&text, 2..3);
    for name in ["x", "y", "z"] {
        for relation in ["=", "\\in", "\\to"] {
            text = text.replace(&format!("{name}{relation}"), "");
        }
    }
    text = replaced(
        &text,
        &[
            ("\\emptyset", "{}"),
            ("(-\\infty,\\infty)", "\\mathbb{R}"),
            ("\\%", ""),
            ("%", ""),
            (" .", " 0."),
            ("{.", "{0."),
            ("infinity", "\\infty"),
        ],
    );
    if !text.contains("\\infty") {
        text = text.replace("inf", "\\infty");
    }
    text = rewritten(&replaced(&text, &[("and", ""), ("\\mathbf", "")]), 3..4);
    if text.contains('j') && !text.contains('i') {
        text = text.replace('j', "i");
    }
    text = rewritten(&text, 4..6);
    if text.starts_with('.') {
        text.insert(0, '0');
    }
    if let Some((name, value)) = text.split_once('=')
        && !value.contains('=')
        && name.chars().count() <= 2
    {
        text = value.to_owned();
    }
    text = ROOT.replace_all(&text, r"\sqrt{$1}").replace(' ', "");
    text = fix_fractions(&text).unwrap_or(text);
    fix_slash(&text).unwrap_or(text)
}

fn without_units(text: &str) -> String {
    let single = ["a", "c", "d", "g", "h", "l", "m", "o", "s", "t"];
    let currency = ["dollar", "dollars", "usd", "euro", "euros", "cents"];
    let unit = |word: &regex::Captures<'_>| {
        let word = &word[0];
        let known = math::is_unit(word) && word.chars().all(char::is_lowercase) && !currency.contains(&word);
        if known || single.contains(&word) { String::new() } else { word.to_owned() }
    };
    WORD.replace_all(text, unit).trim().to_owned()
}

/// `math_equal` up to its fifth step.
fn compare(gold: &str, answer: &str) -> Outcome {
    if gold.trim().eq_ignore_ascii_case(answer.trim()) {
        return Outcome::Right;
    }
    if let Some((gold, answer)) = number(gold).zip(number(answer)) {
        let close = |gold: f64| (gold - answer).abs() <= 1e-4 * gold.abs().max(answer.abs());
        return Outcome::of([gold / 100.0, gold, gold * 100.0].into_iter().any(close));
    }
    let bare = |text: &str| {
        let brackets = ['{', '}', '(', ')'];
        text.trim_matches(['(', ')', '[', ']']).replace(brackets, "").to_lowercase()
    };
    if bare(gold) == bare(answer) {
        return Outcome::Right;
    }
    let bracketed = |text: &str| text.starts_with(['(', '[']) && text.ends_with([')', ']']);
    if bracketed(gold) && bracketed(answer) {
        let parts = |text: &str| text[1..text.len() - 1].split(',').map(str::to_owned).collect::<Vec<_>>();
        let (gold, answer) = (parts(gold), parts(answer));
        if gold.len() == answer.len()
            && gold.iter().zip(&answer).all(|(gold, answer)| compare_part(gold, answer))
        {
            return Outcome::Right;
        }
    }
    Outcome::Undecided
}

fn compare_part(gold: &str, answer: &str) -> bool {
    let numbers = number(gold).zip(number(answer));
    gold.trim() == answer.trim()
        || numbers.is_some_and(|(gold, answer)| (gold - answer).abs() <= 1e-4 * gold.abs().max(answer.abs()))
}

/// A number as Python's `float` reads it; a percent sign divides by 100.
fn number(text: &str) -> Option<f64> {
    let text = text.replace(',', "");
    let plain = |text: &str| {
        let text = text.trim();
        let numeric = text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte));
        numeric.then(|| text.parse::<f64>().ok()).flatten()
    };
    plain(&text).or_else(|| {
        let percent = text.strip_suffix('%')?;
        plain(percent.strip_suffix('\\').unwrap_or(percent)).map(|value| value / 100.0)
    })
}
