//! The loops themselves, over slices of rows.
//!
//! Work is cut into chunks of whole rows whose number does not depend on the number of threads, and what is summed over
//! rows is summed chunk by chunk in order: the result is the same on one core and on many. A multiplication and an addition
//! are never fused, so it is also the same with and without such instructions.

use rayon::prelude::*;

use super::{Rows, Span};

/// Elements a thread takes at once; less is not worth waking another.
const CHUNK: usize = 1 << 14;

/// Partial sums that a processor adds side by side.
const LANES: usize = 16;

/// Compiles a loop for the widest vectors this processor has.
fn simd<R>(work: impl FnOnce() -> R) -> R {
    pulp::Arch::new().dispatch(work)
}

/// Runs `work` on chunks of rows of `out`, with the number of the first row of each.
fn by_rows(out: &mut [f32], width: usize, work: impl Fn(usize, &mut [f32]) + Sync) {
    let rows = rows_at_once(width);
    if out.len() <= CHUNK {
        return simd(|| work(0, out));
    }
    let chunks = out.par_chunks_mut(rows * width).enumerate();
    chunks.for_each(|(chunk, out)| simd(|| work(chunk * rows, out)));
}

fn rows_at_once(width: usize) -> usize {
    (CHUNK / width.max(1)).max(1)
}

/// `e^x` for x up to 88, within two units in the last place; what is below -87 gives `e^-87`.
#[inline(always)]
fn exp(x: f32) -> f32 {
    // x = n ln 2 + r with |r| <= ln 2 / 2; adding 1.5 * 2^23 rounds to an integer and leaves it in the lowest bits.
    const ROUND: f32 = 12_582_912.0;
    const LN_2_HIGH: f32 = 0.693_359_4;
    const LN_2_LOW: f32 = -2.121_944_4e-4;
    let x = if x < -87.0 { -87.0 } else { x };
    let x = if x > 88.0 { 88.0 } else { x };
    let shifted = x * std::f32::consts::LOG2_E + ROUND;
    let n = shifted - ROUND;
    let r = x - n * LN_2_HIGH - n * LN_2_LOW;
    // The polynomial of Cephes' `expf`.
    let mut p = 1.987_569_2e-4;
    p = p * r + 1.398_199_9e-3;
    p = p * r + 8.333_452e-3;
    p = p * r + 4.166_579_6e-2;
    p = p * r + 1.666_666_5e-1;
    p = p * r + 5e-1;
    let p = p * r * r + r + 1.0;
    p * f32::from_bits((shifted.to_bits() << 23).wrapping_add(0x3f80_0000))
}

#[inline(always)]
fn sigmoid(x: f32) -> f32 {
    1.0 / (1.0 + exp(-x))
}

#[inline(always)]
fn dot(left: &[f32], right: &[f32]) -> f32 {
    let mut lanes = [0f32; LANES];
    let (lefts, left_rest) = left.as_chunks::<LANES>();
    let (rights, right_rest) = right.as_chunks::<LANES>();
    for (left, right) in lefts.iter().zip(rights) {
        for lane in 0..LANES {
            lanes[lane] += left[lane] * right[lane];
        }
    }
    let rest: f32 = left_rest.iter().zip(right_rest).map(|(left, right)| left * right).sum();
    lanes.iter().sum::<f32>() + rest
}

#[inline(always)]
fn maximum(row: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] = if chunk[lane] > lanes[lane] { chunk[lane] } else { lanes[lane] };
        }
    }
    lanes.iter().chain(rest).fold(f32::NEG_INFINITY, |most, value| if *value > most { *value } else { most })
}

/// Replaces each value by `e^(value - shift)` and returns their sum.
#[inline(always)]
fn exp_in_place(row: &mut [f32], shift: f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let (chunks, rest) = row.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            chunk[lane] = exp(chunk[lane] - shift);
            lanes[lane] += chunk[lane];
        }
    }
    let mut sum = lanes.iter().sum::<f32>();
    for value in rest {
        *value = exp(*value - shift);
        sum += *value;
    }
    sum
}

#[inline(always)]
fn scale(row: &mut [f32], factor: f32) {
    for value in row {
        *value *= factor;
    }
}

#[inline(always)]
fn inverse_root(row: &[f32], epsilon: f32) -> f32 {
    1.0 / (dot(row, row) / row.len() as f32 + epsilon).sqrt()
}

/// A few rows times a matrix `[inputs, outputs]`, which is read once and in order.
pub(super) fn few_rows(x: &[f32], matrix: &[f32], inputs: usize) -> Vec<f32> {
    /// Parts of the matrix that are summed apart.
    const PARTS: usize = 4;
    const AT_ONCE: usize = 4;
    let (outputs, rows) = (matrix.len() / inputs, x.len() / inputs);
    let take = inputs.div_ceil(PARTS).next_multiple_of(AT_ONCE);
    let part = |first: usize| {
        let mut sums = vec![0f32; rows * outputs];
        let end = (first + take).min(inputs);
        for start in (first..end).step_by(AT_ONCE) {
            let count = AT_ONCE.min(end - start);
            let lines = &matrix[start * outputs..][..count * outputs];
            for (sums, x) in sums.chunks_exact_mut(outputs).zip(x.chunks_exact(inputs)) {
                add_lines(sums, lines, &x[start..start + count]);
            }
        }
        sums
    };
    let starts: Vec<usize> = (0..inputs).step_by(take).collect();
    let parts: Vec<Vec<f32>> = starts.into_par_iter().map(|first| simd(|| part(first))).collect();
    let add = |mut sums: Vec<f32>, part: Vec<f32>| {
        sums.iter_mut().zip(part).for_each(|(sum, part)| *sum += part);
        sums
    };
    parts.into_iter().reduce(add).unwrap_or_default()
}

/// Adds lines of a matrix, each times its factor.
#[inline(always)]
fn add_lines(sums: &mut [f32], lines: &[f32], factors: &[f32]) {
    let width = sums.len();
    if let [a, b, c, d] = *factors {
        let (first, second) = lines.split_at(2 * width);
        let ((la, lb), (lc, ld)) = (first.split_at(width), second.split_at(width));
        for ((sum, (x, y)), (z, w)) in sums.iter_mut().zip(la.iter().zip(lb)).zip(lc.iter().zip(ld)) {
            *sum += (a * x + b * y) + (c * z + d * w);
        }
        return;
    }
    for (line, factor) in lines.chunks_exact(width).zip(factors) {
        for (sum, value) in sums.iter_mut().zip(line) {
            *sum += factor * value;
        }
    }
}

/// Adds to each row of `out` the few numbers of a row of `x` times a matrix `[numbers, width]`.
pub(super) fn add_product(out: &mut [f32], x: &[f32], matrix: &[f32], numbers: usize) {
    const AT_ONCE: usize = 4;
    let width = matrix.len() / numbers;
    by_rows(out, width, |first, out| {
        for (out, x) in out.chunks_exact_mut(width).zip(x[first * numbers..].chunks_exact(numbers)) {
            for (x, lines) in x.chunks(AT_ONCE).zip(matrix.chunks(AT_ONCE * width)) {
                add_lines(out, lines, x);
            }
        }
    });
}

/// One row times the transpose of a table `[rows, inputs]`.
pub(super) fn dots(x: &[f32], table: &[f32]) -> Vec<f32> {
    let inputs = x.len();
    let mut out = vec![0f32; table.len() / inputs];
    let rows = rows_at_once(inputs);
    let chunk = |out: &mut [f32], table: &[f32]| {
        for (out, row) in out.iter_mut().zip(table.chunks_exact(inputs)) {
            *out = dot(x, row);
        }
    };
    out.par_chunks_mut(rows)
        .zip(table.par_chunks(rows * inputs))
        .for_each(|(out, table)| simd(|| chunk(out, table)));
    out
}

pub(super) fn rms_norm(x: &[f32], gamma: &[f32], epsilon: f32) -> Vec<f32> {
    let width = gamma.len();
    let mut out = vec![0f32; x.len()];
    by_rows(&mut out, width, |first, out| {
        for (out, x) in out.chunks_exact_mut(width).zip(x[first * width..].chunks_exact(width)) {
            let inverse = inverse_root(x, epsilon);
            for ((out, x), gamma) in out.iter_mut().zip(x).zip(gamma) {
                *out = x * inverse * gamma;
            }
        }
    });
    out
}

/// Turns the gradient of the output into that of x, and returns that of gamma.
pub(super) fn rms_norm_backward(gradient: &mut [f32], x: &[f32], gamma: &[f32], epsilon: f32) -> Vec<f32> {
    let width = gamma.len();
    let rows = rows_at_once(width);
    let chunk = |gradient: &mut [f32], x: &[f32]| {
        let mut of_gamma = vec![0f32; width];
        for (gradient, x) in gradient.chunks_exact_mut(width).zip(x.chunks_exact(width)) {
            let inverse = inverse_root(x, epsilon);
            for (((of_gamma, gradient), x), gamma) in
                of_gamma.iter_mut().zip(gradient.iter_mut()).zip(x).zip(gamma)
            {
                *of_gamma += *gradient * x * inverse;
                *gradient *= gamma;
            }
            let along = dot(gradient, x) * inverse * inverse / width as f32;
            for (gradient, x) in gradient.iter_mut().zip(x) {
                *gradient = (*gradient - x * along) * inverse;
            }
        }
        of_gamma
    };
    let parts: Vec<Vec<f32>> = gradient
        .par_chunks_mut(rows * width)
        .zip(x.par_chunks(rows * width))
        .map(|(gradient, x)| simd(|| chunk(gradient, x)))
        .collect();
    let mut of_gamma = vec![0f32; width];
    for part in parts {
        for (sum, part) in of_gamma.iter_mut().zip(part) {
            *sum += part;
        }
    }
    of_gamma
}

/// `silu(gate) * up`
pub(super) fn gated(gate: &[f32], up: &[f32]) -> Vec<f32> {
    let mut out = vec![0f32; gate.len()];
    by_rows(&mut out, 1, |first, out| {
        for ((out, gate), up) in out.iter_mut().zip(&gate[first..]).zip(&up[first..]) {
            *out = gate * sigmoid(*gate) * up;
        }
    });
    out
}

/// Turns the gradient of the output into that of `up`, and returns that of `gate`.
pub(super) fn gated_backward(gradient: &mut [f32], gate: &[f32], up: &[f32]) -> Vec<f32> {
    let mut of_gate = vec![0f32; gate.len()];
    let chunk = |of_gate: &mut [f32], gradient: &mut [f32], gate: &[f32], up: &[f32]| {
        for (((of_gate, gradient), gate), up) in of_gate.iter_mut().zip(gradient).zip(gate).zip(up) {
            let open = sigmoid(*gate);
            *of_gate = *gradient * up * open * (1.0 + gate * (1.0 - open));
            *gradient *= gate * open;
        }
    };
    of_gate
        .par_chunks_mut(CHUNK)
        .zip(gradient.par_chunks_mut(CHUNK))
        .zip(gate.par_chunks(CHUNK).zip(up.par_chunks(CHUNK)))
        .for_each(|((of_gate, gradient), (gate, up))| simd(|| chunk(of_gate, gradient, gate, up)));
    of_gate
}

/// Cosines and sines by token, half a head wide, and the factor on what was rotated.
#[derive(Clone, Copy)]
pub(super) struct Turn<'a> {
    pub(super) cos: &'a [f32],
    pub(super) sin: &'a [f32],
    pub(super) scale: f32,
}

/// Turns one head of one token, forth or (`sign` -1) back.
#[inline(always)]
fn rotate(out: &mut [f32], head: &[f32], token: usize, turn: Turn, sign: f32) {
    let half = out.len() / 2;
    let (cos, sin) = (&turn.cos[token * half..][..half], &turn.sin[token * half..][..half]);
    let (out_low, out_high) = out.split_at_mut(half);
    let (low, high) = head.split_at(half);
    for pair in 0..half {
        let (cos, sin) = (cos[pair] * turn.scale, sin[pair] * turn.scale * sign);
        out_low[pair] = low[pair] * cos - high[pair] * sin;
        out_high[pair] = high[pair] * cos + low[pair] * sin;
    }
}

/// `[tokens, heads * size]` to `[batch, heads, length, size]`; padding is zero.
pub(super) fn split(x: &[f32], rows: &Rows, heads: usize, size: usize, turn: Option<Turn>) -> Vec<f32> {
    let width = heads * size;
    let mut out = vec![0f32; rows.places() * width];
    // A row of `out` is one head of one text.
    by_rows(&mut out, rows.length * size, |first, out| {
        for (row, out) in out.chunks_exact_mut(rows.length * size).enumerate() {
            let (text, head) = ((first + row) / heads, (first + row) % heads);
            for (out, token) in out.chunks_exact_mut(size).zip(rows.tokens_of(text)) {
                if let Some(token) = token {
                    let from = &x[token * width + head * size..][..size];
                    match turn {
                        Some(turn) => rotate(out, from, token, turn, 1.0),
                        None => out.copy_from_slice(from),
                    }
                }
            }
        }
    });
    out
}

/// The gradient of what [`split`] read: a token may have gone to several places.
pub(super) fn split_backward(
    gradient: &[f32],
    rows: &Rows,
    heads: usize,
    size: usize,
    turn: Option<Turn>,
) -> Vec<f32> {
    let width = heads * size;
    let mut out = vec![0f32; rows.tokens() * width];
    by_rows(&mut out, width, |first, out| {
        let mut sum = vec![0f32; size];
        for (row, out) in out.chunks_exact_mut(width).enumerate() {
            let token = first + row;
            for (head, out) in out.chunks_exact_mut(size).enumerate() {
                for (turn_of, place) in rows.places_of(token).iter().enumerate() {
                    let (text, at) = (*place as usize / rows.length, *place as usize % rows.length);
                    let from = &gradient[((text * heads + head) * rows.length + at) * size..][..size];
                    let sum = if turn.is_some() { &mut sum[..] } else { &mut out[..] };
                    if turn_of == 0 {
                        sum.copy_from_slice(from);
                    } else {
                        for (sum, from) in sum.iter_mut().zip(from) {
                            *sum += from;
                        }
                    }
                }
                if let (Some(turn), false) = (turn, rows.places_of(token).is_empty()) {
                    rotate(out, &sum, token, turn, -1.0);
                }
            }
        }
    });
    out
}

/// `[batch, heads, length, size]` to `[tokens that have a place, heads * size]`.
pub(super) fn merge(x: &[f32], rows: &Rows, heads: usize, size: usize) -> Vec<f32> {
    let width = heads * size;
    let mut out = vec![0f32; rows.filled.len() * width];
    by_rows(&mut out, width, |first, out| {
        for (row, out) in out.chunks_exact_mut(width).enumerate() {
            let place = rows.filled[first + row] as usize;
            let (text, at) = (place / rows.length, place % rows.length);
            for (head, out) in out.chunks_exact_mut(size).enumerate() {
                out.copy_from_slice(&x[((text * heads + head) * rows.length + at) * size..][..size]);
            }
        }
    });
    out
}

/// The gradient of what [`merge`] read.
pub(super) fn merge_backward(gradient: &[f32], rows: &Rows, heads: usize, size: usize) -> Vec<f32> {
    let width = heads * size;
    let mut out = vec![0f32; rows.places() * width];
    by_rows(&mut out, rows.length * size, |first, out| {
        for (row, out) in out.chunks_exact_mut(rows.length * size).enumerate() {
            let (text, head) = ((first + row) / heads, (first + row) % heads);
            let filled = rows.filled_of(text);
            for (at, out) in out.chunks_exact_mut(size).enumerate().take(filled.len()) {
                out.copy_from_slice(&gradient[(filled.start + at) * width + head * size..][..size]);
            }
        }
    });
    out
}

/// Softmax over what each query may see, in place; zero elsewhere.
///
/// `scores` is `[batch, heads, queries, keys]`, `spans` `[batch, queries]`.
pub(super) fn masked_softmax(scores: &mut [f32], spans: &[Span], heads: usize, queries: usize, keys: usize) {
    by_rows(scores, queries * keys, |first, scores| {
        for (matrix, scores) in scores.chunks_exact_mut(queries * keys).enumerate() {
            let spans = &spans[(first + matrix) / heads * queries..][..queries];
            for (row, span) in scores.chunks_exact_mut(keys).zip(spans) {
                let [prefix, own] = seen(row, span);
                let most = maximum(prefix).max(maximum(own));
                let factor = 1.0 / (exp_in_place(prefix, most) + exp_in_place(own, most));
                scale(prefix, factor);
                scale(own, factor);
            }
        }
    });
}

/// The two runs of a row that a query sees; clears the others.
#[inline(always)]
fn seen<'a>(row: &'a mut [f32], span: &Span) -> [&'a mut [f32]; 2] {
    let (row, after) = row.split_at_mut(span.to);
    let (row, own) = row.split_at_mut(span.from);
    let (prefix, between) = row.split_at_mut(span.prefix);
    after.fill(0.0);
    between.fill(0.0);
    [prefix, own]
}

/// Turns the gradient of the probabilities into that of the scores.
pub(super) fn masked_softmax_backward(
    gradient: &mut [f32],
    probabilities: &[f32],
    spans: &[Span],
    heads: usize,
    queries: usize,
    keys: usize,
) {
    by_rows(gradient, queries * keys, |first, gradient| {
        for (matrix, gradient) in gradient.chunks_exact_mut(queries * keys).enumerate() {
            let spans = &spans[(first + matrix) / heads * queries..][..queries];
            let probabilities = &probabilities[(first + matrix) * queries * keys..][..queries * keys];
            for ((row, p), span) in
                gradient.chunks_exact_mut(keys).zip(probabilities.chunks_exact(keys)).zip(spans)
            {
                let (p_prefix, p_own) = (&p[..span.prefix], &p[span.from..span.to]);
                let [prefix, own] = seen(row, span);
                let mean = dot(prefix, p_prefix) + dot(own, p_own);
                for (part, p) in [(prefix, p_prefix), (own, p_own)] {
                    for (gradient, p) in part.iter_mut().zip(p) {
                        *gradient = p * (*gradient - mean);
                    }
                }
            }
        }
    });
}

/// Logits to log-probabilities, in place.
pub(super) fn log_softmax(logits: &mut [f32], width: usize) {
    by_rows(logits, width, |_, logits| {
        for row in logits.chunks_exact_mut(width) {
            let most = maximum(row);
            let sum = exp_sum(row, most);
            let shift = most + sum.ln();
            for value in row {
                *value -= shift;
            }
        }
    });
}

/// The sum of `e^(value - shift)`.
#[inline(always)]
fn exp_sum(row: &[f32], shift: f32) -> f32 {
    let mut lanes = [0f32; LANES];
    let (chunks, rest) = row.as_chunks::<LANES>();
    for chunk in chunks {
        for lane in 0..LANES {
            lanes[lane] += exp(chunk[lane] - shift);
        }
    }
    lanes.iter().sum::<f32>() + rest.iter().map(|value| exp(value - shift)).sum::<f32>()
}

/// Turns the gradient of the log-probabilities into that of the logits.
pub(super) fn log_softmax_backward(gradient: &mut [f32], log_probs: &[f32], width: usize) {
    by_rows(gradient, width, |first, gradient| {
        let log_probs = log_probs[first * width..].chunks_exact(width);
        for (gradient, log_probs) in gradient.chunks_exact_mut(width).zip(log_probs) {
            let sum = gradient.iter().sum::<f32>();
            for (gradient, log_prob) in gradient.iter_mut().zip(log_probs) {
                *gradient -= exp(*log_prob) * sum;
            }
        }
    });
}

/// Logits to probabilities, in place; returns the cross-entropy of each row's target.
pub(super) fn losses(logits: &mut [f32], targets: &[u32], width: usize) -> Vec<f32> {
    let row = |(logits, target): (&mut [f32], &u32)| {
        simd(|| {
            let most = maximum(logits);
            let told = logits[*target as usize] - most;
            let sum = exp_in_place(logits, most);
            scale(logits, 1.0 / sum);
            sum.ln() - told
        })
    };
    logits.par_chunks_exact_mut(width).zip(targets).with_min_len(rows_at_once(width)).map(row).collect()
}

/// Probabilities to the gradient of the logits, in place: `(p - onehot) * factor`.
pub(super) fn losses_backward(probabilities: &mut [f32], targets: &[u32], factors: &[f32], width: usize) {
    by_rows(probabilities, width, |first, probabilities| {
        for (row, values) in probabilities.chunks_exact_mut(width).enumerate() {
            let factor = factors[first + row];
            scale(values, factor);
            values[targets[first + row] as usize] -= factor;
        }
    });
}

/// What one step of AdamW is computed from, both bias corrections moved into `rate` and `epsilon`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct AdamW {
    pub(crate) beta_1: f32,
    pub(crate) beta_2: f32,
    pub(crate) epsilon: f32,
    pub(crate) rate: f32,
    /// On the weight, before the step.
    pub(crate) decay: f32,
    /// On the gradient.
    pub(crate) scale: f32,
}

/// Updates both moments and returns the new weights.
pub(super) fn adamw(
    weight: &[f32],
    gradient: &[f32],
    first: &mut [f32],
    second: &mut [f32],
    step: AdamW,
) -> Vec<f32> {
    let mut out = vec![0f32; weight.len()];
    let chunk = |out: &mut [f32], weight: &[f32], gradient: &[f32], first: &mut [f32], second: &mut [f32]| {
        for ((((out, weight), gradient), first), second) in
            out.iter_mut().zip(weight).zip(gradient).zip(first).zip(second)
        {
            let gradient = gradient * step.scale;
            *first = *first * step.beta_1 + gradient * (1.0 - step.beta_1);
            *second = *second * step.beta_2 + gradient * gradient * (1.0 - step.beta_2);
            *out = weight * step.decay - *first / (second.sqrt() + step.epsilon) * step.rate;
        }
    };
    out.par_chunks_mut(CHUNK)
        .zip(weight.par_chunks(CHUNK).zip(gradient.par_chunks(CHUNK)))
        .zip(first.par_chunks_mut(CHUNK).zip(second.par_chunks_mut(CHUNK)))
        .for_each(|((out, (weight, gradient)), (first, second))| {
            simd(|| chunk(out, weight, gradient, first, second));
        });
    out
}

/// The sum of all squares.
pub(super) fn squares(values: &[f32]) -> f64 {
    let parts: Vec<f64> =
        values.par_chunks(CHUNK).map(|chunk| simd(|| f64::from(dot(chunk, chunk)))).collect();
    parts.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exponentials_are_right_to_two_units_in_the_last_place() {
        let mut worst = 0f64;
        for step in -87_000..88_000 {
            let x = step as f32 / 1000.0;
            let right = f64::from(x).exp();
            worst = worst.max((f64::from(exp(x)) / right - 1.0).abs());
        }
        assert!(worst < 2.0 * f64::from(f32::EPSILON), "{worst}");
        assert_eq!(exp(0.0), 1.0);
        assert!(exp(-1e9) < 1e-37 && exp(f32::NEG_INFINITY) >= 0.0);
        assert!(exp(f32::NAN).is_nan());
    }

    #[test]
    fn sums_over_rows_that_do_not_fill_the_lanes_are_right() {
        for length in [0usize, 1, 15, 16, 17, 50] {
            let row: Vec<f32> = (0..length).map(|i| i as f32 - 7.0).collect();
            let expected: f32 = row.iter().map(|value| value * value).sum();
            assert_eq!(dot(&row, &row), expected);
            let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            assert_eq!(maximum(&row), most);
        }
    }
}
