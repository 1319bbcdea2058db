//! Deployments and ReplicaSets: strategies, pauses, deadlines, adoption.

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::Pod;
use kube::ResourceExt as _;
use kube::api::{DeleteParams, PropagationPolicy};
use serde_json::{Value, json};

use crate::world::{World, eventually};
use crate::{complete, deployment, set_image};

/// A Deployment with more in its spec.
fn with(replicas: i32, more: Value) -> Value {
    let mut object = deployment(replicas, "web:v1");
    if let (Some(spec), Value::Object(more)) = (object["spec"].as_object_mut(), more) {
        spec.extend(more);
    }
    object
}

async fn condition(world: &World, kind: &str, reason: &str) {
    eventually(&format!("{kind} says {reason}"), || async {
        let web = world.api::<Deployment>().get("web").await.expect("the deployment");
        let conditions = web.status?.conditions?;
        conditions
            .iter()
            .any(|condition| condition.type_.as_deref() == Some(kind) && condition.reason.as_deref() == Some(reason))
            .then_some(())
    })
    .await;
}

fn image(pod: &Pod) -> &str {
    let spec = pod.spec.as_ref().expect("a spec");
    spec.containers[0].image.as_deref().expect("an image")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_paused_deployment_scales_but_does_not_roll_out_until_it_is_resumed() {
    let world = World::start().await;
    world.create::<Deployment>(deployment(2, "web:v1")).await;
    complete(&world, 2).await;
    world
        .merge::<Deployment>("web", json!({ "spec": { "paused": true, "replicas": 3 } }))
        .await;
    set_image(&world, "web:v2").await;
    condition(&world, "Progressing", "DeploymentPaused").await;
    eventually("three old pods", || async {
        let pods = world.pods().await;
        (pods.len() == 3 && pods.iter().all(|pod| image(pod) == "web:v1")).then_some(())
    })
    .await;
    assert_eq!(world.list::<ReplicaSet>().await.len(), 1);
    world
        .merge::<Deployment>("web", json!({ "spec": { "paused": false } }))
        .await;
    complete(&world, 3).await;
    condition(&world, "Progressing", "NewReplicaSetAvailable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stuck_roll_out_says_so_and_goes_back() {
    let world = World::start().await;
    world
        .create::<Deployment>(with(3, json!({ "progressDeadlineSeconds": 2 })))
        .await;
    complete(&world, 3).await;
    let broken = json!({ "spec": { "template": { "metadata": { "annotations": { "script": "broken" } } } } });
    world.merge::<Deployment>("web", broken).await;
    condition(&world, "Progressing", "ProgressDeadlineExceeded").await;
    condition(&world, "Available", "MinimumReplicasAvailable").await;
    let ready = world.pods().await;
    let ready = ready.iter().filter(|pod| setpoint_controllers::pods::is_ready(pod));
    assert_eq!(ready.count(), 3, "what worked goes on working");
    let back = json!({ "spec": { "template": { "metadata": { "annotations": null } } } });
    world.merge::<Deployment>("web", back).await;
    let web = complete(&world, 3).await;
    assert_eq!(web.annotations()["deployment.kubernetes.io/revision"], "3");
    condition(&world, "Progressing", "NewReplicaSetAvailable").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recreate_never_runs_two_templates_at_once() {
    let world = World::start().await;
    world
        .create::<Deployment>(with(3, json!({ "strategy": { "type": "Recreate" } })))
        .await;
    complete(&world, 3).await;
    set_image(&world, "web:v2").await;
    eventually("three new pods", || async {
        let pods = world.list::<Pod>().await;
        let new = pods.iter().filter(|pod| image(pod) == "web:v2").count();
        assert!(new == 0 || new == pods.len(), "either old ones or new ones");
        (new == 3).then_some(())
    })
    .await;
    complete(&world, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_counts_as_available_only_after_its_min_ready_seconds() {
    let world = World::start().await;
    world
        .create::<Deployment>(with(1, json!({ "minReadySeconds": 3 })))
        .await;
    eventually("ready and not yet available", || async {
        let web = world.api::<Deployment>().get("web").await.expect("the deployment");
        let status = web.status?;
        (status.ready_replicas == Some(1) && status.available_replicas.is_none()).then_some(())
    })
    .await;
    complete(&world, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cheapest_pods_go_first() {
    let world = World::start().await;
    world.create::<Deployment>(deployment(3, "web:v1")).await;
    complete(&world, 3).await;
    let dear = world.pods().await[1].name_any();
    let cost = json!({ "metadata": { "annotations": { "controller.kubernetes.io/pod-deletion-cost": "100" } } });
    world.merge::<Pod>(&dear, cost).await;
    world
        .merge::<Deployment>("web", json!({ "spec": { "replicas": 1 } }))
        .await;
    complete(&world, 1).await;
    assert_eq!(world.pods().await[0].name_any(), dear);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_that_is_taken_is_avoided() {
    let world = World::start().await;
    world.create::<Deployment>(deployment(1, "web:v1")).await;
    complete(&world, 1).await;
    let taken = world.list::<ReplicaSet>().await[0].name_any();
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Foreground),
        ..DeleteParams::default()
    };
    world.api::<Deployment>().delete("web", &params).await.expect("deleted");
    eventually("the set is gone and the deployment after it", || async {
        let gone = world.list::<ReplicaSet>().await.is_empty() && world.list::<Deployment>().await.is_empty();
        gone.then_some(())
    })
    .await;
    let stranger = json!({
        "metadata": { "name": taken },
        "spec": {
            "replicas": 0,
            "selector": { "matchLabels": { "app": "other" } },
            "template": {
                "metadata": { "labels": { "app": "other" } },
                "spec": { "containers": [{ "name": "c", "image": "c" }] },
            },
        },
    });
    world.create::<ReplicaSet>(stranger).await;
    world.create::<Deployment>(deployment(1, "web:v1")).await;
    let web = complete(&world, 1).await;
    assert_eq!(web.status.and_then(|status| status.collision_count), Some(1));
    assert_eq!(world.list::<ReplicaSet>().await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_with_another_label_is_let_go_and_with_the_old_one_taken_back() {
    let world = World::start().await;
    world.create::<Deployment>(deployment(2, "web:v1")).await;
    complete(&world, 2).await;
    let stray = world.pods().await[0].name_any();
    let label = |value: &str| json!({ "metadata": { "labels": { "app": value } } });
    world.merge::<Pod>(&stray, label("debug")).await;
    eventually("it is nobody's and replaced", || async {
        let pod = world.api::<Pod>().get(&stray).await.expect("the pod");
        (pod.owner_references().is_empty() && world.pods().await.len() == 3).then_some(())
    })
    .await;
    complete(&world, 2).await;
    world.merge::<Pod>(&stray, label("web")).await;
    eventually("two are left, all owned", || async {
        let pods = world.pods().await;
        (pods.len() == 2 && pods.iter().all(|pod| !pod.owner_references().is_empty())).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn controllers_that_are_killed_over_and_over_end_where_they_should() {
    let mut world = World::start().await;
    world.create::<Deployment>(deployment(3, "web:v0")).await;
    // A fixed script, different enough from round to round.
    for round in 1..8i32 {
        let replicas = 1 + round * 5 % 7;
        match round % 3 {
            0 => set_image(&world, &format!("web:v{round}")).await,
            1 => drop(
                world
                    .merge::<Deployment>("web", json!({ "spec": { "replicas": replicas } }))
                    .await,
            ),
            _ => {
                for pod in world.pods().await.iter().take(2) {
                    let at_once = DeleteParams::default().grace_period(0);
                    world.api::<Pod>().delete(&pod.name_any(), &at_once).await.ok();
                }
            }
        }
        world.restart_controllers().await;
        eventually("pods are never too many", || async {
            let web = world.api::<Deployment>().get("web").await.expect("the deployment");
            let sets = world.list::<ReplicaSet>().await;
            let total: i32 = sets.iter().filter_map(|set| set.spec.replicas).sum();
            let wanted = web.spec.replicas.unwrap_or(0);
            let sized = total <= wanted + (wanted + 3) / 4;
            (sized && !world.pods().await.is_empty()).then_some(())
        })
        .await;
    }
    let web = world.api::<Deployment>().get("web").await.expect("the deployment");
    let wanted = web.spec.replicas.unwrap_or(0);
    complete(&world, wanted).await;
    eventually("exactly the wanted pods run", || async {
        let pods = world.list::<Pod>().await;
        (pods.len() == usize::try_from(wanted).expect("positive") && pods.iter().all(|pod| image(pod) == "web:v6"))
            .then_some(())
    })
    .await;
}
