//! Values of rational functions in a prime field: the test of Schwartz and Zippel for whether two are equal.
//!
//! Two different rational functions of the degrees seen here agree at a random point with probability below
//! 2^-50. `π` and `e` are transcendental, so they are variables like any other; `i` is a square root of -1,
//! which the field has. Roots, functions and powers with a variable above are for [`super::numeric`].

use num_bigint::BigInt;
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::{Signed, ToPrimitive, Zero};

use super::{
    exact::exact,
    expression::{Constant, Expression},
    numeric::Budget,
};

/// The largest prime below 2^61 that leaves 1 when divided by 4.
const PRIME: u64 = 2_305_843_009_213_693_921;
/// A square root of -1 in the field.
const ROOT_OF_MINUS_ONE: u64 = 583_529_827_753_931_384;

/// Why there is no value.
pub(crate) enum Undefined {
    /// Here a denominator is zero; another point may do.
    Pole,
    /// This is no rational function, or the budget is spent.
    Unsupported,
}

/// The value at the point with this number.
pub(crate) fn evaluate(expression: &Expression, point: u64, budget: &Budget) -> Result<u64, Undefined> {
    budget.pay(1).ok_or(Undefined::Unsupported)?;
    match expression {
        Expression::Number(value, _) => divide(reduce(value.numer()), reduce(value.denom())),
        Expression::Symbol(name) => Ok(coordinate(name, point) % PRIME),
        Expression::Constant(Constant::Pi) => Ok(coordinate("\\pi", point) % PRIME),
        Expression::Constant(Constant::E) => Ok(coordinate("\\e", point) % PRIME),
        Expression::Constant(Constant::I) => Ok(ROOT_OF_MINUS_ONE),
        Expression::Infinity | Expression::Call(..) | Expression::Binomial(_) => {
            budget.pay(50).ok_or(Undefined::Unsupported)?;
            let value = exact(expression).ok_or(Undefined::Unsupported)?;
            divide(reduce(value.numer()), reduce(value.denom()))
        }
        Expression::Sum(parts) => {
            parts.iter().try_fold(0, |sum, part| Ok(add(sum, evaluate(part, point, budget)?)))
        }
        Expression::Product(parts) => {
            parts.iter().try_fold(1, |product, part| Ok(multiply(product, evaluate(part, point, budget)?)))
        }
        Expression::Negative(of) => Ok(negative(evaluate(of, point, budget)?)),
        Expression::Quotient(pair) => {
            divide(evaluate(&pair.0, point, budget)?, evaluate(&pair.1, point, budget)?)
        }
        Expression::Power(pair) => power(&pair.0, &pair.1, point, budget),
    }
}

fn power(base: &Expression, exponent: &Expression, point: u64, budget: &Budget) -> Result<u64, Undefined> {
    budget.pay(10).ok_or(Undefined::Unsupported)?;
    if let Some(value) = exact(base).and_then(|_| exact(&Expression::power(base.clone(), exponent.clone()))) {
        return divide(reduce(value.numer()), reduce(value.denom()));
    }
    let exponent = exact(exponent).filter(BigRational::is_integer).ok_or(Undefined::Unsupported)?;
    let base = evaluate(base, point, budget)?;
    let size = exponent.numer().abs().mod_floor(&BigInt::from(PRIME - 1));
    if base == 0 {
        return if exponent.is_positive() { Ok(0) } else { Err(Undefined::Pole) };
    }
    let value = raise(base, size.to_u64().unwrap_or_default());
    if exponent.is_negative() { divide(1, value) } else { Ok(value) }
}

fn reduce(value: &BigInt) -> u64 {
    if value.is_zero() {
        return 0;
    }
    value.mod_floor(&BigInt::from(PRIME)).to_u64().unwrap_or_default()
}

fn add(a: u64, b: u64) -> u64 {
    (a + b) % PRIME
}

fn negative(a: u64) -> u64 {
    (PRIME - a) % PRIME
}

/// The product of two values.
pub(crate) fn multiply(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b) % u128::from(PRIME);
    u64::try_from(product).expect("a remainder of a 61-bit prime fits 64 bits")
}

fn raise(base: u64, mut exponent: u64) -> u64 {
    let (mut value, mut square) = (1, base);
    while exponent > 0 {
        if exponent & 1 == 1 {
            value = multiply(value, square);
        }
        square = multiply(square, square);
        exponent >>= 1;
    }
    value
}

fn divide(a: u64, b: u64) -> Result<u64, Undefined> {
    if b == 0 { Err(Undefined::Pole) } else { Ok(multiply(a, raise(b, PRIME - 2))) }
}

/// A seeded pseudo-random number for a name at a point (FNV-1a, then the finisher of SplitMix64).
pub(crate) fn coordinate(name: &str, point: u64) -> u64 {
    let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
    });
    let mut state = hash.wrapping_add(point.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15));
    state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    state ^ (state >> 31)
}
