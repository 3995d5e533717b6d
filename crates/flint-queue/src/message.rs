//! A message: what the sender gave, what is computed from it, and the rules it has to keep.

use std::sync::Arc;

use bytes::Bytes;
use flint_base::{EventId, Timestamp};
use flint_model::Lineage;
use md5::{Digest, Md5};

use crate::Error;

/// The largest message, and the largest batch of them, in bytes.
pub const MAX_MESSAGE_BYTES: usize = 1_048_576;
const MAX_ATTRIBUTES: usize = 10;
const MAX_NAME: usize = 256;
const ALLOWED: &str = "#x9 | #xA | #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF";

/// What never changes about a message while it lies in a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// `MessageId`
    pub id: EventId,
    /// Its event is the message's id, unless another room brought the event here.
    pub lineage: Lineage,
    /// `SentTimestamp`.
    pub sent: Timestamp,
    /// `SenderId`.
    pub sender: String,
    pub md5_of_body: [u8; 16],
    pub attributes: Vec<Attribute>,
    pub group: Option<String>,
    pub deduplication: Option<String>,
    /// `AWSTraceHeader`
    pub trace: Option<Arc<str>>,
    /// `DeadLetterQueueSourceArn`: the queue that it was moved away from.
    pub origin: Option<String>,
    pub body: Body,
}

/// Where the text is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Body {
    Inline(Bytes),
    /// In rows of its own, under the message's id.
    Chunks {
        count: u16,
        bytes: u32,
    },
}

/// A message attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attribute {
    pub name: String,
    /// `String`, `Number` or `Binary`, and what its sender put behind a dot.
    pub data_type: String,
    pub value: Value,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Binary(Bytes),
}

impl Attribute {
    fn size(&self) -> usize {
        self.name.len() + self.data_type.len() + self.value.bytes().len()
    }
}

impl Value {
    pub fn bytes(&self) -> &[u8] {
        match self {
            Value::Text(text) => text.as_bytes(),
            Value::Binary(bytes) => bytes,
        }
    }
}

/// The MD5 digest of a text.
pub fn md5_of(text: &[u8]) -> [u8; 16] {
    Md5::digest(text).into()
}

/// The digest over message attributes; `None` if there are none.
///
/// Reference: SQS Developer Guide, "Calculating the MD5 message digest for message attributes".
pub fn md5_of_attributes<'a>(attributes: impl IntoIterator<Item = &'a Attribute>) -> Option<[u8; 16]> {
    let mut sorted: Vec<&Attribute> = attributes.into_iter().collect();
    if sorted.is_empty() {
        return None;
    }
    sorted.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    let mut digest = Md5::new();
    for attribute in sorted {
        part(&mut digest, attribute.name.as_bytes());
        part(&mut digest, attribute.data_type.as_bytes());
        digest.update([if matches!(attribute.value, Value::Binary(_)) { 2 } else { 1 }]);
        part(&mut digest, attribute.value.bytes());
    }
    Some(digest.finalize().into())
}

fn part(digest: &mut Md5, bytes: &[u8]) {
    // A message has at most 1 MiB.
    digest.update((bytes.len() as u32).to_be_bytes());
    digest.update(bytes);
}

/// Checks what the sender gave against the rules of the reference, and measures it: the size of body and attributes.
///
/// Errors: `InvalidMessageContents`, `InvalidParameterValue`, `MissingParameter`.
pub fn check(body: &str, attributes: &[Attribute], largest: usize) -> Result<usize, Error> {
    if body.is_empty() {
        return Err(Error::Missing("MessageBody"));
    }
    characters(body, "message body")?;
    if attributes.len() > MAX_ATTRIBUTES {
        let found = attributes.len();
        return Err(Error::Invalid(format!(
            "Number of message attributes [{found}] exceeds the allowed maximum [{MAX_ATTRIBUTES}]."
        )));
    }
    for attribute in attributes {
        check_attribute(attribute)?;
    }
    let size = body.len() + attributes.iter().map(Attribute::size).sum::<usize>();
    if size > largest {
        return Err(Error::Invalid(format!(
            "One or more parameters are invalid. Reason: Message must be shorter than {largest} bytes."
        )));
    }
    Ok(size)
}

fn characters(text: &str, what: &str) -> Result<(), Error> {
    let legal = |c: &char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    // Most texts are printable ASCII: look at bytes first.
    // Looked at whole, not searched: that is done many bytes at a time.
    let plain = |piece: &[u8]| !piece.iter().fold(false, |odd, b| odd | !(b' '..=b'~').contains(b));
    if text.as_bytes().chunks(256).all(plain) {
        return Ok(());
    }
    match text.chars().find(|c| !legal(c)) {
        None => Ok(()),
        Some(c) => Err(Error::Contents(format!(
            "Invalid binary character '#x{:X}' was found in the {what}, the set of allowed characters is {ALLOWED}",
            u32::from(c)
        ))),
    }
}

fn check_attribute(attribute: &Attribute) -> Result<(), Error> {
    let Attribute { name, data_type, value } = attribute;
    let invalid = |what: String| Err(Error::Invalid(what));
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    let lower = name.to_ascii_lowercase();
    let dotted = name.starts_with('.') || name.ends_with('.') || name.contains("..");
    if name.is_empty() || name.len() > MAX_NAME || !name.bytes().all(legal) || dotted {
        return invalid(format!(
            "The message attribute name '{name}' is invalid. Attribute name can contain A-Z, a-z, 0-9, underscore (_), \
             hyphen (-), and period (.), must not start or end with a period or have successive periods, and has at \
             most {MAX_NAME} characters."
        ));
    }
    if lower.starts_with("aws.") || lower.starts_with("amazon.") {
        return invalid(format!(
            "You can't use message attribute names beginning with 'AWS.' or 'Amazon.'. These strings are reserved for \
             internal use. Your attribute: '{name}'."
        ));
    }
    let kind = data_type.split('.').next().unwrap_or("");
    let label = data_type.strip_prefix(kind).unwrap_or("");
    if data_type.len() > MAX_NAME || !matches!(kind, "String" | "Number" | "Binary") || !label.bytes().all(legal) {
        return invalid(format!(
            "The message attribute '{name}' has an invalid message attribute type, the set of supported type prefixes is \
             Binary, Number, and String."
        ));
    }
    if (kind == "Binary") != matches!(value, Value::Binary(_)) {
        let wanted = if kind == "Binary" { "BinaryValue" } else { "StringValue" };
        return invalid(format!("The message attribute '{name}' with type '{kind}' must use field '{wanted}'."));
    }
    if value.bytes().is_empty() {
        return invalid(format!(
            "Message (user) attribute '{name}' must contain a non-empty value of type '{data_type}'."
        ));
    }
    let Value::Text(text) = value else { return Ok(()) };
    if kind == "Number" && !is_number(text) {
        return invalid(format!("Can't cast the value of message (user) attribute '{name}' to a number."));
    }
    characters(text, &format!("message attribute '{name}'"))
}

/// A decimal number of at most 38 digits, as `Number` allows.
fn is_number(text: &str) -> bool {
    let digits = text.bytes().filter(u8::is_ascii_digit).count();
    digits <= 38
        && text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'))
        && text.parse::<f64>().is_ok_and(f64::is_finite)
}

/// Whether `header` may be an `AWSTraceHeader`: it goes on into headers of requests, and into answers in XML.
pub fn is_trace_header(header: &str) -> bool {
    !header.is_empty() && header.bytes().all(|b| matches!(b, b' '..=b'~'))
}

/// Whether `id` may be a `MessageGroupId`, a `MessageDeduplicationId` or a `ReceiveRequestAttemptId`.
pub fn is_token(id: &str) -> bool {
    (1..=128).contains(&id.len()) && id.bytes().all(|b| b.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(name: &str, data_type: &str, value: &str) -> Attribute {
        Attribute { name: name.into(), data_type: data_type.into(), value: Value::Text(value.into()) }
    }

    #[test]
    fn digests_are_those_of_the_reference() {
        assert_eq!(hex(md5_of(b"hello")), "5d41402abc4b2a76b9719d911017c592");
        assert_eq!(md5_of_attributes([].iter()), None);
        // Computed by hand from the rule: lengths as 32 bits, big-endian, and one byte for the kind.
        let mut bytes = Vec::new();
        for (part, kind) in
            [("a", None), ("String", None), ("x", Some(1u8)), ("b", None), ("Binary", None), ("y", Some(2))]
        {
            bytes.extend(kind);
            bytes.extend((part.len() as u32).to_be_bytes());
            bytes.extend(part.as_bytes());
        }
        let binary =
            Attribute { name: "b".into(), data_type: "Binary".into(), value: Value::Binary(Bytes::from_static(b"y")) };
        assert_eq!(md5_of_attributes(&[binary, text("a", "String", "x")]), Some(md5_of(&bytes)));
    }

    fn hex(digest: [u8; 16]) -> String {
        digest.iter().map(|b| format!("{b:02x}")).collect()
    }

    #[test]
    fn the_rules_of_a_message() {
        let code = |body: &str, attributes: &[Attribute]| match check(body, attributes, 100) {
            Ok(size) => size.to_string(),
            Err(error) => flint_kit::Fault::from(error).code.to_string(),
        };
        assert_eq!(code("hé\t\u{10000}", &[]), "8");
        assert_eq!(code("body", &[text("a", "Number.int", "-1.5e3")]), "21");
        assert_eq!(code("", &[]), "MissingParameter");
        assert_eq!(code("\u{1}", &[]), "InvalidMessageContents");
        assert_eq!(code("\u{ffff}", &[]), "InvalidMessageContents");
        assert_eq!(code(&"x".repeat(101), &[]), "InvalidParameterValue");
        for bad in [
            text("", "String", "x"),
            text(".a", "String", "x"),
            text("a..b", "String", "x"),
            text("a b", "String", "x"),
            text("AWS.a", "String", "x"),
            text("amazon.a", "String", "x"),
            text("a", "Text", "x"),
            text("a", "", "x"),
            text("a", "String.\u{1}", "x"),
            text("a", "String.é", "x"),
            text("a", "String", ""),
            text("a", "Number", "ten"),
            text("a", "Number", "inf"),
            text("a", "Binary", "x"),
        ] {
            assert_eq!(code("b", std::slice::from_ref(&bad)), "InvalidParameterValue", "{bad:?}");
        }
        assert_eq!(code("b", &vec![text("a", "String", "x"); 11]), "InvalidParameterValue");
        assert_eq!(code("b", &[text("a", "String", "\u{2}")]), "InvalidMessageContents");
    }
}
