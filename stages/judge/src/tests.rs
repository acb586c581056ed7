//! The kind on fixtures worked out by hand.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;

use contract::bench::Bench;
use serde_json::{Value, json};

use super::*;

struct Result {
    kept: Vec<QuestionRationales>,
    judgements: Vec<Judgement>,
    funnel: Funnel,
    notes: Vec<String>,
}

fn question(id: &str, answer: &str, rationales: Value) -> Value {
    json!({
        "question": {"id": id, "task": "gsm8k", "question": format!("{id}?"), "answer": answer},
        "rationales": rationales,
    })
}

fn rationale(perspective: &str, attempt: u32, text: &str) -> Value {
    json!({"perspective": perspective, "attempt": attempt, "text": text})
}

fn write(folder: &Path, perspectives: &[&str], completions: &[Value]) {
    jsonl::write_json(&folder.join(files::PERSPECTIVES), &perspectives).unwrap();
    jsonl::write(&folder.join(files::COMPLETIONS), completions).unwrap();
}

fn judge(
    perspectives: &[&str],
    completions: &[Value],
    params: Value,
) -> std::result::Result<Result, StageError> {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), perspectives, completions);
    let bench = Bench::new(folder.path()).input("completions", folder.path(), &[]);
    let notes = bench.run(&Judge, &params)?;
    let (rationales, judgements) = (bench.output("rationales"), bench.output("judgements"));
    let names: Vec<String> = jsonl::read_json(&rationales.join(files::PERSPECTIVES)).unwrap();
    assert_eq!(names, perspectives);
    Ok(Result {
        kept: jsonl::read(&rationales.join(files::RATIONALES)).unwrap(),
        judgements: jsonl::read(&judgements.join(judgement_files::JUDGEMENTS)).unwrap(),
        funnel: jsonl::read_json(&judgements.join(judgement_files::FUNNEL)).unwrap(),
        notes,
    })
}

/// `count` questions, answered right by each perspective in words of its own.
fn easy(count: usize, perspectives: &[&str]) -> Vec<Value> {
    let one = |n: usize| {
        let right =
            |name: &&str| rationale(name, 0, &format!("{name} says that {n}. The answer is \\boxed{{7}}"));
        question(&format!("q{n:03}"), "7", perspectives.iter().map(right).collect())
    };
    (0..count).map(one).collect()
}

#[test]
fn every_completion_has_one_outcome() {
    let mut cut = rationale("planning", 0, "It is plain. The answer is \\boxed{7}");
    cut["truncated"] = true.into();
    let completions = [question(
        "a",
        "7",
        json!([
            cut,
            rationale("planning", 1, "Plan, then add three and four. The answer is \\boxed{7}"),
            rationale("planning", 2, "Another plan. The answer is \\boxed{7}"),
            rationale("analogy", 0, "Like apples and pears. The answer is \\boxed{8}"),
            rationale("analogy", 1, "Plan, then add three and four.\n\\boxed{7}"),
            rationale("socratic", 0, "The answer is \\boxed{7}"),
            rationale(
                "intuitive",
                0,
                "Picture three and then four and then all of them. The answer is \\boxed{7}"
            ),
        ]),
    )];
    let names = ["planning", "analogy", "socratic", "intuitive"];
    let result = judge(&names, &completions, json!({"max_chars": 40})).unwrap();
    let outcomes: Vec<(&str, u32, Outcome)> =
        result.judgements.iter().map(|j| (j.perspective.as_str(), j.attempt, j.outcome)).collect();
    assert_eq!(
        outcomes,
        [
            ("planning", 0, Outcome::Truncated),
            ("planning", 1, Outcome::Kept),
            ("planning", 2, Outcome::Surplus),
            ("analogy", 0, Outcome::Wrong),
            ("analogy", 1, Outcome::Duplicate),
            ("socratic", 0, Outcome::Bare),
            ("intuitive", 0, Outcome::TooLong),
        ]
    );
    assert!(result.judgements[0].correct);
    assert_eq!(result.judgements[3].extracted.as_deref(), Some("8"));
    assert_eq!(result.judgements[4].duplicate_of.as_deref(), Some("planning"));
    assert_eq!(result.kept.len(), 1);
    assert_eq!(
        result.kept[0].rationales,
        [Rationale {
            perspective: "planning".into(),
            attempt: 1,
            text: "Plan, then add three and four.\nThe answer is \\boxed{7}".into(),
            truncated: false,
        }]
    );
    assert_eq!(
        result.notes,
        [
            "kept 1 of 1 questions with 1 rationales",
            "planning: 1 of 1 answered, 1 right, 1 distinct, 1 kept (truncated 1, surplus 1)",
            "analogy: 1 of 1 answered, 1 right, 0 distinct, 0 kept (wrong 1, duplicate 1)",
            "socratic: 1 of 1 answered, 1 right, 0 distinct, 0 kept (bare 1)",
            "intuitive: 1 of 1 answered, 1 right, 0 distinct, 0 kept (too long 1)",
        ]
    );
    assert_eq!(result.funnel.perspectives[0].outcomes[&Outcome::Truncated], 1);
}

#[test]
fn texts_without_an_answer_are_unparsed_and_perspectives_without_text_are_counted() {
    let completions = [
        question("a", "7", json!([rationale("planning", 0, "I have no idea.")])),
        question("b", "7", json!([rationale("analogy", 0, "Apples. The answer is \\boxed{7}")])),
    ];
    let result = judge(&["planning", "analogy"], &completions, json!({})).unwrap();
    assert_eq!(result.judgements[0].outcome, Outcome::Unparsed);
    assert_eq!(result.judgements[0].extracted, None);
    assert_eq!(result.kept.len(), 1);
    assert_eq!(result.funnel.questions.dropped[&Outcome::TooFew], 1);
    let planning = &result.funnel.perspectives[0];
    assert_eq!((planning.asked, planning.answered, planning.right, planning.kept), (2, 1, 0, 0));
}

#[test]
fn duplicates_are_found_from_the_threshold_on() {
    // Word 3-grams: 8 and 8, 7 in both, so the index is 7 / 9.
    let completions = [question(
        "a",
        "7",
        json!([
            rationale("planning", 0, "a b c d e f g h i x\nThe answer is \\boxed{7}"),
            rationale("analogy", 0, "a b c d e f g h i y\nThe answer is \\boxed{7}"),
        ]),
    )];
    let kept = |dedup: f64| {
        let params = json!({"dedup": dedup});
        judge(&["planning", "analogy"], &completions, params).unwrap().kept[0].rationales.len()
    };
    assert_eq!(kept(7.0 / 9.0), 1);
    assert_eq!(kept(0.78), 2);
    assert_eq!(kept(1.0), 2);
}

#[test]
fn questions_with_too_few_right_perspectives_are_dropped() {
    let mut completions = easy(1, &["planning", "analogy"]);
    completions.push(question(
        "b",
        "7",
        json!([
            rationale("planning", 0, "Two and five. The answer is \\boxed{7}"),
            rationale("analogy", 0, "\\boxed{1}")
        ]),
    ));
    let result = judge(&["planning", "analogy"], &completions, json!({"keep": {"min_correct": 2}})).unwrap();
    assert_eq!(result.kept.len(), 1);
    let outcomes: Vec<Outcome> = result.judgements.iter().map(|judgement| judgement.outcome).collect();
    assert_eq!(outcomes, [Outcome::Kept, Outcome::Kept, Outcome::TooFew, Outcome::Wrong]);
    assert_eq!(result.funnel.perspectives[0].deduplicated, 2);
    assert_eq!(result.funnel.perspectives[0].kept, 1);
    assert_eq!(result.notes[0], "kept 1 of 2 questions with 2 rationales (too few right 1)");
}

#[test]
fn a_share_of_the_easy_questions_is_kept_and_all_of_the_hard_ones() {
    let names = ["planning", "analogy"];
    let mut completions = easy(200, &names);
    completions.push(question(
        "hard",
        "7",
        json!([
            rationale("planning", 0, "Two and five. The answer is \\boxed{7}"),
            rationale("analogy", 0, "Not so. The answer is \\boxed{1}"),
            rationale("analogy", 1, "Like apples. The answer is \\boxed{7}"),
        ]),
    ));
    let ids = |share: f64| -> Vec<String> {
        let kept = judge(&names, &completions, json!({"easy": share})).unwrap().kept;
        kept.into_iter().map(|item| item.question.id).collect()
    };
    let (none, some, more) = (ids(0.0), ids(0.25), ids(0.5));
    assert_eq!(none, ["hard"]);
    assert!((30..=70).contains(&some.len()), "{} of 200 at a share of 0.25", some.len());
    assert!(some.iter().all(|id| more.contains(id)));
    assert_eq!(ids(1.0).len(), 201);
}

#[test]
fn a_limit_on_questions_grows_and_keeps_their_order() {
    let completions = easy(40, &["planning"]);
    let ids = |limit: usize| -> Vec<String> {
        let result = judge(&["planning"], &completions, json!({"max_questions": limit})).unwrap();
        let over = result.judgements.iter().filter(|j| j.outcome == Outcome::OverLimit).count();
        assert_eq!(over, 40 - limit);
        result.kept.into_iter().map(|item| item.question.id).collect()
    };
    let (ten, twenty) = (ids(10), ids(20));
    assert_eq!((ten.len(), twenty.len()), (10, 20));
    assert!(ten.iter().all(|id| twenty.contains(id)));
    assert!(twenty.is_sorted());
}

#[test]
fn nothing_kept_is_an_error_that_says_why() {
    let completions = [question("a", "7", json!([rationale("planning", 0, "\\boxed{1}")]))];
    let error = judge(&["planning"], &completions, json!({})).err().unwrap().to_string();
    assert_eq!(
        error,
        "none of the 1 questions is kept: kept 0 of 1 questions with 0 rationales (too few right 1); \
         planning: 1 of 1 answered, 0 right, 0 distinct, 0 kept (wrong 1)"
    );
}

#[test]
fn params_are_checked_before_anything_runs() {
    use contract::Kind;
    let params =
        json!({"dedup": 1.1, "easy": -1.0, "keep": {"min_correct": 0}, "max_questions": 0, "max_chars": 0});
    let problems = Judge.resolve(&params).unwrap_err();
    let fields: Vec<&str> = problems.iter().map(|(field, _)| field.as_str()).collect();
    assert_eq!(fields, ["/dedup", "/easy", "/keep/min_correct", "/max_questions", "/max_chars"]);
}

#[test]
fn more_perspectives_than_there_are_cannot_be_asked_for() {
    use std::collections::BTreeMap;

    use contract::{Backend, Joined, Kind};
    let (backend, names) = (Backend::default(), ["planning".to_owned(), "analogy".to_owned()]);
    let problems = |wanted: usize, known: Option<&[String]>| {
        let params = Judge.resolve(&json!({"keep": {"min_correct": wanted}})).unwrap();
        let labels = BTreeMap::new();
        let joined = Joined { stage: "teacher", labels: &labels, perspectives: known };
        let joined = BTreeMap::from([("completions", vec![joined])]);
        Kind::check_setting(&Judge, &params, &Setting::new(&backend, joined))
    };
    let text = "3 is more than the 2 perspectives: no question could be kept";
    assert_eq!(problems(3, Some(&names)), [("/keep/min_correct".to_owned(), text.to_owned())]);
    assert_eq!(problems(2, Some(&names)), []);
    assert_eq!(problems(3, None), []);
}

#[test]
fn the_funnel_is_a_table_in_the_artifact() {
    let names = ["planning", "analogy"];
    let mut completions = easy(3, &names);
    completions.push(question(
        "b",
        "7",
        json!([
            rationale("planning", 0, "\\boxed{1}"),
            rationale("planning", 1, "Two and five. The answer is \\boxed{7}"),
        ]),
    ));
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &names, &completions);
    let bench = Bench::new(folder.path()).input("completions", folder.path(), &[]);
    bench.run(&Judge, &json!({"keep": {"min_correct": 2}, "max_questions": 2})).unwrap();
    let text = std::fs::read_to_string(bench.output("judgements").join(judgement_files::ACCEPTANCE)).unwrap();
    assert_eq!(
        text,
        "2 of 4 questions are kept, with 4 rationales (too few right 1, over the limit 1).\n\
         \n\
         Questions that got so far:\n\
         \n\
         | perspective | asked | answered | right | deduplicated | sufficient | down-sampled | kept | right at first |\n\
         | ----------- | ----: | -------: | ----: | -----------: | ---------: | -----------: | ---: | -------------: |\n\
         | planning    |     4 |        4 |     4 |            4 |          3 |            3 |    2 |              3 |\n\
         | analogy     |     4 |        3 |     3 |            3 |          3 |            3 |    2 |              3 |\n\
         | all         |     8 |        7 |     7 |            7 |          6 |            6 |    4 |              6 |\n\
         \n\
         Completions by what became of them:\n\
         \n\
         | perspective | completions | kept | wrong | too few right | over the limit |\n\
         | ----------- | ----------: | ---: | ----: | ------------: | -------------: |\n\
         | planning    |           5 |    2 |     1 |             1 |              1 |\n\
         | analogy     |           3 |    2 |     0 |             0 |              1 |\n\
         | all         |           8 |    4 |     1 |             1 |              2 |\n"
    );
}

#[test]
fn a_model_is_asked_about_whole_completions_that_are_not_accepted() {
    use chat::bench::{Asked, Reply, Server};
    use contract::Kind;

    let mut cut = rationale("socratic", 0, "What then? The answer is \\boxed{8}");
    cut["truncated"] = true.into();
    let completions = [question(
        "a",
        "7",
        json!([
            rationale("planning", 0, "Three, then four more. The answer is \\boxed{7}"),
            rationale(
                "analogy",
                0,
                "Like a week: it has that many days. The answer is \\boxed{a week's days}"
            ),
            rationale("intuitive", 0, "Picture it. The answer is \\boxed{8}"),
            rationale("contrastive", 0, "One or the other. The answer is \\boxed{9}"),
            cut,
        ]),
    )];
    let names = ["planning", "analogy", "intuitive", "contrastive", "socratic"];
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), &names, &completions);
    let server = Server::start(|asked: &Asked| {
        assert!(asked.prompt.contains("Reference answer: 7\n"), "{}", asked.prompt);
        assert_eq!(asked.body["temperature"], 0.0);
        Reply::Good(
            match (asked.prompt.contains("a week"), asked.prompt.contains("{8}")) {
                (true, _) => "Yes.",
                (false, true) => "no",
                (false, false) => "maybe",
            }
            .to_owned(),
        )
    })
    .unwrap();
    let params = json!({"llm": {"base_url": server.base_url(), "model": "m", "api_key_env": "JUDGE_KEY"}});
    let resolved = Judge.resolve(&params).unwrap();
    assert_eq!(Kind::secrets(&Judge, &resolved), ["JUDGE_KEY"]);
    for pointer in Kind::immaterial(&Judge) {
        assert!(resolved.pointer(pointer).is_some(), "{pointer} is no param");
    }
    let mut block = chat::Endpoint::IMMATERIAL.map(|field| format!("/llm/{field}")).to_vec();
    block.extend(["/llm/prices".to_owned(), "/llm/currency".to_owned()]);
    assert_eq!(Kind::immaterial(&Judge), block);
    let bench = Bench::new(folder.path())
        .input("completions", folder.path(), &[])
        .secret(contract::Secret::new("JUDGE_KEY", "sk-0123456789").unwrap());
    bench.run(&Judge, &params).unwrap();
    let judgements: Vec<Judgement> =
        jsonl::read(&bench.output("judgements").join(judgement_files::JUDGEMENTS)).unwrap();
    let shape: Vec<(Outcome, Option<bool>)> = judgements.iter().map(|j| (j.outcome, j.opinion)).collect();
    assert_eq!(
        shape,
        [
            (Outcome::Kept, None),
            (Outcome::Kept, Some(true)),
            (Outcome::Wrong, Some(false)),
            (Outcome::Wrong, None),
            (Outcome::Truncated, None),
        ]
    );
    let kept: Vec<QuestionRationales> =
        jsonl::read(&bench.output("rationales").join(files::RATIONALES)).unwrap();
    assert!(kept[0].rationales[1].text.ends_with("\nThe answer is \\boxed{7}"));
    let funnel: Funnel = jsonl::read_json(&bench.output("judgements").join(judgement_files::FUNNEL)).unwrap();
    let opinions = funnel.opinions.unwrap();
    assert_eq!((opinions.asked, opinions.accepted, opinions.unreadable), (3, 1, 1));
    // What was said is in the journal: nobody is asked twice.
    bench.run(&Judge, &params).unwrap();
    assert_eq!(server.asked(), 3);
}

#[test]
fn a_sealed_question_is_never_sent() {
    let folder = tempfile::tempdir().unwrap();
    let seal = tasks::gpqa::seal;
    let mut sealed = question("q7", "A", json!([rationale("planning", 0, "The answer is \\boxed{B}")]));
    sealed["question"]["task"] = "gpqa-diamond".into();
    sealed["question"]["question"] = seal("Which particle?").into();
    sealed["question"]["choices"] = json!([seal("pion"), seal("muon"), seal("kaon"), seal("tau")]);
    write(folder.path(), &["planning"], &[sealed]);
    let server = chat::bench::Server::start(|_| chat::bench::Reply::Good("yes".to_owned())).unwrap();
    let bench = Bench::new(folder.path()).input("completions", folder.path(), &[]);
    let params = json!({"llm": {"base_url": server.base_url(), "model": "m"}});
    let error = bench.run(&Judge, &params).unwrap_err();
    assert!(
        error.to_string().starts_with("`gpqa-diamond` is a held-out test set: its question `q7`"),
        "{error}"
    );
    assert!(error.help().unwrap().contains("only for `evaluate`"));
    assert_eq!(server.asked(), 0);
}

#[test]
fn mistakes_end_in_their_own_answer() {
    let folder = tempfile::tempdir().unwrap();
    let texts = json!([
        rationale("planning", 0, "Three and four is 7.\nThe answer is 7."),
        rationale("analogy", 0, "Three and four is 8.\nSo the answer is 8."),
        rationale("analogy", 1, "Three and four is 9.\n\\boxed{9}"),
        rationale("socratic", 0, "Who knows?"),
    ]);
    write(folder.path(), &["planning", "analogy", "socratic"], &[question("q1", "7", texts)]);
    let bench = Bench::new(folder.path()).input("completions", folder.path(), &[]);
    bench.run(&Judge, &json!({})).unwrap();
    let mistakes: Vec<QuestionRationales> =
        jsonl::read(&bench.output("mistakes").join(files::RATIONALES)).unwrap();
    let texts: Vec<(&str, u32, &str)> = mistakes[0]
        .rationales
        .iter()
        .map(|rationale| (rationale.perspective.as_str(), rationale.attempt, rationale.text.as_str()))
        .collect();
    assert_eq!(texts, [("analogy", 0, "Three and four is 8.\nThe answer is \\boxed{8}")]);
    assert_eq!(mistakes[0].question.answer, "7");
}
