//! What a right to change lets nobody do.

use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, Patch, PatchParams, PostParams};
use serde_json::json;
use setpoint_server::UserInfo;

use crate::cluster::Cluster;
use crate::{client, object};

#[tokio::test]
async fn who_may_only_change_makes_nothing_by_applying_or_replacing() {
    let cluster = Cluster::start().await;
    let master = client(&cluster, UserInfo::system("test"));
    let rbac = "rbac.authorization.k8s.io";
    let role = json!({"metadata": {"name": "editor"}, "rules": [
        {"apiGroups": ["", "coordination.k8s.io"], "resources": ["configmaps", "leases"], "verbs": ["get", "patch", "update"]},
    ]});
    let binding = json!({
        "metadata": {"name": "editor"}, "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "editor"},
        "subjects": [{"apiGroup": rbac, "kind": "User", "name": "ann"}],
    });
    let roles: Api<k8s_openapi::api::rbac::v1::ClusterRole> = Api::all(master.clone());
    roles
        .create(&PostParams::default(), &object(role))
        .await
        .expect("a role");
    let bindings: Api<k8s_openapi::api::rbac::v1::RoleBinding> = Api::default_namespaced(master.clone());
    let made = bindings.create(&PostParams::default(), &object(binding)).await;
    made.expect("a binding");

    let ann = client(&cluster, UserInfo::new("ann", &[]));
    let maps: Api<ConfigMap> = Api::default_namespaced(ann.clone());
    let map = || json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "m"}, "data": {"a": "1"}});
    let apply = async || {
        maps.patch("m", &PatchParams::apply("ann").force(), &Patch::Apply(map()))
            .await
    };
    let refused = |outcome: Result<_, kube::Error>| match outcome {
        Err(kube::Error::Api(status)) => (status.code, status.message.clone()),
        other => panic!("{other:?}"),
    };
    assert_eq!(
        refused(apply().await.map(drop)),
        (
            403,
            "configmaps \"m\" is forbidden: User \"ann\" cannot create resource \"configmaps\" in API group \"\" in the namespace \"default\""
                .to_owned()
        )
    );
    let leases: Api<k8s_openapi::api::coordination::v1::Lease> = Api::default_namespaced(ann);
    let lease = object(json!({"metadata": {"name": "l"}, "spec": {"holderIdentity": "ann"}}));
    let (code, message) = refused(leases.replace("l", &PostParams::default(), &lease).await.map(drop));
    assert_eq!(code, 403);
    assert!(message.contains("cannot create resource \"leases\""), "{message}");
    // What is there she may change.
    let all: Api<ConfigMap> = Api::default_namespaced(master);
    all.create(&PostParams::default(), &object(map())).await.expect("made");
    apply().await.expect("changed");
}

#[tokio::test]
async fn rights_in_a_namespace_reach_nothing_that_is_cluster_wide() {
    let cluster = Cluster::start().await;
    let master = client(&cluster, UserInfo::system("test"));
    let rbac = "rbac.authorization.k8s.io";
    let binding = json!({
        "metadata": {"name": "all"}, "roleRef": {"apiGroup": rbac, "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": rbac, "kind": "User", "name": "ann"}],
    });
    let bindings: Api<k8s_openapi::api::rbac::v1::RoleBinding> = Api::default_namespaced(master.clone());
    let made = bindings.create(&PostParams::default(), &object(binding)).await;
    made.expect("a binding");
    let ann = client(&cluster, UserInfo::new("ann", &[]));
    let ask = async |method: &str, path: &str, body: serde_json::Value| {
        let request = http::Request::builder().method(method).uri(path);
        let request = request.header("content-type", "application/json");
        let request = request.body(body.to_string().into_bytes()).expect("a request");
        match ann.request_text(request).await {
            Ok(text) => panic!("{method} {path}: {text}"),
            Err(kube::Error::Api(status)) => status.code,
            Err(error) => panic!("{method} {path}: {error}"),
        }
    };
    let none = json!({});
    let named = |kind: &str| json!({"kind": kind, "metadata": {"name": "x"}});
    for (method, path, body) in [
        ("GET", "/api/v1/namespaces/default/namespaces", none.clone()),
        ("GET", "/api/v1/namespaces/default/namespaces?watch=1", none.clone()),
        ("GET", "/api/v1/namespaces/default/namespaces/kube-system", none.clone()),
        (
            "DELETE",
            "/api/v1/namespaces/default/namespaces/kube-public",
            none.clone(),
        ),
        ("POST", "/api/v1/namespaces/default/namespaces", named("Namespace")),
        ("GET", "/api/v1/namespaces/default/nodes/default", none.clone()),
        (
            "POST",
            "/api/v1/namespaces/default/persistentvolumes",
            named("PersistentVolume"),
        ),
        (
            "POST",
            "/apis/authorization.k8s.io/v1/namespaces/default/subjectaccessreviews",
            json!({"spec": {"user": "x", "nonResourceAttributes": {"path": "/", "verb": "get"}}}),
        ),
        (
            "POST",
            "/apis/authentication.k8s.io/v1/namespaces/default/tokenreviews",
            json!({"spec": {"token": "x"}}),
        ),
    ] {
        assert_eq!(ask(method, path, body).await, 404, "{method} {path}");
    }
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(ann.clone());
    namespaces.get("default").await.expect("the namespace itself");
    let strict = json!({"spec": {"nonResourceAttributes": {"path": "/", "verb": "get"}, "typo": 1}});
    let review = "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews?fieldValidation=Strict";
    assert_eq!(ask("POST", review, strict).await, 400);
    let accounts = "/api/v1/namespaces/default/serviceaccounts";
    let account = json!({"metadata": {"name": "robot"}});
    let made = http::Request::post(accounts).header("content-type", "application/json");
    let made = made.body(account.to_string().into_bytes()).expect("a request");
    ann.request_text(made).await.expect("an account");
    // What is no list of audiences is not taken for none, which would mean this API.
    let odd = json!({"spec": {"audiences": "vault"}});
    assert_eq!(ask("POST", &format!("{accounts}/robot/token"), odd).await, 400);
}
