//! Objects whose stored bytes are no JSON: a damaged store must not take the rest of a kind along.

use bytes::Bytes;
use serde_json::{Value, json};
use setpoint_store::{Expect, Log};

use crate::world::{JSON, World};
use crate::{MAPS, PODS, map, pod, revision};

const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// Overwrites what is stored under a key.
async fn damage(world: &World, key: &str) {
    let found = world.log.get(key, None).await.expect("a read").expect("an object");
    let half = found.value.slice(..found.value.len() / 2);
    let written = world.log.put(key, half, Expect::Any).await.expect("a write");
    world.registry.cache().wait_for(written).await.expect("visible");
}

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().expect("items");
    items
        .iter()
        .map(|item| item["metadata"]["name"].as_str().expect("a name"))
        .collect()
}

#[tokio::test]
async fn a_damaged_object_is_left_out_of_lists_and_named_when_asked_for() {
    let mut world = World::new().await;
    for name in ["a", "b", "c"] {
        world.post(MAPS, map(name)).await.ok();
    }
    let before = world.get(MAPS).await.ok();
    damage(&world, "core/configmaps/default/b").await;
    let past = format!(
        "{MAPS}?resourceVersion={}&resourceVersionMatch=Exact",
        revision(&world.get(MAPS).await.ok())
    );
    world.post(MAPS, map("d")).await.ok();
    // From memory, by a selector, in pages, at a past revision, as a table; and all of it again after a restart.
    for _ in 0..2 {
        assert_eq!(names(&world.get(MAPS).await.ok()), ["a", "c", "d"]);
        let selected = world
            .get(&format!("{MAPS}?fieldSelector=metadata.namespace=default"))
            .await;
        assert_eq!(names(&selected.ok()), ["a", "c", "d"]);
        let page = world.get(&format!("{MAPS}?limit=2")).await.ok();
        assert_eq!(names(&page), ["a", "c"]);
        assert_eq!(page["metadata"]["remainingItemCount"], 1);
        let table = world.ask(http::Method::GET, MAPS, JSON, TABLE, None).await.ok();
        assert_eq!(table["rows"].as_array().map(Vec::len), Some(3));
        assert_eq!(names(&world.get(&past).await.ok()), ["a", "c"]);
        let message = world.get(&format!("{MAPS}/b")).await.failed(500, "InternalError");
        assert!(
            message.contains("configmaps \"b\" is damaged in the store") && message.contains("delete it"),
            "{message}"
        );
        world.restart().await;
    }
    assert_eq!(names(&before), ["a", "b", "c"]);
}

#[tokio::test]
async fn a_damaged_object_can_be_deleted_and_made_anew() {
    let world = World::new().await;
    world.post(MAPS, map("a")).await.ok();
    world.post(PODS, pod("p")).await.ok();
    for (list, key, anew) in [
        (MAPS, "core/configmaps/default/a", map("a")),
        (PODS, "core/pods/default/p", pod("p")),
    ] {
        let name = anew["metadata"]["name"].as_str().expect("a name");
        damage(&world, key).await;
        world.post(list, anew.clone()).await.failed(409, "AlreadyExists");
        let gone = world.delete(&format!("{list}/{name}")).await.ok();
        // Also where a deletion shows what went: of this there is nothing to show.
        assert_eq!(
            (&gone["status"], &gone["details"]["name"]),
            (&json!("Success"), &json!(name))
        );
        world.get(&format!("{list}/{name}")).await.failed(404, "NotFound");
        world.post(list, anew.clone()).await.ok();
        world.get(&format!("{list}/{name}")).await.ok();
    }
}

#[tokio::test]
async fn a_watch_sees_a_damaged_object_go_and_come_back() {
    let world = World::new().await;
    let first = world.post(MAPS, map("a")).await.ok();
    damage(&world, "core/configmaps/default/a").await;
    world.delete(&format!("{MAPS}/a")).await.ok();
    world.post(MAPS, map("b")).await.ok();
    let key = "core/configmaps/default/c";
    let written = world.log.put(key, Bytes::from_static(b"\"text\""), Expect::Any).await;
    world
        .registry
        .cache()
        .wait_for(written.expect("a write"))
        .await
        .expect("visible");
    let mended = world.put(&format!("{MAPS}/c"), map("c")).await.ok();
    let uri = format!("{MAPS}?watch=1&resourceVersion={}", revision(&first));
    let seen = |events: Vec<Value>| -> Vec<(String, String)> {
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        events
            .iter()
            .map(|event| (word(&event["type"]), word(&event["object"]["metadata"]["name"])))
            .collect()
    };
    let expected =
        [("DELETED", "a"), ("ADDED", "b"), ("ADDED", "c")].map(|(kind, name)| (kind.to_owned(), name.to_owned()));
    assert_eq!(seen(world.watch(&uri, 3).await), expected);
    assert!(mended["metadata"]["uid"].as_str().is_some_and(|uid| !uid.is_empty()));
    // Whoever begins to watch is shown what is whole.
    damage(&world, "core/configmaps/default/b").await;
    world.post(MAPS, map("d")).await.ok();
    let initial = seen(world.watch(&format!("{MAPS}?watch=1"), 2).await);
    assert_eq!(
        initial,
        [("ADDED", "c"), ("ADDED", "d")].map(|(kind, name)| (kind.to_owned(), name.to_owned()))
    );
}
