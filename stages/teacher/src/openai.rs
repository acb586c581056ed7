//! The teacher behind a chat endpoint: one prompt a question and perspective, asked again while the answer is wrong.

use chat::{Completion, Endpoint, Forecast, Halt, Request, Session};
use contract::{
    CallEstimate, Context, Outlook, Stage, StageError,
    records::{Question, Rationale},
};

use crate::{ByQuestion, Teacher, perspective::Template, usage::UsageReport};

/// Prompt tokens of a question that is not known yet, about.
const UNKNOWN_QUESTION: u64 = 80;

/// Earlier items from which on their share of repeated attempts counts.
const ENOUGH_EARLIER: u64 = 20;

/// One question under one perspective.
struct Item<'a> {
    question: &'a Question,
    perspective: &'a str,
    messages: Vec<chat::Message>,
}

impl Item<'_> {
    fn request(&self, seed: u64, attempt: u32) -> Request {
        // Endpoints take whole numbers of 63 bits.
        let seed = seed.wrapping_mul(u64::from(crate::MOST_ATTEMPTS)).wrapping_add(attempt.into());
        Request { messages: self.messages.clone(), seed: seed & (u64::MAX >> 1) }
    }

    /// Whether another attempt is worth it.
    fn wrong(&self, completion: &Completion) -> bool {
        completion.truncated || !tasks::score(self.question, &completion.text).correct
    }
}

/// Every question under every perspective, question by question.
fn items<'a>(questions: &'a [Question], templates: &'a [Template]) -> Result<Vec<Item<'a>>, StageError> {
    crate::refuse_sealed(questions)?;
    let mut items = Vec::with_capacity(questions.len() * templates.len());
    for question in questions {
        for template in templates {
            let messages = template.messages(question).map_err(StageError::failed)?;
            items.push(Item { question, perspective: &template.name, messages });
        }
    }
    Ok(items)
}

/// Asks for every rationale; returns what it took, too.
pub(crate) fn write(
    endpoint: &Endpoint,
    templates: &[Template],
    attempts: u32,
    questions: &[Question],
    context: &Context,
) -> Result<(ByQuestion, UsageReport), StageError> {
    let items = items(questions, templates)?;
    let session = Session::open(endpoint, context, Teacher::NAME)?;
    let written = session.run(&items, "rationales", |item, ask| {
        let mut completions: Vec<Completion> = Vec::new();
        for attempt in 0..attempts {
            let completion = ask(&item.request(context.seed(), attempt))?;
            let again = item.wrong(&completion);
            completions.push(completion);
            if !again {
                break;
            }
        }
        Ok::<_, Halt>(completions)
    })?;
    let mut report = UsageReport::of(
        Some(endpoint.model.clone()),
        templates.iter().map(|template| template.name.as_str()),
    );
    let mut rationales: ByQuestion = Vec::with_capacity(questions.len());
    for (items, written) in items.chunks(templates.len()).zip(written.chunks(templates.len())) {
        let mut of_question = Vec::new();
        for (item, completions) in items.iter().zip(written) {
            for (attempt, completion) in (0..).zip(completions) {
                report.add(item.perspective, completion);
                of_question.push(Rationale {
                    perspective: item.perspective.to_owned(),
                    attempt,
                    text: completion.text.clone(),
                    truncated: completion.truncated,
                });
            }
        }
        rationales.push(of_question);
    }
    report.finish(endpoint);
    Ok((rationales, report))
}

/// What asking would take: exactly what is missing where the questions are known.
pub(crate) fn estimate(
    endpoint: &Endpoint,
    templates: &[Template],
    attempts: u32,
    questions: Option<&[Question]>,
    count: u64,
    outlook: &Outlook,
) -> CallEstimate {
    let mut forecast = Forecast::new(endpoint, outlook, Teacher::NAME);
    let Some(items) = questions.and_then(|questions| items(questions, templates).ok()) else {
        let blank = Question {
            id: String::new(),
            task: String::new(),
            question: String::new(),
            answer: String::new(),
            choices: Vec::new(),
            facts: None,
        };
        for item in items(&[blank], templates).unwrap_or_default() {
            forecast.assume(count, item.request(0, 0).prompt_tokens() + UNKNOWN_QUESTION);
        }
        let mut estimate = forecast.estimate();
        if attempts > 1 {
            estimate.basis.push_str(&once(attempts));
        }
        return estimate;
    };
    let (mut finished, mut asked, mut missing, mut prompt_tokens) = (0u64, 0u64, 0u64, 0u64);
    for item in &items {
        let mut attempt = 0;
        loop {
            let request = item.request(outlook.seed(), attempt);
            let Some(completion) = forecast.ask(&request) else {
                missing += 1;
                prompt_tokens += request.prompt_tokens();
                break;
            };
            attempt += 1;
            if attempt == attempts || !item.wrong(&completion) {
                finished += 1;
                asked += u64::from(attempt);
                break;
            }
        }
    }
    let enough = finished >= ENOUGH_EARLIER;
    if enough && missing > 0 {
        // Repeated attempts come at the rate they came so far.
        forecast.assume((asked - finished) * missing / finished, prompt_tokens / missing);
    }
    let mut estimate = forecast.estimate();
    if attempts > 1 && !enough {
        estimate.basis.push_str(&once(attempts));
    }
    estimate
}

/// What an estimate leaves out that knows no earlier attempts.
fn once(attempts: u32) -> String {
    format!("; each asked once, though up to {attempts} times where wrong")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::{collections::BTreeMap, fs, path::Path};

    use chat::bench::{Asked, Reply, Server};
    use contract::{
        Foreseen, Kind,
        bench::Bench,
        jsonl,
        records::{QuestionRationales, files},
    };
    use serde_json::{Value, json};

    use super::*;
    use crate::{USAGE, UsageReport};

    fn questions(folder: &Path, count: usize) {
        let question = |n: usize| json!({"id": format!("q{n}"), "task": "gsm8k", "question": format!("What is {n} + 0?"), "answer": n.to_string()});
        let questions: Vec<Value> = (0..count).map(question).collect();
        jsonl::write(&folder.join(files::QUESTIONS), &questions).unwrap();
    }

    fn params(server: &Server, more: Value) -> Value {
        let mut params = json!({"provider": {"openai": {
            "base_url": server.base_url(), "model": "m", "retry": {"first_wait": 0.001, "longest_wait": 0.01},
            "prices": {"m": {"prompt": 1e6, "completion": 2e6}},
        }}});
        params.as_object_mut().unwrap().append(more.clone().as_object_mut().unwrap());
        params
    }

    /// The number that the question in a prompt asks for.
    fn asked_for(asked: &Asked) -> String {
        let (_, rest) = asked.prompt.split_once("What is ").unwrap();
        rest.split_once(" + 0?").unwrap().0.to_owned()
    }

    /// Right, but that `counterfactual` first succeeds at its third attempt.
    fn script(asked: &Asked) -> Reply {
        let wrong = asked.prompt.contains("what would be different") && asked.seed % 1000 < 2;
        let answer = if wrong { "-1".to_owned() } else { asked_for(asked) };
        Reply::Good(format!("It is plain. The answer is \\boxed{{{answer}}}"))
    }

    #[test]
    fn every_question_is_asked_under_every_perspective_and_again_where_wrong() {
        let folder = tempfile::tempdir().unwrap();
        questions(folder.path(), 3);
        let server = Server::start(script).unwrap();
        let bench = Bench::new(folder.path()).input("questions", folder.path(), &[]).seed(4);
        let more = json!({"perspectives": "paper", "attempts": 3});
        bench.run(&Teacher, &params(&server, more)).unwrap();
        let output = bench.output("completions");
        let names: Vec<String> = jsonl::read_json(&output.join(files::PERSPECTIVES)).unwrap();
        assert_eq!(names, tasks::PERSPECTIVES);
        let completions: Vec<QuestionRationales> = jsonl::read(&output.join(files::COMPLETIONS)).unwrap();
        assert_eq!(completions.len(), 3);
        for completion in &completions {
            let shape: Vec<(&str, u32)> =
                completion.rationales.iter().map(|r| (r.perspective.as_str(), r.attempt)).collect();
            let once = tasks::PERSPECTIVES[..7].iter().map(|name| (*name, 0));
            let thrice = (0..3).map(|attempt| ("counterfactual", attempt));
            assert_eq!(shape, once.chain(thrice).collect::<Vec<_>>());
        }
        assert_eq!(server.asked(), 30);
        let usage: UsageReport = jsonl::read_json(&bench.output("usage").join(USAGE)).unwrap();
        assert_eq!((usage.total.completions, usage.perspectives[7].taken.completions), (30, 9));
        assert_eq!(usage.total.usage.completion_tokens, 7 * 30);
        let prompt = usage.total.usage.prompt_tokens as f64;
        assert_eq!(usage.cost, Some(prompt + 2.0 * 7.0 * 30.0));
    }

    #[test]
    fn a_sealed_question_is_never_sent() {
        let folder = tempfile::tempdir().unwrap();
        let seal = tasks::gpqa::seal;
        let sealed = json!({
            "id": "q7", "task": "gpqa-diamond", "question": seal("Which particle?"), "answer": "A",
            "choices": [seal("pion"), seal("muon"), seal("kaon"), seal("tau")],
        });
        jsonl::write(&folder.path().join(files::QUESTIONS), [&sealed]).unwrap();
        let server = Server::start(|_| Reply::Good("The answer is \\boxed{A}".to_owned())).unwrap();
        let bench = Bench::new(folder.path()).input("questions", folder.path(), &[]);
        let error = bench.run(&Teacher, &params(&server, json!({"perspectives": ["planning"]}))).unwrap_err();
        assert_eq!(
            error.to_string(),
            "`gpqa-diamond` is a held-out test set: its question `q7` is sealed and is sent to no endpoint"
        );
        assert!(error.help().unwrap().contains("only for `evaluate`"));
        assert_eq!(server.asked(), 0);
    }

    #[test]
    fn more_questions_and_perspectives_pay_only_for_themselves() {
        let folder = tempfile::tempdir().unwrap();
        questions(folder.path(), 2);
        let server = Server::start(script).unwrap();
        let bench = Bench::new(folder.path()).input("questions", folder.path(), &[]);
        let run = |list: Value| bench.run(&Teacher, &params(&server, json!({"perspectives": list}))).unwrap();
        run(json!(["planning"]));
        assert_eq!(server.asked(), 2);
        questions(folder.path(), 5);
        let own = folder.path().join("own.md");
        fs::write(&own, "---\nname: own\ndescription: d\n---\nTell me: {{ question }}\n").unwrap();
        run(json!([own, "planning"]));
        assert_eq!(server.asked(), 10);
        fs::write(&own, "---\nname: own\ndescription: d\n---\nTell me now: {{ question }}\n").unwrap();
        run(json!(["planning", own]));
        assert_eq!(server.asked(), 15);
        let names: Vec<String> =
            jsonl::read_json(&bench.output("completions").join(files::PERSPECTIVES)).unwrap();
        assert_eq!(names, ["planning", "own"]);
    }

    #[test]
    fn the_estimate_is_exact_where_the_questions_are_there() {
        let folder = tempfile::tempdir().unwrap();
        questions(folder.path(), 40);
        let server = Server::start(script).unwrap();
        let wanted = params(&server, json!({"perspectives": ["planning", "counterfactual"], "attempts": 3}));
        let resolved = Teacher.resolve(&wanted).unwrap();
        let estimate = |input: Foreseen| {
            let inputs = BTreeMap::from([("questions".to_owned(), vec![input])]);
            let outlook = Outlook::new(inputs, &folder.path().join("journals"), 0);
            Kind::estimate(&Teacher, &resolved, &outlook).calls
        };
        let there = || Foreseen { path: Some(folder.path().to_owned()), records: None };
        assert_eq!(estimate(Foreseen::default()), None);
        let before = estimate(Foreseen { path: None, records: Some(40) }).unwrap();
        assert_eq!((before.calls, before.journalled), (80, 0));
        assert_eq!(before.completion_tokens, 80 * 1024);
        assert_eq!(
            before.basis,
            "every completion at its longest, 1024 tokens; each asked once, though up to 3 times where wrong"
        );
        assert!(before.cost.unwrap() > 160.0 * 1024.0);
        let before = estimate(there()).unwrap();
        assert_eq!((before.calls, before.journalled), (80, 0));

        let bench = Bench::new(folder.path()).input("questions", folder.path(), &[]);
        bench.run(&Teacher, &wanted).unwrap();
        assert_eq!(server.asked(), 160);
        let after = estimate(there()).unwrap();
        assert_eq!((after.calls, after.journalled, after.completion_tokens), (0, 160, 0));
        // Twenty more: asked twice an item in the mean so far.
        questions(folder.path(), 60);
        let more = estimate(there()).unwrap();
        assert_eq!((more.calls, more.journalled), (80, 160));
        assert_eq!(more.completion_tokens, 80 * 7);
        assert_eq!(more.basis, "completions as long as 160 earlier ones, 7 tokens");
    }
}
