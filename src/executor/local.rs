//! Cells in threads of this process, the first executor. A cell that is given devices by name has a process of its own,
//! which its thread waits for.

use std::{
    sync::{atomic::AtomicBool, mpsc::Sender},
    thread::Scope,
};

use contract::Event;

use super::{Executor, Message, Task, process};
use crate::{cell::execute, fingerprint::Fingerprint, store::Store};

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

impl Executor for Local<'_, '_> {
    fn submit(&mut self, tasks: Vec<Task>) {
        for task in tasks {
            let cell = task.cell;
            let (sender, store, run, cancelled) = (self.sender.clone(), self.store, self.run, self.cancelled);
            self.scope.spawn(move || {
                let observer = |event: Event| {
                    sender.send(Message::Said(cell, event)).ok();
                };
                let result = if task.devices.is_empty() {
                    let Task { job, lock, .. } = task;
                    let result = execute(job, store, run, cancelled, &observer);
                    // Before the loop hears of the end, which may want to try again.
                    drop(lock);
                    result
                } else {
                    process::compute(task, store, run, cancelled, &observer)
                };
                sender.send(Message::Ended(cell, Box::new(result))).ok();
            });
        }
    }

    fn reattaches(&self, _: &Fingerprint) -> bool {
        false // A thread does not outlive its run.
    }

    fn cancel(&mut self) {} // The flag has told them.

    fn leave(&mut self) {}
}
