//! Steps, the solutions they make, and solutions with a slip in them.

use std::fmt;

use rand::Rng;
use serde::{Deserialize, Serialize};

use crate::prompt::letter;

/// What a step does with its two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Operator {
    /// Left plus right.
    Plus,
    /// Left minus right.
    Minus,
    /// Left times right.
    Times,
    /// The greater of the two.
    Greater,
    /// The less of the two.
    Less,
    /// The day of the week (0 is Monday) that is right days after left.
    After,
}

/// A number a step works on, or a day of the week.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Operand {
    /// Its value.
    pub value: i64,
    /// The step whose result it is; `None` where the question gives it.
    pub from: Option<usize>,
}

impl Operand {
    /// An operand that the question gives.
    pub fn given(value: i64) -> Self {
        Self { value, from: None }
    }

    /// The result of an earlier step; its value is filled in when the solution is made.
    pub fn from(step: usize) -> Self {
        Self { value: 0, from: Some(step) }
    }
}

/// One computation. Its text is the equation: `17 - 3 = 14`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The first operand.
    pub left: Operand,
    /// What is done.
    pub operator: Operator,
    /// The second operand.
    pub right: Operand,
    /// What comes out.
    pub result: i64,
}

impl Step {
    /// A step whose result is yet to be computed.
    pub(super) fn new(left: Operand, operator: Operator, right: Operand) -> Self {
        Self { left, operator, right, result: 0 }
    }

    /// A step on two numbers of the question.
    pub(super) fn given(left: i64, operator: Operator, right: i64) -> Self {
        Self::new(Operand::given(left), operator, Operand::given(right))
    }

    fn compute(&self) -> i64 {
        let (left, right) = (self.left.value, self.right.value);
        match self.operator {
            Operator::Plus => left + right,
            Operator::Minus => left - right,
            Operator::Times => left * right,
            Operator::Greater => left.max(right),
            Operator::Less => left.min(right),
            Operator::After => (left + right).rem_euclid(7),
        }
    }

    /// The step with names in place of the operands that come from earlier steps.
    pub(super) fn symbolic(&self, name: impl Fn(usize) -> String) -> String {
        let show = |operand: &Operand| operand.from.map_or(operand.value.to_string(), &name);
        let (left, right) = (show(&self.left), show(&self.right));
        match self.operator {
            Operator::Plus => format!("{left} + {right}"),
            Operator::Minus => format!("{left} - {right}"),
            Operator::Times => format!("{left} * {right}"),
            Operator::Greater => format!("max({left}, {right})"),
            Operator::Less => format!("min({left}, {right})"),
            Operator::After => format!("{} + {right} days", day(self.left.value)),
        }
    }
}

impl fmt::Display for Step {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (left, right, result) = (self.left.value, self.right.value, self.result);
        let other = if result == left { right } else { left };
        match self.operator {
            Operator::Plus => write!(formatter, "{left} + {right} = {result}"),
            Operator::Minus => write!(formatter, "{left} - {right} = {result}"),
            Operator::Times => write!(formatter, "{left} * {right} = {result}"),
            Operator::Greater => write!(formatter, "{result} > {other}"),
            Operator::Less => write!(formatter, "{result} < {other}"),
            Operator::After => {
                let days = super::count_of(right, "day");
                write!(formatter, "{} + {days} = {}", day(left), day(result))
            }
        }
    }
}

/// How a question is solved: the steps in order, and what they come to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Solution {
    /// The steps; the last one's result is the answer, or decides it.
    pub steps: Vec<Step>,
    /// What each choice of the question comes to, in order; empty where the answer is a number.
    pub choices: Vec<Operand>,
    /// The answer as the question wants it: a number or a letter.
    pub answer: String,
}

impl Solution {
    /// Computes the steps. One of `choices`, if there are any, must come to the last step's result.
    pub(super) fn new(steps: Vec<Step>, choices: Vec<Operand>) -> Self {
        Self::settle(steps, choices, None).expect("a family's own steps reach one of its choices")
    }

    /// What the last step comes to.
    pub(super) fn result(&self) -> i64 {
        self.steps.last().map_or(0, |step| step.result)
    }

    /// Computes every step in order, one of them with a slip; `None` if that leads nowhere.
    fn settle(mut steps: Vec<Step>, mut choices: Vec<Operand>, slip: Option<(usize, Slip)>) -> Option<Self> {
        let mut results = Vec::with_capacity(steps.len());
        let fill = |operand: &mut Operand, results: &[i64]| {
            if let Some(step) = operand.from {
                operand.value = results[step];
            }
        };
        for (index, step) in steps.iter_mut().enumerate() {
            fill(&mut step.left, &results);
            fill(&mut step.right, &results);
            let slip = slip.filter(|(at, _)| *at == index).map(|(_, slip)| slip);
            if let Some(Slip::Operator(operator)) = slip {
                step.operator = operator;
            }
            step.result = step.compute();
            if let Some(Slip::Off(by)) = slip {
                step.result += by;
            }
            if step.operator == Operator::After {
                step.result = step.result.rem_euclid(7);
            }
            if !(0..100).contains(&step.result) {
                return None;
            }
            results.push(step.result);
        }
        for choice in &mut choices {
            fill(choice, &results);
        }
        let result = *results.last()?;
        let answer = if choices.is_empty() {
            result.to_string()
        } else {
            letter(choices.iter().position(|choice| choice.value == result)?).to_string()
        };
        Some(Self { steps, choices, answer })
    }
}

#[derive(Clone, Copy)]
enum Slip {
    /// The result is wrong by so much.
    Off(i64),
    /// Another operator was used.
    Operator(Operator),
}

/// A right solution with one plausible slip, carried through the steps after it; its answer always differs.
pub fn corrupt(solution: &Solution, rng: &mut impl Rng) -> Solution {
    let mut slipped = Vec::new();
    for (index, step) in solution.steps.iter().enumerate() {
        let slips: &[Slip] = match step.operator {
            Operator::Plus => {
                &[Slip::Off(1), Slip::Off(-1), Slip::Off(10), Slip::Off(-10), Slip::Operator(Operator::Minus)]
            }
            Operator::Minus => {
                &[Slip::Off(1), Slip::Off(-1), Slip::Off(10), Slip::Off(-10), Slip::Operator(Operator::Plus)]
            }
            Operator::Times => &[Slip::Off(1), Slip::Off(-1), Slip::Operator(Operator::Plus)],
            Operator::Greater => &[Slip::Operator(Operator::Less)],
            Operator::Less => &[Slip::Operator(Operator::Greater)],
            Operator::After => &[Slip::Off(1), Slip::Off(-1)],
        };
        slipped.extend(slips.iter().filter_map(|slip| {
            Solution::settle(solution.steps.clone(), solution.choices.clone(), Some((index, *slip)))
        }));
    }
    slipped.retain(|wrong| wrong.answer != solution.answer);
    slipped.swap_remove(rng.random_range(0..slipped.len()))
}

/// The name of a day of the week; 0 is Monday.
pub(super) fn day(index: i64) -> &'static str {
    const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];
    DAYS[usize::try_from(index.rem_euclid(7)).expect("a remainder of 7 is not negative")]
}
