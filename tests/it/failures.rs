//! Cells that fail, and commands that are stopped.

use std::process::Stdio;

use crate::project::{Project, files_below};

const RECIPE: &str = "\
recipe: failing
matrix:
  name: {good: {text: fine}, bad: {text: panic!}}
stages:
  first: {uses: text, matrix: [name], with: {text: \"${name.text}\"}}
  second: {uses: text, matrix: [name], needs: {before: first}, with: {text: \"... two\"}}
";

#[test]
fn a_failure_skips_its_dependants_by_name_and_nothing_else() {
    let project = Project::custom();
    project.write("recipe.yaml", RECIPE);
    let run = project.run(&["run", "recipe.yaml"]).expect(3);
    assert_eq!(run.ran().into_iter().collect::<Vec<_>>(), ["first[name=good]", "second[name=good]"]);
    assert!(run.stderr.contains("  skip   second[name=bad]: `first[name=bad]` failed"), "{}", run.stderr);
    assert!(
        run.stderr.contains("error: `first[name=bad]` failed: the kind `text` panicked"),
        "{}",
        run.stderr
    );

    // What finished stays finished; what failed is tried again.
    let again = project.run(&["run", "recipe.yaml"]).expect(3);
    assert!(again.ran().is_empty(), "{}", again.stderr);
    // No half-made outputs are left.
    assert_eq!(std::fs::read_dir(project.path(".retort/staging")).unwrap().count(), 0);
}

#[test]
fn retries_are_used_up_and_told() {
    let project = Project::custom();
    let recipe = "recipe: r\nstages:\n  a: {uses: text, retries: 2, with: {text: panic!}}\n";
    project.write("recipe.yaml", recipe);
    let run = project.run(&["run", "recipe.yaml"]).expect(3);
    assert_eq!(run.stderr.matches("  again  a: ").count(), 2, "{}", run.stderr);
    assert_eq!(run.stderr.matches("  FAILED a").count(), 1, "{}", run.stderr);
}

#[test]
fn a_reader_that_has_seen_enough_ends_the_command_quietly() {
    let project = Project::custom();
    let names: Vec<String> = (0..3000).map(|name| name.to_string()).collect();
    let recipe = "recipe: long\nmatrix: {name: [NAMES]}\nstages:\n  a: {uses: text, matrix: [name], with: {text: \"a ${name}\"}}\n";
    project.write("recipe.yaml", &recipe.replace("NAMES", &names.join(", ")));
    let mut child = project
        .command(&["plan", "recipe.yaml", "--all"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take()); // The reader is gone before the first line.
    let output = child.wait_with_output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn an_unusable_backend_says_why_and_what_to_do() {
    let project = Project::retort();
    project.write(
        "recipe.yaml",
        "recipe: r\nstages:\n  q: {uses: dataset, with: {task: arithmetic, split: train, count: 3}}\n",
    );
    let unknown = project.run(&["run", "recipe.yaml", "--backend", "flax"]).expect(2);
    assert!(unknown.stderr.contains("unknown backend `flax`"), "{}", unknown.stderr);
    assert!(unknown.stderr.contains("did you mean `flex`?"), "{}", unknown.stderr);
    project.write("half.yaml", "recipe: r\ndtype: bf16\nstages:\n  q: {uses: dataset, with: {task: arithmetic, split: train, count: 3}}\n");
    for command in ["check", "plan", "run"] {
        let refused = project.run(&[command, "half.yaml"]).expect(2);
        let place = "error: no recipe computes in dtype `bf16`\n --> half.yaml:2:8\n";
        assert!(refused.stderr.contains(place), "{}", refused.stderr);
        assert!(
            refused.stderr.contains("help: dtypes: f32; a kind may have one of its own\n"),
            "{}",
            refused.stderr
        );
    }
    // A recipe that computes no tensors does not need one.
    project.run(&["run", "recipe.yaml", "--backend", "cuda"]).expect(0);
}

#[test]
fn a_store_that_fails_one_cell_fails_that_cell_alone() {
    let project = Project::custom();
    let recipe = "recipe: locked\nstages:\n\
                  \x20 a: {uses: text, with: {text: aaa}}\n\
                  \x20 b: {uses: text, with: {text: bbb}}\n\
                  \x20 c: {uses: text, needs: {before: b}, with: {text: \"... c\"}}\n";
    project.write("recipe.yaml", recipe);
    project.run(&["run", "recipe.yaml", "b", "--store", "other"]).expect(0);
    let record = &files_below(&project.path("other/records"))[0];
    // A lock that cannot be had.
    let lock = project.path(".retort/locks").join(record.file_stem().unwrap());
    std::fs::create_dir_all(&lock).unwrap();
    let run = project.run(&["run", "recipe.yaml"]).expect(3);
    assert_eq!(run.ran().into_iter().collect::<Vec<_>>(), ["a"], "{}", run.stderr);
    assert!(run.stderr.contains("error: `b` failed: cannot lock `"), "{}", run.stderr);
    assert!(run.stderr.contains("\nhelp: the operating system refused"), "{}", run.stderr);
    assert!(run.stderr.contains("; 1 failed, 1 skipped"), "{}", run.stderr);
    // The run's record says how it ended.
    let runs = project.run(&["runs"]).expect(0).stdout;
    assert!(runs.contains("  locked  1 failed  1 ran, 0 reused"), "{runs}");
    std::fs::remove_dir(&lock).unwrap();
    assert_eq!(project.run(&["run", "recipe.yaml"]).expect(0).ran().len(), 2);
}
