//! The BERT architecture, top to bottom, without its pooler and heads.
//!
//! Fields carry the names of the Hugging Face checkpoint but for [`KEYS`]: `self` is a keyword here, and two spellings
//! of a norm are in use. It reads whole sequences in both directions and has no cache; what a sentence's vector is made
//! of is [`crate::encoder`]'s business.

use std::path::Path;

use burn::{
    module::{Module, Param},
    nn::{Embedding, LayerNorm, LayerNormConfig, Linear},
    store::{FloatCastAdapter, ModuleAdapter, ModuleSnapshot, PyTorchToBurnAdapter, SafetensorsStore},
    tensor::{Bool, DType, Device, Int, Tensor, activation},
};
use serde::{Deserialize, Serialize};

use crate::LmError;

/// Added to the scores of padding; its exponential is zero, and it stays finite.
const MASKED: f32 = -1e9;

/// From keys of checkpoints to the fields below, as (pattern, replacement), in this order.
const KEYS: [(&str, &str); 5] = [
    // Checkpoints saved with a head name the encoder.
    (r"^bert\.", ""),
    (r"\.attention\.self\.", ".attention.self_attention."),
    (r"(^|\.)LayerNorm\.", "${1}layer_norm."),
    // Checkpoints converted from TensorFlow.
    (r"\.layer_norm\.gamma$", ".layer_norm.weight"),
    (r"\.layer_norm\.beta$", ".layer_norm.bias"),
];

/// A checkpoint's `config.json`. Fields we do not know are ignored; fields we cannot honour are refused on loading.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BertConfig {
    /// `bert`.
    pub model_type: String,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward block.
    pub intermediate_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Attention heads; divides `hidden_size`.
    pub num_attention_heads: usize,
    /// Tokens.
    pub vocab_size: usize,
    /// Kinds of segments: question and rationale are two.
    #[serde(default = "type_vocab_size")]
    pub type_vocab_size: usize,
    /// Longest sequence.
    pub max_position_embeddings: usize,
    /// Added to the variance in every norm.
    #[serde(default = "layer_norm_eps")]
    pub layer_norm_eps: f64,
    /// The activation inside the feed-forward block: `gelu`, its approximation `gelu_new`, or `relu`.
    #[serde(default)]
    pub hidden_act: BertActivation,
    /// How positions enter; only `absolute` is supported.
    #[serde(default = "position_embedding_type")]
    pub position_embedding_type: String,
    /// The token that fills up a batch.
    #[serde(default)]
    pub pad_token_id: u32,
}

/// The activation inside the feed-forward block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BertActivation {
    /// By the error function.
    #[default]
    Gelu,
    /// By the hyperbolic tangent.
    #[serde(alias = "gelu_pytorch_tanh")]
    GeluNew,
    /// max(x, 0)
    Relu,
}

fn type_vocab_size() -> usize {
    2
}

fn layer_norm_eps() -> f64 {
    1e-12
}

fn position_embedding_type() -> String {
    "absolute".into()
}

impl BertConfig {
    /// What in this configuration we cannot compute, by field.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, field, problem: &str| {
            if !holds {
                problems.push((field, problem.to_owned()));
            }
        };
        require(self.model_type == "bert", "model_type", "only `bert` is supported");
        require(
            self.position_embedding_type == "absolute",
            "position_embedding_type",
            "only `absolute` is supported",
        );
        require(self.num_hidden_layers > 0, "num_hidden_layers", "must be at least 1");
        require(self.num_attention_heads > 0, "num_attention_heads", "must be at least 1");
        require(
            self.hidden_size.is_multiple_of(self.num_attention_heads.max(1)),
            "hidden_size",
            "must be a multiple of `num_attention_heads`",
        );
        require(self.type_vocab_size > 0, "type_vocab_size", "must be at least 1");
        problems
    }
}

/// A BERT encoder.
#[derive(Module, Debug)]
pub struct Bert {
    embeddings: BertEmbeddings,
    encoder: BertEncoder,
}

#[derive(Module, Debug)]
struct BertEmbeddings {
    word_embeddings: Embedding,
    position_embeddings: Embedding,
    token_type_embeddings: Embedding,
    layer_norm: LayerNorm,
}

#[derive(Module, Debug)]
struct BertEncoder {
    layer: Vec<BertLayer>,
}

#[derive(Module, Debug)]
struct BertLayer {
    attention: BertAttention,
    intermediate: BertIntermediate,
    output: BertOutput,
}

#[derive(Module, Debug)]
struct BertAttention {
    self_attention: BertSelfAttention,
    output: BertOutput,
}

#[derive(Module, Debug)]
struct BertSelfAttention {
    query: Linear,
    key: Linear,
    value: Linear,
    #[module(skip)]
    heads: usize,
}

#[derive(Module, Debug)]
struct BertIntermediate {
    dense: Linear,
    #[module(skip)]
    hidden_act: BertActivation,
}

#[derive(Module, Debug)]
struct BertOutput {
    dense: Linear,
    layer_norm: LayerNorm,
}

impl Bert {
    /// Reads the weights of a checkpoint, of any float format, as f32.
    pub fn load(config: &BertConfig, weights: &Path, device: &Device) -> Result<Self, LmError> {
        let mut model = Self::blank(config, device);
        let adapter = PyTorchToBurnAdapter.chain(FloatCastAdapter::to(DType::F32));
        let mut store = SafetensorsStore::from_file(weights).with_from_adapter(adapter);
        for (pattern, replacement) in KEYS {
            store = store.with_key_remapping(pattern, replacement);
        }
        model
            .load_from(&mut store)
            .map_err(|error| LmError::Weights { path: weights.to_owned(), problem: error.to_string() })?;
        Ok(model)
    }

    /// A model whose weights are zero, to be loaded.
    fn blank(config: &BertConfig, device: &Device) -> Self {
        let (hidden, inner) = (config.hidden_size, config.intermediate_size);
        let zeros = |shape: [usize; 2]| Param::from_tensor(Tensor::zeros(shape, device));
        let linear = |input: usize, output: usize| Linear {
            weight: zeros([input, output]),
            bias: Some(Param::from_tensor(Tensor::zeros([output], device))),
        };
        let embedding = |rows: usize| Embedding { weight: zeros([rows, hidden]) };
        let norm = || LayerNormConfig::new(hidden).with_epsilon(config.layer_norm_eps).init(device);
        let layer = (0..config.num_hidden_layers)
            .map(|_| BertLayer {
                attention: BertAttention {
                    self_attention: BertSelfAttention {
                        query: linear(hidden, hidden),
                        key: linear(hidden, hidden),
                        value: linear(hidden, hidden),
                        heads: config.num_attention_heads,
                    },
                    output: BertOutput { dense: linear(hidden, hidden), layer_norm: norm() },
                },
                intermediate: BertIntermediate {
                    dense: linear(hidden, inner),
                    hidden_act: config.hidden_act,
                },
                output: BertOutput { dense: linear(inner, hidden), layer_norm: norm() },
            })
            .collect();
        let embeddings = BertEmbeddings {
            word_embeddings: embedding(config.vocab_size),
            position_embeddings: embedding(config.max_position_embeddings),
            token_type_embeddings: embedding(config.type_vocab_size),
            layer_norm: norm(),
        };
        Self { embeddings, encoder: BertEncoder { layer } }
    }

    /// The device the weights are on.
    pub fn device(&self) -> Device {
        self.embeddings.word_embeddings.weight.lazy_device()
    }

    /// The states after the last block; transformers' `last_hidden_state`.
    ///
    /// # Shapes
    ///
    /// - tokens, token_types: `[batch, length]`
    /// - mask: `[batch, length]`, false where a token is padding
    /// - output: `[batch, length, hidden_size]`
    pub fn hidden(
        &self,
        tokens: Tensor<2, Int>,
        token_types: Tensor<2, Int>,
        mask: Tensor<2, Bool>,
    ) -> Tensor<3> {
        let [batch, length] = tokens.dims();
        // [batch, 1, 1, length]: every query of a sequence sees the same keys.
        let bias = mask.bool_not().float().mul_scalar(MASKED).reshape([batch, 1, 1, length]);
        // [batch * length, hidden]: flat, so that every product with a weight is one matrix product.
        let mut x = self.embeddings.forward(tokens, token_types);
        for layer in &self.encoder.layer {
            let attended = layer.attention.self_attention.forward(x.clone(), bias.clone());
            x = layer.attention.output.forward(attended, x);
            x = layer.output.forward(layer.intermediate.forward(x.clone()), x);
        }
        let width = x.dims()[1];
        x.reshape([batch, length, width])
    }
}

impl BertEmbeddings {
    /// `[batch, length]` twice to `[batch * length, hidden]`.
    fn forward(&self, tokens: Tensor<2, Int>, token_types: Tensor<2, Int>) -> Tensor<2> {
        let [batch, length] = tokens.dims();
        let words = self.word_embeddings.weight.val().select(0, tokens.reshape([batch * length]));
        let types = self.token_type_embeddings.weight.val().select(0, token_types.reshape([batch * length]));
        let positions = self.position_embeddings.weight.val().narrow(0, 0, length).repeat_dim(0, batch);
        self.layer_norm.forward(words + types + positions)
    }
}

impl BertSelfAttention {
    /// # Shapes
    ///
    /// - x: `[batch * length, hidden]`; the output has the same shape
    /// - bias: `[batch, 1, 1, length]`
    fn forward(&self, x: Tensor<2>, bias: Tensor<4>) -> Tensor<2> {
        let [rows, hidden] = x.dims();
        let [batch, _, _, length] = bias.dims();
        let size = hidden / self.heads;
        // [batch, heads, length, size]
        let split = |x: Tensor<2>| x.reshape([batch, length, self.heads, size]).swap_dims(1, 2);
        let queries = split(self.query.forward(x.clone()).div_scalar((size as f64).sqrt()));
        let keys = split(self.key.forward(x.clone()));
        let values = split(self.value.forward(x));
        let scores = queries.matmul(keys.swap_dims(2, 3)) + bias;
        activation::softmax(scores, 3).matmul(values).swap_dims(1, 2).reshape([rows, hidden])
    }
}

impl BertIntermediate {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let x = self.dense.forward(x);
        match self.hidden_act {
            BertActivation::Gelu => activation::gelu(x),
            BertActivation::GeluNew => activation::gelu_approximate(x),
            BertActivation::Relu => activation::relu(x),
        }
    }
}

impl BertOutput {
    fn forward(&self, x: Tensor<2>, residual: Tensor<2>) -> Tensor<2> {
        self.layer_norm.forward(self.dense.forward(x) + residual)
    }
}
