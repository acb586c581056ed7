//! What goes to the endpoint and what comes back.

use contract::Digest;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    Endpoint,
    failure::{Failure, Fault},
};

/// ASCII characters that make a token, roughly; only for estimates.
const CHARS_PER_TOKEN: usize = 4;

/// One turn of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Message {
    /// `system` or `user`.
    pub role: &'static str,
    /// The text.
    pub content: String,
}

/// One completion to ask for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// The conversation so far.
    pub messages: Vec<Message>,
    /// The seed of this completion; another attempt at the same prompt has another one.
    pub seed: u64,
}

/// Tokens a completion took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Tokens sent.
    pub prompt_tokens: u64,
    /// Tokens generated.
    pub completion_tokens: u64,
}

impl Usage {
    /// Both together.
    pub fn total(self) -> u64 {
        self.prompt_tokens + self.completion_tokens
    }
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.prompt_tokens += other.prompt_tokens;
        self.completion_tokens += other.completion_tokens;
    }
}

/// A finished completion, as it is journalled.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Completion {
    /// The text.
    pub text: String,
    /// Whether it stopped at its length limit.
    pub truncated: bool,
    /// Tokens it took, as the endpoint counts; where it does not say, estimated from the texts.
    pub usage: Usage,
}

/// Everything a completion depends on; its digest is the item's key.
#[derive(Serialize)]
struct Identity<'a> {
    model: &'a str,
    messages: &'a [Message],
    seed: u64,
    temperature: Option<f64>,
    top_p: Option<f64>,
    max_tokens: Option<u32>,
    extra: Vec<(&'a String, &'a Value)>,
}

impl Request {
    /// The key of this item in the journal: model, prompt, seed and sampling params, and nothing else.
    pub fn key(&self, endpoint: &Endpoint) -> String {
        let identity = Identity {
            model: &endpoint.model,
            messages: &self.messages,
            seed: self.seed,
            temperature: endpoint.temperature,
            top_p: endpoint.top_p,
            max_tokens: endpoint.max_tokens,
            extra: endpoint.extra.iter().collect(),
        };
        Digest::of_json(&identity).to_string()
    }

    /// The most this can take, for budgets and pacing.
    pub(crate) fn most(&self, endpoint: &Endpoint) -> Usage {
        let prompt_tokens = self.prompt_tokens();
        Usage { prompt_tokens, completion_tokens: endpoint.max_tokens.unwrap_or(1024).into() }
    }

    /// Tokens of the prompt, estimated.
    pub fn prompt_tokens(&self) -> u64 {
        self.messages.iter().map(|message| tokens(&message.content) + 4).sum()
    }

    /// The request's body.
    pub(crate) fn body(&self, endpoint: &Endpoint) -> Vec<u8> {
        let mut body = Map::new();
        body.insert("model".into(), json!(endpoint.model));
        body.insert("messages".into(), json!(self.messages));
        let mut optional = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(name.to_owned(), value);
            }
        };
        optional("temperature", endpoint.temperature.map(Value::from));
        optional("top_p", endpoint.top_p.map(Value::from));
        optional(endpoint.max_tokens_key.name(), endpoint.max_tokens.map(Value::from));
        optional("seed", endpoint.send_seed.then(|| self.seed.into()));
        for (name, value) in &endpoint.extra {
            body.insert(name.clone(), value.clone());
        }
        serde_json::to_vec(&body).expect("a JSON object serializes")
    }

    /// Reads the body of a reply with status 200.
    pub(crate) fn read(&self, body: &str) -> Result<Completion, Failure> {
        let malformed = |problem: String| Failure::new(Fault::Malformed, problem);
        let reply: Reply =
            serde_json::from_str(body).map_err(|error| malformed(format!("not a completion: {error}")))?;
        let said = reply.usage;
        if let Some(error) = reply.error.filter(|error| !error.is_null()) {
            return Err(Failure::of_error(&error, None, Fault::Server));
        }
        let paid = |failure: Failure| Failure { paid: said, ..failure };
        let count = reply.choices.len();
        let [choice] = <[Choice; 1]>::try_from(reply.choices).map_err(|_| {
            paid(Failure::new(Fault::Choices, format!("{count} choices where one was asked for")))
        })?;
        let finish = choice.finish_reason.unwrap_or_default();
        if finish == "content_filter" {
            let problem = "the endpoint's content filter stopped it".to_owned();
            return Err(paid(Failure::new(Fault::Refused, problem)));
        }
        let text = choice.message.content.unwrap_or_default();
        if text.trim().is_empty() {
            let problem = format!("an empty completion (finish reason `{finish}`)");
            return Err(paid(Failure::new(Fault::Empty, problem)));
        }
        let usage = said.unwrap_or_else(|| Usage {
            prompt_tokens: self.prompt_tokens(),
            completion_tokens: tokens(&text),
        });
        Ok(Completion { truncated: finish == "length", text, usage })
    }
}

/// Tokens of a text, estimated: other scripts take about one a character.
fn tokens(text: &str) -> u64 {
    let ascii = text.bytes().filter(u8::is_ascii).count();
    let others = text.chars().count() - ascii;
    (ascii.div_ceil(CHARS_PER_TOKEN) + others) as u64
}

#[derive(Deserialize)]
struct Reply {
    #[serde(default)]
    choices: Vec<Choice>,
    usage: Option<Usage>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    message: Content,
    finish_reason: Option<String>,
}

#[derive(Deserialize)]
struct Content {
    content: Option<String>,
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;

    fn endpoint(more: Value) -> Endpoint {
        let mut params = json!({"base_url": "http://x/v1", "model": "m", "temperature": 0.5});
        params.as_object_mut().unwrap().append(more.clone().as_object_mut().unwrap());
        serde_json::from_value(params).unwrap()
    }

    fn request(seed: u64) -> Request {
        Request { messages: vec![Message { role: "user", content: "1 + 1?".to_owned() }], seed }
    }

    #[test]
    fn the_key_holds_what_a_completion_depends_on_and_nothing_else() {
        let key = |more: Value, seed: u64| request(seed).key(&endpoint(more));
        let base = key(json!({}), 0);
        for changed in [
            key(json!({"model": "n"}), 0),
            key(json!({"temperature": 0.6}), 0),
            key(json!({"top_p": 0.9}), 0),
            key(json!({"max_tokens": 9}), 0),
            key(json!({"extra": {"stop": ["x"]}}), 0),
            key(json!({}), 1),
        ] {
            assert_ne!(changed, base);
        }
        let same = json!({
            "base_url": "http://y", "api_key_env": "K", "concurrency": 3, "timeout": 1.0, "send_seed": false,
            "budget": {"calls": 1}, "retry": {"times": 1}, "max_tokens_key": "max_completion_tokens",
            "limits": {"requests_per_minute": 3.0}, "prices": {"m": {"prompt": 1.0, "completion": 1.0}},
        });
        assert_eq!(key(same, 0), base);
    }

    #[test]
    fn the_body_says_what_was_set() {
        let body =
            |more: Value| -> Value { serde_json::from_slice(&request(7).body(&endpoint(more))).unwrap() };
        assert_eq!(
            body(json!({"max_tokens": 9, "extra": {"reasoning_effort": "low"}})),
            json!({"model": "m", "messages": [{"role": "user", "content": "1 + 1?"}], "temperature": 0.5,
                   "max_tokens": 9, "seed": 7, "reasoning_effort": "low"})
        );
        let other =
            body(json!({"max_tokens": 9, "max_tokens_key": "max_completion_tokens", "send_seed": false}));
        assert_eq!(other["max_completion_tokens"], 9);
        assert!(other.get("max_tokens").is_none() && other.get("seed").is_none());
    }

    #[test]
    fn only_one_whole_text_is_a_completion() {
        let choice = |text: Value, finish: &str| json!({"message": {"role": "assistant", "content": text}, "finish_reason": finish});
        let read = |choices: Value| request(0).read(&json!({"choices": choices}).to_string());
        let good = read(json!([choice(json!("2"), "stop")])).unwrap();
        assert_eq!((good.text.as_str(), good.truncated, good.usage.completion_tokens), ("2", false, 1));
        assert!(read(json!([choice(json!("1, 2, 3"), "length")])).unwrap().truncated);
        let fault = |choices: Value| read(choices).unwrap_err().fault;
        assert_eq!(fault(json!([choice(json!(" \n"), "stop")])), Fault::Empty);
        assert_eq!(fault(json!([choice(Value::Null, "tool_calls")])), Fault::Empty);
        assert_eq!(fault(json!([choice(json!("x"), "content_filter")])), Fault::Refused);
        assert_eq!(fault(json!([])), Fault::Choices);
        assert_eq!(fault(json!([choice(json!("1"), "stop"), choice(json!("2"), "stop")])), Fault::Choices);
        for body in ["", "{\"choices\": [{\"mess", "<html>", "[]", "{\"choices\": [{}]}"] {
            assert_eq!(request(0).read(body).unwrap_err().fault, Fault::Malformed, "{body}");
        }
        let quota = r#"{"error": {"message": "You are out of credits", "code": "insufficient_quota"}}"#;
        assert_eq!(request(0).read(quota).unwrap_err().fault, Fault::Quota);
    }

    #[test]
    fn tokens_are_estimated() {
        assert_eq!(
            ["", "a", "four", "fives", "\u{6f22}\u{5b57}", "na\u{ef}ve"].map(tokens),
            [0, 1, 1, 2, 2, 2]
        );
    }

    #[test]
    fn what_a_useless_reply_took_is_known() {
        let reply =
            json!({"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 7, "total_tokens": 12}});
        let failure = request(0).read(&reply.to_string()).unwrap_err();
        assert_eq!(failure.paid, Some(Usage { prompt_tokens: 5, completion_tokens: 7 }));
    }
}
