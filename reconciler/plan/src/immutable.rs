//! Fields that cannot be changed in place, so that whoever changes them replaces the object.

use serde_json::Value;

use crate::diff::FieldChange;
use crate::object::ObjectRef;

/// A kind's fields that stay as they were made.
struct Row {
    group: &'static str,
    kind: &'static str,
    fields: Fields,
    /// When the row counts.
    when: When,
    /// What a replacement costs, in words; "" where it costs nothing worth a word.
    cost: &'static str,
}

enum Fields {
    /// These, with all that is below them.
    These(&'static [&'static str]),
    /// All below the first but these.
    AllBut(&'static str, &'static [&'static str]),
}

/// When a row counts.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    Always,
    /// The live object is marked immutable.
    Frozen,
    /// The field has a value, and is to have another.
    Exchanged,
    /// The field had a value.
    Had,
    /// It is not a pod's image.
    NotImage,
}

impl When {
    fn holds(self, live: &Value, change: &FieldChange) -> bool {
        let had = || change.from.as_ref().is_some_and(|from| !from.is_null() && from != "");
        match self {
            When::Always => true,
            When::Frozen => live.get("immutable") == Some(&Value::Bool(true)),
            When::Exchanged => had() && change.to.is_some(),
            When::Had => had(),
            When::NotImage => !is_pod_image(&change.path),
        }
    }
}

const RBAC: &str = "rbac.authorization.k8s.io";
const STORAGE: &str = "storage.k8s.io";

const ROWS: &[Row] = &[
    row("apps", "Deployment", &["spec.selector"]),
    row("apps", "ReplicaSet", &["spec.selector"]),
    row("apps", "DaemonSet", &["spec.selector"]),
    Row {
        group: "apps",
        kind: "StatefulSet",
        fields: Fields::AllBut(
            "spec",
            &[
                "spec.replicas",
                "spec.ordinals",
                "spec.template",
                "spec.updateStrategy",
                "spec.revisionHistoryLimit",
                "spec.persistentVolumeClaimRetentionPolicy",
                "spec.minReadySeconds",
            ],
        ),
        when: When::Always,
        cost: "",
    },
    row(
        "batch",
        "Job",
        &[
            "spec.template",
            "spec.selector",
            "spec.completionMode",
            "spec.podFailurePolicy",
            "spec.completions",
            "spec.backoffLimitPerIndex",
            "spec.managedBy",
            "spec.successPolicy",
        ],
    ),
    Row {
        group: "",
        kind: "Pod",
        fields: Fields::AllBut(
            "spec",
            &["spec.activeDeadlineSeconds", "spec.terminationGracePeriodSeconds"],
        ),
        when: When::NotImage,
        cost: "",
    },
    Row {
        group: "",
        kind: "Service",
        fields: Fields::These(&["spec.clusterIP", "spec.clusterIPs"]),
        // Without an address it may be given one, and one of type ExternalName has none.
        when: When::Exchanged,
        cost: "",
    },
    row(RBAC, "RoleBinding", &["roleRef"]),
    row(RBAC, "ClusterRoleBinding", &["roleRef"]),
    row(
        STORAGE,
        "StorageClass",
        &["provisioner", "parameters", "reclaimPolicy", "volumeBindingMode"],
    ),
    row("", "Secret", &["type"]),
    frozen("Secret"),
    frozen("ConfigMap"),
    Row {
        group: "",
        kind: "PersistentVolumeClaim",
        fields: Fields::AllBut("spec", &["spec.resources", "spec.volumeAttributesClassName"]),
        // What a claim lacks the binder gives it: the name of its volume, its class.
        when: When::Had,
        cost: "what is stored on it may be lost",
    },
    row("scheduling.k8s.io", "PriorityClass", &["value", "preemptionPolicy"]),
    row("node.k8s.io", "RuntimeClass", &["handler"]),
    row("networking.k8s.io", "IngressClass", &["spec.controller"]),
    row("networking.k8s.io", "IPAddress", &["spec.parentRef"]),
    row("apps", "ControllerRevision", &["data"]),
    row("certificates.k8s.io", "ClusterTrustBundle", &["spec.signerName"]),
    row("certificates.k8s.io", "PodCertificateRequest", &["spec"]),
];

const fn row(group: &'static str, kind: &'static str, fields: &'static [&'static str]) -> Row {
    Row {
        group,
        kind,
        fields: Fields::These(fields),
        when: When::Always,
        cost: "",
    }
}

const fn frozen(kind: &'static str) -> Row {
    Row {
        group: "",
        kind,
        fields: Fields::These(&["data", "binaryData", "immutable"]),
        when: When::Frozen,
        cost: "",
    }
}

/// A pod's images may be changed: `spec.containers[name=web].image`.
fn is_pod_image(path: &str) -> bool {
    (path.starts_with("spec.containers[") || path.starts_with("spec.initContainers[")) && path.ends_with("].image")
}

/// Whether a field is another or lies below it.
fn is_within(path: &str, field: &str) -> bool {
    path.strip_prefix(field)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('.') || rest.starts_with('['))
}

/// Returns why a live object has to be replaced for some changes, or nothing where it can be changed in place.
pub fn reason(object: &ObjectRef, live: &Value, changes: &[FieldChange]) -> Option<String> {
    for row in ROWS
        .iter()
        .filter(|row| row.group == object.group && row.kind == object.kind)
    {
        let held = changes.iter().find(|change| {
            let within = match &row.fields {
                Fields::These(fields) => fields.iter().any(|field| is_within(&change.path, field)),
                Fields::AllBut(top, free) => {
                    is_within(&change.path, top) && !free.iter().any(|field| is_within(&change.path, field))
                }
            };
            within && row.when.holds(live, change)
        });
        if let Some(change) = held {
            let kind = row.kind;
            let mut out = if row.when == When::Frozen {
                format!(
                    "{} of a {kind} marked immutable cannot be changed in place",
                    change.path
                )
            } else {
                format!("{} of a {kind} cannot be changed in place", change.path)
            };
            if !row.cost.is_empty() {
                out.push_str("; ");
                out.push_str(row.cost);
            }
            return Some(out);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn asked(
        kind: &str,
        group: &str,
        live: Value,
        path: &str,
        from: Option<Value>,
        to: Option<Value>,
    ) -> Option<String> {
        let object = ObjectRef {
            group: group.to_owned(),
            version: "v1".to_owned(),
            kind: kind.to_owned(),
            namespace: None,
            name: "x".to_owned(),
        };
        let change = FieldChange {
            path: path.to_owned(),
            from,
            to,
        };
        reason(&object, &live, &[change])
    }

    #[test]
    fn a_selector_is_replaced_and_replicas_are_changed() {
        let some = Some(json!("b"));
        assert_eq!(
            asked(
                "Deployment",
                "apps",
                json!({}),
                "spec.selector.matchLabels.app",
                some.clone(),
                some.clone()
            )
            .as_deref(),
            Some("spec.selector.matchLabels.app of a Deployment cannot be changed in place")
        );
        assert_eq!(
            asked(
                "Deployment",
                "apps",
                json!({}),
                "spec.replicas",
                some.clone(),
                some.clone()
            ),
            None
        );
        assert_eq!(
            asked(
                "Deployment",
                "apps",
                json!({}),
                "spec.selectorless",
                some.clone(),
                some.clone()
            ),
            None
        );
        assert!(
            asked(
                "StatefulSet",
                "apps",
                json!({}),
                "spec.serviceName",
                some.clone(),
                some.clone()
            )
            .is_some()
        );
        assert!(
            asked(
                "StatefulSet",
                "apps",
                json!({}),
                "spec.volumeClaimTemplates",
                some.clone(),
                some.clone()
            )
            .is_some()
        );
        assert_eq!(
            asked(
                "StatefulSet",
                "apps",
                json!({}),
                "spec.template.spec.hostname",
                some.clone(),
                some
            ),
            None
        );
    }

    #[test]
    fn an_address_that_a_service_has_is_replaced_and_one_that_it_lacks_is_given() {
        let (a, b) = (json!("10.0.0.1"), json!("None"));
        assert!(asked("Service", "", json!({}), "spec.clusterIP", Some(a), Some(b.clone())).is_some());
        assert_eq!(asked("Service", "", json!({}), "spec.clusterIP", None, Some(b)), None);
    }

    #[test]
    fn data_can_be_changed_unless_it_is_marked_immutable() {
        let (a, b) = (Some(json!("1")), Some(json!("2")));
        assert_eq!(asked("ConfigMap", "", json!({}), "data.a", a.clone(), b.clone()), None);
        let live = json!({"immutable": true});
        assert_eq!(
            asked("ConfigMap", "", live, "data.a", a, b).as_deref(),
            Some("data.a of a ConfigMap marked immutable cannot be changed in place")
        );
    }

    #[test]
    fn the_image_of_a_pod_can_be_changed_and_its_command_not() {
        let (a, b) = (Some(json!("1")), Some(json!("2")));
        assert_eq!(
            asked(
                "Pod",
                "",
                json!({}),
                "spec.containers[name=a].image",
                a.clone(),
                b.clone()
            ),
            None
        );
        assert!(asked("Pod", "", json!({}), "spec.containers[name=a].command", a, b).is_some());
    }

    #[test]
    fn replacing_a_claim_says_what_it_costs() {
        let reason = asked(
            "PersistentVolumeClaim",
            "",
            json!({}),
            "spec.storageClassName",
            Some(json!("a")),
            Some(json!("b")),
        );
        assert!(reason.is_some_and(|reason| reason.ends_with("; what is stored on it may be lost")));
    }
}
