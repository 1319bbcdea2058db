//! Kernel parameters below `/proc/sys/net`.
//!
//! `net.ipv4.ip_forward` is switched on and stays on when an instance is removed: others on the host may have
//! come to rely on it. Parameters of our own links go with the links.

use std::fs;
use std::io;
use std::path::Path;

use crate::NetError;

/// Sets a parameter (a path below `/proc/sys`) unless it has that value.
pub(crate) fn set(parameter: &str, value: &str) -> Result<(), NetError> {
    let path = Path::new("/proc/sys").join(parameter);
    if fs::read_to_string(&path).is_ok_and(|now| now.trim() == value) {
        return Ok(());
    }
    fs::write(&path, value).map_err(|source| NetError::Sysctl {
        parameter: parameter.to_owned(),
        value: value.to_owned(),
        source,
    })
}

/// Sets a parameter unless it has that value or is not there (its link is gone); returns whether it was changed.
pub(crate) fn restore(parameter: &str, value: &str) -> Result<bool, NetError> {
    let path = Path::new("/proc/sys").join(parameter);
    match fs::read_to_string(&path) {
        Ok(now) if now.trim() != value => set(parameter, value).map(|()| true),
        Ok(_) => Ok(false),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(NetError::Sysctl {
            parameter: parameter.to_owned(),
            value: value.to_owned(),
            source,
        }),
    }
}

/// Sets a parameter if the kernel has it (IPv6 can be missing).
pub(crate) fn set_if_there(parameter: &str, value: &str) -> Result<(), NetError> {
    match Path::new("/proc/sys").join(parameter).exists() {
        true => set(parameter, value),
        false => Ok(()),
    }
}
