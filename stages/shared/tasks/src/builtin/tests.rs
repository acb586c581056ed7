#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;

use super::*;
use crate::{PERSPECTIVES, answer_suffix, prompt, score};

const BUILTIN: [Task; 3] = [Task::Arithmetic, Task::Comparison, Task::Calendar];

fn given(task: Task, facts: serde_json::Value) -> Question {
    question(task, &Facts::deserialize(&facts).unwrap())
}

fn texts(question: &Question) -> Vec<String> {
    let solution = solve(question).unwrap();
    PERSPECTIVES.iter().map(|perspective| write(perspective, question, &solution).unwrap()).collect()
}

#[test]
fn one_question_from_eight_perspectives() {
    let facts = serde_json::json!({
        "family": "changes", "name": "Tom", "object": "pen", "start": 12, "changes": [
            {"verb": "finds", "effect": "gain", "amount": 5}, {"verb": "loses", "effect": "loss", "amount": 3}
        ]
    });
    let question = given(Task::Arithmetic, facts);
    assert_eq!(
        prompt(&question),
        "Q: Tom has 12 pens, finds 5 and loses 3. How many pens does Tom have now?\nA:\n"
    );
    assert_eq!(question.answer, "14");
    let expected = [
        "Let a = 12 + 5 = 17. Let b = a - 3 = 17 - 3 = 14. Hence 14 pens.",
        "Picture 12 pens on a table. 5 more come, 12 + 5 = 17. 3 go away, 17 - 3 = 14. You see 14 pens.",
        "1) Tom finds 5: 12 + 5 = 17. 2) Tom loses 3: 17 - 3 = 14. Together: 14 pens.",
        "Plan: add 5, then take away 3. Do: 12 + 5 = 17, then 17 - 3 = 14. Done: 14 pens.",
        "Think of a lift on floor 12: 5 floors up, 12 + 5 = 17; 3 floors down, 17 - 3 = 14. \
         Floors are pens, so 14 pens.",
        "Q: What first? A: Tom finds 5, so 12 + 5 = 17. Q: Then? A: Tom loses 3, so 17 - 3 = 14. \
         Q: So? A: 14 pens.",
        "One way: add all the numbers. But Tom loses 3, so this way is out. \
         Other way: 12 + 5 = 17, then 17 - 3 = 14. It holds: 14 pens.",
        "Suppose Tom stopped before the last change: 12 + 5 = 17 would be the end. \
         But Tom loses 3, and that decides: 17 - 3 = 14. So 14 pens.",
    ];
    assert_eq!(texts(&question), expected);
}

#[test]
fn each_family_is_solved_as_by_hand() {
    for (task, facts, text, decomposition, answer) in [
        (
            Task::Comparison,
            serde_json::json!({"family": "chain", "names": ["Tom", "Ann", "Sam"], "object": "cup", "start": 12, "gaps": [5, -7]}),
            "Tom has 12 cups. Ann has 5 more than Tom. Sam has 7 fewer than Ann. How many more cups does Tom have than Sam?",
            "1) Ann has 5 more than Tom: 12 + 5 = 17. 2) Sam has 7 fewer than Ann: 17 - 7 = 10. \
             3) The gap is asked: 12 - 10 = 2. Together: 2 cups.",
            "2",
        ),
        (
            Task::Comparison,
            serde_json::json!({"family": "ranking", "names": ["Tom", "Ann", "Sam"], "object": "key", "start": 12, "gap": -5,
                "third": 9, "most": false, "order": [2, 0, 1]}),
            "Tom has 12 keys. Ann has 5 fewer than Tom. Sam has 9 keys. Who has the fewest keys?",
            "1) Ann has 5 fewer than Tom: 12 - 5 = 7. 2) Tom meets Ann: 7 < 12. 3) The lower meets Sam: 7 < 9. \
             Together: Ann has the fewest, choice C.",
            "C",
        ),
        (
            Task::Calendar,
            serde_json::json!({"family": "conversion", "name": "Mia", "large": "week", "small": "day", "factor": 7, "count": 3,
                "changes": [1, -5]}),
            "Mia has 3 weeks and 1 day and uses 5 days. How many days are left?",
            "1) Each week has 7 days: 3 * 7 = 21. 2) There is 1 day more: 21 + 1 = 22. 3) Mia uses 5 days: 22 - 5 = 17. \
             Together: 17 days.",
            "17",
        ),
        (
            Task::Calendar,
            serde_json::json!({"family": "conversion", "name": "Mia", "large": "hour", "small": "minute", "factor": 60, "count": 1,
                "changes": [-20, -15]}),
            "Mia has 1 hour and uses 20 minutes and then 15 minutes. How many minutes are left?",
            "1) Each hour has 60 minutes: 1 * 60 = 60. 2) Mia uses 20 minutes: 60 - 20 = 40. \
             3) Mia uses 15 minutes: 40 - 15 = 25. Together: 25 minutes.",
            "25",
        ),
        (
            Task::Calendar,
            serde_json::json!({"family": "weekday", "name": "Ben", "today": 3, "first": 9, "second": 4, "choices": [2, 3, 6]}),
            "Today is Thursday. Ben leaves in 9 days and is back 4 days later. Which day is that?",
            "1) Ben waits 9 and 4 days: 9 + 4 = 13. 2) A week has 7 days: 13 - 7 = 6. \
             3) Today is Thursday: Thursday + 6 days = Wednesday. Together: it is Wednesday, choice A.",
            "A",
        ),
        (
            Task::Calendar,
            serde_json::json!({"family": "weekday", "name": "Ben", "today": 6, "first": 2, "second": 2, "choices": [1, 3, 4]}),
            "Today is Sunday. Ben leaves in 2 days and is back 2 days later. Which day is that?",
            "1) Ben waits 2 and 2 days: 2 + 2 = 4. 2) Today is Sunday: Sunday + 4 days = Thursday. \
             Together: it is Thursday, choice B.",
            "B",
        ),
    ] {
        let question = given(task, facts);
        assert_eq!(question.question, text);
        assert_eq!(texts(&question)[2], decomposition);
        assert_eq!(question.answer, answer);
    }
}

/// Whether every `a + b = c`, `a - b = c` and `a * b = c` of a text is true.
fn sums_are_true(text: &str) -> bool {
    let tokens: Vec<&str> =
        text.split_whitespace().map(|token| token.trim_end_matches(['.', ',', ';'])).collect();
    tokens.windows(5).all(|sum| {
        let (Ok(left), Ok(right), Ok(result)) =
            (sum[0].parse::<i64>(), sum[2].parse::<i64>(), sum[4].parse::<i64>())
        else {
            return true;
        };
        match (sum[1], sum[3]) {
            ("+", "=") => left + right == result,
            ("-", "=") => left - right == result,
            ("*", "=") => left * right == result,
            _ => true,
        }
    })
}

#[test]
fn rationales_are_right_short_and_distinct_and_slips_are_wrong() {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for task in BUILTIN {
        for question in generate(task, Split::Train, 5, 150).unwrap() {
            let solution = solve(&Question { answer: "junk".into(), ..question.clone() }).unwrap();
            assert_eq!(solution.answer, question.answer, "the gold answer is not read");
            let slipped = corrupt(&solution, &mut rng);
            assert_ne!(slipped.answer, solution.answer);
            assert_eq!(slipped.steps.len(), solution.steps.len());
            let mut openings = BTreeSet::new();
            for perspective in PERSPECTIVES {
                let text = write(perspective, &question, &solution).unwrap();
                let words = text.split_whitespace().count();
                assert!((15..=52).contains(&words) && !text.contains('\n'), "{words} words: {text}");
                assert!(sums_are_true(&text), "{text}");
                for step in &solution.steps {
                    assert!(text.contains(&step.to_string()), "{step} is missing: {text}");
                }
                assert!(openings.insert(text.split_whitespace().next().unwrap().to_owned()));
                let verdict = score(&question, &text);
                assert!(verdict.correct, "{verdict:?}: {text}");
                let ended = score(&question, &format!("{text} {}", answer_suffix(&question)));
                assert!(ended.correct && ended.rule == "box");

                let wrong = write(perspective, &question, &slipped).unwrap();
                let verdict = score(&question, &wrong);
                assert_eq!(verdict.extracted.as_ref(), Some(&slipped.answer), "{wrong}");
                assert!(!verdict.correct, "{wrong}");
            }
            assert_eq!(write("sideways", &question, &solution), None);
        }
    }
}

#[test]
fn splits_share_no_numbers_and_hold_no_question_twice() {
    for task in BUILTIN {
        let mut keys = BTreeMap::new();
        for split in Split::ALL {
            let questions = generate(task, split, 1, 400).unwrap();
            let distinct: BTreeSet<_> =
                questions.iter().map(|question| (&question.question, &question.choices)).collect();
            assert_eq!(distinct.len(), 400);
            for question in &questions {
                let key = Facts::of(question).unwrap().family().key();
                assert_eq!(*keys.entry(key).or_insert(split), split, "{}", question.question);
            }
        }
    }
}

#[test]
fn generation_is_repeatable_and_follows_the_seed() {
    let drawn = |seed, count| generate(Task::Comparison, Split::Test, seed, count).unwrap();
    assert_eq!(drawn(1, 50), drawn(1, 50));
    assert_eq!(drawn(1, 50)[..20], drawn(1, 20), "more questions do not change the first ones");
    assert_ne!(drawn(1, 50), drawn(2, 50));
    assert_eq!(primer(1, 20), primer(1, 20));
    assert_ne!(primer(1, 20), primer(2, 20));
}

#[test]
fn what_cannot_be_generated_is_an_error() {
    assert_eq!(generate(Task::Gsm8k, Split::Train, 1, 1), Err(BuiltinError::NotBuiltIn(Task::Gsm8k)));
    let error = generate(Task::Calendar, Split::Test, 1, 1_000_000).unwrap_err();
    assert!(error.to_string().ends_with("different questions in split `test`, not 1000000"), "{error}");
}

#[test]
fn choices_are_balanced_and_numbers_small() {
    for task in [Task::Comparison, Task::Calendar] {
        let mut letters = BTreeMap::<String, usize>::new();
        for question in generate(task, Split::Test, 3, 200).unwrap() {
            if !question.choices.is_empty() {
                *letters.entry(question.answer).or_default() += 1;
            }
        }
        let all: usize = letters.values().sum();
        assert!((60..140).contains(&all), "{all} of 200 {task} questions have choices");
        assert!(letters.len() == 3 && letters.values().all(|count| count * 4 > all), "{letters:?}");
    }
    for question in generate(Task::Arithmetic, Split::Pretrain, 3, 600).unwrap() {
        for step in solve(&question).unwrap().steps {
            assert!((1..=20).contains(&step.result));
        }
    }
}

#[test]
fn the_primer_states_facts() {
    let lines = primer(4, 3000);
    assert!(lines.iter().all(|line| sums_are_true(line)));
    for sign in [" + ", " - ", " * ", " > ", " < ", " days = ", "1 year = 12 months"] {
        assert!(lines.iter().any(|line| line.contains(sign)), "{sign}");
    }
}
