//! Kinds that need more than their row: Jobs, PriorityClasses, CertificateSigningRequests, APIServices.

use http::Method;
use serde_json::{Value, json};

use super::world::{JSON, MERGE, World};

const JOBS: &str = "/apis/batch/v1/namespaces/default/jobs";
const PODS: &str = "/api/v1/namespaces/default/pods";
const CLASSES: &str = "/apis/scheduling.k8s.io/v1/priorityclasses";
const REQUESTS: &str = "/apis/certificates.k8s.io/v1/certificatesigningrequests";
const SERVICES: &str = "/apis/apiregistration.k8s.io/v1/apiservices";
const REQUEST: &str = include_str!("../../../api/src/validate/tests/request.b64");

fn job() -> Value {
    json!({"metadata": {"name": "j"}, "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "a", "image": "i"}]}}}})
}

fn pod(name: &str, class: &str) -> Value {
    json!({"metadata": {"name": name}, "spec": {"priorityClassName": class, "containers": [{"name": "a", "image": "i"}]}})
}

#[tokio::test]
async fn a_job_is_given_the_selector_of_its_own_pods_and_cannot_change_it() {
    let world = World::new().await;
    let made = world.post(JOBS, job()).await;
    assert_eq!(
        made.headers["warning"],
        "299 - \"jobs are stored, but no controller runs their pods yet\""
    );
    let made = made.ok();
    let uid = &made["metadata"]["uid"];
    assert_eq!(
        made["spec"]["selector"],
        json!({"matchLabels": {"batch.kubernetes.io/controller-uid": uid}})
    );
    let labels = &made["spec"]["template"]["metadata"]["labels"];
    assert_eq!(
        labels,
        &json!({"controller-uid": uid, "job-name": "j", "batch.kubernetes.io/controller-uid": uid, "batch.kubernetes.io/job-name": "j"})
    );
    let uri = format!("{JOBS}/j");
    let message = world
        .patch(MERGE, &uri, json!({"spec": {"completions": 5}}))
        .await
        .failed(422, "Invalid");
    assert_eq!(
        message,
        "Job.batch \"j\" is invalid: spec.completions: Invalid value: 5: field is immutable"
    );
    let status = json!({"status": {"succeeded": 1, "startTime": "2024-01-01T00:00:00Z"}});
    world.patch(MERGE, &format!("{uri}/status"), status).await.ok();
    for (selector, count) in [("status.successful=1", 1), ("status.successful=0", 0)] {
        let found = world.get(&format!("{JOBS}?fieldSelector={selector}")).await.ok();
        assert_eq!(found["items"].as_array().map(Vec::len), Some(count), "{selector}");
    }
    let mut manual = job();
    manual["metadata"]["name"] = "k".into();
    manual["spec"]["manualSelector"] = true.into();
    let message = world.post(JOBS, manual).await.failed(422, "Invalid");
    assert!(message.contains("spec.selector: Required value"), "{message}");
}

#[tokio::test]
async fn pods_get_the_priority_of_their_class() {
    let world = World::new().await;
    let message = world.post(PODS, pod("p", "none")).await.failed(403, "Forbidden");
    assert_eq!(
        message,
        "pods \"p\" is forbidden: no PriorityClass with name none was found"
    );
    let plain = world.post(PODS, pod("plain", "")).await.ok();
    assert_eq!(plain["spec"]["priority"], 0);
    let critical = world.post(PODS, pod("c", "system-node-critical")).await.ok();
    assert_eq!(critical["spec"]["priority"], 2_000_001_000);
    let class = |name: &str, value: i64, default: bool| json!({"metadata": {"name": name}, "value": value, "globalDefault": default, "preemptionPolicy": "Never"});
    world.post(CLASSES, class("usual", 10, true)).await.ok();
    let message = world
        .post(CLASSES, class("other", 20, true))
        .await
        .failed(403, "Forbidden");
    assert_eq!(
        message,
        "priorityclasses.scheduling.k8s.io \"other\" is forbidden: PriorityClass usual is already marked as default. Only one default can exist"
    );
    let made = world.post(PODS, pod("d", "")).await.ok();
    let spec = &made["spec"];
    assert_eq!(
        (&spec["priority"], &spec["priorityClassName"], &spec["preemptionPolicy"]),
        (&json!(10), &json!("usual"), &json!("Never"))
    );
    let mut asks = pod("e", "usual");
    asks["spec"]["priority"] = 11.into();
    let message = world.post(PODS, asks).await.failed(403, "Forbidden");
    assert!(message.ends_with("the integer value of priority (11) must not be provided in pod spec; priority admission controller computed 10 from the given PriorityClass name"));
    // A change that leaves out what the server gave keeps it.
    let mut again = made.clone();
    for given in ["priority", "preemptionPolicy"] {
        again["spec"].as_object_mut().expect("a spec").remove(given);
    }
    again["metadata"]["labels"] = json!({"a": "b"});
    let changed = world.put(&format!("{PODS}/d"), again).await.ok();
    assert_eq!(changed["spec"]["priority"], 10);
    let gone = world.delete(&format!("{CLASSES}/system-cluster-critical")).await;
    assert!(
        gone.failed(403, "Forbidden")
            .ends_with("this is a system priority class and cannot be deleted")
    );
}

#[tokio::test]
async fn a_request_for_a_certificate_is_approved_and_then_issued_each_in_its_place() {
    let world = World::new().await;
    let request = json!({"metadata": {"name": "r"}, "spec": {"request": REQUEST.trim(), "signerName": "example.com/s", "usages": ["client auth"]}});
    world.post(REQUESTS, request).await.ok();
    let uri = format!("{REQUESTS}/r");
    let approve = json!({"status": {"conditions": [{"type": "Approved", "status": "True", "reason": "Test"}], "certificate": "eA=="}});
    let message = world
        .patch(MERGE, &format!("{uri}/status"), approve.clone())
        .await
        .failed(422, "Invalid");
    assert!(message.contains("status.conditions: Forbidden: updates may not add a condition of type \"Approved\""));
    let approved = world.patch(MERGE, &format!("{uri}/approval"), approve).await.ok();
    assert_eq!(
        approved["status"],
        json!({"conditions": [{"type": "Approved", "status": "True", "reason": "Test",
            "lastUpdateTime": "2024-01-01T00:00:00Z", "lastTransitionTime": "2024-01-01T00:00:00Z"}]}),
        "approval issues nothing"
    );
    let table = world
        .ask(
            Method::GET,
            &uri,
            JSON,
            "application/json;as=Table;v=v1;g=meta.k8s.io",
            None,
        )
        .await
        .ok();
    assert_eq!(table["rows"][0]["cells"][5], "Approved");
    // What is asked for cannot be changed.
    let changed = world
        .patch(MERGE, &uri, json!({"spec": {"signerName": "example.com/t"}}))
        .await
        .ok();
    assert_eq!(changed["spec"]["signerName"], "example.com/s");
}

#[tokio::test]
async fn every_served_version_has_an_api_service_and_so_have_those_of_definitions() {
    let world = World::new().await;
    let core = world.get(&format!("{SERVICES}/v1.")).await.ok();
    assert_eq!(
        core["metadata"]["labels"]["kube-aggregator.kubernetes.io/automanaged"],
        "onstart"
    );
    assert_eq!(
        core["status"]["conditions"][0],
        json!({"type": "Available", "status": "True", "lastTransitionTime": "2024-01-01T00:00:00Z",
            "reason": "Local", "message": "Local APIServices are always available"})
    );
    world.get(&format!("{SERVICES}/v1.apps")).await.ok();
    let revision = core["metadata"]["resourceVersion"].as_str().expect("a revision");
    let definition = json!({"metadata": {"name": "widgets.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"kind": "Widget", "plural": "widgets"},
        "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]}});
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    world.post(definitions, definition).await.ok();
    world.delete(&format!("{definitions}/widgets.example.com")).await.ok();
    let watch = format!("{SERVICES}?watch=true&resourceVersion={revision}&fieldSelector=metadata.name=v1.example.com");
    let events = world.watch(&watch, 2).await;
    let told: Vec<&str> = events.iter().filter_map(|event| event["type"].as_str()).collect();
    assert_eq!(told, ["ADDED", "DELETED"]);
    let remote = json!({"metadata": {"name": "v1.remote.example.com"}, "spec": {"group": "remote.example.com", "version": "v1",
        "groupPriorityMinimum": 100, "versionPriority": 100, "service": {"name": "s", "namespace": "default"}}});
    let made = world.post(SERVICES, remote).await;
    assert!(
        made.headers["warning"]
            .to_str()
            .expect("text")
            .contains("not passed on")
    );
    assert_eq!(made.ok()["status"]["conditions"][0]["status"], "False");
}
