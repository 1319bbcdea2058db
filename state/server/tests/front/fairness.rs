//! One client's flood is its own affair.

use std::sync::Arc;

use async_trait::async_trait;
use futures::StreamExt;
use futures::stream::FuturesUnordered;
use http::Request;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::{Api, ListParams, PostParams};
use serde_json::{Value, json};
use setpoint_api::Status;
use setpoint_server::{ServedSubresource, SubresourceHandler, SubresourceRequest, UserInfo};
use tokio::sync::Semaphore;

use crate::cluster::Cluster;
use crate::{SOON, client, object};

/// Answers `configmaps/gate` once the gate is open.
struct Gate(Semaphore);

#[async_trait]
impl SubresourceHandler for Gate {
    fn serves(&self) -> Vec<ServedSubresource> {
        vec![ServedSubresource {
            group: "",
            resource: "configmaps",
            name: "gate",
            verbs: &["get"],
            of_absent: true,
        }]
    }

    async fn call(&self, _: SubresourceRequest) -> Result<Value, Status> {
        match self.0.acquire().await {
            Ok(permit) => permit.forget(),
            Err(_) => return Err(Status::internal("the gate is gone")),
        }
        Ok(json!({}))
    }
}

async fn metric(cluster: &Cluster, wanted: &str) -> f64 {
    let client = client(cluster, UserInfo::system("test"));
    let request = Request::get("/metrics").body(Vec::new()).expect("a request");
    let page = client.request_text(request).await.expect("the page");
    page.lines()
        .find_map(|line| line.strip_prefix(wanted)?.trim().parse().ok())
        .unwrap_or_default()
}

#[tokio::test]
async fn one_users_flood_keeps_nobody_else_waiting() {
    let gate = Arc::new(Gate(Semaphore::new(0)));
    let cluster = Cluster::start_with(vec![gate.clone()]).await;
    let admin = client(&cluster, UserInfo::system("test"));
    let bindings: Api<k8s_openapi::api::rbac::v1::ClusterRoleBinding> = Api::all(admin);
    let everybody = object(json!({
        "metadata": {"name": "everybody"},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
        "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "Group", "name": "system:authenticated"}],
    }));
    bindings
        .create(&PostParams::default(), &everybody)
        .await
        .expect("bound");

    let flood = client(&cluster, UserInfo::new("flood", &[]));
    let mut answers: FuturesUnordered<_> = (0..1000)
        .map(|_| {
            let flood = flood.clone();
            tokio::spawn(async move {
                let uri = "/api/v1/namespaces/default/configmaps/any/gate";
                let request = Request::get(uri).body(Vec::new()).expect("a request");
                flood.request::<Value>(request).await
            })
        })
        .collect();
    // 200 have a seat, 512 wait; the rest is told to come again.
    for _ in 0..1000 - 200 - 512 {
        let answer = tokio::time::timeout(SOON, answers.next()).await.expect("in time");
        match answer.expect("one more").expect("no panic") {
            Err(kube::Error::Api(status)) => {
                assert_eq!(status.code, 429);
                assert_eq!(status.details.as_ref().map(|it| it.retry_after_seconds), Some(1));
            }
            other => panic!("{other:?}"),
        }
    }
    let labels = "{priority_level=\"workload\",request_kind=\"readOnly\"}";
    let waiting = format!("apiserver_flowcontrol_current_inqueue_requests{labels}");
    assert!((metric(&cluster, &waiting).await - 512.0).abs() < 0.5);

    // The gate is shut: whatever ann gets, she gets it beside the flood.
    let maps: Api<ConfigMap> = Api::default_namespaced(client(&cluster, UserInfo::new("ann", &[])));
    let work = async {
        for number in 0..50 {
            let map = object(json!({"metadata": {"name": format!("map-{number}")}}));
            maps.create(&PostParams::default(), &map).await.expect("created");
            maps.list(&ListParams::default()).await.expect("listed");
        }
    };
    tokio::time::timeout(SOON, work)
        .await
        .expect("ann does not wait for the flood");

    gate.0.add_permits(200 + 512);
    while let Some(answer) = tokio::time::timeout(SOON, answers.next()).await.expect("in time") {
        answer.expect("no panic").expect("who waited is answered");
    }
    assert!(metric(&cluster, &waiting).await.abs() < 0.5);
    let seats = format!("apiserver_flowcontrol_current_executing_seats{labels}");
    assert!(metric(&cluster, &seats).await.abs() < 0.5);
}

#[tokio::test]
async fn the_place_of_a_watch_is_free_again_when_it_ends() {
    let cluster = Cluster::start().await;
    let admin = client(&cluster, UserInfo::system("test"));
    let open = "apiserver_flowcontrol_current_executing_seats{priority_level=\"system\",request_kind=\"longRunning\"}";
    let watch = async || {
        let request = Request::get("/api/v1/namespaces?watch=true")
            .body(Vec::new())
            .expect("a request");
        admin.request_stream(request).await.expect("a watch")
    };
    let (one, two) = (watch().await, watch().await);
    assert!((metric(&cluster, open).await - 2.0).abs() < 0.5);
    drop(one);
    assert!((metric(&cluster, open).await - 1.0).abs() < 0.5);
    drop(two);
    assert!(metric(&cluster, open).await.abs() < 0.5);
}
