//! The live view, through a pseudo-terminal: what it shows, and that the terminal is given back however it ends.

use std::{
    fs::File,
    io::{Read, Write},
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use rustix::{
    pty::{OpenptFlags, grantpt, ioctl_tiocgptpeer, openpt, unlockpt},
    termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize},
};

use crate::project::{Project, children};

const ENTER: &str = "\u{1b}[?1049h";
const LEAVE: &str = "\u{1b}[?1049l";

/// A program in a terminal of its own.
pub(crate) struct Terminal {
    child: Child,
    ours: File,
    written: Arc<Mutex<Vec<u8>>>,
    reader: JoinHandle<()>,
    before: LocalModes,
}

impl Terminal {
    pub(crate) fn start(mut command: Command) -> Self {
        let flags = OpenptFlags::RDWR | OpenptFlags::NOCTTY;
        let ours = openpt(flags).unwrap();
        grantpt(&ours).unwrap();
        unlockpt(&ours).unwrap();
        tcsetwinsize(&ours, Winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 }).unwrap();
        let theirs = || Stdio::from(ioctl_tiocgptpeer(&ours, flags).unwrap());
        let before = tcgetattr(&ours).unwrap().local_modes;
        command.stdin(theirs()).stdout(theirs()).stderr(theirs());
        let child = command.spawn().unwrap();
        drop(command); // It holds their side, whose end we wait for.
        let ours = File::from(ours);
        let written = Arc::new(Mutex::new(Vec::new()));
        let (mut from, into) = (ours.try_clone().unwrap(), Arc::clone(&written));
        let reader = thread::spawn(move || {
            let mut bytes = [0; 4096];
            // Reading fails once nobody has the other side open.
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                into.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        Self { child, ours, written, reader, before }
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.written.lock().unwrap()).into_owned()
    }

    /// Waits until something has been written.
    #[track_caller]
    fn wait_for(&self, text: &str) {
        let began = Instant::now();
        while !self.text().contains(text) {
            assert!(began.elapsed() < Duration::from_secs(60), "no {text:?} in {:?}", self.text());
            thread::sleep(Duration::from_millis(10));
        }
    }

    fn press(&mut self, keys: &[u8]) {
        self.ours.write_all(keys).unwrap();
    }

    /// Waits for the end; the terminal has to be as it was.
    pub(crate) fn end(mut self) -> (ExitStatus, String) {
        let status = self.child.wait().unwrap();
        assert_eq!(tcgetattr(&self.ours).unwrap().local_modes, self.before, "the terminal is not as it was");
        let Self { reader, ours, written, .. } = self;
        reader.join().unwrap();
        drop(ours);
        let text = String::from_utf8_lossy(&written.lock().unwrap()).into_owned();
        assert_eq!(text.matches(ENTER).count(), text.matches(LEAVE).count(), "{text:?}");
        (status, text)
    }
}

const RECIPE: &str = "\
recipe: counted
stages:
  count: {uses: count, with: {to: 40, what: sheep, pause: 25}}
";

fn watched(project: &Project) -> Terminal {
    project.write("recipe.yaml", RECIPE);
    Terminal::start(project.command(&["run", "recipe.yaml", "--watch"]))
}

/// What came after the view.
pub(crate) fn after(text: &str) -> &str {
    text.rsplit_once(LEAVE).unwrap().1
}

#[test]
fn a_run_is_watched_to_its_end() {
    let project = Project::resumable();
    let (status, text) = watched(&project).end();
    assert_eq!(status.code(), Some(0), "{text:?}");
    // Blank cells of the screen are not written: words, one by one.
    for word in ["counted:", "sheep", "happened"] {
        assert!(text.contains(word), "no {word:?} in {text:?}");
    }
    assert!(after(&text).contains("ran 1 cell, reused 0"), "{text:?}");
}

#[test]
fn whoever_has_seen_enough_gets_lines() {
    let project = Project::resumable();
    let mut terminal = watched(&project);
    terminal.wait_for("sheep");
    terminal.press(b"q");
    let (status, text) = terminal.end();
    assert_eq!(status.code(), Some(0), "{text:?}");
    assert!(after(&text).contains("  done   count: "), "{text:?}");
}

#[test]
fn ctrl_c_stops_the_run_as_ever() {
    let project = Project::resumable();
    let mut terminal = watched(&project);
    terminal.wait_for("sheep");
    terminal.press(b"\x03");
    let (status, text) = terminal.end();
    assert_eq!(status.code(), Some(130), "{text:?}");
    let after = after(&text);
    assert!(
        after.contains("stopping: finished work is kept") && after.contains("  stop   count"),
        "{text:?}"
    );
    assert!(project.run(&["run", "recipe.yaml"]).expect(0).stderr.contains("goes on from"));
}

#[test]
fn a_signal_from_outside_gives_the_terminal_back() {
    let project = Project::resumable();
    let terminal = watched(&project);
    terminal.wait_for("sheep");
    let process = rustix::process::Pid::from_child(&terminal.child);
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    let (status, text) = terminal.end();
    assert_eq!(status.code(), Some(130), "{text:?}");
    assert!(after(&text).contains("stopping: "), "{text:?}");
}

#[test]
fn a_panic_and_a_killed_cell_stay_behind_the_view() {
    let project = Project::custom();
    project.write("recipe.yaml", "recipe: r\nstages:\n  a: {uses: text, with: {text: panic!}}\n");
    let mut command = project.command(&["run", "recipe.yaml", "--watch"]);
    command.env("RETORT_LOG", "info"); // Tells of panics.
    let (status, text) = Terminal::start(command).end();
    assert_eq!(status.code(), Some(3), "{text:?}");
    let (view, lines) = text.rsplit_once(LEAVE).unwrap();
    assert!(!view.contains("panicked at"), "{text:?}");
    assert!(lines.contains("panicked at") && lines.contains("error: `a` failed: "), "{text:?}");

    // A cell in a process of its own, which is killed.
    let project = Project::resumable();
    let recipe = "recipe: k\nbackend: cuda\nstages:\n  count: {uses: count, with: {to: 4000, what: sheep, pause: 5}, resources: {devices: 1}}\n";
    project.write("recipe.yaml", recipe);
    let terminal = Terminal::start(project.command(&["run", "recipe.yaml", "--watch", "--devices", "0"]));
    terminal.wait_for("sheep");
    let cell = children(terminal.child.id())[0];
    rustix::process::kill_process(cell, rustix::process::Signal::KILL).unwrap();
    let (status, text) = terminal.end();
    assert_eq!(status.code(), Some(3), "{text:?}");
    assert!(after(&text).contains("its process ended (signal: 9"), "{text:?}");
}

#[test]
fn without_a_terminal_the_run_is_told_in_lines() {
    let project = Project::resumable();
    project.write("recipe.yaml", RECIPE);
    let run = project.run(&["run", "recipe.yaml", "--watch"]).expect(0);
    assert!(run.stderr.contains("note: there is no terminal to watch the run on"), "{}", run.stderr);
    assert!(run.ran().contains("count") && !run.stderr.contains('\u{1b}'), "{}", run.stderr);
    // One that has ended needs no terminal.
    let ended = project.run(&["watch", "recipe.yaml"]).expect(0);
    assert!(ended.stderr.ends_with(": done\n"), "{}", ended.stderr);
    project.run(&["watch", "another.yaml"]).expect(2);
}

#[test]
fn another_process_can_look_on() {
    let project = Project::resumable();
    project.write("recipe.yaml", &RECIPE.replace("to: 40", "to: 80"));
    let mut run = project.start(&["run", "recipe.yaml"]);
    let runs = || std::fs::read_dir(project.path(".retort/runs")).into_iter().flatten().count();
    while runs() == 0 {
        thread::sleep(Duration::from_millis(10));
    }
    let (status, text) = Terminal::start(project.command(&["watch", "counted"])).end();
    assert!(run.wait().unwrap().success());
    assert_eq!(status.code(), Some(0), "{text:?}");
    assert!(text.contains("sheep") && after(&text).contains(": done"), "{text:?}");
}

#[test]
fn a_signal_to_who_looks_on_gives_the_terminal_back_and_leaves_the_run_alone() {
    let project = Project::resumable();
    project.write("recipe.yaml", &RECIPE.replace("to: 40", "to: 200"));
    let mut run = project.start(&["run", "recipe.yaml"]);
    let runs = || std::fs::read_dir(project.path(".retort/runs")).into_iter().flatten().count();
    crate::project::until("it runs", || runs() > 0);
    let terminal = Terminal::start(project.command(&["watch", "counted"]));
    terminal.wait_for("sheep");
    let process = rustix::process::Pid::from_child(&terminal.child);
    rustix::process::kill_process(process, rustix::process::Signal::TERM).unwrap();
    let (status, text) = terminal.end();
    assert_eq!(status.code(), Some(130), "{text:?}");
    assert!(after(&text).contains("the run goes on"), "{text:?}");
    assert!(run.wait().unwrap().success());
}
