//! A caller that costs next to nothing: one socket, one request rendered in advance, sent again and again.

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use flint_base::{Clock, SystemClock};
use flint_wire::signer::{self, Credentials};
use http::{Method, Request};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::server::Access;

/// A signed request of the functions API as it goes over the wire to `address`.
pub fn render(address: &str, path: &str, body: &[u8], credentials: &Credentials, region: &str) -> Result<Bytes> {
    let access = Access { address: address.to_owned(), credentials: credentials.clone(), region: region.to_owned() };
    signed(&access, "lambda", path, &[("content-type", "application/json")], body)
}

/// A signed request of SQS.
pub fn sqs(access: &Access, operation: &str, body: &[u8]) -> Result<Bytes> {
    let target = format!("AmazonSQS.{operation}");
    signed(access, "sqs", "/", &[("content-type", "application/x-amz-json-1.0"), ("x-amz-target", &target)], body)
}

fn signed(access: &Access, service: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Result<Bytes> {
    let mut request = Request::builder().method(Method::POST).uri(format!("http://{}{path}", access.address));
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let (mut parts, ()) = request.body(())?.into_parts();
    signer::sign(&mut parts, body, &access.credentials, &access.region, service, SystemClock::new().now())?;
    let mut text = format!("POST {path} HTTP/1.1\r\ncontent-length: {}\r\n", body.len()).into_bytes();
    for (name, value) in &parts.headers {
        text.extend_from_slice(name.as_str().as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    text.extend_from_slice(body);
    Ok(text.into())
}

pub struct Lean {
    stream: TcpStream,
    request: Bytes,
    buffer: Vec<u8>,
}

impl Lean {
    pub async fn connect(address: &str, request: Bytes) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Lean { stream, request, buffer: vec![0; 16 << 10] })
    }

    /// Sends the request once; the answer's body must be `expected`.
    pub async fn call(&mut self, expected: &[u8]) -> Result<()> {
        let request = self.request.clone();
        let body = self.exchange(&request).await?;
        if body != expected {
            bail!("answered {}", String::from_utf8_lossy(body));
        }
        Ok(())
    }

    /// Sends its request once more, whatever the answer is; answers its body.
    pub async fn repeat(&mut self) -> Result<&[u8]> {
        let request = self.request.clone();
        self.exchange(&request).await
    }

    /// Sends a request and answers the body of what came, which must be a success.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<&[u8]> {
        self.stream.write_all(request).await?;
        let mut filled = 0;
        loop {
            let room = self.buffer.get_mut(filled..).filter(|room| !room.is_empty()).context("an answer of 16 KiB")?;
            let count = self.stream.read(room).await?;
            if count == 0 {
                bail!("the connection was closed");
            }
            filled += count;
            let seen = &self.buffer[..filled];
            let Some(head) = seen.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
            if seen.len() - head - 4 < length(&seen[..head])? {
                continue;
            }
            if !seen.starts_with(b"HTTP/1.1 200") {
                bail!("answered {}", String::from_utf8_lossy(seen));
            }
            return Ok(&self.buffer[head + 4..filled]);
        }
    }
}

fn length(head: &[u8]) -> Result<usize> {
    const NAME: &[u8] = b"content-length:";
    let line =
        head.split(|byte| *byte == b'\n').find(|l| l.len() > NAME.len() && l[..NAME.len()].eq_ignore_ascii_case(NAME));
    let line = line.with_context(|| format!("no length in {}", String::from_utf8_lossy(head)))?;
    Ok(std::str::from_utf8(&line[NAME.len()..])?.trim().parse()?)
}
