//! The kinds of stages this binary has: a plain slice. The only file of the engine that names any.

use std::{collections::BTreeSet, net::SocketAddr, path::Path, sync::atomic::AtomicBool};

use contract::{Kind, StageError};
use serde_json::Value;

pub use report::page::{Accepted, Artifact, CellFacts, Facts, RunFacts, State};

/// What the engine is given: kinds, and the few things beside cells that are theirs to know.
pub struct Kinds {
    /// Every kind, in the order of a recipe.
    pub all: &'static [&'static dyn Kind],
    /// What entries of a recipe's `tables` use.
    pub table: &'static dyn Kind,
    /// Tells a table, in its params, along which axes its results come from one model that was trained.
    pub share_base: fn(&mut Value, &BTreeSet<&str>),
    /// Prints a finished table.
    pub render_table: fn(&Path, TableFormat) -> Result<String, StageError>,
    /// Says what differs between two finished tables, one line a value.
    pub compare_tables: fn(&Path, &Path) -> Result<Vec<String>, StageError>,
    /// Writes what is known of a recipe as an HTML page.
    pub render_report: fn(&Facts) -> Result<String, StageError>,
    /// Backends a recipe may name, built in or not.
    pub backends: &'static [&'static str],
    /// Number formats that a recipe may name.
    pub dtypes: &'static [&'static str],
    /// Says what this build and machine can do with a backend.
    pub backend_report: fn(&str) -> BackendReport,
    /// Lets a small model generate and train on a backend, and compares it with the default one.
    pub backend_test: fn(&str) -> Result<String, String>,
    /// Asks the model in a folder, hands over its answer piece by piece, and says whether it was cut at its limit.
    pub ask: AskModel,
    /// Serves the model in a folder until it is told to end, and says where.
    pub serve: ServeModel,
}

/// Serves a model until the flag is set; hears where it listens.
pub type ServeModel = fn(&Serve<'_>, &AtomicBool, &mut dyn FnMut(SocketAddr)) -> Result<(), StageError>;

/// A model to be served.
pub struct Serve<'a> {
    /// The model's folder.
    pub model: &'a Path,
    /// What requests call it.
    pub name: &'a str,
    /// The address to listen on.
    pub host: &'a str,
    /// The port; 0 takes any that is free.
    pub port: u16,
    /// What to compute on.
    pub backend: contract::Backend,
}

/// Answers a question piece by piece; returns whether the answer was cut at its limit.
pub type AskModel = fn(&Ask<'_>, &mut dyn FnMut(&str)) -> Result<bool, AskError>;

/// Why a question has no answer.
pub enum AskError {
    /// What was asked for cannot be: nothing was computed.
    Refused(StageError),
    /// Answering failed.
    Failed(StageError),
}

/// A question to a model.
pub struct Ask<'a> {
    /// The model's folder.
    pub model: &'a Path,
    /// The question.
    pub text: &'a str,
    /// Ask as this task's questions are asked.
    pub task: Option<&'a str>,
    /// What to compute on.
    pub backend: contract::Backend,
    /// Where the answer is cut, in tokens.
    pub max_new_tokens: usize,
    /// How random the answer is; 0 is not at all.
    pub temperature: f64,
    /// Decides what is random in it.
    pub seed: u64,
}

/// How `retort table` prints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum TableFormat {
    /// Aligned text.
    Terminal,
    /// A Markdown table.
    Markdown,
    /// A booktabs table.
    Latex,
    /// Comma-separated values.
    Csv,
    /// Everything, as JSON.
    Json,
}

/// What can be done with a backend.
pub struct BackendReport {
    /// Whether this build has it.
    pub built: bool,
    /// Why it cannot be used now, with the remedy; `None` if it can.
    pub problem: Option<(String, String)>,
}

/// The kinds of this binary.
pub const KINDS: Kinds = Kinds {
    all: &[
        &dataset::Dataset,
        #[cfg(feature = "burn")]
        &model::Model,
        &teacher::Teacher,
        &judge::Judge,
        #[cfg(feature = "burn")]
        &assistant::Assistant,
        #[cfg(feature = "burn")]
        &student::Student,
        #[cfg(feature = "burn")]
        &mixture::Mixture,
        #[cfg(feature = "burn")]
        &evaluate::Evaluate,
        #[cfg(feature = "burn")]
        &latent::Latent,
        #[cfg(feature = "burn")]
        &latent::forgetting::Forgetting,
        &report::Report,
    ],
    table: &report::Report,
    share_base,
    render_table,
    compare_tables: report::compare,
    render_report: report::page::render,
    backends: backends::NAMES,
    dtypes: backends::DTYPES,
    backend_report: backends::report,
    backend_test: backends::test,
    ask: backends::ask,
    serve: backends::serve,
};

fn share_base(params: &mut Value, axes: &BTreeSet<&str>) {
    if params["over"].as_str().is_some_and(|over| axes.contains(over)) {
        params["one_base"] = true.into();
    }
}

fn render_table(artifact: &Path, format: TableFormat) -> Result<String, StageError> {
    let format = match format {
        TableFormat::Terminal => report::Format::Terminal,
        TableFormat::Markdown => report::Format::Markdown,
        TableFormat::Latex => report::Format::Latex,
        TableFormat::Csv => report::Format::Csv,
        TableFormat::Json => report::Format::Json,
    };
    Ok(report::render(&contract::jsonl::read_json(&artifact.join(report::files::JSON))?, format))
}

#[cfg(feature = "burn")]
mod backends {
    use std::{net::SocketAddr, sync::atomic::AtomicBool};

    use contract::StageError;

    use super::{Ask, AskError, BackendReport, Serve};

    pub(super) const NAMES: &[&str] = &lm::device::BACKENDS;

    pub(super) const DTYPES: &[&str] = &lm::device::DTYPES;

    pub(super) fn report(name: &str) -> BackendReport {
        let backend = contract::Backend { name: name.to_owned(), ..contract::Backend::default() };
        let problem = lm::device::open(&backend).err();
        BackendReport {
            built: !matches!(problem, Some(lm::device::DeviceError::NotBuilt { .. })),
            problem: problem.map(|error| (error.to_string(), error.help())),
        }
    }

    pub(super) fn test(name: &str) -> Result<String, String> {
        let test = lm::self_test(name).map_err(|error| error.to_string())?;
        let lm::SelfTest { tokens, loss, gradient_norm, weight } = test;
        Ok(format!(
            "{tokens} tokens alike, a training step off by at most {:.1e} (loss {loss:.1e}, gradient norm \
             {gradient_norm:.1e}, weights {weight:.1e})",
            loss.max(gradient_norm).max(weight)
        ))
    }

    pub(super) fn ask(ask: &Ask<'_>, on_text: &mut dyn FnMut(&str)) -> Result<bool, AskError> {
        let options = lm::ask::AskOptions {
            task: ask.task.map(str::to_owned),
            backend: ask.backend.clone(),
            max_new_tokens: ask.max_new_tokens,
            temperature: ask.temperature,
            seed: ask.seed,
        };
        options.check().map_err(AskError::Refused)?;
        let answer = lm::ask::ask(ask.model, ask.text, &options, on_text).map_err(AskError::Failed)?;
        Ok(answer.truncated)
    }

    pub(super) fn serve(
        serve: &Serve<'_>,
        cancelled: &AtomicBool,
        on_listening: &mut dyn FnMut(SocketAddr),
    ) -> Result<(), StageError> {
        let model = lm::LanguageModel::load(serve.model, &lm::device::open(&serve.backend)?)?;
        Ok(::serve::serve(model, serve.name, (serve.host, serve.port), cancelled, on_listening)?)
    }
}

#[cfg(not(feature = "burn"))]
mod backends {
    use std::{net::SocketAddr, sync::atomic::AtomicBool};

    use contract::StageError;

    use super::{Ask, AskError, BackendReport, Serve};

    pub(super) const NAMES: &[&str] = &["flex", "wgpu", "tch", "cuda"];

    pub(super) const DTYPES: &[&str] = &["f32"];

    pub(super) fn report(_: &str) -> BackendReport {
        let remedy = "build with default features".to_owned();
        BackendReport { built: false, problem: Some(("this build computes no tensors".to_owned(), remedy)) }
    }

    pub(super) fn test(_: &str) -> Result<String, String> {
        Err("this build computes no tensors".to_owned())
    }

    pub(super) fn ask(_: &Ask<'_>, _: &mut dyn FnMut(&str)) -> Result<bool, AskError> {
        Err(AskError::Refused(no_tensors()))
    }

    pub(super) fn serve(
        _: &Serve<'_>,
        _: &AtomicBool,
        _: &mut dyn FnMut(SocketAddr),
    ) -> Result<(), StageError> {
        Err(no_tensors())
    }

    fn no_tensors() -> StageError {
        StageError::failed("this build computes no tensors").with_help("build with default features")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_well_formed() {
        let mut names = BTreeSet::new();
        for kind in KINDS.all {
            let kebab = |name: &str| name.chars().all(|c| c.is_ascii_lowercase() || c == '-');
            assert!(names.insert(kind.name()), "two kinds are called {}", kind.name());
            assert!(kebab(kind.name()), "{}", kind.name());
            assert!(!kind.about().is_empty());
            assert!(kind.version() > 0);
            assert!(!kind.outputs().is_empty(), "{} makes nothing", kind.name());
            for ports in [kind.inputs(), kind.outputs()] {
                let unique: BTreeSet<_> = ports.iter().map(|port| port.name).collect();
                assert_eq!(unique.len(), ports.len(), "{} has two ports of one name", kind.name());
            }
            let schema = kind.schema();
            assert_eq!(schema["additionalProperties"], false, "{} takes unknown params", kind.name());
            for (param, schema) in schema["properties"].as_object().into_iter().flatten() {
                assert!(schema["description"].is_string(), "{}.{param} has no description", kind.name());
            }
        }
        assert!(KINDS.all.iter().any(|kind| kind.name() == KINDS.table.name()));
    }
}
