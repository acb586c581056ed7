//! Every recipe in the repository makes a graph.

use std::path::Path;

use crate::project::{Project, files_below};

#[test]
fn every_recipe_checks() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let project = Project::retort();
    let (custom, resumable) = (Project::custom(), Project::resumable());
    let mut found = 0;
    for folder in ["recipes", "examples"] {
        for path in files_below(&root.join(folder)) {
            let yaml = path.extension().is_some_and(|extension| extension == "yaml");
            // Data lies beside recipes.
            if !yaml {
                continue;
            }
            found += 1;
            let project = match path.file_name().unwrap().to_str() {
                Some("custom-kind.yaml") => &custom,
                Some("resumable-kind.yaml") => &resumable,
                _ => &project,
            };
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("# "), "{} has no header", path.display());
            let path = path.to_str().unwrap();
            if text.contains("data: null") {
                // Needs files of the user's: without them it says so, and nothing else is wrong.
                let checked = project.run(&["check", path]).expect(2);
                assert!(checked.stderr.contains("variable `data` has no value"), "{}", checked.stderr);
                assert!(checked.stderr.contains("--set vars.data="), "{}", checked.stderr);
                if let Ok(data) = std::env::var("RETORT_SHARED_DATA") {
                    project.run(&["check", path, "--set", &format!("vars.data={data}")]).expect(0);
                }
            } else {
                project.run(&["check", path]).expect(0);
            }
        }
    }
    assert!(found >= 4, "only {found} recipes found");
}

#[test]
fn the_example_folder_runs_where_a_user_copies_it() {
    let project = Project::retort();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/quickstart");
    for path in files_below(&example) {
        std::fs::copy(&path, project.path(path.file_name().unwrap().to_str().unwrap())).unwrap();
    }
    let run = project.run(&["run", "recipe.yaml"]).expect(0);
    assert!(run.stdout.contains("undistilled") && run.stdout.contains("uniform"), "{}", run.stdout);
    // One rationale in the file is wrong, and the judge says so.
    let judged = project.run(&["show", "recipe.yaml", "accepted:judgements", "-n", "99"]).expect(0);
    assert_eq!(judged.stdout.matches("outcome: wrong").count(), 1, "{}", judged.stdout);
}
