//! JSON Lines files: one record a line, errors that name file and line.

use std::{
    fs::File,
    io::{BufRead, BufReader, BufWriter, Write},
    path::Path,
};

use serde::{Serialize, de::DeserializeOwned};

use crate::StageError;

/// Reads every record of a file; blank lines are skipped.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Vec<T>, StageError> {
    let file = File::open(path).map_err(StageError::io(path))?;
    let mut records = Vec::new();
    for (index, line) in BufReader::new(file).lines().enumerate() {
        let line = line.map_err(StageError::io(path))?;
        if line.trim().is_empty() {
            continue;
        }
        let record = serde_json::from_str(&line).map_err(|error| StageError::Record {
            path: path.to_owned(),
            line: index + 1,
            problem: error.to_string(),
        })?;
        records.push(record);
    }
    Ok(records)
}

/// Writes records, one a line, replacing the file.
pub fn write<'a, T: Serialize + 'a>(
    path: &Path,
    records: impl IntoIterator<Item = &'a T>,
) -> Result<(), StageError> {
    let file = File::create(path).map_err(StageError::io(path))?;
    let mut writer = BufWriter::new(file);
    for record in records {
        serde_json::to_writer(&mut writer, record)
            .map_err(std::io::Error::from)
            .and_then(|()| writer.write_all(b"\n"))
            .map_err(StageError::io(path))?;
    }
    writer.flush().map_err(StageError::io(path))
}

/// Reads one JSON file.
pub fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, StageError> {
    let bytes = std::fs::read(path).map_err(StageError::io(path))?;
    serde_json::from_slice(&bytes).map_err(|error| StageError::Record {
        path: path.to_owned(),
        line: error.line(),
        problem: error.to_string(),
    })
}

/// Writes one JSON file, indented, with a final newline.
pub fn write_json(path: &Path, value: &impl Serialize) -> Result<(), StageError> {
    let mut bytes =
        serde_json::to_vec_pretty(value).map_err(std::io::Error::from).map_err(StageError::io(path))?;
    bytes.push(b'\n');
    std::fs::write(path, bytes).map_err(StageError::io(path))
}
