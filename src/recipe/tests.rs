//! Tests of a recipe as a whole.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// Writes files into a fresh folder and loads the first.
pub(super) fn load_files(files: &[(&str, &str)], sets: &[&str]) -> Result<Recipe, Diagnostics> {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let sets: Vec<String> = sets.iter().map(|set| (*set).to_owned()).collect();
    Recipe::load(&folder.path().join(files[0].0), &sets)
}

/// Loads one file.
pub(super) fn load(text: &str) -> Result<Recipe, Diagnostics> {
    load_files(&[("recipe.yaml", text)], &[])
}

/// The mistakes of one file, each as `LINE:COLUMN message`.
pub(super) fn mistakes(text: &str) -> Vec<String> {
    show(&load(text).unwrap_err())
}

/// Each mistake as `LINE:COLUMN message`.
pub(super) fn show(diagnostics: &Diagnostics) -> Vec<String> {
    let place =
        |item: &Diagnostic| item.span.map_or(String::new(), |span| format!("{}:{} ", span.line, span.column));
    diagnostics.items().iter().map(|item| format!("{}{}", place(item), item.message)).collect()
}

const WHOLE: &str = "\
recipe: mind-small
about: One line.
backend: flex
dtype: f32
vars: {data: data/gsm8k}
seeds: [1, 2]
matrix:
  task: [chain, ledger]
  method:
    std-cot: {objective: std-cot}
    mind: {objective: {mind: {beta: 0.8}}}
  exclude: [{task: ledger, method: mind}]
stages:
  questions: {uses: dataset, with: {task: \"${task}\"}, matrix: [task]}
  student:
    uses: student
    needs: {rationales: questions, model: [base, other.model]}
    matrix: {axes: [method, seed], include: [{method: mind}], exclude: [{seed: 2}]}
    resources: {cpu: 2, memory: 1.5GiB, devices: 0, pools: {api: 3}}
    retries: 2
tables:
  main: {from: student, rows: method}
  other: {rows: task}
claims:
  - mind wins: {left: mind, right: std-cot, at_least: 1.0}
  - mind wins there: {left: a, right: b, at_least: 0, table: other}
resources: {pools: {api: 4}}
";

#[test]
fn reads_everything() {
    let recipe = load(WHOLE).unwrap();
    assert_eq!(recipe.name, "mind-small");
    assert_eq!(recipe.about.as_deref(), Some("One line."));
    assert_eq!(recipe.backend.unwrap().value, "flex");
    assert_eq!(recipe.dtype.unwrap().value, "f32");
    assert_eq!(recipe.vars["data"].as_str(), Some("data/gsm8k"));
    let axes: Vec<(&str, Vec<&str>)> = recipe
        .axes
        .iter()
        .map(|axis| (&*axis.name.value, axis.values.iter().map(|value| &*value.name).collect()))
        .collect();
    assert_eq!(
        axes,
        [("task", vec!["chain", "ledger"]), ("method", vec!["std-cot", "mind"]), ("seed", vec!["1", "2"])]
    );
    assert_eq!(recipe.axes[1].values[1].node.to_json(), json!({"objective": {"mind": {"beta": 0.8}}}));
    assert_eq!(recipe.exclude[0].pairs[1].1.value, "mind");

    let student = &recipe.stages[1];
    assert_eq!((&*student.name.value, &*student.uses.value), ("student", "student"));
    let from: Vec<&str> = student.needs[1].from.iter().map(|from| &*from.value).collect();
    assert_eq!((&*student.needs[1].port.value, from), ("model", vec!["base", "other.model"]));
    assert_eq!(student.axes.iter().map(|axis| &*axis.value).collect::<Vec<_>>(), ["method", "seed"]);
    assert_eq!(student.include[0].pairs[0].1.value, "mind");
    assert_eq!(student.exclude[0].pairs[0].1.value, "2");
    let pools = BTreeMap::from([("api".to_owned(), 3)]);
    let resources =
        ResourcesDecl { cpu: Some(2), memory: Some(3 << 29), devices: Some(0), priority: 0, pools };
    assert_eq!(student.resources, resources);
    assert_eq!(student.retries, 2);
    assert_eq!(student.with.to_json(), json!({}));

    assert_eq!(recipe.tables[0].from.as_ref().unwrap()[0].value, "student");
    let claims = json!({"mind wins": {"left": "mind", "right": "std-cot", "at_least": 1.0}});
    assert_eq!(recipe.tables[0].with.to_json(), json!({"rows": "method", "claims": claims}));
    let claims = json!({"mind wins there": {"left": "a", "right": "b", "at_least": 0}});
    assert_eq!(recipe.tables[1].with.to_json(), json!({"rows": "task", "claims": claims}));
    assert_eq!(recipe.pools["api"], 4);
}

#[test]
fn every_mistake_is_reported_at_once() {
    let text = "\
recipe: Bad Name
backnd: flex
seeds: [1, a, 1]
matrix: {method: [], task: [a/b]}
stages:
  one: {usess: dataset, with: 5, neds: {x: 3}, retries: 1.5}
  two: {uses: [x], matrix: {axis: [a]}}
  three: {with: {}}
  two: {uses: model}
tables: {main: {from: [], rows: method}}
claims: [wins, {x: {table: mian}}]
";
    assert_eq!(
        mistakes(text),
        [
            "1:9 recipe name `Bad Name` is not well formed",
            "2:1 unknown key `backnd` in the recipe",
            "3:12 `seeds`: expected whole numbers from 0, found `a`",
            "3:15 `1` is twice in `seeds`",
            "4:18 axis `method` has no values",
            "4:29 `a/b` cannot be a value of axis `task`",
            "6:9 unknown key `usess` in stage `one`",
            "6:31 `with` of stage `one`: expected a mapping of params, found `5`",
            "6:34 unknown key `neds` in stage `one`",
            "6:44 port `x` of stage `one`: expected `stage` or `stage.port` or a list of them, found `3`",
            "6:57 `retries` of stage `one`: expected a whole number from 0 to 100, found `1.5`",
            "7:15 `uses` of stage `two`: expected the name of a kind, found a list",
            "7:29 unknown key `axis` in `matrix` of stage `two`",
            "8:3 stage `three` has no `uses`",
            "9:3 key `two` is written twice",
            "10:23 `from` of table `main`: expected a stage or a list of them, found a list",
            "11:10 a claim: expected one sentence with its comparison, found `wins`",
            "11:28 no table is named `mian`",
        ]
    );
}

#[test]
fn a_misspelled_key_is_read_as_the_one_it_resembles() {
    let text = "recipe: x\nstages:\n  a: {usess: dataset}\n";
    let (recipe, mistakes) = read(text);
    assert_eq!(recipe.stages[0].uses.value, "dataset");
    assert_eq!(mistakes.len(), 1);
}

fn read(text: &str) -> (Recipe, Vec<Diagnostic>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("recipe.yaml");
    std::fs::write(&path, text).unwrap();
    Recipe::read(&path, &[]).unwrap()
}

#[test]
fn what_cannot_be_read_is_a_mistake() {
    let error = Recipe::load(Path::new("absent/recipe.yaml"), &[]).unwrap_err();
    assert_eq!(
        error.to_string(),
        "error: cannot read `absent/recipe.yaml`: no such file or directory\n\n1 mistake"
    );
    let folder = tempfile::tempdir().unwrap();
    assert!(Recipe::load(folder.path(), &[]).unwrap_err().to_string().contains("cannot read"));
    assert_eq!(mistakes(""), ["1:1 the recipe is empty"]);
    assert_eq!(mistakes("# only\n"), ["1:1 the recipe is empty"]);
    assert!(mistakes("just text")[0].contains("the recipe: expected a mapping"));
    assert_eq!(mistakes("recipe: x\n"), ["1:1 the recipe has no `stages`"]);
    assert_eq!(mistakes("recipe: x\nstages:\n"), ["2:1 the recipe has no stages"]);
}

#[test]
fn names_of_axes_and_variables_do_not_meet() {
    let text = "recipe: x\nseeds: [1]\nvars: {seed: 1, task: a}\nmatrix: {seed: [1], task: [b]}\nstages: {a: {uses: b}}";
    assert_eq!(
        mistakes(text),
        [
            "2:8 the axis `seed` is written twice, as `seeds` and in `matrix`",
            "4:10 `seed` names both an axis and a variable",
            "4:21 `task` names both an axis and a variable",
        ]
    );
}

#[test]
fn pools_bound_what_stages_take() {
    let text = "recipe: x\nresources: {pools: {api: 2, none: 0}}\nstages:\n  a: {uses: b, resources: {memory: 3 floppies, pools: {api: 3, apo: 1}}}";
    assert_eq!(
        mistakes(text),
        [
            "2:35 pool `none`: expected a whole number from 1, found `0`",
            "4:36 `memory` in `resources` of stage `a`: expected a size such as `2GiB`, or a number of bytes, found `3 floppies`",
            "4:61 pool `api` in `pools` in `resources` of stage `a`: expected a whole number from 1 to 2, found `3`",
            "4:64 no pool is named `apo`",
        ]
    );
}

/// The slowest a small machine may be with the largest input, unoptimized.
const PATIENCE: Duration = Duration::from_secs(30);

#[test]
fn huge_files_end_quickly_and_cleanly() {
    let megabytes = |unit: &str, size: usize| unit.repeat((size << 20) / unit.len());
    let recipe = "recipe: x\nstages:\n";
    let inputs = [
        ("10 MiB of nesting", megabytes("[", 10), "larger than 4 MiB"),
        ("flow nesting", megabytes("[", 4), "nested deeper than 64 levels"),
        ("mapping nesting", megabytes("{a: ", 4), "nested deeper than 64 levels"),
        ("block nesting", megabytes("- ", 4), "nested deeper than 64 levels"),
        ("one long line", format!("{recipe}  a: {}", megabytes("x", 3)), "stage `a`: expected a mapping"),
        ("many keys", format!("{recipe}{}", many("  s", ": {uses: x}\n", 40_000)), "more than 50000 values"),
        ("many unknown keys", many("k", ": 1\n", 10_000), "10002 mistakes"),
        ("many equal keys", format!("{recipe}{}", "  a: 1\n".repeat(10_000)), "10000 mistakes"),
        (
            "many seeds",
            format!("{recipe}  a: {{uses: b}}\nseeds: [{}]", "1, ".repeat(40_000)),
            "39999 mistakes",
        ),
        ("comments", megabytes("# c\n", 4), "the recipe is empty"),
        ("blank lines", megabytes("\n", 4), "the recipe is empty"),
        ("quotes", format!("a: \"{}", megabytes("x\n ", 3)), "a quoted text that never ends"),
    ];
    for (name, text, expected) in inputs {
        let start = Instant::now();
        let shown = load(&text).unwrap_err().to_string();
        assert!(shown.contains(expected), "{name}: {}", &shown[..shown.len().min(400)]);
        assert!(shown.len() < 60_000, "{name}: the message has {} bytes", shown.len());
        let took = start.elapsed();
        assert!(took < PATIENCE, "{name} took {took:?}");
    }
}

fn many(before: &str, after: &str, count: usize) -> String {
    (0..count).map(|index| format!("{before}{index}{after}")).collect()
}

#[test]
fn aliases_cannot_explode() {
    let mut text = "a0: &a0 [x, x, x, x, x, x, x, x, x]\n".to_owned();
    for level in 1..20 {
        let below = format!("*a{}", level - 1);
        let items = [below.as_str(); 9].join(", ");
        text.push_str(&format!("a{level}: &a{level} [{items}]\n"));
    }
    assert!(mistakes(&text)[0].contains("more than 50000 values, aliases expanded"));
}

/// Pieces of YAML that meet the parser's and our own special cases.
fn pieces() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("recipe: x\n"),
        Just("stages:\n"),
        Just("  a: {uses: b}\n"),
        Just("matrix: "),
        Just("  "),
        Just("\t"),
        Just("["),
        Just("]"),
        Just("{"),
        Just("}"),
        Just(": "),
        Just("- "),
        Just("\n"),
        Just(", "),
        Just("\""),
        Just("'"),
        Just("&a "),
        Just("*a"),
        Just("!!str "),
        Just("!x "),
        Just("|\n"),
        Just(">-\n"),
        Just("#"),
        Just("---\n"),
        Just("...\n"),
        Just("? "),
        Just("<<"),
        Just("${a}"),
        Just("$${"),
        Just("seeds"),
        Just("claims"),
        Just("tables"),
        Just("vars"),
        Just("include"),
        Just("1e999"),
        Just(".nan"),
        Just("0x1F"),
        Just("~"),
        Just("\u{feff}"),
        Just("\u{0}"),
        Just("é"),
        Just("\u{202e}"),
        Just("%YAML 1.2\n"),
        Just("\r"),
        Just("@"),
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_end_in_a_recipe_or_mistakes(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("recipe.yaml");
        std::fs::write(&path, &bytes).unwrap();
        if let Err(mistakes) = Recipe::load(&path, &[]) {
            prop_assert!(!mistakes.items().is_empty());
            prop_assert!(mistakes.to_string().ends_with(|c: char| c.is_alphabetic()));
        }
    }

    #[test]
    fn any_yaml_ends_in_a_recipe_or_mistakes(text in pieces(), set in pieces()) {
        let loaded = [load(&text), load_files(&[("recipe.yaml", WHOLE)], &[&set])];
        for mistakes in loaded.into_iter().filter_map(Result::err) {
            prop_assert!(!mistakes.items().is_empty());
            prop_assert!(mistakes.to_string().contains("error: "));
        }
    }

    #[test]
    fn any_set_of_a_stage_ends_in_a_recipe_or_mistakes(
        key in prop_oneof![Just("with"), Just("needs"), Just("matrix"), Just("resources"), Just("retries"), Just("x")],
        value in pieces(),
    ) {
        let set = format!("stages.student.{key}={value}");
        if let Ok(recipe) = load_files(&[("recipe.yaml", WHOLE)], &[&set]) {
            let scope = Scope { recipe: &recipe, axes: &[] };
            let mut out = Vec::new();
            let expanded = interpolate(&recipe.stages[1].with, &scope, &mut out);
            prop_assert_eq!(expanded.is_none(), !out.is_empty());
        }
    }
}

#[test]
fn a_limit_on_jobs_is_shared_by_the_stages_that_have_it_from_one_place() {
    let stage = |name: &str, executor: &str| format!("  {name}: {{uses: dataset, executor: {executor}}}\n");
    let stages = [
        stage("one", "slurm"),
        stage("two", "{slurm: {time: 5}}"),
        stage("three", "{slurm: {at_once: 4}}"),
        stage("four", "local"),
    ];
    let text = format!("recipe: r\nexecutor: {{slurm: {{at_once: 4}}}}\nstages:\n{}", stages.concat());
    let recipe = load(&text).unwrap();
    let limits: Vec<Option<&AtOnce>> = recipe
        .stages
        .iter()
        .map(|stage| match &stage.executor {
            ExecutorDecl::Slurm(slurm) => slurm.at_once.as_ref(),
            ExecutorDecl::Local => None,
        })
        .collect();
    assert!(limits[..3].iter().all(|limit| limit.is_some_and(|limit| limit.most == 4)));
    assert_eq!(limits[0], limits[1]);
    assert_ne!(limits[0], limits[2]);
    assert_eq!(limits[3], None);
}
