//! What asking would take, told before it begins.

use contract::{CallEstimate, Journal, Outlook};

use crate::{Completion, Endpoint, Request, Usage, session};

/// So many earlier completions tell how long one is; a journal may hold millions.
const SAMPLE: usize = 10_000;

/// Adds up the requests a cell would make; those in the journal cost nothing.
pub struct Forecast<'a> {
    endpoint: &'a Endpoint,
    journal: Option<Journal>,
    journalled: u64,
    calls: u64,
    prompt_tokens: u64,
}

impl<'a> Forecast<'a> {
    /// Reads the journal that a session of `kind` would open; a journal that cannot be read counts as empty.
    pub fn new(endpoint: &'a Endpoint, outlook: &Outlook, kind: &str) -> Self {
        let journal = outlook.journal(kind, &session::namespace(endpoint)).ok();
        Self { endpoint, journal, journalled: 0, calls: 0, prompt_tokens: 0 }
    }

    /// Counts a request; its completion, if it is in the journal.
    pub fn ask(&mut self, request: &Request) -> Option<Completion> {
        let key = request.key(self.endpoint);
        let found = self.journal.as_ref().and_then(|journal| journal.get(&key));
        match found {
            Some(_) => self.journalled += 1,
            None => self.assume(1, request.prompt_tokens()),
        }
        found
    }

    /// Counts requests that are not known in full, each of about this many prompt tokens.
    pub fn assume(&mut self, calls: u64, prompt_tokens: u64) {
        self.calls += calls;
        self.prompt_tokens += calls * prompt_tokens;
    }

    /// The sum. Completions are thought to be as long as earlier ones of the model, or else as long as they may be.
    pub fn estimate(self) -> CallEstimate {
        let journal = self.journal.as_ref();
        let earlier: Vec<u64> = journal
            .into_iter()
            .flat_map(|journal| journal.items::<Completion>())
            .take(SAMPLE)
            .map(|(_, completion)| completion.usage.completion_tokens)
            .collect();
        let count = earlier.len() as u64;
        let (each, basis) = if count > 0 {
            let mean = earlier.iter().sum::<u64>().div_ceil(count);
            (mean, format!("completions as long as {count} earlier ones, {mean} tokens"))
        } else {
            let most = u64::from(self.endpoint.max_tokens.unwrap_or(1024));
            (most, format!("every completion at its longest, {most} tokens"))
        };
        let usage = Usage { prompt_tokens: self.prompt_tokens, completion_tokens: self.calls * each };
        CallEstimate {
            calls: self.calls,
            journalled: self.journalled,
            prompt_tokens: usage.prompt_tokens,
            completion_tokens: usage.completion_tokens,
            cost: self.endpoint.cost(usage),
            currency: self.endpoint.currency.clone(),
            basis,
        }
    }
}
