use super::*;
use crate::{
    LanguageModel,
    batch::{Sequence, collate},
    fixture,
    llama::LlamaConfig,
    train::{Checkpoint, Schedule, TrainOptions, Trainer},
};
use burn::module::ModuleVisitor;
use contract::rng;
use safetensors::SafeTensors;

fn config(r: usize) -> LoraConfig {
    LoraConfig { r, lora_alpha: 1.5 * r as f64, ..LoraConfig::default() }
}

fn adapted(r: usize) -> Llama {
    attach(fixture::llama(1), &config(r), &mut rng(1, "adapter"))
}

fn trainer(r: usize, learning_rate: f64) -> Trainer<Llama> {
    let schedule = Schedule::Cosine { steps: 60, warmup: 0.1 };
    Trainer::new(
        adapted(r),
        TrainOptions { weight_decay: 0.01, ..TrainOptions::new(learning_rate, schedule) },
    )
}

fn loss(model: &Llama, sequences: &[Sequence]) -> Tensor<1> {
    let batch = collate(&sequences.iter().collect::<Vec<_>>(), &fixture::device());
    batch.token_losses(model, batch.hidden(model))
}

fn hidden(model: &Llama) -> Vec<f64> {
    let sequences = fixture::sequences(3);
    let batch = collate(&sequences.iter().collect::<Vec<_>>(), &fixture::device());
    batch.hidden(model).into_data().iter::<f64>().collect()
}

/// Steps on three batches in turn.
fn train(trainer: &mut Trainer<Llama>, steps: std::ops::Range<usize>) {
    let sequences = fixture::sequences(12);
    for step in steps {
        let loss = loss(&trainer.model, &sequences[step % 3 * 4..][..4]).mean();
        trainer.step_on(loss).unwrap();
    }
}

/// An adapter whose B is not zero.
fn trained(r: usize) -> Llama {
    let mut trainer = trainer(r, 3e-2);
    train(&mut trainer, 0..4);
    trainer.into_model()
}

/// The weights of a model by path, for those that are adapters or those that are not.
fn weights(model: &Llama, adapters: bool) -> BTreeMap<String, TensorData> {
    struct Visit(Vec<String>, BTreeMap<String, TensorData>);
    impl ModuleVisitor for Visit {
        fn enter_module(&mut self, name: &str, _: &str) {
            self.0.push(name.to_owned());
        }
        fn exit_module(&mut self, _: &str, _: &str) {
            self.0.pop();
        }
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.1.insert(self.0.join("."), param.val().into_data());
        }
    }
    let mut visit = Visit(Vec::new(), BTreeMap::new());
    model.visit(&mut visit);
    visit.1.retain(|path, _| path.contains(".adapter.") == adapters);
    visit.1
}

#[test]
fn a_fresh_adapter_changes_nothing_and_is_drawn_as_peft_does() {
    let model = adapted(8);
    assert_eq!(hidden(&model), hidden(&fixture::llama(1)));
    let weights = weights(&model, true);
    assert_eq!(weights.len(), 2 * 7 * 2, "A and B, seven projections, two blocks");
    for (path, data) in &weights {
        let values: Vec<f64> = data.iter::<f64>().collect();
        if path.ends_with("lora_b") {
            assert!(values.iter().all(|value| *value == 0.0), "{path}");
            continue;
        }
        // Uniform: the deviation is the bound over the root of 3.
        let bound = 1.0 / (data.shape()[0] as f64).sqrt();
        let deviation = (values.iter().map(|v| v * v).sum::<f64>() / values.len() as f64).sqrt();
        assert!(values.iter().all(|value| value.abs() <= bound), "{path}");
        assert!((deviation * 3f64.sqrt() / bound - 1.0).abs() < 0.1, "{path}: {deviation}");
    }
    let other = attach(fixture::llama(1), &config(8), &mut rng(2, "adapter"));
    assert_ne!(super::tests::weights(&other, true), weights, "the seed decides");
}

#[test]
fn an_update_is_what_the_paper_says() {
    let device = fixture::device();
    let param = |rows: [[f32; 2]; 2]| Param::from_data(rows, &device);
    let mut linear = Linear::new(param([[1.0, 0.0], [0.0, 1.0]]), None);
    linear.adapter = Some(Adapter {
        lora_a: Param::from_data([[1.0f32], [2.0]], &device),
        lora_b: Param::from_data([[3.0f32, -1.0]], &device),
        scale: 0.5,
    });
    // x A = 1 * 1 + 10 * 2 = 21; 21 B = (63, -21), halved, on top of x.
    let y = linear.forward(Tensor::from_data([[1.0f32, 10.0]], &device)).into_data();
    assert_eq!(y.iter::<f32>().collect::<Vec<_>>(), [32.5, -0.5]);
}

#[test]
fn merged_and_unmerged_agree() {
    let model = trained(4);
    let change: Vec<f64> = hidden(&model).iter().zip(hidden(&adapted(4))).map(|(x, y)| x - y).collect();
    assert!(change.iter().any(|change| change.abs() > 1e-2), "the adapter does something");
    let merged = merge(model.clone());
    assert!(weights(&merged, true).is_empty());
    fixture::assert_close(&hidden(&merged), &hidden(&model), 1e-5);
    // A folder holds the merged weights.
    let folder = tempfile::tempdir().unwrap();
    LanguageModel { model: model.clone(), ..fixture::language_model(1) }.save(folder.path()).unwrap();
    let loaded = LanguageModel::load(folder.path(), &fixture::device()).unwrap().model;
    fixture::assert_close(&hidden(&loaded), &hidden(&model), 1e-5);
}

#[test]
fn only_the_adapter_is_trained_and_kept_in_checkpoints() {
    let mut one = trainer(4, 1e-2);
    let before = weights(&one.model, true);
    train(&mut one, 0..3);
    assert_eq!(weights(&one.model, false), weights(&fixture::llama(1), false), "the base is frozen");
    let after = weights(&one.model, true);
    for (path, data) in &after {
        assert_ne!(data, &before[path], "{path} has learnt");
    }
    let folder = tempfile::tempdir().unwrap();
    let mut checkpoint = Checkpoint::new(&());
    checkpoint.add("student", &one);
    checkpoint.save(folder.path()).unwrap();
    let file = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    let bytes = fs::read(file).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let names: Vec<&str> = tensors.names().into_iter().filter(|name| *name != "state").collect();
    assert_eq!(names.len(), 3 * after.len(), "each with two moments");
    assert!(names.iter().all(|name| name.contains(".adapter.lora_")), "{names:?}");
    // Once merged, everything learns again.
    let mut whole = Trainer::new(merge(one.into_model()), TrainOptions::new(1e-2, Schedule::Constant));
    let start = weights(&whole.model, false);
    train(&mut whole, 0..1);
    assert!(weights(&whole.model, false).iter().all(|(path, data)| data != &start[path]));
}

#[test]
fn a_killed_training_resumes_bit_for_bit() {
    let folder = tempfile::tempdir().unwrap();
    let mut straight = trainer(4, 1e-2);
    train(&mut straight, 0..10);

    let mut killed = trainer(4, 1e-2);
    train(&mut killed, 0..6);
    let mut checkpoint = Checkpoint::new(&());
    checkpoint.add("student", &killed);
    checkpoint.save(folder.path()).unwrap();
    drop(killed);

    // Another draw: the adapter must come from the checkpoint, the base from where it always does.
    let other = attach(fixture::llama(1), &config(4), &mut rng(2, "adapter"));
    let mut resumed = Trainer::new(other, straight.options);
    Checkpoint::load(folder.path()).unwrap().unwrap().restore("student", &mut resumed).unwrap();
    train(&mut resumed, 6..10);
    assert_eq!(weights(&resumed.model, true), weights(&straight.model, true));
    assert_eq!(hidden(&resumed.into_model()), hidden(&straight.into_model()));
}

#[test]
fn a_small_adapter_overfits_one_batch() {
    // Tied embeddings stay as they are drawn, and with the usual 0.02 no state could tell tokens apart by more than a fraction
    // of a nat.
    let base = LlamaConfig { initializer_range: 0.3, ..fixture::config() };
    let model = attach(Llama::init(&base, 1, &fixture::device()), &config(8), &mut rng(1, "adapter"));
    let sequences = fixture::sequences(4);
    let mut trainer = Trainer::new(model, trainer(8, 3e-2).options);
    let before = loss(&trainer.model, &sequences).mean().into_scalar::<f32>();
    for _ in 0..60 {
        let loss = loss(&trainer.model, &sequences).mean();
        trainer.step_on(loss).unwrap();
    }
    let after = loss(&trainer.into_model(), &sequences).mean().into_scalar::<f32>();
    assert!(before > 5.0 && after < 0.5, "{before} -> {after}");
}

/// The tensors of an adapter file and their shapes.
fn shapes(folder: &Path) -> BTreeMap<String, Vec<usize>> {
    let bytes = fs::read(folder.join(WEIGHTS)).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    tensors.iter().map(|(name, view)| (name.to_owned(), view.shape().to_vec())).collect()
}

#[test]
fn an_adapter_of_peft_computes_what_peft_computes() {
    // fixtures/reference_lora.py; both sides compute in f32 and round differently.
    let base = fixture::loaded("tiny-llama");
    let (model, config) = load(base.model.clone(), &fixture::folder("tiny-lora")).unwrap();
    assert_eq!(config, self::config(4));
    let adapted = LanguageModel { model, ..base };
    fixture::assert_reference_logits("tiny-lora", &adapted, 1e-5);
    let merged = LanguageModel { model: merge(adapted.model.clone()), ..adapted };
    fixture::assert_reference_logits("tiny-lora", &merged, 1e-5);
}

#[test]
fn names_and_shapes_are_those_of_peft_and_what_is_saved_is_loaded() {
    let base = || fixture::loaded("tiny-llama").model;
    let model = attach(base(), &config(4), &mut rng(1, "adapter"));
    let mut trainer = Trainer::new(model, TrainOptions::new(1e-2, Schedule::Constant));
    let sequence = Sequence { tokens: vec![2, 3, 4, 5], target_start: 1, answer_span: 0..0 };
    let loss = loss(&trainer.model, &[sequence]).mean();
    trainer.step_on(loss).unwrap();
    let model = trainer.into_model();

    let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    save(&model, &config(4), one.path()).unwrap();
    let found = shapes(one.path());
    assert_eq!(found["base_model.model.model.layers.1.mlp.up_proj.lora_A.weight"], [4, 16]);
    assert_eq!(found["base_model.model.model.layers.1.mlp.up_proj.lora_B.weight"], [24, 4]);
    assert_eq!(found, shapes(&fixture::folder("tiny-lora")));

    let (loaded, read) = load(base(), one.path()).unwrap();
    assert_eq!(read, config(4));
    assert_eq!(weights(&loaded, true), weights(&model, true));
    save(&loaded, &read, two.path()).unwrap();
    for name in [CONFIG, WEIGHTS] {
        let read = |folder: &Path| fs::read(folder.join(name)).unwrap();
        assert_eq!(read(one.path()), read(two.path()), "{name}");
    }
}

#[test]
fn some_projections_can_be_adapted_alone() {
    let some =
        LoraConfig { target_modules: [TargetModule::QProj, TargetModule::DownProj].into(), ..config(2) };
    let paths = weights(&attach(fixture::llama(1), &some, &mut rng(1, "adapter")), true);
    assert_eq!(paths.len(), 2 * 2 * 2);
    assert!(paths.keys().all(|path| path.contains("q_proj") || path.contains("down_proj")));
}

#[test]
fn what_cannot_be_honoured_is_named() {
    let folder = tempfile::tempdir().unwrap();
    save(&trained(2), &config(2), folder.path()).unwrap();
    let written: Value = read_json(&folder.path().join(CONFIG)).unwrap();
    let refused = |field: &str, value: Value| {
        let mut changed = written.clone();
        changed[field] = value;
        fs::write(folder.path().join(CONFIG), changed.to_string()).unwrap();
        load(fixture::llama(1), folder.path()).unwrap_err().to_string()
    };
    for (field, value) in [
        ("peft_type", json!("LOHA")),
        ("use_rslora", json!(true)),
        ("init_lora_weights", json!("pissa")),
        ("bias", json!("lora_only")),
        ("modules_to_save", json!(["lm_head"])),
        ("rank_pattern", json!({"q_proj": 4})),
        ("target_modules", json!(["embed_tokens"])),
        ("r", json!(0)),
    ] {
        let error = refused(field, value);
        assert!(error.contains(&format!("adapter_config.json`: `{field}` is not supported")), "{error}");
    }
    let wider = refused("r", json!(3));
    assert!(wider.ends_with("q_proj.lora_A.weight` has shape [2, 32], not [3, 32]"), "{wider}");
    let fewer = refused("target_modules", json!(["q_proj"]));
    assert!(fewer.ends_with("is not a projection that `adapter_config.json` describes"), "{fewer}");
    // PEFT's word for all projections of the blocks.
    let mut all = written.clone();
    all["target_modules"] = json!("all-linear");
    fs::write(folder.path().join(CONFIG), all.to_string()).unwrap();
    assert_eq!(load(fixture::llama(1), folder.path()).unwrap().1, config(2));

    let none = LoraConfig { r: 0, lora_alpha: -1.0, target_modules: BTreeSet::new() };
    let fields: Vec<&str> = none.problems().into_iter().map(|(field, _)| field).collect();
    assert_eq!(fields, ["r", "lora_alpha", "target_modules"]);
}
