//! Running the student over paths: those of one question share their prompt, in groups small enough to stay in a
//! processor's cache.

use std::ops::Range;

use burn::tensor::Tensor;
use contract::StageError;
use lm::{
    batch::{Sequence, collate_rows, row_length},
    llama::Llama,
    paths::{groups, pack, row_tokens},
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
pub(crate) struct Outcome<'a> {
    /// The rows, in the order of what follows.
    pub(crate) rows: Vec<Row<'a>>,
    /// Mean cross-entropy of each row; `[rows]`.
    pub(crate) losses: Tensor<1>,
    /// The same as numbers.
    pub(crate) values: Vec<f64>,
    /// Next-token log-probabilities over the answer spans, where they were asked for.
    pub(crate) answers: Option<Answers>,
    /// The loss of each target token, where they were asked for.
    pub(crate) tokens: Option<Tokens>,
}

/// What an objective looks at beside the mean loss of each path.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// [`Outcome::answers`].
    pub(crate) answers: bool,
    /// [`Outcome::tokens`].
    pub(crate) tokens: bool,
}

/// Cross-entropies of target tokens.
#[derive(Debug)]
pub(crate) struct Tokens {
    /// In nats; `[targets]`.
    pub(crate) losses: Tensor<1>,
    /// The targets of each row.
    pub(crate) spans: Vec<Range<usize>>,
}

/// Next-token log-probabilities over answer spans.
#[derive(Debug)]
pub(crate) struct Answers {
    /// `[positions, vocab]`
    pub(crate) log_probs: Tensor<2>,
    /// The positions of each row.
    pub(crate) spans: Vec<Range<usize>>,
}

/// Runs the model over rows, neighbours of one question sharing their prompt, at most `tokens_at_once` tokens at a time.
///
/// There must be at least one row.
pub(crate) fn run<'a>(
    model: &Llama,
    rows: &[Row<'a>],
    pad: u32,
    needs: Needs,
    tokens_at_once: usize,
) -> Result<Outcome<'a>, StageError> {
    let most = row_tokens(model.hidden_size(), tokens_at_once);
    let mut packed: Vec<Packed> = pack(rows, most, |row| row.sequence).into_iter().map(Packed::new).collect();
    let (mut losses, mut log_probs, mut spans, mut positions) = (Vec::new(), Vec::new(), Vec::new(), 0);
    let (mut targets, mut counts) = (Vec::new(), Vec::new());
    for group in groups(&mut packed, tokens_at_once, |packed| row_length(&packed.sequences)) {
        let sequences: Vec<&[&Sequence]> = group.iter().map(|packed| packed.sequences.as_slice()).collect();
        let batch = collate_rows(&sequences, pad, &model.device());
        let hidden = batch.hidden(model);
        let of_targets = batch.target_losses(model, hidden.clone());
        losses.push(batch.means(of_targets.clone()));
        if needs.tokens {
            targets.push(of_targets);
            counts.extend_from_slice(&batch.target_counts);
        }
        if needs.answers {
            spans.extend(batch.answer_rows.iter().map(|span| positions + span.start..positions + span.end));
            positions += batch.answer_rows.last().map_or(0, |span| span.end);
            log_probs.push(batch.answer_log_probs(model, hidden));
        }
    }
    let losses = Tensor::cat(losses, 0);
    let values: Vec<f32> = losses.clone().try_into_vec_as().map_err(StageError::failed)?;
    let answers = needs.answers.then(|| Answers { log_probs: Tensor::cat(log_probs, 0), spans });
    let tokens =
        needs.tokens.then(|| Tokens { losses: Tensor::cat(targets, 0), spans: consecutive(&counts) });
    let rows = packed.into_iter().flat_map(|packed| packed.rows).collect();
    Ok(Outcome { rows, losses, values: values.into_iter().map(f64::from).collect(), answers, tokens })
}

/// Ranges of these lengths, one after the other.
fn consecutive(lengths: &[usize]) -> Vec<Range<usize>> {
    let mut end = 0;
    let next = |length: &usize| {
        let start = end;
        end += length;
        start..end
    };
    lengths.iter().map(next).collect()
}

/// Rows that share their prompt.
struct Packed<'a> {
    rows: Vec<Row<'a>>,
    sequences: Vec<&'a Sequence>,
}

impl<'a> Packed<'a> {
    fn new(rows: Vec<Row<'a>>) -> Self {
        let sequences = rows.iter().map(|row| row.sequence).collect();
        Self { rows, sequences }
    }
}
