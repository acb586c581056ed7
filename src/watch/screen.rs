//! The terminal while a view covers it. It is given back however the view ends: with `q`, with the run, on Ctrl-C, on a
//! signal from outside, in a panic.
//!
//! There is one terminal, so what is known of it is static. What anybody writes to stderr meanwhile goes through
//! [`Stderr`], which holds it back until the view is gone.

use std::{
    io::{self, BufWriter, IsTerminal, Write},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use ratatui::{
    Frame, Terminal,
    backend::CrosstermBackend,
    crossterm::{
        cursor::Show,
        event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers},
        execute,
        terminal::{EnterAlternateScreen, LeaveAlternateScreen, disable_raw_mode, enable_raw_mode},
    },
};

/// How often it is drawn, at most.
const DRAW_EVERY: Duration = Duration::from_millis(100);

/// Whether a view covers the terminal.
static COVERED: AtomicBool = AtomicBool::new(false);
/// Held while something is drawn, so that nobody closes the view in the middle of it.
static DRAWING: Mutex<()> = Mutex::new(());
/// What was written to stderr while it is covered. Locked before anybody asks whether it is, or changes that: what is written
/// while a view opens or closes is neither lost nor written into the view.
static HELD_BACK: Mutex<Vec<u8>> = Mutex::new(Vec::new());

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Whether there is a terminal to draw on, and to read keys from.
pub fn possible() -> bool {
    io::stderr().is_terminal() && io::stdin().is_terminal()
}

/// Gives the terminal back, if a view covers it, and prints what was held back.
pub fn close() {
    let _drawing = lock(&DRAWING);
    close_anyway();
}

/// [`close`] from a panic, which may have happened while something was drawn.
pub fn close_anyway() {
    let mut held_back = lock(&HELD_BACK);
    if COVERED.swap(false, Ordering::SeqCst) {
        disable_raw_mode().ok();
        execute!(io::stderr(), LeaveAlternateScreen, Show).ok();
        io::stderr().write_all(&std::mem::take(&mut *held_back)).ok();
    }
}

/// What Ctrl-C does where no view catches it.
pub(super) fn interrupt() {
    rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::INT).ok();
}

/// stderr, unless a view covers it: then what is written waits until the view is gone.
pub struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut held_back = lock(&HELD_BACK);
        if COVERED.load(Ordering::SeqCst) {
            held_back.extend_from_slice(bytes);
            return Ok(bytes.len());
        }
        io::stderr().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}

/// A key that means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Key {
    /// Close the view.
    Quit,
    /// Ctrl-C.
    Stop,
    /// Upwards.
    Up,
    /// Downwards.
    Down,
}

impl Key {
    fn of(key: KeyEvent) -> Option<Self> {
        match key.code {
            _ if key.kind == KeyEventKind::Release => None,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => Some(Self::Stop),
            KeyCode::Char('q') | KeyCode::Esc => Some(Self::Quit),
            KeyCode::Up | KeyCode::Char('k') => Some(Self::Up),
            KeyCode::Down | KeyCode::Char('j') => Some(Self::Down),
            _ => None,
        }
    }
}

/// The terminal, covered by a view.
pub struct Screen {
    terminal: Terminal<CrosstermBackend<BufWriter<io::Stderr>>>,
    drawn: Option<Instant>,
}

impl Screen {
    /// Covers the terminal; [`close`] gives it back.
    pub fn open() -> io::Result<Self> {
        let terminal = Terminal::new(CrosstermBackend::new(BufWriter::new(io::stderr())))?;
        enable_raw_mode()?;
        let covered = {
            let _held_back = lock(&HELD_BACK);
            COVERED.store(true, Ordering::SeqCst);
            execute!(io::stderr(), EnterAlternateScreen)
        };
        covered.inspect_err(|_| close())?;
        Ok(Self { terminal, drawn: None })
    }

    /// Draws, unless that was done just now. `false` where the view was closed by somebody else, or cannot be drawn.
    pub fn draw(&mut self, content: impl FnOnce(&mut Frame)) -> bool {
        let _drawing = lock(&DRAWING);
        if !COVERED.load(Ordering::SeqCst) {
            return false;
        }
        if self.drawn.is_some_and(|drawn| drawn.elapsed() < DRAW_EVERY) {
            return true;
        }
        self.drawn = Some(Instant::now());
        self.terminal.draw(content).is_ok()
    }

    /// A key that was pressed, waiting so long for one.
    pub fn key(&mut self, wait: Duration) -> Option<Key> {
        if !COVERED.load(Ordering::SeqCst) || !event::poll(wait).unwrap_or(false) {
            return None;
        }
        match event::read().ok()? {
            Event::Key(key) => Key::of(key),
            _ => None,
        }
    }
}
