//! Patterns over unstructured text: `ERROR "two words" -excluded ?this ?or_that %regex%`.

use memchr::memmem::Finder;
use regex_lite::Regex;

use super::Invalid;
use super::cursor::Cursor;
use super::operand;

/// All of `required` and none of `excluded`. `optional` counts only where neither is there: the reference ignores
/// optional terms beside others.
#[derive(Clone, Debug, Default)]
pub(super) struct Terms {
    required: Vec<Term>,
    excluded: Vec<Term>,
    optional: Vec<Term>,
}

#[derive(Clone, Debug)]
enum Term {
    Text(Box<Finder<'static>>),
    Regex(Box<Regex>),
}

impl Terms {
    pub(super) fn parse(text: &str) -> Result<Self, Invalid> {
        let mut cursor = Cursor::new(text);
        let mut terms = Self::default();
        loop {
            cursor.skip_space();
            if cursor.at_end() {
                return Ok(terms);
            }
            let list = if cursor.eat("-") {
                &mut terms.excluded
            } else if cursor.eat("?") {
                &mut terms.optional
            } else {
                &mut terms.required
            };
            // The user guide writes `"ERROR" - "Exiting"`, with a space behind the sign.
            cursor.skip_space();
            list.push(Term::parse(&mut cursor)?);
        }
    }

    pub(super) fn matches(&self, message: &str) -> bool {
        let found = |term: &Term| term.is_in(message);
        if self.required.is_empty() && self.excluded.is_empty() {
            return self.optional.iter().any(found);
        }
        self.required.iter().all(found) && !self.excluded.iter().any(found)
    }
}

impl Term {
    /// A bare term is letters, digits and underscores; everything else wants quotes.
    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, Invalid> {
        let term = match cursor.peek() {
            Some('"') => Term::text(&cursor.quoted()?),
            Some('%') => Term::Regex(Box::new(operand::regex(cursor.regex_source()?)?)),
            _ => match cursor.take_while(|c| c.is_alphanumeric() || c == '_') {
                "" => return Err(Invalid),
                bare => Term::text(bare),
            },
        };
        match cursor.peek() {
            Some(c) if !c.is_whitespace() => Err(Invalid),
            _ => Ok(term),
        }
    }

    fn text(text: &str) -> Self {
        Term::Text(Box::new(Finder::new(text).into_owned()))
    }

    fn is_in(&self, message: &str) -> bool {
        match self {
            Term::Text(finder) => finder.find(message.as_bytes()).is_some(),
            Term::Regex(regex) => regex.is_match(message),
        }
    }
}
