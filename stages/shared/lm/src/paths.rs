//! The rationales of questions as training sequences: one path per perspective, absent where there is none.

use std::collections::BTreeSet;

use contract::records::QuestionRationales;
use rayon::prelude::*;

use crate::{
    LmError,
    batch::{Sequence, encode_example, row_length},
    prompt::Prompter,
    tokenizer::Tokenizer,
};

/// Why rationales cannot be encoded.
#[derive(Debug, thiserror::Error)]
pub enum PathsError {
    /// A rationale is written from a perspective the artifact does not list.
    #[error(
        "question `{question}` has a rationale from `{perspective}`, which is not one of its perspectives"
    )]
    UnknownPerspective {
        /// The question's id.
        question: String,
        /// The perspective.
        perspective: String,
    },
    /// Nothing can be asked of this model.
    #[error(transparent)]
    Prompt(LmError),
    /// A rationale could not be encoded.
    #[error("question `{question}`, perspective `{perspective}`: {source}")]
    Encode {
        /// The question's id.
        question: String,
        /// The perspective.
        perspective: String,
        /// Why.
        #[source]
        source: LmError,
    },
}

impl From<PathsError> for contract::StageError {
    fn from(error: PathsError) -> Self {
        match error {
            PathsError::Prompt(error) => error.into(),
            error @ (PathsError::UnknownPerspective { .. } | PathsError::Encode { .. }) => {
                Self::failed(error)
            }
        }
    }
}

/// The paths of one question, in the order of the perspectives.
#[derive(Clone, Debug)]
pub struct QuestionPaths {
    /// The question's id.
    pub id: String,
    /// One sequence a perspective, where there is a rationale short enough.
    pub paths: Vec<Option<Sequence>>,
}

/// Questions with at least one path each.
#[derive(Clone, Debug)]
pub struct Paths {
    /// The perspectives, in the order of the paths.
    pub perspectives: Vec<String>,
    /// The questions, in the order of the artifact.
    pub questions: Vec<QuestionPaths>,
    /// Rationales left out because they are longer than allowed.
    pub too_long: usize,
}

impl Paths {
    /// Encodes rationales behind their questions' prompts.
    ///
    /// Sequences of more than `max_tokens` are left out whole: cut, they would lose their answer.
    pub fn encode(
        tokenizer: &Tokenizer,
        perspectives: Vec<String>,
        records: &[QuestionRationales],
        max_tokens: usize,
    ) -> Result<Self, PathsError> {
        let known: BTreeSet<&str> = perspectives.iter().map(String::as_str).collect();
        for record in records {
            for rationale in &record.rationales {
                if !known.contains(rationale.perspective.as_str()) {
                    return Err(PathsError::UnknownPerspective {
                        question: record.question.id.clone(),
                        perspective: rationale.perspective.clone(),
                    });
                }
            }
        }
        let prompter = Prompter::new(tokenizer).map_err(PathsError::Prompt)?;
        let encode = |record: &QuestionRationales| -> Result<Vec<Option<Sequence>>, PathsError> {
            let failed = |perspective: &str, source| PathsError::Encode {
                question: record.question.id.clone(),
                perspective: perspective.to_owned(),
                source,
            };
            let Some(first) = record.rationales.first() else { return Ok(vec![None; perspectives.len()]) };
            let prompt =
                prompter.question(&record.question).map_err(|source| failed(&first.perspective, source))?;
            let suffix = tasks::answer_suffix(&record.question);
            let path = |perspective: &String| {
                let rationale = record.rationales.iter().find(|r| r.perspective == *perspective)?;
                let sequence = encode_example(tokenizer, &prompt, &rationale.text, &suffix);
                Some(sequence.map_err(|source| failed(perspective, source)))
            };
            perspectives.iter().map(|perspective| path(perspective).transpose()).collect()
        };
        let encoded = records.par_iter().map(encode).collect::<Result<Vec<_>, _>>()?;

        let (mut questions, mut too_long) = (Vec::new(), 0);
        for (record, mut paths) in records.iter().zip(encoded) {
            for path in &mut paths {
                if path.as_ref().is_some_and(|sequence| sequence.tokens.len() > max_tokens) {
                    *path = None;
                    too_long += 1;
                }
            }
            if paths.iter().any(Option::is_some) {
                questions.push(QuestionPaths { id: record.question.id.clone(), paths });
            }
        }
        Ok(Self { perspectives, questions, too_long })
    }
}

/// Lets neighbours with the same prompt share a row of [`crate::batch::collate_rows`], as long as it holds at most
/// `row_tokens` tokens.
///
/// Where the sequences of one prompt need several rows, each gets short and long ones, so the rows are about equal.
pub fn pack<T: Copy>(items: &[T], row_tokens: usize, sequence: impl Fn(&T) -> &Sequence) -> Vec<Vec<T>> {
    let mut packed = Vec::new();
    for items in items.chunk_by(|left, right| sequence(left).prompt() == sequence(right).prompt()) {
        let mut items = items.to_vec();
        items.sort_by_key(|item| sequence(item).tokens.len());
        let deal = |rows: usize| -> Vec<Vec<T>> {
            (0..rows).map(|row| items.iter().skip(row).step_by(rows).copied().collect()).collect()
        };
        let fits = |rows: &Vec<Vec<T>>| {
            let length = |row: &Vec<T>| row_length(&row.iter().map(&sequence).collect::<Vec<_>>());
            rows.iter().all(|row| row.len() == 1 || length(row) <= row_tokens)
        };
        let dealt = (1..=items.len()).map(deal).find(fits);
        packed.extend(dealt.expect("rows of one sequence always fit"));
    }
    packed
}

/// Cuts rows that need no padding into groups of at most `tokens_at_once`, or of one row.
///
/// Small groups stay in a processor's cache.
pub fn flat_groups<T>(rows: &[T], tokens_at_once: usize, length: impl Fn(&T) -> usize) -> Vec<&[T]> {
    let (mut groups, mut start, mut tokens) = (Vec::new(), 0, 0);
    for (at, row) in rows.iter().enumerate() {
        tokens += length(row);
        if at > start && tokens > tokens_at_once {
            groups.push(&rows[start..at]);
            (start, tokens) = (at, length(row));
        }
    }
    if start < rows.len() {
        groups.push(&rows[start..]);
    }
    groups
}

/// Sorts rows by length and cuts them into groups of at most `tokens_at_once`, padding included, or of one row.
///
/// Rows of similar length share a group, so little of it is padding.
pub fn groups<T>(rows: &mut [T], tokens_at_once: usize, length: impl Fn(&T) -> usize) -> Vec<&[T]> {
    rows.sort_by_key(&length);
    let rows = &*rows;
    let (mut groups, mut start) = (Vec::new(), 0);
    for (at, row) in rows.iter().enumerate() {
        if at > start && length(row) * (at + 1 - start) > tokens_at_once {
            groups.push(&rows[start..at]);
            start = at;
        }
    }
    if start < rows.len() {
        groups.push(&rows[start..]);
    }
    groups
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use contract::records::{Question, Rationale};

    use super::*;

    fn record(id: &str, rationales: &[(&str, &str)]) -> QuestionRationales {
        let question = Question {
            id: id.into(),
            task: "arithmetic".into(),
            question: "1 + 1?".into(),
            answer: "2".into(),
            choices: Vec::new(),
            facts: None,
        };
        let rationale = |(perspective, text): &(&str, &str)| Rationale {
            perspective: (*perspective).into(),
            attempt: 0,
            text: (*text).into(),
            truncated: false,
        };
        QuestionRationales { question, rationales: rationales.iter().map(rationale).collect() }
    }

    /// A rationale with its answer.
    fn with(steps: &str, answer: u32) -> String {
        format!("{steps}The answer is \\boxed{{{answer}}}")
    }

    fn encode(records: &[QuestionRationales], max_tokens: usize) -> Result<Paths, PathsError> {
        let tokenizer = Tokenizer::train(std::iter::once("1 + 1? = 2".to_owned()), 300).unwrap();
        let perspectives = vec!["planning".to_owned(), "analogy".to_owned()];
        Paths::encode(&tokenizer, perspectives, records, max_tokens)
    }

    #[test]
    fn paths_stand_in_the_order_of_the_perspectives() {
        let records =
            [record("a", &[("analogy", &with("so ", 2)), ("planning", &with("", 2))]), record("b", &[])];
        let paths = encode(&records, 100).unwrap();
        assert_eq!(paths.questions.len(), 1, "a question without paths is left out");
        let lengths: Vec<usize> =
            paths.questions[0].paths.iter().map(|path| path.as_ref().unwrap().tokens.len()).collect();
        assert_eq!(lengths[1] - lengths[0], 3, "`so ` is three bytes");

        let short = encode(&records, lengths[0]).unwrap();
        assert!(short.questions[0].paths[0].is_some() && short.questions[0].paths[1].is_none());
        assert_eq!(short.too_long, 1);
    }

    #[test]
    fn what_cannot_be_encoded_is_named() {
        let unknown = encode(&[record("a", &[("poetry", &with("", 2))])], 100).unwrap_err();
        assert!(unknown.to_string().contains("`poetry`"), "{unknown}");
        let suffix = encode(&[record("a", &[("planning", &with("", 3))])], 100).unwrap_err();
        assert!(suffix.to_string().starts_with("question `a`, perspective `planning`"), "{suffix}");
    }

    #[test]
    fn groups_hold_every_row_and_stay_within_their_size() {
        let mut lengths = [5, 1, 9, 3, 3, 2];
        let groups = groups(&mut lengths, 9, |length| *length);
        assert_eq!(groups, [&[1, 2, 3][..], &[3], &[5], &[9]]);
        assert!(super::groups::<usize>(&mut [], 9, |length| *length).is_empty());
    }

    #[test]
    fn flat_groups_keep_the_order_and_stay_within_their_size() {
        let groups = flat_groups(&[5, 1, 9, 3, 3, 2], 9, |length| *length);
        assert_eq!(groups, [&[5, 1][..], &[9], &[3, 3, 2]]);
        assert!(flat_groups::<usize>(&[], 9, |length| *length).is_empty());
    }

    #[test]
    fn neighbours_with_one_prompt_share_rows_as_far_as_they_fit() {
        let sequence = |prompt: u32, target: usize| Sequence {
            tokens: [vec![prompt; 3], vec![9; target]].concat(),
            target_start: 3,
            answer_span: 3..3,
        };
        let sequences =
            [sequence(1, 8), sequence(1, 2), sequence(1, 4), sequence(1, 6), sequence(2, 5), sequence(1, 1)];
        let items: Vec<(usize, &Sequence)> = sequences.iter().enumerate().collect();
        let packed = |row_tokens: usize| -> Vec<Vec<usize>> {
            let rows = pack(&items, row_tokens, |(_, sequence)| sequence);
            for row in &rows {
                let sequences: Vec<&Sequence> = row.iter().map(|(_, sequence)| *sequence).collect();
                assert!(row.len() == 1 || row_length(&sequences) <= row_tokens);
            }
            rows.iter().map(|row| row.iter().map(|(index, _)| *index).collect()).collect()
        };
        assert_eq!(packed(23), [&[1, 2, 3, 0][..], &[4], &[5]]);
        assert_eq!(packed(22), [&[1, 3][..], &[2, 0], &[4], &[5]]);
        assert_eq!(packed(1), [[1], [2], [3], [0], [4], [5]]);
        assert!(pack(&items[..0], 1, |(_, sequence)| sequence).is_empty());
    }
}
