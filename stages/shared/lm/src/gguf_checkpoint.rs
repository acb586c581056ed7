//! A GGUF file as a checkpoint: its configuration and its tensors under the names of a Hugging Face folder.
//!
//! llama.cpp's converter reorders the rows of q and k for the `llama` architecture (it rotates neighbours, transformers
//! rotates halves); they are put back. It stores Llama 3's scaled rotary frequencies as divisors; the scaling is found
//! again. The tokenizer is in [`crate::gguf_tokenizer`].

use std::path::Path;

use crate::{
    LmError,
    gguf::{Gguf, GgufError},
    llama::{LlamaConfig, ModelType},
    rope,
    weights::Weights,
};

const ROPE_FREQUENCIES: &str = "rope_freqs.weight";
const EMBEDDINGS: &str = "token_embd.weight";
const OUTPUT: &str = "output.weight";

/// A tensor: its name here, its name in the file, its shape.
struct Named {
    name: String,
    stored: String,
    shape: Vec<usize>,
}

/// A file read as a model.
pub(crate) struct GgufCheckpoint {
    file: Gguf,
    config: LlamaConfig,
    tensors: Vec<Named>,
}

impl GgufCheckpoint {
    /// Reads everything but the weights.
    pub(crate) fn open(path: &Path) -> Result<Self, LmError> {
        let file = Gguf::open(path)?;
        let config = config(&file)?;
        let mut tensors: Vec<Named> = file
            .tensors()
            .iter()
            .filter(|(stored, _)| *stored != ROPE_FREQUENCIES)
            .map(|(stored, info)| Named {
                name: checkpoint_name(stored).unwrap_or_else(|| stored.clone()),
                stored: stored.clone(),
                shape: info.shape.clone(),
            })
            .collect();
        tensors.sort_by(|one, two| one.name.cmp(&two.name));
        Ok(Self { file, config, tensors })
    }

    /// The configuration.
    pub(crate) fn config(&self) -> &LlamaConfig {
        &self.config
    }

    /// The file, for the tokenizer.
    pub(crate) fn file(&self) -> &Gguf {
        &self.file
    }
}

impl Weights for GgufCheckpoint {
    fn path(&self) -> &Path {
        self.file.path()
    }

    fn shapes(&self) -> Vec<(&str, &[usize])> {
        self.tensors.iter().map(|named| (named.name.as_str(), named.shape.as_slice())).collect()
    }

    fn read(&self, name: &str) -> Result<Vec<f32>, LmError> {
        let place = self.tensors.binary_search_by(|named| named.name.as_str().cmp(name));
        let stored = place.map_or(name, |place| self.tensors[place].stored.as_str());
        let values = self.file.read(stored)?;
        let heads = match self.config.model_type {
            ModelType::Qwen2 => None,
            ModelType::Llama if name.contains(".q_proj.") => Some(self.config.num_attention_heads),
            ModelType::Llama if name.contains(".k_proj.") => Some(self.config.num_key_value_heads),
            ModelType::Llama => None,
        };
        Ok(match heads {
            Some(heads) => halves(&values, heads, self.config.head_size()),
            None => values,
        })
    }
}

/// Puts rows that llama.cpp keeps as pairs (0, half, 1, half + 1, ..) of each head back into halves.
fn halves(values: &[f32], heads: usize, head_size: usize) -> Vec<f32> {
    let row = values.len() / (heads * head_size);
    let mut all = Vec::with_capacity(values.len());
    for head in 0..heads {
        for half in 0..2 {
            for pair in 0..head_size / 2 {
                let from = (head * head_size + pair * 2 + half) * row;
                all.extend_from_slice(&values[from..from + row]);
            }
        }
    }
    all
}

/// The name of a tensor in a Hugging Face folder.
fn checkpoint_name(stored: &str) -> Option<String> {
    let (stem, kind) = stored.rsplit_once('.')?;
    let name = match stem {
        "token_embd" => "model.embed_tokens",
        "output_norm" => "model.norm",
        "output" => "lm_head",
        _ => {
            let (layer, part) = stem.strip_prefix("blk.")?.split_once('.')?;
            let part = match part {
                "attn_norm" => "input_layernorm",
                "ffn_norm" => "post_attention_layernorm",
                "attn_q" => "self_attn.q_proj",
                "attn_k" => "self_attn.k_proj",
                "attn_v" => "self_attn.v_proj",
                "attn_output" => "self_attn.o_proj",
                "ffn_gate" => "mlp.gate_proj",
                "ffn_up" => "mlp.up_proj",
                "ffn_down" => "mlp.down_proj",
                _ => return None,
            };
            return Some(format!("model.layers.{layer}.{part}.{kind}"));
        }
    };
    Some(format!("{name}.{kind}"))
}

fn config(file: &Gguf) -> Result<LlamaConfig, GgufError> {
    const ARCHITECTURE: &str = "general.architecture";
    let architecture = file.text(ARCHITECTURE)?.ok_or_else(|| file.refuse(ARCHITECTURE, "is missing"))?;
    let model_type = match architecture {
        "llama" => ModelType::Llama,
        "qwen2" => ModelType::Qwen2,
        other => {
            let problem = format!("is `{other}`; `llama` and `qwen2` are supported");
            return Err(file.refuse(ARCHITECTURE, problem));
        }
    };
    let key = |name: &str| format!("{architecture}.{name}");
    let size = |name: &str| file.unsigned(&key(name)).map(|size| size.map(|size| size as usize));
    let required = |name: &str| size(name)?.ok_or_else(|| file.refuse(&key(name), "is missing"));
    if file.unsigned("split.count")?.is_some_and(|parts| parts > 1) {
        return Err(file.refuse("split.count", "is above 1: merge the parts of this model into one file"));
    }
    for name in ["expert_count", "attention.sliding_window"] {
        if size(name)?.is_some_and(|size| size > 0) {
            return Err(file.refuse(&key(name), "is set, which is not supported"));
        }
    }
    let scaling = key("rope.scaling.type");
    if let Some(kind) = file.text(&scaling)?.filter(|kind| *kind != "none") {
        return Err(file.refuse(&scaling, format!("is `{kind}`, which is not supported")));
    }

    let num_attention_heads = required("attention.head_count")?;
    let head_dim = size("attention.key_length")?;
    let hidden_size = required("embedding_length")?;
    let head_size = head_dim.or_else(|| hidden_size.checked_div(num_attention_heads)).unwrap_or_default();
    for name in ["attention.value_length", "rope.dimension_count"] {
        if let Some(other) = size(name)?.filter(|size| *size != head_size) {
            let problem = format!("is {other}, which differs from the {head_size} of a key");
            return Err(file.refuse(&key(name), problem));
        }
    }
    // Stored as f32: the shortest decimal that rounds to it is what the author wrote.
    let decimal = |name: &str| -> Result<Option<f64>, GgufError> {
        let value = file.float(&key(name))?;
        Ok(value.map(|value| (value as f32).to_string().parse().unwrap_or(value)))
    };
    let rope_theta = decimal("rope.freq_base")?.unwrap_or(10_000.0);
    let rope_scaling = match file.tensors().get(ROPE_FREQUENCIES) {
        None => None,
        Some(info) if info.elements != head_size / 2 => {
            let problem =
                format!("there is one for {} pairs of coordinates, not {}", info.elements, head_size / 2);
            return Err(GgufError::Tensor {
                path: file.path().to_owned(),
                tensor: ROPE_FREQUENCIES.into(),
                offset: info.offset,
                problem,
            });
        }
        Some(_) => rope::scaling_of(&file.read(ROPE_FREQUENCIES)?, rope_theta).map_err(|()| {
            file.refuse(&key("rope.freq_base"), "is scaled by divisors that are not those of `llama3`")
        })?,
    };
    let Some([vocab_size, _]) = file.tensors().get(EMBEDDINGS).map(|info| info.shape.as_slice()) else {
        return Err(GgufError::Tensor {
            path: file.path().to_owned(),
            tensor: EMBEDDINGS.into(),
            offset: 0,
            problem: "there is no such matrix".into(),
        });
    };
    let token = |name: &str| -> Result<Option<u32>, GgufError> {
        let key = format!("tokenizer.ggml.{name}_token_id");
        let id = file.unsigned(&key)?;
        id.map(|id| u32::try_from(id).map_err(|_| file.refuse(&key, "is too large"))).transpose()
    };
    let mut eos_token_id = Vec::new();
    // The end of a text, of a turn, of a message that expects more: each ends what the model says.
    for name in ["eos", "eot", "eom"] {
        if let Some(id) = token(name)?.filter(|id| !eos_token_id.contains(id)) {
            eos_token_id.push(id);
        }
    }
    if eos_token_id.is_empty() {
        return Err(file.refuse("tokenizer.ggml.eos_token_id", "is missing, so nothing would end a text"));
    }
    let config = LlamaConfig {
        model_type,
        hidden_size,
        intermediate_size: required("feed_forward_length")?,
        num_hidden_layers: required("block_count")?,
        num_attention_heads,
        num_key_value_heads: size("attention.head_count_kv")?.unwrap_or(num_attention_heads),
        head_dim: head_dim.filter(|size| size.checked_mul(num_attention_heads) != Some(hidden_size)),
        vocab_size: *vocab_size,
        rms_norm_eps: decimal("attention.layer_norm_rms_epsilon")?
            .ok_or_else(|| file.refuse(&key("attention.layer_norm_rms_epsilon"), "is missing"))?,
        rope_theta,
        rope_scaling,
        max_position_embeddings: required("context_length")?,
        tie_word_embeddings: !file.tensors().contains_key(OUTPUT),
        initializer_range: 0.02,
        bos_token_id: token("bos")?,
        eos_token_id,
        pad_token_id: token("padding")?,
    };
    match config.problems().into_iter().next() {
        Some((field, problem)) => {
            Err(file.refuse(ARCHITECTURE, format!("asks for `{field}`, which {problem}")))
        }
        None => Ok(config),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::{LanguageModel, config, fixture};

    #[test]
    fn the_twin_of_a_folder_is_the_same_model() {
        let twin = fixture::loaded("tiny-llama3.gguf");
        fixture::assert_reference_logits("tiny-llama3", &twin, 1e-5);
        let folder = config::load(&fixture::folder("tiny-llama3")).unwrap();
        assert_eq!(twin.config, folder);
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_damaged_file_is_another_model_or_none(
            flips in prop::collection::vec((0usize..13_000, any::<u8>()), 1..4),
            length in 8_000usize..60_000,
        ) {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("model.gguf");
            for name in ["tiny-llama3.gguf", "tiny-qwen2.gguf"] {
                let mut bytes = std::fs::read(fixture::folder(name)).unwrap();
                for (place, byte) in &flips {
                    bytes[*place] = *byte;
                }
                bytes.truncate(length.max(14_000));
                std::fs::write(&path, bytes).unwrap();
                // Most flips hit the vocabulary, which may well be another one.
                if let Err(error) = LanguageModel::load(&path, &fixture::device()) {
                    prop_assert!(!error.to_string().is_empty());
                }
            }
        }
    }

    #[test]
    fn rows_are_put_back_into_halves() {
        // One head of four rows and two columns, as the converter stores it: rows 0, 2, 1, 3.
        assert_eq!(halves(&[0., 0., 2., 2., 1., 1., 3., 3.], 1, 4), [0., 0., 1., 1., 2., 2., 3., 3.]);
        // A bias, two heads.
        assert_eq!(halves(&[0., 2., 1., 3., 4., 6., 5., 7.], 2, 4), [0., 1., 2., 3., 4., 5., 6., 7.]);
    }

    #[test]
    fn names_are_those_of_a_folder() {
        let name = |stored| checkpoint_name(stored);
        assert_eq!(name("blk.11.attn_q.bias").as_deref(), Some("model.layers.11.self_attn.q_proj.bias"));
        assert_eq!(name("output_norm.weight").as_deref(), Some("model.norm.weight"));
        assert_eq!(name("blk.0.attn_q_norm.weight"), None);
        assert_eq!(name("rope_freqs"), None);
    }
}
