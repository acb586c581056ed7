//! What the kind writes: a figure with its numbers a model, and a summary of all.
//!
//! Numbers hold six decimals and coordinates three: see [`rounded`].

use std::{collections::BTreeMap, fs, path::Path};

use contract::{Digest, StageError, jsonl};
use serde::Serialize;

use crate::{
    analysis::Subject,
    figure::{Mark, Scatter},
    stage::Pooling,
    vectors::Text,
};

/// The name of the summary, as a file without ending.
pub(crate) const SUMMARY: &str = "summary";

/// What every model was measured on, and how.
#[derive(Serialize)]
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
    /// Effective rank.
    pub(crate) effective_rank: f64,
    /// Participation ratio.
    pub(crate) participation_ratio: f64,
    /// Mean cosine similarity of two texts.
    pub(crate) anisotropy: f64,
    /// Linear CKA with the same layer of the undistilled model, where that is given and has as many layers.
    pub(crate) cka_to_undistilled: Option<f64>,
}

/// Everything measured about one set of weights.
#[derive(Clone, Serialize)]
pub(crate) struct Analysis {
    /// By perspective, at the layer drawn.
    pub(crate) silhouette_by_perspective: BTreeMap<String, f64>,
    /// The principal components t-SNE saw.
    pub(crate) components: usize,
    /// The share of the variance they hold.
    pub(crate) explained_variance: f64,
    /// From the embeddings up.
    pub(crate) layers: Vec<LayerNumbers>,
    /// The picture, one entry a text.
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
}

impl Point {
    pub(crate) fn new(text: &Text, perspectives: &[String], at: [f64; 2]) -> Self {
        let [x, y] = at.map(|value| (value * 1e3).round() / 1e3);
        Self { question: text.question.clone(), perspective: perspectives[text.perspective].clone(), x, y }
    }
}

/// Writes a figure with its numbers for every subject, and the summary.
pub(crate) fn write(
    folder: &Path,
    subjects: &[Subject],
    setting: &Setting,
    analyses: &BTreeMap<Digest, Analysis>,
) -> Result<(), StageError> {
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
        });
    }
    let summary = Summary { setting, undistilled_silhouette, models };
    jsonl::write_json(&folder.join(format!("{SUMMARY}.json")), &summary)?;
    write_text(format!("{SUMMARY}.md"), summary.markdown())
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
}

/// `summary.json`.
#[derive(Serialize)]
struct Summary<'a> {
    setting: &'a Setting,
    /// The silhouette a model has to beat for its picture to mean anything.
    undistilled_silhouette: Option<f64>,
    /// The undistilled model first, where it is given.
    models: Vec<Row<'a>>,
}

/// The numbers beside a figure.
#[derive(Serialize)]
struct FigureNumbers<'a> {
    label: &'a str,
    labels: &'a BTreeMap<String, String>,
    setting: &'a Setting,
    undistilled_silhouette: Option<f64>,
    analysis: &'a Analysis,
}

impl FigureNumbers<'_> {
    /// The figure itself.
    fn svg(&self) -> String {
        let Self { setting, analysis, .. } = self;
        let numbers = &analysis.layers[setting.layer];
        let mut subtitle = format!("silhouette {}", shown(numbers.silhouette));
        if let Some(control) = self.undistilled_silhouette {
            subtitle.push_str(&format!(", undistilled {}", shown(Some(control))));
        }
        subtitle.push_str(&format!("; effective rank {:.1}", numbers.effective_rank));
        if numbers.cka_to_undistilled.is_some() {
            subtitle.push_str(&format!("; CKA to undistilled {}", shown(numbers.cka_to_undistilled)));
        }
        let notes = [
            setting.to_string(),
            format!(
                "t-SNE (perplexity {}, {} iterations) of {} principal components, {:.0} % of the variance.",
                setting.perplexity,
                setting.iterations,
                analysis.components,
                100.0 * analysis.explained_variance
            ),
            "Cluster sizes and gaps mean nothing; the silhouette is of the vectors themselves.".to_owned(),
        ];
        let place = |name: &String| setting.perspectives.iter().position(|perspective| perspective == name);
        let marks: Vec<Mark> = analysis
            .points
            .iter()
            .map(|point| Mark {
                at: [point.x, point.y],
                group: place(&point.perspective).expect("points are made from these perspectives"),
                about: &point.question,
            })
            .collect();
        Scatter {
            title: self.label,
            subtitle: &subtitle,
            notes: &notes,
            groups: &setting.perspectives,
            marks: &marks,
        }
        .svg()
    }
}

impl std::fmt::Display for Setting {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
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
        text.push_str("| model | silhouette | undistilled | effective rank | participation ratio ");
        text.push_str("| anisotropy | CKA to undistilled |\n");
        text.push_str("|---|---:|---:|---:|---:|---:|---:|\n");
        for row in &self.models {
            let numbers = row.numbers;
            let same =
                row.same_as.as_ref().map(|label| format!(" (equal to {})", cell(label))).unwrap_or_default();
            text.push_str(&format!(
                "| {}{same} | {} | {} | {:.1} | {:.1} | {:.3} | {} |\n",
                cell(row.label),
                shown(numbers.silhouette),
                shown(self.undistilled_silhouette),
                numbers.effective_rank,
                numbers.participation_ratio,
                numbers.anisotropy,
                shown(numbers.cka_to_undistilled),
            ));
        }
        text.push_str(
            "\nSilhouette: cosine, of the vectors by perspective. A model that separates perspectives no better than \
             the undistilled one shows how they are worded, not what it learned from them.\n",
        );
        text
    }
}

/// Six decimals: more would be noise.
pub(crate) fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

/// For people; a dash where there is no number.
fn shown(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), |value| format!("{value:.3}"))
}

/// Text for a cell of a Markdown table.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace(['\n', '\r'], " ")
}
