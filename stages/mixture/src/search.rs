//! A (1+1) evolution strategy: a point, a random step from it, the better of both.

use std::f64::consts::TAU;

use contract::StageError;
use rand::Rng;

use crate::MixtureParams;

/// What the step is multiplied with after a success; after a failure with its fourth root's inverse, so that it keeps its
/// size where one step in five succeeds.
const GROWTH: f64 = 1.5;

/// The best of `evaluations` points, the first of which is 0 everywhere: no expert at all.
pub(crate) fn search(
    params: &MixtureParams,
    size: usize,
    rng: &mut impl Rng,
    measure: &mut dyn FnMut(&[f64]) -> Result<f64, StageError>,
) -> Result<Vec<f64>, StageError> {
    let mut best = vec![0.0; size];
    let mut lowest = measure(&best)?;
    let mut step = params.step;
    for _ in 1..params.evaluations {
        let move_by = |weight: &f64| (weight + step * normal(rng)).clamp(-params.bound, params.bound);
        let point: Vec<f64> = best.iter().map(move_by).collect();
        let found = measure(&point)?;
        if found <= lowest {
            (best, lowest) = (point, found);
            step *= GROWTH;
        } else {
            step *= GROWTH.powf(-0.25);
        }
    }
    Ok(best)
}

/// A standard normal number, after Box and Muller.
fn normal(rng: &mut impl Rng) -> f64 {
    let (radius, angle): (f64, f64) = (rng.random(), rng.random());
    // 1 - u is never 0.
    (-2.0 * (1.0 - radius).ln()).sqrt() * (TAU * angle).cos()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use rand::{SeedableRng, rngs::SmallRng};

    use super::*;

    fn params(evaluations: usize) -> MixtureParams {
        MixtureParams { evaluations, examples: 1, penalty: 0.0, bound: 3.0, step: 0.5 }
    }

    #[test]
    fn a_valley_is_found_within_bounds() {
        let goal = [1.0, -2.0, 9.0];
        let mut asked = 0;
        let mut measure = |point: &[f64]| {
            asked += 1;
            assert!(point.iter().all(|weight| weight.abs() <= 3.0));
            Ok(point.iter().zip(goal).map(|(weight, goal)| (weight - goal).powi(2)).sum())
        };
        let found = search(&params(400), 3, &mut SmallRng::seed_from_u64(1), &mut measure).unwrap();
        for (found, expected) in found.iter().zip([1.0, -2.0, 3.0]) {
            assert!((found - expected).abs() < 0.05, "{found}");
        }
        assert_eq!(asked, 400);
    }

    #[test]
    fn where_nothing_helps_no_expert_is_taken() {
        let mut measure = |point: &[f64]| Ok(point.iter().map(|weight| weight.abs()).sum());
        let found = search(&params(40), 2, &mut SmallRng::seed_from_u64(1), &mut measure).unwrap();
        assert_eq!(found, [0.0, 0.0]);
    }

    #[test]
    fn draws_are_standard_normal() {
        let mut rng = SmallRng::seed_from_u64(3);
        let draws: Vec<f64> = (0..20_000).map(|_| normal(&mut rng)).collect();
        let mean = draws.iter().sum::<f64>() / 2e4;
        let variance = draws.iter().map(|draw| (draw - mean).powi(2)).sum::<f64>() / 2e4;
        assert!(mean.abs() < 0.03 && (variance - 1.0).abs() < 0.04, "{mean} {variance}");
    }
}
