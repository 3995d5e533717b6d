//! Patterns over JSON events: `{ $.user.id = 1 && ($.tags[0] = "a*" || $.error IS NULL) }`.

use serde_json::Value as Json;

use super::Invalid;
use super::cursor::{Cursor, Logic};
use super::operand::{Comparison, Value};

/// Characters that bare text may have beside letters and digits.
const BARE: &str = ".*_-+:/";

/// The whole expression between the braces.
#[derive(Clone, Debug)]
pub(super) struct Expression(Logic<Condition>);

#[derive(Clone, Debug)]
struct Condition {
    selector: Vec<Step>,
    test: Test,
}

#[derive(Clone, Debug)]
enum Step {
    Property(String),
    Index(usize),
    /// `[*]`: any element.
    Each,
}

#[derive(Clone, Debug)]
enum Test {
    Compare(Comparison),
    IsNull,
    IsBool(bool),
    NotExists,
}

impl Expression {
    pub(super) fn parse(text: &str) -> Result<Self, Invalid> {
        let mut cursor = Cursor::new(text);
        cursor.expect("{")?;
        let logic = Logic::parse(&mut cursor, &Condition::parse)?;
        cursor.skip_space();
        cursor.expect("}")?;
        cursor.skip_space();
        if cursor.at_end() { Ok(Self(logic)) } else { Err(Invalid) }
    }

    /// Text that is no JSON object or array never matches.
    pub(super) fn matches(&self, message: &str) -> bool {
        // Most lines of a log are no JSON: do not ask the parser to find out.
        if !message.trim_start().starts_with(['{', '[']) {
            return false;
        }
        match serde_json::from_str::<Json>(message) {
            Ok(event) => self.0.holds(&|condition| condition.holds(&event)),
            Err(_) => false,
        }
    }
}

impl Condition {
    fn parse(cursor: &mut Cursor<'_>) -> Result<Self, Invalid> {
        let selector = selector(cursor)?;
        cursor.skip_space();
        let test = if cursor.eat_word("IS") {
            cursor.skip_space();
            match () {
                () if cursor.eat_word("NULL") => Test::IsNull,
                () if cursor.eat_word("TRUE") => Test::IsBool(true),
                () if cursor.eat_word("FALSE") => Test::IsBool(false),
                () => return Err(Invalid),
            }
        } else if cursor.eat_word("NOT") {
            cursor.skip_space();
            if !cursor.eat_word("EXISTS") {
                return Err(Invalid);
            }
            Test::NotExists
        } else {
            Test::Compare(Comparison::parse(cursor, BARE)?)
        };
        Ok(Self { selector, test })
    }

    fn holds(&self, event: &Json) -> bool {
        match &self.test {
            Test::NotExists => !any(event, &self.selector, &|_| true),
            test => any(event, &self.selector, &|found| test.holds(found)),
        }
    }
}

impl Test {
    /// A comparison applies to text, numbers and booleans; an array, an object or null does not fit it, whatever the
    /// operator.
    fn holds(&self, found: &Json) -> bool {
        match (self, found) {
            (Test::IsNull, found) => found.is_null(),
            (Test::IsBool(wanted), found) => found.as_bool() == Some(*wanted),
            (Test::NotExists, _) => false,
            (Test::Compare(comparison), Json::String(text)) => comparison.holds(Value::Text(text)),
            (Test::Compare(comparison), Json::Bool(value)) => {
                comparison.holds(Value::Text(if *value { "true" } else { "false" }))
            }
            (Test::Compare(comparison), Json::Number(number)) => match number.as_f64() {
                Some(value) => comparison.holds(Value::Number(value, &number.to_string())),
                None => false,
            },
            (Test::Compare(_), Json::Null | Json::Array(_) | Json::Object(_)) => false,
        }
    }
}

/// Whether a value that `steps` lead to satisfies `wanted`.
fn any(from: &Json, steps: &[Step], wanted: &dyn Fn(&Json) -> bool) -> bool {
    let Some((step, rest)) = steps.split_first() else { return wanted(from) };
    match (step, from) {
        (Step::Property(name), Json::Object(members)) => members.get(name).is_some_and(|v| any(v, rest, wanted)),
        (Step::Index(index), Json::Array(items)) => items.get(*index).is_some_and(|v| any(v, rest, wanted)),
        (Step::Each, Json::Array(items)) => items.iter().any(|v| any(v, rest, wanted)),
        _ => false,
    }
}

/// `$.name`, `$.name[0].other`, `$.name[*]`, `$['any name']`.
fn selector(cursor: &mut Cursor<'_>) -> Result<Vec<Step>, Invalid> {
    cursor.expect("$")?;
    let mut steps = Vec::new();
    loop {
        if cursor.eat(".") {
            if cursor.peek() == Some('[') {
                continue;
            }
            match cursor.take_while(|c| c.is_alphanumeric() || c == '-' || c == '_') {
                "" => return Err(Invalid),
                name => steps.push(Step::Property(name.to_owned())),
            }
        } else if cursor.eat("[") {
            steps.push(bracket(cursor)?);
            cursor.expect("]")?;
        } else {
            break;
        }
    }
    if steps.is_empty() { Err(Invalid) } else { Ok(steps) }
}

fn bracket(cursor: &mut Cursor<'_>) -> Result<Step, Invalid> {
    match cursor.peek() {
        Some('*') => cursor.expect("*").map(|()| Step::Each),
        Some('"') => cursor.quoted().map(Step::Property),
        Some('\'') => {
            cursor.expect("'")?;
            let name = cursor.take_while(|c| c != '\'').to_owned();
            cursor.expect("'")?;
            Ok(Step::Property(name))
        }
        _ => cursor.take_while(|c| c.is_ascii_digit()).parse().map(Step::Index).map_err(|_| Invalid),
    }
}
