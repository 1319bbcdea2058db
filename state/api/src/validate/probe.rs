//! The rules of probes and lifecycle handlers.

use serde_json::Value;

use super::field::{FieldError, Path};
use super::{network, non_negative, one_of};
use crate::meta::{at, int_at, list_at, str_at};

/// Checks the probes and the lifecycle of a container.
pub(super) fn container(errors: &mut Vec<FieldError>, path: &Path, container: &Value) {
    for key in ["livenessProbe", "readinessProbe", "startupProbe"] {
        if let Some(found) = at(container, &[key]).filter(|probe| probe.is_object()) {
            probe(errors, &path.child(key), key, found);
        }
    }
    for key in ["postStart", "preStop"] {
        let found = at(container, &["lifecycle", key]).filter(|handler| handler.is_object());
        if let Some(found) = found {
            handler(
                errors,
                &path.child("lifecycle").child(key),
                found,
                &["exec", "httpGet", "tcpSocket", "sleep"],
            );
        }
    }
}

fn probe(errors: &mut Vec<FieldError>, path: &Path, key: &str, probe: &Value) {
    handler(errors, path, probe, &["exec", "httpGet", "tcpSocket", "grpc"]);
    let counts = [
        "initialDelaySeconds",
        "timeoutSeconds",
        "periodSeconds",
        "successThreshold",
        "failureThreshold",
    ];
    for count in counts {
        non_negative(errors, &path.child(count), at(probe, &[count]));
    }
    let successes = int_at(probe, &["successThreshold"]).unwrap_or(1);
    if key != "readinessProbe" && successes != 1 {
        errors.push(FieldError::invalid(
            path.child("successThreshold"),
            successes,
            "must be 1",
        ));
    }
    if let Some(grace) = int_at(probe, &["terminationGracePeriodSeconds"]) {
        let path = path.child("terminationGracePeriodSeconds");
        if key == "readinessProbe" {
            errors.push(FieldError::invalid(path, grace, "must not be set for readinessProbes"));
        } else if grace <= 0 {
            errors.push(FieldError::invalid(path, grace, "must be greater than 0"));
        }
    }
}

fn handler(errors: &mut Vec<FieldError>, path: &Path, handler: &Value, kinds: &[&str]) {
    let mut count = 0;
    for kind in kinds {
        let Some(action) = at(handler, &[kind]).filter(|action| action.is_object()) else {
            continue;
        };
        count += 1;
        let path = path.child(kind);
        if count > 1 {
            errors.push(FieldError::forbidden(&path, "may not specify more than 1 handler type"));
            continue;
        }
        match *kind {
            "exec" if list_at(action, &["command"]).is_empty() => {
                errors.push(FieldError::required(path.child("command"), ""));
            }
            "httpGet" => {
                if str_at(action, &["path"]).is_empty() {
                    errors.push(FieldError::required(path.child("path"), ""));
                }
                port(errors, &path.child("port"), at(action, &["port"]));
                one_of(
                    errors,
                    &path.child("scheme"),
                    str_at(action, &["scheme"]),
                    &["HTTP", "HTTPS"],
                    true,
                );
                for (index, header) in list_at(action, &["httpHeaders"]).iter().enumerate() {
                    let name = str_at(header, &["name"]);
                    let valid =
                        !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
                    if !valid {
                        let detail = "a valid HTTP header must consist of alphanumeric characters or '-' (e.g. 'X-Header-Name', regex used for validation is '[-A-Za-z0-9]+')";
                        let path = path.child("httpHeaders").index(index).child("name");
                        errors.push(FieldError::invalid(path, name, detail));
                    }
                }
            }
            "tcpSocket" | "grpc" => port(errors, &path.child("port"), at(action, &["port"])),
            "sleep" => non_negative(errors, &path.child("seconds"), at(action, &["seconds"])),
            _ => {}
        }
    }
    if count == 0 {
        errors.push(FieldError::required(path, "must specify a handler type"));
    }
}

fn port(errors: &mut Vec<FieldError>, path: &Path, port: Option<&Value>) {
    network::target_port(errors, path, port.unwrap_or(&Value::from(0)));
}
