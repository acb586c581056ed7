//! `kinds` and `schema`: what recipes may say, for people and for editors.

use std::fmt::Write as _;

use contract::{Arity, Kind, Port};
use serde_json::{Map, Value, json};

use super::{CliError, exit, print};
use crate::{kinds::Kinds, recipe::suggest, remote::Access};

pub(super) fn kinds(kinds: &Kinds, name: Option<&str>, as_json: bool) -> Result<u8, CliError> {
    let selected: Vec<&&dyn Kind> =
        kinds.all.iter().filter(|kind| name.is_none_or(|name| kind.name() == name)).collect();
    if let Some(name) = name
        && selected.is_empty()
    {
        let near = suggest(name, kinds.all.iter().map(|kind| kind.name()));
        return Err(CliError::Asked {
            message: format!("no kind is called `{name}`"),
            help: Some(match near {
                Some(near) => format!("did you mean `{near}`?"),
                None => "`retort kinds` lists them".to_owned(),
            }),
        });
    }
    if as_json {
        let all: Vec<Value> = selected.iter().map(|kind| describe(**kind)).collect();
        print(&format!("{:#}\n", Value::from(all)));
        return Ok(exit::DONE);
    }
    let mut text = String::new();
    for kind in selected {
        writeln!(text, "{}: {}", kind.name(), kind.about()).ok();
        for (label, ports) in [("in", kind.inputs()), ("out", kind.outputs())] {
            for port in ports {
                let arity = match port.arity {
                    Arity::One => "",
                    Arity::Optional => ", optional",
                    Arity::Many => ", any number",
                    Arity::Any => ", any number or none",
                };
                let artifact = port.artifact.name();
                writeln!(text, "  {label:4} {}: {artifact}{arity}. {}", port.name, port.about).ok();
            }
        }
        if name.is_some() {
            let schema = kind.schema();
            text.push_str("  with\n");
            params(&schema, &schema, 2, &mut text);
        }
        text.push('\n');
    }
    if name.is_none() {
        text.push_str("`retort kinds NAME` lists the params of one.\n");
    }
    print(&text);
    Ok(exit::DONE)
}

fn describe(kind: &dyn Kind) -> Value {
    let ports = |ports: &[Port]| serde_json::to_value(ports).expect("ports are plain data");
    json!({
        "name": kind.name(), "version": kind.version(), "about": kind.about(), "seeded": kind.seeded(),
        "computes": kind.computes(), "inputs": ports(kind.inputs()), "outputs": ports(kind.outputs()),
        "params": kind.schema(),
    })
}

/// How deep nested params are told.
const DEEPEST: usize = 6;

/// Params with their docs and defaults, those of nested blocks and of variants below them.
fn params(root: &Value, schema: &Value, depth: usize, text: &mut String) {
    let required: Vec<&str> =
        schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let indent = "  ".repeat(depth);
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        let about = property["description"].as_str().unwrap_or_default().replace('\n', " ");
        let default = match &property["default"] {
            Value::Null if required.contains(&name.as_str()) => " (required)".to_owned(),
            // Its documentation says it.
            _ if about.contains("Default: ") || about.contains("Default ") => String::new(),
            // A block's defaults stand at its own params.
            Value::Null | Value::Object(_) => String::new(),
            default => format!(" (default {default})"),
        };
        writeln!(text, "{indent}{name}: {about}{default}").ok();
        nested(root, property, depth + 1, text);
    }
}

/// What stands below a param: the params of a block, or the variants of a choice.
fn nested(root: &Value, schema: &Value, depth: usize, text: &mut String) {
    if depth > DEEPEST {
        return;
    }
    if let Some(pointer) = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix('#')) {
        return nested(root, root.pointer(pointer).unwrap_or(&Value::Null), depth, text);
    }
    let alternatives = schema["anyOf"].as_array().or_else(|| schema["oneOf"].as_array());
    let Some(alternatives) = alternatives else { return params(root, schema, depth, text) };
    for alternative in alternatives {
        match (&alternative["const"], alternative["description"].as_str()) {
            (Value::String(name), Some(about)) => {
                let about = about.replace('\n', " ");
                writeln!(text, "{}{name}: {about}", "  ".repeat(depth)).ok();
            }
            (_, about) => {
                // A variant with params is an object of one property, which its documentation is about.
                let mut variant = alternative.clone();
                if let (Some(about), Some(Value::Object(properties))) = (about, variant.get_mut("properties"))
                {
                    for property in properties.values_mut() {
                        property["description"] = about.into();
                    }
                    variant["required"] = json!([]);
                }
                nested_variant(root, &variant, depth, text);
            }
        }
    }
}

fn nested_variant(root: &Value, variant: &Value, depth: usize, text: &mut String) {
    if variant["properties"].is_object() {
        params(root, variant, depth, text);
    } else if variant["$ref"].is_string() {
        nested(root, variant, depth, text);
    }
}

/// The JSON Schema of a recipe: `with` depends on `uses`.
pub(super) fn recipe(kinds: &Kinds) -> Value {
    let mut definitions = Map::new();
    let mut with_of_kind = Vec::new();
    for kind in kinds.all {
        let mut schema = kind.schema();
        // Definitions move to the top, under names of their own.
        let inner = schema.as_object_mut().and_then(|schema| schema.remove("$defs"));
        let mut text = schema.to_string();
        for (name, definition) in inner.as_ref().and_then(Value::as_object).into_iter().flatten() {
            let own = format!("{}.{name}", kind.name());
            definitions.insert(own, requalify(definition, kind.name()));
        }
        text = text.replace("#/$defs/", &format!("#/$defs/{}.", kind.name()));
        let schema: Value = serde_json::from_str(&text).expect("a schema stays JSON");
        let ports: Map<String, Value> = kind
            .inputs()
            .iter()
            .map(|port| (port.name.to_owned(), json!({"$ref": "#/$defs/from"})))
            .collect();
        with_of_kind.push(json!({
            "if": {"properties": {"uses": {"const": kind.name()}}},
            "then": {"properties": {
                "with": loosened(schema),
                "needs": {"type": "object", "additionalProperties": false, "properties": ports},
            }},
        }));
    }
    let names: Vec<&str> = kinds.all.iter().map(|kind| kind.name()).collect();
    definitions.insert(
        "from".into(),
        json!({
            "description": "A stage, or `stage.port`, or a list of them",
            "anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}],
        }),
    );
    definitions.insert(
        "selector".into(),
        json!({
            "type": "object", "additionalProperties": {"type": ["string", "number", "boolean"]},
        }),
    );
    let selectors = json!({"type": "array", "items": {"$ref": "#/$defs/selector"}});
    definitions.insert("stage".into(), json!({
        "type": "object", "required": ["uses"], "additionalProperties": false,
        "properties": {
            "uses": {"enum": names, "description": "The kind of work"},
            "with": {"type": "object", "description": "Its params"},
            "needs": {"type": "object", "description": "Where each input port gets its artifacts"},
            "matrix": {
                "description": "The axes it has a cell for each combination of",
                "anyOf": [
                    {"type": "array", "items": {"type": "string"}},
                    {"type": "object", "additionalProperties": false, "properties": {
                        "axes": {"type": "array", "items": {"type": "string"}},
                        "include": selectors, "exclude": selectors,
                    }},
                ],
            },
            "resources": {"type": "object", "description": "What a cell occupies: cpu, memory, devices, pools; and its priority"},
            "retries": {"type": "integer", "minimum": 0},
            "executor": {"$ref": "#/$defs/executor"},
        },
        "allOf": with_of_kind,
    }));
    definitions.insert("executor".into(), executor());
    let names_only = json!({"pattern": "^[a-z0-9][a-z0-9_-]*$"});
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "retort recipe",
        "type": "object",
        "required": ["recipe", "stages"],
        "additionalProperties": false,
        "properties": {
            "recipe": {"type": "string", "description": "Its name"},
            "about": {"type": "string"},
            "include": {"$ref": "#/$defs/from", "description": "Recipes this one is merged over"},
            "backend": {"enum": kinds.backends},
            "dtype": {"enum": kinds.dtypes},
            "vars": {"type": "object", "description": "Values that `${name}` stands for"},
            "seeds": {"type": "array", "items": {"type": "integer", "minimum": 0}},
            "matrix": {"type": "object", "description": "Axes: a list of values, or names with fields"},
            "stages": {"type": "object", "propertyNames": names_only, "additionalProperties": {"$ref": "#/$defs/stage"}},
            "tables": {"type": "object", "propertyNames": names_only},
            "claims": {"type": ["array", "object"]},
            "resources": {"type": "object", "description": "Capacities of named pools"},
            "executor": {"$ref": "#/$defs/executor"},
            "remote": remote(),
        },
        "$defs": definitions,
    })
}

fn executor() -> Value {
    let (text, number) = (json!({"type": "string"}), json!({"type": "integer", "minimum": 1}));
    let lines = json!({"anyOf": [text, {"type": "array", "items": text}]});
    let slurm = json!({
        "partition": text, "account": text, "qos": text, "gres": text, "constraint": text,
        "time": {"type": ["string", "integer"]}, "mem": {"type": ["string", "integer"]},
        "cpus": number, "at_once": number, "warn": number, "poll": number,
        "resubmit": {"type": "integer", "minimum": 0}, "prologue": lines, "options": lines,
    });
    let slurm = json!({"type": ["object", "null"], "additionalProperties": false, "properties": slurm});
    json!({
        "description": "Where cells are computed",
        "anyOf": [
            {"enum": ["local", "slurm"]},
            {"type": "object", "required": ["slurm"], "additionalProperties": false, "properties": {"slurm": slurm}},
        ],
    })
}

fn remote() -> Value {
    let url = json!({"type": "string", "description": "s3://bucket/prefix, gs://.., az://.., or a folder; no credentials"});
    json!({
        "description": "Where results are shared with other stores",
        "anyOf": [
            url,
            {"type": "object", "required": ["url"], "additionalProperties": false,
             "properties": {"url": url, "access": {"enum": Access::NAMES}}},
        ],
    })
}

fn requalify(definition: &Value, kind: &str) -> Value {
    let text = definition.to_string().replace("#/$defs/", &format!("#/$defs/{kind}."));
    serde_json::from_str(&text).expect("a schema stays JSON")
}

/// `${..}` may stand for any value of `with`, so at its first level a string of that form is allowed too.
fn loosened(mut schema: Value) -> Value {
    if let Some(object) = schema.as_object_mut() {
        object.remove("$schema");
        object.remove("title");
        if let Some(Value::Object(properties)) = object.get_mut("properties") {
            for property in properties.values_mut() {
                let inner = property.take();
                *property = json!({"anyOf": [inner, {"type": "string", "pattern": "\\$\\{"}]});
            }
        }
    }
    schema
}
