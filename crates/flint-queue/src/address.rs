//! How callers name queues and messages: queue URLs and receipt handles.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flint_kit::Ctx;

use crate::Error;

/// A queue's name as `CreateQueue` takes it, and whether it names a FIFO queue.
///
/// Errors: `InvalidParameterValue`.
pub fn check_name(name: &str) -> Result<bool, Error> {
    let fifo = name.ends_with(".fifo");
    let stem = name.strip_suffix(".fifo").unwrap_or(name);
    let legal = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
    if stem.is_empty() || name.len() > 80 || !stem.bytes().all(legal) {
        return Err(Error::Invalid(
            "Can only include alphanumeric characters, hyphens, or underscores. 1 to 80 in length".to_owned(),
        ));
    }
    Ok(fifo)
}

/// The address of a queue, as the caller reaches it.
pub fn url(ctx: &Ctx, name: &str) -> String {
    format!("{}/{}/{name}", ctx.base_url, ctx.place.account)
}

/// The name of the queue that a `QueueUrl` (or its path) names. Host and port are not looked at: a server may be reached
/// under several names.
///
/// Errors: `InvalidAddress`; the denial for another account's queue.
pub fn name_of<'a>(ctx: &Ctx, url: &'a str) -> Result<&'a str, Error> {
    let bad = || Error::Address(url.to_owned());
    let path = match url.split_once("://") {
        Some(("http" | "https", rest)) => rest.split_once('/').map(|(_, path)| path).ok_or_else(bad)?,
        Some(_) => return Err(bad()),
        None => url.strip_prefix('/').ok_or_else(bad)?,
    };
    let (account, name) = path.trim_end_matches('/').rsplit_once('/').ok_or_else(bad)?;
    let account = account.rsplit('/').next().unwrap_or(account);
    if name.is_empty() || account.len() != 12 || !account.bytes().all(|b| b.is_ascii_digit()) {
        return Err(bad());
    }
    if account != ctx.place.account.as_str() {
        return Err(Error::Foreign(url.to_owned()));
    }
    Ok(name)
}

/// What a receipt handle says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handle {
    pub queue: u64,
    pub sequence: u64,
    pub generation: u32,
}

impl Handle {
    /// Opaque text, 32 characters.
    pub fn encode(&self) -> String {
        let mut bytes = [0; 24];
        bytes[..8].copy_from_slice(&self.queue.to_be_bytes());
        bytes[8..16].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[16..20].copy_from_slice(&self.generation.to_be_bytes());
        bytes[20..].copy_from_slice(&self.check().to_be_bytes());
        BASE64_STANDARD.encode(bytes)
    }

    /// Errors: `ReceiptHandleIsInvalid` for what was not made here, or for another queue.
    pub fn decode(text: &str, queue: u64) -> Result<Self, Error> {
        let mut bytes = [0; 24];
        match BASE64_STANDARD.decode_slice(text, &mut bytes) {
            Ok(24) => {}
            _ => return Err(Error::Handle),
        }
        let u64_at = |at: usize| bytes[at..at + 8].iter().fold(0u64, |n, b| n << 8 | u64::from(*b));
        let u32_at = |at: usize| bytes[at..at + 4].iter().fold(0u32, |n, b| n << 8 | u32::from(*b));
        let handle = Self { queue: u64_at(0), sequence: u64_at(8), generation: u32_at(16) };
        if handle.queue != queue || u32_at(20) != handle.check() {
            return Err(Error::Handle);
        }
        Ok(handle)
    }

    /// Tells a handle from a text that only looks like one. It guards against mistakes, not against forgery: who may
    /// call on a queue may receive its messages anyway.
    fn check(&self) -> u32 {
        let mut hash = 0x811c_9dc5u32;
        for word in [self.queue, self.sequence, u64::from(self.generation)] {
            for byte in word.to_be_bytes() {
                hash = (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193);
            }
        }
        hash
    }
}

#[cfg(test)]
mod tests {
    use flint_base::{RequestId, Timestamp};
    use flint_kit::Principal;
    use flint_model::{AccountId, Place};
    use proptest::prelude::*;

    use super::*;

    fn ctx() -> Ctx {
        let account: AccountId = "000000000000".parse().expect("account");
        Ctx {
            request_id: RequestId::random(),
            place: Place { account: account.clone(), region: "us-east-1".parse().expect("region") },
            principal: Principal::Platform { account },
            received: Timestamp::from_millis(0),
            base_url: "http://localhost:4566".into(),
            lineage: None,
            trace: None,
        }
    }

    #[test]
    fn names() {
        for (name, fifo) in [("a", false), ("A-b_9", false), ("a.fifo", true), (&"x".repeat(80), false)] {
            assert_eq!(check_name(name).expect(name), fifo);
        }
        for bad in ["", ".fifo", "a.b", "a.fifo.fifo", "a b", "é", &"x".repeat(81)] {
            assert!(check_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses() {
        let ctx = ctx();
        let own = url(&ctx, "q");
        assert_eq!(own, "http://localhost:4566/000000000000/q");
        for good in [
            &own,
            "/000000000000/q",
            "https://sqs.us-east-1.amazonaws.com/000000000000/q",
            "http://h/queue/000000000000/q",
        ] {
            assert_eq!(name_of(&ctx, good).expect(good), "q");
        }
        for (bad, code) in [
            ("q", "InvalidAddress"),
            ("", "InvalidAddress"),
            ("http://h", "InvalidAddress"),
            ("http://h/q", "InvalidAddress"),
            ("ftp://h/000000000000/q", "InvalidAddress"),
            ("http://h/00000000000/q", "InvalidAddress"),
            ("http://h/000000000001/q", "AccessDeniedException"),
        ] {
            let fault = flint_kit::Fault::from(name_of(&ctx, bad).expect_err(bad));
            assert_eq!(fault.code, code, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn handles_read_back_and_others_are_refused(queue: u64, sequence: u64, generation: u32, other in "\\PC{0,40}") {
            let handle = Handle { queue, sequence, generation };
            let text = handle.encode();
            prop_assert_eq!(Handle::decode(&text, queue).expect("ours"), handle);
            prop_assert!(Handle::decode(&text, queue.wrapping_add(1)).is_err());
            prop_assert!(other == text || Handle::decode(&other, queue).is_err());
        }
    }
}
