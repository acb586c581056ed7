//! Stores that share results through a folder, always, and through a real S3 server. `RETORT_TEST_S3` names moto's command
//! `moto_server`; without it those tests say so and pass. `RETORT_TEST_S3_ENDPOINT` names a server that runs already and has
//! the bucket `retort`, with credentials in the environment as usual.
//!
//! `RETORT_TEST_LARGE=1` adds an artifact of 2 GiB, through a folder and, where there is one, through S3.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "figures for people, and what is skipped")]

mod proxy;
mod site;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use contract::Digest;
use serde_json::{Value, json};

use crate::{
    project::{Project, files_below},
    watch::{Terminal, after},
};
use proxy::Proxy;
use site::{SECRET, Site};

/// `cells` times two cells and one that reads them all.
fn recipe(cells: usize) -> String {
    let names: Vec<String> = (0..cells).map(|name| name.to_string()).collect();
    format!(
        "recipe: shared\nmatrix: {{n: [{}]}}\nstages:\n\
         \x20 a: {{uses: text, matrix: [n], with: {{text: \"n ${{n}}\", times: 20}}}}\n\
         \x20 b: {{uses: text, matrix: [n], needs: {{before: a}}, with: {{text: \"... b\"}}}}\n\
         \x20 all: {{uses: text, needs: {{before: b}}, with: {{text: \"... end\"}}}}\n",
        names.join(", ")
    )
}

/// One cell whose artifact is of so many million bytes, no two chunks of it alike.
fn large(megabytes: usize) -> String {
    let text = "0123456789abcdefghijklmnopqrstuvwxyz-".repeat(27_027);
    format!("recipe: large\nstages:\n  a: {{uses: text, with: {{text: \"{text}\", times: {megabytes}}}}}\n")
}

fn project(recipe: &str) -> Project {
    let project = Project::custom();
    project.write("recipe.yaml", recipe);
    project
}

/// What a cell made, whole.
fn artifact(project: &Project, cell: &str) -> String {
    let path = project.run(&["show", "recipe.yaml", cell, "--path"]).expect(0).stdout;
    fs::read_to_string(Path::new(path.trim()).join("text.txt")).unwrap()
}

/// Whichever sites there are to test.
fn sites() -> Vec<Site> {
    [Some(Site::folder()), Site::s3()].into_iter().flatten().collect()
}

#[test]
fn one_store_computes_and_another_reruns_nothing() {
    for site in sites() {
        let (first, second, third) = (project(&recipe(4)), project(&recipe(4)), project(&recipe(4)));
        let ran = site.run(&first, &["run", "recipe.yaml"]).expect(0);
        assert_eq!(ran.ran().len(), 9, "{}", ran.stderr);
        let plan = site.run(&second, &["plan", "recipe.yaml"]).expect(4);
        assert!(
            plan.stdout.ends_with("0 to run, 0 depend on them, 9 to fetch, 0 up to date\n"),
            "{}",
            plan.stdout
        );
        assert!(plan.stdout.contains("fetch  a[n=2]: 80 B from the remote\n"), "{}", plan.stdout);
        assert!(files_below(&second.path(".retort/objects")).is_empty(), "a plan downloads nothing");

        let fetched = site.run(&second, &["run", "recipe.yaml"]).expect(0);
        assert!(fetched.ran().is_empty(), "{}", fetched.stderr);
        assert!(fetched.stderr.contains("ran 0 cells, reused 0, fetched 9, in "), "{}", fetched.stderr);
        let pulled = site.run(&third, &["pull", "recipe.yaml"]).expect(0);
        assert!(pulled.stderr.contains("fetched 9 results from "), "{}", pulled.stderr);
        for project in [&second, &third] {
            project.run(&["plan", "recipe.yaml"]).expect(0);
            let kept = project.run(&["gc"]).expect(0).stdout;
            assert!(kept.contains("freed 0 B; 9 results needed"), "{kept}");
            assert_eq!(artifact(project, "all"), artifact(&first, "all"));
        }

        // What changes is computed where it changes, and only that; the rest still comes from there.
        let fourth = project(&recipe(4).replace("... b", "... c"));
        let changed = site.run(&fourth, &["run", "recipe.yaml"]).expect(0);
        assert_eq!(changed.ran().len(), 5, "{}", changed.stderr);
        assert!(changed.stderr.contains("fetched 4, in "), "{}", changed.stderr);
        // And went there by itself.
        let again = site.run(&fourth, &["push", "recipe.yaml"]).expect(0);
        assert!(again.stderr.contains("sent 0 results to ") && again.stderr.contains(", 9 there already"));
    }
}

#[cfg(feature = "burn")]
#[test]
fn the_pipelines_table_comes_out_byte_for_byte_without_a_cell_run() {
    use crate::pipeline::arguments;
    let site = Site::s3().unwrap_or_else(Site::folder);
    let (first, second) = (Project::retort(), Project::retort());
    let computed = site.run(&first, &arguments("run", &[])).expect(0);
    assert!(computed.stdout.contains("mind"), "{}", computed.stdout);
    let pulled = site.run(&second, &arguments("run", &[])).expect(0);
    assert!(pulled.ran().is_empty(), "{}", pulled.stderr);
    assert_eq!(pulled.stdout, computed.stdout);
    let table = |project: &Project| project.run(&arguments("table", &["--format", "json"])).expect(0).stdout;
    assert_eq!(table(&first), table(&second));
}

#[test]
fn a_recipe_names_its_remote_and_what_it_is_for() {
    let with = |more: &str| project(&format!("{more}\n{}", recipe(1)));
    let first = with("remote: results");
    first.run(&["check", "recipe.yaml"]).expect(0);
    assert!(!first.path("results").exists(), "`check` touches nothing");
    first.run(&["run", "recipe.yaml"]).expect(0);
    let published = files_below(&first.path("results"));
    assert_eq!(published.len(), 6, "{published:?}");
    let results = first.path("results").display().to_string();

    let reader = with(&format!("remote: {{url: \"file://{results}\", access: read}}"));
    let read = reader.run(&["run", "recipe.yaml", "--set", "stages.all.with.times=2"]).expect(0);
    assert_eq!(read.ran().len(), 1, "{}", read.stderr);
    assert_eq!(files_below(&first.path("results")), published, "who reads writes nothing");
    let writer = with(&format!("remote: {{url: {results}, access: write}}"));
    assert_eq!(writer.run(&["run", "recipe.yaml"]).expect(0).ran().len(), 3, "who writes reads nothing");
    let without = with(&format!("remote: {results}"));
    assert_eq!(without.run(&["run", "recipe.yaml", "--remote", "none"]).expect(0).ran().len(), 3);

    for (remote, words) in [
        ("s3://key:hunter2secret@bucket", "holds credentials"),
        ("ftp://bucket", "`ftp://` is no storage"),
        ("{url: x, acces: read}", "unknown key `acces`"),
        ("{url: x, access: all}", "`access` in `remote`"),
        ("[x]", "`remote`"),
    ] {
        let refused = with(&format!("remote: {remote}")).run(&["check", "recipe.yaml"]).expect(2).stderr;
        assert!(refused.contains(words) && !refused.contains("hunter2"), "{refused}");
    }
    let refused = project(&recipe(1)).run(&["plan", "recipe.yaml", "--remote", "s3://a:hunter2secret@b"]);
    let refused = refused.expect(2).stderr;
    assert!(refused.contains("holds credentials") && !refused.contains("hunter2"), "{refused}");
    assert!(project(&recipe(1)).run(&["pull", "recipe.yaml"]).expect(2).stderr.contains("no remote cache"));
}

/// The record of a cell in a folder remote, by what the cell's kind was given.
fn record_of(site: &Site, text: &str) -> PathBuf {
    let records = files_below(&site.path().join("retort-1/records"));
    let found = records.into_iter().find(|path| fs::read_to_string(path).unwrap().contains(text));
    found.unwrap_or_else(|| panic!("no record of {text}"))
}

fn edit(path: &Path, change: impl Fn(&mut Value)) {
    let mut record: Value = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    change(&mut record);
    fs::write(path, record.to_string()).unwrap();
}

/// Renames the file of a record and makes its digests agree, as somebody would who wants it taken.
fn rename(record: &mut Value, name: &str) {
    let file = record["outputs"]["text"]["text.txt"].clone();
    record["record"]["outputs"]["text"] = json!(Digest::of_json(&BTreeMap::from([(name, &file["digest"])])));
    record["outputs"]["text"] = json!({name: file});
}

#[test]
fn bad_and_hostile_objects_are_refused_and_computed_here() {
    type Spoil = Box<dyn Fn(&Site, &Path)>;
    let chunk = |change: fn(&Path)| -> Spoil {
        Box::new(move |site, record| {
            let record: Value = serde_json::from_slice(&fs::read(record).unwrap()).unwrap();
            let digest = record["outputs"]["text"]["text.txt"]["chunks"][0].as_str().unwrap();
            change(&site.path().join("retort-1/chunks").join(&digest[..2]).join(digest));
        })
    };
    let outside = tempfile::tempdir().unwrap();
    let escaped = outside.path().join("escaped");
    let absolute = escaped.display().to_string();
    let of_record = |change: fn(&mut Value)| -> Spoil { Box::new(move |_, record| edit(record, change)) };
    let cases: Vec<(Spoil, &str)> = vec![
        (
            chunk(|path| {
                let mut bytes = fs::read(path).unwrap();
                bytes[3] ^= 1;
                fs::write(path, bytes).unwrap();
            }),
            "does not have the content it is named by",
        ),
        (chunk(|path| fs::write(path, "n").unwrap()), "has 1 bytes where 80 belong"),
        (chunk(|path| fs::write(path, "n".repeat(9_000_000)).unwrap()), "has 9000000 bytes where 80 belong"),
        (chunk(|path| fs::remove_file(path).unwrap()), "is not there"),
        (
            chunk(|path| {
                fs::remove_file(path).unwrap();
                std::os::unix::fs::symlink("/proc/self/environ", path).unwrap();
            }),
            "has 0 bytes where 80 belong",
        ),
        (Box::new(|_, record| fs::write(record, "no JSON").unwrap()), "is no record of a cell"),
        (
            Box::new(|site, record| assert!(fs::copy(record_of(site, "n 1"), record).unwrap() > 0)),
            "is the record of another cell",
        ),
        (
            of_record(|record| record["record"]["cell"]["params"]["times"] = json!(21)),
            "is the record of another cell",
        ),
        (
            of_record(|record| rename(record, "../../../../../escaped")),
            "has a file in a place where none can be",
        ),
        (
            Box::new(move |_, record| edit(record, |record| rename(record, &absolute))),
            "has a file in a place where none can be",
        ),
        (of_record(|record| rename(record, "a//b")), "has a file in a place where none can be"),
        (of_record(|record| rename(record, "a\u{1b}[2J")), "has a file in a place where none can be"),
        (
            of_record(|record| record["outputs"]["text"]["text.txt"]["link"] = json!("/etc/passwd")),
            "unknown field `link`",
        ),
        (
            of_record(|record| record["outputs"]["text"]["text.txt"]["size"] = json!(81)),
            "has sizes that do not agree",
        ),
        (
            of_record(|record| {
                let chunk = record["outputs"]["text"]["text.txt"]["chunks"][0].clone();
                let file =
                    json!({"digest": chunk, "size": 1u64 << 52, "chunks": vec![chunk.clone(); 1 << 10]});
                record["outputs"]["text"]["text.txt"] = file;
            }),
            "has sizes that do not agree",
        ),
        (
            of_record(|record| record["record"]["outputs"]["text"] = json!("../../x")),
            "has digests that do not agree",
        ),
        (
            of_record(|record| record["outputs"]["text"]["text.txt"]["chunks"][0] = json!("..")),
            "has digests that do not agree",
        ),
        (
            of_record(|record| record["record"]["run"] = json!("../../../runs")),
            "has a `run` that is not well formed",
        ),
        (
            of_record(|record| {
                let files = record["outputs"]["text"].clone();
                record["outputs"]["more"] = files;
            }),
            "does not have the output ports of its kind",
        ),
    ];
    let site = Site::folder();
    let first = project(&recipe(2));
    site.run(&first, &["run", "recipe.yaml"]).expect(0);
    let whole = artifact(&first, "all");
    for (spoil, words) in cases {
        spoil(&site, &record_of(&site, "\"n 0\""));
        let second = project(&recipe(2));
        let run = site.run(&second, &["run", "recipe.yaml"]).expect(0);
        assert!(run.stderr.contains("refused") && run.stderr.contains(words), "{words}\n{}", run.stderr);
        assert_eq!(run.ran().into_iter().collect::<Vec<_>>(), ["a[n=0]"], "{words}\n{}", run.stderr);
        assert_eq!(artifact(&second, "all"), whole, "{words}");
        let around = fs::read_dir(second.path("..")).unwrap().count();
        assert_eq!(around, 1, "{words}: something is beside the project");
        // What was computed instead has gone there.
        let third = project(&recipe(2));
        let healed = site.run(&third, &["run", "recipe.yaml"]).expect(0);
        assert!(healed.ran().is_empty() && !healed.stderr.contains("refused"), "{words}\n{}", healed.stderr);
    }
    assert!(!escaped.exists());

    // `pull` computes nothing: it says what it refused, and that something is missing.
    let record = record_of(&site, "\"n 0\"");
    fs::write(&record, "no JSON").unwrap();
    let second = project(&recipe(2));
    let pulled = site.run(&second, &["pull", "recipe.yaml"]).expect(4).stderr;
    assert!(pulled.contains("refused") && pulled.contains("fetched 2 results"), "{pulled}");
    site.run(&first, &["push", "recipe.yaml", "--over"]).expect(0);
    site.run(&second, &["pull", "recipe.yaml"]).expect(0);
}

#[test]
fn a_corrupted_object_in_a_bucket_is_refused_and_made_good() {
    let Some(site) = Site::s3().filter(Site::believes_signatures) else { return };
    let first = project(&recipe(1));
    site.run(&first, &["run", "recipe.yaml"]).expect(0);
    let digest = Digest::of_bytes("n 0\n".repeat(20).as_bytes());
    let key = format!("retort-1/chunks/{}/{digest}", &digest.as_str()[..2]);
    assert_eq!(site.get(&key).len(), 80);
    site.put(&key, "N 0\n".repeat(20).as_bytes());
    let second = project(&recipe(1));
    let run = site.run(&second, &["run", "recipe.yaml"]).expect(0);
    assert!(run.stderr.contains("does not have the content it is named by"), "{}", run.stderr);
    assert_eq!(run.ran().into_iter().collect::<Vec<_>>(), ["a[n=0]"], "{}", run.stderr);
    assert_eq!(site.get(&key), "n 0\n".repeat(20).as_bytes());
    site.run(&project(&recipe(1)), &["pull", "recipe.yaml"]).expect(0);
}

#[test]
fn a_server_that_checks_signatures_takes_ours_and_no_others() {
    let Some(site) = Site::strict() else { return };
    let (first, second) = (project(&recipe(2)), project(&recipe(2)));
    let wrong = site.with_a_wrong_key();
    let run = wrong.run(&first, &["run", "recipe.yaml"]).expect(0);
    assert_eq!(run.ran().len(), 5, "{}", run.stderr);
    assert_eq!(run.stderr.matches("SignatureDoesNotMatch").count(), 1, "{}", run.stderr);
    let refused = wrong.run(&first, &["push", "recipe.yaml"]).expect(3).stderr;
    assert!(refused.contains("SignatureDoesNotMatch") && refused.lines().count() == 3, "{refused}");
    assert!(!run.stderr.contains(SECRET) && !refused.contains(SECRET));
    site.run(&first, &["push", "recipe.yaml"]).expect(0);
    let fetched = site.run(&second, &["run", "recipe.yaml"]).expect(0);
    assert!(fetched.ran().is_empty() && fetched.stderr.contains("fetched 5, in "), "{}", fetched.stderr);
}

#[test]
fn a_thousand_small_artifacts_go_and_come() {
    for site in sites() {
        let (first, second) = (project(&recipe(500)), project(&recipe(500)));
        first.run(&["run", "recipe.yaml"]).expect(0);
        let started = Instant::now();
        let pushed = site.run(&first, &["push"]).expect(0);
        assert!(pushed.stderr.contains("sent 1001 results to "), "{}", pushed.stderr);
        let push = started.elapsed();
        let pulled = site.run(&second, &["pull", "recipe.yaml"]).expect(0);
        assert!(pulled.stderr.contains("fetched 1001 results from "), "{}", pulled.stderr);
        let pull = started.elapsed() - push;
        assert_eq!(artifact(&first, "all"), artifact(&second, "all"));
        println!("1,001 artifacts, {}: push {push:.1?}, pull {pull:.1?}", site.name());
    }
}

/// Runs a command to its end and watches its memory; the peak in MiB.
fn watched(site: &Site, project: &Project, arguments: &[&str]) -> (Duration, u64) {
    let started = Instant::now();
    let mut child = site.command(project, arguments).spawn().unwrap();
    let mut peak = 0;
    let status = loop {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or_default();
        peak = peak.max(line.trim().trim_end_matches(" kB").parse().unwrap_or(0));
        match child.try_wait().unwrap() {
            Some(status) => break status,
            None => std::thread::sleep(Duration::from_millis(20)),
        }
    };
    assert!(status.success(), "{arguments:?}");
    (started.elapsed(), peak / 1024)
}

#[test]
fn an_artifact_of_two_gigabytes_goes_and_comes_in_little_memory() {
    if std::env::var_os("RETORT_TEST_LARGE").is_none() {
        eprintln!("skipped: RETORT_TEST_LARGE=1 sends and fetches 2 GiB");
        return;
    }
    for site in sites() {
        let (first, second) = (project(&large(2148)), project(&large(2148)));
        first.run(&["run", "recipe.yaml"]).expect(0);
        let (push, pushing) = watched(&site, &first, &["push", "recipe.yaml"]);
        let (pull, pulling) = watched(&site, &second, &["pull", "recipe.yaml"]);
        assert!(artifact(&first, "a") == artifact(&second, "a"));
        println!("2 GiB, {}: push {push:.1?} {pushing} MiB, pull {pull:.1?} {pulling} MiB", site.name());
        assert!(pushing < 400 && pulling < 400, "{pushing} MiB and {pulling} MiB");
    }
}

const MEGABYTES: u64 = 160;

/// A server behind a proxy that can be cut, and a store with a large result.
fn cut_off() -> Option<(Site, Proxy, Project)> {
    let site = Site::s3()?;
    let proxy = Proxy::start(site.address());
    let site = site.through(proxy.address());
    let first = project(&large(usize::try_from(MEGABYTES).unwrap()));
    first.run(&["run", "recipe.yaml"]).expect(0);
    Some((site, proxy, first))
}

/// What may be on its way when a connection is cut, bytes: sixteen chunks.
const ON_THEIR_WAY: u64 = 16 * (4 << 20);

#[test]
fn a_cut_upload_goes_on_with_what_is_missing() {
    let Some((site, proxy, first)) = cut_off() else { return };
    let total = MEGABYTES * 1_000_000;
    proxy.cut_after(100_000_000, true);
    let cut = site.run(&first, &["push", "recipe.yaml"]).expect(3).stderr;
    assert!(cut.contains("cannot write to the remote") || cut.contains("cannot read the remote"), "{cut}");
    assert!(!cut.contains(SECRET), "{cut}");
    let before = proxy.up();
    proxy.mend();
    site.run(&first, &["push", "recipe.yaml"]).expect(0);
    let again = proxy.up() - before;
    assert!(again < total - 100_000_000 + ON_THEIR_WAY + 2_000_000, "sent {again} bytes again");
    let second = project(&fs::read_to_string(first.path("recipe.yaml")).unwrap());

    proxy.cut_after(100_000_000, true);
    let cut = site.run(&second, &["pull", "recipe.yaml"]).expect(3).stderr;
    assert!(cut.contains("cannot read the remote"), "{cut}");
    assert!(files_below(&second.path(".retort/objects")).is_empty(), "nothing partial is in the store");
    let before = proxy.down();
    proxy.mend();
    site.run(&second, &["pull", "recipe.yaml"]).expect(0);
    let again = proxy.down() - before;
    assert!(again < total - 100_000_000 + ON_THEIR_WAY + 2_000_000, "fetched {again} bytes again");
    assert!(artifact(&first, "a") == artifact(&second, "a"));
    assert!(files_below(&second.path(".retort/incoming")).is_empty());
}

#[test]
fn connections_that_break_are_taken_up_again() {
    let Some((site, proxy, first)) = cut_off() else { return };
    let total = MEGABYTES * 1_000_000;
    proxy.cut_after(70_000_000, false);
    site.run(&first, &["push", "recipe.yaml"]).expect(0);
    assert!(proxy.cuts() == 1 && proxy.up() < total + ON_THEIR_WAY + 2_000_000, "sent {} bytes", proxy.up());
    let second = project(&fs::read_to_string(first.path("recipe.yaml")).unwrap());
    proxy.cut_after(70_000_000, false);
    site.run(&second, &["pull", "recipe.yaml"]).expect(0);
    assert_eq!(proxy.cuts(), 2);
    assert!(proxy.down() < total + ON_THEIR_WAY + 2_000_000, "fetched {} bytes", proxy.down());
    assert!(artifact(&first, "a") == artifact(&second, "a"));
}

#[test]
fn a_run_that_is_cut_off_computes_here() {
    let Some((site, proxy, first)) = cut_off() else { return };
    site.run(&first, &["push", "recipe.yaml"]).expect(0);
    proxy.cut_after(60_000_000, true);
    let second = project(&fs::read_to_string(first.path("recipe.yaml")).unwrap());
    let run = site.run(&second, &["run", "recipe.yaml"]).expect(0);
    assert_eq!(run.ran().len(), 1, "{}", run.stderr);
    assert_eq!(run.stderr.matches("warning:").count(), 1, "{}", run.stderr);
    let left = second.run(&["gc"]).expect(0).stdout;
    assert!(left.contains("what arrived of a download that was cut"), "{left}");
}

#[test]
fn two_writers_race_and_both_come_to_a_good_end() {
    for site in sites() {
        let writers = [project(&recipe(30)), project(&recipe(30))];
        let children: Vec<_> = writers
            .iter()
            .map(|project| site.command(project, &["run", "recipe.yaml"]).spawn().unwrap())
            .collect();
        for child in children {
            let output = child.wait_with_output().unwrap();
            let stderr = String::from_utf8(output.stderr).unwrap();
            assert!(output.status.success() && !stderr.contains("warning"), "{stderr}");
        }
        let third = project(&recipe(30));
        let pulled = site.run(&third, &["pull", "recipe.yaml"]).expect(0);
        assert!(pulled.stderr.contains("fetched 61 results"), "{}", pulled.stderr);
        assert_eq!(artifact(&third, "all"), artifact(&writers[0], "all"));
    }
}

#[test]
fn without_an_answer_a_run_warns_once_and_ends_well() {
    // A port that nobody listens to, and a disk that is not there.
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let nowhere = Site::at(format!("127.0.0.1:{port}"));
    let gone = Site::gone();
    for site in [&nowhere, &gone] {
        let first = project(&recipe(3));
        let run = site.run(&first, &["run", "recipe.yaml"]).expect(0);
        assert_eq!(run.ran().len(), 7, "{}", run.stderr);
        assert_eq!(run.stderr.matches("warning:").count(), 1, "{}", run.stderr);
        assert!(run.stderr.contains("going on without it"), "{}", run.stderr);
        let plan = site.run(&project(&recipe(3)), &["plan", "recipe.yaml"]).expect(4);
        assert_eq!(plan.stderr.matches("warning:").count(), 1, "{}", plan.stderr);
        let refused = site.run(&first, &["push", "recipe.yaml"]);
        assert!(matches!(refused.code, Some(2 | 3)), "{}", refused.stderr);
        assert!(refused.stderr.contains("help: "), "{}", refused.stderr);
        // Neither people nor files are told a credential.
        for text in [&run.stderr, &plan.stderr, &refused.stderr] {
            assert!(!text.contains(SECRET), "{text}");
        }
        for path in files_below(&first.path(".")) {
            let bytes = fs::read(&path).unwrap();
            assert!(
                !bytes.windows(SECRET.len()).any(|window| window == SECRET.as_bytes()),
                "{}",
                path.display()
            );
        }
    }
    let run = nowhere.run(&project(&recipe(3)), &["run", "recipe.yaml"]).expect(0);
    assert!(run.stderr.contains("results not sent: `retort push` sends them"), "{}", run.stderr);
}

#[test]
fn a_warning_that_came_while_the_run_was_watched_is_said_afterwards() {
    let site = Site::folder();
    site.run(&project(&recipe(1)), &["run", "recipe.yaml"]).expect(0);
    for chunk in files_below(&site.path().join("retort-1/chunks")) {
        fs::write(chunk, "x").unwrap();
    }
    let second = project(&recipe(1));
    let terminal = Terminal::start(site.command(&second, &["run", "recipe.yaml", "--watch"]));
    let (status, text) = terminal.end();
    assert_eq!(status.code(), Some(0), "{text:?}");
    assert_eq!(
        after(&text).matches("warning: `a[n=0]`: the remote's result is refused").count(),
        1,
        "{text:?}"
    );
}
