//! The rules of APIServices.

use serde_json::Value;

use super::field::{FieldError, Path};
use super::{all_invalid, given};
use crate::meta::{self, at, int_at, list_at, str_at};
use crate::names;

/// Returns what is wrong with a new APIService.
pub fn create(object: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let path = Path::new("spec");
    let (group, version) = (str_at(object, &["spec", "group"]), str_at(object, &["spec", "version"]));
    let (name, wanted) = (meta::name(object), format!("{version}.{group}"));
    if name != wanted {
        let detail = format!("must be `spec.version+\".\"+spec.group`: \"{wanted}\"");
        errors.push(FieldError::invalid("metadata.name", name, detail));
    }
    if group.is_empty() && version != "v1" {
        let detail = "only v1 may have an empty group and it better be legacy kube";
        errors.push(FieldError::required(path.child("group"), detail));
    }
    if !group.is_empty() {
        all_invalid(&mut errors, &path.child("group"), group, names::dns_subdomain(group));
    }
    all_invalid(
        &mut errors,
        &path.child("version"),
        version,
        names::dns1035_label(version),
    );
    for (key, most) in [("groupPriorityMinimum", 20_000), ("versionPriority", 1000)] {
        let priority = int_at(object, &["spec", key]).unwrap_or(0);
        if !(1..=most).contains(&priority) {
            let detail = format!("must be positive and less than {most}");
            errors.push(FieldError::invalid(path.child(key), priority, detail));
        }
    }
    service(&mut errors, &path, at(object, &["spec"]).unwrap_or(&Value::Null));
    errors
}

fn service(errors: &mut Vec<FieldError>, path: &Path, spec: &Value) {
    let insecure = at(spec, &["insecureSkipTLSVerify"]) == Some(&Value::Bool(true));
    let bundle = str_at(spec, &["caBundle"]);
    let Some(service) = given(spec, "service") else {
        if !bundle.is_empty() {
            let shown = format!("{} bytes", bundle.trim_end_matches('=').len() * 3 / 4);
            let detail = "local APIServices may not have a caBundle";
            errors.push(FieldError::invalid(path.child("caBundle"), shown, detail));
        }
        if insecure {
            let detail = "local APIServices may not have insecureSkipTLSVerify";
            errors.push(FieldError::invalid(path.child("insecureSkipTLSVerify"), true, detail));
        }
        return;
    };
    let path_of_service = path.child("service");
    for key in ["namespace", "name"] {
        if str_at(service, &[key]).is_empty() {
            errors.push(FieldError::required(path_of_service.child(key), ""));
        }
    }
    let port = int_at(service, &["port"]).unwrap_or(0);
    let wrong = names::port_number(port);
    if !wrong.is_empty() {
        let detail = format!("port is not valid: {}", wrong.join(", "));
        errors.push(FieldError::invalid(path_of_service.child("port"), port, detail));
    }
    if insecure && !bundle.is_empty() {
        let detail = "may not be true if caBundle is present";
        errors.push(FieldError::invalid(path.child("insecureSkipTLSVerify"), true, detail));
    }
}

/// Returns what is wrong with the change of an APIService's status.
pub fn status(new: &Value, _: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let path = Path::new("status.conditions");
    for (index, condition) in list_at(new, &["status", "conditions"]).iter().enumerate() {
        let status = str_at(condition, &["status"]);
        let supported = ["False", "True", "Unknown"];
        if !supported.contains(&status) {
            let path = path.index(index).child("status");
            errors.push(FieldError::not_supported(path, status, &supported));
        }
    }
    errors
}
