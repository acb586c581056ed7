//! Cells in threads of this process, the first executor. A cell that is given devices by name has a process of its own,
//! which its thread waits for. What the flag that interrupts a run asks of them, they see themselves; none outlives its run.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{atomic::AtomicBool, mpsc::Sender},
    thread::Scope,
};

use contract::Event;

use super::{Message, Task, process};
use crate::{
    cell::{CellError, execute, message},
    store::{CellRecord, Store},
};

/// Computes every cell in a thread of its own.
pub struct Local<'scope, 'env> {
    /// Where threads live; they end with the run.
    pub scope: &'scope Scope<'scope, 'env>,
    /// The store.
    pub store: &'env Store,
    /// The run's id.
    pub run: &'env str,
    /// Set when the user interrupts; cells look at it themselves.
    pub cancelled: &'env AtomicBool,
    /// To the loop.
    pub sender: Sender<Message>,
}

impl Local<'_, '_> {
    /// Starts computing a cell.
    pub fn submit(&self, task: Task) {
        let cell = task.cell;
        let (sender, store, run, cancelled) = (self.sender.clone(), self.store, self.run, self.cancelled);
        self.scope.spawn(move || {
            let observer = |event: Event| {
                sender.send(Message::Said(cell, event)).ok();
            };
            let computed = catch_unwind(AssertUnwindSafe(|| compute(task, store, run, cancelled, &observer)));
            let result =
                computed.unwrap_or_else(|payload| Err(CellError::Bug { message: message(payload.as_ref()) }));
            sender.send(Message::Ended(cell, Box::new(result))).ok();
        });
    }
}

/// The cell's lock is free when this returns, for the loop may want to try again.
fn compute(
    task: Task,
    store: &Store,
    run: &str,
    cancelled: &AtomicBool,
    observer: &(dyn Fn(Event) + Sync + Send),
) -> Result<CellRecord, CellError> {
    if !task.devices.is_empty() {
        return process::compute(task, store, run, cancelled, observer);
    }
    let Task { job, lock: _lock, .. } = task;
    execute(job, store, run, cancelled, &observer)
}
