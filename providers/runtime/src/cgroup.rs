//! Control groups on v1, hybrid and v2 hosts.
//!
//! Per controller the hierarchy is chosen where this host has it: a v1 mount below this process's own group
//! (unless systemd made that, which would take the group down with the daemon's unit), or the root of the
//! unified mount. Layout below it: `setpoint-<instance>/<sandbox>/<container>`; shims are in
//! `setpoint-<instance>/_shims`, because a group with children must not hold processes on v2 and because a pod's
//! limit must not kill its shim.

mod counters;
mod detect;
mod limits;
mod usage;

use std::collections::BTreeSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use rustix::fs::{Mode, OFlags};
use serde::{Deserialize, Serialize};

pub use counters::Counter;
pub(crate) use counters::counters;
pub(crate) use detect::{remains, traces};
pub(crate) use usage::usage;

/// The group of all shims of an instance.
const SHIMS: &str = "_shims";

/// One mounted hierarchy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hierarchy {
    /// Where our groups go, a directory.
    pub(crate) base: PathBuf,
    /// Its controllers; empty for systemd's named one.
    pub(crate) controllers: Vec<String>,
    /// Whether it is the unified one.
    pub(crate) unified: bool,
}

impl Hierarchy {
    fn has(&self, controller: &str) -> bool {
        self.controllers.iter().any(|own| own == controller)
    }
}

/// What this host has.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hierarchies {
    pub(crate) list: Vec<Hierarchy>,
}

/// One group in every hierarchy that has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    /// The hierarchy and the group's directory in it.
    parts: Vec<(Hierarchy, PathBuf)>,
}

impl Hierarchies {
    /// Finds out what this host has.
    pub(crate) fn detect() -> io::Result<Self> {
        detect::detect(
            &fs::read_to_string("/proc/self/cgroup")?,
            &fs::read_to_string("/proc/self/mountinfo")?,
            |directory| {
                let text = fs::read_to_string(directory.join("cgroup.controllers")).unwrap_or_default();
                text.split_whitespace().map(str::to_owned).collect()
            },
        )
    }

    /// Returns whether every hierarchy is still where it was.
    pub(crate) fn is_present(&self) -> bool {
        self.list.iter().all(|hierarchy| hierarchy.base.is_dir())
    }

    /// Returns whether limits of this controller (`cpu`, `memory`, `pids`) can be set.
    pub(crate) fn has(&self, controller: &str) -> bool {
        self.list.iter().any(|hierarchy| hierarchy.has(controller))
    }

    fn group(&self, path: &Path, with_named: bool) -> Group {
        let parts = self
            .list
            .iter()
            .filter(|hierarchy| with_named || hierarchy.unified || !hierarchy.controllers.is_empty())
            .map(|hierarchy| (hierarchy.clone(), hierarchy.base.join(path)))
            .collect();
        Group { parts }
    }

    /// Returns the group of an instance's shims.
    pub(crate) fn shims(&self, instance: &str) -> Group {
        self.group(&root(instance).join(SHIMS), true)
    }

    /// Returns the group of a sandbox.
    pub(crate) fn sandbox(&self, instance: &str, sandbox: &str) -> Group {
        self.group(&root(instance).join(sandbox), false)
    }

    /// Returns the group of a container.
    pub(crate) fn container(&self, instance: &str, sandbox: &str, container: &str) -> Group {
        self.group(&root(instance).join(sandbox).join(container), false)
    }
}

fn root(instance: &str) -> PathBuf {
    PathBuf::from(format!("setpoint-{instance}"))
}

fn write(path: &Path, value: &str) -> io::Result<()> {
    OpenOptions::new().write(true).open(path)?.write_all(value.as_bytes())
}

impl Group {
    /// Makes the group and, on the way, its parents.
    pub(crate) fn create(&self) -> io::Result<()> {
        for (hierarchy, directory) in &self.parts {
            if directory.is_dir() {
                continue;
            }
            fs::create_dir_all(directory)?;
            if hierarchy.unified {
                delegate(hierarchy, directory);
            }
        }
        Ok(())
    }

    /// Moves the calling, single-threaded process into the group.
    ///
    /// On v1 a thread that moves itself by `tasks` needs no lock over all processes, whose grace period takes milliseconds.
    pub(crate) fn enter(&self, unified_too: bool) -> io::Result<()> {
        for (hierarchy, directory) in &self.parts {
            if hierarchy.unified {
                if unified_too {
                    write(&directory.join("cgroup.procs"), "0")?;
                }
            } else {
                write(&directory.join("tasks"), "0")?;
            }
        }
        Ok(())
    }

    /// Opens the directory in the unified hierarchy, for a child to start in.
    pub(crate) fn open_unified(&self) -> Option<OwnedFd> {
        let (_, directory) = self.parts.iter().find(|(hierarchy, _)| hierarchy.unified)?;
        rustix::fs::open(
            directory,
            OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            Mode::empty(),
        )
        .ok()
    }

    /// Sends SIGKILL to every process in the group and in groups below it.
    pub(crate) fn kill(&self) {
        for (hierarchy, directory) in &self.parts {
            if hierarchy.unified && write(&directory.join("cgroup.kill"), "1").is_ok() {
                continue;
            }
            for pid in processes(directory) {
                crate::sys::process::kill(pid);
            }
        }
    }

    /// Returns the processes that are in the group or below it in every hierarchy: containers stay among the shims in systemd's named one.
    pub(crate) fn processes(&self) -> BTreeSet<i32> {
        let parts = self.parts.iter();
        let found = parts.map(|(_, directory)| processes(directory).into_iter().collect::<BTreeSet<i32>>());
        found.reduce(|all, part| &all & &part).unwrap_or_default()
    }

    /// Returns whether no live process is in the group or below it.
    pub(crate) fn is_empty(&self) -> bool {
        self.parts.iter().all(|(_, directory)| processes(directory).is_empty())
    }

    /// Removes the group and groups below it; true once nothing is left.
    pub(crate) fn remove(&self) -> bool {
        // Every part is tried, also after one that is not empty yet.
        self.parts
            .iter()
            .filter(|(_, directory)| !remove_tree(directory))
            .count()
            == 0
    }

    /// Returns directories to show inside a container: the controllers' names and the group's directory.
    pub(crate) fn views(&self) -> Vec<(Option<String>, PathBuf)> {
        if self
            .parts
            .iter()
            .any(|(hierarchy, _)| hierarchy.unified && hierarchy.has("memory"))
        {
            let unified = self.parts.iter().filter(|(hierarchy, _)| hierarchy.unified);
            return unified.map(|(_, directory)| (None, directory.clone())).collect();
        }
        let v1 = self.parts.iter().filter(|(hierarchy, _)| !hierarchy.unified);
        v1.map(|(hierarchy, directory)| (Some(hierarchy.controllers.join(",")), directory.clone()))
            .collect()
    }
}

/// Lets groups below every ancestor of `directory` have the controllers. What a host does not delegate is reported by the preflight
/// and by the limit that then cannot be set.
fn delegate(hierarchy: &Hierarchy, directory: &Path) {
    let mut ancestors: Vec<&Path> = directory
        .ancestors()
        .skip(1)
        .take_while(|path| path.starts_with(&hierarchy.base))
        .collect();
    ancestors.reverse();
    for ancestor in ancestors {
        for controller in ["cpu", "memory", "pids"] {
            if hierarchy.has(controller)
                && let Err(error) = write(&ancestor.join("cgroup.subtree_control"), &format!("+{controller}"))
            {
                tracing::debug!(%error, group = %ancestor.display(), controller, "controller is not delegated");
            }
        }
    }
}

fn processes(directory: &Path) -> Vec<i32> {
    let mut found: Vec<i32> = fs::read_to_string(directory.join("cgroup.procs"))
        .unwrap_or_default()
        .lines()
        .filter_map(|line| line.parse().ok())
        .collect();
    for child in children(directory) {
        found.extend(processes(&child));
    }
    found
}

fn children(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(directory) else {
        return Vec::new();
    };
    entries
        .filter_map(Result::ok)
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect()
}

/// Removes a group's directory and all below it; true once it is gone.
pub(crate) fn remove_tree(directory: &Path) -> bool {
    for child in children(directory) {
        remove_tree(&child);
    }
    match fs::remove_dir(directory) {
        Ok(()) => true,
        Err(error) => error.kind() == io::ErrorKind::NotFound,
    }
}

/// Kills every process in a group's directory and below.
pub(crate) fn kill_tree(directory: &Path) {
    for pid in processes(directory) {
        crate::sys::process::kill(pid);
    }
}
