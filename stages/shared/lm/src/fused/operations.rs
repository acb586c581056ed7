//! The operations as burn sees them: forward on flex, and what each keeps for its way back.

use std::{fmt::Debug, marker::PhantomData, sync::Arc};

use burn::{
    backend::{
        Autodiff, Backend, Flex, TensorMetadata,
        autodiff::{
            checkpoint::{base::Checkpointer, strategy::CheckpointStrategy},
            grads::Gradients,
            ops::{Backward, Ops, OpsKind},
        },
        backend_extension,
        flex::FlexTensor,
        ops::FloatTensorOps,
        tensor::FloatTensor,
    },
    tensor::TensorData,
};

use super::{Mask, Rows, kernels};

/// Logits that exist at once where none are kept for the backward pass: so few that the allocator keeps their memory.
const FLEETING_LOGITS: usize = 1 << 22;

/// The operations as a backend offers them.
#[backend_extension(Flex, Autodiff)]
pub(super) trait Fused: Backend {
    fn adapted(
        x: FloatTensor<Self>,
        weight: FloatTensor<Self>,
        lora_a: FloatTensor<Self>,
        lora_b: FloatTensor<Self>,
        scale: f32,
    ) -> FloatTensor<Self>;
    fn rms_norm(x: FloatTensor<Self>, gamma: FloatTensor<Self>, epsilon: f32) -> FloatTensor<Self>;
    fn gated(gate: FloatTensor<Self>, up: FloatTensor<Self>) -> FloatTensor<Self>;
    fn split_turned(
        x: FloatTensor<Self>,
        cos: FloatTensor<Self>,
        sin: FloatTensor<Self>,
        rows: Arc<Rows>,
        heads: usize,
        scale: f32,
    ) -> FloatTensor<Self>;
    fn split(x: FloatTensor<Self>, rows: Arc<Rows>, heads: usize) -> FloatTensor<Self>;
    fn merge(x: FloatTensor<Self>, rows: Arc<Rows>) -> FloatTensor<Self>;
    fn masked_softmax(scores: FloatTensor<Self>, mask: Arc<Mask>) -> FloatTensor<Self>;
    fn log_softmax_rows(logits: FloatTensor<Self>) -> FloatTensor<Self>;
    fn cross_entropy(
        states: FloatTensor<Self>,
        table: FloatTensor<Self>,
        targets: Arc<[u32]>,
        at_once: usize,
    ) -> FloatTensor<Self>;
}

/// The numbers of a contiguous tensor.
pub(super) fn values(x: &FlexTensor) -> &[f32] {
    x.as_slice().expect("the tensor was made contiguous")
}

/// A tensor whose storage is its numbers and nothing else; copied only where somebody else holds it.
pub(super) fn owned(x: FlexTensor) -> FlexTensor {
    FlexTensor::from_data(x.into_data())
}

pub(super) fn tensor<const D: usize>(values: Vec<f32>, shape: [usize; D]) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, shape))
}

/// New numbers in the shape of another tensor.
pub(super) fn flat(values: Vec<f32>, like: &FlexTensor) -> FlexTensor {
    FlexTensor::from_data(TensorData::new(values, like.shape()))
}

fn sizes<const D: usize>(x: &FlexTensor) -> [usize; D] {
    x.shape().dims()
}

/// What an operation keeps for its backward pass.
trait Kept<const N: usize>: Clone + Debug + Send + 'static {
    /// From the gradient of the output to those of the inputs; those not wanted may be left out.
    fn gradients(self, gradient: FlexTensor, wanted: [bool; N]) -> [Option<FlexTensor>; N];
}

#[derive(Debug)]
struct Step<K>(PhantomData<K>);

impl<K: Kept<N>, const N: usize> Backward<Flex, N> for Step<K> {
    type State = K;

    fn backward(self, ops: Ops<K, N>, gradients: &mut Gradients, _: &mut Checkpointer) {
        let gradient = gradients.consume::<Flex>(&ops.node);
        let wanted = ops.parents.each_ref().map(Option::is_some);
        let found = ops.state.gradients(gradient, wanted);
        for (parent, found) in ops.parents.into_iter().zip(found) {
            if let (Some(parent), Some(found)) = (parent, found) {
                gradients.register::<Flex>(parent.id, found);
            }
        }
    }
}

type Tracked<C> = FloatTensor<Autodiff<Flex, C>>;

/// Computes an operation and records how to go back.
fn record<K: Kept<N>, C: CheckpointStrategy, const N: usize>(
    inputs: [Tracked<C>; N],
    forward: impl FnOnce([FlexTensor; N]) -> (FlexTensor, K),
) -> Tracked<C> {
    let nodes = inputs.each_ref().map(|input| input.node());
    let (output, kept) = forward(inputs.map(|input| input.into_primitive()));
    match Step(PhantomData).prepare::<C>(nodes).compute_bound().stateful() {
        OpsKind::Tracked(prep) => prep.finish(kept, output),
        OpsKind::UnTracked(prep) => prep.finish(output),
    }
}

#[derive(Clone, Debug)]
struct Adapted {
    x: FlexTensor,
    weight: FlexTensor,
    lora_a: FlexTensor,
    lora_b: FlexTensor,
    scale: f32,
    /// `scale x A`
    narrow: FlexTensor,
}

impl Adapted {
    fn forward(
        x: FlexTensor,
        weight: FlexTensor,
        lora_a: FlexTensor,
        lora_b: FlexTensor,
        scale: f32,
    ) -> (FlexTensor, Self) {
        let mut out = Flex::float_matmul(x.clone(), weight.clone());
        let narrow = Flex::float_mul_scalar(Flex::float_matmul(x.clone(), lora_a.clone()), scale.into());
        add_product(&mut out, &narrow, lora_b.clone());
        (out, Self { x, weight, lora_a, lora_b, scale, narrow })
    }
}

impl Kept<4> for Adapted {
    fn gradients(self, gradient: FlexTensor, wanted: [bool; 4]) -> [Option<FlexTensor>; 4] {
        let transposed = |x: &FlexTensor| Flex::float_transpose(x.clone());
        let [of_x, of_weight, of_a, of_b] = wanted;
        let narrow = Flex::float_matmul(gradient.clone(), transposed(&self.lora_b));
        let narrow = Flex::float_mul_scalar(narrow, self.scale.into());
        let of_x = of_x.then(|| {
            let mut out = Flex::float_matmul(gradient.clone(), transposed(&self.weight));
            add_product(&mut out, &narrow, transposed(&self.lora_a));
            out
        });
        [
            of_x,
            of_weight.then(|| Flex::float_matmul(transposed(&self.x), gradient.clone())),
            of_a.then(|| Flex::float_matmul(transposed(&self.x), narrow)),
            of_b.then(|| Flex::float_matmul(transposed(&self.narrow), gradient)),
        ]
    }
}

/// Adds `x matrix` to the result of a product.
fn add_product(out: &mut FlexTensor, x: &FlexTensor, matrix: FlexTensor) {
    let [_, numbers] = sizes(x);
    kernels::add_product(out.storage_mut(), values(x), values(&matrix.to_contiguous()), numbers);
}

#[derive(Clone, Debug)]
struct Norm {
    x: FlexTensor,
    gamma: FlexTensor,
    epsilon: f32,
}

impl Norm {
    fn forward(x: FlexTensor, gamma: FlexTensor, epsilon: f32) -> (FlexTensor, Self) {
        let (x, gamma) = (x.to_contiguous(), gamma.to_contiguous());
        let out = flat(kernels::rms_norm(values(&x), values(&gamma), epsilon), &x);
        (out, Self { x, gamma, epsilon })
    }
}

impl Kept<2> for Norm {
    fn gradients(self, gradient: FlexTensor, _: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let mut gradient = owned(gradient);
        let of_gamma = kernels::rms_norm_backward(
            gradient.storage_mut(),
            values(&self.x),
            values(&self.gamma),
            self.epsilon,
        );
        [Some(gradient), Some(flat(of_gamma, &self.gamma))]
    }
}

#[derive(Clone, Debug)]
struct Gated {
    gate: FlexTensor,
    up: FlexTensor,
}

impl Gated {
    fn forward(gate: FlexTensor, up: FlexTensor) -> (FlexTensor, Self) {
        let (gate, up) = (gate.to_contiguous(), up.to_contiguous());
        (flat(kernels::gated(values(&gate), values(&up)), &gate), Self { gate, up })
    }
}

impl Kept<2> for Gated {
    fn gradients(self, gradient: FlexTensor, _: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let mut gradient = owned(gradient);
        let of_gate = kernels::gated_backward(gradient.storage_mut(), values(&self.gate), values(&self.up));
        [Some(flat(of_gate, &self.gate)), Some(gradient)]
    }
}

/// [`split`] and [`split_turned`].
#[derive(Clone, Debug)]
struct Split {
    rows: Arc<Rows>,
    heads: usize,
    size: usize,
    turn: Option<(FlexTensor, FlexTensor, f32)>,
}

impl Split {
    fn turn(&self) -> Option<kernels::Turn<'_>> {
        let (cos, sin, scale) = self.turn.as_ref()?;
        Some(kernels::Turn { cos: values(cos), sin: values(sin), scale: *scale })
    }

    fn forward(
        x: FlexTensor,
        turn: Option<(FlexTensor, FlexTensor, f32)>,
        rows: Arc<Rows>,
        heads: usize,
    ) -> (FlexTensor, Self) {
        let x = x.to_contiguous();
        let [_, width] = sizes(&x);
        let turn = turn.map(|(cos, sin, scale)| (cos.to_contiguous(), sin.to_contiguous(), scale));
        let kept = Self { rows, heads, size: width / heads, turn };
        let Self { rows, size, .. } = &kept;
        let out = kernels::split(values(&x), rows, heads, *size, kept.turn());
        (tensor(out, [rows.batch, heads, rows.length, *size]), kept)
    }

    fn backward(&self, gradient: &FlexTensor) -> FlexTensor {
        let gradient = gradient.to_contiguous();
        let Self { rows, heads, size, .. } = self;
        let out = kernels::split_backward(values(&gradient), rows, *heads, *size, self.turn());
        let tokens = out.len() / (heads * size);
        tensor(out, [tokens, heads * size])
    }
}

impl Kept<1> for Split {
    fn gradients(self, gradient: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        [Some(self.backward(&gradient))]
    }
}

#[derive(Clone, Debug)]
struct Merge {
    rows: Arc<Rows>,
    heads: usize,
    size: usize,
}

impl Merge {
    fn forward(x: &FlexTensor, rows: Arc<Rows>) -> (FlexTensor, Self) {
        let x = x.to_contiguous();
        let [_, heads, _, size] = sizes(&x);
        let out = kernels::merge(values(&x), &rows, heads, size);
        let tokens = out.len() / (heads * size);
        (tensor(out, [tokens, heads * size]), Self { rows, heads, size })
    }
}

impl Kept<1> for Merge {
    fn gradients(self, gradient: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let Self { rows, heads, size } = self;
        let out = kernels::merge_backward(values(&gradient.to_contiguous()), &rows, heads, size);
        [Some(tensor(out, [rows.batch, heads, rows.length, size]))]
    }
}

#[derive(Clone, Debug)]
struct Attend {
    probabilities: FlexTensor,
    mask: Arc<Mask>,
}

impl Attend {
    fn forward(scores: FlexTensor, mask: Arc<Mask>) -> (FlexTensor, Self) {
        let mut scores = owned(scores);
        let [_, heads, queries, keys] = sizes(&scores);
        kernels::masked_softmax(scores.storage_mut(), &mask.spans, heads, queries, keys);
        (scores.clone(), Self { probabilities: scores, mask })
    }
}

impl Kept<1> for Attend {
    fn gradients(self, gradient: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let mut gradient = owned(gradient);
        let [_, heads, queries, keys] = sizes(&gradient);
        let probabilities = values(&self.probabilities);
        kernels::masked_softmax_backward(
            gradient.storage_mut(),
            probabilities,
            &self.mask.spans,
            heads,
            queries,
            keys,
        );
        [Some(gradient)]
    }
}

#[derive(Clone, Debug)]
struct LogSoftmax {
    log_probs: FlexTensor,
}

impl LogSoftmax {
    fn forward(logits: FlexTensor) -> (FlexTensor, Self) {
        let mut logits = owned(logits);
        let [_, width] = sizes(&logits);
        kernels::log_softmax(logits.storage_mut(), width);
        (logits.clone(), Self { log_probs: logits })
    }
}

impl Kept<1> for LogSoftmax {
    fn gradients(self, gradient: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let mut gradient = owned(gradient);
        let [_, width] = sizes(&gradient);
        kernels::log_softmax_backward(gradient.storage_mut(), values(&self.log_probs), width);
        [Some(gradient)]
    }
}

#[derive(Clone, Debug)]
struct CrossEntropy {
    states: FlexTensor,
    table: FlexTensor,
    targets: Arc<[u32]>,
    /// Rows whose logits are computed at once.
    rows: usize,
    /// What the states predict, where all of it was computed at once.
    probabilities: Option<FlexTensor>,
}

impl CrossEntropy {
    fn new(states: &FlexTensor, table: FlexTensor, targets: Arc<[u32]>, at_once: usize) -> Self {
        let [vocabulary, _] = sizes(&table);
        let rows = (at_once / vocabulary).max(1);
        Self { states: states.to_contiguous(), table, targets, rows, probabilities: None }
    }

    fn forward(mut self) -> (FlexTensor, Self) {
        let mut losses = Vec::with_capacity(self.targets.len());
        for start in self.starts() {
            let (_, probabilities, part) = self.predict(start);
            losses.extend(part);
            if self.rows >= self.targets.len() {
                self.probabilities = Some(probabilities);
            }
        }
        let rows = losses.len();
        (tensor(losses, [rows]), self)
    }

    /// Where the table gets no gradient: that of the states is what remains to be scaled, and no logits are kept.
    fn forward_frozen(self) -> (FlexTensor, Frozen) {
        let mut losses = Vec::with_capacity(self.targets.len());
        let mut of_states = Vec::new();
        for start in self.starts() {
            let (_, probabilities, part) = self.predict(start);
            let of_logits = self.of_logits(start, probabilities, &vec![1.0; part.len()]);
            of_states.push(Flex::float_matmul(of_logits, self.table.clone()));
            losses.extend(part);
        }
        let rows = losses.len();
        (tensor(losses, [rows]), Frozen { of_states: Flex::float_cat(of_states, 0) })
    }

    fn starts(&self) -> impl Iterator<Item = usize> + use<> {
        (0..self.targets.len()).step_by(self.rows)
    }

    /// The states from a row on, as many as are computed at once; what they predict, and how little it is the targets.
    fn predict(&self, start: usize) -> (FlexTensor, FlexTensor, Vec<f32>) {
        let rows = self.rows.min(self.targets.len() - start);
        let states = self.states.narrow(0, start, rows);
        let mut logits = Flex::float_matmul(states.clone(), Flex::float_transpose(self.table.clone()));
        let [_, vocabulary] = sizes(&logits);
        let losses = kernels::losses(logits.storage_mut(), &self.targets[start..start + rows], vocabulary);
        (states, logits, losses)
    }

    /// The gradient of the logits from a row on, from what they predict and the gradients of their losses.
    fn of_logits(&self, start: usize, probabilities: FlexTensor, of_losses: &[f32]) -> FlexTensor {
        let mut of_logits = owned(probabilities);
        let [rows, vocabulary] = sizes(&of_logits);
        let targets = &self.targets[start..start + rows];
        kernels::losses_backward(of_logits.storage_mut(), targets, of_losses, vocabulary);
        of_logits
    }
}

impl Kept<2> for CrossEntropy {
    fn gradients(mut self, gradient: FlexTensor, wanted: [bool; 2]) -> [Option<FlexTensor>; 2] {
        let gradient = gradient.to_contiguous();
        let (mut of_states, mut of_table): (Vec<FlexTensor>, Option<FlexTensor>) = (Vec::new(), None);
        for start in self.starts() {
            let (states, probabilities) = match self.probabilities.take() {
                Some(probabilities) => (self.states.clone(), probabilities),
                None => {
                    let (states, probabilities, _) = self.predict(start);
                    (states, probabilities)
                }
            };
            let [rows, _] = sizes(&states);
            let of_logits = self.of_logits(start, probabilities, &values(&gradient)[start..start + rows]);
            if wanted[0] {
                of_states.push(Flex::float_matmul(of_logits.clone(), self.table.clone()));
            }
            if wanted[1] {
                let part = Flex::float_matmul(Flex::float_transpose(of_logits), states);
                of_table = Some(match of_table {
                    Some(sum) => Flex::float_add(sum, part),
                    None => part,
                });
            }
        }
        [wanted[0].then(|| Flex::float_cat(of_states, 0)), of_table]
    }
}

#[derive(Clone, Debug)]
struct Frozen {
    /// The gradient of each loss.
    of_states: FlexTensor,
}

impl Kept<1> for Frozen {
    fn gradients(self, gradient: FlexTensor, _: [bool; 1]) -> [Option<FlexTensor>; 1] {
        let [rows] = sizes(&gradient);
        [Some(Flex::float_mul(self.of_states, gradient.reshape([rows, 1].into())))]
    }
}

impl Fused for Flex {
    fn adapted(
        x: FlexTensor,
        weight: FlexTensor,
        lora_a: FlexTensor,
        lora_b: FlexTensor,
        scale: f32,
    ) -> FlexTensor {
        Adapted::forward(x, weight, lora_a, lora_b, scale).0
    }

    fn rms_norm(x: FlexTensor, gamma: FlexTensor, epsilon: f32) -> FlexTensor {
        Norm::forward(x, gamma, epsilon).0
    }

    fn gated(gate: FlexTensor, up: FlexTensor) -> FlexTensor {
        Gated::forward(gate, up).0
    }

    fn split_turned(
        x: FlexTensor,
        cos: FlexTensor,
        sin: FlexTensor,
        rows: Arc<Rows>,
        heads: usize,
        scale: f32,
    ) -> FlexTensor {
        Split::forward(x, Some((cos, sin, scale)), rows, heads).0
    }

    fn split(x: FlexTensor, rows: Arc<Rows>, heads: usize) -> FlexTensor {
        Split::forward(x, None, rows, heads).0
    }

    fn merge(x: FlexTensor, rows: Arc<Rows>) -> FlexTensor {
        Merge::forward(&x, rows).0
    }

    fn masked_softmax(scores: FlexTensor, mask: Arc<Mask>) -> FlexTensor {
        Attend::forward(scores, mask).0
    }

    fn log_softmax_rows(logits: FlexTensor) -> FlexTensor {
        LogSoftmax::forward(logits).0
    }

    fn cross_entropy(
        states: FlexTensor,
        table: FlexTensor,
        targets: Arc<[u32]>,
        at_once: usize,
    ) -> FlexTensor {
        CrossEntropy::new(&states, table, targets, at_once).forward().0
    }
}

impl<C: CheckpointStrategy> Fused for Autodiff<Flex, C> {
    fn adapted(
        x: Tracked<C>,
        weight: Tracked<C>,
        lora_a: Tracked<C>,
        lora_b: Tracked<C>,
        scale: f32,
    ) -> Tracked<C> {
        record::<_, C, 4>([x, weight, lora_a, lora_b], |[x, weight, lora_a, lora_b]| {
            Adapted::forward(x, weight, lora_a, lora_b, scale)
        })
    }

    fn rms_norm(x: Tracked<C>, gamma: Tracked<C>, epsilon: f32) -> Tracked<C> {
        record::<_, C, 2>([x, gamma], |[x, gamma]| Norm::forward(x, gamma, epsilon))
    }

    fn gated(gate: Tracked<C>, up: Tracked<C>) -> Tracked<C> {
        record::<_, C, 2>([gate, up], |[gate, up]| Gated::forward(gate, up))
    }

    fn split_turned(
        x: Tracked<C>,
        cos: Tracked<C>,
        sin: Tracked<C>,
        rows: Arc<Rows>,
        heads: usize,
        scale: f32,
    ) -> Tracked<C> {
        let turn = (cos.into_primitive(), sin.into_primitive(), scale);
        record::<_, C, 1>([x], |[x]| Split::forward(x, Some(turn), rows, heads))
    }

    fn split(x: Tracked<C>, rows: Arc<Rows>, heads: usize) -> Tracked<C> {
        record::<_, C, 1>([x], |[x]| Split::forward(x, None, rows, heads))
    }

    fn merge(x: Tracked<C>, rows: Arc<Rows>) -> Tracked<C> {
        record::<_, C, 1>([x], |[x]| Merge::forward(&x, rows))
    }

    fn masked_softmax(scores: Tracked<C>, mask: Arc<Mask>) -> Tracked<C> {
        record::<_, C, 1>([scores], |[scores]| Attend::forward(scores, mask))
    }

    fn log_softmax_rows(logits: Tracked<C>) -> Tracked<C> {
        record::<_, C, 1>([logits], |[logits]| LogSoftmax::forward(logits))
    }

    fn cross_entropy(
        states: Tracked<C>,
        table: Tracked<C>,
        targets: Arc<[u32]>,
        at_once: usize,
    ) -> Tracked<C> {
        if !table.is_tracked() && states.is_tracked() {
            let table = table.into_primitive();
            return record::<_, C, 1>([states], |[states]| {
                CrossEntropy::new(&states, table, targets, at_once.min(FLEETING_LOGITS)).forward_frozen()
            });
        }
        record::<_, C, 2>([states, table], |[states, table]| {
            CrossEntropy::new(&states, table, targets, at_once).forward()
        })
    }
}
