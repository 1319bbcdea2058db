//! The order of a sync.
//!
//! The order is total: it depends on the objects alone, never on the order in which they came. An object's [`Place`] is, the
//! first difference deciding:
//!
//! 1. Foundation first: Namespaces and CustomResourceDefinitions come before everything else, whatever their wave, since nothing
//!    can be put into a namespace or be of a kind that is not there.
//! 2. The wave: the whole number of the annotation `setpoint.dev/wave`, else of `argocd.argoproj.io/sync-wave`, else 0.
//! 3. The rank of the kind, by what needs what: policies and quotas of namespaces, priority classes, service accounts, secrets,
//!    config maps, storage, roles and their bindings, services, custom resources, workloads (pods, sets, deployments, jobs),
//!    autoscalers and budgets, ingresses, and last what stands in front of the API itself: webhooks, admission policies and
//!    API services.
//! 4. Group and kind, namespace, name, version.
//!
//! Deletion goes in the opposite order.
//!
//! [`Step::wave`](crate::Step) of the foundation is one below the lowest wave of the rest, so that whoever waits between waves
//! waits for it too.

use serde_json::Value;
use setpoint_api::meta;

use crate::object::{Desired, IdentityError, ObjectRef, Origin};

/// The annotations that name a wave; the first that an object has counts.
pub const WAVE_ANNOTATIONS: [&str; 2] = ["setpoint.dev/wave", "argocd.argoproj.io/sync-wave"];

/// An object cannot be put in order.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OrderError {
    /// A wave that is no whole number.
    #[error(
        "{origin}: the annotation {annotation} of {object} is `{value}`; it has to be a whole number in quotes, such as \"-1\" or \"5\""
    )]
    Wave {
        /// Where it was written.
        origin: Origin,
        /// The object.
        object: String,
        /// The annotation.
        annotation: &'static str,
        /// What it says.
        value: String,
    },
    /// An object that does not say who it is.
    #[error(transparent)]
    Identity(#[from] IdentityError),
}

/// Returns the wave that an object asks for; 0 where it asks for none.
///
/// Errors: the annotation is no whole number of 32 bits.
pub fn wave(object: &Value, origin: &Origin) -> Result<i64, OrderError> {
    let Some((annotation, value)) = WAVE_ANNOTATIONS.iter().find_map(|name| {
        let value = meta::annotations(object)?.get(*name)?;
        (!value.is_null()).then_some((*name, value))
    }) else {
        return Ok(0);
    };
    let number = match value {
        Value::String(text) => text.trim().parse::<i32>().ok(),
        // The API takes texts only; but then it is the API that says so.
        Value::Number(number) => number.as_i64().and_then(|number| i32::try_from(number).ok()),
        _ => None,
    };
    number.map(i64::from).ok_or_else(|| OrderError::Wave {
        origin: origin.clone(),
        object: ObjectRef::of(object, origin).map_or_else(|_| "an object".to_owned(), |object| object.to_string()),
        annotation,
        value: match value {
            Value::String(text) => text.chars().take(80).collect(),
            other => other.to_string().chars().take(80).collect(),
        },
    })
}

/// The place of an object in a sync; see the module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    after_foundation: bool,
    wave: i64,
    rank: u16,
    group: String,
    kind: String,
    namespace: Option<String>,
    name: String,
    version: String,
}

impl Place {
    /// Returns the place of an object in a wave.
    pub fn of(object: &ObjectRef, wave: i64) -> Place {
        Place {
            after_foundation: !is_foundation(object),
            wave,
            rank: rank(&object.group, &object.kind),
            group: object.group.clone(),
            kind: object.kind.clone(),
            namespace: object.namespace.clone(),
            name: object.name.clone(),
            version: object.version.clone(),
        }
    }

    /// Returns whether this is the place of a Namespace or a CustomResourceDefinition.
    pub fn is_foundation(&self) -> bool {
        !self.after_foundation
    }
}

/// Returns whether everything else may need an object: a Namespace or a CustomResourceDefinition.
pub fn is_foundation(object: &ObjectRef) -> bool {
    matches!(
        (object.group.as_str(), object.kind.as_str()),
        ("", "Namespace") | ("apiextensions.k8s.io", "CustomResourceDefinition")
    )
}

/// Sorts desired objects into the order in which a sync applies them.
///
/// Errors: an object that does not say who it is, or whose wave is no number; then nothing was moved.
pub fn sort(desired: &mut [Desired]) -> Result<(), OrderError> {
    for each in desired.iter() {
        each.reference()?;
        wave(&each.object, &each.origin)?;
    }
    // Both were just seen to be readable. Of what is written twice in one place the content decides.
    let key = |each: &Desired| {
        let reference = each.reference().unwrap_or_default();
        let wave = wave(&each.object, &each.origin).unwrap_or_default();
        (Place::of(&reference, wave), each.origin.clone())
    };
    desired.sort_by_cached_key(|each| each.object.to_string());
    desired.sort_by_cached_key(key);
    Ok(())
}

/// The kinds in the order of their ranks. A kind that is not here is a custom resource and has the rank of `("", "")`.
const RANKS: &[(&str, &str)] = &[
    ("", "Namespace"),
    ("apiextensions.k8s.io", "CustomResourceDefinition"),
    ("networking.k8s.io", "NetworkPolicy"),
    ("", "ResourceQuota"),
    ("", "LimitRange"),
    ("flowcontrol.apiserver.k8s.io", "FlowSchema"),
    ("flowcontrol.apiserver.k8s.io", "PriorityLevelConfiguration"),
    ("scheduling.k8s.io", "PriorityClass"),
    ("node.k8s.io", "RuntimeClass"),
    ("", "ServiceAccount"),
    ("", "Secret"),
    ("", "ConfigMap"),
    ("storage.k8s.io", "StorageClass"),
    ("storage.k8s.io", "VolumeAttributesClass"),
    ("storage.k8s.io", "CSIDriver"),
    ("", "PersistentVolume"),
    ("", "PersistentVolumeClaim"),
    ("rbac.authorization.k8s.io", "ClusterRole"),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding"),
    ("rbac.authorization.k8s.io", "Role"),
    ("rbac.authorization.k8s.io", "RoleBinding"),
    ("", "Service"),
    ("", "Endpoints"),
    ("discovery.k8s.io", "EndpointSlice"),
    ("", ""),
    ("apps", "DaemonSet"),
    ("", "Pod"),
    ("", "ReplicationController"),
    ("apps", "ReplicaSet"),
    ("apps", "Deployment"),
    ("autoscaling", "HorizontalPodAutoscaler"),
    ("policy", "PodDisruptionBudget"),
    ("apps", "StatefulSet"),
    ("batch", "Job"),
    ("batch", "CronJob"),
    ("networking.k8s.io", "IngressClass"),
    ("networking.k8s.io", "Ingress"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy"),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding"),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicy"),
    ("admissionregistration.k8s.io", "MutatingAdmissionPolicyBinding"),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
    ("apiregistration.k8s.io", "APIService"),
];

fn rank(group: &str, kind: &str) -> u16 {
    let find = |group: &str, kind: &str| RANKS.iter().position(|row| *row == (group, kind));
    // The table is short, and has a row for what it does not name.
    let index = find(group, kind).or_else(|| find("", "")).unwrap_or(RANKS.len());
    u16::try_from(index).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests;
