//! Invariants of ARCHITECTURE.md that are about the source itself.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use crate::project::files_below;

fn sources(folder: &str) -> Vec<(PathBuf, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let rust = files_below(&root).into_iter().filter(|path| path.extension().is_some_and(|e| e == "rs"));
    let sources: Vec<_> = rust.map(|path| (path.clone(), std::fs::read_to_string(&path).unwrap())).collect();
    assert!(!sources.is_empty(), "no sources below {folder}");
    sources
}

/// The crates that the registry takes kinds from: `&latent::Latent` is of `latent`.
fn kind_crates() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let registry = std::fs::read_to_string(root.join("src/kinds.rs")).unwrap();
    let (_, after) = registry.split_once("all: &[\n").unwrap();
    let (list, _) = after.split_once("],\n").unwrap();
    let kinds = list.lines().filter_map(|line| line.trim().strip_prefix('&'));
    let crates: BTreeSet<String> = kinds.map(|kind| kind.split("::").next().unwrap().to_owned()).collect();
    // Each has a folder, and each folder beside `shared` is one's.
    let folders = std::fs::read_dir(root.join("stages")).unwrap().flatten();
    let names = folders.filter(|folder| folder.path().is_dir()).map(|folder| folder.file_name());
    let names = names.map(|name| name.into_string().unwrap()).filter(|name| name != "shared");
    assert_eq!(crates, names.collect::<BTreeSet<_>>());
    crates
}

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
    let kinds = kind_crates();
    for (path, text) in sources("src").iter().filter(|(path, _)| !path.ends_with("kinds.rs")) {
        for kind in kinds.iter().map(String::as_str).chain(["lm", "tasks", "burn"]) {
            assert!(!uses_crate(text, kind), "{} uses `{kind}`", path.display());
        }
    }
}

#[test]
fn kinds_do_not_depend_on_each_other() {
    let kinds = kind_crates();
    for kind in &kinds {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("stages").join(kind).join("Cargo.toml");
        let text = std::fs::read_to_string(manifest).unwrap();
        let depends = |line: &str| kinds.contains(line.split(['.', ' ', '=']).next().unwrap_or_default());
        let others: Vec<&str> = text.lines().filter(|line| depends(line)).collect();
        assert!(others.is_empty(), "{kind} depends on {others:?}");
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
