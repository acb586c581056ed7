//! How likely a model finds the tokens of a given text: log-probabilities, without autodiff.
//!
//! One whole-sequence forward pass; logits are made for a few positions at a time, so that memory does not grow with the
//! text times the vocabulary.

use burn::{
    module::Module,
    tensor::{Int, Tensor, TensorData},
};
use contract::StageError;
use rayon::prelude::*;

use crate::{LanguageModel, Mask};

/// Positions whose logits are in memory at once.
const ROWS: usize = 64;

/// One token of a text, and what the model expected in its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    /// The token.
    pub token: u32,
    /// Its log-probability after the tokens before it, in nats.
    pub log_prob: f64,
    /// The likeliest tokens there, likeliest first, with their log-probabilities.
    pub top: Vec<(u32, f64)>,
}

/// Scores the tokens from the place `from` on, which is at least 1: nothing predicts the first token. `top` says how many
/// of the likeliest tokens come along; `go_on` is called between chunks.
///
/// # Panics
///
/// If `from` is 0 or a token has no row in the vocabulary.
pub fn score(
    language_model: &LanguageModel,
    tokens: &[u32],
    from: usize,
    top: usize,
    go_on: &dyn Fn() -> Result<(), StageError>,
) -> Result<Vec<Scored>, StageError> {
    assert!(from >= 1, "nothing predicts the first token");
    let length = tokens.len();
    if from >= length {
        return Ok(Vec::new());
    }
    let model = language_model.model.valid();
    let device = model.device();
    let ids: Vec<i32> = tokens.iter().map(|token| token.cast_signed()).collect();
    let positions: Vec<i32> = (0..length as i32).collect();
    let hidden = model.hidden(
        Tensor::from_data(TensorData::new(ids, [1, length]), &device),
        Tensor::<2, Int>::from_data(TensorData::new(positions, [1, length]), &device),
        Mask::causal(1, length),
    );
    let width = hidden.dims()[2];
    let hidden = hidden.reshape([length, width]);
    let mut scored = Vec::with_capacity(length - from);
    for targets in tokens[from..].chunks(ROWS) {
        go_on()?;
        // The state before a token predicts it.
        let first = from + scored.len() - 1;
        let logits = model.logits(hidden.clone().narrow(0, first, targets.len()));
        let vocabulary = logits.dims()[1];
        let logits: Vec<f32> = logits.try_into_vec_as().map_err(StageError::failed)?;
        let rows: Vec<(&[f32], u32)> = logits.chunks(vocabulary).zip(targets.iter().copied()).collect();
        let chunk: Vec<Scored> = rows.par_iter().map(|(logits, token)| of_row(logits, *token, top)).collect();
        scored.extend(chunk);
    }
    Ok(scored)
}

fn of_row(logits: &[f32], token: u32, top: usize) -> Scored {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|logit| f64::from(logit - most).exp()).sum();
    let log_prob = |logit: f32| f64::from(logit) - f64::from(most) - sum.ln();
    let mut order: Vec<usize> = (0..logits.len()).collect();
    let likelier = |a: &usize, b: &usize| logits[*b].total_cmp(&logits[*a]).then(a.cmp(b));
    if top < order.len() {
        order.select_nth_unstable_by(top, likelier);
        order.truncate(top);
    }
    order.sort_unstable_by(likelier);
    Scored {
        token,
        log_prob: log_prob(logits[token as usize]),
        top: order.into_iter().map(|place| (place as u32, log_prob(logits[place]))).collect(),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::{
        batch::{Sequence, collate},
        fixture,
    };

    #[test]
    fn scores_are_the_losses_of_training_and_the_top_is_sorted() {
        let model = fixture::language_model(3);
        // Longer than a chunk.
        let tokens: Vec<u32> = (0..150).map(|i| 2 + i * 7 % 200).collect();
        let scored = score(&model, &tokens, 1, 4, &|| Ok(())).unwrap();
        let found: Vec<u32> = scored.iter().map(|scored| scored.token).collect();
        assert_eq!(found, tokens[1..]);
        let sequence = Sequence { tokens: tokens.clone(), target_start: 1, answer_span: 0..0 };
        let batch = collate(&[&sequence], &fixture::device());
        let loss = batch.token_losses(&model.model, batch.hidden(&model.model)).into_scalar::<f64>();
        let mean = scored.iter().map(|scored| scored.log_prob).sum::<f64>() / scored.len() as f64;
        assert!((mean + loss).abs() < 1e-5, "{mean} is not -{loss}");
        for Scored { top, .. } in &scored {
            assert_eq!(top.len(), 4);
            assert!(top.windows(2).all(|pair| pair[0].1 >= pair[1].1), "{top:?}");
        }
        let later = score(&model, &tokens, 100, 0, &|| Ok(())).unwrap();
        assert_eq!(later.len(), 50);
        assert!(later.iter().zip(&scored[99..]).all(|(a, b)| (a.log_prob - b.log_prob).abs() < 1e-6));
        assert!(score(&model, &tokens[..1], 1, 2, &|| Ok(())).unwrap().is_empty());
        assert!(score(&model, &tokens, 1, 0, &|| Err(StageError::Cancelled)).is_err());
    }

    #[test]
    fn everything_likely_is_at_the_top_where_all_is_wanted() {
        let scored = of_row(&[0.0, 2f32.ln(), 0.0], 0, 9);
        let expected = [(1, 0.5f64.ln()), (0, 0.25f64.ln()), (2, 0.25f64.ln())];
        for ((token, log_prob), (wanted, exact)) in scored.top.iter().zip(expected) {
            assert!(*token == wanted && (log_prob - exact).abs() < 1e-6, "{:?}", scored.top);
        }
        assert!((scored.log_prob - 0.25f64.ln()).abs() < 1e-6);
    }
}
