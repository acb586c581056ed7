//! `ask`, `serve` and `export`: what to do with a model once there is one.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::AtomicBool,
};

use contract::{ArtifactType, Backend};

use super::{CliError, exit, inspect, print};
use crate::{
    graph::Graph,
    kinds::{Ask, AskError, Kinds, Serve},
    log::describe,
    reporter::{bytes, say},
    store::{Store, list},
};

/// The folder of the one model a target means.
pub(super) fn find(graph: &Graph, store: &Store, target: &str) -> Result<PathBuf, CliError> {
    let shown = inspect::artifacts(graph, store, target)?;
    let mut models = shown.into_iter().filter(|shown| shown.artifact == ArtifactType::Model);
    match (models.next(), models.next()) {
        (Some(model), None) => Ok(model.folder),
        (None, _) => Err(CliError::Asked {
            message: format!("`{target}` holds no model"),
            help: Some(format!("cells with a model: {}", with_a_model(graph).join(", "))),
        }),
        (Some(one), Some(other)) => Err(CliError::Asked {
            message: format!("`{target}` means several models"),
            help: Some(format!(
                "name one of them: `{}:{}`, `{}:{}`",
                one.cell, one.port, other.cell, other.port
            )),
        }),
    }
}

/// The names of some cells that make a model.
fn with_a_model(graph: &Graph) -> Vec<String> {
    let makes = |stage: &&crate::graph::StageNode| {
        stage.kind.outputs().iter().any(|port| port.artifact == ArtifactType::Model)
    };
    let first = graph.stages.iter().filter(makes).filter_map(|stage| stage.cells.first());
    first.map(|cell| format!("`{}`", graph.cells[*cell].name)).collect()
}

/// A model on disk that no recipe speaks of.
pub(super) fn there(path: &str) -> Result<PathBuf, CliError> {
    let folder = PathBuf::from(path);
    if folder.exists() {
        return Ok(folder);
    }
    Err(CliError::Asked {
        message: format!("`{path}` does not exist"),
        help: Some("name a model's folder, or a recipe and one of its cells".to_owned()),
    })
}

/// The backend of a model that no recipe speaks of.
pub(super) fn backend(kinds: &Kinds, name: Option<&str>) -> Result<Backend, CliError> {
    let Some(name) = name else { return Ok(Backend::default()) };
    if kinds.backends.contains(&name) {
        return Ok(Backend { name: name.to_owned(), ..Backend::default() });
    }
    Err(CliError::Asked {
        message: format!("unknown backend `{name}`"),
        help: Some("`retort backends` lists what this build and machine can use".to_owned()),
    })
}

/// Prints the answer as it is written.
pub(super) fn ask(kinds: &Kinds, question: &Ask<'_>) -> Result<u8, CliError> {
    let answered = (kinds.ask)(question, &mut |piece| print(piece));
    let truncated = answered.map_err(|error| match error {
        AskError::Refused(error) => {
            CliError::Asked { message: describe(&error), help: error.help().map(str::to_owned) }
        }
        AskError::Failed(error) => error.into(),
    })?;
    print("\n");
    if truncated {
        say(&format!("note: cut at {} tokens; `--max-new-tokens` allows more", question.max_new_tokens));
    }
    Ok(exit::DONE)
}

/// What a model in a folder is called: the folder's name.
pub(super) fn name(folder: &Path) -> String {
    let resolved = folder.canonicalize();
    let named = resolved.as_deref().unwrap_or(folder);
    named.file_name().map_or_else(|| "model".to_owned(), |name| name.to_string_lossy().into_owned())
}

/// Serves a model until it is told to end.
pub(super) fn serve(kinds: &Kinds, serve: &Serve<'_>, cancelled: &AtomicBool) -> Result<u8, CliError> {
    (kinds.serve)(serve, cancelled, &mut |address| {
        let url = format!("http://{address}/v1");
        say(&format!("serving `{}` at {url}; Ctrl-C ends it", serve.name));
        if serve.port == 0 {
            print(&format!("{url}\n"));
        }
    })?;
    Ok(exit::DONE)
}

/// Copies a model into a folder that is empty or not there yet.
pub(super) fn export(model: &Path, folder: &Path) -> Result<u8, CliError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        |source| CliError::Write { path, source }
    };
    fs::create_dir_all(folder).map_err(failed(folder))?;
    if fs::read_dir(folder).map_err(failed(folder))?.next().is_some() {
        return Err(CliError::Asked {
            message: format!("`{}` is not empty", folder.display()),
            help: Some("name another folder".to_owned()),
        });
    }
    let mut total = 0;
    for (file, size) in list(model)? {
        let target = folder.join(&file);
        if let Some(parent) = target.parent() {
            fs::create_dir_all(parent).map_err(failed(parent))?;
        }
        // A copy, never a link: what a user does to it must not reach the store.
        let content = fs::read(model.join(&file)).map_err(failed(&model.join(&file)))?;
        fs::write(&target, content).map_err(failed(&target))?;
        total += size;
    }
    say(&format!("wrote {} ({}), a Hugging Face folder", folder.display(), bytes(total)));
    Ok(exit::DONE)
}
