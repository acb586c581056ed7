//! Mistakes in a recipe, and how they are shown.

use std::fmt;

pub use contract::suggest;

use super::{SourceMap, Span};

/// More mistakes than this are only counted.
const SHOWN: usize = 50;
/// A source line longer than this is shown in part.
const WIDTH: usize = 160;

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where, unless it is about the whole.
    pub span: Option<Span>,
    /// What is wrong: lowercase, no final period, names in backticks.
    pub message: String,
    /// What to do about it, one `help:` line each.
    pub help: Vec<String>,
    /// Other places that matter, such as the first of two equal keys.
    pub notes: Vec<(Span, String)>,
}

impl Diagnostic {
    /// A mistake at a place.
    pub fn at(span: Span, message: impl Into<String>) -> Self {
        Self { span: Some(span), message: message.into(), help: Vec::new(), notes: Vec::new() }
    }

    /// A mistake without a place.
    pub fn general(message: impl Into<String>) -> Self {
        Self { span: None, message: message.into(), help: Vec::new(), notes: Vec::new() }
    }

    /// Adds a remedy.
    #[must_use]
    pub fn help(mut self, remedy: impl Into<String>) -> Self {
        self.help.push(remedy.into());
        self
    }

    /// Adds a remedy: the nearest of the candidates, or the list of them when none is near.
    #[must_use]
    pub fn suggest<'a>(self, wrong: &str, candidates: impl IntoIterator<Item = &'a str>) -> Self {
        let candidates: Vec<&str> = candidates.into_iter().collect();
        self.nearest(suggest(wrong, candidates.iter().copied()), &candidates)
    }

    /// Like [`Diagnostic::suggest`], with the nearest already found.
    #[must_use]
    pub(super) fn nearest(self, near: Option<&str>, candidates: &[&str]) -> Self {
        match near {
            Some(near) => self.help(format!("did you mean `{near}`?")),
            None if candidates.is_empty() => self,
            None => self.help(format!("expected {}", one_of(candidates))),
        }
    }

    /// Adds another place that matters.
    #[must_use]
    pub fn note(mut self, span: Span, note: impl Into<String>) -> Self {
        self.notes.push((span, note.into()));
        self
    }
}

/// Mistakes in the order of their places, with the texts needed to show them.
#[derive(Clone, Debug)]
pub struct Diagnostics {
    items: Vec<Diagnostic>,
    sources: SourceMap,
}

impl Diagnostics {
    /// Sorts the mistakes by place and drops repeated ones.
    pub fn new(mut items: Vec<Diagnostic>, sources: SourceMap) -> Self {
        items.sort_by(|a, b| (a.span, &a.message).cmp(&(b.span, &b.message)));
        items.dedup_by(|b, a| a.span == b.span && a.message == b.message);
        Self { items, sources }
    }

    /// The mistakes.
    pub fn items(&self) -> &[Diagnostic] {
        &self.items
    }

    /// The texts they are in.
    pub fn sources(&self) -> &SourceMap {
        &self.sources
    }
}

impl std::error::Error for Diagnostics {}

impl fmt::Display for Diagnostics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for item in self.items.iter().take(SHOWN) {
            writeln!(f, "error: {}", escape(&item.message))?;
            if let Some(span) = item.span {
                write_snippet(f, &self.sources, span)?;
            }
            for (span, note) in &item.notes {
                writeln!(f, "note: {}", escape(note))?;
                write_snippet(f, &self.sources, *span)?;
            }
            for help in &item.help {
                writeln!(f, "help: {}", escape(help))?;
            }
            writeln!(f)?;
        }
        match self.items.len() {
            1 => write!(f, "1 mistake"),
            count if count <= SHOWN => write!(f, "{count} mistakes"),
            count => write!(f, "and {} more; {count} mistakes", count - SHOWN),
        }
    }
}

/// `` `a` ``, `` `a` or `b` ``, `` one of `a`, `b`, `c` ``; at most twelve names.
pub(super) fn one_of(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().take(12).map(|name| format!("`{name}`")).collect();
    match (quoted.as_slice(), names.len()) {
        ([only], _) => only.clone(),
        ([first, second], _) => format!("{first} or {second}"),
        (many, count) if count > many.len() => {
            format!("one of {} and {} more", many.join(", "), count - many.len())
        }
        (many, _) => format!("one of {}", many.join(", ")),
    }
}

fn write_snippet(f: &mut fmt::Formatter<'_>, sources: &SourceMap, span: Span) -> fmt::Result {
    let number = span.line.to_string();
    let margin = " ".repeat(number.len());
    writeln!(f, "{margin}--> {}", escape(&sources.place(span)))?;
    let column = (span.column as usize).saturating_sub(1);
    let line = sources.line(span.source, span.line);
    let first = if line.chars().nth(WIDTH).is_some() { column.saturating_sub(WIDTH / 4) } else { 0 };
    let shown: Vec<char> = line.chars().skip(first).take(WIDTH).collect();
    if shown.is_empty() {
        return Ok(());
    }
    let at = (column - first).min(shown.len());
    let end = (at + (span.length as usize).max(1)).min(shown.len());
    let text = |range: &[char]| escape(&range.iter().collect::<String>());
    let lead = if first > 0 { "…" } else { "" };
    let tail = if line.chars().nth(first + WIDTH).is_some() { "…" } else { "" };
    let before = format!("{lead}{}", text(&shown[..at]));
    let marked = text(&shown[at..end]);
    writeln!(f, "{margin} |")?;
    writeln!(f, "{number} | {before}{marked}{}{tail}", text(&shown[end..]))?;
    let indent = " ".repeat(before.chars().count());
    writeln!(f, "{margin} | {indent}{}", "^".repeat(marked.chars().count().max(1)))
}

/// Tabs become a space; other control and direction-changing characters become `\u{..}`.
fn escape(text: &str) -> String {
    let hidden = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\t' => out.push(' '),
            c if hidden(c) => out.extend(c.escape_unicode()),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn render(text: &str, items: Vec<(u32, u32, u32, &str)>) -> String {
        let mut sources = SourceMap::default();
        let source = sources.add_file(std::path::Path::new("recipes/mind.yaml"), text.to_owned());
        let diagnostic = |(line, column, length, message): (u32, u32, u32, &str)| {
            Diagnostic::at(Span { source, line, column, length }, message)
        };
        Diagnostics::new(items.into_iter().map(diagnostic).collect(), sources).to_string()
    }

    #[test]
    fn a_mistake_is_shown_where_it_is() {
        let mut sources = SourceMap::default();
        let text = "\n".repeat(30) + "        epoch: 3\n";
        let source = sources.add_file(std::path::Path::new("recipes/mind.yaml"), text);
        let span = Span { source, line: 31, column: 9, length: 5 };
        let item = Diagnostic::at(span, "unknown key `epoch` in `with` of stage `student`");
        let item = item.suggest("epoch", ["epochs", "batch"]);
        assert_eq!(
            Diagnostics::new(vec![item.clone(), item], sources).to_string(),
            "\
error: unknown key `epoch` in `with` of stage `student`
  --> recipes/mind.yaml:31:9
   |
31 |         epoch: 3
   |         ^^^^^
help: did you mean `epochs`?

1 mistake"
        );
    }

    #[test]
    fn mistakes_are_sorted_and_counted() {
        let shown = render("a\nb\n", vec![(2, 1, 1, "second"), (1, 1, 1, "first")]);
        assert!(shown.find("first") < shown.find("second"), "{shown}");
        assert!(shown.ends_with("2 mistakes"), "{shown}");
        let many: Vec<String> = (0..60).map(|index| format!("m{index:02}")).collect();
        let shown = render("a", many.iter().map(|message| (1, 1, 1, message.as_str())).collect());
        assert!(shown.contains("error: m49") && !shown.contains("error: m50"), "{shown}");
        assert!(shown.ends_with("and 10 more; 60 mistakes"), "{shown}");
    }

    #[test]
    fn long_lines_are_shown_in_part() {
        let text = format!("{}here{}", "x".repeat(1000), "y".repeat(1000));
        let shown = render(&text, vec![(1, 1001, 4, "message")]);
        assert!(shown.lines().all(|line| line.chars().count() < 180), "{shown}");
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[3].find("here"), lines[3].find("herey"), "{shown}");
        let at = lines[3].chars().position(|c| c == 'h');
        assert_eq!(at, lines[4].chars().position(|c| c == '^'), "{shown}");
        assert!(lines[3].contains('…') && lines[3].ends_with('…'), "{shown}");
    }

    #[test]
    fn control_characters_are_escaped() {
        let shown = render("a\u{1b}[31m\u{202e}b\tc", vec![(1, 8, 1, "bad \u{1b}[0m")]);
        assert!(!shown.contains(['\u{1b}', '\u{202e}', '\t']), "{shown}");
        assert!(shown.contains("1 | a\\u{1b}[31m\\u{202e}b c"), "{shown}");
        let lines: Vec<&str> = shown.lines().collect();
        assert_eq!(lines[3].find("b c"), lines[4].find('^'), "{shown}");
    }

    #[test]
    fn places_outside_the_text_are_harmless() {
        for (line, column) in [(0, 0), (9, 9), (1, 500)] {
            assert!(render("abc", vec![(line, column, 900, "message")]).contains("error: message"));
        }
    }

    #[test]
    fn where_nothing_is_near_every_name_is_listed() {
        let listed = Diagnostic::general("m").suggest("quantum", ["a", "b", "c"]);
        assert_eq!(listed.help, ["expected one of `a`, `b`, `c`"]);
    }
}
