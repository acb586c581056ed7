//! What a model is asked, and how an answer is written.
//!
//! A model with a chat template is sent a [`message`]; any other reads a plain [`prompt`], which ends in a line break: the
//! rationale follows directly, so that prompt and rationale tokenise the same apart and together.

use contract::records::Question;

use crate::{DeclaredTask, Task, gpqa, score};

/// The question with its choices, one a line.
pub fn asked(question: &Question) -> String {
    let mut asked = gpqa::unsealed(&question.question).trim().to_owned();
    for (index, choice) in score::choices(question).iter().enumerate() {
        asked.push_str(&format!("\n{}) {choice}", letter(index)));
    }
    asked
}

/// What the model is asked; a rationale follows directly.
///
/// Built-in tasks keep to the question; the others ask for steps and for the box that scoring looks for first.
pub fn prompt(question: &Question) -> String {
    let declared = DeclaredTask::of(question);
    if let Some(asked) = declared.as_ref().and_then(|declared| declared.asked(question)) {
        return asked;
    }
    let task = question.task.parse::<Task>().ok();
    let asked = asked(question);
    if task.is_some_and(Task::is_builtin) {
        return format!("Q: {asked}\nA:\n");
    }
    format!("Question: {asked}\n{}\nAnswer:\n", wanted(question))
}

/// What a user says to a model that chats: the question, and the box that scoring looks for first.
pub fn message(question: &Question) -> String {
    let declared = DeclaredTask::of(question);
    if let Some(asked) = declared.as_ref().and_then(|declared| declared.asked(question)) {
        return asked;
    }
    format!("{}\n{}", asked(question), wanted(question))
}

/// The form of the answer.
fn wanted(question: &Question) -> &'static str {
    if !question.choices.is_empty() {
        "Please reason step by step, and answer with the letter in \\boxed{}."
    } else if score::Answer::of(question) == score::Answer::YesNo {
        "Please reason step by step, and answer Yes or No in \\boxed{}."
    } else {
        "Please reason step by step, and put your final answer within \\boxed{}."
    }
}

/// The sentence every kept rationale ends with.
pub fn answer_suffix(question: &Question) -> String {
    format!("The answer is \\boxed{{{}}}", question.answer)
}

/// The letter of a choice, from 0.
pub(crate) fn letter(choice: usize) -> char {
    char::from(b'A' + u8::try_from(choice % 26).expect("a remainder of 26 is small"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn question(task: Task, text: &str, choices: &[&str]) -> Question {
        Question {
            id: "1".into(),
            task: task.name().into(),
            question: text.into(),
            answer: "B".into(),
            choices: choices.iter().map(|choice| (*choice).to_owned()).collect(),
            facts: None,
        }
    }

    #[test]
    fn prompts_ask_for_what_scoring_reads() {
        assert_eq!(prompt(&question(Task::Arithmetic, "Why?", &[])), "Q: Why?\nA:\n");
        assert_eq!(
            prompt(&question(Task::Comparison, "Who?", &["Tom", "Ann"])),
            "Q: Who?\nA) Tom\nB) Ann\nA:\n"
        );
        assert_eq!(
            prompt(&question(Task::Csqa, "Where?", &["bank", "mall"])),
            "Question: Where?\nA) bank\nB) mall\n\
             Please reason step by step, and answer with the letter in \\boxed{}.\nAnswer:\n"
        );
        assert!(
            prompt(&question(Task::Strategyqa, "Is it?", &[])).contains("answer Yes or No in \\boxed{}.")
        );
        assert!(prompt(&question(Task::Gsm8k, "How many?", &[])).contains("final answer within \\boxed{}."));
        assert_eq!(
            message(&question(Task::Csqa, " Where? ", &["bank", "mall"])),
            "Where?\nA) bank\nB) mall\nPlease reason step by step, and answer with the letter in \\boxed{}."
        );
        assert_eq!(
            message(&question(Task::Arithmetic, "1 + 1?", &[])),
            "1 + 1?\nPlease reason step by step, and put your final answer within \\boxed{}."
        );
        assert_eq!(answer_suffix(&question(Task::Csqa, "", &[])), "The answer is \\boxed{B}");
    }
}
