//! Sends what is due to a subscriber, in order. What answers is a tenant's: nothing that it says is kept.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use flint_sandbox::Reach;
use http::{Method, Request, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;

use super::subscription::Subscription;
use crate::life::Task;

/// A subscriber that does not listen yet, or no more, is tried again after this, and then less and less often.
const RETRY: Duration = Duration::from_millis(5);
const RETRY_MOST: Duration = Duration::from_millis(500);

/// What an answer may have before its connection is given up.
const ANSWER: usize = 64 * 1024;

type Connection = (SendRequest<Full<Bytes>>, Task);

/// Never ends; its owner drops it. There is no time limit on an answer: the environment may be frozen in between, and what
/// was sent twice would be told twice.
pub(super) async fn run(subscription: Arc<Subscription>, reach: Reach) {
    let mut connection = None;
    loop {
        let body = subscription.batch().await;
        let mut pause = RETRY;
        while !send(&subscription, &reach, &mut connection, body.clone()).await {
            connection = None;
            tokio::time::sleep(pause).await;
            pause = RETRY_MOST.min(pause * 2);
        }
        subscription.sent();
    }
}

/// Whether a batch has arrived. One that the subscriber refuses as its own fault (5xx) has not.
async fn send(subscription: &Subscription, reach: &Reach, connection: &mut Option<Connection>, body: Bytes) -> bool {
    let wanted = &subscription.request;
    if let Some((sender, _)) = connection
        && sender.ready().await.is_err()
    {
        *connection = None;
    }
    if connection.is_none() {
        let Ok(stream) = reach.connect(wanted.port).await else { return false };
        // Small batches shall not wait for each other.
        let _ = stream.set_nodelay(true);
        let Ok((sender, driver)) = http1::handshake(TokioIo::new(stream)).await else { return false };
        let task = Task(tokio::spawn(async move { drop(driver.await) }));
        *connection = Some((sender, task));
    }
    let Some((sender, _)) = connection else { return false };
    let request = Request::builder()
        .method(if wanted.put { Method::PUT } else { Method::POST })
        .uri(&wanted.path)
        .header(header::HOST, format!("sandbox.localdomain:{}", wanted.port))
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body));
    let Ok(request) = request else { return false };
    let Ok(answer) = sender.send_request(request).await else { return false };
    let taken = !answer.status().is_server_error();
    if Limited::new(answer.into_body(), ANSWER).collect().await.is_err() {
        *connection = None;
    }
    taken
}
