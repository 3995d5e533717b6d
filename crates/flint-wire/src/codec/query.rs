//! The Query protocol: forms in, XML out.

use std::collections::BTreeMap;

use bytes::Bytes;
use flint_base::RequestId;
use flint_kit::{Body, Doc, Fault, Key};
use percent_encoding::percent_decode;

use super::scalar::{self, TimeForm};
use super::{Answer, answer, nothing, serialization, xml};
use crate::shape::{Item, Kind, Member, OperationModel, ServiceModel, Shape, Shapes};

const XML: &str = "text/xml";

/// Deeper names than any model has are refused.
const DEPTH: usize = 32;

/// Parameters of one request; the reference's largest batches stay far below.
const PARAMETERS: usize = 20_000;

/// The names and values of a form, decoded.
pub fn form(body: &[u8]) -> Result<Vec<(String, String)>, Fault> {
    let mut pairs = Vec::new();
    for pair in body.split(|b| *b == b'&').filter(|p| !p.is_empty()) {
        let (name, value) = match pair.iter().position(|b| *b == b'=') {
            Some(at) => (&pair[..at], &pair[at + 1..]),
            None => (pair, &pair[..0]),
        };
        pairs.push((unescape(name)?, unescape(value)?));
        if pairs.len() > PARAMETERS {
            return Err(serialization(format!("The form holds more than {PARAMETERS} parameters.")));
        }
    }
    Ok(pairs)
}

fn unescape(raw: &[u8]) -> Result<String, Fault> {
    let spaced: Vec<u8> = raw.iter().map(|b| if *b == b'+' { b' ' } else { *b }).collect();
    let text = String::from_utf8(percent_decode(&spaced).collect());
    text.map_err(|_| serialization("The form is not UTF-8 text."))
}

/// Decodes the parameters of the body (or, for a GET, of the query string).
pub fn decode(shape: &Shape, body: &[u8], query: &str) -> Result<Doc, Fault> {
    let raw = if body.is_empty() { query.as_bytes() } else { body };
    let mut root = Node::default();
    for (name, value) in form(raw)? {
        root.insert(&name, value)?;
    }
    match root.read(shape)? {
        Some(doc) => Ok(doc),
        None => Ok(nothing()),
    }
}

/// Adds what the path says and the form does not: the queue that `POST /000000000000/orders` is about.
pub fn add_labels(shape: &Shape, doc: &mut Doc, labels: &[(&'static str, String)]) {
    for (name, value) in labels {
        let absent = shape.member(name).is_some() && doc.get(name).is_none();
        if let Doc::Map(members) = doc
            && absent
        {
            members.push((Key::Borrowed(name), Doc::from(value.as_str())));
        }
    }
}

/// A parameter's name is a path: `Tags.member.1.Key`.
#[derive(Default)]
struct Node {
    value: Option<String>,
    children: BTreeMap<String, Node>,
}

impl Node {
    fn insert(&mut self, name: &str, value: String) -> Result<(), Fault> {
        let mut node = self;
        for (depth, part) in name.split('.').enumerate() {
            if depth >= DEPTH {
                return Err(serialization("A parameter's name has too many parts."));
            }
            node = node.children.entry(part.to_owned()).or_default();
        }
        if node.value.replace(value).is_some() {
            return Err(serialization("The form holds a parameter more than once."));
        }
        Ok(())
    }

    fn read(&self, shape: &Shape) -> Result<Option<Doc>, Fault> {
        match shape.kind {
            Kind::Structure(members) => self.structure(members),
            Kind::List(item) => {
                let holder = if item.flattened { Some(self) } else { self.children.get(item.wire) };
                match holder {
                    Some(holder) => holder.list(item).map(Some),
                    // `Tags=` is the protocol's empty list.
                    None => Ok(self.value.as_deref().filter(|v| v.is_empty()).map(|_| Doc::List(Vec::new()))),
                }
            }
            Kind::Map(kind) => {
                let holder = if kind.flattened { Some(self) } else { self.children.get("entry") };
                let Some(holder) = holder else { return Ok(None) };
                let mut entries: Vec<(Key, Doc)> = Vec::new();
                for (_, node) in holder.numbered()? {
                    let key = node.children.get(kind.key_wire).and_then(|n| n.value.clone());
                    let value = node.children.get(kind.value_wire).map(|n| n.read(kind.value)).transpose()?.flatten();
                    entries.push((Key::Owned(key.unwrap_or_default()), value.unwrap_or_default()));
                }
                Ok(Some(Doc::Map(entries)))
            }
            _ => self.value.as_deref().map(|text| scalar::read(shape, text)).transpose(),
        }
    }

    fn structure(&self, members: &'static [Member]) -> Result<Option<Doc>, Fault> {
        let mut values = Vec::new();
        for member in members {
            // `Entries=` is an empty list, also where the items go by a name of their own.
            let empty = || self.children.get(member.wire).filter(|node| node.value.as_deref() == Some(""));
            if let Some(node) = self.children.get(wire(member)).or_else(empty)
                && let Some(value) = node.read(member.shape)?
            {
                values.push((Key::Borrowed(member.name), value));
            }
        }
        Ok((!values.is_empty()).then_some(Doc::Map(values)))
    }

    fn list(&self, item: &Item) -> Result<Doc, Fault> {
        let items = self.numbered()?.into_iter().map(|(_, node)| Ok(node.read(item.shape)?.unwrap_or_default()));
        Ok(Doc::List(items.collect::<Result<_, Fault>>()?))
    }

    /// The children in the order of their numbers.
    fn numbered(&self) -> Result<Vec<(u32, &Node)>, Fault> {
        let numbers = self.children.iter().map(|(name, node)| Some((name.parse::<u32>().ok()?, node)));
        let mut numbered: Vec<_> =
            numbers.collect::<Option<_>>().ok_or_else(|| serialization("A list's parameters are numbered from 1."))?;
        numbered.sort_by_key(|(number, _)| *number);
        Ok(numbered)
    }
}

/// The name of a member: a flattened list goes by its items' name, a flattened map by its entries'.
pub(crate) fn wire(member: &Member) -> &'static str {
    match member.shape.kind {
        Kind::List(item) if item.flattened && item.wire != "member" => item.wire,
        Kind::Map(kind) if kind.flattened && !kind.wire.is_empty() => kind.wire,
        _ => member.wire,
    }
}

/// Encodes a success as `<XResponse><XResult>..</XResult><ResponseMetadata>..`.
pub fn encode(service: &ServiceModel, operation: &OperationModel, shapes: &Shapes, doc: &Doc, id: RequestId) -> Answer {
    let mut out = String::with_capacity(512);
    let response = format!("{}Response", operation.name);
    xml::open_with_namespace(&response, service.xml_namespace, &mut out);
    if shapes.result_wrapper.is_empty() {
        members(shapes.output, doc, &mut out);
    } else {
        xml::open(shapes.result_wrapper, &mut out);
        members(shapes.output, doc, &mut out);
        xml::close(shapes.result_wrapper, &mut out);
    }
    xml::open("ResponseMetadata", &mut out);
    xml::element("RequestId", &id.to_string(), &mut out);
    xml::close("ResponseMetadata", &mut out);
    xml::close(&response, &mut out);
    answer(200, Some(XML), Body::Whole(Bytes::from(out)))
}

fn members(shape: &Shape, doc: &Doc, out: &mut String) {
    for member in shape.members() {
        if let Some(value) = doc.get(member.name) {
            element(wire(member), member.shape, value, out);
        }
    }
}

fn element(name: &str, shape: &Shape, value: &Doc, out: &mut String) {
    match (value, &shape.kind) {
        (Doc::Null, _) => {}
        (Doc::Map(_), Kind::Structure(_)) => {
            xml::open(name, out);
            members(shape, value, out);
            xml::close(name, out);
        }
        (Doc::List(items), Kind::List(item)) if item.flattened => {
            let name = if item.wire == "member" { name } else { item.wire };
            items.iter().for_each(|value| element(name, item.shape, value, out));
        }
        (Doc::List(items), Kind::List(item)) => {
            xml::open(name, out);
            items.iter().for_each(|value| element(item.wire, item.shape, value, out));
            xml::close(name, out);
        }
        (Doc::Map(entries), Kind::Map(kind)) => {
            let entry = if kind.flattened { name } else { "entry" };
            if !kind.flattened {
                xml::open(name, out);
            }
            for (key, value) in entries {
                xml::open(entry, out);
                xml::element(kind.key_wire, key, out);
                element(kind.value_wire, kind.value, value, out);
                xml::close(entry, out);
            }
            if !kind.flattened {
                xml::close(name, out);
            }
        }
        (value, _) => {
            if let Some(text) = scalar::write(shape, value, TimeForm::Iso) {
                xml::element(name, &text, out);
            }
        }
    }
}
