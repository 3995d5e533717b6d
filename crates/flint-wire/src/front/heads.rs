//! What an HTTP/1 message must keep to beyond what the parser insists on: every line of a head ends in CR LF, and the
//! length of a body is told once and in one way.
//!
//! A proxy in front and this server must not disagree on where a message ends; each of these is a way to make them.
//! [`Watch`] looks at the bytes on their way to the parser and follows the framing. The end of a line that is not allowed
//! becomes a byte that the parser refuses, so that the caller gets the parser's own 400 and the connection closes.
//!
//! Reference: RFC 9112, sections 2.2 (line ends), 6.1 and 6.3 (lengths), 7.1 (chunks), 11.2 (request smuggling).

use memchr::memchr;

/// What is kept of a line that comes in pieces: longer than a length field or a chunk's size has reason to be.
const KEPT: usize = 64;

/// A byte that is legal nowhere in a head.
const REFUSED: u8 = 0;

/// Follows one connection's requests.
#[derive(Debug)]
pub(super) struct Watch {
    state: State,
    line: Line,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Head(Head),
    /// Bytes of a body whose length the head told.
    Body(u64),
    ChunkSize,
    /// Bytes of a chunk and of the line end after it.
    Chunk(u64),
    Trailers,
    /// Nothing more is looked at: the parser refuses this connection.
    Over,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Head {
    /// The request line has come.
    begun: bool,
    length: Option<u64>,
    chunked: bool,
}

/// A line that has begun in an earlier read.
#[derive(Debug)]
struct Line {
    kept: [u8; KEPT],
    length: usize,
    last: u8,
}

impl Watch {
    pub(super) fn new() -> Self {
        Self { state: State::Head(Head::default()), line: Line { kept: [0; KEPT], length: 0, last: 0 } }
    }

    /// Whether a head has begun and not ended.
    pub(super) fn in_head(&self) -> bool {
        matches!(self.state, State::Head(head) if head.begun || self.line.length > 0)
    }

    /// Looks at the next bytes of the connection and bends what is not allowed.
    pub(super) fn look(&mut self, bytes: &mut [u8]) {
        let mut at = 0;
        while at < bytes.len() {
            let left = bytes.len() - at;
            match &mut self.state {
                State::Over => return,
                State::Body(rest) | State::Chunk(rest) => {
                    let taken = usize::try_from(*rest).map_or(left, |rest| rest.min(left));
                    *rest -= taken as u64;
                    at += taken;
                    if *rest == 0 {
                        let chunk = matches!(self.state, State::Chunk(_));
                        self.state = if chunk { State::ChunkSize } else { State::Head(Head::default()) };
                    }
                }
                State::Head(_) | State::ChunkSize | State::Trailers => {
                    let Some(end) = memchr(b'\n', &bytes[at..]) else {
                        self.line.push(&bytes[at..]);
                        return;
                    };
                    let whole = &bytes[at..at + end];
                    let (line, length, last) = if self.line.length == 0 {
                        (whole, whole.len(), whole.last().copied())
                    } else {
                        self.line.push(whole);
                        (&self.line.kept[..self.line.length.min(KEPT)], self.line.length, Some(self.line.last))
                    };
                    let ended_well = last == Some(b'\r');
                    let next = if ended_well { self.state.after(line, length - 1) } else { None };
                    self.line.length = 0;
                    // A chunk's extension takes any byte but this one, so there it is left for the parser to refuse.
                    if next.is_none() && (ended_well || self.state != State::ChunkSize) {
                        bytes[at + end] = REFUSED;
                    }
                    self.state = next.unwrap_or(State::Over);
                    at += end + 1;
                }
            }
        }
    }
}

impl State {
    /// The state after a line of `length` bytes of which `line` is the beginning. `None` if it is refused.
    fn after(self, line: &[u8], length: usize) -> Option<State> {
        // What is not kept of a long line is not needed, but for the lines that tell a length: see `fits`.
        let line = &line[..line.len().min(length)];
        let fits = length <= KEPT;
        match self {
            State::Head(head) if !head.begun => Some(State::Head(Head { begun: length > 0, ..head })),
            State::Head(head) if length == 0 => Some(match (head.chunked, head.length) {
                (true, _) => State::ChunkSize,
                (false, Some(n)) if n > 0 => State::Body(n),
                _ => State::Head(Head::default()),
            }),
            State::Head(head) => head.field(line, fits).map(State::Head),
            State::ChunkSize => match chunk_size(line)? {
                0 => Some(State::Trailers),
                size => size.checked_add(2).map(State::Chunk),
            },
            State::Trailers if length == 0 => Some(State::Head(Head::default())),
            other => Some(other),
        }
    }
}

impl Head {
    fn field(mut self, line: &[u8], fits: bool) -> Option<Self> {
        // The two names that matter begin with these.
        if !matches!(line.first(), Some(b'c' | b'C' | b't' | b'T')) {
            return Some(self);
        }
        let Some(colon) = memchr(b':', line) else { return Some(self) };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let told = self.chunked || self.length.is_some();
        if name.eq_ignore_ascii_case(b"content-length") {
            self.length = Some(number(value, 10).filter(|_| fits && !told)?);
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            self.chunked = fits && !told && value.eq_ignore_ascii_case(b"chunked");
            return self.chunked.then_some(self);
        }
        Some(self)
    }
}

impl Line {
    fn push(&mut self, piece: &[u8]) {
        if let Some(room) = self.kept.get_mut(self.length..) {
            let n = room.len().min(piece.len());
            room[..n].copy_from_slice(&piece[..n]);
        }
        self.length = self.length.saturating_add(piece.len());
        self.last = piece.last().copied().unwrap_or(self.last);
    }
}

/// The size in a chunk's first line; what follows it (white space, extensions) is the parser's to bound.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let end = line.iter().position(|b| !b.is_ascii_hexdigit()).unwrap_or(line.len());
    let legal = line.get(end).is_none_or(|b| matches!(b, b';' | b' ' | b'\t'));
    number(&line[..end], 16).filter(|_| legal)
}

fn number(digits: &[u8], radix: u32) -> Option<u64> {
    // `from_str_radix` takes a sign, a length has none.
    let digits = std::str::from_utf8(digits).ok().filter(|d| !d.starts_with('+'))?;
    u64::from_str_radix(digits, radix).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Whether the watch lets `message` through as it is, sent in pieces of `piece` bytes.
    fn passes(message: &[u8], piece: usize) -> bool {
        let mut bytes = message.to_vec();
        let mut watch = Watch::new();
        bytes.chunks_mut(piece).for_each(|chunk| watch.look(chunk));
        bytes == message
    }

    const GOOD: &[&str] = &[
        "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\na\nb\ncGET / HTTP/1.1\r\nContent-Length:0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\na\nb\r\n1F;x=y\r\n0123456789\n123456789\n123456789\n\r\n0\r\nX: y\r\n\r\nGET / HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nTE: trailers\r\nContent-Type: a\r\nContent-Lengths: 1\r\nContent-Lengths: 2\r\n\r\n",
        "GET / HTTP/1.1\r\nCookie: 0123456789012345678901234567890123456789012345678901234567890123456789\r\n\r\n",
    ];

    const BAD: &[&str] = &[
        "GET / HTTP/1.1\nHost: x\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\n\r\n",
        "GET / HTTP/1.1\r\nHost: x\r\n\n",
        "\nGET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\ncontent-length: 5\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nContent-Length: +5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nContent-Length: 5, 5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nContent-Length: \r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length:                                                                  5\r\n\r\nhello",
        "POST / HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: xchunked\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0x3\r\nabc\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n\r\nabc\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: y\n\r\n\r\n",
        // The second of two requests.
        "POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\nxGET / HTTP/1.1\n\r\n",
    ];

    #[test]
    fn messages_pass_or_are_bent_however_they_are_cut() {
        for piece in [1, 2, 3, 7, 64, 4096] {
            GOOD.iter().for_each(|message| assert!(passes(message.as_bytes(), piece), "{message:?} by {piece}"));
            BAD.iter().for_each(|message| assert!(!passes(message.as_bytes(), piece), "{message:?} by {piece}"));
        }
    }

    #[test]
    fn the_middle_of_a_head_is_known() {
        let mut watch = Watch::new();
        for (piece, inside) in
            [("", false), ("G", true), ("ET / HTTP/1.1\r\n", true), ("Host: x\r\nContent-Length: 1\r\n\r\n", false)]
        {
            watch.look(&mut piece.as_bytes().to_vec());
            assert_eq!(watch.in_head(), inside, "{piece:?}");
        }
        watch.look(&mut b"x".to_vec());
        assert!(!watch.in_head());
        watch.look(&mut b"P".to_vec());
        assert!(watch.in_head());
    }

    proptest! {
        #[test]
        fn any_bytes_in_any_pieces_end_the_same(
            bytes in prop::collection::vec(prop_oneof![
                Just(b"POST / HTTP/1.1\r\n".to_vec()), Just(b"\r\n".to_vec()), Just(b"\n".to_vec()),
                Just(b"Content-Length: 3\r\n".to_vec()), Just(b"Transfer-Encoding: chunked\r\n".to_vec()),
                Just(b"3\r\nabc\r\n".to_vec()), Just(b"0\r\n".to_vec()), prop::collection::vec(any::<u8>(), 0..8),
            ], 0..12).prop_map(|v| v.concat()),
            piece in 1usize..20,
        ) {
            let (mut whole, mut cut) = (bytes.clone(), bytes);
            Watch::new().look(&mut whole);
            let mut watch = Watch::new();
            cut.chunks_mut(piece).for_each(|chunk| watch.look(chunk));
            prop_assert_eq!(whole, cut);
        }
    }
}
