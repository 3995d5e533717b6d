//! The smallest function: a Runtime API client over one plain socket that answers what it was asked.
//!
//! The payload `"start"` is answered with the moment before the first `next` (CLOCK_MONOTONIC, nanoseconds).

use std::io::{BufRead, BufReader, Error, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;

use scenarios::clock::monotonic_ns;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo-bootstrap: {error}");
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a function reads its environment")]
fn run() -> Result<(), Error> {
    let api = std::env::var("AWS_LAMBDA_RUNTIME_API").map_err(Error::other)?;
    let stream = TcpStream::connect(&api)?;
    stream.set_nodelay(true)?;
    let mut reader = BufReader::new(stream.try_clone()?);
    let mut writer = stream;
    let next = format!("GET /2018-06-01/runtime/invocation/next HTTP/1.1\r\nHost: {api}\r\n\r\n");
    let started = monotonic_ns();
    loop {
        writer.write_all(next.as_bytes())?;
        let (id, payload) = read(&mut reader)?;
        let answer = if payload == b"\"start\"" { started.to_string().into_bytes() } else { payload };
        let mut request = format!(
            "POST /2018-06-01/runtime/invocation/{id}/response HTTP/1.1\r\nHost: {api}\r\nContent-Length: {}\r\n\r\n",
            answer.len()
        )
        .into_bytes();
        request.extend_from_slice(&answer);
        writer.write_all(&request)?;
        read(&mut reader)?;
    }
}

/// Reads one response: the request id (if it names one) and the body.
fn read(reader: &mut BufReader<TcpStream>) -> Result<(String, Vec<u8>), Error> {
    let (mut id, mut length, mut line) = (String::new(), 0, String::new());
    loop {
        line.clear();
        if reader.read_line(&mut line)? == 0 {
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
    reader.read_exact(&mut body)?;
    Ok((id, body))
}
