//! Why asking stopped before every item had its completion.

/// What stops a session between items.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Stop {
    /// The next item could go beyond the budget.
    #[error("the next completion could go beyond the budget of {budget}: {spent} is spent")]
    Budget {
        /// The limit.
        budget: String,
        /// What is taken so far.
        spent: String,
    },
    /// The account has nothing left.
    #[error("the account's quota is exhausted: {problem}")]
    Quota {
        /// The endpoint's words.
        problem: String,
    },
    /// Every request would be refused.
    #[error("the endpoint refuses the requests: {problem}")]
    Denied {
        /// The endpoint's words.
        problem: String,
    },
    /// The endpoint asks for more patience than a run should have.
    #[error("the endpoint asks to wait {minutes} minutes: {problem}")]
    Wait {
        /// How long.
        minutes: u64,
        /// The endpoint's words.
        problem: String,
    },
    /// Item after item failed.
    #[error("{items} items in a row ended without a completion, the last one because: {problem}")]
    Outage {
        /// How many.
        items: usize,
        /// What was wrong with the last.
        problem: String,
    },
}

/// Why a session ended without every completion. What was finished is kept.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChatError {
    /// It stopped.
    #[error("{stop}; {done} of {total} {unit} are finished and kept, {left} are left", left = .total - .done)]
    Stopped {
        /// Why.
        stop: Stop,
        /// Items finished.
        done: usize,
        /// Items asked for.
        total: usize,
        /// What an item is, plural.
        unit: String,
    },
    /// Some items failed for good.
    #[error(
        "{failed} of {total} {unit} got no completion, the last one because: {problem}; the other {} are kept",
        .total - .failed
    )]
    Unanswered {
        /// Items without a completion.
        failed: usize,
        /// Items asked for.
        total: usize,
        /// What an item is, plural.
        unit: String,
        /// What was wrong with the last.
        problem: String,
    },
}

impl ChatError {
    /// The remedy.
    pub fn help(&self) -> String {
        let again = "`retort run` goes on from here";
        match self {
            Self::Stopped { stop, .. } => match stop {
                Stop::Budget { .. } => format!("raise `budget`, and {again}"),
                Stop::Quota { .. } => format!("when the account has quota again, {again}"),
                Stop::Denied { .. } => {
                    format!(
                        "check `base_url`, `model` and the key in the variable of `api_key_env`; then {again}"
                    )
                }
                Stop::Wait { .. } => format!("after that time, {again}"),
                Stop::Outage { .. } => format!("when the endpoint answers again, {again}"),
            },
            Self::Unanswered { .. } => "`retort run` asks again for those only".to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_say_what_is_left_and_what_to_do() {
        let stop = Stop::Budget { budget: "5.00 USD".into(), spent: "4.98 USD".into() };
        let error = ChatError::Stopped { stop, done: 312, total: 500, unit: "rationales".into() };
        assert_eq!(
            error.to_string(),
            "the next completion could go beyond the budget of 5.00 USD: 4.98 USD is spent; \
             312 of 500 rationales are finished and kept, 188 are left"
        );
        assert_eq!(error.help(), "raise `budget`, and `retort run` goes on from here");
    }
}
