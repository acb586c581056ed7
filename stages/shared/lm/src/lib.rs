//! All model code: the Llama student, the BERT encoder, their tokenizers, training steps, generation and devices.
//!
//! The only crate that knows what a model is made of, and the only one that names a backend ([`device`]). Kinds load a
//! [`LanguageModel`], put [`batch::Sequence`]s into a [`batch::Batch`], compute a loss from it, and give that to a
//! [`train::Trainer`]. Nothing here reads a clock, prints, or draws from a random source it was not given.

pub mod device;

pub mod llama;

pub mod bert;

pub mod encoder;

pub mod tokenizer;

pub mod chat;

pub mod prompt;

mod language_model;
pub use language_model::{LanguageModel, LmError};

pub mod batch;

pub mod paths;

pub mod train;

pub mod sample;

pub mod generate;

pub mod ask;

pub mod assistant;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod fixture;
