//! `accept`, `verify` and `lock`: what a result is trusted for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
    time::SystemTime,
};

use contract::seconds;

use super::{CliError, exit, print};
use crate::{
    cell::execute,
    graph::Graph,
    history::History,
    lock::{Lock, Locked},
    plan::{Decision, Outputs, Plan, Reason, record},
    reporter::counted,
    run::job,
    secrets::Secrets,
    store::{Acceptance, CellRecord, Store, list, write_atomically},
};

fn asked(message: String, help: &str) -> CliError {
    CliError::Asked { message, help: Some(help.to_owned()) }
}

/// What is known to be made, by cell.
fn outputs(plan: &Plan) -> BTreeMap<usize, Outputs> {
    let reused = plan.decisions.iter().filter_map(|(cell, decision)| match decision {
        Decision::Reuse { outputs, .. } | Decision::Fetch { outputs, .. } => Some((*cell, outputs.clone())),
        Decision::Run { .. } | Decision::Undecided { .. } => None,
    });
    reused.collect()
}

/// Lets the result of a cell's last run stand for what the cell has become.
pub(super) fn accept(graph: &Graph, store: &Store, target: &str, reason: &str) -> Result<u8, CliError> {
    if reason.trim().is_empty() {
        return Err(asked("a change is accepted for a reason".to_owned(), "`--reason \"comment only\"`"));
    }
    let mut history = History::open(store, &graph.recipe);
    let cells = graph.select(target)?;
    let plan = Plan::make(graph, &graph.closure(&cells), store, &history)?;
    let known = outputs(&plan);
    let mut accepted = Vec::new();
    for index in cells {
        let cell = &graph.cells[index];
        match &plan.decisions[&index] {
            Decision::Reuse { .. } | Decision::Fetch { .. } => continue,
            Decision::Run { reason: Reason::Changed { .. } } => {}
            Decision::Run { reason } => {
                let message = format!("`{}` has no earlier result to stand for it: {reason}", cell.name);
                return Err(asked(message, "`retort run` makes one"));
            }
            Decision::Undecided { .. } => {
                let message = format!("what `{}` reads is not made yet", cell.name);
                return Err(asked(
                    message,
                    "accept or run the cells before it first; `retort why` names them",
                ));
            }
        }
        let new = record(graph, cell, &known, store)?;
        let earlier = history.latest(&cell.name.0).and_then(|latest| Some((latest, store.record(latest)?)));
        let (from, earlier) = earlier.expect("a changed cell has an earlier record");
        let made = cell.made();
        if earlier.cell.kind != new.kind || !made.iter().all(|port| earlier.outputs.contains_key(*port)) {
            let message = format!("the earlier result of `{}` is of another kind", cell.name);
            return Err(asked(message, "`retort run` makes a new one"));
        }
        let acceptance = Acceptance {
            from: from.clone(),
            reason: reason.trim().to_owned(),
            time: humantime::format_rfc3339_seconds(SystemTime::now()).to_string(),
        };
        accepted.push((cell, CellRecord { cell: new, accepted: Some(acceptance), ..earlier }));
    }
    // All of them, or none.
    let mut text = String::new();
    for (cell, record) in accepted {
        let fingerprint = record.cell.fingerprint();
        store.put_record(&fingerprint, &record)?;
        history.note(&cell.name.0, &fingerprint);
        writeln!(text, "{}: the result of run {} stands for it", cell.name, record.run).ok();
    }
    print(if text.is_empty() { "nothing to accept: it is up to date\n" } else { &text });
    Ok(exit::DONE)
}

/// Computes finished cells again, elsewhere, and compares.
pub(super) fn verify(graph: &Graph, store: &Store, target: &str, times: usize) -> Result<u8, CliError> {
    let history = History::open(store, &graph.recipe);
    let cells = graph.select(target)?;
    let plan = Plan::make(graph, &graph.closure(&cells), store, &history)?;
    let known = outputs(&plan);
    let (mut text, mut code) = (String::new(), exit::DONE);
    for index in cells {
        let name = &graph.cells[index].name;
        let (differences, took) = verify_cell(graph, store, &known, index, times)?;
        if differences.is_empty() {
            writeln!(text, "{name}: the same bytes {times} times, {} again", seconds(took)).ok();
        } else {
            code = exit::FAILED;
            let differences: Vec<String> = differences.into_iter().collect();
            writeln!(text, "{name}: not the same:\n{}", differences.join("\n")).ok();
        }
    }
    print(&text);
    Ok(code)
}

/// In what a cell's outputs differ when it is computed again until there are `times` results, and how long that took,
/// seconds.
fn verify_cell(
    graph: &Graph,
    store: &Store,
    known: &BTreeMap<usize, Outputs>,
    index: usize,
    times: usize,
) -> Result<(BTreeSet<String>, f64), CliError> {
    let cell = &graph.cells[index];
    let Some(before) = known.get(&index) else {
        return Err(asked(format!("`{}` is not up to date", cell.name), "`retort run` makes it"));
    };
    if !cell.kind.secrets(&cell.params).is_empty() {
        let message = format!("`{}` asks a service, which is paid for each time and may change", cell.name);
        return Err(asked(message, "verify the cells that compute"));
    }
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let wanted = cell.resources.cpu.most.unwrap_or(threads).clamp(1, threads);
    let (mut differences, mut took) = (BTreeSet::new(), 0.0);
    for _ in 1..times.max(2) {
        let apart = store.apart()?;
        let record = record(graph, cell, known, store)?;
        let job = job(graph, index, record, known, store, &Secrets::new(), wanted);
        let again = execute(job, &apart, "verify", &AtomicBool::new(false), &|_: contract::Event| {});
        let again = again.map_err(|error| CliError::Asked {
            message: format!("`{}` failed: {}", cell.name, crate::log::describe(&error)),
            help: error.help(),
        })?;
        took += again.seconds;
        for (port, digest) in &again.outputs {
            if before.get(port) != Some(digest) {
                let files = differing(&store.object(&before[port]), &apart.object(digest))?;
                differences.insert(format!("  {port}: {}", files.join(", ")));
            }
        }
    }
    Ok((differences, took))
}

/// The files in which two artifacts differ, and from where on.
fn differing(one: &Path, other: &Path) -> Result<Vec<String>, CliError> {
    let (mut names, more) = (list(one)?, list(other)?);
    names.extend(more);
    let mut differences = Vec::new();
    for name in names.keys() {
        let (a, b) = (fs::read(one.join(name)), fs::read(other.join(name)));
        match (a, b) {
            (Ok(a), Ok(b)) if a == b => {}
            (Ok(a), Ok(b)) => {
                let at = a.iter().zip(&b).position(|(a, b)| a != b).unwrap_or(a.len().min(b.len()));
                differences.push(format!("`{name}` from byte {at} of {}", a.len()));
            }
            (a, _) => differences
                .push(format!("`{name}` is only in the {} one", if a.is_ok() { "first" } else { "second" })),
        }
    }
    Ok(differences)
}

/// The lock of a recipe, beside it.
pub(super) fn lock_path(recipe: &Path) -> PathBuf {
    recipe.with_extension("lock")
}

/// Where a store keeps what must not be collected.
fn pin(store: &Store, graph: &Graph) -> PathBuf {
    store.root().join("pins").join(format!("{}.lock", graph.recipe))
}

/// Writes down what the tables, or the given targets, were made from; or lifts the pin.
pub(super) fn lock(
    graph: &Graph,
    store: &Store,
    recipe: &Path,
    targets: &[String],
    unpin: bool,
) -> Result<u8, CliError> {
    let pin = pin(store, graph);
    if unpin {
        fs::remove_file(&pin).ok();
        print(&format!("the store no longer keeps what {} names\n", lock_path(recipe).display()));
        return Ok(exit::DONE);
    }
    let mut cells = Vec::new();
    for target in targets {
        cells.extend(graph.select(target)?);
    }
    if targets.is_empty() {
        let tables = graph.stages.iter().filter(|stage| stage.table);
        cells.extend(tables.flat_map(|stage| stage.cells.iter().copied()));
    }
    if cells.is_empty() {
        return Err(asked("the recipe has no tables".to_owned(), "name the cells or stages to lock"));
    }
    let plan = Plan::make(graph, &graph.closure(&cells), store, &History::open(store, &graph.recipe))?;
    let mut lock = Lock::default();
    for (index, decision) in &plan.decisions {
        let name = &graph.cells[*index].name;
        let Decision::Reuse { fingerprint, outputs } = decision else {
            return Err(asked(format!("`{name}` is not up to date"), "`retort run` makes it; then lock"));
        };
        let locked = Locked { fingerprint: fingerprint.clone(), outputs: outputs.clone() };
        lock.0.insert(name.0.clone(), locked);
    }
    let path = lock_path(recipe);
    fs::write(&path, lock.text()).map_err(|source| CliError::Write { path: path.clone(), source })?;
    write_atomically(&pin, lock.text().as_bytes())?;
    print(&format!("{}: {} locked\n", path.display(), counted(lock.0.len(), "cell")));
    Ok(exit::DONE)
}

/// Before a run: refuses where what the recipe has become is not what was locked.
pub(super) fn hold_to(lock: &Lock, graph: &Graph, plan: &Plan, store: &Store) -> Result<(), CliError> {
    let known = outputs(plan);
    let mut differing = Vec::new();
    for (index, decision) in &plan.decisions {
        let cell = &graph.cells[*index];
        let Some(locked) = lock.0.get(&cell.name.0) else {
            differing.push(format!("`{}` is not in it", cell.name));
            continue;
        };
        let fingerprint = match decision {
            Decision::Reuse { fingerprint, .. } | Decision::Fetch { fingerprint, .. } => fingerprint.clone(),
            Decision::Run { .. } => record(graph, cell, &known, store)?.fingerprint(),
            Decision::Undecided { .. } => continue,
        };
        if fingerprint != locked.fingerprint {
            differing.push(match decision {
                Decision::Run { reason } => format!("`{}` would be another: {reason}", cell.name),
                _ => format!("`{}` is another", cell.name),
            });
        }
        differing.extend(known.get(index).and_then(|outputs| changed(&cell.name.0, outputs, locked)));
    }
    refuse(&differing)
}

/// After a run: refuses outputs that are not what was locked.
pub(super) fn compare(
    lock: &Lock,
    graph: &Graph,
    outputs: &BTreeMap<usize, Outputs>,
) -> Result<(), CliError> {
    let cells = outputs.iter().map(|(index, outputs)| (&graph.cells[*index].name.0, outputs));
    let differing: Vec<String> =
        cells.filter_map(|(name, outputs)| changed(name, outputs, lock.0.get(name)?)).collect();
    refuse(&differing)
}

fn changed(cell: &str, outputs: &Outputs, locked: &Locked) -> Option<String> {
    let ports: Vec<String> = outputs
        .iter()
        .filter(|(port, digest)| locked.outputs.get(*port) != Some(digest))
        .map(|(port, _)| format!("`{port}`"))
        .collect();
    (!ports.is_empty()).then(|| format!("`{cell}` made another {}", ports.join(" and ")))
}

fn refuse(differing: &[String]) -> Result<(), CliError> {
    if differing.is_empty() {
        return Ok(());
    }
    let shown = differing.iter().take(5).cloned().collect::<Vec<_>>().join("; ");
    let more = match differing.len().saturating_sub(5) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    Err(CliError::Asked {
        message: format!("not what was locked: {shown}{more}"),
        help: Some("run without `--locked`, and `retort lock` again if the change is meant".to_owned()),
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use contract::{ArtifactType, Context, Kind, Port, Stage, StageError};
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};

    use super::*;
    use crate::{
        kinds::{KINDS, Kinds},
        recipe::Recipe,
        store::Use,
    };

    /// Computes items that it keeps in a journal.
    struct Kept;

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct KeptParams {}

    /// How often an item was computed.
    static COMPUTED: AtomicUsize = AtomicUsize::new(0);

    impl Stage for Kept {
        type Params = KeptParams;

        const NAME: &'static str = "kept";
        const VERSION: u32 = 1;
        const ABOUT: &'static str = "computes an item once";
        const SEEDED: bool = false;
        const COMPUTES: bool = false;
        const INPUTS: &'static [Port] = &[];
        const OUTPUTS: &'static [Port] = &[Port::output("item", ArtifactType::Other("item"), "item.txt")];

        fn run(_: KeptParams, context: &Context) -> Result<(), StageError> {
            let mut journal = context.journal("kept", &"items")?;
            if journal.get::<String>("a").is_none() {
                COMPUTED.fetch_add(1, Ordering::Relaxed);
                journal.put(&[("a".to_owned(), "item")])?;
            }
            let path = context.output("item").join("item.txt");
            fs::write(&path, "item").map_err(StageError::io(&path))
        }
    }

    #[test]
    fn nothing_stands_in_for_computing_when_a_cell_is_verified() {
        static OWN: Kinds = Kinds { all: &[&Kept as &dyn Kind], ..KINDS };
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("recipe.yaml");
        fs::write(
            &file,
            "recipe: r\nmatrix: {n: [1, 2]}\nstages:\n  k: {uses: kept, matrix: [n], with: {}}\n",
        )
        .unwrap();
        let (recipe, mistakes) = Recipe::read(&file, &[]).unwrap();
        let graph = Graph::build(recipe, mistakes, &OWN, None).unwrap();
        let store = Store::open(&folder.path().join("store"), Use::Shared).unwrap();
        let first = record(&graph, &graph.cells[0], &BTreeMap::new(), &store).unwrap();
        let first = job(&graph, 0, first, &BTreeMap::new(), &store, &Secrets::new(), 1);
        execute(first, &store, "run", &AtomicBool::new(false), &|_: contract::Event| {}).unwrap();
        assert_eq!(COMPUTED.load(Ordering::Relaxed), 1);
        assert_eq!(verify(&graph, &store, "k", 3).unwrap(), exit::DONE);
        // Two cells, twice again each.
        assert_eq!(COMPUTED.load(Ordering::Relaxed), 5);
        assert!(!store.root().join("verify").exists());
    }
}
