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
use http::Request;
use http::header::SERVER;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::GracefulShutdown;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::body::Budget;
use super::{FrontOptions, request};

/// The HTTP server: one, for any number of listeners.
#[derive(Debug)]
pub struct Front {
    options: Arc<FrontOptions>,
    budget: Arc<Budget>,
    connections: Arc<Semaphore>,
    protocol: auto::Builder<TokioExecutor>,
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
            .max_buf_size(limits.head_bytes.max(8192))
            .half_close(false);
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
            protocol,
        })
    }

    /// Accepts connections until `shutdown` ends, then lets calls under way finish (at most `Limits::drain` long).
    ///
    /// Errors: the listener's own; a failed accept of one connection is waited out.
    pub async fn serve(self: &Arc<Self>, listener: TcpListener, shutdown: impl Future<Output = ()>) -> io::Result<()> {
        let port = listener.local_addr()?.port();
        let graceful = GracefulShutdown::new();
        let mut shutdown = pin!(shutdown);
        loop {
            let permit = Arc::clone(&self.connections).acquire_owned();
            let accepted = async {
                let permit = permit.await.expect("the semaphore is never closed");
                (permit, listener.accept().await)
            };
            let (permit, accepted) = tokio::select! {
                () = &mut shutdown => break,
                accepted = accepted => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    let connection = graceful.watch(self.connection(stream, port).into_owned());
                    tokio::spawn(async move {
                        if let Err(error) = connection.await {
                            tracing::trace!(%error, "a connection ended early");
                        }
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
        drop(listener);
        if tokio::time::timeout(self.options.limits.drain, graceful.shutdown()).await.is_err() {
            tracing::warn!("calls were still under way at the end of the drain time");
        }
        Ok(())
    }

    fn connection(
        &self,
        stream: TcpStream,
        port: u16,
    ) -> auto::Connection<
        '_,
        TokioIo<TcpStream>,
        impl hyper::service::Service<
            Request<Incoming>,
            Response = http::Response<Outgoing>,
            Error = Infallible,
            Future = impl Future<Output = Result<http::Response<Outgoing>, Infallible>> + Send + 'static,
        > + Send
        + 'static,
        TokioExecutor,
    > {
        // Small answers leave at once.
        let _ = stream.set_nodelay(true);
        let (options, budget) = (Arc::clone(&self.options), Arc::clone(&self.budget));
        let service = service_fn(move |request: Request<Incoming>| {
            let (options, budget) = (Arc::clone(&options), Arc::clone(&budget));
            async move {
                let mut answer = request::answer(&options, &budget, port, request).await;
                answer.headers_mut().insert(SERVER, http::HeaderValue::from_static("flint"));
                Ok::<_, Infallible>(answer.map(Outgoing::from))
            }
        });
        self.protocol.serve_connection(TokioIo::new(stream), service)
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
