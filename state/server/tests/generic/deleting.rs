//! How deletions are asked for and answered.

use http::Method;
use serde_json::{Value, json};

use crate::world::{Got, JSON, World};
use crate::{MAPS, PODS, map, pod, revision};

async fn delete(world: &World, uri: &str, options: Value) -> Got {
    world.ask(Method::DELETE, uri, JSON, JSON, Some(&options)).await
}

/// A pod on a node, which is given 30 seconds to go.
async fn bound(world: &World, name: &str) {
    let mut on_node = pod(name);
    on_node["spec"]["nodeName"] = "box".into();
    world.post(PODS, on_node).await.ok();
}

#[tokio::test]
async fn what_is_no_delete_options_deletes_nothing() {
    let world = World::new().await;
    let uri = format!("{MAPS}/m");
    world.post(MAPS, map("m")).await.ok();
    for (options, message) in [
        (
            json!({"dryRun": "All"}),
            "json: cannot unmarshal string into Go struct field DeleteOptions.dryRun of type []string",
        ),
        (
            json!({"kind": "DeleteOptions", "apiVersion": "v1", "gracePeriodSeconds": "0"}),
            "json: cannot unmarshal string into Go struct field DeleteOptions.gracePeriodSeconds of type int64",
        ),
        (
            json!({"kind": "ConfigMap", "apiVersion": "v1"}),
            "no kind \"ConfigMap\" is registered for version \"v1\": the body of a deletion is DeleteOptions",
        ),
        (
            json!([]),
            "json: cannot unmarshal array into Go value of type v1.DeleteOptions",
        ),
    ] {
        for uri in [uri.as_str(), MAPS] {
            let refused = delete(&world, uri, options.clone()).await;
            assert_eq!(refused.failed(400, "BadRequest"), message);
        }
    }
    let both = json!({"orphanDependents": false, "propagationPolicy": "Later", "dryRun": ["Some"]});
    assert_eq!(
        delete(&world, &uri, both).await.failed(422, "Invalid"),
        "DeleteOptions.meta.k8s.io \"\" is invalid: [propagationPolicy: Invalid value: \"Later\": orphanDependents and deletionPropagation cannot be both set, propagationPolicy: Unsupported value: \"Later\": supported values: \"Foreground\", \"Background\", \"Orphan\", \"nil\", dryRun: Unsupported value: [\"Some\"]: supported values: \"All\"]"
    );
    let refused = world.delete(&format!("{uri}?gracePeriodSeconds=soon")).await;
    assert_eq!(
        refused.failed(400, "BadRequest"),
        "strconv.ParseInt: parsing \"soon\": invalid syntax"
    );
    world.get(&uri).await.ok();
    // The options of a group are the options of all.
    let dry = json!({"kind": "DeleteOptions", "apiVersion": "apps/v1", "dryRun": ["All"]});
    delete(&world, &uri, dry).await.ok();
    world.get(&uri).await.ok();
}

#[tokio::test]
async fn the_query_of_a_deletion_counts_only_without_a_body() {
    let world = World::new().await;
    bound(&world, "p").await;
    let uri = format!("{PODS}/p?gracePeriodSeconds=0");
    let going = delete(&world, &uri, json!({"gracePeriodSeconds": 20})).await.ok();
    assert_eq!(going["metadata"]["deletionGracePeriodSeconds"], 20);
    world.delete(&uri).await.ok();
    world.get(&uri).await.failed(404, "NotFound");
}

#[tokio::test]
async fn a_pod_that_goes_is_only_ever_hurried() {
    let world = World::new().await;
    bound(&world, "p").await;
    let uri = format!("{PODS}/p");
    // The clock stands still, so that each time counts from the first request.
    for (query, until, left) in [
        ("", "2024-01-01T00:00:30Z", 30),
        ("?gracePeriodSeconds=60", "2024-01-01T00:00:30Z", 30),
        ("", "2024-01-01T00:00:30Z", 30),
        ("?gracePeriodSeconds=10", "2024-01-01T00:00:10Z", 10),
        ("?gracePeriodSeconds=20", "2024-01-01T00:00:10Z", 10),
        ("?propagationPolicy=Foreground", "2024-01-01T00:00:10Z", 10),
        ("?gracePeriodSeconds=-5", "2024-01-01T00:00:01Z", 1),
    ] {
        let going = world.delete(&format!("{uri}{query}")).await.ok();
        let metadata = &going["metadata"];
        assert_eq!(
            (&metadata["deletionTimestamp"], &metadata["deletionGracePeriodSeconds"]),
            (&json!(until), &json!(left)),
            "{query}"
        );
        assert_eq!(metadata.get("finalizers"), None);
    }
    world.delete(&format!("{uri}?gracePeriodSeconds=0")).await.ok();
    world.get(&uri).await.failed(404, "NotFound");
}

#[tokio::test]
async fn a_deletion_answers_with_the_object_for_some_kinds_and_with_a_status_for_others() {
    let world = World::new().await;
    let made = world.post(PODS, pod("p")).await.ok();
    let gone = world.delete(&format!("{PODS}/p")).await;
    assert_eq!((gone.code, &gone.body["kind"]), (200, &json!("Pod")));
    assert_eq!(gone.body["metadata"]["uid"], made["metadata"]["uid"]);
    assert_ne!(revision(&gone.body), revision(&made), "it says when it went");
    let made = world.post(MAPS, map("m")).await.ok();
    let gone = world.delete(&format!("{MAPS}/m")).await;
    assert_eq!(
        gone.body,
        json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success",
            "details": {"name": "m", "kind": "configmaps", "uid": made["metadata"]["uid"]}})
    );
}

#[tokio::test]
async fn dependents_are_asked_for_in_the_old_way_too() {
    let world = World::new().await;
    for (query, code, finalizers) in [
        ("", 200, json!(["example.com/hold", "orphan"])),
        ("?orphanDependents=true", 200, json!(["example.com/hold", "orphan"])),
        ("?orphanDependents=false", 202, json!(["example.com/hold"])),
        ("?propagationPolicy=Background", 200, json!(["example.com/hold"])),
    ] {
        let mut held = map("m");
        held["metadata"]["finalizers"] = json!(["example.com/hold", "orphan"]);
        world.post(MAPS, held).await.ok();
        let uri = format!("{MAPS}/m");
        let going = world.delete(&format!("{uri}{query}")).await;
        assert_eq!(
            (going.code, &going.body["metadata"]["finalizers"]),
            (code, &finalizers),
            "{query}"
        );
        let free = json!({"metadata": {"finalizers": null}});
        world.patch(crate::world::MERGE, &uri, free).await.ok();
        world.get(&uri).await.failed(404, "NotFound");
    }
}

#[tokio::test]
async fn a_precondition_that_fails_names_both_sides() {
    let world = World::new().await;
    let made = world.post(PODS, pod("p")).await.ok();
    let (uid, version) = (made["metadata"]["uid"].as_str().expect("a uid"), revision(&made));
    let uri = format!("{PODS}/p");
    for (preconditions, why) in [
        (
            json!({"uid": "other"}),
            format!(
                "the UID in the precondition (other) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
            ),
        ),
        (
            json!({"uid": uid, "resourceVersion": "1"}),
            format!(
                "the ResourceVersion in the precondition (1) does not match the ResourceVersion in record ({version}). The object might have been modified"
            ),
        ),
    ] {
        let refused = delete(&world, &uri, json!({"preconditions": preconditions})).await;
        assert_eq!(refused.body["details"]["kind"], "Pod");
        assert_eq!(
            refused.failed(409, "Conflict"),
            format!("Operation cannot be fulfilled on Pod \"p\": {why}")
        );
    }
    let refused = world.delete(&format!("{uri}?uid=other")).await;
    refused.failed(409, "Conflict");
}

#[tokio::test]
async fn a_page_of_a_collection_is_deleted_as_a_list_would_show_it() {
    let world = World::new().await;
    for name in ["a", "b", "c", "d"] {
        world.post(MAPS, map(name)).await.ok();
    }
    let names = |list: &Value| -> Vec<String> {
        let items = list["items"].as_array().expect("items").iter();
        items
            .map(|item| item["metadata"]["name"].as_str().unwrap_or_default().to_owned())
            .collect()
    };
    let first = world.delete(&format!("{MAPS}?limit=2")).await.ok();
    assert_eq!(names(&first), ["a", "b"]);
    assert_eq!(names(&world.get(MAPS).await.ok()), ["c", "d"]);
    let token = first["metadata"]["continue"].as_str().expect("a token");
    let second = world.delete(&format!("{MAPS}?limit=1&continue={token}")).await.ok();
    assert_eq!(names(&second), ["c"]);
    assert_eq!(names(&world.get(MAPS).await.ok()), ["d"]);
    let odd = format!("{MAPS}?resourceVersionMatch=Exact");
    world.delete(&odd).await.failed(422, "Invalid");
    // What came after the revision that is named stays.
    let past = revision(&world.get(MAPS).await.ok());
    world.post(MAPS, map("e")).await.ok();
    let query = format!("resourceVersion={past}&resourceVersionMatch=Exact");
    let gone = world.delete(&format!("{MAPS}?{query}")).await.ok();
    assert_eq!(names(&gone), ["d"]);
    assert_eq!(names(&world.get(MAPS).await.ok()), ["e"]);
}
