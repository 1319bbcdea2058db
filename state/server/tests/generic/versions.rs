//! One object in several versions: written in one, read, watched, patched and applied in another.

use http::Method;
use serde_json::{Value, json};

use crate::world::{APPLY, JSON, MERGE, World};

const V1: &str = "/apis/autoscaling/v1/namespaces/default/horizontalpodautoscalers";
const V2: &str = "/apis/autoscaling/v2/namespaces/default/horizontalpodautoscalers";
const EVENTS: &str = "/api/v1/namespaces/default/events";
const NEW_EVENTS: &str = "/apis/events.k8s.io/v1/namespaces/default/events";

fn target() -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"})
}

fn v1(name: &str) -> Value {
    json!({"apiVersion": "autoscaling/v1", "kind": "HorizontalPodAutoscaler", "metadata": {"name": name},
        "spec": {"scaleTargetRef": target(), "maxReplicas": 5, "targetCPUUtilizationPercentage": 60}})
}

fn cpu(percent: i64) -> Value {
    json!([{"type": "Resource", "resource": {"name": "cpu", "target": {"type": "Utilization", "averageUtilization": percent}}}])
}

fn entry<'o>(object: &'o Value, manager: &str) -> &'o Value {
    let entries = object["metadata"]["managedFields"].as_array().expect("entries");
    let found = entries.iter().find(|entry| entry["manager"] == manager);
    found.expect("an entry of the manager")
}

#[tokio::test]
async fn what_is_made_in_one_version_is_read_in_the_other() {
    let world = World::new().await;
    let made = world.post(V1, v1("a")).await;
    assert!(made.headers.get("warning").is_some(), "nothing attends to it");
    let made = made.ok();
    assert_eq!(made["apiVersion"], "autoscaling/v1");
    assert_eq!(made["spec"]["minReplicas"], 1);
    assert_eq!(world.get(&format!("{V1}/a")).await.ok(), made);
    let read = world.get(&format!("{V2}/a")).await.ok();
    assert_eq!(read["apiVersion"], "autoscaling/v2");
    assert_eq!(read["spec"]["metrics"], cpu(60));
    assert_eq!(read["metadata"]["resourceVersion"], made["metadata"]["resourceVersion"]);
    // Who wrote what stays said in the version that it was written in.
    let fields = entry(&read, "test");
    assert_eq!(fields["apiVersion"], "autoscaling/v1");
    assert!(fields["fieldsV1"]["f:spec"]["f:targetCPUUtilizationPercentage"].is_object());
    for (uri, version) in [(V1, "autoscaling/v1"), (V2, "autoscaling/v2")] {
        let list = world.get(uri).await.ok();
        assert_eq!(
            (&list["apiVersion"], &list["items"][0]["apiVersion"]),
            (&json!(version), &json!(version))
        );
        let again = world.post(uri, {
            let mut object = v1("a");
            object["apiVersion"] = version.into();
            if version == "autoscaling/v2" {
                object["spec"] = json!({"scaleTargetRef": target(), "maxReplicas": 5});
            }
            object
        });
        again.await.failed(409, "AlreadyExists");
    }
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json";
    for uri in [V1, V2] {
        let table = world.ask(Method::GET, uri, JSON, table, None).await.ok();
        assert_eq!(table["rows"][0]["cells"][2], "cpu: <unknown>/60%");
    }
}

#[tokio::test]
async fn a_change_in_one_version_keeps_what_only_the_other_can_say() {
    let world = World::new().await;
    let mut metrics = cpu(50);
    let pods = json!({"type": "Pods", "pods": {"metric": {"name": "queue"}, "target": {"type": "AverageValue", "averageValue": "10"}}});
    metrics.as_array_mut().expect("a list").insert(0, pods);
    let object = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"},
        "spec": {"scaleTargetRef": target(), "maxReplicas": 5, "metrics": metrics, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 30}}}});
    let made = world.post(V2, object).await.ok();
    let seen = world.get(&format!("{V1}/a")).await.ok();
    assert_eq!(seen["spec"]["targetCPUUtilizationPercentage"], 50);
    let patch = json!({"spec": {"maxReplicas": 7, "targetCPUUtilizationPercentage": 55}});
    world.patch(MERGE, &format!("{V1}/a"), patch).await.ok();
    let read = world.get(&format!("{V2}/a")).await.ok();
    assert_eq!(read["spec"]["maxReplicas"], 7);
    assert_eq!(read["spec"]["metrics"][0], made["spec"]["metrics"][0]);
    assert_eq!(read["spec"]["metrics"][1], cpu(55)[0]);
    assert_eq!(read["spec"]["behavior"], made["spec"]["behavior"]);
    assert_eq!(read["metadata"]["generation"], 2);
    // Read and written back in the other version, it is no change.
    let seen = world.get(&format!("{V1}/a")).await.ok();
    let same = world.put(&format!("{V1}/a"), seen.clone()).await.ok();
    assert_eq!(same["metadata"]["resourceVersion"], seen["metadata"]["resourceVersion"]);
    let status = json!({"status": {"currentReplicas": 3, "desiredReplicas": 3, "conditions": [
        {"type": "AbleToScale", "status": "True", "reason": "A", "message": "", "lastTransitionTime": "2024-01-01T00:00:00Z"}]}});
    let updated = world.patch(MERGE, &format!("{V2}/a/status"), status).await.ok();
    let mut bare = world.get(&format!("{V1}/a")).await.ok();
    bare["metadata"]["annotations"] = Value::Null;
    world.put(&format!("{V1}/a"), bare).await.ok();
    assert_eq!(world.get(&format!("{V2}/a")).await.ok()["status"], updated["status"]);
}

#[tokio::test]
async fn each_watch_shows_its_own_version() {
    let world = World::new().await;
    let start = world.get(V1).await.ok()["metadata"]["resourceVersion"].clone();
    let from = start.as_str().expect("a revision").to_owned();
    world.post(V1, v1("a")).await.ok();
    world
        .patch(MERGE, &format!("{V2}/a"), json!({"spec": {"maxReplicas": 6}}))
        .await
        .ok();
    world.delete(&format!("{V1}/a")).await.ok();
    for (uri, version) in [(V1, "autoscaling/v1"), (V2, "autoscaling/v2")] {
        let events = world.watch(&format!("{uri}?watch=1&resourceVersion={from}"), 3).await;
        let kinds: Vec<&Value> = events.iter().map(|event| &event["type"]).collect();
        assert_eq!(kinds, ["ADDED", "MODIFIED", "DELETED"]);
        for event in &events {
            assert_eq!(event["object"]["apiVersion"], version);
            assert_eq!(
                event["object"]["spec"].get("metrics").is_some(),
                version == "autoscaling/v2"
            );
        }
    }
}

#[tokio::test]
async fn managers_that_apply_in_two_versions_meet_where_the_fields_are_the_same() {
    let world = World::new().await;
    let apply = async |uri: &str, manager: &str, force: bool, object: &Value| {
        let uri = format!("{uri}/a?fieldManager={manager}&force={force}");
        world.patch(APPLY, &uri, object.clone()).await
    };
    let mut ann = v1("a");
    apply(V1, "ann", false, &ann).await.ok();
    let mut bob = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"},
        "spec": {"scaleTargetRef": target(), "maxReplicas": 5, "behavior": {"scaleUp": {"selectPolicy": "Min"}}}});
    // What both say in the same words is no conflict, in whatever version.
    let both = apply(V2, "bob", false, &bob).await.ok();
    assert_eq!(entry(&both, "ann")["apiVersion"], "autoscaling/v1");
    assert_eq!(entry(&both, "bob")["apiVersion"], "autoscaling/v2");
    assert_eq!(both["spec"]["metrics"], cpu(60));
    // What is one field in v1 and a list in v2 belongs to who said it in v1.
    bob["spec"]["metrics"] = cpu(70);
    let message = apply(V2, "bob", false, &bob).await.failed(409, "Conflict");
    assert!(
        message.contains("conflict with \"ann\": .spec.targetCPUUtilizationPercentage"),
        "{message}"
    );
    let taken = apply(V2, "bob", true, &bob).await.ok();
    assert_eq!(taken["spec"]["metrics"], cpu(70));
    assert!(
        entry(&taken, "ann")["fieldsV1"]["f:spec"]
            .get("f:targetCPUUtilizationPercentage")
            .is_none()
    );
    let seen = world.get(&format!("{V1}/a")).await.ok();
    assert_eq!(seen["spec"]["targetCPUUtilizationPercentage"], 70);
    // The other way round: v1 is told of the field as v2 has it.
    let message = apply(V1, "ann", false, &ann).await.failed(409, "Conflict");
    assert!(message.contains("conflict with \"bob\": .spec.metrics"), "{message}");
    ann["spec"] = json!({"scaleTargetRef": target(), "maxReplicas": 5});
    let left = apply(V1, "ann", false, &ann).await.ok();
    assert_eq!(left["spec"]["targetCPUUtilizationPercentage"], 70, "it is bob's now");
    // Applied again in the other version: what was said in the former and is not said now goes.
    let ann = json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "a"},
        "spec": {"scaleTargetRef": target(), "maxReplicas": 5, "minReplicas": 2}});
    let moved = apply(V2, "ann", true, &ann).await.ok();
    assert_eq!(entry(&moved, "ann")["apiVersion"], "autoscaling/v2");
    assert_eq!(moved["spec"]["minReplicas"], 2);
    assert_eq!(moved["spec"]["metrics"], cpu(70));
}

#[tokio::test]
async fn an_event_is_written_and_selected_by_either_group() {
    let world = World::new().await;
    let new = |name: &str, pod: &str| {
        json!({"apiVersion": "events.k8s.io/v1", "kind": "Event", "metadata": {"name": name},
        "regarding": {"kind": "Pod", "name": pod, "namespace": "default"}, "eventTime": "2024-01-01T00:00:00.000000Z",
        "reportingController": "k8s.io/agent", "reportingInstance": "one", "action": "Start", "reason": "Started", "note": "it runs",
        "type": "Normal"})
    };
    let old = json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "old"}, "reason": "Killing", "message": "it goes",
        "involvedObject": {"kind": "Pod", "name": "p", "namespace": "default"}, "source": {"component": "agent"}, "type": "Normal",
        "count": 1, "firstTimestamp": "2024-01-01T00:00:00Z", "lastTimestamp": "2024-01-01T00:00:00Z"});
    world.post(NEW_EVENTS, new("e", "p")).await.ok();
    world.post(NEW_EVENTS, new("other", "q")).await.ok();
    world.post(EVENTS, old).await.ok();
    let names = |list: Value| -> Vec<String> {
        let items = list["items"].as_array().expect("items").clone();
        items
            .iter()
            .map(|item| item["metadata"]["name"].as_str().expect("a name").to_owned())
            .collect()
    };
    let selected = async |uri: String| names(world.get(&uri).await.ok());
    assert_eq!(
        selected(format!("{EVENTS}?fieldSelector=involvedObject.name=p")).await,
        ["e", "old"]
    );
    assert_eq!(
        selected(format!("{NEW_EVENTS}?fieldSelector=regarding.name=p,reason=Started")).await,
        ["e"]
    );
    assert_eq!(selected(format!("{EVENTS}?fieldSelector=source=agent")).await, ["old"]);
    let wrong = world
        .get(&format!("{EVENTS}?fieldSelector=regarding.name=p"))
        .await
        .failed(400, "BadRequest");
    assert_eq!(wrong, "field label not supported: regarding.name");
    let seen = world.get(&format!("{EVENTS}/e")).await.ok();
    assert_eq!(
        (&seen["apiVersion"], &seen["message"]),
        (&json!("v1"), &json!("it runs"))
    );
    let seen = world.get(&format!("{NEW_EVENTS}/old")).await.ok();
    assert_eq!(
        (&seen["note"], &seen["deprecatedCount"]),
        (&json!("it goes"), &json!(1))
    );
    let series = json!({"series": {"count": 2, "lastObservedTime": "2024-01-01T00:00:05.000000Z"}});
    let patched = world.patch(MERGE, &format!("{NEW_EVENTS}/e"), series).await.ok();
    assert_eq!(patched["series"]["count"], 2);
    world
        .patch(MERGE, &format!("{NEW_EVENTS}/e"), json!({"note": "else"}))
        .await
        .failed(422, "Invalid");
}
