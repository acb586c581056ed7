//! `config.json` and `generation_config.json`: what a checkpoint says of itself, read and written.
//!
//! [`Written`] is what stands in the file, [`LlamaConfig`] what we compute. Fields we do not know are ignored; a known
//! field that asks for something we do not compute is refused by name. Both spellings of transformers are read: version
//! 4 writes `rope_theta` and `rope_scaling`, version 5 writes `rope_parameters`; we write the former, which both read.

use std::{fmt, path::Path};

use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};
use serde_json::{Map, Value, json};

use crate::{
    LmError,
    llama::{LlamaConfig, ModelType},
    qwen2,
    rope::Llama3Scaling,
};

pub(crate) const CONFIG: &str = "config.json";
pub(crate) const GENERATION_CONFIG: &str = "generation_config.json";

/// A field and why it is refused.
pub(crate) type Problem = (&'static str, String);

/// One token id, several, or none.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct TokenIds(pub(crate) Vec<u32>);

impl<'de> Deserialize<'de> for TokenIds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Ids;
        impl<'de> Visitor<'de> for Ids {
            type Value = TokenIds;

            fn expecting(&self, formatter: &mut fmt::Formatter) -> fmt::Result {
                formatter.write_str("a token id, a list of them, or null")
            }

            fn visit_u64<E: serde::de::Error>(self, id: u64) -> Result<TokenIds, E> {
                u32::try_from(id)
                    .map(|id| TokenIds(vec![id]))
                    .map_err(|_| E::custom("a token id is too large"))
            }

            fn visit_unit<E>(self) -> Result<TokenIds, E> {
                Ok(TokenIds::default())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut ids: A) -> Result<TokenIds, A::Error> {
                let mut all = Vec::new();
                while let Some(id) = ids.next_element()? {
                    all.push(id);
                }
                Ok(TokenIds(all))
            }
        }
        deserializer.deserialize_any(Ids)
    }
}

impl TokenIds {
    fn to_json(ids: &[u32]) -> Value {
        match ids {
            [] => Value::Null,
            [id] => json!(id),
            ids => json!(ids),
        }
    }
}

/// A `config.json` as written.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Written {
    pub(crate) model_type: String,
    pub(crate) hidden_size: usize,
    pub(crate) intermediate_size: usize,
    pub(crate) num_hidden_layers: usize,
    pub(crate) num_attention_heads: usize,
    pub(crate) num_key_value_heads: Option<usize>,
    pub(crate) head_dim: Option<usize>,
    pub(crate) vocab_size: usize,
    pub(crate) rms_norm_eps: Option<f64>,
    pub(crate) rope_theta: Option<f64>,
    pub(crate) rope_scaling: Option<Map<String, Value>>,
    pub(crate) rope_parameters: Option<Map<String, Value>>,
    pub(crate) partial_rotary_factor: Option<f64>,
    pub(crate) max_position_embeddings: usize,
    pub(crate) tie_word_embeddings: Option<bool>,
    pub(crate) hidden_act: Option<String>,
    pub(crate) attention_bias: Option<bool>,
    pub(crate) mlp_bias: Option<bool>,
    pub(crate) use_sliding_window: Option<bool>,
    pub(crate) sliding_window: Option<usize>,
    pub(crate) max_window_layers: Option<usize>,
    pub(crate) layer_types: Option<Vec<String>>,
    pub(crate) quantization_config: Option<Value>,
    pub(crate) initializer_range: Option<f64>,
    pub(crate) bos_token_id: Option<u32>,
    #[serde(default)]
    pub(crate) eos_token_id: TokenIds,
    pub(crate) pad_token_id: Option<u32>,
}

/// A `generation_config.json` as written, as far as it is read.
#[derive(Clone, Debug, Default, Deserialize)]
pub(crate) struct Generation {
    #[serde(default)]
    pub(crate) eos_token_id: TokenIds,
    pub(crate) pad_token_id: Option<u32>,
    pub(crate) bos_token_id: Option<u32>,
}

/// Reads the configuration of a Hugging Face folder. What `generation_config.json` says of tokens comes first.
pub(crate) fn load(folder: &Path) -> Result<LlamaConfig, LmError> {
    let path = folder.join(CONFIG);
    let written: Written = read_json(&path)?;
    let mut config = resolve(written).map_err(|(field, problem)| LmError::Unsupported {
        path: path.clone(),
        field,
        problem,
    })?;
    let generation = folder.join(GENERATION_CONFIG);
    if generation.exists() {
        let generation: Generation = read_json(&generation)?;
        if !generation.eos_token_id.0.is_empty() {
            config.eos_token_id = generation.eos_token_id.0;
        }
        config.pad_token_id = config.pad_token_id.or(generation.pad_token_id);
        config.bos_token_id = config.bos_token_id.or(generation.bos_token_id);
    }
    if config.eos_token_id.is_empty() {
        let problem = "is not there, so nothing would end a text".into();
        return Err(LmError::Unsupported { path, field: "eos_token_id", problem });
    }
    Ok(config)
}

/// Reads a JSON file of a checkpoint.
pub(crate) fn read_json<T: for<'de> Deserialize<'de>>(path: &Path) -> Result<T, LmError> {
    let bytes = std::fs::read(path).map_err(|source| LmError::Io { path: path.to_owned(), source })?;
    serde_json::from_slice(&bytes).map_err(|source| LmError::Config { path: path.to_owned(), source })
}

/// What we compute for a configuration, or the first field that cannot be honoured.
pub(crate) fn resolve(written: Written) -> Result<LlamaConfig, Problem> {
    let model_type = match written.model_type.as_str() {
        "llama" => ModelType::Llama,
        "qwen2" => ModelType::Qwen2,
        other => {
            let problem = format!("`{other}` is unknown; `llama` and `qwen2` are supported");
            return Err(("model_type", problem));
        }
    };
    let only = |holds: bool, field, supported: &str| {
        if holds { Ok(()) } else { Err((field, format!("only {supported} is supported"))) }
    };
    only(written.hidden_act.as_deref().is_none_or(|act| act == "silu"), "hidden_act", "`silu`")?;
    only(written.attention_bias != Some(true), "attention_bias", "false")?;
    only(written.mlp_bias != Some(true), "mlp_bias", "false")?;
    only(written.partial_rotary_factor.is_none_or(|part| part == 1.0), "partial_rotary_factor", "1")?;
    if written.quantization_config.as_ref().is_some_and(|config| !config.is_null()) {
        let problem = "weights of quantised folders are not read; a GGUF file is";
        return Err(("quantization_config", problem.into()));
    }
    if model_type == ModelType::Qwen2
        && let Some(problem) = qwen2::problem(&written)
    {
        return Err(problem);
    }
    let (rope_theta, rope_scaling) = rope(&written)?;
    let config = LlamaConfig {
        model_type,
        hidden_size: written.hidden_size,
        intermediate_size: written.intermediate_size,
        num_hidden_layers: written.num_hidden_layers,
        num_attention_heads: written.num_attention_heads,
        num_key_value_heads: written.num_key_value_heads.unwrap_or(written.num_attention_heads),
        head_dim: written.head_dim,
        vocab_size: written.vocab_size,
        rms_norm_eps: written.rms_norm_eps.unwrap_or(1e-6),
        rope_theta,
        rope_scaling,
        max_position_embeddings: written.max_position_embeddings,
        tie_word_embeddings: written.tie_word_embeddings.unwrap_or(false),
        initializer_range: written.initializer_range.unwrap_or(0.02),
        bos_token_id: written.bos_token_id,
        eos_token_id: written.eos_token_id.0,
        pad_token_id: written.pad_token_id,
    };
    match config.problems().into_iter().next() {
        Some(problem) => Err(problem),
        None => Ok(config),
    }
}

fn rope(written: &Written) -> Result<(f64, Option<Llama3Scaling>), Problem> {
    let (field, scaling) = match (&written.rope_parameters, &written.rope_scaling) {
        (Some(parameters), _) => ("rope_parameters", Some(parameters)),
        (None, scaling) => ("rope_scaling", scaling.as_ref()),
    };
    let inner = scaling.and_then(|scaling| scaling.get("rope_theta")).and_then(Value::as_f64);
    let theta = written.rope_theta.or(inner).unwrap_or(10_000.0);
    let Some(scaling) = scaling else { return Ok((theta, None)) };
    let kind = scaling.get("rope_type").or_else(|| scaling.get("type")).and_then(Value::as_str);
    match kind {
        None | Some("default") => Ok((theta, None)),
        Some("llama3") => {
            let parsed: Llama3Scaling = serde_json::from_value(Value::Object(scaling.clone()))
                .map_err(|error| (field, error.to_string()))?;
            match parsed.problem() {
                Some(problem) => Err((field, problem)),
                None => Ok((theta, Some(parsed))),
            }
        }
        Some(other) => {
            Err((field, format!("type `{other}` is unknown; `default` and `llama3` are supported")))
        }
    }
}

/// The `config.json` that transformers reads. Weights are always written as 32-bit floats.
pub(crate) fn to_json(config: &LlamaConfig) -> Value {
    let (architecture, model_type) = match config.model_type {
        ModelType::Llama => ("LlamaForCausalLM", "llama"),
        ModelType::Qwen2 => ("Qwen2ForCausalLM", "qwen2"),
    };
    let mut json = json!({
        "architectures": [architecture],
        "model_type": model_type,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_hidden_layers": config.num_hidden_layers,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "vocab_size": config.vocab_size,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "rope_scaling": config.rope_scaling.map(|scaling| json!({
            "rope_type": "llama3",
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_max_position_embeddings,
        })),
        "max_position_embeddings": config.max_position_embeddings,
        "tie_word_embeddings": config.tie_word_embeddings,
        "hidden_act": "silu",
        "initializer_range": config.initializer_range,
        "bos_token_id": config.bos_token_id,
        "eos_token_id": TokenIds::to_json(&config.eos_token_id),
        "pad_token_id": config.pad_token_id,
        "torch_dtype": "float32",
    });
    if let Some(head_dim) = config.head_dim {
        json["head_dim"] = json!(head_dim);
    }
    match config.model_type {
        ModelType::Llama => {
            json["attention_bias"] = json!(false);
            json["mlp_bias"] = json!(false);
        }
        ModelType::Qwen2 => json["use_sliding_window"] = json!(false),
    }
    json
}

/// The `generation_config.json` that goes with it.
pub(crate) fn generation_json(config: &LlamaConfig) -> Value {
    json!({
        "bos_token_id": config.bos_token_id,
        "eos_token_id": TokenIds::to_json(&config.eos_token_id),
        "pad_token_id": config.pad_token_id,
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::fixture;

    fn llama3(change: impl FnOnce(&mut Value)) -> Result<LlamaConfig, Problem> {
        let mut value: Value = read_json(&fixture::folder("tiny-llama3").join(CONFIG)).unwrap();
        change(&mut value);
        resolve(serde_json::from_value(value).unwrap())
    }

    #[test]
    fn both_spellings_of_transformers_are_read() {
        let four = llama3(|_| {}).unwrap();
        let five = llama3(|config| {
            let mut parameters = config["rope_scaling"].take();
            parameters["rope_theta"] = config["rope_theta"].take();
            config["rope_parameters"] = parameters;
        });
        assert_eq!(five.unwrap(), four);
        assert_eq!(four.rope_theta, 100.0);
        assert_eq!(four.rope_scaling.unwrap().original_max_position_embeddings, 32);
    }

    #[test]
    fn what_cannot_be_honoured_is_refused_by_name() {
        let cases = [
            ("hidden_act", json!("gelu")),
            ("attention_bias", json!(true)),
            ("mlp_bias", json!(true)),
            ("model_type", json!("mistral")),
            ("partial_rotary_factor", json!(0.5)),
            ("quantization_config", json!({"quant_method": "awq"})),
            ("rope_scaling", json!({"rope_type": "yarn", "factor": 4.0})),
            ("rope_scaling", json!({"type": "linear", "factor": 2.0})),
            ("rope_scaling", json!({"rope_type": "llama3", "factor": 8.0})),
            ("num_key_value_heads", json!(3)),
            ("hidden_size", json!(0)),
        ];
        for (field, value) in cases {
            let text = value.to_string();
            let (named, problem) = llama3(|config| config[field] = value).unwrap_err();
            assert_eq!(named, field, "{text}: {problem}");
        }
        let refused = llama3(|config| config["rope_scaling"]["low_freq_factor"] = json!(4.0)).unwrap_err();
        assert!(refused.1.contains("below `high_freq_factor`"), "{refused:?}");
    }

    #[test]
    fn all_stop_tokens_are_kept() {
        let config = load(&fixture::folder("tiny-llama3")).unwrap();
        assert_eq!(config.eos_token_id, [285, 286], "generation_config.json names more than config.json");
        assert_eq!(config.pad_token_id, Some(287));
        let json = to_json(&config);
        assert_eq!(json["eos_token_id"], json!([285, 286]));
        assert_eq!(resolve(serde_json::from_value(json).unwrap()).unwrap(), config);
        let ids = |text: &str| serde_json::from_str::<TokenIds>(text);
        assert_eq!(ids("null").unwrap(), TokenIds(vec![]));
        assert_eq!(ids("7").unwrap(), TokenIds(vec![7]));
        assert!(ids("-1").is_err() && ids("4294967296").is_err() && ids("\"2\"").is_err());
    }

    #[test]
    fn a_model_that_would_never_stop_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut value: Value = read_json(&fixture::folder("tiny-llama3").join(CONFIG)).unwrap();
        value["eos_token_id"] = Value::Null;
        std::fs::write(folder.path().join(CONFIG), value.to_string()).unwrap();
        let error = load(folder.path()).unwrap_err().to_string();
        assert!(error.contains("`eos_token_id` is not supported: is not there"), "{error}");
    }
}
