//! What a new pod gets of its service account: it must be there, its token is mounted, and its pull secrets are taken over.
//!
//! Follows Kubernetes' admission plugin `ServiceAccount`, with one difference: the account `default` is one of the things every
//! namespace has, so a pod that is made before it was written is not refused but taken as that account will be.

use serde_json::{Map, Value, json};
use setpoint_api::{Status, meta};

use super::pod::MIRROR;
use crate::cache::Cache;
use crate::registry::generated;

/// The kind in the cache.
const RESOURCE: &str = "core/serviceaccounts";
/// The account of pods that name none.
const DEFAULT: &str = "default";
/// Where containers find the token, the authority's certificate and the namespace.
const MOUNT_PATH: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
/// How the names of volumes with tokens begin.
const VOLUME_PREFIX: &str = "kube-api-access-";
/// How long a mounted token is good for, in seconds; the node asks for another in time.
const TOKEN_LIFE: i64 = 3607;
/// The ConfigMap with the authority's certificate that every namespace has.
const ROOT_CA: &str = "kube-root-ca.crt";
/// An account that says `true` here lets its pods use only the Secrets that it lists.
const ENFORCE: &str = "kubernetes.io/enforce-mountable-secrets";

/// Gives a new pod its account's token and pull secrets.
///
/// # Errors
/// 403 when the account is not there, and when a pod that mirrors one of its node's refers to an account or to secrets.
pub(crate) fn admit_pod(cache: &Cache, pod: &mut Value) -> Result<(), Status> {
    if meta::annotations(pod).is_some_and(|all| all.contains_key(MIRROR)) {
        return mirror(pod).map_err(|why| refusal(pod, &why));
    }
    let namespace = meta::namespace(pod);
    let name = match meta::str_at(pod, &["spec", "serviceAccountName"]) {
        "" => DEFAULT.to_owned(),
        name => name.to_owned(),
    };
    let account = match cache.get(RESOURCE, namespace, &name) {
        Some(stored) => stored.value(),
        None if name == DEFAULT => json!({ "metadata": { "name": DEFAULT } }),
        None => {
            let why =
                format!("error looking up service account {namespace}/{name}: serviceaccount \"{name}\" not found");
            return Err(refusal(pod, &why));
        }
    };
    let says = |object: &Value, path: &[&str]| meta::at(object, path).and_then(Value::as_bool);
    let mounts = says(pod, &["spec", "automountServiceAccountToken"])
        .or_else(|| says(&account, &["automountServiceAccountToken"]))
        .unwrap_or(true);
    let spec = meta::map_mut(meta::map_of(pod), "spec");
    spec.insert("serviceAccountName".into(), name.as_str().into());
    spec.insert("serviceAccount".into(), name.into());
    if mounts {
        mount_token(spec);
    }
    if meta::list_at(pod, &["spec", "imagePullSecrets"]).is_empty() {
        let secrets: Vec<Value> = names_in(&account, "imagePullSecrets")
            .map(|name| json!({ "name": name }))
            .collect();
        if !secrets.is_empty() {
            meta::map_mut(meta::map_of(pod), "spec").insert("imagePullSecrets".into(), secrets.into());
        }
    }
    only_listed(&account, pod).map_err(|why| refusal(pod, &why))
}

/// Holds what was added to a pod against what its account lets it use.
///
/// # Errors
/// 403 when an ephemeral container uses a Secret that the account does not list.
pub(crate) fn admit_ephemeral(cache: &Cache, pod: &Value) -> Result<(), Status> {
    let account = meta::str_at(pod, &["spec", "serviceAccountName"]);
    match cache.get(RESOURCE, meta::namespace(pod), account) {
        Some(stored) => only_listed(&stored.value(), pod).map_err(|why| refusal(pod, &why)),
        None => Ok(()),
    }
}

fn refusal(pod: &Value, why: &str) -> Status {
    Status::forbidden("", "pods", meta::name(pod), why)
}

/// A pod that its node runs on its own uses nothing of the cluster.
fn mirror(pod: &Value) -> Result<(), String> {
    if !meta::str_at(pod, &["spec", "serviceAccountName"]).is_empty() {
        return Err("a mirror pod may not reference service accounts".to_owned());
    }
    if secrets_used(pod).next().is_some() {
        return Err("a mirror pod may not reference secrets".to_owned());
    }
    let mut sources = meta::list_at(pod, &["spec", "volumes"])
        .iter()
        .flat_map(|volume| meta::list_at(volume, &["projected", "sources"]));
    if sources.any(|source| source.get("serviceAccountToken").is_some()) {
        return Err("a mirror pod may not use ServiceAccountToken volume projections".to_owned());
    }
    Ok(())
}

/// Mounts a token in every container that has nothing of its own in that place.
fn mount_token(spec: &mut Map<String, Value>) {
    let existing = spec
        .get("volumes")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|volume| meta::str_at(volume, &["name"]))
        .find(|name| name.starts_with(VOLUME_PREFIX))
        .map(str::to_owned);
    let volume = existing.clone().unwrap_or_else(|| generated(VOLUME_PREFIX));
    let mut mounted = false;
    for list in ["initContainers", "containers"] {
        for container in spec.get_mut(list).and_then(Value::as_array_mut).into_iter().flatten() {
            let taken = meta::list_at(container, &["volumeMounts"])
                .iter()
                .any(|mount| mount["mountPath"] == MOUNT_PATH);
            if !taken && container.is_object() {
                push(
                    meta::map_of(container),
                    "volumeMounts",
                    json!({ "name": volume, "readOnly": true, "mountPath": MOUNT_PATH }),
                );
                mounted = true;
            }
        }
    }
    if mounted && existing.is_none() {
        let sources = json!([
            { "serviceAccountToken": { "expirationSeconds": TOKEN_LIFE, "path": "token" } },
            { "configMap": { "name": ROOT_CA, "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
            { "downwardAPI": { "items": [
                { "path": "namespace", "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" } },
            ] } },
        ]);
        let projected = json!({ "name": volume, "projected": { "sources": sources, "defaultMode": 0o644 } });
        push(spec, "volumes", projected);
    }
}

/// Adds an item to a list, which need not be there; what is there and no list is left to validation.
fn push(map: &mut Map<String, Value>, key: &str, item: Value) {
    match map.entry(key).or_insert_with(|| json!([])) {
        Value::Array(list) => list.push(item),
        absent @ Value::Null => *absent = json!([item]),
        _ => {}
    }
}

fn names_in<'a>(account: &'a Value, key: &str) -> impl Iterator<Item = &'a str> {
    meta::list_at(account, &[key])
        .iter()
        .map(|reference| meta::str_at(reference, &["name"]))
        .filter(|name| !name.is_empty())
}

/// Returns the Secrets that a pod's volumes and containers use, each with the words for where.
fn secrets_used(pod: &Value) -> impl Iterator<Item = (String, &str)> {
    let volumes = meta::list_at(pod, &["spec", "volumes"]).iter().map(|volume| {
        let secret = meta::str_at(volume, &["secret", "secretName"]);
        (format!("volume with secret.secretName={secret:?}"), secret)
    });
    let lists = [
        ("initContainers", "init container"),
        ("containers", "container"),
        ("ephemeralContainers", "ephemeral container"),
    ];
    let containers = lists.into_iter().flat_map(|(list, word)| {
        meta::list_at(pod, &["spec", list]).iter().flat_map(move |container| {
            let name = meta::str_at(container, &["name"]);
            let env = meta::list_at(container, &["env"]).iter().map(move |variable| {
                let secret = meta::str_at(variable, &["valueFrom", "secretKeyRef", "name"]);
                let variable = meta::str_at(variable, &["name"]);
                let place = format!("{word} {name} with envVar {variable} referencing secret.secretName={secret:?}");
                (place, secret)
            });
            let env_from = meta::list_at(container, &["envFrom"]).iter().map(move |source| {
                let secret = meta::str_at(source, &["secretRef", "name"]);
                let place = format!("{word} {name} with envFrom referencing secret.secretName={secret:?}");
                (place, secret)
            });
            env.chain(env_from)
        })
    });
    volumes.chain(containers).filter(|(_, secret)| !secret.is_empty())
}

/// Holds a pod to the Secrets that its account lists, where the account says so.
fn only_listed(account: &Value, pod: &Value) -> Result<(), String> {
    let enforced = meta::annotations(account)
        .and_then(|all| all.get(ENFORCE))
        .and_then(Value::as_str)
        .is_some_and(|text| matches!(text, "1" | "t" | "T" | "true" | "TRUE" | "True"));
    if !enforced {
        return Ok(());
    }
    let name = meta::name(account);
    for (place, secret) in secrets_used(pod) {
        if !names_in(account, "secrets").any(|listed| listed == secret) {
            return Err(format!(
                "{place} is not allowed because service account {name} does not reference that secret"
            ));
        }
    }
    for (index, secret) in names_in(pod.get("spec").unwrap_or(&Value::Null), "imagePullSecrets").enumerate() {
        if !names_in(account, "imagePullSecrets").any(|listed| listed == secret) {
            return Err(format!(
                "imagePullSecrets[{index}].name={secret:?} is not allowed because service account {name} does not reference that imagePullSecret"
            ));
        }
    }
    Ok(())
}
