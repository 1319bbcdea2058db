//! What is written through paths of its own: evictions within a budget, bindings by name, parts of a pod.

use serde_json::{Value, json};

use crate::world::{MERGE, STRATEGIC, World};
use crate::{PODS, pod};

const BUDGETS: &str = "/apis/policy/v1/namespaces/default/poddisruptionbudgets";

fn budget(name: &str, app: &str) -> Value {
    json!({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": name},
        "spec": {"minAvailable": 1, "selector": {"matchLabels": {"app": app}}}})
}

async fn running(world: &World, name: &str, ready: &str) {
    let mut object = pod(name);
    object["metadata"]["labels"]["app"] = "web".into();
    object["spec"]["nodeName"] = "one".into();
    world.post(PODS, object).await.ok();
    let status = json!({"status": {"phase": "Running", "conditions": [{"type": "Ready", "status": ready}]}});
    world.patch(MERGE, &format!("{PODS}/{name}/status"), status).await.ok();
}

async fn allow(world: &World, allowed: i64, healthy: i64) {
    let status = json!({"status": {"observedGeneration": 1, "disruptionsAllowed": allowed, "currentHealthy": healthy,
        "desiredHealthy": 1, "expectedPods": 2}});
    world.patch(MERGE, &format!("{BUDGETS}/b/status"), status).await.ok();
}

fn eviction(name: &str) -> Value {
    json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name}})
}

#[tokio::test]
async fn an_eviction_takes_a_disruption_from_the_budget_and_is_refused_without_one() {
    let world = World::new().await;
    running(&world, "one", "True").await;
    running(&world, "two", "True").await;
    let uri = |name: &str| format!("{PODS}/{name}/eviction");
    world.post(BUDGETS, budget("b", "web")).await.ok();
    let refused = world.post(&uri("one"), eviction("one")).await;
    assert_eq!(refused.headers["retry-after"], "10");
    assert_eq!(
        refused.body["details"]["causes"],
        json!([{"reason": "DisruptionBudget", "message": "The disruption budget b is still being processed by the server."}])
    );
    refused.failed(429, "TooManyRequests");
    allow(&world, 1, 2).await;
    let mut trial = eviction("one");
    trial["deleteOptions"] = json!({"dryRun": ["All"]});
    world.post(&uri("one"), trial).await.ok();
    let untouched = world.get(&format!("{BUDGETS}/b")).await.ok();
    assert_eq!(untouched["status"]["disruptionsAllowed"], 1);
    assert_eq!(world.post(&uri("one"), eviction("one")).await.code, 201);
    let going = world.get(&format!("{PODS}/one")).await.ok();
    assert!(going["metadata"]["deletionTimestamp"].is_string());
    let conditions = going["status"]["conditions"].as_array().expect("conditions");
    let target = conditions
        .iter()
        .find(|condition| condition["type"] == "DisruptionTarget")
        .expect("why it goes");
    assert_eq!(target["reason"], "EvictionByEvictionAPI");
    let spent = world.get(&format!("{BUDGETS}/b")).await.ok();
    assert_eq!(spent["status"]["disruptionsAllowed"], 0);
    assert!(spent["status"]["disruptedPods"]["one"].is_string());
    assert_eq!(spent["status"]["conditions"][0]["reason"], "InsufficientPods");
    let refused = world.post(&uri("two"), eviction("two")).await;
    assert_eq!(
        refused.body["details"]["causes"],
        json!([{"reason": "DisruptionBudget", "message": "The disruption budget b needs 1 healthy pods and has 2 currently"}])
    );
    let message = refused.failed(429, "TooManyRequests");
    assert_eq!(
        message,
        "Cannot evict pod as it would violate the pod's disruption budget."
    );
    // A pod that goes already is not asked for again.
    assert_eq!(world.post(&uri("one"), eviction("one")).await.code, 201);
}

#[tokio::test]
async fn a_pod_that_is_not_ready_goes_when_enough_others_are() {
    let world = World::new().await;
    running(&world, "sick", "False").await;
    world.post(BUDGETS, budget("b", "web")).await.ok();
    allow(&world, 0, 0).await;
    let uri = format!("{PODS}/sick/eviction");
    world.post(&uri, eviction("sick")).await.failed(429, "TooManyRequests");
    allow(&world, 0, 1).await;
    world.post(&uri, eviction("sick")).await.ok();
}

#[tokio::test]
async fn two_budgets_of_one_pod_are_an_error() {
    let world = World::new().await;
    running(&world, "one", "True").await;
    for name in ["b", "c"] {
        world.post(BUDGETS, budget(name, "web")).await.ok();
    }
    let refused = world.post(&format!("{PODS}/one/eviction"), eviction("one")).await;
    assert_eq!(refused.code, 500);
    assert_eq!(
        refused.body["message"],
        "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support."
    );
}

#[tokio::test]
async fn a_binding_says_itself_which_pod_it_is_about() {
    let world = World::new().await;
    world.post(PODS, pod("p")).await.ok();
    let uri = "/api/v1/namespaces/default/bindings";
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "one"}});
    assert_eq!(world.post(uri, binding.clone()).await.code, 201);
    assert_eq!(world.get(&format!("{PODS}/p")).await.ok()["spec"]["nodeName"], "one");
    world.post(uri, binding).await.failed(409, "Conflict");
    let absent = json!({"metadata": {"name": "x"}, "target": {"name": "one"}});
    world.post(uri, absent).await.failed(404, "NotFound");
}

#[tokio::test]
async fn a_part_of_a_pod_is_written_by_its_own_path_and_owned_so() {
    let world = World::new().await;
    world.post(PODS, pod("p")).await.ok();
    let uri = format!("{PODS}/p/ephemeralcontainers");
    let patch =
        json!({"spec": {"ephemeralContainers": [{"name": "debug", "image": "busybox"}], "hostname": "ignored"}});
    let patched = world.patch(STRATEGIC, &uri, patch).await.ok();
    assert_eq!(
        patched["spec"]["ephemeralContainers"][0]["terminationMessagePolicy"],
        "File"
    );
    assert_eq!(patched["spec"].get("hostname"), None);
    assert_eq!(patched["metadata"]["generation"], 2);
    let entries = patched["metadata"]["managedFields"].as_array().expect("entries");
    assert!(
        entries
            .iter()
            .any(|entry| entry["subresource"] == "ephemeralcontainers")
    );
    assert_eq!(world.get(&uri).await.ok()["spec"], patched["spec"]);
    let gone = json!({"spec": {"ephemeralContainers": null}});
    let message = world.patch(MERGE, &uri, gone).await.failed(422, "Invalid");
    assert!(
        message.contains("existing ephemeral containers \"debug\" may not be removed"),
        "{message}"
    );
    let resize = json!({"spec": {"containers": [{"name": "main", "resources": {"requests": {"cpu": "1"}}}]}});
    let message = world
        .patch(STRATEGIC, &format!("{PODS}/p/resize"), resize)
        .await
        .failed(422, "Invalid");
    assert!(
        message.contains("Pod QOS Class may not change as a result of resizing"),
        "{message}"
    );
}

#[tokio::test]
async fn a_claim_gets_the_default_class_and_waits() {
    let world = World::new().await;
    let class = |name: &str, default: &str| {
        json!({"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "provisioner": "example.com/disk",
        "metadata": {"name": name, "annotations": {"storageclass.kubernetes.io/is-default-class": default}}})
    };
    for (name, default) in [("slow", "false"), ("fast", "true")] {
        world
            .post("/apis/storage.k8s.io/v1/storageclasses", class(name, default))
            .await
            .ok();
    }
    let claim = json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "c"},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1024Mi"}}}});
    let made = world
        .post("/api/v1/namespaces/default/persistentvolumeclaims", claim)
        .await
        .ok();
    assert_eq!(made["spec"]["storageClassName"], "fast");
    assert_eq!(made["spec"]["resources"]["requests"]["storage"], "1Gi");
    assert_eq!(made["status"], json!({"phase": "Pending"}));
    let volume = json!({"apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": "v"},
        "spec": {"accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "hostPath": {"path": "/data"}}});
    let made = world.post("/api/v1/persistentvolumes", volume).await.ok();
    assert_eq!(
        made["status"],
        json!({"phase": "Pending", "lastPhaseTransitionTime": "2024-01-01T00:00:00Z"})
    );
}

#[tokio::test]
async fn there_are_no_component_statuses_and_whoever_lists_them_is_told_so() {
    let world = World::new().await;
    let list = world.get("/api/v1/componentstatuses").await;
    let warning = list.headers["warning"].to_str().expect("text").to_owned();
    assert!(
        warning.contains("v1 ComponentStatus is deprecated in v1.19+"),
        "{warning}"
    );
    assert_eq!(list.ok()["items"], json!([]));
}

#[tokio::test]
async fn a_budget_with_an_empty_selector_is_about_every_pod_and_one_without_about_none() {
    let world = World::new().await;
    running(&world, "one", "True").await;
    let uri = format!("{PODS}/one/eviction");
    let with = |name: &str, selector: Value| {
        let mut object = budget(name, "x");
        object["spec"]["selector"] = selector;
        object
    };
    world.post(BUDGETS, with("none", Value::Null)).await.ok();
    let mut trial = eviction("one");
    trial["deleteOptions"] = json!({"dryRun": ["All"]});
    assert_eq!(world.post(&uri, trial.clone()).await.code, 201);
    world.post(BUDGETS, with("b", json!({}))).await.ok();
    world.post(&uri, trial).await.failed(429, "TooManyRequests");
}
