//! The Llama architecture (SmolLM2 is one), top to bottom. Qwen2 is the same block with biases on q, k and v.
//!
//! Fields carry the names of the Hugging Face checkpoint. There is one set of weights and one attention code with two
//! entry points: [`Llama::hidden`] over whole sequences, and [`Llama::extend`] over a key-value cache.
//!
//! Positions and masks are always given by the caller, so a batch may hold any layout of tokens. No function here builds
//! logits for positions nobody asked for: hidden states are gathered first and projected by [`Llama::logits`].

use burn::{
    module::{Module, Param, ParamId},
    nn::{Embedding, RmsNorm},
    tensor::{Bool, Device, Int, Tensor, TensorData, activation},
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    lora::{Linear, TargetModule},
    rope::{self, Llama3Scaling},
};

/// Added to the scores of what may not be attended to; its exponential is zero, and it stays finite.
const MASKED: f32 = -1e9;

/// The architecture of a checkpoint; `model_type` of its `config.json`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelType {
    /// No biases.
    Llama,
    /// Biases on q, k and v.
    Qwen2,
}

/// What we compute for a checkpoint's `config.json`; fields are named as there.
#[derive(Clone, Debug, PartialEq)]
pub struct LlamaConfig {
    /// The architecture.
    pub model_type: ModelType,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward block.
    pub intermediate_size: usize,
    /// Blocks.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads; divides `num_attention_heads`.
    pub num_key_value_heads: usize,
    /// Width of a head; `hidden_size / num_attention_heads` where absent.
    pub head_dim: Option<usize>,
    /// Rows of the embedding table; at least as many as the tokenizer has tokens.
    pub vocab_size: usize,
    /// Added to the mean square in every norm.
    pub rms_norm_eps: f64,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// How the rotary frequencies are stretched, if they are.
    pub rope_scaling: Option<Llama3Scaling>,
    /// Longest sequence the model was made for.
    pub max_position_embeddings: usize,
    /// Whether the vocabulary projection is the embedding table.
    pub tie_word_embeddings: bool,
    /// Standard deviation of fresh weights.
    pub initializer_range: f64,
    /// The token before a text, where the model has one.
    pub bos_token_id: Option<u32>,
    /// The tokens that end a text; at least one.
    pub eos_token_id: Vec<u32>,
    /// The token that fills up a batch; the end of a text where absent.
    pub pad_token_id: Option<u32>,
}

/// The shape of a model made from scratch; what [`LlamaConfig::new`] needs to know.
#[derive(Clone, Copy, Debug)]
pub struct LlamaSize {
    /// See [`LlamaConfig::hidden_size`].
    pub hidden_size: usize,
    /// See [`LlamaConfig::intermediate_size`].
    pub intermediate_size: usize,
    /// See [`LlamaConfig::num_hidden_layers`].
    pub num_hidden_layers: usize,
    /// See [`LlamaConfig::num_attention_heads`].
    pub num_attention_heads: usize,
    /// See [`LlamaConfig::num_key_value_heads`].
    pub num_key_value_heads: usize,
    /// See [`LlamaConfig::vocab_size`].
    pub vocab_size: usize,
}

impl LlamaConfig {
    /// The configuration of a model made from scratch: tied embeddings, 2048 positions.
    pub fn new(size: LlamaSize, eos: u32, pad: u32) -> Self {
        Self {
            model_type: ModelType::Llama,
            hidden_size: size.hidden_size,
            intermediate_size: size.intermediate_size,
            num_hidden_layers: size.num_hidden_layers,
            num_attention_heads: size.num_attention_heads,
            num_key_value_heads: size.num_key_value_heads,
            head_dim: None,
            vocab_size: size.vocab_size,
            rms_norm_eps: 1e-5,
            rope_theta: 10_000.0,
            rope_scaling: None,
            max_position_embeddings: 2048,
            tie_word_embeddings: true,
            initializer_range: 0.02,
            bos_token_id: None,
            eos_token_id: vec![eos],
            pad_token_id: Some(pad),
        }
    }

    /// The width of a head.
    pub fn head_size(&self) -> usize {
        self.head_dim.unwrap_or(self.hidden_size / self.num_attention_heads)
    }

    /// How many weights the model has; nothing where there are more than any machine could hold.
    pub fn parameters(&self) -> Option<usize> {
        let head = match self.head_dim {
            Some(size) => size,
            None => self.hidden_size.checked_div(self.num_attention_heads)?,
        };
        let (hidden, heads) = (self.hidden_size, self.num_attention_heads.checked_mul(head)?);
        let keys = self.num_key_value_heads.checked_mul(head)?;
        let attention = hidden.checked_mul(heads.checked_add(keys)?)?.checked_mul(2)?;
        let biases = match self.model_type {
            ModelType::Llama => 0,
            ModelType::Qwen2 => keys.checked_mul(2)?.checked_add(heads)?,
        };
        let mlp = hidden.checked_mul(self.intermediate_size)?.checked_mul(3)?;
        let layer = [attention, biases, mlp, hidden, hidden].into_iter().try_fold(0, usize::checked_add)?;
        let tables = if self.tie_word_embeddings { 1 } else { 2 };
        let table = self.vocab_size.checked_mul(hidden)?.checked_mul(tables)?;
        layer.checked_mul(self.num_hidden_layers)?.checked_add(table)?.checked_add(hidden)
    }

    /// What in this configuration we cannot compute, by field.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, field, problem: &str| {
            if !holds {
                problems.push((field, problem.to_owned()));
            }
        };
        require(self.hidden_size > 0, "hidden_size", "must be at least 1");
        require(self.intermediate_size > 0, "intermediate_size", "must be at least 1");
        require(self.vocab_size > 0, "vocab_size", "must be at least 1");
        require(self.rope_theta > 0.0, "rope_theta", "must be above 0");
        require(self.num_hidden_layers > 0, "num_hidden_layers", "must be at least 1");
        require(self.num_attention_heads > 0, "num_attention_heads", "must be at least 1");
        require(
            self.num_key_value_heads > 0
                && self.num_attention_heads.is_multiple_of(self.num_key_value_heads.max(1)),
            "num_key_value_heads",
            "must divide `num_attention_heads`",
        );
        require(
            self.head_dim.is_some() || self.hidden_size.is_multiple_of(self.num_attention_heads.max(1)),
            "hidden_size",
            "must be a multiple of `num_attention_heads`",
        );
        require(
            self.num_attention_heads == 0 || self.head_size().is_multiple_of(2),
            "hidden_size",
            "each head must have an even width",
        );
        problems
    }
}

/// A Llama model with its vocabulary projection.
#[derive(Module, Debug)]
pub struct Llama {
    model: LlamaModel,
    lm_head: Option<Linear>,
}

#[derive(Module, Debug)]
struct LlamaModel {
    embed_tokens: Embedding,
    layers: Vec<LlamaLayer>,
    norm: RmsNorm,
    /// Radians a token, by pair of coordinates of a head.
    #[module(skip)]
    rope_frequencies: Vec<f32>,
}

#[derive(Module, Debug)]
struct LlamaLayer {
    input_layernorm: RmsNorm,
    self_attn: LlamaAttention,
    post_attention_layernorm: RmsNorm,
    mlp: LlamaMlp,
}

#[derive(Module, Debug)]
struct LlamaAttention {
    q_proj: Linear,
    k_proj: Linear,
    v_proj: Linear,
    o_proj: Linear,
    #[module(skip)]
    heads: Heads,
}

#[derive(Module, Debug)]
struct LlamaMlp {
    gate_proj: Linear,
    up_proj: Linear,
    down_proj: Linear,
}

#[derive(Clone, Copy, Debug)]
struct Heads {
    key_value: usize,
    /// Query heads that share one key-value head.
    group: usize,
    size: usize,
}

/// Keys and values of the tokens seen so far, for [`Llama::extend`]. All rows fill the same columns.
#[derive(Debug)]
pub struct Cache {
    /// Per layer, `[batch, key-value heads, capacity, head size]` twice; made by the first call.
    layers: Vec<Option<(Tensor<4>, Tensor<4>)>>,
    length: usize,
    capacity: usize,
}

impl Cache {
    /// Columns filled.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Whether nothing has been seen yet.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Keeps these rows of the batch, in this order.
    pub fn keep_rows(&mut self, rows: &Tensor<1, Int>) {
        for layer in &mut self.layers {
            *layer = layer
                .take()
                .map(|(keys, values)| (keys.select(0, rows.clone()), values.select(0, rows.clone())));
        }
    }

    /// Adds new columns of one layer and returns all of its filled ones.
    fn append(&mut self, layer: usize, keys: Tensor<4>, values: Tensor<4>) -> (Tensor<4>, Tensor<4>) {
        let [batch, heads, new, size] = keys.dims();
        let end = self.length + new;
        let (mut all_keys, mut all_values) = self.layers[layer].take().unwrap_or_else(|| {
            let empty = || Tensor::zeros([batch, heads, self.capacity, size], &keys.device());
            (empty(), empty())
        });
        // In place: nobody else holds the buffers.
        let columns = [0..batch, 0..heads, self.length..end, 0..size];
        all_keys = all_keys.slice_assign(columns.clone(), keys);
        all_values = all_values.slice_assign(columns, values);
        let filled = (all_keys.clone().narrow(2, 0, end), all_values.clone().narrow(2, 0, end));
        self.layers[layer] = Some((all_keys, all_values));
        filled
    }
}

impl Llama {
    /// A model with fresh weights, the same on every machine for the same seed.
    pub fn init(config: &LlamaConfig, seed: u64, device: &Device) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        Self::build(config, device, &mut |shape| {
            Param::from_data(normal(shape, config.initializer_range, &mut rng), device)
        })
    }

    /// A model to be loaded: its weights take no memory until they are asked for, and would be zero.
    pub(crate) fn blank(config: &LlamaConfig, device: &Device) -> Self {
        Self::build(config, device, &mut |shape| {
            let zeros = move |device: &Device, _| Tensor::zeros(shape, device);
            Param::uninitialized(ParamId::new(), zeros, device.clone(), true, shape.into())
        })
    }

    fn build(
        config: &LlamaConfig,
        device: &Device,
        weights: &mut dyn FnMut([usize; 2]) -> Param<Tensor<2>>,
    ) -> Self {
        let hidden = config.hidden_size;
        let heads = Heads {
            key_value: config.num_key_value_heads,
            group: config.num_attention_heads / config.num_key_value_heads,
            size: config.head_size(),
        };
        let (queries, keys) = (config.num_attention_heads * heads.size, heads.key_value * heads.size);
        let mut linear = |input: usize, output: usize| Linear::new(weights([input, output]), None);
        let bias = |linear: Linear| match config.model_type {
            ModelType::Llama => linear,
            ModelType::Qwen2 => {
                let output = linear.weight.lazy_shape()[1];
                Linear::new(linear.weight, Some(Param::from_tensor(Tensor::zeros([output], device))))
            }
        };
        let norm = || RmsNorm {
            gamma: Param::from_tensor(Tensor::ones([hidden], device)),
            epsilon: config.rms_norm_eps,
        };
        let layers = (0..config.num_hidden_layers)
            .map(|_| LlamaLayer {
                input_layernorm: norm(),
                self_attn: LlamaAttention {
                    q_proj: bias(linear(hidden, queries)),
                    k_proj: bias(linear(hidden, keys)),
                    v_proj: bias(linear(hidden, keys)),
                    o_proj: linear(queries, hidden),
                    heads,
                },
                post_attention_layernorm: norm(),
                mlp: LlamaMlp {
                    gate_proj: linear(hidden, config.intermediate_size),
                    up_proj: linear(hidden, config.intermediate_size),
                    down_proj: linear(config.intermediate_size, hidden),
                },
            })
            .collect();
        let lm_head = (!config.tie_word_embeddings).then(|| linear(hidden, config.vocab_size));
        let embed_tokens = Embedding { weight: weights([config.vocab_size, hidden]) };
        let rope_frequencies = rope::frequencies(heads.size, config.rope_theta, config.rope_scaling.as_ref());
        let model = LlamaModel { embed_tokens, layers, norm: norm(), rope_frequencies };
        Self { model, lm_head }
    }

    /// The device the weights are on.
    pub fn device(&self) -> Device {
        self.model.embed_tokens.weight.lazy_device()
    }

    /// The width of the residual stream.
    pub fn hidden_size(&self) -> usize {
        self.model.embed_tokens.weight.lazy_shape()[1]
    }

    /// The projections of every block, which may carry adapters, with the number of the block.
    pub(crate) fn projections(&mut self) -> impl Iterator<Item = (usize, TargetModule, &mut Linear)> {
        self.model.layers.iter_mut().enumerate().flat_map(|(index, layer)| {
            let LlamaLayer { self_attn, mlp, .. } = layer;
            [
                (index, TargetModule::QProj, &mut self_attn.q_proj),
                (index, TargetModule::KProj, &mut self_attn.k_proj),
                (index, TargetModule::VProj, &mut self_attn.v_proj),
                (index, TargetModule::OProj, &mut self_attn.o_proj),
                (index, TargetModule::GateProj, &mut mlp.gate_proj),
                (index, TargetModule::UpProj, &mut mlp.up_proj),
                (index, TargetModule::DownProj, &mut mlp.down_proj),
            ]
        })
    }

    /// The states the vocabulary projection reads: after the last block and the final norm.
    ///
    /// # Shapes
    ///
    /// - tokens, positions: `[batch, length]`
    /// - mask: `[batch, length, length]`, true where the query (second axis) may attend to the key (third axis)
    /// - output: `[batch, length, hidden_size]`
    pub fn hidden(
        &self,
        tokens: Tensor<2, Int>,
        positions: Tensor<2, Int>,
        mask: Tensor<3, Bool>,
    ) -> Tensor<3> {
        self.model.forward(tokens, positions, mask, None, &mut |_| {})
    }

    /// The embeddings, then the states after each block, the last one after the final norm: `num_hidden_layers + 1`
    /// tensors, as transformers' `hidden_states`. Shapes as in [`Llama::hidden`].
    pub fn hidden_states(
        &self,
        tokens: Tensor<2, Int>,
        positions: Tensor<2, Int>,
        mask: Tensor<3, Bool>,
    ) -> Vec<Tensor<3>> {
        let [batch, length] = tokens.dims();
        let mut states = Vec::new();
        let last = self.model.forward(tokens, positions, mask, None, &mut |state| {
            let width = state.dims()[1];
            states.push(state.clone().reshape([batch, length, width]));
        });
        *states.last_mut().expect("the embeddings are always reported") = last;
        states
    }

    /// An empty cache for sequences of up to `capacity` tokens.
    pub fn cache(&self, capacity: usize) -> Cache {
        Cache { layers: vec![None; self.model.layers.len()], length: 0, capacity }
    }

    /// Like [`Llama::hidden`] for the tokens after those in the cache, which then holds these too.
    ///
    /// # Shapes
    ///
    /// - tokens, positions: `[batch, new]`
    /// - mask: `[batch, new, cached + new]`
    /// - output: `[batch, new, hidden_size]`
    pub fn extend(
        &self,
        tokens: Tensor<2, Int>,
        positions: Tensor<2, Int>,
        mask: Tensor<3, Bool>,
        cache: &mut Cache,
    ) -> Tensor<3> {
        let [_, new] = tokens.dims();
        assert!(cache.length + new <= cache.capacity, "the cache holds {} tokens", cache.capacity);
        let hidden = self.model.forward(tokens, positions, mask, Some(cache), &mut |_| {});
        cache.length += new;
        hidden
    }

    /// Projects gathered hidden states onto the vocabulary.
    ///
    /// # Shapes
    ///
    /// - hidden: `[rows, hidden_size]`
    /// - output: `[rows, vocab_size]`
    pub fn logits(&self, hidden: Tensor<2>) -> Tensor<2> {
        match &self.lm_head {
            Some(head) => head.forward(hidden),
            None => hidden.matmul(self.model.embed_tokens.weight.val().transpose()),
        }
    }
}

impl LlamaModel {
    fn forward(
        &self,
        tokens: Tensor<2, Int>,
        positions: Tensor<2, Int>,
        mask: Tensor<3, Bool>,
        mut cache: Option<&mut Cache>,
        each: &mut dyn FnMut(&Tensor<2>),
    ) -> Tensor<3> {
        let [batch, length] = tokens.dims();
        let heads = self.layers.first().expect("a model has at least one layer").self_attn.heads;
        let frame = Frame::new(positions, mask, heads, &self.rope_frequencies);
        // [batch * length, hidden]: flat, so that every product with a weight is one matrix product.
        let table = self.embed_tokens.weight.val();
        let mut x = table.select(0, tokens.reshape([batch * length]));
        each(&x);
        for (index, layer) in self.layers.iter().enumerate() {
            let cache = cache.as_deref_mut().map(|cache| (cache, index));
            let attended = layer.self_attn.forward(layer.input_layernorm.forward(x.clone()), &frame, cache);
            x = x + attended;
            x = x.clone() + layer.mlp.forward(layer.post_attention_layernorm.forward(x));
            each(&x);
        }
        let x = self.norm.forward(x);
        let width = x.dims()[1];
        x.reshape([batch, length, width])
    }
}

/// What all layers share in one forward pass.
struct Frame {
    batch: usize,
    length: usize,
    /// Cosines and signed sines for queries, scaled by 1 / sqrt(head size), and for keys; `[rows, heads * head size]`.
    query: (Tensor<2>, Tensor<2>),
    key: (Tensor<2>, Tensor<2>),
    /// Half the width of a head.
    half: usize,
    /// (1, 0): swaps the two halves of a head.
    swap: Tensor<1, Int>,
    /// 0 or [`MASKED`], `[batch, 1, group * length, cached + length]`.
    bias: Tensor<4>,
}

impl Frame {
    fn new(positions: Tensor<2, Int>, mask: Tensor<3, Bool>, heads: Heads, frequencies: &[f32]) -> Self {
        let [batch, length] = positions.dims();
        let [_, _, attended] = mask.dims();
        let device = positions.device();
        let half = heads.size / 2;
        let frequencies = Tensor::<2>::from_data(TensorData::new(frequencies.to_vec(), [1, half]), &device);
        // [rows, half]
        let angles = positions.float().reshape([batch * length, 1]) * frequencies;
        let (cos, sin) = (angles.clone().cos(), angles.sin());
        // x * cos + swapped x * sin, the sine negative for the first half of each head: rotate_half of transformers.
        let cos = Tensor::cat(vec![cos.clone(), cos], 1);
        let sin = Tensor::cat(vec![sin.clone().neg(), sin], 1);
        let scale = 1.0 / (heads.size as f64).sqrt();
        let tables = |count: usize, scale: f64| {
            let table = |table: &Tensor<2>| table.clone().mul_scalar(scale).repeat_dim(1, count);
            (table(&cos), table(&sin))
        };
        let bias = mask.bool_not().float().mul_scalar(MASKED);
        Self {
            batch,
            length,
            query: tables(heads.key_value * heads.group, scale),
            key: tables(heads.key_value, 1.0),
            half,
            swap: Tensor::from_data([1, 0], &device),
            bias: bias.reshape([batch, 1, length, attended]).repeat_dim(2, heads.group),
        }
    }
}

impl Frame {
    fn rotate(&self, x: Tensor<2>, (cos, sin): &(Tensor<2>, Tensor<2>)) -> Tensor<2> {
        let [rows, width] = x.dims();
        let swapped = x.clone().reshape([rows * width / (2 * self.half), 2, self.half]);
        let swapped = swapped.select(1, self.swap.clone()).reshape([rows, width]);
        x * cos.clone() + swapped * sin.clone()
    }
}

impl LlamaAttention {
    /// # Shapes
    ///
    /// - x: `[batch * length, hidden]`; the output has the same shape
    fn forward(&self, x: Tensor<2>, frame: &Frame, cache: Option<(&mut Cache, usize)>) -> Tensor<2> {
        let Heads { key_value, group, size } = self.heads;
        let (batch, length) = (frame.batch, frame.length);
        let queries = frame.rotate(self.q_proj.forward(x.clone()), &frame.query);
        let keys = frame.rotate(self.k_proj.forward(x.clone()), &frame.key);
        let values = self.v_proj.forward(x);

        // [batch, key-value heads, group * length, size]: query heads that share keys are rows of one product.
        let queries = queries
            .reshape([batch, length, key_value, group, size])
            .permute([0, 2, 3, 1, 4])
            .reshape([batch, key_value, group * length, size]);
        // [batch, key-value heads, length, size]
        let keys = keys.reshape([batch, length, key_value, size]).swap_dims(1, 2);
        let values = values.reshape([batch, length, key_value, size]).swap_dims(1, 2);
        let (keys, values) = match cache {
            Some((cache, layer)) => cache.append(layer, keys, values),
            None => (keys, values),
        };

        // [batch, key-value heads, group * length, cached + length]
        let scores = queries.matmul(keys.swap_dims(2, 3)) + frame.bias.clone();
        let attended = activation::softmax(scores, 3).matmul(values);
        let attended = attended
            .reshape([batch, key_value, group, length, size])
            .permute([0, 3, 1, 2, 4])
            .reshape([batch * length, key_value * group * size]);
        self.o_proj.forward(attended)
    }
}

impl LlamaMlp {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        let gate = activation::silu(self.gate_proj.forward(x.clone()));
        self.down_proj.forward(gate * self.up_proj.forward(x))
    }
}

/// Normal draws by the Box-Muller transform.
fn normal(shape: [usize; 2], deviation: f64, rng: &mut ChaCha8Rng) -> TensorData {
    let count = shape[0] * shape[1];
    let mut values = Vec::with_capacity(count + 1);
    while values.len() < count {
        // In (0, 1], so that the logarithm is finite.
        let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt() * deviation;
        let (sin, cos) = (std::f64::consts::TAU * rng.random::<f64>()).sin_cos();
        values.extend([(radius * cos) as f32, (radius * sin) as f32]);
    }
    values.truncate(count);
    TensorData::new(values, shape)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LanguageModel, fixture};

    fn random_tokens(shape: [usize; 2], vocab: i32) -> Tensor<2, Int> {
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let tokens: Vec<i32> = (0..shape[0] * shape[1]).map(|_| rng.random_range(2..vocab)).collect();
        Tensor::from_data(TensorData::new(tokens, shape), &fixture::device())
    }

    fn positions(batch: usize, places: std::ops::Range<i32>) -> Tensor<2, Int> {
        let places: Vec<i32> = places.collect();
        Tensor::<1, Int>::from_data(places.as_slice(), &fixture::device()).unsqueeze().repeat_dim(0, batch)
    }

    fn causal(batch: usize, new: usize, all: usize) -> Tensor<3, Bool> {
        let past = all - new;
        let mask: Vec<bool> = (0..new * all).map(|i| i % all <= past + i / all).collect();
        Tensor::<3, Bool>::from_data(TensorData::new(mask, [1, new, all]), &fixture::device())
            .repeat_dim(0, batch)
    }

    #[test]
    fn logits_are_those_of_transformers() {
        // fixtures/reference.py; both sides compute in f32 and round differently, hence not bit-equal.
        for name in ["tiny-llama", "tiny-llama3"] {
            fixture::assert_reference_logits(name, &fixture::loaded(name), 1e-5);
        }
    }

    #[test]
    fn parameters_are_counted_before_there_are_any() {
        let count = |name: &str| {
            let LanguageModel { model, config, .. } = fixture::loaded(name);
            (model.num_params(), config)
        };
        for name in ["tiny-llama", "tiny-llama3", "tiny-qwen2"] {
            let (found, config) = count(name);
            assert_eq!(config.parameters(), Some(found), "{name}");
        }
        let huge = LlamaConfig { num_hidden_layers: usize::MAX / 2, ..fixture::config() };
        assert_eq!(huge.parameters(), None);
    }

    #[test]
    fn cached_and_full_sequence_agree() {
        let model = fixture::llama(3);
        let tokens = random_tokens([2, 9], 30);
        let full = model.hidden(tokens.clone(), positions(2, 0..9), causal(2, 9, 9));
        let mut cache = model.cache(9);
        let mut parts = Vec::new();
        for (start, end) in [(0, 5), (5, 6), (6, 9)] {
            let new = tokens.clone().narrow(1, start, end - start);
            let places = positions(2, start as i32..end as i32);
            parts.push(model.extend(new, places, causal(2, end - start, end), &mut cache));
        }
        assert_eq!(cache.len(), 9);
        let difference = (full - Tensor::cat(parts, 1)).abs().max().into_scalar::<f32>();
        assert!(difference < 1e-4, "{difference}");
    }

    #[test]
    fn hidden_states_end_in_the_normed_state_and_feel_every_layer() {
        let model = fixture::llama(3);
        let arguments = || (random_tokens([1, 4], 30), positions(1, 0..4), causal(1, 4, 4));
        let (tokens, places, mask) = arguments();
        let states = model.hidden_states(tokens, places, mask);
        let (tokens, places, mask) = arguments();
        let last = model.hidden(tokens, places, mask);
        assert_eq!(states.len(), 3);
        assert_eq!(states[2].to_data(), last.to_data());
        assert_ne!(states[0].to_data(), states[1].to_data());
    }

    #[test]
    fn what_the_mask_hides_does_not_matter() {
        let model = fixture::llama(3);
        let tokens = random_tokens([1, 6], 30);
        let changed = tokens.clone().slice_assign([0..1, 2..3], Tensor::from_data([[5]], &fixture::device()));
        let mask = causal(1, 6, 6).slice_fill([0..1, 0..6, 2..3], false).slice_fill([0..1, 2..3, 2..3], true);
        let one = model.hidden(tokens, positions(1, 0..6), mask.clone());
        let two = model.hidden(changed, positions(1, 0..6), mask);
        let keep = |hidden: Tensor<3>| hidden.narrow(1, 3, 3).to_data();
        assert_eq!(keep(one), keep(two));
    }

    #[test]
    fn the_seed_decides_the_weights() {
        let table = |seed| fixture::llama(seed).model.embed_tokens.weight.val().to_data();
        assert_eq!(table(1), table(1));
        assert_ne!(table(1), table(2));
        let values: Vec<f64> = table(1).iter::<f64>().collect();
        let deviation = (values.iter().map(|value| value * value).sum::<f64>() / values.len() as f64).sqrt();
        assert!((deviation - 0.02).abs() < 0.002, "{deviation}");
    }

    #[test]
    fn what_cannot_be_computed_is_named() {
        let mut config = fixture::config();
        assert_eq!(config.problems(), vec![]);
        config.num_key_value_heads = 3;
        config.vocab_size = 0;
        let fields: Vec<_> = config.problems().into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["vocab_size", "num_key_value_heads"]);
    }
}
