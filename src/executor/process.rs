//! A cell in a process of its own, on the devices it is shown: `retort cell`, as on a cluster, with the run waiting for it.
//!
//! A process sees only its devices, because `CUDA_VISIBLE_DEVICES` names them and nothing else, and gives their memory back
//! when it ends, however it ends. It has a group of its own, so that Ctrl-C reaches the run alone, which tells it to stop. A
//! run that is killed tells nothing: then its end of a pipe closes, and the process stops by itself.

use std::{
    fs::{self, File},
    io::Error,
    os::unix::process::CommandExt,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use contract::{Event, StageError};

use super::Task;
use crate::{
    cell::CellError,
    job::{EventReader, Exit, JobFolder, JobRecord},
    store::{CellRecord, Store, io_error},
};

/// How often the process is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Computes a cell in a process that sees the task's devices and no others.
pub(super) fn compute(
    task: Task,
    store: &Store,
    run: &str,
    cancelled: &AtomicBool,
    observer: &dyn Fn(Event),
) -> Result<CellRecord, CellError> {
    let devices = task.devices.join(",");
    let attempt = format!("{run}-{}", task.cell);
    let (job, lock) = JobRecord::of(task, run);
    let fingerprint = job.fingerprint.clone();
    let folder = JobFolder::of(store, &fingerprint);
    folder.write(&job)?;
    let output = folder.0.join("output.log");
    let log = File::create(&output).map_err(io_error("create", &output))?;
    let program = std::env::current_exe().map_err(io_error("find", Path::new("this program")))?;
    let mut command = Command::new(&program);
    command
        .arg("--store")
        .arg(store.root())
        .args(["cell", fingerprint.0.as_str(), "--attempt", &attempt, "--attended"])
        .env("CUDA_VISIBLE_DEVICES", devices)
        // Open for as long as this process lives.
        .stdin(Stdio::piped())
        .stdout(log.try_clone().map_err(io_error("create", &output))?)
        .stderr(log)
        .process_group(0);
    // The process takes it; whoever is quicker, the cell is computed once.
    drop(lock);
    let mut child = command.spawn().map_err(io_error("start", &program))?;
    let mut events = EventReader::new(folder.events());
    let status = wait(&mut child, cancelled, || events.read().into_iter().for_each(observer))
        .map_err(io_error("wait for", &program))?;
    events.read().into_iter().for_each(observer);
    match folder.result(&attempt) {
        Some(result) if result.exit == Exit::Interrupted => match cancelled.load(Ordering::Relaxed) {
            true => Err(StageError::Cancelled.into()),
            false => Err(CellError::Job {
                problem: "its process was told to stop, and not by this run".to_owned(),
                help: Some("the same command goes on from what it had written down".to_owned()),
                hopeless: false,
            }),
        },
        Some(result) if result.exit == Exit::Failed => Err(CellError::Job {
            problem: result.error.unwrap_or_else(|| "no reason given".to_owned()),
            help: result.help,
            hopeless: false,
        }),
        // Killed between the two, a process leaves a result in the store and none of its own.
        Some(_) | None => store.record(&fingerprint).ok_or_else(|| {
            let text = fs::read_to_string(&output).unwrap_or_default();
            let last = text.lines().last().map(|line| format!("; it ends `{line}`")).unwrap_or_default();
            CellError::Job {
                problem: format!("its process ended ({status}) and left no result"),
                help: Some(format!("its output: {}{last}", output.display())),
                hopeless: false,
            }
        }),
    }
}

fn wait(child: &mut Child, cancelled: &AtomicBool, mut look: impl FnMut()) -> Result<ExitStatus, Error> {
    let mut told = false;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if cancelled.load(Ordering::Relaxed) && !std::mem::replace(&mut told, true) {
            let pid = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
            if let Some(pid) = pid {
                rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
            }
        }
        look();
        thread::sleep(LOOK_EVERY);
    }
}
