//! Device slots with names, mutexes and priorities on one machine.

use std::{collections::BTreeSet, process::Stdio};

use rustix::process::{Pid, Signal};

use crate::project::{Project, children, signal, until};

/// The text of every file of this name in the jobs of a project.
fn jobs(project: &Project, name: &str) -> Vec<String> {
    let jobs = std::fs::read_dir(project.path(".retort/jobs")).into_iter().flatten().flatten();
    jobs.filter_map(|job| std::fs::read_to_string(job.path().join(name)).ok()).collect()
}

#[test]
fn cells_that_run_together_see_different_devices() {
    let project = Project::resumable();
    // The kind computes nothing, so no build of the backend is needed to hand out its devices.
    project.write(
        "recipe.yaml",
        "recipe: devices\nbackend: cuda\nmatrix: {n: [a, b, c, d]}\nstages:\n\
         \x20 count: {uses: count, matrix: [n], with: {to: 10, what: \"${n}\", pause: 30}, resources: {devices: 1}}\n",
    );
    let run = project.run(&["run", "recipe.yaml", "--devices", "3,GPU-5", "--jobs", "8"]).expect(0);
    assert_eq!(run.ran().len(), 4, "{}", run.stderr);
    let mut spans: Vec<(String, String, String)> = Vec::new();
    for result in jobs(&project, "result.json") {
        let result: serde_json::Value = serde_json::from_str(&result).unwrap();
        let text = |field: &str| result[field].as_str().unwrap().to_owned();
        spans.push((text("devices"), text("started"), text("ended")));
    }
    assert_eq!(spans.len(), 4);
    let devices: BTreeSet<&str> = spans.iter().map(|(device, ..)| device.as_str()).collect();
    assert_eq!(devices, BTreeSet::from(["3", "GPU-5"]));
    spans.sort();
    for pair in spans.windows(2).filter(|pair| pair[0].0 == pair[1].0) {
        assert!(pair[0].2 <= pair[1].1, "two cells at once on one device: {pair:?}");
    }
    // Without names, cells compute in the run's own process.
    let plain = project.run(&["run", "recipe.yaml", "--store", "plain"]).expect(0);
    assert_eq!(plain.ran().len(), 4);
    assert_eq!(std::fs::read_dir(project.path("plain/jobs")).unwrap().count(), 0);
}

#[test]
fn the_higher_priority_starts_first_and_a_pool_of_one_is_a_mutex() {
    let project = Project::custom();
    project.write(
        "recipe.yaml",
        "recipe: order\nresources: {pools: {one: 1}}\nstages:\n\
         \x20 a: {uses: text, with: {text: a}, resources: {pools: {one: 1}}}\n\
         \x20 b: {uses: text, with: {text: b}, resources: {priority: 2, pools: {one: 1}}}\n\
         \x20 c: {uses: text, with: {text: c}, resources: {priority: -1, pools: {one: 1}}}\n",
    );
    let run = project.run(&["run", "recipe.yaml", "--jobs", "4"]).expect(0);
    let order: Vec<&str> = run
        .stderr
        .lines()
        .filter(|line| line.starts_with("  run ") || line.starts_with("  done"))
        .map(|line| line.split(':').next().unwrap())
        .collect();
    assert_eq!(order, ["  run    b", "  done   b", "  run    a", "  done   a", "  run    c", "  done   c"]);
    project.write(
        "recipe.yaml",
        "recipe: order\nstages:\n  a: {uses: text, with: {text: a}, resources: {priority: high}}\n",
    );
    let wrong = project.run(&["check", "recipe.yaml"]).expect(2);
    assert!(
        wrong.stderr.contains("`priority` in `resources` of stage `a`: expected a whole number"),
        "{}",
        wrong.stderr
    );
}

/// A run whose one cell has a process of its own, and counts.
fn counting(project: &Project) -> (std::process::Child, Pid) {
    project.write(
        "recipe.yaml",
        "recipe: devices\nbackend: cuda\nstages:\n\
         \x20 count: {uses: count, with: {to: 6000, what: sheep, pause: 10}, resources: {devices: 1}}\n",
    );
    let mut run = project.command(&["run", "recipe.yaml", "--devices", "0,1"]);
    let run = run.stderr(std::fs::File::create(project.path("log")).unwrap()).stdout(Stdio::null());
    let run = run.spawn().unwrap();
    until("the cell counts", || {
        !children(run.id()).is_empty() && !jobs(project, "events.jsonl").concat().is_empty()
    });
    let cell = children(run.id())[0];
    (run, cell)
}

#[test]
fn a_cell_whose_process_somebody_else_stops_has_failed() {
    let project = Project::resumable();
    let (mut run, cell) = counting(&project);
    signal(cell, Signal::TERM);
    let code = run.wait().unwrap().code();
    let said = std::fs::read_to_string(project.path("log")).unwrap();
    assert_eq!(code, Some(3), "{said}");
    assert!(
        said.contains("error: `count` failed: its process was told to stop, and not by this run"),
        "{said}"
    );
    // Told by its own run, it has not.
    let (mut run, _) = counting(&project);
    signal(Pid::from_child(&run), Signal::TERM);
    assert_eq!(run.wait().unwrap().code(), Some(130));
}

#[test]
fn a_killed_run_does_not_leave_its_processes_on_their_devices() {
    let project = Project::resumable();
    let (mut run, cell) = counting(&project);
    run.kill().unwrap(); // SIGKILL
    run.wait().unwrap();
    let status = format!("/proc/{}/status", cell.as_raw_nonzero());
    until("its process ends", || {
        std::fs::read_to_string(&status).map_or(true, |status| status.contains("State:\tZ"))
    });
    // At a point that the next attempt goes on from.
    let results = jobs(&project, "result.json").concat();
    assert!(results.contains("\"exit\":\"interrupted\""), "{results}");
}
