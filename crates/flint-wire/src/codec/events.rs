//! `application/vnd.amazon.eventstream`: framed events, each with its own checksums.
//!
//! A frame is: total length, length of the headers, CRC-32 of those eight bytes, headers, payload, CRC-32 of all before.
//! Numbers are big-endian. A header is the length of its name, the name, its type, and the value.
//!
//! Reference: Transcribe Developer Guide, "Event stream encoding"; Smithy, "Amazon Event Stream specification".

use bytes::{BufMut, Bytes, BytesMut};
use flint_kit::body::ByteStream;
use flint_kit::{Body, Doc, Event, EventStream, Fault};
use futures_util::StreamExt;
use futures_util::stream;

use super::{internal, json, scalar};
use crate::shape::{Kind, Member, Place, Shape};

/// The content type of an answer that is a stream of events.
pub const CONTENT_TYPE: &str = "application/vnd.amazon.eventstream";

/// The type of a header whose value is text.
const TEXT: u8 = 7;

/// The bytes around headers and payload: prelude, its checksum, and the checksum of the whole.
const OVERHEAD: usize = 16;

/// Larger chunks are cut, so that no reader has to hold more than this for one event (SDKs refuse above 16 MiB).
const LARGEST: usize = 1 << 20;

/// Frames `events` as the members of `shape`. After an error event nothing follows.
pub fn encode(shape: &'static Shape, events: EventStream) -> Body {
    let frames = events.scan(false, move |over, event| {
        let frames = if *over {
            None
        } else {
            let framed = event.and_then(|event| frame_event(shape, &event));
            *over = framed.is_err();
            Some(framed.unwrap_or_else(|fault| {
                if let Some(source) = &fault.source {
                    tracing::error!(code = %fault.code, source = %source, "a stream failed on our side");
                }
                vec![frame_fault(&fault)]
            }))
        };
        std::future::ready(frames)
    });
    let pieces: ByteStream = Box::pin(frames.flat_map(|frames| stream::iter(frames.into_iter().map(Ok))));
    Body::Stream(pieces)
}

/// The frames of one event: one, unless its payload is a large blob.
fn frame_event(shape: &Shape, event: &Event) -> Result<Vec<Bytes>, Fault> {
    let member = shape.member(event.name).ok_or_else(|| internal(format!("{} has no {}", shape.name, event.name)))?;
    let mut headers = vec![(":message-type", "event".to_owned()), (":event-type", event.name.to_owned())];
    for m in member.shape.members().iter().filter(|m| m.place == Place::Header) {
        let value = event.doc.get(m.name).and_then(|v| scalar::write(m.shape, v, scalar::TimeForm::Iso));
        headers.extend(value.map(|v| (m.name, v)));
    }
    let (content_type, payload) = payload(member, &event.doc)?;
    headers.push((":content-type", content_type.to_owned()));
    let mut rest = payload;
    let mut frames = Vec::with_capacity(1);
    loop {
        let next = rest.split_off(rest.len().min(LARGEST));
        frames.push(frame(&headers, &rest));
        if next.is_empty() {
            return Ok(frames);
        }
        rest = next;
    }
}

fn payload(member: &Member, doc: &Doc) -> Result<(&'static str, Bytes), Fault> {
    let Some(payload) = member.shape.payload() else {
        return Ok(("application/json", json::render(member.shape, doc)?));
    };
    match (&payload.shape.kind, doc.get(payload.name)) {
        (Kind::Blob, Some(Doc::Blob(bytes))) => Ok(("application/octet-stream", bytes.clone())),
        (Kind::Text, Some(Doc::Text(text))) => Ok(("text/plain", Bytes::from(text.clone()))),
        (_, Some(value)) => Ok(("application/json", json::render(payload.shape, value)?)),
        (_, None) => Ok(("application/octet-stream", Bytes::new())),
    }
}

/// No stream of ours models its exceptions, so a fault is an unmodelled error: code and message travel as headers.
fn frame_fault(fault: &Fault) -> Bytes {
    let mut message = fault.message.clone();
    // A header's value has a length of two bytes.
    let end = (0..=message.len().min(4096)).rev().find(|at| message.is_char_boundary(*at)).unwrap_or(0);
    message.truncate(end);
    frame(
        &[(":message-type", "error".to_owned()), (":error-code", fault.code.to_string()), (":error-message", message)],
        &[],
    )
}

fn frame(headers: &[(&str, String)], payload: &[u8]) -> Bytes {
    let headers_len: usize = headers.iter().map(|(name, value)| 1 + name.len() + 3 + value.len()).sum();
    let total = OVERHEAD + headers_len + payload.len();
    let mut out = BytesMut::with_capacity(total);
    out.put_u32(u32::try_from(total).expect("headers are short and payloads are cut"));
    out.put_u32(u32::try_from(headers_len).expect("headers are short"));
    out.put_u32(crc32fast::hash(&out));
    for (name, value) in headers {
        out.put_u8(u8::try_from(name.len()).expect("names are ours"));
        out.put_slice(name.as_bytes());
        out.put_u8(TEXT);
        out.put_u16(u16::try_from(value.len()).expect("values are names of ours or cut"));
        out.put_slice(value.as_bytes());
    }
    out.put_slice(payload);
    out.put_u32(crc32fast::hash(&out));
    out.freeze()
}

#[cfg(test)]
mod tests {
    use futures_util::StreamExt;

    use super::*;
    use crate::tables::lambda;

    fn shape() -> &'static Shape {
        let operation = lambda::SERVICE.operation("InvokeWithResponseStream").expect("modelled");
        operation.shapes.as_ref().and_then(|s| s.output.payload()).expect("has a stream").shape
    }

    /// Takes one frame apart and checks its sums.
    fn parse(frame: &[u8]) -> (Vec<(String, String)>, Vec<u8>) {
        let number = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().expect("four bytes"));
        let (total, headers_len) = (number(0) as usize, number(4) as usize);
        assert_eq!(total, frame.len());
        assert_eq!(number(8), crc32fast::hash(&frame[..8]));
        assert_eq!(number(total - 4), crc32fast::hash(&frame[..total - 4]));
        let (mut rest, mut headers) = (&frame[12..12 + headers_len], Vec::new());
        while !rest.is_empty() {
            let (name, after) = rest[1..].split_at(rest[0] as usize);
            assert_eq!(after[0], TEXT);
            let (value, after) = after[3..].split_at(u16::from_be_bytes([after[1], after[2]]) as usize);
            headers.push((
                String::from_utf8(name.to_vec()).expect("text"),
                String::from_utf8(value.to_vec()).expect("text"),
            ));
            rest = after;
        }
        (headers, frame[12 + headers_len..total - 4].to_vec())
    }

    async fn framed(events: Vec<Result<Event, Fault>>) -> Vec<(Vec<(String, String)>, Vec<u8>)> {
        let Body::Stream(frames) = encode(shape(), Box::pin(stream::iter(events))) else { panic!("a stream") };
        frames.map(|f| parse(&f.expect("never fails"))).collect().await
    }

    fn header<'a>(frame: &'a (Vec<(String, String)>, Vec<u8>), name: &str) -> &'a str {
        frame.0.iter().find(|(n, _)| n == name).map_or("", |(_, v)| v)
    }

    #[tokio::test]
    async fn chunks_are_raw_and_the_end_is_json() {
        let chunk = |text: &'static [u8]| Ok(Event::bytes("PayloadChunk", "Payload", Bytes::from_static(text)));
        let end = Event::new("InvokeComplete", Doc::Map(vec![("ErrorCode".into(), Doc::from("Runtime.Unknown"))]));
        let frames = framed(vec![chunk(b"a"), chunk(b""), Ok(end)]).await;
        assert_eq!(frames.len(), 3);
        assert_eq!((header(&frames[0], ":event-type"), &frames[0].1[..]), ("PayloadChunk", &b"a"[..]));
        assert_eq!(header(&frames[0], ":content-type"), "application/octet-stream");
        assert_eq!(header(&frames[2], ":message-type"), "event");
        assert_eq!(
            (header(&frames[2], ":content-type"), &frames[2].1[..]),
            ("application/json", &br#"{"ErrorCode":"Runtime.Unknown"}"#[..])
        );
    }

    #[tokio::test]
    async fn a_fault_is_told_and_ends_the_stream() {
        let late = Ok(Event::bytes("PayloadChunk", "Payload", Bytes::from_static(b"late")));
        let frames = framed(vec![Err(Fault::server(500, "ServiceException", "it broke")), late]).await;
        assert_eq!(frames.len(), 1);
        assert_eq!(header(&frames[0], ":message-type"), "error");
        assert_eq!(header(&frames[0], ":error-code"), "ServiceException");
        assert_eq!(header(&frames[0], ":error-message"), "it broke");
        let frames = framed(vec![Ok(Event::new("Nothing", Doc::Map(Vec::new())))]).await;
        assert_eq!(header(&frames[0], ":error-code"), "InternalFailure");
    }

    #[tokio::test]
    async fn a_large_chunk_is_cut() {
        let whole = vec![7_u8; 2 * LARGEST + 5];
        let frames = framed(vec![Ok(Event::bytes("PayloadChunk", "Payload", Bytes::from(whole.clone())))]).await;
        assert_eq!(frames.iter().map(|f| f.1.len()).collect::<Vec<_>>(), [LARGEST, LARGEST, 5]);
        assert_eq!(frames.into_iter().flat_map(|f| f.1).collect::<Vec<_>>(), whole);
    }
}
