//! Keeps requests within rate limits, and still while the endpoint asks to wait. Time comes in from outside.

use std::time::Duration;

use crate::{Limits, endpoint::LONGEST_SECONDS};

/// A time from a number: [`Endpoint::check`](crate::Endpoint::check) bounds what recipes say, and whatever is beyond a
/// day is a day, so that no number ends in a panic.
pub(crate) fn seconds(number: f64) -> Duration {
    Duration::try_from_secs_f64(number.min(LONGEST_SECONDS)).unwrap_or_default()
}

/// Decides when the next request may go.
pub(crate) struct Pace {
    requests: Option<Bucket>,
    tokens: Option<Bucket>,
    held_until: Duration,
}

/// A bucket that fills evenly and holds one second's worth: in any minute, 61 seconds' worth can go.
struct Bucket {
    per_second: f64,
    size: f64,
    level: f64,
    filled_at: Duration,
}

impl Bucket {
    fn new(per_minute: f64, least: f64) -> Self {
        let per_second = per_minute / 60.0;
        let size = per_second.max(least);
        Self { per_second, size, level: size, filled_at: Duration::ZERO }
    }

    /// How long until this much is there; more than the bucket holds goes when it is full.
    fn wait(&mut self, now: Duration, amount: f64) -> Duration {
        let gone = now.saturating_sub(self.filled_at).as_secs_f64();
        self.level = (self.level + gone * self.per_second).min(self.size);
        self.filled_at = now;
        let missing = amount.min(self.size) - self.level;
        if missing <= 1e-9 { Duration::ZERO } else { seconds(missing / self.per_second) }
    }
}

impl Pace {
    pub(crate) fn new(limits: &Limits) -> Self {
        Self {
            requests: limits.requests_per_minute.map(|limit| Bucket::new(limit, 1.0)),
            tokens: limits.tokens_per_minute.map(|limit| Bucket::new(limit, 1.0)),
            held_until: Duration::ZERO,
        }
    }

    /// Lets a request of about this many tokens go, or says how long to wait before asking again.
    pub(crate) fn admit(&mut self, now: Duration, tokens: u64) -> Result<(), Duration> {
        let tokens = tokens as f64;
        let mut wait = self.held_until.saturating_sub(now);
        if let Some(bucket) = &mut self.requests {
            wait = wait.max(bucket.wait(now, 1.0));
        }
        if let Some(bucket) = &mut self.tokens {
            wait = wait.max(bucket.wait(now, tokens));
        }
        if !wait.is_zero() {
            return Err(wait);
        }
        if let Some(bucket) = &mut self.requests {
            bucket.level -= 1.0;
        }
        if let Some(bucket) = &mut self.tokens {
            bucket.level -= tokens;
        }
        Ok(())
    }

    /// Corrects what a request was thought to take.
    pub(crate) fn settle(&mut self, thought: u64, took: u64) {
        if let Some(bucket) = &mut self.tokens {
            bucket.level = (bucket.level + thought as f64 - took as f64).min(bucket.size);
        }
    }

    /// Nothing goes before this time.
    pub(crate) fn hold_until(&mut self, time: Duration) {
        self.held_until = self.held_until.max(time);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// When each of `count` requests of `tokens` goes, in seconds.
    fn times(limits: &Limits, count: usize, tokens: u64) -> Vec<f64> {
        let mut pace = Pace::new(limits);
        let mut now = Duration::ZERO;
        let mut times = Vec::new();
        while times.len() < count {
            match pace.admit(now, tokens) {
                Ok(()) => times.push(now.as_secs_f64()),
                Err(wait) => now += wait,
            }
        }
        times
    }

    fn most_in_a_minute(times: &[f64]) -> usize {
        let within = |from: &f64| times.iter().filter(|time| (0.0..60.0).contains(&(*time - from))).count();
        times.iter().map(within).max().unwrap_or(0)
    }

    #[test]
    fn requests_are_spread_over_the_minute() {
        let limits = Limits { requests_per_minute: Some(120.0), tokens_per_minute: None };
        let times = times(&limits, 400, 1000);
        assert_eq!(&times[..3], [0.0, 0.0, 0.5]);
        assert!((120..=122).contains(&most_in_a_minute(&times)), "{}", most_in_a_minute(&times));
        assert!((times[399] - 199.0).abs() < 0.01, "{}", times[399]);
    }

    #[test]
    fn tokens_are_limited_even_where_one_request_is_more_than_a_second_has() {
        let limits = Limits { requests_per_minute: None, tokens_per_minute: Some(6000.0) };
        let times = times(&limits, 20, 1000);
        assert!((6..=7).contains(&most_in_a_minute(&times)), "{times:?}");
    }

    #[test]
    fn no_number_is_too_strange_for_a_time() {
        let day = Duration::from_secs(86_400);
        for (number, time) in [(1e300, day), (f64::INFINITY, day), (-1.0, Duration::ZERO)] {
            assert_eq!(seconds(number), time, "{number}");
        }
        assert_eq!(seconds(1.5), Duration::from_millis(1500));
        let limits = Limits { requests_per_minute: Some(1e-300), tokens_per_minute: None };
        let mut pace = Pace::new(&limits);
        assert!(pace.admit(Duration::ZERO, 1).is_ok());
        assert_eq!(pace.admit(Duration::ZERO, 1), Err(day));
    }

    #[test]
    fn tokens_not_taken_are_given_back() {
        let limits = Limits { requests_per_minute: None, tokens_per_minute: Some(6000.0) };
        let mut pace = Pace::new(&limits);
        assert!(pace.admit(Duration::ZERO, 1000).is_ok());
        assert_eq!(pace.admit(Duration::ZERO, 100), Err(Duration::from_secs(10)));
        pace.settle(1000, 50);
        assert_eq!(pace.admit(Duration::ZERO, 100), Err(Duration::from_millis(500)));
    }

    #[test]
    fn a_wait_the_endpoint_asks_for_holds_everything() {
        let mut pace = Pace::new(&Limits::default());
        pace.hold_until(Duration::from_secs(7));
        pace.hold_until(Duration::from_secs(3));
        assert_eq!(pace.admit(Duration::from_secs(2), 1), Err(Duration::from_secs(5)));
        assert!(pace.admit(Duration::from_secs(7), 1).is_ok());
    }
}
