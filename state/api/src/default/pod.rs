//! Defaults of pods and of the pod templates in workloads.

use serde_json::{Map, Value, json};

use super::{each, fill, fill_number, fill_text, inside, spec};
use crate::meta;
use crate::quantity::canonicalize;

/// Fills in a pod: what every pod spec gets, and what admission adds to pods alone.
pub fn pod(pod: &mut Value) {
    // A pod that mirrors one that its node runs on its own has no account.
    let mirrors = meta::annotations(pod).is_some_and(|all| all.contains_key("kubernetes.io/config.mirror"));
    let spec = spec(pod);
    pod_spec(spec);
    fill(spec, "enableServiceLinks", true);
    if !mirrors {
        fill_text(spec, "serviceAccountName", "default");
    }
    account_alias(spec);
    each(spec, "initContainers", requests);
    each(spec, "containers", requests);
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        tolerate(spec, key);
    }
}

/// Fills in the containers that are added to a running pod.
pub fn ephemeral_containers(spec: &mut Map<String, Value>) {
    let host_network = spec.get("hostNetwork") == Some(&Value::Bool(true));
    each(spec, "ephemeralContainers", |map| container(map, host_network));
}

/// Fills in what the containers of a running pod may use.
pub fn resources(spec: &mut Map<String, Value>) {
    let host_network = spec.get("hostNetwork") == Some(&Value::Bool(true));
    for key in ["initContainers", "containers"] {
        each(spec, key, |map| container(map, host_network));
        each(spec, key, requests);
    }
}

/// Fills in the template of a workload.
pub fn template(map: &mut Map<String, Value>) {
    let template = meta::map_mut(map, "template");
    pod_spec(meta::map_mut(template, "spec"));
}

fn pod_spec(spec: &mut Map<String, Value>) {
    fill_text(spec, "dnsPolicy", "ClusterFirst");
    fill_text(spec, "restartPolicy", "Always");
    fill_text(spec, "schedulerName", "default-scheduler");
    fill(spec, "securityContext", json!({}));
    fill(spec, "terminationGracePeriodSeconds", 30);
    account_alias(spec);
    let host_network = spec.get("hostNetwork") == Some(&Value::Bool(true));
    each(spec, "volumes", volume);
    for key in ["initContainers", "containers", "ephemeralContainers"] {
        each(spec, key, |map| container(map, host_network));
    }
    each(spec, "topologySpreadConstraints", |constraint| {
        fill_text(constraint, "whenUnsatisfiable", "DoNotSchedule");
    });
}

/// The account's name stands under its old name, too.
fn account_alias(spec: &mut Map<String, Value>) {
    let text = |spec: &Map<String, Value>, key: &str| spec.get(key).and_then(Value::as_str).unwrap_or("").to_owned();
    let name = text(spec, "serviceAccountName");
    let name = if name.is_empty() {
        text(spec, "serviceAccount")
    } else {
        name
    };
    if !name.is_empty() {
        spec.insert("serviceAccountName".into(), name.clone().into());
        spec.insert("serviceAccount".into(), name.into());
    }
}

/// Pods stay for five minutes on a node that cannot be reached, unless they say otherwise.
fn tolerate(spec: &mut Map<String, Value>, key: &str) {
    let text = |toleration: &Value, key: &str| meta::str_at(toleration, &[key]).to_owned();
    let covers = |toleration: &Value| {
        matches!(text(toleration, "key").as_str(), found if found == key || found.is_empty())
            && matches!(text(toleration, "effect").as_str(), "NoExecute" | "")
    };
    let entry = spec.entry("tolerations").or_insert(Value::Null);
    if entry.is_null() {
        *entry = json!([]);
    }
    if let Value::Array(list) = entry
        && !list.iter().any(covers)
    {
        list.push(json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300}));
    }
}

/// What is limited is requested, unless less is.
fn requests(container: &mut Map<String, Value>) {
    let Some(Value::Object(resources)) = container.get_mut("resources") else {
        return;
    };
    let Some(Value::Object(limits)) = resources.get("limits").cloned() else {
        return;
    };
    if limits.is_empty() {
        return;
    }
    let requests = meta::map_mut(resources, "requests");
    for (name, limit) in limits {
        fill(requests, &name, limit);
    }
}

fn container(container: &mut Map<String, Value>, host_network: bool) {
    let image = container.get("image").and_then(Value::as_str).unwrap_or("");
    let policy = if is_latest(image) { "Always" } else { "IfNotPresent" };
    fill_text(container, "imagePullPolicy", policy);
    fill_text(container, "terminationMessagePath", "/dev/termination-log");
    fill_text(container, "terminationMessagePolicy", "File");
    fill(container, "resources", json!({}));
    inside(container, "resources", |resources| {
        for key in ["limits", "requests"] {
            inside(resources, key, |amounts| amounts.values_mut().for_each(canonicalize));
        }
    });
    each(container, "ports", |port| {
        fill_text(port, "protocol", "TCP");
        if host_network && let Some(number) = port.get("containerPort").cloned() {
            fill_number(port, "hostPort", number.as_i64().unwrap_or(0));
        }
    });
    each(container, "env", |env| inside(env, "valueFrom", references));
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        inside(container, key, probe);
    }
    inside(container, "lifecycle", |lifecycle| {
        for key in ["postStart", "preStop"] {
            inside(lifecycle, key, |handler| inside(handler, "httpGet", http_get));
        }
    });
}

/// Whether an image is named without a tag and digest, or with the tag `latest`.
fn is_latest(image: &str) -> bool {
    let (name, has_digest) = image.split_once('@').map_or((image, false), |(name, _)| (name, true));
    let last = name.rsplit('/').next().unwrap_or(name);
    match last.split_once(':') {
        Some((_, tag)) => tag == "latest",
        None => !has_digest,
    }
}

fn references(from: &mut Map<String, Value>) {
    inside(from, "fieldRef", |reference| fill_text(reference, "apiVersion", "v1"));
    inside(from, "resourceFieldRef", |reference| {
        fill(reference, "divisor", "0");
        if let Some(divisor) = reference.get_mut("divisor") {
            canonicalize(divisor);
        }
    });
}

fn probe(probe: &mut Map<String, Value>) {
    fill_number(probe, "timeoutSeconds", 1);
    fill_number(probe, "periodSeconds", 10);
    fill_number(probe, "successThreshold", 1);
    fill_number(probe, "failureThreshold", 3);
    inside(probe, "httpGet", http_get);
    inside(probe, "grpc", |grpc| fill(grpc, "service", ""));
}

fn http_get(action: &mut Map<String, Value>) {
    fill_text(action, "path", "/");
    fill_text(action, "scheme", "HTTP");
}

/// Permissions of projected files: 0644.
const FILE_MODE: i64 = 0o644;

/// Fills in the sources that volumes of pods and persistent volumes have in common.
pub(super) fn volume_source(volume: &mut Map<String, Value>) {
    inside(volume, "hostPath", |source| fill(source, "type", ""));
    inside(volume, "iscsi", |source| fill_text(source, "iscsiInterface", "default"));
}

fn volume(volume: &mut Map<String, Value>) {
    let has_source = volume.iter().any(|(key, value)| key != "name" && !value.is_null());
    if !has_source {
        volume.insert("emptyDir".into(), json!({}));
    }
    for key in ["secret", "configMap", "downwardAPI", "projected"] {
        inside(volume, key, |source| fill(source, "defaultMode", FILE_MODE));
    }
    volume_source(volume);
    inside(volume, "emptyDir", |source| {
        if let Some(limit) = source.get_mut("sizeLimit") {
            canonicalize(limit);
        }
    });
    inside(volume, "downwardAPI", |source| each(source, "items", references));
    inside(volume, "projected", |source| {
        each(source, "sources", |source| {
            inside(source, "serviceAccountToken", |token| {
                fill(token, "expirationSeconds", 3600)
            });
            inside(source, "downwardAPI", |source| each(source, "items", references));
        });
    });
}
