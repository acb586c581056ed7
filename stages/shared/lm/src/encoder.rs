//! Sentence vectors from a BERT or Sentence-BERT folder.
//!
//! A text, or a pair of texts, goes through [`Bert`] and is pooled into one vector. For a Sentence-BERT folder
//! `modules.json` says how; for a plain BERT it is the mean over all tokens that are not padding. Truncation and padding
//! written in `tokenizer.json` are overridden: texts are cut at the model's own limit only, and padded by batch.

use std::path::{Path, PathBuf};

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use serde::{Deserialize, de::DeserializeOwned};
use tokenizers::TruncationParams;

use crate::{
    LmError,
    bert::{Bert, BertConfig},
};

const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const WEIGHTS: &str = "model.safetensors";
const MODULES: &str = "modules.json";
const SENTENCE_BERT: &str = "sentence_bert_config.json";

/// The shortest limit that leaves room for a pair: three special tokens, a token of each text.
const LEAST_TOKENS: usize = 5;

/// Added to what a maximum must not pick.
const MASKED: f32 = -1e9;

/// How token vectors become one; named as in Sentence-BERT's pooling configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pooling {
    /// The vector of the first token.
    ClsToken,
    /// The mean over tokens.
    MeanTokens,
    /// The largest value of each dimension.
    MaxTokens,
    /// The sum over tokens, divided by the root of their number.
    MeanSqrtLenTokens,
}

/// A text or a pair of texts, ready for [`SentenceEncoder::embed`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segments {
    /// `[CLS]`, the first text, `[SEP]`, and where there is a second one, that and another `[SEP]`.
    pub tokens: Vec<u32>,
    /// 0 for the first text, 1 for the second.
    pub token_types: Vec<u32>,
    /// Whether something was cut off.
    pub truncated: bool,
}

/// A BERT with its tokenizer and its way to make one vector of many.
#[derive(Clone)]
pub struct SentenceEncoder {
    /// The weights.
    pub model: Bert,
    /// The configuration.
    pub config: BertConfig,
    /// How token vectors become one.
    pub pooling: Pooling,
    /// Whether vectors are scaled to length 1.
    pub normalize: bool,
    tokenizer: tokenizers::Tokenizer,
    max_tokens: usize,
}

impl std::fmt::Debug for SentenceEncoder {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { pooling, normalize, max_tokens, .. } = self;
        write!(formatter, "SentenceEncoder({pooling:?}, normalize: {normalize}, {max_tokens} tokens)")
    }
}

impl SentenceEncoder {
    /// Reads a folder: `config.json`, `tokenizer.json`, `model.safetensors`, and where it is there `modules.json`.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, LmError> {
        let modules = Modules::read(folder)?;
        let path = modules.transformer.join(CONFIG);
        let config: BertConfig = read_json(&path)?;
        if let Some((field, problem)) = config.problems().into_iter().next() {
            return Err(LmError::Unsupported { path, field, problem });
        }
        let max_tokens = modules
            .max_seq_length
            .map_or(config.max_position_embeddings, |most| most.min(config.max_position_embeddings));
        if max_tokens < LEAST_TOKENS {
            let problem = format!("texts of {max_tokens} tokens are too short, {LEAST_TOKENS} are the least");
            return Err(LmError::Unsupported { path, field: "max_position_embeddings", problem });
        }
        let model = Bert::load(&config, &modules.transformer.join(WEIGHTS), device)?;

        let path = modules.transformer.join(TOKENIZER);
        let bytes = std::fs::read(&path).map_err(|source| LmError::Io { path, source })?;
        let mut tokenizer = tokenizers::Tokenizer::from_bytes(bytes).map_err(LmError::Tokenizer)?;
        tokenizer.with_padding(None);
        let truncation = TruncationParams { max_length: max_tokens, ..TruncationParams::default() };
        tokenizer.with_truncation(Some(truncation)).map_err(LmError::Tokenizer)?;
        // A special token spelled out in a text is text.
        tokenizer.set_encode_special_tokens(true);
        let Modules { pooling, normalize, .. } = modules;
        Ok(Self { model, config, pooling, normalize, tokenizer, max_tokens })
    }

    /// The width of a vector.
    pub fn size(&self) -> usize {
        self.config.hidden_size
    }

    /// Where texts are cut, special tokens included.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Encodes a text, or a pair of texts; of a pair that is too long the longer text is cut first.
    pub fn encode(&self, first: &str, second: Option<&str>) -> Result<Segments, LmError> {
        let encoding = match second {
            Some(second) => self.tokenizer.encode_fast((first, second), true),
            None => self.tokenizer.encode_fast(first, true),
        };
        let encoding = encoding.map_err(LmError::Tokenizer)?;
        Ok(Segments {
            tokens: encoding.get_ids().to_vec(),
            token_types: encoding.get_type_ids().to_vec(),
            truncated: !encoding.get_overflowing().is_empty(),
        })
    }

    /// The vectors of texts that share a batch; texts of similar length waste little of it.
    ///
    /// # Shapes
    ///
    /// - output: `[texts, size]`
    ///
    /// # Panics
    ///
    /// If there is no text.
    pub fn embed(&self, texts: &[&Segments]) -> Tensor<2> {
        let device = self.model.device();
        let batch = texts.len();
        let length = texts.iter().map(|text| text.tokens.len()).max().expect("a batch has a text");
        let mut tokens = vec![self.config.pad_token_id as i32; batch * length];
        let mut token_types = vec![0i32; batch * length];
        let mut mask = vec![false; batch * length];
        for (row, text) in texts.iter().enumerate() {
            for (place, (token, token_type)) in text.tokens.iter().zip(&text.token_types).enumerate() {
                tokens[row * length + place] = *token as i32;
                token_types[row * length + place] = *token_type as i32;
                mask[row * length + place] = true;
            }
        }
        let ints = |values: Vec<i32>| -> Tensor<2, Int> {
            Tensor::from_data(TensorData::new(values, [batch, length]), &device)
        };
        let mask: Tensor<2, Bool> = Tensor::from_data(TensorData::new(mask, [batch, length]), &device);
        let hidden = self.model.hidden(ints(tokens), ints(token_types), mask.clone());
        let pooled = pool(self.pooling, hidden, mask);
        if !self.normalize {
            return pooled;
        }
        // [texts, 1]
        let norm = pooled.clone().square().sum_dim(1).sqrt().clamp_min(1e-12);
        pooled / norm
    }
}

/// # Shapes
///
/// - hidden: `[batch, length, size]`
/// - mask: `[batch, length]`, false where a token is padding
/// - output: `[batch, size]`
fn pool(pooling: Pooling, hidden: Tensor<3>, mask: Tensor<2, Bool>) -> Tensor<2> {
    let [batch, length, size] = hidden.dims();
    let present = mask.float();
    let count = present.clone().sum_dim(1);
    match pooling {
        Pooling::ClsToken => hidden.narrow(1, 0, 1).reshape([batch, size]),
        Pooling::MeanTokens | Pooling::MeanSqrtLenTokens => {
            let divisor = if pooling == Pooling::MeanTokens { count } else { count.sqrt() };
            (present / divisor).reshape([batch, 1, length]).matmul(hidden).reshape([batch, size])
        }
        Pooling::MaxTokens => {
            let bias = (present - 1.0).mul_scalar(-MASKED).reshape([batch, length, 1]);
            (hidden + bias).max_dim(1).reshape([batch, size])
        }
    }
}

/// What `modules.json` says.
struct Modules {
    transformer: PathBuf,
    pooling: Pooling,
    normalize: bool,
    max_seq_length: Option<usize>,
}

#[derive(Deserialize)]
struct Module {
    path: String,
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct TransformerConfig {
    max_seq_length: Option<usize>,
}

#[derive(Deserialize)]
#[serde(default)]
struct PoolingConfig {
    pooling_mode_cls_token: bool,
    pooling_mode_mean_tokens: bool,
    pooling_mode_max_tokens: bool,
    pooling_mode_mean_sqrt_len_tokens: bool,
    pooling_mode_weightedmean_tokens: bool,
    pooling_mode_lasttoken: bool,
}

impl Default for PoolingConfig {
    fn default() -> Self {
        Self {
            pooling_mode_cls_token: false,
            pooling_mode_mean_tokens: true,
            pooling_mode_max_tokens: false,
            pooling_mode_mean_sqrt_len_tokens: false,
            pooling_mode_weightedmean_tokens: false,
            pooling_mode_lasttoken: false,
        }
    }
}

impl Modules {
    fn read(folder: &Path) -> Result<Self, LmError> {
        let path = folder.join(MODULES);
        let mut read = Self {
            transformer: folder.to_owned(),
            pooling: Pooling::MeanTokens,
            normalize: false,
            max_seq_length: None,
        };
        if !path.exists() {
            return Ok(read);
        }
        let modules: Vec<Module> = read_json(&path)?;
        for (place, module) in modules.iter().enumerate() {
            let kind = module.kind.rsplit('.').next().unwrap_or_default();
            match (place, kind) {
                (0, "Transformer") => {
                    read.transformer = folder.join(&module.path);
                    let limits = read.transformer.join(SENTENCE_BERT);
                    if limits.exists() {
                        read.max_seq_length = read_json::<TransformerConfig>(&limits)?.max_seq_length;
                    }
                }
                (1, "Pooling") => read.pooling = pooling(&folder.join(&module.path).join(CONFIG))?,
                (2, "Normalize") => read.normalize = true,
                _ => {
                    let problem = format!(
                        "module {place} is `{kind}`; a Transformer, a Pooling and perhaps a Normalize are"
                    );
                    return Err(LmError::Unsupported { path, field: "type", problem });
                }
            }
        }
        Ok(read)
    }
}

fn pooling(path: &Path) -> Result<Pooling, LmError> {
    let config: PoolingConfig = read_json(path)?;
    let modes = [
        (config.pooling_mode_cls_token, Some(Pooling::ClsToken)),
        (config.pooling_mode_mean_tokens, Some(Pooling::MeanTokens)),
        (config.pooling_mode_max_tokens, Some(Pooling::MaxTokens)),
        (config.pooling_mode_mean_sqrt_len_tokens, Some(Pooling::MeanSqrtLenTokens)),
        (config.pooling_mode_weightedmean_tokens, None),
        (config.pooling_mode_lasttoken, None),
    ];
    let chosen: Vec<Option<Pooling>> =
        modes.into_iter().filter(|(chosen, _)| *chosen).map(|(_, pooling)| pooling).collect();
    match chosen[..] {
        [Some(pooling)] => Ok(pooling),
        _ => Err(LmError::Unsupported {
            path: path.to_owned(),
            field: "pooling_mode",
            problem: "exactly one of cls, mean, max and mean_sqrt_len is".to_owned(),
        }),
    }
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, LmError> {
    let bytes = std::fs::read(path).map_err(|source| LmError::Io { path: path.to_owned(), source })?;
    serde_json::from_slice(&bytes).map_err(|source| LmError::Config { path: path.to_owned(), source })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
pub(crate) mod tests;
