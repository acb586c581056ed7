//! `push` and `pull`, and the remote cache of `run` and `plan`.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use super::{CliError, RemoteArguments, cancellation, exit, work::wanted};
use crate::{
    fingerprint::Fingerprint,
    graph::Graph,
    history::History,
    log::describe,
    plan::{Decision, Plan},
    remote::{Access, Place, Remote, RemoteError, Sent},
    reporter::{bytes, counted, say},
    store::{CellRecord, Store},
};

/// What the arguments or the recipe say; nothing where there is none.
fn place(arguments: &RemoteArguments, graph: Option<&Graph>) -> Result<Option<(Place, Access)>, CliError> {
    let declared = graph.and_then(|graph| graph.remote.clone());
    let (place, access) = match (arguments.remote.as_deref(), declared) {
        (Some("none"), _) | (None, None) => return Ok(None),
        (None, Some((place, access))) => (place, access),
        (Some(text), declared) => {
            let place = Place::parse(text, Path::new("")).map_err(|error| CliError::Asked {
                message: format!("`--remote`: {error}"),
                help: Some(error.help().to_owned()),
            })?;
            (place, declared.and_then(|(_, access)| access))
        }
    };
    Ok(Some((place, arguments.remote_access.or(access).unwrap_or_default())))
}

/// The remote cache of a run, if there is one; one that cannot be opened costs a warning.
pub(super) fn if_there(arguments: &RemoteArguments, graph: &Graph) -> Result<Option<Arc<Remote>>, CliError> {
    let Some((place, access)) = place(arguments, Some(graph))? else { return Ok(None) };
    match Remote::open(&place, access) {
        Ok(remote) => Ok(Some(Arc::new(remote))),
        Err(error) => {
            say(&format!("warning: {}; going on without it", describe(&error)));
            Ok(None)
        }
    }
}

/// The remote cache that a command is about.
pub(super) fn open(arguments: &RemoteArguments, graph: Option<&Graph>) -> Result<Remote, CliError> {
    let Some((place, _)) = place(arguments, graph)? else {
        return Err(CliError::Asked {
            message: "no remote cache is named".to_owned(),
            help: Some(
                "`--remote s3://bucket/prefix`, `RETORT_REMOTE`, or `remote:` in the recipe".to_owned(),
            ),
        });
    };
    Ok(Remote::open(&place, Access::ReadWrite)?)
}

/// What ended a command for many cells.
#[derive(Default)]
struct Trouble {
    first: std::sync::Mutex<Option<RemoteError>>,
}

impl Trouble {
    /// What a cell ran into: said if it concerns that cell only, else kept, and the rest is not tried.
    fn met(&self, name: &str, error: RemoteError, stop: &AtomicBool) {
        match error {
            RemoteError::Refused { .. } | RemoteError::Room { .. } => {
                say(&format!("warning: `{name}`: {}", describe(&error)));
            }
            RemoteError::Interrupted => {}
            error => {
                stop.store(true, Ordering::Relaxed);
                self.first.lock().expect("no panic while it is held").get_or_insert(error);
            }
        }
    }
}

pub(super) fn push(
    graph: Option<&Graph>,
    store: &Store,
    remote: &Remote,
    targets: &[String],
    over: bool,
) -> Result<u8, CliError> {
    let cells: Vec<(String, Fingerprint, CellRecord)> = match graph {
        None => {
            let name = |record: &CellRecord, fingerprint: &Fingerprint| {
                format!("{} {}", record.cell.kind, fingerprint.0.short())
            };
            let all = store.records().into_iter();
            all.map(|(fingerprint, record)| (name(&record, &fingerprint), fingerprint, record)).collect()
        }
        Some(graph) => {
            let history = History::open(store, &graph.recipe);
            let plan = Plan::make(graph, &wanted(graph, targets)?, store, &history)?;
            let finished = |(cell, decision): (&usize, &Decision)| match decision {
                Decision::Reuse { fingerprint, .. } => {
                    let name = graph.cells[*cell].name.to_string();
                    Some((name, fingerprint.clone(), store.record(fingerprint)?))
                }
                Decision::Fetch { .. } | Decision::Run { .. } | Decision::Undecided { .. } => None,
            };
            plan.decisions.iter().filter_map(finished).collect()
        }
    };
    let stop = cancellation("stopping: what has been sent stays; press Ctrl-C again to stop at once");
    let (trouble, sent, other) = (Trouble::default(), AtomicUsize::new(0), AtomicUsize::new(0));
    let there = AtomicUsize::new(0);
    remote.for_each(&cells, |(name, fingerprint, record)| {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        match remote.send(store, fingerprint, record, over, &stop) {
            Ok(Sent::New) => {
                sent.fetch_add(1, Ordering::Relaxed);
                say(&format!("  sent   {name}: {}", bytes(record.bytes)));
            }
            Ok(Sent::There) => drop(there.fetch_add(1, Ordering::Relaxed)),
            Ok(Sent::Other) => {
                other.fetch_add(1, Ordering::Relaxed);
                say(&format!(
                    "  note   {name}: another result of it is there and stays; `--over` replaces it"
                ));
            }
            Err(error) => trouble.met(name, error, &stop),
        }
    });
    let (sent, there, other) = (sent.into_inner(), there.into_inner(), other.into_inner());
    say(&format!("sent {} to {}, {} there already", counted(sent, "result"), remote.name(), there + other));
    if let Some(error) = trouble.first.into_inner().expect("no panic while it is held") {
        return Err(error.into());
    }
    Ok(if stop.load(Ordering::Relaxed) { exit::INTERRUPTED } else { exit::DONE })
}

pub(super) fn pull(
    graph: &Graph,
    store: &Store,
    remote: &Remote,
    targets: &[String],
) -> Result<u8, CliError> {
    let mut history = History::open(store, &graph.recipe);
    let (plan, errors) = Plan::with_remote(graph, &wanted(graph, targets)?, store, &history, remote)?;
    for error in errors {
        match error {
            RemoteError::Refused { .. } => say(&format!("warning: {}", describe(&error))),
            error => return Err(error.into()),
        }
    }
    let stop = cancellation("stopping: what has arrived stays; press Ctrl-C again to stop at once");
    let wanted = |(cell, decision): (&usize, &Decision)| match decision {
        Decision::Fetch { fingerprint, .. } => Some((*cell, fingerprint.clone())),
        Decision::Reuse { .. } | Decision::Run { .. } | Decision::Undecided { .. } => None,
    };
    let cells: Vec<(usize, Fingerprint)> = plan.decisions.iter().filter_map(wanted).collect();
    let trouble = Trouble::default();
    remote.for_each(&cells, |(cell, fingerprint)| {
        if stop.load(Ordering::Relaxed) {
            return;
        }
        let cell = &graph.cells[*cell];
        match remote.fetch(store, fingerprint, &cell.made(), &stop) {
            Ok(Some(record)) => say(&format!("  fetch  {}: {}", cell.name, bytes(record.bytes))),
            // It went from the remote meanwhile, or another process is at it.
            Ok(None) => {}
            Err(error) => trouble.met(&cell.name.0, error, &stop),
        }
    });
    // What is here now counts as the recipe's latest state, which `gc` keeps.
    let (mut here, mut fetched) = (0, 0);
    for (cell, decision) in &plan.decisions {
        if let Decision::Reuse { fingerprint, .. } | Decision::Fetch { fingerprint, .. } = decision
            && store.record(fingerprint).is_some()
        {
            here += 1;
            fetched += usize::from(matches!(decision, Decision::Fetch { .. }));
            history.note(&graph.cells[*cell].name.0, fingerprint);
        }
    }
    let missing = plan.decisions.len() - here;
    let results = counted(fetched, "result");
    say(&match missing {
        0 => format!("fetched {results} from {}; everything is up to date", remote.name()),
        missing => format!(
            "fetched {results} from {}; {} not there: `retort run` makes them",
            remote.name(),
            counted(missing, "cell")
        ),
    });
    if let Some(error) = trouble.first.into_inner().expect("no panic while it is held") {
        return Err(error.into());
    }
    Ok(match (stop.load(Ordering::Relaxed), missing) {
        (true, _) => exit::INTERRUPTED,
        (false, 0) => exit::DONE,
        (false, _) => exit::WORK_TO_DO,
    })
}
