use serde_json::{Value, json};

use super::*;

fn pod(container: Value) -> (Pod, Container) {
    let spec = json!({"containers": [container], "nodeName": "one", "serviceAccountName": "robot"});
    let meta = json!({"name": "web", "namespace": "shop", "uid": "u", "labels": {"app": "web"}, "annotations": {"a/b": "say \"hi\"\nnow"}});
    let pod: Pod = serde_json::from_value(json!({"metadata": meta, "spec": spec})).expect("a pod");
    let container = pod.spec.clone().expect("a spec").containers.remove(0);
    (pod, container)
}

fn sources() -> Sources {
    let data = |pairs: &[(&str, &str)]| -> Data {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), value.as_bytes().to_vec()))
            .collect()
    };
    Sources {
        config_maps: [("cfg".to_owned(), data(&[("KEY", "from map"), ("X", "map x")]))].into(),
        secrets: [("sec".to_owned(), data(&[("PASSWORD", "hush")]))].into(),
        files: BTreeMap::new(),
        services: vec![
            ("DB_SERVICE_HOST".to_owned(), "10.96.0.9".to_owned()),
            ("X".to_owned(), "service".to_owned()),
        ],
        pod_ips: vec!["10.42.0.5".to_owned(), "fd00:0:1:42::5".to_owned()],
        host_ips: vec!["192.0.2.1".to_owned()],
        node_cpu_millis: 2000,
        node_memory: 4 << 30,
        node_storage: 1 << 40,
    }
}

fn built(container: Value) -> Result<BTreeMap<String, String>, EnvError> {
    let (pod, container) = pod(container);
    build(&pod, &container, &sources()).map(|list| list.into_iter().collect())
}

#[test]
fn every_kind_of_source_gives_its_value() {
    let env = built(json!({"name": "c", "resources": {"limits": {"memory": "64Mi"}}, "envFrom": [{"prefix": "P_", "configMapRef": {"name": "cfg"}}, {"secretRef": {"name": "sec"}}],
        "env": [
            {"name": "PLAIN", "value": "v"},
            {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
            {"name": "IPS", "valueFrom": {"fieldRef": {"fieldPath": "status.podIPs"}}},
            {"name": "LABEL", "valueFrom": {"fieldRef": {"fieldPath": "metadata.labels['app']"}}},
            {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            {"name": "MEM", "valueFrom": {"resourceFieldRef": {"resource": "limits.memory", "divisor": "1Mi"}}},
            {"name": "CPU", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu"}}},
            {"name": "KEY", "valueFrom": {"configMapKeyRef": {"name": "cfg", "key": "KEY"}}},
            {"name": "PW", "valueFrom": {"secretKeyRef": {"name": "sec", "key": "PASSWORD"}}},
            {"name": "NONE", "valueFrom": {"secretKeyRef": {"name": "gone", "key": "x", "optional": true}}},
        ]}))
    .expect("variables");
    let expected = [
        ("P_KEY", "from map"),
        ("PASSWORD", "hush"),
        ("PLAIN", "v"),
        ("IP", "10.42.0.5"),
        ("IPS", "10.42.0.5,fd00:0:1:42::5"),
        ("LABEL", "web"),
        ("NODE", "one"),
        ("MEM", "64"),
        ("CPU", "2"),
        ("KEY", "from map"),
        ("PW", "hush"),
        ("DB_SERVICE_HOST", "10.96.0.9"),
    ];
    for (name, value) in expected {
        assert_eq!(env.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(!env.contains_key("NONE"));
}

#[test]
fn later_variables_see_earlier_ones_and_services() {
    let env = built(json!({"name": "c", "env": [
        {"name": "A", "value": "1"}, {"name": "B", "value": "$(A)-$(DB_SERVICE_HOST)-$(NOPE)-$$(A)"}, {"name": "X", "value": "own"}]}))
    .expect("variables");
    assert_eq!(env["B"], "1-10.96.0.9-$(NOPE)-$(A)");
    assert_eq!(env["X"], "own");
}

#[test]
fn what_is_missing_is_said_as_kubernetes_says_it() {
    let error = built(json!({"name": "c", "envFrom": [{"configMapRef": {"name": "gone"}}]})).expect_err("missing");
    assert_eq!(error.to_string(), "configmap \"gone\" not found");
    let error = built(
        json!({"name": "c", "env": [{"name": "A", "valueFrom": {"configMapKeyRef": {"name": "cfg", "key": "no"}}}]}),
    )
    .expect_err("missing");
    assert_eq!(error.to_string(), "couldn't find key no in ConfigMap shop/cfg");
}

#[test]
fn commands_are_expanded_by_the_variables() {
    let variables = [("A".to_owned(), "1".to_owned())];
    let words = vec!["run".to_owned(), "$(A)$(B)$".to_owned(), "$(unclosed".to_owned()];
    assert_eq!(
        expand_all(Some(&words), &variables),
        Some(vec!["run".to_owned(), "1$(B)$".to_owned(), "$(unclosed".to_owned()])
    );
    assert_eq!(expand_all(Some(&vec![]), &variables), None);
}

#[test]
fn annotations_are_quoted_line_by_line() {
    let (pod, _) = pod(json!({"name": "c"}));
    assert_eq!(
        field_value(&pod, "metadata.annotations", &sources()).as_deref(),
        Some("a/b=\"say \\\"hi\\\"\\nnow\"")
    );
    assert_eq!(
        field_value(&pod, "metadata.labels", &sources()).as_deref(),
        Some("app=\"web\"")
    );
}

#[test]
fn services_of_the_namespace_and_the_api_are_told() {
    let service = |namespace: &str, name: &str, ip: &str| -> Service {
        let spec = json!({"clusterIP": ip, "ports": [{"name": "web-a", "port": 80, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]});
        serde_json::from_value(json!({"metadata": {"name": name, "namespace": namespace}, "spec": spec}))
            .expect("a service")
    };
    let services = [
        service("shop", "my-db", "10.96.0.9"),
        service("shop", "head", "None"),
        service("other", "x", "10.96.0.8"),
        service("default", "kubernetes", "10.96.0.1"),
    ];
    let all: BTreeMap<String, String> = service_variables(&services, "shop", true).into_iter().collect();
    let expected = [
        ("MY_DB_SERVICE_HOST", "10.96.0.9"),
        ("MY_DB_SERVICE_PORT", "80"),
        ("MY_DB_SERVICE_PORT_WEB_A", "80"),
        ("MY_DB_PORT", "tcp://10.96.0.9:80"),
        ("MY_DB_PORT_53_UDP", "udp://10.96.0.9:53"),
        ("MY_DB_PORT_53_UDP_PROTO", "udp"),
        ("KUBERNETES_SERVICE_HOST", "10.96.0.1"),
    ];
    for (name, value) in expected {
        assert_eq!(all.get(name).map(String::as_str), Some(value), "{name}");
    }
    assert!(
        !all.keys()
            .any(|name| name.starts_with("X_") || name.starts_with("HEAD_"))
    );
    assert!(
        service_variables(&services, "shop", false)
            .iter()
            .all(|(name, _)| name.starts_with("KUBERNETES_"))
    );
}
