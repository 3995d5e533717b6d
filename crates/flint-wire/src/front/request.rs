//! One request, from its head to its answer.

use std::sync::Arc;

use bytes::Bytes;
use flint_base::{RequestId, Timestamp};
use flint_kit::{Ctx, Fault, Input, Output, Running, Switchboard};
use flint_model::{Place, Trace, trace};
use http::Request;
use http::request::Parts;

use super::body::{self, Arrived, Budget};
use super::enduring::Enduring;
use super::roll::Visit;
use super::{FrontOptions, Limits, health, target};
use crate::codec::{self, Answer, Incoming};
use crate::gate::{Gate, host_of, scope_of};
use crate::links;
use crate::route::{self, Call, Route};
use crate::shape::{Protocol, ServiceModel};
use crate::sigv4::{Claim, Expected, Refusal, Verified, canonical};

/// Bodies of requests that go nowhere.
const STRAY_BODY: usize = 1 << 20;

/// A larger body, or one of unknown length, is waited for and held only if the key that signed it exists: who has none
/// can't fill the memory that is set aside for bodies.
const STRANGERS_BODY: u64 = 64 << 10;

/// Larger bodies are parsed on a thread of their own.
const INLINE_BODY: usize = 256 << 10;

/// Where a request came in.
#[derive(Debug)]
pub(super) struct Door {
    /// The listener's own.
    pub(super) port: u16,
    /// What runs in the execution environment that it belongs to; none: it came from outside.
    pub(super) inside: Option<Arc<dyn Running>>,
    /// What bodies that come in here may hold.
    pub(super) budget: Arc<Budget>,
}

impl Door {
    /// The trace header of a call that says `said`: in an environment the running event decides, not the function.
    fn trace(&self, said: Option<&str>) -> Option<Arc<str>> {
        match self.inside.as_ref().and_then(|inside| inside.trace()) {
            Some(own) => Some(trace::bound(&own, said)),
            None => said.map(Arc::from),
        }
    }
}

/// A fault and the words to tell it in.
struct Refused {
    protocol: Protocol,
    service: Option<&'static ServiceModel>,
    fault: Fault,
}

/// What is known of a request on its way.
struct Way<'a> {
    id: RequestId,
    /// Service and operation, once they are known.
    what: Option<(&'static str, &'static str)>,
    visit: &'a mut Visit,
}

/// Answers one request that came through `door`; `visit` is told when all of the request has come.
pub(super) async fn answer<B>(options: &FrontOptions, door: &Door, request: Request<B>, visit: &mut Visit) -> Answer
where
    B: http_body::Body<Data = Bytes>,
{
    let id = RequestId::random();
    let started = options.clock.monotonic();
    let (head, body) = request.into_parts();
    let mut way = Way { id, what: None, visit };
    let answer = match serve(options, door, &head, body, &mut way).await {
        Ok(answer) => answer,
        Err(refused) => {
            log_source(&refused.fault, id);
            codec::fault::encode(refused.protocol, refused.service, &refused.fault, id)
        }
    };
    let took = options.clock.monotonic().saturating_sub(started);
    let (service, operation) = way.what.unwrap_or((head.method.as_str(), head.uri.path()));
    tracing::debug!(
        request_id = %id, service, operation, status = answer.status().as_u16(),
        ms = took.as_secs_f64() * 1e3, "request"
    );
    answer
}

/// The way in, station by station.
async fn serve<B>(
    options: &FrontOptions,
    door: &Door,
    head: &Parts,
    body: B,
    way: &mut Way<'_>,
) -> Result<Answer, Refused>
where
    B: http_body::Body<Data = Bytes>,
{
    let id = way.id;
    let received = options.clock.now();
    let route = route::route(head);
    let told = (route.protocol(), route.service());
    let refused = |fault: Fault| Refused { protocol: told.0, service: told.1, fault };

    bounded(head, &options.limits).map_err(refused)?;
    // A web page must not even learn whether we are here.
    if let Gate::Dev(dev) = &options.gate {
        dev.origin(head, door.port)
            .map_err(|shut| refused(Fault::client(403, "AccessDeniedException", shut.to_string())))?;
    }
    target::check(head).map_err(|why| refused(Fault::client(400, "MalformedHttpRequestException", why)))?;
    if let Some(mut answer) = health::answer(head, &*options.health) {
        codec::stamp(&mut answer, id);
        return Ok(answer);
    }
    if let Some(downloads) = &options.downloads
        && let Some(sent) = links::answer(head, downloads, received).await
    {
        let refused = |fault| Refused { protocol: Protocol::Query, service: None, fault };
        let mut answer = sent.map_err(refused)?;
        codec::stamp(&mut answer, id);
        return Ok(answer);
    }
    let claim = claim(options, head, &route, received).map_err(|r| refused(r.fault(told.0)))?;

    if body.size_hint().upper().is_none_or(|n| n > STRANGERS_BODY) && !claim.is_known(&options.gate) {
        return Err(refused(Refusal::Unrecognized.fault(told.0)));
    }

    let (limit, name) = match &route {
        Route::Operation(call) => (call.operation.body_limit, call.operation.name),
        // Which operation it is stands in the body.
        Route::Form(Some(service)) => {
            (service.operations.iter().map(|o| o.body_limit).fold(STRAY_BODY, usize::max), "")
        }
        _ => (STRAY_BODY, ""),
    };
    let hashed = matches!(claim, Admission::Claimed(_));
    let arrived = body::read(&head.headers, body, limit, &options.limits, &door.budget, hashed).await;
    way.visit.runs();
    let Arrived { bytes, hash, held } = arrived.map_err(|e| refused(e.fault(name)))?;
    let caller = claim.admit(options, head, hash.as_deref().unwrap_or("")).map_err(|r| refused(r.fault(told.0)))?;

    // From here on the caller is known.
    let call = match route {
        Route::Operation(call) => call,
        Route::Miss { fault, .. } => return Err(refused(fault)),
        Route::Form(service) => {
            let query = head.uri.query().unwrap_or("");
            route::by_form(service, &scope_of(head), &bytes, query, head.uri.path()).map_err(refused)?
        }
    };
    way.what = Some((call.service.name, call.operation.name));
    let told = (call.service.protocol, Some(call.service));
    let refused = |fault: Fault| Refused { protocol: told.0, service: told.1, fault };
    let input = decode(&options.switchboard, &call, head, bytes).await.map_err(refused)?;
    let ctx = context(&caller, head, id, received, door);
    let output = run(Arc::clone(&options.switchboard), ctx, &call, input).await.map_err(refused)?;
    drop(held);
    codec::encode(call.service, call.operation, output, id).map_err(refused)
}

/// HTTP/1 bounds its buffer and HTTP/2 its header list; this holds for both, to the byte.
fn bounded(head: &Parts, limits: &Limits) -> Result<(), Fault> {
    let target = head.uri.path().len() + head.uri.query().map_or(0, str::len);
    let fields: usize = head.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + 4).sum();
    if target + fields > limits.head_bytes || head.headers.len() > limits.header_fields {
        let message = format!(
            "the request's head is larger than {} bytes or {} header fields",
            limits.head_bytes, limits.header_fields
        );
        return Err(Fault::client(431, "RequestHeaderSectionTooLarge", message));
    }
    Ok(())
}

/// What stands between a head that looks right and a caller who is known.
enum Admission<'a> {
    Claimed(Claim<'a>),
    Trusted(Verified),
}

impl Admission<'_> {
    fn is_known(&self, gate: &Gate) -> bool {
        match (self, gate) {
            (Admission::Claimed(claim), Gate::Signed { keys, .. }) => claim.is_known(&**keys),
            _ => true,
        }
    }

    fn admit(self, options: &FrontOptions, head: &Parts, hash: &str) -> Result<Verified, Refusal> {
        match (self, &options.gate) {
            (Admission::Trusted(verified), _) => Ok(verified),
            (Admission::Claimed(claim), Gate::Signed { keys, .. }) => claim.verify(&signed_parts(head), hash, &**keys),
            (Admission::Claimed(_), Gate::Dev(_)) => Err(Refusal::Missing),
        }
    }
}

fn claim<'a>(options: &FrontOptions, head: &'a Parts, route: &Route, now: Timestamp) -> Result<Admission<'a>, Refusal> {
    match &options.gate {
        Gate::Dev(dev) => dev.admit(head, &options.region).map(Admission::Trusted),
        Gate::Signed { regions, .. } => {
            let service = route.service().map(|s| s.signing_name);
            let expected = Expected { service, regions, now };
            Claim::read(&signed_parts(head), &expected).map(Admission::Claimed)
        }
    }
}

fn signed_parts(head: &Parts) -> canonical::Parts<'_> {
    canonical::Parts {
        method: head.method.as_str(),
        path: head.uri.path(),
        query: head.uri.query().unwrap_or(""),
        headers: &head.headers,
        authority: head.uri.authority().map(|a| a.as_str()),
    }
}

async fn decode(switchboard: &Switchboard, call: &Call, head: &Parts, body: Bytes) -> Result<Input, Fault> {
    let (service, operation) = (call.service, call.operation);
    if !switchboard.serves(service.name, operation.name) {
        return Err(Fault::not_served(format_args!("{}.{}", service.name, operation.name)));
    }
    let query = head.uri.query().unwrap_or("");
    let opaque = operation.shapes.as_ref().and_then(|s| s.input.payload()).is_some();
    if opaque || body.len() <= INLINE_BODY {
        let incoming = Incoming { headers: &head.headers, query, labels: &call.labels, body };
        return codec::decode(service, operation, incoming);
    }
    let (headers, query, labels) = (head.headers.clone(), query.to_owned(), call.labels.clone());
    let decode = move || {
        let incoming = Incoming { headers: &headers, query: &query, labels: &labels, body };
        codec::decode(service, operation, incoming)
    };
    tokio::task::spawn_blocking(decode).await.unwrap_or_else(|error| Err(codec::internal(error.to_string())))
}

fn context(caller: &Verified, head: &Parts, request_id: RequestId, received: Timestamp, door: &Door) -> Ctx {
    let host = host_of(head);
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':' | b'[' | b']');
    let base_url = if !host.is_empty() && host.len() <= 255 && host.bytes().all(legal) {
        format!("http://{host}")
    } else {
        format!("http://127.0.0.1:{}", door.port)
    };
    // Longer ones are not passed on.
    let header =
        head.headers.get("x-amzn-trace-id").and_then(|v| v.to_str().ok()).filter(|t| t.len() <= trace::HEADER_MAX);
    let trace = door.trace(header);
    Ctx {
        request_id,
        place: Place { account: caller.principal().account().clone(), region: caller.region().clone() },
        principal: caller.principal().clone(),
        received,
        base_url: base_url.into(),
        lineage: trace.as_deref().and_then(Trace::parse).map(|trace| trace.lineage()),
        trace,
    }
}

/// Calls the operation. A caller who hangs up does not stop it half-way, and a panic in it ends this request alone.
async fn run(switchboard: Arc<Switchboard>, ctx: Ctx, call: &Call, input: Input) -> Result<Output, Fault> {
    let (service, operation) = (call.service.name, call.operation.name);
    let work = async move { switchboard.call(&ctx, service, operation, input).await };
    match Enduring::new(work).await {
        Ok(result) => result,
        Err(_) => Err(codec::internal(format!("{service}.{operation} panicked"))),
    }
}

fn log_source(fault: &Fault, id: RequestId) {
    if let Some(source) = &fault.source {
        tracing::error!(request_id = %id, code = %fault.code, source = %source, "a request failed on our side");
    }
}
