//! The unpack helper: what runs in the sandboxed child that turns an archive into files.
//!
//! It is the only code here that reads tenants' bytes. It sees nothing but the archive's descriptor and `/staging`, runs
//! as the service user in namespaces of its own, and answers with one record in its pipe.
//!
//! Reading order: `archive` (what happens, in order), `directory` and `local` (the headers, and why so strict), `content`
//! (inflating), `tree` (writing).

mod archive;
mod content;
mod directory;
mod local;
#[cfg(test)]
mod properties;
mod source;
mod tree;

use std::io;
use std::os::fd::RawFd;

use flint_model::ByteCount;

use crate::api::Unpacked;
use crate::codec::{Malformed, Reader, Writer};
use crate::error::{Error, Refusal, Stage, UnpackError};
use crate::message::{Failure, UnpackRequest};
use crate::sys::fds;

/// What came of it, inside the helper.
pub type Outcome = Result<Unpacked, Trouble>;

/// Why nothing came of it.
#[derive(Debug)]
pub enum Trouble {
    Refused(Refusal),
    Io(io::Error),
}

impl From<io::Error> for Trouble {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Refusal> for Trouble {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// Longest text that a refusal carries; names come from the archive.
const MAX_TEXT: usize = 512;

/// Unpacks `archive` into `/staging` and makes it durable.
pub fn run(archive: RawFd, limits: &UnpackRequest) -> Outcome {
    let staging = fds::open(crate::spawner::STAGING, libc::O_RDONLY | libc::O_DIRECTORY)?;
    archive::unpack(archive, staging, limits)
}

/// Writes the outcome for [`decode`].
pub fn report(fd: RawFd, outcome: &Outcome) {
    let mut w = Writer::default();
    match outcome {
        Ok(unpacked) => {
            w.u8(0);
            w.u64(unpacked.bytes.bytes());
            w.u32(unpacked.files);
        }
        Err(Trouble::Refused(Refusal::NotZip(problem))) => {
            w.u8(1);
            w.bytes(shorten(problem).as_bytes());
        }
        Err(Trouble::Refused(Refusal::Entry { entry, problem })) => {
            w.u8(2);
            w.bytes(shorten(entry).as_bytes());
            w.bytes(shorten(problem).as_bytes());
        }
        Err(Trouble::Refused(Refusal::TooLarge(limit))) => {
            w.u8(3);
            w.u64(limit.bytes());
        }
        Err(Trouble::Refused(Refusal::TooManyEntries(limit))) => {
            w.u8(4);
            w.u32(*limit);
        }
        Err(Trouble::Io(error)) => {
            w.u8(5);
            w.u32(error.raw_os_error().unwrap_or(libc::EIO) as u32);
        }
    }
    fds::write_all(fd, &w.finish()).ok();
}

/// Tells of a step of the helper's own set-up.
pub fn report_failure(fd: RawFd, failure: Failure) {
    let mut w = Writer::default();
    w.u8(6);
    w.u8(failure.stage as u8);
    w.u32(failure.errno as u32);
    fds::write_all(fd, &w.finish()).ok();
}

fn shorten(text: &str) -> &str {
    let mut end = text.len().min(MAX_TEXT);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Reads what the helper reported, on the server's side. Nothing at all means that it was killed.
pub fn decode(bytes: &[u8]) -> Result<Unpacked, UnpackError> {
    if bytes.is_empty() {
        return Err(UnpackError::Helper("it was killed; the archive may take more memory or time than it gets".into()));
    }
    decode_record(bytes).unwrap_or_else(|_| Err(UnpackError::Helper("its answer is not readable".into())))
}

fn decode_record(bytes: &[u8]) -> Result<Result<Unpacked, UnpackError>, Malformed> {
    let mut r = Reader::new(bytes);
    let kind = r.u8()?;
    if kind == 0 {
        return Ok(Ok(Unpacked { bytes: ByteCount(r.u64()?), files: r.u32()? }));
    }
    let mut text = || Ok(String::from_utf8_lossy(r.bytes()?).into_owned());
    let error = match kind {
        1 => UnpackError::Refused(Refusal::NotZip(text()?)),
        2 => UnpackError::Refused(Refusal::Entry { entry: text()?, problem: text()? }),
        3 => UnpackError::Refused(Refusal::TooLarge(ByteCount(r.u64()?))),
        4 => UnpackError::Refused(Refusal::TooManyEntries(r.u32()?)),
        5 => match r.u32()? as i32 {
            libc::ENOSPC | libc::EDQUOT => UnpackError::NoSpace,
            errno => UnpackError::Io(io::Error::from_raw_os_error(errno)),
        },
        6 => {
            let stage = Stage::from_code(r.u8()?);
            let source = io::Error::from_raw_os_error(r.u32()? as i32);
            UnpackError::Sandbox(Error::Setup { stage, source })
        }
        _ => return Err(Malformed),
    };
    Ok(Err(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn through(outcome: &Outcome) -> Result<Unpacked, UnpackError> {
        use std::io::Read as _;
        use std::os::fd::AsRawFd as _;
        let (read, write) = fds::pipe().unwrap();
        report(write.as_raw_fd(), outcome);
        drop(write);
        let mut bytes = Vec::new();
        std::fs::File::from(read).read_to_end(&mut bytes).unwrap();
        decode(&bytes)
    }

    #[test]
    fn outcomes_survive_the_pipe() {
        let done = Unpacked { bytes: ByteCount(7), files: 2 };
        assert_eq!(through(&Ok(done)).unwrap(), done);
        for refusal in [
            Refusal::NotZip("no end".into()),
            Refusal::Entry { entry: "../x".into(), problem: "bad".into() },
            Refusal::TooLarge(ByteCount(9)),
            Refusal::TooManyEntries(3),
        ] {
            let got = through(&Err(refusal.clone().into()));
            assert!(matches!(&got, Err(UnpackError::Refused(r)) if *r == refusal), "{got:?}");
        }
        let full = through(&Err(io::Error::from_raw_os_error(libc::ENOSPC).into()));
        assert!(matches!(full, Err(UnpackError::NoSpace)), "{full:?}");
        assert!(matches!(decode(&[]), Err(UnpackError::Helper(_))));
        assert!(matches!(decode(&[0, 1]), Err(UnpackError::Helper(_))));
    }
}
