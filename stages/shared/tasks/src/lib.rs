//! Tasks: prompts, answer extraction and scoring, and the built-in question generators.

mod task;
pub use task::{PERSPECTIVES, Task, UnknownTask};

mod prompt;
pub use prompt::{answer_suffix, prompt};

mod extract;

mod number;

mod compare;

mod score;
pub use score::{PROFILE, Verdict, score};

pub mod builtin;
