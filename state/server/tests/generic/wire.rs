//! What clients send and are sent on the wire: encodings, preconditions, selections, warnings, and revisions that are gone.

use std::io::Read;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::{Method, Response};
use http_body_util::BodyExt;
use serde_json::{Value, json};
use setpoint_store::Log;

use crate::world::{JSON, MERGE, STRATEGIC, World};
use crate::{DEPLOYMENTS, MAPS, PODS, deployment, map, pod, revision};

const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

async fn bytes(response: Response<axum::body::Body>) -> Vec<u8> {
    response
        .into_body()
        .collect()
        .await
        .expect("a body")
        .to_bytes()
        .to_vec()
}

#[tokio::test]
async fn a_protobuf_body_is_an_object_like_any_other() {
    let world = World::new().await;
    // `kubectl create deployment web --image=nginx:1.25 --port=80 --replicas=0`, as kubectl 1.37 sends it.
    let sent = "azhzAAoVCgdhcHBzL3YxEgpEZXBsb3ltZW50Er0BCh8KA3dlYhIAGgAiACoAMgA4AEIAWgoKA2FwcBIDd2ViEosBCAASDAoKCgNhcHASA3dlYhpxChwKABIAGgAiACoAMgA4AEIAWgoKA2FwcBIDd2ViElESMwoFbmdpbngSCm5naW54OjEuMjUqADIKCgAQABhQIgAqAEIAagByAIABAIgBAJABAKIBABoAMgBCAEoAUgBYAGAAaACCAQCKAQCaAQDCAQAiAgoAKAA4ABoMCAAQABgAIAAoADgAGgAiAA==";
    let body = STANDARD.decode(sent).expect("base64");
    let headers = [
        ("content-type", PROTOBUF),
        ("accept", "application/vnd.kubernetes.protobuf,application/json"),
    ];
    let made = world.send_raw(Method::POST, DEPLOYMENTS, &headers, body.clone()).await;
    assert_eq!(made.status(), 201);
    let web = world.get(&format!("{DEPLOYMENTS}/web")).await.ok();
    assert_eq!(web["spec"]["replicas"], 0, "a zero is not taken for nothing");
    assert_eq!(web["spec"]["template"]["spec"]["containers"][0]["image"], "nginx:1.25");
    assert_eq!(
        web["spec"]["strategy"]["type"], "RollingUpdate",
        "what is empty is defaulted"
    );
    let wrong = world.send_raw(Method::POST, MAPS, &headers, body).await;
    assert_eq!(wrong.status(), 400, "a Deployment is no ConfigMap");
    let broken = world
        .send_raw(Method::POST, MAPS, &headers, b"k8s\0\x0a\xff".to_vec())
        .await;
    assert_eq!(broken.status(), 400);
    let other = [("content-type", "application/cbor")];
    let refused = world.send_raw(Method::POST, MAPS, &other, Vec::new()).await;
    assert_eq!(refused.status(), 415);
}

#[tokio::test]
async fn yaml_is_read_and_written() {
    let world = World::new().await;
    let text = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: text}\ndata: {a: 'yes', b: '1'}\n";
    let headers = [("content-type", "application/yaml"), ("accept", "application/yaml")];
    let made = world.send_raw(Method::POST, MAPS, &headers, text.into()).await;
    assert_eq!(
        (made.status().as_u16(), made.headers()["content-type"].as_bytes()),
        (201, &b"application/yaml"[..])
    );
    let answer = String::from_utf8(bytes(made).await).expect("text");
    assert!(
        answer.contains("kind: ConfigMap") && answer.contains("name: text"),
        "{answer}"
    );
    // What was written is read back as the same: `yes` and `1` stay strings.
    let read = world
        .send_raw(Method::GET, &format!("{MAPS}/text"), &headers, Vec::new())
        .await;
    let put = world
        .send_raw(Method::PUT, &format!("{MAPS}/text"), &headers, bytes(read).await)
        .await;
    assert_eq!(put.status(), 200);
    assert_eq!(
        world.get(&format!("{MAPS}/text")).await.ok()["data"],
        json!({"a": "yes", "b": "1"})
    );
    let broken = world.send_raw(Method::POST, MAPS, &headers, b"a: [".to_vec()).await;
    assert_eq!(broken.status(), 400);
}

#[tokio::test]
async fn a_long_list_is_compressed_for_who_takes_it() {
    let world = World::new().await;
    for number in 0..4 {
        let mut big = map(&format!("m{number}"));
        big["data"]["a"] = "x".repeat(50_000).into();
        world.post(MAPS, big).await.ok();
    }
    let gzip = [("accept", JSON), ("accept-encoding", "gzip")];
    let packed = world.send_raw(Method::GET, MAPS, &gzip, Vec::new()).await;
    assert_eq!(packed.headers()["content-encoding"], "gzip");
    let mut text = String::new();
    flate2::read::GzDecoder::new(&bytes(packed).await[..])
        .read_to_string(&mut text)
        .expect("gzip");
    let list: Value = serde_json::from_str(&text).expect("JSON");
    assert_eq!(list["items"].as_array().map(Vec::len), Some(4));
    let plain = world.send_raw(Method::GET, MAPS, &[("accept", JSON)], Vec::new()).await;
    assert!(!plain.headers().contains_key("content-encoding"));
    let short = world.send_raw(Method::GET, PODS, &gzip, Vec::new()).await;
    assert!(!short.headers().contains_key("content-encoding"));
}

#[tokio::test]
async fn a_deletion_keeps_to_its_preconditions() {
    let world = World::new().await;
    let made = world.post(MAPS, map("m")).await.ok();
    let uri = format!("{MAPS}/m");
    let delete = async |preconditions: Value| {
        let options = json!({"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": preconditions});
        world.ask(Method::DELETE, &uri, JSON, JSON, Some(&options)).await
    };
    let message = delete(json!({"uid": "other"})).await.failed(409, "Conflict");
    assert!(
        message.contains("the UID in the precondition (other) does not match"),
        "{message}"
    );
    let message = delete(json!({"resourceVersion": "1"})).await.failed(409, "Conflict");
    assert!(
        message.contains("the ResourceVersion in the precondition (1) does not match"),
        "{message}"
    );
    world.get(&uri).await.ok();
    delete(json!({"uid": made["metadata"]["uid"], "resourceVersion": revision(&made)}))
        .await
        .ok();
    world.get(&uri).await.failed(404, "NotFound");
    // An update may name them, too.
    world.post(MAPS, map("m")).await.ok();
    let mut old = map("m");
    old["metadata"]["uid"] = made["metadata"]["uid"].clone();
    let message = world.put(&uri, old).await.failed(409, "Conflict");
    assert!(message.contains("Precondition failed: UID"), "{message}");
    let stale = json!({"metadata": {"resourceVersion": revision(&made)}, "data": {"a": "2"}});
    world.patch(MERGE, &uri, stale).await.failed(409, "Conflict");
}

#[tokio::test]
async fn a_collection_is_deleted_as_far_as_it_is_selected() {
    let world = World::new().await;
    for (name, tier) in [("a", "gold"), ("b", "gold"), ("c", "iron")] {
        let mut object = map(name);
        object["metadata"]["labels"] = json!({"tier": tier});
        world.post(MAPS, object).await.ok();
    }
    let names = async || -> Vec<String> {
        let list = world.get(MAPS).await.ok();
        let items = list["items"].as_array().expect("items").iter();
        items
            .map(|item| item["metadata"]["name"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    world
        .delete(&format!("{MAPS}?labelSelector=a%20b"))
        .await
        .failed(400, "BadRequest");
    world
        .delete(&format!("{MAPS}?labelSelector=tier%3Dgold&dryRun=All"))
        .await
        .ok();
    assert_eq!(names().await, ["a", "b", "c"]);
    let gone = world
        .delete(&format!("{MAPS}?labelSelector=tier%20in%20(gold)"))
        .await
        .ok();
    assert_eq!(
        (gone["kind"].as_str(), gone["items"].as_array().map(Vec::len)),
        (Some("ConfigMapList"), Some(2))
    );
    assert_eq!(names().await, ["c"]);
    world
        .delete(&format!("{MAPS}?fieldSelector=metadata.name!%3Dc"))
        .await
        .ok();
    assert_eq!(names().await, ["c"]);
    world.delete(MAPS).await.ok();
    assert!(names().await.is_empty());
    world.delete("/api/v1/configmaps").await.failed(405, "MethodNotAllowed");
}

#[tokio::test]
async fn a_watcher_of_a_forgotten_revision_is_told_to_list_again() {
    let mut world = World::new().await;
    let first = world.post(MAPS, map("a")).await.ok();
    for value in 0..5 {
        world
            .patch(MERGE, &format!("{MAPS}/a"), json!({"data": {"a": value.to_string()}}))
            .await
            .ok();
    }
    let newest = world.get(MAPS).await.ok();
    let newest: u64 = revision(&newest).parse().expect("a number");
    world.log.compact(newest).await.expect("compacted");
    world.restart().await;
    let uri = format!("{MAPS}?watch=1&resourceVersion={}", revision(&first));
    let events = world.watch(&uri, 1).await;
    assert_eq!(
        (events[0]["type"].as_str(), events[0]["object"]["code"].as_u64()),
        (Some("ERROR"), Some(410))
    );
    assert_eq!(events[0]["object"]["reason"], "Expired");
    // A page of a list that is gone is answered likewise.
    let past = format!("{MAPS}?resourceVersion={}&resourceVersionMatch=Exact", revision(&first));
    world.get(&past).await.failed(410, "Expired");
    // The client lists and goes on from there.
    let list = world.get(MAPS).await.ok();
    let uri = format!("{MAPS}?watch=1&resourceVersion={}", revision(&list));
    world.post(MAPS, map("b")).await.ok();
    let events = world.watch(&uri, 1).await;
    assert_eq!(
        (
            events[0]["type"].as_str(),
            events[0]["object"]["metadata"]["name"].as_str()
        ),
        (Some("ADDED"), Some("b"))
    );
}

#[tokio::test]
async fn what_will_go_is_served_with_a_warning() {
    let world = World::new().await;
    let got = world.get("/api/v1/namespaces/default/endpoints").await;
    let warning = got.headers["warning"].to_str().expect("text").to_owned();
    assert_eq!(
        warning,
        "299 - \"v1 Endpoints is deprecated in v1.33+; use discovery.k8s.io/v1 EndpointSlice\""
    );
    let definition = json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": "things.example.com"},
        "spec": {
            "group": "example.com", "scope": "Namespaced", "names": {"plural": "things", "kind": "Thing"},
            "versions": [
                {"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}},
                {"name": "v1alpha1", "served": true, "storage": false, "deprecated": true,
                    "schema": {"openAPIV3Schema": {"type": "object"}}},
                {"name": "v1beta1", "served": true, "storage": false, "deprecated": true, "deprecationWarning": "use v1",
                    "schema": {"openAPIV3Schema": {"type": "object"}}},
            ],
        },
    });
    world
        .post("/apis/apiextensions.k8s.io/v1/customresourcedefinitions", definition)
        .await
        .ok();
    for (version, wanted) in [
        ("v1", None),
        ("v1alpha1", Some("299 - \"example.com/v1alpha1 Thing is deprecated\"")),
        ("v1beta1", Some("299 - \"use v1\"")),
    ] {
        let got = world.get(&format!("/apis/example.com/{version}/things")).await;
        assert_eq!(got.code, 200);
        assert_eq!(
            got.headers.get("warning").map(|value| value.to_str().expect("text")),
            wanted
        );
    }
}

#[tokio::test]
async fn a_patch_renames_nothing_and_a_scale_has_its_own_table() {
    let world = World::new().await;
    world.post(DEPLOYMENTS, deployment("d")).await.ok();
    let uri = format!("{DEPLOYMENTS}/d");
    let renamed = world.patch(STRATEGIC, &uri, json!({"metadata": {"name": "e"}})).await;
    assert_eq!(
        renamed.failed(400, "BadRequest"),
        "the name of the object (e) does not match the name on the URL (d)"
    );
    let table = "application/json;as=Table;v=v1;g=meta.k8s.io";
    let scale = world
        .ask(Method::GET, &format!("{uri}/scale"), JSON, table, None)
        .await
        .ok();
    assert_eq!(scale["kind"], "Table");
    let heads: Vec<&str> = scale["columnDefinitions"]
        .as_array()
        .expect("columns")
        .iter()
        .filter_map(|column| column["name"].as_str())
        .collect();
    assert_eq!(heads, ["Name", "Desired", "Available", "Age"]);
    assert_eq!(scale["rows"][0]["cells"][1], 3);
}

#[tokio::test]
async fn two_managers_share_an_object_field_by_field() {
    let world = World::new().await;
    let apply = async |manager: &str, force: bool, data: Value| {
        let uri = format!("{MAPS}/shared?fieldManager={manager}&force={force}");
        let object = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "shared"}, "data": data});
        world.patch(crate::APPLY, &uri, object).await
    };
    apply("ann", false, json!({"a": "1", "both": "x"})).await.ok();
    apply("bob", false, json!({"b": "2", "both": "x"})).await.ok();
    let message = apply("bob", false, json!({"a": "9", "both": "x"}))
        .await
        .failed(409, "Conflict");
    assert!(message.contains("conflict with \"ann\": .data.a"), "{message}");
    // What one gives up stays as long as the other holds it.
    let left = apply("ann", false, json!({"a": "1"})).await.ok();
    assert_eq!(left["data"], json!({"a": "1", "b": "2", "both": "x"}));
    let left = apply("bob", false, json!({"b": "2"})).await.ok();
    assert_eq!(left["data"], json!({"a": "1", "b": "2"}));
    let taken = apply("bob", true, json!({"a": "9"})).await.ok();
    assert_eq!(taken["data"], json!({"a": "9"}));
    let left = apply("ann", false, json!({})).await.ok();
    assert_eq!(left["data"], json!({"a": "9"}), "it is bob's now");
}

#[tokio::test]
async fn a_pods_label_selection_refuses_what_it_cannot_read() {
    let world = World::new().await;
    world.post(PODS, pod("p")).await.ok();
    let message = world
        .get(&format!("{PODS}?labelSelector=a%20b"))
        .await
        .failed(400, "BadRequest");
    assert_eq!(
        message,
        "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt"
    );
}

#[tokio::test]
async fn a_map_or_list_of_metadata_goes_with_its_last_entry() {
    let world = World::new().await;
    let mut object = map("m");
    object["metadata"]["labels"] = json!({"a": "b"});
    object["metadata"]["annotations"] = json!({});
    let made = world.post(MAPS, object).await.ok();
    assert_eq!(made["metadata"].get("annotations"), None);
    let uri = format!("{MAPS}/m");
    let left = world
        .patch(MERGE, &uri, json!({"metadata": {"labels": {"a": null}}}))
        .await
        .ok();
    assert_eq!(left["metadata"].get("labels"), None);
}
