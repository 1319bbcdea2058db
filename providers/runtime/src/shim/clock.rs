//! The shim's clock.

/// Returns the time. A process of its own has nobody who could hand it a clock.
#[allow(clippy::disallowed_methods, reason = "a shim is the edge of its process")]
pub(super) fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}
