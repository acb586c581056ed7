//! Tasks: prompts, answer extraction and scoring, and the built-in question generators.
//!
//! Everything here is a pure function of questions and texts. The crate reads no files, computes no tensors
//! and knows no stage; how questions get in and scores get out is for the kinds that use it.

mod task;
pub use task::{PERSPECTIVES, Task, UnknownTask};

mod declared;
pub use declared::{AnswerType, DeclaredTask};

mod mersenne;

pub mod gpqa;

mod prompt;
pub use prompt::{answer_suffix, asked, message, prompt};

mod extract;

mod math;

mod number;

mod compare;

mod score;
pub use score::{Verdict, score};

mod profile;
pub use profile::{Profile, UnknownProfile};

pub mod builtin;

#[doc(hidden)]
pub mod fuzz;
