//! Values that are one of several: enums and unions.

use std::collections::BTreeMap;

use serde_json::Value;

use super::{Check, literals, type_name, types};
use crate::recipe::diagnostic::one_of;
use crate::recipe::{Diagnostic, Node, NodeValue};

impl<'a> Check<'a> {
    /// One of some fixed values.
    pub(super) fn literal(&mut self, node: &Node, allowed: &[&Value]) -> Option<Value> {
        if let Some(found) = node.scalar().and_then(|scalar| allowed.iter().find(|value| **value == scalar)) {
            return Some((*found).clone());
        }
        let shown: Vec<String> = allowed
            .iter()
            .filter(|value| !value.is_null())
            .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            .collect();
        let shown: Vec<&str> = shown.iter().map(String::as_str).collect();
        let mistake = self.not_one_of(node, node.as_str(), &shown);
        self.out.push(mistake);
        None
    }

    /// One of some schemas: an enum as serde tags it, a value that can be null, or any other union.
    pub(super) fn union(&mut self, node: &Node, alternatives: &'a [Value]) -> Option<Value> {
        let resolved: Vec<&'a Value> = alternatives.iter().map(|schema| self.resolve(schema)).collect();
        let is_null = |schema: &&Value| types(schema) == ["null"];
        if node.is_null() && resolved.iter().any(is_null) {
            return Some(Value::Null);
        }
        let resolved: Vec<&'a Value> = resolved.into_iter().filter(|schema| !is_null(schema)).collect();
        if let [only] = resolved.as_slice() {
            return self.node(node, only);
        }
        match variants(&resolved) {
            Some(variants) => self.variant(node, &variants),
            None => self.any(node, &resolved),
        }
    }

    fn variant(&mut self, node: &Node, variants: &BTreeMap<&'a str, Option<&'a Value>>) -> Option<Value> {
        let names: Vec<&str> = variants.keys().copied().collect();
        if let Some(name) = node.as_str() {
            match variants.get(name) {
                Some(None) => return Some(name.into()),
                Some(Some(schema)) => return self.fields(name, &Node::empty_mapping(node.span), schema),
                None => {}
            }
        }
        let (name, value) = match node.entries() {
            Some([(name, value)]) => (name, value),
            Some(entries) => {
                let message =
                    format!("{}: expected {}, found {} keys", self.subject(), one_of(&names), entries.len());
                let mut mistake = Diagnostic::at(node.span, message);
                for (key, _) in entries.iter().take(3) {
                    mistake = mistake.note(key.span, format!("`{}` is here", key.value));
                }
                self.out.push(mistake);
                return None;
            }
            None => {
                let mistake = self.not_one_of(node, node.as_str(), &names);
                self.out.push(mistake);
                return None;
            }
        };
        let empty = value.is_null() || value.entries().is_some_and(<[_]>::is_empty);
        match variants.get(name.value.as_str()) {
            Some(None) if empty => Some(name.value.as_str().into()),
            Some(None) => {
                let message = format!("{}: `{}` has no params", self.subject(), name.value);
                let help = format!("write `{}` alone", name.value);
                self.out.push(Diagnostic::at(name.span, message).help(help));
                None
            }
            Some(Some(schema)) if empty => self.fields(&name.value, &Node::empty_mapping(name.span), schema),
            Some(Some(schema)) => self.fields(&name.value, value, schema),
            None => {
                let shown = Node::string(name.value.clone(), name.span);
                let mistake = self.not_one_of(&shown, Some(&name.value), &names);
                self.out.push(mistake);
                None
            }
        }
    }

    /// The value of a variant: `{NAME: ..}`.
    fn fields(&mut self, name: &str, node: &Node, schema: &'a Value) -> Option<Value> {
        let schema = self.resolve(schema);
        let wants_value = !types(schema).is_empty() && !types(schema).contains(&"object");
        if wants_value && node.entries().is_some_and(<[_]>::is_empty) {
            let shape: Vec<&str> = types(schema).into_iter().map(type_name).collect();
            let message = format!("{}: `{name}` needs {}", self.subject(), shape.join(" or "));
            self.out.push(Diagnostic::at(node.span, message).help(format!("write `{name}: ..`")));
            return None;
        }
        let value = self.inside(name, |check| check.node(node, schema))?;
        Some(Value::Object([(name.to_owned(), value)].into_iter().collect()))
    }

    /// The first alternative that fits; else the mistakes of the only one of the right type.
    fn any(&mut self, node: &Node, alternatives: &[&'a Value]) -> Option<Value> {
        let (mistakes, files) = (self.out.len(), self.files.len());
        for schema in alternatives {
            if let Some(value) = self.node(node, schema) {
                return Some(value);
            }
            self.out.truncate(mistakes);
            self.files.truncate(files);
        }
        let wanted = match &node.value {
            NodeValue::Scalar(_) => "scalar",
            NodeValue::Sequence(_) => "array",
            NodeValue::Mapping(_) => "object",
        };
        let fitting: Vec<&&Value> =
            alternatives.iter().filter(|schema| types(schema).contains(&wanted)).collect();
        if let [only] = fitting.as_slice() {
            return self.node(node, only);
        }
        let mut shapes: Vec<&str> =
            alternatives.iter().flat_map(|schema| types(schema)).map(type_name).collect();
        shapes.dedup();
        let mistake = self.expected(node, &shapes.join(" or "));
        self.out.push(mistake);
        None
    }

    pub(super) fn not_one_of(&self, node: &Node, written: Option<&str>, names: &[&str]) -> Diagnostic {
        let mistake = self.expected(node, &one_of(names));
        match written.and_then(|written| crate::recipe::suggest(written, names.iter().copied())) {
            Some(near) => mistake.help(format!("did you mean `{near}`?")),
            None => mistake,
        }
    }
}

/// The variants of an enum as serde tags it, each with the schema of its value if it has one.
fn variants<'a>(alternatives: &[&'a Value]) -> Option<BTreeMap<&'a str, Option<&'a Value>>> {
    let mut variants = BTreeMap::new();
    for schema in alternatives {
        if let Some(names) = literals(schema) {
            for name in names {
                variants.insert(name.as_str()?, None);
            }
            continue;
        }
        let properties = schema.get("properties")?.as_object()?;
        let required = schema.get("required")?.as_array()?;
        let (name, value) = properties.iter().next()?;
        if properties.len() != 1 || required.len() != 1 || schema.get("additionalProperties")? != false {
            return None;
        }
        variants.insert(name.as_str(), Some(value));
    }
    Some(variants)
}
