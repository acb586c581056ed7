//! The end of a rationale: every kept text ends with the same suffix for the same question.

use contract::records::Question;

/// Between the reasoning and the suffix; one separator everywhere keeps its tokens the same.
const SEPARATOR: &str = "\n";

/// How a sentence that only states the answer can begin, in lower case.
const LEADS: [&str; 6] =
    ["the answer is", "the final answer is", "final answer:", "answer:", "####", "\\boxed"];

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
    while let Some(start) = final_statement(body) {
        if !tasks::score(question, &body[start..]).correct {
            break;
        }
        body = body[..start].trim_end();
    }
    body
}

/// Where the final statement of the answer starts: in the last line, at a lead that opens it or a sentence of it.
fn final_statement(body: &str) -> Option<usize> {
    let line_start = body.rfind('\n').map_or(0, |at| at + 1);
    // ASCII only, so that byte offsets stay those of `body`.
    let line = body[line_start..].to_ascii_lowercase();
    let starts = LEADS.iter().flat_map(|lead| line.match_indices(lead)).map(|(at, _)| at);
    let opening = starts.filter_map(|at| sentence_start(&line, at)).max()?;
    let statement = &line[opening..];
    // A sentence after it would be lost with it.
    let more = statement.find(". ").is_some_and(|end| statement[end + 2..].contains(char::is_alphabetic));
    (!more).then_some(line_start + opening)
}

/// Where the sentence starts whose first words, but for markup and words such as "therefore", stand at `at`.
fn sentence_start(line: &str, at: usize) -> Option<usize> {
    let before = &line[..at];
    let start = before.rfind(['.', '!', '?', ';']).map_or(0, |end| end + 1);
    let opening = before[start..].trim_matches(|c: char| c.is_whitespace() || "*#_$[(\\,".contains(c));
    let opening = opening.trim_end_matches([',', ':']);
    ["", "so", "thus", "hence", "therefore"].contains(&opening).then_some(start)
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
