//! The rules of security contexts, of pods and of containers.

use serde_json::Value;

use super::field::{FieldError, Path};
use super::one_of;
use crate::meta::{at, int_at, list_at, str_at};

const BAD_ID: &str = "must be between 0 and 2147483647, inclusive";

/// Checks what both have: the user, the group and the profile of system calls.
fn common(errors: &mut Vec<FieldError>, path: &Path, context: &Value) {
    for key in ["runAsUser", "runAsGroup", "fsGroup"] {
        identity(errors, &path.child(key), int_at(context, &[key]));
    }
    for key in ["seccompProfile", "appArmorProfile"] {
        let Some(profile) = at(context, &[key]).filter(|profile| profile.is_object()) else {
            continue;
        };
        let (path, kind) = (path.child(key), str_at(profile, &["type"]));
        one_of(
            errors,
            &path.child("type"),
            kind,
            &["Localhost", "RuntimeDefault", "Unconfined"],
            true,
        );
        let file = path.child("localhostProfile");
        match (kind, str_at(profile, &["localhostProfile"])) {
            ("Localhost", "") => {
                let detail = match key {
                    "seccompProfile" => "must be set when seccomp type is Localhost",
                    _ => "must be set when AppArmor type is Localhost",
                };
                errors.push(FieldError::required(file, detail));
            }
            ("Localhost", _) | (_, "") => {}
            (_, name) => {
                let detail = match key {
                    "seccompProfile" => "can only be set when seccomp type is Localhost",
                    _ => "can only be set when AppArmor type is Localhost",
                };
                errors.push(FieldError::invalid(file, name, detail));
            }
        }
    }
}

fn identity(errors: &mut Vec<FieldError>, path: &Path, id: Option<i64>) {
    if let Some(id) = id.filter(|id| !(0..=i64::from(i32::MAX)).contains(id)) {
        errors.push(FieldError::invalid(path, id, BAD_ID));
    }
}

/// Checks the security context of a pod.
pub(super) fn pod(errors: &mut Vec<FieldError>, path: &Path, context: &Value) {
    common(errors, path, context);
    for (index, group) in list_at(context, &["supplementalGroups"]).iter().enumerate() {
        identity(errors, &path.child("supplementalGroups").index(index), group.as_i64());
    }
    let policies = ["Always", "OnRootMismatch"];
    one_of(
        errors,
        &path.child("fsGroupChangePolicy"),
        str_at(context, &["fsGroupChangePolicy"]),
        &policies,
        false,
    );
    for (index, sysctl) in list_at(context, &["sysctls"]).iter().enumerate() {
        if str_at(sysctl, &["name"]).is_empty() {
            errors.push(FieldError::required(
                path.child("sysctls").index(index).child("name"),
                "",
            ));
        }
    }
}

/// Checks the security context of a container.
pub(super) fn container(errors: &mut Vec<FieldError>, path: &Path, context: &Value) {
    common(errors, path, context);
    if at(context, &["allowPrivilegeEscalation"]) == Some(&Value::Bool(false)) {
        let mut refuse = |detail: &str| {
            errors.push(FieldError::invalid(
                path.child("allowPrivilegeEscalation"),
                false,
                detail,
            ));
        };
        if at(context, &["privileged"]) == Some(&Value::Bool(true)) {
            refuse("cannot set `allowPrivilegeEscalation` to false and `privileged` to true");
        }
        let added = list_at(context, &["capabilities", "add"]);
        if added.iter().any(|name| name == "CAP_SYS_ADMIN") {
            refuse("cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN");
        }
    }
    let kinds = ["Default", "Unmasked"];
    one_of(
        errors,
        &path.child("procMount"),
        str_at(context, &["procMount"]),
        &kinds,
        false,
    );
}
