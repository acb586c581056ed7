//! What a session has asked, kept, paid and failed at so far.

use std::collections::{BTreeMap, HashSet};

use contract::{Journal, StageError};

use crate::{
    Completion, Halt, Stop, Usage,
    failure::{Failure, Fault},
};

/// What a session knows so far; its threads share it.
pub(super) struct State {
    pub(super) journal: Journal,
    /// Keys of the completions this cell uses.
    pub(super) counted: HashSet<String>,
    /// What those took.
    pub(super) spent: Usage,
    /// Completions that are new in this run.
    pub(super) new: usize,
    /// What useless replies of this run took.
    pub(super) wasted: Usage,
    /// What requests under way could take.
    pub(super) reserved: Usage,
    pub(super) under_way: u64,
    pub(super) faults: BTreeMap<Fault, usize>,
    pub(super) failed: usize,
    pub(super) failed_in_a_row: usize,
    pub(super) last_problem: String,
    pub(super) stop: Option<Stop>,
    pub(super) error: Option<StageError>,
}

impl State {
    pub(super) fn new(journal: Journal) -> Self {
        Self {
            journal,
            counted: HashSet::new(),
            spent: Usage::default(),
            new: 0,
            wasted: Usage::default(),
            reserved: Usage::default(),
            under_way: 0,
            faults: BTreeMap::new(),
            failed: 0,
            failed_in_a_row: 0,
            last_problem: String::new(),
            stop: None,
            error: None,
        }
    }

    /// A completion that is there, counted as this cell's.
    pub(super) fn journalled(&mut self, key: String) -> Option<Completion> {
        let completion: Completion = self.journal.get(&key)?;
        if self.counted.insert(key) {
            self.spent += completion.usage;
        }
        Some(completion)
    }

    pub(super) fn release(&mut self, most: Usage) {
        self.reserved.prompt_tokens -= most.prompt_tokens;
        self.reserved.completion_tokens -= most.completion_tokens;
        self.under_way -= 1;
    }

    /// A failure that ends everything; the first one is the one that is told.
    pub(super) fn stopped_by(&mut self, failure: Failure) -> Halt {
        let problem = failure.problem;
        let stop = match failure.fault {
            Fault::Quota => Stop::Quota { problem },
            Fault::Denied
            | Fault::Throttled
            | Fault::Server
            | Fault::Timeout
            | Fault::Connection
            | Fault::Malformed
            | Fault::Empty
            | Fault::Choices
            | Fault::Refused => Stop::Denied { problem },
        };
        self.stop.get_or_insert(stop);
        Halt::Stopped
    }
}
