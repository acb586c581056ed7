//! From vectors to a picture: PCA, then t-SNE.
//!
//! Equal points and an equal seed give equal pictures, whatever the number of threads: the starting positions
//! are drawn from the generator given, the neighbours are searched exactly (the search inside `bhtsne` draws
//! from ambient randomness), and the sums run on one thread.

use bhtsne::{Neighbor, tSNE};
use faer::{Mat, linalg::solvers::SvdError};
use rand::Rng;
use rayon::{ThreadPoolBuildError, ThreadPoolBuilder};

use crate::measures::centred;

/// Fewer points than this have no neighbourhoods to show.
pub(crate) const LEAST_POINTS: usize = 8;

/// Where the points lie along the directions in which they vary most.
pub(crate) struct Pca {
    /// One point a row, one component a column, by falling variance.
    pub(crate) scores: Mat<f64>,
    /// The share of the variance each component holds.
    pub(crate) explained: Vec<f64>,
}

/// The first `components` principal components, or as many as there are.
///
/// A component's sign is arbitrary; here its largest coefficient is positive.
pub(crate) fn pca(vectors: &Mat<f64>, components: usize) -> Result<Pca, SvdError> {
    let svd = centred(vectors).thin_svd()?;
    let (u, v) = (svd.U(), svd.V());
    let values: Vec<f64> = svd.S().column_vector().iter().copied().collect();
    let kept = components.min(values.len());
    let signs: Vec<f64> = (0..kept)
        .map(|component| {
            let largest = v
                .col(component)
                .iter()
                .fold(0.0_f64, |largest, value| if value.abs() > largest.abs() { *value } else { largest });
            if largest < 0.0 { -1.0 } else { 1.0 }
        })
        .collect();
    let scores = Mat::from_fn(u.nrows(), kept, |i, j| u[(i, j)] * values[j] * signs[j]);
    let total: f64 = values.iter().map(|value| value.powi(2)).sum();
    let explained =
        values[..kept].iter().map(|value| if total > 0.0 { value.powi(2) / total } else { 0.0 }).collect();
    Ok(Pca { scores, explained })
}

/// The perplexity that is possible with so many points, at most the one asked for: each point is compared with
/// three times as many neighbours.
pub(crate) fn possible_perplexity(asked: f64, points: usize) -> f64 {
    asked.min(((points - 1) / 3) as f64)
}

/// Barnes-Hut t-SNE in two dimensions.
///
/// # Panics
///
/// With fewer than [`LEAST_POINTS`] points, or a perplexity above [`possible_perplexity`].
pub(crate) fn tsne(
    points: &Mat<f64>,
    perplexity: f64,
    iterations: usize,
    rng: &mut impl Rng,
) -> Result<Vec<[f64; 2]>, ThreadPoolBuildError> {
    assert!(points.nrows() >= LEAST_POINTS);
    let rows: Vec<Vec<f64>> = (0..points.nrows()).map(|i| points.row(i).iter().copied().collect()).collect();
    let neighbors = neighbors(&rows, (3.0 * perplexity) as usize);
    let start: Vec<f64> = (0..2 * rows.len()).map(|_| rng.random_range(-1e-4..1e-4)).collect();
    let exaggerated = iterations / 4;
    // bhtsne sums in an order that depends on the pool it finds itself in.
    let pool = ThreadPoolBuilder::new().num_threads(1).build()?;
    let embedding = pool.install(|| {
        tSNE::<f64, Vec<f64>>::new(&rows)
            .perplexity(perplexity)
            .epochs(iterations)
            .stop_lying_epoch(exaggerated)
            .momentum_switch_epoch(exaggerated)
            // Its gradient lacks the factor 4 of scikit-learn's, whose rate for few points is 50.
            .learning_rate(200.0_f64.max(rows.len() as f64 / 12.0))
            .initial_embedding(start)
            .barnes_hut_with_neighbors(0.5, &neighbors)
            .embedding()
    });
    Ok(embedding.chunks_exact(2).map(|point| [point[0], point[1]]).collect())
}

/// Neighbours that [`trustworthiness`] looks at, where there are points enough.
const TRUSTED: usize = 5;

/// How far the neighbours in a picture are neighbours among the points it shows: 1 where all are, about 0.5 by chance.
///
/// Venna and Kaski, Neighborhood Preservation in Nonlinear Projection Methods, 2001; as scikit-learn computes it, with 5
/// neighbours.
///
/// # Panics
///
/// With fewer than three points.
pub(crate) fn trustworthiness(points: &Mat<f64>, picture: &[[f64; 2]]) -> f64 {
    let n = points.nrows();
    let k = TRUSTED.min((n - 1) / 2);
    let rows: Vec<Vec<f64>> = (0..n).map(|i| points.row(i).iter().copied().collect()).collect();
    let places: Vec<Vec<f64>> = picture.iter().map(|place| place.to_vec()).collect();
    let mut rank = vec![0; n];
    let mut penalty = 0;
    for (near, shown) in neighbors(&rows, n - 1).into_iter().zip(neighbors(&places, k)) {
        for (place, neighbor) in near.iter().enumerate() {
            rank[neighbor.index] = place + 1;
        }
        penalty += shown.iter().map(|neighbor| rank[neighbor.index].saturating_sub(k)).sum::<usize>();
    }
    1.0 - penalty as f64 * 2.0 / (n * k * (2 * n - 3 * k - 1)) as f64
}

/// Every point's nearest others, nearest first, ties by index.
fn neighbors(rows: &[Vec<f64>], count: usize) -> Vec<Vec<Neighbor<f64>>> {
    let distance = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| (a - b).powi(2)).sum::<f64>().sqrt();
    (0..rows.len())
        .map(|i| {
            let mut nearest: Vec<Neighbor<f64>> = (0..rows.len())
                .filter(|j| *j != i)
                .map(|index| Neighbor { index, distance: distance(&rows[i], &rows[index]) })
                .collect();
            nearest.sort_by(|a, b| a.distance.total_cmp(&b.distance));
            nearest.truncate(count);
            nearest
        })
        .collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::measures::tests::{close, matrix, reference};

    #[test]
    fn pca_agrees_with_scikit_learn() {
        let reference = reference();
        let found = pca(&matrix(&reference.vectors), reference.explained.len()).unwrap();
        for (component, expected) in reference.explained.iter().enumerate() {
            close(found.explained[component], *expected);
            for (text, scores) in reference.scores.iter().enumerate() {
                close(found.scores[(text, component)], scores[component]);
            }
        }
        let all = pca(&matrix(&reference.vectors), 1000).unwrap();
        assert_eq!(all.scores.ncols(), reference.vectors[0].len());
        close(all.explained.iter().sum(), 1.0);
    }

    /// What `tests/digits.py` wrote: 360 handwritten digits, and scikit-learn's pictures of them.
    #[derive(serde::Deserialize)]
    struct Digits {
        /// A character a pixel, from `0` to `g`.
        pixels: Vec<String>,
        /// Of scikit-learn's pictures.
        trustworthiness: Vec<f64>,
        /// One of them.
        places: Vec<[f64; 2]>,
        trustworthiness_of_places: f64,
    }

    fn digits() -> (Mat<f64>, Digits) {
        let digits: Digits = serde_json::from_str(include_str!("../tests/digits.json")).unwrap();
        let pixels: Vec<Vec<f64>> = digits
            .pixels
            .iter()
            .map(|row| row.chars().map(|pixel| f64::from(pixel.to_digit(17).unwrap())).collect())
            .collect();
        (matrix(&pixels), digits)
    }

    #[test]
    fn trustworthiness_is_that_of_scikit_learn() {
        let reference = reference();
        let first: Vec<[f64; 2]> = reference.scores.iter().map(|scores| [scores[0], scores[1]]).collect();
        close(trustworthiness(&matrix(&reference.vectors), &first), reference.trustworthiness);

        let (points, digits) = digits();
        let found = trustworthiness(&points, &digits.places);
        // Digits have equally far neighbours, which the two sides put in another order: a rank is 8e-6.
        assert!((found - digits.trustworthiness_of_places).abs() < 1e-4, "{found}");
        let shuffled: Vec<[f64; 2]> =
            (0..points.nrows()).map(|i| digits.places[i * 7 % points.nrows()]).collect();
        let found = trustworthiness(&points, &shuffled);
        assert!((0.4..0.6).contains(&found), "a random picture has {found}");
        let three = Mat::from_fn(3, 1, |i, _| i as f64);
        assert_eq!(trustworthiness(&three, &[[0.0, 0.0], [1.0, 0.0], [2.0, 0.0]]), 1.0);
    }

    /// Within 0.02 of the mean over scikit-learn's pictures, as the default setting draws them.
    #[test]
    fn tsne_shows_digits_as_faithfully_as_scikit_learn() {
        let (points, digits) = digits();
        let expected = digits.trustworthiness.iter().sum::<f64>() / digits.trustworthiness.len() as f64;
        let seen = pca(&points, 50).unwrap().scores;
        for seed in 0..2 {
            let picture = tsne(&seen, 30.0, 500, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap();
            let found = trustworthiness(&points, &picture);
            assert!((found - expected).abs() < 0.02, "seed {seed}: {found}, scikit-learn {expected}");
        }
    }

    /// Two clouds of 30 points each, 20 apart, in 5 dimensions.
    fn clouds() -> Mat<f64> {
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        Mat::from_fn(60, 5, |i, j| rng.random_range(-1.0..1.0) + if j == 0 && i >= 30 { 20.0 } else { 0.0 })
    }

    fn embedded(seed: u64) -> Vec<[f64; 2]> {
        tsne(&clouds(), 10.0, 300, &mut ChaCha8Rng::seed_from_u64(seed)).unwrap()
    }

    #[test]
    fn tsne_keeps_two_clouds_apart() {
        let points = embedded(1);
        let squared = |a: &[f64; 2], b: &[f64; 2]| (a[0] - b[0]).powi(2) + (a[1] - b[1]).powi(2);
        for (i, point) in points.iter().enumerate() {
            let nearest = (0..60)
                .filter(|j| *j != i)
                .min_by(|a, b| squared(point, &points[*a]).total_cmp(&squared(point, &points[*b])))
                .unwrap();
            assert_eq!(i < 30, nearest < 30, "point {i} lies beside point {nearest}");
        }
        let centre = |half: &[[f64; 2]]| {
            let sum = half.iter().fold([0.0, 0.0], |sum, p| [sum[0] + p[0], sum[1] + p[1]]);
            [sum[0] / half.len() as f64, sum[1] / half.len() as f64]
        };
        let (left, right) = (centre(&points[..30]), centre(&points[30..]));
        let radius = points[..30].iter().map(|p| squared(p, &left)).fold(0.0, f64::max);
        assert!(squared(&left, &right) > 4.0 * radius);
    }

    #[test]
    fn tsne_is_a_function_of_its_points_and_seed() {
        let pool = |threads| ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        let once = pool(1).install(|| embedded(1));
        assert_eq!(once, pool(4).install(|| embedded(1)));
        assert_ne!(once, embedded(2));
    }

    #[test]
    fn tsne_survives_equal_points_and_few_of_them() {
        for points in [Mat::zeros(LEAST_POINTS, 3), Mat::from_fn(9, 2, |i, _| (i / 3) as f64)] {
            let perplexity = possible_perplexity(30.0, points.nrows());
            let found = tsne(&points, perplexity, 50, &mut ChaCha8Rng::seed_from_u64(0)).unwrap();
            assert!(found.iter().flatten().all(|value| value.is_finite()));
        }
        assert_eq!(possible_perplexity(30.0, 8), 2.0);
        assert_eq!(possible_perplexity(30.0, 400), 30.0);
    }
}
