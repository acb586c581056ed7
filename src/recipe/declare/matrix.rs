//! Axes and combinations of their values.

use std::collections::BTreeMap;

use super::fields::{check_name, expected, twice};
use crate::recipe::node::scalar_text;
use crate::recipe::{Axis, AxisValue, Diagnostic, Node, NodeValue, Selector, Span, Spanned};

/// Reads the recipe's `matrix` and `seeds`. `None` where stages could not be checked against the axes.
pub(super) fn axes(
    matrix: Option<&&Node>,
    seeds: Option<&&Node>,
    vars: &BTreeMap<String, Node>,
    out: &mut Vec<Diagnostic>,
) -> Option<(Vec<Axis>, Vec<Selector>)> {
    let mut axes: Vec<Axis> = Vec::new();
    let mut exclude = Vec::new();
    let mut complete = true;
    if let Some(matrix) = matrix.filter(|matrix| !matrix.is_null()) {
        let Some(entries) = matrix.entries() else {
            out.push(expected(matrix, "`matrix`", "a mapping from axes to their values"));
            return None;
        };
        for (name, node) in entries {
            if name.value == "exclude" {
                exclude = selectors(node, "`exclude` of `matrix`", out)?;
                continue;
            }
            if name.value == "include" {
                out.push(Diagnostic::at(name.span, "an axis cannot be named `include`").help(
                    "combinations to include are written at a stage: `matrix: {axes: [..], include: [..]}`",
                ));
                continue;
            }
            check_name(name, "axis", out);
            match axis_values(node, name, out) {
                Some(values) => axes.push(Axis { name: name.clone(), values }),
                None => complete = false,
            }
        }
    }
    if let Some(seeds) = seeds {
        match seed_axis(seeds, out) {
            Some(seed) => {
                if let Some(other) = axes.iter().find(|axis| axis.name.value == "seed") {
                    let message = "the axis `seed` is written twice, as `seeds` and in `matrix`";
                    out.push(Diagnostic::at(seeds.span, message).note(other.name.span, "in `matrix` here"));
                } else {
                    axes.push(seed);
                }
            }
            None => complete = false,
        }
    }
    for axis in &axes {
        if let Some(var) = vars.get(&axis.name.value) {
            let message = format!("`{}` names both an axis and a variable", axis.name.value);
            out.push(Diagnostic::at(axis.name.span, message).note(var.span, "the variable is here"));
        }
    }
    complete.then_some((axes, exclude))
}

/// A list of combinations.
pub(super) fn selectors(node: &Node, what: &str, out: &mut Vec<Diagnostic>) -> Option<Vec<Selector>> {
    let shape = "a list of combinations such as `{method: mind, task: chain}`";
    let Some(items) = node.items() else {
        out.push(expected(node, what, shape));
        return None;
    };
    let mut selectors = Vec::new();
    for item in items {
        let Some(entries) = item.entries().filter(|entries| !entries.is_empty()) else {
            let shape = "a combination such as `{method: mind, task: chain}`";
            out.push(expected(item, what, shape));
            return None;
        };
        let mut pairs = Vec::new();
        for (axis, value) in entries {
            let Some(scalar) = value.scalar().filter(|scalar| !scalar.is_null()) else {
                let what = format!("`{}` in {what}", axis.value);
                out.push(expected(value, &what, "one value of the axis"));
                return None;
            };
            pairs.push((axis.clone(), Spanned::new(scalar_text(scalar), value.span)));
        }
        selectors.push(Selector { pairs, span: item.span });
    }
    Some(selectors)
}

fn axis_values(node: &Node, axis: &Spanned<String>, out: &mut Vec<Diagnostic>) -> Option<Vec<AxisValue>> {
    let what = format!("axis `{}`", axis.value);
    let named = format!("name the values: `{}: {{first: {{..}}, second: {{..}}}}`", axis.value);
    let mut values = Values::default();
    match &node.value {
        NodeValue::Sequence(items) => {
            for item in items {
                let Some(scalar) = item.scalar().filter(|scalar| !scalar.is_null()) else {
                    out.push(expected(item, &what, "a plain value").help(named));
                    return None;
                };
                values.push(scalar_text(scalar), item.clone(), item.span, &what, out);
            }
        }
        NodeValue::Mapping(entries) => {
            for (name, fields) in entries {
                let fields = match &fields.value {
                    NodeValue::Mapping(_) => fields.clone(),
                    NodeValue::Scalar(serde_json::Value::Null) => Node::empty_mapping(name.span),
                    NodeValue::Scalar(_) | NodeValue::Sequence(_) => {
                        let what = format!("`{}` of {what}", name.value);
                        out.push(expected(fields, &what, "a mapping of fields"));
                        return None;
                    }
                };
                values.push(name.value.clone(), fields, name.span, &what, out);
            }
        }
        NodeValue::Scalar(_) => {
            let shape = "a list of values, or a mapping from their names to their fields";
            out.push(expected(node, &what, shape));
            return None;
        }
    }
    if values.list.is_empty() {
        out.push(Diagnostic::at(node.span, format!("{what} has no values")));
        return None;
    }
    Some(values.list)
}

/// The values of an axis so far.
#[derive(Default)]
struct Values {
    list: Vec<AxisValue>,
    seen: BTreeMap<String, Span>,
}

impl Values {
    fn push(&mut self, name: String, node: Node, span: Span, what: &str, out: &mut Vec<Diagnostic>) {
        let inner = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '+');
        let start = |c: char| c.is_ascii_alphanumeric() || c == '-';
        if !name.starts_with(start) || !name.chars().all(inner) || name.len() > 100 {
            let shown = Node::string(name.clone(), span).describe();
            let mut diagnostic = Diagnostic::at(span, format!("{shown} cannot be a value of {what}"))
                .help("cells are named by it: use letters, digits, `-`, `_`, `.` and `+`");
            if name.contains("${") {
                diagnostic = diagnostic.help("axis values are written out, they cannot hold `${..}`");
            } else if matches!(node.value, NodeValue::Scalar(_)) {
                diagnostic = diagnostic.help("or give it a name, and write the value as a field of it");
            }
            out.push(diagnostic);
        }
        if let Some(first) = self.seen.get(&name) {
            out.push(twice(&Spanned::new(name, span), what, *first));
        } else {
            self.seen.insert(name.clone(), span);
            self.list.push(AxisValue { name, node, span });
        }
    }
}

fn seed_axis(node: &Node, out: &mut Vec<Diagnostic>) -> Option<Axis> {
    let shape = "a list of whole numbers such as `[1, 2, 3]`";
    let Some(items) = node.items().filter(|items| !items.is_empty()) else {
        let found = match node.items() {
            Some(_) => "an empty list".to_owned(),
            None => node.describe(),
        };
        out.push(Diagnostic::at(node.span, format!("`seeds`: expected {shape}, found {found}")));
        return None;
    };
    let mut values = Values::default();
    let mut complete = true;
    for item in items {
        match item.scalar().and_then(serde_json::Value::as_u64) {
            Some(seed) => values.push(seed.to_string(), item.clone(), item.span, "`seeds`", out),
            None => {
                out.push(expected(item, "`seeds`", "whole numbers from 0"));
                complete = false;
            }
        }
    }
    let name = Spanned::new("seed".to_owned(), node.span);
    complete.then_some(Axis { name, values: values.list })
}
