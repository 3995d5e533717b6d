//! A fault as each protocol words it.

use bytes::Bytes;
use flint_base::RequestId;
use flint_kit::{Body, Doc, Fault, FaultKind};
use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value};

use super::scalar::{self, TimeForm};
use super::{Answer, answer, json, stamp, xml};
use crate::shape::{Kind, Protocol, ServiceModel, Shape};

/// Header members of errors are texts and numbers.
static TEXT: Shape = Shape::new("Text", Kind::Text);

/// Encodes a fault of `service` (none if the request named no service that we know).
pub fn encode(protocol: Protocol, service: Option<&ServiceModel>, fault: &Fault, id: RequestId) -> Answer {
    let mut answer = match protocol {
        Protocol::RestJson => rest_json(service, fault),
        Protocol::Json10 => aws_json(service, fault, "application/x-amz-json-1.0"),
        Protocol::Json11 => aws_json(service, fault, "application/x-amz-json-1.1"),
        Protocol::Query => query(service, fault, id),
    };
    let headers = service.and_then(|s| s.error(&fault.code)).map_or(&[][..], |e| e.headers);
    for (member, header) in headers {
        let value = fault.fields.iter().find(|(name, _)| name == member).map(|(_, value)| value);
        let text = value.and_then(|v| scalar::write(&TEXT, v, TimeForm::Http));
        if let Some(value) = text.and_then(|t| HeaderValue::try_from(t).ok()) {
            answer.headers_mut().insert(HeaderName::from_static(header), value);
        }
    }
    stamp(&mut answer, id);
    answer
}

/// `x-amzn-ErrorType` names the code; Lambda's errors say whose fault it was in `Type`.
fn rest_json(service: Option<&ServiceModel>, fault: &Fault) -> Answer {
    let mut body = members(service, fault);
    let typed = service.and_then(|s| s.error(&fault.code)).is_some_and(|e| e.typed);
    if typed && !body.contains_key("Type") {
        let whose = if fault.kind == FaultKind::Server { "Service" } else { "User" };
        body.insert("Type".to_owned(), Value::from(whose));
    }
    let mut answer = answer(fault.status, Some("application/json"), whole(&body));
    if let Ok(code) = HeaderValue::from_str(&fault.code) {
        answer.headers_mut().insert(HeaderName::from_static("x-amzn-errortype"), code);
    }
    answer
}

fn aws_json(service: Option<&ServiceModel>, fault: &Fault, content_type: &'static str) -> Answer {
    let mut body = members(service, fault);
    let beside = service.filter(|s| !s.error_namespace.is_empty());
    let code = beside.map_or_else(|| fault.code.to_string(), |s| qualified(s, &fault.code));
    body.insert("__type".to_owned(), Value::from(code));
    let mut answer = answer(fault.status, Some(content_type), whole(&body));
    if let Some(service) = beside {
        let whose = if fault.kind == FaultKind::Server { "Receiver" } else { "Sender" };
        if let Ok(value) = HeaderValue::try_from(format!("{};{whose}", query_code(Some(service), &fault.code))) {
            answer.headers_mut().insert(HeaderName::from_static("x-amzn-query-error"), value);
        }
    }
    answer
}

/// `com.amazonaws.sqs#QueueDoesNotExist`; what the model does not know belongs to the framework.
fn qualified(service: &ServiceModel, code: &str) -> String {
    match service.error(code) {
        Some(_) => format!("{}{code}", service.error_namespace),
        None if code.ends_with("Exception") => format!("com.amazon.coral.service#{code}"),
        None => format!("com.amazon.coral.service#{code}Exception"),
    }
}

fn query(service: Option<&ServiceModel>, fault: &Fault, id: RequestId) -> Answer {
    let mut out = String::with_capacity(256);
    xml::open_with_namespace("ErrorResponse", service.map_or("", |s| s.xml_namespace), &mut out);
    xml::open("Error", &mut out);
    xml::element("Type", if fault.kind == FaultKind::Server { "Receiver" } else { "Sender" }, &mut out);
    xml::element("Code", query_code(service, &fault.code), &mut out);
    xml::element("Message", &fault.message, &mut out);
    xml::close("Error", &mut out);
    xml::element("RequestId", &id.to_string(), &mut out);
    xml::close("ErrorResponse", &mut out);
    answer(fault.status, Some("text/xml"), Body::Whole(Bytes::from(out)))
}

/// The code as Query has it. Codes that services of every protocol share end in `Exception` on the JSON protocols alone.
fn query_code<'a>(service: Option<&ServiceModel>, code: &'a str) -> &'a str {
    let own = service.and_then(|s| s.error(code)).map_or("", |e| e.query_code);
    match code {
        _ if !own.is_empty() => own,
        "AccessDeniedException" => "AccessDenied",
        "ServiceUnavailableException" => "ServiceUnavailable",
        other => other,
    }
}

/// The message under the name that the error's shape gives it, and the fields that travel in the body.
fn members(service: Option<&ServiceModel>, fault: &Fault) -> Map<String, Value> {
    let model = service.and_then(|s| s.error(&fault.code));
    let mut body = Map::new();
    body.insert(model.map_or("message", |m| m.message).to_owned(), Value::from(fault.message.as_str()));
    let in_header = |name: &str| model.is_some_and(|m| m.headers.iter().any(|(member, _)| *member == name));
    for (name, value) in fault.fields.iter().filter(|(name, value)| !in_header(name) && *value != Doc::Null) {
        body.insert(name.to_string(), json::plain(value));
    }
    body
}

fn whole(body: &Map<String, Value>) -> Body {
    Body::Whole(Bytes::from(serde_json::to_vec(body).unwrap_or_default()))
}
