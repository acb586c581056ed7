//! `run`, `plan`, `why` and `table`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    io::IsTerminal,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use contract::{Estimate, seconds};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde_json::json;

use super::{CliError, audit, cancellation, exit, print};
use crate::{
    estimate::{self, estimates},
    executor::slurm,
    graph::Graph,
    history::History,
    kinds::{Kinds, TableFormat},
    lock::Lock,
    log::RunLog,
    plan::{Counts, Decision, Outputs, Plan, Reason},
    recipe::{ExecutorDecl, SlurmDecl},
    remote::Remote,
    reporter::{Reporter, bytes, counted, say},
    run::{Given, Listener, Outcome, RunOptions, run as execute},
    secrets,
    store::Store,
    watch::{self, Screen, Watch},
};

/// How to run.
pub(super) struct Settings {
    pub(super) jobs: Option<usize>,
    pub(super) fail_fast: bool,
    pub(super) quiet: bool,
    pub(super) watch: bool,
    pub(super) locked: bool,
    pub(super) devices: Vec<String>,
    pub(super) remote: Option<Arc<Remote>>,
}

pub(super) fn wanted(graph: &Graph, targets: &[String]) -> Result<BTreeSet<usize>, CliError> {
    if targets.is_empty() {
        return Ok((0..graph.cells.len()).collect());
    }
    let mut selected = Vec::new();
    for target in targets {
        selected.extend(graph.select(target)?);
    }
    Ok(graph.closure(&selected))
}

pub(super) fn run(
    kinds: &Kinds,
    graph: &Graph,
    store: &Store,
    recipe: &Path,
    targets: &[String],
    settings: Settings,
) -> Result<u8, CliError> {
    let wanted = wanted(graph, targets)?;
    let mut history = History::open(store, &graph.recipe);
    let plan = planned(graph, &wanted, store, &history, settings.remote.as_deref())?;
    let lock = settings.locked.then(|| Lock::read(&audit::lock_path(recipe))).transpose()?;
    if let Some(lock) = &lock {
        audit::hold_to(lock, graph, &plan, store)?;
    }
    say_accepted(graph, &plan);
    if plan.counts().idle() {
        return up_to_date(kinds, graph, store, &plan, &mut history, settings.quiet);
    }
    let options = options(kinds, graph, &plan, &settings)?;
    open_many_files();
    let cancelled = cancellation("stopping: finished work is kept; press Ctrl-C again to stop at once");
    let mut log = RunLog::begin(store, graph, &recipe.to_string_lossy(), (wanted.len(), plan.counts().reuse));
    let id = log.id.clone();
    let reporter = Reporter::new(wanted.len(), settings.quiet);
    if !settings.quiet {
        say_begin(&id, graph, &plan, store);
    }
    let started = Instant::now();
    let screen = if settings.watch { screen() } else { None };
    let mut watch = Watch::new(reporter, &log.began, screen);
    let listeners: &mut [&mut dyn Listener] = &mut [&mut log, &mut watch];
    let outcome = execute(Given {
        graph,
        plan: &plan,
        store,
        history: &mut history,
        run: &id,
        options: &options,
        cancelled: &cancelled,
        listeners,
    });
    watch.finish();
    log.end(graph, &history, &outcome);
    print_tables(kinds, graph, store, &|cell| outcome.outputs.get(&cell).cloned())?;
    if !settings.quiet {
        say(&summary(&outcome, started.elapsed()));
    }
    if let Some(lock) = &lock {
        audit::compare(lock, graph, &outcome.outputs)?;
    }
    Ok(match (outcome.interrupted, outcome.failed.is_empty()) {
        (true, _) => exit::INTERRUPTED,
        (false, false) => exit::FAILED,
        (false, true) => exit::DONE,
    })
}

/// A run that has nothing to do: its tables, and that it has nothing to do.
fn up_to_date(
    kinds: &Kinds,
    graph: &Graph,
    store: &Store,
    plan: &Plan,
    history: &mut History,
    quiet: bool,
) -> Result<u8, CliError> {
    for (cell, decision) in &plan.decisions {
        if let Decision::Reuse { fingerprint, .. } = decision {
            history.note(&graph.cells[*cell].name.0, fingerprint);
        }
    }
    print_tables(kinds, graph, store, &|cell| match plan.decisions.get(&cell)? {
        Decision::Reuse { outputs, .. } => Some(outputs.clone()),
        Decision::Fetch { .. } | Decision::Run { .. } | Decision::Undecided { .. } => None,
    })?;
    if !quiet {
        let reuse = plan.counts().reuse;
        let are = if reuse == 1 { "is" } else { "are" };
        say(&format!("nothing to do: {} {are} up to date", counted(reuse, "cell")));
    }
    Ok(exit::DONE)
}

/// What a run may use; refuses where it lacks something that its cells need.
fn options(kinds: &Kinds, graph: &Graph, plan: &Plan, settings: &Settings) -> Result<RunOptions, CliError> {
    let computes = |cell: &usize| graph.cells[*cell].kind.computes_with(&graph.cells[*cell].params);
    if plan.decisions.iter().any(|(cell, decision)| {
        computes(cell) && !matches!(decision, Decision::Reuse { .. } | Decision::Fetch { .. })
    }) {
        check_backend(kinds, graph)?;
    }
    let (secrets, missing) = secrets::read(graph, plan, |variable| std::env::var(variable).ok());
    if !missing.is_empty() {
        return Err(CliError::Secrets(missing));
    }
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    Ok(RunOptions {
        threads: settings.jobs.unwrap_or(cores).max(1),
        memory: total_memory(),
        devices: settings.devices.clone(),
        fail_fast: settings.fail_fast,
        secrets,
        remote: settings.remote.clone(),
        cancel_jobs: ask_to_cancel,
    })
}

/// What a run is about to do, and what that would cost.
fn say_begin(run: &str, graph: &Graph, plan: &Plan, store: &Store) {
    let Counts { run: to_run, undecided, fetch, reuse } = plan.counts();
    let depend = if undecided == 1 { "depends" } else { "depend" };
    let fetch = if fetch > 0 { format!("{fetch} to fetch, ") } else { String::new() };
    let to_run = counted(to_run, "cell");
    say(&format!("run {run}: {to_run} to run, {undecided} more {depend} on them, {fetch}{reuse} up to date"));
    for (cell, estimate) in estimates(graph, plan, store) {
        if let Some(line) = estimate::line(&estimate) {
            say(&format!("  costs  {}: {line}", graph.cells[cell].name));
        }
    }
}

/// How a run ended, in one line.
fn summary(outcome: &Outcome, took: Duration) -> String {
    let time = seconds(took.as_secs_f64());
    let fetched = if outcome.fetched > 0 { format!(", fetched {}", outcome.fetched) } else { String::new() };
    let mut summary =
        format!("ran {}, reused {}{fetched}, in {time}", counted(outcome.ran, "cell"), outcome.reused);
    if outcome.unsent > 0 {
        write!(summary, "; {} not sent: `retort push` sends them", counted(outcome.unsent, "result")).ok();
    }
    if !outcome.failed.is_empty() {
        write!(summary, "; {} failed, {} skipped", outcome.failed.len(), outcome.skipped).ok();
    }
    if outcome.left > 0 {
        write!(summary, "; {} on the cluster", counted(outcome.left, "job")).ok();
    }
    if outcome.interrupted {
        summary.push_str("; interrupted: the same command goes on from here");
    }
    summary
}

/// The terminal for a view, or a sentence about why there is none.
fn screen() -> Option<Screen> {
    if !watch::possible() {
        say("note: there is no terminal to watch the run on, so it is told in lines");
        return None;
    }
    Screen::open().inspect_err(|error| say(&format!("note: no view of the run: {error}"))).ok()
}

/// What a table rests on and was not computed as the recipe stands is said each time.
fn say_accepted(graph: &Graph, plan: &Plan) {
    for (cell, accepted) in &plan.accepted {
        let name = &graph.cells[*cell].name;
        say(&format!("note: `{name}` is an earlier result, accepted: {}", accepted.reason));
    }
}

/// After Ctrl-C. Without a terminal there is nobody to ask, and who stops the run does not expect it to go on elsewhere.
fn ask_to_cancel(jobs: usize) -> bool {
    if !std::io::stdin().is_terminal() {
        return true;
    }
    let jobs = counted(jobs, "job");
    say(&format!("cancel {jobs} on the cluster? [y/N] (if not, the same command finds them again)"));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).is_ok() && answer.trim().to_ascii_lowercase().starts_with('y')
}

fn check_backend(kinds: &Kinds, graph: &Graph) -> Result<(), CliError> {
    match (kinds.backend_report)(&graph.backend.name).problem {
        Some((problem, help)) => Err(CliError::Backend { problem, help }),
        None => Ok(()),
    }
}

/// A cell on its way to a cluster holds its lock, an open file, and there may be thousands: as many as may be had.
fn open_many_files() {
    let limit = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, "cannot raise the limit of open files");
    }
}

/// Memory of the machine, bytes; unlimited where it cannot be read.
fn total_memory() -> u64 {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"));
    let kibibytes = line.and_then(|line| line.trim().trim_end_matches(" kB").parse::<u64>().ok());
    kibibytes.map_or(u64::MAX, |kibibytes| kibibytes * 1024)
}

fn print_tables(
    kinds: &Kinds,
    graph: &Graph,
    store: &Store,
    outputs: &dyn Fn(usize) -> Option<Outputs>,
) -> Result<(), CliError> {
    for stage in graph.stages.iter().filter(|stage| stage.table) {
        for &cell in &stage.cells {
            if let Some(digest) = outputs(cell).as_ref().and_then(|outputs| outputs.values().next()) {
                print(&format!("{}\n", (kinds.render_table)(&store.object(digest), TableFormat::Terminal)?));
            }
        }
    }
    Ok(())
}

/// Plans with the remote cache where there is one; what is wrong with that is said.
fn planned(
    graph: &Graph,
    wanted: &BTreeSet<usize>,
    store: &Store,
    history: &History,
    remote: Option<&Remote>,
) -> Result<Plan, CliError> {
    let Some(remote) = remote.filter(|remote| remote.reads()) else {
        return Ok(Plan::make(graph, wanted, store, history)?);
    };
    let (plan, errors) = Plan::with_remote(graph, wanted, store, history, remote)?;
    for warning in errors.iter().filter_map(|error| remote.warning(error)) {
        say(&format!("warning: {warning}"));
    }
    Ok(plan)
}

pub(super) fn plan(
    graph: &Graph,
    store: &Store,
    targets: &[String],
    remote: Option<&Remote>,
    all: bool,
    as_json: bool,
) -> Result<u8, CliError> {
    let history = History::open(store, &graph.recipe);
    let plan = planned(graph, &wanted(graph, targets)?, store, &history, remote)?;
    let estimates = estimates(graph, &plan, store);
    let costs = estimate::costs(graph, &plan, store, &history);
    print(&if as_json {
        plan_json(graph, &plan, &estimates, &costs)
    } else {
        plan_text(graph, &plan, &estimates, &costs, all)
    });
    // A plan can be made without keys; running it cannot.
    for missing in secrets::read(graph, &plan, |variable| std::env::var(variable).ok()).1 {
        say(&format!("warning: {missing}\nhelp: {}", missing.help()));
    }
    Ok(if plan.counts().idle() { exit::DONE } else { exit::WORK_TO_DO })
}

fn names(graph: &Graph, cells: &[usize]) -> Vec<String> {
    cells.iter().map(|cell| graph.cells[*cell].name.to_string()).collect()
}

fn plan_json(
    graph: &Graph,
    plan: &Plan,
    estimates: &BTreeMap<usize, Estimate>,
    costs: &estimate::Costs,
) -> String {
    let mut lines = String::from("{\"cells\": [\n");
    for (index, (cell, decision)) in plan.decisions.iter().enumerate() {
        let mut value = match decision {
            Decision::Reuse { fingerprint, outputs } => {
                json!({"decision": "reuse", "fingerprint": fingerprint, "outputs": outputs})
            }
            Decision::Fetch { fingerprint, outputs, bytes } => json!({
                "decision": "fetch", "fingerprint": fingerprint, "outputs": outputs, "bytes": bytes,
            }),
            Decision::Run { reason } => json!({"decision": "run", "reason": reason}),
            Decision::Undecided { waits_for, changes } => {
                json!({"decision": "undecided", "waits_for": names(graph, waits_for), "changes": changes})
            }
        };
        value["cell"] = graph.cells[*cell].name.0.as_str().into();
        value["executor"] = match graph.stages[graph.cells[*cell].stage].executor {
            ExecutorDecl::Local => "local".into(),
            ExecutorDecl::Slurm(_) => "slurm".into(),
        };
        if let Some(calls) = estimates.get(cell).and_then(|estimate| estimate.calls.as_ref()) {
            value["estimate"] = json!(calls);
        }
        let comma = if index + 1 < plan.decisions.len() { "," } else { "" };
        writeln!(lines, "  {value}{comma}").ok();
    }
    let (recipe, costs, counts) = (json!(graph.recipe), json!(costs.known), json!(plan.counts()));
    format!("{lines}], \"recipe\": {recipe}, \"costs\": {costs}, \"counts\": {counts}}}\n")
}

fn plan_text(
    graph: &Graph,
    plan: &Plan,
    estimates: &BTreeMap<usize, Estimate>,
    costs: &estimate::Costs,
    all: bool,
) -> String {
    let mut text = String::new();
    // Without `--all`, what merely waits is told once a stage.
    let mut waiting: Vec<(usize, usize, BTreeSet<usize>)> = Vec::new();
    for (cell, decision) in &plan.decisions {
        let name = &graph.cells[*cell].name;
        match decision {
            Decision::Run { reason } => writeln!(text, "run    {name}: {reason}"),
            Decision::Fetch { bytes: size, .. } => {
                writeln!(text, "fetch  {name}: {} from the remote", bytes(*size))
            }
            Decision::Undecided { waits_for, changes } if all || !changes.is_empty() => {
                let changed: Vec<String> = changes.iter().map(ToString::to_string).collect();
                let changed =
                    if changed.is_empty() { String::new() } else { format!("{}; ", changed.join("; ")) };
                writeln!(text, "maybe  {name}: {changed}waits for {}", names(graph, waits_for).join(", "))
            }
            Decision::Undecided { waits_for, .. } => {
                let stage = graph.cells[*cell].stage;
                let stages = waits_for.iter().map(|cell| graph.cells[*cell].stage);
                match waiting.iter_mut().find(|entry| entry.0 == stage) {
                    Some(entry) => {
                        entry.1 += 1;
                        entry.2.extend(stages);
                    }
                    None => waiting.push((stage, 1, stages.collect())),
                }
                Ok(())
            }
            Decision::Reuse { .. } if all => writeln!(text, "reuse  {name}"),
            Decision::Reuse { .. } => Ok(()),
        }
        .ok();
    }
    for (stage, count, stages) in waiting {
        let stages: Vec<&str> = stages.iter().map(|stage| graph.stages[*stage].name.as_str()).collect();
        let cells = if count == 1 { "1 cell waits".to_owned() } else { format!("{count} cells wait") };
        writeln!(text, "maybe  {}: {cells} for {}", graph.stages[stage].name, stages.join(", ")).ok();
    }
    for (cell, estimate) in estimates {
        if let Some(line) = estimate::line(estimate) {
            writeln!(text, "costs  {}: {line}", graph.cells[*cell].name).ok();
        }
    }
    for line in costs.lines() {
        writeln!(text, "time   {line}").ok();
    }
    for line in arrays(graph, plan) {
        writeln!(text, "submit {line}").ok();
    }
    let Counts { run, undecided, fetch, reuse } = plan.counts();
    let depend = if undecided == 1 { "depends" } else { "depend" };
    let fetch = if fetch > 0 { format!("{fetch} to fetch, ") } else { String::new() };
    writeln!(text, "{run} to run, {undecided} {depend} on them, {fetch}{reuse} up to date").ok();
    text
}

/// What would be submitted to a cluster: `student: an array of 12 jobs, --cpus-per-task=4 --gres=gpu:1`.
fn arrays(graph: &Graph, plan: &Plan) -> Vec<String> {
    let mut arrays: BTreeMap<(usize, String), (usize, &SlurmDecl)> = BTreeMap::new();
    for (index, decision) in &plan.decisions {
        let cell = &graph.cells[*index];
        if let (ExecutorDecl::Slurm(slurm), false) = (
            &graph.stages[cell.stage].executor,
            matches!(decision, Decision::Reuse { .. } | Decision::Fetch { .. }),
        ) {
            let cpus = slurm.cpus.unwrap_or(cell.resources.cpu.least);
            let options = slurm::commands::options(slurm, cpus, cell.resources.memory).join(" ");
            arrays.entry((cell.stage, options)).or_insert((0, slurm)).0 += 1;
        }
    }
    let line = |((stage, options), (jobs, slurm)): (&(usize, String), &(usize, &SlurmDecl))| {
        let throttle =
            slurm.at_once.as_ref().map(|limit| format!(", {} at once", limit.most)).unwrap_or_default();
        let stage = &graph.stages[*stage].name;
        format!("{stage}: {}{throttle}: sbatch {options}", counted(*jobs, "job"))
    };
    arrays.iter().map(line).collect()
}

pub(super) fn why(graph: &Graph, store: &Store, target: &str) -> Result<u8, CliError> {
    let history = History::open(store, &graph.recipe);
    let cells = graph.select(target)?;
    let plan = Plan::make(graph, &graph.closure(&cells), store, &history)?;
    let mut text = String::new();
    for cell in cells {
        explain(graph, store, &plan, cell, &mut text);
    }
    print(&text);
    Ok(exit::DONE)
}

fn explain(graph: &Graph, store: &Store, plan: &Plan, cell: usize, text: &mut String) {
    let name = &graph.cells[cell].name;
    match &plan.decisions[&cell] {
        Decision::Reuse { fingerprint, .. } => {
            let made = store.record(fingerprint).map_or_else(String::new, |record| {
                let made = format!(": made by run {} in {}", record.run, seconds(record.seconds));
                match record.accepted {
                    Some(accepted) => format!(
                        "{made} as {}, accepted {}: {}",
                        accepted.from, accepted.time, accepted.reason
                    ),
                    None => made,
                }
            });
            writeln!(text, "{name} is up to date{made}").ok();
        }
        Decision::Fetch { .. } => {
            writeln!(text, "{name} would be fetched from the remote").ok();
        }
        Decision::Run { reason: Reason::Changed { changes } } => {
            writeln!(text, "{name} would run; changed since its last run:").ok();
            for change in changes {
                writeln!(text, "  {change}").ok();
            }
        }
        Decision::Run { reason } => {
            writeln!(text, "{name} would run: {reason}").ok();
        }
        Decision::Undecided { waits_for, changes } => {
            writeln!(text, "{name} may run: it waits for {}", names(graph, waits_for).join(", ")).ok();
            for change in changes {
                writeln!(text, "  {change}").ok();
            }
            let causes = graph.closure(waits_for);
            for cause in causes {
                if matches!(plan.decisions[&cause], Decision::Run { .. }) {
                    explain(graph, store, plan, cause, text);
                }
            }
        }
    }
}

pub(super) fn table(
    kinds: &Kinds,
    graph: &Graph,
    store: &Store,
    name: Option<&str>,
    format: TableFormat,
) -> Result<u8, CliError> {
    let tables: Vec<&str> =
        graph.stages.iter().filter(|stage| stage.table).map(|stage| stage.name.as_str()).collect();
    let selected: Vec<&str> = match name {
        None => tables.clone(),
        Some(name) => tables.iter().copied().filter(|table| *table == format!("tables.{name}")).collect(),
    };
    if selected.is_empty() {
        let known: Vec<&str> = tables.iter().filter_map(|table| table.strip_prefix("tables.")).collect();
        return Err(CliError::Asked {
            message: name
                .map_or("the recipe has no tables".to_owned(), |name| format!("no table is called `{name}`")),
            help: (!known.is_empty()).then(|| format!("tables of this recipe: {}", known.join(", "))),
        });
    }
    let history = History::open(store, &graph.recipe);
    for table in selected {
        let cells = graph.select(table)?;
        let plan = Plan::make(graph, &graph.closure(&cells), store, &history)?;
        for cell in cells {
            let Decision::Reuse { outputs, .. } = &plan.decisions[&cell] else {
                return Err(CliError::Asked {
                    message: format!("`{}` is not up to date", graph.cells[cell].name),
                    help: Some("`retort run` makes it; `retort plan` says what that takes".to_owned()),
                });
            };
            let digest = outputs.values().next().expect("the table kind has one output");
            print(&format!("{}\n", (kinds.render_table)(&store.object(digest), format)?));
        }
    }
    Ok(exit::DONE)
}
