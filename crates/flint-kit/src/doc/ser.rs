//! A serde serializer that makes a `Doc`.

use bytes::Bytes;
use flint_base::Timestamp;
use flint_base::time::TIMESTAMP_NEWTYPE;
use serde::ser::{self, Serialize, Serializer};

use super::de::Error;
use super::{Doc, Key};

/// The serializer.
pub(super) struct ToDoc;

impl Serializer for ToDoc {
    type Ok = Doc;
    type Error = Error;
    type SerializeSeq = List;
    type SerializeTuple = List;
    type SerializeTupleStruct = List;
    type SerializeTupleVariant = ser::Impossible<Doc, Error>;
    type SerializeMap = Map;
    type SerializeStruct = Map;
    type SerializeStructVariant = Map;

    fn serialize_bool(self, v: bool) -> Result<Doc, Error> {
        Ok(Doc::Bool(v))
    }
    fn serialize_i8(self, v: i8) -> Result<Doc, Error> {
        Ok(Doc::Int(v.into()))
    }
    fn serialize_i16(self, v: i16) -> Result<Doc, Error> {
        Ok(Doc::Int(v.into()))
    }
    fn serialize_i32(self, v: i32) -> Result<Doc, Error> {
        Ok(Doc::Int(v.into()))
    }
    fn serialize_i64(self, v: i64) -> Result<Doc, Error> {
        Ok(Doc::Int(v))
    }
    fn serialize_u8(self, v: u8) -> Result<Doc, Error> {
        Ok(Doc::Int(v.into()))
    }
    fn serialize_u16(self, v: u16) -> Result<Doc, Error> {
        Ok(Doc::Int(v.into()))
    }
    fn serialize_u32(self, v: u32) -> Result<Doc, Error> {
        Ok(Doc::Int(v.into()))
    }
    fn serialize_u64(self, v: u64) -> Result<Doc, Error> {
        i64::try_from(v).map(Doc::Int).map_err(ser::Error::custom)
    }
    fn serialize_f32(self, v: f32) -> Result<Doc, Error> {
        Ok(Doc::Float(v.into()))
    }
    fn serialize_f64(self, v: f64) -> Result<Doc, Error> {
        Ok(Doc::Float(v))
    }
    fn serialize_char(self, v: char) -> Result<Doc, Error> {
        Ok(Doc::Text(v.to_string()))
    }
    fn serialize_str(self, v: &str) -> Result<Doc, Error> {
        Ok(Doc::from(v))
    }
    fn serialize_bytes(self, v: &[u8]) -> Result<Doc, Error> {
        Ok(Doc::Blob(Bytes::copy_from_slice(v)))
    }
    fn serialize_none(self) -> Result<Doc, Error> {
        Ok(Doc::Null)
    }
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Doc, Error> {
        value.serialize(self)
    }
    fn serialize_unit(self) -> Result<Doc, Error> {
        Ok(Doc::Null)
    }
    fn serialize_unit_struct(self, _: &'static str) -> Result<Doc, Error> {
        Ok(Doc::Null)
    }
    fn serialize_unit_variant(self, _: &'static str, _: u32, variant: &'static str) -> Result<Doc, Error> {
        Ok(Doc::from(variant))
    }
    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, name: &'static str, value: &T) -> Result<Doc, Error> {
        let inner = value.serialize(ToDoc)?;
        match inner {
            Doc::Int(ms) if name == TIMESTAMP_NEWTYPE => Ok(Doc::Time(Timestamp::from_millis(ms))),
            other => Ok(other),
        }
    }
    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<Doc, Error> {
        Ok(Doc::Map(vec![(variant.into(), value.serialize(ToDoc)?)]))
    }
    fn serialize_seq(self, len: Option<usize>) -> Result<List, Error> {
        Ok(List(Vec::with_capacity(len.unwrap_or(0).min(4096))))
    }
    fn serialize_tuple(self, len: usize) -> Result<List, Error> {
        self.serialize_seq(Some(len))
    }
    fn serialize_tuple_struct(self, _: &'static str, len: usize) -> Result<List, Error> {
        self.serialize_seq(Some(len))
    }
    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Error> {
        Err(ser::Error::custom("tuple variants have no document form"))
    }
    fn serialize_map(self, _: Option<usize>) -> Result<Map, Error> {
        Ok(Map { members: Vec::new(), key: None, variant: None })
    }
    fn serialize_struct(self, _: &'static str, len: usize) -> Result<Map, Error> {
        Ok(Map { members: Vec::with_capacity(len), key: None, variant: None })
    }
    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Map, Error> {
        Ok(Map { members: Vec::with_capacity(len), key: None, variant: Some(variant) })
    }
}

pub(super) struct List(Vec<Doc>);

impl ser::SerializeSeq for List {
    type Ok = Doc;
    type Error = Error;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.0.push(value.serialize(ToDoc)?);
        Ok(())
    }
    fn end(self) -> Result<Doc, Error> {
        Ok(Doc::List(self.0))
    }
}

impl ser::SerializeTuple for List {
    type Ok = Doc;
    type Error = Error;
    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        ser::SerializeSeq::serialize_element(self, value)
    }
    fn end(self) -> Result<Doc, Error> {
        Ok(Doc::List(self.0))
    }
}

impl ser::SerializeTupleStruct for List {
    type Ok = Doc;
    type Error = Error;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        ser::SerializeSeq::serialize_element(self, value)
    }
    fn end(self) -> Result<Doc, Error> {
        Ok(Doc::List(self.0))
    }
}

pub(super) struct Map {
    members: Vec<(Key, Doc)>,
    key: Option<Key>,
    variant: Option<&'static str>,
}

impl Map {
    fn push(&mut self, key: Key, value: Doc) {
        if value != Doc::Null {
            self.members.push((key, value));
        }
    }

    fn finish(self) -> Doc {
        let map = Doc::Map(self.members);
        match self.variant {
            Some(name) => Doc::Map(vec![(name.into(), map)]),
            None => map,
        }
    }
}

impl ser::SerializeMap for Map {
    type Ok = Doc;
    type Error = Error;
    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        match key.serialize(ToDoc)? {
            Doc::Text(s) => self.key = Some(s.into()),
            Doc::Int(n) => self.key = Some(n.to_string().into()),
            _ => return Err(ser::Error::custom("a map's key is text")),
        }
        Ok(())
    }
    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let key = self.key.take().ok_or_else(|| <Error as ser::Error>::custom("a value without a key"))?;
        self.push(key, value.serialize(ToDoc)?);
        Ok(())
    }
    fn end(self) -> Result<Doc, Error> {
        Ok(self.finish())
    }
}

impl ser::SerializeStruct for Map {
    type Ok = Doc;
    type Error = Error;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
        self.push(key.into(), value.serialize(ToDoc)?);
        Ok(())
    }
    fn end(self) -> Result<Doc, Error> {
        Ok(self.finish())
    }
}

impl ser::SerializeStructVariant for Map {
    type Ok = Doc;
    type Error = Error;
    fn serialize_field<T: Serialize + ?Sized>(&mut self, key: &'static str, value: &T) -> Result<(), Error> {
        ser::SerializeStruct::serialize_field(self, key, value)
    }
    fn end(self) -> Result<Doc, Error> {
        Ok(self.finish())
    }
}
