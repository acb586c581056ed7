//! Every recipe in `tests/fixtures/malformed` is refused with a place and without a panic.
//!
//! Its message is a snapshot. Files in `parts/` are included by fixtures and are none themselves.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

const FIXTURES: &str = "tests/fixtures/malformed";

/// Checks a recipe from the root of the repository, so that paths in messages are short and the same everywhere.
fn check(recipe: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_retort"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .env_remove("RETORT_LOG")
        .arg("check")
        .arg(recipe)
        .output()
        .unwrap()
}

fn fixtures() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(FIXTURES);
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name());
    let mut paths: Vec<PathBuf> = names.map(|name| Path::new(FIXTURES).join(name)).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "yaml"));
    if !cfg!(feature = "burn") {
        paths.retain(|path| !needs_tensors(path));
    }
    paths.sort();
    paths
}

/// Whether a fixture starts from the recipe that has every kind, or its message lists what only the full build has.
fn needs_tensors(fixture: &Path) -> bool {
    if fixture.ends_with("82-two-variants.yaml") {
        return true;
    }
    let bytes = std::fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join(fixture)).unwrap();
    String::from_utf8_lossy(&bytes).contains("parts/sound.yaml")
}

#[test]
fn every_malformed_recipe_is_explained() {
    let paths = fixtures();
    assert!(paths.len() >= 50, "only {} fixtures", paths.len());
    let mut refused = Vec::new();
    for path in &paths {
        let output = check(path);
        let message = String::from_utf8(output.stderr).unwrap();
        let sound = output.status.code() == Some(2)
            && output.stdout.is_empty()
            && message.contains("--> ")
            && !message.contains("panicked");
        if !sound {
            refused.push(format!("{}: {}\n{message}", path.display(), output.status));
            continue;
        }
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        insta::with_settings!({ omit_expression => true, prepend_module_to_snapshot => false, snapshot_path => "snapshots/malformed" }, {
            insta::assert_snapshot!(name, message);
        });
    }
    assert!(refused.is_empty(), "not exit code 2 with a place:\n{}", refused.join("\n"));
}

#[test]
fn what_the_fixtures_start_from_is_sound() {
    let parts: &[&str] = if cfg!(feature = "burn") { &["light", "sound"] } else { &["light"] };
    for part in parts {
        let output = check(&Path::new(FIXTURES).join(format!("parts/{part}.yaml")));
        assert!(output.status.success(), "{part}: {}", String::from_utf8_lossy(&output.stderr));
    }
}

#[test]
fn huge_recipes_are_refused_cleanly() {
    let folder = tempfile::tempdir().unwrap();
    let nesting = "{a: ".repeat((10 << 20) / 4);
    for (name, text, expected) in [
        ("nesting", nesting.as_str(), "larger than 4 MiB"),
        ("nesting-below-the-limit", &nesting[..4 << 20], "nested deeper than 64 levels"),
    ] {
        let path = folder.path().join(format!("{name}.yaml"));
        std::fs::write(&path, text).unwrap();
        let output = check(&path);
        let message = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{message}");
        assert!(message.contains(expected) && message.len() < 2000, "{message}");
    }
}
