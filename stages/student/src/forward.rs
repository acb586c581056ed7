//! Running the student over paths: those of one question share their prompt, in groups small enough to stay in a
//! processor's cache.

use std::ops::Range;

use burn::tensor::Tensor;
use contract::StageError;
use lm::{
    batch::{Batch, Sequence, collate_rows, row_length},
    llama::Llama,
    paths::{flat_groups, pack},
    precision::Precision,
    train::Trainer,
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
    needs: Needs,
    tokens_at_once: usize,
) -> Result<Outcome<'a>, StageError> {
    let packed = packed(rows, tokens_at_once);
    let (mut losses, mut log_probs, mut spans, mut positions) = (Vec::new(), Vec::new(), Vec::new(), 0);
    let (mut targets, mut counts) = (Vec::new(), Vec::new());
    for group in groups(&packed, tokens_at_once) {
        let part = Part::of(model, group, needs);
        losses.push(part.losses);
        targets.extend(part.targets);
        log_probs.extend(part.log_probs);
        counts.extend_from_slice(&part.batch.target_counts);
        let answers = &part.batch.answer_rows;
        spans.extend(answers.iter().map(|span| positions + span.start..positions + span.end));
        positions += answers.last().map_or(0, |span| span.end);
    }
    let losses = Tensor::cat(losses, 0);
    let values: Vec<f32> = losses.clone().try_into_vec_as().map_err(StageError::failed)?;
    let answers = needs.answers.then(|| Answers { log_probs: Tensor::cat(log_probs, 0), spans });
    let tokens =
        needs.tokens.then(|| Tokens { losses: Tensor::cat(targets, 0), spans: consecutive(&counts) });
    let rows = packed.into_iter().flat_map(|packed| packed.rows).collect();
    Ok(Outcome { rows, losses, values: values.into_iter().map(f64::from).collect(), answers, tokens })
}

/// What [`run`] returned without autodiff, as the place where a loss's gradients end; [`Cut::go_on`] takes them from there
/// through the model, one group at a time, so that only its activations exist.
#[derive(Debug)]
pub(crate) struct Cut {
    losses: Tensor<1>,
    targets: Option<Tensor<1>>,
    log_probs: Option<Tensor<2>>,
}

impl Cut {
    /// Makes the outcome differentiable by itself.
    pub(crate) fn new(outcome: &mut Outcome) -> Self {
        outcome.losses = outcome.losses.clone().autodiff().require_grad();
        if let Some(tokens) = &mut outcome.tokens {
            tokens.losses = tokens.losses.clone().autodiff().require_grad();
        }
        if let Some(answers) = &mut outcome.answers {
            answers.log_probs = answers.log_probs.clone().autodiff().require_grad();
        }
        Self {
            losses: outcome.losses.clone(),
            targets: outcome.tokens.as_ref().map(|tokens| tokens.losses.clone()),
            log_probs: outcome.answers.as_ref().map(|answers| answers.log_probs.clone()),
        }
    }

    /// Gives the trainer the gradients of a loss made of the outcome of these rows.
    pub(crate) fn go_on(
        self,
        loss: Tensor<1>,
        trainer: &mut Trainer<Llama>,
        precision: Precision,
        rows: &[Row],
        tokens_at_once: usize,
    ) {
        let gradients = loss.backward();
        let needs = Needs { answers: self.log_probs.is_some(), tokens: self.targets.is_some() };
        let of_losses = self.losses.grad(&gradients);
        let of_targets = self.targets.and_then(|targets| targets.grad(&gradients));
        let of_log_probs = self.log_probs.and_then(|log_probs| log_probs.grad(&gradients));
        let (mut row, mut target, mut position) = (0, 0, 0);
        for group in groups(&packed(rows, tokens_at_once), tokens_at_once) {
            let Part { losses, targets, log_probs, .. } =
                Part::of(&precision.of(&trainer.model), group, needs);
            let terms = [
                along(Some(losses), &of_losses, &mut row),
                along(targets, &of_targets, &mut target),
                along(log_probs, &of_log_probs, &mut position),
            ];
            if let Some(loss) = terms.into_iter().flatten().reduce(|sum, term| sum + term) {
                trainer.accumulate(loss);
            }
        }
    }
}

/// A sum whose gradient in `part` is the part of `gradient` that begins at `start`.
fn along<const D: usize>(
    part: Option<Tensor<D>>,
    gradient: &Option<Tensor<D>>,
    start: &mut usize,
) -> Option<Tensor<1>> {
    let (part, gradient) = (part?, gradient.clone()?);
    let count = part.dims()[0];
    let gradient = gradient.narrow(0, *start, count);
    *start += count;
    (count > 0).then(|| (part * gradient).sum())
}

/// What the model makes of one group.
struct Part {
    batch: Batch,
    losses: Tensor<1>,
    targets: Option<Tensor<1>>,
    log_probs: Option<Tensor<2>>,
}

impl Part {
    fn of(model: &Llama, group: &[Packed], needs: Needs) -> Self {
        let sequences: Vec<&[&Sequence]> = group.iter().map(|packed| packed.sequences.as_slice()).collect();
        let batch = collate_rows(&sequences, &model.device());
        let hidden = batch.hidden(model);
        let targets = batch.target_losses(model, hidden.clone());
        Self {
            losses: batch.means(targets.clone()),
            targets: needs.tokens.then_some(targets),
            log_probs: needs.answers.then(|| batch.answer_log_probs(model, hidden)),
            batch,
        }
    }
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

fn packed<'a>(rows: &[Row<'a>], tokens_at_once: usize) -> Vec<Packed<'a>> {
    pack(rows, tokens_at_once, |row| row.sequence).into_iter().map(Packed::new).collect()
}

fn groups<'p, 'a>(packed: &'p [Packed<'a>], tokens_at_once: usize) -> Vec<&'p [Packed<'a>]> {
    flat_groups(packed, tokens_at_once, |packed| row_length(&packed.sequences))
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
