//! One pass over the models: each set of weights is read once, measured at every layer and drawn at one.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use contract::{Context, Digest, StageError, jsonl, records::QuestionRationales, records::files};
use faer::{Mat, linalg::solvers::SvdError};
use lm::{LanguageModel, batch::Sequence, encoder::SentenceEncoder};
use rayon::prelude::*;

use crate::{
    agreement::interval,
    clusters::{
        Class, Difference, arranged, classes, judge, same_texts_silhouette, swapped_silhouettes, taught,
    },
    drift::divergences,
    measures::{anisotropy, linear_cka, silhouettes, spread, unbiased_linear_cka},
    picture::{Grouping, Picture, PictureError, mean, rounded},
    probe::{Probe, probe},
    projection::{LEAST_POINTS, pca, possible_perplexity},
    results::{Analysis, Clusters, Findings, LayerNumbers, Sentences, Setting, Written},
    sentences::{embed, written},
    stage::{Layer, Params, sample},
    subject::Subject,
    vectors::{Text, marked, texts, vectors},
};

/// Why an analysis is impossible.
#[derive(Debug, thiserror::Error)]
enum LatentError {
    #[error("model `{model}` has layers 0 to {last}, and no layer {layer}")]
    NoLayer { model: String, layer: usize, last: usize },
    #[error(
        "model `{model}` can read other texts than the first model: a text too long for one is not for the other"
    )]
    OtherTexts { model: String },
    #[error("model `{model}` has hidden states that are not finite")]
    NotFinite { model: String },
    #[error("model `{model}`: {problem}")]
    Decomposition { model: String, problem: String },
    #[error("{0}")]
    Picture(#[from] PictureError),
    #[error(
        "no two models were taught different perspectives by their axis `{axis}`; perspectives are {known}"
    )]
    NoClasses { axis: String, known: String },
    #[error("clusters of single-perspective models mean nothing without a control")]
    NoControl,
    #[error("the texts are all of one perspective, as far as it was taught to a student")]
    OnePerspective,
    #[error("model `{model}` has vectors of another width than the control")]
    OtherWidth { model: String },
}

impl From<LatentError> for StageError {
    fn from(error: LatentError) -> Self {
        let help = match &error {
            LatentError::Picture(PictureError::TooFewTexts { .. }) => {
                Some("keep more rationales, or raise `texts`")
            }
            LatentError::OtherTexts { .. } => Some("compare models of one tokenizer and context length"),
            LatentError::NotFinite { .. } => Some("its training diverged: lower the learning rate"),
            LatentError::NoClasses { .. } => {
                Some("let `taught` name the axis of the models whose values are perspectives")
            }
            LatentError::NoControl => Some("give the undistilled model on the port `base`"),
            LatentError::OnePerspective => Some("keep rationales of more perspectives"),
            LatentError::OtherWidth { .. } => Some("compare students of one base model"),
            LatentError::NoLayer { .. } | LatentError::Decomposition { .. } | LatentError::Picture(_) => None,
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
) -> Result<Findings, StageError> {
    let device = lm::device::open(context.backend())?;
    let classes = match &params.taught {
        Some(axis) => {
            let classes = classes(subjects, axis, &perspectives);
            if classes.is_empty() {
                let (axis, known) = (axis.clone(), perspectives.join(", "));
                return Err(LatentError::NoClasses { axis, known }.into());
            }
            if !subjects.iter().any(|subject| subject.control) {
                return Err(LatentError::NoControl.into());
            }
            classes
        }
        None => Vec::new(),
    };
    let space = params.sentence_space.as_ref();
    let pupils: BTreeSet<&Digest> = classes
        .iter()
        .flat_map(|class| class.students.values())
        .map(|student| &student.input.digest)
        .collect();
    let asked = &records[..records.len().min(space.map_or(0, |space| space.questions))];
    let completions = completions(params, context)?;

    let distinct = subjects.iter().map(|subject| &subject.input.digest).collect::<BTreeSet<_>>().len();
    let mut analyses = BTreeMap::new();
    let mut drawn: BTreeMap<&Digest, Mat<f64>> = BTreeMap::new();
    let mut answers: BTreeMap<&Digest, Vec<String>> = BTreeMap::new();
    let mut frame: Option<Frame> = None;
    let mut control: Option<Control> = None;
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
                frame.insert(Frame::new(
                    params,
                    context,
                    &perspectives,
                    texts.clone(),
                    &model,
                    &subject.label,
                )?)
            }
        };
        if frame.texts != texts {
            return Err(LatentError::OtherTexts { model: subject.label.clone() }.into());
        }

        let (mut done, total) = (analyses.len() * texts.len(), distinct * texts.len());
        let layers = vectors(&model, &sequences, params.pooling, params.batch_size, |count| {
            done += count;
            context.progress(done, total, "texts");
            context.check_cancelled()
        })?;
        let reference =
            if subject.control { Some(&layers) } else { control.as_ref().map(|control| &control.layers) };
        let mut analysis = frame.measure(&layers, reference, &subject.label)?;
        if let Some(control) = &control {
            analysis.drift = frame.drift(&control.model, &model, &sequences)?;
        }
        analysis.correctness_probe = frame.correctness(&model, &completions)?;
        if let Some(space) = space.filter(|_| pupils.contains(&subject.input.digest)) {
            answers.insert(&subject.input.digest, written(&model, asked, space, params.batch_size, context)?);
        }
        analyses.insert(subject.input.digest.clone(), analysis);
        if !classes.is_empty() {
            drawn.insert(&subject.input.digest, layers[frame.setting.layer].clone());
        }
        if subject.control {
            control = Some(Control { layers, model });
        }
    }
    let frame = frame.expect("the port `models` holds at least one model");
    if frame.setting.perplexity < params.perplexity {
        context.note(format!("perplexity lowered to {}: the texts are few", frame.setting.perplexity));
    }
    drop(control);
    let base = subjects.iter().find(|subject| subject.control).map(|subject| &subject.input.digest);
    let clusters =
        classes.iter().map(|class| frame.clusters(class, &drawn, base)).collect::<Result<Vec<_>, _>>()?;
    for found in &clusters {
        context.note(found.to_string());
    }
    let sentences = match space {
        Some(space) => {
            let encoder = SentenceEncoder::load(Path::new(space.encoder.as_ref()), &device)?;
            Some(frame.sentences(&encoder, records, asked, &classes, &answers)?)
        }
        None => None,
    };
    Ok(Findings { setting: frame.setting, analyses, clusters, sentences })
}

/// Completions as the teacher wrote them, where they are given: whole questions, as many texts as rationales.
fn completions(params: &Params, context: &Context) -> Result<Vec<QuestionRationales>, StageError> {
    match context.optional("completions") {
        Some(input) => {
            let records = jsonl::read(&input.file(files::COMPLETIONS))?;
            Ok(sample(records, params.texts, &mut context.rng("completions")))
        }
        None => Ok(Vec::new()),
    }
}

/// What the undistilled model made of the texts.
struct Control {
    layers: Vec<Mat<f64>>,
    model: LanguageModel,
}

/// What is the same for every model.
struct Frame<'a> {
    params: &'a Params,
    context: &'a Context<'a>,
    setting: Setting,
    texts: Vec<Text>,
}

impl<'a> Frame<'a> {
    fn new(
        params: &'a Params,
        context: &'a Context<'a>,
        perspectives: &[String],
        texts: Vec<Text>,
        model: &LanguageModel,
        label: &str,
    ) -> Result<Self, LatentError> {
        if texts.len() < LEAST_POINTS {
            return Err(PictureError::TooFewTexts { found: texts.len() }.into());
        }
        let last = model.config.num_hidden_layers;
        let layer = match params.layer {
            Layer::Last => last,
            Layer::Index(layer) if layer <= last => layer,
            Layer::Index(layer) => return Err(LatentError::NoLayer { model: label.to_owned(), layer, last }),
        };
        let setting = Setting {
            texts: texts.len(),
            questions: questions(&texts).into_iter().collect::<BTreeSet<_>>().len(),
            perspectives: perspectives.to_vec(),
            layer,
            pooling: params.pooling,
            perplexity: possible_perplexity(params.perplexity, texts.len()),
            iterations: params.iterations,
        };
        Ok(Self { params, context, setting, texts })
    }

    /// Everything but what needs another model or other texts.
    fn measure(
        &self,
        layers: &[Mat<f64>],
        control: Option<&Vec<Mat<f64>>>,
        label: &str,
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
        let control = control.filter(|control| control.len() == layers.len());
        let perspective_of: Vec<usize> = self.texts.iter().map(|text| text.perspective).collect();
        let numbers = |layer: usize| -> Result<LayerNumbers, LatentError> {
            let vectors = &layers[layer];
            let problem = |problem: SvdError| LatentError::Decomposition {
                model: model(),
                problem: format!("{problem:?}"),
            };
            let spread = spread(vectors).map_err(problem)?;
            let scores = pca(vectors, self.params.pca).map_err(problem)?.scores;
            let mut rng = self.context.rng("mixture");
            let (grouping, _) = Grouping::find(&scores, &perspective_of, &self.params.mixture, &mut rng)?;
            let like = |cka: fn(&Mat<f64>, &Mat<f64>) -> Option<f64>| {
                control.and_then(|control| cka(vectors, &control[layer])).map(rounded)
            };
            Ok(LayerNumbers {
                layer,
                silhouette: silhouettes(vectors, &perspective_of).map(|each| rounded(mean(&each))),
                adjusted_rand: grouping.adjusted_rand,
                normalized_mutual_information: grouping.normalized_mutual_information,
                effective_rank: rounded(spread.effective_rank),
                participation_ratio: rounded(spread.participation_ratio),
                anisotropy: rounded(anisotropy(vectors)),
                cka_to_undistilled: like(unbiased_linear_cka),
                biased_cka_to_undistilled: like(linear_cka),
            })
        };
        let layers =
            (0..layers.len()).into_par_iter().map(numbers).collect::<Result<Vec<_>, LatentError>>()?;
        let (picture, _) = self.draw(drawn, &self.texts)?;
        let perspective_probe =
            probe(drawn, &perspective_of, &questions(&self.texts), &mut self.context.rng("probe"));
        Ok(Analysis {
            picture,
            layers,
            drift: None,
            perspective_probe: perspective_probe.map(Probe::rounded),
            correctness_probe: None,
        })
    }

    /// How far the model's next tokens are from the undistilled model's, over the texts.
    fn drift(
        &self,
        base: &LanguageModel,
        model: &LanguageModel,
        sequences: &[Sequence],
    ) -> Result<Option<Difference>, StageError> {
        let go_on = || self.context.check_cancelled();
        let each = divergences(base, model, sequences, self.params.batch_size, &go_on)?;
        Ok(each.map(|each| Difference {
            mean: rounded(mean(&each)),
            interval: interval(&each, &questions(&self.texts), &mut self.context.rng("drift")).map(rounded),
        }))
    }

    /// Whether it can be read off the model's vectors that a completion ends in a wrong answer.
    fn correctness(
        &self,
        model: &LanguageModel,
        completions: &[QuestionRationales],
    ) -> Result<Option<Probe>, StageError> {
        if completions.is_empty() {
            return Ok(None);
        }
        let marked = marked(model, completions)?;
        let layers = vectors(model, &marked.sequences, self.params.pooling, self.params.batch_size, |_| {
            self.context.check_cancelled()
        })?;
        let questions: Vec<&str> = marked.questions.iter().map(String::as_str).collect();
        let found =
            probe(&layers[self.setting.layer], &marked.right, &questions, &mut self.context.rng("probe"));
        Ok(found.map(Probe::rounded))
    }

    fn draw(&self, vectors: &Mat<f64>, texts: &[Text]) -> Result<(Picture, Vec<f64>), LatentError> {
        Ok(Picture::draw(vectors, texts, &self.setting.perspectives, self.params, self.context)?)
    }

    /// A class of single-perspective students against its controls.
    fn clusters(
        &self,
        class: &Class,
        drawn: &BTreeMap<&Digest, Mat<f64>>,
        base: Option<&Digest>,
    ) -> Result<Clusters, LatentError> {
        let control = &drawn[base.expect("clusters are refused without a control")];
        let mut by_student = BTreeMap::new();
        for (perspective, student) in &class.students {
            let vectors = &drawn[&student.input.digest];
            if vectors.ncols() != control.ncols() {
                return Err(LatentError::OtherWidth { model: student.label.clone() });
            }
            by_student.insert(*perspective, vectors);
        }
        let rows = taught(&self.texts, &by_student.keys().copied().collect());
        let texts: Vec<Text> = rows.iter().map(|row| self.texts[*row].clone()).collect();
        if texts.iter().map(|text| text.perspective).collect::<BTreeSet<_>>().len() < 2 {
            return Err(LatentError::OnePerspective);
        }
        let (picture, students) = self.draw(&arranged(&self.texts, &rows, &by_student, 0), &texts)?;
        let (swapped, _) = self.draw(&arranged(&self.texts, &rows, &by_student, 1), &texts)?;
        let by_others =
            swapped_silhouettes(&self.texts, &rows, &by_student).ok_or(LatentError::OnePerspective)?;
        let (undistilled, by_control) =
            self.draw(&Mat::from_fn(rows.len(), control.ncols(), |i, j| control[(rows[i], j)]), &texts)?;
        let questions = questions(&texts);
        Ok(Clusters {
            labels: class.labels.clone(),
            students: class
                .students
                .iter()
                .map(|(perspective, student)| {
                    (self.setting.perspectives[*perspective].clone(), student.label.clone())
                })
                .collect(),
            judged: judge(&students, &by_control, &by_others, &questions, &mut self.context.rng("clusters")),
            silhouette_by_student_on_same_texts: same_texts_silhouette(&rows, &by_student),
            setting: Setting {
                texts: texts.len(),
                questions: questions.iter().collect::<BTreeSet<_>>().len(),
                perplexity: picture.perplexity,
                ..self.setting.clone()
            },
            picture,
            undistilled,
            swapped,
        })
    }

    /// The same pipeline over a sentence encoder's vectors: of the rationales, and of what the students write.
    fn sentences(
        &self,
        encoder: &SentenceEncoder,
        records: &[QuestionRationales],
        asked: &[QuestionRationales],
        classes: &[Class],
        answers: &BTreeMap<&Digest, Vec<String>>,
    ) -> Result<Sentences, StageError> {
        let by_id: BTreeMap<&str, &QuestionRationales> =
            records.iter().map(|record| (record.question.id.as_str(), record)).collect();
        let told: Vec<String> = self
            .texts
            .iter()
            .map(|text| {
                let perspective = &self.setting.perspectives[text.perspective];
                let mut rationales = by_id[text.question.as_str()].rationales.iter();
                let rationale = rationales.find(|rationale| rationale.perspective == *perspective);
                rationale.expect("texts are made from these records").text.clone()
            })
            .collect();
        let embedded = |texts: &[String]| embed(encoder, texts, self.params.batch_size, self.context);
        let (rationales, _) = self.draw(&embedded(&told)?, &self.texts)?;
        let mut students = Vec::new();
        for class in classes {
            let (mut texts, mut said) = (Vec::new(), Vec::new());
            for (perspective, student) in &class.students {
                let answers = &answers[&student.input.digest];
                let text = |record: &QuestionRationales| Text {
                    question: record.question.id.clone(),
                    perspective: *perspective,
                };
                texts.extend(asked.iter().map(text));
                said.extend(answers.iter().cloned());
            }
            let (picture, _) = self.draw(&embedded(&said)?, &texts)?;
            students.push(Written { labels: class.labels.clone(), questions: asked.len(), picture });
        }
        Ok(Sentences { rationales, students })
    }
}

/// The question of each text.
fn questions(texts: &[Text]) -> Vec<&str> {
    texts.iter().map(|text| text.question.as_str()).collect()
}
