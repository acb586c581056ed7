//! Where artifacts live, addressed by content.
//!
//! ```text
//! objects/ab/<digest>/      an artifact; complete, or not there
//! records/ab/<fingerprint>.json   what a cell was, and the digests of its outputs
//! staging/                  outputs of cells that are running
//! scratch/<fingerprint>/    checkpoints, handed to the next attempt; `gc` removes those that none will want
//! journals/<kind>/          finished items; `gc` keeps them, because they were paid for
//! history/<recipe>.jsonl    the latest fingerprint of each cell of a recipe
//! runs/<id>/                event logs
//! pins/                     copies of locks; `gc` keeps what they name
//! verify/                   stores in which `verify` computes cells again
//! incoming/<fingerprint>/   what has arrived of a result of the remote cache; the next attempt goes on from it
//! jobs/                     what is computed elsewhere, and what came of it: see [`crate::job`]
//! locks/                    one file a running cell, locked by its process
//! files.json                digests of external files, guarded by (size, mtime, inode, ctime)
//! ```
//!
//! A commit writes and syncs the files in `staging`, renames them into `objects`, and writes the record last, again by
//! rename. Locks are `flock`s: they die with the process, so nothing ever needs unlocking. Files in `objects` are
//! read-only. Nothing here knows what an artifact means.

use std::{
    collections::BTreeMap,
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
};

use contract::{CellDirs, Digest};
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};

use crate::fingerprint::{Fingerprint, FingerprintRecord};

/// Why the store could not do what was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or folder could not be read or written.
    #[error("cannot {action} `{}`", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// A kind left an output port empty.
    #[error("the kind `{kind}` left its output `{port}` empty")]
    EmptyOutput {
        /// The kind.
        kind: String,
        /// The port.
        port: String,
    },
    /// An artifact is not what it was when it was made.
    #[error("`{}` is damaged: its content is not what its name says", path.display())]
    Damaged {
        /// The artifact.
        path: PathBuf,
    },
    /// Another process uses the store in a way that excludes this one.
    #[error("the store `{}` is in use by another retort", path.display())]
    Busy {
        /// The store.
        path: PathBuf,
    },
}

impl StoreError {
    /// The remedy.
    pub fn help(&self) -> &'static str {
        match self {
            Self::Io { source, .. } => match source.kind() {
                io::ErrorKind::NotFound => "is the path right, and was nothing removed meanwhile?",
                io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                    "who runs retort must be allowed to; `--store` names another place for results"
                }
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => {
                    "make room: `retort gc --dry-run` says what could go"
                }
                _ => "the operating system refused; when it does not any more, the same command goes on",
            },
            Self::EmptyOutput { .. } => "this is a bug in the kind: please report it with the recipe",
            Self::Damaged { .. } => "remove it, and `retort run` makes it again",
            Self::Busy { .. } => "try again when it has finished",
        }
    }
}

const FOLDERS: [&str; 10] =
    ["objects", "records", "staging", "scratch", "journals", "history", "runs", "locks", "jobs", "incoming"];

/// The machine's name, `?` where it cannot be told.
pub fn host() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    if name.trim().is_empty() { "?".to_owned() } else { name.trim().to_owned() }
}

/// Tells this process from every other that uses the store: machines that share it may have equal process numbers.
fn process() -> &'static str {
    static PROCESS: std::sync::OnceLock<String> = std::sync::OnceLock::new();
    PROCESS.get_or_init(|| {
        let started = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let moment = started.map_or(0, |moment| moment.as_nanos());
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let all = format!("{} {boot} {moment}", host());
        format!("{}-{}", std::process::id(), &Digest::of_bytes(all.as_bytes()).as_str()[..8])
    })
}

/// What the operating system said of a path, as an error of the store.
pub(crate) fn io_error<'a>(
    action: &'static str,
    path: &'a Path,
) -> impl FnOnce(io::Error) -> StoreError + 'a {
    move |source| StoreError::Io { action, path: path.to_owned(), source }
}

/// A finished cell: what it was and what it made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CellRecord {
    /// What the cell was.
    pub cell: FingerprintRecord,
    /// Content digests by output port.
    pub outputs: BTreeMap<String, Digest>,
    /// The run that made it.
    pub run: String,
    /// Wall time, seconds.
    pub seconds: f64,
    /// Size of the outputs, bytes.
    pub bytes: u64,
    /// Where the outputs were made as something else, and a person let them stand for this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Acceptance>,
}

/// Why an earlier result stands for what a cell has become.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Acceptance {
    /// What the outputs were made as.
    pub from: Fingerprint,
    /// The person's reason.
    pub reason: String,
    /// When.
    pub time: String,
}

/// A folder of artifacts and everything that keeps them honest.
pub struct Store {
    root: PathBuf,
    files: FileDigests,
    sequence: AtomicU64,
    /// Held for the life of the store: shared by runs, exclusive for collection.
    _use_lock: File,
}

/// How a process uses the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// Reads and adds; any number of processes may.
    Shared,
    /// Removes; no other process may use the store.
    Exclusive,
}

/// The right to compute one fingerprint; released when dropped or when the process dies.
pub type CellLock = contract::Claim;

/// A store of its own, in which no checkpoint and no journal can stand in for computing. Its folder goes when it is dropped,
/// and what a kill leaves of it goes with `retort gc`.
pub struct Apart {
    store: Store,
    all: PathBuf,
}

impl std::ops::Deref for Apart {
    type Target = Store;

    fn deref(&self) -> &Store {
        &self.store
    }
}

impl Drop for Apart {
    fn drop(&mut self) {
        discard(&self.store.root);
        // The last one takes the folder of all with it.
        fs::remove_dir(&self.all).ok();
    }
}

impl Store {
    /// Opens a store, making its folder where there is none.
    pub fn open(root: &Path, usage: Use) -> Result<Self, StoreError> {
        fs::create_dir_all(root).map_err(io_error("create", root))?;
        let root = root.canonicalize().map_err(io_error("open", root))?;
        for folder in FOLDERS {
            let folder = root.join(folder);
            if !folder.is_dir() {
                fs::create_dir_all(&folder).map_err(io_error("create", &folder))?;
            }
        }
        let ignore = root.join(".gitignore");
        if !ignore.exists() {
            fs::write(&ignore, "*\n").map_err(io_error("write", &ignore))?;
        }
        let path = root.join("use.lock");
        let lock =
            OpenOptions::new().create(true).append(true).open(&path).map_err(io_error("open", &path))?;
        let operation = match usage {
            Use::Shared => FlockOperation::NonBlockingLockShared,
            Use::Exclusive => FlockOperation::NonBlockingLockExclusive,
        };
        match rustix::fs::flock(&lock, operation) {
            Ok(()) => {}
            Err(rustix::io::Errno::WOULDBLOCK) => return Err(StoreError::Busy { path: root }),
            Err(error) => return Err(io_error("lock", &path)(error.into())),
        }
        let files = FileDigests::open(root.join("files.json"));
        Ok(Self { root, files, sequence: AtomicU64::new(0), _use_lock: lock })
    }

    /// The store's folder.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A name that nothing else in the store has.
    fn unique(&self) -> String {
        format!("{}-{}", process(), self.sequence.fetch_add(1, Ordering::Relaxed))
    }

    /// A store that has nothing, below this one.
    pub fn apart(&self) -> Result<Apart, StoreError> {
        let all = self.root.join("verify");
        Ok(Apart { store: Self::open(&all.join(self.unique()), Use::Shared)?, all })
    }

    /// The folder of a complete artifact.
    pub fn object(&self, digest: &Digest) -> PathBuf {
        self.root.join("objects").join(&digest.as_str()[..2]).join(digest.as_str())
    }

    fn record_path(&self, fingerprint: &Fingerprint) -> PathBuf {
        let name = fingerprint.0.as_str();
        self.root.join("records").join(&name[..2]).join(format!("{name}.json"))
    }

    /// The record of a finished cell, if it and all its outputs are here.
    pub fn record(&self, fingerprint: &Fingerprint) -> Option<CellRecord> {
        let bytes = fs::read(self.record_path(fingerprint)).ok()?;
        let record: CellRecord = serde_json::from_slice(&bytes).ok()?;
        record.outputs.values().all(|digest| self.object(digest).is_dir()).then_some(record)
    }

    /// Tries to become the one process (and thread) that computes this fingerprint.
    pub fn try_lock(&self, fingerprint: &Fingerprint) -> Result<Option<CellLock>, StoreError> {
        let path = self.root.join("locks").join(fingerprint.0.as_str());
        CellLock::take(&path).map_err(io_error("lock", &path))
    }

    /// Fresh output folders and the kept scratch folder of a cell about to run.
    pub fn prepare(
        &self,
        fingerprint: &Fingerprint,
        ports: impl Iterator<Item = &'static str>,
    ) -> Result<CellDirs, StoreError> {
        let staging = self.root.join("staging").join(self.unique());
        if staging.exists() {
            fs::remove_dir_all(&staging).map_err(io_error("clear", &staging))?;
        }
        let mut outputs = BTreeMap::new();
        for port in ports {
            let folder = staging.join(port);
            fs::create_dir_all(&folder).map_err(io_error("create", &folder))?;
            outputs.insert(port.to_owned(), folder);
        }
        let scratch = self.root.join("scratch").join(fingerprint.0.as_str());
        fs::create_dir_all(&scratch).map_err(io_error("create", &scratch))?;
        Ok(CellDirs { outputs, scratch, journals: self.root.join("journals") })
    }

    /// Takes over the outputs of a finished cell and records it. After this returns the result survives a kill.
    pub fn commit(
        &self,
        fingerprint: &Fingerprint,
        cell: FingerprintRecord,
        dirs: &CellDirs,
        run: &str,
        seconds: f64,
    ) -> Result<CellRecord, StoreError> {
        let mut record = CellRecord {
            cell,
            outputs: BTreeMap::new(),
            run: run.to_owned(),
            seconds,
            bytes: 0,
            accepted: None,
        };
        for (port, staged) in &dirs.outputs {
            let files = list(staged)?;
            if files.is_empty() {
                return Err(StoreError::EmptyOutput { kind: record.cell.kind.clone(), port: port.clone() });
            }
            record.bytes += files.values().sum::<u64>();
            let digest = digest_listed(staged, &files)?;
            self.move_in(staged, &files, &digest)?;
            record.outputs.insert(port.clone(), digest);
        }
        self.put_record(fingerprint, &record)?;
        self.clean(dirs);
        discard(&dirs.scratch);
        Ok(record)
    }

    /// Syncs and protects a folder's files and makes the folder the artifact of this digest, which is its content's.
    fn move_in(
        &self,
        folder: &Path,
        files: &BTreeMap<String, u64>,
        digest: &Digest,
    ) -> Result<(), StoreError> {
        for name in files.keys() {
            let path = folder.join(name);
            let file = File::open(&path).map_err(io_error("open", &path))?;
            file.sync_all().map_err(io_error("sync", &path))?;
            let mut permissions = file.metadata().map_err(io_error("read", &path))?.permissions();
            permissions.set_readonly(true);
            file.set_permissions(permissions).map_err(io_error("protect", &path))?;
        }
        let object = self.object(digest);
        let shard = object.parent().expect("objects are two levels deep");
        fs::create_dir_all(shard).map_err(io_error("create", shard))?;
        match fs::rename(folder, &object) {
            Ok(()) => Ok(()),
            // Equal content is there already.
            Err(_) if object.is_dir() => {
                discard(folder);
                Ok(())
            }
            Err(error) => Err(io_error("move an artifact to", &object)(error)),
        }
    }

    /// Where a result of the remote cache arrives; whoever holds the fingerprint's lock may write there.
    pub fn incoming(&self, fingerprint: &Fingerprint) -> PathBuf {
        self.root.join("incoming").join(fingerprint.0.as_str())
    }

    /// Takes over a folder of [`Store::incoming`] if its content has this digest; says whether it has.
    pub fn take_in(&self, folder: &Path, digest: &Digest) -> Result<bool, StoreError> {
        let files = list(folder)?;
        let same = digest_listed(folder, &files)? == *digest;
        if same {
            self.move_in(folder, &files, digest)?;
        }
        Ok(same)
    }

    /// Every finished cell whose outputs are here, by fingerprint.
    pub fn records(&self) -> BTreeMap<Fingerprint, CellRecord> {
        let shards = fs::read_dir(self.root.join("records")).into_iter().flatten().flatten();
        let files = shards.flat_map(|shard| fs::read_dir(shard.path()).into_iter().flatten().flatten());
        let fingerprint = |file: fs::DirEntry| {
            let fingerprint = Fingerprint(Digest::parse(file.path().file_stem()?.to_str()?)?);
            let record = self.record(&fingerprint)?;
            Some((fingerprint, record))
        };
        files.filter_map(fingerprint).collect()
    }

    /// Records what a fingerprint made; its outputs are in the store.
    pub fn put_record(&self, fingerprint: &Fingerprint, record: &CellRecord) -> Result<(), StoreError> {
        let bytes = serde_json::to_vec(record).expect("a record is plain data");
        write_atomically(&self.record_path(fingerprint), &bytes)
    }

    /// Removes a cell's staging folders, keeping its scratch folder: after a failure.
    pub fn clean(&self, dirs: &CellDirs) {
        if let Some(staging) = dirs.outputs.values().next().and_then(|folder| folder.parent()) {
            discard(staging);
        }
    }

    /// The content digest of an external file or folder.
    pub fn digest_file(&self, path: &Path) -> Result<Digest, StoreError> {
        let metadata = fs::metadata(path).map_err(io_error("read", path))?;
        if metadata.is_dir() {
            let files = list(path)?;
            return digest_listing(&files, |name| self.digest_file(&path.join(name)));
        }
        if let Some(digest) = self.files.get(path, &metadata) {
            return Ok(digest);
        }
        let digest = digest_content(path)?;
        self.files.put(path, &metadata, &digest);
        Ok(digest)
    }

    /// Writes what [`Store::digest_file`] learned.
    pub fn save_file_digests(&self) {
        self.files.save();
    }
}

/// Removes a folder of ours; what cannot be removed now is left to `retort gc`.
fn discard(folder: &Path) {
    fs::remove_dir_all(folder).ok();
}

/// Every file below a folder with its size, by relative path, sorted.
pub fn list(folder: &Path) -> Result<BTreeMap<String, u64>, StoreError> {
    let mut files = BTreeMap::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(current) = pending.pop() {
        for entry in fs::read_dir(&current).map_err(io_error("read", &current))? {
            let entry = entry.map_err(io_error("read", &current))?;
            let path = entry.path();
            let metadata = fs::metadata(&path).map_err(io_error("read", &path))?;
            if metadata.is_dir() {
                pending.push(path);
            } else {
                let name = path.strip_prefix(folder).expect("found below it").to_string_lossy().into_owned();
                files.insert(name, metadata.len());
            }
        }
    }
    Ok(files)
}

fn digest_content(path: &Path) -> Result<Digest, StoreError> {
    let mut hasher = blake3::Hasher::new();
    let file = File::open(path).map_err(io_error("open", path))?;
    hasher.update_reader(file).map_err(io_error("read", path))?;
    Ok(Digest::from_hash(hasher.finalize()))
}

fn digest_listing(
    files: &BTreeMap<String, u64>,
    digest: impl Fn(&str) -> Result<Digest, StoreError>,
) -> Result<Digest, StoreError> {
    let mut entries = BTreeMap::new();
    for name in files.keys() {
        entries.insert(name, digest(name)?);
    }
    Ok(Digest::of_json(&entries))
}

fn digest_listed(folder: &Path, files: &BTreeMap<String, u64>) -> Result<Digest, StoreError> {
    digest_listing(files, |name| digest_content(&folder.join(name)))
}

/// Writes a file so that it is there whole or not at all.
pub fn write_atomically(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    static SEQUENCE: AtomicU64 = AtomicU64::new(0);
    let folder = path.parent().expect("paths in a store have a folder");
    fs::create_dir_all(folder).map_err(io_error("create", folder))?;
    let number = SEQUENCE.fetch_add(1, Ordering::Relaxed);
    let temporary = folder.join(format!(".{}-{number}.tmp", process()));
    let mut file = File::create(&temporary).map_err(io_error("create", &temporary))?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(io_error("write", &temporary))?;
    fs::rename(&temporary, path).map_err(io_error("write", path))
}

/// Digests of external files, remembered while their metadata stays the same.
struct FileDigests {
    path: PathBuf,
    known: std::sync::Mutex<(BTreeMap<PathBuf, FileDigest>, bool)>,
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
struct FileDigest {
    guard: (u64, i64, i64, u64, i64, i64),
    digest: Digest,
}

impl FileDigests {
    fn open(path: PathBuf) -> Self {
        // A missing or damaged table only costs hashing again.
        let known = fs::read(&path).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
        Self { path, known: std::sync::Mutex::new((known.unwrap_or_default(), false)) }
    }

    fn guard(metadata: &fs::Metadata) -> (u64, i64, i64, u64, i64, i64) {
        (
            metadata.size(),
            metadata.mtime(),
            metadata.mtime_nsec(),
            metadata.ino(),
            metadata.ctime(),
            metadata.ctime_nsec(),
        )
    }

    fn get(&self, path: &Path, metadata: &fs::Metadata) -> Option<Digest> {
        let known = self.known.lock().expect("no panic while it is held");
        let entry = known.0.get(path)?;
        (entry.guard == Self::guard(metadata)).then(|| entry.digest.clone())
    }

    fn put(&self, path: &Path, metadata: &fs::Metadata, digest: &Digest) {
        // A file written just now could change again without its times showing it, so it is not remembered yet.
        let settled = |changed: std::time::SystemTime| {
            changed.elapsed().is_ok_and(|age| age > std::time::Duration::from_secs(2))
        };
        if !metadata.modified().is_ok_and(settled) {
            return;
        }
        let mut known = self.known.lock().expect("no panic while it is held");
        let entry = FileDigest { guard: Self::guard(metadata), digest: digest.clone() };
        known.0.insert(path.to_owned(), entry);
        known.1 = true;
    }

    fn save(&self) {
        let mut known = self.known.lock().expect("no panic while it is held");
        if std::mem::take(&mut known.1) {
            let bytes = serde_json::to_vec(&known.0).expect("plain data");
            // Only a cache: a failure to write it costs hashing again.
            write_atomically(&self.path, &bytes).ok();
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn one_holder_a_lock_and_it_is_free_afterwards() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("a b"), Use::Shared).unwrap();
        let fingerprint = Fingerprint(Digest::of_bytes(b"x"));
        let lock = store.try_lock(&fingerprint).unwrap();
        assert!(lock.is_some());
        assert!(store.try_lock(&fingerprint).unwrap().is_none());
        drop(lock);
        assert!(store.try_lock(&fingerprint).unwrap().is_some());
        assert_eq!(fs::read_dir(store.root().join("locks")).unwrap().count(), 0);
    }

    #[test]
    fn collection_excludes_runs_and_runs_share() {
        let folder = tempfile::tempdir().unwrap();
        let first = Store::open(folder.path(), Use::Shared).unwrap();
        let second = Store::open(folder.path(), Use::Shared).unwrap();
        assert!(matches!(Store::open(folder.path(), Use::Exclusive), Err(StoreError::Busy { .. })));
        drop((first, second));
        assert!(Store::open(folder.path(), Use::Exclusive).is_ok());
    }

    #[test]
    fn a_touched_file_keeps_its_digest_and_an_edited_one_does_not() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(&folder.path().join("store"), Use::Shared).unwrap();
        let file = folder.path().join("data.jsonl");
        fs::write(&file, "a").unwrap();
        let before = store.digest_file(&file).unwrap();
        fs::write(&file, "a").unwrap();
        assert_eq!(store.digest_file(&file).unwrap(), before);
        fs::write(&file, "b").unwrap();
        assert_ne!(store.digest_file(&file).unwrap(), before);
    }
}
