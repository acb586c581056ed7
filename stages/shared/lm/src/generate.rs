//! Generation, greedy or sampled: batched, with a key-value cache, without autodiff.
//!
//! Prompts are answered in batches of similar length. A batch is padded on the right, so every row has its own positions
//! and its own mask; what a row yields does not depend on its neighbours beyond float rounding, sampled or not. A text ends
//! with any token of [`crate::tokenizer::Tokenizer::stops`], and with nothing else.

use burn::{
    module::Module,
    tensor::{Device, Tensor, TensorData},
};
use contract::StageError;
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;

use crate::{LanguageModel, LmError, Mask, Span, llama::Llama, sample::Sampling, tokenizer::Tokenizer};

/// How to generate.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// Where a text is cut, in tokens.
    pub max_new_tokens: usize,
    /// Prompts answered side by side.
    pub batch_size: usize,
    /// How tokens are drawn; where absent, the likeliest one is taken.
    pub sampling: Option<Sampling>,
}

/// What is to be continued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The tokens of the prompt: [`crate::prompt::Prompter`].
    pub prompt: Vec<u32>,
    /// What is asked, a question's id; decides the draws of a sampled text, with the number below.
    pub item: String,
    /// Which sample of this item, from 0.
    pub sample: usize,
}

/// What a model wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generation {
    /// The text, without the token that ended it.
    pub text: String,
    /// Generated tokens, the one that ended it included.
    pub tokens: usize,
    /// Whether it was cut at the length limit.
    pub truncated: bool,
}

/// Hears of each finished batch: the indices of its requests, and what was generated for them.
pub type OnBatch<'a> = dyn FnMut(&[usize], &[Generation]) -> Result<(), StageError> + 'a;

/// Answers every request, in the order given.
///
/// `go_on` is called before each token, and `on_batch` after each batch with the indices of its requests and what was
/// generated for them; an error from either ends the generation.
pub fn generate(
    language_model: &LanguageModel,
    requests: &[Request],
    options: &Options,
    go_on: &dyn Fn() -> Result<(), StageError>,
    on_batch: &mut OnBatch,
) -> Result<Vec<Generation>, StageError> {
    fit(language_model, requests, options)?;
    let model = language_model.model.valid();
    let tokenizer = &language_model.tokenizer;
    let mut order: Vec<usize> = (0..requests.len()).collect();
    order.sort_by_key(|index| (requests[*index].prompt.len(), *index));

    let mut generations = vec![None; requests.len()];
    for indices in order.chunks(options.batch_size.max(1)) {
        let batch: Vec<&Request> = indices.iter().map(|index| &requests[*index]).collect();
        let written = write_on(&model, tokenizer, &batch, options, go_on, &mut |_, _| Ok(true))?;
        let finished: Vec<Generation> =
            written.iter().map(|tokens| finish(tokenizer, tokens)).collect::<Result<_, LmError>>()?;
        on_batch(indices, &finished)?;
        for (index, generation) in indices.iter().zip(finished) {
            generations[*index] = Some(generation);
        }
    }
    Ok(generations.into_iter().map(|generation| generation.expect("every request is in a batch")).collect())
}

/// Answers one request and hands over its text piece by piece, as it is written.
///
/// The pieces joined are the text of the generation. A character whose bytes are not all there yet waits for them.
pub fn stream(
    language_model: &LanguageModel,
    request: &Request,
    options: &Options,
    on_text: &mut dyn FnMut(&str) -> Result<(), StageError>,
) -> Result<Generation, StageError> {
    let options = Options { batch_size: 1, ..*options };
    let request = std::slice::from_ref(request);
    let mut answers =
        stream_all(language_model, request, &options, &[], &|| Ok(()), &mut |_, piece| on_text(piece))?;
    Ok(answers.pop().expect("one request has one answer").generation)
}

/// What [`stream_all`] wrote for one request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Streamed {
    /// The text; it ends before a stop string, if one ended it.
    pub generation: Generation,
    /// Every token generated, those of a stop string and the one that ended the text included.
    pub written: Vec<u32>,
}

/// Answers requests batch by batch, and hands over their texts piece by piece with the index of the request.
///
/// A text ends before the first of `stop_strings` in it, too. What may be the beginning of one waits until it is clear, so
/// the pieces joined are the text. `go_on` is called before each token; an error from either ends the generation.
pub fn stream_all(
    language_model: &LanguageModel,
    requests: &[Request],
    options: &Options,
    stop_strings: &[String],
    go_on: &dyn Fn() -> Result<(), StageError>,
    on_text: &mut dyn FnMut(usize, &str) -> Result<(), StageError>,
) -> Result<Vec<Streamed>, StageError> {
    fit(language_model, requests, options)?;
    let model = language_model.model.valid();
    let tokenizer = &language_model.tokenizer;
    let mut answers = Vec::with_capacity(requests.len());
    for batch in requests.chunks(options.batch_size.max(1)) {
        let first = answers.len();
        let mut speakers: Vec<Speaker> = batch.iter().map(|_| Speaker::default()).collect();
        let rows: Vec<&Request> = batch.iter().collect();
        let written = write_on(&model, tokenizer, &rows, options, go_on, &mut |row, token| {
            let speaker = &mut speakers[row];
            let piece = speaker.hear(tokenizer, token, stop_strings)?;
            if !piece.is_empty() {
                on_text(first + row, &piece)?;
            }
            Ok(!speaker.stopped)
        })?;
        for (row, (speaker, written)) in speakers.into_iter().zip(written).enumerate() {
            let mut generation = finish(tokenizer, &written)?;
            if speaker.stopped {
                generation = Generation { text: speaker.said, truncated: false, ..generation };
            } else if let Some(rest) =
                generation.text.get(speaker.said.len()..).filter(|rest| !rest.is_empty())
            {
                on_text(first + row, rest)?;
            }
            answers.push(Streamed { generation, written });
        }
    }
    Ok(answers)
}

/// Refuses what the model has no positions for, before anything is computed.
fn fit(language_model: &LanguageModel, requests: &[Request], options: &Options) -> Result<(), LmError> {
    let (new, limit) = (options.max_new_tokens, language_model.config.max_position_embeddings);
    match requests.iter().find(|request| request.prompt.len() + new > limit) {
        Some(Request { item, prompt, .. }) => {
            Err(LmError::TooLong { item: item.clone(), prompt: prompt.len(), new, limit })
        }
        None => Ok(()),
    }
}

/// What one text has said so far.
#[derive(Default)]
struct Speaker {
    tokens: Vec<u32>,
    said: String,
    /// Whether a stop string ended it.
    stopped: bool,
}

impl Speaker {
    /// What a token adds to what can be said already.
    fn hear(
        &mut self,
        tokenizer: &Tokenizer,
        token: u32,
        stop_strings: &[String],
    ) -> Result<String, LmError> {
        self.tokens.push(token);
        let text = finish(tokenizer, &self.tokens)?.text;
        let found = stop_strings.iter().filter_map(|stop| text.find(stop.as_str())).min();
        let sayable = match found {
            Some(end) => end,
            None => {
                let whole = text.trim_end_matches(char::REPLACEMENT_CHARACTER);
                whole.len() - stop_strings.iter().map(|stop| begun(whole, stop)).max().unwrap_or(0)
            }
        };
        self.stopped = found.is_some();
        let piece = text.get(self.said.len()..sayable).unwrap_or_default().to_owned();
        self.said.push_str(&piece);
        Ok(piece)
    }
}

/// How many bytes at the end of a text may be the beginning of a stop string.
fn begun(text: &str, stop: &str) -> usize {
    let beginnings = stop.char_indices().map(|(end, _)| end).rev();
    beginnings.into_iter().find(|end| text.ends_with(&stop[..*end])).unwrap_or(0)
}

fn finish(tokenizer: &Tokenizer, tokens: &[u32]) -> Result<Generation, LmError> {
    let (text, ended) = match tokens.split_last() {
        Some((last, text)) if tokenizer.stops().contains(last) => (text, true),
        _ => (tokens, false),
    };
    Ok(Generation { text: tokenizer.decode(text)?, tokens: tokens.len(), truncated: !ended })
}

/// Hears of each token, the request's place in the batch and the token, and says whether the text goes on.
pub(crate) type OnToken<'a> = dyn FnMut(usize, u32) -> Result<bool, StageError> + 'a;

/// The tokens each prompt of a batch is continued with, up to and including one that ends it.
pub(crate) fn write_on(
    model: &Llama,
    tokenizer: &Tokenizer,
    batch: &[&Request],
    options: &Options,
    go_on: &dyn Fn() -> Result<(), StageError>,
    on_token: &mut OnToken,
) -> Result<Vec<Vec<u32>>, StageError> {
    let (limit, stops) = (options.max_new_tokens, tokenizer.stops());
    let prompts: Vec<&[u32]> = batch.iter().map(|request| request.prompt.as_slice()).collect();
    let device = model.device();
    let mut written = vec![Vec::new(); prompts.len()];
    let mut ended = vec![false; prompts.len()];
    let longest = prompts.iter().map(|prompt| prompt.len()).max().unwrap_or(0);
    if longest == 0 || limit == 0 {
        return Ok(written);
    }
    let mut choice = Choice::new(batch, options);
    let mut cache = model.cache(longest + limit - 1);
    // Rows still computed, by prompt; finished ones leave when a quarter of the batch is idle.
    let mut rows: Vec<usize> = (0..prompts.len()).collect();
    let logits = prefill(model, &prompts, longest, tokenizer.pad(), &device, &mut cache);
    let mut next = choice.next(logits, &rows)?;
    for step in 1..=limit {
        go_on()?;
        let mut active = vec![false; rows.len()];
        for (place, row) in rows.iter().enumerate() {
            if !ended[*row] {
                written[*row].push(next[place]);
                let goes_on = on_token(*row, next[place])?;
                ended[*row] = !goes_on || stops.contains(&next[place]);
                active[place] = !ended[*row];
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
        let span = |row: &usize| Span { prefix: prompts[*row].len(), from: longest, to: columns };
        let mask = Mask::new(rows.len(), columns, rows.iter().map(span).collect());
        let tokens: Vec<i32> = next.iter().map(|token| *token as i32).collect();
        let size = [rows.len(), 1];
        let hidden = model.extend(
            Tensor::from_data(TensorData::new(tokens, size), &device),
            &positions,
            mask,
            &mut cache,
        );
        let [batch, _, width] = hidden.dims();
        next = choice.next(model.logits(hidden.reshape([batch, width])), &rows)?;
    }
    Ok(written)
}

/// How the next tokens of a batch are chosen.
enum Choice {
    Greedy,
    /// One generator a request.
    Sampled(Sampling, Vec<ChaCha8Rng>),
}

impl Choice {
    fn new(batch: &[&Request], options: &Options) -> Self {
        match options.sampling {
            None => Self::Greedy,
            Some(sampling) => {
                let rng = |request: &&Request| sampling.rng(&request.item, request.sample);
                Self::Sampled(sampling, batch.iter().map(rng).collect())
            }
        }
    }

    /// The next token of each row.
    ///
    /// # Shapes
    ///
    /// - logits: `[rows, vocab_size]`; `rows` says which request each row belongs to
    fn next(&mut self, logits: Tensor<2>, rows: &[usize]) -> Result<Vec<u32>, StageError> {
        match self {
            Self::Greedy => {
                Ok(logits.argmax(1).into_data().iter::<i64>().map(|token| token as u32).collect())
            }
            Self::Sampled(sampling, rngs) => {
                let [_, width] = logits.dims();
                let logits: Vec<f32> = logits.try_into_vec_as().map_err(StageError::failed)?;
                let mut drawn = vec![0; rngs.len()];
                let wanted: Vec<Option<usize>> =
                    (0..rngs.len()).map(|request| rows.iter().position(|row| *row == request)).collect();
                let draws = rngs.par_iter_mut().zip(&wanted).zip(&mut drawn);
                draws.for_each(|((rng, place), drawn)| {
                    if let Some(place) = place {
                        *drawn = sampling.draw(&logits[place * width..(place + 1) * width], rng);
                    }
                });
                Ok(rows.iter().map(|row| drawn[*row]).collect())
            }
        }
    }
}

/// Fills the cache with the prompts and returns the logits after each, `[batch, vocab_size]`.
fn prefill(
    model: &Llama,
    prompts: &[&[u32]],
    longest: usize,
    pad: u32,
    device: &Device,
    cache: &mut crate::llama::Cache,
) -> Tensor<2> {
    let batch = prompts.len();
    let mut tokens = vec![pad as i32; batch * longest];
    let mut last = Vec::with_capacity(batch);
    for (row, prompt) in prompts.iter().enumerate() {
        for (place, token) in tokens[row * longest..].iter_mut().zip(*prompt) {
            *place = *token as i32;
        }
        last.push((row * longest + prompt.len().max(1) - 1) as i32);
    }
    let positions: Vec<i32> = (0..batch).flat_map(|_| 0..longest as i32).collect();
    let hidden = model.extend(
        Tensor::from_data(TensorData::new(tokens, [batch, longest]), device),
        &positions,
        Mask::causal(batch, longest),
        cache,
    );
    let width = hidden.dims()[2];
    let hidden = hidden.reshape([batch * longest, width]);
    model.logits(hidden.select(0, Tensor::from_data(last.as_slice(), device)))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::{
        batch::{Sequence, collate},
        fixture,
        tokenizer::Special,
        train::{Schedule, TrainOptions, Trainer},
    };

    /// A model that has learnt some sums, and requests for them.
    fn taught() -> (LanguageModel, Vec<Request>) {
        let sequences: Vec<Sequence> = fixture::sequences(16);
        let mut model = fixture::language_model(1);
        let options = TrainOptions::new(1e-2, Schedule::Cosine { steps: 60, warmup: 0.1 });
        let mut trainer = Trainer::new(model.model, options);
        let batch = collate(&sequences.iter().collect::<Vec<_>>(), &fixture::device());
        for _ in 0..60 {
            trainer.step_on(batch.token_losses(&trainer.model, batch.hidden(&trainer.model)).mean()).unwrap();
        }
        model.model = trainer.into_model();
        let request = |(index, sequence): (usize, &Sequence)| Request {
            prompt: sequence.tokens[..sequence.target_start].to_vec(),
            item: format!("q{}", index % 8),
            sample: index / 8,
        };
        let requests = sequences.iter().enumerate().map(request).collect();
        (model, requests)
    }

    fn all(
        model: &LanguageModel,
        prompts: &[Request],
        max_new_tokens: usize,
        batch_size: usize,
    ) -> Vec<Generation> {
        with(model, prompts, Options { max_new_tokens, batch_size, sampling: None })
    }

    fn with(model: &LanguageModel, prompts: &[Request], options: Options) -> Vec<Generation> {
        let mut seen = Vec::new();
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
    fn what_does_not_fit_the_positions_is_refused_with_the_remedy() {
        let mut model = fixture::language_model(1);
        model.config.max_position_embeddings = 20;
        let request = |length: usize| Request { prompt: vec![9; length], item: "q7".into(), sample: 0 };
        let options = Options { max_new_tokens: 8, batch_size: 1, sampling: None };
        let ask = |length: usize| {
            generate(&model, &[request(2), request(length)], &options, &|| Ok(()), &mut |_, _| Ok(()))
        };
        assert_eq!(ask(12).unwrap().len(), 2);
        let error = ask(13).unwrap_err();
        assert!(error.to_string().contains("`q7`: a prompt of 13 tokens and 8 new ones"), "{error}");
        assert!(error.help().is_some_and(|help| help.contains("max_new_tokens")));
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

    const SAMPLING: Sampling = Sampling { temperature: 1.5, top_k: Some(50), top_p: 0.98, seed: 3 };

    #[test]
    fn neither_batch_nor_order_nor_company_change_a_sampled_text() {
        let (model, requests) = taught();
        let sample = |requests: &[Request], batch_size: usize, sampling: Sampling| {
            let options = Options { max_new_tokens: 30, batch_size, sampling: Some(sampling) };
            with(&model, requests, options)
        };
        let together = sample(&requests, 16, SAMPLING);
        assert_eq!(sample(&requests, 1, SAMPLING), together);
        assert_eq!(sample(&requests, 5, SAMPLING), together);
        assert_eq!(sample(&requests[3..7], 4, SAMPLING), together[3..7]);
        let turned: Vec<Request> = requests.iter().rev().cloned().collect();
        let mut again = sample(&turned, 16, SAMPLING);
        again.reverse();
        assert_eq!(again, together);

        assert_ne!(together, all(&model, &requests, 30, 16), "it is hot enough to differ from greedy");
        assert_ne!(sample(&requests, 16, Sampling { seed: 4, ..SAMPLING }), together);
        let next: Vec<Request> = requests
            .iter()
            .map(|request| Request { sample: request.sample + 2, ..request.clone() })
            .collect();
        assert_ne!(sample(&next, 16, SAMPLING), together);
        let cold = Sampling { temperature: 1e-3, ..SAMPLING };
        assert_eq!(sample(&requests, 16, cold), all(&model, &requests, 30, 16), "cold sampling is greedy");
    }

    #[test]
    fn a_stream_says_the_text_of_the_generation_in_pieces() {
        let (model, requests) = taught();
        let options = Options { max_new_tokens: 40, batch_size: 1, sampling: None };
        for request in &requests[..3] {
            let mut pieces: Vec<String> = Vec::new();
            let streamed = stream(&model, request, &options, &mut |piece| {
                pieces.push(piece.to_owned());
                Ok(())
            })
            .unwrap();
            assert_eq!(vec![streamed.clone()], all(&model, std::slice::from_ref(request), 40, 1));
            assert_eq!(pieces.concat(), streamed.text);
            assert!(pieces.len() > 3, "{pieces:?}");
        }
    }

    #[test]
    fn stop_strings_end_texts_side_by_side_and_no_part_of_one_is_said() {
        let (model, requests) = taught();
        let options = Options { max_new_tokens: 40, batch_size: 5, sampling: None };
        let whole = all(&model, &requests, 40, 16);
        let stop = [" answer is".to_owned(), "nowhere".to_owned()];
        let mut heard = vec![String::new(); requests.len()];
        let answers = stream_all(&model, &requests, &options, &stop, &|| Ok(()), &mut |index, piece| {
            assert!(!piece.is_empty());
            heard[index].push_str(piece);
            Ok(())
        })
        .unwrap();
        let mut cut = 0;
        for ((answer, whole), heard) in answers.iter().zip(&whole).zip(&heard) {
            assert_eq!(&answer.generation.text, heard);
            assert_eq!(answer.written.len(), answer.generation.tokens);
            match whole.text.split_once(&stop[0]) {
                Some((before, _)) => {
                    assert_eq!((before, false), (heard.as_str(), answer.generation.truncated));
                    assert!(answer.generation.tokens < whole.tokens);
                    cut += 1;
                }
                None => assert_eq!(&answer.generation, whole),
            }
        }
        assert!(cut > 8, "{cut} of 16 were cut");
        assert_eq!(["x The", "x Th", "x", ""].map(|text| begun(text, " The ")), [4, 3, 0, 0]);
    }

    #[test]
    fn every_stop_token_ends_a_text_and_stands_in_none() {
        let (mut model, requests) = taught();
        let whole = all(&model, &requests[..1], 40, 1).remove(0);
        let tokens = model.tokenizer.encode(&whole.text).unwrap();
        let special = Special::new(model.tokenizer.eos(), model.tokenizer.pad());
        let stops = vec![special.eos, tokens[2]];
        model.tokenizer = model.tokenizer.with_special(Special { stops, ..special });
        let cut = all(&model, &requests[..1], 40, 1).remove(0);
        let first = tokens.iter().position(|token| *token == tokens[2]).unwrap();
        assert_eq!((cut.tokens, cut.truncated), (first + 1, false));
        assert_eq!(cut.text, model.tokenizer.decode(&tokens[..first]).unwrap());
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
        let prompts = vec![Request { prompt: vec![5, 6], item: String::new(), sample: 0 }; 4];
        let options = Options { max_new_tokens: 2, batch_size: 2, sampling: None };
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
