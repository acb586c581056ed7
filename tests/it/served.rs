//! `retort serve` as a process of its own: asked over the wire, by the teacher's client, and ended by Ctrl-C.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    process::{Child, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use crate::project::Project;

/// A base model that has learnt next to nothing, and a teacher that asks whatever is served.
const RECIPE: &str = r#"
recipe: served
vars: {base_url: "http://127.0.0.1:9/v1"}
stages:
  questions: {uses: dataset, with: {task: arithmetic, split: train, count: 6}}
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
  rationales:
    uses: teacher
    needs: {questions: questions}
    with:
      perspectives: [planning, socratic]
      provider: {openai: {base_url: "${base_url}", model: base, max_tokens: 12, retry: {times: 0}}}
"#;

/// A server that is killed with the test.
struct Served {
    child: Child,
    /// Where it listens: `http://127.0.0.1:PORT/v1`.
    url: String,
}

impl Served {
    fn start(project: &Project, arguments: &[&str]) -> Self {
        let mut command = project.command(arguments);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut url = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut url).unwrap();
        Self { child, url: url.trim().to_owned() }
    }

    /// The status line and the body of a reply.
    fn post(&self, path: &str, body: &Value) -> (String, Value) {
        let (address, base) = self.url.strip_prefix("http://").unwrap().split_once('/').unwrap();
        let mut stream = TcpStream::connect(address).unwrap();
        let body = body.to_string();
        let head =
            format!("POST /{base}{path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}", body.len());
        write!(stream, "{head}\r\n\r\n{body}").unwrap();
        let mut reply = String::new();
        stream.read_to_string(&mut reply).unwrap();
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        (head.lines().next().unwrap().to_owned(), serde_json::from_str(body).unwrap())
    }

    /// Its exit code after a Ctrl-C, and what it said on stderr.
    fn interrupt(mut self) -> (Option<i32>, String) {
        kill_process(Pid::from_child(&self.child), Signal::INT).unwrap();
        let code = self.child.wait().unwrap().code();
        let mut said = String::new();
        self.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        (code, said)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn a_model_of_a_recipe_is_served_until_ctrl_c() {
    let project = Project::retort();
    project.write("recipe.yaml", RECIPE);
    let unmade = project.run(&["serve", "recipe.yaml", "base", "--port", "0"]).expect(2);
    assert!(unmade.stderr.contains("`base` has no result yet"), "{}", unmade.stderr);
    project.run(&["run", "recipe.yaml", "base"]).expect(0);
    let served = Served::start(&project, &["serve", "recipe.yaml", "base", "--port", "0"]);
    assert!(served.url.starts_with("http://127.0.0.1:"), "{}", served.url);

    let body = json!({
        "model": "base", "messages": [{"role": "user", "content": "What is 1 + 1?"}], "temperature": 0,
        "max_tokens": 5,
    });
    let (status, reply) = served.post("/chat/completions", &body);
    assert_eq!(status, "HTTP/1.1 200 OK", "{reply}");
    assert_eq!(reply["choices"][0]["message"]["role"], "assistant");
    let tokens = reply["usage"]["completion_tokens"].as_u64().unwrap();
    assert!((1..=5).contains(&tokens), "{reply}");
    let (status, reply) = served.post("/chat/completions", &json!({"model": "bse", "messages": []}));
    assert_eq!(status, "HTTP/1.1 404 Not Found", "{reply}");

    // Another process, whose port is taken, says so and ends.
    let port = served.url.trim_end_matches("/v1").rsplit_once(':').unwrap().1.to_owned();
    let taken = project.run(&["serve", "recipe.yaml", "base", "--port", &port]).expect(3);
    assert!(taken.stderr.contains("help: name another `--port`"), "{}", taken.stderr);

    let run = ["run", "recipe.yaml", "rationales", "--set", &format!("vars.base_url={}", served.url)];
    let run = project.run(&run).expect(0);
    assert!(run.stderr.contains("done   rationales"), "{}", run.stderr);
    let shown = project.run(&["show", "recipe.yaml", "rationales:usage"]).expect(0);
    assert!(shown.stdout.contains("\"completions\": 12"), "{}", shown.stdout);

    let url = served.url.clone();
    let (code, said) = served.interrupt();
    assert_eq!(code, Some(0), "{said}");
    let lines: Vec<&str> = said.lines().collect();
    let serving = format!("serving `base` at {url}; Ctrl-C ends it");
    assert_eq!(lines, [&serving, "stopping; press Ctrl-C again to stop at once"]);
    let address = url.trim_start_matches("http://").trim_end_matches("/v1").to_owned();
    assert!(TcpStream::connect(address).is_err(), "nothing listens any more");
}
