//! Sampled answers of a built-in task, from the recipe to tables of every value.

use std::collections::BTreeMap;

use crate::project::Project;

const RECIPE: &str = r#"
recipe: sampled
seeds: [1, 2]
matrix: {method: [plain]}
stages:
  questions: {uses: dataset, with: {task: comparison, split: train, count: 12}}
  test: {uses: dataset, with: {task: comparison, split: test, count: 6}}
  base:
    uses: model
    matrix: [seed]
    needs: {corpus: questions}
    with:
      source:
        scratch:
          hidden_size: 32
          num_hidden_layers: 1
          num_attention_heads: 2
          vocab_size: 300
          pretrain: {steps: 10, batch_size: 8}
  scores:
    uses: evaluate
    matrix: [method, seed]
    needs: {model: base, questions: test}
    with: {max_new_tokens: 16, sampling: {samples: 4, pass_at: [1, 4]}}
tables:
  accuracy: {from: scores, rows: method, columns: task}
  pass: {from: scores, rows: method, columns: task, value: pass@4}
  one: {from: scores, rows: method, columns: task, value: pass@1}
  votes: {from: scores, rows: method, columns: task, value: maj@4}
  unparsed: {from: scores, rows: method, columns: task, value: unparsed}
  truncated: {from: scores, rows: method, columns: task, value: truncated}
  undecided: {from: scores, rows: method, columns: task, value: undecided}
"#;

#[test]
fn every_value_of_sampled_answers_has_its_table() {
    let project = Project::retort();
    project.write("recipe.yaml", RECIPE);
    let run = project.run(&["run", "recipe.yaml"]).expect(0);
    assert!(run.stdout.contains("pass@4 in %") && run.stdout.contains("maj@4 in %"), "{}", run.stdout);
    let shown =
        project.run(&["show", "recipe.yaml", "scores[method=plain,seed=1]", "--path"]).expect(0).stdout;
    let other =
        project.run(&["show", "recipe.yaml", "scores[method=plain,seed=2]", "--path"]).expect(0).stdout;
    let mut expected: BTreeMap<String, f64> = BTreeMap::new();
    for folder in [shown, other] {
        let scores = std::fs::read_to_string(format!("{}/scores.json", folder.trim())).unwrap();
        let scores: serde_json::Value = serde_json::from_str(&scores).unwrap();
        for (name, value) in scores["values"].as_object().unwrap() {
            *expected.entry(name.clone()).or_default() += value.as_f64().unwrap() / 2.0;
        }
    }
    for (table, value) in [
        ("accuracy", "accuracy"),
        ("pass", "pass@4"),
        ("one", "pass@1"),
        ("votes", "maj@4"),
        ("unparsed", "unparsed"),
        ("truncated", "truncated"),
        ("undecided", "undecided"),
    ] {
        let json = project.run(&["table", "recipe.yaml", table, "--format", "json"]).expect(0).stdout;
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        let cell = &json["rows"][0]["cells"][0];
        let mean = cell["mean"].as_f64().unwrap();
        assert!((mean - expected[value]).abs() < 1e-8, "{value}: {mean} is not {}", expected[value]);
        assert_eq!((&json["value"], cell["runs"].as_array().unwrap().len()), (&value.into(), 2));
        for rate in ["unparsed", "truncated", "undecided"] {
            assert!((cell[rate].as_f64().unwrap() - expected[rate]).abs() < 1e-8, "{rate} in {table}");
        }
    }
    assert!(expected["pass@4"] >= expected["pass@1"], "{expected:?}");

    // A value that no result has is refused with those there are; a misspelled one before anything runs.
    project.write("recipe.yaml", &RECIPE.replace("pass@4}", "pass@3}"));
    let wrong = project.run(&["run", "recipe.yaml", "pass"]).expect(3).stderr;
    assert!(wrong.contains("a result of stage `scores` has no value `pass@3`"), "{wrong}");
    assert!(wrong.contains("help: it has: accuracy, maj@4, pass@1, pass@4, "), "{wrong}");
    project.write("recipe.yaml", &RECIPE.replace("pass@4}", "pas@4}"));
    let wrong = project.run(&["check", "recipe.yaml"]).expect(2).stderr;
    assert!(wrong.contains("did you mean `pass@8`?"), "{wrong}");
}
