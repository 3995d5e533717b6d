//! The Lambda Runtime API with nothing but the standard library: ask for an event, answer it, again. The crate
//! `lambda_runtime` does the same and more.

use std::env;
use std::error::Error;
use std::io::{self, BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use serde::Serialize;

const BASE: &str = "/2018-06-01/runtime/invocation";

/// Answers events for ever.
pub fn run<A: Serialize>(handler: impl Fn(&[u8]) -> Result<A, Box<dyn Error>>) -> io::Result<()> {
    let address = env::var("AWS_LAMBDA_RUNTIME_API").map_err(io::Error::other)?;
    let mut api = Api { reader: BufReader::new(TcpStream::connect(&address)?), address };
    loop {
        let (id, event) = api.request("GET", &format!("{BASE}/next"), &[])?;
        let id = id.ok_or_else(|| io::Error::other("an event without a request id"))?;
        match handler(&event).and_then(|answer| Ok(serde_json::to_vec(&answer)?)) {
            Ok(answer) => api.request("POST", &format!("{BASE}/{id}/response"), &answer)?,
            Err(error) => {
                let document = serde_json::json!({ "errorType": "Error", "errorMessage": error.to_string() });
                api.request("POST", &format!("{BASE}/{id}/error"), document.to_string().as_bytes())?
            }
        };
    }
}

struct Api {
    address: String,
    reader: BufReader<TcpStream>,
}

impl Api {
    /// Sends a request over the one connection; the request id of the answer, where it has one, and its body.
    fn request(&mut self, method: &str, path: &str, body: &[u8]) -> io::Result<(Option<String>, Vec<u8>)> {
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: {}\r\n\r\n", self.address, body.len());
        let stream = self.reader.get_mut();
        stream.write_all(&[head.as_bytes(), body].concat())?;

        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        if !line.starts_with("HTTP/1.1 2") {
            return Err(io::Error::other(format!("the Runtime API answered {}", line.trim())));
        }
        let (mut id, mut length) = (None, 0);
        loop {
            line.clear();
            self.reader.read_line(&mut line)?;
            let Some((name, value)) = line.trim_end().split_once(':') else { break };
            match name.to_ascii_lowercase().as_str() {
                "lambda-runtime-aws-request-id" => id = Some(value.trim().to_owned()),
                "content-length" => length = value.trim().parse().map_err(io::Error::other)?,
                _ => {}
            }
        }
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body)?;
        Ok((id, body))
    }
}
