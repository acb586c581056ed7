//! A bench to try a kind on, for the tests of kinds: folders are made and params resolved as the engine does it.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, atomic::AtomicBool},
};

use crate::{Backend, CellDirs, Context, Digest, Event, Input, Kind, Port, Secret, StageError};

/// One cell's worth of folders and inputs. Each [`Bench::run`] starts from empty outputs; scratch and journals stay.
pub struct Bench {
    folder: PathBuf,
    inputs: BTreeMap<String, Vec<Input>>,
    seed: u64,
    secrets: Vec<Secret>,
}

impl Bench {
    /// A bench in a folder of its own, without inputs, with seed 0.
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), inputs: BTreeMap::new(), seed: 0, secrets: Vec::new() }
    }

    /// Adds the artifact in `path` to an input port, with its axis labels.
    #[must_use]
    pub fn input(mut self, port: &str, path: &Path, labels: &[(&str, &str)]) -> Self {
        let labels = labels.iter().map(|(axis, value)| ((*axis).to_owned(), (*value).to_owned())).collect();
        let digest = Digest::of_bytes(path.as_os_str().as_encoded_bytes());
        let input = Input { path: path.to_owned(), digest, stage: port.to_owned(), labels };
        self.inputs.entry(port.to_owned()).or_default().push(input);
        self
    }

    /// Sets the seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = seed;
        self
    }

    /// Adds a secret, as if its environment variable were set.
    #[must_use]
    pub fn secret(mut self, secret: Secret) -> Self {
        self.secrets.push(secret);
        self
    }

    /// The folder of an output port.
    pub fn output(&self, port: &str) -> PathBuf {
        self.folder.join("outputs").join(port)
    }

    /// Resolves `params` as they would stand in a recipe, runs the kind, and returns the sentences it said.
    pub fn run(&self, kind: &dyn Kind, params: &serde_json::Value) -> Result<Vec<String>, StageError> {
        let params = kind.resolve(params).map_err(|problems| {
            let problems: Vec<String> = problems.iter().map(|(at, what)| format!("{at}: {what}")).collect();
            StageError::failed(problems.join("; "))
        })?;
        let folder = |name: &str| {
            let folder = self.folder.join(name);
            fs::create_dir_all(&folder).map_err(StageError::io(&folder)).map(|()| folder)
        };
        let mut outputs = BTreeMap::new();
        for Port { name, .. } in kind.outputs().iter().filter(|port| kind.makes(&params, port.name)) {
            let output = folder(&format!("outputs/{name}"))?;
            fs::remove_dir_all(&output)
                .and_then(|()| fs::create_dir(&output))
                .map_err(StageError::io(&output))?;
            outputs.insert((*name).to_owned(), output);
        }
        let dirs = CellDirs { outputs, scratch: folder("scratch")?, journals: folder("journals")? };
        let notes = Mutex::new(Vec::new());
        let observer = |event: Event| {
            if let Event::Note { text } = event {
                notes.lock().expect("no thread panics while it notes").push(text);
            }
        };
        let cancelled = AtomicBool::new(false);
        let backend = Backend::default();
        let context = Context::new(self.inputs.clone(), dirs, self.seed, backend, &cancelled, &observer)
            .with_secrets(&self.secrets);
        kind.run(&params, &context)?;
        Ok(notes.into_inner().expect("no thread panics while it notes"))
    }
}
