//! `Doc`: the one document that every protocol decodes to and encodes from.
//!
//! [`Doc::parse`] and [`Doc::render`] are the serde step between a document and an operation's structs.

mod de;
mod ser;

use std::borrow::Cow;

use bytes::Bytes;
use flint_base::Timestamp;
use serde::Serialize;
use serde::de::DeserializeOwned;

pub use de::Error;

/// A member's name. Static where it comes from a shape table.
pub type Key = Cow<'static, str>;

/// A value of the wire, free of any protocol. Members keep their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum Doc {
    #[default]
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
    Blob(Bytes),
    Time(Timestamp),
    List(Vec<Doc>),
    Map(Vec<(Key, Doc)>),
}

impl Doc {
    /// The member `name` of a map, unless it is absent or null.
    pub fn get(&self, name: &str) -> Option<&Doc> {
        match self {
            Doc::Map(members) => members.iter().find(|(k, _)| k == name).map(|(_, v)| v).filter(|v| **v != Doc::Null),
            _ => None,
        }
    }

    pub fn text(&self) -> Option<&str> {
        match self {
            Doc::Text(s) => Some(s),
            _ => None,
        }
    }

    /// The text member `name` of a map.
    pub fn text_of(&self, name: &str) -> Option<&str> {
        self.get(name).and_then(Doc::text)
    }

    pub fn int_of(&self, name: &str) -> Option<i64> {
        match self.get(name) {
            Some(Doc::Int(n)) => Some(*n),
            _ => None,
        }
    }

    /// Deserialises the document. Errors name the path of the member that did not fit.
    pub fn parse<T: DeserializeOwned>(self) -> Result<T, Error> {
        T::deserialize(self)
    }

    /// Serialises a value into a document; `None` becomes an absent member.
    pub fn render<T: Serialize + ?Sized>(value: &T) -> Result<Doc, Error> {
        value.serialize(ser::ToDoc)
    }
}

impl From<&str> for Doc {
    fn from(s: &str) -> Self {
        Doc::Text(s.to_owned())
    }
}

impl From<String> for Doc {
    fn from(s: String) -> Self {
        Doc::Text(s)
    }
}

impl From<i64> for Doc {
    fn from(n: i64) -> Self {
        Doc::Int(n)
    }
}

impl From<bool> for Doc {
    fn from(b: bool) -> Self {
        Doc::Bool(b)
    }
}

/// Bytes inside an operation's struct: a `Doc::Blob` there, base64 on the JSON protocols.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Blob(pub Bytes);

impl Serialize for Blob {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_bytes(&self.0)
    }
}

impl<'de> serde::Deserialize<'de> for Blob {
    fn deserialize<D: serde::Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl serde::de::Visitor<'_> for Visitor {
            type Value = Blob;
            fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str("bytes")
            }
            fn visit_byte_buf<E>(self, v: Vec<u8>) -> Result<Blob, E> {
                Ok(Blob(v.into()))
            }
            fn visit_bytes<E>(self, v: &[u8]) -> Result<Blob, E> {
                Ok(Blob(Bytes::copy_from_slice(v)))
            }
        }
        d.deserialize_byte_buf(Visitor)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::Deserialize;

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Sample {
        name: String,
        count: Option<i64>,
        missing: Option<String>,
        at: Timestamp,
        zip: Blob,
        tags: BTreeMap<String, String>,
        kinds: Vec<Kind>,
        inner: Inner,
        ratio: f64,
        on: bool,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Kind {
        #[serde(rename = "x86_64")]
        X86,
        #[serde(rename = "arm64")]
        Arm,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Inner {
        n: u64,
    }

    fn sample() -> Sample {
        Sample {
            name: "f".into(),
            count: Some(3),
            missing: None,
            at: Timestamp::from_millis(12),
            zip: Blob(Bytes::from_static(b"PK")),
            tags: [("a".to_owned(), "b".to_owned())].into(),
            kinds: vec![Kind::X86, Kind::Arm],
            inner: Inner { n: 7 },
            ratio: 0.5,
            on: true,
        }
    }

    #[test]
    fn structs_round_trip() {
        let doc = Doc::render(&sample()).expect("renders");
        assert_eq!(doc.get("Missing"), None);
        assert_eq!(doc.get("At"), Some(&Doc::Time(Timestamp::from_millis(12))));
        assert_eq!(doc.get("Zip"), Some(&Doc::Blob(Bytes::from_static(b"PK"))));
        assert_eq!(doc.parse::<Sample>().expect("parses"), sample());
    }

    #[test]
    fn a_misfit_names_its_path() {
        let mut doc = Doc::render(&sample()).expect("renders");
        if let Doc::Map(members) = &mut doc {
            members.retain(|(k, _)| k != "Inner");
            members.push(("Inner".into(), Doc::Map(vec![("n".into(), Doc::from("seven"))])));
        }
        let error = doc.parse::<Sample>().expect_err("misfit").to_string();
        assert!(error.contains("Inner.n"), "{error}");
    }
}
