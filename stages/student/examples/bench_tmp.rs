//! temporary
use contract::{records::*, *};
use lm::{LanguageModel, assistant::*, llama::*, tokenizer::Tokenizer};
use rand::{Rng, SeedableRng, rngs::SmallRng};
use std::{collections::BTreeMap, fs, path::PathBuf, sync::atomic::AtomicBool, time::Instant};
fn main() {
    let folder = PathBuf::from(std::env::args().nth(1).unwrap());
    let objective: serde_json::Value = serde_json::from_str(&std::env::args().nth(2).unwrap()).unwrap();
    let steps: usize = std::env::args().nth(3).unwrap().parse().unwrap();
    let _ = fs::remove_dir_all(&folder);
    for p in ["rationales", "model", "assistant", "out/model", "out/metrics", "scratch"] {
        fs::create_dir_all(folder.join(p)).unwrap();
    }
    let words = [
        "tom", "has", "apples", "buys", "more", "then", "gives", "away", "total", "so", "we", "add",
        "subtract", "first", "second", "plan", "each", "left",
    ];
    let mut rng = SmallRng::seed_from_u64(1);
    let records: Vec<QuestionRationales> = (0..200)
        .map(|i| {
            let mut text = |n: usize| {
                (0..n)
                    .map(|_| {
                        if rng.random_range(0..4) == 0 {
                            rng.random_range(0..99).to_string()
                        } else {
                            words[rng.random_range(0..words.len())].to_string()
                        }
                    })
                    .collect::<Vec<_>>()
                    .join(" ")
            };
            let question = Question {
                id: format!("q{i}"),
                task: "arithmetic".into(),
                question: text(25),
                answer: "12".into(),
                choices: vec![],
                facts: None,
            };
            let rationales = tasks::PERSPECTIVES
                .iter()
                .map(|p| Rationale {
                    perspective: (*p).into(),
                    attempt: 0,
                    text: format!("{}\n{}", text(40), tasks::answer_suffix(&question)),
                    truncated: false,
                })
                .collect();
            QuestionRationales { question, rationales }
        })
        .collect();
    jsonl::write(&folder.join("rationales/rationales.jsonl"), &records).unwrap();
    jsonl::write_json(&folder.join("rationales/perspectives.json"), &tasks::PERSPECTIVES).unwrap();
    let device = lm::device::open(&Backend::default()).unwrap();
    let texts: Vec<String> = records.iter().map(|r| r.rationales[0].text.clone()).collect();
    let tokenizer = Tokenizer::train(texts.into_iter(), 1024).unwrap();
    let size = LlamaSize {
        hidden_size: 128,
        intermediate_size: 352,
        num_hidden_layers: 4,
        num_attention_heads: 4,
        num_key_value_heads: 4,
        vocab_size: tokenizer.vocab_size(),
    };
    let config = LlamaConfig::new(size, tokenizer.eos(), tokenizer.pad());
    let len: usize = records
        .iter()
        .take(20)
        .map(|r| {
            tokenizer
                .encode(&format!("{}{}", tasks::prompt(&r.question), r.rationales[0].text))
                .unwrap()
                .len()
        })
        .sum::<usize>()
        / 20;
    println!("vocab {} mean sequence {len}", tokenizer.vocab_size());
    let model = Llama::init(&config, 3, &device);
    LanguageModel { model, config, tokenizer }.save(&folder.join("model")).unwrap();
    let config = AssistantConfig {
        perspectives: tasks::PERSPECTIVES.map(String::from).to_vec(),
        feature_size: 128,
        hidden_size: 128,
        num_attention_heads: 4,
        head_hidden_size: 64,
        attention: true,
    };
    let network = AssistantNetwork::new(&config, &mut SmallRng::seed_from_u64(9), &device);
    let features = Features {
        questions: records.iter().map(|r| r.question.id.clone()).collect(),
        paths: 8,
        size: 128,
        values: (0..200 * 8 * 128).map(|_| rng.random_range(-1.0..1.0)).collect(),
        mask: vec![1.0; 1600],
        losses: vec![5.0; 1600],
    };
    Assistant { config, network, features }.save(&folder.join("assistant")).unwrap();
    let input = |p: &str| {
        (
            p.to_owned(),
            vec![Input {
                path: folder.join(p),
                digest: Digest::of_bytes(b""),
                stage: "s".into(),
                labels: BTreeMap::new(),
            }],
        )
    };
    let inputs = [input("rationales"), input("model"), input("assistant")].into();
    let outputs = ["model", "metrics"].map(|p| (p.to_owned(), folder.join("out").join(p))).into();
    let dirs = CellDirs { outputs, scratch: folder.join("scratch"), journals: folder.join("j") };
    let cancelled = AtomicBool::new(false);
    let observer = |_: Event| {};
    let context = Context::new(inputs, dirs, 1, Backend::default(), &cancelled, &observer);
    let params = serde_json::from_value(
        serde_json::json!({"objective": objective, "steps": steps, "batch_size": 4, "learning_rate": 1e-3}),
    )
    .unwrap();
    let t = Instant::now();
    <student::Student as Stage>::run(params, &context).unwrap();
    let s = t.elapsed().as_secs_f64();
    let metrics: Vec<Metric> = jsonl::read(&folder.join("out/metrics/metrics.jsonl")).unwrap();
    let paths: f64 = metrics.iter().map(|m| m.values["paths"]).sum();
    let tokens: f64 = metrics.iter().map(|m| m.values["tokens"]).sum();
    println!(
        "{s:.2} s, {:.1} ms/step, {:.1} paths/step, {:.0} target tokens/s, {:.0} input tokens/s",
        s * 1e3 / steps as f64,
        paths / steps as f64,
        tokens / s,
        paths * len as f64 / s
    );
}
