//! A small model on a backend beside the same model on flex: what it writes, and what one training step does to it.
//!
//! flex itself is compared with what burn composes in 64-bit floats, since [`crate::fused`] computes 32-bit ones in loops of
//! its own.

use std::panic::{AssertUnwindSafe, catch_unwind};

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{DType, Device, Tensor},
};
use contract::Backend;

use crate::{
    LmError,
    batch::{Sequence, collate, encode_example},
    device::{self, DeviceError},
    generate::{self, Options, Request},
    llama::{Llama, LlamaConfig, LlamaSize},
    precision::cast,
    tokenizer::Tokenizer,
    train::{Schedule, TrainOptions, Trainer},
};

/// The largest difference that rounding explains; measured ones are a thousand times smaller.
const TOLERANCE: f64 = 1e-3;

/// Prompts continued, and sequences in the training step: of different lengths.
const TEXTS: usize = 4;

/// Tokens after each prompt.
const NEW_TOKENS: usize = 16;

/// How far a backend is from flex in the same computation.
#[derive(Clone, Copy, Debug)]
pub struct SelfTest {
    /// Tokens that were generated, the same ones on both.
    pub tokens: usize,
    /// The difference of the loss before the step, in nats.
    pub loss: f64,
    /// The relative difference of the gradient's norm.
    pub gradient_norm: f64,
    /// The largest difference of a weight after the step, which moves it by up to a hundredth.
    pub weight: f64,
}

/// Lets a small model generate and take one training step on a backend, and compares it with the same model on flex.
pub fn self_test(name: &str) -> Result<SelfTest, DeviceError> {
    let open = |name: &str| device::open(&Backend { name: name.to_owned(), ..Backend::default() });
    let (device, flex) = (open(name)?, open(&Backend::default().name)?);
    let wide = if device == flex { DType::F64 } else { DType::F32 };
    let wrong = |what: String| DeviceError::Wrong { name: name.to_owned(), what };
    let outcome = |device: &Device, dtype: DType| {
        // Drivers panic where they cannot go on; that is an answer, not a bug.
        let outcome = catch_unwind(AssertUnwindSafe(|| Outcome::of(device, dtype)));
        outcome
            .map_err(|_| wrong("its self-test panicked".to_owned()))?
            .map_err(|error| wrong(error.to_string()))
    };
    let (found, expected) = (outcome(&device, DType::F32)?, outcome(&flex, wide)?);
    if found.tokens != expected.tokens {
        return Err(wrong(format!("it writes {:?}, not {:?}", found.tokens, expected.tokens)));
    }
    let test = found.beside(&expected);
    if !test.within(TOLERANCE) {
        let SelfTest { loss, gradient_norm, weight, .. } = test;
        return Err(wrong(format!(
            "a training step is off by {loss:.1e} in the loss, {gradient_norm:.1e} in the gradient's norm and \
             {weight:.1e} in a weight"
        )));
    }
    Ok(test)
}

impl SelfTest {
    /// Whether no difference is larger; one that is not a number is.
    pub(crate) fn within(&self, tolerance: f64) -> bool {
        [self.loss, self.gradient_norm, self.weight].iter().all(|difference| *difference <= tolerance)
    }
}

struct Outcome {
    tokens: Vec<Vec<u32>>,
    loss: f64,
    gradient_norm: f64,
    weights: Vec<f64>,
}

impl Outcome {
    fn of(device: &Device, dtype: DType) -> Result<Self, contract::StageError> {
        let tokenizer = tokenizer()?;
        let sequences = sequences(&tokenizer, TEXTS)?;
        let model = Llama::init(&config(), 1, device);
        let request = |sequence: &Sequence| Request {
            prompt: sequence.prompt().to_vec(),
            item: String::new(),
            sample: 0,
        };
        let requests: Vec<Request> = sequences.iter().map(request).collect();
        let options = Options { max_new_tokens: NEW_TOKENS, batch_size: TEXTS, sampling: None };
        let tokens = generate::write_on(
            &cast(&model, dtype),
            &tokenizer,
            &requests.iter().collect::<Vec<_>>(),
            &options,
            &|| Ok(()),
            &mut |_, _| Ok(true),
        )?;

        let batch = collate(&sequences.iter().collect::<Vec<_>>(), device);
        // The first step of Adam is a gradient's sign; a large epsilon keeps rounding from deciding it.
        let options = TrainOptions { epsilon: 1e-3, ..TrainOptions::new(1e-2, Schedule::Constant) };
        let mut trainer = Trainer::new(model, options);
        let computing = cast(&trainer.model, dtype);
        let loss = batch.token_losses(&computing, batch.hidden(&computing)).mean();
        let value = loss.clone().into_data().iter::<f64>().sum();
        let gradient_norm = trainer.step_on(loss)?.gradient_norm;
        let mut weights = Weights(Vec::new());
        trainer.into_model().visit(&mut weights);
        Ok(Self { tokens, loss: value, gradient_norm, weights: weights.0 })
    }

    fn beside(&self, expected: &Self) -> SelfTest {
        let weights = self.weights.iter().zip(&expected.weights);
        let differences = weights.map(|(found, expected)| (found - expected).abs());
        SelfTest {
            tokens: self.tokens.iter().map(Vec::len).sum(),
            loss: (self.loss - expected.loss).abs(),
            gradient_norm: (self.gradient_norm / expected.gradient_norm - 1.0).abs(),
            // `f64::max` would pass over what is not a number.
            weight: differences.fold(0.0, |most, one| if most.is_nan() || one <= most { most } else { one }),
        }
    }
}

struct Weights(Vec<f64>);

impl ModuleVisitor for Weights {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        self.0.extend(param.val().into_data().iter::<f64>());
    }
}

/// The tokenizer of the small model, and of this crate's tests.
pub(crate) fn tokenizer() -> Result<Tokenizer, LmError> {
    let texts = (0..40).map(|i| format!("{i} plus {} is how much? The answer is {}", i % 7, i + i % 7));
    Tokenizer::train(texts, 300)
}

/// The shape of the small model.
pub(crate) fn config() -> LlamaConfig {
    let size = LlamaSize {
        hidden_size: 32,
        intermediate_size: 48,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        vocab_size: 300,
    };
    LlamaConfig::new(size, 1, 0)
}

/// Sums with answers of different lengths.
pub(crate) fn sequences(tokenizer: &Tokenizer, count: usize) -> Result<Vec<Sequence>, LmError> {
    let example = |i: usize| {
        let (a, b) = (3 * i + 1, 7 * i % 10);
        let suffix = format!(" The answer is {}", a + b);
        let steps = " so".repeat(i % 3);
        let prompt = tokenizer.encode(&format!("{a} plus {b} is how much?"))?;
        encode_example(tokenizer, &prompt, &(steps + &suffix), &suffix)
    };
    (0..count).map(example).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    #[test]
    fn the_loops_on_flex_do_what_burn_composes() {
        let test = self_test("flex").unwrap();
        // Rounding of 32-bit floats against 64-bit ones: not nothing, and little.
        assert!(test.within(1e-5) && !test.within(0.0), "{test:?}");
        assert!(test.tokens > TEXTS, "{test:?}");
    }

    #[test]
    fn what_is_not_a_number_is_no_agreement() {
        let outcome = |loss, weights: &[f64]| Outcome {
            tokens: vec![vec![1, 2]],
            loss,
            gradient_norm: 3.0,
            weights: weights.to_vec(),
        };
        let expected = outcome(1.0, &[0.5, 0.25, 0.125]);
        let within = |found: &Outcome| found.beside(&expected).within(TOLERANCE);
        assert!(within(&expected) && within(&outcome(1.0, &[0.5, 0.25, 0.1251])));
        assert!(!within(&outcome(1.0, &[0.5, 0.26, 0.125])));
        assert!(!within(&outcome(1.0, &[f64::NAN, 0.25, 0.125])));
        assert!(!within(&outcome(1.0, &[0.5, 0.25, f64::NAN])));
        assert!(!within(&outcome(f64::NAN, &expected.weights)));
    }
}
