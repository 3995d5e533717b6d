//! What a property or a column is compared with: a number, text with wildcards, or a regular expression.

use regex_lite::{Regex, RegexBuilder};

use super::Invalid;
use super::cursor::Cursor;

/// Bytes that one compiled regular expression may take.
const REGEX_BYTES_MAX: usize = 64 * 1024;

/// A comparison operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operator {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Debug)]
enum Operand {
    Number { value: f64, text: String },
    Text(Glob),
    Regex(Box<Regex>),
}

/// An operator and what stands behind it.
#[derive(Clone, Debug)]
pub(super) struct Comparison {
    operator: Operator,
    operand: Operand,
}

/// What stands before it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Value<'a> {
    /// A number, and how it is written.
    Number(f64, &'a str),
    Text(&'a str),
    /// A column: text that is a number too if it looks like one.
    Column(&'a str),
}

/// Text with a `*` at its start, its end or both; elsewhere a `*` means itself.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Glob {
    text: String,
    open_start: bool,
    open_end: bool,
}

impl Comparison {
    /// Parses an operator and an operand. Bare text consists of letters, digits and `bare`.
    ///
    /// Errors: [`Invalid`], also where text stands behind `<`, `<=`, `>` or `>=`.
    pub(super) fn parse(cursor: &mut Cursor<'_>, bare: &str) -> Result<Self, Invalid> {
        cursor.skip_space();
        let operator = Operator::parse(cursor)?;
        cursor.skip_space();
        let operand = match cursor.peek() {
            Some('"') => Operand::Text(Glob::new(cursor.quoted()?)),
            Some('%') => Operand::Regex(Box::new(regex(cursor.regex_source()?)?)),
            _ => {
                let text = cursor.take_while(|c| c.is_alphanumeric() || bare.contains(c));
                match number(text) {
                    _ if text.is_empty() => return Err(Invalid),
                    Some(value) => Operand::Number { value, text: text.to_owned() },
                    None => Operand::Text(Glob::new(text.to_owned())),
                }
            }
        };
        let ordering = !matches!(operator, Operator::Equal | Operator::NotEqual);
        if ordering && !matches!(operand, Operand::Number { .. }) {
            return Err(Invalid);
        }
        Ok(Self { operator, operand })
    }

    pub(super) fn holds(&self, value: Value<'_>) -> bool {
        match self.operator {
            Operator::Equal => self.operand.equals(value),
            Operator::NotEqual => !self.operand.equals(value),
            ordering => match (&self.operand, value.number()) {
                (Operand::Number { value: limit, .. }, Some(found)) => ordering.holds(found, *limit),
                _ => false,
            },
        }
    }
}

impl Operator {
    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, Invalid> {
        // The longer ones first.
        let table = [
            ("!=", Operator::NotEqual),
            ("<=", Operator::LessOrEqual),
            (">=", Operator::GreaterOrEqual),
            ("=", Operator::Equal),
            ("<", Operator::Less),
            (">", Operator::Greater),
        ];
        table.into_iter().find(|(token, _)| cursor.eat(token)).map(|(_, operator)| operator).ok_or(Invalid)
    }

    fn holds(self, found: f64, limit: f64) -> bool {
        match self {
            Operator::Equal => found == limit,
            Operator::NotEqual => found != limit,
            Operator::Less => found < limit,
            Operator::LessOrEqual => found <= limit,
            Operator::Greater => found > limit,
            Operator::GreaterOrEqual => found >= limit,
        }
    }
}

impl Operand {
    fn equals(&self, value: Value<'_>) -> bool {
        match self {
            Operand::Number { value: wanted, text } => match value.number() {
                Some(found) => found == *wanted,
                None => value.text() == text,
            },
            Operand::Text(glob) => glob.matches(value.text()),
            Operand::Regex(regex) => regex.is_match(value.text()),
        }
    }
}

impl<'a> Value<'a> {
    fn text(self) -> &'a str {
        match self {
            Value::Number(_, text) | Value::Text(text) | Value::Column(text) => text,
        }
    }

    fn number(self) -> Option<f64> {
        match self {
            Value::Number(value, _) => Some(value),
            Value::Text(_) => None,
            Value::Column(text) => number(text),
        }
    }
}

impl Glob {
    fn new(text: String) -> Self {
        let Some(inner) = text.strip_prefix('*') else {
            return match text.strip_suffix('*') {
                Some(inner) => Self { text: inner.to_owned(), open_start: false, open_end: true },
                None => Self { text, open_start: false, open_end: false },
            };
        };
        match inner.strip_suffix('*') {
            Some(inner) => Self { text: inner.to_owned(), open_start: true, open_end: true },
            // A lone `*` is open at both ends.
            None => Self { text: inner.to_owned(), open_start: true, open_end: inner.is_empty() },
        }
    }

    fn matches(&self, text: &str) -> bool {
        match (self.open_start, self.open_end) {
            (false, false) => text == self.text,
            (true, false) => text.ends_with(&self.text),
            (false, true) => text.starts_with(&self.text),
            (true, true) => text.contains(&self.text),
        }
    }
}

/// An integer or a decimal with an optional sign, or either with an exponent: `+1000`, `55.5`, `10e-3`.
pub(super) fn number(text: &str) -> Option<f64> {
    let digits = text.strip_prefix(['+', '-']).unwrap_or(text);
    // Rust's parser also knows `inf`, `nan` and `.`; those are text here.
    if !digits.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    text.parse().ok().filter(|n: &f64| n.is_finite())
}

/// Compiles the source of a regular expression, within what the reference supports: letters, digits, spaces, the
/// symbols `:_#=@/;,-` and the operators `^$?[]{}|\*+.`, no groups, nothing outside ASCII.
pub(super) fn regex(source: &str) -> Result<Regex, Invalid> {
    let mut chars = source.chars();
    while let Some(c) = chars.next() {
        let known = match c {
            // Whatever is escaped stands for itself or for a class; the compiler refuses the rest.
            '\\' => chars.next().is_some_and(|c| c.is_ascii_graphic()),
            _ => c.is_ascii_alphanumeric() || " :_#=@/;,-^$?[]{}|*+.".contains(c),
        };
        if !known {
            return Err(Invalid);
        }
    }
    RegexBuilder::new(source).size_limit(REGEX_BYTES_MAX).build().map_err(|_| Invalid)
}
