//! GPQA-Diamond (Rein et al., 2311.12022): the order of its choices, and keeping it out of plain text.
//!
//! Its authors ask that no example be put online in plain text. So the questions come from a file that its user
//! has, artifacts and predictions hold them [`sealed`], and only a prompt to a model on this machine opens them:
//! [`refuse_sealed`] keeps them from endpoints.

use std::borrow::Cow;

use contract::records::Question;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::mersenne::Random;

/// The order in which choices are shown; published harnesses differ.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Shuffle {
    /// openai/simple-evals: `random.Random(0)`, one sample an item.
    #[default]
    SimpleEvals,
    /// OpenCompass: no chance; right answers go D, C, B, A, D and so on.
    Opencompass,
    /// lm-eval, with nothing else drawn before: the seed 0, one shuffle an item of the wrong choices and the right.
    LmEval,
}

/// For each of `count` items which choice stands where: 0 is the right one, 1 to 3 the wrong ones in file order.
pub fn permutations(shuffle: Shuffle, count: usize) -> Vec<[usize; 4]> {
    let mut random = Random::new(0);
    (1..=count)
        .map(|item| match shuffle {
            Shuffle::SimpleEvals => random.sample_of_four(),
            Shuffle::Opencompass => std::array::from_fn(|place| (place + item) % 4),
            Shuffle::LmEval => {
                let mut order = [1, 2, 3, 0];
                random.shuffle(&mut order);
                order
            }
        })
        .collect()
}

/// What a sealed text starts with.
const SEAL: &str = "sealed:";

/// A text that search engines and corpora do not read; no secret.
pub fn seal(text: &str) -> String {
    let digits = |byte: u8| format!("{byte:02x}");
    format!("{SEAL}{}", text.bytes().map(digits).collect::<String>())
}

/// Whether a text is sealed.
pub fn sealed(text: &str) -> bool {
    text.starts_with(SEAL)
}

/// A sealed question that would have left this machine.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{task}` is a held-out test set: its question `{id}` is sealed and is sent to no endpoint")]
pub struct Sealed {
    /// The question's task.
    pub task: String,
    /// The question's id.
    pub id: String,
}

impl Sealed {
    /// What the user can do about it.
    pub fn help(&self) -> String {
        format!("ask about other questions; those of `{}` are only for `evaluate`", self.task)
    }
}

/// Refuses the first sealed question: whoever sends questions to an endpoint asks here before.
pub fn refuse_sealed<'a>(questions: impl IntoIterator<Item = &'a Question>) -> Result<(), Sealed> {
    let is_sealed = |question: &Question| {
        sealed(&question.question) || question.choices.iter().any(|choice| sealed(choice))
    };
    match questions.into_iter().find(|question| is_sealed(question)) {
        Some(question) => Err(Sealed { task: question.task.clone(), id: question.id.clone() }),
        None => Ok(()),
    }
}

/// The text behind the seal; any other text as it is.
pub fn unsealed(text: &str) -> Cow<'_, str> {
    let open = text.strip_prefix(SEAL).and_then(|digits| {
        let pairs = digits.as_bytes().chunks(2);
        let bytes: Option<Vec<u8>> = pairs
            .map(|pair| {
                std::str::from_utf8(pair)
                    .ok()
                    .filter(|pair| pair.len() == 2)
                    .and_then(|pair| u8::from_str_radix(pair, 16).ok())
            })
            .collect();
        String::from_utf8(bytes?).ok()
    });
    open.map_or(Cow::Borrowed(text), Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_stand_where_the_harnesses_put_them() {
        assert_eq!(
            permutations(Shuffle::SimpleEvals, 6),
            [[3, 1, 0, 2], [3, 1, 2, 0], [2, 3, 0, 1], [2, 0, 3, 1], [1, 3, 0, 2], [2, 1, 0, 3]]
        );
        assert_eq!(permutations(Shuffle::SimpleEvals, 198)[..6], permutations(Shuffle::SimpleEvals, 6));
        assert_eq!(permutations(Shuffle::LmEval, 2), [[3, 1, 2, 0], [1, 2, 0, 3]]);
        let right: Vec<_> = permutations(Shuffle::Opencompass, 5)
            .into_iter()
            .map(|order| order.iter().position(|choice| *choice == 0))
            .collect();
        assert_eq!(right, [Some(3), Some(2), Some(1), Some(0), Some(3)]);
    }

    #[test]
    fn a_seal_opens_again_and_shows_no_word() {
        for text in ["", "Which particle decays?", "π → μ ν"] {
            let closed = seal(text);
            assert!(sealed(&closed) && !closed.contains("particle"));
            assert_eq!(unsealed(&closed), text);
        }
        for text in ["plain", "sealed:6", "sealed:zz", "sealed:ff", "sealed:é"] {
            assert_eq!(unsealed(text), text);
        }
    }
}
