//! `InvokeWithResponseStream`: the answer leaves while the function writes it.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use flint_kit::{Body, Doc, Event, Fault, Outcome};
use flint_runtime::{Answer, End, ResponseStream, response_stream};
use futures_util::stream;
use tokio::sync::oneshot;

use super::Run;
use crate::error::Error;

/// Where a stream of events stands.
enum State {
    /// Bytes may still come.
    Open(ResponseStream, oneshot::Receiver<Answer>),
    /// All bytes are through; the closing event is next.
    Closing(Answer),
    Done,
}

/// Runs an admitted invocation and answers as soon as the function's answer begins, or the call ends without one.
pub(super) async fn run(run: Run) -> Result<Outcome, Error> {
    let version = run.runnable.pool.spec.version.clone();
    let tail = run.invocation.tail;
    let (sender, mut chunks) = response_stream();
    let (begun, begins) = oneshot::channel();
    let (ended, ends) = oneshot::channel();
    // A task of its own: a caller that hangs up doesn't take the environment with it.
    tokio::spawn(async move {
        let acquired = run.acquire().await;
        let leased = match acquired {
            Ok(leased) => leased,
            Err(error) => {
                // Nobody waits any more if the caller is gone.
                let _ = begun.send(Err(error));
                return;
            }
        };
        let _ = begun.send(Ok(()));
        let _ = ended.send(run.conduct(leased, Some(sender)).await);
    });
    let gone = |_| Error::Sandbox("the invocation broke off".to_owned());
    begins.await.map_err(gone)??;
    let state = match chunks.head().await {
        Some(_) => State::Open(chunks, ends),
        None => {
            let answer = ends.await.map_err(gone)?;
            if answer.end == End::Platform {
                return Err(super::lost(&answer));
            }
            State::Closing(answer)
        }
    };
    Ok(Outcome {
        status: 200,
        payload: Body::Events(Box::pin(stream::unfold(state, move |state| next(state, tail)))),
        function_error: None,
        executed_version: version,
        tail: None,
        billed_ms: 0,
    })
}

async fn next(state: State, tail: bool) -> Option<(Result<Event, Fault>, State)> {
    let answer = match state {
        State::Open(mut chunks, ends) => match chunks.next().await {
            Some(bytes) => {
                return Some((Ok(Event::bytes("PayloadChunk", "Payload", bytes)), State::Open(chunks, ends)));
            }
            None => match ends.await {
                Ok(answer) => answer,
                Err(gone) => {
                    let fault = Fault::server(500, "ServiceException", "internal error").because(gone);
                    return Some((Err(fault), State::Done));
                }
            },
        },
        State::Closing(mut answer) if answer.function_error.is_none() && !answer.payload.is_empty() => {
            // A function that does not stream answers in one piece.
            let whole = std::mem::take(&mut answer.payload);
            return Some((Ok(Event::bytes("PayloadChunk", "Payload", whole)), State::Closing(answer)));
        }
        State::Closing(answer) => answer,
        State::Done => return None,
    };
    Some((Ok(complete(answer, tail)), State::Done))
}

/// The closing event. A failed call names its error and carries the document.
fn complete(answer: Answer, tail: bool) -> Event {
    let mut members = Vec::new();
    if answer.function_error.is_some() {
        let code = answer.error_type.unwrap_or_else(|| "Unhandled".to_owned());
        members.push(("ErrorCode".into(), Doc::from(code)));
        members.push(("ErrorDetails".into(), Doc::from(String::from_utf8_lossy(&answer.payload).into_owned())));
    }
    if tail {
        members.push(("LogResult".into(), Doc::from(BASE64_STANDARD.encode(&answer.tail))));
    }
    Event::new("InvokeComplete", Doc::Map(members))
}
