//! `GET /_flint/code/SHA256?X-Flint-Expires=..&X-Flint-Signature=..`: a blob for whoever holds a signed address.
//!
//! The signature is an HMAC under a key of the server's own over path and expiry. It needs no account, because the
//! address is handed out only in answers to calls that were allowed.

use std::fmt;
use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flint_base::Timestamp;
use flint_kit::body::ByteStream;
use flint_kit::{Body, Fault, Links};
use futures_util::stream;
use hmac::{Hmac, Mac};
use http::header::{CACHE_CONTROL, CONTENT_LENGTH};
use http::request::Parts;
use http::{HeaderValue, Method};
use sha2::Sha256;
use tokio::io::AsyncReadExt;

use crate::codec::{self, Answer};

/// How long an address holds (Lambda API reference, `FunctionCodeLocation`: ten minutes).
pub const LIFE: Duration = Duration::from_secs(600);

const PATH: &str = "/_flint/code/";

/// A file is read in pieces of this size.
const PIECE: usize = 64 << 10;

/// Signs addresses, and checks them.
#[derive(Clone)]
pub struct SignedLinks {
    key: [u8; 32],
}

/// Opens the blob with a SHA-256 (lower-case hex). Called on a thread that may block.
pub type OpenBlob = dyn Fn(&str) -> io::Result<File> + Send + Sync;

/// What the front answers at signed addresses.
#[derive(Clone)]
pub struct Downloads {
    pub links: SignedLinks,
    pub open: Arc<OpenBlob>,
}

impl SignedLinks {
    /// `key` is secret, the same at every start, and used for nothing else.
    pub fn new(key: [u8; 32]) -> Self {
        Self { key }
    }

    /// The blob that an address names.
    ///
    /// Errors: `SignatureDoesNotMatch`, or `AccessDenied` once the address is too old, both 403.
    fn check<'a>(&self, path: &'a str, query: &str, now: Timestamp) -> Result<&'a str, Fault> {
        let mismatch = || {
            Fault::client(
                403,
                "SignatureDoesNotMatch",
                "The address is not one that this server gave out, or was changed.",
            )
        };
        let sha256 = path.strip_prefix(PATH).ok_or_else(mismatch)?;
        let rest = query.strip_prefix("X-Flint-Expires=").ok_or_else(mismatch)?;
        let (expires, signature) = rest.split_once("&X-Flint-Signature=").ok_or_else(mismatch)?;
        let tag = hex::decode(signature).map_err(|_| mismatch())?;
        self.mac(sha256, expires).verify_slice(&tag).map_err(|_| mismatch())?;
        let seconds: i64 = expires.parse().map_err(|_| mismatch())?;
        if now.as_millis() > seconds.saturating_mul(1000) {
            return Err(Fault::client(403, "AccessDenied", "Request has expired"));
        }
        Ok(sha256)
    }

    fn mac(&self, sha256: &str, expires: &str) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.key).expect("HMAC takes keys of any length");
        mac.update(format!("{PATH}{sha256}\n{expires}").as_bytes());
        mac
    }
}

impl Links for SignedLinks {
    fn link(&self, base_url: &str, sha256: &str, now: Timestamp) -> String {
        let expires = (now.saturating_add(LIFE).as_millis() / 1000).to_string();
        let tag = hex::encode(self.mac(sha256, &expires).finalize().into_bytes());
        format!("{base_url}{PATH}{sha256}?X-Flint-Expires={expires}&X-Flint-Signature={tag}")
    }
}

impl fmt::Debug for SignedLinks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SignedLinks(..)")
    }
}

impl fmt::Debug for Downloads {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Downloads(..)")
    }
}

/// The answer to a request for a blob; `None` for any other request.
pub(crate) async fn answer(request: &Parts, downloads: &Downloads, now: Timestamp) -> Option<Result<Answer, Fault>> {
    let read = request.method == Method::GET || request.method == Method::HEAD;
    if !read || !request.uri.path().starts_with(PATH) {
        return None;
    }
    let query = request.uri.query().unwrap_or("");
    let sha256 = match downloads.links.check(request.uri.path(), query, now) {
        Ok(sha256) => sha256.to_owned(),
        Err(fault) => return Some(Err(fault)),
    };
    Some(send(downloads, sha256).await)
}

async fn send(downloads: &Downloads, sha256: String) -> Result<Answer, Fault> {
    let open = Arc::clone(&downloads.open);
    let opened = tokio::task::spawn_blocking(move || {
        let file = open(&sha256)?;
        let length = file.metadata()?.len();
        Ok::<_, io::Error>((file, length))
    });
    let opened = opened.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    let (file, length) = opened.map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => Fault::client(404, "NoSuchKey", "The code behind this address was deleted."),
        _ => codec::internal(error.to_string()),
    })?;
    let mut answer = codec::answer(200, Some("application/zip"), Body::Stream(pieces(file)));
    answer.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    answer.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("private"));
    Ok(answer)
}

fn pieces(file: File) -> ByteStream {
    let file = tokio::fs::File::from_std(file);
    Box::pin(stream::unfold(Some(file), async |file| {
        let mut file = file?;
        let mut piece = BytesMut::with_capacity(PIECE);
        match file.read_buf(&mut piece).await {
            Ok(0) => None,
            Ok(_) => Some((Ok::<Bytes, Fault>(piece.freeze()), Some(file))),
            Err(error) => Some((Err(codec::internal(error.to_string())), None)),
        }
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHA: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    #[test]
    fn an_address_holds_for_ten_minutes_and_for_its_blob_alone() {
        let links = SignedLinks::new([7; 32]);
        let now = Timestamp::from_millis(1_795_251_600_000);
        let url = links.link("http://127.0.0.1:4566", SHA, now);
        let (path, query) = url.strip_prefix("http://127.0.0.1:4566").and_then(|u| u.split_once('?')).expect("a url");
        let later = |seconds: u64| now.saturating_add(Duration::from_secs(seconds));
        assert_eq!(links.check(path, query, now).expect("good"), SHA);
        assert!(links.check(path, query, later(600)).is_ok());
        let code = |result: Result<&str, Fault>| result.expect_err("refused").code.into_owned();
        assert_eq!(code(links.check(path, query, later(601))), "AccessDenied");
        assert_eq!(code(SignedLinks::new([8; 32]).check(path, query, now)), "SignatureDoesNotMatch");
        assert_eq!(code(links.check(&path.replace("e3b0", "e3b1"), query, now)), "SignatureDoesNotMatch");
        for (from, to) in [("Expires=1795252200", "Expires=2795252200"), ("Signature=", "Signature=g"), ("&", "&&")] {
            assert!(query.contains(from), "{query}");
            assert_eq!(code(links.check(path, &query.replace(from, to), now)), "SignatureDoesNotMatch", "{from}");
        }
        assert_eq!(code(links.check(path, "", now)), "SignatureDoesNotMatch");
    }

    proptest::proptest! {
        #[test]
        fn any_address_is_none_of_ours(
            path in "(/_flint/code/)?[ -~]{0,70}",
            query in "(X-Flint-Expires=[0-9-]{0,20}&X-Flint-Signature=)?[0-9a-fA-F&=]{0,70}",
        ) {
            let (links, now) = (SignedLinks::new([7; 32]), Timestamp::from_millis(1_795_251_600_000));
            proptest::prop_assert!(links.check(&path, &query, now).is_err());
        }
    }
}
