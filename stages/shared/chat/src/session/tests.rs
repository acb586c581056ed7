//! A session against an endpoint that fails on purpose.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{Arc, atomic::AtomicBool},
};

use contract::{Backend, CellDirs, Event};
use serde_json::{Value, json};

use super::*;
use crate::{
    Message,
    bench::{Asked, Reply, Server},
};

/// What a session left behind.
struct Outcome {
    texts: Result<Vec<String>, String>,
    help: String,
    notes: Vec<String>,
}

/// Asks for `count` items, each `item N`, with waits of a few milliseconds.
fn ask(folder: &Path, server: &Server, count: usize, more: Value) -> Outcome {
    let mut params = json!({
        "base_url": server.base_url(), "model": "m", "max_tokens": 10, "timeout": 5.0,
        "retry": {"first_wait": 0.002, "longest_wait": 0.01},
    });
    params.as_object_mut().unwrap().append(more.clone().as_object_mut().unwrap());
    let endpoint: Endpoint = serde_json::from_value(params).unwrap();
    assert_eq!(endpoint.check(""), []);
    let notes = Mutex::new(Vec::new());
    let observer = |event: Event| {
        if let Event::Note { text } = event {
            notes.lock().unwrap().push(text);
        }
    };
    let dirs = CellDirs {
        outputs: BTreeMap::new(),
        scratch: folder.join("scratch"),
        journals: folder.join("journals"),
    };
    let cancelled = AtomicBool::new(false);
    let secrets = [Secret::new("THE_KEY", KEY).unwrap()];
    let context = Context::new(BTreeMap::new(), dirs, 0, Backend::default(), &cancelled, &observer)
        .with_secrets(&secrets);
    let session = Session::open(&endpoint, &context, "test").unwrap();
    let items: Vec<usize> = (0..count).collect();
    let result = session.run(&items, "items", |item, ask| Ok(ask(&request(*item))?.text));
    let help = result.as_ref().err().and_then(|error| error.help()).unwrap_or_default().to_owned();
    let texts = result.map_err(|error| error.to_string());
    drop(session);
    Outcome { texts, help, notes: notes.into_inner().unwrap() }
}

const KEY: &str = "sk-test-0123456789";

fn request(item: usize) -> Request {
    Request { messages: vec![Message { role: "user", content: format!("item {item}") }], seed: 0 }
}

fn good(asked: &Asked) -> Reply {
    Reply::Good(format!("answer to {}", asked.prompt))
}

fn error(status: u16, code: &str) -> Reply {
    let body = json!({"error": {"message": "what happened", "type": "t", "code": code}});
    Reply::Status(status, Vec::new(), body.to_string())
}

#[test]
fn completions_come_in_order_and_once() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(good).unwrap();
    let first = ask(folder.path(), &server, 20, json!({}));
    let texts = first.texts.unwrap();
    assert_eq!(texts.len(), 20);
    assert_eq!(texts[7], "answer to item 7");
    assert_eq!(first.notes, ["20 completions, 20 of them new: 40 prompt and 80 completion tokens"]);
    let more = ask(folder.path(), &server, 30, json!({}));
    assert_eq!(more.texts.unwrap()[..20], texts[..]);
    assert_eq!(server.asked(), 30);
    // Another temperature is another item.
    ask(folder.path(), &server, 1, json!({"temperature": 0.3})).texts.unwrap();
    assert_eq!(server.asked(), 31);
}

#[test]
fn equal_items_are_paid_for_once() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|asked: &Asked| {
        thread::sleep(Duration::from_millis(20));
        good(asked)
    })
    .unwrap();
    let endpoint = json!({"base_url": server.base_url(), "model": "m"});
    let endpoint: Endpoint = serde_json::from_value(endpoint).unwrap();
    let dirs = CellDirs {
        outputs: BTreeMap::new(),
        scratch: folder.path().join("scratch"),
        journals: folder.path().join("journals"),
    };
    let cancelled = AtomicBool::new(false);
    let context = Context::new(BTreeMap::new(), dirs, 0, Backend::default(), &cancelled, &|_: Event| {});
    let session = Session::open(&endpoint, &context, "test").unwrap();
    let texts = session.run(&[1; 8], "items", |item, ask| Ok(ask(&request(*item))?.text)).unwrap();
    assert_eq!(texts, ["answer to item 1"; 8]);
    assert_eq!(server.asked(), 1);
}

#[test]
fn every_fault_is_repeated_until_the_completion_is_good() {
    let script = |asked: &Asked| match asked.before {
        0 => error(429, "rate_limit_exceeded"),
        1 => Reply::Status(429, vec![("retry-after-ms", "3".into())], String::new()),
        2 => error(500, "server_error"),
        3 => Reply::Reset,
        4 => Reply::Truncated("a text that is cut".into()),
        5 => Reply::Body("{\"choices\": [".into()),
        6 => Reply::Body(crate::bench::completion("p", " ")),
        7 => Reply::Body("{\"choices\": []}".into()),
        _ => good(asked),
    };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(script).unwrap();
    let outcome = ask(folder.path(), &server, 5, json!({"concurrency": 2}));
    assert_eq!(outcome.texts.unwrap().len(), 5);
    assert_eq!((server.asked(), server.delivered()), (45, 5));
    let counts = outcome.notes.iter().find(|note| note.contains("requests failed")).unwrap();
    assert_eq!(
        counts,
        "40 requests failed (throttled 10, server error 5, connection lost 10, malformed reply 5, \
         empty completion 5, wrong number of choices 5); they took 5 tokens"
    );
}

#[test]
fn a_stalled_request_is_given_up_and_repeated() {
    let script = |asked: &Asked| match asked.before {
        0 => Reply::Stall(Duration::from_secs(10)),
        _ => good(asked),
    };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(script).unwrap();
    let started = Instant::now();
    let outcome = ask(folder.path(), &server, 3, json!({"timeout": 0.5}));
    assert!(outcome.texts.is_ok());
    assert!(started.elapsed() < Duration::from_secs(10), "{:?}", started.elapsed());
    assert!(outcome.notes.iter().any(|note| note.contains("(timed out ")), "{:?}", outcome.notes);
}

#[test]
fn what_the_endpoint_asks_to_wait_is_waited_by_everyone() {
    let script = |asked: &Asked| match asked.count {
        0 => Reply::Status(429, vec![("retry-after", "0.4".into())], String::new()),
        _ => good(asked),
    };
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(script).unwrap();
    let started = Instant::now();
    ask(folder.path(), &server, 4, json!({"concurrency": 1})).texts.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(400));
    let outcome = ask(folder.path(), &server, 4, json!({"model": "other"}));
    assert!(outcome.texts.is_ok());

    let server = Server::start(|_: &Asked| {
        Reply::Status(429, vec![("retry-after", "7200".into())], "come back".into())
    })
    .unwrap();
    let outcome = ask(folder.path(), &server, 4, json!({"model": "third"}));
    assert_eq!(
        outcome.texts.unwrap_err(),
        "the endpoint asks to wait 120 minutes: status 429: come back; \
         0 of 4 items are finished and kept, 4 are left"
    );
}

#[test]
fn rate_limits_hold_across_threads() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(good).unwrap();
    // Ten at once, then ten a second; 17 tokens are set aside for an item and all but 6 given back.
    let started = Instant::now();
    ask(folder.path(), &server, 15, json!({"limits": {"requests_per_minute": 600.0}})).texts.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(450), "{:?}", started.elapsed());
    let started = Instant::now();
    let limits = json!({"model": "n", "limits": {"tokens_per_minute": 1200.0}});
    ask(folder.path(), &server, 8, limits).texts.unwrap();
    assert!(started.elapsed() >= Duration::from_millis(900), "{:?}", started.elapsed());
    assert_eq!(server.asked(), 23);
}

#[test]
fn an_exhausted_quota_stops_and_keeps_everything() {
    let folder = tempfile::tempdir().unwrap();
    let open = Arc::new(AtomicBool::new(false));
    let paid = Arc::clone(&open);
    let server = Server::start(move |asked: &Asked| {
        if asked.count < 12 || paid.load(Ordering::Relaxed) {
            good(asked)
        } else {
            error(429, "insufficient_quota")
        }
    })
    .unwrap();
    let outcome = ask(folder.path(), &server, 40, json!({"concurrency": 1}));
    assert_eq!(
        outcome.texts.unwrap_err(),
        "the account's quota is exhausted: status 429: what happened; 12 of 40 items are finished and kept, 28 are left"
    );
    assert_eq!(outcome.help, "when the account has quota again, `retort run` goes on from here");
    assert_eq!(server.asked(), 13);
    open.store(true, Ordering::Relaxed);
    assert_eq!(ask(folder.path(), &server, 40, json!({})).texts.unwrap().len(), 40);
    assert!(server.tallies().values().all(|tally| tally.delivered == 1));
}

#[test]
fn a_budget_stops_before_it_is_passed_and_counts_earlier_runs() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(good).unwrap();
    // An item takes 2 prompt and 4 completion tokens; 10 + 7 are set aside for it.
    let prices = json!({"m": {"prompt": 1e6, "completion": 1e6}});
    let with = |budget: Value| json!({"prices": prices, "budget": budget, "concurrency": 3});
    let outcome = ask(folder.path(), &server, 20, with(json!({"cost": 60.0})));
    let done = server.delivered();
    assert!((6..=10).contains(&done), "{done} items of 6 within 60");
    let error = outcome.texts.unwrap_err();
    let spent = done * 6;
    assert_eq!(
        error,
        format!(
            "the next completion could go beyond the budget of 60.0000 USD: {spent}.0000 USD is spent; \
             {done} of 20 items are finished and kept, {} are left",
            20 - done
        )
    );
    assert_eq!(outcome.help, "raise `budget`, and `retort run` goes on from here");
    // Again with the same budget: what is there counts, and nothing is asked.
    assert_eq!(ask(folder.path(), &server, 20, with(json!({"cost": 60.0}))).texts.unwrap_err(), error);
    assert_eq!(server.asked(), done);
    for (budget, least) in [(json!({"tokens": 90}), 11), (json!({"calls": 17}), 17)] {
        assert!(ask(folder.path(), &server, 20, with(budget)).texts.is_err());
        assert!((least..20).contains(&server.delivered()), "{}", server.delivered());
    }
    assert_eq!(server.delivered(), 17);
    ask(folder.path(), &server, 20, with(json!({"cost": 1000.0}))).texts.unwrap();
    assert!(server.tallies().values().all(|tally| *tally == crate::bench::Tally { asked: 1, delivered: 1 }));
}

#[test]
fn a_refused_item_does_not_hold_up_the_others_and_is_asked_again_next_time() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|asked: &Asked| {
        if asked.prompt == "item 3" && asked.before == 0 { error(400, "content_policy") } else { good(asked) }
    })
    .unwrap();
    let outcome = ask(folder.path(), &server, 10, json!({}));
    assert_eq!(
        outcome.texts.unwrap_err(),
        "1 of 10 items got no completion, the last one because: status 400: what happened; the other 9 are kept"
    );
    assert_eq!(server.asked(), 10);
    assert!(ask(folder.path(), &server, 10, json!({})).texts.is_ok());
    assert_eq!(server.asked(), 11);
}

#[test]
fn an_endpoint_that_refuses_or_is_away_is_not_asked_for_ever() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|_: &Asked| error(401, "invalid_api_key")).unwrap();
    let outcome = ask(folder.path(), &server, 100, json!({"concurrency": 1}));
    assert!(
        outcome
            .texts
            .unwrap_err()
            .starts_with("the endpoint refuses the requests: status 401: what happened")
    );
    assert!(outcome.help.contains("`api_key_env`"), "{}", outcome.help);
    assert_eq!(server.asked(), 1);

    let server = Server::start(|_: &Asked| error(503, "overloaded")).unwrap();
    let more = json!({"concurrency": 1, "retry": {"times": 2, "first_wait": 0.001, "longest_wait": 0.001}});
    let outcome = ask(folder.path(), &server, 100, more);
    assert!(outcome.texts.unwrap_err().starts_with("8 items in a row ended without a completion"));
    assert_eq!(server.asked(), 24);
}

#[test]
fn the_key_goes_into_the_header_and_nowhere_else() {
    let folder = tempfile::tempdir().unwrap();
    let echo = |asked: &Asked| {
        let seen = asked.authorization.clone().unwrap_or_default();
        match asked.before {
            0 => Reply::Status(500, Vec::new(), format!("you sent {seen}")),
            // A long way in, so that a cut could leave a part of it.
            1 => Reply::Status(500, Vec::new(), format!("{}{seen}", "x".repeat(285))),
            _ => Reply::Good(format!("your key is {seen}")),
        }
    };
    let server = Server::start(echo).unwrap();
    let outcome = ask(folder.path(), &server, 2, json!({"api_key_env": "THE_KEY", "concurrency": 1}));
    assert_eq!(outcome.texts.unwrap()[0], "your key is Bearer [THE_KEY]");
    let journal = std::fs::read_dir(folder.path().join("journals/test")).unwrap();
    let journal = journal.flatten().find(|entry| entry.path().is_file()).unwrap();
    let kept = std::fs::read_to_string(journal.path()).unwrap();
    let said = outcome.notes.join("\n");
    assert!(said.contains("you sent Bearer [THE_KEY]"), "{said}");
    for text in [&kept, &said] {
        assert!(!text.contains(&KEY[..12]), "{text}");
    }
}
