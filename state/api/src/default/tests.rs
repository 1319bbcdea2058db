//! Defaults, and that defaulting twice changes nothing.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::Scheme;

fn defaulted(group: &str, plural: &str, mut object: Value) -> Value {
    Scheme::builtin().get(group, "v1", plural).unwrap().default(&mut object);
    object
}

#[test]
fn a_pod_gets_what_kubernetes_gives_it() {
    let pod = defaulted(
        "",
        "pods",
        json!({"metadata": {"name": "p"}, "spec": {
        "containers": [{"name": "a", "image": "nginx", "resources": {"limits": {"cpu": "0.5", "memory": "1024Mi"}},
            "ports": [{"containerPort": 80}], "readinessProbe": {"httpGet": {"port": 80}}}],
        "volumes": [{"name": "v"}, {"name": "c", "configMap": {"name": "c"}}]}}),
    );
    let spec = &pod["spec"];
    assert_eq!(
        spec["containers"][0],
        json!({
            "name": "a", "image": "nginx", "imagePullPolicy": "Always", "terminationMessagePath": "/dev/termination-log", "terminationMessagePolicy": "File",
            "ports": [{"containerPort": 80, "protocol": "TCP"}],
            "resources": {"limits": {"cpu": "500m", "memory": "1Gi"}, "requests": {"cpu": "500m", "memory": "1Gi"}},
            "readinessProbe": {"httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}, "timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3},
        })
    );
    assert_eq!(
        spec["volumes"],
        json!([{"name": "v", "emptyDir": {}}, {"name": "c", "configMap": {"name": "c", "defaultMode": 420}}])
    );
    for (key, value) in [
        ("restartPolicy", json!("Always")),
        ("dnsPolicy", json!("ClusterFirst")),
        ("schedulerName", json!("default-scheduler")),
        ("serviceAccountName", json!("default")),
        ("serviceAccount", json!("default")),
        ("terminationGracePeriodSeconds", json!(30)),
        ("enableServiceLinks", json!(true)),
        ("securityContext", json!({})),
        ("preemptionPolicy", json!("PreemptLowerPriority")),
        ("priority", json!(0)),
    ] {
        assert_eq!(spec[key], value, "{key}");
    }
    assert_eq!(
        spec["tolerations"][1],
        json!({"key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 300})
    );
}

#[test]
fn the_pull_policy_follows_the_tag() {
    for (image, policy) in [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1", "IfNotPresent"),
        ("reg:5000/nginx", "Always"),
        ("reg:5000/nginx:1", "IfNotPresent"),
        ("nginx@sha256:00", "IfNotPresent"),
        ("nginx:latest@sha256:00", "Always"),
    ] {
        let pod = defaulted("", "pods", json!({"spec": {"containers": [{"image": image}]}}));
        assert_eq!(pod["spec"]["containers"][0]["imagePullPolicy"], policy, "{image}");
    }
}

#[test]
fn a_template_does_not_get_what_admission_gives_pods() {
    let deployment = defaulted(
        "apps",
        "deployments",
        json!({"spec": {"template": {"spec": {"containers": [{"name": "a", "image": "i:1", "resources": {"limits": {"cpu": "1"}}}]}}}}),
    );
    let spec = &deployment["spec"]["template"]["spec"];
    for key in ["tolerations", "serviceAccountName", "enableServiceLinks", "priority"] {
        assert_eq!(spec[key], Value::Null, "{key}");
    }
    assert_eq!(spec["containers"][0]["resources"], json!({"limits": {"cpu": "1"}}));
    assert_eq!(
        deployment["spec"]["strategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": "25%", "maxSurge": "25%"}})
    );
    assert_eq!(
        (
            &deployment["spec"]["replicas"],
            &deployment["spec"]["revisionHistoryLimit"],
            &deployment["spec"]["progressDeadlineSeconds"]
        ),
        (&json!(1), &json!(10), &json!(600))
    );
}

#[test]
fn services_secrets_namespaces_and_bindings_are_filled_in() {
    let service = defaulted(
        "",
        "services",
        json!({"spec": {"ports": [{"port": 80}, {"port": 81, "targetPort": "http"}]}}),
    );
    assert_eq!(
        service["spec"]["ports"],
        json!([{"port": 80, "protocol": "TCP", "targetPort": 80}, {"port": 81, "protocol": "TCP", "targetPort": "http"}])
    );
    assert_eq!(
        (
            &service["spec"]["type"],
            &service["spec"]["sessionAffinity"],
            &service["spec"]["internalTrafficPolicy"]
        ),
        (&json!("ClusterIP"), &json!("None"), &json!("Cluster"))
    );
    let secret = defaulted(
        "",
        "secrets",
        json!({"data": {"a": "YQ==", "b": "Yg=="}, "stringData": {"a": "x"}}),
    );
    assert_eq!(secret, json!({"type": "Opaque", "data": {"a": "eA==", "b": "Yg=="}}));
    let namespace = defaulted("", "namespaces", json!({"metadata": {"name": "n"}}));
    assert_eq!(
        namespace["metadata"]["labels"],
        json!({"kubernetes.io/metadata.name": "n"})
    );
    let binding = defaulted(
        "rbac.authorization.k8s.io",
        "rolebindings",
        json!({"roleRef": {"kind": "Role", "name": "r"}, "subjects": [{"kind": "User", "name": "u"}, {"kind": "ServiceAccount", "name": "s"}]}),
    );
    assert_eq!(binding["roleRef"]["apiGroup"], "rbac.authorization.k8s.io");
    assert_eq!(
        binding["subjects"],
        json!([{"kind": "User", "name": "u", "apiGroup": "rbac.authorization.k8s.io"}, {"kind": "ServiceAccount", "name": "s"}])
    );
}

#[test]
fn a_definition_gets_its_names() {
    let definition = defaulted(
        "apiextensions.k8s.io",
        "customresourcedefinitions",
        json!({"spec": {"names": {"kind": "Widget", "plural": "widgets"}}}),
    );
    assert_eq!(
        definition["spec"],
        json!({"names": {"kind": "Widget", "plural": "widgets", "singular": "widget", "listKind": "WidgetList"}, "conversion": {"strategy": "None"}})
    );
}

fn any_object() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        "[a-z0-9]{0,4}".prop_map(Value::from)
    ];
    let keys = proptest::sample::select(vec![
        "spec",
        "metadata",
        "status",
        "containers",
        "volumes",
        "ports",
        "template",
        "strategy",
        "resources",
        "limits",
        "requests",
        "cpu",
        "name",
        "type",
        "image",
        "port",
        "targetPort",
        "tolerations",
        "stringData",
        "data",
        "names",
        "kind",
        "httpGet",
        "livenessProbe",
        "emptyDir",
        "hostNetwork",
        "serviceAccount",
        "rollingUpdate",
        "labels",
    ]);
    leaf.prop_recursive(5, 60, 6, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map(keys.clone().prop_map(str::to_owned), inner, 0..6)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn defaulting_twice_is_defaulting_once(object in any_object()) {
        for resource in crate::Scheme::builtin().resources() {
            let mut once = object.clone();
            resource.default(&mut once);
            let mut twice = once.clone();
            resource.default(&mut twice);
            prop_assert_eq!(&twice, &once, "{}", &resource.kind);
            // Nothing that a client sends makes a rule panic.
            drop(resource.validate_create(&once));
            drop(resource.validate_update(&once, &object));
        }
    }
}
