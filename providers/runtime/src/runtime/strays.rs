//! Finding shims by what they have, not by what is recorded of them.
//!
//! A recorded number may be another process's by now, and a shim may be there without any record. What no other process has is the mount of its
//! sandbox's /dev/shm: it is in the shim's own mount namespace, below the sandbox's directory.

use std::fs;
use std::path::Path;

use super::{Inner, resolve};

impl Inner {
    /// Returns every process in the shims' group with its sandbox's id. Besides shims these are processes of a sandbox that hold its PID
    /// namespace or are on their way into a container. One whose sandbox's directory was removed has no id.
    fn shims(&self) -> Vec<(i32, Option<String>)> {
        // The kernel tells where things really are.
        let sandboxes = fs::canonicalize(self.config.data_dir.join("sandboxes")).ok();
        let group = self.hierarchies.shims(&self.config.instance);
        let found = group.processes().into_iter().filter_map(|pid| {
            // It may end at any moment, and then has no mounts any more.
            let mounts = fs::read_to_string(format!("/proc/{pid}/mountinfo")).ok()?;
            let id = sandboxes
                .as_ref()
                .and_then(|sandboxes| mounts.lines().find_map(|line| sandbox_of(line, sandboxes)));
            (!mounts.is_empty()).then_some((pid, id))
        });
        found.collect()
    }

    /// Kills the shims of a sandbox; returns whether there was none.
    pub(super) fn kill_shims(&self, id: &str) -> bool {
        let mut none = true;
        for (pid, _) in self.shims().into_iter().filter(|(_, of)| of.as_deref() == Some(id)) {
            none = false;
            crate::sys::process::kill(pid);
        }
        none
    }

    /// Kills shims of which nothing is known once every sandbox that can be found has been adopted: their sockets and records are gone.
    pub(super) fn kill_strays(&self) {
        for (pid, id) in self.shims() {
            let known = {
                let sandboxes = self.sandboxes.lock();
                let by_id = |id: &String| sandboxes.live.contains_key(id) || sandboxes.unreached.contains_key(id);
                let mut recorded = sandboxes.unreached.values().flatten();
                id.as_ref().is_some_and(by_id)
                    || sandboxes.live.values().any(|link| link.current().pid == pid)
                    || recorded.any(|state| state.pid == pid)
            };
            if !known {
                tracing::warn!(pid, sandbox = id, "killing a shim that belongs to no sandbox");
                crate::sys::process::kill(pid);
            }
        }
    }
}

/// Returns the sandbox whose /dev/shm a line of a mountinfo shows.
fn sandbox_of(line: &str, sandboxes: &Path) -> Option<String> {
    let point = unescape(line.split(' ').nth(4)?);
    let id = Path::new(&point).strip_prefix(sandboxes).ok()?.to_str()?;
    let id = id.strip_suffix("/shm")?;
    resolve::is_name(id).then(|| id.to_owned())
}

/// Undoes how the kernel writes blanks and backslashes: `\` and three octal digits.
fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, after)) = rest.split_first() {
        let escaped = after.get(..3).filter(|_| first == b'\\');
        let code = escaped.and_then(|digits| u8::from_str_radix(str::from_utf8(digits).ok()?, 8).ok());
        rest = match code {
            Some(code) => {
                bytes.push(code);
                &after[3..]
            }
            None => {
                bytes.push(first);
                after
            }
        };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sandbox_is_known_by_its_mount_also_where_blanks_are_in_the_path() {
        let line = r"36 35 98:0 / /srv/my\040data/sandboxes/a-1/shm rw,noatime master:1 - tmpfs tmpfs rw";
        let of = |folder: &str| sandbox_of(line, Path::new(folder));
        assert_eq!(of("/srv/my data/sandboxes").as_deref(), Some("a-1"));
        assert_eq!(of("/srv/my data"), None);
        assert_eq!(of("/srv/other/sandboxes"), None);
        let rootfs = "36 35 98:0 / /srv/sandboxes/a/containers/b/shm rw - tmpfs tmpfs rw";
        assert_eq!(sandbox_of(rootfs, Path::new("/srv/sandboxes")), None);
    }
}
