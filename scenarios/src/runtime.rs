//! The Runtime API as the smallest functions use it: one plain socket, one request at a time.

use std::io::{BufRead, BufReader, Error, Read, Write};
use std::net::TcpStream;

pub struct Runtime {
    api: String,
    next: String,
    reader: BufReader<TcpStream>,
    writer: TcpStream,
}

impl Runtime {
    #[expect(clippy::disallowed_methods, reason = "a function reads its environment")]
    pub fn connect() -> Result<Self, Error> {
        let api = std::env::var("AWS_LAMBDA_RUNTIME_API").map_err(Error::other)?;
        let writer = TcpStream::connect(&api)?;
        writer.set_nodelay(true)?;
        let reader = BufReader::new(writer.try_clone()?);
        let next = format!("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: {api}\r\n\r\n");
        Ok(Self { api, next, reader, writer })
    }

    /// Waits for an event; its request id and payload.
    pub fn next_event(&mut self) -> Result<(String, Vec<u8>), Error> {
        self.writer.write_all(self.next.as_bytes())?;
        self.read()
    }

    /// `what` is `response` or `error`.
    pub fn answer(&mut self, id: &str, what: &str, body: &[u8]) -> Result<(), Error> {
        let api = &self.api;
        let mut request = format!(
            "POST /2018-06-01/runtime/invocation/{id}/{what} HTTP/1.1\r\nHost: {api}\r\nContent-Length: {}\r\n\r\n",
            body.len()
        )
        .into_bytes();
        request.extend_from_slice(body);
        self.writer.write_all(&request)?;
        self.read().map(|_| ())
    }

    /// Reads one response: the request id (if it names one) and the body.
    fn read(&mut self) -> Result<(String, Vec<u8>), Error> {
        let (mut id, mut length, mut line) = (String::new(), 0, String::new());
        loop {
            line.clear();
            if self.reader.read_line(&mut line)? == 0 {
                return Err(Error::other("the Runtime API closed the connection"));
            }
            let Some((name, value)) = line.trim_end().split_once(':') else {
                if line.trim_end().is_empty() {
                    break;
                }
                continue;
            };
            if name.eq_ignore_ascii_case("lambda-runtime-aws-request-id") {
                id = value.trim().to_owned();
            } else if name.eq_ignore_ascii_case("content-length") {
                length = value.trim().parse().map_err(Error::other)?;
            }
        }
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body)?;
        Ok((id, body))
    }
}
