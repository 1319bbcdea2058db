//! Where revisions come from: git repositories on disk and at a distance.
//!
//! Everything here blocks (disk, network, other programs): call it from `spawn_blocking` or a thread of its own.

pub mod create;
mod error;
pub mod remote;
pub mod repository;
pub mod watch;

pub use create::{Identity, clone_into, init_bare, is_clone_of};
pub use error::{Class, SourceError};
pub use remote::{Credentials, Limits, Location, Remote, fetch};
pub use repository::{Commit, GitPaths, Head, Repository};
pub use watch::Watcher;
