//! One set of vectors as a picture with its numbers: PCA, t-SNE, a mixture's groups, silhouettes.

use std::collections::BTreeMap;

use contract::Context;
use faer::{
    Mat,
    linalg::solvers::{LltError, SvdError},
};
use rand::Rng;
use rayon::ThreadPoolBuildError;
use serde::Serialize;

use crate::{
    agreement::{adjusted_rand, normalized_mutual_information},
    measures::silhouettes,
    mixture::{MixtureOptions, fit, k_means},
    projection::{LEAST_POINTS, pca, possible_perplexity, trustworthiness, tsne},
    stage::{MixtureParams, Params},
    vectors::Text,
};

/// Components a fit moves by less than this per round count as settled; scikit-learn's default.
const TOLERANCE: f64 = 1e-3;

/// A component that holds less than this share of the texts is empty.
const LEAST_WEIGHT: f64 = 0.01;

/// Why vectors cannot be drawn.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PictureError {
    #[error("{found} texts are too few to draw: at least {LEAST_POINTS} are needed")]
    TooFewTexts { found: usize },
    #[error("the singular values were not found: {0:?}")]
    Decomposition(SvdError),
    #[error("a component of the mixture has no covariance: {0:?}")]
    Covariance(LltError),
    #[error("no thread could be started")]
    Threads(#[source] ThreadPoolBuildError),
}

/// What a Dirichlet-process mixture finds in the principal components, and how well it agrees with the perspectives.
#[derive(Clone, Serialize)]
pub(crate) struct Grouping {
    /// Components that hold at least a hundredth of the texts.
    pub(crate) groups: usize,
    /// Components it could have used.
    pub(crate) truncation: usize,
    /// Agreement with the perspectives: 1 for the same grouping, about 0 by chance.
    pub(crate) adjusted_rand: f64,
    /// Agreement with the perspectives, from 0 to 1; by chance above 0.
    pub(crate) normalized_mutual_information: f64,
    /// The evidence lower bound without its constants.
    pub(crate) lower_bound: f64,
    /// Rounds made.
    pub(crate) rounds: usize,
    /// Whether the bound had settled by then.
    pub(crate) converged: bool,
}

impl Grouping {
    /// Groups points by their first principal components, and also gives the group of each.
    pub(crate) fn find(
        scores: &Mat<f64>,
        perspective_of: &[usize],
        params: &MixtureParams,
        rng: &mut impl Rng,
    ) -> Result<(Self, Vec<usize>), PictureError> {
        let perspectives = perspective_of.iter().max().map_or(0, |last| last + 1);
        let truncation = params.components.unwrap_or(2 * perspectives).min(scores.nrows());
        let options = MixtureOptions {
            covariance: params.covariance,
            concentration: params.concentration.unwrap_or(1.0 / truncation as f64),
            tolerance: TOLERANCE,
            iterations: params.iterations,
        };
        let scores = scores.subcols(0, params.pca.min(scores.ncols())).to_owned();
        let mixture =
            fit(&scores, k_means(&scores, truncation, rng), &options).map_err(PictureError::Covariance)?;
        let grouping = Self {
            groups: mixture.weights.iter().filter(|weight| **weight >= LEAST_WEIGHT).count(),
            truncation,
            adjusted_rand: rounded(adjusted_rand(&mixture.labels, perspective_of)),
            normalized_mutual_information: rounded(normalized_mutual_information(
                &mixture.labels,
                perspective_of,
            )),
            lower_bound: rounded(mixture.lower_bound),
            rounds: mixture.iterations,
            converged: mixture.converged,
        };
        Ok((grouping, mixture.labels))
    }
}

/// A picture with its numbers.
#[derive(Clone, Serialize)]
pub(crate) struct Picture {
    /// Mean cosine silhouette of the vectors by perspective.
    pub(crate) silhouette: Option<f64>,
    /// The same for the texts of each perspective.
    pub(crate) silhouette_by_perspective: BTreeMap<String, f64>,
    /// What a mixture finds without being told of perspectives.
    pub(crate) mixture: Grouping,
    /// The principal components t-SNE saw.
    pub(crate) components: usize,
    /// The share of the variance they hold.
    pub(crate) explained_variance: f64,
    /// The perplexity used, which few texts make smaller than the one asked for.
    pub(crate) perplexity: f64,
    /// How far neighbours in the picture are neighbours among the components: 1 at best.
    pub(crate) trustworthiness: f64,
    /// One entry a text.
    pub(crate) points: Vec<Point>,
}

/// Where a text lies in the picture.
#[derive(Clone, Serialize)]
pub(crate) struct Point {
    /// The question's id.
    pub(crate) question: String,
    /// The perspective's name.
    pub(crate) perspective: String,
    /// Rightwards.
    pub(crate) x: f64,
    /// Upwards.
    pub(crate) y: f64,
    /// The mixture's component.
    pub(crate) group: usize,
}

impl Picture {
    /// Draws vectors, one text a row, and also gives the silhouette of each.
    pub(crate) fn draw(
        vectors: &Mat<f64>,
        texts: &[Text],
        perspectives: &[String],
        params: &Params,
        context: &Context,
    ) -> Result<(Self, Vec<f64>), PictureError> {
        if texts.len() < LEAST_POINTS {
            return Err(PictureError::TooFewTexts { found: texts.len() });
        }
        let perspective_of: Vec<usize> = texts.iter().map(|text| text.perspective).collect();
        let each = silhouettes(vectors, &perspective_of);
        let pca = pca(vectors, params.pca).map_err(PictureError::Decomposition)?;
        let (mixture, groups) =
            Grouping::find(&pca.scores, &perspective_of, &params.mixture, &mut context.rng("mixture"))?;
        let perplexity = possible_perplexity(params.perplexity, texts.len());
        let places = tsne(&pca.scores, perplexity, params.iterations, &mut context.rng("t-sne"))
            .map_err(PictureError::Threads)?;
        let by_perspective = perspectives.iter().enumerate().filter_map(|(perspective, name)| {
            let own = each.iter().flatten().zip(&perspective_of);
            let own: Vec<f64> = own.filter(|(_, of)| **of == perspective).map(|(value, _)| *value).collect();
            (!own.is_empty()).then(|| (name.clone(), rounded(mean(&own))))
        });
        let point = |((text, place), group): ((&Text, &[f64; 2]), &usize)| {
            let [x, y] = place.map(|value| (value * 1e3).round() / 1e3);
            let perspective = perspectives[text.perspective].clone();
            Point { question: text.question.clone(), perspective, x, y, group: *group }
        };
        let picture = Self {
            silhouette: each.as_deref().map(|each| rounded(mean(each))),
            silhouette_by_perspective: by_perspective.collect(),
            mixture,
            components: pca.scores.ncols(),
            explained_variance: rounded(pca.explained.iter().sum()),
            perplexity,
            trustworthiness: rounded(trustworthiness(&pca.scores, &places)),
            points: texts.iter().zip(&places).zip(&groups).map(point).collect(),
        };
        Ok((picture, each.unwrap_or_default()))
    }
}

/// The mean; of nothing, not a number.
pub(crate) fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}

/// Six decimals: more would be noise.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}
