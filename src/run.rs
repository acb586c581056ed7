//! Carries out a plan: one loop owns the state of every cell and receives every event; listeners only listen.
//!
//! A cell starts when all it reads from is there, no equal cell is being computed (here or by another process on the
//! same store), and its resources are free; a cell of a cluster is submitted at once, and the cluster knows what is free.
//! Where cells are computed is for [`crate::executor`] to know. The cell with the longest way to the end goes first. Free threads are
//! shared among the cells that could start. A failure skips what depends on it, by name, and nothing else. After an
//! interruption nothing starts, and running cells stop at a point they can resume from.
//!
//! With a remote cache, a cell that has all its inputs is looked for there before it may start, and what a cell made goes
//! there once it has finished; a remote that is slow or fails delays cells, and never fails one.
//!
//! A run always comes to its end: what goes wrong with a cell, in the store too, fails that cell.

use std::{
    cmp::Reverse,
    collections::{BTreeMap, BTreeSet, HashSet},
    ops::Bound,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use contract::{Event, Input};

use crate::{
    cell::{CellError, Job},
    executor::{Message, Task, local::Local, slurm::Slurm},
    fingerprint::{Fingerprint, FingerprintRecord},
    graph::Graph,
    history::History,
    plan::{Decision, Outputs, Plan, Reason, reason, record},
    recipe::{ExecutorDecl, SlurmDecl},
    remote::{Courier, Errand, Remote, RemoteError, Sent},
    secrets::Secrets,
    store::{CellLock, CellRecord, Store},
};

/// What a run may use, and how it treats failures.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// CPU threads for all cells together.
    pub threads: usize,
    /// Memory for all cells together, bytes.
    pub memory: u64,
    /// Devices by name, one slot each: each cell that takes some gets a process that sees only those. Without names there
    /// is one slot, and cells compute in this process on whatever device is first.
    pub devices: Vec<String>,
    /// Start nothing more after a failure.
    pub fail_fast: bool,
    /// What the cells' declared secrets are.
    pub secrets: Secrets,
    /// Where results are taken from and sent to besides the store.
    pub remote: Option<Arc<Remote>>,
    /// After an interruption: whether this many jobs on a cluster are to be ended too, or left to go on.
    pub cancel_jobs: fn(usize) -> bool,
}

/// Something that happened to a cell.
#[derive(Debug)]
pub enum CellEvent<'a> {
    /// Its result was in the store when the run began.
    Reused,
    /// Its result turned out to be in the store: its inputs came out as before, or another cell or run made it.
    Found {
        /// Who made it.
        record: &'a CellRecord,
        /// Whether that was a cell of this run.
        by_this_run: bool,
    },
    /// Its result came from the remote cache.
    Fetched {
        /// Who made it.
        record: &'a CellRecord,
    },
    /// The remote cache did not help, with it or with any; said of any only once.
    RemoteFailed {
        /// What is wrong.
        problem: &'a str,
    },
    /// Its result was sent to the remote cache.
    Sent {
        /// What became of it there.
        sent: Sent,
    },
    /// Another process is computing the same cell.
    Waiting,
    /// It started.
    Started {
        /// What it is becoming.
        fingerprint: &'a Fingerprint,
        /// Why it runs.
        reason: &'a Reason,
        /// CPU threads it was given.
        threads: usize,
    },
    /// It has a place outside this process.
    Placed {
        /// What the scheduler calls it.
        job: &'a str,
        /// Where its output goes.
        output: &'a Path,
        /// Whether an earlier run had submitted it.
        taken_over: bool,
    },
    /// It said something.
    Said(&'a Event),
    /// It finished.
    Finished {
        /// What it made.
        record: &'a CellRecord,
    },
    /// It failed and is tried again.
    Retrying {
        /// Why it failed.
        error: &'a CellError,
        /// Attempts left.
        left: u32,
    },
    /// It failed.
    Failed {
        /// Why.
        error: &'a CellError,
    },
    /// It stopped because the run was interrupted.
    Interrupted,
    /// The run was interrupted, and it goes on without it.
    Left,
    /// It did not start because a cell it needs failed.
    Skipped {
        /// That cell.
        because: usize,
    },
}

/// Receives what happens.
pub trait Listener {
    /// Called in order, from the loop's thread.
    fn event(&mut self, graph: &Graph, cell: usize, event: &CellEvent<'_>);
    /// Called about ten times a second while cells run.
    fn tick(&mut self) {}
}

/// How a run ended.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    /// Cells that ran and finished.
    pub ran: usize,
    /// Cells whose result was there.
    pub reused: usize,
    /// Cells whose result came from the remote cache.
    pub fetched: usize,
    /// Results that should be in the remote cache and are not.
    pub unsent: usize,
    /// Cells that failed.
    pub failed: Vec<usize>,
    /// Cells that were not tried because of a failure.
    pub skipped: usize,
    /// Whether the user interrupted it.
    pub interrupted: bool,
    /// Cells that go on without it.
    pub left: usize,
    /// Outputs of every finished cell.
    pub outputs: BTreeMap<usize, Outputs>,
}

/// A cell that has all its inputs and no result yet.
struct Ready {
    record: FingerprintRecord,
    fingerprint: Fingerprint,
    attempts_left: u32,
    said_waiting: bool,
}

struct Running {
    record: FingerprintRecord,
    fingerprint: Fingerprint,
    attempts_left: u32,
    /// Threads of this machine; none for a cell that is computed elsewhere.
    threads: Option<usize>,
    /// Devices it was given.
    devices: Vec<String>,
}

/// Whose a ready cell is to compute.
enum Locked {
    /// This run's.
    Ours(CellLock),
    /// Another process's.
    Theirs,
    /// Nobody's: it has its result, or has failed.
    Settled,
}

/// What comes first in a set is started first: declared priority, way to the end, place in the graph.
type Urgency = (Reverse<(i32, u64)>, usize);

struct Loop<'a> {
    graph: &'a Graph,
    plan: &'a Plan,
    store: &'a Store,
    history: &'a mut History,
    run: &'a str,
    options: &'a RunOptions,
    cancelled: &'a AtomicBool,
    listeners: &'a mut [&'a mut dyn Listener],
    priority: Vec<u64>,
    downstream: Vec<Vec<usize>>,
    /// Unfinished upstream cells, by cell.
    pending: BTreeMap<usize, usize>,
    ready: BTreeMap<usize, Ready>,
    /// The ready cells of this machine, the most urgent first.
    here: BTreeSet<Urgency>,
    /// The ready cells of a cluster.
    there: BTreeSet<usize>,
    running: BTreeMap<usize, Running>,
    /// Cells that the remote cache is being asked for.
    fetching: BTreeMap<usize, Ready>,
    /// Their fingerprints, each of one of them.
    fetched_for: HashSet<Fingerprint>,
    /// Results on their way to the remote cache.
    sending: usize,
    /// What the courier is to do.
    errands: Vec<Errand>,
    dead: HashSet<usize>,
    outcome: Outcome,
}

/// Stops the cells of a run that panics, so that it ends instead of waiting for all of them.
struct StopOnPanic<'a>(&'a AtomicBool);

impl Drop for StopOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            self.0.store(true, Ordering::Relaxed);
        }
    }
}

/// What a run works with, each owned by its caller.
pub struct Given<'a> {
    /// The cells.
    pub graph: &'a Graph,
    /// What becomes of them.
    pub plan: &'a Plan,
    /// Where results are.
    pub store: &'a Store,
    /// The latest result of each cell's name; gets those of this run.
    pub history: &'a mut History,
    /// The run's id.
    pub run: &'a str,
    /// How it is to run.
    pub options: &'a RunOptions,
    /// Set by whoever wants it to stop.
    pub cancelled: &'a AtomicBool,
    /// Whoever wants to know what happens.
    pub listeners: &'a mut [&'a mut dyn Listener],
}

/// Runs what the plan says.
pub fn run(given: Given<'_>) -> Outcome {
    let Given { graph, store, run, options, cancelled, .. } = given;
    let mut state = Loop::new(given);
    let (sender, receiver) = mpsc::channel();
    thread::scope(|scope| {
        let _stop = StopOnPanic(cancelled);
        let local = Local { scope, store, run, cancelled, sender: sender.clone() };
        let remote = options.remote.as_deref();
        let courier = remote.map(|remote| Courier::start(scope, remote, store, cancelled, &sender));
        let on_cluster = |cell: &usize| state.slurm(*cell).is_some();
        let slurm = state
            .pending
            .keys()
            .any(on_cluster)
            .then(|| Slurm::start(scope, store, &graph.recipe, run, sender.clone()));
        let mut told_to_stop = false;
        let first: Vec<usize> =
            state.pending.iter().filter(|(_, pending)| **pending == 0).map(|(cell, _)| *cell).collect();
        first.into_iter().for_each(|cell| state.arrive(cell));
        loop {
            for errand in state.errands.drain(..) {
                courier.as_ref().expect("only a remote makes errands").take(errand);
            }
            if !state.stopping() {
                if let Some(slurm) = &slurm {
                    slurm.submit(state.tasks_for(slurm));
                }
                while let Some(task) = state.next_to_start() {
                    local.submit(task);
                }
            }
            if let Some(slurm) = &slurm
                && cancelled.load(Ordering::Relaxed)
                && !std::mem::replace(&mut told_to_stop, true)
            {
                let jobs = state.running.values().filter(|running| running.threads.is_none()).count();
                if jobs > 0 && (options.cancel_jobs)(jobs) { slurm.cancel() } else { slurm.leave() }
            }
            if state.is_over() {
                break;
            }
            match receiver.recv_timeout(Duration::from_millis(100)) {
                Ok(message) => state.hear(message),
                Err(mpsc::RecvTimeoutError::Timeout) => {}
                Err(mpsc::RecvTimeoutError::Disconnected) => unreachable!("this loop holds a sender"),
            }
            for listener in state.listeners.iter_mut() {
                listener.tick();
            }
        }
    });
    state.outcome.interrupted = cancelled.load(Ordering::Relaxed);
    store.save_file_digests();
    state.outcome
}

impl<'a> Loop<'a> {
    fn new(given: Given<'a>) -> Self {
        let Given { graph, plan, store, history, run, options, cancelled, listeners } = given;
        let mut downstream = vec![Vec::new(); graph.cells.len()];
        let mut pending = BTreeMap::new();
        for &cell in plan.decisions.keys() {
            let upstream = graph.cells[cell].upstream();
            pending.insert(cell, upstream.len());
            for from in upstream {
                downstream[from].push(cell);
            }
        }
        Self {
            graph,
            plan,
            store,
            history,
            run,
            options,
            cancelled,
            listeners,
            priority: priorities(graph, &downstream),
            downstream,
            pending,
            ready: BTreeMap::new(),
            here: BTreeSet::new(),
            there: BTreeSet::new(),
            running: BTreeMap::new(),
            fetching: BTreeMap::new(),
            fetched_for: HashSet::new(),
            sending: 0,
            errands: Vec::new(),
            dead: HashSet::new(),
            outcome: Outcome::default(),
        }
    }

    fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// Whether nothing more is to start.
    fn stopping(&self) -> bool {
        self.is_cancelled() || (self.options.fail_fast && !self.outcome.failed.is_empty())
    }

    /// Whether there is nothing left to wait for.
    fn is_over(&self) -> bool {
        let away = self.running.len() + self.fetching.len() + self.sending;
        away == 0 && (self.stopping() || self.ready.is_empty())
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Said(cell, event) => self.tell(cell, &CellEvent::Said(&event)),
            Message::Placed { cell, job, output, taken_over } => {
                self.tell(cell, &CellEvent::Placed { job: &job, output: &output, taken_over });
            }
            Message::Left(cell) => {
                self.running.remove(&cell);
                self.outcome.left += 1;
                self.tell(cell, &CellEvent::Left);
            }
            Message::Ended(cell, result) => self.ended(cell, *result),
            Message::Broken(message) => {
                let there = self.running.iter().filter(|(_, running)| running.threads.is_none());
                let there: Vec<usize> = there.map(|(cell, _)| *cell).collect();
                for cell in there {
                    self.ended(cell, Err(CellError::Bug { message: message.clone() }));
                }
            }
            Message::Fetched(cell, result) => self.fetched(cell, *result),
            Message::Sent(cell, result) => self.sent(cell, result),
        }
    }

    fn tell(&mut self, cell: usize, event: &CellEvent<'_>) {
        for listener in self.listeners.iter_mut() {
            listener.event(self.graph, cell, event);
        }
    }

    /// A cell has all its inputs: reuse its result or queue it.
    fn arrive(&mut self, cell: usize) {
        let mut arrived = vec![cell];
        while let Some(cell) = arrived.pop() {
            if let Some(Decision::Reuse { fingerprint, outputs }) = self.plan.decisions.get(&cell) {
                self.history.note(&self.graph.cells[cell].name.0, fingerprint);
                self.tell(cell, &CellEvent::Reused);
                self.outcome.reused += 1;
                arrived.extend(self.settle(cell, outputs.clone()));
                continue;
            }
            let record = record(self.graph, &self.graph.cells[cell], &self.outcome.outputs, self.store);
            let record = match record {
                Ok(record) => record,
                Err(error) => {
                    self.fail(cell, &error.into());
                    continue;
                }
            };
            let fingerprint = record.fingerprint();
            if let Some(found) = self.store.record(&fingerprint) {
                arrived.extend(self.found(cell, &fingerprint, &found));
                continue;
            }
            let attempts_left = self.graph.cells[cell].retries;
            let ready = Ready { record, fingerprint, attempts_left, said_waiting: false };
            if self.options.remote.as_ref().is_some_and(|remote| remote.reads())
                && !self.fetched_for.contains(&ready.fingerprint)
            {
                let fingerprint = ready.fingerprint.clone();
                let ports = self.graph.cells[cell].made();
                self.fetched_for.insert(fingerprint.clone());
                self.errands.push(Errand::Fetch { cell, fingerprint, ports });
                self.fetching.insert(cell, ready);
            } else {
                self.queue(cell, ready);
            }
        }
    }

    /// Whether a cell of this fingerprint is being computed or fetched, and will finish for its twins too.
    fn is_away(&self, fingerprint: &Fingerprint) -> bool {
        self.running.values().any(|running| running.fingerprint == *fingerprint)
            || self.fetched_for.contains(fingerprint)
    }

    /// The remote cache was asked for a cell.
    fn fetched(&mut self, cell: usize, result: Result<Option<CellRecord>, RemoteError>) {
        let ready = self.fetching.remove(&cell).expect("only cells that are fetched come");
        self.fetched_for.remove(&ready.fingerprint);
        match result {
            Ok(Some(record)) => {
                self.history.note(&self.graph.cells[cell].name.0, &ready.fingerprint);
                self.tell(cell, &CellEvent::Fetched { record: &record });
                self.outcome.fetched += 1;
                return self.finished(cell, record.outputs);
            }
            Ok(None) => {}
            Err(error) => self.remote_failed(cell, &error),
        }
        self.queue(cell, ready);
    }

    /// A result went to the remote cache, or did not.
    fn sent(&mut self, cell: usize, result: Result<Sent, RemoteError>) {
        self.sending -= 1;
        match result {
            Ok(sent) => self.tell(cell, &CellEvent::Sent { sent }),
            Err(error) => {
                self.outcome.unsent += 1;
                self.remote_failed(cell, &error);
            }
        }
    }

    fn remote_failed(&mut self, cell: usize, error: &RemoteError) {
        if let Some(problem) = self.options.remote.as_ref().and_then(|remote| remote.warning(error)) {
            self.tell(cell, &CellEvent::RemoteFailed { problem: &problem });
        }
    }

    /// A result that somebody else made; returns the cells that can go on now.
    fn found(&mut self, cell: usize, fingerprint: &Fingerprint, record: &CellRecord) -> Vec<usize> {
        self.history.note(&self.graph.cells[cell].name.0, fingerprint);
        let by_this_run = record.run == self.run;
        self.tell(cell, &CellEvent::Found { record, by_this_run });
        self.outcome.reused += 1;
        self.settle(cell, record.outputs.clone())
    }

    /// Notes a cell's outputs; returns the cells that have all their inputs now.
    fn settle(&mut self, cell: usize, outputs: Outputs) -> Vec<usize> {
        self.outcome.outputs.insert(cell, outputs);
        let mut complete = Vec::new();
        for &next in &self.downstream[cell] {
            let pending = self.pending.get_mut(&next).expect("downstream cells are wanted cells");
            *pending -= 1;
            if *pending == 0 && !self.dead.contains(&next) {
                complete.push(next);
            }
        }
        complete
    }

    /// A cell has its outputs: those that waited for it only can go on.
    fn finished(&mut self, cell: usize, outputs: Outputs) {
        for next in self.settle(cell, outputs) {
            self.arrive(next);
        }
    }

    fn queue(&mut self, cell: usize, ready: Ready) {
        self.ready.insert(cell, ready);
        match self.slurm(cell) {
            Some(_) => self.there.insert(cell),
            None => self.here.insert(self.urgency(cell)),
        };
    }

    fn unqueue(&mut self, cell: usize) -> Ready {
        self.there.remove(&cell);
        self.here.remove(&self.urgency(cell));
        self.ready.remove(&cell).expect("only ready cells leave the queue")
    }

    fn urgency(&self, cell: usize) -> Urgency {
        (Reverse((self.graph.cells[cell].priority, self.priority[cell])), cell)
    }

    /// Takes the lock of a ready cell, if nobody has it, unless its result is there by now or the lock cannot be had: then
    /// the cell is settled.
    fn lock(&mut self, cell: usize, fingerprint: &Fingerprint) -> Locked {
        let lock = self.store.try_lock(fingerprint);
        // Looked up after locking: whoever held the lock before us may have just finished.
        let found = self.store.record(fingerprint);
        match (found, lock) {
            (Some(found), _) => {
                self.unqueue(cell);
                for next in self.found(cell, fingerprint, &found) {
                    self.arrive(next);
                }
                Locked::Settled
            }
            (None, Ok(Some(lock))) => Locked::Ours(lock),
            (None, Ok(None)) => Locked::Theirs,
            (None, Err(error)) => {
                self.unqueue(cell);
                self.fail(cell, &error.into());
                Locked::Settled
            }
        }
    }

    /// The most urgent cell that fits, ready to be computed here.
    fn next_to_start(&mut self) -> Option<Task> {
        let mut after = Bound::Unbounded;
        // Nothing fits where no thread is free, however many wait.
        while self.may_start()
            && let Some(&next) = self.here.range((after, Bound::Unbounded)).next()
        {
            after = Bound::Excluded(next);
            let cell = next.1;
            let Some(threads) = self.fits(cell) else { continue };
            let fingerprint = self.ready[&cell].fingerprint.clone();
            if self.is_away(&fingerprint) {
                continue; // Its twin will finish for both.
            }
            match self.lock(cell, &fingerprint) {
                Locked::Ours(lock) => return Some(self.start(cell, Some(lock), threads)),
                Locked::Theirs => self.say_waiting(cell),
                Locked::Settled => after = Bound::Unbounded, // What can go on now may be more urgent.
            }
        }
        None
    }

    fn say_waiting(&mut self, cell: usize) {
        let ready = self.ready.get_mut(&cell).expect("only ready cells wait");
        if !std::mem::replace(&mut ready.said_waiting, true) {
            self.tell(cell, &CellEvent::Waiting);
        }
    }

    /// What a cell's stage asks of Slurm, if it is computed there.
    fn slurm(&self, cell: usize) -> Option<&SlurmDecl> {
        match &self.graph.stages[self.graph.cells[cell].stage].executor {
            ExecutorDecl::Slurm(slurm) => Some(slurm),
            ExecutorDecl::Local => None,
        }
    }

    /// Every ready cell of a cluster: all of them, because the cluster keeps the queue.
    fn tasks_for(&mut self, slurm: &Slurm<'_>) -> Vec<Task> {
        if self.there.is_empty() {
            return Vec::new();
        }
        let cells: Vec<usize> = self.there.iter().copied().collect();
        let mut taken: HashSet<Fingerprint> =
            self.running.values().map(|running| running.fingerprint.clone()).collect();
        let mut tasks = Vec::new();
        for cell in cells {
            let fingerprint = self.ready[&cell].fingerprint.clone();
            if taken.contains(&fingerprint) || self.fetched_for.contains(&fingerprint) {
                continue; // Its twin will finish for both.
            }
            let lock = match slurm.reattaches(&fingerprint) && self.store.record(&fingerprint).is_none() {
                true => None, // Its job has it, or will take it.
                false => match self.lock(cell, &fingerprint) {
                    Locked::Ours(lock) => Some(lock),
                    Locked::Theirs => {
                        self.say_waiting(cell);
                        continue;
                    }
                    Locked::Settled => continue,
                },
            };
            let wanted = self.graph.cells[cell].resources.cpu;
            let cpus = self.slurm(cell).and_then(|slurm| slurm.cpus).unwrap_or(wanted.least);
            let threads = cpus.min(wanted.most.unwrap_or(usize::MAX)).max(1);
            taken.insert(fingerprint);
            tasks.push(self.start(cell, lock, threads));
        }
        tasks
    }

    /// The cells that are computed on this machine, with their threads.
    fn running_here(&self) -> impl Iterator<Item = (&crate::graph::Cell, usize)> {
        let here = |(cell, running): (&usize, &Running)| Some((&self.graph.cells[*cell], running.threads?));
        self.running.iter().filter_map(here)
    }

    /// Threads that no cell of this machine has.
    fn free(&self) -> usize {
        self.options.threads.saturating_sub(self.running_here().map(|(_, threads)| threads).sum())
    }

    /// Whether any cell could start here now.
    fn may_start(&self) -> bool {
        self.free() > 0 || self.running_here().next().is_none()
    }

    /// The threads a cell would get now, or `None` if something it needs is taken.
    fn fits(&self, cell: usize) -> Option<usize> {
        let cells = &self.graph.cells;
        let wanted = &cells[cell].resources;
        let running = || self.running_here();
        let free = self.free();
        let share = (free / self.here.len().max(1)).max(1);
        let threads =
            share.clamp(wanted.cpu.least, wanted.cpu.most.unwrap_or(usize::MAX).max(wanted.cpu.least));
        if running().next().is_none() {
            return Some(threads.min(self.options.threads.max(1))); // Something always runs, however large.
        }
        let memory: u64 = running().map(|(cell, _)| cell.resources.memory).sum();
        let on_devices = |cell: &crate::graph::Cell| self.graph.devices_of(cell);
        let devices: usize = running().map(|(cell, _)| on_devices(cell)).sum();
        let pools_fit = cells[cell].pools.iter().all(|(pool, slots)| {
            let used: usize = running().filter_map(|(cell, _)| cell.pools.get(pool)).sum();
            used + slots <= self.graph.pools.get(pool).copied().unwrap_or(usize::MAX)
        });
        let fits = threads <= free
            && (wanted.memory == 0 || memory + wanted.memory <= self.options.memory)
            && (on_devices(&cells[cell]) == 0
                || devices + wanted.devices <= self.options.devices.len().max(1))
            && pools_fit;
        fits.then_some(threads)
    }

    fn start(&mut self, index: usize, lock: Option<CellLock>, threads: usize) -> Task {
        let Ready { record, fingerprint, attempts_left, .. } = self.unqueue(index);
        let cell = &self.graph.cells[index];
        let reason = reason(cell, &record, self.store, self.history);
        self.tell(index, &CellEvent::Started { fingerprint: &fingerprint, reason: &reason, threads });
        let outputs = &self.outcome.outputs;
        let secrets = &self.options.secrets;
        let job = job(self.graph, index, record.clone(), outputs, self.store, secrets, threads);
        let slurm = self.slurm(index).cloned();
        let taken: HashSet<&String> = self.running.values().flat_map(|running| &running.devices).collect();
        let free = self.options.devices.iter().filter(|device| slurm.is_none() && !taken.contains(device));
        let devices: Vec<String> = free.take(self.graph.devices_of(cell)).cloned().collect();
        let threads_here = slurm.is_none().then_some(threads);
        let running =
            Running { record, fingerprint, attempts_left, threads: threads_here, devices: devices.clone() };
        self.running.insert(index, running);
        Task {
            cell: index,
            name: cell.name.0.clone(),
            stage: self.graph.stages[cell.stage].name.clone(),
            job,
            memory: cell.resources.memory,
            slurm,
            devices,
            lock,
        }
    }

    fn ended(&mut self, cell: usize, result: Result<CellRecord, CellError>) {
        let running = self.running.remove(&cell).expect("only running cells end");
        match result {
            Ok(record) => {
                self.history.note(&self.graph.cells[cell].name.0, &running.fingerprint);
                self.tell(cell, &CellEvent::Finished { record: &record });
                self.outcome.ran += 1;
                if self.options.remote.as_ref().is_some_and(|remote| remote.writes()) {
                    self.sending += 1;
                    let (fingerprint, record) = (running.fingerprint, Box::new(record.clone()));
                    self.errands.push(Errand::Send { cell, fingerprint, record });
                }
                self.finished(cell, record.outputs);
            }
            // What stops by itself, or because somebody else said so, has failed.
            Err(error) if error.is_cancelled() && self.is_cancelled() => {
                self.tell(cell, &CellEvent::Interrupted)
            }
            Err(error) if running.attempts_left > 0 && error.may_pass() => {
                let left = running.attempts_left - 1;
                self.tell(cell, &CellEvent::Retrying { error: &error, left });
                // As it was: a file that has changed meanwhile makes another cell, which this run does not know.
                let Running { record, fingerprint, .. } = running;
                self.queue(cell, Ready { record, fingerprint, attempts_left: left, said_waiting: false });
            }
            Err(error) => self.fail(cell, &error),
        }
    }

    fn fail(&mut self, cell: usize, error: &CellError) {
        self.tell(cell, &CellEvent::Failed { error });
        self.outcome.failed.push(cell);
        self.skip_below(cell);
    }

    fn skip_below(&mut self, failed: usize) {
        let mut pending = self.downstream[failed].clone();
        while let Some(cell) = pending.pop() {
            if self.dead.insert(cell) {
                self.tell(cell, &CellEvent::Skipped { because: failed });
                self.outcome.skipped += 1;
                pending.extend(&self.downstream[cell]);
            }
        }
    }
}

/// A cell made runnable in this process, from the outputs of those it reads.
pub fn job(
    graph: &Graph,
    index: usize,
    record: FingerprintRecord,
    outputs: &BTreeMap<usize, Outputs>,
    store: &Store,
    secrets: &Secrets,
    threads: usize,
) -> Job {
    let cell = &graph.cells[index];
    let input = |source: &crate::graph::Source| {
        let digest = outputs[&source.cell][source.port].clone();
        Input {
            path: store.object(&digest),
            digest,
            stage: graph.stages[graph.cells[source.cell].stage].name.clone(),
            labels: source.labels.clone(),
        }
    };
    let inputs = cell
        .inputs
        .iter()
        .map(|(port, sources)| ((*port).to_owned(), sources.iter().map(input).collect()))
        .collect();
    let mut declared = cell.kind.secrets(&cell.params);
    declared.extend(cell.kind.optional_secrets(&cell.params));
    Job {
        kind: cell.kind,
        fingerprint: record.fingerprint(),
        record,
        params: cell.params.clone(),
        files: cell.files.clone(),
        inputs,
        seed: cell.seed,
        backend: graph.backend.clone(),
        secrets: declared.iter().filter_map(|name| secrets.get(name)).cloned().collect(),
        threads,
    }
}

/// The longest way from each cell to the end; a cell that computes tensors counts for ten that do not.
fn priorities(graph: &Graph, downstream: &[Vec<usize>]) -> Vec<u64> {
    let mut priority = vec![0; graph.cells.len()];
    // Cells come after those they read from, so backwards every downstream priority is known.
    for cell in (0..graph.cells.len()).rev() {
        let after = downstream[cell].iter().map(|next| priority[*next]).max().unwrap_or(0);
        priority[cell] =
            after + if graph.cells[cell].kind.computes_with(&graph.cells[cell].params) { 10 } else { 1 };
    }
    priority
}
