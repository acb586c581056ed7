//! Formulas: sums, products, powers and functions.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{Pow, Zero};

use super::{MAX_DIGITS, Parser};
use crate::math::{
    expression::{Constant, Expression, Function},
    token::Kind,
};

impl Parser<'_> {
    pub(super) fn sum(&mut self) -> Option<Expression> {
        let mut parts = vec![self.signed_product()?];
        loop {
            let part = if self.eat_mark('+') {
                self.signed_product()?
            } else if self.eat_mark('-') {
                Expression::negative(self.signed_product()?)
            } else if self.eat_command("pm") {
                Expression::Call(Function::PlusMinus, Box::new(self.signed_product()?))
            } else if self.eat_command("mp") {
                Expression::Call(Function::MinusPlus, Box::new(self.signed_product()?))
            } else {
                break;
            };
            parts.push(part);
        }
        Some(single(parts, Expression::Sum))
    }

    fn signed_product(&mut self) -> Option<Expression> {
        let mut negative = false;
        loop {
            if self.eat_mark('-') {
                negative = !negative;
            } else if self.eat_command("pm") {
                let of = self.deeper(Self::signed_product)?;
                return Some(Expression::Call(Function::PlusMinus, Box::new(of)));
            } else if !self.eat_mark('+') {
                break;
            }
        }
        let product = self.product()?;
        Some(if negative { Expression::negative(product) } else { product })
    }

    fn product(&mut self) -> Option<Expression> {
        let mut value = self.factors()?;
        loop {
            if self.eat_mark('*') {
                value = Expression::Product(vec![value, self.factor_with_sign()?]);
            } else if self.is_mark('/') && !matches!(self.peek_after(1), Some(Kind::Unit(_) | Kind::Text(_)))
            {
                self.at += 1;
                value = Expression::quotient(value, self.factor_with_sign()?);
            } else if self.starts_factor(true) {
                value = Expression::Product(vec![value, self.factors()?]);
            } else {
                return Some(value);
            }
        }
    }

    fn factor_with_sign(&mut self) -> Option<Expression> {
        let negative = self.eat_mark('-');
        let factor = self.factor()?;
        Some(if negative { Expression::negative(factor) } else { factor })
    }

    /// Factors side by side: `2k`, `(a+5)(b+2)`, `3\sqrt{13}`.
    fn factors(&mut self) -> Option<Expression> {
        let mut parts = vec![self.factor()?];
        while self.starts_factor(true) {
            parts.push(self.factor()?);
        }
        Some(single(parts, Expression::Product))
    }

    /// Whether a factor may follow without a sign.
    fn starts_factor(&self, functions: bool) -> bool {
        match self.peek() {
            Some(Kind::Letter(_) | Kind::Word(_)) => true,
            // Digits side by side are no product.
            Some(Kind::Number(_)) => {
                !self
                    .at
                    .checked_sub(1)
                    .is_some_and(|before| matches!(self.tokens[before].kind, Kind::Number(_)))
                    && !self.at.checked_sub(1).is_some_and(|before| {
                        matches!(&self.tokens[before].kind, Kind::Letter(_) | Kind::Word(_))
                    })
            }
            Some(Kind::Mark('(' | '{')) => true,
            Some(Kind::Mark('|')) => self.bars == 0,
            Some(Kind::Command(name)) => match name.as_str() {
                "frac" | "sqrt" | "surd" | "pi" | "theta" | "infty" | "binom" | "lfloor" | "lceil" => true,
                "alpha" | "beta" | "gamma" | "lambda" | "mu" | "omega" | "phi" | "sigma" | "tau" => true,
                "log" => functions,
                _ => functions && Function::named(name).is_some(),
            },
            _ => false,
        }
    }

    /// One factor with what is attached to it: powers and factorials.
    fn factor(&mut self) -> Option<Expression> {
        let base = self.deeper(Self::atom)?;
        self.attached(base)
    }

    fn attached(&mut self, mut base: Expression) -> Option<Expression> {
        loop {
            if self.eat_mark('!') {
                base = Expression::Call(Function::Factorial, Box::new(base));
            } else if self.eat_mark('^') {
                if let Some(Kind::Mark('\'')) = self.peek() {
                    return None;
                }
                let exponent = self.deeper(Self::exponent)?;
                base = Expression::power(base, exponent);
            } else {
                return Some(base);
            }
        }
    }

    /// What is raised: an argument, or `-1` and the like without braces.
    fn exponent(&mut self) -> Option<Expression> {
        if self.eat_mark('-') {
            return Some(Expression::negative(self.argument()?));
        }
        // `x^10` is meant for `x^{10}`.
        self.argument()
    }

    /// An argument of a command: braces, or one digit, letter or command.
    fn argument(&mut self) -> Option<Expression> {
        match self.peek()? {
            Kind::Mark('{') => {
                self.at += 1;
                let inner = self.deeper(Self::sum)?;
                self.skip_unit();
                self.eat_mark('}').then_some(inner)
            }
            // No mixed number starts here: `\log_2 8`.
            Kind::Number(_) => self.plain_number(),
            _ => self.deeper(Self::atom),
        }
    }

    fn number(&mut self) -> Option<Expression> {
        match self.plain_number()? {
            Expression::Number(whole, false) => self.mixed(whole),
            decimal => Some(decimal),
        }
    }

    fn plain_number(&mut self) -> Option<Expression> {
        let Some(Kind::Number(text)) = self.peek() else { return None };
        self.at += 1;
        if text.len() > MAX_DIGITS {
            return None;
        }
        let (whole, decimals) = text.split_once('.').unwrap_or((text, ""));
        let digits: BigInt = format!("0{whole}{decimals}").parse().ok()?;
        let scale = Pow::pow(BigInt::from(10), u32::try_from(decimals.len()).ok()?);
        Some(Expression::Number(BigRational::new(digits, scale), text.contains('.')))
    }

    /// `1\frac{4}{5}` and `1 4/5` are sums.
    fn mixed(&mut self, whole: BigRational) -> Option<Expression> {
        let start = self.at;
        let plain = Expression::Number(whole.clone(), false);
        let spaced = self.tokens.get(self.at).is_some_and(|token| token.spaced);
        let part = if self.eat_command("frac") {
            self.whole_argument().zip(self.whole_argument())
        } else if spaced && matches!(self.peek(), Some(Kind::Number(_))) {
            let numerator = self.whole_number();
            if self.eat_mark('/') { numerator.zip(self.whole_number()) } else { return None }
        } else {
            None
        };
        let proper = part.filter(|(numerator, denominator)| numerator < denominator && !numerator.is_zero());
        let Some((numerator, denominator)) = proper else {
            self.at = start;
            return Some(plain);
        };
        Some(Expression::Number(whole + BigRational::new(numerator, denominator), false))
    }

    fn whole_argument(&mut self) -> Option<BigInt> {
        if self.eat_mark('{') {
            let number = self.whole_number()?;
            return self.eat_mark('}').then_some(number);
        }
        self.whole_number()
    }

    fn whole_number(&mut self) -> Option<BigInt> {
        let Some(Kind::Number(digits)) = self.peek() else { return None };
        self.at += 1;
        (digits.len() <= MAX_DIGITS).then(|| digits.parse().ok()).flatten()
    }

    fn atom(&mut self) -> Option<Expression> {
        let found = self.peek()?;
        match found {
            Kind::Number(_) => self.number(),
            Kind::Letter(letter) => {
                self.at += 1;
                Some(self.symbol(*letter))
            }
            Kind::Word(word) => {
                self.at += 1;
                Some(Expression::Product(word.chars().map(letter_symbol).collect()))
            }
            Kind::Mark('(') => {
                self.at += 1;
                let inner = self.deeper(Self::sum)?;
                self.skip_unit();
                self.eat_mark(')').then_some(inner)
            }
            Kind::Mark('[') => {
                self.at += 1;
                let inner = self.deeper(Self::sum)?;
                self.eat_mark(']').then_some(inner)
            }
            Kind::Mark('{') => self.argument(),
            Kind::Mark('|') => {
                self.at += 1;
                self.bars += 1;
                let inner = self.deeper(Self::sum)?;
                self.bars -= 1;
                self.eat_mark('|').then(|| Expression::Call(Function::Abs, Box::new(inner)))
            }
            Kind::Mark('-') => {
                self.at += 1;
                Some(Expression::negative(self.deeper(Self::factor)?))
            }
            Kind::Command(name) => {
                self.at += 1;
                self.command(name)
            }
            Kind::Unit(_) | Kind::Text(_) | Kind::Mark(_) => None,
        }
    }

    fn command(&mut self, name: &str) -> Option<Expression> {
        match name {
            "pi" => Some(Expression::Constant(Constant::Pi)),
            "infty" => Some(Expression::Infinity),
            "frac" => {
                let numerator = self.argument()?;
                Some(Expression::quotient(numerator, self.argument()?))
            }
            "binom" => {
                let top = self.argument()?;
                Some(Expression::Binomial(Box::new((top, self.argument()?))))
            }
            "sqrt" | "surd" => {
                let degree = if self.eat_mark('[') {
                    let degree = self.deeper(Self::sum)?;
                    self.eat_mark(']').then_some(degree)?
                } else {
                    integer(2)
                };
                let of = self.argument()?;
                Some(Expression::power(of, Expression::quotient(integer(1), degree)))
            }
            "lfloor" | "lceil" => {
                let inner = self.deeper(Self::sum)?;
                let (close, function) =
                    if name == "lfloor" { ("rfloor", Function::Floor) } else { ("rceil", Function::Ceiling) };
                self.eat_command(close).then(|| Expression::Call(function, Box::new(inner)))
            }
            "log" => {
                let base = if self.eat_mark('_') { Some(self.argument()?) } else { None };
                let power = if self.eat_mark('^') { Some(self.argument()?) } else { None };
                let of = self.function_argument()?;
                let natural = Expression::Call(Function::Ln, Box::new(of));
                let value = match base {
                    Some(base) => {
                        Expression::quotient(natural, Expression::Call(Function::Ln, Box::new(base)))
                    }
                    None => natural,
                };
                Some(match power {
                    Some(power) => Expression::power(value, power),
                    None => value,
                })
            }
            _ => match Function::named(name) {
                Some(function) => self.function(function),
                None if name.chars().all(|letter| letter.is_ascii_alphabetic()) && is_greek(name) => {
                    let subscript = self.subscript();
                    Some(Expression::Symbol(format!("\\{name}{subscript}")))
                }
                None => None,
            },
        }
    }

    fn function(&mut self, function: Function) -> Option<Expression> {
        let mut function = function;
        let mut exponent = None;
        if self.eat_mark('^') {
            let raised = self.deeper(Self::exponent)?;
            match function.inverse() {
                Some(inverse) if raised == Expression::negative(integer(1)) => function = inverse,
                _ => exponent = Some(raised),
            }
        }
        let value = Expression::Call(function, Box::new(self.function_argument()?));
        Some(match exponent {
            Some(exponent) => Expression::power(value, exponent),
            None => value,
        })
    }

    /// `x`, `2x` and `(x+1)` of `\sin x`, `\sin 2x` and `\sin(x+1)`.
    fn function_argument(&mut self) -> Option<Expression> {
        if matches!(self.peek(), Some(Kind::Mark('(' | '{' | '|'))) {
            return self.deeper(Self::atom);
        }
        if self.eat_mark('-') {
            return Some(Expression::negative(self.function_argument()?));
        }
        let mut parts =
            vec![if self.starts_factor(false) { self.factor()? } else { self.deeper(Self::atom)? }];
        while self.starts_factor(false) && !matches!(self.peek(), Some(Kind::Mark('('))) {
            parts.push(self.factor()?);
        }
        Some(single(parts, Expression::Product))
    }

    fn symbol(&mut self, letter: char) -> Expression {
        if letter == 'i' && !self.is_mark('_') {
            return Expression::Constant(Constant::I);
        }
        if letter == 'e' && !self.is_mark('_') {
            return Expression::Constant(Constant::E);
        }
        let subscript = self.subscript();
        Expression::Symbol(format!("{letter}{subscript}"))
    }

    /// `_1` and `_{n+1}` as part of a name.
    fn subscript(&mut self) -> String {
        let start = self.at;
        let mut name = String::new();
        if self.eat_mark('_') {
            if self.eat_mark('{') {
                while let Some(kind) = self.peek().filter(|kind| **kind != Kind::Mark('}')) {
                    name.push_str(&written(kind));
                    self.at += 1;
                }
                if !self.eat_mark('}') {
                    self.at = start;
                    return String::new();
                }
            } else if let Some(kind) = self.peek() {
                name = written(kind);
                self.at += 1;
            }
            name.insert(0, '_');
        }
        while self.eat_mark('\'') {
            name.push('\'');
        }
        name
    }
}

fn written(kind: &Kind) -> String {
    match kind {
        Kind::Number(text) | Kind::Word(text) | Kind::Unit(text) | Kind::Text(text) => text.clone(),
        Kind::Command(name) => format!("\\{name}"),
        Kind::Letter(letter) | Kind::Mark(letter) => letter.to_string(),
    }
}

fn letter_symbol(letter: char) -> Expression {
    match letter {
        'i' => Expression::Constant(Constant::I),
        'e' => Expression::Constant(Constant::E),
        _ => Expression::Symbol(letter.to_string()),
    }
}

fn is_greek(name: &str) -> bool {
    const NAMES: [&str; 30] = [
        "alpha",
        "beta",
        "gamma",
        "delta",
        "epsilon",
        "varepsilon",
        "zeta",
        "eta",
        "theta",
        "vartheta",
        "kappa",
        "lambda",
        "mu",
        "nu",
        "xi",
        "rho",
        "sigma",
        "tau",
        "phi",
        "varphi",
        "chi",
        "psi",
        "omega",
        "Gamma",
        "Delta",
        "Theta",
        "Omega",
        "Sigma",
        "Phi",
        "ell",
    ];
    NAMES.contains(&name)
}

fn integer(value: u32) -> Expression {
    Expression::Number(BigRational::from(BigInt::from(value)), false)
}

fn single(mut parts: Vec<Expression>, several: impl FnOnce(Vec<Expression>) -> Expression) -> Expression {
    if parts.len() == 1 { parts.remove(0) } else { several(parts) }
}
