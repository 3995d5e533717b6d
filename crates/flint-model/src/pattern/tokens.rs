//! JSON, token by token, with the places that the reference's messages name.
//!
//! The reference reads patterns with Jackson, and its messages end with Jackson's location: the place behind the token,
//! but behind the opening quote of a string that nobody has looked into; a name is read together with the beginning of
//! its value.

use super::PatternError;
use super::number::Decimal;

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Token {
    StartObject,
    EndObject,
    StartArray,
    EndArray,
    Name(String),
    String(String),
    Number(Decimal),
    True,
    False,
    Null,
}

/// How many characters of the text a message quotes.
const QUOTED_MAX: usize = 500;

/// What a value may be, in messages.
const VALUES: &str = "(JSON String, Number, Array, Object or token 'null', 'true' or 'false')";

#[derive(Clone, Copy, PartialEq)]
enum Inside {
    Array,
    Object,
}

pub(super) struct Tokens<'a> {
    text: &'a str,
    at: usize,
    /// Where the latest token ends, as messages see it.
    here: usize,
    inside: Vec<Inside>,
    /// Something stands before in the innermost array or object.
    follows: bool,
    /// The value that was read with its name.
    ahead: Option<Token>,
}

impl<'a> Tokens<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        Self { text, at: 0, here: 0, inside: Vec::new(), follows: false, ahead: None }
    }

    /// The next token of a value that is not over yet.
    pub(super) fn next(&mut self) -> Result<Token, PatternError> {
        if let Some(token) = self.ahead.take() {
            return Ok(token);
        }
        let close = match self.inside.last() {
            None => return self.value(),
            Some(Inside::Array) => (b']', "Array"),
            Some(Inside::Object) => (b'}', "Object"),
        };
        let Some(mut next) = self.skip_space() else {
            return Err(self.cut_off(close.1));
        };
        if next == close.0 {
            self.at += 1;
            self.inside.pop();
            self.follows = true;
            self.here = self.at;
            return Ok(if close.0 == b']' { Token::EndArray } else { Token::EndObject });
        }
        if self.follows {
            if next != b',' {
                return Err(self.unexpected(&format!("was expecting comma to separate {} entries", close.1)));
            }
            self.at += 1;
            next = self.skip_space().ok_or_else(|| self.cut_off(close.1))?;
        }
        if close.0 == b']' {
            return self.value();
        }
        if next != b'"' {
            return Err(self.unexpected("was expecting double-quote to start field name"));
        }
        self.at += 1;
        let name = self.string()?;
        match self.skip_space() {
            Some(b':') => self.at += 1,
            Some(_) => return Err(self.unexpected("was expecting a colon to separate field name and value")),
            None => return Err(self.cut_off("Object")),
        }
        self.ahead = Some(self.value()?);
        Ok(Token::Name(name))
    }

    /// Nothing but space follows.
    pub(super) fn end(&mut self) -> Result<(), PatternError> {
        match self.skip_space() {
            None => Ok(()),
            Some(_) => Err(self.unexpected("was expecting the end of the text")),
        }
    }

    /// The text was looked into: from here on its end is its place.
    pub(super) fn looked(&mut self) {
        self.here = self.at;
    }

    /// A message with the place that was reached.
    pub(super) fn error(&self, message: &str) -> PatternError {
        PatternError(format!("{message}\n at {}", self.location(self.here)))
    }

    fn value(&mut self) -> Result<Token, PatternError> {
        let Some(first) = self.skip_space() else {
            return Err(match self.inside.last() {
                Some(Inside::Array) => self.cut_off("Array"),
                Some(Inside::Object) => self.cut_off("Object"),
                None => PatternError(format!("Unexpected end-of-input\n at {}", self.location(self.at))),
            });
        };
        self.follows = true;
        match first {
            b'{' | b'[' => {
                self.at += 1;
                self.here = self.at;
                self.follows = false;
                self.inside.push(if first == b'[' { Inside::Array } else { Inside::Object });
                Ok(if first == b'[' { Token::StartArray } else { Token::StartObject })
            }
            b'"' => {
                self.at += 1;
                self.here = self.at;
                self.string().map(Token::String)
            }
            b'-' | b'0'..=b'9' => self.number(),
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | b'$' => self.word(),
            _ => Err(self.unexpected(
                "expected a valid value (JSON String, Number, Array, Object or token 'null', 'true' or 'false')",
            )),
        }
    }

    fn word(&mut self) -> Result<Token, PatternError> {
        let rest = &self.text[self.at..];
        let len = rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '$').unwrap_or(rest.len());
        let word = &rest[..len];
        self.at += len;
        self.here = self.at;
        match word {
            "true" => Ok(Token::True),
            "false" => Ok(Token::False),
            "null" => Ok(Token::Null),
            _ => Err(self.error(&format!("Unrecognized token '{word}': was expecting {VALUES}"))),
        }
    }

    fn number(&mut self) -> Result<Token, PatternError> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let whole = self.digits();
        if whole == 0 {
            return Err(self.unexpected("expected digit (0-9) to follow minus sign, for valid numeric value"));
        }
        let zero = self.text.as_bytes()[self.at - whole] == b'0';
        if zero && whole > 1 {
            self.here = self.at;
            return Err(self.error("Invalid numeric value: Leading zeroes not allowed"));
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            if self.digits() == 0 {
                return Err(self.unexpected("Decimal point not followed by a digit"));
            }
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            if self.digits() == 0 {
                return Err(self.unexpected("Exponent indicator not followed by a digit"));
            }
        }
        self.here = self.at;
        Ok(Token::Number(Decimal::of(&self.text[start..self.at])))
    }

    fn digits(&mut self) -> usize {
        let rest = &self.text.as_bytes()[self.at..];
        let count = rest.iter().take_while(|b| b.is_ascii_digit()).count();
        self.at += count;
        count
    }

    /// The text of a string whose opening quote is behind.
    fn string(&mut self) -> Result<String, PatternError> {
        let mut out = String::new();
        loop {
            let rest = &self.text[self.at..];
            let plain = rest.find(|c: char| c == '"' || c == '\\' || c < ' ').unwrap_or(rest.len());
            out.push_str(&rest[..plain]);
            self.at += plain;
            match self.peek() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(out);
                }
                Some(b'\\') => {
                    self.at += 1;
                    let escaped = self.escape()?;
                    out.push(escaped);
                }
                Some(code) => {
                    self.here = self.at;
                    return Err(self.error(&format!(
                        "Illegal unquoted character ((CTRL-CHAR, code {code})): has to be escaped using backslash to be included in string value"
                    )));
                }
                None => {
                    let place = self.location(self.at);
                    return Err(PatternError(format!(
                        "Unexpected end-of-input: was expecting closing quote for a string value\n at {place}"
                    )));
                }
            }
        }
    }

    fn escape(&mut self) -> Result<char, PatternError> {
        let plain = match self.peek() {
            Some(b'"') => '"',
            Some(b'\\') => '\\',
            Some(b'/') => '/',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                self.at += 1;
                return self.unicode();
            }
            _ => return Err(self.unexpected("unrecognized character escape")),
        };
        self.at += 1;
        Ok(plain)
    }

    /// `\uXXXX`, and two of them for one character. Halves that stand alone become U+FFFD.
    fn unicode(&mut self) -> Result<char, PatternError> {
        let first = self.four_digits()?;
        if !(0xD800..0xDC00).contains(&first) {
            return Ok(char::from_u32(first).unwrap_or(char::REPLACEMENT_CHARACTER));
        }
        if !self.text[self.at..].starts_with("\\u") {
            return Ok(char::REPLACEMENT_CHARACTER);
        }
        let back = self.at;
        self.at += 2;
        let second = self.four_digits()?;
        if !(0xDC00..0xE000).contains(&second) {
            self.at = back;
            return Ok(char::REPLACEMENT_CHARACTER);
        }
        let code = 0x10000 + ((first - 0xD800) << 10) + (second - 0xDC00);
        Ok(char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER))
    }

    fn four_digits(&mut self) -> Result<u32, PatternError> {
        let mut code = 0;
        for _ in 0..4 {
            let digit = self.peek().and_then(|b| char::from(b).to_digit(16));
            let Some(digit) = digit else {
                return Err(self.unexpected("expected a hex-digit for character escape sequence"));
            };
            code = code * 16 + digit;
            self.at += 1;
        }
        Ok(code)
    }

    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    fn skip_space(&mut self) -> Option<u8> {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        self.peek()
    }

    fn unexpected(&self, wanted: &str) -> PatternError {
        let Some(found) = self.text[self.at..].chars().next() else {
            return PatternError(format!("Unexpected end-of-input\n at {}", self.location(self.at)));
        };
        let place = self.location(self.at + found.len_utf8());
        let code = u32::from(found);
        PatternError(format!("Unexpected character ('{found}' (code {code})): {wanted}\n at {place}"))
    }

    fn cut_off(&self, what: &str) -> PatternError {
        PatternError(format!(
            "Unexpected end-of-input: expected close marker for {what}\n at {}",
            self.location(self.at)
        ))
    }

    fn location(&self, at: usize) -> String {
        let before = &self.text[..at];
        let line = before.matches('\n').count() + 1;
        let start = before.rfind('\n').map_or(0, |n| n + 1);
        let column = before[start..].encode_utf16().count() + 1;
        let cut = self.text.char_indices().nth(QUOTED_MAX).map_or(self.text.len(), |(n, _)| n);
        let left = self.text[cut..].chars().count();
        let truncated = if left > 0 { format!("[truncated {left} chars]") } else { String::new() };
        format!("[Source: (String)\"{}\"{truncated}; line: {line}, column: {column}]", &self.text[..cut])
    }
}
