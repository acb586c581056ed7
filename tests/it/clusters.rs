//! `recipes/clusters.yaml`, at a size that trains in a moment.

use crate::project::Project;

const CLUSTERS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/recipes/clusters.yaml");

/// Everything real, everything tiny.
const TINY: [&str; 10] = [
    "stages.schooling.with.count=40",
    "stages.questions.with.count=12",
    "stages.unseen.with.count=6",
    "stages.base.with.source.scratch.hidden_size=16",
    "stages.base.with.source.scratch.num_hidden_layers=1",
    "stages.base.with.source.scratch.num_attention_heads=2",
    "stages.base.with.source.scratch.pretrain.steps=6",
    "stages.student.with.steps=2",
    "stages.scores.with.max_new_tokens=4",
    "stages.latent.with.iterations=50",
];

#[test]
fn eight_students_are_set_against_their_controls_on_unseen_texts() {
    let project = Project::retort();
    let mut arguments = vec!["run", CLUSTERS, "latent"];
    for set in TINY {
        arguments.extend(["--set", set]);
    }
    let run = project.run(&arguments).expect(0);
    let verdict = run.stderr.lines().find(|line| line.contains("note") && line.contains("Silhouette"));
    let verdict = verdict.unwrap_or_else(|| panic!("no verdict:\n{}", run.stderr));
    assert!(verdict.contains("undistilled") && verdict.contains("swapped"), "{verdict}");
    assert!(run.ran().contains(&"student[taught=socratic]"), "{:?}", run.ran());
}
