//! What the frozen base student makes of every rationale: a feature vector and a loss.

use burn::tensor::{Tensor, TensorData};
use contract::{Context, StageError};
use lm::{
    LanguageModel,
    assistant::Features,
    batch::{Batch, Sequence, collate},
    paths::{Paths, groups},
};

/// Runs the base student over every path once, forward only.
pub(crate) fn from_student(
    student: &LanguageModel,
    paths: &Paths,
    tokens_at_once: usize,
    context: &Context,
) -> Result<Features, StageError> {
    let (questions, count, size) =
        (paths.questions.len(), paths.perspectives.len(), student.config.hidden_size);
    let mut features = Features {
        questions: paths.questions.iter().map(|question| question.id.clone()).collect(),
        paths: count,
        size,
        values: vec![0.0; questions * count * size],
        mask: vec![0.0; questions * count],
        losses: vec![0.0; questions * count],
    };
    let all = paths.questions.iter().flat_map(|question| &question.paths).enumerate();
    let mut rows: Vec<(usize, &Sequence)> =
        all.filter_map(|(place, path)| Some((place, path.as_ref()?))).collect();
    let total = rows.len();
    let mut done = 0;
    for group in groups(&mut rows, tokens_at_once, |(_, sequence)| sequence.tokens.len()) {
        context.check_cancelled()?;
        context.progress(done, total, "rationales");
        let sequences: Vec<&Sequence> = group.iter().map(|(_, sequence)| *sequence).collect();
        let batch = collate(&sequences, student.tokenizer.pad(), &student.model.device());
        let hidden = batch.hidden(&student.model);
        let losses = numbers(batch.token_losses(&student.model, hidden.clone()))?;
        let means = numbers(mean_states(&batch, &sequences, hidden))?;
        for (((place, _), loss), mean) in group.iter().zip(losses).zip(means.chunks_exact(size)) {
            features.mask[*place] = 1.0;
            features.losses[*place] = loss;
            features.values[place * size..(place + 1) * size].copy_from_slice(mean);
        }
        done += group.len();
    }
    context.progress(total, total, "rationales");
    Ok(features)
}

/// The mean over each sequence's own tokens, `[batch, length, size]` to `[batch, size]`.
fn mean_states(batch: &Batch, sequences: &[&Sequence], hidden: Tensor<3>) -> Tensor<2> {
    let [rows, length, size] = hidden.dims();
    let mut weights = vec![0f32; rows * length];
    for (row, sequence) in weights.chunks_exact_mut(length).zip(sequences) {
        let tokens = sequence.tokens.len();
        row[..tokens].fill(1.0 / tokens as f32);
    }
    let weights = Tensor::from_data(TensorData::new(weights, [rows, 1, length]), &batch.tokens.device());
    weights.matmul(hidden).reshape([rows, size])
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, StageError> {
    tensor.try_into_vec_as().map_err(StageError::failed)
}
