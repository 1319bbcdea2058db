//! Nodes that fall silent, come back, or go for good.

use std::time::Duration;

use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use serde_json::json;
use setpoint_controllers::pods;

use crate::world::{World, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_node_is_tainted_and_impatient_pods_leave_until_it_reports_again() {
    let world = World::start_with(|config| config.node_grace = Duration::from_secs(3)).await;
    let beats = world.keep_alive("node-1");
    let toleration = |seconds: u32| {
        json!([{
            "key": "node.kubernetes.io/unreachable", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": seconds,
        }])
    };
    for (name, seconds) in [("impatient", 0), ("patient", 600)] {
        let spec = json!({ "containers": [{ "name": "c", "image": "c" }], "tolerations": toleration(seconds) });
        world
            .create::<Pod>(json!({ "metadata": { "name": name }, "spec": spec }))
            .await;
    }
    eventually("both are ready", || async {
        let all = world.pods().await;
        (all.iter().filter(|pod| pods::is_ready(pod)).count() == 2).then_some(())
    })
    .await;

    beats.abort();
    let nodes: Api<Node> = Api::all(world.client.clone());
    let taints = || async {
        let node = nodes.get("node-1").await.expect("the node");
        let ready = node
            .status
            .and_then(|status| status.conditions)
            .into_iter()
            .flatten()
            .find(|condition| condition.type_ == "Ready")
            .map(|condition| condition.status);
        let taints = node.spec.and_then(|spec| spec.taints).unwrap_or_default();
        let effects: Vec<String> = taints
            .into_iter()
            .filter(|taint| taint.key == "node.kubernetes.io/unreachable")
            .map(|taint| taint.effect)
            .collect();
        (ready.unwrap_or_default(), effects)
    };
    eventually("the node is unreachable", || async {
        let (ready, effects) = taints().await;
        (ready == "Unknown" && effects == ["NoSchedule", "NoExecute"]).then_some(())
    })
    .await;
    eventually("one leaves, the other is not ready", || async {
        let gone = world
            .api::<Pod>()
            .get_opt("impatient")
            .await
            .expect("an answer")
            .is_none();
        let patient = world.api::<Pod>().get("patient").await.expect("the pod");
        (gone && !pods::is_ready(&patient)).then_some(())
    })
    .await;

    let _beats = world.keep_alive("node-1");
    eventually("the node is back", || async {
        let (ready, effects) = taints().await;
        (ready == "True" && effects.is_empty()).then_some(())
    })
    .await;
    let next = json!({ "metadata": { "name": "next" }, "spec": { "containers": [{ "name": "c", "image": "c" }] } });
    world.create::<Pod>(next).await;
    eventually("it takes pods again", || async {
        let pod = world.api::<Pod>().get("next").await.expect("the pod");
        pods::node_of(&pod).map(|_| ())
    })
    .await;
}
