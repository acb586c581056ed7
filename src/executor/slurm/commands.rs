//! Slurm's commands and what they print. Text only: it is the same in every version that is still in use.

use std::{
    collections::HashMap,
    io,
    os::unix::process::CommandExt,
    path::Path,
    process::{Command, Stdio},
};

use crate::recipe::{AtOnce, SlurmDecl, time_limit};

/// How many jobs are named in one command: a line takes some hundred thousand characters.
const ON_A_LINE: usize = 1000;

/// What Slurm says of one task of an array.
#[derive(Clone, Debug, PartialEq)]
pub struct Listed {
    /// Slurm's number of it, `12_3`.
    pub job: String,
    /// Its state, as printed: `PENDING`.
    pub state: String,
    /// Why it is in that state, as printed: `Resources`.
    pub reason: String,
}

/// Why a submission came to nothing.
#[derive(Clone, Debug, PartialEq)]
pub enum Refused {
    /// The controller could not be asked, or could not take it now.
    Later(String),
    /// It will not be taken.
    Never(String),
}

/// A batch of tasks about to be submitted.
pub struct Batch<'a> {
    /// Its name, which comes back with every answer.
    pub name: &'a str,
    /// What people see in `squeue`.
    pub title: &'a str,
    /// Its folder.
    pub folder: &'a Path,
    /// How many tasks it has.
    pub tasks: usize,
    /// What the stage asks for.
    pub slurm: &'a SlurmDecl,
    /// CPUs a task.
    pub cpus: usize,
    /// Memory a task, bytes; 0 for what Slurm gives.
    pub memory: u64,
}

/// How long before its time limit a job is told to stop, seconds.
fn warning(slurm: &SlurmDecl) -> u64 {
    let limit = slurm.time.as_deref().and_then(time_limit);
    slurm.warn.unwrap_or_else(|| limit.map_or(120, |limit| (limit / 5).clamp(1, 120)))
}

/// What a stage asks for, as options of `sbatch`; `plan` prints the same.
pub fn options(slurm: &SlurmDecl, cpus: usize, memory: u64) -> Vec<String> {
    let mut options = vec![format!("--cpus-per-task={cpus}")];
    let memory = slurm.mem.unwrap_or(memory);
    if memory > 0 {
        options.push(format!("--mem={}M", memory.div_ceil(1 << 20)));
    }
    let named = [
        ("partition", &slurm.partition),
        ("account", &slurm.account),
        ("qos", &slurm.qos),
        ("time", &slurm.time),
        ("gres", &slurm.gres),
        ("constraint", &slurm.constraint),
    ];
    options.extend(named.iter().filter_map(|(name, value)| Some(format!("--{name}={}", value.as_ref()?))));
    options.extend(slurm.options.iter().cloned());
    options
}

/// `0-9%4`.
pub fn array(tasks: usize, at_once: Option<&AtOnce>) -> String {
    let throttle = at_once.map(|limit| format!("%{}", limit.most)).unwrap_or_default();
    format!("0-{}{throttle}", tasks.saturating_sub(1))
}

/// Submits a batch whose `script` lies in its folder; returns Slurm's number of it.
pub fn submit(batch: &Batch<'_>) -> Result<String, Refused> {
    // `%` would be taken for a pattern.
    let output = batch.folder.to_string_lossy().replace('%', "%%");
    let mut command = Command::new("sbatch");
    command
        .arg("--parsable")
        .arg(format!("--job-name={}", batch.title))
        .arg(format!("--comment={}", batch.name))
        .arg(format!("--array={}", array(batch.tasks, batch.slurm.at_once.as_ref())))
        .arg(format!("--output={output}/%a.log"))
        .args(["--open-mode=append", "--requeue", "--input=none"])
        // To the shell of the batch, which `exec` has made the cell: it stops at a checkpoint.
        .arg(format!("--signal=B:TERM@{}", warning(batch.slurm)))
        .args(options(batch.slurm, batch.cpus, batch.memory))
        .arg(batch.folder.join("script"));
    match run(command) {
        Ok(text) => Ok(text.trim().split(';').next().unwrap_or_default().to_owned()),
        Err(Failure::NoCommand(error)) => Err(Refused::Never(error)),
        Err(Failure::Said(error)) if passes(&error) => Err(Refused::Later(error)),
        Err(Failure::Said(error)) => Err(Refused::Never(error)),
    }
}

/// Whether an error of `sbatch` is about the moment and not about the job.
fn passes(error: &str) -> bool {
    const MOMENTARY: [&str; 9] = [
        "Unable to contact slurm controller",
        "Socket timed out",
        "Connection refused",
        "Connection timed out",
        "Zero Bytes were transmitted",
        "Resource temporarily unavailable",
        "temporarily unable to accept job",
        "SubmitJobLimit",
        "job submit limit",
    ];
    MOMENTARY.iter().any(|text| error.contains(text))
}

/// Every task of this user that the controller still knows, ended ones too, by batch and place; one question for all.
pub fn queue() -> Result<HashMap<(String, usize), Listed>, String> {
    let mut command = Command::new("squeue");
    let user = rustix::process::getuid().as_raw().to_string();
    command.args(["-h", "-r", "-t", "all", "-o", "%i|%T|%r|%k", "-u", &user]);
    match run(command) {
        Ok(text) => Ok(text.lines().filter_map(listed).collect()),
        Err(Failure::NoCommand(error) | Failure::Said(error)) => Err(error),
    }
}

fn listed(line: &str) -> Option<((String, usize), Listed)> {
    let mut parts = line.trim().splitn(4, '|');
    let (job, state, reason, batch) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let index = job.rsplit_once('_')?.1.parse().ok()?;
    let listed = Listed { job: job.to_owned(), state: state.to_owned(), reason: reason.to_owned() };
    Some(((batch.to_owned(), index), listed))
}

/// What the accounting, where there is one, says of jobs that the controller has forgotten, by their numbers; one question
/// for all.
pub fn accounted(jobs: &[String]) -> HashMap<String, Listed> {
    let mut accounted = HashMap::new();
    for jobs in jobs.chunks(ON_A_LINE) {
        let mut command = Command::new("sacct");
        command.args(["-n", "-P", "-X", "-o", "JobID,State", "-j", &jobs.join(",")]);
        // Where there is no accounting, there is nothing to learn.
        let Ok(text) = run(command) else { break };
        accounted.extend(text.lines().filter_map(account).map(|listed| (listed.job.clone(), listed)));
    }
    accounted
}

/// `12_3|CANCELLED by 1000`.
fn account(line: &str) -> Option<Listed> {
    let (job, state) = line.trim().split_once('|')?;
    let state = state.split_whitespace().next()?;
    Some(Listed { job: job.to_owned(), state: state.to_owned(), reason: String::new() })
}

/// Ends jobs.
pub fn cancel(jobs: &[String]) -> Result<(), String> {
    for jobs in jobs.chunks(ON_A_LINE) {
        let mut command = Command::new("scancel");
        command.arg("-Q").args(jobs);
        if let Err(Failure::NoCommand(error) | Failure::Said(error)) = run(command) {
            return Err(error);
        }
    }
    Ok(())
}

enum Failure {
    NoCommand(String),
    Said(String),
}

fn run(mut command: Command) -> Result<String, Failure> {
    let name = command.get_program().to_string_lossy().into_owned();
    // Ctrl-C is for the run alone: a submission that it cut off would leave jobs that nobody knows of.
    let output = command.stdin(Stdio::null()).process_group(0).output().map_err(|error: io::Error| {
        Failure::NoCommand(match error.kind() {
            io::ErrorKind::NotFound => format!("there is no command `{name}` here"),
            _ => format!("cannot run `{name}`: {error}"),
        })
    })?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let text = String::from_utf8_lossy(&output.stderr);
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    Err(Failure::Said(match lines.is_empty() {
        true => format!("{name}: {}", output.status),
        false => lines.join("; "),
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_say_what_a_stage_asks_for() {
        let slurm = SlurmDecl {
            partition: Some("gpu".to_owned()),
            time: Some("02:00:00".to_owned()),
            gres: Some("gpu:1".to_owned()),
            mem: Some(3 << 29),
            options: vec!["--exclusive".to_owned()],
            ..SlurmDecl::default()
        };
        let shown = options(&slurm, 4, 0).join(" ");
        let wanted = "--cpus-per-task=4 --mem=1536M --partition=gpu --time=02:00:00 --gres=gpu:1 --exclusive";
        assert_eq!(shown, wanted);
        assert_eq!(warning(&slurm), 120);
        assert_eq!(warning(&SlurmDecl { time: Some("5".to_owned()), ..slurm.clone() }), 60);
        assert_eq!(warning(&SlurmDecl { warn: Some(7), ..slurm }), 7);
        assert_eq!(options(&SlurmDecl::default(), 1, 1).join(" "), "--cpus-per-task=1 --mem=1M");
        let four = AtOnce { most: 4, written: String::new() };
        assert_eq!((array(10, Some(&four)), array(1, None)), ("0-9%4".to_owned(), "0-0".to_owned()));
    }

    #[test]
    fn lines_of_the_queue_are_read_and_others_jobs_passed_over() {
        let line = listed("12_3|PENDING|JobArrayTaskLimit|20261125-1-7-2");
        let job = Listed { job: "12_3".into(), state: "PENDING".into(), reason: "JobArrayTaskLimit".into() };
        assert_eq!(line, Some((("20261125-1-7-2".to_owned(), 3), job)));
        assert_eq!(listed("13|RUNNING|None|(null)"), None);
        assert_eq!(listed(""), None);
    }

    #[test]
    fn lines_of_the_accounting_are_read() {
        // As `sacct` of Slurm 22.05 printed them.
        let text = include_str!("../../../tests/fixtures/slurm/sacct.txt");
        let listed: Vec<Listed> = text.lines().filter_map(account).collect();
        let said: Vec<(&str, &str)> =
            listed.iter().map(|listed| (listed.job.as_str(), listed.state.as_str())).collect();
        let wanted = [
            ("1_0", "COMPLETED"),
            ("1_1", "FAILED"),
            ("1_2", "CANCELLED"),
            ("1_3", "NODE_FAIL"),
            ("7_2", "TIMEOUT"),
        ];
        assert_eq!(said, wanted);
        assert_eq!(account("sacct: error"), None);
    }

    #[test]
    fn a_controller_that_is_away_is_no_refusal() {
        assert!(passes(
            "sbatch: error: Batch job submission failed: Unable to contact slurm controller (connect failure)"
        ));
        assert!(!passes(
            "sbatch: error: Batch job submission failed: Invalid account or account/partition combination specified"
        ));
    }
}
