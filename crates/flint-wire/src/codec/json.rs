//! JSON bodies, guided by shape: AWS JSON 1.0 and 1.1 whole, and the bodies of REST-JSON.

use std::collections::HashMap;
use std::fmt;

use base64::Engine;
use bytes::Bytes;
use flint_kit::{Body, Doc, Fault, Key, Output};
use serde::de::{DeserializeSeed, Deserializer, Error as _, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};
use serde_json::error::Category;

use super::scalar::{self, BASE64};
use super::{Answer, answer, internal, nothing, serialization};
use crate::shape::{Kind, Member, Place, ServiceModel, Shape};

/// Decodes a body of `shape`. An empty body and `null` are empty structures; unknown members are ignored.
pub fn decode(service: &ServiceModel, shape: &Shape, body: &[u8]) -> Result<Doc, Fault> {
    if body.iter().all(u8::is_ascii_whitespace) {
        return Ok(nothing());
    }
    let mut reader = serde_json::Deserializer::from_slice(body);
    let doc = Typed(shape).deserialize(&mut reader).and_then(|doc| reader.end().map(|()| doc));
    match doc {
        Ok(Doc::Null) => Ok(nothing()),
        Ok(doc) => Ok(doc),
        Err(error) if error.classify() == Category::Data => {
            let text = error.to_string();
            Err(serialization(text.rsplit_once(" at line ").map_or(text.as_str(), |(message, _)| message)))
        }
        Err(error) => {
            Err(Fault::client(400, service.malformed_code, format!("Could not parse request body into json: {error}")))
        }
    }
}

/// Encodes a success. An operation without output answers an empty body.
pub fn encode(shape: &Shape, output: &Output, content_type: &'static str) -> Result<Answer, Fault> {
    let status = output.status.unwrap_or(200);
    let empty = shape.members().is_empty() && shape.name == crate::shape::UNIT.name;
    let body = if empty { Bytes::new() } else { render(shape, &output.doc)? };
    Ok(answer(status, Some(content_type), Body::Whole(body)))
}

/// Writes the members of `shape` that travel in the body.
pub fn render(shape: &Shape, doc: &Doc) -> Result<Bytes, Fault> {
    let text = serde_json::to_vec(&Shaped { shape, value: doc }).map_err(|e| internal(e.to_string()))?;
    Ok(Bytes::from(text))
}

/// Any document as JSON, where no shape guides: health, and the members of errors.
pub fn plain(doc: &Doc) -> serde_json::Value {
    use serde_json::Value;
    match doc {
        Doc::Null => Value::Null,
        Doc::Bool(b) => Value::Bool(*b),
        Doc::Int(n) => Value::from(*n),
        Doc::Float(n) => Value::from(*n),
        Doc::Text(s) => Value::String(s.clone()),
        Doc::Blob(bytes) => Value::String(BASE64.encode(bytes)),
        Doc::Time(at) => Value::from(at.as_secs_f64()),
        Doc::List(items) => Value::Array(items.iter().map(plain).collect()),
        Doc::Map(members) => {
            let present = members.iter().filter(|(_, v)| *v != Doc::Null);
            Value::Object(present.map(|(k, v)| (k.to_string(), plain(v))).collect())
        }
    }
}

/// Reads one value of a shape.
#[derive(Clone, Copy)]
struct Typed<'a>(&'a Shape);

impl<'de> DeserializeSeed<'de> for Typed<'_> {
    type Value = Doc;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Doc, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Typed<'_> {
    /// The reference's way of saying that a token does not fit.
    fn misfit<E: serde::de::Error>(&self, token: &str) -> E {
        let wanted = match self.0.kind {
            Kind::Text => "a String",
            Kind::Blob => "a Blob",
            Kind::Boolean => "a Boolean",
            Kind::Integer => "an Integer",
            Kind::Long => "a Long",
            Kind::Double => "a Double",
            Kind::Timestamp => "a Timestamp",
            Kind::Structure(_) | Kind::List(_) | Kind::Map(_) => return E::custom("Unexpected value type in payload"),
        };
        E::custom(format_args!("{token} can not be converted to {wanted}"))
    }
}

impl<'de> Visitor<'de> for Typed<'_> {
    type Value = Doc;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of {}", self.0.name)
    }

    fn visit_unit<E>(self) -> Result<Doc, E> {
        Ok(Doc::Null)
    }

    fn visit_bool<E: serde::de::Error>(self, value: bool) -> Result<Doc, E> {
        match self.0.kind {
            Kind::Boolean => Ok(Doc::Bool(value)),
            _ => Err(self.misfit(if value { "TRUE_VALUE" } else { "FALSE_VALUE" })),
        }
    }

    fn visit_i64<E: serde::de::Error>(self, value: i64) -> Result<Doc, E> {
        match self.0.kind {
            Kind::Integer | Kind::Long => Ok(Doc::Int(value)),
            Kind::Double => Ok(Doc::Float(value as f64)),
            Kind::Timestamp => self.visit_f64(value as f64),
            _ => Err(self.misfit("NUMBER_VALUE")),
        }
    }

    fn visit_u64<E: serde::de::Error>(self, value: u64) -> Result<Doc, E> {
        match i64::try_from(value) {
            Ok(value) => self.visit_i64(value),
            Err(_) => self.visit_f64(value as f64),
        }
    }

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Doc, E> {
        let whole = value.fract() == 0.0 && value.abs() < 9e15;
        match self.0.kind {
            Kind::Double => Ok(Doc::Float(value)),
            Kind::Integer | Kind::Long if whole => Ok(Doc::Int(value as i64)),
            Kind::Timestamp => scalar::from_seconds(value).map(Doc::Time).ok_or_else(|| self.misfit("NUMBER_VALUE")),
            _ => Err(self.misfit("NUMBER_VALUE")),
        }
    }

    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Doc, E> {
        let fits = match self.0.kind {
            Kind::Text => Some(Doc::Text(value.to_owned())),
            Kind::Blob => scalar::decode_base64(value).map(Doc::Blob),
            Kind::Timestamp => scalar::parse_time(value).map(Doc::Time),
            Kind::Double => match value {
                "NaN" => Some(Doc::Float(f64::NAN)),
                "Infinity" => Some(Doc::Float(f64::INFINITY)),
                "-Infinity" => Some(Doc::Float(f64::NEG_INFINITY)),
                _ => None,
            },
            _ => None,
        };
        fits.ok_or_else(|| self.misfit("STRING_VALUE"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Doc, A::Error> {
        let Kind::List(item) = self.0.kind else {
            return Err(A::Error::custom("Start of list found where not expected"));
        };
        let mut list = Vec::new();
        while let Some(value) = items.next_element_seed(Typed(item.shape))? {
            list.push(value);
        }
        Ok(Doc::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, entries: A) -> Result<Doc, A::Error> {
        match self.0.kind {
            Kind::Structure(members) => structure(members, entries),
            Kind::Map(kind) => map(kind.value, entries),
            _ => Err(A::Error::custom("Start of structure or map found where not expected.")),
        }
    }
}

/// The last of two equal keys wins.
fn structure<'de, A: MapAccess<'de>>(members: &'static [Member], mut entries: A) -> Result<Doc, A::Error> {
    let mut values: Vec<Option<Doc>> = vec![None; members.len()];
    while let Some(index) = entries.next_key_seed(MemberName(members))? {
        match index {
            Some(index) => values[index] = Some(entries.next_value_seed(Typed(members[index].shape))?),
            None => {
                entries.next_value::<IgnoredAny>()?;
            }
        }
    }
    let present = members.iter().zip(values).filter_map(|(member, value)| {
        value.filter(|v| *v != Doc::Null).map(|value| (Key::Borrowed(member.name), value))
    });
    Ok(Doc::Map(present.collect()))
}

fn map<'de, A: MapAccess<'de>>(shape: &Shape, mut entries: A) -> Result<Doc, A::Error> {
    let mut order: Vec<(Key, Doc)> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    while let Some(key) = entries.next_key::<String>()? {
        let value = entries.next_value_seed(Typed(shape))?;
        match places.get(&key) {
            Some(place) => order[*place].1 = value,
            None => {
                places.insert(key.clone(), order.len());
                order.push((Key::Owned(key), value));
            }
        }
    }
    Ok(Doc::Map(order))
}

/// Finds the member of the body that a key names, without keeping the key.
struct MemberName(&'static [Member]);

impl<'de> DeserializeSeed<'de> for MemberName {
    type Value = Option<usize>;
    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for MemberName {
    type Value = Option<usize>;
    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a member's name")
    }
    fn visit_str<E>(self, key: &str) -> Result<Self::Value, E> {
        Ok(self.0.iter().position(|m| m.wire == key && m.place == Place::Body))
    }
}

/// Writes one value of a shape. Null members are left out.
struct Shaped<'a> {
    shape: &'a Shape,
    value: &'a Doc,
}

impl serde::Serialize for Shaped<'_> {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        match (self.value, &self.shape.kind) {
            (Doc::Map(values), Kind::Structure(members)) => {
                let mut map = s.serialize_map(None)?;
                for (key, value) in values.iter().filter(|(_, v)| *v != Doc::Null) {
                    if let Some(member) = members.iter().find(|m| m.name == key && m.place == Place::Body) {
                        map.serialize_entry(member.wire, &Shaped { shape: member.shape, value })?;
                    }
                }
                map.end()
            }
            (Doc::Map(values), Kind::Map(entries)) => {
                let mut map = s.serialize_map(Some(values.len()))?;
                for (key, value) in values {
                    map.serialize_entry(key, &Shaped { shape: entries.value, value })?;
                }
                map.end()
            }
            (Doc::List(items), Kind::List(item)) => {
                s.collect_seq(items.iter().map(|value| Shaped { shape: item.shape, value }))
            }
            (Doc::Time(at), Kind::Integer | Kind::Long) => s.serialize_i64(at.as_millis()),
            (Doc::Time(at), Kind::Text) => s.serialize_str(&at.to_iso8601()),
            (Doc::Time(at), _) => s.serialize_f64(at.as_secs_f64()),
            (Doc::Int(ms), Kind::Timestamp) => s.serialize_f64(*ms as f64 / 1000.0),
            (Doc::Float(n), _) if !n.is_finite() => s.serialize_str(&scalar::float(*n)),
            (Doc::Float(n), Kind::Integer | Kind::Long) => s.serialize_i64(*n as i64),
            (Doc::Null, _) => s.serialize_unit(),
            (Doc::Bool(b), _) => s.serialize_bool(*b),
            (Doc::Int(n), _) => s.serialize_i64(*n),
            (Doc::Float(n), _) => s.serialize_f64(*n),
            (Doc::Text(text), _) => s.serialize_str(text),
            (Doc::Blob(bytes), _) => s.serialize_str(&BASE64.encode(bytes)),
            (Doc::List(_) | Doc::Map(_), _) => {
                Err(serde::ser::Error::custom(format_args!("a list or map where {} is expected", self.shape.name)))
            }
        }
    }
}
