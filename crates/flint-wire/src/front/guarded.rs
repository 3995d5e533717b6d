//! A connection's bytes on their way in and out, looked at and timed.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::roll::Life;
use super::{frames, heads};

/// Bytes of an HTTP/2 connection that are taken before other connections have their turn: the smallest frames have nine.
const TURN: usize = 32 << 10;

/// A stream whose bytes go past a watch.
#[derive(Debug)]
pub(super) struct Guarded<S> {
    stream: S,
    watch: Watch,
    /// Bytes taken in this turn.
    taken: usize,
    life: Arc<Life>,
}

#[derive(Debug)]
enum Watch {
    Http1(heads::Watch),
    Http2(frames::Watch),
}

impl<S> Guarded<S> {
    pub(super) fn new(stream: S, http2: bool, life: Arc<Life>) -> Self {
        let watch = if http2 { Watch::Http2(frames::Watch::new()) } else { Watch::Http1(heads::Watch::new()) };
        Self { stream, watch, taken: 0, life }
    }

    fn read(&mut self, bytes: &mut [u8]) {
        match &mut self.watch {
            Watch::Http1(watch) => {
                watch.look(bytes);
                self.life.set_in_head(watch.in_head());
            }
            Watch::Http2(watch) => {
                if !watch.look(bytes) {
                    self.life.end();
                }
            }
        }
    }

    fn wrote(&mut self, result: &Poll<io::Result<usize>>) {
        let Poll::Ready(Ok(bytes @ 1..)) = result else { return };
        match &mut self.watch {
            Watch::Http1(_) => self.life.moved(),
            // Some of what is written answers pings, so it says nothing about the client.
            Watch::Http2(watch) => watch.wrote(*bytes),
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Guarded<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.taken >= TURN && matches!(self.watch, Watch::Http2(_)) {
            self.taken = 0;
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let before = buf.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, buf);
        if read.is_pending() {
            self.taken = 0;
        }
        let new = &mut buf.filled_mut()[before..];
        if !new.is_empty() {
            self.taken += new.len();
            self.read(new);
        }
        read
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Guarded<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write(cx, buf);
        self.wrote(&result);
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        self.wrote(&result);
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
