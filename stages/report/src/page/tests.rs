//! The page of a small recipe made by hand: what it says, and that text of others stays text.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path};

use contract::{
    bench::Bench,
    jsonl,
    records::{self, Metric, Prediction, Question, QuestionRationales, Rationale, Scores},
};
use serde_json::json;
use tempfile::TempDir;

use super::*;
use crate::Report;

/// Text that would do something if it were not text.
const HOSTILE: &str = "<script>alert(1)</script></style></script><img src=x onerror=alert(2)>\"'&amp; \u{202e}gnp.exe\u{0}\u{2066}";

struct Recipe {
    folder: TempDir,
    facts: Facts,
}

impl Recipe {
    fn new() -> Self {
        let facts = Facts {
            recipe: "tiny".into(),
            command: "retort run tiny.yaml".into(),
            version: "0.0.0".into(),
            sources: vec![("tiny.yaml".into(), "recipe: tiny\n".into())],
            runs: vec![RunFacts { id: "now".into(), ..RunFacts::default() }],
            ..Facts::default()
        };
        Self { folder: tempfile::tempdir().unwrap(), facts }
    }

    /// Adds a cell with one artifact, whose folder the caller fills.
    fn cell(
        &mut self,
        stage: &str,
        axes: &[(&str, &str)],
        upstream: &[usize],
        artifact: ArtifactType,
        fill: impl FnOnce(&Path),
    ) -> usize {
        let place = self.facts.cells.len();
        let folder = self.folder.path().join(place.to_string());
        fs::create_dir(&folder).unwrap();
        fill(&folder);
        let axes: BTreeMap<String, String> =
            axes.iter().map(|(axis, value)| ((*axis).to_owned(), (*value).to_owned())).collect();
        self.facts.cells.push(CellFacts {
            name: format!("{stage}[{}]", axes.values().cloned().collect::<Vec<_>>().join(",")),
            stage: stage.to_owned(),
            axes,
            upstream: upstream.to_vec(),
            state: State::Current,
            fingerprint: Some(format!("{place:064}")),
            run: Some(if place == 0 { "earlier" } else { "now" }.into()),
            seconds: Some(2.0),
            bytes: Some(10),
            artifacts: vec![Artifact { artifact, folder }],
            ..CellFacts::default()
        });
        place
    }

    /// Answers of a method to three questions, and its metrics.
    fn method(&mut self, questions: usize, method: &str, text: &str, correct: [bool; 3]) {
        for seed in ["1", "2"] {
            let axes = [("method", method), ("seed", seed)];
            self.cell("student", &axes, &[], ArtifactType::Metrics, |folder| {
                let line = |step: usize| Metric {
                    step,
                    values: BTreeMap::from([
                        ("loss".into(), 4.0 / step as f64),
                        ("alpha/planning".into(), 0.25 * step as f64),
                        ("alpha/induction".into(), 1.0 - 0.25 * step as f64),
                        ("m/planning/induction".into(), 0.5),
                    ]),
                };
                let lines = if method == "undistilled" { Vec::new() } else { (1..=4).map(line).collect() };
                jsonl::write(&folder.join(records::files::METRICS), &lines).unwrap();
            });
            self.cell("scores", &axes, &[questions], ArtifactType::Scores, |folder| {
                let predictions: Vec<Prediction> = (0..3)
                    .map(|at| Prediction {
                        id: format!("q{at}"),
                        text: format!("{method} says: {text}"),
                        extracted: Some("7".into()),
                        correct: correct[at],
                        truncated: false,
                        undecided: false,
                        tokens: 3,
                    })
                    .collect();
                jsonl::write(&folder.join(records::files::PREDICTIONS), &predictions).unwrap();
                let right = correct.iter().filter(|right| **right).count() as f64 / 3.0;
                let names = ["accuracy", "unparsed", "truncated", "tokens"];
                let values =
                    names.map(|name| (name.to_owned(), if name == "accuracy" { right } else { 0.0 }));
                let (task, profile) = ("arithmetic".into(), "mind".into());
                let scores = Scores { task, profile, questions: 3, values: BTreeMap::from(values) };
                jsonl::write_json(&folder.join(records::files::SCORES), &scores).unwrap();
            });
        }
    }

    /// Two methods, a table, a figure, rationales and judgements; every text of others holds this one.
    fn complete(text: &str) -> Self {
        let mut recipe = Self::new();
        let question = |at: usize| Question {
            id: format!("q{at}"),
            task: "arithmetic".into(),
            question: format!("question {at}: {text}"),
            answer: "7".into(),
            choices: Vec::new(),
            facts: None,
        };
        let questions = recipe.cell("test", &[], &[], ArtifactType::Questions, |folder| {
            let questions: Vec<Question> = (0..3).map(question).collect();
            jsonl::write(&folder.join(records::files::QUESTIONS), &questions).unwrap();
        });
        recipe.method(questions, "undistilled", text, [true, false, false]);
        recipe.method(questions, "mind", text, [false, true, false]);
        recipe.cell("rationales", &[], &[], ArtifactType::Completions, |folder| {
            let rationale = |perspective: &str| Rationale {
                perspective: perspective.into(),
                attempt: 0,
                text: format!("{perspective} thinks: {text}"),
                truncated: false,
            };
            let rationales = vec![rationale("planning"), rationale("induction")];
            let line = QuestionRationales { question: question(0), rationales };
            jsonl::write(&folder.join(records::files::COMPLETIONS), &[line]).unwrap();
        });
        recipe.cell("accepted", &[], &[], ArtifactType::Other("judgements"), |folder| {
            let judged = |perspective: &str, outcome: &str| {
                json!({"id": "q0", "perspective": perspective, "attempt": 0, "outcome": outcome, "rule": "boxed"})
            };
            let judged = [judged("planning", "kept"), judged("induction", "wrong")];
            jsonl::write(&folder.join("judgements.jsonl"), &judged).unwrap();
            let row = json!({"perspective": "planning", "asked": 4, "answered": 3, "kept": 2, "outcomes": {"kept": 2}});
            let questions = json!({"asked": 4, "kept": 2, "rationales": 9});
            let funnel = json!({"questions": questions, "perspectives": [row]});
            jsonl::write_json(&folder.join("funnel.json"), &funnel).unwrap();
        });
        recipe.cell("latent", &[], &[], ArtifactType::Figures, |folder| {
            fs::write(folder.join("mind.svg"), format!("<svg><!-- {} --></svg>", text::head(text, 200)))
                .unwrap();
            jsonl::write_json(&folder.join("mind.json"), &json!({"silhouette": 0.25, "label": text}))
                .unwrap();
        });
        let table = recipe.table();
        recipe.cell("tables.main", &[], &[], ArtifactType::Table, |folder| {
            fs::copy(&table, folder.join(crate::files::JSON)).unwrap();
        });
        recipe
    }

    /// The table of every score, made by the kind itself.
    fn table(&self) -> PathBuf {
        let mut bench = Bench::new(&self.folder.path().join("bench"));
        for (_, cell, folder) in self.facts.artifacts(ArtifactType::Scores) {
            let labels: Vec<(&str, &str)> =
                cell.axes.iter().map(|(axis, value)| (axis.as_str(), value.as_str())).collect();
            bench = bench.input("scores", folder, &labels);
        }
        let claim = json!({"left": "mind.arithmetic", "right": "undistilled.arithmetic", "at_least": 90});
        let params = json!({
            "rows": "method", "columns": "task", "relative_to": "undistilled", "title": "All of it",
            "claims": {"mind wins by far": claim},
        });
        bench.run(&Report, &params).unwrap();
        bench.output("table").join(crate::files::JSON)
    }

    fn page(&self) -> String {
        render(&self.facts).unwrap()
    }
}

#[test]
fn everything_of_a_recipe_is_on_the_page() {
    let page = Recipe::complete("plain words").page();
    for words in [
        "retort run tiny.yaml",
        "All of it",
        "undecided</span> <strong>mind wins by far",
        "is minimized; over steps. mind: from 4 to 1.",
        "The assistant's story: mind",
        "alpha: weight of each perspective",
        "score matrix",
        "2 of 4 questions are kept, with 9 rationales",
        "data-outcome=\"wrong\"",
        "undistilled says: plain words",
        "mind says: plain words",
        "planning thinks: plain words",
        "data:image&#x2f;svg+xml,%3Csvg%3E",
        "<dt>silhouette</dt><dd><bdi>0.25</bdi></dd>",
        "<td>earlier (reused)</td>",
    ] {
        assert!(page.contains(words), "no `{words}` in\n{page}");
    }
    // Of three questions one is gained, one lost and one wrong either way.
    for change in ["gained", "lost", "wrong"] {
        assert_eq!(page.matches(&format!("data-change=\"{change}\"")).count(), 1, "{change}");
    }
    assert!(page.contains("<th scope=\"row\">mind</th><td>1</td><td>2</td><td>1</td><td>1</td>"));
    assert!(!page.contains("Not complete"));
}

#[test]
fn equal_facts_give_equal_pages() {
    let recipe = Recipe::complete("plain words");
    assert_eq!(recipe.page(), recipe.page());
}

#[test]
fn text_of_others_stays_text() {
    let plain = Recipe::complete("plain words").page();
    let mut recipe = Recipe::complete(HOSTILE);
    recipe.facts.about = Some(HOSTILE.to_owned());
    recipe.facts.sources.push((HOSTILE.to_owned(), HOSTILE.to_owned()));
    recipe.facts.cells[0].name = HOSTILE.to_owned();
    let page = recipe.page();
    // The same elements as with plain words, but for the source and the sentence added.
    for element in ["<script", "</script", "<style", "</style", "<img"] {
        assert_eq!(page.matches(element).count(), plain.matches(element).count(), "{element}");
    }
    assert!(page.contains("mind says: &lt;script&gt;alert(1)&lt;&#x2f;script&gt;&lt;&#x2f;style&gt;"));
    assert!(page.contains("‹U+202E›gnp.exe‹U+0000›‹U+2066›"));
    assert!(!page.contains(['\u{202e}', '\u{2066}', '\u{0}']));
    // As text, or percent-encoded inside a picture.
    let harmless = ["&lt;img src=x onerror=", "%3Cimg src=x onerror="].map(|text| page.matches(text).count());
    assert!(harmless.iter().all(|count| *count > 0));
    assert_eq!(page.matches("onerror=").count(), harmless.iter().sum::<usize>());
}

#[test]
fn a_long_line_is_cut_with_a_note_and_a_sealed_text_is_not_shown() {
    let long = format!("start{}end", "a".repeat(1 << 20));
    let page = Recipe::complete(&long).page();
    assert!(page.len() < 200_000, "{} bytes", page.len());
    assert!(page.contains("mind says: startaaaa"));
    assert!(page.contains("more characters left out)"));

    let mut recipe = Recipe::new();
    recipe.method(0, "mind", "x", [true; 3]);
    let scores = &recipe.facts.cells[1].artifacts[0].folder;
    let path = scores.join(records::files::PREDICTIONS);
    let mut predictions: Vec<Prediction> = jsonl::read(&path).unwrap();
    predictions[0].text = tasks::gpqa::seal("what nobody may read");
    jsonl::write(&path, &predictions).unwrap();
    let page = recipe.page();
    assert!(page.contains("(sealed: shown only to models)") && !page.contains(&predictions[0].text));
}

#[test]
fn what_is_missing_is_named_with_the_remedy() {
    let mut recipe = Recipe::complete("plain words");
    recipe.facts.cells.push(CellFacts {
        name: "student[mind,3]".into(),
        reason: Some("never run".into()),
        ..CellFacts::default()
    });
    recipe.facts.cells[1].state = State::Outdated;
    recipe.facts.cells[0].accepted = Some(Accepted {
        reason: "only <b>the case".into(),
        time: "2026-01-02T03:04:05Z".into(),
        from: "0123456789abcdef".into(),
    });
    let page = recipe.page();
    assert!(page.contains("Cells without a result: 1. Cells whose result is of an earlier state"));
    assert!(page.contains("<bdi>student[mind,3]</bdi>: missing; <bdi>never run</bdi>"));
    assert!(page.contains("1 accepted</span>"));
    assert!(page.contains("<bdi>only &lt;b&gt;the case</bdi> <span class=\"note\">(2026-01-02T03:04:05Z; "));
    assert!(page.contains("made as <code>0123456789ab…</code>"));
    assert!(page.contains("<td>up to date, accepted</td>"));
}
