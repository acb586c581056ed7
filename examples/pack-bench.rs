//! What it saves that the rationales of one question share their prompt, in a training step of MIND: forward, gathered
//! logits, loss, backward.
//!
//! ```text
//! cargo run --release --example pack-bench [quickstart | smollm2-135m]
//! ```
//!
//! Weights and tokens are random. Prints the median time of a question with eight rationales, computed in four ways:
//!
//! - eight sequences padded to one length, and logits at every place, as trainers do that know nothing of prompts;
//! - eight sequences without padding, and logits for targets alone: retort's own batches where nothing is shared;
//! - the same, sharing the prompt in rows of at most so many tokens.
//!
//! Beside each stands what sharing gains at most over the second way: the tokens computed without and with it. Ways are
//! measured in turn, so that a busy machine slows all of them.

use std::{process::ExitCode, sync::Arc, time::Instant};

use lm::{
    batch::{Rectangle, Sequence, collate_rows, rectangle, row_length},
    llama::{Llama, LlamaConfig, LlamaSize},
    paths::{flat_groups, pack},
    train::{Schedule, TrainOptions, Trainer},
};
use rand::{Rng, SeedableRng, rngs::SmallRng};

/// The allocator of `retort` itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const RATIONALES: usize = 8;
/// The default of the student's param.
const TOKENS_AT_ONCE: usize = 2048;

struct Shape {
    name: &'static str,
    size: LlamaSize,
    prompt: usize,
    /// Mean length of a rationale; they differ by up to a quarter of it.
    rationale: usize,
    repeats: usize,
}

const SHAPES: [Shape; 2] = [
    Shape {
        name: "quickstart",
        size: LlamaSize {
            hidden_size: 64,
            intermediate_size: 176,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            vocab_size: 512,
        },
        prompt: 25,
        rationale: 50,
        repeats: 41,
    },
    Shape {
        name: "smollm2-135m",
        size: LlamaSize {
            hidden_size: 576,
            intermediate_size: 1536,
            num_hidden_layers: 30,
            num_attention_heads: 9,
            num_key_value_heads: 3,
            vocab_size: 49152,
        },
        prompt: 100,
        rationale: 150,
        repeats: 3,
    },
];

/// One question: rationales of different lengths behind one prompt.
fn question(shape: &Shape) -> Vec<Sequence> {
    let mut rng = SmallRng::seed_from_u64(1);
    let mut tokens = |count: usize| -> Vec<u32> {
        (0..count).map(|_| rng.random_range(2..shape.size.vocab_size as u32)).collect()
    };
    let prompt = tokens(shape.prompt);
    let rationale = |path: usize| {
        let length = shape.rationale * 3 / 4 + shape.rationale * path / (2 * (RATIONALES - 1));
        let tokens = [prompt.clone(), tokens(length)].concat();
        let end = tokens.len() - 1;
        Sequence { tokens, target_start: shape.prompt, answer_span: end - 6..end }
    };
    (0..RATIONALES).map(rationale).collect()
}

/// How the rationales of a question are laid out.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Padded,
    /// In rows of at most so many tokens; in one such row a prompt stands once.
    Rows(usize),
}

/// Seconds of a training step on one question.
fn step(model: &Llama, question: &[Sequence], way: Way) -> f64 {
    let start = Instant::now();
    let question: Vec<&Sequence> = question.iter().collect();
    let packed = |rows: &[Vec<&Sequence>]| {
        let rows: Vec<&[&Sequence]> = rows.iter().map(Vec::as_slice).collect();
        let batch = collate_rows(&rows, &model.device());
        let hidden = batch.hidden(model);
        let answers = batch.answer_log_probs(model, hidden.clone());
        batch.token_losses(model, hidden).sum() + answers.exp().sum()
    };
    let padded = |sequences: &[&Sequence]| {
        let Rectangle { tokens, positions, mask } = rectangle(sequences, 0, &model.device());
        let places: usize = tokens.dims().iter().product();
        let hidden = model.hidden(tokens, positions, mask).reshape([places as i32, -1]);
        // Which targets they are costs nothing.
        model.losses(hidden, &Arc::from(vec![0; places])).sum()
    };
    let parts: Vec<_> = match way {
        // As many at once as have their logits kept for the backward pass.
        Way::Padded => question.chunks(2).map(padded).collect(),
        Way::Rows(row_tokens) => {
            let rows = pack(&question, row_tokens, |sequence| sequence);
            flat_groups(&rows, TOKENS_AT_ONCE, |row| row_length(row)).into_iter().map(packed).collect()
        }
    };
    let loss = parts.into_iter().reduce(|sum, part| sum + part).expect("a question has rationales");
    drop(loss.backward());
    start.elapsed().as_secs_f64()
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
}

/// What is computed, and what that gains at most.
fn described(way: Way, question: &[Sequence]) -> String {
    let lengths = || question.iter().map(|sequence| sequence.tokens.len());
    let apart: usize = lengths().sum();
    match way {
        Way::Padded => format!("  padded: {} tokens", lengths().max().unwrap_or(0) * question.len()),
        Way::Rows(1) => format!("  apart: {apart} tokens"),
        Way::Rows(most) => {
            let rows = pack(&question.iter().collect::<Vec<_>>(), most, |sequence| sequence);
            let tokens: usize = rows.iter().map(|row| row_length(row)).sum();
            let ours = if most == TOKENS_AT_ONCE { "  <- what the student does" } else { "" };
            let gain = apart as f64 / tokens as f64;
            format!(" (at most {gain:.2})  {} rows of at most {most}, {tokens} tokens{ours}", rows.len())
        }
    }
}

#[expect(clippy::print_stdout, reason = "a benchmark prints what it found")]
fn main() -> ExitCode {
    let wanted = std::env::args().nth(1);
    let device = match lm::device::open(&contract::Backend::default()) {
        Ok(device) => device,
        Err(error) => {
            println!("{error}");
            return ExitCode::FAILURE;
        }
    };
    for shape in SHAPES.iter().filter(|shape| wanted.as_ref().is_none_or(|wanted| wanted == shape.name)) {
        let model = Llama::init(&LlamaConfig::new(shape.size, 1, 0), 1, &device);
        let trainer = Trainer::new(model, TrainOptions::new(1e-4, Schedule::Constant));
        let question = question(shape);
        let share = |sequences: usize| shape.prompt + sequences * shape.rationale * 5 / 4;
        let mut shared = [share(2), share(4), TOKENS_AT_ONCE, share(RATIONALES)];
        shared.sort_unstable();
        let ways: Vec<Way> = [Way::Padded, Way::Rows(1)].into_iter().chain(shared.map(Way::Rows)).collect();
        let mut times: Vec<Vec<f64>> = vec![Vec::new(); ways.len()];
        for repeat in 0..=shape.repeats {
            for (times, way) in times.iter_mut().zip(&ways) {
                let time = step(&trainer.model, &question, *way);
                // The first round warms up.
                if repeat > 0 {
                    times.push(time);
                }
            }
        }
        println!("{}: one question, {RATIONALES} rationales, forward and backward", shape.name);
        let medians: Vec<f64> = times.iter_mut().map(|times| median(times)).collect();
        for (time, way) in medians.iter().zip(&ways) {
            let gain = |over: usize| medians[over] / time;
            print!("  {:6.2} questions/s  x {:.2} of padded, x {:.2} of apart", 1.0 / time, gain(0), gain(1));
            println!("{}", described(*way, &question));
        }
    }
    ExitCode::SUCCESS
}
