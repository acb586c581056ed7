//! Exact rational numbers, and the small arithmetic in which answers are written.
//!
//! `1,234.50`, `7/2`, `\frac{36}{2}`, `1\frac12`, `9\times 2` and `2^{10}` have values; variables, roots and
//! everything above 38 digits do not. Nothing here is approximate.

use std::fmt;

/// A rational number in lowest terms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rational {
    numerator: i128,
    /// Always positive.
    denominator: i128,
}

/// Answers longer than this are no numbers.
const MAX_LENGTH: usize = 300;
const MAX_DEPTH: usize = 16;

impl Rational {
    fn new(numerator: i128, denominator: i128) -> Option<Self> {
        let (mut a, mut b) = (numerator.checked_abs()?, denominator.checked_abs()?);
        while b != 0 {
            (a, b) = (b, a % b);
        }
        let divisor = if denominator < 0 { -a } else { a };
        // A zero denominator is the only one that stays 0.
        let number = Self {
            numerator: numerator.checked_div(divisor)?,
            denominator: denominator.checked_div(divisor)?,
        };
        (number.denominator > 0).then_some(number)
    }

    fn integer(value: i128) -> Self {
        Self { numerator: value, denominator: 1 }
    }

    fn add(self, other: Self) -> Option<Self> {
        let left = self.numerator.checked_mul(other.denominator)?;
        let right = other.numerator.checked_mul(self.denominator)?;
        Self::new(left.checked_add(right)?, self.denominator.checked_mul(other.denominator)?)
    }

    fn multiply(self, other: Self) -> Option<Self> {
        Self::new(
            self.numerator.checked_mul(other.numerator)?,
            self.denominator.checked_mul(other.denominator)?,
        )
    }

    fn negative(self) -> Self {
        Self { numerator: -self.numerator, ..self }
    }

    fn inverse(self) -> Option<Self> {
        Self::new(self.denominator, self.numerator)
    }

    fn power(self, exponent: Self) -> Option<Self> {
        let size = u32::try_from(exponent.numerator.checked_abs()?).ok()?;
        let base = if exponent.numerator < 0 { self.inverse()? } else { self };
        (exponent.denominator == 1).then_some(())?;
        Self::new(base.numerator.checked_pow(size)?, base.denominator.checked_pow(size)?)
    }

    /// Reads a whole text as arithmetic on exact numbers; `None` for anything else.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let text = text.trim();
        if text.is_empty() || text.len() > MAX_LENGTH {
            return None;
        }
        let mut parser = Parser { rest: text, depth: 0 };
        let value = parser.sum()?;
        parser.skip_space();
        parser.rest.is_empty().then_some(value)
    }
}

impl fmt::Display for Rational {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", self.numerator)?;
        if self.denominator == 1 { Ok(()) } else { write!(formatter, "/{}", self.denominator) }
    }
}

struct Parser<'t> {
    rest: &'t str,
    depth: usize,
}

impl Parser<'_> {
    fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    fn eat(&mut self, token: &str) -> bool {
        self.skip_space();
        let found = self.rest.strip_prefix(token);
        self.rest = found.unwrap_or(self.rest);
        found.is_some()
    }

    fn eat_any(&mut self, tokens: &[&str]) -> bool {
        tokens.iter().any(|token| self.eat(token))
    }

    fn sum(&mut self) -> Option<Rational> {
        let mut value = self.product()?;
        loop {
            if self.eat("+") {
                value = value.add(self.product()?)?;
            } else if self.eat("-") {
                value = value.add(self.product()?.negative())?;
            } else {
                return Some(value);
            }
        }
    }

    fn product(&mut self) -> Option<Rational> {
        let mut value = self.signed()?;
        loop {
            if self.eat_any(&["*", "\\times", "\\cdot"]) {
                value = value.multiply(self.signed()?)?;
            } else if self.eat_any(&["/", "\\div"]) {
                value = value.multiply(self.signed()?.inverse()?)?;
            } else {
                return Some(value);
            }
        }
    }

    fn signed(&mut self) -> Option<Rational> {
        let mut negative = false;
        while !self.rest.is_empty() {
            if self.eat("-") {
                negative = !negative;
            } else if !self.eat("+") {
                break;
            }
        }
        let base = self.atom()?;
        let value = if self.eat("^") { base.power(self.argument()?)? } else { base };
        Some(if negative { value.negative() } else { value })
    }

    fn atom(&mut self) -> Option<Rational> {
        if self.eat("\\frac") {
            return self.fraction();
        }
        if self.eat("(") {
            return self.nested(")");
        }
        if self.eat("{") {
            return self.nested("}");
        }
        let value = self.literal()?;
        let spaced = self.rest.starts_with(char::is_whitespace);
        if value.denominator == 1 && self.eat("\\frac") {
            return value.add(self.fraction()?);
        }
        // A mixed number: 1 1/2.
        if spaced && value.denominator == 1 && self.rest.starts_with(|next: char| next.is_ascii_digit()) {
            let numerator = self.digits()?;
            return if self.eat("/") { value.add(Rational::new(numerator, self.digits()?)?) } else { None };
        }
        Some(value)
    }

    fn nested(&mut self, end: &str) -> Option<Rational> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return None;
        }
        let value = self.sum()?;
        self.depth -= 1;
        self.eat(end).then_some(value)
    }

    fn fraction(&mut self) -> Option<Rational> {
        let numerator = self.argument()?;
        numerator.multiply(self.argument()?.inverse()?)
    }

    /// `{...}` or one digit, as TeX takes arguments.
    fn argument(&mut self) -> Option<Rational> {
        if self.eat("{") {
            return self.nested("}");
        }
        self.skip_space();
        let digit = self.rest.chars().next()?.to_digit(10)?;
        self.rest = &self.rest[1..];
        Some(Rational::integer(i128::from(digit)))
    }

    fn digits(&mut self) -> Option<i128> {
        let (digits, rest) = split_digits(self.rest);
        self.rest = rest;
        digits.parse().ok()
    }

    /// `1,234.50`, `.5`, `5.`, `1e3`.
    fn literal(&mut self) -> Option<Rational> {
        self.skip_space();
        let (first, mut rest) = split_digits(self.rest);
        let mut digits = first.to_owned();
        while let Some((group, after)) =
            (1..=3).contains(&first.len()).then(|| group_of_three(rest)).flatten()
        {
            digits.push_str(group);
            rest = after;
        }
        let mut scale = 0;
        if let Some(after) = rest.strip_prefix('.') {
            let (decimals, after) = split_digits(after);
            digits.push_str(decimals);
            scale = u32::try_from(decimals.len()).ok()?;
            rest = after;
        }
        if digits.is_empty() {
            return None;
        }
        self.rest = rest;
        let value = Rational::new(digits.parse().ok()?, 10_i128.checked_pow(scale)?)?;
        let exponent = self.rest.strip_prefix(['e', 'E']).map(|after| Parser { rest: after, depth: 0 });
        if let Some(mut exponent) = exponent {
            let negative = exponent.rest.starts_with('-');
            exponent.rest = exponent.rest.strip_prefix(['-', '+']).unwrap_or(exponent.rest);
            let size = Rational::integer(exponent.digits()?);
            self.rest = exponent.rest;
            let size = if negative { size.negative() } else { size };
            return value.multiply(Rational::integer(10).power(size)?);
        }
        Some(value)
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|next: char| !next.is_ascii_digit()).unwrap_or(text.len()))
}

/// A separator of thousands with exactly three digits after it.
fn group_of_three(text: &str) -> Option<(&str, &str)> {
    const SEPARATORS: [&str; 7] = ["{,}", ",", "'", " ", "\u{a0}", "\u{2009}", "\u{202f}"];
    let after = SEPARATORS.iter().find_map(|separator| text.strip_prefix(separator))?;
    let (group, rest) = split_digits(after);
    (group.len() == 3).then_some((group, rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_exact_values() {
        for (text, value) in [
            ("18", "18"),
            ("-0", "0"),
            ("007", "7"),
            (" 1,234.50 ", "2469/2"),
            ("58,500", "58500"),
            ("1{,}234", "1234"),
            ("1'234", "1234"),
            ("3 400", "3400"),
            ("1\u{202f}234", "1234"),
            (".5", "1/2"),
            ("5.", "5"),
            ("18.00", "18"),
            ("7/2", "7/2"),
            ("14/4", "7/2"),
            ("\\frac{36}{2}", "18"),
            ("\\frac43", "4/3"),
            ("\\frac 59", "5/9"),
            ("\\frac1{72}", "1/72"),
            ("-\\frac{1}{2}", "-1/2"),
            ("\\frac{-1}{2}", "-1/2"),
            ("\\frac{1}{-2}", "-1/2"),
            ("1\\frac12", "3/2"),
            ("-1 1/2", "-3/2"),
            ("9\\times 2", "18"),
            ("(7-1)+1", "7"),
            ("-2^2", "-4"),
            ("2^{-2}", "1/4"),
            ("10^3", "1000"),
            ("1e3", "1000"),
            ("2.5E-1", "1/4"),
            ("12345678901234567890123456789012345678", "12345678901234567890123456789012345678"),
        ] {
            assert_eq!(
                Rational::parse(text).map(|value| value.to_string()).as_deref(),
                Some(value),
                "{text}"
            );
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in [
            "",
            "-",
            "x",
            "2x",
            "1,2",
            "1,23,456",
            "1234,567",
            "18 3",
            "1/0",
            "\\frac10",
            "0^{-1}",
            "9^{9^{9}}",
            "9^999",
            "1e999",
            "1e",
            "10:30",
            "52_8",
            "((",
            "1)",
            "3.4.5",
            "١٨",
            "5 million",
            "\\frac{1}",
            "^2",
            "1234567890123456789012345678901234567890123",
        ] {
            assert_eq!(Rational::parse(text), None, "{text}");
        }
        assert_eq!(Rational::parse(&"(".repeat(200)), None);
        assert_eq!(Rational::parse(&"-".repeat(299)), None);
        assert_eq!(Rational::parse(&format!("{}1", "0+".repeat(1000))), None);
    }
}
