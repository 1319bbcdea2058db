//! Switching from HTTP to another protocol: what a client asks for, and taking the connection over.

use std::time::Duration;

use http::header::{CONNECTION, UPGRADE};
use http::{HeaderMap, HeaderName};
use hyper::upgrade::{OnUpgrade, Upgraded};

/// How long the other end may take to switch protocols and open its streams.
pub(crate) const OPEN_WITHIN: Duration = Duration::from_secs(30);
/// How long the other end may take to hang up after the end.
pub(crate) const CLOSE_WITHIN: Duration = Duration::from_secs(5);

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
