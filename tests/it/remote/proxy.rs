//! A proxy for TCP that counts what goes through it and can break its connections.

use std::{
    io::{Read, Write},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

/// Ends with the test's process.
pub(crate) struct Proxy {
    address: String,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    up: AtomicU64,
    down: AtomicU64,
    /// Bytes still to pass, both ways together, before every connection breaks; 0 if none is to.
    left: AtomicU64,
    /// Whether connections after that break at once.
    stays: AtomicBool,
    off: AtomicBool,
    cuts: AtomicU64,
    open: Mutex<Vec<TcpStream>>,
}

impl Proxy {
    /// Passes everything on to an address.
    pub(crate) fn start(upstream: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let state = Arc::new(State::default());
        let (shared, upstream) = (Arc::clone(&state), upstream.to_owned());
        thread::spawn(move || {
            for client in listener.incoming().flatten() {
                if shared.off.load(Ordering::SeqCst) {
                    continue; // Closed again.
                }
                let Ok(server) = TcpStream::connect(&upstream) else { continue };
                let mut open = shared.open.lock().unwrap();
                open.extend([client.try_clone().unwrap(), server.try_clone().unwrap()]);
                drop(open);
                let pairs = [
                    (client.try_clone().unwrap(), server.try_clone().unwrap(), true),
                    (server, client, false),
                ];
                for (from, to, upwards) in pairs {
                    let state = Arc::clone(&shared);
                    thread::spawn(move || state.pass(from, to, upwards));
                }
            }
        });
        Self { address, state }
    }

    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// After so many bytes every connection breaks; if it `stays`, later ones do so at once.
    pub(crate) fn cut_after(&self, bytes: u64, stays: bool) {
        self.state.stays.store(stays, Ordering::SeqCst);
        self.state.left.store(bytes, Ordering::SeqCst);
    }

    pub(crate) fn mend(&self) {
        assert!(self.state.off.swap(false, Ordering::SeqCst), "it was not cut");
    }

    /// Bytes that clients sent.
    pub(crate) fn up(&self) -> u64 {
        self.state.up.load(Ordering::SeqCst)
    }

    /// Bytes that the server sent.
    pub(crate) fn down(&self) -> u64 {
        self.state.down.load(Ordering::SeqCst)
    }

    pub(crate) fn cuts(&self) -> u64 {
        self.state.cuts.load(Ordering::SeqCst)
    }
}

impl State {
    fn pass(&self, mut from: TcpStream, mut to: TcpStream, upwards: bool) {
        let mut buffer = vec![0; 64 << 10];
        while let Ok(read) = from.read(&mut buffer) {
            if read == 0 || to.write_all(&buffer[..read]).is_err() {
                break;
            }
            let counter = if upwards { &self.up } else { &self.down };
            counter.fetch_add(read as u64, Ordering::SeqCst);
            self.count(read as u64);
        }
        to.shutdown(Shutdown::Both).ok();
        from.shutdown(Shutdown::Both).ok();
    }

    fn count(&self, bytes: u64) {
        let before = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| {
            (left > 0).then(|| left.saturating_sub(bytes))
        });
        if before.is_ok_and(|before| before <= bytes) {
            self.off.store(self.stays.load(Ordering::SeqCst), Ordering::SeqCst);
            self.cuts.fetch_add(1, Ordering::SeqCst);
            for stream in self.open.lock().unwrap().drain(..) {
                stream.shutdown(Shutdown::Both).ok();
            }
        }
    }
}
