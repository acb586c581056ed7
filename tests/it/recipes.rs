//! Every recipe in the repository makes a graph.

use std::path::Path;

use crate::project::{Project, files_below};

#[test]
fn every_recipe_checks() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let project = Project::retort();
    let custom = Project::custom();
    let mut found = 0;
    for folder in ["recipes", "examples"] {
        for path in files_below(&root.join(folder)) {
            let yaml = path.extension().is_some_and(|extension| extension == "yaml");
            // Perspectives and data lie beside recipes.
            if !yaml {
                continue;
            }
            found += 1;
            let project = if path.ends_with("custom-kind.yaml") { &custom } else { &project };
            let text = std::fs::read_to_string(&path).unwrap();
            assert!(text.starts_with("# "), "{} has no header", path.display());
            let path = path.to_str().unwrap();
            if text.contains("vars: {data: null}") {
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
    assert!(found >= 3, "only {found} recipes found");
}
