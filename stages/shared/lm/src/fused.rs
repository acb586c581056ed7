//! Operations that a transformer repeats and burn composes of many small ones: each in one pass over its memory, forward
//! and backward, where tensors are 32-bit floats on flex, and composed as usual elsewhere.
//!
//! flex computes element by element on one core and calls the C library for every exponential, which takes over a third
//! of a training step of a small model; and what burn composes keeps every intermediate for the backward pass. [`kernels`]
//! holds the loops, [`operations`] makes burn differentiate through them, [`rows`] is what they know of layouts.

use std::sync::Arc;

use burn::{
    backend::{Dispatch, Flex, flex::FlexTensor},
    tensor::{DType, Tensor, TensorData, activation, module::linear},
};

use crate::device::is_flex;

mod kernels;
pub(crate) use kernels::AdamW;

mod operations;
use operations::{Fused, flat, owned, tensor, values};

mod rows;
pub(crate) use rows::Rows;
pub use rows::{Mask, Span};

/// Numbers of logits that exist at once on flex; more rows are computed in turn, and again in the backward pass.
const LOGITS_AT_ONCE: usize = 1 << 25;

/// Numbers of logits in one tensor elsewhere, where all of them are kept for the backward pass: a buffer of wgpu's takes 2 GiB.
const LOGITS_IN_A_TENSOR: usize = 1 << 28;

/// Whether a tensor is one the kernels compute on.
fn on_flex<const D: usize>(x: &Tensor<D>) -> bool {
    x.dtype() == DType::F32 && is_flex(x.device())
}

/// The tensor in at least 32 bits: sums over many values are kept in no fewer.
fn wide<const D: usize>(x: Tensor<D>) -> Tensor<D> {
    match x.dtype() {
        DType::BF16 | DType::F16 => x.cast(DType::F32),
        _ => x,
    }
}

/// Rows for which a product takes as long as reading the weight once; a general product rearranges it first.
const FEW_ROWS: usize = 4;

/// The tensor where nobody asks for its gradient.
fn untracked(x: &Tensor<2>) -> Option<FlexTensor> {
    x.clone().try_into_primitive::<Flex>().ok()
}

/// `x weight`, where a weight that is read for a few rows alone is read in order and by all cores.
///
/// # Shapes
///
/// - x: `[rows, input]`
/// - weight: `[input, output]`
pub(crate) fn product(x: Tensor<2>, weight: Tensor<2>) -> Tensor<2> {
    let [rows, inputs] = x.dims();
    if rows <= FEW_ROWS
        && on_flex(&x)
        && on_flex(&weight)
        && let (Some(x), Some(weight)) = (untracked(&x), untracked(&weight))
        && let Some(matrix) = weight.as_slice()
    {
        let out = kernels::few_rows(values(&x.to_contiguous()), matrix, inputs);
        let outputs = out.len() / rows;
        return Tensor::from_primitive::<Flex>(tensor(out, [rows, outputs]));
    }
    linear(x, weight, None)
}

/// `x weight + scale (x A) B`: Eq. 3, LoRA: Low-Rank Adaptation of Large Language Models, arXiv 2106.09685.
///
/// # Shapes
///
/// - x: `[rows, input]`
/// - weight: `[input, output]`
/// - lora_a: `[input, r]`
/// - lora_b: `[r, output]`
/// - output: `[rows, output]`
pub(crate) fn adapted(
    x: Tensor<2>,
    weight: Tensor<2>,
    [lora_a, lora_b]: [Tensor<2>; 2],
    scale: f64,
) -> Tensor<2> {
    if x.dims()[0] > FEW_ROWS && on_flex(&x) {
        return Tensor::from_dispatch(Dispatch::adapted(
            x.into_dispatch(),
            weight.into_dispatch(),
            lora_a.into_dispatch(),
            lora_b.into_dispatch(),
            scale as f32,
        ));
    }
    product(x.clone(), weight) + x.matmul(lora_a).mul_scalar(scale).matmul(lora_b)
}

/// `x table^T`; as [`product`] for a single row.
///
/// # Shapes
///
/// - x: `[rows, input]`
/// - table: `[output, input]`
pub(crate) fn scores(x: Tensor<2>, table: Tensor<2>) -> Tensor<2> {
    if x.dims()[0] == 1
        && on_flex(&x)
        && on_flex(&table)
        && let (Some(x), Some(table)) = (untracked(&x), untracked(&table))
        && let Some(table) = table.as_slice()
    {
        let out = kernels::dots(values(&x.to_contiguous()), table);
        let outputs = out.len();
        return Tensor::from_primitive::<Flex>(tensor(out, [1, outputs]));
    }
    x.matmul(table.transpose())
}

/// `x / sqrt(mean(x^2) + epsilon) * gamma`, row by row.
pub(crate) fn rms_norm(x: Tensor<2>, gamma: Tensor<1>, epsilon: f64) -> Tensor<2> {
    if on_flex(&x) {
        let out = Dispatch::rms_norm(x.into_dispatch(), gamma.into_dispatch(), epsilon as f32);
        return Tensor::from_dispatch(out);
    }
    let dtype = x.dtype();
    let root = (wide(x.clone()).square().mean_dim(1) + epsilon).sqrt();
    (x / root.cast(dtype)) * gamma.unsqueeze()
}

/// `silu(gate) * up`
pub(crate) fn gated(gate: Tensor<2>, up: Tensor<2>) -> Tensor<2> {
    if on_flex(&gate) {
        return Tensor::from_dispatch(Dispatch::gated(gate.into_dispatch(), up.into_dispatch()));
    }
    activation::silu(gate) * up
}

/// Rotary positions of the tokens of a flat list.
#[derive(Debug)]
pub(crate) struct Rotation {
    /// `[tokens, half a head]`
    pub(crate) cos: Tensor<2>,
    pub(crate) sin: Tensor<2>,
}

/// Puts the heads of tokens into rows, turned by their positions and multiplied by `scale`.
///
/// # Shapes
///
/// - x: `[tokens, heads * size]`
/// - output: `[batch, heads, length, size]`
pub(crate) fn split_turned(
    x: Tensor<2>,
    rotation: &Rotation,
    rows: &Arc<Rows>,
    heads: usize,
    scale: f64,
) -> Tensor<4> {
    let Rotation { cos, sin } = rotation;
    if on_flex(&x) {
        return Tensor::from_dispatch(Dispatch::split_turned(
            x.into_dispatch(),
            cos.clone().into_dispatch(),
            sin.clone().into_dispatch(),
            Arc::clone(rows),
            heads,
            scale as f32,
        ));
    }
    let [tokens, width] = x.dims();
    let half = width / heads / 2;
    let dtype = x.dtype();
    let table = |table: &Tensor<2>| table.clone().mul_scalar(scale).cast(dtype).unsqueeze_dim::<3>(1);
    let (cos, sin) = (table(cos), table(sin));
    let x = x.reshape([tokens, heads, 2 * half]);
    let (low, high) = (x.clone().narrow(2, 0, half), x.narrow(2, half, half));
    let turned =
        Tensor::cat(vec![low.clone() * cos.clone() - high.clone() * sin.clone(), high * cos + low * sin], 2);
    split(turned.reshape([tokens, width]), rows, heads)
}

/// [`split_turned`] without turning.
pub(crate) fn split(x: Tensor<2>, rows: &Arc<Rows>, heads: usize) -> Tensor<4> {
    if on_flex(&x) {
        return Tensor::from_dispatch(Dispatch::split(x.into_dispatch(), Arc::clone(rows), heads));
    }
    let [_, width] = x.dims();
    let [tokens, _] = rows.index(&x.device());
    let x = x.select(0, tokens.clone()).reshape([rows.batch, rows.length, heads, width / heads]);
    x.swap_dims(1, 2)
}

/// Takes the tokens back out of their rows, in the order of the rows.
///
/// # Shapes
///
/// - x: `[batch, heads, length, size]`
/// - output: `[tokens in the rows, heads * size]`
pub(crate) fn merge(x: Tensor<4>, rows: &Arc<Rows>) -> Tensor<2> {
    let [batch, heads, length, size] = x.dims();
    if on_flex(&x) {
        return Tensor::from_dispatch(Dispatch::merge(x.into_dispatch(), Arc::clone(rows)));
    }
    let [_, filled] = rows.index(&x.device());
    x.swap_dims(1, 2).reshape([batch * length, heads * size]).select(0, filled.clone())
}

/// Softmax over the keys that each query sees; zero for the others.
///
/// # Shapes
///
/// - scores and output: `[batch, heads, queries, keys]`
pub(crate) fn masked_softmax(scores: Tensor<4>, mask: &Arc<Mask>) -> Tensor<4> {
    if on_flex(&scores) {
        return Tensor::from_dispatch(Dispatch::masked_softmax(scores.into_dispatch(), Arc::clone(mask)));
    }
    let dtype = scores.dtype();
    let scores = wide(scores);
    let bias = mask.bias(&scores.device()).cast(scores.dtype());
    activation::softmax(scores + bias, 3).cast(dtype)
}

/// Log-probabilities of each row of logits, in at least 32 bits.
pub(crate) fn log_softmax(logits: Tensor<2>) -> Tensor<2> {
    if on_flex(&logits) {
        return Tensor::from_dispatch(Dispatch::log_softmax_rows(logits.into_dispatch()));
    }
    activation::log_softmax(wide(logits), 1)
}

/// How little each state expects its target: the cross-entropy of `softmax(states table^T)`, in nats.
///
/// On flex only [`LOGITS_AT_ONCE`] exist at a time; elsewhere all of them, in tensors of [`LOGITS_IN_A_TENSOR`]. The output has at
/// least 32 bits.
///
/// # Shapes
///
/// - states: `[rows, hidden_size]`
/// - table: `[vocab_size, hidden_size]`
/// - output: `[rows]`
pub(crate) fn cross_entropy(states: Tensor<2>, table: Tensor<2>, targets: &Arc<[u32]>) -> Tensor<1> {
    let at_once = if on_flex(&states) { LOGITS_AT_ONCE } else { LOGITS_IN_A_TENSOR };
    cross_entropy_at_once(states, table, targets, at_once)
}

fn cross_entropy_at_once(
    states: Tensor<2>,
    table: Tensor<2>,
    targets: &Arc<[u32]>,
    at_once: usize,
) -> Tensor<1> {
    if on_flex(&states) && !targets.is_empty() {
        return Tensor::from_dispatch(Dispatch::cross_entropy(
            states.into_dispatch(),
            table.into_dispatch(),
            Arc::clone(targets),
            at_once,
        ));
    }
    let [vocab_size, _] = table.dims();
    let rows_at_once = (at_once / vocab_size).max(1);
    let table = table.transpose();
    let part = |states: Tensor<2>, targets: &[u32]| {
        let rows = targets.len();
        let targets: Vec<i32> = targets.iter().map(|target| target.cast_signed()).collect();
        let targets = Tensor::from_data(TensorData::new(targets, [rows, 1]), &states.device());
        let logits = wide(states.matmul(table.clone()));
        activation::log_softmax(logits, 1).gather(1, targets).neg().reshape([rows])
    };
    if targets.len() <= rows_at_once {
        return part(states, targets);
    }
    let parts = targets
        .chunks(rows_at_once)
        .enumerate()
        .map(|(place, targets)| part(states.clone().narrow(0, place * rows_at_once, targets.len()), targets));
    Tensor::cat(parts.collect(), 0)
}

/// One step of AdamW on a weight outside autodiff: the new weight, and both moments.
pub(crate) fn adamw(
    weight: Tensor<1>,
    gradient: Tensor<1>,
    (first, second): (Tensor<1>, Tensor<1>),
    step: AdamW,
) -> (Tensor<1>, (Tensor<1>, Tensor<1>)) {
    if on_flex(&weight) {
        let flex =
            |x: Tensor<1>| x.try_into_primitive::<Flex>().expect("the optimizer works outside autodiff");
        let (weight, gradient) = (flex(weight).to_contiguous(), flex(gradient).to_contiguous());
        let (mut first, mut second) = (owned(flex(first)), owned(flex(second)));
        let (m, v) = (first.storage_mut(), second.storage_mut());
        let weight = flat(kernels::adamw(values(&weight), values(&gradient), m, v, step), &weight);
        let tensor = Tensor::from_primitive::<Flex>;
        return (tensor(weight), (tensor(first), tensor(second)));
    }
    let AdamW { beta_1, beta_2, epsilon, rate, decay, scale } = step;
    let gradient = gradient.mul_scalar(scale);
    let first = first.mul_scalar(beta_1) + gradient.clone().mul_scalar(1.0 - beta_1);
    let second = second.mul_scalar(beta_2) + gradient.square().mul_scalar(1.0 - beta_2);
    let change = first.clone() / second.clone().sqrt().add_scalar(epsilon);
    (weight.mul_scalar(decay) - change.mul_scalar(rate), (first, second))
}

/// The sum of the squares of a tensor outside autodiff.
pub(crate) fn squares(x: Tensor<1>) -> f64 {
    if on_flex(&x) {
        let x = x.try_into_primitive::<Flex>().expect("gradients are outside autodiff");
        return kernels::squares(values(&x.to_contiguous()));
    }
    x.cast(DType::F32).square().sum().into_scalar::<f32>().into()
}

#[cfg(test)]
mod tests;
