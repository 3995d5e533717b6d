//! The bytes of a batch in the log.
//!
//! A frame's body is a sequence of batches: a 32-bit little-endian length, then operations until it is used up. Each
//! operation is a tag and its fields; texts and bytes carry a LEB128 length. Everything is read back with bounds.

use std::collections::HashMap;

use bytes::Bytes;

use crate::key::{Key, KeyRange, Keyspace};
use crate::state::Op;

const PUT: u8 = 1;
const DELETE: u8 = 2;
const DELETE_RANGE: u8 = 3;
const JOURNAL: u8 = 4;
const PAGE: u8 = 5;

/// Appends one batch.
pub(crate) fn encode(ops: &[Op], out: &mut Vec<u8>) {
    let start = out.len();
    out.extend_from_slice(&[0; 4]);
    for op in ops {
        match op {
            Op::Put { keyspace, key, value, absent: _ } => {
                out.push(PUT);
                put_bytes(out, keyspace.name().as_bytes());
                put_bytes(out, key.as_bytes());
                put_bytes(out, value);
            }
            Op::Delete(keyspace, key) => {
                out.push(DELETE);
                put_bytes(out, keyspace.name().as_bytes());
                put_bytes(out, key.as_bytes());
            }
            Op::DeleteRange(keyspace, range) => {
                out.push(DELETE_RANGE);
                put_bytes(out, keyspace.name().as_bytes());
                put_bytes(out, range.start.as_bytes());
                out.push(u8::from(range.end.is_some()));
                if let Some(end) = &range.end {
                    put_bytes(out, end.as_bytes());
                }
            }
            Op::Journal { place, event, value } => {
                out.push(JOURNAL);
                put_bytes(out, place.as_bytes());
                out.extend_from_slice(event);
                put_bytes(out, value);
            }
            Op::Page { place, count, value } => {
                out.push(PAGE);
                put_bytes(out, place.as_bytes());
                out.extend_from_slice(&count.to_le_bytes());
                put_bytes(out, value);
            }
        }
    }
    let len = u32::try_from(out.len() - start - 4).expect("a batch is at most 1 MiB");
    out[start..start + 4].copy_from_slice(&len.to_le_bytes());
}

fn put_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    let mut len = bytes.len();
    while len >= 0x80 {
        out.push((len as u8) | 0x80);
        len >>= 7;
    }
    out.push(len as u8);
    out.extend_from_slice(bytes);
}

/// Reads batches back. Keeps the names of keyspaces that it met.
#[derive(Debug, Default)]
pub(crate) struct Decoder {
    names: HashMap<Box<[u8]>, Keyspace>,
}

impl Decoder {
    /// The next batch of a body, which shrinks by it; `None` if the bytes are not a batch.
    pub fn batch(&mut self, body: &mut &[u8]) -> Option<Vec<Op>> {
        let (len, rest) = body.split_first_chunk::<4>()?;
        let (mut batch, rest) = rest.split_at_checked(u32::from_le_bytes(*len) as usize)?;
        *body = rest;
        let mut ops = Vec::new();
        while let Some((tag, fields)) = batch.split_first() {
            batch = fields;
            ops.push(self.op(*tag, &mut batch)?);
        }
        Some(ops)
    }

    fn op(&mut self, tag: u8, input: &mut &[u8]) -> Option<Op> {
        Some(match tag {
            PUT => {
                let (keyspace, key) = (self.keyspace(input)?, take_key(input)?);
                Op::Put { keyspace, key, value: Bytes::copy_from_slice(take_bytes(input)?), absent: false }
            }
            DELETE => Op::Delete(self.keyspace(input)?, take_key(input)?),
            DELETE_RANGE => {
                let (keyspace, start) = (self.keyspace(input)?, take_key(input)?);
                let (bounded, rest) = input.split_first()?;
                *input = rest;
                let end = if *bounded == 0 { None } else { Some(take_key(input)?) };
                Op::DeleteRange(keyspace, KeyRange { start, end })
            }
            JOURNAL => {
                let place = take_key(input)?;
                let (event, rest) = input.split_first_chunk::<16>()?;
                *input = rest;
                Op::Journal { place, event: *event, value: Bytes::copy_from_slice(take_bytes(input)?) }
            }
            PAGE => {
                let place = take_key(input)?;
                let (count, rest) = input.split_first_chunk::<2>()?;
                *input = rest;
                let count = u16::from_le_bytes(*count);
                Op::Page { place, count, value: Bytes::copy_from_slice(take_bytes(input)?) }
            }
            _ => return None,
        })
    }

    fn keyspace(&mut self, input: &mut &[u8]) -> Option<Keyspace> {
        let name = take_bytes(input)?;
        if let Some(known) = self.names.get(name) {
            return Some(*known);
        }
        let text = std::str::from_utf8(name).ok().filter(|text| (1..=64).contains(&text.len()))?;
        // A keyspace's name lives as long as the program; a store has a few dozen.
        let keyspace = Keyspace::new(Box::leak(Box::<str>::from(text)));
        self.names.insert(name.into(), keyspace);
        Some(keyspace)
    }
}

fn take_key(input: &mut &[u8]) -> Option<Key> {
    take_bytes(input).map(Key::from_bytes)
}

fn take_bytes<'a>(input: &mut &'a [u8]) -> Option<&'a [u8]> {
    let mut len = 0usize;
    for shift in [0, 7, 14, 21, 28] {
        let (byte, rest) = input.split_first()?;
        *input = rest;
        len |= usize::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            let (bytes, rest) = input.split_at_checked(len)?;
            *input = rest;
            return Some(bytes);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const K: Keyspace = Keyspace::new("k");

    fn sample() -> Vec<Op> {
        let key = Key::default().text("a");
        vec![
            Op::Put { keyspace: K, key: key.clone(), value: Bytes::from(vec![7; 300]), absent: false },
            Op::Delete(K, key.clone()),
            Op::DeleteRange(K, KeyRange::prefix(&key)),
            Op::DeleteRange(K, KeyRange::all()),
            Op::Journal { place: key.clone(), event: [3; 16], value: Bytes::from_static(b"e") },
            Op::Page { place: key, count: 2, value: Bytes::from_static(b"page") },
        ]
    }

    #[test]
    fn round_trips() {
        let mut bytes = Vec::new();
        encode(&sample(), &mut bytes);
        encode(&[], &mut bytes);
        let mut rest = &bytes[..];
        let mut decoder = Decoder::default();
        assert_eq!(decoder.batch(&mut rest), Some(sample()));
        assert_eq!(decoder.batch(&mut rest), Some(vec![]));
        assert_eq!(rest, b"");
        assert_eq!(decoder.batch(&mut rest), None);
    }

    #[test]
    fn bent_bytes_are_refused_or_read_but_never_panic() {
        let mut bytes = Vec::new();
        encode(&sample(), &mut bytes);
        for len in 0..bytes.len() {
            assert_eq!(Decoder::default().batch(&mut &bytes[..len]), None, "{len}");
        }
        for at in 0..bytes.len() {
            for bit in 0..8 {
                let mut bent = bytes.clone();
                bent[at] ^= 1 << bit;
                let _ = Decoder::default().batch(&mut &bent[..]);
            }
        }
    }
}
