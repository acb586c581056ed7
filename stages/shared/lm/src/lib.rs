//! All model code: students, the BERT encoder, checkpoints and tokenizers, training steps, generation and devices.
//!
//! The only crate that knows what a model is made of, and the only one that names a backend ([`device`]). Kinds load a
//! [`LanguageModel`], put [`batch::Sequence`]s into a [`batch::Batch`], compute a loss from it, and give that to a
//! [`train::Trainer`]. Nothing here reads a clock, prints, or draws from a random source it was not given.

pub mod device;

pub mod precision;

mod self_test;
pub use self_test::{SelfTest, self_test};

mod fused;
pub use fused::{Mask, Span};

pub mod layout;

pub mod llama;

pub mod lora;

mod qwen2;

pub mod rope;

pub mod bert;

pub mod encoder;

pub mod tokenizer;

pub mod chat;

pub mod prompt;

mod config;

mod shards;

pub mod gguf;

mod gguf_checkpoint;

mod gguf_tokenizer;

mod weights;

mod language_model;
pub use language_model::{LanguageModel, LmError};
pub use shards::ShardsError;

pub mod batch;

pub mod paths;

pub mod train;

pub mod sample;

pub mod generate;

pub mod score;

pub mod ask;

pub mod assistant;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod fixture;

#[cfg(all(test, any(feature = "wgpu", feature = "tch")))]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod backends;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod real_models;
