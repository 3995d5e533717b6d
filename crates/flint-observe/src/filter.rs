//! Filter patterns: which log events a caller wants to see. Pure.
//!
//! Three forms, told apart by the first character: terms (`ERROR -"not this" ?maybe`), JSON (`{ $.level = "error" }`)
//! and columns (`[ip, user, ..., status = 4*]`). A pattern is parsed once and then asked for each event. Bad patterns
//! are an [`Invalid`], never a panic; the work per event is linear in its length.
//!
//! Reference: CloudWatch Logs User Guide, "Filter pattern syntax for metric filters, subscription filters, filter log
//! events, and Live Tail".
//!
//! Reading order: [`operand`] (what a value is compared with), [`terms`], [`json`], [`columns`].

mod columns;
mod cursor;
mod json;
mod operand;
mod terms;
#[cfg(test)]
mod tests;

/// The pattern cannot be understood. The reference says no more than that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("Invalid filter pattern")]
pub struct Invalid;

/// Characters of the longest pattern.
pub const PATTERN_CHARS_MAX: usize = 1024;

/// A parsed filter pattern.
#[derive(Clone, Debug)]
pub struct Pattern(Form);

#[derive(Clone, Debug)]
enum Form {
    All,
    Terms(terms::Terms),
    Json(json::Expression),
    Columns(columns::Columns),
}

impl Pattern {
    /// The pattern that matches every event.
    pub fn all() -> Self {
        Self(Form::All)
    }

    /// Parses `text`; the empty pattern matches every event.
    ///
    /// Errors: [`Invalid`], also for more than [`PATTERN_CHARS_MAX`] characters and for more than two regular
    /// expressions.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        if text.chars().count() > PATTERN_CHARS_MAX {
            return Err(Invalid);
        }
        let text = text.trim();
        let form = match text.bytes().next() {
            None => Form::All,
            Some(b'{') => Form::Json(json::Expression::parse(text)?),
            Some(b'[') => Form::Columns(columns::Columns::parse(text)?),
            Some(_) => Form::Terms(terms::Terms::parse(text)?),
        };
        Ok(Self(form))
    }

    /// Whether an event with this message is wanted.
    pub fn matches(&self, message: &str) -> bool {
        match &self.0 {
            Form::All => true,
            Form::Terms(terms) => terms.matches(message),
            Form::Json(expression) => expression.matches(message),
            Form::Columns(columns) => columns.matches(message),
        }
    }

    /// Whether every event matches, so that messages need not be looked at.
    pub fn is_all(&self) -> bool {
        matches!(self.0, Form::All)
    }
}
