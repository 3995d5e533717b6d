//! JSON values as patterns see them.

use super::number::Decimal;
use super::tokens::{Token, Tokens};

/// A JSON value whose numbers are compared by value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Json {
    Null,
    Bool(bool),
    Number(Decimal),
    String(String),
    Array(Vec<Json>),
    /// In the order of the text. Of members with one name the last counts.
    Object(Vec<(String, Json)>),
}

/// Why a text is no JSON value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NotJson(String);

/// Arrays and objects inside each other; what is deeper is refused, so that a hostile event can't exhaust the stack.
const DEPTH_MAX: usize = 1_000;

/// An array or object that is being read.
enum Open {
    Array(Vec<Json>),
    Object(Vec<(String, Json)>, String),
}

impl Json {
    /// Reads one JSON value that fills `text`.
    pub fn parse(text: &[u8]) -> Result<Self, NotJson> {
        let text = std::str::from_utf8(text).map_err(|e| NotJson(e.to_string()))?;
        let mut tokens = Tokens::new(text);
        let value = read(&mut tokens)?;
        tokens.end().map_err(|e| NotJson(e.0))?;
        Ok(value)
    }

    /// A member of an object; of several with one name the last.
    pub fn get(&self, name: &str) -> Option<&Json> {
        match self {
            Json::Object(members) => members.iter().rev().find(|(n, _)| n == name).map(|(_, value)| value),
            _ => None,
        }
    }

    /// The text of a string.
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Json::String(text) => Some(text),
            _ => None,
        }
    }

    /// Puts `value` in the place of the member `name`.
    pub(super) fn set(&mut self, name: &str, value: Json) {
        if let Json::Object(members) = self {
            members.retain(|(n, _)| n != name);
            members.push((name.to_owned(), value));
        }
    }
}

fn read(tokens: &mut Tokens<'_>) -> Result<Json, NotJson> {
    let mut open: Vec<Open> = Vec::new();
    loop {
        let token = tokens.next().map_err(|e| NotJson(e.0))?;
        let value = match token {
            Token::StartArray | Token::StartObject if open.len() >= DEPTH_MAX => {
                return Err(NotJson(format!("nested deeper than {DEPTH_MAX}")));
            }
            Token::StartArray => {
                open.push(Open::Array(Vec::new()));
                continue;
            }
            Token::StartObject => {
                open.push(Open::Object(Vec::new(), String::new()));
                continue;
            }
            Token::Name(name) => {
                if let Some(Open::Object(_, next)) = open.last_mut() {
                    *next = name;
                }
                continue;
            }
            Token::EndArray | Token::EndObject => match open.pop() {
                Some(Open::Array(items)) => Json::Array(items),
                Some(Open::Object(members, _)) => Json::Object(members),
                None => return Err(NotJson("an end without a start".to_owned())),
            },
            Token::String(text) => Json::String(text),
            Token::Number(number) => Json::Number(number),
            Token::True => Json::Bool(true),
            Token::False => Json::Bool(false),
            Token::Null => Json::Null,
        };
        match open.last_mut() {
            None => return Ok(value),
            Some(Open::Array(items)) => items.push(value),
            Some(Open::Object(members, name)) => members.push((std::mem::take(name), value)),
        }
    }
}
