//! Asks for many completions at a time, and keeps each the moment it is there.

mod state;

use std::{
    sync::{
        Condvar, Mutex, MutexGuard,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};

use contract::{Claim, Context, Secret, StageError};
use rand::Rng;
use ureq::{Agent, http::HeaderValue};

use crate::{
    ChatError, Completion, Endpoint, Request, Stop, Usage,
    failure::{Failure, Fault, Remedy, retry_after},
    pace::{Pace, seconds},
};
use state::State;

/// Longest time between two looks at whether the run was interrupted.
const SLICE: Duration = Duration::from_millis(50);

/// An endpoint that asks for a longer wait stops the session.
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(15 * 60);

/// Items in a row without a completion that stop the session.
const OUTAGE: usize = 8;

/// Items that failed for good and are named one by one.
const NAMED_FAILURES: usize = 5;

/// Largest reply that is read, bytes.
const LARGEST_REPLY: u64 = 32 << 20;

/// Why an item has no completion now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// It is not in the journal, and only the journal was asked.
    NotThere,
    /// It failed for good.
    Failed,
    /// The session stopped, or the run was interrupted.
    Stopped,
}

/// Asks one endpoint for a cell's completions.
pub struct Session<'a> {
    endpoint: &'a Endpoint,
    context: &'a Context<'a>,
    key: Option<&'a Secret>,
    agent: Agent,
    url: String,
    started: Instant,
    state: Mutex<State>,
    freed: Condvar,
    pace: Mutex<Pace>,
}

impl<'a> Session<'a> {
    /// Opens the journal of `kind` for the endpoint's model.
    pub fn open(endpoint: &'a Endpoint, context: &'a Context<'a>, kind: &str) -> Result<Self, StageError> {
        let key = endpoint.api_key_env.as_deref().map(|variable| context.secret(variable)).transpose()?;
        let mut config = Agent::config_builder();
        if ["//127.", "//localhost", "//[::1]"].iter().any(|local| endpoint.base_url.contains(local)) {
            // Whatever proxy the machine uses, it is not between the machine and itself.
            config = config.proxy(None);
        }
        let agent = config
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .max_idle_connections(endpoint.concurrency)
            .max_idle_connections_per_host(endpoint.concurrency)
            .timeout_global(Some(seconds(endpoint.timeout)))
            .user_agent(concat!("retort/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        let state = State::new(context.journal(kind, &namespace(endpoint))?);
        Ok(Self {
            endpoint,
            context,
            key,
            agent,
            url: format!("{}/chat/completions", endpoint.base_url.trim_end_matches('/')),
            started: Instant::now(),
            state: Mutex::new(state),
            freed: Condvar::new(),
            pace: Mutex::new(Pace::new(&endpoint.limits)),
        })
    }

    /// Works on every item, several at a time; `work` is handed a function that asks for one completion.
    ///
    /// `work` runs twice for an item that is not finished: first on the journal alone, so that what is there is known
    /// and paid for before the first request goes out. It must ask the same for the same item. Results come in the
    /// order of the items; an error says what is left, and everything finished is in the journal.
    pub fn run<T: Sync, R: Send>(
        &self,
        items: &[T],
        unit: &str,
        work: impl Fn(&T, &dyn Fn(&Request) -> Result<Completion, Halt>) -> Result<R, Halt> + Sync,
    ) -> Result<Vec<R>, StageError> {
        let total = items.len();
        let mut results: Vec<Option<R>> = Vec::with_capacity(total);
        for item in items {
            self.context.check_cancelled()?;
            results.push(work(item, &|request| self.journalled(request)).ok());
        }
        let missing: Vec<usize> = (0..total).filter(|index| results[*index].is_none()).collect();
        let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(total - missing.len()));
        let finished = Mutex::new(Vec::with_capacity(missing.len()));
        self.context.progress(total - missing.len(), total, unit);
        thread::scope(|scope| {
            for _ in 0..self.endpoint.concurrency.min(missing.len()) {
                scope.spawn(|| {
                    while let Some(&index) = missing.get(next.fetch_add(1, Ordering::Relaxed)) {
                        match work(&items[index], &|request| self.ask(request)) {
                            Ok(result) => {
                                finished.lock().expect(POISONED).push((index, result));
                                let done = done.fetch_add(1, Ordering::Relaxed) + 1;
                                self.context.progress(done, total, unit);
                            }
                            Err(Halt::Failed | Halt::NotThere) => {}
                            Err(Halt::Stopped) => break,
                        }
                    }
                });
            }
        });
        for (index, result) in finished.into_inner().expect(POISONED) {
            results[index] = Some(result);
        }
        self.close(results, unit)
    }

    /// Says how it went; the results, if they are all there.
    fn close<R>(&self, results: Vec<Option<R>>, unit: &str) -> Result<Vec<R>, StageError> {
        let total = results.len();
        let done = results.iter().flatten().count();
        let mut state = self.state();
        let faults: Vec<String> =
            state.faults.iter().map(|(fault, count)| format!("{} {count}", fault.name())).collect();
        if !faults.is_empty() {
            let count: usize = state.faults.values().sum();
            let wasted = state.wasted.total();
            let took =
                if wasted > 0 { format!("; they took {}", counted(wasted, "token")) } else { String::new() };
            self.context.note(format!(
                "{} failed ({}){took}",
                counted(count as u64, "request"),
                faults.join(", ")
            ));
        }
        let (all, new) = (state.counted.len(), state.new);
        let cost = self.endpoint.cost(state.spent).map(|cost| self.money(cost));
        let cost = cost.map(|cost| format!(", {cost}")).unwrap_or_default();
        let Usage { prompt_tokens, completion_tokens } = state.spent;
        self.context.note(format!(
            "{}, {new} of them new: {prompt_tokens} prompt and {}{cost}",
            counted(all as u64, "completion"),
            counted(completion_tokens, "completion token"),
        ));
        if let Some(error) = state.error.take() {
            return Err(error);
        }
        if done == total {
            return Ok(results.into_iter().flatten().collect());
        }
        let unit = unit.to_owned();
        let error = match state.stop.take() {
            Some(stop) => ChatError::Stopped { stop, done, total, unit },
            None => {
                self.context.check_cancelled()?;
                let problem = state.last_problem.clone();
                ChatError::Unanswered { failed: total - done, total, unit, problem }
            }
        };
        let help = error.help();
        Err(StageError::failed(error).with_help(help))
    }

    /// A completion from the journal.
    fn journalled(&self, request: &Request) -> Result<Completion, Halt> {
        let mut state = self.state();
        state.journalled(request.key(self.endpoint)).ok_or(Halt::NotThere)
    }

    /// A completion from the journal, or else from the endpoint.
    fn ask(&self, request: &Request) -> Result<Completion, Halt> {
        let key = request.key(self.endpoint);
        let _claim = match self.claim(&key)? {
            Claimed::There(completion) => return Ok(completion),
            Claimed::Ours(claim) => claim,
        };
        let body = request.body(self.endpoint);
        let most = request.most(self.endpoint);
        let mut rng = self.context.rng(&key);
        let times = self.endpoint.retry.times;
        for attempt in 0..=times {
            self.reserve(most)?;
            let reply = self.admit(most).map(|()| self.send(request, &body));
            let mut state = self.state();
            let failure = match reply {
                Ok(Ok(completion)) => return self.keep(state, key, most, completion),
                Ok(Err(failure)) => Ok(failure),
                Err(halt) => Err(halt),
            };
            state.release(most);
            self.freed.notify_all();
            let failure = failure?;
            let paid = failure.paid.unwrap_or_default();
            state.wasted += paid;
            *state.faults.entry(failure.fault).or_default() += 1;
            let first = state.faults[&failure.fault] == 1;
            let remedy = match failure.fault.remedy() {
                Remedy::Repeat if attempt == times => Remedy::GiveUpItem,
                remedy => remedy,
            };
            match remedy {
                Remedy::Repeat => {}
                Remedy::GiveUpItem => return Err(self.give_up(&mut state, &failure, attempt)),
                Remedy::Stop => return Err(state.stopped_by(failure)),
            }
            drop(state);
            self.pace.lock().expect(POISONED).settle(most.total(), paid.total());
            if first {
                let (name, problem) = (failure.fault.name(), &failure.problem);
                self.context
                    .note(format!("a request failed and is repeated, as others will be: {name}: {problem}"));
            }
            self.wait_after(&failure, attempt, rng.random())?;
        }
        unreachable!("the last repetition gives up")
    }

    /// The completion of a key, or the right to ask for it: equal items are paid for once, whoever asks.
    fn claim(&self, key: &str) -> Result<Claimed, Halt> {
        let mut state = self.state();
        loop {
            if let Some(completion) = state.journalled(key.to_owned()) {
                return Ok(Claimed::There(completion));
            }
            if state.stop.is_some() || state.error.is_some() || self.context.check_cancelled().is_err() {
                return Err(Halt::Stopped);
            }
            match state.journal.try_claim(key) {
                Ok(Some(claim)) => {
                    return Ok(match state.journalled(key.to_owned()) {
                        Some(completion) => Claimed::There(completion),
                        None => Claimed::Ours(claim),
                    });
                }
                Ok(None) => state = self.freed.wait_timeout(state, SLICE).expect(POISONED).0,
                Err(error) => {
                    state.error.get_or_insert(error);
                    return Err(Halt::Stopped);
                }
            }
        }
    }

    /// Journals a completion, and only then counts it and hands it on.
    fn keep(
        &self,
        mut state: MutexGuard<'_, State>,
        key: String,
        most: Usage,
        completion: Completion,
    ) -> Result<Completion, Halt> {
        let item = [(key, completion)];
        let written = state.journal.append(&item);
        drop(state);
        let synced = written.and_then(contract::Written::sync);
        let [(key, completion)] = item;
        let mut state = self.state();
        if let Err(error) = synced {
            state.error.get_or_insert(error);
            return Err(Halt::Stopped);
        }
        state.failed_in_a_row = 0;
        state.new += 1;
        if state.counted.insert(key) {
            state.spent += completion.usage;
        }
        state.release(most);
        drop(state);
        self.freed.notify_all();
        self.pace.lock().expect(POISONED).settle(most.total(), completion.usage.total());
        Ok(completion)
    }

    /// Waits before the next repetition; `draw` is in 0..1.
    fn wait_after(&self, failure: &Failure, attempt: u32, draw: f64) -> Result<(), Halt> {
        let retry = &self.endpoint.retry;
        // Half of it is jitter, so that requests that failed together do not come again together.
        let doubled = retry.first_wait * 2f64.powi(attempt.min(30).cast_signed());
        let own = seconds(doubled.min(retry.longest_wait) * (0.5 + draw / 2.0));
        let asked = failure.wait.unwrap_or_default();
        if asked > LONGEST_RETRY_AFTER {
            let minutes = asked.as_secs() / 60;
            self.state().stop = Some(Stop::Wait { minutes, problem: failure.problem.clone() });
            return Err(Halt::Stopped);
        }
        if failure.fault == Fault::Throttled && failure.wait.is_some() {
            // The limit is the account's: whoever comes next would be throttled too.
            self.pace.lock().expect(POISONED).hold_until(self.started.elapsed() + asked);
        }
        self.sleep(own.max(asked))
    }

    fn give_up(&self, state: &mut State, failure: &Failure, attempt: u32) -> Halt {
        state.failed += 1;
        state.failed_in_a_row += 1;
        state.last_problem.clone_from(&failure.problem);
        if state.failed <= NAMED_FAILURES {
            let problem = &failure.problem;
            self.context.note(format!("an item has no completion after {} requests: {problem}", attempt + 1));
        }
        if state.failed_in_a_row >= OUTAGE && state.stop.is_none() {
            let (items, problem) = (state.failed_in_a_row, failure.problem.clone());
            state.stop = Some(Stop::Outage { items, problem });
            return Halt::Stopped;
        }
        Halt::Failed
    }

    /// Sets aside what a request could take, or stops the session if the budget does not hold that much.
    fn reserve(&self, most: Usage) -> Result<(), Halt> {
        let mut state = self.state();
        loop {
            if state.stop.is_some() || state.error.is_some() || self.context.check_cancelled().is_err() {
                return Err(Halt::Stopped);
            }
            match self.beyond(&state, most) {
                None => break,
                Some(stop) if state.under_way == 0 => {
                    state.stop = Some(stop);
                    return Err(Halt::Stopped);
                }
                // A request under way may take less than was set aside for it.
                Some(_) => state = self.freed.wait_timeout(state, SLICE).expect(POISONED).0,
            }
        }
        state.reserved += most;
        state.under_way += 1;
        Ok(())
    }

    /// The limit that a request of this size could go beyond.
    fn beyond(&self, state: &State, most: Usage) -> Option<Stop> {
        let budget = &self.endpoint.budget;
        let mut spent = state.spent;
        spent += state.wasted;
        let mut possible = spent;
        possible += state.reserved;
        possible += most;
        let calls = state.counted.len() as u64;
        let stop = |budget: String, spent: String| Some(Stop::Budget { budget, spent });
        if budget.calls.is_some_and(|limit| calls + state.under_way + 1 > limit) {
            return stop(format!("{} completions", budget.calls?), calls.to_string());
        }
        if budget.tokens.is_some_and(|limit| possible.total() > limit) {
            return stop(format!("{} tokens", budget.tokens?), spent.total().to_string());
        }
        let over = |limit: f64| self.endpoint.cost(possible).is_some_and(|cost| cost > limit + 1e-9);
        if budget.cost.is_some_and(over) {
            return stop(self.money(budget.cost?), self.money(self.endpoint.cost(spent)?));
        }
        None
    }

    fn money(&self, amount: f64) -> String {
        format!("{amount:.4} {}", self.endpoint.currency)
    }

    /// Waits until the rate limits let a request go.
    fn admit(&self, most: Usage) -> Result<(), Halt> {
        loop {
            let admitted = self.pace.lock().expect(POISONED).admit(self.started.elapsed(), most.total());
            match admitted {
                Ok(()) => return Ok(()),
                Err(wait) => self.sleep(wait.min(SLICE))?,
            }
        }
    }

    fn sleep(&self, time: Duration) -> Result<(), Halt> {
        let until = Instant::now() + time;
        loop {
            if self.state().stop.is_some() || self.context.check_cancelled().is_err() {
                return Err(Halt::Stopped);
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            thread::sleep(left.min(SLICE));
        }
    }

    /// One request. Nothing leaves here with the key in it.
    fn send(&self, request: &Request, body: &[u8]) -> Result<Completion, Failure> {
        let result = self.exchange(request, body);
        let clean = |text: String| match self.key {
            Some(key) => key.redact(&text).into_owned(),
            None => text,
        };
        match result {
            Ok(completion) => Ok(Completion { text: clean(completion.text), ..completion }),
            Err(failure) => Err(Failure { problem: clean(failure.problem), ..failure }),
        }
    }

    fn exchange(&self, request: &Request, body: &[u8]) -> Result<Completion, Failure> {
        let mut call = self.agent.post(&self.url).header("content-type", "application/json");
        if let Some(key) = self.key {
            let mut value = HeaderValue::from_str(&format!("Bearer {}", key.expose()))
                .expect("a secret has only characters that a header may hold");
            value.set_sensitive(true);
            call = call.header("authorization", value);
        }
        let mut reply = call.send(body).map_err(|error| Failure::of_client(&error))?;
        let header = |name: &str| Some(reply.headers().get(name)?.to_str().ok()?.to_owned());
        let (status, wait) = (reply.status().as_u16(), retry_after(header, SystemTime::now()));
        let content = reply.body_mut().with_config().limit(LARGEST_REPLY).read_to_vec();
        let content = content.map_err(|error| Failure::of_client(&error))?;
        let content = String::from_utf8_lossy(&content);
        // An endpoint that sends the key back must not bring it into a message, cut or whole.
        let content = self.key.map_or(content.clone(), |key| key.redact(&content).into_owned().into());
        if status == 200 {
            return request.read(&content);
        }
        Err(Failure { wait, ..Failure::of_status(status, &content) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect(POISONED)
    }
}

enum Claimed {
    There(Completion),
    Ours(Claim),
}

/// No code that holds one of the session's locks panics.
const POISONED: &str = "no thread panics while it holds the lock";

/// `1 request`, `2 requests`.
fn counted(count: u64, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Which journal holds the completions of an endpoint: one a model.
pub(crate) fn namespace(endpoint: &Endpoint) -> (&'static str, u32, &str) {
    ("chat", 1, &endpoint.model)
}

#[cfg(test)]
mod tests;
