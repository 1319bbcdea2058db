//! What a pod's RuntimeClass gives it when it is made: overhead, and where it may be placed.

use serde_json::{Value, json};
use setpoint_api::{Status, meta};

use crate::cache::Cache;

/// The kind in the cache.
const RESOURCE: &str = "node.k8s.io/runtimeclasses";

/// Merges a pod's RuntimeClass into it.
///
/// # Errors
/// 403 in Kubernetes' words when there is no such class, and when the pod contradicts it.
pub(crate) fn admit_pod(cache: &Cache, pod: &mut Value) -> Result<(), Status> {
    let name = meta::name(pod).to_owned();
    let refuse = |why: String| Status::forbidden("", "pods", &name, &format!("pod rejected: {why}"));
    let wanted = meta::str_at(pod, &["spec", "runtimeClassName"]).to_owned();
    let class = if wanted.is_empty() {
        json!({})
    } else {
        let found = cache.get(RESOURCE, "", &wanted);
        let missing = || refuse(format!("RuntimeClass \"{wanted}\" not found"));
        found.ok_or_else(missing)?.value()
    };
    merge(pod, &class).map_err(refuse)
}

fn merge(pod: &mut Value, class: &Value) -> Result<(), String> {
    let spec = meta::map_mut(meta::map_of(pod), "spec");
    let own = spec
        .get("overhead")
        .filter(|own| own.as_object().is_some_and(|own| !own.is_empty()));
    match class.pointer("/overhead/podFixed") {
        Some(fixed) if own.is_some_and(|own| own != fixed) => {
            return Err("Pod's Overhead doesn't match RuntimeClass's defined Overhead".to_owned());
        }
        Some(fixed) => {
            spec.insert("overhead".to_owned(), fixed.clone());
        }
        None if own.is_some() => {
            return Err("Pod Overhead set without corresponding RuntimeClass defined Overhead".to_owned());
        }
        None => {}
    }
    let selectors = class.pointer("/scheduling/nodeSelector").and_then(Value::as_object);
    for (key, value) in selectors.into_iter().flatten() {
        let map = meta::map_mut(spec, "nodeSelector");
        match map.get(key) {
            Some(own) if own != value => {
                let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                let (theirs, own) = (text(value), text(own));
                return Err(format!(
                    "conflict: runtimeClass.scheduling.nodeSelector[{key}] = {theirs}; pod.spec.nodeSelector[{key}] = {own}"
                ));
            }
            _ => {
                map.insert(key.clone(), value.clone());
            }
        }
    }
    let tolerations = class.pointer("/scheduling/tolerations").and_then(Value::as_array);
    for toleration in tolerations.into_iter().flatten() {
        let list = spec.entry("tolerations").or_insert_with(|| json!([]));
        if let Some(list) = list.as_array_mut().filter(|list| !list.contains(toleration)) {
            list.push(toleration.clone());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class() -> Value {
        json!({"handler": "setpoint", "overhead": {"podFixed": {"memory": "64Mi"}},
            "scheduling": {"nodeSelector": {"kind": "a"}, "tolerations": [{"key": "k", "operator": "Exists"}]}})
    }

    #[test]
    fn a_pod_takes_over_what_its_class_says() {
        let mut pod = json!({"spec": {"tolerations": [{"key": "own"}]}});
        merge(&mut pod, &class()).expect("merged");
        assert_eq!(
            pod["spec"],
            json!({"overhead": {"memory": "64Mi"}, "nodeSelector": {"kind": "a"},
                "tolerations": [{"key": "own"}, {"key": "k", "operator": "Exists"}]})
        );
        let once = pod.clone();
        merge(&mut pod, &class()).expect("merged");
        assert_eq!(pod, once);
    }

    #[test]
    fn what_contradicts_the_class_is_refused() {
        let refused = |spec: Value, class: &Value| merge(&mut json!({"spec": spec}), class).expect_err("refused");
        let other = json!({"overhead": {"memory": "1Mi"}});
        assert!(refused(other.clone(), &class()).contains("doesn't match"));
        assert!(refused(other, &json!({})).contains("without corresponding RuntimeClass"));
        assert_eq!(
            refused(json!({"nodeSelector": {"kind": "b"}}), &class()),
            "conflict: runtimeClass.scheduling.nodeSelector[kind] = a; pod.spec.nodeSelector[kind] = b"
        );
    }
}
