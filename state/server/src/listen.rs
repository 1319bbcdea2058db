//! The doors: TLS for clients across the network, a unix socket for whoever is on the machine.
//!
//! Each connection is one task; there are at most [`CONNECTIONS`] of them per door. When the shutdown comes, a door stops to
//! accept, ends the watches and streams of its connections so that their clients see a clean end, gives what is being
//! answered [`DRAIN_WITHIN`] to finish, and then drops the rest.

mod certificates;
mod connection;
mod tls;
mod unix;

use std::io;
use std::path::PathBuf;
use std::time::Duration;

pub use certificates::{CertificateError, ServingCerts};
pub use tls::serve_tls;
pub use unix::serve_unix;

/// How many connections a door holds at a time.
pub const CONNECTIONS: usize = 4096;
/// How long a shutdown waits for answers that are under way.
pub const DRAIN_WITHIN: Duration = Duration::from_secs(5);

/// Why a door could not be opened.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// The socket's path cannot be used.
    #[error("cannot {operation} the socket {path}")]
    Socket {
        /// What was being done, as a verb.
        operation: &'static str,
        /// The path.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// Somebody listens there already.
    #[error("another server listens at {path}")]
    InUse {
        /// The path.
        path: PathBuf,
    },
    /// No listener was handed in.
    #[error("there is no address to listen at")]
    NoListener,
}

/// Whether an error of `accept` passes: the peer gave up, or this process has no file descriptors left just now.
fn pause_after(error: &io::Error) -> Option<Duration> {
    match error.kind() {
        io::ErrorKind::ConnectionAborted
        | io::ErrorKind::ConnectionReset
        | io::ErrorKind::ConnectionRefused
        | io::ErrorKind::Interrupted => None,
        _ => Some(Duration::from_millis(100)),
    }
}
