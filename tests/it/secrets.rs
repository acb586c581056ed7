//! Invariant 9: a secret never reaches a recipe, an artifact, a log or a report.
#![expect(clippy::print_stdout, reason = "figures for people")]

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex},
};

use chat::bench::{Asked, Reply, Server};

use crate::{
    endpoint::recipe,
    project::{Finished, Project, files_below},
};

const VARIABLE: &str = "RETORT_TEST_KEY";
const KEY: &str = "sk-test-Zq8vT1mXw4Rb7Yc2Nd9Lk3Hs6";

/// Whether any six characters of the key's random part are in it: a hexadecimal dump would break longer ones up.
fn gives_away(bytes: &[u8]) -> bool {
    let parts = KEY.as_bytes()["sk-test-".len()..].windows(6);
    parts.into_iter().any(|part| bytes.windows(part.len()).any(|window| window == part))
}

fn run(project: &Project, arguments: &[&str]) -> Finished {
    let mut command = project.command(arguments);
    // As much as the log can say.
    let output = command.env(VARIABLE, KEY).env("RETORT_LOG", "trace").output().unwrap();
    Finished {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    }
}

/// The words of the request's key, which must have arrived.
fn seen(asked: &Asked) -> String {
    let seen = asked.authorization.clone().unwrap_or_default();
    assert_eq!(seen, format!("Bearer {KEY}"), "the key did not arrive");
    seen
}

/// Refuses at first, with the key in its words; a completion then repeats the key as well. Teacher and judge ask it:
/// one perspective is right by the answers given, the other only by the judge's second opinion.
fn echo(asked: &Asked, answers: &BTreeMap<String, String>) -> Reply {
    let seen = seen(asked);
    match asked.before {
        0 => Reply::Status(500, Vec::new(), format!("{{\"error\": {{\"message\": \"bad key {seen}\"}}}}")),
        1 => Reply::Status(503, Vec::new(), format!("{}{seen}", "x".repeat(280))),
        _ if asked.prompt.starts_with("You compare") => Reply::Good(format!("yes {seen}")),
        _ if asked.prompt.contains("dialogue with yourself") => {
            Reply::Good(format!("You sent {seen}. The answer is \\boxed{{as said}}"))
        }
        _ => {
            let answer = answers.iter().find(|(question, _)| asked.prompt.contains(*question));
            Reply::Good(format!("Your key is {seen}. The answer is \\boxed{{{}}}", answer.unwrap().1))
        }
    }
}

#[test]
fn the_key_is_in_no_file_and_in_no_output() {
    let project = Project::retort();
    let answers: Arc<Mutex<BTreeMap<String, String>>> = Arc::default();
    let known = Arc::clone(&answers);
    let server = Server::start(move |asked: &Asked| echo(asked, &known.lock().unwrap())).unwrap();
    let more = format!("          api_key_env: {VARIABLE}\n");
    let llm = format!(
        "{{base_url: {}, model: j, api_key_env: {VARIABLE}, retry: {{first_wait: 0.001}}}}",
        server.base_url()
    );
    let judge = "accepted: {uses: judge, needs: {completions: rationales}";
    let text = recipe(&server, 4, &more).replace(judge, &format!("{judge}, with: {{llm: {llm}}}"));
    project.write("recipe.yaml", &text);
    run(&project, &["run", "recipe.yaml", "questions"]).expect(0);
    let questions = run(&project, &["show", "recipe.yaml", "questions", "--path"]).expect(0).stdout;
    for line in std::fs::read_to_string(format!("{}/questions.jsonl", questions.trim())).unwrap().lines() {
        let line: serde_json::Value = serde_json::from_str(line).unwrap();
        let text = |key: &str| line[key].as_str().unwrap().to_owned();
        answers.lock().unwrap().insert(text("question"), text("answer"));
    }
    let mut said = Vec::new();
    for (code, arguments) in [
        (0, &["check", "recipe.yaml"][..]),
        (4, &["plan", "recipe.yaml", "--json"]),
        (0, &["run", "recipe.yaml"]),
        (0, &["plan", "recipe.yaml", "--all"]),
        (0, &["show", "recipe.yaml", "rationales", "-n", "99"]),
        (0, &["show", "recipe.yaml", "accepted", "-n", "99"]),
        (0, &["why", "recipe.yaml", "rationales"]),
        (0, &["graph", "recipe.yaml", "--format", "svg"]),
        (0, &["runs"]),
        (0, &["logs"]),
        (0, &["logs", "--json"]),
        (0, &["kinds", "teacher"]),
        (0, &["gc", "--dry-run"]),
    ] {
        said.push((arguments, run(&project, arguments).expect(code)));
    }
    assert!(said[2].1.stderr.contains("bad key Bearer [RETORT_TEST_KEY]"), "{}", said[2].1.stderr);
    assert!(said[2].1.stderr.contains("second opinions: 4 of 4 accepted"), "{}", said[2].1.stderr);
    assert!(said[4].1.stdout.contains("Your key is Bearer [RETORT_TEST_KEY]."), "{}", said[4].1.stdout);
    assert!(said[5].1.stdout.contains("You sent Bearer [RETORT_TEST_KEY]."), "{}", said[5].1.stdout);
    let (mut outputs, mut files, mut bytes) = (0, 0, 0);
    for (arguments, finished) in &said {
        for text in [&finished.stdout, &finished.stderr] {
            assert!(!gives_away(text.as_bytes()), "{arguments:?} says the key:\n{text}");
            outputs += 1;
            bytes += text.len();
        }
    }
    // Every file below the project but the recipe the test wrote, names included.
    for path in files_below(&project.path("")) {
        let content = std::fs::read(&path).unwrap();
        let name = path.as_os_str().as_encoded_bytes();
        assert!(!gives_away(&content) && !gives_away(name), "{} holds the key", path.display());
        files += 1;
        bytes += content.len();
    }
    println!("searched {files} files and {outputs} outputs, {bytes} bytes: the key is in none");
    assert!(files > 10, "only {files} files searched");

    // A server that only refuses: the error that ends the run has its words without the key.
    let server = Server::start(|asked: &Asked| {
        let seen = seen(asked);
        let body = format!("{{\"error\": {{\"message\": \"Incorrect API key provided: {seen}\"}}}}");
        Reply::Status(401, Vec::new(), body)
    })
    .unwrap();
    project.write("recipe.yaml", &recipe(&server, 5, &more));
    let refused = run(&project, &["run", "recipe.yaml", "rationales"]).expect(3);
    assert!(refused.stderr.contains("Incorrect API key provided: Bearer [RETORT_TEST_KEY]"));
    assert!(!gives_away(refused.stderr.as_bytes()), "{}", refused.stderr);
    let logs = run(&project, &["logs", "--json"]).expect(0).stdout;
    assert!(logs.contains("[RETORT_TEST_KEY]") && !gives_away(logs.as_bytes()), "{logs}");
}

#[test]
fn a_missing_key_is_said_before_anything_runs_and_a_plan_needs_none() {
    let project = Project::retort();
    let server = Server::start(|_: &Asked| panic!("nothing is to be asked")).unwrap();
    project.write("recipe.yaml", &recipe(&server, 4, &format!("          api_key_env: {VARIABLE}\n")));
    let error = format!("stage `rationales` needs a secret: environment variable `{VARIABLE}` is not set");
    let help = format!("help: `export {VARIABLE}=...` before the command; a key never stands in a recipe");
    let run = project.run(&["run", "recipe.yaml"]).expect(2);
    assert_eq!(run.stderr, format!("error: {error}\n{help}\n"));
    assert_eq!((server.asked(), project.finished_in(".retort").len()), (0, 0));
    let plan = project.run(&["plan", "recipe.yaml"]).expect(4);
    assert_eq!(plan.stderr, format!("warning: {error}\n{help}\n"));
    assert!(plan.stdout.contains("costs  rationales: 8 calls"), "{}", plan.stdout);
    // What needs no key runs without.
    project.run(&["run", "recipe.yaml", "questions"]).expect(0);
    // A key in the place of its variable's name is refused.
    project.write("recipe.yaml", &recipe(&server, 4, "          api_key_env: sk-proj-0123456789\n"));
    let wrong = project.run(&["check", "recipe.yaml"]).expect(2).stderr;
    assert!(wrong.contains("must be the name of an environment variable, not a key"), "{wrong}");
}
