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
    Multiple,
}

impl Effect {
    fn operator(self) -> Operator {
        match self {
            Self::Gain => Operator::Plus,
            Self::Loss => Operator::Minus,
            Self::Multiple => Operator::Times,
        }
    }
}

impl Changes {
    pub(super) fn draw(rng: &mut ChaCha8Rng) -> Option<Self> {
        let start = rng.random_range(3..=20);
        let mut value = start;
        let mut changes = Vec::new();
        for _ in 0..rng.random_range(2..=3) {
            let change = Change::draw(rng);
            value = match change.effect {
                Effect::Gain => value + change.amount,
                Effect::Loss => value - change.amount,
                Effect::Multiple => value * change.amount,
            };
            if !(1..=60).contains(&value) {
                return None;
            }
            changes.push(change);
        }
        let of = |effect| changes.iter().filter(|change| change.effect == effect).count();
        // Without a change that is no gain, adding everything up would be right.
        if of(Effect::Gain) == changes.len() || of(Effect::Multiple) > 1 {
            return None;
        }
        Some(Self { name: pick(&NAMES, rng), object: pick(&OBJECTS, rng), start, changes })
    }

    /// `Tom finds 5`.
    fn clause(&self, change: &Change) -> String {
        format!("{} {}", self.name, change.phrase())
    }
}

impl Change {
    fn draw(rng: &mut ChaCha8Rng) -> Self {
        let amount = rng.random_range(2..=9);
        match rng.random_range(0..20_u32) {
            0..=8 => Self { verb: pick(&["finds", "buys", "gets"], rng), effect: Effect::Gain, amount },
            9..=17 => Self { verb: pick(&["loses", "sells", "drops"], rng), effect: Effect::Loss, amount },
            18 => Self { verb: "doubles".into(), effect: Effect::Multiple, amount: 2 },
            19.. => Self { verb: "triples".into(), effect: Effect::Multiple, amount: 3 },
        }
    }

    fn phrase(&self) -> String {
        match self.effect {
            Effect::Gain | Effect::Loss => format!("{} {}", self.verb, self.amount),
            Effect::Multiple => format!("{} them", self.verb),
        }
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
        let no_sum = changes.iter().find(|change| change.effect != Effect::Gain);
        let beats = changes.iter().map(|change| {
            let (task, picture, likeness) = match change.effect {
                Effect::Gain => ("add {}", "{} more come", "{} floors up"),
                Effect::Loss => ("take away {}", "{} go away", "{} floors down"),
                Effect::Multiple => ("take it {} times", "each turns into {}", "{} times as high"),
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
            objection: no_sum.map_or_else(String::new, |change| self.clause(change)),
            suppose: format!("{name} stopped before the last change"),
            spared: changes.len() - 1,
            binding: changes.last().map_or_else(String::new, |change| self.clause(change)),
            beats: beats.collect(),
            closing: count_of(solution.result(), object),
        }
    }
}
