//! Training sequences, how they share a batch, and the quantities every objective is made of.
//!
//! Losses count target tokens only: never the prompt, never padding. Hidden states are gathered at the positions that
//! predict a target before they meet the vocabulary projection.

use std::ops::Range;

use burn::tensor::{Bool, Device, Int, Tensor, TensorData, activation};

use crate::{LmError, llama::Llama, tokenizer::Tokenizer};

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

/// Sequences side by side, padded on the right.
#[derive(Clone, Debug)]
pub struct Batch {
    /// `[batch, length]`
    pub tokens: Tensor<2, Int>,
    /// `[batch, length]`
    pub positions: Tensor<2, Int>,
    /// `[batch, length, length]`, true where the query (second axis) may attend to the key (third axis).
    pub mask: Tensor<3, Bool>,
    /// Target tokens of each sequence.
    pub target_counts: Vec<usize>,
    /// The rows of each sequence in [`Batch::answer_log_probs`].
    pub answer_rows: Vec<Range<usize>>,
    /// Rows of the flat hidden states that predict a target, and the targets; `[targets]`.
    target_states: Tensor<1, Int>,
    targets: Tensor<1, Int>,
    /// One row a sequence: 1 / its number of targets under its own targets; `[batch, targets]`.
    target_means: Tensor<2>,
    /// Rows of the flat hidden states that predict an answer token.
    answer_states: Tensor<1, Int>,
}

/// Puts sequences into one batch.
///
/// # Panics
///
/// If there is no sequence, or one has no target.
pub fn collate(sequences: &[&Sequence], pad: u32, device: &Device) -> Batch {
    let batch = sequences.len();
    let length =
        sequences.iter().map(|sequence| sequence.tokens.len()).max().expect("a batch has a sequence");
    let mut tokens = vec![pad as i32; batch * length];
    let (mut target_states, mut targets, mut target_counts) = (Vec::new(), Vec::new(), Vec::new());
    let (mut answer_states, mut answer_rows) = (Vec::new(), Vec::new());
    for (row, sequence) in sequences.iter().enumerate() {
        let start = row * length;
        for (place, token) in tokens[start..].iter_mut().zip(&sequence.tokens) {
            *place = *token as i32;
        }
        assert!(sequence.target_start >= 1, "nothing predicts the first token");
        assert!(sequence.target_start < sequence.tokens.len(), "a sequence has a target");
        let places = sequence.target_start..sequence.tokens.len();
        target_counts.push(places.len());
        targets.extend(sequence.tokens[places.clone()].iter().map(|token| *token as i32));
        target_states.extend(places.map(|place| (start + place - 1) as i32));
        let before = answer_states.len();
        answer_states.extend(sequence.answer_span.clone().map(|place| (start + place - 1) as i32));
        answer_rows.push(before..answer_states.len());
    }
    let mut means = vec![0f32; batch * targets.len()];
    let mut before = 0;
    for (row, count) in target_counts.iter().enumerate() {
        means[row * targets.len() + before..][..*count].fill(1.0 / *count as f32);
        before += count;
    }
    // Padding stands on the right and nothing attends to the right, so causality is the whole mask.
    let causal = (0..length * length).map(|i| i % length <= i / length).collect::<Vec<bool>>();
    let causal = Tensor::<2, Bool>::from_data(TensorData::new(causal, [length, length]), device);
    let positions = (0..length as i32).collect::<Vec<_>>();
    let ints = |values: Vec<i32>| Tensor::<1, Int>::from_data(values.as_slice(), device);
    Batch {
        tokens: ints(tokens).reshape([batch, length]),
        positions: ints(positions).reshape([1, length]).repeat_dim(0, batch),
        mask: causal.unsqueeze::<3>().repeat_dim(0, batch),
        target_means: Tensor::from_data(TensorData::new(means, [batch, targets.len()]), device),
        target_counts,
        answer_rows,
        target_states: ints(target_states),
        targets: ints(targets),
        answer_states: ints(answer_states),
    }
}

impl Batch {
    /// The hidden states of the batch: [`Llama::hidden`].
    pub fn hidden(&self, model: &Llama) -> Tensor<3> {
        model.hidden(self.tokens.clone(), self.positions.clone(), self.mask.clone())
    }

    /// The mean cross-entropy over each sequence's targets, in nats.
    ///
    /// # Shapes
    ///
    /// - hidden: `[batch, length, hidden_size]`, from [`Batch::hidden`]
    /// - output: `[batch]`
    pub fn token_losses(&self, model: &Llama, hidden: Tensor<3>) -> Tensor<1> {
        let log_probs = log_probs(model, hidden, &self.target_states);
        let [targets, _] = log_probs.dims();
        // [targets, 1]
        let losses = log_probs.gather(1, self.targets.clone().reshape([targets, 1])).neg();
        self.target_means.clone().matmul(losses).reshape([self.target_counts.len()])
    }

    /// The log-probabilities of the next token at each position of the answer suffix, teacher-forced.
    ///
    /// # Shapes
    ///
    /// - hidden: `[batch, length, hidden_size]`, from [`Batch::hidden`]
    /// - output: `[answer tokens of all sequences, vocab_size]`; [`Batch::answer_rows`] says which rows are whose
    pub fn answer_log_probs(&self, model: &Llama, hidden: Tensor<3>) -> Tensor<2> {
        log_probs(model, hidden, &self.answer_states)
    }
}

fn log_probs(model: &Llama, hidden: Tensor<3>, states: &Tensor<1, Int>) -> Tensor<2> {
    let [batch, length, width] = hidden.dims();
    let hidden = hidden.reshape([batch * length, width]).select(0, states.clone());
    activation::log_softmax(model.logits(hidden), 1)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use crate::fixture;

    fn losses(model: &Llama, sequences: &[&Sequence]) -> Vec<f64> {
        let batch = collate(sequences, 0, &fixture::device());
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
        let batch = collate(&[sequence], 0, &fixture::device());
        let length = sequence.tokens.len();
        let logits = model.logits(batch.hidden(&model).reshape([length, 32])).into_data();
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
        let batch = collate(&sequences.iter().collect::<Vec<_>>(), 0, &fixture::device());
        let hidden = batch.hidden(&model);
        let [_, length, width] = hidden.dims();
        let log_probs = batch.answer_log_probs(&model, hidden.clone());
        assert_eq!(log_probs.dims()[0], batch.answer_rows[2].end);
        let sums: Vec<f64> = log_probs.clone().exp().sum_dim(1).into_data().iter::<f64>().collect();
        fixture::assert_close(&sums, &vec![1.0; sums.len()], 1e-5);
        // The first answer token of the last sequence is predicted from the place before it.
        let place = 2 * length + sequences[2].answer_span.start - 1;
        let state = hidden.reshape([3 * length, width]).narrow(0, place, 1);
        let expected = activation::log_softmax(model.logits(state), 1).into_data();
        let found = log_probs.narrow(0, batch.answer_rows[2].start, 1).into_data();
        fixture::assert_close(
            &found.iter::<f64>().collect::<Vec<_>>(),
            &expected.iter::<f64>().collect::<Vec<_>>(),
            1e-5,
        );
    }
}
