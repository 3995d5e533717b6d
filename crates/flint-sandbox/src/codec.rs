//! The encoding of messages between server and spawner: little-endian numbers, length-prefixed bytes, nothing else.
//!
//! Both ends are one binary, so there is no version. The reader still checks every length: the spawner has privilege and
//! trusts no one.

/// Longest message.
pub const MAX_MESSAGE: usize = 128 * 1024;

/// A message that breaks the rules of the encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Malformed;

#[derive(Debug, Default)]
pub struct Writer(Vec<u8>);

impl Writer {
    pub fn u8(&mut self, value: u8) {
        self.0.push(value);
    }

    pub fn u32(&mut self, value: u32) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub fn u64(&mut self, value: u64) {
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// At most 4 GiB; what does not fit a message is refused when it is sent.
    pub fn bytes(&mut self, value: &[u8]) {
        self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX));
        self.0.extend_from_slice(value);
    }

    /// Bytes with a NUL behind them, so that the reader can use them in place as a C string.
    pub fn text(&mut self, value: &[u8]) {
        self.u32(u32::try_from(value.len()).unwrap_or(u32::MAX).saturating_add(1));
        self.0.extend_from_slice(value);
        self.0.push(0);
    }

    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

#[derive(Debug)]
pub struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self.0.split_at_checked(n).ok_or(Malformed)?;
        self.0 = tail;
        Ok(head)
    }

    pub fn u8(&mut self) -> Result<u8, Malformed> {
        Ok(self.take(1)?[0])
    }

    pub fn u32(&mut self) -> Result<u32, Malformed> {
        let bytes = self.take(4)?.try_into().map_err(|_| Malformed)?;
        Ok(u32::from_le_bytes(bytes))
    }

    pub fn u64(&mut self) -> Result<u64, Malformed> {
        let bytes = self.take(8)?.try_into().map_err(|_| Malformed)?;
        Ok(u64::from_le_bytes(bytes))
    }

    pub fn bytes(&mut self) -> Result<&'a [u8], Malformed> {
        let n = self.u32()? as usize;
        self.take(n)
    }

    /// A C string in place: exactly one NUL, at its end.
    pub fn text(&mut self) -> Result<&'a std::ffi::CStr, Malformed> {
        std::ffi::CStr::from_bytes_with_nul(self.bytes()?).map_err(|_| Malformed)
    }

    /// A count of elements that each take at least `least` bytes.
    pub fn count(&mut self, least: usize) -> Result<usize, Malformed> {
        let n = self.u32()? as usize;
        if n.saturating_mul(least.max(1)) > self.0.len() { Err(Malformed) } else { Ok(n) }
    }

    /// Everything has been read.
    pub fn end(self) -> Result<(), Malformed> {
        if self.0.is_empty() { Ok(()) } else { Err(Malformed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let mut w = Writer::default();
        w.u8(7);
        w.u64(u64::MAX);
        w.text(b"/bin/true");
        w.bytes(&[0, 1, 2]);
        let bytes = w.finish();
        let mut r = Reader::new(&bytes);
        assert_eq!(r.u8(), Ok(7));
        assert_eq!(r.u64(), Ok(u64::MAX));
        assert_eq!(r.text(), Ok(c"/bin/true"));
        assert_eq!(r.bytes(), Ok(&[0, 1, 2][..]));
        assert_eq!(r.end(), Ok(()));
    }

    #[test]
    fn every_cut_is_malformed() {
        let mut w = Writer::default();
        w.text(b"abc");
        w.u32(9);
        let bytes = w.finish();
        for cut in 0..bytes.len() {
            let mut r = Reader::new(&bytes[..cut]);
            assert!(r.text().and_then(|_| r.u32()).is_err(), "cut at {cut}");
        }
    }

    #[test]
    fn a_nul_inside_a_text_is_malformed() {
        let mut w = Writer::default();
        w.bytes(b"a\0b\0");
        assert_eq!(Reader::new(&w.finish()).text(), Err(Malformed));
        let mut w = Writer::default();
        w.bytes(b"ab");
        assert_eq!(Reader::new(&w.finish()).text(), Err(Malformed));
    }

    #[test]
    fn a_count_can_not_exceed_what_is_left() {
        let mut w = Writer::default();
        w.u32(u32::MAX);
        assert_eq!(Reader::new(&w.finish()).count(4), Err(Malformed));
    }
}
