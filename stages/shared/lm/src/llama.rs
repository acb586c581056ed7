//! The Llama architecture (SmolLM2 is one), top to bottom. Qwen2 is the same block with biases on q, k and v.
//!
//! Fields carry the names of the Hugging Face checkpoint. There is one set of weights and one attention code with two
//! entry points: [`Llama::states`] over whole sequences, and [`Llama::extend`] over a key-value cache.
//!
//! Positions and layout are always given by the caller: tokens are a flat list, and a [`Layout`] says what attends to what. No function here builds
//! logits for positions nobody asked for: hidden states are gathered first and projected by [`Llama::logits`].

use std::sync::Arc;

use burn::{
    module::{Module, Param, ParamId},
    nn::{Embedding, RmsNorm},
    tensor::{Device, Int, Tensor, TensorData},
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{
    fused::{self, Mask, Rotation},
    layout::{Block, Layout},
    lora::{Linear, TargetModule},
    rope::{self, Llama3Scaling},
};

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
            let empty = || Tensor::zeros([batch, heads, self.capacity, size], (&keys.device(), keys.dtype()));
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

    /// The states the vocabulary projection reads: after the last block and the final norm, of tokens in a rectangle.
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
        mask: impl Into<Mask>,
    ) -> Tensor<3> {
        let [batch, length] = tokens.dims();
        let layout = Layout::rectangle(&host(positions), mask.into());
        self.states(tokens.reshape([batch * length]), &layout).reshape([batch as i32, length as i32, -1])
    }

    /// The embeddings, then the states after each block, the last one after the final norm: `num_hidden_layers + 1`
    /// tensors, as transformers' `hidden_states`. Shapes as in [`Llama::hidden`].
    pub fn hidden_states(
        &self,
        tokens: Tensor<2, Int>,
        positions: Tensor<2, Int>,
        mask: impl Into<Mask>,
    ) -> Vec<Tensor<3>> {
        let [batch, length] = tokens.dims();
        let layout = Layout::rectangle(&host(positions), mask.into());
        let shaped = |states: Tensor<2>| states.reshape([batch as i32, length as i32, -1]);
        let mut states = Vec::new();
        let tokens = tokens.reshape([batch * length]);
        let last = self.model.forward(tokens, &layout, None, &mut |state| states.push(shaped(state.clone())));
        *states.last_mut().expect("the embeddings are always reported") = shaped(last);
        states
    }

    /// Like [`Llama::hidden`] for a flat list of tokens that attend to each other as the layout says.
    ///
    /// # Shapes
    ///
    /// - tokens: `[tokens]`
    /// - output: `[tokens, hidden_size]`
    pub fn states(&self, tokens: Tensor<1, Int>, layout: &Layout) -> Tensor<2> {
        self.model.forward(tokens, layout, None, &mut |_| {})
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
        positions: &[i32],
        mask: impl Into<Mask>,
        cache: &mut Cache,
    ) -> Tensor<3> {
        let [batch, new] = tokens.dims();
        assert!(cache.length + new <= cache.capacity, "the cache holds {} tokens", cache.capacity);
        let layout = Layout::rectangle(positions, mask.into());
        let tokens = tokens.reshape([batch * new]);
        let states = self.model.forward(tokens, &layout, Some(cache), &mut |_| {});
        cache.length += new;
        states.reshape([batch as i32, new as i32, -1])
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
            None => fused::scores(hidden, self.model.embed_tokens.weight.val()),
        }
    }

    /// The cross-entropy of the targets after gathered hidden states, in nats; never more logits at once than fit.
    ///
    /// # Shapes
    ///
    /// - hidden: `[rows, hidden_size]`
    /// - targets and output: `[rows]`
    pub fn losses(&self, hidden: Tensor<2>, targets: &Arc<[u32]>) -> Tensor<1> {
        let table = match &self.lm_head {
            Some(head) => head.weight.val().transpose(),
            None => self.model.embed_tokens.weight.val(),
        };
        fused::cross_entropy(hidden, table, targets)
    }
}

fn host(positions: Tensor<2, Int>) -> Vec<i32> {
    positions.into_data().iter::<i32>().collect()
}

impl LlamaModel {
    fn forward(
        &self,
        tokens: Tensor<1, Int>,
        layout: &Layout,
        mut cache: Option<&mut Cache>,
        each: &mut dyn FnMut(&Tensor<2>),
    ) -> Tensor<2> {
        let table = self.embed_tokens.weight.val();
        let rotation = self.rotation(layout, &table.device());
        // [tokens, hidden]: flat, so that every product with a weight is one matrix product, and nothing is padding.
        let mut x = table.select(0, tokens);
        each(&x);
        for (index, layer) in self.layers.iter().enumerate() {
            let cache = cache.as_deref_mut().map(|cache| (cache, index));
            x = layer.forward(x, layout, &rotation, cache);
            each(&x);
        }
        norm(&self.norm, x)
    }

    fn rotation(&self, layout: &Layout, device: &Device) -> Rotation {
        let frequencies = &self.rope_frequencies;
        let angles = layout.positions.iter().flat_map(|place| frequencies.iter().map(|f| *place as f32 * f));
        let (cos, sin): (Vec<f32>, Vec<f32>) = angles.map(|angle| (angle.cos(), angle.sin())).unzip();
        let shape = [layout.positions.len(), frequencies.len()];
        let table = |values: Vec<f32>| Tensor::from_data(TensorData::new(values, shape), device);
        Rotation { cos: table(cos), sin: table(sin) }
    }
}

fn norm(norm: &RmsNorm, x: Tensor<2>) -> Tensor<2> {
    fused::rms_norm(x, norm.gamma.val(), norm.epsilon)
}

impl LlamaLayer {
    /// # Shapes
    ///
    /// - x and output: `[tokens, hidden]`
    fn forward(
        &self,
        x: Tensor<2>,
        layout: &Layout,
        rotation: &Rotation,
        cache: Option<(&mut Cache, usize)>,
    ) -> Tensor<2> {
        let attended =
            self.self_attn.forward(norm(&self.input_layernorm, x.clone()), layout, rotation, cache);
        let x = x + attended;
        x.clone() + self.mlp.forward(norm(&self.post_attention_layernorm, x))
    }
}

impl LlamaAttention {
    fn forward(
        &self,
        x: Tensor<2>,
        layout: &Layout,
        rotation: &Rotation,
        mut cache: Option<(&mut Cache, usize)>,
    ) -> Tensor<2> {
        let Heads { key_value, group, size } = self.heads;
        let (heads, scale) = (key_value * group, 1.0 / (size as f64).sqrt());
        let all_queries = self.q_proj.forward(x.clone());
        let all_keys = self.k_proj.forward(x.clone());
        let all_values = self.v_proj.forward(x);
        let attend = |block: &Block| {
            // [batch, heads, queries, size]
            let queries = fused::split_turned(all_queries.clone(), rotation, &block.queries, heads, scale);
            // [batch, key-value heads, keys, size]
            let keys = fused::split_turned(all_keys.clone(), rotation, &block.keys, key_value, 1.0);
            let values = fused::split(all_values.clone(), &block.keys, key_value);
            let (keys, values) = match &mut cache {
                Some((cache, layer)) => cache.append(*layer, keys, values),
                None => (keys, values),
            };
            fused::merge(self.heads.attend(queries, keys, values, &block.mask), &block.queries)
        };
        let mut attended: Vec<Tensor<2>> = layout.blocks.iter().map(attend).collect();
        let attended = match attended.len() {
            1 => attended.remove(0),
            _ => Tensor::cat(attended, 0),
        };
        self.o_proj.forward(attended)
    }
}

impl Heads {
    /// Eq. 1, Attention Is All You Need, arXiv 1706.03762, with query heads that share keys: arXiv 2305.13245.
    ///
    /// Most keys that no query nearby sees are left out.
    ///
    /// # Shapes
    ///
    /// - queries and output: `[batch, heads, queries, size]`, scaled
    /// - keys and values: `[batch, key-value heads, keys, size]`
    fn attend(self, queries: Tensor<4>, keys: Tensor<4>, values: Tensor<4>, mask: &Arc<Mask>) -> Tensor<4> {
        let parts = mask.parts();
        if parts.is_empty() {
            return self.attend_to_all(queries, keys, values, mask);
        }
        let attended = parts.iter().map(|part| {
            let queries = queries.clone().narrow(2, part.queries.start, part.queries.len());
            self.attend_to_all(queries, part.of(&keys), part.of(&values), &part.mask)
        });
        Tensor::cat(attended.collect(), 2)
    }

    /// [`Heads::attend`] at every key, masked or not.
    fn attend_to_all(
        self,
        queries: Tensor<4>,
        keys: Tensor<4>,
        values: Tensor<4>,
        mask: &Arc<Mask>,
    ) -> Tensor<4> {
        let Self { key_value, group, size } = self;
        let ([batch, heads, length, _], attended) = (queries.dims(), keys.dims()[2]);
        // Query heads that share keys are rows of one product.
        let queries = queries.reshape([batch, key_value, group * length, size]);
        let scores = queries.matmul(keys.swap_dims(2, 3)).reshape([batch, heads, length, attended]);
        let weights = fused::masked_softmax(scores, mask);
        let values = weights.reshape([batch, key_value, group * length, attended]).matmul(values);
        values.reshape([batch, heads, length, size])
    }
}

impl LlamaMlp {
    fn forward(&self, x: Tensor<2>) -> Tensor<2> {
        self.down_proj.forward(fused::gated(self.gate_proj.forward(x.clone()), self.up_proj.forward(x)))
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
    use burn::tensor::Bool;

    use super::*;
    use crate::{LanguageModel, fixture, fused::Span};

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

    /// What a row sees that holds a prompt and its continuations.
    fn tree(prompt: usize, continuations: &[usize]) -> Vec<Span> {
        let mut spans: Vec<Span> =
            (0..prompt).map(|place| Span { prefix: 0, from: 0, to: place + 1 }).collect();
        for length in continuations {
            let from = spans.len();
            spans.extend((from..from + length).map(|place| Span { prefix: prompt, from, to: place + 1 }));
        }
        spans
    }

    #[test]
    fn attention_in_parts_is_attention() {
        let heads = Heads { key_value: 2, group: 3, size: 4 };
        let device = fixture::device().autodiff();
        let causal = |past: usize, new: usize| {
            (past..past + new).map(|place| Span { prefix: 0, from: 0, to: place + 1 }).collect::<Vec<_>>()
        };
        // A long text; the end of one whose beginning is cached; a question with six rationales; two with theirs, in rows.
        let rows = [
            (1, 300, causal(0, 300)),
            (1, 400, causal(100, 300)),
            (1, 405, tree(25, &[50, 60, 70, 40, 20, 140])),
            (2, 200, [tree(20, &[60, 60, 60]), tree(40, &[50, 110])].concat()),
        ];
        for (batch, keys, spans) in rows {
            let mask = Arc::new(Mask::new(batch, keys, spans));
            let queries = mask.queries;
            let parts = mask.parts();
            assert!(parts.len() > 2, "{parts:?}");
            assert_eq!(
                parts.iter().flat_map(|part| part.queries.clone()).collect::<Vec<_>>(),
                (0..queries).collect::<Vec<_>>()
            );
            let of = |attend: &dyn Fn(Tensor<4>, Tensor<4>, Tensor<4>) -> Tensor<4>| {
                let leaf = |seed: u64, shape: [usize; 4]| {
                    let mut rng = ChaCha8Rng::seed_from_u64(seed);
                    let numbers: Vec<f32> =
                        (0..shape.iter().product()).map(|_| rng.random_range(-2.0..2.0)).collect();
                    Tensor::<4>::from_data(TensorData::new(numbers, shape), &device).require_grad()
                };
                let [q, k, v] = [
                    leaf(1, [batch, 6, queries, 4]),
                    leaf(2, [batch, 2, keys, 4]),
                    leaf(3, [batch, 2, keys, 4]),
                ];
                let out = attend(q.clone(), k.clone(), v.clone());
                let gradients = (out.clone() * leaf(4, [batch, 6, queries, 4])).sum().backward();
                [
                    out.inner(),
                    q.grad(&gradients).expect("it is in the loss"),
                    k.grad(&gradients).expect("it is in the loss"),
                    v.grad(&gradients).expect("it is in the loss"),
                ]
                .map(|x| x.into_data().iter::<f64>().collect::<Vec<f64>>())
            };
            let found = of(&|q, k, v| heads.attend(q, k, v, &mask));
            let expected = of(&|q, k, v| heads.attend_to_all(q, k, v, &mask));
            for (found, expected) in found.iter().zip(&expected) {
                fixture::assert_close(found, expected, 2e-5);
            }
        }
        // Nothing is gained here.
        assert!(Mask::causal(4, 60).parts().is_empty());
        assert!(Mask::new(1, 400, causal(399, 1)).parts().is_empty());
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
            let places = host(positions(2, start as i32..end as i32));
            parts.push(model.extend(new, &places, causal(2, end - start, end), &mut cache));
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
