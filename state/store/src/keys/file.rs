//! The key file: a line `ID BASE64` for each key, oldest first; `#` begins a comment.
//!
//! It is only ever replaced as a whole, so that a crash leaves the old or the new one. Who changes it holds a lock on its folder.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::{KEY_LEN, Key, KeyError};

/// The size of a key file, in bytes, beyond which it is none: more than a thousand keys.
const LARGEST: u64 = 64 << 10;

const HEADING: &str = "\
# The keys that Setpoint seals secrets with. Keep a copy in a safe place: without it, neither the database nor a backup can be read.
# A line is a key: its number, then its bytes. The last one is for new values, the others open what is older; remove none.
";

/// Returns the error of one step with a key file.
pub(super) fn failed(path: &Path, what: &'static str) -> impl FnOnce(std::io::Error) -> KeyError {
    move |source| KeyError::File {
        path: path.to_path_buf(),
        what,
        source,
    }
}

/// Reads the file, after a look at who else may.
pub(super) fn read(path: &Path) -> Result<String, KeyError> {
    let unusable = |what| KeyError::Unusable {
        path: path.to_path_buf(),
        what,
    };
    // Looked at before it is opened, because opening a pipe would wait for its other end.
    if !std::fs::metadata(path).map_err(failed(path, "read"))?.is_file() {
        return Err(unusable("is not a file"));
    }
    let file = File::open(path).map_err(failed(path, "read"))?;
    let mode = file.metadata().map_err(failed(path, "read"))?.permissions().mode() & 0o7777;
    if mode & !0o600 != 0 {
        return Err(KeyError::Permissions {
            path: path.to_path_buf(),
            mode,
        });
    }
    let mut bytes = Vec::new();
    file.take(LARGEST + 1)
        .read_to_end(&mut bytes)
        .map_err(failed(path, "read"))?;
    if bytes.len() as u64 > LARGEST {
        return Err(unusable("is larger than a key file can be (64 KiB)"));
    }
    String::from_utf8(bytes)
        .map_err(|_| unusable("is not a text file; put the key file back from where you keep a copy"))
}

/// Reads the text of a key file; `path` is for the errors.
pub(super) fn parse(path: &Path, text: &str) -> Result<Vec<Key>, KeyError> {
    let mut keys: Vec<Key> = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        // What the line holds is never repeated in an error: it may be a key.
        let wrong = |what: String| KeyError::Format {
            path: path.to_path_buf(),
            line: index + 1,
            what,
        };
        let damaged = || {
            wrong("not a line `ID KEY` (eight hexadecimal digits, 32 bytes in base64); put the key file back from where you keep a copy".to_string())
        };
        let (id, key) = line.split_once(char::is_whitespace).ok_or_else(damaged)?;
        let id = id.parse().map_err(|_| damaged())?;
        let key: [u8; KEY_LEN] = STANDARD
            .decode(key.trim())
            .ok()
            .and_then(|bytes| bytes.try_into().ok())
            .ok_or_else(damaged)?;
        if keys.iter().any(|other| other.id == id) {
            return Err(wrong(format!("key {id} is there already; remove one of the two lines")));
        }
        keys.push(Key::new(id, key));
    }
    if keys.is_empty() {
        return Err(KeyError::Unusable {
            path: path.to_path_buf(),
            what: "holds no key; put it back from where you keep a copy",
        });
    }
    Ok(keys)
}

/// Writes keys as a file holds them.
pub(super) fn text(keys: &[Arc<Key>]) -> String {
    keys.iter().fold(HEADING.to_string(), |text, key| text + &line(key))
}

/// Writes the file of a first key.
pub(super) fn first_text(key: &Key) -> String {
    HEADING.to_string() + &line(key)
}

fn line(key: &Key) -> String {
    format!("{} {}\n", key.id, STANDARD.encode(key.bytes))
}

/// Makes the file with `text`; one that somebody else has made in the meantime stays, and the answer is false.
pub(super) fn create(path: &Path, text: &str) -> Result<bool, KeyError> {
    let write = || -> std::io::Result<bool> {
        let made = match written(path, text)?.persist_noclobber(path) {
            Ok(_) => true,
            Err(error) if error.error.kind() == std::io::ErrorKind::AlreadyExists => false,
            Err(error) => return Err(error.error),
        };
        File::open(folder(path))?.sync_all()?;
        Ok(made)
    };
    write().map_err(failed(path, "make"))
}

/// Puts `text` in place of the file. The caller holds the lock.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), KeyError> {
    if text.len() as u64 > LARGEST {
        return Err(KeyError::Unusable {
            path: path.to_path_buf(),
            what: "is full: have everything sealed anew, then remove lines of keys that nothing is sealed with any more",
        });
    }
    let write = || -> std::io::Result<()> {
        // A key file that is a link stays one: what it names is replaced.
        let path = path.canonicalize()?;
        let owner = std::fs::metadata(&path)?;
        let file = written(&path, text)?;
        std::os::unix::fs::fchown(file.as_file(), Some(owner.uid()), Some(owner.gid()))?;
        file.persist(&path).map_err(|error| error.error)?;
        File::open(folder(&path))?.sync_all()
    };
    write().map_err(failed(path, "write"))
}

/// Writes a temporary file beside `path`, readable to its owner only from the start, durable but for its name.
fn written(path: &Path, text: &str) -> std::io::Result<tempfile::NamedTempFile> {
    let mut file = tempfile::Builder::new()
        .prefix(".store-key-")
        .permissions(std::fs::Permissions::from_mode(0o600))
        .tempfile_in(folder(path))?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    Ok(file)
}

fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Keeps other processes from changing the file while the answer is held. The folder is locked, because the file gets replaced.
pub(super) fn lock(path: &Path) -> Result<File, KeyError> {
    let file = File::open(folder(path)).map_err(failed(path, "lock"))?;
    file.try_lock()
        .map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => std::io::Error::new(
                std::io::ErrorKind::WouldBlock,
                "another process is changing it; try again when it is done",
            ),
            std::fs::TryLockError::Error(error) => error,
        })
        .map_err(failed(path, "lock"))?;
    Ok(file)
}
