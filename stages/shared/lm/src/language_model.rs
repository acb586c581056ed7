//! A model with its tokenizer: a Hugging Face folder in memory.

use std::{
    fs,
    path::{Path, PathBuf},
};

use burn::{
    store::{
        BurnToPyTorchAdapter, FloatCastAdapter, ModuleAdapter, ModuleSnapshot, PyTorchToBurnAdapter,
        SafetensorsStore,
    },
    tensor::{DType, Device},
};
use serde_json::{Value, json};

use crate::{
    chat::ChatError,
    llama::{Llama, LlamaConfig},
    tokenizer::{Special, Tokenizer},
};

const CONFIG: &str = "config.json";
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const GENERATION_CONFIG: &str = "generation_config.json";
const CHAT_TEMPLATE: &str = "chat_template.jinja";
const WEIGHTS: &str = "model.safetensors";

/// What can go wrong with a model folder, a tokenizer or a training sequence.
#[derive(Debug, thiserror::Error)]
pub enum LmError {
    /// A file could not be read or written.
    #[error("cannot access `{}`", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: std::io::Error,
    },
    /// A JSON file is not what it should be.
    #[error("`{}` is not a model configuration: {source}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: serde_json::Error,
    },
    /// The model uses something this code does not compute.
    #[error("`{}`: `{field}` is not supported: {problem}", path.display())]
    Unsupported {
        /// The configuration.
        path: PathBuf,
        /// The field.
        field: &'static str,
        /// What would be supported.
        problem: String,
    },
    /// The weights do not fit the configuration, or cannot be read or written.
    #[error("`{}`: {problem}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// A tokenizer file is none.
    #[error("`{}` is not a tokenizer: {source}", path.display())]
    TokenizerFile {
        /// The file.
        path: PathBuf,
        /// What the library said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The chat template does not compile, or refuses what is asked.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// The tokenizers library refused.
    #[error("tokenizer: {0}")]
    Tokenizer(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A rationale does not end in its answer suffix.
    #[error("the text does not end in `{suffix}`")]
    NoSuffix {
        /// The suffix.
        suffix: String,
    },
    /// A checkpoint was made by another model, or is damaged.
    #[error("checkpoint `{}`: {problem}", path.display())]
    Checkpoint {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
}

impl From<LmError> for contract::StageError {
    fn from(error: LmError) -> Self {
        match error {
            LmError::Io { path, source } => Self::Io { path, source },
            LmError::Chat(error) => {
                let help = error.help();
                Self::failed(error).with_help(help)
            }
            error => Self::failed(error),
        }
    }
}

/// A model with its configuration and tokenizer.
#[derive(Clone, Debug)]
pub struct LanguageModel {
    /// The weights, without autodiff unless someone turned it on.
    pub model: Llama,
    /// The configuration.
    pub config: LlamaConfig,
    /// The tokenizer.
    pub tokenizer: Tokenizer,
}

impl LanguageModel {
    /// Reads a Hugging Face folder: `config.json`, `tokenizer.json`, `model.safetensors`.
    pub fn load(folder: &Path, device: &Device) -> Result<Self, LmError> {
        let path = folder.join(CONFIG);
        let bytes = fs::read(&path).map_err(|source| LmError::Io { path: path.clone(), source })?;
        let config: LlamaConfig = serde_json::from_slice(&bytes)
            .map_err(|source| LmError::Config { path: path.clone(), source })?;
        if let Some((field, problem)) = config.problems().into_iter().next() {
            return Err(LmError::Unsupported { path, field, problem });
        }
        let (eos, pad) = (config.eos_token_id, config.pad_token_id.unwrap_or(config.eos_token_id));
        let special = Special { bos: config.bos_token_id, ..Special::new(eos, pad) };
        let tokenizer = Tokenizer::load(&folder.join(TOKENIZER), Special::default())?;
        let tokenizer = tokenizer.with_special(read_chat(folder, special)?);

        let path = folder.join(WEIGHTS);
        let mut model = Llama::blank(&config, device);
        let adapter = PyTorchToBurnAdapter.chain(FloatCastAdapter::to(DType::F32));
        let mut store = SafetensorsStore::from_file(&path).with_from_adapter(adapter);
        model.load_from(&mut store).map_err(|error| LmError::Weights { path, problem: error.to_string() })?;
        Ok(Self { model, config, tokenizer })
    }

    /// Writes a Hugging Face folder that transformers can read; equal models give equal bytes.
    pub fn save(&self, folder: &Path) -> Result<(), LmError> {
        let write = |name: &str, value: &serde_json::Value| {
            let path = folder.join(name);
            let text = serde_json::to_string_pretty(value).expect("plain data serializes") + "\n";
            fs::write(&path, text).map_err(|source| LmError::Io { path, source })
        };
        write(CONFIG, &serde_json::to_value(&self.config).expect("plain data serializes"))?;
        self.tokenizer.save(&folder.join(TOKENIZER))?;
        let mut tokenizer_config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": self.tokenizer.token(self.tokenizer.eos()),
            "pad_token": self.tokenizer.token(self.tokenizer.pad()),
            "model_max_length": self.config.max_position_embeddings,
            "clean_up_tokenization_spaces": false,
        });
        if let Some(bos) = self.tokenizer.bos().and_then(|bos| self.tokenizer.token(bos)) {
            tokenizer_config["bos_token"] = json!(bos);
        }
        if let Some(template) = self.tokenizer.chat_template() {
            tokenizer_config["chat_template"] = json!(template);
        }
        write(TOKENIZER_CONFIG, &tokenizer_config)?;
        write(GENERATION_CONFIG, &json!({"eos_token_id": self.tokenizer.stops()}))?;

        let path = folder.join(WEIGHTS);
        // One metadata entry only: more would be written in the random order of a hash map.
        let mut store = SafetensorsStore::from_file(&path)
            .with_to_adapter(BurnToPyTorchAdapter)
            .clear_metadata()
            .metadata("format", "pt")
            .overwrite(true);
        self.model
            .save_into(&mut store)
            .map_err(|error| LmError::Weights { path, problem: error.to_string() })
    }
}

/// Adds the chat template, from `chat_template.jinja` or `tokenizer_config.json`, and every token that ends an answer, from
/// `generation_config.json`.
fn read_chat(folder: &Path, special: Special) -> Result<Special, LmError> {
    let read = |name: &str| -> Result<Option<Vec<u8>>, LmError> {
        let path = folder.join(name);
        let bytes = path.exists().then(|| fs::read(&path)).transpose();
        bytes.map_err(|source| LmError::Io { path, source })
    };
    let json = |name: &str| -> Result<Value, LmError> {
        let bytes = read(name)?.unwrap_or_else(|| b"{}".to_vec());
        let failed = |source| LmError::Config { path: folder.join(name), source };
        serde_json::from_slice(&bytes).map_err(failed)
    };
    let chat_template = match read(CHAT_TEMPLATE)? {
        Some(template) => Some(String::from_utf8_lossy(&template).into_owned()),
        None => json(TOKENIZER_CONFIG)?["chat_template"].as_str().map(str::to_owned),
    };
    let mut stops = special.stops.clone();
    let ends = json(GENERATION_CONFIG)?["eos_token_id"].take();
    let ends = ends.as_array().cloned().unwrap_or_else(|| vec![ends]);
    for id in ends.iter().filter_map(Value::as_u64).filter_map(|id| u32::try_from(id).ok()) {
        if !stops.contains(&id) {
            stops.push(id);
        }
    }
    Ok(Special { stops, chat_template, ..special })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::{batch::collate, fixture};

    #[test]
    fn saved_and_loaded_models_are_equal_and_so_are_their_bytes() {
        let (one, two) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let model = fixture::language_model(1);
        model.save(one.path()).unwrap();
        let loaded = LanguageModel::load(one.path(), &fixture::device()).unwrap();
        loaded.save(two.path()).unwrap();
        for name in [CONFIG, TOKENIZER, TOKENIZER_CONFIG, WEIGHTS] {
            let read = |folder: &tempfile::TempDir| fs::read(folder.path().join(name)).unwrap();
            assert_eq!(read(&one), read(&two), "{name}");
        }
        let sequences = fixture::sequences(2);
        let batch = collate(&sequences.iter().collect::<Vec<_>>(), 0, &fixture::device());
        assert_eq!(batch.hidden(&model.model).to_data(), batch.hidden(&loaded.model).to_data());
        assert_eq!(loaded.config, model.config);
    }

    #[test]
    fn a_chat_template_and_stop_tokens_survive_the_disk() {
        let folder = tempfile::tempdir().unwrap();
        let mut model = fixture::language_model(1);
        let special = Special::new(model.tokenizer.eos(), model.tokenizer.pad());
        let special = Special { stops: vec![1, 7], chat_template: Some("{{ eos_token }}".into()), ..special };
        model.tokenizer = model.tokenizer.with_special(special);
        model.save(folder.path()).unwrap();
        let load = || LanguageModel::load(folder.path(), &fixture::device()).unwrap().tokenizer;
        assert_eq!(load().chat_template(), Some("{{ eos_token }}"));
        assert_eq!(load().stops(), [1, 7]);
        fs::write(folder.path().join(CHAT_TEMPLATE), "a file of its own").unwrap();
        fs::write(folder.path().join(GENERATION_CONFIG), r#"{"eos_token_id": 9}"#).unwrap();
        assert_eq!(load().chat_template(), Some("a file of its own"));
        assert_eq!(load().stops(), [1, 9]);
    }

    #[test]
    fn the_weights_have_the_names_and_shapes_of_the_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        fixture::tiny_llama_model().save(folder.path()).unwrap();
        let ours = fs::read(folder.path().join(WEIGHTS)).unwrap();
        let theirs = fs::read(fixture::tiny_llama().join(WEIGHTS)).unwrap();
        let (ours, theirs) = (
            safetensors::SafeTensors::deserialize(&ours).unwrap(),
            safetensors::SafeTensors::deserialize(&theirs).unwrap(),
        );
        assert_eq!(ours.len(), theirs.len());
        for (name, view) in theirs.iter() {
            assert_eq!(ours.tensor(name).unwrap(), view, "{name}");
        }
    }

    #[test]
    fn a_folder_that_does_not_fit_is_refused_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let model = fixture::language_model(1);
        model.save(folder.path()).unwrap();
        let mut config = model.config.clone();
        config.rope_scaling = Some(serde_json::json!({"factor": 8.0}));
        fs::write(folder.path().join(CONFIG), serde_json::to_vec(&config).unwrap()).unwrap();
        let error = LanguageModel::load(folder.path(), &fixture::device()).unwrap_err();
        assert!(error.to_string().contains("`rope_scaling` is not supported"), "{error}");

        let mut config = model.config.clone();
        config.num_hidden_layers = 3;
        fs::write(folder.path().join(CONFIG), serde_json::to_vec(&config).unwrap()).unwrap();
        let error = LanguageModel::load(folder.path(), &fixture::device()).unwrap_err();
        assert!(matches!(error, LmError::Weights { .. }), "{error}");

        fs::remove_file(folder.path().join(CONFIG)).unwrap();
        let error = LanguageModel::load(folder.path(), &fixture::device()).unwrap_err();
        assert!(matches!(error, LmError::Io { .. }), "{error}");
    }
}
