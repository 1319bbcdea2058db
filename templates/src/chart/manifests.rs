//! Rendered text to manifests and hooks, in the order in which Helm prints them.

use serde_json::{Map, Value};

use super::metadata::scalar_text;
use crate::yaml;

/// One document of a rendered template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manifest {
    /// The path of its template.
    pub source: String,
    /// The text.
    pub yaml: String,
    /// The object's kind.
    pub kind: String,
}

/// A document that runs at certain events instead of standing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hook {
    /// The document.
    pub manifest: Manifest,
    /// The events, such as `pre-install`.
    pub events: Vec<String>,
    /// Its place among others: lower ones first.
    pub weight: i64,
    /// When it is deleted, such as `hook-succeeded`.
    pub delete_policies: Vec<String>,
}

const INSTALL_ORDER: [&str; 38] = [
    "PriorityClass",
    "Namespace",
    "NetworkPolicy",
    "ResourceQuota",
    "LimitRange",
    "PodSecurityPolicy",
    "PodDisruptionBudget",
    "ServiceAccount",
    "Secret",
    "SecretList",
    "ConfigMap",
    "StorageClass",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "CustomResourceDefinition",
    "ClusterRole",
    "ClusterRoleList",
    "ClusterRoleBinding",
    "ClusterRoleBindingList",
    "Role",
    "RoleList",
    "RoleBinding",
    "RoleBindingList",
    "Service",
    "DaemonSet",
    "Pod",
    "ReplicationController",
    "ReplicaSet",
    "Deployment",
    "HorizontalPodAutoscaler",
    "StatefulSet",
    "Job",
    "CronJob",
    "IngressClass",
    "Ingress",
    "APIService",
    "MutatingWebhookConfiguration",
    "ValidatingWebhookConfiguration",
];

/// The events of hooks.
pub(crate) const EVENTS: [&str; 10] = [
    "pre-install",
    "post-install",
    "pre-delete",
    "post-delete",
    "pre-upgrade",
    "post-upgrade",
    "pre-rollback",
    "post-rollback",
    "test",
    "test-success",
];

/// Gives a kind's place in the order of installation; those that are not known come last, by their names.
pub(crate) fn rank(kind: &str) -> (usize, &str) {
    match INSTALL_ORDER.iter().position(|known| *known == kind) {
        Some(place) => (place, ""),
        None => (INSTALL_ORDER.len(), kind),
    }
}

/// Splits a text where lines begin with `---`, which may have something after it.
pub(crate) fn split(text: &str) -> Vec<&str> {
    let text = text.trim_start();
    let mut cuts = Vec::new();
    let mut begin = 0;
    let mut at = 0;
    for line in text.split_inclusive('\n') {
        if let Some(rest) = line.strip_prefix("---") {
            cuts.push(&text[begin..at]);
            begin = at + 3 + (rest.len() - rest.trim_start_matches([' ', '\t']).len());
        }
        at += line.len();
    }
    cuts.push(&text[begin..]);
    cuts.into_iter()
        .map(str::trim_start)
        .filter(|document| !document.is_empty())
        .collect()
}

/// Takes rendered files, sorted by path, apart.
pub(super) fn sort(files: Vec<(String, String)>) -> Result<(Vec<Manifest>, Vec<Hook>), String> {
    let (mut manifests, mut hooks) = (Vec::new(), Vec::new());
    for (path, text) in files {
        let name = path.rsplit('/').next().unwrap_or(&path);
        if name.starts_with('_') || text.trim().is_empty() {
            continue;
        }
        for document in split(&text) {
            let head = head(document).map_err(|words| format!("YAML parse error on {path}: {words}"))?;
            let manifest = Manifest {
                source: path.clone(),
                yaml: document.to_owned(),
                kind: head.kind,
            };
            let annotation = |key: &str| head.annotations.get(key).and_then(Value::as_str);
            let Some(events) = annotation("helm.sh/hook") else {
                manifests.push(manifest);
                continue;
            };
            let list = |text: &str| -> Vec<String> { text.split(',').map(|part| part.trim().to_lowercase()).collect() };
            let events = list(events);
            if events.iter().any(|event| !EVENTS.contains(&event.as_str())) {
                continue;
            }
            hooks.push(Hook {
                manifest,
                events,
                weight: annotation("helm.sh/hook-weight")
                    .and_then(|text| text.parse().ok())
                    .unwrap_or(0),
                delete_policies: annotation("helm.sh/hook-delete-policy").map(list).unwrap_or_default(),
            });
        }
    }
    manifests.sort_by(|a, b| rank(&a.kind).cmp(&rank(&b.kind)));
    hooks.sort_by(|a, b| rank(&a.manifest.kind).cmp(&rank(&b.manifest.kind)));
    Ok((manifests, hooks))
}

struct Head {
    kind: String,
    annotations: Map<String, Value>,
}

fn head(document: &str) -> Result<Head, String> {
    let wrong = |value: &Value, field: &str, wanted: &str| -> Result<String, String> {
        let kind = match value {
            Value::Number(_) => "number",
            Value::Bool(_) => "bool",
            Value::Array(_) => "array",
            Value::String(_) => "string",
            _ => "object",
        };
        Err(format!(
            "error unmarshaling JSON: while decoding JSON: json: cannot unmarshal {kind} into Go {field} of type {wanted}"
        ))
    };
    let map = match yaml::read(document)? {
        Value::Object(map) => map,
        Value::Null => Map::new(),
        other => return Err(wrong(&other, "value", "util.SimpleHead").err().unwrap_or_default()),
    };
    let text = |map: &Map<String, Value>, key: &str, field: &str| match map.get(key) {
        None => Ok(String::new()),
        Some(value) => scalar_text(value).map_or_else(|| wrong(value, field, "string"), Ok),
    };
    text(&map, "apiVersion", "struct field SimpleHead.apiVersion")?;
    let kind = text(&map, "kind", "struct field SimpleHead.kind")?;
    let annotations = match map.get("metadata") {
        Some(Value::Object(metadata)) => {
            text(metadata, "name", "struct field .metadata.name")?;
            match metadata.get("annotations") {
                Some(Value::Object(annotations)) => {
                    let mut read = Map::new();
                    for (key, value) in annotations {
                        let text = scalar_text(value)
                            .map_or_else(|| wrong(value, "struct field .metadata.annotations", "string"), Ok)?;
                        read.insert(key.clone(), Value::String(text));
                    }
                    read
                }
                None | Some(Value::Null) => Map::new(),
                Some(other) => {
                    wrong(other, "struct field .metadata.annotations", "map[string]string")?;
                    Map::new()
                }
            }
        }
        _ => Map::new(),
    };
    Ok(Head { kind, annotations })
}
