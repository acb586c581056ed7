//! Exact values of expressions without variables, where they are rational.
//!
//! Sizes are capped: `9^{9^{9}}` has no value here, and neither has `10000!`.

use num_bigint::BigInt;
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::{One, Pow, Signed, ToPrimitive, Zero};

use super::expression::{Expression, Function};

/// The longest numerator or denominator, in bits.
const MAX_BITS: u64 = 4096;
/// The largest number whose factorial is taken.
const MAX_FACTORIAL: u32 = 400;

/// The value, if it is rational and of reasonable size.
pub(crate) fn exact(expression: &Expression) -> Option<BigRational> {
    let value = match expression {
        Expression::Number(value, _) => value.clone(),
        Expression::Symbol(_) | Expression::Constant(_) | Expression::Infinity => return None,
        Expression::Sum(parts) => {
            parts.iter().try_fold(BigRational::zero(), |sum, part| bounded(sum + exact(part)?))?
        }
        Expression::Product(parts) => {
            parts.iter().try_fold(BigRational::one(), |product, part| bounded(product * exact(part)?))?
        }
        Expression::Negative(of) => -exact(of)?,
        Expression::Quotient(pair) => {
            let denominator = exact(&pair.1).filter(|denominator| !denominator.is_zero())?;
            exact(&pair.0)? / denominator
        }
        Expression::Power(pair) => power(&exact(&pair.0)?, &exact(&pair.1)?)?,
        Expression::Call(function, of) => call(*function, exact(of)?)?,
        Expression::Binomial(pair) => {
            let (n, k) = (natural(&exact(&pair.0)?)?, natural(&exact(&pair.1)?)?);
            let falling = (0..k).fold(BigInt::one(), |value, i| value * (BigInt::from(n) - i));
            BigRational::new(falling, (1..=k).fold(BigInt::one(), |value, i| value * i))
        }
    };
    bounded(value)
}

fn bounded(value: BigRational) -> Option<BigRational> {
    (value.numer().bits() <= MAX_BITS && value.denom().bits() <= MAX_BITS).then_some(value)
}

/// A small natural number.
fn natural(value: &BigRational) -> Option<u32> {
    let small = value.is_integer().then(|| value.numer().to_u32())??;
    (small <= MAX_FACTORIAL).then_some(small)
}

fn call(function: Function, of: BigRational) -> Option<BigRational> {
    match function {
        Function::Abs => Some(of.abs()),
        Function::Floor => Some(of.floor()),
        Function::Ceiling => Some(of.ceil()),
        Function::Factorial => {
            let product = (1..=natural(&of)?).fold(BigInt::one(), |product, next| product * next);
            Some(BigRational::from(product))
        }
        Function::Sin
        | Function::Cos
        | Function::Tan
        | Function::Cot
        | Function::Sec
        | Function::Csc
        | Function::Arcsin
        | Function::Arccos
        | Function::Arctan
        | Function::Sinh
        | Function::Cosh
        | Function::Tanh
        | Function::Exp
        | Function::Ln
        | Function::PlusMinus
        | Function::MinusPlus => None,
    }
}

fn power(base: &BigRational, exponent: &BigRational) -> Option<BigRational> {
    let size = exponent.numer().abs().to_u32()?;
    let root = exponent.denom().to_u32()?;
    if base.is_zero() {
        return exponent.is_positive().then(BigRational::zero);
    }
    let bits = base.numer().bits().max(base.denom().bits());
    if bits.checked_mul(u64::from(size))? > MAX_BITS {
        return None;
    }
    let rooted = BigRational::new(nth_root(base.numer(), root)?, nth_root(base.denom(), root)?);
    let value = Pow::pow(rooted, size);
    Some(if exponent.is_negative() { value.recip() } else { value })
}

/// The real root, if it is an integer.
fn nth_root(value: &BigInt, root: u32) -> Option<BigInt> {
    if root == 1 {
        return Some(value.clone());
    }
    if value.is_negative() && root.is_even() {
        return None;
    }
    let found = value.nth_root(root);
    (Pow::pow(&found, root) == *value).then_some(found)
}

/// To six decimals, ties to even; scaled to an integer.
pub(crate) fn to_six_decimals(value: &BigRational) -> BigInt {
    let scaled = value * BigRational::from(BigInt::from(1_000_000));
    let floor = scaled.floor().to_integer();
    let rest = scaled - BigRational::from(floor.clone());
    let half = BigRational::new(BigInt::one(), BigInt::from(2));
    if rest > half || rest == half && floor.is_odd() { floor + 1 } else { floor }
}
