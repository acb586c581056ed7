//! Params against the JSON Schema of their kind.
//!
//! Serde stops at the first mistake and knows no places. [`check`] walks the tree beside the schema instead
//! and reports every mistake where it is. It covers what schemars derives from params structs: objects,
//! lists, tuples, maps, optional values, numbers with bounds, texts with a pattern, and externally tagged enums.
//! What a schema cannot say is left to the kind.
//!
//! Short forms become what serde expects: an enum variant with fields can be written as its name alone,
//! when all of them have defaults, and a whole number can be written `1e3`.

mod variants;

use std::path::PathBuf;

use regex::Regex;
use serde_json::{Map, Value};

use super::{Diagnostic, Node, NodeValue, SourceMap, Span, suggest};

/// Params that fit their schema.
#[derive(Clone, Debug, PartialEq)]
pub struct Checked {
    /// The params in the form serde expects, paths as written.
    pub value: Value,
    /// The files and folders they name.
    pub files: Vec<FileRef>,
}

/// A file or folder named in params.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileRef {
    /// JSON pointer of the field in [`Checked::value`].
    pub pointer: String,
    /// The path, starting from the folder of the file it is written in.
    pub path: PathBuf,
    /// Where it is written.
    pub span: Span,
}

/// Checks params; `what` names them in messages: `` `with` of stage `student` ``.
///
/// All mistakes go to `out`; `None` if there were any.
pub fn check(
    node: &Node,
    schema: &Value,
    sources: &SourceMap,
    what: &str,
    out: &mut Vec<Diagnostic>,
) -> Option<Checked> {
    let mut check = Check { root: schema, sources, what, path: Vec::new(), files: Vec::new(), out };
    let value = check.node(node, schema)?;
    Some(Checked { value, files: check.files })
}

/// The place of the value at a JSON pointer, or of the innermost value around it that was written.
pub fn locate(node: &Node, pointer: &str) -> Span {
    let mut node = node;
    for part in pointer.split('/').skip(1) {
        let part = part.replace("~1", "/").replace("~0", "~");
        let next = match &node.value {
            NodeValue::Scalar(_) => None,
            NodeValue::Sequence(items) => part.parse::<usize>().ok().and_then(|index| items.get(index)),
            NodeValue::Mapping(_) => node.get(&part),
        };
        match next {
            Some(next) => node = next,
            None => break,
        }
    }
    node.span
}

struct Check<'a> {
    root: &'a Value,
    sources: &'a SourceMap,
    what: &'a str,
    /// The keys and indices that lead to the present value.
    path: Vec<String>,
    files: Vec<FileRef>,
    out: &'a mut Vec<Diagnostic>,
}

impl<'a> Check<'a> {
    fn node(&mut self, node: &Node, schema: &'a Value) -> Option<Value> {
        let schema = self.resolve(schema);
        for union in ["oneOf", "anyOf"] {
            if let Some(alternatives) = schema.get(union).and_then(Value::as_array) {
                return self.union(node, alternatives);
            }
        }
        if let Some(allowed) = literals(schema) {
            return self.literal(node, &allowed);
        }
        let types = types(schema);
        if types.is_empty() {
            return Some(node.to_json());
        }
        match &node.value {
            NodeValue::Scalar(Value::Null) if types.contains(&"null") => Some(Value::Null),
            NodeValue::Scalar(Value::Bool(value)) if types.contains(&"boolean") => Some((*value).into()),
            NodeValue::Scalar(Value::Number(number))
                if types.iter().any(|name| matches!(*name, "number" | "integer")) =>
            {
                self.number(node, number, schema, types.contains(&"number"))
            }
            NodeValue::Scalar(Value::String(text)) if types.contains(&"string") => {
                self.text(node, text, schema)
            }
            NodeValue::Sequence(items) if types.contains(&"array") => self.array(node, items, schema),
            NodeValue::Mapping(_) if types.contains(&"object") => self.object(node, schema),
            NodeValue::Scalar(_) | NodeValue::Sequence(_) | NodeValue::Mapping(_) => {
                let expected: Vec<&str> =
                    types.iter().filter(|name| **name != "null").map(|name| type_name(name)).collect();
                let mut mistake = self.expected(node, &expected.join(" or "));
                if types.contains(&"string") && node.scalar().is_some_and(|scalar| !scalar.is_null()) {
                    mistake = mistake.help("quote it to make it a text");
                }
                self.out.push(mistake);
                None
            }
        }
    }

    fn object(&mut self, node: &Node, schema: &'a Value) -> Option<Value> {
        let entries = node.entries().unwrap_or(&[]);
        let properties = schema.get("properties").and_then(Value::as_object);
        let known = |name: &str| properties.and_then(|properties| properties.get(name));
        let names = || properties.into_iter().flat_map(Map::keys).map(String::as_str);
        let additional = schema.get("additionalProperties").unwrap_or(&Value::Bool(true));
        let mut object = Map::new();
        let mut complete = true;
        // Required keys that a misspelled key was surely meant to be.
        let mut excused = Vec::new();
        for (key, value) in entries {
            let schema = match known(&key.value) {
                Some(schema) => schema,
                None if *additional == Value::Bool(false) => {
                    let message = format!("unknown key `{}`{}", key.value, self.place(" at "));
                    let near = suggest(&key.value, names());
                    let names: Vec<&str> = names().collect();
                    self.out.push(Diagnostic::at(key.span, message).nearest(near, &names));
                    excused.extend(near);
                    complete = false;
                    continue;
                }
                None => additional,
            };
            match self.inside(&key.value, |check| check.node(value, schema)) {
                Some(value) => drop(object.insert(key.value.clone(), value)),
                None => complete = false,
            }
        }
        let required = schema.get("required").and_then(Value::as_array);
        for name in required.into_iter().flatten().filter_map(Value::as_str) {
            if node.get(name).is_some() {
                continue;
            }
            complete = false;
            if excused.contains(&name) {
                continue;
            }
            let message = format!("missing key `{name}`{}", self.place(" at "));
            let mut mistake = Diagnostic::at(node.span, message);
            if let Some(about) = known(name).and_then(|schema| about(schema)) {
                mistake = mistake.help(format!("`{name}`: {about}"));
            }
            self.out.push(mistake);
        }
        complete.then_some(Value::Object(object))
    }

    fn array(&mut self, node: &Node, items: &[Node], schema: &'a Value) -> Option<Value> {
        const ANY: &Value = &Value::Bool(true);
        let bound = |key: &str| schema.get(key).and_then(Value::as_u64);
        let count = items.len() as u64;
        let (least, most) = (bound("minItems").unwrap_or(0), bound("maxItems").unwrap_or(u64::MAX));
        if !(least..=most).contains(&count) {
            let wanted = match (least, most) {
                (least, u64::MAX) => format!("at least {least} items"),
                (least, most) if least == most => format!("{least} items"),
                (least, most) => format!("{least} to {most} items"),
            };
            self.out.push(Diagnostic::at(
                node.span,
                format!("{}: expected {wanted}, found {count}", self.subject()),
            ));
            return None;
        }
        let tuple: &[Value] = schema.get("prefixItems").and_then(Value::as_array).map_or(&[], Vec::as_slice);
        let rest = schema.get("items").unwrap_or(ANY);
        let values: Vec<Option<Value>> = items
            .iter()
            .enumerate()
            .map(|(index, item)| {
                let schema = tuple.get(index).unwrap_or(rest);
                self.inside(&index.to_string(), |check| check.node(item, schema))
            })
            .collect();
        values.into_iter().collect::<Option<Vec<Value>>>().map(Value::Array)
    }

    fn number(
        &mut self,
        node: &Node,
        number: &serde_json::Number,
        schema: &Value,
        fractions: bool,
    ) -> Option<Value> {
        let value = number.as_f64()?;
        let whole = !number.is_f64();
        if !fractions && !whole && (value.fract() != 0.0 || value.abs() > 9e15) {
            let mistake = self.expected(node, "a whole number");
            self.out.push(mistake);
            return None;
        }
        let bound = |key: &str| schema.get(key).and_then(Value::as_f64);
        let most = match schema.get("format").and_then(Value::as_str) {
            Some("uint32") => Some(f64::from(u32::MAX)),
            Some("int32") => Some(f64::from(i32::MAX)),
            _ => None,
        };
        let broken = [
            bound("minimum").filter(|least| value < *least).map(|least| format!("at least {least}")),
            bound("maximum").or(most).filter(|most| value > *most).map(|most| format!("at most {most}")),
            bound("exclusiveMinimum")
                .filter(|least| value <= *least)
                .map(|least| format!("more than {least}")),
            bound("exclusiveMaximum").filter(|most| value >= *most).map(|most| format!("less than {most}")),
        ];
        if let Some(wanted) = broken.into_iter().flatten().next() {
            let mistake = self.expected(node, &wanted);
            self.out.push(mistake);
            return None;
        }
        if fractions || whole { Some(number.clone().into()) } else { Some((value as i64).into()) }
    }

    fn text(&mut self, node: &Node, text: &str, schema: &Value) -> Option<Value> {
        if let Some(pattern) = schema.get("pattern").and_then(Value::as_str) {
            let regex = Regex::new(pattern).expect("the pattern of a params type is a constant");
            if !regex.is_match(text) {
                let examples: Vec<&str> = strings(schema, "examples").collect();
                let mistake = if examples.is_empty() {
                    self.expected(node, &format!("a text that matches `{pattern}`"))
                } else {
                    self.not_one_of(node, Some(text), &examples)
                };
                self.out.push(mistake);
                return None;
            }
        }
        if schema.get("format").and_then(Value::as_str) == Some("path") {
            if text.is_empty() {
                let mistake = Diagnostic::at(node.span, format!("{}: the path is empty", self.subject()));
                self.out.push(mistake);
                return None;
            }
            let escaped = self.path.iter().map(|part| part.replace('~', "~0").replace('/', "~1"));
            let pointer = escaped.map(|part| format!("/{part}")).collect();
            let path = self.sources.dir(node.span.source).join(text);
            self.files.push(FileRef { pointer, path, span: node.span });
        }
        Some(text.into())
    }

    /// Follows `$ref` to a definition.
    fn resolve(&self, schema: &'a Value) -> &'a Value {
        let mut schema = schema;
        while let Some(reference) = schema.get("$ref").and_then(Value::as_str) {
            let target = reference.strip_prefix('#').and_then(|pointer| self.root.pointer(pointer));
            schema = target.expect("a derived schema refers only to its own definitions");
        }
        schema
    }

    fn inside<T>(&mut self, key: &str, work: impl FnOnce(&mut Self) -> T) -> T {
        self.path.push(key.to_owned());
        let result = work(self);
        self.path.pop();
        result
    }

    /// The present value in a message: `` `objective.mind` in WHAT ``, or just WHAT.
    fn subject(&self) -> String {
        if self.path.is_empty() {
            self.what.to_owned()
        } else {
            format!("`{}` in {}", self.path.join("."), self.what)
        }
    }

    /// Where a key is in a message.
    fn place(&self, at: &str) -> String {
        if self.path.is_empty() { format!(" in {}", self.what) } else { format!("{at}{}", self.subject()) }
    }

    fn expected(&self, node: &Node, shape: &str) -> Diagnostic {
        let message = format!("{}: expected {shape}, found {}", self.subject(), node.describe());
        Diagnostic::at(node.span, message)
    }
}

/// The types a schema allows; none means any.
fn types(schema: &Value) -> Vec<&str> {
    match schema.get("type") {
        Some(Value::String(name)) => vec![name],
        Some(Value::Array(names)) => names.iter().filter_map(Value::as_str).collect(),
        Some(_) | None => Vec::new(),
    }
}

/// The texts in a list of a schema.
fn strings<'a>(schema: &'a Value, key: &str) -> impl Iterator<Item = &'a str> {
    schema.get(key).and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str)
}

/// The fixed values a schema allows, where it allows no others.
fn literals(schema: &Value) -> Option<Vec<&Value>> {
    if let Some(only) = schema.get("const") {
        return Some(vec![only]);
    }
    Some(schema.get("enum")?.as_array()?.iter().collect())
}

/// The first line of a field's documentation.
fn about(schema: &Value) -> Option<&str> {
    schema.get("description")?.as_str()?.lines().next()
}

fn type_name(name: &str) -> &str {
    match name {
        "string" => "a text",
        "integer" => "a whole number",
        "number" => "a number",
        "boolean" => "`true` or `false`",
        "array" => "a list",
        "object" => "a mapping",
        other => other,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
