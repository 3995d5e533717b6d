//! `InvokeWithResponseStream`: the answer as it comes.
//!
//! Reference: Lambda API reference, "InvokeWithResponseStream"; the frames are Amazon's event stream encoding
//! (`application/vnd.amazon.eventstream`): two lengths and their checksum, headers, payload, checksum of it all.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{Buf as _, Bytes, BytesMut};
use http::Method;
use serde::Deserialize;

use super::lambda::{INVOKE, LogTail, segment};
use super::{Client, Request};
use crate::Error;

const OPERATION: &str = "InvokeWithResponseStream";
/// No event is larger: the encoding's own limit of a message is 24 MiB.
const MESSAGE_MAX: usize = 24 * 1024 * 1024;
/// Lengths and their checksum.
const PRELUDE: usize = 12;
/// The checksum at the end.
const TRAILER: usize = 4;
/// The type of a header whose value is text.
const TEXT: u8 = 7;

/// How a streamed invocation ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Streamed {
    /// The function failed, maybe in the middle of its answer.
    pub error_code: Option<String>,
    pub error_details: Option<String>,
    /// The end of the log, where it was asked for.
    #[serde(rename = "LogResult")]
    pub log_tail: Option<String>,
}

impl Client {
    /// Invokes a function and gives its answer to `each` piece by piece.
    ///
    /// Errors: [`Error::Answer`] if the stream breaks the rules of its encoding or ends too soon. A function that fails is
    /// not an `Err`: see [`Streamed::error_code`].
    pub async fn invoke_streaming(
        &self,
        name: &str,
        payload: Bytes,
        tail: LogTail,
        mut each: impl FnMut(&[u8]),
    ) -> Result<Streamed, Error> {
        let mut headers = vec![("content-type", "application/octet-stream".to_owned())];
        if tail == LogTail::Tail {
            headers.push(("x-amz-log-type", "Tail".to_owned()));
        }
        let request = Request {
            operation: OPERATION,
            service: "lambda",
            method: Method::POST,
            path: format!("/2021-11-15/functions/{}/response-streaming-invocations", segment(name)),
            headers,
            body: payload,
            limit: INVOKE,
        };
        let mut body = self.open(request).await?;
        let mut buffer = BytesMut::new();
        while let Some(bytes) = body.next().await? {
            buffer.extend_from_slice(&bytes);
            while let Some(message) = take(&mut buffer)? {
                match (message.kind.as_str(), message.event.as_str()) {
                    ("event", "PayloadChunk") => each(&message.payload),
                    ("event", "InvokeComplete") => return complete(&message.payload),
                    // What a newer server may say between.
                    ("event", _) => {}
                    _ => return Err(refused(&message)),
                }
            }
        }
        Err(broken("it ended before the invocation did"))
    }
}

/// One event, or what went wrong in its place.
#[derive(Debug, Default, PartialEq)]
struct Message {
    /// `event`, `exception` or `error`.
    kind: String,
    /// The event's or the exception's name.
    event: String,
    payload: Bytes,
}

/// Takes a whole message off the buffer's front; `None` while there is none.
fn take(buffer: &mut BytesMut) -> Result<Option<Message>, Error> {
    if buffer.len() < PRELUDE {
        return Ok(None);
    }
    let mut prelude = &buffer[..PRELUDE];
    let (total, headers) = (prelude.get_u32() as usize, prelude.get_u32() as usize);
    if prelude.get_u32() != crc32fast::hash(&buffer[..PRELUDE - 4]) {
        return Err(broken("a checksum does not match"));
    }
    if total > MESSAGE_MAX || headers > total || total - headers < PRELUDE + TRAILER {
        return Err(broken("the lengths of a message cannot be"));
    }
    if buffer.len() < total {
        return Ok(None);
    }
    let whole = buffer.split_to(total).freeze();
    let (body, mut checksum) = whole.split_at(total - TRAILER);
    if checksum.get_u32() != crc32fast::hash(body) {
        return Err(broken("a checksum does not match"));
    }
    let mut message = Message { payload: whole.slice(PRELUDE + headers..total - TRAILER), ..Message::default() };
    read_headers(&body[PRELUDE..PRELUDE + headers], &mut message).ok_or_else(|| broken("a header cannot be read"))?;
    Ok(Some(message))
}

fn read_headers(mut bytes: &[u8], message: &mut Message) -> Option<()> {
    while !bytes.is_empty() {
        let length = bytes.try_get_u8().ok()?.into();
        let name = bytes.split_off(..length)?;
        if bytes.try_get_u8().ok()? != TEXT {
            return None;
        }
        let length = bytes.try_get_u16().ok()?.into();
        let value = std::str::from_utf8(bytes.split_off(..length)?).ok()?;
        match name {
            b":message-type" => message.kind = value.to_owned(),
            b":event-type" | b":exception-type" | b":error-code" => message.event = value.to_owned(),
            _ => {}
        }
    }
    Some(())
}

fn complete(payload: &[u8]) -> Result<Streamed, Error> {
    let mut streamed: Streamed = super::from_json(OPERATION, payload)?;
    let decode = |text: String| STANDARD.decode(text).ok().map(|b| String::from_utf8_lossy(&b).into_owned());
    streamed.log_tail = streamed.log_tail.and_then(decode);
    Ok(streamed)
}

fn refused(message: &Message) -> Error {
    let text = String::from_utf8_lossy(&message.payload).into_owned();
    Error::Service { operation: OPERATION, status: 500, code: message.event.clone(), message: text }
}

fn broken(reason: &str) -> Error {
    Error::Answer { operation: OPERATION, reason: reason.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(event: &str, payload: &[u8]) -> Vec<u8> {
        let mut headers = Vec::new();
        for (name, value) in [(":message-type", "event"), (":event-type", event)] {
            headers.push(name.len() as u8);
            headers.extend(name.as_bytes());
            headers.push(TEXT);
            headers.extend((value.len() as u16).to_be_bytes());
            headers.extend(value.as_bytes());
        }
        let total = PRELUDE + headers.len() + payload.len() + TRAILER;
        let mut bytes = Vec::new();
        bytes.extend((total as u32).to_be_bytes());
        bytes.extend((headers.len() as u32).to_be_bytes());
        bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        bytes.extend(headers);
        bytes.extend(payload);
        bytes.extend(crc32fast::hash(&bytes).to_be_bytes());
        bytes
    }

    #[test]
    fn messages_are_read_however_they_are_cut() {
        let bytes = [message("PayloadChunk", b"one"), message("InvokeComplete", b"{}")].concat();
        let mut buffer = BytesMut::new();
        let mut seen = Vec::new();
        for byte in bytes {
            buffer.extend_from_slice(&[byte]);
            while let Some(m) = take(&mut buffer).unwrap() {
                seen.push((m.kind, m.event, m.payload));
            }
        }
        let event = |name: &str, payload: &'static [u8]| ("event".to_owned(), name.to_owned(), Bytes::from(payload));
        assert_eq!(seen, [event("PayloadChunk", b"one"), event("InvokeComplete", b"{}")]);
    }

    #[test]
    fn a_bent_message_is_an_error() {
        let good = message("PayloadChunk", b"one");
        for at in 0..good.len() {
            let mut bent = good.clone();
            bent[at] ^= 0x10;
            assert!(take(&mut BytesMut::from(&bent[..])).is_err(), "{at}");
        }
    }

    #[test]
    fn the_end_says_how_it_went() {
        let streamed = complete(br#"{"ErrorCode":"Error","ErrorDetails":"d","LogResult":"aGk="}"#).unwrap();
        assert_eq!((streamed.error_code.as_deref(), streamed.log_tail.as_deref()), (Some("Error"), Some("hi")));
        assert_eq!(complete(b"").unwrap(), Streamed::default());
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_messages_or_an_error(
            bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80),
            headers in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..40),
            total in 0u32..200,
        ) {
            let mut buffer = BytesMut::from(&bytes[..]);
            while let Ok(Some(_)) = take(&mut buffer) {}
            // With checksums that match, so that lengths and headers are reached.
            let mut shaped = Vec::new();
            shaped.extend(total.to_be_bytes());
            shaped.extend((headers.len() as u32).to_be_bytes());
            shaped.extend(crc32fast::hash(&shaped).to_be_bytes());
            shaped.extend(headers);
            shaped.resize((total as usize).max(shaped.len() + TRAILER) - TRAILER, b'x');
            shaped.extend(crc32fast::hash(&shaped).to_be_bytes());
            let _ = take(&mut BytesMut::from(&shaped[..]));
            let _ = complete(&bytes);
        }
    }
}
