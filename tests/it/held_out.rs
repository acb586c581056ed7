//! Test questions in a train file: found whatever their form, and left out where the recipe says so.

use std::fmt::Write as _;

use crate::project::Project;

/// A recipe whose train file is `train`; `needs` is what its questions need.
fn recipe(train: &str, needs: &str) -> String {
    format!(
        "recipe: held-out
stages:
  questions: {{uses: dataset, needs: {{{needs}}}, with: {{task: svamp, split: train, path: {train}}}}}
  test: {{uses: dataset, with: {{task: svamp, split: test, path: test.jsonl}}}}
  base:
    uses: model
    needs: {{corpus: questions}}
    with:
      source:
        scratch:
          hidden_size: 16
          num_hidden_layers: 1
          num_attention_heads: 2
          vocab_size: 300
          pretrain: {{steps: 2, batch_size: 4}}
  scores: {{uses: evaluate, needs: {{model: base, questions: test}}, with: {{max_new_tokens: 4}}}}
"
    )
}

fn row(id: &str, count: usize) -> String {
    format!(
        "{{\"id\": \"{id}\", \"question\": \"Ann has {count} apples. How many?\", \"answer\": \"{count}\"}}\n"
    )
}

fn rows(prefix: &str, counts: std::ops::Range<usize>) -> Vec<String> {
    counts.map(|count| row(&format!("{prefix}{count}"), count)).collect()
}

fn project() -> Project {
    let project = Project::retort();
    project.write("test.jsonl", &rows("t", 0..20).concat());
    project
}

#[test]
fn no_copy_of_a_test_file_is_trained_on() {
    let project = project();
    let test = rows("t", 0..20);
    let reversed: String = test.iter().rev().cloned().collect();
    let renamed = rows("other", 0..20).concat().replace("Ann", "ANN").replace("has", " has ");
    let mut csv = "answer,id,question\n".to_owned();
    for count in 0..20 {
        writeln!(csv, "{count},c{count},Ann has {count} apples. How many?").unwrap();
    }
    for (name, text, shared) in [
        ("newline.jsonl", test.concat() + "\n", 20),
        ("reversed.jsonl", reversed, 20),
        ("most.jsonl", test[..19].concat(), 19),
        ("one.jsonl", rows("o", 19..60).concat(), 1),
        ("renamed.jsonl", renamed, 20),
        ("table.csv", csv, 20),
    ] {
        project.write(name, &text);
        project.write("recipe.yaml", &recipe(name, ""));
        for command in ["check", "plan", "run"] {
            let refused = project.run(&[command, "recipe.yaml"]).expect(2);
            let told = format!("`questions` reads {shared} of these 20 questions, ");
            assert!(refused.stderr.contains(&told), "{name}: {}", refused.stderr);
        }
    }
    project.write("apart.jsonl", &rows("a", 20..40).concat());
    project.write("recipe.yaml", &recipe("apart.jsonl", ""));
    project.run(&["check", "recipe.yaml"]).expect(0);
}

#[test]
fn test_questions_in_a_train_file_are_left_out_on_request() {
    let project = project();
    project.write("train.jsonl", &rows("a", 15..40).concat());
    project.write("recipe.yaml", &recipe("train.jsonl", ""));
    let refused = project.run(&["check", "recipe.yaml"]).expect(2);
    assert!(refused.stderr.contains("`needs: {without: test}` in stage `questions`"), "{}", refused.stderr);

    project.write("recipe.yaml", &recipe("train.jsonl", "without: test"));
    let run = project.run(&["run", "recipe.yaml"]).expect(0);
    assert!(run.stderr.contains("5 of 25 questions are left out"), "{}", run.stderr);
    let shown = project.run(&["show", "recipe.yaml", "questions", "-n", "all"]).expect(0);
    assert!(shown.stdout.contains("Ann has 20 apples"), "{}", shown.stdout);
    assert!(!shown.stdout.contains("Ann has 19 apples"), "{}", shown.stdout);

    // Another test file, which nobody leaves out, is found as before.
    project.write("other.jsonl", &rows("o", 30..33).concat());
    let other = "  other: {uses: dataset, with: {task: svamp, split: test, path: other.jsonl}}\n";
    project.write("recipe.yaml", &(recipe("train.jsonl", "without: test") + other));
    let refused = project.run(&["check", "recipe.yaml"]).expect(2);
    assert!(refused.stderr.contains("`questions` reads 3 of these 3 questions"), "{}", refused.stderr);
}

#[test]
fn what_is_left_of_a_test_file_may_be_taught() {
    let project = project();
    let recipe = recipe("test.jsonl", "without: test").replace("split: test, ", "split: test, count: 5, ");
    project.write("recipe.yaml", &recipe);
    let run = project.run(&["run", "recipe.yaml"]).expect(0);
    assert!(run.stderr.contains("5 of 20 questions are left out"), "{}", run.stderr);
}
