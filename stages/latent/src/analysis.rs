//! One pass over the models: each set of weights is read once, measured at every layer and drawn at one.

use std::collections::{BTreeMap, BTreeSet};

use contract::{Context, Digest, Input, StageError, records::QuestionRationales};
use faer::{Mat, linalg::solvers::SvdError};
use lm::LanguageModel;
use rand::Rng;

use crate::{
    measures::{anisotropy, linear_cka, silhouettes, spread},
    projection::{LEAST_POINTS, pca, possible_perplexity, tsne},
    results::{Analysis, LayerNumbers, Point, Setting, rounded},
    stage::{Layer, Params},
    vectors::{Text, texts, vectors},
};

/// A model under its names.
pub(crate) struct Subject<'a> {
    /// Whether it is the undistilled model.
    pub(crate) control: bool,
    /// Its artifact.
    pub(crate) input: &'a Input,
    /// Its name for people.
    pub(crate) label: String,
    /// Its name as a file, without ending.
    pub(crate) file: String,
}

/// Why an analysis is impossible.
#[derive(Debug, thiserror::Error)]
enum LatentError {
    #[error("{found} texts are too few to draw: at least {LEAST_POINTS} are needed")]
    TooFewTexts { found: usize },
    #[error("model `{model}` has layers 0 to {last}, and no layer {layer}")]
    NoLayer { model: String, layer: usize, last: usize },
    #[error(
        "model `{model}` can read other texts than the first model: a text too long for one is not for the other"
    )]
    OtherTexts { model: String },
    #[error("model `{model}` has hidden states that are not finite")]
    NotFinite { model: String },
    #[error("the singular values of model `{model}` were not found: {problem:?}")]
    Decomposition { model: String, problem: SvdError },
}

impl From<LatentError> for StageError {
    fn from(error: LatentError) -> Self {
        let help = match error {
            LatentError::TooFewTexts { .. } => Some("keep more rationales, or raise `texts`"),
            LatentError::OtherTexts { .. } => Some("compare models of one tokenizer and context length"),
            LatentError::NotFinite { .. } => Some("its training diverged: lower the learning rate"),
            LatentError::NoLayer { .. } | LatentError::Decomposition { .. } => None,
        };
        match help {
            Some(help) => Self::failed(error).with_help(help),
            None => Self::failed(error),
        }
    }
}

/// Measures every distinct set of weights; subjects that share one share its result.
///
/// The control, where there is one, comes first. The first subject decides which texts are short enough; the
/// others have to read the same ones.
pub(crate) fn analyse(
    params: &Params,
    context: &Context,
    subjects: &[Subject],
    perspectives: Vec<String>,
    records: &[QuestionRationales],
) -> Result<(Setting, BTreeMap<Digest, Analysis>), StageError> {
    let device = lm::device::open(context.backend())?;
    let distinct = subjects.iter().map(|subject| &subject.input.digest).collect::<BTreeSet<_>>().len();
    let mut analyses = BTreeMap::new();
    let mut frame: Option<Frame> = None;
    let mut control: Option<Vec<Mat<f64>>> = None;
    for subject in subjects {
        if analyses.contains_key(&subject.input.digest) {
            continue;
        }
        let model = LanguageModel::load(&subject.input.path, &device)?;
        let (texts, sequences, too_long) = texts(&model, &perspectives, records)?;
        let frame = match frame {
            Some(ref frame) => frame,
            None => {
                if too_long > 0 {
                    context.note(format!("{too_long} rationales are too long for the models and left out"));
                }
                frame.insert(Frame::new(params, &perspectives, texts.clone(), &model, &subject.label)?)
            }
        };
        if frame.texts != texts {
            return Err(LatentError::OtherTexts { model: subject.label.clone() }.into());
        }

        let (mut done, total) = (analyses.len() * texts.len(), distinct * texts.len());
        let vectors = vectors(&model, &sequences, params.pooling, params.batch_size, |count| {
            done += count;
            context.progress(done, total, "texts");
            context.check_cancelled()
        })?;
        let reference = if subject.control { Some(&vectors) } else { control.as_ref() };
        let analysis =
            frame.measure(&vectors, reference, params, &subject.label, &mut context.rng("t-sne"))?;
        analyses.insert(subject.input.digest.clone(), analysis);
        if subject.control {
            control = Some(vectors);
        }
    }
    let frame = frame.expect("the port `models` holds at least one model");
    if frame.setting.perplexity < params.perplexity {
        context.note(format!("perplexity lowered to {}: the texts are few", frame.setting.perplexity));
    }
    Ok((frame.setting, analyses))
}

/// What is the same for every model.
struct Frame {
    setting: Setting,
    texts: Vec<Text>,
}

impl Frame {
    fn new(
        params: &Params,
        perspectives: &[String],
        texts: Vec<Text>,
        model: &LanguageModel,
        label: &str,
    ) -> Result<Self, LatentError> {
        if texts.len() < LEAST_POINTS {
            return Err(LatentError::TooFewTexts { found: texts.len() });
        }
        let last = model.config.num_hidden_layers;
        let layer = match params.layer {
            Layer::Last => last,
            Layer::Index(layer) if layer <= last => layer,
            Layer::Index(layer) => return Err(LatentError::NoLayer { model: label.to_owned(), layer, last }),
        };
        let setting = Setting {
            texts: texts.len(),
            questions: texts.iter().map(|text| &text.question).collect::<BTreeSet<_>>().len(),
            perspectives: perspectives.to_vec(),
            layer,
            pooling: params.pooling,
            perplexity: possible_perplexity(params.perplexity, texts.len()),
            iterations: params.iterations,
        };
        Ok(Self { setting, texts })
    }

    fn measure(
        &self,
        layers: &[Mat<f64>],
        control: Option<&Vec<Mat<f64>>>,
        params: &Params,
        label: &str,
        rng: &mut impl Rng,
    ) -> Result<Analysis, StageError> {
        let model = || label.to_owned();
        if !layers.iter().all(|vectors| vectors.is_all_finite()) {
            return Err(LatentError::NotFinite { model: model() }.into());
        }
        let drawn = layers.get(self.setting.layer).ok_or_else(|| LatentError::NoLayer {
            model: model(),
            layer: self.setting.layer,
            last: layers.len() - 1,
        })?;
        let decomposition = |problem| LatentError::Decomposition { model: model(), problem };
        let groups: Vec<usize> = self.texts.iter().map(|text| text.perspective).collect();
        let control = control.filter(|control| control.len() == layers.len());

        let mut numbers = Vec::new();
        for (layer, vectors) in layers.iter().enumerate() {
            let spread = spread(vectors).map_err(decomposition)?;
            numbers.push(LayerNumbers {
                layer,
                silhouette: silhouettes(vectors, &groups).map(|each| rounded(mean(&each))),
                effective_rank: rounded(spread.effective_rank),
                participation_ratio: rounded(spread.participation_ratio),
                anisotropy: rounded(anisotropy(vectors)),
                cka_to_undistilled: control
                    .and_then(|control| linear_cka(vectors, &control[layer]))
                    .map(rounded),
            });
        }

        let pca = pca(drawn, params.pca).map_err(decomposition)?;
        let places =
            tsne(&pca.scores, self.setting.perplexity, params.iterations, rng).map_err(StageError::failed)?;
        let each = silhouettes(drawn, &groups).unwrap_or_default();
        let by_perspective = self.setting.perspectives.iter().enumerate().filter_map(|(group, name)| {
            let own: Vec<f64> =
                each.iter().zip(&groups).filter(|(_, of)| **of == group).map(|(value, _)| *value).collect();
            (!own.is_empty()).then(|| (name.clone(), rounded(mean(&own))))
        });
        Ok(Analysis {
            silhouette_by_perspective: by_perspective.collect(),
            components: pca.scores.ncols(),
            explained_variance: rounded(pca.explained.iter().sum()),
            layers: numbers,
            points: self
                .texts
                .iter()
                .zip(places)
                .map(|(text, place)| Point::new(text, &self.setting.perspectives, place))
                .collect(),
        })
    }
}

fn mean(values: &[f64]) -> f64 {
    values.iter().sum::<f64>() / values.len() as f64
}
