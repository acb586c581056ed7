//! Cells as tasks of job arrays on a Slurm cluster that shares the store's file system.
//!
//! The cells of a stage that can start together become one array; each task runs `retort cell` on its record. One thread
//! talks to Slurm: it submits, reads the result files that jobs write, asks `squeue` about all jobs at once, and cancels.
//! A batch's name travels as the jobs' comment, so that its jobs are found again by whoever finds the submission in the
//! store, even if the run that submitted them died before it learned their numbers.

pub mod commands;
mod verdict;

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    os::unix::fs::PermissionsExt,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    thread::Scope,
    time::{Duration, Instant},
};

use contract::{Event, StageError};

use self::{
    commands::{Batch, Listed, Refused},
    verdict::{GRACE, Verdict, Word, judge},
};
use super::{Message, Task};
use crate::{
    cell::{CellError, message},
    fingerprint::Fingerprint,
    job::{EventReader, JobFolder, JobRecord, JobResult, Submission},
    recipe::SlurmDecl,
    shell::quoted,
    store::{CellLock, Store, StoreError, io_error, write_atomically},
};

/// Tasks of one array: Slurm's own limit is 1001 unless a site raises it.
const LARGEST_ARRAY: usize = 1000;
/// How often result files are looked for; with many jobs, less often.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long to wait before a submission that the controller could not take is tried again.
const SUBMIT_AGAIN: Duration = Duration::from_secs(10);

enum Request {
    Submit(Vec<Task>),
    Cancel,
    Leave,
}

/// Hands requests to the thread that talks to Slurm.
pub struct Slurm<'env> {
    store: &'env Store,
    requests: Sender<Request>,
}

impl<'env> Slurm<'env> {
    /// Starts the thread; it ends when this is dropped.
    pub fn start<'scope>(
        scope: &'scope Scope<'scope, 'env>,
        store: &'env Store,
        recipe: &'env str,
        run: &'env str,
        sender: Sender<Message>,
    ) -> Self {
        let (requests, received) = channel();
        scope.spawn(move || {
            let mut worker = Worker {
                store,
                recipe,
                run,
                sender,
                batches: 0,
                tracked: Vec::new(),
                waiting: Vec::new(),
                asked: None,
                silent: false,
            };
            let sender = worker.sender.clone();
            until_the_end(&received, &sender, || worker.work(&received));
        });
        Self { store, requests }
    }

    fn request(&self, request: Request) {
        self.requests.send(request).expect("the thread lives as long as this");
    }

    /// Starts computing cells, together where that is possible, and takes over those that come without a lock.
    pub fn submit(&self, tasks: Vec<Task>) {
        if !tasks.is_empty() {
            self.request(Request::Submit(tasks));
        }
    }

    /// Whether a job for this cell has been submitted and is still to end.
    pub fn reattaches(&self, fingerprint: &Fingerprint) -> bool {
        JobFolder::of(self.store, fingerprint).outstanding().is_some()
    }

    /// Ends every cell it has; each is told as ended by cancellation.
    pub fn cancel(&self) {
        self.request(Request::Cancel);
    }

    /// Lets go of every cell it has; each is told as left.
    pub fn leave(&self) {
        self.request(Request::Leave);
    }
}

/// Works as long as there are requests. After a panic every request is answered with what is broken.
fn until_the_end<T>(requests: &Receiver<T>, sender: &Sender<Message>, work: impl FnOnce()) {
    if let Err(payload) = catch_unwind(AssertUnwindSafe(work)) {
        let broken = || sender.send(Message::Broken(message(payload.as_ref()))).ok();
        broken();
        while requests.recv().is_ok() {
            broken();
        }
    }
}

/// A cell on its way to a batch.
struct Outgoing {
    cell: usize,
    stage: String,
    job: JobRecord,
    slurm: SlurmDecl,
    cpus: usize,
    memory: u64,
    resubmitted: u32,
    /// Held until the submission is written down, so that no other run submits the same.
    lock: Option<CellLock>,
}

/// Cells that are submitted together.
struct Outbox {
    name: String,
    cells: Vec<Outgoing>,
    due: Instant,
    /// Whether the scheduler was asked to take it and did not say whether it has.
    unsure: bool,
}

/// A submitted cell.
struct Tracked {
    outgoing: Outgoing,
    submission: Submission,
    /// What Slurm last said, and since when.
    listed: Option<(Listed, Instant)>,
    unlisted: Option<Instant>,
    placed: bool,
    taken_over: bool,
    events: EventReader,
    /// Since when its result says done and the store does not have it.
    missing: Option<Instant>,
}

struct Worker<'env> {
    store: &'env Store,
    recipe: &'env str,
    run: &'env str,
    sender: Sender<Message>,
    batches: usize,
    tracked: Vec<Tracked>,
    waiting: Vec<Outbox>,
    asked: Option<Instant>,
    /// Whether the scheduler did not answer the last question.
    silent: bool,
}

impl Worker<'_> {
    fn work(&mut self, requests: &Receiver<Request>) {
        loop {
            // A stat a job and look: ten thousand jobs are looked at every ten seconds.
            let pause = LOOK_EVERY.max(Duration::from_millis(self.tracked.len() as u64));
            match requests.recv_timeout(pause) {
                Ok(Request::Submit(tasks)) => self.take(tasks),
                Ok(Request::Cancel) => self.cancel(),
                Ok(Request::Leave) => self.leave(),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.submit_due();
            self.ask_when_due();
            self.look();
        }
    }

    fn tell(&self, message: Message) {
        self.sender.send(message).ok(); // A loop that has ended listens no more.
    }

    fn note(&self, cell: usize, text: String) {
        self.tell(Message::Said(cell, Event::Note { text }));
    }

    /// Groups new cells into arrays, and finds the jobs of those that have one.
    fn take(&mut self, tasks: Vec<Task>) {
        let mut groups: BTreeMap<(String, SlurmDecl, usize, u64), Vec<Outgoing>> = BTreeMap::new();
        for task in tasks {
            let outgoing = outgoing(task, self.run);
            let submission = match outgoing.lock {
                None => JobFolder::of(self.store, &outgoing.job.fingerprint).submission(),
                Some(_) => None,
            };
            match submission {
                Some(submission) => self.track(outgoing, submission, true),
                None => {
                    let key =
                        (outgoing.stage.clone(), outgoing.slurm.clone(), outgoing.cpus, outgoing.memory);
                    groups.entry(key).or_default().push(outgoing);
                }
            }
        }
        for mut cells in groups.into_values() {
            while !cells.is_empty() {
                let rest = cells.split_off(cells.len().min(LARGEST_ARRAY));
                self.enqueue(std::mem::replace(&mut cells, rest));
            }
        }
    }

    fn enqueue(&mut self, cells: Vec<Outgoing>) {
        self.batches += 1;
        let name = format!("{}-{}", self.run, self.batches);
        self.waiting.push(Outbox { name, cells, due: Instant::now(), unsure: false });
    }

    fn track(&mut self, outgoing: Outgoing, submission: Submission, taken_over: bool) {
        self.asked = None; // Ask soon.
        let events = EventReader::new(JobFolder::of(self.store, &outgoing.job.fingerprint).events());
        self.tracked.push(Tracked {
            outgoing,
            submission,
            listed: None,
            unlisted: None,
            placed: false,
            taken_over,
            events,
            missing: None,
        });
    }

    fn batch_folder(&self, batch: &str) -> PathBuf {
        self.store.root().join("jobs/batches").join(batch)
    }

    fn submit_due(&mut self) {
        let now = Instant::now();
        for mut outbox in std::mem::take(&mut self.waiting) {
            let room = if outbox.due <= now { self.room(&outbox.cells[0].slurm) } else { 0 };
            if room == 0 {
                self.waiting.push(outbox);
                continue;
            }
            // What the scheduler may have already stays as it is.
            if room < outbox.cells.len() && !outbox.unsure {
                let rest = outbox.cells.split_off(room);
                self.enqueue(rest);
            }
            if outbox.unsure {
                self.submit_again(outbox);
            } else {
                self.submit(outbox);
            }
        }
    }

    /// How many cells of a batch may be submitted. Slurm holds an array to its limit, and knows nothing of a limit for several:
    /// beside others that share it, no more are submitted than may run.
    fn room(&self, slurm: &SlurmDecl) -> usize {
        let Some(limit) = &slurm.at_once else { return usize::MAX };
        let shares = |tracked: &&Tracked| tracked.outgoing.slurm.at_once.as_ref() == Some(limit);
        match self.tracked.iter().filter(shares).count() {
            0 => usize::MAX,
            others => limit.most.saturating_sub(others),
        }
    }

    fn submit(&mut self, mut outbox: Outbox) {
        let folder = self.batch_folder(&outbox.name);
        if let Err(error) = self.write_down(&folder, &outbox) {
            return self.refuse(outbox, &crate::log::describe(&error), None);
        }
        let first = &outbox.cells[0];
        let title = format!("retort:{}:{}", self.recipe, first.stage);
        let batch = Batch {
            name: &outbox.name,
            title: &title,
            folder: &folder,
            tasks: outbox.cells.len(),
            slurm: &first.slurm,
            cpus: first.cpus,
            memory: first.memory,
        };
        match commands::submit(&batch) {
            Ok(number) => self.submitted(outbox, &number),
            Err(Refused::Later(error)) => {
                self.note(first.cell, format!("cannot submit yet, trying again: {error}"));
                outbox.unsure = true;
                self.wait(outbox);
            }
            Err(Refused::Never(error)) => {
                self.refuse(outbox, &error, Some("what the stage asks for is in its `executor`".to_owned()));
            }
        }
    }

    /// The scheduler has a batch, under this number.
    fn submitted(&mut self, outbox: Outbox, number: &str) {
        tracing::info!(batch = outbox.name, number, "submitted");
        // For people; jobs are found by the batch's name.
        fs::write(self.batch_folder(&outbox.name).join("number"), number).ok();
        self.track_all(outbox);
    }

    fn track_all(&mut self, outbox: Outbox) {
        for (index, mut outgoing) in outbox.cells.into_iter().enumerate() {
            outgoing.lock = None;
            self.track(outgoing, Submission { batch: outbox.name.clone(), index }, false);
        }
    }

    fn wait(&mut self, mut outbox: Outbox) {
        outbox.due = Instant::now() + SUBMIT_AGAIN;
        self.waiting.push(outbox);
    }

    /// An answer that was cut off says nothing of the submission: it is submitted again only if the scheduler does not have
    /// it.
    fn submit_again(&mut self, outbox: Outbox) {
        // Without an answer, nobody knows.
        let Ok(listed) = commands::queue() else { return self.wait(outbox) };
        let ours = listed.iter().find(|((batch, _), _)| *batch == outbox.name);
        match ours.map(|(_, listed)| listed.job.split('_').next().unwrap_or_default().to_owned()) {
            Some(number) => self.submitted(outbox, &number),
            None => self.submit(outbox),
        }
    }

    /// Everything a job needs, before the scheduler hears of it.
    fn write_down(&self, folder: &Path, outbox: &Outbox) -> Result<(), StoreError> {
        let program = std::env::current_exe().map_err(io_error("find", Path::new("this program")))?;
        let (mut cells, mut script) = (String::new(), String::from("#!/bin/bash\n"));
        for line in &outbox.cells[0].slurm.prologue {
            script.push_str(line);
            script.push('\n');
        }
        script.push_str(&format!(
            "exec {} --store {} cell \"$(sed -n \"$((SLURM_ARRAY_TASK_ID + 1))p\" {})\" --attempt {}\n",
            quoted(&program.to_string_lossy()),
            quoted(&self.store.root().to_string_lossy()),
            quoted(&folder.join("cells").to_string_lossy()),
            outbox.name,
        ));
        for (index, outgoing) in outbox.cells.iter().enumerate() {
            let job = JobFolder::of(self.store, &outgoing.job.fingerprint);
            job.submit(&outgoing.job, &Submission { batch: outbox.name.clone(), index })?;
            cells.push_str(&format!("{}\n", outgoing.job.fingerprint));
        }
        write_atomically(&folder.join("cells"), cells.as_bytes())?;
        let path = folder.join("script");
        write_atomically(&path, script.as_bytes())?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).map_err(io_error("protect", &path))
    }

    /// A batch that will never be: all its cells fail.
    fn refuse(&self, outbox: Outbox, problem: &str, help: Option<String>) {
        for outgoing in outbox.cells {
            JobFolder::of(self.store, &outgoing.job.fingerprint).withdraw();
            let problem = format!("not submitted: {problem}");
            self.end(outgoing, Err(CellError::Job { problem, help: help.clone(), hopeless: true }));
        }
    }

    fn end(&self, outgoing: Outgoing, result: Result<crate::store::CellRecord, CellError>) {
        let cell = outgoing.cell;
        drop(outgoing); // With its lock, before the loop hears of the end.
        self.tell(Message::Ended(cell, Box::new(result)));
    }

    /// One question about all jobs, when it is time for one.
    fn ask_when_due(&mut self) {
        let every = self.tracked.iter().map(|tracked| tracked.outgoing.slurm.poll).min();
        let Some(every) = every.map(Duration::from_secs) else { return };
        if self.asked.is_some_and(|asked| asked.elapsed() < every) {
            return;
        }
        let first = self.tracked[0].outgoing.cell;
        let answer = commands::queue();
        self.asked = Some(Instant::now());
        let mut listed = match answer {
            Ok(listed) => listed,
            Err(error) => {
                if !std::mem::replace(&mut self.silent, true) {
                    let text = format!("the scheduler does not answer, jobs are waited for: {error}");
                    self.note(first, text);
                }
                return;
            }
        };
        if std::mem::take(&mut self.silent) {
            self.note(first, "the scheduler answers again".to_owned());
        }
        let mut told = Vec::new();
        let place = |tracked: &Tracked| (tracked.submission.batch.clone(), tracked.submission.index);
        // Accounting is asked only about jobs that it alone can still know.
        let forgotten =
            |tracked: &&Tracked| tracked.unlisted.is_some() && !listed.contains_key(&place(tracked));
        let forgotten: Vec<String> =
            self.tracked.iter().filter(forgotten).filter_map(Tracked::number).collect();
        let mut accounted = commands::accounted(&forgotten);
        for tracked in &mut self.tracked {
            let now = listed.remove(&place(tracked)).or_else(|| accounted.remove(&tracked.number()?));
            match now {
                Some(now) => {
                    tracked.unlisted = None;
                    told.extend(tracked.hear(now));
                }
                None => drop(tracked.unlisted.get_or_insert_with(Instant::now)),
            }
        }
        for (cell, text) in told {
            self.note(cell, text);
        }
        for at in 0..self.tracked.len() {
            let tracked = &mut self.tracked[at];
            let Some((listed, _)) = tracked.listed.as_ref().filter(|_| !tracked.placed) else { continue };
            let (cell, job, taken_over) = (tracked.outgoing.cell, listed.job.clone(), tracked.taken_over);
            tracked.placed = true;
            let submission = tracked.submission.clone();
            let output = self.output(&submission);
            self.tell(Message::Placed { cell, job, output, taken_over });
        }
    }

    fn output(&self, submission: &Submission) -> PathBuf {
        self.batch_folder(&submission.batch).join(format!("{}.log", submission.index))
    }

    /// Reads what jobs have written, and settles those that have ended.
    fn look(&mut self) {
        let mut at = 0;
        while at < self.tracked.len() {
            let (verdict, said) = self.look_at(at);
            let cell = self.tracked[at].outgoing.cell;
            for event in said {
                self.tell(Message::Said(cell, event));
            }
            if verdict == Verdict::Wait {
                at += 1;
                continue;
            }
            let tracked = self.tracked.swap_remove(at);
            self.settle(tracked, verdict);
        }
    }

    fn look_at(&mut self, at: usize) -> (Verdict, Vec<Event>) {
        let (silent, store) = (self.silent, self.store);
        let output = self.output(&self.tracked[at].submission);
        let tracked = &mut self.tracked[at];
        let folder = JobFolder::of(store, &tracked.outgoing.job.fingerprint);
        let said = tracked.events.read();
        let result: Option<JobResult> = folder.result(&tracked.submission.batch);
        let word = match (&tracked.listed, tracked.unlisted) {
            _ if silent => Word::None,
            (listed, Some(since)) => {
                let waited = listed.as_ref().filter(|(listed, _)| listed.state == "PENDING");
                let job = waited.filter(|_| !output.exists()).map(|(listed, _)| listed.job.clone());
                Word::Unlisted(since.elapsed(), job)
            }
            (Some((listed, since)), None) => Word::Listed(listed.clone(), since.elapsed()),
            (None, None) => Word::None,
        };
        let end = || {
            let text = fs::read(&output).unwrap_or_default();
            let text = String::from_utf8_lossy(&text).trim().to_owned();
            let last = text.lines().last().map(|line| format!("; it ends `{line}`")).unwrap_or_default();
            format!("{}{last}", output.display())
        };
        let verdict = judge(result.as_ref(), &word, tracked.outgoing.slurm.time.as_deref(), &end);
        let verdict = match verdict {
            Verdict::Wait => Verdict::Wait,
            // Killed between the two, a job leaves a result in the store and none of its own.
            _ if store.record(&tracked.outgoing.job.fingerprint).is_some() => Verdict::Done,
            Verdict::Done if tracked.missing.get_or_insert_with(Instant::now).elapsed() < GRACE => {
                Verdict::Wait
            }
            verdict => match folder.submission() {
                // Another run that waits for the same job was quicker.
                Some(submission) if submission != tracked.submission => {
                    (tracked.submission, tracked.listed, tracked.unlisted) = (submission, None, None);
                    Verdict::Wait
                }
                Some(_) | None => verdict,
            },
        };
        (verdict, said)
    }

    fn settle(&mut self, mut tracked: Tracked, verdict: Verdict) {
        let folder = JobFolder::of(self.store, &tracked.outgoing.job.fingerprint);
        let failed = |problem, help, hopeless| Err(CellError::Job { problem, help, hopeless });
        match verdict {
            Verdict::Wait => unreachable!("only what has ended is settled"),
            Verdict::Done => match self.store.record(&tracked.outgoing.job.fingerprint) {
                Some(record) => self.end(tracked.outgoing, Ok(record)),
                None => {
                    folder.withdraw();
                    let problem =
                        "its job says it is done, and the store does not have the result".to_owned();
                    let help = format!(
                        "is `{}` the same folder on this machine and on the cluster's?",
                        self.store.root().display()
                    );
                    self.end(tracked.outgoing, failed(problem, Some(help), true));
                }
            },
            Verdict::Failed { problem, help } => {
                folder.withdraw();
                self.end(tracked.outgoing, failed(problem, help, false));
            }
            Verdict::Cancelled { problem, help } => {
                folder.withdraw();
                self.end(tracked.outgoing, failed(problem, Some(help), true));
            }
            Verdict::Again { why } => {
                let most = tracked.outgoing.slurm.resubmit;
                if tracked.outgoing.resubmitted >= most {
                    folder.withdraw();
                    let problem = format!("{why}; it was submitted again {most} times");
                    let help = "raise `time` or `resubmit` of its `executor`".to_owned();
                    return self.end(tracked.outgoing, failed(problem, Some(help), true));
                }
                tracked.outgoing.resubmitted += 1;
                let time = tracked.outgoing.resubmitted;
                self.note(tracked.outgoing.cell, format!("{why}; submitted again, {time} of at most {most}"));
                self.enqueue(vec![tracked.outgoing]);
            }
        }
    }

    /// Ends all jobs. What could not be ended keeps its submission, so that the next run finds it.
    fn cancel(&mut self) {
        self.track_unsure();
        let unlisted = self.tracked.iter().any(|tracked| tracked.listed.is_none());
        let listed = if unlisted { commands::queue().unwrap_or_default() } else { HashMap::new() };
        let number = |tracked: &Tracked| {
            let Submission { batch, index } = &tracked.submission;
            let by_comment = || listed.get(&(batch.clone(), *index)).map(|listed| listed.job.clone());
            let noted = || fs::read_to_string(self.batch_folder(batch).join("number")).ok();
            tracked.number().or_else(by_comment).or_else(|| Some(format!("{}_{index}", noted()?)))
        };
        let numbers: Vec<Option<String>> = self.tracked.iter().map(number).collect();
        let named: Vec<String> = numbers.iter().flatten().cloned().collect();
        let cancelled = commands::cancel(&named);
        for (tracked, number) in std::mem::take(&mut self.tracked).into_iter().zip(numbers) {
            match (&cancelled, number) {
                (Ok(()), Some(_)) => JobFolder::of(self.store, &tracked.outgoing.job.fingerprint).withdraw(),
                (Ok(()), None) => {
                    let text = "not cancelled, the scheduler does not name its job: the next run finds it";
                    self.note(tracked.outgoing.cell, text.to_owned());
                }
                (Err(error), _) => {
                    let text = format!("cannot cancel, the next run finds it: {error}");
                    self.note(tracked.outgoing.cell, text);
                }
            }
            self.end(tracked.outgoing, Err(StageError::Cancelled.into()));
        }
        self.drop_waiting();
    }

    /// What the scheduler may have counts as submitted.
    fn track_unsure(&mut self) {
        let (unsure, waiting) =
            std::mem::take(&mut self.waiting).into_iter().partition(|outbox| outbox.unsure);
        self.waiting = waiting;
        let unsure: Vec<Outbox> = unsure;
        unsure.into_iter().for_each(|outbox| self.track_all(outbox));
    }

    fn leave(&mut self) {
        self.track_unsure();
        for tracked in std::mem::take(&mut self.tracked) {
            self.tell(Message::Left(tracked.outgoing.cell));
        }
        self.drop_waiting();
    }

    /// What was never submitted has nothing to cancel.
    fn drop_waiting(&mut self) {
        for outbox in std::mem::take(&mut self.waiting) {
            for outgoing in outbox.cells {
                JobFolder::of(self.store, &outgoing.job.fingerprint).withdraw();
                self.end(outgoing, Err(StageError::Cancelled.into()));
            }
        }
    }
}

impl Tracked {
    /// Slurm's number of it, once it has said it.
    fn number(&self) -> Option<String> {
        self.listed.as_ref().map(|(listed, _)| listed.job.clone())
    }

    /// Takes Slurm's word; says what a person would want to know about it.
    fn hear(&mut self, now: Listed) -> Option<(usize, String)> {
        const STUCK: [&str; 7] = [
            "BadConstraints",
            "PartitionTimeLimit",
            "PartitionNodeLimit",
            "JobHeldUser",
            "JobHeldAdmin",
            "AssocMaxJobsLimit",
            "launch failed requeued held",
        ];
        let (state, reason) = (now.state.clone(), now.reason.clone());
        let before = self.listed.as_ref().map(|(listed, _)| (listed.state.clone(), listed.reason.clone()));
        let same = before.as_ref().is_some_and(|(before, _)| *before == state);
        let since = self.listed.as_ref().map(|(_, since)| *since).filter(|_| same);
        let text = match before {
            Some((before, _)) if before == "RUNNING" && state == "PENDING" => {
                Some(format!("job {} was put back in the queue by the scheduler", now.job))
            }
            Some((_, before)) if same && before == reason => None,
            _ => (state == "PENDING" && STUCK.contains(&reason.as_str()))
                .then(|| format!("job {} does not start: {reason}", now.job)),
        };
        self.listed = Some((now, since.unwrap_or_else(Instant::now)));
        text.map(|text| (self.outgoing.cell, text))
    }
}

fn outgoing(mut task: Task, run: &str) -> Outgoing {
    let (cell, stage, memory) = (task.cell, task.stage.clone(), task.memory);
    let slurm = task.slurm.take().unwrap_or_default();
    let (job, lock) = JobRecord::of(task, run);
    let cpus = slurm.cpus.unwrap_or(job.threads);
    Outgoing { cell, stage, job, cpus, slurm, memory, resubmitted: 0, lock }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_told_and_every_request_after_it_answered() {
        let ((requests, received), (sender, told)) = (channel::<()>(), channel());
        requests.send(()).ok();
        drop(requests);
        until_the_end(&received, &sender, || panic!("the scheduler said something odd"));
        let told: Vec<Message> = told.try_iter().collect();
        let broken = |message: &Message| matches!(message, Message::Broken(text) if text.ends_with("odd"));
        assert!(told.len() == 2 && told.iter().all(broken));
    }
}
