//! Tests with schemas as schemars derives them.

use std::collections::BTreeMap;

use schemars::{JsonSchema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::*;
use crate::recipe::{SourceId, parse::parse};

/// Every shape that params have.
#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Params {
    /// The task.
    /// A second line.
    task: Task,
    #[serde(default)]
    path: Option<PathFormat>,
    #[serde(default = "three")]
    epochs: u32,
    #[serde(default)]
    lr: f64,
    #[serde(default)]
    count: Option<usize>,
    #[serde(default)]
    objective: Option<Objective>,
    #[serde(default)]
    weights: BTreeMap<String, f64>,
    #[serde(default)]
    names: Vec<String>,
    #[serde(default)]
    range: Option<(u8, u8)>,
    #[serde(default)]
    keep: Option<Keep>,
    #[serde(default)]
    flag: bool,
    #[serde(default)]
    loose: serde_json::Value,
}

fn three() -> u32 {
    3
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
enum Task {
    Chain,
    BigLedger,
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
enum Objective {
    /// Plain.
    StdCot,
    /// Counterfactual.
    Mind {
        #[serde(default)]
        beta: f64,
        #[serde(default)]
        inner: Option<Box<Objective>>,
    },
    /// Needs fields.
    Fixed(Keep),
    /// A newtype.
    Named(String),
}

#[derive(Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct Keep {
    /// How many.
    min_correct: usize,
    #[serde(default)]
    file: Option<PathFormat>,
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
struct PathFormat(String);

impl JsonSchema for PathFormat {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> std::borrow::Cow<'static, str> {
        "PathFormat".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "path" })
    }
}

fn run(with: &str) -> (Node, Result<Checked, Vec<Diagnostic>>) {
    let schema = SchemaGenerator::default().into_root_schema_for::<Params>().to_value();
    let mut sources = SourceMap::default();
    let source = sources.add_file(std::path::Path::new("recipes/x.yaml"), with.to_owned());
    let mut out = Vec::new();
    let node = parse(with, source, 0, &mut out).unwrap();
    let checked = check(&node, &schema, &sources, "`with` of stage `s`", &mut out);
    assert_eq!(checked.is_none(), !out.is_empty(), "{out:?}");
    (node, checked.ok_or(out))
}

fn good(with: &str) -> Value {
    let value = run(with).1.unwrap().value;
    assert!(Params::deserialize(&value).is_ok(), "serde refuses {value}");
    value
}

fn mistakes(with: &str) -> Vec<String> {
    let show = |item: &Diagnostic| {
        let span = item.span.unwrap();
        let help: String = item.help.iter().map(|help| format!(" | {help}")).collect();
        format!("{}:{} {}{help}", span.line, span.column, item.message)
    };
    run(with).1.unwrap_err().iter().map(show).collect()
}

#[test]
fn what_fits_passes() {
    let text = "{task: big-ledger, path: a/b, epochs: 1e3, lr: 1, count: null, weights: {a: 1, b: 0.5}, names: [x], range: [1, 255], keep: {min_correct: 4}, flag: true, loose: {any: [1]}}";
    assert_eq!(
        good(text),
        json!({
            "task": "big-ledger", "path": "a/b", "epochs": 1000, "lr": 1, "count": null, "weights": {"a": 1, "b": 0.5},
            "names": ["x"], "range": [1, 255], "keep": {"min_correct": 4}, "flag": true, "loose": {"any": [1]}
        })
    );
}

#[test]
fn variants_have_short_forms() {
    let objective =
        |written: &str| good(&format!("{{task: chain, objective: {written}}}"))["objective"].clone();
    assert_eq!(objective("std-cot"), json!("std-cot"));
    assert_eq!(objective("{std-cot: {}}"), json!("std-cot"));
    assert_eq!(objective("mind"), json!({"mind": {}}));
    assert_eq!(objective("{mind: }"), json!({"mind": {}}));
    assert_eq!(
        objective("{mind: {beta: 1, inner: mind}}"),
        json!({"mind": {"beta": 1, "inner": {"mind": {}}}})
    );
    assert_eq!(objective("{named: x}"), json!({"named": "x"}));
    assert_eq!(objective("null"), json!(null));
}

#[test]
fn every_mistake_has_its_place_and_a_remedy() {
    let text = "\
taks: chain
epochs: abc
lr: [1]
count: -1
names: [1, x]
range: [1, 2, 3]
keep: {min_corect: 1, extra: 2}
flag: yes
weights: {a: x}
objective: {mind: {betta: 1, inner: {minde: {}}}}
epoch: 1
";
    assert_eq!(
        mistakes(text),
        [
            "1:1 unknown key `taks` in `with` of stage `s` | did you mean `task`?",
            "2:9 `epochs` in `with` of stage `s`: expected a whole number, found `abc`",
            "3:5 `lr` in `with` of stage `s`: expected a number, found a list",
            "4:8 `count` in `with` of stage `s`: expected at least 0, found `-1`",
            "5:9 `names.0` in `with` of stage `s`: expected a text, found `1` | quote it to make it a text",
            "6:8 `range` in `with` of stage `s`: expected 2 items, found 3",
            "7:8 unknown key `min_corect` at `keep` in `with` of stage `s` | did you mean `min_correct`?",
            "7:23 unknown key `extra` at `keep` in `with` of stage `s` | expected `file` or `min_correct`",
            "8:7 `flag` in `with` of stage `s`: expected `true` or `false`, found `yes`",
            "9:14 `weights.a` in `with` of stage `s`: expected a number, found `x`",
            "10:20 unknown key `betta` at `objective.mind` in `with` of stage `s` | did you mean `beta`?",
            "10:38 `objective.mind.inner` in `with` of stage `s`: expected one of `fixed`, `mind`, `named`, `std-cot`, found `minde` | did you mean `mind`?",
            "11:1 unknown key `epoch` in `with` of stage `s` | did you mean `epochs`?",
        ]
    );
}

#[test]
fn what_is_missing_is_said_with_its_documentation() {
    assert_eq!(mistakes("{}"), ["1:1 missing key `task` in `with` of stage `s` | `task`: The task."]);
    assert_eq!(
        mistakes("{task: chain, keep: {}}"),
        ["1:21 missing key `min_correct` at `keep` in `with` of stage `s` | `min_correct`: How many."]
    );
    assert_eq!(
        mistakes("{task: chain, objective: fixed}"),
        [
            "1:26 missing key `min_correct` at `objective.fixed` in `with` of stage `s` | `min_correct`: How many."
        ]
    );
    assert_eq!(
        mistakes("{task: chain, objective: named}"),
        ["1:26 `objective` in `with` of stage `s`: `named` needs a text | write `named: ..`"]
    );
}

#[test]
fn wrong_variants_are_explained() {
    for (written, expected) in [
        (
            "{task: chian}",
            "1:8 `task` in `with` of stage `s`: expected `chain` or `big-ledger`, found `chian` | did you mean `chain`?",
        ),
        ("{task: 5}", "1:8 `task` in `with` of stage `s`: expected `chain` or `big-ledger`, found `5`"),
        (
            "{task: chain, objective: [1]}",
            "1:26 `objective` in `with` of stage `s`: expected one of `fixed`, `mind`, `named`, `std-cot`, found a list",
        ),
        (
            "{task: chain, objective: {mind: {}, std-cot: {}}}",
            "1:26 `objective` in `with` of stage `s`: expected one of `fixed`, `mind`, `named`, `std-cot`, found 2 keys",
        ),
        (
            "{task: chain, objective: {std-cot: {beta: 1}}}",
            "1:27 `objective` in `with` of stage `s`: `std-cot` has no params | write `std-cot` alone",
        ),
        (
            "{task: chain, epochs: 5e9}",
            "1:23 `epochs` in `with` of stage `s`: expected at most 4294967295, found `5000000000.0`",
        ),
        (
            "{task: chain, epochs: 1.5}",
            "1:23 `epochs` in `with` of stage `s`: expected a whole number, found `1.5`",
        ),
        (
            "{task: chain, range: [1, 256]}",
            "1:26 `range.1` in `with` of stage `s`: expected at most 255, found `256`",
        ),
        ("{task: chain, path: ''}", "1:21 `path` in `with` of stage `s`: the path is empty"),
        ("[1]", "1:1 `with` of stage `s`: expected a mapping, found a list"),
    ] {
        assert_eq!(mistakes(written), [expected], "{written}");
    }
}

#[test]
fn files_are_found_with_their_pointers() {
    let checked = run("{task: chain, path: data/x, keep: {min_correct: 1, file: /abs}}").1.unwrap();
    let mut files: Vec<(&str, &str)> =
        checked.files.iter().map(|file| (&*file.pointer, file.path.to_str().unwrap())).collect();
    files.sort_unstable();
    assert_eq!(files, [("/keep/file", "/abs"), ("/path", "recipes/data/x")]);
    assert_eq!(checked.value["path"], "data/x");
}

#[test]
fn pointers_lead_to_places() {
    let node = run("{task: chain, objective: mind, weights: {a/b: 1}, names: [x, y]}").0;
    let column = |pointer: &str| locate(&node, pointer).column;
    assert_eq!(column(""), 1);
    assert_eq!(column("/task"), 8);
    assert_eq!(column("/objective/mind/beta"), 26);
    assert_eq!(column("/weights/a~1b"), 47);
    assert_eq!(column("/names/1"), 62);
    assert_eq!(column("/absent"), 1);
    assert_eq!(locate(&node, "/task").source, SourceId(0));
}
