//! Whose state it is and where it lives: every key, map and pool is keyed by a [`Place`].

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

/// A tenant: twelve digits, as in an ARN.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AccountId(Arc<str>);

/// A region's name, such as `us-east-1`: lower-case letters, digits and hyphens, at most 32 characters.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Region(Arc<str>);

/// An account in a region.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Place {
    pub account: AccountId,
    pub region: Region,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParseError {
    #[error("an account id is twelve digits, not {0:?}")]
    Account(String),
    #[error("a region is 1 to 32 lower-case letters, digits and hyphens, not {0:?}")]
    Region(String),
}

impl AccountId {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Region {
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for AccountId {
    type Err = ParseError;
    fn from_str(s: &str) -> Result<Self, ParseError> {
        if s.len() == 12 && s.bytes().all(|b| b.is_ascii_digit()) {
            Ok(Self(s.into()))
        } else {
            Err(ParseError::Account(s.to_owned()))
        }
    }
}

impl FromStr for Region {
    type Err = ParseError;
    fn from_str(s: &str) -> Result<Self, ParseError> {
        let legal = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if (1..=32).contains(&s.len()) && s.bytes().all(legal) {
            Ok(Self(s.into()))
        } else {
            Err(ParseError::Region(s.to_owned()))
        }
    }
}

macro_rules! text_newtype {
    ($name:ident) => {
        impl TryFrom<String> for $name {
            type Error = ParseError;
            fn try_from(s: String) -> Result<Self, ParseError> {
                s.parse()
            }
        }
        impl From<$name> for String {
            fn from(v: $name) -> String {
                v.0.to_string()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}
text_newtype!(AccountId);
text_newtype!(Region);

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.account, self.region)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refuses_what_is_not_an_account_or_region() {
        assert!("000000000000".parse::<AccountId>().is_ok());
        for bad in ["", "12345678901", "1234567890123", "00000000000x", "００００００００００００"] {
            assert!(bad.parse::<AccountId>().is_err(), "{bad}");
        }
        assert!("us-east-1".parse::<Region>().is_ok());
        for bad in ["", "US-east-1", "a/b", "x".repeat(33).as_str()] {
            assert!(bad.parse::<Region>().is_err(), "{bad}");
        }
    }
}
