//! The scheduler: bursts, reasons, and what wakes a pod that waits.

use std::collections::HashMap;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, Patch, PatchParams};
use serde_json::{Value, json};

use crate::world::{World, eventually};

fn pod(name: &str, cpu: &str, more: Value) -> Value {
    let container = json!({ "name": "c", "image": "c", "resources": { "requests": { "cpu": cpu } } });
    let mut spec = json!({ "containers": [container] });
    if let (Some(spec), Value::Object(more)) = (spec.as_object_mut(), more) {
        spec.extend(more);
    }
    json!({ "metadata": { "name": name }, "spec": spec })
}

async fn patch_node(world: &World, name: &str, patch: Value) {
    let nodes: Api<Node> = Api::all(world.client.clone());
    nodes
        .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .expect("patched");
}

async fn why(world: &World, name: &str, wanted: &str) {
    eventually(&format!("{name} says {wanted}"), || async {
        let pod = world.api::<Pod>().get(name).await.expect("the pod");
        let conditions = pod.status?.conditions?;
        let condition = conditions
            .into_iter()
            .find(|condition| condition.type_ == "PodScheduled")?;
        (condition.message? == wanted).then_some(())
    })
    .await;
}

async fn bound(world: &World, name: &str, node: &str) {
    eventually(&format!("{name} runs on {node}"), || async {
        let pod = world.api::<Pod>().get(name).await.expect("the pod");
        (pod.spec?.node_name.as_deref() == Some(node)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_waits_hears_every_nodes_reason_and_runs_once_one_is_gone() {
    let world = World::start().await;
    world.add_node("node-2", "8").await;
    world.add_node("node-3", "8").await;
    patch_node(
        &world,
        "node-1",
        json!({ "metadata": { "labels": { "disk": "fast" } } }),
    )
    .await;
    patch_node(
        &world,
        "node-2",
        json!({ "metadata": { "labels": { "disk": "slow" } } }),
    )
    .await;
    let taints = json!([{ "key": "reserved", "value": "yes", "effect": "NoSchedule" }]);
    patch_node(
        &world,
        "node-3",
        json!({ "metadata": { "labels": { "disk": "fast" } }, "spec": { "taints": taints } }),
    )
    .await;
    let choosy = json!({ "nodeSelector": { "disk": "fast" } });
    world.create::<Pod>(pod("choosy", "5", choosy.clone())).await;
    why(
        &world,
        "choosy",
        "0/3 nodes are available: 1 Insufficient cpu, 1 node(s) didn't match Pod's node affinity/selector, 1 node(s) had untolerated taint {reserved: yes}.",
    )
    .await;
    let mut tolerant = choosy;
    tolerant["tolerations"] = json!([{ "key": "reserved", "operator": "Exists" }]);
    world.create::<Pod>(pod("tolerant", "5", tolerant)).await;
    bound(&world, "tolerant", "node-3").await;
    patch_node(
        &world,
        "node-2",
        json!({ "metadata": { "labels": { "disk": "fast" } } }),
    )
    .await;
    bound(&world, "choosy", "node-2").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_of_two_hundred_fills_the_nodes_and_the_rest_runs_as_room_comes() {
    let world = World::start().await;
    world.add_node("node-2", "8").await;
    let creations = (0..200).map(|number| world.create::<Pod>(pod(&format!("p{number}"), "100m", json!({}))));
    futures::future::join_all(creations).await;
    let loads = || async {
        let mut loads: HashMap<Option<String>, usize> = HashMap::new();
        for pod in world.list::<Pod>().await {
            *loads.entry(pod.spec.and_then(|spec| spec.node_name)).or_default() += 1;
        }
        let at = |node: Option<&str>| loads.get(&node.map(str::to_owned)).copied().unwrap_or(0);
        let loads = (at(Some("node-1")), at(Some("node-2")), at(None));
        assert!(loads.0 <= 40 && loads.1 <= 80, "overcommitted: {loads:?}");
        loads
    };
    eventually("both nodes are full", || async {
        (loads().await == (40, 80, 80)).then_some(())
    })
    .await;
    let running: Vec<String> = world
        .pods()
        .await
        .iter()
        .filter(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()))
        .map(|pod| pod.name_any())
        .take(30)
        .collect();
    for name in running {
        world
            .api::<Pod>()
            .delete(&name, &DeleteParams::default().grace_period(0))
            .await
            .expect("deleted");
    }
    eventually("their room is taken", || async {
        (loads().await == (40, 80, 50)).then_some(())
    })
    .await;
}
