//! The table of checks, and what they share: a look at a pod, and the words of the standard.

mod confinement;
mod host;
mod identity;
mod privileges;
mod profiles;
mod volumes;

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Level, Violation};
use crate::meta;

/// Looks at a pod; `None` when it is fine.
pub(super) type Check = fn(&Pod<'_>) -> Option<Violation>;

struct Row {
    id: &'static str,
    level: Level,
    /// The check by the minor version in which it began, ascending.
    versions: &'static [(u32, Check)],
    /// The check of the level below that is not made beside this one.
    instead_of: Option<&'static str>,
}

/// All checks in the order of their results: the baseline's, then the restricted level's, each by id.
const CHECKS: &[Row] = &[
    baseline("appArmorProfile", &[(0, profiles::app_armor)]),
    baseline("capabilities_baseline", &[(0, privileges::added_capabilities)]),
    baseline("hostNamespaces", &[(0, host::namespaces)]),
    baseline("hostPathVolumes", &[(0, volumes::host_path)]),
    baseline("hostPorts", &[(0, host::ports)]),
    baseline("hostProbesAndHostLifecycle", &[(34, host::probes)]),
    baseline("privileged", &[(0, privileges::privileged)]),
    baseline(
        "procMount",
        &[
            (0, confinement::proc_mount),
            (35, |pod| unless(pod.has_own_users(), pod, confinement::proc_mount)),
        ],
    ),
    baseline(
        "seLinuxOptions",
        &[(0, confinement::selinux_v0), (31, confinement::selinux_v31)],
    ),
    baseline(
        "seccompProfile_baseline",
        &[(0, profiles::seccomp_annotations), (19, profiles::seccomp_baseline)],
    ),
    baseline(
        "sysctls",
        &[
            (0, confinement::sysctls::<0>),
            (27, confinement::sysctls::<27>),
            (29, confinement::sysctls::<29>),
            (32, confinement::sysctls::<32>),
            (37, confinement::sysctls::<37>),
        ],
    ),
    baseline("windowsHostProcess", &[(0, host::windows_process)]),
    restricted(
        "allowPrivilegeEscalation",
        &[
            (8, privileges::escalation),
            (25, |pod| unless(pod.is_windows(), pod, privileges::escalation)),
        ],
        None,
    ),
    restricted(
        "capabilities_restricted",
        &[
            (22, privileges::capabilities),
            (25, |pod| unless(pod.is_windows(), pod, privileges::capabilities)),
        ],
        Some("capabilities_baseline"),
    ),
    restricted(
        "procMount_restricted",
        &[(35, confinement::proc_mount)],
        Some("procMount"),
    ),
    restricted(
        "restrictedVolumes",
        &[(0, volumes::restricted)],
        Some("hostPathVolumes"),
    ),
    restricted(
        "runAsNonRoot",
        &[
            (0, identity::non_root),
            (35, |pod| unless(pod.has_own_users(), pod, identity::non_root)),
        ],
        None,
    ),
    restricted(
        "runAsUser",
        &[
            (23, identity::user),
            (35, |pod| unless(pod.has_own_users(), pod, identity::user)),
        ],
        None,
    ),
    restricted(
        "seccompProfile_restricted",
        &[
            (19, profiles::seccomp_restricted),
            (25, |pod| unless(pod.is_windows(), pod, profiles::seccomp_restricted)),
        ],
        Some("seccompProfile_baseline"),
    ),
];

const fn baseline(id: &'static str, versions: &'static [(u32, Check)]) -> Row {
    Row {
        id,
        level: Level::Baseline,
        versions,
        instead_of: None,
    }
}

const fn restricted(id: &'static str, versions: &'static [(u32, Check)], instead_of: Option<&'static str>) -> Row {
    Row {
        id,
        level: Level::Restricted,
        versions,
        instead_of,
    }
}

impl Row {
    /// The check as of a minor version.
    fn check(&self, level: Level, minor: u32) -> Option<Check> {
        if self.level > level {
            return None;
        }
        let (_, check) = self.versions.iter().rev().find(|(since, _)| *since <= minor)?;
        Some(*check)
    }
}

/// The checks that a level makes as of a minor version.
pub(super) fn at(level: Level, minor: u32) -> impl Iterator<Item = Check> {
    CHECKS.iter().filter_map(move |row| {
        let replaced = CHECKS
            .iter()
            .any(|other| other.instead_of == Some(row.id) && other.check(level, minor).is_some());
        if replaced { None } else { row.check(level, minor) }
    })
}

fn unless(exempt: bool, pod: &Pod<'_>, check: Check) -> Option<Violation> {
    if exempt { None } else { check(pod) }
}

/// A pod, or a pod's template, as checks look at it.
pub(super) struct Pod<'a> {
    annotations: Option<&'a Map<String, Value>>,
    spec: &'a Value,
}

impl<'a> Pod<'a> {
    pub(super) fn new(pod: &'a Value) -> Pod<'a> {
        Pod {
            annotations: meta::annotations(pod),
            spec: &pod["spec"],
        }
    }

    /// All containers: those that prepare, those that run, those that debug.
    fn containers(&self) -> impl Iterator<Item = &'a Value> {
        let spec = self.spec;
        ["initContainers", "containers", "ephemeralContainers"]
            .into_iter()
            .flat_map(|key| meta::list_at(spec, &[key]))
    }

    /// The names of the containers of which something holds.
    fn containers_that(&self, mut holds: impl FnMut(&'a Value) -> bool) -> Vec<&'a str> {
        self.containers()
            .filter(|container| holds(container))
            .map(|container| meta::str_at(container, &["name"]))
            .collect()
    }

    /// Who has a security context of which something holds: the pod, and the names of containers.
    fn contexts_that(&self, mut holds: impl FnMut(&'a Value) -> bool) -> (bool, Vec<&'a str>) {
        let pod = holds(&self.spec["securityContext"]);
        (
            pod,
            self.containers_that(|container| holds(&container["securityContext"])),
        )
    }

    fn is_windows(&self) -> bool {
        self.spec["os"]["name"] == "windows"
    }

    /// Whether root inside is nobody outside.
    fn has_own_users(&self) -> bool {
        self.spec["hostUsers"] == false
    }
}

fn violation(reason: impl Into<String>, detail: impl Into<String>) -> Option<Violation> {
    Some(Violation {
        reason: reason.into(),
        detail: detail.into(),
    })
}

fn plural<'a>(one: &'a str, many: &'a str, count: usize) -> &'a str {
    if count == 1 { one } else { many }
}

/// `"a", "b"`, as they are.
fn quoted<S: AsRef<str>>(items: impl IntoIterator<Item = S>) -> String {
    let items: Vec<String> = items.into_iter().map(|item| format!("\"{}\"", item.as_ref())).collect();
    items.join(", ")
}

/// `container "a"`, `containers "a", "b"`.
fn containers(names: &[&str]) -> String {
    format!("{} {}", plural("container", "containers", names.len()), quoted(names))
}

/// `pod`, `container "a"`, `pod and containers "a", "b"`; `None` when nobody is to blame.
fn setters(pod: bool, names: &[&str]) -> Option<String> {
    match (pod, names.is_empty()) {
        (false, true) => None,
        (true, true) => Some("pod".to_owned()),
        (false, false) => Some(containers(names)),
        (true, false) => Some(format!("pod and {}", containers(names))),
    }
}

/// Texts without repetition, sorted.
type Set<'a> = BTreeSet<&'a str>;
