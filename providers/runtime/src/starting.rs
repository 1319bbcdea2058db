//! A lock that says whether some shim is still on its way: asked for, but not yet listening.
//!
//! A daemon that is killed leaves requests behind, and shims that do not listen yet. Whoever comes next must not take their sandboxes for
//! dead, take them away and make them anew while they still come up. So the spawner holds the lock, shared, from before it looks whether its
//! daemon is there, and the shim that it forks keeps holding it until it listens or has given up; who opens an instance waits for all of them.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};

/// The lock among the shims' sockets.
const NAME: &str = "starting.lock";

/// How long shims that are on their way may take. One that hangs must not keep an instance from starting.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is looked: a lock tells nobody.
const LOOK: Duration = Duration::from_millis(5);

fn open(sockets: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).write(true).mode(0o600);
    options.open(sockets.join(NAME))
}

/// Says that a shim is on its way, until the last copy of the file is closed.
pub(crate) fn begin(socket: &Path) -> io::Result<File> {
    let file = open(socket.parent().unwrap_or(socket))?;
    flock(&file, FlockOperation::LockShared)?;
    Ok(file)
}

/// Waits until no shim is on its way; false when one takes too long.
pub(crate) async fn finished(sockets: &Path) -> io::Result<bool> {
    let file = open(sockets)?;
    let waiting = async {
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(()),
                Err(rustix::io::Errno::WOULDBLOCK | rustix::io::Errno::INTR) => tokio::time::sleep(LOOK).await,
                Err(error) => return Err(error.into()),
            }
        }
    };
    match tokio::time::timeout(PATIENCE, waiting).await {
        Ok(result) => result.map(|()| true),
        Err(_) => Ok(false),
    }
}
