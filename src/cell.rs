//! Runs one cell from its record, without the recipe or the graph.

use std::{
    any::Any,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::AtomicBool,
    time::Instant,
};

use contract::{Context, Input, Kind, Observer, StageError};
use serde_json::Value;

use crate::{
    fingerprint::{Fingerprint, FingerprintRecord},
    store::{CellRecord, Store, StoreError},
};

/// Everything a cell needs to run.
pub struct Job {
    /// What it does.
    pub kind: &'static dyn Kind,
    /// Its identity.
    pub fingerprint: Fingerprint,
    /// What its identity is made of.
    pub record: FingerprintRecord,
    /// Resolved params with real paths.
    pub params: Value,
    /// Inputs by port.
    pub inputs: BTreeMap<String, Vec<Input>>,
    /// Its seed.
    pub seed: u64,
    /// What it computes on.
    pub backend: contract::Backend,
    /// CPU threads it may use.
    pub threads: usize,
}

/// Why a cell has no result.
#[derive(Debug, thiserror::Error)]
pub enum CellError {
    /// The kind said so.
    #[error(transparent)]
    Stage(#[from] StageError),
    /// The store could not take its outputs.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The kind panicked: a bug in it.
    #[error("the kind `{kind}` panicked: {message}")]
    Panic {
        /// The kind.
        kind: &'static str,
        /// The panic's message.
        message: String,
    },
    /// No threads to compute on.
    #[error("cannot start {threads} threads")]
    Threads {
        /// How many were asked for.
        threads: usize,
        /// Why not.
        #[source]
        source: rayon::ThreadPoolBuildError,
    },
}

impl CellError {
    /// Whether the cell stopped because the run was interrupted.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Stage(StageError::Cancelled))
    }

    /// The remedy.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Stage(error) => error.help().map(str::to_owned),
            Self::Panic { .. } => Some("this is a bug: please report it with the recipe".to_owned()),
            Self::Store(_) | Self::Threads { .. } => None,
        }
    }
}

/// Runs a cell and commits its outputs. A panic in the kind is an error like any other.
pub fn execute(
    job: Job,
    store: &Store,
    run: &str,
    cancelled: &AtomicBool,
    observer: &dyn Observer,
) -> Result<CellRecord, CellError> {
    let Job { kind, fingerprint, record, params, inputs, seed, backend, threads } = job;
    let dirs = store.prepare(&fingerprint, kind.outputs())?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|source| CellError::Threads { threads, source })?;
    let context = Context::new(inputs, dirs.clone(), seed, backend, cancelled, observer);
    let started = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| pool.install(|| kind.run(&params, &context))));
    let result = match result {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(CellError::Stage(error)),
        Err(payload) => Err(CellError::Panic { kind: kind.name(), message: message(payload.as_ref()) }),
    };
    let seconds = started.elapsed().as_secs_f64();
    let committed = result.and_then(|()| Ok(store.commit(&fingerprint, record, &dirs, run, seconds)?));
    if committed.is_err() {
        store.clean(&dirs);
    }
    committed
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}
