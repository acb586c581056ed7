//! `accept`, `verify`, `lock`, `run --locked` and `cell`.

use crate::project::Project;

const RECIPE: &str = "\
recipe: audited
stages:
  first: {uses: text, with: {text: one, times: 2}}
  second: {uses: text, needs: {before: first}, with: {text: \"... two\"}}
";

fn ran() -> Project {
    let project = Project::custom();
    project.write("recipe.yaml", RECIPE);
    project.run(&["run", "recipe.yaml"]).expect(0);
    project
}

#[test]
fn an_accepted_change_reruns_nothing_and_keeps_its_reason() {
    let project = ran();
    project.write("recipe.yaml", &RECIPE.replace("text: one", "text: ONE"));
    let early = project.run(&["accept", "recipe.yaml", "second", "--reason", "case"]).expect(2);
    assert!(early.stderr.contains("what `second` reads is not made yet"), "{}", early.stderr);
    project.run(&["accept", "recipe.yaml", "first", "--reason", " "]).expect(2);
    project.run(&["accept", "recipe.yaml", "first", "--reason", "only the case"]).expect(0);
    // What reads it has not changed: the same content is there.
    let plan = project.run(&["run", "recipe.yaml"]).expect(0);
    assert!(plan.ran().is_empty(), "{}", plan.stderr);
    assert!(
        plan.stderr.contains("note: `first` is an earlier result, accepted: only the case\n"),
        "{}",
        plan.stderr
    );
    let why = project.run(&["why", "recipe.yaml", "first"]).expect(0);
    assert!(why.stdout.contains(": only the case\n"), "{}", why.stdout);
    project.run(&["report", "recipe.yaml", "-o", "report.html"]).expect(0);
    let page = std::fs::read_to_string(project.path("report.html")).unwrap();
    assert!(page.contains("<li><bdi>first</bdi>: <bdi>only the case</bdi> <span"), "{page}");
    // Never run, nothing can stand for it.
    project.write("other.yaml", &RECIPE.replace("audited", "other").replace("one", "never"));
    let never = project.run(&["accept", "other.yaml", "first", "--reason", "x"]).expect(2);
    assert!(
        never.stderr.contains("`first` has no earlier result to stand for it: never run"),
        "{}",
        never.stderr
    );
}

#[test]
fn verify_computes_again_and_names_the_file_that_differs() {
    let project = ran();
    let same = project.run(&["verify", "recipe.yaml", "second", "--times", "3"]).expect(0);
    assert!(same.stdout.starts_with("second: the same bytes 3 times, "), "{}", same.stdout);
    // The stored result, tampered with: what is computed again is not it.
    let path = project.run(&["show", "recipe.yaml", "second", "--path"]).expect(0);
    let file = std::path::Path::new(path.stdout.trim()).join("text.txt");
    std::fs::remove_file(&file).unwrap();
    std::fs::write(&file, "one\none\ntwX\n").unwrap();
    // Its name is still the digest of what it was, so nothing seems to differ: content is trusted to its name.
    project.run(&["verify", "recipe.yaml", "second"]).expect(0);
    // A record that names other content does.
    let records = crate::project::files_below(&project.path(".retort/records"));
    let second =
        records.iter().find(|path| std::fs::read_to_string(path).unwrap().contains("... two")).unwrap();
    let text = std::fs::read_to_string(second).unwrap();
    let digest = path.stdout.trim().rsplit('/').next().unwrap();
    let first = project.run(&["show", "recipe.yaml", "first", "--path"]).expect(0);
    let other = first.stdout.trim().rsplit('/').next().unwrap();
    std::fs::write(second, text.replace(digest, other)).unwrap();
    let differs = project.run(&["verify", "recipe.yaml", "second"]).expect(3);
    assert!(
        differs.stdout.contains("second: not the same:\n  text: `text.txt` from byte 8 of 8\n"),
        "{}",
        differs.stdout
    );
    assert!(!project.path(".retort/verify").exists());
}

#[test]
fn a_lock_is_held_to_and_kept_from_collection() {
    let project = ran();
    project.run(&["lock", "recipe.yaml"]).expect(2);
    let locked = project.run(&["lock", "recipe.yaml", "second"]).expect(0);
    assert_eq!(locked.stdout, "recipe.lock: 2 cells locked\n");
    let text = std::fs::read_to_string(project.path("recipe.lock")).unwrap();
    assert_eq!(text.lines().count(), 3, "{text}");
    project.run(&["run", "recipe.yaml", "--locked"]).expect(0);
    // A store that has nothing makes the same, and is held to it.
    project.run(&["run", "recipe.yaml", "--locked", "--store", "fresh"]).expect(0);

    project.write("recipe.yaml", &RECIPE.replace("two", "three"));
    let refused = project.run(&["run", "recipe.yaml", "--locked"]).expect(2);
    let what = "not what was locked: `second` would be another: text: ... two -> ... three";
    assert!(refused.stderr.contains(what), "{}", refused.stderr);
    assert!(refused.ran().is_empty());
    project.run(&["run", "recipe.yaml"]).expect(0);
    let dry = project.run(&["gc", "--dry-run"]).expect(0);
    assert!(dry.stdout.contains("audited: second, locked"), "{}", dry.stdout);
    project.run(&["gc"]).expect(0);
    project.write("recipe.yaml", RECIPE);
    project.run(&["plan", "recipe.yaml"]).expect(0);
    // Let go of, it is collected like anything else.
    project.write("recipe.yaml", &RECIPE.replace("two", "three"));
    project.run(&["lock", "recipe.yaml", "--unpin"]).expect(0);
    project.run(&["gc"]).expect(0);
    project.write("recipe.yaml", RECIPE);
    project.run(&["plan", "recipe.yaml"]).expect(4);

    project.write("recipe.lock", "<<<<<<< HEAD\n");
    let broken = project.run(&["run", "recipe.yaml", "--locked"]).expect(2);
    assert!(broken.stderr.contains("`recipe.lock` line 1 is no line of a lock"), "{}", broken.stderr);
}

#[test]
fn a_plan_tells_how_long_its_stages_took_before() {
    let project = ran();
    project.write("recipe.yaml", &RECIPE.replace("one", "uno"));
    let plan = project.run(&["plan", "recipe.yaml"]).expect(4);
    for stage in ["first", "second"] {
        let line = format!("time   {stage}: 1 cell, about 0.0 s each, from 1 earlier result\n");
        assert!(plan.stdout.contains(&line), "{}", plan.stdout);
    }
}

#[test]
fn a_record_that_is_none_or_was_edited_is_refused() {
    let project = ran();
    let none = project.run(&["cell", "nothing.json"]).expect(2);
    assert!(none.stderr.contains("is no record of a job"), "{}", none.stderr);
    let record = std::fs::read_to_string(&crate::project::files_below(&project.path(".retort/records"))[0]);
    let record: serde_json::Value = serde_json::from_str(&record.unwrap()).unwrap();
    let job = serde_json::json!({
        "cell": "first", "run": "r", "fingerprint": "0".repeat(64), "record": record["cell"], "params": {},
        "files": [], "inputs": {}, "seed": 0, "backend": {"name": "flex", "dtype": "f32"}, "threads": 1,
    });
    std::fs::create_dir(project.path("job")).unwrap();
    project.write("job/job.json", &job.to_string());
    let edited = project.run(&["cell", "job/job.json"]).expect(3);
    assert!(
        edited.stderr.contains("the record is not the one of the fingerprint `0000"),
        "{}",
        edited.stderr
    );
    let result = std::fs::read_to_string(project.path("job/result.json")).unwrap();
    assert!(result.contains("\"exit\":\"failed\""), "{result}");
}
