//! A cell as a file: what another process, perhaps on another machine, needs to compute it, and what came of it.
//!
//! ```text
//! jobs/<fingerprint>/job.json         a [`JobRecord`]: `retort cell` computes it, without recipe or graph
//! jobs/<fingerprint>/submitted.json   a [`Submission`], written before the scheduler is asked
//! jobs/<fingerprint>/events.jsonl     what the cell says while it runs
//! jobs/<fingerprint>/result.json      a [`JobResult`], written last and whole: the truth about how it ended
//! jobs/batches/<batch>/               the script of a submission, its cells, the scheduler's number, the outputs
//! ```
//!
//! Whoever computes a cell holds its lock, here as in a run, and looks for the result again once it has the lock: a cell
//! that was submitted twice is computed once.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use contract::{Digest, Event, Input, Secret, SecretError, StageError};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::Value;

use crate::{
    cell::{CellError, Job, execute},
    executor::Task,
    fingerprint::{Fingerprint, FingerprintRecord},
    kinds::Kinds,
    log::describe,
    store::{CellLock, CellRecord, Store, StoreError, host, write_atomically},
};

/// How often a cell's progress is written down.
const PROGRESS_EVERY: Duration = Duration::from_secs(1);
/// How often a lock that another process holds is tried again.
const LOCK_EVERY: Duration = Duration::from_millis(200);

/// Everything a cell needs to run, as plain data; secrets by the names of their variables only.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobRecord {
    /// The cell's name, for people.
    pub cell: String,
    /// The run that wants it.
    pub run: String,
    /// Its identity.
    pub fingerprint: Fingerprint,
    /// What its identity is made of.
    pub record: FingerprintRecord,
    /// Resolved params with real paths.
    pub params: Value,
    /// External files: JSON pointer into `params`, and absolute path.
    pub files: Vec<(String, PathBuf)>,
    /// Inputs by port.
    pub inputs: BTreeMap<String, Vec<JobInput>>,
    /// Its seed.
    pub seed: u64,
    /// What it computes on.
    pub backend: contract::Backend,
    /// CPU threads it may use.
    pub threads: usize,
}

/// One input of a job; its folder follows from the store and the digest.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobInput {
    /// The artifact's content digest.
    pub digest: Digest,
    /// The stage that made it.
    pub stage: String,
    /// The axis values of the cell that made it.
    pub labels: BTreeMap<String, String>,
}

/// Where a cell stands in a batch that was, or was about to be, submitted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Submission {
    /// The batch, which is also the name of the attempt.
    pub batch: String,
    /// The place in the batch.
    pub index: usize,
}

impl JobRecord {
    /// The record of a cell that can start, and the right to compute it.
    pub fn of(task: Task, run: &str) -> (Self, Option<CellLock>) {
        let Job { fingerprint, record, params, files, inputs, seed, backend, threads, .. } = task.job;
        let input = |Input { digest, stage, labels, .. }: Input| JobInput { digest, stage, labels };
        let inputs = inputs.into_iter().map(|(port, inputs)| (port, inputs.into_iter().map(input).collect()));
        let job = Self {
            cell: task.name,
            run: run.to_owned(),
            fingerprint,
            record,
            params,
            files,
            inputs: inputs.collect(),
            seed,
            backend,
            threads,
        };
        (job, task.lock)
    }
}

/// How a job ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Exit {
    /// Its result is in the store.
    Done,
    /// The cell failed.
    Failed,
    /// It was told to stop and stopped at a point it can go on from.
    Interrupted,
}

/// What came of a job.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct JobResult {
    /// The attempt it belongs to.
    pub attempt: String,
    /// How it ended.
    pub exit: Exit,
    /// Why it has no result.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// What can be done about that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub help: Option<String>,
    /// Content digests by output port.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub outputs: BTreeMap<String, Digest>,
    /// Whether this job computed it; otherwise it found the result, made by somebody else.
    pub computed: bool,
    /// When it began.
    pub started: String,
    /// When it ended.
    pub ended: String,
    /// Wall time, seconds.
    pub seconds: f64,
    /// The machine.
    pub host: String,
    /// The devices it was shown, as `CUDA_VISIBLE_DEVICES` names them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub devices: Option<String>,
}

/// Why a job record cannot be run.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// This program has no such kind.
    #[error("this program has no kind `{kind}`")]
    UnknownKind {
        /// The kind.
        kind: String,
    },
    /// This program has another version of the kind.
    #[error("the job wants version {wanted} of the kind `{kind}`, and this program has version {have}")]
    Version {
        /// The kind.
        kind: String,
        /// As the record says.
        wanted: u32,
        /// As built in.
        have: u32,
    },
    /// The record does not hash to the fingerprint it carries.
    #[error("the record is not the one of the fingerprint `{fingerprint}`")]
    NotItself {
        /// The fingerprint.
        fingerprint: Fingerprint,
    },
    /// A file is not what it was when the cell got its fingerprint.
    #[error("`{}` has changed since the run looked at it", path.display())]
    FileChanged {
        /// The file.
        path: PathBuf,
    },
    /// An input is not in the store.
    #[error("the input `{digest}` of port `{port}` is not in the store")]
    InputGone {
        /// The port.
        port: String,
        /// The artifact.
        digest: Digest,
    },
    /// A secret the kind declares is not set where the job runs.
    #[error(transparent)]
    Secret(#[from] SecretError),
}

impl JobError {
    /// The remedy.
    pub fn help(&self) -> String {
        match self {
            Self::UnknownKind { .. } | Self::Version { .. } => {
                "jobs must run the program that submitted them: put it on the shared file system"
            }
            Self::NotItself { .. } | Self::FileChanged { .. } | Self::InputGone { .. } => {
                "`retort run` plans anew and runs what is needed"
            }
            Self::Secret(_) => "jobs inherit the environment of `retort run`; or set it in the `prologue`",
        }
        .to_owned()
    }
}

/// The folder of a job.
#[derive(Clone, Debug)]
pub struct JobFolder(pub PathBuf);

impl JobFolder {
    /// The folder of a fingerprint's job.
    pub fn of(store: &Store, fingerprint: &Fingerprint) -> Self {
        Self(store.root().join("jobs").join(fingerprint.0.as_str()))
    }

    /// The record.
    pub fn job(&self) -> PathBuf {
        self.0.join("job.json")
    }

    fn submitted(&self) -> PathBuf {
        self.0.join("submitted.json")
    }

    fn result_path(&self) -> PathBuf {
        self.0.join("result.json")
    }

    /// What the cell says.
    pub fn events(&self) -> PathBuf {
        self.0.join("events.jsonl")
    }

    /// The latest submission.
    pub fn submission(&self) -> Option<Submission> {
        read(&self.submitted())
    }

    /// What came of an attempt.
    pub fn result(&self, attempt: &str) -> Option<JobResult> {
        read(&self.result_path()).filter(|result: &JobResult| result.attempt == attempt)
    }

    /// The latest submission, if it is still to end.
    pub fn outstanding(&self) -> Option<Submission> {
        let submission = self.submission()?;
        let ended = self.result(&submission.batch).is_some_and(|result| result.exit != Exit::Interrupted);
        (!ended).then_some(submission)
    }

    /// Writes down what is about to be computed, in place of an earlier attempt.
    pub fn write(&self, job: &JobRecord) -> Result<(), StoreError> {
        for path in [self.result_path(), self.events(), self.submitted()] {
            fs::remove_file(path).ok();
        }
        write_atomically(&self.job(), &plain(job))
    }

    /// Writes down what is about to be submitted, in place of an earlier attempt.
    pub fn submit(&self, job: &JobRecord, submission: &Submission) -> Result<(), StoreError> {
        self.write(job)?;
        write_atomically(&self.submitted(), &plain(submission))
    }

    /// Forgets a submission that came to nothing.
    pub fn withdraw(&self) {
        fs::remove_file(self.submitted()).ok();
    }
}

fn read<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

fn plain(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("jobs are plain data")
}

/// Computes the cell of a record and writes down what came of it. The answer is the same as what was written.
pub fn compute(
    store: &Store,
    kinds: &Kinds,
    folder: &JobFolder,
    job: JobRecord,
    attempt: &str,
    cancelled: &AtomicBool,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<JobResult, StoreError> {
    // A job that the scheduler starts again is not what it was the first time.
    fs::remove_file(folder.result_path()).ok();
    let (started, clock) = (SystemTime::now(), Instant::now());
    let outcome = finish(store, kinds, folder, job, cancelled, environment);
    let time = |time| humantime::format_rfc3339_millis(time).to_string();
    let mut result = JobResult {
        attempt: attempt.to_owned(),
        exit: Exit::Done,
        error: None,
        help: None,
        outputs: BTreeMap::new(),
        computed: false,
        started: time(started),
        ended: time(SystemTime::now()),
        seconds: clock.elapsed().as_secs_f64(),
        host: host(),
        devices: environment("CUDA_VISIBLE_DEVICES"),
    };
    match outcome {
        Ok((record, computed)) => {
            result.outputs = record.outputs;
            result.computed = computed;
        }
        Err(error) => {
            result.exit = if error.is_cancelled() { Exit::Interrupted } else { Exit::Failed };
            result.error = Some(describe(&error));
            result.help = error.help();
        }
    }
    write_atomically(&folder.result_path(), &plain(&result))?;
    Ok(result)
}

/// Waits for the right to compute, and computes; says whether it had to.
fn finish(
    store: &Store,
    kinds: &Kinds,
    folder: &JobFolder,
    job: JobRecord,
    cancelled: &AtomicBool,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<(CellRecord, bool), CellError> {
    let run = job.run.clone();
    let job = prepare(store, kinds, job, environment)?;
    let _lock = match lock(store, &job.fingerprint, cancelled)? {
        Waited::Lock(lock) => lock,
        Waited::Found(record) => return Ok((*record, false)),
    };
    let events = EventFile::open(&folder.events());
    let record = execute(job, store, &run, cancelled, &|event: Event| events.write(&event))?;
    Ok((record, true))
}

enum Waited {
    Lock(CellLock),
    Found(Box<CellRecord>),
}

fn lock(store: &Store, fingerprint: &Fingerprint, cancelled: &AtomicBool) -> Result<Waited, CellError> {
    loop {
        let lock = store.try_lock(fingerprint)?;
        if let Some(record) = store.record(fingerprint) {
            return Ok(Waited::Found(Box::new(record)));
        }
        if let Some(lock) = lock {
            return Ok(Waited::Lock(lock));
        }
        if cancelled.load(Ordering::Relaxed) {
            return Err(StageError::Cancelled.into());
        }
        thread::sleep(LOCK_EVERY);
    }
}

/// Makes a record runnable here, and refuses what would not be what the record says.
fn prepare(
    store: &Store,
    kinds: &Kinds,
    job: JobRecord,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Job, CellError> {
    let name = &job.record.kind;
    let kind = kinds.all.iter().chain([&kinds.table]).find(|kind| kind.name() == name);
    let kind = *kind.ok_or_else(|| JobError::UnknownKind { kind: name.clone() })?;
    if kind.version() != job.record.version {
        let (wanted, have) = (job.record.version, kind.version());
        return Err(JobError::Version { kind: name.clone(), wanted, have }.into());
    }
    if job.record.fingerprint() != job.fingerprint {
        return Err(JobError::NotItself { fingerprint: job.fingerprint }.into());
    }
    let mut inputs: BTreeMap<String, Vec<Input>> = BTreeMap::new();
    for (port, artifacts) in job.inputs {
        let of_port = inputs.entry(port.clone()).or_default();
        for JobInput { digest, stage, labels } in artifacts {
            let path = store.object(&digest);
            if !path.is_dir() {
                return Err(JobError::InputGone { port, digest }.into());
            }
            of_port.push(Input { path, digest, stage, labels });
        }
    }
    let needed = kind.secrets(&job.params).into_iter().map(|variable| (variable, true));
    let optional = kind.optional_secrets(&job.params).into_iter().map(|variable| (variable, false));
    let mut secrets = Vec::new();
    for (variable, needed) in needed.chain(optional) {
        match Secret::new(&variable, &environment(&variable).unwrap_or_default()) {
            Ok(secret) => secrets.push(secret),
            Err(SecretError::NotSet { .. }) if !needed => {}
            Err(error) => return Err(JobError::Secret(error).into()),
        }
    }
    Ok(Job {
        kind,
        fingerprint: job.fingerprint,
        record: job.record,
        params: job.params,
        files: job.files,
        inputs,
        seed: job.seed,
        backend: job.backend,
        secrets,
        threads: job.threads,
    })
}

/// Reads a file of JSON Lines while it is written: what a cell says, or a run.
pub struct EventReader {
    path: PathBuf,
    heard: u64,
}

impl EventReader {
    /// From the beginning.
    pub fn new(path: PathBuf) -> Self {
        Self { path, heard: 0 }
    }

    /// What was said since the last look.
    pub fn read<T: DeserializeOwned>(&mut self) -> Vec<T> {
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            if file.metadata()?.len() < self.heard {
                self.heard = 0; // Another attempt.
            }
            file.seek(SeekFrom::Start(self.heard))?;
            file.read_to_end(&mut bytes)
        });
        if read.is_err() {
            return Vec::new(); // Nothing was said yet.
        }
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        self.heard += whole as u64;
        let lines = bytes[..whole].split(|byte| *byte == b'\n');
        lines.filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }
}

/// What a cell says, one JSON line each, for whoever waits for it. A fault in it never fails a cell.
struct EventFile(Mutex<(Option<File>, Instant)>);

impl EventFile {
    fn open(path: &Path) -> Self {
        let file = OpenOptions::new().create(true).append(true).open(path);
        let file = file.inspect_err(|error| tracing::warn!(%error, "no events")).ok();
        Self(Mutex::new((file, Instant::now())))
    }

    fn write(&self, event: &Event) {
        let mut inner = self.0.lock().expect("no panic while it is held");
        if matches!(event, Event::Progress { .. }) {
            if inner.1.elapsed() < PROGRESS_EVERY {
                return;
            }
            inner.1 = Instant::now();
        }
        let mut line = plain(event);
        line.push(b'\n');
        let written = inner.0.as_mut().map_or(Ok(()), |file| file.write_all(&line));
        if let Err(error) = written {
            tracing::warn!(%error, "cannot write events");
            inner.0 = None;
        }
    }
}
