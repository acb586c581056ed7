//! `comparison`: three people have things, some told only by the difference; who has most, or by how much.

use rand::{Rng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::prompt::letter;

use super::{
    Family, OBJECTS, Operand, Operator, Solution, Step, count_of, pick, three_names,
    write::{Beat, Telling},
};

/// `Tom has 12 pens. Ann has 5 more than Tom. Sam has 3 fewer than Ann. How many more pens does Sam have than Tom?`
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Chain {
    names: [String; 3],
    object: String,
    start: i64,
    /// What the second has more than the first, and the third more than the second.
    gaps: [i64; 2],
}

/// `Tom has 12 pens. Ann has 5 more than Tom. Sam has 14 pens. Who has the most pens?`
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Ranking {
    names: [String; 3],
    object: String,
    start: i64,
    /// What the second has more than the first.
    gap: i64,
    third: i64,
    most: bool,
    /// The order of the names as choices.
    order: [usize; 3],
}

/// A difference of 2 to 6 either way.
fn draw_gap(rng: &mut ChaCha8Rng) -> i64 {
    let size = rng.random_range(2..=6);
    if rng.random() { size } else { -size }
}

fn gap_step(left: Operand, gap: i64) -> Step {
    let operator = if gap > 0 { Operator::Plus } else { Operator::Minus };
    Step::new(left, operator, Operand::given(gap.abs()))
}

/// `Ann has 5 more than Tom`.
fn gap_clause(who: &str, gap: i64, than: &str) -> String {
    format!("{who} has {} {} than {than}", gap.abs(), if gap > 0 { "more" } else { "fewer" })
}

fn gap_beat(who: &str, gap: i64, than: &str) -> Beat {
    let size = gap.abs();
    let (task, height, way) = if gap > 0 { ("add", "higher", "up") } else { ("take away", "lower", "down") };
    Beat {
        clause: gap_clause(who, gap, than),
        task: format!("{task} {size} for {who}"),
        picture: format!("{who} has a pile {size} {height}"),
        likeness: format!("{who} is {size} stairs {way}"),
    }
}

fn pile(who: &str, count: i64, object: &str) -> String {
    format!("Picture {who} with a pile of {}", count_of(count, object))
}

impl Chain {
    pub(super) fn draw(rng: &mut ChaCha8Rng) -> Option<Self> {
        let (start, gaps) = (rng.random_range(2..=12), [draw_gap(rng), draw_gap(rng)]);
        let second = start + gaps[0];
        let third = second + gaps[1];
        let fits = (1..=20).contains(&second) && (1..=20).contains(&third) && third != start;
        fits.then(|| Self { names: three_names(rng), object: pick(&OBJECTS, rng), start, gaps })
    }

    /// The names of those with more and with fewer, of the first and the third.
    fn asked(&self) -> (&str, &str) {
        let [first, _, third] = &self.names;
        if self.gaps.iter().sum::<i64>() > 0 { (third, first) } else { (first, third) }
    }
}

impl Family for Chain {
    fn key(&self) -> String {
        format!("chain {} {:?}", self.start, self.gaps)
    }

    fn text(&self) -> String {
        let [first, second, third] = &self.names;
        let (more, fewer) = self.asked();
        format!(
            "{first} has {}. {}. {}. How many more {}s does {more} have than {fewer}?",
            count_of(self.start, &self.object),
            gap_clause(second, self.gaps[0], first),
            gap_clause(third, self.gaps[1], second),
            self.object,
        )
    }

    fn choices(&self) -> Vec<String> {
        Vec::new()
    }

    fn solve(&self) -> Solution {
        let (first, third) = (Operand::given(self.start), Operand::from(1));
        let (more, fewer) = if self.gaps.iter().sum::<i64>() > 0 { (third, first) } else { (first, third) };
        let steps = vec![
            gap_step(first, self.gaps[0]),
            gap_step(Operand::from(0), self.gaps[1]),
            Step::new(more, Operator::Minus, fewer),
        ];
        Solution::new(steps, Vec::new())
    }

    fn telling(&self, solution: &Solution) -> Telling {
        let [first, second, third] = &self.names;
        let (more, fewer) = self.asked();
        let asked = "the gap is asked".to_owned();
        Telling {
            picture: pile(first, self.start, &self.object),
            likeness: format!("Think of {first} on stair {}", self.start),
            mapping: format!("Stairs are {}s", self.object),
            tempting: format!("tell what {third} has"),
            objection: asked.clone(),
            suppose: format!("only {third} was asked for"),
            spared: 2,
            binding: asked.clone(),
            beats: vec![
                gap_beat(second, self.gaps[0], first),
                gap_beat(third, self.gaps[1], second),
                Beat {
                    clause: asked,
                    task: "take the gap".into(),
                    picture: "put them side by side".into(),
                    likeness: format!("count the stairs from {fewer} to {more}"),
                },
            ],
            closing: count_of(solution.result(), &self.object),
        }
    }
}

impl Ranking {
    pub(super) fn draw(rng: &mut ChaCha8Rng) -> Option<Self> {
        let (start, gap, third) = (rng.random_range(2..=12), draw_gap(rng), rng.random_range(2..=20));
        let second = start + gap;
        let mut order = [0, 1, 2];
        order.shuffle(rng);
        let fits = second > 0 && third != start && third != second;
        fits.then(|| Self {
            names: three_names(rng),
            object: pick(&OBJECTS, rng),
            start,
            gap,
            third,
            most: rng.random(),
            order,
        })
    }
}

impl Family for Ranking {
    fn key(&self) -> String {
        format!("ranking {} {} {} {}", self.start, self.gap, self.third, self.most)
    }

    fn text(&self) -> String {
        let [first, second, third] = &self.names;
        let object = &self.object;
        format!(
            "{first} has {}. {}. {third} has {}. Who has the {} {object}s?",
            count_of(self.start, object),
            gap_clause(second, self.gap, first),
            count_of(self.third, object),
            if self.most { "most" } else { "fewest" },
        )
    }

    fn choices(&self) -> Vec<String> {
        self.order.map(|index| self.names[index].clone()).to_vec()
    }

    fn solve(&self) -> Solution {
        let operator = if self.most { Operator::Greater } else { Operator::Less };
        let owned = [Operand::given(self.start), Operand::from(0), Operand::given(self.third)];
        let steps = vec![
            gap_step(owned[0], self.gap),
            Step::new(owned[0], operator, owned[1]),
            Step::new(Operand::from(1), operator, owned[2]),
        ];
        Solution::new(steps, self.order.map(|index| owned[index]).to_vec())
    }

    fn telling(&self, solution: &Solution) -> Telling {
        let [first, second, third] = &self.names;
        let extreme = if self.most { "most" } else { "fewest" };
        let winner = solution.choices.iter().position(|choice| choice.value == solution.result());
        let winner = winner.expect("a solution's result is one of its choices");
        let compare = |left: &str, right: &str| Beat {
            clause: format!("{left} meets {right}"),
            task: format!("compare {left} and {right}"),
            picture: format!("put {right} beside it"),
            likeness: format!("look at {right}"),
        };
        let best = format!("the {}", if self.most { "higher" } else { "lower" });
        Telling {
            picture: pile(first, self.start, &self.object),
            likeness: format!("Think of {first} on stair {}", self.start),
            mapping: format!("Stairs are {}s", self.object),
            tempting: format!("look only at {}, {} and {}", self.start, self.gap.abs(), self.third),
            objection: format!("{} is only a gap", self.gap.abs()),
            suppose: format!("{third} had nothing to do with it"),
            spared: 2,
            binding: format!("{third} has {}", self.third),
            beats: vec![gap_beat(second, self.gap, first), compare(first, second), compare(&best, third)],
            closing: format!(
                "{} has the {extreme}, choice {}",
                self.names[self.order[winner]],
                letter(winner)
            ),
        }
    }
}
