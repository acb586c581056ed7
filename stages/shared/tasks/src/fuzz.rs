//! Odd texts for testing the scorer: random characters, LaTeX soup, and mutations.

use rand::{Rng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

/// What odd texts are made of.
const PIECES: [&str; 112] = [
    "\\boxed{",
    "\\fbox{",
    "\\boxed ",
    "}",
    "{",
    "$",
    "$$",
    "\\(",
    "\\)",
    "\\[",
    "\\]",
    "\\text{",
    "\\mbox{",
    "\\mathrm{",
    "answer",
    "The answer is ",
    "Answer: ",
    "final answer is",
    " is",
    ":",
    "####",
    "\n",
    "\n\n",
    "Q:",
    "\nQuestion:",
    "Problem:",
    "<think>",
    "</think>",
    "0",
    "1",
    "23",
    "456",
    "999999999",
    "3.14",
    ".5",
    "7.",
    ",",
    ",\\!",
    "{,}",
    ".",
    ";",
    "-",
    "\u{2212}",
    "+",
    "*",
    "/",
    "\\frac",
    "\\frac{",
    "\\dfrac12",
    "\\sqrt",
    "\\sqrt[3]{",
    "\\sqrt{",
    "^",
    "^{",
    "^{-1}",
    "_",
    "_{",
    "=",
    "<",
    "\\le",
    "\\ge ",
    "\\ne",
    "(",
    ")",
    "[",
    "]",
    "\\{",
    "\\}",
    "|",
    "!",
    "\\pi",
    "\\infty",
    "\\pm",
    "\\mp ",
    "\\cup",
    "\\in ",
    "e",
    "i",
    "x",
    "y",
    "n",
    "\\sin",
    "\\cos ",
    "\\tan(",
    "\\ln",
    "\\log_2",
    "\\exp(",
    "\\binom",
    "\\lfloor ",
    "\\rfloor",
    "\\begin{pmatrix}",
    "\\end{pmatrix}",
    "&",
    "\\\\",
    "\\left",
    "\\right",
    "\\circ",
    "^\\circ",
    "\\%",
    "%",
    " yes",
    " no",
    " B",
    "(C)",
    "option ",
    "dollars",
    " and ",
    "\u{ff11}",
    "é",
    "\u{2009}",
    "e9",
    "\u{301}",
];

/// Makes odd texts from a random generator: the same for the same seed and corpus.
#[derive(Clone, Debug)]
pub struct Generator {
    corpus: Vec<String>,
}

impl Generator {
    /// A generator that mutates these strings as well.
    pub fn new(corpus: Vec<String>) -> Self {
        Self { corpus }
    }

    /// A gold answer and a response that may or may not give it.
    pub fn pair(&self, rng: &mut ChaCha8Rng) -> (String, String) {
        let gold = self.answer(rng);
        let answer = match rng.random_range(0..4) {
            0 => return (gold, self.text(rng)),
            1 => self.answer(rng),
            // Nearly the gold answer, or it in other words: the comparison then goes deepest.
            2 => {
                let mut answer: Vec<char> = gold.chars().collect();
                mutate(&mut answer, rng);
                answer.into_iter().collect()
            }
            _ => format!("{gold}+{}", rng.random_range(0..2)),
        };
        (gold, format!("So the answer is $\\boxed{{{answer}}}$."))
    }

    fn answer(&self, rng: &mut ChaCha8Rng) -> String {
        let text = self.piece(rng, 24);
        text[..text.floor_char_boundary(1200)].to_owned()
    }

    /// Something like a model's response; now and then with a part repeated very often.
    fn text(&self, rng: &mut ChaCha8Rng) -> String {
        let mut text = self.piece(rng, 80);
        if rng.random_ratio(1, 12) {
            let unit = self.piece(rng, 3);
            text.push_str(&unit.repeat(rng.random_range(1..=4000 / unit.len().max(1) + 1)));
        }
        text
    }

    fn piece(&self, rng: &mut ChaCha8Rng, longest: usize) -> String {
        let base = match rng.random_range(0..4) {
            0 => (0..rng.random_range(0..longest)).map(|_| rng.random::<char>()).collect(),
            1 if !self.corpus.is_empty() => self.corpus.choose(rng).cloned().unwrap_or_default(),
            2 => formula(rng, 3),
            _ => soup(rng, longest),
        };
        let mut text: Vec<char> = base.chars().collect();
        for _ in 0..rng.random_range(0..4) {
            mutate(&mut text, rng);
        }
        text.into_iter().collect()
    }
}

fn soup(rng: &mut ChaCha8Rng, longest: usize) -> String {
    (0..rng.random_range(0..longest)).filter_map(|_| PIECES.choose(rng)).copied().collect()
}

/// A formula that makes sense, so that the comparison computes something.
fn formula(rng: &mut ChaCha8Rng, depth: u32) -> String {
    if depth == 0 || rng.random_ratio(1, 6) {
        return (*["x", "y", "2", "-7", "0.5", "\\pi", "e", "i", "\\sqrt3", "100", "n"]
            .choose(rng)
            .unwrap_or(&"1"))
        .to_owned();
    }
    let (a, b) = (formula(rng, depth - 1), formula(rng, depth - 1));
    match rng.random_range(0..12) {
        0 => format!("{a}+{b}"),
        1 => format!("({a})({b})"),
        2 => format!("\\frac{{{a}}}{{{b}}}"),
        3 => format!("({a})^{{{b}}}"),
        4 => format!("\\sin({a})-\\cos({b})"),
        5 => format!("\\sqrt[{b}]{{{a}}}"),
        6 => format!("\\ln({a})e^{{{b}}}"),
        7 => format!("\\tan^{{-1}}({a})\\pm {b}"),
        8 => format!("({a})!\\binom{{{a}}}{{{b}}}"),
        9 => format!("({a}, {b}]"),
        10 => format!("{a}={b}"),
        _ => format!("\\{{{a},{b}\\}}"),
    }
}

fn mutate(text: &mut Vec<char>, rng: &mut ChaCha8Rng) {
    let from = rng.random_range(0..=text.len());
    let to = rng.random_range(from..=text.len().min(from + 20));
    match rng.random_range(0..5) {
        0 => text.truncate(from),
        1 => drop(text.drain(from..to)),
        2 => {
            let copy: Vec<char> = text[from..to].to_vec();
            text.splice(from..from, copy);
        }
        3 => {
            let soup: Vec<char> = soup(rng, 6).chars().collect();
            text.splice(from..from, soup);
        }
        _ => text[from..to].reverse(),
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use contract::records::Question;
    use rand::SeedableRng;

    use super::*;
    use crate::{Profile, Task};

    /// The short form of `examples/fuzz.rs`.
    #[test]
    fn odd_texts_are_scored_without_panic_under_every_profile() {
        let corpus =
            ["\\frac{11+9a}{20}", "(-\\infty, 2) \\cup (3, \\infty)", "\\{1\\pm\\sqrt{5},-2\\}", "52_8"];
        let generator = Generator::new(corpus.map(str::to_owned).into());
        let mut rng = ChaCha8Rng::seed_from_u64(7);
        let (start, mut scored) = (Instant::now(), 0);
        while start.elapsed() < Duration::from_secs(3) {
            let (answer, text) = generator.pair(&mut rng);
            for task in [Task::Gsm8k, Task::Math500, Task::Csqa, Task::Strategyqa] {
                let question = Question {
                    id: "fuzz".into(),
                    task: task.name().into(),
                    question: String::new(),
                    choices: if task == Task::Csqa { vec![answer.clone(), "b".into()] } else { Vec::new() },
                    answer: answer.clone(),
                    facts: None,
                };
                for profile in Profile::ALL {
                    let before = Instant::now();
                    let verdict = profile.score(&question, &text);
                    assert!(verdict.extracted.is_some() || !verdict.correct, "{profile} {question:?} {text}");
                    // Unoptimised, on a busy machine; the long form holds releases to 50 ms.
                    assert!(before.elapsed() < Duration::from_secs(4), "{profile} {question:?} {text}");
                    scored += 1;
                }
            }
        }
        assert!(scored > 100, "only {scored} texts in three seconds");
    }
}
