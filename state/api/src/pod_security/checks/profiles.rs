//! Profiles that narrow what a container may ask of the kernel: AppArmor and seccomp.

use serde_json::Value;

use super::{Pod, Set, containers, plural, quoted, setters, violation};
use crate::meta;
use crate::pod_security::Violation;
use crate::validate::field::quote;

const APP_ARMOR: &str = "container.apparmor.security.beta.kubernetes.io/";
const SECCOMP_POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
const SECCOMP_CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";

/// AppArmor turned off, by field or by annotation.
pub(super) fn app_armor(pod: &Pod<'_>) -> Option<Violation> {
    let mut values = Set::new();
    let (whole, bad) = pod.contexts_that(|context| is_bad(&context["appArmorProfile"], &mut values));
    let mut annotations: Vec<String> = pod
        .annotations
        .into_iter()
        .flatten()
        .filter(|(key, _)| key.starts_with(APP_ARMOR))
        .filter_map(|(key, value)| Some((key, value.as_str()?)))
        .filter(|(_, value)| !value.is_empty() && *value != "runtime/default" && !value.starts_with("localhost/"))
        .map(|(key, value)| format!("{key}={}", quote(value)))
        .collect();
    annotations.sort();
    let mut who: Vec<String> = setters(whole, &bad).into_iter().collect();
    if !annotations.is_empty() {
        who.push(plural("annotation", "annotations", annotations.len()).to_owned());
    }
    if who.is_empty() {
        return None;
    }
    let all: Vec<&str> = values
        .into_iter()
        .chain(annotations.iter().map(String::as_str))
        .collect();
    violation(
        plural("forbidden AppArmor profile", "forbidden AppArmor profiles", all.len()),
        format!(
            "{} must not set AppArmor profile type to {}",
            who.join(" and "),
            quoted(all)
        ),
    )
}

/// seccomp turned off by an annotation, as it was said before there were fields.
pub(super) fn seccomp_annotations(pod: &Pod<'_>) -> Option<Violation> {
    let keys = pod
        .containers()
        .map(|container| format!("{SECCOMP_CONTAINER}{}", meta::str_at(container, &["name"])));
    let mut bad: Vec<String> = std::iter::once(SECCOMP_POD.to_owned())
        .chain(keys)
        .filter_map(|key| {
            let value = pod.annotations?.get(&key)?.as_str()?;
            let good = matches!(value, "runtime/default" | "docker/default") || value.starts_with("localhost/");
            (!good).then(|| format!("{key}={}", quote(value)))
        })
        .collect();
    bad.sort();
    bad.dedup();
    if bad.is_empty() {
        return None;
    }
    let what = plural("annotation", "annotations", bad.len());
    violation("seccompProfile", format!("forbidden {what} {}", bad.join(", ")))
}

/// seccomp turned off.
pub(super) fn seccomp_baseline(pod: &Pod<'_>) -> Option<Violation> {
    let mut values = Set::new();
    let (whole, bad) = pod.contexts_that(|context| is_bad(&context["seccompProfile"], &mut values));
    let who = setters(whole, &bad)?;
    violation(
        "seccompProfile",
        format!(
            "{who} must not set securityContext.seccompProfile.type to {}",
            quoted(values)
        ),
    )
}

/// seccomp not turned on.
pub(super) fn seccomp_restricted(pod: &Pod<'_>) -> Option<Violation> {
    let bad = seccomp_baseline(pod);
    if bad.is_some() || pod.spec["securityContext"]["seccompProfile"].is_object() {
        return bad;
    }
    let silent = pod.containers_that(|container| !container["securityContext"]["seccompProfile"].is_object());
    if silent.is_empty() {
        return None;
    }
    violation(
        "seccompProfile",
        format!(
            "pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"",
            containers(&silent)
        ),
    )
}

/// Whether a profile is set that does not narrow; its type is noted.
fn is_bad<'a>(profile: &'a Value, values: &mut Set<'a>) -> bool {
    if !profile.is_object() {
        return false;
    }
    let kind = profile["type"].as_str().unwrap_or_default();
    let bad = !matches!(kind, "RuntimeDefault" | "Localhost");
    if bad {
        values.insert(kind);
    }
    bad
}
