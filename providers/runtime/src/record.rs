//! The state of a sandbox on disk, written by its shim and read when the shim is gone.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use serde::de::DeserializeOwned;

/// Replaces the record; a reader sees the old or the new one. It is not synced: after a power failure no container of it is left either.
///
/// The old one goes before the new one takes its name, because a file system that sees a rename replace a file writes the data out at once, and a
/// shim would wait for the disk. In the moment between, [`read`] finds the new one under its first name.
pub(crate) fn write<T: Serialize>(path: &Path, state: &T) -> io::Result<()> {
    let new = unnamed(path);
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(&serde_json::to_vec(state)?)?;
    drop(file);
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::rename(&new, path)
}

fn unnamed(path: &Path) -> PathBuf {
    path.with_extension("json.new")
}

/// Reads a record; `None` when there is none.
pub(crate) fn read<T: DeserializeOwned>(path: &Path) -> io::Result<Option<T>> {
    for path in [path, &unnamed(path)] {
        match fs::read(path) {
            Ok(bytes) => return Ok(Some(serde_json::from_slice(&bytes)?)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::SandboxState;

    fn state(pid: i32) -> SandboxState {
        SandboxState {
            spec: crate::spec::SandboxSpec::default(),
            pid,
            containers: Vec::new(),
        }
    }

    #[test]
    fn a_writer_that_dies_before_the_last_step_leaves_a_readable_record() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("state.json");
        assert_eq!(read::<SandboxState>(&path).unwrap(), None);
        write(&path, &state(1)).unwrap();
        write(&path, &state(2)).unwrap();
        assert_eq!(read(&path).unwrap(), Some(state(2)));
        fs::rename(&path, unnamed(&path)).unwrap();
        assert_eq!(read(&path).unwrap(), Some(state(2)));
    }
}
