//! A chat endpoint for tests: answers what a script says, fails on purpose, and counts what it delivered.

use std::{
    collections::BTreeMap,
    io::{self, BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

/// A request as the endpoint sees it.
#[derive(Clone, Debug)]
pub struct Asked {
    /// The last message, the model and the seed: what makes an item.
    pub item: String,
    /// The last message alone.
    pub prompt: String,
    /// The seed, 0 without one.
    pub seed: u64,
    /// How often this item was asked before.
    pub before: usize,
    /// Requests of all items before this one.
    pub count: usize,
    /// The `Authorization` header.
    pub authorization: Option<String>,
    /// The whole body.
    pub body: Value,
}

/// What the endpoint does with a request.
#[derive(Clone, Debug)]
pub enum Reply {
    /// A good completion of this text.
    Good(String),
    /// A status other than 200 with these headers and this body.
    Status(u16, Vec<(&'static str, String)>, String),
    /// Status 200 with this body, whatever it is.
    Body(String),
    /// A good completion of which half the bytes are sent before the connection closes.
    Truncated(String),
    /// The connection is reset without a reply.
    Reset,
    /// Nothing for so long, then the connection closes.
    Stall(Duration),
}

/// What happened to one item.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Requests.
    pub asked: usize,
    /// Good completions whose every byte was handed to the connection.
    pub delivered: usize,
}

type Script = dyn Fn(&Asked) -> Reply + Send + Sync;

struct Shared {
    script: Box<Script>,
    tallies: Mutex<BTreeMap<String, Tally>>,
    closing: AtomicBool,
}

/// A running endpoint; it stops when dropped.
pub struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
}

impl Server {
    /// Starts on a free port of this machine.
    pub fn start(script: impl Fn(&Asked) -> Reply + Send + Sync + 'static) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            script: Box::new(script),
            tallies: Mutex::default(),
            closing: AtomicBool::new(false),
        });
        let serving = Arc::clone(&shared);
        thread::spawn(move || {
            for connection in listener.incoming() {
                if serving.closing.load(Ordering::Relaxed) {
                    break;
                }
                let shared = Arc::clone(&serving);
                if let Ok(connection) = connection {
                    // A client that goes away ends its connection's thread, and that is all.
                    thread::spawn(move || serve(connection, &shared).ok());
                }
            }
        });
        Ok(Self { address, shared })
    }

    /// Where it is, as a recipe writes it.
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    /// What happened to each item so far.
    pub fn tallies(&self) -> BTreeMap<String, Tally> {
        self.shared.tallies().clone()
    }

    /// Requests so far.
    pub fn asked(&self) -> usize {
        self.shared.tallies().values().map(|tally| tally.asked).sum()
    }

    /// Good completions delivered so far.
    pub fn delivered(&self) -> usize {
        self.shared.tallies().values().map(|tally| tally.delivered).sum()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::Relaxed);
        // Wakes the thread that accepts; if that fails, it ends with the process.
        TcpStream::connect(self.address).ok();
    }
}

impl Shared {
    fn tallies(&self) -> MutexGuard<'_, BTreeMap<String, Tally>> {
        self.tallies.lock().expect("no thread panics while it counts")
    }
}

/// The body of a good completion. Tokens are counted as words.
pub fn completion(prompt: &str, text: &str) -> String {
    let words = |text: &str| text.split_whitespace().count();
    json!({
        "id": "chatcmpl-0", "object": "chat.completion",
        "choices": [{"index": 0, "finish_reason": "stop",
                     "message": {"role": "assistant", "content": text}}],
        "usage": {"prompt_tokens": words(prompt), "completion_tokens": words(text),
                  "total_tokens": words(prompt) + words(text)},
    })
    .to_string()
}

fn serve(connection: TcpStream, shared: &Shared) -> io::Result<()> {
    connection.set_nodelay(true)?;
    let mut reader = BufReader::new(connection.try_clone()?);
    let mut writer = connection;
    while let Some((authorization, body)) = read(&mut reader)? {
        let asked = count(shared, authorization, body);
        let good = |text: &str| completion(&asked.prompt, text);
        match (shared.script)(&asked) {
            Reply::Good(text) => {
                write(&mut writer, 200, &[], &good(&text), None)?;
                shared.tallies().entry(asked.item).or_default().delivered += 1;
            }
            Reply::Status(status, headers, body) => write(&mut writer, status, &headers, &body, None)?,
            Reply::Body(body) => write(&mut writer, 200, &[], &body, None)?,
            Reply::Truncated(text) => {
                let body = good(&text);
                write(&mut writer, 200, &[], &body, Some(body.len() / 2))?;
                break;
            }
            Reply::Reset => {
                rustix::net::sockopt::set_socket_linger(&writer, Some(Duration::ZERO))?;
                break;
            }
            Reply::Stall(time) => {
                thread::sleep(time);
                break;
            }
        }
    }
    Ok(())
}

/// The next request: its `Authorization` header and its body; `None` when the client has closed.
fn read(reader: &mut BufReader<TcpStream>) -> io::Result<Option<(Option<String>, Value)>> {
    let (mut length, mut authorization, mut lines) = (0, None, 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(None);
        }
        let line = line.trim_end();
        if line.is_empty() && lines > 0 {
            break;
        }
        lines += 1;
        if let Some((name, value)) = line.split_once(':') {
            match name.to_ascii_lowercase().as_str() {
                "content-length" => length = value.trim().parse().unwrap_or(0),
                "authorization" => authorization = Some(value.trim().to_owned()),
                _ => {}
            }
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    Ok(Some((authorization, serde_json::from_slice(&body)?)))
}

fn count(shared: &Shared, authorization: Option<String>, body: Value) -> Asked {
    let last = body["messages"].as_array().and_then(|messages| messages.last());
    let prompt = last.and_then(|message| message["content"].as_str()).unwrap_or_default().to_owned();
    let seed = body["seed"].as_u64().unwrap_or(0);
    let item = format!("{}\n{seed}\n{prompt}", body["model"].as_str().unwrap_or_default());
    let mut tallies = shared.tallies();
    let count = tallies.values().map(|tally| tally.asked).sum();
    let tally = tallies.entry(item.clone()).or_default();
    let before = tally.asked;
    tally.asked += 1;
    Asked { item, prompt, seed, before, count, authorization, body }
}

/// Writes a reply, or only its first `cut` bytes of body under the full length.
fn write(
    writer: &mut TcpStream,
    status: u16,
    headers: &[(&'static str, String)],
    body: &str,
    cut: Option<usize>,
) -> io::Result<()> {
    let mut reply = format!(
        "HTTP/1.1 {status} .\r\ncontent-type: application/json\r\ncontent-length: {}\r\n",
        body.len()
    );
    for (name, value) in headers {
        reply.push_str(&format!("{name}: {value}\r\n"));
    }
    reply.push_str("\r\n");
    let mut bytes = reply.into_bytes();
    bytes.extend_from_slice(&body.as_bytes()[..cut.unwrap_or(body.len())]);
    writer.write_all(&bytes)?;
    writer.flush()
}
