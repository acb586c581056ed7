//! A teacher behind a chat endpoint that fails on purpose, asked by the real binary.
#![expect(clippy::print_stdout, reason = "figures for people")]

use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use chat::bench::{Asked, Reply, Server, completion};

use crate::project::{Project, files_below};

/// A recipe that asks `questions` generated questions under two perspectives.
pub(crate) fn recipe(server: &Server, questions: usize, more: &str) -> String {
    format!(
        "recipe: asked\nstages:\n\
         \x20 questions: {{uses: dataset, with: {{task: arithmetic, split: train, count: {questions}}}}}\n\
         \x20 rationales:\n    uses: teacher\n    needs: {{questions: questions}}\n    with:\n\
         \x20     perspectives: [planning, socratic]\n      provider:\n        openai:\n\
         \x20         base_url: {}\n          model: m\n          max_tokens: 40\n          timeout: 5\n\
         \x20         retry: {{times: 20, first_wait: 0.005, longest_wait: 0.05}}\n{more}\
         \x20 accepted: {{uses: judge, needs: {{completions: rationales}}}}\n",
        server.base_url()
    )
}

/// The same number for the same request of the same item, whatever the order of requests: 0 to 999.
fn draw(asked: &Asked) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&asked.item, asked.before).hash(&mut hasher);
    hasher.finish() % 1000
}

/// A good completion for seven requests in ten; for the others each fault in turn.
fn faulty(asked: &Asked, faults: &AtomicUsize) -> Reply {
    if draw(asked) >= 300 {
        return good(asked);
    }
    match faults.fetch_add(1, Ordering::Relaxed) % 20 {
        0 | 10 => Reply::Status(429, Vec::new(), r#"{"error": {"code": "rate_limit_exceeded"}}"#.into()),
        1 | 11 => Reply::Status(429, vec![("retry-after-ms", "15".into())], String::new()),
        2 | 12 => Reply::Status(429, vec![("retry-after", "0.03".into())], String::new()),
        3 | 13 | 14 => Reply::Status(500, Vec::new(), "internal error".into()),
        4 => Reply::Stall(Duration::from_secs(7)),
        5 | 15 => Reply::Reset,
        6 | 16 => Reply::Truncated("a text that is cut off".into()),
        7 | 17 => Reply::Body("{\"choices\": [{\"message\": {\"cont".into()),
        8 | 18 => Reply::Body(completion("", " \n")),
        9 => Reply::Body("{\"choices\": []}".into()),
        _ => {
            let choice = r#"{"message": {"content": "The answer is 1"}, "finish_reason": "stop"}"#;
            Reply::Body(format!("{{\"choices\": [{choice}, {choice}]}}"))
        }
    }
}

pub(crate) fn good(asked: &Asked) -> Reply {
    Reply::Good(format!("Thinking about {} words. The answer is \\boxed{{1}}", asked.prompt.len()))
}

/// The keys in the teacher's journal.
fn journalled(project: &Project) -> BTreeSet<String> {
    let folder = project.path(".retort/journals/teacher");
    let mut keys = BTreeSet::new();
    if folder.is_dir() {
        for file in files_below(&folder) {
            for line in std::fs::read_to_string(file).unwrap().lines() {
                let line: serde_json::Value = serde_json::from_str(line).unwrap_or_default();
                keys.extend(line["key"].as_str().map(str::to_owned));
            }
        }
    }
    keys
}

fn wait_until(condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(60), "waited for a minute");
        thread::sleep(Duration::from_millis(1));
    }
}

fn completions(project: &Project) -> Vec<serde_json::Value> {
    let path = project.run(&["show", "recipe.yaml", "rationales:completions", "--path"]).expect(0).stdout;
    let text = std::fs::read_to_string(Path::new(path.trim()).join("completions.jsonl")).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn faults_and_kills_lose_nothing_and_pay_for_nothing_twice() {
    const ITEMS: usize = 500;
    const WORKERS: usize = 16;
    let started = Instant::now();
    let project = Project::retort();
    let (faults, closed) = (AtomicUsize::new(0), Arc::new(AtomicBool::new(false)));
    let gate = Arc::clone(&closed);
    let server = Server::start(move |asked: &Asked| {
        // While the gate is closed every request waits, and is then lost with its client.
        if gate.load(Ordering::SeqCst) {
            while gate.load(Ordering::SeqCst) {
                thread::sleep(Duration::from_millis(2));
            }
            return Reply::Reset;
        }
        faulty(asked, &faults)
    })
    .unwrap();
    // 250 questions under two perspectives; answers are wrong, which is the judge's business.
    let more = format!("          concurrency: {WORKERS}\n");
    project.write("recipe.yaml", &recipe(&server, ITEMS / 2, &more));

    // Two kills while no reply is on its way: whatever was delivered is in the journal by then, and stays there.
    for delivered in [100, 220] {
        let mut child = project.start(&["run", "recipe.yaml", "rationales"]);
        wait_until(|| server.delivered() >= delivered);
        closed.store(true, Ordering::SeqCst);
        // Replies that passed the gate just before it closed arrive meanwhile.
        thread::sleep(Duration::from_millis(100));
        wait_until(|| journalled(&project).len() == server.delivered());
        child.kill().unwrap(); // SIGKILL
        child.wait().unwrap();
        closed.store(false, Ordering::SeqCst);
        assert_eq!(journalled(&project).len(), server.delivered(), "a delivered completion was lost");
    }
    // One kill in the middle of everything: what is on its way at that moment cannot be known.
    let mut child = project.start(&["run", "recipe.yaml", "rationales"]);
    wait_until(|| server.delivered() >= 360);
    child.kill().unwrap();
    child.wait().unwrap();
    thread::sleep(Duration::from_millis(50));
    let on_its_way = server.delivered() - journalled(&project).len();
    assert!(on_its_way <= WORKERS, "{on_its_way} completions lost by one kill");

    let run = project.run(&["run", "recipe.yaml", "rationales"]).expect(0);
    let tallies = server.tallies();
    let good: BTreeMap<usize, usize> = tallies.values().fold(BTreeMap::new(), |mut by, tally| {
        *by.entry(tally.delivered).or_default() += 1;
        by
    });
    let paid_twice = good.iter().filter(|(times, _)| **times > 1).map(|(_, items)| *items).sum::<usize>();
    let asked = server.asked();
    println!(
        "{ITEMS} items, {asked} requests, {} of them without a good completion ({:.0} %), 3 kills",
        asked - server.delivered(),
        100.0 * (asked - server.delivered()) as f64 / asked as f64
    );
    println!(
        "good completions delivered, items by how often: {good:?}; on their way at the kill in the middle: {on_its_way}"
    );
    println!("{}", run.stderr.lines().filter(|line| line.contains("note ")).collect::<Vec<_>>().join("\n"));
    println!("{:.1} s", started.elapsed().as_secs_f64());
    assert_eq!(tallies.len(), ITEMS);
    assert!(tallies.values().all(|tally| tally.delivered >= 1), "an item has no good completion");
    assert_eq!(paid_twice, on_its_way, "an item was paid for twice without a kill's fault");

    let completions = completions(&project);
    assert_eq!(completions.len(), ITEMS / 2);
    for completion in &completions {
        let rationales = completion["rationales"].as_array().unwrap();
        assert_eq!(rationales.len(), 2);
        assert!(rationales.iter().all(|rationale| {
            let text = rationale["text"].as_str().unwrap();
            text.starts_with("Thinking about ") && text.ends_with("\\boxed{1}")
        }));
    }
    // Everything is there: no request goes out for more of the same.
    std::fs::remove_dir_all(project.path(".retort/records")).unwrap();
    project.run(&["run", "recipe.yaml", "rationales"]).expect(0);
    assert_eq!(server.asked(), asked);
}

#[test]
fn overlapping_cells_and_two_runs_at_once_pay_for_each_item_once() {
    let project = Project::retort();
    let server = Server::start(|asked: &Asked| {
        thread::sleep(Duration::from_millis(5));
        good(asked)
    })
    .unwrap();
    // Three teachers, each with all the perspectives of the one before and one more.
    let text = recipe(&server, 30, "").replace("[planning, socratic]", "\"${set.list}\"").replace(
        "stages:\n",
        "matrix:\n  set:\n    one: {list: [planning]}\n    two: {list: [planning, socratic]}\n    \
         three: {list: [planning, socratic, analogy]}\nstages:\n",
    );
    project.write("recipe.yaml", &text.replace("uses: teacher\n", "uses: teacher\n    matrix: [set]\n"));
    let mut children: Vec<_> =
        (0..2).map(|_| project.start(&["run", "recipe.yaml", "rationales", "--jobs", "4"])).collect();
    for child in &mut children {
        assert_eq!(child.wait().unwrap().code(), Some(0));
    }
    assert_eq!(project.finished_in(".retort").len(), 4);
    assert_eq!(server.tallies().len(), 90);
    assert_eq!(server.asked(), 90);
}

#[test]
fn an_interrupted_run_finishes_what_is_on_its_way_and_loses_nothing() {
    let project = Project::retort();
    let server = Server::start(|asked: &Asked| {
        thread::sleep(Duration::from_millis(30));
        good(asked)
    })
    .unwrap();
    project.write("recipe.yaml", &recipe(&server, 30, "          concurrency: 4\n"));
    let mut child = project.start(&["run", "recipe.yaml", "rationales"]);
    wait_until(|| server.delivered() >= 10);
    let process = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(130));
    let delivered = server.delivered();
    assert!((10..60).contains(&delivered), "{delivered} of 60 delivered before it stopped");
    assert_eq!(journalled(&project).len(), delivered);
    project.run(&["run", "recipe.yaml", "rationales"]).expect(0);
    assert!(server.tallies().values().all(|tally| tally.asked == 1 && tally.delivered == 1));
}

#[test]
fn a_budget_stops_between_items_and_a_raised_one_goes_on() {
    let project = Project::retort();
    let server = Server::start(good).unwrap();
    let with = |budget: &str| {
        let more = format!(
            "          prices: {{m: {{prompt: 1000, completion: 1000}}}}\n          budget: {{{budget}}}\n"
        );
        project.write("recipe.yaml", &recipe(&server, 20, &more));
    };
    with("calls: 13");
    let plan = project.run(&["plan", "recipe.yaml"]).expect(4);
    assert!(plan.stdout.contains("costs  rationales: 40 calls, about "), "{}", plan.stdout);
    assert!(plan.stdout.contains("every completion at its longest, 40 tokens"), "{}", plan.stdout);
    let stopped = project.run(&["run", "recipe.yaml"]).expect(3);
    println!("{}", stopped.stderr);
    let error = "error: `rationales` failed: the next completion could go beyond the budget of 13 completions: \
                 13 is spent; 13 of 40 rationales are finished and kept, 27 are left\n\
                 help: raise `budget`, and `retort run` goes on from here";
    assert!(stopped.stderr.contains(error), "{}", stopped.stderr);
    assert_eq!(server.delivered(), 13);
    let plan = project.run(&["plan", "recipe.yaml"]).expect(4);
    println!("{}", plan.stdout);
    assert!(plan.stdout.contains("costs  rationales: 27 calls, about "), "{}", plan.stdout);
    assert!(plan.stdout.contains("as long as 13 earlier ones"), "{}", plan.stdout);
    assert!(plan.stdout.contains("13 more are in the journal"), "{}", plan.stdout);
    let json = project.run(&["plan", "recipe.yaml", "--json"]).expect(4);
    let json: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    let cells = json["cells"].as_array().unwrap();
    let estimate = cells.iter().find(|cell| cell["cell"] == "rationales").unwrap()["estimate"].clone();
    assert_eq!((estimate["calls"].as_u64(), estimate["journalled"].as_u64()), (Some(27), Some(13)));

    // The same budget asks nothing more.
    project.run(&["run", "recipe.yaml"]).expect(3);
    assert_eq!(server.asked(), 13);
    with("cost: 1000.0");
    project.run(&["run", "recipe.yaml", "rationales"]).expect(0);
    assert_eq!(server.asked(), 40);
    let usage = project.run(&["show", "recipe.yaml", "rationales:usage"]).expect(0);
    assert!(usage.stdout.contains("\"completions\": 40") && usage.stdout.contains("\"currency\": \"USD\""));
    // A budget, a timeout or another address for the same model cannot change the result.
    with("cost: 2000.0");
    let plan = project.run(&["plan", "recipe.yaml", "rationales"]).expect(0);
    assert!(plan.stdout.contains("0 to run"), "{}", plan.stdout);
}

#[test]
fn an_exhausted_quota_stops_and_the_same_command_goes_on() {
    let project = Project::retort();
    let topped_up = Arc::new(AtomicBool::new(false));
    let paid = Arc::clone(&topped_up);
    let server = Server::start(move |asked: &Asked| {
        if asked.count < 25 || paid.load(Ordering::Relaxed) {
            return good(asked);
        }
        let body =
            r#"{"error": {"message": "You exceeded your current quota", "code": "insufficient_quota"}}"#;
        Reply::Status(429, Vec::new(), body.into())
    })
    .unwrap();
    project.write("recipe.yaml", &recipe(&server, 20, ""));
    let stopped = project.run(&["run", "recipe.yaml"]).expect(3);
    println!("{}", stopped.stderr);
    let error = "error: `rationales` failed: the account's quota is exhausted: \
                 status 429: You exceeded your current quota; 25 of 40 rationales are finished and kept, 15 are left\n\
                 help: when the account has quota again, `retort run` goes on from here";
    assert!(stopped.stderr.contains(error), "{}", stopped.stderr);
    topped_up.store(true, Ordering::Relaxed);
    project.run(&["run", "recipe.yaml", "rationales"]).expect(0);
    assert!(server.tallies().values().all(|tally| tally.delivered == 1));
    assert_eq!(server.delivered(), 40);
}

#[test]
fn templates_of_ones_own_are_checked_placed_and_digested() {
    let project = Project::retort();
    let server = Server::start(good).unwrap();
    let own = "---\nname: own\ndescription: mine\n---\nThink: {{ question }}\n";
    project.write("own.md", own);
    let text = recipe(&server, 3, "").replace("[planning, socratic]", "[own.md, planning]");
    project.write("recipe.yaml", &text);
    project.run(&["run", "recipe.yaml", "rationales"]).expect(0);
    assert_eq!(server.asked(), 6);
    // A comment in the recipe, or the file moved: nothing to do. Another text: that perspective is asked again.
    std::fs::create_dir(project.path("moved")).unwrap();
    project.write("moved/own.md", own);
    project.write("recipe.yaml", &text.replace("[own.md", "[moved/own.md"));
    project.run(&["plan", "recipe.yaml", "rationales"]).expect(0);
    project.write("moved/own.md", &own.replace("Think", "Think again"));
    let plan = project.run(&["plan", "recipe.yaml", "rationales"]).expect(4);
    assert!(plan.stdout.contains("run    rationales: perspectives: "), "{}", plan.stdout);
    assert!(plan.stdout.contains("costs  rationales: 3 calls"), "{}", plan.stdout);
    project.run(&["run", "recipe.yaml", "rationales"]).expect(0);
    assert_eq!(server.asked(), 9);

    project.write("own.md", "---\nname: own\ndescription: mine\n---\nThink: {{ quest }}\n");
    project.write("recipe.yaml", &text.replace("planning]", "planing, missing.md]"));
    let wrong = project.run(&["check", "recipe.yaml"]).expect(2).stderr;
    assert!(wrong.contains("missing.md` does not exist"), "{wrong}");
    assert!(wrong.contains("`quest` is undefined (line 1 of the body)"), "{wrong}");
    assert!(wrong.contains("no perspective is named `planing`"), "{wrong}");
    assert!(wrong.contains("recipe.yaml:8:"), "{wrong}");
    project.write("recipe.yaml", &text.replace("[own.md, planning]", "papr"));
    let wrong = project.run(&["check", "recipe.yaml"]).expect(2).stderr;
    assert!(wrong.contains("`perspectives` in `with` of stage `rationales`: expected"), "{wrong}");
}
