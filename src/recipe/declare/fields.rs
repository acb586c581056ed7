//! Keys of a mapping and the simple values behind them.

use std::collections::BTreeMap;

use crate::recipe::{Diagnostic, Node, NodeValue, Span, Spanned, diagnostic::one_of, suggest};

/// The known keys of a mapping. An unknown key is reported, and read as a known one that it resembles and
/// that is absent. `None` if this is no mapping.
pub(super) fn fields<'a>(
    node: &'a Node,
    what: &str,
    known: &[&'static str],
    out: &mut Vec<Diagnostic>,
) -> Option<BTreeMap<&'static str, &'a Node>> {
    let entries = match &node.value {
        NodeValue::Mapping(entries) => entries.as_slice(),
        NodeValue::Scalar(_) if node.is_null() => &[],
        NodeValue::Scalar(_) | NodeValue::Sequence(_) => {
            out.push(expected(node, what, &format!("a mapping with {}", one_of(known))));
            return None;
        }
    };
    let mut fields = BTreeMap::new();
    let mut unknown = Vec::new();
    for (key, value) in entries {
        match known.iter().find(|name| **name == key.value) {
            Some(name) => drop(fields.insert(*name, value)),
            None => unknown.push((key, value)),
        }
    }
    for (key, value) in unknown {
        let mistake = Diagnostic::at(key.span, format!("unknown key `{}` in {what}", key.value));
        let near = suggest(&key.value, known.iter().copied());
        if let Some(name) = known.iter().find(|name| Some(**name) == near) {
            fields.entry(*name).or_insert(value);
        }
        out.push(mistake.nearest(near, known));
    }
    Some(fields)
}

/// The value of a key that must be there.
pub(super) fn required<'a>(
    fields: &BTreeMap<&'static str, &'a Node>,
    key: &str,
    what: &str,
    span: Span,
    out: &mut Vec<Diagnostic>,
) -> Option<&'a Node> {
    let found = fields.get(key).copied();
    if found.is_none() {
        out.push(Diagnostic::at(span, format!("{what} has no `{key}`")));
    }
    found
}

/// A string.
pub(super) fn text(
    node: &Node,
    what: &str,
    shape: &str,
    out: &mut Vec<Diagnostic>,
) -> Option<Spanned<String>> {
    match node.as_str() {
        Some(text) => Some(Spanned::new(text.to_owned(), node.span)),
        None => {
            out.push(expected(node, what, shape));
            None
        }
    }
}

/// A whole number within bounds.
pub(super) fn whole_number(
    node: &Node,
    what: &str,
    least: u64,
    most: u64,
    out: &mut Vec<Diagnostic>,
) -> Option<u64> {
    let number = node.scalar().and_then(serde_json::Value::as_u64);
    let within = number.filter(|number| (least..=most).contains(number));
    if within.is_none() {
        let range = if most >= u64::from(u32::MAX) {
            format!("from {least}")
        } else {
            format!("from {least} to {most}")
        };
        out.push(expected(node, what, &format!("a whole number {range}")));
    }
    within
}

/// A name, or a list of different names.
pub(super) fn name_list(
    node: &Node,
    what: &str,
    item: &str,
    out: &mut Vec<Diagnostic>,
) -> Option<Vec<Spanned<String>>> {
    let items = node.items().unwrap_or(std::slice::from_ref(node));
    if items.is_empty() {
        out.push(expected(node, what, &format!("{item} or a list of them")));
        return None;
    }
    let mut names: Vec<Spanned<String>> = Vec::new();
    let mut seen = BTreeMap::new();
    for node in items {
        let name = text(node, what, &format!("{item} or a list of them"), out)?;
        match seen.get(&name.value) {
            Some(first) => out.push(twice(&name, what, *first)),
            None => {
                seen.insert(name.value.clone(), name.span);
                names.push(name);
            }
        }
    }
    Some(names)
}

/// Reports a name that is not lowercase letters, digits, `-` and `_`.
pub(super) fn check_name(name: &Spanned<String>, what: &str, out: &mut Vec<Diagnostic>) {
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
    let inner = |c: char| plain(c) || matches!(c, '-' | '_');
    if !name.value.starts_with(plain) || !name.value.chars().all(inner) {
        out.push(
            Diagnostic::at(name.span, format!("{what} name `{}` is not well formed", name.value))
                .help("use lowercase letters, digits, `-` and `_`, and start with a letter or digit"),
        );
    }
}

/// `WHAT: expected SHAPE, found ..`.
pub(super) fn expected(node: &Node, what: &str, shape: &str) -> Diagnostic {
    Diagnostic::at(node.span, format!("{what}: expected {shape}, found {}", node.describe()))
}

/// A name in a place that already has it.
pub(super) fn twice(name: &Spanned<String>, what: &str, first: Span) -> Diagnostic {
    Diagnostic::at(name.span, format!("`{}` is twice in {what}", name.value))
        .note(first, "first written here")
}
