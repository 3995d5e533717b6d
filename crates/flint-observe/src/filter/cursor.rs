//! A place in the text of a pattern.

use super::Invalid;

/// How many regular expressions one pattern may have.
const REGEXES_MAX: u32 = 2;
/// How deep parentheses may nest; deeper ones mean nothing to a person and would cost stack.
const DEPTH_MAX: u32 = 32;

/// The rest of the text, and what was used up of the pattern's allowances.
#[derive(Clone)]
pub(super) struct Cursor<'a> {
    rest: &'a str,
    regexes: u32,
    depth: u32,
}

impl<'a> Cursor<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { rest: text, regexes: 0, depth: 0 }
    }

    pub(super) fn peek(&self) -> Option<char> {
        self.rest.chars().next()
    }

    pub(super) fn at_end(&self) -> bool {
        self.rest.is_empty()
    }

    pub(super) fn skip_space(&mut self) {
        self.rest = self.rest.trim_start();
    }

    /// Goes past `token` if it stands here.
    pub(super) fn eat(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    pub(super) fn expect(&mut self, token: &str) -> Result<(), Invalid> {
        if self.eat(token) { Ok(()) } else { Err(Invalid) }
    }

    /// Goes past the characters that `wanted` accepts, and answers them.
    pub(super) fn take_while(&mut self, wanted: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !wanted(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    /// Goes past a word such as `IS`, in any case, with a word's end behind it.
    pub(super) fn eat_word(&mut self, word: &str) -> bool {
        let end = self.rest.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(self.rest.len());
        if !self.rest[..end].eq_ignore_ascii_case(word) {
            return false;
        }
        self.rest = &self.rest[end..];
        true
    }

    /// Text in double quotes; `\"` is a quote and `\\` a backslash in it.
    pub(super) fn quoted(&mut self) -> Result<String, Invalid> {
        self.expect("\"")?;
        let mut text = String::new();
        let mut chars = self.rest.char_indices();
        while let Some((at, c)) = chars.next() {
            match c {
                '"' => {
                    self.rest = &self.rest[at + 1..];
                    return Ok(text);
                }
                '\\' => match chars.next() {
                    Some((_, c @ ('"' | '\\'))) => text.push(c),
                    Some((_, c)) => text.extend(['\\', c]),
                    None => return Err(Invalid),
                },
                _ => text.push(c),
            }
        }
        Err(Invalid)
    }

    /// The source of a regular expression between percent signs; `\%` does not end it.
    pub(super) fn regex_source(&mut self) -> Result<&'a str, Invalid> {
        self.expect("%")?;
        self.regexes += 1;
        if self.regexes > REGEXES_MAX {
            return Err(Invalid);
        }
        let mut escaped = false;
        for (at, c) in self.rest.char_indices() {
            match c {
                '%' if !escaped => {
                    let source = &self.rest[..at];
                    self.rest = &self.rest[at + 1..];
                    return if source.is_empty() { Err(Invalid) } else { Ok(source) };
                }
                '\\' => escaped = !escaped,
                _ => escaped = false,
            }
        }
        Err(Invalid)
    }

    /// Parses what stands between parentheses, one level deeper.
    pub(super) fn nested<T>(&mut self, inner: impl FnOnce(&mut Self) -> Result<T, Invalid>) -> Result<T, Invalid> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(Invalid);
        }
        let value = inner(self)?;
        self.skip_space();
        self.expect(")")?;
        self.depth -= 1;
        Ok(value)
    }
}

/// `||` and `&&` over conditions of type `T`; `&&` binds tighter.
#[derive(Clone, Debug)]
pub(super) enum Logic<T> {
    One(T),
    All(Vec<Logic<T>>),
    Any(Vec<Logic<T>>),
}

impl<T> Logic<T> {
    /// Parses an expression whose conditions `one` parses.
    pub(super) fn parse(
        cursor: &mut Cursor<'_>,
        one: &dyn Fn(&mut Cursor<'_>) -> Result<T, Invalid>,
    ) -> Result<Self, Invalid> {
        let mut any = Vec::new();
        loop {
            let mut all = Vec::new();
            loop {
                cursor.skip_space();
                all.push(if cursor.eat("(") {
                    cursor.nested(|inner| Self::parse(inner, one))?
                } else {
                    Logic::One(one(cursor)?)
                });
                cursor.skip_space();
                if !cursor.eat("&&") {
                    break;
                }
            }
            any.push(if all.len() == 1 { all.remove(0) } else { Logic::All(all) });
            if !cursor.eat("||") {
                break;
            }
        }
        Ok(if any.len() == 1 { any.remove(0) } else { Logic::Any(any) })
    }

    pub(super) fn holds(&self, one: &dyn Fn(&T) -> bool) -> bool {
        match self {
            Logic::One(condition) => one(condition),
            Logic::All(parts) => parts.iter().all(|part| part.holds(one)),
            Logic::Any(parts) => parts.iter().any(|part| part.holds(one)),
        }
    }

    /// The conditions, from left to right.
    pub(super) fn each<'t>(&'t self, visit: &mut dyn FnMut(&'t T)) {
        match self {
            Logic::One(condition) => visit(condition),
            Logic::All(parts) | Logic::Any(parts) => parts.iter().for_each(|part| part.each(visit)),
        }
    }
}
