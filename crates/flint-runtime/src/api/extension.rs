//! HTTP for the Extensions API, on the Runtime API's listener.

use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use hyper::body::Incoming;

use super::Api;
use super::serve::{Answer, Read, accepted, json, not_found, plain, read};
use crate::extensions::Refusal;
use crate::telemetry::{Family, Refused, Request};

pub(super) const BASE: &str = "/2020-01-01/extension/";

/// The APIs by which extensions have logs and telemetry sent to them.
pub(super) const SUBSCRIPTIONS: [&str; 4] =
    ["/2020-08-15/logs", "/2022-07-01/telemetry", "/2020-08-15/logs/", "/2022-07-01/telemetry/"];

const IDENTIFIER: &str = "lambda-extension-identifier";

/// A registration and an error document are small.
const LIMIT: usize = 64 * 1024;

pub(super) async fn handle(api: &Api, path: &str, head: &Parts, body: Incoming) -> Answer {
    let answer = match (path, &head.method) {
        ("register", &Method::POST) => register(api, &head.headers, body).await,
        ("event/next", &Method::GET) => next(api, &head.headers).await,
        ("init/error", &Method::POST) => failed(api, "Extension.InitError", &head.headers, body).await,
        ("exit/error", &Method::POST) => failed(api, "Extension.ExitError", &head.headers, body).await,
        ("register" | "event/next" | "init/error" | "exit/error", _) => {
            Ok(plain(StatusCode::METHOD_NOT_ALLOWED, "method not allowed"))
        }
        _ => Ok(not_found()),
    };
    answer.unwrap_or_else(refused)
}

/// `PUT /2022-07-01/telemetry` and `PUT /2020-08-15/logs`
pub(super) async fn subscribe(api: &Api, head: &Parts, body: Incoming) -> Answer {
    let family = if head.uri.path().contains("logs") { Family::Logs } else { Family::Telemetry };
    if head.method != Method::PUT {
        drop(read(body, 0).await);
        return plain(StatusCode::METHOD_NOT_ALLOWED, "method not allowed");
    }
    let known = async {
        let body = small(body).await?;
        Ok((body, api.extensions.name_of(identifier(&head.headers)?)?))
    };
    let (body, name) = match known.await {
        Ok(known) => known,
        Err(refusal) => return refused(refusal),
    };
    let subscribed = Request::parse(family, &body)
        .map_err(Refused::Invalid)
        .and_then(|request| api.telemetry.as_ref().ok_or(Refused::Closed)?.subscribe(&name, request));
    let (status, kind, message) = match subscribed {
        Ok(()) => return plain(StatusCode::OK, "OK"),
        Err(Refused::Invalid(problems)) => (StatusCode::BAD_REQUEST, "ValidationError", problems),
        Err(Refused::Closed) => {
            (StatusCode::FORBIDDEN, "SubscriptionClosed", "Extensions subscribe during init only".to_owned())
        }
        Err(Refused::OtherApi) => {
            let message = "The extension has subscribed by the other of the Telemetry and Logs APIs";
            (StatusCode::FORBIDDEN, "Extension.AlreadySubscribed", message.to_owned())
        }
    };
    json(status, serde_json::json!({"errorType": kind, "errorMessage": message}).to_string().into())
}

async fn register(api: &Api, headers: &HeaderMap, body: Incoming) -> Result<Answer, Refusal> {
    #[derive(serde::Deserialize)]
    struct Wanted {
        #[serde(default)]
        events: Vec<String>,
    }
    let body = small(body).await?;
    let name = text(headers, "lambda-extension-name").unwrap_or_default();
    let wanted: Wanted = serde_json::from_slice(&body).map_err(|_| Refusal::BadRequest)?;
    let id = api.extensions.register(name, &wanted.events)?;
    let facts = &api.extensions.facts;
    let mut document = serde_json::json!({
        "functionName": facts.function,
        "functionVersion": facts.version,
        "handler": facts.handler,
    });
    let features = text(headers, "lambda-extension-accept-feature").unwrap_or_default();
    if features.split(',').any(|f| f.trim() == "accountId") {
        document["accountId"] = facts.account.clone().into();
    }
    let mut answer = json(StatusCode::OK, document.to_string().into());
    answer.headers_mut().insert(IDENTIFIER, header(&id));
    Ok(answer)
}

async fn next(api: &Api, headers: &HeaderMap) -> Result<Answer, Refusal> {
    let event = api.extensions.next(identifier(headers)?).await?;
    let mut answer = json(StatusCode::OK, event);
    answer.headers_mut().insert("lambda-extension-event-identifier", header(&uuid::Uuid::new_v4().to_string()));
    Ok(answer)
}

async fn failed(api: &Api, kind: &str, headers: &HeaderMap, body: Incoming) -> Result<Answer, Refusal> {
    drop(small(body).await?);
    let error_type = text(headers, "lambda-extension-function-error-type").unwrap_or("Extension.UnknownReason");
    // It goes into a document and a log line.
    let error_type: String = error_type.chars().filter(|c| !c.is_control()).take(256).collect();
    api.extensions.failed(identifier(headers)?, kind, &error_type)?;
    Ok(accepted())
}

async fn small(body: Incoming) -> Result<Bytes, Refusal> {
    match read(body, LIMIT).await {
        Read::Whole(bytes, _) => Ok(bytes),
        Read::TooLarge | Read::Broken => Err(Refusal::BadRequest),
    }
}

fn identifier(headers: &HeaderMap) -> Result<&str, Refusal> {
    text(headers, IDENTIFIER).ok_or(Refusal::MissingIdentifier)
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers.get(name).and_then(|v| v.to_str().ok())
}

fn header(id: &str) -> HeaderValue {
    HeaderValue::from_str(id).expect("a UUID is a legal header value")
}

fn refused(refusal: Refusal) -> Answer {
    use Refusal as R;
    let bad = StatusCode::BAD_REQUEST;
    let forbidden = StatusCode::FORBIDDEN;
    let (status, kind, message) = match refusal {
        R::MissingName => (bad, "Extension.InvalidExtensionName", "Empty extension name"),
        R::BadRequest => (bad, "InvalidRequestFormat", "Could not parse the request"),
        R::BadEvent => (bad, "Extension.InvalidEventType", "INVOKE and SHUTDOWN are the events that there are"),
        R::NoShutdownForInternal => {
            (bad, "ShutdownEventNotSupportedForInternalExtension", "SHUTDOWN is for external extensions")
        }
        R::AlreadyRegistered => (forbidden, "Extension.AlreadyRegistered", "An extension of this name is registered"),
        R::RegistrationClosed => (forbidden, "Extension.RegistrationClosed", "Extensions register during init only"),
        R::TooMany => (forbidden, "Extension.TooManyExtensions", "There are ten extensions already"),
        R::MissingIdentifier => {
            (forbidden, "Extension.MissingExtensionIdentifier", "Missing Lambda-Extension-Identifier header")
        }
        R::UnknownIdentifier => (forbidden, "Extension.UnknownExtensionIdentifier", "Unknown extension"),
        R::WrongState => (forbidden, "Extension.InvalidExtensionState", "State transition is not allowed"),
    };
    json(status, format!(r#"{{"errorMessage":"{message}","errorType":"{kind}"}}"#).into())
}
