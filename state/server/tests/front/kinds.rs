//! Real kubectl on the kinds of core, autoscaling, events, policy and storage.

use std::path::Path;

use crate::cluster::{Cluster, kubectl, kubectls};

const MANIFESTS: &str = r"
apiVersion: autoscaling/v1
kind: HorizontalPodAutoscaler
metadata: {name: old}
spec: {maxReplicas: 3, targetCPUUtilizationPercentage: 60, scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}}
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: new}
spec:
  maxReplicas: 3
  scaleTargetRef: {apiVersion: apps/v1, kind: Deployment, name: web}
  metrics:
  - {type: Pods, pods: {metric: {name: queue}, target: {type: AverageValue, averageValue: 10}}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata: {name: web}
spec: {minAvailable: 50%, selector: {matchLabels: {app: web}}}
---
apiVersion: v1
kind: ResourceQuota
metadata: {name: q}
spec: {hard: {pods: 10, limits.cpu: 2}}
---
apiVersion: v1
kind: LimitRange
metadata: {name: l}
spec: {limits: [{type: Container, max: {cpu: 2}, min: {cpu: 100m}}]}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: c}
spec: {accessModes: [ReadWriteOnce, ReadOnlyMany], storageClassName: fast, resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: PersistentVolume
metadata: {name: v}
spec: {accessModes: [ReadWriteOnce], capacity: {storage: 1Gi}, storageClassName: fast, hostPath: {path: /data}}
---
apiVersion: v1
kind: ReplicationController
metadata: {name: rc}
spec: {replicas: 0, template: {metadata: {labels: {app: rc}}, spec: {containers: [{name: a, image: i}]}}}
---
apiVersion: v1
kind: PodTemplate
metadata: {name: t}
template: {metadata: {labels: {app: t}}, spec: {containers: [{name: a, image: i}]}}
---
apiVersion: storage.k8s.io/v1
kind: StorageClass
metadata: {name: fast, annotations: {storageclass.kubernetes.io/is-default-class: 'true'}}
provisioner: example.com/disk
---
apiVersion: storage.k8s.io/v1
kind: CSIDriver
metadata: {name: csi.example.com}
---
apiVersion: storage.k8s.io/v1
kind: CSINode
metadata: {name: box}
spec: {drivers: [{name: csi.example.com, nodeID: one}]}
---
apiVersion: storage.k8s.io/v1
kind: CSIStorageCapacity
metadata: {name: cap}
storageClassName: fast
capacity: 1Gi
---
apiVersion: storage.k8s.io/v1
kind: VolumeAttachment
metadata: {name: a}
spec: {attacher: csi.example.com, nodeName: box, source: {persistentVolumeName: v}}
---
apiVersion: storage.k8s.io/v1
kind: VolumeAttributesClass
metadata: {name: silver}
driverName: csi.example.com
parameters: {iops: '100'}
---
apiVersion: events.k8s.io/v1
kind: Event
metadata: {name: e, namespace: default}
regarding: {apiVersion: v1, kind: Pod, name: p, namespace: default}
eventTime: '2024-01-01T00:00:00.000000Z'
reportingController: example.com/agent
reportingInstance: one
action: Start
reason: Started
note: it runs
type: Normal
";

/// Runs a kubectl that has to succeed, and gives back what it printed.
async fn good(program: &Path, config: &Path, command: &str, stdin: &str) -> String {
    let args: Vec<&str> = command.split(' ').collect();
    let (ok, out, err) = kubectl(program, config, &args, stdin).await;
    assert!(ok, "kubectl {command}: {err}");
    out
}

/// A table without the ages, its columns one space apart.
fn squeezed(table: &str) -> Vec<String> {
    table
        .lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" "))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn kubectl_applies_shows_explains_and_deletes_every_kind() {
    for program in kubectls() {
        let cluster = Cluster::start().await;
        let config = cluster.kubeconfig("admin", &["system:masters"]);
        let run = async |command: &str, stdin: &str| good(&program, &config, command, stdin).await;
        run("apply --server-side -f -", MANIFESTS).await;
        let again = run("apply --server-side -f -", MANIFESTS).await;
        assert!(
            again.lines().all(|line| line.ends_with("serverside-applied")),
            "{again}"
        );
        for (command, expected) in [
            (
                "get hpa",
                &[
                    "NAME REFERENCE TARGETS MINPODS MAXPODS REPLICAS AGE",
                    "new Deployment/web <unknown>/10 1 3 0",
                    "old Deployment/web cpu: <unknown>/60% 1 3 0",
                ][..],
            ),
            (
                "get pdb",
                &[
                    "NAME MIN AVAILABLE MAX UNAVAILABLE ALLOWED DISRUPTIONS AGE",
                    "web 50% N/A 0",
                ],
            ),
            ("get quota", &["NAME REQUEST LIMIT AGE", "q"]),
            (
                "get pvc -o wide",
                &[
                    "NAME STATUS VOLUME CAPACITY ACCESS MODES STORAGECLASS VOLUMEATTRIBUTESCLASS AGE VOLUMEMODE",
                    "c Pending fast <unset>",
                ],
            ),
            (
                "get pv -o wide",
                &[
                    "NAME CAPACITY ACCESS MODES RECLAIM POLICY STATUS CLAIM STORAGECLASS VOLUMEATTRIBUTESCLASS REASON AGE VOLUMEMODE",
                    "v 1Gi RWO Retain Pending fast <unset>",
                ],
            ),
            (
                "get rc -o wide",
                &["NAME DESIRED CURRENT READY AGE CONTAINERS IMAGES SELECTOR", "rc 0 0 0"],
            ),
            (
                "get podtemplates",
                &["NAME CONTAINERS IMAGES POD LABELS", "t a i app=t"],
            ),
            (
                "get sc",
                &[
                    "NAME PROVISIONER RECLAIMPOLICY VOLUMEBINDINGMODE ALLOWVOLUMEEXPANSION AGE",
                    "fast (default) example.com/disk Delete Immediate false",
                    "local (default) setpoint.dev/local Delete WaitForFirstConsumer true",
                ],
            ),
            (
                "get csidrivers",
                &[
                    "NAME ATTACHREQUIRED PODINFOONMOUNT STORAGECAPACITY TOKENREQUESTS REQUIRESREPUBLISH MODES AGE",
                    "csi.example.com true false false <unset> false Persistent",
                ],
            ),
            ("get csinodes", &["NAME DRIVERS AGE", "box 1"]),
            (
                "get csistoragecapacities",
                &["NAME STORAGECLASSNAME CAPACITY", "cap fast 1Gi"],
            ),
            (
                "get volumeattachments",
                &["NAME ATTACHER PV NODE ATTACHED AGE", "a csi.example.com v box false"],
            ),
            ("get vac", &["NAME DRIVERNAME AGE", "silver csi.example.com"]),
            ("get limits", &["NAME CREATED AT", "l "]),
        ] {
            let lines = squeezed(&run(command, "").await);
            assert_eq!(lines.len(), expected.len(), "{command}: {lines:?}");
            for (line, expected) in lines.iter().zip(expected) {
                assert!(line.starts_with(expected), "{command}: {line:?} is not {expected:?}");
            }
        }
        for command in ["get events", "events", "get events.events.k8s.io", "events --for pod/p"] {
            let out = run(command, "").await;
            assert!(out.contains("Started") && out.contains("it runs"), "{command}: {out}");
        }
        for kind in [
            "hpa",
            "pdb",
            "quota",
            "limits",
            "pvc",
            "pv",
            "rc",
            "podtemplates",
            "sc",
            "csinodes",
            "events",
        ] {
            run(&format!("describe {kind}"), "").await;
        }
        for (path, word) in [
            ("hpa.spec.behavior", "scaleUp"),
            ("pdb.spec", "minAvailable"),
            ("pvc.spec.resources", "requests"),
            ("storageclass", "provisioner"),
            ("events --api-version=events.k8s.io/v1", "regarding"),
            (
                "hpa.spec --api-version=autoscaling/v1",
                "targetCPUUtilizationPercentage",
            ),
        ] {
            let out = run(&format!("explain {path}"), "").await;
            assert!(out.contains(word), "{path}: {out}");
        }
        run("create deployment web --image=i --replicas=0", "").await;
        run("autoscale deployment web --min=1 --max=4 --cpu-percent=70", "").await;
        let seen = run(
            "get horizontalpodautoscalers.v1.autoscaling web -o jsonpath={.spec.targetCPUUtilizationPercentage}",
            "",
        )
        .await;
        assert_eq!(seen, "70");
        run("create quota more --hard=pods=1", "").await;
        run(
            "create poddisruptionbudget pairs --selector=app=a --min-available=1",
            "",
        )
        .await;
        run("scale rc rc --replicas=2", "").await;
        run("patch hpa new --type=merge -p {\"spec\":{\"maxReplicas\":9}}", "").await;
        run("run p --image=i", "").await;
        let debug = [
            "debug",
            "p",
            "--image=i",
            "--profile=general",
            "-c",
            "debugger",
            "--attach=false",
        ];
        let (ok, _, err) = kubectl(&program, &config, &debug, "").await;
        assert!(ok, "{err}");
        let containers = run("get pod p -o jsonpath={.spec.ephemeralContainers[*].name}", "").await;
        assert_eq!(containers, "debugger");
        run("delete -f - --wait=false", MANIFESTS).await;
        // No controller runs here that would let go of what was protected.
        for protected in ["pvc c", "pv v"] {
            let let_go = format!("patch {protected} --type=merge -p {{\"metadata\":{{\"finalizers\":null}}}}");
            run(&let_go, "").await;
        }
        // What was made beside the manifests, and the class of every cluster.
        assert_eq!(run("get hpa,pdb,pvc,pv,rc,sc -o name", "").await.lines().count(), 3);
        cluster.stop().await;
    }
}
