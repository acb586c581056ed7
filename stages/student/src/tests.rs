#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use contract::{
    Backend, CellDirs, Context, Digest, Event, Input, Stage, StageError, jsonl,
    records::{Metric, Question, QuestionRationales, Rationale, files},
};
use lm::{
    LanguageModel,
    assistant::{Assistant, AssistantConfig, AssistantNetwork, Features},
    llama::{Llama, LlamaConfig, LlamaSize},
    lora,
    tokenizer::Tokenizer,
};
use rand::{SeedableRng, rngs::SmallRng};
use serde_json::json;

use super::{Student, StudentParams, snapshots::SNAPSHOTS};

const PERSPECTIVES: [&str; 3] = ["planning", "analogy", "socratic"];

/// Sums; the third question lacks its first perspective.
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
            "analogy" => format!("as with {i} apples and 3 more.\n{suffix}"),
            _ => format!("what is {i} and 3? it is {}.\n{suffix}", i + 3),
        };
        let rationale = |perspective: &str| Rationale {
            perspective: perspective.into(),
            attempt: 0,
            text: text(perspective),
            truncated: false,
        };
        let wanted = PERSPECTIVES.iter().filter(|perspective| i != 2 || **perspective != "planning");
        QuestionRationales { question, rationales: wanted.map(|p| rationale(p)).collect() }
    };
    (0..6).map(record).collect()
}

/// The first two questions answered one too high.
fn mistakes() -> Vec<QuestionRationales> {
    let wrong = |mut record: QuestionRationales| {
        let answer = record.question.answer.parse::<u32>().unwrap() + 1;
        let suffix =
            tasks::answer_suffix(&Question { answer: answer.to_string(), ..record.question.clone() });
        record.rationales.truncate(1);
        record.rationales[0].text = format!("add.\n{suffix}");
        record
    };
    rationales().into_iter().take(2).map(wrong).collect()
}

/// A folder with everything a cell reads and writes.
struct Cell {
    folder: tempfile::TempDir,
    inputs: BTreeMap<String, Vec<Input>>,
}

impl Cell {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let records = rationales();
        let device = lm::device::open(&Backend::default()).unwrap();
        let path = |port: &str| folder.path().join(port);
        ["rationales", "mistakes", "model", "assistant"]
            .iter()
            .for_each(|port| fs::create_dir(path(port)).unwrap());
        jsonl::write(&path("rationales").join(files::RATIONALES), &records).unwrap();
        jsonl::write_json(&path("rationales").join(files::PERSPECTIVES), &PERSPECTIVES).unwrap();
        jsonl::write(&path("mistakes").join(files::RATIONALES), &mistakes()).unwrap();

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
        let model = Llama::init(&config, 3, &device);
        LanguageModel { model, config, tokenizer }.save(&path("model")).unwrap();

        let config = AssistantConfig {
            perspectives: PERSPECTIVES.map(String::from).to_vec(),
            feature_size: 4,
            hidden_size: 8,
            num_attention_heads: 2,
            head_hidden_size: 8,
            attention: true,
        };
        let network = AssistantNetwork::new(&config, &mut SmallRng::seed_from_u64(9), &device);
        let mut mask = vec![1.0; 18];
        mask[6] = 0.0;
        let features = Features {
            questions: records.iter().map(|record| record.question.id.clone()).collect(),
            paths: 3,
            size: 4,
            values: (0..72).map(|i| (i * 5 % 13) as f32 / 3.0 - 2.0).collect(),
            mask,
            losses: vec![5.5; 18],
        };
        Assistant { config, network, features }.save(&path("assistant")).unwrap();

        let input = |port: &str| Input {
            path: path(port),
            digest: Digest::of_bytes(b""),
            stage: "test".into(),
            labels: BTreeMap::new(),
        };
        let inputs = ["rationales", "mistakes", "model", "assistant"]
            .map(|port| (port.to_owned(), vec![input(port)]))
            .into();
        Self { folder, inputs }
    }

    /// Runs the kind into the folder `name`, interrupted after so many steps.
    fn try_run(
        &self,
        name: &str,
        params: serde_json::Value,
        interrupt_at: Option<u64>,
    ) -> Result<Done, StageError> {
        let params: StudentParams = serde_json::from_value(params).unwrap();
        assert_eq!(Student::check(&params), []);
        let folder = self.folder.path().join(name);
        let outputs: BTreeMap<String, PathBuf> =
            ["model", "metrics", SNAPSHOTS].map(|port| (port.to_owned(), folder.join(port))).into();
        for output in outputs.values() {
            let _ = fs::remove_dir_all(output);
            fs::create_dir_all(output).unwrap();
        }
        let scratch = folder.join("scratch");
        fs::create_dir_all(&scratch).unwrap();
        let dirs = CellDirs { outputs, scratch, journals: folder.join("journals") };
        let cancelled = AtomicBool::new(false);
        let observer = |event: Event| {
            if let Event::Progress { done, .. } = event
                && interrupt_at.is_some_and(|at| done + 1 >= at)
            {
                cancelled.store(true, Ordering::Relaxed);
            }
        };
        let inputs = self.inputs.iter().filter(|(port, _)| Student::reads(&params, port));
        let inputs = inputs.map(|(port, input)| (port.clone(), input.clone())).collect();
        let context = Context::new(inputs, dirs, 1, Backend::default(), &cancelled, &observer);
        Student::run(params, &context)?;
        Ok(Done::read(&folder))
    }

    fn run(&self, name: &str, params: serde_json::Value) -> Done {
        self.try_run(name, params, None).unwrap()
    }

    fn base(&self) -> Vec<u8> {
        fs::read(self.inputs["model"][0].file("model.safetensors")).unwrap()
    }
}

#[derive(Debug, PartialEq)]
struct Done {
    weights: Vec<u8>,
    lines: String,
}

impl Done {
    fn read(folder: &Path) -> Self {
        Self {
            weights: fs::read(folder.join("model/model.safetensors")).unwrap(),
            lines: fs::read_to_string(folder.join("metrics").join(files::METRICS)).unwrap(),
        }
    }

    fn metrics(&self) -> Vec<Metric> {
        self.lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

fn params(objective: serde_json::Value, steps: usize) -> serde_json::Value {
    json!({ "objective": objective, "steps": steps, "batch_size": 2, "learning_rate": 0.01 })
}

fn mind() -> serde_json::Value {
    json!({ "mind": { "assistant_learning_rate": 0.01, "assistant_accumulation": 2 } })
}

#[test]
fn an_undistilled_student_is_the_model_as_it_came() {
    let cell = Cell::new();
    let done = cell.run("out", json!({ "objective": "undistilled" }));
    assert_eq!(done, Done { weights: cell.base(), lines: String::new() });
}

#[test]
fn every_objective_learns() {
    let cell = Cell::new();
    for (name, objective, paths) in [
        ("std-cot", json!({ "std-cot": {} }), 2.0),
        ("named", json!({ "std-cot": { "perspective": "planning" } }), 2.0),
        ("uniform", json!({ "uniform": {} }), 6.0),
        ("no-fusion", json!({ "uniform": { "lambda": 0.5 } }), 6.0),
        ("loss-only", json!({ "loss-only": {} }), 6.0),
        ("sbs-multitask", json!({ "sbs-multitask": {} }), 4.0),
        ("mcc-kd", json!({ "mcc-kd": {} }), 4.0),
        ("edit", json!({ "edit": { "first_part": 0.8 } }), 12.0),
        ("mind", mind(), 6.0),
    ] {
        let metrics = cell.run(name, params(objective, 30)).metrics();
        assert_eq!(metrics.len(), 30);
        // The second part of `edit` is another loss.
        let (first, last) = (&metrics[0].values, &metrics[if name == "edit" { 23 } else { 29 }].values);
        assert!(last["loss"] < first["loss"] - 2.0, "{name}: {} to {}", first["loss"], last["loss"]);
        assert!(metrics.iter().all(|metric| metric.values["paths"] <= paths), "{name}");
        assert!(metrics.iter().all(|metric| metric.values.values().all(|value| value.is_finite())), "{name}");
    }
}

#[test]
fn a_training_that_diverges_fails_and_says_what_to_lower() {
    let cell = Cell::new();
    for objective in [json!({ "std-cot": {} }), mind()] {
        let mut params = params(objective, 10);
        params["learning_rate"] = json!(1e30);
        let error = cell.try_run("out", params, None).unwrap_err();
        assert!(error.to_string().starts_with("training diverged: a loss or gradient of step"), "{error}");
        assert_eq!(error.help(), Some("lower `learning_rate`, or warm it up for longer"));
        // What was logged before can be read.
        let lines = fs::read_to_string(cell.folder.path().join("out/scratch").join(files::METRICS)).unwrap();
        assert!(lines.lines().all(|line| serde_json::from_str::<Metric>(line).is_ok()), "{lines}");
        fs::remove_dir_all(cell.folder.path().join("out")).unwrap();
    }
}

#[test]
fn the_log_tells_the_story_of_mind() {
    let metrics = Cell::new().run("out", params(mind(), 3)).metrics();
    let mut difficulties = BTreeSet::new();
    for metric in metrics {
        let values = metric.values;
        let alphas: f64 = PERSPECTIVES.iter().map(|p| values[&format!("alpha/{p}")]).sum();
        // Means over the questions that have the perspective, so the sum is 1 only where none is missing.
        assert!(alphas > 0.9 && alphas < 1.6, "{alphas}");
        assert!((values["loss"] - values["l_sft"] - 0.5 * values["l_cons"]).abs() < 1e-9);
        assert!(values["l_cons"] <= 0.4375 * std::f64::consts::LN_2 && values["l_cons"] > -1e-6);
        assert!(values["i_dyn"] >= 1.0 && values["alpha_entropy"] <= 3.0_f64.ln() && values["l_meta"] >= 0.0);
        for name in ["s", "l_real", "l_real_average"] {
            assert!(values.contains_key(&format!("{name}/analogy")));
        }
        assert_eq!(values.keys().filter(|name| name.starts_with("m/")).count(), 9);
        // A mean over the questions of a step lies between those of its parts.
        let parts = values.iter().filter(|(name, _)| name.starts_with("alpha_entropy_by_difficulty/"));
        let parts: Vec<f64> = parts
            .map(|(name, value)| {
                difficulties.insert(name.clone());
                *value
            })
            .collect();
        let least = parts.iter().copied().fold(f64::INFINITY, f64::min);
        let most = parts.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        assert!(
            least - 1e-9 <= values["alpha_entropy"] && values["alpha_entropy"] <= most + 1e-9,
            "{parts:?}"
        );
        assert!(values.keys().any(|name| name.starts_with("alpha_by_difficulty/analogy/")));
    }
    assert_eq!(difficulties.len(), 3, "{difficulties:?}");
}

#[test]
fn the_loss_does_not_depend_on_how_a_step_is_split() {
    let cell = Cell::new();
    let run = |name: &str, batch_size: usize, accumulate: usize, tokens_at_once: usize| {
        let mut params = params(mind(), 8);
        params["gradient_checkpointing"] = json!(name == "checkpointed");
        params["batch_size"] = json!(batch_size);
        params["accumulate"] = json!(accumulate);
        params["tokens_at_once"] = json!(tokens_at_once);
        cell.run(name, params).metrics()
    };
    let whole = run("whole", 4, 1, 1024);
    for split in [run("accumulated", 1, 4, 1024), run("grouped", 4, 1, 1), run("checkpointed", 4, 1, 60)] {
        for (whole, split) in whole.iter().zip(&split) {
            assert!(whole.values.keys().eq(split.values.keys()));
            for (name, value) in &whole.values {
                let other = split.values[name];
                assert!((value - other).abs() < 2e-3 * value.abs().max(0.1), "{name}: {value} and {other}");
            }
        }
    }
}

#[test]
fn gradients_that_were_cut_are_those_that_were_not() {
    let cell = Cell::new();
    // Objectives that look at losses, at answers and at tokens; the log holds the norm of the gradient.
    for (name, objective) in
        [("mind", mind()), ("mcc-kd", json!({ "mcc-kd": {} })), ("edit", json!({ "edit": {} }))]
    {
        let weights = |cut: bool| {
            let mut params = params(objective.clone(), 6);
            params["gradient_checkpointing"] = json!(cut);
            params["tokens_at_once"] = json!(50);
            cell.run(&format!("{name}-{cut}"), params).metrics()
        };
        for (whole, cut) in weights(false).iter().zip(weights(true)) {
            for (value, whole) in &whole.values {
                let cut = cut.values[value];
                assert!((cut - whole).abs() < 2e-3 * whole.abs().max(0.1), "{name}, {value}: {cut}, {whole}");
            }
        }
    }
}

#[test]
fn an_interrupted_training_ends_in_the_same_weights() {
    let cell = Cell::new();
    for (name, objective) in [
        ("uniform", json!({ "uniform": {} })),
        ("mcc-kd", json!({ "mcc-kd": {} })),
        ("edit", json!({ "edit": {} })),
        ("mind", mind()),
    ] {
        let whole = cell.run(&format!("{name}-whole"), params(objective.clone(), 9));
        let mut often = params(objective, 9);
        often["checkpoint_every"] = json!(2);
        for at in [3, 6, 8] {
            let result = cell.try_run(&format!("{name}-{at}"), often.clone(), Some(at));
            assert!(matches!(result, Err(StageError::Cancelled)));
            let resumed = cell.run(&format!("{name}-{at}"), often.clone());
            assert_eq!(resumed.lines, whole.lines, "{name} stopped at {at}");
            assert!(resumed == whole, "{name} stopped at {at}: the weights differ");
        }
    }
}

#[test]
fn snapshots_are_the_student_as_it_was_whether_or_not_training_was_killed() {
    let cell = Cell::new();
    let plain = params(json!({ "std-cot": {} }), 8);
    let mut kept = plain.clone();
    kept[SNAPSHOTS] = json!([0, 3, 5, 8]);
    kept["checkpoint_every"] = json!(2);
    let whole = cell.run("whole", kept.clone());
    assert!(whole == cell.run("plain", plain), "to keep snapshots changes nothing else");
    let weights = |run: &str, step: usize| {
        let folder = cell.folder.path().join(run).join(SNAPSHOTS).join(step.to_string());
        fs::read(folder.join("model.safetensors")).unwrap()
    };
    assert_eq!(weights("whole", 0), cell.base());
    assert_ne!(weights("whole", 3), weights("whole", 5));
    assert_eq!(weights("whole", 8), whole.weights);

    // Stopped after 4 steps, with one snapshot taken and half of another there.
    assert!(cell.try_run("killed", kept.clone(), Some(4)).is_err());
    let half = cell.folder.path().join("killed/scratch").join(SNAPSHOTS).join("5");
    fs::create_dir_all(&half).unwrap();
    fs::write(half.join("model.safetensors"), "half").unwrap();
    cell.run("killed", kept);
    for step in [0, 3, 5, 8] {
        assert_eq!(weights("killed", step), weights("whole", step), "step {step}");
    }
}

#[test]
fn the_undistilled_student_is_the_same_after_every_step() {
    let cell = Cell::new();
    cell.run("out", json!({ "objective": "undistilled", "snapshots": [0, 7] }));
    for step in ["0", "7"] {
        let folder = cell.folder.path().join("out").join(SNAPSHOTS).join(step);
        assert_eq!(fs::read(folder.join("model.safetensors")).unwrap(), cell.base());
    }
}

#[test]
fn what_is_off_is_in_no_fingerprint() {
    let resolved = |params| contract::Kind::resolve(&Student, &params).unwrap();
    let plain = resolved(json!({ "objective": { "uniform": {} } }));
    for param in [SNAPSHOTS, "dtype"] {
        assert!(plain.get(param).is_none(), "results made before there was `{param}` stay: {plain}");
    }
    assert!(!contract::Kind::makes(&Student, &plain, SNAPSHOTS));
    let kept = resolved(json!({ "objective": { "uniform": {} }, "snapshots": [1] }));
    assert!(contract::Kind::makes(&Student, &kept, SNAPSHOTS));
    let wrong = |snapshots: serde_json::Value| {
        let params = json!({ "objective": { "uniform": {} }, "steps": 5, "snapshots": snapshots });
        contract::Kind::resolve(&Student, &params).unwrap_err()
    };
    assert_eq!(wrong(json!([2, 1]))[0].0, "/snapshots");
    assert_eq!(wrong(json!([1, 1]))[0].0, "/snapshots");
    assert_eq!(wrong(json!([1, 6]))[0].1, "must not be beyond the last of `steps`");
}

/// Trains an adapter on every projection, or on some.
fn lora(steps: usize) -> serde_json::Value {
    let mut params = params(json!({ "uniform": {} }), steps);
    params["adapt"] =
        json!({ "lora": { "r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"] } });
    params
}

#[test]
fn an_adapter_learns_and_comes_out_merged_and_alone() {
    let mut cell = Cell::new();
    let device = lm::device::open(&Backend::default()).unwrap();
    // Tied embeddings stay as they are drawn: they have to be wide enough to tell tokens apart.
    let path = &cell.inputs["model"][0].path;
    let LanguageModel { mut config, tokenizer, .. } = LanguageModel::load(path, &device).unwrap();
    config.initializer_range = 0.3;
    let model = Llama::init(&config, 3, &device);
    LanguageModel { model, config, tokenizer }.save(path).unwrap();

    let done = cell.run("out", lora(30));
    let metrics = done.metrics();
    let (first, last) = (metrics[0].values["loss"], metrics[29].values["loss"]);
    assert!(last < first - 1.0, "{first} to {last}");

    let out = cell.folder.path().join("out/model");
    let base = LanguageModel::load(&cell.inputs["model"][0].path, &device).unwrap();
    let (model, config) = lora::load(base.model.clone(), &out.join("adapter")).unwrap();
    assert_eq!((config.r, config.lora_alpha, config.target_modules.len()), (4, 8.0, 3));
    let again = cell.folder.path().join("again");
    fs::create_dir(&again).unwrap();
    LanguageModel { model, ..base }.save(&again).unwrap();
    let merged = fs::read(again.join("model.safetensors")).unwrap();
    assert!(merged == done.weights && merged != cell.base(), "the folder holds base plus adapter");

    // The next stage takes such a model as any other.
    cell.inputs.get_mut("model").unwrap()[0].path = out;
    assert!(cell.run("next", json!({ "objective": "undistilled" })).weights == merged);
    assert!(cell.folder.path().join("next/model/adapter/adapter_config.json").exists());
}

#[test]
fn an_interrupted_adapter_ends_in_the_same_weights() {
    let cell = Cell::new();
    let whole = cell.run("whole", lora(7));
    let mut often = lora(7);
    often["checkpoint_every"] = json!(2);
    assert!(matches!(cell.try_run("resumed", often.clone(), Some(5)), Err(StageError::Cancelled)));
    let checkpoint = fs::read(cell.folder.path().join("resumed/scratch/checkpoint.safetensors")).unwrap();
    assert!(checkpoint.len() < cell.base().len(), "it does not hold the base");
    assert!(cell.run("resumed", often) == whole);
}

#[test]
fn equal_weights_are_uniform_and_the_order_is_shared() {
    let cell = Cell::new();
    let uniform = cell.run("uniform", params(json!({ "uniform": {} }), 4));
    let flat = json!({ "beta": 0.0, "tau_student": 1e12, "lambda": 0.0, "assistant_accumulation": 100 });
    let mind = cell.run("mind", params(json!({ "mind": flat }), 4));
    assert_eq!(mind.weights, uniform.weights);
    assert_ne!(uniform.weights, cell.base());
}

#[test]
fn what_is_missing_is_said() {
    let mut cell = Cell::new();
    let named = json!({ "std-cot": { "perspective": "poetry" } });
    let error = cell.try_run("out", params(named, 1), None).unwrap_err();
    assert_eq!(error.to_string(), "there are no rationales from perspective `poetry`");
    assert_eq!(error.help().unwrap(), "the rationales are from `planning`, `analogy`, `socratic`");
    cell.inputs.remove("mistakes");
    let error = cell.try_run("out", params(json!({ "edit": {} }), 1), None).unwrap_err();
    assert!(error.to_string().starts_with("objective `edit` needs wrong rationales"), "{error}");
    cell.inputs.remove("assistant");
    let error = cell.try_run("out", params(json!({ "mind": {} }), 1), None).unwrap_err();
    assert_eq!(error.to_string(), "objective `mind` needs port `assistant`");
}

#[test]
fn ports_are_read_only_by_the_objectives_that_use_them() {
    let reads = |objective: serde_json::Value| {
        let params: StudentParams = serde_json::from_value(json!({ "objective": objective })).unwrap();
        ["model", "rationales", "assistant", "mistakes"].map(|port| Student::reads(&params, port))
    };
    assert_eq!(reads(json!("undistilled")), [true, false, false, false]);
    assert_eq!(reads(json!({ "uniform": {} })), [true, true, false, false]);
    assert_eq!(reads(json!({ "mind": {} })), [true, true, true, false]);
    assert_eq!(reads(json!({ "edit": {} })), [true, true, false, true]);
}

#[test]
fn wrong_values_are_found_before_anything_runs() {
    let params: StudentParams = serde_json::from_value(json!({
        "objective": { "mind": { "beta": 1.5, "refresh": 0 } }, "adapt": { "lora": { "r": 0, "target_modules": [] } },
        "accumulate": 0, "warmup": 2.0,
    }))
    .unwrap();
    let fields: Vec<String> = Student::check(&params).into_iter().map(|(field, _)| field).collect();
    let expected = [
        "/objective/mind/beta",
        "/objective/mind/refresh",
        "/adapt/lora/r",
        "/adapt/lora/target_modules",
        "/accumulate",
        "/warmup",
    ];
    assert_eq!(fields, expected);
    let unknown = json!({ "objective": { "mind": { "betta": 0.5 } } });
    let error = serde_json::from_value::<StudentParams>(unknown).unwrap_err().to_string();
    assert!(error.contains("unknown field `betta`"), "{error}");
}
