//! Real checkpoints against numbers from transformers. They are not part of the project: `RETORT_TEST_MODELS` is a folder
//! with `smollm2-135m-instruct/*.gguf` and perhaps `qwen2.5-coder-0.5b-instruct/model.gguf`, `RETORT_SHARED_DATA` one with
//! `reference/smollm2-135m-instruct.json`. Without them a test says that it is skipped.

use std::{
    fs,
    path::{Path, PathBuf},
};

use burn::tensor::{Bool, Device, Tensor, TensorData, activation::log_softmax};
use serde::Deserialize;

use crate::{
    LanguageModel, fixture,
    generate::{self, Options, Request},
    prompt::Prompter,
};

/// What `generate` of the reference was asked for.
const NEW_TOKENS: usize = 48;

#[derive(Deserialize)]
struct Reference {
    cases: Vec<Case>,
}

/// One prompt; torch computed on the CPU in 32-bit floats, from the values that the GGUF file stands for.
#[derive(Deserialize)]
pub(crate) struct Case {
    prompt: String,
    rendered: String,
    pub(crate) ids: Vec<u32>,
    mean_nll_of_prompt: f64,
    last_top8: Vec<(u32, f64)>,
    last_logits_first8: Vec<f64>,
    greedy_ids: Vec<u32>,
}

#[expect(clippy::print_stderr, reason = "a test that did not run says so")]
fn skipped(why: &str) {
    eprintln!("skipped: {why}");
}

fn folder(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(name).map(PathBuf::from);
    if folder.is_none() {
        skipped(&format!("{name} is not set"));
    }
    folder
}

fn model_folder() -> Option<PathBuf> {
    folder("RETORT_TEST_MODELS")
}

fn reference(shared: &Path) -> Reference {
    let path = shared.join("reference/smollm2-135m-instruct.json");
    serde_json::from_slice(&fs::read(path).unwrap()).unwrap()
}

/// Logits after every token of a text, `[length, vocab_size]`.
fn logits(model: &LanguageModel, ids: &[u32]) -> Tensor<2> {
    let length = ids.len();
    let device = model.model.device();
    let tokens: Vec<i32> = ids.iter().map(|id| *id as i32).collect();
    let places: Vec<i32> = (0..length as i32).collect();
    let mask: Vec<bool> = (0..length * length).map(|i| i % length <= i / length).collect();
    let hidden = model.model.hidden(
        Tensor::from_data(TensorData::new(tokens, [1, length]), &device),
        Tensor::from_data(TensorData::new(places, [1, length]), &device),
        Tensor::<3, Bool>::from_data(TensorData::new(mask, [1, length, length]), &device),
    );
    let width = hidden.dims()[2];
    model.model.logits(hidden.reshape([length, width]))
}

fn values(tensor: Tensor<2>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// SmolLM2-135M-Instruct on a device, with the reference's eight prompts, where they are at hand.
pub(crate) fn smollm2(device: &Device) -> Option<(LanguageModel, Vec<Case>)> {
    let (models, shared) = (model_folder()?, folder("RETORT_SHARED_DATA")?);
    // The folder holds nothing but one `.gguf` file.
    let model = LanguageModel::load(&models.join("smollm2-135m-instruct"), device).unwrap();
    let cases = reference(&shared).cases;
    assert_eq!(cases.len(), 8);
    Some((model, cases))
}

/// Tokens, logits and losses of a prompt are the reference's.
pub(crate) fn assert_reads_as_transformers(model: &LanguageModel, case: &Case) {
    let text = &case.rendered;
    assert_eq!(model.tokenizer.encode_rendered(text).unwrap(), case.ids, "{text}");

    let logits = logits(model, &case.ids);
    let [length, vocab_size] = logits.dims();
    assert_eq!(vocab_size, 49152);
    let last = logits.clone().narrow(0, length - 1, 1);
    let found = values(last.clone().narrow(1, 0, 8));
    for (found, expected) in found.iter().zip(&case.last_logits_first8) {
        assert!((found - expected).abs() < 2e-3, "{text}: {found} is not {expected}");
    }
    let last = values(last);
    for (id, expected) in &case.last_top8 {
        let found = last[*id as usize];
        assert!((found - expected).abs() < 2e-3, "{text}: token {id}: {found} is not {expected}");
    }
    let next: Vec<i32> = case.ids[1..].iter().map(|id| *id as i32).collect();
    let next = Tensor::from_data(TensorData::new(next, [length - 1, 1]), &logits.device());
    let told = log_softmax(logits.narrow(0, 0, length - 1), 1).gather(1, next);
    let nll = -values(told).iter().sum::<f64>() / (length - 1) as f64;
    let expected = case.mean_nll_of_prompt;
    assert!((nll - expected).abs() < 1e-4, "{text}: {nll} is not {expected}");
}

/// The prompts are continued as the reference continues them: side by side, cached, the other way through the model.
pub(crate) fn assert_writes_as_transformers(model: &LanguageModel, cases: &[Case]) {
    let prompter = Prompter::new(&model.tokenizer).unwrap();
    let request = |case: &Case| {
        let prompt = prompter.text(&case.prompt).unwrap();
        assert_eq!(prompt, case.ids, "the chat template makes the reference's prompt");
        Request { prompt, item: String::new(), sample: 0 }
    };
    let requests: Vec<Request> = cases.iter().map(request).collect();
    let batch: Vec<&Request> = requests.iter().collect();
    let options = Options { max_new_tokens: NEW_TOKENS, batch_size: batch.len(), sampling: None };
    let written =
        generate::write_on(&model.model, &model.tokenizer, &batch, &options, &|| Ok(()), &mut |_, _| {
            Ok(true)
        })
        .unwrap();
    for (case, written) in cases.iter().zip(written) {
        assert_eq!(written, case.greedy_ids, "{}", case.rendered);
    }
}

#[test]
fn smollm2_out_of_a_gguf_file_is_what_transformers_computes() {
    let Some((model, cases)) = smollm2(&fixture::device()) else { return };
    cases.iter().for_each(|case| assert_reads_as_transformers(&model, case));
    assert_writes_as_transformers(&model, &cases);
}

#[test]
fn qwen2_5_coder_out_of_mixed_k_quants_knows_what_it_should() {
    let Some(models) = model_folder() else { return };
    let path = models.join("qwen2.5-coder-0.5b-instruct/model.gguf");
    if !path.exists() {
        return skipped("it holds no qwen2.5-coder-0.5b-instruct");
    }
    let model = LanguageModel::load(&path, &fixture::device()).unwrap();
    let prompter = Prompter::new(&model.tokenizer).unwrap();
    let request = |question: &str| Request {
        prompt: prompter.text(question).unwrap(),
        item: question.to_owned(),
        sample: 0,
    };
    let questions = ["What is the capital of France?", "Write a Python function that adds two numbers."];
    let options = Options { max_new_tokens: 24, batch_size: 2, sampling: None };
    let written =
        generate::generate(&model, &questions.map(request), &options, &|| Ok(()), &mut |_, _| Ok(()))
            .unwrap();
    let texts: Vec<String> = written.into_iter().map(|generation| generation.text).collect();
    assert!(texts[0].contains("Paris"), "{texts:?}");
    assert!(texts[1].contains("def "), "{texts:?}");
}
