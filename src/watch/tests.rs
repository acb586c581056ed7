//! Recorded events, and what the screen shows of them.

use ratatui::{Terminal, backend::TestBackend};
use serde_json::json;

use super::*;

fn time(seconds: u64) -> SystemTime {
    humantime::parse_rfc3339("2026-01-01T10:00:00Z").unwrap() + Duration::from_secs(seconds)
}

fn event(second: u64, mut event: Value) -> Value {
    event["time"] = humantime::format_rfc3339_millis(time(second)).to_string().into();
    event
}

/// A run of six cells: one was up to date, two have ended, two train.
fn recorded() -> Vec<Value> {
    let (mind, uniform) = ("student[method=mind,seed=1]", "student[method=uniform,seed=1]");
    let mut events = vec![
        event(0, json!({"event": "begin", "recipe": "small", "cells": 9, "reused": 1})),
        event(0, json!({"event": "started", "cell": "questions", "threads": 1})),
        event(1, json!({"event": "note", "cell": "questions", "text": "200 questions\u{1b}[31m"})),
        event(1, json!({"event": "finished", "cell": "questions", "seconds": 0.8, "bytes": 100})),
        event(2, json!({"event": "started", "cell": "judge", "threads": 1})),
        event(3, json!({"event": "failed", "cell": "judge", "error": "no question is left"})),
        event(3, json!({"event": "skipped", "cell": "table", "because": "judge"})),
        event(4, json!({"event": "started", "cell": mind, "threads": 2})),
        event(4, json!({"event": "started", "cell": uniform, "threads": 2})),
    ];
    let metric = |second, cell: &str, name: &str, step: u64, value: f64| {
        event(second, json!({"event": "metric", "cell": cell, "name": name, "step": step, "value": value}))
    };
    for step in 1..=20 {
        let (second, falling) = (4 + step, 4.0 / (1.0 + step as f64));
        for (cell, loss) in [(mind, falling), (uniform, falling + 0.5)] {
            let progress =
                json!({"event": "progress", "cell": cell, "done": step, "total": 60, "unit": "steps"});
            events.push(event(second, progress));
            events.push(metric(second, cell, "loss", step, loss));
            events.push(metric(second, cell, "tokens_so_far", step, 1500.0 * step as f64));
        }
        for (perspective, weight) in [("planning", 0.7), ("analogy", 0.3), ("socratic", 0.0)] {
            events.push(metric(second, mind, &format!("alpha/{perspective}"), step, weight));
        }
        events.push(metric(second, mind, "i_dyn", step, 2.0));
    }
    events
}

fn view(events: &[Value]) -> View {
    let mut view = View::new();
    events.iter().for_each(|event| view.hear(event));
    view
}

fn shown(view: &View, width: u16, height: u16) -> String {
    let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
    terminal.draw(|frame| draw(frame, view, time(30))).unwrap();
    terminal.backend().to_string()
}

#[test]
fn a_run_as_it_looks() {
    insta::assert_snapshot!(shown(&view(&recorded()), 100, 30));
}

#[test]
fn before_anything_trains_cells_have_the_screen_for_themselves() {
    insta::assert_snapshot!(shown(&view(&recorded()[..7]), 80, 16));
}

#[test]
fn the_other_student_can_be_chosen_in_both_directions() {
    let mut view = view(&recorded());
    let tells = |view: &View| shown(view, 100, 30).contains("weights alpha");
    assert!(tells(&view));
    view.choose(1);
    assert!(!tells(&view), "equal weights are not reported");
    view.choose(1);
    assert!(tells(&view));
    view.choose(-1);
    assert!(!tells(&view));
}

#[test]
fn a_training_that_ended_stays_in_sight_until_the_next() {
    let mut events = recorded();
    for cell in ["student[method=mind,seed=1]", "student[method=uniform,seed=1]"] {
        events.push(event(29, json!({"event": "finished", "cell": cell, "seconds": 25.0})));
    }
    assert!(shown(&view(&events), 100, 30).contains("loss 0.690 at step 20"));
    events.push(event(30, json!({"event": "started", "cell": "student[method=uniform,seed=1]"})));
    assert!(shown(&view(&events), 100, 30).contains("loss 0.190 at step 20"), "that one starts afresh");
}

#[test]
fn no_screen_is_too_small_and_no_event_too_odd() {
    let mut events = recorded();
    events.push(json!({"event": 5, "cell": null}));
    events.push(json!([]));
    events.push(json!({"event": "metric", "cell": "nobody", "name": "loss", "step": 1, "value": null}));
    events.push(json!({"event": "progress", "cell": "judge", "done": 9, "total": 0, "unit": "x"}));
    let view = view(&events);
    for (width, height) in [(1, 1), (2, 40), (10, 3), (20, 10), (300, 100)] {
        assert!(!shown(&view, width, height).contains('\u{1b}'));
    }
}
