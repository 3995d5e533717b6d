//! One signed keep-alive connection to a server.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use flint_base::{Clock, SystemClock};
use flint_wire::signer::{self, Credentials};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

use crate::server::{Access, Server};

pub struct Client {
    sender: SendRequest<Full<Bytes>>,
    address: String,
    credentials: Credentials,
    region: String,
    clock: SystemClock,
}

impl Client {
    pub async fn connect(server: &Server) -> Result<Self> {
        Self::to(&server.access()).await
    }

    pub async fn to(server: &Access) -> Result<Self> {
        let stream = TcpStream::connect(&server.address).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        tokio::spawn(async move {
            // A connection that breaks shows up at the sender.
            let _ = connection.await;
        });
        Ok(Client {
            sender,
            address: server.address.clone(),
            credentials: server.credentials.clone(),
            region: server.region.clone(),
            clock: SystemClock::new(),
        })
    }

    /// Sends one request to the functions API and returns what came back.
    pub async fn call(&mut self, method: Method, path: &str, body: Bytes) -> Result<(StatusCode, Bytes)> {
        let response = self.send(method, path, body).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }

    /// Invokes `name` with a response stream; what comes is an event stream.
    pub async fn stream(&mut self, name: &str, payload: Bytes) -> Result<Incoming> {
        let path = format!("/2021-11-15/functions/{name}/response-streaming-invocations");
        let response = self.send(Method::POST, &path, payload).await?;
        if response.status() != StatusCode::OK {
            bail!("the stream answered {}", response.status());
        }
        Ok(response.into_body())
    }

    async fn send(&mut self, method: Method, path: &str, body: Bytes) -> Result<Response<Incoming>> {
        self.send_with(method, path, body, None).await
    }

    async fn send_with(
        &mut self,
        method: Method,
        path: &str,
        body: Bytes,
        header: Option<(&str, &str)>,
    ) -> Result<Response<Incoming>> {
        let mut request = Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        let (mut parts, ()) = request.header("content-type", "application/json").body(())?.into_parts();
        signer::sign(&mut parts, &body, &self.credentials, &self.region, "lambda", self.clock.now())?;
        // The connection is made already: only the path goes on the wire.
        parts.uri = path.parse()?;
        Ok(self.sender.send_request(Request::from_parts(parts, Full::new(body))).await?)
    }

    /// One operation of a service that speaks JSON; `target` as `X-Amz-Target` says it.
    pub async fn json(&mut self, service: &str, target: &str, input: &Value) -> Result<(StatusCode, Bytes)> {
        let kind = [("content-type", "application/x-amz-json-1.0"), ("x-amz-target", target)];
        self.post(service, &kind, Bytes::from(input.to_string())).await
    }

    /// One operation of a service that speaks Query; `form` is encoded already.
    pub async fn query(&mut self, service: &str, form: String) -> Result<(StatusCode, Bytes)> {
        self.post(service, &[("content-type", "application/x-www-form-urlencoded")], form.into()).await
    }

    async fn post(&mut self, service: &str, headers: &[(&str, &str)], body: Bytes) -> Result<(StatusCode, Bytes)> {
        let mut request = Request::builder().method(Method::POST).uri(format!("http://{}/", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let (mut parts, ()) = request.body(())?.into_parts();
        signer::sign(&mut parts, &body, &self.credentials, &self.region, service, self.clock.now())?;
        parts.uri = "/".parse()?;
        // The connection's task may not have run yet.
        self.sender.ready().await?;
        let response = self.sender.send_request(Request::from_parts(parts, Full::new(body))).await?;
        let status = response.status();
        Ok((status, response.into_body().collect().await?.to_bytes()))
    }

    pub async fn invoke(&mut self, name: &str, payload: Bytes) -> Result<Bytes> {
        let path = format!("/2015-03-31/functions/{name}/invocations");
        let (status, body) = self.call(Method::POST, &path, payload).await?;
        if status != StatusCode::OK {
            bail!("invoke answered {status}: {}", String::from_utf8_lossy(&body));
        }
        Ok(body)
    }

    /// Hands over an event that nobody waits for.
    pub async fn event(&mut self, name: &str, payload: Bytes) -> Result<StatusCode> {
        let path = format!("/2015-03-31/functions/{name}/invocations");
        let response = self.send_with(Method::POST, &path, payload, Some(("x-amz-invocation-type", "Event"))).await?;
        let status = response.status();
        response.into_body().collect().await?;
        Ok(status)
    }

    /// Invokes; with the answer come the last lines of the call's log.
    pub async fn invoke_tail(&mut self, name: &str, payload: Bytes) -> Result<(Bytes, String)> {
        use base64::Engine as _;
        let path = format!("/2015-03-31/functions/{name}/invocations");
        let response = self.send_with(Method::POST, &path, payload, Some(("x-amz-log-type", "Tail"))).await?;
        if response.status() != StatusCode::OK {
            bail!("invoke answered {}", response.status());
        }
        let tail = response.headers().get("x-amz-log-result").context("an answer without the log's tail")?;
        let tail = base64::engine::general_purpose::STANDARD.decode(tail)?;
        let body = response.into_body().collect().await?.to_bytes();
        Ok((body, String::from_utf8_lossy(&tail).into_owned()))
    }

    /// Creates a function and waits until it is active.
    pub async fn create(&mut self, name: &str, runtime: &str, handler: &str, archive: &[u8]) -> Result<()> {
        self.create_with(name, runtime, handler, archive, &Value::Object(serde_json::Map::new())).await
    }

    /// Likewise, with environment variables.
    pub async fn create_with(
        &mut self,
        name: &str,
        runtime: &str,
        handler: &str,
        archive: &[u8],
        variables: &Value,
    ) -> Result<()> {
        let changes = serde_json::json!({ "Environment": { "Variables": variables } });
        self.create_as(name, runtime, handler, archive, &changes).await
    }

    /// Likewise, with members of the request in place of the usual ones.
    pub async fn create_as(
        &mut self,
        name: &str,
        runtime: &str,
        handler: &str,
        archive: &[u8],
        changes: &Value,
    ) -> Result<()> {
        use base64::Engine as _;
        let mut document = serde_json::json!({
            "FunctionName": name,
            "Runtime": runtime,
            "Handler": handler,
            "Role": "arn:aws:iam::000000000000:role/load",
            "Timeout": 30,
            "MemorySize": 128,
            "Code": { "ZipFile": base64::engine::general_purpose::STANDARD.encode(archive) },
        });
        for (member, value) in changes.as_object().into_iter().flatten() {
            document[member] = value.clone();
        }
        let (status, body) = self.call(Method::POST, "/2015-03-31/functions", document.to_string().into()).await?;
        if !status.is_success() {
            bail!("create answered {status}: {}", String::from_utf8_lossy(&body));
        }
        for _ in 0..500 {
            let path = format!("/2015-03-31/functions/{name}/configuration");
            let (_, body) = self.call(Method::GET, &path, Bytes::new()).await?;
            let configuration: Value = serde_json::from_slice(&body).context("a configuration")?;
            match configuration["State"].as_str() {
                Some("Active") => return Ok(()),
                Some("Pending") => tokio::time::sleep(std::time::Duration::from_millis(10)).await,
                _ => bail!("{name} became {body:?}"),
            }
        }
        bail!("{name} did not become active within 5 s")
    }
}
