//! Sentence space: what a sentence encoder makes of rationales, the same for every model.
//!
//! It sees texts and no hidden state: how far perspectives are worded apart, by the teacher and by the students themselves.

use contract::{Context, StageError, records::QuestionRationales};
use faer::Mat;
use lm::{
    LanguageModel,
    encoder::{Segments, SentenceEncoder},
    generate::{Options, Request, generate},
    prompt::Prompter,
};

use crate::stage::SentenceSpace;

/// The vectors of texts, one a row, in the order given.
pub(crate) fn embed(
    encoder: &SentenceEncoder,
    texts: &[String],
    batch_size: usize,
    context: &Context,
) -> Result<Mat<f64>, StageError> {
    let segments: Vec<Segments> =
        texts.iter().map(|text| encoder.encode(text, None)).collect::<Result<_, _>>()?;
    let cut = segments.iter().filter(|segments| segments.truncated).count();
    if cut > 0 {
        let most = encoder.max_tokens();
        context.note(format!("{cut} of {} texts are cut at the encoder's {most} tokens", texts.len()));
    }
    let mut vectors = Mat::zeros(texts.len(), encoder.size());
    let mut order: Vec<usize> = (0..texts.len()).collect();
    order.sort_by_key(|index| segments[*index].tokens.len());
    for (turn, indices) in order.chunks(batch_size).enumerate() {
        context.check_cancelled()?;
        context.progress(turn * batch_size, texts.len(), "texts encoded");
        let batch: Vec<&Segments> = indices.iter().map(|index| &segments[*index]).collect();
        let embedded = encoder.embed(&batch).into_data();
        for (position, value) in embedded.iter::<f64>().enumerate() {
            vectors[(indices[position / encoder.size()], position % encoder.size())] = value;
        }
    }
    context.progress(texts.len(), texts.len(), "texts encoded");
    Ok(vectors)
}

/// What a model writes about questions, greedily.
pub(crate) fn written(
    model: &LanguageModel,
    records: &[QuestionRationales],
    params: &SentenceSpace,
    batch_size: usize,
    context: &Context,
) -> Result<Vec<String>, StageError> {
    let prompter = Prompter::new(&model.tokenizer)?;
    let requests: Vec<Request> = records
        .iter()
        .map(|record| {
            let prompt = prompter.question(&record.question)?;
            Ok(Request { prompt, item: record.question.id.clone(), sample: 0 })
        })
        .collect::<Result<_, lm::LmError>>()?;
    let options = Options { max_new_tokens: params.max_new_tokens, batch_size, sampling: None };
    let mut done = 0;
    let written = generate(model, &requests, &options, &|| context.check_cancelled(), &mut |batch, _| {
        done += batch.len();
        context.progress(done, requests.len(), "rationales written");
        Ok(())
    })?;
    Ok(written.into_iter().map(|generation| generation.text).collect())
}
