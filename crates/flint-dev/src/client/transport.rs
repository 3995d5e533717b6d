//! Bytes out, bytes in: HTTP/1.1 connections that are kept alive, one for each request that is under way at the same
//! time, and made anew when the server closed them.

use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use flint_base::Timestamp;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use super::{Answer, Endpoint, Request, Target};
use crate::Error;

/// Answers above this are not read. The largest that a service gives is an invocation's 6 MB.
const ANSWER_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Connections that are kept for later.
const KEPT_MAX: usize = 8;

#[derive(Debug)]
pub(super) struct Transport {
    endpoint: Endpoint,
    /// Those that nobody uses; no more than [`KEPT_MAX`].
    idle: Mutex<Vec<SendRequest<Full<Bytes>>>>,
}

impl Transport {
    pub(super) fn new(endpoint: Endpoint) -> Self {
        Self { endpoint, idle: Mutex::default() }
    }

    pub(super) async fn send(&self, request: http::Request<Full<Bytes>>) -> Result<Answer, Error> {
        // Taken out, so that a request that is given up half-way leaves no connection with half an answer behind.
        let kept = self.idle().pop();
        let mut sender = match kept {
            Some(mut kept) => match kept.ready().await {
                Ok(()) => kept,
                Err(_) => self.connect().await?,
            },
            None => self.connect().await?,
        };
        // A request that could not be written was not seen by the server: only then is it sent again.
        let response = match sender.try_send_request(request).await {
            Ok(response) => response,
            Err(mut refused) => match refused.take_message() {
                Some(request) => {
                    sender = self.connect().await?;
                    sender.send_request(request).await.map_err(|e| self.broken(&e))?
                }
                None => return Err(self.broken(refused.error())),
            },
        };
        let (head, body) = response.into_parts();
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|e| self.broken(&*e))?.to_bytes();
        let mut idle = self.idle();
        if idle.len() < KEPT_MAX {
            idle.push(sender);
        }
        drop(idle);
        Ok(Answer { status: head.status.as_u16(), headers: head.headers, body })
    }

    /// Sends on a connection of its own, and leaves the body of what is no error to be read.
    pub(super) async fn open(&self, request: http::Request<Full<Bytes>>) -> Result<Opened, Error> {
        let mut sender = self.connect().await?;
        let response = sender.send_request(request).await.map_err(|e| self.broken(&e))?;
        let (head, body) = response.into_parts();
        if head.status.as_u16() < 400 {
            return Ok(Opened::Stream(Stream { body, endpoint: self.endpoint.clone(), _sender: sender }));
        }
        let body = Limited::new(body, ANSWER_BYTES_MAX).collect().await.map_err(|e| self.broken(&*e))?.to_bytes();
        Ok(Opened::Refused(Answer { status: head.status.as_u16(), headers: head.headers, body }))
    }

    fn idle(&self) -> MutexGuard<'_, Vec<SendRequest<Full<Bytes>>>> {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, Error> {
        let unreachable = |reason: String| Error::Unreachable {
            endpoint: self.endpoint.to_string(),
            named_by: super::Source::Said,
            reason,
        };
        let authority = self.endpoint.authority();
        // A port that is not given is 80; an IPv6 address keeps its brackets.
        let port_given = authority.rsplit_once(':').is_some_and(|(_, port)| !port.ends_with(']'));
        let address = if port_given { authority.to_owned() } else { format!("{authority}:80") };
        let stream = TcpStream::connect(&address).await.map_err(|e| unreachable(plain_io(&e)))?;
        stream.set_nodelay(true).map_err(|e| unreachable(e.to_string()))?;
        let (sender, connection) =
            http1::handshake(TokioIo::new(stream)).await.map_err(|e| unreachable(e.to_string()))?;
        // The connection ends when its sender is dropped; its error reaches the sender as well.
        tokio::spawn(connection);
        Ok(sender)
    }

    fn broken(&self, error: &(dyn std::error::Error + 'static)) -> Error {
        broken(&self.endpoint, error)
    }
}

/// What came of a request whose body is read as it comes.
#[derive(Debug)]
pub(super) enum Opened {
    Stream(Stream),
    Refused(Answer),
}

/// A body that is under way.
#[derive(Debug)]
pub(super) struct Stream {
    body: Incoming,
    endpoint: Endpoint,
    /// The connection ends when this does.
    _sender: SendRequest<Full<Bytes>>,
}

impl Stream {
    /// The next piece; `None` at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, Error> {
        loop {
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(e)) => return Err(broken(&self.endpoint, &e)),
                // Anything else is a trailer, and says nothing here.
                Some(Ok(frame)) => {
                    if let Ok(bytes) = frame.into_data() {
                        return Ok(Some(bytes));
                    }
                }
            }
        }
    }
}

fn broken(endpoint: &Endpoint, error: &(dyn std::error::Error + 'static)) -> Error {
    let mut reason = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        reason = format!("{reason}: {cause}");
        source = cause.source();
    }
    Error::Broken { endpoint: endpoint.to_string(), reason }
}

/// An I/O error without the operating system's number.
fn plain_io(error: &std::io::Error) -> String {
    match error.kind() {
        std::io::ErrorKind::ConnectionRefused => "connection refused".into(),
        _ => error.to_string(),
    }
}

/// Signs with the header form of Signature Version 4.
pub(super) fn sign(request: &Request, target: &Target, now: Timestamp) -> Result<http::Request<Full<Bytes>>, Error> {
    // Names and paths are percent-encoded and header values are ours: what fails here is an endpoint or a key with
    // characters that no header can hold.
    let unusable = |e: &dyn std::fmt::Display| Error::Unusable(e.to_string());
    let mut builder = http::Request::builder().method(request.method.clone()).uri(&request.path);
    builder = builder.header(http::header::HOST, target.endpoint.authority());
    for (name, value) in &request.headers {
        builder = builder.header(*name, value);
    }
    let (mut parts, body) = builder.body(Full::new(request.body.clone())).map_err(|e| unusable(&e))?.into_parts();
    let credentials = flint_wire::signer::Credentials {
        access_key: target.credentials.access_key.clone(),
        secret_key: flint_wire::sigv4::SecretKey::new(target.credentials.secret_key.clone()),
        session_token: None,
    };
    flint_wire::signer::sign(&mut parts, &request.body, &credentials, &target.region, request.service, now)
        .map_err(|e| unusable(&e))?;
    Ok(http::Request::from_parts(parts, body))
}
