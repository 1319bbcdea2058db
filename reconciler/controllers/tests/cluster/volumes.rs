//! Claims and volumes in numbers: nothing is bound twice, and what is gone is freed.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim, Pod};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt as _};
use serde_json::{Value, json};

use crate::world::{World, eventually, of};

fn claim(name: &str, class: &str) -> Value {
    json!({
        "metadata": { "name": name },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": class,
            "resources": { "requests": { "storage": "1Gi" } },
        },
    })
}

fn volume(name: &str) -> PersistentVolume {
    of(json!({
        "metadata": { "name": name },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "capacity": { "storage": "1Gi" }, "storageClassName": "manual",
            "hostPath": { "path": "/x" },
        },
    }))
}

fn phase(claim: &PersistentVolumeClaim) -> &str {
    let phase = claim.status.as_ref().and_then(|status| status.phase.as_deref());
    phase.unwrap_or_default()
}

async fn bound(world: &World) -> BTreeSet<String> {
    let claims = world.list::<PersistentVolumeClaim>().await;
    let bound = claims.iter().filter(|claim| phase(claim) == "Bound");
    bound
        .filter_map(|claim| claim.spec.as_ref()?.volume_name.clone())
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn many_claims_and_volumes_find_each_other_and_none_two() {
    let mut world = World::start().await;
    let volumes: Api<PersistentVolume> = Api::all(world.client.clone());
    for number in 0..12 {
        world
            .create::<PersistentVolumeClaim>(claim(&format!("c{number}"), "manual"))
            .await;
        if number < 8 {
            let made = volumes
                .create(&PostParams::default(), &volume(&format!("v{number}")))
                .await;
            made.expect("a volume");
        }
        if number == 6 {
            world.restart_controllers().await;
        }
    }
    eventually("eight are bound", || async {
        (bound(&world).await.len() == 8).then_some(())
    })
    .await;
    let all = volumes.list(&ListParams::default()).await.expect("volumes").items;
    let owners: BTreeSet<_> = all
        .iter()
        .filter_map(|volume| volume.spec.as_ref()?.claim_ref.as_ref()?.uid.clone())
        .collect();
    assert_eq!(owners.len(), 8, "each volume has a claim of its own");
    // What is freed by hand goes to one that waits.
    let claims = world.list::<PersistentVolumeClaim>().await;
    let first = claims
        .iter()
        .find(|claim| phase(claim) == "Bound")
        .expect("a bound one");
    let freed = first
        .spec
        .as_ref()
        .and_then(|spec| spec.volume_name.clone())
        .expect("its volume");
    let api = world.api::<PersistentVolumeClaim>();
    api.delete(&first.name_any(), &DeleteParams::default())
        .await
        .expect("deleted");
    eventually("the volume is released", || async {
        let volume = volumes.get(&freed).await.expect("a volume");
        (volume.status?.phase.as_deref() == Some("Released")).then_some(())
    })
    .await;
    let patch = Patch::Merge(json!({ "spec": { "claimRef": null } }));
    volumes
        .patch(&freed, &PatchParams::default(), &patch)
        .await
        .expect("freed");
    eventually("eight are bound again", || async {
        (bound(&world).await.len() == 8).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pods_that_share_a_new_claim_go_where_its_volume_is_made() {
    let world = World::start().await;
    world.add_node("node-2", "4").await;
    let nodes: Api<k8s_openapi::api::core::v1::Node> = Api::all(world.client.clone());
    for name in ["node-1", "node-2"] {
        let folder = json!({ "metadata": { "annotations": { "setpoint.dev/volumes-dir": "/data/volumes" } } });
        let patched = nodes.patch(name, &PatchParams::default(), &Patch::Merge(&folder)).await;
        patched.expect("patched");
    }
    world.create::<PersistentVolumeClaim>(claim("data", "local")).await;
    for number in 0..6 {
        let pod = json!({
            "metadata": { "name": format!("p{number}") },
            "spec": {
                "containers": [{ "name": "c", "image": "c" }],
                "volumes": [{ "name": "data", "persistentVolumeClaim": { "claimName": "data" } }],
            },
        });
        world.create::<Pod>(pod).await;
    }
    let placed = eventually("all are placed", || async {
        let pods = world.pods().await;
        let nodes: Vec<_> = pods
            .iter()
            .filter_map(|pod| pod.spec.as_ref()?.node_name.clone())
            .collect();
        (nodes.len() == 6).then_some(nodes)
    })
    .await;
    let one: BTreeSet<_> = placed.iter().collect();
    assert_eq!(one.len(), 1, "{placed:?}");
    let claim = world
        .api::<PersistentVolumeClaim>()
        .get("data")
        .await
        .expect("the claim");
    assert_eq!(claim.annotations()["volume.kubernetes.io/selected-node"], placed[0]);
    assert_eq!(phase(&claim), "Bound");
}
