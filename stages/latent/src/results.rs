//! What the kind writes: figures, each with its numbers beside it, and a summary of all.
//!
//! Numbers hold six decimals and coordinates three: see [`rounded`].

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, fs,
    path::Path,
};

use contract::{Digest, StageError, jsonl};
use serde::Serialize;

use crate::{
    clusters::{Difference, Judged},
    figure::{Mark, Scatter},
    lines::{Lines, Panel},
    picture::Picture,
    probe::Probe,
    stage::Pooling,
    subject::{Subject, file_name, label},
};

#[cfg(doc)]
use crate::picture::rounded;

/// Names of figures that are not a model's, as files without ending. Theirs never hold two hyphens in a row: see
/// [`file_name`].
pub(crate) const SUMMARY: &str = "summary";
pub(crate) const LAYERS: &str = "layers";
pub(crate) const CLUSTERS: &str = "clusters";
pub(crate) const SENTENCE_SPACE: &str = "sentence-space";

/// What every model was measured on, and how.
#[derive(Clone, Serialize)]
pub(crate) struct Setting {
    /// Texts each model read.
    pub(crate) texts: usize,
    /// The questions they answer.
    pub(crate) questions: usize,
    /// The perspectives, in the order of the legend.
    pub(crate) perspectives: Vec<String>,
    /// The layer drawn: 0 is the embeddings.
    pub(crate) layer: usize,
    /// How a text's tokens became one vector.
    pub(crate) pooling: Pooling,
    /// The perplexity used, which few texts make smaller than the one asked for.
    pub(crate) perplexity: f64,
    /// Iterations of t-SNE.
    pub(crate) iterations: usize,
}

/// A model's numbers at one layer. `None` where a number has no meaning, as a silhouette of one group.
#[derive(Clone, Serialize)]
pub(crate) struct LayerNumbers {
    /// 0 is the embeddings.
    pub(crate) layer: usize,
    /// Mean cosine silhouette of the texts by perspective.
    pub(crate) silhouette: Option<f64>,
    /// Agreement of the mixture's groups with the perspectives.
    pub(crate) adjusted_rand: f64,
    /// Agreement of the mixture's groups with the perspectives.
    pub(crate) normalized_mutual_information: f64,
    /// Effective rank.
    pub(crate) effective_rank: f64,
    /// Participation ratio.
    pub(crate) participation_ratio: f64,
    /// Mean cosine similarity of two texts.
    pub(crate) anisotropy: f64,
    /// Linear CKA with the same layer of the undistilled model, unbiased, where that is given and has as many layers.
    pub(crate) cka_to_undistilled: Option<f64>,
    /// The same without the correction: with few texts it is too high.
    pub(crate) biased_cka_to_undistilled: Option<f64>,
}

/// Everything measured about one set of weights.
#[derive(Clone, Serialize)]
pub(crate) struct Analysis {
    /// At the layer drawn.
    #[serde(flatten)]
    pub(crate) picture: Picture,
    /// From the embeddings up.
    pub(crate) layers: Vec<LayerNumbers>,
    /// KL(undistilled || model) of the next token, in nats, over the texts; none for the undistilled model itself.
    pub(crate) drift: Option<Difference>,
    /// Of a text's perspective, at the layer drawn.
    pub(crate) perspective_probe: Option<Probe>,
    /// Of whether a completion's answer is right, at the layer drawn.
    pub(crate) correctness_probe: Option<Probe>,
}

/// Single-perspective students against their controls.
#[derive(Serialize)]
pub(crate) struct Clusters {
    /// Axis values that the students share.
    pub(crate) labels: BTreeMap<String, String>,
    /// Each perspective's student.
    pub(crate) students: BTreeMap<String, String>,
    /// What separates the perspectives.
    pub(crate) judged: Judged,
    /// Where every student reads every text: how far the students alone are apart.
    pub(crate) silhouette_by_student_on_same_texts: Option<f64>,
    pub(crate) setting: Setting,
    /// Each text read by the student of its perspective.
    pub(crate) picture: Picture,
    /// Every text read by the undistilled model.
    #[serde(skip)]
    pub(crate) undistilled: Picture,
    /// Each text read by the student of the next perspective.
    #[serde(skip)]
    pub(crate) swapped: Picture,
}

/// A sentence encoder's view.
pub(crate) struct Sentences {
    /// Of the rationales that every model read.
    pub(crate) rationales: Picture,
    /// Of what single-perspective students write.
    pub(crate) students: Vec<Written>,
}

/// What the students of one class write, by the perspective each was taught.
#[derive(Serialize)]
pub(crate) struct Written {
    /// Axis values that the students share.
    pub(crate) labels: BTreeMap<String, String>,
    /// Questions each was asked.
    pub(crate) questions: usize,
    pub(crate) picture: Picture,
}

/// All that was found.
pub(crate) struct Findings {
    pub(crate) setting: Setting,
    pub(crate) analyses: BTreeMap<Digest, Analysis>,
    pub(crate) clusters: Vec<Clusters>,
    pub(crate) sentences: Option<Sentences>,
}

/// Writes every figure with its numbers, and the summary.
pub(crate) fn write(folder: &Path, subjects: &[Subject], findings: &Findings) -> Result<(), StageError> {
    let Findings { setting, analyses, clusters, sentences } = findings;
    let write_text = |name: String, text: String| {
        let path = folder.join(name);
        fs::write(&path, text).map_err(StageError::io(&path))
    };
    let numbers = |subject: &Subject| &analyses[&subject.input.digest].layers[setting.layer];
    let undistilled_silhouette =
        subjects.iter().find(|subject| subject.control).and_then(|subject| numbers(subject).silhouette);
    let mut first_with = BTreeMap::new();
    let mut models = Vec::new();
    for subject in subjects {
        let Subject { input, label, file, .. } = subject;
        let analysis = &analyses[&input.digest];
        let figure =
            FigureNumbers { label, labels: &input.labels, setting, undistilled_silhouette, analysis };
        jsonl::write_json(&folder.join(format!("{file}.json")), &figure)?;
        write_text(format!("{file}.svg"), figure.svg())?;
        let first = *first_with.entry(&input.digest).or_insert(label);
        models.push(Row {
            label,
            labels: &input.labels,
            figure: file,
            same_as: (first != label).then_some(first),
            numbers: numbers(subject),
            drift: analysis.drift,
            perspective_probe: &analysis.perspective_probe,
            correctness_probe: &analysis.correctness_probe,
        });
    }
    let layers = Layers::new(subjects, analyses);
    jsonl::write_json(&folder.join(format!("{LAYERS}.json")), &layers.models)?;
    write_text(format!("{LAYERS}.svg"), layers.svg(setting))?;
    for found in clusters {
        let name = with_labels(CLUSTERS, &found.labels);
        jsonl::write_json(&folder.join(format!("{name}.json")), found)?;
        write_text(
            format!("{name}.svg"),
            found.svg("Each text read by the student of its perspective", &found.picture),
        )?;
        for (control, title, picture) in [
            ("control", "Control: every text read by the undistilled model", &found.undistilled),
            ("swapped", "Control: each text read by the student of the next perspective", &found.swapped),
        ] {
            let numbers = ControlNumbers { title, labels: &found.labels, setting: &found.setting, picture };
            jsonl::write_json(&folder.join(format!("{name}--{control}.json")), &numbers)?;
            write_text(format!("{name}--{control}.svg"), found.svg(title, picture))?;
        }
    }
    if let Some(Sentences { rationales, students }) = sentences {
        let about = setting.read();
        jsonl::write_json(&folder.join(format!("{SENTENCE_SPACE}.json")), rationales)?;
        let svg = scatter("Sentence space: the rationales", "", &about, setting, rationales);
        write_text(format!("{SENTENCE_SPACE}.svg"), svg)?;
        for written in students {
            let name = with_labels(&format!("{SENTENCE_SPACE}--students"), &written.labels);
            jsonl::write_json(&folder.join(format!("{name}.json")), written)?;
            let about = format!(
                "What each student writes about {} questions, by what it was taught.",
                written.questions
            );
            let svg =
                scatter("Sentence space: the students' own words", "", &about, setting, &written.picture);
            write_text(format!("{name}.svg"), svg)?;
        }
    }
    let summary = Summary { setting, undistilled_silhouette, models, clusters };
    jsonl::write_json(&folder.join(format!("{SUMMARY}.json")), &summary)?;
    write_text(format!("{SUMMARY}.md"), summary.markdown())
}

/// A figure's name, with the axis values it is about.
fn with_labels(name: &str, labels: &BTreeMap<String, String>) -> String {
    if labels.is_empty() { name.to_owned() } else { format!("{name}--{}", file_name(&label(labels))) }
}

/// One model's line of the summary.
#[derive(Serialize)]
struct Row<'a> {
    /// Its axis values as text, or `undistilled`.
    label: &'a str,
    /// Its axis values.
    labels: &'a BTreeMap<String, String>,
    /// The name of its figure and of the numbers beside it, without ending.
    figure: &'a str,
    /// The label of the first row with equal weights, which this one repeats.
    same_as: Option<&'a String>,
    /// At the layer drawn.
    numbers: &'a LayerNumbers,
    /// As in [`Analysis`].
    drift: Option<Difference>,
    /// As in [`Analysis`].
    perspective_probe: &'a Option<Probe>,
    /// As in [`Analysis`].
    correctness_probe: &'a Option<Probe>,
}

/// `summary.json`.
#[derive(Serialize)]
struct Summary<'a> {
    setting: &'a Setting,
    /// The silhouette a model has to beat for its picture to mean anything.
    undistilled_silhouette: Option<f64>,
    /// The undistilled model first, where it is given.
    models: Vec<Row<'a>>,
    /// Each with the numbers of its first picture.
    clusters: &'a [Clusters],
}

/// The numbers beside a model's figure.
#[derive(Serialize)]
struct FigureNumbers<'a> {
    label: &'a str,
    labels: &'a BTreeMap<String, String>,
    setting: &'a Setting,
    undistilled_silhouette: Option<f64>,
    analysis: &'a Analysis,
}

/// The numbers beside a control's figure.
#[derive(Serialize)]
struct ControlNumbers<'a> {
    title: &'a str,
    labels: &'a BTreeMap<String, String>,
    setting: &'a Setting,
    picture: &'a Picture,
}

/// Every distinct model's numbers at every layer.
struct Layers<'a> {
    models: BTreeMap<&'a str, &'a [LayerNumbers]>,
    /// In the order of the subjects.
    order: Vec<&'a str>,
}

impl<'a> Layers<'a> {
    fn new(subjects: &'a [Subject], analyses: &'a BTreeMap<Digest, Analysis>) -> Self {
        let mut seen = BTreeSet::new();
        let distinct: Vec<&Subject> =
            subjects.iter().filter(|subject| seen.insert(&subject.input.digest)).collect();
        Self {
            models: distinct
                .iter()
                .map(|subject| (subject.label.as_str(), analyses[&subject.input.digest].layers.as_slice()))
                .collect(),
            order: distinct.iter().map(|subject| subject.label.as_str()).collect(),
        }
    }

    fn svg(&self, setting: &Setting) -> String {
        let panel = |title: &str, value: &dyn Fn(&LayerNumbers) -> Option<f64>| Panel {
            title: title.to_owned(),
            values: self.order.iter().map(|model| self.models[model].iter().map(value).collect()).collect(),
            bands: Vec::new(),
        };
        let panels = [
            panel("Silhouette by perspective (cosine)", &|numbers| numbers.silhouette),
            panel("Mixture against perspectives (NMI)", &|numbers| {
                Some(numbers.normalized_mutual_information)
            }),
            panel("CKA to undistilled (unbiased)", &|numbers| numbers.cka_to_undistilled),
            panel("Effective rank", &|numbers| Some(numbers.effective_rank)),
            panel("Participation ratio", &|numbers| Some(numbers.participation_ratio)),
            panel("Anisotropy", &|numbers| Some(numbers.anisotropy)),
        ];
        let models: Vec<String> = self.order.iter().map(|model| (*model).to_owned()).collect();
        let subtitle = format!("{} rationales of {} questions.", setting.texts, setting.questions);
        let last = self.models.values().map(|layers| layers.len()).max().unwrap_or(1).saturating_sub(1);
        let name = |layer| match layer {
            0 => "embeddings".to_owned(),
            layer if layer == last => format!("layer {last}"),
            _ => String::new(),
        };
        let places: Vec<String> = (0..=last).map(name).collect();
        let title = "Layer by layer";
        Lines { title, subtitle: &subtitle, models: &models, places: &places, panels: &panels }.svg()
    }
}

/// A picture as a figure; `about` says what was read, and how.
fn scatter(title: &str, subtitle: &str, about: &str, setting: &Setting, picture: &Picture) -> String {
    let mixture = &picture.mixture;
    let own = format!(
        "silhouette {}; mixture: {} groups, ARI {:.3}, NMI {:.3}",
        shown(picture.silhouette),
        mixture.groups,
        mixture.adjusted_rand,
        mixture.normalized_mutual_information
    );
    let subtitle = if subtitle.is_empty() { own } else { format!("{own}; {subtitle}") };
    let notes = [
        about.to_owned(),
        format!(
            "t-SNE (perplexity {}, {} iterations) of {} principal components, {:.0} % of the variance; \
             trustworthiness {:.3}.",
            picture.perplexity,
            setting.iterations,
            picture.components,
            100.0 * picture.explained_variance,
            picture.trustworthiness
        ),
        "Cluster sizes and gaps mean nothing; the silhouette is of the vectors themselves.".to_owned(),
    ];
    let place = |name: &String| setting.perspectives.iter().position(|perspective| perspective == name);
    let marks: Vec<Mark> = picture
        .points
        .iter()
        .map(|point| Mark {
            at: [point.x, point.y],
            group: place(&point.perspective).expect("points are made from these perspectives"),
            about: &point.question,
        })
        .collect();
    Scatter { title, subtitle: &subtitle, notes: &notes, groups: &setting.perspectives, marks: &marks }.svg()
}

impl FigureNumbers<'_> {
    /// The figure itself.
    fn svg(&self) -> String {
        let numbers = &self.analysis.layers[self.setting.layer];
        let mut subtitle = format!("effective rank {:.1}", numbers.effective_rank);
        if let Some(control) = self.undistilled_silhouette {
            subtitle.push_str(&format!("; undistilled silhouette {}", shown(Some(control))));
        }
        scatter(self.label, &subtitle, &self.setting.to_string(), self.setting, &self.analysis.picture)
    }
}

impl Clusters {
    fn svg(&self, title: &str, picture: &Picture) -> String {
        let about = match self.labels.is_empty() {
            true => self.setting.to_string(),
            false => format!("{} {}.", self.setting, label(&self.labels)),
        };
        scatter(title, "", &about, &self.setting, picture)
    }
}

impl fmt::Display for Clusters {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.labels.is_empty() {
            write!(formatter, "{}: ", label(&self.labels))?;
        }
        self.judged.fmt(formatter)
    }
}

impl Setting {
    fn read(&self) -> String {
        format!("{} rationales of {} questions.", self.texts, self.questions)
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pooling = match self.pooling {
            Pooling::Mean => "mean over rationale tokens",
            Pooling::LastToken => "last rationale token",
        };
        let Self { texts, questions, layer, .. } = self;
        write!(formatter, "{texts} rationales of {questions} questions; layer {layer}, {pooling}.")
    }
}

impl Summary<'_> {
    /// `summary.md`.
    fn markdown(&self) -> String {
        let mut text = format!("# Latent analysis\n\n{}\n\n", self.setting);
        text.push_str(
            "| model | silhouette | undistilled | ARI | NMI | effective rank | participation ratio ",
        );
        text.push_str("| anisotropy | CKA to undistilled | KL from undistilled | perspective probe | correctness probe |\n");
        text.push_str("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n");
        for row in &self.models {
            let numbers = row.numbers;
            let same =
                row.same_as.as_ref().map(|label| format!(" (equal to {})", cell(label))).unwrap_or_default();
            let probe = |probe: &Option<Probe>| match probe {
                Some(probe) => format!("{:.3} ({:.3})", probe.accuracy, probe.chance),
                None => shown(None),
            };
            text.push_str(&format!(
                "| {}{same} | {} | {} | {:.3} | {:.3} | {:.1} | {:.1} | {:.3} | {} | {} | {} | {} |\n",
                cell(row.label),
                shown(numbers.silhouette),
                shown(self.undistilled_silhouette),
                numbers.adjusted_rand,
                numbers.normalized_mutual_information,
                numbers.effective_rank,
                numbers.participation_ratio,
                numbers.anisotropy,
                shown(numbers.cka_to_undistilled),
                shown(row.drift.map(|drift| drift.mean)),
                probe(row.perspective_probe),
                probe(row.correctness_probe),
            ));
        }
        text.push_str(
            "\nSilhouette: cosine, of the vectors by perspective. A model that separates perspectives no better than \
             the undistilled one shows how they are worded, not what it learned from them. ARI and NMI: groups of a \
             Dirichlet-process mixture against perspectives. CKA: unbiased. KL: nats a token, over these texts. Probes: \
             accuracy on unseen questions, and in brackets that of always naming the commonest label.\n",
        );
        if !self.clusters.is_empty() {
            text.push_str("\n## Clusters of single-perspective students\n\n");
            text.push_str("| students | silhouette | ARI | NMI | undistilled | ARI | NMI | swapped | ARI | NMI | same texts |\n");
            text.push_str("|---|---:|---:|---:|---:|---:|---:|---:|---:|---:|---:|\n");
        }
        for found in self.clusters {
            let three = |picture: &Picture| {
                let mixture = &picture.mixture;
                format!(
                    "{} | {:.3} | {:.3}",
                    shown(picture.silhouette),
                    mixture.adjusted_rand,
                    mixture.normalized_mutual_information
                )
            };
            let name = if found.labels.is_empty() { "all".to_owned() } else { label(&found.labels) };
            text.push_str(&format!(
                "| {} | {} | {} | {} | {} |\n",
                cell(&name),
                three(&found.picture),
                three(&found.undistilled),
                three(&found.swapped),
                shown(found.silhouette_by_student_on_same_texts)
            ));
        }
        for found in self.clusters {
            text.push_str(&format!("\nVerdict: {found}\n"));
        }
        if !self.clusters.is_empty() {
            text.push_str(
                "\nSwapped: in the table, as in the figure, each text is read by the student of the next perspective; in the \
                 verdict stands the mean over the students of all other perspectives. The intervals resample questions: \
                 they do not say how students of another seed would come out.\n",
            );
        }
        text
    }
}

/// For people; a dash where there is no number.
fn shown(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.3}"))
}

/// Text for a cell of a Markdown table.
pub(crate) fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}
