//! Streams that end when the sink does.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::watch;
use tokio_stream::Stream;
use tonic::Status;

/// Waits until the watched value is true or its sender is gone.
pub(crate) async fn becomes_true(mut watched: watch::Receiver<bool>) {
    // An error means that the sender is gone, which counts.
    let _ = watched.wait_for(|value| *value).await;
}

/// `inner`, until it ends or `end` becomes true; then UNAVAILABLE.
pub(crate) struct Until<T> {
    inner: Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>,
    end: Option<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

impl<T> Until<T> {
    pub(crate) fn new(
        inner: impl Stream<Item = Result<T, Status>> + Send + 'static,
        end: watch::Receiver<bool>,
    ) -> Self {
        Self {
            inner: Box::pin(inner),
            end: Some(Box::pin(becomes_true(end))),
        }
    }
}

impl<T> Stream for Until<T> {
    type Item = Result<T, Status>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let Some(end) = &mut self.end else {
            return Poll::Ready(None);
        };
        if end.as_mut().poll(context).is_ready() {
            self.end = None;
            return Poll::Ready(Some(Err(Status::unavailable("the processor is stopping"))));
        }
        self.inner.as_mut().poll_next(context)
    }
}
