//! The row of a pod: its status in one word, and its restarts.

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{Column, Row, age, columns, or_none, since};
use crate::Resource;
use crate::meta::{self, at, int_at, list_at, str_at};

/// Returns the columns and the row of pods.
pub(crate) fn pod() -> (Vec<Column>, Row) {
    let text = "Name|string|0|Name must be unique within a namespace.
Ready|string|0|The aggregate readiness state of this pod for accepting traffic.
Status|string|0|The aggregate status of the containers in this pod.
Restarts|string|0|The number of times the containers in this pod have been restarted and when the last container in this pod has restarted.
Age|string|0|How long ago the object was created.
IP|string|1|The address of the pod.
Node|string|1|The node that the pod runs on.
Nominated Node|string|1|The node that room is being made on.
Readiness Gates|string|1|The further conditions that the pod has to meet to be ready.";
    (columns(text), Row::Builtin(row))
}

/// Returns the conditions of a row: that the pod has come to its end.
pub(super) fn row_conditions(resource: &Resource, object: &Value) -> Option<Value> {
    if resource.kind != "Pod" || !resource.group.is_empty() {
        return None;
    }
    let (reason, message) = match str_at(object, &["status", "phase"]) {
        "Succeeded" => ("Succeeded", "The pod has completed successfully."),
        "Failed" => ("Failed", "The pod failed."),
        _ => return None,
    };
    Some(json!([{"type": "Completed", "status": "True", "reason": reason, "message": message}]))
}

fn row(pod: &Value, now: Timestamp) -> Vec<Value> {
    let summary = Summary::of(pod);
    let mut restarts = summary.restarts.to_string();
    if summary.restarts != 0 && summary.last_restart.is_some() {
        restarts = format!("{restarts} ({} ago)", since(summary.last_restart, now));
    }
    let address = list_at(pod, &["status", "podIPs"])
        .first()
        .map_or("", |ip| str_at(ip, &["ip"]));
    let address = if address.is_empty() {
        str_at(pod, &["status", "podIP"])
    } else {
        address
    };
    vec![
        meta::name(pod).into(),
        format!("{}/{}", summary.ready, summary.total).into(),
        summary.reason.into(),
        restarts.into(),
        age(pod, now),
        or_none(address),
        or_none(str_at(pod, &["spec", "nodeName"])),
        or_none(str_at(pod, &["status", "nominatedNodeName"])),
        readiness_gates(pod),
    ]
}

fn condition<'a>(pod: &'a Value, ty: &str) -> Option<&'a Value> {
    list_at(pod, &["status", "conditions"])
        .iter()
        .find(|condition| str_at(condition, &["type"]) == ty)
}

fn is_true(pod: &Value, ty: &str) -> bool {
    condition(pod, ty).is_some_and(|condition| str_at(condition, &["status"]) == "True")
}

fn readiness_gates(pod: &Value) -> Value {
    let gates = list_at(pod, &["spec", "readinessGates"]);
    if gates.is_empty() {
        return "<none>".into();
    }
    let met = gates
        .iter()
        .filter(|gate| is_true(pod, str_at(gate, &["conditionType"])))
        .count();
    format!("{met}/{}", gates.len()).into()
}

#[derive(Default)]
struct Summary {
    reason: String,
    ready: usize,
    total: usize,
    restarts: i64,
    last_restart: Option<Timestamp>,
}

/// Counts restarts and when the last of them was.
#[derive(Clone, Copy, Default)]
struct Restarts {
    count: i64,
    last: Option<Timestamp>,
}

impl Restarts {
    fn add(&mut self, status: &Value) {
        self.count += int_at(status, &["restartCount"]).unwrap_or(0);
        self.last = self.last.max(meta::parse_time(str_at(
            status,
            &["lastState", "terminated", "finishedAt"],
        )));
    }
}

/// Says how a container ended when nobody gave it a reason.
fn ended(terminated: &Value) -> String {
    match int_at(terminated, &["signal"]) {
        Some(signal) if signal != 0 => format!("Signal:{signal}"),
        _ => format!("ExitCode:{}", int_at(terminated, &["exitCode"]).unwrap_or(0)),
    }
}

impl Summary {
    fn of(pod: &Value) -> Summary {
        let status_reason = str_at(pod, &["status", "reason"]);
        let phase = str_at(pod, &["status", "phase"]);
        let init = list_at(pod, &["spec", "initContainers"]);
        let is_sidecar = |name: &str| {
            init.iter().any(|container| {
                str_at(container, &["name"]) == name && str_at(container, &["restartPolicy"]) == "Always"
            })
        };
        let mut summary = Summary {
            reason: if status_reason.is_empty() { phase } else { status_reason }.to_owned(),
            total: list_at(pod, &["spec", "containers"]).len()
                + init
                    .iter()
                    .filter(|container| str_at(container, &["restartPolicy"]) == "Always")
                    .count(),
            ..Summary::default()
        };
        if condition(pod, "PodScheduled").is_some_and(|c| str_at(c, &["reason"]) == "SchedulingGated") {
            summary.reason = "SchedulingGated".into();
        }

        let (mut all, mut sidecars, mut initializing) = (Restarts::default(), Restarts::default(), false);
        for (index, status) in list_at(pod, &["status", "initContainerStatuses"]).iter().enumerate() {
            all.add(status);
            let sidecar = is_sidecar(str_at(status, &["name"]));
            if sidecar {
                sidecars.add(status);
            }
            let terminated = at(status, &["state", "terminated"]);
            let waiting = str_at(status, &["state", "waiting", "reason"]);
            summary.reason = match terminated {
                Some(terminated) if int_at(terminated, &["exitCode"]).unwrap_or(0) == 0 => continue,
                _ if sidecar && at(status, &["started"]) == Some(&Value::Bool(true)) => {
                    summary.ready += usize::from(at(status, &["ready"]) == Some(&Value::Bool(true)));
                    continue;
                }
                Some(terminated) => match str_at(terminated, &["reason"]) {
                    "" => format!("Init:{}", ended(terminated)),
                    reason => format!("Init:{reason}"),
                },
                None if !waiting.is_empty() && waiting != "PodInitializing" => format!("Init:{waiting}"),
                None => format!("Init:{index}/{}", init.len()),
            };
            initializing = true;
            break;
        }

        if !initializing || is_true(pod, "Initialized") {
            all = sidecars;
            let mut running = false;
            for status in list_at(pod, &["status", "containerStatuses"]).iter().rev() {
                all.add(status);
                let waiting = str_at(status, &["state", "waiting", "reason"]);
                if !waiting.is_empty() {
                    summary.reason = waiting.to_owned();
                } else if let Some(terminated) = at(status, &["state", "terminated"]) {
                    summary.reason = match str_at(terminated, &["reason"]) {
                        "" => ended(terminated),
                        reason => reason.to_owned(),
                    };
                } else if at(status, &["ready"]) == Some(&Value::Bool(true))
                    && at(status, &["state", "running"]).is_some()
                {
                    running = true;
                    summary.ready += 1;
                }
            }
            if summary.reason == "Completed" && running {
                summary.reason = if is_true(pod, "Ready") { "Running" } else { "NotReady" }.into();
            }
        }
        if meta::is_being_deleted(pod) {
            if status_reason == "NodeLost" {
                summary.reason = "Unknown".into();
            } else if !matches!(phase, "Succeeded" | "Failed") {
                summary.reason = "Terminating".into();
            }
        }
        (summary.restarts, summary.last_restart) = (all.count, all.last);
        summary
    }
}
