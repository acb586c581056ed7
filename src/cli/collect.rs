//! `gc`: bounds the store. What the latest state of any recipe needs always stays.
//!
//! Checkpoints (`scratch`) of cells that were started and have not finished are part of that state: the next attempt goes
//! on from them. Journals stay whatever becomes of their cells: their items were paid for, in money or in time, and any
//! later cell may use them.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

use contract::Digest;

use super::{CliError, exit, print};
use crate::{
    fingerprint::Fingerprint,
    history::History,
    job::JobFolder,
    lock::Lock,
    log,
    reporter::bytes,
    store::{CellRecord, Store, StoreError, list},
};

/// A size as people write it: `500MB`, `10 GB`, `0`.
fn parse_size(text: &str) -> Option<u64> {
    let text = text.trim();
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: u64 = text[..digits].parse().ok()?;
    let unit = match text[digits..].trim().to_ascii_uppercase().trim_end_matches("IB").trim_end_matches('B') {
        "" => 1,
        "K" => 1 << 10,
        "M" => 1 << 20,
        "G" => 1 << 30,
        "T" => 1 << 40,
        _ => return None,
    };
    number.checked_mul(unit)
}

pub(super) fn gc(store: &Store, dry_run: bool, max_size: &str) -> Result<u8, CliError> {
    let Some(limit) = parse_size(max_size) else {
        return Err(CliError::Asked {
            message: format!("`{max_size}` is not a size"),
            help: Some("write it like `500MB` or `10GB`".to_owned()),
        });
    };
    let mut collection = Collection { store, dry_run, text: String::new(), freed: 0 };
    // No other process uses the store now, so whatever is being made was left behind by a kill.
    collection.whole("staging", "left behind by a run that was killed")?;
    collection.whole("verify", "left behind by a `verify` that was killed")?;
    collection.whole("incoming", "what arrived of a download that was cut")?;
    collection.checkpoints()?;
    collection.jobs()?;
    let (kept, left) = collection.results(&needed(store)?, limit)?;
    let Collection { mut text, freed, .. } = collection;
    let would = if dry_run { "would free" } else { "freed" };
    writeln!(text, "{would} {}; {kept} results needed, {} left", bytes(freed), bytes(left)).ok();
    print(&text);
    Ok(exit::DONE)
}

/// What each recipe's latest state needs, and what is pinned, with the cells to name.
fn needed(store: &Store) -> Result<HashMap<Fingerprint, String>, CliError> {
    let mut needed = HashMap::new();
    for (recipe, latest) in History::all(store) {
        for (cell, fingerprint) in latest {
            needed.insert(fingerprint, format!("{recipe}: {cell}"));
        }
    }
    for pin in entries(&store.root().join("pins")) {
        let recipe = pin.path().file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for (cell, locked) in Lock::read(&pin.path())?.0 {
            needed.entry(locked.fingerprint).or_insert_with(|| format!("{recipe}: {cell}, locked"));
        }
    }
    Ok(needed)
}

/// A finished cell's record as a file.
struct Recorded {
    modified: SystemTime,
    path: PathBuf,
    fingerprint: Fingerprint,
    record: CellRecord,
}

/// One pass over a store; it says what it removes.
struct Collection<'a> {
    store: &'a Store,
    dry_run: bool,
    text: String,
    freed: u64,
}

impl Collection<'_> {
    fn remove(&mut self, path: &Path, size: u64, why: &str) {
        let name = path.strip_prefix(self.store.root()).unwrap_or(path).display();
        let would = if self.dry_run { "would remove" } else { "removed" };
        writeln!(self.text, "{would} {:>10}  {name}: {why}", bytes(size)).ok();
        self.freed += size;
        if !self.dry_run {
            let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            if let Err(error) = removed {
                tracing::warn!(path = %path.display(), %error, "cannot remove");
            }
        }
    }

    /// What stays is told where nothing goes.
    fn keep(&mut self, size: u64, what: &str) {
        if self.dry_run {
            writeln!(self.text, "keep         {:>10}  {what}", bytes(size)).ok();
        }
    }

    /// Everything in a folder.
    fn whole(&mut self, folder: &str, why: &str) -> Result<(), StoreError> {
        for entry in entries(&self.store.root().join(folder)) {
            let path = entry.path();
            self.remove(&path, size_of(&path)?, why);
        }
        Ok(())
    }

    /// Checkpoints go unless a cell was started and has not finished: that is what the next attempt goes on with.
    fn checkpoints(&mut self) -> Result<(), StoreError> {
        let unfinished = log::unfinished(self.store);
        let mut kept = Vec::new();
        for entry in entries(&self.store.root().join("scratch")) {
            let path = entry.path();
            let fingerprint = Fingerprint(digest_of(&entry));
            let size = size_of(&path)?;
            match (unfinished.get(&fingerprint), self.store.try_lock(&fingerprint)?) {
                (Some(cell), _) => kept.push((size, cell)),
                (None, Some(_lock)) => self.remove(&path, size, "checkpoints that no unfinished cell needs"),
                // A cell is running in it.
                (None, None) => {}
            }
        }
        kept.sort();
        for (size, cell) in kept {
            self.keep(size, &format!("{cell}: its checkpoints, for the next attempt"));
        }
        Ok(())
    }

    /// Jobs that have ended go, and the batches none of whose jobs is still to end.
    fn jobs(&mut self) -> Result<(), StoreError> {
        let jobs = self.store.root().join("jobs");
        let mut wanted = BTreeSet::from(["batches".to_owned()]);
        for entry in entries(&jobs) {
            if let Some(submission) = JobFolder(entry.path()).outstanding() {
                wanted.insert(entry.file_name().to_string_lossy().into_owned());
                wanted.insert(submission.batch);
            }
        }
        for entry in entries(&jobs).chain(entries(&jobs.join("batches"))) {
            if !wanted.contains(&*entry.file_name().to_string_lossy()) {
                let path = entry.path();
                self.remove(&path, size_of(&path)?, "a job that has ended");
            }
        }
        Ok(())
    }

    /// Every record, the oldest first; what is none goes.
    fn records(&mut self) -> Vec<Recorded> {
        let mut records = Vec::new();
        for entry in shards(&self.store.root().join("records")) {
            let (path, modified) = (entry.path(), entry.metadata().and_then(|metadata| metadata.modified()));
            let record =
                fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<CellRecord>(&bytes).ok());
            match record {
                Some(record) => records.push(Recorded {
                    modified: modified.unwrap_or(SystemTime::UNIX_EPOCH),
                    path,
                    fingerprint: record.cell.fingerprint(),
                    record,
                }),
                None => self.remove(&path, 0, "not a record"),
            }
        }
        records.sort_by(|a, b| (a.modified, &a.path).cmp(&(b.modified, &b.path)));
        records
    }

    /// Records that nothing needs go until the artifacts are within the limit, and with them what they alone name. Returns how
    /// many are needed and the bytes that are left.
    fn results(
        &mut self,
        needed: &HashMap<Fingerprint, String>,
        limit: u64,
    ) -> Result<(usize, u64), StoreError> {
        let records = self.records();
        let mut users: BTreeMap<&Digest, usize> = BTreeMap::new();
        for digest in records.iter().flat_map(|recorded| recorded.record.outputs.values()) {
            *users.entry(digest).or_default() += 1;
        }
        let mut sizes: BTreeMap<Digest, u64> = BTreeMap::new();
        for entry in shards(&self.store.root().join("objects")) {
            sizes.insert(digest_of(&entry), size_of(&entry.path())?);
        }
        let mut total: u64 = sizes.values().sum();
        for (digest, size) in sizes.iter().filter(|(digest, _)| !users.contains_key(digest)) {
            self.remove(&self.store.object(digest), *size, "no record names it");
            total -= size;
        }
        let mut kept = 0;
        for Recorded { path, fingerprint, record, .. } in &records {
            if let Some(cell) = needed.get(fingerprint) {
                self.keep(record.bytes, cell);
                kept += 1;
                continue;
            }
            if limit > 0 && total <= limit {
                continue;
            }
            let why = format!("an earlier {} that no recipe's latest state needs", record.cell.kind);
            self.remove(path, 0, &why);
            for digest in record.outputs.values() {
                let count = users.get_mut(digest).expect("counted above");
                *count -= 1;
                if *count == 0
                    && let Some(size) = sizes.get(digest)
                {
                    self.remove(&self.store.object(digest), *size, "its last user went");
                    total -= size;
                }
            }
        }
        Ok((kept, total))
    }
}

/// What is in a folder; nothing, where there is none.
fn entries(folder: &Path) -> impl Iterator<Item = fs::DirEntry> + use<> {
    fs::read_dir(folder).into_iter().flatten().flatten()
}

/// What is in the folders of a folder.
fn shards(folder: &Path) -> impl Iterator<Item = fs::DirEntry> + use<> {
    entries(folder).flat_map(|shard| entries(&shard.path()))
}

/// The digest that something is named by.
fn digest_of(entry: &fs::DirEntry) -> Digest {
    let name = entry.file_name().to_string_lossy().into_owned();
    serde_json::from_value(name.into()).expect("a digest is a string")
}

fn size_of(folder: &Path) -> Result<u64, StoreError> {
    Ok(list(folder)?.values().sum())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes() {
        assert_eq!(parse_size("0"), Some(0));
        assert_eq!(parse_size("10GB"), Some(10 << 30));
        assert_eq!(parse_size("5 MiB"), Some(5 << 20));
        assert_eq!(parse_size("ten"), None);
        assert_eq!(parse_size("999999999999999T"), None);
    }
}
