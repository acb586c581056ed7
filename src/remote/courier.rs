//! Fetches and sends beside a run, in threads of its own, so that its loop never waits for a network.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex,
        atomic::AtomicBool,
        mpsc::{self, Sender},
    },
    thread::Scope,
};

use super::{Remote, RemoteError};
use crate::{
    cell::message,
    executor::Message,
    fingerprint::Fingerprint,
    store::{CellRecord, Store},
};

/// How many cells are fetched at once; what that means in requests, [`Remote`] bounds.
const FETCHING: usize = 8;
/// How many cells are sent at once.
const SENDING: usize = 4;

/// Something to do with a cell.
pub(crate) enum Errand {
    /// Its result may be there.
    Fetch { cell: usize, fingerprint: Fingerprint, ports: Vec<&'static str> },
    /// Its result is new.
    Send { cell: usize, fingerprint: Fingerprint, record: Box<CellRecord> },
}

/// Takes errands; its threads end when it is dropped and everything is done.
pub(crate) struct Courier {
    fetches: Sender<Errand>,
    sends: Sender<Errand>,
}

impl Courier {
    /// Starts the threads.
    pub(crate) fn start<'scope>(
        scope: &'scope Scope<'scope, '_>,
        remote: &'scope Remote,
        store: &'scope Store,
        cancelled: &'scope AtomicBool,
        sender: &Sender<Message>,
    ) -> Self {
        let start = |threads: usize| {
            let (errands, queue) = mpsc::channel();
            let queue = Arc::new(Mutex::new(queue));
            for _ in 0..threads {
                let (queue, sender) = (Arc::clone(&queue), sender.clone());
                scope.spawn(move || {
                    loop {
                        let errand = queue.lock().expect("nothing panics while it waits").recv();
                        let Ok(errand) = errand else { break };
                        sender.send(run(remote, store, cancelled, errand)).ok();
                    }
                });
            }
            errands
        };
        Self { fetches: start(FETCHING), sends: start(SENDING) }
    }

    /// Takes an errand.
    pub(crate) fn take(&self, errand: Errand) {
        let queue = match errand {
            Errand::Fetch { .. } => &self.fetches,
            Errand::Send { .. } => &self.sends,
        };
        queue.send(errand).expect("its threads live as long as it does");
    }
}

fn run(remote: &Remote, store: &Store, cancelled: &AtomicBool, errand: Errand) -> Message {
    match errand {
        Errand::Fetch { cell, fingerprint, ports } => {
            let fetched = answered(|| remote.fetch(store, &fingerprint, &ports, cancelled));
            Message::Fetched(cell, Box::new(fetched))
        }
        Errand::Send { cell, fingerprint, record } => {
            Message::Sent(cell, answered(|| remote.send(store, &fingerprint, &record, false, cancelled)))
        }
    }
}

/// A panic is an error like any other: the loop waits for an answer.
fn answered<T>(action: impl FnOnce() -> Result<T, RemoteError>) -> Result<T, RemoteError> {
    catch_unwind(AssertUnwindSafe(action))
        .unwrap_or_else(|payload| Err(RemoteError::Bug { message: message(payload.as_ref()) }))
}
