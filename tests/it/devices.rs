//! Device slots with names, mutexes and priorities on one machine.

use std::collections::BTreeSet;

use crate::project::Project;

/// The text of every file of this name in the jobs of a project.
fn jobs(project: &Project, name: &str) -> Vec<String> {
    let jobs = std::fs::read_dir(project.path(".retort/jobs")).unwrap().flatten();
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
