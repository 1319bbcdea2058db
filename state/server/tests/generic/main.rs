//! The generic path from outside: every operation, over a real log.

mod accounts;
mod damage;
mod definitions;
mod deleting;
mod disruption;
mod heartbeat;
mod identity;
mod kinds;
mod listing;
mod metadata;
mod ownership;
mod versions;
mod wire;
mod world;

use http::Method;
use serde_json::{Value, json};
use world::{APPLY, JSON, MERGE, STRATEGIC, World};

const MAPS: &str = "/api/v1/namespaces/default/configmaps";
const PODS: &str = "/api/v1/namespaces/default/pods";
const DEPLOYMENTS: &str = "/apis/apps/v1/namespaces/default/deployments";

fn map(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"a": "1"}})
}

fn pod(name: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": {"app": name}},
        "spec": {"containers": [{"name": "main", "image": "image"}]}})
}

fn deployment(name: &str) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": {
        "replicas": 3, "selector": {"matchLabels": {"app": "a"}},
        "template": {"metadata": {"labels": {"app": "a"}}, "spec": {"containers": [{"name": "main", "image": "image:1"}]}}}})
}

fn revision(object: &Value) -> String {
    object["metadata"]["resourceVersion"]
        .as_str()
        .expect("a revision")
        .to_owned()
}

#[tokio::test]
async fn an_object_is_created_read_replaced_and_deleted() {
    let world = World::new().await;
    let made = world.post(MAPS, map("m")).await;
    assert_eq!(made.code, 201);
    let made = made.ok();
    assert!(!made["metadata"]["uid"].as_str().expect("a uid").is_empty());
    assert_eq!(made["metadata"]["managedFields"][0]["manager"], "test");
    let mut read = world.get(&format!("{MAPS}/m")).await.ok();
    assert_eq!(read, made);
    let again = world.post(MAPS, map("m")).await.failed(409, "AlreadyExists");
    assert_eq!(again, "configmaps \"m\" already exists");
    let same = world.put(&format!("{MAPS}/m"), read.clone()).await.ok();
    assert_eq!(
        revision(&same),
        revision(&read),
        "an update that changes nothing is not written"
    );
    read["data"]["a"] = "2".into();
    let changed = world.put(&format!("{MAPS}/m"), read.clone()).await.ok();
    assert_ne!(revision(&changed), revision(&read));
    read["data"]["a"] = "3".into();
    let message = world.put(&format!("{MAPS}/m"), read).await.failed(409, "Conflict");
    assert_eq!(
        message,
        "Operation cannot be fulfilled on configmaps \"m\": the object has been modified; please apply your changes to the latest version and try again"
    );
    let gone = world.delete(&format!("{MAPS}/m")).await.ok();
    assert_eq!(gone["status"], "Success");
    assert_eq!(
        world.get(&format!("{MAPS}/m")).await.failed(404, "NotFound"),
        "configmaps \"m\" not found"
    );
    let nowhere = world.post("/api/v1/namespaces/nowhere/configmaps", map("m")).await;
    assert_eq!(nowhere.failed(404, "NotFound"), "namespaces \"nowhere\" not found");
    let named = world.post(MAPS, json!({"metadata": {"generateName": "m-"}})).await.ok();
    assert_eq!(named["metadata"]["name"].as_str().map(str::len), Some(7));
}

#[tokio::test]
async fn a_dry_run_and_strict_fields_write_nothing() {
    let world = World::new().await;
    world.post(&format!("{MAPS}?dryRun=All"), map("m")).await.ok();
    world.get(&format!("{MAPS}/m")).await.failed(404, "NotFound");
    let mut wrong = map("m");
    wrong["dataa"] = json!({});
    let message = world
        .post(&format!("{MAPS}?fieldValidation=Strict"), wrong.clone())
        .await
        .failed(400, "BadRequest");
    assert!(message.contains("unknown field \"dataa\""), "{message}");
    let warned = world.post(MAPS, wrong).await;
    assert_eq!(warned.code, 201);
    assert_eq!(warned.headers["warning"], "299 - \"unknown field \\\"dataa\\\"\"");
    assert!(warned.body.get("dataa").is_none());
}

#[tokio::test]
async fn all_four_patches_change_an_object() {
    let world = World::new().await;
    world.post(DEPLOYMENTS, deployment("d")).await.ok();
    let uri = format!("{DEPLOYMENTS}/d");
    let patch = json!([{"op": "replace", "path": "/spec/replicas", "value": 2}]);
    let patched = world.patch("application/json-patch+json", &uri, patch).await.ok();
    assert_eq!(
        (&patched["spec"]["replicas"], &patched["metadata"]["generation"]),
        (&json!(2), &json!(2))
    );
    let patched = world
        .patch(MERGE, &uri, json!({"metadata": {"labels": {"x": "y"}}}))
        .await
        .ok();
    assert_eq!(
        (&patched["metadata"]["labels"]["x"], &patched["metadata"]["generation"]),
        (&json!("y"), &json!(2))
    );
    let image = json!({"spec": {"template": {"spec": {"containers": [{"name": "main", "image": "image:2"}]}}}});
    let patched = world.patch(STRATEGIC, &uri, image).await.ok();
    let container = &patched["spec"]["template"]["spec"]["containers"][0];
    assert_eq!(
        (&container["image"], &container["name"]),
        (&json!("image:2"), &json!("main"))
    );
    let applied =
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "d"}, "spec": {"replicas": 5}});
    let message = world
        .patch(APPLY, &format!("{uri}?fieldManager=other"), applied.clone())
        .await
        .failed(409, "Conflict");
    assert!(message.contains(".spec.replicas"), "{message}");
    let forced = world
        .patch(APPLY, &format!("{uri}?fieldManager=other&force=true"), applied)
        .await
        .ok();
    assert_eq!(forced["spec"]["replicas"], 5);
    let fresh = world
        .patch(APPLY, &format!("{DEPLOYMENTS}/e?fieldManager=me"), deployment("e"))
        .await;
    assert_eq!(fresh.code, 201);
    assert_eq!(fresh.body["metadata"]["managedFields"][0]["operation"], "Apply");
    world
        .patch("text/plain", &uri, json!({}))
        .await
        .failed(415, "UnsupportedMediaType");
}

#[tokio::test]
async fn status_and_the_rest_are_written_apart_and_scale_changes_replicas() {
    let world = World::new().await;
    let mut made = world.post(DEPLOYMENTS, deployment("d")).await.ok();
    made["status"] = json!({"replicas": 1});
    made["spec"]["replicas"] = 7.into();
    let status = world.put(&format!("{DEPLOYMENTS}/d/status"), made).await.ok();
    assert_eq!(
        (&status["status"]["replicas"], &status["spec"]["replicas"]),
        (&json!(1), &json!(3))
    );
    let main = world
        .patch(MERGE, &format!("{DEPLOYMENTS}/d"), json!({"status": {"replicas": 9}}))
        .await
        .ok();
    assert_eq!(main["status"]["replicas"], 1);
    let scale = world.get(&format!("{DEPLOYMENTS}/d/scale")).await.ok();
    assert_eq!(scale["status"], json!({"replicas": 1, "selector": "app=a"}));
    let scaled = world
        .patch(
            MERGE,
            &format!("{DEPLOYMENTS}/d/scale"),
            json!({"spec": {"replicas": 4}}),
        )
        .await
        .ok();
    assert_eq!(
        (&scaled["kind"], &scaled["spec"]["replicas"]),
        (&json!("Scale"), &json!(4))
    );
    assert_eq!(world.get(&format!("{DEPLOYMENTS}/d")).await.ok()["spec"]["replicas"], 4);
}

#[tokio::test]
async fn a_list_in_pages_stays_at_the_revision_of_its_first_page() {
    let world = World::new().await;
    for name in ["a", "b", "c", "d", "e"] {
        world.post(MAPS, map(name)).await.ok();
    }
    let first = world.get(&format!("{MAPS}?limit=2")).await.ok();
    assert_eq!(first["metadata"]["remainingItemCount"], 3);
    world.delete(&format!("{MAPS}/d")).await.ok();
    world.post(MAPS, map("cc")).await.ok();
    let token = first["metadata"]["continue"].as_str().expect("a token");
    let second = world.get(&format!("{MAPS}?limit=10&continue={token}")).await.ok();
    let names: Vec<_> = second["items"]
        .as_array()
        .expect("items")
        .iter()
        .map(|item| item["metadata"]["name"].clone())
        .collect();
    assert_eq!(names, ["c", "d", "e"]);
    assert_eq!(revision(&second), revision(&first));
}

#[tokio::test]
async fn a_watch_begins_with_what_there_is_and_resumes_where_it_ended() {
    let world = World::new().await;
    let made = world.post(PODS, pod("a")).await.ok();
    let uri = format!("{PODS}?watch=1&labelSelector=app%3Da&allowWatchBookmarks=true&timeoutSeconds=30");
    let begun = format!("{uri}&sendInitialEvents=true&resourceVersionMatch=NotOlderThan");
    let events = world.watch(&begun, 2).await;
    assert_eq!(
        (&events[0]["type"], &events[1]["type"]),
        (&json!("ADDED"), &json!("BOOKMARK"))
    );
    assert_eq!(
        events[1]["object"]["metadata"]["annotations"]["k8s.io/initial-events-end"],
        "true"
    );
    // It ceases to match, matches again, and goes.
    for label in ["b", "a"] {
        world
            .patch(
                MERGE,
                &format!("{PODS}/a"),
                json!({"metadata": {"labels": {"app": label}}}),
            )
            .await
            .ok();
    }
    world.delete(&format!("{PODS}/a")).await.ok();
    let events = world
        .watch(&format!("{uri}&resourceVersion={}", revision(&made)), 3)
        .await;
    let kinds: Vec<_> = events.iter().map(|event| event["type"].clone()).collect();
    assert_eq!(kinds, ["DELETED", "ADDED", "DELETED"]);
    // From before anything in memory: out of the log.
    let events = world.watch(&format!("{PODS}?watch=1&resourceVersion=1"), 4).await;
    assert_eq!(events[3]["type"], "DELETED");
    let future = world.watch(&format!("{PODS}?watch=1&resourceVersion=99999"), 2).await;
    assert_eq!((future.len(), &future[0]["object"]["code"]), (1, &json!(410)));
}

#[tokio::test]
async fn finalizers_hold_and_propagation_asks_for_them() {
    let world = World::new().await;
    let mut held = map("m");
    held["metadata"]["finalizers"] = json!(["example.com/hold"]);
    world.post(MAPS, held).await.ok();
    let going = world
        .delete(&format!("{MAPS}/m?propagationPolicy=Foreground"))
        .await
        .ok();
    assert_eq!(
        going["metadata"]["finalizers"],
        json!(["example.com/hold", "foregroundDeletion"])
    );
    assert!(going["metadata"]["deletionTimestamp"].is_string());
    world
        .patch(MERGE, &format!("{MAPS}/m"), json!({"metadata": {"finalizers": null}}))
        .await
        .ok();
    world.get(&format!("{MAPS}/m")).await.failed(404, "NotFound");
}

#[tokio::test]
async fn a_bound_pod_is_given_time_and_a_namespace_is_emptied_first() {
    let world = World::new().await;
    world.post(PODS, pod("p")).await.ok();
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "box"}});
    assert_eq!(
        world.post(&format!("{PODS}/p/binding"), binding.clone()).await.code,
        201
    );
    world
        .post(&format!("{PODS}/p/binding"), binding)
        .await
        .failed(409, "Conflict");
    let eviction = json!({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}});
    world.post(&format!("{PODS}/p/eviction"), eviction).await.ok();
    let going = world.get(&format!("{PODS}/p")).await.ok();
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 30);
    world.delete(&format!("{PODS}/p?gracePeriodSeconds=0")).await.ok();
    world.get(&format!("{PODS}/p")).await.failed(404, "NotFound");

    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}});
    world.post("/api/v1/namespaces", namespace).await.ok();
    let mut going = world.delete("/api/v1/namespaces/n").await.ok();
    assert_eq!(going["status"]["phase"], "Terminating");
    let again = world.delete("/api/v1/namespaces/n?propagationPolicy=Foreground").await;
    assert_eq!(again.ok(), going, "it was asked for before");
    let message = world
        .post("/api/v1/namespaces/n/configmaps", map("m"))
        .await
        .failed(403, "Forbidden");
    assert!(
        message.ends_with("unable to create new content in namespace n because it is being terminated"),
        "{message}"
    );
    going["spec"]["finalizers"] = json!([]);
    world.put("/api/v1/namespaces/n/finalize", going).await.ok();
    world.get("/api/v1/namespaces/n").await.failed(404, "NotFound");
}

#[tokio::test]
async fn services_get_addresses_and_ports_that_no_other_has() {
    let world = World::new().await;
    let uri = "/api/v1/namespaces/default/services";
    let own = world.get(&format!("{uri}/kubernetes")).await.ok();
    assert_eq!(own["spec"]["clusterIP"], "10.96.0.1");
    let service = |name: &str| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name},
            "spec": {"type": "NodePort", "selector": {"app": "a"}, "ports": [{"port": 80}]}})
    };
    let (a, b) = tokio::join!(world.post(uri, service("a")), world.post(uri, service("b")));
    let (mut a, b) = (a.ok(), b.ok());
    assert_ne!(a["spec"]["clusterIP"], b["spec"]["clusterIP"]);
    assert_ne!(a["spec"]["ports"][0]["nodePort"], b["spec"]["ports"][0]["nodePort"]);
    let mut taken = service("c");
    taken["spec"]["clusterIP"] = a["spec"]["clusterIP"].clone();
    world.post(uri, taken).await.failed(422, "Invalid");
    let before = a["spec"]["clusterIP"].clone();
    for field in ["clusterIP", "clusterIPs"] {
        a["spec"].as_object_mut().expect("a spec").remove(field);
    }
    assert_eq!(
        world.put(&format!("{uri}/a"), a).await.ok()["spec"]["clusterIP"],
        before
    );
    // A manifest that is put in place of the service says neither its uid nor its address.
    let again = world.put(&format!("{uri}/a"), service("a")).await.ok();
    assert_eq!(again["spec"]["clusterIP"], before);
    let mut outside = service("d");
    outside["spec"]["clusterIP"] = "10.97.0.1".into();
    let message = world.post(uri, outside).await.failed(422, "Invalid");
    assert!(
        message.contains("failed to allocate IP 10.97.0.1: the provided IP (10.97.0.1) is not in the valid range. The range of valid IPs is 10.96.0.0/24"),
        "{message}"
    );
}

#[tokio::test]
async fn a_load_balanced_service_whose_traffic_stays_local_has_a_port_for_health_checks() {
    let world = World::new().await;
    let uri = "/api/v1/namespaces/default/services";
    let service = |name: &str, policy: &str, port: u16| {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": {"type": "LoadBalancer",
            "externalTrafficPolicy": policy, "healthCheckNodePort": port, "ports": [{"port": 80}]}})
    };
    let given = world.post(uri, service("a", "Local", 0)).await.ok();
    let port = given["spec"]["healthCheckNodePort"].clone();
    assert_ne!(port, given["spec"]["ports"][0]["nodePort"]);
    assert!((30_000..32_768).contains(&port.as_i64().expect("a port")));
    let again = world.put(&format!("{uri}/a"), service("a", "Local", 0)).await.ok();
    assert_eq!(again["spec"]["healthCheckNodePort"], port, "it keeps it");
    let taken = u16::try_from(port.as_i64().expect("a port")).expect("a port");
    let message = world
        .post(uri, service("b", "Local", taken))
        .await
        .failed(422, "Invalid");
    assert!(message.contains("provided port is already allocated"), "{message}");
    let cluster = world.put(&format!("{uri}/a"), service("a", "Cluster", 0)).await.ok();
    assert!(cluster["spec"]["healthCheckNodePort"].is_null());
    world.post(uri, service("b", "Local", taken)).await.ok();
}

#[tokio::test]
async fn a_definition_serves_its_kind_until_it_is_deleted() {
    let world = World::new().await;
    let definitions = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"kind": "Widget", "plural": "widgets"},
            "versions": [
                {"name": "v1", "served": true, "storage": true, "subresources": {"status": {}}, "schema": {"openAPIV3Schema": {
                    "type": "object", "properties": {"spec": {"type": "object", "properties": {"size": {"type": "integer", "default": 3, "minimum": 1}}}}}}},
                {"name": "v2", "served": true, "storage": false, "schema": {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": true}}}]},
    });
    let made = world.post(definitions, definition).await.ok();
    assert_eq!(made["status"]["acceptedNames"]["listKind"], "WidgetList");
    let widgets = "/apis/example.com/v1/namespaces/default/widgets";
    let widget = |spec: Value| json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec});
    world
        .post(widgets, widget(json!({"size": 0})))
        .await
        .failed(422, "Invalid");
    let made = world.post(widgets, widget(json!({"colour": "red"}))).await.ok();
    assert_eq!(made["spec"], json!({"size": 3}), "defaulted and pruned");
    let other = world
        .get("/apis/example.com/v2/namespaces/default/widgets/w")
        .await
        .ok();
    assert_eq!(other["apiVersion"], "example.com/v2");
    world.delete(&format!("{definitions}/widgets.example.com")).await.ok();
    let uri = format!("{definitions}?watch=1&fieldSelector=metadata.name%3Dwidgets.example.com");
    let mut events = world.watch(&uri, 1).await;
    if events.first().is_some_and(|event| event["type"] != "DELETED")
        && world.get(&format!("{definitions}/widgets.example.com")).await.code != 404
    {
        let from = revision(&events[0]["object"]);
        events = world.watch(&format!("{uri}&resourceVersion={from}"), 1).await;
        assert_eq!(events[0]["type"], "DELETED");
    }
    world.get(widgets).await.failed(404, "NotFound");
}

#[tokio::test]
async fn tables_and_metadata_are_given_to_who_asks() {
    let world = World::new().await;
    world.post(PODS, pod("p")).await.ok();
    let table = world
        .ask(
            Method::GET,
            PODS,
            JSON,
            "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
            None,
        )
        .await
        .ok();
    assert_eq!(
        (&table["kind"], &table["rows"][0]["cells"][0]),
        (&json!("Table"), &json!("p"))
    );
    let partial = world
        .ask(
            Method::GET,
            PODS,
            JSON,
            "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io",
            None,
        )
        .await
        .ok();
    assert_eq!(
        (&partial["kind"], &partial["items"][0]["metadata"]["name"]),
        (&json!("PartialObjectMetadataList"), &json!("p"))
    );
    assert!(partial["items"][0].get("spec").is_none());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_hundred_writers_of_one_object_lose_nothing() {
    let world = World::new().await;
    world.post(MAPS, map("m")).await.ok();
    let uri = format!("{MAPS}/m");
    let writers = (0..500).map(|number| {
        let (world, uri) = (&world, &uri);
        async move {
            world
                .patch(MERGE, uri, json!({"data": {format!("k{number}"): "x"}}))
                .await
                .ok()
        }
    });
    futures::future::join_all(writers).await;
    let read = world.get(&uri).await.ok();
    assert_eq!(read["data"].as_object().map(serde_json::Map::len), Some(501));
}
