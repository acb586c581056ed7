//! The tokenizer and the chat template in a GGUF file, as the `tokenizer.json` they were made from.
//!
//! Only byte-level BPE (`tokenizer.ggml.model` is `gpt2`), and only the pre-tokenizers whose `tokenizer.json` is known: the
//! file names how it splits a text, it does not say how.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::gguf::{Gguf, GgufError};

const MODEL: &str = "tokenizer.ggml.model";
const PRE: &str = "tokenizer.ggml.pre";
const TOKENS: &str = "tokenizer.ggml.tokens";
const TYPES: &str = "tokenizer.ggml.token_type";
const MERGES: &str = "tokenizer.ggml.merges";
const ADD_BOS: &str = "tokenizer.ggml.add_bos_token";
const CHAT_TEMPLATE: &str = "tokenizer.chat_template";

const CONTROL: u64 = 3;
const USER_DEFINED: u64 = 4;
const UNUSED: u64 = 5;

/// How a text is split before merging. The names are llama.cpp's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pre {
    Gpt2,
    SmolLm,
    Qwen2,
    LlamaBpe,
}

impl Pre {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "gpt-2" => Self::Gpt2,
            "smollm" => Self::SmolLm,
            "qwen2" | "deepseek-r1-qwen" => Self::Qwen2,
            "llama-bpe" | "llama3" | "llama-v3" => Self::LlamaBpe,
            _ => return None,
        })
    }

    fn to_json(self) -> Value {
        let byte_level = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
        let split = |numbers: &str| {
            let pattern = format!(
                r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{numbers}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
            );
            json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false})
        };
        let parts = match self {
            Self::Gpt2 => return byte_level(true),
            Self::SmolLm => vec![json!({"type": "Digits", "individual_digits": true}), byte_level(true)],
            Self::Qwen2 => vec![split(r"\p{N}"), byte_level(false)],
            Self::LlamaBpe => vec![split(r"\p{N}{1,3}"), byte_level(false)],
        };
        json!({"type": "Sequence", "pretokenizers": parts})
    }
}

/// The `tokenizer.json` of a file.
pub(crate) fn tokenizer_json(file: &Gguf, bos: Option<u32>) -> Result<Value, GgufError> {
    let missing = |key: &str| file.refuse(key, "is missing");
    let model = file.text(MODEL)?.ok_or_else(|| missing(MODEL))?;
    if model != "gpt2" {
        return Err(file.refuse(MODEL, format!("is `{model}`; only byte-level BPE, `gpt2`, is supported")));
    }
    let name = file.text(PRE)?.ok_or_else(|| missing(PRE))?;
    let pre = Pre::of(name).ok_or_else(|| {
        file.refuse(PRE, format!("is `{name}`; `smollm`, `qwen2`, `llama-bpe` and `gpt-2` are supported"))
    })?;
    let tokens = file.texts(TOKENS)?.ok_or_else(|| missing(TOKENS))?;
    let kinds = file.unsigneds(TYPES)?.unwrap_or_else(|| vec![1; tokens.len()]);
    if kinds.len() != tokens.len() {
        let problem = format!("has {} entries for {} tokens", kinds.len(), tokens.len());
        return Err(file.refuse(TYPES, problem));
    }
    let mut vocab = serde_json::Map::new();
    let mut added = Vec::new();
    for (id, (token, kind)) in tokens.iter().zip(&kinds).enumerate() {
        // Unused ones fill the table up to its size.
        if *kind == UNUSED {
            continue;
        }
        if vocab.insert(token.clone(), json!(id)).is_some() {
            return Err(file.refuse(TOKENS, format!("holds `{token}` twice")));
        }
        if *kind == CONTROL || *kind == USER_DEFINED {
            added.push(json!({
                "id": id, "content": token, "special": *kind == CONTROL, "normalized": false,
                "single_word": false, "lstrip": false, "rstrip": false,
            }));
        }
    }
    let mut pairs = Vec::new();
    let known: HashSet<&str> = vocab.keys().map(String::as_str).collect();
    for merge in file.texts(MERGES)?.ok_or_else(|| missing(MERGES))? {
        let pair = merge.split_once(' ').filter(|(left, right)| {
            known.contains(left) && known.contains(right) && known.contains([*left, *right].concat().as_str())
        });
        let Some((left, right)) = pair else {
            return Err(file.refuse(MERGES, format!("holds `{merge}`, which does not join two tokens")));
        };
        pairs.push(json!([left, right]));
    }
    Ok(json!({
        "version": "1.0",
        "added_tokens": added,
        "normalizer": if pre == Pre::Qwen2 { json!({"type": "NFC"}) } else { Value::Null },
        "pre_tokenizer": pre.to_json(),
        "post_processor": post_processor(file, pre, tokens, bos)?,
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false,
            "ignore_merges": pre == Pre::LlamaBpe, "vocab": vocab, "merges": pairs,
        },
    }))
}

/// Puts the first token before a text where the model wants one; [`crate::prompt`] does so where there is no template.
fn post_processor(file: &Gguf, pre: Pre, tokens: &[String], bos: Option<u32>) -> Result<Value, GgufError> {
    let wanted = file.bool(ADD_BOS)?.unwrap_or(pre == Pre::LlamaBpe);
    let Some(id) = bos.filter(|_| wanted) else { return Ok(Value::Null) };
    let Some(token) = tokens.get(id as usize) else {
        return Err(file.refuse("tokenizer.ggml.bos_token_id", format!("is {id}, which is no token")));
    };
    let first = json!({"SpecialToken": {"id": token, "type_id": 0}});
    let sequence = |id: &str, kind: u32| json!({"Sequence": {"id": id, "type_id": kind}});
    let mut special_tokens = serde_json::Map::new();
    special_tokens.insert(token.clone(), json!({"id": token, "ids": [id], "tokens": [token]}));
    Ok(json!({
        "type": "TemplateProcessing",
        "single": [first, sequence("A", 0)],
        "pair": [first, sequence("A", 0), {"SpecialToken": {"id": token, "type_id": 1}}, sequence("B", 1)],
        "special_tokens": special_tokens,
    }))
}

/// The chat template of a file, if it has one.
pub(crate) fn chat_template(file: &Gguf) -> Result<Option<String>, GgufError> {
    Ok(file.text(CHAT_TEMPLATE)?.map(str::to_owned))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::fixture;

    #[test]
    fn a_twin_cuts_texts_like_its_folder() {
        for name in ["tiny-llama3", "tiny-qwen2"] {
            let (folder, twin) = (fixture::loaded(name), fixture::loaded(&format!("{name}.gguf")));
            for (text, expected) in fixture::reference_texts(name) {
                for model in [&folder, &twin] {
                    assert_eq!(model.tokenizer.encode_rendered(&text).unwrap(), expected, "{name}: {text}");
                }
            }
            assert_eq!(twin.tokenizer.chat_template(), folder.tokenizer.chat_template(), "{name}");
            assert!(twin.tokenizer.chat_template().unwrap().contains("<|im_start|>"), "{name}");
            assert_eq!(twin.tokenizer.stops(), folder.tokenizer.stops(), "{name}");
        }
    }

    #[test]
    fn unknown_pre_tokenizers_have_no_spelling() {
        assert_eq!(Pre::of("default"), None);
        assert_eq!(Pre::of("qwen2"), Some(Pre::Qwen2));
        let digits = Pre::SmolLm.to_json();
        assert_eq!(digits["pretokenizers"][0]["individual_digits"], json!(true));
    }
}
