//! The archive's bytes, by offset, and the numbers in them.

use std::io::{self, Read};
use std::os::fd::RawFd;

use super::Trouble;
use super::archive::not_zip;
use crate::sys::fds;

/// An archive. Reads by offset: the descriptor's own position is shared with the server and stays untouched.
#[derive(Clone, Copy)]
pub struct Source {
    fd: RawFd,
    length: u64,
}

impl Source {
    pub fn new(fd: RawFd) -> io::Result<Self> {
        Ok(Self { fd, length: u64::try_from(fds::stat(fd)?.st_size).unwrap_or(0) })
    }

    pub fn length(&self) -> u64 {
        self.length
    }

    /// `length` bytes from `at` on; an archive that ends before is refused. Callers bound `length`.
    pub fn take(&self, at: u64, length: usize) -> Result<Vec<u8>, Trouble> {
        if at.checked_add(length as u64).is_none_or(|end| end > self.length) {
            return Err(not_zip("it is cut off"));
        }
        let mut bytes = vec![0; length];
        Part { source: *self, at, left: length as u64 }.read_exact(&mut bytes)?;
        Ok(bytes)
    }

    /// The bytes from `at` to `at + length` as a stream.
    pub fn part(&self, at: u64, length: u64) -> Part {
        Part { source: *self, at, left: length }
    }
}

/// A range of the archive.
pub struct Part {
    source: Source,
    at: u64,
    left: u64,
}

impl Part {
    /// Nothing is left to read.
    pub fn is_empty(&self) -> bool {
        self.left == 0
    }
}

impl Read for Part {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let offset = i64::try_from(self.at).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
        let n = fds::read_at(self.source.fd, &mut buffer[..most], offset)?;
        self.at += n as u64;
        self.left -= n as u64;
        Ok(n)
    }
}

/// Takes numbers and ranges off the front of a record, least significant byte first.
#[derive(Clone, Copy)]
pub struct Fields<'a>(pub &'a [u8]);

impl<'a> Fields<'a> {
    pub fn bytes(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(head)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.bytes(N)?.try_into().ok()
    }

    pub fn u16(&mut self) -> Option<u16> {
        self.array().map(u16::from_le_bytes)
    }

    pub fn u32(&mut self) -> Option<u32> {
        self.array().map(u32::from_le_bytes)
    }

    pub fn u64(&mut self) -> Option<u64> {
        self.array().map(u64::from_le_bytes)
    }
}
