//! Invariants of ARCHITECTURE.md that are about the source itself.

use std::path::{Path, PathBuf};

use crate::project::files_below;

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let rust = files_below(&root).into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
    let sources: Vec<_> = rust.map(|path| (path.clone(), std::fs::read_to_string(&path).unwrap())).collect();
    assert!(!sources.is_empty(), "no sources below {folder}");
    sources
}

const KINDS: [&str; 9] =
    ["dataset", "model", "teacher", "judge", "assistant", "student", "evaluate", "latent", "report"];

/// Whether code (not a comment) uses a crate of this name.
fn uses_crate(text: &str, name: &str) -> bool {
    let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    code.into_iter().any(|line| {
        line.match_indices(&format!("{name}::")).any(|(at, _)| {
            let before = line[..at].chars().next_back();
            !before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':')
        })
    })
}

#[test]
fn the_engine_names_kinds_only_in_kinds_rs() {
    for (path, text) in sources("src").iter().filter(|(path, _)| !path.ends_with("kinds.rs")) {
        for kind in KINDS.iter().chain(&["lm", "tasks", "burn"]) {
            assert!(!uses_crate(text, kind), "{} uses `{kind}`", path.display());
        }
    }
}

#[test]
fn kinds_do_not_depend_on_each_other() {
    for kind in KINDS {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("stages").join(kind).join("Cargo.toml");
        let text = std::fs::read_to_string(manifest).unwrap();
        for other in KINDS.iter().filter(|other| **other != kind) {
            assert!(!text.contains(&format!("\n{other}.workspace")), "{kind} depends on {other}");
        }
    }
}

#[test]
fn backends_are_opened_only_in_device_rs() {
    let all = sources("src").into_iter().chain(sources("stages"));
    for (path, text) in all.filter(|(path, _)| !path.ends_with("lm/src/device.rs")) {
        let code = text.split("#[cfg(test)]").next().unwrap();
        let tests = path.ends_with("tests.rs") || path.ends_with("fixture.rs");
        for call in ["Device::flex", "Device::wgpu", "Device::libtorch", "Device::cuda", "Device::default"] {
            assert!(tests || !code.contains(&format!("{call}(")), "{} calls {call}", path.display());
        }
    }
}

#[test]
fn kinds_read_no_environment() {
    for (path, text) in sources("stages") {
        let code = text.split("#[cfg(test)]").next().unwrap();
        let of_tests = ["tests.rs", "data.rs", "fixture.rs", "real_models.rs"];
        let tests = of_tests.iter().any(|name| path.ends_with(name));
        assert!(tests || !code.contains("env::var"), "{} reads the environment", path.display());
    }
}

#[test]
fn only_the_cli_and_the_reporter_print() {
    // The lints `print_stdout` and `print_stderr` forbid the macros; this finds the handles.
    let all = sources("src").into_iter().chain(sources("stages"));
    for (path, text) in all {
        let allowed = ["src/cli.rs", "src/reporter.rs", "src/watch/screen.rs"]
            .iter()
            .any(|allowed| path.ends_with(allowed));
        let handle = ["io::stdout()", "io::stderr()"].iter().any(|handle| text.contains(handle));
        assert!(allowed || !handle, "{} prints", path.display());
    }
}
