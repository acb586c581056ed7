//! OpenCompass, snapshot of August 2026: `gsm8k_gen`, `math_prm800k_500`, the CoT configurations of the others.

use std::sync::LazyLock;

use regex::Regex;

use super::{Found, fix_fractions, fix_slash, last_boxed};
use crate::score::Answer;

fn pattern(source: &str) -> Regex {
    Regex::new(source).expect("the pattern is a valid regular expression")
}

static NUMBER: LazyLock<Regex> = LazyLock::new(|| pattern(r"\-?\d+\.\d+|\-?\d+"));
static GPQA: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)ANSWER\s*:\s*([A-D])"));
static CSQA: LazyLock<Regex> = LazyLock::new(|| pattern(r"(?i)so the answer is\s*([A-P])"));
static ANNOUNCED: LazyLock<Regex> = LazyLock::new(|| pattern(r"final answer|answer is"));

pub(super) fn judge(wanted: Answer, gold: &str, task: &str, text: &str) -> Found {
    match wanted {
        Answer::Number => {
            let text = text.split("Question:").next().unwrap_or_default();
            let found = NUMBER.find_iter(text).last().map(|found| found.as_str().to_owned());
            Found::new(found, "last-number", |found| {
                let values = found.parse::<f64>().ok().zip(gold.parse::<i64>().ok());
                found == gold || values.is_some_and(|(a, b)| (a - b as f64).abs() < 1e-6)
            })
        }
        Answer::Expression => {
            let (found, rule) = math(text);
            Found::new(Some(found), rule, |found| is_equiv(gold, found))
        }
        Answer::Letter => {
            let pattern = if task.starts_with("csqa") { &CSQA } else { &GPQA };
            let found = pattern.captures(text).and_then(|found| found.get(1));
            Found::new(found.map(|letter| letter.as_str().to_uppercase()), "answer-line", |found| {
                found == gold
            })
        }
        Answer::YesNo => {
            let text = text.split("\n\n").next().unwrap_or_default();
            let text = text.rsplit("answer is ").next().unwrap_or_default().to_lowercase();
            // Without word boundaries, so that "know" is a no.
            let found = [text.find("yes").map(|at| (at, "yes")), text.find("no").map(|at| (at, "no"))];
            let found = found.into_iter().flatten().min().map(|(_, answer)| answer.to_owned());
            Found::new(found, "answer-is", |found| found == gold)
        }
    }
}

/// The box; else the first sentence that announces an answer; else the first sentence.
fn math(text: &str) -> (String, &'static str) {
    if let Some(answer) = last_boxed(text).filter(|answer| !answer.is_empty()) {
        let inner = answer.strip_prefix('{').and_then(|inner| inner.strip_suffix('}'));
        return (inner.unwrap_or(answer).to_owned(), "box");
    }
    let announced = text.split('.').find(|sentence| ANNOUNCED.is_match(&sentence.to_lowercase()));
    let rule = if announced.is_some() { "answer-sentence" } else { "first-sentence" };
    (normalise(announced.or_else(|| text.split('.').next()).unwrap_or_default()), rule)
}

/// Version 2 of its string equality.
pub(super) fn is_equiv(a: &str, b: &str) -> bool {
    if let Some((a, b)) = strip(a).zip(strip(b))
        && (a == b || normalise(&a) == normalise(&b))
    {
        return true;
    }
    normalise(a) == normalise(b) || a == b
}

/// Rewritings, and how often they apply: each once, in order.
static STRIP: LazyLock<[(Regex, &str); 6]> = LazyLock::new(|| {
    [
        (pattern(r"\\mbox\{.*?\}"), ""),
        (pattern(r"(\d+)\.0+([^\d])"), "$1$2"),
        (pattern(r"(\d+)\.0+$"), "$1"),
        (pattern(r"\\sqrt(-?[0-9.a-zA-Z]+)"), r"\sqrt{$1}"),
        (pattern(r"\\sqrt\s+(\w+)$"), r"\sqrt{$1}"),
        (pattern(r" "), ""),
    ]
});
static LAST_TEXT: LazyLock<Regex> = LazyLock::new(|| pattern(r"\\text\{.*?\}$"));

fn replaced(text: &str, pairs: &[(&str, &str)]) -> String {
    pairs.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
}

fn strip(text: &str) -> Option<String> {
    let text = text.trim().replace('\n', "");
    let mut text = replaced(
        text.trim_end_matches('.'),
        &[
            ("\\!", ""),
            ("\\ ", ""),
            ("\\\\", "\\"),
            ("\\\\", "\\"),
            ("tfrac", "frac"),
            ("dfrac", "frac"),
            ("\\left", ""),
            ("\\right", ""),
        ],
    );
    let without = LAST_TEXT.replace(&text, "").trim().to_owned();
    if !without.is_empty() {
        text = without;
    }
    text = replaced(
        &text,
        &[
            ("^{\\circ}", ""),
            ("^\\circ", ""),
            ("\\$", ""),
            ("$", ""),
            ("\\text", ""),
            ("x\\in", ""),
            ("\\%", ""),
            ("%", ""),
            (" .", " 0."),
            ("{.", "{0."),
            ("\\cdot", ""),
            ("infinity", "\\infty"),
        ],
    );
    if !text.contains("\\infty") {
        text = text.replace("inf", "\\infty");
    }
    text = replaced(&text, &[("and", ""), ("\\mathbf", "")]);
    text = STRIP[0].0.replace_all(&text, STRIP[0].1).into_owned();
    if text.contains('j') && !text.contains('i') {
        text = text.replace('j', "i");
    }
    for (pattern, with) in &STRIP[1..3] {
        text = pattern.replace_all(&text, *with).into_owned();
    }
    if text.is_empty() {
        return Some(text);
    }
    if text.starts_with('.') {
        text.insert(0, '0');
    }
    if let Some((name, value)) = text.split_once('=')
        && !value.contains('=')
        && name.chars().count() <= 2
    {
        text = value.to_owned();
    }
    for (pattern, with) in &STRIP[3..] {
        text = pattern.replace_all(&text, *with).into_owned();
    }
    text = fix_fractions(&text)?;
    Some(fix_slash(&text).unwrap_or(text))
}

/// What its Minerva normaliser removes.
const REMOVED: [&str; 44] = [
    "square",
    "ways",
    "integers",
    "dollars",
    "mph",
    "inches",
    "ft",
    "hours",
    "km",
    "units",
    "\\ldots",
    "sue",
    "points",
    "feet",
    "minutes",
    "digits",
    "cents",
    "degrees",
    "cm",
    "gm",
    "pounds",
    "meters",
    "meals",
    "edges",
    "students",
    "childrentickets",
    "multiples",
    "\\text{s}",
    "\\text{.}",
    "\\text{\ns}",
    "\\text{}^2",
    "\\text{}^3",
    "\\text{\n}",
    "\\text{}",
    "\\mathrm{th}",
    "^\\circ",
    "^{\\circ}",
    "\\;",
    ",\\!",
    "{,}",
    "\"",
    "\\dots",
    "\n",
    "\r",
];
static UNWRAP: LazyLock<[(Regex, &str); 4]> = LazyLock::new(|| {
    [
        (pattern(r"\\text\{(.*?)\}"), "$1"),
        (pattern(r"\\textbf\{(.*?)\}"), "$1"),
        (pattern(r"\\overline\{(.*?)\}"), "$1"),
        (pattern(r"\\boxed\{(.*)\}"), "$1"),
    ]
});
static KEEP: LazyLock<[Regex; 4]> =
    LazyLock::new(|| [r"finalansweris(.*)", r"answer?is:?(.*)", r"oxed\{(.*?)\}", r"\$(.*?)\$"].map(pattern));
static SHORT: LazyLock<[(Regex, &str); 2]> =
    LazyLock::new(|| [(pattern(r"frac([^{])(.)"), "frac{$1}{$2}"), (pattern(r"sqrt([^{])"), "sqrt{$1}")]);

/// The normaliser of Lewkowycz et al. (2206.14858) as it stands there.
fn normalise(text: &str) -> String {
    let mut text = replaced(
        text,
        &[
            ("an ", ""),
            ("a ", ""),
            (".$", "$"),
            ("\\$", ""),
            ("\\ ", ""),
            (" ", ""),
            ("mbox", "text"),
            (",\\text{and}", ","),
            ("\\text{and}", ","),
            ("\\text{m}", "\\text{}"),
            ("\\le", "<"),
        ],
    );
    for removed in REMOVED {
        text = text.replace(removed, "");
    }
    for (pattern, with) in UNWRAP.iter() {
        text = pattern.replace_all(&text, *with).into_owned();
    }
    for pattern in KEEP.iter() {
        let last = pattern.captures_iter(&text).last().and_then(|found| found.get(1));
        text = last.map(|last| last.as_str().to_owned()).unwrap_or(text);
    }
    text = text.trim().to_owned();
    if text.contains("rac") && !text.contains("\\frac") {
        text = text.replace("rac", "\\frac");
    }
    for (pattern, with) in SHORT.iter() {
        text = pattern.replace_all(&text, *with).into_owned();
    }
    text = text.replace('$', "");
    let digits = text.replace(',', "");
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) { digits } else { text }
}
