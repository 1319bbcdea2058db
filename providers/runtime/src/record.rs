//! The state of a sandbox on disk, written by its shim and read when the shim is gone.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use crate::spec::SandboxState;

/// Replaces the record in one step. It is not synced: after a power failure no container of it is left either.
pub(crate) fn write(path: &Path, state: &SandboxState) -> io::Result<()> {
    let new = path.with_extension("json.new");
    let mut file = OpenOptions::new()
        .create(true)
        .write(true)
        .truncate(true)
        .mode(0o600)
        .open(&new)?;
    file.write_all(&serde_json::to_vec(state)?)?;
    drop(file);
    fs::rename(&new, path)
}

/// Reads a record; `None` when there is none.
pub(crate) fn read(path: &Path) -> io::Result<Option<SandboxState>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(serde_json::from_slice(&bytes)?)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}
