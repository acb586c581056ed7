//! What a cell would cost, as far as it can be told before it runs.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};

use serde::Serialize;

use crate::{Journal, StageError, journal};

/// What a cell would make and cost; see [`crate::Stage::estimate`].
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Estimate {
    /// Records it makes (questions, for most kinds), where that can be told.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub records: Option<u64>,
    /// Calls to a service that costs; none for most kinds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calls: Option<CallEstimate>,
}

/// Calls to a service, and what they would take.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct CallEstimate {
    /// Calls still to make.
    pub calls: u64,
    /// Calls whose results are in the journal, and cost nothing.
    pub journalled: u64,
    /// Tokens sent.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub completion_tokens: u64,
    /// Cost, where the params name prices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<f64>,
    /// What the cost is counted in.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub currency: String,
    /// What the numbers rest on: earlier calls, or only the params.
    pub basis: String,
}

/// An input of a cell that has not run.
#[derive(Clone, Debug, Default)]
pub struct Foreseen {
    /// The artifact, where it is in the store.
    pub path: Option<PathBuf>,
    /// How many records it holds or would hold.
    pub records: Option<u64>,
}

/// What is known of a cell's surroundings before it runs.
pub struct Outlook {
    inputs: BTreeMap<String, Vec<Foreseen>>,
    journals: PathBuf,
    seed: u64,
}

impl Outlook {
    /// Made by the engine, and by tests of a kind.
    pub fn new(inputs: BTreeMap<String, Vec<Foreseen>>, journals: &Path, seed: u64) -> Self {
        Self { inputs, journals: journals.to_owned(), seed }
    }

    /// What is known of the artifacts on a port.
    pub fn inputs(&self, port: &str) -> &[Foreseen] {
        self.inputs.get(port).map_or(&[], Vec::as_slice)
    }

    /// The seed the cell would have.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// The journal the cell would find; see [`crate::Context::journal`].
    pub fn journal(&self, kind: &str, namespace: &impl Serialize) -> Result<Journal, StageError> {
        Journal::open(&journal::place(&self.journals, kind, namespace))
    }
}
