//! `${..}` in a tree: the tree of one cell.
//!
//! A reference is an axis or a variable, and fields of it: `${method}`, `${method.objective}`. What it
//! names can itself hold references. A text that is one reference becomes what it names, of whatever type
//! and with its place, so that a path in a variable stays relative to the file the variable is written in.
//! In the middle of a text a reference must be a scalar. `$${` is a plain `${`.

use serde_json::Value;

use super::node::scalar_text;
use super::parse::{DEPTH, WEIGHT};
use super::{AxisValue, Diagnostic, Node, NodeValue, Recipe, Span, Spanned};

/// What `${..}` can name in a cell.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// The recipe, for its variables.
    pub recipe: &'a Recipe,
    /// The cell's value of each of its stage's axes.
    pub axes: &'a [(&'a str, &'a AxisValue)],
}

/// Replaces every `${..}`. All mistakes go to `out`; `None` if there were any.
pub fn interpolate(node: &Node, scope: &Scope, out: &mut Vec<Diagnostic>) -> Option<Node> {
    Expansion { scope, out, open: Vec::new(), depth: 0, weight: 0 }.node(node)
}

struct Expansion<'a, 'o> {
    scope: &'a Scope<'a>,
    out: &'o mut Vec<Diagnostic>,
    /// The references being expanded, each inside the one before.
    open: Vec<String>,
    /// Collections around the present value.
    depth: usize,
    /// Values made so far, which bounds references that multiply.
    weight: usize,
}

/// A part of a text with references.
enum Part<'t> {
    Text(&'t str),
    /// The name between `${` and `}`, and the byte offset of the `$`.
    Reference(&'t str, usize),
    /// A `${` without its `}`.
    Open(usize),
}

impl Expansion<'_, '_> {
    fn node(&mut self, node: &Node) -> Option<Node> {
        self.spend(1, node.span)?;
        if self.depth.max(self.open.len()) > DEPTH {
            let message = format!("nested deeper than {DEPTH} levels, references expanded");
            self.out.push(Diagnostic::at(node.span, message));
            return None;
        }
        self.depth += 1;
        let expanded = self.value(node);
        self.depth -= 1;
        expanded
    }

    fn value(&mut self, node: &Node) -> Option<Node> {
        match &node.value {
            NodeValue::Scalar(Value::String(text)) if text.contains("${") => self.text(text, node.span),
            NodeValue::Scalar(value) => {
                self.spend(value.as_str().map_or(0, |text| text.len() / 128), node.span)?;
                Some(node.clone())
            }
            NodeValue::Sequence(items) => {
                let items: Vec<Option<Node>> = items.iter().map(|item| self.node(item)).collect();
                let items = items.into_iter().collect::<Option<_>>()?;
                Some(Node::new(NodeValue::Sequence(items), node.span))
            }
            NodeValue::Mapping(entries) => {
                let entry = |(key, node): &(Spanned<String>, Node)| Some((key.clone(), self.node(node)?));
                let entries: Vec<Option<(Spanned<String>, Node)>> = entries.iter().map(entry).collect();
                let entries = entries.into_iter().collect::<Option<_>>()?;
                Some(Node::new(NodeValue::Mapping(entries), node.span))
            }
        }
    }

    fn text(&mut self, text: &str, span: Span) -> Option<Node> {
        let parts = split(text);
        if let [Part::Reference(name, at)] = parts.as_slice() {
            return self.reference(name, place(text, *at, name, span));
        }
        let mut whole = String::new();
        let mut start = span;
        let mut complete = true;
        for (index, part) in parts.iter().enumerate() {
            match part {
                Part::Text(text) => whole.push_str(text),
                Part::Open(at) => {
                    let span = place(text, *at, "", span);
                    self.out.push(
                        Diagnostic::at(span, "`${` without its `}`").help("write `$${` for a plain `${`"),
                    );
                    complete = false;
                }
                Part::Reference(name, at) => {
                    let place = place(text, *at, name, span);
                    let Some(node) = self.reference(name, place) else {
                        complete = false;
                        continue;
                    };
                    let Some(scalar) = node.scalar() else {
                        let message =
                            format!("`${{{name}}}` is {}, it cannot be part of a text", node.describe());
                        self.out.push(Diagnostic::at(place, message).note(node.span, "it is written here"));
                        complete = false;
                        continue;
                    };
                    whole.push_str(&scalar_text(scalar));
                    self.spend(1 + whole.len() / 128, place)?;
                    if index == 0 {
                        // A path that starts with a reference starts where that is written.
                        start = node.span;
                    }
                }
            }
        }
        complete.then(|| Node::string(whole, start))
    }

    fn reference(&mut self, name: &str, span: Span) -> Option<Node> {
        self.spend(1, span)?;
        if let Some(start) = self.open.iter().position(|open| open == name) {
            let cycle: Vec<String> = self.open[start..]
                .iter()
                .map(String::as_str)
                .chain([name])
                .map(|name| format!("`{name}`"))
                .collect();
            self.out
                .push(Diagnostic::at(span, format!("a value that contains itself: {}", cycle.join(" -> "))));
            return None;
        }
        let node = self.find(name, span)?;
        if node.is_null() {
            let is_axis = self.scope.axes.iter().any(|(axis, _)| name.split('.').next() == Some(axis));
            self.out.push(if is_axis {
                Diagnostic::at(span, format!("`${{{name}}}` has no value"))
                    .note(node.span, "it is written here")
            } else {
                Diagnostic::at(span, format!("variable `{name}` has no value"))
                    .help(format!("pass `--set vars.{name}=VALUE`"))
            });
            return None;
        }
        self.open.push(name.to_owned());
        let node = self.node(&node);
        self.open.pop();
        node
    }

    /// What a reference names, not yet expanded itself.
    fn find(&mut self, name: &str, span: Span) -> Option<Node> {
        let (first, rest) = match name.split_once('.') {
            Some((first, rest)) => (first, Some(rest)),
            None => (name, None),
        };
        let axis = self.scope.axes.iter().find(|(axis, _)| *axis == first).map(|(_, value)| *value);
        let mut node = match (axis, self.scope.recipe.vars.get(first)) {
            (Some(value), _) if rest.is_none() && value.node.scalar().is_none() => {
                return Some(Node::string(value.name.clone(), value.span));
            }
            (Some(value), _) => &value.node,
            (None, Some(node)) => node,
            (None, None) => {
                self.unknown(first, span);
                return None;
            }
        };
        let owner = match axis {
            Some(value) => format!("value `{}` of axis `{first}`", value.name),
            None => format!("variable `{first}`"),
        };
        for field in rest.into_iter().flat_map(|rest| rest.split('.')) {
            let Some(next) = node.get(field) else {
                let fields = node.entries().unwrap_or(&[]).iter().map(|(key, _)| key.value.as_str());
                self.out.push(
                    Diagnostic::at(span, format!("`${{{name}}}`: {owner} has no field `{field}`"))
                        .suggest(field, fields)
                        .note(node.span, "it is written here"),
                );
                return None;
            };
            node = next;
        }
        Some(node.clone())
    }

    fn unknown(&mut self, name: &str, span: Span) {
        if self.scope.recipe.axes.iter().any(|axis| axis.name.value == name) {
            self.out.push(
                Diagnostic::at(span, format!("axis `{name}` is not in the `matrix` here"))
                    .help(format!("add `{name}` to the `matrix` of the stage")),
            );
            return;
        }
        let axes = self.scope.axes.iter().map(|(axis, _)| *axis);
        let known: Vec<&str> = axes.chain(self.scope.recipe.vars.keys().map(String::as_str)).collect();
        let mut diagnostic = Diagnostic::at(span, format!("`${{{name}}}` names no axis and no variable"));
        if known.is_empty() {
            diagnostic = diagnostic.help("declare it: `vars: {NAME: VALUE}`");
        }
        self.out.push(diagnostic.suggest(name, known));
    }

    fn spend(&mut self, weight: usize, span: Span) -> Option<()> {
        if self.weight > WEIGHT {
            return None;
        }
        self.weight += weight;
        if self.weight > WEIGHT {
            self.out.push(Diagnostic::at(span, format!("more than {WEIGHT} values, references expanded")));
            return None;
        }
        Some(())
    }
}

fn split(text: &str) -> Vec<Part<'_>> {
    let mut parts = Vec::new();
    let mut rest = 0;
    while let Some(found) = text[rest..].find("${") {
        let at = rest + found;
        if text[rest..at].ends_with('$') {
            parts.push(Part::Text(&text[rest..at - 1]));
            parts.push(Part::Text("${"));
            rest = at + 2;
            continue;
        }
        if at > rest {
            parts.push(Part::Text(&text[rest..at]));
        }
        let Some(end) = text[at..].find('}') else {
            parts.push(Part::Open(at));
            return parts;
        };
        parts.push(Part::Reference(&text[at + 2..at + end], at));
        rest = at + end + 1;
    }
    if rest < text.len() {
        parts.push(Part::Text(&text[rest..]));
    }
    parts
}

/// The place of a reference in the scalar it is part of, as near as escapes and folding let it be known.
fn place(text: &str, at: usize, name: &str, span: Span) -> Span {
    let small = |value: usize| u32::try_from(value).unwrap_or(0);
    let quotes = span.length.saturating_sub(small(text.chars().count())) / 2;
    let length = small(name.chars().count() + 3);
    let offset = quotes + small(text[..at].chars().count());
    if offset + length > span.length {
        return span;
    }
    Span { column: span.column + offset, length, ..span }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::recipe::tests::{load, load_files};

    const RECIPE: &str = "\
recipe: x
vars: {data: null, n: 3, flag: true, map: {k: [1]}, path: \"${n}/x\", a: \"${b}\", b: \"${a}\", empty: \"\"}
seeds: [7]
matrix: {method: {mind: {objective: {mind: {n: \"${n}\"}}, none: null}}, task: [chain]}
stages: {a: {uses: b, with: WITH}}
";

    /// Expands `with` in the cell method=mind, seed=7.
    fn expand(with: &str) -> Result<Value, Vec<String>> {
        let recipe = load(&RECIPE.replace("WITH", with)).unwrap();
        let axes = [("method", &recipe.axes[0].values[0]), ("seed", &recipe.axes[2].values[0])];
        let mut out = Vec::new();
        let node = interpolate(&recipe.stages[0].with, &Scope { recipe: &recipe, axes: &axes }, &mut out);
        assert_eq!(node.is_none(), !out.is_empty());
        let show = |item: &Diagnostic| {
            let span = item.span.unwrap();
            format!("{}+{} {}", span.column, span.length, item.message)
        };
        node.map(|node| node.to_json()).ok_or_else(|| out.iter().map(show).collect())
    }

    #[test]
    fn a_text_that_is_a_reference_keeps_the_type() {
        assert_eq!(
            expand("{a: '${n}', b: \"${flag}\", c: ['${map}', '${map.k}'], d: '${seed}', e: '${method}'}"),
            Ok(json!({"a": 3, "b": true, "c": [{"k": [1]}, [1]], "d": 7, "e": "mind"}))
        );
        assert_eq!(expand("{a: '${method.objective}'}"), Ok(json!({"a": {"mind": {"n": 3}}})));
    }

    #[test]
    fn inside_a_text_a_reference_is_text() {
        assert_eq!(
            expand("{a: 'x${n}-${flag}', b: '${path}/${method}${empty}', c: '$${n} $n ${n}$', d: '$$${n}'}"),
            Ok(json!({"a": "x3-true", "b": "3/x/mind", "c": "${n} $n 3$", "d": "$${n}"}))
        );
    }

    #[test]
    fn mistakes_are_shown_where_the_reference_is() {
        let wrong =
            "{a: 'x/${dta}', b: ['${data}', '${task}'], c: 'x${map}', d: '${n', e: '${method.objectiv}'}";
        assert_eq!(
            expand(wrong).unwrap_err(),
            [
                "36+6 `${dta}` names no axis and no variable",
                "50+7 variable `data` has no value",
                "61+7 axis `task` is not in the `matrix` here",
                "77+6 `${map}` is a mapping, it cannot be part of a text",
                "90+3 `${` without its `}`",
                "100+18 `${method.objectiv}`: value `mind` of axis `method` has no field `objectiv`",
            ]
        );
        assert_eq!(
            expand("{a: '${a}'}").unwrap_err(),
            ["84+4 a value that contains itself: `a` -> `b` -> `a`"]
        );
        assert_eq!(expand("{a: '${method.none}'}").unwrap_err(), ["34+14 `${method.none}` has no value"]);
        assert_eq!(expand("{a: '${}'}").unwrap_err(), ["34+3 `${}` names no axis and no variable"]);
    }

    #[test]
    fn a_path_stays_relative_to_where_it_is_written() {
        let files = [
            (
                "recipes/main.yaml",
                "include: ../common/vars.yaml\nrecipe: x\nstages: {a: {uses: b, with: {p: '${data}/f', q: 'f/${data}', r: '${data}'}}}\n",
            ),
            ("common/vars.yaml", "vars: {data: here}\n"),
        ];
        let recipe = load_files(&files, &[]).unwrap();
        let scope = Scope { recipe: &recipe, axes: &[] };
        let with = interpolate(&recipe.stages[0].with, &scope, &mut Vec::new()).unwrap();
        let folder = |key: &str| recipe.sources.dir(with.get(key).unwrap().span.source);
        assert!(
            folder("p").ends_with("common")
                && folder("q").ends_with("recipes")
                && folder("r").ends_with("common")
        );
    }

    #[test]
    fn references_cannot_explode() {
        let chain = |link: &dyn Fn(usize) -> String, count: usize| -> String {
            (0..count).map(|index| format!("  v{index}: {}\n", link(index + 1))).collect()
        };
        let wide = |next: usize| format!("\"{}\"", format!("${{v{next}}}").repeat(9));
        let lists = |next: usize| format!("[\"${{v{next}}}\", \"${{v{next}}}\", \"${{v{next}}}\"]");
        let deep = |next: usize| format!("[[[[\"${{v{next}}}\"]]]]");
        let long = |next: usize| format!("\"${{v{next}}}\"");
        type Link<'l> = &'l dyn Fn(usize) -> String;
        let cases: [(Link<'_>, usize, &str, &str); 5] = [
            (&wide, 30, "\"\"", "more than 50000 values, references expanded"),
            (&wide, 30, "xxxxxxxx", "more than 50000 values, references expanded"),
            (&lists, 30, "1", "more than 50000 values, references expanded"),
            (&deep, 30, "1", "nested deeper than 64 levels, references expanded"),
            (&long, 9000, "1", "nested deeper than 64 levels, references expanded"),
        ];
        for (link, count, end, expected) in cases {
            let vars = chain(link, count);
            let text = format!(
                "recipe: x\nvars:\n{vars}  v{count}: {end}\nstages: {{a: {{uses: b, with: {{a: \"${{v0}}\"}}}}}}\n"
            );
            let recipe = load(&text).unwrap();
            let mut out = Vec::new();
            let scope = Scope { recipe: &recipe, axes: &[] };
            assert_eq!(interpolate(&recipe.stages[0].with, &scope, &mut out), None);
            assert_eq!(out.iter().map(|item| &*item.message).collect::<Vec<_>>(), [expected]);
        }
    }
}
