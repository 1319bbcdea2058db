//! What a message about an image that could not be pulled means.
//!
//! Nodes say it in words only: our own agent, and kubelets with what containerd, CRI-O or Docker told them.

/// Why an image could not be pulled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cause {
    /// The registry says that there is no such image, or none for the node's platform.
    Absent,
    /// The registry does not let us have it. Many say so of what does not exist.
    Denied,
    /// What came cannot be used.
    Broken,
    /// The registry could not be asked, or asked to be left alone for a while.
    Unreachable,
    /// It was not said.
    Unsaid,
}

/// What is said when the registry could not be asked. Looked for first: such a message may quote anything.
const UNREACHABLE: &[&str] = &[
    "no such host",
    "server misbehaving",
    "name resolution",
    "dns error",
    "connection refused",
    "connection reset",
    "connection closed",
    "broken pipe",
    "network is unreachable",
    "no route to host",
    "host is unreachable",
    "unexpected eof",
    ": eof",
    "i/o timeout",
    "timed out",
    "timeout exceeded",
    "handshake timeout",
    "deadline exceeded",
    "did not answer within",
    "no answer within",
    "context canceled",
    "error sending request",
    "http: server gave http response to https client",
    "tls: ",
    "x509: ",
    "invalid peer certificate",
    "toomanyrequests",
    "too many requests",
    "rate limit",
    "pull qps exceeded",
    "408 request timeout",
    "500 internal server error",
    "502 bad gateway",
    "503 service unavailable",
    "504 gateway timeout",
    "service unavailable",
    "registry is unavailable",
    "registryunavailable",
    "no space left on device",
    "cannot fetch ",
    "unpacking was interrupted",
];

const DENIED: &[&str] = &[
    "refuses access to",
    "pull access denied",
    "may require 'docker login'",
    "may require authorization",
    "insufficient_scope",
    "authorization failed",
    "authentication required",
    "no basic auth credentials",
    "401 unauthorized",
    "403 forbidden",
    "unauthorized",
    "access denied",
    "denied: ",
];

const ABSENT: &[&str] = &[
    "not found",
    "manifest unknown",
    "manifest_unknown",
    "name unknown",
    "name_unknown",
    "does not exist",
    "no match for platform",
    "no matching manifest",
    "no such image",
];

const BROKEN: &[&str] = &[
    "is not a usable image",
    "cannot be used",
    "nothing of it was installed",
    "unexpected media type",
    "unsupported media type",
    "failed size validation",
    "failed precondition",
    "invalid tar header",
];

/// Reads the cause from a message about an image.
pub(super) fn cause(image: &str, message: &str) -> Cause {
    // A name can contain any of the words: it is what the message is about, not what it says.
    let said = without(&message.to_lowercase(), &image.to_lowercase());
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if says(UNREACHABLE) {
        Cause::Unreachable
    } else if says(DENIED) {
        Cause::Denied
    } else if says(ABSENT) {
        Cause::Absent
    } else if says(BROKEN) {
        Cause::Broken
    } else {
        Cause::Unsaid
    }
}

/// Takes an image's name out of a message, and the last part of it wherever it stands (registries write it in other ways).
fn without(message: &str, image: &str) -> String {
    if image.is_empty() {
        return message.to_owned();
    }
    let bare = image.split('@').next().unwrap_or(image);
    let last = bare.rsplit('/').next().unwrap_or(bare);
    let repository = last.split(':').next().unwrap_or(last);
    let mut out = message.replace(image, "\"\"");
    // Names of one word are likely to be part of what is said.
    if repository.contains(['-', '_', '.']) {
        out = out.replace(repository, "");
    }
    out
}
