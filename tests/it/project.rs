//! A temporary folder with a recipe, and a program to run in it.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// A folder whose name has a space, and the program under test.
pub(crate) struct Project {
    _root: TempDir,
    folder: PathBuf,
    program: PathBuf,
}

/// How a command ended and what it said.
pub(crate) struct Finished {
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Project {
    fn new(program: PathBuf) -> Self {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("a project");
        std::fs::create_dir(&folder).unwrap();
        Self { _root: root, folder, program }
    }

    /// With the `retort` command.
    pub(crate) fn retort() -> Self {
        Self::new(PathBuf::from(env!("CARGO_BIN_EXE_retort")))
    }

    /// With `examples/custom-kind.rs`, whose kind `text` costs nothing.
    pub(crate) fn custom() -> Self {
        Self::example("custom-kind")
    }

    /// With `examples/resumable-kind.rs`, whose kind `count` takes its time and goes on after a kill.
    pub(crate) fn resumable() -> Self {
        Self::example("resumable-kind")
    }

    fn example(name: &str) -> Self {
        // target/<profile>/deps/it-<hash> -> target/<profile>/examples/<name>
        let test = std::env::current_exe().unwrap();
        Self::new(test.parent().unwrap().parent().unwrap().join("examples").join(name))
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path(name), text).unwrap();
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(arguments).current_dir(&self.folder).env_remove("RETORT_STORE").env("NO_COLOR", "1");
        command.env_remove("RETORT_REMOTE").env_remove("RETORT_REMOTE_ACCESS");
        command
    }

    pub(crate) fn run(&self, arguments: &[&str]) -> Finished {
        Finished::of(&mut self.command(arguments))
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    }

    /// How often each cell finished, over every run in a store.
    pub(crate) fn finished_in(&self, store: &str) -> BTreeMap<String, usize> {
        let mut finished = BTreeMap::new();
        for run in std::fs::read_dir(self.path(store).join("runs")).into_iter().flatten().flatten() {
            let log = std::fs::read_to_string(run.path().join("events.jsonl")).unwrap();
            for line in log.lines() {
                let event: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
                if event["event"] == "finished" {
                    *finished.entry(event["cell"].as_str().unwrap().to_owned()).or_default() += 1;
                }
            }
        }
        finished
    }
}

impl Finished {
    /// Runs a command to its end.
    pub(crate) fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap();
        Self {
            code: output.status.code(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    #[track_caller]
    pub(crate) fn expect(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout:\n{}\nstderr:\n{}", self.stdout, self.stderr);
        assert!(!self.stderr.contains("panicked at"), "{}", self.stderr);
        self
    }

    /// The cells that ran to their end.
    pub(crate) fn ran(&self) -> BTreeSet<&str> {
        let done = self.stderr.lines().filter_map(|line| line.strip_prefix("  done   "));
        done.map(|line| line.split(": ").next().unwrap()).collect()
    }

    /// The reason a cell gave for running.
    pub(crate) fn reason(&self, cell: &str) -> Option<&str> {
        self.stderr.lines().find_map(|line| line.strip_prefix(&format!("  run    {cell}: ")))
    }
}

/// The names of every file below a folder, relative to it.
pub(crate) fn files_below(folder: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    let mut pending = vec![folder.to_owned()];
    while let Some(current) = pending.pop() {
        for entry in std::fs::read_dir(&current).unwrap().flatten() {
            if entry.path().is_dir() {
                pending.push(entry.path());
            } else {
                files.push(entry.path());
            }
        }
    }
    files.sort();
    files
}

/// Waits for something that another process does.
#[track_caller]
pub(crate) fn until(what: &str, mut there: impl FnMut() -> bool) {
    let started = Instant::now();
    while !there() {
        assert!(started.elapsed() < Duration::from_secs(120), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The processes that a process has started and that still run, whichever of its threads did it.
pub(crate) fn children(process: u32) -> Vec<Pid> {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let lists = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let lists: Vec<String> = lists.collect();
    let numbers = lists.iter().flat_map(|list| list.split_whitespace());
    numbers.filter_map(|number| Pid::from_raw(number.parse().ok()?)).collect()
}

pub(crate) fn signal(process: Pid, signal: Signal) {
    kill_process(process, signal).unwrap();
}
