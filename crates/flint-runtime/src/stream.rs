//! An answer that leaves while the function still writes it.
//!
//! The function's body goes through a bounded channel from the Runtime API's connection to the caller. While the channel is
//! full the connection is not read, so a slow caller slows the function down and costs the server a few chunks.
//!
//! Differs from the reference: the bandwidth of a stream is not throttled after its first megabytes.
//!
//! Reference: Lambda Developer Guide, "Response streaming for Lambda functions".

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

/// Chunks between the function and its caller: one may wait while another is written. A chunk is what one read of the
/// connection gave (at most 256 KiB), so this bounds a stream to half a MiB.
const DEPTH: usize = 2;

/// The media type of a stream whose first bytes are an HTTP head as JSON (`awslambda.HttpResponseStream.from`): the
/// document ends with eight zero bytes, then comes the body.
pub const HTTP_INTEGRATION: &str = "application/vnd.awslambda.http-integration-response";

/// What is known when a streamed answer begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StreamHead {
    /// As the runtime sent it; [`HTTP_INTEGRATION`] has a meaning of its own.
    pub content_type: String,
}

/// The function's end of a stream; handed to [`crate::Environment::invoke_stream`].
#[derive(Debug)]
pub struct StreamSender {
    head: Option<oneshot::Sender<StreamHead>>,
    chunks: mpsc::Sender<Bytes>,
}

/// The caller's end of a stream. Dropping it lets the function go on and throws away what it still writes, as the
/// reference does with a caller that hangs up.
#[derive(Debug)]
pub struct ResponseStream {
    head: Option<oneshot::Receiver<StreamHead>>,
    chunks: mpsc::Receiver<Bytes>,
}

/// A stream for one call.
pub fn response_stream() -> (StreamSender, ResponseStream) {
    let (send_head, head) = oneshot::channel();
    let (send, chunks) = mpsc::channel(DEPTH);
    (StreamSender { head: Some(send_head), chunks: send }, ResponseStream { head: Some(head), chunks })
}

impl ResponseStream {
    /// Waits until the function's answer begins. `None`: the call ended without a streamed answer, and all that it gave is
    /// in [`crate::Answer::payload`] (an error, or a runtime that answers in one piece).
    pub async fn head(&mut self) -> Option<StreamHead> {
        self.head.take()?.await.ok()
    }

    /// The next bytes, never empty; `None` at the end of the stream, good or bad: the [`crate::Answer`] tells.
    pub async fn next(&mut self) -> Option<Bytes> {
        self.chunks.recv().await
    }
}

impl StreamSender {
    /// The answer begins.
    pub(crate) fn begin(&mut self, head: StreamHead) {
        if let Some(send) = self.head.take() {
            // Nobody need be there to hear it.
            drop(send.send(head));
        }
    }

    /// Waits for room. A caller that has gone takes everything.
    pub(crate) async fn send(&self, chunk: Bytes) {
        if !chunk.is_empty() {
            drop(self.chunks.send(chunk).await);
        }
    }
}
