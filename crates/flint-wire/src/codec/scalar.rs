//! Values that travel as text: in headers, paths, query strings and forms.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::DecodePaddingMode;
use base64::engine::general_purpose::{GeneralPurpose, GeneralPurposeConfig};
use bytes::Bytes;
use flint_base::Timestamp;
use flint_kit::{Doc, Fault};

use super::serialization;
use crate::shape::{Kind, Shape};
use crate::sigv4::time;

/// Standard base64; padding is written, and read whether it is there or not.
pub(crate) const BASE64: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// How a timestamp is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimeForm {
    /// `2026-11-21T09:00:00.000Z`
    Iso,
    /// `Sat, 21 Nov 2026 09:00:00 GMT`
    Http,
}

/// Reads a text as a value of `shape`, which is no structure, list or map.
pub fn read(shape: &Shape, text: &str) -> Result<Doc, Fault> {
    match shape.kind {
        Kind::Text => Ok(Doc::Text(text.to_owned())),
        Kind::Boolean => match text {
            "true" => Ok(Doc::Bool(true)),
            "false" => Ok(Doc::Bool(false)),
            _ => Err(misfit("a Boolean")),
        },
        Kind::Integer | Kind::Long => text.parse().map(Doc::Int).map_err(|_| misfit("an Integer")),
        Kind::Double => text.parse().map(Doc::Float).map_err(|_| misfit("a Double")),
        Kind::Blob => decode_base64(text).map(Doc::Blob).ok_or_else(|| misfit("a Blob")),
        Kind::Timestamp => parse_time(text).map(Doc::Time).ok_or_else(|| misfit("a Timestamp")),
        Kind::Structure(_) | Kind::List(_) | Kind::Map(_) => {
            Err(serialization("Unexpected value where a structure, list or map is expected."))
        }
    }
}

/// Writes a scalar as text; `None` for what is no scalar.
pub fn write(shape: &Shape, value: &Doc, form: TimeForm) -> Option<String> {
    let time = |at: Timestamp| match form {
        TimeForm::Iso => at.to_iso8601(),
        TimeForm::Http => time::http(at),
    };
    match (value, &shape.kind) {
        (Doc::Int(ms), Kind::Timestamp) => Some(time(Timestamp::from_millis(*ms))),
        (Doc::Bool(b), _) => Some(b.to_string()),
        (Doc::Int(n), _) => Some(n.to_string()),
        (Doc::Float(n), _) => Some(float(*n)),
        (Doc::Text(s), _) => Some(s.clone()),
        (Doc::Blob(bytes), _) => Some(BASE64.encode(bytes)),
        (Doc::Time(at), Kind::Integer | Kind::Long) => Some(at.as_millis().to_string()),
        (Doc::Time(at), _) => Some(time(*at)),
        (Doc::Null | Doc::List(_) | Doc::Map(_), _) => None,
    }
}

/// Numbers that JSON can't hold travel as text.
pub(crate) fn float(n: f64) -> String {
    if n.is_nan() {
        "NaN".to_owned()
    } else if n.is_infinite() {
        if n > 0.0 { "Infinity".to_owned() } else { "-Infinity".to_owned() }
    } else {
        n.to_string()
    }
}

pub(crate) fn decode_base64(text: &str) -> Option<Bytes> {
    BASE64.decode(text).ok().map(Bytes::from)
}

/// ISO 8601, an HTTP date, or seconds since the epoch.
pub(crate) fn parse_time(text: &str) -> Option<Timestamp> {
    let seconds = || text.parse::<f64>().ok().and_then(from_seconds);
    Timestamp::parse_iso8601(text).or_else(|| time::parse_http(text)).or_else(seconds)
}

/// Seconds since the epoch, of any year that can be written with four digits.
pub(crate) fn from_seconds(seconds: f64) -> Option<Timestamp> {
    let ms = (seconds * 1000.0).round();
    let legal = (-62_135_596_800_000.0..=253_402_300_799_999.0).contains(&ms);
    legal.then_some(Timestamp::from_millis(ms as i64))
}

fn misfit(wanted: &str) -> Fault {
    serialization(format!("STRING_VALUE can not be converted to {wanted}"))
}
