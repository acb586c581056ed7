//! What the engine itself costs: planning, doing nothing, and running cells that do nothing.
//!
//! ```text
//! cargo run --release --example engine-bench
//! ```
//!
//! Prints medians of five runs: wall time and peak memory of whole processes, start-up included. The cells write one
//! small file each. The program starts itself as the worker it measures.

use std::{
    fs,
    path::Path,
    process::{Command, ExitCode},
    time::Instant,
};

use contract::{ArtifactType, Context, Port, PortFlow, Stage, StageError};
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
fn measure(folder: &Path, command: &str) -> (f64, f64) {
    let started = Instant::now();
    let output = Command::new(std::env::current_exe().expect("a running program has a path"))
        .args([command, "recipe.yaml", "--store", "store"])
        .current_dir(folder)
        .env("ENGINE_BENCH_WORKER", "1")
        .output()
        .expect("the program can start itself");
    let seconds = started.elapsed().as_secs_f64();
    let stderr = String::from_utf8_lossy(&output.stderr);
    let peak = stderr.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0 kB");
    let peak: f64 = peak.trim().trim_end_matches(" kB").parse().unwrap_or(f64::NAN);
    (seconds, peak / 1024.0)
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

#[expect(clippy::print_stdout, reason = "a benchmark prints its figures")]
fn drive() -> std::io::Result<()> {
    let folder = std::env::temp_dir().join(format!("engine-bench-{}", std::process::id()));
    for cells in [1_000, 10_000] {
        let mut plans = Vec::new();
        let mut firsts = Vec::new();
        let mut nothings = Vec::new();
        for _ in 0..REPEATS {
            fs::remove_dir_all(&folder).ok();
            fs::create_dir_all(&folder)?;
            fs::write(folder.join("recipe.yaml"), recipe(cells))?;
            plans.push(measure(&folder, "plan"));
            if cells == 1_000 {
                firsts.push(measure(&folder, "run").0 * 1000.0 / cells as f64);
                nothings.push(measure(&folder, "run"));
            }
        }
        fs::remove_dir_all(&folder)?;
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

#[expect(clippy::print_stderr, reason = "the worker tells its driver what it used")]
fn main() -> ExitCode {
    static OWN: Kinds = Kinds { all: &[&Number], ..KINDS };
    if std::env::var_os("ENGINE_BENCH_WORKER").is_some() {
        let code = retort::cli::main(&OWN);
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        eprintln!("{}", status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or("VmHWM: 0 kB"));
        return code;
    }
    match drive() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}
