//! How many HTTP/2 frames a client may send that ask for nothing.
//!
//! Pings, settings, priorities, resets and window updates cost the sender a few bytes and the server an answer or a look.
//! Each connection has a stock of them, which grows with what it asks and with what it is sent: a flood ends, a client
//! that keeps its connection alive, or takes a large answer in small steps, never notices.
//!
//! Reference: RFC 9113, sections 4.1 (frame format), 6 (types), 10.5 (denial of service).

/// The client's preface, which comes before the first frame.
const PREFACE: usize = 24;

const HEADER: usize = 9;

/// Frames of a new connection.
const STOCK: u32 = 1000;

/// What one request adds.
const A_REQUEST: u32 = 100;

/// Bytes of answers that add one: some clients update two windows every 4 KiB.
const BYTES_A_FRAME: usize = 1024;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;

/// Follows one connection's frames.
#[derive(Debug)]
pub(super) struct Watch {
    header: [u8; HEADER],
    have: usize,
    /// Bytes of the preface or of a payload that are still to come.
    skip: usize,
    stock: u32,
    written: usize,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self { header: [0; HEADER], have: 0, skip: PREFACE, stock: STOCK, written: 0 }
    }

    /// Looks at the next bytes that the client sent. False once the stock is used up.
    pub(super) fn look(&mut self, mut bytes: &[u8]) -> bool {
        while !bytes.is_empty() {
            if self.skip > 0 {
                let n = self.skip.min(bytes.len());
                self.skip -= n;
                bytes = &bytes[n..];
                continue;
            }
            let n = (HEADER - self.have).min(bytes.len());
            self.header[self.have..self.have + n].copy_from_slice(&bytes[..n]);
            self.have += n;
            bytes = &bytes[n..];
            if self.have == HEADER && !self.frame() {
                return false;
            }
        }
        true
    }

    /// The client took `bytes` more.
    pub(super) fn wrote(&mut self, bytes: usize) {
        self.written += bytes;
        let frames = u32::try_from(self.written / BYTES_A_FRAME).unwrap_or(u32::MAX);
        self.written %= BYTES_A_FRAME;
        self.stock = self.stock.saturating_add(frames);
    }

    fn frame(&mut self) -> bool {
        let [a, b, c, kind, ..] = self.header;
        (self.have, self.skip) = (0, u32::from_be_bytes([0, a, b, c]) as usize);
        match kind {
            HEADERS => self.stock = self.stock.saturating_add(A_REQUEST),
            // The protocol's own library bounds those that are empty or too many.
            DATA | CONTINUATION => {}
            _ if self.stock == 0 => return false,
            _ => self.stock -= 1,
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: usize) -> Vec<u8> {
        let mut frame = u32::try_from(payload).expect("small").to_be_bytes()[1..].to_vec();
        frame.extend([kind, 0, 0, 0, 0, 1]);
        frame.resize(HEADER + payload, b'x');
        frame
    }

    /// How many pings a connection may send, cut into pieces of `piece` bytes, after what `before` did.
    fn pings(piece: usize, before: impl Fn(&mut Watch)) -> u32 {
        let mut watch = Watch::new();
        watch.look(&[b'P'; PREFACE]);
        before(&mut watch);
        let mut count = 0;
        while frame(6, 8).chunks(piece).all(|piece| watch.look(piece)) {
            count += 1;
        }
        count
    }

    #[test]
    fn a_flood_ends_and_a_client_at_work_does_not() {
        for piece in [1, 5, 9, 17] {
            assert_eq!(pings(piece, |_| {}), STOCK);
            assert_eq!(pings(piece, |w| assert!(w.look(&frame(HEADERS, 100)))), STOCK + A_REQUEST);
        }
        let taken = |w: &mut Watch| (0..1000).for_each(|_| w.wrote(512));
        assert_eq!(pings(17, taken), STOCK + 500);
        // Windows updated every 4 KiB of a download, and pings beside long calls.
        let mut watch = Watch::new();
        assert!(watch.look(&[b'P'; PREFACE]));
        for _ in 0..100_000 {
            watch.wrote(4096);
            assert!(watch.look(&frame(8, 4)) && watch.look(&frame(8, 4)));
        }
        for _ in 0..1000 {
            assert!(watch.look(&frame(HEADERS, 50)));
            (0..90).for_each(|_| assert!(watch.look(&frame(6, 8))));
        }
    }

    #[test]
    fn payloads_are_not_read_as_frames() {
        let mut watch = Watch::new();
        watch.look(&[b'P'; PREFACE]);
        let inner = frame(6, 8).repeat(10_000);
        let mut data = frame(DATA, inner.len());
        data.truncate(HEADER);
        data.extend(inner);
        assert!(watch.look(&data));
        assert_eq!(watch.stock, STOCK);
    }
}
