//! `calendar`: units of time turned into smaller ones, and days of the week counted on.

use rand::{
    Rng,
    seq::{IndexedRandom, SliceRandom},
};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::prompt::letter;

use super::{
    Family, NAMES, Operand, Operator, Solution, Step, count_of, pick,
    solution::day,
    write::{Beat, Telling},
};

/// Larger unit, smaller unit, how many of the smaller make one larger, how many larger ones at most.
const UNITS: [(&str, &str, i64, i64); 3] =
    [("week", "day", 7, 2), ("decade", "year", 10, 2), ("year", "month", 12, 1)];

/// `Tom has 3 weeks and 4 days and uses 5 days. How many days are left?`
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Conversion {
    name: String,
    large: String,
    small: String,
    factor: i64,
    count: i64,
    /// Of the smaller unit: had besides (positive) or used (negative).
    changes: [i64; 2],
}

/// `Today is Monday. Tom leaves in 4 days and is back 5 days later. Which day is that?`
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Weekday {
    name: String,
    today: i64,
    first: i64,
    second: i64,
    /// Days of the week as choices.
    choices: [i64; 3],
}

/// `3 * 7 = 21` or `3 weeks = 21 days`.
pub(super) fn conversion_fact(rng: &mut ChaCha8Rng) -> String {
    let (large, small, factor, most) = UNITS.choose(rng).copied().expect("there are units");
    let count = rng.random_range(1..=most);
    if rng.random() {
        format!("{count} * {factor} = {}", count * factor)
    } else {
        format!("{} = {}", count_of(count, large), count_of(count * factor, small))
    }
}

impl Conversion {
    pub(super) fn draw(rng: &mut ChaCha8Rng) -> Option<Self> {
        let (large, small, factor, most) = UNITS.choose(rng).copied()?;
        let count = rng.random_range(1..=most);
        let total = count * factor;
        let besides = rng.random_range(2..=6) * if rng.random() { 1 } else { -1 };
        let changes = [besides, -rng.random_range(2..=6)];
        let fits = total + besides <= 20 && total + besides + changes[1] > 0;
        fits.then(|| Self {
            name: pick(&NAMES, rng),
            large: large.into(),
            small: small.into(),
            factor,
            count,
            changes,
        })
    }

    fn clause(&self, change: i64) -> String {
        if change > 0 {
            format!("there {} {} more", if change == 1 { "is" } else { "are" }, count_of(change, &self.small))
        } else {
            format!("{} uses {}", self.name, count_of(-change, &self.small))
        }
    }
}

impl Family for Conversion {
    fn key(&self) -> String {
        format!("conversion {} {} {:?}", self.factor, self.count, self.changes)
    }

    fn text(&self) -> String {
        let Self { name, large, small, count, changes, .. } = self;
        let had = count_of(*count, large);
        let [besides, used] = changes.map(|change| count_of(change.abs(), small));
        let link = if changes[0] > 0 {
            format!("and {besides} and uses")
        } else {
            format!("and uses {besides} and then")
        };
        format!("{name} has {had} {link} {used}. How many {small}s are left?")
    }

    fn choices(&self) -> Vec<String> {
        Vec::new()
    }

    fn solve(&self) -> Solution {
        let mut steps = vec![Step::given(self.count, Operator::Times, self.factor)];
        for (index, change) in self.changes.iter().enumerate() {
            let operator = if *change > 0 { Operator::Plus } else { Operator::Minus };
            steps.push(Step::new(Operand::from(index), operator, Operand::given(change.abs())));
        }
        Solution::new(steps, Vec::new())
    }

    fn telling(&self, solution: &Solution) -> Telling {
        let Self { name, large, small, factor, count, changes } = self;
        let unit = format!("each {large} has {}", count_of(*factor, small));
        let mut beats = vec![Beat {
            clause: unit.clone(),
            task: format!("turn {large}s into {small}s"),
            picture: format!("{} of {factor} fill up", count_of(*count, "row")),
            likeness: "open all".into(),
        }];
        beats.extend(changes.iter().map(|change| {
            let (size, clause) = (change.abs(), self.clause(*change));
            let (task, picture, likeness) = if *change > 0 {
                (format!("add {size}"), format!("{size} more come"), format!("{size} more found"))
            } else {
                (format!("take away {size}"), format!("{size} go away"), format!("{size} lost"))
            };
            Beat { clause, task, picture, likeness }
        }));
        Telling {
            picture: format!("Picture rows of {small}s on the wall"),
            likeness: format!("Think of {} with {factor} nuts each", count_of(*count, "bag")),
            mapping: format!("Nuts are {small}s"),
            tempting: format!("count a {large} as one {small}"),
            objection: unit,
            suppose: format!("{name} stopped before the last change"),
            spared: 2,
            binding: self.clause(changes[1]),
            beats,
            closing: count_of(solution.result(), small),
        }
    }
}

impl Weekday {
    pub(super) fn draw(rng: &mut ChaCha8Rng) -> Option<Self> {
        let (today, first, second) =
            (rng.random_range(0..7), rng.random_range(2..=6), rng.random_range(2..=6));
        let days = first + second;
        // The days beside the right one are what a miscount gives; the third is any other day.
        let right = today + days;
        let near = right + if rng.random() { 1 } else { -1 };
        let mut choices = [right, near, right + rng.random_range(2..=5)].map(|day: i64| day.rem_euclid(7));
        choices.shuffle(rng);
        (days != 7).then(|| Self { name: pick(&NAMES, rng), today, first, second, choices })
    }

    fn wraps(&self) -> bool {
        self.first + self.second > 7
    }
}

impl Family for Weekday {
    fn key(&self) -> String {
        format!("weekday {} {} {}", self.today, self.first, self.second)
    }

    fn text(&self) -> String {
        let Self { name, today, first, second, .. } = self;
        let today = day(*today);
        format!(
            "Today is {today}. {name} leaves in {first} days and is back {second} days later. Which day is that?"
        )
    }

    fn choices(&self) -> Vec<String> {
        self.choices.map(|choice| day(choice).to_owned()).to_vec()
    }

    fn solve(&self) -> Solution {
        let mut steps = vec![Step::given(self.first, Operator::Plus, self.second)];
        if self.wraps() {
            steps.push(Step::new(Operand::from(0), Operator::Minus, Operand::given(7)));
        }
        let days = Operand::from(steps.len() - 1);
        steps.push(Step::new(Operand::given(self.today), Operator::After, days));
        Solution::new(steps, self.choices.map(Operand::given).to_vec())
    }

    fn telling(&self, solution: &Solution) -> Telling {
        let Self { name, today, first, second, choices } = self;
        let (today, back) = (day(*today), solution.result());
        let mut beats = vec![Beat {
            clause: format!("{name} waits {first} and {second} days"),
            task: "add the days".into(),
            picture: format!("mark {first} and {second} days"),
            likeness: format!("{first} and {second} steps"),
        }];
        if self.wraps() {
            beats.push(Beat {
                clause: "a week has 7 days".into(),
                task: "take away a week".into(),
                picture: "a row of 7 is full".into(),
                likeness: "7 steps are a round".into(),
            });
        }
        beats.push(Beat {
            clause: format!("today is {today}"),
            task: format!("count on from {today}"),
            picture: format!("go on from {today}"),
            likeness: format!("go on from {today}"),
        });
        let choice = choices.iter().position(|choice| *choice == back);
        let choice = choice.expect("a solution's result is one of its choices");
        Telling {
            picture: "Picture rows of days on the wall".into(),
            likeness: "Think of a ring of 7 stones".into(),
            mapping: "Stones are days".into(),
            tempting: format!("count only {second} days"),
            objection: format!("{first} days come before"),
            suppose: "only the number of days was asked for".into(),
            spared: 1,
            binding: format!("today is {today}"),
            beats,
            closing: format!("it is {}, choice {}", day(back), letter(choice)),
        }
    }
}
