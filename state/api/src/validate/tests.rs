//! What is refused, and in which words.

mod autoscaling;
mod event;
mod persistent;
mod pod;
mod policy;
mod quota;
mod storage;

use serde_json::json;

use super::*;
use crate::{Resource, Scheme};

mod messages;
/// Checks a table: what is changed in a good object, and what is then said of it.
fn table(group: &str, plural: &str, good: Value, cases: &[(&str, Value, &[&str])]) {
    assert_eq!(
        errors(group, plural, good.clone()),
        Vec::<String>::new(),
        "the object to begin with"
    );
    for (pointer, value, expected) in cases {
        let mut object = good.clone();
        put(&mut object, pointer, value.clone());
        assert_eq!(errors(group, plural, object), *expected, "{pointer} = {value}");
    }
}

/// As [`table`], for what is changed in an object that is there.
fn update_table(group: &str, plural: &str, good: Value, cases: &[(&str, Value, &[&str])]) {
    for (pointer, value, expected) in cases {
        let found = update_errors(group, plural, good.clone(), |new| put(new, pointer, value.clone()));
        assert_eq!(found, *expected, "{pointer} = {value}");
    }
}

/// Sets what a pointer names; a null removes it.
fn put(object: &mut Value, pointer: &str, value: Value) {
    let (parent, last) = pointer.rsplit_once('/').unwrap();
    let parent = match object.pointer(parent) {
        Some(_) => object.pointer_mut(parent).unwrap(),
        None => {
            put(object, parent, json!({}));
            object.pointer_mut(parent).unwrap()
        }
    };
    match (parent, value) {
        (Value::Object(map), Value::Null) => drop(map.remove(last)),
        (Value::Object(map), value) => drop(map.insert(last.to_owned(), value)),
        (Value::Array(items), value) => items[last.parse::<usize>().unwrap()] = value,
        (other, _) => panic!("{other} has no {last}"),
    }
}

fn resource(group: &str, plural: &str) -> std::sync::Arc<Resource> {
    Scheme::builtin().get(group, "v1", plural).unwrap()
}

fn errors(group: &str, plural: &str, mut object: Value) -> Vec<String> {
    let resource = resource(group, plural);
    resource.default(&mut object);
    resource
        .validate_create(&object)
        .iter()
        .map(ToString::to_string)
        .collect()
}

#[test]
fn mounts_travel_and_are_read_only_as_far_as_they_may() {
    let with = |mount: Value, privileged: bool| {
        let mut whole = json!({"name": "v", "mountPath": "/x"});
        for (key, value) in mount.as_object().expect("a map") {
            whole[key] = value.clone();
        }
        let volumes = json!([{"name": "v", "emptyDir": {}}, {"name": "e", "ephemeral": {}}]);
        let container =
            json!({"name": "a", "image": "i", "securityContext": {"privileged": privileged}, "volumeMounts": [whole]});
        let pod = json!({"metadata": {"name": "p", "namespace": "d"}, "spec": {"containers": [container], "volumes": volumes}});
        let mut found = errors("", "pods", pod);
        assert!(
            found
                .iter()
                .any(|error| error == "spec.volumes[1].ephemeral.volumeClaimTemplate: Required value"),
            "{found:?}"
        );
        found.retain(|error| error.contains("volumeMounts"));
        found
    };
    let at = "spec.containers[0].volumeMounts[0]";
    assert_eq!(
        with(json!({"mountPropagation": "Bidirectional"}), false),
        [format!(
            "{at}.mountPropagation: Forbidden: Bidirectional mount propagation is available only to privileged containers"
        )]
    );
    assert!(with(json!({"mountPropagation": "Bidirectional"}), true).is_empty());
    assert_eq!(
        with(
            json!({"recursiveReadOnly": "Enabled", "mountPropagation": "HostToContainer"}),
            false
        ),
        [
            format!("{at}.recursiveReadOnly: Forbidden: may only be specified when readOnly is true"),
            format!(
                "{at}.recursiveReadOnly: Forbidden: may only be specified when mountPropagation is None or not specified"
            ),
        ]
    );
    assert_eq!(
        with(json!({"subPath": "a", "subPathExpr": "b"}), false),
        [format!(
            "{at}.subPathExpr: Invalid value: \"b\": subPathExpr and subPath are mutually exclusive"
        )]
    );
}

fn update_errors(group: &str, plural: &str, mut old: Value, change: impl FnOnce(&mut Value)) -> Vec<String> {
    let resource = resource(group, plural);
    resource.default(&mut old);
    let mut new = old.clone();
    change(&mut new);
    resource
        .validate_update(&new, &old)
        .iter()
        .map(ToString::to_string)
        .collect()
}

fn pod() -> Value {
    json!({"metadata": {"name": "p", "namespace": "d"}, "spec": {"containers": [{"name": "a", "image": "i"}]}})
}

fn deployment() -> Value {
    json!({"metadata": {"name": "x", "namespace": "d"}, "spec": {"selector": {"matchLabels": {"a": "b"}},
        "template": {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [{"name": "a", "image": "i"}]}}}})
}

fn service() -> Value {
    json!({"metadata": {"name": "s", "namespace": "d"}, "spec": {"ports": [{"port": 80}]}})
}

#[test]
fn good_objects_are_let_through() {
    let none: Vec<String> = Vec::new();
    assert_eq!(errors("", "pods", pod()), none);
    assert_eq!(errors("apps", "deployments", deployment()), none);
    assert_eq!(errors("apps", "replicasets", deployment()), none);
    assert_eq!(errors("", "services", service()), none);
    assert_eq!(errors("", "namespaces", json!({"metadata": {"name": "n"}})), none);
    assert_eq!(
        errors(
            "",
            "secrets",
            json!({"metadata": {"name": "n", "namespace": "d"}, "stringData": {"a": "b"}})
        ),
        none
    );
    assert_eq!(
        errors(
            "rbac.authorization.k8s.io",
            "clusterroles",
            json!({"metadata": {"name": "system:x"}, "rules": [{"verbs": ["get"], "nonResourceURLs": ["/x"]}]})
        ),
        none
    );
    assert_eq!(update_errors("", "pods", pod(), |_| {}), none);
    assert_eq!(
        update_errors("apps", "deployments", deployment(), |new| new["spec"]["replicas"] =
            5.into()),
        none
    );
    assert_eq!(update_errors("", "services", service(), |_| {}), none);
}

#[test]
fn metadata_is_checked_for_every_kind() {
    let found = errors(
        "",
        "configmaps",
        json!({"metadata": {"name": "A", "namespace": "d", "labels": {"-": "b c"}, "finalizers": ["x"]}}),
    );
    assert_eq!(found.len(), 4, "{found:?}");
    assert!(
        found[0].starts_with("metadata.name: Invalid value: \"A\": a lowercase RFC 1123 subdomain must consist of")
    );
    assert!(found[1].starts_with("metadata.labels: Invalid value: \"-\": name part must consist of"));
    assert_eq!(
        found[3],
        "metadata.finalizers[0]: Invalid value: \"x\": name is neither a standard finalizer name nor is it fully qualified"
    );
    assert_eq!(
        errors("", "configmaps", json!({"metadata": {"namespace": "d"}})),
        ["metadata.name: Required value: name or generateName is required"]
    );
    assert_eq!(errors("", "namespaces", json!({"metadata": {"name": "a.b"}})).len(), 1);
    let owners = json!({"metadata": {"name": "a", "namespace": "d", "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p"}]}});
    assert_eq!(
        errors("", "configmaps", owners),
        ["metadata.ownerReferences[0].uid: Required value: must not be empty"]
    );
}

#[test]
fn a_deployment_without_a_selector_reads_as_on_kubernetes() {
    let mut object = deployment();
    object["spec"]["selector"] = Value::Null;
    assert_eq!(
        errors("apps", "deployments", object),
        [
            "spec.selector: Required value",
            "spec.template.metadata.labels: Invalid value: {\"a\":\"b\"}: `selector` does not match template `labels`",
        ]
    );
    let mut object = deployment();
    object["spec"]["template"]["metadata"]["labels"] = json!({"a": "c"});
    assert_eq!(
        errors("apps", "deployments", object),
        ["spec.template.metadata.labels: Invalid value: {\"a\":\"c\"}: `selector` does not match template `labels`"]
    );
    let mut object = deployment();
    object["spec"]["replicas"] = (-1).into();
    object["spec"]["template"]["spec"]["restartPolicy"] = "Never".into();
    object["spec"]["strategy"] = json!({"rollingUpdate": {"maxSurge": 0, "maxUnavailable": "0%"}});
    assert_eq!(
        errors("apps", "deployments", object),
        [
            "spec.replicas: Invalid value: -1: must be greater than or equal to 0",
            "spec.template.spec.restartPolicy: Unsupported value: \"Never\": supported values: \"Always\"",
            "spec.strategy.rollingUpdate.maxUnavailable: Invalid value: \"0%\": may not be 0 when `maxSurge` is 0",
        ]
    );
    let changed = update_errors("apps", "deployments", deployment(), |new| {
        new["spec"]["selector"]["matchLabels"] = json!({"z": "b"});
        new["spec"]["template"]["metadata"]["labels"] = json!({"z": "b"});
    });
    assert_eq!(
        changed,
        ["spec.selector: Invalid value: {\"matchLabels\":{\"z\":\"b\"}}: field is immutable"]
    );
}

#[test]
fn a_pods_containers_are_checked() {
    let object = json!({"metadata": {"name": "p", "namespace": "d"}, "spec": {"containers": [
        {"name": "a", "image": "", "ports": [{"containerPort": 70000}], "env": [{"name": ""}], "volumeMounts": [{"name": "no", "mountPath": "/x"}],
            "resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}, "livenessProbe": {"successThreshold": 2, "exec": {"command": ["x"]}}},
        {"name": "a", "image": "i", "imagePullPolicy": "Maybe"}]}});
    assert_eq!(
        errors("", "pods", object),
        [
            "spec.containers[0].image: Required value",
            "spec.containers[0].ports[0].containerPort: Invalid value: 70000: must be between 1 and 65535, inclusive",
            "spec.containers[0].env[0].name: Required value",
            "spec.containers[0].volumeMounts[0].name: Not found: \"no\"",
            "spec.containers[0].resources.requests: Invalid value: \"2\": must be less than or equal to cpu limit of 1",
            "spec.containers[0].livenessProbe.successThreshold: Invalid value: 2: must be 1",
            "spec.containers[1].imagePullPolicy: Unsupported value: \"Maybe\": supported values: \"Always\", \"IfNotPresent\", \"Never\"",
            "spec.containers[1].name: Duplicate value: \"a\"",
        ]
    );
    assert_eq!(
        errors("", "pods", json!({"metadata": {"name": "p", "namespace": "d"}})),
        ["spec.containers: Required value"]
    );
}

#[test]
fn of_a_pod_only_the_image_may_change() {
    assert!(
        update_errors("", "pods", pod(), |new| new["spec"]["containers"][0]["image"] =
            "j".into())
        .is_empty()
    );
    let found = update_errors("", "pods", pod(), |new| new["spec"]["nodeName"] = "n".into());
    assert!(
        found[0]
            .starts_with("spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`"),
        "{found:?}"
    );
    let mut patient = pod();
    crate::default::pod::admit(&mut patient);
    let found = update_errors("", "pods", patient, |new| new["spec"]["tolerations"] = json!([]));
    assert_eq!(
        found,
        ["spec.tolerations: Forbidden: existing toleration can not be modified except its tolerationSeconds"]
    );
}

#[test]
fn services_are_checked_and_keep_their_address() {
    let mut object = service();
    object["spec"]["ports"] = json!([{"port": 0}, {"port": 80, "name": "A"}]);
    assert_eq!(errors("", "services", object).len(), 4);
    let mut object = service();
    object["spec"]["ports"] = json!([]);
    assert_eq!(errors("", "services", object), ["spec.ports: Required value"]);
    let mut object = service();
    object["spec"]["clusterIP"] = "10.0.0.1".into();
    object["spec"]["clusterIPs"] = json!(["10.0.0.1"]);
    let found = update_errors("", "services", object, |new| {
        new["spec"]["clusterIP"] = "10.0.0.2".into();
        new["spec"]["clusterIPs"] = json!(["10.0.0.2"]);
    });
    assert_eq!(
        found,
        ["spec.clusterIPs[0]: Invalid value: [\"10.0.0.2\"]: may not change once set"]
    );
    let mut object = service();
    object["metadata"]["name"] = "0a".into();
    assert!(errors("", "services", object)[0].contains("a DNS-1035 label must consist of"));
}

#[test]
fn what_is_immutable_stays() {
    let secret = json!({"metadata": {"name": "s", "namespace": "d"}, "type": "a"});
    assert_eq!(
        update_errors("", "secrets", secret, |new| new["type"] = "b".into()),
        ["type: Invalid value: \"b\": field is immutable"]
    );
    let map = json!({"metadata": {"name": "s", "namespace": "d"}, "immutable": true, "data": {"a": "b"}});
    assert_eq!(
        update_errors("", "configmaps", map, |new| new["data"]["a"] = "c".into()),
        ["data: Forbidden: field is immutable when `immutable` is set"]
    );
    let binding = json!({"metadata": {"name": "b", "namespace": "d"}, "roleRef": {"kind": "Role", "name": "r"}});
    let found = update_errors("rbac.authorization.k8s.io", "rolebindings", binding, |new| {
        new["roleRef"]["name"] = "q".into()
    });
    assert!(found[0].starts_with("roleRef: Invalid value: ") && found[0].ends_with(": cannot change roleRef"));
}

#[test]
fn slices_leases_and_roles_are_checked() {
    let slice = json!({"metadata": {"name": "s", "namespace": "d"}, "addressType": "IPv4", "endpoints": [{"addresses": ["10.0.0.1"]}, {"addresses": ["::1"]}, {"addresses": ["127.0.0.1"]}]});
    assert_eq!(
        errors("discovery.k8s.io", "endpointslices", slice),
        [
            "endpoints[1].addresses[0]: Invalid value: \"::1\": must be an IPv4 address",
            "endpoints[2].addresses[0]: Invalid value: \"127.0.0.1\": may not be in the loopback range (127.0.0.0/8, ::1/128)",
        ]
    );
    let many = |count: usize| {
        json!({"metadata": {"name": "s", "namespace": "d"}, "addressType": "FQDN", "endpoints": [{"addresses": vec!["a.b"; count]}],
            "ports": vec![json!({"protocol": "TCP", "name": "a"}); count * 200]})
    };
    assert_eq!(errors("discovery.k8s.io", "endpointslices", many(100)).len(), 19_999);
    assert_eq!(
        errors("discovery.k8s.io", "endpointslices", many(101)),
        [
            "endpoints[0].addresses: Too many: 101: must have at most 100 items",
            "ports: Too many: 20200: must have at most 20000 items",
        ]
    );
    let lease = json!({"metadata": {"name": "l", "namespace": "d"}, "spec": {"leaseDurationSeconds": 0}});
    assert_eq!(
        errors("coordination.k8s.io", "leases", lease),
        ["spec.leaseDurationSeconds: Invalid value: 0: must be greater than 0"]
    );
    let role =
        json!({"metadata": {"name": "r", "namespace": "d"}, "rules": [{"apiGroups": [""], "resources": ["pods"]}]});
    assert_eq!(
        errors("rbac.authorization.k8s.io", "roles", role),
        ["rules[0].verbs: Required value: verbs must contain at least one value"]
    );
}

#[test]
fn names_are_told_apart_in_big_objects_too() {
    let numbered = |path: &str| {
        (0..20_000)
            .map(|number| json!({path: number.to_string()}))
            .collect::<Vec<_>>()
    };
    let mut volumes = numbered("name");
    volumes.push(volumes[0].clone());
    let pod = json!({"metadata": {"name": "p", "namespace": "d"}, "spec": {"volumes": volumes}});
    let found = errors("", "pods", pod);
    assert!(found.contains(&"spec.volumes[20000].name: Duplicate value: \"0\"".to_owned()));
    let mut tolerations = numbered("key");
    tolerations.push(tolerations[0].clone());
    let class = json!({"metadata": {"name": "c"}, "handler": "h", "scheduling": {"tolerations": tolerations}});
    let found = errors("node.k8s.io", "runtimeclasses", class);
    assert!(
        found
            .iter()
            .any(|fault| fault.starts_with("scheduling.tolerations[20000]: Duplicate value"))
    );
}

#[test]
fn a_definition_needs_one_storage_version_and_a_schema() {
    let definition = |versions: Value| {
        json!({"metadata": {"name": "widgets.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"kind": "Widget", "plural": "widgets"}, "versions": versions}})
    };
    let good =
        json!([{"name": "v1", "served": true, "storage": true, "schema": {"openAPIV3Schema": {"type": "object"}}}]);
    let kind = ("apiextensions.k8s.io", "customresourcedefinitions");
    assert_eq!(errors(kind.0, kind.1, definition(good.clone())), Vec::<String>::new());
    let mut bad = good.clone();
    bad[0]["storage"] = false.into();
    bad[0]["schema"] = Value::Null;
    let found = errors(kind.0, kind.1, definition(bad));
    assert_eq!(
        found[0],
        "spec.versions[0].schema.openAPIV3Schema: Required value: schemas are required"
    );
    assert!(found[1].ends_with("must have exactly one version marked as storage version"));
    let mut misnamed = definition(good);
    misnamed["metadata"]["name"] = "x.example.com".into();
    assert_eq!(
        errors(kind.0, kind.1, misnamed),
        ["metadata.name: Invalid value: \"x.example.com\": must be spec.names.plural+\".\"+spec.group"]
    );
}

#[test]
fn finalizers_cannot_be_added_to_what_is_going() {
    let old = json!({"metadata": {"name": "c", "namespace": "d", "deletionTimestamp": "2024-01-01T00:00:00Z", "finalizers": ["a/b"]}});
    let found = update_errors("", "configmaps", old, |new| {
        new["metadata"]["finalizers"] = json!(["a/b", "c/d"])
    });
    assert!(
        found[0].starts_with(
            "metadata.finalizers: Forbidden: no new finalizers can be added if the object is being deleted"
        )
    );
}

#[test]
fn definitions_are_refused_in_the_words_of_kubernetes() {
    let definition = || {
        json!({"metadata": {"name": "widgets.example.com"}, "spec": {"group": "example.com", "scope": "Namespaced",
        "names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"},
        "versions": [{"name": "v1", "served": true, "storage": true, "subresources": {"status": {}, "scale": {"specReplicasPath": ".spec.size", "statusReplicasPath": ".status.size"}},
            "additionalPrinterColumns": [{"name": "Size", "type": "integer", "jsonPath": ".spec.size"}], "selectableFields": [{"jsonPath": ".spec.color"}],
            "schema": {"openAPIV3Schema": {"type": "object", "properties": {"spec": {"type": "object", "properties": {"color": {"type": "string"}, "size": {"type": "integer"}, "tags": {"type": "object"}}}}}}}]}})
    };
    let found = |change: &dyn Fn(&mut Value)| {
        let mut changed = definition();
        change(&mut changed);
        errors("apiextensions.k8s.io", "customresourcedefinitions", changed).join("\n")
    };
    assert_eq!(found(&|_| {}), "");
    let version = |change: &dyn Fn(&mut Value)| found(&|definition| change(&mut definition["spec"]["versions"][0]));
    let at = "spec.versions[0]";
    let column = |path: &str| version(&|v| v["additionalPrinterColumns"][0]["jsonPath"] = path.into());
    for path in [".status.conditions[-1:].type", ".spec['color','size']", ".status..name"] {
        assert_eq!(column(path), "", "{path}");
    }
    for (got, wanted) in [
        (
            version(&|v| v["additionalPrinterColumns"][0] = json!({"name": "", "type": "text", "format": "f", "jsonPath": "x"})),
            format!("{at}.additionalPrinterColumns[0].name: Required value\n\
                {at}.additionalPrinterColumns[0].type: Invalid value: \"text\": must be one of boolean,date,integer,number,string\n\
                {at}.additionalPrinterColumns[0].format: Invalid value: \"f\": must be one of byte,date,date-time,double,float,int32,int64,password\n\
                {at}.additionalPrinterColumns[0].JSONPath: Invalid value: \"x\": must be a simple json path starting with ."),
        ),
        (
            version(&|v| v["subresources"]["scale"] = json!({"specReplicasPath": ".status.x", "labelSelectorPath": ".metadata.x"})),
            format!("{at}.subresources.scale.specReplicasPath: Invalid value: \".status.x\": should be a json path under .spec\n\
                {at}.subresources.scale.statusReplicasPath: Required value\n\
                {at}.subresources.scale.labelSelectorPath: Invalid value: \".metadata.x\": should be a json path under either .spec or .status"),
        ),
        (
            version(&|v| v["selectableFields"] = json!([{"jsonPath": ".spec.nope"}, {"jsonPath": ".spec.tags"}, {"jsonPath": ".spec.color"}, {"jsonPath": ".spec.color"}])),
            format!("{at}.selectableFields[0].jsonPath: Invalid value: \".spec.nope\": is an invalid path: does not refer to a valid field\n\
                {at}.selectableFields[1].jsonPath: Invalid value: \".spec.tags\": must point to a field of type string, boolean or integer. Enum string fields and strings with formats are allowed.\n\
                {at}.selectableFields[3].jsonPath: Duplicate value: \".spec.color\""),
        ),
        (
            version(&|v| v["deprecationWarning"] = "old".into()),
            format!("{at}.deprecationWarning: Invalid value: \"old\": can only be set for deprecated versions"),
        ),
        (
            version(&|v| v["schema"]["openAPIV3Schema"]["nullable"] = true.into()).lines().last().unwrap_or_default().to_owned(),
            format!("{at}.schema.openAPIV3Schema.nullable: Forbidden: nullable cannot be true at the root"),
        ),
        (
            version(&|v| v["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["color"] = json!({"type": "string", "x-kubernetes-map-type": "atomic"})),
            format!("{at}.schema.openAPIV3Schema.properties[spec].properties[color].type: Invalid value: \"string\": must be object if x-kubernetes-map-type is specified"),
        ),
        (
            version(&|v| v["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]["color"] = json!({"type": "string", "anyOf": [{"x-kubernetes-validations": [{"rule": "true"}]}]})),
            format!("{at}.schema.openAPIV3Schema.properties[spec].properties[color].anyOf[0].x-kubernetes-validations: Forbidden: must be empty to be structural"),
        ),
        (
            found(&|d| d["spec"]["conversion"] = json!({"strategy": "Webhook"})),
            "spec.conversion.strategy: Forbidden: conversion webhooks are not supported by this server".to_owned(),
        ),
        (
            found(&|d| d["spec"]["names"]["kind"] = "My_Widget".into()).split(": a DNS").next().unwrap_or_default().to_owned(),
            "spec.names.kind: Invalid value: \"My_Widget\": may have mixed case, but should otherwise match".to_owned(),
        ),
        (
            found(&|d| {
                d["spec"]["group"] = "apps.k8s.io".into();
                d["metadata"]["name"] = "widgets.apps.k8s.io".into();
            }),
            "metadata.annotations[api-approved.kubernetes.io]: Required value: protected groups must have approval annotation \"api-approved.kubernetes.io\", see https://github.com/kubernetes/enhancements/pull/1111".to_owned(),
        ),
    ] {
        assert_eq!(got, wanted);
    }
    let mut old = definition();
    old["status"] = json!({"storedVersions": ["v1"], "conditions": [{"type": "Established", "status": "True"}]});
    let changed = update_errors("apiextensions.k8s.io", "customresourcedefinitions", old, |new| {
        new["spec"]["scope"] = "Cluster".into();
        new["spec"]["versions"][0]["name"] = "v2".into();
    });
    assert_eq!(
        changed,
        [
            "spec.scope: Invalid value: \"Cluster\": field is immutable",
            "status.storedVersions: Invalid value: [\"v1\"]: must have the storage version v2",
            "status.storedVersions[0]: Invalid value: \"v1\": missing from spec.versions; v1 was previously a storage version, and must remain in spec.versions until a storage migration ensures no data remains persisted in v1 and removes v1 from status.storedVersions",
        ]
    );
}
