//! What a frozen encoder makes of every rationale, and what the base student loses on it.
//!
//! Both are forward passes over data that does not change, so they are computed once, kept in scratch until the cell is
//! done, and stored in the artifact.

use std::{collections::HashMap, fs, path::Path};

use burn::tensor::Tensor;
use contract::{Context, StageError, records::QuestionRationales};
use lm::{
    LanguageModel,
    assistant::Features,
    batch::{Sequence, collate_rows, row_length},
    encoder::{Segments, SentenceEncoder},
    paths::{Paths, flat_groups, groups, pack},
};

/// In scratch: the finished features, and where they are written before.
const DONE: &str = "features";
const PART: &str = "features.part";

/// What reads the rationales.
pub(crate) enum Reader {
    /// The base student: the mean of its last hidden states over all tokens of prompt and rationale.
    Student,
    /// An encoder: question and rationale as a pair.
    Encoder(Box<SentenceEncoder>),
}

/// The features of every path, from scratch where a killed attempt left them there.
pub(crate) fn read(
    reader: &Reader,
    student: &LanguageModel,
    paths: &Paths,
    records: &[QuestionRationales],
    tokens_at_once: usize,
    context: &Context,
) -> Result<Features, StageError> {
    let done = context.scratch().join(DONE);
    if done.exists() {
        return Features::load(&done);
    }
    let (questions, count) = (paths.questions.len(), paths.perspectives.len());
    let size = match reader {
        Reader::Student => student.config.hidden_size,
        Reader::Encoder(encoder) => encoder.size(),
    };
    let mut features = Features {
        questions: paths.questions.iter().map(|question| question.id.clone()).collect(),
        paths: count,
        size,
        values: vec![0.0; questions * count * size],
        mask: vec![0.0; questions * count],
        losses: vec![0.0; questions * count],
    };
    from_student(reader, student, paths, tokens_at_once, &mut features, context)?;
    if let Reader::Encoder(encoder) = reader {
        from_encoder(encoder, paths, records, tokens_at_once, &mut features, context)?;
    }
    keep(&features, &done, context)?;
    Ok(features)
}

/// Runs the base student over every path once, forward only: mask, losses, and where it is the reader, values.
fn from_student(
    reader: &Reader,
    student: &LanguageModel,
    paths: &Paths,
    tokens_at_once: usize,
    features: &mut Features,
    context: &Context,
) -> Result<(), StageError> {
    let size = features.size;
    let all = paths.questions.iter().flat_map(|question| &question.paths).enumerate();
    let all: Vec<(usize, &Sequence)> =
        all.filter_map(|(place, path)| Some((place, path.as_ref()?))).collect();
    let total = all.len();
    // Places and sequences of rows that share their prompt.
    let rows = pack(&all, tokens_at_once, |(_, sequence)| sequence);
    let rows: Vec<(Vec<usize>, Vec<&Sequence>)> =
        rows.into_iter().map(|row| row.into_iter().unzip()).collect();
    let mut done = 0;
    for group in flat_groups(&rows, tokens_at_once, |(_, sequences)| row_length(sequences)) {
        context.check_cancelled()?;
        context.progress(done, total, "rationales");
        let places: Vec<usize> = group.iter().flat_map(|(places, _)| places.iter().copied()).collect();
        let sequences: Vec<&[&Sequence]> = group.iter().map(|(_, sequences)| sequences.as_slice()).collect();
        let batch = collate_rows(&sequences, &student.model.device());
        let hidden = batch.hidden(&student.model);
        let losses = numbers(batch.token_losses(&student.model, hidden.clone()))?;
        for (place, loss) in places.iter().zip(losses) {
            features.mask[*place] = 1.0;
            features.losses[*place] = loss;
        }
        if matches!(reader, Reader::Student) {
            let means = numbers(batch.mean_states(hidden))?;
            for (place, mean) in places.iter().zip(means.chunks_exact(size)) {
                features.values[place * size..(place + 1) * size].copy_from_slice(mean);
            }
        }
        done += places.len();
    }
    context.progress(total, total, "rationales");
    Ok(())
}

/// Encodes every path of the student, question and rationale as a pair.
fn from_encoder(
    encoder: &SentenceEncoder,
    paths: &Paths,
    records: &[QuestionRationales],
    tokens_at_once: usize,
    features: &mut Features,
    context: &Context,
) -> Result<(), StageError> {
    let size = features.size;
    let by_id: HashMap<&str, &QuestionRationales> =
        records.iter().map(|record| (record.question.id.as_str(), record)).collect();
    let mut rows: Vec<(usize, Segments)> = Vec::new();
    for (question, encoded) in paths.questions.iter().enumerate() {
        let record = by_id[encoded.id.as_str()];
        let asked = tasks::asked(&record.question);
        for (path, perspective) in paths.perspectives.iter().enumerate() {
            let rationale = record.rationales.iter().find(|told| told.perspective == *perspective);
            if let (Some(rationale), Some(_)) = (rationale, &encoded.paths[path]) {
                let segments = encoder.encode(&asked, Some(&rationale.text))?;
                rows.push((question * features.paths + path, segments));
            }
        }
    }
    let cut = rows.iter().filter(|(_, segments)| segments.truncated).count();
    if cut > 0 {
        let most = encoder.max_tokens();
        context.note(format!("{cut} of {} rationales are cut at the encoder's {most} tokens", rows.len()));
    }
    let total = rows.len();
    let mut done = 0;
    for group in groups(&mut rows, tokens_at_once, |(_, segments)| segments.tokens.len()) {
        context.check_cancelled()?;
        context.progress(done, total, "rationales encoded");
        let texts: Vec<&Segments> = group.iter().map(|(_, segments)| segments).collect();
        let vectors = numbers(encoder.embed(&texts))?;
        for ((place, _), vector) in group.iter().zip(vectors.chunks_exact(size)) {
            features.values[place * size..(place + 1) * size].copy_from_slice(vector);
        }
        done += group.len();
    }
    context.progress(total, total, "rationales encoded");
    Ok(())
}

/// Leaves the features in scratch, complete or not at all.
fn keep(features: &Features, done: &Path, context: &Context) -> Result<(), StageError> {
    let part = context.scratch().join(PART);
    if part.exists() {
        fs::remove_dir_all(&part).map_err(StageError::io(&part))?;
    }
    fs::create_dir_all(&part).map_err(StageError::io(&part))?;
    features.save(&part)?;
    fs::rename(&part, done).map_err(StageError::io(done))
}

fn numbers<const D: usize>(tensor: Tensor<D>) -> Result<Vec<f32>, StageError> {
    tensor.try_into_vec_as().map_err(StageError::failed)
}
