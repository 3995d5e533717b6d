//! Records at rest: one version byte, then JSON.
//!
//! The byte is the version of the record's own layout. A room that changes a layout keeps reading the older ones.

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;

/// A record could not be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("an empty record")]
    Empty,
    #[error("a record of version {found}, this binary knows up to {known}")]
    Newer { found: u8, known: u8 },
    #[error("a record that does not fit its layout: {0}")]
    Shape(#[from] serde_json::Error),
}

/// Encodes a record of layout `version`.
///
/// # Panics
/// If `value` cannot be JSON (a map with keys that are not text): that is a mistake in the record's type.
pub fn encode<T: Serialize + ?Sized>(version: u8, value: &T) -> Bytes {
    // What most records fit into without being moved.
    let mut out = Vec::with_capacity(512);
    out.push(version);
    serde_json::to_writer(&mut out, value).expect("a record type is JSON and a vector takes every write");
    out.into()
}

/// Decodes a record of exactly layout `known`. Where older layouts exist, look at [`version`] first.
pub fn decode<T: DeserializeOwned>(known: u8, bytes: &[u8]) -> Result<T, Error> {
    match version(bytes)? {
        found if found > known => Err(Error::Newer { found, known }),
        _ => Ok(serde_json::from_slice(&bytes[1..])?),
    }
}

/// The layout version of a record.
pub fn version(bytes: &[u8]) -> Result<u8, Error> {
    bytes.first().copied().ok_or(Error::Empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn round_trips_and_refuses() {
        let bytes = encode(2, &vec![1, 2]);
        assert_eq!(bytes, b"\x02[1,2]"[..]);
        assert_eq!(decode::<Vec<u8>>(2, &bytes).unwrap(), [1, 2]);
        assert!(matches!(decode::<Vec<u8>>(1, &bytes), Err(Error::Newer { found: 2, known: 1 })));
        assert!(matches!(decode::<Vec<u8>>(1, b""), Err(Error::Empty)));
        assert!(matches!(decode::<Vec<u8>>(1, b"\x01{"), Err(Error::Shape(_))));
    }
}
