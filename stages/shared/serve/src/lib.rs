//! A model behind an endpoint that speaks OpenAI's protocol: `models`, `chat/completions` and `completions`.
//!
//! One model, answered for one request at a time; the choices and prompts of a request share batches. A request is checked
//! whole before anything is computed, and a mistake in it is told with the field's name. There is no authentication and no
//! encryption: whoever reaches the port may ask. This crate never prints.
//!
//! [`request`] reads what is asked, [`answer`] computes, [`reply`] shapes what goes back, [`http`] carries it.

mod refusal;

mod request;

mod reply;

mod answer;

mod http;
pub use http::{ServeError, serve};

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
