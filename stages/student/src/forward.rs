//! Running the student over paths, in groups small enough to stay in a processor's cache.

use std::ops::Range;

use burn::tensor::Tensor;
use contract::StageError;
use lm::{
    batch::{Sequence, collate},
    llama::Llama,
    paths::groups,
};

/// One path of one question of a batch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row<'a> {
    /// The question's place in the batch.
    pub(crate) question: usize,
    /// The path.
    pub(crate) path: usize,
    /// Its tokens.
    pub(crate) sequence: &'a Sequence,
}

/// What the student makes of some rows.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// Mean cross-entropy of each row; `[rows]`.
    pub(crate) losses: Tensor<1>,
    /// The same as numbers.
    pub(crate) values: Vec<f64>,
    /// Next-token log-probabilities over the answer spans, where they were asked for.
    pub(crate) answers: Option<Answers>,
}

/// Next-token log-probabilities over answer spans.
#[derive(Debug)]
pub(crate) struct Answers {
    /// `[positions, vocab]`
    pub(crate) log_probs: Tensor<2>,
    /// The positions of each row.
    pub(crate) spans: Vec<Range<usize>>,
}

/// Sorts rows by length and runs the model over them, a group of at most `tokens_at_once` at a time.
///
/// There must be at least one row.
pub(crate) fn run(
    model: &Llama,
    rows: &mut [Row],
    pad: u32,
    answers: bool,
    tokens_at_once: usize,
) -> Result<Outcome, StageError> {
    let (mut losses, mut log_probs, mut spans, mut positions) = (Vec::new(), Vec::new(), Vec::new(), 0);
    for group in groups(rows, tokens_at_once, |row| row.sequence.tokens.len()) {
        let sequences: Vec<&Sequence> = group.iter().map(|row| row.sequence).collect();
        let batch = collate(&sequences, pad, &model.device());
        let hidden = batch.hidden(model);
        losses.push(batch.token_losses(model, hidden.clone()));
        if answers {
            spans.extend(batch.answer_rows.iter().map(|span| positions + span.start..positions + span.end));
            positions += batch.answer_rows.last().map_or(0, |span| span.end);
            log_probs.push(batch.answer_log_probs(model, hidden));
        }
    }
    let losses = Tensor::cat(losses, 0);
    let values: Vec<f32> = losses.clone().try_into_vec_as().map_err(StageError::failed)?;
    let answers = answers.then(|| Answers { log_probs: Tensor::cat(log_probs, 0), spans });
    Ok(Outcome { losses, values: values.into_iter().map(f64::from).collect(), answers })
}
