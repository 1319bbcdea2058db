//! The controllers together, against the real server.

mod deletion;
mod nodes;
mod scheduling;
mod server;
mod volumes;
mod workload;
mod world;

use k8s_openapi::api::apps::v1::{Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::{ConfigMap, Endpoints, Namespace, Node, Pod, Service, ServiceAccount};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, PropagationPolicy};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};
use world::{World, eventually, of};

fn deployment(replicas: i32, image: &str) -> Value {
    json!({
        "metadata": { "name": "web" },
        "spec": {
            "replicas": replicas,
            "selector": { "matchLabels": { "app": "web" } },
            "template": {
                "metadata": { "labels": { "app": "web" } },
                "spec": { "containers": [{ "name": "web", "image": image }] },
            },
        },
    })
}

async fn complete(world: &World, replicas: i32) -> Deployment {
    eventually("the deployment is complete", || async {
        let web = world.api::<Deployment>().get("web").await.expect("the deployment");
        let status = web.status.clone()?;
        let done = status.observed_generation == web.metadata.generation
            && status.updated_replicas.unwrap_or(0) == replicas
            && status.replicas.unwrap_or(0) == replicas
            && status.available_replicas.unwrap_or(0) == replicas;
        done.then_some(web)
    })
    .await
}

async fn set_image(world: &World, image: &str) {
    let patch = json!({ "spec": { "template": { "spec": { "containers": [{ "name": "web", "image": image }] } } } });
    let deployments = world.api::<Deployment>();
    deployments
        .patch("web", &PatchParams::default(), &Patch::Strategic(&patch))
        .await
        .expect("patched");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deployment_runs_rolls_out_and_back() {
    let world = World::start().await;
    world.create::<Deployment>(deployment(3, "web:v1")).await;
    complete(&world, 3).await;
    assert_eq!(world.pods().await.len(), 3);

    set_image(&world, "web:v2").await;
    let web = complete(&world, 3).await;
    assert_eq!(web.annotations()["deployment.kubernetes.io/revision"], "2");
    eventually("the old pods are gone", || async {
        let pods = world
            .api::<Pod>()
            .list(&ListParams::default())
            .await
            .expect("pods")
            .items;
        let new = pods
            .iter()
            .all(|pod| pod.spec.as_ref().expect("a spec").containers[0].image.as_deref() == Some("web:v2"));
        (new && pods.len() == 3).then_some(())
    })
    .await;
    set_image(&world, "web:v1").await;
    let web = complete(&world, 3).await;
    assert_eq!(web.annotations()["deployment.kubernetes.io/revision"], "3");
    assert_eq!(
        world
            .api::<ReplicaSet>()
            .list(&ListParams::default())
            .await
            .expect("sets")
            .items
            .len(),
        2
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_vanish_are_replaced_and_never_too_many() {
    let world = World::start().await;
    world.create::<Deployment>(deployment(5, "web:v1")).await;
    complete(&world, 5).await;
    for round in 0..5 {
        let pods = world.pods().await;
        let victim = &pods[round % pods.len()];
        let params = if round % 2 == 0 {
            DeleteParams::default()
        } else {
            DeleteParams::default().grace_period(0)
        };
        world
            .api::<Pod>()
            .delete(&victim.name_any(), &params)
            .await
            .expect("deleted");
        eventually("five others run", || async {
            let pods = world.pods().await;
            assert!(pods.len() <= 5, "never too many");
            let victim = pods.iter().any(|pod| pod.uid() == victim.uid());
            (pods.len() == 5 && !victim).then_some(())
        })
        .await;
        complete(&world, 5).await;
    }
    let patch = json!({ "spec": { "replicas": 2 } });
    world
        .api::<Deployment>()
        .patch("web", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .expect("scaled");
    complete(&world, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_has_the_ready_pods_as_endpoints() {
    let world = World::start().await;
    let service = json!({
        "metadata": { "name": "web" },
        "spec": { "selector": { "app": "web" }, "ports": [{ "port": 80, "targetPort": 8080 }] },
    });
    world.create::<Service>(service).await;
    world.create::<Deployment>(deployment(3, "web:v1")).await;
    let ready = || async {
        let slices = world
            .api::<EndpointSlice>()
            .list(&ListParams::default().labels("kubernetes.io/service-name=web"))
            .await;
        let slices = slices.expect("slices").items;
        let endpoints = slices.into_iter().flat_map(|slice| slice.endpoints.unwrap_or_default());
        endpoints
            .filter(|endpoint| endpoint.conditions.as_ref().and_then(|conditions| conditions.ready) == Some(true))
            .count()
    };
    eventually("three endpoints", || async { (ready().await == 3).then_some(()) }).await;
    let patch = json!({ "spec": { "replicas": 1 } });
    world
        .api::<Deployment>()
        .patch("web", &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .expect("scaled");
    eventually("one endpoint", || async { (ready().await == 1).then_some(()) }).await;
    eventually("one legacy address", || async {
        let legacy = world
            .api::<Endpoints>()
            .get_opt("web")
            .await
            .expect("the legacy object")?;
        let addresses: usize = legacy
            .subsets?
            .iter()
            .map(|subset| subset.addresses.as_ref().map_or(0, Vec::len))
            .sum();
        (addresses == 1).then_some(())
    })
    .await;
    world
        .api::<Service>()
        .delete("web", &DeleteParams::default())
        .await
        .expect("deleted");
    eventually("the slices went with their service", || async {
        let slices = world
            .api::<EndpointSlice>()
            .list(&ListParams::default().labels("kubernetes.io/service-name=web"))
            .await;
        slices.expect("slices").items.is_empty().then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_owned_goes_with_its_owner() {
    for policy in [PropagationPolicy::Background, PropagationPolicy::Foreground] {
        let world = World::start().await;
        world.create::<Deployment>(deployment(2, "web:v1")).await;
        complete(&world, 2).await;
        let params = DeleteParams {
            propagation_policy: Some(policy),
            ..DeleteParams::default()
        };
        world.api::<Deployment>().delete("web", &params).await.expect("deleted");
        eventually("everything is gone", || async {
            let left = world
                .api::<Pod>()
                .list(&ListParams::default())
                .await
                .expect("pods")
                .items
                .len()
                + world
                    .api::<ReplicaSet>()
                    .list(&ListParams::default())
                    .await
                    .expect("sets")
                    .items
                    .len()
                + world
                    .api::<Deployment>()
                    .list(&ListParams::default())
                    .await
                    .expect("deployments")
                    .items
                    .len();
            (left == 0).then_some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_stay_and_are_adopted_again() {
    let world = World::start().await;
    world.create::<Deployment>(deployment(2, "web:v1")).await;
    complete(&world, 2).await;
    let before: Vec<_> = world.pods().await.iter().map(|pod| pod.uid()).collect();
    let params = DeleteParams {
        propagation_policy: Some(PropagationPolicy::Orphan),
        ..DeleteParams::default()
    };
    world.api::<Deployment>().delete("web", &params).await.expect("deleted");
    eventually("the set lost its owner", || async {
        let sets = world
            .api::<ReplicaSet>()
            .list(&ListParams::default())
            .await
            .expect("sets")
            .items;
        let gone = world
            .api::<Deployment>()
            .get_opt("web")
            .await
            .expect("an answer")
            .is_none();
        (gone && sets.len() == 1 && sets[0].owner_references().is_empty()).then_some(())
    })
    .await;
    world.create::<Deployment>(deployment(2, "web:v1")).await;
    complete(&world, 2).await;
    let after: Vec<_> = world.pods().await.iter().map(|pod| pod.uid()).collect();
    assert_eq!(before, after, "the same pods go on");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_starts_with_an_account_and_goes_with_everything_in_it() {
    let (authorities, known) = tokio::sync::watch::channel("a certificate".to_owned());
    let world = World::start_with(|config| config.root_ca_pem = Some(known)).await;
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let space = of(json!({ "metadata": { "name": "space" } }));
    namespaces
        .create(&PostParams::default(), &space)
        .await
        .expect("created");
    let accounts: Api<ServiceAccount> = Api::namespaced(world.client.clone(), "space");
    let maps: Api<ConfigMap> = Api::namespaced(world.client.clone(), "space");
    eventually("the account and the certificate", || async {
        accounts.get_opt("default").await.expect("an answer")?;
        let map = maps.get_opt("kube-root-ca.crt").await.expect("an answer")?;
        (map.data?.get("ca.crt")? == "a certificate").then_some(())
    })
    .await;
    authorities.send_replace("a certificate and the next".to_owned());
    eventually("the next certificate beside the first", || async {
        let map = maps.get_opt("kube-root-ca.crt").await.expect("an answer")?;
        (map.data?.get("ca.crt")? == "a certificate and the next").then_some(())
    })
    .await;
    accounts
        .delete("default", &DeleteParams::default())
        .await
        .expect("deleted");
    eventually("the account comes back", || async {
        accounts.get_opt("default").await.expect("an answer")
    })
    .await;

    let deployments: Api<Deployment> = Api::namespaced(world.client.clone(), "space");
    deployments
        .create(&PostParams::default(), &of(deployment(2, "web:v1")))
        .await
        .expect("created");
    let pods: Api<Pod> = Api::namespaced(world.client.clone(), "space");
    eventually("its pods", || async {
        (pods.list(&ListParams::default()).await.expect("pods").items.len() == 2).then_some(())
    })
    .await;
    namespaces
        .delete("space", &DeleteParams::default())
        .await
        .expect("deleted");
    eventually("the namespace is gone", || async {
        namespaces
            .get_opt("space")
            .await
            .expect("an answer")
            .is_none()
            .then_some(())
    })
    .await;
    assert!(pods.list(&ListParams::default()).await.expect("pods").items.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pod_that_fits_nowhere_says_why_and_runs_once_it_fits() {
    let world = World::start().await;
    let big = json!({
        "metadata": { "name": "big" },
        "spec": { "containers": [{ "name": "c", "image": "c", "resources": { "requests": { "cpu": "6" } } }] },
    });
    world.create::<Pod>(big).await;
    let why = eventually("a reason", || async {
        let pod = world.api::<Pod>().get("big").await.expect("the pod");
        let conditions = pod.status?.conditions?;
        let condition = conditions
            .into_iter()
            .find(|condition| condition.type_ == "PodScheduled")?;
        (condition.reason.as_deref() == Some("Unschedulable")).then_some(condition.message)?
    })
    .await;
    assert_eq!(why, "0/1 nodes are available: 1 Insufficient cpu.");
    world.add_node("node-2", "8").await;
    eventually("it is bound", || async {
        let pod = world.api::<Pod>().get("big").await.expect("the pod");
        (pod.spec?.node_name.as_deref() == Some("node-2")).then_some(())
    })
    .await;
    eventually("it has events", || async {
        let events: Api<k8s_openapi::api::core::v1::Event> = world.api();
        let reasons: Vec<_> = events.list(&ListParams::default()).await.expect("events").items;
        let has = |reason: &str| reasons.iter().any(|event| event.reason.as_deref() == Some(reason));
        (has("FailedScheduling") && has("Scheduled")).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_burst_never_overcommits_a_node() {
    let world = World::start().await;
    for number in 0..20 {
        let pod = json!({
            "metadata": { "name": format!("p{number}") },
            "spec": { "containers": [{ "name": "c", "image": "c", "resources": { "requests": { "cpu": "500m" } } }] },
        });
        world.create::<Pod>(pod).await;
    }
    let counts = || async {
        let pods = world.pods().await;
        let bound = pods
            .iter()
            .filter(|pod| pod.spec.as_ref().is_some_and(|spec| spec.node_name.is_some()))
            .count();
        let refused = pods
            .iter()
            .filter(|pod| {
                let conditions = pod.status.iter().flat_map(|status| status.conditions.iter().flatten());
                conditions
                    .clone()
                    .any(|condition| condition.reason.as_deref() == Some("Unschedulable"))
            })
            .count();
        (bound, refused)
    };
    eventually("eight run and twelve wait", || async {
        (counts().await == (8, 12)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_of_a_lost_node_are_removed_and_replaced() {
    let world = World::start_with(|config| config.missing_node_grace = std::time::Duration::from_millis(50)).await;
    world.create::<Deployment>(deployment(2, "web:v1")).await;
    complete(&world, 2).await;
    let before: Vec<_> = world.pods().await.iter().map(|pod| pod.uid()).collect();
    let nodes: Api<Node> = Api::all(world.client.clone());
    nodes.delete("node-1", &DeleteParams::default()).await.expect("deleted");
    world.add_node("node-2", "4").await;
    eventually("others run on the other node", || async {
        let pods = world.pods().await;
        let moved = pods.iter().all(|pod| {
            let node = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
            node == Some("node-2") && !before.contains(&pod.uid())
        });
        (pods.len() == 2 && moved).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reconciles_are_counted() {
    let world = World::start().await;
    world.create::<Deployment>(deployment(1, "web:v1")).await;
    complete(&world, 1).await;
    let families = world.metrics.gather();
    let reconciles = families
        .iter()
        .find(|family| family.name() == "setpoint_controller_reconciles_total");
    let count: f64 = reconciles
        .expect("the family")
        .get_metric()
        .iter()
        .filter(|metric| metric.get_label().iter().any(|label| label.value() == "deployment"))
        .map(|metric| metric.get_counter().get_value())
        .sum();
    assert!(count >= 2.0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_a_definition_that_came_later_owns_and_is_owned() {
    use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
    use kube::api::{ApiResource, DynamicObject};
    use kube::core::GroupVersionKind;

    let world = World::start().await;
    let definitions: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    let definition = of(json!({
        "metadata": { "name": "widgets.example.com" },
        "spec": {
            "group": "example.com",
            "scope": "Namespaced",
            "names": { "plural": "widgets", "singular": "widget", "kind": "Widget", "listKind": "WidgetList" },
            "versions": [{ "name": "v1", "served": true, "storage": true,
                "schema": { "openAPIV3Schema": { "type": "object" } } }],
        },
    }));
    definitions
        .create(&PostParams::default(), &definition)
        .await
        .expect("created");
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk("example.com", "v1", "Widget"));
    let widgets: Api<DynamicObject> = Api::namespaced_with(world.client.clone(), "default", &resource);
    let owned_by = |owner: &DynamicObject| json!([{ "apiVersion": "example.com/v1", "kind": "Widget", "name": owner.name_any(), "uid": owner.uid() }]);
    let owner = eventually("the kind is served", || async {
        widgets
            .create(&PostParams::default(), &DynamicObject::new("owner", &resource))
            .await
            .ok()
    })
    .await;
    let mut child = DynamicObject::new("child", &resource);
    child.metadata.owner_references = serde_json::from_value(owned_by(&owner)).expect("references");
    widgets.create(&PostParams::default(), &child).await.expect("created");
    let map = json!({ "metadata": { "name": "map", "ownerReferences": owned_by(&owner) } });
    world.create::<ConfigMap>(map).await;
    widgets
        .delete("owner", &DeleteParams::default())
        .await
        .expect("deleted");
    eventually("what it owned is gone", || async {
        let child = widgets.get_opt("child").await.expect("an answer");
        let map = world.api::<ConfigMap>().get_opt("map").await.expect("an answer");
        (child.is_none() && map.is_none()).then_some(())
    })
    .await;
}
