//! Which fingerprint each cell of a recipe had last: what `why` compares with, and what `gc` keeps.
//!
//! One append-only JSON Lines file a recipe name; the last line of a cell counts. A line is only written when a cell's
//! fingerprint changed, so a run that does nothing writes nothing.

use std::{
    collections::HashMap,
    fs::{self, OpenOptions},
    io::Write,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{fingerprint::Fingerprint, store::Store};

/// The latest fingerprints of a recipe's cells.
pub struct History {
    path: PathBuf,
    latest: HashMap<String, Fingerprint>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    cell: String,
    fingerprint: Fingerprint,
}

impl History {
    /// Reads the history of a recipe; none is an empty one.
    pub fn open(store: &Store, recipe: &str) -> Self {
        let path = store.root().join("history").join(format!("{recipe}.jsonl"));
        let latest = read(&path);
        Self { path, latest }
    }

    /// Every history in a store: (recipe name, latest fingerprint by cell).
    pub fn all(store: &Store) -> Vec<(String, HashMap<String, Fingerprint>)> {
        let mut all = Vec::new();
        for entry in fs::read_dir(store.root().join("history")).into_iter().flatten().flatten() {
            let path = entry.path();
            if let Some(name) = path.file_stem() {
                all.push((name.to_string_lossy().into_owned(), read(&path)));
            }
        }
        all.sort_by(|a, b| a.0.cmp(&b.0));
        all
    }

    /// The fingerprint a cell had last.
    pub fn latest(&self, cell: &str) -> Option<&Fingerprint> {
        self.latest.get(cell)
    }

    /// Notes a cell's fingerprint. A failure costs only an explanation later, so it is not an error.
    pub fn note(&mut self, cell: &str, fingerprint: &Fingerprint) {
        if self.latest.get(cell) == Some(fingerprint) {
            return;
        }
        self.latest.insert(cell.to_owned(), fingerprint.clone());
        let line = Line { cell: cell.to_owned(), fingerprint: fingerprint.clone() };
        let mut bytes = serde_json::to_vec(&line).expect("plain data");
        bytes.push(b'\n');
        let written = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&self.path)
            .and_then(|mut file| file.write_all(&bytes));
        if let Err(error) = written {
            tracing::warn!(path = %self.path.display(), %error, "cannot note history");
        }
    }
}

fn read(path: &Path) -> HashMap<String, Fingerprint> {
    let bytes = fs::read(path).unwrap_or_default();
    bytes
        .split(|byte| *byte == b'\n')
        .filter_map(|line| serde_json::from_slice::<Line>(line).ok())
        .map(|line| (line.cell, line.fingerprint))
        .collect()
}
