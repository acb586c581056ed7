//! A client for chat endpoints that speak OpenAI's protocol, for kinds that ask a model behind one.
//!
//! [`Endpoint`] is the params block; a [`Session`] asks, many items at a time, within rate limits and a budget. Every
//! finished completion is in the item journal, durably, before anything else happens to it; failures are counted and
//! said, never kept as answers. A stop (budget, quota, a refused key) comes between items and loses nothing.
//!
//! It knows no kind, no task and no prompt. It measures time, but only to pace and to wait: no result depends on a clock.

// Depended on for its feature alone; see `Cargo.toml`.
use log as _;

mod endpoint;
pub use endpoint::{Budget, Endpoint, Limits, MaxTokensKey, Price, Retry};

mod pace;

mod wire;
pub use wire::{Completion, Message, Request, Usage};

mod failure;

mod stop;
pub use stop::{ChatError, Stop};

mod session;
pub use session::{Halt, Session};

mod forecast;
pub use forecast::Forecast;

pub mod bench;
