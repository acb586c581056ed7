//! Computes what a request asks for.

use std::{
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{SystemTime, UNIX_EPOCH},
};

use contract::StageError;
use lm::{
    LanguageModel, LmError,
    generate::{Options, Request, stream_all},
    prompt::Prompter,
    sample::Sampling,
    score::score,
    tokenizer::Tokenizer,
};
use serde_json::Value;

use crate::{
    refusal::Refusal,
    reply::{Form, Frame, Usage, logprobs},
    request::{Chat, Completion, Prompt, Writing},
};

/// Texts written side by side.
const BATCH_SIZE: usize = 16;

/// The model with what is known of it while it computes for someone.
pub(crate) struct Served {
    pub(crate) name: String,
    /// Seconds since 1970.
    pub(crate) started: u64,
    /// Tokens of the longest text.
    pub(crate) context: usize,
    tokenizer: Tokenizer,
    vocabulary: usize,
    model: Mutex<LanguageModel>,
    /// Requests so far: the seed of one that has none, and its id.
    requests: AtomicU64,
}

/// Hears of every event of a stream.
pub(crate) type OnEvent<'a> = dyn FnMut(&Value) -> Result<(), StageError> + 'a;

/// Where the answer goes.
pub(crate) enum Outlet<'a> {
    /// Back in one piece.
    Whole,
    /// Event by event.
    Stream(&'a mut OnEvent<'a>),
}

impl Served {
    /// A model to be served under a name; refused where its chat template does not compile.
    pub(crate) fn new(model: LanguageModel, name: &str) -> Result<Self, LmError> {
        Prompter::new(&model.tokenizer)?;
        Ok(Self {
            name: name.to_owned(),
            started: now(),
            context: model.config.max_position_embeddings,
            tokenizer: model.tokenizer.clone(),
            vocabulary: model.config.vocab_size,
            model: Mutex::new(model),
            requests: AtomicU64::new(0),
        })
    }

    /// Answers a conversation. A whole reply is returned, a stream goes to the outlet.
    pub(crate) fn chat(
        &self,
        chat: &Chat,
        outlet: Outlet<'_>,
        cancelled: &AtomicBool,
    ) -> Result<Value, Refusal> {
        let prompt = Prompter::new(&self.tokenizer)?.conversation(&chat.messages)?;
        let echo = Echo { text: None, logprobs: None };
        self.write(Form::Chat, &[prompt], &chat.writing, &echo, outlet, cancelled)
    }

    /// Continues prompts. Their texts are what the model reads, as other servers take them: a special token spelled out in
    /// one is that token, so that a client can apply the chat template itself.
    pub(crate) fn complete(
        &self,
        completion: &Completion,
        outlet: Outlet<'_>,
        cancelled: &AtomicBool,
    ) -> Result<Value, Refusal> {
        let mut prompts = Vec::with_capacity(completion.prompts.len());
        let mut texts = Vec::with_capacity(completion.prompts.len());
        for prompt in &completion.prompts {
            let (tokens, text) = match prompt {
                Prompt::Text(text) => (self.tokenizer.encode_rendered(text)?, text.clone()),
                Prompt::Tokens(tokens) => {
                    if let Some(id) = tokens.iter().find(|id| **id as usize >= self.vocabulary) {
                        let problem = format!("has token {id}, but the model has {} tokens", self.vocabulary);
                        return Err(Refusal::field("prompt", problem));
                    }
                    (tokens.clone(), self.tokenizer.decode_rendered(tokens)?)
                }
            };
            if tokens.is_empty() {
                return Err(Refusal::field("prompt", "is empty; it needs at least one token"));
            }
            prompts.push(tokens);
            texts.push(text);
        }
        let echo = Echo { text: completion.echo.then_some(texts), logprobs: completion.logprobs };
        self.write(Form::Completion, &prompts, &completion.writing, &echo, outlet, cancelled)
    }

    /// How many tokens there may be after a prompt.
    fn room(&self, prompt: usize, writing: &Writing) -> Result<usize, Refusal> {
        let context = self.context;
        let wanted = writing.max_tokens.unwrap_or_else(|| context.saturating_sub(prompt).max(1));
        if prompt + wanted <= context {
            return Ok(wanted);
        }
        let message = format!(
            "this model's context is {context} tokens, but the prompt has {prompt} and {wanted} are to be written; \
             shorten the prompt or lower `max_tokens`"
        );
        Err(Refusal::of(400, "context_length_exceeded", message).at("max_tokens"))
    }

    fn write(
        &self,
        form: Form,
        prompts: &[Vec<u32>],
        writing: &Writing,
        echo: &Echo,
        outlet: Outlet<'_>,
        cancelled: &AtomicBool,
    ) -> Result<Value, Refusal> {
        let rooms: Vec<usize> =
            prompts.iter().map(|prompt| self.room(prompt.len(), writing)).collect::<Result<_, _>>()?;
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        let prefix = match form {
            Form::Chat => "chatcmpl",
            Form::Completion => "cmpl",
        };
        let id = format!("{prefix}-{}-{number}", self.started);
        let frame = Frame { id, model: self.name.clone(), created: now(), form };
        let requests: Vec<Request> = prompts
            .iter()
            .flat_map(|prompt| {
                // The seed and the number of the choice decide every draw, whatever else the request asks for.
                (0..writing.choices).map(|sample| Request {
                    prompt: prompt.clone(),
                    item: String::new(),
                    sample,
                })
            })
            .collect();
        let options = Options {
            max_new_tokens: rooms.iter().copied().min().unwrap_or(0),
            batch_size: BATCH_SIZE,
            sampling: (writing.temperature > 0.0).then_some(Sampling {
                temperature: writing.temperature,
                top_k: None,
                top_p: writing.top_p,
                seed: writing.seed.unwrap_or(number),
            }),
        };
        let go_on = || match cancelled.load(Ordering::Relaxed) {
            true => Err(StageError::Cancelled),
            false => Ok(()),
        };
        let model = self.model();
        match outlet {
            Outlet::Whole => {
                let answers =
                    stream_all(&model, &requests, &options, &writing.stop, &go_on, &mut |_, _| Ok(()))?;
                let mut usage = usage(prompts);
                let mut choices = Vec::with_capacity(answers.len());
                for (index, answer) in answers.iter().enumerate() {
                    usage.completion += answer.generation.tokens;
                    let place = index / writing.choices;
                    let before = echo.text.as_ref().map_or("", |texts| &texts[place]);
                    let text = format!("{before}{}", answer.generation.text);
                    let logprobs = echo
                        .logprobs
                        .map(|top| {
                            let (prompt, echoed) = (&prompts[place], echo.text.is_some());
                            let tokens = [&prompt[..], &answer.written].concat();
                            let from = if echoed { 1 } else { prompt.len() };
                            let scored = score(&model, &tokens, from, top, &go_on)?;
                            logprobs(&self.tokenizer, echoed.then(|| prompt[0]), &scored, 0)
                        })
                        .transpose()?;
                    choices.push(frame.choice(index, &text, answer.generation.truncated, logprobs));
                }
                Ok(frame.whole(choices, usage))
            }
            Outlet::Stream(on_event) => {
                for index in 0..requests.len() {
                    if let Some(opening) = frame.opening(index) {
                        on_event(&opening)?;
                    }
                }
                let answers =
                    stream_all(&model, &requests, &options, &writing.stop, &go_on, &mut |index, piece| {
                        on_event(&frame.piece(index, piece))
                    })?;
                drop(model);
                let mut usage = usage(prompts);
                for (index, answer) in answers.iter().enumerate() {
                    usage.completion += answer.generation.tokens;
                    on_event(&frame.closing(index, answer.generation.truncated))?;
                }
                if writing.stream_usage {
                    on_event(&frame.closing_usage(usage))?;
                }
                Ok(Value::Null)
            }
        }
    }

    /// The model, once nobody else computes with it.
    fn model(&self) -> MutexGuard<'_, LanguageModel> {
        // Nothing changes the model, so a panic elsewhere left it whole.
        self.model.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What of the prompt comes back.
struct Echo {
    /// The texts of the prompts.
    text: Option<Vec<String>>,
    /// How many of the likeliest tokens come with each token.
    logprobs: Option<usize>,
}

/// What the prompts take; each is read once, however many choices follow.
fn usage(prompts: &[Vec<u32>]) -> Usage {
    Usage { prompt: prompts.iter().map(Vec::len).sum(), completion: 0 }
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
