//! The names of images: which image a name stands for, and the lock under which that changes.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use super::ImageError;
use super::record::{self, Durable};

/// How long another process may hold the lock: it is held for a few small files, never while a layer is unpacked or removed.
const PATIENCE: Duration = Duration::from_secs(30);

/// How often it is looked whether the lock is free: the kernel tells nobody who does not block.
const LOOK: Duration = Duration::from_millis(20);

/// Names by their full form, each with its image's id.
pub(super) type Names = BTreeMap<String, String>;

/// The lock on names and records, among processes and tasks; it is released when this is dropped.
#[derive(Debug)]
pub(super) struct Lock {
    _file: File,
}

/// Takes the lock without holding up a thread.
pub(super) async fn lock(root: &Path) -> Result<Lock, ImageError> {
    let path = root.join("references.lock");
    let file = File::options()
        .create(true)
        .truncate(false)
        .write(true)
        .open(&path)
        .map_err(ImageError::io("open", &path))?;
    let trying = async {
        loop {
            match flock(&file, FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => return Ok(()),
                Err(Errno::WOULDBLOCK | Errno::INTR) => tokio::time::sleep(LOOK).await,
                Err(error) => return Err(ImageError::io("lock", &path)(error.into())),
            }
        }
    };
    match tokio::time::timeout(PATIENCE, trying).await {
        Ok(taken) => taken.map(|()| Lock { _file: file }),
        Err(_) => Err(ImageError::Locked {
            path,
            seconds: PATIENCE.as_secs(),
        }),
    }
}

fn path(root: &Path) -> PathBuf {
    root.join("references.json")
}

pub(super) fn read(root: &Path) -> Result<Names, ImageError> {
    Ok(record::read_json(&path(root))?.unwrap_or_default())
}

/// Replaces all names; the caller holds the lock since it read them.
pub(super) fn write(root: &Path, names: &Names, _lock: &Lock) -> Result<(), ImageError> {
    record::write_json(root, &path(root), names, Durable::Yes)
}
