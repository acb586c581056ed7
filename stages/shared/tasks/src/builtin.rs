//! The built-in tasks: seeded questions, their solver, and rationales from eight perspectives.
//!
//! They need no file and no network, and are small enough for a student of a hundred thousand parameters: few
//! words, numbers to 20, two to four steps. A question keeps the facts it was written from; [`solve`] reads
//! those facts, never the text or the gold answer. What decides a question's split are its numbers alone, so a
//! sum that is tested is never trained on in other words.

use std::collections::BTreeSet;

use contract::records::Question;
use rand::{Rng, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Task;

mod arithmetic;
mod calendar;
mod comparison;
mod solution;
mod write;

pub use solution::{Operand, Operator, Solution, Step, corrupt};

/// Which part of a task's questions. The parts share no question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Split {
    /// To distil on; three eighths of all questions.
    Train,
    /// Held out, to measure on; one eighth.
    Test,
    /// To train the base student on, before any distillation; one half.
    Pretrain,
}

impl Split {
    /// Every split.
    pub const ALL: [Self; 3] = [Self::Train, Self::Test, Self::Pretrain];

    /// The name in recipes.
    pub fn name(self) -> &'static str {
        match self {
            Self::Train => "train",
            Self::Test => "test",
            Self::Pretrain => "pretrain",
        }
    }

    fn of(key: &str) -> Self {
        match hash(key) % 8 {
            0..=2 => Self::Train,
            3 => Self::Test,
            4.. => Self::Pretrain,
        }
    }
}

/// Why questions could not be generated.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BuiltinError {
    /// The task reads its questions from a file.
    #[error("task `{0}` is not built in")]
    NotBuiltIn(Task),
    /// There are not that many different questions.
    #[error("task `{task}` has only about {found} different questions in split `{}`, not {count}", split.name())]
    TooMany {
        /// The task.
        task: Task,
        /// The split.
        split: Split,
        /// How many were asked for.
        count: usize,
        /// How many turned up before new ones became too rare.
        found: usize,
    },
}

/// What a question says, in numbers and names; [`Question::facts`].
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "family", rename_all = "kebab-case")]
enum Facts {
    Changes(arithmetic::Changes),
    Chain(comparison::Chain),
    Ranking(comparison::Ranking),
    Conversion(calendar::Conversion),
    Weekday(calendar::Weekday),
}

/// What each family of questions can do.
trait Family {
    /// The numbers that make the question what it is, without names and wording.
    fn key(&self) -> String;
    /// The question in words.
    fn text(&self) -> String;
    /// The choices in order; empty where the answer is a number.
    fn choices(&self) -> Vec<String>;
    /// The steps to the answer.
    fn solve(&self) -> Solution;
    /// How the eight perspectives speak of it, ending where `solution` ends.
    fn telling(&self, solution: &Solution) -> write::Telling;
}

impl Facts {
    fn draw(task: Task, rng: &mut ChaCha8Rng) -> Option<Self> {
        match task {
            Task::Arithmetic => arithmetic::Changes::draw(rng).map(Self::Changes),
            Task::Comparison if rng.random() => comparison::Chain::draw(rng).map(Self::Chain),
            Task::Comparison => comparison::Ranking::draw(rng).map(Self::Ranking),
            Task::Calendar if rng.random() => calendar::Conversion::draw(rng).map(Self::Conversion),
            Task::Calendar => calendar::Weekday::draw(rng).map(Self::Weekday),
            Task::Gsm8k | Task::Svamp | Task::Math500 | Task::Csqa | Task::Strategyqa | Task::GpqaDiamond => {
                None
            }
        }
    }

    fn of(question: &Question) -> Option<Self> {
        question.facts.as_ref().and_then(|facts| Self::deserialize(facts).ok())
    }

    fn family(&self) -> &dyn Family {
        match self {
            Self::Changes(facts) => facts,
            Self::Chain(facts) => facts,
            Self::Ranking(facts) => facts,
            Self::Conversion(facts) => facts,
            Self::Weekday(facts) => facts,
        }
    }
}

/// New questions become too rare to go on after so many draws in a row without one.
const PATIENCE: usize = 20_000;

/// `count` different questions of a built-in task, the same for the same arguments.
pub fn generate(task: Task, split: Split, seed: u64, count: usize) -> Result<Vec<Question>, BuiltinError> {
    if !task.is_builtin() {
        return Err(BuiltinError::NotBuiltIn(task));
    }
    let mut rng = ChaCha8Rng::seed_from_u64(hash(&format!("{task} {} {seed}", split.name())));
    let mut seen = BTreeSet::new();
    let mut questions = Vec::with_capacity(count);
    let mut misses = 0;
    while questions.len() < count {
        let drawn = Facts::draw(task, &mut rng).filter(|facts| Split::of(&facts.family().key()) == split);
        let new =
            drawn.map(|facts| question(task, &facts)).filter(|question| seen.insert(question.id.clone()));
        match new {
            Some(question) => {
                questions.push(question);
                misses = 0;
            }
            None if misses == PATIENCE => {
                return Err(BuiltinError::TooMany { task, split, count, found: questions.len() });
            }
            None => misses += 1,
        }
    }
    Ok(questions)
}

/// Solves a built-in question from its facts; `None` where it has none.
pub fn solve(question: &Question) -> Option<Solution> {
    Some(Facts::of(question)?.family().solve())
}

/// A rationale of `solution` in a perspective's own way, on one line and without the answer suffix.
///
/// `None` for a perspective not in [`crate::PERSPECTIVES`] and for a question without facts.
pub fn write(perspective: &str, question: &Question, solution: &Solution) -> Option<String> {
    write::write(perspective, solution, &Facts::of(question)?.family().telling(solution))
}

/// Lines of elementary facts in the form that steps of rationales have, such as `17 + 5 = 22`.
///
/// For a base student to learn from. Lines repeat: there are only some thousand different ones.
pub fn primer(seed: u64, count: usize) -> Vec<String> {
    let mut rng = ChaCha8Rng::seed_from_u64(hash(&format!("primer {seed}")));
    std::iter::repeat_with(|| fact(&mut rng)).take(count).collect()
}

fn fact(rng: &mut ChaCha8Rng) -> String {
    let (operator, left, right) = match rng.random_range(0..20_u32) {
        0..=6 => {
            let left = rng.random_range(1..=18);
            (Operator::Plus, left, rng.random_range(2..=6.min(20 - left)))
        }
        7..=13 => {
            let left = rng.random_range(2..=20);
            (Operator::Minus, left, rng.random_range(1..left))
        }
        14 | 15 => return calendar::conversion_fact(rng),
        16 | 17 => {
            let left = rng.random_range(1..=20);
            let right = (left + rng.random_range(1..20)) % 21;
            (if rng.random() { Operator::Greater } else { Operator::Less }, left, right)
        }
        18.. => (Operator::After, rng.random_range(0..7), rng.random_range(1..=6)),
    };
    let steps = vec![Step::given(left, operator, right)];
    Solution::new(steps, Vec::new()).steps[0].to_string()
}

fn question(task: Task, facts: &Facts) -> Question {
    let family = facts.family();
    let (text, choices) = (family.text(), family.choices());
    Question {
        id: format!("{task}-{:016x}", hash(&format!("{text} {}", choices.join(" ")))),
        task: task.name().to_owned(),
        answer: family.solve().answer,
        question: text,
        choices,
        facts: Some(serde_json::to_value(facts).expect("facts are plain data and serialize")),
    }
}

const NAMES: [&str; 6] = ["Tom", "Ann", "Sam", "Mia", "Ben", "Eva"];
/// Every object's plural adds an s.
const OBJECTS: [&str; 6] = ["pen", "cup", "nut", "egg", "toy", "key"];

fn pick(words: &[&str], rng: &mut ChaCha8Rng) -> String {
    (*words.choose(rng).expect("every word list has words")).to_owned()
}

fn three_names(rng: &mut ChaCha8Rng) -> [String; 3] {
    let mut names = NAMES.choose_multiple(rng, 3).map(|name| (*name).to_owned());
    std::array::from_fn(|_| names.next().expect("there are more than three names"))
}

/// `1 pen`, `2 pens`.
fn count_of(number: i64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

/// FNV-1a with a final mix: small, and the same on every machine and version.
fn hash(text: &str) -> u64 {
    let mut state = text.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |state, byte| {
        (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}

#[cfg(test)]
mod tests;
