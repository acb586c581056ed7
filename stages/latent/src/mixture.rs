//! A truncated variational Dirichlet-process mixture of Gaussians: it groups points without being told into how many.
//!
//! Blei and Jordan, Variational Inference for Dirichlet Process Mixtures, 2006, in the form and with the default priors of
//! scikit-learn's `BayesianGaussianMixture`: the stick-breaking process is cut after `components`, and the lower bound leaves
//! out the same constants. From the same first responsibilities both go the same way; the expected values in the tests
//! come from `tests/mixture.py`.

use faer::{
    Mat, Par, Side, linalg::solvers::LltError, linalg::triangular_solve::solve_lower_triangular_in_place,
};
use rand::Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use statrs::function::{beta::ln_beta, gamma::digamma, gamma::ln_gamma};

/// Added to every variance, as scikit-learn does.
const LEAST_VARIANCE: f64 = 1e-6;

/// Rounds of k-means before the mixture starts.
const K_MEANS_ROUNDS: usize = 100;

/// The shape of a component.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Covariance {
    /// A variance for each principal component: few numbers, for few texts.
    #[default]
    Diag,
    /// A covariance matrix: wants many more texts than principal components.
    Full,
}

/// How a mixture is fitted.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MixtureOptions {
    /// The shape of each component.
    pub(crate) covariance: Covariance,
    /// The concentration of the process: low ones leave more components empty.
    pub(crate) concentration: f64,
    /// The fit ends when the lower bound moves by less.
    pub(crate) tolerance: f64,
    /// The fit ends after so many rounds.
    pub(crate) iterations: usize,
}

/// A fitted mixture.
pub(crate) struct Mixture {
    /// Expected weights, summing to 1.
    pub(crate) weights: Vec<f64>,
    /// One component a row.
    pub(crate) means: Mat<f64>,
    /// The evidence lower bound without its constants.
    pub(crate) lower_bound: f64,
    /// Rounds made.
    pub(crate) iterations: usize,
    /// Whether it ended by the tolerance.
    pub(crate) converged: bool,
    /// The likeliest component of each point.
    pub(crate) labels: Vec<usize>,
}

/// Fits a mixture that starts from these responsibilities: one point a row, one component a column, rows summing to 1.
///
/// # Panics
///
/// If there are fewer than two points, or rows do not match.
pub(crate) fn fit(
    points: &Mat<f64>,
    responsibilities: Mat<f64>,
    options: &MixtureOptions,
) -> Result<Mixture, LltError> {
    assert!(points.nrows() >= 2 && points.nrows() == responsibilities.nrows());
    let prior = Prior::new(points, options);
    let mut posterior = prior.update(points, &responsibilities)?;
    let mut mixture = Mixture {
        weights: Vec::new(),
        means: Mat::new(),
        lower_bound: f64::NEG_INFINITY,
        iterations: 0,
        converged: false,
        labels: Vec::new(),
    };
    while mixture.iterations < options.iterations && !mixture.converged {
        mixture.iterations += 1;
        let responsibilities = posterior.responsibilities(points);
        posterior = prior.update(points, &responsibilities)?;
        let bound = posterior.lower_bound(&responsibilities);
        mixture.converged = (bound - mixture.lower_bound).abs() < options.tolerance;
        mixture.lower_bound = bound;
    }
    let last = posterior.responsibilities(points);
    mixture.labels = (0..points.nrows()).map(|point| largest(last.row(point).iter().copied())).collect();
    mixture.weights = posterior.weights();
    mixture.means = posterior.means;
    Ok(mixture)
}

/// First responsibilities: every point belongs wholly to one of the clusters of seeded k-means.
pub(crate) fn k_means(points: &Mat<f64>, components: usize, rng: &mut impl Rng) -> Mat<f64> {
    let (count, width) = (points.nrows(), points.ncols());
    let squared = |point: usize, centre: &[f64]| -> f64 {
        points.row(point).iter().zip(centre).map(|(a, b)| (a - b).powi(2)).sum()
    };
    let row = |point: usize| -> Vec<f64> { points.row(point).iter().copied().collect() };
    // k-means++: each further centre is a point drawn by its squared distance to the nearest one.
    let mut centres = vec![row(rng.random_range(0..count))];
    let mut distances: Vec<f64> = (0..count).map(|point| squared(point, &centres[0])).collect();
    while centres.len() < components {
        let total: f64 = distances.iter().sum();
        let mut left = rng.random_range(0.0..1.0) * total;
        let drawn = distances.iter().position(|distance| {
            left -= distance;
            left < 0.0
        });
        let Some(drawn) = drawn else { break };
        centres.push(row(drawn));
        for (point, distance) in distances.iter_mut().enumerate() {
            *distance = distance.min(squared(point, &centres[centres.len() - 1]));
        }
    }
    let nearest = |centres: &[Vec<f64>]| -> Vec<usize> {
        (0..count).map(|point| largest(centres.iter().map(|centre| -squared(point, centre)))).collect()
    };
    let mut clusters = nearest(&centres);
    for _ in 0..K_MEANS_ROUNDS {
        let mut sums = vec![(vec![0.0; width], 0.0); centres.len()];
        for (point, cluster) in clusters.iter().enumerate() {
            let (sum, size) = &mut sums[*cluster];
            sum.iter_mut().zip(points.row(point).iter()).for_each(|(sum, value)| *sum += value);
            *size += 1.0;
        }
        for (centre, (sum, size)) in centres.iter_mut().zip(sums) {
            if size > 0.0 {
                *centre = sum.into_iter().map(|sum| sum / size).collect();
            }
        }
        let moved = nearest(&centres);
        if moved == clusters {
            break;
        }
        clusters = moved;
    }
    Mat::from_fn(count, components, |point, component| f64::from(u8::from(clusters[point] == component)))
}

/// Where the largest value stands; the first of equal ones.
fn largest(values: impl Iterator<Item = f64>) -> usize {
    values.enumerate().fold((0, f64::NEG_INFINITY), |best, next| if next.1 > best.1 { next } else { best }).0
}

/// What is believed before any point is seen, with scikit-learn's defaults: mean precision 1, as many degrees of freedom as
/// dimensions.
struct Prior {
    mean: Vec<f64>,
    /// `[width, width]`, or `[1, width]` where components are diagonal.
    covariance: Mat<f64>,
    options: MixtureOptions,
}

impl Prior {
    fn new(points: &Mat<f64>, options: &MixtureOptions) -> Self {
        let (count, width) = (points.nrows(), points.ncols());
        let mean = (0..width).map(|j| points.col(j).iter().sum::<f64>() / count as f64).collect();
        let centred = crate::measures::centred(points);
        let covariance = match options.covariance {
            Covariance::Diag => {
                Mat::from_fn(1, width, |_, j| centred.col(j).squared_norm_l2() / (count - 1) as f64)
            }
            Covariance::Full => {
                let products = centred.transpose() * &centred;
                Mat::from_fn(width, width, |i, j| products[(i, j)] / (count - 1) as f64)
            }
        };
        Self { mean, covariance, options: *options }
    }

    /// What is believed once points belong to components so much.
    fn update(&self, points: &Mat<f64>, responsibilities: &Mat<f64>) -> Result<Posterior, LltError> {
        let (width, components) = (points.ncols(), responsibilities.ncols());
        let sizes: Vec<f64> = (0..components)
            .map(|k| responsibilities.col(k).iter().sum::<f64>() + 10.0 * f64::EPSILON)
            .collect();
        let sums = responsibilities.transpose() * points;
        let own = Mat::from_fn(components, width, |k, j| sums[(k, j)] / sizes[k]);
        let precision: Vec<f64> = sizes.iter().map(|size| 1.0 + size).collect();
        let freedom: Vec<f64> = sizes.iter().map(|size| width as f64 + size).collect();
        let means =
            Mat::from_fn(components, width, |k, j| (self.mean[j] + sizes[k] * own[(k, j)]) / precision[k]);
        let mut factors = Vec::with_capacity(components);
        for k in 0..components {
            let away = |j: usize| own[(k, j)] - self.mean[j];
            let (size, pull) = (sizes[k], sizes[k] / precision[k]);
            factors.push(match self.options.covariance {
                Covariance::Diag => {
                    let variance = |j: usize| {
                        let second: f64 = points
                            .col(j)
                            .iter()
                            .zip(responsibilities.col(k).iter())
                            .map(|(value, share)| share * (value - own[(k, j)]).powi(2))
                            .sum();
                        self.covariance[(0, j)] + second + size * LEAST_VARIANCE + pull * away(j).powi(2)
                    };
                    Mat::from_fn(1, width, |_, j| (variance(j) / freedom[k]).sqrt())
                }
                Covariance::Full => {
                    let scaled = Mat::from_fn(points.nrows(), width, |i, j| {
                        responsibilities[(i, k)].sqrt() * (points[(i, j)] - own[(k, j)])
                    });
                    let second = scaled.transpose() * &scaled;
                    let covariance = Mat::from_fn(width, width, |i, j| {
                        let least = if i == j { size * LEAST_VARIANCE } else { 0.0 };
                        (self.covariance[(i, j)] + second[(i, j)] + least + pull * away(i) * away(j))
                            / freedom[k]
                    });
                    covariance.llt(Side::Lower)?.L().to_owned()
                }
            });
        }
        // Eq. 18 and 19 of Blei and Jordan: each stick against what is left behind it.
        let mut behind = 0.0;
        let mut sticks: Vec<(f64, f64)> = sizes
            .iter()
            .rev()
            .map(|size| {
                let stick = (1.0 + size, self.options.concentration + behind);
                behind += size;
                stick
            })
            .collect();
        sticks.reverse();
        Ok(Posterior { sticks, means, precision, freedom, factors })
    }
}

/// What is believed of every component.
struct Posterior {
    /// The two parameters of each stick's beta distribution.
    sticks: Vec<(f64, f64)>,
    means: Mat<f64>,
    /// Of the mean.
    precision: Vec<f64>,
    /// Of the Wishart distribution.
    freedom: Vec<f64>,
    /// Lower Cholesky factors of the covariances, or rows of standard deviations.
    factors: Vec<Mat<f64>>,
}

impl Posterior {
    fn width(&self) -> usize {
        self.means.ncols()
    }

    /// Half the log-determinant of a component's precision.
    fn log_det(&self, k: usize) -> f64 {
        let factor = &self.factors[k];
        let diagonal = |j: usize| if factor.nrows() == 1 { factor[(0, j)] } else { factor[(j, j)] };
        -(0..self.width()).map(|j| diagonal(j).ln()).sum::<f64>()
    }

    /// How much each point belongs to each component.
    fn responsibilities(&self, points: &Mat<f64>) -> Mat<f64> {
        let width = self.width() as f64;
        let mut logs = Mat::<f64>::zeros(points.nrows(), self.sticks.len());
        let mut left = 0.0;
        for (k, (a, b)) in self.sticks.iter().enumerate() {
            let weight = digamma(*a) - digamma(a + b) + left;
            left += digamma(*b) - digamma(a + b);
            let freedom = self.freedom[k];
            let spread = width * 2.0_f64.ln()
                + (0..self.width()).map(|j| digamma(0.5 * (freedom - j as f64))).sum::<f64>();
            let constant = weight - 0.5 * width * (2.0 * std::f64::consts::PI).ln() + self.log_det(k)
                - 0.5 * width * freedom.ln()
                + 0.5 * (spread - width / self.precision[k]);
            for (point, distance) in self.distances(points, k).into_iter().enumerate() {
                logs[(point, k)] = constant - 0.5 * distance;
            }
        }
        for point in 0..logs.nrows() {
            let most = logs.row(point).iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let sum: f64 = logs.row(point).iter().map(|log| (log - most).exp()).sum();
            for k in 0..logs.ncols() {
                logs[(point, k)] = (logs[(point, k)] - most).exp() / sum;
            }
        }
        logs
    }

    /// Squared Mahalanobis distances of all points to a component.
    fn distances(&self, points: &Mat<f64>, k: usize) -> Vec<f64> {
        let factor = &self.factors[k];
        let away = |j: usize, i: usize| points[(i, j)] - self.means[(k, j)];
        let mut whitened = if factor.nrows() == 1 {
            Mat::from_fn(self.width(), points.nrows(), |j, i| away(j, i) / factor[(0, j)])
        } else {
            Mat::from_fn(self.width(), points.nrows(), away)
        };
        if factor.nrows() > 1 {
            solve_lower_triangular_in_place(factor.as_ref(), whitened.as_mut(), Par::Seq);
        }
        (0..points.nrows()).map(|i| whitened.col(i).squared_norm_l2()).collect()
    }

    /// The evidence lower bound without its constants.
    fn lower_bound(&self, responsibilities: &Mat<f64>) -> f64 {
        let width = self.width() as f64;
        let entropy: f64 = (0..responsibilities.ncols())
            .flat_map(|k| responsibilities.col(k).iter())
            .filter(|share| **share > 0.0)
            .map(|share| -share * share.ln())
            .sum();
        let of_component = |k: usize| {
            let freedom = self.freedom[k];
            let log_det = self.log_det(k) - 0.5 * width * freedom.ln();
            let gammas: f64 = (0..self.width()).map(|j| ln_gamma(0.5 * (freedom - j as f64))).sum();
            let wishart = freedom * log_det + freedom * width * 0.5 * 2.0_f64.ln() + gammas;
            let (a, b) = self.sticks[k];
            wishart + ln_beta(a, b) - 0.5 * width * self.precision[k].ln()
        };
        entropy + (0..self.sticks.len()).map(of_component).sum::<f64>()
    }

    fn weights(&self) -> Vec<f64> {
        let mut left = 1.0;
        let weights: Vec<f64> = self
            .sticks
            .iter()
            .map(|(a, b)| {
                let weight = a / (a + b) * left;
                left *= b / (a + b);
                weight
            })
            .collect();
        let total: f64 = weights.iter().sum();
        weights.into_iter().map(|weight| weight / total).collect()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::{agreement::adjusted_rand, measures::tests::matrix};

    /// What `tests/mixture.py` wrote.
    #[derive(Deserialize)]
    struct Reference {
        points: Vec<Vec<f64>>,
        groups: Vec<usize>,
        responsibilities: Vec<Vec<f64>>,
        cases: Vec<Case>,
    }

    #[derive(Deserialize)]
    struct Case {
        covariance: Covariance,
        concentration: f64,
        iterations: usize,
        lower_bound: f64,
        rounds: usize,
        converged: bool,
        weights: Vec<f64>,
        means: Vec<Vec<f64>>,
        labels: Vec<usize>,
    }

    fn reference() -> Reference {
        serde_json::from_str(include_str!("../tests/mixture.json")).unwrap()
    }

    fn options(covariance: Covariance, concentration: f64, iterations: usize) -> MixtureOptions {
        MixtureOptions { covariance, concentration, tolerance: 1e-3, iterations }
    }

    /// Both sides sum in other orders and use other gamma functions: relative 1e-7 after up to 500 rounds.
    #[track_caller]
    fn near(found: f64, expected: f64) {
        assert!((found - expected).abs() <= 1e-7 * expected.abs().max(1.0), "{found} is not {expected}");
    }

    #[test]
    fn a_fit_goes_the_way_of_scikit_learn() {
        let reference = reference();
        let points = matrix(&reference.points);
        let mut seen = Vec::new();
        for case in reference.cases {
            let options = options(case.covariance, case.concentration, case.iterations);
            let found = fit(&points, matrix(&reference.responsibilities), &options).unwrap();
            near(found.lower_bound, case.lower_bound);
            assert_eq!((found.iterations, found.converged), (case.rounds, case.converged));
            assert_eq!(found.labels, case.labels);
            for (k, expected) in case.weights.iter().enumerate() {
                near(found.weights[k], *expected);
                for (j, expected) in case.means[k].iter().enumerate() {
                    near(found.means[(k, j)], *expected);
                }
            }
            seen.push((case.covariance, case.converged));
        }
        assert!(seen.contains(&(Covariance::Diag, true)) && seen.contains(&(Covariance::Full, true)));
        assert!(seen.contains(&(Covariance::Diag, false)), "one case ends by its iterations");
    }

    #[test]
    fn groups_are_found_from_a_seed_without_being_counted() {
        let reference = reference();
        let points = matrix(&reference.points);
        let start = |seed| k_means(&points, 8, &mut ChaCha8Rng::seed_from_u64(seed));
        assert_eq!(start(1), start(1));
        for covariance in [Covariance::Diag, Covariance::Full] {
            let found = fit(&points, start(1), &options(covariance, 1.0 / 8.0, 500)).unwrap();
            let agreement = adjusted_rand(&found.labels, &reference.groups);
            assert!(agreement > 0.85, "{covariance:?}: {agreement}");
        }
    }

    #[test]
    fn equal_points_are_one_group() {
        let points = Mat::from_fn(9, 3, |_, j| j as f64);
        let start = k_means(&points, 4, &mut ChaCha8Rng::seed_from_u64(1));
        let found = fit(&points, start, &options(Covariance::Full, 0.25, 50)).unwrap();
        assert_eq!(found.labels, [found.labels[0]; 9]);
        assert!(found.lower_bound.is_finite());
    }
}
