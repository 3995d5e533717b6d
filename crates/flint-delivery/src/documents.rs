//! The documents that leave with an event: the record of a destination, the attributes of a dead letter.
//!
//! Pure. Reference: Lambda Developer Guide, "Capturing records of Lambda asynchronous invocations" (the invocation record)
//! and "Adding a dead-letter queue" (`RequestID`, `ErrorCode`, `ErrorMessage`).

use bytes::Bytes;
use flint_base::{RequestId, Timestamp};
use serde::Serialize;
use serde_json::value::RawValue;

use crate::policy::Condition;

/// Bytes of `ErrorMessage`.
const ERROR_MESSAGE_MAX: usize = 1_024;

/// How the last attempt was answered. A throttle has a status alone.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub status: u16,
    pub executed_version: Option<String>,
    pub function_error: Option<String>,
    pub payload: Option<Bytes>,
    /// Why the platform did not run it, in the platform's words.
    pub message: Option<String>,
}

/// What a destination is told.
#[derive(Clone, Debug)]
pub(crate) struct Report<'a> {
    pub at: Timestamp,
    pub request_id: RequestId,
    /// With the qualifier; `$LATEST` where the caller gave none.
    pub function_arn: String,
    pub condition: Condition,
    pub attempts: u32,
    pub request: &'a [u8],
    /// `None` if no attempt was ever made.
    pub answer: Option<&'a Answer>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Record<'a> {
    version: &'static str,
    timestamp: String,
    request_context: RequestContext<'a>,
    request_payload: Box<RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_context: Option<ResponseContext<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    response_payload: Option<Box<RawValue>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RequestContext<'a> {
    request_id: RequestId,
    function_arn: &'a str,
    condition: &'static str,
    approximate_invoke_count: u32,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ResponseContext<'a> {
    status_code: u16,
    #[serde(skip_serializing_if = "Option::is_none")]
    executed_version: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    function_error: Option<&'a str>,
}

impl Report<'_> {
    /// The invocation record, as JSON.
    pub(crate) fn render(&self) -> Bytes {
        let record = Record {
            version: "1.0",
            timestamp: self.at.to_iso8601(),
            request_context: RequestContext {
                request_id: self.request_id,
                function_arn: &self.function_arn,
                condition: self.condition.name(),
                approximate_invoke_count: self.attempts,
            },
            request_payload: embed(if self.request.is_empty() { b"{}" } else { self.request }),
            response_context: self.answer.map(|answer| ResponseContext {
                status_code: answer.status,
                executed_version: answer.executed_version.as_deref(),
                function_error: answer.function_error.as_deref(),
            }),
            response_payload: self.answer.and_then(|answer| answer.payload.as_deref()).map(embed),
        };
        serde_json::to_vec(&record).expect("every part is JSON").into()
    }
}

/// `bytes` as they are if they are JSON, or as a text: a custom runtime may answer with anything.
fn embed(bytes: &[u8]) -> Box<RawValue> {
    let text = String::from_utf8_lossy(bytes);
    RawValue::from_string(text.trim().to_owned()).unwrap_or_else(|_| {
        let quoted = serde_json::to_string(&text).expect("text is JSON");
        RawValue::from_string(quoted).expect("it was just rendered")
    })
}

/// The attributes of a dead letter: name, value, whether it is a number.
pub(crate) fn dead_letter_attributes(
    request_id: RequestId,
    condition: Condition,
    answer: Option<&Answer>,
) -> Vec<(String, String, bool)> {
    let mut attributes = vec![("RequestID".to_owned(), request_id.to_string(), false)];
    if let Some(answer) = answer {
        attributes.push(("ErrorCode".to_owned(), answer.status.to_string(), true));
    }
    attributes.push(("ErrorMessage".to_owned(), error_message(condition, answer), false));
    attributes
}

/// What went wrong, in at most 1 KB.
pub(crate) fn error_message(condition: Condition, answer: Option<&Answer>) -> String {
    let of_function = || {
        let payload = answer?.payload.as_deref()?;
        let document: serde_json::Value = serde_json::from_slice(payload).ok()?;
        Some(document.get("errorMessage")?.as_str()?.to_owned())
    };
    let of_platform = || answer.and_then(|answer| answer.message.clone());
    let by_condition = || match condition {
        Condition::ZeroReservedConcurrency => {
            "Function not invoked. Function is configured with zero reserved concurrent executions".to_owned()
        }
        other => other.name().to_owned(),
    };
    let message = of_function().or_else(of_platform).filter(|text| !text.is_empty()).unwrap_or_else(by_condition);
    truncated(message.replace(|c| !is_legal(c), "\u{FFFD}"))
}

/// Whether a queue's message may hold the character (SQS API reference, `SendMessage`).
fn is_legal(c: char) -> bool {
    matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..)
}

/// A JSON text as a queue takes it: the two characters that JSON lets stand and a queue does not are escaped.
pub(crate) fn for_queue(json: Bytes) -> Bytes {
    let odd = |three: &[u8]| matches!(three, [0xEF, 0xBF, 0xBE | 0xBF]);
    match std::str::from_utf8(&json) {
        Ok(text) if json.windows(3).any(odd) => {
            text.replace('\u{fffe}', "\\ufffe").replace('\u{ffff}', "\\uffff").into()
        }
        _ => json,
    }
}

fn truncated(mut text: String) -> String {
    let mut end = ERROR_MESSAGE_MAX.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_cut_at_a_character() {
        let answer = |message: String| Answer {
            status: 200,
            payload: Some(format!("{{\"errorMessage\":\"{message}\"}}").into()),
            ..Answer::default()
        };
        let long = error_message(Condition::RetriesExhausted, Some(&answer("ü".repeat(600))));
        assert_eq!(long.len(), 1_024);
        let odd = error_message(Condition::RetriesExhausted, Some(&answer(format!("a{}", "ü".repeat(600)))));
        assert_eq!(odd.len(), 1_023);
    }

    #[test]
    fn a_queue_takes_whatever_a_function_says() {
        let answer =
            Answer { payload: Some(r#"{"errorMessage":"\u001b[31mno\u0000\n\uffff"}"#.into()), ..Answer::default() };
        let message = error_message(Condition::RetriesExhausted, Some(&answer));
        assert_eq!(message, "\u{FFFD}[31mno\u{FFFD}\n\u{FFFD}");
        let plain = Bytes::from_static(b"{\"a\":\"\xc3\xbc\"}");
        assert_eq!(for_queue(plain.clone()).as_ptr(), plain.as_ptr(), "what is legal is not copied");
        let odd = for_queue("{\"a\":\"x\u{ffff}\u{fffe}\u{fffd}\"}".into());
        assert_eq!(odd, "{\"a\":\"x\\uffff\\ufffe\u{fffd}\"}".as_bytes(), "the same JSON");
    }

    #[test]
    fn answers_that_are_no_json_travel_as_text() {
        assert_eq!(embed(b" {\"a\": 1}\n").get(), "{\"a\": 1}");
        assert_eq!(embed(b"plain \"text\"").get(), "\"plain \\\"text\\\"\"");
        assert_eq!(embed(&[0xFF]).get(), "\"\u{FFFD}\"");
    }
}
