//! SPDY/3.1 as far as streaming needs it: kubectl before 1.31 runs processes over it, and every kubectl forwards ports over it.
//!
//! Only the wire is here; what streams mean is said by the sessions ([`crate::exec`], [`crate::portforward`]). There is no flow
//! control (neither end's library has it), and there are no pushes and no priorities.

mod frames;

use http::HeaderMap;

pub(crate) use frames::{Frame, HeaderBlocks, SpdyError, data_header, ping, reply, reset};

/// The name of the protocol in `Upgrade`.
pub(crate) const PROTOCOL: &str = "SPDY/3.1";
/// The header in which both ends agree on what streams mean.
pub(crate) const STREAM_PROTOCOL: &str = "x-stream-protocol-version";

/// The stream protocols that a client offers, in its order.
pub(crate) fn offered(headers: &HeaderMap) -> Vec<&str> {
    headers
        .get_all(STREAM_PROTOCOL)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .filter(|value| !value.is_empty())
        .collect()
}

/// The value of a stream's header, whose names have no case.
pub(crate) fn field<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields
        .iter()
        .find(|(field, _)| field.eq_ignore_ascii_case(name))
        .map(|(_, value)| value.as_str())
}
