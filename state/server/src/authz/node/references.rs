//! Which objects a pod refers to. Pure.

use std::collections::BTreeSet;

use serde_json::Value;

/// The annotation of a pod that only mirrors one that a node runs on its own: it gives that node no rights.
pub(super) const MIRROR: &str = "kubernetes.io/config.mirror";

/// The kinds that a pod refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(in crate::authz) enum Kind {
    /// A Secret.
    Secret,
    /// A ConfigMap.
    ConfigMap,
    /// A PersistentVolumeClaim.
    Claim,
    /// A ServiceAccount.
    Account,
}

/// Where the volumes name Secrets, beside their own kind and projections.
const VOLUME_SECRETS: &[&str] = &[
    "/secret/secretName",
    "/azureFile/secretName",
    "/cephfs/secretRef/name",
    "/cinder/secretRef/name",
    "/csi/nodePublishSecretRef/name",
    "/flexVolume/secretRef/name",
    "/iscsi/secretRef/name",
    "/rbd/secretRef/name",
    "/scaleIO/secretRef/name",
    "/storageos/secretRef/name",
];

/// The objects of the pod's own namespace that it refers to, each once.
pub(super) fn of_pod(pod: &Value) -> BTreeSet<(Kind, String)> {
    let mut found = BTreeSet::new();
    if !pod["metadata"]["annotations"][MIRROR].is_null() {
        return found;
    }
    let spec = &pod["spec"];
    let mut put = |kind: Kind, name: Option<&Value>| {
        if let Some(name) = name.and_then(Value::as_str).filter(|name| !name.is_empty()) {
            found.insert((kind, name.to_owned()));
        }
    };
    put(Kind::Account, spec.get("serviceAccountName"));
    for secret in items(&spec["imagePullSecrets"]) {
        put(Kind::Secret, secret.get("name"));
    }
    let containers = ["containers", "initContainers", "ephemeralContainers"];
    for container in containers.iter().flat_map(|key| items(&spec[*key])) {
        for from in items(&container["envFrom"]) {
            put(Kind::Secret, from.pointer("/secretRef/name"));
            put(Kind::ConfigMap, from.pointer("/configMapRef/name"));
        }
        for variable in items(&container["env"]) {
            put(Kind::Secret, variable.pointer("/valueFrom/secretKeyRef/name"));
            put(Kind::ConfigMap, variable.pointer("/valueFrom/configMapKeyRef/name"));
        }
    }
    for volume in items(&spec["volumes"]) {
        for path in VOLUME_SECRETS {
            put(Kind::Secret, volume.pointer(path));
        }
        put(Kind::ConfigMap, volume.pointer("/configMap/name"));
        for source in items(&volume["projected"]["sources"]) {
            put(Kind::Secret, source.pointer("/secret/name"));
            put(Kind::ConfigMap, source.pointer("/configMap/name"));
        }
        put(Kind::Claim, volume.pointer("/persistentVolumeClaim/claimName"));
        if volume["ephemeral"].is_object() {
            // The claim that is made for the pod is called after both.
            let claim = format!(
                "{}-{}",
                pod["metadata"]["name"].as_str().unwrap_or_default(),
                volume["name"].as_str().unwrap_or_default()
            );
            put(Kind::Claim, Some(&claim.into()));
        }
    }
    found
}

fn items(list: &Value) -> &[Value] {
    list.as_array().map_or(&[], Vec::as_slice)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_place_that_names_an_object_is_seen() {
        let pod = json!({
            "metadata": {"name": "p"},
            "spec": {
                "serviceAccountName": "robot",
                "imagePullSecrets": [{"name": "pull"}],
                "initContainers": [{"envFrom": [{"secretRef": {"name": "s1"}}, {"configMapRef": {"name": "c1"}}]}],
                "containers": [{"env": [
                    {"name": "A", "valueFrom": {"secretKeyRef": {"name": "s2", "key": "k"}}},
                    {"name": "B", "valueFrom": {"configMapKeyRef": {"name": "c2", "key": "k"}}},
                    {"name": "C", "value": "s9"},
                ]}],
                "ephemeralContainers": [{"envFrom": [{"secretRef": {"name": "s3"}}]}],
                "volumes": [
                    {"name": "a", "secret": {"secretName": "s4"}},
                    {"name": "b", "configMap": {"name": "c3"}},
                    {"name": "c", "projected": {"sources": [{"secret": {"name": "s5"}}, {"configMap": {"name": "c4"}}]}},
                    {"name": "d", "csi": {"nodePublishSecretRef": {"name": "s6"}}},
                    {"name": "e", "persistentVolumeClaim": {"claimName": "v1"}},
                    {"name": "f", "ephemeral": {"volumeClaimTemplate": {}}},
                ],
            },
        });
        let found = of_pod(&pod);
        let names = |kind| {
            let of_kind = found.iter().filter(move |(other, _)| *other == kind);
            of_kind.map(|(_, name)| name.as_str()).collect::<Vec<_>>()
        };
        assert_eq!(names(Kind::Secret), ["pull", "s1", "s2", "s3", "s4", "s5", "s6"]);
        assert_eq!(names(Kind::ConfigMap), ["c1", "c2", "c3", "c4"]);
        assert_eq!(names(Kind::Claim), ["p-f", "v1"]);
        assert_eq!(names(Kind::Account), ["robot"]);
        let mut mirror = pod;
        mirror["metadata"]["annotations"] = json!({MIRROR: "x"});
        assert!(of_pod(&mirror).is_empty());
    }
}
