//! A model as a second opinion on answers that the comparison does not accept.

use chat::{Completion, Endpoint, Forecast, Message, Request, Session, Usage};
use contract::{
    CallEstimate, Context, Outlook, Stage, StageError,
    records::{Question, QuestionRationales},
};
use serde::{Deserialize, Serialize};

use crate::{Checked, Judge};

/// How much of a response's end the model sees, in characters.
const END: usize = 1500;

/// What a model was asked and said; in `funnel.json`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecondOpinions {
    /// Completions it was asked about.
    pub asked: usize,
    /// Those it takes for right.
    pub accepted: usize,
    /// Those on which it said neither yes nor no; they stay wrong.
    pub unreadable: usize,
    /// Tokens it took.
    pub usage: Usage,
}

/// Whether a completion is worth a second opinion: it is whole, and the comparison does not accept it.
fn is_disputed(truncated: bool, checked: &Checked) -> bool {
    !truncated && !checked.verdict.correct
}

fn request(question: &Question, text: &str) -> Request {
    let skipped = text.chars().count().saturating_sub(END);
    let end: String = text.chars().skip(skipped).collect();
    let mut asked = question.question.trim().to_owned();
    for (letter, choice) in ('A'..='Z').zip(&question.choices) {
        asked.push_str(&format!("\n{letter}) {choice}"));
    }
    let content = format!(
        "You compare a response with the reference answer of a question.\n\nQuestion: {asked}\n\n\
         Reference answer: {}\n\nEnd of the response:\n{end}\n\n\
         Is the final answer of the response equivalent to the reference answer? Form does not matter, value does. \
         A response without a final answer is not equivalent. Reply with one word: yes or no.",
        question.answer
    );
    Request { messages: vec![Message { role: "user", content }], seed: 0 }
}

/// `yes` or `no`, if the reply says one and not the other.
fn read(reply: &str) -> Option<bool> {
    let reply = reply.to_lowercase();
    let says = |wanted: &str| reply.split(|c: char| !c.is_alphanumeric()).any(|word| word == wanted);
    match (says("yes"), says("no")) {
        (true, false) => Some(true),
        (false, true) => Some(false),
        (true, true) | (false, false) => None,
    }
}

/// Asks about every disputed completion and notes what the model says.
pub(crate) fn ask(
    endpoint: &Endpoint,
    completions: &[QuestionRationales],
    checked: &mut [Vec<Checked>],
    context: &Context,
) -> Result<SecondOpinions, StageError> {
    let questions = completions.iter().map(|completion| &completion.question);
    tasks::gpqa::refuse_sealed(questions).map_err(|sealed| {
        let help = sealed.help();
        StageError::failed(sealed).with_help(help)
    })?;
    let mut places = Vec::new();
    let mut requests = Vec::new();
    for (row, (completion, checked)) in completions.iter().zip(&*checked).enumerate() {
        for (column, (rationale, checked)) in completion.rationales.iter().zip(checked).enumerate() {
            if is_disputed(rationale.truncated, checked) {
                places.push((row, column));
                requests.push(request(&completion.question, &rationale.text));
            }
        }
    }
    let session = Session::open(endpoint, context, Judge::NAME)?;
    let replies: Vec<Completion> = session.run(&requests, "second opinions", |request, ask| ask(request))?;
    let mut opinions = SecondOpinions { asked: requests.len(), ..SecondOpinions::default() };
    for ((row, column), reply) in places.into_iter().zip(replies) {
        let opinion = read(&reply.text);
        opinions.accepted += usize::from(opinion == Some(true));
        opinions.unreadable += usize::from(opinion.is_none());
        opinions.usage += reply.usage;
        checked[row][column].opinion = opinion;
    }
    Ok(opinions)
}

/// What asking would take, for completions that are there.
pub(crate) fn estimate(
    endpoint: &Endpoint,
    completions: &[QuestionRationales],
    outlook: &Outlook,
) -> CallEstimate {
    let mut forecast = Forecast::new(endpoint, outlook, Judge::NAME);
    for completion in completions {
        for rationale in &completion.rationales {
            if is_disputed(rationale.truncated, &Checked::new(&completion.question, &rationale.text)) {
                forecast.ask(&request(&completion.question, &rationale.text));
            }
        }
    }
    forecast.estimate()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_yes_or_no_or_unreadable() {
        for (reply, opinion) in [
            ("yes", Some(true)),
            ("**Yes.**", Some(true)),
            ("No, they differ", Some(false)),
            ("yes and no", None),
            ("I know not", None),
            ("", None),
        ] {
            assert_eq!(read(reply), opinion, "{reply}");
        }
    }
}
