//! The item journal: finished items of a cell, each under its own key, kept across kills and across cells.

use std::{
    borrow::Cow,
    collections::HashMap,
    fs::{self, File, OpenOptions},
    hash::{BuildHasher, RandomState},
    io::{BufRead, BufReader, Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, MetadataExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize, de::DeserializeOwned, de::IgnoredAny};

use crate::{Digest, StageError};

/// Finished items, by key. Only successes belong here; a failure is never an answer.
///
/// One append-only JSON Lines file. A line cut short by a kill is ignored and overwritten by nothing: the next
/// append starts on a fresh line. Appends take a file lock, so two processes can share a journal.
///
/// Items stay in the file and are read from there when they are asked for: memory holds where each lies, some 25 to 50
/// bytes an item however long its text.
pub struct Journal {
    path: PathBuf,
    file: Option<Arc<File>>,
    /// The latest line of each key, by the key's hash. Of two keys with one hash the earlier counts as missing.
    places: HashMap<u64, Place>,
    hashes: RandomState,
    /// How much of the file is in `places`.
    read: u64,
}

/// Where a line lies in the file, bytes.
#[derive(Clone, Copy)]
struct Place {
    start: u64,
    length: u32,
}

#[derive(Serialize, Deserialize)]
struct Line<'a, T> {
    #[serde(borrow)]
    key: Cow<'a, str>,
    item: T,
}

/// Where the journal of a kind for a namespace lies.
pub(crate) fn place(journals: &Path, kind: &str, namespace: &impl Serialize) -> PathBuf {
    journals.join(kind).join(format!("{}.jsonl", Digest::of_json(namespace)))
}

impl Journal {
    /// Reads the journal at `path`; a missing file is an empty journal.
    pub fn open(path: &Path) -> Result<Self, StageError> {
        let (places, hashes) = (HashMap::new(), RandomState::new());
        let mut journal = Self { path: path.to_owned(), file: None, places, hashes, read: 0 };
        journal.refresh()?;
        Ok(journal)
    }

    /// Reads what others have appended meanwhile.
    fn refresh(&mut self) -> Result<(), StageError> {
        if self.opened(false)?.is_none() {
            return Ok(());
        }
        // Through a handle of its own: over a network, opening is what shows what other machines wrote.
        let mut lines = self.lines(self.read)?;
        let mut line = Vec::new();
        // A line that is being written is read the next time; one that a kill cut short is closed by the next append.
        while lines.read_until(b'\n', &mut line).map_err(StageError::io(&self.path))? > 0
            && line.ends_with(b"\n")
        {
            if let Ok(Line { key, item: IgnoredAny }) = serde_json::from_slice(&line) {
                self.places.insert(self.hashes.hash_one(&*key), Place::of(self.read, &line));
            }
            self.read += line.len() as u64;
            line.clear();
        }
        Ok(())
    }

    fn lines(&self, from: u64) -> Result<BufReader<File>, StageError> {
        let opened = File::open(&self.path).and_then(|mut file| {
            file.seek(SeekFrom::Start(from))?;
            Ok(BufReader::with_capacity(1 << 16, file))
        });
        opened.map_err(StageError::io(&self.path))
    }

    /// Tries to become the one thread of all processes on this store that works on a key. With the claim in hand, look
    /// for the item again: whoever held the claim before may have finished it.
    pub fn try_claim(&mut self, key: &str) -> Result<Option<Claim>, StageError> {
        let folder = self.path.with_extension("claims");
        fs::create_dir_all(&folder).map_err(StageError::io(&folder))?;
        let path = folder.join(Digest::of_bytes(key.as_bytes()).as_str());
        let claim = Claim::take(&path).map_err(StageError::io(&path))?;
        if claim.is_some() {
            self.refresh()?;
        }
        Ok(claim)
    }

    /// The finished item under a key, if it is there and still has this shape.
    pub fn get<T: DeserializeOwned>(&self, key: &str) -> Option<T> {
        let place = self.places.get(&self.hashes.hash_one(key))?;
        let mut bytes = vec![0; place.length as usize];
        self.file.as_ref()?.read_exact_at(&mut bytes, place.start).ok()?;
        let line: Line<'_, T> = serde_json::from_slice(&bytes).ok()?;
        (line.key == key).then_some(line.item)
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
        let mut places = Vec::with_capacity(items.len());
        for (key, item) in items {
            let start = bytes.len();
            serde_json::to_writer(&mut bytes, &Line { key: key.into(), item })
                .map_err(std::io::Error::from)
                .map_err(StageError::io(&self.path))?;
            bytes.push(b'\n');
            places.push((self.hashes.hash_one(key.as_str()), Place::of(start as u64, &bytes[start..])));
        }
        let file = self.opened(true)?.expect("it was made");
        let locked = |operation| rustix::fs::flock(&*file, operation).map_err(std::io::Error::from);
        let written = locked(FlockOperation::LockExclusive).and_then(|()| {
            let end = file.metadata()?.len();
            (&*file).write_all(&bytes)?;
            Ok(end)
        });
        let end = written.and_then(|end| locked(FlockOperation::Unlock).map(|()| end));
        let end = end.map_err(StageError::io(&self.path))?;
        for (hash, place) in places {
            self.places.insert(hash, Place { start: end + place.start, ..place });
        }
        Ok(Written(Some((file, self.path.clone()))))
    }

    /// Every item that still has this shape, in the order they were finished; a journal that cannot be read has none.
    pub fn items<T: DeserializeOwned>(&self) -> impl Iterator<Item = (String, T)> {
        let mut lines = self.lines(0).ok();
        let (mut line, mut start) = (Vec::new(), 0);
        std::iter::from_fn(move || {
            loop {
                start += line.len() as u64;
                line.clear();
                if lines.as_mut()?.read_until(b'\n', &mut line).ok()? == 0 {
                    return None;
                }
                let Ok(Line::<'_, T> { key, item }) = serde_json::from_slice(&line) else { continue };
                let latest = self.places.get(&self.hashes.hash_one(&*key));
                if latest.is_some_and(|latest| latest.start == start) {
                    return Some((key.into_owned(), item));
                }
            }
        })
    }

    /// How many items are recorded.
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether nothing is recorded.
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The file, for reading and for appending; made where there is none, if that is wanted.
    fn opened(&mut self, make: bool) -> Result<Option<Arc<File>>, StageError> {
        if let Some(file) = &self.file {
            return Ok(Some(Arc::clone(file)));
        }
        if let Some(folder) = self.path.parent().filter(|_| make) {
            fs::create_dir_all(folder).map_err(StageError::io(folder))?;
        }
        match OpenOptions::new().read(true).append(true).create(make).open(&self.path) {
            Ok(file) => Ok(Some(Arc::clone(self.file.insert(Arc::new(file))))),
            Err(error) if !make && error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(StageError::io(&self.path)(error)),
        }
    }
}

impl Place {
    fn of(start: u64, line: &[u8]) -> Self {
        Self { start, length: u32::try_from(line.len()).unwrap_or(u32::MAX) }
    }
}

/// The right to do what a lock file stands for; released when dropped or when the process dies.
pub struct Claim {
    path: PathBuf,
    file: File,
}

impl Claim {
    /// Tries to become the one holder among all threads and processes; the file is there for as long as somebody is.
    pub fn take(path: &Path) -> std::io::Result<Option<Self>> {
        loop {
            let file = OpenOptions::new().create(true).append(true).open(path)?;
            match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(rustix::io::Errno::WOULDBLOCK) => return Ok(None),
                Err(error) => return Err(error.into()),
            }
            // The file may have been unlinked by its last holder between our open and our lock.
            let ours = file.metadata()?.ino();
            if fs::metadata(path).is_ok_and(|there| there.ino() == ours) {
                return Ok(Some(Self { path: path.to_owned(), file }));
            }
        }
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // Unlinked while still locked: whoever holds the old file sees that its path is gone and opens anew.
        fs::remove_file(&self.path).ok();
        // A process that is just being started may hold the file too, until it becomes another program.
        rustix::fs::flock(&self.file, FlockOperation::Unlock).ok();
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
        let mut journal = Journal::open(&path).unwrap();
        assert_eq!(journal.get::<i32>("four"), Some(4));
        assert_eq!(journal.len(), 3);

        // Of a key that was finished twice the later item counts, here and where it is read again.
        journal.put(&[("one".to_owned(), 10)]).unwrap();
        for journal in [&journal, &Journal::open(&path).unwrap()] {
            assert_eq!(journal.get::<i32>("one"), Some(10));
            let items: Vec<(String, i32)> = journal.items().collect();
            let wanted = [("two", 2), ("four", 4), ("one", 10)].map(|(key, item)| (key.to_owned(), item));
            assert_eq!(items, wanted);
            assert_eq!(journal.get::<String>("one"), None, "another shape");
        }
    }

    #[test]
    fn what_another_writes_in_between_moves_no_item() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.jsonl");
        let (mut one, mut other) = (Journal::open(&path).unwrap(), Journal::open(&path).unwrap());
        for number in 0..20 {
            one.put(&[(format!("one {number}"), number)]).unwrap();
            other.put(&[(format!("other {number}"), "é".repeat(number))]).unwrap();
        }
        let read = Journal::open(&path).unwrap();
        assert_eq!((one.len(), other.len(), read.len()), (20, 20, 40));
        for number in 0..20 {
            for journal in [&one, &read] {
                assert_eq!(journal.get(&format!("one {number}")), Some(number));
            }
            for journal in [&other, &read] {
                assert_eq!(journal.get(&format!("other {number}")), Some("é".repeat(number)));
            }
        }
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
