//! The containers of a pod by what they are there for: those that prepare it, those that it is made of, those that were added to look into it.
//!
//! Whoever handles all of them asks here, so that none is forgotten.

use std::borrow::Cow;

use k8s_openapi::api::core::v1::{Container, EphemeralContainer, Pod, PodSpec};

/// What a container is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It runs before the main ones (or, with `restartPolicy: Always`, beside them).
    Init,
    /// What the pod is for.
    Main,
    /// Added to a running pod to debug it; it runs once and never counts for the pod's state.
    Ephemeral,
}

impl Role {
    /// Returns the list of the pod's spec that holds such containers, as events name it.
    pub fn list(self) -> &'static str {
        match self {
            Self::Init => "initContainers",
            Self::Main => "containers",
            Self::Ephemeral => "ephemeralContainers",
        }
    }
}

/// Returns every container of a pod: main ones first, then those that prepare it, then those to debug it by.
pub fn all(spec: &PodSpec) -> impl Iterator<Item = (Role, Cow<'_, Container>)> {
    let main = spec.containers.iter().map(|own| (Role::Main, Cow::Borrowed(own)));
    let init = spec.init_containers.iter().flatten();
    let init = init.map(|own| (Role::Init, Cow::Borrowed(own)));
    let ephemeral = spec.ephemeral_containers.iter().flatten();
    let ephemeral = ephemeral.map(|own| (Role::Ephemeral, Cow::Owned(as_container(own))));
    main.chain(init).chain(ephemeral)
}

/// Returns the container of a name.
pub fn find<'a>(spec: &'a PodSpec, name: &str) -> Option<(Role, Cow<'a, Container>)> {
    all(spec).find(|(_, container)| container.name == name)
}

/// Returns the role of a container, by name.
pub fn role(pod: &Pod, name: &str) -> Option<Role> {
    find(pod.spec.as_ref()?, name).map(|(role, _)| role)
}

/// Returns the names of the containers that have a role.
pub fn names(spec: &PodSpec, wanted: Role) -> Vec<String> {
    let of_role = all(spec).filter(|(role, _)| *role == wanted);
    of_role.map(|(_, container)| container.name.clone()).collect()
}

/// Returns the container in whose processes an ephemeral one looks.
pub fn target<'a>(spec: &'a PodSpec, name: &str) -> Option<&'a str> {
    let mut ephemeral = spec.ephemeral_containers.iter().flatten();
    let found = ephemeral.find(|container| container.name == name)?;
    found
        .target_container_name
        .as_deref()
        .filter(|target| !target.is_empty())
}

/// An ephemeral container as a plain one. What it cannot have (the API refuses probes, ports, hooks and resources) is left out.
pub fn as_container(ephemeral: &EphemeralContainer) -> Container {
    Container {
        args: ephemeral.args.clone(),
        command: ephemeral.command.clone(),
        env: ephemeral.env.clone(),
        env_from: ephemeral.env_from.clone(),
        image: ephemeral.image.clone(),
        image_pull_policy: ephemeral.image_pull_policy.clone(),
        name: ephemeral.name.clone(),
        security_context: ephemeral.security_context.clone(),
        stdin: ephemeral.stdin,
        stdin_once: ephemeral.stdin_once,
        termination_message_path: ephemeral.termination_message_path.clone(),
        termination_message_policy: ephemeral.termination_message_policy.clone(),
        tty: ephemeral.tty,
        volume_devices: ephemeral.volume_devices.clone(),
        volume_mounts: ephemeral.volume_mounts.clone(),
        working_dir: ephemeral.working_dir.clone(),
        ..Container::default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_container_is_found_with_its_role() {
        let spec: PodSpec = serde_json::from_value(json!({
            "containers": [{"name": "app"}], "initContainers": [{"name": "first"}],
            "ephemeralContainers": [{"name": "look", "image": "x", "targetContainerName": "app", "tty": true}]
        }))
        .expect("a spec");
        let found: Vec<(Role, String)> = all(&spec).map(|(role, own)| (role, own.name.clone())).collect();
        let expected = [(Role::Main, "app"), (Role::Init, "first"), (Role::Ephemeral, "look")];
        assert_eq!(found, expected.map(|(role, name)| (role, name.to_owned())));
        assert_eq!(target(&spec, "look"), Some("app"));
        assert_eq!(target(&spec, "app"), None);
        let (_, look) = find(&spec, "look").expect("it");
        assert_eq!((look.image.as_deref(), look.tty), (Some("x"), Some(true)));
    }
}
