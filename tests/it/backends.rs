//! The backends of this build through the real commands: the list with its self-test, and the quickstart's pipeline.

use crate::{pipeline::arguments, project::Project};

#[test]
fn the_list_says_what_is_built_in_and_the_self_test_what_it_computes() {
    let project = Project::retort();
    let (listed, tested) =
        (project.run(&["backends"]).expect(0).stdout, project.run(&["backends", "--test"]).expect(0).stdout);
    let line = |text: &str, name: &str| {
        text.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap_or_default().to_owned()
    };
    let backends = [
        ("flex", true),
        ("wgpu", cfg!(feature = "wgpu")),
        ("tch", cfg!(feature = "tch")),
        ("cuda", cfg!(feature = "cuda")),
    ];
    for (name, built) in backends {
        let (listed, tested) = (line(&listed, name), line(&tested, name));
        if built {
            assert!(listed.ends_with(" built in  usable"), "{listed}");
            assert!(tested.contains("tokens alike, a training step off by at most "), "{tested}");
        } else {
            for said in [listed, tested] {
                assert!(
                    said.contains(" not built ") && said.contains(&format!("`--features {name}`")),
                    "{said}"
                );
            }
        }
    }
}

#[test]
fn a_student_in_bf16_needs_a_backend_that_has_it() {
    let project = Project::retort();
    let bf16 = ["student[method=std-cot,seed=1]", "--set", "stages.student.with.dtype=bf16"];
    let refused = project.run(&arguments("run", &bf16)).expect(2);
    let said = "`dtype` in `with` of stage `student`: backend `flex` cannot compute in `bf16`; use `f32`";
    assert!(refused.stderr.contains(said), "{}", refused.stderr);
    assert!(refused.ran().is_empty(), "{}", refused.stderr);
}

#[cfg(feature = "tch")]
#[test]
fn the_pipeline_runs_on_tch_in_both_number_formats() {
    let project = Project::retort();
    // A process for each cell that computes, with one of two devices; that there are none here LibTorch finds out by itself.
    let run = project.run(&arguments("run", &["--backend", "tch", "--devices", "0,1"])).expect(0);
    assert!(run.stdout.contains("mind"), "{}", run.stdout);
    let slower = ["--backend", "tch", "--set", "stages.student.with.learning_rate=2e-4"];
    let plan = project.run(&arguments("plan", &slower)).expect(4).stdout;
    let costs = |line: &&str| line.starts_with("time   student: ") && line.contains(" device-minutes; ");
    assert!(plan.lines().any(|line| costs(&line)), "{plan}");
    let bf16 = ["--backend", "tch", "--set", "stages.student.with.dtype=bf16"];
    let run = project.run(&arguments("run", &bf16)).expect(0);
    assert!(run.ran().contains("student[method=mind,seed=1]"), "{}", run.stderr);
    assert!(!run.ran().contains("base"), "{}", run.stderr);
    let reason = run.reason("student[method=mind,seed=1]").unwrap();
    assert_eq!(reason, "dtype: (absent) -> bf16");
}

#[cfg(feature = "wgpu")]
#[test]
fn a_student_learns_on_wgpu() {
    let project = Project::retort();
    let run = ["student[method=std-cot,seed=1]", "--backend", "wgpu"];
    let run = project.run(&arguments("run", &run)).expect(0);
    assert!(run.ran().contains("student[method=std-cot,seed=1]"), "{}", run.stderr);
}
