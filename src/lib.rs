//! The engine of retort: recipe to graph to plan to run.
//!
//! | phase | module | made from |
//! |---|---|---|
//! | [`recipe::Recipe`] | as written, with positions | YAML files and `--set` |
//! | [`graph::Graph`] | checked, matrix expanded, acyclic | a recipe and [`kinds::Kinds`] |
//! | [`plan::Plan`] | each cell reused, run (why) or undecided | a graph and a [`store::Store`] |
//! | [`run`] | events, complete artifacts | a plan |
//!
//! The engine names no kind outside [`kinds`], computes no tensors and does not know what artifacts mean. A program
//! with kinds of its own calls [`cli::main`] with its own [`kinds::Kinds`]: see `examples/custom-kind.rs`.

pub mod recipe;

pub mod graph;

pub mod fingerprint;

pub mod store;

pub mod history;

pub mod remote;

pub mod plan;

pub mod lock;

pub mod estimate;

pub mod secrets;

pub mod cell;

pub mod job;

pub mod executor;

pub mod run;

pub mod log;

pub mod reporter;

pub mod watch;

pub mod tensorboard;

mod shell;

pub mod kinds;

pub mod cli;
