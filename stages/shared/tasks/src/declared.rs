//! Tasks declared in a recipe: a benchmark that this crate does not know, without a line of Rust.

use contract::records::Question;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Task, prompt::letter};

/// What an answer is, which decides how it is found and compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum AnswerType {
    /// A number; units do not count. The last number of a text counts where nothing announces one.
    Number,
    /// A mathematical expression in LaTeX or plain notation.
    Expression,
    /// The letter of a choice.
    Letter,
    /// `yes` or `no`.
    YesNo,
}

/// A task that a recipe declares.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DeclaredTask {
    /// Its name in tables: kebab-case, and not the name of a known task.
    pub name: String,
    /// What an answer is: `number`, `expression`, `letter` or `yes-no`.
    pub answer: AnswerType,
    /// The prompt, in which `{question}` and `{choices}` are replaced; a choice is a line such as `A) Paris`. It
    /// should end in a line break, as the answer follows directly. Default: `Question: ..`, then the request for
    /// steps and a box that fits the answer type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompt: Option<String>,
}

/// The key under which a question keeps its declaration among its facts.
const KEY: &str = "declared";

impl DeclaredTask {
    /// What is wrong with the declaration: field and message.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let kebab = |letter: char| letter.is_ascii_lowercase() || letter.is_ascii_digit() || letter == '-';
        if self.name.is_empty() || !self.name.chars().all(kebab) {
            problems.push(("name", format!("`{}` is not in kebab-case", self.name)));
        } else if self.name.parse::<Task>().is_ok() {
            problems.push(("name", format!("`{}` is a known task; write `task: {0}` instead", self.name)));
        }
        if let Some(prompt) = &self.prompt {
            if !prompt.contains("{question}") {
                problems.push(("prompt", "holds no `{question}`".to_owned()));
            }
            if self.answer == AnswerType::Letter && !prompt.contains("{choices}") {
                problems.push(("prompt", "holds no `{choices}`, whose letter is asked for".to_owned()));
            }
        }
        problems
    }

    /// Writes the declaration into a question, which takes it along to every kind.
    pub fn mark(&self, question: &mut Question) {
        question.task.clone_from(&self.name);
        question.facts = Some(serde_json::json!({ KEY: self }));
    }

    /// The declaration a question brings along.
    pub fn of(question: &Question) -> Option<Self> {
        Self::deserialize(question.facts.as_ref()?.get(KEY)?).ok()
    }

    /// The prompt for a question, if the declaration has one.
    pub(crate) fn asked(&self, question: &Question) -> Option<String> {
        let lines: String = question
            .choices
            .iter()
            .enumerate()
            .map(|(index, choice)| format!("{}) {choice}\n", letter(index)))
            .collect();
        // The question last, so that a brace in it is left alone.
        Some(
            self.prompt
                .as_ref()?
                .replace("{choices}", &lines)
                .replace("{question}", question.question.trim()),
        )
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::{prompt, score};

    fn question(answer: &str, choices: &[&str]) -> Question {
        Question {
            id: "1".into(),
            task: String::new(),
            question: "What is {choices}? ".into(),
            answer: answer.into(),
            choices: choices.iter().map(|choice| (*choice).to_owned()).collect(),
            facts: None,
        }
    }

    #[test]
    fn a_declared_task_prompts_and_scores() {
        let yaml = r#"{"name": "arc", "answer": "letter", "prompt": "Q: {question}\n{choices}A:\n"}"#;
        let task: DeclaredTask = serde_json::from_str(yaml).unwrap();
        assert_eq!(task.problems(), []);
        let mut asked = question("B", &["this", "that"]);
        task.mark(&mut asked);
        assert_eq!(asked.task, "arc");
        assert_eq!(prompt(&asked), "Q: What is {choices}?\nA) this\nB) that\nA:\n");
        assert!(score(&asked, "The answer is (B).").correct);

        let task = DeclaredTask { name: "asdiv".into(), answer: AnswerType::Number, prompt: None };
        let mut asked = question("7", &[]);
        task.mark(&mut asked);
        assert!(prompt(&asked).ends_with("put your final answer within \\boxed{}.\nAnswer:\n"));
        assert!(score(&asked, "It is 3, no, 7.").correct);
        let task = DeclaredTask { answer: AnswerType::Expression, ..task };
        task.mark(&mut asked);
        assert!(!score(&asked, "It is 3, no, 7.").correct, "an expression has to be announced");
    }

    #[test]
    fn a_wrong_declaration_is_told_by_field() {
        let problems = |name: &str, answer, prompt: Option<&str>| {
            let task = DeclaredTask { name: name.into(), answer, prompt: prompt.map(str::to_owned) };
            task.problems()
                .into_iter()
                .map(|(field, problem)| format!("{field}: {problem}"))
                .collect::<Vec<_>>()
        };
        assert_eq!(problems("My Task", AnswerType::Number, None), ["name: `My Task` is not in kebab-case"]);
        assert_eq!(
            problems("gsm8k", AnswerType::Number, None),
            ["name: `gsm8k` is a known task; write `task: gsm8k` instead"]
        );
        assert_eq!(
            problems("arc", AnswerType::Letter, Some("Tell me:")),
            ["prompt: holds no `{question}`", "prompt: holds no `{choices}`, whose letter is asked for"]
        );
    }
}
