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
    let mut text = String::new();
    let mut freed = 0;
    let mut remove = |path: &Path, size: u64, why: &str, text: &mut String| {
        let name = path.strip_prefix(store.root()).unwrap_or(path).display();
        writeln!(
            text,
            "{} {:>10}  {name}: {why}",
            if dry_run { "would remove" } else { "removed" },
            bytes(size)
        )
        .ok();
        freed += size;
        if !dry_run {
            let removed = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
            if let Err(error) = removed {
                tracing::warn!(path = %path.display(), %error, "cannot remove");
            }
        }
    };

    // No other process uses the store now, so whatever is being made was left behind by a kill.
    for entry in fs::read_dir(store.root().join("staging")).into_iter().flatten().flatten() {
        let path = entry.path();
        remove(&path, size_of(&path)?, "left behind by a run that was killed", &mut text);
    }

    for entry in fs::read_dir(store.root().join("incoming")).into_iter().flatten().flatten() {
        let path = entry.path();
        remove(&path, size_of(&path)?, "what arrived of a download that was cut", &mut text);
    }

    // Started and not finished is what the next attempt goes on with.
    let unfinished = log::unfinished(store);
    let mut checkpoints = Vec::new();
    for entry in fs::read_dir(store.root().join("scratch")).into_iter().flatten().flatten() {
        let path = entry.path();
        let name = entry.file_name().to_string_lossy().into_owned();
        let fingerprint = Fingerprint(serde_json::from_value(name.into()).expect("a digest is a string"));
        let size = size_of(&path)?;
        match (unfinished.get(&fingerprint), store.try_lock(&fingerprint)?) {
            (Some(cell), _) => checkpoints.push((size, cell)),
            (None, Some(_lock)) => {
                remove(&path, size, "checkpoints that no unfinished cell needs", &mut text)
            }
            // A cell is running in it.
            (None, None) => {}
        }
    }
    checkpoints.sort();
    if dry_run {
        for (size, cell) in &checkpoints {
            writeln!(
                text,
                "keep         {:>10}  {cell}: its checkpoints, for the next attempt",
                bytes(*size)
            )
            .ok();
        }
    }

    collect_jobs(store, &mut remove, &mut text)?;

    // What each recipe's latest state needs, with the cells to name.
    let mut needed: HashMap<Fingerprint, String> = HashMap::new();
    for (recipe, latest) in History::all(store) {
        for (cell, fingerprint) in latest {
            needed.insert(fingerprint, format!("{recipe}: {cell}"));
        }
    }
    for pin in fs::read_dir(store.root().join("pins")).into_iter().flatten().flatten() {
        let recipe = pin.path().file_stem().unwrap_or_default().to_string_lossy().into_owned();
        for (cell, locked) in Lock::read(&pin.path())?.0 {
            needed.entry(locked.fingerprint).or_insert_with(|| format!("{recipe}: {cell}, locked"));
        }
    }
    let mut records: Vec<(SystemTime, PathBuf, Fingerprint, CellRecord)> = Vec::new();
    for shard in fs::read_dir(store.root().join("records")).into_iter().flatten().flatten() {
        for entry in fs::read_dir(shard.path()).into_iter().flatten().flatten() {
            let (path, modified) = (entry.path(), entry.metadata().and_then(|metadata| metadata.modified()));
            let record =
                fs::read(&path).ok().and_then(|bytes| serde_json::from_slice::<CellRecord>(&bytes).ok());
            match record {
                Some(record) => {
                    let fingerprint = record.cell.fingerprint();
                    records.push((modified.unwrap_or(SystemTime::UNIX_EPOCH), path, fingerprint, record));
                }
                None => remove(&path, 0, "not a record", &mut text),
            }
        }
    }
    records.sort_by(|a, b| (a.0, &a.1).cmp(&(b.0, &b.1)));
    let mut users: BTreeMap<&Digest, usize> = BTreeMap::new();
    for (_, _, _, record) in &records {
        for digest in record.outputs.values() {
            *users.entry(digest).or_default() += 1;
        }
    }
    let mut sizes: BTreeMap<Digest, u64> = BTreeMap::new();
    for shard in fs::read_dir(store.root().join("objects")).into_iter().flatten().flatten() {
        for entry in fs::read_dir(shard.path()).into_iter().flatten().flatten() {
            let name = entry.file_name().to_string_lossy().into_owned();
            let digest: Digest = serde_json::from_value(name.into()).expect("a digest is a string");
            sizes.insert(digest, size_of(&entry.path())?);
        }
    }
    let mut total: u64 = sizes.values().sum();
    for (digest, size) in &sizes {
        if !users.contains_key(digest) {
            remove(&store.object(digest), *size, "no record names it", &mut text);
            total -= size;
        }
    }
    let mut kept = 0;
    for (_, path, fingerprint, record) in &records {
        if let Some(cell) = needed.get(fingerprint) {
            if dry_run {
                writeln!(text, "keep         {:>10}  {cell}", bytes(record.bytes)).ok();
            }
            kept += 1;
            continue;
        }
        if limit > 0 && total <= limit {
            continue;
        }
        remove(
            path,
            0,
            &format!("an earlier {} that no recipe's latest state needs", record.cell.kind),
            &mut text,
        );
        for digest in record.outputs.values().collect::<BTreeSet<_>>() {
            let count = users.get_mut(digest).expect("counted above");
            *count -= record.outputs.values().filter(|other| *other == digest).count();
            if *count == 0
                && let Some(size) = sizes.get(digest)
            {
                remove(&store.object(digest), *size, "its last user went", &mut text);
                total -= size;
            }
        }
    }
    writeln!(
        text,
        "{} {}; {kept} results needed, {} left",
        if dry_run { "would free" } else { "freed" },
        bytes(freed),
        bytes(total)
    )
    .ok();
    print(&text);
    Ok(exit::DONE)
}

/// Jobs that have ended go, and the batches none of whose jobs is still to end.
fn collect_jobs(
    store: &Store,
    remove: &mut dyn FnMut(&Path, u64, &str, &mut String),
    text: &mut String,
) -> Result<(), StoreError> {
    let jobs = store.root().join("jobs");
    let mut wanted = BTreeSet::from(["batches".to_owned()]);
    for entry in fs::read_dir(&jobs).into_iter().flatten().flatten() {
        if let Some(submission) = JobFolder(entry.path()).outstanding() {
            wanted.insert(entry.file_name().to_string_lossy().into_owned());
            wanted.insert(submission.batch);
        }
    }
    for folder in [jobs.clone(), jobs.join("batches")] {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            if !wanted.contains(&*entry.file_name().to_string_lossy()) {
                let path = entry.path();
                remove(&path, size_of(&path)?, "a job that has ended", text);
            }
        }
    }
    Ok(())
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
