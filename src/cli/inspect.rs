//! `show`, `runs` and `logs`: what is in the store, readably. Knows file formats, not what artifacts mean.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    sync::atomic::Ordering,
    time::{Duration, SystemTime},
};

use contract::{
    ArtifactType, jsonl,
    records::{Metric, files},
};
use serde_json::Value;

use super::{CliError, cancellation, exit, print};
use crate::{
    graph::Graph,
    history::History,
    job::EventReader,
    log,
    plan::{Decision, Plan},
    reporter,
    store::{Store, list},
    tensorboard,
    watch::{self, Key, Screen, View, draw},
};

/// Text files longer than this many lines are cut.
const TEXT_LINES: usize = 200;

/// An artifact a target means: the cell's name, the output port, its type, and where it is.
pub(super) struct Shown {
    pub(super) cell: String,
    pub(super) port: String,
    pub(super) artifact: ArtifactType,
    pub(super) folder: PathBuf,
}

/// The artifacts of `CELL` or `CELL:PORT`, also where they are not up to date any more.
pub(super) fn artifacts(graph: &Graph, store: &Store, target: &str) -> Result<Vec<Shown>, CliError> {
    let (cell, port) = match target.rsplit_once(':') {
        Some((cell, port)) => (cell, Some(port)),
        None => (target, None),
    };
    let history = History::open(store, &graph.recipe);
    let cells = graph.select(cell)?;
    let plan = Plan::make(graph, &graph.closure(&cells), store, &history)?;
    let mut shown = Vec::new();
    for cell in cells {
        let name = &graph.cells[cell].name;
        // What is there may be looked at even when it is not up to date any more.
        let outputs = match &plan.decisions[&cell] {
            Decision::Reuse { outputs, .. } => Some(outputs.clone()),
            Decision::Fetch { .. } | Decision::Run { .. } | Decision::Undecided { .. } => {
                let latest = history.latest(&name.0).and_then(|fingerprint| store.record(fingerprint));
                latest.map(|record| record.outputs).inspect(|_| {
                    reporter::say(&format!("warning: `{name}` is not up to date; this is its last result"));
                })
            }
        };
        let Some(outputs) = outputs else {
            return Err(CliError::Asked {
                message: format!("`{name}` has no result yet"),
                help: Some("`retort run` makes it".to_owned()),
            });
        };
        if let Some(port) = port
            && !outputs.contains_key(port)
        {
            let known: Vec<&String> = outputs.keys().collect();
            return Err(CliError::Asked {
                message: format!("`{name}` has no output port `{port}`"),
                help: Some(format!("its output ports: {known:?}").replace('"', "`")),
            });
        }
        for (name_of_port, digest) in outputs.iter().filter(|(name, _)| port.is_none_or(|port| port == *name))
        {
            let declared = graph.cells[cell].kind.outputs().iter().find(|port| port.name == name_of_port);
            shown.push(Shown {
                cell: name.to_string(),
                port: name_of_port.clone(),
                artifact: declared.expect("a record holds the outputs its kind declares").artifact,
                folder: store.object(digest),
            });
        }
    }
    Ok(shown)
}

pub(super) fn show(
    graph: &Graph,
    store: &Store,
    target: &str,
    records: usize,
    path_only: bool,
) -> Result<u8, CliError> {
    let mut text = String::new();
    for Shown { cell, port, folder, .. } in artifacts(graph, store, target)? {
        if path_only {
            writeln!(text, "{}", folder.display()).ok();
            continue;
        }
        writeln!(text, "# {cell}:{port} ({})", folder.display()).ok();
        for (file, size) in list(&folder)? {
            writeln!(text, "\n## {file} ({})", reporter::bytes(size)).ok();
            show_file(&folder.join(&file), records, &mut text);
        }
        text.push('\n');
    }
    print(&text);
    Ok(exit::DONE)
}

/// Writes the training logs a target means as event files, each in a folder named after its cell.
pub(super) fn tensorboard(graph: &Graph, store: &Store, target: &str, folder: &Path) -> Result<u8, CliError> {
    let mut written = 0;
    for Shown { cell, folder: artifact, .. } in
        artifacts(graph, store, target)?.into_iter().filter(|shown| shown.artifact == ArtifactType::Metrics)
    {
        let metrics: Vec<Metric> = jsonl::read(&artifact.join(files::METRICS))?;
        if metrics.is_empty() {
            continue;
        }
        let run = folder.join(&cell);
        let path = run.join(tensorboard::FILE);
        fs::create_dir_all(&run)
            .and_then(|()| fs::write(&path, tensorboard::events(&metrics)))
            .map_err(|source| CliError::Write { path, source })?;
        written += 1;
    }
    if written == 0 {
        return Err(CliError::Asked {
            message: format!("`{target}` holds no training log"),
            help: Some("`retort kinds` tells which kinds have an output port `metrics`".to_owned()),
        });
    }
    reporter::say(&format!("wrote {written} logs; `tensorboard --logdir {}` shows them", folder.display()));
    Ok(exit::DONE)
}

fn show_file(path: &Path, records: usize, text: &mut String) {
    let extension = path.extension().map(|extension| extension.to_string_lossy().into_owned());
    match extension.as_deref() {
        Some("safetensors") => show_tensors(path, text),
        Some("jsonl") => {
            let content = fs::read_to_string(path).unwrap_or_default();
            let lines: Vec<&str> = content.lines().filter(|line| !line.trim().is_empty()).collect();
            for line in lines.iter().take(records) {
                match serde_json::from_str::<Value>(line) {
                    Ok(value) => {
                        let yaml = serde_yaml::to_string(&value).unwrap_or_else(|_| (*line).to_owned());
                        let mut prefix = "- ";
                        for line in yaml.lines() {
                            writeln!(text, "{prefix}{}", visible(line)).ok();
                            prefix = "  ";
                        }
                    }
                    Err(_) => writeln!(text, "{}", visible(line)).unwrap_or(()),
                }
            }
            if lines.len() > records {
                writeln!(text, "({} more; `-n all` shows them)", lines.len() - records).ok();
            }
        }
        Some(_) | None => match fs::read_to_string(path) {
            Ok(content) => {
                let total = content.lines().count();
                for line in content.lines().take(TEXT_LINES) {
                    writeln!(text, "{}", visible(line)).ok();
                }
                if total > TEXT_LINES {
                    writeln!(text, "({} more lines; `--path` says where they are)", total - TEXT_LINES).ok();
                }
            }
            Err(_) => text.push_str("(binary)\n"),
        },
    }
}

/// A line without characters that would move the cursor or reverse the text, cut at 2,000 characters.
fn visible(line: &str) -> String {
    let shown = |c: char| if c.is_control() && c != '\t' { '\u{fffd}' } else { c };
    line.chars().take(2000).map(shown).collect()
}

/// The header of a safetensors file: 8 bytes of length, then JSON.
fn show_tensors(path: &Path, text: &mut String) {
    use std::io::Read;
    let header = || -> Option<Value> {
        let mut file = fs::File::open(path).ok()?;
        let mut length = [0; 8];
        file.read_exact(&mut length).ok()?;
        let length = u64::from_le_bytes(length).min(file.metadata().ok()?.len());
        let mut bytes = Vec::new();
        file.take(length).read_to_end(&mut bytes).ok()?;
        serde_json::from_slice(&bytes).ok()
    };
    match header() {
        Some(Value::Object(tensors)) => {
            for (name, tensor) in tensors.iter().filter(|(name, _)| *name != "__metadata__") {
                writeln!(text, "{name} {} {}", tensor["dtype"].as_str().unwrap_or("?"), tensor["shape"]).ok();
            }
        }
        Some(_) | None => text.push_str("(not a safetensors file)\n"),
    }
}

pub(super) fn runs(store: &Store) -> Result<u8, CliError> {
    let mut text = String::new();
    for run in log::runs(store) {
        let state = run.state();
        let ran = run
            .end
            .as_ref()
            .map_or_else(String::new, |end| format!("{} ran, {} reused", end["ran"], end["reused"]));
        let recipe = run.begin["recipe"].as_str().unwrap_or("?");
        writeln!(text, "{}  {recipe}  {state}  {ran}", run.id).ok();
    }
    print(&text);
    Ok(exit::DONE)
}

/// Shows a run that goes on elsewhere, until it ends or somebody has seen enough.
pub(super) fn watch(store: &Store, run: Option<&str>) -> Result<u8, CliError> {
    let is_meant = |summary: &log::RunSummary| {
        run.is_none_or(|run| {
            summary.id == run || summary.begin["recipe"] == run || summary.begin["file"] == run
        })
    };
    let Some(summary) = log::runs(store).into_iter().rfind(is_meant) else {
        return Err(CliError::Asked {
            message: run.map_or("there are no runs yet".to_owned(), |run| format!("there is no run `{run}`")),
            help: Some("`retort runs` lists them".to_owned()),
        });
    };
    let mut reader = EventReader::new(log::path(store, &summary.id));
    let mut view = View::new();
    let mut code = exit::DONE;
    if summary.end.is_none() {
        if !watch::possible() {
            return Err(CliError::Asked {
                message: "there is no terminal to watch a run on".to_owned(),
                help: Some(format!("`retort logs {}` prints what happened", summary.id)),
            });
        }
        // Ctrl-C is a key here; a signal from outside closes the view, and that ends it.
        let stopped = cancellation("no longer watching; the run goes on");
        let shown = Screen::open().map(|mut screen| follow(&mut screen, &mut view, &mut reader));
        watch::close();
        shown.map_err(|source| CliError::Write { path: "the terminal".into(), source })?;
        if stopped.load(Ordering::Relaxed) {
            code = exit::INTERRUPTED;
        }
    }
    let summary = log::RunSummary { end: view.end.or(summary.end), ..summary };
    let state = match &summary.end {
        Some(_) => summary.state(),
        None => "not heard to end".to_owned(),
    };
    reporter::say(&format!("run {}: {state}", summary.id));
    Ok(code)
}

fn follow(screen: &mut Screen, view: &mut View, reader: &mut EventReader) {
    while view.end.is_none() {
        reader.read().iter().for_each(|event| view.hear(event));
        if !screen.draw(|frame| draw(frame, view, SystemTime::now())) {
            return;
        }
        match screen.key(Duration::from_millis(200)) {
            Some(Key::Quit | Key::Stop) => return,
            Some(Key::Up) => view.choose(-1),
            Some(Key::Down) => view.choose(1),
            None => {}
        }
    }
}

pub(super) fn logs(store: &Store, run: Option<&str>, cell: Option<&str>, json: bool) -> Result<u8, CliError> {
    let run = match run {
        Some(run) => Some(run.to_owned()),
        None => log::runs(store).pop().map(|run| run.id),
    };
    let events = run.as_deref().map(|run| log::events(store, run)).unwrap_or_default();
    if events.is_empty() {
        return Err(CliError::Asked {
            help: Some(
                if run.is_some() { "`retort runs` lists them" } else { "`retort run RECIPE` starts one" }
                    .to_owned(),
            ),
            message: run.map_or("there are no runs yet".to_owned(), |run| format!("there is no run `{run}`")),
        });
    }
    let is_meant = |event: &Value| {
        cell.is_none_or(|cell| event["cell"].as_str().is_some_and(|of_cell| of_cell.contains(cell)))
    };
    if let Some(cell) = cell
        && !events.iter().any(is_meant)
    {
        let run = run.unwrap_or_default();
        return Err(CliError::Asked {
            message: format!("run `{run}` tells of no cell whose name contains `{cell}`"),
            help: Some(format!("`retort logs {run}` tells of all")),
        });
    }
    let (mut text, mut outputs) = (String::new(), Vec::new());
    for mut event in events.into_iter().filter(is_meant) {
        let of_cell = event["cell"].as_str().unwrap_or_default();
        if event["event"] == "placed"
            && let (Some(job), Some(path)) = (event["job"].as_str(), event["output"].as_str())
        {
            outputs.push((of_cell.to_owned(), job.to_owned(), path.to_owned()));
        }
        if json {
            writeln!(text, "{event}").ok();
            continue;
        }
        if event["event"] == "progress" {
            continue; // Of interest while it lasts.
        }
        let Value::Object(fields) = &mut event else { continue };
        let mut take = |name: &str| match fields.remove(name) {
            Some(Value::String(text)) => text,
            Some(other) => other.to_string(),
            None => String::new(),
        };
        let (time, name, cell) = (take("time"), take("event"), take("cell"));
        let rest: Vec<String> = fields.iter().map(|(key, value)| format!("{key}={value}")).collect();
        writeln!(text, "{time} {name:11} {cell} {}", visible(&rest.join(" "))).ok();
    }
    // One cell's jobs are shown with what they printed.
    for (of_cell, job, path) in outputs.iter().filter(|_| cell.is_some() && !json) {
        writeln!(text, "\noutput of {of_cell}, job {job}: {path}").ok();
        let output = fs::read(path).unwrap_or_default();
        let output = String::from_utf8_lossy(&output);
        let lines: Vec<&str> = output.lines().collect();
        for line in &lines[lines.len().saturating_sub(TEXT_LINES)..] {
            writeln!(text, "  {}", visible(line)).ok();
        }
    }
    print(&text);
    Ok(exit::DONE)
}
