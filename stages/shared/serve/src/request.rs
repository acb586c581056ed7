//! Reads what a request asks for. Fields that change nothing here are ignored, fields that would change the answer and
//! are not understood are refused.

use lm::chat::Message;
use serde_json::{Map, Value};

use crate::refusal::Refusal;

/// Most choices of one prompt.
const MOST_CHOICES: u64 = 128;
/// Most texts that one request may ask for: prompts times choices.
const MOST_TEXTS: usize = 1024;
/// Most stop strings.
const MOST_STOPS: usize = 16;
/// Most of the likeliest tokens that come along.
const MOST_TOP: u64 = 20;
/// Tokens of a completion that does not say how many, as in OpenAI's documentation.
const COMPLETION_TOKENS: usize = 16;

/// How texts are to be written.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Writing {
    pub(crate) temperature: f64,
    pub(crate) top_p: f64,
    pub(crate) seed: Option<u64>,
    /// Where absent, as many as the context has room for.
    pub(crate) max_tokens: Option<usize>,
    pub(crate) stop: Vec<String>,
    /// Texts for each prompt.
    pub(crate) choices: usize,
    pub(crate) stream: bool,
    /// Whether a stream ends with what it took.
    pub(crate) stream_usage: bool,
}

/// A body of `chat/completions`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Chat {
    pub(crate) messages: Vec<Message>,
    pub(crate) writing: Writing,
}

/// A body of `completions`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Completion {
    pub(crate) prompts: Vec<Prompt>,
    /// Whether the prompt comes back before what is written.
    pub(crate) echo: bool,
    /// Whether tokens come with log-probabilities, and with how many of the likeliest ones.
    pub(crate) logprobs: Option<usize>,
    pub(crate) writing: Writing,
}

/// What is to be continued.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Prompt {
    Text(String),
    Tokens(Vec<u32>),
}

impl Chat {
    /// Reads a body; `served` is the only model there is.
    pub(crate) fn read(body: &[u8], served: &str) -> Result<Self, Refusal> {
        let fields = Fields::read(body, served)?;
        for absent in ["tools", "functions", "audio"] {
            fields.refuse_unless_empty(absent)?;
        }
        if let Some(format) = fields.get("response_format")
            && format.get("type").and_then(Value::as_str) != Some("text")
        {
            return Err(Refusal::field("response_format", "can only be of type `text`"));
        }
        if fields.flag("logprobs")? || fields.get("top_logprobs").is_some() {
            let problem = "is only answered by `/v1/completions`";
            return Err(Refusal::field("logprobs", problem));
        }
        let list = fields.get("messages").and_then(Value::as_array).filter(|list| !list.is_empty());
        let list =
            list.ok_or_else(|| Refusal::field("messages", "must be a list of at least one message"))?;
        let messages: Vec<Message> = list
            .iter()
            .enumerate()
            .map(|(place, value)| message(value, &format!("messages[{place}]")))
            .collect::<Result<_, Refusal>>()?;
        let max_tokens = match fields.number("max_completion_tokens", 1, u64::from(u32::MAX))? {
            Some(most) => Some(most),
            None => fields.number("max_tokens", 1, u64::from(u32::MAX))?,
        };
        let writing = fields.writing(max_tokens.map(|most| most as usize))?;
        Ok(Self { messages, writing })
    }
}

impl Completion {
    /// Reads a body; `served` is the only model there is.
    pub(crate) fn read(body: &[u8], served: &str) -> Result<Self, Refusal> {
        let fields = Fields::read(body, served)?;
        fields.refuse_unless_empty("suffix")?;
        let prompts = prompts(fields.get("prompt"))?;
        let max_tokens = fields.number("max_tokens", 0, u64::from(u32::MAX))?;
        let max_tokens = max_tokens.map_or(COMPLETION_TOKENS, |most| most as usize);
        let writing = fields.writing(Some(max_tokens))?;
        if fields.number("best_of", 1, MOST_CHOICES)?.is_some_and(|best| best as usize != writing.choices) {
            return Err(Refusal::field("best_of", "must equal `n`: all texts are returned"));
        }
        if prompts.len() * writing.choices > MOST_TEXTS {
            let problem = format!("times `n` makes more than {MOST_TEXTS} texts; send several requests");
            return Err(Refusal::field("prompt", problem));
        }
        let logprobs = fields.number("logprobs", 0, MOST_TOP)?.map(|top| top as usize);
        let echo = fields.flag("echo")?;
        for (name, asked) in [("echo", echo), ("logprobs", logprobs.is_some())] {
            if asked && writing.stream {
                return Err(Refusal::field(name, "cannot be streamed; leave out `stream`"));
            }
        }
        Ok(Self { prompts, echo, logprobs, writing })
    }
}

/// The fields of a body.
struct Fields(Map<String, Value>);

impl Fields {
    fn read(body: &[u8], served: &str) -> Result<Self, Refusal> {
        let value: Value = serde_json::from_slice(body)
            .map_err(|error| Refusal::request(format!("the body is not JSON: {error}")))?;
        let Value::Object(fields) = value else {
            return Err(Refusal::request("the body must be a JSON object"));
        };
        let fields = Self(fields);
        match fields.get("model") {
            None => {}
            Some(Value::String(model)) if model == served => {}
            Some(Value::String(model)) => {
                let message = format!("`model` is `{model}`, but only `{served}` is served here");
                return Err(Refusal::of(404, "model_not_found", message).at("model"));
            }
            Some(_) => return Err(Refusal::field("model", "must be text")),
        }
        Ok(fields)
    }

    /// A field that is there and not null.
    fn get(&self, name: &str) -> Option<&Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.get(name) {
            None => Ok(false),
            Some(Value::Bool(flag)) => Ok(*flag),
            Some(_) => Err(Refusal::field(name, "must be true or false")),
        }
    }

    fn number(&self, name: &str, least: u64, most: u64) -> Result<Option<u64>, Refusal> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = value.as_u64().filter(|number| (least..=most).contains(number));
        let problem = || Refusal::field(name, format!("must be a whole number from {least} to {most}"));
        number.map(Some).ok_or_else(problem)
    }

    fn real(&self, name: &str, range: &dyn Fn(f64) -> bool, problem: &str) -> Result<Option<f64>, Refusal> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let number = value.as_f64().filter(|number| range(*number));
        number.map(Some).ok_or_else(|| Refusal::field(name, problem))
    }

    fn refuse_unless_empty(&self, name: &str) -> Result<(), Refusal> {
        let empty = match self.get(name) {
            None => true,
            Some(Value::Array(list)) => list.is_empty(),
            Some(Value::Object(map)) => map.is_empty(),
            Some(Value::String(text)) => text.is_empty(),
            Some(value) => value.as_f64() == Some(0.0),
        };
        if empty { Ok(()) } else { Err(Refusal::field(name, "is not supported; leave it out")) }
    }

    fn writing(&self, max_tokens: Option<usize>) -> Result<Writing, Refusal> {
        for absent in ["frequency_penalty", "presence_penalty", "logit_bias"] {
            self.refuse_unless_empty(absent)?;
        }
        let temperature = |value: f64| (0.0..=2.0).contains(&value);
        let share = |value: f64| value > 0.0 && value <= 1.0;
        let seed = match self.get("seed") {
            None => None,
            // OpenAI's seeds may be negative.
            Some(seed) => Some(
                seed.as_u64()
                    .or_else(|| seed.as_i64().map(i64::cast_unsigned))
                    .ok_or_else(|| Refusal::field("seed", "must be a whole number of 64 bits"))?,
            ),
        };
        let stream_usage = match self.get("stream_options") {
            None => false,
            Some(Value::Object(options)) => Fields(options.clone()).flag("include_usage")?,
            Some(_) => return Err(Refusal::field("stream_options", "must be an object")),
        };
        Ok(Writing {
            temperature: self.real("temperature", &temperature, "must be from 0 to 2")?.unwrap_or(1.0),
            top_p: self.real("top_p", &share, "must be above 0 and at most 1")?.unwrap_or(1.0),
            seed,
            max_tokens,
            stop: self.stop()?,
            choices: self.number("n", 1, MOST_CHOICES)?.unwrap_or(1) as usize,
            stream: self.flag("stream")?,
            stream_usage,
        })
    }

    fn stop(&self) -> Result<Vec<String>, Refusal> {
        let strings = match self.get("stop") {
            None => Some(Vec::new()),
            Some(Value::String(stop)) => Some(vec![stop.clone()]),
            Some(Value::Array(list)) => list.iter().map(|stop| stop.as_str().map(str::to_owned)).collect(),
            Some(_) => None,
        };
        let fitting = |stops: &Vec<String>| stops.len() <= MOST_STOPS && stops.iter().all(|s| !s.is_empty());
        let problem = format!("must be text, or a list of at most {MOST_STOPS} texts, none of them empty");
        strings.filter(fitting).ok_or_else(|| Refusal::field("stop", problem))
    }
}

fn message(value: &Value, field: &str) -> Result<Message, Refusal> {
    let role = value.get("role").and_then(Value::as_str).filter(|role| !role.is_empty());
    let role = role.ok_or_else(|| Refusal::field(&format!("{field}.role"), "must be text"))?;
    let part = |part: &Value| -> Option<String> {
        let text = part.get("type").and_then(Value::as_str) == Some("text");
        text.then(|| part.get("text").and_then(Value::as_str).map(str::to_owned)).flatten()
    };
    let content = match value.get("content") {
        Some(Value::String(text)) => Some(text.clone()),
        Some(Value::Array(parts)) => {
            parts.iter().map(part).collect::<Option<Vec<_>>>().map(|all| all.concat())
        }
        _ => None,
    };
    let problem =
        || Refusal::field(&format!("{field}.content"), "must be text, or a list of parts of type `text`");
    // The newer name of the same role; templates know the older one.
    let role = if role == "developer" { "system" } else { role };
    Ok(Message { role: role.to_owned(), content: content.ok_or_else(problem)? })
}

fn prompts(value: Option<&Value>) -> Result<Vec<Prompt>, Refusal> {
    let problem = || {
        Refusal::field("prompt", "must be text, a list of texts, a list of token ids or a list of such lists")
    };
    let tokens = |list: &[Value]| -> Option<Prompt> {
        let id = |token: &Value| token.as_u64().and_then(|token| u32::try_from(token).ok());
        list.iter().map(id).collect::<Option<Vec<u32>>>().map(Prompt::Tokens)
    };
    let one = |value: &Value| match value {
        Value::String(text) => Some(Prompt::Text(text.clone())),
        Value::Array(list) => tokens(list),
        _ => None,
    };
    let list = match value {
        Some(Value::String(text)) => return Ok(vec![Prompt::Text(text.clone())]),
        Some(Value::Array(list)) if !list.is_empty() => list,
        _ => return Err(problem()),
    };
    if list[0].is_number() {
        return Ok(vec![tokens(list).ok_or_else(problem)?]);
    }
    list.iter().map(one).collect::<Option<Vec<_>>>().ok_or_else(problem)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use serde_json::json;

    use super::*;

    fn chat(more: Value) -> Result<Chat, Refusal> {
        let mut body = json!({"model": "m", "messages": [{"role": "user", "content": "1 + 1?"}]});
        body.as_object_mut().unwrap().append(more.clone().as_object_mut().unwrap());
        Chat::read(body.to_string().as_bytes(), "m")
    }

    fn completion(more: Value) -> Result<Completion, Refusal> {
        let mut body = json!({"prompt": "1 + 1"});
        body.as_object_mut().unwrap().append(more.clone().as_object_mut().unwrap());
        Completion::read(body.to_string().as_bytes(), "m")
    }

    #[test]
    fn what_is_not_said_has_the_defaults_of_the_protocol() {
        let Chat { messages, writing } = chat(json!({"max_tokens": null, "user": "someone"})).unwrap();
        assert_eq!(messages, [Message::user("1 + 1?")]);
        assert_eq!((writing.temperature, writing.top_p, writing.choices), (1.0, 1.0, 1));
        assert_eq!((writing.seed, writing.max_tokens, writing.stop.len()), (None, None, 0));
        assert!(!writing.stream && !writing.stream_usage);
        assert_eq!(completion(json!({})).unwrap().writing.max_tokens, Some(16));
        let both = chat(json!({"max_tokens": 3, "max_completion_tokens": 5})).unwrap();
        assert_eq!(both.writing.max_tokens, Some(5));
        assert_eq!(chat(json!({"seed": -1})).unwrap().writing.seed, Some(u64::MAX));
        assert!(chat(json!({"tools": [], "frequency_penalty": 0.0, "logit_bias": {}})).is_ok());
    }

    #[test]
    fn prompts_and_messages_come_in_every_form() {
        let prompts = |prompt: Value| completion(json!({"prompt": prompt})).unwrap().prompts;
        let text = |text: &str| Prompt::Text(text.to_owned());
        assert_eq!(prompts(json!("a")), [text("a")]);
        assert_eq!(prompts(json!(["a", "b"])), [text("a"), text("b")]);
        assert_eq!(prompts(json!([5, 6])), [Prompt::Tokens(vec![5, 6])]);
        assert_eq!(prompts(json!([[5], [6, 7]])), [Prompt::Tokens(vec![5]), Prompt::Tokens(vec![6, 7])]);
        let parts = json!([{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]);
        let said = chat(json!({"messages": [{"role": "developer", "content": parts}]})).unwrap();
        assert_eq!(said.messages, [Message { role: "system".into(), content: "ab".into() }]);
    }

    #[test]
    fn a_mistake_is_told_with_its_field() {
        let field =
            |refusal: Refusal| refusal.body()["error"]["param"].as_str().unwrap_or_default().to_owned();
        for (more, expected) in [
            (json!({"messages": []}), "messages"),
            (json!({"messages": [{"content": "x"}]}), "messages[0].role"),
            (json!({"messages": [{"role": "user", "content": 3}]}), "messages[0].content"),
            (
                json!({"messages": [{"role": "user", "content": [{"type": "image_url"}]}]}),
                "messages[0].content",
            ),
            (json!({"model": 3}), "model"),
            (json!({"model": "gpt-4"}), "model"),
            (json!({"temperature": 2.5}), "temperature"),
            (json!({"temperature": "hot"}), "temperature"),
            (json!({"top_p": 0}), "top_p"),
            (json!({"max_tokens": 0}), "max_tokens"),
            (json!({"max_completion_tokens": -4}), "max_completion_tokens"),
            (json!({"seed": 1.5}), "seed"),
            (json!({"stop": [""]}), "stop"),
            (json!({"stop": {"a": 1}}), "stop"),
            (json!({"n": 129}), "n"),
            (json!({"stream": "yes"}), "stream"),
            (json!({"stream_options": true}), "stream_options"),
            (json!({"tools": [{}]}), "tools"),
            (json!({"response_format": {"type": "json_object"}}), "response_format"),
            (json!({"presence_penalty": 0.5}), "presence_penalty"),
            (json!({"logprobs": true}), "logprobs"),
        ] {
            assert_eq!(field(chat(more.clone()).unwrap_err()), expected, "{more}");
        }
        for (more, expected) in [
            (json!({"prompt": null}), "prompt"),
            (json!({"prompt": []}), "prompt"),
            (json!({"prompt": [1, "a"]}), "prompt"),
            (json!({"prompt": [["a"]]}), "prompt"),
            (json!({"prompt": [-1]}), "prompt"),
            (json!({"prompt": vec!["a"; 200], "n": 6}), "prompt"),
            (json!({"logprobs": 21}), "logprobs"),
            (json!({"logprobs": 1, "stream": true}), "logprobs"),
            (json!({"echo": true, "stream": true}), "echo"),
            (json!({"best_of": 2}), "best_of"),
            (json!({"suffix": "x"}), "suffix"),
        ] {
            assert_eq!(field(completion(more.clone()).unwrap_err()), expected, "{more}");
        }
        for body in ["", "{", "[]", "3", "\u{0}"] {
            let refusal = Chat::read(body.as_bytes(), "m").unwrap_err();
            assert!(refusal.status == 400 && refusal.to_string().starts_with("the body"), "{refusal}");
        }
    }
}
