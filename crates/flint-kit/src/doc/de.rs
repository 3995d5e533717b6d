//! A `Doc` as a serde deserializer.

use std::fmt;

use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{
    self, DeserializeSeed, EnumAccess, IntoDeserializer, MapAccess, SeqAccess, Unexpected, VariantAccess, Visitor,
};
use serde::forward_to_deserialize_any;

use super::{Doc, Key};

/// A document that does not fit a struct, with the path to the misfit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    path: Vec<String>,
    message: String,
}

impl Error {
    fn under(mut self, name: &str) -> Self {
        self.path.insert(0, name.to_owned());
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            f.write_str(&self.message)
        } else {
            write!(f, "{}: {}", self.path.join("."), self.message)
        }
    }
}

impl std::error::Error for Error {}

impl de::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Error { path: Vec::new(), message: message.to_string() }
    }
}

impl serde::ser::Error for Error {
    fn custom<T: fmt::Display>(message: T) -> Self {
        Error { path: Vec::new(), message: message.to_string() }
    }
}

impl IntoDeserializer<'_, Error> for Doc {
    type Deserializer = Doc;
    fn into_deserializer(self) -> Doc {
        self
    }
}

impl<'de> de::Deserializer<'de> for Doc {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Doc::Null => visitor.visit_unit(),
            Doc::Bool(b) => visitor.visit_bool(b),
            Doc::Int(n) => visitor.visit_i64(n),
            Doc::Float(x) => visitor.visit_f64(x),
            Doc::Text(s) => visitor.visit_string(s),
            Doc::Blob(bytes) => visitor.visit_byte_buf(bytes.into()),
            Doc::Time(t) => visitor.visit_i64(t.as_millis()),
            Doc::List(items) => visitor.visit_seq(Items { items: items.into_iter(), index: 0 }),
            Doc::Map(members) => visitor.visit_map(Members { members: members.into_iter(), value: None }),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self {
            Doc::Null => visitor.visit_none(),
            other => visitor.visit_some(other),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(self, _: &'static str, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self {
            Doc::Text(s) => visitor.visit_enum(s.into_deserializer()),
            Doc::Map(mut members) if members.len() == 1 => {
                // The length was checked by the guard.
                let (key, value) = members.remove(0);
                visitor.visit_enum(Variant { key, value })
            }
            _ => Err(de::Error::invalid_type(Unexpected::Other("value"), &"an enumeration value")),
        }
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf unit unit_struct seq tuple
        tuple_struct map struct identifier ignored_any
    }
}

struct Members {
    members: std::vec::IntoIter<(Key, Doc)>,
    value: Option<(Key, Doc)>,
}

impl<'de> MapAccess<'de> for Members {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Error> {
        match self.members.next() {
            Some((key, value)) => {
                let decoded = seed.deserialize(key.as_ref().into_deserializer())?;
                self.value = Some((key, value));
                Ok(Some(decoded))
            }
            None => Ok(None),
        }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let (key, value) = self.value.take().unwrap_or_default();
        seed.deserialize(value).map_err(|e| e.under(&key))
    }
}

struct Items {
    items: std::vec::IntoIter<Doc>,
    index: usize,
}

impl<'de> SeqAccess<'de> for Items {
    type Error = Error;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Error> {
        self.index += 1;
        match self.items.next() {
            Some(item) => seed.deserialize(item).map(Some).map_err(|e| e.under(&self.index.to_string())),
            None => Ok(None),
        }
    }
}

struct Variant {
    key: Key,
    value: Doc,
}

impl<'de> EnumAccess<'de> for Variant {
    type Error = Error;
    type Variant = Doc;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Doc), Error> {
        Ok((seed.deserialize(self.key.as_ref().into_deserializer())?, self.value))
    }
}

impl<'de> VariantAccess<'de> for Doc {
    type Error = Error;

    fn unit_variant(self) -> Result<(), Error> {
        Ok(())
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Error> {
        seed.deserialize(self)
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Error> {
        match self {
            Doc::List(items) => visitor.visit_seq(SeqDeserializer::new(items.into_iter())),
            _ => Err(de::Error::custom("expected a list")),
        }
    }

    fn struct_variant<V: Visitor<'de>>(self, _: &'static [&'static str], visitor: V) -> Result<V::Value, Error> {
        match self {
            Doc::Map(members) => {
                visitor.visit_map(MapDeserializer::new(members.into_iter().map(|(k, v)| (k.into_owned(), v))))
            }
            _ => Err(de::Error::custom("expected a map")),
        }
    }
}
