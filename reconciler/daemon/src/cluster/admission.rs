//! Pods may only ask for what this node's agent honours: what it refuses is refused at the API, what it cannot do fully is warned about.

use serde_json::Value;
use setpoint_agent::pod_fields;
use setpoint_api::Status;
use setpoint_server::{Admission, AdmissionRequest, Operation};

/// Checks pods, and the pod templates of workloads, against the agent's table of fields.
pub struct PodFields;

impl Admission for PodFields {
    fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        object: &Value,
        warnings: &mut Vec<String>,
    ) -> Result<(), Status> {
        // Of the paths below a pod this one alone adds containers to it.
        let elsewhere = request.subresource.is_some_and(|name| name != "ephemeralcontainers");
        if elsewhere || request.operation == Operation::Delete {
            return Ok(());
        }
        let resource = request.resource;
        let (prefix, spec) = match (resource.group.as_str(), resource.kind.as_str()) {
            ("", "Pod") => ("", object.pointer("/spec")),
            _ => ("spec.template.", object.pointer("/spec/template/spec")),
        };
        // Only what has containers is a pod's spec; a custom resource may have a template of something else.
        let Some(spec) = spec.filter(|spec| spec.get("containers").is_some_and(Value::is_array)) else {
            return Ok(());
        };
        let checked = pod_fields::check(spec);
        warnings.extend(checked.warnings);
        if checked.refused.is_empty() {
            return Ok(());
        }
        let name = object
            .pointer("/metadata/name")
            .and_then(Value::as_str)
            .unwrap_or_default();
        let list: Vec<String> = checked
            .refused
            .iter()
            .map(|(path, why)| format!("{prefix}{path}: {why}"))
            .collect();
        Err(Status::forbidden(
            &resource.group,
            &resource.plural,
            name,
            &list.join("; "),
        ))
    }
}
