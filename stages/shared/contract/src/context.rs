//! What a running cell is given: inputs, outputs, scratch space, randomness, and a way to speak.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::{Digest, Journal, Secret, StageError, journal};

/// What burn computes on, as resolved by the engine; only the `lm` crate gives the name a meaning.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backend {
    /// `flex`, `wgpu`, `tch` or `cuda`.
    pub name: String,
    /// The number format, `f32`.
    pub dtype: String,
}

impl Default for Backend {
    fn default() -> Self {
        Self { name: "flex".into(), dtype: "f32".into() }
    }
}

/// One artifact on an input port.
#[derive(Clone, Debug)]
pub struct Input {
    /// The artifact's folder; read only.
    pub path: PathBuf,
    /// Its content digest.
    pub digest: Digest,
    /// The stage that made it.
    pub stage: String,
    /// The axis values of the cell that made it, by axis, as text. Only on ports that take many do they belong to
    /// the fingerprint, and only there are they filled in.
    pub labels: BTreeMap<String, String>,
}

impl Input {
    /// A file inside the artifact.
    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }
}

/// Something a cell says while it runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event {
    /// Work done so far.
    Progress {
        /// Units finished.
        done: u64,
        /// Units in all.
        total: u64,
        /// What a unit is, plural: `questions`, `steps`.
        unit: String,
    },
    /// A number worth following.
    Metric {
        /// Its name, snake_case, as papers call it.
        name: String,
        /// The step it belongs to.
        step: u64,
        /// Its value.
        value: f64,
    },
    /// A sentence for people.
    Note {
        /// The sentence.
        text: String,
    },
}

/// Receives what cells say.
pub trait Observer: Sync + Send {
    /// Called from the cell's thread; must be quick.
    fn event(&self, event: Event);
}

impl<F: Fn(Event) + Sync + Send> Observer for F {
    fn event(&self, event: Event) {
        self(event);
    }
}

/// The folders a cell works in.
#[derive(Clone, Debug)]
pub struct CellDirs {
    /// One folder an output port that is made, empty at the start, committed by the engine when `run` returns `Ok`.
    pub outputs: BTreeMap<String, PathBuf>,
    /// Survives a kill and is handed to the next attempt at the same fingerprint; removed after success.
    pub scratch: PathBuf,
    /// Where item journals live, shared by every cell of the store.
    pub journals: PathBuf,
}

/// A kind asks for a secret it did not declare.
#[derive(Debug, thiserror::Error)]
#[error("the secret `{variable}` was not declared")]
struct Undeclared {
    variable: String,
}

/// Everything a cell may use. There is no clock, environment or ambient randomness beside it.
pub struct Context<'a> {
    inputs: BTreeMap<String, Vec<Input>>,
    dirs: CellDirs,
    seed: u64,
    backend: Backend,
    secrets: BTreeMap<String, Secret>,
    cancelled: &'a AtomicBool,
    observer: &'a dyn Observer,
}

impl<'a> Context<'a> {
    /// Made by the engine, and by tests of a kind.
    pub fn new(
        inputs: BTreeMap<String, Vec<Input>>,
        dirs: CellDirs,
        seed: u64,
        backend: Backend,
        cancelled: &'a AtomicBool,
        observer: &'a dyn Observer,
    ) -> Self {
        Self { inputs, dirs, seed, backend, secrets: BTreeMap::new(), cancelled, observer }
    }

    /// The same context with the secrets the kind declared.
    #[must_use]
    pub fn with_secrets(self, secrets: &[Secret]) -> Self {
        let secrets = secrets.iter().map(|secret| (secret.variable().to_owned(), secret.clone())).collect();
        Self { secrets, ..self }
    }

    /// A secret the kind declared in [`crate::Stage::secrets`], by the name of its environment variable.
    pub fn secret(&self, variable: &str) -> Result<&Secret, StageError> {
        let undeclared = || StageError::failed(Undeclared { variable: variable.to_owned() });
        self.secrets.get(variable).ok_or_else(undeclared)
    }

    /// A secret the kind declared in [`crate::Stage::optional_secrets`], if its environment variable is set.
    pub fn optional_secret(&self, variable: &str) -> Option<&Secret> {
        self.secrets.get(variable)
    }

    /// The artifact on a port that takes exactly one.
    pub fn input(&self, port: &str) -> &Input {
        self.optional(port).expect("the engine joins every required port before a cell runs")
    }

    /// The artifact on an optional port.
    pub fn optional(&self, port: &str) -> Option<&Input> {
        self.inputs.get(port).and_then(|inputs| inputs.first())
    }

    /// The artifacts on a port that takes many, in a stable order.
    pub fn inputs(&self, port: &str) -> &[Input] {
        self.inputs.get(port).map_or(&[], Vec::as_slice)
    }

    /// The folder of an output port.
    pub fn output(&self, port: &str) -> &Path {
        self.dirs.outputs.get(port).expect("the engine makes a folder for every output port that is made")
    }

    /// A folder that survives a kill: checkpoints go here.
    pub fn scratch(&self) -> &Path {
        &self.dirs.scratch
    }

    /// The journal of finished items whose results depend on exactly `namespace` and their own key.
    pub fn journal(&self, kind: &str, namespace: &impl Serialize) -> Result<Journal, StageError> {
        Journal::open(&journal::place(&self.dirs.journals, kind, namespace))
    }

    /// The cell's seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// A generator for one purpose; other purposes' draws do not disturb it.
    pub fn rng(&self, purpose: &str) -> ChaCha8Rng {
        rng(self.seed, purpose)
    }

    /// What to compute on.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Returns [`StageError::Cancelled`] once the user has interrupted the run. Call it between items and steps.
    pub fn check_cancelled(&self) -> Result<(), StageError> {
        if self.cancelled.load(Ordering::Relaxed) { Err(StageError::Cancelled) } else { Ok(()) }
    }

    /// Reports work done.
    pub fn progress(&self, done: usize, total: usize, unit: &str) {
        self.observer.event(Event::Progress {
            done: done as u64,
            total: total as u64,
            unit: unit.to_owned(),
        });
    }

    /// Reports a number over steps.
    pub fn metric(&self, name: &str, step: usize, value: f64) {
        self.observer.event(Event::Metric { name: name.to_owned(), step: step as u64, value });
    }

    /// Says a sentence.
    pub fn note(&self, text: impl Into<String>) {
        self.observer.event(Event::Note { text: text.into() });
    }

    /// Copies an input artifact into an output port unchanged, by hard links where the disk allows it.
    pub fn pass_through(&self, input: &Input, port: &str) -> Result<(), StageError> {
        link(&input.path, self.output(port))
    }

    /// Copies a folder into a new one of an output port, by hard links where the disk allows it.
    pub fn take_over(&self, folder: &Path, port: &str, name: &str) -> Result<(), StageError> {
        let target = self.output(port).join(name);
        fs::create_dir(&target).map_err(StageError::io(&target))?;
        link(folder, &target)
    }
}

/// Links or copies what is in a folder, folders in it included, into another.
fn link(from: &Path, to: &Path) -> Result<(), StageError> {
    for entry in fs::read_dir(from).map_err(StageError::io(from))? {
        let source = entry.map_err(StageError::io(from))?.path();
        let target = to.join(source.file_name().expect("an entry of a folder has a name"));
        if source.is_dir() {
            fs::create_dir(&target).map_err(StageError::io(&target))?;
            link(&source, &target)?;
        } else if fs::hard_link(&source, &target).is_err() {
            fs::copy(&source, &target).map_err(StageError::io(&target))?;
        }
    }
    Ok(())
}

/// A generator seeded by a number and a purpose, the same on every machine.
pub fn rng(seed: u64, purpose: &str) -> ChaCha8Rng {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(purpose.as_bytes());
    ChaCha8Rng::from_seed(*hasher.finalize().as_bytes())
}
