//! The run record: one append-only JSON Lines file a run, apart from the artifacts.
//!
//! Everything else that wants to know what happened reads it: `runs`, `logs`, reports. Writing it never fails a run.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{BufWriter, Write},
    path::PathBuf,
    time::SystemTime,
};

use serde_json::{Value, json};

use crate::{
    fingerprint::Fingerprint,
    graph::Graph,
    history::History,
    run::{CellEvent, Listener, Outcome},
    store::Store,
};

/// Writes a run's events.
pub struct RunLog {
    /// The run's id: the time it began and the process.
    pub id: String,
    writer: Option<BufWriter<File>>,
}

/// A run as its log tells it.
pub struct RunSummary {
    /// Its id.
    pub id: String,
    /// The first event.
    pub begin: Value,
    /// The last event, if the run came to its end.
    pub end: Option<Value>,
}

impl RunSummary {
    /// How it ended, in words.
    pub fn state(&self) -> String {
        match &self.end {
            None => "did not end".to_owned(),
            Some(end) if end["interrupted"] == true => "interrupted".to_owned(),
            Some(end) if end["failed"] != 0 => format!("{} failed", end["failed"]),
            Some(_) => "done".to_owned(),
        }
    }
}

fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

impl RunLog {
    /// Names a run. The log file is made with the first event.
    pub fn begin(store: &Store, graph: &Graph, recipe: &str, cells: usize) -> Self {
        let time: String = now().chars().filter(char::is_ascii_digit).take(17).collect();
        let id = format!("{}-{}-{}", &time[..8], &time[8..], std::process::id());
        let folder = store.root().join("runs").join(&id);
        let writer = fs::create_dir_all(&folder)
            .and_then(|()| File::create(folder.join("events.jsonl")))
            .map(BufWriter::new)
            .inspect_err(|error| tracing::warn!(%error, "no run log"))
            .ok();
        let mut log = Self { id, writer };
        log.write(json!({
            "event": "begin", "recipe": graph.recipe, "file": recipe, "cells": cells,
            "backend": graph.backend.name, "dtype": graph.backend.dtype, "version": env!("CARGO_PKG_VERSION"),
        }));
        log
    }

    /// Writes how the run ended, and what each finished cell had become.
    pub fn end(&mut self, graph: &Graph, history: &History, outcome: &Outcome) {
        let cells = outcome.outputs.keys().map(|cell| graph.cells[*cell].name.0.as_str());
        let cells: BTreeMap<&str, &Fingerprint> =
            cells.filter_map(|cell| Some((cell, history.latest(cell)?))).collect();
        self.write(json!({
            "event": "end", "ran": outcome.ran, "reused": outcome.reused, "fetched": outcome.fetched,
            "unsent": outcome.unsent, "failed": outcome.failed.len(),
            "skipped": outcome.skipped, "interrupted": outcome.interrupted, "left": outcome.left,
            "cells": cells,
        }));
    }

    fn write(&mut self, mut event: Value) {
        event["time"] = now().into();
        if let Some(writer) = &mut self.writer {
            let written = serde_json::to_writer(&mut *writer, &event)
                .map_err(std::io::Error::from)
                .and_then(|()| writer.write_all(b"\n"))
                .and_then(|()| writer.flush());
            if let Err(error) = written {
                tracing::warn!(%error, "cannot write the run log");
                self.writer = None;
            }
        }
    }
}

impl Listener for RunLog {
    fn event(&mut self, graph: &Graph, cell: usize, event: &CellEvent<'_>) {
        let name = &graph.cells[cell].name.0;
        let value = match event {
            CellEvent::Reused => return, // The plan says so; a log of a thousand reuses helps nobody.
            CellEvent::Found { record, .. } => json!({"event": "found", "made_by": record.run}),
            CellEvent::Fetched { record } => {
                json!({"event": "fetched", "made_by": record.run, "bytes": record.bytes, "outputs": record.outputs})
            }
            CellEvent::RemoteFailed { problem } => json!({"event": "remote-failed", "problem": problem}),
            CellEvent::Sent { sent } => json!({"event": "sent", "sent": sent}),
            CellEvent::Waiting => json!({"event": "waiting"}),
            CellEvent::Started { fingerprint, reason, threads } => {
                json!({"event": "started", "fingerprint": fingerprint, "reason": reason, "threads": threads})
            }
            CellEvent::Said(event) => match event {
                contract::Event::Progress { .. } => return,
                contract::Event::Metric { .. } | contract::Event::Note { .. } => {
                    serde_json::to_value(event).expect("events are plain data")
                }
            },
            CellEvent::Finished { record } => json!({
                "event": "finished", "seconds": record.seconds, "bytes": record.bytes, "outputs": record.outputs,
            }),
            CellEvent::Retrying { error, left } => {
                json!({"event": "retrying", "error": describe(*error), "left": left})
            }
            CellEvent::Failed { error } => {
                json!({"event": "failed", "error": describe(*error), "help": error.help()})
            }
            CellEvent::Placed { job, output, taken_over } => {
                json!({"event": "placed", "job": job, "output": output, "taken_over": taken_over})
            }
            CellEvent::Interrupted => json!({"event": "interrupted"}),
            CellEvent::Left => json!({"event": "left"}),
            CellEvent::Skipped { because } => {
                json!({"event": "skipped", "because": graph.cells[*because].name.0})
            }
        };
        let mut value = value;
        value["cell"] = name.as_str().into();
        self.write(value);
    }
}

/// An error with all its causes, in one line.
pub fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Every run of a store, oldest first.
pub fn runs(store: &Store) -> Vec<RunSummary> {
    let mut runs = Vec::new();
    for entry in fs::read_dir(store.root().join("runs")).into_iter().flatten().flatten() {
        let id = entry.file_name().to_string_lossy().into_owned();
        let events = events(store, &id);
        if let Some(begin) = events.first() {
            let end = events.last().filter(|event| event["event"] == "end").cloned();
            runs.push(RunSummary { id, begin: begin.clone(), end });
        }
    }
    runs.sort_by(|a, b| a.id.cmp(&b.id));
    runs
}

/// What cells that were started and have not finished since had become, with the cell to name: theirs are the
/// checkpoints that the next attempt goes on from.
pub fn unfinished(store: &Store) -> HashMap<Fingerprint, String> {
    let mut cells: HashMap<String, Option<Fingerprint>> = HashMap::new();
    for run in runs(store) {
        let recipe = run.begin["recipe"].as_str().unwrap_or("?").to_owned();
        for event in events(store, &run.id) {
            let cell = || format!("{recipe}: {}", event["cell"].as_str().unwrap_or("?"));
            match event["event"].as_str() {
                Some("started") => {
                    cells.insert(cell(), serde_json::from_value(event["fingerprint"].clone()).ok());
                }
                Some("finished" | "found" | "fetched") => {
                    cells.remove(&cell());
                }
                Some(_) | None => {}
            }
        }
    }
    cells.into_iter().filter_map(|(cell, fingerprint)| Some((fingerprint?, cell))).collect()
}

/// Every event of a run; none if there is no such run.
pub fn events(store: &Store, run: &str) -> Vec<Value> {
    let path: PathBuf = store.root().join("runs").join(run).join("events.jsonl");
    let bytes = fs::read(path).unwrap_or_default();
    bytes.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
}
