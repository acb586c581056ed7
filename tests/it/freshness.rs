//! Edit one thing, run again, and see exactly which cells ran.

use std::collections::BTreeSet;

use crate::project::Project;

const RECIPE: &str = "\
recipe: fresh
matrix: {name: [a, b]}
stages:
  first:
    uses: text
    matrix: [name]
    with: {text: \"one ${name}\", times: 2}
  second:
    uses: text
    matrix: [name]
    needs: {before: first}
    with: {text: \"... two\"}
  last:
    uses: text
    needs: {before: second}
    with: {text: \"... three\"}
  apart:
    uses: text
    with: {text: apart}
";

fn set<'a>(names: &[&'a str]) -> BTreeSet<&'a str> {
    names.iter().copied().collect()
}

fn ran_once() -> Project {
    let project = Project::custom();
    project.write("recipe.yaml", RECIPE);
    let first = project.run(&["run", "recipe.yaml"]).expect(0);
    assert_eq!(first.ran().len(), 6, "{}", first.stderr);
    project
}

#[test]
fn a_second_run_does_nothing_and_says_so() {
    let project = ran_once();
    let again = project.run(&["run", "recipe.yaml"]).expect(0);
    assert_eq!(again.ran(), set(&[]));
    assert!(again.stderr.contains("nothing to do: 6 cells are up to date"), "{}", again.stderr);
    project.run(&["plan", "recipe.yaml"]).expect(0);
}

#[test]
fn one_param_reruns_what_depends_on_it_and_shows_both_values() {
    let project = ran_once();
    project.write("recipe.yaml", &RECIPE.replace("... two", "... 2"));
    let plan = project.run(&["plan", "recipe.yaml"]).expect(4);
    assert!(plan.stdout.contains("run    second[name=a]: text: ... two -> ... 2"), "{}", plan.stdout);
    assert!(plan.stdout.contains("maybe  last: 1 cell waits for second"), "{}", plan.stdout);
    let again = project.run(&["run", "recipe.yaml"]).expect(0);
    assert_eq!(again.ran(), set(&["second[name=a]", "second[name=b]", "last"]));
    assert_eq!(again.reason("second[name=a]"), Some("text: ... two -> ... 2"));

    // Back again: the earlier results are still there.
    project.write("recipe.yaml", RECIPE);
    let back = project.run(&["run", "recipe.yaml"]).expect(0);
    assert_eq!(back.ran(), set(&[]));
}

#[test]
fn comments_key_order_and_names_rerun_nothing() {
    let project = ran_once();
    let reordered = "\
# A comment.
stages:
  apart: {with: {text: apart}, uses: text}
  last: {with: {text: \"... three\"}, needs: {before: second}, uses: text}
  second: {needs: {before: [first]}, with: {text: '... two'}, matrix: {axes: [name]}, uses: text}
  first: {with: {times: 2, text: \"one ${name}\"}, uses: text, matrix: [name]}
matrix: {name: [b, a]}
recipe: fresh
";
    project.write("elsewhere.yaml", reordered);
    let again = project.run(&["run", "elsewhere.yaml"]).expect(0);
    assert_eq!(again.ran(), set(&[]), "{}", again.stderr);
    // A cell's name is not what it is.
    project.write("recipe.yaml", &RECIPE.replace("apart:", "renamed:"));
    assert_eq!(project.run(&["run", "recipe.yaml"]).expect(0).ran(), set(&[]));
}

#[test]
fn a_default_written_out_is_the_same() {
    let project = ran_once();
    project.write("recipe.yaml", &RECIPE.replace("{text: apart}", "{text: apart, times: 1}"));
    assert_eq!(project.run(&["run", "recipe.yaml"]).expect(0).ran(), set(&[]));
}

#[test]
fn equal_output_stops_the_wave() {
    let project = ran_once();
    // Other params, the same two lines.
    let other = RECIPE.replace("\"one ${name}\", times: 2", "\"one ${name}\\none ${name}\"");
    project.write("recipe.yaml", &other);
    let again = project.run(&["run", "recipe.yaml"]).expect(0);
    assert_eq!(again.ran(), set(&["first[name=a]", "first[name=b]"]), "{}", again.stderr);
}

#[test]
fn equal_cells_run_once_within_a_recipe_and_across_recipes() {
    let project = Project::custom();
    let recipe = "\
recipe: twins
matrix: {name: [a, b, c]}
stages:
  same: {uses: text, matrix: [name], with: {text: same}}
";
    project.write("recipe.yaml", recipe);
    let first = project.run(&["run", "recipe.yaml"]).expect(0);
    assert_eq!(first.ran().len(), 1, "{}", first.stderr);
    assert!(first.stderr.contains("ran 1 cell, reused 2"), "{}", first.stderr);
    project.write("other.yaml", "recipe: other\nstages:\n  only: {uses: text, with: {text: same}}\n");
    assert_eq!(project.run(&["run", "other.yaml"]).expect(0).ran(), set(&[]));
}

#[test]
fn a_new_axis_value_runs_only_its_cells() {
    let project = ran_once();
    project.write("recipe.yaml", &RECIPE.replace("[a, b]", "[a, b, c]"));
    let again = project.run(&["run", "recipe.yaml"]).expect(0);
    assert_eq!(again.ran(), set(&["first[name=c]", "second[name=c]", "last"]), "{}", again.stderr);
}

#[test]
fn targets_run_only_what_they_need() {
    let project = Project::custom();
    project.write("recipe.yaml", RECIPE);
    let one = project.run(&["run", "recipe.yaml", "second[name=b]"]).expect(0);
    assert_eq!(one.ran(), set(&["first[name=b]", "second[name=b]"]));
}

#[test]
fn an_edited_file_reruns_and_a_touched_or_moved_one_does_not() {
    let project = Project::retort();
    let row = r#"{"id":"q1","question":"How many?","answer":"3"}"#;
    project.write("a.jsonl", row);
    let recipe = |file: &str| {
        format!(
            "recipe: files\nstages:\n  q: {{uses: dataset, with: {{task: svamp, split: train, path: {file}}}}}\n"
        )
    };
    project.write("recipe.yaml", &recipe("a.jsonl"));
    assert_eq!(project.run(&["run", "recipe.yaml"]).expect(0).ran(), set(&["q"]));
    project.write("a.jsonl", row);
    assert_eq!(project.run(&["run", "recipe.yaml"]).expect(0).ran(), set(&[]));
    std::fs::rename(project.path("a.jsonl"), project.path("b.jsonl")).unwrap();
    project.write("recipe.yaml", &recipe("b.jsonl"));
    assert_eq!(project.run(&["run", "recipe.yaml"]).expect(0).ran(), set(&[]));
    project.write("b.jsonl", &row.replace('3', "4"));
    let edited = project.run(&["run", "recipe.yaml"]).expect(0);
    assert_eq!(edited.ran(), set(&["q"]));
    assert!(edited.reason("q").unwrap().starts_with("path: "), "{}", edited.stderr);
}
