use proptest::prelude::*;

use super::*;
use crate::answer_suffix;

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

/// Rows of (text, correct, extracted or empty, rule).
fn check(question: &Question, rows: &[(&str, bool, &str, &str)]) {
    for (text, correct, extracted, rule) in rows {
        let verdict = score(question, text);
        let found = (verdict.correct, verdict.extracted.as_deref().unwrap_or_default(), verdict.rule);
        assert_eq!(found, (*correct, *extracted, *rule), "gold {}, text {text}", question.answer);
    }
}

#[test]
fn numbers_as_in_table_4_2() {
    let far = "and then a good deal of other reasoning stands here. ".repeat(4);
    let first_wrong = format!("First $\\boxed{{9}}$, {far}so $\\boxed{{18}}$.");
    let last_wrong = format!("First \\boxed{{18}}, {far}so \\boxed{{9}}.");
    check(
        &question("gsm8k", "18", &[]),
        &[
            ("She makes $\\boxed{18}$ dollars.", true, "18", "box"),
            (&first_wrong, true, "18", "box"),
            (&last_wrong, false, "9", "box"),
            ("\\boxed{\\$18}", true, "18", "box"),
            ("\\boxed{18\\text{ dollars}}", true, "18", "box"),
            ("\\boxed{18 dollars}", true, "18", "box"),
            ("\\boxed{9\\times 2=18}", true, "18", "box"),
            ("9 * 2\n#### 18", true, "18", "anchor"),
            ("9 * 2\n#### $18", true, "18", "anchor"),
            ("The answer is 18.", true, "18", "anchor"),
            ("The answer is $18.", true, "18", "anchor"),
            ("The answer is $18.00.", true, "18", "anchor"),
            ("Answer: 18", true, "18", "anchor"),
            ("So she makes **18** dollars.", true, "18", "last-number"),
            ("The final answer is **$18**", true, "18", "anchor"),
            ("She makes 18 dollars by selling 9 eggs at 2 dollars each.", false, "2", "last-number"),
            ("She makes eighteen dollars.", false, "", "none"),
            ("The answer is 18.\n\nQ: Tom has 5 pens. How many?\nA: The answer is 10.", true, "18", "anchor"),
            ("She makes 18.\nQuestion: Tom has 5 pens.\nAnswer: 10", true, "18", "last-number"),
            ("The answer is \\boxed{18", true, "18", "box"),
            ("\\fbox{18}", true, "18", "box"),
            ("\\boxed{\\frac{36}{2}}", true, "18", "box"),
        ],
    );
    check(&question("gsm8k", "1018", &[]), &[("The answer is 1,018.", true, "1018", "anchor")]);
}

#[test]
fn numbers_in_other_clothes() {
    check(
        &question("svamp", "-7/2", &[]),
        &[
            ("\\boxed{-3.5}", true, "-7/2", "box"),
            ("The answer is \u{2212}3.50 degrees.", true, "-7/2", "anchor"),
            ("\\boxed{\\text{-3}\\frac{1}{2}}", true, "-7/2", "box"),
            ("It comes to -$3.5", true, "-7/2", "last-number"),
            ("It is 10-3.5", false, "7/2", "last-number"),
            ("It is 10 -3.5", false, "7/2", "last-number"),
        ],
    );
    check(
        &question("gsm8k", "18", &[]),
        &[
            ("\\boxed{}\nThe answer is 18", true, "18", "anchor"),
            ("\\boxed{\\boxed{18}}", true, "18", "box"),
            ("\\boxed{x = 18}", true, "18", "box"),
            ("\\boxed{18\\%}", true, "18", "box"),
            ("\\boxed{18 cm^2}", true, "18", "box"),
            ("\\boxed{18, 9}", false, "18, 9", "box"),
            ("\\boxed{18 million}", false, "18 million", "box"),
            ("\\boxed{\u{ff11}\u{ff18}}", true, "18", "box"),
            ("The answer is: 3 400", false, "3400", "anchor"),
            ("\\boxed 18", true, "18", "box"),
            ("The answer to the question is 18 because 9 * 2 = 17.", true, "18", "anchor"),
            ("The answer is 9 * 2 = 18 dollars, as 2 > 1.", true, "18", "anchor"),
            ("**Final Answer**\n18 dollars", true, "18", "anchor"),
            ("The answer is not known. 18", true, "18", "last-number"),
            ("The answer is\n\n$\\frac{36}{2}$", true, "18", "anchor"),
            ("<think>It is 5</think>It is 18", true, "18", "last-number"),
            ("<think>It is 18", false, "", "open-think"),
            ("It is 18 ft^2", true, "18", "last-number"),
            ("", false, "", "none"),
        ],
    );
}

#[test]
fn a_text_may_question_itself_but_not_go_on_to_the_next_question() {
    let gold = question("gsm8k", "14", &[]);
    let socratic = "Q: How many come?\nA: 5 come.\nQ: How many are there?\nA: 9 + 5 = 14 pens.";
    assert!(!score(&gold, socratic).cut);
    assert!(score(&gold, socratic).correct);
    let goes_on = format!("{socratic}\nThe answer is 14.\nQ: Tom has 3 cups.\nA: The answer is 3.");
    assert!(score(&gold, &goes_on).cut);
    assert!(score(&gold, &goes_on).correct);
}

#[test]
fn letters_as_in_table_4_3() {
    check(
        &question("csqa", "B", &["london", "paris", "rome", "berlin"]),
        &[
            ("Answer: B", true, "B", "anchor"),
            ("ANSWER: (B)", true, "B", "anchor"),
            ("Answer: **B**", true, "B", "anchor"),
            ("**Answer: B**", true, "B", "anchor"),
            ("It lies in France. The answer is (B).", true, "B", "anchor"),
            ("The correct answer is (B)", true, "B", "anchor"),
            ("So the answer is B.", true, "B", "anchor"),
            ("\\boxed{B}", true, "B", "box"),
            ("\\boxed{\\text{B}}", true, "B", "box"),
            ("(B) is right because (C) is wrong", false, "", "none"),
            ("It must be paris.", false, "", "none"),
            ("B", true, "B", "letter-line"),
            ("It lies in France.\nTherefore, B", true, "B", "letter-line"),
            ("Answer: $B$", true, "B", "anchor"),
            ("Answer: A\nWait, Answer: B", true, "B", "anchor"),
            ("I am not sure", false, "", "none"),
            // Beyond the table.
            ("\\boxed{(B) paris}", true, "B", "box"),
            ("\\boxed{b}", true, "B", "box"),
            ("\\boxed{Paris.}", true, "B", "choice-text"),
            ("It lies in France.\n**Paris**", true, "B", "choice-text"),
            ("It lies in France.\nB) paris", true, "B", "letter-line"),
            ("London?\nB) rome", false, "", "none"),
            ("The answer is E.", false, "", "none"),
            ("The answer is Berlin", false, "", "none"),
            ("\\boxed{E}\nThe answer is \\textbf{B}", true, "B", "anchor"),
            ("I choose option C", false, "C", "anchor"),
            ("The answer is B or C.", false, "", "none"),
            ("The answer is B (paris) or C (rome).", false, "", "none"),
            ("So the correct answer is B) paris and D) berlin.", false, "", "none"),
            ("The answer is B) paris, since A) london is not in France.", true, "B", "anchor"),
            ("Therefore, among A through D, the answer is most likely B, paris.", true, "B", "anchor"),
            ("The best answer would be B) paris.", true, "B", "anchor"),
        ],
    );
}

/// The pitfalls that extraction and comparison are known for: task, gold answer, text, whether it is right.
#[test]
fn pitfalls() {
    let rows = [
        // Going on after the answer, and thoughts.
        ("gsm8k", "18", "It is 18.\n\nProblem: Tom has 5.\nThe answer is 7.", true),
        ("gsm8k", "18", "<think>First 5, so \\boxed{5}</think>\\boxed{18}", true),
        ("gsm8k", "18", "<think>So \\boxed{18}", false),
        // Typography.
        ("gsm8k", "-18", "The answer is \u{2212}18.", true),
        ("gsm8k", "1234", "\\boxed{1\u{a0}234}", true),
        ("gsm8k", "1234", "\\boxed{1\u{2009}234}", true),
        ("gsm8k", "18", "\\boxed{\u{ff11}\u{ff18}}", true),
        ("csqa", "B", "The answer is \u{ff22}.", true),
        ("gsm8k", "18", "\\boxed{9 × 2}", true),
        ("math500", "90^\\circ", "\\boxed{90°}", true),
        ("math500", "2\\pi", "\\boxed{2π}", true),
        // Numbers in other clothes.
        ("gsm8k", "1234", "\\boxed{1'234}", true),
        ("gsm8k", "1234", "\\boxed{1,234.00}", true),
        ("gsm8k", "1234.56", "\\boxed{1.234,56}", false),
        ("gsm8k", "7", "\\boxed{007}", true),
        ("gsm8k", "0", "\\boxed{-0}", true),
        ("gsm8k", "0.5", "\\boxed{.5}", true),
        ("gsm8k", "5", "The answer is 5.", true),
        ("gsm8k", "1000", "\\boxed{1e3}", true),
        ("gsm8k", "1000", "\\boxed{10^3}", true),
        ("gsm8k", "25", "\\boxed{25\\%}", true),
        ("gsm8k", "3.5", "The answer is 7/2.", true),
        ("gsm8k", "10", "\\boxed{10:30}", false),
        // Units and currency before and behind.
        ("gsm8k", "18", "\\boxed{€18}", true),
        ("gsm8k", "18", "\\boxed{\\$18\\text{ per day}}", true),
        ("gsm8k", "18", "\\boxed{18\\ \\mbox{km}}", true),
        ("gsm8k", "18", "\\boxed{18~cm}", true),
        ("gsm8k", "18", "\\boxed{18\\,\\mathrm{kg}}", true),
        ("math500", "30^\\circ", "\\boxed{30^{\\circ}}", true),
        // Boxes.
        ("gsm8k", "5", "\\boxed{x = 5}", true),
        ("gsm8k", "5", "\\boxed{\\text{She has 5 pens}}", true),
        ("gsm8k", "5", "\\boxed{5, 6}", false),
        ("gsm8k", "5", "\\boxed{\\boxed{5}}", true),
        ("gsm8k", "5", "\\boxed 5", true),
        ("gsm8k", "5", "\\fbox{5}", true),
        ("gsm8k", "5", "So it is \\boxed{5", true),
        // Multiple choice in MATH, integers and lists with commas.
        ("math500", "\\text{(C)}", "\\boxed{C}", true),
        ("math500", "\\text{east}", "\\boxed{East}", true),
        ("math500", "58,500", "\\boxed{58500}", true),
        ("math500", "1,-2", "\\boxed{-2, 1}", true),
        ("math500", "11,\\! 111,\\! 111,\\! 100", "\\boxed{11111111100}", true),
    ];
    let wrong: Vec<_> = rows
        .iter()
        .filter(|(task, gold, text, correct)| {
            let choices: &[&str] = if *task == "csqa" { &["london", "paris"] } else { &[] };
            score(&question(task, gold, choices), text).correct != *correct
        })
        .collect();
    assert!(wrong.is_empty(), "{wrong:#?}");
}

#[test]
fn yes_and_no() {
    check(
        &question("strategyqa", "no", &[]),
        &[
            ("\\boxed{No}", true, "no", "box"),
            ("\\boxed{\\text{Yes}}", false, "yes", "box"),
            ("Yes, it may seem so. So the answer is no.", true, "no", "anchor"),
            ("Answer: False", true, "no", "anchor"),
            ("It is notable.\nSo no, they cannot.", true, "no", "last-line"),
            ("The answer (yes or no) is: it depends", false, "", "none"),
            ("So it cannot be answered with \"Yes\" or \"No\".", false, "", "none"),
            ("Nobody would know", false, "", "none"),
        ],
    );
}

#[test]
fn expressions() {
    let scored = |gold: &str, text: &str| score(&question("math500", gold, &[]), text);
    for (gold, same) in [
        ("\\frac43", "\\dfrac{4}{3}"),
        ("\\frac{3}{2}", "1.5"),
        ("10,\\!080", "10080"),
        ("11,\\! 111,\\! 111,\\! 100", "11111111100"),
        ("58,500", "58500"),
        ("\\left( 3, \\frac{\\pi}{2} \\right)", "(3,\\frac{\\pi}{2})"),
        ("(1,-2)", "\\left(1, -\\frac{4}{2}\\right)"),
        ("90^\\circ", "90"),
        ("10", "10\\text{ cm}"),
        ("10", "10 dollars"),
        ("5", "x = 5"),
        ("18", "9\\times 2=18"),
        ("\\text{Evelyn}", "evelyn"),
        ("\\text{(C)}", "C"),
        ("3\\sqrt{13}", "3\\sqrt{13}"),
        ("\\begin{pmatrix} 1 \\\\ 2 \\end{pmatrix}", "\\begin{bmatrix}1\\\\2\\end{bmatrix}"),
        ("52_8", "52_{8}"),
        ("\\dfrac23", "\\frac{2}{3}"),
        ("78", "P(12) = 6 \\times13 = 78"),
        ("18", "\\approx 18"),
        // What an equation ends in, as math-verify takes it.
        ("4", "x^2+y^2=4"),
    ] {
        let verdict = scored(gold, &format!("So the final answer is $\\boxed{{{same}}}$."));
        assert!(verdict.correct, "{gold} is {same}: {verdict:?}");
        assert!(scored(gold, &format!("The answer is ${same}$.")).correct, "{gold} stated as {same}");
    }
    for (gold, other) in [
        ("18", "17"),
        ("18", "18.0009"),
        ("(1,2)", "[1,2]"),
        ("(1,2)", "(2,1)"),
        ("1,-2", "1"),
        ("52_8", "42"),
        ("2x+3", "5"),
        ("5", "2x+3"),
        ("x", "X"),
        ("10", "10x"),
        ("5", "5 million"),
        ("90^\\circ", "\\frac{\\pi}{2}"),
        ("p - q", "q - p"),
    ] {
        assert!(
            !scored(gold, &format!("The answer is $\\boxed{{{other}}}$.")).correct,
            "{gold} is not {other}"
        );
    }
    assert_eq!(scored("18", "It is 18").rule, "none", "no last-number rule for expressions");
}

const SOUP: [&str; 40] = [
    "\\boxed",
    "{",
    "}",
    "\\fbox{",
    "\\text{",
    "$",
    "\\(",
    "\\)",
    "answer",
    " is",
    ":",
    "####",
    "\n",
    "Q:",
    "\nQuestion:",
    "<think>",
    "</think>",
    "1",
    "23",
    ",",
    ".",
    "-",
    "/",
    "\\frac",
    "^",
    "=",
    "(",
    ")",
    "yes",
    " B",
    "option",
    "\\left",
    "%",
    "\u{2212}",
    "\u{ff11}",
    " ",
    "é",
    "\\!",
    "e9",
    "\u{2009}",
];

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(300) })]

    #[test]
    fn any_text_gets_a_verdict(text in any::<String>(), gold in any::<String>()) {
        judged_everywhere(&gold, &text);
    }

    #[test]
    fn any_latex_gets_a_verdict(pieces in prop::collection::vec(0..SOUP.len(), 0..60), gold in 0..60_usize) {
        let text: String = pieces.iter().map(|piece| SOUP[*piece]).collect();
        judged_everywhere(&text[..text.floor_char_boundary(gold)], &text);
    }

    #[test]
    fn whole_numbers_equal_themselves_and_no_other(gold in -100_000_i64..100_000, other in -100_000_i64..100_000) {
        let question = question("gsm8k", &gold.to_string(), &[]);
        prop_assert!(score(&question, &answer_suffix(&question)).correct);
        let verdict = score(&question, &format!("It is {other}."));
        prop_assert_eq!(verdict.correct, other == gold);
    }
}

fn judged_everywhere(gold: &str, text: &str) {
    for task in Task::ALL {
        for choices in [&[][..], &["paris", "rome", ""]] {
            let verdict = score(&question(task.name(), gold, choices), text);
            assert!(verdict.extracted.is_some() || !verdict.correct);
        }
    }
}

#[test]
fn a_megabyte_is_scored_at_once() {
    for (piece, task, choices) in [
        ("\\boxed{", "math500", &[][..]),
        ("\\boxed{}", "gsm8k", &[]),
        ("\\boxed{\\text{", "math500", &[]),
        ("answer", "gsm8k", &[]),
        ("answer is ", "gsm8k", &[]),
        ("answer:\n", "strategyqa", &[]),
        ("####", "math500", &[]),
        ("\nQ:", "gsm8k", &[]),
        ("1", "gsm8k", &[]),
        ("1,234", "svamp", &[]),
        ("\u{2212}", "svamp", &[]),
        ("option ", "csqa", &["a", "b"]),
        ("B ", "csqa", &["a", "b"]),
    ] {
        let text = piece.repeat(1_000_000 / piece.len());
        let start = std::time::Instant::now();
        score(&question(task, "1", choices), &text);
        // A tenth of a second without optimisation; quadratic time would be minutes.
        assert!(start.elapsed().as_secs() < 5, "{piece:?} took {:?}", start.elapsed());
    }
}
