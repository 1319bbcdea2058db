//! Capabilities, by name and as what a container's processes hold.

use std::io;

use rustix::thread::{CapabilitySet, CapabilitySets};

use crate::spec::Security;

/// Every capability in the order of its number (linux/capability.h).
const NAMES: [&str; 41] = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
];

/// What ordinary images expect: containerd's default set.
const DEFAULT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL)
    .union(CapabilitySet::AUDIT_WRITE);

/// Returns the set that a container may hold. An unknown name is returned as the error.
pub(crate) fn allowed(security: &Security) -> Result<CapabilitySet, String> {
    if security.privileged {
        return Ok(all());
    }
    let is_all = |name: &String| name.eq_ignore_ascii_case("ALL");
    let mut set = DEFAULT;
    if security.add_capabilities.iter().any(is_all) {
        set = all();
    }
    // Dropping all and adding some back is how Kubernetes' restricted profile is written: what is added by name wins over ALL.
    if security.drop_capabilities.iter().any(is_all) {
        set = CapabilitySet::empty();
    }
    for name in security.add_capabilities.iter().filter(|name| !is_all(name)) {
        set |= named(name)?;
    }
    for name in security.drop_capabilities.iter().filter(|name| !is_all(name)) {
        set -= named(name)?;
    }
    Ok(set)
}

fn all() -> CapabilitySet {
    CapabilitySet::from_bits_retain((1 << NAMES.len()) - 1)
}

/// Returns whether a capability, by name, is in a set.
pub(super) fn is_among(name: &str, set: CapabilitySet) -> bool {
    named(name).is_ok_and(|one| set.contains(one))
}

fn named(name: &str) -> Result<CapabilitySet, String> {
    let upper = name.to_ascii_uppercase();
    let short = upper.strip_prefix("CAP_").unwrap_or(&upper);
    let number = NAMES
        .iter()
        .position(|known| *known == short)
        .ok_or_else(|| name.to_owned())?;
    Ok(CapabilitySet::from_bits_retain(1 << number))
}

/// Gives up every right of root but these, for good and for all that comes of this process.
pub(crate) fn keep_only(rights: CapabilitySet) -> io::Result<()> {
    bound(rights)?;
    hold(rights, 0)?;
    Ok(rustix::thread::set_no_new_privs(true)?)
}

/// Limits what this process and all that it executes can ever hold.
pub(super) fn bound(allowed: CapabilitySet) -> io::Result<()> {
    for number in 0..64 {
        let one = CapabilitySet::from_bits_retain(1 << number);
        match rustix::thread::capability_is_in_bounding_set(one) {
            // A number that this kernel does not know.
            Err(rustix::io::Errno::INVAL) => break,
            Ok(true) if !allowed.contains(one) => rustix::thread::remove_capability_from_bounding_set(one)?,
            Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Sets what this process holds after its user was set: the allowed ones for root, none for others; never any that is inherited.
pub(super) fn hold(allowed: CapabilitySet, uid: u32) -> io::Result<()> {
    let own = rustix::thread::capabilities(None)?;
    let permitted = if uid == 0 {
        own.permitted & allowed
    } else {
        CapabilitySet::empty()
    };
    rustix::thread::clear_ambient_capability_set()?;
    rustix::thread::set_capabilities(
        None,
        CapabilitySets {
            effective: permitted,
            permitted,
            inheritable: CapabilitySet::empty(),
        },
    )?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn security(add: &[&str], drop: &[&str]) -> Security {
        Security {
            add_capabilities: add.iter().map(|&name| name.to_owned()).collect(),
            drop_capabilities: drop.iter().map(|&name| name.to_owned()).collect(),
            ..Security::default()
        }
    }

    #[test]
    fn the_default_set_has_no_administration() {
        let set = allowed(&Security::default()).unwrap();
        assert!(set.contains(CapabilitySet::CHOWN) && !set.contains(CapabilitySet::SYS_ADMIN));
        assert_eq!(set.bits(), 0xa804_25fb, "the mask that containerd gives");
    }

    #[test]
    fn dropping_all_and_adding_one_leaves_that_one() {
        let set = allowed(&security(&["NET_BIND_SERVICE"], &["ALL"])).unwrap();
        assert_eq!(set, CapabilitySet::NET_BIND_SERVICE);
    }

    #[test]
    fn names_may_carry_the_prefix_and_unknown_ones_are_told() {
        assert!(
            allowed(&security(&["CAP_NET_ADMIN"], &[]))
                .unwrap()
                .contains(CapabilitySet::NET_ADMIN)
        );
        assert_eq!(allowed(&security(&["FLY"], &[])).unwrap_err(), "FLY");
    }
}
