use std::{collections::BTreeMap, fs, path::Path, sync::atomic::AtomicBool};

use contract::{
    Backend, CellDirs, Digest, Event, Input, Kind,
    records::{Question, Rationale},
};
use lm::{
    LanguageModel,
    llama::{Llama, LlamaConfig, LlamaSize},
    tokenizer::Tokenizer,
};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::*;

pub(crate) const PERSPECTIVES: [&str; 2] = ["planning", "analogy"];

/// Questions with one rationale from each of [`PERSPECTIVES`].
pub(crate) fn records(count: usize) -> Vec<QuestionRationales> {
    let rationale = |perspective: &str, text: String| Rationale {
        perspective: perspective.into(),
        attempt: 0,
        text,
        truncated: false,
    };
    let record = |i: usize| {
        let answer = 3 * i + 1;
        let question = Question {
            id: i.to_string(),
            task: "gsm8k".into(),
            question: format!("What is {i} + {i} + {i} + 1?"),
            answer: answer.to_string(),
            choices: Vec::new(),
            facts: None,
        };
        let suffix = tasks::answer_suffix(&question);
        let rationales = vec![
            rationale("planning", format!("First plan the sum, then add {i} thrice. {suffix}")),
            rationale("analogy", format!("Like {i} baskets of three apples and one more. {suffix}")),
        ];
        QuestionRationales { question, rationales }
    };
    (0..count).map(record).collect()
}

/// A tiny random model.
pub(crate) fn language_model(seed: u64) -> LanguageModel {
    let tokenizer =
        Tokenizer::train(records(20).into_iter().map(|r| r.rationales[0].text.clone()), 300).unwrap();
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
    let model = Llama::init(&config, seed, &device);
    LanguageModel { model, config, tokenizer }
}

fn model_input(folder: &Path, seed: u64, labels: &[(&str, &str)]) -> Input {
    saved(folder, seed, &language_model(seed), labels)
}

fn saved(folder: &Path, seed: u64, model: &LanguageModel, labels: &[(&str, &str)]) -> Input {
    let path = folder.join(format!("model-{seed}"));
    fs::create_dir_all(&path).unwrap();
    model.save(&path).unwrap();
    Input {
        path,
        digest: Digest::of_json(&seed),
        stage: "student".into(),
        labels: labels.iter().map(|(axis, value)| (axis.to_string(), value.to_string())).collect(),
    }
}

fn run(
    folder: &Path,
    name: &str,
    inputs: &BTreeMap<String, Vec<Input>>,
    params: serde_json::Value,
) -> Result<BTreeMap<String, String>, StageError> {
    let output = folder.join(name);
    fs::create_dir_all(&output).unwrap();
    let dirs = CellDirs {
        outputs: BTreeMap::from([("figures".to_owned(), output.clone())]),
        scratch: folder.join("scratch"),
        journals: folder.join("journals"),
    };
    let (cancelled, observer) = (AtomicBool::new(false), |_: Event| {});
    let context = Context::new(inputs.clone(), dirs, 7, Backend::default(), &cancelled, &observer);
    Kind::run(&Latent, &Kind::resolve(&Latent, &params).unwrap(), &context)?;
    let files = fs::read_dir(output).unwrap().map(|entry| entry.unwrap());
    Ok(files
        .map(|file| (file.file_name().into_string().unwrap(), fs::read_to_string(file.path()).unwrap()))
        .collect())
}

fn inputs(
    folder: &Path,
    questions: usize,
    models: Vec<Input>,
    base: Option<Input>,
) -> BTreeMap<String, Vec<Input>> {
    let path = folder.join("rationales");
    fs::create_dir_all(&path).unwrap();
    jsonl::write(&path.join(files::RATIONALES), &records(questions)).unwrap();
    jsonl::write_json(&path.join(files::PERSPECTIVES), &PERSPECTIVES).unwrap();
    let rationales = Input {
        path,
        digest: Digest::of_bytes(b"rationales"),
        stage: "accepted".into(),
        labels: BTreeMap::new(),
    };
    BTreeMap::from([
        ("models".to_owned(), models),
        ("base".to_owned(), base.into_iter().collect()),
        ("rationales".to_owned(), vec![rationales]),
    ])
}

#[test]
fn every_model_gets_a_figure_its_numbers_and_a_row() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let models = vec![
        model_input(folder, 1, &[("method", "mind"), ("seed", "1")]),
        model_input(folder, 2, &[("method", "mind"), ("seed", "2")]),
        model_input(folder, 1, &[("method", "std-cot"), ("seed", "1")]),
    ];
    let inputs = inputs(folder, 12, models, Some(model_input(folder, 2, &[])));
    let params = serde_json::json!({ "iterations": 50, "texts": 21 });
    let files = run(folder, "one", &inputs, params.clone()).unwrap();

    let names: Vec<&str> = files.keys().map(String::as_str).collect();
    assert_eq!(
        names,
        [
            "layers.json",
            "layers.svg",
            "method-mind-seed-1.json",
            "method-mind-seed-1.svg",
            "method-mind-seed-2.json",
            "method-mind-seed-2.svg",
            "method-std-cot-seed-1.json",
            "method-std-cot-seed-1.svg",
            "summary.json",
            "summary.md",
            "undistilled.json",
            "undistilled.svg",
        ]
    );
    let summary: serde_json::Value = serde_json::from_str(&files["summary.json"]).unwrap();
    assert_eq!(summary["setting"]["texts"], 20, "ten whole questions of two");
    assert_eq!(summary["setting"]["perplexity"], 6.0);
    let rows = summary["models"].as_array().unwrap();
    assert_eq!(rows[0]["label"], "undistilled");
    assert_eq!(rows[1]["same_as"], serde_json::Value::Null);
    assert_eq!(rows[2]["same_as"], "undistilled");
    assert_eq!(rows[3]["same_as"], "method=mind,seed=1");
    assert_eq!(rows[2]["numbers"]["cka_to_undistilled"], 1.0);
    assert!(rows[1]["numbers"]["cka_to_undistilled"].as_f64().unwrap() < 0.999);
    assert_eq!(rows[3]["numbers"], rows[1]["numbers"]);
    assert_ne!(rows[0]["numbers"], rows[1]["numbers"]);
    assert_eq!(summary["undistilled_silhouette"], rows[0]["numbers"]["silhouette"]);
    assert_eq!(rows[0]["drift"], serde_json::Value::Null);
    let drift = &rows[1]["drift"];
    let [low, mean, high] =
        [&drift["interval"][0], &drift["mean"], &drift["interval"][1]].map(|n| n.as_f64().unwrap());
    assert!(0.0 < low && low <= mean && mean <= high, "{drift}");
    assert_eq!(rows[0]["perspective_probe"]["texts"], 20);
    assert_eq!(rows[0]["correctness_probe"], serde_json::Value::Null, "no completions are given");
    let layers: serde_json::Value = serde_json::from_str(&files["layers.json"]).unwrap();
    assert_eq!(layers.as_object().unwrap().len(), 2, "two sets of weights");
    assert_eq!(layers["undistilled"][2], rows[0]["numbers"]);

    let figure: serde_json::Value = serde_json::from_str(&files["method-mind-seed-1.json"]).unwrap();
    assert_eq!(figure["analysis"]["points"].as_array().unwrap().len(), 20);
    assert_eq!(figure["analysis"]["layers"].as_array().unwrap().len(), 3);
    assert!(files["summary.md"].contains("| method=std-cot,seed=1 (equal to method=mind,seed=1) |"));

    assert_eq!(files, run(folder, "two", &inputs, params).unwrap(), "equal inputs give equal bytes");
}

#[test]
fn students_of_one_perspective_each_are_set_against_their_controls() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let student = |seed: u64, taught: &str| model_input(folder, seed, &[("taught", taught), ("seed", "1")]);
    let models = vec![student(2, "planning"), student(3, "analogy"), student(1, "undistilled")];
    let mut inputs = inputs(folder, 12, models, Some(model_input(folder, 1, &[])));
    let mut completions = records(12);
    for record in &mut completions[..6] {
        record.rationales[0].text = "It is clear. The answer is \\boxed{-5}".into();
    }
    let path = folder.join("completions");
    fs::create_dir_all(&path).unwrap();
    jsonl::write(&path.join(files::COMPLETIONS), &completions).unwrap();
    let completions = Input { path, ..inputs["rationales"][0].clone() };
    inputs.insert("completions".to_owned(), vec![completions]);

    let encoder = concat!(env!("CARGO_MANIFEST_DIR"), "/../shared/lm/fixtures/tiny-bert");
    let params = serde_json::json!({
        "taught": "taught",
        "iterations": 30,
        "sentence_space": { "encoder": encoder, "questions": 5, "max_new_tokens": 8 },
    });
    let files = run(folder, "one", &inputs, params.clone()).unwrap();
    for name in
        ["clusters--seed-1", "clusters--seed-1--control", "clusters--seed-1--swapped", "sentence-space"]
    {
        assert!(files.contains_key(&format!("{name}.svg")), "{name} in {:?}", files.keys());
        assert!(files.contains_key(&format!("{name}.json")), "{name} in {:?}", files.keys());
    }
    let read = |name: &str| -> serde_json::Value { serde_json::from_str(&files[name]).unwrap() };
    let clusters = read("clusters--seed-1.json");
    assert_eq!(clusters["students"]["analogy"], "seed=1,taught=analogy");
    assert_eq!(clusters["judged"]["students"], clusters["picture"]["silhouette"]);
    // The control read the same texts as its own figure shows.
    let control = read("clusters--seed-1--control.json");
    assert_eq!(control["picture"], {
        let mut undistilled = read("undistilled.json")["analysis"].clone();
        undistilled.as_object_mut().unwrap().retain(|name, _| control["picture"].get(name).is_some());
        undistilled
    });
    // Models of other random weights are far apart, whatever they read.
    assert_eq!(clusters["judged"]["verdict"], "weights");
    assert!(clusters["silhouette_by_student_on_same_texts"].as_f64().unwrap() > 0.5);
    assert!(files["summary.md"].contains("Verdict: seed=1: beyond the undistilled control, but not tied"));
    let summary = read("summary.json");
    assert_eq!(summary["models"][0]["correctness_probe"]["texts"], 24);
    assert_eq!(summary["models"][0]["correctness_probe"]["chance"], 0.75);
    let written = read("sentence-space--students--seed-1.json");
    assert_eq!(written["picture"]["points"].as_array().unwrap().len(), 10, "two students, five questions");
    assert_eq!(read("sentence-space.json")["points"].as_array().unwrap().len(), 24);
    assert_eq!(files, run(folder, "two", &inputs, params).unwrap(), "equal inputs give equal bytes");
}

#[test]
fn clusters_need_students_and_a_control() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let params = serde_json::json!({ "taught": "method" });
    let models = || vec![model_input(folder, 1, &[("method", "mind")])];
    let none = run(folder, "none", &inputs(folder, 9, models(), None), params.clone()).unwrap_err();
    assert!(none.to_string().starts_with("no two models were taught different perspectives"), "{none}");
    let models = PERSPECTIVES.map(|name| model_input(folder, 1, &[("method", name)])).to_vec();
    let bare = run(folder, "bare", &inputs(folder, 9, models, None), params).unwrap_err();
    assert_eq!(bare.help(), Some("give the undistilled model on the port `base`"));
}

#[test]
fn what_cannot_be_drawn_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let model = || vec![model_input(folder, 1, &[])];
    let few = run(folder, "few", &inputs(folder, 3, model(), None), serde_json::json!({})).unwrap_err();
    assert_eq!(few.to_string(), "6 texts are too few to draw: at least 8 are needed");
    let params = serde_json::json!({ "layer": { "index": 3 } });
    let layer = run(folder, "layer", &inputs(folder, 9, model(), None), params).unwrap_err();
    assert_eq!(layer.to_string(), "model `model` has layers 0 to 2, and no layer 3");

    let mut diverged = language_model(2);
    diverged.config.rms_norm_eps = -1e9;
    let models = vec![saved(folder, 2, &diverged, &[])];
    let diverged = run(folder, "nan", &inputs(folder, 9, models, None), serde_json::json!({})).unwrap_err();
    assert_eq!(diverged.to_string(), "model `model` has hidden states that are not finite");
    assert_eq!(diverged.help(), Some("its training diverged: lower the learning rate"));

    let mut narrow = language_model(3);
    narrow.config.max_position_embeddings = 10;
    let (narrow, base) = (vec![saved(folder, 3, &narrow, &[])], Some(model_input(folder, 1, &[])));
    let other = run(folder, "other", &inputs(folder, 9, narrow, base), serde_json::json!({})).unwrap_err();
    assert!(other.to_string().starts_with("model `model` can read other texts"), "{other}");
}

#[test]
fn params_are_checked() {
    let problems = |value| Kind::resolve(&Latent, &value).unwrap_err();
    assert_eq!(problems(serde_json::json!({ "pca": 1 })), [("/pca".into(), "must be at least 2".into())]);
    assert_eq!(problems(serde_json::json!({ "texts": 0, "perplexity": 0.5 })).len(), 2);
    assert_eq!(problems(serde_json::json!({ "mixture": { "components": 0, "concentration": 0 } })).len(), 2);
    assert!(problems(serde_json::json!({ "layers": 1 }))[0].1.contains("unknown field"));
    let resolved = Kind::resolve(&Latent, &serde_json::json!({})).unwrap();
    assert_eq!((&resolved["layer"], &resolved["pooling"]), (&"last".into(), &"mean".into()));
}

#[test]
fn a_sample_is_whole_questions_in_order() {
    let draw = |most, seed| -> Vec<String> {
        let drawn = sample(records(20), most, &mut ChaCha8Rng::seed_from_u64(seed));
        assert!(drawn.iter().all(|record| record.rationales.len() == 2));
        drawn.into_iter().map(|record| record.question.id).collect()
    };
    assert_eq!(draw(9, 1).len(), 4);
    assert_eq!(draw(9, 1), draw(9, 1));
    assert_ne!(draw(9, 1), draw(9, 2));
    assert!(draw(30, 1).is_sorted_by_key(|id| id.parse::<usize>().unwrap()));
    assert_eq!(draw(1, 1).len(), 1);
    assert_eq!(draw(40, 1).len(), 20);
}
