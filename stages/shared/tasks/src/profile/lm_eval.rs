//! lm-eval 0.4.13. SVAMP, which it does not have, is scored as GSM8K; CSQA, which it scores by likelihood, as GPQA.

use std::sync::LazyLock;

use regex::Regex;

use super::{Found, hendrycks};
use crate::score::Answer;

fn pattern(source: &str) -> Regex {
    Regex::new(source).expect("the pattern is a valid regular expression")
}

/// `flexible-extract` of the GSM8K tasks; the last match counts.
static NUMBER: LazyLock<Regex> = LazyLock::new(|| pattern(r"-?[$0-9.,]{2,}|-?[0-9]+"));
static LETTER: LazyLock<Regex> = LazyLock::new(|| pattern(r"\([A-Z]\)"));
static COLON: LazyLock<Regex> = LazyLock::new(|| pattern(r":\s*([ABCD])"));

pub(super) fn judge(wanted: Answer, gold: &str, choices: &[String], text: &str) -> Found {
    match wanted {
        Answer::Number => {
            let found = NUMBER.find_iter(text).last().map(|found| found.as_str().trim().to_owned());
            Found::new(found, "flexible-extract", |found| ignored(found) == ignored(gold))
        }
        Answer::Expression => {
            let found = between_dollars(text);
            Found::new(Some(found.to_owned()), "dollars", |found| hendrycks::is_equiv(gold, found))
        }
        Answer::Letter => {
            let (found, rule) = letter(text, choices);
            let gold = format!("({gold})");
            Found::new(found, rule, |found| folded(found) == folded(&gold))
        }
        Answer::YesNo => {
            let text = text.trim();
            Found::new((!text.is_empty()).then(|| text.to_owned()), "text", |text| {
                folded(text) == folded(gold)
            })
        }
    }
}

/// What `exact_match` ignores in GSM8K: `,`, `$`, everything up to `#### `, a final stop, case.
fn ignored(text: &str) -> String {
    let text = text.replace([',', '$'], "");
    let text = text.rsplit_once("#### ").map_or(text.as_str(), |(_, after)| after);
    text.strip_suffix('.').unwrap_or(text).to_lowercase()
}

/// From the first dollar sign to the last one of the whole response.
fn between_dollars(text: &str) -> &str {
    match (text.find('$'), text.rfind('$')) {
        (Some(first), Some(last)) if first < last => &text[first + 1..last],
        _ => text,
    }
}

/// The filter `multi_choice_regex`, its last match.
fn letter(text: &str, choices: &[String]) -> (Option<String>, &'static str) {
    if let Some(found) = LETTER.find_iter(text).last() {
        return (Some(found.as_str().to_owned()), "letter");
    }
    let response = folded(text);
    let mut named: Vec<(usize, String)> = choices
        .iter()
        .map(|choice| folded(choice))
        .enumerate()
        .filter(|(_, choice)| !choice.is_empty())
        .collect();
    // Longer choices come first in the alternation.
    named.sort_by_key(|(_, choice)| std::cmp::Reverse(choice.chars().count()));
    let alternatives: Vec<String> = named.iter().map(|(_, choice)| regex::escape(choice)).collect();
    let found = (!named.is_empty())
        .then(|| Regex::new(&alternatives.join("|")).ok())
        .flatten()
        .and_then(|choice| choice.find_iter(&response).last().map(|found| found.as_str().to_owned()));
    if let Some((index, _)) = found.and_then(|found| named.into_iter().find(|(_, choice)| *choice == found)) {
        return (Some(format!("({})", crate::prompt::letter(index))), "choice-text");
    }
    let found = COLON.captures_iter(text).last().and_then(|found| found.get(1));
    (found.map(|letter| format!("({})", letter.as_str())), "colon")
}

/// Lower case without punctuation.
fn folded(text: &str) -> String {
    let punctuation = |letter: char| !letter.is_alphanumeric() && !letter.is_whitespace();
    text.trim().to_lowercase().chars().filter(|letter| !punctuation(*letter)).collect()
}
