use super::*;

fn question(task: &str, answer: &str, choices: &[&str]) -> Question {
    Question {
        id: "1".into(),
        task: task.into(),
        question: String::new(),
        answer: answer.into(),
        choices: choices.iter().map(|choice| (*choice).to_owned()).collect(),
        facts: None,
    }
}

/// Compares verdicts with a row of letters: Y right, n wrong, u undecided.
fn check(question: &Question, profiles: &[Profile], rows: &[(&str, &str)]) {
    let mut wrong = Vec::new();
    for (text, row) in rows {
        let found: Vec<Verdict> = profiles.iter().map(|profile| profile.score(question, text)).collect();
        let letters: String = found
            .iter()
            .map(|verdict| match (verdict.correct, verdict.undecided) {
                (true, _) => 'Y',
                (false, true) => 'u',
                (false, false) => 'n',
            })
            .collect();
        if letters != *row {
            wrong.push(format!("{text}: {letters} instead of {row}: {found:?}"));
        }
    }
    assert!(wrong.is_empty(), "{profiles:?}\n{}", wrong.join("\n"));
}

#[test]
fn names_read_back_and_are_what_serde_writes() {
    for profile in Profile::ALL {
        assert_eq!(profile.name().parse::<Profile>(), Ok(profile));
        assert_eq!(serde_json::to_value(profile).ok(), Some(profile.name().into()));
    }
    assert_eq!(
        "mine".parse::<Profile>().map_err(|error| error.to_string()),
        Err("no scoring profile is named `mine`".to_owned())
    );
}

#[test]
fn numbers_as_in_table_4_2() {
    let far = "and then a good deal of other reasoning stands here. ".repeat(4);
    check(
        &question("gsm8k", "18", &[]),
        // An undecided item is one that the original settles by computer algebra, as the table has it.
        &[Profile::Mind, Profile::LmEval, Profile::Opencompass, Profile::Qwen],
        &[
            ("She makes $\\boxed{18}$ dollars.", "YYYY"),
            (&format!("First $\\boxed{{9}}$, {far}so $\\boxed{{18}}$."), "YnYY"),
            (&format!("First \\boxed{{18}}, {far}so \\boxed{{9}}."), "nnnn"),
            ("\\boxed{\\$18}", "YYYY"),
            ("\\boxed{18\\text{ dollars}}", "YYYY"),
            ("\\boxed{18 dollars}", "YYYu"),
            ("\\boxed{9\\times 2=18}", "YYYu"),
            ("9 * 2\n#### 18", "YYYY"),
            ("9 * 2\n#### $18", "YYYY"),
            ("The answer is 18.", "YYYY"),
            ("The answer is $18.", "YYYY"),
            ("The answer is $18.00.", "YnYY"),
            ("Answer: 18", "YYYY"),
            ("So she makes **18** dollars.", "YYYY"),
            ("The final answer is **$18**", "YYYu"),
            ("She makes 18 dollars by selling 9 eggs at 2 dollars each.", "nnnn"),
            ("She makes eighteen dollars.", "nnnn"),
            ("The answer is 18.\n\nQ: Tom has 5 pens. How many?\nA: The answer is 10.", "Ynnn"),
            ("The answer is 18.\nQuestion: Tom has 5 pens.\nThe answer is 10.", "YnYn"),
            ("The answer is \\boxed{18", "YYYY"),
            ("\\fbox{18}", "YYYY"),
            ("\\boxed{\\frac{36}{2}}", "Ynnu"),
        ],
    );
    check(
        &question("svamp", "1018", &[]),
        &[Profile::Mind, Profile::LmEval, Profile::Opencompass, Profile::Qwen],
        &[("The answer is 1,018.", "YYnY")],
    );
}

#[test]
fn letters_as_in_table_4_3() {
    check(
        &question("gpqa-diamond", "B", &["london", "paris", "rome", "berlin"]),
        &[Profile::Mind, Profile::LmEval, Profile::SimpleEvals, Profile::Opencompass, Profile::Qwen],
        &[
            ("Answer: B", "YYYYY"),
            ("ANSWER: (B)", "YYnnY"),
            ("Answer: **B**", "YnnnY"),
            ("**Answer: B**", "YYYYY"),
            ("It lies in France. The answer is (B).", "YYnnY"),
            ("The correct answer is (B)", "YYnnY"),
            ("So the answer is B.", "YnnnY"),
            ("\\boxed{B}", "YnnnY"),
            ("\\boxed{\\text{B}}", "YnnnY"),
            ("(B) is right because (C) is wrong", "nnnnn"),
            ("It must be paris.", "nYnnn"),
            ("B", "YnnnY"),
            ("Therefore, B", "YnnnY"),
            ("Answer: $B$", "YnYnY"),
            ("Answer: A\nWait, Answer: B", "YYnnY"),
            ("I am not sure", "nnnnn"),
        ],
    );
}

#[test]
fn expressions_under_every_profile() {
    // Kinds of rewriting, in the order mind, lm_eval, opencompass, qwen, hendrycks.
    let profiles = [Profile::Mind, Profile::LmEval, Profile::Opencompass, Profile::Qwen, Profile::Hendrycks];
    let boxed = |answer: &str| format!("$\\boxed{{{answer}}}$");
    for (gold, answer, row) in [
        ("18", "18", "YnYYY"),
        ("18", "18.00", "YnYYn"),
        ("18", "17+1", "Ynnun"),
        ("18", "17", "nnnnn"),
        ("18", "18\\text{ cm}", "YnYYY"),
        ("18", "18 dollars", "YnYun"),
        ("10001", "10002", "nnnYn"),
        ("\\frac{1}{2}", "\\dfrac12", "YnYYY"),
        ("\\frac{1}{2}", "0.5", "YnnuY"),
        ("(1,2)", "[1,2)", "nnnYn"),
        ("(1,2)", "(2,1)", "nnnun"),
    ] {
        check(&question("math500", gold, &[]), &profiles, &[(&boxed(answer), row)]);
    }
    let lm = &[Profile::LmEval];
    let gold = question("math500", "18", &[]);
    check(
        &gold,
        lm,
        &[("So it is $18$", "Y"), ("18", "Y"), ("$9$ and $18$", "n"), ("\\[ \\boxed{18} \\]", "n")],
    );
}

#[test]
fn yes_and_no_under_every_profile() {
    check(
        &question("strategyqa", "no", &[]),
        &[Profile::Mind, Profile::LmEval, Profile::SimpleEvals, Profile::Opencompass],
        &[
            ("So the answer is no.", "YnnY"),
            ("No.", "YYnY"),
            ("Nobody would know.", "nnnY"),
            ("Answer: No", "YnYY"),
            ("The answer is yes.\n\nQ: Is it? The answer is no.", "nnnn"),
        ],
    );
}

#[test]
fn nothing_found_is_unparsed_and_wrong() {
    for profile in Profile::ALL {
        for (task, choices) in [("gsm8k", &[][..]), ("csqa", &["a", "b"])] {
            let verdict = profile.score(&question(task, "A", choices), "");
            assert_eq!(
                (verdict.extracted, verdict.correct, verdict.undecided),
                (None, false, false),
                "{profile}"
            );
        }
    }
}
