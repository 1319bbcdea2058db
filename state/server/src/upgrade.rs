//! Switching from HTTP to another protocol: what a client asks for, and taking the connection over.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderName, Request};
use hyper::upgrade::{OnUpgrade, Upgraded};
use parking_lot::Mutex;

/// How long the other end may take to switch protocols and open its streams.
pub(crate) const OPEN_WITHIN: Duration = Duration::from_secs(30);
/// How long the other end may take to hang up after the end.
pub(crate) const CLOSE_WITHIN: Duration = Duration::from_secs(5);

/// How often the other end of a silent session is asked whether it is still there.
pub(crate) const PING_EVERY: Duration = Duration::from_secs(30);

/// When an answer without an end has to end all the same: the access of its user was taken back, or the server stops.
///
/// Whoever carries the answer takes it: the connection does for a body, the task that took the connection over for an upgrade.
#[derive(Clone)]
pub(crate) struct Cutoff(Arc<Mutex<Option<BoxFuture<'static, ()>>>>);

impl Cutoff {
    pub(crate) fn new(end: impl Future<Output = ()> + Send + 'static) -> Cutoff {
        Cutoff(Arc::new(Mutex::new(Some(Box::pin(end)))))
    }

    /// The cutoff that came with a request; one that never comes for a request from this process.
    pub(crate) fn of<B>(request: &mut Request<B>) -> Cutoff {
        let ending = request.extensions_mut().remove::<Cutoff>();
        ending.unwrap_or_else(|| Cutoff(Arc::default()))
    }

    /// Returns when it has come.
    pub(crate) async fn over(self) {
        let end = self.0.lock().take();
        match end {
            Some(end) => end.await,
            None => std::future::pending().await,
        }
    }

    /// Lets a session go on until its own end, or until this one.
    pub(crate) async fn unless_over(self, session: impl Future<Output = ()>) {
        tokio::select! {
            () = session => {}
            () = self.over() => {}
        }
    }
}

fn has(headers: &HeaderMap, name: HeaderName, wanted: &str) -> bool {
    headers.get_all(name).iter().any(|value| {
        value
            .to_str()
            .is_ok_and(|value| value.split(',').any(|token| token.trim().eq_ignore_ascii_case(wanted)))
    })
}

/// Whether the client wants to switch protocols at all.
pub(crate) fn is_wanted(headers: &HeaderMap) -> bool {
    has(headers, CONNECTION, "upgrade") && headers.contains_key(UPGRADE)
}

/// Whether the client wants to switch to this protocol.
pub(crate) fn wants(headers: &HeaderMap, protocol: &str) -> bool {
    has(headers, CONNECTION, "upgrade") && has(headers, UPGRADE, protocol)
}

/// Takes the connection over once the answer that switches is sent; `None`, with a line in the log, when that does not happen in time.
pub(crate) async fn taken(upgrade: OnUpgrade, what: &str) -> Option<Upgraded> {
    match tokio::time::timeout(OPEN_WITHIN, upgrade).await {
        Ok(Ok(upgraded)) => return Some(upgraded),
        Ok(Err(error)) => tracing::debug!(what, %error, "the connection was not upgraded"),
        Err(_) => tracing::debug!(what, "the connection was not upgraded in time"),
    }
    None
}
