//! What the server makes of metadata: finalizers, owners, generations, warnings, and who may select by what.

use http::Method;
use serde_json::{Value, json};

use crate::world::{APPLY, Got, JSON, MERGE, World};
use crate::{MAPS, PODS, map, pod};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/example.com/v1/widgets";

fn definition(versions: &[(&str, bool)]) -> Value {
    let versions: Vec<Value> = versions
        .iter()
        .map(|(name, storage)| {
            json!({"name": name, "served": true, "storage": storage, "schema": {"openAPIV3Schema": {
                "type": "object", "x-kubernetes-preserve-unknown-fields": true}}})
        })
        .collect();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition", "metadata": {"name": "widgets.example.com"},
        "spec": {"group": "example.com", "scope": "Cluster", "names": {"kind": "Widget", "plural": "widgets"}, "versions": versions},
    })
}

async fn widgets() -> World {
    let world = World::new().await;
    world.post(DEFINITIONS, definition(&[("v1", true)])).await.ok();
    world
}

fn widget(metadata: Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": metadata})
}

fn warnings(got: &Got) -> Vec<String> {
    let texts = got.headers.get_all("warning").iter();
    texts.map(|text| text.to_str().expect("text").to_owned()).collect()
}

#[tokio::test]
async fn a_custom_resource_may_have_finalizers_without_a_path() {
    let world = widgets().await;
    let made = world
        .post(
            WIDGETS,
            widget(json!({"name": "w", "finalizers": ["x", "foregroundDeletion", "x.y", "x.y/z"]})),
        )
        .await;
    assert_eq!(made.code, 201);
    assert_eq!(
        warnings(&made),
        [
            "299 - \"metadata.finalizers: \\\"x\\\": prefer a domain-qualified finalizer name to avoid accidental conflicts with other finalizer writers\"",
            "299 - \"metadata.finalizers: \\\"x.y\\\": prefer a domain-qualified finalizer name including a path (/) to avoid accidental conflicts with other finalizer writers\"",
        ]
    );
    let changed = world
        .patch(
            MERGE,
            &format!("{WIDGETS}/w"),
            json!({"metadata": {"labels": {"a": "b"}}}),
        )
        .await;
    assert_eq!(
        (changed.code, warnings(&changed).len()),
        (200, 0),
        "they were there before"
    );
    let mut built_in = map("m");
    built_in["metadata"]["finalizers"] = json!(["x.y"]);
    world.post(MAPS, built_in).await.failed(422, "Invalid");
}

#[tokio::test]
async fn a_custom_resource_that_keeps_its_status_within_counts_its_changes() {
    let world = widgets().await;
    world.post(WIDGETS, widget(json!({"name": "w"}))).await.ok();
    for (patch, generation) in [
        (json!({"status": {"ready": true}}), 2),
        (json!({"metadata": {"labels": {"a": "b"}}}), 2),
        (json!({"spec": {"size": 1}}), 3),
    ] {
        let changed = world.patch(MERGE, &format!("{WIDGETS}/w"), patch).await.ok();
        assert_eq!(changed["metadata"]["generation"], generation);
    }
}

#[tokio::test]
async fn a_definition_remembers_every_version_that_objects_were_stored_in() {
    let world = widgets().await;
    let uri = format!("{DEFINITIONS}/widgets.example.com");
    let mut new = world.get(&uri).await.ok();
    new["spec"]["versions"] = definition(&[("v1", false), ("v2", true)])["spec"]["versions"].clone();
    let changed = world.put(&uri, new).await.ok();
    assert_eq!(changed["status"]["storedVersions"], json!(["v1", "v2"]));
    let conditions = changed["status"]["conditions"].as_array().expect("conditions");
    assert!(
        conditions
            .iter()
            .any(|one| one["type"] == "Established" && one["status"] == "True"),
        "{conditions:?}"
    );
    world.get("/apis/example.com/v2/widgets").await.ok();
}

#[tokio::test]
async fn references_to_owners_are_whole_and_each_is_there_once() {
    let world = World::new().await;
    let owner = |uid: &str| json!({"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid});
    let with = |owners: Value| {
        let mut object = map("m");
        object["metadata"]["ownerReferences"] = owners;
        object
    };
    let path = "metadata.ownerReferences";
    let mut controller = owner("1");
    controller["controller"] = true.into();
    let mut other = controller.clone();
    other["name"] = "q".into();
    let two = json!([controller, other]);
    let event = json!({"apiVersion": "v1", "kind": "Event", "name": "e", "uid": "1"});
    for (owners, wrong) in [
        (
            json!([{}]),
            ["apiVersion", "kind", "name", "uid"]
                .map(|key| format!("{path}[0].{key}: Required value: must not be empty"))
                .to_vec(),
        ),
        (
            json!([{"apiVersion": "apps/", "kind": "Pod", "name": "p", "uid": "1"}]),
            vec![format!(
                "{path}[0].apiVersion: Invalid value: \"apps/\": must be <group>/<version> or <version>"
            )],
        ),
        (
            json!([event]),
            vec![format!(
                "{path}[0]: Invalid value: {event}: /v1, Kind=Event is disallowed from being an owner"
            )],
        ),
        (
            two.clone(),
            vec![format!(
                "{path}: Invalid value: {two}: Only one reference can have Controller set to true. Found \"true\" in references for Pod/p and Pod/q"
            )],
        ),
    ] {
        let message = world.post(MAPS, with(owners)).await.failed(422, "Invalid");
        let list = match &wrong[..] {
            [one] => one.clone(),
            more => format!("[{}]", more.join(", ")),
        };
        assert_eq!(message, format!("ConfigMap \"m\" is invalid: {list}"));
    }
    let twice = with(json!([owner("1"), owner("2"), owner("1")]));
    let text = |when: &str| {
        format!(
            "299 - \".metadata.ownerReferences contains duplicate entries{when}; API server dedups owner references in 1.20+, and may reject such requests as early as 1.24; please fix your requests; duplicate UID(s) observed: 1\""
        )
    };
    let made = world.post(MAPS, twice.clone()).await;
    assert_eq!(warnings(&made), [text("")]);
    assert_eq!(
        made.body["metadata"]["ownerReferences"],
        json!([owner("1"), owner("2")])
    );
    let put = world.put(&format!("{MAPS}/m"), twice.clone()).await;
    assert_eq!(warnings(&put), [text("")]);
    let patched = world
        .patch(MERGE, &format!("{MAPS}/m"), json!({"metadata": twice["metadata"]}))
        .await;
    assert_eq!(warnings(&patched), [text(" after mutating admission happens")]);
    assert_eq!(
        patched.body["metadata"]["ownerReferences"],
        json!([owner("1"), owner("2")])
    );
}

#[tokio::test]
async fn kinds_are_selected_by_the_fields_that_they_have() {
    let world = widgets().await;
    for (uri, field, message) in [
        (
            MAPS,
            "spec.x",
            "\"spec.x\" is not a known field selector: only \"metadata.name\", \"metadata.namespace\"",
        ),
        (PODS, "spec.x", "field label not supported: spec.x"),
        (
            WIDGETS,
            "metadata.namespace",
            "field label not supported: metadata.namespace",
        ),
    ] {
        let refused = world.get(&format!("{uri}?fieldSelector={field}%3Da")).await;
        assert_eq!(refused.failed(400, "BadRequest"), message);
    }
}

#[tokio::test]
async fn a_method_that_is_not_there_is_not_allowed() {
    let world = widgets().await;
    let built_in = "the server does not allow this method on the requested resource";
    for (method, uri, message) in [
        (Method::POST, "/api/v1/configmaps", built_in),
        (Method::DELETE, "/api/v1/namespaces", built_in),
        (Method::DELETE, &format!("{PODS}/p/status"), built_in),
        (Method::GET, &format!("{PODS}/p/binding"), built_in),
        (Method::POST, &format!("{MAPS}/m"), built_in),
        (Method::PUT, MAPS, built_in),
        (
            Method::OPTIONS,
            WIDGETS,
            " is not supported on resources of kind \"widgets.example.com\"",
        ),
    ] {
        let refused = world.ask(method, uri, JSON, JSON, None).await;
        if message == built_in {
            assert_eq!(refused.body["details"], json!({}));
        }
        assert_eq!(refused.failed(405, "MethodNotAllowed"), message, "{uri}");
    }
}

#[tokio::test]
async fn older_clients_get_tables_and_metadata_of_their_version() {
    let world = World::new().await;
    world.post(PODS, pod("p")).await.ok();
    let ask = async |uri: &str, form: &str| {
        let accept = format!("application/json;as={form};v=v1beta1;g=meta.k8s.io");
        world.ask(Method::GET, uri, JSON, &accept, None).await.ok()
    };
    let beta = "meta.k8s.io/v1beta1";
    let table = ask(PODS, "Table").await;
    assert_eq!(
        (&table["apiVersion"], &table["rows"][0]["object"]["apiVersion"]),
        (&json!(beta), &json!(beta))
    );
    let whole = ask(&format!("{PODS}?includeObject=Object"), "Table").await;
    assert_eq!(whole["rows"][0]["object"]["apiVersion"], "v1");
    let list = ask(PODS, "PartialObjectMetadataList").await;
    assert_eq!(
        (&list["kind"], &list["apiVersion"], &list["items"][0]["apiVersion"]),
        (&json!("PartialObjectMetadataList"), &json!(beta), &json!(beta))
    );
    let one = ask(&format!("{PODS}/p"), "PartialObjectMetadata").await;
    assert_eq!(one["apiVersion"], beta);
}

#[tokio::test]
async fn a_watch_is_no_yaml_and_a_body_says_what_it_is() {
    let world = World::new().await;
    let uri = format!("{MAPS}?watch=1");
    let accept = [("accept", "application/yaml, application/json")];
    let yaml = world.send_raw(Method::GET, &uri, &accept, Vec::new()).await;
    assert_eq!(yaml.status(), 406);
    for kind in ["text/plain", "*/*", "text/yaml", "application/x-yaml"] {
        let refused = world.ask(Method::POST, MAPS, kind, JSON, Some(&map("m"))).await;
        assert_eq!(
            refused.failed(415, "UnsupportedMediaType"),
            "the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf",
            "{kind}"
        );
    }
}

#[tokio::test]
async fn options_count_for_the_verbs_that_have_them() {
    let world = World::new().await;
    let odd = "dryRun=Some&fieldValidation=odd";
    world.get(&format!("{MAPS}?{odd}")).await.ok();
    let refused = world.post(&format!("{MAPS}?{odd}"), map("m")).await;
    refused.failed(422, "Invalid");
    let refused = world
        .patch(APPLY, &format!("{MAPS}/m?fieldManager=a%07"), map("m"))
        .await;
    assert_eq!(
        refused.failed(422, "Invalid"),
        "PatchOptions.meta.k8s.io \"\" is invalid: fieldManager: Invalid value: \"a\\a\": invalid character U+0007 (at position 1)"
    );
}
