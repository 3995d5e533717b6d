//! The protocols: a request's bytes to an [`Input`], an [`Output`] or a [`Fault`] to an answer's bytes.
//!
//! Every protocol reads the same tables and ends in the same three steps: what we do not honour is refused by name
//! ([`crate::served`]), the rest is validated with the service's wording ([`crate::validate`]), and a document goes on.
//! Reading order: [`json`], [`rest`], [`query`], [`events`], [`fault`].

pub mod events;
pub mod fault;
pub mod json;
pub mod query;
pub mod rest;
pub mod scalar;
pub mod xml;

use bytes::Bytes;
use flint_base::RequestId;
use flint_kit::{Body, Doc, Fault, Input, Output};
use http::header::{CONTENT_TYPE, HeaderName};
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::shape::{OperationModel, Protocol, ServiceModel, Shapes};
use crate::{served, validate};

/// The request's parts that a protocol decodes.
#[derive(Debug)]
pub struct Incoming<'a> {
    pub headers: &'a HeaderMap,
    /// As sent, without the question mark.
    pub query: &'a str,
    /// The values of the path's labels, decoded, under their member's wire name.
    pub labels: &'a [(&'static str, String)],
    /// With its content coding undone.
    pub body: Bytes,
}

/// An answer before it meets a socket.
pub type Answer = Response<Body>;

/// Decodes, refuses what is not honoured, validates.
///
/// Errors: the service's code for a body that does not parse, `SerializationException` (in Query that code again) for a
/// value of the wrong type,
/// `NotImplemented` (501) for a member that we do not honour, the service's code for values that break a constraint.
pub fn decode(service: &ServiceModel, operation: &OperationModel, incoming: Incoming<'_>) -> Result<Input, Fault> {
    let shapes = shapes(service, operation)?;
    let input = match service.protocol {
        Protocol::RestJson => rest::decode(service, shapes, incoming)?,
        Protocol::Json10 | Protocol::Json11 => Input::from_doc(json::decode(service, shapes.input, &incoming.body)?),
        Protocol::Query => {
            let bent = |fault: Fault| Fault { code: service.malformed_code.into(), ..fault };
            let mut doc = query::decode(shapes.input, &incoming.body, incoming.query).map_err(bent)?;
            query::add_labels(shapes.input, &mut doc, incoming.labels);
            Input::from_doc(doc)
        }
    };
    served::check(service.name, operation.name, shapes.input, &input.doc)?;
    validate::check(service, shapes.input, &input.doc)?;
    Ok(input)
}

/// Encodes a success.
pub fn encode(
    service: &ServiceModel,
    operation: &OperationModel,
    output: Output,
    id: RequestId,
) -> Result<Answer, Fault> {
    let shapes = shapes(service, operation)?;
    let mut answer = match service.protocol {
        Protocol::RestJson => rest::encode(operation, shapes, output)?,
        Protocol::Json10 => json::encode(shapes.output, &output, "application/x-amz-json-1.0")?,
        Protocol::Json11 => json::encode(shapes.output, &output, "application/x-amz-json-1.1")?,
        Protocol::Query => query::encode(service, operation, shapes, &output.doc, id),
    };
    stamp(&mut answer, id);
    Ok(answer)
}

/// The header of the request's id.
pub const REQUEST_ID: HeaderName = HeaderName::from_static("x-amzn-requestid");

pub(crate) fn stamp(answer: &mut Answer, id: RequestId) {
    let id = HeaderValue::from_str(&id.to_string()).expect("a UUID is a legal header value");
    answer.headers_mut().insert(REQUEST_ID, id);
}

pub(crate) fn answer(status: u16, content_type: Option<&'static str>, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Some(content_type) = content_type {
        answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    answer
}

/// A value of the wrong type, or one that can't be read.
pub(crate) fn serialization(message: impl Into<String>) -> Fault {
    Fault::client(400, "SerializationException", message)
}

/// A bug of ours: a service answered something that its own shape can't hold.
pub(crate) fn internal(what: impl Into<String>) -> Fault {
    let source: Box<dyn std::error::Error + Send + Sync> = what.into().into();
    Fault::server(500, "InternalFailure", "internal error").because(source)
}

fn shapes(service: &ServiceModel, operation: &OperationModel) -> Result<&'static Shapes, Fault> {
    let known = service.operation(operation.name).and_then(|o| o.shapes.as_ref());
    known.ok_or_else(|| Fault::not_served(format_args!("{}.{}", service.name, operation.name)))
}

/// An empty structure, for requests without a body.
pub(crate) fn nothing() -> Doc {
    Doc::Map(Vec::new())
}
