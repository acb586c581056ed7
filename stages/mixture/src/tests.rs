#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path};

use contract::{
    Backend,
    bench::Bench,
    jsonl,
    records::{Metric, Question, QuestionRationales, Rationale, files},
};
use lm::{
    LanguageModel,
    batch::encode_example,
    llama::{Llama, LlamaConfig, LlamaSize},
    lora::{self, LoraConfig},
    prompt::Prompter,
    tokenizer::Tokenizer,
    train::{Schedule, TrainOptions, Trainer},
};
use rand::{SeedableRng, rngs::SmallRng};
use serde_json::json;

use super::*;

/// Sums, each with one rationale.
fn records(texts: std::ops::Range<usize>) -> Vec<QuestionRationales> {
    let record = |i: usize| {
        let question = Question {
            id: format!("q{i}"),
            task: "arithmetic".into(),
            question: format!("{i} + 3?"),
            answer: (i + 3).to_string(),
            choices: Vec::new(),
            facts: None,
        };
        let text = format!("as with {i} apples and 3 more.\n{}", tasks::answer_suffix(&question));
        let rationale = Rationale { perspective: "analogy".into(), attempt: 0, text, truncated: false };
        QuestionRationales { question, rationales: vec![rationale] }
    };
    texts.map(record).collect()
}

/// A base, an expert in the sums, one that was never trained, and examples.
fn folders(root: &Path) {
    let device = lm::device::open(&Backend::default()).unwrap();
    let all = records(0..12);
    let tokenizer = Tokenizer::train(all.iter().map(|r| r.rationales[0].text.clone()), 300).unwrap();
    let size = LlamaSize {
        hidden_size: 16,
        intermediate_size: 32,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        vocab_size: tokenizer.vocab_size(),
    };
    let mut config = LlamaConfig::new(size, tokenizer.eos(), tokenizer.pad());
    config.initializer_range = 0.3;
    let base = Llama::init(&config, 3, &device);
    let save = |model: &Llama, name: &str| {
        fs::create_dir_all(root.join(name)).unwrap();
        let (model, config, tokenizer) = (model.clone(), config.clone(), tokenizer.clone());
        LanguageModel { model, config, tokenizer }.save(&root.join(name)).unwrap();
    };
    save(&base, "base");

    let prompter = Prompter::new(&tokenizer).unwrap();
    let sequences: Vec<Sequence> = all
        .iter()
        .map(|record| {
            let prompt = prompter.question(&record.question).unwrap();
            let suffix = tasks::answer_suffix(&record.question);
            encode_example(&tokenizer, &prompt, &record.rationales[0].text, &suffix).unwrap()
        })
        .collect();
    let adapter = LoraConfig { r: 4, lora_alpha: 8.0, ..LoraConfig::default() };
    for (name, steps) in [("good", 60), ("untrained", 0)] {
        let model = lora::attach(base.clone(), &adapter, &mut SmallRng::seed_from_u64(7));
        let mut trainer = Trainer::new(model, TrainOptions::new(0.02, Schedule::Constant));
        for _ in 0..steps {
            let batch = collate(&sequences.iter().collect::<Vec<_>>(), &device);
            let loss = batch.token_losses(&trainer.model, batch.hidden(&trainer.model)).mean();
            trainer.step_on(loss).unwrap();
        }
        let model = trainer.into_model();
        save(&model, name);
        lora::save(&model, &adapter, &root.join(name).join(ADAPTER)).unwrap();
    }
    fs::create_dir_all(root.join("examples")).unwrap();
    jsonl::write(&root.join("examples").join(files::RATIONALES), &records(3..9)).unwrap();
    jsonl::write_json(&root.join("examples").join(files::PERSPECTIVES), &["analogy"]).unwrap();
}

fn bench(root: &Path, experts: &[&str]) -> Bench {
    let mut bench = Bench::new(root).input("model", &root.join("base"), &[]).input(
        "examples",
        &root.join("examples"),
        &[],
    );
    for expert in experts {
        bench = bench.input("experts", &root.join(expert), &[("expert", expert)]);
    }
    bench
}

#[test]
fn the_expert_that_helps_is_found_and_merged() {
    let folder = tempfile::tempdir().unwrap();
    folders(folder.path());
    let bench = bench(folder.path(), &["good", "untrained"]);
    // All six examples there are, so that the loss can be measured again.
    bench.run(&Mixture, &json!({"examples": 6})).unwrap();
    let metrics: Vec<Metric> = jsonl::read(&bench.output("metrics").join(files::METRICS)).unwrap();
    assert_eq!(metrics.len(), 40);
    assert_eq!((metrics[0].values["w/good"], metrics[0].values["w/untrained"]), (0.0, 0.0));
    let lowest = |name: &str| metrics.iter().map(|m| m.values[name]).fold(f64::INFINITY, f64::min);
    assert!(lowest("objective") < metrics[0].values["objective"] - 0.5, "{metrics:?}");

    // The model that comes out is the best of those evaluated.
    let device = lm::device::open(&Backend::default()).unwrap();
    let LanguageModel { model, tokenizer, .. } =
        LanguageModel::load(&bench.output("model"), &device).unwrap();
    let paths = Paths::encode(&tokenizer, vec!["analogy".into()], &records(3..9), 1000).unwrap();
    let all: Vec<&Sequence> = paths.questions.iter().flat_map(|q| q.paths.iter().flatten()).collect();
    let loss = mean_loss(&model, &all).unwrap();
    let best = metrics.iter().min_by(|a, b| a.values["objective"].total_cmp(&b.values["objective"])).unwrap();
    assert!((loss - best.values["loss"]).abs() < 1e-4, "{loss} and {}", best.values["loss"]);
    assert!(bench.output("model").join("adapter/adapter_config.json").exists());
}

#[test]
fn mixtures_worked_out_by_hand() {
    let folder = tempfile::tempdir().unwrap();
    folders(folder.path());
    let device = lm::device::open(&Backend::default()).unwrap();
    let base = LanguageModel::load(&folder.path().join("base"), &device).unwrap();
    let adapters = ["good", "untrained"].map(|name| folder.path().join(name).join(ADAPTER));
    let experts = Experts::load(base.model.clone(), &adapters).unwrap();
    let saved = |model: Llama, name: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(&path).unwrap();
        let LanguageModel { config, tokenizer, .. } = base.clone();
        LanguageModel { model, config, tokenizer }.save(&path).unwrap();
        fs::read(path.join("model.safetensors")).unwrap()
    };
    let of = |name: &str| fs::read(folder.path().join(name).join("model.safetensors")).unwrap();
    assert!(saved(experts.mixed(&[1.0, 0.0]), "one") == of("good"));
    assert!(saved(experts.mixed(&[0.0, 0.0]), "none") == of("base"));
    // Factors are added, not updates: (2 A)(2 B) is four times the update.
    assert!(saved(experts.mixed(&[2.0, 0.0]), "two") != of("good"));
}

#[test]
fn what_is_missing_is_said() {
    let folder = tempfile::tempdir().unwrap();
    folders(folder.path());
    let error = bench(folder.path(), &["good", "base"]).run(&Mixture, &json!({})).unwrap_err();
    assert!(error.to_string().ends_with("has no adapter"), "{error}");
    assert_eq!(error.help().unwrap(), "train it with `adapt: {lora: {}}`");
    let taught = folder.path().join("taught");
    fs::create_dir_all(&taught).unwrap();
    jsonl::write(&taught.join(files::RATIONALES), &records(0..5)).unwrap();
    let among = bench(folder.path(), &["good"]).input("taught", &taught, &[]);
    let error = among.run(&Mixture, &json!({})).unwrap_err();
    assert_eq!(error.to_string(), "2 of 6 examples are questions the experts were taught, `q3` the first");
    jsonl::write(&taught.join(files::RATIONALES), &records(9..12)).unwrap();
    let apart = bench(folder.path(), &["good"]).input("taught", &taught, &[]);
    apart.run(&Mixture, &json!({"evaluations": 1})).unwrap();
    let problems = Mixture::check(&serde_json::from_value(json!({"examples": 0, "bound": 0.0})).unwrap());
    assert_eq!(problems.len(), 2);
}
