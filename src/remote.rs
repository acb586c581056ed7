//! A remote cache: finished cells in a bucket or folder that several stores share.
//!
//! ```text
//! retort-1/records/ab/<fingerprint>.json   a [`Published`] cell: its record, and what its files are made of
//! retort-1/chunks/ab/<digest>              at most 4 MiB of a file
//! ```
//!
//! Chunks are sent first and the record last, which is written only where there is none, so whoever sees a record sees a
//! whole result, and two that send one cell both come to a good end. A file of any size goes and comes in chunks, and
//! what has arrived is found again by its digest: a cut connection costs the chunks that were on their way.
//!
//! Nothing of what arrives is believed. The record must be the one of the fingerprint that was asked for, name files inside
//! its artifact only, and agree with itself; every chunk and every artifact must have the content it is named by. What does
//! not is refused, the cell is computed here, and its result written over what was refused. What no digest can tell is
//! whether the cell really makes this result: that is for whoever may write to the remote to answer for.
//!
//! A remote that does not answer costs one warning, and is asked again after a minute.

mod check;
mod courier;
mod place;
#[cfg(feature = "remote")]
mod storage;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::{self, File, OpenOptions},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use contract::Digest;
use rayon::prelude::*;

pub use check::{Published, PublishedFile, Refusal};
pub(crate) use courier::{Courier, Errand};
pub use place::{Access, Cloud, Place, PlaceError};

use crate::{
    fingerprint::Fingerprint,
    log::describe,
    reporter::bytes as size_text,
    store::{CellRecord, Store, StoreError, io_error, list},
};

/// Files are cut at multiples of this, bytes.
pub const CHUNK: u64 = 4 << 20;
/// Larger records are refused; that of a terabyte is a tenth of it.
const LARGEST_RECORD: u64 = 256 << 20;
/// Below this a chunk is sent without asking whether it is there.
const SMALL: u64 = 64 << 10;
/// How many requests are on their way at once, each with a chunk in memory.
const AT_ONCE: usize = 16;
/// How long a remote that did not answer is left alone.
const PAUSE: Duration = Duration::from_secs(60);
/// Everything lies below this, so that a later layout can lie beside it.
const LAYOUT: &str = "retort-1";

/// Why storage did not do what was asked, in words without credentials.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct StorageError(String);

/// What became of a write.
#[cfg_attr(not(feature = "remote"), allow(dead_code, reason = "only storage writes"))]
enum Put {
    Written,
    /// Something is there already, and stays.
    There,
}

/// Storage of objects by key.
trait Objects: Send + Sync {
    /// How large an object is; `None` if there is none.
    fn size(&self, key: &str) -> Result<Option<u64>, StorageError>;

    /// An object's bytes, or its size where that is larger than `most`; `None` if there is none.
    fn get(&self, key: &str, most: u64) -> Result<Option<Result<Vec<u8>, u64>>, StorageError>;

    /// Writes an object whole or not at all: over what is there, or only where nothing is.
    fn put(&self, key: &str, bytes: Vec<u8>, over: bool) -> Result<Put, StorageError>;
}

/// Why a remote cache did not help.
#[derive(Debug, thiserror::Error)]
pub enum RemoteError {
    /// This program was built without it.
    #[error("this program was built without remote caches")]
    NotBuilt,
    /// It cannot be used at all.
    #[error("cannot open the remote `{remote}`: {problem}")]
    Open {
        /// The remote.
        remote: String,
        /// Why not.
        problem: String,
    },
    /// It does not answer, or not as it should.
    #[error("cannot {action} the remote `{remote}`: {problem}")]
    Storage {
        /// What was tried.
        action: &'static str,
        /// The remote.
        remote: String,
        /// What it, or the way to it, said.
        problem: String,
    },
    /// It did not answer a moment ago, and is left alone for a while.
    #[error("the remote `{remote}` did not answer")]
    Away {
        /// The remote.
        remote: String,
    },
    /// What it holds for a cell is not taken.
    #[error("the remote's result is refused: `{key}` {refusal}")]
    Refused {
        /// The object.
        key: String,
        /// Why.
        refusal: Refusal,
    },
    /// The disk has no room for a result; that says nothing against it.
    #[error("the remote's result needs {}, and {} are free here", size_text(*needed), size_text(*room))]
    Room {
        /// What is still to come of it, bytes.
        needed: u64,
        /// What is free, bytes.
        room: u64,
    },
    /// This program panicked over it.
    #[error("retort panicked over the remote: {message}")]
    Bug {
        /// The panic's message.
        message: String,
    },
    /// The store could not take or give a result.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The user stopped it; what has arrived stays.
    #[error("interrupted")]
    Interrupted,
}

impl RemoteError {
    /// The remedy.
    pub fn help(&self) -> Option<&'static str> {
        match self {
            Self::NotBuilt => Some("build it with `--features remote`"),
            Self::Open { .. } | Self::Storage { .. } | Self::Away { .. } => Some(
                "endpoint, region and credentials come from the environment: see `docs/remote-cache.md`; `--remote none` goes without",
            ),
            Self::Refused { .. } => Some("`retort push --over` writes a good result over it"),
            Self::Room { .. } => Some("make room: `retort gc --dry-run` says what could go"),
            Self::Bug { .. } => Some("this is a bug: please report it; `--remote none` goes without"),
            Self::Store(error) => Some(error.help()),
            Self::Interrupted => None,
        }
    }
}

/// What became of a result that was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Sent {
    /// It is there now.
    New,
    /// It was there already.
    There,
    /// Another result of the same fingerprint was there and stays: the cell is not deterministic.
    Other,
}

/// A remote cache in use.
pub struct Remote {
    name: String,
    access: Access,
    objects: Box<dyn Objects>,
    /// Bounds what is on its way at once, cells and chunks together.
    pool: rayon::ThreadPool,
    /// Objects that were refused: a good result is written over them.
    refused: Mutex<BTreeSet<String>>,
    trouble: Mutex<Trouble>,
    /// Bytes free on the disk of a folder.
    room: fn(&Path) -> Result<u64, StoreError>,
}

#[derive(Default)]
struct Trouble {
    until: Option<Instant>,
    said: bool,
}

impl std::fmt::Debug for Remote {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Remote").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A part of a file on its way.
struct Piece<'a> {
    path: PathBuf,
    offset: u64,
    size: u64,
    digest: &'a Digest,
    /// Whether the file was there before, and may hold it.
    resumed: bool,
}

impl Remote {
    /// Opens a remote cache; a folder is made where there is none, and a bucket is not asked anything yet.
    pub fn open(place: &Place, access: Access) -> Result<Self, RemoteError> {
        Self::with(open(place)?, place.to_string(), access)
    }

    fn with(objects: Box<dyn Objects>, name: String, access: Access) -> Result<Self, RemoteError> {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(AT_ONCE).build();
        let pool =
            pool.map_err(|error| RemoteError::Open { remote: name.clone(), problem: error.to_string() })?;
        let (refused, trouble) = (Mutex::default(), Mutex::default());
        Ok(Self { name, access, objects, pool, refused, trouble, room })
    }

    /// The place, as it is shown to people.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Whether runs take results from it.
    pub fn reads(&self) -> bool {
        matches!(self.access, Access::Read | Access::ReadWrite)
    }

    /// Whether runs send results to it.
    pub fn writes(&self) -> bool {
        matches!(self.access, Access::Write | Access::ReadWrite)
    }

    /// What to tell people of an error: all that is about one cell, and once that the remote does not answer.
    pub fn warning(&self, error: &RemoteError) -> Option<String> {
        match error {
            RemoteError::Refused { .. }
            | RemoteError::Room { .. }
            | RemoteError::Bug { .. }
            | RemoteError::Store(_) => Some(describe(error)),
            RemoteError::Interrupted | RemoteError::Away { .. } => None,
            RemoteError::NotBuilt | RemoteError::Open { .. } | RemoteError::Storage { .. } => {
                let said = std::mem::replace(&mut self.trouble().said, true);
                (!said).then(|| format!("{}; going on without it", describe(error)))
            }
        }
    }

    /// Does something for each of many cells, several at a time.
    pub fn for_each<T: Sync>(&self, items: &[T], action: impl Fn(&T) + Send + Sync) {
        self.pool.install(|| items.par_iter().for_each(action));
    }

    /// The records of those cells that are there; nothing is downloaded. With each come the output ports that it makes.
    pub fn look(
        &self,
        wanted: &BTreeMap<Fingerprint, Vec<&'static str>>,
    ) -> (BTreeMap<Fingerprint, CellRecord>, Vec<RemoteError>) {
        let look = |(fingerprint, ports): (&Fingerprint, &Vec<&str>)| {
            let published = self.published(fingerprint, Some(ports)).transpose()?;
            Some(published.map(|published| (fingerprint.clone(), published.record)))
        };
        let looked: Vec<_> = self.pool.install(|| wanted.par_iter().filter_map(look).collect());
        let (mut found, mut errors) = (BTreeMap::new(), Vec::new());
        for result in looked {
            match result {
                Ok((fingerprint, record)) => drop(found.insert(fingerprint, record)),
                Err(error) => errors.push(error),
            }
        }
        (found, errors)
    }

    /// Brings a cell's result into the store. `None` if the remote has none or does not answer for now, or if somebody else
    /// is about to have it here.
    pub fn fetch(
        &self,
        store: &Store,
        fingerprint: &Fingerprint,
        ports: &[&str],
        cancelled: &AtomicBool,
    ) -> Result<Option<CellRecord>, RemoteError> {
        let Some(_lock) = store.try_lock(fingerprint)? else { return Ok(None) };
        if let Some(record) = store.record(fingerprint) {
            return Ok(Some(record));
        }
        let Some(published) = self.published(fingerprint, Some(ports))? else { return Ok(None) };
        let incoming = store.incoming(fingerprint);
        let refuse = |refusal| self.refuse(&[record_key(fingerprint)], refusal);
        let there = |port: &str| store.object(&published.record.outputs[port]).is_dir();
        let missing: Vec<_> = published.outputs.iter().filter(|(port, _)| !there(port)).collect();
        let needed: u64 =
            missing.iter().map(|(port, files)| still_to_come(&incoming.join(port), files)).sum();
        let room = (self.room)(store.root())?;
        if needed > room {
            return Err(RemoteError::Room { needed, room });
        }
        let mut pieces = Vec::new();
        for (port, files) in &missing {
            let folder = incoming.join(port);
            for (name, file) in *files {
                let path = folder.join(name);
                let resumed = path.is_file();
                lay_out(&path, file.size)?;
                for (offset, size, digest) in file.pieces() {
                    pieces.push(Piece { path: path.clone(), offset, size, digest, resumed });
                }
            }
            // An earlier attempt may have been about another result.
            for name in list(&folder)?.keys().filter(|name| !files.contains_key(*name)) {
                let path = folder.join(name);
                fs::remove_file(&path).map_err(io_error("remove", &path))?;
            }
        }
        self.each(&pieces, cancelled, |piece| self.receive(piece, fingerprint))?;
        for (port, _) in &missing {
            if !store.take_in(&incoming.join(port), &published.record.outputs[*port])? {
                fs::remove_dir_all(&incoming).ok();
                return Err(refuse(Refusal::Digests));
            }
        }
        store.put_record(fingerprint, &published.record)?;
        fs::remove_dir_all(&incoming).ok();
        Ok(Some(published.record))
    }

    /// Sends a cell's result, all of which is in the store; `over` writes over whatever is there.
    pub fn send(
        &self,
        store: &Store,
        fingerprint: &Fingerprint,
        record: &CellRecord,
        over: bool,
        cancelled: &AtomicBool,
    ) -> Result<Sent, RemoteError> {
        let key = record_key(fingerprint);
        if self.paused() {
            return Err(RemoteError::Away { remote: self.name.clone() });
        }
        let bad = |key: &str| over || self.refused.lock().expect("no panic while it is held").contains(key);
        if !bad(&key) {
            match self.published(fingerprint, None) {
                Ok(None) => {}
                Ok(Some(there)) if there.record.outputs == record.outputs => return Ok(Sent::There),
                Ok(Some(_)) => return Ok(Sent::Other),
                // Noted as refused, so it is written over.
                Err(RemoteError::Refused { .. }) => {}
                Err(error) => return Err(error),
            }
        }
        let published = Published::of(store, record)?;
        let mut pieces = Vec::new();
        for (port, files) in &published.outputs {
            let folder = store.object(&record.outputs[port]);
            for (name, file) in files {
                for (offset, size, digest) in file.pieces() {
                    pieces.push(Piece { path: folder.join(name), offset, size, digest, resumed: false });
                }
            }
        }
        self.each(&pieces, cancelled, |piece| {
            let key = chunk_key(piece.digest);
            if !bad(&key)
                && piece.size >= SMALL
                && self.storage("read", self.objects.size(&key))? == Some(piece.size)
            {
                return Ok(());
            }
            let bytes = read_piece(piece)?;
            if Digest::of_bytes(&bytes) != *piece.digest {
                return Err(StoreError::Damaged { path: piece.path.clone() }.into());
            }
            // Over what is there, if anything: it would be the same, and so the request can be tried again when it breaks.
            self.storage("write to", self.objects.put(&key, bytes, true))?;
            Ok(())
        })?;
        let bytes = serde_json::to_vec(&published).expect("a record is plain data");
        Ok(match self.storage("write to", self.objects.put(&key, bytes, bad(&key)))? {
            Put::Written => Sent::New,
            Put::There => Sent::There,
        })
    }

    /// The record of a cell as it is there, checked against itself.
    fn published(
        &self,
        fingerprint: &Fingerprint,
        ports: Option<&[&str]>,
    ) -> Result<Option<Published>, RemoteError> {
        let key = record_key(fingerprint);
        if self.paused() {
            return Ok(None);
        }
        let Some(found) = self.storage("read", self.objects.get(&key, LARGEST_RECORD))? else {
            return Ok(None);
        };
        let published = found
            .map_err(|found| Refusal::Size { found, expected: LARGEST_RECORD })
            .and_then(|bytes| Published::read(&bytes, fingerprint, ports));
        published.map(Some).map_err(|refusal| self.refuse(&[key], refusal))
    }

    /// Writes a piece of a file that is on its way here, unless it has arrived before.
    fn receive(&self, piece: &Piece<'_>, fingerprint: &Fingerprint) -> Result<(), RemoteError> {
        if piece.resumed && Digest::of_bytes(&read_piece(piece)?) == *piece.digest {
            return Ok(());
        }
        let key = chunk_key(piece.digest);
        // The record goes with it: as long as it stands, the result seems to be there.
        let refuse = |refusal| self.refuse(&[key.clone(), record_key(fingerprint)], refusal);
        let bytes = match self.storage("read", self.objects.get(&key, piece.size))? {
            None => return Err(refuse(Refusal::Missing)),
            Some(Err(found)) => return Err(refuse(Refusal::Size { found, expected: piece.size })),
            Some(Ok(bytes)) => bytes,
        };
        if bytes.len() as u64 != piece.size {
            return Err(refuse(Refusal::Size { found: bytes.len() as u64, expected: piece.size }));
        }
        if Digest::of_bytes(&bytes) != *piece.digest {
            return Err(refuse(Refusal::Content));
        }
        let file = OpenOptions::new().write(true).open(&piece.path).map_err(io_error("open", &piece.path))?;
        Ok(file.write_all_at(&bytes, piece.offset).map_err(io_error("write", &piece.path))?)
    }

    /// Does something with every piece, several at a time, until one fails.
    fn each<'p>(
        &self,
        pieces: &[Piece<'p>],
        cancelled: &AtomicBool,
        action: impl Fn(&Piece<'p>) -> Result<(), RemoteError> + Send + Sync,
    ) -> Result<(), RemoteError> {
        self.pool.install(|| {
            pieces.par_iter().try_for_each(|piece| match cancelled.load(Ordering::Relaxed) {
                true => Err(RemoteError::Interrupted),
                false => action(piece),
            })
        })
    }

    /// Notes objects as refused; the first is what is wrong.
    fn refuse(&self, keys: &[String], refusal: Refusal) -> RemoteError {
        self.refused.lock().expect("no panic while it is held").extend(keys.iter().cloned());
        RemoteError::Refused { key: keys[0].clone(), refusal }
    }

    /// An answer of the storage; without one it is left alone for a while.
    fn storage<T>(&self, action: &'static str, answer: Result<T, StorageError>) -> Result<T, RemoteError> {
        answer.map_err(|StorageError(problem)| {
            self.trouble().until = Some(Instant::now() + PAUSE);
            RemoteError::Storage { action, remote: self.name.clone(), problem }
        })
    }

    fn paused(&self) -> bool {
        self.trouble().until.is_some_and(|until| Instant::now() < until)
    }

    fn trouble(&self) -> std::sync::MutexGuard<'_, Trouble> {
        self.trouble.lock().expect("no panic while it is held")
    }
}

#[cfg(feature = "remote")]
fn open(place: &Place) -> Result<Box<dyn Objects>, RemoteError> {
    let opened = storage::Storage::open(place);
    let failed = |StorageError(problem)| RemoteError::Open { remote: place.to_string(), problem };
    Ok(Box::new(opened.map_err(failed)?))
}

#[cfg(not(feature = "remote"))]
fn open(_: &Place) -> Result<Box<dyn Objects>, RemoteError> {
    Err(RemoteError::NotBuilt)
}

fn record_key(fingerprint: &Fingerprint) -> String {
    let name = fingerprint.0.as_str();
    format!("{LAYOUT}/records/{}/{name}.json", &name[..2])
}

fn chunk_key(digest: &Digest) -> String {
    format!("{LAYOUT}/chunks/{}/{digest}", &digest.as_str()[..2])
}

/// Bytes free on the disk of a folder.
fn room(folder: &Path) -> Result<u64, StoreError> {
    let disk = rustix::fs::statvfs(folder).map_err(|error| io_error("read", folder)(error.into()))?;
    Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
}

/// How much of some files has no room on disk yet, bytes: a file that has not all arrived has holes.
fn still_to_come(folder: &Path, files: &BTreeMap<String, PublishedFile>) -> u64 {
    /// The unit of `st_blocks`, bytes.
    const BLOCK: u64 = 512;
    let missing = |(name, file): (&String, &PublishedFile)| {
        let there = fs::metadata(folder.join(name)).map_or(0, |metadata| metadata.blocks() * BLOCK);
        file.size.saturating_sub(there)
    };
    files.iter().map(missing).sum()
}

/// A file of a size, holding what it held before.
fn lay_out(path: &Path, size: u64) -> Result<(), StoreError> {
    let folder = path.parent().expect("files arrive in a folder");
    fs::create_dir_all(folder).map_err(io_error("create", folder))?;
    let file = OpenOptions::new().create(true).truncate(false).write(true).open(path);
    file.and_then(|file| file.set_len(size)).map_err(io_error("create", path))
}

fn read_piece(piece: &Piece<'_>) -> Result<Vec<u8>, StoreError> {
    let mut bytes = vec![0; usize::try_from(piece.size).expect("chunks are small")];
    let file = File::open(&piece.path).map_err(io_error("open", &piece.path))?;
    file.read_exact_at(&mut bytes, piece.offset).map_err(io_error("read", &piece.path))?;
    Ok(bytes)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
