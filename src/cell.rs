//! Runs one cell from its record, without the recipe or the graph.

use std::{
    any::Any,
    collections::BTreeMap,
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::atomic::AtomicBool,
    time::Instant,
};

use contract::{CellDirs, Context, Event, Input, Kind, Observer, Secret, StageError};
use serde_json::Value;

use crate::{
    fingerprint::{Fingerprint, FingerprintRecord, digest_value},
    job::JobError,
    log::describe,
    store::{CellRecord, Store, StoreError, list},
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
    /// External files: JSON pointer into `params`, and absolute path.
    pub files: Vec<(String, PathBuf)>,
    /// Inputs by port.
    pub inputs: BTreeMap<String, Vec<Input>>,
    /// Its seed.
    pub seed: u64,
    /// What it computes on.
    pub backend: contract::Backend,
    /// The secrets its kind declared.
    pub secrets: Vec<Secret>,
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
    /// The engine panicked while it had the cell in hand: a bug in it.
    #[error("retort panicked: {message}")]
    Bug {
        /// The panic's message.
        message: String,
    },
    /// An output holds a secret: a bug in the kind, stopped before the store takes it.
    #[error("the kind `{kind}` wrote the value of `{variable}` to its output `{file}`")]
    Leak {
        /// The kind.
        kind: &'static str,
        /// The secret's environment variable.
        variable: String,
        /// Port and file.
        file: String,
    },
    /// Its record cannot be run here.
    #[error(transparent)]
    Record(#[from] JobError),
    /// Its job, computed elsewhere, came to nothing.
    #[error("{problem}")]
    Job {
        /// What became of it.
        problem: String,
        /// The remedy.
        help: Option<String>,
        /// Whether trying again would only repeat it.
        hopeless: bool,
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

    /// Whether another attempt may go better.
    pub fn may_pass(&self) -> bool {
        !matches!(self, Self::Job { hopeless: true, .. } | Self::Record(_) | Self::Bug { .. })
    }

    /// The remedy.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Stage(error) => error.help().map(str::to_owned),
            Self::Panic { .. } | Self::Leak { .. } | Self::Bug { .. } => {
                Some("this is a bug: please report it with the recipe".to_owned())
            }
            Self::Record(error) => Some(error.help()),
            Self::Job { help, .. } => help.clone(),
            Self::Store(error) => Some(error.help().to_owned()),
            Self::Threads { .. } => None,
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
    let Job { kind, fingerprint, record, params, files, inputs, seed, backend, secrets, threads } = job;
    refuse_changed(&record, &files, store)?;
    let made = kind.outputs().iter().map(|port| port.name).filter(|port| kind.makes(&params, port));
    let dirs = store.prepare(&fingerprint, made)?;
    let pool = rayon::ThreadPoolBuilder::new()
        .num_threads(threads)
        .build()
        .map_err(|source| CellError::Threads { threads, source })?;
    // Whatever a kind does, what it says goes on without the secrets it was given.
    let redacting = |event: Event| {
        observer.event(match event {
            Event::Note { text } => Event::Note { text: redact(&secrets, text) },
            Event::Progress { .. } | Event::Metric { .. } => event,
        });
    };
    let context =
        Context::new(inputs, dirs.clone(), seed, backend, cancelled, &redacting).with_secrets(&secrets);
    let started = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| pool.install(|| kind.run(&params, &context))));
    let result = match result {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(CellError::Stage(redact_error(&secrets, error))),
        Err(payload) => {
            let message = redact(&secrets, message(payload.as_ref()));
            Err(CellError::Panic { kind: kind.name(), message })
        }
    };
    let result = result.and_then(|()| refuse_leaks(kind.name(), &secrets, &dirs));
    // What the kind has read is what the fingerprint says only if it still is there.
    let result = result.and_then(|()| refuse_changed(&record, &files, store));
    let seconds = started.elapsed().as_secs_f64();
    let committed = result.and_then(|()| Ok(store.commit(&fingerprint, record, &dirs, run, seconds)?));
    if committed.is_err() {
        store.clean(&dirs);
    }
    committed
}

/// Invariant 5 for external files: none has another content than the fingerprint says. Cheap where the digest is known and
/// nothing tells of a change.
fn refuse_changed(
    record: &FingerprintRecord,
    files: &[(String, PathBuf)],
    store: &Store,
) -> Result<(), CellError> {
    for (pointer, path) in files {
        // An immaterial file is in no fingerprint.
        let recorded = record.params.pointer(pointer);
        if recorded.is_some() && recorded != Some(&digest_value(&store.digest_file(path)?)) {
            return Err(JobError::FileChanged { path: path.clone() }.into());
        }
    }
    Ok(())
}

fn redact(secrets: &[Secret], text: String) -> String {
    secrets.iter().fold(text, |text, secret| secret.redact(&text).into_owned())
}

/// The error itself, unless its text or one of its causes' holds a secret.
fn redact_error(secrets: &[Secret], error: StageError) -> StageError {
    let (text, help) = (describe(&error), error.help().map(str::to_owned));
    let leaks = |text: &str| secrets.iter().any(|secret| secret.is_in(text.as_bytes()));
    if !leaks(&text) && !help.as_deref().is_some_and(leaks) {
        return error;
    }
    let redacted = StageError::failed(redact(secrets, text));
    match help {
        Some(help) => redacted.with_help(redact(secrets, help)),
        None => redacted,
    }
}

/// Invariant 9 for artifacts: no output file of a cell that was given secrets holds one.
fn refuse_leaks(kind: &'static str, secrets: &[Secret], dirs: &CellDirs) -> Result<(), CellError> {
    if secrets.is_empty() {
        return Ok(());
    }
    for (port, folder) in &dirs.outputs {
        for name in list(folder)?.keys() {
            let path = folder.join(name);
            let bytes = fs::read(&path).map_err(StageError::io(&path))?;
            if let Some(secret) = secrets.iter().find(|secret| secret.is_in(&bytes)) {
                let (variable, file) = (secret.variable().to_owned(), format!("{port}/{name}"));
                return Err(CellError::Leak { kind, variable, file });
            }
        }
    }
    Ok(())
}

/// What a panic said.
pub(crate) fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().map(|text| (*text).to_owned());
    text.or_else(|| payload.downcast_ref::<String>().cloned()).unwrap_or_else(|| "no message".to_owned())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use contract::{ArtifactType, FilePath, Port, Stage};
    use schemars::JsonSchema;
    use serde::{Deserialize, Serialize};
    use serde_json::json;

    use super::*;
    use crate::store::Use;

    /// Copies a file, which somebody may edit meanwhile.
    struct Copy;

    #[derive(Serialize, Deserialize, JsonSchema)]
    struct CopyParams {
        path: FilePath,
        edited: bool,
    }

    impl Stage for Copy {
        type Params = CopyParams;

        const NAME: &'static str = "copy";
        const VERSION: u32 = 1;
        const ABOUT: &'static str = "copies a file";
        const SEEDED: bool = false;
        const COMPUTES: bool = false;
        const INPUTS: &'static [Port] = &[];
        const OUTPUTS: &'static [Port] = &[Port::output("copy", ArtifactType::Other("copy"), "copy.txt")];

        fn run(params: CopyParams, context: &Context) -> Result<(), StageError> {
            if params.edited {
                fs::write(&params.path, "edited").map_err(StageError::io(params.path.as_ref()))?;
            }
            let copy = context.output("copy").join("copy.txt");
            fs::copy(&params.path, &copy).map(drop).map_err(StageError::io(&copy))
        }
    }

    #[test]
    fn a_file_that_changes_before_or_while_a_cell_reads_it_gives_no_result() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store"), Use::Shared).unwrap();
        let path = folder.path().join("data.txt");
        let computed = |edited_before: bool, edited: bool| {
            fs::write(&path, "as planned").unwrap();
            let digest = digest_value(&store.digest_file(&path).unwrap());
            let params = json!({"path": digest, "edited": edited});
            let record = FingerprintRecord::new(&Copy, params, BTreeMap::new(), None, None);
            let fingerprint = record.fingerprint();
            let job = Job {
                kind: &Copy,
                fingerprint: fingerprint.clone(),
                record,
                params: json!({"path": path, "edited": edited}),
                files: vec![("/path".to_owned(), path.clone())],
                inputs: BTreeMap::new(),
                seed: 0,
                backend: contract::Backend::default(),
                secrets: Vec::new(),
                threads: 1,
            };
            if edited_before {
                fs::write(&path, "edited").unwrap();
            }
            let result = execute(job, &store, "run", &AtomicBool::new(false), &|_: Event| {});
            assert_eq!(result.is_ok(), store.record(&fingerprint).is_some());
            result
        };
        for (before, meanwhile) in [(true, false), (false, true)] {
            let error = computed(before, meanwhile).unwrap_err();
            assert!(matches!(error, CellError::Record(JobError::FileChanged { .. })), "{error}");
            assert!(!error.may_pass(), "the same again comes to the same end");
        }
        computed(false, false).unwrap();
    }

    fn secret() -> Secret {
        Secret::new("KEY", "sk-0123456789").unwrap()
    }

    #[test]
    fn an_output_that_holds_a_secret_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let port = folder.path().join("out/deep");
        fs::create_dir_all(&port).unwrap();
        let dirs = CellDirs {
            outputs: BTreeMap::from([("text".to_owned(), folder.path().join("out"))]),
            scratch: folder.path().to_owned(),
            journals: folder.path().to_owned(),
        };
        fs::write(port.join("a.txt"), "nothing of it").unwrap();
        assert!(refuse_leaks("kind", &[secret()], &dirs).is_ok());
        fs::write(port.join("b.txt"), "the key is sk-0123456789.").unwrap();
        assert!(refuse_leaks("kind", &[], &dirs).is_ok());
        let error = refuse_leaks("kind", &[secret()], &dirs).unwrap_err().to_string();
        assert_eq!(error, "the kind `kind` wrote the value of `KEY` to its output `text/deep/b.txt`");
    }

    #[test]
    fn errors_lose_their_secrets_and_keep_everything_else() {
        let clean = StageError::failed("no answer").with_help("wait");
        let clean = redact_error(&[secret()], clean);
        assert_eq!((clean.to_string().as_str(), clean.help()), ("no answer", Some("wait")));
        let leaky = StageError::failed("bad key sk-0123456789").with_help("not sk-0123456789");
        let leaky = redact_error(&[secret()], leaky);
        assert_eq!((leaky.to_string().as_str(), leaky.help()), ("bad key [KEY]", Some("not [KEY]")));
        assert!(matches!(redact_error(&[secret()], StageError::Cancelled), StageError::Cancelled));
    }
}
