//! What pods get of their service accounts.

use serde_json::{Value, json};

use crate::world::{MERGE, STRATEGIC, World};
use crate::{PODS, pod};

const ACCOUNTS: &str = "/api/v1/namespaces/default/serviceaccounts";
const PLACE: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

fn account(name: &str, more: &Value) -> Value {
    let mut object = json!({ "apiVersion": "v1", "kind": "ServiceAccount", "metadata": { "name": name } });
    for (key, value) in more.as_object().expect("an object") {
        object[key] = value.clone();
    }
    object
}

fn pod_of(name: &str, account: &str) -> Value {
    let mut object = pod(name);
    object["spec"]["serviceAccountName"] = account.into();
    object
}

fn token_volume(pod: &Value) -> Option<&Value> {
    let volumes = pod["spec"]["volumes"].as_array()?;
    volumes.iter().find(|volume| {
        volume["name"]
            .as_str()
            .is_some_and(|name| name.starts_with("kube-api-access-"))
    })
}

#[tokio::test]
async fn a_token_is_mounted_in_every_container_that_has_nothing_there() {
    let world = World::new().await;
    let mut object = pod("one");
    object["spec"]["initContainers"] = json!([{ "name": "init", "image": "i",
        "volumeMounts": [{ "name": "own", "mountPath": PLACE }] }]);
    object["spec"]["volumes"] = json!([{ "name": "own", "emptyDir": {} }]);
    let made = world.post(PODS, object).await.ok();
    assert_eq!(made["spec"]["serviceAccountName"], "default");
    assert_eq!(made["spec"]["serviceAccount"], "default");
    let volume = token_volume(&made).expect("a volume");
    let name = volume["name"].as_str().expect("a name");
    assert_eq!(name.len(), "kube-api-access-".len() + 5);
    assert_eq!(
        volume["projected"],
        json!({ "defaultMode": 420, "sources": [
            { "serviceAccountToken": { "expirationSeconds": 3607, "path": "token" } },
            { "configMap": { "name": "kube-root-ca.crt", "items": [{ "key": "ca.crt", "path": "ca.crt" }] } },
            { "downwardAPI": { "items": [
                { "path": "namespace", "fieldRef": { "apiVersion": "v1", "fieldPath": "metadata.namespace" } }] } },
        ] })
    );
    assert_eq!(
        made["spec"]["containers"][0]["volumeMounts"],
        json!([{ "name": name, "readOnly": true, "mountPath": PLACE }])
    );
    assert_eq!(made["spec"]["initContainers"][0]["volumeMounts"][0]["name"], "own");
    assert_eq!(
        made["spec"]["initContainers"][0]["volumeMounts"]
            .as_array()
            .map(Vec::len),
        Some(1)
    );
}

#[tokio::test]
async fn a_pod_decides_about_its_token_before_its_account() {
    let world = World::new().await;
    let shy = account("shy", &json!({ "automountServiceAccountToken": false }));
    world.post(ACCOUNTS, shy).await.ok();
    let made = world.post(PODS, pod_of("a", "shy")).await.ok();
    assert_eq!(token_volume(&made), None);
    let mut object = pod_of("b", "shy");
    object["spec"]["automountServiceAccountToken"] = true.into();
    assert!(token_volume(&world.post(PODS, object).await.ok()).is_some());
    let mut object = pod("c");
    object["spec"]["automountServiceAccountToken"] = false.into();
    assert_eq!(token_volume(&world.post(PODS, object).await.ok()), None);
}

#[tokio::test]
async fn a_volume_for_tokens_that_is_there_is_used() {
    let world = World::new().await;
    let mut object = pod("one");
    object["spec"]["volumes"] = json!([{ "name": "kube-api-access-mine", "emptyDir": {} }]);
    let made = world.post(PODS, object).await.ok();
    assert_eq!(made["spec"]["volumes"].as_array().map(Vec::len), Some(1));
    let mounts = &made["spec"]["containers"][0]["volumeMounts"];
    assert_eq!(mounts[0]["name"], "kube-api-access-mine");
}

#[tokio::test]
async fn a_pod_of_an_account_that_is_not_there_is_refused() {
    let world = World::new().await;
    let refused = world.post(PODS, pod_of("one", "nobody")).await;
    assert_eq!(
        refused.body["message"],
        "pods \"one\" is forbidden: error looking up service account default/nobody: serviceaccount \"nobody\" not found"
    );
    refused.failed(403, "Forbidden");
}

#[tokio::test]
async fn an_accounts_pull_secrets_are_used_by_pods_without_any() {
    let world = World::new().await;
    let puller = account("puller", &json!({ "imagePullSecrets": [{ "name": "registry" }] }));
    world.post(ACCOUNTS, puller).await.ok();
    let made = world.post(PODS, pod_of("a", "puller")).await.ok();
    assert_eq!(made["spec"]["imagePullSecrets"], json!([{ "name": "registry" }]));
    let mut object = pod_of("b", "puller");
    object["spec"]["imagePullSecrets"] = json!([{ "name": "own" }]);
    let made = world.post(PODS, object).await.ok();
    assert_eq!(made["spec"]["imagePullSecrets"], json!([{ "name": "own" }]));
}

#[tokio::test]
async fn an_account_may_hold_its_pods_to_the_secrets_that_it_lists() {
    let world = World::new().await;
    let mut strict = account("strict", &json!({ "secrets": [{ "name": "listed" }] }));
    strict["metadata"]["annotations"] = json!({ "kubernetes.io/enforce-mountable-secrets": "true" });
    world.post(ACCOUNTS, strict).await.ok();
    let with = |name: &str, key: &str, value: Value| {
        let mut object = pod_of(name, "strict");
        let container = key.starts_with("env");
        let place = if container {
            &mut object["spec"]["containers"][0]
        } else {
            &mut object["spec"]
        };
        place[key] = value;
        object
    };
    let volume = |secret: &str| json!([{ "name": "v", "secret": { "secretName": secret } }]);
    world.post(PODS, with("fine", "volumes", volume("listed"))).await.ok();
    for (key, value, place) in [
        ("volumes", volume("other"), "volume with secret.secretName=\"other\""),
        (
            "env",
            json!([{ "name": "E", "valueFrom": { "secretKeyRef": { "name": "other", "key": "k" } } }]),
            "container main with envVar E referencing secret.secretName=\"other\"",
        ),
        (
            "envFrom",
            json!([{ "secretRef": { "name": "other" } }]),
            "container main with envFrom referencing secret.secretName=\"other\"",
        ),
    ] {
        let refused = world.post(PODS, with("refused", key, value)).await;
        assert_eq!(
            refused.body["message"],
            format!(
                "pods \"refused\" is forbidden: {place} is not allowed because service account strict does not reference that secret"
            )
        );
        refused.failed(403, "Forbidden");
    }
    let refused = world
        .post(PODS, with("refused", "imagePullSecrets", json!([{ "name": "listed" }])))
        .await;
    assert_eq!(
        refused.body["message"],
        "pods \"refused\" is forbidden: imagePullSecrets[0].name=\"listed\" is not allowed because service account strict does not reference that imagePullSecret"
    );
    refused.failed(403, "Forbidden");
}

#[tokio::test]
async fn a_pod_that_mirrors_one_of_its_node_uses_nothing_of_the_cluster() {
    let world = World::new().await;
    let mirror = |spec: (&str, Value)| {
        let mut object = pod("one");
        object["metadata"]["annotations"] = json!({ "kubernetes.io/config.mirror": "x" });
        object["spec"][spec.0] = spec.1;
        object
    };
    for (what, spec) in [
        ("reference service accounts", ("serviceAccountName", json!("default"))),
        (
            "reference secrets",
            ("volumes", json!([{ "name": "v", "secret": { "secretName": "s" } }])),
        ),
        (
            "use ServiceAccountToken volume projections",
            (
                "volumes",
                json!([{ "name": "v", "projected": { "sources": [{ "serviceAccountToken": { "path": "t" } }] } }]),
            ),
        ),
    ] {
        let refused = world.post(PODS, mirror(spec)).await;
        assert_eq!(
            refused.body["message"],
            format!("pods \"one\" is forbidden: a mirror pod may not {what}")
        );
        refused.failed(403, "Forbidden");
    }
    let made = world.post(PODS, mirror(("nodeName", json!("n")))).await.ok();
    assert_eq!(token_volume(&made), None);
}

#[tokio::test]
async fn what_an_account_allowed_once_holds_up_no_later_write() {
    let world = World::new().await;
    world.post(ACCOUNTS, account("robot", &json!({}))).await.ok();
    world.post(PODS, pod_of("one", "robot")).await.ok();
    let uses = |secret: &str| {
        json!({ "spec": { "ephemeralContainers": [{ "name": secret, "image": "i",
            "envFrom": [{ "secretRef": { "name": secret } }] }] } })
    };
    let containers = format!("{PODS}/one/ephemeralcontainers");
    world.patch(STRATEGIC, &containers, uses("first")).await.ok();
    let strict = json!({ "metadata": { "annotations": { "kubernetes.io/enforce-mountable-secrets": "true" } } });
    world.patch(MERGE, &format!("{ACCOUNTS}/robot"), strict).await.ok();
    let refused = world.patch(STRATEGIC, &containers, uses("second")).await;
    assert!(refused.failed(403, "Forbidden").contains("with envFrom referencing"));
    let status = json!({ "status": { "phase": "Running" } });
    world.patch(MERGE, &format!("{PODS}/one/status"), status).await.ok();
    let label = json!({ "metadata": { "labels": { "later": "yes" } } });
    world.patch(MERGE, &format!("{PODS}/one"), label).await.ok();
}
