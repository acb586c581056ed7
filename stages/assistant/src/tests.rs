#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
};

use contract::{
    Backend, CellDirs, Context, Digest, Event, Input, Observer, Stage, StageError, jsonl,
    records::{Metric, Question, QuestionRationales, Rationale, files},
};
use lm::{
    LanguageModel,
    assistant::Assistant as Trained,
    encoder::SentenceEncoder,
    llama::{Llama, LlamaConfig, LlamaSize},
    tokenizer::Tokenizer,
};
use serde_json::json;

use super::{Assistant, AssistantParams};

const PERSPECTIVES: [&str; 3] = ["planning", "analogy", "socratic"];

/// Six sums; the third question lacks its second perspective.
fn rationales() -> Vec<QuestionRationales> {
    let record = |i: usize| {
        let question = Question {
            id: format!("q{i}"),
            task: "arithmetic".into(),
            question: format!("{i} + 3?"),
            answer: (i + 3).to_string(),
            choices: Vec::new(),
            facts: None,
        };
        let suffix = tasks::answer_suffix(&question);
        let text = |perspective: &str| match perspective {
            "planning" => format!("add.\n{suffix}"),
            "analogy" => format!("as with {i} apples and 3 more apples in one big basket.\n{suffix}"),
            _ => format!("what is {i} and 3? it is {}.\n{suffix}", i + 3),
        };
        let rationale = |perspective: &str| Rationale {
            perspective: perspective.into(),
            attempt: 0,
            text: text(perspective),
            truncated: false,
        };
        let wanted = PERSPECTIVES.iter().filter(|perspective| i != 2 || **perspective != "analogy");
        QuestionRationales { question, rationales: wanted.map(|p| rationale(p)).collect() }
    };
    (0..6).map(record).collect()
}

fn inputs(folder: &Path) -> BTreeMap<String, Vec<Input>> {
    let records = rationales();
    let (rationales, student) = (folder.join("rationales"), folder.join("student"));
    fs::create_dir_all(&rationales).unwrap();
    fs::create_dir_all(&student).unwrap();
    jsonl::write(&rationales.join(files::RATIONALES), &records).unwrap();
    jsonl::write_json(&rationales.join(files::PERSPECTIVES), &PERSPECTIVES).unwrap();

    let texts = records.iter().flat_map(|r| r.rationales.iter().map(|rationale| rationale.text.clone()));
    let tokenizer = Tokenizer::train(texts.collect::<Vec<_>>().into_iter(), 300).unwrap();
    let size = LlamaSize {
        hidden_size: 16,
        intermediate_size: 32,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        vocab_size: tokenizer.vocab_size(),
    };
    let config = LlamaConfig::new(size, tokenizer.eos(), tokenizer.pad());
    let device = lm::device::open(&Backend::default()).unwrap();
    let model = Llama::init(&config, 3, &device);
    LanguageModel { model, config, tokenizer }.save(&student).unwrap();

    let input = |path: PathBuf| Input {
        path,
        digest: Digest::of_bytes(b""),
        stage: "test".into(),
        labels: BTreeMap::new(),
    };
    BTreeMap::from([
        ("rationales".to_owned(), vec![input(rationales)]),
        ("student".to_owned(), vec![input(student)]),
    ])
}

/// Runs the kind into `folder/name`.
fn run(folder: &Path, name: &str, seed: u64, params: serde_json::Value) -> Result<PathBuf, StageError> {
    let params: AssistantParams = serde_json::from_value(params).unwrap();
    assert_eq!(Assistant::check(&params), []);
    let outputs: BTreeMap<String, PathBuf> =
        ["assistant", "metrics"].map(|port| (port.to_owned(), folder.join(name).join(port))).into();
    outputs.values().for_each(|folder| fs::create_dir_all(folder).unwrap());
    let observer = |_: Event| {};
    attempt(folder, outputs, seed, params, &AtomicBool::new(false), &observer)?;
    Ok(folder.join(name))
}

/// One attempt at a cell, which may be cut short; the scratch folder beside its outputs survives it.
fn attempt(
    folder: &Path,
    outputs: BTreeMap<String, PathBuf>,
    seed: u64,
    params: AssistantParams,
    cancelled: &AtomicBool,
    observer: &dyn Observer,
) -> Result<(), StageError> {
    let scratch = outputs["metrics"].parent().unwrap().join("scratch");
    fs::create_dir_all(&scratch).unwrap();
    let dirs = CellDirs { outputs, scratch, journals: folder.join("journals") };
    let context = Context::new(inputs(folder), dirs, seed, Backend::default(), cancelled, observer);
    Assistant::run(params, &context)
}

fn load(folder: &Path) -> Trained {
    Trained::load(&folder.join("assistant"), &lm::device::open(&Backend::default()).unwrap()).unwrap()
}

fn small(epochs: usize) -> serde_json::Value {
    json!({
        "hidden_size": 8, "heads": 2, "head_hidden_size": 8, "warmup_epochs": epochs, "learning_rate": 0.01,
        "batch_size": 3,
    })
}

#[test]
fn it_learns_to_rank_as_the_base_student_loses() {
    let folder = tempfile::tempdir().unwrap();
    let out = run(folder.path(), "out", 1, small(60)).unwrap();
    let metrics: Vec<Metric> = jsonl::read(&out.join("metrics").join(files::METRICS)).unwrap();
    assert_eq!(metrics.len(), 120);
    assert_eq!(metrics[0].step, 1);
    let mean = |metrics: &[Metric]| metrics.iter().map(|m| m.values["l_meta"]).sum::<f64>();
    let (first, last) = (mean(&metrics[..2]), mean(&metrics[118..]));
    assert!(last < first / 2.0, "{first} to {last}");
    for perspective in PERSPECTIVES {
        let score = metrics[119].values[&format!("s/{perspective}")];
        assert!((0.0..=1.0).contains(&score));
    }
}

#[test]
fn features_belong_to_their_paths() {
    let folder = tempfile::tempdir().unwrap();
    let mut one = small(0);
    one["tokens_at_once"] = json!(1);
    let padded = load(&run(folder.path(), "padded", 1, small(0)).unwrap()).features;
    let alone = load(&run(folder.path(), "alone", 1, one).unwrap()).features;
    assert_eq!(padded.questions, ["q0", "q1", "q2", "q3", "q4", "q5"]);
    let expected: Vec<f32> = (0..18).map(|at| if at == 7 { 0.0 } else { 1.0 }).collect();
    assert_eq!(padded.mask, expected);
    assert!(padded.losses.iter().zip(&padded.mask).all(|(loss, mask)| (*loss > 1.0) == (*mask > 0.0)));
    let same = |left: &[f32], right: &[f32]| left.iter().zip(right).all(|(l, r)| (l - r).abs() < 1e-4);
    assert!(same(&padded.values, &alone.values), "padding is not part of a mean");
    assert!(same(&padded.losses, &alone.losses));
    let [first, second] = [&padded.values[..16], &padded.values[16..32]];
    assert!(!same(first, second), "paths of one question differ");
}

#[test]
fn equal_seeds_give_equal_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let runs = [("a", 1), ("b", 1), ("c", 2)].map(|(name, seed)| {
        let out = run(folder.path(), name, seed, small(2)).unwrap();
        let read = |file: &str| fs::read(out.join(file)).unwrap();
        (
            read("assistant/assistant.safetensors"),
            read("assistant/features.safetensors"),
            read("metrics/metrics.jsonl"),
        )
    });
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0].0, runs[2].0);
    assert_eq!(runs[0].1, runs[2].1, "features do not depend on the seed");
}

/// The tiny Sentence-BERT of the model crate.
fn tiny_bert() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/lm/fixtures/tiny-bert")
}

#[test]
fn a_bert_reads_question_and_rationale_as_a_pair() {
    let folder = tempfile::tempdir().unwrap();
    let mut params = small(1);
    let own = load(&run(folder.path(), "own", 1, params.clone()).unwrap()).features;
    params["encoder"] = json!({"bert": {"path": tiny_bert()}});
    let assistant = load(&run(folder.path(), "bert", 1, params).unwrap());
    let features = assistant.features;
    assert_eq!((features.size, assistant.config.feature_size), (16, 16));
    assert_eq!(features.mask, own.mask);
    assert_eq!(features.losses, own.losses, "the losses are the student's, whoever reads");

    let device = lm::device::open(&Backend::default()).unwrap();
    let encoder = SentenceEncoder::load(&tiny_bert(), &device).unwrap();
    let record = &rationales()[2];
    let told = &record.rationales[1];
    assert_eq!(told.perspective, "socratic");
    let pair = encoder.encode("2 + 3?", Some(&told.text)).unwrap();
    let expected: Vec<f32> = encoder.embed(&[&pair]).try_into_vec_as().unwrap();
    let place = (2 * features.paths + 2) * features.size;
    let found = &features.values[place..place + features.size];
    assert!(found.iter().zip(&expected).all(|(f, e)| (f - e).abs() < 1e-5), "{found:?} is not {expected:?}");
    let missing = (2 * features.paths + 1) * features.size;
    assert!(features.values[missing..missing + features.size].iter().all(|value| *value == 0.0));
}

#[test]
fn a_killed_warm_up_ends_in_the_same_bytes_and_reads_nothing_twice() {
    let folder = tempfile::tempdir().unwrap();
    let mut params = small(4);
    params["checkpoint_every"] = json!(3);
    let read = |out: &Path| {
        let files =
            ["assistant/assistant.safetensors", "assistant/features.safetensors", "metrics/metrics.jsonl"];
        files.map(|file| fs::read(out.join(file)).unwrap())
    };
    let straight = run(folder.path(), "straight", 1, params.clone()).unwrap();

    let out = folder.path().join("killed");
    let outputs: BTreeMap<String, PathBuf> =
        ["assistant", "metrics"].map(|port| (port.to_owned(), out.join(port))).into();
    outputs.values().for_each(|folder| fs::create_dir_all(folder).unwrap());
    let params: AssistantParams = serde_json::from_value(params).unwrap();
    let attempt = |stop_at: Option<u64>| {
        let (cancelled, seen) = (AtomicBool::new(false), Mutex::new(Vec::new()));
        let observer = |event: Event| {
            if let Event::Progress { done, unit, .. } = event {
                cancelled.store(unit == "steps" && Some(done) == stop_at, Ordering::Relaxed);
                seen.lock().unwrap().push((unit, done));
            }
        };
        let result = attempt(folder.path(), outputs.clone(), 1, params.clone(), &cancelled, &observer);
        (result, seen.into_inner().unwrap())
    };
    let (stopped, seen) = attempt(Some(4));
    assert!(matches!(stopped, Err(StageError::Cancelled)));
    assert!(seen.contains(&("rationales".to_owned(), 0)));
    let (finished, seen) = attempt(None);
    finished.unwrap();
    // It was stopped while it took its fifth step, and kept all five.
    assert_eq!(seen.first(), Some(&("steps".to_owned(), 5)));
    assert_eq!(read(&out), read(&straight));
}

#[test]
fn rationales_too_long_are_missing() {
    let folder = tempfile::tempdir().unwrap();
    let mut params = small(0);
    params["max_tokens"] = json!(1);
    let error = run(folder.path(), "out", 1, params).unwrap_err();
    assert_eq!(error.to_string(), "there is no rationale to learn from");
}
