//! What a remote holds of a cell, and everything that must be right about it before a byte of it is used.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Read},
};

use contract::Digest;
use serde::{Deserialize, Serialize};

use super::CHUNK;
use crate::{
    fingerprint::Fingerprint,
    store::{CellRecord, Store, StoreError, io_error, list},
};

/// A cell as a remote holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    /// What it was and what it made, as in the store it comes from.
    pub record: CellRecord,
    /// The files of each output, by port and by path inside the artifact.
    pub outputs: BTreeMap<String, BTreeMap<String, PublishedFile>>,
}

/// A file as a remote holds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PublishedFile {
    /// Its content's digest.
    pub digest: Digest,
    /// Its size, bytes.
    pub size: u64,
    /// The digests of its chunks, in order; all are [`CHUNK`] bytes but the last.
    pub chunks: Vec<Digest>,
}

/// Why an object of a remote is not taken; read after the name of the object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It cannot be read as what it should be.
    #[error("is no record of a cell: {0}")]
    Malformed(String),
    /// It is a record, of something else.
    #[error("is the record of another cell")]
    OtherCell,
    /// The kind has other output ports.
    #[error("does not have the output ports of its kind")]
    Ports,
    /// A text in it is not what we would write there.
    #[error("has a `{0}` that is not well formed")]
    Text(&'static str),
    /// A path in it leads out of its artifact, or through a file.
    #[error("has a file in a place where none can be: `{0}`")]
    Path(String),
    /// Sizes and numbers of chunks do not agree.
    #[error("has sizes that do not agree")]
    Sizes,
    /// Digests are not well formed, or not those of what they stand for.
    #[error("has digests that do not agree")]
    Digests,
    /// It is larger or smaller than it should be.
    #[error("has {found} bytes where {expected} belong")]
    Size {
        /// Its size.
        found: u64,
        /// What it should be, or at most be.
        expected: u64,
    },
    /// Its content is not what its name says.
    #[error("does not have the content it is named by")]
    Content,
    /// A record names it, and it is not there.
    #[error("is not there")]
    Missing,
}

impl PublishedFile {
    /// Offset, size and digest of each chunk.
    pub fn pieces(&self) -> impl Iterator<Item = (u64, u64, &Digest)> {
        let offsets = (0..self.size).step_by(usize::try_from(CHUNK).expect("chunks are small"));
        offsets.zip(&self.chunks).map(|(offset, digest)| (offset, CHUNK.min(self.size - offset), digest))
    }
}

impl Published {
    /// Describes a result that is in the store, and finds out if it is damaged.
    pub fn of(store: &Store, record: &CellRecord) -> Result<Self, StoreError> {
        let mut outputs = BTreeMap::new();
        for (port, digest) in &record.outputs {
            let folder = store.object(digest);
            let mut files = BTreeMap::new();
            for name in list(&folder)?.into_keys() {
                let path = folder.join(&name);
                let file = File::open(&path).and_then(cut).map_err(io_error("read", &path))?;
                files.insert(name, file);
            }
            if artifact(&files) != *digest {
                return Err(StoreError::Damaged { path: folder });
            }
            outputs.insert(port.clone(), files);
        }
        Ok(Self { record: record.clone(), outputs })
    }

    /// Reads the record of a fingerprint and checks it against itself, and against the output ports that the cell makes, if given.
    pub fn read(bytes: &[u8], fingerprint: &Fingerprint, ports: Option<&[&str]>) -> Result<Self, Refusal> {
        let published: Self =
            serde_json::from_slice(bytes).map_err(|error| Refusal::Malformed(error.to_string()))?;
        let Self { record, outputs } = &published;
        if record.cell.fingerprint() != *fingerprint {
            return Err(Refusal::OtherCell);
        }
        let mut expected: Vec<&str> =
            ports.map_or_else(|| record.outputs.keys().map(String::as_str).collect(), <[_]>::to_vec);
        expected.sort_unstable();
        if !outputs.keys().eq(&expected) || !record.outputs.keys().eq(&expected) {
            return Err(Refusal::Ports);
        }
        check_texts(record)?;
        let mut total: u64 = 0;
        for (port, files) in outputs {
            check_files(files)?;
            if files.is_empty() || artifact(files) != record.outputs[port] {
                return Err(Refusal::Digests);
            }
            for file in files.values() {
                total = total.checked_add(file.size).ok_or(Refusal::Sizes)?;
            }
        }
        if total != record.bytes || record.seconds.is_nan() || record.seconds < 0.0 {
            return Err(Refusal::Sizes);
        }
        Ok(published)
    }
}

/// The digest of an artifact, as the store computes it.
fn artifact(files: &BTreeMap<String, PublishedFile>) -> Digest {
    Digest::of_json(&files.iter().map(|(name, file)| (name, &file.digest)).collect::<BTreeMap<_, _>>())
}

/// Cuts a file into chunks.
fn cut(mut file: File) -> io::Result<PublishedFile> {
    let (mut whole, mut size, mut chunks) = (blake3::Hasher::new(), 0, Vec::new());
    let mut chunk = Vec::new();
    loop {
        chunk.clear();
        (&mut file).take(CHUNK).read_to_end(&mut chunk)?;
        if chunk.is_empty() {
            return Ok(PublishedFile { digest: Digest::from_hash(whole.finalize()), size, chunks });
        }
        whole.update(&chunk);
        size += chunk.len() as u64;
        chunks.push(Digest::of_bytes(&chunk));
    }
}

/// Texts of a record are shown to people, and the run's name is part of a path.
fn check_texts(record: &CellRecord) -> Result<(), Refusal> {
    let of_name = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    let run = &record.run;
    if run.is_empty() || run.len() > 200 || run.starts_with('.') || !run.chars().all(of_name) {
        return Err(Refusal::Text("run"));
    }
    let Some(accepted) = &record.accepted else { return Ok(()) };
    let shown = |text: &str| text.len() < 100_000 && !text.chars().any(char::is_control);
    if !shown(&accepted.reason) || !shown(&accepted.time) || !is_digest(&accepted.from.0) {
        return Err(Refusal::Text("accepted"));
    }
    Ok(())
}

fn is_digest(digest: &Digest) -> bool {
    Digest::parse(digest.as_str()).is_some()
}

fn check_files(files: &BTreeMap<String, PublishedFile>) -> Result<(), Refusal> {
    for (name, file) in files {
        let part = |part: &str| !part.is_empty() && part.len() <= 255 && part != "." && part != "..";
        let inside = name.len() < 2000 && name.split('/').all(part) && !name.chars().any(char::is_control);
        let mut above = name.rmatch_indices('/').map(|(at, _)| &name[..at]);
        if !inside || above.any(|folder| files.contains_key(folder)) {
            return Err(Refusal::Path(
                name.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect(),
            ));
        }
        if file.size.div_ceil(CHUNK) != file.chunks.len() as u64 {
            return Err(Refusal::Sizes);
        }
        let alone = file.chunks.len() == 1 && file.chunks[0] != file.digest;
        if alone || !is_digest(&file.digest) || !file.chunks.iter().all(is_digest) {
            return Err(Refusal::Digests);
        }
    }
    Ok(())
}
