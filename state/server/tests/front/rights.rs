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
