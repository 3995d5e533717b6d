//! HTTP/1.1 for the Runtime API. What arrives is written by tenants: every size is bounded, nothing is trusted.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::extension;
use super::{Api, Event, Failure, Outlet, Refusal, Reported, StreamFault};
use crate::documents;
use crate::stream::StreamHead;

/// Connections that one sandbox may hold open; a runtime needs one, two while it reconnects, and so does each of at most
/// ten extensions.
const CONNECTIONS: usize = 64;

/// Connections that a sandbox may make in a second; a runtime that makes a new one for each request makes about two a call.
const PER_SECOND: u32 = 1000;

/// Request heads and the chunks in which bodies are read: of the first connections, which are the runtime's and its
/// extensions', and of all further ones, so that a sandbox can't make the server hold 16 MiB of half heads.
const BUFFER: usize = 256 * 1024;
const BUFFERED: usize = 12;
const SMALL_BUFFER: usize = 16 * 1024;

/// A runtime may report this much about an init that failed.
const INIT_ERROR_LIMIT: usize = 1024 * 1024;

/// How far beyond the limit a body is read and thrown away, so that its sender learns why, before the connection closes.
const DISCARD: usize = 64 * 1024 * 1024;

const BASE: &str = "/2018-06-01/runtime/";

pub(super) type Answer = Response<Full<Bytes>>;

/// Accepts and serves until dropped.
pub(crate) async fn serve(api: Arc<Api>, listener: TcpListener) {
    let slots = Arc::new(Semaphore::new(CONNECTIONS));
    let mut connections = JoinSet::new();
    let mut pace = Pace::default();
    loop {
        // The semaphore is never closed, so acquiring can't fail; ending here is the safe answer if it did.
        let Ok(slot) = slots.clone().acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let _ = stream.set_nodelay(true);
                api.touched();
                let buffer = if slots.available_permits() >= CONNECTIONS - BUFFERED { BUFFER } else { SMALL_BUFFER };
                let api = api.clone();
                connections.spawn(async move {
                    serve_one(api, stream, buffer).await;
                    drop(slot);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "runtime API: accept failed");
                tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            }
        }
        while connections.try_join_next().is_some() {}
        pace.one().await;
    }
}

/// Slows down who connects over and over, before it keeps the server busy.
#[derive(Default)]
struct Pace {
    since: Option<tokio::time::Instant>,
    count: u32,
}

impl Pace {
    /// After each connection.
    async fn one(&mut self) {
        self.count += 1;
        if self.count < PER_SECOND {
            return;
        }
        let began = self.since.replace(tokio::time::Instant::now());
        self.count = 0;
        if let Some(rest) = began.and_then(|began| Duration::from_secs(1).checked_sub(began.elapsed())) {
            tokio::time::sleep(rest).await;
        }
    }
}

/// Serves one connection to its end.
pub(super) async fn serve_one<S>(api: Arc<Api>, stream: S, buffer: usize)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let service = hyper::service::service_fn(move |request| {
        let api = api.clone();
        async move { Ok::<_, Infallible>(handle(&api, request).await) }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .max_buf_size(buffer)
        .serve_connection(TokioIo::new(stream), service)
        .await;
    if let Err(error) = served {
        tracing::debug!(%error, "runtime API: connection ended");
    }
}

async fn handle(api: &Api, request: Request<Incoming>) -> Answer {
    let answer = route(api, request).await;
    // What brings a call on is told by its status: an event (200 with a body of any size), or an answer taken (202).
    if answer.status().is_client_error() || answer.extensions().get::<Idle>().is_some() {
        api.stray().await;
    }
    answer
}

/// Marks an answer to a request that asked for nothing.
#[derive(Clone, Copy)]
struct Idle;

async fn route(api: &Api, request: Request<Incoming>) -> Answer {
    let (head, body) = request.into_parts();
    if let Some(path) = head.uri.path().strip_prefix(extension::BASE) {
        return extension::handle(api, path, &head, body).await;
    }
    if extension::SUBSCRIPTIONS.contains(&head.uri.path()) {
        return extension::subscribe(api, &head, body).await;
    }
    let Some(path) = head.uri.path().strip_prefix(BASE) else {
        return if head.uri.path() == "/2018-06-01/ping" { pong() } else { not_found() };
    };
    match (path, path.strip_prefix("invocation/").and_then(|rest| rest.split_once('/'))) {
        ("invocation/next", _) if head.method == Method::GET => next(api).await,
        ("init/error", _) if head.method == Method::POST => init_error(api, &head.headers, body).await,
        (_, Some((id, "response"))) if head.method == Method::POST => response(api, id, &head.headers, body).await,
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
        let value = HeaderValue::from_str(value).or_else(|_| {
            // A JSON document may hold line breaks between its tokens, a header may not.
            let value: Vec<u8> = value.bytes().map(|b| if b < 0x20 || b == 0x7f { b' ' } else { b }).collect();
            HeaderValue::from_bytes(&value)
        });
        if let Ok(value) = value {
            headers.insert(HeaderName::from_static(name), value);
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

/// How a runtime says whether its answer is a stream.
const RESPONSE_MODE: &str = "lambda-runtime-function-response-mode";

const ERROR_TYPE: &str = "lambda-runtime-function-error-type";

/// In the trailers of a stream that failed: the error document in base64.
const ERROR_BODY: &str = "lambda-runtime-function-error-body";

async fn response(api: &Api, id: &str, headers: &HeaderMap, body: Incoming) -> Answer {
    let limit = match api.expects(id) {
        Ok(limit) => limit,
        Err(refusal) => return refused_unread(refusal, body).await,
    };
    let streaming = match headers.get(RESPONSE_MODE).map(HeaderValue::as_bytes) {
        None => false,
        Some(mode) if mode.eq_ignore_ascii_case(b"streaming") => true,
        Some(mode) if mode.eq_ignore_ascii_case(b"buffered") => false,
        Some(_) => {
            drop(read(body, 0).await);
            return bad_request("the response mode is neither streaming nor buffered");
        }
    };
    let _turn = api.turn().await;
    if streaming {
        match api.begin_stream(id) {
            Ok(Some(outlet)) => return stream(api, id, headers, body, outlet).await,
            // The caller takes an answer in one piece only.
            Ok(None) => {}
            Err(refusal) => return refused_unread(refusal, body).await,
        }
    }
    let (reported, status) = match read(body, limit).await {
        Read::Whole(bytes, trailers) => match failure_in(&trailers).filter(|_| streaming) {
            Some(failure) => (Reported::Error(failure), accepted()),
            None => (Reported::Response(bytes), accepted()),
        },
        Read::TooLarge => (Reported::TooLarge, too_large(limit)),
        // The runtime went away in the middle of its answer; its end is noticed elsewhere.
        Read::Broken => return bad_request("the body ended early"),
    };
    api.answer(id, reported).map_or_else(refused, |()| status)
}

/// Passes the body on as it comes. Waits while the caller has no room, and the runtime with it.
async fn stream(api: &Api, id: &str, headers: &HeaderMap, mut body: Incoming, mut outlet: Outlet) -> Answer {
    let content_type = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    outlet.to.begin(StreamHead { content_type: content_type.unwrap_or("application/octet-stream").to_owned() });
    let mut total = 0usize;
    let end = loop {
        let Some(frame) = body.frame().await else { break Ok(()) };
        let Ok(frame) = frame else { break Err(StreamFault::Truncated) };
        match frame.into_data() {
            Ok(data) => {
                total = total.saturating_add(data.len());
                if total > outlet.limit {
                    break Err(StreamFault::TooLarge);
                }
                outlet.to.send(data).await;
            }
            Err(frame) => {
                if let Some(failure) = frame.trailers_ref().and_then(failure_in) {
                    break Err(StreamFault::Function(failure));
                }
            }
        }
    };
    let limit = outlet.limit;
    // The caller sees the end of the stream before it hears how the call ended.
    drop(outlet);
    let answer = match &end {
        Ok(()) | Err(StreamFault::Function(_)) => accepted(),
        Err(StreamFault::TooLarge) => too_large(limit),
        Err(StreamFault::Truncated) => bad_request("the body ended early"),
    };
    api.streamed(id, end.clone());
    if end == Err(StreamFault::TooLarge) {
        drop(read(body, 0).await);
    }
    answer
}

/// The error that a stream's trailers tell of.
fn failure_in(trailers: &HeaderMap) -> Option<Failure> {
    if !trailers.contains_key(ERROR_TYPE) && !trailers.contains_key(ERROR_BODY) {
        return None;
    }
    let encoded = trailers.get(ERROR_BODY).map_or(&b""[..], HeaderValue::as_bytes);
    let document = BASE64_STANDARD.decode(encoded).unwrap_or_else(|_| encoded.to_vec());
    Some(failure(trailers, document.into()))
}

async fn error(api: &Api, id: &str, headers: &HeaderMap, body: Incoming) -> Answer {
    let limit = match api.expects(id) {
        Ok(limit) => limit,
        Err(refusal) => return refused_unread(refusal, body).await,
    };
    let _turn = api.turn().await;
    let (reported, status) = match read(body, limit).await {
        Read::Whole(bytes, _) => (Reported::Error(failure(headers, bytes)), accepted()),
        Read::TooLarge => (Reported::TooLarge, too_large(limit)),
        Read::Broken => return bad_request("the body ended early"),
    };
    api.answer(id, reported).map_or_else(refused, |()| status)
}

async fn init_error(api: &Api, headers: &HeaderMap, body: Incoming) -> Answer {
    let _turn = api.turn().await;
    match read(body, INIT_ERROR_LIMIT).await {
        Read::Whole(bytes, _) => api.init_failed(failure(headers, bytes)).map_or_else(refused, |()| accepted()),
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
    let named = match headers.get(ERROR_TYPE).and_then(|v| v.to_str().ok()) {
        Some(name) => Some(name.to_owned()),
        None => serde_json::from_slice::<Named>(&document).ok().map(|n| n.error_type),
    };
    let legal = |name: &String| {
        (1..=256).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-:".contains(&b))
    };
    Failure { error_type: named.filter(legal).unwrap_or_else(|| documents::UNKNOWN.to_owned()), document }
}

pub(super) enum Read {
    /// With the trailers, mostly none.
    Whole(Bytes, HeaderMap),
    TooLarge,
    Broken,
}

pub(super) async fn read(mut body: Incoming, limit: usize) -> Read {
    let mut bytes = BytesMut::new();
    let mut first = None;
    let mut trailers = HeaderMap::new();
    let mut total = 0usize;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return Read::Broken };
        let data = match frame.into_data() {
            Ok(data) => data,
            Err(frame) => {
                trailers = frame.into_trailers().unwrap_or_default();
                continue;
            }
        };
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
    if total > limit { Read::TooLarge } else { Read::Whole(first.unwrap_or_else(|| bytes.freeze()), trailers) }
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

pub(super) fn accepted() -> Answer {
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

fn pong() -> Answer {
    let mut answer = plain(StatusCode::OK, "pong");
    answer.extensions_mut().insert(Idle);
    answer
}

pub(super) fn not_found() -> Answer {
    plain(StatusCode::NOT_FOUND, "404 page not found\n")
}

pub(super) fn json(status: StatusCode, body: Bytes) -> Answer {
    with_type(status, body, "application/json")
}

pub(super) fn plain(status: StatusCode, body: &'static str) -> Answer {
    with_type(status, Bytes::from_static(body.as_bytes()), "text/plain; charset=utf-8")
}

fn with_type(status: StatusCode, body: Bytes, content_type: &'static str) -> Answer {
    let mut answer = Response::new(Full::new(body));
    *answer.status_mut() = status;
    answer.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    answer
}
