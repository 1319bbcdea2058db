//! Which object a request is about: names, namespaces, uids and resourceVersions in body and path.

use http::Method;
use serde_json::{Value, json};

use crate::world::{APPLY, JSON, MERGE, World};
use crate::{DEPLOYMENTS, MAPS, PODS, deployment, map, pod, revision};

const LEASES: &str = "/apis/coordination.k8s.io/v1/namespaces/default/leases";

fn lease(holder: &str) -> Value {
    json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "l"}, "spec": {"holderIdentity": holder}})
}

#[tokio::test]
async fn a_watch_of_one_object_by_its_path_tells_of_that_object_alone() {
    let world = World::new().await;
    for name in ["a", "b"] {
        world.post(MAPS, map(name)).await.ok();
    }
    let from = revision(&world.get(MAPS).await.ok());
    for (name, value) in [("a", "2"), ("b", "2"), ("a", "3"), ("b", "3")] {
        world
            .patch(MERGE, &format!("{MAPS}/{name}"), json!({"data": {"a": value}}))
            .await
            .ok();
    }
    let uri = "/api/v1/watch/namespaces/default/configmaps/b";
    let seen = |events: Vec<Value>| -> Vec<(String, String)> {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let one = |event: &Value| {
            (
                text(&event["object"]["metadata"]["name"]),
                text(&event["object"]["data"]["a"]),
            )
        };
        events.iter().map(one).collect()
    };
    let wanted = |value: &str| ("b".to_owned(), value.to_owned());
    let events = world.watch(&format!("{uri}?resourceVersion={from}"), 2).await;
    assert_eq!(seen(events), [wanted("2"), wanted("3")]);
    // The same name as a selector changes nothing; a label selector narrows it further.
    let same = format!("{uri}?resourceVersion={from}&fieldSelector=metadata.name%3Db");
    assert_eq!(seen(world.watch(&same, 1).await), [wanted("2")]);
    for selector in [
        "metadata.name%3Da",
        "metadata.name!%3Da",
        "metadata.namespace%3Ddefault",
    ] {
        let refused = world.get(&format!("{uri}?fieldSelector={selector}")).await;
        assert_eq!(
            refused.failed(400, "BadRequest"),
            "fieldSelector metadata.name doesn't match requested name"
        );
    }
}

#[tokio::test]
async fn a_body_names_the_object_of_the_path() {
    let world = World::new().await;
    world.post(MAPS, map("m")).await.ok();
    world.post(DEPLOYMENTS, deployment("d")).await.ok();
    let nameless = "the name of the object (m based on URL) was undeterminable: name must be provided";
    let namespace = "the namespace of the provided object does not match the namespace sent on the request";
    let uri = format!("{MAPS}/m");
    for (metadata, message) in [
        (json!({}), nameless),
        (json!({"name": ""}), nameless),
        (
            json!({"name": "n"}),
            "the name of the object (n) does not match the name on the URL (m)",
        ),
        (json!({"name": "m", "namespace": "other"}), namespace),
    ] {
        let refused = world.put(&uri, json!({"metadata": metadata})).await;
        assert_eq!(refused.failed(400, "BadRequest"), message);
    }
    let refused = world
        .post(MAPS, json!({"metadata": {"name": "n", "namespace": "other"}}))
        .await;
    assert_eq!(refused.failed(400, "BadRequest"), namespace);
    let refused = world.patch(MERGE, &uri, json!({"metadata": {"name": null}})).await;
    assert_eq!(refused.failed(400, "BadRequest"), nameless);
}

#[tokio::test]
async fn a_resource_version_of_zero_is_none() {
    let world = World::new().await;
    let mut new = map("m");
    new["metadata"]["resourceVersion"] = "0".into();
    world.post(MAPS, new.clone()).await.ok();
    new["data"]["a"] = "2".into();
    assert_eq!(
        world.put(&format!("{MAPS}/m"), new).await.ok()["data"]["a"],
        "2",
        "it replaces whatever is there"
    );
    let mut given = map("n");
    given["metadata"]["resourceVersion"] = "7".into();
    let refused = world.post(MAPS, given).await.failed(400, "BadRequest");
    assert_eq!(refused, "resourceVersion should not be set on objects to be created");
}

#[tokio::test]
async fn some_kinds_are_replaced_only_by_who_says_what_they_replace() {
    let world = World::new().await;
    let uri = format!("{LEASES}/l");
    // It is absent: the replacement makes it.
    let made = world.put(&uri, lease("me")).await;
    assert_eq!(made.code, 201);
    let made = made.ok();
    assert_eq!(made["metadata"]["namespace"], "default");
    for unset in [Value::Null, json!(""), json!("0")] {
        let mut other = lease("you");
        other["metadata"]["resourceVersion"] = unset;
        let refused = world.put(&uri, other).await;
        assert_eq!(
            (refused.code, &refused.body["message"], &refused.body["details"]["kind"]),
            (
                422,
                &json!(
                    "leases.coordination.k8s.io \"l\" is invalid: metadata.resourceVersion: Invalid value: 0: must be specified for an update"
                ),
                &json!("leases")
            )
        );
        assert_eq!(refused.body["details"]["group"], "coordination.k8s.io");
    }
    let mut same = lease("you");
    same["metadata"]["resourceVersion"] = made["metadata"]["resourceVersion"].clone();
    let taken = world.put(&uri, same.clone()).await;
    assert_eq!(
        (taken.code, &taken.body["spec"]["holderIdentity"]),
        (200, &json!("you"))
    );
    world.put(&uri, same).await.failed(409, "Conflict");
    // Patches and applies say no resourceVersion and need none.
    world
        .patch(MERGE, &uri, json!({"spec": {"holderIdentity": "she"}}))
        .await
        .ok();
    world
        .patch(APPLY, &format!("{uri}?fieldManager=me&force=true"), lease("he"))
        .await
        .ok();
    let cleared = world
        .patch(MERGE, &uri, json!({"metadata": {"resourceVersion": null}}))
        .await;
    cleared.failed(422, "Invalid");
}

#[tokio::test]
async fn a_replacement_makes_objects_of_some_kinds_only() {
    let world = World::new().await;
    let refused = world.put(&format!("{MAPS}/m"), map("m")).await;
    assert_eq!(refused.failed(404, "NotFound"), "configmaps \"m\" not found");
    world.put(&format!("{PODS}/p"), pod("p")).await.failed(404, "NotFound");
    let role = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": {"name": "r"}, "rules": []});
    let uri = "/apis/rbac.authorization.k8s.io/v1/clusterroles/r";
    let dry = world.put(&format!("{uri}?dryRun=All"), role.clone()).await;
    assert_eq!(dry.code, 201);
    world.get(uri).await.failed(404, "NotFound");
    let mut other = role.clone();
    other["metadata"]["uid"] = "some".into();
    let refused = world.put(uri, other).await.failed(409, "Conflict");
    assert!(
        refused.ends_with("Precondition failed: UID in precondition: some, UID in object meta: "),
        "{refused}"
    );
    assert_eq!(world.put(uri, role.clone()).await.code, 201);
    assert_eq!(world.put(uri, role).await.code, 200);
    let nowhere = LEASES.replace("default", "nowhere");
    world
        .ask(Method::PUT, &format!("{nowhere}/l"), JSON, JSON, Some(&lease("me")))
        .await
        .failed(404, "NotFound");
}

#[tokio::test]
async fn what_a_subresource_takes_is_checked_like_an_object() {
    let world = World::new().await;
    world.post(DEPLOYMENTS, deployment("d")).await.ok();
    let bound = pod("p");
    let made = world.post(PODS, bound).await.ok();
    let (scale, binding, finalize) = (
        format!("{DEPLOYMENTS}/d/scale"),
        format!("{PODS}/p/binding"),
        "/api/v1/namespaces/default/finalize",
    );
    let target = json!({"kind": "Node", "name": "box"});
    for (method, uri, body, code, message) in [
        (
            Method::PUT,
            scale.as_str(),
            json!({}),
            400,
            "the name of the object (d based on URL) was undeterminable: name must be provided",
        ),
        (
            Method::PUT,
            &scale,
            json!({"metadata": {"name": "e"}, "spec": {"replicas": 1}}),
            400,
            "the name of the object (e) does not match the name on the URL (d)",
        ),
        (
            Method::PUT,
            &scale,
            json!({"metadata": {"name": "d"}, "spec": {"replicas": "1"}}),
            400,
            "Scale in version \"v1\" cannot be handled as a Scale: json: cannot unmarshal string into Go struct field ScaleSpec.spec.replicas of type int32",
        ),
        (
            Method::PUT,
            &scale,
            json!({"apiVersion": "apps/v1", "kind": "Scale", "metadata": {"name": "d"}}),
            400,
            "the API version in the data (apps/v1) does not match the expected API version (autoscaling/v1)",
        ),
        (
            Method::POST,
            &binding,
            json!({"target": target}),
            400,
            "name in URL does not match name in Binding object",
        ),
        (
            Method::POST,
            &binding,
            json!({"metadata": {"name": "p", "resourceVersion": "1"}, "target": target}),
            409,
            "Operation cannot be fulfilled on pods \"p\": the object has been modified; please apply your changes to the latest version and try again",
        ),
        (
            Method::POST,
            &binding,
            json!({"metadata": {"name": "p"}, "target": "box"}),
            400,
            "Binding in version \"v1\" cannot be handled as a Binding: json: cannot unmarshal string into Go struct field Binding.target of type v1.ObjectReference",
        ),
        (
            Method::PUT,
            finalize,
            json!({"metadata": {"name": "kube-system"}}),
            400,
            "the name of the object (kube-system) does not match the name on the URL (default)",
        ),
        (
            Method::PUT,
            finalize,
            json!({"metadata": {"name": "default", "resourceVersion": "99999"}}),
            409,
            "Operation cannot be fulfilled on namespaces \"default\": the object has been modified; please apply your changes to the latest version and try again",
        ),
    ] {
        let refused = world.ask(method, uri, JSON, JSON, Some(&body)).await;
        assert_eq!(
            (refused.code, &refused.body["message"]),
            (code, &json!(message)),
            "{body}"
        );
    }
    let other = json!({"metadata": {"name": "default", "uid": "other"}});
    world.put(finalize, other).await.failed(409, "Conflict");
    assert_eq!(world.get(&format!("{DEPLOYMENTS}/d")).await.ok()["spec"]["replicas"], 3);
    assert_eq!(world.get(&format!("{PODS}/p")).await.ok(), made, "nothing was written");
    let right = json!({"metadata": {"name": "p", "resourceVersion": revision(&made)}, "target": target});
    let answer = world.post(&binding, right).await;
    assert_eq!(
        (answer.code, answer.body),
        (
            201,
            json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201})
        )
    );
}
