//! The teacher in the house: a model of the recipe writes rationales under the same templates as one behind an endpoint.
//!
//! Texts are sampled side by side and journalled one by one under all they depend on: model, prompt, question, perspective,
//! attempt, seed and sampling. How many are written at once changes nothing.

use std::collections::{BTreeMap, BTreeSet};

use chat::{Completion, Usage};
use contract::{
    Context, Digest, Stage, StageError,
    records::{Question, Rationale},
};
use lm::{
    LanguageModel,
    chat::Message,
    device,
    generate::{Generation, Options, Request, generate},
    prompt::Prompter,
    sample::Sampling,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{ByQuestion, Teacher, perspective::Template, usage::UsageReport};

/// Raised when the journalled form of a text changes, or how it is made.
const VERSION: u32 = 3;

/// How a model of the recipe writes. Defaults are those of the provider `openai`, or ours.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Local {
    /// What logits are divided by; 0 takes the likeliest token. Default: 0.7.
    #[serde(default = "temperature")]
    pub temperature: f64,
    /// Only so many of the likeliest tokens. Default: all.
    #[serde(default)]
    pub top_k: Option<usize>,
    /// Only the likeliest tokens that hold this share of the probability together, 0 to 1. Default: 1, all.
    #[serde(default = "top_p")]
    pub top_p: f64,
    /// Where a rationale is cut, in tokens. Default: 1024.
    #[serde(default = "max_new_tokens")]
    pub max_new_tokens: usize,
    /// Rationales written side by side. Default: 16.
    #[serde(default = "batch_size")]
    pub batch_size: usize,
}

fn temperature() -> f64 {
    0.7
}

fn top_p() -> f64 {
    1.0
}

fn max_new_tokens() -> usize {
    1024
}

fn batch_size() -> usize {
    16
}

impl Local {
    /// Problems by field, below `at`.
    pub(crate) fn check(&self, at: &str, attempts: Option<u32>) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut require = |holds: bool, field: &str, problem: &str| {
            if !holds {
                problems.push((format!("{at}/{field}"), problem.to_owned()));
            }
        };
        require(self.temperature >= 0.0 && self.temperature.is_finite(), "temperature", "must be at least 0");
        require(self.top_k != Some(0), "top_k", "must be at least 1");
        require(self.top_p > 0.0 && self.top_p <= 1.0, "top_p", "must be above 0 and at most 1");
        require(self.max_new_tokens > 0, "max_new_tokens", "must be at least 1");
        require(self.batch_size > 0, "batch_size", "must be at least 1");
        let once = attempts.is_none_or(|attempts| attempts <= 1);
        require(self.temperature > 0.0 || once, "temperature", "must be above 0 for more than one attempt");
        problems
    }

    fn sampling(&self, seed: u64) -> Option<Sampling> {
        let Self { temperature, top_k, top_p, .. } = *self;
        (temperature > 0.0).then_some(Sampling { temperature, top_k, top_p, seed })
    }
}

/// What a text depends on beside its item; each has a journal of its own.
#[derive(Serialize)]
struct Namespace<'a> {
    version: u32,
    model: &'a Digest,
    backend: &'a contract::Backend,
    max_new_tokens: usize,
    /// Temperature, top k, top p and seed; nothing where nothing is drawn.
    sampling: Option<(f64, Option<usize>, f64, u64)>,
}

#[derive(Debug, thiserror::Error)]
enum LocalError {
    #[error("the provider `local` needs a model, and port `model` has none")]
    NoModel,
    #[error(
        "question `{question}` from perspective `{perspective}` has {prompt} tokens, and with `max_new_tokens` \
         {max_new_tokens} that is more than the model's context of {context}"
    )]
    TooLong { question: String, perspective: String, prompt: usize, max_new_tokens: usize, context: usize },
}

/// One question under one perspective.
struct Item<'a> {
    question: &'a Question,
    perspective: &'a str,
    messages: Vec<Message>,
    written: Vec<Completion>,
}

impl Item<'_> {
    /// What decides the draws of a text, the attempt aside.
    fn name(&self) -> String {
        format!("{}/{}/{}", self.question.task, self.question.id, self.perspective)
    }

    fn key(&self, attempt: u32) -> String {
        Digest::of_json(&(&self.messages, self.name(), attempt)).to_string()
    }

    /// Whether another attempt is worth it, or the first one is still to be made.
    fn wanting(&self) -> bool {
        let right = |last: &Completion| !last.truncated && tasks::score(self.question, &last.text).correct;
        !self.written.last().is_some_and(right)
    }
}

/// Writes every rationale; returns what it took, too.
pub(crate) fn write(
    local: &Local,
    templates: &[Template],
    attempts: u32,
    questions: &[Question],
    context: &Context,
) -> Result<(ByQuestion, UsageReport), StageError> {
    let input = context.optional("model").ok_or_else(|| {
        let help = "name the stage that makes the model in `needs: {model: ...}`";
        StageError::failed(LocalError::NoModel).with_help(help)
    })?;
    crate::refuse_sealed(questions)?;
    let mut items = Vec::with_capacity(questions.len() * templates.len());
    for question in questions {
        for template in templates {
            let messages = template.messages(question).map_err(StageError::failed)?;
            let messages = messages
                .into_iter()
                .map(|message| Message { role: message.role.to_owned(), content: message.content })
                .collect();
            items.push(Item { question, perspective: &template.name, messages, written: Vec::new() });
        }
    }
    let sampling = local.sampling(context.seed());
    let namespace = Namespace {
        version: VERSION,
        model: &input.digest,
        backend: context.backend(),
        max_new_tokens: local.max_new_tokens,
        sampling: sampling.map(|s| (s.temperature, s.top_k, s.top_p, s.seed)),
    };
    let mut journal = context.journal(Teacher::NAME, &namespace)?;
    let mut model: Option<LanguageModel> = None;
    let options = Options { max_new_tokens: local.max_new_tokens, batch_size: local.batch_size, sampling };
    for attempt in 0..attempts {
        let wanted: Vec<usize> = (0..items.len()).filter(|index| items[*index].wanting()).collect();
        let keys: BTreeMap<usize, String> =
            wanted.iter().map(|index| (*index, items[*index].key(attempt))).collect();
        let mut asked = BTreeSet::new();
        // Equal items are written once.
        let missing: Vec<(usize, &String)> = keys
            .iter()
            .filter(|(_, key)| journal.get::<Completion>(key).is_none() && asked.insert(key.as_str()))
            .map(|(index, key)| (*index, key))
            .collect();
        let mut done = wanted.len() - missing.len();
        context.progress(done, wanted.len(), "rationales");
        if !missing.is_empty() {
            if model.is_none() {
                model = Some(LanguageModel::load(&input.path, &device::open(context.backend())?)?);
            }
            let model = model.as_ref().expect("loaded just now");
            let indices = missing.iter().map(|(index, _)| *index);
            let requests = requests(model, indices.map(|index| &items[index]), attempt, local)?;
            let go_on = || context.check_cancelled();
            generate(model, &requests, &options, &go_on, &mut |places, generations| {
                let finished: Vec<(String, Completion)> = places
                    .iter()
                    .zip(generations)
                    .map(|(place, generation)| {
                        (missing[*place].1.clone(), completion(&requests[*place], generation))
                    })
                    .collect();
                journal.put(&finished)?;
                done += finished.len();
                context.progress(done, wanted.len(), "rationales");
                Ok(())
            })?;
        }
        for (index, key) in &keys {
            let written = journal.get(key).expect("every missing text was written and recorded");
            items[*index].written.push(written);
        }
    }
    Ok(collect(&items, templates))
}

fn requests<'a>(
    model: &LanguageModel,
    items: impl Iterator<Item = &'a Item<'a>>,
    attempt: u32,
    local: &Local,
) -> Result<Vec<Request>, StageError> {
    let prompter = Prompter::new(&model.tokenizer)?;
    let context = model.config.max_position_embeddings;
    items
        .map(|item| {
            let prompt = prompter.conversation(&item.messages)?;
            if prompt.len() + local.max_new_tokens > context {
                let error = LocalError::TooLong {
                    question: item.question.id.clone(),
                    perspective: item.perspective.to_owned(),
                    prompt: prompt.len(),
                    max_new_tokens: local.max_new_tokens,
                    context,
                };
                return Err(StageError::failed(error).with_help("lower `max_new_tokens` of the provider"));
            }
            Ok(Request { prompt, item: item.name(), sample: attempt as usize })
        })
        .collect()
}

fn completion(request: &Request, generation: &Generation) -> Completion {
    let usage =
        Usage { prompt_tokens: request.prompt.len() as u64, completion_tokens: generation.tokens as u64 };
    Completion { text: generation.text.clone(), truncated: generation.truncated, usage }
}

fn collect(items: &[Item], templates: &[Template]) -> (ByQuestion, UsageReport) {
    let mut report = UsageReport::of(None, templates.iter().map(|template| template.name.as_str()));
    let mut rationales: ByQuestion = Vec::new();
    for of_question in items.chunks(templates.len()) {
        let mut written = Vec::new();
        for item in of_question {
            for (attempt, completion) in (0..).zip(&item.written) {
                report.add(item.perspective, completion);
                written.push(Rationale {
                    perspective: item.perspective.to_owned(),
                    attempt,
                    text: completion.text.clone(),
                    truncated: completion.truncated,
                });
            }
        }
        rationales.push(written);
    }
    (rationales, report)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::{fs, path::Path};

    use contract::{
        Kind,
        bench::Bench,
        jsonl,
        records::{QuestionRationales, files},
    };
    use lm::{
        llama::{Llama, LlamaConfig, LlamaSize},
        tokenizer::Tokenizer,
    };
    use serde_json::{Value, json};

    use super::*;
    use crate::USAGE;

    /// A tiny random model, which answers nothing right, and questions.
    fn artifacts(folder: &Path, count: usize) {
        let texts = (0..40).map(|i| format!("What is {i} + 0? The answer is \\boxed{{{i}}}"));
        let tokenizer = Tokenizer::train(texts, 300).unwrap();
        let size = LlamaSize {
            hidden_size: 16,
            intermediate_size: 24,
            num_hidden_layers: 1,
            num_attention_heads: 2,
            num_key_value_heads: 1,
            vocab_size: tokenizer.vocab_size(),
        };
        let config = LlamaConfig::new(size, tokenizer.eos(), tokenizer.pad());
        let device = device::open(&contract::Backend::default()).unwrap();
        let model = LanguageModel { model: Llama::init(&config, 3, &device), config, tokenizer };
        fs::create_dir_all(folder.join("model")).unwrap();
        model.save(&folder.join("model")).unwrap();
        questions(folder, count);
    }

    fn questions(folder: &Path, count: usize) {
        let question = |n: usize| json!({"id": format!("q{n}"), "task": "gsm8k", "question": format!("What is {n} + 0?"), "answer": "none"});
        let questions: Vec<Value> = (0..count).map(question).collect();
        jsonl::write(&folder.join(files::QUESTIONS), &questions).unwrap();
    }

    fn bench(folder: &Path, seed: u64) -> Bench {
        let bench = Bench::new(folder).input("questions", folder, &[]).seed(seed);
        bench.input("model", &folder.join("model"), &[])
    }

    fn params(batch_size: usize, attempts: u32) -> Value {
        json!({
            "provider": {"local": {"max_new_tokens": 6, "batch_size": batch_size}},
            "perspectives": ["planning", "socratic"], "attempts": attempts,
        })
    }

    fn completions(bench: &Bench) -> Vec<QuestionRationales> {
        jsonl::read(&bench.output("completions").join(files::COMPLETIONS)).unwrap()
    }

    #[test]
    fn every_perspective_is_written_and_only_seed_and_item_decide() {
        let folder = tempfile::tempdir().unwrap();
        artifacts(folder.path(), 3);
        let one = bench(folder.path(), 4);
        one.run(&Teacher, &params(16, 2)).unwrap();
        let first = completions(&one);
        for question in &first {
            let shape: Vec<(&str, u32)> =
                question.rationales.iter().map(|r| (r.perspective.as_str(), r.attempt)).collect();
            assert_eq!(shape, [("planning", 0), ("planning", 1), ("socratic", 0), ("socratic", 1)]);
            assert_ne!(question.rationales[0].text, question.rationales[1].text);
        }
        assert!(first.iter().flat_map(|question| &question.rationales).any(|r| r.truncated));
        let usage: UsageReport = jsonl::read_json(&one.output("usage").join(USAGE)).unwrap();
        assert_eq!((usage.total.completions, usage.model, usage.cost), (12, None, None));
        assert!(usage.total.usage.prompt_tokens > 0 && usage.total.truncated > 0);

        // Another folder has other journals: everything is written again.
        let other = tempfile::tempdir().unwrap();
        artifacts(other.path(), 3);
        let two = bench(other.path(), 4);
        two.run(&Teacher, &params(1, 2)).unwrap();
        assert_eq!(completions(&two), first, "the batch size changes nothing");
        let three = bench(other.path(), 5);
        three.run(&Teacher, &params(1, 2)).unwrap();
        assert_ne!(completions(&three), first);
    }

    #[test]
    fn what_is_in_the_journal_is_not_written_again() {
        let folder = tempfile::tempdir().unwrap();
        artifacts(folder.path(), 2);
        let bench = bench(folder.path(), 0);
        bench.run(&Teacher, &params(4, 1)).unwrap();
        let first = completions(&bench);
        // Without the weights nothing can be written.
        fs::rename(folder.path().join("model/model.safetensors"), folder.path().join("kept")).unwrap();
        bench.run(&Teacher, &params(4, 1)).unwrap();
        assert_eq!(completions(&bench), first);
        questions(folder.path(), 3);
        assert!(bench.run(&Teacher, &params(4, 1)).is_err());
        fs::rename(folder.path().join("kept"), folder.path().join("model/model.safetensors")).unwrap();
        bench.run(&Teacher, &params(4, 1)).unwrap();
        assert_eq!(completions(&bench)[..2], first);
    }

    #[test]
    fn mistakes_are_told() {
        let folder = tempfile::tempdir().unwrap();
        artifacts(folder.path(), 1);
        let without = Bench::new(folder.path()).input("questions", folder.path(), &[]);
        let error = without.run(&Teacher, &params(1, 1)).unwrap_err();
        assert!(error.to_string().contains("port `model` has none"), "{error}");
        let long = json!({"provider": {"local": {"max_new_tokens": 4000}}, "perspectives": ["planning"]});
        let error = bench(folder.path(), 0).run(&Teacher, &long).unwrap_err();
        assert!(error.to_string().contains("the model's context of 2048"), "{error}");
        let wrong = json!({
            "provider": {"local": {"temperature": 0, "top_p": 0, "top_k": 0, "max_new_tokens": 0, "batch_size": 0}},
            "attempts": 2, "perspectives": ["planing"],
        });
        let problems = Teacher.resolve(&wrong).unwrap_err();
        let fields: Vec<&str> = problems.iter().map(|(field, _)| field.as_str()).collect();
        let at = |field: &str| format!("/provider/local/{field}");
        let mut expected: Vec<String> =
            ["top_k", "top_p", "max_new_tokens", "batch_size", "temperature"].map(at).to_vec();
        expected.push("/perspectives/0".to_owned());
        assert_eq!(fields, expected);
        let local = Teacher.resolve(&params(1, 1)).unwrap();
        let symbolic = Teacher.resolve(&json!({"provider": {"symbolic": {}}})).unwrap();
        assert!(Kind::reads(&Teacher, &local, "model") && !Kind::reads(&Teacher, &symbolic, "model"));
        assert!(Teacher.computes_with(&local) && !Teacher.computes_with(&symbolic));
        assert_eq!(local["templates"].as_object().unwrap().len(), 2);
    }
}
