//! The kind: its ports, its params, and which texts and models an analysis is about.

use std::collections::BTreeSet;

use contract::{
    ArtifactType, Context, FilePath, Port, PortFlow, Stage, StageError, jsonl,
    records::{QuestionRationales, files},
};
use rand::{Rng, seq::SliceRandom};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    analysis::analyse, mixture::Covariance, projection::LEAST_POINTS, results::write, subject::subjects,
};

/// How the analysis is made.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The layer that is drawn; every layer is measured. Default `last`.
    #[serde(default)]
    pub layer: Layer,
    /// How the tokens of a text become one vector. Default `mean`.
    #[serde(default)]
    pub pooling: Pooling,
    /// Most rationales to read, in whole questions drawn by the seed. Default 400.
    #[serde(default = "default_texts")]
    pub texts: usize,
    /// Most principal components that t-SNE sees. Default 50.
    #[serde(default = "default_pca")]
    pub pca: usize,
    /// Perplexity of t-SNE, lowered to a third of the texts where they are few. Default 30.
    #[serde(default = "default_perplexity")]
    pub perplexity: f64,
    /// Iterations of t-SNE, the first quarter with exaggeration. Default 500.
    #[serde(default = "default_iterations")]
    pub iterations: usize,
    /// The Dirichlet-process mixture that groups the principal components.
    #[serde(default)]
    pub mixture: MixtureParams,
    /// The axis of the models that says which one perspective each was taught, for perspective clusters; needs `base`.
    /// Default: none, and no clusters.
    #[serde(default)]
    pub taught: Option<String>,
    /// The same pictures of a sentence encoder's vectors. Default: none.
    #[serde(default)]
    pub sentence_space: Option<SentenceSpace>,
    /// Texts the model reads at once; memory grows with it, results change by rounding alone. Default 16.
    #[serde(default = "default_batch_size")]
    pub batch_size: usize,
}

/// How the mixture is fitted. Defaults are scikit-learn's, where not said otherwise.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MixtureParams {
    /// Most principal components that the mixture sees. Default 10: with 50 and some hundred texts the prior outweighs the
    /// texts, and all of them are one group.
    #[serde(default = "default_mixture_pca")]
    pub pca: usize,
    /// The most groups it can find. Default: twice the perspectives.
    #[serde(default)]
    pub components: Option<usize>,
    /// The shape of a group: `diag`, or `full`, which wants many more texts than principal components. Default `diag`.
    #[serde(default)]
    pub covariance: Covariance,
    /// The concentration of the process; low ones find fewer groups. Default: 1 / `components`.
    #[serde(default)]
    pub concentration: Option<f64>,
    /// Most rounds of a fit. Default 500.
    #[serde(default = "default_iterations")]
    pub iterations: usize,
}

impl Default for MixtureParams {
    fn default() -> Self {
        Self {
            pca: default_mixture_pca(),
            components: None,
            covariance: Covariance::default(),
            concentration: None,
            iterations: default_iterations(),
        }
    }
}

/// What a sentence encoder reads: the rationales, and with `taught` also what each student writes.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SentenceSpace {
    /// A BERT or Sentence-BERT folder with safetensors.
    pub encoder: FilePath,
    /// Most questions each student writes a rationale for. Default 25.
    #[serde(default = "default_questions")]
    pub questions: usize,
    /// Where a student's rationale is cut, in tokens. Default 256.
    #[serde(default = "default_max_new_tokens")]
    pub max_new_tokens: usize,
}

/// A layer of hidden states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// After the last block and the final norm.
    #[default]
    Last,
    /// 0 is the embeddings, n the states after block n.
    Index(usize),
}

/// How the tokens of a text become one vector. Prompt and padding never count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The mean over the rationale's tokens.
    #[default]
    Mean,
    /// The state at the rationale's last token.
    LastToken,
}

fn default_texts() -> usize {
    400
}

fn default_pca() -> usize {
    50
}

fn default_perplexity() -> f64 {
    30.0
}

fn default_iterations() -> usize {
    500
}

fn default_mixture_pca() -> usize {
    10
}

fn default_questions() -> usize {
    25
}

fn default_max_new_tokens() -> usize {
    256
}

fn default_batch_size() -> usize {
    16
}

/// Kind `latent`.
pub struct Latent;

impl Stage for Latent {
    type Params = Params;

    const NAME: &'static str = "latent";
    const VERSION: u32 = 5;
    const ABOUT: &'static str = "draws and measures what models make of the same rationales";
    const SEEDED: bool = true;
    const COMPUTES: bool = true;
    const INPUTS: &'static [Port] = &[
        Port::input("models", ArtifactType::Model, PortFlow::Measures, "the models to compare").many(),
        Port::input("base", ArtifactType::Model, PortFlow::Measures, "the undistilled model, as control")
            .optional(),
        Port::input("rationales", ArtifactType::Rationales, PortFlow::Measures, "the texts they read"),
        Port::input(
            "completions",
            ArtifactType::Completions,
            PortFlow::Measures,
            "right and wrong texts, to probe for",
        )
        .optional(),
    ];
    const OUTPUTS: &'static [Port] =
        &[Port::output("figures", ArtifactType::Figures, "figures with their numbers, and a summary")];

    fn check(params: &Params) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut least = |field: &str, value: usize, least: usize| {
            if value < least {
                problems.push((format!("/{field}"), format!("must be at least {least}")));
            }
        };
        least("texts", params.texts, LEAST_POINTS);
        least("pca", params.pca, 2);
        least("iterations", params.iterations, 1);
        least("batch_size", params.batch_size, 1);
        least("mixture/pca", params.mixture.pca, 1);
        least("mixture/components", params.mixture.components.unwrap_or(1), 1);
        least("mixture/iterations", params.mixture.iterations, 1);
        if let Some(space) = &params.sentence_space {
            least("sentence_space/questions", space.questions, 1);
            least("sentence_space/max_new_tokens", space.max_new_tokens, 1);
        }
        let concentration = params.mixture.concentration.unwrap_or(1.0);
        if !(concentration > 0.0 && concentration.is_finite()) {
            problems.push(("/mixture/concentration".to_owned(), "must be above 0".to_owned()));
        }
        if !(params.perplexity >= 1.0 && params.perplexity.is_finite()) {
            problems.push(("/perplexity".to_owned(), "must be at least 1".to_owned()));
        }
        problems
    }

    fn run(params: Params, context: &Context) -> Result<(), StageError> {
        let rationales = context.input("rationales");
        let perspectives = jsonl::read_json(&rationales.file(files::PERSPECTIVES))?;
        let records = jsonl::read(&rationales.file(files::RATIONALES))?;
        let records = sample(records, params.texts, &mut context.rng("texts"));
        let subjects = subjects(context);
        let findings = analyse(&params, context, &subjects, perspectives, &records)?;
        write(context.output("figures"), &subjects, &findings)
    }
}

/// Whole questions drawn without order and kept in order, with at most so many rationales; at least one question.
pub(crate) fn sample(
    records: Vec<QuestionRationales>,
    most: usize,
    rng: &mut impl Rng,
) -> Vec<QuestionRationales> {
    let mut order: Vec<usize> = (0..records.len()).collect();
    order.shuffle(rng);
    let mut total = 0;
    let kept: BTreeSet<usize> = order
        .into_iter()
        .take_while(|index| {
            let before = total;
            total += records[*index].rationales.len();
            before == 0 || total <= most
        })
        .collect();
    records
        .into_iter()
        .enumerate()
        .filter(|(index, _)| kept.contains(index))
        .map(|(_, record)| record)
        .collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
pub(crate) mod tests;
