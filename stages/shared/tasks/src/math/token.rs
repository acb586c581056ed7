//! LaTeX and plain notation as tokens.
//!
//! Everything that says nothing about a value is dropped here: spacing commands, `\left` and `\right`, dollar
//! signs, degree signs, the percent sign (50 % of something is written 50, as math-verify has it).

use super::units::is_unit;
use crate::extract::braced;

/// One piece of notation.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Kind {
    /// Digits, perhaps with a decimal point; separators of thousands are gone.
    Number(String),
    /// A single letter.
    Letter(char),
    /// Several letters in a row that are no function and no unit.
    Word(String),
    /// A word that says what is counted or measured.
    Unit(String),
    /// Words in `\text{}` and the like.
    Text(String),
    /// A command without its backslash; functions in plain words as well.
    Command(String),
    /// Any other character.
    Mark(char),
}

/// A token and whether space stands before it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) spaced: bool,
}

/// An answer with more tokens is not read.
const MAX_TOKENS: usize = 600;
/// How deep commands around text may be nested.
const MAX_DEPTH: usize = 8;

/// Commands whose argument is text or is set in another font.
const FONTS: [&str; 16] = [
    "text",
    "textbf",
    "textit",
    "textrm",
    "textnormal",
    "mathbf",
    "mathrm",
    "mathit",
    "mathsf",
    "mathcal",
    "mbox",
    "boxed",
    "fbox",
    "operatorname",
    "bf",
    "rm",
];
/// Commands that are only about looks.
const LOOKS: [&str; 27] = [
    "left",
    "right",
    "mleft",
    "mright",
    "displaystyle",
    "textstyle",
    "limits",
    "quad",
    "qquad",
    "big",
    "Big",
    "bigl",
    "bigr",
    "Bigl",
    "Bigr",
    "bigg",
    "Bigg",
    "biggl",
    "biggr",
    "degree",
    "hline",
    "strut",
    "mathstrut",
    "phantom",
    "thinspace",
    "nolimits",
    "mathopen",
];
/// Names that mean the same in plain words as behind a backslash.
const PLAIN: [&str; 22] = [
    "sin", "cos", "tan", "cot", "sec", "csc", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh", "exp",
    "ln", "log", "sqrt", "pi", "infty", "frac", "dfrac", "cup", "theta",
];

/// How digits are read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Commas {
    /// `1,234` is one number.
    Group,
    /// `(1,234)` is a pair.
    Separate,
}

/// The tokens of an answer; `None` if there are too many.
pub(crate) fn tokens(text: &str, commas: Commas) -> Option<Vec<Token>> {
    let mut tokens = Vec::new();
    Reader { rest: text, spaced: false, commas, depth: 0 }.read(&mut tokens)?;
    Some(tokens)
}

struct Reader<'t> {
    rest: &'t str,
    spaced: bool,
    commas: Commas,
    depth: usize,
}

impl<'t> Reader<'t> {
    fn read(mut self, tokens: &mut Vec<Token>) -> Option<()> {
        while let Some(next) = self.rest.chars().next() {
            if tokens.len() > MAX_TOKENS {
                return None;
            }
            if next.is_whitespace() || next == '~' {
                self.skip(next.len_utf8());
                self.spaced = true;
            } else if next == '\\' {
                self.command(tokens)?;
            } else if next.is_ascii_digit() || next == '.' && starts_with_digit(&self.rest[1..]) {
                let number = match wanted(tokens) {
                    Wanted::Digit => self.digit(),
                    Wanted::Digits => self.digits(),
                    Wanted::Number => self.number(),
                };
                self.push(tokens, Kind::Number(number));
            } else if next.is_alphabetic() && plain_mark(next).is_none() {
                self.word(tokens);
            } else {
                self.mark(next, tokens);
            }
        }
        Some(())
    }

    fn skip(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    fn push(&mut self, tokens: &mut Vec<Token>, kind: Kind) {
        tokens.push(Token { kind, spaced: self.spaced });
        self.spaced = false;
    }

    fn digit(&mut self) -> String {
        let digit = self.rest[..1].to_owned();
        self.skip(1);
        digit
    }

    fn number(&mut self) -> String {
        let mut digits = self.digits();
        let grouped =
            self.commas == Commas::Group && (1..=3).contains(&digits.len()) && !digits.starts_with('0');
        while let Some(after) = separator(self.rest).filter(|_| grouped) {
            let end = after.find(|next: char| !next.is_ascii_digit()).unwrap_or(after.len());
            if end != 3 {
                break;
            }
            digits.push_str(&after[..3]);
            self.rest = &after[3..];
        }
        if let Some(after) = self.rest.strip_prefix('.') {
            // `5.` is 5; so is the end of a sentence.
            self.rest = after;
            let decimals = self.digits();
            if !decimals.is_empty() || digits.is_empty() {
                return format!("{digits}.{decimals}");
            }
        }
        digits
    }

    fn digits(&mut self) -> String {
        let end = self.rest.find(|next: char| !next.is_ascii_digit()).unwrap_or(self.rest.len());
        let (digits, rest) = self.rest.split_at(end);
        self.rest = rest;
        digits.to_owned()
    }

    fn word(&mut self, tokens: &mut Vec<Token>) {
        let end = self
            .rest
            .find(|next: char| !next.is_alphabetic() || plain_mark(next).is_some())
            .unwrap_or(self.rest.len());
        let (word, rest) = self.rest.split_at(end);
        self.rest = rest;
        let mut letters = word.chars();
        let kind = match (letters.next(), letters.next()) {
            (Some(letter), None) => Kind::Letter(letter),
            _ if PLAIN.contains(&word) => Kind::Command(word.to_owned()),
            _ if word == "and" || word == "or" => Kind::Mark(','),
            _ if word == "inf" || word == "infinity" || word == "oo" => Kind::Command("infty".to_owned()),
            _ if is_unit(word) => Kind::Unit(word.to_lowercase()),
            _ => Kind::Word(word.to_owned()),
        };
        self.push(tokens, kind);
    }

    fn mark(&mut self, next: char, tokens: &mut Vec<Token>) {
        self.skip(next.len_utf8());
        match next {
            '$' | '°' | '%' | '"' | '`' | '€' | '£' | '¥' | '\u{200b}' => {}
            '^' => {
                let after = self.rest.trim_start();
                let circle = ["\\circ", "{\\circ}", "{ \\circ }", "\\degree", "{\\degree}", "∘", "{\\prime}"];
                match circle.iter().find_map(|circle| after.strip_prefix(circle)) {
                    Some(rest) => self.rest = rest,
                    None => self.push(tokens, Kind::Mark('^')),
                }
            }
            '*' if self.rest.starts_with('*') => {
                self.skip(1);
                self.push(tokens, Kind::Mark('^'));
            }
            '²' | '³' => {
                self.push(tokens, Kind::Mark('^'));
                self.push(tokens, Kind::Number(if next == '²' { "2" } else { "3" }.to_owned()));
            }
            '<' | '>' | '!' if self.rest.starts_with('=') => {
                self.skip(1);
                let name = match next {
                    '<' => "le",
                    '>' => "ge",
                    _ => "ne",
                };
                self.push(tokens, Kind::Command(name.to_owned()));
            }
            other => match plain_mark(other) {
                Some(kind) => self.push(tokens, kind),
                None => self.push(tokens, Kind::Mark(other)),
            },
        }
    }

    fn command(&mut self, tokens: &mut Vec<Token>) -> Option<()> {
        let after = &self.rest[1..];
        let end = after.find(|next: char| !next.is_ascii_alphabetic()).unwrap_or(after.len());
        if end == 0 {
            self.escaped(after, tokens);
            return Some(());
        }
        let (name, rest) = after.split_at(end);
        self.rest = rest;
        match name {
            "begin" | "end" => {
                let open = rest.trim_start().strip_prefix('{')?;
                let close = braced(open)?;
                self.rest = &open[close + 1..];
                let environment = open[..close].trim_matches([' ', '*']);
                if name == "begin" && environment == "array" {
                    // Its argument says how columns are set.
                    let columns = self.rest.trim_start().strip_prefix('{')?;
                    self.rest = &columns[braced(columns)? + 1..];
                }
                self.push(tokens, Kind::Command(format!("{name} {environment}")));
            }
            _ if LOOKS.contains(&name) => {
                self.spaced = true;
                if let Some(rest) = self.rest.strip_prefix('.').filter(|_| name == "left" || name == "right")
                {
                    self.rest = rest;
                }
            }
            _ if FONTS.contains(&name) => self.font(name, tokens)?,
            "dfrac" | "tfrac" | "cfrac" => self.push(tokens, Kind::Command("frac".to_owned())),
            "dbinom" | "tbinom" => self.push(tokens, Kind::Command("binom".to_owned())),
            "leq" | "leqslant" => self.push(tokens, Kind::Command("le".to_owned())),
            "geq" | "geqslant" => self.push(tokens, Kind::Command("ge".to_owned())),
            "neq" => self.push(tokens, Kind::Command("ne".to_owned())),
            "lt" => self.push(tokens, Kind::Mark('<')),
            "gt" => self.push(tokens, Kind::Mark('>')),
            "lbrace" => self.push(tokens, Kind::Command("{".to_owned())),
            "rbrace" => self.push(tokens, Kind::Command("}".to_owned())),
            "lbrack" => self.push(tokens, Kind::Mark('[')),
            "rbrack" => self.push(tokens, Kind::Mark(']')),
            "times" | "cdot" | "ast" | "bullet" => self.push(tokens, Kind::Mark('*')),
            "div" => self.push(tokens, Kind::Mark('/')),
            "sim" | "simeq" | "cong" => self.push(tokens, Kind::Command("approx".to_owned())),
            "lvert" | "rvert" | "vert" | "mid" => self.push(tokens, Kind::Mark('|')),
            "varnothing" => self.push(tokens, Kind::Command("emptyset".to_owned())),
            "imath" => self.push(tokens, Kind::Letter('i')),
            _ => self.push(tokens, Kind::Command(name.to_owned())),
        }
        Some(())
    }

    /// A backslash before something other than a letter.
    fn escaped(&mut self, after: &str, tokens: &mut Vec<Token>) {
        let Some(next) = after.chars().next() else {
            self.skip(1);
            return;
        };
        self.skip(1 + next.len_utf8());
        match next {
            '{' | '}' => self.push(tokens, Kind::Command(next.to_string())),
            '\\' => self.push(tokens, Kind::Command("\\".to_owned())),
            '|' => self.push(tokens, Kind::Mark('|')),
            // `\(`, `\)`, `\$`, `\%`, spaces of any width.
            _ => self.spaced = true,
        }
    }

    /// An argument set in another font: expressions are read like any other, words are one token.
    fn font(&mut self, name: &str, tokens: &mut Vec<Token>) -> Option<()> {
        let Some(open) = self.rest.trim_start().strip_prefix('{') else { return Some(()) };
        let close = braced(open).unwrap_or(open.len());
        let (inner, rest) = (&open[..close], open.get(close + 1..).unwrap_or_default());
        self.rest = rest;
        let words = inner.trim();
        if words.is_empty() || matches!(words, "th" | "st" | "nd" | "rd") {
            self.spaced = true;
        } else if matches!(words.trim_matches([',', ' ']), "and" | "or") {
            self.push(tokens, Kind::Mark(','));
        } else if let Some(kind) = (name == "operatorname" || name == "mathrm")
            .then(|| PLAIN.contains(&words).then(|| Kind::Command(words.to_owned())))
            .flatten()
        {
            self.push(tokens, kind);
        } else if is_wording(words) {
            self.push(tokens, Kind::Text(words.to_owned()));
        } else {
            self.depth += 1;
            if self.depth > MAX_DEPTH {
                return None;
            }
            let reader = Reader { rest: inner, spaced: self.spaced, commas: self.commas, depth: self.depth };
            // Braces keep `2^\text{10}` together.
            self.push(tokens, Kind::Mark('{'));
            reader.read(tokens)?;
            self.push(tokens, Kind::Mark('}'));
            self.depth -= 1;
        }
        Some(())
    }
}

/// How much of a run of digits belongs together.
enum Wanted {
    Digit,
    Digits,
    Number,
}

/// After a command that takes arguments: `\frac12`, `\frac119` for `\frac{1}{19}`, `\sqrt2`, `\log_28`.
fn wanted(tokens: &[Token]) -> Wanted {
    let command = |token: Option<&Token>, names: &[&str]| matches!(token.map(|token| &token.kind), Some(Kind::Command(name)) if names.contains(&name.as_str()));
    match tokens {
        [.., before, Token { kind: Kind::Mark('_'), .. }] if command(Some(before), &["log"]) => Wanted::Digit,
        [.., before, Token { kind: Kind::Number(digit), .. }]
            if digit.len() == 1 && command(Some(before), &["frac", "binom"]) =>
        {
            Wanted::Digits
        }
        _ if command(tokens.last(), &["frac", "binom", "sqrt"]) => Wanted::Digit,
        _ => Wanted::Number,
    }
}

/// Words, and not a number or an expression set in another font.
fn is_wording(text: &str) -> bool {
    let worded = text.split(|letter: char| !letter.is_alphabetic()).any(|run| run.chars().count() > 1);
    worded
        && !text.contains(['\\', '=', '+', '^', '$'])
        && !text.starts_with(|first: char| first.is_ascii_digit())
}

fn starts_with_digit(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_digit())
}

/// What follows a separator of thousands.
fn separator(text: &str) -> Option<&str> {
    let after = ["{,}", ","].iter().find_map(|comma| text.strip_prefix(comma));
    match after {
        Some(after) => Some(after.strip_prefix("\\!").map_or(after, str::trim_start)),
        None => ["\\!", "\\,", "'", "\u{2009}", "\u{202f}"]
            .iter()
            .find_map(|separator| text.strip_prefix(separator)),
    }
}

/// A typographic character as the notation it stands for.
fn plain_mark(letter: char) -> Option<Kind> {
    let command = |name: &str| Some(Kind::Command(name.to_owned()));
    match letter {
        '\u{2212}' | '\u{2013}' => Some(Kind::Mark('-')),
        '×' | '·' | '∙' | '⋅' => Some(Kind::Mark('*')),
        '÷' | '∕' => Some(Kind::Mark('/')),
        'π' => command("pi"),
        '∞' => command("infty"),
        '√' => command("surd"),
        '≤' => command("le"),
        '≥' => command("ge"),
        '≠' => command("ne"),
        '≈' => command("approx"),
        '±' => command("pm"),
        '∪' => command("cup"),
        '∈' => command("in"),
        '∅' => command("emptyset"),
        'θ' => command("theta"),
        _ => None,
    }
}
