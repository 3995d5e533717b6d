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
use tokio::sync::{Semaphore, watch};

use super::body::Budget;
use super::{FrontOptions, request};

/// How long a new connection may be silent.
const FIRST_WORD: Duration = Duration::from_secs(10);

/// What an HTTP/2 client with prior knowledge says first.
const PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The HTTP server: one, for any number of listeners.
#[derive(Debug)]
pub struct Front {
    options: Arc<FrontOptions>,
    budget: Arc<Budget>,
    connections: Arc<Semaphore>,
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
            .header_read_timeout(limits.head_wait)
            .max_headers(limits.header_fields)
            .max_buf_size(limits.head_bytes.max(8192));
        protocol
            .http2()
            .timer(TokioTimer::new())
            .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
            .max_concurrent_streams(100)
            .max_pending_accept_reset_streams(20)
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20));
        Arc::new(Self {
            budget: Budget::new(limits.buffered_bytes),
            connections: Arc::new(Semaphore::new(limits.connections)),
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
        let port = listener.local_addr()?.port();
        let (stop, stopping) = watch::channel(());
        let mut shutdown = pin!(shutdown);
        loop {
            let accepted = async {
                let permit = Arc::clone(&self.connections).acquire_owned().await;
                (permit.expect("the semaphore is never closed"), listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                () = &mut shutdown => break,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (front, stopping) = (Arc::clone(self), stopping.clone());
                    tokio::spawn(async move {
                        front.connection(stream, port, stopping).await;
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
        drop((listener, stopping));
        // Every connection holds a receiver; the channel closes when the last one is gone.
        let _ = stop.send(());
        if tokio::time::timeout(self.options.limits.drain, stop.closed()).await.is_err() {
            tracing::warn!("calls were still under way at the end of the drain time");
        }
        Ok(())
    }

    /// Serves one connection until it ends or, once `stopping` says so, until its call under way is answered.
    async fn connection(&self, stream: TcpStream, port: u16, mut stopping: watch::Receiver<()>) {
        let protocol = tokio::select! {
            _ = stopping.changed() => return,
            version = tokio::time::timeout(FIRST_WORD, is_http2(&stream)) => match version {
                Ok(Ok(true)) => &self.http2,
                Ok(Ok(false)) => &self.http1,
                Ok(Err(_)) | Err(_) => return,
            },
        };
        // Small answers leave at once; a socket that refuses this is slower, not wrong.
        let _ = stream.set_nodelay(true);
        let service = service_fn(|request: Request<Incoming>| {
            let (options, budget) = (Arc::clone(&self.options), Arc::clone(&self.budget));
            async move {
                let mut answer = request::answer(&options, &budget, port, request).await;
                answer.headers_mut().insert(SERVER, HeaderValue::from_static("flint"));
                Ok::<_, Infallible>(answer.map(Outgoing::from))
            }
        });
        let mut connection = pin!(protocol.serve_connection(TokioIo::new(stream), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            _ = stopping.changed() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
        };
        if let Err(error) = ended {
            tracing::trace!(%error, "a connection ended early");
        }
    }
}

/// Whether the client opens with HTTP/2's preface. Looks without taking, so that the protocol reads it again.
async fn is_http2(stream: &TcpStream) -> io::Result<bool> {
    let mut seen = [0; PREFACE.len()];
    loop {
        let n = stream.peek(&mut seen).await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if seen[..n] != PREFACE[..n] {
            return Ok(false);
        }
        if n == PREFACE.len() {
            return Ok(true);
        }
        // A preface in pieces; peeking does not wait for more.
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A body on its way out.
enum Outgoing {
    Whole(Option<Bytes>),
    Stream(ByteStream),
}

impl From<Body> for Outgoing {
    fn from(body: Body) -> Self {
        match body {
            Body::Whole(bytes) => Outgoing::Whole(Some(bytes).filter(|b| !b.is_empty())),
            Body::Stream(stream) => Outgoing::Stream(stream),
            // The codec frames events; a service that answers them where its model has none ends here.
            Body::Events(_) => {
                let fault = Fault::server(500, "InternalFailure", "internal error");
                Outgoing::Stream(Box::pin(futures_util::stream::once(async { Err(fault) })))
            }
        }
    }
}

impl http_body::Body for Outgoing {
    type Data = Bytes;
    type Error = Fault;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Fault>>> {
        match &mut *self {
            Outgoing::Whole(bytes) => Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b)))),
            Outgoing::Stream(stream) => stream.poll_next_unpin(cx).map(|next| next.map(|piece| piece.map(Frame::data))),
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Outgoing::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Outgoing::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |b| b.len() as u64)),
            Outgoing::Stream(_) => SizeHint::default(),
        }
    }
}
