//! The item journal: finished items of a cell, each under its own key, kept across kills and across cells.

use std::{
    collections::HashMap,
    fs::{self, File, OpenOptions},
    io::{Read, Seek, SeekFrom, Write},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{Digest, StageError};

/// Finished items, by key. Only successes belong here; a failure is never an answer.
///
/// One append-only JSON Lines file. A line cut short by a kill is ignored and overwritten by nothing: the next
/// append starts on a fresh line. Appends take a file lock, so two processes can share a journal.
pub struct Journal {
    path: PathBuf,
    file: Option<Arc<File>>,
    items: HashMap<String, serde_json::Value>,
    /// How much of the file is in `items`.
    read: u64,
}

#[derive(Serialize, Deserialize)]
struct Line<T> {
    key: String,
    item: T,
}

/// Where the journal of a kind for a namespace lies.
pub(crate) fn place(journals: &Path, kind: &str, namespace: &impl Serialize) -> PathBuf {
    journals.join(kind).join(format!("{}.jsonl", Digest::of_json(namespace)))
}

impl Journal {
    /// Reads the journal at `path`; a missing file is an empty journal.
    pub fn open(path: &Path) -> Result<Self, StageError> {
        let mut journal = Self { path: path.to_owned(), file: None, items: HashMap::new(), read: 0 };
        journal.refresh()?;
        Ok(journal)
    }

    /// Reads what others have appended meanwhile.
    fn refresh(&mut self) -> Result<(), StageError> {
        let mut bytes = Vec::new();
        let read = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(self.read))?;
            file.read_to_end(&mut bytes)
        });
        match read {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(StageError::io(&self.path)(error)),
        }
        // A line that is being written is read the next time; one that a kill cut short is closed by the next append.
        let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        for line in bytes[..whole].split(|byte| *byte == b'\n') {
            if let Ok(line) = serde_json::from_slice::<Line<serde_json::Value>>(line) {
                self.items.insert(line.key, line.item);
            }
        }
        self.read += whole as u64;
        Ok(())
    }

    /// Tries to become the one thread of all processes on this store that works on a key. With the claim in hand, look
    /// for the item again: whoever held the claim before may have finished it.
    pub fn try_claim(&mut self, key: &str) -> Result<Option<Claim>, StageError> {
        let folder = self.path.with_extension("claims");
        fs::create_dir_all(&folder).map_err(StageError::io(&folder))?;
        let path = folder.join(Digest::of_bytes(key.as_bytes()).as_str());
        loop {
            let file = OpenOptions::new().create(true).append(true).open(&path);
            let file = file.map_err(StageError::io(&path))?;
            match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(StageError::io(&path)(error.into())),
            }
            // The file may have been unlinked by its last holder between our open and our lock.
            let ours = file.metadata().map_err(StageError::io(&path))?.ino();
            if fs::metadata(&path).is_ok_and(|there| there.ino() == ours) {
                self.refresh()?;
                return Ok(Some(Claim { path, _file: file }));
            }
        }
    }

    /// The finished item under a key, if it is there and still has this shape.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        self.items.get(key).and_then(|item| T::deserialize(item).ok())
    }

    /// Records finished items durably: when this returns, they survive a kill and a power cut.
    pub fn put<T: Serialize>(&mut self, items: &[(String, T)]) -> Result<(), StageError> {
        self.append(items)?.sync()
    }

    /// Records finished items so that they survive a kill; [`Written::sync`] makes them survive a power cut too.
    ///
    /// For those who share a journal between threads: the lock around it need not be held while the disk is waited for.
    pub fn append<T: Serialize>(&mut self, items: &[(String, T)]) -> Result<Written, StageError> {
        if items.is_empty() {
            return Ok(Written(None));
        }
        // The leading newline closes whatever a killed writer left behind.
        let mut bytes = vec![b'\n'];
        for (key, item) in items {
            let item = serde_json::to_value(item)
                .map_err(std::io::Error::from)
                .map_err(StageError::io(&self.path))?;
            serde_json::to_writer(&mut bytes, &Line { key: key.clone(), item: &item })
                .map_err(std::io::Error::from)
                .map_err(StageError::io(&self.path))?;
            bytes.push(b'\n');
            self.items.insert(key.clone(), item);
        }
        let file = self.file()?;
        rustix::fs::flock(&*file, rustix::fs::FlockOperation::LockExclusive)
            .map_err(std::io::Error::from)
            .and_then(|()| (&*file).write_all(&bytes))
            .and_then(|()| {
                rustix::fs::flock(&*file, rustix::fs::FlockOperation::Unlock).map_err(std::io::Error::from)
            })
            .map_err(StageError::io(&self.path))?;
        Ok(Written(Some((file, self.path.clone()))))
    }

    /// Every item that still has this shape, in no order.
    pub fn items<T: DeserializeOwned>(&self) -> impl Iterator<Item = (&str, T)> {
        self.items.iter().filter_map(|(key, item)| Some((key.as_str(), T::deserialize(item).ok()?)))
    }

    /// How many items are recorded.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether nothing is recorded.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    fn file(&mut self) -> Result<Arc<File>, StageError> {
        if let Some(file) = &self.file {
            return Ok(Arc::clone(file));
        }
        if let Some(folder) = self.path.parent() {
            fs::create_dir_all(folder).map_err(StageError::io(folder))?;
        }
        let file = OpenOptions::new().create(true).append(true).open(&self.path);
        let file = Arc::new(file.map_err(StageError::io(&self.path))?);
        self.file = Some(Arc::clone(&file));
        Ok(file)
    }
}

/// The right to work on a key; released when dropped or when the process dies.
pub struct Claim {
    path: PathBuf,
    _file: File,
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Unlinked while still locked: whoever holds the old file sees that its path is gone and opens anew.
        fs::remove_file(&self.path).ok();
    }
}

/// Items handed to the operating system, and not yet known to be on the disk.
#[must_use = "items survive a power cut only once they are synced"]
pub struct Written(Option<(Arc<File>, PathBuf)>);

impl Written {
    /// Waits until the items are on the disk.
    pub fn sync(self) -> Result<(), StageError> {
        match self.0 {
            Some((file, path)) => file.sync_data().map_err(StageError::io(&path)),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn items_survive_and_a_torn_line_is_ignored() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b.jsonl");
        let mut journal = Journal::open(&path).unwrap();
        journal.put(&[("one".to_owned(), 1), ("two".to_owned(), 2)]).unwrap();
        let mut bytes = fs::read(&path).unwrap();
        bytes.extend_from_slice(b"{\"key\":\"three\",\"it");
        fs::write(&path, bytes).unwrap();

        let mut journal = Journal::open(&path).unwrap();
        assert_eq!(journal.len(), 2);
        assert_eq!(journal.get::<i32>("two"), Some(2));
        assert_eq!(journal.get::<i32>("three"), None);
        journal.put(&[("four".to_owned(), 4)]).unwrap();
        let journal = Journal::open(&path).unwrap();
        assert_eq!(journal.get::<i32>("four"), Some(4));
        assert_eq!(journal.len(), 3);
    }

    #[test]
    fn a_claim_has_one_holder_and_then_shows_what_the_holder_did() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let (mut one, mut other) = (Journal::open(&path).unwrap(), Journal::open(&path).unwrap());
        let claim = one.try_claim("k").unwrap();
        assert!(claim.is_some());
        assert!(other.try_claim("k").unwrap().is_none());
        assert!(other.try_claim("another").unwrap().is_some());
        one.put(&[("k".to_owned(), 1)]).unwrap();
        assert_eq!(other.get::<i32>("k"), None);
        drop(claim);
        assert!(other.try_claim("k").unwrap().is_some());
        assert_eq!(other.get::<i32>("k"), Some(1));
        assert_eq!(fs::read_dir(folder.path().join("a.claims")).unwrap().count(), 0);
    }
}
