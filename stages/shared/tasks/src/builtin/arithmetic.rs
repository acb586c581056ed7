//! `arithmetic`: someone has some things, and two or three changes follow.

use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{
    Family, NAMES, OBJECTS, Operand, Operator, Solution, Step, count_of, pick,
    write::{Beat, Telling},
};

/// `Tom has 12 pens, finds 5 and loses 3. How many pens does Tom have now?`
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Changes {
    name: String,
    object: String,
    start: i64,
    changes: Vec<Change>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Change {
    verb: String,
    effect: Effect,
    amount: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum Effect {
    Gain,
    Loss,
}

impl Effect {
    fn operator(self) -> Operator {
        match self {
            Self::Gain => Operator::Plus,
            Self::Loss => Operator::Minus,
        }
    }
}

impl Changes {
    pub(super) fn draw(rng: &mut ChaCha8Rng) -> Option<Self> {
        let start = rng.random_range(2..=12);
        let mut value = start;
        let mut changes = Vec::new();
        for _ in 0..rng.random_range(2..=3) {
            let change = Change::draw(rng);
            value = match change.effect {
                Effect::Gain => value + change.amount,
                Effect::Loss => value - change.amount,
            };
            if !(1..=20).contains(&value) {
                return None;
            }
            changes.push(change);
        }
        // Without a loss, adding everything up would be right.
        let loses = changes.iter().any(|change| change.effect == Effect::Loss);
        loses.then(|| Self { name: pick(&NAMES, rng), object: pick(&OBJECTS, rng), start, changes })
    }

    /// `Tom finds 5`.
    fn clause(&self, change: &Change) -> String {
        format!("{} {}", self.name, change.phrase())
    }
}

impl Change {
    fn draw(rng: &mut ChaCha8Rng) -> Self {
        let amount = rng.random_range(2..=6);
        if rng.random() {
            Self { verb: pick(&["finds", "buys", "gets"], rng), effect: Effect::Gain, amount }
        } else {
            Self { verb: pick(&["loses", "sells", "drops"], rng), effect: Effect::Loss, amount }
        }
    }

    fn phrase(&self) -> String {
        format!("{} {}", self.verb, self.amount)
    }
}

impl Family for Changes {
    fn key(&self) -> String {
        let changes = self.changes.iter().map(|change| format!("{:?} {}", change.effect, change.amount));
        format!("{} {}", self.start, changes.collect::<Vec<_>>().join(" "))
    }

    fn text(&self) -> String {
        let Self { name, object, start, changes } = self;
        let mut phrases: Vec<String> = changes.iter().map(Change::phrase).collect();
        let last = phrases.pop().unwrap_or_default();
        let start = count_of(*start, object);
        let changes = phrases.join(", ");
        format!("{name} has {start}, {changes} and {last}. How many {object}s does {name} have now?")
    }

    fn choices(&self) -> Vec<String> {
        Vec::new()
    }

    fn solve(&self) -> Solution {
        let steps = self.changes.iter().enumerate().map(|(index, change)| {
            let left = index.checked_sub(1).map_or(Operand::given(self.start), Operand::from);
            Step::new(left, change.effect.operator(), Operand::given(change.amount))
        });
        Solution::new(steps.collect(), Vec::new())
    }

    fn telling(&self, solution: &Solution) -> Telling {
        let Self { name, object, start, changes } = self;
        let loss = changes.iter().find(|change| change.effect == Effect::Loss);
        let beats = changes.iter().map(|change| {
            let (task, picture, likeness) = match change.effect {
                Effect::Gain => ("add {}", "{} more come", "{} floors up"),
                Effect::Loss => ("take away {}", "{} go away", "{} floors down"),
            };
            let [task, picture, likeness] =
                [task, picture, likeness].map(|phrase| phrase.replace("{}", &change.amount.to_string()));
            Beat { clause: self.clause(change), task, picture, likeness }
        });
        Telling {
            picture: format!("Picture {} on a table", count_of(*start, object)),
            likeness: format!("Think of a lift on floor {start}"),
            mapping: format!("Floors are {object}s"),
            tempting: "add all the numbers".into(),
            objection: loss.map_or_else(String::new, |change| self.clause(change)),
            suppose: format!("{name} stopped before the last change"),
            spared: changes.len() - 1,
            binding: changes.last().map_or_else(String::new, |change| self.clause(change)),
            beats: beats.collect(),
            closing: count_of(solution.result(), object),
        }
    }
}
