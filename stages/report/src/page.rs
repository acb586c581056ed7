//! One recipe's results as one HTML file that needs nothing else: no network, no script of others, no font.
//!
//! Who calls hands over [`Facts`]: which cells there are and where their artifacts lie. Artifacts are read by type, so a
//! kind from elsewhere is shown as soon as it makes an artifact of a type known here. Whatever comes out of an artifact
//! or a recipe is text: the templates escape it, [`text`] cuts it and makes its control characters visible, and the
//! page's own policy refuses every script but the one it brings.
//!
//! | part | module |
//! |---|---|
//! | results and claims | `outcome` |
//! | curves and heat maps over training steps | `training`, drawn by `chart` |
//! | figures with their numbers, and any other JSON | `figures` |
//! | predictions side by side, rationales with their verdicts | `samples` |

use std::{collections::BTreeMap, path::PathBuf};

use contract::{ArtifactType, Digest, StageError};
use minijinja::{Environment, Value, syntax::SyntaxConfig, value::Serde};
use serde::Serialize;

mod chart;
mod figures;
mod outcome;
mod samples;
mod text;
mod training;

#[cfg(test)]
mod tests;

/// What a report is made from.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The recipe's name.
    pub recipe: String,
    /// What it is about.
    pub about: Option<String>,
    /// How to run it again.
    pub command: String,
    /// The texts it was read from, by name.
    pub sources: Vec<(String, String)>,
    /// The program's version.
    pub version: String,
    /// What cells compute on, with the number format.
    pub backend: String,
    /// The values of axis `seed`.
    pub seeds: Vec<String>,
    /// Every cell, each after those it reads from.
    pub cells: Vec<CellFacts>,
    /// The recipe's runs, latest first.
    pub runs: Vec<RunFacts>,
}

/// A cell.
#[derive(Clone, Debug, Default)]
pub struct CellFacts {
    /// Its name.
    pub name: String,
    /// Its stage.
    pub stage: String,
    /// Its axis values.
    pub axes: BTreeMap<String, String>,
    /// The cells it reads from, indices into [`Facts::cells`].
    pub upstream: Vec<usize>,
    /// Whether its result is what the recipe asks for.
    pub state: State,
    /// Why it would run, where it would.
    pub reason: Option<String>,
    /// What its result is the result of.
    pub fingerprint: Option<String>,
    /// The run that made its result.
    pub run: Option<String>,
    /// Where its result was made as something else, why it stands for what the cell has become.
    pub accepted: Option<Accepted>,
    /// How long that took.
    pub seconds: Option<f64>,
    /// The result's size.
    pub bytes: Option<u64>,
    /// What it made.
    pub artifacts: Vec<Artifact>,
}

/// A person's word that an earlier result stands for what a cell has become.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Accepted {
    /// Why.
    pub reason: String,
    /// When it was given.
    pub time: String,
    /// The fingerprint that the result was made as.
    pub from: String,
}

/// Whether a cell's result is what the recipe asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum State {
    /// It is.
    #[serde(rename = "up to date")]
    Current,
    /// It is what an earlier state of the recipe asked for.
    Outdated,
    /// There is none.
    #[default]
    Missing,
}

/// One artifact of a cell.
#[derive(Clone, Debug)]
pub struct Artifact {
    /// What it holds.
    pub artifact: ArtifactType,
    /// Its folder.
    pub folder: PathBuf,
}

/// A run of the recipe.
#[derive(Clone, Debug, Default, Serialize)]
pub struct RunFacts {
    /// Its id.
    pub id: String,
    /// When it began.
    pub began: String,
    /// How it ended.
    pub state: String,
    /// How many cells ran.
    pub ran: u64,
    /// How many were there already.
    pub reused: u64,
}

/// Writes the page.
pub fn render(facts: &Facts) -> Result<String, StageError> {
    let outcome = outcome::read(facts)?;
    let fingerprints: Vec<&String> =
        facts.cells.iter().filter_map(|cell| cell.fingerprint.as_ref()).collect();
    let page = Page {
        recipe: &facts.recipe,
        about: &facts.about,
        command: &facts.command,
        version: &facts.version,
        backend: &facts.backend,
        seeds: &facts.seeds,
        runs: &facts.runs,
        sources: facts.sources.iter().map(|(name, text)| (name, text::long(text, 100_000))).collect(),
        state: Digest::of_json(&fingerprints),
        counts: Counts::of(facts),
        cells: cells(facts),
        stages: stages(facts),
        training: training::read(facts, outcome.axes())?,
        figures: figures::read(facts)?,
        judged: samples::funnels(facts)?,
        predictions: samples::predictions(facts, outcome.axes())?,
        rationales: samples::rationales(facts)?,
        other: figures::other_json(facts)?,
        tables: outcome.tables,
        nonce: Digest::of_json(&(&fingerprints, &facts.command, &facts.runs)),
        style: include_str!("page/style.css"),
        script: include_str!("page/script.js"),
    };
    let mut environment = Environment::new();
    environment.set_syntax(
        SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build().map_err(StageError::failed)?,
    );
    environment.add_filter("truncated", text::truncated);
    environment.add_filter("seconds", contract::seconds);
    environment.add_filter("bytes", text::bytes);
    let templates =
        [("page.html", include_str!("page/page.html")), ("macros.html", include_str!("page/macros.html"))];
    for (name, source) in templates {
        environment.add_template(name, source).map_err(StageError::failed)?;
    }
    let template = environment.get_template("page.html").map_err(StageError::failed)?;
    let page = template.render(Value::from(Serde(page))).map_err(StageError::failed)?;
    Ok(text::visible(&page))
}

/// What the templates are given.
#[derive(Serialize)]
struct Page<'a> {
    recipe: &'a str,
    about: &'a Option<String>,
    command: &'a str,
    version: &'a str,
    backend: &'a str,
    seeds: &'a [String],
    runs: &'a [RunFacts],
    sources: Vec<(&'a String, String)>,
    state: Digest,
    counts: Counts,
    cells: Vec<CellLine<'a>>,
    stages: Vec<StageLine<'a>>,
    tables: Vec<outcome::Table>,
    training: Vec<training::Training>,
    figures: Vec<figures::Figures>,
    judged: Vec<samples::Funnel>,
    predictions: Vec<samples::Column>,
    rationales: Option<samples::Rationales>,
    other: Vec<figures::Numbers>,
    /// A script that got into the page would have to know the digest of what the page is made of.
    nonce: Digest,
    style: &'static str,
    script: &'static str,
}

/// How many cells are in which state.
#[derive(Serialize)]
struct Counts {
    current: usize,
    outdated: usize,
    missing: usize,
    /// Made as something else and accepted.
    accepted: usize,
    /// Made by the latest run.
    latest: usize,
}

impl Counts {
    fn of(facts: &Facts) -> Self {
        let count = |state| facts.cells.iter().filter(|cell| cell.state == state).count();
        let latest = facts.runs.first().map(|run| &run.id);
        Self {
            current: count(State::Current),
            outdated: count(State::Outdated),
            missing: count(State::Missing),
            accepted: facts.cells.iter().filter(|cell| cell.accepted.is_some()).count(),
            latest: facts.cells.iter().filter(|cell| latest.is_some() && cell.run.as_ref() == latest).count(),
        }
    }
}

/// A cell's line in the list of cells.
#[derive(Serialize)]
struct CellLine<'a> {
    name: &'a str,
    state: State,
    reason: &'a Option<String>,
    accepted: &'a Option<Accepted>,
    seconds: Option<f64>,
    bytes: Option<u64>,
    run: &'a Option<String>,
    fingerprint: Option<&'a str>,
    /// Its result was there before the latest run.
    reused: bool,
}

fn cells(facts: &Facts) -> Vec<CellLine<'_>> {
    let latest = facts.runs.first().map(|run| &run.id);
    let line = |cell: &'_ CellFacts| cell.run.is_some() && cell.run.as_ref() != latest;
    facts
        .cells
        .iter()
        .map(|cell| CellLine {
            name: &cell.name,
            state: cell.state,
            reason: &cell.reason,
            accepted: &cell.accepted,
            seconds: cell.seconds,
            bytes: cell.bytes,
            run: &cell.run,
            fingerprint: cell.fingerprint.as_deref().map(|fingerprint| text::head(fingerprint, 12)),
            reused: line(cell),
        })
        .collect()
}

/// What a stage's cells took together.
#[derive(Serialize)]
struct StageLine<'a> {
    name: &'a str,
    cells: usize,
    seconds: f64,
    bytes: u64,
    /// Of the time all cells took.
    percent: f64,
}

fn stages(facts: &Facts) -> Vec<StageLine<'_>> {
    let all: f64 = facts.cells.iter().filter_map(|cell| cell.seconds).sum();
    let mut lines: Vec<StageLine<'_>> = Vec::new();
    for cell in &facts.cells {
        let place = lines.iter().position(|line| line.name == cell.stage).unwrap_or_else(|| {
            lines.push(StageLine { name: &cell.stage, cells: 0, seconds: 0.0, bytes: 0, percent: 0.0 });
            lines.len() - 1
        });
        let line = &mut lines[place];
        line.cells += 1;
        line.seconds += cell.seconds.unwrap_or_default();
        line.bytes += cell.bytes.unwrap_or_default();
    }
    for line in &mut lines {
        line.percent = if all > 0.0 { (1000.0 * line.seconds / all).round() / 10.0 } else { 0.0 };
    }
    lines
}

impl Facts {
    /// Every artifact of a type, with its cell.
    fn artifacts(&self, wanted: ArtifactType) -> impl Iterator<Item = (usize, &CellFacts, &PathBuf)> {
        self.cells.iter().enumerate().flat_map(move |(place, cell)| {
            let of_type = cell.artifacts.iter().filter(move |artifact| artifact.artifact == wanted);
            of_type.map(move |artifact| (place, cell, &artifact.folder))
        })
    }
}

impl CellFacts {
    /// Its axis values without one axis, as words; its stage's name where nothing is left.
    fn label(&self, without: &str) -> String {
        let rest = self.axes.iter().filter(|(axis, _)| *axis != without);
        let words: Vec<&str> = rest.map(|(_, value)| value.as_str()).collect();
        if words.is_empty() { self.stage.clone() } else { words.join(", ") }
    }
}
