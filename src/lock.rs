//! A lock: what a paper's tables were made from, in a file to commit beside the recipe.
//!
//! One line a cell, sorted by its name, so that two branches that lock different cells merge:
//!
//! ```text
//! student[method=mind,seed=1] 3f0c.. metrics=91aa.. model=07be..
//! ```
//!
//! The first digest is the cell's fingerprint, the others are the contents of its outputs. `run --locked` refuses to differ
//! from it, and `gc` keeps what the locks that were written from a store name.

use std::{collections::BTreeMap, path::Path};

use contract::Digest;

use crate::{fingerprint::Fingerprint, plan::Outputs};

/// What cells were and made, by cell name.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Lock(pub BTreeMap<String, Locked>);

/// One cell of a lock.
#[derive(Clone, Debug, PartialEq)]
pub struct Locked {
    /// What it was.
    pub fingerprint: Fingerprint,
    /// What it made.
    pub outputs: Outputs,
}

/// Why a lock cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// No file, or no right to it.
    #[error("cannot read the lock `{path}`")]
    Io {
        /// The file.
        path: String,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A line is none of a lock.
    #[error("`{path}` line {line} is no line of a lock: `{text}`")]
    Line {
        /// The file.
        path: String,
        /// The line, from 1.
        line: usize,
        /// What stands there.
        text: String,
    },
}

const HEAD: &str = "# What the tables of this recipe were made from. `retort lock` writes it, `retort run --locked` holds to it.";

impl Lock {
    /// Reads a lock.
    pub fn read(path: &Path) -> Result<Self, LockError> {
        let name = path.display().to_string();
        let text =
            std::fs::read_to_string(path).map_err(|source| LockError::Io { path: name.clone(), source })?;
        let mut cells = BTreeMap::new();
        for (index, line) in text.lines().enumerate() {
            if line.trim().is_empty() || line.starts_with('#') {
                continue;
            }
            let Some((cell, locked)) = parse(line) else {
                return Err(LockError::Line { path: name, line: index + 1, text: line.to_owned() });
            };
            cells.insert(cell, locked);
        }
        Ok(Self(cells))
    }

    /// The text of the file.
    pub fn text(&self) -> String {
        let mut text = format!("{HEAD}\n");
        for (cell, locked) in &self.0 {
            text.push_str(&format!("{cell} {}", locked.fingerprint));
            for (port, digest) in &locked.outputs {
                text.push_str(&format!(" {port}={digest}"));
            }
            text.push('\n');
        }
        text
    }
}

/// A cell's name may hold spaces, in the values of its axes; what follows it may not.
fn parse(line: &str) -> Option<(String, Locked)> {
    let mut words: Vec<&str> = line.split(' ').collect();
    let mut outputs = Outputs::new();
    while let Some((port, value)) = words.last().and_then(|word| word.split_once('=')) {
        let Some(digest) = Digest::parse(value) else { break };
        outputs.insert(port.to_owned(), digest);
        words.pop();
    }
    let fingerprint = Fingerprint(Digest::parse(words.pop()?)?);
    let cell = words.join(" ");
    (!cell.is_empty() && !outputs.is_empty()).then_some((cell, Locked { fingerprint, outputs }))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_what_is_not_a_lock_is_refused() {
        let locked = |text: &[u8]| Locked {
            fingerprint: Fingerprint(Digest::of_bytes(text)),
            outputs: BTreeMap::from([
                ("model".to_owned(), Digest::of_bytes(b"m")),
                ("metrics".to_owned(), Digest::of_bytes(text)),
            ]),
        };
        let cells = ["base", "student[method=a b,seed=1]", "tables.main"];
        let lock = Lock(cells.iter().map(|cell| ((*cell).to_owned(), locked(cell.as_bytes()))).collect());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.lock");
        std::fs::write(&path, lock.text()).unwrap();
        assert_eq!(Lock::read(&path).unwrap(), lock);
        for broken in ["<<<<<<< HEAD", "base 123", "base"] {
            std::fs::write(&path, format!("{}{broken}\n", lock.text())).unwrap();
            let error = Lock::read(&path).unwrap_err().to_string();
            assert!(error.contains(&format!("line 5 is no line of a lock: `{broken}`")), "{error}");
        }
    }
}
