//! The kind run as the engine runs it.

use std::{
    collections::BTreeMap,
    fs,
    path::Path,
    sync::atomic::{AtomicBool, Ordering},
};

use contract::{Backend, CellDirs, Context, Digest, Event, Input, Kind, bench::Bench, records::Rationale};
use serde_json::{Value, json};

use super::*;

fn questions(folder: &Path) {
    let questions: Vec<Question> = (0..12)
        .map(|i| Question {
            id: format!("q{i}"),
            task: "arithmetic".into(),
            question: format!("Tom has {i} apples and buys {} more. How many apples has he?", i + 3),
            answer: (2 * i + 3).to_string(),
            choices: Vec::new(),
            facts: None,
        })
        .collect();
    fs::create_dir_all(folder).unwrap();
    jsonl::write(&folder.join(files::QUESTIONS), &questions).unwrap();
}

fn params(pretrain: Value) -> Value {
    json!({"source": {"scratch": {
        "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "vocab_size": 320, "pretrain": pretrain,
    }}})
}

fn pretrain() -> Value {
    params(json!({"steps": 6, "batch_size": 4, "primer": 20}))
}

/// Digests of the files of a folder.
fn digests(folder: &Path) -> BTreeMap<String, Digest> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| {
            (entry.file_name().into_string().unwrap(), Digest::of_bytes(&fs::read(entry.path()).unwrap()))
        })
        .collect()
}

fn made(folder: &Path, seed: u64, params: &Value) -> BTreeMap<String, Digest> {
    let corpus = folder.join("corpus");
    questions(&corpus);
    let bench = Bench::new(&folder.join(seed.to_string())).seed(seed).input("corpus", &corpus, &[]);
    bench.run(&Model, params).unwrap();
    let mut all = digests(&bench.output("model"));
    all.extend(digests(&bench.output("metrics")));
    all
}

#[test]
fn a_fresh_model_is_decided_by_its_seed_and_learns() {
    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let first = made(one.path(), 1, &pretrain());
    assert_eq!(first, made(two.path(), 1, &pretrain()));
    assert_ne!(first["model.safetensors"], made(two.path(), 2, &pretrain())["model.safetensors"]);
    assert_eq!(
        first.keys().collect::<Vec<_>>(),
        [
            "config.json",
            "generation_config.json",
            "metrics.jsonl",
            "model.safetensors",
            "tokenizer.json",
            "tokenizer_config.json"
        ]
    );

    let metrics: Vec<Metric> =
        jsonl::read(&one.path().join("1/outputs/metrics").join(files::METRICS)).unwrap();
    assert_eq!(metrics.iter().map(|metric| metric.step).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 6]);
    assert!(metrics[5].values["loss"] < metrics[0].values["loss"] - 0.05, "{metrics:?}");
}

#[test]
fn a_snapshot_is_passed_on_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let snapshots = folder.path().join("snapshots");
    for step in ["0", "20", "5"] {
        fs::create_dir_all(snapshots.join(step)).unwrap();
        fs::write(snapshots.join(step).join("model.safetensors"), step).unwrap();
    }
    let at = |step: usize| json!({"source": {"snapshot": {"step": step}}});
    let bench = Bench::new(&folder.path().join("cell")).input(SNAPSHOTS, &snapshots, &[]);
    bench.run(&Model, &at(20)).unwrap();
    assert_eq!(fs::read(bench.output("model").join("model.safetensors")).unwrap(), b"20");
    assert_eq!(fs::read(bench.output("metrics").join(files::METRICS)).unwrap(), b"");
    let error = bench.run(&Model, &at(6)).unwrap_err();
    assert_eq!(error.to_string(), "there is no snapshot of step 6; there are those of 0, 5, 20");
    assert!(Kind::reads(&Model, &at(5), SNAPSHOTS) && !Kind::reads(&Model, &at(5), "corpus"));
    assert!(!Kind::computes_with(&Model, &at(5)), "whatever it was trained on, it is the same here");
}

#[test]
fn a_folder_is_loaded_and_passed_on_without_any_input() {
    let folder = tempfile::tempdir().unwrap();
    let made = made(folder.path(), 1, &params(Value::Null));
    let path = folder.path().join("1/outputs/model");
    let params = json!({"source": {"folder": {"path": path}}});
    for Port { name, .. } in Model::INPUTS {
        assert!(!Kind::reads(&Model, &params, name));
    }
    let bench = Bench::new(&folder.path().join("loaded"));
    bench.run(&Model, &params).unwrap();
    let loaded = digests(&bench.output("model"));
    assert_eq!(loaded["model.safetensors"], made["model.safetensors"]);
    assert_eq!(loaded["tokenizer.json"], made["tokenizer.json"]);
}

#[test]
fn rationales_shape_the_vocabulary_and_are_learnt_only_on_request() {
    let folder = tempfile::tempdir().unwrap();
    let (corpus, text) = (folder.path().join("corpus"), folder.path().join("text"));
    questions(&corpus);
    fs::create_dir(&text).unwrap();
    let question = jsonl::read::<Question>(&corpus.join(files::QUESTIONS)).unwrap().remove(0);
    let rationale = |attempt| Rationale {
        perspective: "planning".into(),
        attempt,
        text: "zygote zygote zygote zygote".into(),
        truncated: false,
    };
    let told = QuestionRationales { question, rationales: vec![rationale(0), rationale(1)] };
    jsonl::write(&text.join(files::RATIONALES), [&told]).unwrap();

    let losses = |name: &str, rationales: bool| {
        let bench =
            Bench::new(&folder.path().join(name)).input("corpus", &corpus, &[]).input("text", &text, &[]);
        let pretrain = json!({"steps": 1, "batch_size": 100, "rationales": rationales});
        bench.run(&Model, &params(pretrain)).unwrap();
        let tokenizer = fs::read_to_string(bench.output("model").join("tokenizer.json")).unwrap();
        assert!(tokenizer.contains("zyg"), "the vocabulary knows the words of the rationales");
        fs::read(bench.output("metrics").join(files::METRICS)).unwrap()
    };
    assert_ne!(losses("with", true), losses("without", false));
}

#[test]
fn an_interrupted_pretraining_ends_where_a_straight_one_does() {
    let folder = tempfile::tempdir().unwrap();
    let straight = made(folder.path(), 1, &pretrain());

    let corpus = folder.path().join("corpus");
    let folders = |name: &str| {
        let path = folder.path().join("killed").join(name);
        fs::create_dir_all(&path).unwrap();
        path
    };
    let dirs = CellDirs {
        outputs: ["model", "metrics"].map(|port| (port.to_owned(), folders(port))).into(),
        scratch: folders("scratch"),
        journals: folders("journals"),
    };
    let input = Input {
        digest: Digest::of_bytes(b""),
        path: corpus,
        stage: "corpus".into(),
        labels: BTreeMap::new(),
    };
    let run = |stop_after: Option<u64>| {
        let cancelled = AtomicBool::new(false);
        let observer = |event: Event| {
            if let Event::Progress { done, .. } = event {
                cancelled.store(Some(done) == stop_after, Ordering::Relaxed);
            }
        };
        let inputs = BTreeMap::from([("corpus".to_owned(), vec![input.clone()])]);
        let context = Context::new(inputs, dirs.clone(), 1, Backend::default(), &cancelled, &observer);
        let params = Kind::resolve(&Model, &pretrain()).unwrap();
        Kind::run(&Model, &params, &context)
    };
    assert!(matches!(run(Some(2)), Err(StageError::Cancelled)));
    assert!(matches!(run(Some(5)), Err(StageError::Cancelled)));
    run(None).unwrap();
    let mut resumed = digests(&dirs.outputs["model"]);
    resumed.extend(digests(&dirs.outputs["metrics"]));
    assert_eq!(resumed, straight);
}

#[test]
fn sizes_that_cannot_be_are_refused_by_field() {
    let resolve = |params: &Value| Kind::resolve(&Model, params).unwrap_err();
    let scratch = json!({"source": {"scratch": {
        "hidden_size": 30, "num_hidden_layers": 0, "num_attention_heads": 4, "vocab_size": 100,
        "pretrain": {"steps": 0},
    }}});
    let fields: Vec<String> = resolve(&scratch).into_iter().map(|(field, _)| field).collect();
    for field in ["hidden_size", "num_hidden_layers", "vocab_size", "pretrain/steps"] {
        assert!(fields.contains(&format!("/source/scratch/{field}")), "{field}: {fields:?}");
    }
    let unknown = resolve(&json!({"source": {"scratch": {"hiden_size": 1}}}));
    assert!(unknown[0].1.contains("hiden_size"), "{unknown:?}");
}

#[test]
fn without_questions_there_is_nothing_to_learn() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join(files::QUESTIONS), "").unwrap();
    let bench = Bench::new(&folder.path().join("cell")).input("corpus", folder.path(), &[]);
    let error = bench.run(&Model, &pretrain()).unwrap_err();
    assert_eq!(error.to_string(), "there is nothing to learn from: no question on port `corpus`");
}

#[test]
fn sizes_that_no_machine_holds_are_refused_before_they_are_multiplied() {
    let largest = json!(1u64 << 62);
    let sizes =
        ["hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads", "vocab_size"];
    let mut all = params(Value::Null);
    for size in sizes {
        let mut one = params(Value::Null);
        one["source"]["scratch"][size] = largest.clone();
        all["source"]["scratch"][size] = largest.clone();
        let problems = Model.resolve(&one).unwrap_err();
        assert_eq!(problems.len(), 1, "{problems:?}");
        assert_eq!(problems[0].0, format!("/source/scratch/{size}"));
        assert!(problems[0].1.starts_with("must be at most "), "{problems:?}");
    }
    assert_eq!(Model.resolve(&all).unwrap_err().len(), sizes.len());
}
