//! How far what a model says next has moved from what the undistilled model says.

use burn::tensor::activation::log_softmax;
use contract::StageError;
use lm::{
    LanguageModel,
    batch::{Sequence, collate},
};

/// Positions whose logits are in memory at once, for both models.
const ROWS: usize = 128;

/// KL(base || model) of the next-token distributions, in nats, for each text: the mean over its tokens, the prompt left out.
///
/// `None` where the two do not share a vocabulary. `go_on` is called between batches.
pub(crate) fn divergences(
    base: &LanguageModel,
    model: &LanguageModel,
    sequences: &[Sequence],
    batch_size: usize,
    go_on: &dyn Fn() -> Result<(), StageError>,
) -> Result<Option<Vec<f64>>, StageError> {
    if base.config.vocab_size != model.config.vocab_size {
        return Ok(None);
    }
    let device = base.model.device();
    let mut divergences = vec![0.0; sequences.len()];
    // Texts of like length share a batch: little padding.
    let mut order: Vec<usize> = (0..sequences.len()).collect();
    order.sort_by_key(|index| sequences[*index].tokens.len());
    for indices in order.chunks(batch_size) {
        go_on()?;
        let chunk: Vec<&Sequence> = indices.iter().map(|index| &sequences[*index]).collect();
        let batch = collate(&chunk, &device);
        // [targets of all sequences, width]
        let hidden = [base, model].map(|read| batch.target_hidden(batch.hidden(&read.model)));
        let mut first = 0;
        for (index, count) in indices.iter().zip(batch.target_counts.iter().copied()) {
            // [count, width]
            let [before, after] = hidden.each_ref().map(|states| states.clone().narrow(0, first, count));
            first += count;
            let mut sum = 0.0;
            for start in (0..count).step_by(ROWS) {
                let rows = ROWS.min(count - start);
                // [rows, vocabulary]
                let before = log_softmax(base.model.logits(before.clone().narrow(0, start, rows)), 1);
                let after = log_softmax(model.model.logits(after.clone().narrow(0, start, rows)), 1);
                sum += (before.clone().exp() * (before - after)).sum().into_scalar::<f64>();
            }
            divergences[*index] = sum / count as f64;
        }
    }
    Ok(Some(divergences))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use std::collections::BTreeMap;

    use lm::score::score;

    use super::*;
    use crate::{
        stage::tests::{PERSPECTIVES, language_model, records},
        vectors::texts,
    };

    #[test]
    fn divergences_are_those_of_the_distributions() {
        let (base, model) = (language_model(1), language_model(2));
        let perspectives = PERSPECTIVES.map(str::to_owned);
        let (_, sequences, _) = texts(&base, &perspectives, &records(3)).unwrap();
        let found = divergences(&base, &model, &sequences, 4, &|| Ok(())).unwrap().unwrap();
        let all = base.config.vocab_size;
        for (sequence, found) in sequences.iter().zip(&found) {
            let of = |read: &LanguageModel| {
                score(read, &sequence.tokens, sequence.target_start, all, &|| Ok(())).unwrap()
            };
            let expected: Vec<f64> = of(&base)
                .iter()
                .zip(of(&model))
                .map(|(before, after)| {
                    let after: BTreeMap<u32, f64> = after.top.into_iter().collect();
                    before.top.iter().map(|(token, log)| log.exp() * (log - after[token])).sum()
                })
                .collect();
            let expected = expected.iter().sum::<f64>() / expected.len() as f64;
            // f32 logits, f64 sums on one side.
            assert!((found - expected).abs() < 1e-5 && expected > 1e-3, "{found} is not {expected}");
        }
        let same = divergences(&base, &base, &sequences, 3, &|| Ok(())).unwrap().unwrap();
        assert!(same.iter().all(|value| value.abs() < 1e-6), "{same:?}");
        assert!(divergences(&base, &model, &sequences, 4, &|| Err(StageError::Cancelled)).is_err());
    }
}
