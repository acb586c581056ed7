//! A model with its tokenizer: a Hugging Face folder or a GGUF file in memory, and the folder it is written to.

use std::{
    fs,
    path::{Path, PathBuf},
};

use burn::{
    store::{BurnToPyTorchAdapter, ModuleSnapshot, SafetensorsStore},
    tensor::Device,
};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::{
    chat::ChatError,
    config::{self, CONFIG, GENERATION_CONFIG},
    gguf::GgufError,
    gguf_checkpoint::GgufCheckpoint,
    gguf_tokenizer,
    llama::{Llama, LlamaConfig},
    lora,
    shards::{Shards, ShardsError, WEIGHTS},
    tokenizer::{Special, Tokenizer},
    weights::{self, Weights},
};

const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_CONFIG: &str = "tokenizer_config.json";
const CHAT_TEMPLATE: &str = "chat_template.jinja";

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
    #[error("`{}` does not describe a model: {source}", path.display())]
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
    /// A GGUF file is damaged, or asks for what we do not read.
    #[error(transparent)]
    Gguf(Box<GgufError>),
    /// Safetensors files are damaged or missing.
    #[error(transparent)]
    Shards(Box<ShardsError>),
    /// A tokenizer file is none.
    #[error("`{}` is not a tokenizer: {source}", path.display())]
    TokenizerFile {
        /// The file.
        path: PathBuf,
        /// What the library said.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A configuration names a token that the tokenizer does not have, or the tokenizer one that the model does not.
    #[error("`{}`: {problem}", path.display())]
    Tokens {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        problem: String,
    },
    /// The chat template does not compile, or refuses what is asked.
    #[error(transparent)]
    Chat(#[from] ChatError),
    /// The tokenizers library refused.
    #[error("tokenizer: {0}")]
    Tokenizer(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// A prompt and what may follow it are longer than the model's positions.
    #[error(
        "`{item}`: a prompt of {prompt} tokens and {new} new ones do not fit the model's {limit} positions"
    )]
    TooLong {
        /// What was asked.
        item: String,
        /// Tokens of the prompt.
        prompt: usize,
        /// Tokens that may be generated.
        new: usize,
        /// `max_position_embeddings`.
        limit: usize,
    },
    /// A rationale does not end in its answer suffix.
    #[error("the text does not end in `{suffix}`")]
    NoSuffix {
        /// The suffix.
        suffix: String,
    },
    /// A loss or a gradient is infinite or not a number.
    #[error("training diverged: a loss or gradient of step {step} is not finite")]
    Diverged {
        /// The optimizer step, from 1.
        step: usize,
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

impl From<GgufError> for LmError {
    fn from(error: GgufError) -> Self {
        Self::Gguf(Box::new(error))
    }
}

impl From<ShardsError> for LmError {
    fn from(error: ShardsError) -> Self {
        Self::Shards(Box::new(error))
    }
}

impl From<LmError> for contract::StageError {
    fn from(error: LmError) -> Self {
        match error {
            LmError::Io { path, source } => Self::Io { path, source },
            LmError::Chat(error) => {
                let help = error.help();
                Self::failed(error).with_help(help)
            }
            error @ LmError::TooLong { .. } => {
                Self::failed(error).with_help("lower `max_new_tokens`, or shorten the prompt")
            }
            error @ LmError::Diverged { .. } => {
                Self::failed(error).with_help("lower `learning_rate`, or warm it up for longer")
            }
            LmError::Checkpoint { ref path, .. } => {
                let remedy = format!("remove `{}`, and training starts anew", path.display());
                Self::failed(error).with_help(remedy)
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
    /// Reads a checkpoint: a Hugging Face folder (`config.json`, `tokenizer.json`, safetensors), a folder that holds no
    /// such thing but exactly one `.gguf` file, or a `.gguf` file. Weights become 32-bit floats.
    pub fn load(path: &Path, device: &Device) -> Result<Self, LmError> {
        match gguf_file(path)? {
            Some(file) => Self::load_gguf(&file, device),
            None => Self::load_folder(path, device),
        }
    }

    fn load_folder(folder: &Path, device: &Device) -> Result<Self, LmError> {
        let config = config::load(folder)?;
        let path = folder.join(TOKENIZER);
        let tokenizer = Tokenizer::load(&path, Special::default())?;
        let written: TokenizerConfig = match folder.join(TOKENIZER_CONFIG) {
            path if path.exists() => config::read_json(&path)?,
            _ => TokenizerConfig::default(),
        };
        let id = |token: &Option<TokenName>| token.as_ref().and_then(|token| tokenizer.id(&token.0));
        let template = folder.join(CHAT_TEMPLATE);
        let chat_template = if template.exists() {
            Some(fs::read_to_string(&template).map_err(|source| LmError::Io { path: template, source })?)
        } else {
            written.chat_template.map(|template| template.0)
        };
        let (eos, pad) = (id(&written.eos_token), id(&written.pad_token));
        let special = special(&config, eos, pad, chat_template);
        let tokenizer = fitting(tokenizer, special, &config, &path)?;
        let model = weights::load(&config, &FolderWeights(Shards::open(folder)?), device)?;
        Ok(Self { model, config, tokenizer })
    }

    fn load_gguf(path: &Path, device: &Device) -> Result<Self, LmError> {
        let checkpoint = GgufCheckpoint::open(path)?;
        let config = checkpoint.config().clone();
        let json = gguf_tokenizer::tokenizer_json(checkpoint.file(), config.bos_token_id)?.to_string();
        let special = special(&config, None, None, gguf_tokenizer::chat_template(checkpoint.file())?);
        let tokenizer = Tokenizer::parse(path, json.as_bytes(), Special::default())?;
        let tokenizer = fitting(tokenizer, special, &config, path)?;
        let model = weights::load(&config, &checkpoint, device)?;
        Ok(Self { model, config, tokenizer })
    }

    /// Writes a Hugging Face folder that transformers can read; equal models give equal bytes. An adapter is merged into the
    /// weights; [`crate::lora::save`] writes it alone.
    pub fn save(&self, folder: &Path) -> Result<(), LmError> {
        let write = |name: &str, value: &Value| {
            let path = folder.join(name);
            let text = serde_json::to_string_pretty(value).expect("plain data serializes") + "\n";
            fs::write(&path, text).map_err(|source| LmError::Io { path, source })
        };
        write(CONFIG, &config::to_json(&self.config))?;
        write(GENERATION_CONFIG, &config::generation_json(&self.config))?;
        self.tokenizer.save(&folder.join(TOKENIZER))?;
        let token = |id: u32| self.tokenizer.token(id);
        let mut tokenizer_config = json!({
            "tokenizer_class": "PreTrainedTokenizerFast",
            "eos_token": token(self.tokenizer.eos()),
            "pad_token": token(self.tokenizer.pad()),
            "model_max_length": self.config.max_position_embeddings,
            "clean_up_tokenization_spaces": false,
        });
        if let Some(bos) = self.tokenizer.bos().and_then(token) {
            tokenizer_config["bos_token"] = json!(bos);
        }
        if let Some(template) = self.tokenizer.chat_template() {
            tokenizer_config["chat_template"] = json!(template);
        }
        write(TOKENIZER_CONFIG, &tokenizer_config)?;

        let path = folder.join(WEIGHTS);
        // One metadata entry only: more would be written in the random order of a hash map.
        let mut store = SafetensorsStore::from_file(&path)
            .with_to_adapter(BurnToPyTorchAdapter)
            .clear_metadata()
            .metadata("format", "pt")
            .overwrite(true);
        lora::merge(self.model.clone())
            .save_into(&mut store)
            .map_err(|error| LmError::Weights { path, problem: error.to_string() })
    }
}

struct FolderWeights(Shards);

impl Weights for FolderWeights {
    fn path(&self) -> &Path {
        self.0.path()
    }

    fn shapes(&self) -> Vec<(&str, &[usize])> {
        self.0.shapes().collect()
    }

    fn read(&self, name: &str) -> Result<Vec<f32>, LmError> {
        Ok(self.0.read(name)?)
    }
}

/// What of a `tokenizer_config.json` we read.
#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenizerConfig {
    eos_token: Option<TokenName>,
    pad_token: Option<TokenName>,
    chat_template: Option<Template>,
}

/// A token's text, bare or as the `content` of an object.
#[derive(Deserialize)]
#[serde(try_from = "Value")]
struct TokenName(String);

impl TryFrom<Value> for TokenName {
    type Error = &'static str;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        let name = value.as_str().or_else(|| value.get("content")?.as_str());
        name.map(|name| Self(name.to_owned())).ok_or("a special token is neither text nor has `content`")
    }
}

/// A chat template, bare or the one named `default` of several.
#[derive(Deserialize)]
#[serde(try_from = "Value")]
struct Template(String);

impl TryFrom<Value> for Template {
    type Error = &'static str;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        let named = || value.as_array()?.iter().find(|template| template["name"] == "default");
        let text = value.as_str().or_else(|| named()?["template"].as_str());
        text.map(|text| Self(text.to_owned())).ok_or("no `chat_template` is text or named `default`")
    }
}

/// The GGUF file that a path means, if it means one.
fn gguf_file(path: &Path) -> Result<Option<PathBuf>, LmError> {
    let is_gguf =
        |path: &Path| path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gguf"));
    if !path.is_dir() {
        return Ok(is_gguf(path).then(|| path.to_owned()));
    }
    if path.join(CONFIG).exists() {
        return Ok(None);
    }
    let io = |source| LmError::Io { path: path.to_owned(), source };
    let entries: Vec<PathBuf> = fs::read_dir(path)
        .and_then(|entries| entries.map(|entry| entry.map(|entry| entry.path())).collect())
        .map_err(io)?;
    let mut files = entries.into_iter().filter(|path| is_gguf(path));
    Ok(files.next().filter(|_| files.next().is_none()))
}

/// The tokens with a meaning. A training text ends in the token that `tokenizer_config.json` names, where it is one that
/// ends a text at all, and in the first of those otherwise.
fn special(
    config: &LlamaConfig,
    eos: Option<u32>,
    pad: Option<u32>,
    chat_template: Option<String>,
) -> Special {
    let stops = config.eos_token_id.clone();
    let eos = eos.filter(|id| stops.contains(id)).unwrap_or(stops[0]);
    let pad = config.pad_token_id.or(pad).unwrap_or(eos);
    Special { bos: config.bos_token_id, eos, stops, pad, chat_template }
}

/// The tokenizer with its special tokens, once it is known that ids and rows of the embedding table agree.
fn fitting(
    tokenizer: Tokenizer,
    special: Special,
    config: &LlamaConfig,
    path: &Path,
) -> Result<Tokenizer, LmError> {
    let refuse = |problem: String| Err(LmError::Tokens { path: path.to_owned(), problem });
    let (largest, rows) = (tokenizer.largest_id(), config.vocab_size);
    if largest as usize >= rows {
        return refuse(format!("token {largest} has no row in the embedding table of {rows}"));
    }
    for (field, id) in
        special.stops.iter().map(|id| ("eos_token_id", *id)).chain([("pad_token_id", special.pad)])
    {
        if tokenizer.token(id).is_none() {
            return refuse(format!("`{field}` is {id}, which is no token"));
        }
    }
    Ok(tokenizer.with_special(special))
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
        for name in [CONFIG, GENERATION_CONFIG, TOKENIZER, TOKENIZER_CONFIG, WEIGHTS] {
            let read = |folder: &tempfile::TempDir| fs::read(folder.path().join(name)).unwrap();
            assert_eq!(read(&one), read(&two), "{name}");
        }
        let sequences = fixture::sequences(2);
        let batch = collate(&sequences.iter().collect::<Vec<_>>(), &fixture::device());
        assert_eq!(batch.hidden(&model.model).to_data(), batch.hidden(&loaded.model).to_data());
        assert_eq!(loaded.config, model.config);
    }

    #[test]
    fn the_weights_have_the_names_and_shapes_of_the_checkpoint() {
        let folder = tempfile::tempdir().unwrap();
        fixture::loaded("tiny-llama").save(folder.path()).unwrap();
        let ours = fs::read(folder.path().join(WEIGHTS)).unwrap();
        let theirs = fs::read(fixture::folder("tiny-llama").join(WEIGHTS)).unwrap();
        let (ours, theirs) = (
            safetensors::SafeTensors::deserialize(&ours).unwrap(),
            safetensors::SafeTensors::deserialize(&theirs).unwrap(),
        );
        assert_eq!(ours.len(), theirs.len());
        for (name, view) in theirs.iter() {
            assert_eq!(ours.tensor(name).unwrap(), view, "{name}");
        }
    }

    /// Saves a small model, changes its files, and returns why it is refused.
    fn refused(change: impl FnOnce(&Path, &mut Value)) -> LmError {
        let folder = tempfile::tempdir().unwrap();
        fixture::language_model(1).save(folder.path()).unwrap();
        let mut config: Value = config::read_json(&folder.path().join(CONFIG)).unwrap();
        change(folder.path(), &mut config);
        fs::write(folder.path().join(CONFIG), config.to_string()).unwrap();
        LanguageModel::load(folder.path(), &fixture::device()).unwrap_err()
    }

    #[test]
    fn a_folder_that_does_not_fit_is_refused_by_name() {
        let text = |change: fn(&Path, &mut Value)| refused(change).to_string();
        let scaling = text(|_, config| config["rope_scaling"] = json!({"rope_type": "yarn"}));
        assert!(scaling.contains("config.json`: `rope_scaling` is not supported"), "{scaling}");
        let more = text(|_, config| config["num_hidden_layers"] = json!(3));
        assert!(more.contains("model.safetensors`: it holds 25120 values"), "{more}");
        let huge = text(|_, config| config["num_hidden_layers"] = json!(1u64 << 62));
        assert!(huge.contains("describes more than any machine holds"), "{huge}");
        let fewer = text(|_, config| config["num_hidden_layers"] = json!(1));
        assert!(fewer.contains("does not describe `model.layers.1.input_layernorm.weight`"), "{fewer}");
        assert!(fewer.ends_with("and 6 more"), "{fewer}");
        let other = text(|_, config| {
            config["num_attention_heads"] = json!(2);
            config["num_key_value_heads"] = json!(2);
            config["head_dim"] = json!(8);
        });
        assert!(other.ends_with("self_attn.q_proj.weight` has shape [32, 32], not [16, 32]"), "{other}");
        let qwen2 = text(|_, config| config["model_type"] = json!("qwen2"));
        assert!(qwen2.contains("describes 25248"), "{qwen2}");
        let untied = text(|_, config| config["tie_word_embeddings"] = json!(false));
        assert!(untied.contains("describes 34720"), "{untied}");
        let token = text(|folder, _| {
            fs::write(folder.join(GENERATION_CONFIG), r#"{"eos_token_id": [1, 299]}"#).unwrap();
        });
        assert!(token.ends_with("tokenizer.json`: `eos_token_id` is 299, which is no token"), "{token}");
        let broken = text(|folder, _| fs::write(folder.join(TOKENIZER), "{").unwrap());
        assert!(broken.contains("tokenizer.json` is not a tokenizer"), "{broken}");
        let wrong = text(|_, config| config["hidden_size"] = json!("wide"));
        assert!(wrong.contains("config.json` does not describe a model"), "{wrong}");
    }

    #[test]
    fn what_is_not_there_is_named() {
        let gone = Path::new("no/such/folder");
        let error = LanguageModel::load(gone, &fixture::device()).unwrap_err();
        assert!(matches!(error, LmError::Io { .. }), "{error}");
        let error = refused(|folder, _| fs::remove_file(folder.join(WEIGHTS)).unwrap());
        assert!(error.to_string().contains("holds neither `model.safetensors`"), "{error}");
    }

    #[test]
    fn one_gguf_in_a_folder_is_the_model() {
        let folder = tempfile::tempdir().unwrap();
        fs::copy(fixture::folder("tiny-qwen2.gguf"), folder.path().join("model.gguf")).unwrap();
        fs::write(folder.path().join("README.md"), "").unwrap();
        let model = LanguageModel::load(folder.path(), &fixture::device()).unwrap();
        fixture::assert_reference_logits("tiny-qwen2", &model, 1e-5);
        // Two would be a guess.
        fs::copy(fixture::folder("tiny-llama3.gguf"), folder.path().join("other.gguf")).unwrap();
        let error = LanguageModel::load(folder.path(), &fixture::device()).unwrap_err();
        assert!(error.to_string().contains("config.json"), "{error}");
    }

    #[test]
    fn whatever_was_loaded_is_saved_as_the_same_model() {
        for name in ["tiny-llama3", "tiny-llama3.gguf", "tiny-qwen2", "tiny-qwen2.gguf"] {
            let folder = tempfile::tempdir().unwrap();
            let model = fixture::loaded(name);
            model.save(folder.path()).unwrap();
            let again = LanguageModel::load(folder.path(), &fixture::device()).unwrap();
            fixture::assert_reference_logits(name.trim_end_matches(".gguf"), &again, 1e-5);
            assert_eq!(again.config, model.config, "{name}");
            let tokenizer = |model: &LanguageModel| {
                let tokenizer = &model.tokenizer;
                let tokens = tokenizer.encode_rendered("<|im_start|>Don't stop 1234!<|eot_id|>").unwrap();
                (tokens, tokenizer.eos(), tokenizer.stops().to_vec(), tokenizer.pad(), tokenizer.bos())
            };
            assert_eq!(tokenizer(&again), tokenizer(&model), "{name}");
            assert!(again.tokenizer.chat_template().is_some(), "{name}");
            assert_eq!(again.tokenizer.chat_template(), model.tokenizer.chat_template(), "{name}");
        }
    }

    #[test]
    fn templates_and_tokens_are_read_in_every_spelling() {
        let parse = |text: &str| serde_json::from_str::<TokenizerConfig>(text);
        let several = r#"{"chat_template": [{"name": "tool_use", "template": "a"}, {"name": "default", "template": "b"}],
            "eos_token": {"content": "<e>", "lstrip": false}, "pad_token": null}"#;
        let config = parse(several).unwrap();
        assert_eq!(config.chat_template.unwrap().0, "b");
        assert_eq!(config.eos_token.unwrap().0, "<e>");
        assert!(config.pad_token.is_none());
        assert!(parse(r#"{"chat_template": []}"#).is_err() && parse(r#"{"eos_token": 3}"#).is_err());
    }
}
