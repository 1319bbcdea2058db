//! What shims can that those of the protocol version's first release could not.
//!
//! A shim outlives the daemon that asked for it, and is asked by later ones. What is new in what a container may ask for is a row here: a shim
//! announces by name what it can (one that is older than this table announces nothing), and is never asked for what it does not know: an unknown
//! mount would end the conversation, and an unknown field be overlooked.

use crate::spec::{ContainerSpec, MountSource, Seccomp};

struct Feature {
    /// Its name in a hello; never changed.
    name: &'static str,
    /// What it is, for people.
    what: &'static str,
    /// Whether a container needs it.
    needed: fn(&ContainerSpec) -> bool,
}

const FEATURES: &[Feature] = &[
    Feature {
        name: "volumes",
        what: "this kind of mount (a writable subPath, propagation or recursive read-only)",
        needed: |spec| mounts(spec, |source| matches!(source, MountSource::Volume { .. })),
    },
    Feature {
        name: "images",
        what: "images as volumes",
        needed: |spec| mounts(spec, |source| matches!(source, MountSource::Image { .. })),
    },
    Feature {
        name: "seccompProfiles",
        what: "seccomp profiles from files",
        needed: |spec| matches!(spec.security.seccomp, Seccomp::Profile(_)),
    },
    Feature {
        name: "strictGroups",
        what: "supplementalGroupsPolicy Strict",
        needed: |spec| spec.security.strict_groups,
    },
    Feature {
        name: "targets",
        what: "containers that look into others",
        needed: |spec| spec.target.is_some(),
    },
];

fn mounts(spec: &ContainerSpec, wanted: fn(&MountSource) -> bool) -> bool {
    spec.mounts.iter().any(|mount| wanted(&mount.source))
}

/// Returns what this build's shims announce.
pub(crate) fn own() -> Vec<String> {
    FEATURES.iter().map(|feature| feature.name.to_owned()).collect()
}

/// Says what a container needs of which a shim announced nothing.
pub(crate) fn lacking(announced: &[String], spec: &ContainerSpec) -> Option<&'static str> {
    let lacks = |feature: &&Feature| (feature.needed)(spec) && !announced.iter().any(|name| name == feature.name);
    FEATURES.iter().find(lacks).map(|feature| feature.what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::spec::{Mount, Propagation};

    fn mounting(source: MountSource) -> ContainerSpec {
        let mount = Mount {
            target: "/data".into(),
            source,
            read_only: false,
        };
        ContainerSpec {
            mounts: vec![mount],
            ..ContainerSpec::default()
        }
    }

    #[test]
    fn an_old_shim_runs_what_it_knows_and_nothing_else() {
        let bind = mounting(MountSource::Bind { path: "/x".into() });
        assert_eq!(lacking(&[], &bind), None);
        let volume = mounting(MountSource::Volume {
            path: "/x".into(),
            beneath: None,
            propagation: Propagation::None,
            recursive: false,
        });
        assert_eq!(lacking(&[], &volume), Some(FEATURES[0].what));
        let targeting = ContainerSpec {
            target: Some("app-0".to_owned()),
            ..ContainerSpec::default()
        };
        assert_eq!(lacking(&["volumes".to_owned()], &targeting), Some(FEATURES[4].what));
        assert_eq!(lacking(&own(), &volume), None);
    }
}
