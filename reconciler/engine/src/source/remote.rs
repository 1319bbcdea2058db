//! Repositories at a distance, mirrored into a folder of the daemon's.
//!
//! A mirror is a bare repository with the remote's branches under their own names and its HEAD; tags are left. It is fetched by a small
//! client of git's protocol (version 0, which every server speaks) over HTTP by reqwest and rustls, over the system's `ssh`, or over
//! plain TCP. libgit2 has a client too, but without OpenSSL it speaks neither https nor ssh, its waits cannot all be bounded, and its hook
//! for other transports is not safe Rust.
//!
//! Objects are written as one indexed pack before any branch moves, so that a process that dies leaves a mirror as it was. Every wait has
//! a deadline and what is received is counted. Passwords are in no message: an address prints itself without user information.

mod address;
mod http;
mod link;
mod mirror;
mod protocol;
mod ssh;
#[cfg(test)]
mod tests;

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::SourceError;

pub use address::{Location, Remote};

/// Who asks: a user name with a password or token.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    /// Often irrelevant beside a token, but not empty.
    pub username: String,
    /// The password or token.
    pub password: String,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// What a fetch may take, and with which program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Until a connection is there.
    pub connect: Duration,
    /// Until the next byte comes.
    pub idle: Duration,
    /// The whole fetch.
    pub total: Duration,
    /// The most bytes received in one fetch.
    pub received: u64,
    /// The program that speaks ssh, looked for in PATH.
    pub ssh: PathBuf,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            idle: Duration::from_secs(30),
            total: Duration::from_secs(600),
            received: 1 << 30,
            ssh: PathBuf::from("ssh"),
        }
    }
}

/// Brings a mirror's branches and HEAD to where the remote's are; the mirror is made when it is missing. Credentials go before those in
/// the address. Blocking, for at most `limits.total` and the time that the disk takes. One fetch at a time into one mirror.
pub fn fetch(
    remote: &Remote,
    mirror: &Path,
    limits: &Limits,
    credentials: Option<&Credentials>,
) -> Result<(), SourceError> {
    // On a thread of its own, so that a caller inside of a runtime does not make a runtime in a runtime.
    std::thread::scope(|scope| {
        let work = || fetch_here(remote, mirror, limits, credentials);
        let setup = |problem: &str, source| SourceError::Setup {
            remote: remote.to_string(),
            problem: problem.to_owned(),
            source,
        };
        std::thread::Builder::new()
            .name("git-fetch".to_owned())
            .spawn_scoped(scope, work)
            .map_err(|error| setup("no thread can be started", Some(Box::new(error))))?
            .join()
            .unwrap_or_else(|_| {
                Err(setup(
                    "the fetch broke off by a fault in Setpoint; please report it",
                    None,
                ))
            })
    })
}

fn fetch_here(
    remote: &Remote,
    mirror: &Path,
    limits: &Limits,
    credentials: Option<&Credentials>,
) -> Result<(), SourceError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| SourceError::Setup {
            remote: remote.to_string(),
            problem: "no event loop can be started".to_owned(),
            source: Some(Box::new(error)),
        })?;
    let until = Instant::now() + limits.total;
    runtime.block_on(async {
        let work = exchange(remote, mirror, limits, credentials, until);
        match tokio::time::timeout(limits.total, work).await {
            Ok(result) => result,
            Err(_) => Err(SourceError::Timeout {
                remote: remote.to_string(),
                what: "send everything",
                seconds: limits.total.as_secs(),
            }),
        }
    })
}

async fn exchange(
    remote: &Remote,
    mirror: &Path,
    limits: &Limits,
    credentials: Option<&Credentials>,
    until: Instant,
) -> Result<(), SourceError> {
    let mut mirror = mirror::Mirror::open(mirror, until)?;
    let link = link::Link::open(remote, limits, credentials).await?;
    let mut session = protocol::Session::new(link, remote, limits.received);
    let offer = session.advertisement().await?;
    let wants = mirror.missing(&offer)?;
    if wants.is_empty() {
        session.finish().await;
    } else {
        let haves = mirror.haves()?;
        session.ask(&offer, &wants, &haves).await?;
        let mut pack = mirror.pack()?;
        while let Some(data) = session.pack_data().await? {
            pack.write(&data)?;
        }
        pack.finish()?;
        mirror.complete(&wants)?;
    }
    mirror.update(&offer)?;
    mirror.tidy()
}
