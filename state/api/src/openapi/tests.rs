use serde_json::Value;

use super::*;
use crate::Scheme;

fn rows() -> Vec<Arc<Resource>> {
    Scheme::builtin().resources()
}

fn document(group: &str, version: &str) -> Value {
    let bytes = v3_document(group, version, &rows(), &|_| None).expect("rows are in it");
    serde_json::from_slice(&bytes).expect("JSON")
}

fn walk(value: &Value, visit: &mut impl FnMut(&serde_json::Map<String, Value>)) {
    match value {
        Value::Object(map) => {
            visit(map);
            map.values().for_each(|child| walk(child, visit));
        }
        Value::Array(items) => items.iter().for_each(|item| walk(item, visit)),
        _ => {}
    }
}

#[test]
fn the_index_names_every_group_and_version_with_the_digest_of_its_document() {
    let digest = |group: &str, version: &str| format!("{group}-{version}");
    let index: Value = serde_json::from_slice(&v3_index(&rows(), digest)).expect("JSON");
    let url = |directory: &str| index["paths"][directory]["serverRelativeURL"].clone();
    assert_eq!(url("apis/apps/v1"), "/openapi/v3/apis/apps/v1?hash=apps-v1");
    assert_eq!(url("api/v1"), "/openapi/v3/api/v1?hash=-v1");
    assert!(v3_document("nobody.example.com", "v1", &rows(), &|_| None).is_none());
    let document = || v3_document("apps", "v1", &rows(), &|_| None);
    assert_eq!(document(), document(), "a document has one digest");
}

#[test]
fn a_deletion_gives_what_went_or_a_status() {
    let core = document("", "v1");
    for (path, schema) in [
        ("pods", "io.k8s.api.core.v1.Pod"),
        ("configmaps", "io.k8s.apimachinery.pkg.apis.meta.v1.Status"),
    ] {
        let delete = &core["paths"][format!("/api/v1/namespaces/{{namespace}}/{path}/{{name}}")]["delete"];
        for code in ["200", "202"] {
            assert_eq!(
                delete["responses"][code]["content"]["application/json"]["schema"]["$ref"],
                format!("#/components/schemas/{schema}")
            );
        }
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_type_is_one_word() {
    let versions: std::collections::BTreeSet<(String, String)> = rows()
        .iter()
        .map(|row| (row.group.clone(), row.version.clone()))
        .collect();
    for (group, version) in versions {
        let document = document(&group, &version);
        let schemas = document["components"]["schemas"].as_object().expect("schemas");
        walk(&document, &mut |map| {
            if let Some(Value::String(path)) = map.get("$ref") {
                let name = path.strip_prefix("#/components/schemas/").expect("a local reference");
                assert!(schemas.contains_key(name), "{group}/{version}: {name} is missing");
            }
            assert!(!map.get("type").is_some_and(Value::is_array), "{map:?}");
        });
        for row in rows().iter().filter(|row| row.group == group && row.version == version) {
            let gvk = serde_json::json!({"group": group, "kind": row.kind, "version": version});
            let described = schemas.values().any(|schema| {
                schema["x-kubernetes-group-version-kind"]
                    .as_array()
                    .is_some_and(|list| list.contains(&gvk))
            });
            assert!(described, "{group}/{version} {} has no schema", row.kind);
        }
    }
}

#[test]
fn clients_find_what_they_look_for() {
    let document = document("apps", "v1");
    let patch = &document["paths"]["/apis/apps/v1/namespaces/{namespace}/deployments/{name}"]["patch"];
    let names: Vec<&str> = patch["parameters"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|p| p["name"].as_str())
        .collect();
    assert_eq!(names, ["dryRun", "fieldManager", "fieldValidation", "force"]);
    assert!(patch["requestBody"]["content"]["application/strategic-merge-patch+json"].is_object());
    assert_eq!(patch["x-kubernetes-group-version-kind"]["kind"], "Deployment");
    assert_eq!(patch["operationId"], "patchAppsV1NamespacedDeployment");
    let schemas = &document["components"]["schemas"];
    let containers = &schemas["io.k8s.api.core.v1.PodSpec"]["properties"]["containers"];
    assert_eq!(containers["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(containers["x-kubernetes-list-map-keys"], serde_json::json!(["name"]));
    assert!(
        containers["description"]
            .as_str()
            .is_some_and(|text| text.contains("containers"))
    );
    let deployment = &schemas["io.k8s.api.apps.v1.Deployment"];
    assert_eq!(deployment["x-kubernetes-group-version-kind"][0]["group"], "apps");
    assert_eq!(
        deployment["properties"]["spec"]["allOf"][0]["$ref"],
        "#/components/schemas/io.k8s.api.apps.v1.DeploymentSpec"
    );
    assert!(schemas["io.k8s.api.apps.v1.DeploymentList"]["properties"]["items"].is_object());
    assert!(schemas["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["oneOf"].is_array());
}

#[test]
fn a_custom_kind_is_described_by_its_definition() {
    let mut row = (*rows().into_iter().find(|row| row.kind == "ConfigMap").expect("a row")).clone();
    row.group = "stable.example.com".to_owned();
    row.kind = "CronTab".to_owned();
    row.list_kind = "CronTabList".to_owned();
    row.plural = "crontabs".to_owned();
    row.custom = true;
    let rows = [Arc::new(row)];
    let schema = serde_json::json!({"type": "object", "properties": {"spec": {"type": "object", "description": "What is wanted."}}});
    let bytes = v3_document("stable.example.com", "v1", &rows, &|_| Some(schema.clone())).expect("a document");
    let document: Value = serde_json::from_slice(&bytes).expect("JSON");
    let kind = &document["components"]["schemas"]["com.example.stable.v1.CronTab"];
    assert_eq!(kind["properties"]["spec"]["description"], "What is wanted.");
    assert_eq!(kind["x-kubernetes-group-version-kind"][0]["kind"], "CronTab");
    assert!(document["components"]["schemas"]["io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"].is_object());
    assert!(
        document["components"]["schemas"]
            .get("io.k8s.api.core.v1.ConfigMap")
            .is_none()
    );
    let patch = &document["paths"]["/apis/stable.example.com/v1/namespaces/{namespace}/crontabs/{name}"]["patch"];
    assert!(
        patch["requestBody"]["content"]
            .get("application/strategic-merge-patch+json")
            .is_none()
    );
}

#[test]
fn the_old_document_has_definitions_and_no_new_words() {
    let document: Value = serde_json::from_slice(&v2_document(&rows(), &|_| None)).expect("JSON");
    assert_eq!(document["swagger"], "2.0");
    assert_eq!(
        document["definitions"]["io.k8s.api.apps.v1.Deployment"]["properties"]["spec"]["$ref"],
        "#/definitions/io.k8s.api.apps.v1.DeploymentSpec"
    );
    assert_eq!(
        document["definitions"]["io.k8s.apimachinery.pkg.util.intstr.IntOrString"]["type"],
        "string"
    );
    // A property with the name of a word that is not known there is a property still.
    let schema = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaProps";
    for name in ["not", "nullable", "anyOf"] {
        assert!(
            document["definitions"][schema]["properties"][name].is_object(),
            "{name}"
        );
    }
    let definitions = document["definitions"].as_object().expect("definitions");
    walk(&document, &mut |map| {
        if let Some(Value::String(path)) = map.get("$ref") {
            let name = path.strip_prefix("#/definitions/").expect("a local reference");
            assert!(definitions.contains_key(name), "{name} is missing");
        }
        assert!(!map.contains_key("requestBody"));
    });
}
