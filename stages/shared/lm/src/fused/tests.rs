//! Each operation against what burn composes, which computes here in 64-bit floats; values and gradients.

use rand::{Rng, SeedableRng, rngs::SmallRng};

use super::*;
use crate::fixture;

/// Values around zero, as a leaf of autodiff.
fn leaf<const D: usize>(shape: [usize; D], seed: u64, dtype: DType) -> Tensor<D> {
    let mut rng = SmallRng::seed_from_u64(seed);
    let count = shape.iter().product();
    let values: Vec<f32> = (0..count).map(|_| rng.random_range(-3.0..3.0)).collect();
    let device = fixture::device().autodiff();
    let data = TensorData::new(values, shape).convert_dtype(dtype);
    Tensor::from_data(data, (&device, dtype)).require_grad()
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
    tensor.into_data().iter::<f64>().collect()
}

/// An operation's value and gradients for two inputs, the output weighed so that no gradient is one.
fn of<const A: usize, const B: usize, const D: usize>(
    shapes: ([usize; A], [usize; B]),
    dtype: DType,
    operation: &impl Fn(Tensor<A>, Tensor<B>) -> Tensor<D>,
) -> [Vec<f64>; 3] {
    let (left, right) = (leaf(shapes.0, 1, dtype), leaf(shapes.1, 2, dtype));
    let out = operation(left.clone(), right.clone());
    let weights = leaf(out.dims(), 3, dtype).detach();
    let gradients = (out.clone() * weights).sum().backward();
    let gradient = |tensor: Option<Tensor<1>>| tensor.map(numbers).unwrap_or_default();
    [
        numbers(out),
        gradient(left.grad(&gradients).map(|gradient| gradient.reshape([-1]))),
        gradient(right.grad(&gradients).map(|gradient| gradient.reshape([-1]))),
    ]
}

fn assert_composed<const A: usize, const B: usize, const D: usize>(
    shapes: ([usize; A], [usize; B]),
    operation: impl Fn(Tensor<A>, Tensor<B>) -> Tensor<D>,
) {
    let (fused, composed) = (of(shapes, DType::F32, &operation), of(shapes, DType::F64, &operation));
    for (found, expected) in fused.iter().zip(&composed) {
        // Sums of many rows cancel: relative to the largest value of each.
        let largest = expected.iter().fold(1f64, |largest, value| largest.max(value.abs()));
        let scaled = |values: &[f64]| values.iter().map(|value| value / largest).collect::<Vec<_>>();
        fixture::assert_close(&scaled(found), &scaled(expected), 2e-6);
    }
    assert!(composed[1].iter().any(|value| *value != 0.0), "there is a gradient");
}

/// Three texts: one alone, and two that go on from it.
fn rows() -> [Arc<Rows>; 2] {
    let queries = Rows::new([3..7, 7..9], 9);
    let keys = Rows::new([(0..3).chain(3..7), (0..3).chain(7..9)], 9);
    [queries, keys].map(Arc::new)
}

fn mask() -> Arc<Mask> {
    let span = |place: usize, own: usize| Span {
        prefix: 3,
        from: 3,
        to: 3 + if place < own { place + 1 } else { 1 },
    };
    let spans = (0..4).map(|place| span(place, 4)).chain((0..4).map(|place| span(place, 2)));
    Arc::new(Mask::new(2, 7, spans.collect()))
}

#[test]
fn norms_and_gates_are_what_burn_composes() {
    // More than one chunk of rows, and rows that do not fill the lanes.
    for (rows, width) in [(1, 1), (5, 24), (700, 37)] {
        assert_composed(([rows, width], [width]), |x, gamma| rms_norm(x, gamma, 1e-5));
        assert_composed(([rows, width], [rows, width]), gated);
    }
}

#[test]
fn adapted_products_are_what_burn_composes() {
    for (rows, r) in [(2, 3), (40, 16), (700, 5)] {
        let (x, weight, lora_a, lora_b) = ([rows, 24], [24, 37], [24, r], [r, 37]);
        let other = |shape, like: &Tensor<2>| leaf(shape, 7, like.dtype()).detach();
        assert_composed((x, weight), |x, weight| {
            let factors = [other(lora_a, &x), other(lora_b, &x)];
            adapted(x, weight, factors, 0.7)
        });
        assert_composed((lora_a, lora_b), |lora_a, lora_b| {
            let (x, weight) = (other(x, &lora_a), other(weight, &lora_a));
            adapted(x, weight, [lora_a, lora_b], 0.7)
        });
    }
}

#[test]
fn heads_are_split_turned_and_merged_as_burn_composes_them() {
    let [queries, keys] = rows();
    let rotation = |x: &Tensor<2>| {
        let angles: Vec<f32> = (0..9 * 2).map(|at| at as f32 * 0.3).collect();
        let angles = Tensor::<2>::from_data(TensorData::new(angles, [9, 2]), &fixture::device());
        Rotation { cos: angles.clone().cos().cast(x.dtype()), sin: angles.sin().cast(x.dtype()) }
    };
    // What stands in padding is nobody's: it is weighed with zero by taking the tokens back out.
    for rows in [&queries, &keys] {
        assert_composed(([9, 12], [1]), |x, _| {
            let rotation = rotation(&x);
            merge(split_turned(x, &rotation, rows, 3, 0.7), rows)
        });
        assert_composed(([9, 12], [1]), |x, _| merge(split(x, rows, 3), rows));
    }
    let [batch, length] = [queries.batch, queries.length];
    assert_composed(([batch, 3, length, 4], [1]), |x, _| merge(x, &queries));
}

#[test]
fn attention_weights_are_what_burn_composes() {
    assert_composed(([2, 3, 4, 7], [1]), |scores, _| masked_softmax(scores, &mask()));
    let weights = masked_softmax(Tensor::ones([2, 1, 4, 7], &fixture::device()), &mask());
    let first = numbers(weights.narrow(0, 0, 1).narrow(2, 0, 1));
    assert_eq!(first, [0.25, 0.25, 0.25, 0.25, 0.0, 0.0, 0.0]);
}

#[test]
fn log_probabilities_are_what_burn_composes() {
    for (rows, width) in [(1, 2), (40, 700)] {
        assert_composed(([rows, width], [1]), |logits, _| log_softmax(logits));
    }
}

#[test]
fn losses_are_what_burn_composes_however_many_logits_fit() {
    let targets: Arc<[u32]> = vec![0, 49, 7, 7, 30, 1, 2].into();
    for at_once in [LOGITS_AT_ONCE, 50 * 7, 50 * 3, 50, 1] {
        assert_composed(([7, 8], [50, 8]), |states, table| {
            cross_entropy_at_once(states, table, &targets, at_once)
        });
    }
    // A frozen table gets no gradient, and takes none from the states.
    for at_once in [LOGITS_AT_ONCE, 50 * 3] {
        assert_composed(([7, 8], [50, 8]), |states, table| {
            cross_entropy_at_once(states, table.detach(), &targets, at_once)
        });
    }
}

#[test]
fn a_step_of_the_optimizer_is_what_burn_composes() {
    let step = AdamW { beta_1: 0.9, beta_2: 0.999, epsilon: 1e-8, rate: 1e-2, decay: 0.99, scale: 0.5 };
    let after = |dtype: DType| {
        let plain = |seed| leaf([40_000], seed, dtype).inner();
        let (weight, (first, second)) = adamw(plain(1), plain(2), (plain(3), plain(4).square()), step);
        [weight, first, second].map(numbers)
    };
    for (found, expected) in after(DType::F32).iter().zip(after(DType::F64)) {
        fixture::assert_close(found, &expected, 1e-6);
    }
    let sum = |dtype: DType| squares(leaf([40_000], 5, dtype).inner());
    fixture::assert_close(&[sum(DType::F32)], &[sum(DType::F64)], 1e-6);
}

#[test]
fn products_of_a_few_rows_are_what_burn_composes() {
    for (rows, inputs, outputs) in [(1, 1, 3), (1, 37, 50), (3, 100, 33), (4, 8, 2)] {
        let of = |dtype: DType| {
            let (x, weight) =
                (leaf([rows, inputs], 1, dtype).inner(), leaf([inputs, outputs], 2, dtype).inner());
            let table = leaf([outputs, inputs], 3, dtype).inner();
            [product(x.clone(), weight), scores(x.narrow(0, 0, 1), table)].map(numbers)
        };
        for (found, expected) in of(DType::F32).iter().zip(of(DType::F64)) {
            fixture::assert_close(found, &expected, 2e-5);
        }
    }
}

#[test]
fn a_mask_of_booleans_is_the_same_mask() {
    let sees = [[true, false, true, true, false], [true, true, true, false, false]];
    let mask = Mask::from(Tensor::from_data([sees], &fixture::device()));
    assert_eq!(mask.spans, [Span { prefix: 1, from: 2, to: 4 }, Span { prefix: 3, from: 5, to: 5 }]);
    let bias = mask.bias(&fixture::device()).into_data();
    let open: Vec<bool> = bias.iter::<f32>().map(|bias| bias == 0.0).collect();
    assert_eq!(open, sees.concat());
}

#[test]
#[should_panic(expected = "a beginning and one more run")]
fn a_mask_with_more_runs_is_refused() {
    let _ = Mask::from(Tensor::from_data([[[true, false, true, false, true]]], &fixture::device()));
}
