//! A YAML document as a tree that remembers where everything was written.

use serde_json::Value;

use super::{Span, Spanned};

/// A value of a recipe with its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where it is. A block mapping or sequence is shown at the key it belongs to.
    pub span: Span,
    /// The value itself.
    pub value: NodeValue,
}

/// What a [`Node`] holds.
#[derive(Clone, Debug, PartialEq)]
pub enum NodeValue {
    /// Null, a boolean, a number or a string.
    Scalar(Value),
    /// A list.
    Sequence(Vec<Node>),
    /// Keys with their values, in the order written, every key once.
    Mapping(Vec<(Spanned<String>, Node)>),
}

impl Node {
    /// A node with its place.
    pub fn new(value: NodeValue, span: Span) -> Self {
        Self { span, value }
    }

    /// A string with its place.
    pub fn string(text: impl Into<String>, span: Span) -> Self {
        Self::new(NodeValue::Scalar(Value::String(text.into())), span)
    }

    /// A mapping with nothing in it.
    pub fn empty_mapping(span: Span) -> Self {
        Self::new(NodeValue::Mapping(Vec::new()), span)
    }

    /// The value of a key, where this is a mapping that has it.
    pub fn get(&self, key: &str) -> Option<&Node> {
        self.entries()?.iter().find(|(name, _)| name.value == key).map(|(_, node)| node)
    }

    /// The entries, where this is a mapping.
    pub fn entries(&self) -> Option<&[(Spanned<String>, Node)]> {
        match &self.value {
            NodeValue::Mapping(entries) => Some(entries),
            NodeValue::Scalar(_) | NodeValue::Sequence(_) => None,
        }
    }

    /// The items, where this is a list.
    pub fn items(&self) -> Option<&[Node]> {
        match &self.value {
            NodeValue::Sequence(items) => Some(items),
            NodeValue::Scalar(_) | NodeValue::Mapping(_) => None,
        }
    }

    /// The scalar, where this is one.
    pub fn scalar(&self) -> Option<&Value> {
        match &self.value {
            NodeValue::Scalar(value) => Some(value),
            NodeValue::Sequence(_) | NodeValue::Mapping(_) => None,
        }
    }

    /// The text, where this is a string.
    pub fn as_str(&self) -> Option<&str> {
        self.scalar()?.as_str()
    }

    /// Whether this is null: written as such, or a key with nothing after it.
    pub fn is_null(&self) -> bool {
        self.scalar().is_some_and(Value::is_null)
    }

    /// The value without places.
    pub fn to_json(&self) -> Value {
        match &self.value {
            NodeValue::Scalar(value) => value.clone(),
            NodeValue::Sequence(items) => Value::Array(items.iter().map(Self::to_json).collect()),
            NodeValue::Mapping(entries) => {
                Value::Object(entries.iter().map(|(key, node)| (key.value.clone(), node.to_json())).collect())
            }
        }
    }

    /// What this is, for messages: a short scalar in backticks, else `a list` or `a mapping`.
    pub fn describe(&self) -> String {
        match &self.value {
            NodeValue::Scalar(Value::Null) => "nothing".to_owned(),
            NodeValue::Scalar(value) => format!("`{}`", shorten(&scalar_text(value))),
            NodeValue::Sequence(_) => "a list".to_owned(),
            NodeValue::Mapping(_) => "a mapping".to_owned(),
        }
    }

    /// How much this tree counts against [`WEIGHT`](super::parse::WEIGHT): its values, long texts more.
    pub(super) fn weight(&self) -> usize {
        match &self.value {
            NodeValue::Scalar(Value::String(text)) => 1 + text.len() / 128,
            NodeValue::Scalar(_) => 1,
            NodeValue::Sequence(items) => 1 + items.iter().map(Self::weight).sum::<usize>(),
            NodeValue::Mapping(entries) => {
                let entry = |(key, node): &(Spanned<String>, Self)| 1 + key.value.len() / 128 + node.weight();
                1 + entries.iter().map(entry).sum::<usize>()
            }
        }
    }

    /// How many collections are nested in this tree, itself included.
    pub(super) fn depth(&self) -> usize {
        match &self.value {
            NodeValue::Scalar(_) => 0,
            NodeValue::Sequence(items) => 1 + items.iter().map(Self::depth).max().unwrap_or(0),
            NodeValue::Mapping(entries) => {
                1 + entries.iter().map(|(_, node)| node.depth()).max().unwrap_or(0)
            }
        }
    }
}

/// A scalar as text: strings as they are, everything else as in JSON.
pub(super) fn scalar_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
            value.to_string()
        }
    }
}

/// At most 60 characters of a text, for messages.
pub(super) fn shorten(text: &str) -> String {
    match text.char_indices().nth(60) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}
