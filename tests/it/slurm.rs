//! Cells as jobs of a real Slurm. `RETORT_TEST_SLURM` names a script that starts one on this machine; without it the tests
//! say so and pass.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use tempfile::TempDir;

use crate::project::Project;

/// A cluster of this test's own, ended with it.
struct Cluster {
    folder: TempDir,
    script: PathBuf,
    conf: PathBuf,
}

impl Cluster {
    fn start(options: &[&str]) -> Option<Self> {
        let Some(script) = std::env::var_os("RETORT_TEST_SLURM").map(PathBuf::from) else {
            skipped();
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let conf = folder.path().join("slurm.conf");
        let cluster = Self { folder, script, conf };
        cluster.script("start", options);
        Some(cluster)
    }

    fn script(&self, command: &str, options: &[&str]) {
        let mut script = Command::new(&self.script);
        let output = script.arg(command).arg(self.folder.path()).args(options).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// One of Slurm's commands, asked on this cluster.
    fn ask(&self, command: &[&str]) -> String {
        let mut asked = Command::new(command[0]);
        let output = asked.args(&command[1..]).env("SLURM_CONF", &self.conf).output().unwrap();
        assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Ends a daemon that the script names in a file of this cluster's.
    fn end(&self, daemon: &str) {
        let pid = std::fs::read_to_string(self.folder.path().join(format!("{daemon}.pid"))).unwrap();
        assert!(Command::new("kill").args(["-9", pid.trim()]).status().unwrap().success());
    }

    fn start_run(&self, project: &Project, arguments: &[&str], log: &Path) -> Child {
        let log = std::fs::File::create(log).unwrap();
        let mut command = project.command(arguments);
        command.env("SLURM_CONF", &self.conf).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        command.spawn().unwrap()
    }

    /// Runs to the end; exit code and stderr.
    fn run(&self, project: &Project, arguments: &[&str]) -> (Option<i32>, String) {
        let log = project.path("run.log");
        let status = self.start_run(project, arguments, &log).wait().unwrap();
        (status.code(), std::fs::read_to_string(log).unwrap())
    }
}

#[expect(clippy::print_stderr, reason = "where a test skips, it says so")]
fn skipped() {
    eprintln!("skipped: RETORT_TEST_SLURM names no script that starts a Slurm");
}

impl Drop for Cluster {
    fn drop(&mut self) {
        Command::new(&self.script).arg("stop").arg(self.folder.path()).output().ok();
    }
}

/// Waits for something that another process does.
#[track_caller]
fn until(what: &str, mut there: impl FnMut() -> bool) {
    let started = Instant::now();
    while !there() {
        assert!(started.elapsed() < Duration::from_secs(120), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn counting(cells: usize, to: usize, pause: usize, slurm: &str) -> String {
    let names: Vec<String> = (0..cells).map(|name| format!("c{name}")).collect();
    format!(
        "recipe: counting\nexecutor: {{slurm: {{poll: 1, mem: 50MiB{slurm}}}}}\nmatrix: {{n: [{}]}}\nstages:\n\
         \x20 count: {{uses: count, matrix: [n], with: {{to: {to}, what: \"${{n}}\", pause: {pause}}}}}\n",
        names.join(", ")
    )
}

/// The result file of every job of a project, by what its cell counts.
fn results(project: &Project) -> BTreeMap<String, serde_json::Value> {
    let read = |path: PathBuf| -> Option<serde_json::Value> {
        serde_json::from_slice(&std::fs::read(path).ok()?).ok()
    };
    let jobs = std::fs::read_dir(project.path(".retort/jobs")).unwrap().flatten();
    let results = jobs.filter_map(|job| {
        let cell = read(job.path().join("job.json"))?["cell"].as_str().unwrap().to_owned();
        Some((cell, read(job.path().join("result.json"))?))
    });
    results.collect()
}

#[test]
fn an_array_runs_on_the_cluster_with_a_device_each_and_makes_the_same() {
    let Some(cluster) = Cluster::start(&["--gpus", "2", "--cpus", "4"]) else { return };
    let project = Project::resumable();
    project.write("recipe.yaml", &counting(4, 20, 50, ", gres: \"gpu:1\", at_once: 2"));
    let plan = project.run(&["plan", "recipe.yaml"]).expect(4);
    let line = "submit count: 4 jobs, 2 at once: sbatch --cpus-per-task=1 --mem=50M --gres=gpu:1\n";
    assert!(plan.stdout.contains(line), "{}", plan.stdout);

    let (code, stderr) = cluster.run(&project, &["run", "recipe.yaml"]);
    assert_eq!(code, Some(0), "{stderr}");
    let arrays: BTreeSet<String> =
        cluster.ask(&["squeue", "-h", "-t", "all", "-o", "%F %j"]).lines().map(str::to_owned).collect();
    assert_eq!(arrays.len(), 1, "one array: {arrays:?}");
    assert!(arrays.first().unwrap().ends_with(" retort:counting:count"), "{arrays:?}");
    let results = results(&project);
    let devices: BTreeSet<&str> =
        results.values().map(|result| result["devices"].as_str().unwrap()).collect();
    assert_eq!(devices, BTreeSet::from(["0", "1"]));

    // Elsewhere, the same artifacts under the same names, and the other way round nothing is left to do.
    let local = ["run", "recipe.yaml", "--set", "executor=local", "--store", "here"];
    project.run(&local).expect(0);
    let here = |store: &str| {
        let path = project.run(&["show", "recipe.yaml", "count[n=c2]", "--path", "--store", store]).expect(0);
        path.stdout.trim().rsplit('/').next().unwrap().to_owned()
    };
    assert_eq!(here("here"), here(".retort"));
    project.run(&["plan", "recipe.yaml", "--set", "executor=local"]).expect(0);

    let logs = project.run(&["logs", "--cell", "n=c1"]).expect(0);
    assert!(logs.stdout.contains("\n  count[n=c1]: done in "), "{}", logs.stdout);
    project.run(&["gc"]).expect(0);
    assert_eq!(std::fs::read_dir(project.path(".retort/jobs")).unwrap().count(), 1, "batches alone");
}

#[cfg(feature = "burn")]
#[test]
fn the_tables_of_a_cluster_are_those_of_here_byte_for_byte() {
    let Some(cluster) = Cluster::start(&["--cpus", "2"]) else { return };
    let (here, there) = (Project::retort(), Project::retort());
    let arguments = crate::pipeline::arguments("run", &[]);
    let table = here.run(&arguments).expect(0).stdout;
    let on_cluster = [&arguments[..], &["--set", "executor={slurm: {poll: 1, mem: 500MiB}}"]].concat();
    let (code, stderr) = cluster.run(&there, &on_cluster);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.matches("  job    student[").count() >= 6, "{stderr}");
    // Everything is there, so this prints the table and runs nothing.
    let again = there.run(&arguments).expect(0);
    assert!(again.ran().is_empty(), "{}", again.stderr);
    assert_eq!(again.stdout, table);
}

#[test]
fn jobs_outlive_a_killed_run_and_are_found_again() {
    let Some(cluster) = Cluster::start(&["--cpus", "2"]) else { return };
    let project = Project::resumable();
    project.write("recipe.yaml", &counting(5, 40, 50, ""));
    let log = project.path("killed.log");
    let mut killed = cluster.start_run(&project, &["run", "recipe.yaml"], &log);
    until("one cell is done", || std::fs::read_to_string(&log).unwrap().contains("  done   "));
    killed.kill().unwrap(); // SIGKILL
    killed.wait().unwrap();
    let (code, stderr) = cluster.run(&project, &["run", "recipe.yaml"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains(", submitted by an earlier run\n"), "{stderr}");
    let jobs = cluster.ask(&["squeue", "-h", "-r", "-t", "all", "-o", "%i"]);
    assert_eq!(jobs.lines().count(), 5, "nothing is submitted twice:\n{jobs}");
    let results = results(&project);
    assert_eq!(results.len(), 5);
    for (cell, result) in results {
        assert_eq!((&result["exit"], &result["computed"]), (&"done".into(), &true.into()), "{cell}");
    }
    // What they printed says how often they ran.
    for batch in std::fs::read_dir(project.path(".retort/jobs/batches")).unwrap().flatten() {
        for index in 0..5 {
            let output = std::fs::read_to_string(batch.path().join(format!("{index}.log"))).unwrap();
            assert_eq!(output.matches("done in").count(), 1, "{output}");
        }
    }
}

#[test]
fn an_interrupted_run_cancels_its_jobs_and_the_next_goes_on() {
    let Some(cluster) = Cluster::start(&["--cpus", "2"]) else { return };
    let project = Project::resumable();
    project.write("recipe.yaml", &counting(1, 60, 100, ""));
    let log = project.path("stopped.log");
    let mut run = cluster.start_run(&project, &["run", "recipe.yaml"], &log);
    until("the cell counts", || {
        let scratch = std::fs::read_dir(project.path(".retort/scratch")).into_iter().flatten().flatten();
        scratch.into_iter().any(|cell| cell.path().join("counted").exists())
    });
    let pid = run.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    assert_eq!(run.wait().unwrap().code(), Some(130));
    until("the job is gone", || cluster.ask(&["squeue", "-h"]).is_empty());
    let (code, stderr) = cluster.run(&project, &["run", "recipe.yaml"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(stderr.contains("  note   count[n=c0]: goes on from "), "{stderr}");
}

#[test]
fn a_job_cancelled_by_hand_and_a_refused_one_fail_and_say_so() {
    let Some(cluster) = Cluster::start(&["--cpus", "2"]) else { return };
    let project = Project::resumable();
    // Two run and the third waits.
    project.write("recipe.yaml", &counting(3, 250, 100, ", at_once: 2"));
    let log = project.path("cancelled.log");
    let mut run = cluster.start_run(&project, &["run", "recipe.yaml"], &log);
    until("all are placed", || std::fs::read_to_string(&log).unwrap().matches("  job    ").count() == 3);
    until("two run", || cluster.ask(&["squeue", "-h", "-r", "-t", "running"]).lines().count() == 2);
    cluster.ask(&["scancel", "1_1", "1_2"]);
    let status = run.wait().unwrap();
    let said = std::fs::read_to_string(&log).unwrap();
    assert_eq!(status.code(), Some(3), "{said}");
    for cell in [1, 2] {
        let what =
            format!("error: `count[n=c{cell}]` failed: job 1_{cell} was cancelled, and not by this run\n");
        assert!(said.contains(&what), "{said}");
    }
    assert!(said.contains("  done   count[n=c0]"), "{said}");

    let refused = counting(1, 1, 0, ", partition: nowhere").replace("c0", "other");
    project.write("refused.yaml", &refused);
    let (code, stderr) = cluster.run(&project, &["run", "refused.yaml"]);
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("failed: not submitted: "), "{stderr}");
    assert!(stderr.contains("invalid partition specified: nowhere"), "{stderr}");

    // A job whose program never starts leaves no result, and its output says why.
    project.write(
        "broken.yaml",
        &counting(1, 1, 0, ", prologue: \"echo no module; exit 7\"").replace("c0", "broken"),
    );
    let (code, stderr) = cluster.run(&project, &["run", "broken.yaml"]);
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("ended as FAILED and left no result"), "{stderr}");
    assert!(stderr.contains("it ends `no module`"), "{stderr}");
}

#[test]
fn a_time_limit_ends_in_a_checkpoint_and_another_job() {
    let Some(cluster) = Cluster::start(&["--cpus", "2"]) else { return };
    let (project, stubborn) = (Project::resumable(), Project::resumable());
    // Told to stop as soon as Slurm looks, which it does every half minute.
    project.write("recipe.yaml", &counting(1, 350, 100, ", time: 1, warn: 55"));
    // What does not listen is killed at the limit.
    let deaf = ", time: 1, warn: 55, prologue: \"trap '' TERM; sleep 300\"";
    stubborn.write("recipe.yaml", &counting(1, 1, 0, deaf));
    let log = stubborn.path("run.log");
    let mut killed = cluster.start_run(&stubborn, &["run", "recipe.yaml"], &log);
    let (code, stderr) = cluster.run(&project, &["run", "recipe.yaml"]);
    assert_eq!(code, Some(0), "{stderr}");
    assert!(
        stderr.contains(" came near its time limit and stopped at a checkpoint; submitted again, 1 of"),
        "{stderr}"
    );
    assert!(stderr.contains("  note   count[n=c0]: goes on from "), "{stderr}");
    assert_eq!(killed.wait().unwrap().code(), Some(3));
    let said = std::fs::read_to_string(&log).unwrap();
    assert!(said.contains(" was killed at its time limit, 1, before it reached a checkpoint"), "{said}");
}

#[test]
fn an_absent_controller_loses_nothing() {
    // A node that does not answer counts as down soon.
    let options = ["--nodes", "2", "--cpus", "1", "--set", "SlurmdTimeout=8", "--set", "MessageTimeout=3"];
    let Some(cluster) = Cluster::start(&options) else { return };
    let project = Project::resumable();
    project.write("recipe.yaml", &counting(2, 150, 100, ""));
    let log = project.path("run.log");
    let mut run = cluster.start_run(&project, &["run", "recipe.yaml"], &log);
    until("both run", || {
        cluster.ask(&["squeue", "-h", "-r", "-t", "running", "-o", "%i"]).lines().count() == 2
    });
    cluster.end("slurmctld");
    until("it is noticed", || {
        std::fs::read_to_string(&log).unwrap().contains("the scheduler does not answer")
    });
    cluster.script("start", &[]);
    until("it is back", || std::fs::read_to_string(&log).unwrap().contains("the scheduler answers again"));
    let status = run.wait().unwrap();
    let said = std::fs::read_to_string(&log).unwrap();
    assert_eq!(status.code(), Some(0), "{said}");
    assert_eq!(said.matches("  done   ").count(), 2, "{said}");
    for (cell, result) in results(&project) {
        assert_eq!(result["computed"], true, "{cell}");
    }
}
