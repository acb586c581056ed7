//! Held-out questions of a user's own file, from the file to the table: no word of them is kept in plain text.

use crate::project::{Project, files_below};

/// Words that stand in the questions and choices of the file, and nowhere else.
const WORDS: [&str; 6] = ["zorblatt", "flumph", "wibble", "snark", "boojum", "jabberwock"];

const FILE: &str = "\
Record ID,Question,Correct Answer,Incorrect Answer 1,Incorrect Answer 2,Incorrect Answer 3
r1,Which zorblatt decays first?,the flumph,the wibble,the snark,the boojum
r2,\"Which jabberwock, if any,
is heavier?\",a snark,a boojum,a flumph,a wibble
r3,Where is the zorblatt?,in a boojum,in a snark,in a wibble,in a flumph
";

const RECIPE: &str = r#"
recipe: sealed
matrix: {method: [plain]}
stages:
  questions: {uses: dataset, with: {task: arithmetic, split: train, count: 6}}
  held-out: {uses: dataset, with: {task: gpqa-diamond, split: test, path: gpqa_diamond.csv}}
  base:
    uses: model
    needs: {corpus: questions}
    with:
      source:
        scratch:
          hidden_size: 16
          num_hidden_layers: 1
          num_attention_heads: 2
          vocab_size: 300
          pretrain: {steps: 2, batch_size: 2}
  scores:
    uses: evaluate
    matrix: [method]
    needs: {model: base, questions: held-out}
    with: {max_new_tokens: 8, profile: simple_evals, sampling: {samples: 2}}
tables:
  main: {from: scores, rows: method, columns: task}
  votes: {from: scores, rows: method, columns: task, value: maj@2}
"#;

fn words_in(bytes: &[u8]) -> Vec<&'static str> {
    let holds =
        |word: &&str| bytes.windows(word.len()).any(|window| window.eq_ignore_ascii_case(word.as_bytes()));
    WORDS.into_iter().filter(holds).collect()
}

#[test]
fn sealed_questions_are_scored_and_never_written_out() {
    let project = Project::retort();
    project.write("gpqa_diamond.csv", FILE);
    project.write("recipe.yaml", RECIPE);
    let mut said = Vec::new();
    let mut run = |code: i32, arguments: &[&str]| {
        let mut command = project.command(arguments);
        let output = command.env("RETORT_LOG", "trace").output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", String::from_utf8_lossy(&output.stderr));
        said.push([output.stdout.clone(), output.stderr].concat());
        String::from_utf8(output.stdout).unwrap()
    };
    run(4, &["plan", "recipe.yaml"]);
    let table = run(0, &["run", "recipe.yaml"]);
    assert!(table.contains("gpqa-diamond") && table.contains("scoring profile simple_evals"), "{table}");
    assert!(table.contains("maj@2 in %"), "{table}");
    run(0, &["show", "recipe.yaml", "scores", "-n", "9"]);
    run(0, &["logs", "--json"]);
    run(0, &["table", "recipe.yaml", "--format", "json"]);
    let shown = run(0, &["show", "recipe.yaml", "held-out", "-n", "9"]);
    // The order of simple-evals: [3, 1, 0, 2], [3, 1, 2, 0], [2, 3, 0, 1].
    let letters: Vec<&str> = shown
        .lines()
        .filter_map(|line| line.trim_start_matches(['-', ' ']).strip_prefix("answer: "))
        .collect();
    assert_eq!(letters, ["C", "D", "C"], "{shown}");

    for text in &said {
        assert_eq!(words_in(text), [""; 0], "{}", String::from_utf8_lossy(text));
    }
    let own = [project.path("gpqa_diamond.csv"), project.path("recipe.yaml")];
    let files = files_below(&project.path(""));
    assert!(files.len() > 15, "only {} files", files.len());
    for path in files.iter().filter(|path| !own.contains(path)) {
        assert_eq!(words_in(&std::fs::read(path).unwrap()), [""; 0], "{}", path.display());
    }
    // The words are there, sealed: the search would have found them.
    let sealed: String = "zorblatt".bytes().map(|byte| format!("{byte:02x}")).collect();
    let held =
        |path: &std::path::PathBuf| String::from_utf8_lossy(&std::fs::read(path).unwrap()).contains(&sealed);
    assert!(files.iter().any(held));
    assert_eq!(words_in(FILE.as_bytes()), WORDS);

    // A broken file is told by its line alone.
    project.write("gpqa_diamond.csv", &format!("{FILE}r4,What is a snark?,a boojum\n"));
    let broken = project.run(&["run", "recipe.yaml", "held-out"]).expect(3);
    assert!(broken.stderr.contains("gpqa_diamond.csv` line 6"), "{}", broken.stderr);
    assert_eq!(words_in(broken.stderr.as_bytes()), [""; 0], "{}", broken.stderr);
}
