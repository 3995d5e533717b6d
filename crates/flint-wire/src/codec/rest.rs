//! REST-JSON: members in the path, the query string, headers, the status and the body.

use bytes::Bytes;
use flint_kit::{Body, Doc, Fault, Input, Key, Output};
use http::{HeaderName, HeaderValue};
use percent_encoding::percent_decode_str;

use super::scalar::{self, TimeForm};
use super::{Answer, Incoming, answer, events, internal, json, serialization};
use crate::shape::{Kind, Member, OperationModel, Place, ServiceModel, Shape, Shapes};

const JSON: &str = "application/json";

pub fn decode(service: &ServiceModel, shapes: &Shapes, incoming: Incoming<'_>) -> Result<Input, Fault> {
    let shape = shapes.input;
    let (mut members, body) = match shape.payload() {
        Some(payload) => payload_of(service, payload, incoming.body.clone())?,
        None if shape.members().iter().any(|m| m.place == Place::Body) => {
            match json::decode(service, shape, &incoming.body)? {
                Doc::Map(members) => (members, None),
                _ => return Err(serialization("Unexpected value type in payload")),
            }
        }
        None => (Vec::new(), None),
    };
    let query = parse_query(incoming.query)?;
    for member in shape.members() {
        let value = match member.place {
            Place::Body | Place::Payload | Place::Status => None,
            Place::Uri => {
                let label = incoming.labels.iter().find(|(name, _)| *name == member.wire);
                label.map(|(_, text)| scalar::read(member.shape, text)).transpose()?
            }
            Place::Query => query_member(member, &query)?,
            Place::Header => header_member(member, &incoming)?,
            Place::Headers => header_map(member, &incoming)?,
        };
        if let Some(value) = value {
            members.push((Key::Borrowed(member.name), value));
        }
    }
    Ok(Input { doc: Doc::Map(members), body })
}

/// A blob is handed on as it came; a structure is decoded.
type Payload = (Vec<(Key, Doc)>, Option<Body>);

fn payload_of(service: &ServiceModel, member: &'static Member, body: Bytes) -> Result<Payload, Fault> {
    match member.shape.kind {
        Kind::Blob => Ok((Vec::new(), Some(Body::Whole(body)))),
        Kind::Text => {
            let text = std::str::from_utf8(&body).map_err(|_| serialization("The body is not UTF-8 text."))?;
            Ok((vec![(Key::Borrowed(member.name), Doc::Text(text.to_owned()))], None))
        }
        _ if body.is_empty() => Ok((Vec::new(), None)),
        _ => Ok((vec![(Key::Borrowed(member.name), json::decode(service, member.shape, &body)?)], None)),
    }
}

/// Names and values of a query string, decoded. A plus sign is a plus sign, as in the canonical request.
pub(crate) fn parse_query(raw: &str) -> Result<Vec<(String, String)>, Fault> {
    let decode = |text: &str| {
        let text = percent_decode_str(text).decode_utf8();
        text.map(|t| t.into_owned()).map_err(|_| serialization("The query string is not UTF-8 text."))
    };
    let pairs = raw.split('&').filter(|p| !p.is_empty());
    pairs.map(|pair| pair.split_once('=').unwrap_or((pair, ""))).map(|(n, v)| Ok((decode(n)?, decode(v)?))).collect()
}

fn query_member(member: &Member, query: &[(String, String)]) -> Result<Option<Doc>, Fault> {
    let mut values = query.iter().filter(|(name, _)| name == member.wire).map(|(_, value)| value);
    if let Kind::List(item) = member.shape.kind {
        let items: Vec<Doc> = values.map(|v| scalar::read(item.shape, v)).collect::<Result<_, _>>()?;
        return Ok((!items.is_empty()).then_some(Doc::List(items)));
    }
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(serialization(format!("The query string holds '{}' more than once.", member.wire)));
    }
    scalar::read(member.shape, value).map(Some)
}

fn header_member(member: &Member, incoming: &Incoming<'_>) -> Result<Option<Doc>, Fault> {
    let mut values = incoming.headers.get_all(member.wire).iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(serialization(format!("The request holds the header '{}' more than once.", member.wire)));
    }
    scalar::read(member.shape, header_text(value, member.wire)?).map(Some)
}

fn header_map(member: &Member, incoming: &Incoming<'_>) -> Result<Option<Doc>, Fault> {
    let mut entries = Vec::new();
    for (name, value) in incoming.headers {
        if let Some(key) = name.as_str().strip_prefix(member.wire) {
            entries.push((Key::Owned(key.to_owned()), Doc::Text(header_text(value, name.as_str())?.to_owned())));
        }
    }
    Ok((!entries.is_empty()).then_some(Doc::Map(entries)))
}

fn header_text<'a>(value: &'a HeaderValue, name: &str) -> Result<&'a str, Fault> {
    std::str::from_utf8(value.as_bytes()).map_err(|_| serialization(format!("The header '{name}' is not UTF-8 text.")))
}

pub fn encode(operation: &OperationModel, shapes: &Shapes, output: Output) -> Result<Answer, Fault> {
    let Output { doc, body, status } = output;
    let shape = shapes.output;
    let named = shape.members().iter().find(|m| m.place == Place::Status).and_then(|m| doc.int_of(m.name));
    let status = status.or(named.and_then(|n| u16::try_from(n).ok())).unwrap_or(operation.status);
    let streams = matches!(body, Some(Body::Events(_)));
    let body = match shape.payload() {
        Some(payload) => match (body, doc.get(payload.name)) {
            (Some(Body::Events(stream)), _) => events::encode(payload.shape, stream),
            (Some(body), _) => body,
            (None, Some(Doc::Blob(bytes))) => Body::Whole(bytes.clone()),
            (None, Some(Doc::Text(text))) => Body::Whole(Bytes::from(text.clone())),
            (None, Some(value)) => Body::Whole(json::render(payload.shape, value)?),
            (None, None) => Body::empty(),
        },
        None if status == 204 || !shape.members().iter().any(|m| m.place == Place::Body) => Body::empty(),
        None => Body::Whole(json::render(shape, &doc)?),
    };
    let content_type = if streams { events::CONTENT_TYPE } else { JSON };
    let mut answer = answer(status, (status != 204).then_some(content_type), body);
    headers(shape, &doc, &mut answer)?;
    Ok(answer)
}

fn headers(shape: &Shape, doc: &Doc, answer: &mut Answer) -> Result<(), Fault> {
    for member in shape.members().iter().filter(|m| m.place == Place::Header) {
        let Some(text) = doc.get(member.name).and_then(|v| scalar::write(member.shape, v, TimeForm::Http)) else {
            continue;
        };
        let value = HeaderValue::try_from(text).map_err(|_| internal(format!("{} is no header value", member.name)))?;
        answer.headers_mut().insert(HeaderName::from_static(member.wire), value);
    }
    Ok(())
}
