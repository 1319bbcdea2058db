use super::*;

#[test]
fn a_budget_is_checked_in_kubernetes_words() {
    let good = json!({"metadata": {"name": "b", "namespace": "d"}, "spec": {"minAvailable": "50%", "selector": {"matchLabels": {"a": "b"}}}});
    table(
        "policy",
        "poddisruptionbudgets",
        good,
        &[
            (
                "/spec/maxUnavailable",
                json!(1),
                &[
                    "spec: Invalid value: {\"maxUnavailable\":1,\"minAvailable\":\"50%\",\"selector\":{\"matchLabels\":{\"a\":\"b\"}}}: minAvailable and maxUnavailable cannot be both set",
                ],
            ),
            (
                "/spec/minAvailable",
                json!(-1),
                &["spec.minAvailable: Invalid value: -1: must be greater than or equal to 0"],
            ),
            (
                "/spec/minAvailable",
                json!("101%"),
                &["spec.minAvailable: Invalid value: \"101%\": must not be greater than 100%"],
            ),
            (
                "/spec/minAvailable",
                json!("many"),
                &[
                    "spec.minAvailable: Invalid value: \"many\": a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')",
                ],
            ),
            (
                "/spec/unhealthyPodEvictionPolicy",
                json!("Never"),
                &[
                    "spec.unhealthyPodEvictionPolicy: Unsupported value: \"Never\": supported values: \"AlwaysAllow\", \"IfHealthyBudget\"",
                ],
            ),
        ],
    );
}

#[test]
fn a_budgets_status_counts_from_nothing_up() {
    let row = resource("policy", "poddisruptionbudgets");
    let object = json!({"metadata": {"name": "b", "namespace": "d"}, "status": {"disruptionsAllowed": -1,
        "conditions": [{"type": "A", "status": "Maybe", "reason": "", "lastTransitionTime": "2024-01-01T00:00:00Z"}]}});
    let found: Vec<String> = row
        .validate_status(&object, &object)
        .iter()
        .map(ToString::to_string)
        .collect();
    assert_eq!(
        found,
        [
            "status.conditions[0].status: Unsupported value: \"Maybe\": supported values: \"False\", \"True\", \"Unknown\"",
            "status.conditions[0].reason: Required value: must be set",
            "status.disruptionsAllowed: Invalid value: -1: must be greater than or equal to 0",
        ]
    );
}
