//! Kind `dataset`: the questions of a task, from a file or from a built-in generator.
//!
//! A file is JSON Lines (`{"id", "question", "answer", "choices"}`, one question a line) or CSV with a header
//! of the same names (choices separated by `|`); further keys and columns are ignored. Every question is
//! checked, and the first that cannot be asked or scored stops the cell with its file and line. `gpqa-diamond`
//! reads the CSV file of its authors; its questions are stored sealed, as they ask.
//!
//! Questions on port `without` are left out, wherever they stand in the file: that is how a train file that holds a few
//! test questions is used. Questions that read the same are one, see [`mod@identity`].
//!
//! It does not fetch anything and does not judge whether a gold answer is right.

mod file;
mod identity;

use std::{collections::HashSet, fs};

use contract::{
    ArtifactType, Context, Digest, Estimate, FilePath, Item, Outlook, Port, PortFlow, Stage, StageError,
    jsonl,
    records::{Question, files},
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tasks::{
    DeclaredTask, Task,
    builtin::{self, Split},
    gpqa::{self, Shuffle},
};

use file::Source;
use identity::identity;

/// Larger question files are not read whenever a recipe is checked, bytes. One of this size takes 6 s of an unoptimised build.
const LARGEST_CHECKED: u64 = 64 << 20;

/// The kind `dataset`.
pub struct Dataset;

/// What a dataset stage is told.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DatasetParams {
    /// The task, which decides prompt, answer extraction and scoring. Default: the one in `declare`.
    #[serde(default)]
    pub task: Option<Task>,
    /// A task of your own, instead of `task`: its name, its answer type and its prompt.
    #[serde(default)]
    pub declare: Option<DeclaredTask>,
    /// In which order the choices of `gpqa-diamond` stand, as its file lists the right one first: `simple_evals`,
    /// `opencompass` or `lm_eval`. Default: `simple_evals`, which does not depend on other tasks.
    #[serde(default)]
    pub shuffle: Shuffle,
    /// Which part of the task: `train`, `test` or `pretrain`. A test split is held out: the plan refuses to train on it.
    pub split: Split,
    /// A `.jsonl` or `.csv` file of questions. Default: the built-in generator, for the tasks that have one.
    #[serde(default)]
    pub path: Option<FilePath>,
    /// How many questions. Default: the whole file; required without `path`. A larger count keeps the questions
    /// of a smaller one.
    #[serde(default)]
    pub count: Option<usize>,
    /// Decides which questions `count` picks or generates. Default: 0.
    #[serde(default)]
    pub seed: u64,
    /// How many questions of the same `seed` to pass over: `skip: 250` shares none with `count: 250`. Default: 0.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub skip: usize,
}

fn is_zero(number: &usize) -> bool {
    *number == 0
}

/// No question is left to be taken.
#[derive(Debug, thiserror::Error)]
#[error("no question is left of {found}: `skip` passes over {skip}, and port `without` holds {without}")]
struct NothingLeft {
    found: usize,
    skip: usize,
    without: usize,
}

impl Stage for Dataset {
    type Params = DatasetParams;

    const NAME: &'static str = "dataset";
    const VERSION: u32 = 2;
    const ABOUT: &'static str = "questions of a task, from a file or from a built-in generator";
    const SEEDED: bool = false;
    const COMPUTES: bool = false;
    const INPUTS: &'static [Port] = &[Port::input(
        "without",
        ArtifactType::Questions,
        PortFlow::Excludes,
        "questions to leave out: those of a test split, where the file holds some of them",
    )
    .any()];
    const OUTPUTS: &'static [Port] =
        &[Port::output("questions", ArtifactType::Questions, "the questions with their gold answers")];

    fn check(params: &DatasetParams) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut problem = |field: &str, text: String| problems.push((field.to_owned(), text));
        if params.count == Some(0) {
            problem("/count", "must be at least 1".into());
        }
        match (params.task, &params.declare) {
            (None, None) => problem("/task", "is required, or `declare` for a task of your own".into()),
            (Some(_), Some(_)) => problem("/declare", "is given beside `task`; leave one of them out".into()),
            (None, Some(declared)) => {
                for (field, text) in declared.problems() {
                    problem(&format!("/declare/{field}"), text);
                }
            }
            (Some(task), None) => {
                if task != Task::GpqaDiamond && params.shuffle != Shuffle::default() {
                    problem("/shuffle", format!("is for `{}` alone", Task::GpqaDiamond));
                }
                if task == Task::GpqaDiamond && params.split != Split::Test {
                    problem("/split", format!("must be `test`: all of `{task}` is held out"));
                }
            }
        }
        match &params.path {
            Some(path) if file::Format::of(path.as_ref()).is_none() => {
                problem("/path", "must end in `.jsonl` or `.csv`".into());
            }
            Some(_) => {}
            None => match (params.task, &params.declare) {
                (Some(task), _) if !task.is_builtin() => {
                    problem("/path", format!("is required: task `{task}` is not built in"));
                }
                (None, Some(declared)) => {
                    problem("/path", format!("is required: task `{}` is not built in", declared.name));
                }
                (Some(_), _) if params.count.is_none() => {
                    problem("/count", "is required where questions are generated".into());
                }
                (Some(_) | None, _) => {}
            },
        }
        problems
    }

    fn held_out(params: &DatasetParams) -> bool {
        match params.split {
            Split::Test => true,
            Split::Train | Split::Pretrain => false,
        }
    }

    fn items(params: &DatasetParams) -> Option<Vec<Item>> {
        let path = params.path.as_ref()?.as_ref();
        let small = |file: &fs::Metadata| file.is_file() && file.len() <= LARGEST_CHECKED;
        fs::metadata(path).ok().filter(small)?;
        // What is wrong with a file is for `run` to say.
        file::items(path, source(params), params.shuffle).ok()
    }

    fn estimate(params: &DatasetParams, _outlook: &Outlook) -> Estimate {
        let in_file = |path: &FilePath| {
            file::read(path.as_ref(), source(params), params.shuffle).ok().map(|all| all.len())
        };
        let records = match (&params.path, params.count) {
            (Some(path), count) => {
                let left = |found: usize| found.saturating_sub(params.skip);
                in_file(path).map(|found| left(found).min(count.unwrap_or(found)))
            }
            (None, count) => count,
        };
        Estimate { records: records.map(|records| records as u64), calls: None }
    }

    fn run(params: DatasetParams, context: &Context) -> Result<(), StageError> {
        let mut questions = match (&params.path, source(&params)) {
            (Some(path), source) => file::read(path.as_ref(), source, params.shuffle)?,
            (None, Source::Declared(_)) => unreachable!("`check` requires a path for a declared task"),
            (None, Source::Known(task)) => {
                let count = params.count.expect("`check` requires a count for generated questions");
                builtin::generate(task, params.split, params.seed, params.skip.saturating_add(count))
                    .map_err(StageError::failed)?
                    .split_off(params.skip)
            }
        };
        let found = questions.len();
        leave_out(&mut questions, context)?;
        let without = found - questions.len();
        if without > 0 {
            context.note(format!("{without} of {found} questions are left out: port `without` holds them"));
        }
        if params.path.is_some() {
            let left = questions.len().saturating_sub(params.skip);
            let wanted = params.count.unwrap_or(left);
            if wanted > left {
                context.note(format!("there are {left} questions, fewer than the {wanted} asked for"));
            }
            questions = subsample(questions, params.seed, params.skip, wanted);
        }
        if questions.is_empty() {
            return Err(StageError::failed(NothingLeft { found, skip: params.skip, without }));
        }
        context.progress(questions.len(), questions.len(), "questions");
        jsonl::write(&context.output("questions").join(files::QUESTIONS), &questions)
    }
}

fn source(params: &DatasetParams) -> Source<'_> {
    match (params.task, &params.declare) {
        (_, Some(declared)) => Source::Declared(declared),
        (task, None) => Source::Known(task.expect("`check` requires a task where none is declared")),
    }
}

/// Drops the questions that port `without` holds.
fn leave_out(questions: &mut Vec<Question>, context: &Context) -> Result<(), StageError> {
    let mut without = HashSet::new();
    for input in context.inputs("without") {
        let questions: Vec<Question> = jsonl::read(&input.file(files::QUESTIONS))?;
        without.extend(questions.iter().map(known_again));
    }
    if !without.is_empty() {
        questions.retain(|question| !without.contains(&known_again(question)));
    }
    Ok(())
}

/// The identity of a question, sealed or not.
fn known_again(question: &Question) -> Digest {
    let choices: Vec<String> =
        question.choices.iter().map(|choice| gpqa::unsealed(choice).into_owned()).collect();
    identity(&gpqa::unsealed(&question.question), &choices)
}

/// Of the questions in the order of their hashes, passes over `skip` and keeps `count`, in the order of the file.
fn subsample(mut questions: Vec<Question>, seed: u64, skip: usize, count: usize) -> Vec<Question> {
    let end = skip.saturating_add(count);
    if skip == 0 && end >= questions.len() {
        return questions;
    }
    let rank = |question: &Question| Digest::of_json(&(seed, &question.id));
    let mut ranks: Vec<Digest> = questions.iter().map(rank).collect();
    ranks.sort_unstable();
    let Some(first) = ranks.get(skip) else { return Vec::new() };
    let limit = ranks.get(end);
    questions.retain(|question| {
        let rank = rank(question);
        rank >= *first && limit.is_none_or(|limit| rank < *limit)
    });
    questions
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::{collections::BTreeSet, path::Path};

    use contract::bench::Bench;
    use serde_json::{Value, json};

    use super::*;

    fn run(folder: &Path, params: &Value) -> Result<Vec<Question>, StageError> {
        let bench = Bench::new(folder);
        bench.run(&Dataset, params)?;
        jsonl::read(&bench.output("questions").join(files::QUESTIONS))
    }

    /// Writes `text` to a file, reads it as a dataset and returns the error.
    fn refused(name: &str, task: &str, text: &str) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        let params = json!({"task": task, "split": "train", "path": path});
        let error = run(folder.path(), &params).unwrap_err().to_string();
        error.replace(&format!("{}/", folder.path().display()), "")
    }

    #[test]
    fn json_lines_keep_every_field_and_ignore_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.jsonl");
        fs::write(
            &path,
            concat!(
                r#"{"id":"a","question":"Where?","answer":"B","choices":["here","there"],"source":"x"}"#,
                "\n\n",
                r#"{"id":"b","question":"Why?","answer":"A","choices":["so","not"],"facts":{"n":1}}"#,
                "\n"
            ),
        )
        .unwrap();
        let questions = run(folder.path(), &json!({"task": "csqa", "split": "test", "path": path})).unwrap();
        assert_eq!(questions.len(), 2);
        assert_eq!(questions[0].task, "csqa");
        assert_eq!(questions[0].choices, ["here", "there"]);
        assert_eq!(questions[1].facts, Some(json!({"n": 1})));
    }

    #[test]
    fn csv_reads_like_json_lines() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.csv");
        fs::write(&path, "answer,id,question,choices,note\nB,a,\"Where,\nthen?\",here|there,x\n").unwrap();
        let questions = run(folder.path(), &json!({"task": "csqa", "split": "train", "path": path})).unwrap();
        assert_eq!(questions.len(), 1);
        assert_eq!(questions[0].question, "Where,\nthen?");
        assert_eq!((questions[0].answer.as_str(), questions[0].choices.len()), ("B", 2));

        fs::write(&path, "id,question,answer\na,1+1?,2\n").unwrap();
        let questions =
            run(folder.path(), &json!({"task": "gsm8k", "split": "train", "path": path})).unwrap();
        assert_eq!(questions[0].answer, "2");
        assert!(questions[0].choices.is_empty());
    }

    #[test]
    fn a_number_may_stand_without_quotes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.jsonl");
        fs::write(&path, r#"{"id":"a","question":"1+1?","answer":2}"#).unwrap();
        let questions =
            run(folder.path(), &json!({"task": "gsm8k", "split": "train", "path": path})).unwrap();
        assert_eq!(questions[0].answer, "2");
    }

    #[test]
    fn a_bad_question_is_named_by_file_and_line() {
        let good = r#"{"id":"a","question":"1+1?","answer":"2"}"#;
        let cases = [
            (format!("{good}\n{good}"), "`q.jsonl` line 2: id `a` already stands in line 1"),
            (r#"{"id":"a","question":" ","answer":"2"}"#.into(), "`q.jsonl` line 1: `question` is empty"),
            (format!("\n{}", r#"{"id":"a","question":"?"}"#), "`q.jsonl` line 2: `answer` is missing"),
            (r#"{"id":"a","question":"?","answer":""}"#.into(), "`q.jsonl` line 1: `answer` is missing"),
            (r#"{"question":"?","answer":"1"}"#.into(), "`q.jsonl` line 1: `id` is missing"),
            (
                r#"{"id":"a","question":"?","answer":["1"]}"#.into(),
                "`q.jsonl` line 1: `answer` is neither text nor a number",
            ),
        ];
        for (text, problem) in cases {
            assert_eq!(refused("q.jsonl", "gsm8k", &text), problem);
        }
        let broken = refused("q.jsonl", "gsm8k", "{\"id\":\"a\",");
        assert!(broken.starts_with("`q.jsonl` line 1: EOF while parsing"), "{broken}");
        assert_eq!(refused("q.jsonl", "gsm8k", "\n"), "`q.jsonl` holds no questions");

        let csv = "id,question,answer\na,?,1\nb,,2\n";
        assert_eq!(refused("q.csv", "gsm8k", csv), "`q.csv` line 3: `question` is empty");
        let short = refused("q.csv", "gsm8k", "id,question,answer\na,?,1\nb,?\n");
        assert!(short.starts_with("`q.csv` line 3: ") && short.contains("2 fields"), "{short}");
        assert_eq!(
            refused("q.csv", "gsm8k", "id,answer\na,1\n"),
            "`q.csv` line 1: the header has no column `question`"
        );
    }

    #[test]
    fn an_answer_that_cannot_be_given_is_refused() {
        let csqa = |answer: &str, choices: &str| {
            let text = format!(r#"{{"id":"a","question":"?","answer":"{answer}","choices":{choices}}}"#);
            refused("q.jsonl", "csqa", &text)
        };
        assert_eq!(csqa("C", r#"["x","y"]"#), "`q.jsonl` line 1: answer `C` is no letter from A to B");
        assert_eq!(csqa("x", r#"["x","y"]"#), "`q.jsonl` line 1: answer `x` is no letter from A to B");
        assert_eq!(csqa("A", "[]"), "`q.jsonl` line 1: `choices` is missing");
        assert_eq!(csqa("A", r#"["x"," "]"#), "`q.jsonl` line 1: choice B is empty");
        assert_eq!(
            refused("q.jsonl", "strategyqa", r#"{"id":"a","question":"?","answer":"true"}"#),
            "`q.jsonl` line 1: answer `true` is neither `yes` nor `no`"
        );
    }

    #[test]
    fn a_subsample_grows_and_keeps_the_file_order() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.jsonl");
        let lines: Vec<Value> =
            (0..50).map(|n| json!({"id": format!("q{n:02}"), "question": "?", "answer": "1"})).collect();
        jsonl::write(&path, &lines).unwrap();
        let ids = |count: usize, seed: u64| -> Vec<String> {
            let params =
                json!({"task": "gsm8k", "split": "train", "path": path, "count": count, "seed": seed});
            run(folder.path(), &params).unwrap().into_iter().map(|question| question.id).collect()
        };
        let (ten, twenty) = (ids(10, 0), ids(20, 0));
        assert_eq!((ten.len(), twenty.len()), (10, 20));
        assert!(ten.iter().all(|id| twenty.contains(id)));
        assert!(twenty.is_sorted());
        assert_ne!(ten, ids(10, 1));
        assert_eq!(ids(500, 0).len(), 50);
    }

    #[test]
    fn draws_that_skip_one_another_are_disjoint() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("train.jsonl");
        let lines: Vec<Value> =
            (0..50).map(|n| json!({"id": format!("q{n:02}"), "question": "?", "answer": "1"})).collect();
        jsonl::write(&path, &lines).unwrap();
        let file = json!({"task": "gsm8k", "split": "train", "path": path});
        let generated = json!({"task": "arithmetic", "split": "train"});
        for source in [file, generated] {
            let ids = |skip: usize, count: usize| -> BTreeSet<String> {
                let mut params = source.clone();
                (params["skip"], params["count"]) = (skip.into(), count.into());
                run(folder.path(), &params).unwrap().into_iter().map(|question| question.id).collect()
            };
            let (first, next, both) = (ids(0, 20), ids(20, 8), ids(0, 28));
            assert_eq!((first.len(), next.len()), (20, 8));
            assert!(first.is_disjoint(&next));
            assert_eq!(&first | &next, both);
        }
        let mut params = json!({"task": "gsm8k", "split": "train", "path": path, "skip": 45});
        assert_eq!(run(folder.path(), &params).unwrap().len(), 5);
        params["skip"] = 50.into();
        let error = run(folder.path(), &params).unwrap_err().to_string();
        assert_eq!(error, "no question is left of 50: `skip` passes over 50, and port `without` holds 0");
    }

    #[test]
    fn skip_is_no_part_of_params_that_do_not_say_it() {
        use contract::Kind;
        let params = json!({"task": "arithmetic", "split": "train", "count": 5});
        assert!(Dataset.resolve(&params).unwrap().get("skip").is_none());
    }

    #[test]
    fn questions_on_port_without_are_left_out() {
        let folder = tempfile::tempdir().unwrap();
        let (train, test) = (folder.path().join("train.jsonl"), folder.path().join("test"));
        let row = |id: &str, question: &str| json!({"id": id, "question": question, "answer": "1"});
        let rows = [row("a", "1 - 0?"), row("b", "What is one?"), row("c", "2 - 1?")];
        jsonl::write(&train, &rows).unwrap();
        fs::create_dir(&test).unwrap();
        let held_out = |id: &str, question: &str| Question {
            id: id.into(),
            task: "gsm8k".into(),
            question: question.into(),
            answer: "1".into(),
            choices: Vec::new(),
            facts: None,
        };
        let questions = [held_out("x", "what  is ONE?"), held_out("y", "3 - 2?")];
        jsonl::write(&test.join(files::QUESTIONS), &questions).unwrap();
        let bench = Bench::new(folder.path()).input("without", &test, &[]);
        let params = json!({"task": "gsm8k", "split": "train", "path": train});
        let notes = bench.run(&Dataset, &params).unwrap();
        assert_eq!(notes, ["1 of 3 questions are left out: port `without` holds them"]);
        let left: Vec<Question> = jsonl::read(&bench.output("questions").join(files::QUESTIONS)).unwrap();
        assert_eq!(left.iter().map(|question| question.id.as_str()).collect::<Vec<_>>(), ["a", "c"]);
    }

    #[test]
    fn a_file_is_told_question_by_question() {
        use contract::Kind;
        let folder = tempfile::tempdir().unwrap();
        let (json, csv) = (folder.path().join("q.jsonl"), folder.path().join("q.csv"));
        fs::write(&json, "\n{\"id\":\"a\",\"question\":\"Why?\",\"answer\":\"2\"}\n").unwrap();
        fs::write(&csv, "id,question,answer\nz,why?,2\n").unwrap();
        let items = |path: &Path| {
            let params = json!({"task": "gsm8k", "split": "train", "path": path, "count": 1});
            Dataset.items(&Dataset.resolve(&params).unwrap())
        };
        let (one, other) = (items(&json).unwrap(), items(&csv).unwrap());
        assert_eq!((one[0].id.as_str(), one[0].line, one.len()), ("a", 2, 1));
        assert_eq!((other[0].id.as_str(), other[0].line, other.len()), ("z", 2, 1));
        assert_eq!(one[0].identity, other[0].identity);
        fs::write(&json, "no json").unwrap();
        assert_eq!(items(&json), None);
    }

    #[test]
    fn a_built_in_task_needs_no_file() {
        let folder = tempfile::tempdir().unwrap();
        let params = |count: usize| json!({"task": "arithmetic", "split": "train", "count": count});
        let few = run(folder.path(), &params(5)).unwrap();
        let more = run(folder.path(), &params(8)).unwrap();
        assert_eq!(few.len(), 5);
        assert_eq!(few, more[..5]);
        let test = json!({"task": "arithmetic", "split": "test", "count": 8});
        let test = run(folder.path(), &test).unwrap();
        assert!(test.iter().all(|held_out| more.iter().all(|seen| seen.question != held_out.question)));
    }

    #[test]
    fn a_declared_task_takes_its_prompt_along() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("test.jsonl");
        fs::write(&path, r#"{"id":"a","question":"Is it?","answer":"yes"}"#).unwrap();
        let declared = json!({"name": "boolq", "answer": "yes-no", "prompt": "{question}\n"});
        let params = json!({"declare": declared, "split": "test", "path": path});
        let questions = run(folder.path(), &params).unwrap();
        assert_eq!(questions[0].task, "boolq");
        assert_eq!(tasks::prompt(&questions[0]), "Is it?\n");
        fs::write(&path, r#"{"id":"a","question":"Is it?","answer":"B"}"#).unwrap();
        let error = run(folder.path(), &params).unwrap_err().to_string();
        assert!(error.ends_with("line 1: answer `B` is neither `yes` nor `no`"), "{error}");
    }

    #[test]
    fn gpqa_is_shuffled_and_stored_sealed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("gpqa_diamond.csv");
        let header =
            "Subdomain,Question,Correct Answer,Incorrect Answer 1,Incorrect Answer 2,Incorrect Answer 3\n";
        fs::write(&path, format!("{header}x,\"Why, then?\",right,w1,w2,w3\nx,How?,right,w1,w2,w3\n"))
            .unwrap();
        let mut params = json!({"task": "gpqa-diamond", "split": "test", "path": path});
        let questions = run(folder.path(), &params).unwrap();
        let stored = serde_json::to_string(&questions).unwrap();
        assert!(!stored.contains("Why") && !stored.contains("right"), "{stored}");
        assert_eq!(questions.iter().map(|question| question.answer.as_str()).collect::<Vec<_>>(), ["C", "D"]);
        assert_eq!(questions[0].facts, Some(json!({"permutation": [3, 1, 0, 2]})));
        let asked = tasks::prompt(&questions[0]);
        assert!(asked.contains("Why, then?\nA) w3\nB) w1\nC) right\nD) w2\n"), "{asked}");
        params["shuffle"] = "opencompass".into();
        assert_eq!(run(folder.path(), &params).unwrap()[0].answer, "D");

        fs::write(&path, "Question,Correct Answer\nWhy?,so\n").unwrap();
        let error = run(folder.path(), &params).unwrap_err().to_string();
        assert!(error.ends_with("line 1: the header has no column `Incorrect Answer 1`"), "{error}");
        assert!(!error.contains("Why"));
    }

    #[test]
    fn params_are_checked_before_anything_runs() {
        use contract::Kind;
        let problems = |params: Value| Dataset.resolve(&params).unwrap_err();
        assert_eq!(
            problems(json!({"split": "train"}))[0],
            ("/task".to_owned(), "is required, or `declare` for a task of your own".to_owned())
        );
        let declared = json!({"name": "asdiv", "answer": "number"});
        assert_eq!(
            problems(json!({"task": "gsm8k", "declare": declared, "split": "train", "path": "a.csv"}))[0].0,
            "/declare"
        );
        assert_eq!(
            problems(json!({"declare": {"name": "csqa", "answer": "letter"}, "split": "train"})),
            [
                ("/declare/name".to_owned(), "`csqa` is a known task; write `task: csqa` instead".to_owned()),
                ("/path".to_owned(), "is required: task `csqa` is not built in".to_owned()),
            ]
        );
        assert_eq!(
            problems(json!({"task": "gpqa-diamond", "split": "train", "path": "a.csv"}))[0].0,
            "/split"
        );
        assert_eq!(
            problems(json!({"task": "gsm8k", "split": "train", "path": "a.csv", "shuffle": "lm_eval"}))[0].0,
            "/shuffle"
        );
        assert_eq!(
            problems(json!({"task": "gsm8k", "split": "train"})),
            [("/path".to_owned(), "is required: task `gsm8k` is not built in".to_owned())]
        );
        assert_eq!(problems(json!({"task": "calendar", "split": "train"}))[0].0, "/count");
        assert_eq!(problems(json!({"task": "calendar", "split": "train", "count": 0}))[0].0, "/count");
        assert_eq!(problems(json!({"task": "gsm8k", "split": "train", "path": "a.parquet"}))[0].0, "/path");
        assert!(problems(json!({"task": "gsm8k", "split": "train", "paht": "a"}))[0].1.contains("paht"));
        let test = json!({"task": "calendar", "split": "test", "count": 1});
        assert!(Dataset.held_out(&Dataset.resolve(&test).unwrap()));
    }
}
