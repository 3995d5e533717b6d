//! Bytes of a pipe into log lines.

use bytes::Bytes;

/// The largest event that a log takes, in bytes; longer lines become several.
///
/// Reference: CloudWatch Logs User Guide, "CloudWatch Logs quotas" (256 KB).
pub(crate) const MAX_LINE: usize = 256 * 1024;

/// Keeps what has no line feed yet. Bytes are passed on as they are, UTF-8 or not.
#[derive(Debug, Default)]
pub(crate) struct Splitter {
    partial: Vec<u8>,
}

impl Splitter {
    /// Takes `bytes` and hands every complete line to `line`.
    ///
    /// A carriage return inside a line stands for a line break within one event, which is how the reference's runtimes
    /// keep a traceback together; one at the end of a line belongs to the line feed.
    pub(crate) fn push(&mut self, mut bytes: &[u8], mut line: impl FnMut(Bytes)) {
        while !bytes.is_empty() {
            let feed = memchr::memchr(b'\n', bytes);
            let (now, rest) = match feed {
                Some(at) => (&bytes[..at], &bytes[at + 1..]),
                None => (bytes, &bytes[bytes.len()..]),
            };
            let room = MAX_LINE - self.partial.len();
            if now.len() > room {
                let (head, tail) = bytes.split_at(room);
                self.partial.extend_from_slice(head);
                self.emit(&mut line);
                bytes = tail;
                continue;
            }
            self.partial.extend_from_slice(now);
            if feed.is_some() {
                self.emit(&mut line);
            }
            bytes = rest;
        }
    }

    /// What is left and has no line feed yet.
    pub(crate) fn partial(&self) -> &[u8] {
        &self.partial
    }

    /// Hands out what is left although no line feed came.
    pub(crate) fn flush(&mut self, mut line: impl FnMut(Bytes)) {
        if !self.partial.is_empty() {
            self.emit(&mut line);
        }
    }

    fn emit(&mut self, line: &mut impl FnMut(Bytes)) {
        if self.partial.last() == Some(&b'\r') {
            self.partial.pop();
        }
        for byte in &mut self.partial {
            if *byte == b'\r' {
                *byte = b'\n';
            }
        }
        line(Bytes::copy_from_slice(&self.partial));
        self.partial.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(parts: &[&[u8]]) -> Vec<Vec<u8>> {
        let mut splitter = Splitter::default();
        let mut lines = Vec::new();
        for part in parts {
            splitter.push(part, |l| lines.push(l.to_vec()));
        }
        splitter.flush(|l| lines.push(l.to_vec()));
        lines
    }

    fn check(parts: &[&str], expected: &[&str]) {
        let parts: Vec<&[u8]> = parts.iter().map(|p| p.as_bytes()).collect();
        let expected: Vec<Vec<u8>> = expected.iter().map(|l| l.as_bytes().to_vec()).collect();
        assert_eq!(split(&parts), expected, "{parts:?}");
    }

    #[test]
    fn lines_are_whole_however_they_arrive() {
        check(&["a\nb\n"], &["a", "b"]);
        check(&["a", "b", "\nc"], &["ab", "c"]);
        check(&["\n\n"], &["", ""]);
        check(&["a\r\nb"], &["a", "b"]);
        check(&["[ERROR] x\rTraceback\r  y\n"], &["[ERROR] x\nTraceback\n  y"]);
        check(&[], &[]);
        check(&["ü", "ber\n"], &["über"]);
    }

    #[test]
    fn foreign_bytes_stay_as_they_are() {
        assert_eq!(split(&[b"\xff\xfe\n"]), vec![b"\xff\xfe".to_vec()]);
    }

    #[test]
    fn a_line_longer_than_an_event_is_cut() {
        let long = vec![b'x'; MAX_LINE * 2 + 7];
        let lines = split(&[&long[..1000], &long[1000..], b"\nend\n"]);
        let sizes: Vec<usize> = lines.iter().map(Vec::len).collect();
        assert_eq!(sizes, [MAX_LINE, MAX_LINE, 7, 3]);
        let exact = [vec![b'x'; MAX_LINE], vec![b'\n']].concat();
        assert_eq!(split(&[&exact]).len(), 1);
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_in_any_pieces_are_the_same_lines(
            bytes in proptest::collection::vec(proptest::sample::select(b"ab\r\n\0\xff".to_vec()), 0..200),
            piece in 1usize..30,
        ) {
            let split = |piece: usize| {
                let (mut splitter, mut lines) = (Splitter::default(), Vec::new());
                bytes.chunks(piece).for_each(|chunk| splitter.push(chunk, |line| lines.push(line)));
                splitter.flush(|line| lines.push(line));
                lines
            };
            let lines = split(piece);
            proptest::prop_assert!(lines.iter().all(|line| line.len() <= MAX_LINE && !line.contains(&b'\r')));
            proptest::prop_assert_eq!(lines, split(bytes.len().max(1)));
        }
    }
}
