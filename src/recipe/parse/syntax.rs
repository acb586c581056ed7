//! Syntax errors in the words of someone who does not know the YAML grammar.

use saphyr_parser::ScanError;

use super::{Builder, nested_too_deep};
use crate::recipe::{Diagnostic, Span};

impl Builder<'_> {
    /// Behind the last character that is not blank.
    fn end(&self) -> Span {
        let text = self.text.trim_end();
        let last = text.rsplit('\n').next().unwrap_or("");
        self.at(text.matches('\n').count() + 1, last.chars().count(), 1)
    }

    /// The nearest line above that holds more than a comment.
    fn line_above(&self, line: usize) -> Option<Span> {
        let above = self.text.lines().take(line.saturating_sub(1)).enumerate();
        let (index, text) =
            above.filter(|(_, text)| !text.trim().is_empty() && !text.trim().starts_with('#')).last()?;
        let indent = text.chars().take_while(|c| c.is_whitespace()).count();
        Some(self.at(index + 1, indent, text.trim().chars().count()))
    }

    /// Puts a syntax error into the words of someone who does not know the YAML grammar.
    pub(super) fn syntax(&self, error: &ScanError) -> Diagnostic {
        let marker = error.marker();
        let lines: Vec<&str> = self.text.lines().skip(marker.line().saturating_sub(1)).take(2).collect();
        // The parser may stop at the end of the line before the tab.
        let near = if error.info().contains("tab") { lines.as_slice() } else { &[] };
        for (offset, line) in near.iter().enumerate() {
            let indent = line.chars().take_while(|c| c.is_whitespace());
            if let Some(tab) = indent.clone().position(|c| c == '\t') {
                let span = self.at(marker.line() + offset, tab, 1);
                return Diagnostic::at(span, "a tab in the indentation").help("indent with spaces");
            }
        }
        let span = match lines.first() {
            Some(line) if !line.is_empty() => self.at(marker.line(), marker.col(), 1),
            Some(_) | None => self.end(),
        };
        let info = error.info();
        if info.contains("recursion limit") {
            return nested_too_deep(span);
        }
        let span = if info == NO_COLON { self.line_above(marker.line()).unwrap_or(span) } else { span };
        let (message, help) = explain(info);
        let mut diagnostic = Diagnostic::at(span, message);
        diagnostic.help.extend(help.map(str::to_owned));
        let innermost = self.stack.last().and_then(|frame| Some((frame.span, frame.bracket?)));
        if let Some((span, bracket)) = innermost {
            let bracket = self.text.chars().nth(bracket).unwrap_or('[');
            diagnostic = diagnostic.note(Span { length: 1, ..span }, format!("inside this `{bracket}`"));
            if lines.first().is_some_and(|line| line.contains("${")) {
                diagnostic = diagnostic.help("inside `{}` and `[]`, quote a reference: \"${name}\"");
            }
        }
        diagnostic
    }
}

/// What the parser says at the line after a key without its `:`.
const NO_COLON: &str = "simple key expect ':'";

/// The parser's complaint in other words, with a remedy where one is likely.
fn explain(info: &str) -> (String, Option<&'static str>) {
    const INDENT: Option<&str> = Some("check the indentation of this line and the one above");
    let (message, help) = match info {
        "while parsing a flow mapping, did not find expected ',' or '}'" => ("expected `,` or `}`", None),
        "while parsing a flow sequence, expected ',' or ']'" => ("expected `,` or `]`", None),
        "mapping values are not allowed in this context" => {
            ("a `:` where no key can be", Some("quote a text that contains `: `, or check the indentation"))
        }
        "illegal placement of ':' indicator" => ("a `:` where no key can be", None),
        "while parsing a block mapping, did not find expected key" => ("expected a key", INDENT),
        "while parsing a block collection, did not find expected '-' indicator" => ("expected a `-`", INDENT),
        NO_COLON => ("expected a `:` after this key", None),
        "invalid indentation in quoted scalar" => {
            ("a quoted text that does not end on its line", Some("close the quote, or indent what follows"))
        }
        "while scanning a quoted scalar, found unexpected end of stream" => {
            ("a quoted text that never ends", Some("close the quote"))
        }
        "while parsing node, found unknown anchor" => ("an alias to an anchor that does not exist", None),
        "while parsing a quoted scalar, found unknown escape character" => {
            ("an unknown escape in a quoted text", Some("use single quotes for text with backslashes"))
        }
        "while parsing a node, did not find expected node content" => ("expected a value", None),
        other => {
            let reserved = other.strip_prefix("unexpected character: `").and_then(|rest| rest.chars().next());
            return match reserved {
                Some(first) => (format!("a value cannot start with `{first}`"), Some("quote the text")),
                None => (format!("not valid YAML: {other}"), None),
            };
        }
    };
    (message.to_owned(), help)
}
