//! The consistency of answers: Jensen-Shannon divergences between next-token distributions.

use burn::tensor::{Device, Int, Tensor, TensorData};

/// Keeps the logarithm of a probability that underflowed finite; its product with that probability is still zero.
const TINY: f32 = 1e-30;

/// One term of the consistency loss.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Term {
    /// A row of the log-probabilities.
    pub(crate) left: usize,
    /// Another row.
    pub(crate) right: usize,
    /// What their divergence is multiplied with.
    pub(crate) weight: f64,
}

/// The weighted sum of JSD(P_left || P_right) over terms, natural logarithm, at most ln 2 each.
///
/// JSD(P || Q) = H((P + Q) / 2) - (H(P) + H(Q)) / 2; gradients go through both sides.
///
/// # Shapes
///
/// - log_probs: `[rows, vocab]`
/// - output: `[1]`
pub(crate) fn divergence(log_probs: Tensor<2>, terms: &[Term]) -> Tensor<1> {
    let device = log_probs.device();
    if terms.is_empty() {
        return Tensor::zeros([1], &device);
    }
    let [rows, _] = log_probs.dims();
    let mut shares = vec![0f32; rows];
    for term in terms {
        shares[term.left] += (term.weight / 2.0) as f32;
        shares[term.right] += (term.weight / 2.0) as f32;
    }
    let weights: Vec<f32> = terms.iter().map(|term| term.weight as f32).collect();

    let probs = log_probs.clone().exp();
    // [rows, 1]
    let entropies = (probs.clone() * log_probs).sum_dim(1).neg();
    let left = probs.clone().select(0, places(terms.iter().map(|term| term.left), &device));
    let right = probs.select(0, places(terms.iter().map(|term| term.right), &device));
    let mixture = (left + right).div_scalar(2.0);
    // [terms, 1]
    let mixed = (mixture.clone() * mixture.clamp_min(TINY).log()).sum_dim(1).neg();
    (mixed * column(weights, &device)).sum() - (entropies * column(shares, &device)).sum()
}

/// The weighted sum of KL(P_left || P_right) + KL(P_right || P_left) over terms, natural logarithm; gradients go through
/// both sides.
///
/// # Shapes
///
/// - log_probs: `[rows, vocab]`
/// - output: `[1]`
pub(crate) fn jeffreys(log_probs: Tensor<2>, terms: &[Term]) -> Tensor<1> {
    let device = log_probs.device();
    if terms.is_empty() {
        return Tensor::zeros([1], &device);
    }
    let weights: Vec<f32> = terms.iter().map(|term| term.weight as f32).collect();
    let left = log_probs.clone().select(0, places(terms.iter().map(|term| term.left), &device));
    let right = log_probs.select(0, places(terms.iter().map(|term| term.right), &device));
    // sum (p - q) (log p - log q)
    let both = ((left.clone().exp() - right.clone().exp()) * (left - right)).sum_dim(1);
    (both * column(weights, &device)).sum()
}

fn places(rows: impl Iterator<Item = usize>, device: &Device) -> Tensor<1, Int> {
    let rows: Vec<i32> = rows.map(|row| row as i32).collect();
    Tensor::from_data(rows.as_slice(), device)
}

fn column(values: Vec<f32>, device: &Device) -> Tensor<2> {
    let rows = values.len();
    Tensor::from_data(TensorData::new(values, [rows, 1]), device)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn log_probs(rows: &[[f32; 3]]) -> Tensor<2> {
        let flat: Vec<f32> = rows.iter().flatten().map(|p| p.max(1e-38).ln()).collect();
        let device = lm::device::open(&contract::Backend::default()).unwrap();
        Tensor::from_data(TensorData::new(flat, [rows.len(), 3]), &device).autodiff().require_grad()
    }

    fn value(rows: &[[f32; 3]], terms: &[Term]) -> f32 {
        divergence(log_probs(rows), terms).into_scalar()
    }

    #[test]
    fn values_worked_out_by_hand() {
        let rows = [[0.5, 0.5, 0.0], [0.25, 0.75, 0.0], [0.0, 0.0, 1.0]];
        let term = |left, right, weight| Term { left, right, weight };
        // H(3/8) - (H(1/2) + H(1/4)) / 2
        let near = 0.661_563_2 - (std::f32::consts::LN_2 + 0.562_335_1) / 2.0;
        assert!((value(&rows, &[term(0, 1, 1.0)]) - near).abs() < 1e-6);
        let ln2 = std::f32::consts::LN_2;
        assert!((value(&rows, &[term(0, 2, 1.0)]) - ln2).abs() < 1e-6, "disjoint: the most there can be");
        let sum = value(&rows, &[term(0, 1, 0.5), term(2, 1, 0.25)]);
        assert!((sum - (0.5 * near + 0.25 * ln2)).abs() < 1e-6);
        assert_eq!(value(&rows, &[]), 0.0);
    }

    #[test]
    fn the_symmetric_divergence_worked_out_by_hand() {
        let rows = [[0.5, 0.25, 0.25], [0.25, 0.5, 0.25]];
        let found =
            jeffreys(log_probs(&rows), &[Term { left: 0, right: 1, weight: 2.0 }]).into_scalar::<f32>();
        // Twice: 0.25 ln 2 + 0.25 ln 2.
        assert!((found - std::f32::consts::LN_2).abs() < 1e-6, "{found}");
        assert_eq!(jeffreys(log_probs(&rows), &[]).into_scalar::<f32>(), 0.0);
    }

    #[test]
    fn equal_distributions_diverge_by_nothing_and_pull_nowhere() {
        let rows = log_probs(&[[0.2, 0.3, 0.5], [0.2, 0.3, 0.5]]);
        let loss = divergence(rows.clone(), &[Term { left: 0, right: 1, weight: 1.0 }]);
        let gradients = loss.backward();
        assert!(loss.into_scalar::<f32>().abs() < 1e-6);
        let gradient: Vec<f32> = rows.grad(&gradients).unwrap().try_into_vec_as().unwrap();
        assert!(gradient.iter().all(|g| g.abs() < 1e-6), "{gradient:?}");
    }

    #[test]
    fn gradients_go_through_both_sides_and_are_finite_at_zero() {
        let rows = log_probs(&[[0.5, 0.5, 0.0], [0.0, 0.25, 0.75]]);
        let loss = divergence(rows.clone(), &[Term { left: 0, right: 1, weight: 1.0 }]);
        let gradient: Vec<f32> = rows.grad(&loss.backward()).unwrap().try_into_vec_as().unwrap();
        assert!(gradient.iter().all(|g| g.is_finite()), "{gradient:?}");
        assert!(gradient[0].abs() > 0.01 && gradient[5].abs() > 0.01, "{gradient:?}");
    }
}
