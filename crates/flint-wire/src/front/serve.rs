//! Listeners and connections.

use std::convert::Infallible;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use flint_kit::body::ByteStream;
use flint_kit::{Body, Fault};
use futures_util::StreamExt;
use http::header::SERVER;
use http::{HeaderValue, Request};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

use super::FrontOptions;
use super::body::Budget;
use super::guarded::Guarded;
use super::request::{self, Door};
use super::roll::{Roll, Visit};

/// What an HTTP/2 client with prior knowledge says first.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Length, type, flags and stream of an HTTP/2 frame; the type comes after three bytes of length.
const FRAME_HEADER: usize = 9;

const SETTINGS: u8 = 4;

/// HTTP/2 requests that one connection may have open.
const STREAMS: u32 = 100;

/// What HTTP/2 is handed of an answer at a time, so that it shows when the client takes no more.
const PIECE: usize = 64 << 10;

/// The HTTP server: one, for any number of listeners.
#[derive(Debug)]
pub struct Front {
    options: Arc<FrontOptions>,
    pub(super) budget: Arc<Budget>,
    connections: Arc<Semaphore>,
    pub(super) roll: Arc<Roll>,
    http1: auto::Builder<TokioExecutor>,
    http2: auto::Builder<TokioExecutor>,
}

impl Front {
    pub fn new(options: FrontOptions) -> Arc<Self> {
        let limits = options.limits;
        let mut protocol = auto::Builder::new(TokioExecutor::new());
        protocol
            .http1()
            .timer(TokioTimer::new())
            // Silence between requests; a head that has begun has a shorter limit, see `roll`.
            .header_read_timeout(limits.idle_wait)
            .max_headers(limits.header_fields)
            .max_buf_size(limits.head_bytes.max(8192));
        protocol
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
            .max_concurrent_streams(STREAMS)
            .max_pending_accept_reset_streams(20)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20));
        Arc::new(Self {
            budget: Budget::new(limits.buffered_bytes),
            connections: Arc::new(Semaphore::new(limits.connections)),
            roll: Roll::new(limits),
            options: Arc::new(options),
            http1: protocol.clone().http1_only(),
            http2: protocol.http2_only(),
        })
    }

    /// Accepts connections until `shutdown` ends, then lets calls under way finish (at most `Limits::drain` long).
    ///
    /// May run for several listeners at a time; they share the limits.
    ///
    /// Errors: the listener's own; a failed accept of one connection is waited out.
    pub async fn serve(self: &Arc<Self>, listener: TcpListener, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let door =
            Arc::new(Door { port: listener.local_addr()?.port(), inside: None, budget: Arc::clone(&self.budget) });
        let (stop, stopping) = watch::channel(());
        let mut shutdown = pin!(shutdown);
        let watch = tokio::spawn(Arc::clone(&self.roll).watch());
        loop {
            let accepted = async { Ok((listener.accept().await?.0, self.place().await)) };
            let accepted: io::Result<_> = tokio::select! {
                () = &mut shutdown => break,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok((stream, permit)) => {
                    let (front, door, stopping) = (Arc::clone(self), Arc::clone(&door), stopping.clone());
                    tokio::spawn(async move {
                        front.connection(stream, &door, stopping).await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    // Out of descriptors, mostly: the next accept would fail at once, so give others time to close.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
        watch.abort();
        drop((listener, stopping));
        // Every connection holds a receiver; the channel closes when the last one is gone.
        let _ = stop.send(());
        if tokio::time::timeout(self.options.limits.drain, stop.closed()).await.is_err() {
            tracing::warn!("calls were still under way at the end of the drain time");
        }
        Ok(())
    }

    /// A place for one more connection; if there is none, one that can be missed makes room.
    pub(super) async fn place(&self) -> OwnedSemaphorePermit {
        if let Ok(permit) = Arc::clone(&self.connections).try_acquire_owned() {
            return permit;
        }
        self.roll.make_room();
        Arc::clone(&self.connections).acquire_owned().await.expect("the semaphore is never closed")
    }

    /// Serves one connection until it ends, makes room for another one or, once `stopping` says so, until its call under
    /// way is answered.
    pub(super) async fn connection(&self, stream: TcpStream, door: &Arc<Door>, mut stopping: watch::Receiver<()>) {
        let place = self.roll.enter();
        let life = &place.life;
        let http2 = tokio::select! {
            _ = stopping.changed() => return,
            () = life.ended() => return,
            version = tokio::time::timeout(self.options.limits.first_wait, is_http2(&stream)) => match version {
                Ok(Ok(http2)) => http2,
                Ok(Err(_)) | Err(_) => return,
            },
        };
        // Small answers leave at once; a socket that refuses this is slower, not wrong.
        let _ = stream.set_nodelay(true);
        let service = service_fn(|request: Request<Incoming>| {
            let (options, mut visit) = (Arc::clone(&self.options), life.visit());
            let door = Arc::clone(door);
            async move {
                let mut answer = request::answer(&options, &door, request, &mut visit).await;
                visit.answered();
                answer.headers_mut().insert(SERVER, HeaderValue::from_static("flint"));
                Ok::<_, Infallible>(answer.map(|body| Outgoing::new(body, http2, visit)))
            }
        });
        let protocol = if http2 { &self.http2 } else { &self.http1 };
        let guarded = Guarded::new(stream, http2, Arc::clone(life));
        let mut connection = pin!(protocol.serve_connection(TokioIo::new(guarded), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            () = life.ended() => return,
            _ = stopping.changed() => {
                connection.as_mut().graceful_shutdown();
                // A request that has hardly begun is not waited for.
                if life.is_only_in_head() {
                    return;
                }
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = life.ended() => return,
                }
            }
        };
        if let Err(error) = ended {
            tracing::trace!(%error, "a connection ended early");
        }
    }
}

/// Whether the client opens with HTTP/2's preface. Looks without taking, so that the protocol reads it again.
///
/// Errors: what follows the preface is not the SETTINGS frame that belongs to it (RFC 9113, section 3.4).
async fn is_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut seen = [0; PREFACE.len() + FRAME_HEADER];
    loop {
        let n = stream.peek(&mut seen).await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let preface = n.min(PREFACE.len());
        if seen[..preface] != PREFACE[..preface] {
            return Ok(false);
        }
        if n == seen.len() {
            let settings = seen[PREFACE.len() + 3] == SETTINGS;
            return if settings { Ok(true) } else { Err(io::ErrorKind::InvalidData.into()) };
        }
        // A preface in pieces; peeking does not wait for more.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A body on its way out.
struct Outgoing {
    content: Content,
    http2: bool,
    /// The request that this answers.
    visit: Visit,
}

enum Content {
    Whole(Bytes),
    Stream(ByteStream),
}

impl Outgoing {
    fn new(body: Body, http2: bool, visit: Visit) -> Self {
        let content = match body {
            Body::Whole(bytes) => Content::Whole(bytes),
            Body::Stream(stream) => Content::Stream(stream),
            // The codec frames events; a service that answers them where its model has none ends here.
            Body::Events(_) => {
                let fault = Fault::server(500, "InternalFailure", "internal error");
                Content::Stream(Box::pin(futures_util::stream::once(async { Err(fault) })))
            }
        };
        Self { content, http2, visit }
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        let this = &mut *self;
        let next = match &mut this.content {
            Content::Whole(bytes) if bytes.is_empty() => None,
            Content::Whole(bytes) if this.http2 => Some(Ok(Frame::data(bytes.split_to(bytes.len().min(PIECE))))),
            Content::Whole(bytes) => Some(Ok(Frame::data(std::mem::take(bytes)))),
            Content::Stream(stream) => match stream.poll_next_unpin(cx) {
                Poll::Ready(next) => next.map(|piece| piece.map(Frame::data)),
                Poll::Pending => {
                    this.visit.runs();
                    return Poll::Pending;
                }
            },
        };
        this.visit.leaves();
        Poll::Ready(next)
    }

    fn is_end_stream(&self) -> bool {
        matches!(&self.content, Content::Whole(bytes) if bytes.is_empty())
    }

    fn size_hint(&self) -> SizeHint {
        match &self.content {
            Content::Whole(bytes) => SizeHint::with_exact(bytes.len() as u64),
            Content::Stream(_) => SizeHint::default(),
        }
    }
}
