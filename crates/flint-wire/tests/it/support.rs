//! A front with services that say what they were asked, and a client that sends exactly the bytes it is given.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use flint_base::{Clock, Timestamp, VirtualClock};
use flint_kit::{
    Authorizer, Body, Ctx, Doc, Fault, Input, OperationSpec, Output, Principal, Question, Service, Switchboard,
};
use flint_wire::{
    Credentials, DevGate, Downloads, Front, FrontOptions, Gate, Keys, Limits, Owner, SecretKey, SignedLinks,
};
use http::request::Parts;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

pub const KEY: &str = "AKIAIOSFODNN7EXAMPLE";
pub const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
/// Signs the addresses of blobs.
pub const LINK_KEY: [u8; 32] = [3; 32];
pub const ACCOUNT: &str = "000000000000";

/// 2026-11-21T09:00:00Z
pub fn now() -> Timestamp {
    Timestamp::from_millis(1_795_251_600_000)
}

pub fn credentials() -> Credentials {
    Credentials { access_key: KEY.into(), secret_key: SecretKey::new(SECRET), session_token: None }
}

/// One key pair.
#[derive(Debug)]
pub struct OneKey;

impl Keys for OneKey {
    fn owner(&self, access_key: &str) -> Option<Owner> {
        let principal = Principal::Root { account: ACCOUNT.parse().expect("account"), access_key: KEY.into() };
        (access_key == KEY).then(|| Owner { principal, secret: SecretKey::new(SECRET) })
    }
}

#[derive(Debug)]
struct Anyone;

impl Authorizer for Anyone {
    fn authorize(&self, _: &Ctx, _: &Question<'_>) -> Result<(), Fault> {
        Ok(())
    }
}

type Handler = Arc<dyn Fn(&Ctx, &str, &Input) -> Result<Output, Fault> + Send + Sync>;

/// Answers as it is told, and remembers what it was asked.
#[derive(Clone)]
pub struct Told {
    name: &'static str,
    operations: &'static [OperationSpec],
    handler: Handler,
    asked: Arc<Mutex<Vec<(String, Doc)>>>,
}

impl fmt::Debug for Told {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name)
    }
}

#[async_trait]
impl Service for Told {
    fn name(&self) -> &'static str {
        self.name
    }
    fn operations(&self) -> &'static [OperationSpec] {
        self.operations
    }
    async fn call(&self, ctx: &Ctx, operation: &str, input: Input) -> Result<Output, Fault> {
        let output = (self.handler)(ctx, operation, &input);
        self.asked.lock().expect("no panic under it").push((format!("{}.{operation}", self.name), input.doc));
        output
    }
}

const fn spec(name: &'static str) -> OperationSpec {
    OperationSpec { name, action: "any:Thing", resource: |_, _| "*".to_owned() }
}

pub struct World {
    pub address: String,
    pub port: u16,
    asked: Arc<Mutex<Vec<(String, Doc)>>>,
    stop: Option<oneshot::Sender<()>>,
    served: tokio::task::JoinHandle<std::io::Result<()>>,
}

impl World {
    /// A front that verifies signatures.
    pub async fn signed(handler: impl Fn(&Ctx, &str, &Input) -> Result<Output, Fault> + Send + Sync + 'static) -> Self {
        let regions = vec!["us-east-1".parse().expect("region")];
        Self::start(Gate::Signed { keys: Arc::new(OneKey), regions }, Limits::default(), handler).await
    }

    pub async fn dev(handler: impl Fn(&Ctx, &str, &Input) -> Result<Output, Fault> + Send + Sync + 'static) -> Self {
        let gate = DevGate { account: ACCOUNT.parse().expect("account"), hosts: Vec::new(), keys: None };
        Self::start(Gate::Dev(gate), Limits::default(), handler).await
    }

    pub async fn start(
        gate: Gate,
        limits: Limits,
        handler: impl Fn(&Ctx, &str, &Input) -> Result<Output, Fault> + Send + Sync + 'static,
    ) -> Self {
        static LAMBDA: &[OperationSpec] = &[
            spec("CreateFunction"),
            spec("DeleteFunction"),
            spec("GetFunction"),
            spec("GetFunctionConfiguration"),
            spec("Invoke"),
            spec("ListFunctions"),
            spec("UpdateFunctionCode"),
            spec("UpdateFunctionConfiguration"),
        ];
        static LOGS: &[OperationSpec] = &[spec("CreateLogGroup"), spec("DescribeLogGroups"), spec("PutLogEvents")];
        static STS: &[OperationSpec] = &[spec("GetCallerIdentity")];
        static FLINT: &[OperationSpec] = &[spec("Status"), spec("ListEnvironments")];
        let asked = Arc::new(Mutex::new(Vec::new()));
        let handler: Handler = Arc::new(handler);
        let services =
            [("lambda", LAMBDA), ("logs", LOGS), ("sts", STS), ("flint", FLINT)].map(|(name, operations)| {
                let told = Told { name, operations, handler: Arc::clone(&handler), asked: Arc::clone(&asked) };
                Arc::new(told) as Arc<dyn Service>
            });
        let front = Front::new(FrontOptions {
            switchboard: Arc::new(Switchboard::new(Arc::new(Anyone), services.into())),
            gate,
            region: "us-east-1".parse().expect("region"),
            clock: Arc::new(VirtualClock::at(now())) as Arc<dyn Clock>,
            health: Arc::new(|| Doc::Map(vec![("status".into(), Doc::from("ready"))])),
            downloads: Some(Downloads {
                links: SignedLinks::new(LINK_KEY),
                open: Arc::new(|sha256| match sha256 {
                    "ab12" => std::fs::File::open(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/it/support.rs")),
                    _ => Err(std::io::ErrorKind::NotFound.into()),
                }),
            }),
            limits,
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("binds");
        let address = listener.local_addr().expect("bound");
        let (stop, stopped) = oneshot::channel::<()>();
        let served = tokio::spawn(async move {
            let stopped = async {
                let _ = stopped.await;
            };
            front.serve(listener, stopped).await
        });
        Self { address: address.to_string(), port: address.port(), asked, stop: Some(stop), served }
    }

    /// What the services were asked so far.
    pub fn asked(&self) -> Vec<(String, Doc)> {
        self.asked.lock().expect("no panic under it").clone()
    }

    pub async fn stop(mut self) {
        drop(self.stop.take());
        self.served.await.expect("no panic").expect("served");
    }

    /// Sends bytes, half-closes nothing, and reads one answer.
    pub async fn raw(&self, bytes: &[u8]) -> Reply {
        let mut stream = TcpStream::connect(&self.address).await.expect("connects");
        stream.write_all(bytes).await.expect("writes");
        read_reply(&mut stream).await
    }

    pub async fn send(&self, request: Parts, body: &[u8]) -> Reply {
        self.raw(&wire_bytes(&request, body)).await
    }

    /// Signs and sends.
    pub async fn call(&self, service: &str, method: &str, uri: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
        let mut request = self.request(method, uri, headers);
        flint_wire::sign(&mut request, body, &credentials(), "us-east-1", service, now()).expect("signs");
        self.send(request, body).await
    }

    pub fn request(&self, method: &str, uri: &str, headers: &[(&str, &str)]) -> Parts {
        let mut request = http::Request::builder().method(method).uri(uri);
        if !headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", &self.address);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).expect("a request").into_parts().0
    }
}

/// An HTTP/1.1 request as bytes.
pub fn wire_bytes(request: &Parts, body: &[u8]) -> Vec<u8> {
    let target = request.uri.path_and_query().map_or("/", |t| t.as_str());
    let mut out = format!("{} {target} HTTP/1.1\r\n", request.method).into_bytes();
    for (name, value) in &request.headers {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value.as_bytes());
        out.extend_from_slice(b"\r\n");
    }
    if !request.headers.contains_key("content-length") && !request.headers.contains_key("transfer-encoding") {
        out.extend_from_slice(format!("content-length: {}\r\n", body.len()).as_bytes());
    }
    out.extend_from_slice(b"\r\n");
    out.extend_from_slice(body);
    out
}

#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Bytes,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|l| l.split_once(':'));
        lines.filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.trim()).next()
    }

    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("text")
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// Code and message of a JSON error.
    pub fn error(&self) -> (String, String) {
        let body = self.json();
        let code = self.header("x-amzn-errortype").map(str::to_owned);
        let code = code.unwrap_or_else(|| body["__type"].as_str().unwrap_or("?").to_owned());
        let message = body["message"].as_str().or(body["Message"].as_str()).unwrap_or("?");
        (code, message.to_owned())
    }
}

/// Reads one answer with a Content-Length or chunks.
pub async fn read_reply(stream: &mut TcpStream) -> Reply {
    tokio::time::timeout(Duration::from_secs(20), read_inner(stream)).await.expect("an answer in time")
}

async fn read_inner(stream: &mut TcpStream) -> Reply {
    let mut seen = Vec::new();
    let end = loop {
        if let Some(at) = seen.windows(4).position(|w| w == b"\r\n\r\n") {
            let head = &seen[..at];
            if head.starts_with(b"HTTP/1.1 100") {
                seen.drain(..at + 4);
                continue;
            }
            break at;
        }
        let mut piece = [0; 8192];
        let n = stream.read(&mut piece).await.expect("reads");
        assert!(n > 0, "the connection ended: {:?}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&piece[..n]);
    };
    let head = String::from_utf8(seen[..end].to_vec()).expect("a text head");
    let mut body = seen[end + 4..].to_vec();
    let status = head.split(' ').nth(1).and_then(|s| s.parse().ok()).expect("a status");
    let mut reply = Reply { status, head, body: Bytes::new() };
    let chunked = reply.header("transfer-encoding").is_some();
    let length: usize = reply.header("content-length").map_or(0, |l| l.parse().expect("a length"));
    let complete = |body: &[u8]| if chunked { body.ends_with(b"0\r\n\r\n") } else { body.len() >= length };
    while !complete(&body) {
        let mut piece = [0; 8192];
        let n = stream.read(&mut piece).await.expect("reads");
        assert!(n > 0, "the body ended early");
        body.extend_from_slice(&piece[..n]);
    }
    reply.body = body.into();
    reply
}

pub fn empty(_: &Ctx, _: &str, _: &Input) -> Result<Output, Fault> {
    Ok(Output::empty())
}

/// Answers an invocation with its own payload.
pub fn echo(_: &Ctx, _: &str, input: &Input) -> Result<Output, Fault> {
    let body = match &input.body {
        Some(Body::Whole(bytes)) => Body::Whole(bytes.clone()),
        _ => Body::empty(),
    };
    let doc = Doc::Map(vec![("ExecutedVersion".into(), Doc::from("$LATEST"))]);
    Ok(Output { doc, body: Some(body), status: Some(200) })
}
