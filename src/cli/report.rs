//! `report`: what the store and the run record know of a recipe, as one HTML file. Runs nothing.
//!
//! This collects plain data by artifact type; what the page shows of it is the kind's to say.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
};

use super::{CliError, RecipeArguments, exit, print, quoted};
use crate::{
    graph::{Cell, Graph},
    history::History,
    kinds::{Accepted, Artifact, CellFacts, Facts, Kinds, RunFacts, State},
    log,
    plan::{Decision, Plan},
    recipe::Recipe,
    reporter::{bytes, counted, say},
    store::{Acceptance, Store},
};

/// Writes the report of a recipe; without a file, beside the current folder's recipe under its name.
pub(super) fn report(
    kinds: &Kinds,
    arguments: &RecipeArguments,
    store: &Store,
    file: Option<PathBuf>,
) -> Result<u8, CliError> {
    let (recipe, mistakes) = Recipe::read(&arguments.recipe, &arguments.sets).map_err(CliError::Recipe)?;
    let sources = recipe.sources.all().map(|(name, text)| (name.to_owned(), text.to_owned())).collect();
    let about = recipe.about.clone();
    let graph =
        Graph::build(recipe, mistakes, kinds, arguments.backend.as_deref()).map_err(CliError::Recipe)?;
    let facts = Facts {
        recipe: graph.recipe.clone(),
        about,
        command: command(arguments),
        sources,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        backend: format!("{} {}", graph.backend.name, graph.backend.dtype),
        seeds: seeds(&graph),
        cells: cells(&graph, store)?,
        runs: runs(store, &graph.recipe),
    };
    if facts.cells.iter().all(|cell| cell.state == State::Missing) {
        return Err(CliError::Asked {
            message: format!("no cell of `{}` has a result yet", facts.recipe),
            help: Some(format!("`{}` makes them", facts.command)),
        });
    }
    let page = (kinds.render_report)(&facts)?;
    let file = file.unwrap_or_else(|| PathBuf::from(format!("{}-report.html", facts.recipe)));
    if file == Path::new("-") {
        print(&page);
    } else {
        fs::write(&file, &page).map_err(|source| CliError::Write { path: file.clone(), source })?;
        say(&format!("wrote {} ({})", file.display(), bytes(page.len() as u64)));
    }
    let incomplete = facts.cells.iter().filter(|cell| cell.state != State::Current).count();
    if incomplete > 0 {
        let are = if incomplete == 1 { "is" } else { "are" };
        let cells = counted(incomplete, "cell");
        say(&format!("warning: {cells} {are} missing or not up to date, and the report says which"));
        say(&format!("help: `{}` makes them", facts.command));
    }
    Ok(exit::DONE)
}

/// What a person types to run it again.
fn command(arguments: &RecipeArguments) -> String {
    let mut command = format!("retort run {}", quoted(&arguments.recipe.to_string_lossy()));
    for set in &arguments.sets {
        command.push_str(&format!(" --set {}", quoted(set)));
    }
    if let Some(backend) = &arguments.backend {
        command.push_str(&format!(" --backend {}", quoted(backend)));
    }
    command
}

fn seeds(graph: &Graph) -> Vec<String> {
    let mut seeds: Vec<String> = Vec::new();
    for (axis, value) in graph.cells.iter().flat_map(|cell| &cell.axes) {
        if axis == "seed" && !seeds.contains(value) {
            seeds.push(value.clone());
        }
    }
    seeds
}

/// Every cell with its latest result, up to date or not.
fn cells(graph: &Graph, store: &Store) -> Result<Vec<CellFacts>, CliError> {
    let history = History::open(store, &graph.recipe);
    let plan = Plan::make(graph, &(0..graph.cells.len()).collect(), store, &history)?;
    let facts = |(place, cell): (usize, &Cell)| {
        let decision = &plan.decisions[&place];
        let fingerprint = match decision {
            Decision::Reuse { fingerprint, .. } => Some(fingerprint),
            Decision::Fetch { .. } | Decision::Run { .. } | Decision::Undecided { .. } => {
                history.latest(&cell.name.0)
            }
        };
        let found = fingerprint.and_then(|fingerprint| Some((fingerprint, store.record(fingerprint)?)));
        let reason = match decision {
            Decision::Reuse { .. } => None,
            Decision::Fetch { .. } => Some("its result is in the remote cache".to_owned()),
            Decision::Run { reason } => Some(reason.to_string()),
            Decision::Undecided { waits_for, .. } => {
                let names: Vec<&str> =
                    waits_for.iter().map(|cell| graph.cells[*cell].name.0.as_str()).collect();
                Some(format!("waits for {}", names.join(", ")))
            }
        };
        let mut facts = CellFacts {
            name: cell.name.0.clone(),
            stage: graph.stages[cell.stage].name.clone(),
            axes: cell.axes.iter().cloned().collect::<BTreeMap<_, _>>(),
            upstream: cell.upstream().into_iter().collect(),
            reason,
            ..CellFacts::default()
        };
        if let Some((fingerprint, record)) = found {
            let current = matches!(decision, Decision::Reuse { .. });
            facts.state = if current { State::Current } else { State::Outdated };
            facts.fingerprint = Some(fingerprint.to_string());
            let outputs = cell.kind.outputs().iter();
            let artifact = |port: &contract::Port| {
                let folder = store.object(record.outputs.get(port.name)?);
                Some(Artifact { artifact: port.artifact, folder })
            };
            facts.artifacts = outputs.filter_map(artifact).collect();
            let accepted =
                |Acceptance { from, reason, time }| Accepted { reason, time, from: from.to_string() };
            facts.accepted = record.accepted.map(accepted);
            facts.run = Some(record.run);
            facts.seconds = Some(record.seconds);
            facts.bytes = Some(record.bytes);
        }
        facts
    };
    Ok(graph.cells.iter().enumerate().map(facts).collect())
}

/// The recipe's runs, latest first.
fn runs(store: &Store, recipe: &str) -> Vec<RunFacts> {
    let of_recipe = |run: &log::RunSummary| run.begin["recipe"] == recipe;
    let facts = |run: log::RunSummary| {
        let count = |name: &str| run.end.as_ref().and_then(|end| end[name].as_u64()).unwrap_or_default();
        RunFacts {
            began: run.begin["time"].as_str().unwrap_or_default().to_owned(),
            state: run.state(),
            ran: count("ran"),
            reused: count("reused"),
            id: run.id,
        }
    };
    log::runs(store).into_iter().rev().filter(of_recipe).map(facts).collect()
}
