//! A tiny random model, served in-process and asked over the wire.

use std::{
    collections::BTreeMap,
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use burn::tensor::{Bool, Int, Tensor, TensorData, activation::log_softmax};
use contract::{Backend, CellDirs, Context, Event};
use lm::{
    LanguageModel, device,
    llama::{Llama, LlamaConfig, LlamaSize},
    tokenizer::Tokenizer,
};
use serde_json::{Value, json};

use crate::serve;

/// Tokens of the longest text.
const CONTEXT: usize = 160;

const TEMPLATE: &str = "{% for message in messages %}{% if message.role == 'tool' %}{{ raise_exception('no tools') }}\
    {% endif %}<|pad|>{{ message.role }}: {{ message.content }}{{ eos_token }}{% endfor %}\
    {% if add_generation_prompt %}<|pad|>assistant: {% endif %}";

/// A model whose weights are large enough that its texts are not all one token.
fn model(folder: &Path, template: bool) -> LanguageModel {
    let device = device::open(&Backend::default()).unwrap();
    let texts = (0..40).map(|i| format!("{i} plus {} is how much? The answer is {}", i % 7, i + i % 7));
    let tokenizer = Tokenizer::train(texts, 300).unwrap();
    let size = LlamaSize {
        hidden_size: 32,
        intermediate_size: 48,
        num_hidden_layers: 2,
        num_attention_heads: 4,
        num_key_value_heads: 2,
        vocab_size: tokenizer.vocab_size(),
    };
    let mut config = LlamaConfig::new(size, tokenizer.eos(), tokenizer.pad());
    (config.max_position_embeddings, config.initializer_range) = (CONTEXT, 0.3);
    let model = LanguageModel { model: Llama::init(&config, 5, &device), config, tokenizer };
    model.save(folder).unwrap();
    if template {
        fs::write(folder.join("chat_template.jinja"), TEMPLATE).unwrap();
    }
    LanguageModel::load(folder, &device).unwrap()
}

/// A running endpoint; it ends when dropped.
struct Endpoint {
    _folder: tempfile::TempDir,
    model: LanguageModel,
    address: SocketAddr,
    cancelled: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Endpoint {
    fn start(template: bool) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let model = model(folder.path(), template);
        let cancelled = Arc::new(AtomicBool::new(false));
        let (say, hear) = mpsc::channel();
        let (served, flag) = (model.clone(), Arc::clone(&cancelled));
        let thread = thread::spawn(move || {
            serve(served, "tiny", ("127.0.0.1", 0), &flag, &mut |address| say.send(address).unwrap())
                .unwrap();
        });
        let address = hear.recv().unwrap();
        Self { _folder: folder, model, address, cancelled, thread: Some(thread) }
    }

    fn url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    fn send(&self, path: &str, body: &str) -> (u16, String) {
        let agent = ureq::Agent::config_builder().proxy(None).http_status_as_error(false).build().new_agent();
        let mut reply = agent.post(format!("{}{path}", self.url())).send(body).unwrap();
        (reply.status().as_u16(), reply.body_mut().read_to_string().unwrap())
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        let (status, text) = self.send(path, &body.to_string());
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(&text).unwrap()
    }

    /// The status and the error of a request that is refused.
    fn refused(&self, path: &str, body: &str) -> (u16, Value) {
        let (status, text) = self.send(path, body);
        let error = serde_json::from_str::<Value>(&text).unwrap()["error"].clone();
        assert!(error["message"].is_string() && error["type"].is_string(), "{text}");
        (status, error)
    }

    /// The events of a stream, without the last one, which says that it is done.
    fn events(&self, path: &str, body: &Value) -> Vec<Value> {
        let (status, text) = self.send(path, &body.to_string());
        assert_eq!(status, 200, "{text}");
        let mut events: Vec<&str> = text.split("\n\n").filter(|event| !event.is_empty()).collect();
        assert_eq!(events.pop(), Some("data: [DONE]"));
        let read = |event: &&str| serde_json::from_str(event.strip_prefix("data: ").unwrap()).unwrap();
        events.iter().map(read).collect()
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.cancelled.store(true, Ordering::Relaxed);
        self.thread.take().map(JoinHandle::join).unwrap().unwrap();
    }
}

fn chat(more: Value) -> Value {
    let mut body = json!({
        "model": "tiny", "messages": [{"role": "user", "content": "3 plus 4 is how much?"}],
        "temperature": 0, "max_tokens": 24,
    });
    body.as_object_mut().unwrap().append(more.clone().as_object_mut().unwrap());
    body
}

fn said(reply: &Value, choice: usize) -> String {
    reply["choices"][choice]["message"]["content"].as_str().unwrap().to_owned()
}

#[test]
fn the_teachers_own_client_is_answered() {
    let endpoint = Endpoint::start(true);
    let folder = tempfile::tempdir().unwrap();
    let params: chat::Endpoint = serde_json::from_value(json!({
        "base_url": endpoint.url(), "model": "tiny", "temperature": 0.7, "top_p": 0.9, "max_tokens": 12,
        "retry": {"times": 0},
    }))
    .unwrap();
    let dirs = CellDirs {
        outputs: BTreeMap::new(),
        scratch: folder.path().join("scratch"),
        journals: folder.path().join("journals"),
    };
    fs::create_dir_all(&dirs.journals).unwrap();
    let (cancelled, observer) = (AtomicBool::new(false), |_: Event| {});
    let context = Context::new(BTreeMap::new(), dirs, 0, Backend::default(), &cancelled, &observer);
    let session = chat::Session::open(&params, &context, "teacher").unwrap();
    let request = |seed: u64| {
        let message = |role, content: &str| chat::Message { role, content: content.to_owned() };
        let messages = vec![message("system", "Sum."), message("user", "3 plus 4 is how much?")];
        chat::Request { messages, seed }
    };
    let seeds: Vec<u64> = (0..6).map(|seed| seed + (u64::MAX >> 1) - 6).collect();
    let completions = session.run(&seeds, "texts", |seed, ask| ask(&request(*seed))).unwrap();
    assert_eq!(completions.len(), 6);
    let prompter = lm::prompt::Prompter::new(&endpoint.model.tokenizer).unwrap();
    let turn = |role: &str, content: &str| lm::chat::Message { role: role.into(), content: content.into() };
    let turns = [turn("system", "Sum."), turn("user", "3 plus 4 is how much?")];
    let prompt = prompter.conversation(&turns).unwrap();
    for completion in &completions {
        assert_eq!(completion.usage.prompt_tokens, prompt.len() as u64);
        assert!((1..=12).contains(&completion.usage.completion_tokens));
        assert_eq!(completion.truncated, completion.usage.completion_tokens == 12, "{completion:?}");
    }
    let texts: std::collections::BTreeSet<&str> = completions.iter().map(|c| c.text.as_str()).collect();
    assert!(texts.len() > 3, "seeds decide the draws: {texts:?}");
}

#[test]
fn a_seed_decides_and_choices_differ() {
    let endpoint = Endpoint::start(true);
    let ask = |more: Value| endpoint.post("/chat/completions", &chat(more));
    let greedy = ask(json!({}));
    assert_eq!(said(&greedy, 0), said(&ask(json!({"seed": 9})), 0), "nothing is drawn");
    let usage = &greedy["usage"];
    let sum = usage["prompt_tokens"].as_u64().unwrap() + usage["completion_tokens"].as_u64().unwrap();
    assert_eq!(usage["total_tokens"], sum);
    let drawn = ask(json!({"temperature": 1, "seed": 3, "n": 3}));
    assert_eq!(drawn["choices"].as_array().unwrap().len(), 3);
    assert_ne!(said(&drawn, 0), said(&drawn, 1));
    let again = ask(json!({"temperature": 1, "seed": 3, "n": 1}));
    assert_eq!(said(&again, 0), said(&drawn, 0), "the company of other choices changes nothing");
    let (one, other) = (ask(json!({"temperature": 1})), ask(json!({"temperature": 1})));
    assert_ne!(said(&one, 0), said(&other, 0), "without a seed, each request has its own");
    assert_eq!(ask(json!({"max_tokens": 2}))["choices"][0]["finish_reason"], "length");
}

#[test]
fn streamed_pieces_join_to_the_same_text() {
    let endpoint = Endpoint::start(true);
    let wanted = json!({"temperature": 1, "seed": 5, "n": 2});
    let whole = endpoint.post("/chat/completions", &chat(wanted));
    let options = json!({"temperature": 1, "seed": 5, "n": 2, "stream": true, "stream_options": {"include_usage": true}});
    let mut events = endpoint.events("/chat/completions", &chat(options));
    let last = events.pop().unwrap();
    assert_eq!((&last["usage"], last["choices"].as_array().unwrap().len()), (&whole["usage"], 0));
    for choice in 0..2 {
        let of = |event: &&Value| event["choices"][0]["index"] == choice;
        let mine: Vec<&Value> = events.iter().filter(of).collect();
        let pieces: Vec<&str> =
            mine.iter().filter_map(|event| event["choices"][0]["delta"]["content"].as_str()).collect();
        assert_eq!(pieces.concat(), said(&whole, choice));
        assert!(pieces.len() > 3, "{pieces:?}");
        assert_eq!(mine[0]["choices"][0]["delta"]["role"], "assistant");
        let finish = &mine.last().unwrap()["choices"][0]["finish_reason"];
        assert_eq!(finish, &whole["choices"][choice]["finish_reason"]);
    }
    let body = json!({"prompt": "3 plus", "temperature": 0, "max_tokens": 9});
    let whole = endpoint.post("/completions", &body);
    let body = json!({"prompt": "3 plus", "temperature": 0, "max_tokens": 9, "stream": true});
    let events = endpoint.events("/completions", &body);
    let pieces: String = events.iter().map(|event| event["choices"][0]["text"].as_str().unwrap()).collect();
    assert_eq!(whole["choices"][0]["text"], pieces);
}

#[test]
fn a_stop_string_ends_a_text() {
    let endpoint = Endpoint::start(true);
    let whole = said(&endpoint.post("/chat/completions", &chat(json!({}))), 0);
    let middle = whole.char_indices().nth(whole.chars().count() / 2).unwrap().0;
    let stop: String = whole[middle..].chars().take(2).collect();
    let cut = endpoint.post("/chat/completions", &chat(json!({"stop": ["never said", stop]})));
    assert_eq!(said(&cut, 0), whole[..whole.find(&stop).unwrap()]);
    assert_eq!(cut["choices"][0]["finish_reason"], "stop");
}

/// Log-probabilities of every token after every token of a text.
fn log_probs(model: &LanguageModel, tokens: &[u64]) -> Vec<Vec<f64>> {
    let device = device::open(&Backend::default()).unwrap();
    let length = tokens.len();
    let ids: Vec<i32> = tokens.iter().map(|token| *token as i32).collect();
    let positions: Vec<i32> = (0..length as i32).collect();
    let causal: Vec<bool> = (0..length * length).map(|i| i % length <= i / length).collect();
    let hidden = model.model.hidden(
        Tensor::<2, Int>::from_data(TensorData::new(ids, [1, length]), &device),
        Tensor::<2, Int>::from_data(TensorData::new(positions, [1, length]), &device),
        Tensor::<3, Bool>::from_data(TensorData::new(causal, [1, length, length]), &device),
    );
    let logits = model.model.logits(hidden.reshape([length, 32]));
    let width = logits.dims()[1];
    let values: Vec<f64> = log_softmax(logits, 1).into_data().iter::<f64>().collect();
    values.chunks(width).map(<[f64]>::to_vec).collect()
}

#[test]
fn echoed_log_probabilities_are_those_of_the_whole_sequence() {
    let endpoint = Endpoint::start(false);
    let text = "3 plus 4 is how much? The answer is 7";
    let tokens: Vec<u64> =
        endpoint.model.tokenizer.encode(text).unwrap().into_iter().map(u64::from).collect();
    let expected = log_probs(&endpoint.model, &tokens);
    for prompt in [json!(text), json!(tokens), json!([tokens]), json!([text])] {
        let body = json!({"prompt": prompt, "max_tokens": 0, "echo": true, "logprobs": 3});
        let reply = endpoint.post("/completions", &body);
        let choice = &reply["choices"][0];
        assert_eq!((&choice["text"], &choice["finish_reason"]), (&json!(text), &json!("length")));
        assert_eq!(reply["usage"]["completion_tokens"], 0);
        let logprobs = &choice["logprobs"];
        assert!(logprobs["token_logprobs"][0].is_null() && logprobs["top_logprobs"][0].is_null());
        let pieces: Vec<&str> =
            logprobs["tokens"].as_array().unwrap().iter().map(|t| t.as_str().unwrap()).collect();
        assert_eq!((pieces.len(), pieces.concat()), (tokens.len(), text.to_owned()));
        for place in 1..tokens.len() {
            let row = &expected[place - 1];
            let found = logprobs["token_logprobs"][place].as_f64().unwrap();
            let wanted = row[tokens[place] as usize];
            assert!((found - wanted).abs() < 1e-4, "token {place}: {found} is not {wanted}");
            let top = logprobs["top_logprobs"][place].as_object().unwrap();
            assert!((1..=3).contains(&top.len()), "{top:?}");
            let most = |values: &mut dyn Iterator<Item = f64>| values.fold(f64::NEG_INFINITY, f64::max);
            let best = most(&mut top.values().map(|value| value.as_f64().unwrap()));
            assert!((best - most(&mut row.iter().copied())).abs() < 1e-4);
            let offset = logprobs["text_offset"][place].as_u64().unwrap() as usize;
            assert_eq!(&text[offset..offset + pieces[place].len()], pieces[place]);
        }
    }
    // What is written is scored as the prompt is, and what was likeliest has the largest value.
    let body =
        json!({"prompt": [text, "1 plus"], "max_tokens": 3, "echo": true, "logprobs": 1, "temperature": 0});
    let reply = endpoint.post("/completions", &body);
    let list = reply["choices"][0]["logprobs"]["token_logprobs"].as_array().unwrap();
    let written = reply["choices"][0]["text"].as_str().unwrap().strip_prefix(text).unwrap();
    assert!(list.len() > tokens.len() && list.len() <= tokens.len() + 3, "{written}");
    let tops = &reply["choices"][0]["logprobs"]["top_logprobs"];
    for place in tokens.len()..list.len() {
        let best = tops[place].as_object().unwrap().values().next().unwrap();
        assert_eq!(best, &list[place], "greedy takes the likeliest token");
    }
    assert!(reply["choices"][1]["text"].as_str().unwrap().starts_with("1 plus"));
    let body = json!({"prompt": text, "max_tokens": 3, "logprobs": 0, "temperature": 0});
    let without = endpoint.post("/completions", &body);
    assert_eq!(without["choices"][0]["text"], written);
    let tail = without["choices"][0]["logprobs"]["token_logprobs"].as_array().unwrap();
    assert_eq!(tail.len(), list.len() - tokens.len());
}

#[test]
fn a_client_may_apply_the_template_itself() {
    let endpoint = Endpoint::start(true);
    let conversation = endpoint.post("/chat/completions", &chat(json!({})));
    let eos = endpoint.model.tokenizer.token(endpoint.model.tokenizer.eos()).unwrap();
    let prompt = format!("<|pad|>user: 3 plus 4 is how much?{eos}<|pad|>assistant: ");
    let body = json!({"prompt": prompt, "temperature": 0, "max_tokens": 24, "echo": true, "logprobs": 0});
    let reply = endpoint.post("/completions", &body);
    let text = reply["choices"][0]["text"].as_str().unwrap();
    assert_eq!(text, prompt.clone() + &said(&conversation, 0));
    assert_eq!(reply["usage"], conversation["usage"], "a special token spelled out is one token");
    let logprobs = &reply["choices"][0]["logprobs"];
    let pieces = logprobs["tokens"].as_array().unwrap().iter().map(|piece| piece.as_str().unwrap());
    let offsets = logprobs["text_offset"].as_array().unwrap().iter().map(|at| at.as_u64().unwrap() as usize);
    let prompt_tokens = reply["usage"]["prompt_tokens"].as_u64().unwrap() as usize;
    for (piece, at) in pieces.clone().zip(offsets).take(prompt_tokens) {
        assert!(prompt[at..].starts_with(piece), "`{piece}` at {at}");
    }
    assert_eq!(pieces.take(prompt_tokens).collect::<String>(), prompt);
}

#[test]
fn without_a_template_a_conversation_is_a_plain_prompt() {
    let endpoint = Endpoint::start(false);
    let reply = endpoint.post("/chat/completions", &chat(json!({})));
    let body = json!({"prompt": "3 plus 4 is how much?", "temperature": 0, "max_tokens": 24});
    assert_eq!(said(&reply, 0), endpoint.post("/completions", &body)["choices"][0]["text"].as_str().unwrap());
    // As many as there is room for.
    let mut body = chat(json!({"temperature": 2, "seed": 1}));
    body.as_object_mut().unwrap().remove("max_tokens");
    let reply = endpoint.post("/chat/completions", &body);
    let total = reply["usage"]["total_tokens"].as_u64().unwrap();
    let full = reply["choices"][0]["finish_reason"] == "length";
    assert!(if full { total == CONTEXT as u64 } else { total <= CONTEXT as u64 }, "{reply}");
}

#[test]
fn what_cannot_be_answered_is_refused_with_a_reason() {
    let endpoint = Endpoint::start(true);
    for body in ["", "{", "[1]", "{\"messages\": 3}", "\u{1}", "{\"messages\": [{\"role\": \"user\"}]}"] {
        assert_eq!(endpoint.refused("/chat/completions", body).0, 400, "{body}");
        assert_eq!(endpoint.refused("/completions", body).0, 400, "{body}");
    }
    let (status, error) = endpoint.refused("/chat/completions", &chat(json!({"top_p": 7})).to_string());
    assert_eq!(
        (status, &error["param"], &error["type"]),
        (400, &json!("top_p"), &json!("invalid_request_error"))
    );

    let (status, error) =
        endpoint.refused("/chat/completions", &chat(json!({"max_tokens": 4000})).to_string());
    assert_eq!((status, &error["code"]), (400, &json!("context_length_exceeded")));
    assert!(error["message"].as_str().unwrap().starts_with("this model's context is 160 tokens"), "{error}");
    let long = json!({"prompt": vec![5; 161], "max_tokens": 0, "echo": true, "logprobs": 1});
    assert_eq!(endpoint.refused("/completions", &long.to_string()).1["code"], "context_length_exceeded");
    let unknown = json!({"prompt": [5, 70_000], "max_tokens": 1});
    let (_, error) = endpoint.refused("/completions", &unknown.to_string());
    assert!(error["message"].as_str().unwrap().starts_with("`prompt` has token 70000"), "{error}");
    assert_eq!(endpoint.refused("/completions", "{\"prompt\": \"\"}").1["param"], "prompt");

    let tool = chat(json!({"messages": [{"role": "tool", "content": "x"}]})).to_string();
    let (status, error) = endpoint.refused("/chat/completions", &tool);
    assert!(status == 400 && error["message"].as_str().unwrap().contains("no tools"), "{error}");
    // A stream that is refused has the status, too.
    let stream = chat(json!({"max_tokens": 4000, "stream": true})).to_string();
    assert_eq!(endpoint.refused("/chat/completions", &stream).0, 400);

    assert_eq!(endpoint.refused("/chat/completions", &chat(json!({"model": "other"})).to_string()).0, 404);
    assert_eq!(endpoint.refused("/embeddings", "{}").0, 404);
    assert_eq!(endpoint.refused("/models", "{}").0, 405);
    let large = format!("{{\"prompt\": \"{}\"}}", "a".repeat(9 << 20));
    assert_eq!(endpoint.refused("/completions", &large).0, 413);
    // After all that, it still answers.
    assert!(!said(&endpoint.post("/chat/completions", &chat(json!({}))), 0).is_empty());
}

#[test]
fn models_are_listed_and_noise_on_the_wire_hurts_nobody() {
    let endpoint = Endpoint::start(false);
    for noise in
        ["\u{0}\u{1}\r\n\r\n", "POST /v1/completions HTTP/1.1\r\nContent-Length: 50\r\n\r\n{", "GET\r\n\r\n"]
    {
        let mut stream = TcpStream::connect(endpoint.address).unwrap();
        stream.write_all(noise.as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        // Whatever it says; it must only not hang.
        stream.read_to_end(&mut Vec::new()).ok();
    }
    let agent = ureq::Agent::config_builder().proxy(None).build().new_agent();
    let mut reply = agent.get(format!("{}/models", endpoint.url())).call().unwrap();
    let models: Value = serde_json::from_str(&reply.body_mut().read_to_string().unwrap()).unwrap();
    assert_eq!((&models["object"], &models["data"][0]["id"]), (&json!("list"), &json!("tiny")));
    assert_eq!(models["data"][0]["max_model_len"], CONTEXT);
    // HTTP/1.0 knows no chunks: the end of the connection is the end of the stream.
    let body = json!({"prompt": "3 plus", "temperature": 0, "max_tokens": 4, "stream": true}).to_string();
    let mut stream = TcpStream::connect(endpoint.address).unwrap();
    write!(stream, "POST /v1/completions HTTP/1.0\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.ends_with("data: [DONE]\n\n") && !text.contains("chunked"), "{text}");
}
