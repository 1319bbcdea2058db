//! A body that is looked at while it passes.

use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};

/// What is done with a body once it has passed: all of it, or `None` when it was longer than is kept or broke off.
pub(super) type Seen = Box<dyn FnOnce(Option<Bytes>) + Send>;

/// Passes a body on unchanged and keeps a copy of at most `limit` bytes.
pub(super) fn tee(body: Body, limit: usize, seen: Seen) -> Body {
    Body::new(Tee {
        body,
        limit,
        copy: Some(BytesMut::new()),
        whole: false,
        seen: Some(seen),
    })
}

struct Tee {
    body: Body,
    limit: usize,
    /// `None` once it is too long.
    copy: Option<BytesMut>,
    whole: bool,
    seen: Option<Seen>,
}

impl http_body::Body for Tee {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let polled = Pin::new(&mut self.body).poll_frame(context);
        let limit = self.limit;
        match &polled {
            Poll::Ready(Some(Ok(frame))) => {
                if let Some(data) = frame.data_ref() {
                    match &mut self.copy {
                        Some(copy) if copy.len() + data.len() <= limit => copy.extend_from_slice(data),
                        copy => *copy = None,
                    }
                }
                // Whoever knows the length does not ask for the end.
                self.whole |= self.body.is_end_stream();
            }
            Poll::Ready(None) => self.whole = true,
            _ => {}
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Tee {
    fn drop(&mut self) {
        let whole = self.whole || self.body.is_end_stream();
        let copy = self.copy.take().filter(|_| whole).map(BytesMut::freeze);
        if let Some(seen) = self.seen.take() {
            seen(copy);
        }
    }
}
