//! What a kind of stage is.
//!
//! The engine runs kinds and knows nothing else about them; kinds meet one another only through
//! artifacts. This crate is the border between the two: the [`Stage`] trait a kind implements, the
//! [`Port`]s it declares, the [`Context`] it is given, and the [`records`] that artifacts hold.
//!
//! It does not compute anything, name a kind or know about tensors.

mod stage;
pub use stage::{Arity, ArtifactType, CpuRange, FilePath, Item, Kind, Port, PortFlow, Resources, Stage};

mod setting;
pub use setting::{Joined, Setting};

mod secret;
pub use secret::{Secret, SecretError};

mod estimate;
pub use estimate::{CallEstimate, Estimate, Foreseen, Outlook};

mod context;
pub use context::{Backend, CellDirs, Context, Event, Input, Observer, rng};

mod journal;
pub use journal::{Claim, Journal, Written};

pub mod records;

pub mod jsonl;

mod error;
pub use error::StageError;

mod digest;
pub use digest::Digest;

mod amount;
pub use amount::seconds;

mod suggest;
pub use suggest::{meant, suggest};

pub mod bench;
