//! Patterns over space-delimited events: `[ip, user, ..., status = 4* && status != 404, bytes > 1000]`.

use super::Invalid;
use super::cursor::{Cursor, Logic};
use super::operand::{Comparison, Value};

/// Characters that bare text may have beside letters and digits.
const BARE: &str = ".*_-+:/@#$;?";

/// The columns before and behind the ellipsis; without one, all of them and exactly as many.
#[derive(Clone, Debug)]
pub(super) struct Columns {
    head: Vec<Column>,
    tail: Option<Vec<Column>>,
}

/// What a column must satisfy; nothing where only its name (or nothing) is given.
type Column = Option<Logic<Condition>>;

#[derive(Clone, Debug)]
struct Condition {
    name: String,
    comparison: Comparison,
}

impl Columns {
    pub(super) fn parse(text: &str) -> Result<Self, Invalid> {
        let mut cursor = Cursor::new(text);
        cursor.expect("[")?;
        let mut columns = Self { head: Vec::new(), tail: None };
        loop {
            cursor.skip_space();
            if cursor.eat("...") || cursor.eat("…") {
                // A second one would say nothing.
                if columns.tail.replace(Vec::new()).is_some() {
                    return Err(Invalid);
                }
            } else {
                let column = column(&mut cursor)?;
                columns.tail.as_mut().unwrap_or(&mut columns.head).push(column);
            }
            cursor.skip_space();
            if cursor.eat("]") {
                break;
            }
            cursor.expect(",")?;
        }
        cursor.skip_space();
        if cursor.at_end() { Ok(columns) } else { Err(Invalid) }
    }

    pub(super) fn matches(&self, message: &str) -> bool {
        let Some(tail) = &self.tail else {
            // One more than wanted is enough to know that there are too many.
            let fields: Vec<_> = Fields(message).take(self.head.len() + 1).collect();
            return fields.len() == self.head.len() && hold(&self.head, &fields);
        };
        let fields: Vec<_> = Fields(message).collect();
        let Some(tail_start) = fields.len().checked_sub(tail.len()).filter(|start| *start >= self.head.len()) else {
            return false;
        };
        hold(&self.head, &fields) && hold(tail, &fields[tail_start..])
    }
}

fn hold(columns: &[Column], fields: &[&str]) -> bool {
    columns.iter().zip(fields).all(|(column, field)| match column {
        Some(logic) => logic.holds(&|condition| condition.comparison.holds(Value::Column(field))),
        None => true,
    })
}

/// A name, conditions on a name, or nothing.
fn column(cursor: &mut Cursor<'_>) -> Result<Column, Invalid> {
    let start = cursor.clone();
    name(cursor);
    cursor.skip_space();
    if matches!(cursor.peek(), Some(',' | ']')) {
        return Ok(None);
    }
    *cursor = start;
    let logic = Logic::parse(cursor, &Condition::parse)?;
    let mut names = Vec::new();
    logic.each(&mut |condition: &Condition| names.push(condition.name.as_str()));
    // Conditions on another column belong to that column.
    if names.windows(2).all(|pair| pair[0] == pair[1]) { Ok(Some(logic)) } else { Err(Invalid) }
}

impl Condition {
    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, Invalid> {
        let name = name(cursor).to_owned();
        if name.is_empty() {
            return Err(Invalid);
        }
        Ok(Self { name, comparison: Comparison::parse(cursor, BARE)? })
    }
}

fn name<'a>(cursor: &mut Cursor<'a>) -> &'a str {
    cursor.take_while(|c| c.is_alphanumeric() || c == '_' || c == '-' || c == '$')
}

/// The fields of an event: words, and what stands between square brackets or double quotes as one field.
struct Fields<'a>(&'a str);

impl<'a> Iterator for Fields<'a> {
    type Item = &'a str;

    fn next(&mut self) -> Option<&'a str> {
        let rest = self.0.trim_start();
        let first = rest.chars().next()?;
        if let Some(close) = match first {
            '[' => Some(']'),
            '"' => Some('"'),
            _ => None,
        } && let Some((field, after)) = grouped(&rest[1..], close)
        {
            self.0 = after;
            return Some(field);
        }
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let (field, after) = rest.split_at(end);
        self.0 = after;
        Some(field)
    }
}

/// Splits at the first `close` that ends a word. Nothing where there is none: then the opening one was no group.
fn grouped(text: &str, close: char) -> Option<(&str, &str)> {
    let at = text.find(close)?;
    let after = &text[at + 1..];
    let ends_word = after.chars().next().is_none_or(char::is_whitespace);
    ends_word.then_some((&text[..at], after))
}
