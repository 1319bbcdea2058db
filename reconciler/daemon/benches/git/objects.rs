//! The ten objects that each of the hundred apps has: none makes a pod.

use kube::core::ApiResource;
use serde_json::{Value, json};

/// The label whose value every commit changes.
pub const VERSION: &str = "bench.setpoint.dev/version";
/// How many objects an app has.
pub const COUNT: usize = 10;

/// The kinds, and how many objects of each an app has.
pub fn kinds() -> Vec<(ApiResource, usize)> {
    let kind = |group: &str, kind: &str, plural: &str| ApiResource {
        group: group.to_owned(),
        version: "v1".to_owned(),
        api_version: match group {
            "" => "v1".to_owned(),
            group => format!("{group}/v1"),
        },
        kind: kind.to_owned(),
        plural: plural.to_owned(),
    };
    vec![
        (kind("", "ConfigMap", "configmaps"), 4),
        (kind("", "Secret", "secrets"), 2),
        (kind("", "Service", "services"), 2),
        (kind("", "ServiceAccount", "serviceaccounts"), 1),
        (kind("rbac.authorization.k8s.io", "Role", "roles"), 1),
    ]
}

/// Makes the objects of an app with a version, each with its kind; both may be expressions of a template.
pub fn objects(app: &str, version: &str) -> Vec<(ApiResource, Value)> {
    let mut all = Vec::new();
    for (kind, count) in kinds() {
        for place in 0..count {
            let mut object = json!({
                "apiVersion": kind.api_version,
                "kind": kind.kind,
                "metadata": {"name": format!("{app}-{place}"), "labels": {VERSION: version}},
            });
            let content = match kind.kind.as_str() {
                "ConfigMap" => json!({"data": {"version": version, "settings": "one: 1\ntwo: 2\nthree: 3\n"}}),
                "Secret" => json!({"data": {"password": "c2VjcmV0"}}),
                "Service" => json!({"spec": {
                    "selector": {"app": app},
                    "ports": [{"name": "http", "port": 80, "targetPort": 8080}],
                }}),
                "Role" => {
                    json!({"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "list"]}]})
                }
                _ => json!({}),
            };
            if let (Some(object), Value::Object(content)) = (object.as_object_mut(), content) {
                object.extend(content);
            }
            all.push((kind.clone(), object));
        }
    }
    all
}
