//! Kernel parameters below `/proc/sys/net`.
//!
//! Forwarding is switched on and stays on when an instance is removed: others on the host may have
//! come to rely on it. Parameters of our own links go with the links.
//!
//! A host that forwards IPv6 no longer listens to router advertisements, from which it may have its own address and its way out,
//! unless its links say that it shall all the same (`accept_ra` 2): they are told so first.

use std::fs;
use std::io;
use std::path::Path;

use crate::{Family, NetError};

/// Says whether this host has IPv6 switched on.
pub fn has_ipv6() -> bool {
    is("net/ipv6/conf/all/disable_ipv6", "0")
}

/// Says whether a parameter is there and has that value.
pub(crate) fn is(parameter: &str, value: &str) -> bool {
    fs::read_to_string(Path::new("/proc/sys").join(parameter)).is_ok_and(|now| now.trim() == value)
}

/// Returns the parameter that says whether packets of a family are forwarded.
pub(crate) fn forwarding(family: Family) -> &'static str {
    match family {
        Family::V4 => "net/ipv4/ip_forward",
        Family::V6 => "net/ipv6/conf/all/forwarding",
    }
}

/// Switches forwarding on; returns whether it was off.
pub(crate) fn forward(family: Family) -> Result<bool, NetError> {
    if is(forwarding(family), "1") {
        return Ok(false);
    }
    if family == Family::V6 {
        keep_router_advertisements()?;
    }
    set(forwarding(family), "1").map(|()| true)
}

/// Lets the links that listen to router advertisements go on with it when the host forwards.
fn keep_router_advertisements() -> Result<(), NetError> {
    const LINKS: &str = "net/ipv6/conf";
    let unreadable = |source| NetError::Sysctl {
        parameter: format!("{LINKS}/*/accept_ra"),
        value: "2".to_owned(),
        source,
    };
    for link in fs::read_dir(Path::new("/proc/sys").join(LINKS)).map_err(unreadable)? {
        let link = link.map_err(unreadable)?.file_name();
        let link = link.to_string_lossy();
        // Those of links that come later would let anybody on them change the host's routes.
        if matches!(&*link, "all" | "default" | "lo") {
            continue;
        }
        let has = |name: &str, value: &str| is(&format!("{LINKS}/{link}/{name}"), value);
        if has("accept_ra", "1") && has("forwarding", "0") {
            restore(&format!("{LINKS}/{link}/accept_ra"), "2")?;
        }
    }
    Ok(())
}

/// Sets a parameter (a path below `/proc/sys`) unless it has that value.
pub(crate) fn set(parameter: &str, value: &str) -> Result<(), NetError> {
    let path = Path::new("/proc/sys").join(parameter);
    if is(parameter, value) {
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
