//! Carries requests and replies: HTTP/1.1 on one port, one thread a request.

use std::{
    io::{self, Read, Write},
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use contract::StageError;
use lm::{LanguageModel, LmError};
use serde_json::Value;
use tiny_http::{HTTPVersion, Method, Request, Server, StatusCode};

use crate::{
    answer::{Outlet, Served},
    refusal::Refusal,
    reply,
    request::{Chat, Completion},
};

/// Largest body that is read, bytes.
const LARGEST_BODY: u64 = 8 << 20;

/// Most requests that may wait.
const MOST_WAITING: usize = 256;

/// One request a connection: a kept one holds a thread of `tiny_http`'s pool, and connections that come at once may all be
/// queued behind four such threads. A client told so hangs up after the reply. `tiny_http` itself drops this header from a
/// response, so heads are written here.
const CLOSE: &str = "Connection: close\r\n";

/// Longest time between two looks at whether serving is to end.
const SLICE: Duration = Duration::from_millis(100);

/// Why a model cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on `{host}:{port}`: {problem}")]
    Listen {
        /// The host.
        host: String,
        /// The port.
        port: u16,
        /// Why not.
        problem: String,
    },
    /// The connection point broke down.
    #[error("cannot accept connections")]
    Accept(#[source] io::Error),
    /// The model's chat template does not compile.
    #[error(transparent)]
    Model(#[from] LmError),
}

impl From<ServeError> for StageError {
    fn from(error: ServeError) -> Self {
        match error {
            ServeError::Model(error) => error.into(),
            ServeError::Listen { .. } => {
                Self::failed(error).with_help("name another `--port`; 0 takes any that is free")
            }
            ServeError::Accept(_) => Self::failed(error),
        }
    }
}

/// Serves a model under a name until `cancelled` is set; `on_listening` hears where. Port 0 takes any that is free.
///
/// Requests under way when it is set are ended with an error.
pub fn serve(
    model: LanguageModel,
    name: &str,
    (host, port): (&str, u16),
    cancelled: &AtomicBool,
    on_listening: &mut dyn FnMut(SocketAddr),
) -> Result<(), ServeError> {
    let served = Served::new(model, name)?;
    let refused = |problem: String| ServeError::Listen { host: host.to_owned(), port, problem };
    let server = Server::http((host, port)).map_err(|error| refused(error.to_string()))?;
    let address =
        server.server_addr().to_ip().ok_or_else(|| refused("it is no network address".to_owned()))?;
    on_listening(address);
    let waiting = AtomicUsize::new(0);
    thread::scope(|scope| {
        while !cancelled.load(Ordering::Relaxed) {
            let request = match server.recv_timeout(SLICE) {
                Ok(Some(request)) => request,
                Ok(None) => continue,
                Err(error) => {
                    // Ends those under way, too.
                    cancelled.store(true, Ordering::Relaxed);
                    return Err(ServeError::Accept(error));
                }
            };
            if waiting.fetch_add(1, Ordering::Relaxed) >= MOST_WAITING {
                waiting.fetch_sub(1, Ordering::Relaxed);
                let message = format!("{MOST_WAITING} requests are waiting already; try again later");
                send(request, &Err(Refusal::of(503, "overloaded", message)));
                continue;
            }
            let (served, waiting) = (&served, &waiting);
            scope.spawn(move || {
                answer(request, served, cancelled);
                waiting.fetch_sub(1, Ordering::Relaxed);
            });
        }
        Ok(())
    })
}

/// What a request wants, once it is read.
enum Wanted {
    Models,
    Chat(Chat),
    Completion(Completion),
}

impl Wanted {
    fn streamed(&self) -> bool {
        match self {
            Self::Models => false,
            Self::Chat(chat) => chat.writing.stream,
            Self::Completion(completion) => completion.writing.stream,
        }
    }

    fn answer(&self, served: &Served, outlet: Outlet<'_>, cancelled: &AtomicBool) -> Result<Value, Refusal> {
        let answered = catch_unwind(AssertUnwindSafe(|| match self {
            Self::Models => Ok(reply::models(&served.name, served.started, served.context)),
            Self::Chat(chat) => served.chat(chat, outlet, cancelled),
            Self::Completion(completion) => served.complete(completion, outlet, cancelled),
        }));
        // The panic itself is logged by whoever set the hook.
        answered
            .unwrap_or_else(|_| Err(Refusal::of(500, "internal_error", "a bug in retort; please report it")))
    }
}

fn answer(mut request: Request, served: &Served, cancelled: &AtomicBool) {
    let wanted = read(&mut request, served);
    match wanted {
        Ok(wanted) if wanted.streamed() => stream(request, &wanted, served, cancelled),
        Ok(wanted) => send(request, &wanted.answer(served, Outlet::Whole, cancelled)),
        Err(refusal) => send(request, &Err(refusal)),
    }
}

fn read(request: &mut Request, served: &Served) -> Result<Wanted, Refusal> {
    let path = request.url().split(['?', '#']).next().unwrap_or_default().trim_end_matches('/').to_owned();
    let method = match path.as_str() {
        "/v1/models" => Method::Get,
        "/v1/chat/completions" | "/v1/completions" => Method::Post,
        _ => {
            let known = "`/v1/models`, `/v1/chat/completions`, `/v1/completions`";
            return Err(Refusal::of(404, "not_found", format!("nothing is at `{path}`; there are {known}")));
        }
    };
    if *request.method() != method {
        let message = format!("`{path}` takes {method}, not {}", request.method());
        return Err(Refusal::of(405, "method_not_allowed", message));
    }
    if method == Method::Get {
        return Ok(Wanted::Models);
    }
    let too_large = || {
        let message = format!("the body is larger than {} MiB", LARGEST_BODY >> 20);
        Refusal::of(413, "body_too_large", message)
    };
    if request.body_length().is_some_and(|length| length as u64 > LARGEST_BODY) {
        return Err(too_large());
    }
    let mut body = Vec::new();
    let unreadable = |error: io::Error| Refusal::request(format!("the body cannot be read: {error}"));
    request.as_reader().take(LARGEST_BODY + 1).read_to_end(&mut body).map_err(unreadable)?;
    if body.len() as u64 > LARGEST_BODY {
        return Err(too_large());
    }
    Ok(match path.as_str() {
        "/v1/chat/completions" => Wanted::Chat(Chat::read(&body, &served.name)?),
        _ => Wanted::Completion(Completion::read(&body, &served.name)?),
    })
}

fn send(request: Request, answer: &Result<Value, Refusal>) {
    let (status, body) = match answer {
        Ok(body) => (200, body.to_string()),
        Err(refusal) => (refusal.status, refusal.body().to_string()),
    };
    let status = StatusCode(status);
    let head = format!(
        "HTTP/1.1 {} {}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n{CLOSE}\r\n",
        status.0,
        status.default_reason_phrase(),
        body.len()
    );
    let mut writer = request.into_writer();
    let sent = writer.write_all((head + &body).as_bytes()).and_then(|()| writer.flush());
    if let Err(error) = sent {
        tracing::debug!(%error, "a client went away");
    }
}

/// Answers with server-sent events. The head is sent with the first event, so that a request refused before it has the
/// status it should have.
fn stream(request: Request, wanted: &Wanted, served: &Served, cancelled: &AtomicBool) {
    let chunked = *request.http_version() >= HTTPVersion(1, 1);
    let mut events = Events { request: Some(request), writer: None, chunked };
    let answered = {
        let mut on_event = |event: &Value| events.send(&event.to_string()).map_err(StageError::failed);
        wanted.answer(served, Outlet::Stream(&mut on_event), cancelled)
    };
    let ended = match (answered, events.request.take()) {
        (Err(refusal), Some(request)) => return send(request, &Err(refusal)),
        (Err(refusal), None) => events.send(&refusal.body().to_string()).and_then(|()| events.end()),
        (Ok(_), request) => {
            events.request = request;
            events.send("[DONE]").and_then(|()| events.end())
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "a client went away");
    }
}

/// A reply of server-sent events.
struct Events {
    /// Until the head is sent.
    request: Option<Request>,
    writer: Option<Box<dyn Write + Send>>,
    /// Whether the client understands chunks; without them, the end of the connection is the end.
    chunked: bool,
}

impl Events {
    fn send(&mut self, data: &str) -> io::Result<()> {
        if let Some(request) = self.request.take() {
            let mut writer = request.into_writer();
            let length = if self.chunked { "Transfer-Encoding: chunked\r\n" } else { "" };
            write!(
                writer,
                "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\n{length}{CLOSE}\r\n"
            )?;
            self.writer = Some(writer);
        }
        self.put(&format!("data: {data}\n\n"))
    }

    fn end(&mut self) -> io::Result<()> {
        self.put("")
    }

    /// One chunk; the empty one is the last.
    fn put(&mut self, text: &str) -> io::Result<()> {
        let Some(writer) = &mut self.writer else { return Ok(()) };
        if self.chunked {
            write!(writer, "{:x}\r\n{text}\r\n", text.len())?;
        } else {
            writer.write_all(text.as_bytes())?;
        }
        writer.flush()
    }
}
