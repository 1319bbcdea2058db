//! `NAME.crt` and `NAME.key`, each written whole and readable for its owner only.

use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use super::{Identity, PkiError};

fn fail(operation: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> PkiError {
    let path = path.to_owned();
    move |source| PkiError::File {
        operation,
        path,
        source,
    }
}

fn paths(dir: &Path, name: &str) -> (PathBuf, PathBuf) {
    (dir.join(format!("{name}.crt")), dir.join(format!("{name}.key")))
}

/// Makes the directory, for its owner only.
pub(super) fn create_dir(dir: &Path) -> Result<(), PkiError> {
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(fail("create", dir))?;
    fs::set_permissions(dir, Permissions::from_mode(0o700)).map_err(fail("protect", dir))
}

/// Reads a pair; `None` when one of the two is not there.
pub(super) fn read(dir: &Path, name: &str) -> Result<Option<Identity>, PkiError> {
    let (certificate, key) = paths(dir, name);
    Ok(match (read_file(&certificate)?, read_file(&key)?) {
        (Some(certificate), Some(key)) => Some(Identity { certificate, key }),
        _ => None,
    })
}

/// Whether any file of a pair is there.
pub(super) fn any(dir: &Path, name: &str) -> bool {
    let (certificate, key) = paths(dir, name);
    certificate.exists() || key.exists()
}

/// Writes a pair. A crash in between leaves a key that is not the certificate's, which is noticed and made good.
pub(super) fn write(dir: &Path, name: &str, identity: &Identity) -> Result<(), PkiError> {
    let (certificate, key) = paths(dir, name);
    write_file(&key, &identity.key).map_err(fail("write", &key))?;
    write_file(&certificate, &identity.certificate).map_err(fail("write", &certificate))
}

/// Reads a text of the directory; `None` when it is not there.
pub(super) fn read_text(dir: &Path, name: &str) -> Result<Option<String>, PkiError> {
    read_file(&dir.join(name))
}

/// Writes a text of the directory.
pub(super) fn write_text(dir: &Path, name: &str, text: &str) -> Result<(), PkiError> {
    let path = dir.join(name);
    write_file(&path, text).map_err(fail("write", &path))
}

/// Lets a pair take the place of another. It is taken back up where it was cut off: the key goes first, so that a certificate
/// without a key is what is left of a pair on its way.
pub(super) fn replace(dir: &Path, name: &str, by: &str) -> Result<(), PkiError> {
    let ((certificate, key), (new_certificate, new_key)) = (paths(dir, name), paths(dir, by));
    if new_key.exists() {
        fs::rename(&new_key, &key).map_err(fail("replace", &key))?;
    }
    fs::rename(&new_certificate, &certificate).map_err(fail("replace", &certificate))
}

/// Whether a pair was on its way to another's place when that was cut off.
pub(super) fn is_on_its_way(dir: &Path, name: &str) -> bool {
    let (certificate, key) = paths(dir, name);
    certificate.exists() && !key.exists()
}

fn read_file(path: &Path) -> Result<Option<String>, PkiError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(fail("read", path)(error)),
    }
}

fn write_file(path: &Path, text: &str) -> std::io::Result<()> {
    let temporary = path.with_extension("new");
    let mut file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    // The mode above counts for new files only.
    file.set_permissions(Permissions::from_mode(0o600))?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&temporary, path)
}
