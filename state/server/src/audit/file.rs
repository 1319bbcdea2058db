//! The file that events are written to, and its predecessors.
//!
//! A line is written whole or not at all: what was written of one when the disk was full is taken back, so that every line
//! of the file is an event.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The newest file.
const NAME: &str = "audit.log";

/// The audit log cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot {operation} {path}")]
pub struct AuditFileError {
    /// What was being done, as a verb.
    operation: &'static str,
    /// The file or directory.
    path: PathBuf,
    /// The cause.
    #[source]
    source: io::Error,
}

/// A file that is put aside when it is large enough.
pub(super) struct RotatedFile {
    directory: PathBuf,
    largest: u64,
    older: usize,
    /// `None` when it could not be opened again after it was put aside.
    file: Option<File>,
    size: u64,
}

impl RotatedFile {
    /// Opens the newest file, or makes it, for its owner only.
    pub(super) fn open(directory: &Path, largest: u64, older: usize) -> Result<RotatedFile, AuditFileError> {
        let fail = |operation, path: &Path| {
            let path = path.to_owned();
            move |source| AuditFileError {
                operation,
                path,
                source,
            }
        };
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(directory)
            .map_err(fail("create", directory))?;
        fs::set_permissions(directory, Permissions::from_mode(0o700)).map_err(fail("protect", directory))?;
        let mut rotated = RotatedFile {
            directory: directory.to_owned(),
            largest: largest.max(1),
            older,
            file: None,
            size: 0,
        };
        let path = rotated.path(0);
        rotated.reopen().map_err(fail("open", &path))?;
        Ok(rotated)
    }

    /// Writes lines as a whole, into a new file when the present one has grown large enough.
    pub(super) fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let length = lines.len() as u64;
        if self.size > 0 && self.size + length > self.largest {
            self.rotate()?;
        }
        if self.file.is_none() {
            self.reopen()?;
        }
        let Some(file) = &mut self.file else {
            return Err(io::Error::other("the file is not open"));
        };
        match file.write_all(lines) {
            Ok(()) => {
                self.size += length;
                Ok(())
            }
            Err(error) => {
                // Where even that fails, the file is put aside as it is: no line may be half of two.
                if file.set_len(self.size).is_err() {
                    self.size = self.largest;
                }
                Err(error)
            }
        }
    }

    fn path(&self, number: usize) -> PathBuf {
        match number {
            0 => self.directory.join(NAME),
            number => self.directory.join(format!("{NAME}.{number}")),
        }
    }

    fn reopen(&mut self) -> io::Result<()> {
        let file = OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(self.path(0))?;
        file.set_permissions(Permissions::from_mode(0o600))?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Moves every file one place on; the oldest goes.
    fn rotate(&mut self) -> io::Result<()> {
        self.file = None;
        if self.older == 0 {
            match fs::remove_file(self.path(0)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => return self.reopen(),
            }
        }
        for number in (0..self.older).rev() {
            match fs::rename(self.path(number), self.path(number + 1)) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.reopen()
    }
}
