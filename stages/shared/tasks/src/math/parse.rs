//! Tokens as answers: recursive descent, at most [`MAX_DEPTH`] deep.

use num_bigint::BigInt;
use num_rational::BigRational;
use num_traits::{One, Pow, Zero};

use super::{
    expression::{Constant, Expression, Function},
    token::{Kind, Token},
};

/// How deep brackets and arguments may be nested.
const MAX_DEPTH: usize = 40;
/// The most digits of a number.
const MAX_DIGITS: usize = 400;

/// A sign between two sides of a relation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Operator {
    Equal,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    NotEqual,
}

impl Operator {
    /// The operator read from right to left.
    pub(crate) fn flipped(self) -> Self {
        match self {
            Self::Equal => Self::Equal,
            Self::NotEqual => Self::NotEqual,
            Self::Less => Self::Greater,
            Self::LessEqual => Self::GreaterEqual,
            Self::Greater => Self::Less,
            Self::GreaterEqual => Self::LessEqual,
        }
    }
}

/// What an answer is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Answer {
    /// A number or a formula.
    Expression(Expression),
    /// A point, a vector or an interval; `open` and `close` are its brackets.
    Tuple { open: char, close: char, items: Vec<Answer> },
    /// In braces or without brackets.
    Set(Vec<Answer>),
    /// Of intervals.
    Union(Vec<Answer>),
    /// Row by row.
    Matrix(Vec<Vec<Answer>>),
    /// A chain of relations: one more side than operators.
    Relation { sides: Vec<Answer>, operators: Vec<Operator> },
    /// Digits in another base.
    Based { digits: String, base: String },
    /// Words, folded.
    Text(String),
}

/// The answer that the tokens write; `None` if they do not make sense from the first to the last.
pub(crate) fn parse(tokens: &[Token]) -> Option<Answer> {
    let mut parser = Parser { tokens, at: 0, depth: 0, bars: 0 };
    let answer = parser.list()?;
    parser.skip_stops();
    (parser.at == tokens.len()).then_some(answer)
}

struct Parser<'t> {
    tokens: &'t [Token],
    at: usize,
    depth: usize,
    /// Vertical bars that are open.
    bars: usize,
}

impl<'t> Parser<'t> {
    fn peek(&self) -> Option<&'t Kind> {
        self.tokens.get(self.at).map(|token| &token.kind)
    }

    fn peek_after(&self, ahead: usize) -> Option<&'t Kind> {
        self.tokens.get(self.at + ahead).map(|token| &token.kind)
    }

    fn is_mark(&self, mark: char) -> bool {
        self.peek() == Some(&Kind::Mark(mark))
    }

    fn is_command(&self, name: &str) -> bool {
        matches!(self.peek(), Some(Kind::Command(found)) if found == name)
    }

    fn eat_mark(&mut self, mark: char) -> bool {
        let found = self.is_mark(mark);
        self.at += usize::from(found);
        found
    }

    fn eat_command(&mut self, name: &str) -> bool {
        let found = self.is_command(name);
        self.at += usize::from(found);
        found
    }

    fn skip_stops(&mut self) {
        while self.eat_mark('.') || self.eat_mark(',') || self.eat_mark(';') || self.eat_mark(':') {}
    }

    fn deeper<T>(&mut self, read: impl FnOnce(&mut Self) -> Option<T>) -> Option<T> {
        if self.depth == MAX_DEPTH {
            return None;
        }
        self.depth += 1;
        let found = read(self);
        self.depth -= 1;
        found
    }

    /// Elements between commas.
    fn list(&mut self) -> Option<Answer> {
        let mut items = vec![self.relation()?];
        while self.is_mark(',') || self.is_mark(';') {
            let start = self.at;
            while self.eat_mark(',') || self.eat_mark(';') {}
            if matches!(self.peek(), None | Some(Kind::Mark('.'))) {
                self.at = start;
                break;
            }
            items.push(self.relation()?);
        }
        Some(flat_set(items))
    }

    fn relation(&mut self) -> Option<Answer> {
        while self.eat_command("approx") || self.eat_command("therefore") || self.eat_mark(':') {}
        let mut sides = vec![self.union()?];
        let mut operators = Vec::new();
        loop {
            let operator = match self.peek() {
                Some(Kind::Mark('=')) => Operator::Equal,
                Some(Kind::Mark('<')) => Operator::Less,
                Some(Kind::Mark('>')) => Operator::Greater,
                Some(Kind::Command(name)) => match name.as_str() {
                    "le" => Operator::LessEqual,
                    "ge" => Operator::GreaterEqual,
                    "ne" => Operator::NotEqual,
                    "approx" | "equiv" => Operator::Equal,
                    "in" if sides.len() == 1 => {
                        // `x \in S` states S.
                        self.at += 1;
                        return self.union();
                    }
                    _ => break,
                },
                _ => break,
            };
            self.at += 1;
            while self.eat_command("approx") {}
            operators.push(operator);
            sides.push(self.union()?);
        }
        if operators.is_empty() { sides.pop() } else { Some(Answer::Relation { sides, operators }) }
    }

    fn union(&mut self) -> Option<Answer> {
        let mut parts = vec![self.element()?];
        while self.eat_command("cup") {
            parts.push(self.element()?);
        }
        if parts.len() == 1 {
            return parts.pop();
        }
        if parts.iter().all(|part| matches!(part, Answer::Set(_))) {
            return Some(flat_set(parts));
        }
        Some(Answer::Union(parts))
    }

    /// A set, a tuple, a matrix, words or an expression, with a unit behind it.
    fn element(&mut self) -> Option<Answer> {
        let (start, bars) = (self.at, self.bars);
        let found = match self.bracketed() {
            Some(answer) if self.ends_element() => answer,
            _ => {
                (self.at, self.bars) = (start, bars);
                if let Some(based) = self.based() {
                    return Some(based);
                }
                self.at = start;
                if let Some(text) = self.words() {
                    return Some(text);
                }
                self.at = start;
                let sum = self.sum()?;
                self.skip_unit();
                signs(sum)
            }
        };
        Some(found)
    }

    fn ends_element(&self) -> bool {
        match self.peek() {
            None => true,
            Some(Kind::Mark(mark)) => ",;=<>)]}.&".contains(*mark),
            Some(Kind::Command(name)) => {
                matches!(name.as_str(), "cup" | "}" | "\\" | "le" | "ge" | "ne" | "in" | "approx")
                    || name.starts_with("end ")
            }
            Some(Kind::Number(_) | Kind::Letter(_) | Kind::Word(_) | Kind::Unit(_) | Kind::Text(_)) => false,
        }
    }

    /// What stands in brackets of its own: `(1,2]`, `\{1,2\}`, a matrix.
    fn bracketed(&mut self) -> Option<Answer> {
        match self.peek()? {
            Kind::Mark(open @ ('(' | '[')) => {
                let open = *open;
                self.at += 1;
                self.deeper(|parser| parser.tuple(open))
            }
            Kind::Command(name) if name == "langle" => {
                self.at += 1;
                self.deeper(|parser| parser.tuple('('))
            }
            Kind::Command(name) if name == "{" => {
                self.at += 1;
                if self.eat_command("}") {
                    return Some(Answer::Set(Vec::new()));
                }
                let inner = self.deeper(Self::list)?;
                self.eat_command("}").then(|| flat_set(vec![inner]))
            }
            Kind::Mark('{') => {
                self.at += 1;
                let inner = self.deeper(Self::list)?;
                self.eat_mark('}').then_some(inner)
            }
            Kind::Command(name) if name == "emptyset" => {
                self.at += 1;
                Some(Answer::Set(Vec::new()))
            }
            Kind::Command(name) if name == "begin array" || name.ends_with("matrix") => {
                let end = name.replacen("begin ", "end ", 1);
                self.at += 1;
                self.deeper(|parser| parser.matrix(&end))
            }
            _ => None,
        }
    }

    fn tuple(&mut self, open: char) -> Option<Answer> {
        if matches!(self.peek(), Some(Kind::Command(name)) if name.starts_with("begin ")) {
            // A matrix in brackets of its own.
            let matrix = self.bracketed()?;
            return (self.eat_mark(')') || self.eat_mark(']')).then_some(matrix);
        }
        let mut items = vec![self.relation()?];
        while self.eat_mark(',') || self.eat_mark(';') {
            items.push(self.relation()?);
        }
        let close = match self.peek()? {
            Kind::Mark(close @ (')' | ']')) => *close,
            Kind::Command(name) if name == "rangle" => ')',
            _ => return None,
        };
        self.at += 1;
        if items.len() == 1 {
            // Parentheses around one thing only group it.
            return items.pop();
        }
        Some(Answer::Tuple { open, close, items })
    }

    fn matrix(&mut self, end: &str) -> Option<Answer> {
        let mut rows = vec![Vec::new()];
        loop {
            if self.eat_command(end) {
                break;
            }
            if self.eat_command("\\") {
                rows.push(Vec::new());
                continue;
            }
            self.eat_mark('&');
            let cell = self.relation()?;
            rows.last_mut()?.push(cell);
        }
        rows.retain(|row| !row.is_empty());
        Some(Answer::Matrix(rows))
    }

    /// `52_8` and `4210_{5}`.
    fn based(&mut self) -> Option<Answer> {
        let Some(Kind::Number(digits)) = self.peek() else { return None };
        self.at += 1;
        self.eat_mark('_').then_some(())?;
        let braces = self.eat_mark('{');
        let Some(Kind::Number(base)) = self.peek() else { return None };
        self.at += 1;
        if braces && !self.eat_mark('}') {
            return None;
        }
        self.ends_element()
            .then(|| Answer::Based { digits: digits.trim_start_matches('0').to_owned(), base: base.clone() })
    }

    /// Only words up to the end of the element.
    fn words(&mut self) -> Option<Answer> {
        let mut text = String::new();
        let mut worded = false;
        while let Some(Kind::Word(word) | Kind::Unit(word) | Kind::Text(word)) = self.peek() {
            worded |= !matches!(self.peek(), Some(Kind::Word(_)));
            text.push_str(&fold(word));
            self.at += 1;
        }
        // A single word of plain letters may be a product: `ab`.
        (self.ends_element() && !text.is_empty() && (worded || text.chars().count() > 3))
            .then_some(Answer::Text(text))
    }

    /// A unit behind a value: `\text{ cm}^2`, `square feet`.
    fn skip_unit(&mut self) {
        while let Some(Kind::Unit(_) | Kind::Text(_)) = self.peek() {
            self.at += 1;
            if self.eat_mark('^') {
                let braces = self.eat_mark('{');
                self.eat_mark('-');
                self.at += usize::from(matches!(self.peek(), Some(Kind::Number(_))));
                if braces {
                    self.eat_mark('}');
                }
            }
            if self.is_mark('/') && matches!(self.peek_after(1), Some(Kind::Unit(_) | Kind::Text(_))) {
                self.at += 1;
            }
        }
    }

    fn sum(&mut self) -> Option<Expression> {
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
    Expression::Number(BigRational::from(BigInt::from(value)) * BigRational::one(), false)
}

fn single(mut parts: Vec<Expression>, several: impl FnOnce(Vec<Expression>) -> Expression) -> Expression {
    if parts.len() == 1 { parts.remove(0) } else { several(parts) }
}

/// A set of everything listed; one thing alone stays what it is.
fn flat_set(items: Vec<Answer>) -> Answer {
    let alone = items.len() == 1 && !matches!(items[0], Answer::Set(_));
    let mut flat = Vec::new();
    for item in items {
        match item {
            Answer::Set(inner) => flat.extend(inner),
            other => flat.push(other),
        }
    }
    if alone && flat.len() == 1 { flat.remove(0) } else { Answer::Set(flat) }
}

/// With a plus-minus sign: both values.
fn signs(expression: Expression) -> Answer {
    if !expression.has_two_signs() {
        return Answer::Expression(expression);
    }
    Answer::Set([true, false].map(|upper| Answer::Expression(expression.with_sign(upper))).into())
}

/// Lower case, letters and digits only.
pub(crate) fn fold(text: &str) -> String {
    text.chars().filter(|letter| letter.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}
