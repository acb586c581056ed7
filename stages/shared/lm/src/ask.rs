//! One question to a model, answered as it is written: what a person trying a student wants.

use std::path::Path;

use contract::{Backend, StageError, records::Question};

use crate::{
    LanguageModel, device,
    generate::{Generation, Options, Request, stream},
    prompt::Prompter,
    sample::Sampling,
};

/// How to answer.
#[derive(Clone, Debug)]
pub struct AskOptions {
    /// Ask as this task's questions are asked; without one, the text goes to the model as it is, or through its
    /// chat template where it has one.
    pub task: Option<String>,
    /// What to compute on.
    pub backend: Backend,
    /// Where the answer is cut, in tokens.
    pub max_new_tokens: usize,
    /// What logits are divided by; 0 takes the likeliest token.
    pub temperature: f64,
    /// Decides every draw.
    pub seed: u64,
}

impl AskOptions {
    /// Refuses a task that nobody knows and a backend that cannot be used, before a model is read.
    pub fn check(&self) -> Result<(), StageError> {
        self.known_task()?;
        device::open(&self.backend)?;
        Ok(())
    }

    fn known_task(&self) -> Result<Option<tasks::Task>, StageError> {
        self.task.as_deref().map(str::parse::<tasks::Task>).transpose().map_err(|unknown| {
            let known: Vec<String> = tasks::Task::ALL.iter().map(|task| format!("`{task}`")).collect();
            StageError::failed(unknown).with_help(format!("tasks: {}", known.join(", ")))
        })
    }
}

/// Asks the model in a folder and hands over its answer piece by piece.
pub fn ask(
    model: &Path,
    text: &str,
    options: &AskOptions,
    on_text: &mut dyn FnMut(&str),
) -> Result<Generation, StageError> {
    let task = options.known_task()?;
    let model = LanguageModel::load(model, &device::open(&options.backend)?)?;
    let prompter = Prompter::new(&model.tokenizer)?;
    let prompt = match task {
        None => prompter.text(text)?,
        Some(task) => prompter.question(&Question {
            id: String::new(),
            task: task.name().to_owned(),
            question: text.to_owned(),
            answer: String::new(),
            choices: Vec::new(),
            facts: None,
        })?,
    };
    let AskOptions { max_new_tokens, temperature, seed, .. } = *options;
    let sampling = (temperature > 0.0).then_some(Sampling { temperature, top_k: None, top_p: 1.0, seed });
    let options = Options { max_new_tokens, batch_size: 1, sampling };
    let request = Request { prompt, item: text.to_owned(), sample: 0 };
    stream(&model, &request, &options, &mut |piece| {
        on_text(piece);
        Ok(())
    })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::fixture;

    fn options(task: Option<&str>, temperature: f64, seed: u64) -> AskOptions {
        let backend = Backend::default();
        AskOptions { task: task.map(str::to_owned), backend, max_new_tokens: 12, temperature, seed }
    }

    #[test]
    fn task_temperature_and_seed_decide_the_answer() {
        let folder = tempfile::tempdir().unwrap();
        fixture::language_model(1).save(folder.path()).unwrap();
        let answer = |options: AskOptions| {
            let mut heard = String::new();
            let said = ask(folder.path(), "1 plus 1?", &options, &mut |piece| heard.push_str(piece)).unwrap();
            assert_eq!(said.text, heard);
            said
        };
        let greedy = answer(options(None, 0.0, 0));
        assert_eq!(greedy, answer(options(None, 0.0, 1)), "nothing is drawn");
        assert!(greedy.tokens <= 12);
        assert_ne!(greedy, answer(options(Some("arithmetic"), 0.0, 0)));
        let drawn = answer(options(None, 1.0, 0));
        assert_ne!(drawn, answer(options(None, 1.0, 1)));
        assert_eq!(drawn, answer(options(None, 1.0, 0)));

        let error = ask(folder.path(), "?", &options(Some("poetry"), 0.0, 0), &mut |_| {}).unwrap_err();
        assert_eq!(error.to_string(), "no task is named `poetry`");
        assert!(error.help().unwrap().contains("`gsm8k`"));
        assert!(options(Some("poetry"), 0.0, 0).check().is_err());
        let backend = Backend { name: "gpu".into(), ..Backend::default() };
        assert!(AskOptions { backend, ..options(None, 0.0, 0) }.check().is_err());
        assert!(options(Some("gsm8k"), 0.0, 0).check().is_ok());
    }
}
