//! The quickstart's whole pipeline, at a size that trains in a moment.

use std::collections::BTreeSet;

use crate::project::{Finished, Project};

const QUICKSTART: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes/quickstart.yaml");

/// Everything real, everything tiny.
const TINY: [&str; 13] = [
    "seeds=[1, 2]",
    "stages.schooling.with.count=40",
    "stages.questions.with.count=12",
    "stages.test.with.count=6",
    "stages.base.with.source.scratch.hidden_size=16",
    "stages.base.with.source.scratch.num_hidden_layers=1",
    "stages.base.with.source.scratch.num_attention_heads=2",
    "stages.base.with.source.scratch.pretrain.steps=6",
    "stages.base.with.source.scratch.pretrain.batch_size=4",
    "stages.student.with.steps=3",
    "stages.scores.with.max_new_tokens=12",
    "stages.latent.with.texts=32",
    "stages.latent.with.iterations=50",
];

pub(crate) fn arguments<'a>(command: &'a str, more: &[&'a str]) -> Vec<&'a str> {
    let mut arguments = vec![command, QUICKSTART];
    arguments.extend(more);
    for set in TINY {
        arguments.extend(["--set", set]);
    }
    arguments
}

fn run(project: &Project, more: &[&str]) -> Finished {
    project.run(&arguments("run", more)).expect(0)
}

/// The stages whose cells ran.
fn stages(run: &Finished) -> BTreeSet<&str> {
    run.ran().into_iter().map(|cell| cell.split('[').next().unwrap()).collect()
}

#[test]
fn recipe_to_table_and_only_what_changed_again() {
    let project = Project::retort();
    let first = run(&project, &[]);
    for row in ["undistilled", "std-cot", "uniform", "mind"] {
        assert!(first.stdout.contains(row), "no row `{row}`:\n{}", first.stdout);
    }
    for column in ["arithmetic", "comparison", "calendar", "id", "ood"] {
        assert!(first.stdout.contains(column), "no column `{column}`:\n{}", first.stdout);
    }

    let again = run(&project, &[]);
    assert!(again.ran().is_empty(), "{}", again.stderr);
    assert!(again.stderr.contains("nothing to do"), "{}", again.stderr);
    assert_eq!(again.stdout, first.stdout);

    // One training parameter: the student, and what reads it. The undistilled student comes out as before, so its
    // scores stand.
    let changed = run(&project, &["--set", "stages.student.with.learning_rate=0.003"]);
    assert!(
        stages(&changed).is_subset(&BTreeSet::from(["student", "scores", "latent", "tables.main"])),
        "{}",
        changed.stderr
    );
    assert!(stages(&changed).is_superset(&BTreeSet::from(["student", "scores"])), "{}", changed.stderr);
    assert!(
        !changed.ran().iter().any(|cell| cell.starts_with("scores[method=undistilled")),
        "{}",
        changed.stderr
    );
    let reason = changed.reason("student[method=mind,seed=1]").unwrap();
    assert!(reason.starts_with("learning_rate: ") && reason.ends_with(" -> 0.003"), "{reason}");

    let back = run(&project, &[]);
    assert!(back.ran().is_empty(), "{}", back.stderr);

    let markdown = project.run(&arguments("table", &["main", "--format", "markdown"])).expect(0);
    assert!(markdown.stdout.contains("| undistilled"), "{}", markdown.stdout);
    assert!(markdown.stdout.contains("every `seed` starts from one base student"), "{}", markdown.stdout);
    let shown = project.run(&arguments("show", &["accepted", "-n", "1"])).expect(0);
    assert!(shown.stdout.contains("The answer is \\boxed{"), "{}", shown.stdout);
    models_are_asked_and_exported(&project);
    the_report_and_the_difference_of_two_runs(&project);
}

/// `report` and `diff`, where a finished pipeline has left results and two runs.
fn the_report_and_the_difference_of_two_runs(project: &Project) {
    let written = project.run(&arguments("report", &["-o", "report.html"])).expect(0);
    assert!(written.stderr.starts_with("wrote report.html ("), "{}", written.stderr);
    assert!(!written.stderr.contains("warning"), "{}", written.stderr);
    let page = std::fs::read_to_string(project.path("report.html")).unwrap();
    assert!(page.len() < 3_000_000, "{} bytes", page.len());
    for words in [
        "Accuracy by method and task",
        "training tokens",
        "mind beats the best baseline in distribution",
        "The assistant's story: mind",
        "data:image&#x2f;svg+xml,",
        "questions are kept, with",
        "data-column=\"calendar\"",
        "data-perspective=\"",
        "student[method=mind,seed=2]",
    ] {
        assert!(page.contains(words), "no `{words}` in the report");
    }
    assert!(!page.contains("Not complete"));
    // Nothing in it is loaded from anywhere.
    for address in ["src=\"http", "href=\"http", "url(http", "@import", "<link"] {
        assert!(!page.contains(address), "{address}");
    }
    let again = project.run(&arguments("report", &["-o", "-"])).expect(0);
    assert!(again.stdout == page, "two reports of one state differ");

    let runs = project.run(&["runs"]).expect(0).stdout;
    let ids: Vec<&str> = runs.lines().map(|line| line.split(' ').next().unwrap()).collect();
    let [first, changed] = ids[..] else { panic!("{runs}") };
    let diff = project.run(&["diff", first, changed]).expect(0).stdout;
    assert!(diff.contains("\n  student (8 cells)\n    learning_rate: 0.002 -> 0.003\n"), "{diff}");
    assert!(diff.contains("other inputs only: "), "{diff}");
    assert!(diff.contains("\ntables.main\n"), "{diff}");
    assert!(diff.contains("model of student (6)"), "{diff}");
    assert!(!diff.contains("only in"), "{diff}");
    let same = project.run(&["diff", first, first]).expect(0).stdout;
    assert!(same.contains("no difference"), "{same}");
    let unknown = project.run(&["diff", first, "yesterday"]).expect(2).stderr;
    assert!(unknown.contains("there is no run `yesterday`"), "{unknown}");
}

/// `ask` and `export`, where a finished pipeline has left models.
fn models_are_asked_and_exported(project: &Project) {
    const CELL: &str = "student[method=mind,seed=1]";
    let copied = project.run(&arguments("export", &[CELL, "out"])).expect(0);
    assert!(copied.stderr.contains("wrote out ("), "{}", copied.stderr);
    for file in ["config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"] {
        assert!(project.path("out").join(file).is_file(), "no {file}");
    }
    let again = project.run(&arguments("export", &[CELL, "out"])).expect(2);
    assert!(again.stderr.contains("`out` is not empty"), "{}", again.stderr);
    let other =
        project.run(&arguments("export", &["scores[method=mind,seed=1,task=arithmetic]", "o"])).expect(2);
    assert!(other.stderr.contains("holds no model"), "{}", other.stderr);
    assert!(other.stderr.contains("`student["), "{}", other.stderr);
    let several = project.run(&arguments("export", &["student[method=mind]", "o"])).expect(2);
    assert!(several.stderr.contains("means several models"), "{}", several.stderr);

    let options = ["--task", "arithmetic", "--max-new-tokens", "5"];
    let ask = |words: &[&str], more: &[&str]| {
        let words = [&["ask"][..], words, &options, more].concat();
        project.run(&words)
    };
    let greedy = ask(&["out", "1 + 1?"], &[]).expect(0);
    assert!(greedy.stdout.ends_with('\n'), "{}", greedy.stdout);
    assert!(greedy.stderr.is_empty() || greedy.stderr.contains("cut at 5 tokens"), "{}", greedy.stderr);
    let mut words = arguments("ask", &[CELL, "1 + 1?"]);
    words.extend(options);
    assert_eq!(project.run(&words).expect(0).stdout, greedy.stdout);
    let drawn =
        |seed: &str| ask(&["out", "1 + 1?"], &["--temperature", "2", "--seed", seed]).expect(0).stdout;
    assert_eq!(drawn("1"), drawn("1"));
    assert!((2..9).any(|seed| drawn(&seed.to_string()) != drawn("1")));
    ask(&["out", "1 + 1?"], &["--backend", "abacus"]).expect(2);
    ask(&["nowhere", "1 + 1?"], &[]).expect(2);
    project.run(&["ask", "out", "?", "--task", "poetry"]).expect(2);
}

#[test]
fn a_killed_pipeline_ends_in_the_same_table() {
    let whole = Project::retort();
    let table = run(&whole, &[]).stdout;

    let project = Project::retort();
    for kill in 0..5 {
        let mut child = project.start(&arguments("run", &[]));
        std::thread::sleep(std::time::Duration::from_millis(150 + 330 * kill));
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
    }
    assert_eq!(run(&project, &[]).stdout, table);
    let finished = project.finished_in(".retort");
    let twice: Vec<_> = finished.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "finished twice: {twice:?}");
}

#[test]
fn threads_do_not_change_results() {
    let table = |jobs: &str| {
        let project = Project::retort();
        let stdout = run(&project, &["--jobs", jobs]).stdout;
        let model =
            project.run(&arguments("show", &["student[method=mind,seed=1]:model", "--path"])).expect(0);
        // The folder's name is the digest of its content.
        (stdout, model.stdout.trim().rsplit('/').next().unwrap().to_owned())
    };
    assert_eq!(table("1"), table("3"));
}
