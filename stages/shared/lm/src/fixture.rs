//! Small models and data for the tests of this crate.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use burn::tensor::{Bool, Device, Tensor, TensorData};

use crate::{
    LanguageModel,
    batch::Sequence,
    llama::{Llama, LlamaConfig},
    self_test,
    tokenizer::Tokenizer,
};

pub(crate) fn device() -> Device {
    Device::flex()
}

/// A file or folder that `fixtures/reference.py` or `fixtures/reference_gguf.py` made.
pub(crate) fn folder(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

/// The model in it.
pub(crate) fn loaded(name: &str) -> LanguageModel {
    LanguageModel::load(&folder(name), &device()).unwrap()
}

/// The reference numbers of a fixture.
fn reference(name: &str) -> serde_json::Value {
    serde_json::from_slice(&fs::read(folder(name).join("logits.json")).unwrap()).unwrap()
}

/// Texts with the tokens that the reference cuts them into.
pub(crate) fn reference_texts(name: &str) -> Vec<(String, Vec<u32>)> {
    serde_json::from_value(reference(name)["texts"].clone()).unwrap()
}

/// Whole-sequence logits are those of the reference, for as many columns as it holds.
pub(crate) fn assert_reference_logits(name: &str, model: &LanguageModel, tolerance: f64) {
    let reference = reference(name);
    let tokens: Vec<Vec<i32>> = serde_json::from_value(reference["tokens"].clone()).unwrap();
    let expected: Vec<Vec<Vec<f64>>> = serde_json::from_value(reference["logits"].clone()).unwrap();
    let device = &model.model.device();
    let (batch, length, columns) = (tokens.len(), tokens[0].len(), expected[0][0].len());
    let places: Vec<i32> = (0..batch * length).map(|i| (i % length) as i32).collect();
    let mask: Vec<bool> = (0..batch * length * length).map(|i| i % length <= i / length % length).collect();
    let hidden = model.model.hidden(
        Tensor::from_data(TensorData::new(tokens.concat(), [batch, length]), device),
        Tensor::from_data(TensorData::new(places, [batch, length]), device),
        Tensor::<3, Bool>::from_data(TensorData::new(mask, [batch, length, length]), device),
    );
    let width = hidden.dims()[2];
    let logits = model.model.logits(hidden.reshape([batch * length, width])).narrow(1, 0, columns);
    let expected: Vec<f64> = expected.into_iter().flatten().flatten().collect();
    assert!(expected.len() >= 280);
    assert_close(&logits.into_data().iter::<f64>().collect::<Vec<_>>(), &expected, tolerance);
}

/// A folder of a real model, where `RETORT_TEST_MODELS` names a folder of them; says so where not.
pub(crate) fn test_model(name: &str) -> Option<PathBuf> {
    at_hand("RETORT_TEST_MODELS", name)
}

/// A file of reference data, where `RETORT_SHARED_DATA` names a folder of them; says so where not.
pub(crate) fn shared_data(name: &str) -> Option<PathBuf> {
    at_hand("RETORT_SHARED_DATA", name)
}

fn at_hand(variable: &str, name: &str) -> Option<PathBuf> {
    let path = env::var_os(variable).map(|folder| PathBuf::from(folder).join(name));
    let found = path.filter(|path| path.exists());
    if found.is_none() {
        say(&format!("skipped: `{name}` is not in a folder named by {variable}"));
    }
    found
}

#[expect(clippy::print_stderr, reason = "a test says what it found")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}

pub(crate) fn tokenizer() -> Tokenizer {
    self_test::tokenizer().unwrap()
}

pub(crate) fn config() -> LlamaConfig {
    self_test::config()
}

pub(crate) fn llama(seed: u64) -> Llama {
    Llama::init(&config(), seed, &device())
}

pub(crate) fn language_model(seed: u64) -> LanguageModel {
    LanguageModel { model: llama(seed), config: config(), tokenizer: tokenizer() }
}

/// Sums with answers of different lengths.
pub(crate) fn sequences(count: usize) -> Vec<Sequence> {
    self_test::sequences(&tokenizer(), count).unwrap()
}

pub(crate) fn assert_close(found: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        let difference = (found - expected).abs();
        assert!(difference <= tolerance * expected.abs().max(1.0), "{index}: {found} is not {expected}");
    }
}
