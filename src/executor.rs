//! Where cells are computed: the contract between the loop of a run and whatever runs cells for it.
//!
//! An executor takes cells (`submit`). Where they may outlive a run, it takes over those that an earlier one submitted and
//! that are still on their way (`reattaches`), and ends or lets go of them (`cancel`, `leave`). What becomes of them it
//! learns in its own way and at its own pace, with one question for all of them where it has to ask, and tells as
//! [`Message`]s: of each cell that it took, how it ended, whatever happens. It never decides what runs: that is the loop's.
//!
//! | executor | a cell is | truth about its end |
//! |---|---|---|
//! | [`local::Local`] | a thread of this process; a process of its own where devices are named | what the thread returns |
//! | [`slurm::Slurm`] | a task of a job array, on another machine | the result file that the job writes |

pub mod local;

mod process;

pub mod slurm;

use std::path::PathBuf;

use contract::Event;

use crate::{
    cell::{CellError, Job},
    recipe::SlurmDecl,
    remote::{RemoteError, Sent},
    store::{CellLock, CellRecord},
};

/// A cell that can start.
pub struct Task {
    /// Index into [`crate::graph::Graph::cells`].
    pub cell: usize,
    /// The cell's name.
    pub name: String,
    /// The stage's name.
    pub stage: String,
    /// What it does.
    pub job: Job,
    /// Memory it says it needs, bytes; 0 where it does not matter.
    pub memory: u64,
    /// What its stage asks of Slurm.
    pub slurm: Option<SlurmDecl>,
    /// The devices it is shown, by the names the user gave; none where the user named none.
    pub devices: Vec<String>,
    /// The right to compute it; `None` for a cell that is taken over, whose job has it or will take it.
    pub lock: Option<CellLock>,
}

/// Something an executor tells.
pub enum Message {
    /// A cell has a place outside this process.
    Placed {
        /// The cell.
        cell: usize,
        /// What the scheduler calls it.
        job: String,
        /// Where its output goes.
        output: PathBuf,
        /// Whether an earlier run had submitted it.
        taken_over: bool,
    },
    /// A cell said something.
    Said(usize, Event),
    /// A cell ended.
    Ended(usize, Box<Result<CellRecord, CellError>>),
    /// The cluster's executor panicked, with these words: nothing more will be heard of its cells.
    Broken(String),
    /// A cell goes on without this run.
    Left(usize),
    /// A remote cache was asked for a cell.
    Fetched(usize, Box<Result<Option<CellRecord>, RemoteError>>),
    /// A cell's result was sent to a remote cache.
    Sent(usize, Result<Sent, RemoteError>),
}
