//! What it saves that the rationales of one question share their prompt, in a training step of MIND: forward, gathered
//! logits, loss, backward.
//!
//! ```text
//! cargo run --release --example pack-bench [quickstart | smollm2-135m]
//! ```
//!
//! Weights and tokens are random. Prints the median time of a question with eight rationales: each with a prompt of its
//! own, and sharing it in rows of at most so many tokens, with what the gain is at most: the tokens computed without and
//! with sharing. Ways are measured in turn, so that a busy machine slows all of them.

use std::{process::ExitCode, time::Instant};

use lm::{
    batch::{Sequence, collate_rows, row_length},
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
const TOKENS_AT_ONCE: usize = 1024;

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

/// Seconds of a training step on one question, packed to rows of at most so many tokens.
fn step(model: &Llama, question: &[Sequence], row_tokens: usize) -> f64 {
    let start = Instant::now();
    let question: Vec<&Sequence> = question.iter().collect();
    let rows = pack(&question, row_tokens, |sequence| sequence);
    let mut loss = None;
    for group in flat_groups(&rows, TOKENS_AT_ONCE, |row| row_length(row)) {
        let rows: Vec<&[&Sequence]> = group.iter().map(Vec::as_slice).collect();
        let batch = collate_rows(&rows, &model.device());
        let hidden = batch.hidden(model);
        let answers = batch.answer_log_probs(model, hidden.clone());
        let part = batch.token_losses(model, hidden).sum() + answers.exp().sum();
        loss = Some(match loss {
            Some(loss) => loss + part,
            None => part,
        });
    }
    let loss = loss.expect("a question has rationales");
    drop(loss.backward());
    start.elapsed().as_secs_f64()
}

fn median(times: &mut [f64]) -> f64 {
    times.sort_by(f64::total_cmp);
    times[times.len() / 2]
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
        let ours = TOKENS_AT_ONCE;
        let share = |sequences: usize| shape.prompt + sequences * shape.rationale * 5 / 4;
        let mut ways = vec![1, share(2), share(4), ours];
        ways.sort_unstable();
        ways.dedup();
        let mut times: Vec<Vec<f64>> = vec![Vec::new(); ways.len()];
        for repeat in 0..=shape.repeats {
            for (times, row_tokens) in times.iter_mut().zip(&ways) {
                let time = step(&trainer.model, &question, *row_tokens);
                // The first round warms up.
                if repeat > 0 {
                    times.push(time);
                }
            }
        }
        println!("{}: one question, {RATIONALES} rationales, forward and backward", shape.name);
        let alone = median(&mut times[0]);
        for (times, row_tokens) in times.iter_mut().zip(&ways) {
            let time = median(times);
            let lengths: Vec<usize> =
                pack(&question.iter().collect::<Vec<_>>(), *row_tokens, |sequence| sequence)
                    .iter()
                    .map(|row| row_length(row))
                    .collect();
            let mark = if *row_tokens == ours { "  <- what the student does" } else { "" };
            let tokens: usize = lengths.iter().sum();
            let apart: usize = question.iter().map(|sequence| sequence.tokens.len()).sum();
            println!(
                "  {:5.2} questions/s  x {:.2} of at most {:.2}  {} rows, {tokens} tokens, at most {row_tokens} a row{mark}",
                1.0 / time,
                alone / time,
                apart as f64 / tokens as f64,
                lengths.len(),
            );
        }
    }
    ExitCode::SUCCESS
}
