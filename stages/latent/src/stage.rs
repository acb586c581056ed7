//! The kind: its ports, its params, and which texts and models an analysis is about.

use std::collections::BTreeSet;

use contract::{
    ArtifactType, Context, Port, PortFlow, Stage, StageError, jsonl,
    records::{QuestionRationales, files},
};
use rand::{Rng, seq::SliceRandom};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    analysis::{Subject, analyse},
    projection::LEAST_POINTS,
    results::{SUMMARY, write},
};

/// The label of the control.
const UNDISTILLED: &str = "undistilled";

/// How the analysis is made.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Params {
    /// The layer that is drawn; every layer is measured. Default `last`.
    #[serde(default)]
    pub layer: Layer,
    /// How the tokens of a text become one vector. Default `mean`.
    #[serde(default)]
    pub pooling: Pooling,
    /// Most rationales to read, in whole questions drawn by the seed. Default 400.
    #[serde(default = "default_texts")]
    pub texts: usize,
    /// Most principal components that t-SNE sees. Default 50.
    #[serde(default = "default_pca")]
    pub pca: usize,
    /// Perplexity of t-SNE, lowered to a third of the texts where they are few. Default 30.
    #[serde(default = "default_perplexity")]
    pub perplexity: f64,
    /// Iterations of t-SNE, the first quarter with exaggeration. Default 500.
    #[serde(default = "default_iterations")]
    pub iterations: usize,
    /// Texts the model reads at once; memory grows with it, results change by rounding alone. Default 16.
    #[serde(default = "default_batch_size")]
    pub batch_size: usize,
}

/// A layer of hidden states.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Layer {
    /// After the last block and the final norm.
    #[default]
    Last,
    /// 0 is the embeddings, n the states after block n.
    Index(usize),
}

/// How the tokens of a text become one vector. Prompt and padding never count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Pooling {
    /// The mean over the rationale's tokens.
    #[default]
    Mean,
    /// The state at the rationale's last token.
    LastToken,
}

fn default_texts() -> usize {
    400
}

fn default_pca() -> usize {
    50
}

fn default_perplexity() -> f64 {
    30.0
}

fn default_iterations() -> usize {
    500
}

fn default_batch_size() -> usize {
    16
}

/// Kind `latent`.
pub struct Latent;

impl Stage for Latent {
    type Params = Params;

    const NAME: &'static str = "latent";
    const VERSION: u32 = 3;
    const ABOUT: &'static str = "draws and measures what models make of the same rationales";
    const SEEDED: bool = true;
    const COMPUTES: bool = true;
    const INPUTS: &'static [Port] = &[
        Port::input("models", ArtifactType::Model, PortFlow::Measures, "the models to compare").many(),
        Port::input("base", ArtifactType::Model, PortFlow::Measures, "the undistilled model, as control")
            .optional(),
        Port::input("rationales", ArtifactType::Rationales, PortFlow::Measures, "the texts they read"),
    ];
    const OUTPUTS: &'static [Port] =
        &[Port::output("figures", ArtifactType::Figures, "a figure a model, and a summary")];

    fn check(params: &Params) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut least = |field: &str, value: usize, least: usize| {
            if value < least {
                problems.push((format!("/{field}"), format!("must be at least {least}")));
            }
        };
        least("texts", params.texts, LEAST_POINTS);
        least("pca", params.pca, 2);
        least("iterations", params.iterations, 1);
        least("batch_size", params.batch_size, 1);
        if !(params.perplexity >= 1.0 && params.perplexity.is_finite()) {
            problems.push(("/perplexity".to_owned(), "must be at least 1".to_owned()));
        }
        problems
    }

    fn run(params: Params, context: &Context) -> Result<(), StageError> {
        let rationales = context.input("rationales");
        let perspectives = jsonl::read_json(&rationales.file(files::PERSPECTIVES))?;
        let records = jsonl::read(&rationales.file(files::RATIONALES))?;
        let records = sample(records, params.texts, &mut context.rng("texts"));
        let subjects = subjects(context);
        let (setting, analyses) = analyse(&params, context, &subjects, perspectives, &records)?;
        write(context.output("figures"), &subjects, &setting, &analyses)
    }
}

/// The control first, then the models in order, each under a name of its own.
///
/// Names come from axis values alone: a stage's name is no part of a fingerprint and may not show in a result.
fn subjects<'a>(context: &'a Context) -> Vec<Subject<'a>> {
    let mut taken = BTreeSet::from([SUMMARY.to_owned()]);
    let control = context.optional("base").map(|input| (true, input, UNDISTILLED.to_owned()));
    let models = context.inputs("models").iter().map(|input| {
        let axes: Vec<String> = input.labels.iter().map(|(axis, value)| format!("{axis}={value}")).collect();
        (false, input, if axes.is_empty() { "model".to_owned() } else { axes.join(",") })
    });
    control
        .into_iter()
        .chain(models)
        .map(|(control, input, name)| {
            let file = file_name(&name);
            let tries = (1..).map(|n| match n {
                1 => (file.clone(), name.clone()),
                n => (format!("{file}-{n}"), format!("{name} ({n})")),
            });
            let (file, label) =
                tries.into_iter().find(|(file, _)| taken.insert(file.clone())).expect("numbers do not end");
            Subject { control, input, label, file }
        })
        .collect()
}

/// A label with everything but plain characters replaced by single hyphens.
fn file_name(label: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "._".contains(character);
    let words: Vec<&str> =
        label.split(|character| !plain(character)).filter(|word| !word.is_empty()).collect();
    let name: String = words.join("-").chars().take(80).collect();
    let name = name.trim_matches(['.', '-']);
    if name.is_empty() { "model".to_owned() } else { name.to_owned() }
}

/// Whole questions drawn without order and kept in order, with at most so many rationales; at least one question.
fn sample(records: Vec<QuestionRationales>, most: usize, rng: &mut impl Rng) -> Vec<QuestionRationales> {
    let mut order: Vec<usize> = (0..records.len()).collect();
    order.shuffle(rng);
    let mut total = 0;
    let kept: BTreeSet<usize> = order
        .into_iter()
        .take_while(|index| {
            let before = total;
            total += records[*index].rationales.len();
            before == 0 || total <= most
        })
        .collect();
    records
        .into_iter()
        .enumerate()
        .filter(|(index, _)| kept.contains(index))
        .map(|(_, record)| record)
        .collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
pub(crate) mod tests {
    use std::{collections::BTreeMap, fs, path::Path, sync::atomic::AtomicBool};

    use contract::{
        Backend, CellDirs, Digest, Event, Input, Kind,
        records::{Question, Rationale},
    };
    use lm::{
        LanguageModel,
        llama::{Llama, LlamaConfig, LlamaSize},
        tokenizer::Tokenizer,
    };
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    use super::*;

    pub(crate) const PERSPECTIVES: [&str; 2] = ["planning", "analogy"];

    /// Questions with one rationale from each of [`PERSPECTIVES`].
    pub(crate) fn records(count: usize) -> Vec<QuestionRationales> {
        let rationale = |perspective: &str, text: String| Rationale {
            perspective: perspective.into(),
            attempt: 0,
            text,
            truncated: false,
        };
        let record = |i: usize| {
            let answer = 3 * i + 1;
            let question = Question {
                id: i.to_string(),
                task: "gsm8k".into(),
                question: format!("What is {i} + {i} + {i} + 1?"),
                answer: answer.to_string(),
                choices: Vec::new(),
                facts: None,
            };
            let suffix = tasks::answer_suffix(&question);
            let rationales = vec![
                rationale("planning", format!("First plan the sum, then add {i} thrice. {suffix}")),
                rationale("analogy", format!("Like {i} baskets of three apples and one more. {suffix}")),
            ];
            QuestionRationales { question, rationales }
        };
        (0..count).map(record).collect()
    }

    /// A tiny random model.
    pub(crate) fn language_model(seed: u64) -> LanguageModel {
        let tokenizer =
            Tokenizer::train(records(20).into_iter().map(|r| r.rationales[0].text.clone()), 300).unwrap();
        let size = LlamaSize {
            hidden_size: 16,
            intermediate_size: 32,
            num_hidden_layers: 2,
            num_attention_heads: 2,
            num_key_value_heads: 1,
            vocab_size: tokenizer.vocab_size(),
        };
        let config = LlamaConfig::new(size, tokenizer.eos(), tokenizer.pad());
        let device = lm::device::open(&Backend::default()).unwrap();
        let model = Llama::init(&config, seed, &device);
        LanguageModel { model, config, tokenizer }
    }

    fn model_input(folder: &Path, seed: u64, labels: &[(&str, &str)]) -> Input {
        saved(folder, seed, &language_model(seed), labels)
    }

    fn saved(folder: &Path, seed: u64, model: &LanguageModel, labels: &[(&str, &str)]) -> Input {
        let path = folder.join(format!("model-{seed}"));
        fs::create_dir_all(&path).unwrap();
        model.save(&path).unwrap();
        Input {
            path,
            digest: Digest::of_json(&seed),
            stage: "student".into(),
            labels: labels.iter().map(|(axis, value)| (axis.to_string(), value.to_string())).collect(),
        }
    }

    fn run(
        folder: &Path,
        name: &str,
        inputs: &BTreeMap<String, Vec<Input>>,
        params: serde_json::Value,
    ) -> Result<BTreeMap<String, String>, StageError> {
        let output = folder.join(name);
        fs::create_dir_all(&output).unwrap();
        let dirs = CellDirs {
            outputs: BTreeMap::from([("figures".to_owned(), output.clone())]),
            scratch: folder.join("scratch"),
            journals: folder.join("journals"),
        };
        let (cancelled, observer) = (AtomicBool::new(false), |_: Event| {});
        let context = Context::new(inputs.clone(), dirs, 7, Backend::default(), &cancelled, &observer);
        Kind::run(&Latent, &Kind::resolve(&Latent, &params).unwrap(), &context)?;
        let files = fs::read_dir(output).unwrap().map(|entry| entry.unwrap());
        Ok(files
            .map(|file| (file.file_name().into_string().unwrap(), fs::read_to_string(file.path()).unwrap()))
            .collect())
    }

    fn inputs(
        folder: &Path,
        questions: usize,
        models: Vec<Input>,
        base: Option<Input>,
    ) -> BTreeMap<String, Vec<Input>> {
        let path = folder.join("rationales");
        fs::create_dir_all(&path).unwrap();
        jsonl::write(&path.join(files::RATIONALES), &records(questions)).unwrap();
        jsonl::write_json(&path.join(files::PERSPECTIVES), &PERSPECTIVES).unwrap();
        let rationales = Input {
            path,
            digest: Digest::of_bytes(b"rationales"),
            stage: "accepted".into(),
            labels: BTreeMap::new(),
        };
        BTreeMap::from([
            ("models".to_owned(), models),
            ("base".to_owned(), base.into_iter().collect()),
            ("rationales".to_owned(), vec![rationales]),
        ])
    }

    #[test]
    fn every_model_gets_a_figure_its_numbers_and_a_row() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let models = vec![
            model_input(folder, 1, &[("method", "mind"), ("seed", "1")]),
            model_input(folder, 2, &[("method", "mind"), ("seed", "2")]),
            model_input(folder, 1, &[("method", "std-cot"), ("seed", "1")]),
        ];
        let inputs = inputs(folder, 12, models, Some(model_input(folder, 2, &[])));
        let params = serde_json::json!({ "iterations": 50, "texts": 21 });
        let files = run(folder, "one", &inputs, params.clone()).unwrap();

        let names: Vec<&str> = files.keys().map(String::as_str).collect();
        assert_eq!(
            names,
            [
                "method-mind-seed-1.json",
                "method-mind-seed-1.svg",
                "method-mind-seed-2.json",
                "method-mind-seed-2.svg",
                "method-std-cot-seed-1.json",
                "method-std-cot-seed-1.svg",
                "summary.json",
                "summary.md",
                "undistilled.json",
                "undistilled.svg",
            ]
        );
        let summary: serde_json::Value = serde_json::from_str(&files["summary.json"]).unwrap();
        assert_eq!(summary["setting"]["texts"], 20, "ten whole questions of two");
        assert_eq!(summary["setting"]["perplexity"], 6.0);
        let rows = summary["models"].as_array().unwrap();
        assert_eq!(rows[0]["label"], "undistilled");
        assert_eq!(rows[1]["same_as"], serde_json::Value::Null);
        assert_eq!(rows[2]["same_as"], "undistilled");
        assert_eq!(rows[3]["same_as"], "method=mind,seed=1");
        assert_eq!(rows[2]["numbers"]["cka_to_undistilled"], 1.0);
        assert!(rows[1]["numbers"]["cka_to_undistilled"].as_f64().unwrap() < 0.999);
        assert_eq!(rows[3]["numbers"], rows[1]["numbers"]);
        assert_ne!(rows[0]["numbers"], rows[1]["numbers"]);
        assert_eq!(summary["undistilled_silhouette"], rows[0]["numbers"]["silhouette"]);

        let figure: serde_json::Value = serde_json::from_str(&files["method-mind-seed-1.json"]).unwrap();
        assert_eq!(figure["analysis"]["points"].as_array().unwrap().len(), 20);
        assert_eq!(figure["analysis"]["layers"].as_array().unwrap().len(), 3);
        assert!(files["summary.md"].contains("| method=std-cot,seed=1 (equal to method=mind,seed=1) |"));

        assert_eq!(files, run(folder, "two", &inputs, params).unwrap(), "equal inputs give equal bytes");
    }

    #[test]
    fn what_cannot_be_drawn_is_an_error() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        let model = || vec![model_input(folder, 1, &[])];
        let few = run(folder, "few", &inputs(folder, 3, model(), None), serde_json::json!({})).unwrap_err();
        assert_eq!(few.to_string(), "6 texts are too few to draw: at least 8 are needed");
        let params = serde_json::json!({ "layer": { "index": 3 } });
        let layer = run(folder, "layer", &inputs(folder, 9, model(), None), params).unwrap_err();
        assert_eq!(layer.to_string(), "model `model` has layers 0 to 2, and no layer 3");

        let mut diverged = language_model(2);
        diverged.config.rms_norm_eps = -1e9;
        let models = vec![saved(folder, 2, &diverged, &[])];
        let diverged =
            run(folder, "nan", &inputs(folder, 9, models, None), serde_json::json!({})).unwrap_err();
        assert_eq!(diverged.to_string(), "model `model` has hidden states that are not finite");
        assert_eq!(diverged.help(), Some("its training diverged: lower the learning rate"));

        let mut narrow = language_model(3);
        narrow.config.max_position_embeddings = 10;
        let (narrow, base) = (vec![saved(folder, 3, &narrow, &[])], Some(model_input(folder, 1, &[])));
        let other =
            run(folder, "other", &inputs(folder, 9, narrow, base), serde_json::json!({})).unwrap_err();
        assert!(other.to_string().starts_with("model `model` can read other texts"), "{other}");
    }

    #[test]
    fn params_are_checked() {
        let problems = |value| Kind::resolve(&Latent, &value).unwrap_err();
        assert_eq!(problems(serde_json::json!({ "pca": 1 })), [("/pca".into(), "must be at least 2".into())]);
        assert_eq!(problems(serde_json::json!({ "texts": 0, "perplexity": 0.5 })).len(), 2);
        assert!(problems(serde_json::json!({ "layers": 1 }))[0].1.contains("unknown field"));
        let resolved = Kind::resolve(&Latent, &serde_json::json!({})).unwrap();
        assert_eq!((&resolved["layer"], &resolved["pooling"]), (&"last".into(), &"mean".into()));
    }

    #[test]
    fn a_sample_is_whole_questions_in_order() {
        let draw = |most, seed| -> Vec<String> {
            let drawn = sample(records(20), most, &mut ChaCha8Rng::seed_from_u64(seed));
            assert!(drawn.iter().all(|record| record.rationales.len() == 2));
            drawn.into_iter().map(|record| record.question.id).collect()
        };
        assert_eq!(draw(9, 1).len(), 4);
        assert_eq!(draw(9, 1), draw(9, 1));
        assert_ne!(draw(9, 1), draw(9, 2));
        assert!(draw(30, 1).is_sorted_by_key(|id| id.parse::<usize>().unwrap()));
        assert_eq!(draw(1, 1).len(), 1);
        assert_eq!(draw(40, 1).len(), 20);
    }

    #[test]
    fn file_names_are_plain() {
        assert_eq!(file_name("method=mind,seed=1"), "method-mind-seed-1");
        assert_eq!(file_name("../a b/\"lr=0.5\""), "a-b-lr-0.5");
        assert_eq!(file_name("ü"), "model");
    }
}
