//! Lists at a revision and in pages, and what they and watches refuse.

use serde_json::Value;
use setpoint_store::Log;

use crate::world::World;
use crate::{MAPS, map, revision};

fn names(list: &Value) -> Vec<&str> {
    let items = list["items"].as_array().expect("items").iter();
    items
        .map(|item| item["metadata"]["name"].as_str().unwrap_or_default())
        .collect()
}

fn token(list: &Value) -> &str {
    list["metadata"]["continue"].as_str().expect("a token")
}

#[tokio::test]
async fn a_page_at_a_revision_is_of_that_revision_and_says_how_much_is_left() {
    let world = World::new().await;
    for name in ["a", "b", "c", "d", "e"] {
        world.post(MAPS, map(name)).await.ok();
    }
    let before = revision(&world.get(MAPS).await.ok());
    world.delete(&format!("{MAPS}/b")).await.ok();
    let first = world
        .get(&format!("{MAPS}?limit=2&resourceVersion={before}"))
        .await
        .ok();
    assert_eq!((names(&first), revision(&first)), (vec!["a", "b"], before.clone()));
    let left = |list: &Value| list["metadata"]["remainingItemCount"].as_u64();
    // The namespace has a map of its own or two beside these: what counts is how the number falls.
    let second = world
        .get(&format!("{MAPS}?limit=2&continue={}", token(&first)))
        .await
        .ok();
    assert_eq!((names(&second), revision(&second)), (vec!["c", "d"], before.clone()));
    assert_eq!((left(&first), left(&second)), (Some(3), Some(1)));
    let last = world
        .get(&format!("{MAPS}?limit=2&continue={}", token(&second)))
        .await
        .ok();
    assert_eq!((names(&last), left(&last)), (vec!["e"], None));
    let some = format!("{MAPS}?limit=2&resourceVersion={before}&labelSelector=!x");
    assert_eq!(
        left(&world.get(&some).await.ok()),
        None,
        "what is selected is not counted"
    );
    // Without a limit the revision is the least that is wanted, and 0 wants nothing.
    for query in [
        format!("resourceVersion={before}"),
        "limit=4&resourceVersion=0".to_owned(),
    ] {
        let now = world.get(&format!("{MAPS}?{query}")).await.ok();
        assert_eq!(names(&now), ["a", "c", "d", "e"]);
    }
}

#[tokio::test]
async fn a_list_whose_revision_is_forgotten_can_go_on_as_things_are_now() {
    let world = World::new().await;
    for name in ["a", "b", "c"] {
        world.post(MAPS, map(name)).await.ok();
    }
    let first = world.get(&format!("{MAPS}?limit=1")).await.ok();
    world.post(MAPS, map("bb")).await.ok();
    let newest = world.get(MAPS).await.ok();
    let newest: u64 = revision(&newest).parse().expect("a number");
    world.log.compact(newest).await.expect("compacted");
    let uri = format!("{MAPS}?limit=2&continue={}", token(&first));
    let expired = world.get(&uri).await;
    let next = token(&expired.body).to_owned();
    let message = expired.failed(410, "Expired");
    assert!(
        message.starts_with("The provided continue parameter is too old to display a consistent list result. You can start a new list without the continue parameter, or use the continue token in this response"),
        "{message}"
    );
    let rest = world.get(&format!("{MAPS}?limit=2&continue={next}")).await.ok();
    assert_eq!(names(&rest), ["b", "bb"]);
    assert_eq!(revision(&rest), newest.to_string());
    let last = world.get(&format!("{MAPS}?continue={}", token(&rest))).await.ok();
    assert_eq!(names(&last), ["c"]);
    let past = format!("{MAPS}?resourceVersion={}&resourceVersionMatch=Exact", revision(&first));
    assert_eq!(
        world.get(&past).await.failed(410, "Expired"),
        "The resourceVersion for the provided list is too old."
    );
}

#[tokio::test]
async fn lists_and_watches_refuse_what_they_cannot_mean() {
    let world = World::new().await;
    let zero = "eyJ2IjoibWV0YS5rOHMuaW8vdjEiLCJzdGFydCI6ImEifQ";
    for (query, code, reason, message) in [
        (
            "resourceVersion=abc".to_owned(),
            400,
            "BadRequest",
            "invalid resource version: resourceVersion: Invalid value: \"abc\": strconv.ParseUint: parsing \"abc\": invalid syntax",
        ),
        (
            "watch=1&resourceVersion=abc".to_owned(),
            422,
            "Invalid",
            "configmaps \"\" is invalid: resourceVersion: Invalid value: \"abc\": strconv.ParseUint: parsing \"abc\": invalid syntax",
        ),
        (
            "continue=*".to_owned(),
            400,
            "BadRequest",
            "invalid continue token: continue key is not valid: illegal base64 data at input byte 0",
        ),
        (
            format!("continue={zero}"),
            400,
            "BadRequest",
            "invalid continue token: continue key is not valid: incorrect encoded start resourceVersion (version meta.k8s.io/v1)",
        ),
        (
            "sendInitialEvents=true&resourceVersionMatch=NotOlderThan".to_owned(),
            422,
            "Invalid",
            "ListOptions.meta.k8s.io \"\" is invalid: [resourceVersionMatch: Forbidden: resourceVersionMatch is forbidden unless resourceVersion is provided, sendInitialEvents: Forbidden: sendInitialEvents is forbidden for list]",
        ),
    ] {
        let refused = world.get(&format!("{MAPS}?{query}")).await;
        assert_eq!(refused.failed(code, reason), message, "{query}");
    }
    let token = {
        world.post(MAPS, map("a")).await.ok();
        world.post(MAPS, map("b")).await.ok();
        let first = world.get(&format!("{MAPS}?limit=1")).await.ok();
        token(&first).to_owned()
    };
    let both = world.get(&format!("{MAPS}?continue={token}&resourceVersion=5")).await;
    assert_eq!(
        both.failed(400, "BadRequest"),
        "specifying resource version is not allowed when using continue"
    );
}
