//! The params block of an endpoint: where it is, what is asked of it, how fast, and for how much.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::Usage;

/// The longest timeout or wait that a recipe may ask for, seconds.
pub(crate) const LONGEST_SECONDS: f64 = 86_400.0;

/// A chat endpoint that speaks OpenAI's protocol, and the model behind it.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// Where it is, up to and without `/chat/completions`: `https://api.openai.com/v1`. Not part of a result's identity, so
    /// that a mirror of the same model may take over: a different model wants a different `model`.
    pub base_url: String,
    /// The model, as the endpoint names it. This name alone identifies what answers: what stands behind it at another
    /// `base_url`, or later, is taken for the same.
    pub model: String,
    /// The environment variable that holds the key; never the key itself. Default: no key is sent.
    #[serde(default)]
    pub api_key_env: Option<String>,
    /// Sampling temperature, 0 to 2. Default: 0.7 for a teacher, 0 for a judge (ours).
    #[serde(default)]
    pub temperature: Option<f64>,
    /// Nucleus sampling, above 0 to 1. Default: the endpoint's.
    #[serde(default)]
    pub top_p: Option<f64>,
    /// Most tokens a completion may have. Default: 1024 for a teacher, 256 for a judge (ours).
    #[serde(default)]
    pub max_tokens: Option<u32>,
    /// The request field `max_tokens` goes by; newer reasoning models want `max_completion_tokens`. Default: `max_tokens`.
    #[serde(default)]
    pub max_tokens_key: MaxTokensKey,
    /// Whether the seed goes along; some endpoints refuse it. It is part of an item's identity either way.
    /// Default: true.
    #[serde(default = "yes")]
    pub send_seed: bool,
    /// Further fields of the request, as the endpoint's documentation names them. Default: none.
    #[serde(default)]
    pub extra: BTreeMap<String, Value>,
    /// Requests under way at once. Default: 8.
    #[serde(default = "default_concurrency")]
    pub concurrency: usize,
    /// Rate limits. Default: none but the endpoint's own.
    #[serde(default)]
    pub limits: Limits,
    /// Longest time for one request, seconds; at most 86,400. Default: 300.
    #[serde(default = "default_timeout")]
    pub timeout: f64,
    /// How failed requests are repeated.
    #[serde(default)]
    pub retry: Retry,
    /// Prices by model: `{MODEL: {prompt, completion}}`, in `currency` per million tokens, so that several stages can share the
    /// table. Default: none, and no costs are told.
    #[serde(default)]
    pub prices: BTreeMap<String, Price>,
    /// What prices and budgets are counted in. Default: USD.
    #[serde(default = "default_currency")]
    pub currency: String,
    /// The most that all completions of one cell may take, those of earlier runs included. Default: no limit.
    #[serde(default)]
    pub budget: Budget,
}

/// The name of the request field for the length limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MaxTokensKey {
    /// What most servers understand.
    #[default]
    MaxTokens,
    /// What OpenAI's reasoning models require.
    MaxCompletionTokens,
}

impl MaxTokensKey {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::MaxTokens => "max_tokens",
            Self::MaxCompletionTokens => "max_completion_tokens",
        }
    }
}

/// Rate limits, kept by spreading requests evenly.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Requests in any minute, 0.01 to 1e9. Default: any number.
    #[serde(default)]
    pub requests_per_minute: Option<f64>,
    /// Tokens in any minute, prompt and completion together, 0.01 to 1e9. Default: any number.
    #[serde(default)]
    pub tokens_per_minute: Option<f64>,
}

/// How failed requests are repeated: waits double from `first_wait` to `longest_wait`, with jitter, and are at least
/// what the endpoint asks for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Retry {
    /// Repetitions of one item before it counts as failed. Default: 8.
    #[serde(default = "default_times")]
    pub times: u32,
    /// Seconds before the first repetition, at most 86,400. Default: 1.
    #[serde(default = "default_first_wait")]
    pub first_wait: f64,
    /// Longest wait, seconds, at most 86,400, unless the endpoint asks for more. Default: 60.
    #[serde(default = "default_longest_wait")]
    pub longest_wait: f64,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            times: default_times(),
            first_wait: default_first_wait(),
            longest_wait: default_longest_wait(),
        }
    }
}

/// What a million tokens cost.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// A million prompt tokens.
    pub prompt: f64,
    /// A million completion tokens.
    pub completion: f64,
}

/// The most a cell may take; it stops before the item that could go beyond.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Budget {
    /// Cost, in `currency`; needs the model's price in `prices`. Default: any.
    #[serde(default)]
    pub cost: Option<f64>,
    /// Tokens, prompt and completion together. Default: any.
    #[serde(default)]
    pub tokens: Option<u64>,
    /// Completions. Default: any.
    #[serde(default)]
    pub calls: Option<u64>,
}

fn yes() -> bool {
    true
}

fn default_concurrency() -> usize {
    8
}

fn default_timeout() -> f64 {
    300.0
}

fn default_times() -> u32 {
    8
}

fn default_first_wait() -> f64 {
    1.0
}

fn default_longest_wait() -> f64 {
    60.0
}

fn default_currency() -> String {
    "USD".to_owned()
}

impl Endpoint {
    /// The params that cannot change a completion, below the pointer of the endpoint's block.
    pub const IMMATERIAL: [&str; 7] =
        ["base_url", "api_key_env", "concurrency", "limits", "timeout", "retry", "budget"];

    /// Fills in the defaults that depend on who asks.
    pub fn settle(&mut self, temperature: f64, max_tokens: u32) {
        self.temperature.get_or_insert(temperature);
        self.max_tokens.get_or_insert(max_tokens);
    }

    /// What is wrong with the block, as (JSON pointer, problem) pairs; `at` is the block's own pointer.
    pub fn check(&self, at: &str) -> Vec<(String, String)> {
        let mut problems = Vec::new();
        let mut problem = |field: &str, text: &str| problems.push((format!("{at}/{field}"), text.to_owned()));
        let scheme = self.base_url.starts_with("https://") || self.base_url.starts_with("http://");
        if !scheme || self.base_url.contains(char::is_whitespace) {
            problem("base_url", "must start with `https://` or `http://`");
        } else if self.base_url.contains(['@', '?', '#']) {
            problem(
                "base_url",
                "must hold no user, key or query; a key goes into the variable of `api_key_env`",
            );
        } else if self.base_url.trim_end_matches('/').ends_with("/chat/completions") {
            problem("base_url", "must end before `/chat/completions`");
        }
        if self.model.trim().is_empty() {
            problem("model", "must not be empty");
        }
        if self.api_key_env.as_deref().is_some_and(|name| !is_variable(name)) {
            problem("api_key_env", "must be the name of an environment variable, not a key");
        }
        let share = |value: Option<f64>, most: f64| value.is_some_and(|v| !(0.0..=most).contains(&v));
        if share(self.temperature, 2.0) {
            problem("temperature", "must be between 0 and 2");
        }
        if share(self.top_p, 1.0) || self.top_p == Some(0.0) {
            problem("top_p", "must be above 0 and at most 1");
        }
        if self.max_tokens == Some(0) {
            problem("max_tokens", "must be at least 1");
        }
        if !(1..=1024).contains(&self.concurrency) {
            problem("concurrency", "must be between 1 and 1024");
        }
        for name in self.extra.keys() {
            let own = [
                "model",
                "messages",
                "temperature",
                "top_p",
                MaxTokensKey::MaxTokens.name(),
                MaxTokensKey::MaxCompletionTokens.name(),
                "seed",
                "n",
                "stream",
            ];
            if own.contains(&name.as_str()) {
                problem(&format!("extra/{name}"), "has a param of its own, or is not the recipe's to set");
            }
        }
        let limits = [
            ("limits/requests_per_minute", self.limits.requests_per_minute),
            ("limits/tokens_per_minute", self.limits.tokens_per_minute),
        ];
        for (field, limit) in limits {
            if limit.is_some_and(|limit| !(0.01..=1e9).contains(&limit)) {
                problem(field, "must be between 0.01 and 1e9 a minute");
            }
        }
        let times = [
            ("timeout", self.timeout),
            ("retry/first_wait", self.retry.first_wait),
            ("retry/longest_wait", self.retry.longest_wait),
        ];
        for (field, seconds) in times {
            if !(seconds > 0.0 && seconds <= LONGEST_SECONDS) {
                problem(field, "must be above 0 and at most 86400 seconds");
            }
        }
        if self.budget.cost.is_some_and(|cost| !(cost > 0.0 && cost.is_finite())) {
            problem("budget/cost", "must be more than 0");
        }
        for (model, price) in &self.prices {
            if ![price.prompt, price.completion].iter().all(|price| price.is_finite() && *price >= 0.0) {
                problem(&format!("prices/{model}"), "must not be negative");
            }
        }
        if !self.prices.is_empty() && self.price().is_none() {
            let model = &self.model;
            problem(
                "prices",
                &format!(
                    "names no price of the model `{model}`: add it, or leave `prices` and `budget.cost` out"
                ),
            );
        } else if self.budget.cost.is_some() && self.price().is_none() {
            problem("budget/cost", "needs the model's price in `prices`");
        }
        problems
    }

    /// The environment variables it needs.
    pub fn secrets(&self) -> Vec<String> {
        self.api_key_env.iter().cloned().collect()
    }

    /// The price of the model, if the table has it.
    pub fn price(&self) -> Option<Price> {
        self.prices.get(&self.model).copied()
    }

    /// What this much costs, where there is a price.
    pub fn cost(&self, usage: Usage) -> Option<f64> {
        let Price { prompt, completion } = self.price()?;
        let (prompt_tokens, completion_tokens) = (usage.prompt_tokens as f64, usage.completion_tokens as f64);
        Some((prompt_tokens * prompt + completion_tokens * completion) / 1e6)
    }
}

fn is_variable(name: &str) -> bool {
    let start = |c: char| c.is_ascii_alphabetic() || c == '_';
    name.starts_with(start) && name.chars().all(|c| start(c) || c.is_ascii_digit())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;

    fn fields(more: Value) -> Vec<String> {
        let mut params = json!({"base_url": "https://api.example.org/v1", "model": "m"});
        params.as_object_mut().unwrap().append(more.clone().as_object_mut().unwrap());
        let endpoint: Endpoint = serde_json::from_value(params).unwrap();
        endpoint.check("/llm").into_iter().map(|(field, _)| field).collect()
    }

    #[test]
    fn mistakes_are_found_before_anything_runs() {
        assert!(fields(json!({})).is_empty());
        for url in
            ["ftp://x", "https://me:key@x/v1", "https://x/v1?api-key=1", "https://x/v1/chat/completions"]
        {
            assert_eq!(fields(json!({"base_url": url})), ["/llm/base_url"], "{url}");
        }
        for key in ["sk-proj-0123", "", "A B"] {
            assert_eq!(fields(json!({"api_key_env": key})), ["/llm/api_key_env"]);
        }
        assert_eq!(fields(json!({"extra": {"n": 2, "reasoning_effort": "low"}})), ["/llm/extra/n"]);
        assert_eq!(
            fields(
                json!({"temperature": 3.0, "top_p": 0.0, "max_tokens": 0, "concurrency": 0, "timeout": 0.0})
            ),
            ["/llm/temperature", "/llm/top_p", "/llm/max_tokens", "/llm/concurrency", "/llm/timeout"]
        );
        assert_eq!(
            fields(json!({"extra": {"max_completion_tokens": 9}})),
            ["/llm/extra/max_completion_tokens"]
        );
        assert_eq!(fields(json!({"budget": {"cost": 1.0}})), ["/llm/budget/cost"]);
        assert_eq!(fields(json!({"prices": {"other": {"prompt": 1.0, "completion": 2.0}}})), ["/llm/prices"]);
        let priced = json!({"budget": {"cost": 1.0}, "prices": {"m": {"prompt": 1.0, "completion": 2.0}}});
        assert!(fields(priced).is_empty());
    }

    #[test]
    fn times_and_rates_are_bounded() {
        for seconds in [1e300, 86_401.0, 0.0, -1.0] {
            let times =
                json!({"timeout": seconds, "retry": {"first_wait": seconds, "longest_wait": seconds}});
            assert_eq!(
                fields(times),
                ["/llm/timeout", "/llm/retry/first_wait", "/llm/retry/longest_wait"],
                "{seconds}"
            );
        }
        for limit in [1e-300, 0.0, 1e10] {
            let limits = json!({"limits": {"requests_per_minute": limit, "tokens_per_minute": limit}});
            assert_eq!(
                fields(limits),
                ["/llm/limits/requests_per_minute", "/llm/limits/tokens_per_minute"],
                "{limit}"
            );
        }
        let most =
            json!({"timeout": 86_400, "limits": {"requests_per_minute": 0.01, "tokens_per_minute": 1e9}});
        assert!(fields(most).is_empty());
    }

    #[test]
    fn costs_are_worked_out_by_hand() {
        let params = json!({
            "base_url": "http://x", "model": "m", "prices": {"m": {"prompt": 0.15, "completion": 0.6}},
        });
        let endpoint: Endpoint = serde_json::from_value(params).unwrap();
        let usage = Usage { prompt_tokens: 2_000_000, completion_tokens: 500_000 };
        assert!((endpoint.cost(usage).unwrap() - 0.6).abs() < 1e-12);
    }
}
