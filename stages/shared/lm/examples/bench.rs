use lm::{LanguageModel, batch, generate, llama::*, tokenizer::Tokenizer, train::*};
use std::time::Instant;
fn cpu() -> f64 {
    let s = std::fs::read_to_string("/proc/self/stat").unwrap();
    let f: Vec<&str> = s.rsplit(')').next().unwrap().split_whitespace().collect();
    (f[11].parse::<f64>().unwrap() + f[12].parse::<f64>().unwrap()) / 100.0
}
fn main() {
    let args: Vec<usize> = std::env::args().skip(1).map(|a| a.parse().unwrap()).collect();
    let (bs, steps, kv) = (args[0], args[1], args[2]);
    let device = lm::device::open(&contract::Backend::default()).unwrap();
    let mut state = 12345u64;
    let mut next = |n: u64| {
        state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (state >> 33) % n
    };
    let words = [
        "apples", "buys", "has", "gives", "then", "marbles", "Tom", "Anna", "each", "total", "so", "we",
        "add", "subtract", "left", "boxes",
    ];
    let texts: Vec<String> =
        (0..400)
            .map(|_| {
                (0..60)
                    .map(|_| {
                        if next(3) == 0 { next(90).to_string() } else { words[next(16) as usize].to_string() }
                    })
                    .collect::<Vec<_>>()
                    .join(" ")
            })
            .collect();
    let tokenizer = Tokenizer::train(texts.clone().into_iter(), 1000).unwrap();
    let vocab = 1000;
    let config = LlamaConfig::new(
        LlamaSize {
            hidden_size: 128,
            intermediate_size: 384,
            num_hidden_layers: 4,
            num_attention_heads: 4,
            num_key_value_heads: kv,
            vocab_size: vocab,
        },
        tokenizer.eos(),
        tokenizer.pad(),
    );
    let t = Instant::now();
    let model = Llama::init(&config, 1, &device);
    println!("init {:?}", t.elapsed());
    let seqs: Vec<_> = texts
        .iter()
        .map(|t| {
            batch::encode_example(&tokenizer, &t[..t.len() / 4], &t[t.len() / 4..], &t[t.len() - 20..])
                .unwrap()
        })
        .collect();
    let mean = seqs.iter().map(|s| s.tokens.len()).sum::<usize>() / seqs.len();
    println!("mean length {mean}");
    let mut trainer = Trainer::new(model, TrainOptions::new(1e-3, Schedule::Constant));
    let mut tokens = 0;
    let t = Instant::now();
    let cpu0 = cpu();
    let (mut f, mut b, mut o, mut c) = (0.0, 0.0, 0.0, 0.0);
    for step in 0..steps {
        let t0 = Instant::now();
        let chunk: Vec<_> = (0..bs).map(|i| &seqs[(step * bs + i) % seqs.len()]).collect();
        tokens += chunk.iter().map(|s| s.tokens.len()).sum::<usize>();
        let batch = batch::collate(&chunk, tokenizer.pad(), &device);
        let t1 = Instant::now();
        let hidden = batch.hidden(&trainer.model);
        let losses = batch.token_losses(&trainer.model, hidden);
        let t2 = Instant::now();
        trainer.accumulate(losses.mean());
        let t3 = Instant::now();
        trainer.step();
        let t4 = Instant::now();
        c += (t1 - t0).as_secs_f64();
        f += (t2 - t1).as_secs_f64();
        b += (t3 - t2).as_secs_f64();
        o += (t4 - t3).as_secs_f64();
    }
    let s = t.elapsed().as_secs_f64();
    println!(
        "train {:.0} tokens/s; collate {:.3} forward {:.3} backward {:.3} step {:.3}",
        tokens as f64 / s,
        c / s,
        f / s,
        b / s,
        o / s
    );
    let lm = LanguageModel { model: trainer.into_model(), config, tokenizer };
    let prompts: Vec<String> = texts.iter().take(128).map(|t| t[..t.len() / 3].to_string()).collect();
    let t = Instant::now();
    let cpu0 = cpu();
    let out = generate::generate(
        &lm,
        &prompts,
        &generate::Options { max_new_tokens: 100, batch_size: 64 },
        &mut |_, _| Ok(()),
    )
    .unwrap();
    let n: usize = out.iter().map(|g| g.tokens).sum();
    println!(
        "generate {:.0} tokens/cpu-s {:.0} tokens/s ({n} tokens)",
        n as f64 / (cpu() - cpu0),
        n as f64 / t.elapsed().as_secs_f64()
    );
}
