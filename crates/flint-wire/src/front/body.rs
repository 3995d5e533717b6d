//! Reading a request's body: bounded before and while it comes, hashed as sent, its content coding undone.

use std::io::Read;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use flate2::read::MultiGzDecoder;
use flint_kit::Fault;
use http::HeaderMap;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH, EXPECT};
use http_body::Body;
use http_body_util::BodyExt;
use sha2::{Digest, Sha256};
use tokio::time::{Instant, timeout_at};

use super::Limits;
use crate::sigv4::key;

/// What is read past a limit and thrown away, so that the caller gets our answer instead of a reset.
const DISCARDED: usize = 64 << 20;

/// Gzip bodies above this are undone on a thread of their own.
const INLINE_GZIP: usize = 64 << 10;

/// And so are those that unfold to more than this.
const INLINE_UNFOLDED: usize = 1 << 20;

/// Why a body was not taken.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("the request's body is larger than {0} bytes")]
    TooLarge(usize),
    #[error("the request's body did not arrive in time")]
    Late,
    #[error("the connection broke before the request's body was complete")]
    Broken,
    #[error("the content coding {0:?} is not served; gzip and identity are")]
    Coding(String),
    #[error("the request's body is no valid gzip stream")]
    Gzip,
    #[error("too many bytes of request bodies are held at the moment; try again")]
    Busy,
}

impl Error {
    /// The fault for a request to `operation`.
    ///
    /// Reference: "Common Errors" of Lambda for the codes; the wording of the size is Lambda's.
    pub fn fault(&self, operation: &str) -> Fault {
        let text = self.to_string();
        match self {
            Error::TooLarge(limit) => {
                let operation = if operation == "Invoke" { "InvokeFunction" } else { operation };
                let text = match operation {
                    "" => format!("Request must be smaller than {limit} bytes"),
                    _ => format!("Request must be smaller than {limit} bytes for the {operation} operation"),
                };
                Fault::client(413, "RequestEntityTooLargeException", text)
            }
            Error::Late => Fault::client(408, "RequestTimeoutException", text),
            Error::Broken => Fault::client(400, "IncompleteBody", text),
            Error::Coding(_) => Fault::client(415, "UnsupportedMediaTypeException", text),
            Error::Gzip => Fault::client(400, "SerializationException", text),
            Error::Busy => Fault::unavailable(text),
        }
    }
}

/// What somebody with a share may always hold, if there is as much left for all.
const SHARE_LEAST: usize = 2 << 20;

/// The bytes of bodies that may be held at a time.
#[derive(Debug)]
pub struct Budget {
    used: AtomicUsize,
    of: Of,
}

#[derive(Debug)]
enum Of {
    All(usize),
    Share(Arc<Budget>),
}

/// What is held of the budget; given back when dropped.
#[derive(Debug)]
pub struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Budget {
    pub fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), of: Of::All(bytes) })
    }

    /// A share for one of many: at most a quarter of what nobody holds, so that some is always left for others, however many take
    /// theirs.
    pub fn share(self: &Arc<Self>) -> Arc<Self> {
        Arc::new(Self { used: AtomicUsize::new(0), of: Of::Share(Arc::clone(self)) })
    }

    fn hold(self: &Arc<Self>) -> Held {
        Held { budget: Arc::clone(self), bytes: 0 }
    }

    fn left(&self) -> usize {
        self.limit().saturating_sub(self.used.load(Ordering::Relaxed))
    }

    fn limit(&self) -> usize {
        match &self.of {
            Of::All(bytes) => *bytes,
            Of::Share(all) => (all.left() / 4).max(SHARE_LEAST),
        }
    }

    fn take(&self, bytes: usize) -> Result<(), Error> {
        let limit = self.limit();
        let more = |used: usize| used.checked_add(bytes).filter(|used| *used <= limit);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).map_err(|_| Error::Busy)?;
        if let Of::Share(all) = &self.of {
            all.take(bytes).inspect_err(|_| {
                self.used.fetch_sub(bytes, Ordering::Relaxed);
            })?;
        }
        Ok(())
    }

    fn give_back(&self, bytes: usize) {
        self.used.fetch_sub(bytes, Ordering::Relaxed);
        if let Of::Share(all) = &self.of {
            all.give_back(bytes);
        }
    }
}

impl Held {
    fn take(&mut self, bytes: usize) -> Result<(), Error> {
        self.budget.take(bytes)?;
        self.bytes += bytes;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.give_back(self.bytes);
    }
}

/// A body that has arrived.
#[derive(Debug)]
pub struct Arrived {
    /// With its content coding undone.
    pub bytes: Bytes,
    /// The SHA-256 of what was sent, in lower-case hex, if it was asked for.
    pub hash: Option<String>,
    /// Keep it as long as the bytes.
    pub held: Held,
}

/// Reads `body`, at most `limit` bytes of it both as sent and with its coding undone.
pub async fn read<B>(
    headers: &HeaderMap,
    body: B,
    limit: usize,
    limits: &Limits,
    budget: &Arc<Budget>,
    hashed: bool,
) -> Result<Arrived, Error>
where
    B: Body<Data = Bytes>,
{
    let gzip = is_gzip(headers)?;
    let mut pace = Pace::new(limits);
    let mut body = pin!(body);
    let announced = headers.get(CONTENT_LENGTH).and_then(|v| v.to_str().ok()).and_then(|v| v.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        if !headers.contains_key(EXPECT) {
            discard(body, &mut pace).await;
        }
        return Err(Error::TooLarge(limit));
    }
    let mut held = budget.hold();
    let mut whole = Whole::default();
    // Piece by piece, so that a large body never holds up the thread.
    let mut hasher = hashed.then(Sha256::new);
    while let Some(piece) = pace.next(&mut body).await? {
        if whole.len() + piece.len() > limit {
            discard(body, &mut pace).await;
            return Err(Error::TooLarge(limit));
        }
        held.take(piece.len())?;
        hasher.iter_mut().for_each(|hasher| hasher.update(&piece));
        whole.push(piece, announced.unwrap_or(0));
    }
    let sent = whole.finish();
    let hash = hasher.map(|hasher| key::hex_text(&hasher.finalize().into()));
    let bytes = if gzip { gunzip(sent, limit, &mut held).await? } else { sent };
    Ok(Arrived { bytes, hash, held })
}

/// One piece stays as it came; more are joined.
#[derive(Default)]
struct Whole {
    first: Bytes,
    joined: BytesMut,
}

impl Whole {
    fn len(&self) -> usize {
        self.first.len() + self.joined.len()
    }

    fn push(&mut self, piece: Bytes, announced: usize) {
        if self.len() == 0 {
            self.first = piece;
            return;
        }
        if self.joined.is_empty() {
            self.joined.reserve(announced.max(self.first.len() + piece.len()));
            self.joined.extend_from_slice(&self.first);
            self.first = Bytes::new();
        }
        self.joined.extend_from_slice(&piece);
    }

    fn finish(self) -> Bytes {
        if self.joined.is_empty() { self.first } else { self.joined.freeze() }
    }
}

/// How fast a body must come: a grace, then a rate.
struct Pace {
    start: Instant,
    grace: Duration,
    rate: u64,
    received: u64,
}

impl Pace {
    fn new(limits: &Limits) -> Self {
        Self { start: Instant::now(), grace: limits.body_wait, rate: limits.body_rate.max(1), received: 0 }
    }

    /// The next piece of data. Trailers are dropped.
    async fn next<B: Body<Data = Bytes> + Unpin>(&mut self, body: &mut B) -> Result<Option<Bytes>, Error> {
        loop {
            let deadline = self.start + self.grace + Duration::from_secs(self.received / self.rate);
            match timeout_at(deadline, body.frame()).await {
                Err(_) => return Err(Error::Late),
                Ok(None) => return Ok(None),
                Ok(Some(Err(_))) => return Err(Error::Broken),
                Ok(Some(Ok(frame))) => {
                    if let Ok(data) = frame.into_data() {
                        self.received += data.len() as u64;
                        return Ok(Some(data));
                    }
                }
            }
        }
    }
}

async fn discard<B: Body<Data = Bytes> + Unpin>(mut body: B, pace: &mut Pace) {
    let mut left = DISCARDED;
    while let Ok(Some(piece)) = pace.next(&mut body).await {
        left = left.saturating_sub(piece.len());
        if left == 0 {
            return;
        }
    }
}

fn is_gzip(headers: &HeaderMap) -> Result<bool, Error> {
    let mut codings = headers.get_all(CONTENT_ENCODING).iter();
    let coding = match (codings.next(), codings.next()) {
        (None, _) => return Ok(false),
        (Some(coding), None) => String::from_utf8_lossy(coding.as_bytes()).trim().to_ascii_lowercase(),
        (Some(_), Some(_)) => "several".to_owned(),
    };
    match coding.as_str() {
        "" | "identity" => Ok(false),
        "gzip" => Ok(true),
        _ => Err(Error::Coding(coding)),
    }
}

async fn gunzip(sent: Bytes, limit: usize, held: &mut Held) -> Result<Bytes, Error> {
    held.take(limit)?;
    // A small body may unfold to a large one.
    if sent.len() <= INLINE_GZIP && unfolds(&sent, INLINE_UNFOLDED)? <= INLINE_UNFOLDED {
        return inflate(&sent, limit);
    }
    tokio::task::spawn_blocking(move || inflate(&sent, limit)).await.unwrap_or(Err(Error::Gzip))
}

/// How many bytes come out, not how many the stream promises; more than `most` is not counted on.
fn unfolds(sent: &[u8], most: usize) -> Result<usize, Error> {
    let mut counted = MultiGzDecoder::new(sent).take(most as u64 + 1);
    let bytes = std::io::copy(&mut counted, &mut std::io::sink()).map_err(|_| Error::Gzip)?;
    Ok(usize::try_from(bytes).unwrap_or(usize::MAX))
}

/// Counts first, so that a bomb takes no memory.
fn inflate(sent: &[u8], limit: usize) -> Result<Bytes, Error> {
    let size = unfolds(sent, limit)?;
    if size > limit {
        return Err(Error::TooLarge(limit));
    }
    let mut out = Vec::with_capacity(size);
    MultiGzDecoder::new(sent).read_to_end(&mut out).map_err(|_| Error::Gzip)?;
    Ok(Bytes::from(out))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use futures_util::stream;
    use http::HeaderValue;
    use http_body::Frame;
    use http_body_util::{Full, StreamBody};

    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(n, v)| ((*n).parse().expect("name"), HeaderValue::from_str(v).expect("value"))).collect()
    }

    async fn take(head: &[(&'static str, &str)], body: &[u8], limit: usize) -> Result<Arrived, Error> {
        let pieces: Vec<_> =
            body.chunks(7).map(|c| Ok::<_, std::io::Error>(Frame::data(Bytes::copy_from_slice(c)))).collect();
        read(
            &headers(head),
            StreamBody::new(stream::iter(pieces)),
            limit,
            &Limits::default(),
            &Budget::new(1 << 20),
            true,
        )
        .await
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
        encoder.write_all(bytes).expect("writes");
        encoder.finish().expect("finishes")
    }

    #[tokio::test]
    async fn bodies_are_joined_hashed_and_bounded() {
        let arrived = take(&[], b"hello, many pieces", 18).await.expect("fits");
        assert_eq!(&arrived.bytes[..], b"hello, many pieces");
        assert_eq!(arrived.hash.expect("hashed"), hex::encode(Sha256::digest(b"hello, many pieces")));
        assert!(matches!(take(&[], b"hello, many pieces", 17).await, Err(Error::TooLarge(17))));
        assert!(matches!(take(&[("content-length", "18")], b"", 17).await, Err(Error::TooLarge(17))));
    }

    #[tokio::test]
    async fn one_piece_is_not_copied() {
        let sent = Bytes::from(vec![7; 4096]);
        let body = Full::new(sent.clone());
        let arrived =
            read(&HeaderMap::new(), body, 8192, &Limits::default(), &Budget::new(8192), false).await.expect("fits");
        assert_eq!(arrived.bytes.as_ptr(), sent.as_ptr());
        assert_eq!(arrived.hash, None);
    }

    #[tokio::test]
    async fn gzip_is_undone_and_bombs_are_not() {
        let coded = [("content-encoding", "gzip")];
        let text = vec![b'a'; 100_000];
        let arrived = take(&coded, &gzip(&text), 100_000).await.expect("fits");
        assert_eq!(arrived.bytes, text);
        assert!(matches!(take(&coded, &gzip(&text), 99_999).await, Err(Error::TooLarge(_))));
        assert!(matches!(take(&coded, b"not gzip", 100).await, Err(Error::Gzip)));
        assert!(matches!(take(&coded, &gzip(&text)[..40], 100_000).await, Err(Error::Gzip)));
        assert!(matches!(take(&[("content-encoding", "br")], b"x", 100).await, Err(Error::Coding(_))));
    }

    #[tokio::test]
    async fn the_budget_is_kept_and_given_back() {
        let budget = Budget::new(10);
        let limits = Limits::default();
        let body = |n: usize| Full::new(Bytes::from(vec![0; n]));
        let first = read(&HeaderMap::new(), body(8), 100, &limits, &budget, false).await.expect("fits");
        assert!(matches!(read(&HeaderMap::new(), body(8), 100, &limits, &budget, false).await, Err(Error::Busy)));
        drop(first);
        assert!(read(&HeaderMap::new(), body(8), 100, &limits, &budget, false).await.is_ok());
    }

    #[test]
    fn nobody_with_a_share_takes_it_all() {
        let all = Budget::new(400 << 20);
        let greedy: Vec<_> = (0..8).map(|_| all.share()).collect();
        let mut held = Vec::new();
        for share in &greedy {
            let mut own = share.hold();
            while own.take(1 << 20).is_ok() {}
            assert!(own.bytes >= 16 << 20, "{}", own.bytes);
            held.push(own);
        }
        let mut late = all.share().hold();
        assert!(late.take(SHARE_LEAST).is_ok(), "{} left", all.left());
        drop((held, late));
        assert_eq!((all.left(), greedy[0].left()), (400 << 20, 100 << 20));
        let mut outside = all.hold();
        assert!(outside.take(400 << 20).is_ok());
        assert!(all.share().hold().take(1).is_err());
    }

    #[tokio::test]
    async fn a_body_that_stops_coming_ends() {
        let body = StreamBody::new(stream::pending::<Result<Frame<Bytes>, std::io::Error>>());
        let limits = Limits { body_wait: Duration::from_millis(20), ..Limits::default() };
        let late = read(&HeaderMap::new(), body, 100, &limits, &Budget::new(100), false).await;
        assert!(matches!(late, Err(Error::Late)));
    }
}
