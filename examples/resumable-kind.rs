//! A kind that goes on where it was stopped, in one file: `count` counts, and knows after a kill how far it was.
//!
//! ```text
//! cargo run --release --example resumable-kind -- run examples/resumable-kind.yaml
//! ```
//!
//! What a kind keeps in its scratch folder survives a kill, a time limit of a cluster and a power cut, and is handed to the
//! next attempt at the same cell; it is no output. Stop this program with Ctrl-C and start it again.

use std::{fs, process::ExitCode, thread, time::Duration};

use contract::{ArtifactType, Context, Port, Stage, StageError};
use retort::kinds::{KINDS, Kinds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Counts, slowly.
struct Count;

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct CountParams {
    /// How far.
    to: usize,
    /// What is counted.
    what: String,
    /// How long each step takes, milliseconds.
    #[serde(default)]
    pause: u64,
}

impl Stage for Count {
    type Params = CountParams;

    const NAME: &'static str = "count";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "counts, and goes on where it was stopped";
    const SEEDED: bool = false;
    const COMPUTES: bool = false;
    const INPUTS: &'static [Port] = &[];
    const OUTPUTS: &'static [Port] = &[Port::output("total", ArtifactType::Other("total"), "total.txt")];

    fn immaterial() -> &'static [&'static str] {
        &["/pause"]
    }

    fn run(params: CountParams, context: &Context) -> Result<(), StageError> {
        let checkpoint = context.scratch().join("counted");
        let reached = fs::read_to_string(&checkpoint).ok().and_then(|text| text.parse().ok()).unwrap_or(0);
        if reached > 0 {
            context.note(format!("goes on from {reached}"));
        }
        for counted in reached..params.to {
            context.check_cancelled()?;
            thread::sleep(Duration::from_millis(params.pause));
            // Whole or not at all, as everything that is read after a kill.
            let partial = context.scratch().join("partial");
            fs::write(&partial, (counted + 1).to_string()).map_err(StageError::io(&partial))?;
            fs::rename(&partial, &checkpoint).map_err(StageError::io(&checkpoint))?;
            context.progress(counted + 1, params.to, &params.what);
        }
        let path = context.output("total").join("total.txt");
        fs::write(&path, format!("{} {}\n", params.to, params.what)).map_err(StageError::io(&path))
    }
}

fn main() -> ExitCode {
    static OWN: Kinds = Kinds { all: &[&Count], ..KINDS };
    retort::cli::main(&OWN)
}
