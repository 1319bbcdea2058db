//! CustomResourceDefinitions through the API: their rules are enforced, and names are given once.

use http::Method;
use serde_json::{Value, json};

use crate::world::{MERGE, World};

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const WIDGETS: &str = "/apis/example.com/v1/namespaces/default/widgets";

fn definition(plural: &str, kind: &str, spec: Value) -> Value {
    json!({
        "apiVersion": "apiextensions.k8s.io/v1", "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{plural}.example.com")},
        "spec": {"group": "example.com", "scope": "Namespaced", "names": {"kind": kind, "plural": plural, "shortNames": ["wi"]},
            "versions": [{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {
                "type": "object", "properties": {"spec": spec}}}}]},
    })
}

fn condition(definition: &Value, name: &str) -> Value {
    let conditions = definition["status"]["conditions"]
        .as_array()
        .cloned()
        .unwrap_or_default();
    conditions
        .into_iter()
        .find(|condition| condition["type"] == name)
        .unwrap_or_default()
}

#[tokio::test]
async fn rules_of_a_definition_are_enforced() {
    let world = World::new().await;
    let spec = json!({"type": "object", "properties": {"min": {"type": "integer"}, "max": {"type": "integer"},
        "name": {"type": "string", "maxLength": 20, "x-kubernetes-validations": [{"rule": "self == oldSelf", "message": "is immutable"}]}},
        "x-kubernetes-validations": [{"rule": "self.min <= self.max", "messageExpression": "'%d is more than %d'.format([self.min, self.max])"}]});
    world
        .post(DEFINITIONS, definition("widgets", "Widget", spec))
        .await
        .ok();
    let widget = |spec: Value| json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": "w"}, "spec": spec});
    let refused = world
        .post(WIDGETS, widget(json!({"min": 2, "max": 1})))
        .await
        .failed(422, "Invalid");
    assert_eq!(
        refused,
        "Widget.example.com \"w\" is invalid: spec: Invalid value: 2 is more than 1"
    );
    world
        .post(WIDGETS, widget(json!({"min": 1, "max": 2, "name": "a"})))
        .await
        .ok();
    let change = world
        .patch(MERGE, &format!("{WIDGETS}/w"), json!({"spec": {"name": "b"}}))
        .await;
    let refused = change.failed(422, "Invalid");
    assert_eq!(
        refused,
        "Widget.example.com \"w\" is invalid: spec.name: Invalid value: \"b\": is immutable"
    );
    world
        .patch(MERGE, &format!("{WIDGETS}/w"), json!({"spec": {"max": 3}}))
        .await
        .ok();
}

#[tokio::test]
async fn a_definition_with_a_wrong_rule_is_refused() {
    let world = World::new().await;
    let spec = json!({"type": "object", "properties": {"a": {"type": "integer"}}, "x-kubernetes-validations": [{"rule": "self.b > 1"}]});
    let refused = world
        .post(DEFINITIONS, definition("widgets", "Widget", spec))
        .await
        .failed(422, "Invalid");
    assert!(
        refused.contains("spec.versions[0].schema.openAPIV3Schema.properties[spec].x-kubernetes-validations[0].rule"),
        "{refused}"
    );
    assert!(
        refused.contains("compilation failed: ERROR: <input>:1:5: undefined field 'b'"),
        "{refused}"
    );
}

#[tokio::test]
async fn a_name_that_another_kind_has_is_not_accepted() {
    let world = World::new().await;
    let free = || json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let first = world
        .post(DEFINITIONS, definition("widgets", "Widget", free()))
        .await
        .ok();
    assert_eq!(condition(&first, "NamesAccepted")["reason"], "NoConflicts");
    assert_eq!(condition(&first, "Established")["reason"], "InitialNamesAccepted");
    let second = world
        .post(DEFINITIONS, definition("windows", "Window", free()))
        .await
        .ok();
    let conflict = condition(&second, "NamesAccepted");
    assert_eq!(
        (&conflict["status"], &conflict["reason"]),
        (&json!("False"), &json!("ShortNamesConflict"))
    );
    assert_eq!(conflict["message"], "\"wi\" is already in use");
    assert_eq!(condition(&second, "Established")["reason"], "NotAccepted");
    let windows = "/apis/example.com/v1/namespaces/default/windows";
    world.get(windows).await.failed(404, "NotFound");
    // Another short name, and it is served.
    let place = format!("{DEFINITIONS}/windows.example.com");
    let change = json!({"spec": {"names": {"shortNames": ["wn"]}}});
    let body = world.patch(MERGE, &place, change).await.ok();
    assert_eq!(condition(&body, "Established")["status"], "True");
    let got = world.ask(Method::GET, windows, "", "application/json", None).await;
    assert_eq!(got.code, 200);
}

#[tokio::test]
async fn a_name_that_becomes_free_is_given_to_who_waits_for_it() {
    let world = World::new().await;
    let free = || json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let (one, two) = tokio::join!(
        world.post(DEFINITIONS, definition("widgets", "Widget", free())),
        world.post(DEFINITIONS, definition("windows", "Window", free())),
    );
    // Whoever comes first: both cannot have it.
    let accepted = |definition: &Value| condition(definition, "NamesAccepted")["status"] == "True";
    let (winner, loser) = match (one.ok(), two.ok()) {
        (one, two) if accepted(&one) => (one, two),
        (one, two) => (two, one),
    };
    assert!(accepted(&winner) && !accepted(&loser));
    let place = |definition: &Value| {
        format!(
            "{DEFINITIONS}/{}",
            definition["metadata"]["name"].as_str().unwrap_or_default()
        )
    };
    world.delete(&place(&winner)).await.ok();
    let deadline = std::time::Duration::from_secs(60);
    let established = async {
        while condition(&world.get(&place(&loser)).await.ok(), "Established")["status"] != "True" {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(deadline, established).await.expect("in time");
}

#[tokio::test]
async fn a_new_storage_version_is_remembered_beside_the_old_one() {
    let world = World::new().await;
    let free = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    let mut widgets = definition("widgets", "Widget", free);
    world.post(DEFINITIONS, widgets.clone()).await.ok();
    let mut second = widgets["spec"]["versions"][0].clone();
    second["name"] = "v2".into();
    widgets["spec"]["versions"][0]["storage"] = false.into();
    let versions = json!([widgets["spec"]["versions"][0], second]);
    let place = format!("{DEFINITIONS}/widgets.example.com");
    let changed = world
        .patch(MERGE, &place, json!({"spec": {"versions": versions}}))
        .await
        .ok();
    assert_eq!(changed["status"]["storedVersions"], json!(["v1", "v2"]));
    // What may still hold objects cannot be taken away.
    let refused = world
        .patch(MERGE, &place, json!({"spec": {"versions": [second]}}))
        .await
        .failed(422, "Invalid");
    assert!(
        refused.contains("status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions"),
        "{refused}"
    );
}

#[tokio::test]
async fn what_nests_too_deep_to_be_read_again_is_refused() {
    let world = World::new().await;
    let free = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
    world
        .post(DEFINITIONS, definition("widgets", "Widget", free))
        .await
        .ok();
    let nested = |levels: usize| (0..levels).fold(json!(1), |inner, _| json!({"a": inner}));
    let widget = |name: &str, levels: usize| json!({"apiVersion": "example.com/v1", "kind": "Widget", "metadata": {"name": name}, "spec": nested(levels)});
    world.post(WIDGETS, widget("shallow", 100)).await.ok();
    let refused = world.post(WIDGETS, widget("deep", 118)).await.failed(400, "BadRequest");
    assert_eq!(refused, "widgets.example.com \"deep\" nests deeper than 120 levels");
    // It takes a few copies to double the depth a few times.
    let path = "/spec".to_owned() + &"/a".repeat(60);
    let patch = json!([{"op": "copy", "from": "/spec", "path": path}]);
    let refused = world
        .patch("application/json-patch+json", &format!("{WIDGETS}/shallow"), patch)
        .await;
    assert_eq!(refused.code, 422);
    let kept = world.get(&format!("{WIDGETS}/shallow")).await.ok();
    assert_eq!(kept["spec"], nested(100));
}
