//! What an arithmetic expression is, once read.

use std::collections::BTreeSet;

use num_rational::BigRational;

/// A number that has a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Constant {
    Pi,
    E,
    I,
}

/// A function of one argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Function {
    Sin,
    Cos,
    Tan,
    Cot,
    Sec,
    Csc,
    Arcsin,
    Arccos,
    Arctan,
    Sinh,
    Cosh,
    Tanh,
    Exp,
    Ln,
    Abs,
    Floor,
    Ceiling,
    Factorial,
    /// Both signs at once; [`Expression::with_sign`] settles for one.
    PlusMinus,
    /// As [`Function::PlusMinus`], the other sign first.
    MinusPlus,
}

impl Function {
    /// The function with this LaTeX command, which is its plain name as well.
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "sin" => Self::Sin,
            "cos" => Self::Cos,
            "tan" => Self::Tan,
            "cot" => Self::Cot,
            "sec" => Self::Sec,
            "csc" => Self::Csc,
            "arcsin" => Self::Arcsin,
            "arccos" => Self::Arccos,
            "arctan" => Self::Arctan,
            "sinh" => Self::Sinh,
            "cosh" => Self::Cosh,
            "tanh" => Self::Tanh,
            "exp" => Self::Exp,
            "ln" => Self::Ln,
            _ => return None,
        })
    }

    /// What `f^{-1}` means.
    pub(crate) fn inverse(self) -> Option<Self> {
        match self {
            Self::Sin => Some(Self::Arcsin),
            Self::Cos => Some(Self::Arccos),
            Self::Tan => Some(Self::Arctan),
            _ => None,
        }
    }
}

/// An expression as it was written; nothing is simplified.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Expression {
    /// An exact number, and whether it was written with a decimal point.
    Number(BigRational, bool),
    /// A variable, with its subscript.
    Symbol(String),
    Constant(Constant),
    Infinity,
    Sum(Vec<Expression>),
    Product(Vec<Expression>),
    Negative(Box<Expression>),
    Quotient(Box<(Expression, Expression)>),
    Power(Box<(Expression, Expression)>),
    Call(Function, Box<Expression>),
    Binomial(Box<(Expression, Expression)>),
}

impl Expression {
    pub(crate) fn power(base: Self, exponent: Self) -> Self {
        Self::Power(Box::new((base, exponent)))
    }

    pub(crate) fn quotient(numerator: Self, denominator: Self) -> Self {
        Self::Quotient(Box::new((numerator, denominator)))
    }

    pub(crate) fn negative(of: Self) -> Self {
        Self::Negative(Box::new(of))
    }

    /// `self - other`.
    pub(crate) fn minus(self, other: Self) -> Self {
        Self::Sum(vec![self, Self::negative(other)])
    }

    fn children(&self) -> Vec<&Self> {
        match self {
            Self::Number(..) | Self::Symbol(_) | Self::Constant(_) | Self::Infinity => Vec::new(),
            Self::Sum(parts) | Self::Product(parts) => parts.iter().collect(),
            Self::Negative(of) | Self::Call(_, of) => vec![of],
            Self::Quotient(pair) | Self::Power(pair) | Self::Binomial(pair) => vec![&pair.0, &pair.1],
        }
    }

    fn any(&self, holds: &dyn Fn(&Self) -> bool) -> bool {
        holds(self) || self.children().into_iter().any(|child| child.any(holds))
    }

    /// The variables in it.
    pub(crate) fn symbols(&self) -> BTreeSet<&str> {
        let mut found = BTreeSet::new();
        self.collect_symbols(&mut found);
        found
    }

    fn collect_symbols<'e>(&'e self, found: &mut BTreeSet<&'e str>) {
        if let Self::Symbol(name) = self {
            found.insert(name);
        }
        for child in self.children() {
            child.collect_symbols(found);
        }
    }

    /// Whether a number in it was written with a decimal point.
    pub(crate) fn has_decimal(&self) -> bool {
        self.any(&|part| matches!(part, Self::Number(_, true)))
    }

    /// Whether it holds a plus-minus sign.
    pub(crate) fn has_two_signs(&self) -> bool {
        self.any(&|part| matches!(part, Self::Call(Function::PlusMinus | Function::MinusPlus, _)))
    }

    /// Whether it holds infinity, with which nothing is computed.
    pub(crate) fn has_infinity(&self) -> bool {
        self.any(&|part| matches!(part, Self::Infinity))
    }

    /// With every plus-minus sign settled: the upper or the lower one.
    pub(crate) fn with_sign(&self, upper: bool) -> Self {
        let all = |parts: &[Self]| parts.iter().map(|part| part.with_sign(upper)).collect();
        let both = |pair: &(Self, Self)| Box::new((pair.0.with_sign(upper), pair.1.with_sign(upper)));
        match self {
            Self::Number(..) | Self::Symbol(_) | Self::Constant(_) | Self::Infinity => self.clone(),
            Self::Sum(parts) => Self::Sum(all(parts)),
            Self::Product(parts) => Self::Product(all(parts)),
            Self::Negative(of) => Self::negative(of.with_sign(upper)),
            Self::Quotient(pair) => Self::Quotient(both(pair)),
            Self::Power(pair) => Self::Power(both(pair)),
            Self::Binomial(pair) => Self::Binomial(both(pair)),
            Self::Call(Function::PlusMinus, of) if upper => of.with_sign(upper),
            Self::Call(Function::MinusPlus, of) if !upper => of.with_sign(upper),
            Self::Call(Function::PlusMinus | Function::MinusPlus, of) => Self::negative(of.with_sign(upper)),
            Self::Call(function, of) => Self::Call(*function, Box::new(of.with_sign(upper))),
        }
    }

    /// Whether it is a name: a variable, a product of variables, or such a thing applied to something, as `f(x)`.
    pub(crate) fn is_name(&self) -> bool {
        match self {
            Self::Symbol(_) => true,
            Self::Product(parts) => parts.iter().all(Self::is_name),
            _ => false,
        }
    }
}
