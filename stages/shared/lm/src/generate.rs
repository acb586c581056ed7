//! Greedy generation: batched, with a key-value cache, without autodiff.
//!
//! Prompts are answered in batches of similar length. A batch is padded on the right, so every row has its own positions
//! and its own mask; what a row yields does not depend on its neighbours beyond float rounding.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use contract::StageError;

use crate::{LanguageModel, LmError, llama::Llama};

/// How to generate.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Where a text is cut, in tokens.
    pub max_new_tokens: usize,
    /// Prompts answered side by side.
    pub batch_size: usize,
}

/// What a model wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// The text, without the end-of-text token.
    pub text: String,
    /// Generated tokens, the end-of-text token included.
    pub tokens: usize,
    /// Whether it was cut at the length limit.
    pub truncated: bool,
}

/// Hears of each finished batch: the indices of its prompts, and what was generated for them.
pub type OnBatch<'a> = dyn FnMut(&[usize], &[Generation]) -> Result<(), StageError> + 'a;

/// Answers every prompt, in the order given.
///
/// `go_on` is called before each token, and `on_batch` after each batch with the indices of its prompts and what was
/// generated for them; an error from either ends the generation.
pub fn generate(
    language_model: &LanguageModel,
    prompts: &[String],
    options: &Options,
    go_on: &dyn Fn() -> Result<(), StageError>,
    on_batch: &mut OnBatch,
) -> Result<Vec<Generation>, StageError> {
    use burn::module::Module;

    let model = language_model.model.valid();
    let tokenizer = &language_model.tokenizer;
    let encoded: Vec<Vec<u32>> =
        prompts.iter().map(|prompt| tokenizer.encode(prompt)).collect::<Result<_, _>>()?;
    let mut order: Vec<usize> = (0..prompts.len()).collect();
    order.sort_by_key(|index| (encoded[*index].len(), *index));

    let mut generations = vec![None; prompts.len()];
    for indices in order.chunks(options.batch_size.max(1)) {
        let batch: Vec<&[u32]> = indices.iter().map(|index| encoded[*index].as_slice()).collect();
        let limit = options.max_new_tokens;
        let written = greedy(&model, &batch, tokenizer.stops(), tokenizer.pad(), limit, go_on)?;
        let finished: Vec<Generation> = written
            .into_iter()
            .map(|tokens| {
                let truncated = !tokens.last().is_some_and(|last| tokenizer.stops().contains(last));
                Ok(Generation { text: tokenizer.decode(&tokens)?, tokens: tokens.len(), truncated })
            })
            .collect::<Result<_, LmError>>()?;
        on_batch(indices, &finished)?;
        for (index, generation) in indices.iter().zip(finished) {
            generations[*index] = Some(generation);
        }
    }
    Ok(generations.into_iter().map(|generation| generation.expect("every prompt is in a batch")).collect())
}

/// The tokens each prompt is continued with, up to and including a token that ends it.
pub(crate) fn greedy(
    model: &Llama,
    prompts: &[&[u32]],
    stops: &[u32],
    pad: u32,
    limit: usize,
    go_on: &dyn Fn() -> Result<(), StageError>,
) -> Result<Vec<Vec<u32>>, StageError> {
    let device = model.device();
    let mut written = vec![Vec::new(); prompts.len()];
    let longest = prompts.iter().map(|prompt| prompt.len()).max().unwrap_or(0);
    if longest == 0 || limit == 0 {
        return Ok(written);
    }
    let mut cache = model.cache(longest + limit - 1);
    // Rows still computed, by prompt; finished ones leave when a quarter of the batch is idle.
    let mut rows: Vec<usize> = (0..prompts.len()).collect();
    let mut next = prefill(model, prompts, longest, pad, &device, &mut cache);
    for step in 1..=limit {
        go_on()?;
        let mut active = vec![false; rows.len()];
        for (place, row) in rows.iter().enumerate() {
            let done = written[*row].last().is_some_and(|last| stops.contains(last));
            if !done {
                written[*row].push(next[place]);
                active[place] = !stops.contains(&next[place]);
            }
        }
        let running = active.iter().filter(|active| **active).count();
        if running == 0 || step == limit {
            break;
        }
        if running * 4 <= rows.len() * 3 {
            let places: Vec<usize> = (0..rows.len()).filter(|place| active[*place]).collect();
            let kept: Vec<i32> = places.iter().map(|place| *place as i32).collect();
            cache.keep_rows(&Tensor::from_data(kept.as_slice(), &device));
            rows = places.iter().map(|place| rows[*place]).collect();
            next = places.iter().map(|place| next[*place]).collect();
        }
        let columns = longest + step;
        let positions: Vec<i32> = rows.iter().map(|row| (prompts[*row].len() + step - 1) as i32).collect();
        let mut mask = Vec::with_capacity(rows.len() * columns);
        for row in &rows {
            mask.extend((0..columns).map(|column| column < prompts[*row].len() || column >= longest));
        }
        let tokens: Vec<i32> = next.iter().map(|token| *token as i32).collect();
        let size = [rows.len(), 1];
        let hidden = model.extend(
            Tensor::from_data(TensorData::new(tokens, size), &device),
            Tensor::from_data(TensorData::new(positions, size), &device),
            Tensor::<3, Bool>::from_data(TensorData::new(mask, [rows.len(), 1, columns]), &device),
            &mut cache,
        );
        let [batch, _, width] = hidden.dims();
        next = argmax(model.logits(hidden.reshape([batch, width])));
    }
    Ok(written)
}

/// Fills the cache with the prompts and returns the first token after each.
fn prefill(
    model: &Llama,
    prompts: &[&[u32]],
    longest: usize,
    pad: u32,
    device: &Device,
    cache: &mut crate::llama::Cache,
) -> Vec<u32> {
    let batch = prompts.len();
    let mut tokens = vec![pad as i32; batch * longest];
    let mut last = Vec::with_capacity(batch);
    for (row, prompt) in prompts.iter().enumerate() {
        for (place, token) in tokens[row * longest..].iter_mut().zip(*prompt) {
            *place = *token as i32;
        }
        last.push((row * longest + prompt.len().max(1) - 1) as i32);
    }
    let causal: Vec<bool> = (0..longest * longest).map(|i| i % longest <= i / longest).collect();
    let causal = Tensor::<3, Bool>::from_data(TensorData::new(causal, [1, longest, longest]), device);
    let positions: Vec<i32> = (0..longest as i32).collect();
    let positions = Tensor::<2, Int>::from_data(TensorData::new(positions, [1, longest]), device);
    let hidden = model.extend(
        Tensor::from_data(TensorData::new(tokens, [batch, longest]), device),
        positions.repeat_dim(0, batch),
        causal.repeat_dim(0, batch),
        cache,
    );
    let width = hidden.dims()[2];
    let hidden = hidden.reshape([batch * longest, width]);
    argmax(model.logits(hidden.select(0, Tensor::from_data(last.as_slice(), device))))
}

fn argmax(logits: Tensor<2>) -> Vec<u32> {
    logits.argmax(1).into_data().iter::<i64>().map(|token| token as u32).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::{
        batch::{Sequence, collate},
        fixture,
        train::{Schedule, TrainOptions, Trainer},
    };

    /// A model that has learnt some sums, and their prompts.
    fn taught() -> (LanguageModel, Vec<String>) {
        let sequences: Vec<Sequence> = fixture::sequences(16);
        let mut model = fixture::language_model(1);
        let options = TrainOptions::new(1e-2, Schedule::Cosine { steps: 60, warmup: 0.1 });
        let mut trainer = Trainer::new(model.model, options);
        let batch = collate(&sequences.iter().collect::<Vec<_>>(), 0, &fixture::device());
        for _ in 0..60 {
            trainer.step_on(batch.token_losses(&trainer.model, batch.hidden(&trainer.model)).mean());
        }
        model.model = trainer.into_model();
        let prompt =
            |sequence: &Sequence| model.tokenizer.decode(&sequence.tokens[..sequence.target_start]).unwrap();
        let prompts = sequences.iter().map(prompt).collect();
        (model, prompts)
    }

    fn all(
        model: &LanguageModel,
        prompts: &[String],
        max_new_tokens: usize,
        batch_size: usize,
    ) -> Vec<Generation> {
        let mut seen = Vec::new();
        let options = Options { max_new_tokens, batch_size };
        let generations = generate(model, prompts, &options, &|| Ok(()), &mut |indices, finished| {
            assert_eq!(indices.len(), finished.len());
            seen.extend(indices.iter().copied().zip(finished.iter().cloned()));
            Ok(())
        })
        .unwrap();
        seen.sort_by_key(|(index, _)| *index);
        assert_eq!(seen.into_iter().map(|(_, generation)| generation).collect::<Vec<_>>(), generations);
        generations
    }

    #[test]
    fn the_batch_size_does_not_change_a_text() {
        let (model, prompts) = taught();
        let together = all(&model, &prompts, 40, 16);
        assert_eq!(all(&model, &prompts, 40, 1), together);
        assert_eq!(all(&model, &prompts, 40, 5), together);
        let ended = together.iter().filter(|generation| !generation.truncated).count();
        assert!(ended > 8, "the model was taught to stop, and did so {ended} times of 16");
        let right = together.iter().filter(|generation| generation.text.contains(" The answer is")).count();
        assert!(right > 8, "{together:?}");
    }

    #[test]
    fn the_limit_cuts_and_says_so() {
        let (model, prompts) = taught();
        let whole = all(&model, &prompts, 40, 16);
        for (short, long) in all(&model, &prompts, 3, 16).iter().zip(&whole) {
            assert!(long.tokens > 3, "{long:?}");
            assert!(short.truncated && short.tokens == 3, "{short:?}");
            assert!(long.text.starts_with(&short.text));
        }
    }

    #[test]
    fn an_error_from_the_listener_ends_it() {
        let model = fixture::language_model(1);
        let prompts = vec!["1 plus 1".to_owned(); 4];
        let options = Options { max_new_tokens: 2, batch_size: 2 };
        let mut calls = 0;
        let result = generate(&model, &prompts, &options, &|| Ok(()), &mut |_, _| {
            calls += 1;
            Err(StageError::Cancelled)
        });
        assert!(matches!(result, Err(StageError::Cancelled)));
        assert_eq!(calls, 1);

        let stop = || Err(StageError::Cancelled);
        let result = generate(&model, &prompts, &options, &stop, &mut |_, _| panic!("no batch is finished"));
        assert!(matches!(result, Err(StageError::Cancelled)));
    }
}
