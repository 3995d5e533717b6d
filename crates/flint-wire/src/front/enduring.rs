//! Work that ends even if nobody waits for it any more.

use std::future::Future;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::thread;

/// Runs in the task of whoever waits for it, so that the usual call costs no task of its own. If that one is dropped
/// half-way (the caller has hung up), the rest goes on in a new task. A panic is an error here and no more.
pub(super) struct Enduring<T: Send + 'static> {
    /// None once it has ended.
    work: Option<Pin<Box<dyn Future<Output = T> + Send>>>,
}

impl<T: Send + 'static> Enduring<T> {
    pub(super) fn new(work: impl Future<Output = T> + Send + 'static) -> Self {
        Self { work: Some(Box::pin(work)) }
    }
}

impl<T: Send + 'static> Future for Enduring<T> {
    type Output = thread::Result<T>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(work) = &mut self.work else { return Poll::Pending };
        // What a panic leaves behind is dropped with the future and not looked at again.
        let polled = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx)));
        let ended = match polled {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(value)) => Ok(value),
            Err(panic) => Err(panic),
        };
        self.work = None;
        Poll::Ready(ended)
    }
}

impl<T: Send + 'static> Drop for Enduring<T> {
    fn drop(&mut self) {
        // Without a runtime the server is ending, and what is under way with it.
        if let (Some(work), Ok(runtime)) = (self.work.take(), tokio::runtime::Handle::try_current()) {
            runtime.spawn(work);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn it_goes_on_without_its_caller() {
        let (go, done, ended) = (Arc::new(Notify::new()), Arc::new(Notify::new()), Arc::new(AtomicBool::new(false)));
        let work = Enduring::new({
            let (go, done, ended) = (go.clone(), done.clone(), ended.clone());
            async move {
                go.notified().await;
                ended.store(true, Ordering::SeqCst);
                done.notify_one();
            }
        });
        let mut work = Box::pin(work);
        assert!(std::future::poll_fn(|cx| Poll::Ready(work.as_mut().poll(cx).is_pending())).await);
        drop(work);
        go.notify_one();
        done.notified().await;
        assert!(ended.load(Ordering::SeqCst));
    }

    #[tokio::test]
    async fn a_panic_is_an_error() {
        let work = Enduring::<()>::new(async { panic!("on purpose") });
        assert!(work.await.is_err());
        assert_eq!(Enduring::new(async { 7 }).await.ok(), Some(7));
    }
}
