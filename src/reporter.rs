//! What a run shows on stderr: bars on a terminal, plain lines otherwise. The only module that prints while cells run.

use std::{
    collections::BTreeMap,
    io::IsTerminal,
    time::{Duration, Instant},
};

use contract::seconds;
use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{
    graph::Graph,
    log::describe,
    remote::Sent,
    run::{CellEvent, Listener},
    watch::Stderr,
};

/// Without a terminal, how often a long cell says how far it is.
const PLAIN_PROGRESS_EVERY: Duration = Duration::from_secs(10);

/// Shows a run to a person.
pub struct Reporter {
    bars: MultiProgress,
    total: ProgressBar,
    cells: BTreeMap<usize, Shown>,
    terminal: bool,
    quiet: bool,
    hidden: bool,
    /// Warnings that nobody saw, because something else was shown.
    unseen: Vec<String>,
    failures: Vec<String>,
}

struct Shown {
    bar: ProgressBar,
    started: Instant,
    last_line: Instant,
    /// Where it stood when it was first heard of.
    from: u64,
}

/// `1 cell`, `2 cells`.
pub fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

impl Reporter {
    /// A reporter for a run of `cells` cells.
    pub fn new(cells: usize, quiet: bool) -> Self {
        let terminal = std::io::stderr().is_terminal() && !quiet;
        let target = if terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bars = MultiProgress::with_draw_target(target);
        let total = bars.add(
            ProgressBar::new(cells as u64).with_style(style("{bar:24} {pos}/{len} cells, {elapsed} gone")),
        );
        let (cells, unseen, failures) = (BTreeMap::new(), Vec::new(), Vec::new());
        Self { bars, total, cells, terminal, quiet, hidden: false, unseen, failures }
    }

    /// Removes the bars and repeats the failures, so that they end the output.
    pub fn finish(&mut self) {
        self.total.finish_and_clear();
        for failure in std::mem::take(&mut self.failures) {
            say(&failure);
        }
    }

    /// Shows nothing for as long as something else does, or again; then the warnings that nobody saw come first.
    pub fn hide(&mut self, hidden: bool) {
        self.hidden = hidden;
        if self.terminal {
            let shown = if hidden { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
            self.bars.set_draw_target(shown);
        }
        if !hidden {
            for warning in std::mem::take(&mut self.unseen) {
                self.line(&warning);
            }
        }
    }

    /// A line that is to be seen, if not now then later.
    fn warn(&mut self, text: String) {
        if self.hidden {
            self.unseen.push(text);
        } else {
            self.line(&text);
        }
    }

    fn line(&self, text: &str) {
        if self.quiet || self.hidden {
            return;
        }
        if self.terminal {
            self.bars.println(text).ok();
        } else {
            say(text);
        }
    }

    fn done(&mut self, cell: usize) {
        self.total.inc(1);
        if let Some(shown) = self.cells.remove(&cell) {
            shown.bar.finish_and_clear();
            self.bars.remove(&shown.bar);
        }
    }
}

/// Writes a line to stderr; a closed stderr is not an error.
pub fn say(text: &str) {
    use std::io::Write;
    writeln!(Stderr, "{text}").ok();
}

fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).expect("the template is a constant").progress_chars("=> ")
}

/// A size as people say it.
pub fn bytes(bytes: u64) -> String {
    indicatif::HumanBytes(bytes).to_string()
}

impl Listener for Reporter {
    fn event(&mut self, graph: &Graph, cell: usize, event: &CellEvent<'_>) {
        let name = &graph.cells[cell].name;
        match event {
            CellEvent::Reused => self.total.inc(1),
            CellEvent::Found { record, by_this_run } => {
                let run = &record.run;
                self.line(&match by_this_run {
                    true => format!("  same   {name}: equal to a cell of this run"),
                    false => format!("  reuse  {name}: equal to a cell of run {run}"),
                });
                self.done(cell);
            }
            CellEvent::Fetched { record } => {
                let (run, size) = (&record.run, bytes(record.bytes));
                self.line(&format!("  fetch  {name}: {size}, made by run {run}"));
                self.done(cell);
            }
            CellEvent::RemoteFailed { problem } => self.warn(format!("warning: `{name}`: {problem}")),
            CellEvent::Sent { sent: Sent::Other } => self.warn(format!(
                "  note   {name}: the remote has another result of it, which stays: the cell is not deterministic"
            )),
            CellEvent::Sent { sent: Sent::New | Sent::There } => {}
            CellEvent::Waiting => self.line(&format!("  wait   {name}: another run is computing it")),
            CellEvent::Started { reason, .. } => {
                self.line(&format!("  run    {name}: {reason}"));
            }
            CellEvent::Said(contract::Event::Progress { done, total, unit }) => {
                // A cell that waits in a queue has nothing to show yet, and its time there is not its own.
                let shown = self.cells.entry(cell).or_insert_with(|| {
                    let bar = ProgressBar::new(0)
                        .with_style(style("  {prefix} {bar:20} {pos}/{len} {msg}, {per_sec}, {eta} left"))
                        .with_prefix(name.0.clone());
                    let bar = self.bars.insert_before(&self.total, bar);
                    let now = Instant::now();
                    Shown { bar, started: now, last_line: now, from: *done }
                });
                shown.bar.set_length(*total);
                shown.bar.set_message(unit.clone());
                shown.bar.set_position(*done);
                if !self.terminal && shown.last_line.elapsed() > PLAIN_PROGRESS_EVERY && *done > 0 {
                    shown.last_line = Instant::now();
                    let gone = shown.started.elapsed().as_secs_f64();
                    let rate = done.saturating_sub(shown.from) as f64 / gone;
                    let left = seconds(total.saturating_sub(*done) as f64 / rate.max(1e-9));
                    self.line(&format!("  ...    {name}: {done}/{total} {unit}, {rate:.1}/s, {left} left"));
                }
            }
            CellEvent::Said(contract::Event::Note { text }) => self.line(&format!("  note   {name}: {text}")),
            CellEvent::Said(contract::Event::Metric { .. }) => {}
            CellEvent::Finished { record } => {
                let (time, size) = (seconds(record.seconds), bytes(record.bytes));
                self.line(&format!("  done   {name}: {time}, {size}"));
                self.done(cell);
            }
            CellEvent::Retrying { error, left } => {
                let error = describe(*error);
                self.line(&format!("  again  {name}: {error}; {left} attempts left after this one"));
            }
            CellEvent::Failed { error } => {
                let mut text = format!("error: `{name}` failed: {}", describe(*error));
                if let Some(help) = error.help() {
                    text = format!("{text}\nhelp: {help}");
                }
                self.line(&format!("  FAILED {name}"));
                self.failures.push(text);
                self.done(cell);
            }
            CellEvent::Placed { job, taken_over, .. } => {
                let found = if *taken_over { ", submitted by an earlier run" } else { "" };
                self.line(&format!("  job    {name}: {job}{found}"));
            }
            CellEvent::Left => {
                self.line(&format!("  left   {name}: its job goes on"));
                self.done(cell);
            }
            CellEvent::Interrupted => {
                self.line(&format!("  stop   {name}: interrupted, goes on from here next time"));
                self.done(cell);
            }
            CellEvent::Skipped { because } => {
                let because = &graph.cells[*because].name;
                self.line(&format!("  skip   {name}: `{because}` failed"));
                self.done(cell);
            }
        }
    }

    fn tick(&mut self) {
        self.total.tick();
    }
}
