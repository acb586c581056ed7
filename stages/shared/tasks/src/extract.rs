//! Where in a text the answer stands.
//!
//! Every rule returns a piece of the text; what the piece means is for [`crate::compare`]. All of them take time
//! linear in the text: patterns are regular expressions without backtracking, and answers are at most
//! [`MAX_ANSWER`] bytes long.

use std::{borrow::Cow, sync::LazyLock};

use regex::{Captures, Regex};

/// The longest piece of a text that is looked at as an answer, in bytes.
const MAX_ANSWER: usize = 1000;
/// How many boxes or anchors, from the last, are tried before a rule gives up.
const MAX_TRIES: usize = 8;
/// How much of a text's end is searched first, in bytes.
const TAIL: usize = 20_000;

fn pattern(source: &str) -> Regex {
    Regex::new(source).expect("the pattern is a valid regular expression")
}

/// `answer is`, `answer:`, `final answer (in dollars) =`, `Final Answer` as a heading, `####`.
static ANCHOR: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?im)####|\banswer\b(?:[^\n:=]{0,50}?(?:\bis\b(?:[ \t*]*:)?|:|=)|[ \t*_]*$)"));
/// A question that the model asks itself or invents.
static ASKED: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?m)^[ \t]*\**(?:Q|Question|Problem)[ \t]*\d*\**[ \t]*:"));
static NUMBER: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"(?:\d+\s*)?\\[dtc]?frac\s*\{\s*-?\d+\s*\}\s*\{\s*\d+\s*\}|\d+[ ]\d+/\d+|(?:\d+(?:,\d{3})+(?:\.\d+)?|\d*\.\d+|\d+)(?:/\d+)?",
    )
});
/// Thousands apart by spaces, which only a statement of the answer is read for.
static GROUPED: LazyLock<Regex> = LazyLock::new(|| pattern(r"^\d{1,3}(?: \d{3})+\b"));
/// The end of the clause that states an answer.
static CLAUSE_END: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"[.;!?](?:\s|$)|\n|(?i)\b(?:because|since|as)\b"));
static LETTER_ANCHOR: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r#"(?i:answer|choice|option)(?i:\s+(?:is|(?:would|must|should) be)\s*:?|\s*:)?(?i:\s+(?:most\s+likely|likely|probably|clearly))?(?:[\s*_$(\[{"'\\]|text(?:bf)?\{|math(?:bf|rm)\{)*([A-Z])\b"#,
    )
});
/// A line that is only a letter, perhaps after a word that draws a conclusion.
static LETTER_LINE: LazyLock<Regex> = LazyLock::new(|| {
    pattern(r#"^(?i:[\s*_$(\["']*(?:therefore|thus|hence|so)\b[,:]?)?[\s*_$(\[{"']*([A-Z])[\s*_$)\]}"'.:]*$"#)
});
/// A second letter after the first: the announcement names no single one. Choices may be spelled out between.
static SEVERAL: LazyLock<Regex> = LazyLock::new(|| {
    pattern(
        r"^(?:[)*\s]*|[^.\n]{0,80}?)(?:,|;|/|\b(?:or|and)\b)\s*(?:(?:or|and)\s+)?[(*]*([A-Z])(?:\)|\s*\(|[,;:.*]|\s*$|\s*\n|\s+(?:or|and)\b)",
    )
});
/// A letter with what may follow it, as `B) paris`.
static LETTER_HEAD: LazyLock<Regex> = LazyLock::new(|| pattern(r"^[\s*_(\[]*([A-Z])[).:\]]+(.*)$"));
static YES_NO: LazyLock<Regex> =
    LazyLock::new(|| pattern(r"(?i)\byes\W{0,3}(?:or|/)\W{0,3}no\b|\b(yes|no|true|false)\b"));

/// A text as scoring sees it.
pub(crate) struct Visible<'t> {
    /// What is left to search, with typographic characters replaced by plain ones.
    pub(crate) text: Cow<'t, str>,
    /// Whether an invented next question was cut off.
    pub(crate) cut: bool,
}

/// Drops thoughts and what follows an invented next question; `None` if the text ends inside a thought.
pub(crate) fn visible(text: &str) -> Option<Visible<'_>> {
    let text = match text.rfind("</think>") {
        Some(end) => &text[end + "</think>".len()..],
        None if text.contains("<think>") => return None,
        None => text,
    };
    let end = invented(text);
    let cut = end.is_some();
    Some(Visible { text: plain(&text[..end.unwrap_or(text.len())]), cut })
}

/// Where a next question starts that nobody asked.
///
/// A text that opens with a question talks with itself, as the Socratic perspective does, and every answer
/// but the last is a step: there only a question after a box or after `The answer is` is invented.
fn invented(text: &str) -> Option<usize> {
    let body = text.len() - text.trim_start().len();
    let mut asked = ASKED.find_iter(text).filter(|asked| asked.start() > body).peekable();
    asked.peek()?;
    let talks = ASKED.find_at(text, 0).is_some_and(|first| first.start() <= body);
    let from = if talks { committed(text)? } else { body };
    asked.find(|asked| asked.start() >= from).map(|asked| asked.start())
}

/// Where a text first commits itself to an answer.
fn committed(text: &str) -> Option<usize> {
    let anchor = ANCHOR.find(text).map(|anchor| anchor.end());
    ["\\boxed", "\\fbox"].iter().filter_map(|command| text.find(command)).chain(anchor).min()
}

/// Full-width forms and typographic minus signs and quotes as plain characters.
fn plain(text: &str) -> Cow<'_, str> {
    let replace = |letter: char| match letter {
        '\u{ff01}'..='\u{ff5e}' => char::from_u32(u32::from(letter) - 0xfee0).unwrap_or(letter),
        '\u{2212}' | '\u{2012}' | '\u{2013}' => '-',
        '\u{2018}' | '\u{2019}' => '\'',
        '\u{201c}' | '\u{201d}' => '"',
        _ => letter,
    };
    if text.chars().any(|letter| replace(letter) != letter) {
        text.chars().map(replace).collect::<String>().into()
    } else {
        text.into()
    }
}

/// The content of the last box that holds something; an unclosed one reaches to the end of its line.
pub(crate) fn last_box(text: &str) -> Option<&str> {
    let mut end = text.len();
    for _ in 0..MAX_TRIES {
        let starts =
            ["\\boxed", "\\fbox"].map(|command| text[..end].rfind(command).map(|at| (at, command.len())));
        let (start, length) = starts.into_iter().flatten().max()?;
        let content = short(box_content(&text[start + length..]).trim());
        if !content.is_empty() {
            return Some(content);
        }
        end = start;
    }
    None
}

fn box_content(after: &str) -> &str {
    let after = after.trim_start_matches(' ');
    let line = after.split('\n').next().unwrap_or_default();
    match after.strip_prefix('{') {
        Some(inner) => braced(inner).map_or(line.strip_prefix('{').unwrap_or(line), |end| &inner[..end]),
        None => line.split(|next: char| next.is_whitespace() || next == '$').next().unwrap_or_default(),
    }
}

/// Where the brace closes that opened just before `text`.
pub(crate) fn braced(text: &str) -> Option<usize> {
    let (mut depth, mut escaped) = (0_usize, false);
    for (index, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'{' => depth += 1,
            b'}' if depth == 0 => return Some(index),
            b'}' => depth -= 1,
            _ => {}
        }
    }
    None
}

/// What follows each place that announces an answer, the last place first: the rest of its line or the next one.
pub(crate) fn anchored(text: &str) -> impl Iterator<Item = &str> {
    let ends = |from: usize| ANCHOR.find_iter(&text[from..]).map(move |anchor| from + anchor.end());
    // The end of a text nearly always holds the anchor, and a long text is not worth a full search then.
    let tail = text.floor_char_boundary(text.len().saturating_sub(TAIL));
    let mut found: Vec<usize> = ends(tail).collect();
    if found.is_empty() {
        found = ends(0).collect();
    }
    found.into_iter().rev().take(MAX_TRIES).filter_map(|end| {
        let lines = short(&text[end..]).lines();
        lines.map(|line| line.trim_matches([' ', '\t', '*', ':'])).find(|line| !line.is_empty())
    })
}

/// The expression a statement of the answer starts with: what stands between dollar signs, else the clause.
pub(crate) fn expression(statement: &str) -> &str {
    for (open, close) in [("$$", "$$"), ("$", "$"), ("\\(", "\\)"), ("\\[", "\\]")] {
        if let Some(inner) = statement.strip_prefix(open)
            && let Some(end) = inner.find(close).filter(|end| *end > 0)
        {
            return &inner[..end];
        }
    }
    clause(statement)
}

fn clause(statement: &str) -> &str {
    let end = CLAUSE_END.find(statement).map_or(statement.len(), |end| end.start());
    statement[..end].trim()
}

/// The number a statement of the answer gives: the first one, or the first after the last `=`.
pub(crate) fn stated_number(statement: &str) -> Option<&str> {
    let clause = clause(statement);
    let after = clause.rfind('=').map_or(0, |at| at + 1);
    let found = NUMBER.find_at(clause, after).or_else(|| NUMBER.find(clause))?;
    let grouped = GROUPED.find(&clause[found.start()..]).map(|grouped| found.start() + grouped.end());
    Some(signed(clause, found.start(), grouped.unwrap_or(found.end())))
}

/// The last number of a text.
pub(crate) fn last_number(text: &str) -> Option<&str> {
    let exponent = |start: usize| text[..start].ends_with(['^', '_']) || text[..start].ends_with("^{");
    let found = NUMBER.find_iter(text).filter(|found| !exponent(found.start())).last()?;
    Some(short(signed(text, found.start(), found.end())))
}

/// The number with the minus sign before it, unless that sign subtracts.
fn signed(text: &str, start: usize, end: usize) -> &str {
    let before = text[..start].trim_end_matches('$').trim_end_matches('\\');
    let Some(rest) = before.strip_suffix('-') else { return &text[start..end] };
    let joined = rest.ends_with(|last: char| last.is_alphanumeric() || ")}]%$".contains(last));
    let after_number = rest.trim_end().ends_with(|last: char| last.is_numeric() || ")}]%".contains(last));
    if joined || after_number { &text[start..end] } else { &text[before.len() - 1..end] }
}

/// The letter a box holds, alone or before `)`, `.` or `:` and text.
pub(crate) fn boxed_letter(content: &str, choices: usize) -> Option<char> {
    let bare = content.trim_matches(|edge: char| !edge.is_alphanumeric());
    let mut letters = bare.chars();
    let first = letters.next()?;
    if letters.next().is_none() {
        return Some(first.to_ascii_uppercase()).filter(|letter| within(*letter, choices));
    }
    let head = LETTER_HEAD.captures(content)?.get(1)?.as_str().chars().next();
    head.filter(|letter| within(*letter, choices))
}

/// The letter in the last announcement of an answer, a choice or an option.
pub(crate) fn announced_letter(text: &str, choices: usize) -> Option<char> {
    let letter =
        |found: &Captures| found.get(1)?.as_str().chars().next().filter(|letter| within(*letter, choices));
    let found = LETTER_ANCHOR.captures_iter(text).filter(|found| letter(found).is_some()).last()?;
    let after = short(&text[found.get(0)?.end()..]);
    let several = SEVERAL.captures(after).is_some_and(|second| letter(&second).is_some());
    if several { None } else { letter(&found) }
}

/// The letter a line consists of, or that heads the very choice it names.
pub(crate) fn line_letter(line: &str, choices: &[String]) -> Option<char> {
    if let Some(found) = LETTER_LINE.captures(line) {
        return found.get(1)?.as_str().chars().next().filter(|letter| within(*letter, choices.len()));
    }
    let head = LETTER_HEAD.captures(line)?;
    let letter = head.get(1)?.as_str().chars().next().filter(|letter| within(*letter, choices.len()))?;
    let choice = &choices[usize::from(u8::try_from(letter).ok()? - b'A')];
    (folded(head.get(2)?.as_str()) == folded(choice)).then_some(letter)
}

/// The letter of the one choice whose text this is.
pub(crate) fn choice_letter(text: &str, choices: &[String]) -> Option<char> {
    let text = folded(text);
    let mut same =
        choices.iter().enumerate().filter(|(_, choice)| !text.is_empty() && folded(choice) == text);
    let (index, _) = same.next()?;
    same.next().is_none().then(|| crate::prompt::letter(index))
}

fn within(letter: char, choices: usize) -> bool {
    letter.is_ascii_uppercase() && (u32::from(letter) - u32::from('A')) < u32::try_from(choices).unwrap_or(26)
}

/// Lower case, words only, single spaces.
fn folded(text: &str) -> String {
    let words = text.split(|letter: char| !letter.is_alphanumeric()).filter(|word| !word.is_empty());
    words.collect::<Vec<_>>().join(" ").to_lowercase()
}

/// The first `yes` or `no` of a piece of text; `true` and `false` count as such.
pub(crate) fn yes_or_no(piece: &str) -> Option<&'static str> {
    // "Yes or no" is the question, not an answer.
    let word = YES_NO.captures_iter(piece).find_map(|found| found.get(1))?.as_str().to_ascii_lowercase();
    Some(if word == "yes" || word == "true" { "yes" } else { "no" })
}

/// The last line that is not blank.
pub(crate) fn last_line(text: &str) -> &str {
    short(text.trim_end().rsplit('\n').next().unwrap_or_default())
}

fn short(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_ANSWER)]
}
