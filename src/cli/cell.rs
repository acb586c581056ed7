//! `cell`: computes one cell from its record, for a scheduler that runs it elsewhere.

use std::path::Path;

use contract::seconds;

use super::{CliError, cancellation, exit};
use crate::{
    fingerprint::Fingerprint,
    job::{Exit, JobFolder, JobRecord, compute},
    kinds::Kinds,
    reporter::say,
    store::Store,
};

pub(super) fn cell(kinds: &Kinds, store: &Store, record: &str, attempt: &str) -> Result<u8, CliError> {
    let folder = match Path::new(record) {
        path if path.is_file() => JobFolder(path.parent().unwrap_or(Path::new(".")).to_owned()),
        _ => {
            let digest = serde_json::from_value(record.into()).expect("a digest is a string");
            JobFolder::of(store, &Fingerprint(digest))
        }
    };
    let path = folder.job();
    let problem = |problem: String| CliError::Asked {
        message: format!("`{}` is no record of a job: {problem}", path.display()),
        help: Some("`retort run` with an `executor` in its recipe writes them".to_owned()),
    };
    let bytes = std::fs::read(&path).map_err(|error| problem(error.to_string()))?;
    let job: JobRecord = serde_json::from_slice(&bytes).map_err(|error| problem(error.to_string()))?;
    let name = job.cell.clone();
    let cancelled = cancellation("stopping at a point the next attempt goes on from");
    let environment = |variable: &str| std::env::var(variable).ok();
    let result = compute(store, kinds, &folder, job, attempt, &cancelled, &environment)?;
    match result.exit {
        Exit::Done if result.computed => say(&format!("{name}: done in {}", seconds(result.seconds))),
        Exit::Done => say(&format!("{name}: its result is there already")),
        Exit::Failed | Exit::Interrupted => {
            let error = result.error.as_deref().unwrap_or("no reason given");
            say(&format!("error: `{name}`: {error}"));
            if let Some(help) = &result.help {
                say(&format!("help: {help}"));
            }
        }
    }
    Ok(match result.exit {
        Exit::Done => exit::DONE,
        Exit::Failed => exit::FAILED,
        Exit::Interrupted => exit::INTERRUPTED,
    })
}
