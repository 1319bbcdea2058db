//! Finding and executing the program.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::InitError;
use crate::sys;

/// What is searched when neither the image nor the container sets PATH.
pub(crate) const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Executes `args` in place of this process; returns only why it could not.
pub(super) fn execute(args: &[String], env: &[(String, String)]) -> InitError {
    let Some(name) = args.first().filter(|name| !name.is_empty()) else {
        return InitError::start(127, "no command specified".to_owned());
    };
    let search = env
        .iter()
        .rev()
        .find(|(key, _)| key == "PATH")
        .map_or(DEFAULT_PATH, |(_, value)| value.as_str());
    let path = match find(name, search) {
        Ok(path) => path,
        Err(error) => return error,
    };
    let c_string = |text: &str| CString::new(text);
    let c_args: Result<Vec<CString>, _> = args.iter().map(|arg| c_string(arg)).collect();
    let c_env: Result<Vec<CString>, _> = env
        .iter()
        .map(|(key, value)| c_string(&format!("{key}={value}")))
        .collect();
    let (Ok(c_path), Ok(c_args), Ok(c_env)) = (c_string(&path.to_string_lossy()), c_args, c_env) else {
        return InitError::start(
            126,
            format!("exec: {name:?}: an argument or variable contains a zero byte"),
        );
    };
    let error = sys::process::execute(&c_path, &c_args, &c_env);
    let code = if error.kind() == io::ErrorKind::NotFound {
        127
    } else {
        126
    };
    InitError::start(code, format!("exec {}: {}", path.display(), words(&error)))
}

fn find(name: &str, search: &str) -> Result<PathBuf, InitError> {
    if name.contains('/') {
        let path = PathBuf::from(name);
        return match fs::metadata(&path) {
            Ok(found) if found.is_dir() => Err(InitError::start(126, format!("exec: {name:?}: is a directory"))),
            Ok(found) if found.permissions().mode() & 0o111 == 0 => {
                Err(InitError::start(126, format!("exec: {name:?}: permission denied")))
            }
            Ok(_) => Ok(path),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(InitError::start(
                127,
                format!("exec: {name:?}: stat {name}: no such file or directory"),
            )),
            Err(error) => Err(InitError::start(126, format!("exec: {name:?}: {}", words(&error)))),
        };
    }
    let mut refused = false;
    for directory in search.split(':') {
        let directory = if directory.is_empty() {
            Path::new(".")
        } else {
            Path::new(directory)
        };
        let path = directory.join(name);
        if let Ok(found) = fs::metadata(&path)
            && found.is_file()
        {
            if found.permissions().mode() & 0o111 != 0 {
                return Ok(path);
            }
            refused = true;
        }
    }
    if refused {
        return Err(InitError::start(126, format!("exec: {name:?}: permission denied")));
    }
    Err(InitError::start(
        127,
        format!("exec: {name:?}: executable file not found in $PATH"),
    ))
}

/// The kernel's words for an error, as other runtimes print them.
fn words(error: &io::Error) -> String {
    match error.raw_os_error() {
        Some(libc::ENOENT) => "no such file or directory".to_owned(),
        Some(libc::EACCES) => "permission denied".to_owned(),
        Some(libc::ENOEXEC) => "exec format error".to_owned(),
        _ => error.to_string(),
    }
}
