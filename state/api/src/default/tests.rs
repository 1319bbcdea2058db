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
    let mut pod = defaulted(
        "",
        "pods",
        json!({"metadata": {"name": "p"}, "spec": {
        "containers": [{"name": "a", "image": "nginx", "resources": {"limits": {"cpu": "0.5", "memory": "1024Mi"}},
            "ports": [{"containerPort": 80}], "readinessProbe": {"httpGet": {"port": 80}}}],
        "volumes": [{"name": "v"}, {"name": "c", "configMap": {"name": "c"}}]}}),
    );
    assert_eq!(pod["spec"].get("tolerations"), None, "that is admission's");
    pod::admit(&mut pod);
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
    let digest = format!("@sha256:{}", "0".repeat(64));
    for (image, policy) in [
        ("nginx", "Always"),
        ("nginx:latest", "Always"),
        ("nginx:1", "IfNotPresent"),
        ("reg:5000/nginx", "Always"),
        ("reg:5000/nginx:1", "IfNotPresent"),
        ("Reg/a_b/c--d", "Always"),
        ("[::1]:5000/nginx", "Always"),
        (&format!("nginx{digest}"), "IfNotPresent"),
        (&format!("nginx:latest{digest}"), "Always"),
        // What names no image has no tag either.
        ("nginx:latest@sha256:00", "IfNotPresent"),
        ("", "IfNotPresent"),
        ("Nginx", "IfNotPresent"),
        ("a//b", "IfNotPresent"),
        ("nginx:", "IfNotPresent"),
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
fn ports_are_the_hosts_in_pods_of_its_network_and_not_in_templates() {
    let spec =
        json!({"hostNetwork": true, "containers": [{"name": "a", "image": "i:1", "ports": [{"containerPort": 80}]}]});
    let pod = defaulted("", "pods", json!({"spec": spec}));
    assert_eq!(pod["spec"]["containers"][0]["ports"][0]["hostPort"], 80);
    let set = defaulted("apps", "replicasets", json!({"spec": {"template": {"spec": spec}}}));
    assert_eq!(
        set["spec"]["template"]["spec"]["containers"][0]["ports"][0].get("hostPort"),
        None
    );
}

#[test]
fn a_pod_limited_as_a_whole_requests_what_its_containers_do() {
    let container = |cpu: &str| json!({"name": cpu, "image": "i:1", "resources": {"requests": {"cpu": cpu}}});
    let mut sidecar = container("100m");
    sidecar["restartPolicy"] = "Always".into();
    let pod = defaulted(
        "",
        "pods",
        json!({"spec": {"initContainers": [sidecar, container("150m")], "containers": [container("100m")],
            "resources": {"limits": {"cpu": "2", "memory": "1Gi"}}}}),
    );
    assert_eq!(
        pod["spec"]["resources"]["requests"],
        json!({"cpu": "250m", "memory": "1Gi"})
    );
}

#[test]
fn volumes_of_images_and_claims_are_filled_in() {
    let pod = defaulted(
        "",
        "pods",
        json!({"spec": {"containers": [], "ephemeralContainers": [{"name": "d", "image": "busybox"}], "topologySpreadConstraints": [{"maxSkew": 1}],
            "volumes": [{"name": "i", "image": {"reference": "a:latest"}}, {"name": "e", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}]}}),
    );
    let spec = &pod["spec"];
    assert_eq!(spec["volumes"][0]["image"]["pullPolicy"], "Always");
    assert_eq!(
        spec["volumes"][1]["ephemeral"]["volumeClaimTemplate"]["spec"],
        json!({"volumeMode": "Filesystem"})
    );
    assert_eq!(spec["ephemeralContainers"][0]["imagePullPolicy"], "Always");
    assert_eq!(spec["topologySpreadConstraints"], json!([{"maxSkew": 1}]));
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

#[test]
fn workloads_and_jobs_get_what_kubernetes_gives_them() {
    let set = defaulted(
        "apps",
        "statefulsets",
        json!({"spec": {"volumeClaimTemplates": [{"metadata": {"name": "d"}, "spec": {}}]}}),
    );
    let spec = &set["spec"];
    assert_eq!(
        spec["updateStrategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}})
    );
    assert_eq!(
        spec["persistentVolumeClaimRetentionPolicy"],
        json!({"whenDeleted": "Retain", "whenScaled": "Retain"})
    );
    assert_eq!(
        (&spec["podManagementPolicy"], &spec["replicas"]),
        (&json!("OrderedReady"), &json!(1))
    );
    assert_eq!(
        spec["volumeClaimTemplates"][0],
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "d"}, "spec": {"volumeMode": "Filesystem"}, "status": {"phase": "Pending"}})
    );
    let set = defaulted("apps", "daemonsets", json!({}));
    assert_eq!(
        set["spec"]["updateStrategy"],
        json!({"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}})
    );
    let job = defaulted(
        "batch",
        "jobs",
        json!({"spec": {"template": {"metadata": {"labels": {"a": "b"}}}, "podFailurePolicy": {"rules": [{"onPodConditions": [{"type": "x"}]}]}}}),
    );
    assert_eq!(job["metadata"]["labels"], json!({"a": "b"}));
    for (key, value) in [
        ("completions", json!(1)),
        ("parallelism", json!(1)),
        ("backoffLimit", json!(6)),
        ("completionMode", json!("NonIndexed")),
        ("suspend", json!(false)),
        ("podReplacementPolicy", json!("Failed")),
    ] {
        assert_eq!(job["spec"][key], value, "{key}");
    }
    assert_eq!(
        job["spec"]["podFailurePolicy"]["rules"][0]["onPodConditions"][0]["status"],
        "True"
    );
    let queue = defaulted(
        "batch",
        "jobs",
        json!({"spec": {"parallelism": 2, "backoffLimitPerIndex": 1}}),
    );
    assert_eq!(queue["spec"].get("completions"), None);
    assert_eq!(queue["spec"]["backoffLimit"], i32::MAX);
    let cron = defaulted("batch", "cronjobs", json!({}));
    assert_eq!(cron["spec"]["successfulJobsHistoryLimit"], 3);
    assert_eq!(
        cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["dnsPolicy"],
        "ClusterFirst"
    );
    assert_eq!(cron["spec"]["jobTemplate"]["spec"].get("completions"), None);
}

#[test]
fn policies_and_webhooks_get_what_kubernetes_gives_them() {
    let policy = defaulted(
        "networking.k8s.io",
        "networkpolicies",
        json!({"spec": {"egress": [{"ports": [{"port": 1}]}]}}),
    );
    assert_eq!(policy["spec"]["policyTypes"], json!(["Ingress", "Egress"]));
    assert_eq!(policy["spec"]["egress"][0]["ports"][0]["protocol"], "TCP");
    let hooks = defaulted(
        "admissionregistration.k8s.io",
        "mutatingwebhookconfigurations",
        json!({"webhooks": [{"rules": [{}], "clientConfig": {"service": {}}}]}),
    );
    assert_eq!(
        hooks["webhooks"][0],
        json!({"failurePolicy": "Fail", "matchPolicy": "Equivalent", "namespaceSelector": {}, "objectSelector": {}, "timeoutSeconds": 10,
            "reinvocationPolicy": "Never", "rules": [{"scope": "*"}], "clientConfig": {"service": {"port": 443}}})
    );
    let class = defaulted("scheduling.k8s.io", "priorityclasses", json!({}));
    assert_eq!(class["preemptionPolicy"], "PreemptLowerPriority");
}
