//! HTTP/1.1 for the Runtime API. What arrives is written by tenants: every size is bounded, nothing is trusted.

use std::convert::Infallible;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Api, Event, Failure, Refusal, Reported};
use crate::documents;

/// Connections that one sandbox may hold open; a runtime needs one, two while it reconnects.
const CONNECTIONS: usize = 16;

/// Request heads and the chunks in which bodies are read.
const BUFFER: usize = 256 * 1024;

/// A runtime may report this much about an init that failed.
const INIT_ERROR_LIMIT: usize = 1024 * 1024;

/// How far beyond the limit a body is read and thrown away, so that its sender learns why, before the connection closes.
const DISCARD: usize = 64 * 1024 * 1024;

const BASE: &str = "/2018-06-01/runtime/";

type Answer = Response<Full<Bytes>>;

/// Accepts and serves until dropped.
pub(crate) async fn serve(api: Arc<Api>, listener: TcpListener) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    loop {
        // The semaphore is never closed, so acquiring can't fail; ending here is the safe answer if it did.
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                api.touched();
                let api = api.clone();
                connections.spawn(async move {
                    serve_one(api, stream).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "runtime API: accept failed");
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
        while connections.try_join_next().is_some() {}
    }
}

async fn serve_one(api: Arc<Api>, stream: TcpStream) {
    let _ = stream.set_nodelay(true);
    let service = hyper::service::service_fn(move |request| {
        let api = api.clone();
        async move { Ok::<_, Infallible>(handle(&api, request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .max_buf_size(BUFFER)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "runtime API: connection ended");
    }
}

async fn handle(api: &Api, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    let Some(path) = head.uri.path().strip_prefix(BASE) else {
        return if head.uri.path() == "/2018-06-01/ping" { plain(StatusCode::OK, "pong") } else { not_found() };
    };
    match (path, path.strip_prefix("invocation/").and_then(|rest| rest.split_once('/'))) {
        ("invocation/next", _) if head.method == Method::GET => next(api).await,
        ("init/error", _) if head.method == Method::POST => init_error(api, &head.headers, body).await,
        (_, Some((id, "response"))) if head.method == Method::POST => response(api, id, body).await,
        (_, Some((id, "error"))) if head.method == Method::POST => error(api, id, &head.headers, body).await,
        ("invocation/next" | "init/error", _) | (_, Some((_, "response" | "error"))) => {
            plain(StatusCode::METHOD_NOT_ALLOWED, "method not allowed")
        }
        _ => not_found(),
    }
}

async fn next(api: &Api) -> Answer {
    match api.next().await {
        Ok(event) => event_answer(event),
        Err(refusal) => refused(refusal),
    }
}

fn event_answer(event: Event) -> Answer {
    let mut answer = Response::new(Full::new(event.payload));
    let headers = answer.headers_mut();
    let mut set = |name: &'static str, value: &str| {
        // A JSON document may hold line breaks between its tokens, a header may not.
        let value: Vec<u8> = value.bytes().map(|b| if b < 0x20 || b == 0x7f { b' ' } else { b }).collect();
        if let Ok(value) = HeaderValue::from_bytes(&value) {
            headers.insert(name, value);
        }
    };
    set("content-type", "application/json");
    set("lambda-runtime-aws-request-id", &event.id);
    set("lambda-runtime-deadline-ms", &event.deadline.as_millis().to_string());
    set("lambda-runtime-invoked-function-arn", &event.arn);
    if let Some(trace) = &event.trace {
        set("lambda-runtime-trace-id", trace);
    }
    if let Some(context) = &event.client_context {
        set("lambda-runtime-client-context", context);
    }
    answer
}

async fn response(api: &Api, id: &str, body: Incoming) -> Answer {
    let limit = match api.expects(id) {
        Ok(limit) => limit,
        Err(refusal) => return refused_unread(refusal, body).await,
    };
    let _turn = api.turn().await;
    let (reported, status) = match read(body, limit).await {
        Read::Whole(bytes) => (Reported::Response(bytes), accepted()),
        Read::TooLarge => (Reported::TooLarge, too_large(limit)),
        // The runtime went away in the middle of its answer; its end is noticed elsewhere.
        Read::Broken => return bad_request("the body ended early"),
    };
    api.answer(id, reported).map_or_else(refused, |()| status)
}

async fn error(api: &Api, id: &str, headers: &HeaderMap, body: Incoming) -> Answer {
    let limit = match api.expects(id) {
        Ok(limit) => limit,
        Err(refusal) => return refused_unread(refusal, body).await,
    };
    let _turn = api.turn().await;
    let (reported, status) = match read(body, limit).await {
        Read::Whole(bytes) => (Reported::Error(failure(headers, bytes)), accepted()),
        Read::TooLarge => (Reported::TooLarge, too_large(limit)),
        Read::Broken => return bad_request("the body ended early"),
    };
    api.answer(id, reported).map_or_else(refused, |()| status)
}

async fn init_error(api: &Api, headers: &HeaderMap, body: Incoming) -> Answer {
    let _turn = api.turn().await;
    match read(body, INIT_ERROR_LIMIT).await {
        Read::Whole(bytes) => api.init_failed(failure(headers, bytes)).map_or_else(refused, |()| accepted()),
        Read::TooLarge => too_large(INIT_ERROR_LIMIT),
        Read::Broken => bad_request("the body ended early"),
    }
}

/// The header names the type; where it is missing the document does.
fn failure(headers: &HeaderMap, document: Bytes) -> Failure {
    #[derive(serde::Deserialize)]
    struct Named {
        #[serde(rename = "errorType")]
        error_type: String,
    }
    let named = match headers.get("lambda-runtime-function-error-type").and_then(|v| v.to_str().ok()) {
        Some(name) => Some(name.to_owned()),
        None => serde_json::from_slice::<Named>(&document).ok().map(|n| n.error_type),
    };
    let legal = |name: &String| {
        (1..=256).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-:".contains(&b))
    };
    Failure { error_type: named.filter(legal).unwrap_or_else(|| documents::UNKNOWN.to_owned()), document }
}

enum Read {
    Whole(Bytes),
    TooLarge,
    Broken,
}

async fn read(mut body: Incoming, limit: usize) -> Read {
    let mut bytes = BytesMut::new();
    let mut first = None;
    let mut total = 0usize;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Read::Broken };
        let Ok(data) = frame.into_data() else { continue };
        total = total.saturating_add(data.len());
        if total > limit {
            bytes = BytesMut::new();
            first = None;
            if total > limit.saturating_add(DISCARD) {
                break;
            }
        } else if first.is_none() && bytes.is_empty() {
            // The usual small answer arrives in one piece and is passed on without a copy.
            first = Some(data);
        } else {
            if let Some(first) = first.take() {
                bytes.extend_from_slice(&first);
            }
            bytes.extend_from_slice(&data);
        }
    }
    if total > limit { Read::TooLarge } else { Read::Whole(first.unwrap_or_else(|| bytes.freeze())) }
}

/// Takes the body off the wire first, so that the refusal is read and not lost in a reset connection.
async fn refused_unread(refusal: Refusal, body: Incoming) -> Answer {
    let _ = read(body, 0).await;
    refused(refusal)
}

fn refused(refusal: Refusal) -> Answer {
    match refusal {
        Refusal::UnknownId => json(
            StatusCode::BAD_REQUEST,
            r#"{"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}"#.into(),
        ),
        Refusal::WrongState => json(
            StatusCode::FORBIDDEN,
            r#"{"errorMessage":"State transition is not allowed","errorType":"InvalidStateTransition"}"#.into(),
        ),
    }
}

fn accepted() -> Answer {
    json(StatusCode::ACCEPTED, Bytes::from_static(br#"{"status":"OK"}"#))
}

fn too_large(limit: usize) -> Answer {
    let text = format!(
        r#"{{"errorMessage":"Exceeded maximum allowed payload size ({limit} bytes).","errorType":"RequestEntityTooLarge"}}"#
    );
    json(StatusCode::PAYLOAD_TOO_LARGE, text.into())
}

fn bad_request(what: &str) -> Answer {
    json(StatusCode::BAD_REQUEST, format!(r#"{{"errorMessage":"{what}","errorType":"InvalidRequest"}}"#).into())
}

fn not_found() -> Answer {
    plain(StatusCode::NOT_FOUND, "404 page not found\n")
}

fn json(status: StatusCode, body: Bytes) -> Answer {
    with_type(status, body, "application/json")
}

fn plain(status: StatusCode, body: &'static str) -> Answer {
    with_type(status, Bytes::from_static(body.as_bytes()), "text/plain; charset=utf-8")
}

fn with_type(status: StatusCode, body: Bytes, content_type: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
