//! The client: signs requests, sends them over one kept-alive connection, reads answers and errors.
//!
//! Typed helpers for what the command line asks are in [`lambda`], [`stream`], [`logs`], [`platform`] and [`events`].

pub mod events;
pub mod lambda;
pub mod logs;
pub mod platform;
pub mod stream;
mod transport;

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flint_base::Clock;
use http::{HeaderMap, Method};

use crate::Error;

/// How long an operation may take that does not run a user's code.
const QUICK: Duration = Duration::from_secs(60);

/// Where a server is: an `http` URL without a path.
///
/// `https` is refused: TLS ends in front of Flint, and this client would have to trust what it cannot check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    authority: String,
}

/// A key pair. `Debug` hides the secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    pub access_key: String,
    pub secret_key: String,
}

/// Which server, which region, as whom.
#[derive(Clone, Debug)]
pub struct Target {
    pub endpoint: Endpoint,
    pub region: String,
    pub credentials: Credentials,
    /// What named the endpoint.
    pub source: Source,
}

/// What named an endpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Source {
    /// The caller itself.
    #[default]
    Said,
    /// `--endpoint`, or the variable that stands for it.
    Flag,
    /// A data directory.
    Data(PathBuf),
    /// `AWS_ENDPOINT_URL`. `instead_of` is the usual data directory that names another server, and that server.
    Variable { instead_of: Option<(PathBuf, Endpoint)> },
    /// Nothing: the address that a server has unless it is told another.
    Default,
}

impl fmt::Display for Source {
    /// In parentheses, with a space before; empty for the caller itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::Said => Ok(()),
            Source::Flag => f.write_str(" (from --endpoint)"),
            Source::Data(dir) if dir.is_relative() => write!(f, " (from ./{})", dir.display()),
            Source::Data(dir) => write!(f, " (from {})", dir.display()),
            Source::Variable { .. } => f.write_str(" (from AWS_ENDPOINT_URL)"),
            Source::Default => f.write_str(" (the default)"),
        }
    }
}

/// A way to a server. Requests may be under way side by side, each on a connection of its own.
#[derive(Debug)]
pub struct Client {
    target: Target,
    clock: Arc<dyn Clock>,
    transport: transport::Transport,
}

/// One request before it is signed.
#[derive(Debug)]
struct Request {
    operation: &'static str,
    service: &'static str,
    method: Method,
    /// Path and query, percent-encoded.
    path: String,
    headers: Vec<(&'static str, String)>,
    body: Bytes,
    limit: Duration,
}

/// An answer with a status below 400.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Endpoint {
    /// Where a server listens that was given nothing else.
    pub fn default_local() -> Self {
        Self { authority: "127.0.0.1:4566".into() }
    }

    /// `HOST:PORT`, as in a `Host` header.
    pub fn authority(&self) -> &str {
        &self.authority
    }
}

impl FromStr for Endpoint {
    type Err = Error;
    fn from_str(s: &str) -> Result<Self, Error> {
        let bad = || Error::Endpoint(s.to_owned());
        let uri: http::Uri = s.trim().parse().map_err(|_| bad())?;
        let authority = uri.authority().ok_or_else(bad)?;
        let plain = uri.scheme_str() == Some("http") && uri.query().is_none() && matches!(uri.path(), "" | "/");
        if !plain || authority.host().is_empty() || authority.as_str().contains('@') {
            return Err(bad());
        }
        Ok(Self { authority: authority.as_str().to_owned() })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "http://{}", self.authority)
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Credentials({}, ***)", self.access_key)
    }
}

impl Client {
    /// Makes a client; connects with the first request.
    pub fn new(target: Target, clock: Arc<dyn Clock>) -> Self {
        Self { transport: transport::Transport::new(target.endpoint.clone()), target, clock }
    }

    pub fn target(&self) -> &Target {
        &self.target
    }

    pub fn clock(&self) -> &Arc<dyn Clock> {
        &self.clock
    }

    async fn send(&self, request: Request) -> Result<Answer, Error> {
        let (operation, limit) = (request.operation, request.limit);
        let signed = transport::sign(&request, &self.target, self.clock.now())?;
        let late = || Error::Late { operation, endpoint: self.target.endpoint.to_string(), seconds: limit.as_secs() };
        let answer = tokio::time::timeout(limit, self.transport.send(signed)).await.map_err(|_| late())?;
        let answer = answer.map_err(|e| self.with_source(e))?;
        if answer.status < 400 { Ok(answer) } else { Err(service_error(operation, &answer)) }
    }

    /// Who named a server that does not answer belongs to the error.
    fn with_source(&self, error: Error) -> Error {
        match error {
            Error::Unreachable { endpoint, reason, .. } => {
                Error::Unreachable { endpoint, named_by: self.target.source.clone(), reason }
            }
            other => other,
        }
    }

    /// As `send`, but gives the body as it comes. The limit is of the time to its beginning.
    async fn open(&self, request: Request) -> Result<transport::Stream, Error> {
        let (operation, limit) = (request.operation, request.limit);
        let signed = transport::sign(&request, &self.target, self.clock.now())?;
        let late = || Error::Late { operation, endpoint: self.target.endpoint.to_string(), seconds: limit.as_secs() };
        let opened = tokio::time::timeout(limit, self.transport.open(signed)).await.map_err(|_| late())?;
        match opened.map_err(|e| self.with_source(e))? {
            transport::Opened::Stream(stream) => Ok(stream),
            transport::Opened::Refused(answer) => Err(service_error(operation, &answer)),
        }
    }

    /// One operation of a JSON 1.1 service: `X-Amz-Target: PREFIX.OPERATION`.
    async fn json<I: serde::Serialize, O: serde::de::DeserializeOwned>(
        &self,
        service: &'static str,
        target: &'static str,
        input: &I,
    ) -> Result<O, Error> {
        let operation = target.rsplit('.').next().unwrap_or(target);
        let request = Request {
            operation,
            service,
            method: Method::POST,
            path: "/".into(),
            headers: vec![("content-type", "application/x-amz-json-1.1".into()), ("x-amz-target", target.into())],
            body: to_json(input),
            limit: QUICK,
        };
        let answer = self.send(request).await?;
        from_json(operation, &answer.body)
    }
}

fn to_json<I: serde::Serialize>(input: &I) -> Bytes {
    serde_json::to_vec(input).expect("inputs are structs of strings, numbers and maps with string keys").into()
}

fn from_json<O: serde::de::DeserializeOwned>(operation: &'static str, body: &[u8]) -> Result<O, Error> {
    // Operations without output may answer nothing at all.
    let body = if body.is_empty() { b"{}" } else { body };
    serde_json::from_slice(body).map_err(|e| Error::Answer { operation, reason: e.to_string() })
}

/// Reads the error forms of REST-JSON and JSON 1.1: the code is in a header or in `__type`, with or without a
/// namespace before `#` or a link after `:`.
fn service_error(operation: &'static str, answer: &Answer) -> Error {
    #[derive(serde::Deserialize, Default)]
    struct Body {
        #[serde(rename = "__type")]
        kind: Option<String>,
        code: Option<String>,
        #[serde(alias = "Message", alias = "errorMessage")]
        message: Option<String>,
    }
    let body: Body = serde_json::from_slice(&answer.body).unwrap_or_default();
    let header = answer.headers.get("x-amzn-errortype").and_then(|v| v.to_str().ok()).map(str::to_owned);
    let raw = header.or(body.kind).or(body.code).unwrap_or_else(|| format!("HTTP {}", answer.status));
    let code = raw.split(':').next().unwrap_or(&raw).rsplit('#').next().unwrap_or(&raw).to_owned();
    let message = body.message.unwrap_or_else(|| {
        let text = String::from_utf8_lossy(&answer.body);
        text.trim().chars().take(200).collect()
    });
    Error::Service { operation, status: answer.status, code, message }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_endpoints() {
        let ok = |s: &str| s.parse::<Endpoint>().map(|e| e.to_string()).ok();
        assert_eq!(ok("http://127.0.0.1:4566").as_deref(), Some("http://127.0.0.1:4566"));
        assert_eq!(ok("http://127.0.0.1:4566/\n").as_deref(), Some("http://127.0.0.1:4566"));
        assert_eq!(ok("http://[::1]:80").as_deref(), Some("http://[::1]:80"));
        for bad in ["", "127.0.0.1:4566", "https://x", "http://", "http://h/path", "http://h?x=1", "http://u@h", "a b"]
        {
            assert!(bad.parse::<Endpoint>().is_err(), "{bad}");
        }
    }

    fn error(header: Option<&str>, body: &str) -> (String, String) {
        let mut headers = HeaderMap::new();
        if let Some(h) = header {
            headers.insert("x-amzn-errortype", h.parse().unwrap());
        }
        match service_error("Op", &Answer { status: 404, headers, body: body.to_owned().into() }) {
            Error::Service { code, message, .. } => (code, message),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn reads_every_error_form() {
        let plain = ("NotFound".to_owned(), "gone".to_owned());
        assert_eq!(error(Some("NotFound"), r#"{"Type":"User","Message":"gone"}"#), plain);
        assert_eq!(error(Some("NotFound:http://example.com/"), r#"{"message":"gone"}"#), plain);
        assert_eq!(error(None, r#"{"__type":"com.example#NotFound","message":"gone"}"#), plain);
        assert_eq!(error(None, "<html>"), ("HTTP 404".to_owned(), "<html>".to_owned()));
    }

    #[test]
    fn a_secret_is_never_printed() {
        let c = Credentials { access_key: "AKIA".into(), secret_key: "hush".into() };
        assert!(!format!("{c:?}").contains("hush"));
    }
}
