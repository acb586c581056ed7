//! YAML text to a [`Node`] tree.
//!
//! Events and positions come from `saphyr-parser`; plain scalars get their type from `serde_yaml`, so that
//! `1e-4`, `0x10` and `true` mean what they mean in every other file read with serde. Anchors are expanded
//! here. Repeated keys, keys that are not strings, tags and merge keys are reported without stopping;
//! a syntax error, too much nesting or too much expansion stops.

mod syntax;

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span as Range, Tag};
use serde_json::Value;

use super::{Diagnostic, Node, NodeValue, SourceId, Span, Spanned};

/// The deepest nesting a recipe can have.
pub(super) const DEPTH: usize = 64;
/// The most values a recipe can have once aliases are expanded; long texts count more than once.
pub(super) const WEIGHT: usize = 50_000;

/// Parses one document. `shift` is added to the columns of the first line.
pub(super) fn parse(text: &str, source: SourceId, shift: u32, out: &mut Vec<Diagnostic>) -> Option<Node> {
    let mut builder = Builder {
        text,
        source,
        shift,
        stack: Vec::new(),
        anchors: BTreeMap::new(),
        weight: 0,
        cursor: (0, 0),
        root: None,
        out,
    };
    if let Err(fatal) = builder.read() {
        builder.out.push(fatal);
        return None;
    }
    Some(builder.root.unwrap_or_else(|| {
        Node::new(NodeValue::Scalar(Value::Null), Span { source, line: 1, column: 1 + shift, length: 1 })
    }))
}

struct Builder<'a> {
    text: &'a str,
    source: SourceId,
    shift: u32,
    stack: Vec<Frame>,
    anchors: BTreeMap<usize, Node>,
    weight: usize,
    /// A character index reached so far, and its byte offset.
    cursor: (usize, usize),
    root: Option<Node>,
    out: &'a mut Vec<Diagnostic>,
}

/// A collection that is not closed yet.
struct Frame {
    open: Open,
    anchor: usize,
    span: Span,
    /// Where its `[` or `{` is, for flow style.
    bracket: Option<usize>,
}

enum Open {
    Sequence(Vec<Node>),
    Mapping { entries: Vec<(Spanned<String>, Node)>, seen: BTreeMap<String, Span>, key: Key },
}

/// The key that waits for its value.
enum Key {
    None,
    Good(Spanned<String>),
    /// A key that was reported; its value is dropped.
    Bad,
}

impl Builder<'_> {
    fn read(&mut self) -> Result<(), Diagnostic> {
        let mut documents = 0;
        for event in Parser::new_from_str(self.text) {
            let (event, range) = event.map_err(|error| self.syntax(&error))?;
            match event {
                Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
                Event::DocumentStart(_) => {
                    documents += 1;
                    if documents > 1 {
                        return Err(Diagnostic::at(self.span(range), "a second document starts here")
                            .help("a recipe is one document: remove the `---`"));
                    }
                }
                Event::Alias(anchor) => self.alias(anchor, range)?,
                Event::Scalar(text, style, anchor, tag) => {
                    let span = self.scalar_span(range, style);
                    let value = self.scalar(&text, style, tag.as_deref(), span);
                    self.spend(1 + text.len() / 128, span)?;
                    self.place(Node::new(NodeValue::Scalar(value), span), anchor)?;
                }
                Event::SequenceStart(anchor, tag) => {
                    self.open(Open::Sequence(Vec::new()), anchor, tag.as_deref(), range)?;
                }
                Event::MappingStart(anchor, tag) => {
                    let open = Open::Mapping { entries: Vec::new(), seen: BTreeMap::new(), key: Key::None };
                    self.open(open, anchor, tag.as_deref(), range)?;
                }
                Event::SequenceEnd | Event::MappingEnd => self.close(range)?,
            }
        }
        Ok(())
    }

    fn open(&mut self, open: Open, anchor: usize, tag: Option<&Tag>, range: Range) -> Result<(), Diagnostic> {
        let span = self.value_span(range);
        if self.stack.len() >= DEPTH {
            return Err(nested_too_deep(span));
        }
        if let Some(tag) = tag {
            self.out.push(unsupported_tag(tag, span));
        }
        self.spend(1, span)?;
        let bracket = (!range.is_empty()).then(|| range.start.index());
        self.stack.push(Frame { open, anchor, span, bracket });
        Ok(())
    }

    fn close(&mut self, range: Range) -> Result<(), Diagnostic> {
        let frame = self.stack.pop().expect("the parser balances starts and ends");
        let value = match frame.open {
            Open::Sequence(items) => NodeValue::Sequence(items),
            Open::Mapping { entries, .. } => NodeValue::Mapping(entries),
        };
        let end = self.span(range);
        let mut span = frame.span;
        if frame.bracket.is_some() && end.line == span.line {
            span.length = (end.column + end.length).saturating_sub(span.column);
        }
        self.place(Node::new(value, span), frame.anchor)
    }

    fn alias(&mut self, anchor: usize, range: Range) -> Result<(), Diagnostic> {
        let span = self.span(range);
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(Diagnostic::at(span, "this alias is inside the value it stands for"));
        };
        let (node, depth) = (node.clone(), node.depth());
        if self.stack.len() + depth > DEPTH {
            return Err(nested_too_deep(span));
        }
        self.spend(node.weight(), span)?;
        self.place(node, 0)
    }

    /// Puts a complete value where the innermost open collection expects one.
    fn place(&mut self, node: Node, anchor: usize) -> Result<(), Diagnostic> {
        if anchor > 0 {
            self.spend(node.weight(), node.span)?;
            self.anchors.insert(anchor, node.clone());
        }
        match self.stack.last_mut().map(|frame| &mut frame.open) {
            None => self.root = Some(node),
            Some(Open::Sequence(items)) => items.push(node),
            Some(Open::Mapping { entries, seen, key }) => match std::mem::replace(key, Key::None) {
                Key::None => *key = check_key(node, seen, self.out),
                Key::Good(name) => entries.push((name, node)),
                Key::Bad => {}
            },
        }
        Ok(())
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, span: Span) -> Value {
        match tag {
            Some(tag) if tag.is_yaml_core_schema() && tag.suffix == "str" => return text.into(),
            Some(tag) => self.out.push(unsupported_tag(tag, span)),
            None => {}
        }
        let could_be_typed = style == ScalarStyle::Plain && text.len() <= 64;
        if !could_be_typed {
            return text.into();
        }
        match serde_yaml::from_str(text) {
            Ok(serde_yaml::Value::Null) => Value::Null,
            Ok(serde_yaml::Value::Bool(value)) => value.into(),
            Ok(serde_yaml::Value::Number(number)) => match number_value(&number) {
                Some(value) => value,
                None => {
                    self.out.push(Diagnostic::at(span, format!("`{text}` is not a finite number")));
                    Value::Null
                }
            },
            Ok(_) | Err(_) => text.into(),
        }
    }

    fn spend(&mut self, weight: usize, span: Span) -> Result<(), Diagnostic> {
        self.weight += weight;
        if self.weight > WEIGHT {
            return Err(Diagnostic::at(span, format!("more than {WEIGHT} values, aliases expanded")));
        }
        Ok(())
    }

    /// Where a value is shown: a block collection or an empty value at the key it belongs to.
    fn value_span(&self, range: Range) -> Span {
        if range.is_empty()
            && let Some(Frame { open: Open::Mapping { key: Key::Good(key), .. }, .. }) = self.stack.last()
        {
            return key.span;
        }
        self.span(range)
    }

    /// The place of a scalar: the parser counts what follows a closing quote as well.
    fn scalar_span(&mut self, range: Range, style: ScalarStyle) -> Span {
        let span = self.value_span(range);
        let quote = match style {
            ScalarStyle::SingleQuoted => '\'',
            ScalarStyle::DoubleQuoted => '"',
            ScalarStyle::Plain | ScalarStyle::Literal | ScalarStyle::Folded => return span,
        };
        let (index, byte) = self.cursor;
        let ahead = range.start.index().saturating_sub(index);
        let rest = &self.text[byte..];
        let skipped = rest.char_indices().nth(ahead).map_or(rest.len(), |(at, _)| at);
        self.cursor = (index + ahead, byte + skipped);
        let mut chars = rest[skipped..].chars().take_while(|c| *c != '\n').enumerate().skip(1).peekable();
        while let Some((at, c)) = chars.next() {
            let doubled = quote == '\'' && chars.peek().is_some_and(|(_, next)| *next == quote);
            if c == '\\' && quote == '"' || c == quote && doubled {
                chars.next();
            } else if c == quote {
                return Span { length: u32::try_from(at + 1).unwrap_or(span.length), ..span };
            }
        }
        span
    }

    fn span(&self, range: Range) -> Span {
        let (start, end) = (range.start, range.end);
        let length = if end.line() == start.line() {
            range.len()
        } else {
            // The part on the first line; what shows the span stops at the end of the line.
            range.len().min(1 << 16)
        };
        self.at(start.line(), start.col(), length)
    }

    fn at(&self, line: usize, column: usize, length: usize) -> Span {
        let shift = if line == 1 { self.shift } else { 0 };
        let small = |value: usize| u32::try_from(value).expect("the loader bounds the size of a text");
        Span {
            source: self.source,
            line: small(line),
            column: small(column) + 1 + shift,
            length: small(length.max(1)),
        }
    }
}

/// A node as a key: a string, new in its mapping.
fn check_key(node: Node, seen: &mut BTreeMap<String, Span>, out: &mut Vec<Diagnostic>) -> Key {
    let span = node.span;
    let NodeValue::Scalar(Value::String(name)) = node.value else {
        let diagnostic = match &node.value {
            NodeValue::Scalar(Value::Null) => Diagnostic::at(span, "a `:` without a key before it"),
            NodeValue::Scalar(value) => Diagnostic::at(span, format!("key `{value}` is not a string"))
                .help(format!("quote it: \"{value}\"")),
            NodeValue::Sequence(_) | NodeValue::Mapping(_) => {
                Diagnostic::at(span, format!("a key must be a string, found {}", node.describe()))
            }
        };
        out.push(diagnostic);
        return Key::Bad;
    };
    if name == "<<" {
        out.push(
            Diagnostic::at(span, "merge keys are not supported")
                .help("use `include`, or an alias for the whole value"),
        );
        return Key::Bad;
    }
    if let Some(first) = seen.insert(name.clone(), span) {
        out.push(
            Diagnostic::at(span, format!("key `{name}` is written twice")).note(first, "first written here"),
        );
        seen.insert(name, first);
        return Key::Bad;
    }
    Key::Good(Spanned::new(name, span))
}

fn number_value(number: &serde_yaml::Number) -> Option<Value> {
    if let Some(value) = number.as_u64() {
        return Some(value.into());
    }
    if let Some(value) = number.as_i64() {
        return Some(value.into());
    }
    serde_json::Number::from_f64(number.as_f64()?).map(Value::Number)
}

fn nested_too_deep(span: Span) -> Diagnostic {
    Diagnostic::at(span, format!("nested deeper than {DEPTH} levels"))
}

fn unsupported_tag(tag: &Tag, span: Span) -> Diagnostic {
    Diagnostic::at(span, format!("tag `{tag}` is not supported"))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> (Option<Node>, Vec<String>) {
        let mut out = Vec::new();
        let node = parse(text, SourceId(0), 0, &mut out);
        let show = |item: &Diagnostic| {
            let span = item.span.unwrap();
            format!("{}:{}+{} {}", span.line, span.column, span.length, item.message)
        };
        (node, out.iter().map(show).collect())
    }

    fn good(text: &str) -> Node {
        let (node, mistakes) = read(text);
        assert_eq!(mistakes, Vec::<String>::new(), "{text}");
        node.unwrap()
    }

    #[test]
    fn scalars_have_the_types_serde_gives_them() {
        let text = "[1, -2, 1e-4, 0x10, 1.5, true, null, ~, yes, '1', \"true\", !!str 7, 1.2.3, 18446744073709551615]";
        let expected = json!([
            1,
            -2,
            1e-4,
            16,
            1.5,
            true,
            null,
            null,
            "yes",
            "1",
            "true",
            "7",
            "1.2.3",
            18446744073709551615u64
        ]);
        assert_eq!(good(text).to_json(), expected);
        assert_eq!(
            good("a: |\n  x\n  y\nb: >-\n  x\n  y\nc: x\n  y\n").to_json(),
            json!({"a": "x\ny\n", "b": "x y", "c": "x y"})
        );
    }

    #[test]
    fn places_count_characters_from_one() {
        let node = good("é: 'ü' # c\nb:\n  - x\n  - {k: [1, 22]}\nc:\n");
        let place = |node: &Node| (node.span.line, node.span.column, node.span.length);
        let quoted = good("['a''b'  , \"a\\\"b\"  , 'c', é]\r\n");
        let lengths: Vec<u32> = quoted.items().unwrap().iter().map(|item| item.span.length).collect();
        assert_eq!(lengths, [6, 6, 3, 1]);
        assert_eq!(place(node.get("é").unwrap()), (1, 4, 3));
        let b = node.get("b").unwrap();
        assert_eq!(place(b), (2, 1, 1), "a block collection is shown at its key");
        assert_eq!(place(&b.items().unwrap()[0]), (3, 5, 1));
        assert_eq!(place(&b.items().unwrap()[1]), (4, 5, 12), "brackets included");
        assert_eq!(place(node.get("c").unwrap()), (5, 1, 1), "an empty value is shown at its key");
    }

    #[test]
    fn aliases_are_expanded() {
        assert_eq!(
            good("a: &x {k: 1}\nb: [*x, *x]").to_json(),
            json!({"a": {"k": 1}, "b": [{"k": 1}, {"k": 1}]})
        );
        assert_eq!(read("a: &x [*x]").1, ["1:8+2 this alias is inside the value it stands for"]);
        let deep =
            format!("a: &x {}1{}\nb: {}*x{}", "[".repeat(40), "]".repeat(40), "[".repeat(40), "]".repeat(40));
        assert_eq!(read(&deep).1, ["2:44+2 nested deeper than 64 levels"]);
    }

    #[test]
    fn mistakes_in_keys_do_not_stop() {
        let text = "a: 1\na: 2\n5: x\n[k]: y\n: z\n<<: {b: 1}\nc: !x 1\nd: .inf\n";
        assert_eq!(
            read(text).1,
            [
                "2:1+1 key `a` is written twice",
                "3:1+1 key `5` is not a string",
                "4:1+3 a key must be a string, found a list",
                "5:1+1 a `:` without a key before it",
                "6:1+2 merge keys are not supported",
                "7:7+1 tag `!x` is not supported",
                "8:4+4 `.inf` is not a finite number",
            ]
        );
        assert_eq!(read(text).0.unwrap().get("a").unwrap().to_json(), json!(1), "the first of two counts");
    }

    #[test]
    fn syntax_errors_are_explained() {
        for (text, expected) in [
            ("a:\n\tb: 1\n", "2:1+1 a tab in the indentation"),
            ("a:\n  b: 1\n\tc: 2\n", "3:1+1 a tab in the indentation"),
            ("a: [1, 2\nb: 3\n", "2:2+1 a `:` where no key can be"),
            ("a: {x: 1\n", "1:9+1 expected `,` or `}`"),
            ("a: [x y\n", "1:8+1 expected `,` or `]`"),
            ("a: \"x\nb: 2\n", "1:4+1 a quoted text that does not end on its line"),
            ("a: 'x\n", "1:4+1 a quoted text that never ends"),
            ("a: \"\\q\"", "1:4+1 an unknown escape in a quoted text"),
            ("{path: ${data}}", "1:9+1 expected `,` or `}`"),
            ("a: b: c", "1:5+1 a `:` where no key can be"),
            ("a:\n  b: 1\n c: 2\n", "3:2+1 expected a key"),
            ("- a\nb: 1\n", "2:1+1 expected a `-`"),
            ("a: 1\nfoo\nb: 2\n", "2:1+3 expected a `:` after this key"),
            ("a: *x", "1:4+1 an alias to an anchor that does not exist"),
            ("a: @x", "1:4+1 a value cannot start with `@`"),
            ("a: 1\n---\nb: 2\n", "2:1+3 a second document starts here"),
        ] {
            assert_eq!(read(text).1, [expected], "{text:?}");
        }
    }

    #[test]
    fn the_first_line_can_start_further_right() {
        let mut out = Vec::new();
        let node = parse("[x,\n y]", SourceId(0), 10, &mut out).unwrap();
        let columns: Vec<u32> = node.items().unwrap().iter().map(|item| item.span.column).collect();
        assert_eq!(columns, [12, 2]);
    }
}
