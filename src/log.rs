//! The run record: one append-only JSON Lines file a run, apart from the artifacts.
//!
//! Everything else that wants to know what happened reads it: `runs`, `logs`, reports. Writing it never fails a run.

use std::{
    collections::{BTreeMap, HashMap},
    fs::{self, File},
    io::{self, BufRead, BufReader, BufWriter, Write},
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    time::{Duration, Instant, SystemTime},
};

use serde_json::{Value, json};

use crate::{
    fingerprint::Fingerprint,
    graph::Graph,
    history::History,
    run::{CellEvent, Listener, Outcome},
    store::Store,
};

/// How often a cell's progress is written, at most.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);

/// Writes a run's events.
pub struct RunLog {
    /// The run's id: the time it began and the process.
    pub id: String,
    /// Its first event.
    pub began: Value,
    /// When each cell's progress was last written.
    progress: HashMap<usize, Instant>,
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

/// The time as events tell it.
pub(crate) fn now() -> String {
    humantime::format_rfc3339_millis(SystemTime::now()).to_string()
}

impl RunLog {
    /// Names a run of so many cells, of which some have their result already. The log file is made with the first event.
    pub fn begin(store: &Store, graph: &Graph, recipe: &str, (cells, reused): (usize, usize)) -> Self {
        let time: String = now().chars().filter(char::is_ascii_digit).take(17).collect();
        let id = format!("{}-{}-{}", &time[..8], &time[8..], std::process::id());
        let folder = store.root().join("runs").join(&id);
        let writer = fs::create_dir_all(&folder)
            .and_then(|()| File::create(folder.join("events.jsonl")))
            .map(BufWriter::new)
            .inspect_err(|error| tracing::warn!(%error, "no run log"))
            .ok();
        let began = json!({
            "event": "begin", "recipe": graph.recipe, "file": recipe, "cells": cells, "reused": reused,
            "backend": graph.backend.name, "dtype": graph.backend.dtype, "version": env!("CARGO_PKG_VERSION"),
            "time": now(),
        });
        let mut log = Self { id, began: began.clone(), progress: HashMap::new(), writer };
        log.write(began);
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
        if event.get("time").is_none() {
            event["time"] = now().into();
        }
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
        if matches!(event, CellEvent::Reused) {
            return; // The plan says so; a log of a thousand reuses helps nobody.
        }
        if matches!(event, CellEvent::Said(contract::Event::Progress { .. })) {
            if self.progress.get(&cell).is_some_and(|last| last.elapsed() < PROGRESS_EVERY) {
                return;
            }
            self.progress.insert(cell, Instant::now());
        }
        self.write(told(graph, cell, event));
    }
}

/// An event as it stands in a run record, without its time.
pub(crate) fn told(graph: &Graph, cell: usize, event: &CellEvent<'_>) -> Value {
    let mut value = match event {
        CellEvent::Reused => json!({"event": "reused"}),
        CellEvent::Found { record, .. } => json!({"event": "found", "made_by": record.run}),
        CellEvent::Fetched { record } => json!({
            "event": "fetched", "made_by": record.run, "bytes": record.bytes, "outputs": record.outputs,
        }),
        CellEvent::RemoteFailed { problem } => json!({"event": "remote-failed", "problem": problem}),
        CellEvent::Sent { sent } => json!({"event": "sent", "sent": sent}),
        CellEvent::Waiting => json!({"event": "waiting"}),
        CellEvent::Started { fingerprint, reason, threads } => {
            json!({"event": "started", "fingerprint": fingerprint, "reason": reason, "threads": threads})
        }
        CellEvent::Said(event) => serde_json::to_value(event).expect("events are plain data"),
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
    value["cell"] = graph.cells[cell].name.0.as_str().into();
    value
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
        if let Some(begin) = each(store, &id).next() {
            let end = last(&path(store, &id)).ok().filter(|event| event["event"] == "end");
            runs.push(RunSummary { id, begin, end });
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
        for event in each(store, &run.id) {
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

/// Where the events of a run are.
pub fn path(store: &Store, run: &str) -> PathBuf {
    store.root().join("runs").join(run).join("events.jsonl")
}

/// Every event of a run; none if there is no such run.
pub fn events(store: &Store, run: &str) -> Vec<Value> {
    each(store, run).collect()
}

/// The events of a run one after another: a log may be long.
fn each(store: &Store, run: &str) -> impl Iterator<Item = Value> + use<> {
    let lines = File::open(path(store, run)).map(|file| BufReader::new(file).split(b'\n'));
    let lines = lines.into_iter().flatten().map_while(Result::ok);
    lines.filter_map(|line| serde_json::from_slice(&line).ok())
}

/// The last event of a log, found from its end.
fn last(path: &Path) -> io::Result<Value> {
    let file = File::open(path)?;
    let mut start = file.metadata()?.len();
    let mut tail = Vec::new();
    while start > 0 {
        // The last line tells of every cell: as much again is read until all of it is there.
        let more = start.min((tail.len() as u64).max(1 << 16));
        start -= more;
        let mut longer = vec![0; more as usize];
        file.read_exact_at(&mut longer, start)?;
        longer.append(&mut tail);
        tail = longer;
        let whole = tail.strip_suffix(b"\n").unwrap_or(&tail);
        if let Some(before) = whole.iter().rposition(|byte| *byte == b'\n') {
            return Ok(serde_json::from_slice(&whole[before + 1..])?);
        }
    }
    Ok(serde_json::from_slice(&tail)?)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_last_event_is_found_however_long_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("events.jsonl");
        for (before, length) in [(0, 10), (1, 10), (3, 200_000), (3000, 70_000), (0, 200_000)] {
            let event = |number: usize, text: &str| json!({"event": number, "text": text});
            let mut text: String = (1..=before).map(|number| format!("{}\n", event(number, "x"))).collect();
            let end = event(0, &"y".repeat(length));
            text.push_str(&format!("{end}\n"));
            fs::write(&path, &text).unwrap();
            assert_eq!(last(&path).unwrap(), end);
            // Cut short by a kill, it is none.
            fs::write(&path, &text[..text.len() - 5]).unwrap();
            assert!(last(&path).is_err());
        }
        fs::write(&path, "").unwrap();
        assert!(last(&path).is_err());
    }
}
