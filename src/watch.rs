//! A live view of a run in the terminal: its cells, how their losses fall, how perspectives are weighed.
//!
//! A [`View`] is what the events of a run record have told so far and [`draw`] puts it on a screen; both know nothing of the
//! terminal, so that a run that goes on here and one that another process does look the same. [`Screen`] is the terminal,
//! [`Watch`] the listener that shows a run in it for as long as somebody wants to look.

use std::{
    collections::{BTreeMap, VecDeque},
    time::{Duration, SystemTime},
};

use contract::seconds;
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style},
    symbols::Marker,
    text::{Line, Span},
    widgets::{Axis, Block, Chart, Dataset, GraphType, LegendPosition, LineGauge, Paragraph},
};
use serde_json::Value;

use crate::{
    graph::Graph,
    log::{now, told},
    reporter::{Reporter, counted},
    run::{CellEvent, Listener},
};

mod screen;
pub use screen::{Key, Screen, Stderr, close, close_anyway, possible};

/// How many lines of what happened are kept.
const LINES: usize = 200;

/// Okabe and Ito's colours, as far as they show on a dark and on a light ground.
const COLOURS: [Color; 6] = [
    Color::Rgb(0x56, 0xb4, 0xe9),
    Color::Rgb(0xe6, 0x9f, 0x00),
    Color::Rgb(0x00, 0x9e, 0x73),
    Color::Rgb(0xd5, 0x5e, 0x00),
    Color::Rgb(0xcc, 0x79, 0xa7),
    Color::Rgb(0x99, 0x99, 0x99),
];

/// What became of a cell so far; the order is that of the screen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Running,
    Failed,
    Waiting,
    Stopped,
    Skipped,
    Reused,
    Done,
}

impl State {
    fn word(self) -> &'static str {
        match self {
            Self::Running => "run",
            Self::Failed => "FAILED",
            Self::Waiting => "wait",
            Self::Stopped => "stop",
            Self::Skipped => "skip",
            Self::Reused => "reuse",
            Self::Done => "done",
        }
    }

    fn style(self) -> Style {
        match self {
            Self::Running => Style::new().add_modifier(Modifier::BOLD),
            Self::Failed => Style::new().fg(COLOURS[3]).add_modifier(Modifier::BOLD),
            Self::Waiting | Self::Stopped | Self::Skipped | Self::Reused | Self::Done => {
                Style::new().add_modifier(Modifier::DIM)
            }
        }
    }
}

/// A cell as far as it was heard of.
struct Cell {
    state: State,
    /// When its state began.
    since: SystemTime,
    /// Events before this state began: the latest comes first.
    order: usize,
    progress: Option<(u64, u64, String)>,
    /// How long it took, or why it failed.
    end: String,
    /// Step and value, by name.
    metrics: BTreeMap<String, Vec<(f64, f64)>>,
    /// Tokens a second between the last two looks, with the tokens and time of the last.
    rate: (Option<f64>, f64, SystemTime),
}

/// What is known of a run.
pub struct View {
    recipe: String,
    cells: BTreeMap<String, Cell>,
    /// All cells of the run.
    total: u64,
    /// Cells that had their result when it began.
    reused: u64,
    began: SystemTime,
    lines: VecDeque<String>,
    events: usize,
    /// Which of the cells that train has its weights shown.
    chosen: usize,
    /// How it ended, once it has.
    pub end: Option<Value>,
}

impl View {
    /// Of a run that nothing is known of.
    pub fn new() -> Self {
        Self {
            recipe: String::new(),
            cells: BTreeMap::new(),
            total: 0,
            reused: 0,
            began: SystemTime::UNIX_EPOCH,
            lines: VecDeque::new(),
            events: 0,
            chosen: 0,
            end: None,
        }
    }

    /// Takes in an event as it stands in the run record.
    pub fn hear(&mut self, event: &Value) {
        self.events += 1;
        let text = |name: &str| event[name].as_str().unwrap_or_default();
        let number = |name: &str| event[name].as_u64().unwrap_or_default();
        let time = humantime::parse_rfc3339_weak(text("time")).unwrap_or(self.began);
        let name = text("cell").to_owned();
        match text("event") {
            "begin" => {
                self.recipe = text("recipe").to_owned();
                (self.total, self.reused, self.began) = (number("cells"), number("reused"), time);
            }
            "end" => self.end = Some(event.clone()),
            "started" => self.turn(&name, State::Running, time, String::new()),
            "waiting" => self.turn(&name, State::Waiting, time, "another run computes it".to_owned()),
            "found" | "fetched" => self.turn(&name, State::Reused, time, String::new()),
            "finished" => {
                self.turn(&name, State::Done, time, seconds(event["seconds"].as_f64().unwrap_or_default()));
            }
            "failed" => self.turn(&name, State::Failed, time, text("error").to_owned()),
            "skipped" => self.turn(&name, State::Skipped, time, format!("`{}` failed", text("because"))),
            "interrupted" | "left" => self.turn(&name, State::Stopped, time, String::new()),
            "progress" => {
                if let Some(cell) = self.cells.get_mut(&name) {
                    cell.progress = Some((number("done"), number("total"), text("unit").to_owned()));
                }
            }
            "metric" => {
                if let (Some(cell), Some(value)) = (self.cells.get_mut(&name), event["value"].as_f64()) {
                    cell.measure(text("name"), number("step") as f64, value, time);
                }
            }
            _ => {}
        }
        if let Some(line) = line(event) {
            self.lines.push_back(line);
            self.lines.drain(..self.lines.len().saturating_sub(LINES));
        }
    }

    /// A cell comes into a state.
    fn turn(&mut self, name: &str, state: State, since: SystemTime, end: String) {
        let order = self.events;
        let rate = (None, 0.0, since);
        let metrics = BTreeMap::new();
        let cell = Cell { state, since, order, progress: None, end, metrics, rate };
        let before = self.cells.insert(name.to_owned(), cell);
        // What a training measured is worth a look after its end, too.
        if let (Some(before), Some(cell)) = (before, self.cells.get_mut(name)) {
            cell.metrics = if state == State::Running { BTreeMap::new() } else { before.metrics };
        }
    }

    /// Shows the weights of the next cell that trains, or of the one before.
    pub fn choose(&mut self, by: isize) {
        let training = self.training().len().max(1);
        self.chosen = (self.chosen + training).saturating_add_signed(by) % training;
    }

    /// Running cells with a loss; where there are none, the last that had one.
    fn training(&self) -> Vec<(&str, &Cell)> {
        let losses = || self.cells.iter().filter(|(_, cell)| cell.metrics.contains_key("loss"));
        let running: Vec<(&str, &Cell)> = losses()
            .filter(|(_, cell)| cell.state == State::Running)
            .map(|(name, cell)| (name.as_str(), cell))
            .collect();
        if !running.is_empty() {
            return running;
        }
        losses()
            .max_by_key(|(_, cell)| cell.order)
            .map(|(name, cell)| (name.as_str(), cell))
            .into_iter()
            .collect()
    }

    fn count(&self, state: State) -> u64 {
        self.cells.values().filter(|cell| cell.state == state).count() as u64
    }
}

impl Default for View {
    fn default() -> Self {
        Self::new()
    }
}

impl Cell {
    fn measure(&mut self, name: &str, step: f64, value: f64, time: SystemTime) {
        if name == "tokens_so_far" {
            let (_, before, at) = self.rate;
            let gone = time.duration_since(at).unwrap_or_default().as_secs_f64();
            let first = before == 0.0;
            self.rate = ((!first && gone > 0.0).then(|| (value - before) / gone), value, time);
        }
        self.metrics.entry(name.to_owned()).or_default().push((step, value));
    }

    fn last(&self, name: &str) -> Option<f64> {
        self.metrics.get(name)?.last().map(|(_, value)| *value)
    }

    /// How far it is, in words.
    fn about(&self, now: SystemTime) -> String {
        let gone = || seconds(now.duration_since(self.since).unwrap_or_default().as_secs_f64());
        match (self.state, &self.progress) {
            (State::Running, Some((done, total, unit))) => {
                let percent = 100 * done / (*total).max(1);
                format!("{done}/{total} {unit}, {percent} %, {}", gone())
            }
            (State::Running, None) => gone(),
            (_, _) => self.end.clone(),
        }
    }
}

/// What the log says of an event; nothing of those that come too often.
fn line(event: &Value) -> Option<String> {
    let text = |name: &str| event[name].as_str().unwrap_or_default();
    let what = match text("event") {
        "progress" | "metric" | "reused" => return None,
        "begin" => counted(event["cells"].as_u64().unwrap_or_default() as usize, "cell"),
        "finished" => seconds(event["seconds"].as_f64().unwrap_or_default()),
        "note" => text("text").to_owned(),
        "failed" | "retrying" => text("error").to_owned(),
        "remote-failed" => text("problem").to_owned(),
        "sent" if event["sent"] == "other" => "the remote has another result, which stays".to_owned(),
        "placed" => text("job").to_owned(),
        _ => String::new(),
    };
    let clock = text("time").get(11..19).unwrap_or_default();
    let line = format!("{clock} {:11} {} {what}", text("event"), text("cell"));
    Some(line.trim_end().chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
}

/// Puts a run on a screen.
pub fn draw(frame: &mut Frame, view: &View, now: SystemTime) {
    let log_height = (frame.area().height / 4).clamp(3, 12);
    let [head, body, log, foot] = Layout::vertical([
        Constraint::Length(1),
        Constraint::Min(6),
        Constraint::Length(log_height),
        Constraint::Length(1),
    ])
    .areas(frame.area());
    let training = view.training();
    draw_head(frame, head, view, now);
    if training.is_empty() {
        draw_cells(frame, body, view, now);
    } else {
        let [left, right] =
            Layout::horizontal([Constraint::Percentage(55), Constraint::Percentage(45)]).areas(body);
        draw_cells(frame, left, view, now);
        draw_training(frame, right, &training, view.chosen % training.len());
    }
    let room = usize::from(log.height.saturating_sub(2));
    let lines = view.lines.iter().skip(view.lines.len().saturating_sub(room));
    let lines: Vec<Line> = lines.map(|line| Line::raw(line.as_str())).collect();
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title("what happened")), log);
    let keys = "q: lines instead of this view   up, down: another student   Ctrl-C: stop";
    frame.render_widget(Paragraph::new(keys).style(Style::new().add_modifier(Modifier::DIM)), foot);
}

fn draw_head(frame: &mut Frame, area: Rect, view: &View, now: SystemTime) {
    let ended = [State::Done, State::Reused, State::Failed, State::Skipped, State::Stopped];
    let ended = view.reused + ended.into_iter().map(|state| view.count(state)).sum::<u64>();
    let gone = now.duration_since(view.began).unwrap_or_default().as_secs_f64();
    let mut label = format!("{}: {ended}/{} cells", view.recipe, view.total);
    for (count, what) in [(view.count(State::Running), "running"), (view.count(State::Failed), "failed")] {
        if count > 0 {
            label.push_str(&format!(", {count} {what}"));
        }
    }
    label.push_str(&format!(", {} ", seconds(gone)));
    let ratio = (ended as f64 / view.total.max(1) as f64).clamp(0.0, 1.0);
    let gauge = LineGauge::default().ratio(ratio).label(label).filled_style(Style::new().fg(COLOURS[0]));
    frame.render_widget(gauge, area);
}

fn draw_cells(frame: &mut Frame, area: Rect, view: &View, now: SystemTime) {
    let mut cells: Vec<(&String, &Cell)> = view.cells.iter().collect();
    cells.sort_by_key(|(_, cell)| (cell.state, std::cmp::Reverse(cell.order)));
    let known = cells.len() as u64 + view.reused;
    let room = usize::from(area.height.saturating_sub(2));
    let width = usize::from(area.width.saturating_sub(2));
    let mut lines: Vec<Line> = Vec::new();
    for (name, cell) in cells.into_iter().take(room.saturating_sub(1)) {
        let about = cell.about(now);
        let left = width.saturating_sub(8);
        let about = cut(&about, left.saturating_sub(12).max(left / 2));
        let name = cut(name, left.saturating_sub(about.chars().count() + 1));
        let gap = left.saturating_sub(name.chars().count() + about.chars().count());
        lines.push(Line::from(vec![
            Span::styled(format!("{:7} ", cell.state.word()), cell.state.style()),
            Span::raw(format!("{name}{}{about}", " ".repeat(gap))),
        ]));
    }
    let (waiting, reused) = (view.total.saturating_sub(known), view.reused);
    lines.push(Line::styled(
        format!("{waiting} to come, {reused} were up to date"),
        Style::new().add_modifier(Modifier::DIM),
    ));
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title("cells")), area);
}

/// Losses of all that trains; what else one of them reports.
fn draw_training(frame: &mut Frame, area: Rect, training: &[(&str, &Cell)], chosen: usize) {
    let (name, cell) = training[chosen];
    let weights: Vec<(&str, f64)> = cell
        .metrics
        .iter()
        .filter_map(|(name, values)| Some((name.strip_prefix("alpha/")?, values.last()?.1)))
        .collect();
    let rows = if weights.is_empty() { 3 } else { weights.len() as u16 + 3 };
    let [above, below] = Layout::vertical([Constraint::Min(5), Constraint::Length(rows)]).areas(area);
    draw_losses(frame, above, training);
    let mut said = Vec::new();
    if let Some((step, loss)) = cell.metrics["loss"].last() {
        said.push(format!("loss {loss:.3} at step {step}"));
    }
    said.extend(cell.rate.0.map(|rate| format!("{rate:.0} tokens/s")));
    said.extend(cell.last("i_dyn").map(|count| format!("{count:.1} selected")));
    let mut lines = vec![Line::raw(said.join(", "))];
    let label = weights.iter().map(|(name, _)| name.chars().count()).max().unwrap_or_default();
    let bar = usize::from(below.width).saturating_sub(label + 10);
    for (perspective, weight) in &weights {
        let filled = (weight.clamp(0.0, 1.0) * bar as f64).round() as usize;
        lines.push(Line::from(vec![
            Span::raw(format!("{perspective:label$} {weight:.2} ")),
            Span::styled("■".repeat(filled), Style::new().fg(COLOURS[0])),
        ]));
    }
    let title = if weights.is_empty() { name.to_owned() } else { format!("{name}: weights alpha") };
    let title = cut(&title, usize::from(below.width.saturating_sub(2)));
    frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(title)), below);
}

fn draw_losses(frame: &mut Frame, area: Rect, training: &[(&str, &Cell)]) {
    // The latest come last and over the others.
    let shown = &training[training.len().saturating_sub(COLOURS.len())..];
    let points = || shown.iter().flat_map(|(_, cell)| &cell.metrics["loss"]);
    let finite = |value: &f64| value.is_finite();
    let ends = |values: &mut dyn Iterator<Item = f64>| {
        values
            .filter(finite)
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
    };
    let (first, last) = ends(&mut points().map(|point| point.0));
    let (low, high) = ends(&mut points().map(|point| point.1));
    let datasets = shown.iter().zip(COLOURS).map(|((name, cell), colour)| {
        let axes = name.split_once('[').map_or(*name, |(_, axes)| axes.trim_end_matches(']'));
        Dataset::default()
            .name(axes.to_owned())
            .marker(Marker::Braille)
            .graph_type(GraphType::Line)
            .style(Style::new().fg(colour))
            .data(&cell.metrics["loss"])
    });
    let (last, high) = (last.max(first + 1.0), high.max(low + 1e-6));
    let label = |value: f64| Line::raw(format!("{value:.2}"));
    let chart = Chart::new(datasets.collect())
        .block(Block::bordered().title("loss"))
        .x_axis(Axis::default().bounds([first, last]).labels([format!("{first}"), format!("step {last}")]))
        .y_axis(Axis::default().bounds([low, high]).labels([label(low), label(high)]))
        .legend_position(Some(LegendPosition::TopRight))
        .hidden_legend_constraints((Constraint::Percentage(80), Constraint::Percentage(60)));
    frame.render_widget(chart, area);
}

/// Text in at most so many characters.
fn cut(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// Shows a run: in a view of the whole terminal while that is wanted, and as the [`Reporter`] does before and after.
pub struct Watch {
    view: View,
    screen: Option<Screen>,
    reporter: Reporter,
}

impl Watch {
    /// Begins to show a run; `begin` is the first event of its record.
    pub fn new(mut reporter: Reporter, begin: &Value, screen: Option<Screen>) -> Self {
        let mut view = View::new();
        view.hear(begin);
        reporter.hide(screen.is_some());
        let mut watch = Self { view, screen, reporter };
        watch.tick();
        watch
    }

    /// Gives the terminal back, and repeats the failures.
    pub fn finish(&mut self) {
        self.leave();
        self.reporter.finish();
    }

    fn leave(&mut self) {
        if self.screen.take().is_some() {
            close();
            self.reporter.hide(false);
        }
    }
}

impl Listener for Watch {
    fn event(&mut self, graph: &Graph, cell: usize, event: &CellEvent<'_>) {
        if self.screen.is_some() {
            let mut told = told(graph, cell, event);
            told["time"] = now().into();
            self.view.hear(&told);
        }
        self.reporter.event(graph, cell, event);
    }

    fn tick(&mut self) {
        self.reporter.tick();
        let Some(screen) = &mut self.screen else { return };
        match screen.key(Duration::ZERO) {
            Some(Key::Quit) => self.leave(),
            Some(Key::Stop) => {
                self.leave();
                screen::interrupt();
            }
            Some(Key::Up) => self.view.choose(-1),
            Some(Key::Down) => self.view.choose(1),
            None => {}
        }
        // Somebody else may have closed it: an interruption from outside.
        let view = &self.view;
        if self
            .screen
            .as_mut()
            .is_some_and(|screen| !screen.draw(|frame| draw(frame, view, SystemTime::now())))
        {
            self.leave();
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests;
