//! Numbers about a set of vectors: how well labels separate, how many directions are in use, how alike two
//! sets are.
//!
//! A set is a matrix with one text a row. Everything is computed in `f64` on one thread; the expected values
//! in the tests come from `tests/reference.py`.

use faer::{Mat, linalg::solvers::SvdError};

/// How many directions a set of vectors spans, from the singular values of the centred set.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Spread {
    /// exp of the entropy of the normalised singular values: Roy and Vetterli, The Effective Rank, 2007.
    pub(crate) effective_rank: f64,
    /// (sum of variances)^2 / sum of squared variances.
    pub(crate) participation_ratio: f64,
}

/// The [`Spread`] of a set; both numbers are 0 where all vectors are equal.
pub(crate) fn spread(vectors: &Mat<f64>) -> Result<Spread, SvdError> {
    let singular = centred(vectors).singular_values()?;
    let total: f64 = singular.iter().sum();
    // Below this the set is one point and the rest is rounding.
    let floor = f64::EPSILON * vectors.norm_l2() * vectors.nrows() as f64;
    if total <= floor {
        return Ok(Spread { effective_rank: 0.0, participation_ratio: 0.0 });
    }
    let entropy: f64 =
        singular.iter().map(|value| value / total).filter(|p| *p > 0.0).map(|p| -p * p.ln()).sum();
    let (squares, fourths) =
        singular.iter().fold((0.0, 0.0), |(two, four), value| (two + value.powi(2), four + value.powi(4)));
    Ok(Spread { effective_rank: entropy.exp(), participation_ratio: squares * squares / fourths })
}

/// The mean cosine similarity of two different vectors of the set: 0 when directions are spread evenly, 1 when
/// all point the same way.
pub(crate) fn anisotropy(vectors: &Mat<f64>) -> f64 {
    let unit = unit_rows(vectors);
    let (count, width) = (unit.nrows(), unit.ncols());
    let total: f64 = (0..width).map(|j| (0..count).map(|i| unit[(i, j)]).sum::<f64>().powi(2)).sum();
    let itself: f64 = (0..count).map(|i| row_product(&unit, i, &unit, i)).sum();
    (total - itself) / (count * (count - 1)) as f64
}

/// Each vector's silhouette under cosine distance: near 1 inside its own group, below 0 nearer to another one.
///
/// A vector alone in its group has 0. `None` where fewer than two of the groups are there.
pub(crate) fn silhouettes(vectors: &Mat<f64>, group_of: &[usize]) -> Option<Vec<f64>> {
    let unit = unit_rows(vectors);
    let groups = group_of.iter().max().map_or(0, |last| last + 1);
    let mut sizes = vec![0_usize; groups];
    let mut sums = Mat::<f64>::zeros(groups, unit.ncols());
    for (i, &group) in group_of.iter().enumerate() {
        sizes[group] += 1;
        for j in 0..unit.ncols() {
            sums[(group, j)] += unit[(i, j)];
        }
    }
    if sizes.iter().filter(|size| **size > 0).count() < 2 {
        return None;
    }
    let silhouette = |(i, &own): (usize, &usize)| {
        if sizes[own] == 1 {
            return 0.0;
        }
        // The sum over a group of 1 - u_i . u_j needs only the sum of its unit vectors.
        let to_group = |group: usize| sizes[group] as f64 - row_product(&unit, i, &sums, group);
        let to_itself = 1.0 - row_product(&unit, i, &unit, i);
        let within = (to_group(own) - to_itself) / (sizes[own] - 1) as f64;
        let nearest = (0..groups)
            .filter(|group| *group != own && sizes[*group] > 0)
            .map(|group| to_group(group) / sizes[group] as f64)
            .fold(f64::INFINITY, f64::min);
        let longer = within.max(nearest);
        if longer > 0.0 { (nearest - within) / longer } else { 0.0 }
    };
    Some(group_of.iter().enumerate().map(silhouette).collect())
}

/// Linear CKA of two sets that describe the same texts in the same order: 1 means equal up to rotation and scale.
///
/// With few texts and many dimensions it is near 1 for unrelated sets too: see [`unbiased_linear_cka`]. `None` where one
/// set does not vary. Eq. 4, Similarity of Neural Network Representations Revisited, arXiv 1905.00414.
pub(crate) fn linear_cka(left: &Mat<f64>, right: &Mat<f64>) -> Option<f64> {
    let (left, right) = (centred(left), centred(right));
    let products = |left: &Mat<f64>, right: &Mat<f64>| (left.transpose() * right).squared_norm_l2();
    let scale = products(&left, &left) * products(&right, &right);
    (scale > 0.0).then(|| products(&left, &right) / scale.sqrt())
}

/// Linear CKA with the unbiased estimate of HSIC: about 0 for unrelated sets, however few texts (chance falls on both sides of
/// it). `None` for fewer than four texts, or where one set does not vary.
pub(crate) fn unbiased_linear_cka(left: &Mat<f64>, right: &Mat<f64>) -> Option<f64> {
    if left.nrows() < 4 {
        return None;
    }
    let (left, right) = (centred(left), centred(right));
    let scale = hsic(&left, &left) * hsic(&right, &right);
    (scale > 0.0).then(|| hsic(&left, &right) / scale.sqrt())
}

/// The unbiased HSIC of two centred sets under linear kernels, times n (n - 3), which CKA cancels.
///
/// Eq. 5, Feature Selection via Dependence Maximization, Song et al. 2012, with K~ = X X^T less its diagonal.
/// On centred sets K~ 1 is minus that diagonal, so no n by n matrix is needed.
fn hsic(left: &Mat<f64>, right: &Mat<f64>) -> f64 {
    let n = left.nrows() as f64;
    let diagonal =
        |set: &Mat<f64>| -> Vec<f64> { (0..set.nrows()).map(|i| row_product(set, i, set, i)).collect() };
    let (k, l) = (diagonal(left), diagonal(right));
    let both: f64 = k.iter().zip(&l).map(|(k, l)| k * l).sum();
    let traces = k.iter().sum::<f64>() * l.iter().sum::<f64>();
    let cross = (left.transpose() * right).squared_norm_l2() - both;
    cross + traces / ((n - 1.0) * (n - 2.0)) - 2.0 * both / (n - 2.0)
}

/// The set with its mean taken off every vector.
pub(crate) fn centred(vectors: &Mat<f64>) -> Mat<f64> {
    let count = vectors.nrows();
    let means: Vec<f64> =
        (0..vectors.ncols()).map(|j| vectors.col(j).iter().sum::<f64>() / count as f64).collect();
    Mat::from_fn(count, vectors.ncols(), |i, j| vectors[(i, j)] - means[j])
}

/// Every vector at length 1; zero stays zero.
fn unit_rows(vectors: &Mat<f64>) -> Mat<f64> {
    let lengths: Vec<f64> =
        (0..vectors.nrows()).map(|i| row_product(vectors, i, vectors, i).sqrt()).collect();
    Mat::from_fn(vectors.nrows(), vectors.ncols(), |i, j| {
        if lengths[i] > 0.0 { vectors[(i, j)] / lengths[i] } else { 0.0 }
    })
}

fn row_product(left: &Mat<f64>, i: usize, right: &Mat<f64>, j: usize) -> f64 {
    left.row(i).iter().zip(right.row(j).iter()).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
pub(crate) mod tests {
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use serde::Deserialize;

    use super::*;

    /// What `tests/reference.py` wrote. Both sides compute in f64 but sum in other orders: values agree to
    /// about 1e-13, and 1e-9 leaves room for other machines.
    #[derive(Deserialize)]
    pub(crate) struct Reference {
        pub(crate) vectors: Vec<Vec<f64>>,
        other: Vec<Vec<f64>>,
        pub(crate) groups: Vec<usize>,
        silhouettes: Vec<f64>,
        effective_rank: f64,
        participation_ratio: f64,
        anisotropy: f64,
        linear_cka: f64,
        unbiased_linear_cka: f64,
        pub(crate) agreements: Vec<Agreement>,
        pub(crate) explained: Vec<f64>,
        pub(crate) scores: Vec<Vec<f64>>,
        pub(crate) trustworthiness: f64,
    }

    /// Two groupings, and how well scikit-learn finds that they agree.
    #[derive(Deserialize)]
    pub(crate) struct Agreement {
        pub(crate) left: Vec<usize>,
        pub(crate) right: Vec<usize>,
        pub(crate) adjusted_rand: f64,
        pub(crate) normalized_mutual_information: f64,
    }

    pub(crate) fn reference() -> Reference {
        serde_json::from_str(include_str!("../tests/reference.json")).unwrap()
    }

    pub(crate) fn matrix(rows: &[Vec<f64>]) -> Mat<f64> {
        Mat::from_fn(rows.len(), rows[0].len(), |i, j| rows[i][j])
    }

    #[track_caller]
    pub(crate) fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-9, "{found} is not {expected}");
    }

    #[test]
    fn the_numbers_agree_with_scikit_learn_and_numpy() {
        let reference = reference();
        let vectors = matrix(&reference.vectors);
        let found = silhouettes(&vectors, &reference.groups).unwrap();
        assert_eq!(found.len(), reference.silhouettes.len());
        for (found, expected) in found.into_iter().zip(reference.silhouettes) {
            close(found, expected);
        }
        let found = spread(&vectors).unwrap();
        close(found.effective_rank, reference.effective_rank);
        close(found.participation_ratio, reference.participation_ratio);
        close(anisotropy(&vectors), reference.anisotropy);
        let other = matrix(&reference.other);
        close(linear_cka(&vectors, &other).unwrap(), reference.linear_cka);
        close(unbiased_linear_cka(&vectors, &other).unwrap(), reference.unbiased_linear_cka);
    }

    #[test]
    fn silhouettes_by_hand() {
        // Two groups at right angles: within 0, to the other 1.
        let apart = matrix(&[vec![2.0, 0.0], vec![5.0, 0.0], vec![0.0, 1.0], vec![0.0, 3.0]]);
        assert_eq!(silhouettes(&apart, &[0, 0, 1, 1]).unwrap(), [1.0; 4]);
        // Mixed: within 1, to the other (0 + 1) / 2.
        assert_eq!(silhouettes(&apart, &[0, 1, 0, 1]).unwrap(), [-0.5; 4]);
        // Group 1 is not there, and the last vector is alone.
        assert_eq!(silhouettes(&apart, &[0, 0, 0, 2]).unwrap()[3], 0.0);
        assert_eq!(silhouettes(&apart, &[1, 1, 1, 1]), None);
    }

    #[test]
    fn spread_and_anisotropy_by_hand() {
        let cross = matrix(&[vec![1.0, 0.0], vec![-1.0, 0.0], vec![0.0, 1.0], vec![0.0, -1.0]]);
        let found = spread(&cross).unwrap();
        close(found.effective_rank, 2.0);
        close(found.participation_ratio, 2.0);
        close(anisotropy(&cross), -1.0 / 3.0);
        let line = matrix(&[vec![1.0, 1.0], vec![2.0, 2.0], vec![4.0, 4.0]]);
        close(spread(&line).unwrap().effective_rank, 1.0);
        close(spread(&line).unwrap().participation_ratio, 1.0);
        close(anisotropy(&line), 1.0);
        let point = matrix(&[vec![0.1, 0.7], vec![0.1, 0.7], vec![0.1, 0.7]]);
        assert_eq!(spread(&point).unwrap(), Spread { effective_rank: 0.0, participation_ratio: 0.0 });
    }

    #[test]
    fn cka_ignores_rotation_scale_and_shift() {
        let vectors = matrix(&reference().vectors);
        let moved = Mat::from_fn(vectors.nrows(), vectors.ncols(), |i, j| {
            100.0 - 3.0 * vectors[(i, (j + 1) % vectors.ncols())]
        });
        let constant = Mat::from_fn(vectors.nrows(), 2, |_, _| 0.5);
        for cka in [linear_cka, unbiased_linear_cka] {
            close(cka(&vectors, &vectors).unwrap(), 1.0);
            close(cka(&vectors, &moved).unwrap(), 1.0);
            assert_eq!(cka(&vectors, &constant), None);
        }
    }

    #[test]
    fn only_the_unbiased_cka_knows_that_few_unrelated_texts_are_unrelated() {
        let mut rng = ChaCha8Rng::seed_from_u64(1);
        let mut set = || Mat::from_fn(40, 400, |_, _| rng.random_range(-1.0..1.0));
        let (left, right) = (set(), set());
        assert!(linear_cka(&left, &right).unwrap() > 0.8);
        // 780 pairs of texts: a standard error of 0.036.
        assert!(unbiased_linear_cka(&left, &right).unwrap().abs() < 0.11);
    }
}
