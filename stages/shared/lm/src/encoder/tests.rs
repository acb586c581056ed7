use std::fs;

use serde::Deserialize;

use super::*;
use crate::fixture::{self, assert_close};

/// A case of `fixtures/tiny-bert/vectors.json`.
#[derive(Deserialize)]
struct Case {
    first: String,
    second: Option<String>,
    ids: Vec<u32>,
    token_types: Vec<u32>,
    truncated: bool,
    normalized: Vec<f64>,
    mean: Vec<f64>,
    cls: Vec<f64>,
    max: Vec<f64>,
    mean_sqrt_len: Vec<f64>,
}

fn tiny_bert() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/tiny-bert"))
}

fn cases() -> Vec<Case> {
    read_json(&tiny_bert().join("vectors.json")).unwrap()
}

/// A copy of the tiny folder, to be changed.
fn copy() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("1_Pooling")).unwrap();
    let files = [CONFIG, TOKENIZER, WEIGHTS, MODULES, SENTENCE_BERT, "1_Pooling/config.json"];
    for file in files {
        fs::copy(tiny_bert().join(file), folder.path().join(file)).unwrap();
    }
    folder
}

fn load(folder: &Path) -> Result<SentenceEncoder, LmError> {
    SentenceEncoder::load(folder, &fixture::device())
}

fn vectors(encoder: &SentenceEncoder, texts: &[&Segments]) -> Vec<Vec<f64>> {
    let vectors: Vec<f64> = encoder.embed(texts).into_data().iter::<f64>().collect();
    vectors.chunks(encoder.size()).map(<[f64]>::to_vec).collect()
}

#[test]
fn texts_and_pairs_are_tokenized_as_by_transformers() {
    let encoder = load(&tiny_bert()).unwrap();
    assert_eq!(encoder.max_tokens(), 20, "sentence_bert_config.json says so, tokenizer.json is overridden");
    for case in cases() {
        let Case { ids, token_types, truncated, .. } = case;
        let segments = encoder.encode(&case.first, case.second.as_deref()).unwrap();
        assert_eq!(segments, Segments { tokens: ids, token_types, truncated });
    }
    let spelled = encoder.encode("a [SEP] hen", None).unwrap().tokens;
    assert_eq!(spelled.iter().filter(|token| **token == 3).count(), 1, "a text cannot end a segment");
}

#[test]
fn every_pooling_is_that_of_transformers_alone_and_in_a_batch() {
    // fixtures/bert.py; both sides compute in f32 and round differently, hence not bit-equal.
    let mut encoder = load(&tiny_bert()).unwrap();
    assert_eq!((encoder.pooling, encoder.normalize), (Pooling::MeanTokens, true));
    let cases = cases();
    let texts: Vec<Segments> =
        cases.iter().map(|case| encoder.encode(&case.first, case.second.as_deref()).unwrap()).collect();
    let expect = |encoder: &SentenceEncoder, expected: &dyn Fn(&Case) -> Vec<f64>| {
        let together = vectors(encoder, &texts.iter().collect::<Vec<_>>());
        for ((case, text), found) in cases.iter().zip(&texts).zip(together) {
            assert_close(&found, &expected(case), 1e-5);
            assert_close(&vectors(encoder, &[text])[0], &expected(case), 1e-5);
        }
    };
    expect(&encoder, &|case| case.normalized.clone());
    encoder.normalize = false;
    expect(&encoder, &|case| case.mean.clone());
    encoder.pooling = Pooling::ClsToken;
    expect(&encoder, &|case| case.cls.clone());
    encoder.pooling = Pooling::MaxTokens;
    expect(&encoder, &|case| case.max.clone());
    encoder.pooling = Pooling::MeanSqrtLenTokens;
    expect(&encoder, &|case| case.mean_sqrt_len.clone());
}

#[test]
fn a_plain_bert_is_pooled_by_its_mean_whatever_names_its_checkpoint_uses() {
    let folder = copy();
    fs::remove_file(folder.path().join(MODULES)).unwrap();
    // The names of checkpoints with a head, converted from TensorFlow.
    let bytes = fs::read(tiny_bert().join(WEIGHTS)).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let rename = |name: &str| {
        let name = name.replace("LayerNorm.weight", "LayerNorm.gamma");
        format!("bert.{}", name.replace("LayerNorm.bias", "LayerNorm.beta"))
    };
    let renamed: Vec<_> = tensors.iter().map(|(name, view)| (rename(name), view)).collect();
    safetensors::serialize_to_file(renamed, None, &folder.path().join(WEIGHTS)).unwrap();

    let encoder = load(folder.path()).unwrap();
    assert_eq!((encoder.pooling, encoder.normalize), (Pooling::MeanTokens, false));
    assert_eq!(encoder.max_tokens(), 24);
    let case = &cases()[1];
    let text = encoder.encode(&case.first, case.second.as_deref()).unwrap();
    assert_close(&vectors(&encoder, &[&text])[0], &case.mean, 1e-5);
}

#[test]
fn what_cannot_be_honoured_is_named() {
    let refused = |file: &str, from: &str, to: &str| {
        let folder = copy();
        let path = folder.path().join(file);
        let text = fs::read_to_string(&path).unwrap();
        assert!(text.contains(from), "{file}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
        load(folder.path()).unwrap_err().to_string()
    };
    let error = refused(CONFIG, "\"bert\"", "\"roberta\"");
    assert!(error.ends_with("`model_type` is not supported: only `bert` is supported"), "{error}");
    let error = refused(CONFIG, "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3");
    assert!(error.contains("encoder.layer.2"), "{error}");
    let error = refused(CONFIG, "\"gelu\"", "\"swish\"");
    assert!(error.contains("unknown variant `swish`"), "{error}");
    let error = refused(MODULES, "models.Normalize", "models.Dense");
    assert!(error.contains("module 2 is `Dense`"), "{error}");
    let error = refused(
        "1_Pooling/config.json",
        "\"pooling_mode_cls_token\": false",
        "\"pooling_mode_cls_token\": true",
    );
    assert!(error.contains("exactly one of"), "{error}");
    let error = refused(SENTENCE_BERT, "20", "4");
    assert!(error.contains("texts of 4 tokens are too short"), "{error}");
}

#[test]
fn all_minilm_l6_v2_embeds_as_published() {
    assert_embeds_as_published(&fixture::device());
}

/// all-MiniLM-L6-v2 on a device, where it is at hand.
pub(crate) fn assert_embeds_as_published(device: &Device) {
    /// A case of `all-minilm-l6-v2.json`; its numbers are rounded to six decimals.
    #[derive(Deserialize)]
    struct Case {
        text: String,
        ids: Vec<u32>,
        embedding: Vec<f64>,
    }
    #[derive(Deserialize)]
    struct Pair {
        ids: Vec<u32>,
        token_type_ids: Vec<u32>,
    }
    #[derive(Deserialize)]
    struct Reference {
        cases: Vec<Case>,
        pair: Pair,
    }

    let Some(folder) = fixture::test_model("all-minilm-l6-v2") else { return };
    let Some(reference) = fixture::shared_data("reference/all-minilm-l6-v2.json") else { return };
    let reference: Reference = read_json(&reference).unwrap();
    let encoder = SentenceEncoder::load(&folder, device).unwrap();
    let texts: Vec<Segments> =
        reference.cases.iter().map(|case| encoder.encode(&case.text, None).unwrap()).collect();
    let mut largest = 0.0f64;
    for (case, found) in reference.cases.iter().zip(vectors(&encoder, &texts.iter().collect::<Vec<_>>())) {
        assert_eq!(case.embedding.len(), found.len());
        for (found, expected) in found.iter().zip(&case.embedding) {
            largest = largest.max((found - expected).abs());
        }
    }
    for (case, text) in reference.cases.iter().zip(&texts) {
        assert_eq!(case.ids, text.tokens, "{}", case.text);
    }
    fixture::say(&format!("all-MiniLM-L6-v2 on {device:?}: embeddings off by at most {largest:.1e}"));
    assert!(largest < 1e-5, "{largest}");

    let pair = encoder.encode("How many hens?", Some("Let x be the number of hens.")).unwrap();
    assert_eq!((pair.tokens, pair.token_types), (reference.pair.ids, reference.pair.token_type_ids));
}
