//! A container's security context over its pod's, as the runtime wants it. Pure.

use k8s_openapi::api::core::v1::{Container, PodSpec, SeccompProfile};
use setpoint_runtime::spec::{Seccomp, Security};

/// Merges pod and container level. Who names no seccomp profile has the runtime's, if that is the default, or none.
pub fn of(spec: &PodSpec, container: &Container, seccomp_default: bool) -> Security {
    let pod = spec.security_context.clone().unwrap_or_default();
    let own = container.security_context.clone().unwrap_or_default();
    let id = |own: Option<i64>, pod: Option<i64>| own.or(pod).and_then(|id| u32::try_from(id).ok());
    let privileged = own.privileged.unwrap_or(false);
    let capabilities = own.capabilities.unwrap_or_default();
    let mut groups: Vec<u32> = pod
        .supplemental_groups
        .iter()
        .flatten()
        .copied()
        .chain(pod.fs_group)
        .filter_map(|group| u32::try_from(group).ok())
        .collect();
    groups.dedup();
    let adds_admin = capabilities
        .add
        .iter()
        .flatten()
        .any(|name| matches!(plain(name).as_str(), "SYS_ADMIN" | "ALL"));
    Security {
        run_as_user: id(own.run_as_user, pod.run_as_user),
        run_as_group: id(own.run_as_group, pod.run_as_group),
        run_as_non_root: own.run_as_non_root.or(pod.run_as_non_root).unwrap_or(false),
        supplemental_groups: groups,
        strict_groups: pod.supplemental_groups_policy.as_deref() == Some("Strict"),
        privileged,
        add_capabilities: capabilities.add.iter().flatten().map(|name| plain(name)).collect(),
        drop_capabilities: capabilities.drop.iter().flatten().map(|name| plain(name)).collect(),
        // Safer than Kubernetes' default (true): setuid programs gain nothing unless the pod says so.
        allow_privilege_escalation: own.allow_privilege_escalation.unwrap_or(privileged || adds_admin),
        read_only_root: own.read_only_root_filesystem.unwrap_or(false),
        seccomp: if privileged {
            Seccomp::Unconfined
        } else {
            seccomp(
                own.seccomp_profile.as_ref().or(pod.seccomp_profile.as_ref()),
                seccomp_default,
            )
        },
        unmasked_proc: own.proc_mount.as_deref() == Some("Unmasked"),
    }
}

/// Returns the file of the seccomp profile that a container asks for, if it is one of the node's own; relative to the node's folder of profiles.
pub fn localhost_profile<'a>(spec: &'a PodSpec, container: &'a Container) -> Option<&'a str> {
    let own = container.security_context.as_ref();
    let own = own.and_then(|context| context.seccomp_profile.as_ref());
    let of_pod = || spec.security_context.as_ref()?.seccomp_profile.as_ref();
    let profile = own.or_else(of_pod).filter(|profile| profile.type_ == "Localhost")?;
    profile.localhost_profile.as_deref()
}

fn plain(capability: &str) -> String {
    let upper = capability.to_uppercase();
    upper.strip_prefix("CAP_").unwrap_or(&upper).to_owned()
}

fn seccomp(profile: Option<&SeccompProfile>, default: bool) -> Seccomp {
    match profile.map(|profile| profile.type_.as_str()) {
        Some("Unconfined") => Seccomp::Unconfined,
        None if !default => Seccomp::Unconfined,
        _ => Seccomp::RuntimeDefault,
    }
}

/// Returns why an image may not run where the pod must not run as root; the runtime checks numeric users again.
pub fn refuses_root(security: &Security, image_user: Option<&str>) -> Option<String> {
    if !security.run_as_non_root {
        return None;
    }
    let user = match security.run_as_user {
        Some(0) => return Some("container's runAsUser breaks non-root policy".to_owned()),
        Some(_) => return None,
        None => image_user.unwrap_or_default().split(':').next().unwrap_or_default(),
    };
    match user {
        "" | "0" | "root" => Some("container has runAsNonRoot and image will run as root".to_owned()),
        name if name.parse::<u32>().is_err() => Some(format!(
            "container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root"
        )),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::{Capabilities, PodSecurityContext, SecurityContext};

    use super::*;

    #[test]
    fn a_container_overrides_its_pod() {
        let spec = PodSpec {
            security_context: Some(PodSecurityContext {
                run_as_user: Some(1),
                run_as_group: Some(2),
                fs_group: Some(3),
                supplemental_groups: Some(vec![4]),
                seccomp_profile: Some(SeccompProfile {
                    type_: "Unconfined".to_owned(),
                    ..Default::default()
                }),
                ..Default::default()
            }),
            ..PodSpec::default()
        };
        let container = Container {
            security_context: Some(SecurityContext {
                run_as_user: Some(10),
                capabilities: Some(Capabilities {
                    add: Some(vec!["CAP_NET_ADMIN".to_owned()]),
                    drop: Some(vec!["all".to_owned()]),
                }),
                ..Default::default()
            }),
            ..Container::default()
        };
        let security = of(&spec, &container, true);
        assert_eq!((security.run_as_user, security.run_as_group), (Some(10), Some(2)));
        assert_eq!(security.supplemental_groups, [4, 3]);
        assert_eq!(security.add_capabilities, ["NET_ADMIN"]);
        assert_eq!(security.drop_capabilities, ["ALL"]);
        assert_eq!(security.seccomp, Seccomp::Unconfined);
        assert!(!security.allow_privilege_escalation);
    }

    #[test]
    fn who_names_no_profile_has_the_nodes_default() {
        let with = |text: Option<&str>, default: bool| {
            let context = text.map(|text| SecurityContext {
                seccomp_profile: Some(SeccompProfile {
                    type_: text.to_owned(),
                    ..Default::default()
                }),
                ..Default::default()
            });
            let container = Container {
                security_context: context,
                ..Container::default()
            };
            of(&PodSpec::default(), &container, default).seccomp
        };
        assert_eq!(with(None, true), Seccomp::RuntimeDefault);
        assert_eq!(with(None, false), Seccomp::Unconfined);
        assert_eq!(with(Some("RuntimeDefault"), false), Seccomp::RuntimeDefault);
        assert_eq!(with(Some("Unconfined"), true), Seccomp::Unconfined);
    }

    #[test]
    fn root_images_are_refused_where_non_root_is_wanted() {
        let security = Security {
            run_as_non_root: true,
            ..Security::default()
        };
        assert!(refuses_root(&security, None).is_some());
        assert!(refuses_root(&security, Some("app")).is_some());
        assert_eq!(refuses_root(&security, Some("1000:1000")), None);
        assert_eq!(
            refuses_root(
                &Security {
                    run_as_user: Some(5),
                    ..security
                },
                None
            ),
            None
        );
    }
}
