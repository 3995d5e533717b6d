//! Reads a pattern; its errors are the reference's.

use std::collections::BTreeSet;

use super::PatternError;
use super::matcher::{AnythingBut, Bound, Cidr, Matcher, Range, Wildcard, address, fold};
use super::matching::{Node, Pattern};
use super::number::Decimal;
use super::tokens::{Token, Tokens};

/// Branches that `$or`s may multiply to (EventBridge User Guide, "Or matching": no more than 1,000 combinations).
const BRANCHES_MAX: usize = 1_000;

/// Objects inside each other. Differs: the reference is bounded by the length of a pattern only.
const DEPTH_MAX: usize = 200;

const OR: &str = "$or";

/// Operators are no names of fields inside `$or`.
const RESERVED: &[&str] = &[
    "exactly",
    "prefix",
    "suffix",
    "numeric",
    "anything-but",
    "exists",
    "cidr",
    "equals-ignore-case",
    "wildcard",
    "regex",
];

const ONE_KEY: &str = "Only one key allowed in match expression";
const TOO_MANY: &str = "Too many elements in numeric expression";

impl Pattern {
    /// Reads a pattern.
    ///
    /// Errors: why it is none, in the words of the reference.
    pub fn parse(text: &str) -> Result<Self, PatternError> {
        let mut tokens = Tokens::new(text);
        if text.trim().is_empty() || tokens.next()? != Token::StartObject {
            return Err(tokens.error("Filter is not an object"));
        }
        let mut reader = Reader { tokens, path: Vec::new(), depth: 0 };
        let mut branches = Vec::new();
        reader.object(&mut branches, false, &mut BTreeSet::new())?;
        reader.tokens.end()?;
        Ok(Self { branches })
    }
}

struct Reader<'a> {
    tokens: Tokens<'a>,
    /// The fields around, outermost first.
    path: Vec<String>,
    depth: usize,
}

impl Reader<'_> {
    /// The rest of an object of conditions. `seen` are the fields that the objects around have set, up to the next `$or`:
    /// of a field that is named twice there the last values count.
    fn object(
        &mut self,
        branches: &mut Vec<Node>,
        in_or: bool,
        seen: &mut BTreeSet<Vec<String>>,
    ) -> Result<(), PatternError> {
        self.depth += 1;
        if self.depth > DEPTH_MAX {
            return Err(self.tokens.error("Event pattern is nested too deeply"));
        }
        let mut empty = true;
        loop {
            let name = match self.tokens.next()? {
                Token::Name(name) => name,
                _ if empty => return Err(self.tokens.error("Empty objects are not allowed")),
                _ => break,
            };
            empty = false;
            if name == OR {
                self.alternatives(branches)?;
                continue;
            }
            if in_or && RESERVED.contains(&name.as_str()) {
                let why = format!("{name} is Ruler reserved fieldName which cannot be used inside {OR}.");
                return Err(self.tokens.error(&why));
            }
            match self.tokens.next()? {
                Token::StartObject => {
                    self.path.push(name);
                    self.object(branches, in_or, seen)?;
                    self.path.pop();
                }
                Token::StartArray => {
                    let values = self.values()?;
                    self.path.push(name);
                    let again = !seen.insert(self.path.clone());
                    self.set(branches, values, again);
                    self.path.pop();
                }
                _ => return Err(self.tokens.error(&format!("\"{name}\" must be an object or an array"))),
            }
        }
        self.depth -= 1;
        Ok(())
    }

    fn set(&self, branches: &mut Vec<Node>, values: Vec<Matcher>, again: bool) {
        if branches.is_empty() {
            branches.push(Node::default());
        }
        for branch in branches {
            let node = self.path.iter().fold(branch, |node, name| node.field(name));
            if again {
                node.values.clear();
            }
            node.values.push(values.clone());
        }
    }

    /// The array behind `$or`: each of its objects makes a copy of every branch.
    fn alternatives(&mut self, branches: &mut Vec<Node>) -> Result<(), PatternError> {
        let mut before = std::mem::take(branches);
        if before.is_empty() {
            before.push(Node::default());
        }
        if self.tokens.next()? != Token::StartArray {
            return Err(self.tokens.error(&format!("It must be an Array followed with {OR}.")));
        }
        let mut count = 0;
        loop {
            match self.tokens.next()? {
                Token::EndArray => break,
                Token::StartObject => {
                    count += 1;
                    let mut copies = before.clone();
                    self.object(&mut copies, true, &mut BTreeSet::new())?;
                    branches.append(&mut copies);
                    if branches.len() > BRANCHES_MAX {
                        return Err(self.tokens.error("Rule is too complex - try using fewer $or conditions"));
                    }
                }
                _ => {
                    let why = format!("Only JSON object is allowed in array of {OR} relationship.");
                    return Err(self.tokens.error(&why));
                }
            }
        }
        if count < 2 {
            return Err(self.tokens.error(&format!("There must have at least 2 Objects in {OR} relationship.")));
        }
        Ok(())
    }

    /// The rest of a field's array of alternatives.
    fn values(&mut self) -> Result<Vec<Matcher>, PatternError> {
        let mut values = Vec::new();
        loop {
            values.push(match self.tokens.next()? {
                Token::EndArray if values.is_empty() => return Err(self.tokens.error("Empty arrays are not allowed")),
                Token::EndArray => return Ok(values),
                Token::StartObject => self.expression()?,
                Token::String(text) => match address(&text) {
                    Some(address) => Matcher::Address(address),
                    None => Matcher::Text(text),
                },
                Token::Number(number) => Matcher::Number(number),
                Token::Null => Matcher::Null,
                Token::True => Matcher::Bool(true),
                Token::False => Matcher::Bool(false),
                _ => return Err(self.tokens.error("Match value must be String, number, true, false, or null")),
            });
        }
    }

    /// The rest of an object in an array of alternatives: an operator and its operand.
    fn expression(&mut self) -> Result<Matcher, PatternError> {
        let Token::Name(operator) = self.tokens.next()? else {
            return Err(self.tokens.error("Match expression name not found"));
        };
        let matcher = match operator.as_str() {
            "exactly" => Matcher::Text(self.text("exact match pattern must be a string")?),
            "prefix" => self.affix("Prefix", Matcher::Prefix, Matcher::PrefixIgnoreCase)?,
            "suffix" => self.affix("Suffix", Matcher::Suffix, Matcher::SuffixIgnoreCase)?,
            "equals-ignore-case" => {
                Matcher::EqualsIgnoreCase(fold(&self.text("equals-ignore-case match pattern must be a string")?))
            }
            "wildcard" => {
                let text = self.text("wildcard match pattern must be a string")?;
                self.tokens.looked();
                Matcher::Wildcard(self.wildcard(&text)?)
            }
            "cidr" => Matcher::Cidr(cidr(&self.text("prefix match pattern must be a string")?)?),
            "exists" => match self.tokens.next()? {
                Token::True => Matcher::Exists(true),
                Token::False => Matcher::Exists(false),
                _ => return Err(self.tokens.error("exists match pattern must be either true or false.")),
            },
            "numeric" => {
                if self.tokens.next()? != Token::StartArray {
                    return Err(self.tokens.error("Value of numeric must be an array."));
                }
                let range = self.numeric()?;
                self.close(TOO_MANY)?;
                return Ok(Matcher::Numeric(range));
            }
            "anything-but" => {
                let but = self.anything_but()?;
                self.close(TOO_MANY)?;
                return Ok(Matcher::Not(but));
            }
            other => return Err(self.tokens.error(&format!("Unrecognized match type {other}"))),
        };
        self.close(ONE_KEY)?;
        Ok(matcher)
    }

    fn text(&mut self, otherwise: &str) -> Result<String, PatternError> {
        match self.tokens.next()? {
            Token::String(text) => Ok(text),
            _ => Err(self.tokens.error(otherwise)),
        }
    }

    fn close(&mut self, otherwise: &str) -> Result<(), PatternError> {
        match self.tokens.next()? {
            Token::EndObject => Ok(()),
            _ => Err(self.tokens.error(otherwise)),
        }
    }

    /// The operand of `prefix` or `suffix`: a text, or one in `equals-ignore-case`.
    fn affix(
        &mut self,
        what: &str,
        plain: fn(String) -> Matcher,
        ignore_case: fn(String) -> Matcher,
    ) -> Result<Matcher, PatternError> {
        let lower = what.to_lowercase();
        match self.tokens.next()? {
            Token::String(text) => return Ok(plain(text)),
            Token::StartObject => {}
            _ => return Err(self.tokens.error(&format!("{lower} match pattern must be a string"))),
        }
        match self.tokens.next()? {
            Token::Name(name) if name == "equals-ignore-case" => {}
            Token::Name(name) => return Err(self.tokens.error(&format!("Unsupported {lower} pattern: {name}"))),
            _ => return Err(self.tokens.error(&format!("{what} expression name not found"))),
        }
        let text = self.text("equals-ignore-case match pattern must be a string")?;
        self.close(ONE_KEY)?;
        Ok(ignore_case(fold(&text)))
    }

    fn anything_but(&mut self) -> Result<AnythingBut, PatternError> {
        let first = self.tokens.next()?;
        if first != Token::StartObject {
            return self.plain_but(first);
        }
        let Token::Name(operator) = self.tokens.next()? else {
            return Err(self.tokens.error("Anything-But expression name not found"));
        };
        let (otherwise, affix) = match operator.as_str() {
            "equals-ignore-case" => {
                ("Inside anything-but/equals-ignore-case list, number|start|null|boolean is not supported.", false)
            }
            "prefix" | "suffix" => ("prefix/suffix match pattern must be a string", true),
            "wildcard" => ("wildcard match pattern must be a string", false),
            other => return Err(self.tokens.error(&format!("Unsupported anything-but pattern: {other}"))),
        };
        let texts = self.texts(otherwise, affix)?;
        let but = match operator.as_str() {
            "equals-ignore-case" => AnythingBut::IgnoreCase(texts.iter().map(|t| fold(t)).collect()),
            "prefix" => AnythingBut::Prefixes(texts),
            "suffix" => AnythingBut::Suffixes(texts),
            _ => AnythingBut::Wildcards(texts.iter().map(|t| self.wildcard(t)).collect::<Result<_, _>>()?),
        };
        self.close(TOO_MANY)?;
        Ok(but)
    }

    /// A text or a list of texts.
    fn texts(&mut self, otherwise: &str, affix: bool) -> Result<Vec<String>, PatternError> {
        let mut texts = Vec::new();
        match self.tokens.next()? {
            Token::StartArray => loop {
                match self.tokens.next()? {
                    Token::EndArray => break,
                    Token::String(text) => texts.push(text),
                    _ => return Err(self.tokens.error(otherwise)),
                }
            },
            Token::String(text) => texts.push(text),
            Token::Number(_) => return Err(self.tokens.error(otherwise)),
            _ => {
                let why = "Value of anything-but must be an array or single string/number value.";
                return Err(self.tokens.error(why));
            }
        }
        if affix && texts.iter().any(String::is_empty) {
            return Err(self.tokens.error("Null prefix/suffix not allowed"));
        }
        Ok(texts)
    }

    fn plain_but(&mut self, first: Token) -> Result<AnythingBut, PatternError> {
        match first {
            Token::StartArray => {}
            Token::String(text) => return Ok(AnythingBut::Texts(vec![text])),
            Token::Number(number) => return Ok(AnythingBut::Numbers(vec![self.comparable(number)?])),
            _ => {
                let why = "Value of anything-but must be an array or single string/number value.";
                return Err(self.tokens.error(why));
            }
        }
        let (mut texts, mut numbers) = (Vec::new(), Vec::new());
        loop {
            match self.tokens.next()? {
                Token::EndArray => break,
                Token::String(text) => texts.push(text),
                Token::Number(number) => numbers.push(self.comparable(number)?),
                _ => {
                    let why = "Inside anything but list, start|null|boolean is not supported.";
                    return Err(self.tokens.error(why));
                }
            }
        }
        match (texts.is_empty(), numbers.is_empty()) {
            (false, true) => Ok(AnythingBut::Texts(texts)),
            (true, false) => Ok(AnythingBut::Numbers(numbers)),
            _ => {
                let why =
                    "Inside anything but list, either all values are number or string, mixed type is not supported";
                Err(self.tokens.error(why))
            }
        }
    }

    /// The rest of the array behind `numeric`.
    fn numeric(&mut self) -> Result<Range, PatternError> {
        let operator = match self.tokens.next()? {
            Token::String(operator) => operator,
            other => return Err(self.tokens.error(&format!("Invalid member in numeric match: {}", told(&other)))),
        };
        let name = if operator == "=" { "equals" } else { operator.as_str() };
        if !["=", "<", "<=", ">", ">="].contains(&operator.as_str()) {
            self.tokens.looked();
            return Err(self.tokens.error(&format!("Unrecognized numeric range operator: {operator}")));
        }
        let bound = self.bound(name, operator != "<" && operator != ">")?;
        let next = self.tokens.next()?;
        let ends = next == Token::EndArray;
        match operator.as_str() {
            "<" | "<=" | "=" if !ends => Err(self.tokens.error(TOO_MANY)),
            "=" => Ok(Range { low: Some(bound.clone()), high: Some(bound) }),
            "<" | "<=" => Ok(Range { low: None, high: Some(bound) }),
            _ if ends => Ok(Range { low: Some(bound), high: None }),
            _ => self.upper(bound, next),
        }
    }

    fn upper(&mut self, low: Bound, operator: Token) -> Result<Range, PatternError> {
        let operator = match operator {
            Token::String(operator) => operator,
            other => return Err(self.tokens.error(&format!("Bad value in numeric range: {}", told(&other)))),
        };
        if operator != "<" && operator != "<=" {
            self.tokens.looked();
            return Err(self.tokens.error(&format!("Bad numeric range operator: {operator}")));
        }
        let high = self.bound(&operator, operator == "<=")?;
        if self.tokens.next()? != Token::EndArray {
            return Err(self.tokens.error("Too many terms in numeric range expression"));
        }
        if low.value >= high.value {
            return Err(self.tokens.error("Bottom must be less than top"));
        }
        Ok(Range { low: Some(low), high: Some(high) })
    }

    fn bound(&mut self, operator: &str, included: bool) -> Result<Bound, PatternError> {
        match self.tokens.next()? {
            Token::Number(number) => Ok(Bound { value: self.comparable(number)?, included }),
            _ => Err(self.tokens.error(&format!("Value of {operator} must be numeric"))),
        }
    }

    fn comparable(&self, number: Decimal) -> Result<Decimal, PatternError> {
        if number.is_comparable() {
            return Ok(number);
        }
        Err(self.tokens.error("Value must be between -5.0E9 and 5.0E9, inclusive"))
    }

    /// Stars stand for anything, `\*` and `\\` for themselves.
    fn wildcard(&self, text: &str) -> Result<Wildcard, PatternError> {
        let mut pieces = vec![String::new()];
        let mut chars = text.char_indices().peekable();
        // The reference counts the quote that it puts around a text.
        while let Some((at, c)) = chars.next() {
            let next = chars.peek().map(|(_, c)| *c);
            match c {
                '*' if next == Some('*') => {
                    let why = format!("Consecutive wildcard characters at pos {}", at + 1);
                    return Err(self.tokens.error(&why));
                }
                '*' => pieces.push(String::new()),
                '\\' => match next {
                    Some(escaped @ ('*' | '\\')) => {
                        chars.next();
                        add(&mut pieces, escaped);
                    }
                    _ => return Err(self.tokens.error(&format!("Invalid escape character at pos {}", at + 1))),
                },
                other => add(&mut pieces, other),
            }
        }
        Ok(Wildcard(pieces))
    }
}

fn add(pieces: &mut [String], c: char) {
    if let Some(last) = pieces.last_mut() {
        last.push(c);
    }
}

/// A token in a message about it.
fn told(token: &Token) -> String {
    match token {
        Token::StartArray => "[".to_owned(),
        Token::EndArray => "]".to_owned(),
        Token::StartObject => "{".to_owned(),
        Token::Null => "null".to_owned(),
        Token::True => "true".to_owned(),
        Token::False => "false".to_owned(),
        Token::Number(number) => number.to_string(),
        _ => String::new(),
    }
}

/// Addresses in the notation of prefixes. The reference's own words, which name no place.
fn cidr(text: &str) -> Result<Cidr, PatternError> {
    let wrong = |why: &str| PatternError(why.to_owned());
    let (base, bits) = match text.split('/').collect::<Vec<_>>()[..] {
        [base, bits] => (base, bits),
        _ => return Err(wrong("Malformed CIDR, one '/' required")),
    };
    let bits: i64 = bits.parse().map_err(|_| wrong("Malformed CIDR, mask bits must be an integer"))?;
    if bits < 0 {
        return Err(wrong("Malformed CIDR, mask bits must not be negative"));
    }
    let base = address(base).ok_or_else(|| PatternError(format!("Nonstandard IP address: {base}")))?;
    let (width, family) = if base.is_ipv4() { (32, "IPv4") } else { (128, "IPv6") };
    if bits >= width {
        return Err(PatternError(format!("{family} mask bits must be < {width}")));
    }
    let bits = u32::try_from(bits).map_err(|_| wrong("Malformed CIDR, mask bits must be an integer"))?;
    Ok(Cidr { base, bits })
}
