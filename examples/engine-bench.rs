//! What the engine itself costs: planning, doing nothing, running cells that do nothing, and keeping items.
//!
//! ```text
//! cargo run --release --no-default-features --example engine-bench
//! cargo run --release --no-default-features --example engine-bench -- cells 1000 10000 100000
//! cargo run --release --no-default-features --example engine-bench -- items 100000 1000000
//! ```
//!
//! The first prints medians of five runs; the others one run of each size, for `docs/scale.md`. Times and peak memory are
//! those of whole processes, start-up included. The cells write one small file each, the items are as long as a short
//! completion. The program starts itself as the worker it measures, in a folder of the temporary one (`TMPDIR`).

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Instant,
};

use contract::{ArtifactType, Context, Journal, Port, PortFlow, Stage, StageError};
use retort::kinds::{KINDS, Kinds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const NUMBER: ArtifactType = ArtifactType::Other("number");
const REPEATS: usize = 5;

struct Number;

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct NumberParams {
    /// What to write.
    value: String,
}

impl Stage for Number {
    type Params = NumberParams;

    const NAME: &'static str = "number";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "writes a number";
    const SEEDED: bool = false;
    const COMPUTES: bool = false;
    const INPUTS: &'static [Port] =
        &[Port::input("before", NUMBER, PortFlow::Carries, "a number it waits for").optional()];
    const OUTPUTS: &'static [Port] = &[Port::output("number", NUMBER, "number.txt")];

    fn run(params: NumberParams, context: &Context) -> Result<(), StageError> {
        let path = context.output("number").join("number.txt");
        fs::write(&path, params.value).map_err(StageError::io(&path))
    }
}

/// `cells` cells in chains of ten.
fn recipe(cells: usize) -> String {
    let values: Vec<String> = (0..cells / 10).map(|value| value.to_string()).collect();
    let mut text = format!("recipe: bench\nmatrix: {{chain: [{}]}}\nstages:\n", values.join(", "));
    for stage in 0..10 {
        text.push_str(&format!("  s{stage}:\n    uses: number\n    matrix: [chain]\n"));
        text.push_str(&format!("    with: {{value: \"{stage} of ${{chain}}\"}}\n"));
        if stage > 0 {
            text.push_str(&format!("    needs: {{before: s{}}}\n", stage - 1));
        }
    }
    text
}

/// Runs the worker once: wall seconds and peak memory in MiB.
fn measure(folder: &Path, work: &[&str]) -> (f64, f64) {
    let started = Instant::now();
    let output = Command::new(std::env::current_exe().expect("a running program has a path"))
        .args(work)
        .current_dir(folder)
        .env("ENGINE_BENCH_WORKER", "1")
        .output()
        .expect("the program can start itself");
    let seconds = started.elapsed().as_secs_f64();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let peak = stderr.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|peak| peak.trim().trim_end_matches(" kB").parse::<f64>().ok());
    let ended = output.status.code();
    // 4: the plan has work.
    assert!(matches!(ended, Some(0 | 4)) && peak.is_some(), "{work:?} ended with {ended:?}:\n{stderr}");
    (seconds, peak.unwrap_or(f64::NAN) / 1024.0)
}

fn command(folder: &Path, command: &str) -> (f64, f64) {
    measure(folder, &[command, "recipe.yaml", "--store", "store"])
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
fn drive() -> std::io::Result<()> {
    for cells in [1_000, 10_000] {
        let mut plans = Vec::new();
        let mut firsts = Vec::new();
        let mut nothings = Vec::new();
        for _ in 0..REPEATS {
            let folder = workplace()?;
            fs::write(folder.join("recipe.yaml"), recipe(cells))?;
            plans.push(command(&folder, "plan"));
            if cells == 1_000 {
                firsts.push(command(&folder, "run").0 * 1000.0 / cells as f64);
                nothings.push(command(&folder, "run"));
            }
            fs::remove_dir_all(&folder)?;
        }
        let seconds = |runs: &[(f64, f64)]| median(runs.iter().map(|run| run.0).collect()) * 1000.0;
        let memory = |runs: &[(f64, f64)]| median(runs.iter().map(|run| run.1).collect());
        println!("{cells} cells, plan of all:      {:7.1} ms, {:5.1} MiB", seconds(&plans), memory(&plans));
        if cells == 1_000 {
            println!("{cells} cells, first run:        {:7.2} ms a cell", median(firsts));
            println!(
                "{cells} cells, nothing to do:    {:7.1} ms, {:5.1} MiB",
                seconds(&nothings),
                memory(&nothings)
            );
        }
    }
    Ok(())
}

/// A fresh folder to work in.
fn workplace() -> std::io::Result<PathBuf> {
    let folder = std::env::temp_dir().join(format!("engine-bench-{}", std::process::id()));
    fs::remove_dir_all(&folder).ok();
    fs::create_dir_all(&folder)?;
    Ok(folder)
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
fn row(what: &str, count: usize, (seconds, peak): (f64, f64)) {
    println!("| {count} | {what} | {seconds:.2} | {:.1} | {peak:.0} |", seconds * 1e6 / count as f64);
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
fn scale(what: &str, sizes: &[String]) -> std::io::Result<()> {
    println!("| {what} | | s | us each | peak MiB |\n|---:|---|---:|---:|---:|");
    for size in sizes {
        let count: usize = size.parse().map_err(std::io::Error::other)?;
        let folder = workplace()?;
        match what {
            "cells" => {
                fs::write(folder.join("recipe.yaml"), recipe(count))?;
                row("plan, nothing made yet", count, command(&folder, "plan"));
                row("first run", count, command(&folder, "run"));
                row("plan, nothing to do", count, command(&folder, "plan"));
                row("run, nothing to do", count, command(&folder, "run"));
                row("gc --dry-run", count, measure(&folder, &["gc", "--dry-run", "--store", "store"]));
                row("runs", count, measure(&folder, &["runs", "--store", "store"]));
            }
            "items" => {
                let file = folder.join("journal.jsonl");
                row("write, 100 at a time", count, measure(&folder, &["items", "write", size]));
                row("open", count, measure(&folder, &["items", "open", size]));
                row("resume: open, find all", count, measure(&folder, &["items", "resume", size]));
                println!("| {count} | bytes on disk | {} | | |", fs::metadata(file)?.len());
            }
            _ => return Err(std::io::Error::other(format!("`{what}` is neither `cells` nor `items`"))),
        }
        fs::remove_dir_all(&folder)?;
    }
    Ok(())
}

/// An item as a completion is kept: some text, and numbers.
#[derive(Serialize, Deserialize)]
struct Item {
    text: String,
    prompt_tokens: u64,
    completion_tokens: u64,
}

/// Keeps `count` items, or looks each of them up.
fn items(work: &str, count: usize) -> Result<(), StageError> {
    let key = |number: usize| contract::Digest::of_bytes(&number.to_le_bytes()).to_string();
    let mut journal = Journal::open(Path::new("journal.jsonl"))?;
    if work == "write" {
        let text = "First we take what is given, then we add the parts one by one. ".repeat(6);
        for first in (0..count).step_by(100) {
            let item = |number: usize| {
                let text = format!("{text}The answer is {number}.");
                (key(number), Item { text, prompt_tokens: 120, completion_tokens: 96 })
            };
            // What a power cut would take is not what is measured here: that is the disk's.
            let _written = journal.append(&(first..count.min(first + 100)).map(item).collect::<Vec<_>>())?;
        }
    }
    if work == "resume" {
        let there = (0..count).filter(|number| journal.get::<Item>(&key(*number)).is_some()).count();
        assert_eq!(there, count, "every item is found again");
    }
    assert_eq!(journal.len(), count, "every item is there");
    Ok(())
}

#[expect(clippy::print_stderr, reason = "the worker tells its driver what it used")]
fn main() -> ExitCode {
    static OWN: Kinds = Kinds { all: &[&Number], ..KINDS };
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if std::env::var_os("ENGINE_BENCH_WORKER").is_some() {
        let code = match arguments.as_slice() {
            [first, work, count] if first == "items" => {
                let count = count.parse().expect("the driver gives a number");
                items(work, count).expect("the folder is the driver's own");
                ExitCode::SUCCESS
            }
            _ => retort::cli::main(&OWN),
        };
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        eprintln!("{}", status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or("VmHWM: 0 kB"));
        return code;
    }
    let done = match arguments.split_first() {
        Some((what, sizes)) => scale(what, sizes),
        None => drive(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
