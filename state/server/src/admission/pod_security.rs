//! Pod Security admission: a namespace's labels decide which pods it takes (`setpoint_api::pod_security`).
//!
//! Pods are refused, warned of and noted in the audit log; the templates of workloads are warned of and noted, as no pod is
//! refused before there is one. Labels that mean nothing are refused where they are written; labels that are there all
//! the same are enforced as the strictest.

use std::collections::{BTreeMap, HashSet};

use prometheus::{IntCounterVec, Opts};
use serde_json::Value;
use setpoint_api::pod_security::{self, Level, NEWEST, Policy, Standard, Violation};
use setpoint_api::{Status, meta};

use super::{Admission, AdmissionRequest, Operation};

/// Where kinds have the template of a pod.
const TEMPLATES: &[(&str, &str, &str)] = &[
    ("", "podtemplates", "/template"),
    ("", "replicationcontrollers", "/spec/template"),
    ("apps", "daemonsets", "/spec/template"),
    ("apps", "deployments", "/spec/template"),
    ("apps", "replicasets", "/spec/template"),
    ("apps", "statefulsets", "/spec/template"),
    ("batch", "cronjobs", "/spec/jobTemplate/spec/template"),
    ("batch", "jobs", "/spec/template"),
];

/// The subresources of a pod through which its spec is not written; any other is looked at.
const NOT_THE_SPEC: &[&str] = &[
    "attach",
    "binding",
    "eviction",
    "exec",
    "log",
    "portforward",
    "proxy",
    "status",
];

/// How many pods of a namespace are looked at when its level changes.
const MOST_PODS: usize = 3000;

const ENFORCED: &str = "pod-security.kubernetes.io/enforce-policy";
const VIOLATIONS: &str = "pod-security.kubernetes.io/audit-violations";
const ERROR: &str = "pod-security.kubernetes.io/error";

/// The step of the admission chain; it changes nothing.
pub(crate) struct PodSecurity {
    evaluations: IntCounterVec,
}

impl PodSecurity {
    /// Registers its metric.
    pub(crate) fn new(registry: &prometheus::Registry) -> Result<PodSecurity, prometheus::Error> {
        let evaluations = IntCounterVec::new(
            Opts::new(
                "pod_security_evaluations_total",
                "Pods and templates that were looked at.",
            ),
            &["decision", "mode", "policy_level", "policy_version", "resource"],
        )?;
        registry.register(Box::new(evaluations.clone()))?;
        Ok(PodSecurity { evaluations })
    }

    fn count(&self, request: &AdmissionRequest<'_>, mode: &str, standard: Standard, allowed: bool) {
        let version = match standard.version {
            None => "latest".to_owned(),
            Some(minor) if minor <= NEWEST => format!("v1.{minor}"),
            Some(_) => "future".to_owned(),
        };
        let decision = if allowed { "allow" } else { "deny" };
        let resource = if request.resource.plural == "pods" {
            "pod"
        } else {
            "controller"
        };
        let labels = [decision, mode, standard.level.as_str(), &version, resource];
        self.evaluations.with_label_values(&labels).inc();
    }

    /// Holds a pod, or a template, against the policy of its namespace; only a pod is refused.
    fn evaluate(
        &self,
        request: &AdmissionRequest<'_>,
        object: &Value,
        pod: &Value,
        refuse: bool,
        warnings: &mut Vec<String>,
    ) -> Result<(), Status> {
        let namespace = meta::namespace(object);
        let Some(stored) = request.cache.get("core/namespaces", "", namespace) else {
            return Err(Status::internal(format!("failed to lookup namespace {namespace:?}")));
        };
        let (policy, errors) = pod_security::policy(Some(&stored.labels));
        if errors.is_empty() && idle(&policy, refuse) {
            return Ok(());
        }
        if !errors.is_empty() {
            let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
            request
                .annotations
                .set(ERROR, format!("Failed to parse policy: {}", texts.join(", ")));
        }
        let mut known: Vec<(Standard, Vec<Violation>)> = Vec::new();
        let mut violations = |standard: Standard| -> Vec<Violation> {
            if let Some((_, found)) = known.iter().find(|(other, _)| *other == standard) {
                return found.clone();
            }
            let found = pod_security::evaluate(standard, pod);
            known.push((standard, found.clone()));
            found
        };
        if refuse {
            request.annotations.set(ENFORCED, policy.enforce.to_string());
        }
        let audited = violations(policy.audit);
        if !audited.is_empty() {
            self.count(request, "audit", policy.audit, false);
            request
                .annotations
                .set(VIOLATIONS, would_violate(policy.audit, &audited));
        }
        if refuse {
            let found = violations(policy.enforce);
            self.count(request, "enforce", policy.enforce, found.is_empty());
            if !found.is_empty() {
                let why = format!(
                    "violates PodSecurity \"{}\": {}",
                    policy.enforce,
                    pod_security::details(&found)
                );
                return Err(Status::forbidden("", "pods", meta::name(object), &why));
            }
        }
        let warned = violations(policy.warn);
        if !warned.is_empty() {
            self.count(request, "warn", policy.warn, false);
            warnings.push(would_violate(policy.warn, &warned));
        }
        Ok(())
    }
}

impl Admission for PodSecurity {
    fn validate(
        &self,
        request: &AdmissionRequest<'_>,
        object: &Value,
        warnings: &mut Vec<String>,
    ) -> Result<(), Status> {
        if request.operation == Operation::Delete {
            return Ok(());
        }
        let (group, plural) = (&*request.resource.group, &*request.resource.plural);
        match (group, plural, request.subresource) {
            ("", "namespaces", None) => namespace(request, object, warnings),
            ("", "pods", Some(subresource)) if NOT_THE_SPEC.contains(&subresource) => Ok(()),
            ("", "pods", _) => match request.old {
                Some(old) if !is_significant(object, old) => Ok(()),
                _ => self.evaluate(request, object, object, true, warnings),
            },
            (_, _, None) => {
                let template = TEMPLATES
                    .iter()
                    .find(|(of, kind, _)| (*of, *kind) == (group, plural))
                    .and_then(|(_, _, pointer)| object.pointer(pointer))
                    .filter(|template| template["spec"].is_object());
                match template {
                    Some(template) => self.evaluate(request, object, template, false, warnings),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

/// Whether a policy has nothing to say of a pod, or of a template.
fn idle(policy: &Policy, refuse: bool) -> bool {
    if refuse {
        policy.is_privileged()
    } else {
        policy.warn.level == Level::Privileged && policy.audit.level == Level::Privileged
    }
}

fn would_violate(standard: Standard, violations: &[Violation]) -> String {
    format!(
        "would violate PodSecurity \"{standard}\": {}",
        pod_security::details(violations)
    )
}

/// Refuses labels that mean nothing, and warns of pods that a stricter level would not have taken.
fn namespace(request: &AdmissionRequest<'_>, object: &Value, warnings: &mut Vec<String>) -> Result<(), Status> {
    let name = meta::name(object);
    let (policy, errors) = pod_security::policy(meta::labels(object));
    let before = request.old.map(|old| pod_security::policy(meta::labels(old)));
    // What was there already may stay: whoever changes something else is not made to mend it.
    let are_known = before.as_ref().is_some_and(|(_, known)| *known == errors);
    if !errors.is_empty() && !are_known {
        return Err(Status::invalid("", "Namespace", name, &errors));
    }
    let Some((before, _)) = before else { return Ok(()) };
    let (new, old) = (policy.enforce, before.enforce);
    let relaxed = new.version == old.version && new.level <= old.level;
    if new == old || new.level == Level::Privileged || relaxed {
        return Ok(());
    }
    warn_of_pods(request, name, new, warnings);
    Ok(())
}

fn warn_of_pods(request: &AdmissionRequest<'_>, namespace: &str, standard: Standard, warnings: &mut Vec<String>) {
    let stored = request.cache.list("core/pods", Some(namespace));
    let total = stored.len();
    let mut owners = HashSet::new();
    // One pod of each owner first: its others are alike.
    let (first, others): (Vec<_>, Vec<_>) = stored
        .into_iter()
        .partition(|pod| pod.owners.first().is_none_or(|owner| owners.insert(owner.clone())));
    // By what they violate: the first name, and how many.
    let mut found: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for pod in first.into_iter().chain(others).take(MOST_PODS) {
        let violations = pod_security::evaluate(standard, &pod.value());
        if violations.is_empty() {
            continue;
        }
        let (least, count) = found
            .entry(pod_security::reasons(&violations))
            .or_insert_with(|| (pod.name.to_string(), 0));
        *count += 1;
        if *pod.name < **least {
            *least = pod.name.to_string();
        }
    }
    if total > MOST_PODS {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {MOST_PODS} of {total} existing pods"
        ));
    }
    if !found.is_empty() {
        warnings.push(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{standard}\""
        ));
    }
    let mut lines: Vec<String> = found
        .into_iter()
        .map(|(reasons, (name, count))| match count {
            1 => format!("{name}: {reasons}"),
            2 => format!("{name} (and 1 other pod): {reasons}"),
            _ => format!("{name} (and {} other pods): {reasons}", count - 1),
        })
        .collect();
    lines.sort();
    warnings.extend(lines);
}

/// Whether the change of a pod could change what it may do: another image, or a container more.
fn is_significant(new: &Value, old: &Value) -> bool {
    let images = |pod: &Value, key: &str| -> Vec<String> {
        let containers = meta::list_at(pod, &["spec", key]);
        let image = |container| meta::str_at(container, &["image"]).to_owned();
        containers.iter().map(image).collect()
    };
    let debuggers = |pod: &Value| -> Vec<(String, String)> {
        meta::list_at(pod, &["spec", "ephemeralContainers"])
            .iter()
            .map(|container| {
                let text = |key: &str| meta::str_at(container, &[key]).to_owned();
                (text("name"), text("image"))
            })
            .collect()
    };
    let known = debuggers(old);
    ["containers", "initContainers"]
        .iter()
        .any(|key| images(new, key) != images(old, key))
        || debuggers(new).iter().any(|debugger| !known.contains(debugger))
}
