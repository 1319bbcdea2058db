//! The rules of one container.

use std::collections::HashSet;

use serde_json::Value;

use super::field::{FieldError, Path};
use super::{all_invalid, network, one_of, probe, security, volume};
use crate::meta::{at, int_at, list_at, str_at};
use crate::names;
use crate::quantity::Quantity;

/// What a container's rules need to know of its pod.
pub(super) struct Surroundings<'a> {
    /// The names of the pod's volumes.
    pub volumes: HashSet<&'a str>,
    /// Whether the pod uses the host's network.
    pub host_network: bool,
}

/// Checks one container; its name is checked for uniqueness by the caller.
pub(super) fn container(errors: &mut Vec<FieldError>, path: &Path, container: &Value, pod: &Surroundings<'_>) {
    let name = str_at(container, &["name"]);
    if name.is_empty() {
        errors.push(FieldError::required(path.child("name"), ""));
    } else {
        all_invalid(errors, &path.child("name"), name, names::dns_label(name));
    }
    let image = str_at(container, &["image"]);
    if image.is_empty() {
        errors.push(FieldError::required(path.child("image"), ""));
    } else if image.trim() != image {
        errors.push(FieldError::invalid(
            path.child("image"),
            image,
            "must not have leading or trailing whitespace",
        ));
    }
    let policy = str_at(container, &["imagePullPolicy"]);
    one_of(
        errors,
        &path.child("imagePullPolicy"),
        policy,
        &["Always", "IfNotPresent", "Never"],
        true,
    );
    let policy = str_at(container, &["terminationMessagePolicy"]);
    one_of(
        errors,
        &path.child("terminationMessagePolicy"),
        policy,
        &["FallbackToLogsOnError", "File"],
        true,
    );
    ports(errors, &path.child("ports"), container, pod);
    env(errors, path, container);
    volume::mounts(errors, path, container, &pod.volumes);
    resources(errors, &path.child("resources"), container);
    probe::container(errors, path, container);
    if let Some(context) = at(container, &["securityContext"]).filter(|context| context.is_object()) {
        security::container(errors, &path.child("securityContext"), context);
    }
}

fn ports(errors: &mut Vec<FieldError>, path: &Path, container: &Value, pod: &Surroundings<'_>) {
    let mut seen = HashSet::new();
    for (index, port) in list_at(container, &["ports"]).iter().enumerate() {
        let path = path.index(index);
        let name = str_at(port, &["name"]);
        if !name.is_empty() {
            all_invalid(errors, &path.child("name"), name, names::port_name(name));
            if !seen.insert(name) {
                errors.push(FieldError::duplicate(path.child("name"), name));
            }
        }
        let number = int_at(port, &["containerPort"]).unwrap_or(0);
        if number == 0 {
            errors.push(FieldError::required(path.child("containerPort"), ""));
        } else {
            network::port_number(errors, &path.child("containerPort"), number);
        }
        if let Some(host_port) = int_at(port, &["hostPort"]).filter(|number| *number != 0) {
            network::port_number(errors, &path.child("hostPort"), host_port);
            if pod.host_network && host_port != number {
                let detail = "must match `hostPort` when `hostNetwork` is true";
                errors.push(FieldError::invalid(path.child("containerPort"), number, detail));
            }
        }
        let protocol = str_at(port, &["protocol"]);
        one_of(errors, &path.child("protocol"), protocol, &["SCTP", "TCP", "UDP"], true);
    }
}

fn env(errors: &mut Vec<FieldError>, path: &Path, container: &Value) {
    for (index, variable) in list_at(container, &["env"]).iter().enumerate() {
        let path = path.child("env").index(index);
        let name = str_at(variable, &["name"]);
        if name.is_empty() {
            errors.push(FieldError::required(path.child("name"), ""));
        } else {
            all_invalid(errors, &path.child("name"), name, names::env_name(name));
        }
        let Some(from) = at(variable, &["valueFrom"]).filter(|from| from.is_object()) else {
            continue;
        };
        let path = path.child("valueFrom");
        let sources = [
            "fieldRef",
            "resourceFieldRef",
            "configMapKeyRef",
            "secretKeyRef",
            "fileKeyRef",
        ];
        let count = sources
            .iter()
            .filter(|key| at(from, &[key]).is_some_and(Value::is_object))
            .count();
        if count == 0 {
            let detail = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef` or `secretKeyRef`";
            errors.push(FieldError::invalid(&path, "", detail));
        }
        if !str_at(variable, &["value"]).is_empty() {
            errors.push(FieldError::invalid(
                &path,
                "",
                "may not be specified when `value` is not empty",
            ));
        } else if count > 1 {
            errors.push(FieldError::invalid(
                &path,
                "",
                "may not have more than one field specified at a time",
            ));
        }
        for key in ["configMapKeyRef", "secretKeyRef"] {
            let Some(reference) = at(from, &[key]).filter(|reference| reference.is_object()) else {
                continue;
            };
            for field in ["name", "key"] {
                if str_at(reference, &[field]).is_empty() {
                    errors.push(FieldError::required(path.child(key).child(field), ""));
                }
            }
        }
        if at(from, &["fieldRef"]).is_some_and(Value::is_object) {
            field_reference(
                errors,
                &path.child("fieldRef").child("fieldPath"),
                str_at(from, &["fieldRef", "fieldPath"]),
            );
        }
    }
    for (index, from) in list_at(container, &["envFrom"]).iter().enumerate() {
        let path = path.child("envFrom").index(index);
        let references = ["configMapRef", "secretRef"]
            .into_iter()
            .filter(|key| at(from, &[key]).is_some_and(Value::is_object));
        let references: Vec<&str> = references.collect();
        match references.as_slice() {
            [key] if str_at(from, &[key, "name"]).is_empty() => {
                errors.push(FieldError::required(path.child(key).child("name"), ""));
            }
            [_] => {}
            [] => errors.push(FieldError::invalid(
                &path,
                "",
                "must specify one of: `configMapRef` or `secretRef`",
            )),
            _ => errors.push(FieldError::invalid(
                &path,
                "",
                "may not have more than one field specified at a time",
            )),
        }
    }
}

fn field_reference(errors: &mut Vec<FieldError>, path: &Path, field: &str) {
    const FIELDS: &[&str] = &[
        "metadata.name",
        "metadata.namespace",
        "metadata.uid",
        "spec.nodeName",
        "spec.serviceAccountName",
        "status.hostIP",
        "status.hostIPs",
        "status.podIP",
        "status.podIPs",
    ];
    let subscript = ["metadata.labels['", "metadata.annotations['"]
        .iter()
        .any(|start| field.starts_with(start))
        && field.ends_with("']");
    if field.is_empty() {
        errors.push(FieldError::required(path, ""));
    } else if !subscript && !FIELDS.contains(&field) {
        errors.push(FieldError::not_supported(path, field, FIELDS));
    }
}

fn resources(errors: &mut Vec<FieldError>, path: &Path, container: &Value) {
    let amounts = |kind: &str| at(container, &["resources", kind]).and_then(Value::as_object);
    for kind in ["limits", "requests"] {
        for (name, amount) in amounts(kind).into_iter().flatten() {
            let path = path.child(kind).key(name);
            let standard =
                matches!(name.as_str(), "cpu" | "memory" | "ephemeral-storage") || name.starts_with("hugepages-");
            if !standard && !name.contains('/') {
                errors.push(FieldError::invalid(
                    &path,
                    name.as_str(),
                    "must be a standard resource for containers",
                ));
            }
            match Quantity::from_value(amount) {
                Ok(quantity) if quantity.is_negative() => {
                    errors.push(FieldError::invalid(
                        &path,
                        amount.clone(),
                        "must be greater than or equal to 0",
                    ));
                }
                Ok(quantity) if name != "cpu" && quantity.is_fractional() && name.contains('/') => {
                    errors.push(FieldError::invalid(&path, amount.clone(), "must be an integer"));
                }
                Ok(_) => {}
                Err(error) => errors.push(FieldError::invalid(&path, amount.clone(), error.to_string())),
            }
        }
    }
    for (name, request) in amounts("requests").into_iter().flatten() {
        let Some(limit) = amounts("limits").and_then(|limits| limits.get(name)) else {
            continue;
        };
        if let (Ok(wanted), Ok(most)) = (Quantity::from_value(request), Quantity::from_value(limit))
            && wanted > most
        {
            let path = path.child("requests");
            let detail = format!("must be less than or equal to {name} limit of {most}");
            errors.push(FieldError::invalid(path, request.clone(), detail));
        }
    }
}
