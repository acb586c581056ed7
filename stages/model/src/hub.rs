//! Models on the Hugging Face hub: `owner/name@revision`, fetched into the hub's own cache when the cell runs.
//!
//! A complete copy in the cache is used without asking the network. Only files that a model is read from are fetched, by
//! the commit that the revision stands for at that moment. The token comes from the caller and goes nowhere else.

use std::path::{Path, PathBuf};

use contract::{Context, StageError};
use hf_hub::{
    Cache, Repo, RepoType,
    api::{
        Progress,
        sync::{ApiBuilder, ApiError},
    },
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The branch where no revision is given.
const BRANCH: &str = "main";
const INDEX: &str = "model.safetensors.index.json";
const WEIGHTS: &str = "model.safetensors";

/// What stands beside the weights, where the repository has it.
const BESIDE: [&str; 5] = [
    "config.json",
    "generation_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "chat_template.jinja",
];

/// A model on the Hugging Face hub, written `owner/name@revision`: a commit, tag or branch; `main` where left out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "String", into = "String")]
#[schemars(with = "String")]
pub struct HubModel {
    repository: String,
    revision: String,
}

impl TryFrom<String> for HubModel {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let (repository, revision) = text.split_once('@').unwrap_or((&text, BRANCH));
        let plain = |part: &str| {
            let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            !part.is_empty() && !part.starts_with('.') && part.chars().all(allowed)
        };
        let named = repository.split_once('/').is_some_and(|(owner, name)| plain(owner) && plain(name));
        if !named || !revision.split('/').all(plain) {
            return Err(format!("`{text}` is not a model on the hub; write `owner/name@revision`"));
        }
        Ok(Self { repository: repository.to_owned(), revision: revision.to_owned() })
    }
}

impl From<HubModel> for String {
    fn from(model: HubModel) -> Self {
        format!("{}@{}", model.repository, model.revision)
    }
}

impl std::fmt::Display for HubModel {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "{}@{}", self.repository, self.revision)
    }
}

/// Why a model cannot be fetched.
#[derive(Debug, thiserror::Error)]
enum HubError {
    #[error("cannot fetch `{file}` of `{model}` from the hub")]
    Fetch {
        model: HubModel,
        file: String,
        #[source]
        source: Box<ApiError>,
    },
    #[error("`{model}` holds neither `config.json` with safetensors nor exactly one `.gguf` file")]
    NoModel { model: HubModel },
    #[error("the hub says that `{model}` is commit `{commit}`, which is no commit")]
    NoCommit { model: HubModel, commit: String },
    #[error("the index of `{model}` names `{file}`, which is not a file beside it")]
    Index { model: HubModel, file: String },
}

/// Where models come from and where copies are kept.
pub(crate) struct Hub {
    /// Another address than the hub's own or that of `HF_ENDPOINT`.
    pub(crate) endpoint: Option<String>,
    /// The folder of the hub's cache; `models--owner--name` folders are in it.
    pub(crate) cache: Cache,
    /// Opens repositories that are not public.
    pub(crate) token: Option<String>,
}

impl Hub {
    /// The hub as every program of its users finds it: `HF_HOME` names the cache, `HF_ENDPOINT` a mirror.
    pub(crate) fn new(token: Option<String>) -> Self {
        Self { endpoint: None, cache: Cache::from_env(), token }
    }

    /// A folder with the model in it, fetched where the cache has no complete copy.
    pub(crate) fn folder(&self, model: &HubModel, context: &Context) -> Result<PathBuf, StageError> {
        let (folder, commit) = match self.cached(model) {
            Some(found) => found,
            None => self.fetch(model, context)?,
        };
        if commit != model.revision {
            context.note(format!(
                "`{}` of `{}` can move; it is commit {commit} here: write that to always get the same model",
                model.revision, model.repository
            ));
        }
        Ok(folder)
    }

    fn repo(model: &HubModel, revision: &str) -> Repo {
        Repo::with_revision(model.repository.clone(), RepoType::Model, revision.to_owned())
    }

    /// A complete copy in the cache, and its commit.
    fn cached(&self, model: &HubModel) -> Option<(PathBuf, String)> {
        let repo = Self::repo(model, &model.revision);
        let reference = self.cache.path().join(repo.folder_name()).join("refs").join(&model.revision);
        let commit = if is_commit(&model.revision) {
            model.revision.clone()
        } else {
            std::fs::read_to_string(reference).ok()?.trim().to_owned()
        };
        let folder = self.cache.repo(repo).pointer_path(&commit);
        (is_commit(&commit) && is_complete(&folder)).then_some((folder, commit))
    }

    fn fetch(&self, model: &HubModel, context: &Context) -> Result<(PathBuf, String), StageError> {
        let failed = |file: &str| {
            let file = file.to_owned();
            move |source: ApiError| {
                let source = Box::new(source);
                StageError::failed(HubError::Fetch { model: model.clone(), file, source })
                    .with_help(help(model))
            }
        };
        let mut builder = ApiBuilder::from_env()
            .with_cache_dir(self.cache.path().clone())
            .with_progress(false)
            .with_token(self.token.clone());
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint.clone());
        }
        let api = builder.build().map_err(failed("the list of files"))?;
        let info =
            api.repo(Self::repo(model, &model.revision)).info().map_err(failed("the list of files"))?;
        let commit = info.sha;
        if !is_commit(&commit) {
            return Err(StageError::failed(HubError::NoCommit { model: model.clone(), commit }));
        }
        let files: Vec<String> = info.siblings.into_iter().map(|sibling| sibling.rfilename).collect();
        let pinned = api.repo(Self::repo(model, &commit));
        let get = |file: &str| {
            context.check_cancelled()?;
            if let Some(path) = self.cache.repo(Self::repo(model, &commit)).get(file) {
                return Ok(path);
            }
            let megabytes = Megabytes { context, done: 0, total: 0 };
            pinned.download_with_progress(file, megabytes).map_err(failed(file))
        };
        let mut wanted =
            wanted(&files).ok_or_else(|| StageError::failed(HubError::NoModel { model: model.clone() }))?;
        if wanted.iter().any(|file| file == INDEX) {
            wanted.extend(shards(&get(INDEX)?, model)?);
        }
        for file in &wanted {
            get(file)?;
        }
        // The branch now stands for this commit, in the cache of every program that shares it.
        let cached = self.cache.repo(Self::repo(model, &model.revision));
        cached
            .create_ref(&commit)
            .map_err(|source| StageError::Io { path: self.cache.path().clone(), source })?;
        Ok((cached.pointer_path(&commit), commit))
    }
}

fn help(model: &HubModel) -> String {
    let HubModel { repository, revision } = model;
    format!(
        "check the name, the revision and the network; a gated or private repository needs a token in HF_TOKEN. \
         Without a network: run `hf download {repository} --revision {revision} --local-dir DIR` where there is \
         one, and write `source: {{folder: {{path: DIR}}}}`"
    )
}

fn is_commit(text: &str) -> bool {
    text.len() == 40 && text.chars().all(|c| c.is_ascii_hexdigit())
}

/// The files a model is read from, shards aside; nothing where there is no model.
fn wanted(files: &[String]) -> Option<Vec<String>> {
    let has = |name: &str| files.iter().any(|file| file == name);
    let weights = [WEIGHTS, INDEX].into_iter().find(|name| has(name));
    if let (true, Some(weights)) = (has(BESIDE[0]), weights) {
        let beside = BESIDE.into_iter().filter(|name| has(name));
        return Some(beside.chain([weights]).map(str::to_owned).collect());
    }
    let mut gguf = files.iter().filter(|file| file.ends_with(".gguf") && !file.contains(['/', '\\']));
    match (gguf.next(), gguf.next()) {
        (Some(file), None) => Some(vec![file.clone()]),
        _ => None,
    }
}

/// The shards that an index names.
fn shards(index: &Path, model: &HubModel) -> Result<Vec<String>, StageError> {
    let bytes = std::fs::read(index).map_err(StageError::io(index))?;
    let index: serde_json::Value = serde_json::from_slice(&bytes).unwrap_or_default();
    let map = index["weight_map"].as_object().into_iter().flatten();
    let mut files: Vec<String> = map.filter_map(|(_, file)| file.as_str().map(str::to_owned)).collect();
    files.sort_unstable();
    files.dedup();
    match files.iter().find(|file| !file.ends_with(".safetensors") || file.contains(['/', '\\'])) {
        Some(file) => Err(StageError::failed(HubError::Index { model: model.clone(), file: file.clone() })),
        None => Ok(files),
    }
}

/// Whether a folder of the cache holds all that a model is read from.
fn is_complete(folder: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(folder) else { return false };
    let files: Vec<String> = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    let Some(wanted) = wanted(&files) else { return false };
    if wanted.iter().any(|file| file.ends_with(".gguf")) {
        return true;
    }
    // A tokenizer comes with every folder we can read, and an index with its shards.
    let index: serde_json::Value = std::fs::read(folder.join(INDEX))
        .ok()
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .unwrap_or_default();
    let mut shards = index["weight_map"].as_object().into_iter().flatten();
    let has = |name: &str| folder.join(name).exists();
    has("tokenizer.json") && (has(WEIGHTS) || shards.all(|(_, file)| file.as_str().is_some_and(has)))
}

/// Tells how much of a file is here.
struct Megabytes<'a, 'b> {
    context: &'a Context<'b>,
    done: usize,
    total: usize,
}

const MEGABYTE: usize = 1_000_000;

impl Progress for Megabytes<'_, '_> {
    fn init(&mut self, size: usize, _: &str) {
        self.total = size.div_ceil(MEGABYTE);
    }

    fn update(&mut self, size: usize) {
        let before = self.done / MEGABYTE;
        self.done += size;
        if self.done / MEGABYTE > before {
            self.context.progress(self.done / MEGABYTE, self.total, "MB");
        }
    }

    fn finish(&mut self) {}
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
