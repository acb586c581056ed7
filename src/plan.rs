//! What would run, what is reused, and why.
//!
//! A [`Plan`] is made from a [`Graph`] and what is in the store; `retort plan` prints it and `retort run` carries it
//! out, so a dry run is the real planner with the last step off. A cell's fingerprint is known once its inputs'
//! contents are; a cell below one that runs is [`Decision::Undecided`], because an equal output stops the wave.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use contract::Digest;
use serde::Serialize;
use serde_json::Value;

use crate::{
    fingerprint::{Change, Fingerprint, FingerprintRecord, InputRecord, changes, digest_value},
    graph::{Cell, Graph},
    history::History,
    store::{Acceptance, Store, StoreError},
};

/// Content digests of a finished cell's outputs, by port.
pub type Outputs = BTreeMap<String, Digest>;

/// Why a cell runs.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "because", rename_all = "kebab-case")]
pub enum Reason {
    /// No cell of this name has run in this store.
    New,
    /// Something in its fingerprint differs from its last run.
    Changed {
        /// What.
        changes: Vec<Change>,
    },
    /// It ran as it is, but the result is not in the store any more.
    ResultGone,
    /// It is of another shape than the last run's, which has been collected.
    EarlierGone,
}

impl fmt::Display for Reason {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::New => formatter.write_str("never run"),
            Self::Changed { changes } => {
                let shown: Vec<String> = changes.iter().take(3).map(ToString::to_string).collect();
                formatter.write_str(&shown.join("; "))?;
                match changes.len().saturating_sub(3) {
                    0 => Ok(()),
                    more => write!(formatter, "; and {more} more"),
                }
            }
            Self::ResultGone => formatter.write_str("its result is not in the store any more"),
            Self::EarlierGone => {
                formatter.write_str("changed; its earlier record is not in the store any more")
            }
        }
    }
}

/// What the plan says of one cell.
#[derive(Clone, Debug)]
pub enum Decision {
    /// Its result is in the store.
    Reuse {
        /// Its identity.
        fingerprint: Fingerprint,
        /// What it made.
        outputs: Outputs,
    },
    /// It runs.
    Run {
        /// Why.
        reason: Reason,
    },
    /// Depends on what the cells before it turn out to make.
    Undecided {
        /// Those cells.
        waits_for: Vec<usize>,
        /// What differs already, inputs aside.
        changes: Vec<Change>,
    },
}

/// Decisions for every wanted cell, in graph order.
pub struct Plan {
    /// By index into [`Graph::cells`].
    pub decisions: BTreeMap<usize, Decision>,
    /// Of the cells that are reused, those whose result a person let stand for what they have become.
    pub accepted: BTreeMap<usize, Acceptance>,
}

impl Plan {
    /// Decides for the wanted cells.
    pub fn make(
        graph: &Graph,
        wanted: &BTreeSet<usize>,
        store: &Store,
        history: &History,
    ) -> Result<Self, StoreError> {
        let (mut decisions, mut accepted) = (BTreeMap::new(), BTreeMap::new());
        let mut outputs: BTreeMap<usize, Outputs> = BTreeMap::new();
        for &index in wanted {
            let cell = &graph.cells[index];
            let waits_for: Vec<usize> =
                cell.upstream().into_iter().filter(|upstream| !outputs.contains_key(upstream)).collect();
            let record = record(graph, cell, &outputs, store)?;
            let decision = if waits_for.is_empty() {
                let fingerprint = record.fingerprint();
                match store.record(&fingerprint) {
                    Some(found) => {
                        outputs.insert(index, found.outputs.clone());
                        accepted.extend(found.accepted.map(|acceptance| (index, acceptance)));
                        Decision::Reuse { fingerprint, outputs: found.outputs }
                    }
                    None => Decision::Run { reason: reason(cell, &record, store, history) },
                }
            } else {
                let changes = earlier(cell, store, history)
                    .map(|mut earlier| {
                        earlier.inputs.clear();
                        changes(&earlier, &FingerprintRecord { inputs: BTreeMap::new(), ..record })
                    })
                    .unwrap_or_default();
                Decision::Undecided { waits_for, changes }
            };
            decisions.insert(index, decision);
        }
        store.save_file_digests();
        Ok(Self { decisions, accepted })
    }

    /// Cells that certainly run, may run, and are reused.
    pub fn counts(&self) -> (usize, usize, usize) {
        let mut counts = (0, 0, 0);
        for decision in self.decisions.values() {
            match decision {
                Decision::Run { .. } => counts.0 += 1,
                Decision::Undecided { .. } => counts.1 += 1,
                Decision::Reuse { .. } => counts.2 += 1,
            }
        }
        counts
    }
}

/// The fingerprint record of a cell; inputs whose content is not known yet are left out.
pub fn record(
    graph: &Graph,
    cell: &Cell,
    outputs: &BTreeMap<usize, Outputs>,
    store: &Store,
) -> Result<FingerprintRecord, StoreError> {
    let mut params = cell.params.clone();
    for (pointer, path) in &cell.files {
        let digest = store.digest_file(path)?;
        if let Some(place) = params.pointer_mut(pointer) {
            *place = digest_value(&digest);
        }
    }
    for pointer in cell.kind.immaterial() {
        remove(&mut params, pointer);
    }
    let mut inputs = BTreeMap::new();
    for (port, sources) in &cell.inputs {
        let known = sources.iter().filter_map(|source| {
            let digest = outputs.get(&source.cell)?.get(source.port)?.clone();
            Some(InputRecord { labels: source.labels.clone(), digest })
        });
        inputs.insert((*port).to_owned(), known.collect());
    }
    let backend = cell.kind.computes_with(&cell.params).then_some(&graph.backend);
    Ok(FingerprintRecord::new(cell.kind, params, inputs, Some(cell.seed), backend))
}

/// Takes the field at a JSON pointer out, where it is there.
fn remove(params: &mut Value, pointer: &str) {
    let Some((object, field)) = pointer.rsplit_once('/') else { return };
    if let Some(Value::Object(object)) = params.pointer_mut(object) {
        object.remove(field);
    }
}

/// What the cell of this name was when it last finished.
fn earlier(cell: &Cell, store: &Store, history: &History) -> Option<FingerprintRecord> {
    store.record(history.latest(&cell.name.0)?).map(|record| record.cell)
}

/// Why a cell with this record has no result.
pub fn reason(cell: &Cell, record: &FingerprintRecord, store: &Store, history: &History) -> Reason {
    match history.latest(&cell.name.0) {
        None => Reason::New,
        Some(latest) if *latest == record.fingerprint() => Reason::ResultGone,
        Some(_) => match earlier(cell, store, history) {
            Some(earlier) => Reason::Changed { changes: changes(&earlier, record) },
            None => Reason::EarlierGone,
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fields_are_taken_out_where_they_are() {
        let mut params = json!({"a": {"b": 1, "c": 2}, "d": 3});
        for pointer in ["/a/b", "/a/x", "/x/y", "/d", ""] {
            remove(&mut params, pointer);
        }
        assert_eq!(params, json!({"a": {"c": 2}}));
    }
}
