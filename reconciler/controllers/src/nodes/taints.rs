//! Taints and tolerations, for the scheduler and for eviction.

use k8s_openapi::api::core::v1::{Taint, Toleration};

/// A node that does not report at all.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// A node that reports that it is not ready.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// A node that a person has cordoned.
pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";

/// Returns whether the toleration tolerates the taint.
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (effect, key) = (text(&toleration.effect), text(&toleration.key));
    if !effect.is_empty() && effect != taint.effect {
        return false;
    }
    if !key.is_empty() && key != taint.key {
        return false;
    }
    match toleration.operator.as_deref() {
        Some("Exists") => true,
        None | Some("" | "Equal") => !key.is_empty() && text(&toleration.value) == text(&taint.value),
        // An operator that is not known tolerates nothing.
        Some(_) => false,
    }
}

/// Returns the first taint that none of the tolerations tolerates.
pub fn untolerated<'a>(taints: impl IntoIterator<Item = &'a Taint>, tolerations: &[Toleration]) -> Option<&'a Taint> {
    taints
        .into_iter()
        .find(|taint| !tolerations.iter().any(|toleration| tolerates(toleration, taint)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn toleration(key: &str, operator: &str, value: &str, effect: &str) -> Toleration {
        let some = |text: &str| (!text.is_empty()).then(|| text.to_owned());
        Toleration {
            key: some(key),
            operator: some(operator),
            value: some(value),
            effect: some(effect),
            toleration_seconds: None,
        }
    }

    #[test]
    fn tolerations_match_as_kubernetes_matches_them() {
        let taint = Taint {
            key: "a".into(),
            value: Some("1".into()),
            effect: "NoSchedule".into(),
            time_added: None,
        };
        for (key, operator, value, effect, expected) in [
            ("a", "Equal", "1", "NoSchedule", true),
            ("a", "", "1", "", true),
            ("a", "Equal", "2", "NoSchedule", false),
            ("a", "Exists", "", "", true),
            ("", "Exists", "", "", true),
            ("", "", "", "", false),
            ("b", "Exists", "", "", false),
            ("a", "Exists", "", "NoExecute", false),
        ] {
            assert_eq!(
                tolerates(&toleration(key, operator, value, effect), &taint),
                expected,
                "{key} {operator}"
            );
        }
    }
}
