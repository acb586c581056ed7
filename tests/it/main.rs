//! Integration tests: the real commands, run in temporary folders.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

mod project;

mod freshness;

mod failures;

mod sharing;

#[cfg(feature = "remote")]
mod remote;

mod slurm;

mod audit;

#[cfg(feature = "burn")]
mod backends;

mod commands;

mod devices;

mod watch;

mod invariants;

mod endpoint;

mod secrets;

mod judged;

#[cfg(feature = "burn")]
mod held_out;

#[cfg(feature = "burn")]
mod malformed;

#[cfg(feature = "burn")]
mod recipes;

#[cfg(feature = "burn")]
mod pipeline;

#[cfg(feature = "burn")]
mod sampled;

#[cfg(feature = "burn")]
mod sealed;

#[cfg(feature = "burn")]
mod served;
