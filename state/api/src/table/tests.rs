//! Rows as kubectl prints them.

use serde_json::{Value, json};

use super::*;
use crate::Scheme;

fn now() -> Timestamp {
    "2024-01-10T00:00:00Z".parse().unwrap()
}

fn cells_of(group: &str, plural: &str, object: &Value) -> Vec<Value> {
    let resource = Scheme::builtin().get(group, "v1", plural).unwrap();
    let cells = row(&resource, object, IncludeObject::None, now())["cells"]
        .as_array()
        .unwrap()
        .clone();
    assert_eq!(cells.len(), resource.columns.len());
    cells
}

/// Returns STATUS, READY and RESTARTS of a pod.
fn pod_cells(pod: &Value) -> (String, String, String) {
    let cells = cells_of("", "pods", pod);
    let text = |index: usize| cells[index].as_str().unwrap().to_owned();
    (text(2), text(1), text(3))
}

fn pod_with(status: Value) -> Value {
    json!({"metadata": {"name": "p", "creationTimestamp": "2024-01-09T00:00:00Z"},
        "spec": {"containers": [{"name": "a", "image": "i"}]}, "status": status})
}

#[test]
fn a_row_has_a_cell_for_every_column_of_every_kind() {
    for resource in Scheme::builtin().resources() {
        let row = row(
            &resource,
            &json!({"metadata": {"name": "x"}}),
            IncludeObject::Metadata,
            now(),
        );
        assert_eq!(
            row["cells"].as_array().unwrap().len(),
            resource.columns.len(),
            "{}",
            resource.kind
        );
        assert_eq!(row["object"]["kind"], "PartialObjectMetadata");
    }
}

#[test]
fn a_pods_status_is_said_in_one_word() {
    let running = json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{"name": "a", "ready": true, "restartCount": 3, "state": {"running": {}},
            "lastState": {"terminated": {"finishedAt": "2024-01-09T23:55:00Z", "exitCode": 1}}}]});
    assert_eq!(
        pod_cells(&pod_with(running.clone())),
        ("Running".into(), "1/1".into(), "3 (5m ago)".into())
    );
    let mut deleted = pod_with(running);
    deleted["metadata"]["deletionTimestamp"] = "2024-01-10T00:00:00Z".into();
    assert_eq!(pod_cells(&deleted).0, "Terminating");
    for (status, expected) in [
        (json!({"phase": "Pending"}), "Pending"),
        (json!({"phase": "Failed", "reason": "Evicted"}), "Evicted"),
        (
            json!({"phase": "Running", "containerStatuses": [{"restartCount": 0, "state": {"waiting": {"reason": "CrashLoopBackOff"}}}]}),
            "CrashLoopBackOff",
        ),
        (
            json!({"phase": "Succeeded", "containerStatuses": [{"restartCount": 0, "state": {"terminated": {"exitCode": 0, "reason": "Completed"}}}]}),
            "Completed",
        ),
        (
            json!({"phase": "Failed", "containerStatuses": [{"restartCount": 0, "state": {"terminated": {"exitCode": 3}}}]}),
            "ExitCode:3",
        ),
        (
            json!({"phase": "Failed", "containerStatuses": [{"restartCount": 0, "state": {"terminated": {"exitCode": 137, "signal": 9}}}]}),
            "Signal:9",
        ),
        (
            json!({"phase": "Pending", "conditions": [{"type": "PodScheduled", "status": "False", "reason": "SchedulingGated"}]}),
            "SchedulingGated",
        ),
    ] {
        assert_eq!(pod_cells(&pod_with(status)).0, expected);
    }
}

#[test]
fn init_containers_are_counted_until_they_are_done() {
    let mut pod = pod_with(json!({"phase": "Pending", "initContainerStatuses": [
        {"name": "x", "restartCount": 0, "state": {"terminated": {"exitCode": 0}}},
        {"name": "y", "restartCount": 0, "state": {"running": {}}}],
        "containerStatuses": [{"name": "a", "restartCount": 0, "state": {"waiting": {"reason": "PodInitializing"}}}]}));
    pod["spec"]["initContainers"] = json!([{"name": "x"}, {"name": "y"}]);
    assert_eq!(pod_cells(&pod), ("Init:1/2".into(), "0/1".into(), "0".into()));
    pod["status"]["initContainerStatuses"][1]["state"] = json!({"waiting": {"reason": "CrashLoopBackOff"}});
    assert_eq!(pod_cells(&pod).0, "Init:CrashLoopBackOff");
    pod["status"]["initContainerStatuses"][1]["state"] = json!({"terminated": {"exitCode": 2}});
    assert_eq!(pod_cells(&pod).0, "Init:ExitCode:2");
}

#[test]
fn deployments_show_ready_of_wanted_and_wide_columns() {
    let deployment = json!({"metadata": {"name": "web", "creationTimestamp": "2024-01-09T23:59:00Z"},
        "spec": {"replicas": 3, "selector": {"matchLabels": {"app": "web"}},
            "template": {"spec": {"containers": [{"name": "a", "image": "i:1"}, {"name": "b", "image": "j"}]}}},
        "status": {"readyReplicas": 2, "updatedReplicas": 3, "availableReplicas": 1}});
    let cells = cells_of("apps", "deployments", &deployment);
    assert_eq!(
        Value::from(cells),
        json!(["web", "2/3", 3, 1, "60s", "a,b", "i:1,j", "app=web"])
    );
}

#[test]
fn services_show_addresses_and_ports() {
    let service = json!({"metadata": {"name": "s"}, "spec": {"type": "NodePort", "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1"],
        "selector": {"b": "2", "a": "1"}, "ports": [{"port": 80, "nodePort": 30001, "protocol": "TCP"}, {"port": 53, "protocol": "UDP"}]}});
    let cells = cells_of("", "services", &service);
    assert_eq!(
        Value::from(cells),
        json!([
            "s",
            "NodePort",
            "10.0.0.1",
            "<none>",
            "80:30001/TCP,53/UDP",
            "<unknown>",
            "a=1,b=2"
        ])
    );
}

#[test]
fn nodes_events_and_endpoints_read_as_on_kubernetes() {
    let node = json!({"metadata": {"name": "n", "labels": {"node-role.kubernetes.io/worker": "", "node-role.kubernetes.io/control-plane": ""}},
        "spec": {"unschedulable": true}, "status": {"conditions": [{"type": "Ready", "status": "False"}]}});
    let cells = cells_of("", "nodes", &node);
    assert_eq!(
        (&cells[1], &cells[2]),
        (&json!("NotReady,SchedulingDisabled"), &json!("control-plane,worker"))
    );
    let event = json!({"metadata": {"name": "e"}, "involvedObject": {"kind": "Pod", "name": "p"}, "type": "Normal", "reason": "Pulled",
        "message": "done\n", "firstTimestamp": "2024-01-09T23:00:00Z", "lastTimestamp": "2024-01-09T23:59:30Z", "count": 4, "source": {"component": "agent", "host": "n"}});
    let cells = Value::from(cells_of("", "events", &event));
    assert_eq!(
        cells,
        json!([
            "30s", "Normal", "Pulled", "pod/p", "", "agent, n", "done", "60m", 4, "e"
        ])
    );
    let addresses: Vec<Value> = (1..=5).map(|last| json!({"ip": format!("10.0.0.{last}")})).collect();
    let endpoints = json!({"metadata": {"name": "e"}, "subsets": [{"addresses": addresses, "ports": [{"port": 80}]}]});
    assert_eq!(
        cells_of("", "endpoints", &endpoints)[1],
        "10.0.0.1:80,10.0.0.2:80,10.0.0.3:80 + 2 more..."
    );
}

#[test]
fn a_table_has_columns_rows_and_the_lists_metadata() {
    let resource = Scheme::builtin().get("", "v1", "configmaps").unwrap();
    let object = json!({"metadata": {"name": "c"}, "data": {"a": "1"}, "binaryData": {"b": "MQ=="}});
    let table = table(
        &resource,
        [&object],
        json!({"resourceVersion": "7"}),
        IncludeObject::Object,
        true,
        now(),
    );
    assert_eq!(table["rows"][0]["cells"], json!(["c", 2, "<unknown>"]));
    assert_eq!(table["rows"][0]["object"], object);
    assert_eq!(table["columnDefinitions"][0]["format"], "name");
    assert_eq!(table["metadata"]["resourceVersion"], "7");
}

#[test]
fn durations_have_two_or_three_figures() {
    const DAY: i64 = 86400;
    for (seconds, expected) in [
        (-2, "<invalid>"),
        (-1, "0s"),
        (0, "0s"),
        (119, "119s"),
        (120, "2m"),
        (150, "2m30s"),
        (600, "10m"),
        (10799, "179m"),
        (10800, "3h"),
        (11700, "3h15m"),
        (8 * 3600, "8h"),
        (2 * DAY - 1, "47h"),
        (2 * DAY, "2d"),
        (2 * DAY + 3600, "2d1h"),
        (9 * DAY, "9d"),
        (400 * DAY, "400d"),
        (731 * DAY, "2y1d"),
        (730 * DAY, "2y"),
        (3650 * DAY, "10y"),
    ] {
        assert_eq!(human_duration(seconds), expected, "{seconds}");
    }
}

#[test]
fn jobs_say_how_far_they_are() {
    let job = |spec: Value, status: Value| json!({"metadata": {"name": "j"}, "spec": spec, "status": status});
    let cells = |job: &Value| Value::from(cells_of("batch", "jobs", job)[1..4].to_vec());
    let running = job(
        json!({"completions": 3}),
        json!({"succeeded": 1, "startTime": "2024-01-09T23:58:00Z"}),
    );
    assert_eq!(cells(&running), json!(["Running", "1/3", "2m"]));
    let done = json!({"succeeded": 1, "startTime": "2024-01-09T20:00:00Z", "completionTime": "2024-01-09T20:00:30Z",
        "conditions": [{"type": "Complete", "status": "True"}]});
    assert_eq!(
        cells(&job(json!({"parallelism": 4}), done)),
        json!(["Complete", "1/1 of 4", "30s"])
    );
    let suspended = json!({"conditions": [{"type": "Suspended", "status": "True"}]});
    assert_eq!(cells(&job(json!({}), suspended)), json!(["Suspended", "0/1", ""]));
    let cron = json!({"metadata": {"name": "c"}, "spec": {"schedule": "@daily", "suspend": false, "jobTemplate": {}}, "status": {"active": [{}]}});
    assert_eq!(
        Value::from(cells_of("batch", "cronjobs", &cron)),
        json!([
            "c",
            "@daily",
            "<none>",
            "False",
            1,
            "<none>",
            "<unknown>",
            "",
            "",
            "<none>"
        ])
    );
}

#[test]
fn the_other_kinds_read_as_on_kubernetes() {
    let cases = [
        (
            "apps",
            "statefulsets",
            json!({"spec": {"replicas": 3}, "status": {"readyReplicas": 1}}),
            json!(["x", "1/3", "<unknown>", "", ""]),
        ),
        (
            "apps",
            "daemonsets",
            json!({"status": {"desiredNumberScheduled": 2}, "spec": {"template": {"spec": {"nodeSelector": {"a": "b"}}}}}),
            json!(["x", 2, 0, 0, 0, 0, "a=b", "<unknown>", "", "", "<none>"]),
        ),
        (
            "networking.k8s.io",
            "ingresses",
            json!({"spec": {"ingressClassName": "n", "tls": [{}], "rules": [{"host": "a"}, {"host": "b"}, {"host": "c"}, {"host": "d"}]},
            "status": {"loadBalancer": {"ingress": [{"hostname": "h"}, {"ip": "1.2.3.4"}]}}}),
            json!(["x", "n", "a,b,c + 1 more...", "1.2.3.4,h", "80, 443", "<unknown>"]),
        ),
        (
            "networking.k8s.io",
            "ingresses",
            json!({"spec": {"rules": [{}]}}),
            json!(["x", "<none>", "*", "", "80", "<unknown>"]),
        ),
        (
            "networking.k8s.io",
            "ingressclasses",
            json!({"spec": {"controller": "a/b", "parameters": {"apiGroup": "g", "kind": "K", "name": "n"}}}),
            json!(["x", "a/b", "K.g/n", "<unknown>"]),
        ),
        (
            "networking.k8s.io",
            "networkpolicies",
            json!({"spec": {"podSelector": {}}}),
            json!(["x", "<none>", "<unknown>"]),
        ),
        (
            "networking.k8s.io",
            "ipaddresses",
            json!({"spec": {"parentRef": {"resource": "services", "namespace": "d", "name": "s"}}}),
            json!(["x", "services/d/s"]),
        ),
        (
            "scheduling.k8s.io",
            "priorityclasses",
            json!({"value": 5, "preemptionPolicy": "Never"}),
            json!(["x", 5, false, "<unknown>", "Never"]),
        ),
        (
            "node.k8s.io",
            "runtimeclasses",
            json!({"handler": "runc"}),
            json!(["x", "runc", "<unknown>"]),
        ),
        (
            "certificates.k8s.io",
            "certificatesigningrequests",
            json!({"spec": {"signerName": "a.b/c", "username": "u", "expirationSeconds": 3600},
            "status": {"conditions": [{"type": "Approved"}], "certificate": "x"}}),
            json!(["x", "<unknown>", "a.b/c", "u", "60m", "Approved,Issued"]),
        ),
        (
            "admissionregistration.k8s.io",
            "validatingwebhookconfigurations",
            json!({"webhooks": [{}, {}]}),
            json!(["x", 2, "<unknown>"]),
        ),
        (
            "admissionregistration.k8s.io",
            "validatingadmissionpolicies",
            json!({"spec": {"validations": [{}], "paramKind": {"apiVersion": "v1", "kind": "ConfigMap"}}}),
            json!(["x", 1, "v1/ConfigMap", "<unknown>"]),
        ),
        (
            "admissionregistration.k8s.io",
            "validatingadmissionpolicybindings",
            json!({"spec": {"policyName": "p", "paramRef": {"name": "n"}}}),
            json!(["x", "p", "*/n", "<unknown>"]),
        ),
        (
            "apiregistration.k8s.io",
            "apiservices",
            json!({"spec": {"service": {"namespace": "d", "name": "s"}}, "status": {"conditions": [{"type": "Available", "status": "False", "reason": "R"}]}}),
            json!(["x", "d/s", "False (R)", "<unknown>"]),
        ),
    ];
    for (group, plural, mut object, expected) in cases {
        object["metadata"] = json!({"name": "x"});
        assert_eq!(Value::from(cells_of(group, plural, &object)), expected, "{plural}");
    }
    let revision = json!({"metadata": {"name": "x", "ownerReferences": [{"apiVersion": "apps/v1", "kind": "StatefulSet", "name": "w", "controller": true}]}, "revision": 4});
    assert_eq!(
        Value::from(cells_of("apps", "controllerrevisions", &revision)),
        json!(["x", "statefulset.apps/w", 4, "<unknown>"])
    );
}
