//! The judge on a real teacher's rationales from eight perspectives.
#![expect(clippy::print_stdout, reason = "figures for people")]

use std::{collections::BTreeMap, path::PathBuf};

use serde_json::{Value, json};

use crate::project::Project;

const SETS: [(&str, &str); 3] = [("gsm8k", "gsm8k"), ("svamp", "svamp"), ("math500", "math500")];

fn rows(path: &PathBuf) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn recipe(file: &str) -> String {
    let tasks: Vec<String> = SETS.iter().map(|(task, set)| format!("{set}: {{task: {task}}}")).collect();
    format!(
        "recipe: judged\nmatrix:\n  set: {{{}}}\nstages:\n\
         \x20 questions: {{uses: dataset, matrix: [set], with: {{task: \"${{set.task}}\", split: train, path: \"${{set}}.jsonl\"}}}}\n\
         \x20 rationales:\n    uses: teacher\n    matrix: [set]\n    needs: {{questions: questions}}\n\
         \x20   with: {{provider: {{recorded: {{path: {file}}}}}, perspectives: paper}}\n\
         \x20 accepted:\n    uses: judge\n    needs: {{completions: rationales}}\n\
         \x20   with: {{keep: {{min_correct: 4}}, easy: 0.5, dedup: 0.6}}\n",
        tasks.join(", ")
    )
}

#[test]
fn the_funnel_of_a_real_teacher_is_shown_by_perspective() {
    let Some(data) = std::env::var_os("RETORT_SHARED_DATA").map(PathBuf::from) else {
        println!("skipped: RETORT_SHARED_DATA does not name a folder of benchmark data");
        return;
    };
    let file = data.join("perspectives/rationales.jsonl");
    let taught = rows(&file);
    let project = Project::retort();
    for (_, set) in SETS {
        let questions: String = taught
            .iter()
            .filter(|row| row["set"] == set)
            .map(|row| {
                let (id, question, answer) = (&row["id"], &row["question"], &row["answer"]);
                format!("{}\n", json!({"id": id, "question": question, "answer": answer}))
            })
            .collect();
        assert!(!questions.is_empty(), "no questions of the set {set}");
        project.write(&format!("{set}.jsonl"), &questions);
    }
    project.write("recipe.yaml", &recipe(&file.to_string_lossy()));
    project.run(&["run", "recipe.yaml"]).expect(0);
    let shown = project.run(&["show", "recipe.yaml", "accepted:judgements", "-n", "0"]).expect(0).stdout;
    let (_, table) = shown.split_once("## acceptance.md").unwrap();
    let (table, _) = table.split_once("## funnel.json").unwrap();
    println!("{}", table.split_once('\n').unwrap().1.trim());

    let folder = |port: &str| -> PathBuf {
        let target = format!("accepted:{port}");
        project.run(&["show", "recipe.yaml", &target, "--path"]).expect(0).stdout.trim().into()
    };
    let judgements = rows(&folder("judgements").join("judgements.jsonl"));
    let every: Vec<&Value> = taught.iter().flat_map(|row| row["rationales"].as_array().unwrap()).collect();
    assert_eq!(judgements.len(), every.len());
    let truncated = judgements.iter().filter(|judgement| judgement["outcome"] == "truncated").count();
    assert_eq!(truncated, every.iter().filter(|rationale| rationale["truncated"] == true).count());

    // The file's own verdicts are not read; they should nearly always agree.
    let verdicts: BTreeMap<String, bool> = taught
        .iter()
        .flat_map(|row| {
            row["rationales"].as_array().unwrap().iter().map(|rationale| {
                let perspective = rationale["perspective"].as_str().unwrap().replace('_', "-");
                let key = format!("{} {perspective} {}", row["id"], rationale["attempt"]);
                (key, rationale["correct"] == true)
            })
        })
        .collect();
    let whole: Vec<&Value> = judgements.iter().filter(|j| j["outcome"] != "truncated").collect();
    let key = |j: &Value| format!("{} {} {}", j["id"], j["perspective"].as_str().unwrap(), j["attempt"]);
    let agreed = whole.iter().filter(|judgement| verdicts[&key(judgement)] == (judgement["correct"] == true));
    let share = agreed.count() as f64 / whole.len() as f64;
    println!(
        "agrees with the file's own verdicts on {:.2} % of {} whole completions",
        100.0 * share,
        whole.len()
    );
    assert!(share > 0.97, "{share}");

    let funnel: Value =
        serde_json::from_str(&std::fs::read_to_string(folder("judgements").join("funnel.json")).unwrap())
            .unwrap();
    let perspectives = funnel["perspectives"].as_array().unwrap();
    assert_eq!(perspectives.len(), 8);
    for perspective in perspectives {
        let steps = ["asked", "answered", "right", "deduplicated", "sufficient", "down_sampled", "kept"];
        let counts: Vec<u64> = steps.iter().map(|step| perspective[step].as_u64().unwrap()).collect();
        assert!(counts.is_sorted_by(|a, b| a >= b), "{perspective}");
        assert_eq!(counts[0], taught.len() as u64);
        // Later attempts, down-sampling and the least number of perspectives all have work here.
        assert!(perspective["right_at_first"].as_u64().unwrap() < counts[2], "{perspective}");
        assert!(counts[3] > counts[4] && counts[4] > counts[5] && counts[6] > 0, "{perspective}");
    }
    let kept = rows(&folder("rationales").join("rationales.jsonl"));
    let mut rationales = 0;
    for row in &kept {
        let suffix = format!("\nThe answer is \\boxed{{{}}}", row["question"]["answer"].as_str().unwrap());
        let of = row["rationales"].as_array().unwrap();
        assert!(of.len() >= 4);
        assert!(of.iter().all(|rationale| rationale["text"].as_str().unwrap().ends_with(&suffix)));
        rationales += of.len();
    }
    assert_eq!(funnel["questions"]["rationales"], rationales);
}
