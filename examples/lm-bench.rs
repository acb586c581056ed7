//! Rounds of work on a model, each on a line of the standard input; half of a comparison that `tests/scripts/lm_bench.py`
//! runs.
//!
//! ```text
//! lm-bench MODEL TASK
//! ```
//!
//! Prints the seconds of each round, and at the end of the input the most memory it held, in MiB. Tasks: `train` and
//! `train-lora` (an optimizer step on 4 sequences of 128 tokens), `prefill` (a prompt of 512 tokens), `decode-1` and
//! `decode-16` (48 tokens after prompts of 32).

use std::{error::Error, io::BufRead, path::Path, time::Instant};

use lm::{
    LanguageModel,
    batch::{Sequence, collate},
    generate::{Options, Request, generate},
    lora,
    tokenizer::Special,
    train::{Schedule, TrainOptions, Trainer},
};
use rand::{SeedableRng, rngs::SmallRng};

/// The allocator of `retort` itself.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const BATCH: usize = 4;
const LENGTH: usize = 128;
const PREFILL: usize = 512;
const PROMPT: usize = 32;
const NEW: usize = 48;

/// The tokens that `lm_bench.py` draws, too.
fn tokens(count: usize, seed: u64) -> Vec<u32> {
    let mut state = seed;
    let mut draw = || {
        state = (state * 1_103_515_245 + 12_345) % (1 << 31);
        (100 + state / 65_536 % 20_000) as u32
    };
    (0..count).map(|_| draw()).collect()
}

fn training(model: LanguageModel, adapt: bool) -> impl FnMut() -> Result<(), Box<dyn Error>> {
    let mut rng = SmallRng::seed_from_u64(1);
    let model = match adapt {
        true => lora::attach(model.model, &lora::LoraConfig::default(), &mut rng),
        false => model.model,
    };
    let mut trainer = Trainer::new(model, TrainOptions::new(1e-5, Schedule::Constant));
    let sequence = |row| Sequence { tokens: tokens(LENGTH, row), target_start: 1, answer_span: 0..0 };
    let sequences: Vec<Sequence> = (0..BATCH as u64).map(sequence).collect();
    move || {
        let batch = collate(&sequences.iter().collect::<Vec<_>>(), &trainer.model.device());
        let hidden = batch.hidden(&trainer.model);
        trainer.step_on(batch.token_losses(&trainer.model, hidden).mean())?;
        Ok(())
    }
}

fn writing(
    mut model: LanguageModel,
    rows: usize,
    prompt: usize,
    new: usize,
) -> impl FnMut() -> Result<(), Box<dyn Error>> {
    // Nothing ends a text early, as with PyTorch's `min_new_tokens`.
    let (eos, pad) = (model.tokenizer.eos(), model.tokenizer.pad());
    model.tokenizer = model.tokenizer.with_special(Special { stops: Vec::new(), ..Special::new(eos, pad) });
    let request = |row: u64| Request { prompt: tokens(prompt, row), item: String::new(), sample: 0 };
    let requests: Vec<Request> = (0..rows as u64).map(request).collect();
    let options = Options { max_new_tokens: new, batch_size: rows, sampling: None };
    move || {
        let written = generate(&model, &requests, &options, &|| Ok(()), &mut |_, _| Ok(()))?;
        match written.iter().find(|written| written.tokens < new) {
            Some(short) => Err(format!("a text ended after {} tokens", short.tokens).into()),
            None => Ok(()),
        }
    }
}

#[expect(clippy::print_stdout, reason = "a benchmark prints what it found")]
fn main() -> Result<(), Box<dyn Error>> {
    let usage = "usage: lm-bench MODEL TASK";
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or(usage)?;
    let device = lm::device::open(&contract::Backend::default())?;
    let model = LanguageModel::load(Path::new(&path), &device)?;
    let mut round: Box<dyn FnMut() -> Result<(), Box<dyn Error>>> = match arguments.next().as_deref() {
        Some("train") => Box::new(training(model, false)),
        Some("train-lora") => Box::new(training(model, true)),
        Some("prefill") => Box::new(writing(model, 1, PREFILL, 1)),
        Some("decode-1") => Box::new(writing(model, 1, PROMPT, NEW)),
        Some("decode-16") => Box::new(writing(model, 16, PROMPT, NEW)),
        _ => return Err(usage.into()),
    };
    for line in std::io::stdin().lock().lines() {
        line?;
        let start = Instant::now();
        round()?;
        println!("{}", start.elapsed().as_secs_f64());
    }
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:")?.split_whitespace().next());
    println!("{}", peak.and_then(|peak| peak.parse::<u64>().ok()).unwrap_or(0) / 1024);
    Ok(())
}
