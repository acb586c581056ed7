//! Two runs on one store, and kills in the middle.

use crate::project::Project;

fn recipe(cells: usize) -> String {
    let names: Vec<String> = (0..cells).map(|name| name.to_string()).collect();
    format!(
        "recipe: shared\nmatrix: {{n: [{}]}}\nstages:\n\
         \x20 a: {{uses: text, matrix: [n], with: {{text: \"n ${{n}}\", times: 2000}}}}\n\
         \x20 b: {{uses: text, matrix: [n], needs: {{before: a}}, with: {{text: \"... b\"}}}}\n\
         \x20 all: {{uses: text, needs: {{before: b}}, with: {{text: \"... end\"}}}}\n",
        names.join(", ")
    )
}

#[test]
fn two_runs_at_once_share_the_work() {
    let project = Project::custom();
    project.write("recipe.yaml", &recipe(60));
    let mut children: Vec<_> = (0..2).map(|_| project.start(&["run", "recipe.yaml"])).collect();
    for child in &mut children {
        assert!(child.wait().unwrap().success());
    }
    let finished = project.finished_in(".retort");
    assert_eq!(finished.len(), 121);
    let twice: Vec<_> = finished.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "computed twice: {twice:?}");
}

#[test]
fn killed_runs_leave_nothing_partial_and_lose_nothing_finished() {
    let project = Project::custom();
    project.write("recipe.yaml", &recipe(40));
    project.run(&["run", "recipe.yaml", "--store", "whole"]).expect(0);
    let whole = project.run(&["show", "recipe.yaml", "all", "--store", "whole", "--path"]).expect(0);
    for kill in 0..8 {
        let mut child = project.start(&["run", "recipe.yaml"]);
        std::thread::sleep(std::time::Duration::from_millis(20 + 17 * kill));
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
    }
    project.run(&["run", "recipe.yaml"]).expect(0);
    let pieces = project.run(&["show", "recipe.yaml", "all", "--path"]).expect(0);
    // The folder's name is the digest of its content.
    let digest = |path: &str| path.trim().rsplit('/').next().unwrap().to_owned();
    assert_eq!(digest(&pieces.stdout), digest(&whole.stdout));
    let finished = project.finished_in(".retort");
    let twice: Vec<_> = finished.iter().filter(|(_, count)| **count > 1).collect();
    assert!(twice.is_empty(), "finished twice: {twice:?}");
    project.run(&["gc"]).expect(0);
    assert_eq!(std::fs::read_dir(project.path(".retort/staging")).unwrap().count(), 0);
    project.run(&["plan", "recipe.yaml"]).expect(0);
}

#[test]
fn gc_keeps_the_latest_state_and_removes_the_rest() {
    let project = Project::custom();
    project.write("recipe.yaml", &recipe(3));
    project.run(&["run", "recipe.yaml"]).expect(0);
    project.write("recipe.yaml", &recipe(3).replace("... b", "... c"));
    project.run(&["run", "recipe.yaml"]).expect(0);
    let dry = project.run(&["gc", "--dry-run"]).expect(0);
    assert_eq!(dry.stdout.matches("that no recipe's latest state needs").count(), 4, "{}", dry.stdout);
    assert_eq!(dry.stdout.matches("keep ").count(), 7, "{}", dry.stdout);
    // A dry run removes nothing: the old recipe is still there.
    project.write("old.yaml", &recipe(3));
    project.run(&["plan", "old.yaml"]).expect(0);
    project.run(&["gc"]).expect(0);
    project.run(&["plan", "recipe.yaml"]).expect(0);
    project.run(&["plan", "old.yaml"]).expect(4);
}

#[test]
fn gc_removes_checkpoints_that_no_next_attempt_wants() {
    let project = Project::custom();
    let recipe = |times: usize| {
        format!("recipe: failing\nstages:\n  a: {{uses: text, with: {{text: panic!, times: {times}}}}}\n")
    };
    let scratch = || -> Vec<std::path::PathBuf> {
        let entries = std::fs::read_dir(project.path(".retort/scratch")).unwrap();
        entries.map(|entry| entry.unwrap().path()).collect()
    };
    project.write("recipe.yaml", &recipe(1));
    project.run(&["run", "recipe.yaml"]).expect(3);
    let first = scratch();
    assert_eq!(first.len(), 1);
    std::fs::write(first[0].join("checkpoint"), "half way").unwrap();
    std::fs::create_dir(project.path(".retort/journals/text")).unwrap();
    let kept = project.run(&["gc", "--dry-run"]).expect(0).stdout;
    assert!(kept.contains("8 B  failing: a: its checkpoints, for the next attempt\n"), "{kept}");
    project.run(&["gc"]).expect(0);
    assert_eq!(scratch(), first, "the next attempt goes on from it");

    project.write("recipe.yaml", &recipe(2));
    project.run(&["run", "recipe.yaml"]).expect(3);
    let dry = project.run(&["gc", "--dry-run"]).expect(0).stdout;
    assert!(dry.contains(": checkpoints that no unfinished cell needs\n"), "{dry}");
    assert!(dry.contains("would free 8 B"), "{dry}");
    assert_eq!(scratch().len(), 2);
    project.run(&["gc"]).expect(0);
    assert_eq!(scratch().len(), 1);
    assert!(!first[0].exists());
    assert!(project.path(".retort/journals/text").is_dir());
}

#[test]
fn thousands_of_equal_cells_are_computed_once() {
    let project = Project::custom();
    let values: Vec<String> = (0..5000).map(|value| value.to_string()).collect();
    let stage = "{uses: text, matrix: [n], with: {text: the same}}";
    let recipe = format!("recipe: r\nmatrix: {{n: [{}]}}\nstages:\n  same: {stage}\n", values.join(", "));
    project.write("recipe.yaml", &recipe);
    let run = project.run(&["run", "recipe.yaml"]).expect(0);
    assert_eq!(run.ran().len(), 1);
    assert!(run.stderr.contains("\nran 1 cell, reused 4999, in "), "{}", run.stderr);
}

#[test]
fn gc_removes_what_a_killed_verify_left() {
    let project = Project::custom();
    project.write("recipe.yaml", &recipe(1));
    project.run(&["run", "recipe.yaml"]).expect(0);
    let left = project.path(".retort/verify/1234-0/objects");
    std::fs::create_dir_all(&left).unwrap();
    let collected = project.run(&["gc"]).expect(0).stdout;
    assert!(collected.contains("left behind by a `verify` that was killed"), "{collected}");
    assert!(!left.exists());
}
