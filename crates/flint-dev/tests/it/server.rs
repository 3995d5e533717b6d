//! A server that answers what it was told to, in order, and remembers what it was asked.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;

#[derive(Clone, Debug)]
pub struct Reply {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: String,
    cut: bool,
}

#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub headers: http::HeaderMap,
    pub body: Bytes,
}

#[derive(Debug, Default)]
struct State {
    script: VecDeque<Reply>,
    seen: Vec<Seen>,
    connections: usize,
}

#[derive(Debug)]
pub struct Server {
    url: String,
    state: Arc<Mutex<State>>,
}

impl Reply {
    pub fn raw(status: u16, body: &str) -> Self {
        Self { status, headers: Vec::new(), body: body.to_owned(), cut: false }
    }

    pub fn json(body: serde_json::Value) -> Self {
        Self::raw(200, &body.to_string())
    }

    pub fn error(status: u16, code: &str, message: &str) -> Self {
        let body = serde_json::json!({ "message": message, "Type": "User" });
        Self::raw(status, &body.to_string()).with_header("x-amzn-errortype", code)
    }

    /// Reads the request and closes the connection without an answer.
    pub fn cut() -> Self {
        Self { cut: true, ..Self::raw(500, "") }
    }

    pub fn with_header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub fn and_close(self) -> Self {
        self.with_header("connection", "close")
    }
}

impl Seen {
    pub fn header(&self, name: &str) -> String {
        self.headers.get(name).map(|v| v.to_str().unwrap().to_owned()).unwrap_or_default()
    }
}

impl Server {
    /// Serves on a free port until the test's runtime ends.
    pub async fn start(script: Vec<Reply>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let state = Arc::new(Mutex::new(State { script: script.into(), ..State::default() }));
        let shared = state.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                shared.lock().unwrap().connections += 1;
                let state = shared.clone();
                let service = service_fn(move |request| answer(state.clone(), request));
                let connection =
                    hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
                tokio::spawn(connection);
            }
        });
        Self { url, state }
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    pub fn seen(&self) -> Vec<Seen> {
        self.state.lock().unwrap().seen.clone()
    }

    pub fn connections(&self) -> usize {
        self.state.lock().unwrap().connections
    }
}

async fn answer(
    state: Arc<Mutex<State>>,
    request: http::Request<Incoming>,
) -> Result<http::Response<Full<Bytes>>, Cut> {
    let (head, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let seen = Seen { method: head.method.to_string(), path: head.uri.to_string(), headers: head.headers, body };
    let reply = {
        let mut state = state.lock().unwrap();
        state.seen.push(seen);
        state.script.pop_front()
    };
    let reply = reply.unwrap_or_else(|| Reply::raw(418, "the script is over"));
    if reply.cut {
        return Err(Cut);
    }
    let mut response = http::Response::builder().status(reply.status);
    for (name, value) in reply.headers {
        response = response.header(name, value);
    }
    Ok(response.body(Full::new(reply.body.into())).unwrap())
}

/// Ends a connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("cut")]
struct Cut;
