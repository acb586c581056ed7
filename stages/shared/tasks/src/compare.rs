//! The number an answer is, for questions that ask for one; [`crate::math`] compares everything else.
//!
//! Notation is rewritten into plain arithmetic, whose exact value counts; words and units around it do not.

use std::sync::LazyLock;

use regex::Regex;

use crate::{extract::braced, number::Rational};

/// Commands around an answer that say nothing about its value.
const WRAPPERS: [&str; 10] =
    ["text", "textbf", "textit", "mathbf", "mathrm", "mathit", "mbox", "boxed", "fbox", "operatorname"];

/// A rewriting of notation.
struct Rewrite {
    pattern: Regex,
    with: &'static str,
}

static REWRITES: LazyLock<Vec<Rewrite>> = LazyLock::new(|| {
    let rewrites = [
        // Rows of a matrix, before anything can take half of the break.
        (r"\\\\", r"\cr "),
        (r"\\!\s*", ""),
        (r"\\[,;: ]|~", "\u{2009}"),
        (r"\\(?:left|right|displaystyle|quad|limits)\b", ""),
        (r"\\[dtc]frac", r"\frac"),
        (r"\\(?:times|cdot)(\d|\b)|×|·|∙", "*$1"),
        (r"\\div(\d|\b)|÷", "/$1"),
        (r"\\?\$|€|£|¥", ""),
        (r"\\?%", ""),
        (r"\^\s*\{?\s*\\circ\s*\}?|\\degree\b|°", ""),
        (r"^\s*(?:\\approx|≈)", ""),
        (r"π", r"\pi"),
        (r"∞", r"\infty"),
        (r"\\begin\{[bvBV]?matrix\}", r"\begin{pmatrix}"),
        (r"\\end\{[bvBV]?matrix\}", r"\end{pmatrix}"),
        // A unit after a value.
        (r"(\S)\s*\\(?:text|mbox|mathrm)\{[^{}]*\}(?:\^\{?\d\}?)?\s*$", "$1"),
        (r"\\(?:text|textbf|textit|mathbf|mathrm|mathit|mbox|operatorname)\{([^{}]*)\}", "$1"),
        (r"\\frac\s*(\d)\s*(\d)", r"\frac{$1}{$2}"),
        (r"\\frac\s*(\d)\s*\{", r"\frac{$1}{"),
        (r"(\\frac\{[^{}]*\})\s*(\d)", "$1{$2}"),
        (r"\\sqrt\s*(\d)", r"\sqrt{$1}"),
        (r"([_^])\{(\w)\}", "$1$2"),
        (r"(^|[^\d])\.(\d)", "${1}0.$2"),
    ];
    let compile = |(source, with)| Rewrite {
        pattern: Regex::new(source).expect("the pattern is a valid regular expression"),
        with,
    };
    rewrites.map(compile).into()
});

static WORD: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\\?[A-Za-z]{2,}(?:\^\{?\d\}?|²|³)?|\s[A-Za-z]$")
        .expect("the pattern is a valid regular expression")
});
/// Words that change a number's value, so that a number with one of them is none.
static MULTIPLIER: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"(?i)\b(?:hundred|thousand|million|billion|trillion|dozen|half|halves|thirds?|quarters?|squared|cubed|times|over)\b|\\[A-Za-z]")
        .expect("the pattern is a valid regular expression")
});

/// An answer without its wrapping: dollar signs, emphasis, `\text{}` around the whole, a final stop.
pub(crate) fn unwrap(answer: &str) -> &str {
    let mut answer = answer;
    loop {
        let before = answer.len();
        answer = answer.trim_matches(|edge: char| edge.is_whitespace() || "*`".contains(edge));
        answer = answer.strip_suffix('.').unwrap_or(answer);
        for (open, close) in [("$", "$"), ("\\(", "\\)"), ("\\[", "\\]"), ("\"", "\"")] {
            let inner = answer.strip_prefix(open).and_then(|inner| inner.strip_suffix(close));
            answer = inner.unwrap_or(answer);
        }
        let inner = answer.strip_prefix('\\').and_then(|command| {
            let (name, inner) = command.split_once('{')?;
            (WRAPPERS.contains(&name) && braced(inner).is_some_and(|end| end + 1 == inner.len()))
                .then(|| &inner[..inner.len() - 1])
        });
        answer = inner.unwrap_or(answer);
        if answer.len() == before {
            return answer;
        }
    }
}

/// One notation for equal things, spaces kept.
fn canonical(answer: &str) -> String {
    let start = unwrap(answer).to_owned();
    let text =
        REWRITES.iter().fold(start, |text, rewrite| match rewrite.pattern.replace_all(&text, rewrite.with) {
            std::borrow::Cow::Borrowed(_) => text,
            std::borrow::Cow::Owned(text) => text,
        });
    text.trim().trim_end_matches('.').to_owned()
}

/// The value of an answer to a question for a number: words, units and what stands before `=` do not count.
pub(crate) fn number(answer: &str) -> Option<Rational> {
    let text = canonical(answer);
    let side = text.rsplit(['=', '≈']).next().unwrap_or_default();
    Rational::parse(side).or_else(|| {
        if MULTIPLIER.is_match(side) {
            return None;
        }
        let bare = WORD.replace_all(side, " ");
        Rational::parse(bare.trim_matches(|edge: char| edge.is_whitespace() || ",.:;!?".contains(edge)))
    })
}
