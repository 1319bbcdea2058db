//! Layers that a pull in flight counts on, so that no removal takes them away: a file in `leases/` for each, locked as long as the pull goes on.
//!
//! Invariants: a lease is taken under the lock on names, before it is looked which layers are here; whoever removes layers reads the leases under
//! that lock. So a layer that was found is there until the image's record names it. The lock on the file goes with its process: what a crash left
//! counts for nothing.

use std::collections::HashSet;
use std::fs::File;
use std::io::Write;
use std::path::Path;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tempfile::NamedTempFile;

use super::{ImageError, names, record};

/// Keeps layers from being removed until it is dropped.
#[derive(Debug)]
pub(super) struct Lease {
    _file: NamedTempFile,
}

/// Takes a lease on layers, whether they are here or not.
pub(super) fn take(root: &Path, layers: &[String], _lock: &names::Lock) -> Result<Lease, ImageError> {
    let folder = root.join("leases");
    let take = || -> std::io::Result<Lease> {
        let mut file = tempfile::Builder::new()
            .prefix("pull-")
            .suffix(".json")
            .tempfile_in(&folder)?;
        flock(file.as_file(), FlockOperation::NonBlockingLockExclusive)?;
        file.write_all(&serde_json::to_vec(layers)?)?;
        Ok(Lease { _file: file })
    };
    take().map_err(ImageError::io("write to", &folder))
}

/// Returns the layers that pulls in flight count on, of whatever process.
pub(super) fn held(root: &Path, _lock: &names::Lock) -> Result<HashSet<String>, ImageError> {
    let folder = root.join("leases");
    let mut held = HashSet::new();
    for entry in std::fs::read_dir(&folder).map_err(ImageError::io("list", &folder))? {
        let path = entry.map_err(ImageError::io("list", &folder))?.path();
        let file = match File::open(&path) {
            Ok(file) => file,
            // Its pull has just ended.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => return Err(ImageError::io("open", &path)(error)),
        };
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => held.extend(record::read_json::<Vec<String>>(&path)?.unwrap_or_default()),
            Err(error) => return Err(ImageError::io("lock", &path)(error.into())),
            Ok(()) => match std::fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                    return Err(ImageError::io("remove", &path)(error));
                }
                _ => {}
            },
        }
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_lease_holds_its_layers_until_it_is_dropped_and_a_crashs_counts_for_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path();
        std::fs::create_dir(root.join("leases")).unwrap();
        let lock = names::lock(root).await.unwrap();
        std::fs::write(root.join("leases/pull-crashed.json"), r#"["sha256:c"]"#).unwrap();
        let one = take(root, &["sha256:a".to_owned()], &lock).unwrap();
        let two = take(root, &["sha256:a".to_owned(), "sha256:b".to_owned()], &lock).unwrap();
        let held = |lock| {
            super::held(root, lock)
                .unwrap()
                .into_iter()
                .collect::<std::collections::BTreeSet<_>>()
        };
        assert_eq!(held(&lock), ["sha256:a".to_owned(), "sha256:b".to_owned()].into());
        drop(two);
        assert_eq!(held(&lock), ["sha256:a".to_owned()].into());
        drop(one);
        assert!(held(&lock).is_empty());
        assert_eq!(std::fs::read_dir(root.join("leases")).unwrap().count(), 0);
    }
}
