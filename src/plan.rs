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
    remote::{Remote, RemoteError},
    store::{Acceptance, CellRecord, Store, StoreError},
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
    /// A remote cache has its result, which has still to come.
    Fetch {
        /// Its identity.
        fingerprint: Fingerprint,
        /// What it made.
        outputs: Outputs,
        /// Size of the outputs, bytes.
        bytes: u64,
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

/// How many cells a plan decides what of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Certainly run.
    pub run: usize,
    /// May run.
    pub undecided: usize,
    /// Come from a remote cache.
    pub fetch: usize,
    /// Are reused.
    pub reuse: usize,
}

impl Counts {
    /// Whether nothing is to be done.
    pub fn idle(&self) -> bool {
        self.run + self.undecided + self.fetch == 0
    }
}

/// What a remote cache said of fingerprints: what their cells made, or that it has nothing.
type Known = BTreeMap<Fingerprint, Option<CellRecord>>;

/// Decisions for every wanted cell, in graph order.
pub struct Plan {
    /// By index into [`Graph::cells`].
    pub decisions: BTreeMap<usize, Decision>,
    /// Of the cells that are reused, those whose result a person let stand for what they have become.
    pub accepted: BTreeMap<usize, Acceptance>,
}

impl Plan {
    /// Decides for the wanted cells by what is in the store.
    pub fn make(
        graph: &Graph,
        wanted: &BTreeSet<usize>,
        store: &Store,
        history: &History,
    ) -> Result<Self, StoreError> {
        Self::knowing(graph, wanted, store, history, &Known::new(), &mut BTreeMap::new())
    }

    /// Decides for the wanted cells by what is in the store and in a remote cache, from which nothing but records is read:
    /// those of all cells whose inputs are known, then of those that read from them, and so on. What is wrong with the
    /// remote comes with the plan.
    pub fn with_remote(
        graph: &Graph,
        wanted: &BTreeSet<usize>,
        store: &Store,
        history: &History,
        remote: &Remote,
    ) -> Result<(Self, Vec<RemoteError>), StoreError> {
        let (mut known, mut errors) = (Known::new(), Vec::new());
        loop {
            let mut missing = BTreeMap::new();
            let plan = Self::knowing(graph, wanted, store, history, &known, &mut missing)?;
            if missing.is_empty() {
                return Ok((plan, errors));
            }
            let (mut found, problems) = remote.look(&missing);
            errors.extend(problems);
            known.extend(missing.into_keys().map(|fingerprint| {
                let record = found.remove(&fingerprint);
                (fingerprint, record)
            }));
        }
    }

    /// Decides by the store and by what is `known` of a remote; what neither has an answer for is `missing`.
    fn knowing(
        graph: &Graph,
        wanted: &BTreeSet<usize>,
        store: &Store,
        history: &History,
        known: &Known,
        missing: &mut BTreeMap<Fingerprint, Vec<&'static str>>,
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
                let here = store.record(&fingerprint);
                let there = known.get(&fingerprint).cloned();
                if let Some(CellRecord { outputs: made, accepted: acceptance, .. }) = here {
                    accepted.extend(acceptance.map(|acceptance| (index, acceptance)));
                    outputs.insert(index, made.clone());
                    Decision::Reuse { fingerprint, outputs: made }
                } else if let Some(Some(found)) = there {
                    let CellRecord { outputs: made, bytes, accepted: acceptance, .. } = found;
                    accepted.extend(acceptance.map(|acceptance| (index, acceptance)));
                    outputs.insert(index, made.clone());
                    Decision::Fetch { fingerprint, outputs: made, bytes }
                } else {
                    if there.is_none() {
                        missing.insert(fingerprint, cell.made());
                    }
                    Decision::Run { reason: reason(cell, &record, store, history) }
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

    /// How many cells have which decision.
    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for decision in self.decisions.values() {
            match decision {
                Decision::Run { .. } => counts.run += 1,
                Decision::Undecided { .. } => counts.undecided += 1,
                Decision::Fetch { .. } => counts.fetch += 1,
                Decision::Reuse { .. } => counts.reuse += 1,
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
