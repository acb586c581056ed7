//! The shapes that go back, as OpenAI documents them.

use lm::{score::Scored, tokenizer::Tokenizer};
use serde_json::{Map, Value, json};

use crate::refusal::Refusal;

/// Tokens that a request took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) prompt: usize,
    pub(crate) completion: usize,
}

impl Usage {
    fn json(self) -> Value {
        let Self { prompt, completion } = self;
        let total = prompt + completion;
        json!({"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": total})
    }
}

/// What all replies to one request have in common.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) id: String,
    pub(crate) model: String,
    /// Seconds since 1970.
    pub(crate) created: u64,
    pub(crate) form: Form,
}

/// Which endpoint answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form {
    Chat,
    Completion,
}

impl Frame {
    fn reply(&self, object: &str, choices: Value) -> Value {
        let Self { id, model, created, .. } = self;
        json!({"id": id, "object": object, "created": created, "model": model, "choices": choices})
    }

    /// A whole reply.
    pub(crate) fn whole(&self, choices: Vec<Value>, usage: Usage) -> Value {
        let object = match self.form {
            Form::Chat => "chat.completion",
            Form::Completion => "text_completion",
        };
        let mut reply = self.reply(object, choices.into());
        reply["usage"] = usage.json();
        reply
    }

    /// One choice of a whole reply.
    pub(crate) fn choice(&self, index: usize, text: &str, cut: bool, logprobs: Option<Value>) -> Value {
        let finish = finish(cut);
        match self.form {
            Form::Chat => {
                let message = json!({"role": "assistant", "content": text});
                json!({"index": index, "message": message, "logprobs": null, "finish_reason": finish})
            }
            Form::Completion => {
                json!({"index": index, "text": text, "logprobs": logprobs, "finish_reason": finish})
            }
        }
    }

    fn chunk(&self, choices: Value) -> Value {
        let object = match self.form {
            Form::Chat => "chat.completion.chunk",
            Form::Completion => "text_completion",
        };
        self.reply(object, choices)
    }

    /// Opens a choice in a stream.
    pub(crate) fn opening(&self, index: usize) -> Option<Value> {
        let delta = json!({"role": "assistant", "content": ""});
        (self.form == Form::Chat)
            .then(|| self.chunk(json!([{"index": index, "delta": delta, "finish_reason": null}])))
    }

    /// A piece of a choice in a stream.
    pub(crate) fn piece(&self, index: usize, text: &str) -> Value {
        self.chunk(match self.form {
            Form::Chat => json!([{"index": index, "delta": {"content": text}, "finish_reason": null}]),
            Form::Completion => {
                json!([{"index": index, "text": text, "logprobs": null, "finish_reason": null}])
            }
        })
    }

    /// Closes a choice in a stream.
    pub(crate) fn closing(&self, index: usize, cut: bool) -> Value {
        let finish = finish(cut);
        self.chunk(match self.form {
            Form::Chat => json!([{"index": index, "delta": {}, "finish_reason": finish}]),
            Form::Completion => {
                json!([{"index": index, "text": "", "logprobs": null, "finish_reason": finish}])
            }
        })
    }

    /// What a stream took; it has no choices.
    pub(crate) fn closing_usage(&self, usage: Usage) -> Value {
        let mut chunk = self.chunk(json!([]));
        chunk["usage"] = usage.json();
        chunk
    }
}

fn finish(cut: bool) -> &'static str {
    if cut { "length" } else { "stop" }
}

/// The list of models, which has one.
pub(crate) fn models(name: &str, started: u64, context: usize) -> Value {
    let model = json!({
        "id": name, "object": "model", "created": started, "owned_by": "retort", "max_model_len": context,
    });
    json!({"object": "list", "data": [model]})
}

/// The `logprobs` of a completion. The first token of a prompt has no log-probability, which is a null.
///
/// `offset` is where the first token begins in the text, in characters.
pub(crate) fn logprobs(
    tokenizer: &Tokenizer,
    first: Option<u32>,
    scored: &[Scored],
    offset: usize,
) -> Result<Value, Refusal> {
    let mut tokens = Vec::new();
    let mut offsets = Vec::new();
    let mut at = offset;
    // Bytes of one character can be spread over tokens; the offset moves when it is whole.
    let mut pending: Vec<u32> = Vec::new();
    for token in first.into_iter().chain(scored.iter().map(|scored| scored.token)) {
        tokens.push(tokenizer.decode_rendered(&[token])?);
        offsets.push(at);
        pending.push(token);
        let text = tokenizer.decode_rendered(&pending)?;
        if !text.ends_with(char::REPLACEMENT_CHARACTER) {
            at += text.chars().count();
            pending.clear();
        }
    }
    let log_probs = first.map(|_| Value::Null).into_iter();
    let log_probs: Vec<Value> = log_probs.chain(scored.iter().map(|scored| json!(scored.log_prob))).collect();
    let mut tops: Vec<Value> = first.iter().map(|_| Value::Null).collect();
    for scored in scored {
        let mut top = Map::new();
        for (token, log_prob) in &scored.top {
            // Of two tokens that are written alike, the likelier one.
            top.entry(tokenizer.decode_rendered(&[*token])?).or_insert_with(|| json!(log_prob));
        }
        tops.push(Value::Object(top));
    }
    Ok(json!({"tokens": tokens, "token_logprobs": log_probs, "top_logprobs": tops, "text_offset": offsets}))
}
