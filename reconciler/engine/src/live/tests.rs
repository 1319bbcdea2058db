use parking_lot::Mutex;
use serde_json::json;

use super::*;

/// What is heard, of a cluster that is never asked, and who was woken by it.
fn world() -> (Live, Arc<Mutex<Vec<String>>>) {
    let config = kube::Config::new("http://127.0.0.1:1".parse().unwrap());
    let woken: Arc<Mutex<Vec<String>>> = Arc::default();
    let wakes = woken.clone();
    let wake: Wake = Arc::new(move |app: &str| wakes.lock().push(app.to_owned()));
    (Live::new(Target::new(Client::try_from(config).unwrap()), wake), woken)
}

fn resource() -> ApiResource {
    ApiResource::erase::<k8s_openapi::api::core::v1::ConfigMap>(&())
}

fn object(owner: &str, version: &str) -> PartialObjectMeta<DynamicObject> {
    let object = json!({
        "apiVersion": "meta.k8s.io/v1",
        "kind": "PartialObjectMetadata",
        "metadata": {
            "name": "web",
            "namespace": "shop",
            "uid": "1",
            "resourceVersion": version,
            "annotations": {OWNER_ANNOTATION: owner},
        },
    });
    serde_json::from_value(object).unwrap()
}

#[tokio::test]
async fn whoever_wants_what_another_app_has_is_woken_when_that_lets_it_go() {
    let (live, woken) = world();
    live.applied(&resource(), &object("a/old", "1"));
    let key = key_of(&resource(), &object("a/old", "1"));
    live.await_release(&key, "a/new");
    live.applied(&resource(), &object("a/old", "2"));
    assert!(!live.take_released("a/new"), "a change is no release");
    live.gone(&key);
    assert_eq!(woken.lock().last().map(String::as_str), Some("a/new"));
    assert!(live.take_released("a/new"));
    assert!(!live.take_released("a/new"));
}

#[tokio::test]
async fn who_takes_an_object_over_wakes_the_one_that_had_it() {
    let (live, woken) = world();
    live.applied(&resource(), &object("a/old", "1"));
    woken.lock().clear();
    live.applied(&resource(), &object("a/new", "2"));
    assert_eq!(*woken.lock(), ["a/old", "a/new"]);
}

#[tokio::test(start_paused = true)]
async fn a_list_that_does_not_come_is_waited_for_once_and_a_watch_that_broke_is_none() {
    let (live, _) = world();
    let (listing, listed) = watch::channel(false);
    let key = (String::new(), "ConfigMap".to_owned());
    live.watched.lock().insert(key, Followed { listed, late: false });
    let object = ObjectRef {
        group: String::new(),
        version: "v1".to_owned(),
        kind: "ConfigMap".to_owned(),
        namespace: Some("shop".to_owned()),
        name: "web".to_owned(),
    };
    let begun = tokio::time::Instant::now();
    assert!(!live.watch(&object).await.unwrap());
    assert_eq!(begun.elapsed(), FIRST_LIST);
    assert!(!live.watch(&object).await.unwrap());
    assert_eq!(begun.elapsed(), FIRST_LIST, "not a second time");
    listing.send_replace(true);
    assert!(live.watch(&object).await.unwrap());
    listing.send_replace(false);
    assert!(!live.watch(&object).await.unwrap());
}
