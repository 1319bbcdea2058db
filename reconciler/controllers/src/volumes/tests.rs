//! Claims and volumes as a table of what is seen and what is done.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};
use k8s_openapi::api::storage::v1::StorageClass;
use kube::ResourceExt as _;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::actions::{Action, Object};
use super::matching::{self, Place};
use super::scheduling::{Promises, Storage, claims_for};
use super::{claim, ephemeral, protection, volume};

fn of<T: DeserializeOwned>(value: Value) -> T {
    serde_json::from_value(value).expect("a valid object")
}

fn claim_with(change: impl FnOnce(&mut Value)) -> Arc<PersistentVolumeClaim> {
    let mut claim = json!({
        "metadata": { "name": "data", "namespace": "default", "uid": "c-1", "resourceVersion": "7" },
        "spec": {
            "accessModes": ["ReadWriteOnce"], "storageClassName": "manual", "volumeMode": "Filesystem",
            "resources": { "requests": { "storage": "1Gi" } },
        },
        "status": { "phase": "Pending" },
    });
    change(&mut claim);
    Arc::new(of(claim))
}

fn volume_with(name: &str, size: &str, change: impl FnOnce(&mut Value)) -> Arc<PersistentVolume> {
    let mut volume = json!({
        "metadata": { "name": name, "resourceVersion": "5", "finalizers": ["kubernetes.io/pv-protection"] },
        "spec": {
            "accessModes": ["ReadWriteOnce", "ReadOnlyMany"], "capacity": { "storage": size }, "storageClassName": "manual",
            "hostPath": { "path": "/x" }, "persistentVolumeReclaimPolicy": "Retain", "volumeMode": "Filesystem",
        },
        "status": { "phase": "Available" },
    });
    change(&mut volume);
    Arc::new(of(volume))
}

fn class(name: &str, provisioner: &str, delayed: bool) -> Arc<StorageClass> {
    let mode = if delayed { "WaitForFirstConsumer" } else { "Immediate" };
    Arc::new(of(json!({
        "metadata": { "name": name }, "provisioner": provisioner, "volumeBindingMode": mode, "reclaimPolicy": "Delete",
    })))
}

fn node(name: &str) -> Arc<Node> {
    Arc::new(of(json!({ "metadata": {
        "name": name, "labels": { "kubernetes.io/hostname": name },
        "annotations": { "setpoint.dev/volumes-dir": "/data/volumes" },
    } })))
}

#[derive(Default)]
struct World {
    volumes: Vec<Arc<PersistentVolume>>,
    classes: Vec<Arc<StorageClass>>,
    nodes: Vec<Arc<Node>>,
    waiting: Vec<String>,
}

impl World {
    fn decide(&self, claim: &Arc<PersistentVolumeClaim>) -> Vec<Action> {
        let scene = claim::Scene {
            volumes: &self.volumes,
            classes: &self.classes,
            nodes: &self.nodes,
            waiting: &self.waiting,
        };
        claim::decide(claim, &scene)
    }
}

/// An action as one line: whose, and what.
fn line(action: &Action) -> String {
    let whose = |object: &Object| match object {
        Object::Claim(claim) => format!("claim {}", claim.name_any()),
        Object::Volume(volume) => format!("volume {}", volume.name_any()),
    };
    match action {
        Action::Patch { object, patch } => format!("{}: {patch}", whose(object)),
        Action::Status { object, status } => format!("{} status: {status}", whose(object)),
        Action::CreateVolume(volume) => format!("create {}", volume.name_any()),
        Action::DeleteVolume(volume) => format!("delete {}", volume.name_any()),
        Action::Event { reason, message, .. } => format!("{reason}: {message}"),
    }
}

fn lines(actions: &[Action]) -> Vec<String> {
    actions.iter().map(line).collect()
}

#[test]
fn the_smallest_volume_that_suits_is_taken() {
    let anywhere = |claim: &PersistentVolumeClaim, volumes: &[Arc<PersistentVolume>]| {
        let found = matching::best(claim, volumes, Place::Anywhere, &|_| false);
        found.map(|volume| volume.name_any())
    };
    let volumes = [
        volume_with("big", "5Gi", |_| {}),
        volume_with("fits", "2Gi", |_| {}),
        volume_with("small", "500Mi", |_| {}),
        volume_with("other-class", "1Gi", |volume| {
            volume["spec"]["storageClassName"] = json!("fast")
        }),
        volume_with("block", "1Gi", |volume| volume["spec"]["volumeMode"] = json!("Block")),
        volume_with("taken", "1Gi", |volume| {
            volume["spec"]["claimRef"] = json!({ "namespace": "default", "name": "other" })
        }),
        volume_with("released", "1Gi", |volume| {
            volume["status"]["phase"] = json!("Released")
        }),
        volume_with("going", "1Gi", |volume| {
            volume["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z")
        }),
    ];
    assert_eq!(anywhere(&claim_with(|_| {}), &volumes).as_deref(), Some("fits"));
    let many = claim_with(|claim| claim["spec"]["accessModes"] = json!(["ReadWriteMany"]));
    assert_eq!(anywhere(&many, &volumes), None);
    let picky = claim_with(|claim| claim["spec"]["selector"] = json!({ "matchLabels": { "disk": "ssd" } }));
    assert_eq!(anywhere(&picky, &volumes), None);
    let labelled = volume_with("ssd", "9Gi", |volume| {
        volume["metadata"]["labels"] = json!({ "disk": "ssd" })
    });
    assert_eq!(anywhere(&picky, &[labelled]).as_deref(), Some("ssd"));
    let kept = volume_with("kept", "9Gi", |volume| {
        volume["spec"]["claimRef"] = json!({ "namespace": "default", "name": "data" });
        volume["spec"]["storageClassName"] = json!("another");
    });
    let all: Vec<_> = volumes.iter().cloned().chain([kept]).collect();
    assert_eq!(anywhere(&claim_with(|_| {}), &all).as_deref(), Some("kept"));
}

#[test]
fn a_claim_and_its_volume_are_bound_volume_first_and_nothing_is_done_twice() {
    let claim = claim_with(|_| {});
    let mut world = World {
        volumes: vec![volume_with("v", "2Gi", |_| {})],
        ..World::default()
    };
    let reference = json!({
        "kind": "PersistentVolumeClaim", "apiVersion": "v1", "namespace": "default", "name": "data", "uid": "c-1",
        "resourceVersion": "7",
    });
    assert_eq!(
        lines(&world.decide(&claim)),
        [
            format!(
                "volume v: {}",
                json!({ "spec": { "claimRef": reference }, "metadata": { "annotations": { "pv.kubernetes.io/bound-by-controller": "yes" } } })
            ),
            "volume v status: {\"message\":null,\"phase\":\"Bound\",\"reason\":null}".to_owned(),
            format!(
                "claim data: {}",
                json!({
                    "spec": { "volumeName": "v" },
                    "metadata": { "annotations": {
                        "pv.kubernetes.io/bound-by-controller": "yes", "pv.kubernetes.io/bind-completed": "yes",
                    } },
                })
            ),
            format!(
                "claim data status: {}",
                json!({ "phase": "Bound", "accessModes": ["ReadWriteOnce", "ReadOnlyMany"], "capacity": { "storage": "2Gi" } })
            ),
        ]
    );
    world.volumes = vec![volume_with("v", "2Gi", |volume| {
        volume["spec"]["claimRef"] = reference.clone();
        volume["status"]["phase"] = json!("Bound");
    })];
    let bound = claim_with(|claim| {
        claim["metadata"]["annotations"] = json!({ "pv.kubernetes.io/bind-completed": "yes" });
        claim["spec"]["volumeName"] = json!("v");
        claim["status"] = json!({
            "phase": "Bound", "accessModes": ["ReadWriteOnce", "ReadOnlyMany"], "capacity": { "storage": "2Gi" },
        });
    });
    assert_eq!(lines(&world.decide(&bound)), [""; 0]);
    world.volumes.clear();
    assert_eq!(
        lines(&world.decide(&bound)),
        [
            "claim data status: {\"accessModes\":null,\"capacity\":null,\"phase\":\"Lost\"}",
            "ClaimLost: Bound claim has lost its PersistentVolume. Data on the volume is lost!",
        ]
    );
}

#[test]
fn a_claim_that_names_a_volume_takes_it_or_waits_for_it() {
    let named = claim_with(|claim| claim["spec"]["volumeName"] = json!("v"));
    let with = |volume: Arc<PersistentVolume>| World {
        volumes: vec![volume],
        ..World::default()
    };
    assert_eq!(lines(&World::default().decide(&named)), [""; 0], "it waits");
    let small = with(volume_with("v", "1Mi", |_| {}));
    assert_eq!(
        lines(&small.decide(&named)),
        ["VolumeMismatch: Cannot bind to requested volume \"v\": requested PV is too small"]
    );
    let taken = with(volume_with("v", "1Gi", |volume| {
        volume["spec"]["claimRef"] = json!({ "namespace": "default", "name": "other", "uid": "x" });
    }));
    assert_eq!(
        lines(&taken.decide(&named)),
        ["FailedBinding: volume \"v\" already bound to a different claim."]
    );
    let free = with(volume_with("v", "1Gi", |_| {}));
    assert_eq!(free.decide(&named).len(), 4);
}

#[test]
fn a_claim_of_the_local_class_waits_for_its_pod_and_gets_a_folder_on_its_node() {
    let mut world = World {
        classes: vec![class("local", super::PROVISIONER, true)],
        nodes: vec![node("a"), node("b")],
        ..World::default()
    };
    let waits = claim_with(|claim| claim["spec"]["storageClassName"] = json!("local"));
    assert_eq!(
        lines(&world.decide(&waits)),
        ["WaitForFirstConsumer: waiting for first consumer to be created before binding"]
    );
    world.waiting = vec!["p".to_owned()];
    assert_eq!(
        lines(&world.decide(&waits)),
        ["WaitForPodScheduled: waiting for pod p to be scheduled"]
    );
    let chosen = claim_with(|claim| {
        claim["spec"]["storageClassName"] = json!("local");
        claim["metadata"]["annotations"] = json!({ "volume.kubernetes.io/selected-node": "b" });
    });
    let actions = world.decide(&chosen);
    let made = actions.iter().find_map(|action| match action {
        Action::CreateVolume(volume) => Some(volume),
        _ => None,
    });
    let made = made.expect("a volume is made");
    let spec = made.spec.as_ref().expect("a spec");
    assert_eq!(
        spec.local.as_ref().map(|local| local.path.as_str()),
        Some("/data/volumes/pvc-c-1")
    );
    assert_eq!(volume::host_of(made), Some("b"));
    assert_eq!(
        made.finalizers(),
        ["kubernetes.io/pv-protection", "setpoint.dev/local-volume"]
    );
    assert_eq!(spec.persistent_volume_reclaim_policy.as_deref(), Some("Delete"));
    // The next look finds the volume that is kept for the claim.
    world.volumes = vec![Arc::new((**made).clone())];
    assert!(lines(&world.decide(&chosen))[0].starts_with("volume pvc-c-1 status"));

    world.volumes.clear();
    world.nodes.clear();
    let lost = lines(&world.decide(&chosen));
    assert!(
        lost.contains(&"ProvisioningFailed: failed to get target node: node \"b\" not found".to_owned()),
        "{lost:?}"
    );
    assert!(
        lost.last().is_some_and(|line| line.contains("selected-node\":null")),
        "{lost:?}"
    );
}

#[test]
fn what_cannot_be_made_is_told() {
    let told = |classes: Vec<Arc<StorageClass>>, change: fn(&mut Value)| {
        let world = World {
            classes,
            nodes: vec![node("a")],
            ..World::default()
        };
        lines(&world.decide(&claim_with(change)))
            .last()
            .cloned()
            .unwrap_or_default()
    };
    assert_eq!(
        told(Vec::new(), |claim| claim["spec"]["storageClassName"] = json!("")),
        "FailedBinding: no persistent volumes available for this claim and no storage class is set"
    );
    assert_eq!(
        told(Vec::new(), |_| {}),
        "ProvisioningFailed: storageclass.storage.k8s.io \"manual\" not found"
    );
    assert_eq!(
        told(vec![class("manual", "kubernetes.io/no-provisioner", false)], |_| {}),
        "ProvisioningFailed: no volume plugin matched name: kubernetes.io/no-provisioner"
    );
    assert!(
        told(vec![class("manual", "example.com/disk", false)], |_| {})
            .starts_with("ExternalProvisioning: Waiting for a volume to be created either by the external provisioner 'example.com/disk'")
    );
    assert_eq!(
        told(vec![class("manual", super::PROVISIONER, false)], |claim| claim["spec"]
            ["volumeMode"] =
            json!("Block")),
        "ProvisioningFailed: failed to provision volume with StorageClass \"manual\": setpoint.dev/local does not support block \
         volume provisioning"
    );
}

#[test]
fn a_claim_without_a_class_gets_the_default_one_when_there_is_one() {
    let mut world = World::default();
    let claim = claim_with(|claim| claim["spec"]["storageClassName"] = Value::Null);
    assert!(lines(&world.decide(&claim))[0].starts_with("FailedBinding"));
    let mut default = (*class("local", super::PROVISIONER, true)).clone();
    default.metadata.annotations = Some(BTreeMap::from([(
        "storageclass.kubernetes.io/is-default-class".to_owned(),
        "true".to_owned(),
    )]));
    world.classes = vec![Arc::new(default)];
    assert_eq!(
        lines(&world.decide(&claim)),
        ["claim data: {\"spec\":{\"storageClassName\":\"local\"}}"]
    );
}

#[test]
fn a_bound_claim_that_asks_for_more_gets_it() {
    let claim = claim_with(|claim| {
        claim["metadata"]["annotations"] = json!({ "pv.kubernetes.io/bind-completed": "yes" });
        claim["spec"]["volumeName"] = json!("v");
        claim["spec"]["resources"]["requests"]["storage"] = json!("3Gi");
        claim["status"] =
            json!({ "phase": "Bound", "accessModes": ["ReadWriteOnce"], "capacity": { "storage": "1Gi" } });
    });
    let volume = |by: Value| {
        volume_with("v", "1Gi", |volume| {
            volume["metadata"]["annotations"] = json!({ "pv.kubernetes.io/provisioned-by": by });
            volume["spec"]["accessModes"] = json!(["ReadWriteOnce"]);
            volume["spec"]["claimRef"] = json!({ "namespace": "default", "name": "data", "uid": "c-1" });
            volume["status"]["phase"] = json!("Bound");
        })
    };
    let mut world = World {
        volumes: vec![volume(json!(super::PROVISIONER))],
        ..World::default()
    };
    assert_eq!(
        lines(&world.decide(&claim)),
        [
            "volume v: {\"spec\":{\"capacity\":{\"storage\":\"3Gi\"}}}",
            "claim data status: {\"allocatedResources\":{\"storage\":\"3Gi\"},\"capacity\":{\"storage\":\"3Gi\"}}",
            "VolumeResizeSuccessful: Resize volume succeeded",
        ]
    );
    world.volumes = vec![volume(json!("example.com/disk"))];
    assert_eq!(
        lines(&world.decide(&claim)),
        ["ExternalExpanding: waiting for an external controller to expand this PVC"]
    );
}

#[test]
fn a_volume_is_reclaimed_as_its_policy_says() {
    let here = |_: &str| true;
    let bound_to = |policy: &str, ours: bool| {
        volume_with("v", "1Gi", |volume| {
            volume["spec"]["claimRef"] = json!({ "namespace": "default", "name": "data", "uid": "c-1" });
            volume["spec"]["persistentVolumeReclaimPolicy"] = json!(policy);
            volume["status"]["phase"] = json!("Bound");
            if ours {
                volume["metadata"]["annotations"] = json!({ "pv.kubernetes.io/provisioned-by": super::PROVISIONER });
            }
        })
    };
    let released = "volume v status: {\"message\":null,\"phase\":\"Released\"}";
    assert_eq!(
        lines(&volume::decide(&bound_to("Retain", true), None, &here)),
        [released]
    );
    assert_eq!(
        lines(&volume::decide(&bound_to("Delete", true), None, &here)),
        [released, "delete v"]
    );
    let failed = lines(&volume::decide(&bound_to("Recycle", false), None, &here));
    assert_eq!(
        failed.last().map(String::as_str),
        Some("VolumeFailedRecycle: No recycler plugin found for the volume!")
    );
    let failed = lines(&volume::decide(&bound_to("Delete", false), None, &here));
    assert!(
        failed
            .last()
            .is_some_and(|line| line.starts_with("VolumeFailedDelete: error getting deleter")),
        "{failed:?}"
    );
    // A claim of the same name is another one.
    let other = claim_with(|claim| claim["metadata"]["uid"] = json!("c-2"));
    assert_eq!(
        lines(&volume::decide(&bound_to("Retain", true), Some(&other), &here)),
        [released]
    );
    let elsewhere = claim_with(|claim| claim["spec"]["volumeName"] = json!("w"));
    let lost = lines(&volume::decide(&bound_to("Retain", false), Some(&elsewhere), &here));
    assert_eq!(lost[0], "volume v: {\"spec\":{\"claimRef\":{\"uid\":null}}}");
}

#[test]
fn what_is_in_use_stays() {
    let pod = |change: fn(&mut Value)| -> Pod {
        let mut pod = json!({
            "metadata": { "name": "p", "namespace": "default", "uid": "p-1" },
            "spec": { "nodeName": "a", "containers": [], "volumes": [{ "name": "d", "persistentVolumeClaim": { "claimName": "data" } }] },
        });
        change(&mut pod);
        of(pod)
    };
    let claim = claim_with(|_| {});
    assert!(protection::uses(&pod(|_| {}), &claim));
    assert!(
        protection::uses(&pod(|pod| pod["status"] = json!({ "phase": "Succeeded" })), &claim),
        "until it is deleted"
    );
    assert!(!protection::uses(
        &pod(|pod| pod["spec"]["nodeName"] = json!("")),
        &claim
    ));
    assert_eq!(
        protection::of_claim(&claim, || false),
        Some(vec!["kubernetes.io/pvc-protection".to_owned()])
    );
    let going = claim_with(|claim| {
        claim["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        claim["metadata"]["finalizers"] = json!(["a/b", "kubernetes.io/pvc-protection"]);
    });
    assert_eq!(protection::of_claim(&going, || true), None);
    assert_eq!(protection::of_claim(&going, || false), Some(vec!["a/b".to_owned()]));
}

#[test]
fn an_ephemeral_volume_has_a_claim_of_the_pods_own() {
    let pod: Pod = of(json!({
        "metadata": { "name": "p", "namespace": "default", "uid": "p-1" },
        "spec": { "containers": [], "volumes": [{ "name": "scratch", "ephemeral": { "volumeClaimTemplate": {
            "metadata": { "labels": { "a": "b" } },
            "spec": { "accessModes": ["ReadWriteOnce"], "resources": { "requests": { "storage": "1Gi" } } },
        } } }] },
    }));
    let needs = ephemeral::decide(&pod, |_| None::<Arc<PersistentVolumeClaim>>);
    let made = &needs.claims[0];
    assert_eq!(
        (&made["metadata"]["name"], &made["metadata"]["labels"]["a"]),
        (&json!("p-scratch"), &json!("b"))
    );
    let own: PersistentVolumeClaim = of(made.clone());
    assert!(super::is_made_for(&own, &pod));
    assert_eq!(
        ephemeral::decide(&pod, |_| Some(Arc::new(own.clone()))),
        ephemeral::Needs::default()
    );
    let foreign = claim_with(|_| {});
    assert_eq!(
        ephemeral::decide(&pod, |_| Some(foreign.clone())).problems,
        ["ephemeral volume \"scratch\": PVC default/p-scratch was not created for pod default/p (pod is not owner)"]
    );
}

#[test]
fn a_pod_goes_where_its_volumes_are() {
    let pod: Pod = of(json!({
        "metadata": { "name": "p", "namespace": "default", "uid": "p-1" },
        "spec": { "containers": [], "volumes": [{ "name": "d", "persistentVolumeClaim": { "claimName": "data" } }] },
    }));
    let promises = Promises::default();
    let classes = [
        class("local", super::PROVISIONER, true),
        class("now", super::PROVISIONER, false),
    ];
    let there = |claim: Option<Arc<PersistentVolumeClaim>>, volumes: &[Arc<PersistentVolume>], at: &str| {
        let find = |_: &str, _: &str| claim.clone();
        let storage = Storage {
            claim: &find,
            volumes,
            classes: &classes,
            promises: &promises,
        };
        claims_for(&pod, &storage)
            .map_err(|why| vec![why])
            .and_then(|claims| claims.on(&node(at), &storage))
            .map(|bindings| lines(&bindings.actions))
    };
    let refused = |why: &str| Err(vec![why.to_owned()]);
    assert_eq!(
        there(None, &[], "a"),
        refused("persistentvolumeclaim \"data\" not found")
    );
    let now = claim_with(|claim| claim["spec"]["storageClassName"] = json!("now"));
    assert_eq!(
        there(Some(now), &[], "a"),
        refused("pod has unbound immediate PersistentVolumeClaims")
    );
    let delayed = claim_with(|claim| claim["spec"]["storageClassName"] = json!("local"));
    assert_eq!(
        there(Some(delayed), &[], "a"),
        Ok(vec![
            "claim data: {\"metadata\":{\"annotations\":{\"volume.kubernetes.io/selected-node\":\"a\"}}}".to_owned()
        ])
    );
    let chosen = claim_with(|claim| {
        claim["spec"]["storageClassName"] = json!("local");
        claim["metadata"]["annotations"] = json!({ "volume.kubernetes.io/selected-node": "b" });
    });
    assert_eq!(
        there(Some(chosen), &[], "a"),
        refused("node(s) didn't find available persistent volumes to bind")
    );
    let bound = claim_with(|claim| {
        claim["metadata"]["annotations"] = json!({ "pv.kubernetes.io/bind-completed": "yes" });
        claim["spec"]["volumeName"] = json!("v");
        claim["status"]["phase"] = json!("Bound");
    });
    let on_b = volume_with("v", "1Gi", |volume| {
        volume["spec"]["nodeAffinity"] = json!({ "required": { "nodeSelectorTerms": [{ "matchExpressions": [
            { "key": "kubernetes.io/hostname", "operator": "In", "values": ["b"] },
        ] }] } });
    });
    let volumes = [on_b];
    assert_eq!(
        there(Some(bound.clone()), &volumes, "a"),
        refused("node(s) didn't match PersistentVolume's node affinity")
    );
    assert_eq!(there(Some(bound), &volumes, "b"), Ok(Vec::new()));
}
