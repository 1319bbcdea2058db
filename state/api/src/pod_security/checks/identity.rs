//! Whom a container runs as.

use serde_json::Value;

use super::{Pod, containers, setters, violation};
use crate::pod_security::Violation;

/// Containers that may run as root.
pub(super) fn non_root(pod: &Pod<'_>) -> Option<Violation> {
    const REASON: &str = "runAsNonRoot != true";
    let value = |context: &Value| context["runAsNonRoot"].as_bool();
    let (whole, bad) = pod.contexts_that(|context| value(context) == Some(false));
    if let Some(who) = setters(whole, &bad) {
        return violation(REASON, format!("{who} must not set securityContext.runAsNonRoot=false"));
    }
    if value(&pod.spec["securityContext"]) == Some(true) {
        return None;
    }
    let silent = pod.containers_that(|container| value(&container["securityContext"]).is_none());
    if silent.is_empty() {
        return None;
    }
    violation(
        REASON,
        format!(
            "pod or {} must set securityContext.runAsNonRoot=true",
            containers(&silent)
        ),
    )
}

/// Containers that do run as root.
pub(super) fn user(pod: &Pod<'_>) -> Option<Violation> {
    let (whole, bad) = pod.contexts_that(|context| context["runAsUser"] == 0);
    let who = setters(whole, &bad)?;
    violation("runAsUser=0", format!("{who} must not set runAsUser=0"))
}
