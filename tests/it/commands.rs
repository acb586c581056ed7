//! Every command once, as a newcomer would.

use crate::project::Project;

#[test]
fn the_custom_kind_example_does_what_its_header_says() {
    let project = Project::custom();
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/custom-kind.yaml");
    project.run(&["run", recipe]).expect(0);
    let shown = project.run(&["show", recipe, "greeting"]).expect(0);
    assert!(
        shown.stdout.contains("Hello, Ada!\nHello, Grace!\nNice to meet you both.\n"),
        "{}",
        shown.stdout
    );
    let one = project.run(&["why", recipe, "hello[name=Ada]"]).expect(0);
    assert!(one.stdout.contains("hello[name=Ada] is up to date: made by run "), "{}", one.stdout);
    let changed = project.run(&["why", recipe, "greeting", "--set", "stages.hello.with.text=Hi"]).expect(0);
    assert!(changed.stdout.contains("text: Hello, Ada! -> Hi"), "{}", changed.stdout);
    let runs = project.run(&["runs"]).expect(0);
    assert!(runs.stdout.contains("custom-kind  done  3 ran, 0 reused"), "{}", runs.stdout);
    let logs = project.run(&["logs", "--cell", "greeting"]).expect(0);
    let nothing = project.run(&["logs", "--cell", "nosuch"]).expect(2);
    assert!(
        nothing.stderr.contains(" tells of no cell whose name contains `nosuch`\n"),
        "{}",
        nothing.stderr
    );
    assert!(logs.stdout.contains("finished"), "{}", logs.stdout);
    assert!(!logs.stdout.contains("hello["), "{}", logs.stdout);
}

#[test]
fn a_report_says_what_is_missing_and_a_diff_what_is_only_in_one_run() {
    let project = Project::custom();
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/custom-kind.yaml");
    let nothing = project.run(&["report", recipe]).expect(2);
    assert!(nothing.stderr.contains("no cell of `custom-kind` has a result yet"), "{}", nothing.stderr);
    assert!(nothing.stderr.contains("help: `retort run "), "{}", nothing.stderr);

    project.run(&["run", recipe, "hello[name=Ada]"]).expect(0);
    let partly = project.run(&["report", recipe]).expect(0);
    assert!(partly.stderr.contains("warning: 2 cells are missing or not up to date"), "{}", partly.stderr);
    let page = std::fs::read_to_string(project.path("custom-kind-report.html")).unwrap();
    assert!(page.contains("<bdi>hello[name=Grace]</bdi>: missing; <bdi>never run</bdi>"), "{page}");
    assert!(page.contains("<bdi>greeting</bdi>: missing; <bdi>waits for hello[name=Grace]</bdi>"), "{page}");
    assert!(page.contains("<th scope=\"row\"><bdi>hello[name=Ada]</bdi></th><td>up to date</td>"), "{page}");

    // A changed recipe: the results of the earlier state are shown as outdated.
    project.run(&["run", recipe]).expect(0);
    let set = ["--set", "stages.hello.with.text=Hi"];
    let outdated = project.run(&[&["report", recipe, "-o", "-"], &set[..]].concat()).expect(0);
    assert!(
        outdated.stdout.contains("<bdi>hello[name=Ada]</bdi>: outdated; <bdi>text: "),
        "{}",
        outdated.stdout
    );
    assert!(outdated.stdout.contains("--set stages.hello.with.text=Hi</code>"), "{}", outdated.stdout);

    let runs = project.run(&["runs"]).expect(0).stdout;
    let ids: Vec<&str> = runs.lines().map(|line| line.split(' ').next().unwrap()).collect();
    let diff = project.run(&["diff", ids[0], ids[1]]).expect(0).stdout;
    assert!(diff.contains(&format!("only in {}: greeting, hello[name=Grace]\n", ids[1])), "{diff}");
}

#[test]
fn graphs_in_every_format() {
    let project = Project::custom();
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/custom-kind.yaml");
    let draw = |format: &str| project.run(&["graph", recipe, "--format", format]).expect(0).stdout;
    insta::assert_snapshot!(draw("text"), @r"
    hello (text [name], 2 cells)
    greeting (text, 1 cell) <- before of hello
    ");
    insta::assert_snapshot!(draw("mermaid"), @r#"
    flowchart LR
      s0["hello<br>text [name], 2 cells"]
      s1["greeting<br>text, 1 cell"]
      s0 -->|before| s1
    "#);
    assert!(draw("dot").starts_with("digraph recipe {"));
    assert!(draw("svg").starts_with("<svg "));
}

#[test]
fn plans_as_json() {
    let project = Project::custom();
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/custom-kind.yaml");
    let plan = project.run(&["plan", recipe, "--json"]).expect(4);
    let plan: serde_json::Value = serde_json::from_str(&plan.stdout).unwrap();
    assert_eq!(plan["counts"], serde_json::json!({"run": 2, "undecided": 1, "fetch": 0, "reuse": 0}));
    assert_eq!(plan["cells"][0]["reason"]["because"], "new");
}

#[test]
fn wrong_names_on_the_command_line_get_a_suggestion() {
    let project = Project::custom();
    let recipe = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/custom-kind.yaml");
    let wrong = project.run(&["run", recipe, "greting"]).expect(2);
    assert!(wrong.stderr.contains("help: did you mean `greeting`?"), "{}", wrong.stderr);
    let wrong = project.run(&["run", recipe, "hello[name=Alan]"]).expect(2);
    assert!(wrong.stderr.contains("help: a cell of it is `hello[name=Ada]`"), "{}", wrong.stderr);
    for target in ["hello[Ada]", "hello[name=Ada", "hello[name=Ada,]", "hello[nme=Ada]", "hello[]"] {
        let wrong = project.run(&["plan", recipe, target]).expect(2);
        let expected = format!(
            "error: `{target}` does not say which cells of `hello` are meant\n\
             help: write some of the axes: `hello[name=VALUE]`\n"
        );
        assert_eq!(wrong.stderr, expected);
    }
    let wrong = project.run(&["why", recipe, "greeting[name=Ada]"]).expect(2);
    assert!(wrong.stderr.contains("help: `greeting` is one cell, it has no axes"), "{}", wrong.stderr);
    let wrong = project.run(&["show", recipe, "nosuch"]).expect(2);
    assert!(wrong.stderr.contains("help: stages of this recipe: hello, greeting\n"), "{}", wrong.stderr);
    let wrong = project.run(&["kinds", "txt"]).expect(2);
    assert!(wrong.stderr.contains("did you mean `text`?"), "{}", wrong.stderr);
    let empty = project.run(&["logs"]).expect(2);
    assert!(empty.stderr.contains("help: `retort run RECIPE` starts one"), "{}", empty.stderr);
    project.run(&["run", "missing.yaml"]).expect(2);
}

#[test]
fn kinds_schema_and_completions_print_data() {
    let project = Project::retort();
    let kinds = project.run(&["kinds"]).expect(0).stdout;
    assert!(kinds.contains("dataset: "), "{kinds}");
    let dataset = project.run(&["kinds", "dataset"]).expect(0).stdout;
    assert!(dataset.contains("task: ") && dataset.contains("(required)"), "{dataset}");
    let teacher = project.run(&["kinds", "teacher"]).expect(0).stdout;
    assert!(teacher.contains("Requests under way at once. Default: 8.\n"), "{teacher}");
    // What the documentation of a param says already is not said again, however it is written.
    for kind in kinds.lines().filter_map(|line| line.split_once(": ")).filter(|(kind, _)| !kind.contains(' '))
    {
        let told = project.run(&["kinds", kind.0]).expect(0).stdout;
        let twice = |line: &&str| line.contains("Default ") && line.contains("(default ");
        assert_eq!(told.lines().find(twice), None);
    }
    let all: serde_json::Value =
        serde_json::from_str(&project.run(&["kinds", "--json"]).expect(0).stdout).unwrap();
    assert!(all.as_array().unwrap().len() >= 4);
    let schema: serde_json::Value = serde_json::from_str(&project.run(&["schema"]).expect(0).stdout).unwrap();
    assert_eq!(schema["title"], "retort recipe");
    assert!(project.run(&["completions", "bash"]).expect(0).stdout.contains("_retort"));
}

#[test]
fn a_question_that_cannot_be_asked_is_refused_with_a_remedy() {
    let project = Project::retort();
    std::fs::create_dir(project.path("model")).unwrap();
    for (arguments, said) in [
        (&["ask", "nosuch", "Why?"][..], "error: `nosuch` does not exist\nhelp: name a model's folder"),
        (
            &["ask", "model", "Why?", "--max-new-tokens", "0"],
            "error: an answer has at least one token\nhelp: ",
        ),
        (
            &["ask", "as.yaml", "base"],
            "error: `as.yaml` is a recipe and needs a cell and a question after it\nhelp: `retort ask as.yaml CELL ",
        ),
        (&["serve", "as.yaml"], "error: `as.yaml` is a recipe and needs a cell after it\nhelp: "),
        (&["ask", "model", "Why?", "--backend", "gpu"], "error: unknown backend `gpu`\nhelp: "),
        // Without burn, nothing can be asked at all.
        (&["ask", "model", "Why?", "--task", "poetry"], "\nhelp: "),
    ] {
        let refused = project.run(arguments).expect(2);
        assert!(refused.stderr.contains(said), "{}", refused.stderr);
    }
}

#[test]
fn init_writes_a_recipe_once() {
    let project = Project::retort();
    let new = project.run(&["init", "new"]).expect(0);
    assert_eq!(new.stderr, "wrote new/recipe.yaml: now `retort run new/recipe.yaml`\n");
    let spaced = project.run(&["init", "it's new"]).expect(0);
    assert!(spaced.stderr.ends_with(": now `retort run 'it'\\''s new/recipe.yaml'`\n"), "{}", spaced.stderr);
    let again = project.run(&["init", "new"]).expect(2);
    assert!(again.stderr.contains("is there already"), "{}", again.stderr);
}

#[test]
fn show_tells_how_to_see_all_and_does() {
    let project = Project::retort();
    project.write(
        "recipe.yaml",
        "recipe: r\nstages:\n  q: {uses: dataset, with: {task: arithmetic, split: train, count: 9}}\n",
    );
    project.run(&["run", "recipe.yaml"]).expect(0);
    let shown = |arguments: &[&str]| {
        let shown =
            project.run(&[&["show", "recipe.yaml", "q:questions"], arguments].concat()).expect(0).stdout;
        (shown.matches("\n- ").count(), shown.contains("(4 more; `-n all` shows them)"))
    };
    assert_eq!(shown(&[]), (5, true));
    assert_eq!(shown(&["-n", "all"]), (9, false));
    let wrong = project.run(&["show", "recipe.yaml", "q", "-n", "most"]).expect(2);
    assert!(wrong.stderr.contains("write a number, or `all`"), "{}", wrong.stderr);
}
