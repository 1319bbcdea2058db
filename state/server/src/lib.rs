//! The Kubernetes API as a `tower::Service` over the revision log.
//!
//! One generic path serves every kind; what is special about a kind is a row of the scheme or a small strategy. Nothing
//! here knows controllers, git or containers: streaming to a pod goes through the [`PodStreams`] trait.

mod streams;

pub use streams::{ByteStream, ExecRequest, ExecStreams, LogRequest, PodStreams, StreamError};
