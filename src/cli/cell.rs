//! `cell`: computes one cell from its record, for a scheduler that runs it elsewhere.

use std::{
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use contract::seconds;

use super::{CliError, cancellation, exit};
use crate::{
    fingerprint::Fingerprint,
    job::{Exit, JobFolder, JobRecord, compute},
    kinds::Kinds,
    reporter::say,
    store::Store,
};

/// How long a cell may take to come to a point it can go on from once nobody waits for it any more.
const LAST_MOMENTS: Duration = Duration::from_secs(20);

pub(super) fn cell(
    kinds: &Kinds,
    store: &Store,
    record: &str,
    attempt: &str,
    attended: bool,
) -> Result<u8, CliError> {
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
    if attended {
        stop_with_stdin(Arc::clone(&cancelled));
    }
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

/// Stops the cell when stdin ends: whoever started it holds the other end, which closes however they die. The devices are
/// free again soon, for the next run knows nothing of this process.
fn stop_with_stdin(cancelled: Arc<AtomicBool>) {
    thread::spawn(move || {
        io::copy(&mut io::stdin().lock(), &mut io::sink()).ok();
        cancelled.store(true, Ordering::Relaxed);
        thread::sleep(LAST_MOMENTS);
        std::process::exit(i32::from(exit::INTERRUPTED));
    });
}
