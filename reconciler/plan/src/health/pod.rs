//! Pods that stand for themselves.
//!
//! Whether a pod that does not start can get well at all is [`crate::pods`]' to say.

use serde_json::Value;
use setpoint_api::meta;

use super::conditions::{Condition, condition};
use super::{Health, brief};

pub(super) fn pod(object: &Value) -> Health {
    let message = || brief(meta::str_at(object, &["status", "message"]));
    match meta::str_at(object, &["status", "phase"]) {
        "Succeeded" => Health::healthy("it ended well"),
        "Failed" => {
            let why = match (message(), ended_badly(object)) {
                (message, _) if !message.is_empty() => message,
                (_, Some(ended)) => ended,
                _ => "it failed".to_owned(),
            };
            Health::degraded(why)
        }
        "Running" => {
            if condition(object, "Ready").is_some_and(|ready| ready.is_true()) {
                return Health::healthy("it is ready");
            }
            Health::progressing(waiting(object).unwrap_or_else(|| not_ready(object)))
        }
        _ => {
            if let Some(scheduled) = condition(object, "PodScheduled").filter(Condition::is_false) {
                return Health::progressing(format!("no node takes it: {}", scheduled.why("none fits")));
            }
            Health::progressing(waiting(object).unwrap_or_else(|| "it is being started".to_owned()))
        }
    }
}

fn containers(object: &Value) -> impl Iterator<Item = &Value> {
    ["initContainerStatuses", "containerStatuses"]
        .into_iter()
        .flat_map(move |key| meta::list_at(object, &["status", key]))
}

fn not_ready(object: &Value) -> String {
    let name = containers(object)
        .find(|container| container.get("ready") == Some(&Value::Bool(false)))
        .map(|container| meta::str_at(container, &["name"]));
    match name {
        Some(name) => format!("container {name} runs, but is not ready"),
        None => "it runs, but is not ready".to_owned(),
    }
}

/// What a container waits for, where that is more than being made.
fn waiting(object: &Value) -> Option<String> {
    containers(object).find_map(|container| {
        let waiting = meta::at(container, &["state", "waiting"])?;
        let (reason, message) = (meta::str_at(waiting, &["reason"]), meta::str_at(waiting, &["message"]));
        if matches!(reason, "" | "ContainerCreating" | "PodInitializing") && message.is_empty() {
            return None;
        }
        let name = meta::str_at(container, &["name"]);
        Some(brief(&format!("container {name} waits: {reason} {message}")))
    })
}

fn ended_badly(object: &Value) -> Option<String> {
    containers(object).find_map(|container| {
        let ended = meta::at(container, &["state", "terminated"])?;
        let code = meta::int_at(ended, &["exitCode"]).filter(|code| *code != 0)?;
        let name = meta::str_at(container, &["name"]);
        Some(format!("container {name} ended with exit code {code}"))
    })
}
