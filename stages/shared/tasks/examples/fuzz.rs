//! Throws odd texts at the scorer for as long as asked and reports the slowest.
//!
//! ```text
//! cargo run --release -p tasks --example fuzz -- MINUTES [SEED] [FILE.jsonl..]
//! ```
//!
//! Texts are random bytes, LaTeX soup, and mutations of both and of the strings in the files given. A panic ends
//! the run with the text that caused it; so does a text that takes more than 50 ms.
#![expect(clippy::print_stdout, reason = "a program for people")]

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    process::ExitCode,
    time::{Duration, Instant},
};

use contract::records::Question;
use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use tasks::{Profile, Task, fuzz::Generator};

/// What one text may take.
const LIMIT: Duration = Duration::from_millis(50);

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let minutes = arguments.next().and_then(|text| text.parse::<f64>().ok()).unwrap_or(1.0);
    let seed = arguments.next().and_then(|text| text.parse().ok()).unwrap_or(0);
    let mut corpus = Vec::new();
    for path in arguments {
        match std::fs::read_to_string(&path) {
            Ok(text) => corpus.extend(text.lines().flat_map(strings)),
            Err(error) => {
                println!("cannot read `{path}`: {error}");
                return ExitCode::from(2);
            }
        }
    }
    println!("{minutes} minutes, seed {seed}, {} corpus strings", corpus.len());
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let generator = Generator::new(corpus);
    let (start, mut inputs, mut slowest) = (Instant::now(), 0_u64, (Duration::ZERO, String::new()));
    while start.elapsed().as_secs_f64() < minutes * 60.0 {
        let (gold, text) = generator.pair(&mut rng);
        let any = *Task::ALL.choose(&mut rng).expect("there are tasks");
        let task = if rng.random() { Task::Math500 } else { any };
        let choices =
            if rng.random() { Vec::new() } else { vec!["paris".to_owned(), gold.clone(), String::new()] };
        // Half of the texts are for the default profile, whose comparison goes deepest.
        let any = *Profile::ALL.choose(&mut rng).expect("there are profiles");
        let profile = if rng.random() { Profile::Mind } else { any };
        let question = Question {
            id: "fuzz".into(),
            task: task.name().into(),
            question: String::new(),
            answer: gold,
            choices,
            facts: None,
        };
        let before = Instant::now();
        let scored = catch_unwind(AssertUnwindSafe(|| profile.score(&question, &text)));
        let mut took = before.elapsed();
        for _ in 0..10 {
            if took <= LIMIT / 10 || scored.is_err() {
                break;
            }
            // Again, as another process may have had the processor.
            let before = Instant::now();
            profile.score(&question, &text);
            took = took.min(before.elapsed());
        }
        inputs += 1;
        if took > slowest.0 {
            slowest = (took, format!("{profile} {} gold {:?} text {text:?}", question.task, question.answer));
        }
        if scored.is_err() || took > LIMIT {
            let what = if scored.is_err() { "a panic" } else { "too slow" };
            println!(
                "{what} after {inputs} inputs, {took:?}: {profile} {} gold {:?} text {text:?}",
                question.task, question.answer
            );
            return ExitCode::FAILURE;
        }
    }
    let shown: String = slowest.1.chars().take(600).collect();
    println!("{inputs} inputs without a panic; the slowest took {:?}: {shown}", slowest.0);
    ExitCode::SUCCESS
}

/// Every string in a line of JSON.
fn strings(line: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut queue: Vec<serde_json::Value> = serde_json::from_str(line).into_iter().collect();
    while let Some(value) = queue.pop() {
        match value {
            serde_json::Value::String(text) => found.push(text),
            serde_json::Value::Array(items) => queue.extend(items),
            serde_json::Value::Object(fields) => queue.extend(fields.into_iter().map(|(_, value)| value)),
            serde_json::Value::Null | serde_json::Value::Bool(_) | serde_json::Value::Number(_) => {}
        }
    }
    found
}
