//! A kind of your own, in one file: `text` writes a text, after those it is given.
//!
//! ```text
//! cargo run --release --example custom-kind -- run examples/custom-kind.yaml
//! cargo run --release --example custom-kind -- show examples/custom-kind.yaml greeting
//! ```
//!
//! Everything the `retort` command does, this program does for its own kinds: checking, planning, caching, resuming.

use std::{fs, process::ExitCode};

use contract::{ArtifactType, Context, Port, PortFlow, Stage, StageError};
use retort::kinds::{KINDS, Kinds};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

const TEXT: ArtifactType = ArtifactType::Other("text");

/// Writes a text after the texts it is given.
struct Text;

#[derive(Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
struct TextParams {
    /// What to write.
    text: String,
    /// How often to write it.
    #[serde(default = "once")]
    times: usize,
}

fn once() -> usize {
    1
}

impl Stage for Text {
    type Params = TextParams;

    const NAME: &'static str = "text";
    const VERSION: u32 = 1;
    const ABOUT: &'static str = "writes a text after the texts it is given";
    const SEEDED: bool = false;
    const COMPUTES: bool = false;
    const INPUTS: &'static [Port] =
        &[Port::input("before", TEXT, PortFlow::Carries, "texts that come first").many()];
    const OUTPUTS: &'static [Port] = &[Port::output("text", TEXT, "text.txt")];

    fn check(params: &TextParams) -> Vec<(String, String)> {
        if params.text == "panic" {
            return vec![(
                "/text".to_owned(),
                "`panic` is not a text; `panic!` is one that fails".to_owned(),
            )];
        }
        Vec::new()
    }

    fn reads(params: &TextParams, _port: &str) -> bool {
        params.text.starts_with("... ")
    }

    fn run(params: TextParams, context: &Context) -> Result<(), StageError> {
        assert_ne!(params.text, "panic!", "asked to");
        let mut text = String::new();
        for input in context.inputs("before") {
            let path = input.file("text.txt");
            text.push_str(&fs::read_to_string(&path).map_err(StageError::io(&path))?);
        }
        for time in 0..params.times {
            context.check_cancelled()?;
            context.progress(time, params.times, "lines");
            text.push_str(params.text.trim_start_matches("... "));
            text.push('\n');
        }
        let path = context.output("text").join("text.txt");
        fs::write(&path, text).map_err(StageError::io(&path))
    }
}

fn main() -> ExitCode {
    static OWN: Kinds = Kinds { all: &[&Text], ..KINDS };
    retort::cli::main(&OWN)
}
