//! Cells as jobs of a real Slurm. `RETORT_TEST_SLURM` names a script that starts one on this machine; without it the tests
//! say so and pass.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::Write,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use tempfile::TempDir;

use crate::project::{Project, children, until};

/// A cluster of this test's own, ended with it.
struct Cluster {
    folder: TempDir,
    script: PathBuf,
    conf: PathBuf,
}

impl Cluster {
    /// `DIR` in an option stands for the cluster's folder.
    fn start(options: &[&str]) -> Option<Self> {
        let Some(script) = std::env::var_os("RETORT_TEST_SLURM").map(PathBuf::from) else {
            skipped();
            return None;
        };
        let folder = tempfile::tempdir().unwrap();
        let conf = folder.path().join("slurm.conf");
        let cluster = Self { folder, script, conf };
        let folder = cluster.folder.path().to_str().unwrap();
        let options: Vec<String> = options.iter().map(|option| option.replace("DIR", folder)).collect();
        cluster.script("start", &options.iter().map(String::as_str).collect::<Vec<_>>());
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
        kill("-9", pid.trim());
    }

    /// The one job that runs: its number and its node.
    fn running(&self) -> Option<(String, String)> {
        let jobs = self.ask(&["squeue", "-h", "-r", "-t", "running", "-o", "%A %N"]);
        let (job, node) = jobs.trim().split_once(' ')?;
        Some((job.to_owned(), node.to_owned()))
    }

    /// Takes a node away with all that runs on it, as a power cut does.
    fn cut_off(&self, node: &str, job: &str) {
        let processes = self.ask(&["scontrol", "listpids", job, node]);
        let of_job = processes.lines().skip(1).filter_map(|line| line.split_whitespace().next());
        let of_job: Vec<&str> = of_job.collect();
        // Slurm's own process of the job is the parent of the first.
        let status = std::fs::read_to_string(format!("/proc/{}/status", of_job[0])).unwrap();
        let parent = status.lines().find_map(|line| line.strip_prefix("PPid:")).unwrap().trim();
        self.end(&format!("slurmd.{node}"));
        for process in [parent].into_iter().chain(of_job) {
            kill("-9", process);
        }
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

fn kill(signal: &str, process: &str) {
    assert!(Command::new("kill").args([signal, process]).status().unwrap().success(), "{process}");
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

/// How far the cell that is furthest has counted.
fn counted(project: &Project) -> usize {
    let scratch = std::fs::read_dir(project.path(".retort/scratch")).into_iter().flatten().flatten();
    let reached = |cell: std::fs::DirEntry| -> Option<usize> {
        std::fs::read_to_string(cell.path().join("counted")).ok()?.parse().ok()
    };
    scratch.filter_map(reached).max().unwrap_or(0)
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
    until("the cell counts", || counted(&project) > 0);
    kill("-INT", &run.id().to_string());
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
    // However slowly nodes and controller find each other again, no node is taken for lost.
    let options = ["--nodes", "2", "--cpus", "1", "--set", "SlurmdTimeout=300", "--set", "MessageTimeout=3"];
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

#[test]
fn a_node_that_fails_costs_no_cell() {
    // What a failed node ran may start elsewhere once its credentials have expired, and it counts as down soon.
    let credentials = "AuthInfo=socket=DIR/munge/sock,cred_expire=5";
    let options = ["--nodes", "2", "--cpus", "1", "--set", credentials, "--set", "SlurmdTimeout=8"];
    let Some(cluster) = Cluster::start(&[&options[..], &["--set", "MessageTimeout=3"]].concat()) else {
        return;
    };
    let fails = |project: &Project, fail: &dyn Fn(&str, &str)| {
        let log = project.path("run.log");
        let mut run = cluster.start_run(project, &["run", "recipe.yaml"], &log);
        until("it counts", || counted(project) > 0 && cluster.running().is_some());
        let (job, node) = cluster.running().unwrap();
        fail(&job, &node);
        let status = run.wait().unwrap();
        let said = std::fs::read_to_string(&log).unwrap();
        assert_eq!(status.code(), Some(0), "{said}");
        assert!(said.contains("  note   count[n=c0]: goes on from "), "{said}");
        assert!(said.contains("  done   count[n=c0]"), "{said}");
        assert_eq!(results(project)["count[n=c0]"]["computed"], true);
        said
    };
    // Where the scheduler may not put it back in the queue, the run submits it again.
    let refused = Project::resumable();
    refused.write("recipe.yaml", &counting(1, 80, 100, ", options: [--no-requeue]"));
    let said = fails(&refused, &|_, node| {
        let node = format!("nodename={node}");
        cluster.ask(&["scontrol", "update", &node, "state=down", "reason=tried"]);
    });
    assert!(said.contains("the node of job 1_0 failed; submitted again, 1 of at most 10\n"), "{said}");
    // Where it may, it does.
    let requeued = Project::resumable();
    requeued.write("recipe.yaml", &counting(1, 80, 100, ""));
    let said = fails(&requeued, &|job, node| cluster.cut_off(node, job));
    assert!(said.contains(" was put back in the queue by the scheduler\n"), "{said}");
    assert_eq!(said.matches("  job    ").count(), 1, "{said}");
}

#[test]
fn a_limit_of_the_recipe_holds_for_the_jobs_of_all_its_stages() {
    let Some(cluster) = Cluster::start(&["--cpus", "8"]) else { return };
    let project = Project::resumable();
    let recipe = counting(3, 40, 50, ", at_once: 2");
    let (_, stage) = recipe.split_once("  count:").unwrap();
    let another = stage.replace("to: 40", "to: 39");
    project.write("recipe.yaml", &format!("{recipe}  again:{another}"));
    let (code, stderr) = cluster.run(&project, &["run", "recipe.yaml"]);
    assert_eq!(code, Some(0), "{stderr}");
    let results = results(&project);
    assert_eq!(results.len(), 6);
    let times = |key: &'static str| results.values().map(move |result| result[key].as_str().unwrap());
    // At the moment a job starts, those that have started and not ended.
    let running = times("started").map(|now| {
        let so_far = |times: &str| times <= now;
        times("started").filter(|start| so_far(start)).count()
            - times("ended").filter(|end| so_far(end)).count()
    });
    assert_eq!(running.max(), Some(2), "{results:?}");
}

/// Ctrl-C at a terminal, which `script` makes, and the answer to the question.
#[test]
fn at_a_terminal_an_interruption_asks_what_becomes_of_the_jobs() {
    let Some(cluster) = Cluster::start(&["--cpus", "2"]) else { return };
    let project = Project::resumable();
    project.write("recipe.yaml", &counting(1, 600, 100, ""));
    let interrupted = |answer: &str| {
        let command = project.command(&["run", "recipe.yaml"]);
        let shown = project.path("terminal");
        let mut script = Command::new("script");
        script
            .args(["-qefc", "\"$PROGRAM\" run recipe.yaml", "/dev/null"])
            .current_dir(command.get_current_dir().unwrap())
            .env("PROGRAM", command.get_program())
            .env("SLURM_CONF", &cluster.conf)
            .env_remove("RETORT_STORE")
            .stdin(Stdio::piped())
            .stdout(std::fs::File::create(&shown).unwrap());
        let mut run = script.spawn().unwrap();
        let mut keys = run.stdin.take().unwrap();
        let shows = |what: &str| String::from_utf8_lossy(&std::fs::read(&shown).unwrap()).contains(what);
        let before = counted(&project);
        until("it has a job, which counts", || shows("  job    count[n=c0]: ") && counted(&project) > before);
        keys.write_all(b"\x03").unwrap();
        until("it asks", || shows("cancel 1 job on the cluster? [y/N]"));
        assert_eq!(cluster.ask(&["squeue", "-h"]).lines().count(), 1, "nothing is cancelled unasked");
        keys.write_all(answer.as_bytes()).unwrap();
        assert_eq!(run.wait().unwrap().code(), Some(130));
        String::from_utf8_lossy(&std::fs::read(&shown).unwrap()).into_owned()
    };
    let left = interrupted("\n");
    assert!(left.contains("  left   count[n=c0]: its job goes on"), "{left}");
    assert!(left.contains("; 1 job on the cluster; interrupted"), "{left}");
    assert_eq!(cluster.ask(&["squeue", "-h"]).lines().count(), 1, "{left}");
    let cancelled = interrupted("y\n");
    assert!(cancelled.contains(", submitted by an earlier run"), "{cancelled}");
    assert!(cancelled.contains("  stop   count[n=c0]: interrupted"), "{cancelled}");
    until("the job is gone", || cluster.ask(&["squeue", "-h"]).is_empty());
}

/// Commands of Slurm that say what a test wants, in place of a cluster whose controller forgets quickly.
struct Pretended {
    folder: TempDir,
}

impl Pretended {
    /// A job that is listed once in a state and then forgotten; the accounting, if there is one, prints `accounted`.
    fn listing(state: &str, accounted: Option<&str>) -> Self {
        let pretended = Self { folder: tempfile::tempdir().unwrap() };
        pretended.command(
            "sbatch",
            "for option; do case $option in --comment=*) echo ${option#*=} > batch;; esac; done; echo 7",
        );
        pretended.command(
            "squeue",
            &format!("[ -e asked ] || echo \"7_0|{state}|None|$(cat batch)\"; [ ! -e batch ] || touch asked"),
        );
        pretended.command("scancel", "");
        pretended.command(
            "sacct",
            &match accounted {
                Some(line) => format!("case \"$*\" in *\"-j 7_0\"*) echo '{line}';; *) exit 1;; esac"),
                None => "echo 'Slurm accounting storage is disabled' >&2; exit 1".to_owned(),
            },
        );
        pretended
    }

    fn command(&self, name: &str, script: &str) {
        let path = self.folder.path().join(name);
        std::fs::write(&path, format!("#!/bin/bash\ncd \"$(dirname \"$0\")\"\n{script}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// The command that runs a project's recipe where these commands come first.
    fn run_of(&self, project: &Project) -> Command {
        let mut run = project.command(&["run", "recipe.yaml"]);
        let path = std::env::join_paths(
            [self.folder.path().to_owned()]
                .into_iter()
                .chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
        );
        run.env("PATH", path.unwrap()).stdin(Stdio::null());
        run
    }

    /// Runs a recipe of one cell; exit code and stderr.
    fn run(&self) -> (Option<i32>, String) {
        let project = Project::resumable();
        project.write("recipe.yaml", &counting(1, 1, 0, ", time: 5, resubmit: 0"));
        let output = self.run_of(&project).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    }

    /// What a command has noted in a file of its own.
    fn noted(&self, name: &str) -> String {
        std::fs::read_to_string(self.folder.path().join(name)).unwrap_or_default()
    }
}

#[test]
fn a_submission_whose_answer_was_cut_off_is_not_submitted_again() {
    let pretended = Pretended::listing("RUNNING", None);
    // The controller takes it, and its answer does not arrive.
    pretended.command(
        "sbatch",
        "for option; do case $option in --comment=*) echo ${option#*=} >> batch;; esac; done\n\
         echo 'sbatch: error: Batch job submission failed: Socket timed out on send/recv operation' >&2; exit 1",
    );
    pretended.command("squeue", "echo \"7_0|CANCELLED|None|$(head -1 batch)\"");
    let (code, stderr) = pretended.run();
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("cannot submit yet, trying again: "), "{stderr}");
    assert!(stderr.contains("failed: job 7_0 was cancelled, and not by this run\n"), "{stderr}");
    assert_eq!(pretended.noted("batch").lines().count(), 1, "submitted once");
}

#[test]
fn a_cancellation_names_jobs_first_and_forgets_none_that_it_did_not_end() {
    let pretended = Pretended::listing("RUNNING", None);
    // The run that submits is killed before it hears the number.
    pretended.command(
        "sbatch",
        "for option; do case $option in --comment=*) echo ${option#*=} > batch;; esac; done; exec sleep 300",
    );
    pretended.command(
        "squeue",
        "[ -e up ] || { echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1; }\n\
         echo \"7_0|RUNNING|None|$(cat batch)\"",
    );
    pretended.command("scancel", "echo \"$*\" >> ended");
    let project = Project::resumable();
    project.write("recipe.yaml", &counting(1, 1, 0, "").replace("poll: 1", "poll: 3600"));
    let submissions = || {
        let files = crate::project::files_below(&project.path(".retort/jobs"));
        files.iter().filter(|file| file.ends_with("submitted.json")).count()
    };
    let mut first = pretended.run_of(&project);
    let mut first = first.stderr(Stdio::null()).spawn().unwrap();
    until("it is submitted", || !pretended.noted("batch").is_empty());
    let submitting = children(first.id());
    first.kill().unwrap();
    first.wait().unwrap();
    for process in submitting {
        crate::project::signal(process, rustix::process::Signal::KILL);
    }
    // A run that finds it and is interrupted once it has asked in vain.
    let interrupted = || {
        let log = project.path("interrupted.log");
        let mut run = pretended.run_of(&project);
        let mut run = run.stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
        let said = || std::fs::read_to_string(&log).unwrap();
        until("it asks", || said().contains("the scheduler does not answer"));
        if submissions() == 1 && !pretended.noted("ask").is_empty() {
            std::fs::write(pretended.folder.path().join("up"), "").unwrap();
        }
        kill("-INT", &run.id().to_string());
        assert_eq!(run.wait().unwrap().code(), Some(130), "{}", said());
        said()
    };
    let said = interrupted();
    assert!(said.contains("not cancelled, the scheduler does not name its job"), "{said}");
    assert_eq!((submissions(), pretended.noted("ended").as_str()), (1, ""));
    std::fs::write(pretended.folder.path().join("ask"), "now").unwrap();
    interrupted();
    assert_eq!((submissions(), pretended.noted("ended").trim()), (0, "-Q 7_0"));
}

#[test]
fn what_the_controller_forgot_the_accounting_knows() {
    let cases = [
        ("7_0|CANCELLED by 1000", "job 7_0 was cancelled, and not by this run"),
        ("7_0|OUT_OF_MEMORY", "job 7_0 was killed because it used more memory than it was given"),
        ("7_0|TIMEOUT", "job 7_0 was killed at its time limit, 5, before it reached a checkpoint"),
        ("7_0|NODE_FAIL", "the node of job 7_0 failed; it was submitted again 0 times"),
    ];
    for (line, said) in cases {
        let (code, stderr) = Pretended::listing("RUNNING", Some(line)).run();
        assert_eq!(code, Some(3), "{stderr}");
        assert!(stderr.contains(&format!("error: `count[n=c0]` failed: {said}\n")), "{stderr}");
    }
}

#[test]
fn without_accounting_a_job_that_never_started_and_is_gone_was_cancelled() {
    let (code, stderr) = Pretended::listing("PENDING", None).run();
    assert_eq!(code, Some(3), "{stderr}");
    assert!(stderr.contains("failed: job 7_0 was cancelled, and not by this run\n"), "{stderr}");
}
