//! The kind run as the engine runs it, with a model that has learnt its two questions by heart.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicBool, Ordering},
};

use contract::{Backend, CellDirs, Context, Event, Input, Kind, bench::Bench};
use lm::{
    batch::{collate, encode_example},
    llama::{Llama, LlamaConfig, LlamaSize},
    tokenizer::Tokenizer,
    train::{Schedule, TrainOptions, Trainer},
};
use serde_json::json;

use super::*;

fn question(id: &str, text: &str, answer: &str) -> Question {
    Question {
        id: id.into(),
        task: "arithmetic".into(),
        question: text.into(),
        answer: answer.into(),
        choices: Vec::new(),
        facts: None,
    }
}

/// Two questions the model knows, one that is the first again, and one whose gold answer it was never told.
fn questions() -> Vec<Question> {
    vec![
        question("two", "What is 8 minus 5?", "3"),
        question("one", "What is 3 plus 4?", "7"),
        question("again", "What is 8 minus 5?", "3"),
        question("unknown", "How many eggs are in a dozen?", "12"),
    ]
}

/// A model folder and a questions folder.
fn artifacts(folder: &Path) -> (PathBuf, PathBuf) {
    let (model_path, questions_path) = (folder.join("model"), folder.join("questions"));
    fs::create_dir_all(&model_path).unwrap();
    fs::create_dir_all(&questions_path).unwrap();
    let questions = questions();
    jsonl::write(&questions_path.join(files::QUESTIONS), &questions).unwrap();

    let texts = questions.iter().map(|question| tasks::prompt(question) + &tasks::answer_suffix(question));
    let tokenizer = Tokenizer::train(texts, 300).unwrap();
    let size = LlamaSize {
        hidden_size: 32,
        intermediate_size: 64,
        num_hidden_layers: 1,
        num_attention_heads: 2,
        num_key_value_heads: 2,
        vocab_size: tokenizer.vocab_size(),
    };
    let config = LlamaConfig::new(size, tokenizer.eos(), tokenizer.pad());
    let device = device::open(&Backend::default()).unwrap();
    let sequences: Vec<_> = questions[..2]
        .iter()
        .map(|question| {
            let answer = tasks::answer_suffix(question);
            let prompt = Prompter::new(&tokenizer).unwrap().question(question).unwrap();
            encode_example(&tokenizer, &prompt, &answer, &answer).unwrap()
        })
        .collect();
    let batch = collate(&sequences.iter().collect::<Vec<_>>(), &device);
    let model = Llama::init(&config, 1, &device);
    let mut trainer = Trainer::new(model, TrainOptions::new(1e-2, Schedule::Constant));
    for _ in 0..100 {
        trainer.step_on(batch.token_losses(&trainer.model, batch.hidden(&trainer.model)).mean()).unwrap();
    }
    LanguageModel { model: trainer.into_model(), config, tokenizer }.save(&model_path).unwrap();
    (model_path, questions_path)
}

#[test]
fn right_answers_score_and_stand_in_the_order_of_the_questions() {
    let folder = tempfile::tempdir().unwrap();
    let (model, asked) = artifacts(folder.path());
    let bench =
        Bench::new(&folder.path().join("cell")).input("model", &model, &[]).input("questions", &asked, &[]);
    let params = json!({"max_new_tokens": 20});
    bench.run(&Evaluate, &params).unwrap();
    let output = bench.output("scores");
    let predictions: Vec<Prediction> = jsonl::read(&output.join(files::PREDICTIONS)).unwrap();
    let ids: Vec<&str> = predictions.iter().map(|prediction| prediction.id.as_str()).collect();
    assert_eq!(ids, ["two", "one", "again", "unknown"]);
    assert_eq!(predictions[0].text, "The answer is \\boxed{3}");
    assert_eq!(predictions[1].extracted.as_deref(), Some("7"));
    assert_eq!(predictions[2].text, predictions[0].text);
    let scores: Scores = jsonl::read_json(&output.join(files::SCORES)).unwrap();
    assert_eq!((scores.task.as_str(), scores.questions, scores.profile.as_str()), ("arithmetic", 4, "mind"));
    assert_eq!(scores.values["undecided"], 0.0);
    assert_eq!(scores.values["accuracy"], 0.75);
    assert_eq!(scores.values["truncated"], 0.0);
    let tokens: usize = predictions.iter().map(|prediction| prediction.tokens).sum();
    assert_eq!(scores.values["tokens"], tokens as f64 / 4.0);

    // Once answered, never again: the weights are not even needed.
    let first = fs::read(output.join(files::PREDICTIONS)).unwrap();
    fs::remove_file(model.join("model.safetensors")).unwrap();
    bench.run(&Evaluate, &params).unwrap();
    assert_eq!(fs::read(output.join(files::PREDICTIONS)).unwrap(), first);
    // Another profile judges the same answers.
    bench.run(&Evaluate, &json!({"max_new_tokens": 20, "profile": "hendrycks"})).unwrap();
    let scores: Scores = jsonl::read_json(&output.join(files::SCORES)).unwrap();
    assert_eq!((scores.profile.as_str(), scores.values["accuracy"]), ("hendrycks", 0.75));
    // Another length limit is another answer.
    assert!(bench.run(&Evaluate, &json!({"max_new_tokens": 3})).is_err());
}

#[test]
fn cut_answers_are_counted_as_truncated_and_unparsed() {
    let folder = tempfile::tempdir().unwrap();
    let (model, asked) = artifacts(folder.path());
    let bench =
        Bench::new(&folder.path().join("cell")).input("model", &model, &[]).input("questions", &asked, &[]);
    bench.run(&Evaluate, &json!({"max_new_tokens": 2, "batch_size": 1})).unwrap();
    let scores: Scores = jsonl::read_json(&bench.output("scores").join(files::SCORES)).unwrap();
    assert_eq!(scores.values["truncated"], 1.0);
    assert_eq!(scores.values["unparsed"], 1.0);
    assert_eq!(scores.values["accuracy"], 0.0);
    assert_eq!(scores.values["tokens"], 2.0);
}

#[test]
fn an_interrupted_evaluation_keeps_its_finished_batches() {
    let folder = tempfile::tempdir().unwrap();
    let (model, asked) = artifacts(folder.path());
    let make = |name: &str| {
        let path = folder.path().join(name);
        fs::create_dir_all(&path).unwrap();
        path
    };
    let dirs = CellDirs {
        outputs: BTreeMap::from([("scores".to_owned(), make("scores"))]),
        scratch: make("scratch"),
        journals: make("journals"),
    };
    let input = |port: &str, path: &Path| {
        let digest = Digest::of_bytes(port.as_bytes());
        let input = Input { path: path.to_owned(), digest, stage: port.into(), labels: BTreeMap::new() };
        (port.to_owned(), vec![input])
    };
    let run = |stop_after: Option<u64>, seen: &std::sync::Mutex<Vec<u64>>| {
        let cancelled = AtomicBool::new(false);
        let observer = |event: Event| {
            if let Event::Progress { done, .. } = event {
                seen.lock().unwrap().push(done);
                cancelled.store(Some(done) == stop_after, Ordering::Relaxed);
            }
        };
        let inputs = BTreeMap::from([input("model", &model), input("questions", &asked)]);
        let context = Context::new(inputs, dirs.clone(), 0, Backend::default(), &cancelled, &observer);
        let params = Kind::resolve(&Evaluate, &json!({"max_new_tokens": 20, "batch_size": 1})).unwrap();
        Kind::run(&Evaluate, &params, &context)
    };
    // Four questions, three prompts: one is there twice.
    let seen = std::sync::Mutex::default();
    assert!(matches!(run(Some(2), &seen), Err(StageError::Cancelled)));
    assert_eq!(seen.lock().unwrap().drain(..).collect::<Vec<_>>(), [1, 2]);
    run(None, &seen).unwrap();
    assert_eq!(seen.lock().unwrap().first(), Some(&2), "the finished batch was not generated again");
    let predictions: Vec<Prediction> = jsonl::read(&dirs.outputs["scores"].join(files::PREDICTIONS)).unwrap();
    assert_eq!(predictions.iter().filter(|prediction| prediction.correct).count(), 3);
}

#[test]
fn samples_give_pass_at_k_and_a_majority_and_more_of_them_cost_only_those_missing() {
    let folder = tempfile::tempdir().unwrap();
    let (model, asked) = artifacts(folder.path());
    let bench =
        Bench::new(&folder.path().join("cell")).input("model", &model, &[]).input("questions", &asked, &[]);
    let params = |samples: usize, seed: u64| json!({"max_new_tokens": 20, "sampling": {"samples": samples, "temperature": 1.2, "seed": seed}});
    let read = || {
        let scores: Scores = jsonl::read_json(&bench.output("scores").join(files::SCORES)).unwrap();
        let samples: Vec<Sample> = jsonl::read(&bench.output("scores").join(files::SAMPLES)).unwrap();
        (scores, samples)
    };
    bench.run(&Evaluate, &params(4, 0)).unwrap();
    let (scores, four) = read();
    assert_eq!(four.len(), 16);
    assert_eq!((four[5].sample, four[5].prediction.id.as_str()), (1, "one"));
    assert_eq!(scores.values["accuracy"], 0.75, "the greedy answers are there as before");
    let right = four.iter().filter(|sample| sample.prediction.correct).count() as f64;
    assert!((scores.values["pass@1"] - right / 16.0).abs() < 1e-12);
    assert!(scores.values["pass@4"] >= scores.values["pass@1"]);
    assert!(scores.values["maj@4"] >= 0.5, "{:?}", scores.values);
    let sampled: Vec<Sampled> = jsonl::read(&bench.output("scores").join(files::SAMPLED)).unwrap();
    let ids: Vec<&str> = sampled.iter().map(|question| question.id.as_str()).collect();
    assert_eq!(ids, ["two", "one", "again", "unknown"], "a line a question, in their order");
    for value in ["pass@1", "pass@4", "maj@4"] {
        let mean = sampled.iter().map(|question| question.values[value]).sum::<f64>() / 4.0;
        assert!((mean - scores.values[value]).abs() < 1e-12, "{value}");
    }
    // The same question under another id is sampled on its own.
    let texts = |id: &str| -> Vec<&str> {
        let of = four.iter().filter(|sample| sample.prediction.id == id);
        of.map(|sample| sample.prediction.text.as_str()).collect()
    };
    assert_eq!(texts("two").len(), 4);

    bench.run(&Evaluate, &params(6, 0)).unwrap();
    let (_, six) = read();
    let first: Vec<&Sample> = six.iter().filter(|sample| sample.sample < 4).collect();
    assert_eq!(first, four.iter().collect::<Vec<_>>());
    bench.run(&Evaluate, &params(4, 1)).unwrap();
    assert_ne!(read().1, four, "another seed draws others");

    // All of it is in the journal now.
    fs::remove_file(model.join("model.safetensors")).unwrap();
    bench.run(&Evaluate, &params(5, 0)).unwrap();
    assert!(bench.run(&Evaluate, &params(7, 0)).is_err());
}

#[test]
fn sampling_that_makes_no_sense_is_refused() {
    let problems = |sampling: serde_json::Value| {
        let problems = Kind::resolve(&Evaluate, &json!({"sampling": sampling})).unwrap_err();
        problems.into_iter().map(|(field, _)| field).collect::<Vec<_>>()
    };
    assert_eq!(problems(json!({"samples": 4, "pass_at": [8]})), ["/sampling/pass_at"]);
    assert_eq!(
        problems(json!({"samples": 1, "temperature": 0, "top_k": 0, "top_p": 1.5})),
        ["/sampling/temperature", "/sampling/top_k", "/sampling/top_p"]
    );
    assert!(Kind::resolve(&Evaluate, &json!({"sampling": {"samples": 2}})).is_ok());
}

#[test]
fn a_model_that_chats_is_asked_as_it_was_taught() {
    let folder = tempfile::tempdir().unwrap();
    let (path, asked) = artifacts(folder.path());
    let template = "{% for message in messages %}<|pad|>{{ message.content }}{{ eos_token }}{% endfor %}";
    fs::write(path.join("chat_template.jinja"), template).unwrap();
    let device = device::open(&Backend::default()).unwrap();
    let mut model = LanguageModel::load(&path, &device).unwrap();
    let prompter = Prompter::new(&model.tokenizer).unwrap();
    let question = &questions()[1];
    let answer = tasks::answer_suffix(question);
    let prompt = prompter.question(question).unwrap();
    let sequence = encode_example(&model.tokenizer, &prompt, &answer, &answer).unwrap();
    assert_eq!(sequence.tokens[0], model.tokenizer.pad(), "the template's special tokens are tokens");
    let batch = collate(&[&sequence], &device);
    let mut trainer = Trainer::new(model.model, TrainOptions::new(1e-2, Schedule::Constant));
    for _ in 0..60 {
        trainer.step_on(batch.token_losses(&trainer.model, batch.hidden(&trainer.model)).mean()).unwrap();
    }
    model.model = trainer.into_model();
    model.save(&path).unwrap();

    let bench =
        Bench::new(&folder.path().join("cell")).input("model", &path, &[]).input("questions", &asked, &[]);
    bench.run(&Evaluate, &json!({"max_new_tokens": 20})).unwrap();
    let predictions: Vec<Prediction> = jsonl::read(&bench.output("scores").join(files::PREDICTIONS)).unwrap();
    assert_eq!(predictions[1].text, answer);
    assert!(!predictions[1].truncated);
}

#[test]
fn an_answer_to_a_sealed_question_quotes_nothing_under_any_profile() {
    let mut question = question("gpqa-diamond-000", "Which zorblatt decays?", "C");
    question.task = "gpqa-diamond".into();
    let choices = ["the flumph", "the wibble", "the snark", "the boojum"];
    question.choices = choices.iter().map(|choice| gpqa::seal(choice)).collect();
    question.question = gpqa::seal(&question.question);
    let said = "The zorblatt is a flumph, so \\boxed{the snark}. Answer: C. The answer is the snark zorblatt";
    let answer = || Answer { text: gpqa::seal(said), tokens: 9, truncated: false };
    let ask = Ask { question: &question, sample: None };
    let mut found = BTreeMap::new();
    for profile in Profile::ALL {
        let [prediction] = &mark(&[ask], vec![answer()], profile)[..] else { panic!("one answer") };
        let written = serde_json::to_string(prediction).unwrap();
        for word in ["zorblatt", "flumph", "snark", "boxed"] {
            assert!(!written.contains(word), "{profile}: {written}");
        }
        found.insert(profile.name(), (prediction.correct, prediction.extracted.clone().unwrap_or_default()));
    }
    assert_eq!(found["mind"], (true, "C".to_owned()));
    assert_eq!(found["simple_evals"], (true, "C".to_owned()));
    assert!(found.values().any(|(_, extracted)| gpqa::sealed(extracted)), "{found:?}");
}

#[test]
fn zero_is_no_length_and_no_batch() {
    let problems = Kind::resolve(&Evaluate, &json!({"max_new_tokens": 0, "batch_size": 0})).unwrap_err();
    assert_eq!(problems.len(), 2);
}
