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
                // With files of these names it makes a plan, and nothing is read, asked or downloaded for that.
                let data = place_data(project);
                let (data, bert) = (format!("vars.data={data}"), format!("vars.bert={data}/bert"));
                let plan = project.run(&["plan", path, "--set", &data, "--set", &bert]).expect(4);
                assert!(plan.stdout.contains("never run"), "{}", plan.stdout);
            } else {
                project.run(&["check", path]).expect(0);
            }
        }
    }
    assert!(found >= 12, "only {found} recipes found");
}

#[test]
fn what_all_methods_share_is_computed_once() {
    let recipe = Path::new(env!("CARGO_MANIFEST_DIR")).join("recipes/mind.yaml");
    let plan = Project::retort().run(&["plan", recipe.to_str().unwrap(), "--json"]).expect(4);
    let plan: serde_json::Value = serde_json::from_str(&plan.stdout).unwrap();
    let cells = |stage: &str| {
        let of_stage = |cell: &&serde_json::Value| {
            let name = cell["cell"].as_str().unwrap();
            name.split_once('[').map_or(name, |(stage, _)| stage) == stage
        };
        plan["cells"].as_array().unwrap().iter().filter(of_stage).count()
    };
    for stage in ["rationales", "accepted", "base", "assistant"] {
        assert_eq!(cells(stage), 1, "{stage}");
    }
    assert_eq!((cells("student"), cells("expert"), cells("scores")), (8 * 3, 8 * 3, 8 * 3 * 3));
}

/// The files that recipes ask for, each with one question.
fn place_data(project: &Project) -> String {
    let row = "{\"id\": \"1\", \"question\": \"1 + 1?\", \"answer\": \"2\"}\n";
    let folders = ["gsm8k", "svamp", "math500", "csqa", "strategyqa"];
    let splits = ["train", "test"];
    for (folder, split) in folders.iter().flat_map(|folder| splits.map(|split| (folder, split))) {
        let path = project.path(&format!("data/{folder}/{split}.jsonl"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, row.replace("1 + 1", &format!("{folder}, {split}"))).unwrap();
    }
    for (name, text) in [
        ("gpqa/gpqa_diamond.csv", "Question,Correct Answer\n"),
        ("perspectives/rationales.jsonl", "{\"id\": \"1\", \"rationales\": []}\n"),
        ("bert/config.json", "{}\n"),
    ] {
        let path = project.path(&format!("data/{name}"));
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    project.path("data").to_str().unwrap().to_owned()
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
