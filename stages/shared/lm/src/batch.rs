//! Training sequences, how they share a batch, and the quantities every objective is made of.
//!
//! Losses count target tokens only: never the prompt, never padding. Hidden states are gathered at the positions that
//! predict a target before they meet the vocabulary projection.
//!
//! Sequences with one prompt may share a row: the prompt, then what follows it in each of them. Every continuation goes on
//! from the prompt's last position and attends to the prompt and to itself, never to a sibling, so all of its states are
//! those it would have in a row of its own, and the prompt is computed once. Nothing is padded but attention, see
//! [`crate::layout`].

use std::{ops::Range, sync::Arc};

use burn::tensor::{Device, Int, Tensor, TensorData};

use crate::{
    LmError,
    fused::{self, Mask},
    layout::{Layout, Text},
    llama::Llama,
    tokenizer::Tokenizer,
};

/// One training sequence: a prompt, then the target, then the end-of-text token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sequence {
    /// All tokens.
    pub tokens: Vec<u32>,
    /// The first token the loss counts; it counts all from here on, the end-of-text token included.
    pub target_start: usize,
    /// The tokens of the answer suffix; empty where there is none.
    pub answer_span: Range<usize>,
}

impl Sequence {
    /// The tokens before the first target.
    pub fn prompt(&self) -> &[u32] {
        &self.tokens[..self.target_start]
    }

    /// The tokens from the first target on.
    pub fn continuation(&self) -> &[u32] {
        &self.tokens[self.target_start..]
    }
}

/// Joins a prompt, from [`crate::prompt::Prompter`], with a text that ends in `suffix`.
///
/// Text and suffix are encoded apart from it and from each other: generation sees the same prompt tokens, and the suffix
/// has the same tokens in every rationale of a question.
pub fn encode_example(
    tokenizer: &Tokenizer,
    prompt: &[u32],
    text: &str,
    suffix: &str,
) -> Result<Sequence, LmError> {
    let body = text.strip_suffix(suffix).ok_or_else(|| LmError::NoSuffix { suffix: suffix.to_owned() })?;
    let mut tokens = prompt.to_vec();
    let target_start = tokens.len();
    tokens.extend(tokenizer.encode(body)?);
    let answer_start = tokens.len();
    tokens.extend(tokenizer.encode(suffix)?);
    let answer_span = answer_start..tokens.len();
    tokens.push(tokenizer.eos());
    Ok(Sequence { tokens, target_start, answer_span })
}

/// Encodes a text without a prompt: every token but the first, which nothing predicts, is a target.
pub fn encode_text(tokenizer: &Tokenizer, text: &str) -> Result<Sequence, LmError> {
    let mut tokens = tokenizer.encode(text)?;
    tokens.push(tokenizer.eos());
    Ok(Sequence { tokens, target_start: 1, answer_span: 0..0 })
}

/// Sequences as one flat list of tokens.
#[derive(Debug)]
pub struct Batch {
    /// `[tokens]`
    pub tokens: Tensor<1, Int>,
    /// What attends to what.
    pub layout: Layout,
    /// Target tokens of each sequence.
    pub target_counts: Vec<usize>,
    /// The rows of each sequence in [`Batch::answer_log_probs`].
    pub answer_rows: Vec<Range<usize>>,
    /// Where each sequence stands in the list: its prompt, and what follows it.
    spans: Vec<[Range<usize>; 2]>,
    /// Tokens of the list whose states predict a target, and the targets; `[targets]`.
    target_states: Tensor<1, Int>,
    targets: Arc<[u32]>,
    /// One row a sequence: 1 / its number of targets under its own targets; `[sequences, targets]`.
    target_means: Tensor<2>,
    /// Tokens of the list whose states predict an answer token.
    answer_states: Tensor<1, Int>,
}

/// Puts sequences into one batch, each with its own prompt.
///
/// # Panics
///
/// If there is no sequence, or one has no target.
pub fn collate(sequences: &[&Sequence], device: &Device) -> Batch {
    collate_rows(&sequences.iter().map(std::slice::from_ref).collect::<Vec<_>>(), device)
}

/// Puts sequences into one batch; those of one row share its prompt. All that the batch counts by sequence is in the
/// order of the rows.
///
/// # Panics
///
/// If there is no row or an empty one, the prompts of a row differ, or a sequence has no target.
pub fn collate_rows(rows: &[&[&Sequence]], device: &Device) -> Batch {
    assert!(!rows.is_empty(), "a batch has a row");
    let mut texts = Vec::new();
    for row in rows {
        let first = row.first().expect("a row has a sequence");
        assert!(first.target_start >= 1, "nothing predicts the first token");
        for sequence in *row {
            assert!(sequence.prompt() == first.prompt(), "the sequences of a row share their prompt");
            assert!(!sequence.continuation().is_empty(), "a sequence has a target");
        }
        match row {
            [alone] => texts.push(Text { length: alone.tokens.len(), prefix: None }),
            _ => {
                let prefix = Some(texts.len());
                texts.push(Text { length: first.target_start, prefix: None });
                let continued =
                    row.iter().map(|sequence| Text { length: sequence.continuation().len(), prefix });
                texts.extend(continued);
            }
        }
    }
    let (layout, places) = Layout::of_texts(&texts);

    let mut tokens = vec![0i32; layout.positions.len()];
    let (mut target_states, mut targets, mut target_counts) = (Vec::new(), Vec::new(), Vec::new());
    let (mut answer_states, mut answer_rows, mut spans) = (Vec::new(), Vec::new(), Vec::new());
    let mut places = places.into_iter();
    for row in rows {
        let mut place = || places.next().expect("every text has a place");
        let prompt = row[0].target_start;
        let shared = (row.len() > 1).then(&mut place);
        for sequence in *row {
            let place = place();
            let (before, own) = match &shared {
                Some(before) => (before.clone(), place),
                None => (place.start..place.start + prompt, place.start + prompt..place.end),
            };
            fill(&mut tokens[before.clone()], sequence.prompt());
            fill(&mut tokens[own.clone()], sequence.continuation());
            // The state that predicts a token: the one before it, and for the first of each, the prompt's last.
            let predicts =
                |at: usize| (if at == prompt { before.end - 1 } else { own.start + at - prompt - 1 }) as i32;
            target_counts.push(sequence.continuation().len());
            targets.extend_from_slice(sequence.continuation());
            target_states.extend((prompt..sequence.tokens.len()).map(predicts));
            let answers = answer_states.len();
            answer_states.extend(sequence.answer_span.clone().map(predicts));
            answer_rows.push(answers..answer_states.len());
            spans.push([before, own]);
        }
    }
    let sequences = target_counts.len();
    let mut means = vec![0f32; sequences * targets.len()];
    let mut before = 0;
    for (sequence, count) in target_counts.iter().enumerate() {
        means[sequence * targets.len() + before..][..*count].fill(1.0 / *count as f32);
        before += count;
    }
    let ints = |values: Vec<i32>| Tensor::<1, Int>::from_data(values.as_slice(), device);
    Batch {
        tokens: ints(tokens),
        layout,
        target_means: Tensor::from_data(TensorData::new(means, [sequences, targets.len()]), device),
        target_counts,
        answer_rows,
        spans,
        target_states: ints(target_states),
        targets: targets.into(),
        answer_states: ints(answer_states),
    }
}

/// Sequences in rows side by side, padded on the right, for [`Llama::hidden_states`].
#[derive(Debug)]
pub struct Rectangle {
    /// `[sequences, length]`
    pub tokens: Tensor<2, Int>,
    /// `[sequences, length]`
    pub positions: Tensor<2, Int>,
    /// Every token sees itself and those before it.
    pub mask: Mask,
}

/// Pads sequences to one length.
pub fn rectangle(sequences: &[&Sequence], pad: u32, device: &Device) -> Rectangle {
    let (batch, length) =
        (sequences.len(), sequences.iter().map(|sequence| sequence.tokens.len()).max().unwrap_or(0));
    let mut tokens = vec![pad.cast_signed(); batch * length];
    for (row, sequence) in tokens.chunks_mut(length.max(1)).zip(sequences) {
        fill(row, &sequence.tokens);
    }
    let positions: Vec<i32> = (0..batch * length).map(|place| (place % length) as i32).collect();
    let ints = |values: Vec<i32>| Tensor::from_data(TensorData::new(values, [batch, length]), device);
    Rectangle { tokens: ints(tokens), positions: ints(positions), mask: Mask::causal(batch, length) }
}

/// The tokens of a row of [`collate_rows`]: the prompt once, and each continuation.
pub fn row_length(row: &[&Sequence]) -> usize {
    let prompt = row.first().map_or(0, |sequence| sequence.target_start);
    prompt + row.iter().map(|sequence| sequence.continuation().len()).sum::<usize>()
}

fn fill(places: &mut [i32], tokens: &[u32]) {
    for (place, token) in places.iter_mut().zip(tokens) {
        *place = token.cast_signed();
    }
}

impl Batch {
    /// The hidden states of the batch: [`Llama::states`].
    pub fn hidden(&self, model: &Llama) -> Tensor<2> {
        model.states(self.tokens.clone(), &self.layout)
    }

    /// The mean cross-entropy over each sequence's targets, in nats.
    ///
    /// # Shapes
    ///
    /// - hidden: `[tokens, hidden_size]`, from [`Batch::hidden`]
    /// - output: `[sequences]`
    pub fn token_losses(&self, model: &Llama, hidden: Tensor<2>) -> Tensor<1> {
        self.means(self.target_losses(model, hidden))
    }

    /// The cross-entropy of each target, in nats.
    ///
    /// # Shapes
    ///
    /// - hidden: `[tokens, hidden_size]`, from [`Batch::hidden`]
    /// - output: `[targets of all sequences]`, in the order of [`Batch::target_counts`]
    pub fn target_losses(&self, model: &Llama, hidden: Tensor<2>) -> Tensor<1> {
        model.losses(self.target_hidden(hidden), &self.targets)
    }

    /// The states that predict a target.
    ///
    /// # Shapes
    ///
    /// - hidden: `[tokens, hidden_size]`, from [`Batch::hidden`]
    /// - output: `[targets of all sequences, hidden_size]`, in the order of [`Batch::target_counts`]
    pub fn target_hidden(&self, hidden: Tensor<2>) -> Tensor<2> {
        hidden.select(0, self.target_states.clone())
    }

    /// The mean over each sequence's targets, `[targets of all sequences]` to `[sequences]`.
    pub fn means(&self, losses: Tensor<1>) -> Tensor<1> {
        let means = self.target_means.clone().cast(losses.dtype());
        means.matmul(losses.unsqueeze_dim(1)).reshape([self.target_counts.len()])
    }

    /// The log-probabilities of the next token at each position of the answer suffix, teacher-forced.
    ///
    /// # Shapes
    ///
    /// - hidden: `[tokens, hidden_size]`, from [`Batch::hidden`]
    /// - output: `[answer tokens of all sequences, vocab_size]`; [`Batch::answer_rows`] says which rows are whose
    pub fn answer_log_probs(&self, model: &Llama, hidden: Tensor<2>) -> Tensor<2> {
        fused::log_softmax(model.logits(hidden.select(0, self.answer_states.clone())))
    }

    /// The mean state over each sequence's own tokens, its prompt included.
    ///
    /// # Shapes
    ///
    /// - hidden: `[tokens, hidden_size]`, from [`Batch::hidden`]
    /// - output: `[sequences, hidden_size]`
    pub fn mean_states(&self, hidden: Tensor<2>) -> Tensor<2> {
        let [states, _] = hidden.dims();
        let mut weights = vec![0f32; self.spans.len() * states];
        for (weights, spans) in weights.chunks_exact_mut(states).zip(&self.spans) {
            let tokens: usize = spans.iter().map(|span| span.len()).sum();
            for span in spans {
                weights[span.clone()].fill(1.0 / tokens as f32);
            }
        }
        let weights = TensorData::new(weights, [self.spans.len(), states]);
        Tensor::<2>::from_data(weights, &hidden.device()).matmul(hidden)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use burn::{
        module::{Module, ModuleVisitor, Param},
        tensor::activation,
    };

    use super::*;
    use crate::fixture;

    fn losses(model: &Llama, sequences: &[&Sequence]) -> Vec<f64> {
        let batch = collate(sequences, &fixture::device());
        batch.token_losses(model, batch.hidden(model)).into_data().iter::<f64>().collect()
    }

    #[test]
    fn the_suffix_of_a_question_has_the_same_tokens_in_every_rationale() {
        let tokenizer = fixture::tokenizer();
        let prompt = tokenizer.encode("5 plus 7 is how much?").unwrap();
        let encode = |body: &str| {
            let text = format!("{body} The answer is 12");
            encode_example(&tokenizer, &prompt, &text, " The answer is 12").unwrap()
        };
        let (short, long) = (encode(" so"), encode(" 5 plus 5 is 10, 10 plus 2 is 12\n"));
        let answer = |sequence: &Sequence| sequence.tokens[sequence.answer_span.clone()].to_vec();
        assert_eq!(answer(&short), answer(&long));
        assert_eq!(tokenizer.decode(&answer(&short)).unwrap(), " The answer is 12");
        assert_eq!(short.tokens[..short.target_start], long.tokens[..long.target_start]);
        assert_eq!(short.tokens.last(), Some(&tokenizer.eos()));
        assert_eq!(short.answer_span.end, short.tokens.len() - 1);
        let error = encode_example(&tokenizer, &prompt, "It is 12", " The answer is 12").unwrap_err();
        assert_eq!(error.to_string(), "the text does not end in ` The answer is 12`");
    }

    #[test]
    fn losses_are_cross_entropies_of_target_tokens_only() {
        let model = fixture::llama(5);
        let sequence = &fixture::sequences(2)[1];
        let batch = collate(&[sequence], &fixture::device());
        let length = sequence.tokens.len();
        let logits = model.logits(batch.hidden(&model)).into_data();
        let logits: Vec<f64> = logits.iter::<f64>().collect();
        // By hand: -ln softmax(logits of the place before)[token], averaged over the targets.
        let mut sum = 0.0;
        for place in sequence.target_start..length {
            let row = &logits[(place - 1) * 300..place * 300];
            let total: f64 = row.iter().map(|logit| logit.exp()).sum();
            sum -= (row[sequence.tokens[place] as usize].exp() / total).ln();
        }
        let expected = sum / (length - sequence.target_start) as f64;
        fixture::assert_close(&losses(&model, &[sequence]), &[expected], 1e-5);
    }

    #[test]
    fn neighbours_and_padding_do_not_change_a_loss() {
        let model = fixture::llama(5);
        let sequences = fixture::sequences(5);
        let together = losses(&model, &sequences.iter().collect::<Vec<_>>());
        let alone: Vec<f64> = sequences.iter().flat_map(|sequence| losses(&model, &[sequence])).collect();
        fixture::assert_close(&together, &alone, 1e-5);
    }

    #[test]
    fn answer_rows_are_distributions_over_the_answer_span() {
        let model = fixture::llama(5);
        let sequences = fixture::sequences(3);
        let batch = collate(&sequences.iter().collect::<Vec<_>>(), &fixture::device());
        let hidden = batch.hidden(&model);
        let log_probs = batch.answer_log_probs(&model, hidden.clone());
        assert_eq!(log_probs.dims()[0], batch.answer_rows[2].end);
        let sums: Vec<f64> = log_probs.clone().exp().sum_dim(1).into_data().iter::<f64>().collect();
        fixture::assert_close(&sums, &vec![1.0; sums.len()], 1e-5);
        // The first answer token of the last sequence is predicted from the place before it.
        let alone = collate(&[&sequences[2]], &fixture::device()).hidden(&model);
        let state = alone.narrow(0, sequences[2].answer_span.start - 1, 1);
        let expected = activation::log_softmax(model.logits(state), 1).into_data();
        let found = log_probs.narrow(0, batch.answer_rows[2].start, 1).into_data();
        fixture::assert_close(
            &found.iter::<f64>().collect::<Vec<_>>(),
            &expected.iter::<f64>().collect::<Vec<_>>(),
            1e-5,
        );
    }

    /// Questions with several rationales of different lengths, as (rows of one prompt).
    fn questions(counts: &[usize]) -> Vec<Vec<Sequence>> {
        let tokenizer = fixture::tokenizer();
        let question = |(index, count): (usize, &usize)| {
            let prompt = tokenizer.encode(&format!("{} plus 7 is how much?", 3 * index + 1)).unwrap();
            let suffix = format!(" The answer is {}", 3 * index + 8);
            let path = |path: usize| {
                // The first rationale is its answer alone, so the prompt's last state predicts an answer token.
                let text = format!(
                    "{}{suffix}",
                    " so 7 plus".repeat((path * 2 + index) % 5 * usize::from(path > 0))
                );
                encode_example(&tokenizer, &prompt, &text, &suffix).unwrap()
            };
            (0..*count).map(path).collect()
        };
        counts.iter().enumerate().map(question).collect()
    }

    fn packed(questions: &[Vec<Sequence>]) -> Batch {
        let rows: Vec<Vec<&Sequence>> = questions.iter().map(|row| row.iter().collect()).collect();
        let rows: Vec<&[&Sequence]> = rows.iter().map(Vec::as_slice).collect();
        collate_rows(&rows, &fixture::device())
    }

    fn plain(questions: &[Vec<Sequence>]) -> Batch {
        collate(&questions.iter().flatten().collect::<Vec<_>>(), &fixture::device())
    }

    fn numbers<const D: usize>(tensor: Tensor<D>) -> Vec<f64> {
        tensor.into_data().iter::<f64>().collect()
    }

    #[test]
    fn sequences_of_one_row_lose_what_they_lose_alone() {
        let model = fixture::llama(5);
        // A question may lack perspectives.
        let questions = questions(&[4, 1, 3, 2]);
        let (packed, plain) = (packed(&questions), plain(&questions));
        assert!(packed.tokens.dims() < plain.tokens.dims());
        assert_eq!(packed.target_counts, plain.target_counts);
        assert_eq!(packed.answer_rows, plain.answer_rows);
        assert!(questions[0][0].answer_span.start == questions[0][0].target_start);
        let (together, alone) = (packed.hidden(&model), plain.hidden(&model));
        for (found, expected) in [
            (packed.token_losses(&model, together.clone()), plain.token_losses(&model, alone.clone())),
            (
                packed.answer_log_probs(&model, together.clone()).flatten(0, 1),
                plain.answer_log_probs(&model, alone.clone()).flatten(0, 1),
            ),
            (packed.mean_states(together).flatten(0, 1), plain.mean_states(alone).flatten(0, 1)),
        ] {
            fixture::assert_close(&numbers(found), &numbers(expected), 1e-5);
        }
    }

    #[test]
    fn sequences_of_one_row_give_the_gradients_they_give_alone() {
        let questions = questions(&[4, 1, 3, 2]);
        let gradients = |batch: &Batch| {
            let model = fixture::llama(5).train();
            let hidden = batch.hidden(&model);
            let weights = [0.4f32, 0.3, 0.2, 0.1, 1.0, 0.1, 0.7, 0.2, 0.5, 0.5];
            let weights = Tensor::<1>::from_data(weights, &fixture::device());
            // Both quantities objectives are made of: losses, and something not linear in the answers.
            let answers = batch.answer_log_probs(&model, hidden.clone());
            let loss = (batch.token_losses(&model, hidden) * weights).sum()
                + (answers.clone().exp() * answers).sum().mul_scalar(0.01);
            let mut gradients = Gradients { of: loss.backward(), found: Vec::new() };
            model.visit(&mut gradients);
            gradients.found
        };
        let (found, expected) = (gradients(&packed(&questions)), gradients(&plain(&questions)));
        assert_eq!(expected.len(), 2 * 9 + 2, "every parameter has a gradient");
        for (found, expected) in found.iter().zip(&expected) {
            // Sums over tokens in another order: relative to the largest of a parameter's gradients.
            let largest = expected.iter().fold(0f64, |largest, value| largest.max(value.abs()));
            assert!(largest > 0.0);
            let scaled = |values: &[f64]| values.iter().map(|value| value / largest).collect::<Vec<_>>();
            fixture::assert_close(&scaled(found), &scaled(expected), 1e-5);
        }
    }

    struct Gradients {
        of: burn::tensor::Gradients,
        found: Vec<Vec<f64>>,
    }

    impl ModuleVisitor for Gradients {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.found.push(numbers(param.val().grad(&self.of).unwrap()));
        }
    }

    #[test]
    fn prompts_are_there_once_and_nothing_is_padded() {
        let questions = questions(&[4, 1, 3]);
        let batch = packed(&questions);
        let mut expected: Vec<u32> = Vec::new();
        for question in &questions {
            expected.extend(question[0].prompt());
            question.iter().for_each(|sequence| expected.extend(sequence.continuation()));
        }
        let mut found: Vec<u32> = batch.tokens.into_data().iter::<u32>().collect();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected);
    }

    #[test]
    fn a_rectangle_has_the_states_of_the_flat_list() {
        let model = fixture::llama(5);
        let sequences = fixture::sequences(4);
        let sequences: Vec<&Sequence> = sequences.iter().collect();
        let Rectangle { tokens, positions, mask } = rectangle(&sequences, 0, &fixture::device());
        let padded = model.hidden(tokens, positions, mask);
        let batch = collate(&sequences, &fixture::device());
        let flat = batch.hidden(&model);
        for (row, [before, own]) in batch.spans.iter().enumerate() {
            let length = own.end - before.start;
            let found = padded.clone().narrow(0, row, 1).narrow(1, 0, length);
            let expected = flat.clone().narrow(0, before.start, length);
            fixture::assert_close(&numbers(found), &numbers(expected), 1e-5);
        }
    }

    #[test]
    fn siblings_do_not_see_each_other() {
        let model = fixture::llama(5);
        let losses = |questions: &[Vec<Sequence>]| {
            let batch = packed(questions);
            numbers(batch.token_losses(&model, batch.hidden(&model)))
        };
        let mut questions = questions(&[3]);
        let before = losses(&questions);
        for changed in 0..3 {
            let kept = questions[0][changed].clone();
            for token in &mut questions[0][changed].tokens[kept.target_start..] {
                *token = 299 - *token;
            }
            let after = losses(&questions);
            for (sibling, (before, after)) in before.iter().zip(&after).enumerate() {
                assert_eq!(before == after, sibling != changed, "{sibling} after a change of {changed}");
            }
            questions[0][changed] = kept;
        }
    }

    #[test]
    #[should_panic(expected = "share their prompt")]
    fn a_row_has_one_prompt() {
        let mut questions = questions(&[2]);
        questions[0][1].tokens[0] += 1;
        packed(&questions);
    }
}
