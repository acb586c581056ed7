//! The end of a rationale: every kept text ends with the same suffix for the same question.

use contract::records::Question;

/// Between the reasoning and the suffix; one separator everywhere keeps its tokens the same.
const SEPARATOR: &str = "\n";

/// In how many last lines the statement can stand.
const LINES: usize = 6;

/// How a sentence that only states the answer can begin, in lower case.
const LEADS: [&str; 8] = [
    "the answer is",
    "the final answer is",
    "the correct answer is",
    "the best answer is",
    "final answer:",
    "answer:",
    "####",
    "\\boxed",
];

/// The reasoning followed by the suffix.
pub(crate) fn with_answer(question: &Question, body: &str) -> String {
    format!("{body}{SEPARATOR}{}", tasks::answer_suffix(question))
}

/// The text without a final statement of the right answer, if it ends with one.
///
/// Only a statement that scores as right on its own is cut, and only what comes at the very end: a text in which
/// the answer is part of the last sentence of reasoning stays whole.
pub(crate) fn without_answer<'a>(question: &Question, text: &'a str) -> &'a str {
    let mut body = text.trim();
    while let Some(start) = final_statement(question, body) {
        body = body[..start].trim_end();
    }
    body
}

/// Where the final statement of the answer starts: the earliest lead in the last lines that opens a sentence, after
/// which nothing but the answer comes.
fn final_statement(question: &Question, body: &str) -> Option<usize> {
    let window = body.rmatch_indices('\n').nth(LINES - 1).map_or(0, |(at, _)| at + 1);
    // ASCII only, so that byte offsets stay those of `body`.
    let tail = body[window..].to_ascii_lowercase();
    let leads = LEADS.iter().flat_map(|lead| tail.match_indices(lead)).map(|(at, _)| at);
    let mut starts: Vec<usize> = leads.filter_map(|at| sentence_start(&tail, at)).collect();
    starts.sort_unstable();
    let states_it_only = |start: &usize| {
        let statement = &body[window + start..];
        ends_there(question, statement) && tasks::score(question, statement).correct
    };
    starts.into_iter().find(states_it_only).map(|start| window + start)
}

/// Where the sentence starts whose first words, but for markup and words such as "therefore", stand at `at`.
fn sentence_start(tail: &str, at: usize) -> Option<usize> {
    let before = &tail[..at];
    let start = before.rfind(['.', '!', '?', ';', '\n']).map_or(0, |end| end + 1);
    let opening = before[start..].trim_matches(|c: char| c.is_whitespace() || "*#_$[(\\,:->".contains(c));
    ["", "so", "thus", "hence", "therefore", "finally", "conclusion"].contains(&opening).then_some(start)
}

/// Whether a statement is one sentence on one line, but for lines of only markup and the answer.
fn ends_there(question: &Question, statement: &str) -> bool {
    let mut lines = statement.trim().lines();
    let first = lines.next().unwrap_or_default();
    let another_sentence = first.find(". ").is_some_and(|end| first[end..].contains(char::is_alphabetic));
    !another_sentence && lines.all(|line| !line.replace(&question.answer, "").split(' ').any(is_prose))
}

/// Whether letters are left when LaTeX commands are gone.
fn is_prose(word: &str) -> bool {
    let mut pieces = word.split('\\');
    let first = pieces.next().unwrap_or_default();
    let after_commands = pieces.map(|piece| piece.trim_start_matches(char::is_alphabetic));
    [first].into_iter().chain(after_commands).any(|piece| piece.contains(char::is_alphabetic))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(answer: &str) -> Question {
        Question {
            id: "q".into(),
            task: "gsm8k".into(),
            question: "?".into(),
            answer: answer.into(),
            choices: Vec::new(),
            facts: None,
        }
    }

    #[test]
    fn a_final_statement_of_the_answer_is_cut() {
        let cases = [
            ("3 + 4 = 7.\nThe answer is \\boxed{7}", "3 + 4 = 7."),
            ("3 + 4 = 7. The answer is 7.", "3 + 4 = 7."),
            ("3 + 4 = 7\n\n**The answer is: 7**", "3 + 4 = 7"),
            ("3 + 4 = 7\nTherefore, the final answer is \\boxed{7}.", "3 + 4 = 7"),
            ("3 + 4 = 7\n#### 7", "3 + 4 = 7"),
            ("3 + 4 = 7\n$\\boxed{7}$", "3 + 4 = 7"),
            ("3 + 4 = 7\n\\boxed{7}\nThe answer is 7", "3 + 4 = 7"),
            ("3 + 4 = 7.\n\nThus, the final answer is:\n\\[\n\\boxed{7}\n\\]", "3 + 4 = 7."),
            ("3 + 4 = 7.\n- **The answer is**: \\(\\boxed{7}\\)", "3 + 4 = 7."),
            ("The answer is 7", ""),
        ];
        for (text, body) in cases {
            assert_eq!(without_answer(&question("7"), text), body, "{text}");
        }
    }

    #[test]
    fn reasoning_and_other_answers_stay() {
        let cases = [
            "3 + 4 = 7",
            "Adding gives the sum, so the answer is 7",
            "3 + 4 = 7\nThe answer is 8",
            "The answer is 7. But we check: 7 - 4 = 3, and that is right.",
            "The answer is 7.\nTo check: 7 - 4 = 3.",
            "",
        ];
        for text in cases {
            assert_eq!(without_answer(&question("7"), text), text);
        }
    }

    #[test]
    fn the_suffix_is_appended_once() {
        let question = question("7");
        let text = with_answer(&question, "3 + 4 = 7");
        assert_eq!(text, "3 + 4 = 7\nThe answer is \\boxed{7}");
        assert_eq!(with_answer(&question, without_answer(&question, &text)), text);
    }
}
