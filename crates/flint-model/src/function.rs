//! How callers name a function: a name, a partial ARN or a full ARN, each with or without a qualifier.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::arn::Arn;
use crate::place::Place;

/// A function's bare name: 1 to 64 letters, digits, hyphens and underscores.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct FunctionName(Arc<str>);

/// What follows the name: a version number, an alias, or `$LATEST`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Qualifier {
    Latest,
    Version(u64),
    Alias(String),
}

/// A function as a caller named it.
///
/// Reference: Lambda API Reference, `FunctionName` of `GetFunction` ("Name formats").
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FunctionRef {
    pub name: FunctionName,
    pub qualifier: Option<Qualifier>,
    /// The region that a full ARN names; `None` where the caller left it to the request.
    pub region: Option<String>,
    /// The account that an ARN names; `None` where the caller left it to the request.
    pub account: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no function: expected NAME, ACCOUNT:function:NAME or a function ARN, with an optional :QUALIFIER")]
pub struct ParseError(pub String);

impl FunctionName {
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The function's ARN without a qualifier.
    pub fn arn(&self, place: &Place) -> Arn {
        Arn::new("lambda", place, format!("function:{self}"))
    }

    fn is_legal(s: &str) -> bool {
        (1..=64).contains(&s.len()) && s.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
    }
}

impl std::str::FromStr for FunctionName {
    type Err = ParseError;
    fn from_str(s: &str) -> Result<Self, ParseError> {
        if Self::is_legal(s) { Ok(Self(s.into())) } else { Err(ParseError(s.to_owned())) }
    }
}

impl TryFrom<String> for FunctionName {
    type Error = ParseError;
    fn try_from(s: String) -> Result<Self, ParseError> {
        s.parse()
    }
}

impl From<FunctionName> for String {
    fn from(n: FunctionName) -> String {
        n.0.to_string()
    }
}

impl fmt::Display for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for FunctionName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::str::FromStr for Qualifier {
    type Err = ParseError;
    fn from_str(s: &str) -> Result<Self, ParseError> {
        let legal = |b: u8| b.is_ascii_alphanumeric() || b == b'-' || b == b'_';
        if s == "$LATEST" {
            Ok(Qualifier::Latest)
        } else if s.is_empty() || s.len() > 128 || !s.bytes().all(legal) {
            Err(ParseError(s.to_owned()))
        } else if s.bytes().all(|b| b.is_ascii_digit()) {
            s.parse().map(Qualifier::Version).map_err(|_| ParseError(s.to_owned()))
        } else {
            Ok(Qualifier::Alias(s.to_owned()))
        }
    }
}

impl fmt::Display for Qualifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Qualifier::Latest => f.write_str("$LATEST"),
            Qualifier::Version(n) => n.fmt(f),
            Qualifier::Alias(name) => f.write_str(name),
        }
    }
}

impl std::str::FromStr for FunctionRef {
    type Err = ParseError;
    fn from_str(s: &str) -> Result<Self, ParseError> {
        let bad = || ParseError(s.to_owned());
        let mut parts: Vec<&str> = s.split(':').collect();
        let mut region = None;
        let mut account = None;
        if parts.first() == Some(&"arn") {
            if parts.len() < 7 || parts[1].is_empty() || parts[2] != "lambda" || parts[5] != "function" {
                return Err(bad());
            }
            region = Some(parts[3].to_owned());
            account = Some(parts[4].to_owned());
            parts.drain(..6);
        } else if parts.len() >= 3 && parts[1] == "function" {
            account = Some(parts[0].to_owned());
            parts.drain(..2);
        } else if parts.len() >= 2 && parts[0] == "function" {
            parts.drain(..1);
        }
        let (name, qualifier) = match parts.as_slice() {
            [name] => (name, None),
            [name, qualifier] => (name, Some(qualifier.parse().map_err(|_| bad())?)),
            _ => return Err(bad()),
        };
        Ok(FunctionRef { name: name.parse().map_err(|_| bad())?, qualifier, region, account })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(s: &str) -> Option<(String, Option<String>, Option<String>)> {
        let r: FunctionRef = s.parse().ok()?;
        Some((r.name.to_string(), r.qualifier.map(|q| q.to_string()), r.account))
    }

    #[test]
    fn reads_every_form_of_the_reference() {
        let a = Some("123456789012".to_owned());
        let some = |s: &str| Some(s.to_owned());
        assert_eq!(parse("my-function"), Some(("my-function".into(), None, None)));
        assert_eq!(parse("my-function:v1"), Some(("my-function".into(), some("v1"), None)));
        assert_eq!(parse("my-function:$LATEST"), Some(("my-function".into(), some("$LATEST"), None)));
        assert_eq!(parse("123456789012:function:my-function"), Some(("my-function".into(), None, a.clone())));
        assert_eq!(
            parse("arn:aws:lambda:us-west-2:123456789012:function:my-function:7"),
            Some(("my-function".into(), some("7"), a))
        );
    }

    #[test]
    fn refuses_what_names_no_function() {
        for bad in ["", "a/b", "arn:aws:lambda:r:1", "arn:aws:sqs:r:1:function:f", "f:", "f:a:b", "f:a b", "x\0y"] {
            assert_eq!(parse(bad), None, "{bad}");
        }
    }
}
