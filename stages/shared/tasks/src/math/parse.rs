//! Tokens as answers: recursive descent, at most [`MAX_DEPTH`] deep.

use super::{
    expression::Expression,
    token::{Kind, Token},
};

mod arithmetic;

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
