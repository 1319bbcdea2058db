//! Defaults of pods and of the pod templates in workloads.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use regex::Regex;
use serde_json::{Map, Value, json};

use super::{each, fill, fill_number, fill_text, inside, spec};
use crate::meta;
use crate::quantity::{Quantity, canonicalize};

/// How images are named (distribution's grammar of references).
const IMAGE: &str = concat!(
    r"^(?:(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*|\[[a-fA-F0-9:]+\])(?::[0-9]+)?/)?",
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*",
    r"(?::(?<tag>[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127}))?",
    r"(?<digest>@(?:sha256:[a-f0-9]{64}|sha384:[a-f0-9]{96}|sha512:[a-f0-9]{128}))?$",
);

/// Fills in a pod: what every pod spec gets, and what only a pod itself does.
pub fn pod(pod: &mut Value) {
    let spec = spec(pod);
    pod_spec(spec);
    fill(spec, "enableServiceLinks", true);
    if spec.get("hostNetwork") == Some(&Value::Bool(true)) {
        for key in ["initContainers", "containers"] {
            each(spec, key, |container| each(container, "ports", host_port));
        }
    }
    each(spec, "initContainers", requests);
    each(spec, "containers", requests);
    whole_requests(spec);
}

/// Adds to a pod what admission gives it: an account, and patience with nodes that cannot be reached. Nobody owns that.
pub fn admit(pod: &mut Value) {
    // A pod that mirrors one that its node runs on its own has no account.
    let mirrors = meta::annotations(pod).is_some_and(|all| all.contains_key("kubernetes.io/config.mirror"));
    let spec = spec(pod);
    if !mirrors {
        fill_text(spec, "serviceAccountName", "default");
    }
    account_alias(spec);
    for key in ["node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"] {
        tolerate(spec, key);
    }
}

/// Fills in the containers that are added to a running pod.
pub fn ephemeral_containers(spec: &mut Map<String, Value>) {
    each(spec, "ephemeralContainers", container);
}

/// Fills in what the containers of a running pod may use.
pub fn resources(spec: &mut Map<String, Value>) {
    for key in ["initContainers", "containers"] {
        each(spec, key, container);
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
    each(spec, "volumes", volume);
    for key in ["initContainers", "containers", "ephemeralContainers"] {
        each(spec, key, container);
    }
}

/// A port of a pod in the host's network is the host's.
fn host_port(port: &mut Map<String, Value>) {
    if let Some(number) = port.get("containerPort").and_then(Value::as_i64) {
        fill_number(port, "hostPort", number);
    }
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

/// A pod that is limited as a whole requests what its containers do, and where they say nothing what it is limited to.
fn whole_requests(spec: &mut Map<String, Value>) {
    let supported = |name: &str| matches!(name, "cpu" | "memory") || name.starts_with("hugepages-");
    let limits = spec.get("resources").and_then(|resources| resources.get("limits"));
    let Some(limits) = limits
        .and_then(Value::as_object)
        .filter(|limits| !limits.is_empty())
        .cloned()
    else {
        return;
    };
    let together = together(spec);
    inside(spec, "resources", |resources| {
        let requests = meta::map_mut(resources, "requests");
        for (name, amount) in together.into_iter().filter(|(name, _)| supported(name)) {
            fill(requests, &name, amount.to_string());
        }
        for (name, limit) in limits.into_iter().filter(|(name, _)| supported(name)) {
            fill(requests, &name, limit);
        }
        if requests.is_empty() {
            resources.remove("requests");
        }
    });
}

/// What the containers of a pod request at once: all that run together, or one that runs before them if it wants more.
fn together(spec: &Map<String, Value>) -> BTreeMap<String, Quantity> {
    let list = |key: &str| {
        spec.get(key)
            .and_then(Value::as_array)
            .map(Vec::as_slice)
            .unwrap_or_default()
    };
    let requested = |container: &Value| -> Vec<(String, Quantity)> {
        let requests = meta::at(container, &["resources", "requests"]).and_then(Value::as_object);
        let amounts = requests.into_iter().flatten();
        amounts
            .filter_map(|(name, amount)| Some((name.clone(), Quantity::from_value(amount).ok()?)))
            .collect()
    };
    let add = |sum: &mut BTreeMap<String, Quantity>, name: String, amount: Quantity| {
        *sum.entry(name).or_insert(Quantity::ZERO) += amount;
    };
    let mut running: BTreeMap<String, Quantity> = BTreeMap::new();
    let mut before: BTreeMap<String, Quantity> = BTreeMap::new();
    let mut sidecars: BTreeMap<String, Quantity> = BTreeMap::new();
    for container in list("initContainers") {
        let stays = meta::str_at(container, &["restartPolicy"]) == "Always";
        for (name, amount) in requested(container) {
            if stays {
                add(&mut sidecars, name, amount);
            } else {
                let beside = sidecars.get(&name).copied().unwrap_or(Quantity::ZERO);
                let most = before.entry(name).or_insert(Quantity::ZERO);
                *most = (*most).max(beside + amount);
            }
        }
    }
    for (name, amount) in sidecars
        .into_iter()
        .chain(list("containers").iter().flat_map(requested))
    {
        add(&mut running, name, amount);
    }
    for (name, amount) in before {
        let sum = running.entry(name).or_insert(Quantity::ZERO);
        *sum = (*sum).max(amount);
    }
    running
}

fn container(container: &mut Map<String, Value>) {
    let policy = pull_policy(container.get("image"));
    fill_text(container, "imagePullPolicy", policy);
    fill_text(container, "terminationMessagePath", "/dev/termination-log");
    fill_text(container, "terminationMessagePolicy", "File");
    fill(container, "resources", json!({}));
    inside(container, "resources", |resources| {
        for key in ["limits", "requests"] {
            inside(resources, key, |amounts| amounts.values_mut().for_each(canonicalize));
        }
    });
    each(container, "ports", |port| fill_text(port, "protocol", "TCP"));
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

/// How often an image is pulled that nothing is said about.
fn pull_policy(image: Option<&Value>) -> &'static str {
    if is_latest(image.and_then(Value::as_str).unwrap_or("")) {
        "Always"
    } else {
        "IfNotPresent"
    }
}

/// Whether an image is named without a tag and digest, or with the tag `latest`; what names no image is not.
fn is_latest(image: &str) -> bool {
    static REFERENCE: OnceLock<Option<Regex>> = OnceLock::new();
    let grammar = REFERENCE.get_or_init(|| Regex::new(IMAGE).ok());
    let Some(parts) = grammar.as_ref().and_then(|grammar| grammar.captures(image)) else {
        return false;
    };
    match (parts.name("tag"), parts.name("digest")) {
        (Some(tag), _) => tag.as_str() == "latest",
        (None, digest) => digest.is_none(),
    }
}

fn references(from: &mut Map<String, Value>) {
    inside(from, "fieldRef", |reference| fill_text(reference, "apiVersion", "v1"));
    inside(from, "fileKeyRef", |reference| fill(reference, "optional", false));
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
    inside(volume, "image", |source| {
        let policy = pull_policy(source.get("reference"));
        fill_text(source, "pullPolicy", policy);
    });
    inside(volume, "ephemeral", |source| {
        inside(source, "volumeClaimTemplate", |template| {
            inside(template, "spec", |spec| fill_text(spec, "volumeMode", "Filesystem"));
        });
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
