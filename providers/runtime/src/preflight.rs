//! What this host must have for containers to run.

use std::ffi::CStr;
use std::path::Path;

use crate::cgroup::Hierarchies;
use crate::error::Missing;
use crate::sys;

/// The oldest kernel that has every call used here (mount_setattr, and before it openat2, pidfd, clone3).
const OLDEST_KERNEL: (u32, u32) = (5, 12);

/// Namespaces that every pod gets.
const NAMESPACES: [&str; 6] = ["net", "ipc", "uts", "mnt", "pid", "cgroup"];

/// Returns everything that the host lacks, with advice; empty when all is well.
pub fn preflight() -> Vec<Missing> {
    let mut missing = Vec::new();
    let mut lacks = |what: &str, advice: &str, fatal: bool| {
        missing.push(Missing {
            what: what.to_owned(),
            advice: advice.to_owned(),
            fatal,
        });
    };
    if !rustix::process::geteuid().is_root() {
        lacks("root's rights", "run it as root, for example with sudo", true);
    }
    let system = rustix::system::uname();
    if release(system.release()).is_some_and(|release| release < OLDEST_KERNEL) {
        let what = format!("a kernel of at least {}.{}", OLDEST_KERNEL.0, OLDEST_KERNEL.1);
        lacks(
            &what,
            "upgrade the kernel (Debian 12, Ubuntu 22.04 and later have it)",
            true,
        );
    }
    for name in NAMESPACES {
        if !Path::new("/proc/self/ns").join(name).exists() {
            lacks(
                &format!("{name} namespaces"),
                "use a kernel that is built with them, as every distribution's is",
                true,
            );
        }
    }
    let filesystems = std::fs::read_to_string("/proc/filesystems").unwrap_or_default();
    if !filesystems
        .lines()
        .any(|line| line.trim_start_matches("nodev").trim() == "overlay")
        && !is_module("overlay")
    {
        lacks("the overlay file system", "load it: modprobe overlay", true);
    }
    if !sys::seccomp::available() {
        lacks("seccomp filters", "use a kernel with CONFIG_SECCOMP_FILTER", true);
    }
    match Hierarchies::detect() {
        Err(_) => lacks(
            "control groups",
            "mount them: mount -t cgroup2 none /sys/fs/cgroup",
            true,
        ),
        Ok(hierarchies) => {
            for controller in ["cpu", "memory", "pids"] {
                if !hierarchies.has(controller) {
                    lacks(
                        &format!("the {controller} cgroup controller"),
                        "without it pods with such a limit are refused; enable it at boot (memory: cgroup_enable=memory)",
                        false,
                    );
                }
            }
        }
    }
    missing
}

/// Reads `6.1.0-18-amd64`.
fn release(text: &CStr) -> Option<(u32, u32)> {
    let text = text.to_str().ok()?;
    let mut numbers = text.split(|character: char| !character.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Whether the kernel would load this module when it is asked to mount such a file system.
fn is_module(name: &str) -> bool {
    let system = rustix::system::uname();
    let release = system.release().to_string_lossy();
    let list = Path::new("/lib/modules").join(&*release).join("modules.dep");
    let wanted = format!("/{name}.ko");
    std::fs::read_to_string(list).is_ok_and(|text| text.lines().any(|line| line.contains(&wanted)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernel_releases_are_read() {
        assert_eq!(release(c"6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(release(c"5.15.0"), Some((5, 15)));
        assert_eq!(release(c"odd"), None);
    }
}
