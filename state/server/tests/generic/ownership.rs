//! Who owns what, and in what form an object is kept, through every path that writes.

use serde_json::{Value, json};

use super::world::{APPLY, MERGE, STRATEGIC, World};
use super::{DEPLOYMENTS, MAPS, PODS, deployment, map, pod, revision};

const JSON_PATCH: &str = "application/json-patch+json";
const SERVICES: &str = "/api/v1/namespaces/default/services";

/// The fields of the entry of a manager, by operation and subresource.
fn fields(object: &Value, manager: &str, operation: &str, subresource: &str) -> Option<Value> {
    let entries = object["metadata"]["managedFields"].as_array()?;
    let found = entries.iter().find(|entry| {
        entry["manager"] == manager
            && entry["operation"] == operation
            && entry["subresource"].as_str().unwrap_or_default() == subresource
    })?;
    Some(found["fieldsV1"].clone())
}

fn applied(name: &str, spec: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn an_apply_with_unknown_fields_or_wrong_types_fails_whatever_the_validation() {
    let world = World::new().await;
    let uri = |validation: &str| format!("{DEPLOYMENTS}/d?fieldManager=m&fieldValidation={validation}");
    for validation in ["Ignore", "Warn", "Strict"] {
        let refused = world
            .patch(APPLY, &uri(validation), applied("d", json!({"foo": 1})))
            .await;
        assert_eq!((refused.code, refused.body.get("reason")), (500, None));
        assert_eq!(
            refused.body["message"],
            "failed to create typed patch object (default/d; apps/v1, Kind=Deployment): .spec.foo: field not declared in schema"
        );
    }
    let refused = world
        .patch(APPLY, &uri("Warn"), applied("d", json!({"replicas": "x", "paused": 1})))
        .await;
    let message = refused.body["message"].as_str().expect("a message").to_owned();
    assert!(
        message.starts_with("failed to create typed patch object (default/d; apps/v1, Kind=Deployment): errors:\n")
    );
    assert!(
        message.contains("\n  .spec.replicas: expected numeric (int or float), got string"),
        "{message}"
    );
    assert!(
        message.contains("\n  .spec.paused: expected boolean, got int64"),
        "{message}"
    );
}

#[tokio::test]
async fn an_apply_says_of_what_kind_it_is_and_makes_nothing_under_an_old_uid() {
    let world = World::new().await;
    let uri = format!("{MAPS}/m?fieldManager=me");
    let message = world
        .patch(APPLY, &uri, json!({"data": {"a": "b"}}))
        .await
        .failed(400, "BadRequest");
    assert_eq!(message, "invalid object type: /, Kind=");
    let mut old = map("m");
    old["metadata"]["uid"] = "gone".into();
    let message = world.patch(APPLY, &uri, old).await.failed(409, "Conflict");
    assert_eq!(
        message,
        "Operation cannot be fulfilled on configmaps \"m\": uid mismatch: the provided object specified uid gone, and no existing object was found"
    );
}

#[tokio::test]
async fn a_null_that_is_applied_is_owned_and_conflicts() {
    let world = World::new().await;
    world.post(DEPLOYMENTS, deployment("d")).await.ok();
    let null = applied("d", json!({"replicas": null}));
    let uri = format!("{DEPLOYMENTS}/d?fieldManager=other");
    let message = world.patch(APPLY, &uri, null.clone()).await.failed(409, "Conflict");
    assert!(
        message.ends_with("conflict with \"test\" using apps/v1: .spec.replicas"),
        "{message}"
    );
    let forced = world.patch(APPLY, &format!("{uri}&force=true"), null).await.ok();
    assert_eq!(forced["spec"]["replicas"], 1, "what is cleared is defaulted again");
    assert_eq!(
        fields(&forced, "other", "Apply", ""),
        Some(json!({"f:spec": {"f:replicas": {}}}))
    );
}

#[tokio::test]
async fn applying_twice_keeps_the_resource_version() {
    let world = World::new().await;
    for (number, (cpu, value)) in [("1000m", "x"), ("0.5", ""), ("2", "y")].into_iter().enumerate() {
        let mut object = deployment(&format!("d{number}"));
        let container = &mut object["spec"]["template"]["spec"]["containers"][0];
        container["resources"] = json!({"limits": {"cpu": cpu}});
        container["env"] = json!([{"name": "A", "value": value}]);
        container["ports"] = json!([{"containerPort": 80}]);
        object["spec"]["template"]["spec"]["nodeSelector"] = json!({});
        let uri = format!("{DEPLOYMENTS}/d{number}?fieldManager=m");
        let once = world.patch(APPLY, &uri, object.clone()).await.ok();
        let twice = world.patch(APPLY, &uri, object).await.ok();
        assert_eq!(twice, once);
    }
}

#[tokio::test]
async fn the_same_in_other_words_is_no_change() {
    let world = World::new().await;
    let mut made = deployment("d");
    made["spec"]["template"]["spec"]["containers"][0]["resources"] = json!({"limits": {"cpu": 1, "memory": "1024Mi"}});
    let made = world.post(DEPLOYMENTS, made).await.ok();
    let limits = &made["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"];
    assert_eq!(limits, &json!({"cpu": "1", "memory": "1Gi"}));
    let mut same = made.clone();
    let spec = &mut same["spec"]["template"]["spec"];
    spec["containers"][0]["resources"]["limits"]["cpu"] = "1000m".into();
    spec["containers"][0]["env"] = json!([]);
    spec["hostNetwork"] = false.into();
    spec["nodeSelector"] = json!({});
    let same = world.put(&format!("{DEPLOYMENTS}/d"), same).await.ok();
    assert_eq!(
        (revision(&same), &same["metadata"]["generation"]),
        (revision(&made), &json!(1))
    );
}

#[tokio::test]
async fn what_admission_and_strategy_add_is_nobodys() {
    let world = World::new().await;
    let made = world.post(PODS, pod("p")).await.ok();
    assert_eq!(made["spec"]["serviceAccountName"], "default");
    let owned = fields(&made, "test", "Update", "").expect("an entry")["f:spec"].clone();
    for name in [
        "f:tolerations",
        "f:serviceAccountName",
        "f:serviceAccount",
        "f:priority",
        "f:preemptionPolicy",
    ] {
        assert_eq!(owned.get(name), None, "{name}");
    }
    for name in ["f:containers", "f:dnsPolicy", "f:restartPolicy", "f:enableServiceLinks"] {
        assert!(owned.get(name).is_some(), "{name}");
    }
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"type": "NodePort", "ports": [{"port": 80}]}});
    let made = world.post(SERVICES, service).await.ok();
    assert_ne!(made["spec"]["ports"][0]["nodePort"], Value::Null);
    let owned = fields(&made, "test", "Update", "").expect("an entry")["f:spec"].clone();
    for name in ["f:clusterIP", "f:clusterIPs", "f:ipFamilies", "f:ipFamilyPolicy"] {
        assert_eq!(owned.get(name), None, "{name}");
    }
    let port = &owned["f:ports"]["k:{\"port\":80,\"protocol\":\"TCP\"}"];
    assert_eq!((port.get("f:nodePort"), port.get("f:port")), (None, Some(&json!({}))));
}

#[tokio::test]
async fn whoever_scales_owns_the_replicas_and_an_apply_conflicts_with_it() {
    let world = World::new().await;
    world.post(DEPLOYMENTS, deployment("d")).await.ok();
    let uri = format!("{DEPLOYMENTS}/d/scale");
    let scaled = world
        .patch(
            MERGE,
            &format!("{uri}?fieldManager=hpa"),
            json!({"spec": {"replicas": 5}}),
        )
        .await
        .ok();
    assert_eq!(scaled["metadata"]["managedFields"][0]["manager"], "hpa");
    assert_eq!(
        scaled["metadata"]["managedFields"][0]["fieldsV1"],
        json!({"f:spec": {"f:replicas": {}}})
    );
    assert_eq!(scaled["metadata"]["managedFields"][0]["apiVersion"], "autoscaling/v1");
    let object = world.get(&format!("{DEPLOYMENTS}/d")).await.ok();
    assert_eq!(
        fields(&object, "hpa", "Update", "scale"),
        Some(json!({"f:spec": {"f:replicas": {}}}))
    );
    assert_eq!(
        fields(&object, "test", "Update", "").expect("the rest")["f:spec"].get("f:replicas"),
        None
    );
    let scale =
        json!({"apiVersion": "autoscaling/v1", "kind": "Scale", "metadata": {"name": "d"}, "spec": {"replicas": 7}});
    world.patch(APPLY, &uri, scale.clone()).await.failed(422, "Invalid");
    let message = world
        .patch(APPLY, &format!("{uri}?fieldManager=me"), scale.clone())
        .await
        .failed(409, "Conflict");
    assert!(
        message.ends_with("conflict with \"hpa\" with subresource \"scale\" using autoscaling/v1: .spec.replicas"),
        "{message}"
    );
    let forced = world
        .patch(APPLY, &format!("{uri}?fieldManager=me&force=true"), scale)
        .await
        .ok();
    assert_eq!(forced["spec"]["replicas"], 7);
    let object = world.get(&format!("{DEPLOYMENTS}/d")).await.ok();
    assert_eq!(fields(&object, "hpa", "Update", "scale"), None);
    assert!(fields(&object, "me", "Apply", "scale").is_some());
    let wrong = world
        .patch(MERGE, &uri, json!({"spec": {"replicas": "x"}}))
        .await
        .failed(422, "Invalid");
    assert!(wrong.contains("patch: Invalid value"), "{wrong}");
}

#[tokio::test]
async fn a_status_write_takes_labels_along_and_fills_in_what_is_left_out() {
    let world = World::new().await;
    world.post(PODS, pod("p")).await.ok();
    let patch = json!({"metadata": {"labels": {"x": "y"}}, "spec": {"nodeName": "n"}, "status": {"phase": "Running"}});
    let written = world.patch(MERGE, &format!("{PODS}/p/status"), patch).await.ok();
    assert_eq!(written["metadata"]["labels"]["x"], "y");
    assert_eq!(written["spec"].get("nodeName"), None);
    assert_eq!(
        fields(&written, "test", "Update", "status").expect("an entry")["f:metadata"],
        json!({"f:labels": {"f:x": {}}})
    );
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n"}});
    world.post("/api/v1/nodes", node).await.ok();
    let patch = json!({"status": {"capacity": {"cpu": "4000m"}}});
    let node = world.patch(STRATEGIC, "/api/v1/nodes/n/status", patch).await.ok();
    assert_eq!(node["status"]["capacity"], json!({"cpu": "4"}));
    assert_eq!(node["status"]["allocatable"], json!({"cpu": "4"}));
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "s"}, "spec": {"type": "LoadBalancer", "ports": [{"port": 80}]}});
    world.post(SERVICES, service).await.ok();
    let patch = json!({"status": {"loadBalancer": {"ingress": [{"ip": "1.2.3.4"}]}}});
    let service = world.patch(MERGE, &format!("{SERVICES}/s/status"), patch).await.ok();
    assert_eq!(
        service["status"]["loadBalancer"]["ingress"],
        json!([{"ip": "1.2.3.4", "ipMode": "VIP"}])
    );
}

#[tokio::test]
async fn a_patch_whose_result_is_no_object_of_the_kind_is_invalid() {
    let world = World::new().await;
    world.post(DEPLOYMENTS, deployment("d")).await.ok();
    let uri = format!("{DEPLOYMENTS}/d?fieldValidation=Strict");
    let message = world
        .patch(STRATEGIC, &uri, json!({"spec": {"foo": 1}}))
        .await
        .failed(422, "Invalid");
    assert_eq!(
        message,
        " \"\" is invalid: patch: Invalid value: \"map[spec:map[foo:1]]\": strict decoding error: unknown field \"spec.foo\""
    );
    let refused = world.patch(MERGE, &uri, json!({"spec": {"replicas": "x"}})).await;
    assert_eq!(refused.body["details"]["causes"][0]["field"], "patch");
    let message = refused.failed(422, "Invalid");
    assert!(
        message.contains("cannot unmarshal string into Go struct field DeploymentSpec.spec.replicas of type int32"),
        "{message}"
    );
    let patch = json!([{"op": "test", "path": "/spec/replicas", "value": 9}]);
    let refused = world.patch(JSON_PATCH, &uri, patch).await;
    assert_eq!(refused.body["details"], json!({}));
    assert_eq!(
        refused.failed(422, "Invalid"),
        "the server rejected our request due to an error in our request"
    );
    let patch = json!([{"op": "replace", "path": "/spec/replicas", "value": 4, "foo": 1}]);
    let message = world
        .patch(JSON_PATCH, &uri, patch.clone())
        .await
        .failed(422, "Invalid");
    assert!(
        message.ends_with("strict decoding error: json patch unknown field \"[0].foo\""),
        "{message}"
    );
    let warned = world.patch(JSON_PATCH, &format!("{DEPLOYMENTS}/d"), patch).await;
    assert_eq!(
        warned.headers["warning"],
        "299 - \"json patch unknown field \\\"[0].foo\\\"\""
    );
}

#[tokio::test]
async fn what_is_said_twice_is_warned_of_or_refused() {
    let world = World::new().await;
    let send = async |method: http::Method, uri: String, kind: &'static str, body: &'static str| {
        let response = world
            .send_raw(method, &uri, &[("content-type", kind)], body.into())
            .await;
        let warning = response
            .headers()
            .get("warning")
            .and_then(|value| value.to_str().ok().map(str::to_owned));
        (response.status().as_u16(), warning)
    };
    let yaml = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: m}\ndata: {a: one, a: two}\n";
    let twice = Some("299 - \"duplicate field \\\"data.a\\\"\"".to_owned());
    let kind = "application/yaml";
    assert_eq!(
        send(http::Method::POST, format!("{MAPS}?fieldValidation=Strict"), kind, yaml)
            .await
            .0,
        400
    );
    assert_eq!(
        send(http::Method::POST, MAPS.to_owned(), kind, yaml).await,
        (201, twice.clone())
    );
    assert_eq!(
        world.get(&format!("{MAPS}/m")).await.ok()["data"]["a"],
        "two",
        "the last one counts"
    );
    let patch = r#"{"data": {"a": "1", "a": "2"}}"#;
    assert_eq!(
        send(
            http::Method::PATCH,
            format!("{MAPS}/m?fieldValidation=Strict"),
            MERGE,
            patch
        )
        .await
        .0,
        422
    );
    assert_eq!(
        send(http::Method::PATCH, format!("{MAPS}/m"), MERGE, patch).await,
        (200, twice.clone())
    );
    let uri = format!("{MAPS}/m?fieldManager=a&force=true");
    assert_eq!(
        send(
            http::Method::PATCH,
            format!("{uri}&fieldValidation=Strict"),
            APPLY,
            yaml
        )
        .await
        .0,
        400
    );
    assert_eq!(send(http::Method::PATCH, uri, APPLY, yaml).await, (200, twice));
}

#[tokio::test]
async fn a_leading_zero_is_octal_in_yaml() {
    let world = World::new().await;
    let yaml = "apiVersion: v1\nkind: Pod\nmetadata: {name: p}\nspec:\n  containers: [{name: a, image: i}]\n  volumes: [{name: v, configMap: {name: c, defaultMode: 0640}}]\n";
    let response = world
        .send_raw(
            http::Method::POST,
            PODS,
            &[("content-type", "application/yaml")],
            yaml.into(),
        )
        .await;
    assert_eq!(response.status(), 201);
    let made = world.get(&format!("{PODS}/p")).await.ok();
    assert_eq!(made["spec"]["volumes"][0]["configMap"]["defaultMode"], 0o640);
}

#[tokio::test]
async fn binding_a_pod_makes_nobody_an_owner() {
    let world = World::new().await;
    let made = world.post(PODS, pod("p")).await.ok();
    let binding = json!({"apiVersion": "v1", "kind": "Binding", "metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}});
    world.post(&format!("{PODS}/p/binding"), binding).await.ok();
    let bound = world.get(&format!("{PODS}/p")).await.ok();
    assert_eq!(bound["spec"]["nodeName"], "n");
    assert_eq!(bound["metadata"]["managedFields"], made["metadata"]["managedFields"]);
}

#[tokio::test]
async fn an_empty_list_of_owners_forgets_them_and_a_deletion_is_not_written() {
    let world = World::new().await;
    let made = world.post(MAPS, map("m")).await.ok();
    let mut without = made.clone();
    without["metadata"]["managedFields"] = json!([]);
    without["metadata"]["creationTimestamp"] = "2000-01-01T00:00:00Z".into();
    let written = world.put(&format!("{MAPS}/m"), without).await.ok();
    assert_eq!(written["metadata"].get("managedFields"), None);
    assert_eq!(
        written["metadata"]["creationTimestamp"], made["metadata"]["creationTimestamp"],
        "another time is put right without a word"
    );
    let patch = json!({"metadata": {"deletionTimestamp": "2024-01-01T00:00:00Z"}});
    let message = world
        .patch(MERGE, &format!("{MAPS}/m"), patch)
        .await
        .failed(422, "Invalid");
    assert!(
        message.contains("metadata.deletionTimestamp: Invalid value: "),
        "{message}"
    );
}

#[tokio::test]
async fn a_page_and_a_name_show_what_the_whole_list_shows() {
    let world = World::new().await;
    for number in 0..5 {
        world.post(MAPS, map(&format!("m{number}"))).await.ok();
    }
    let whole = world.get(MAPS).await.ok();
    let mut uri = format!("{MAPS}?limit=2");
    let mut items = Vec::new();
    let mut left = Vec::new();
    loop {
        let page = world.get(&uri).await.ok();
        items.extend(page["items"].as_array().expect("items").clone());
        left.push(page["metadata"]["remainingItemCount"].as_u64());
        match page["metadata"]["continue"].as_str() {
            Some(token) => uri = format!("{MAPS}?limit=2&continue={token}"),
            None => break,
        }
    }
    assert_eq!(Value::from(items), whole["items"]);
    let total = whole["items"].as_array().map_or(0, Vec::len) as u64;
    assert_eq!(left.first(), Some(&Some(total - 2)));
    let named = world
        .get(&format!("{MAPS}?fieldSelector=metadata.name%3Dm3"))
        .await
        .ok();
    assert_eq!(named["items"].as_array().map(Vec::len), Some(1));
    assert_eq!(named["items"][0]["metadata"]["name"], "m3");
    let partial = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";
    let partial = world.ask(http::Method::GET, MAPS, "", partial, None).await.ok();
    assert_eq!(partial["items"][0]["metadata"], whole["items"][0]["metadata"]);
    assert_eq!(partial["items"][0]["kind"], "PartialObjectMetadata");
    let other = world
        .get("/api/v1/configmaps?fieldSelector=metadata.name%3Dm3,metadata.namespace%3Dkube-system")
        .await
        .ok();
    assert_eq!(other["items"], json!([]));
}
