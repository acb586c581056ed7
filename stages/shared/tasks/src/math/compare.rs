//! When two answers are equal: by kind, in the order of math-verify.

use num_rational::BigRational;

use super::{
    exact::{exact, to_six_decimals},
    expression::Expression,
    field::{self, Undefined},
    numeric::{self, Budget},
    parse::{Answer, Operator},
};

/// At how many points two formulas have to agree.
const POINTS: usize = 12;
/// How many points are tried, poles included.
const MAX_POINTS: u64 = 24;
/// Larger sets are compared in the order written.
const MAX_SET: usize = 40;

/// Whether an answer equals the gold one. Not symmetric: a gold `1<x<2` takes `(1,2)`, a gold set any order.
pub(crate) fn same(gold: &Answer, answer: &Answer, budget: &Budget) -> bool {
    let (gold, answer) = sides(gold, answer);
    if gold == answer {
        return true;
    }
    match (&gold, &answer) {
        (Answer::Relation { sides: a, operators: p }, Answer::Relation { sides: b, operators: q }) => {
            relations(a, p, b, q, budget)
        }
        (Answer::Relation { sides, operators }, Answer::Tuple { .. } | Answer::Union(_)) => {
            interval(sides, operators).is_some_and(|gold| same(&gold, &answer, budget))
        }
        (Answer::Expression(gold), Answer::Expression(answer)) => expressions(gold, answer, budget),
        (Answer::Based { digits, .. }, Answer::Expression(value))
        | (Answer::Expression(value), Answer::Based { digits, .. }) => {
            // As math-verify: the base may be left out.
            exact(value).is_some_and(|value| value.to_string() == *digits)
        }
        (Answer::Based { .. }, Answer::Based { .. }) => false,
        (Answer::Matrix(gold), Answer::Matrix(answer)) => {
            gold.len() == answer.len()
                && gold.iter().zip(answer).all(|(gold, answer)| in_order(gold, answer, budget))
        }
        (
            Answer::Tuple { open, close, items },
            Answer::Tuple { open: other_open, close: other_close, items: others },
        ) => {
            // Only of a pair the brackets mean something: it may be an interval.
            (items.len() != 2 || (open, close) == (other_open, other_close))
                && in_order(items, others, budget)
        }
        (Answer::Tuple { open: '(', close: ')', items }, Answer::Set(others)) => {
            in_order(items, others, budget)
        }
        (Answer::Tuple { items, .. }, Answer::Set(others)) => {
            items.len() > 2 && in_order(items, others, budget)
        }
        (Answer::Set(items), Answer::Tuple { open: '(', close: ')', items: others }) => {
            any_order(items, others, budget)
        }
        (Answer::Set(items), Answer::Tuple { items: others, .. }) => {
            others.len() > 2 && any_order(items, others, budget)
        }
        (Answer::Set(gold), Answer::Set(answer)) | (Answer::Union(gold), Answer::Union(answer)) => {
            any_order(gold, answer, budget)
        }
        (Answer::Set(items), single) | (single, Answer::Set(items)) => {
            items.len() == 1 && same(&items[0], single, budget)
        }
        (Answer::Text(text), Answer::Expression(expression))
        | (Answer::Expression(expression), Answer::Text(text)) => {
            name(expression).is_some_and(|name| name == *text)
        }
        (
            Answer::Relation { .. }
            | Answer::Expression(_)
            | Answer::Based { .. }
            | Answer::Matrix(_)
            | Answer::Tuple { .. }
            | Answer::Union(_)
            | Answer::Text(_),
            _,
        ) => false,
    }
}

/// The letters of a product of single letters, folded.
fn name(expression: &Expression) -> Option<String> {
    match expression {
        Expression::Symbol(name) => Some(name.to_lowercase()),
        Expression::Product(parts) => parts.iter().map(name).collect(),
        Expression::Constant(super::expression::Constant::E) => Some("e".to_owned()),
        Expression::Constant(super::expression::Constant::I) => Some("i".to_owned()),
        _ => None,
    }
}

fn is_equation(answer: &Answer) -> bool {
    matches!(answer, Answer::Relation { operators, .. } if operators.iter().all(|one| *one == Operator::Equal))
}

/// `x = ..` and `f(x) = ..`.
fn is_assignment(answer: &Answer) -> bool {
    let named = |side: &Answer| match side {
        Answer::Expression(expression) => expression.is_name(),
        Answer::Text(_) => true,
        _ => false,
    };
    is_equation(answer) && matches!(answer, Answer::Relation { sides, .. } if named(&sides[0]))
}

/// The two sides to compare: what `x =` states where the other states it without, chains cut to their ends.
fn sides(gold: &Answer, answer: &Answer) -> (Answer, Answer) {
    let last = |of: &Answer| match of {
        Answer::Relation { sides, .. } => sides.last().cloned(),
        _ => None,
    };
    let ends = |of: &Answer| match of {
        Answer::Relation { sides, .. } if is_assignment(of) && sides.len() > 2 => {
            let ends = [sides.first(), sides.last()].into_iter().flatten().cloned().collect();
            Some(Answer::Relation { sides: ends, operators: vec![Operator::Equal] })
        }
        _ => None,
    };
    let (mut left, mut right) =
        (ends(gold).unwrap_or_else(|| gold.clone()), ends(answer).unwrap_or_else(|| answer.clone()));
    if is_equation(&right) && !is_equation(&left) {
        right = last(&right).unwrap_or(right);
    } else if is_assignment(&left) && !is_equation(&right) {
        left = last(&left).unwrap_or(left);
    }
    (left, right)
}

fn in_order(gold: &[Answer], answer: &[Answer], budget: &Budget) -> bool {
    gold.len() == answer.len() && gold.iter().zip(answer).all(|(gold, answer)| same(gold, answer, budget))
}

fn any_order(gold: &[Answer], answer: &[Answer], budget: &Budget) -> bool {
    if gold.len() != answer.len() || in_order(gold, answer, budget) {
        return gold.len() == answer.len();
    }
    if gold.len() > MAX_SET {
        return false;
    }
    let mut left: Vec<&Answer> = answer.iter().collect();
    gold.iter().all(|gold| {
        let found = left.iter().position(|answer| same(gold, answer, budget));
        found.map(|found| left.swap_remove(found)).is_some()
    })
}

fn expression(answer: &Answer) -> Option<&Expression> {
    match answer {
        Answer::Expression(expression) => Some(expression),
        _ => None,
    }
}

fn relations(a: &[Answer], p: &[Operator], b: &[Answer], q: &[Operator], budget: &Budget) -> bool {
    if p.len() != q.len() {
        return false;
    }
    if p == q && in_order(a, b, budget) {
        return true;
    }
    let flipped: Vec<Operator> = q.iter().rev().map(|operator| operator.flipped()).collect();
    let reversed: Vec<Answer> = b.iter().rev().cloned().collect();
    if p == flipped && in_order(a, &reversed, budget) {
        return true;
    }
    let ([a0, a1], [b0, b1], [p], [q]) = (a, b, p, q) else { return false };
    let difference =
        |left: &Answer, right: &Answer| Some(expression(left)?.clone().minus(expression(right)?.clone()));
    let (Some(gold), Some(answer)) = (difference(a0, a1), difference(b0, b1)) else { return false };
    match p {
        Operator::Equal | Operator::NotEqual => p == q && proportional(&gold, &answer, None, budget),
        Operator::Less | Operator::LessEqual | Operator::Greater | Operator::GreaterEqual => {
            p == q && proportional(&gold, &answer, Some(1), budget)
                || *p == q.flipped() && proportional(&gold, &answer, Some(-1), budget)
        }
    }
}

/// A gold relation about one variable as the interval it describes.
fn interval(sides: &[Answer], operators: &[Operator]) -> Option<Answer> {
    let is_variable = |side: &Answer| expression(side).is_some_and(Expression::is_name);
    let infinite = |negative: bool| {
        let infinity = Expression::Infinity;
        Answer::Expression(if negative { Expression::negative(infinity) } else { infinity })
    };
    let tuple = |open, start: &Answer, end: &Answer, close| Answer::Tuple {
        open,
        close,
        items: vec![start.clone(), end.clone()],
    };
    let at_start = |operator: &Operator| match operator {
        Operator::Less => Some('('),
        Operator::LessEqual => Some('['),
        _ => None,
    };
    let at_end = |operator: &Operator| at_start(operator).map(|open| if open == '(' { ')' } else { ']' });
    match (sides, operators) {
        ([low, middle, high], [first, second]) if is_variable(middle) => match first {
            Operator::Less | Operator::LessEqual => Some(tuple(at_start(first)?, low, high, at_end(second)?)),
            _ => Some(tuple(at_start(&second.flipped())?, high, low, at_end(&first.flipped())?)),
        },
        ([left, right], [operator]) if is_variable(left) => match operator {
            Operator::Less | Operator::LessEqual => {
                Some(tuple('(', &infinite(true), right, at_end(operator)?))
            }
            _ => Some(tuple(at_start(&operator.flipped())?, right, &infinite(false), ')')),
        },
        ([left, right], [operator]) if is_variable(right) => {
            interval(&[right.clone(), left.clone()], &[operator.flipped()])
        }
        _ => None,
    }
}

/// Whether two expressions have the same value, wherever they have one.
fn expressions(gold: &Expression, answer: &Expression, budget: &Budget) -> bool {
    if gold.has_infinity() || answer.has_infinity() {
        // Infinity is only ever equal to itself, and that was settled before.
        return false;
    }
    if budget.pay(5).is_none() {
        return false;
    }
    let decimal = gold.has_decimal() || answer.has_decimal();
    if let (Some(a), Some(b)) = (exact(gold), exact(answer)) {
        return a == b || decimal && to_six_decimals(&a) == to_six_decimals(&b);
    }
    if gold.symbols().is_empty() && answer.symbols().is_empty() {
        let values = numeric::evaluate(gold, 0, budget).zip(numeric::evaluate(answer, 0, budget));
        return values.is_some_and(|(a, b)| a.agrees(&b) || decimal && a.agrees_to_six_decimals(&b));
    }
    match in_field(|point| {
        Ok(field::evaluate(gold, point, budget)? == field::evaluate(answer, point, budget)?)
    }) {
        Some(equal) => equal,
        None => at_points(|point| {
            let values = numeric::evaluate(gold, point, budget)?;
            Some(values.agrees(&numeric::evaluate(answer, point, budget)?))
        }),
    }
}

/// Whether one expression is a non-zero constant times the other, of a given sign if that matters.
fn proportional(gold: &Expression, answer: &Expression, sign: Option<i8>, budget: &Budget) -> bool {
    let origin = |expression: &Expression| {
        (0..MAX_POINTS).find_map(|point| {
            numeric::evaluate(expression, point, budget)
                .filter(|value| !value.vanishes())
                .map(|value| (point, value))
        })
    };
    let Some((point, a)) = origin(gold) else { return false };
    let Some(b) = numeric::evaluate(answer, point, budget).filter(|value| !value.vanishes()) else {
        return false;
    };
    let signed = sign.is_none_or(|sign| a.multiply(&b).is_positive() == (sign > 0));
    signed
        && match in_field(|next| {
            let cross = |left: &Expression, right: &Expression| {
                Ok(field::multiply(
                    field::evaluate(left, point, budget)?,
                    field::evaluate(right, next, budget)?,
                ))
            };
            Ok(cross(gold, answer)? == cross(answer, gold)?)
        }) {
            Some(equal) => equal,
            None => at_points(|next| {
                let (c, d) =
                    numeric::evaluate(gold, next, budget).zip(numeric::evaluate(answer, next, budget))?;
                Some(a.multiply(&d).agrees(&b.multiply(&c)))
            }),
        }
}

/// Whether a test holds at every point in the field; `None` if it cannot be made there.
fn in_field(test: impl Fn(u64) -> Result<bool, Undefined>) -> Option<bool> {
    let mut held = 0;
    for point in 0..MAX_POINTS {
        match test(point) {
            Ok(true) => held += 1,
            Ok(false) => return Some(false),
            Err(Undefined::Pole) => {}
            Err(Undefined::Unsupported) => return None,
        }
        if held == POINTS {
            return Some(true);
        }
    }
    Some(false)
}

/// Whether a test holds at every point where it can be made, and at one at least.
fn at_points(test: impl Fn(u64) -> Option<bool>) -> bool {
    let mut held = 0;
    for point in 0..MAX_POINTS {
        match test(point) {
            Some(true) => held += 1,
            Some(false) => return false,
            None => {}
        }
        if held == POINTS {
            break;
        }
    }
    held > 0
}

/// The value of an answer that is a plain number.
pub(crate) fn number(answer: &Answer) -> Option<BigRational> {
    match answer {
        Answer::Expression(expression) => exact(expression),
        _ => None,
    }
}
