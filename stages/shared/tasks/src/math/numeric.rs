//! Values of expressions as complex numbers of 77 decimal digits.
//!
//! Functions are only computed where that takes bounded time: arguments are at most 2^16, and every step is
//! paid from a [`Budget`].

use std::cell::{Cell, RefCell};

use astro_float_num::{BigFloat, Consts, RoundingMode, Sign};
use num_bigint::BigInt;
use num_integer::Integer;
use num_rational::BigRational;
use num_traits::{Signed, ToPrimitive};

use super::{
    exact::exact,
    expression::{Constant, Expression, Function},
    field::coordinate,
};

/// Bits of a mantissa.
const PRECISION: usize = 256;
/// Not needed beyond the last bit.
const ROUNDING: RoundingMode = RoundingMode::None;
/// Functions are computed for arguments up to 2 to this power.
const MAX_EXPONENT: i32 = 16;
/// Powers up to this one are products.
const MAX_PRODUCT: u32 = 64;

thread_local! {
    /// Digits of π and of logarithms, which the arithmetic computes once and keeps.
    static CONSTANTS: RefCell<Option<Consts>> = const { RefCell::new(None) };
}

/// What a comparison may still cost.
pub(crate) struct Budget(Cell<u32>);

impl Budget {
    /// Enough for every answer seen, and some 20 ms at most.
    pub(crate) fn new() -> Self {
        Self(Cell::new(8_000))
    }

    /// Takes the price of a step, if it can still be paid.
    pub(crate) fn pay(&self, price: u32) -> Option<()> {
        self.0.set(self.0.get().checked_sub(price)?);
        Some(())
    }
}

/// A complex number.
#[derive(Clone)]
pub(crate) struct Complex {
    re: BigFloat,
    im: BigFloat,
}

/// The value at the point with this number; `None` where it has none or the budget is spent.
pub(crate) fn evaluate(expression: &Expression, point: u64, budget: &Budget) -> Option<Complex> {
    let value = compute(expression, point, budget)?;
    (!value.re.is_nan() && !value.im.is_nan() && !value.re.is_inf() && !value.im.is_inf()).then_some(value)
}

fn compute(expression: &Expression, point: u64, budget: &Budget) -> Option<Complex> {
    budget.pay(1)?;
    Some(match expression {
        Expression::Number(value, _) => Complex::rational(value),
        Expression::Symbol(name) => {
            // Real numbers of both signs: variables are taken for real.
            let part = i64::try_from(coordinate(name, point) >> 24).ok()?;
            Complex::rational(&BigRational::new(
                BigInt::from(part) * 6 - (BigInt::from(3) << 40),
                BigInt::from(1) << 40,
            ))
        }
        Expression::Constant(Constant::Pi) => {
            with_constants(|constants| Complex::real(constants.pi(PRECISION, ROUNDING)))?
        }
        Expression::Constant(Constant::E) => {
            with_constants(|constants| Complex::real(constants.e(PRECISION, ROUNDING)))?
        }
        Expression::Constant(Constant::I) => Complex { re: integer(0), im: integer(1) },
        Expression::Infinity => return None,
        Expression::Sum(parts) => parts
            .iter()
            .try_fold(Complex::real(integer(0)), |sum, part| Some(sum.add(&compute(part, point, budget)?)))?,
        Expression::Product(parts) => parts.iter().try_fold(Complex::real(integer(1)), |product, part| {
            Some(product.multiply(&compute(part, point, budget)?))
        })?,
        Expression::Negative(of) => compute(of, point, budget)?.negative(),
        Expression::Quotient(pair) => {
            compute(&pair.0, point, budget)?.multiply(&compute(&pair.1, point, budget)?.inverse()?)
        }
        Expression::Power(pair) => power(&pair.0, &pair.1, point, budget)?,
        Expression::Call(function, of) => {
            budget.pay(30)?;
            if let Some(value) = exact(expression) {
                return Some(Complex::rational(&value));
            }
            call(*function, &compute(of, point, budget)?, budget)?
        }
        Expression::Binomial(_) => {
            budget.pay(100)?;
            Complex::rational(&exact(expression)?)
        }
    })
}

fn with_constants<T>(compute: impl FnOnce(&mut Consts) -> T) -> Option<T> {
    CONSTANTS.with_borrow_mut(|constants| {
        if constants.is_none() {
            *constants = Consts::new().ok();
        }
        constants.as_mut().map(compute)
    })
}

fn integer(value: u64) -> BigFloat {
    BigFloat::from_u64(value, PRECISION)
}

fn float(value: &BigInt) -> BigFloat {
    let base = integer(1 << 32);
    let (sign, digits) = value.to_u32_digits();
    let size = digits.iter().rev().fold(integer(0), |size, digit| {
        size.mul(&base, PRECISION, ROUNDING).add(&integer(u64::from(*digit)), PRECISION, ROUNDING)
    });
    if sign == num_bigint::Sign::Minus { size.neg() } else { size }
}

/// Whether a function of this number takes bounded time.
fn moderate(value: &BigFloat) -> bool {
    value.is_zero() || value.exponent().is_some_and(|exponent| exponent <= MAX_EXPONENT)
}

impl Complex {
    fn real(re: BigFloat) -> Self {
        Self { re, im: integer(0) }
    }

    fn rational(value: &BigRational) -> Self {
        let numerator = float(value.numer());
        if value.is_integer() {
            return Self::real(numerator);
        }
        Self::real(numerator.div(&float(value.denom()), PRECISION, ROUNDING))
    }

    fn add(&self, other: &Self) -> Self {
        Self {
            re: self.re.add(&other.re, PRECISION, ROUNDING),
            im: self.im.add(&other.im, PRECISION, ROUNDING),
        }
    }

    fn negative(&self) -> Self {
        Self { re: self.re.neg(), im: self.im.neg() }
    }

    /// The product of two numbers.
    pub(crate) fn multiply(&self, other: &Self) -> Self {
        let times = |a: &BigFloat, b: &BigFloat| a.mul(b, PRECISION, ROUNDING);
        if self.im.is_zero() && other.im.is_zero() {
            return Self::real(times(&self.re, &other.re));
        }
        Self {
            re: times(&self.re, &other.re).sub(&times(&self.im, &other.im), PRECISION, ROUNDING),
            im: times(&self.re, &other.im).add(&times(&self.im, &other.re), PRECISION, ROUNDING),
        }
    }

    fn scale(&self, by: &BigFloat) -> Self {
        Self { re: self.re.mul(by, PRECISION, ROUNDING), im: self.im.mul(by, PRECISION, ROUNDING) }
    }

    fn norm(&self) -> BigFloat {
        let square = |a: &BigFloat| a.mul(a, PRECISION, ROUNDING);
        square(&self.re).add(&square(&self.im), PRECISION, ROUNDING)
    }

    fn size(&self) -> BigFloat {
        if self.im.is_zero() { self.re.abs() } else { self.norm().sqrt(PRECISION, ROUNDING) }
    }

    fn inverse(&self) -> Option<Self> {
        let norm = self.norm();
        if self.vanishes() || norm.is_zero() {
            return None;
        }
        let by = norm.reciprocal(PRECISION, ROUNDING);
        Some(Self { re: self.re.clone(), im: self.im.neg() }.scale(&by))
    }

    /// Whether nothing is left but rounding errors.
    pub(crate) fn vanishes(&self) -> bool {
        // 2^-200 is about 10^-60.
        let tiny =
            |value: &BigFloat| value.is_zero() || value.exponent().is_some_and(|exponent| exponent < -200);
        tiny(&self.re) && tiny(&self.im)
    }

    /// Whether it is a positive real number.
    pub(crate) fn is_positive(&self) -> bool {
        self.is_real() && self.re.is_positive() && !self.re.is_zero()
    }

    /// Whether two numbers agree in their first 30 digits.
    pub(crate) fn agrees(&self, other: &Self) -> bool {
        if self.vanishes() || other.vanishes() {
            return self.vanishes() && other.vanishes();
        }
        let difference = self.add(&other.negative()).size();
        let larger = self.size().max(&other.size());
        let allowed = larger.exponent().map(|exponent| exponent - 100);
        difference.is_zero() || difference.exponent() < allowed
    }

    /// Whether two numbers are equal once rounded to six decimals.
    pub(crate) fn agrees_to_six_decimals(&self, other: &Self) -> bool {
        let round = |value: &BigFloat| {
            let scaled = value.mul(&integer(1_000_000), PRECISION, ROUNDING);
            scaled.add(&integer(1).div(&integer(2), PRECISION, ROUNDING), PRECISION, ROUNDING).floor()
        };
        let same = |a: &BigFloat, b: &BigFloat| round(a).cmp(&round(b)) == Some(0);
        same(&self.re, &other.re) && same(&self.im, &other.im)
    }

    fn exp(&self) -> Option<Self> {
        if !moderate(&self.re) || !moderate(&self.im) {
            return None;
        }
        with_constants(|constants| {
            let size = self.re.exp(PRECISION, ROUNDING, constants);
            if self.im.is_zero() {
                return Self::real(size);
            }
            Self {
                re: self.im.cos(PRECISION, ROUNDING, constants),
                im: self.im.sin(PRECISION, ROUNDING, constants),
            }
            .scale(&size)
        })
    }

    /// The principal logarithm.
    fn ln(&self) -> Option<Self> {
        if self.vanishes() {
            return None;
        }
        let size = self.size();
        with_constants(|constants| Self {
            re: size.ln(PRECISION, ROUNDING, constants),
            im: argument(&self.re, &self.im, constants),
        })
    }

    fn is_real(&self) -> bool {
        self.im.is_zero() || self.im.exponent().is_some_and(|exponent| exponent < -200)
    }
}

fn argument(re: &BigFloat, im: &BigFloat, constants: &mut Consts) -> BigFloat {
    let pi = constants.pi(PRECISION, ROUNDING);
    if im.is_zero() {
        return if re.is_negative() { pi } else { integer(0) };
    }
    if re.is_zero() {
        let half = pi.div(&integer(2), PRECISION, ROUNDING);
        return if im.is_negative() { half.neg() } else { half };
    }
    let angle = im.div(re, PRECISION, ROUNDING).atan(PRECISION, ROUNDING, constants);
    match (re.sign(), im.sign()) {
        (Some(Sign::Neg), Some(Sign::Neg)) => angle.sub(&pi, PRECISION, ROUNDING),
        (Some(Sign::Neg), _) => angle.add(&pi, PRECISION, ROUNDING),
        _ => angle,
    }
}

fn power(base: &Expression, exponent: &Expression, point: u64, budget: &Budget) -> Option<Complex> {
    let known = exact(exponent);
    let base = compute(base, point, budget)?;
    if let Some(known) = &known {
        let size = known.numer().abs().to_u32();
        if let Some(size) = size.filter(|size| *size <= MAX_PRODUCT) {
            budget.pay(10 + size)?;
            let rooted = root(&base, known.denom(), budget)?;
            let one = Complex::real(integer(1));
            let value = (0..size).fold(one, |value, _| value.multiply(&rooted));
            return if known.is_negative() { value.inverse() } else { Some(value) };
        }
    }
    budget.pay(400)?;
    let exponent = compute(exponent, point, budget)?;
    base.ln()?.multiply(&exponent).exp()
}

/// The root of a number; of a negative one the real root where there is one.
fn root(of: &Complex, degree: &BigInt, budget: &Budget) -> Option<Complex> {
    let degree_small = degree.to_u32()?;
    if degree_small == 1 || of.vanishes() {
        return Some(of.clone());
    }
    if of.is_real() && degree_small == 2 {
        let size = of.re.abs().sqrt(PRECISION, ROUNDING);
        let zero = integer(0);
        return Some(if of.re.is_negative() { Complex { re: zero, im: size } } else { Complex::real(size) });
    }
    budget.pay(300)?;
    let by = integer(1).div(&float(degree), PRECISION, ROUNDING);
    if of.is_real() && of.re.is_negative() && degree.is_odd() {
        return Some(Complex::real(of.re.neg()).ln()?.scale(&by).exp()?.negative());
    }
    of.ln()?.scale(&by).exp()
}

fn call(function: Function, of: &Complex, budget: &Budget) -> Option<Complex> {
    // A function of a complex number takes several of real ones.
    budget.pay(if of.is_real() { 100 } else { 600 })?;
    let one = || Complex::real(integer(1));
    let two = integer(2);
    let half = || Complex::real(integer(1).div(&integer(2), PRECISION, ROUNDING));
    let times_i = |value: &Complex| Complex { re: value.im.neg(), im: value.re.clone() };
    let real = |compute: &dyn Fn(&BigFloat, &mut Consts) -> BigFloat| -> Option<Complex> {
        (of.is_real() && moderate(&of.re)).then_some(())?;
        with_constants(|constants| Complex::real(compute(&of.re, constants)))
    };
    match function {
        Function::Sin if of.is_real() => real(&|x, constants| x.sin(PRECISION, ROUNDING, constants)),
        Function::Cos if of.is_real() => real(&|x, constants| x.cos(PRECISION, ROUNDING, constants)),
        Function::Sin => {
            let (plus, minus) = (times_i(of).exp()?, times_i(of).negative().exp()?);
            Some(times_i(&plus.add(&minus.negative()).multiply(&half())).negative())
        }
        Function::Cos => {
            let (plus, minus) = (times_i(of).exp()?, times_i(of).negative().exp()?);
            Some(plus.add(&minus).multiply(&half()))
        }
        Function::Tan => {
            Some(call(Function::Sin, of, budget)?.multiply(&call(Function::Cos, of, budget)?.inverse()?))
        }
        Function::Cot => {
            Some(call(Function::Cos, of, budget)?.multiply(&call(Function::Sin, of, budget)?.inverse()?))
        }
        Function::Sec => call(Function::Cos, of, budget)?.inverse(),
        Function::Csc => call(Function::Sin, of, budget)?.inverse(),
        Function::Arcsin => real(&|x, constants| x.asin(PRECISION, ROUNDING, constants)),
        Function::Arccos => real(&|x, constants| x.acos(PRECISION, ROUNDING, constants)),
        Function::Arctan => real(&|x, constants| x.atan(PRECISION, ROUNDING, constants)),
        Function::Sinh => Some(of.exp()?.add(&of.negative().exp()?.negative()).multiply(&half())),
        Function::Cosh => Some(of.exp()?.add(&of.negative().exp()?).multiply(&half())),
        Function::Tanh => {
            let square = of.scale(&two).exp()?;
            Some(square.add(&one().negative()).multiply(&square.add(&one()).inverse()?))
        }
        Function::Exp => of.exp(),
        Function::Ln => of.ln(),
        Function::Abs => Some(Complex::real(of.size())),
        Function::Floor => of.is_real().then(|| Complex::real(of.re.floor())),
        Function::Ceiling => of.is_real().then(|| Complex::real(of.re.ceil())),
        Function::Factorial | Function::PlusMinus | Function::MinusPlus => None,
    }
}
